from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from bot.core.instrument import Side
from bot.core.secret import Secret
from bot.errors import BadReply, OffGrid, OrderRefusedHere, RateLimited, ReadRefused
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import outcome
from bot.exchange.poloniex.futures_client import Ack, FuturesClient, Page
from bot.exchange.poloniex.futures_codec import FuturesInstrument, decode_instrument
from bot.exchange.poloniex.futures_wire import Contracts
from bot.exchange.poloniex.outcome import Accepted, Doubt, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import Credentials, is_signed
from bot.exchange.transport import Backoff, open_http
from tests.exchange.poloniex.futures_samples import (
    CANDLE,
    MS,
    PERP,
    PRICE_CANDLE,
    account_row,
    bill_row,
    envelope,
    fill_row,
    instrument_row,
    market_trade_row,
    order_row,
    position_history_row,
    position_row,
    risk_row,
    ticker_row,
)
from tests.support.http_peer import HttpPeer, Step, answers, free_port, hangs_up, is_silent, open_http_peer, resets
from tests.support.ids import short_id

SECRET = Secret("s3cr3t")
INSTRUMENT = decode_instrument(envelope(instrument_row()))
ACK = {"ordId": "331378951169769472", "clOrdId": "bot1"}
LEVERAGE = {"symbol": PERP, "mgnMode": "CROSS", "posSide": "BOTH", "lever": "20"}
MARGIN = {"amt": "10", "lever": "20", "symbol": PERP, "posSide": "LONG", "type": "ADD"}
END = MS + 60_000


async def our_time() -> int:
    return time.time_ns() // 10**6


@asynccontextmanager
async def client_of(url: str, *, tries: int = 3) -> AsyncGenerator[FuturesClient]:
    async with open_http(url, connect_timeout_s=2, request_timeout_s=1, user_agent="test") as http:
        yield FuturesClient(
            http,
            credentials=Credentials(Secret("our-key"), SECRET),
            clock=ServerClock(our_time),
            tries=tries,
            backoff=Backoff(0.001, 0.01, lambda: 0.5),
        )


@asynccontextmanager
async def opened(*script: Step, tries: int = 3) -> AsyncGenerator[tuple[FuturesClient, HttpPeer]]:
    async with open_http_peer(*script) as peer, client_of(peer.url, tries=tries) as client:
        yield client, peer


def good(data: object) -> Step:
    return answers(envelope(data))


def says_no(code: int, msg: str = "no", status: int = 200) -> Step:
    return answers(envelope(None, code, msg), status)


ODD = good("?")


def order(client_id: str = "bot1", **changes: object) -> fw.FuturesOrder:
    made = fw.FuturesOrder(
        client_id=client_id,
        symbol=PERP,
        side=Side.BUY,
        order_type="LIMIT",
        contracts=Contracts(10),
        price=Decimal(50000),
    )
    return msgspec.structs.replace(made, **changes)


async def place(client: FuturesClient) -> outcome.Outcome[Ack]:
    return await client.place_order(order(), INSTRUMENT)


Call = Callable[[FuturesClient], Awaitable[Any]]

