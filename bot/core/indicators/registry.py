"""Every indicator by name, and the two ways to run one: a bar at a time, and as a column.

One definition each: `step` takes one bar, `column` gives what the loop of it would; `docs/indicators.md` has formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core.indicators.averages import AVERAGES
from bot.core.indicators.base import Indicator, Param
from bot.core.indicators.oscillators import OSCILLATORS
from bot.core.indicators.ranges import RANGES
from bot.core.indicators.sessions import SESSIONS
from bot.core.indicators.statistics import STATISTICS
from bot.core.indicators.trends import TRENDS
from bot.core.indicators.windows import Floats

__all__ = ["INDICATORS", "Indicator", "Param", "Stepper", "column"]

INDICATORS: Final[Mapping[str, Indicator]] = {
    indicator.name: indicator for indicator in (*AVERAGES, *STATISTICS, *RANGES, *OSCILLATORS, *TRENDS, *SESSIONS)
}


class Stepper:
    """One indicator on one series, a bar at a time."""

    __slots__ = ("_out", "_state", "_step", "_x")

    def __init__(self, indicator: Indicator, params: Sequence[float] = ()) -> None:
        """Start before the first bar; raises as `Indicator.with_defaults` does."""
        self._state = indicator.make_state(indicator.with_defaults(params))
        self._x = np.empty(len(indicator.inputs))
        self._out = np.empty(len(indicator.outputs))
        self._step = indicator.step

    def step(self, *values: float) -> Floats:
        """Take one bar's inputs in their order; return its outputs, in an array that the next call overwrites."""
        self._x[:] = values
        self._step(self._state, self._x, self._out)
        return self._out


def column(
    indicator: Indicator, params: Sequence[float], inputs: Sequence[NDArray[np.float64] | NDArray[np.int64]]
) -> Floats:
    """Return the outputs for every row, shape (n, outputs).

    `inputs` are series of shape (n,) in the order of `indicator.inputs`. Raises as `Indicator.with_defaults` does.
    """
    state = indicator.make_state(indicator.with_defaults(params))
    rows = np.ascontiguousarray(np.column_stack(inputs), dtype=np.float64)
    outputs = np.empty((len(rows), len(indicator.outputs)))
    indicator.column(state, rows, outputs)
    return outputs
