from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from bot.core.instrument import Side
from bot.core.secret import Secret
from bot.errors import BadReply, ClockSkew, ConnectionLost, NotListed, OrderRefusedHere, RateLimited, ReadRefused
from bot.exchange.poloniex import spot_wire as wire
from bot.exchange.poloniex.limits import LIMITS, Group, Lane, RateLimits
from bot.exchange.poloniex.outcome import Accepted, Doubt, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import Credentials, Freshness, freshness, is_signed
from bot.exchange.poloniex.spot_client import SpotClient, by_client_id, by_id
from bot.exchange.transport import Backoff, Http, Response, open_http
from tests.exchange.poloniex import spot_samples as samples
from tests.exchange.poloniex.spot_samples import MARKET, ORDER, TS, encoded
from tests.support.http_peer import (
    HttpPeer,
    Step,
    answers,
    free_port,
    hangs_up,
    is_silent,
    open_http_peer,
    resets,
    says,
)

D = Decimal
SECRET = Secret("s3cr3t")
CREDENTIALS = Credentials(Secret("KEY"), SECRET)
NOT_FOUND = answers(b'{"code":21301,"message":"Order not found"}', status=400)
ORDER_B1 = wire.NewOrder(
    symbol="BTC_USDT", side=Side.BUY, type="LIMIT", client_id="b1", price=D("20000"), quantity=D("0.01")
)
ORDER_B2 = msgspec.structs.replace(ORDER_B1, client_id="b2")
STOP_B1 = wire.NewSmartOrder(
    symbol="BTC_USDT", side=Side.SELL, type="STOP", client_id="b1", stop_price=D(19_000), quantity=D("0.01")
)
CHANGE_B1 = wire.Replacement(client_id="b1", price=D("19000"))


def json_answer(value: object, status: int = 200, headers: str = "") -> Step:
    return answers(encoded(value), status, headers)


def refusal(code: int, status: int = 400) -> Step:
    return json_answer({"code": code, "message": "why"}, status)


def fixed_clock(offset_ms: int = 0) -> ServerClock:
    """Return a clock whose exchange runs `offset_ms` ahead of a wall clock that stands at `TS` and then runs on."""

    def wall_ns() -> int:
        return int(TS * 1e6 + trio.current_time() * 1e9)

    async def server_time_ms() -> int:
        return wall_ns() // 10**6 + offset_ms

    return ServerClock(server_time_ms, wall_ns=wall_ns)


def client_of(http: Http, *, limits: RateLimits | None = None, clock: ServerClock | None = None) -> SpotClient:
    return SpotClient(
        http,
        credentials=CREDENTIALS,
        limits=limits or RateLimits(),
        clock=clock or fixed_clock(),
        backoff=Backoff(0.001, 0.01, lambda: 0.5),
    )


@asynccontextmanager
async def http_of(*script: Step) -> AsyncGenerator[tuple[Http, HttpPeer]]:
    """Open a connection to a peer with a script."""
    async with (
        open_http_peer(*script) as peer,
        open_http(peer.url, connect_timeout_s=2, request_timeout_s=1, user_agent="test") as http,
    ):
        yield http, peer


@asynccontextmanager
async def client_at(*script: Step, knows_market: bool = True) -> AsyncGenerator[tuple[SpotClient, HttpPeer]]:
    """Open a client of a peer with a script; the market's rules are read before, outside the script."""
    first = [json_answer([MARKET])] if knows_market else []
    async with http_of(*first, *script) as (http, peer):
        client = client_of(http)
        if knows_market:
            await client.market("BTC_USDT")
            peer.requests.clear()
            peer.bodies.clear()
            peer.script.pop(0)
        yield client, peer


def headers_of(head: bytes) -> dict[str, str]:
    lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, _, value in lines}


def assert_signed(head: bytes, body: bytes) -> None:
    """Assert that a request is one that the exchange would let in."""
    method, target, _ = head.decode().split("\r\n")[0].split(" ")
    path, _, query = target.partition("?")
    headers = headers_of(head)
    assert headers["key"] == "KEY"
    assert headers["recvwindow"] == "5000"
    assert freshness(headers, int(headers["signtimestamp"]) + 100) is Freshness.FRESH
    assert is_signed(SECRET, method, path, query, body, headers)
    assert headers.get("content-type") == ("application/json" if body else None)


# --- every call

Call = Callable[[SpotClient], Awaitable[Any]]
PAGE = wire.Page(limit=5)

