"""A step at a time gives what a recomputation of the whole window gives."""

from __future__ import annotations

import subprocess
import sys
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.indicators import Sma, ZScore

prices = st.lists(st.integers(1, 10**9), max_size=60)
at_leisure = settings(deadline=None)  # the first call compiles


@at_leisure
@given(prices, st.integers(1, 20))
def test_an_average_equals_a_naive_one(values: list[int], window: int) -> None:
    sma = Sma(window)
    for end, value in enumerate(values, start=1):
        average = sma.step(value)
        if end < window:
            assert average is None
        else:
            assert average == sum(values[end - window : end]) / window


@at_leisure
@given(prices, st.integers(2, 20))
def test_a_score_equals_a_naive_one(values: list[int], window: int) -> None:
    scores = ZScore(window)
    for end, value in enumerate(values, start=1):
        score = scores.step(value)
        if end < window:
            assert score is None
            continue
        seen = values[end - window : end]
        deviation = pstdev(seen)
        assert score == pytest.approx((value - fmean(seen)) / deviation if deviation else 0.0, rel=1e-9, abs=1e-9)


def test_a_score_of_equal_values_is_zero() -> None:
    scores = ZScore(3)
    assert [scores.step(7) for _ in range(4)] == [None, None, 0.0, 0.0]


def test_nothing_drifts_over_a_hundred_thousand_bars() -> None:
    sma, scores = Sma(3), ZScore(3)
    for value in range(10**12, 10**12 + 99_999):
        sma.step(value)
        scores.step(value)
    assert sma.step(10**12 + 99_999) == 10**12 + 99_998
    assert scores.step(10**12 + 99_999) == pytest.approx(1.5**0.5, rel=1e-15)


def test_a_compiler_is_loaded_only_for_an_indicator_that_is_made() -> None:
    script = (
        "import sys, bot.core.indicators as i; print('numba' in sys.modules); i.Sma(3); print('numba' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
