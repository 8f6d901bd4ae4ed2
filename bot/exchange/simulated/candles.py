"""Candles of every interval that the exchange knows, and the 24 hours of the ticker, made out of trades."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple

from bot.exchange.simulated.events import MarketTrade

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
WEEK_NS: Final = 7 * DAY_NS
FIRST_MONDAY_NS: Final = 4 * DAY_NS
"""1970-01-05: weeks begin on Mondays."""
BPS: Final = 10_000
CANDLES_KEPT: Final = 1_500
"""Of each interval; REST gives 500 at most, the ticker needs a day of minutes."""


class Interval(NamedTuple):
    """One length of candle, by the exchange's name of it."""

    name: str
    length_ns: int
    """0 for the calendar month, which has no one length."""

    @property
    def channel(self) -> str:
        """Return the name of its WebSocket channel."""
        return f"candles_{self.name.lower()}"

    def span_ns(self, ts_ns: int) -> tuple[int, int]:
        """Return (start, end) of the candle that `ts_ns` falls in; the end belongs to the next one."""
        if not self.length_ns:
            return _month_ns(ts_ns)
        origin_ns = FIRST_MONDAY_NS if self.length_ns == WEEK_NS else 0
        start_ns = ts_ns - (ts_ns - origin_ns) % self.length_ns
        return start_ns, start_ns + self.length_ns


INTERVALS: Final = (
    Interval("MINUTE_1", MINUTE_NS),
    Interval("MINUTE_5", 5 * MINUTE_NS),
    Interval("MINUTE_10", 10 * MINUTE_NS),
    Interval("MINUTE_15", 15 * MINUTE_NS),
    Interval("MINUTE_30", 30 * MINUTE_NS),
    Interval("HOUR_1", HOUR_NS),
    Interval("HOUR_2", 2 * HOUR_NS),
    Interval("HOUR_4", 4 * HOUR_NS),
    Interval("HOUR_6", 6 * HOUR_NS),
    Interval("HOUR_12", 12 * HOUR_NS),
    Interval("DAY_1", DAY_NS),
    Interval("DAY_3", 3 * DAY_NS),
    Interval("WEEK_1", WEEK_NS),
    Interval("MONTH_1", 0),
)


@dataclass(slots=True)
class Candle:
    """What was traded from `start_ns` until before `end_ns`. Amounts are price x quantity, in ticks x lots."""

    start_ns: int
    end_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    qty_lots: int = 0
    amount: int = 0
    buy_qty_lots: int = 0
    buy_amount: int = 0
    trade_count: int = 0
    ts_ns: int = 0
    """Time of its newest trade."""

    def add(self, trade: MarketTrade, amount: int) -> None:
        """Count one more trade, whose price x quantity is `amount`."""
        price = trade.price_ticks
        if price > self.high_ticks:
            self.high_ticks = price
        elif price < self.low_ticks:
            self.low_ticks = price
        self.close_ticks = price
        self.qty_lots += trade.qty_lots
        self.amount += amount
        if trade.taker_side == "buy":
            self.buy_qty_lots += trade.qty_lots
            self.buy_amount += amount
        self.trade_count += 1
        self.ts_ns = trade.ts_ns


class CandleSeries:
    """The candles of one market and interval, oldest first; a time without trades has none."""

    __slots__ = ("_ended", "candles", "interval")

    def __init__(self, interval: Interval) -> None:
        self.interval = interval
        self.candles: deque[Candle] = deque(maxlen=CANDLES_KEPT)
        self._ended: _Ended | None = None

    def add(self, trade: MarketTrade, amount: int) -> Candle | None:
        """Count a trade; return the candle that it ended, if it began a new one."""
        ended: Candle | None = None
        candle = self.candles[-1] if self.candles else None
        if candle is None or trade.ts_ns >= candle.end_ns:
            ended, price = candle, trade.price_ticks
            candle = Candle(*self.interval.span_ns(trade.ts_ns), price, price, price, price)
            self.candles.append(candle)
        candle.add(trade, amount)
        return ended

    def ended_since(self, start_ns: int) -> _Ended | None:
        """Return what the candles that began at `start_ns` or later add up to without the newest; None without any.

        It is remembered: a day is asked for with every trade, and its ended minutes change once a minute.
        """
        ended, last = self._ended, self.candles[-2] if len(self.candles) > 1 else None
        if last is None or last.start_ns < start_ns:
            return None
        if ended is None or ended.last is not last or not ended.left_out_ns < start_ns <= ended.first_ns:
            ended = self._ended = _added_up(self, start_ns)
        return ended