# What is asked, the call, the request target, the body, the answer.
CALLS: list[tuple[wire.Endpoint, Call, str, Any, Any]] = [
    (wire.TIMESTAMP, lambda c: c.server_time_ms(), "/timestamp", None, {"serverTime": TS}),
    (wire.MARKETS, lambda c: c.markets(), "/markets", None, [MARKET]),
    (wire.MARKET, lambda c: c.market("BTC_USDT"), "/markets/BTC_USDT", None, [MARKET]),
    (
        wire.CURRENCIES,
        lambda c: c.currencies(include_multi_chain=True),
        "/currencies?includeMultiChainCurrencies=true",
        None,
        [samples.CURRENCY],
    ),
    (
        wire.CURRENCY,
        lambda c: c.currency("BTC"),
        "/currencies/BTC?includeMultiChainCurrencies=false",
        None,
        samples.CURRENCY,
    ),
    (wire.COINS, lambda c: c.coins(), "/v2/currencies", None, [samples.COIN]),
    (wire.COIN, lambda c: c.coin("BTC"), "/v2/currencies/BTC", None, samples.COIN),
    (wire.PRICES, lambda c: c.prices(), "/markets/price", None, [samples.PRICE]),
    (wire.PRICE, lambda c: c.price("BTC_USDT"), "/markets/BTC_USDT/price", None, samples.PRICE),
    (wire.MARK_PRICES, lambda c: c.mark_prices(), "/markets/markPrice", None, [samples.MARK_PRICE]),
    (wire.MARK_PRICE, lambda c: c.mark_price("BTC_USDT"), "/markets/BTC_USDT/markPrice", None, samples.MARK_PRICE),
    (
        wire.MARK_PRICE_COMPONENTS,
        lambda c: c.mark_price_components("BTC_USDT"),
        "/markets/BTC_USDT/markPriceComponents",
        None,
        samples.COMPONENTS,
    ),
    (
        wire.ORDER_BOOK,
        lambda c: c.order_book("BTC_USDT", limit=5, scale=D("0.1")),
        "/markets/BTC_USDT/orderBook?limit=5&scale=0.1",
        None,
        samples.BOOK,
    ),
    (
        wire.CANDLES,
        lambda c: c.candles("BTC_USDT", "MINUTE_1", limit=2, start_ms=1, end_ms=2),
        "/markets/BTC_USDT/candles?interval=MINUTE_1&limit=2&startTime=1&endTime=2",
        None,
        [samples.CANDLE],
    ),
    (
        wire.PUBLIC_TRADES,
        lambda c: c.public_trades("BTC_USDT", limit=7),
        "/markets/BTC_USDT/trades?limit=7",
        None,
        [samples.PUBLIC_TRADE],
    ),
    (wire.TICKERS, lambda c: c.tickers(), "/markets/ticker24h", None, [samples.TICKER]),
    (wire.TICKER, lambda c: c.ticker("BTC_USDT"), "/markets/BTC_USDT/ticker24h", None, samples.TICKER),
    (wire.COLLATERALS, lambda c: c.collaterals(), "/markets/collateralInfo", None, [samples.COLLATERAL]),
    (wire.COLLATERAL, lambda c: c.collateral("BTC"), "/markets/BTC/collateralInfo", None, samples.COLLATERAL),
    (wire.BORROW_RATES, lambda c: c.borrow_rates(), "/markets/borrowRatesInfo", None, [samples.BORROW_TIER]),
    (wire.ACCOUNTS, lambda c: c.accounts(), "/accounts", None, [samples.ACCOUNT]),
    (wire.BALANCES, lambda c: c.balances("SPOT"), "/accounts/balances?accountType=SPOT", None, [samples.BALANCES]),
    (
        wire.ACCOUNT_BALANCES,
        lambda c: c.account_balances("123"),
        "/accounts/123/balances",
        None,
        [samples.BALANCES],
    ),
    (
        wire.ACTIVITY,
        lambda c: c.activity(activity_type=200, page=PAGE),
        "/accounts/activity?limit=5&activityType=200",
        None,
        [samples.ACTIVITY],
    ),
    (
        wire.TRANSFER,
        lambda c: c.transfer("USDT", D("10.5"), from_account="SPOT", to_account="FUTURES"),
        "/accounts/transfer",
        {"currency": "USDT", "amount": "10.5", "fromAccount": "SPOT", "toAccount": "FUTURES"},
        samples.TRANSFER_ID,
    ),
    (
        wire.TRANSFERS,
        lambda c: c.transfers(currency="USDT"),
        "/accounts/transfer?currency=USDT",
        None,
        [samples.TRANSFER],
    ),
    (wire.ONE_TRANSFER, lambda c: c.transfer_by_id("167"), "/accounts/transfer/167", None, samples.TRANSFER),
    (wire.FEE_INFO, lambda c: c.fee_info(), "/feeinfo", None, samples.FEE_INFO),
    (wire.INTEREST, lambda c: c.interest(PAGE), "/accounts/interest/history?limit=5", None, [samples.INTEREST]),
    (wire.SUBACCOUNTS, lambda c: c.subaccounts(), "/subaccounts", None, [samples.SUBACCOUNT]),
    (
        wire.SUBACCOUNTS_BALANCES,
        lambda c: c.subaccounts_balances(),
        "/subaccounts/balances",
        None,
        [samples.SUBACCOUNT_BALANCES],
    ),
    (
        wire.SUBACCOUNT_BALANCES,
        lambda c: c.subaccount_balances("123"),
        "/subaccounts/123/balances",
        None,
        [samples.SUBACCOUNT_BALANCES],
    ),
    (
        wire.SUBACCOUNT_TRANSFER,
        lambda c: c.subaccount_transfer(
            "USDT",
            D("1.5"),
            from_account_id="2",
            from_account_type="SPOT",
            to_account_id="3",
            to_account_type="FUTURES",
        ),
        "/subaccounts/transfer",
        {
            "currency": "USDT",
            "amount": "1.5",
            "fromAccountId": "2",
            "fromAccountType": "SPOT",
            "toAccountId": "3",
            "toAccountType": "FUTURES",
        },
        samples.TRANSFER_ID,
    ),
    (
        wire.SUBACCOUNT_TRANSFERS,
        lambda c: c.subaccount_transfers(from_account_id="2", to_account_type="SPOT"),
        "/subaccounts/transfer?fromAccountId=2&toAccountType=SPOT",
        None,
        [samples.SUBACCOUNT_TRANSFER],
    ),
    (
        wire.ONE_SUBACCOUNT_TRANSFER,
        lambda c: c.subaccount_transfer_by_id("1"),
        "/subaccounts/transfer/1",
        None,
        [samples.SUBACCOUNT_TRANSFER],
    ),
    (
        wire.ADDRESSES,
        lambda c: c.addresses("USD COIN"),
        "/wallets/addresses?currency=USD%20COIN",
        None,
        {"USD COIN": "x"},
    ),
    (
        wire.WALLETS_ACTIVITY,
        lambda c: c.wallets_activity(0, 1_700_000_000),
        "/wallets/activity?start=0&end=1700000000",
        None,
        samples.WALLETS,
    ),
    (wire.NEW_ADDRESS, lambda c: c.new_address("BTC"), "/wallets/address", {"currency": "BTC"}, {"address": "x"}),
    (
        wire.WITHDRAW,
        lambda c: c.withdraw("XLM", D(10), "GABC", payment_id="7"),
        "/wallets/withdraw",
        {"currency": "XLM", "amount": "10", "address": "GABC", "paymentId": "7"},
        {"withdrawalNumber": 1},
    ),
    (
        wire.WITHDRAW_COIN,
        lambda c: c.withdraw_coin("USDT", "TRX", D(10), "T1", address_tag="7"),
        "/v2/wallets/withdraw",
        {"coin": "USDT", "network": "TRX", "amount": "10", "address": "T1", "addressTag": "7"},
        {"withdrawalRequestsId": 1},
    ),
    (wire.MARGIN, lambda c: c.margin(), "/margin/accountMargin?accountType=SPOT", None, samples.MARGIN),
    (
        wire.BORROW_STATUS,
        lambda c: c.borrow_status("USDT"),
        "/margin/borrowStatus?currency=USDT",
        None,
        [samples.BORROW_STATUS],
    ),
    (wire.MAX_SIZE, lambda c: c.max_size("BTC_USDT"), "/margin/maxSize?symbol=BTC_USDT", None, samples.MAX_SIZE),
    (
        wire.PLACE,
        lambda c: c.place(ORDER_B1),
        "/orders",
        {
            "symbol": "BTC_USDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "accountType": "SPOT",
            "price": "20000",
            "quantity": "0.01",
            "clientOrderId": "b1",
        },
        samples.ORDER_IDS,
    ),
    (wire.PLACE_BATCH, lambda c: c.place_batch([ORDER_B1]), "/orders/batch", ..., [samples.ORDER_IDS]),
    (
        wire.REPLACE,
        lambda c: c.replace("BTC_USDT", by_id("7"), CHANGE_B1),
        "/orders/7",
        {"price": "19000", "clientOrderId": "b1"},
        samples.ORDER_IDS,
    ),
    (
        wire.OPEN_ORDERS,
        lambda c: c.open_orders("BTC_USDT", page=wire.Page(from_id="9", direction="PRE")),
        "/orders?from=9&direction=PRE&symbol=BTC_USDT",
        None,
        [ORDER],
    ),
    (wire.ORDER, lambda c: c.order(by_client_id("b1")), "/orders/cid:b1", None, ORDER),
    (wire.CANCEL, lambda c: c.cancel(by_id("7")), "/orders/7", None, samples.CANCEL),
    (
        wire.CANCEL_SOME,
        lambda c: c.cancel_some(order_ids=["32487004629499904"], client_ids=["b1"]),
        "/orders/cancelByIds",
        {"orderIds": ["32487004629499904"], "clientOrderIds": ["b1"]},
        [samples.CANCEL],
    ),
    (
        wire.CANCEL_ALL,
        lambda c: c.cancel_all(["BTC_USDT"]),
        "/orders",
        {"symbols": ["BTC_USDT"], "accountTypes": ["SPOT"]},
        [samples.CANCEL],
    ),
    (wire.KILL_SWITCH, lambda c: c.set_kill_switch(15), "/orders/killSwitch", {"timeout": "15"}, samples.KILL_SWITCH),
    (wire.KILL_SWITCH_STATUS, lambda c: c.kill_switch(), "/orders/killSwitchStatus", None, samples.KILL_SWITCH),
    (
        wire.ORDER_HISTORY,
        lambda c: c.order_history(symbol="BTC_USDT", order_type="LIMIT", states=["FILLED", "FAILED"], hide_cancel=True),
        "/orders/history?symbol=BTC_USDT&type=LIMIT&states=FILLED%2CFAILED&hideCancel=true",
        None,
        [ORDER],
    ),
    (
        wire.TRADES,
        lambda c: c.trades(["BTC_USDT", "ETH_USDT"], page=PAGE),
        "/trades?limit=5&symbols=BTC_USDT%2CETH_USDT",
        None,
        [samples.TRADE],
    ),
    (wire.ORDER_TRADES, lambda c: c.order_trades("7"), "/orders/7/trades", None, [samples.TRADE]),
    (
        wire.PLACE_SMART,
        lambda c: c.place_smart(STOP_B1),
        "/smartorders",
        {
            "symbol": "BTC_USDT",
            "side": "SELL",
            "type": "STOP",
            "accountType": "SPOT",
            "quantity": "0.01",
            "clientOrderId": "b1",
            "stopPrice": "19000",
        },
        samples.ORDER_IDS,
    ),
    (
        wire.REPLACE_SMART,
        lambda c: c.replace_smart("BTC_USDT", by_client_id("b0"), CHANGE_B1),
        "/smartorders/cid:b0",
        {"price": "19000", "clientOrderId": "b1"},
        samples.ORDER_IDS,
    ),
    (
        wire.OPEN_SMART_ORDERS,
        lambda c: c.open_smart_orders(limit=3),
        "/smartorders?limit=3",
        None,
        [samples.SMART_ORDER],
    ),
    (wire.SMART_ORDER, lambda c: c.smart_order(by_id("7")), "/smartorders/7", None, [samples.SMART_ORDER]),
    (wire.CANCEL_SMART, lambda c: c.cancel_smart(by_client_id("b1")), "/smartorders/cid:b1", None, samples.CANCEL),
    (
        wire.CANCEL_SOME_SMART,
        lambda c: c.cancel_some_smart(client_ids=["b1"]),
        "/smartorders/cancelByIds",
        {"clientOrderIds": ["b1"]},
        [samples.CANCEL],
    ),
    (
        wire.CANCEL_ALL_SMART,
        lambda c: c.cancel_all_smart(None),
        "/smartorders",
        {"symbols": [], "accountTypes": ["SPOT"]},
        [samples.CANCEL],
    ),
    (
        wire.SMART_ORDER_HISTORY,
        lambda c: c.smart_order_history(side="BUY"),
        "/smartorders/history?side=BUY",
        None,
        [samples.SMART_ORDER],
    ),
]
WRITES = [call for call in CALLS if call[0].method != "GET"]


