"""What the two sweeps of signal strategies share: a grid of column pairs, walked a block of bars at a time.

A signal strategy holds all it can while one column is above another, long only: it decides at a close and trades at
the next open. Decision j, at the close of bar j, is acted on at bar j + 1, so n bars are n - 1 decisions.

Columns live in blocks small enough for the processor's second-level cache and are shared by all pairs; 56 comparisons
become one word of bits, so that only a turn (into the market or out of it) costs a branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from typing import Final, NamedTuple, Protocol

import numpy as np

from bot.core.jit import kernel
from bot.errors import SettingsError
from bot.strategies.advice import Floats, Ints

WORD: Final = 56
"""Decisions in a word: a multiple of the eight numbers in a vector register that leaves a whole number its sign."""
FULL: Final = (1 << WORD) - 1
_CACHE_BYTES: Final = 384 * 1024
"""Room for the fast columns, which stay in the second-level cache while slow ones pass by."""
_PASSING_BYTES: Final = 4 * 1024 * 1024
"""Room for all columns of a thread, in the third-level cache."""
_WORDS_MAX: Final = 64
_EXACT: Final = 1 << 53
"""Below it every whole number is a float64 of its own."""
_MILLION: Final = 1_000_000


class Columns(Protocol):
    """Numbers at the close of each bar, `count` of them, made a block at a time."""

    @property
    def count(self) -> int:
        """Return how many columns there are."""
        ...

    def fill(self, chosen: Ints, start: int, bars: int, out: Floats) -> None:
        """Write column `chosen[k]` of bars `start` to `start + bars` into `out[k, :bars]`; NaN where it has no value.

        `chosen` has shape (k,), `out` (k, at least `bars`). Called by several threads at once.
        """
        ...


class SmaColumns:
    """Simple moving averages of the last `windows` closes: exact sums of ticks, divided once.

    So each is the very number that `bot.core` gives a bar at a time, and equal averages compare as equal.
    """

    def __init__(self, close: Ints, windows: Ints) -> None:
        if len(windows) and windows.min() < 1:
            raise SettingsError(f"a moving average of {windows.min()} bars; it must have at least 1")
        if len(windows) and len(close) and int(close.max()) * int(windows.max()) >= _EXACT:
            raise SettingsError(
                f"{windows.max()} closes of up to {close.max()} ticks add up to 2**53 or more: use larger ticks"
            )
        self._sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(close, dtype=np.int64)])
        self._windows = np.ascontiguousarray(windows, np.int64)

    @property
    def count(self) -> int:
        """Return how many columns there are."""
        return len(self._windows)

    def fill(self, chosen: Ints, start: int, bars: int, out: Floats) -> None:
        """See `Columns`."""
        _averages(self._sums, self._windows[chosen], start, bars, out)


class MatrixColumns:
    """Columns that were made elsewhere: averages of any kind, bands, the close itself. `values` has shape (k, n)."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    @property
    def count(self) -> int:
        """Return how many columns there are."""
        return len(self._values)

    def fill(self, chosen: Ints, start: int, bars: int, out: Floats) -> None:
        """See `Columns`."""
        out[:, :bars] = self._values[chosen, start : start + bars]


class SignalGrid(NamedTuple):
    """Strategies that hold while column `pairs[i, 0]` of `fast` is above column `pairs[i, 1]` of `slow`."""

    open: Ints
    """Ticks, > 0, shape (n,), n >= 1."""
    close: Ints
    fast: Columns
    slow: Columns
    pairs: Ints
    """Shape (m, 2)."""
    fee_ppm: int
    """Of each fill's value, in quote."""


class Fees(NamedTuple):
    """A fee as three whole numbers, as small as can be, so that prices with fees stay exact."""

    unit: int
    sell: int
    """A sale brings price x sell / unit."""
    buy: int
    """A purchase costs price x buy / unit."""


class Block(NamedTuple):
    """Some decisions, with the columns that one share of the pairs needs."""

    start: int
    bars: int
    fast: Floats
    """Shape (k, whole words); what is after `bars` means nothing."""
    slow: Floats
    rows: Ints
    """Rows of `fast` and `slow` for each pair, shape (m, 2)."""


