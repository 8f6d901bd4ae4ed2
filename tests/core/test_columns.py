"""Crossovers by the column are those of exact averages, a bar at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.columns import crossover_flags
from bot.core.tactics import ENTER_LONG, EXIT_LONG
from bot.errors import SettingsError


def slowly(close: list[int], fast: int, slow: int) -> list[int]:
    flags: list[int] = []
    was_above = False
    for end in range(1, len(close) + 1):
        is_above = end >= slow and Fraction(sum(close[end - fast : end]), fast) > Fraction(
            sum(close[end - slow : end]), slow
        )
        flags.append(ENTER_LONG if is_above and not was_above else EXIT_LONG if was_above and not is_above else 0)
        was_above = is_above
    return flags


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 6), st.integers(1, 6))
def test_the_column_is_what_exact_averages_say(close: list[int], fast: int, more: int) -> None:
    assert crossover_flags(np.array(close, np.int64), fast, fast + more).tolist() == slowly(close, fast, fast + more)


@pytest.mark.parametrize(("fast", "slow"), [(0, 5), (5, 5), (6, 5)])
def test_windows_that_are_none_are_refused(fast: int, slow: int) -> None:
    with pytest.raises(SettingsError, match=f"{fast} and {slow}"):
        crossover_flags(np.ones(10, np.int64), fast, slow)


def test_prices_whose_sums_would_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="too high"):
        crossover_flags(np.full(60, 2**55, np.int64), 20, 50)
