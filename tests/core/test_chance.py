from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.chance import delay_ns, longest_ns, uniform


def test_a_name_has_one_draw_whatever_was_drawn_before() -> None:
    first = uniform("order 1")
    assert uniform("order 2") != first
    assert uniform("order 1") == first
    assert 0 < first < 1


def test_delays_have_the_median_and_the_percentile_that_were_asked_for() -> None:
    drawn = sorted(delay_ns(f"order {number}", 60_000, 400_000) for number in range(20_000))
    assert drawn[10_000] == pytest.approx(60_000, rel=0.05)
    assert drawn[19_800] == pytest.approx(400_000, rel=0.1)


@given(st.text(), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_delay_is_bounded(name: str, median_ns: int, p99_ns: int) -> None:
    assert 0 <= delay_ns(name, median_ns, p99_ns) <= longest_ns(median_ns, p99_ns)


@pytest.mark.parametrize(("median_ns", "p99_ns"), [(50, 0), (50, 50), (0, 400)])
def test_without_a_spread_it_is_always_the_median(median_ns: int, p99_ns: int) -> None:
    assert {delay_ns(str(number), median_ns, p99_ns) for number in range(50)} == {median_ns}
