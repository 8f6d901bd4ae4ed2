"""What is reserved for an order goes once: each fill takes its own share, and the end takes the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.orders import OrderIntent, OrderRecord, OrderState
from bot.core.risk.account import Working

COIN = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=0,
    quantity_scale=0,
    qty_lots_min=1,
    notional_atoms_min=ATOMS,
)
PRICE = 100


def working(qty_lots: int) -> Working:
    """Return a resting buy, all of it reserved."""
    intent = OrderIntent(
        client_id="baaabaaaaaab",
        strategy="s",
        symbol=COIN.symbol,
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        qty_lots=qty_lots,
        price_ticks=PRICE,
        reserved_atoms=COIN.notional_atoms(PRICE, qty_lots),
    )
    record = OrderRecord(intent=intent, state=OrderState.NEW, filled_lots=0, submitted_ns=0)
    return Working(record, intent.reserved_atoms)


def fill(number: int, lots: int, price_ticks: int = PRICE) -> m.Fill:
    return m.Fill(
        ts_ns=number,
        client_id="baaabaaaaaab",
        symbol=COIN.symbol,
        trade_id=str(number),
        order_id="1",
        side=Side.BUY,
        price_ticks=price_ticks,
        qty_lots=lots,
        fee_atoms=0,
        is_maker=True,
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 20))
def test_what_is_filled_and_what_is_reserved_are_the_whole_order_at_any_time(parts: list[int], rest: int) -> None:
    order = working(sum(parts) + rest)
    for number, lots in enumerate(parts):
        order.book(fill(number, lots), COIN)
        assert order.record.filled_lots == sum(parts[: number + 1])
        assert order.record.leaves_lots == sum(parts[number + 1 :]) + rest
        assert order.reserved_atoms == COIN.notional_atoms(PRICE, order.record.leaves_lots)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_an_order_that_is_filled_reserves_nothing(parts: list[int]) -> None:
    order = working(sum(parts))
    for number, lots in enumerate(parts):
        order.book(fill(number, lots, PRICE - number), COIN)
    assert order.reserved_atoms == order.record.leaves_lots == 0
