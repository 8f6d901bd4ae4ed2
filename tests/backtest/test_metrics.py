from __future__ import annotations

import importlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.backtest import curve
from bot.backtest.curve import equity_curve, median_spacing_ns
from bot.backtest.metrics import METRICS, YEAR_NS, Summary, longest_run, summarise
from bot.errors import SettingsError
from bot.strategies.advice import Floats
from tests.support.builders import ETH
from tests.support.outcomes import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    START_NS,
    FillRow,
    idle_markets,
    market,
    outcome,
    perp,
    traded,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
NAMES = {
    "winRate",
    "profitFactor",
    "totalReturn",
    "totalTrades",
    "winningTrades",
    "losingTrades",
    "averageWin",
    "averageLoss",
    "sharpeRatio",
    "maxDrawdown",
    "finalEquity",
}


def summary(equity: list[float] | np.typing.NDArray[np.floating[Any]], **changes: Any) -> Summary:
    run = outcome(equity, **changes)
    return summarise(run, idle_markets(run))


def of_curve(name: str, *equity: float, **changes: Any) -> object:
    return summary(list(equity), **changes).values[name]


def test_the_page_shows_the_table_of_the_code() -> None:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    assert lines == [
        f"| `{metric.name}`{f', `{metric.alias}`' if metric.alias else ''} | {metric.title} | "
        f"{metric.formula.replace('|', chr(92) + '|')} | {metric.unit} | {metric.annualisation or '-'} | "
        f"{metric.source or '-'} |"
        for metric in METRICS.values()
    ]


def test_json_carries_the_names_that_others_use() -> None:
    carried = summary([1000.0, 1100.0]).for_json()
    assert list(carried)[: len(METRICS)] == list(METRICS)
    assert set(carried) - set(METRICS) == NAMES
    assert carried["finalEquity"] == carried["final_equity"] == 1100.0


