"""The fastest sweep of signal strategies: equity and trades only, to see which parameters deserve a closer look."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.backtest.crossings import (
    FULL,
    WORD,
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

_SELL: Final = 0
_BUY: Final = 1


class Screened(NamedTuple):
    """What came of each pair; arrays of shape (m,), in the order of the grid's pairs."""

    total_return: Floats
    """Final equity / cash - 1, a position at the last close."""
    trades: Ints
    """Round trips that ended."""
    is_open: Ints
    """1 where one was left open."""


def screen(grid: SignalGrid, *, threads: int = 2) -> Screened:
    """Return equity and trades of every pair.

    Raises:
        SettingsError: the grid cannot be computed exactly.

    """
    check_grid(grid)
    fees = fees_of(grid.fee_ppm)
    opens = grid.open[1:].astype(np.float64)
    factors = np.stack([opens * fees.sell, 1.0 / (opens * fees.buy)], axis=1)
    value = np.ones(len(grid.pairs))
    counts = np.zeros((2, len(grid.pairs)), np.int64)

    def work(which: Ints, pairs: Ints) -> None:
        own_value, held, entries = np.ones(len(pairs)), np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
        for start, bars, fast, slow, rows in blocks(grid, pairs):
            _screen_block(fast, slow, rows, bars, factors[start : start + bars], own_value, held, entries)
        final = float(grid.close[-1]) * fees.unit
        value[which] = own_value * np.where(held == 1, final, 1.0)
        counts[0, which], counts[1, which] = entries - held, held

    on_threads(grid, threads, work)
    return Screened(value - 1.0, counts[0], counts[1])


@kernel
def _screen_block(
    fast: Floats, slow: Floats, rows: Ints, bars: int, factors: Floats, value: Floats, held: Ints, entries: Ints
) -> None:
    """Go on with each pair; `value` is its cash, or while it holds, its coins."""
    words = (bars + WORD - 1) // WORD
    for p in range(len(rows)):
        above, below = fast[rows[p, 0]], slow[rows[p, 1]]
        worth, holds, entered = value[p], held[p], entries[p]
        for w in range(words):
            first = w * WORD
            bits = decisions_word(above[first : first + WORD], below[first : first + WORD])
            turns = (bits ^ (bits << 1 | holds)) & FULL
            holds = bits >> (WORD - 1)
            if bars - first < WORD:
                turns &= (1 << (bars - first)) - 1
                holds = bits >> (bars - first - 1) & 1
            while turns != 0:
                turn = first_turn(turns)
                turns &= turns - 1
                enters = bits >> turn & 1
                worth *= factors[first + turn, enters]
                entered += enters
        value[p], held[p], entries[p] = worth, holds, entered
