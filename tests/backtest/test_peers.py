"""The same strategy in engines that nobody here wrote: vectorbt and backtesting.py.

SMA(20) over SMA(50), long only, all of equity, a fee of 0.2 %, filled at the next open. The averages are compared as
whole numbers of ticks, so that all engines decide the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from bot.backtest.data import Reading, load_candles
from bot.backtest.intake import DataWish
from bot.backtest.job import Ask, Engine, prepare, run_backtest
from bot.backtest.made import made_market
from bot.config import load_settings
from bot.core.durations import UNITS_NS
from bot.strategies.advice import Market
from tests.support.candle_files import CANDLES, write_market

FAST, SLOW = 20, 50
FEE = 0.002
CAPITAL = 10_000.0
FILES = ("ETH_BTC-5m.csv.gz", "LTC_BTC-5m.csv.gz", "EURUSD-1h.csv.gz", "XRP_USDT_PERP-5m.csv.gz")


class Result(NamedTuple):
    final_equity: float
    closed_trades: int


def is_in(market: Market) -> NDArray[np.bool_]:
    """Return whether the fast average is above the slow one at each close, exactly; False before both are known."""
    sums = np.concatenate(([0], np.cumsum(market.candles.close)))
    fast = np.zeros(len(market.candles.close), np.int64)
    slow = np.zeros_like(fast)
    fast[FAST - 1 :] = sums[FAST:] - sums[:-FAST]
    slow[SLOW - 1 :] = sums[SLOW:] - sums[:-SLOW]
    above = fast * SLOW > slow * FAST
    above[: SLOW - 1] = False
    return above


def prices(market: Market) -> dict[str, NDArray[np.float64]]:
    scale = 10.0**market.instrument.price_scale
    return {name: getattr(market.candles, name) / scale for name in ("open", "high", "low", "close")}


def with_vectorbt(market: Market) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        import vectorbt

        shown = prices(market)
        wanted = np.concatenate(([False], is_in(market)[:-1]))
        made: Any = vectorbt
        portfolio = made.Portfolio.from_signals(
            close=pd.Series(shown["close"]),
            entries=pd.Series(wanted),
            exits=pd.Series(~wanted),
            price=pd.Series(shown["open"]),
            fees=FEE,
            init_cash=CAPITAL,
        )
        return Result(float(portfolio.final_value()), int(portfolio.trades.closed.count()))


def with_backtesting(market: Market) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import backtesting
        import pandas as pd

        shown = prices(market)
        frame = pd.DataFrame(
            {name.capitalize(): column for name, column in shown.items()},
            index=pd.DatetimeIndex(market.candles.start_ns),
        )
        above = is_in(market)

        class Crossover(backtesting.Strategy):
            def init(self) -> None: ...

            def next(self) -> None:
                wants = above[len(self.data) - 1]  # pyright: ignore[reportUnknownMemberType]  # it has no types
                if wants and not self.position:
                    self.buy()  # pyright: ignore[reportUnknownMemberType]  # it has no types
                elif not wants and self.position:
                    self.position.close()

        whole_coins = 1e8  # it trades whole coins only: with more money that is the same as small ones
        runner: Any = backtesting.Backtest(
            frame, Crossover, cash=CAPITAL * whole_coins, commission=FEE, finalize_trades=False
        )
        stats = runner.run()
        return Result(float(stats["Equity Final [$]"]) / whole_coins, int(stats["# Trades"]))


def ours(path: Path, engine: Engine) -> Result:
    settings = load_settings(
        [], {}, [f"backtest.{key}" for key in ("capital=10000", "maker_fee_bps=20", "taker_fee_bps=20", 'size="all"')]
    )
    ask = Ask(
        strategy="crossover",
        params={"fast": FAST, "slow": SLOW},
        data=DataWish(files=(path,), quantity_scale=8),
        engine=engine,
    )
    report = run_backtest(prepare(ask, settings)).report
    final_equity, trades = report.metrics["finalEquity"], report.metrics["totalTrades"]
    assert isinstance(final_equity, float)
    assert isinstance(trades, int)
    return Result(final_equity, trades)


@pytest.fixture(scope="module", params=[*FILES, "made 1", "made 2"])
def candle_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name: str = request.param
    if name.startswith("made"):
        market = made_market(bars=5_000, seed=int(name[-1]), timeframe_ns=UNITS_NS["m"])
        return write_market(tmp_path_factory.mktemp("made") / "BTC_USDT-1m.csv", market)
    if not (CANDLES / name).exists():
        pytest.skip("no real candles beside this checkout")
    return CANDLES / name


@pytest.mark.parametrize("peer", [with_vectorbt, with_backtesting])
def test_equity_and_trades_are_those_of(candle_file: Path, peer: Callable[[Market], Result]) -> None:
    theirs = peer(load_candles(candle_file, Reading()).market)
    engines: tuple[Engine, ...] = ("exact", "compiled")
    for mine in (ours(candle_file, engine) for engine in engines):
        assert mine.final_equity == pytest.approx(theirs.final_equity, rel=1e-6)
        assert mine.closed_trades == theirs.closed_trades > 10
