"""The gate's account, asked alone: what it owns, what its orders may still do, and which wallet pays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import Account, Proposal
from bot.core.risk.account import Working
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    buy,
    fill,
    funding,
    instrument,
    liquidated,
    record,
    recovered,
    sell,
)


def account(*orders: OrderIntent, is_perp: bool = True, held: int = 0, cash: int = 10_000, cost: int = 0) -> Account:
    """Return an account with `held` lots of BTC that are worth 100 each, and of ETH none, and with these orders."""
    made = Account()
    for symbol in (BTC, ETH):
        made.instruments[symbol] = instrument(symbol, is_perp=is_perp)
        made.equity.mark(symbol, 100)
    known = recovered(cash=cash, held={"one": {BTC: held}}, costs={BTC: cost * ATOMS} if cost else {})
    made.recover(known)
    for intent in orders:
        made.working[intent.client_id] = Working(record(intent), intent.reserved_atoms)
    return made


def proposal(side: Side, value: int, *, closes: int = 0, symbol: str = BTC) -> Proposal:
    """Return an order whose increase is worth `value`, and whose other part `closes`, in whole units."""
    return Proposal(
        strategy="one",
        instrument=instrument(symbol, is_perp=True),
        side=side,
        qty_lots=1,
        order_type="MARKET",
        price_ticks=100,
        increase_lots=1,
        value_atoms=value * ATOMS,
        closes_atoms=closes * ATOMS,
        amount_atoms=0,
        decided_ns=NOW_NS,
        now_ns=NOW_NS,
        quote=None,
        equity_atoms=None,
    )


# --- longs less shorts


@pytest.mark.parametrize(
    ("held", "buys", "sells", "side", "value", "closes", "net"),
    [
        (0, 0, 0, Side.BUY, 500, 0, 500),
        (0, 0, 0, Side.SELL, 500, 0, 500),
        (10, 0, 0, Side.BUY, 500, 0, 1_500),
        (10, 0, 0, Side.SELL, 500, 1_000, 1_000),  # a turn-round: 1,000 closed and 500 short, or nothing fills
        (10, 0, 0, Side.SELL, 1_500, 1_000, 1_500),
        (-10, 0, 0, Side.BUY, 1_500, 1_000, 1_500),
        (-10, 0, 0, Side.SELL, 500, 0, 1_500),
        (10, 3, 0, Side.BUY, 500, 0, 1_800),
        (10, 3, 0, Side.SELL, 200, 0, 1_300),  # the buys fill alone
        (-10, 3, 2, Side.SELL, 200, 0, 1_400),
        (-10, 0, 7, Side.BUY, 200, 0, 1_700),  # the sells fill alone
        (10, 0, 30, Side.BUY, 100, 0, 2_000),
    ],
)
def test_C13_the_net_position_is_the_worse_of_all_buys_filled_and_all_sells_filled(
    held: int, buys: int, sells: int, side: Side, value: int, closes: int, net: int
) -> None:
    orders = [make(lots, 100, number=n) for n, (make, lots) in enumerate(((buy, buys), (sell, sells)), start=1) if lots]
    assert account(*orders, held=held, cost=100 * held).net_atoms(proposal(side, value, closes=closes)) == net * ATOMS


@pytest.mark.parametrize(
    ("held", "works", "order", "worst"),
    [
        (0, [], None, 0),
        (10, [], None, 1_000),
        (10, [3, 4], None, 1_700),
        (-10, [-3, -4], None, 1_700),
        (10, [-30], None, 2_000),
        (10, [-30, 2], None, 2_000),
        (10, [-30], (Side.BUY, 500), 2_000),  # what works against it may fill instead
        (10, [-30], (Side.BUY, 1_500), 2_500),
        (-10, [30], (Side.SELL, 500), 2_000),
        (10, [-5], (Side.SELL, 2_500), 2_000),  # 1,000 less 500 less 2,500
        (10, [3], (Side.BUY, 500), 1_800),
        (10, [], (Side.SELL, 1_500), 500),  # what it leaves behind does not count
    ],
)
def test_C13_a_position_is_as_large_as_its_worse_side_can_make_it(
    held: int, works: list[int], order: tuple[Side, int] | None, worst: int
) -> None:
    orders = [(buy if n > 0 else sell)(abs(n), 100, number=k) for k, n in enumerate(works, start=1)]
    known = account(*orders, held=held, cost=100 * held)
    asked = None if order is None else proposal(*order)
    assert known.worst_atoms(BTC, asked) == worst * ATOMS
    assert known.gross_atoms(asked) == worst * ATOMS
    assert known.perps_atoms(asked) == worst * ATOMS
    assert known.exposures(asked).get(ETH, 0) == known.worst_atoms(ETH, asked) == 0


def test_C13_the_exchange_sees_what_all_strategies_have_in_flight() -> None:
    orders = buy(3, 100, number=1), buy(4, 100, number=2, strategy="two"), buy(5, 100, number=3, symbol=ETH)
    assert account(*orders).exposures() == {BTC: 700 * ATOMS, ETH: 500 * ATOMS}


def test_C13_what_is_held_of_an_unlisted_market_has_no_worth_yet() -> None:
    known = account(held=10, cost=1_000)
    known.held["one", "X_USDT"] = ATOMS
    known.held["two", BTC] = 0
    assert known.positions() == {("one", BTC): 1_000 * ATOMS}


def test_C13_a_strategy_s_exposure_is_its_own() -> None:
    known = account(buy(3, 100, number=1), buy(4, 100, number=2, strategy="two"), held=10, cost=1_000)
    assert known.strategy_atoms(proposal(Side.BUY, 200)) == 1_500 * ATOMS
    assert known.strategy_atoms(proposal(Side.BUY, 200, symbol=ETH)) == 1_500 * ATOMS


# --- orders


def test_what_may_meet_an_order_of_ours_has_a_price_and_is_on_one_side_of_one_book() -> None:
    orders = (
        buy(1, 90, number=1),
        buy(1, 90, number=2, symbol=ETH),
        sell(1, 110, number=3),
        sell(1, 110, number=4, symbol=ETH),
        buy(1, number=5),
        sell(1, number=6, symbol=ETH),
    )
    known = account(*orders)
    found = {
        (symbol, side): [order.record.intent for order in known.resting(symbol, side)]
        for symbol in (BTC, ETH)
        for side in Side
    }
    assert found == {
        (BTC, Side.BUY): [orders[0]],
        (BTC, Side.SELL): [orders[2]],
        (ETH, Side.BUY): [orders[1]],
        (ETH, Side.SELL): [orders[3]],
    }


@pytest.mark.parametrize(
    ("qty", "price", "fee", "fee_currency", "quote_fee_ppm", "left"),
    [
        (4, 100, 0, "", 0, 640),
        (4, 100, 3, "", 0, 640),  # a fee in coins takes nothing out of what is reserved
        (4, 100, 3, "USDT", 0, 637),
        (4, 100, 3, "BTC", 2_000, 640),
        (4, 100, 3, "", 2_000, 637),
        (4, 100, 3, "TRX", 0, 640),
        (9, 100, 0, "", 0, 140),  # one lot is still to come
        (9, 120, 0, "", 0, 0),
        (10, 50, 0, "", 0, 0),
        (11, 50, 0, "", 0, 0),
    ],
)
def test_a_fill_takes_what_it_spent_out_of_what_its_order_reserved(
    qty: int, price: int, fee: int, fee_currency: str, quote_fee_ppm: int, left: int
) -> None:
    order = Working(record(buy(10, 104)), 1_040 * ATOMS)
    made = msgspec.structs.replace(fill(buy(10, 104), qty, price, fee_atoms=fee * ATOMS), fee_currency=fee_currency)
    order.book(made, instrument(quote_fee_ppm=quote_fee_ppm))
    assert (order.record.filled_lots, order.reserved_atoms) == (qty, left * ATOMS)


def test_what_one_strategy_may_still_sell_is_what_it_holds_and_does_not_sell_already() -> None:
    orders = (
        sell(2, 110, number=1),
        buy(5, 90, number=2),
        sell(3, 110, number=3, strategy="two"),
        sell(1, 110, number=4, symbol=ETH),
        sell(4, number=5, order_type="STOP", role="stop"),
        sell(1, 120, number=6, role="profit"),
    )
    known = account(*orders, is_perp=False, held=10)
    assert known.sellable_lots("one", BTC) == 7  # a stop that waits locks nothing
    assert known.sellable_lots("one", BTC, are_guards_gone=True) == 8
    assert known.sellable_lots("two", BTC) == -3
    assert known.sellable_lots("one", ETH) == -1
    dusty = account(is_perp=False)
    dusty.held["one", BTC] = ATOMS - 1
    assert dusty.sellable_lots("one", BTC) == 0


def test_one_strategy_s_orders_on_one_symbol_are_nobody_else_s() -> None:
    orders = buy(1, number=1), buy(1, number=2, strategy="two"), buy(1, number=3, symbol=ETH)
    known = account(*orders)
    assert [order.record.intent for order in known.orders_of("one", BTC)] == [orders[0]]


# --- after a restart


def recovered_with(**orders: Any) -> Account:
    made = Account()
    made.instruments[BTC] = instrument()
    made.recover(recovered(**orders))
    return made


def filled(known: Account, intent: OrderIntent, qty: int) -> None:
    known.book(m.FillBooked(ts_ns=NOW_NS, fill=fill(intent, qty), strategy="one", strategy_atoms=0, cash_atoms=0))


def test_F19_an_order_that_ended_before_a_restart_is_released_when_its_fills_have_caught_up() -> None:
    intent = buy(10, 100)
    ended = msgspec.structs.replace(record(intent, filled=3), state=OrderState.CANCELED, reported_lots=7)
    known = recovered_with(unsettled=[ended])
    filled(known, intent, 3)
    assert known.settle(intent.client_id) is None
    filled(known, intent, 1)
    assert known.settle(intent.client_id) is not None
    assert known.working == {}


def test_an_order_that_lived_before_a_restart_is_kept_whatever_was_reported_of_it() -> None:
    intent = buy(10, 100)
    known = recovered_with(orders=[msgspec.structs.replace(record(intent, filled=3), reported_lots=3)])
    filled(known, intent, 2)
    assert known.settle(intent.client_id) is None
    assert list(known.working) == [intent.client_id]


def test_after_a_restart_a_part_of_a_reservation_is_kept_rounded_up_to_the_atom() -> None:
    intent = buy(3, 100, reserved_atoms=3 * 10**20 + 1)
    known = recovered_with(orders=[record(intent, filled=1)])
    assert known.working[intent.client_id].reserved_atoms == 2 * 10**20 + 1


def test_an_account_begins_with_nothing() -> None:
    known = Account()
    assert (known.cash_atoms, known.futures_cash_atoms, known.equity_atoms) == (0, None, 0)


# --- wallets


def test_funding_is_paid_out_of_the_futures_wallet_and_is_part_of_all_cash() -> None:
    known = account(cash=2_000)
    known.futures_cash_atoms = 1_000 * ATOMS
    known.pay(funding(7))
    known.pay(funding(-2))
    assert (known.cash_atoms, known.futures_cash_atoms) == (1_995 * ATOMS, 995 * ATOMS)
    assert known.equity_atoms == 1_995 * ATOMS
    single = account(cash=2_000)
    single.pay(funding(7))
    assert (single.cash_atoms, single.futures_cash_atoms) == (1_993 * ATOMS, None)


@pytest.mark.parametrize(("wallet", "futures"), [("spot", 1_000), ("futures", 1_500)])
def test_F74_what_comes_from_outside_is_cash_of_the_wallet_that_it_came_to(wallet: m.Wallet, futures: int) -> None:
    known = account(cash=2_000)
    known.futures_cash_atoms = 1_000 * ATOMS
    known.receive(m.ExternalFlow(ts_ns=NOW_NS, wallet=wallet, currency="USDT", atoms=500 * ATOMS, reason=""))
    assert (known.cash_atoms, known.futures_cash_atoms) == (2_500 * ATOMS, futures * ATOMS)
    assert known.equity_atoms == 2_500 * ATOMS


def test_a_fill_leaves_the_cash_that_the_books_say() -> None:
    known = account(buy(10, 100))
    for futures in (3_600 * ATOMS, None):
        said = m.FillBooked(
            ts_ns=NOW_NS,
            fill=fill(buy(10, 100), 4),
            strategy="one",
            strategy_atoms=4 * ATOMS,
            cash_atoms=9_000 * ATOMS,
            futures_cash_atoms=futures,
        )
        known.book(said)
        assert (known.cash_atoms, known.futures_cash_atoms) == (9_000 * ATOMS, futures)
    assert (known.held["one", BTC], known.working[buy(10).client_id].record.filled_lots) == (4 * ATOMS, 8)


def test_F72_a_liquidation_leaves_the_cash_that_the_books_say() -> None:
    known = account(held=10, cost=1_000)
    closed = liquidated(-10, 60)
    for futures in (3_600 * ATOMS, None):
        known.liquidate(msgspec.structs.replace(closed, cash_atoms=9_600 * ATOMS, futures_cash_atoms=futures))
        assert (known.cash_atoms, known.futures_cash_atoms) == (9_600 * ATOMS, futures)
    assert (known.held["one", BTC], known.equity_atoms) == (0, 9_600 * ATOMS)


def test_a_market_without_a_position_or_without_a_price_has_no_liquidation() -> None:
    known = account(held=10, cost=1_000)
    assert known.liquidation_bps(BTC, 0) == 100_000  # ten times its value
    assert known.liquidation_bps(ETH, 0) is None
    assert known.liquidation_bps("NEVER_HEARD_OF", 0) is None
    blind = Account()
    blind.instruments[BTC] = instrument(is_perp=True)
    blind.recover(recovered(held={"one": {BTC: 10}}, costs={BTC: 1_000 * ATOMS}))
    assert blind.liquidation_bps(BTC, 0) is None
    half_blind = account(held=10, cost=1_000)
    half_blind.equity.base_atoms["X_USDT"] = ATOMS
    half_blind.equity.mark("X_USDT", 1)  # it is not listed, so nobody knows what it is worth
    assert half_blind.liquidation_bps(BTC, 0) is None
