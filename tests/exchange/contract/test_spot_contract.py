"""Every call of `SpotClient` against the simulated exchange, over real sockets; the names are those of the table."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from itertools import count, pairwise
from typing import TypeVar

import pytest

from bot.core.instrument import Side
from bot.errors import ReadRefused
from bot.exchange.poloniex import spot_wire as wire
from bot.exchange.poloniex.outcome import Accepted, Outcome, Refused
from bot.exchange.poloniex.spot_client import SpotClient, by_client_id, by_id
from tests.exchange.contract.served import Served, exchange_thread, open_clients, until

T = TypeVar("T")
Check = Callable[[SpotClient], Awaitable[None]]
BTC, ETH = "BTC_USDT", "ETH_USDT"
HOUR_MS = 3_600_000
CONTRACTS: dict[str, Check] = {}
_numbers = count(1)


def contract(name: str) -> Callable[[Check], Check]:
    """Let a function be the contract test of a row of the table. Each has an account of its own."""

    def keep(check: Check) -> Check:
        assert name not in CONTRACTS
        CONTRACTS[name] = check
        return check

    return keep


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def accepted(outcome: Outcome[T]) -> T:
    assert isinstance(outcome, Accepted), outcome
    return outcome.value


def refused(outcome: Outcome[T]) -> int:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


def new_order(symbol: str = BTC, price: str | None = "50000", quantity: str = "0.001") -> wire.NewOrder:
    """Return a buy far below the market, or with `price` None a market sell."""
    client_id = f"contract-{next(_numbers)}"
    if price is None:
        return wire.NewOrder(
            symbol=symbol, side=Side.SELL, type="MARKET", client_id=client_id, quantity=Decimal(quantity)
        )
    return wire.NewOrder(
        symbol=symbol,
        side=Side.BUY,
        type="LIMIT",
        client_id=client_id,
        price=Decimal(price),
        quantity=Decimal(quantity),
    )


def new_stop(stop_price: str = "50000") -> wire.NewSmartOrder:
    return wire.NewSmartOrder(
        symbol=BTC,
        side=Side.SELL,
        type="STOP_LIMIT",
        client_id=f"contract-{next(_numbers)}",
        stop_price=Decimal(stop_price),
        price=Decimal("49999.5"),
        quantity=Decimal("0.001"),
    )


async def placed(spot: SpotClient, price: str | None = "50000") -> wire.OrderIds:
    return accepted(await spot.place(new_order(price=price)))


async def ends(spot: SpotClient, *order_ids: str, state: str = "CANCELED") -> None:
    async def is_so() -> bool:
        return {(await spot.order(by_id(order_id))).state for order_id in order_ids} == {state}

    await until(is_so)


async def available(spot: SpotClient, currency: str) -> Decimal:
    (account,) = await spot.balances("SPOT")
    (row,) = [row for row in account.balances if row.currency == currency]
    return row.available


# --- public


@contract("GET /timestamp")
async def server_time(spot: SpotClient) -> None:
    assert abs(await spot.server_time_ms() - now_ms()) < 2_000


@contract("GET /markets")
async def markets(spot: SpotClient) -> None:
    assert set(await spot.markets()) == {BTC, ETH}


@contract("GET /markets/{symbol}")
async def market(spot: SpotClient) -> None:
    row = await spot.market(BTC)
    assert (row.base_currency_name, row.quote_currency_name, row.state) == ("BTC", "USDT", "NORMAL")
    assert row.symbol_trade_limit.price_scale == 2
    with pytest.raises(ReadRefused) as refusal:
        await spot.market("NO_SUCH")
    assert refusal.value.code == 24101


@contract("GET /currencies")
async def currencies(spot: SpotClient) -> None:
    rows = await spot.currencies(include_multi_chain=True)
    assert rows["BTC"].trading_state == "NORMAL"
    assert set(rows) == {"BTC", "ETH", "USDT"}


@contract("GET /currencies/{currency}")
async def currency(spot: SpotClient) -> None:
    assert (await spot.currency("ETH")).name == "ETH"


@contract("GET /v2/currencies")
async def coins(spot: SpotClient) -> None:
    assert {row.coin: row.network_list[0].coin for row in await spot.coins()} == {n: n for n in ("BTC", "ETH", "USDT")}


@contract("GET /v2/currencies/{coin}")
async def coin(spot: SpotClient) -> None:
    row = await spot.coin("BTC")
    assert row.trade_enable
    assert not row.delisted


@contract("GET /markets/price")
async def prices(spot: SpotClient) -> None:
    assert all(row.price > 0 for row in await spot.prices())


@contract("GET /markets/{symbol}/price")
async def price(spot: SpotClient) -> None:
    row = await spot.price(BTC)
    assert row.symbol == BTC
    assert row.price > 0


@contract("GET /markets/markPrice")
async def mark_prices(spot: SpotClient) -> None:
    assert {row.symbol for row in await spot.mark_prices()} == {BTC, ETH}


@contract("GET /markets/{symbol}/markPrice")
async def mark_price(spot: SpotClient) -> None:
    assert (await spot.mark_price(BTC)).mark_price > 0


@contract("GET /markets/{symbol}/markPriceComponents")
async def mark_price_components(spot: SpotClient) -> None:
    row = await spot.mark_price_components(BTC)
    assert sum(each.weight for each in row.components) == 1


@contract("GET /markets/{symbol}/orderBook")
async def order_book(spot: SpotClient) -> None:
    book = await spot.order_book(BTC, limit=5)
    assert len(book.bids) == len(book.asks) == 5
    assert book.bids[0].price < book.asks[0].price
    assert all(near.price > far.price for near, far in pairwise(book.bids))
    coarse = await spot.order_book(BTC, scale=Decimal(10))
    assert all(level.price % 10 == 0 for level in (*coarse.bids, *coarse.asks))


@contract("GET /markets/{symbol}/candles")
async def candles(spot: SpotClient) -> None:
    async def some() -> tuple[wire.SpotCandle, ...]:
        return await spot.candles(BTC, "MINUTE_1", limit=5, start_ms=now_ms() - HOUR_MS, end_ms=now_ms())

    for row in await until(some):
        assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high
        assert row.close_time_ms == row.start_time_ms + 59_999


@contract("GET /markets/{symbol}/trades")
async def public_trades(spot: SpotClient) -> None:
    rows = await until(lambda: spot.public_trades(BTC, limit=1))
    assert len(rows) == 1
    assert rows[0].price > 0


@contract("GET /markets/ticker24h")
async def tickers(spot: SpotClient) -> None:
    assert {row.symbol for row in await spot.tickers()} == {BTC, ETH}


@contract("GET /markets/{symbol}/ticker24h")
async def ticker(spot: SpotClient) -> None:
    row = await spot.ticker(BTC)
    assert row.bid is not None
    assert row.ask is not None
    assert row.bid < row.ask
    assert row.low <= row.close <= row.high


@contract("GET /markets/collateralInfo")
async def collaterals(spot: SpotClient) -> None:
    assert {row.currency for row in await spot.collaterals()} == {"BTC", "ETH", "USDT"}


@contract("GET /markets/{currency}/collateralInfo")
async def collateral(spot: SpotClient) -> None:
    assert 0 < (await spot.collateral("BTC")).collateral_rate <= 1


@contract("GET /markets/borrowRatesInfo")
async def borrow_rates(spot: SpotClient) -> None:
    (tier,) = await spot.borrow_rates()
    assert {rate.currency for rate in tier.rates} == {"BTC", "ETH", "USDT"}


# --- accounts


@contract("GET /accounts")
async def accounts(spot: SpotClient) -> None:
    assert [(row.account_type, row.account_state) for row in await spot.accounts()] == [("SPOT", "NORMAL")]


@contract("GET /accounts/balances")
async def balances(spot: SpotClient) -> None:
    (account,) = await spot.balances("SPOT")
    held = {row.currency: (row.available, row.hold) for row in account.balances if row.available}
    assert held == {"USDT": (10_000, 0), "BTC": (1, 0)}


@contract("GET /accounts/{id}/balances")
async def account_balances(spot: SpotClient) -> None:
    (account,) = await spot.accounts()
    assert await spot.account_balances(account.account_id) == await spot.balances()


@contract("GET /accounts/activity")
async def activity(spot: SpotClient) -> None:
    rows = await spot.activity(activity_type=200, page=wire.Page(limit=10))
    assert {row.currency: row.amount for row in rows} == {"USDT": 10_000, "BTC": 1}


@contract("POST /accounts/transfer")
async def transfer(spot: SpotClient) -> None:
    accepted(await spot.transfer("USDT", Decimal("12.5"), from_account="SPOT", to_account="FUTURES"))
    assert await available(spot, "USDT") == Decimal("9987.5")
    too_much = await spot.transfer("USDT", Decimal(10**6), from_account="SPOT", to_account="FUTURES")
    assert refused(too_much) in (21709, 250005)


@contract("GET /accounts/transfer")
async def transfers(spot: SpotClient) -> None:
    moved = accepted(await spot.transfer("USDT", Decimal(5), from_account="FUTURES", to_account="SPOT"))
    (row,) = await spot.transfers(currency="USDT")
    assert (row.id, row.amount, row.from_account, row.to_account) == (moved.transfer_id, 5, "FUTURES", "SPOT")


@contract("GET /accounts/transfer/{id}")
async def transfer_by_id(spot: SpotClient) -> None:
    moved = accepted(await spot.transfer("USDT", Decimal(5), from_account="SPOT", to_account="FUTURES"))
    assert (await spot.transfer_by_id(moved.transfer_id)).state == "SUCCESS"


@contract("GET /feeinfo")
async def fee_info(spot: SpotClient) -> None:
    fees = await spot.fee_info()
    assert (fees.maker_rate, fees.taker_rate) == (Decimal("0.00145"), Decimal("0.00155"))


@contract("GET /accounts/interest/history")
async def interest(spot: SpotClient) -> None:
    assert await spot.interest() == ()


@contract("GET /subaccounts")
async def subaccounts(spot: SpotClient) -> None:
    assert [row.is_primary for row in await spot.subaccounts()] == [True]


@contract("GET /subaccounts/balances")
async def subaccounts_balances(spot: SpotClient) -> None:
    rows = await spot.subaccounts_balances()
    assert {row.account_type for row in rows} == {"SPOT", "FUTURES"}


@contract("GET /subaccounts/{id}/balances")
async def subaccount_balances(spot: SpotClient) -> None:
    (primary,) = await spot.subaccounts()
    assert await spot.subaccount_balances(primary.account_id) == await spot.subaccounts_balances()


async def moved_between_subaccounts(spot: SpotClient) -> wire.TransferId:
    (primary,) = await spot.subaccounts()
    own = primary.account_id
    return accepted(
        await spot.subaccount_transfer(
            "USDT",
            Decimal(7),
            from_account_id=own,
            from_account_type="SPOT",
            to_account_id=own,
            to_account_type="FUTURES",
        )
    )


@contract("POST /subaccounts/transfer")
async def subaccount_transfer(spot: SpotClient) -> None:
    await moved_between_subaccounts(spot)
    assert await available(spot, "USDT") == 9_993


@contract("GET /subaccounts/transfer")
async def subaccount_transfers(spot: SpotClient) -> None:
    moved = await moved_between_subaccounts(spot)
    (row,) = await spot.subaccount_transfers(currency="USDT")
    assert (row.id, row.amount) == (moved.transfer_id, 7)


@contract("GET /subaccounts/transfer/{id}")
async def subaccount_transfer_by_id(spot: SpotClient) -> None:
    moved = await moved_between_subaccounts(spot)
    row = await spot.subaccount_transfer_by_id(moved.transfer_id)
    assert (row.from_account_type, row.to_account_type) == ("SPOT", "FUTURES")


# --- wallets and margin


@contract("GET /wallets/addresses")
async def addresses(spot: SpotClient) -> None:
    assert set(await spot.addresses()) == {"BTC", "ETH", "USDT"}
    assert set(await spot.addresses("BTC")) == {"BTC"}


@contract("GET /wallets/activity")
async def wallets_activity(spot: SpotClient) -> None:
    row = await spot.wallets_activity(now_ms() // 1000 - 3600, now_ms() // 1000)
    assert (row.deposits, row.withdrawals, row.adjustments) == ((), (), ())


@contract("POST /wallets/address")
async def new_address(spot: SpotClient) -> None:
    assert accepted(await spot.new_address("BTC")).address == (await spot.addresses("BTC"))["BTC"]


@contract("POST /wallets/withdraw")
async def withdraw(spot: SpotClient) -> None:
    assert refused(await spot.withdraw("BTC", Decimal("0.1"), "an address")) == 21711
    assert await available(spot, "BTC") == 1


@contract("POST /v2/wallets/withdraw")
async def withdraw_coin(spot: SpotClient) -> None:
    assert refused(await spot.withdraw_coin("BTC", "BTC", Decimal("0.1"), "an address")) == 21711


@contract("GET /margin/accountMargin")
async def margin(spot: SpotClient) -> None:
    row = await spot.margin()
    assert row.used_margin == 0
    assert row.total_account_value > 10_000


@contract("GET /margin/borrowStatus")
async def borrow_status(spot: SpotClient) -> None:
    (row,) = await spot.borrow_status("BTC")
    assert (row.available, row.borrowed) == (1, 0)


@contract("GET /margin/maxSize")
async def max_size(spot: SpotClient) -> None:
    row = await spot.max_size(BTC)
    assert (row.available_buy, row.available_sell) == (10_000, 1)


# --- orders


@contract("POST /orders")
async def place(spot: SpotClient) -> None:
    order = new_order()
    ids = accepted(await spot.place(order))
    row = await spot.order(by_id(ids.id))
    assert (row.client_order_id, row.state, row.price, row.quantity) == (
        order.client_id,
        "NEW",
        order.price,
        order.quantity,
    )
    assert await available(spot, "USDT") == 9_950
    assert refused(await spot.place(new_order(quantity="100"))) == 21721


@contract("POST /orders/batch")
async def place_batch(spot: SpotClient) -> None:
    first, second = await spot.place_batch([new_order(), new_order(quantity="100")])
    assert (await spot.order(by_id(accepted(first).id))).state == "NEW"
    assert refused(second) == 21721


@contract("PUT /orders/{id}")
async def replace(spot: SpotClient) -> None:
    old = await placed(spot)
    change = wire.Replacement(client_id=f"contract-{next(_numbers)}", price=Decimal("49999.5"))
    new = accepted(await spot.replace(BTC, by_id(old.id), change))
    row = await spot.order(by_id(new.id))
    assert (row.price, row.quantity, row.state) == (change.price, Decimal("0.001"), "NEW")
    await ends(spot, old.id)


@contract("GET /orders")
async def open_orders(spot: SpotClient) -> None:
    ids = {(await placed(spot)).id for _ in range(3)}
    assert {row.id for row in await spot.open_orders(BTC, side="BUY")} == ids
    assert await spot.open_orders(ETH) == ()
    (newest,) = await spot.open_orders(page=wire.Page(limit=1))
    assert newest.id == max(ids)


@contract("GET /orders/{id}")
async def order(spot: SpotClient) -> None:
    ids = await placed(spot)
    assert await spot.order(by_id(ids.id)) == await spot.order(by_client_id(ids.client_order_id))
    with pytest.raises(ReadRefused) as refusal:
        await spot.order(by_id("17"))
    assert refusal.value.code == 21301


@contract("DELETE /orders/{id}")
async def cancel(spot: SpotClient) -> None:
    ids = await placed(spot)
    row = accepted(await spot.cancel(by_id(ids.id)))
    assert (row.order_id, row.state) == (ids.id, "PENDING_CANCEL")
    await ends(spot, ids.id)
    assert await available(spot, "USDT") == 10_000


@contract("DELETE /orders/cancelByIds")
async def cancel_some(spot: SpotClient) -> None:
    one, other = await placed(spot), await placed(spot)
    outcomes = await spot.cancel_some(order_ids=[one.id], client_ids=[other.client_order_id])
    assert [accepted(outcome).order_id for outcome in outcomes] == [one.id, other.id]
    await ends(spot, one.id, other.id)


@contract("DELETE /orders")
async def cancel_all(spot: SpotClient) -> None:
    kept = accepted(await spot.place(new_order(ETH, "1000", "0.01")))
    ids = {(await placed(spot)).id for _ in range(2)}
    assert {row.order_id for row in accepted(await spot.cancel_all([BTC]))} == ids
    await ends(spot, *ids)
    assert [row.order_id for row in accepted(await spot.cancel_all(None))] == [kept.id]


@contract("POST /orders/killSwitch")
async def set_kill_switch(spot: SpotClient) -> None:
    row = accepted(await spot.set_kill_switch(60))
    assert row.cancellation_time_ms - row.start_time_ms == 60_000
    row = accepted(await spot.set_kill_switch(None))
    assert row.cancellation_time_ms == 0


@contract("GET /orders/killSwitchStatus")
async def kill_switch(spot: SpotClient) -> None:
    assert await spot.kill_switch() is None
    armed = accepted(await spot.set_kill_switch(600))
    assert await spot.kill_switch() == armed
    accepted(await spot.set_kill_switch(None))
    assert await spot.kill_switch() is None


@contract("GET /orders/history")
async def order_history(spot: SpotClient) -> None:
    sold, ended = await placed(spot, None), await placed(spot)
    accepted(await spot.cancel(by_id(ended.id)))
    await ends(spot, ended.id)
    rows = await spot.order_history(symbol=BTC, page=wire.Page(start_ms=now_ms() - HOUR_MS, end_ms=now_ms() + 1_000))
    assert {(row.id, row.state) for row in rows} == {(sold.id, "FILLED"), (ended.id, "CANCELED")}
    assert [row.id for row in await spot.order_history(states=["FILLED"])] == [sold.id]
    assert [row.id for row in await spot.order_history(hide_cancel=True)] == [sold.id]


@contract("GET /trades")
async def trades(spot: SpotClient) -> None:
    sold = await placed(spot, None)
    rows = await spot.trades([BTC], page=wire.Page(start_ms=now_ms() - HOUR_MS, limit=100))
    assert sum(row.quantity for row in rows) == Decimal("0.001")
    assert {(row.order_id, row.match_role, row.fee_currency) for row in rows} == {(sold.id, "TAKER", "USDT")}
    earned = sum(row.amount - row.fee_amount for row in rows)
    assert await available(spot, "USDT") == 10_000 + earned
    assert await spot.trades([ETH]) == ()


@contract("GET /orders/{id}/trades")
async def order_trades(spot: SpotClient) -> None:
    sold = await placed(spot, None)
    assert await spot.order_trades(sold.id) == await spot.trades([BTC])


# --- conditional orders


async def stop_placed(spot: SpotClient) -> wire.OrderIds:
    return accepted(await spot.place_smart(new_stop()))


async def stopped(spot: SpotClient) -> set[str]:
    return {row.id for row in await spot.open_smart_orders()}


@contract("POST /smartorders")
async def place_smart(spot: SpotClient) -> None:
    order = new_stop()
    accepted(await spot.place_smart(order))
    assert await available(spot, "BTC") == 1
    row = await spot.smart_order(by_client_id(order.client_id))
    assert (row.state, row.type, row.stop_price, row.price) == ("PENDING_NEW", "STOP_LIMIT", 50_000, order.price)


@contract("GET /smartorders")
async def open_smart_orders(spot: SpotClient) -> None:
    ids = {(await stop_placed(spot)).id for _ in range(2)}
    assert await stopped(spot) == ids
    assert len(await spot.open_smart_orders(limit=1)) == 1


@contract("GET /smartorders/{id}")
async def smart_order(spot: SpotClient) -> None:
    # A stop at once: the last price is above it.
    bought = accepted(await spot.place_smart(wire_triggering()))

    async def triggered() -> wire.OrderRow | None:
        return (await spot.smart_order(by_id(bought.id))).triggered_order

    row = await until(triggered)
    assert row is not None
    assert row.side is Side.SELL
    assert (await spot.smart_order(by_id(bought.id))).state == "TRIGGERED"


def wire_triggering() -> wire.NewSmartOrder:
    """Return a stop whose price has been passed already: it triggers with the next trade."""
    return wire.NewSmartOrder(
        symbol=BTC,
        side=Side.SELL,
        type="STOP",
        client_id=f"contract-{next(_numbers)}",
        stop_price=Decimal(100_000),
        quantity=Decimal("0.001"),
        operator="LTE",
    )


@contract("PUT /smartorders/{id}")
async def replace_smart(spot: SpotClient) -> None:
    old = await stop_placed(spot)
    change = wire.Replacement(client_id=f"contract-{next(_numbers)}", stop_price=Decimal("49999.9"))
    new = accepted(await spot.replace_smart(BTC, by_id(old.id), change))
    assert (await spot.smart_order(by_id(new.id))).stop_price == change.stop_price
    assert await stopped(spot) == {new.id}


@contract("DELETE /smartorders/{id}")
async def cancel_smart(spot: SpotClient) -> None:
    ids = await stop_placed(spot)
    assert accepted(await spot.cancel_smart(by_id(ids.id))).order_id == ids.id
    assert await stopped(spot) == set()


@contract("DELETE /smartorders/cancelByIds")
async def cancel_some_smart(spot: SpotClient) -> None:
    one, other, kept = [await stop_placed(spot) for _ in range(3)]
    outcomes = await spot.cancel_some_smart(order_ids=[one.id], client_ids=[other.client_order_id])
    assert [accepted(outcome).order_id for outcome in outcomes] == [one.id, other.id]
    assert await stopped(spot) == {kept.id}


@contract("DELETE /smartorders")
async def cancel_all_smart(spot: SpotClient) -> None:
    ids = {(await stop_placed(spot)).id for _ in range(2)}
    assert accepted(await spot.cancel_all_smart([ETH])) == ()
    assert {row.order_id for row in accepted(await spot.cancel_all_smart(None))} == ids
    assert await stopped(spot) == set()


@contract("GET /smartorders/history")
async def smart_order_history(spot: SpotClient) -> None:
    ids = await stop_placed(spot)
    accepted(await spot.cancel_smart(by_id(ids.id)))
    (row,) = await spot.smart_order_history(symbol=BTC)
    assert (row.id, row.state) == (ids.id, "CANCELED")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with exchange_thread(len(CONTRACTS)) as running:
        yield running


@pytest.mark.parametrize("name", CONTRACTS)
async def test_spot_contract(name: str, served: Served) -> None:
    async with open_clients(served) as clients:
        await CONTRACTS[name](clients.spot)
