"""A wallet of the exchange in the core's units: cash without open profit, signed contracts, what is left of orders."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bot.core.instrument import ATOMS, Side
from bot.core.orders import OrderState
from bot.errors import OffGrid
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.accounts import exact_atoms, futures_seen, spot_seen
from bot.exchange.poloniex.outcome import Market
from bot.exchange.poloniex.private_state import OrderChanged
from tests.support.builders import BTC, NOW_NS, instrument

D = Decimal
INSTRUMENTS = {BTC: instrument(quantity_scale=3)}


def balance(currency: str, available: str, hold: str) -> sw.BalanceRow:
    return sw.BalanceRow(currency_id=sw.ExchangeId("1"), currency=currency, available=D(available), hold=D(hold))


def account(kind: str, *balances: sw.BalanceRow) -> sw.AccountBalances:
    return sw.AccountBalances(account_id=sw.ExchangeId("7"), account_type=kind, balances=balances)


def order(client_id: str = "b1", *, symbol: str = BTC, quantity: str = "1", filled: str = "0") -> OrderChanged:
    return OrderChanged(
        market=Market.SPOT,
        symbol=symbol,
        order_id="e1",
        client_id=client_id,
        side=Side.BUY,
        order_type="LIMIT",
        state=OrderState.NEW,
        price=D(1),
        quantity=D(quantity),
        filled_quantity=D(filled),
        filled_amount=D(0),
        created_ms=0,
        changed_ms=0,
    )


def position(symbol: str, side: fw.SideText, contracts: int, position_side: fw.PositionSide = "BOTH") -> fw.PositionRow:
    return fw.PositionRow(
        symbol=symbol,
        side_text=side,
        position_side=position_side,
        margin_mode="CROSS",
        contracts=fw.Contracts(contracts),
        leverage=D(1),
        initial_margin=D(0),
        created_ms=0,
        updated_ms=0,
    )


def futures_account(**changes: str) -> fw.AccountRow:
    """Return an account in which nothing is open, but for `changes` of its one currency."""
    row = fw.AccountDetailRow(currency="USDT", equity=D(0), available=D(0))
    return fw.AccountRow(
        state="NORMAL",
        equity=D(0),
        isolated_equity=D(0),
        initial_margin=D(0),
        maintenance_margin=D(0),
        unrealised_pnl=D(0),
        available_margin=D(0),
        details=[msgspec.structs.replace(row, **{name: D(value) for name, value in changes.items()})],
        created_ms=0,
        updated_ms=0,
    )


def test_what_is_held_for_orders_is_there_too_and_other_accounts_are_not() -> None:
    accounts = [account("SPOT", balance("BTC", "1.5", "0.5"), balance("TRX", "0", "0")), account("MARGIN")]
    seen = spot_seen(NOW_NS, [*accounts, account("FUTURES", balance("BTC", "9", "0"))], [], [], {})
    assert (seen.market, seen.balances, seen.positions) == ("spot", {"BTC": 2 * ATOMS, "TRX": 0}, {})


@pytest.mark.parametrize(
    ("living", "expected"),
    [
        (order(quantity="1", filled="0.25"), {"b1": 750}),
        (order(""), {"e1": 1_000}),
        (order(quantity="0"), {"b1": 1}),
        (order(symbol="DOGE_USDT"), {"b1": 1}),
    ],
)
def test_an_order_counts_with_the_lots_that_are_left_of_it(living: OrderChanged, expected: dict[str, int]) -> None:
    assert spot_seen(NOW_NS, [], [living], [], INSTRUMENTS).living == expected


def test_futures_cash_is_equity_without_the_profit_that_is_open() -> None:
    row = futures_account(equity="105.5", unrealised_pnl="5.5", isolated_equity="19", isolated_pnl="-1")
    assert futures_seen(NOW_NS, row, [], []).balances == {"USDT": 120 * ATOMS}


def test_F68_the_sign_of_a_position_is_its_direction_in_either_mode() -> None:
    rows = [
        position("A_USDT_PERP", "SELL", 3),
        position("B_USDT_PERP", "BUY", 4),
        position("C_USDT_PERP", "BUY", 0),
        position("D_USDT_PERP", "SELL", 5, "LONG"),
        position("D_USDT_PERP", "SELL", 2, "SHORT"),
    ]
    assert futures_seen(NOW_NS, futures_account(), rows, []).positions == {
        "A_USDT_PERP": -3,
        "B_USDT_PERP": 4,
        "D_USDT_PERP": 3,
    }


def test_F66_contracts_are_lots() -> None:
    living = order(symbol="A_USDT_PERP", quantity="7", filled="2")
    assert futures_seen(NOW_NS, futures_account(), [], [living]).living == {"b1": 5}


def test_F62_an_amount_is_exact_or_refused() -> None:
    assert exact_atoms("x", D("123456789012345678901.0000000000000001")) == 1234567890123456789010000000000000001
    with pytest.raises(OffGrid, match="x: 1E-17 has more than 16 decimals"):
        exact_atoms("x", D("1E-17"))
    with pytest.raises(OffGrid, match="no whole number of lots"):
        spot_seen(NOW_NS, [], [order(quantity="0.0001")], [], INSTRUMENTS)
