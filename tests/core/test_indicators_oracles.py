"""Every indicator against TA-Lib where the definition is the same, and against plain textbook loops elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isqrt, nan
from statistics import fmean, pstdev

import numpy as np
import pytest
import talib
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bot.core.indicators.registry import INDICATORS, column
from tests.support.indicator_series import HOUR_NS, MIDNIGHT_NS, Floats, market

Series = dict[str, Floats]
Oracle = Callable[[Series], Sequence[Floats]]
Case = tuple[str, tuple[float, ...], Oracle]

N = 3_000
SIMPLE = talib.MA_Type.SMA
SETTLED = 1_000
"""Bars after which two averages with another beginning are one: (1 - 2/27)^1000 and (1 - 1/14)^500 are below 1e-16."""


def bars(series: Series) -> tuple[Floats, Floats, Floats]:
    return series["high"], series["low"], series["close"]


TALIB: tuple[Case, ...] = (
    ("sma", (20,), lambda s: [talib.SMA(s["x"], 20)]),
    ("ema", (20,), lambda s: [talib.EMA(s["x"], 20)]),
    ("wma", (20,), lambda s: [talib.WMA(s["x"], 20)]),
    ("dema", (20,), lambda s: [talib.DEMA(s["x"], 20)]),
    ("tema", (20,), lambda s: [talib.TEMA(s["x"], 20)]),
    ("kama", (10,), lambda s: [talib.KAMA(s["x"], 10)]),
    ("stddev", (20,), lambda s: [talib.STDDEV(s["x"], 20)]),
    ("slope", (20,), lambda s: [talib.LINEARREG_SLOPE(s["x"], 20)]),
    ("momentum", (10,), lambda s: [talib.MOM(s["x"], 10)]),
    ("roc", (10,), lambda s: [talib.ROC(s["x"], 10)]),
    ("highest", (20,), lambda s: [talib.MAX(s["x"], 20)]),
    ("lowest", (20,), lambda s: [talib.MIN(s["x"], 20)]),
    ("true_range", (), lambda s: [talib.TRANGE(*bars(s))]),
    ("atr", (14,), lambda s: [talib.ATR(*bars(s), 14)]),
    ("bollinger", (20, 2.5), lambda s: talib.BBANDS(s["x"], 20, 2.5, 2.5)),
    (
        "donchian",
        (14,),
        lambda s: [talib.MAX(s["high"], 14), talib.MIDPRICE(s["high"], s["low"], 14), talib.MIN(s["low"], 14)],
    ),
    ("rsi", (14,), lambda s: [talib.RSI(s["x"], 14)]),
    ("stochastic", (14, 3, 5), lambda s: talib.STOCH(*bars(s), 14, 3, SIMPLE, 5, SIMPLE)),
    ("stochastic", (14, 1, 3), lambda s: talib.STOCHF(*bars(s), 14, 3, SIMPLE)),
    ("stoch_rsi", (14, 10, 1, 3), lambda s: talib.STOCHRSI(s["x"], 14, 10, 3, SIMPLE)),
    ("williams_r", (14,), lambda s: [talib.WILLR(*bars(s), 14)]),
    ("cci", (20,), lambda s: [talib.CCI(*bars(s), 20)]),
    ("mfi", (14,), lambda s: [talib.MFI(*bars(s), s["volume"], 14)]),
    ("obv", (), lambda s: [talib.OBV(s["close"], s["volume"])]),
    ("psar", (0.02, 0.2), lambda s: [talib.SAR(s["high"], s["low"], 0.02, 0.2)]),
)

TALIB_ONCE_SETTLED: tuple[Case, ...] = (
    ("macd", (12, 26, 9), lambda s: talib.MACD(s["x"], 12, 26, 9)),
    ("di", (14,), lambda s: [talib.PLUS_DI(*bars(s), 14), talib.MINUS_DI(*bars(s), 14)]),
    ("adx", (14,), lambda s: [talib.ADX(*bars(s), 14), talib.PLUS_DI(*bars(s), 14), talib.MINUS_DI(*bars(s), 14)]),
)


def ids(cases: Sequence[Case]) -> list[str]:
    return [f"{name}({', '.join(f'{param:g}' for param in params)})" for name, params, _ in cases]


@pytest.mark.parametrize(("name", "params", "oracle"), TALIB, ids=ids(TALIB))
@pytest.mark.parametrize("kind", ["walk", "ticks"])
def test_what_talib_defines_alike_is_alike(name: str, params: tuple[float, ...], oracle: Oracle, kind: str) -> None:
    check(name, params, oracle, kind, 0)


@pytest.mark.parametrize(("name", "params", "oracle"), TALIB_ONCE_SETTLED, ids=ids(TALIB_ONCE_SETTLED))
def test_what_begins_otherwise_in_talib_is_alike_once_settled(
    name: str, params: tuple[float, ...], oracle: Oracle
) -> None:
    check(name, params, oracle, "walk", SETTLED)


def check(name: str, params: tuple[float, ...], oracle: Oracle, kind: str, start: int) -> None:
    indicator = INDICATORS[name]
    series = market(kind, 11, N, MIDNIGHT_NS + 7 * HOUR_NS)
    found = column(indicator, params, [series[key] for key in indicator.inputs])
    for index, expected in enumerate(oracle(series)):
        np.testing.assert_allclose(found[start:, index], expected[start:], rtol=1e-9, atol=1e-9)


# Textbook loops.


def late(values: Sequence[float] | NDArray[np.float64 | np.bool]) -> Floats:
    """Return the values at the end of `N` rows."""
    return np.concatenate([np.full(N - len(values), nan), np.asarray(values, dtype=np.float64)])


def wma(values: Floats, window: int) -> Floats:
    weights = np.arange(1.0, window + 1)
    return sliding_window_view(values, window) @ weights / weights.sum()


def ema(values: Floats, window: int, weight: float | None = None) -> Floats:
    share = 2 / (window + 1) if weight is None else weight
    found = [fmean(values[:window])]
    for value in values[window:]:
        found.append(share * value + (1 - share) * found[-1])
    return np.array(found)


def wilder_sums(values: Floats, window: int) -> Floats:
    """Return Wilder's own form: a running sum that loses 1 / window of itself with each value."""
    found = [float(sum(values[:window]))]
    for value in values[window:]:
        found.append(found[-1] - found[-1] / window + value)
    return np.array(found)