PUBLIC: tuple[tuple[Call, str, object], ...] = (
    (lambda c: c.instruments(), "/v3/market/allInstruments", [instrument_row()]),
    (lambda c: c.instrument(PERP), f"/v3/market/instruments?symbol={PERP}", instrument_row()),
    (
        lambda c: c.order_book(PERP, limit=5, scale=Decimal("0.10")),
        f"/v3/market/orderBook?symbol={PERP}&limit=5&scale=0.1",
        {"asks": [["46100", "9284"]], "bids": [["46000", "10"]], "s": "0.1", "ts": MS},
    ),
    (lambda c: c.trades(PERP, limit=500), f"/v3/market/trades?symbol={PERP}&limit=500", [market_trade_row()]),
    (lambda c: c.tickers(), "/v3/market/tickers", [ticker_row()]),
    (lambda c: c.tickers(PERP), f"/v3/market/tickers?symbol={PERP}", [ticker_row()]),
    (
        lambda c: c.candles(PERP, "MINUTE_1", start_ms=MS, end_ms=END),
        f"/v3/market/candles?symbol={PERP}&interval=MINUTE_1&limit=500&sTime={MS}&eTime={END}",
        [CANDLE],
    ),
    (
        lambda c: c.index_candles(PERP, "DAY_3", start_ms=MS, end_ms=END, limit=7),
        f"/v3/market/indexPriceCandlesticks?symbol={PERP}&interval=DAY_3&limit=7&sTime={MS}&eTime={END}",
        [PRICE_CANDLE],
    ),
    (
        lambda c: c.mark_candles(PERP, "MINUTE_1", start_ms=MS, end_ms=END),
        f"/v3/market/markPriceCandlesticks?symbol={PERP}&interval=MINUTE_1&limit=500&sTime={MS}&eTime={END}",
        [PRICE_CANDLE],
    ),
    (
        lambda c: c.premium_candles(PERP, "MINUTE_1", start_ms=MS, end_ms=END),
        f"/v3/market/premiumIndexCandlesticks?symbol={PERP}&interval=MINUTE_1&limit=500&sTime={MS}&eTime={END}",
        [PRICE_CANDLE],
    ),
    (lambda c: c.mark_price(PERP), f"/v3/market/markPrice?symbol={PERP}", {"s": PERP, "mPx": "46050.1"}),
    (lambda c: c.mark_prices(), "/v3/market/markPrice", [{"s": PERP, "mPx": "46050.1"}]),
    (lambda c: c.index_price(PERP), f"/v3/market/indexPrice?symbol={PERP}", {"s": PERP, "iPx": "46050.1"}),
    (lambda c: c.index_prices(), "/v3/market/indexPrice", [{"s": PERP, "iPx": "46050.1"}]),
    (
        lambda c: c.index_components(PERP),
        f"/v3/market/indexPriceComponents?symbol={PERP}",
        [{"s": PERP, "px": "46050", "cs": [{"e": "x", "sPx": "46050", "w": "1", "cPx": "46050"}]}],
    ),
    (
        lambda c: c.funding_rate(PERP),
        f"/v3/market/fundingRate?symbol={PERP}",
        {"s": PERP, "fR": "0.0001", "fT": MS, "nFR": "0.0002", "nFT": MS + 1},
    ),
    (
        lambda c: c.funding_history(PERP, start_ms=MS, end_ms=END, limit=10),
        f"/v3/market/fundingRate/history?symbol={PERP}&sT={MS // 1000}&eT={END // 1000}&limit=10",
        [{"s": PERP, "fR": "0.0001", "fT": MS}],
    ),
    (lambda c: c.open_interest(PERP), f"/v3/market/openInterest?symbol={PERP}", {"s": PERP, "oInterest": "5"}),
    (lambda c: c.insurance(), "/v3/market/insurance", [{"amt": "1", "ccy": "USDT", "uTime": str(MS)}]),
    (
        lambda c: c.limit_price(PERP),
        f"/v3/market/limitPrice?symbol={PERP}",
        [{"symbol": PERP, "buyLmt": "48000", "sellLmt": "44000"}],
    ),
    (
        lambda c: c.liquidations(PERP, Page(start_ms=1, end_ms=2, from_id="9", direction="PREV", limit=10)),
        f"/v3/market/liquidationOrder?symbol={PERP}&sTime=1&eTime=2&limit=10&direct=PREV&from=9",
        [{"symbol": PERP, "side": "SELL", "posSide": "LONG", "sz": "5", "bkPx": "45000", "uTime": str(MS)}],
    ),
    (
        lambda c: c.market_risk_limits(PERP, margin_mode="CROSS", tier=1),
        f"/v3/market/riskLimit?symbol={PERP}&mgnMode=CROSS&tier=1",
        [risk_row()],
    ),
)
PRIVATE: tuple[tuple[Call, str, object], ...] = (
    (lambda c: c.balance(), "/v3/account/balance", account_row()),
    (lambda c: c.bills("FUNDING_FEE"), "/v3/account/bills?type=FUNDING_FEE&limit=100", [bill_row()]),
    (
        lambda c: c.order(symbol=PERP, client_id="bot1"),
        f"/v3/trade/order/details?symbol={PERP}&clOrdId=bot1",
        order_row(),
    ),
    (lambda c: c.order(order_id="5"), "/v3/trade/order/details?ordId=5", [order_row()]),
    (
        lambda c: c.open_orders(symbol=PERP, side=Side.BUY),
        f"/v3/trade/order/opens?symbol={PERP}&side=BUY&limit=100",
        [order_row()],
    ),
    (
        lambda c: c.order_history(state="FILLED", order_type="LIMIT", page=Page(start_ms=1, end_ms=2)),
        "/v3/trade/order/history?state=FILLED&type=LIMIT&sTime=1&eTime=2&limit=100",
        [order_row(state="FILLED")],
    ),
    (lambda c: c.fills(order_id="5"), "/v3/trade/order/trades?ordId=5&limit=100", [fill_row()]),
    (lambda c: c.positions(PERP), f"/v3/trade/position/opens?symbol={PERP}", [position_row()]),
    (
        lambda c: c.position_history(margin_mode="CROSS", position_side="LONG"),
        "/v3/trade/position/history?mgnMode=CROSS&posSide=LONG&limit=100",
        [position_history_row()],
    ),
    (lambda c: c.leverages(PERP, "CROSS"), f"/v3/position/leverages?symbol={PERP}&mgnMode=CROSS", [LEVERAGE]),
    (lambda c: c.position_mode(), "/v3/position/mode", {"posMode": "HEDGE"}),
    (lambda c: c.risk_limits(PERP, "CROSS"), f"/v3/position/riskLimit?symbol={PERP}&mgnMode=CROSS", [risk_row()]),
)
WRITES: tuple[tuple[Call, str, str, object, object], ...] = (
    (
        place,
        "POST",
        "/v3/trade/order",
        {
            "symbol": PERP,
            "side": "BUY",
            "type": "LIMIT",
            "sz": "10",
            "mgnMode": "CROSS",
            "posSide": "BOTH",
            "clOrdId": "bot1",
            "px": "50000",
            "timeInForce": "GTC",
            "stpMode": "EXPIRE_TAKER",
        },
        ACK,
    ),
    (
        lambda c: c.cancel_order(PERP, order_id="5"),
        "DELETE",
        f"/v3/trade/order?symbol={PERP}&ordId=5",
        None,
        {"ordId": "5", "clOrdId": "bot1"},
    ),
    (
        lambda c: c.cancel_order(PERP, client_id="bot1"),
        "DELETE",
        f"/v3/trade/order?symbol={PERP}&clOrdId=bot1",
        None,
        ACK,
    ),
    (
        lambda c: c.cancel_all_orders(PERP, Side.SELL),
        "DELETE",
        f"/v3/trade/allOrders?symbol={PERP}&side=SELL",
        None,
        [ACK | {"code": 200, "msg": "Success"}],
    ),
    (lambda c: c.cancel_all_orders(None), "DELETE", "/v3/trade/allOrders", None, []),
    (
        lambda c: c.close_position(PERP, "CROSS", position_side="LONG", client_id="bot1"),
        "POST",
        "/v3/trade/position",
        {"symbol": PERP, "mgnMode": "CROSS", "posSide": "LONG", "clOrdId": "bot1"},
        ACK,
    ),
    (lambda c: c.close_all_positions(), "POST", "/v3/trade/positionAll", None, [ACK]),
    (
        lambda c: c.set_leverage(INSTRUMENT, 20, "CROSS", "BOTH"),
        "POST",
        "/v3/position/leverage",
        {"symbol": PERP, "lever": "20", "mgnMode": "CROSS", "posSide": "BOTH"},
        LEVERAGE,
    ),
    (lambda c: c.set_position_mode("HEDGE"), "POST", "/v3/position/mode", {"posMode": "HEDGE"}, {}),
    (
        lambda c: c.change_margin(PERP, "ADD", Decimal("10.00"), "LONG"),
        "POST",
        "/v3/trade/position/margin",
        {"symbol": PERP, "amt": "10", "type": "ADD", "posSide": "LONG"},
        MARGIN,
    ),
)


