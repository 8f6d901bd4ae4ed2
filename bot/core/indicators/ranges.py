"""How far prices go: highest and lowest, true range, and channels around the price."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.averages import SMOOTHED, ema_state, smoothed, wilder_state
from bot.core.indicators.base import Indicator, Param, Params, one_bar, whole_window, window_param, within_window
from bot.core.indicators.statistics import moments_state
from bot.core.indicators.windows import (
    DELAY,
    MOMENTS,
    SUM,
    Floats,
    blank,
    delayed,
    has_nan,
    rolling_max,
    rolling_min,
    rolling_moments,
)
from bot.core.jit import bare_kernel


def extremes_state(window: float) -> Floats:
    """Return a window of extremes."""
    return np.zeros(SUM + int(window))


def _extreme_state(params: Params) -> Floats:
    return extremes_state(params[0])


@bare_kernel
def _highest_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else rolling_max(state, x[0])


@bare_kernel
def _highest_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _highest_step(state, inputs[row], outputs[row])


@bare_kernel
def _lowest_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else rolling_min(state, x[0])


@bare_kernel
def _lowest_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _lowest_step(state, inputs[row], outputs[row])


@bare_kernel
def true_range(before: Floats, high: float, low: float, close: float) -> float:
    """Return how far the price went from the close before, NaN for the first bar; `before` holds that close."""
    last = before[0]
    before[0] = close
    if math.isnan(last):
        return math.nan
    top = last if last > high else high
    bottom = last if last < low else low
    return top - bottom


def _true_range_state(params: Params) -> Floats:
    del params
    return np.array([math.nan])


@bare_kernel
def _true_range_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if not has_nan(x):
        out[0] = true_range(state, x[0], x[1], x[2])


@bare_kernel
def _true_range_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _true_range_step(state, inputs[row], outputs[row])


def atr_state(window: float) -> Floats:
    """Return [the close before, NaN for none; Wilder's average of true ranges…]."""
    return np.concatenate([[math.nan], wilder_state(window)])


def _atr_state(params: Params) -> Floats:
    return atr_state(params[0])


ATR: Final = 1 + SMOOTHED


@bare_kernel
def average_true_range(state: Floats, high: float, low: float, close: float) -> float:
    """Take the next bar; return Wilder's average of true ranges, NaN until warm."""
    reach = true_range(state[:1], high, low, close)
    return math.nan if math.isnan(reach) else smoothed(state[1:], reach)


@bare_kernel
def _atr_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if not has_nan(x):
        out[0] = average_true_range(state, x[0], x[1], x[2])


@bare_kernel
def _atr_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _atr_step(state, inputs[row], outputs[row])


def _bollinger_state(params: Params) -> Floats:
    """Return [width, a window of moments…]."""
    return np.concatenate([[params[1]], moments_state(params[0])])


@bare_kernel
def _bollinger_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    mean, _, spread = rolling_moments(state[1:], x[0])
    reach = state[0] * math.sqrt(spread / ((len(state) - 1 - MOMENTS) // 2))
    out[0] = mean + reach
    out[1] = mean
    out[2] = mean - reach


@bare_kernel
def _bollinger_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _bollinger_step(state, inputs[row], outputs[row])


def _keltner_state(params: Params) -> Floats:
    """Return [width, average true range…, exponential average…]."""
    return np.concatenate([[params[2]], atr_state(params[1]), ema_state(params)])


def _keltner_lookback(params: Params) -> int:
    return int(max(params[0] - 1, params[1]))


@bare_kernel
def _keltner_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    reach = state[0] * average_true_range(state[1 : 1 + ATR], x[0], x[1], x[2])
    middle = smoothed(state[1 + ATR :], x[2])
    if math.isnan(reach) or math.isnan(middle):
        return
    out[0] = middle + reach
    out[1] = middle
    out[2] = middle - reach


@bare_kernel
def _keltner_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _keltner_step(state, inputs[row], outputs[row])


def _donchian_state(params: Params) -> Floats:
    """Return two windows of extremes, one after the other."""
    return np.tile(extremes_state(params[0]), 2)


@bare_kernel
def _donchian_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    half = len(state) // 2
    upper = rolling_max(state[:half], x[0])
    lower = rolling_min(state[half:], x[1])
    out[0] = upper
    out[1] = 0.5 * (upper + lower)
    out[2] = lower


@bare_kernel
def _donchian_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _donchian_step(state, inputs[row], outputs[row])


def _ichimoku_state(params: Params) -> Floats:
    """Return [ends of the parts…, for each window its highs… and lows…, for each span its delay…]."""
    parts = [extremes_state(window) for window in params[:3] for _ in range(2)]
    parts += [np.zeros(DELAY + int(params[3])) for _ in range(2)]
    ends = len(parts) + np.cumsum([len(part) for part in parts])
    return np.concatenate([ends, *parts])


def _ichimoku_lookback(params: Params) -> int:
    return int(max(params[:3]) - 1 + params[3])


@bare_kernel
def _ichimoku_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    high = x[0]
    low = x[1]
    ends = state[:8]
    end_0, end_1, end_2, end_3 = int(ends[0]), int(ends[1]), int(ends[2]), int(ends[3])
    end_4, end_5, end_6 = int(ends[4]), int(ends[5]), int(ends[6])
    conversion = 0.5 * (rolling_max(state[8:end_0], high) + rolling_min(state[end_0:end_1], low))
    base = 0.5 * (rolling_max(state[end_1:end_2], high) + rolling_min(state[end_2:end_3], low))
    middle = 0.5 * (rolling_max(state[end_3:end_4], high) + rolling_min(state[end_4:end_5], low))
    span_a = delayed(state[end_5:end_6], 0.5 * (conversion + base))
    span_b = delayed(state[end_6:], middle)
    if math.isnan(span_a) or math.isnan(span_b):
        return
    out[0] = conversion
    out[1] = base
    out[2] = span_a
    out[3] = span_b


@bare_kernel
def _ichimoku_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _ichimoku_step(state, inputs[row], outputs[row])


_X: Final = ("x",)
_HIGH_LOW: Final = ("high", "low")
_BARS: Final = ("high", "low", "close")
_VALUE: Final = ("value",)
_BANDS: Final = ("upper", "middle", "lower")
_WINDOW: Final = (window_param(20),)
_WIDTH: Final = Param("width", "float", 2.0, 0.0, 100.0)
_KELTNER: Final = (window_param(20), window_param(10, "atr_window"), _WIDTH)
_ICHIMOKU: Final = (
    window_param(9, "conversion"),
    window_param(26, "base"),
    window_param(52, "span"),
    window_param(26, "displacement"),
)
_ICHIMOKU_LINES: Final = ("conversion", "base", "span_a", "span_b")

RANGES: Final = (
    Indicator("highest", _X, _WINDOW, _VALUE, within_window, _extreme_state, _highest_step, _highest_column),
    Indicator("lowest", _X, _WINDOW, _VALUE, within_window, _extreme_state, _lowest_step, _lowest_column),
    Indicator("true_range", _BARS, (), _VALUE, one_bar, _true_range_state, _true_range_step, _true_range_column),
    Indicator("atr", _BARS, (window_param(14),), _VALUE, whole_window, _atr_state, _atr_step, _atr_column),
    Indicator(
        "bollinger",
        _X,
        (window_param(20), _WIDTH),
        _BANDS,
        within_window,
        _bollinger_state,
        _bollinger_step,
        _bollinger_column,
    ),
    Indicator("keltner", _BARS, _KELTNER, _BANDS, _keltner_lookback, _keltner_state, _keltner_step, _keltner_column),
    Indicator("donchian", _HIGH_LOW, _WINDOW, _BANDS, within_window, _donchian_state, _donchian_step, _donchian_column),
    Indicator(
        "ichimoku",
        _HIGH_LOW,
        _ICHIMOKU,
        _ICHIMOKU_LINES,
        _ichimoku_lookback,
        _ichimoku_state,
        _ichimoku_step,
        _ichimoku_column,
    ),
)
