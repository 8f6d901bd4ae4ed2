"""Averages of one series."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.base import Indicator, Params, whole_window, window_param, within_window
from bot.core.indicators.windows import (
    DELAY,
    SUM,
    WEIGHTED,
    Floats,
    blank,
    blocks_of_means,
    delayed,
    has_nan,
    rolling_sum,
    weighted_mean,
)
from bot.core.jit import bare_kernel

SMOOTHED: Final = 4
"""Numbers in the state of an exponential average."""


def smoothed_state(window: float, weight: float) -> Floats:
    """Return [window, values taken, weight of a new value, average]."""
    return np.array([window, 0.0, weight, 0.0])


def wilder_state(window: float) -> Floats:
    """Return the state of Wilder's average, which weighs a new value 1 / window."""
    return smoothed_state(window, 1.0 / window)


@bare_kernel
def smoothed(state: Floats, value: float) -> float:
    """Take the next value; return the exponential average, which begins as the mean of the first `window` values."""
    if state[1] < state[0]:
        state[1] += 1.0
        state[3] += value
        if state[1] < state[0]:
            return math.nan
        state[3] /= state[0]
    else:
        state[3] += (value - state[3]) * state[2]
    return state[3]


def _sma_state(params: Params) -> Floats:
    return np.zeros(SUM + int(params[0]))


@bare_kernel
def _sma_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else rolling_sum(state, x[0]) / (len(state) - SUM)


@bare_kernel
def _sma_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    """Take whole blocks where it can; where a value is NaN, and at the ends, take the steps up to the next."""
    size = len(state) - SUM
    row = 0
    while row < len(inputs):
        if state[0] == 0.0:
            row += blocks_of_means(state, inputs[row:], outputs[row:])
        end = min(len(inputs), row + size - int(state[0]))  # no block can end before
        for place in range(row, end):
            _sma_step(state, inputs[place], outputs[place])
        row = end


def ema_state(params: Params) -> Floats:
    """Return the state of an exponential average that weighs a new value 2 / (window + 1)."""
    return smoothed_state(params[0], 2.0 / (params[0] + 1.0))


@bare_kernel
def _ema_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else smoothed(state, x[0])


@bare_kernel
def _ema_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _ema_step(state, inputs[row], outputs[row])


def _wma_state(params: Params) -> Floats:
    return np.zeros(WEIGHTED + int(params[0]))


@bare_kernel
def _wma_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else weighted_mean(state, x[0])


@bare_kernel
def _wma_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _wma_step(state, inputs[row], outputs[row])


def _dema_state(params: Params) -> Floats:
    return np.tile(ema_state(params), 2)


def _dema_lookback(params: Params) -> int:
    return 2 * within_window(params)


@bare_kernel
def _dema_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    once = smoothed(state[:SMOOTHED], x[0])
    if not math.isnan(once):
        out[0] = 2.0 * once - smoothed(state[SMOOTHED:], once)


@bare_kernel
def _dema_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _dema_step(state, inputs[row], outputs[row])


def _tema_state(params: Params) -> Floats:
    return np.tile(ema_state(params), 3)


def _tema_lookback(params: Params) -> int:
    return 3 * within_window(params)


@bare_kernel
def _tema_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    once = smoothed(state[:SMOOTHED], x[0])
    if math.isnan(once):
        return
    twice = smoothed(state[SMOOTHED : 2 * SMOOTHED], once)
    if not math.isnan(twice):
        out[0] = 3.0 * once - 3.0 * twice + smoothed(state[2 * SMOOTHED :], twice)


@bare_kernel
def _tema_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _tema_step(state, inputs[row], outputs[row])


def _hma_state(params: Params) -> Floats:
    """Return [end of the first window, end of the second, three windows of weighted means…]."""
    window = int(params[0])
    half_end = 2 + WEIGHTED + window // 2
    whole_end = half_end + WEIGHTED + window
    return np.concatenate([[half_end, whole_end], np.zeros(whole_end - 2 + WEIGHTED + math.isqrt(window))])


