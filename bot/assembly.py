"""Machines made from settings: decimals of the file become ticks, atoms and nanoseconds here, once.

The daemon and the socketless replay both build their machines here, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import ceil

from bot.config import PaperSettings, RiskSettings, Settings
from bot.core.flow import Machine, Stage
from bot.core.instrument import ATOM_SCALE
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.messages import SECOND_NS
from bot.core.risk import Limits, RiskGate
from bot.strategies.host import StrategyHost

MS_NS = 1_000_000


def atoms_of(amount: Decimal) -> int:
    """Return a sum of the settings in atoms, exactly: the file allows 12 decimals, an atom has more."""
    return int(amount.scaleb(ATOM_SCALE))


def limits_of(risk: RiskSettings) -> Limits:
    """Return the gate's bounds. A fraction of a basis point is cut off, to the strict side."""
    return Limits(
        max_order_value_atoms=atoms_of(risk.max_order_value),
        max_position_bps=_bps(risk.max_position_pct),
        max_gross_bps=_bps(risk.max_gross_pct),
        collar_bps=_bps(risk.collar_pct),
        stale_ns=risk.stale_ms * MS_NS,
        intent_ttl_ns=risk.intent_ttl_ms * MS_NS,
        orders_per_second=risk.orders_per_second,
        orders_per_minute=risk.orders_per_minute,
        max_open_orders=risk.max_open_orders,
        passive_ttl_ns=round(risk.passive_ttl_s * SECOND_NS),
        daily_loss_bps=_bps(risk.daily_loss_pct),
        daily_loss_halt_bps=_bps(risk.daily_loss_halt_pct),
        drawdown_bps=_bps(risk.drawdown_pct),
        drawdown_halt_bps=_bps(risk.drawdown_halt_pct),
    )


def terms_of(paper: PaperSettings) -> PaperTerms:
    """Return the paper exchange's fees and distance. A fraction of a millionth is rounded up, against us."""
    return PaperTerms(
        maker_fee_ppm=ceil(paper.maker_fee_bps * 100),
        taker_fee_ppm=ceil(paper.taker_fee_bps * 100),
        latency_ns=paper.latency_ms * MS_NS,
    )


class Machines:
    """The pure parts of one bot, all but the ledger's and the feed's."""

    def __init__(self, settings: Settings, symbols: Sequence[str]) -> None:
        self.host = StrategyHost(settings.strategies, symbols)
        self.gate = RiskGate(limits_of(settings.risk))
        self.executor = PaperExchange(terms_of(settings.paper))

    @property
    def by_stage(self) -> dict[Stage, Machine]:
        """Return each machine with the stage that it is the heart of."""
        return {Stage.STRATEGY: self.host, Stage.RISK_GATE: self.gate, Stage.EXECUTOR: self.executor}

    @property
    def watched_ns(self) -> dict[str, tuple[int, ...]]:
        """Return by symbol the lengths of the bars that some strategy watches, shortest first."""
        watched: dict[str, set[int]] = {}
        for symbol, timeframe_ns in self.host.watched:
            watched.setdefault(symbol, set()).add(timeframe_ns)
        return {symbol: tuple(sorted(lengths)) for symbol, lengths in watched.items()}


def _bps(percent: Decimal) -> int:
    return int(percent * 100)
