"""Sizes and distances as whole numbers: one rounding, for single values and for columns.

The nearest whole number, halves to the even one. What is not a number above 0 becomes 0: who has no size, or no stop
where one was asked for, does not enter.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bot.core import tactics
from bot.core.instrument import Instrument
from bot.core.jit import bare_kernel
from bot.strategies.advice import Floats, Ints
from bot.strategies.rules.plan import Amount, Unit

WHOLE_MAX: Final = 1e15
SHARE_MAX: Final = 1e7
"""Millionths of equity, or of a price: 1000 %."""
_MILLION: Final = 1e6
_MILLIONTHS_A_PERCENT: Final = 1e4

SIZINGS: Final[dict[Unit, int]] = {
    "lots": tactics.SIZE_LOTS,
    "quantity": tactics.SIZE_LOTS,
    "quote": tactics.SIZE_QUOTE,
    "percent": tactics.SIZE_SHARE,
}


def factor_of(unit: Unit, instrument: Instrument) -> float:
    """Return how many whole steps one of `unit` is: lots, ticks, or millionths."""
    match unit:
        case "quantity":
            return float(10**instrument.quantity_scale)
        case "price":
            return float(10**instrument.price_scale)
        case "quote":
            return _MILLION
        case "percent":
            return _MILLIONTHS_A_PERCENT
        case "lots" | "ticks":
            return 1.0


def whole(value: float, amount: Amount, instrument: Instrument) -> int:
    """Return one size, or one distance as `bot/core/tactics.py` reads it; 0 for what is no number above 0."""
    steps = int(_steps(value, factor_of(amount.unit, instrument), _low(amount), _high(amount)))
    return -steps if _is_millionths(amount) else steps


def whole_column(values: Floats | float | bool, amount: Amount, instrument: Instrument) -> Ints:
    """Return the same for a column, shape (n,), or (1,) for a constant."""
    if not isinstance(values, np.ndarray):
        return np.array([whole(float(values), amount, instrument)], np.int64)
    steps = np.empty(len(values), np.int64)
    sign = -1 if _is_millionths(amount) else 1
    _fill(values, factor_of(amount.unit, instrument), _low(amount), _high(amount), sign, steps)
    return steps


@bare_kernel
def _steps(value: float, factor: float, low: float, high: float) -> float:
    """Return a whole number of steps from `low` to `high`, 0.0 for no number above 0."""
    if not value > 0.0:
        return 0.0
    return max(np.rint(min(value * factor, high)), low)


@bare_kernel
def _fill(values: Floats, factor: float, low: float, high: float, sign: int, steps: Ints) -> None:
    for row in range(len(values)):
        steps[row] = sign * int(_steps(values[row], factor, low, high))


def _is_millionths(amount: Amount) -> bool:
    return amount.is_distance and amount.unit == "percent"


def _low(amount: Amount) -> float:
    """Return the least number of steps: a distance is never none."""
    return 1.0 if amount.is_distance else 0.0


def fixed_distance(distance: tuple[float, Unit] | None) -> int:
    """Return a distance that never changes, in ticks or percent; 0 for none."""
    if distance is None or distance[0] == 0.0:
        return 0
    number, unit = distance
    if unit == "percent":
        return -max(1, round(number * _MILLIONTHS_A_PERCENT))
    return max(1, round(number))


def _high(amount: Amount) -> float:
    return SHARE_MAX if amount.unit == "percent" else WHOLE_MAX
