"""Every call of `FuturesClient` against the simulated exchange, over real sockets; the names are those of the table."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from itertools import count, pairwise
from typing import TypeVar

import pytest

from bot.core.instrument import Side
from bot.errors import OrderRefusedHere, ReadRefused
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.futures_client import NOT_FOUND_CODE, NOTHING_TO_CLOSE_CODES, Ack, FuturesClient, Page
from bot.exchange.poloniex.futures_wire import Contracts
from bot.exchange.poloniex.outcome import Accepted, Outcome, Refused, Unknown
from tests.exchange.contract.served import Served, exchange_thread, open_clients, until

T = TypeVar("T")
Check = Callable[[FuturesClient], Awaitable[None]]
PERP = "BTC_USDT_PERP"
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


def order(side: Side = Side.BUY, contracts: int = 2, price: str | None = "50000", **changes: object) -> fw.FuturesOrder:
    """Return a buy far below the market, or with `price` None a market order."""
    return fw.FuturesOrder(
        client_id=f"contract-{next(_numbers)}",
        symbol=PERP,
        side=side,
        order_type="MARKET" if price is None else "LIMIT",
        contracts=Contracts(contracts),
        price=None if price is None else Decimal(price),
        is_reduce_only=bool(changes.get("is_reduce_only", False)),
        margin_mode="ISOLATED" if changes.get("is_isolated") else "CROSS",
    )


async def placed(futures: FuturesClient, wanted: fw.FuturesOrder | None = None) -> Ack:
    return accepted(await futures.place_order(wanted or order(), await futures.instrument(PERP)))


async def opened(futures: FuturesClient, contracts: int = 2, *, is_isolated: bool = False) -> Ack:
    """Return the order that opened a long position."""
    return await placed(futures, order(contracts=contracts, price=None, is_isolated=is_isolated))


async def living(futures: FuturesClient) -> set[str]:
    return {row.order_id for row in await futures.open_orders(symbol=PERP)}


# --- market data


@contract("GET /v3/market/allInstruments")
async def instruments(futures: FuturesClient) -> None:
    assert set(await futures.instruments()) == {PERP}


@contract("GET /v3/market/instruments")
async def instrument(futures: FuturesClient) -> None:
    row = await futures.instrument(PERP)
    assert (row.contract_value, row.tick_size, row.is_open) == (Decimal("0.001"), Decimal("0.01"), True)
    with pytest.raises(ReadRefused) as refusal:
        await futures.instrument("NO_SUCH_PERP")
    assert refusal.value.code == 10001


@contract("GET /v3/market/orderBook")
async def order_book(futures: FuturesClient) -> None:
    book = await futures.order_book(PERP, limit=5)
    assert len(book.bids) == len(book.asks) == 5
    assert book.bids[0].price < book.asks[0].price
    assert all(near.price > far.price for near, far in pairwise(book.bids))
    assert all(level.price % 10 == 0 for level in (await futures.order_book(PERP, scale=Decimal(10))).bids)


@contract("GET /v3/market/trades")
async def trades(futures: FuturesClient) -> None:
    (row,) = await until(lambda: futures.trades(PERP, limit=1))
    assert row.price > 0


@contract("GET /v3/market/tickers")
async def tickers(futures: FuturesClient) -> None:
    assert [row.symbol for row in await futures.tickers()] == [PERP]
    (row,) = await futures.tickers(PERP)
    assert row.low <= row.close <= row.high


@contract("GET /v3/market/openInterest")
async def open_interest(futures: FuturesClient) -> None:
    before = await futures.open_interest(PERP)
    await opened(futures)
    assert await futures.open_interest(PERP) >= before


@contract("GET /v3/market/insurance")
async def insurance(futures: FuturesClient) -> None:
    assert [row.currency for row in await futures.insurance()] == ["USDT"]


@contract("GET /v3/market/limitPrice")
async def limit_price(futures: FuturesClient) -> None:
    row = await futures.limit_price(PERP)
    assert row.sell_min < await futures.mark_price(PERP) < row.buy_max


@contract("GET /v3/market/liquidationOrder")
async def liquidations(futures: FuturesClient) -> None:
    assert await futures.liquidations(PERP) == []


@contract("GET /v3/market/candles")
async def candles(futures: FuturesClient) -> None:
    async def some() -> list[fw.CandleArray]:
        return await futures.candles(PERP, "MINUTE_1", start_ms=now_ms() - HOUR_MS, end_ms=now_ms())

    for row in await until(some):
        assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high


async def _check_price_candles(read: Callable[[], Awaitable[list[fw.PriceCandleArray]]], *, is_price: bool) -> None:
    for row in await until(read):
        assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high
        assert (row.low > 1_000) is is_price  # a premium is a fraction


@contract("GET /v3/market/indexPriceCandlesticks")
async def index_candles(futures: FuturesClient) -> None:
    span = {"start_ms": now_ms() - HOUR_MS, "end_ms": now_ms() + HOUR_MS}
    await _check_price_candles(lambda: futures.index_candles(PERP, "MINUTE_1", **span), is_price=True)


@contract("GET /v3/market/markPriceCandlesticks")
async def mark_candles(futures: FuturesClient) -> None:
    span = {"start_ms": now_ms() - HOUR_MS, "end_ms": now_ms() + HOUR_MS}
    await _check_price_candles(lambda: futures.mark_candles(PERP, "MINUTE_1", **span), is_price=True)


@contract("GET /v3/market/premiumIndexCandlesticks")
async def premium_candles(futures: FuturesClient) -> None:
    span = {"start_ms": now_ms() - HOUR_MS, "end_ms": now_ms() + HOUR_MS}
    await _check_price_candles(lambda: futures.premium_candles(PERP, "MINUTE_1", **span), is_price=False)


@contract("GET /v3/market/markPrice")
async def mark_price(futures: FuturesClient) -> None:
    assert await futures.mark_price(PERP) > 0
    assert set(await futures.mark_prices()) == {PERP}


@contract("GET /v3/market/indexPrice")
async def index_price(futures: FuturesClient) -> None:
    assert await futures.index_price(PERP) > 0
    assert set(await futures.index_prices()) == {PERP}


@contract("GET /v3/market/indexPriceComponents")
async def index_components(futures: FuturesClient) -> None:
    (row,) = await futures.index_components(PERP)
    assert sum(source.weight for source in row.sources) == 1


@contract("GET /v3/market/fundingRate")
async def funding_rate(futures: FuturesClient) -> None:
    row = await futures.funding_rate(PERP)
    assert row.next_funding_ms % (8 * HOUR_MS) == 0
    assert row.next_funding_ms > now_ms() - 60_000


@contract("GET /v3/market/fundingRate/history")
async def funding_history(futures: FuturesClient) -> None:
    rows = await futures.funding_history(PERP, start_ms=now_ms() - 24 * HOUR_MS, end_ms=now_ms())
    assert all(row.funding_ms % (8 * HOUR_MS) == 0 for row in rows)


@contract("GET /v3/market/riskLimit")
async def market_risk_limits(futures: FuturesClient) -> None:
    rows = await futures.market_risk_limits(PERP, margin_mode="CROSS")
    assert [row.tier for row in rows] == list(range(1, len(rows) + 1))
    assert await futures.market_risk_limits(PERP, margin_mode="CROSS", tier=1) == rows[:1]


# --- account


@contract("GET /v3/account/balance")
async def balance(futures: FuturesClient) -> None:
    row = await futures.balance()
    assert (row.equity, row.available_margin, row.initial_margin) == (10_000, 10_000, 0)
    assert [detail.currency for detail in row.details] == ["USDT"]


@contract("GET /v3/account/bills")
async def bills(futures: FuturesClient) -> None:
    await opened(futures)
    fees = [row.amount for row in await futures.bills("FEE")]
    assert fees
    assert sum(fees) < 0
    paid = [fill.fee_text for fill in await futures.fills()]
    assert -sum(fees) == sum(Decimal(fee or 0) for fee in paid)


# --- orders


@contract("POST /v3/trade/order")
async def place_order(futures: FuturesClient) -> None:
    wanted = order()
    ack = await placed(futures, wanted)
    assert ack.client_id == wanted.client_id
    row = await futures.order(order_id=ack.order_id)
    assert (row.state_text, row.contracts, Decimal(row.price_text or 0)) == ("NEW", 2, wanted.price)
    too_much = await futures.place_order(order(contracts=1_000_000), await futures.instrument(PERP))
    assert isinstance(too_much, Refused | Unknown)  # no source has the code of too little margin


@contract("POST /v3/trade/orders")
async def place_orders(futures: FuturesClient) -> None:
    sent = await futures.place_orders([order(), order()], await futures.instruments())
    assert {accepted(one).order_id for one in sent} == await living(futures)


@contract("DELETE /v3/trade/order")
async def cancel_order(futures: FuturesClient) -> None:
    first, second = await placed(futures), await placed(futures)
    assert accepted(await futures.cancel_order(PERP, order_id=first.order_id)) == first
    assert accepted(await futures.cancel_order(PERP, client_id=second.client_id)) == second
    assert await living(futures) == set()
    assert not isinstance(await futures.cancel_order(PERP, order_id=first.order_id), Accepted)


@contract("DELETE /v3/trade/batchOrders")
async def cancel_orders(futures: FuturesClient) -> None:
    first, second, third = [await placed(futures) for _ in range(3)]
    assert [accepted(one) for one in await futures.cancel_orders(PERP, order_ids=[first.order_id])] == [first]
    assert [accepted(one) for one in await futures.cancel_orders(PERP, client_ids=[second.client_id])] == [second]
    assert await living(futures) == {third.order_id}


@contract("DELETE /v3/trade/allOrders")
async def cancel_all_orders(futures: FuturesClient) -> None:
    ids = {(await placed(futures)).order_id for _ in range(2)}
    assert accepted(await futures.cancel_all_orders(PERP, Side.SELL)) == ()
    assert {accepted(one).order_id for one in accepted(await futures.cancel_all_orders(PERP))} == ids
    assert await living(futures) == set()


@contract("POST /v3/trade/position")
async def close_position(futures: FuturesClient) -> None:
    nothing = await futures.close_position(PERP, "CROSS")
    assert isinstance(nothing, Refused)
    assert nothing.code in NOTHING_TO_CLOSE_CODES
    await opened(futures)
    client_id = f"contract-{next(_numbers)}"
    assert accepted(await futures.close_position(PERP, "CROSS", client_id=client_id)).client_id == client_id
    assert await futures.positions() == []


@contract("POST /v3/trade/positionAll")
async def close_all_positions(futures: FuturesClient) -> None:
    await opened(futures)
    (one,) = accepted(await futures.close_all_positions())
    accepted(one)
    assert await futures.positions() == []


@contract("GET /v3/trade/order/opens")
async def open_orders(futures: FuturesClient) -> None:
    acks = [await placed(futures) for _ in range(3)]
    assert {row.order_id for row in await futures.open_orders()} == {ack.order_id for ack in acks}
    (row,) = await futures.open_orders(client_id=acks[1].client_id)
    assert row.order_id == acks[1].order_id
    assert await futures.open_orders(side=Side.SELL) == []
    assert len(await futures.open_orders(page=Page(limit=2))) == 2


@contract("GET /v3/trade/order/history")
async def order_history(futures: FuturesClient) -> None:
    ended, filled = await placed(futures), await opened(futures)
    accepted(await futures.cancel_order(PERP, order_id=ended.order_id))
    states = {row.order_id: (row.state_text, row.cancel_reason) for row in await futures.order_history(symbol=PERP)}
    assert states[ended.order_id] == ("CANCELED", "USER_CANCEL_ORDER_ACTION")
    assert states[filled.order_id][0] == "FILLED"
    assert [row.order_id for row in await futures.order_history(state="FILLED")] == [filled.order_id]


@contract("GET /v3/trade/order/details")
async def order_details(futures: FuturesClient) -> None:
    ack = await placed(futures)
    assert await futures.order(order_id=ack.order_id) == await futures.order(client_id=ack.client_id)
    with pytest.raises(ReadRefused) as refusal:
        await futures.order(order_id="17")
    assert refusal.value.code == NOT_FOUND_CODE


@contract("GET /v3/trade/order/trades")
async def fills(futures: FuturesClient) -> None:
    ack = await opened(futures, 3)
    rows = await futures.fills(symbol=PERP, order_id=ack.order_id, page=Page(start_ms=now_ms() - HOUR_MS))
    assert sum(row.contracts for row in rows) == 3
    assert {(row.client_id, row.role) for row in rows} == {(ack.client_id, "TAKER")}


# --- positions


@contract("GET /v3/trade/position/opens")
async def positions(futures: FuturesClient) -> None:
    assert await futures.positions() == []
    await opened(futures, 3)
    (row,) = await futures.positions(PERP)
    assert (row.contracts, row.side_text, row.position_side, row.margin_mode) == (3, "BUY", "BOTH", "CROSS")
    assert row.initial_margin > 0


@contract("GET /v3/trade/position/history")
async def position_history(futures: FuturesClient) -> None:
    await opened(futures, 3)
    accepted(await futures.close_all_positions())
    (row,) = await futures.position_history(symbol=PERP, margin_mode="CROSS")
    assert row.closed_contracts == 3


@contract("GET /v3/position/leverages")
async def leverages(futures: FuturesClient) -> None:
    assert {(row.symbol, row.margin_mode) for row in await futures.leverages(PERP, "CROSS")} == {(PERP, "CROSS")}


@contract("POST /v3/position/leverage")
async def set_leverage(futures: FuturesClient) -> None:
    listed = await futures.instrument(PERP)
    assert accepted(await futures.set_leverage(listed, 7, "CROSS", "BOTH")).leverage == 7
    assert {row.leverage for row in await futures.leverages(PERP, "CROSS")} == {7}
    with pytest.raises(OrderRefusedHere):
        await futures.set_leverage(listed, 1_000, "CROSS", "BOTH")


@contract("GET /v3/position/mode")
async def position_mode(futures: FuturesClient) -> None:
    assert await futures.position_mode() == "ONE_WAY"


@contract("POST /v3/position/mode")
async def set_position_mode(futures: FuturesClient) -> None:
    accepted(await futures.set_position_mode("HEDGE"))
    assert await futures.position_mode() == "HEDGE"


@contract("POST /v3/trade/position/margin")
async def change_margin(futures: FuturesClient) -> None:
    await opened(futures, is_isolated=True)
    (before,) = await futures.positions()
    accepted(await futures.change_margin(PERP, "ADD", Decimal(10)))
    (after,) = await futures.positions()
    assert Decimal(after.margin_text or 0) - Decimal(before.margin_text or 0) == 10
    accepted(await futures.change_margin(PERP, "REDUCE", Decimal(5)))
    assert not isinstance(await futures.change_margin(PERP, "REDUCE", Decimal(10**6)), Accepted)


@contract("GET /v3/position/riskLimit")
async def risk_limits(futures: FuturesClient) -> None:
    assert await futures.risk_limits(PERP, "CROSS") == await futures.market_risk_limits(PERP, margin_mode="CROSS")


# --- the tests


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with exchange_thread(len(CONTRACTS)) as running:
        yield running


@pytest.mark.parametrize("name", CONTRACTS)
async def test_futures_contract(name: str, served: Served) -> None:
    async with open_clients(served) as clients:
        await CONTRACTS[name](clients.futures)
