"""One backtest of a crossover: compiled, in the exact engine with a class, and on twenty markets at once.

SMA(20) over SMA(50) of closes, long only, decided at a close and traded at the next open. The peers must have come to
the same equity and trades before anything is timed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import run_compiled
from bot.backtest.exact import run_strategies
from bot.backtest.summary import Summary, summarise
from bot.core import tactics
from bot.core.durations import duration_text
from bot.core.instrument import ATOMS
from bot.strategies.advice import Floats, Market
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.kernels import CROSSOVER, CrossoverParams, KernelDefinition
from tests.bench.measure import Figure
from tests.bench.research_peers import (
    CASH,
    FAST,
    FEE_PPM,
    SLOW,
    Came,
    crossover_peers,
    installed,
    prices,
    quiet,
    summary_of,
)
from tests.bench.research_turns import MINUTE_NS, YEAR_BARS, Rival, first_bars, rates, year

ALL_PPM: Final = 1_000_000
CALLBACK_BARS: Final = 100_000
SLOW_BARS: Final = 30_000
"""What backtesting.py gets: half a second of it."""
SYMBOLS: Final = 20
PORTFOLIO_FEE_PPM: Final = 200
PORTFOLIO_BARS: Final = 50_000
"""What vectorbt gets of each symbol."""
STAKE: Final = 10_000
"""Quote currency of each position."""
PORTFOLIO_CASH: Final = 1_000_000
"""So that it is never short, which engines treat in different ways."""


def single(*, peers: bool = False) -> Figure:
    """One backtest of SMA 20/50 over a year of minutes, all in, fee 0.2 %, with equity curve and summary."""
    market = year(quote_fee_ppm=FEE_PPM)

    def own() -> tuple[Outcome, Summary]:
        outcome = run_compiled(_crossover_run(market))
        return outcome, summarise(outcome.equity, CASH)

    beginning = first_bars(market, SLOW_BARS)
    markets = {"vectorbt": market, "raptorbt": market, "backtesting": beginning} if peers else {}
    rivals = crossover_peers(markets)
    for name, run in rivals.items():
        _assert_equal(name, run(), _came(run_compiled(_crossover_run(markets[name]))))
    outcome, summary = own()
    assert summary.final_equity == outcome.equity[-1]
    runs = {name: Rival(run, len(markets[name].candles.close)) for name, run in rivals.items()}
    return rates("single", own, YEAR_BARS, runs, {"fills": len(outcome.fills.step)})


def callback(*, peers: bool = False) -> Figure:
    """The same in the exact engine, by a class with `on_bar`."""
    market = first_bars(year(quote_fee_ppm=FEE_PPM), CALLBACK_BARS)
    beginning = first_bars(market, SLOW_BARS)
    rivals = crossover_peers({"backtesting": beginning} if peers else {})
    _assert_equal("the compiled engine", _came(run_compiled(_crossover_run(market))), _came(_by_class(market)))
    for name, run in rivals.items():
        _assert_equal(name, run(), _came(_by_class(beginning)))
    return rates(
        "callback",
        lambda: _by_class(market),
        CALLBACK_BARS,
        {name: Rival(run, SLOW_BARS) for name, run in rivals.items()},
    )


def portfolio(*, peers: bool = False) -> Figure:
    """SMA 20/50 of 20 symbols with shared cash, 10,000 in each position, over a year of minutes, with the curve."""
    markets = [year(seed, f"M{seed}_USDT", PORTFOLIO_FEE_PPM) for seed in range(1, SYMBOLS + 1)]

    def own() -> tuple[Outcome, Summary]:
        outcome = run_compiled(_portfolio_run(markets))
        return outcome, summarise(outcome.equity, PORTFOLIO_CASH)

    beginnings = [first_bars(market, PORTFOLIO_BARS) for market in markets]
    vbt = installed("vectorbt") if peers else None
    rivals: dict[str, Rival] = {}
    if vbt is not None:
        run = _shared_cash(vbt, beginnings)
        _assert_equal("vectorbt", run(), _came(run_compiled(_portfolio_run(beginnings))))
        rivals["vectorbt"] = Rival(run, SYMBOLS * PORTFOLIO_BARS)
    return rates("portfolio", own, SYMBOLS * YEAR_BARS, rivals, {"fills": len(own()[0].fills.step)})


# --- ours


def _crossover_run(market: Market) -> Run:
    return Run(_crossover((tactics.SIZE_SHARE, ALL_PPM)), [market], _terms(FEE_PPM, CASH))


def _portfolio_run(markets: Sequence[Market]) -> Run:
    return Run(_crossover((tactics.SIZE_QUOTE, STAKE * ALL_PPM)), markets, _terms(PORTFOLIO_FEE_PPM, PORTFOLIO_CASH))


def _crossover(size: tuple[int, int]) -> KernelDefinition:
    return KernelDefinition(CROSSOVER, CrossoverParams(fast=FAST, slow=SLOW), timeframe_ns=MINUTE_NS, size=size)


def _terms(fee_ppm: int, cash: int) -> Terms:
    return Terms(cash_atoms=cash * ATOMS, maker_fee_ppm=fee_ppm, taker_fee_ppm=fee_ppm)


def _by_class(market: Market) -> Outcome:
    settings = CrossoverSettings(
        timeframe=duration_text(MINUTE_NS), notional=STAKE, equity_pct=100, fast=FAST, slow=SLOW
    )
    return run_strategies({"crossover": settings}, [market], _terms(FEE_PPM, CASH))


def _came(outcome: Outcome) -> Came:
    assert not outcome.denied
    return Came(float(outcome.equity[-1]), int(np.count_nonzero(outcome.fills.lots < 0)))


def _assert_equal(name: str, theirs: Came, ours: Came) -> None:
    assert theirs.closed_trades == ours.closed_trades > 100, f"{name} made other trades: {theirs}, we {ours}"
    assert abs(theirs.final_equity / ours.final_equity - 1) <= 1e-6, f"{name}: other money: {theirs}, we {ours}"


# --- a peer on twenty markets


def _shared_cash(vbt: Any, markets: Sequence[Market]) -> Callable[[], Came]:
    """Averages, equity curve and summary; as many whole lots as we buy, which is what the close before says."""
    pandas: Any = importlib.import_module("pandas")
    index = pandas.to_datetime(markets[0].candles.start_ns)
    names = [market.instrument.symbol for market in markets]
    ticks = 10.0 ** markets[0].instrument.price_scale

    def frame(name: str) -> Any:
        columns: list[Floats] = [prices(market)[name] / ticks for market in markets]
        return pandas.DataFrame(np.stack(columns, axis=1), index=index, columns=names)

    close, opens = frame("close"), frame("open")
    in_ticks = close * ticks
    coins = STAKE / close

    def run() -> Came:
        above = vbt.MA.run(in_ticks, FAST).ma.to_numpy() > vbt.MA.run(in_ticks, SLOW).ma.to_numpy()
        wants = np.concatenate((np.zeros((1, above.shape[1]), np.bool_), above[:-1]))
        book = vbt.Portfolio.from_signals(
            close,
            entries=pandas.DataFrame(wants, index=index, columns=names),
            exits=pandas.DataFrame(~wants, index=index, columns=names),
            price=opens,
            size=coins.shift(1),
            fees=PORTFOLIO_FEE_PPM / 1e6,
            init_cash=float(PORTFOLIO_CASH),
            cash_sharing=True,
            group_by=True,
            freq="1min",
        )
        return summary_of(book)

    return quiet(run)
