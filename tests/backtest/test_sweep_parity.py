"""What a sweep says of a point is what a backtest of it says: the fast kernel, shared columns, walks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bot.backtest import search
from bot.backtest import space as s
from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import run_compiled
from bot.backtest.data import Reading, load_candles
from bot.backtest.dressed import DecidesFrom, Sharing
from bot.backtest.evaluators import CrossoverEvaluator, RunEvaluator, SummaryEvaluator
from bot.backtest.intake import DataWish
from bot.backtest.job import Ask, prepare
from bot.backtest.made import made_market
from bot.backtest.metrics import SUMMED
from bot.backtest.search import SearchAsk, run_search_job
from bot.backtest.space import Value
from bot.backtest.sweep import Watch, run_sweep
from bot.backtest.sweep_table import SweepTable
from bot.backtest.walkforward import WalkPlan, walk_forward, windows
from bot.config import load_settings
from bot.core import tactics
from bot.core.durations import UNITS_NS
from bot.core.instrument import ATOMS
from bot.errors import SettingsError
from bot.strategies.advice import Candles, Definition, Market
from bot.strategies.kernels import CROSSOVER, CrossoverParams, KernelDefinition
from bot.strategies.rules.definition import RuleDefinition
from bot.strategies.rules.document import read_document
from tests.support.candle_files import CANDLES
from tests.support.cli import REPOSITORY
from tests.support.markets import Kind, random_run

TERMS = Terms(cash_atoms=10_000 * ATOMS, maker_fee_ppm=2_000, taker_fee_ppm=2_000)
METRICS = CrossoverEvaluator.metrics
HOUR_NS = UNITS_NS["h"]
DOCUMENTS = sorted((REPOSITORY / "config" / "strategies").glob("*.toml"))


def grid() -> s.Draw:
    axes = [s.parse_axis("fast=3..43:20"), s.parse_axis("slow=20,50,170")]
    return s.grid(s.make_space(axes, ["fast < slow"]))


def compare(market: Market) -> SweepTable:
    def make(named: Mapping[str, Value]) -> Definition:
        params = CrossoverParams(fast=int(named["fast"]), slow=int(named["slow"]))
        size = tactics.SIZE_SHARE, 1_000_000
        return KernelDefinition(CROSSOVER, params, timeframe_ns=market.timeframe_ns, size=size)

    watch = Watch("sharpe")
    runs = run_sweep(RunEvaluator(make, run_compiled, [market], TERMS, METRICS), grid(), watch=watch)
    fast = run_sweep(CrossoverEvaluator(market, TERMS), grid(), watch=watch)
    assert fast.points == runs.points
    for metric in ("trades", "open_trades", "winning_trades"):
        assert fast.column(metric).tolist() == runs.column(metric).tolist(), metric
    for metric in METRICS:
        assert fast.column(metric) == pytest.approx(runs.column(metric), rel=1e-6, nan_ok=True), metric
    return fast


@pytest.mark.parametrize("seed", range(3))
def test_the_crossover_kernel_equals_compiled_runs_on_made_up_data(seed: int) -> None:
    made = made_market(bars=3_000, seed=seed, timeframe_ns=HOUR_NS, quote_fee_ppm=2_000)
    table = compare(made._replace(instrument=msgspec.structs.replace(made.instrument, quantity_scale=8)))
    assert table.column("trades").min() >= 5


@pytest.mark.parametrize("name", ["ETH_BTC-5m", "LTC_BTC-5m", "EURUSD-1h"])
def test_the_crossover_kernel_equals_compiled_runs_on_real_data(name: str) -> None:
    path = CANDLES / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    table = compare(load_candles(path, Reading(quantity_scale=8, quote_fee_ppm=2_000)).market)
    assert table.column("trades").min() >= 5


def assert_rows_are_those_of_runs(run: Run) -> int:
    """Assert that both evaluators give one row, bit for bit; return the fills of the run."""
    metrics = tuple(sorted(SUMMED))
    space = s.make_space([s.parse_axis("any=1,2")])
    points = list(s.grid(space))
    (market,) = run.markets

    def make(_: Mapping[str, Value]) -> Definition:
        return run.definition

    whole = RunEvaluator(make, run_compiled, [market], run.terms, metrics).run(space, points)
    brief = SummaryEvaluator(make, market, run.terms, metrics).run(space, points)
    for ours, theirs in zip(brief, whole, strict=True):
        assert ours is not None
        assert theirs is not None
        assert list(map(repr, ours)) == list(map(repr, theirs))  # NaN is NaN
    return len(run_compiled(run).fills.step)


@pytest.mark.parametrize("kind", [Kind(), Kind(has_perps=True, has_spot=False)], ids=["spot", "perp"])
def test_a_sweep_without_curves_says_what_one_with_curves_says(kind: Kind) -> None:
    assert sum(assert_rows_are_those_of_runs(random_run(seed, kind)) for seed in range(60)) > 150


def test_and_so_it_does_beyond_a_window_and_of_a_single_bar() -> None:
    market = made_market(bars=20_000, seed=3, timeframe_ns=HOUR_NS, quote_fee_ppm=2_000)
    short = market._replace(candles=Candles(*(column[:1].copy() for column in market.candles)))
    assert assert_rows_are_those_of_runs(Run(trend({}), [market], TERMS)) > 100
    assert assert_rows_are_those_of_runs(Run(trend({}), [short], TERMS)) == 0


@pytest.mark.parametrize(("metric", "is_brief"), [("sharpe", True), ("profit_factor", True), ("sortino", False)])
def test_a_sweep_keeps_no_curves_where_no_metric_needs_them(
    metric: str, is_brief: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = SearchAsk(axes=("fast=5,20", "slow=40,80"), metric=metric)
    setup = prepare(Ask(strategy="trend_crossover", data=DataWish(made_bars=3_000)), load_settings([], {}, []))
    used: list[type] = []
    for kind in (RunEvaluator, SummaryEvaluator):

        def spied(self: Any, *args: Any, kind: type = kind, run: Callable[..., Any] = kind.run) -> Any:
            used.append(kind)
            return run(self, *args)

        monkeypatch.setattr(kind, "run", spied)
    swept = run_search_job(setup, ask)
    assert set(used) == {SummaryEvaluator if is_brief else RunEvaluator}
    monkeypatch.setattr(search, "SUMMED", frozenset[str]())
    whole = run_search_job(setup, ask)
    assert whole.table.values.tolist() == swept.table.values.tolist()
    assert used[-1] is RunEvaluator


def rules(path: Path, named: Mapping[str, float]) -> RuleDefinition:
    return RuleDefinition(read_document(path.read_text(), path.name), named, timeframe_ns=HOUR_NS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_shared_columns_change_no_advice(path: Path) -> None:
    document = read_document(path.read_text(), path.name)
    symbols = ("BTC_USDT", *rules(path, {}).watches)
    markets = {
        symbol: made_market(symbol, bars=1_500, seed=number, timeframe_ns=HOUR_NS, quote_fee_ppm=1)
        for number, symbol in enumerate(dict.fromkeys(symbols))
    }
    share = Sharing(list(markets.values()))
    compared = 0
    for param in (None, *document.params):
        for value in () if param is None else (param.low, param.high):
            named = {} if param is None else {param.name: value}
            try:
                definition = rules(path, named)
            except SettingsError:  # such an end does not go with the other defaults
                continue
            compared += 1
            alone, shared = definition.advise("BTC_USDT", markets), share(definition).advise("BTC_USDT", markets)
            for ours, theirs in zip(shared, alone, strict=True):
                assert np.array_equal(ours, theirs)
    assert compared > len(document.params)


def trend(named: Mapping[str, Value]) -> Definition:
    return rules(REPOSITORY / "config" / "strategies" / "trend_crossover.toml", {k: float(v) for k, v in named.items()})


def test_a_walk_of_a_rule_document_trades_in_each_test_what_a_run_of_its_choice_does() -> None:
    market = made_market(bars=4_000, seed=7, timeframe_ns=HOUR_NS, quote_fee_ppm=2_000)
    start_ns = int(market.candles.start_ns[0])
    space = s.make_space([s.parse_axis("fast=5,10,20"), s.parse_axis("slow=40,80")])
    steps = windows(start_ns, start_ns + 4_000 * HOUR_NS, train_ns=1_500 * HOUR_NS, test_ns=800 * HOUR_NS)
    runs: list[tuple[Run, Outcome]] = []

    def simulate(run: Run) -> Outcome:
        outcome = run_compiled(run)
        runs.append((run, outcome))
        return outcome

    plan = WalkPlan(trend, simulate, [market], TERMS, lambda: s.grid(space), "sharpe")
    walk = walk_forward(plan, steps)
    assert walk.is_complete
    traded = 0
    for step in walk.steps:
        assert step.point is not None
        run, outcome = next(
            (run, outcome)
            for run, outcome in runs
            if int(run.markets[0].candles.start_ns[-1]) == step.window.test_end_ns - HOUR_NS
            and (outcome.equity[-1] / outcome.cash - 1) == step.test[0]
        )
        alone = run_compiled(
            Run(DecidesFrom(trend(space.named(step.point)), step.window.test_start_ns), run.markets, run.terms)
        )
        assert alone.equity.tolist() == outcome.equity.tolist()
        assert (outcome.time_ns[outcome.fills.step] > step.window.test_start_ns).all()
        traded += len(outcome.fills.step)
    assert traded > 10
    assert walk.equity[-1] != walk.cash