def target(head: bytes) -> tuple[str, str]:
    method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
    return method, path


def is_ours(peer: HttpPeer, number: int = -1) -> bool:
    """Return whether a request was signed with our secret, over the bytes that came."""
    lines = peer.requests[number].decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    method, whole = target(peer.requests[number])
    path, _, query = whole.partition("?")
    return "recvwindow" in {name.lower() for name in headers} and is_signed(
        SECRET, method, path, query, peer.bodies[number], headers
    )


# --- reads


@pytest.mark.parametrize(("call", "path", "data"), PUBLIC, ids=short_id)
async def test_every_public_call_asks_and_reads(call: Call, path: str, data: object) -> None:
    async with opened(good(data)) as (client, peer):
        assert await call(client)
    assert target(peer.requests[0]) == ("GET", path)
    assert b"signature" not in peer.requests[0].lower()


@pytest.mark.parametrize(("call", "path", "data"), PRIVATE, ids=short_id)
async def test_every_private_call_asks_signs_and_reads(call: Call, path: str, data: object) -> None:
    async with opened(good(data)) as (client, peer):
        assert await call(client)
    assert target(peer.requests[0]) == ("GET", path)
    assert is_ours(peer)


async def test_candles_are_cut_to_their_range_and_come_oldest_first() -> None:
    later = [*CANDLE[:7], str(MS + 60_000), str(MS + 119_999)]
    async with opened(good([later, CANDLE])) as (client, _):
        both = await client.candles(PERP, "MINUTE_1", start_ms=MS, end_ms=MS + 120_000)
        assert [row.start_ms for row in both] == [MS, MS + 60_000]
        assert len(await client.candles(PERP, "MINUTE_1", start_ms=MS + 1, end_ms=MS + 120_000)) == 1
    async with opened(good([CANDLE, CANDLE])) as (client, _):
        with pytest.raises(BadReply, match="two candles of one time"):
            await client.candles(PERP, "MINUTE_1", start_ms=MS, end_ms=END)