def names(calls: list[tuple[wire.Endpoint, Call, str, Any, Any]]) -> list[str]:
    return [call[0].name for call in calls]


def test_every_endpoint_has_a_method() -> None:
    assert sorted(names(CALLS)) == sorted(endpoint.name for endpoint in wire.ENDPOINTS)
    assert len(wire.ENDPOINTS) == 64


def outcomes_of(result: Any) -> list[Any]:
    return [*result] if isinstance(result, tuple) else [result]


@pytest.mark.parametrize(("endpoint", "call", "target", "body", "answer"), CALLS, ids=names(CALLS))
async def test_each_call_asks_what_is_documented_and_reads_the_answer(
    endpoint: wire.Endpoint, call: Call, target: str, body: Any, answer: Any
) -> None:
    async with client_at(json_answer(answer)) as (client, peer):
        result = await call(client)
    assert len(peer.requests) == 1
    assert peer.requests[0].startswith(f"{endpoint.method} {target} HTTP/1.1".encode())
    if body is not ...:
        assert (json.loads(peer.bodies[0]) if peer.bodies[0] else None) == body
    if endpoint.group.startswith("private"):
        assert_signed(peer.requests[0], peer.bodies[0])
    else:
        assert "signature" not in headers_of(peer.requests[0])
    if endpoint.method != "GET":
        assert all(isinstance(outcome, Accepted) for outcome in outcomes_of(result))


