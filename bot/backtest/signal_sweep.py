"""The sweep of signal strategies: return, trades, wins, drawdown and Sharpe ratio of every pair, in one pass.

Nothing is done for a bar without a turn but its comparison. Sums of returns while a position is held are differences
of prefix sums, and whole words are added up. The drawdown inside a word of bars needs a look only if its highest close
passes the peak or its lowest close the deepest fall so far, and then the word's own summary tells most of it:
max(1 - c[j] / max(peak, c[i <= j])) = max(the word's own drawdown, 1 - its lowest / peak).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.backtest.crossings import (
    FULL,
    WORD,
    Fees,
    SignalGrid,
    blocks,
    check_grid,
    decisions_word,
    fees_of,
    first_turn,
    on_threads,
)
from bot.core.jit import kernel
from bot.strategies.advice import Floats, Ints

# Columns of the table that a turn needs, one row for each bar. Prices are in ticks x `Fees.unit`.
_SELL: Final = 0
"""What a sale at this open brings."""
_SELL_SUM: Final = 1
"""Prefix sum of the returns of holding, up to a sale at this open."""
_SELL_SQUARES: Final = 2
_BUY: Final = 3
"""What one unit of cash buys at this open."""
_BUY_SUM: Final = 4
"""The prefix sum to take away after a purchase at this open."""
_BUY_SQUARES: Final = 5
_COST: Final = 6
"""What a purchase at this open costs."""
_TABLE: Final = 8
"""One more than there are: a row is a line of cache."""

# Summary of a word of bars.
_HIGHEST: Final = 0
_LOWEST: Final = 1
_FALL: Final = 2
"""Deepest fall from a close to a later one, as a fraction."""
_WORD_SUM: Final = 3
"""Sum of the returns of holding through the word."""
_WORD_SQUARES: Final = 4
_SUMMARY: Final = 5

# State of a pair.
_VALUE: Final = 0
"""Cash; coins while a position is held."""
_PEAK: Final = 1
"""Highest equity; while a position is held, the price at which equity would be that."""
_WORST: Final = 2
_SUM: Final = 3
_SQUARES: Final = 4
_ENTRY: Final = 5
"""`_COST` of the last purchase."""
_STATE: Final = 6
_HELD: Final = 0
_ENTRIES: Final = 1
_WINS: Final = 2
_COUNTS: Final = 3


class SignalFigures(NamedTuple):
    """What came of each pair; arrays of shape (m,), in the order of the grid's pairs."""

    total_return: Floats
    """Final equity / cash - 1, a position at the last close."""
    trades: Ints
    """Round trips that ended."""
    wins: Ints
    """Of these, with a profit above 0 after fees."""
    is_open: Ints
    """1 where a trade was left open."""
    max_drawdown: Floats
    """Deepest fall of the equity at closes from its peak, as a fraction of it (0.0 to 1.0)."""
    sharpe: Floats
    """Mean / deviation (ddof=1) of the n returns from close to close, the first against the cash; not annualised.

    NaN where they do not vary; good to 1e-9, relative or absolute. `sharpe` in `bot/backtest/metrics.py` is this x
    sqrt(bars a year).
    """


def signal_sweep(grid: SignalGrid, *, threads: int = 2) -> SignalFigures:
    """Return the figures of every pair.

    Raises:
        SettingsError: the grid cannot be computed exactly.

    """
    check_grid(grid)
    fees = fees_of(grid.fee_ppm)
    numbers, counts = np.zeros((len(grid.pairs), 3)), np.zeros((len(grid.pairs), _COUNTS), np.int64)

    def work(which: Ints, pairs: Ints) -> None:
        numbers[which], counts[which] = _sweep_share(grid, fees, pairs)

    on_threads(grid, threads, work)
    is_open = counts[:, _HELD]
    return SignalFigures(
        total_return=numbers[:, 0],
        trades=counts[:, _ENTRIES] - is_open,
        wins=counts[:, _WINS],
        is_open=is_open,
        max_drawdown=numbers[:, 1],
        sharpe=numbers[:, 2],
    )


