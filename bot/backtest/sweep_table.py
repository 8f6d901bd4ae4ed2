"""What came of a sweep: a row of metrics for each point, the best of them, and the heat map of two parameters."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from bot.backtest.space import Point, Value
from bot.errors import SettingsError
from bot.strategies.advice import Floats

Goal = Literal["highest", "lowest"]
Others = Literal["best", "median"]
LOWER_IS_BETTER: Final = frozenset(
    {
        "max_drawdown",
        "max_drawdown_days",
        "longest_drawdown_days",
        "ulcer_index",
        "volatility",
        "losing_trades",
        "losing_streak",
        "fees",
        "slippage",
        "liquidations",
        "turnover",
    }
)


class SweepTable(NamedTuple):
    """Points and what came of them, in the order they were tried."""

    names: tuple[str, ...]
    """Of the parameters, in the order of a point's values."""
    metrics: tuple[str, ...]
    points: list[Point]
    values: Floats
    """Shape (points, metrics); NaN where a metric is not defined."""
    invalid: int
    """Points that were not run: against a constraint, or refused by the strategy."""
    repeated: int
    """Points drawn again, and not run again."""
    resumed: int
    """Of the points, how many were read from the ledger."""
    is_complete: bool
    """False when it was cancelled."""

    def column(self, metric: str) -> Floats:
        """Return one metric of all points, shape (points,).

        Raises:
            SettingsError: the sweep has no such metric.

        """
        if metric not in self.metrics:
            raise SettingsError(f"the sweep has no metric {metric}; it has: {', '.join(self.metrics)}")
        return self.values[:, self.metrics.index(metric)]

    def ranked(self, metric: str, *, goal: Goal | None = None, trades_min: int = 0) -> list[int]:
        """Return the places of points, best first; those without the metric or with too few trades are left out.

        Of equals the one tried first is first, so that the choice never depends on the machine. `goal` is that of
        the metric unless it is given; `trades_min` counts the metric `trades`.
        """
        scores = signed(self.column(metric), metric, goal)
        fits = np.isfinite(scores)
        if trades_min > 0:
            fits &= self.column("trades") >= trades_min
        order = np.argsort(-scores, kind="stable")
        return [int(place) for place in order if fits[place]]


class HeatMap(NamedTuple):
    """One metric over two parameters."""

    metric: str
    x_name: str
    y_name: str
    x: list[Value]
    y: list[Value]
    cells: Floats
    """Shape (y, x); NaN where no point was run."""


def signed(scores: Floats, metric: str, goal: Goal | None = None) -> Floats:
    """Return the scores so that more is better; by default as it is with this metric."""
    goal = goal or ("lowest" if metric in LOWER_IS_BETTER else "highest")
    return scores if goal == "highest" else -scores


def heat_map(table: SweepTable, x_name: str, y_name: str, metric: str, *, others: Others = "best") -> HeatMap:
    """Return the metric over two parameters; of the points in one cell the best or the median value.

    Raises:
        SettingsError: there is no such parameter or metric.

    """
    for name in (x_name, y_name):
        if name not in table.names:
            raise SettingsError(f"the sweep has no parameter {name}; it has: {', '.join(table.names)}")
    scores = table.column(metric)
    x_place, y_place = table.names.index(x_name), table.names.index(y_name)
    x, y = _values(table, x_place), _values(table, y_place)
    cells = np.full((len(y), len(x)), np.nan)
    x_of, y_of = {value: i for i, value in enumerate(x)}, {value: i for i, value in enumerate(y)}
    members: dict[tuple[int, int], list[float]] = {}
    for point, score in zip(table.points, scores, strict=True):
        if np.isfinite(score):
            members.setdefault((y_of[point[y_place]], x_of[point[x_place]]), []).append(float(score))
    for cell, found in members.items():
        values = np.array(found)
        cells[cell] = np.median(values) if others == "median" else values[np.argmax(signed(values, metric))]
    return HeatMap(metric, x_name, y_name, x, y, cells)


def _values(table: SweepTable, place: int) -> list[Value]:
    """Return the values of one parameter: numbers rising, words in the order they came in."""
    values = list(dict.fromkeys(point[place] for point in table.points))
    numbers = [value for value in values if not isinstance(value, str)]
    return [*sorted(numbers), *(value for value in values if isinstance(value, str))]
