"""Decimals and integers: exact both ways, and every rounding against us."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.instrument import ATOM_SCALE, ATOMS, Side, decimal_of, fee_atoms, scaled, scaled_down, side_of
from bot.errors import BadReply, OffGrid
from tests.support.builders import instrument


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("12.34", 2, 1234),
        ("12.3", 2, 1230),
        ("12", 2, 1200),
        ("0012.50", 1, 125),
        ("12.3400", 2, 1234),
        ("0", 8, 0),
        ("0.00000001", 8, 1),
        ("5.", 0, 5),
    ],
)
def test_a_plain_number_is_scaled_exactly(text: str, scale: int, value: int) -> None:
    assert scaled(text, scale) == value


@pytest.mark.parametrize(
    "text", ["", ".", ".5", "-1", "+1", "1e3", "1_000", " 1", "1 ", "1,5", "1.2.3", "NaN", "Infinity", "٣", "1" * 41]
)
def test_anything_else_is_no_number(text: str) -> None:
    with pytest.raises(BadReply, match="plain decimal"):
        scaled(text, 2)
    with pytest.raises(BadReply, match="plain decimal"):
        scaled_down(text, 2)


def test_a_number_between_two_steps_is_refused() -> None:
    with pytest.raises(OffGrid, match=r"1\.234 has more than 2 decimals"):
        scaled("1.234", 2)


def test_decimals_that_are_cut_off_must_be_digits_too() -> None:
    assert scaled_down("1.239", 2) == 123
    assert scaled_down("1.9", 0) == 1
    with pytest.raises(BadReply):
        scaled_down("1.23٣", 2)


@given(st.integers(0, 10**32), st.integers(0, ATOM_SCALE))
def test_every_number_comes_back(value: int, scale: int) -> None:
    assert scaled(f"{decimal_of(value, scale):f}", scale) == value
    assert decimal_of(-value, scale) == decimal_of(value, scale).copy_negate()


@given(st.decimals(0, 10**9, places=9), st.integers(0, 12))
def test_what_is_scaled_down_is_less_by_less_than_a_step(number: Decimal, scale: int) -> None:
    down = decimal_of(scaled_down(f"{number:f}", scale), scale)
    assert 0 <= number - down < Decimal(1).scaleb(-scale)


def test_a_decimal_has_no_zeros_at_its_end() -> None:
    assert str(decimal_of(1_500, 3)) == "1.5"
    assert str(decimal_of(100_000, 3)) == "100"


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 10**9), st.integers(1, 10**9))
def test_price_times_quantity_is_exact(price_scale: int, quantity_scale: int, ticks: int, lots: int) -> None:
    market = instrument(price_scale=price_scale, quantity_scale=quantity_scale)
    exact = market.price(ticks) * market.quantity(lots)
    assert decimal_of(market.notional_atoms(ticks, lots), ATOM_SCALE) == exact
    assert market.value_atoms(lots * market.base_atoms_per_lot, ticks) == market.notional_atoms(ticks, lots)


@pytest.mark.parametrize(("price_scale", "quantity_scale"), [(9, 8), (-1, 2), (2, -1)])
def test_steps_finer_than_an_atom_are_refused(price_scale: int, quantity_scale: int) -> None:
    with pytest.raises(OffGrid, match=f"sum <= {ATOM_SCALE}"):
        instrument(price_scale=price_scale, quantity_scale=quantity_scale)


@given(st.integers(0, 10**15), st.integers(0, 10**6))
def test_a_fee_is_rounded_up(amount: int, ppm: int) -> None:
    fee = fee_atoms(amount, ppm)
    assert 0 <= fee * 1_000_000 - amount * ppm < 1_000_000


def test_less_than_a_lot_is_dust_to_a_seller_and_a_lot_to_a_holder() -> None:
    market = instrument(quantity_scale=2)
    held = 10 * market.base_atoms_per_lot - 1
    assert market.whole_lots(held) == 9
    assert market.nearest_lots(held) == 10
    assert market.nearest_lots(market.base_atoms_per_lot // 2 - 1) == 0


def test_a_value_is_rounded_down() -> None:
    market = instrument(price_scale=2)
    assert market.value_atoms(1, 199) == 1
    assert market.value_atoms(-1, 199) == -2  # what a short owes
    assert market.value_atoms(ATOMS, 199) == 199 * ATOMS // 100


def test_less_than_the_smallest_quantity_is_no_position() -> None:
    market = instrument(quantity_scale=2, qty_lots_min=5)
    lot = market.base_atoms_per_lot
    assert [market.position_lots(atoms) for atoms in (5 * lot - 1, 5 * lot, 7 * lot - 1)] == [0, 5, 7]
    assert [market.position_lots(-atoms) for atoms in (5 * lot - 1, 5 * lot, 7 * lot)] == [0, -5, -7]


@pytest.mark.parametrize(
    ("ppm", "spent"), [(0, 1_000 * ATOMS), (2_000, 1_002 * ATOMS), (1, 1_000 * ATOMS + ATOMS // 1_000)]
)
def test_a_buy_spends_its_fee_too_where_that_is_in_quote(ppm: int, spent: int) -> None:
    market = instrument(quote_fee_ppm=ppm)
    assert market.spent_atoms(100, 10) == spent
    assert market.is_fee_in_quote == (ppm > 0)


def test_a_perpetual_pays_in_quote() -> None:
    assert instrument(is_perp=True).is_fee_in_quote


def test_a_side_has_a_sign() -> None:
    assert (side_of(5), side_of(-5)) == (Side.BUY, Side.SELL)
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