@pytest.mark.parametrize(("endpoint", "call"), [call[:2] for call in WRITES], ids=names(WRITES))
@pytest.mark.parametrize(
    "fault",
    [
        resets,
        hangs_up,
        answers(b"<html>", status=502),
        refusal(500, 500),
        refusal(24201),
        refusal(99_999),
        answers(b"not json"),
        answers(b'{"id":[]}'),
        answers(b"<html>", status=404),
    ],
    ids=["reset", "hang-up", "502", "500", "busy", "unlisted", "no json", "no answer", "404"],
)
async def test_a_write_whose_fate_is_not_known_is_unknown_and_not_sent_again(
    endpoint: wire.Endpoint, call: Call, fault: Step
) -> None:
    del endpoint
    async with client_at(fault) as (client, peer):
        for outcome in outcomes_of(await call(client)):
            assert isinstance(outcome, Unknown)
            assert outcome.fence_ms > TS + 5_000
    assert len(peer.requests) == 1


@pytest.mark.parametrize(("endpoint", "call"), [call[:2] for call in WRITES], ids=names(WRITES))
async def test_a_write_that_is_refused_is_refused_with_code_and_text(endpoint: wire.Endpoint, call: Call) -> None:
    del endpoint
    async with client_at(refusal(21721)) as (client, peer):
        for outcome in outcomes_of(await call(client)):
            assert outcome == Refused(code=21721, text="why", kind=RefusalKind.ORDER)
    assert len(peer.requests) == 1


