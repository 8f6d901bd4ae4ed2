"""Bars built from trades, and candles of the exchange turned into bars.

Neither source says when a candle is over. A built bar is over when time has passed its end. An exchange's candle is
over when the next one starts, or `GRACE_NS` after its end: its last change may still be on the way.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.messages import SECOND_NS, Bar, TradeTick

GRACE_NS: Final = 2 * SECOND_NS


class BarBuilder:
    """Builds the bars of one symbol and timeframe out of its trades. A bucket without a trade makes no bar."""

    __slots__ = ("_close", "_high", "_is_torn", "_low", "_open", "_start_ns", "_symbol", "_timeframe_ns", "_volume")

    def __init__(self, symbol: str, timeframe_ns: int) -> None:
        self._symbol = symbol
        self._timeframe_ns = timeframe_ns
        self._start_ns: int | None = None
        self._is_torn = False
        """Trades of the running bar are missing: it is built, and thrown away."""
        self._open = self._high = self._low = self._close = self._volume = 0

    def add(self, trade: TradeTick) -> Bar | None:
        """Take a trade; return the bar that it ends, if it falls into a later one.

        A trade that comes late for its bar counts in the running one: nothing is rewritten.
        """
        done = self.close_until(trade.ts_ns)
        price = trade.price_ticks
        if self._start_ns is None:
            self._start_ns = trade.ts_ns - trade.ts_ns % self._timeframe_ns
            self._open = self._high = self._low = price
            self._volume = 0
        elif price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        self._close = price
        self._volume += trade.qty_lots
        return done

    def lose(self) -> None:
        """Drop the running bar and that of the next trade: some of their trades are missing."""
        self._start_ns = None
        self._is_torn = True

    def close_until(self, now_ns: int) -> Bar | None:
        """Return the running bar if it is over at `now_ns`."""
        if self._start_ns is None or now_ns < self._start_ns + self._timeframe_ns:
            return None
        if self._is_torn:
            self._start_ns, self._is_torn = None, False
            return None
        bar = Bar(
            ts_ns=now_ns,
            symbol=self._symbol,
            timeframe_ns=self._timeframe_ns,
            start_ns=self._start_ns,
            open_ticks=self._open,
            high_ticks=self._high,
            low_ticks=self._low,
            close_ticks=self._close,
            volume_lots=self._volume,
        )
        self._start_ns = None
        return bar


class CandleFollower:
    """Follows the exchange's candles of one symbol and timeframe; lets each out once, in order, when it is over."""

    __slots__ = ("_done_ns", "_running")

    def __init__(self) -> None:
        self._running: Bar | None = None
        self._done_ns = -1

    @property
    def done_ns(self) -> int:
        """Return the start of the last candle let out, or -1: repair begins after it."""
        return self._done_ns

    def restore(self, bars: list[Bar]) -> list[Bar]:
        """Take candles of a REST answer, oldest first; return those that are over and were not let out before.

        Each bar's `ts_ns` is when the answer was read.
        """
        fresh = [bar for bar in bars if bar.start_ns > self._done_ns and _is_over(bar, bar.ts_ns)]
        if fresh:
            self._done_ns = fresh[-1].start_ns
            if self._running is not None and self._running.start_ns <= self._done_ns:
                self._running = None
        return fresh

    def lose(self) -> None:
        """Drop the running candle: its last change may be missing, and repair brings it whole."""
        self._running = None

    def update(self, candle: Bar) -> Bar | None:
        """Take the newest state of a candle; return the one before it, if this one is a later one."""
        if candle.start_ns <= self._done_ns:
            return None  # a late revision: strategies have decided on what was known
        done: Bar | None = None
        if self._running is not None and candle.start_ns > self._running.start_ns:
            done = self._let_out(candle.ts_ns)
        if self._running is None or candle.start_ns == self._running.start_ns:
            self._running = candle
        return done

    def close_until(self, now_ns: int) -> Bar | None:
        """Return the running candle if it is over at `now_ns`."""
        if self._running is None or not _is_over(self._running, now_ns):
            return None
        return self._let_out(now_ns)

    def _let_out(self, now_ns: int) -> Bar:
        assert self._running is not None
        done = msgspec.structs.replace(self._running, ts_ns=now_ns)
        self._done_ns = done.start_ns
        self._running = None
        return done


def _is_over(candle: Bar, now_ns: int) -> bool:
    return now_ns >= candle.start_ns + candle.timeframe_ns + GRACE_NS