def typical(series: Series) -> Floats:
    high, low, close = bars(series)
    return (high + low + close) / 3


def true_ranges(series: Series) -> Floats:
    high, low, close = bars(series)
    return np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])


def hma_16(series: Series) -> list[Floats]:
    x = series["x"]
    return [late(wma(2 * wma(x, 8)[8:] - wma(x, 16), isqrt(16)))]


def kama_5_3_20(series: Series) -> list[Floats]:
    x = series["x"]
    found = [x[4]]
    for end in range(5, N):
        noise = sum(abs(x[i] - x[i - 1]) for i in range(end - 4, end + 1))
        efficiency = abs(x[end] - x[end - 5]) / noise
        constant = (efficiency * (2 / 4 - 2 / 21) + 2 / 21) ** 2
        found.append(found[-1] + constant * (x[end] - found[-1]))
    return [late(found[1:])]


def macd_5_8_3(series: Series) -> list[Floats]:
    line = ema(series["x"], 5)[3:] - ema(series["x"], 8)
    signal = ema(line, 3)
    return [late(line[2:]), late(signal), late(line[2:] - signal)]


def zscore_20(series: Series) -> list[Floats]:
    return [late([(w[-1] - fmean(w)) / pstdev(w) for w in sliding_window_view(series["x"], 20).tolist()])]


def returns_30(series: Series) -> Floats:
    return sliding_window_view(np.diff(series["x"]) / series["x"][:-1], 30)


def volatility_30(series: Series) -> list[Floats]:
    return [late(returns_30(series).std(axis=1, ddof=1))]


