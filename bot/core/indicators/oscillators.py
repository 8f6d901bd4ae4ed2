"""Oscillators: where the price stands in its range, and how much of its way was up. Neutral where nothing moved."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.averages import SMOOTHED, smoothed, wilder_state
from bot.core.indicators.base import Indicator, Params, whole_window, window_param, within_window
from bot.core.indicators.ranges import extremes_state
from bot.core.indicators.windows import (
    DELAY,
    SUM,
    Floats,
    blank,
    delayed,
    has_nan,
    rolling_max,
    rolling_min,
    rolling_sum,
)
from bot.core.jit import bare_kernel

RSI: Final = 1 + 2 * SMOOTHED
CCI_SCALE: Final = 0.015
"""Lambert's constant: about three of four values then lie between -100 and 100."""


def rsi_state(window: float) -> Floats:
    """Return [the value before, NaN for none; Wilder's average of rises…; of falls…]."""
    return np.concatenate([[math.nan], wilder_state(window), wilder_state(window)])


def _rsi_state(params: Params) -> Floats:
    return rsi_state(params[0])


@bare_kernel
def relative_strength(state: Floats, value: float) -> float:
    """Take the next value; return Wilder's index, 0.0 to 100.0, NaN until warm."""
    before = state[0]
    state[0] = value
    if math.isnan(before):
        return math.nan
    change = value - before
    rise = smoothed(state[1 : 1 + SMOOTHED], change if change > 0.0 else 0.0)
    fall = smoothed(state[1 + SMOOTHED : RSI], -change if change < 0.0 else 0.0)
    if math.isnan(rise):
        return math.nan
    moved = rise + fall
    return 100.0 * (rise / moved) if moved > 0.0 else 50.0


@bare_kernel
def _rsi_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else relative_strength(state, x[0])


@bare_kernel
def _rsi_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _rsi_step(state, inputs[row], outputs[row])


def stochastic_state(window: float, smooth: float, signal: float) -> Floats:
    """Return [ends of the parts…, highs…, lows…, window of sums for k…, for d…]."""
    parts = [extremes_state(window), extremes_state(window), np.zeros(SUM + int(smooth)), np.zeros(SUM + int(signal))]
    ends = 4 + np.cumsum([len(part) for part in parts])
    return np.concatenate([ends, *parts])


@bare_kernel
def place_in_range(top: float, bottom: float, value: float) -> float:
    """Return where the value stands between bottom (0.0) and top (100.0), 50.0 where they are one."""
    reach = top - bottom
    return 100.0 * ((value - bottom) / reach) if reach != 0.0 else 50.0


@bare_kernel
def stochastic(state: Floats, out: Floats, high: float, low: float, close: float) -> None:
    """Take the next bar; set k and d, when both are warm."""
    end_0 = int(state[0])
    end_1 = int(state[1])
    end_2 = int(state[2])
    top = rolling_max(state[4:end_0], high)
    bottom = rolling_min(state[end_0:end_1], low)
    if math.isnan(top):
        return
    k = rolling_sum(state[end_1:end_2], place_in_range(top, bottom, close)) / (end_2 - end_1 - SUM)
    if math.isnan(k):
        return
    d = rolling_sum(state[end_2:], k) / (len(state) - end_2 - SUM)
    if math.isnan(d):
        return
    out[0] = k
    out[1] = d


def _stochastic_state(params: Params) -> Floats:
    return stochastic_state(params[0], params[1], params[2])


def _stochastic_lookback(params: Params) -> int:
    return int(params[0] + params[1] + params[2]) - 3


@bare_kernel
def _stochastic_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if not has_nan(x):
        stochastic(state, out, x[0], x[1], x[2])


@bare_kernel
def _stochastic_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _stochastic_step(state, inputs[row], outputs[row])


def _stoch_rsi_state(params: Params) -> Floats:
    return np.concatenate([rsi_state(params[0]), stochastic_state(params[1], params[2], params[3])])


def _stoch_rsi_lookback(params: Params) -> int:
    return int(sum(params)) - 3


