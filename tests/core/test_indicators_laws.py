"""What holds for every indicator of the registry, whatever it computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.core.indicators.registry import INDICATORS, Indicator, Stepper, column
from bot.errors import SettingsError
from tests.support.indicator_series import (
    HOUR_NS,
    KINDS,
    MIDNIGHT_NS,
    bits,
    digests,
    market,
    outputs_of,
    rows_of,
    small_params,
)

ROOT = Path(__file__).parents[2]
every_indicator = pytest.mark.parametrize("indicator", INDICATORS.values(), ids=INDICATORS.keys())
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(KINDS)
few = settings(max_examples=12, deadline=None)

SCALE_FREE = {
    *("adx", "di", "kelly", "mfi", "obv", "roc", "rsi", "cci", "zscore", "volatility"),
    *("crossed_above", "crossed_below", "stochastic", "stoch_rsi", "williams_r"),
}
"""Indicators that are the same in any unit of price; the others are in that unit, but for directions."""

FORGETFUL = (
    *("sma", "wma", "hma", "stddev", "zscore", "slope", "momentum", "roc", "volatility", "kelly", "highest", "lowest"),
    *("true_range", "bollinger", "donchian", "ichimoku", "stochastic", "williams_r", "cci", "mfi", "rolling_vwap"),
)
"""Indicators of a window alone."""


@every_indicator
@few
@given(kind=kinds, seed=seeds, head=st.integers(0, 5))
def test_a_column_is_its_steps_bit_for_bit(indicator: Indicator, kind: str, seed: int, head: int) -> None:
    rows = rows_of(indicator, market(kind, seed, 80))
    rows[:head] = np.nan
    params = small_params(indicator, seed)
    stepper = Stepper(indicator, params)
    steps = np.array([stepper.step(*row).copy() for row in rows])
    assert bits(steps) == bits(outputs_of(indicator, params, rows))


def test_the_plain_functions_give_the_bits_of_the_compiled_ones() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "error", "-m", "tests.support.indicator_series"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    assert json.loads(run.stdout) == digests()


@every_indicator
@few
@given(kind=kinds, seed=seeds, cut=st.integers(1, 79))
def test_later_bars_change_no_earlier_value(indicator: Indicator, kind: str, seed: int, cut: int) -> None:
    rows = rows_of(indicator, market(kind, seed, 80))
    other = rows.copy()
    other[cut:] = rows_of(indicator, market("walk", seed + 1, 80))[cut:]
    params = small_params(indicator, seed)
    assert bits(outputs_of(indicator, params, rows)[:cut]) == bits(outputs_of(indicator, params, other)[:cut])


@every_indicator
@few
@given(kind=kinds, seed=seeds, missing=st.sets(st.integers(0, 79), max_size=20))
def test_a_missing_value_is_as_if_the_bar_had_not_been(
    indicator: Indicator, kind: str, seed: int, missing: set[int]
) -> None:
    rows = rows_of(indicator, market(kind, seed, 80))
    for index in missing:
        rows[index, (index + seed) % rows.shape[1]] = np.nan
    is_there = ~np.isnan(rows).any(axis=1)
    params = small_params(indicator, seed)
    outputs = outputs_of(indicator, params, rows)
    assert np.isnan(outputs[~is_there]).all()
    assert bits(outputs[is_there]) == bits(outputs_of(indicator, params, rows[is_there]))


@every_indicator
@few
@given(kind=kinds, seed=seeds)
def test_the_look_back_is_exact(indicator: Indicator, kind: str, seed: int) -> None:
    params = small_params(indicator, seed)
    assert _bars_without_value(indicator, params, market(kind, seed, 120)) == (
        24 if indicator.name == "pivots" else indicator.lookback(params)
    )


@every_indicator
@pytest.mark.parametrize("hour", [1, 12, 23])
def test_days_that_may_have_to_pass_are_enough(indicator: Indicator, hour: int) -> None:
    params = indicator.with_defaults(())
    empty = _bars_without_value(indicator, params, market("walk", 1, 150, MIDNIGHT_NS + hour * HOUR_NS))
    assert empty <= indicator.lookback(params) + 24 * indicator.days
    assert empty == indicator.lookback(params) or indicator.days > 0


def _bars_without_value(indicator: Indicator, params: tuple[float, ...], series: dict[str, np.ndarray]) -> int:
    outputs = outputs_of(indicator, params, rows_of(indicator, series))
    is_empty = np.isnan(outputs).any(axis=1)
    assert np.isnan(outputs[is_empty]).all(), "all outputs begin together"
    count = int(is_empty.sum())
    assert np.isfinite(outputs[count:]).all(), "and never stop"
    return count


@every_indicator
@few
@given(seed=seeds, exponent=st.integers(-40, 40))
@example(seed=0, exponent=300)
def test_the_unit_of_price_does_not_matter(indicator: Indicator, seed: int, exponent: int) -> None:
    series = market("walk", seed, 80)
    scale = 2.0**exponent
    prices = ("open", "high", "low", "close", "x", "y")
    scaled = {name: values * scale if name in prices else values for name, values in series.items()}
    params = small_params(indicator, seed)
    plain = outputs_of(indicator, params, rows_of(indicator, series))
    for index, name in enumerate(indicator.outputs):
        is_free = indicator.name in SCALE_FREE or name == "direction"
        expected = plain[:, index] if is_free else plain[:, index] * scale
        np.testing.assert_array_equal(outputs_of(indicator, params, rows_of(indicator, scaled))[:, index], expected)


@pytest.mark.parametrize("name", FORGETFUL)
@few
@given(seed=seeds, at=st.integers(0, 60))
def test_a_value_that_has_left_the_window_leaves_no_trace(name: str, seed: int, at: int) -> None:
    indicator = INDICATORS[name]
    params = small_params(indicator, seed)
    rows = rows_of(indicator, market("walk", seed, 120))
    spiked = rows.copy()
    spiked[at] *= 1e12
    after = at + indicator.lookback(params) + 1
    assert (
        outputs_of(indicator, params, rows)[after:].tobytes() == outputs_of(indicator, params, spiked)[after:].tobytes()
    )


@pytest.mark.parametrize("name", FORGETFUL)
def test_nothing_drifts_over_ten_million_bars(name: str) -> None:
    indicator = INDICATORS[name]
    params = indicator.with_defaults(())
    state = indicator.make_state(params)
    rows = rows_of(indicator, market("walk", 5, 1_000_000))
    outputs = np.empty((len(rows), len(indicator.outputs)))
    for _ in range(10):
        indicator.column(state, rows, outputs)
    tail = 300
    fresh = outputs_of(indicator, params, rows[-tail:])[indicator.lookback(params) :]
    np.testing.assert_allclose(outputs[-len(fresh) :], fresh, rtol=1e-9, atol=1e-9)


@few
@given(values=st.lists(st.integers(1, 2**40), min_size=12, max_size=60))
def test_a_mean_of_whole_numbers_is_the_exact_one_rounded_once(values: list[int]) -> None:
    means = column(INDICATORS["sma"], (12,), [np.array(values)])[11:, 0]
    assert means.tolist() == [float(Fraction(sum(values[end - 12 : end]), 12)) for end in range(12, len(values) + 1)]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ((0,), "sma: window 0 is not in 1 to 10000"),
        ((10_001,), "sma: window 10001 is not in 1 to 10000"),
        ((2.5,), "sma: window 2.5 is not a whole number"),
        ((float("nan"),), "sma: window nan is not in 1 to 10000"),
        ((2, 3), "sma takes 1 parameters, not 2"),
    ],
    ids=["low", "high", "broken", "nan", "many"],
)
def test_a_wrong_parameter_is_refused(params: tuple[float, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Stepper(INDICATORS["sma"], params)


@every_indicator
def test_defaults_are_within_their_bounds(indicator: Indicator) -> None:
    defaults = indicator.with_defaults(())
    assert indicator.with_defaults(defaults) == defaults
