"""The summary of a curve, against the plain formulas, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.summary import add_steps, new_sums, summarise, summed

CURVES = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=40)


@settings(deadline=None)
@given(CURVES, st.floats(1.0, 1e6))
def test_a_summary_is_what_the_formulas_say(curve: list[float], cash: float) -> None:
    whole = np.array([cash, *curve])
    returns = np.diff(whole) / whole[:-1]
    got = summarise(np.array(curve), cash)
    assert got.final_equity == curve[-1]
    assert got.total_return == pytest.approx(curve[-1] / cash - 1.0)
    assert got.max_drawdown == pytest.approx(np.max(1.0 - whole / np.maximum.accumulate(whole)), abs=1e-12)
    assert got.mean == pytest.approx(returns.mean(), rel=1e-9, abs=1e-9)
    expected = returns.std(ddof=1) if len(returns) > 1 else 0.0
    assert got.deviation == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.abs(returns).max())
    assert got.steps == len(curve)


@settings(deadline=None)
@given(CURVES, st.integers(0, 40))
def test_it_is_the_same_in_pieces(curve: list[float], cut: int) -> None:
    sums = new_sums(100.0)
    add_steps(sums, np.array(curve[:cut]))
    add_steps(sums, np.array(curve[cut:]))
    assert summed(sums, 100.0) == summarise(np.array(curve), 100.0)