# --- writes


@pytest.mark.parametrize("fault", [is_silent, says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")])
async def test_a_lost_answer_is_unknown_under_the_same_client_id(fault: Step) -> None:
    async with client_at(fault) as (client, _peer):
        outcome = await client.place(ORDER_B1)
    assert isinstance(outcome, Unknown)
    assert (outcome.client_id, outcome.doubt) == ("b1", Doubt.NO_ANSWER)
    assert "POST /orders" in outcome.reason


async def test_a_write_that_never_left_is_refused_as_not_sent() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with open_http(url, connect_timeout_s=2, request_timeout_s=1, user_agent="test") as http:
        outcome = await client_of(http).cancel(by_id("7"))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.kind) == (0, RefusalKind.NOT_SENT)


async def test_too_many_requests_refuse_this_attempt_and_stop_the_group() -> None:
    limited = json_answer({"code": 429, "message": "slow"}, 429, "Retry-After: 1\r\n")
    async with client_at(limited, json_answer(samples.CANCEL)) as (client, peer):
        outcome = await client.place(ORDER_B1)
        assert outcome == Refused(code=429, text="slow", kind=RefusalKind.THROTTLED, retry_after_s=1.0)
        started_s = trio.current_time()
        assert isinstance(await client.cancel(by_id("7")), Accepted)
        assert trio.current_time() - started_s >= 0.9
    assert len(peer.requests) == 2


async def test_R3_an_order_that_may_no_longer_be_sent_is_given_up_in_the_turn_in_which_it_would_leave() -> None:
    async with client_at() as (client, peer):
        for placing in (
            client.place(ORDER_B1, why_not=lambda: "halted"),
            client.place_smart(STOP_B1, why_not=lambda: "halted"),
        ):
            assert await placing == Refused(code=0, text="halted", kind=RefusalKind.NOT_SENT)
        assert peer.requests == []


async def test_an_order_is_given_up_unsent_when_the_limit_has_no_room() -> None:
    async with http_of(json_answer([MARKET]), json_answer(samples.ORDER_IDS)) as (http, peer):
        limits = RateLimits()
        client = client_of(http, limits=limits)
        await client.market("BTC_USDT")
        limits.gate(Group.PRIVATE_LIGHT).refused(20.0)
        outcome = await client.place(ORDER_B1)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.kind) == (0, RefusalKind.THROTTLED)
    assert len(peer.requests) == 1


async def test_a_cancel_passes_orders_that_wait() -> None:
    async with http_of(json_answer([MARKET]), json_answer(samples.ORDER_IDS)) as (http, peer):
        client = client_of(http, limits=RateLimits({**LIMITS, Group.PRIVATE_LIGHT: 4}))
        await client.market("BTC_USDT")
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(client.place, ORDER_B1)
            await trio.sleep(0.1)
            nursery.start_soon(client.cancel, by_id("7"))
    methods = [head.split(b" ")[0] for head in peer.requests[1:]]
    assert methods.index(b"DELETE") <= 3
    assert len(methods) == 5


async def test_a_ban_stops_everything() -> None:
    async with client_at(answers(b"<html>blocked</html>", status=403)) as (client, peer):
        assert isinstance(await client.place(ORDER_B1), Unknown)
        with trio.move_on_after(0.1):
            await client.tickers()
    assert len(peer.requests) == 1


