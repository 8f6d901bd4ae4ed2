"""What was ordered lately and what came of it: the counts behind the rules on pace.

Nothing here decides. Times are those of messages, amounts quote atoms; a count whose bound is off is not kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final

from bot.core import messages as m
from bot.core.approvals import NOT_SENT
from bot.core.instrument import Instrument, Side
from bot.core.orders import REFUSALS, OrderIntent
from bot.core.risk.limits import Limits
from bot.core.risk.rate import DAY_NS

WINDOW_NS: Final = 300 * m.SECOND_NS
"""For orders against trades and rejections."""
REPEAT_NS: Final = 600 * m.SECOND_NS
SIZES: Final = 20
SIZES_LEAST: Final = 5
"""Fewer orders than this say nothing of what is usual."""
REJECTS_LEAST: Final = 10
"""The same, of rejections."""
ALIKE: Final = 2
"""After this many rejections in a row with one reason, the same is not asked again."""
ALIKE_NS: Final = 60 * m.SECOND_NS
"""What only reduces is asked again after this time."""

Key = tuple[str, str, Side]
"""(strategy, symbol, side)."""


@dataclass(slots=True)
class Rejected:
    """Rejections in a row of one strategy's orders of one side."""

    reason: str
    count: int
    last_ns: int


@dataclass(slots=True)
class _Sent:
    strategy: str
    side: Side
    price_ticks: int
    qty_lots: int
    sent_ns: int


@dataclass(slots=True)
class Pace:
    """All counts, for the whole bot."""

    limits: Limits
    rejected: dict[Key, Rejected] = field(default_factory=dict[Key, Rejected])
    trades_today: int = 0
    turnover_atoms: int = 0
    """Of today."""
    _day: int = -1
    _sizes: dict[str, deque[int]] = field(default_factory=dict[str, "deque[int]"])
    _last: dict[str, deque[_Sent]] = field(default_factory=dict[str, "deque[_Sent]"])
    _repeats: dict[Key, deque[int]] = field(default_factory=dict[Key, "deque[int]"])
    _orders_ns: deque[int] = field(default_factory=deque[int])
    _trades_ns: deque[int] = field(default_factory=deque[int])
    _rejects_ns: deque[int] = field(default_factory=deque[int])

    def send(self, intent: OrderIntent, price_ticks: int, now_ns: int) -> None:
        """Take an order that was let through."""
        limits = self.limits
        if limits.max_orders_per_trade or limits.max_reject_bps:
            self._orders_ns.append(now_ns)
        if not intent.reserved_atoms:
            return
        if limits.max_order_multiple:
            self._sizes.setdefault(intent.symbol, deque(maxlen=SIZES)).append(intent.qty_lots)
        if limits.duplicate_ns:
            sent = self._last.setdefault(intent.symbol, deque())
            sent.append(_Sent(intent.strategy, intent.side, price_ticks, intent.qty_lots, now_ns))

    def book(self, booked: m.FillBooked, instrument: Instrument, before_atoms: int, *, is_first: bool) -> None:
        """Take a fill. `before_atoms`: the strategy's position before it; `is_first`: of its order."""
        limits, fill = self.limits, booked.fill
        if is_first and (limits.max_orders_per_trade or limits.max_reject_bps):
            self._trades_ns.append(fill.ts_ns)
        if limits.max_trades or limits.max_turnover_bps:
            self._turn_day(fill.ts_ns)
            self.trades_today += is_first
            self.turnover_atoms += instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
        if limits.max_repeats:
            before, after = instrument.position_lots(before_atoms), instrument.position_lots(booked.strategy_atoms)
            if _sign(before) != _sign(after):
                for side in Side:
                    self._repeats.pop((booked.strategy, fill.symbol, side), None)
            if is_first:
                self._repeats.setdefault((booked.strategy, fill.symbol, fill.side), deque()).append(fill.ts_ns)
        self.rejected.pop((booked.strategy, fill.symbol, fill.side), None)

    def hear(self, event: m.OrderEvent, intent: OrderIntent) -> None:
        """Take what the exchange says of an order: whether it was refused."""
        key = intent.strategy, intent.symbol, intent.side
        if event.state not in REFUSALS:
            if not event.state.is_final:
                self.rejected.pop(key, None)
            return
        if self.limits.max_reject_bps and not event.reason.startswith(NOT_SENT):
            self._rejects_ns.append(event.ts_ns)
            known = self.rejected.get(key)
            count = known.count + 1 if known is not None and known.reason == event.reason else 1
            self.rejected[key] = Rejected(event.reason, count, event.ts_ns)

    def forgive(self, strategy: str, symbol: str) -> None:
        """Forget rejections: the strategy wants something else."""
        for side in Side:
            self.rejected.pop((strategy, symbol, side), None)

    def acknowledge(self, strategy: str) -> None:
        """Forget repetitions: an operator looked at them. "" is every strategy."""
        for key in [key for key in self._repeats if strategy in {"", key[0]}]:
            del self._repeats[key]

    def median_lots(self, symbol: str) -> int:
        """Return the median of the last orders that made a position of `symbol` larger; 0 while there are too few."""
        sizes = self._sizes.get(symbol, ())
        return median_low(sizes) if len(sizes) >= SIZES_LEAST else 0

    def age_ns(self, strategy: str, symbol: str, side: Side, price_ticks: int, qty_lots: int, now_ns: int) -> int:
        """Return how long ago the same order was sent, -1 if that is longer than `duplicate_ns`."""
        sent = self._last.get(symbol)
        while sent and sent[0].sent_ns <= now_ns - self.limits.duplicate_ns:
            sent.popleft()
        for order in sent or ():
            if (order.strategy, order.side, order.price_ticks, order.qty_lots) == (
                strategy,
                side,
                price_ticks,
                qty_lots,
            ):
                return now_ns - order.sent_ns
        return -1

    def repeats(self, strategy: str, symbol: str, side: Side, now_ns: int) -> int:
        """Return how many orders traded within `REPEAT_NS` without the position having changed its sign."""
        return _count(self._repeats.get((strategy, symbol, side)), now_ns - REPEAT_NS)

    def orders(self, now_ns: int) -> int:
        """Return the orders of the last five minutes."""
        return _count(self._orders_ns, now_ns - WINDOW_NS)

    def trades(self, now_ns: int) -> int:
        """Return the orders that traded in the last five minutes."""
        return _count(self._trades_ns, now_ns - WINDOW_NS)

    def rejects(self, now_ns: int) -> int:
        """Return the orders that the exchange refused in the last five minutes."""
        return _count(self._rejects_ns, now_ns - WINDOW_NS)

    def today(self, now_ns: int) -> tuple[int, int]:
        """Return how many orders traded today, and for how much."""
        return (self.trades_today, self.turnover_atoms) if self._day == now_ns // DAY_NS else (0, 0)

    def _turn_day(self, now_ns: int) -> None:
        if now_ns // DAY_NS > self._day:
            self._day, self.trades_today, self.turnover_atoms = now_ns // DAY_NS, 0, 0


def _count(times_ns: deque[int] | None, after_ns: int) -> int:
    """Return how many times are later than `after_ns`, and forget the others."""
    if times_ns is None:
        return 0
    while times_ns and times_ns[0] <= after_ns:
        times_ns.popleft()
    return len(times_ns)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