@pytest.mark.parametrize(
    "fault",
    [answers(status=500), says_no(500), says_no(503), says_no(24201), answers(status=429), says_no(429), resets],
    ids=["500", "code 500", "code 503", "busy", "429", "code 429", "reset"],
)
async def test_a_passing_fault_of_a_read_is_tried_again(fault: Step) -> None:
    async with opened(fault, good(account_row())) as (client, peer):
        assert (await client.balance()).equity == Decimal("998.75")
    assert len(peer.requests) == 2


async def test_a_refused_read_says_its_code_though_the_status_is_200() -> None:
    async with opened(says_no(11008, "Order does not exist")) as (client, peer):
        with pytest.raises(ReadRefused, match="GET /v3/trade/order/details: code 11008: Order does not exist") as bad:
            await client.order(order_id="5")
    assert (bad.value.code, bad.value.status, len(peer.requests)) == (11008, 200, 1)


async def test_a_storm_ends_after_the_given_tries() -> None:
    async with opened(says_no(503, "degraded"), tries=2) as (client, peer):
        with pytest.raises(ReadRefused, match="code 503: degraded"):
            await client.positions()
    assert len(peer.requests) == 2


async def test_too_many_questions_stay_too_many() -> None:
    async with opened(says_no(429, "slow down"), tries=1) as (client, _):
        with pytest.raises(RateLimited, match="slow down"):
            await client.positions()


# --- writes


@pytest.mark.parametrize(("call", "method", "path", "body", "data"), WRITES, ids=short_id)
async def test_every_write_is_signed_as_sent(call: Call, method: str, path: str, body: object, data: object) -> None:
    async with opened(good(data)) as (client, peer):
        assert isinstance(await call(client), Accepted)
    assert target(peer.requests[0]) == (method, path)
    assert (json.loads(peer.bodies[0]) if peer.bodies[0] else None) == body
    assert is_ours(peer)


async def test_an_accepted_order_has_both_its_ids() -> None:
    async with opened(good(ACK)) as (client, _):
        assert await place(client) == Accepted(value=Ack(order_id="331378951169769472", client_id="bot1"))


@pytest.mark.parametrize("call", [call for call, *_ in WRITES], ids=[path for _, _, path, *_ in WRITES])
@pytest.mark.parametrize("fault", [resets, hangs_up, answers(b"<html>"), answers(b"", 502), says_no(503), ODD])
async def test_a_write_is_never_tried_again(call: Call, fault: Step) -> None:
    async with opened(fault) as (client, peer):
        result = await call(client)
    assert len(peer.requests) == 1
    if fault is ODD and path_of(peer) == "/v3/position/mode":
        assert result == Accepted(value=None)  # nothing is read of that answer
        return
    assert isinstance(result, Unknown)
    assert result.fence_ms > time.time_ns() // 10**6
    assert result.reason.isprintable()