async def test_a_bad_signature_is_refused_and_is_no_ban() -> None:
    async with client_at(refusal(401, 401), json_answer(samples.ORDER_IDS)) as (client, _peer):
        outcome = await client.place(ORDER_B1)
        assert isinstance(outcome, Refused)
        assert outcome.kind is RefusalKind.AUTH
        assert isinstance(await client.place(ORDER_B1), Accepted)


@pytest.mark.parametrize(
    "answer", [{"id": "1", "clientOrderId": "other"}, {"id": "1"}, {"id": "", "clientOrderId": "b1"}]
)
async def test_an_answer_to_another_order_is_no_acceptance(answer: object) -> None:
    async with client_at(json_answer(answer)) as (client, _peer):
        assert isinstance(await client.place(ORDER_B1), Unknown)


async def test_a_client_id_that_is_taken_says_that_the_order_exists() -> None:
    async with client_at(refusal(21312)) as (client, _peer):
        outcome = await client.place(ORDER_B1)
    assert isinstance(outcome, Unknown)
    assert (outcome.doubt, outcome.code) == (Doubt.EXISTS, 21312)


async def test_each_order_of_a_batch_has_an_outcome_of_its_own() -> None:
    items = [
        {"id": "1", "clientOrderId": "b1"},
        {"code": 21721, "message": "no money", "clientOrderId": "b2"},
        {"code": 24201, "message": "busy", "clientOrderId": "b3"},
        {"id": "4", "clientOrderId": "stranger"},
    ]
    orders = [msgspec.structs.replace(ORDER_B1, client_id=f"b{number}") for number in (1, 2, 3, 4)]
    async with client_at(json_answer(items)) as (client, _peer):
        first, second, third, fourth = await client.place_batch(orders)
    assert first == Accepted(value=wire.OrderIds(id=wire.ExchangeId("1"), client_order_id=wire.ExchangeId("b1")))
    assert second == Refused(code=21721, text="no money")
    for outcome, client_id in ((third, "b3"), (fourth, "b4")):
        assert isinstance(outcome, Unknown)
        assert outcome.client_id == client_id
        assert outcome.fence_ms > TS


async def test_a_batch_with_too_few_answers_is_unknown_as_a_whole() -> None:
    async with client_at(json_answer([samples.ORDER_IDS])) as (client, _peer):
        outcomes = await client.place_batch([ORDER_B1, ORDER_B2])
    assert [outcome.client_id for outcome in outcomes if isinstance(outcome, Unknown)] == ["b1", "b2"]


@pytest.mark.parametrize(
    ("orders", "message"), [([], "batch of 0"), ([ORDER_B1] * 21, "batch of 21"), ([ORDER_B1] * 2, "twice")]
)
async def test_a_batch_that_would_be_refused_is_not_sent(orders: list[wire.NewOrder], message: str) -> None:
    async with client_at(answers()) as (client, peer):
        with pytest.raises(OrderRefusedHere, match=message):
            await client.place_batch(orders)
    assert peer.requests == []


async def test_a_cancel_that_lost_to_a_fill_is_a_race_by_each_way() -> None:
    async with client_at(refusal(21359)) as (client, _peer):
        single = await client.cancel(by_client_id("b1"))
    row = samples.CANCEL | {"code": 21304, "message": "filled", "state": "FILLED"}
    async with client_at(json_answer([row])) as (client, _peer):
        by_ids = await client.cancel_some(client_ids=["b1", "b2"])
    for outcome, doubt, client_id in zip(
        (single, *by_ids), (Doubt.RACE, Doubt.RACE, Doubt.NO_ANSWER), ("b1", "b1", "b2"), strict=True
    ):
        assert isinstance(outcome, Unknown)
        assert (outcome.doubt, outcome.client_id) == (doubt, client_id)


async def test_cancelling_nothing_by_ids_is_not_sent() -> None:
    async with client_at(answers()) as (client, peer):
        with pytest.raises(OrderRefusedHere):
            await client.cancel_some()
        with pytest.raises(OrderRefusedHere):
            await client.cancel_all([])
    assert peer.requests == []


async def test_an_order_off_the_grid_is_not_sent() -> None:
    async with client_at(answers()) as (client, peer):
        with pytest.raises(OrderRefusedHere, match="more than 2 decimals"):
            await client.place(msgspec.structs.replace(ORDER_B1, price=D("0.001")))
    assert peer.requests == []


async def test_the_rules_of_a_market_are_read_once() -> None:
    script = [json_answer([MARKET]), json_answer(samples.ORDER_IDS)]
    async with client_at(*script, knows_market=False) as (client, peer):
        for _ in range(3):
            assert isinstance(await client.place(ORDER_B1), Accepted)
    assert [head.split(b" ")[0] for head in peer.requests] == [b"GET", b"POST", b"POST", b"POST"]


