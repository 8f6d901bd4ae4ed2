"""Numbers and times as text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.tui import format as fmt
from tests.control.samples import NOW_NS


def d(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        ("0", 2, "0.00"),
        ("1234567.891", 2, "1,234,567.89"),
        ("-1234.5", 2, "-1,234.50"),
        ("-0.001", 2, "0.00"),
        ("0.00001234", 8, "0.00001234"),
        ("1E+30", 2, "1.000E+30"),
        ("NaN", 2, "NaN"),
        ("-Infinity", 2, "-Infinity"),
        (None, 2, "—"),
    ],
)
def test_money(value: str | None, decimals: int, shown: str) -> None:
    assert fmt.money(d(value), decimals) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [("61.44", "▲ +61.44"), ("-3.2", "▼ -3.20"), ("0", "0.00"), ("0.001", "0.00"), ("-0.001", "0.00"), (None, "—")],
)
def test_a_change_has_a_sign_and_an_arrow(value: str | None, shown: str) -> None:
    assert fmt.change(d(value)) == shown


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"), [("0.414", "0.41%", "+0.41%"), ("-12", "-12.00%", "-12.00%"), (None, "—", "—")]
)
def test_percent(value: str | None, plain: str, with_sign: str) -> None:
    assert (fmt.percent(d(value)), fmt.signed_percent(d(value))) == (plain, with_sign)


@pytest.mark.parametrize(
    ("value", "as_price", "as_quantity"),
    [
        ("64512.20", "64,512.20", "64,512.2"),
        ("0.00001230", "0.00001230", "0.0000123"),
        ("100", "100", "100"),
        ("1E+3", "1,000", "1,000"),
        ("-1.500", "-1.500", "-1.5"),
        ("0.000", "0.000", "0"),
        ("1E-40", "0.000000000000", "0"),
        ("NaN", "NaN", "NaN"),
        ("5E+99", "5.000E+99", "5.000E+99"),
        (None, "—", "—"),
    ],
)
def test_a_price_keeps_its_zeros_and_a_quantity_does_not(value: str | None, as_price: str, as_quantity: str) -> None:
    assert (fmt.price(d(value)), fmt.quantity(d(value))) == (as_price, as_quantity)


@pytest.mark.parametrize(
    ("age_ms", "shown"),
    [
        (None, "—"),
        (-5, "0 ms"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (9999, "9.9 s"),
        (10_000, "10 s"),
        (59_999, "59 s"),
        (60_000, "1m00s"),
        (185_000, "3m05s"),
        (3_600_000, "1h00m"),
        (18_720_000, "5h12m"),
        (273_600_000, "3d04h"),
    ],
)
def test_age(age_ms: int | None, shown: str) -> None:
    assert fmt.age(age_ms) == shown


def test_times_are_utc_and_say_so() -> None:
    assert fmt.clock(NOW_NS) == "03:04:05"
    assert fmt.moment(NOW_NS) == "2026-01-02 03:04:05 UTC"
    assert fmt.moment(0) == "1970-01-01 00:00:00 UTC"
    assert fmt.moment(10**30).startswith("????-??-??")


@pytest.mark.parametrize(
    ("numbers", "aligned"),
    [
        (["1.5", "10", "0.125"], ["1.5  ", "10    ", "0.125"]),
        (["1", "2"], ["1", "2"]),
        (["—", "1.25"], ["—   ", "1.25"]),
        ([], []),
    ],
)
def test_points_stand_in_one_line(numbers: list[str], aligned: list[str]) -> None:
    assert fmt.align_points(numbers) == aligned


@pytest.mark.parametrize("currency", ["USDT", "USDC"])
def test_dollars_have_cents(currency: str) -> None:
    assert (fmt.places(currency), fmt.places("BTC")) == (2, 8)


def test_a_sparkline_rises_with_its_values() -> None:
    assert fmt.sparkline([Decimal(i) for i in range(8)], 20) == "▁▂▃▄▅▆▇█"
    assert fmt.sparkline([Decimal(5)] * 3, 20) == "▅▅▅"
    assert fmt.sparkline([Decimal(5)], 20) == ""
    assert fmt.sparkline([Decimal(i) for i in range(100)], 4) == "▁▃▅█"


def test_an_area_chart_is_filled_from_below() -> None:
    assert fmt.area_chart([Decimal(0), Decimal(8), Decimal(15)], 4, 2) == ["  ▁█", " ▁██"]
    assert fmt.area_chart([Decimal(1)], 4, 2) == []


_VALUES = st.lists(st.decimals(min_value=-(10**9), max_value=10**9, places=4), min_size=2, max_size=300)


@given(_VALUES, st.integers(2, 60), st.integers(1, 12))
def test_any_values_make_a_chart_of_its_size(values: list[Decimal], width: int, height: int) -> None:
    rows = fmt.area_chart(values, width, height)
    assert [len(row) for row in rows] == [width] * height
    assert len(fmt.sparkline(values, width)) == min(width, len(values))


@given(st.decimals() | st.none())
def test_any_decimal_has_a_short_text(value: Decimal | None) -> None:
    for text in (fmt.money(value), fmt.change(value), fmt.price(value), fmt.quantity(value), fmt.percent(value)):
        assert 0 < len(text) < 48
        assert text.isprintable()
