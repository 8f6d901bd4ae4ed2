"""What the loss breakers measure: a smoothed equity, the fall within a window, losing streaks, slippage.

Each is fed as things happen and answers at once; amounts are atoms, times nanoseconds. Nothing here decides.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bot.core.instrument import Instrument, Side
from bot.core.messages import SECOND_NS, Fill
from bot.core.risk.bounds import SLIPS

MILLION: Final = 1_000_000


@dataclass(slots=True)
class _Stretch:
    """At most a second of equity, or as long as nothing was heard."""

    start_ns: int
    end_ns: int
    area: int = 0
    """Equity times time."""


class SmoothedEquity:
    """The mean of equity over a window, each value weighed by how long it held.

    A price that is gone at once weighs next to nothing.
    """

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._stretches: deque[_Stretch] = deque()
        self._area = 0
        self._last_atoms = 0

    def add(self, now_ns: int, equity_atoms: int) -> int:
        """Take equity at `now_ns`, which never goes back; return the mean until now, or of the first value itself."""
        if not self._stretches:
            self._stretches.append(_Stretch(now_ns, now_ns))
        newest = self._stretches[-1]
        area = self._last_atoms * (now_ns - newest.end_ns)
        newest.area += area
        self._area += area
        newest.end_ns = now_ns
        if now_ns - newest.start_ns >= SECOND_NS:
            self._stretches.append(_Stretch(now_ns, now_ns))
        while len(self._stretches) > 1 and self._stretches[0].end_ns <= now_ns - self._window_ns:
            self._area -= self._stretches.popleft().area
        self._last_atoms = equity_atoms
        length_ns = now_ns - self._stretches[0].start_ns
        return self._area // length_ns if length_ns > 0 else equity_atoms


class HighWindow:
    """The highest equity within a window: a queue that falls, so each value is looked at twice at most."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._falling: deque[_High] = deque()

    def add(self, now_ns: int, equity_atoms: int) -> int:
        """Take equity at `now_ns`, which never goes back; return the highest since `now_ns` - window."""
        falling = self._falling
        while falling and falling[-1].atoms <= equity_atoms:
            falling.pop()
        if falling and now_ns - falling[-1].first_ns < SECOND_NS:
            # It stands for the lower ones of its second as well: the queue stays short, on the strict side.
            falling[-1].last_ns = now_ns
        else:
            falling.append(_High(now_ns, now_ns, equity_atoms))
        while falling[0].last_ns < now_ns - self._window_ns:
            falling.popleft()
        return falling[0].atoms

    def forget(self) -> None:
        """Begin anew."""
        self._falling.clear()


@dataclass(slots=True)
class _High:
    first_ns: int
    last_ns: int
    atoms: int


class RoundTrips:
    """What each position of a strategy brought from its opening until it was flat or turned round."""

    def __init__(self) -> None:
        self.streaks: dict[str, int] = {}
        """Strategy to the number of its latest positions that lost, one after the other."""
        self._flows: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to what the open position brought so far, in quote atoms; what was paid is below 0."""
        self._entries: dict[tuple[str, str], tuple[int, int]] = {}
        """(strategy, symbol) to the atoms and the price of a position from before this session."""

    def recover(self, strategy: str, symbol: str, atoms: int, entry_ticks: int) -> None:
        """Begin with a position, as if all of it was opened at `entry_ticks`."""
        self._entries[strategy, symbol] = atoms, entry_ticks

    def book(self, strategy: str, instrument: Instrument, fill: Fill, before_atoms: int, after_atoms: int) -> bool:
        """Take a fill; return whether it ended a position. Coins that a fee took are missing in `after_atoms`."""
        flow = -fill.side.sign * instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
        if _is_fee_in_quote(fill, instrument):
            flow -= fill.fee_atoms
        return self._close(strategy, instrument, fill.price_ticks, flow, before_atoms, after_atoms)

    def end(self, strategy: str, instrument: Instrument, price_ticks: int, before_atoms: int) -> bool:
        """Take the end of a position by the exchange's hand; return whether there was one."""
        flow = instrument.value_atoms(before_atoms, price_ticks)
        return self._close(strategy, instrument, price_ticks, flow, before_atoms, 0)

    def _close(self, strategy: str, instrument: Instrument, price: int, flow: int, before: int, after: int) -> bool:
        key = strategy, instrument.symbol
        if key in self._entries:
            self._flows[key] = -instrument.value_atoms(*self._entries.pop(key))
        flow += self._flows.get(key, 0)
        before_lots, after_lots = instrument.position_lots(before), instrument.position_lots(after)
        is_over = before_lots != 0 and before_lots * after_lots <= 0
        if is_over:
            rest_atoms = instrument.value_atoms(after, price)
            self.streaks[strategy] = self.streaks.get(strategy, 0) + 1 if flow + rest_atoms < 0 else 0
            flow = -rest_atoms
        self._flows[key] = flow
        return is_over


def _is_fee_in_quote(fill: Fill, instrument: Instrument) -> bool:
    return (fill.fee_currency or instrument.fee_coin(fill.side)) == instrument.quote


class _Decided(NamedTuple):
    strategy: str
    sign: int
    price_ticks: int


@dataclass(slots=True)
class _Slip:
    decided: _Decided
    lots: int = 0
    ticks: int = 0
    """What its fills cost above the price of the decision, times lots."""


@dataclass(slots=True)
class Slips:
    """What trades cost against the price at which they were decided."""

    _open: dict[str, _Slip] = field(default_factory=dict[str, _Slip])
    _done: dict[str, deque[int]] = field(default_factory=dict[str, deque[int]])
    """Strategy to the slippage of its last trades, in millionths."""

    def decide(self, client_id: str, strategy: str, side: Side, price_ticks: int) -> None:
        """Remember the price, above 0, that an order was decided at."""
        self._open[client_id] = _Slip(_Decided(strategy, side.sign, price_ticks))

    def book(self, fill: Fill) -> None:
        """Take a fill of any order."""
        slip = self._open.get(fill.client_id)
        if slip is not None:
            slip.lots += fill.qty_lots
            slip.ticks += slip.decided.sign * (fill.price_ticks - slip.decided.price_ticks) * fill.qty_lots

    def end(self, client_id: str) -> str | None:
        """Take the end of an order; return the strategy whose trade it was, None where it was none."""
        slip = self._open.pop(client_id, None)
        if slip is None or not slip.lots:
            return None
        done = self._done.setdefault(slip.decided.strategy, deque(maxlen=SLIPS))
        done.append(slip.ticks * MILLION // (slip.decided.price_ticks * slip.lots))
        return slip.decided.strategy

    def mean_ppm(self, strategy: str) -> int | None:
        """Return the mean of the last `SLIPS` trades, in millionths; None while there are fewer."""
        done = self._done.get(strategy, ())
        return sum(done) // SLIPS if len(done) == SLIPS else None

    def forget(self, strategy: str) -> None:
        """Begin anew."""
        self._done.pop(strategy, None)
