from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from bot.core.instrument import ATOMS, Instrument
from bot.errors import BadReply, ConnectionLost, ExchangeError, RateLimited
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.transport import Backoff, Http, open_http
from tests.support.http_peer import Step, answers, free_port, is_silent, open_http_peer, resets, says

TIME = answers(b'{"serverTime":1700000000123}')
MINUTE_NS = 60 * 10**9
BTC = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=2,
    quantity_scale=6,
    qty_lots_min=1,
    notional_atoms_min=ATOMS,
)


def http_at(url: str, request_timeout_s: float = 1.0) -> AbstractAsyncContextManager[Http]:
    return open_http(url, connect_timeout_s=2, request_timeout_s=request_timeout_s, user_agent="test")


def client_of(http: Http, tries: int = 5) -> PublicClient:
    return PublicClient(http, tries=tries, backoff=Backoff(0.001, 0.01, lambda: 0.5))


def candle(start_ms: int) -> str:
    return (
        f'["9","12","10","11","33","3","11","1",4,{start_ms + 60_500},"11","MINUTE_1",{start_ms},{start_ms + 59_999}]'
    )


async def test_the_exchanges_time_is_read() -> None:
    async with open_http_peer(TIME) as peer, http_at(peer.url) as http:
        assert await client_of(http).server_time_ns() == 1_700_000_000_123_000_000
    assert peer.requests[0].startswith(b"GET /timestamp HTTP/1.1")


async def test_markets_come_by_their_symbols() -> None:
    market = (
        b'[{"symbol":"BTC_USDT","baseCurrencyName":"BTC","quoteCurrencyName":"USDT","state":"NORMAL","symbolTradeLimit":'
        b'{"priceScale":2,"quantityScale":6,"amountScale":2,"minQuantity":"0.000001","minAmount":"1"}}]'
    )
    async with open_http_peer(answers(market)) as peer, http_at(peer.url) as http:
        assert await client_of(http).instruments() == {"BTC_USDT": BTC}


async def test_candles_are_asked_for_by_range_and_cut_to_it() -> None:
    first_ms = 1_700_000_040_000
    rows = ",".join(candle(first_ms + 60_000 * number) for number in range(4))
    async with open_http_peer(answers(f"[{rows}]".encode())) as peer, http_at(peer.url) as http:
        start_ns = (first_ms + 60_000) * 10**6
        candles = await client_of(http).candles(BTC, MINUTE_NS, start_ns, start_ns + 2 * MINUTE_NS, 100)
    assert [each.start_ns for each in candles] == [start_ns, start_ns + MINUTE_NS]
    assert peer.requests[0].split(b" ")[1] == (
        b"/markets/BTC_USDT/candles?interval=MINUTE_1&limit=100&startTime=1700000100000&endTime=1700000220000"
    )


@pytest.mark.parametrize(
    "fault",
    [
        answers(status=500),
        answers(b"<html>", status=502),
        answers(status=408),
        answers(status=429),
        answers(status=429, headers="Retry-After: 0\r\n"),
        resets,
        is_silent,
        says(b"garbage\r\n\r\n"),
    ],
    ids=["500", "502", "408", "429", "429 at once", "reset", "silence", "garbage"],
)
async def test_a_passing_fault_is_tried_again(fault: Step) -> None:
    async with open_http_peer(fault, fault, TIME) as peer, http_at(peer.url) as http:
        assert await client_of(http).server_time_ns() == 1_700_000_000_123_000_000
    assert len(peer.requests) == 3


async def test_a_storm_of_500_ends_after_the_given_tries() -> None:
    storm = answers(b'{"code":500,"message":"internal"}', status=500)
    async with open_http_peer(storm) as peer, http_at(peer.url) as http:
        with pytest.raises(ExchangeError, match="GET /timestamp: status 500, code 500: internal"):
            await client_of(http, tries=4).server_time_ns()
    assert len(peer.requests) == 4


async def test_the_last_error_goes_up() -> None:
    limited = answers(b'{"code":429,"message":"slow down"}', status=429, headers="Retry-After: 0\r\n")
    async with open_http_peer(answers(status=500), limited) as peer, http_at(peer.url) as http:
        with pytest.raises(RateLimited, match="slow down") as error:
            await client_of(http, tries=2).server_time_ns()
    assert error.value.retry_after_s == 0.0


async def test_a_connection_that_stays_lost_goes_up() -> None:
    async with http_at(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(ConnectionLost):
            await client_of(http, tries=3).server_time_ns()


async def test_the_wait_that_the_exchange_asks_for_is_kept() -> None:
    async with (
        open_http_peer(answers(status=429, headers="Retry-After: 1\r\n"), TIME) as peer,
        http_at(peer.url) as http,
    ):
        started_s = trio.current_time()
        await client_of(http).server_time_ns()
    assert trio.current_time() - started_s >= 1.0


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
async def test_a_refusal_is_not_tried_again(status: int) -> None:
    refusal = answers(b'{"code":24101,"message":"Invalid symbol"}', status=status)
    async with open_http_peer(refusal) as peer, http_at(peer.url) as http:
        with pytest.raises(ExchangeError, match=f"status {status}, code 24101: Invalid symbol"):
            await client_of(http).server_time_ns()
    assert len(peer.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>maintenance</html>", b'{"code":1}'])
async def test_a_good_status_with_a_bad_body_is_a_bad_reply(body: bytes) -> None:
    async with open_http_peer(answers(body)) as peer, http_at(peer.url) as http:
        with pytest.raises(BadReply):
            await client_of(http).server_time_ns()
    assert len(peer.requests) == 1


async def test_a_cancelled_read_stops_trying() -> None:
    async with open_http_peer(is_silent) as peer, http_at(peer.url, request_timeout_s=0.2) as http:
        with trio.move_on_after(0.05) as scope:
            await client_of(http).server_time_ns()
        assert scope.cancelled_caught
        await trio.sleep(0.4)
    assert len(peer.requests) == 1
