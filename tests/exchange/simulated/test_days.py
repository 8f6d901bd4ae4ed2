"""The 24 hours of the ticker: what is remembered between two looks is what adding up everything would give."""

from __future__ import annotations

from random import Random

import pytest

from bot.exchange.simulated.candles import DAY_NS, INTERVALS, MINUTE_NS, CandleSeries, Day, day_of
from bot.exchange.simulated.events import MarketTrade

START_NS = 1_767_225_600 * 10**9


def added_up(series: CandleSeries, now_ns: int, quiet_ticks: int) -> Day:
    """Return the day as it is defined."""
    start_ns = now_ns - DAY_NS
    candles = [candle for candle in series.candles if candle.start_ns >= start_ns]
    if not candles:
        last = series.candles[-1].close_ticks if series.candles else quiet_ticks
        return Day(start_ns, last, last, last, last, 0, 0, 0)
    return Day(
        start_ns,
        candles[0].open_ticks,
        max(candle.high_ticks for candle in candles),
        min(candle.low_ticks for candle in candles),
        candles[-1].close_ticks,
        sum(candle.qty_lots for candle in candles),
        sum(candle.amount for candle in candles),
        sum(candle.trade_count for candle in candles),
    )


@pytest.mark.parametrize("pause_s", [5, 300, 40_000])
def test_a_day_is_what_its_minutes_add_up_to(pause_s: int) -> None:
    rng, now_ns, price = Random(pause_s), START_NS, 1_000
    series = CandleSeries(INTERVALS[0])
    assert series.interval.span_ns(START_NS)[1] - START_NS == MINUTE_NS
    assert day_of(series, now_ns, 7) == added_up(series, now_ns, 7)
    for _ in range(1_200):
        now_ns += rng.randrange(pause_s * 10**9)
        price = max(1, price + rng.randrange(-5, 6))
        if rng.random() < 0.7:
            lots = rng.randrange(1, 9)
            series.add(MarketTrade(now_ns, "BTC_USDT", "1", price, lots, rng.choice(("buy", "sell"))), price * lots)
        asked_ns = now_ns - rng.choice((0, 0, 0, 3_600 * 10**9))
        assert day_of(series, asked_ns, 7) == added_up(series, asked_ns, 7)
