"""Sweeps of crossovers over a year of minutes, beside vectorbt and raptorbt on a part of the pairs.

All hold while a fast average of closes is above a slow one, trade at the next open, pay 0.2 % and put all in. vectorbt
makes its averages itself (`MA`), raptorbt too (`sma`); it runs its pairs in parallel, as we do.
"""

from __future__ import annotations

import importlib
import statistics
import tracemalloc
import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from bot.backtest.crossings import SignalGrid, SmaColumns
from bot.backtest.made import made_market
from bot.backtest.screen import screen as screen_grid
from bot.backtest.signal_sweep import signal_sweep
from bot.core.durations import UNITS_NS
from bot.strategies.advice import Candles, Floats, Ints
from tests.bench.measure import Figure, spent
from tests.bench.research_peers import installed
from tests.support.one_pass import averages, one_pass

BARS: Final = 525_600
FAST: Final = range(5, 105, 2)
SLOW: Final = range(110, 910, 4)
"""50 x 200: 10,000 pairs."""
PEER_FAST: Final = (5, 21, 55)
PEER_SLOW: Final = (110, 250, 510, 890)
FEE_PPM: Final = 2_000
RUNS: Final = 5
PEER_RUNS: Final = 3
CASH: Final = 1e9
MILLION: Final = 1e6


class Common(NamedTuple):
    """What each peer finds for the pairs that it runs; columns of shape (m,)."""

    total_return: Floats
    trades: Ints
    """Those still open counted."""
    wins: Ints
    max_drawdown: Floats


def sweep(*, peers: bool = False) -> Figure:
    """Pairs x bars a second: return, trades, wins, drawdown, Sharpe ratio of 10,000 crossovers, a year of minutes."""
    grid = grid_of(tuple(FAST), tuple(SLOW))
    figures = signal_sweep(grid)
    fasts, slows = np.array(FAST), np.array(SLOW)
    for i in range(0, len(grid.pairs), 997):
        fast, slow = (int(window) for window in (fasts[grid.pairs[i, 0]], slows[grid.pairs[i, 1]]))
        close = grid.close
        plain = one_pass(grid.open, close, averages(close, fast), averages(close, slow), FEE_PPM)
        assert [column[i] for column in figures[1:4]] == list(plain[1:4]), "the sweep made other trades than one pass"
        numbers = [figures.total_return[i] + 1, figures.max_drawdown[i], figures.sharpe[i]]
        assert np.allclose(numbers, [plain[0] + 1, plain[4], plain[5]], rtol=1e-9, atol=0), "other money than one pass"
    return _measured("sweep", signal_sweep, peers=peers)


def screen(*, peers: bool = False) -> Figure:
    """Pairs x bars a second: equity and trades only of 10,000 crossovers, a year of minutes."""
    grid = grid_of(tuple(FAST), tuple(SLOW))
    screened, figures = screen_grid(grid), signal_sweep(grid)
    assert np.array_equal(screened.trades, figures.trades), "the screen made other trades than the sweep"
    assert np.allclose(screened.total_return + 1, figures.total_return + 1, rtol=1e-9, atol=0)
    return _measured("screen", screen_grid, peers=peers)


def _measured(name: str, kernel: Callable[[SignalGrid], object], *, peers: bool) -> Figure:
    """Run ours and the peers by turns, once the peers have come to the same trades and money."""

    def ours() -> object:
        return kernel(grid_of(tuple(FAST), tuple(SLOW)))

    tracemalloc.start()
    ours()
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    pairs = len(FAST) * len(SLOW)
    few = grid_of(PEER_FAST, PEER_SLOW)
    runners = _peers(name) if peers else {}
    for peer, run in runners.items():
        _assert_equal(peer, run(), few)
    walls: list[float] = []
    cpus: list[float] = []
    rates: dict[str, list[float]] = {peer: [] for peer in runners}
    for number in range(RUNS):
        _, cpu_s, wall_s = spent(ours)
        walls.append(wall_s)
        cpus.append(cpu_s)
        for peer, run in runners.items() if number < PEER_RUNS else ():
            rates[peer].append(len(few.pairs) * BARS / spent(run)[2] / MILLION)
    return Figure(
        name=name,
        value=pairs * BARS / statistics.median(walls) / MILLION,
        unit="M/s",
        cpu_s=sum(cpus),
        wall_s=sum(walls),
        peers={peer: statistics.median(values) for peer, values in rates.items()},
        # Where others work on this machine too, a rate for each second of CPU is what stays comparable.
        details={"per_cpu_s": pairs * BARS / statistics.median(cpus) / MILLION, "peak_mb": peak_mb},
    )