@pytest.mark.parametrize(
    ("name", "equity", "expected"),
    [
        ("total_return", (1100, 1210), 0.21),
        ("annual_return", (1100, 1210), 0.1 * 365.25),
        ("cagr", (1000, 1000, 1100), 1.1 ** (365.25 / 3) - 1),
        ("cagr", (1000, -5), -1.0),
        ("volatility", (1100, 1100), math.sqrt(0.005 * 365.25)),
        ("volatility", (1100,), None),
        ("sharpe", (1100, 1100), 0.05 / math.sqrt(0.005) * math.sqrt(365.25)),
        ("sharpe", (1000, 1000), None),
        ("sharpe", (1100, 1210, 1331), None),
        ("sortino", (1200, 1080), 0.05 / math.sqrt(0.005) * math.sqrt(365.25)),
        ("sortino", (1200, 1300), None),
        ("omega", (1200, 1080), 2.0),
        ("omega", (1200, 1300), None),
        ("calmar", (1200, 1300), None),
        ("ulcer_index", (1100, 990, 880, 1100), math.sqrt((0.01 + 0.04) / 4)),
        ("max_drawdown", (1100, 990, 880, 1100, 1050), 0.2),
        ("max_drawdown", (900, 950), 0.1),
        ("max_drawdown", (1000, -500), 1.5),
        ("max_drawdown_from", (1100, 990, 880, 1100), "2024-01-01T00:00:00Z"),
        ("max_drawdown_trough", (1100, 990, 880, 1100), "2024-01-03T00:00:00Z"),
        ("max_drawdown_to", (1100, 990, 880, 1100), "2024-01-04T00:00:00Z"),
        ("max_drawdown_to", (1100, 990, 880, 1050), None),
        ("max_drawdown_days", (1100, 990, 880, 1050), 3.0),
        ("max_drawdown_from", (1100, 1200), None),
        ("longest_drawdown_days", (1000, 500, 1000, 999, 998, 999, 1000), 4.0),
        ("best_day", (1100, 990), 0.1),
        ("worst_day", (1100, 990), -0.1),
        ("trades_a_day", (1000, 1000), 0.0),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_metric_of_the_curve_is_its_formula(
    name: str, equity: tuple[float, ...], expected: float | str | None
) -> None:
    value = of_curve(name, *equity)
    assert value == (pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected)


FILLS: list[FillRow] = [
    (0, 100, 2, 1.0),
    (1, 110, -2, 1.0),  # +20 - 2
    (1, 110, 1, 0.0),
    (2, 120, -1, 0.0, "profit"),  # +10
    (2, 120, -1, 0.0),
    (3, 130, 1, 2.0, "stop"),  # -10 - 2
    (4, 100, 1, 0.0),
    (4, 100, -1, 0.0, "liquidation"),  # 0
    (5, 100, 3, 0.0),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trades", 4),
        ("open_trades", 1),
        ("winning_trades", 2),
        ("losing_trades", 1),
        ("win_rate", 0.5),
        ("profit_factor", 28 / 12),
        ("expectancy", 4.0),
        ("payoff", 14 / 12),
        ("average_win", 14.0),
        ("average_loss", -12.0),
        ("largest_win", 18.0),
        ("largest_loss", -12.0),
        ("winning_streak", 2),
        ("losing_streak", 1),
        ("average_trade_return", (18 / 200 + 10 / 110 - 12 / 120) / 4),
        ("average_bars", 0.75),
        ("trades_a_day", 4 / 6),
        ("exposure_time", 4 / 6),
        ("fills", 9),
        ("traded_notional", 200.0 + 220 + 110 + 120 + 120 + 130 + 100 + 100 + 300),
        ("fees", 4.0),
        ("liquidations", 1),
        ("buy_and_hold", 0.0),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_metric_of_trades_is_its_formula(name: str, expected: float) -> None:
    run, markets = traded([100, 110, 120, 130, 100, 100], FILLS)
    assert summarise(run, markets).values[name] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name", ["win_rate", "profit_factor", "expectancy", "payoff", "average_win", "largest_loss", "slippage"]
)
def test_a_metric_without_a_trade_is_none(name: str) -> None:
    assert of_curve(name, 1000.0, 1000.0) is None


def test_slippage_is_against_the_close_before_and_only_of_trades() -> None:
    closes = [100, 100, 200, 200]
    fills: list[FillRow] = [(0, 150, 1), (1, 101, 1), (2, 99, -2), (3, 1, 5, 0.0, "stop")]
    run, markets = traded(closes, fills)
    assert summarise(run, markets).values["slippage"] == pytest.approx((1 + 2) / (100 + 200) * 10_000)


def test_slippage_of_a_symbol_that_sits_steps_out_is_against_its_own_bars() -> None:
    run = outcome([1000.0] * 4, [(3, 103, 1)], instruments=[perp(), perp(ETH)], symbols=[0])
    full = market([50, 60, 70, 80], of=perp(ETH))
    some = market([100, 100, 100, 100])
    some = some._replace(candles=some.candles._replace(**{k: v[[0, 3]] for k, v in some.candles._asdict().items()}))
    assert summarise(run, [some, full]).values["slippage"] == pytest.approx(300.0)


def test_exposure_and_turnover_are_against_mean_equity() -> None:
    run = outcome([1000.0, 3000.0], [(0, 500, 2)], exposure=[500.0, 1500.0], timeframe_ns=YEAR_NS // 2)
    values = summarise(run, [market([500, 500])]).values
    assert values["exposure"] == pytest.approx(0.5)
    assert values["turnover"] == pytest.approx(0.5)


def test_funding_and_refusals_are_told() -> None:
    values = summary([1000.0, 990.0], funding=[2.0, 7.5], denied={"NOTIONAL_MIN": 3, "CASH": 1, "NEVER": 0}).values
    assert values["funding"] == 7.5
    assert values["refusals"] == {"CASH": 1, "NOTIONAL_MIN": 3}


def test_buy_and_hold_weighs_symbols_equally() -> None:
    run = outcome([1000.0] * 3, instruments=[perp(), perp(ETH)])
    markets = [market([100, 120, 150]), market([10, 9, 8], of=perp(ETH))]
    assert summarise(run, markets).values["buy_and_hold"] == pytest.approx((0.5 - 0.2) / 2)


def test_a_year_of_bars_comes_from_their_median_spacing() -> None:
    gaps = [0, 1, 2, 3, 10, 11, 12]
    times = [START_NS + hour * HOUR_NS for hour in gaps]
    equity = [1010.0, 1000, 1020, 1010, 1030, 1020, 1040]
    with_gap = summary(equity, time_ns=times, timeframe_ns=HOUR_NS)
    without = summary(equity, timeframe_ns=HOUR_NS)
    assert with_gap.number("sharpe") == without.number("sharpe")
    assert (with_gap.number("cagr") or 0) < (without.number("cagr") or 0)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(1, 5))
def test_the_median_spacing_is_the_median(gaps: list[int], timeframe_ns: int) -> None:
    times = np.cumsum([0, *gaps]).astype(np.int64)
    assert median_spacing_ns(times, timeframe_ns) == float(np.median(gaps))


def test_days_are_those_of_utc_and_days_without_a_step_are_left_out() -> None:
    times = [START_NS + hour * HOUR_NS for hour in (0, 23, 24, 80, 90)]
    found = equity_curve(np.array(times, np.int64), np.array([1.0, 2, 3, 4, 6]), np.zeros(5), 1.0)
    assert ((found.day_ns - START_NS) // DAY_NS).tolist() == [0, 1, 3]
    assert found.day_equity.tolist() == [2.0, 3.0, 6.0]
    assert found.day_returns.tolist() == [1.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("hits", "length"), [([], 0), ([False], 0), ([True], 1), ([True, True, False, True], 2), ([False, True, True], 2)]
)
def test_a_streak_is_the_longest_run_of_hits(hits: list[bool], length: int) -> None:
    assert longest_run(hits) == length


def test_a_run_without_steps_or_cash_is_refused() -> None:
    with pytest.raises(SettingsError, match="without a single step"):
        summary([])
    with pytest.raises(SettingsError, match=r"cash 0\.0"):
        summary([0.0], cash=0.0)


curves = st.lists(st.floats(-0.9, 2.0), min_size=1, max_size=40).map(
    lambda returns: 1000 * np.cumprod(1 + np.array(returns))
)


@given(curves)
def test_every_value_fits_into_json(equity: Floats) -> None:
    json.dumps(summary(equity).for_json(), allow_nan=False)


@given(curves, st.sampled_from([0.25, 2.0, 1024.0]))
def test_ratios_do_not_depend_on_the_unit_of_money(equity: Floats, factor: float) -> None:
    small, large = summary(equity), summary(equity * factor, cash=1000.0 * factor)
    for name, metric in METRICS.items():
        if metric.unit in {"fraction", "ratio"}:
            assert small.values[name] == large.values[name], name


@given(curves)
def test_equity_that_never_falls_has_no_drawdown(equity: Floats) -> None:
    values = summary(np.maximum.accumulate(np.maximum(equity, 1000.0))).values
    assert values["max_drawdown"] == values["ulcer_index"] == values["longest_drawdown_days"] == 0.0
    assert values["sortino"] is None
    assert values["max_drawdown_from"] is None


@given(curves)
def test_drawdowns_are_those_of_brute_force(equity: Floats) -> None:
    values = summary(equity).values
    line = np.concatenate(([1000.0], equity))
    depth = 1 - line / np.maximum.accumulate(line)
    assert values["max_drawdown"] == pytest.approx(float(np.max(depth)), abs=1e-12)
    assert values["ulcer_index"] == pytest.approx(float(np.sqrt(np.mean(depth[1:] ** 2))), abs=1e-12)
    assert values["longest_drawdown_days"] == longest_under_water(equity)


def longest_under_water(equity: Floats) -> float:
    peak, since, longest, was_under = 1000.0, 0, 0, False
    for i, now in enumerate(equity):
        if now < peak:
            was_under, longest = True, max(longest, i - since)
        else:
            longest = max(longest, i - since) if was_under else longest
            peak, since, was_under = float(now), i, False
    return float(longest)


@given(curves)
def test_kernels_give_the_same_bits_as_plain_python(equity: Floats) -> None:
    time_ns = START_NS + np.arange(len(equity), dtype=np.int64) * HOUR_NS
    found: list[list[bytes]] = []
    for is_plain in (False, True):
        numbers, wholes = np.zeros(9), np.full(5, -1, np.int64)
        returns: Any = getattr(curve._returns, "py_func", curve._returns) if is_plain else curve._returns
        drawdowns: Any = getattr(curve._drawdowns, "py_func", curve._drawdowns) if is_plain else curve._drawdowns
        returns(equity, np.abs(equity - 1000.0), 1000.0, numbers, wholes)
        drawdowns(time_ns, equity, 1000.0, numbers, wholes)
        found.append([numbers.tobytes(), wholes.tobytes()])
    assert found[0] == found[1]


# --- against engines that nobody here wrote


@pytest.fixture(scope="module")
def pandas() -> Any:
    return importlib.import_module("pandas")


@pytest.fixture(scope="module")
def vectorbt() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("vectorbt")


def random_returns(count: int, seed: int = 5) -> Floats:
    return np.array(np.random.default_rng(seed).standard_t(3, count) * 0.01, np.float64)


@pytest.mark.parametrize(("freq", "timeframe_ns"), [("1D", DAY_NS), ("1min", MINUTE_NS)])
def test_metrics_of_returns_equal_vectorbt(vectorbt: Any, pandas: Any, freq: str, timeframe_ns: int) -> None:
    """The same returns; vectorbt is told our year, and sees no first peak before the first bar."""
    returns = random_returns(2_000)
    returns[0] = 0.0
    index = pandas.date_range("2024-01-01", periods=2_000, freq=freq)
    theirs = pandas.Series(returns, index=index).vbt.returns(freq=freq, year_freq="365.25D")
    ours = summary(1000 * np.cumprod(1 + returns), timeframe_ns=timeframe_ns)
    assert ours.number("total_return") == pytest.approx(theirs.total(), rel=1e-9)
    assert ours.number("volatility") == pytest.approx(theirs.annualized_volatility(), rel=1e-9)
    assert ours.number("sharpe") == pytest.approx(theirs.sharpe_ratio(), rel=1e-9)
    assert ours.number("sortino") == pytest.approx(theirs.sortino_ratio(), rel=1e-9)
    assert ours.number("omega") == pytest.approx(theirs.omega_ratio(), rel=1e-9)
    assert ours.number("max_drawdown") == pytest.approx(-theirs.max_drawdown(), rel=1e-9)
    if freq == "1D":
        assert ours.number("cagr") == pytest.approx(theirs.annualized(), rel=1e-9)
        assert ours.number("calmar") == pytest.approx(theirs.calmar_ratio(), rel=1e-9)
        assert ours.number("tail_ratio") == pytest.approx(theirs.tail_ratio(), rel=1e-9)
        assert ours.number("cvar") == pytest.approx(theirs.cond_value_at_risk(), rel=1e-9)


def test_trades_equal_vectorbt(vectorbt: Any, pandas: Any) -> None:
    """The same orders, all in and all out, with a fee of 0.2 %; the last position stays open."""
    rng = np.random.default_rng(9)
    close = np.maximum(1, (10_000 * np.cumprod(1 + rng.normal(0, 0.01, 400)))).astype(np.int64)
    steps = np.sort(rng.choice(np.arange(1, 400), 61, replace=False))
    fills: list[FillRow] = []
    size = np.zeros(400)
    for number, step in enumerate(steps.tolist()):
        lots = 3 if number % 2 == 0 else -3
        size[step] = lots
        fills.append((step, int(close[step]), lots, 3 * float(close[step]) * 0.002))
    run, markets = traded(close, fills, cash=100_000.0)
    index = pandas.date_range("2024-01-01", periods=400, freq="1D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        portfolio = vectorbt.Portfolio.from_orders(
            pandas.Series(close.astype(float), index=index), size, fees=0.002, init_cash=100_000.0, freq="1D"
        )
        theirs = portfolio.trades.closed
        ours = summarise(run, markets)
        assert run.equity.tolist() == pytest.approx(portfolio.value().tolist(), rel=1e-12)
        assert ours.number("trades") == theirs.count() == 30
        assert ours.number("open_trades") == portfolio.trades.open.count() == 1
        assert ours.number("win_rate") == pytest.approx(theirs.win_rate())
        assert ours.number("profit_factor") == pytest.approx(theirs.profit_factor(), rel=1e-9)
        assert ours.number("expectancy") == pytest.approx(theirs.expectancy(), rel=1e-9)
        assert ours.number("average_win") == pytest.approx(theirs.winning.pnl.mean(), rel=1e-9)
        assert ours.number("average_loss") == pytest.approx(theirs.losing.pnl.mean(), rel=1e-9)
        assert ours.number("largest_win") == pytest.approx(theirs.pnl.max(), rel=1e-9)
        assert ours.number("largest_loss") == pytest.approx(theirs.pnl.min(), rel=1e-9)
        assert ours.number("winning_streak") == theirs.winning_streak.max()
        assert ours.number("losing_streak") == theirs.losing_streak.max()
        assert ours.number("average_trade_return") == pytest.approx(theirs.returns.mean(), rel=1e-9)
        assert ours.number("average_bars") == pytest.approx(theirs.duration.mean())
        assert ours.number("exposure_time") == pytest.approx(portfolio.position_coverage())
        assert ours.number("fees") == pytest.approx(portfolio.orders.fees.sum(), rel=1e-9)
        assert ours.number("buy_and_hold") == pytest.approx(float(close[-1]) / float(close[0]) - 1)


def test_metrics_equal_backtesting_where_it_means_the_same(pandas: Any) -> None:
    """backtesting.py counts a year from the first bar to the start of the last, and knows no starting cash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compute_stats: Any = importlib.import_module("backtesting._stats").compute_stats
    run, markets = traded([100, 110, 120, 130, 100, 100], FILLS[:6])
    ours = summarise(run, markets)
    index = pandas.date_range("2024-01-01", periods=6, freq="1D")
    close = pandas.Series(markets[0].candles.close.astype(float), index=index)
    trades = pandas.DataFrame(
        {
            "Size": [2, 1, -1],
            "EntryBar": [0, 1, 2],
            "ExitBar": [1, 2, 3],
            "EntryPrice": [100.0, 110.0, 120.0],
            "ExitPrice": [110.0, 120.0, 130.0],
            "PnL": [18.0, 10.0, -12.0],
            "Commission": [2.0, 0.0, 2.0],
            "ReturnPct": [18 / 200, 10 / 110, -12 / 120],
            "EntryTime": index[[0, 1, 2]],
            "ExitTime": index[[1, 2, 3]],
            "Duration": index[[1, 2, 3]] - index[[0, 1, 2]],
            "Tag": [None] * 3,
        }
    )
    candles = pandas.DataFrame({"Open": close, "High": close, "Low": close, "Close": close}, index=index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = compute_stats(trades, run.equity, candles, None)
    assert ours.number("final_equity") == theirs["Equity Final [$]"]
    assert ours.number("trades") == theirs["# Trades"]
    assert ours.number("win_rate") == pytest.approx(theirs["Win Rate [%]"] / 100)
    assert ours.number("average_trade_return") == pytest.approx(theirs["Expectancy [%]"] / 100)
    assert ours.number("max_drawdown") == pytest.approx(-theirs["Max. Drawdown [%]"] / 100)
    assert ours.number("longest_drawdown_days") == theirs["Max. Drawdown Duration"].days
