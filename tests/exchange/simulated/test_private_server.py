"""The private half over real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container
from contextlib import asynccontextmanager
from itertools import islice
from time import time_ns
from typing import Any

import httpx
import msgspec
import trio
from trio_websocket import WebSocketConnection

from bot.core.secret import Secret
from bot.exchange.poloniex.signing import Credentials, sign, websocket_signature
from bot.exchange.simulated import server
from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.ports import SessionPort, WingParts
from bot.exchange.simulated.quiet import QuietMarket
from bot.exchange.simulated.replies import Reply, Request
from bot.exchange.simulated.server import ExchangeTerms, SimulatedExchange, open_exchange
from bot.exchange.simulated.session import Session
from bot.exchange.simulated.spot_desk import SpotTerms
from bot.exchange.simulated.venue import Publication, Venue
from tests.exchange.simulated.builders import BTC, START_NS, Json, ListedMarket, instrument, parsed, snapshot, trade
from tests.exchange.simulated.test_server import connected

NO_LIMITS = ExchangeTerms(has_limits=False)
LATER_S = 3_600.0


def silent_market() -> ListedMarket:
    """Return a market in which nothing happens for an hour."""
    return ListedMarket([snapshot(bids=[(100, 50_000)], asks=[(102, 50_000)]), trade(at_s=LATER_S)])


class Client:
    """One account over HTTP."""

    def __init__(self, http: httpx.AsyncClient, account: Account) -> None:
        self.account = account
        self.credentials = Credentials(Secret(account.key), Secret(account.secret))
        self._http = http

    async def ask(self, method: str, path: str, query: str = "", body: Any = None) -> httpx.Response:
        sent = b"" if body is None else msgspec.json.encode(body)
        headers = sign(self.credentials, method, path, query, sent, time_ns() // 10**6)
        url = f"{path}?{query}" if query else path
        return await self._http.request(method, url, content=sent, headers=headers)

    async def limit(self, side: str, price: str, quantity: str) -> str:
        body = {"symbol": BTC, "side": side, "type": "LIMIT", "price": price, "quantity": quantity}
        response = await self.ask("POST", "/orders", body=body)
        assert response.status_code == 200, response.text
        return response.json()["id"]

    async def state(self, order_id: str) -> str:
        return (await self.ask("GET", f"/orders/{order_id}")).json()["state"]


@asynccontextmanager
async def two_clients(
    speed: float | None, terms: ExchangeTerms = NO_LIMITS
) -> AsyncGenerator[tuple[SimulatedExchange, Client, Client]]:
    async with (
        open_exchange(silent_market(), speed=speed, terms=terms) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as http,
    ):
        ann, bob = (Client(http, account) for account in exchange.clients)
        yield exchange, ann, bob


async def listen(socket: WebSocketConnection, client: Client, time_ms: int) -> None:
    signature = websocket_signature(client.credentials.secret, time_ms)
    params = {"key": client.account.key, "signTimestamp": time_ms, "signature": signature}
    await say(socket, {"event": "subscribe", "channel": ["auth"], "params": params})
    # Without waiting, as the Python SDK does.
    await say(socket, {"event": "subscribe", "channel": ["orders"], "symbols": ["all"]})
    assert parsed(await socket.get_message())["data"]["success"]
    assert parsed(await socket.get_message())["event"] == "subscribe"


async def say(socket: WebSocketConnection, frame: Json) -> None:
    await socket.send_message(msgspec.json.encode(frame).decode())


async def heard(socket: WebSocketConnection) -> Json:
    with trio.fail_after(5):
        return parsed(await socket.get_message())["data"][0]


async def test_two_clients_trade_with_each_other_and_hear_of_it() -> None:
    async with two_clients(None) as (exchange, ann, bob), connected(exchange.private_ws_url) as socket:
        await listen(socket, ann, exchange.venue.time_ms)
        order_id = await ann.limit("BUY", "1.01", "1")
        await bob.limit("SELL", "1.01", "1")
        rows = [await heard(socket) for _ in range(2)]
        assert [(row["eventType"], row["orderId"]) for row in rows] == [("place", order_id), ("trade", order_id)]
        assert (await ann.state(order_id)) == "FILLED"
        book = (await ann.ask("GET", f"/markets/{BTC}/orderBook")).json()
        assert book["bids"] == ["1", "5"]


async def test_an_answer_over_the_socket_comes_after_the_news_of_it() -> None:
    async with two_clients(None) as (exchange, ann, _), connected(exchange.private_ws_url) as socket:
        await listen(socket, ann, exchange.venue.time_ms)
        params = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": "1", "quantity": "1"}
        await say(socket, {"id": "7", "event": "createOrder", "params": params})
        row = await heard(socket)
        assert row["eventType"] == "place"
        answer = parsed(await socket.get_message())
        assert (answer["id"], answer["data"][0]["orderId"]) == ("7", row["orderId"])


async def test_a_cancel_ends_in_a_silent_market_by_the_clock_alone() -> None:
    terms = ExchangeTerms(spot=SpotTerms(cancel_delay_ns=200_000_000), has_limits=False)
    async with two_clients(1.0, terms) as (exchange, ann, _), connected(exchange.private_ws_url) as socket:
        await listen(socket, ann, exchange.venue.time_ms)
        exchange.start()
        await trio.sleep(0.01)
        order_id = await ann.limit("BUY", "1", "1")
        assert (await heard(socket))["eventType"] == "place"
        began_s = trio.current_time()
        assert (await ann.ask("DELETE", f"/orders/{order_id}")).json()["state"] == "PENDING_CANCEL"
        assert (await ann.state(order_id)) == "PENDING_CANCEL"
        row = await heard(socket)
        assert 0.15 < trio.current_time() - began_s < 2.0
        assert (row["eventType"], row["state"]) == ("canceled", "CANCELED")


async def test_a_cancel_is_done_at_once_where_time_stands_still() -> None:
    async with two_clients(None) as (_, ann, _bob):
        order_id = await ann.limit("BUY", "1", "1")
        assert (await ann.ask("DELETE", f"/orders/{order_id}")).json()["state"] == "PENDING_CANCEL"
        assert (await ann.state(order_id)) == "CANCELED"


async def test_the_kill_switch_runs_on_the_exchanges_clock() -> None:
    async with two_clients(100.0) as (exchange, ann, _):
        exchange.start()
        await trio.sleep(0.01)
        order_id = await ann.limit("BUY", "1", "1")
        await ann.ask("POST", "/orders/killSwitch", body={"timeout": "10"})
        assert (await ann.state(order_id)) == "NEW"
        await trio.sleep(0.2)
        assert (await ann.state(order_id)) == "CANCELED"


async def test_a_client_may_sign_by_the_real_time_where_the_market_is_of_another_day() -> None:
    async with two_clients(None) as (exchange, ann, _), httpx.AsyncClient(base_url=exchange.rest_url) as http:
        headers = sign(ann.credentials, "GET", "/accounts", "", b"", time_ns() // 10**6)
        assert (await http.get("/accounts", headers=headers)).status_code == 200
    terms = ExchangeTerms(takes_wall_clock=False)
    async with two_clients(None, terms) as (exchange, ann, _), httpx.AsyncClient(base_url=exchange.rest_url) as http:
        headers = sign(ann.credentials, "GET", "/accounts", "", b"", time_ns() // 10**6)
        assert (await http.get("/accounts", headers=headers)).status_code == 400


async def test_more_than_the_limit_is_answered_with_429() -> None:
    async with two_clients(None, ExchangeTerms()) as (_, ann, _bob):
        statuses = [(await ann.ask("GET", "/orders")).status_code for _ in range(25)]
        assert statuses[:10] == [200] * 10
        assert 429 in statuses


async def test_a_body_that_is_too_long_is_refused() -> None:
    async with two_clients(None) as (_, ann, _bob):
        response = await ann.ask("POST", "/orders", body="x" * server.BODY_BYTES_MAX)
        assert (response.status_code, response.json()["code"]) == (400, 601)


async def test_ids_in_a_path_may_be_encoded_or_not() -> None:
    async with two_clients(None) as (_, ann, _bob):
        body = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": "1", "quantity": "1", "clientOrderId": "one"}
        await ann.ask("POST", "/orders", body=body)
        for name in ("cid:one", "cid%3Aone"):
            assert (await ann.ask("GET", f"/orders/{name}")).json()["clientOrderId"] == "one"


async def test_accounts_can_be_brought_along() -> None:
    opened = server.demo_accounts(5, count=3)
    async with open_exchange(silent_market(), speed=None, accounts=opened) as exchange:
        assert [account.key for account in exchange.clients] == [each.key for each in opened]


class NotingWing:
    """A futures wing that notes what comes to it."""

    def __init__(self, parts: WingParts) -> None:
        self.parts = parts
        self.symbols: Container[str] = {each.symbol for each in parts.instruments if each.symbol.endswith("_PERP")}
        self.events: list[MarketEvent] = []
        self.due_ns: int | None = None
        self.said: list[Publication] = []
        self.venue = Venue([instrument()], START_NS)

    def apply(self, event: MarketEvent) -> None:
        self.events.append(event)

    def advance(self, now_ns: int) -> None:
        pass

    def answer(self, request: Request) -> Reply:
        self.said = [Publication("trades", BTC, b'{"said":1}')]
        return Reply(200, b'{"code":200}')

    def session(self, *, is_private: bool) -> SessionPort:
        return Session(self.venue)

    def take(self) -> list[Publication]:
        said, self.said = self.said, []
        return said


async def test_a_futures_wing_has_its_own_paths_and_markets() -> None:
    wings: list[NotingWing] = []

    def futures(parts: WingParts) -> NotingWing:
        wings.append(NotingWing(parts))
        return wings[0]

    perp = "BTC_USDT_PERP"
    source = ListedMarket([snapshot(), snapshot(symbol=perp), trade(symbol=perp)], BTC, perp)
    async with (
        open_exchange(source, speed=None, futures=futures) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as http,
        connected(exchange.ws_url.replace("/ws/", "/ws/v3/")) as socket,
    ):
        (wing,) = wings
        assert list(exchange.venue.markets) == [BTC]
        await say(socket, {"event": "subscribe", "channel": ["trades"], "symbols": [BTC]})
        await socket.get_message()
        assert (await http.get("/v3/market/tickers")).json() == {"code": 200}
        assert parsed(await socket.get_message()) == {"said": 1}
        exchange.start()
        await exchange.ended.wait()
    assert [event.symbol for event in wing.events] == [perp, perp]


async def test_a_market_can_be_the_clients_alone() -> None:
    source = QuietMarket([instrument()], START_NS)
    async with (
        open_exchange(source, speed=1.0, terms=NO_LIMITS) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as http,
        connected(exchange.ws_url) as socket,
    ):
        exchange.start()
        ann, bob = (Client(http, account) for account in exchange.clients)
        await say(socket, {"event": "subscribe", "channel": ["book_lv2", "trades"], "symbols": [BTC]})
        frames = [parsed(await socket.get_message()) for _ in range(3)]
        assert frames[2]["action"] == "snapshot"
        await ann.limit("BUY", "1.01", "2")
        assert (await heard(socket))["bids"] == [["1.01", "2"]]
        sold = await bob.limit("SELL", "1", "1")
        assert (await heard(socket))["price"] == "1.01"
        assert (await heard(socket))["bids"] == [["1.01", "1"]]
        assert (await bob.state(sold)) == "FILLED"
        assert set(exchange.accounts.totals().values()) == {0}


def test_a_quiet_market_has_a_time_and_nothing_else() -> None:
    made = Venue([instrument(), instrument("ETH_USDT")], START_NS)
    events = QuietMarket([instrument(), instrument("ETH_USDT")], START_NS).events()
    topics = {("book_lv2", BTC), ("book_5", BTC)}
    for event in islice(events, 2):
        made.apply(event, ())
    assert [frame for event in islice(events, 10) for frame in made.apply(event, topics)] == []
    assert made.time_ns == START_NS + 5_000_000_000
    assert (made.markets[BTC].book.is_known, made.markets[BTC].mark_ticks) == (True, 0)