def fees_of(fee_ppm: int) -> Fees:
    """Return the fee as whole numbers."""
    common = gcd(_MILLION, fee_ppm)
    return Fees(_MILLION // common, (_MILLION - fee_ppm) // common, (_MILLION + fee_ppm) // common)


def check_grid(grid: SignalGrid) -> None:
    """Refuse what the kernels could not compute exactly.

    Raises:
        SettingsError: the fee is out of bounds, or a price is not above 0 or too many ticks.

    """
    assert len(grid.open) == len(grid.close) > 0
    assert grid.pairs.shape == (len(grid.pairs), 2)
    if not 0 <= grid.fee_ppm < _MILLION:
        raise SettingsError(f"a fee of {grid.fee_ppm} ppm; it must be 0 to {_MILLION - 1}")
    lowest = min(int(grid.open.min()), int(grid.close.min()))
    highest = max(int(grid.open.max()), int(grid.close.max()))
    if lowest <= 0:
        raise SettingsError(f"a price of {lowest} ticks; it must be above 0")
    if highest * fees_of(grid.fee_ppm).buy >= _EXACT:
        raise SettingsError(
            f"a price of {highest} ticks with a fee of {grid.fee_ppm} ppm is not exact in 53 bits: use larger ticks"
        )


def blocks(grid: SignalGrid, pairs: Ints) -> Iterator[Block]:
    """Yield all decisions in order, in blocks; their arrays are used again for the next one."""
    fast_used, fast_rows = np.unique(pairs[:, 0], return_inverse=True)
    slow_used, slow_rows = np.unique(pairs[:, 1], return_inverse=True)
    decisions = len(grid.close) - 1
    width = WORD * min(_words(len(fast_used), len(slow_used)), max(1, -(-decisions // WORD)))
    fast, slow = np.empty((len(fast_used), width)), np.empty((len(slow_used), width))
    rows = np.stack([fast_rows, slow_rows], axis=1).astype(np.int64)
    for start in range(0, decisions, width):
        bars = min(width, decisions - start)
        grid.fast.fill(fast_used, start, bars, fast)
        grid.slow.fill(slow_used, start, bars, slow)
        yield Block(start, bars, fast, slow, rows)


def _words(fast: int, slow: int) -> int:
    """Return how many words of so many columns the caches hold."""
    word_bytes = 8 * WORD
    fits = min(_CACHE_BYTES // (word_bytes * max(1, fast)), _PASSING_BYTES // (word_bytes * max(1, fast + slow)))
    return min(max(fits, 2), _WORDS_MAX)


def on_threads(grid: SignalGrid, threads: int, work: Callable[[Ints, Ints], None]) -> None:
    """Call `work(which, pairs)` on each thread with its share of the pairs: `which` are their places in `grid.pairs`.

    Neighbours share their slow column, which then stays in the first-level cache.
    """
    order = np.lexsort((grid.pairs[:, 0], grid.pairs[:, 1])).astype(np.int64)
    shares = [share for share in np.array_split(order, max(1, threads)) if len(share)]
    with ThreadPoolExecutor(max_workers=max(1, len(shares))) as pool:
        for done in [pool.submit(work, share, np.ascontiguousarray(grid.pairs[share])) for share in shares]:
            done.result()


@kernel
def decisions_word(fast: Floats, slow: Floats) -> int:
    """Return bit j set where `fast[j] > slow[j]`; both have shape (WORD,)."""
    bits = 0
    for j in range(WORD):
        bits |= (1 << j) if fast[j] > slow[j] else 0
    return bits


@kernel
def first_turn(turns: int) -> int:
    """Return the place of the lowest bit that is set in `turns`, which is not 0.

    The loop counts the bits below it; compilers know it, and make one instruction of it.
    """
    below = ((turns & -turns) - 1) & FULL
    count = 0
    while below != 0:
        below &= below - 1
        count += 1
    return count


@kernel
def _averages(sums: Ints, windows: Ints, start: int, bars: int, out: Floats) -> None:
    for k in range(len(windows)):
        window = windows[k]
        row = out[k]
        missing = min(max(window - 1 - start, 0), bars)
        for j in range(missing):
            row[j] = np.nan
        values = row[missing:bars]
        until = start + missing + 1
        newest = sums[until : until + len(values)]
        oldest = sums[until - window : until - window + len(values)]
        divisor = float(window)
        for j in range(len(values)):
            values[j] = (newest[j] - oldest[j]) / divisor