class Day(NamedTuple):
    """The 24 hours until now, to the minute."""

    start_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    qty_lots: int
    amount: int
    """Price x quantity, in ticks x lots."""
    trade_count: int

    @property
    def change_bps(self) -> int:
        """Return the change from open to close in basis points of the open, towards 0."""
        moved = self.close_ticks - self.open_ticks
        bps = abs(moved) * BPS // max(self.open_ticks, 1)
        return bps if moved >= 0 else -bps


def day_of(minutes: CandleSeries, now_ns: int, quiet_ticks: int) -> Day:
    """Return the 24 hours until `now_ns`; where nothing was traded, every price is `quiet_ticks`."""
    start_ns = now_ns - DAY_NS
    newest = minutes.candles[-1] if minutes.candles else None
    if newest is None or newest.start_ns < start_ns:
        last_ticks = quiet_ticks if newest is None else newest.close_ticks
        return Day(start_ns, last_ticks, last_ticks, last_ticks, last_ticks, 0, 0, 0)
    ended = minutes.ended_since(start_ns)
    if ended is None:
        return Day(
            start_ns=start_ns,
            open_ticks=newest.open_ticks,
            high_ticks=newest.high_ticks,
            low_ticks=newest.low_ticks,
            close_ticks=newest.close_ticks,
            qty_lots=newest.qty_lots,
            amount=newest.amount,
            trade_count=newest.trade_count,
        )
    return Day(
        start_ns=start_ns,
        open_ticks=ended.open_ticks,
        high_ticks=max(ended.high_ticks, newest.high_ticks),
        low_ticks=min(ended.low_ticks, newest.low_ticks),
        close_ticks=newest.close_ticks,
        qty_lots=ended.qty_lots + newest.qty_lots,
        amount=ended.amount + newest.amount,
        trade_count=ended.trade_count + newest.trade_count,
    )


class _Ended(NamedTuple):
    """Candles in a row, all ended, and what they add up to."""

    last: Candle
    first_ns: int
    left_out_ns: float
    """When the newest one began that is too old."""
    open_ticks: int
    high_ticks: int
    low_ticks: int
    qty_lots: int
    amount: int
    trade_count: int


def _added_up(series: CandleSeries, start_ns: int) -> _Ended:
    """Return what all candles since `start_ns` but the newest add up to; there is at least one."""
    candles = list(islice(_since(series, start_ns), 1, None))
    too_old = len(series.candles) - len(candles) - 2
    return _Ended(
        last=candles[0],
        first_ns=candles[-1].start_ns,
        left_out_ns=series.candles[too_old].start_ns if too_old >= 0 else -math.inf,
        open_ticks=candles[-1].open_ticks,
        high_ticks=max(candle.high_ticks for candle in candles),
        low_ticks=min(candle.low_ticks for candle in candles),
        qty_lots=sum(candle.qty_lots for candle in candles),
        amount=sum(candle.amount for candle in candles),
        trade_count=sum(candle.trade_count for candle in candles),
    )


def _since(series: CandleSeries, start_ns: int) -> Iterator[Candle]:
    """Yield the candles that began at `start_ns` or later, newest first."""
    for candle in reversed(series.candles):
        if candle.start_ns < start_ns:
            return
        yield candle


def _month_ns(ts_ns: int) -> tuple[int, int]:
    moment = datetime.fromtimestamp(ts_ns // SECOND_NS, UTC)
    start = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    is_december = moment.month == 12
    end = datetime(moment.year + is_december, 1 if is_december else moment.month + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * SECOND_NS, int(end.timestamp()) * SECOND_NS