def path_of(peer: HttpPeer) -> str:
    return target(peer.requests[0])[1]


async def test_a_lost_answer_is_unknown_and_names_the_order() -> None:
    async with opened(is_silent) as (client, peer):
        result = await place(client)
    assert isinstance(result, Unknown)
    assert (result.client_id, result.doubt, len(peer.requests)) == ("bot1", Doubt.NO_ANSWER, 1)


async def test_an_order_that_never_left_is_refused() -> None:
    async with client_of(f"http://127.0.0.1:{free_port()}") as client:
        result = await place(client)
    assert isinstance(result, Refused)
    assert result.kind is RefusalKind.NOT_SENT


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (10002, RefusalKind.ORDER),
        (400, RefusalKind.ORDER),
        (429, RefusalKind.THROTTLED),
        (10006, RefusalKind.MODE),
        (1003, RefusalKind.ACCOUNT),
        (250, Doubt.EXISTS),
        (503, Doubt.AMBIGUOUS),
        (21721, Doubt.AMBIGUOUS),
        (99999, Doubt.AMBIGUOUS),
    ],
)
async def test_a_code_decides_what_became_of_an_order(code: int, expected: RefusalKind | Doubt) -> None:
    async with opened(says_no(code)) as (client, _):
        result = await place(client)
    assert isinstance(result, Refused | Unknown)
    assert (result.kind if isinstance(result, Refused) else result.doubt) is expected
    assert result.code == code


@pytest.mark.parametrize("code", [11004, 11008])
async def test_a_cancel_that_lost_its_race_is_unknown(code: int) -> None:
    async with opened(says_no(code)) as (client, _):
        result = await client.cancel_order(PERP, client_id="bot1")
    assert isinstance(result, Unknown)
    assert (result.doubt, result.client_id) == (Doubt.RACE, "bot1")


@pytest.mark.parametrize("data", [ACK | {"clOrdId": "other"}, {"ordId": "", "clOrdId": "bot1"}, {}, None, [ACK, ACK]])
async def test_an_answer_about_another_order_leaves_ours_unknown(data: object) -> None:
    async with opened(good(data)) as (client, _):
        assert isinstance(await place(client), Unknown)


async def place_many(client: FuturesClient) -> list[outcome.Outcome[Ack]]:
    return await client.place_orders([order("bot1"), order("bot2"), order("bot3")], {PERP: INSTRUMENT})


async def test_each_order_of_a_batch_has_its_own_outcome() -> None:
    rows = [
        ACK | {"code": 200, "msg": "Success"},
        {"code": 10002, "msg": "price", "ordId": None, "clOrdId": "bot2"},
        {"code": 500, "msg": "?"},
    ]
    async with opened(good(rows)) as (client, peer):
        first, second, third = await place_many(client)
    assert isinstance(first, Accepted)
    assert isinstance(second, Refused)
    assert isinstance(third, Unknown)
    assert (third.client_id, third.fence_ms > 0, path_of(peer)) == ("bot3", True, "/v3/trade/orders")
    assert [row["clOrdId"] for row in json.loads(peer.bodies[0])] == ["bot1", "bot2", "bot3"]
    assert is_ours(peer)


@pytest.mark.parametrize("fault", [resets, says_no(503), good([ACK]), good({})])
async def test_a_batch_without_a_whole_answer_is_unknown_in_each_order(fault: Step) -> None:
    async with opened(fault) as (client, _):
        results = await place_many(client)
    assert [result.client_id for result in results if isinstance(result, Unknown)] == ["bot1", "bot2", "bot3"]


async def test_a_batch_that_is_refused_is_refused_in_each_order() -> None:
    async with opened(says_no(10016)) as (client, _):
        assert all(isinstance(result, Refused) for result in await place_many(client))


