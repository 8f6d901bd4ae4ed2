"""A backtest through the live bot's own machines: `replay_market`, and what its journal says, as an outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from bot.backtest.base import ROLES, Fills, Outcome
from bot.backtest.replay import replay_market
from bot.config import Settings
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.instrument import ATOMS, Instrument
from bot.core.ledger import Ledger
from bot.core.orders import OrderState
from bot.exchange.simulated.events import MarketSource
from bot.storage.replay import facts

STEP_NS: Final = m.SECOND_NS
"""Equity is looked at once a second."""
ACCOUNT: Final = "backtest"


def play_paper(
    source: MarketSource, settings: Settings, steps: int, *, on_progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """Return what the strategies of `settings` do on `source`, whose events lie within `steps` seconds of its first.

    The fills are those of `bot run --recording … --speed max` with the same settings: it is the same machines in the
    same order. `[paper]` and `[risk]` are in force.
    """
    curve = _Curve(source.first_ns, steps, on_progress)
    replayed = replay_market(source, settings, account=ACCOUNT, look=curve.look)
    curve.end(replayed.keeper)
    ledger = replayed.keeper.ledger
    instruments = tuple(ledger.instruments[each.symbol] for each in source.instruments)
    journal = list(facts(replayed.records))
    held = [ledger.positions[each.symbol].base_atoms if each.symbol in ledger.positions else 0 for each in instruments]
    return Outcome(
        symbols=tuple(each.symbol for each in instruments),
        instruments=instruments,
        time_ns=source.first_ns + STEP_NS * np.arange(steps, dtype=np.int64),
        timeframe_ns=STEP_NS,
        equity=curve.equity,
        exposure=curve.exposure,
        fills=_fills(journal, instruments, source.first_ns, steps),
        funding=np.zeros(1),
        denied=_denied(journal),
        cash=next(fact.cash_atoms for fact in journal if isinstance(fact, m.SessionStarted)) / ATOMS,
        final_lots=tuple(each.position_lots(atoms) for each, atoms in zip(instruments, held, strict=True)),
    )


class _Curve:
    """Equity at the end of each second, at the bookkeeper's marks."""

    def __init__(self, first_ns: int, steps: int, on_progress: Callable[[int, int], None] | None) -> None:
        self.equity, self.exposure = np.zeros(steps), np.zeros(steps)
        self._first_ns = first_ns
        self._on_progress = on_progress
        self._done = 0

    def look(self, now_ns: int, keeper: Bookkeeper) -> None:
        """Note what is owned for every second that ends before `now_ns`."""
        over = (now_ns - self._first_ns - 1) // STEP_NS
        if over > self._done:
            self._note(over, keeper)

    def end(self, keeper: Bookkeeper) -> None:
        """Note what is owned in the end."""
        self._done = min(self._done, len(self.equity) - 1)
        self._note(len(self.equity), keeper)

    def _note(self, until: int, keeper: Bookkeeper) -> None:
        equity = keeper.equity_atoms
        assert equity is not None, "what is held was bought at a price"
        values = _values(keeper.ledger, keeper.marks)
        self.equity[self._done : until] = equity / ATOMS
        self.exposure[self._done : until] = sum(map(abs, values)) / ATOMS
        self._done = until
        if self._on_progress is not None:
            self._on_progress(min(until, len(self.equity)), len(self.equity))


def _values(ledger: Ledger, marks: dict[str, int]) -> list[int]:
    return [
        ledger.instruments[symbol].value_atoms(position.base_atoms, marks[symbol])
        for symbol, position in ledger.positions.items()
        if position.base_atoms
    ]


def _fills(journal: Sequence[m.Journalled], instruments: Sequence[Instrument], first_ns: int, steps: int) -> Fills:
    roles = {fact.intent.client_id: fact.intent.role for fact in journal if isinstance(fact, m.OrderApproved)}
    numbers = {each.symbol: number for number, each in enumerate(instruments)}
    fills = [fact for fact in journal if isinstance(fact, m.Fill)]
    rows = [
        (
            min(max(fill.ts_ns - first_ns - 1, 0) // STEP_NS, steps - 1),
            numbers[fill.symbol],
            fill.price_ticks,
            fill.side.sign * fill.qty_lots,
            ROLES.index(roles[fill.client_id]),
            fill.is_maker,
        )
        for fill in fills
    ]
    step, symbol, price, lots, role, is_maker = np.array(rows, np.int64).reshape(len(rows), 6).T.copy()
    fees = [_fee_atoms(fill, instruments[numbers[fill.symbol]]) / ATOMS for fill in fills]
    return Fills(step, symbol, price, lots, np.array(fees, np.float64), role, is_maker)


def _fee_atoms(fill: m.Fill, instrument: Instrument) -> int:
    """Return a fee in quote atoms; one taken in coins at the fill's price."""
    if fill.side.sign > 0 and not instrument.is_fee_in_quote:
        return instrument.value_atoms(fill.fee_atoms, fill.price_ticks)
    return fill.fee_atoms


def _denied(journal: Sequence[m.Journalled]) -> dict[str, int]:
    """Return how often the gate refused, by its reason, and the exchange."""
    counts: dict[str, int] = {}
    for fact in journal:
        match fact:
            case m.OrderDenied():
                code = fact.reason.value
            case m.OrderEvent() if fact.state is OrderState.REJECTED:
                code = "REFUSED_BY_EXCHANGE"
            case _:
                continue
        counts[code] = counts.get(code, 0) + 1
    return counts
