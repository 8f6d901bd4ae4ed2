from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.simulated.futures_positions import RATE, Closed, MarginMode
from tests.exchange.simulated.futures_builders import contract, position, usdt


@pytest.mark.parametrize(
    ("opens", "average"),
    [
        ([(10, 60_000)], "60"),
        ([(10, 60_000), (10, 61_000)], "60.5"),
        ([(1, 60_000), (2, 60_001)], "60.0006666666666667"),  # a long's average is rounded up
        ([(-1, 60_000), (-2, 60_001)], "60.0006666666666666"),  # a short's down
    ],
)
def test_the_average_is_the_value_of_a_contract_rounded_against_its_owner(
    opens: list[tuple[int, int]], average: str
) -> None:
    made = position()
    for contracts, price in opens:
        made.increase(contracts, price * 100)
    assert made.average_atoms == usdt(average)


@pytest.mark.parametrize(
    ("contracts", "exit_price", "closed", "realised"),
    [
        (10, 61_000, 10, "10"),
        (10, 59_000, 10, "-10"),
        (-10, 61_000, 10, "-10"),
        (-10, 59_000, 4, "4"),
        (10, 60_000, 3, "0"),
    ],
)
def test_realised_is_exit_less_average_times_size(contracts: int, exit_price: int, closed: int, realised: str) -> None:
    made = position(contracts)
    before = made.average_atoms
    assert made.close(closed, exit_price * 100).realised_atoms == usdt(realised)
    assert made.average_atoms == before
    assert abs(made.contracts) == 10 - closed


def test_an_isolated_position_has_margin_of_its_own_and_gives_it_back_in_proportion() -> None:
    made = position(10, margin_mode=MarginMode.ISOLATED)
    assert made.margin_atoms == usdt("60")
    assert made.close(4, 61_000 * 100) == Closed(usdt("4"), usdt("24"))
    assert made.margin_atoms == usdt("36")


def test_a_loss_beyond_its_share_takes_from_the_rest_of_the_margin() -> None:
    made = position(10, margin_mode=MarginMode.ISOLATED)
    # Half of it loses 50, and its share is 30: the other 20 come out of the rest.
    assert made.close(5, 50_000 * 100) == Closed(usdt("-50"), usdt("50"))
    assert made.margin_atoms == usdt("10")
    assert made.close(5, 50_000 * 100) == Closed(usdt("-50"), usdt("10"))


@pytest.mark.parametrize(
    ("contracts", "rate", "payment"),
    [
        (10, RATE // 10_000, "-0.06"),
        (-10, RATE // 10_000, "0.06"),
        (10, -RATE // 10_000, "0.06"),
        (10, 0, "0"),
    ],
)
def test_longs_pay_shorts_when_the_rate_is_positive(contracts: int, rate: int, payment: str) -> None:
    made = position(contracts)
    assert made.fund(6_000_000, rate) == usdt(payment) == made.funding_atoms


def test_funding_rounds_to_the_houses_gain_on_both_sides() -> None:
    small = contract(contract_scale=14)  # 1 tick of 1 contract is 1 atom
    assert position(1, of=small).fund(3, RATE // 2) == -2
    assert position(-1, of=small).fund(3, RATE // 2) == 1


def test_an_isolated_position_pays_funding_from_its_margin() -> None:
    made = position(10, margin_mode=MarginMode.ISOLATED)
    made.fund(6_000_000, RATE // 100)
    assert made.margin_atoms == usdt("54")


def test_margins_are_of_the_value_at_mark() -> None:
    made = position(10, leverage=20)
    assert made.value_atoms(6_600_000) == usdt("660")
    assert made.initial_margin_atoms(6_600_000) == usdt("33")
    assert made.maintenance_margin_atoms(6_600_000) == usdt("3.96")  # 0.006 in the first tier
    assert made.unrealised_atoms(6_600_000) == usdt("60")


def test_a_larger_position_is_in_a_stricter_tier() -> None:
    tier = contract().tier
    assert [tier(size).maintenance_ppm for size in (1, 40_000, -40_001, 9_999_999)] == [6_000, 6_000, 10_000, 50_000]
    assert [contract().contracts_at(leverage) for leverage in (1, 50, 75, 76)] == [1_000_000, 120_000, 40_000, 0]


@pytest.mark.parametrize(("contracts", "bankruptcy"), [(10, 54_000), (-10, 66_000)])
def test_at_the_bankruptcy_price_the_margin_is_gone(contracts: int, bankruptcy: int) -> None:
    made = position(contracts, margin_mode=MarginMode.ISOLATED)
    assert made.price_leaving_ticks(6_000_000, made.margin_atoms) == bankruptcy * 100


sizes = st.integers(-500, 500).filter(bool)
ticks = st.integers(100_000, 20_000_000)


@given(sizes, ticks, ticks, st.integers(1, 75))
def test_the_bankruptcy_price_leaves_less_than_a_tick(contracts: int, entry: int, mark: int, leverage: int) -> None:
    made = position(leverage=leverage, margin_mode=MarginMode.ISOLATED)
    made.increase(contracts, entry)
    backing = made.margin_atoms + made.unrealised_atoms(mark)
    price = made.price_leaving_ticks(mark, backing)
    left = made.margin_atoms + made.unrealised_atoms(price)
    if price > 1:
        assert 0 <= left < made.contract.value_atoms(1, made.size)


@given(sizes, ticks, st.integers(1, 75))
def test_liquidation_begins_at_the_liquidation_price_and_not_a_tick_before(
    contracts: int, entry: int, leverage: int
) -> None:
    made = position(leverage=leverage, margin_mode=MarginMode.ISOLATED)
    made.increase(contracts, entry)
    price = made.liquidation_ticks(entry, made.margin_atoms)
    if price is None:
        assert not made.must_be_liquidated(1)
        return
    step = made.direction
    # Rounding of the maintenance margin moves it by less than a tick.
    assert made.must_be_liquidated(price - step)
    assert not made.must_be_liquidated(price + step)


@given(st.lists(st.tuples(st.integers(1, 300), ticks, st.booleans()), min_size=1, max_size=30), ticks, st.booleans())
def test_what_a_position_made_and_is_worth_is_what_its_fills_say(
    fills: list[tuple[int, int, bool]], mark: int, is_long: bool
) -> None:
    made = position()
    direction = 1 if is_long else -1
    cash = 0
    for size, price, opens in fills:
        if opens:
            made.increase(direction * size, price)
            cash -= direction * made.contract.value_atoms(price, size)
        elif made.size:
            closed, average = min(size, made.size), made.average_atoms
            made.close(closed, price)
            cash += direction * made.contract.value_atoms(price, closed)
            assert made.average_atoms == average
    total = cash + made.contract.value_atoms(mark, made.contracts)
    assert made.realised_atoms + made.unrealised_atoms(mark) == total
