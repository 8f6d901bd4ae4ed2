"""What `bot sweep` and `bot walk` do, without a terminal: from what was asked to tables, and the report of the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec
import numpy as np

import bot
from bot.backtest import space as spaces
from bot.backtest.base import Outcome, Run
from bot.backtest.curve import equity_curve, median_spacing_ns
from bot.backtest.evaluators import (
    CrossoverEvaluator,
    RecordedEvaluator,
    RunEvaluator,
    SummaryEvaluator,
    crossover_refusal,
)
from bot.backtest.job import Finished, Setup, report_of, simulate
from bot.backtest.metrics import METRICS, SUMMED, YEAR_NS
from bot.backtest.report.document import HeatMap
from bot.backtest.report.manifest import code_hash
from bot.backtest.space import Axis, Draw, Optimiser, Space, Value
from bot.backtest.sweep import Evaluator, Progress, Watch, run_search, run_sweep
from bot.backtest.sweep_ledger import Ledger, inputs_digest, open_ledger
from bot.backtest.sweep_table import LOWER_IS_BETTER, Goal, SweepTable, heat_map
from bot.backtest.trades import round_trips
from bot.backtest.walkforward import Walk, WalkPlan, walk_forward, windows
from bot.config.words import closest_hint
from bot.core.durations import duration_text
from bot.errors import SettingsError
from bot.strategies.advice import Definition
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.definition import RulesSettings
from bot.strategies.rules.document import read_document

if TYPE_CHECKING:
    from bot.backtest.recorded import RecordedSetup

Method = Literal["grid", "random", "sobol", "tpe"]
METRIC: Final = "sharpe"
SHOWN: Final = ("final_equity", "total_return", "sharpe", "max_drawdown", "trades", "win_rate")
"""Metrics of every point, beside the one that is looked for."""
TRIALS: Final = 200
THREADS: Final = 2
DAYS_A_YEAR: Final = 365.25
_CROSSOVER_AXES: Final = ("fast=5..50:5", "slow=20..200:10")
"""What is swept where nothing is said."""


class SearchAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep was asked for, beside its `Setup`."""

    axes: tuple[str, ...] = ()
    """Such as `fast=5..50:5`; a single value fixes a parameter."""
    constraints: tuple[str, ...] = ()
    method: Method = "grid"
    trials: int = TRIALS
    """Points, of every method but the grid."""
    metric: str = METRIC
    goal: Goal | None = None
    """None: as it is with this metric."""
    trades_min: int = 1
    heat: tuple[str, str] | None = None
    """Two parameters: across and down."""
    ledger: Path | None = None
    threads: int = THREADS


class Swept(NamedTuple):
    """What came of a sweep."""

    table: SweepTable
    places: list[int]
    """Of its points, best first; those without the metric or with too few trades are not there."""
    best: Finished | None
    """The best point as a backtest of its own; None where there is none, or the sweep was cut short."""
    heat: HeatMap | None
    is_torn: bool
    """The ledger's last line was cut off, and dropped."""


class Walked(NamedTuple):
    """What came of a walk."""

    walk: Walk
    total_return: float
    max_drawdown: float
    sharpe: float | None
    """Of the steps of all tests, annualised."""


def search_space(setup: Setup | RecordedSetup, ask: SearchAsk) -> Space:
    """Return the parameters to try; those that a strategy proposes where none are given.

    Raises:
        SettingsError: a text describes no parameter, or there is none to try.

    """
    if isinstance(setup, Setup) and setup.chosen.definition(setup.ask.params) is None:
        raise SettingsError(f"{setup.chosen.name}: only the exact engine runs it, so it cannot be swept")
    axes = [spaces.parse_axis(text) for text in ask.axes] or _proposed(setup)
    known = _parameters(setup)
    for axis in axes:
        if known is not None and axis.name not in known:
            raise SettingsError(f"{setup.chosen.name}: has no parameter {axis.name}{closest_hint(axis.name, known)}")
    if not any(len(axis.values) != 1 for axis in axes):
        raise SettingsError("nothing to try: give --param NAME=LOW..HIGH:STEP, or NAME=A,B,C")
    return spaces.make_space(axes, ask.constraints)


def _proposed(setup: Setup | RecordedSetup) -> list[Axis]:
    settings = setup.chosen.settings
    if isinstance(settings, CrossoverSettings):
        return [spaces.parse_axis(text) for text in _CROSSOVER_AXES]
    if isinstance(settings, RulesSettings):
        params = read_document(settings.text, settings.document).params
        return [
            spaces.stepped(each.name, *(Decimal(repr(value)) for value in (each.low, each.high, each.step)))
            for each in params
            if each.step > 0
        ]
    return []


