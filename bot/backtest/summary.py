"""What one pass over an equity curve says of it, a block of steps at a time: for sweeps, which keep no curves.

The same numbers as `bot/backtest/curve.py` finds on a whole curve.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.core.jit import kernel
from bot.strategies.advice import Floats

LAST: Final = 0
PEAK: Final = 1
LOWEST: Final = 2
"""Since the peak."""
DEEPEST: Final = 3
TOTAL: Final = 4
SQUARES: Final = 5
STEPS: Final = 6
SUMS: Final = 7


class Summary(NamedTuple):
    """What came of a curve; a return is that of one step, the first one against the starting cash."""

    final_equity: float
    total_return: float
    """Final equity / cash - 1."""
    max_drawdown: float
    """Of the running peak, which begins with the starting cash: 0.0 to 1.0, and more where equity fell below 0."""
    mean: float
    """Of the returns; one is 0 where the equity before is not above 0."""
    deviation: float
    """Standard deviation of the returns, ddof=1; 0.0 with fewer than 2 steps."""
    variance: float
    """Its square."""
    squares_mean: float
    """Mean of the squares of the returns."""
    steps: int


def new_sums(cash: float) -> Floats:
    """Return the sums before the first step, shape (SUMS,)."""
    sums = np.zeros(SUMS)
    sums[LAST] = sums[PEAK] = sums[LOWEST] = cash
    return sums


@kernel
def add_steps(sums: Floats, equity: Floats) -> None:
    """Go on with the next steps, equity of shape (n,)."""
    last, peak, lowest, deepest = sums[LAST], sums[PEAK], sums[LOWEST], sums[DEEPEST]
    total, squares = sums[TOTAL], sums[SQUARES]
    for i in range(len(equity)):
        now = equity[i]
        if now != last:  # a flat stretch costs next to nothing
            change = (now - last) / last if last > 0.0 else 0.0
            total += change
            squares += change * change
            last = now
            if now >= peak:
                deepest = max(deepest, 1.0 - lowest / peak)
                peak = lowest = now
            elif now < lowest:
                lowest = now
    sums[LAST], sums[PEAK], sums[LOWEST], sums[DEEPEST] = last, peak, lowest, deepest
    sums[TOTAL], sums[SQUARES] = total, squares
    sums[STEPS] += len(equity)


def summed(sums: Floats, cash: float) -> Summary:
    """Return what the sums say; cash > 0."""
    steps = int(sums[STEPS])
    mean = float(sums[TOTAL]) / max(steps, 1)
    variance = max(0.0, float(sums[SQUARES]) - float(sums[TOTAL]) * mean) / (steps - 1) if steps > 1 else 0.0
    return Summary(
        final_equity=float(sums[LAST]),
        total_return=float(sums[LAST]) / cash - 1.0,
        max_drawdown=max(float(sums[DEEPEST]), 1.0 - float(sums[LOWEST] / sums[PEAK])),
        mean=mean,
        deviation=variance**0.5,
        variance=variance,
        squares_mean=float(sums[SQUARES]) / max(steps, 1),
        steps=steps,
    )


def summarise(equity: Floats, cash: float) -> Summary:
    """Return the summary of a whole curve, equity of shape (n,), n >= 1, and the starting cash > 0."""
    sums = new_sums(cash)
    add_steps(sums, equity)
    return summed(sums, cash)