def _hma_lookback(params: Params) -> int:
    return within_window(params) + math.isqrt(int(params[0])) - 1


@bare_kernel
def _hma_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    half_end = int(state[0])
    whole_end = int(state[1])
    half = weighted_mean(state[2:half_end], x[0])
    whole = weighted_mean(state[half_end:whole_end], x[0])
    if not math.isnan(whole):
        out[0] = weighted_mean(state[whole_end:], 2.0 * half - whole)


@bare_kernel
def _hma_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _hma_step(state, inputs[row], outputs[row])


def _kama_state(params: Params) -> Floats:
    """Return [average, value before, weight at full efficiency, at none, end of the delay, delay…, window of sums…]."""
    window = int(params[0])
    fast, slow = 2.0 / (params[1] + 1.0), 2.0 / (params[2] + 1.0)
    return np.concatenate([[math.nan, math.nan, fast, slow, 5 + DELAY + window], np.zeros(DELAY + SUM + 2 * window)])


@bare_kernel
def _kama_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    value = x[0]
    before = state[1]
    state[1] = value
    delay_end = int(state[4])
    oldest = delayed(state[5:delay_end], value)
    if math.isnan(before):
        return
    path = rolling_sum(state[delay_end:], abs(value - before))
    if math.isnan(oldest):
        return
    if math.isnan(state[0]):
        state[0] = before
    way = abs(value - oldest)
    efficiency = way / path if path > way else 1.0
    root = efficiency * (state[2] - state[3]) + state[3]
    state[0] += (value - state[0]) * (root * root)
    out[0] = state[0]


@bare_kernel
def _kama_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _kama_step(state, inputs[row], outputs[row])


def _macd_state(params: Params) -> Floats:
    """Return three exponential averages: fast, slow, and that of their difference."""
    return np.concatenate([ema_state(params[part:]) for part in range(3)])


def _macd_lookback(params: Params) -> int:
    return int(max(params[0], params[1]) + params[2]) - 2


@bare_kernel
def _macd_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    fast = smoothed(state[:SMOOTHED], x[0])
    slow = smoothed(state[SMOOTHED : 2 * SMOOTHED], x[0])
    if math.isnan(fast) or math.isnan(slow):
        return
    signal = smoothed(state[2 * SMOOTHED :], fast - slow)
    if math.isnan(signal):
        return
    out[0] = fast - slow
    out[1] = signal
    out[2] = (fast - slow) - signal


@bare_kernel
def _macd_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _macd_step(state, inputs[row], outputs[row])


_X: Final = ("x",)
_VALUE: Final = ("value",)
_WINDOW: Final = (window_param(20),)
_KAMA: Final = (window_param(10), window_param(2, "fast"), window_param(30, "slow"))
_MACD: Final = (window_param(12, "fast"), window_param(26, "slow"), window_param(9, "signal"))

AVERAGES: Final = (
    Indicator("sma", _X, _WINDOW, _VALUE, within_window, _sma_state, _sma_step, _sma_column),
    Indicator("ema", _X, _WINDOW, _VALUE, within_window, ema_state, _ema_step, _ema_column),
    Indicator("wma", _X, _WINDOW, _VALUE, within_window, _wma_state, _wma_step, _wma_column),
    Indicator("dema", _X, _WINDOW, _VALUE, _dema_lookback, _dema_state, _dema_step, _dema_column),
    Indicator("tema", _X, _WINDOW, _VALUE, _tema_lookback, _tema_state, _tema_step, _tema_column),
    Indicator("hma", _X, (window_param(20, low=2),), _VALUE, _hma_lookback, _hma_state, _hma_step, _hma_column),
    Indicator("kama", _X, _KAMA, _VALUE, whole_window, _kama_state, _kama_step, _kama_column),
    Indicator(
        "macd", _X, _MACD, ("macd", "signal", "histogram"), _macd_lookback, _macd_state, _macd_step, _macd_column
    ),
)
