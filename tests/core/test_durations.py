"""Lengths of time: both ways, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.durations import UNITS_NS, duration_ns, duration_text

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", SECOND // 4),
        ("5s", 5 * SECOND),
        ("1m", 60 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("4h", 14_400 * SECOND),
        ("1d", 86_400 * SECOND),
        ("1w", 604_800 * SECOND),
        ("1m1ms", 60 * SECOND + SECOND // 1000),
        ("0s", 0),
    ],
)
def test_a_length_is_read_and_written(text: str, ns: int) -> None:
    assert duration_ns(text) == ns
    assert duration_text(ns) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "-5s",
        "5S",
        "1.5h",
        "5 s",
        "5s ",
        "5s\n",
        "30m1h",
        "1h1h",
        "1y",
        "\u0665s",
        "9999999999s",
        "1mm",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        duration_ns(text)


@pytest.mark.parametrize("ns", [-1, 1, 999_999])
def test_a_length_between_two_milliseconds_has_no_text(ns: int) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        duration_text(ns)


@given(st.integers(0, 10**9))
def test_every_length_comes_back(count: int) -> None:
    ns = count * UNITS_NS["ms"]
    assert duration_ns(duration_text(ns)) == ns
