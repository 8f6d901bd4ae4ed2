"""Volume and days: on-balance volume, volume-weighted prices, pivots of a UTC day, and Heikin-Ashi candles."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from bot.core.indicators.base import Indicator, Params, no_bars, window_param, within_window
from bot.core.indicators.windows import SUM, Floats, blank, has_nan, rolling_sum
from bot.core.jit import bare_kernel

DAY_NS: Final = 86_400e9


def _obv_state(params: Params) -> Floats:
    """Return [the close before, NaN for none; total]."""
    del params
    return np.array([math.nan, 0.0])


@bare_kernel
def _obv_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    before = state[0]
    if x[0] > before or math.isnan(before):
        state[1] += x[1]
    elif x[0] < before:
        state[1] -= x[1]
    state[0] = x[0]
    out[0] = state[1]


@bare_kernel
def _obv_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _obv_step(state, inputs[row], outputs[row])


@bare_kernel
def day_turned(state: Floats, time_ns: float) -> bool:
    """Take a bar's start; return whether its UTC day is another than the bar's before, or has begun with it.

    `state` holds the day, NaN for none.
    """
    day = float(math.floor(time_ns / DAY_NS))
    before = state[0]
    state[0] = day
    return time_ns == day * DAY_NS if math.isnan(before) else day != before


def _vwap_state(params: Params) -> Floats:
    """Return [day, 1.0 once one has begun, sum of price x volume, of volume]."""
    del params
    return np.array([math.nan, 0.0, 0.0, 0.0])


@bare_kernel
def _vwap_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    if day_turned(state[:1], x[4]):
        state[1] = 1.0
        state[2] = 0.0
        state[3] = 0.0
    typical = (x[0] + x[1] + x[2]) / 3.0
    state[2] += typical * x[3]
    state[3] += x[3]
    if state[1] > 0.0:
        out[0] = state[2] / state[3] if state[3] > 0.0 else typical


@bare_kernel
def _vwap_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _vwap_step(state, inputs[row], outputs[row])


def _rolling_vwap_state(params: Params) -> Floats:
    """Return two windows of sums, one after the other."""
    return np.zeros(2 * (SUM + int(params[0])))


@bare_kernel
def _rolling_vwap_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    half = len(state) // 2
    typical = (x[0] + x[1] + x[2]) / 3.0
    value = rolling_sum(state[:half], typical * x[3])
    volume = rolling_sum(state[half:], x[3])
    if not math.isnan(volume):
        out[0] = value / volume if volume > 0.0 else typical


@bare_kernel
def _rolling_vwap_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _rolling_vwap_step(state, inputs[row], outputs[row])


def _pivots_state(params: Params) -> Floats:
    """Return [day, 1.0 once one has begun; its high, low and close so far; those of the finished day, NaN for none]."""
    del params
    return np.array([math.nan, 0.0, 0.0, 0.0, 0.0, math.nan, math.nan, math.nan])


@bare_kernel
def _pivots_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    if day_turned(state[:1], x[3]):
        if state[1] > 0.0:
            state[5] = state[2]
            state[6] = state[3]
            state[7] = state[4]
        state[1] = 1.0
        state[2] = x[0]
        state[3] = x[1]
    elif state[1] > 0.0:
        state[2] = x[0] if x[0] > state[2] else state[2]
        state[3] = x[1] if x[1] < state[3] else state[3]
    state[4] = x[2]
    high = state[5]
    low = state[6]
    if math.isnan(high):
        return
    pivot = (high + low + state[7]) / 3.0
    out[0] = pivot
    out[1] = 2.0 * pivot - low
    out[2] = 2.0 * pivot - high
    out[3] = pivot + (high - low)
    out[4] = pivot - (high - low)
    out[5] = high + 2.0 * (pivot - low)
    out[6] = low - 2.0 * (high - pivot)


@bare_kernel
def _pivots_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _pivots_step(state, inputs[row], outputs[row])


def _heikin_ashi_state(params: Params) -> Floats:
    """Return open and close of the candle before, NaN for none."""
    del params
    return np.array([math.nan, math.nan])


@bare_kernel
def _heikin_ashi_step(state: Floats, x: Floats, out: Floats) -> None:
    blank(out)
    if has_nan(x):
        return
    start = 0.5 * (x[0] + x[3]) if math.isnan(state[0]) else 0.5 * (state[0] + state[1])
    end = 0.25 * (x[0] + x[1] + x[2] + x[3])
    top = start if start > end else end
    bottom = end if start > end else start
    state[0] = start
    state[1] = end
    out[0] = start
    out[1] = x[1] if x[1] > top else top
    out[2] = x[2] if x[2] < bottom else bottom
    out[3] = end


@bare_kernel
def _heikin_ashi_column(state: Floats, inputs: Floats, outputs: Floats) -> None:
    for row in range(len(inputs)):
        _heikin_ashi_step(state, inputs[row], outputs[row])


_BARS: Final = ("high", "low", "close")
_TRADED: Final = (*_BARS, "volume")
_VALUE: Final = ("value",)
_LEVELS: Final = ("pivot", "r1", "s1", "r2", "s2", "r3", "s3")
_CANDLE: Final = ("open", "high", "low", "close")

SESSIONS: Final = (
    Indicator("obv", ("close", "volume"), (), _VALUE, no_bars, _obv_state, _obv_step, _obv_column),
    Indicator("vwap", (*_TRADED, "time"), (), _VALUE, no_bars, _vwap_state, _vwap_step, _vwap_column, days=1),
    Indicator(
        "rolling_vwap",
        _TRADED,
        (window_param(20),),
        _VALUE,
        within_window,
        _rolling_vwap_state,
        _rolling_vwap_step,
        _rolling_vwap_column,
    ),
    Indicator("pivots", (*_BARS, "time"), (), _LEVELS, no_bars, _pivots_state, _pivots_step, _pivots_column, days=2),
    Indicator("heikin_ashi", _CANDLE, (), _CANDLE, no_bars, _heikin_ashi_state, _heikin_ashi_step, _heikin_ashi_column),
)
