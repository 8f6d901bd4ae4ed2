"""Made-up candles, as many as wanted, the same for the same seed on every machine and for every version of numpy.

A random walk on whole ticks whose trend and volatility change now and then. Only whole numbers are used, and the raw
bits of PCG64 (O'Neill, 2014).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bot.backtest.checks import BARS_MAX, grid_start
from bot.backtest.data import make_instrument
from bot.core.durations import UNITS_NS
from bot.core.jit import kernel
from bot.strategies.advice import Candles, Ints, Market

START_NS: Final = 1_704_067_200 * UNITS_NS["s"]
"""2024-01-01, a Monday."""
PRICE_SCALE: Final = 2
QUANTITY_SCALE: Final = 6
PRICE_TICKS: Final = 6_000_000
PRICE_RANGE: Final = 20
"""The price stays within its beginning divided by this and times this."""
PHASE_BARS: Final = 512
"""How long a trend and its volatility last on average."""
MOVES: Final = 4
"""Of the price in a bar."""
_PPM: Final = 1_000_000


def made_market(
    symbol: str = "BTC_USDT",
    *,
    bars: int,
    seed: int,
    timeframe_ns: int,
    start_ns: int = START_NS,
    quote_fee_ppm: int = 0,
) -> Market:
    """Return a made-up market of 1 to `BARS_MAX` bars from the first that begins at `start_ns` or later."""
    assert 1 <= bars <= BARS_MAX
    raw = np.random.PCG64(seed).random_raw(bars * (MOVES + 1))
    chances = (raw >> np.uint64(1)).astype(np.int64).reshape(bars, MOVES + 1)
    columns = np.empty((5, bars), np.int64)
    fill_columns(chances, columns, PRICE_TICKS)
    begin_ns = int(grid_start(np.array([start_ns + timeframe_ns - 1], np.int64), timeframe_ns)[0])
    candles = Candles(begin_ns + timeframe_ns * np.arange(bars, dtype=np.int64), *columns)
    instrument = make_instrument(symbol, PRICE_SCALE, QUANTITY_SCALE, quote_fee_ppm=quote_fee_ppm)
    nothing = np.zeros(0, np.int64)
    return Market(instrument, timeframe_ns, candles, nothing, nothing)


@kernel
def fill_columns(chances: Ints, columns: Ints, price_ticks: int) -> None:
    """Fill open, high, low, close and volume, `columns` of shape (5, n), with a walk that begins at `price_ticks`.

    `chances` has shape (n, MOVES + 1), each of 63 random bits.
    """
    lowest = max(1, price_ticks // PRICE_RANGE)
    highest = price_ticks * PRICE_RANGE
    price = price_ticks
    trend_ppm = 0
    size_ppm = 200
    for at in range(len(chances)):
        phase = chances[at, MOVES]
        if phase % PHASE_BARS == 0:
            trend_ppm = ((phase >> 10) % 31 - 15) * MOVES
            size_ppm = 60 << (phase >> 20) % 4
        opens = high = low = price
        way = 0
        for move in range(MOVES):
            bits = chances[at, move]
            # Three even numbers of 16 bits, summed: about normal, of mean 0 and a deviation of 1.
            bell = 2 * ((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF)) - 3 * 0xFFFF
            step_ppm = (bell * size_ppm + 0x8000 >> 16) + trend_ppm // MOVES
            change = (price * step_ppm + _PPM // 2) // _PPM
            price = min(max(price + change, lowest), highest)
            way += abs(step_ppm)
            high = max(high, price)
            low = min(low, price)
        columns[0, at] = opens
        columns[1, at] = high
        columns[2, at] = low
        columns[3, at] = price
        columns[4, at] = 1 + (way + 1) * ((phase >> 30) % 4_096 + 256)