def _parameters(setup: Setup | RecordedSetup) -> Sequence[str] | None:
    """Return the names of the strategy's parameters, or None where only its file knows them."""
    settings = setup.chosen.settings
    if isinstance(settings, RulesSettings):
        return [param.name for param in read_document(settings.text, settings.document).params]
    names = settings.__struct_fields__
    return None if "params" in names else names


def make_draw(space: Space, ask: SearchAsk, seed: int) -> Draw:
    """Return the points of a method that does not learn. Raises SettingsError as the method does, and for `tpe`."""
    match ask.method:
        case "grid":
            return spaces.grid(space)
        case "random":
            return spaces.random(space, ask.trials, seed)
        case "sobol":
            return spaces.sobol(space, ask.trials)
        case "tpe":
            raise SettingsError("--method tpe: a walk begins the same draw anew for each window; take another method")


def run_search_job(
    setup: Setup | RecordedSetup,
    ask: SearchAsk,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Swept:
    """Return what came of a sweep.

    Raises:
        SettingsError: what was asked for makes no sense; names what.

    """
    space = search_space(setup, ask)
    if ask.heat is not None:
        _check_heat(space, ask.heat)
    evaluator = _evaluator(setup, space, ask)
    if ask.trials < 1:
        raise SettingsError(f"--trials {ask.trials}: must be at least 1")
    watch = Watch(ask.metric, ask.goal, progress, is_cancelled)
    with _ledger(setup, space, ask, evaluator) as ledger:
        if ask.method == "tpe":
            goal = ask.goal or ("lowest" if ask.metric in LOWER_IS_BETTER else "highest")
            optimiser = Optimiser(space, setup.seed, goal)
            table = run_search(evaluator, optimiser, ask.trials, watch=watch, ledger=ledger)
        else:
            table = run_sweep(evaluator, make_draw(space, ask, setup.seed), watch=watch, ledger=ledger)
    places = table.ranked(ask.metric, goal=ask.goal, trades_min=ask.trades_min)
    heat = None if ask.heat is None else _heat(table, ask.heat, ask.metric)
    best = _best(setup, ask, table, places, heat) if places and table.is_complete else None
    return Swept(table, places, best, heat, ledger is not None and ledger.is_torn)


def _check_heat(space: Space, heat: tuple[str, str]) -> None:
    for name in heat:
        if name not in space.names:
            raise SettingsError(f"--heat {','.join(heat)}: there is no parameter {name} in {', '.join(space.names)}")


def _evaluator(setup: Setup | RecordedSetup, space: Space, ask: SearchAsk) -> Evaluator:
    if ask.metric not in METRICS:
        raise SettingsError(f"--metric {ask.metric}: there is none of that name{closest_hint(ask.metric, METRICS)}")
    markets = setup.intake.markets
    if not isinstance(setup, Setup):
        metrics = tuple(dict.fromkeys((*SHOWN, ask.metric)))
        return RecordedEvaluator(lambda named: setup.play.run(named, None), markets, metrics, ask.threads)
    if _is_plain_crossover(setup, space) and ask.metric in CrossoverEvaluator.metrics:
        return CrossoverEvaluator(markets[0], setup.terms, threads=ask.threads)
    metrics = tuple(dict.fromkeys((*SHOWN, ask.metric)))
    if setup.is_compiled and len(markets) == 1 and SUMMED.issuperset(metrics):
        return SummaryEvaluator(_make(setup), markets[0], setup.terms, metrics, ask.threads)
    return RunEvaluator(_make(setup), simulate(setup), markets, setup.terms, metrics, ask.threads)


def _is_plain_crossover(setup: Setup, space: Space) -> bool:
    """Return whether the kernel for crossovers gives the same as backtests would."""
    settings, markets = setup.chosen.settings, setup.intake.markets
    return (
        isinstance(settings, CrossoverSettings)
        and not settings.is_passive
        and settings.equity_pct == 100.0
        and setup.ask.engine == "auto"
        and setup.limits is None
        and len(markets) == 1
        and setup.chosen.timeframe_ns == markets[0].timeframe_ns
        and crossover_refusal(markets[0], setup.terms) is None
        and set(space.names) == {"fast", "slow"}
        and all(type(value) is int and value >= 1 for axis in space.axes for value in axis.values or (0,))
    )


def _make(setup: Setup) -> Callable[[Mapping[str, Value]], Definition]:
    def make(named: Mapping[str, Value]) -> Definition:
        definition = setup.chosen.definition({**setup.ask.params, **named})
        if definition is None:
            raise SettingsError(f"{setup.chosen.name}: with {named} only the exact engine runs it")
        return definition

    return make


def _ledger(
    setup: Setup | RecordedSetup, space: Space, ask: SearchAsk, evaluator: Evaluator
) -> AbstractContextManager[Ledger | None]:
    if ask.ledger is None:
        return nullcontext()
    if not isinstance(setup, Setup):
        settings: list[object] = [setup.play.described({}), setup.intake.hashes]
    else:
        settings = [setup.chosen.settings, setup.chosen.size, setup.ask.params, setup.limits]
    digest = inputs_digest(
        code=code_hash(Path(bot.__file__).parent),
        settings=msgspec.json.encode(settings),
        markets=setup.intake.markets,
        terms=setup.terms,
    )
    return open_ledger(ask.ledger, digest=digest, names=space.names, metrics=evaluator.metrics)


def _heat(table: SweepTable, axes: tuple[str, str], metric: str) -> HeatMap:
    found = heat_map(table, *axes, metric)
    cells = [[None if np.isnan(cell) else cell for cell in row] for row in found.cells.tolist()]
    return HeatMap(
        metric=metric, x_name=found.x_name, x_values=found.x, y_name=found.y_name, y_values=found.y, cells=cells
    )


def _best(
    setup: Setup | RecordedSetup, ask: SearchAsk, table: SweepTable, places: list[int], heat: HeatMap | None
) -> Finished:
    """Return the best point as a backtest, whose report says how much of it may be luck: how many others were tried."""
    named = dict(zip(table.names, table.points[places[0]], strict=True))
    params = {**setup.ask.params, **named}
    outcome = _outcome_of(setup, params)
    sharpes = table.column("sharpe")
    sharpes = sharpes[np.isfinite(sharpes)]
    search = msgspec.structs.asdict(ask)
    search.pop("ledger")
    trades = round_trips(outcome, setup.intake.markets)
    notes = [] if isinstance(setup, Setup) else setup.notes_on(outcome)
    report = report_of(
        setup,
        params,
        outcome,
        trades,
        setup.manifest(search=search),
        trials=len(table.points),
        trials_variance=float(np.var(sharpes, ddof=1)) / DAYS_A_YEAR if len(sharpes) > 1 else 0.0,
        sweep=heat,
        notes=[*notes, f"the best of {len(table.points)} points by {ask.metric}"],
    )
    return Finished(report, outcome, trades)


def _outcome_of(setup: Setup | RecordedSetup, params: Mapping[str, Value]) -> Outcome:
    if not isinstance(setup, Setup):
        return setup.play.run(params, None)
    return simulate(setup)(Run(_make(setup)(params), setup.intake.markets, setup.terms))


# --- walk forward


def run_walk_job(
    setup: Setup,
    ask: SearchAsk,
    *,
    train_ns: int | None,
    test_ns: int | None,
    is_anchored: bool,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Walked:
    """Return what came of a walk; without lengths half of the data train first, and each test is an eighth of them.

    Raises:
        SettingsError: what was asked for makes no sense; names what.

    """
    space = search_space(setup, ask)
    if ask.metric not in METRICS:
        raise SettingsError(f"--metric {ask.metric}: there is none of that name{closest_hint(ask.metric, METRICS)}")
    markets = setup.intake.markets
    base_ns = markets[0].timeframe_ns
    start_ns = min(int(market.candles.start_ns[0]) for market in markets)
    end_ns = max(int(market.candles.start_ns[-1]) for market in markets) + base_ns
    span_ns = end_ns - start_ns
    train_ns = train_ns or max(base_ns, span_ns // 2 // base_ns * base_ns)
    test_ns = test_ns or max(base_ns, span_ns // 8 // base_ns * base_ns)
    for name, length_ns in (("--train", train_ns), ("--test", test_ns)):
        if length_ns % base_ns:
            raise SettingsError(f"{name}: must be a multiple of the bars' {duration_text(base_ns)}")
    make_draw(space, ask, setup.seed)
    plan = WalkPlan(
        make=_make(setup),
        simulate=simulate(setup),
        markets=markets,
        terms=setup.terms,
        draw=lambda: make_draw(space, ask, setup.seed),
        metric=ask.metric,
        goal=ask.goal,
        trades_min=ask.trades_min,
        threads=ask.threads,
    )
    steps = windows(start_ns, end_ns, train_ns=train_ns, test_ns=test_ns, is_anchored=is_anchored)
    return _walked(walk_forward(plan, steps, progress=progress, is_cancelled=is_cancelled), base_ns)


def _walked(walk: Walk, base_ns: int) -> Walked:
    if not len(walk.equity):
        return Walked(walk, 0.0, 0.0, None)
    curve = equity_curve(walk.time_ns, walk.equity, np.zeros(len(walk.equity)), walk.cash)
    bars_a_year = YEAR_NS / median_spacing_ns(walk.time_ns, base_ns)
    sharpe = curve.mean / curve.variance**0.5 * bars_a_year**0.5 if curve.variance else None
    return Walked(walk, float(walk.equity[-1]) / walk.cash - 1, curve.max_drawdown, sharpe)
