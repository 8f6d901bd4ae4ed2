"""Walk-forward: choose parameters on one stretch of time, trade the next with them, and stitch what came of it.

A window's choice is made of bars that ended before its test begins, and of nothing else. Before either stretch a
strategy hears some bars to warm up, and cannot trade in them: what it wished there is forgotten, and it stays flat
until it wishes anew. A test begins without a position, with the capital that the test before left; what it still
holds at its end is valued at its last close, and the next test begins in cash.
Source: Pardo, "The Evaluation and Optimization of Trading Strategies", 2nd edition, 2008, chapter 11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.dressed import DecidesFrom, Sharing
from bot.backtest.evaluators import Make, RunEvaluator, Simulate, row_of
from bot.backtest.space import Draw, Point, Value
from bot.backtest.sweep import Progress, Watch, run_sweep
from bot.backtest.sweep_table import Goal
from bot.core.instrument import ATOMS
from bot.errors import SettingsError
from bot.strategies.advice import Candles, Definition, Floats, Ints, Market


class Window(NamedTuple):
    """One step of the walk; times in nanoseconds, ends not included."""

    train_start_ns: int
    test_start_ns: int
    """Where training ends, too."""
    test_end_ns: int


class Step(NamedTuple):
    """What came of one window."""

    window: Window
    point: Point | None
    """The parameters chosen; None when no point made enough trades, and then the test is spent in cash."""
    train: tuple[float, ...]
    """Metrics of the choice in training, NaN without one."""
    test: tuple[float, ...]
    """Its metrics in the test."""
    efficiency: float
    """Return a unit of time out of sample over that in sample; NaN where the latter is not above 0."""
    trials: int
    """Points that were run to make the choice."""


class Walk(NamedTuple):
    """A whole walk."""

    names: tuple[str, ...]
    metrics: tuple[str, ...]
    steps: list[Step]
    time_ns: Ints
    """Of all tests, in order."""
    equity: Floats
    """After each of them, capital carried over; shape of `time_ns`."""
    cash: float
    """At the start."""
    is_complete: bool

    @property
    def efficiency(self) -> float:
        """Return the mean return a unit of time of all tests over that of all trainings; NaN if that is not above 0."""
        spans = [step for step in self.steps if step.point is not None]
        place = self.metrics.index("total_return")
        inside = sum(step.train[place] / (step.window.test_start_ns - step.window.train_start_ns) for step in spans)
        outside = sum(step.test[place] / (step.window.test_end_ns - step.window.test_start_ns) for step in spans)
        return outside / inside if inside > 0 else np.nan


class WalkPlan(NamedTuple):
    """What is walked, and how a choice is made."""

    make: Make
    simulate: Simulate
    markets: Sequence[Market]
    terms: Terms
    draw: Callable[[], Draw]
    """Begins the same draw anew for each window."""
    metric: str
    """What makes a point the best, a name in `METRICS`."""
    goal: Goal | None = None
    trades_min: int = 1
    """A point with fewer trades in training is not chosen."""
    shown: tuple[str, ...] = ("total_return", "sharpe", "max_drawdown", "trades")
    """Further metrics in the table."""
    threads: int = 2


def windows(start_ns: int, end_ns: int, *, train_ns: int, test_ns: int, is_anchored: bool = False) -> list[Window]:
    """Return the windows whose tests lie one after the other in `start_ns` to `end_ns`; the last one may be shorter.

    Anchored training always begins at `start_ns`; rolling training is always `train_ns` long.

    Raises:
        SettingsError: a length is not above 0, or there is no room for training and some test.

    """
    if train_ns <= 0 or test_ns <= 0:
        raise SettingsError(f"training of {train_ns} ns and tests of {test_ns} ns; both must be above 0")
    if start_ns + train_ns >= end_ns:
        raise SettingsError(f"training of {train_ns} ns leaves nothing to test of the {end_ns - start_ns} ns of data")
    made: list[Window] = []
    for test_start_ns in range(start_ns + train_ns, end_ns, test_ns):
        train_start_ns = start_ns if is_anchored else test_start_ns - train_ns
        made.append(Window(train_start_ns, test_start_ns, min(test_start_ns + test_ns, end_ns)))
    return made


def walk_forward(
    plan: WalkPlan,
    steps: Sequence[Window],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Walk:
    """Walk the windows in order. Progress counts the points of all of them."""
    metrics = tuple(dict.fromkeys(("total_return", "trades", plan.metric, *plan.shown)))
    warm_up_ns = _warm_up_ns(plan)
    cash_atoms = plan.terms.cash_atoms
    made: list[Step] = []
    times: list[Ints] = []
    curves: list[Floats] = []
    for number, window in enumerate(steps):

        def shift(now: Progress, number: int = number) -> None:
            progress(now._replace(done=number * now.total + now.done, total=len(steps) * now.total))

        watch = Watch(plan.metric, plan.goal, shift, is_cancelled)
        chosen = _choose(plan, window, warm_up_ns, metrics, watch)
        if chosen is None:
            break
        point, train, trials = chosen
        test, time_ns, equity = _test(plan, window, warm_up_ns, point, metrics, cash_atoms)
        made.append(Step(window, point, train, test, _efficiency(window, train[0], test[0]), trials))
        times.append(time_ns)
        curves.append(equity)
        if point is not None and len(equity):
            cash_atoms = max(0, round(float(equity[-1]) * ATOMS))
    return Walk(
        names=plan.draw().space.names,
        metrics=metrics,
        steps=made,
        time_ns=np.concatenate([np.zeros(0, np.int64), *times]),
        equity=np.concatenate([np.zeros(0), *curves]),
        cash=plan.terms.cash_atoms / ATOMS,
        is_complete=len(made) == len(steps),
    )


def _warm_up_ns(plan: WalkPlan) -> int:
    """Return the longest that any strategy of the draw listens before its first advice, and a bar to align."""
    longest_ns = 0
    draw = plan.draw()
    for point in draw:
        try:
            definition = plan.make(draw.space.named(point))
        except SettingsError:
            continue
        longest_ns = max(longest_ns, (definition.lookback_bars + 1) * definition.timeframe_ns)
    return longest_ns


def _choose(
    plan: WalkPlan, window: Window, warm_up_ns: int, metrics: tuple[str, ...], watch: Watch
) -> tuple[Point | None, tuple[float, ...], int] | None:
    """Return the best point in training, its metrics and how many were run; None when it was cancelled."""
    nothing = (np.nan,) * len(metrics)
    stretch = _Stretch(plan, warm_up_ns, window.train_start_ns, window.test_start_ns)
    if not stretch.has_bars:
        return None, nothing, 0
    evaluator = RunEvaluator(stretch.make, stretch.simulate, stretch.markets, plan.terms, metrics, plan.threads)
    table = run_sweep(evaluator, plan.draw(), watch=watch)
    if not table.is_complete:
        return None
    places = table.ranked(plan.metric, goal=plan.goal, trades_min=plan.trades_min)
    if not places:
        return None, nothing, len(table.points)
    return table.points[places[0]], tuple(table.values[places[0]].tolist()), len(table.points)


def _test(
    plan: WalkPlan,
    window: Window,
    warm_up_ns: int,
    point: Point | None,
    metrics: tuple[str, ...],
    cash_atoms: int,
) -> tuple[tuple[float, ...], Ints, Floats]:
    """Return the metrics of the choice out of sample, and its equity at each step."""
    stretch = _Stretch(plan, warm_up_ns, window.test_start_ns, window.test_end_ns)
    if point is None or cash_atoms <= 0 or not stretch.has_bars:
        return (np.nan,) * len(metrics), stretch.time_ns, np.full(len(stretch.time_ns), cash_atoms / ATOMS)
    terms = msgspec.structs.replace(plan.terms, cash_atoms=cash_atoms)
    outcome = stretch.simulate(Run(stretch.make(plan.draw().space.named(point)), stretch.markets, terms))
    return row_of(outcome, stretch.markets, metrics), outcome.time_ns, outcome.equity


def _efficiency(window: Window, inside: float, outside: float) -> float:
    if not inside > 0:
        return np.nan
    train_ns, test_ns = window.test_start_ns - window.train_start_ns, window.test_end_ns - window.test_start_ns
    return outside / test_ns / (inside / train_ns)


class _Stretch:
    """A part of the markets, with bars before it that only warm up."""

    def __init__(self, plan: WalkPlan, warm_up_ns: int, start_ns: int, end_ns: int) -> None:
        self._plan = plan
        self._start_ns = start_ns
        parts = [cut(market, start_ns, end_ns, warm_up_ns) for market in plan.markets]
        self.markets = [part for part in parts if len(part.candles.start_ns)]
        """Without those that have no bar here: they were not listed yet, or are no more."""
        self._share = Sharing(self.markets)
        times = np.unique(np.concatenate([np.zeros(0, np.int64), *(part.candles.start_ns for part in parts)]))
        self.time_ns: Ints = times[times >= start_ns]
        """Steps in the stretch itself."""

    @property
    def has_bars(self) -> bool:
        return len(self.time_ns) > 0

    def make(self, named: Mapping[str, Value]) -> Definition:
        return DecidesFrom(self._share(self._plan.make(named)), self._start_ns)

    def simulate(self, run: Run) -> Outcome:
        return since(self._plan.simulate(run), self._start_ns)


def cut(market: Market, start_ns: int, end_ns: int, warm_up_ns: int) -> Market:
    """Return the bars that start at `start_ns` or later and end by `end_ns`, and those that warm up before them.

    `warm_up_ns` is the length of the bars before, gaps between them not counted.
    """
    candles = market.candles
    first = int(np.searchsorted(candles.start_ns, start_ns))
    last = int(np.searchsorted(candles.start_ns, end_ns - market.timeframe_ns, side="right"))
    first = min(max(0, first - -(-warm_up_ns // market.timeframe_ns)), last)
    begin_ns = int(candles.start_ns[first]) if first < last else end_ns
    funded = slice(*(int(place) for place in np.searchsorted(market.funding_ns, [begin_ns, end_ns])))
    return market._replace(
        candles=Candles(*(column[first:last] for column in candles)),
        funding_ns=market.funding_ns[funded],
        funding_ppb=market.funding_ppb[funded],
    )


def since(outcome: Outcome, start_ns: int) -> Outcome:
    """Return the steps from `start_ns` on of a run that did nothing before."""
    first = int(np.searchsorted(outcome.time_ns, start_ns))
    fills = outcome.fills
    assert not len(fills.step) or fills.step[0] >= first, "a fill in the bars that only warm up"
    return outcome._replace(
        time_ns=outcome.time_ns[first:],
        equity=outcome.equity[first:],
        exposure=outcome.exposure[first:],
        fills=fills._replace(step=fills.step - first),
        funding=outcome.funding[first:] if len(outcome.funding) == len(outcome.time_ns) else outcome.funding,
    )
