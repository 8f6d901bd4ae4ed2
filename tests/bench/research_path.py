"""Backtests that look inside the bar: limit entries with a stop and a target, slippage and fees; and sweeps of these.

No peer plays such orders out of columns in the same way: ours rest at the exchange as limit orders, are guarded from
the fill on, and walk the path inside the bar. So ours is compared with our exact engine, and the peers do what they
have for it: the same signals, an entry at the market of the next open, and stop and target in percent. The figures say
how many trades each came to. raptorbt enters again only after a signal to leave: it gets the crossing below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import run_compiled
from bot.backtest.evaluators import SummaryEvaluator, row_of
from bot.backtest.exact import run_exact
from bot.backtest.search import SHOWN
from bot.backtest.space import Value, grid, make_space, parse_axis
from bot.backtest.summary import Summary, summarise
from bot.backtest.sweep import Watch, run_sweep
from bot.backtest.sweep_table import SweepTable
from bot.core.instrument import ATOMS
from bot.strategies.advice import Market
from bot.strategies.rules.definition import RuleDefinition
from bot.strategies.rules.document import Document, read_document
from tests.bench.measure import Figure
from tests.bench.research_peers import CASH, FAST, SLOW, Came, installed, prices, quiet, summary_of, ticks_of_cash
from tests.bench.research_turns import YEAR_BARS, Rival, first_bars, rates, year

DOCUMENT: Final = f"""
name = "Limit entries"
timeframe = "1m"
[params]
stop = {{ default = 1.0, low = 0.1, high = 10.0 }}
target = {{ default = 2.0, low = 0.1, high = 10.0 }}
[entry.long]
when = "sma(close, {FAST}) crosses above sma(close, {SLOW})"
[order]
kind = "limit"
offset_percent = 0.02
patience = 5
[stop]
percent = "stop"
[target]
percent = "target"
[size]
kind = "percent"
percent = 95
"""
STOP: Final = 1.0
TARGET: Final = 2.0
STOPS: Final = (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0)
TARGETS: Final = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
TERMS: Final = Terms(cash_atoms=CASH * ATOMS, maker_fee_ppm=200, taker_fee_ppm=500, slippage="fixed", slippage_ppm=100)
EXACT_BARS: Final = 50_000


def path(*, peers: bool = False) -> Figure:
    """One backtest with limit entries, stop, target, slippage and fees over a year of minutes, with the curve."""
    market = year(quote_fee_ppm=TERMS.taker_fee_ppm)
    definition = RuleDefinition(_document())
    run = Run(definition, [market], TERMS)

    def own() -> tuple[Outcome, Summary]:
        outcome = run_compiled(run)
        return outcome, summarise(outcome.equity, CASH)

    beginning = Run(definition, [first_bars(market, EXACT_BARS)], TERMS)
    _assert_same(run_compiled(beginning), run_exact(beginning))
    rivals = _peers(market) if peers else {}
    closed = {f"{name}_trades": float(run().closed_trades) for name, run in rivals.items()}
    assert min(closed.values(), default=1) > 0
    trades = float(np.count_nonzero(own()[0].fills.lots < 0))
    runs = {name: Rival(run, YEAR_BARS) for name, run in rivals.items()}
    return rates("path", own, YEAR_BARS, runs, {"trades": trades, **closed})


def path_sweep(*, peers: bool = False) -> Figure:
    """Points x bars a second of the same with 8 stops x 8 targets on both cores, as `bot sweep` runs it; no peers."""
    del peers
    market = year(quote_fee_ppm=TERMS.taker_fee_ppm)
    document = _document()
    axes = [f"stop={','.join(map(str, STOPS))}", f"target={','.join(map(str, TARGETS))}"]
    space = make_space([parse_axis(axis) for axis in axes])

    def make(named: Mapping[str, Value]) -> RuleDefinition:
        return RuleDefinition(document, {name: float(value) for name, value in named.items()})

    def own() -> SweepTable:
        evaluator = SummaryEvaluator(make, market, TERMS, SHOWN)
        return run_sweep(evaluator, grid(space), watch=Watch("sharpe"))

    table = own()
    for point, row in list(zip(table.points, table.values, strict=True))[:: len(STOPS) + 1]:
        outcome = run_compiled(Run(make(space.named(point)), [market], TERMS))
        assert tuple(row.tolist()) == row_of(outcome, [market], SHOWN), f"{point}: other figures in a sweep"
    return rates("path-sweep", own, len(table.points) * YEAR_BARS, {}, {"points": len(table.points)})


def _document() -> Document:
    return read_document(DOCUMENT, "limit_entries.toml")


def _assert_same(compiled: Outcome, exact: Outcome) -> None:
    for name, ours, theirs in zip(compiled.fills._fields, compiled.fills, exact.fills, strict=True):
        assert len(ours) == len(theirs), "the engines differ in how often they fill"
        assert np.allclose(ours, theirs, rtol=1e-9 if name == "fee" else 0, atol=0), f"the engines differ in {name}"
    assert np.allclose(compiled.equity, exact.equity, rtol=1e-9, atol=0), "the engines differ in equity"
    assert len(compiled.fills.step) > 100


# --- peers


def _peers(market: Market) -> dict[str, Callable[[], Came]]:
    makers = {"vectorbt": _vectorbt, "raptorbt": _raptorbt}
    return {name: make(module, market) for name, make in makers.items() if (module := installed(name)) is not None}


def _vectorbt(vbt: Any, market: Market) -> Callable[[], Came]:
    pandas: Any = importlib.import_module("pandas")
    index = pandas.to_datetime(market.candles.start_ns)
    columns = {name: pandas.Series(column, index=index) for name, column in prices(market).items()}

    def run() -> Came:
        fast, slow = (vbt.MA.run(columns["close"], window) for window in (FAST, SLOW))
        book = vbt.Portfolio.from_signals(
            **columns,
            entries=fast.ma_crossed_above(slow).shift(1, fill_value=False),
            exits=False,
            price=columns["open"],
            sl_stop=STOP / 100,
            tp_stop=TARGET / 100,
            fees=TERMS.taker_fee_ppm / 1e6,
            slippage=TERMS.slippage_ppm / 1e6,
            init_cash=ticks_of_cash(market, CASH),
            freq="1min",
        )
        return summary_of(book)

    return quiet(run)


def _raptorbt(raptor: Any, market: Market) -> Callable[[], Came]:
    start_ns = market.candles.start_ns
    bars = [*prices(market).values(), market.candles.volume.astype(np.float64)]
    config = raptor.BacktestConfig(
        initial_capital=ticks_of_cash(market, CASH),
        fees=TERMS.taker_fee_ppm / 1e6,
        slippage=TERMS.slippage_ppm / 1e6,
        fill_timing="next_bar_open",
    )
    config.set_fixed_stop(STOP / 100)
    config.set_fixed_target(TARGET / 100)

    def run() -> Came:
        above = raptor.sma(bars[3], FAST) > raptor.sma(bars[3], SLOW)
        before = np.concatenate(([False], above[:-1]))
        entries, exits = above & ~before, before & ~above
        metrics = raptor.run_single_backtest(start_ns, *bars, entries, exits, config=config).metrics
        return Came(metrics.end_value, metrics.total_closed_trades)

    return run