async def test_an_order_for_a_market_that_is_not_there_is_not_sent() -> None:
    async with client_at(json_answer([MARKET]), knows_market=False) as (client, peer):
        with pytest.raises(NotListed):
            await client.place(msgspec.structs.replace(ORDER_B1, symbol="ETH_USDT"))
        with pytest.raises(NotListed):
            await client.place(msgspec.structs.replace(ORDER_B1, symbol="../x"))
    assert len(peer.requests) == 1


async def test_nothing_is_signed_by_a_clock_beyond_its_bound() -> None:
    async with http_of(answers()) as (http, peer):
        client = client_of(http, clock=fixed_clock(offset_ms=2_500))
        with pytest.raises(ClockSkew):
            await client.cancel(by_id("7"))
        with pytest.raises(ClockSkew):
            await client.accounts()
    assert peer.requests == []


async def test_requests_are_signed_at_the_exchanges_time() -> None:
    async with http_of(json_answer([])) as (http, peer):
        started_s = trio.current_time()
        await client_of(http, clock=fixed_clock(offset_ms=1_500)).accounts()
    signed_ms = int(headers_of(peer.requests[0])["signtimestamp"])
    assert abs(signed_ms - (TS + started_s * 1e3 + 1_500)) < 200


async def test_the_clock_is_measured_before_the_first_signature() -> None:
    time, accounts = json_answer({"serverTime": TS}), json_answer([])
    async with http_of(*[time] * 5, accounts) as (http, peer):
        clock = ServerClock(SpotClient(http).server_time_ms, wall_ns=lambda: TS * 10**6)
        client = SpotClient(http, credentials=CREDENTIALS, clock=clock)
        assert await client.accounts() == ()
    assert len(peer.requests) == 6


async def test_a_write_is_not_sent_when_the_exchanges_time_cannot_be_read() -> None:
    async with http_of(resets) as (http, peer):
        client = SpotClient(http, credentials=CREDENTIALS, tries=1)
        outcome = await client.cancel(by_id("7"))
    assert isinstance(outcome, Refused)
    assert outcome.kind is RefusalKind.NOT_SENT
    assert all(head.startswith(b"GET /timestamp") for head in peer.requests)


# --- questions


@pytest.mark.parametrize("fault", [resets, answers(status=502), answers(status=408), is_silent])
async def test_a_question_is_tried_again_and_signed_anew(fault: Step) -> None:
    async with client_at(fault, fault, json_answer([samples.ACCOUNT])) as (client, peer):
        assert len(await client.accounts()) == 1
    assert len(peer.requests) == 3
    for head in peer.requests:
        assert_signed(head, b"")


async def test_a_question_that_is_refused_is_not_tried_again() -> None:
    async with client_at(NOT_FOUND) as (client, peer):
        with pytest.raises(ReadRefused, match="GET /orders/7: status 400, code 21301: Order not found") as error:
            await client.order(by_id("7"))
    assert (error.value.code, error.value.status) == (21301, 400)
    assert len(peer.requests) == 1


async def test_a_question_waits_as_long_as_it_is_told() -> None:
    limited = json_answer({"code": 429, "message": "slow"}, 429, "Retry-After: 1\r\n")
    async with client_at(limited, json_answer([])) as (client, _peer):
        started_s = trio.current_time()
        assert await client.accounts() == ()
    assert trio.current_time() - started_s >= 0.9


async def test_a_storm_of_refusals_goes_up() -> None:
    limited = json_answer({"code": 429, "message": "slow"}, 429)
    async with http_of(limited) as (http, _peer):
        client = SpotClient(http, tries=1)
        with pytest.raises(RateLimited):
            await client.tickers()


async def test_a_good_status_with_a_bad_body_is_a_bad_reply() -> None:
    async with client_at(answers(b'{"a":1}')) as (client, _peer):
        with pytest.raises(BadReply):
            await client.accounts()
    async with client_at(json_answer({"ETH": samples.CURRENCY["BTC"]})) as (client, _peer):
        with pytest.raises(BadReply, match="another currency"):
            await client.currency("BTC")


async def test_no_kill_switch_is_no_error() -> None:
    async with client_at(refusal(25020), refusal(21601)) as (client, _peer):
        assert await client.kill_switch() is None
        with pytest.raises(ReadRefused, match="21601"):
            await client.kill_switch()


async def test_public_questions_need_no_key() -> None:
    async with http_of(json_answer([])) as (http, peer):
        assert await SpotClient(http).tickers() == ()
    assert "key" not in headers_of(peer.requests[0])


# --- resolving, on virtual time


class ScriptedHttp(Http):
    """Answers requests from a script, at once; virtual time does not mix with real sockets."""

    def __init__(self, *replies: Response | Exception) -> None:
        self.replies = [*replies]
        self.asked: list[tuple[float, str, str]] = []

    async def request(self, method: str, path: str, query: str = "", **_others: Any) -> Response:
        self.asked.append((trio.current_time(), f"{method} {path}", query))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