def kelly_30(series: Series) -> list[Floats]:
    return [late(returns_30(series).mean(axis=1) / returns_30(series).var(axis=1, ddof=1))]


def keltner_20_10(series: Series) -> list[Floats]:
    middle = late(ema(series["close"], 20))
    reach = 1.5 * late(ema(true_ranges(series), 10, 1 / 10))
    return [middle + reach, middle, middle - reach]


def ichimoku_5_9_17_9(series: Series) -> list[Floats]:
    def middle(window: int) -> Floats:
        high, low = sliding_window_view(series["high"], window), sliding_window_view(series["low"], window)
        return late((high.max(axis=1) + low.min(axis=1)) / 2)

    conversion, base = middle(5), middle(9)
    starts = np.arange(N) >= 17 - 1 + 9
    span_a, span_b = np.roll((conversion + base) / 2, 9), np.roll(middle(17), 9)
    return [np.where(starts, line, nan) for line in (conversion, base, span_a, span_b)]


def stoch_rsi_9_7_3_2(series: Series) -> list[Floats]:
    windows = sliding_window_view(talib.RSI(series["x"], 9)[9:], 7)
    low, high = windows.min(axis=1), windows.max(axis=1)
    k = sliding_window_view(100 * (windows[:, -1] - low) / (high - low), 3).mean(axis=1)
    return [late(k[1:]), late(sliding_window_view(k, 2).mean(axis=1))]


def di_14(series: Series) -> list[Floats]:
    up, down = np.diff(series["high"]), -np.diff(series["low"])
    ranges = wilder_sums(true_ranges(series), 14)
    plus = wilder_sums(np.where((up > down) & (up > 0), up, 0.0), 14)
    minus = wilder_sums(np.where((down > up) & (down > 0), down, 0.0), 14)
    return [late(100 * plus / ranges), late(100 * minus / ranges)]


def adx_14(series: Series) -> list[Floats]:
    plus, minus = di_14(series)
    index = 100 * abs(plus - minus) / (plus + minus)
    strength = late(wilder_sums(index[14:], 14) / 14)
    return [line + 0 * strength for line in (strength, plus, minus)]


def supertrend_10_3(series: Series) -> list[Floats]:
    high, low, close = (line.tolist() for line in bars(series))
    reach = (3 * late(ema(true_ranges(series), 10, 1 / 10))).tolist()
    upper, lower, is_up = (high[10] + low[10]) / 2 + reach[10], (high[10] + low[10]) / 2 - reach[10], close[10] > 1e300
    lines, directions = [upper], [-1.0]
    for i in range(11, N):
        middle = (high[i] + low[i]) / 2
        upper = min(upper, middle + reach[i]) if close[i - 1] <= upper else middle + reach[i]
        lower = max(lower, middle - reach[i]) if close[i - 1] >= lower else middle - reach[i]
        is_up = close[i] >= lower if is_up else close[i] > upper
        lines.append(lower if is_up else upper)
        directions.append(1.0 if is_up else -1.0)
    return [late(lines), late(directions)]


def days(series: Series) -> Floats:
    return np.floor(series["time"] / (24 * HOUR_NS))


def vwap(series: Series) -> list[Floats]:
    prices, volume = typical(series), series["volume"]
    found = np.full(N, nan)
    for day in np.unique(days(series))[1:]:
        rows = days(series) == day
        found[rows] = np.cumsum(prices[rows] * volume[rows]) / np.cumsum(volume[rows])
    return [found]


def rolling_vwap_12(series: Series) -> list[Floats]:
    volumes = sliding_window_view(series["volume"], 12)
    prices = sliding_window_view(typical(series), 12)
    return [late((prices * volumes).sum(axis=1) / volumes.sum(axis=1))]


def pivots(series: Series) -> list[Floats]:
    high, low, close = bars(series)
    found = np.full((7, N), nan)
    all_days = np.unique(days(series))
    for finished, day in pairwise(all_days[1:]):
        rows = days(series) == finished
        top, bottom, last = high[rows].max(), low[rows].min(), close[rows][-1]
        p, reach = (top + bottom + last) / 3, top - bottom
        levels = [p, 2 * p - bottom, 2 * p - top, p + reach, p - reach, top + 2 * (p - bottom), bottom - 2 * (top - p)]
        found[:, days(series) == day] = np.array(levels)[:, None]
    return list(found)


