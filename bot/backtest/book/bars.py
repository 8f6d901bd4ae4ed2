"""Bars of a recorded market: what a report holds a run on the book against."""

from __future__ import annotations

import numpy as np

from bot.backtest.book.events import BOUGHT, KIND, SOLD, BookEvents
from bot.backtest.book.ladder import touch_of
from bot.errors import RecordingError
from bot.strategies.advice import Candles, Ints


def bars_of(events: BookEvents, *, first_ns: int, step_ns: int, steps: int) -> Candles:
    """Return `steps` bars of the middle between bid and ask, in whole ticks, rounded down; volume is what was traded.

    Bar k is from `first_ns + k * step_ns`, its close what stands at its end, that instant included. What happens
    before the first bar or after the last one counts to it. A bar in which nothing moves is flat at the close before.

    Raises:
        RecordingError: there is never both a bid and an ask.

    """
    touch = touch_of(events)
    is_whole = (touch.bid >= 0) & (touch.ask < events.width)
    if not is_whole.any():
        raise RecordingError(f"{events.instrument.symbol}: there is never both a bid and an ask")
    offsets = touch.bid[is_whole].astype(np.int64) + touch.ask[is_whole]
    middle = (2 * events.base_ticks + events.step_ticks * offsets) // 2
    at = _bar(touch.ts_ns[is_whole], first_ns, step_ns, steps)
    last = np.searchsorted(at, np.arange(steps), side="right") - 1  # of the middles, up to the end of each bar
    close = middle[np.maximum(last, 0)]
    opening = np.append(middle[:1], close[:-1])
    high, low = np.maximum(opening, close), np.minimum(opening, close)
    np.maximum.at(high, at, middle)
    np.minimum.at(low, at, middle)
    volume = np.zeros(steps, np.int64)
    what = events.kind & KIND
    is_trade = (what == BOUGHT) | (what == SOLD)
    np.add.at(volume, _bar(events.ts_ns[is_trade], first_ns, step_ns, steps), events.lots[is_trade])
    start_ns = first_ns + step_ns * np.arange(steps, dtype=np.int64)
    return Candles(start_ns=start_ns, open=opening, high=high, low=low, close=close, volume=volume)


def _bar(ts_ns: Ints, first_ns: int, step_ns: int, steps: int) -> Ints:
    """Return the bar that each time belongs to: its end is its own."""
    return np.clip((ts_ns - first_ns - 1) // step_ns, 0, steps - 1)
