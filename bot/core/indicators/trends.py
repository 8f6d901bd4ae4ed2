"""Trends: how strong they are, where they turn, and when two series cross."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.averages import SMOOTHED, smoothed, wilder_state
from bot.core.indicators.base import Indicator, Param, Params, one_bar, whole_window, window_param
from bot.core.indicators.ranges import ATR, atr_state, average_true_range
from bot.core.indicators.windows import Floats, blank, has_nan
from bot.core.jit import bare_kernel

DIRECTION: Final = 2 + ATR + 2 * SMOOTHED
"""Numbers in the state of a directional movement."""


def direction_state(window: float) -> Floats:
    """Return [high and low before, NaN for none; average true range…; Wilder's averages of moves up… and down…]."""
    return np.concatenate([[math.nan, math.nan], atr_state(window), np.tile(wilder_state(window), 2)])


@bare_kernel
def direction(state: Floats, high: float, low: float, close: float) -> tuple[float, float]:
    """Take the next bar; return +DI and -DI, 0.0 to 100.0, NaN until warm."""
    up = high - state[0]
    down = state[1] - low
    state[0] = high
    state[1] = low
    reach = average_true_range(state[2 : 2 + ATR], high, low, close)
    if math.isnan(up):
        return math.nan, math.nan
    rise = smoothed(state[2 + ATR : 2 + ATR + SMOOTHED], up if up > down and up > 0.0 else 0.0)
    fall = smoothed(state[2 + ATR + SMOOTHED : DIRECTION], down if down > up and down > 0.0 else 0.0)
    if math.isnan(rise):
        return math.nan, math.nan
    if reach == 0.0:
        return 0.0, 0.0
    return 100.0 * (rise / reach), 100.0 * (fall / reach)


def _di_state(params: Params) -> Floats:
    return direction_state(params[0])


@bare_kernel
def _di_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if not has_nan(x):
        out[0], out[1] = direction(state, x[0], x[1], x[2])


@bare_kernel
def _di_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _di_step(state, inputs[row], outputs[row])


def _adx_state(params: Params) -> Floats:
    """Return [directional movement…, Wilder's average of its index…]."""
    return np.concatenate([direction_state(params[0]), wilder_state(params[0])])


def _adx_lookback(params: Params) -> int:
    return 2 * int(params[0]) - 1


@bare_kernel
def _adx_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    plus, minus = direction(state[:DIRECTION], x[0], x[1], x[2])
    if math.isnan(plus):
        return
    both = plus + minus
    strength = smoothed(state[DIRECTION:], 100.0 * (abs(plus - minus) / both) if both > 0.0 else 0.0)
    if math.isnan(strength):
        return
    out[0] = strength
    out[1] = plus
    out[2] = minus


@bare_kernel
def _adx_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _adx_step(state, inputs[row], outputs[row])


def _supertrend_state(params: Params) -> Floats:
    """Return [width, upper, lower, direction or 0.0 for none, average true range…, whose first is the close before]."""
    return np.concatenate([[params[1], 0.0, 0.0, 0.0], atr_state(params[0])])


@bare_kernel
def _supertrend_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    close = x[2]
    before = state[4]
    reach = state[0] * average_true_range(state[4:], x[0], x[1], close)
    if math.isnan(reach):
        return
    middle = 0.5 * (x[0] + x[1])
    upper = middle + reach
    lower = middle - reach
    if state[3] == 0.0:
        state[3] = -1.0
    else:
        # A band only comes nearer, until the price has closed beyond it.
        if upper > state[1] and before <= state[1]:
            upper = state[1]
        if lower < state[2] and before >= state[2]:
            lower = state[2]
    state[1] = upper
    state[2] = lower
    if close > upper:
        state[3] = 1.0
    elif close < lower:
        state[3] = -1.0
    out[0] = lower if state[3] > 0.0 else upper
    out[1] = state[3]


@bare_kernel
def _supertrend_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _supertrend_step(state, inputs[row], outputs[row])


def _parabolic_state(params: Params) -> Floats:
    """Return [step, limit, high and low before (NaN for none), direction or 0.0 for none, stop, extreme, speed]."""
    return np.array([params[0], params[1], math.nan, math.nan, 0.0, 0.0, 0.0, 0.0])


@bare_kernel
def _parabolic_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    high = x[0]
    low = x[1]
    high_before = state[2]
    low_before = state[3]
    state[2] = high
    state[3] = low
    if math.isnan(high_before):
        return
    if state[4] == 0.0:
        fell = low_before - low
        state[4] = -1.0 if fell > 0.0 and fell > high - high_before else 1.0
        state[5] = low_before if state[4] > 0.0 else high_before
        state[6] = high if state[4] > 0.0 else low
        state[7] = min(state[0], state[1])
        low_before = low
        high_before = high
    stop = state[5]
    rises = state[4] > 0.0
    if (rises and low <= stop) or (not rises and high >= stop):
        rises = not rises
        stop = _beyond(not rises, state[6], high_before, low_before, high, low)
        state[4] = 1.0 if rises else -1.0
        state[6] = high if rises else low
        state[7] = min(state[0], state[1])
    elif (rises and high > state[6]) or (not rises and low < state[6]):
        state[6] = high if rises else low
        state[7] = min(state[7] + state[0], state[1])
    out[0] = stop
    out[1] = state[4]
    state[5] = _beyond(not rises, stop + state[7] * (state[6] - stop), high_before, low_before, high, low)


@bare_kernel
def _beyond(is_above: bool, stop: float, high_before: float, low_before: float, high: float, low: float) -> float:
    """Return the stop, or the far end of the last two bars where it would be among their prices."""
    if is_above:
        top = high_before if high_before > high else high
        return stop if stop > top else top
    bottom = low_before if low_before < low else low
    return stop if stop < bottom else bottom


@bare_kernel
def _parabolic_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _parabolic_step(state, inputs[row], outputs[row])


def _pair_state(params: Params) -> Floats:
    """Return [x less y of the row before, NaN for none]."""
    del params
    return np.array([math.nan])


@bare_kernel
def _crossed_above_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    before = state[0]
    state[0] = _order(x)
    if not math.isnan(before):
        out[0] = 1.0 if before <= 0.0 < state[0] else 0.0


@bare_kernel
def _order(x: Floats) -> float:
    """Return the sign of x less y; the difference itself could round to nothing."""
    if x[0] > x[1]:
        return 1.0
    return -1.0 if x[0] < x[1] else 0.0


@bare_kernel
def _crossed_above_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _crossed_above_step(state, inputs[row], outputs[row])


@bare_kernel
def _crossed_below_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    before = state[0]
    state[0] = _order(x)
    if not math.isnan(before):
        out[0] = 1.0 if before >= 0.0 > state[0] else 0.0


@bare_kernel
def _crossed_below_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _crossed_below_step(state, inputs[row], outputs[row])


_BARS: Final = ("high", "low", "close")
_PAIR: Final = ("x", "y")
_VALUE: Final = ("value",)
_WINDOW: Final = (window_param(14),)
_STOP: Final = ("value", "direction")
_SUPERTREND: Final = (window_param(10), Param("width", "float", 3.0, 0.0, 100.0))
_PARABOLIC: Final = (Param("step", "float", 0.02, 0.0, 1.0), Param("limit", "float", 0.2, 0.0, 1.0))

TRENDS: Final = (
    Indicator("di", _BARS, _WINDOW, ("plus", "minus"), whole_window, _di_state, _di_step, _di_column),
    Indicator("adx", _BARS, _WINDOW, ("adx", "plus", "minus"), _adx_lookback, _adx_state, _adx_step, _adx_column),
    Indicator(
        "supertrend",
        _BARS,
        _SUPERTREND,
        _STOP,
        whole_window,
        _supertrend_state,
        _supertrend_step,
        _supertrend_column,
    ),
    Indicator(
        "psar", ("high", "low"), _PARABOLIC, _STOP, one_bar, _parabolic_state, _parabolic_step, _parabolic_column
    ),
    Indicator("crossed_above", _PAIR, (), _VALUE, one_bar, _pair_state, _crossed_above_step, _crossed_above_column),
    Indicator("crossed_below", _PAIR, (), _VALUE, one_bar, _pair_state, _crossed_below_step, _crossed_below_column),
)