@bare_kernel
def _stoch_rsi_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    strength = relative_strength(state[:RSI], x[0])
    if not math.isnan(strength):
        stochastic(state[RSI:], out, strength, strength, strength)


@bare_kernel
def _stoch_rsi_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _stoch_rsi_step(state, inputs[row], outputs[row])


def _williams_state(params: Params) -> Floats:
    """Return two windows of extremes, one after the other."""
    return np.tile(extremes_state(params[0]), 2)


@bare_kernel
def _williams_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    half = len(state) // 2
    top = rolling_max(state[:half], x[0])
    bottom = rolling_min(state[half:], x[1])
    out[0] = place_in_range(top, bottom, x[2]) - 100.0


@bare_kernel
def _williams_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _williams_step(state, inputs[row], outputs[row])


def _cci_state(params: Params) -> Floats:
    """Return [window of sums…, as many typical prices as a delay…]."""
    return np.zeros(SUM + DELAY + 2 * int(params[0]))


@bare_kernel
def _cci_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    size = (len(state) - SUM - DELAY) // 2
    typical = (x[0] + x[1] + x[2]) / 3.0
    mean = rolling_sum(state[: SUM + size], typical) / size
    prices = state[SUM + size :]
    delayed(prices, typical)
    if math.isnan(mean):
        return
    deviation = 0.0
    for index in range(DELAY, len(prices)):  # the mean moves, so every term does: O(window)
        deviation += abs(prices[index] - mean)
    deviation /= size
    # What is left of equal prices is rounding, not deviation.
    out[0] = (typical - mean) / (CCI_SCALE * deviation) if deviation > 1e-14 * abs(mean) else 0.0


@bare_kernel
def _cci_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _cci_step(state, inputs[row], outputs[row])


def _mfi_state(params: Params) -> Floats:
    """Return [the typical price before, NaN for none; window of sums of what flowed in…; out…]."""
    return np.concatenate([[math.nan], np.zeros(2 * (SUM + int(params[0])))])


@bare_kernel
def _mfi_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    typical = (x[0] + x[1] + x[2]) / 3.0
    before = state[0]
    state[0] = typical
    if math.isnan(before):
        return
    flow = typical * x[3]
    half = 1 + (len(state) - 1) // 2
    came = rolling_sum(state[1:half], flow if typical > before else 0.0)
    went = rolling_sum(state[half:], flow if typical < before else 0.0)
    if math.isnan(came):
        return
    out[0] = 100.0 * (came / (came + went)) if came + went > 0.0 else 50.0


@bare_kernel
def _mfi_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _mfi_step(state, inputs[row], outputs[row])


_X: Final = ("x",)
_BARS: Final = ("high", "low", "close")
_VALUE: Final = ("value",)
_WINDOW: Final = (window_param(14),)
_K_D: Final = ("k", "d")
_SMOOTHING: Final = (window_param(3, "smooth"), window_param(3, "signal"))
_STOCHASTIC: Final = (*_WINDOW, *_SMOOTHING)
_STOCH_RSI: Final = (*_WINDOW, window_param(14, "range"), *_SMOOTHING)

OSCILLATORS: Final = (
    Indicator("rsi", _X, _WINDOW, _VALUE, whole_window, _rsi_state, _rsi_step, _rsi_column),
    Indicator(
        "stochastic",
        _BARS,
        _STOCHASTIC,
        _K_D,
        _stochastic_lookback,
        _stochastic_state,
        _stochastic_step,
        _stochastic_column,
    ),
    Indicator(
        "stoch_rsi", _X, _STOCH_RSI, _K_D, _stoch_rsi_lookback, _stoch_rsi_state, _stoch_rsi_step, _stoch_rsi_column
    ),
    Indicator("williams_r", _BARS, _WINDOW, _VALUE, within_window, _williams_state, _williams_step, _williams_column),
    Indicator("cci", _BARS, (window_param(20),), _VALUE, within_window, _cci_state, _cci_step, _cci_column),
    Indicator("mfi", (*_BARS, "volume"), _WINDOW, _VALUE, whole_window, _mfi_state, _mfi_step, _mfi_column),
)
