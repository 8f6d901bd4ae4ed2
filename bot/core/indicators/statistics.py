"""Statistics of one series in a window: deviation, score, slope, change, and what sizing asks of returns."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.base import Indicator, Params, whole_window, window_param, within_window
from bot.core.indicators.windows import DELAY, MOMENTS, Floats, blank, delayed, has_nan, rolling_moments, rolling_slope
from bot.core.jit import bare_kernel


def moments_state(window: float) -> Floats:
    """Return a window of moments or slopes."""
    return np.zeros(MOMENTS + 2 * int(window))


def _window_state(params: Params) -> Floats:
    return moments_state(params[0])


@bare_kernel
def _deviation_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    spread = rolling_moments(state, x[0])[2]
    out[0] = math.sqrt(spread / ((len(state) - MOMENTS) // 2))


@bare_kernel
def _deviation_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _deviation_step(state, inputs[row], outputs[row])


@bare_kernel
def _zscore_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    _, offset, spread = rolling_moments(state, x[0])
    if spread > 0.0:
        out[0] = offset / math.sqrt(spread / ((len(state) - MOMENTS) // 2))
    elif spread == 0.0:
        out[0] = 0.0


@bare_kernel
def _zscore_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _zscore_step(state, inputs[row], outputs[row])


@bare_kernel
def _slope_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else rolling_slope(state, x[0])


@bare_kernel
def _slope_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _slope_step(state, inputs[row], outputs[row])


def _delay_state(params: Params) -> Floats:
    return np.zeros(DELAY + int(params[0]))


@bare_kernel
def _momentum_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else x[0] - delayed(state, x[0])


@bare_kernel
def _momentum_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _momentum_step(state, inputs[row], outputs[row])


@bare_kernel
def relative_change(value: float, before: float) -> float:
    """Return the change as a fraction of what was before, 0.0 where that was 0.0."""
    return (value - before) / before if before != 0.0 else 0.0


@bare_kernel
def _roc_step(state: Floats, x: Floats, out: Floats) -> None:
    out[0] = math.nan if math.isnan(x[0]) else 100.0 * relative_change(x[0], delayed(state, x[0]))


@bare_kernel
def _roc_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _roc_step(state, inputs[row], outputs[row])


def _returns_state(params: Params) -> Floats:
    """Return [the value before, NaN for none; a window of moments…]."""
    return np.concatenate([[math.nan], moments_state(params[0])])


@bare_kernel
def _return_moments(state: Floats, value: float) -> tuple[float, float]:
    """Take the next value; return mean and sample variance of the last `window` returns, NaN until warm."""
    before = state[0]
    state[0] = value
    if math.isnan(before):
        return math.nan, math.nan
    mean, _, spread = rolling_moments(state[1:], relative_change(value, before))
    return mean, spread / ((len(state) - 1 - MOMENTS) // 2 - 1)


@bare_kernel
def _volatility_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    variance = _return_moments(state, x[0])[1]
    out[0] = math.sqrt(variance)


@bare_kernel
def _volatility_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _volatility_step(state, inputs[row], outputs[row])


@bare_kernel
def _kelly_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    mean, variance = _return_moments(state, x[0])
    if variance > 0.0:
        out[0] = mean / variance
    elif variance == 0.0:
        out[0] = 0.0


@bare_kernel
def _kelly_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _kelly_step(state, inputs[row], outputs[row])


_X: Final = ("x",)
_VALUE: Final = ("value",)
_PAIR: Final = (window_param(20, low=2),)
_RETURNS: Final = (window_param(30, low=2),)

STATISTICS: Final = (
    Indicator(
        "stddev", _X, (window_param(20),), _VALUE, within_window, _window_state, _deviation_step, _deviation_column
    ),
    Indicator("zscore", _X, _PAIR, _VALUE, within_window, _window_state, _zscore_step, _zscore_column),
    Indicator("slope", _X, _PAIR, _VALUE, within_window, _window_state, _slope_step, _slope_column),
    Indicator(
        "momentum", _X, (window_param(10),), _VALUE, whole_window, _delay_state, _momentum_step, _momentum_column
    ),
    Indicator("roc", _X, (window_param(10),), _VALUE, whole_window, _delay_state, _roc_step, _roc_column),
    Indicator("volatility", _X, _RETURNS, _VALUE, whole_window, _returns_state, _volatility_step, _volatility_column),
    Indicator("kelly", _X, _RETURNS, _VALUE, whole_window, _returns_state, _kelly_step, _kelly_column),
)