def _sweep_share(grid: SignalGrid, fees: Fees, pairs: Ints) -> tuple[Floats, Ints]:
    """Return total return, drawdown and Sharpe ratio of `pairs`, shape (m, 3), and their counts."""
    state, counts = np.zeros((len(pairs), _STATE)), np.zeros((len(pairs), _COUNTS), np.int64)
    state[:, _VALUE] = state[:, _PEAK] = 1.0
    closes, table, summary = np.empty(0), np.empty((0, _TABLE)), np.empty((0, _SUMMARY))
    for start, bars, fast, slow, rows in blocks(grid, pairs):
        if not len(table):
            width = fast.shape[1]
            closes, table, summary = np.empty(width), np.empty((width, _TABLE)), np.empty((width // WORD, _SUMMARY))
        # One bar more in front: the first return of the block is from the close before it.
        span = slice(start, start + bars + 1)
        _tabulate(grid.open[span], grid.close[span], fees.unit, fees.sell, fees.buy, closes, table, summary)
        _sweep_block(fast, slow, rows, closes[:bars], table, summary, state, counts)
    final = float(grid.close[-1]) * fees.unit
    equity = state[:, _VALUE] * np.where(counts[:, _HELD] == 1, final, 1.0)
    sharpe = _sharpe(state[:, _SUM], state[:, _SQUARES], len(grid.close))
    return np.stack([equity - 1.0, state[:, _WORST], sharpe], axis=1), counts


def _sharpe(sums: Floats, squares: Floats, returns: int) -> Floats:
    if returns < 2:
        return np.full(len(sums), np.nan)
    means = sums / returns
    variances = (squares - sums * means) / (returns - 1)
    # Returns that are all the same leave a rest of rounding.
    varies = variances > 1e-12 * squares / returns
    return np.divide(means, np.sqrt(np.where(varies, variances, 1.0)), where=varies, out=np.full(len(sums), np.nan))


@kernel
def _tabulate(
    opens: Ints, ticks: Ints, unit: int, sell: int, buy: int, closes: Floats, table: Floats, summary: Floats
) -> None:
    """Fill the closes, the table and the summaries of one block.

    Bar j of the block is element j + 1 of `opens` and `ticks`. Prefix sums begin anew with each word, so that they
    stay as precise as what they add up.
    """
    total = squares = highest = lowest = fall = 0.0
    bars = len(ticks) - 1
    for j in range(bars):
        before, close = float(ticks[j] * unit), float(ticks[j + 1] * unit)
        brings, costs = float(opens[j + 1] * sell), float(opens[j + 1] * buy)
        row = table[j]
        if j % WORD == 0:
            highest, lowest, fall = close, close, 0.0
            total = squares = 0.0
        last = brings / before - 1.0
        row[_SELL], row[_SELL_SUM], row[_SELL_SQUARES] = brings, total + last, squares + last * last
        step = close / before - 1.0
        total += step
        squares += step * step
        first = close / costs - 1.0
        row[_BUY], row[_BUY_SUM], row[_BUY_SQUARES] = 1.0 / costs, total - first, squares - first * first
        row[_COST] = costs
        closes[j] = close
        highest, lowest = max(highest, close), min(lowest, close)
        fall = max(fall, 1.0 - close / highest)
        word = summary[j // WORD]
        word[_HIGHEST], word[_LOWEST], word[_FALL] = highest, lowest, fall
        word[_WORD_SUM], word[_WORD_SQUARES] = total, squares


@kernel
def _sweep_block(
    fast: Floats,
    slow: Floats,
    rows: Ints,
    closes: Floats,
    table: Floats,
    summary: Floats,
    state: Floats,
    counts: Ints,
) -> None:
    """Go on with each pair through one block."""
    bars = len(closes)
    words = (bars + WORD - 1) // WORD
    for p in range(len(rows)):
        above, below = fast[rows[p, 0]], slow[rows[p, 1]]
        mine, count = state[p], counts[p]
        value, peak, worst, entry = mine[_VALUE], mine[_PEAK], mine[_WORST], mine[_ENTRY]
        total, squares = mine[_SUM], mine[_SQUARES]
        held, entries, wins = count[_HELD], count[_ENTRIES], count[_WINS]
        floor = peak * (1.0 - worst)  # a close below it is a deeper fall
        for w in range(words):
            first = w * WORD
            bits = decisions_word(above[first : first + WORD], below[first : first + WORD])
            turns = (bits ^ (bits << 1 | held)) & FULL
            until = min(first + WORD, bars)
            if until - first < WORD:
                turns &= (1 << (until - first)) - 1
            highest, lowest = summary[w, _HIGHEST], summary[w, _LOWEST]
            if turns == 0:
                if held == 0:
                    continue
                total += summary[w, _WORD_SUM]
                squares += summary[w, _WORD_SQUARES]
                if highest > peak or lowest < floor:
                    worst = max(worst, summary[w, _FALL], 1.0 - lowest / peak)
                    peak = max(peak, highest)
                    floor = peak * (1.0 - worst)
                continue
            since = first
            while turns != 0:
                at = first + first_turn(turns)
                turns &= turns - 1
                if held != 0:
                    if highest > peak or lowest < floor:
                        peak, worst = _deepest_fall(closes, since, at, peak, worst)
                    peak *= value
                    value *= table[at, _SELL]
                    total += table[at, _SELL_SUM]
                    squares += table[at, _SELL_SQUARES]
                    wins += 1 if table[at, _SELL] > entry else 0
                    if value > peak:
                        peak = value
                    elif value < peak * (1.0 - worst):
                        worst = 1.0 - value / peak
                    held = 0
                else:
                    peak /= value * table[at, _BUY]
                    value *= table[at, _BUY]
                    total -= table[at, _BUY_SUM]
                    squares -= table[at, _BUY_SQUARES]
                    entry = table[at, _COST]
                    entries += 1
                    floor = peak * (1.0 - worst)
                    since = at
                    held = 1
            if held == 0:
                continue
            total += summary[w, _WORD_SUM]
            squares += summary[w, _WORD_SQUARES]
            if highest > peak or lowest < floor:
                peak, worst = _deepest_fall(closes, since, until, peak, worst)
                floor = peak * (1.0 - worst)
        mine[_VALUE], mine[_PEAK], mine[_WORST], mine[_ENTRY] = value, peak, worst, entry
        mine[_SUM], mine[_SQUARES] = total, squares
        count[_HELD], count[_ENTRIES], count[_WINS] = held, entries, wins


@kernel
def _deepest_fall(closes: Floats, since: int, until: int, peak: float, worst: float) -> tuple[float, float]:
    """Return the peak and the deepest fall after `closes[since:until]`."""
    floor = peak * (1.0 - worst)
    for j in range(since, until):
        close = closes[j]
        if close > peak:
            peak = close
            floor = peak * (1.0 - worst)
        elif close < floor:
            worst = 1.0 - close / peak
            floor = close
    return peak, worst
