"""Rates of backtests: ours and those of rivals, run by turns; and the made-up year that they run on."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, NamedTuple

from bot.backtest.data import make_instrument
from bot.backtest.made import PRICE_SCALE, made_market
from bot.core.durations import UNITS_NS
from bot.strategies.advice import Candles, Market
from tests.bench.measure import Figure, spent

YEAR_BARS: Final = 525_600
"""A year of minutes."""
MINUTE_NS: Final = UNITS_NS["m"]
QUANTITY_SCALE: Final = 12
"""Lots so small that rounding to them is no difference to engines that trade parts of everything."""
RUNS: Final = 7
RIVAL_RUNS: Final = 3
MILLION: Final = 1e6


class Rival(NamedTuple):
    """Another engine at the same work."""

    run: Callable[[], object]
    bars: int
    """Of all symbols and points together, that one run takes: slow ones get fewer."""


def rates(
    name: str,
    own: Callable[[], object],
    bars: int,
    rivals: Mapping[str, Rival],
    details: Mapping[str, float] | None = None,
) -> Figure:
    """Return millions of bars a second, the median of runs by turns after one of each to warm up."""
    own()
    for rival in rivals.values():
        rival.run()
    walls: list[float] = []
    cpus: list[float] = []
    others: dict[str, list[float]] = {rival: [] for rival in rivals}
    for number in range(RUNS):
        _, cpu_s, wall_s = spent(own)
        walls.append(wall_s)
        cpus.append(cpu_s)
        for rival, (run, rival_bars) in rivals.items() if number < RIVAL_RUNS else ():
            others[rival].append(rival_bars / spent(run)[2] / MILLION)
    return Figure(
        name=name,
        value=bars / statistics.median(walls) / MILLION,
        unit="M/s",
        cpu_s=sum(cpus),
        wall_s=sum(walls),
        peers={rival: statistics.median(values) for rival, values in others.items()},
        # Where others work on this machine too, a rate for each second of CPU is what stays comparable.
        details={"per_cpu_s": bars / statistics.median(cpus) / MILLION, **(details or {})},
    )


@cache
def year(seed: int = 1, symbol: str = "BTC_USDT", quote_fee_ppm: int = 0) -> Market:
    """Return a made-up year of minutes; fees are in quote if they are at most so much."""
    made = made_market(symbol, bars=YEAR_BARS, seed=seed, timeframe_ns=MINUTE_NS)
    return made._replace(instrument=make_instrument(symbol, PRICE_SCALE, QUANTITY_SCALE, quote_fee_ppm=quote_fee_ppm))


def first_bars(market: Market, count: int) -> Market:
    """Return the beginning of a market."""
    return market._replace(candles=Candles(*(column[:count].copy() for column in market.candles)))
