"""A simple average takes its column block by block, and nobody can tell: neither by its values nor by its state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.indicators.registry import INDICATORS
from tests.support.indicator_series import KINDS, Floats, bits, market

ROWS = 60
SMA = INDICATORS["sma"]
MISSING = {
    "none": (),
    "the_first": (0,),
    "a_head_of_blocks": range(25),
    "one_in_the_middle": (31,),
    "a_run_in_the_middle": range(20, 41),
    "the_last": (ROWS - 1,),
    "a_tail": range(50, ROWS),
    "both_ends": (0, ROWS - 1),
    "every_third": range(0, ROWS, 3),
    "all_but_one": (*range(30), *range(31, ROWS)),
    "all": range(ROWS),
}
WINDOWS = (1, 2, 3, 7, 20, 30, ROWS - 1, ROWS, ROWS + 1, 5 * ROWS)
with_missing = pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING.keys())


def values_of(kind: str, seed: int, rows: int, missing: Sequence[int] | set[int] = ()) -> Floats:
    values = market(kind, seed, rows)["x"].reshape(-1, 1) if rows else np.empty((0, 1))
    values[list(missing)] = np.nan
    return values


def by_steps(state: Floats, values: Floats) -> Floats:
    means = np.empty_like(values)
    for value, mean in zip(values, means, strict=True):
        SMA.step(state, value, mean)
    return means


def by_column(state: Floats, values: Floats) -> Floats:
    means = np.full_like(values, 7.0)  # what is left of it shows
    SMA.column(state, values, means)
    return means


@with_missing
@pytest.mark.parametrize("window", WINDOWS)
def test_a_column_gives_the_means_and_leaves_the_state_of_its_steps(window: int, missing: Sequence[int]) -> None:
    values = values_of("walk", window, ROWS, missing)
    stepped, taken = SMA.make_state((window,)), SMA.make_state((window,))
    assert bits(by_steps(stepped, values)) == bits(by_column(taken, values))
    assert stepped.tobytes() == taken.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 2, 6, 7, 8, 13, 14, 15])
def test_a_column_may_end_before_at_and_after_a_block(rows: int) -> None:
    values = values_of("jumps", rows, rows)
    stepped, taken = SMA.make_state((7,)), SMA.make_state((7,))
    assert bits(by_steps(stepped, values)) == bits(by_column(taken, values))
    assert stepped.tobytes() == taken.tobytes()


@settings(deadline=None)  # the first call compiles
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    window=st.integers(1, 25),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    missing=st.sets(st.integers(0, 299), max_size=30),
)
def test_columns_and_steps_take_turns_on_one_state(
    kind: str, seed: int, window: int, lengths: list[int], missing: set[int]
) -> None:
    rows = sum(lengths)
    values = values_of(kind, seed, rows, {index for index in missing if index < rows})
    parts = np.split(values, np.cumsum(lengths)[:-1])
    stepped, mixed = SMA.make_state((window,)), SMA.make_state((window,))
    for turn, part in enumerate(parts):
        means = by_steps(stepped, part)
        assert bits(means) == bits((by_steps if turn % 2 else by_column)(mixed, part))
        assert stepped.tobytes() == mixed.tobytes()


def test_infinities_that_cancel_are_not_missing_values() -> None:
    values = values_of("walk", 1, ROWS)
    values[17], values[19] = np.inf, -np.inf
    stepped, taken = SMA.make_state((5,)), SMA.make_state((5,))
    with np.errstate(invalid="ignore"):
        assert bits(by_steps(stepped, values)) == bits(by_column(taken, values))
    assert bits(stepped) == bits(taken)
