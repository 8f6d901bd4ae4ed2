"""Machines made from settings: decimals of the file become ticks, atoms and nanoseconds here, once.

The daemon and the socketless replay both build their machines here, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import ceil
from typing import Final

import msgspec

from bot.config import PaperSettings, RiskSettings, Settings
from bot.core.approvals import Approvals
from bot.core.flow import Machine, Stage
from bot.core.instrument import ATOM_SCALE
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.messages import SECOND_NS, Wallet
from bot.core.risk import BreakerBounds, Limits, RiskGate
from bot.strategies.host import StrategyHost

MS_NS = 1_000_000
ALL: Final = "all"
"""In a list of symbols: every one that the bot watches."""


def atoms_of(amount: Decimal) -> int:
    """Return a sum of the settings in atoms, exactly: the file allows 12 decimals, an atom has more."""
    return int(amount.scaleb(ATOM_SCALE))


def research_limits_of(risk: RiskSettings) -> Limits:
    """Return the bounds that a backtest knows. A fraction of a basis point is cut off, to the strict side."""
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


def limits_of(risk: RiskSettings, symbols: Sequence[str], *, leverage: int = 1) -> Limits:
    """Return the gate's bounds for trading in `symbols`. Fractions are cut off, or rounded up, to the strict side."""
    return msgspec.structs.replace(
        research_limits_of(risk),
        leverage=leverage,
        allowed=tuple(symbols) if ALL in risk.allowed else risk.allowed,
        groups=groups_of(risk),
        mark_stale_ns=risk.mark_stale_ms * MS_NS,
        account_stale_ns=risk.account_stale_s * SECOND_NS,
        notional_headroom_bps=ceil(risk.notional_headroom_pct * 100),
        passive_collar_bps=_bps_or_off(risk.passive_collar_pct),
        market_slippage_bps=_bps_or_off(risk.market_slippage_pct),
        depth_share_bps=_bps_or_off(risk.depth_share_pct),
        max_order_bps=_bps_or_off(risk.max_order_pct),
        max_order_base_atoms={
            symbol: atoms_of(Decimal(quantity))
            for symbol, _, quantity in (text.partition("=") for text in risk.max_order_qty)
        },
        max_order_multiple=risk.max_order_multiple,
        forbids_self_cross=risk.forbid_self_cross,
        duplicate_ns=risk.duplicate_ms * MS_NS,
        fee_headroom_bps=ceil(risk.fee_headroom_pct * 100),
        margin_buffer_bps=ceil(risk.margin_buffer_pct * 100),
        max_net_bps=_bps_or_off(risk.max_net_pct),
        max_strategy_bps=_bps_or_off(risk.max_strategy_pct),
        max_group_bps=_bps_or_off(risk.max_group_pct),
        max_leverage_bps=_bps_or_off(risk.max_leverage * 100),
        liquidation_distance_bps=ceil(risk.liquidation_distance_pct * 100),
        maintenance_bps=ceil(risk.maintenance_pct * 100),
        max_funding_ppb=int(risk.max_funding_pct * 10_000_000),
        orders_per_day=risk.orders_per_day,
        cancels_per_second=risk.cancels_per_second,
        cancels_per_minute=risk.cancels_per_minute,
        max_open_orders_symbol=risk.max_open_orders_symbol,
        max_unknown_orders=risk.max_unknown_orders,
        max_repeats=risk.max_repeats,
        max_orders_per_trade=risk.max_orders_per_trade,
        max_reject_bps=_bps_or_off(risk.max_reject_pct),
        max_trades=risk.max_trades_per_day,
        max_turnover_bps=_bps_or_off(risk.max_turnover * 100),
        ramp_bps=_bps(risk.ramp_pct),
        breakers=_breakers_of(risk),
    )


def _breakers_of(risk: RiskSettings) -> BreakerBounds:
    return BreakerBounds(
        drawdown_smooth_ns=risk.drawdown_smooth_s * SECOND_NS,
        velocity_bps=_bps_or_off(risk.loss_velocity_pct),
        losing_closes=risk.max_losing_closes,
        differ_ns=risk.differences_s * SECOND_NS,
        differ_halt_ns=risk.differences_halt_s * SECOND_NS,
        unknown_ns=risk.unknown_order_s * SECOND_NS,
        unknown_halt_ns=risk.unknown_order_halt_s * SECOND_NS,
        cancels_ns=risk.cancels_fail_s * SECOND_NS,
        rate_limits=risk.rate_limit_answers,
        stream_ns=risk.private_stream_s * SECOND_NS,
        book_ns=risk.book_lost_s * SECOND_NS,
        liquidation_bps=ceil(risk.liquidation_pct * 100),
        liquidation_flatten_bps=ceil(risk.liquidation_flatten_pct * 100),
        slippage_bps=_bps_or_off(risk.mean_slippage_bps / 100),
        blind_ns=risk.equity_unknown_s * SECOND_NS,
    )


def groups_of(risk: RiskSettings) -> dict[str, str]:
    """Return the group of each symbol that is in one."""
    pairs = (text.partition("=") for text in risk.groups)
    return {symbol: name for name, _, symbols in pairs for symbol in symbols.split(",")}


def terms_of(paper: PaperSettings, seed: int = 0) -> PaperTerms:
    """Return the paper exchange's fees and distances. A fraction of a millionth is rounded up, against us."""
    return PaperTerms(
        maker_fee_ppm=ceil(paper.maker_fee_bps * 100),
        taker_fee_ppm=ceil(paper.taker_fee_bps * 100),
        latency_ns=paper.latency_ms * MS_NS,
        latency_p99_ns=paper.latency_p99_ms * MS_NS,
        response_ns=paper.response_ms * MS_NS,
        response_p99_ns=paper.response_p99_ms * MS_NS,
        seed=seed,
        maintenance_ppm=ceil(paper.maintenance_pct * 10_000),
        liquidation_fee_ppm=ceil(paper.liquidation_fee_pct * 10_000),
    )


class Machines:
    """The pure parts of one bot, all but the ledger's and the feed's."""

    def __init__(
        self,
        settings: Settings,
        symbols: Sequence[str],
        *,
        wallets: tuple[Wallet, ...] = (),
        ramp_until_ns: int = 0,
        sent_ns: tuple[int, ...] | None = None,
    ) -> None:
        """`wallets`: those that are traded with live, and must be reconciled first; none: on paper.

        `ramp_until_ns` and `sent_ns` are the gate's.
        """
        self.host = StrategyHost(settings.strategies, symbols)
        limits = limits_of(settings.risk, symbols, leverage=settings.live.leverage if wallets else 1)
        self.approvals = Approvals(limits.intent_ttl_ns)
        self.gate = RiskGate(limits, self.approvals, reconciles=wallets, ramp_until_ns=ramp_until_ns, sent_ns=sent_ns)
        self.paper_terms = terms_of(settings.paper, settings.bot.seed)
        self.executor = PaperExchange(self.paper_terms, self.approvals)

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


def _bps_or_off(percent: Decimal) -> int:
    """Return hundredths of a percent; what is above 0 stays so, since 0 switches a check off."""
    return max(_bps(percent), 1) if percent else 0
