"""The crossover of `research.py` in engines that nobody here wrote.

Prices are plain numbers of ticks, exact in any engine, and so is the cash; what comes of a run is turned back. Each
makes its averages by its own means: whole numbers of ticks add up to the same in all of them.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import numpy as np

from bot.strategies.advice import Floats, Market

FAST: Final = 20
SLOW: Final = 50
FEE_PPM: Final = 2_000
CASH: Final = 10**9
PARTS: Final = 1e8
"""backtesting.py trades whole coins only: with so much more money that is the same as parts of them."""
SILENT: Final = {"TQDM_DISABLE": "1", "RAPTORBT_NO_VERSION_CHECK": "1"}
"""No bars of progress among the figures, and no questions to a package index."""


class Came(NamedTuple):
    """What came of a run, in every engine."""

    final_equity: float
    closed_trades: int


def installed(name: str) -> Any:
    """Return the module of another engine, or None where it is not installed."""
    if find_spec(name) is None:
        return None
    os.environ.update(SILENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def prices(market: Market) -> dict[str, Floats]:
    """Return the columns of prices, in ticks."""
    return {name: getattr(market.candles, name).astype(np.float64) for name in ("open", "high", "low", "close")}


def ticks_of_cash(market: Market, cash: float) -> float:
    """Return quote currency in the unit of prices in ticks."""
    return cash * 10.0**market.instrument.price_scale


def crossover_peers(markets: Mapping[str, Market]) -> dict[str, Callable[[], Came]]:
    """Return those that are installed out of the keys of `markets`, each on its own market."""
    makers = {"vectorbt": _vectorbt, "raptorbt": _raptorbt, "backtesting": _backtesting}
    return {
        name: makers[name](module, market)
        for name, market in markets.items()
        if (module := installed(name)) is not None
    }


def _vectorbt(vbt: Any, market: Market) -> Callable[[], Came]:
    """Averages, equity curve, and the figures of a summary."""
    pandas: Any = importlib.import_module("pandas")
    index = pandas.to_datetime(market.candles.start_ns)
    close, opens = (pandas.Series(prices(market)[name], index=index) for name in ("close", "open"))

    def run() -> Came:
        above = vbt.MA.run(close, FAST).ma.to_numpy() > vbt.MA.run(close, SLOW).ma.to_numpy()
        wants = np.concatenate(([False], above[:-1]))
        book = vbt.Portfolio.from_signals(
            close,
            entries=pandas.Series(wants, index=index),
            exits=pandas.Series(~wants, index=index),
            price=opens,
            fees=FEE_PPM / 1e6,
            init_cash=ticks_of_cash(market, CASH),
            freq="1min",
        )
        came = summary_of(book)
        return came._replace(final_equity=came.final_equity / ticks_of_cash(market, 1.0))

    return quiet(run)


def summary_of(book: Any) -> Came:
    """Ask a portfolio of vectorbt, which is lazy, for the figures of a summary, and so for its curve."""
    for figure in (book.total_return, book.max_drawdown, book.sharpe_ratio):
        figure()
    return Came(float(book.final_value()), int(book.trades.closed.count()))


def _raptorbt(raptor: Any, market: Market) -> Callable[[], Came]:
    """Averages; it always makes the curve and its metrics."""
    start_ns = market.candles.start_ns
    bars = [*prices(market).values(), market.candles.volume.astype(np.float64)]
    close = bars[3]
    config = raptor.BacktestConfig(
        initial_capital=ticks_of_cash(market, CASH), fees=FEE_PPM / 1e6, fill_timing="next_bar_open"
    )

    def run() -> Came:
        wants = raptor.sma(close, FAST) > raptor.sma(close, SLOW)
        metrics = raptor.run_single_backtest(start_ns, *bars, wants, ~wants, config=config).metrics
        return Came(CASH * (1.0 + metrics.total_return_pct / 100.0), metrics.total_closed_trades)

    return run


def _backtesting(module: Any, market: Market) -> Callable[[], Came]:
    """A class with `next`, which looks at two indicators made beforehand."""
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame(
        {name.capitalize(): column for name, column in prices(market).items()},
        index=pandas.DatetimeIndex(market.candles.start_ns),
    )

    def average(close: Floats, window: int) -> Floats:
        sums = np.concatenate(([0.0], np.cumsum(close)))
        return np.concatenate((np.full(window - 1, np.nan), (sums[window:] - sums[:-window]) / window))

    class Crossover(module.Strategy):
        def init(self) -> None:
            self.fast = self.I(average, self.data.Close, FAST)
            self.slow = self.I(average, self.data.Close, SLOW)

        def next(self) -> None:
            if self.fast[-1] > self.slow[-1]:
                if not self.position:
                    self.buy()
            elif self.position:
                self.position.close()

    def run() -> Came:
        cash = ticks_of_cash(market, CASH)
        runner = module.Backtest(frame, Crossover, cash=cash * PARTS, commission=FEE_PPM / 1e6, finalize_trades=False)
        stats = runner.run()
        equity = float(stats["Equity Final [$]"]) / PARTS / ticks_of_cash(market, 1.0)
        return Came(equity, int(stats["# Trades"]))

    return quiet(run)


def quiet(run: Callable[[], Came]) -> Callable[[], Came]:
    """Return the same without warnings, which are the tester's to see and nobody's here."""

    def quietly() -> Came:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return quietly
