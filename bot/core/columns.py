"""Columns of advice that are worth a kernel of their own: one pass, without a column for each average."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.errors import SettingsError

Ints = NDArray[np.int64]
Flags = NDArray[np.uint8]

SUM_MAX: Final = 2**62
"""Sums of ticks times the other window stay below it: they are whole numbers, and exact."""


def crossover_flags(close: Ints, fast: int, slow: int) -> Flags:
    """Return what a crossover of two simple moving averages advises, shape of `close`, as flags of `bot.core.tactics`.

    Long is entered at the close at which the fast average is first above the slow one, or with which both are known,
    and left at the one at which it is not any more. Averages are compared as whole numbers, sum x other window.

    Raises:
        SettingsError: windows that are not 0 < fast < slow, or prices too high for them.

    """
    if not 0 < fast < slow:
        raise SettingsError(f"windows of {fast} and {slow} bars: they must be 0 < fast < slow")
    flags = np.zeros(len(close), np.uint8)
    if len(close) < slow:
        return flags
    if int(close.max()) * fast * slow >= SUM_MAX:
        raise SettingsError(f"a price of {close.max()} ticks is too high for windows of {fast} and {slow} bars")
    _crossovers(np.require(close, np.int64, ["C", "W"]), fast, slow, flags)
    return flags


@bare_kernel
def _crossovers(close: Ints, fast: int, slow: int, flags: Flags) -> None:
    """Fill `flags`, which are 0; at least `slow` bars."""
    fast_sum = slow_sum = 0
    for i in range(slow):
        slow_sum += close[i]
        if i >= slow - fast:
            fast_sum += close[i]
    was_above = 1 if fast_sum * slow > slow_sum * fast else 0
    flags[slow - 1] = was_above * tactics.ENTER_LONG
    newest, leaves_fast, leaves_slow = close[slow:], close[slow - fast :], close[: len(close) - slow]
    out = flags[slow:]
    for i in range(len(newest)):
        fast_sum += newest[i] - leaves_fast[i]
        slow_sum += newest[i] - leaves_slow[i]
        is_above = 1 if fast_sum * slow > slow_sum * fast else 0
        # 1 is ENTER_LONG, 2 is EXIT_LONG: no branch, crossings cannot be foretold.
        out[i] = (is_above & ~was_above) | (was_above & ~is_above) << 1
        was_above = is_above
