"""The runner of sweeps: points in chunks, on both cores, with a ledger, a progress bar and a way to stop.

It holds a row of numbers for each point and the few runs that are under way, whatever the size of the space. What a
point is run with is an evaluator: `RunEvaluator` for any strategy, `CrossoverEvaluator` for the one family that the
kernels of `signal_sweep.py` know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from bot.backtest.space import Draw, Optimiser, Point, Space
from bot.backtest.sweep_ledger import Ledger, Row
from bot.backtest.sweep_table import Goal, SweepTable, signed


class Evaluator(Protocol):
    """Runs points. The same point always gives the same row."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of a row's numbers."""
        ...

    @property
    def chunk(self) -> int:
        """Return how many points it likes at a time: between two chunks a sweep can be cancelled."""
        ...

    def run(self, space: Space, points: Sequence[Point]) -> Sequence[Row]:
        """Return a row for each point."""
        ...


class Progress(NamedTuple):
    """How far a sweep has come."""

    done: int
    """Points that were looked at, those left out included."""
    total: int
    best_point: Point | None
    """By the metric asked for; None while there is none."""
    best_value: float


class Watch(NamedTuple):
    """Who looks on, and what counts as best for them."""

    metric: str
    goal: Goal | None = None
    progress: Callable[[Progress], None] = lambda _: None
    is_cancelled: Callable[[], bool] = lambda: False


def run_sweep(evaluator: Evaluator, draw: Draw, *, watch: Watch, ledger: Ledger | None = None) -> SweepTable:
    """Run every point of `draw`; those that the ledger knows are taken from there."""
    sweep = _Sweep(evaluator, draw.space, watch, ledger)
    points = iter(draw)
    while chunk := list(islice(points, evaluator.chunk)):
        if watch.is_cancelled():
            return sweep.table(draw.invalid, draw.repeated, is_complete=False)
        sweep.extend(chunk)
        sweep.report(len(sweep.tried) + draw.invalid + draw.repeated, draw.candidates_max)
    sweep.report(draw.candidates_max, draw.candidates_max)
    return sweep.table(draw.invalid, draw.repeated, is_complete=True)


def run_search(
    evaluator: Evaluator,
    optimiser: Optimiser,
    count: int,
    *,
    watch: Watch,
    at_once: int = 4,
    ledger: Ledger | None = None,
) -> SweepTable:
    """Let the optimiser ask for `count` points, `at_once` before it hears what came of them, and run these.

    `watch.metric` is what it looks for. The same seed asks for the same points, with a ledger too, as long as
    `at_once` is the same.
    """
    sweep = _Sweep(evaluator, optimiser.space, watch, ledger)
    while len(sweep.tried) < count:
        if watch.is_cancelled():
            return sweep.table(optimiser.invalid, optimiser.repeated, is_complete=False)
        asked = [optimiser.ask() for _ in range(min(at_once, count - len(sweep.tried)))]
        chunk = [point for point in asked if point is not None]
        if not chunk:
            break
        for point, score in zip(chunk, sweep.extend(chunk), strict=True):
            optimiser.tell(point, score)
        sweep.report(len(sweep.tried), count)
    return sweep.table(optimiser.invalid, optimiser.repeated, is_complete=True)


@dataclass(slots=True)
class _Sweep:
    """What has come of a sweep so far."""

    evaluator: Evaluator
    space: Space
    watch: Watch
    ledger: Ledger | None
    tried: list[Point] = field(default_factory=list[Point])
    rows: list[Row] = field(default_factory=list[Row])
    resumed: int = 0
    best_point: Point | None = None
    best_value: float = np.nan
    _best_score: float = -np.inf

    def extend(self, points: Sequence[Point]) -> list[float]:
        """Run points, or look them up; return the watched metric of each, NaN where there is none."""
        known = {} if self.ledger is None else self.ledger.known
        new = [point for point in points if point not in known]
        self.resumed += len(points) - len(new)
        made: Sequence[Row] = self.evaluator.run(self.space, new) if new else []
        if self.ledger is not None and new:
            self.ledger.append(new, made)
        fresh = dict(zip(new, made, strict=True))
        rows = [fresh[point] if point in fresh else known[point] for point in points]
        self.tried += points
        self.rows += rows
        place = self.evaluator.metrics.index(self.watch.metric)
        values = np.array([np.nan if row is None else row[place] for row in rows])
        for point, value, score in zip(points, values, signed(values, self.watch.metric, self.watch.goal), strict=True):
            if score > self._best_score:
                self._best_score, self.best_value, self.best_point = float(score), float(value), point
        return [float(value) for value in values]

    def report(self, done: int, total: int) -> None:
        self.watch.progress(Progress(done, total, self.best_point, self.best_value))

    def table(self, invalid: int, repeated: int, *, is_complete: bool) -> SweepTable:
        run = [(point, row) for point, row in zip(self.tried, self.rows, strict=True) if row is not None]
        metrics = self.evaluator.metrics
        return SweepTable(
            names=self.space.names,
            metrics=metrics,
            points=[point for point, _ in run],
            values=np.array([row for _, row in run], np.float64).reshape(len(run), len(metrics)),
            invalid=invalid + len(self.tried) - len(run),
            repeated=repeated,
            resumed=self.resumed,
            is_complete=is_complete,
        )