def reply(value: object, status: int = 200) -> Response:
    return Response(status=status, body=encoded(value))


ABSENT = reply({"code": 21301, "message": "not found"}, 400)
GONE = ConnectionLost("gone")


def unknown(doubt: Doubt = Doubt.NO_ANSWER, fence_after_s: float = 6.5) -> Unknown:
    fence_ms = int(TS + (trio.current_time() + fence_after_s) * 1e3)
    return Unknown(reason="silence", doubt=doubt, client_id="b1", fence_ms=fence_ms)


async def test_an_order_that_is_found_was_accepted(autojump_clock: trio.testing.MockClock) -> None:
    http = ScriptedHttp(ABSENT, GONE, reply(ORDER))
    found = await SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), tries=1).resolve("BTC_USDT", unknown())
    assert isinstance(found, Accepted)
    assert found.value.client_order_id == "b1"
    assert {what for _, what, _ in http.asked} == {"GET /orders/cid:b1"}


async def test_an_order_is_never_accepted_only_after_its_fence_and_by_all_lists(
    autojump_clock: trio.testing.MockClock,
) -> None:
    http = ScriptedHttp(*[ABSENT] * 6, reply([]), reply([]))
    client = SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), tries=1)

    # The script ends with the lists; whatever number of questions came before, they are all "not found".
    async def answer(method: str, path: str, query: str = "", **_others: Any) -> Response:
        http.asked.append((trio.current_time(), f"{method} {path}", query))
        return ABSENT if "cid:" in path else reply([])

    http.request = answer
    fate = await client.resolve("BTC_USDT", unknown())
    assert isinstance(fate, Refused)
    assert fate.kind is RefusalKind.NEVER_ACCEPTED
    assert [what for _, what, _ in http.asked[-2:]] == ["GET /orders", "GET /trades"]
    late = [time_s for time_s, what, _ in http.asked if "cid:" in what and time_s > 6.5]
    assert len(late) >= 2
    assert late[-1] - late[0] >= 1.0


@pytest.mark.parametrize(
    ("doubt", "living", "traded"),
    [
        (Doubt.NO_ANSWER, [ORDER], []),
        (Doubt.NO_ANSWER, [], [samples.TRADE | {"clientOrderId": "b1"}]),
        (Doubt.NO_ANSWER, [], [samples.TRADE] * 100),
        (Doubt.EXISTS, [], []),
        (Doubt.RACE, [], []),
    ],
    ids=["lives", "traded", "too many trades", "taken", "race"],
)
async def test_without_proof_it_stays_unknown(
    autojump_clock: trio.testing.MockClock, doubt: Doubt, living: list[object], traded: list[object]
) -> None:
    http = ScriptedHttp(ABSENT)

    async def answer(method: str, path: str, query: str = "", **_others: Any) -> Response:
        del method, query
        return ABSENT if "cid:" in path else reply(living if path == "/orders" else traded)

    http.request = answer
    client = SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), tries=1)
    with trio.move_on_after(300) as scope:
        await client.resolve("BTC_USDT", unknown(doubt))
    assert scope.cancelled_caught


async def test_a_failure_inside_the_exchange_moves_the_fence(autojump_clock: trio.testing.MockClock) -> None:
    http = ScriptedHttp(ABSENT)

    async def answer(method: str, path: str, query: str = "", **_others: Any) -> Response:
        del method, query
        return reply({"code": 25013, "message": "none"}, 400) if "cid:" in path else reply([])

    http.request = answer
    client = SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), tries=1)
    fate = await client.resolve_smart(unknown(Doubt.AMBIGUOUS))
    assert isinstance(fate, Refused)
    assert trio.current_time() >= 6.5 + 8.5 + 1.0


async def test_a_smart_order_is_found_too(autojump_clock: trio.testing.MockClock) -> None:
    http = ScriptedHttp(reply([samples.SMART_ORDER]))
    client = SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), tries=1)
    found = await client.resolve_smart(unknown())
    assert isinstance(found, Accepted)
    assert found.value.state == "TRIGGERED"


async def test_the_lane_of_an_order_is_the_callers_choice(autojump_clock: trio.testing.MockClock) -> None:
    http = ScriptedHttp(reply([MARKET]), reply(samples.ORDER_IDS))
    limits = RateLimits()
    client = SpotClient(http, credentials=CREDENTIALS, clock=fixed_clock(), limits=limits)
    assert isinstance(await client.place(ORDER_B1, lane=Lane.CLOSE), Accepted)
    limits.gate(Group.PRIVATE_LIGHT).refused(5.0)
    # An order that opens is given up after a second; one that closes waits.
    assert isinstance(await client.place(ORDER_B1), Refused)
    assert isinstance(await client.place(ORDER_B1, lane=Lane.CLOSE), Accepted)
    assert trio.current_time() >= 5.0
