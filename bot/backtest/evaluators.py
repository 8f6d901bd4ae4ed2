"""How a sweep runs a point: any strategy through a backtest, or crossovers of averages through one fast kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import MarketTable, summarised
from bot.backtest.crossings import SignalGrid, SmaColumns
from bot.backtest.curve import Curve
from bot.backtest.dressed import Sharing
from bot.backtest.metrics import METRICS, SUMMED, Facts, bars_a_year_of, facts_of
from bot.backtest.signal_sweep import signal_sweep
from bot.backtest.space import Point, Space, Value
from bot.backtest.summary import Summary
from bot.backtest.sweep_ledger import Row
from bot.core.instrument import ATOMS
from bot.errors import SettingsError
from bot.strategies.advice import Definition, Floats, Market

Make = Callable[[Mapping[str, Value]], Definition]
"""Makes a strategy out of a point. Called by several threads.

Raises SettingsError for a point that makes none.
"""
Simulate = Callable[[Run], Outcome]


@dataclass(slots=True)
class RunEvaluator:
    """Runs each point as a backtest of its own, on `threads` at a time; `metrics` are names in `METRICS`.

    Rule documents share columns: an average of 20 closes is made once, whatever the other parameters are.
    """

    make: Make
    simulate: Simulate
    markets: Sequence[Market]
    terms: Terms
    metrics: tuple[str, ...]
    threads: int = 2
    _share: Sharing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._share = Sharing(self.markets)
        _check_metrics(self.metrics)

    @property
    def chunk(self) -> int:
        """Return how many points it likes at a time."""
        return 8 * self.threads

    def run(self, space: Space, points: Sequence[Point]) -> Sequence[Row]:
        """Return a row for each point, None for one that makes no strategy."""
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(pool.map(self._row, (space.named(point) for point in points)))

    def _row(self, named: Mapping[str, Value]) -> Row:
        try:
            definition = self._share(self.make(named))
        except SettingsError:
            return None
        return row_of(self.simulate(Run(definition, self.markets, self.terms)), self.markets, self.metrics)


@dataclass(slots=True)
class SummaryEvaluator:
    """Runs each point on one market as `RunEvaluator` does with the compiled engine, and keeps no curve.

    The rows are the same, bit for bit; `metrics` are names in `SUMMED`.
    """

    make: Make
    market: Market
    terms: Terms
    metrics: tuple[str, ...]
    threads: int = 2
    _table: MarketTable = field(init=False, repr=False)
    _bars_a_year: float = field(init=False, repr=False)
    _share: Sharing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._table = MarketTable([self.market])
        self._bars_a_year = bars_a_year_of(self._table.time_ns, self._table.timeframe_ns)
        self._share = Sharing([self.market])
        assert SUMMED.issuperset(self.metrics)

    @property
    def chunk(self) -> int:
        """Return how many points it likes at a time."""
        return 8 * self.threads

    def run(self, space: Space, points: Sequence[Point]) -> Sequence[Row]:
        """Return a row for each point, None for one that makes no strategy."""
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(pool.map(self._row, (space.named(point) for point in points)))

    def _row(self, named: Mapping[str, Value]) -> Row:
        try:
            definition = self._share(self.make(named))
        except SettingsError:
            return None
        came = summarised(self._table, definition, self.terms)
        outcome = Outcome(
            symbols=self._table.symbols,
            instruments=(self.market.instrument,),
            time_ns=self._table.time_ns,
            timeframe_ns=self._table.timeframe_ns,
            equity=np.array([came.curve.final_equity]),
            exposure=np.zeros(0),
            fills=came.fills,
            funding=np.zeros(1),
            denied=came.denied,
            cash=self.terms.cash_atoms / ATOMS,
            final_lots=(),
        )
        curve = _curve_of(came.curve)
        return _numbers(facts_of(outcome, [self.market], curve=curve, bars_a_year=self._bars_a_year), self.metrics)


def _curve_of(summary: Summary) -> Curve:
    """Return a curve that knows what the metrics of `SUMMED` ask, and NaN of everything else."""
    unknown = np.nan
    return Curve(
        steps=summary.steps,
        mean=summary.mean,
        variance=summary.variance if summary.steps > 1 else None,
        squares_mean=summary.squares_mean,
        gains=unknown,
        losses=unknown,
        downside_mean=unknown,
        ulcer_index=unknown,
        max_drawdown=summary.max_drawdown,
        peak_step=None,
        trough_step=None,
        recovery_step=None,
        longest_ns=0,
        held_steps=0,
        equity_mean=unknown,
        exposure_mean=unknown,
        day_ns=np.zeros(0, np.int64),
        day_equity=np.zeros(0),
        day_returns=np.zeros(0),
    )


@dataclass(slots=True)
class RecordedEvaluator:
    """Plays each point on a recording, on `threads` at a time; `metrics` are names in `METRICS`."""

    play: Callable[[Mapping[str, Value]], Outcome]
    """Raises SettingsError for a point that makes no strategy. Called by several threads."""
    markets: Sequence[Market]
    metrics: tuple[str, ...]
    threads: int = 2

    def __post_init__(self) -> None:
        _check_metrics(self.metrics)

    @property
    def chunk(self) -> int:
        """Return how many points it likes at a time."""
        return 2 * self.threads

    def run(self, space: Space, points: Sequence[Point]) -> Sequence[Row]:
        """Return a row for each point, None for one that makes no strategy."""
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(pool.map(self._row, (space.named(point) for point in points)))

    def _row(self, named: Mapping[str, Value]) -> Row:
        try:
            outcome = self.play(named)
        except SettingsError:
            return None
        return row_of(outcome, self.markets, self.metrics)


def _check_metrics(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise SettingsError(f"no metric {', '.join(unknown)}; there are: {', '.join(METRICS)}")


def row_of(outcome: Outcome, markets: Sequence[Market], metrics: Sequence[str]) -> tuple[float, ...]:
    """Return these metrics of a run, NaN where one is not defined.

    Raises:
        SettingsError: one of them is not a number.

    """
    return _numbers(facts_of(outcome, markets), metrics)


def _numbers(facts: Facts, metrics: Sequence[str]) -> tuple[float, ...]:
    row: list[float] = []
    for name in metrics:
        value = METRICS[name].function(facts)
        if isinstance(value, str | dict):
            raise SettingsError(f"metric {name} is not a number, so a sweep cannot compare it")
        row.append(np.nan if value is None else float(value))
    return tuple(row)


_CROSSOVER_CHUNK: Final = 4_096


class CrossoverEvaluator:
    """Crossovers of simple moving averages: long only, all in, at the market; one pair for each point.

    The same trades as a backtest with a share of 1. A backtest rounds down to whole lots and fees up to atoms; here
    coins have no smallest part, so money differs by about a lot in the value of a position.
    """

    metrics: tuple[str, ...] = (
        "final_equity",
        "total_return",
        "trades",
        "open_trades",
        "winning_trades",
        "win_rate",
        "max_drawdown",
        "sharpe",
    )
    chunk: int = _CROSSOVER_CHUNK

    def __init__(
        self, market: Market, terms: Terms, *, fast: str = "fast", slow: str = "slow", threads: int = 2
    ) -> None:
        """Take the market; `fast` and `slow` name the parameters that count bars.

        Raises:
            SettingsError: market or terms are not what the kernel assumes; see `crossover_refusal`.

        """
        refusal = crossover_refusal(market, terms)
        if refusal is not None:
            raise SettingsError(refusal)
        self._market, self._terms = market, terms
        self._names = fast, slow
        self._threads = threads

    def run(self, space: Space, points: Sequence[Point]) -> Sequence[Row]:
        """Return a row for each point, None for one without fast < slow.

        Raises:
            SettingsError: a window is not a whole number above 0.

        """
        candles = self._market.candles
        windows = np.array([self._windows(space.named(point)) for point in points], np.int64).reshape(len(points), 2)
        is_valid = windows[:, 0] < windows[:, 1]
        chosen = windows[is_valid]
        fast, fast_rows = np.unique(chosen[:, 0], return_inverse=True)
        slow, slow_rows = np.unique(chosen[:, 1], return_inverse=True)
        columns = SmaColumns(candles.close, fast), SmaColumns(candles.close, slow)
        pairs = np.stack([fast_rows, slow_rows], axis=1).astype(np.int64)
        grid = SignalGrid(candles.open, candles.close, *columns, pairs, self._terms.taker_fee_ppm)
        rows = iter(self._rows(grid))
        return [tuple(next(rows).tolist()) if valid else None for valid in is_valid]

    def _windows(self, named: Mapping[str, Value]) -> tuple[int, int]:
        fast, slow = (named[name] for name in self._names)
        if type(fast) is not int or type(slow) is not int or fast < 1:
            raise SettingsError(f"windows of {fast} and {slow} bars; they must be whole numbers above 0")
        return fast, slow

    def _rows(self, grid: SignalGrid) -> Floats:
        """Return the metrics of each pair, shape (pairs, metrics)."""
        figures = signal_sweep(grid, threads=self._threads)
        candles = self._market.candles
        bars_a_year = bars_a_year_of(candles.start_ns, self._market.timeframe_ns)
        trades = figures.trades.astype(np.float64)
        return np.stack(
            [
                self._terms.cash_atoms / ATOMS * (1.0 + figures.total_return),
                figures.total_return,
                trades,
                figures.is_open.astype(np.float64),
                figures.wins.astype(np.float64),
                np.divide(figures.wins, trades, out=np.full(len(trades), np.nan), where=trades > 0),
                figures.max_drawdown,
                figures.sharpe * bars_a_year**0.5,
            ],
            axis=1,
        )


def crossover_refusal(market: Market, terms: Terms) -> str | None:
    """Return why the fast kernel cannot stand for a backtest, or None when it can."""
    if market.instrument.is_perp or not market.instrument.is_fee_in_quote:
        return f"{market.instrument.symbol}: the crossover kernel trades spot with fees in quote"
    if not len(market.candles.close):
        return f"{market.instrument.symbol}: no bars"
    if terms.slippage != "none" or terms.latency_ns or terms.volume_share_ppm:
        return "the crossover kernel knows no slippage, latency or volume share"
    return None
