"""The bars of one frame: longer ones made of shorter ones, and which bar of another frame is known when.

A bucket is over with the bar that ends at or after its end. Buckets begin at whole multiples of their length since 1970
UTC, weeks on Mondays. `Joiner` and `joined` do the same, a bar at a time and by the column.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from bot.core.durations import UNITS_NS, duration_text
from bot.core.jit import bare_kernel, kernel
from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies.advice import Advice, Candles, Ints, Market

Number = TypeVar("Number", np.uint8, np.int64)
MONDAY_NS: Final = 4 * UNITS_NS["d"]
"""The first Monday, 1970-01-05."""


class Series(NamedTuple):
    """Bars by the column, each of shape (n,), oldest first."""

    timeframe_ns: int
    candles: Candles
    known_ns: Ints
    """When each was over: the end of the base bar that it was over with."""
    over: Ints | None
    """Index of that bar in the series that it was made of; None where each is its own."""


def base_series(market: Market) -> Series:
    """Return the bars of a market as they are."""
    return Series(market.timeframe_ns, market.candles, market.candles.start_ns + market.timeframe_ns, None)


def joined(base: Series, timeframe_ns: int, symbol: str) -> Series:
    """Return bars of a longer timeframe out of those of a shorter one; the last is left out unless it is over.

    Raises:
        SettingsError: the longer timeframe is no multiple of the shorter.

    """
    if timeframe_ns == base.timeframe_ns:
        return base
    if timeframe_ns % base.timeframe_ns:
        own, wanted = duration_text(base.timeframe_ns), duration_text(timeframe_ns)
        raise SettingsError(f"{symbol}: bars of {own} cannot be made into bars of {wanted}, which the strategy needs")
    n = len(base.known_ns)
    columns = Candles(*(np.empty(n, np.int64) for _ in Candles._fields))
    over = np.empty(n, np.int64)
    count = _join(base.candles, base.timeframe_ns, timeframe_ns, _origin_ns(timeframe_ns), columns, over)
    over = over[:count]
    return Series(timeframe_ns, Candles(*(column[:count] for column in columns)), base.known_ns[over], over)


@kernel
def _join(base: Candles, base_ns: int, timeframe_ns: int, origin_ns: int, out: Candles, over: Ints) -> int:
    """Fill `out` and `over`; return how many buckets were over."""
    count = 0
    is_open = False
    for row in range(len(base.start_ns)):
        start = base.start_ns[row]
        bucket = start - (start - origin_ns) % timeframe_ns
        if is_open and out.start_ns[count] != bucket:
            over[count] = row
            count += 1
            is_open = False
        if not is_open:
            out.start_ns[count] = bucket
            out.open[count] = base.open[row]
            out.high[count] = base.high[row]
            out.low[count] = base.low[row]
            out.volume[count] = 0
            is_open = True
        out.high[count] = max(out.high[count], base.high[row])
        out.low[count] = min(out.low[count], base.low[row])
        out.close[count] = base.close[row]
        out.volume[count] += base.volume[row]
        if start + base_ns >= bucket + timeframe_ns:
            over[count] = row
            count += 1
            is_open = False
    return count


class Joiner:
    """Bars of a longer timeframe out of those of a shorter one, a bar at a time."""

    __slots__ = ("_origin_ns", "_running", "_timeframe_ns")

    def __init__(self, timeframe_ns: int) -> None:
        self._timeframe_ns = timeframe_ns
        self._origin_ns = _origin_ns(timeframe_ns)
        self._running: Bar | None = None

    def add(self, bar: Bar) -> list[Bar]:
        """Take the next bar; return the buckets that are over with it: none, one, or two after a gap."""
        bucket = bar.start_ns - (bar.start_ns - self._origin_ns) % self._timeframe_ns
        done: list[Bar] = []
        running = self._running
        if running is not None and running.start_ns != bucket:
            done.append(replace(running, ts_ns=bar.ts_ns, is_history=bar.is_history))
            running = None
        if running is None:
            running = replace(bar, timeframe_ns=self._timeframe_ns, start_ns=bucket)
        else:
            running = replace(
                running,
                ts_ns=bar.ts_ns,
                high_ticks=max(running.high_ticks, bar.high_ticks),
                low_ticks=min(running.low_ticks, bar.low_ticks),
                close_ticks=bar.close_ticks,
                volume_lots=running.volume_lots + bar.volume_lots,
                is_history=bar.is_history,
            )
        if bar.start_ns + bar.timeframe_ns >= bucket + self._timeframe_ns:
            done.append(running)
            running = None
        self._running = running
        return done


def _origin_ns(timeframe_ns: int) -> int:
    return MONDAY_NS if timeframe_ns % UNITS_NS["w"] == 0 else 0


def positions(over: Ints, n: int) -> Ints:
    """Return, for each of `n` bars, the newest bucket that was over with it or before; -1 for none."""
    return np.bincount(over, minlength=n).cumsum() - 1


def positions_before(other: Series, own: Series) -> Ints:
    """Return, for each own bar, the newest bar of another symbol that began and was over before it; -1 for none."""
    place = np.empty(len(own.known_ns), np.int64)
    _last_before(other.candles.start_ns, other.known_ns, own.candles.start_ns, own.known_ns, place)
    return place


@bare_kernel
def _last_before(other_start: Ints, other_known: Ints, own_start: Ints, own_known: Ints, place: Ints) -> None:
    """All rise, so that what was before one bar is before the next one too."""
    last = -1
    for row in range(len(place)):
        start, known = own_start[row], own_known[row]
        while last + 1 < len(other_start) and other_start[last + 1] < start and other_known[last + 1] < known:
            last += 1
        place[row] = last


def spread(advice: Advice, over: Ints, count: int) -> Advice:
    """Return advice on base bars: each row stands where its bar was over; of two that end together, the later."""

    def wide(column: NDArray[Number]) -> NDArray[Number]:
        rows = np.zeros(count, column.dtype)
        rows[over] = column
        return rows

    _, *numbers = advice
    size, stop, target, trail = (each if len(each) == 1 else wide(each) for each in numbers)
    return Advice(wide(advice.flags), size, stop, target, trail)


def known_ns(bar: Bar) -> int:
    """Return when a bar was over: one of history when it ended, whenever it was asked for."""
    return bar.start_ns + bar.timeframe_ns if bar.is_history else bar.ts_ns
