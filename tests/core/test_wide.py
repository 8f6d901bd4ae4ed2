"""Wide numbers are whole numbers: every kernel against Python's own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import wide

slowly_at_first = settings(deadline=None)  # the first call compiles
BOUND = 2**124
NUMBERS = st.integers(0, wide.LOW) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**61, wide.LOW])
WIDES = st.integers(-BOUND // 2, BOUND // 2) | st.integers(-(2**70), 2**70) | NUMBERS
DIVISORS = st.integers(1, 2**31) | st.sampled_from([1, 10**6, 2**31])


@slowly_at_first
@given(WIDES)
def test_a_pair_means_its_number(value: int) -> None:
    high, low = wide.wide(value)
    assert 0 <= low < 2**62
    assert wide.narrow(high, low) == value


@slowly_at_first
@given(st.integers(-(2**62), 2**62))
def test_a_number_widens_with_its_sign(value: int) -> None:
    assert wide.widened(value) == wide.wide(value)


@slowly_at_first
@given(WIDES, WIDES)
def test_sums_differences_and_order_are_exact(a: int, b: int) -> None:
    pairs = (*wide.wide(a), *wide.wide(b))
    assert wide.plus(*pairs) == wide.wide(a + b)
    assert wide.minus(*pairs) == wide.wide(a - b)
    assert wide.negative(*wide.wide(a)) == wide.wide(-a)
    assert wide.magnitude(*wide.wide(a)) == wide.wide(abs(a))
    assert wide.is_below(*pairs) == (a < b)


@slowly_at_first
@given(NUMBERS, NUMBERS)
def test_products_of_numbers_are_exact(a: int, b: int) -> None:
    assert wide.product(a, b) == wide.wide(a * b)


@slowly_at_first
@given(st.integers(-(2**90), 2**90), st.integers(0, 2**33))
def test_multiples_are_exact(a: int, k: int) -> None:
    assert wide.times(*wide.wide(a), k) == wide.wide(a * k)


@slowly_at_first
@given(WIDES, DIVISORS)
def test_small_divisors_round_down_and_up(a: int, divisor: int) -> None:
    assert wide.over(*wide.wide(a), divisor) == wide.wide(a // divisor)
    assert wide.over_up(*wide.wide(a), divisor) == wide.wide(-(-a // divisor))


@slowly_at_first
@given(st.integers(0, 2**100), st.integers(0, 2_000_000))
def test_a_share_is_rounded_up(a: int, ppm: int) -> None:
    assert wide.share_up(*wide.wide(a), ppm) == wide.wide(-(-a * ppm // 1_000_000))


@slowly_at_first
@given(WIDES, WIDES)
def test_a_quotient_is_rounded_down_and_bounded(a: int, b: int) -> None:
    exact = 0 if a <= 0 else wide.LOW if b <= 0 else min(a // b, wide.LOW)
    assert wide.quotient(*wide.wide(a), *wide.wide(b)) == exact


@slowly_at_first
@given(st.integers(-(2**80), 2**80), st.integers(0, 2**40), st.integers(1, wide.LOW))
def test_a_part_is_rounded_down(a: int, part: int, whole: int) -> None:
    assert wide.part_of(*wide.wide(a), part, whole) == wide.wide(a * part // whole)


@slowly_at_first
@given(st.integers(1, 2**60), st.integers(1, 2**62), st.integers(-1, 1))
def test_a_quotient_beside_a_multiple_is_exact(count: int, b: int, off: int) -> None:
    assert wide.quotient(*wide.wide(count * b + off), *wide.wide(b)) == (count * b + off) // b


@slowly_at_first
@given(WIDES)
def test_a_float_is_within_two_roundings(value: int) -> None:
    assert wide.as_float(*wide.wide(value)) == pytest.approx(float(value), rel=4e-16)