def _assert_equal(peer: str, theirs: Common, grid: SignalGrid) -> None:
    figures = signal_sweep(grid)
    assert np.array_equal(theirs.trades, figures.trades + figures.is_open), f"{peer} made other trades"
    assert np.allclose(theirs.total_return + 1, figures.total_return + 1, rtol=1e-6, atol=0), f"{peer}: other money"
    if len(theirs.wins):
        assert np.array_equal(theirs.wins, figures.wins), f"{peer} won other trades"
        assert np.allclose(theirs.max_drawdown, figures.max_drawdown, rtol=1e-6, atol=0), f"{peer}: other drawdown"


@cache
def candles() -> Candles:
    """Return a made-up year of minutes."""
    return made_market(bars=BARS, seed=1, timeframe_ns=UNITS_NS["m"]).candles


def grid_of(fast: tuple[int, ...], slow: tuple[int, ...]) -> SignalGrid:
    """Return every pair of these windows."""
    open_, close = candles().open, candles().close
    pairs = np.array(list(product(range(len(fast)), range(len(slow)))), np.int64)
    columns = SmaColumns(close, np.array(fast)), SmaColumns(close, np.array(slow))
    return SignalGrid(open_, close, *columns, pairs, FEE_PPM)


# --- peers


def _peers(name: str) -> dict[str, Callable[[], Common]]:
    found: dict[str, Callable[[], Common]] = {}
    if (vbt := installed("vectorbt")) is not None:
        found["vectorbt"] = _vectorbt(vbt, is_full=name == "sweep")
    if name == "sweep" and (raptor := installed("raptorbt")) is not None:
        found["raptorbt"] = _raptorbt(raptor)
    return found


def _vectorbt(vbt: Any, *, is_full: bool) -> Callable[[], Common]:
    pandas: Any = importlib.import_module("pandas")
    index = pandas.to_datetime(candles().start_ns)
    close = pandas.Series(candles().close.astype(np.float64), index=index)
    opens = pandas.Series(candles().open.astype(np.float64), index=index)

    def run() -> Common:
        fast, slow = np.array(list(product(PEER_FAST, PEER_SLOW))).T.tolist()
        above = vbt.MA.run(close, fast).ma.to_numpy() > vbt.MA.run(close, slow).ma.to_numpy()
        wants = np.concatenate([np.zeros((1, above.shape[1]), np.bool_), above[:-1]])
        book = vbt.Portfolio.from_signals(
            close,
            entries=pandas.DataFrame(wants, index=index),
            exits=pandas.DataFrame(~wants, index=index),
            price=opens,
            fees=FEE_PPM / 1e6,
            init_cash=CASH,
            freq="1min",
        )
        total_return, trades = book.total_return().to_numpy(), book.trades.count().to_numpy()
        if not is_full:
            return Common(total_return, trades, np.zeros(0, np.int64), np.zeros(0))
        book.sharpe_ratio()
        return Common(total_return, trades, book.trades.winning.count().to_numpy(), -book.max_drawdown().to_numpy())

    def quietly() -> Common:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return quietly


def _raptorbt(raptor: Any) -> Callable[[], Common]:
    start_ns = candles().start_ns
    open_, high, low, close, volume = (column.astype(np.float64) for column in candles()[1:])
    config = raptor.BacktestConfig(initial_capital=CASH, fees=FEE_PPM / 1e6, fill_timing="next_bar_open")

    def run() -> Common:
        columns = {window: raptor.sma(close, window) for window in (*PEER_FAST, *PEER_SLOW)}
        items: list[object] = []
        for fast, slow in product(PEER_FAST, PEER_SLOW):
            wants = columns[fast] > columns[slow]
            items.append(raptor.BatchSingleItem(f"{fast} {slow}", wants, ~wants))
        done = raptor.batch_single_backtest(start_ns, open_, high, low, close, volume, items, config)
        metrics = [result.metrics for _, result in done]
        return Common(
            np.array([each.total_return_pct for each in metrics]) / 100,
            np.array([each.total_closed_trades + each.total_open_trades for each in metrics]),
            np.array([each.winning_trades for each in metrics]),
            np.array([each.max_drawdown_pct for each in metrics]) / 100,
        )

    return run