def heikin_ashi(series: Series) -> list[Floats]:
    end = (series["open"] + 3 * typical(series)) / 4
    start = [(series["open"][0] + series["close"][0]) / 2]
    for value in end[:-1]:
        start.append((start[-1] + value) / 2)
    start = np.array(start)
    high = np.maximum.reduce([series["high"], start, end])
    low = np.minimum.reduce([series["low"], start, end])
    return [start, high, low, end]


def crossed_above(series: Series) -> list[Floats]:
    x, y = series["x"], series["y"]
    return [late((x[1:] > y[1:]) & (x[:-1] <= y[:-1]))]


def crossed_below(series: Series) -> list[Floats]:
    x, y = series["x"], series["y"]
    return [late((x[1:] < y[1:]) & (x[:-1] >= y[:-1]))]


TEXTBOOK: tuple[Case, ...] = (
    ("hma", (16,), hma_16),
    ("kama", (5, 3, 20), kama_5_3_20),
    ("macd", (5, 8, 3), macd_5_8_3),
    ("zscore", (20,), zscore_20),
    ("volatility", (30,), volatility_30),
    ("kelly", (30,), kelly_30),
    ("keltner", (20, 10, 1.5), keltner_20_10),
    ("ichimoku", (5, 9, 17, 9), ichimoku_5_9_17_9),
    ("stoch_rsi", (9, 7, 3, 2), stoch_rsi_9_7_3_2),
    ("di", (14,), di_14),
    ("adx", (14,), adx_14),
    ("supertrend", (10, 3), supertrend_10_3),
    ("vwap", (), vwap),
    ("rolling_vwap", (12,), rolling_vwap_12),
    ("pivots", (), pivots),
    ("heikin_ashi", (), heikin_ashi),
    ("crossed_above", (), crossed_above),
    ("crossed_below", (), crossed_below),
)


@pytest.mark.parametrize(("name", "params", "oracle"), TEXTBOOK, ids=ids(TEXTBOOK))
@pytest.mark.parametrize("kind", ["walk", "ticks"])
def test_the_rest_is_what_the_textbook_says(name: str, params: tuple[float, ...], oracle: Oracle, kind: str) -> None:
    check(name, params, oracle, kind, 0)


def test_every_indicator_has_an_oracle() -> None:
    assert {name for name, _, _ in (*TALIB, *TEXTBOOK)} == set(INDICATORS)


def test_the_parabolic_says_on_which_side_it_stands() -> None:
    series = market("walk", 3, N)
    stop, direction = column(INDICATORS["psar"], (), [series["high"], series["low"]])[1:].T
    assert np.all(stop[direction > 0] <= series["low"][1:][direction > 0])
    assert np.all(stop[direction < 0] >= series["high"][1:][direction < 0])
    assert set(direction) == {1.0, -1.0}


@pytest.mark.parametrize(
    ("name", "neutral"),
    [("rsi", 50), ("stochastic", 50), ("stoch_rsi", 50), ("williams_r", -50), ("mfi", 50), ("cci", 0), ("zscore", 0)],
)
def test_where_nothing_moves_an_oscillator_is_neutral(name: str, neutral: float) -> None:
    indicator = INDICATORS[name]
    flat = market("constant", 0, 100)["x"] / 7
    found = column(indicator, (), [flat for _ in indicator.inputs])
    assert set(found[indicator.lookback(indicator.with_defaults(())) :].ravel()) == {neutral}


def test_a_deviation_far_above_zero_does_not_cancel() -> None:
    values = 10**12 + np.random.default_rng(0).integers(0, 9, 500)
    found = column(INDICATORS["stddev"], (7,), [values])[6:, 0]
    expected = [pstdev(window.tolist()) for window in sliding_window_view(values, 7)]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
