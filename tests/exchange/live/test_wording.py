"""Intents in the exchange's words."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bot.core.instrument import ATOMS
from bot.core.orders import OrderState
from bot.exchange.live.wording import futures_intent, protective_order, protective_report, spot_order
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.spot_codec import order_body
from tests.exchange.live.desks import NOW_MS, PERP, stop
from tests.support.builders import BTC, buy, instrument, sell

COINS = instrument(price_scale=2, quantity_scale=4)
CONTRACTS = instrument(PERP, price_scale=1, quantity_scale=3, is_perp=True)


def test_a_limit_order_is_worded_as_it_is() -> None:
    worded = spot_order(buy(12_345, 10_050), COINS)
    assert (worded.type, worded.quantity, worded.price) == ("LIMIT", Decimal("1.2345"), Decimal("100.5"))
    assert worded.self_trade == "EXPIRE_TAKER"


def test_F70_a_market_buy_of_lots_takes_them_up_to_the_worst_price_that_was_reserved() -> None:
    intent = msgspec.structs.replace(buy(20_000), reserved_atoms=COINS.notional_atoms(10_150, 20_000))
    worded = spot_order(intent, COINS)
    assert (worded.type, worded.time_in_force) == ("LIMIT", "IOC")
    assert (worded.quantity, worded.price, worded.amount) == (Decimal(2), Decimal("101.5"), None)


def test_F70_a_market_buy_where_fees_are_in_quote_spends_no_more_than_was_reserved() -> None:
    coins = msgspec.structs.replace(COINS, quote_fee_ppm=2_000)
    intent = msgspec.structs.replace(buy(20_000), reserved_atoms=coins.spent_atoms(10_150, 20_000))
    worded = spot_order(intent, coins)
    assert worded.price is not None
    ticks = coins.price_ticks(f"{worded.price:f}")
    assert coins.spent_atoms(ticks, 20_000) <= intent.reserved_atoms
    assert ticks in {10_149, 10_150}


def test_F70_a_market_buy_for_an_amount_says_the_amount() -> None:
    worded = spot_order(msgspec.structs.replace(buy(20_000), amount_atoms=25 * ATOMS // 2), COINS)
    assert (worded.type, worded.amount, worded.quantity, worded.price) == ("MARKET", Decimal("12.5"), None, None)


def test_a_market_sell_says_its_quantity() -> None:
    worded = spot_order(sell(20_000), COINS)
    assert (worded.type, worded.quantity, worded.price) == ("MARKET", Decimal(2), None)


def test_every_wording_passes_the_checks_of_the_exchange() -> None:
    limit = sw.TradeLimitRow(
        price_scale=2, quantity_scale=4, amount_scale=2, min_quantity=Decimal("0.0001"), min_amount=Decimal(1)
    )
    market = sw.SpotMarket(
        symbol=BTC, base_currency_name="BTC", quote_currency_name="USDT", state="NORMAL", symbol_trade_limit=limit
    )
    for intent in (
        buy(20_000, 10_000),
        sell(20_000),
        msgspec.structs.replace(buy(20_000), reserved_atoms=COINS.notional_atoms(10_150, 20_000)),
        msgspec.structs.replace(buy(20_000), amount_atoms=20 * ATOMS),
        msgspec.structs.replace(buy(20_000, 10_000), order_type="LIMIT_MAKER"),
    ):
        order_body(spot_order(intent, COINS), market)


def test_a_stop_on_coins_is_a_conditional_market_order() -> None:
    worded = protective_order(stop(qty=20_000, trigger=9_000), COINS)
    assert (worded.type, worded.stop_price, worded.quantity, worded.operator) == (
        "STOP",
        Decimal(90),
        Decimal(2),
        "LTE",
    )


def test_F66_contracts_are_worded_as_contracts() -> None:
    worded = futures_intent(
        msgspec.structs.replace(sell(7, 1_005), symbol=PERP, is_reduce_only=True), CONTRACTS, "CROSS"
    )
    assert (worded.contracts, worded.price, worded.is_reduce_only) == (7, Decimal("100.5"), True)
    netted = msgspec.structs.replace(
        sell(7, 1_005), symbol=PERP, is_reduce_only=True, is_netted=True
    )  # the exchange knows only the sum of all strategies
    assert not futures_intent(netted, CONTRACTS, "CROSS").is_reduce_only
    assert worded.self_trade == "EXPIRE_TAKER"


def row(state: str) -> sw.SmartOrderRow:
    return sw.SmartOrderRow(
        id=sw.ExchangeId("5"),
        symbol=BTC,
        state=state,
        side=stop().side,
        type="STOP",
        create_time_ms=NOW_MS,
        update_time_ms=NOW_MS,
    )


def test_F22_a_state_of_a_conditional_order_that_we_do_not_know_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="PAUSED"):
        protective_report(row("PAUSED"))


@pytest.mark.parametrize(
    ("state", "said"),
    [("PENDING_NEW", OrderState.NEW), ("CANCELED", OrderState.CANCELED), ("FAILED", OrderState.FAILED)],
)
def test_a_conditional_order_stands_as_the_exchange_says(state: str, said: OrderState) -> None:
    assert protective_report(row(state)).state is said
