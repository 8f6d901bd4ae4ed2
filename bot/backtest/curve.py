"""One pass over an equity curve: the sums that its metrics are made of, its drawdowns and its days.

A year of minutes is half a million steps, and a backtest takes milliseconds: so everything here is one kernel.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.core.jit import kernel
from bot.strategies.advice import Floats, Ints

_DAY_NS: Final = 86_400_000_000_000

# Sums of the pass.
_TOTAL: Final = 0
_SQUARES: Final = 1
_GAINS: Final = 2
_LOSSES: Final = 3
_DOWNSIDE: Final = 4
_ULCER: Final = 5
_DEEPEST: Final = 6
_EQUITY: Final = 7
_EXPOSURE: Final = 8
_NUMBERS: Final = 9
# And whole numbers.
_PEAK: Final = 0
_TROUGH: Final = 1
_RECOVERY: Final = 2
_LONGEST: Final = 3
_HELD: Final = 4
_WHOLES: Final = 5


class Curve(NamedTuple):
    """What one pass over the curve finds; r is the return of a step, the first one against the starting cash.

    A return is 0 where the equity before is not above 0.
    """

    steps: int
    mean: float
    """Of r."""
    variance: float | None
    """Of r, ddof=1; None with fewer than 2 steps."""
    squares_mean: float
    gains: float
    """Sum of max(r, 0)."""
    losses: float
    """Sum of max(-r, 0)."""
    downside_mean: float
    """Mean of min(r, 0) squared."""
    ulcer_index: float
    max_drawdown: float
    """Of the running peak, which begins with the starting cash."""
    peak_step: int | None
    """Index of the step that the deepest drawdown fell from; 0 if that is the starting cash; None without one."""
    trough_step: int | None
    recovery_step: int | None
    """None without a drawdown, and while it lasts."""
    longest_ns: int
    """Longest time under water."""
    held_steps: int
    """Steps with a position."""
    equity_mean: float
    exposure_mean: float
    day_ns: Ints
    """Start of each UTC day that has a step."""
    day_equity: Floats
    """Equity after the last step of each."""
    day_returns: Floats
    """Against the day with steps before; the first against the starting cash."""


def equity_curve(time_ns: Ints, equity: Floats, exposure: Floats, cash: float) -> Curve:
    """Return what one pass finds; three columns of shape (n,), n >= 1, and the starting cash > 0."""
    steps = len(equity)
    numbers, wholes = np.zeros(_NUMBERS), np.full(_WHOLES, -1, np.int64)
    _returns(equity, exposure, cash, numbers, wholes)
    _drawdowns(time_ns, equity, cash, numbers, wholes)
    day_ns, day_equity = _days(time_ns, equity)
    total, squares = float(numbers[_TOTAL]), float(numbers[_SQUARES])
    mean = total / steps
    before = np.concatenate(([cash], day_equity[:-1]))
    return Curve(
        steps=steps,
        mean=mean,
        variance=max(0.0, squares - total * mean) / (steps - 1) if steps > 1 else None,
        squares_mean=squares / steps,
        gains=float(numbers[_GAINS]),
        losses=float(numbers[_LOSSES]),
        downside_mean=float(numbers[_DOWNSIDE]) / steps,
        ulcer_index=(float(numbers[_ULCER]) / steps) ** 0.5,
        max_drawdown=float(numbers[_DEEPEST]),
        peak_step=_step(wholes[_PEAK]),
        trough_step=_step(wholes[_TROUGH]),
        recovery_step=_step(wholes[_RECOVERY]),
        longest_ns=int(wholes[_LONGEST]),
        held_steps=int(wholes[_HELD]),
        equity_mean=float(numbers[_EQUITY]) / steps,
        exposure_mean=float(numbers[_EXPOSURE]) / steps,
        day_ns=day_ns,
        day_equity=day_equity,
        day_returns=np.divide(day_equity - before, before, out=np.zeros(len(before)), where=before > 0),
    )


def median_spacing_ns(time_ns: Ints, timeframe_ns: int) -> float:
    """Return the median distance between steps; of a single one its own length."""
    if len(time_ns) < 2:
        return float(timeframe_ns)
    if 2 * _count_of(time_ns, timeframe_ns) > len(time_ns) - 1:  # more than half are: then so is the median
        return float(timeframe_ns)
    return float(np.median(np.diff(time_ns)))


def _step(value: np.int64) -> int | None:
    return int(value) if value >= 0 else None


@kernel
def _returns(equity: Floats, exposure: Floats, cash: float, numbers: Floats, wholes: Ints) -> None:
    """Sum up returns, equity and exposure."""
    total = squares = gains = losses = downside = equities = exposures = 0.0
    held = 0
    before = cash
    for i in range(len(equity)):
        now = equity[i]
        if now != before:  # a flat stretch costs next to nothing
            r = (now - before) / before if before > 0.0 else 0.0
            gain, loss = max(r, 0.0), max(-r, 0.0)
            total += r
            squares += r * r
            gains += gain
            losses += loss
            downside += loss * loss
            before = now
        equities += now
        exposures += exposure[i]
        held += exposure[i] > 0.0
    numbers[_TOTAL], numbers[_SQUARES], numbers[_GAINS], numbers[_LOSSES] = total, squares, gains, losses
    numbers[_DOWNSIDE], numbers[_EQUITY], numbers[_EXPOSURE] = downside, equities, exposures
    wholes[_HELD] = held


@kernel
def _drawdowns(time_ns: Ints, equity: Floats, cash: float, numbers: Floats, wholes: Ints) -> None:
    """Find the deepest drawdown and the longest, and the sum of squares of all of them.

    A stretch under water is measured at its end, by its lowest equity: one division instead of one a step.
    """
    peak, peak_step = cash, 0
    lowest, lowest_step = cash, 0
    squares = deepest = ulcer = 0.0
    longest = 0
    steps = len(equity)
    for i in range(steps):
        now = equity[i]
        if now < peak:
            short = peak - now
            squares += short * short
            if now < lowest:
                lowest, lowest_step = now, i
        if now >= peak or i == steps - 1:
            if lowest < peak:
                depth = 1.0 - lowest / peak
                ulcer += squares / (peak * peak)
                longest = max(longest, time_ns[i] - time_ns[peak_step])
                if depth > deepest:
                    deepest = depth
                    wholes[_PEAK], wholes[_TROUGH] = peak_step, lowest_step
                    wholes[_RECOVERY] = i if now >= peak else -1
            peak, peak_step = now, i
            lowest, squares = now, 0.0
    numbers[_ULCER], numbers[_DEEPEST] = ulcer, deepest
    wholes[_LONGEST] = longest


def _days(time_ns: Ints, equity: Floats) -> tuple[Ints, Floats]:
    """Return the start and the last equity of each UTC day that has a step."""
    first, last = int(time_ns[0]) // _DAY_NS, int(time_ns[-1]) // _DAY_NS
    day_ns = np.arange(first, last + 1, dtype=np.int64) * _DAY_NS
    ends = np.searchsorted(time_ns, day_ns + _DAY_NS)
    has_step = np.diff(ends, prepend=0) > 0
    return day_ns[has_step], equity[ends[has_step] - 1]


@kernel
def _count_of(time_ns: Ints, gap_ns: int) -> int:
    """Return how many steps come exactly `gap_ns` after the one before."""
    count = 0
    for i in range(1, len(time_ns)):
        count += time_ns[i] - time_ns[i - 1] == gap_ns
    return count