async def test_each_cancel_of_a_batch_is_found_by_its_id() -> None:
    rows = [
        {"ordId": "6", "clOrdId": "b", "code": 11008, "msg": "gone"},
        {"ordId": "5", "clOrdId": "a", "code": 200, "msg": "Success"},
    ]
    async with opened(good(rows)) as (client, peer):
        first, second, third = await client.cancel_orders(PERP, order_ids=["5", "6", "7"])
    assert json.loads(peer.bodies[0]) == {"symbol": PERP, "ordIds": ["5", "6", "7"]}
    assert target(peer.requests[0]) == ("DELETE", "/v3/trade/batchOrders")
    assert is_ours(peer)
    assert first == Accepted(value=Ack(order_id="5", client_id="a"))
    assert isinstance(second, Unknown)
    assert second.doubt is Doubt.RACE
    assert isinstance(third, Unknown)
    assert third.reason == "the answer does not name it"


async def test_a_cancel_of_all_tells_of_each() -> None:
    async with opened(good([ACK | {"code": 200}, {"ordId": "6", "clOrdId": "b", "code": 11004}])) as (client, _):
        result = await client.cancel_all_orders(PERP)
    assert isinstance(result, Accepted)
    assert [type(each) for each in result.value] == [Accepted, Unknown]


REFUSED_HERE: tuple[Call, ...] = (
    lambda c: c.place_order(order(price=Decimal("1.001")), INSTRUMENT),
    lambda c: c.place_order(order(contracts=Contracts(0)), INSTRUMENT),
    lambda c: c.place_orders([order(), order()], {PERP: INSTRUMENT}),
    lambda c: c.place_orders([], {PERP: INSTRUMENT}),
    lambda c: c.place_orders([order(f"bot{number}") for number in range(11)], {PERP: INSTRUMENT}),
    lambda c: c.place_orders([order()], {}),
    lambda c: c.set_leverage(INSTRUMENT, 76, "CROSS", "BOTH"),
    lambda c: c.set_leverage(INSTRUMENT, 0, "CROSS", "BOTH"),
    lambda c: c.change_margin(PERP, "ADD", Decimal(0)),
    lambda c: c.change_margin(PERP, "ADD", Decimal("NaN")),
)


@pytest.mark.parametrize("call", REFUSED_HERE)
async def test_what_would_be_refused_is_not_sent(call: Call) -> None:
    async with opened(good(ACK)) as (client, peer):
        with pytest.raises((OffGrid, OrderRefusedHere)):
            await call(client)
    assert not peer.requests


def test_the_instrument_of_the_tests_is_one() -> None:
    assert isinstance(INSTRUMENT, FuturesInstrument)


# --- what became of an unknown order


def unknown(doubt: Doubt = Doubt.NO_ANSWER) -> Unknown:
    return Unknown(reason="reset", doubt=doubt, client_id="bot1", fence_ms=1)


async def test_an_unknown_order_that_is_found_is_accepted() -> None:
    async with opened(says_no(11008), says_no(503), good(order_row(clOrdId="bot1", state="FILLED"))) as (client, peer):
        result = await client.resolve_order(PERP, unknown())
    assert isinstance(result, Accepted)
    assert result.value.state == "FILLED"
    assert path_of(peer) == f"/v3/trade/order/details?symbol={PERP}&clOrdId=bot1"


async def test_an_unknown_order_is_absent_after_two_questions_and_all_lists() -> None:
    async with opened(says_no(11008), says_no(11008), says_no(11008), good([])) as (client, peer):
        result = await client.resolve_order(PERP, unknown())
    assert isinstance(result, Refused)
    assert result.kind is RefusalKind.NEVER_ACCEPTED
    paths = [target(head)[1].partition("?")[0] for head in peer.requests]
    assert paths[-3:] == ["/v3/trade/order/opens", "/v3/trade/order/history", "/v3/trade/order/trades"]
    assert paths.count("/v3/trade/order/details") >= 2


async def test_an_order_that_a_list_knows_is_not_absent() -> None:
    listed = good([order_row(clOrdId="bot1")])
    script = (says_no(11008), says_no(11008), says_no(11008), listed)
    async with opened(*script) as (client, _):
        assert isinstance(await client.resolve_order(PERP, unknown()), Accepted)


async def test_an_order_whose_id_is_taken_is_never_declared_absent() -> None:
    async with opened(says_no(11008)) as (client, peer):
        with trio.move_on_after(2.5) as scope:
            await client.resolve_order(PERP, unknown(Doubt.EXISTS))
    assert scope.cancelled_caught
    assert {target(head)[1].partition("?")[0] for head in peer.requests} == {"/v3/trade/order/details"}
