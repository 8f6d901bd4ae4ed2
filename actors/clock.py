"""Time, as a port: the wall clock of a live run, the market's own clock of a replay."""

from __future__ import annotations

import time
from typing import Final, Protocol

import trio

from bot.exchange.poloniex.market_data import TICK_NS

TICK_S_MIN: Final = 0.01
"""However fast a simulated market runs, time is told no more often."""


class Clock(Protocol):
    """Tells the time to the feed and to the end of a run; everybody else reads it in messages."""

    speed: float
    """Seconds of this clock in a second of ours."""
    tick_s: float
    """Seconds of ours between two moments at which the bot is told that time passes."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970, UTC; never less than before."""
        ...

    def stamp(self, exchange_ns: int) -> int:
        """Return when a frame that the exchange stamped `exchange_ns` came in."""
        ...


class WallClock:
    """Starts at the system's time and goes on with trio's monotonic clock: a jump of the former changes nothing.

    A simulated market has a time of its own: there the clock starts at `start_ns` and goes `speed` times as fast.
    """

    def __init__(self, start_ns: int | None = None, speed: float = 1.0) -> None:
        self._start_ns = time.time_ns() if start_ns is None else start_ns
        self._start_s = trio.current_time()
        self.speed = speed
        self.tick_s = max(TICK_S_MIN, TICK_NS / 1e9 / speed)

    def now_ns(self) -> int:
        """Return the time now."""
        return self._start_ns + round((trio.current_time() - self._start_s) * self.speed * 1e9)

    def stamp(self, exchange_ns: int) -> int:
        """Return the time now: a live frame counts from when we have it."""
        del exchange_ns
        return self.now_ns()


class MarketClock:
    """Stands where the newest frame put it."""

    speed = 1.0
    tick_s = TICK_NS / 1e9

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the newest frame's time."""
        return self._now_ns

    def stamp(self, exchange_ns: int) -> int:
        """Return the frame's own time, or where the clock stands if that is later."""
        self._now_ns = max(self._now_ns, exchange_ns)
        return self._now_ns
