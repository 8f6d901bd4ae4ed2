from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.instrument import Side
from bot.exchange.simulated.futures_margin import Claim, bankruptcy_ticks, claims_atoms, closes, standing
from bot.exchange.simulated.futures_positions import MarginMode, Position, PosSide
from tests.exchange.simulated.futures_builders import PERP, contract, position, usdt

ETH_PERP = "ETH_USDT_PERP"


def claim(
    side: Side,
    contracts: int,
    *,
    pos_side: PosSide = PosSide.BOTH,
    is_reduce_only: bool = False,
    mode: MarginMode = MarginMode.CROSS,
) -> Claim:
    return Claim(
        contract=contract(),
        pos_side=pos_side,
        margin_mode=mode,
        side=side,
        price_ticks=6_000_000,
        contracts=contracts,
        leverage=10,
        is_reduce_only=is_reduce_only,
    )


def bound(*claims: Claim, held: int = 0, pos_side: PosSide = PosSide.BOTH) -> int:
    """Return what orders bind, in contracts: each opened one binds 6 USDT of margin and 0.03 of fee."""
    positions = {(PERP, pos_side): position(held, pos_side=pos_side)} if held else {}
    atoms = sum(atoms for _, atoms in claims_atoms(claims, positions))
    assert atoms % usdt("6.03") == 0
    return atoms // usdt("6.03")


@pytest.mark.parametrize(
    ("held", "claims", "opened"),
    [
        (0, [claim(Side.BUY, 5)], 5),
        (0, [claim(Side.BUY, 5), claim(Side.SELL, 3)], 8),
        (10, [claim(Side.SELL, 7)], 0),
        (10, [claim(Side.SELL, 7), claim(Side.SELL, 7)], 4),
        (10, [claim(Side.BUY, 7)], 7),
        (-10, [claim(Side.BUY, 12)], 2),
        (10, [claim(Side.SELL, 7), claim(Side.SELL, 6, is_reduce_only=True)], 3),
        (0, [claim(Side.SELL, 6, is_reduce_only=True)], 0),
        (0, [claim(Side.SELL, 6, pos_side=PosSide.LONG), claim(Side.BUY, 2, pos_side=PosSide.SHORT)], 0),
        (0, [claim(Side.BUY, 6, pos_side=PosSide.LONG), claim(Side.SELL, 2, pos_side=PosSide.SHORT)], 8),
    ],
)
def test_orders_bind_margin_for_what_they_would_open(held: int, claims: list[Claim], opened: int) -> None:
    assert bound(*claims, held=held) == opened


def test_a_side_and_a_position_side_tell_whether_an_order_closes() -> None:
    closing = [(side, pos_side) for side in Side for pos_side in PosSide if closes(side, pos_side)]
    assert closing == [(Side.BUY, PosSide.SHORT), (Side.SELL, PosSide.LONG)]


def test_a_standing_keeps_cross_and_isolated_apart() -> None:
    cross = position(10, 60_000, leverage=10)
    isolated = position(-10, 50_000, leverage=5, margin_mode=MarginMode.ISOLATED, of=contract(ETH_PERP))
    marks = {PERP: 6_100_000, ETH_PERP: 4_900_000}
    one = standing(usdt("1000"), [cross, isolated], marks, [claim(Side.BUY, 1), claim(Side.BUY, 1)])
    assert (one.cross_balance, one.isolated_margin) == (usdt("900"), usdt("100"))
    assert (one.cross_unrealised, one.isolated_unrealised) == (usdt("10"), usdt("10"))
    assert (one.cross_initial, one.isolated_initial) == (usdt("61"), usdt("98"))
    assert (one.cross_maintenance, one.isolated_maintenance) == (usdt("3.66"), usdt("2.94"))
    assert one.equity == usdt("1020")
    assert one.available == usdt("910") - usdt("61") - usdt("12.06")
    assert one.transferable == one.available - usdt("10")
    assert not one.must_be_liquidated


def test_a_loss_counts_for_what_may_leave() -> None:
    one = standing(usdt("100"), [position(10, 60_000)], {PERP: 5_900_000})
    assert one.transferable == one.available == usdt("90") - usdt("59")


sizes = st.integers(-500, 500).filter(bool)
ticks = st.integers(1_000_000, 9_000_000)


@given(sizes, sizes, ticks, ticks, st.integers(0, 10**15))
def test_at_their_bankruptcy_prices_positions_are_worth_nothing_together(
    size: int, other_size: int, mark: int, other_mark: int, equity: int
) -> None:
    positions = [position(size), position(other_size, of=contract(ETH_PERP))]
    positions[1].id = 2
    marks = {PERP: mark, ETH_PERP: other_mark}
    prices = bankruptcy_ticks(positions, equity, marks)
    if min(prices.values()) > 1:
        left = equity + sum(_change(one, marks[one.contract.symbol], prices[one.id]) for one in positions)
        assert 0 <= left < sum(one.contract.value_atoms(1, one.size) for one in positions)


def _change(one: Position, mark: int, price: int) -> int:
    return one.unrealised_atoms(price) - one.unrealised_atoms(mark)
