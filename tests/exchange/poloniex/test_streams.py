from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import trio
import trio_websocket

from bot.core.instrument import Side
from bot.core.orders import OrderState
from bot.core.secret import Secret
from bot.errors import BadReply, OrderRefusedHere
from bot.exchange.poloniex import private_state as ps
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex import streams
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.limits import RateLimits
from bot.exchange.poloniex.outcome import Accepted, Doubt, Market, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import Credentials, is_websocket_signed
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_codec import decode_markets
from bot.exchange.poloniex.streams import (
    AuthRefused,
    FuturesAccount,
    PrivateStream,
    SpotAccount,
    SpotStream,
    StreamSettings,
    all_fills,
)
from bot.exchange.transport import Backoff, open_http
from tests.exchange.poloniex.futures_samples import (
    AUTH_OK,
    AUTH_REFUSED,
    MS,
    PERP,
    Row,
    account_row,
    balance_row,
    encoded,
    envelope,
    fill_row,
    frame,
    futures_fill_row,
    order_row,
    position_row,
    spot_fill_row,
    spot_order_row,
    talk,
)
from tests.support.http_peer import Step, answers, open_http_peer

SECRET = Secret("s3cr3t-of-ours")
CREDENTIALS = Credentials(Secret("our-key"), SECRET)
NOW = MS + 60_000
"""What time the exchange says it is."""
GONE = (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError, OSError)


# --- a scripted exchange


@dataclass
class Rest:
    """What REST answers, by path; a path may wait for an event first."""

    data: dict[str, Any]
    waits: dict[str, trio.Event] = field(default_factory=dict[str, trio.Event])
    asked: list[str] = field(default_factory=list[str])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    """By path, how many more questions are answered with status 500."""

    def step(self, heads: Callable[[], list[bytes]]) -> Step:
        async def answer(stream: trio.SocketStream) -> None:
            whole = heads()[-1].split(b" ")[1].decode()
            path = whole.partition("?")[0]
            self.asked.append(whole)
            if path in self.waits:
                await self.waits[path].wait()
            if self.failures.get(path, 0) > 0:
                self.failures[path] -= 1
                await answers(b"{}", 500)(stream)
                return
            data = self.data.get(path)
            if data is None:
                await answers(encoded({"code": 21301, "message": "Order not found"}), 404)(stream)
            else:
                await answers(envelope(data) if path.startswith("/v3") else encoded(data))(stream)

        return answer


def spot_rest(**changes: Any) -> Rest:
    balance: Row = {"currencyId": "1", "currency": "USDT", "available": "100", "hold": "0"}
    accounts = [{"accountId": "1234", "accountType": "SPOT", "balances": [balance]}]
    return Rest({"/orders": [], "/trades": [], "/accounts/balances": accounts} | changes)


def futures_rest(**changes: Any) -> Rest:
    data: dict[str, Any] = {
        "/v3/trade/order/opens": [],
        "/v3/trade/order/trades": [],
        "/v3/trade/position/opens": [],
        "/v3/account/balance": account_row(),
    }
    return Rest(data | changes)


class Peer:
    """One connection of the scripted exchange."""

    def __init__(
        self, socket: trio_websocket.WebSocketConnection, heard: list[Row], is_fresh: Callable[[], bool]
    ) -> None:
        self.socket = socket
        self.heard = heard
        self.is_fresh = is_fresh

    async def until_fresh(self) -> None:
        """Wait until the stream has caught up."""
        while not self.is_fresh():
            await trio.sleep(0.005)

    async def next(self, event: str | None = None) -> Row:
        """Return the next request, or the next of one kind; answer pings meanwhile."""
        while True:
            request: Row = json.loads(await self.socket.get_message())
            self.heard.append(request)
            if request["event"] == "ping":
                await self.say(talk("pong"))
            elif event is None or request["event"] == event:
                return request

    async def say(self, *frames: bytes) -> None:
        for each in frames:
            await self.socket.send_message(each.decode())

    async def welcome(self, channels: int) -> None:
        """Accept the key and acknowledge so many subscriptions."""
        params: Any = (await self.next())["params"]
        assert is_websocket_signed(SECRET, str(params["signTimestamp"]), params["signature"])
        assert params["key"] == "our-key"
        await self.say(AUTH_OK)
        for _ in range(channels):
            request = await self.next("subscribe")
            channel: Any = request["channel"]
            await self.say(talk("subscribe", channel=channel[0], symbols=["ALL"]))

    async def listen(self) -> None:
        """Answer pings, for ever."""
        while True:
            await self.next()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Bench:
    """A stream and the exchange that it talks to."""

    stream: PrivateStream
    events: trio.MemoryReceiveChannel[ps.Event]
    heard: list[Row]
    rest: Rest
    peers: list[Peer]

    async def until(self, kind: type[ps.Event]) -> list[ps.Event]:
        """Return all events up to the first one of `kind`."""
        told: list[ps.Event] = []
        with trio.fail_after(5):
            while not told or not isinstance(told[-1], kind):
                told.append(await self.events.receive())
        return told


QUICK = StreamSettings(
    backoff_min_s=0.01, backoff_max_s=0.02, ping_interval_s=0.1, grace_s=0.05, silence_s={}, connect_timeout_s=2
)


@asynccontextmanager
async def opened(
    *scripts: Script,
    rest: Rest,
    settings: StreamSettings = QUICK,
    is_running: bool = True,
) -> AsyncGenerator[Bench]:
    """Serve connection number n by script n, the last one for all later; run a stream of the market of `rest`."""
    heard: list[Row] = []
    peers: list[Peer] = []
    send, receive = trio.open_memory_channel[ps.Event](1000)

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        peer = Peer(await request.accept(), heard, lambda: stream.is_fresh)
        peers.append(peer)
        with suppress(*GONE):
            await scripts[min(len(peers), len(scripts)) - 1](peer)
            await peer.listen()

    async def now_ms() -> int:
        return NOW

    is_futures = "/v3/account/balance" in rest.data
    heads: list[list[bytes]] = []
    async with (
        open_http_peer(rest.step(lambda: heads[0])) as http_peer,
        open_http(http_peer.url, connect_timeout_s=1, request_timeout_s=1, user_agent="test") as http,
        trio.open_nursery() as nursery,
    ):
        heads.append(http_peer.requests)
        # The exchange's clock stands years behind ours; only the stream's arithmetic is of interest here.
        clock = ServerClock(now_ms, offset_ms_max=1e15)
        limits = RateLimits()
        options: Any = {
            "credentials": CREDENTIALS,
            "limits": limits,
            "clock": clock,
            "tries": 2,
            "backoff": Backoff(0.001, 0.002, lambda: 0.5),
        }
        server = await nursery.start(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None)
        url = f"ws://127.0.0.1:{server.port}/ws/private"
        stream: PrivateStream
        if is_futures:
            account = FuturesAccount(FuturesClient(http, **options))
            stream = PrivateStream(account, url, CREDENTIALS, send.send_nowait, settings=settings)
        else:
            spot = SpotAccount(SpotClient(http, **options))
            stream = SpotStream(spot, url, CREDENTIALS, send.send_nowait, limits=limits, settings=settings)
        if is_running:
            nursery.start_soon(stream.run)
        yield Bench(stream, receive, heard, rest, peers)
        nursery.cancel_scope.cancel()


async def spot_welcome(peer: Peer) -> None:
    await peer.welcome(2)


async def futures_welcome(peer: Peer) -> None:
    await peer.welcome(4)


def rest_order(**changes: object) -> Row:
    return {
        "id": "32471407854219264",
        "clientOrderId": "bot1",
        "symbol": "BTC_USDT",
        "state": "NEW",
        "accountType": "SPOT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "47112.1",
        "avgPrice": "0",
        "amount": "0",
        "filledQuantity": "0",
        "filledAmount": "0",
        "createTime": MS,
        "updateTime": MS,
    } | changes


def rest_fill(**changes: object) -> Row:
    return {
        "id": "60014521",
        "symbol": "BTC_USDT",
        "accountType": "SPOT",
        "orderId": "32471407854219264",
        "side": "BUY",
        "type": "LIMIT",
        "matchRole": "MAKER",
        "createTime": MS + 4,
        "price": "47112.1",
        "quantity": "0.5",
        "amount": "23556.05",
        "feeCurrency": "BTC",
        "feeAmount": "0.00075",
        "pageId": "1",
        "clientOrderId": "bot1",
    } | changes


def fills(told: list[ps.Event]) -> list[str]:
    return [event.trade_id for event in told if isinstance(event, ps.Filled)]


def states(told: list[ps.Event]) -> list[str]:
    return [event.state for event in told if isinstance(event, ps.OrderChanged)]


# --- authentication


async def test_a_refused_key_is_an_error_that_names_why_and_nothing_of_the_key() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.next()
        await peer.say(AUTH_REFUSED)

    async with opened(refuse, rest=spot_rest(), is_running=False) as bench:
        with pytest.raises(AuthRefused, match="Authentication failed!") as refused:
            await bench.stream.run()
    assert "our-key" not in str(refused.value)
    assert "s3cr3t" not in repr(refused.value)


async def test_a_key_that_was_good_before_is_tried_again() -> None:
    async def drop(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.until_fresh()
        await peer.socket.aclose()

    async def refuse(peer: Peer) -> None:
        await peer.next()
        await peer.say(AUTH_REFUSED)

    async with opened(drop, refuse, spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        assert "closed" in str(await bench.until(ps.Stale))
        assert "does not accept our key" in str(await bench.until(ps.Stale))
        await bench.until(ps.Fresh)
    assert len(bench.peers) == 3


async def test_nothing_is_subscribed_before_the_verdict() -> None:
    async def slow(peer: Peer) -> None:
        await peer.next()
        with trio.move_on_after(0.1):
            await peer.next()
            raise AssertionError("spoke before the verdict")
        await peer.say(AUTH_OK)

    async with opened(slow, rest=spot_rest()) as bench:
        with trio.fail_after(2):
            while len(bench.heard) < 3:
                await trio.sleep(0.01)
    asked = [request["channel"] for request in bench.heard if request["event"] == "subscribe"]
    assert asked == [["auth"], ["orders"], ["balances"]]


async def test_a_refused_subscription_is_tried_again() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.next()
        await peer.say(AUTH_OK, talk("error", message="Platform in maintenance mode"))

    async with opened(refuse, spot_welcome, rest=spot_rest()) as bench:
        assert "maintenance" in str(await bench.until(ps.Stale))
        await bench.until(ps.Fresh)


# --- catching up


async def test_rest_is_told_before_the_state_is_fresh() -> None:
    rest = spot_rest(
        **{"/orders": [rest_order(state="PARTIALLY_FILLED", filledQuantity="0.5")], "/trades": [rest_fill()]}
    )
    async with opened(spot_welcome, rest=rest) as bench:
        assert not bench.stream.is_fresh
        told = await bench.until(ps.Fresh)
        assert bench.stream.is_fresh
    assert [type(event).__name__ for event in told] == ["Filled", "OrderChanged", "BalanceChanged", "Fresh"]
    assert isinstance(told[-1], ps.Fresh)
    assert told[-1].living == {"32471407854219264"}


async def test_fills_are_asked_for_since_the_oldest_living_order() -> None:
    created = NOW - 9 * 86_400_000
    rest = spot_rest(**{"/orders": [rest_order(createTime=created, updateTime=created)]})
    async with opened(spot_welcome, rest=rest) as bench:
        await bench.until(ps.Fresh)
    ranges = [
        dict(pair.split("=") for pair in whole.partition("?")[2].split("&"))
        for whole in rest.asked
        if "/trades" in whole
    ]
    assert int(ranges[0]["startTime"]) == created - streams.OVERLAP_MS
    assert int(ranges[1]["startTime"]) == int(ranges[0]["endTime"]) + 1
    assert all(int(each["endTime"]) - int(each["startTime"]) <= streams.WINDOW_MS for each in ranges)
    assert int(ranges[-1]["endTime"]) >= NOW


async def test_what_comes_during_the_catch_up_is_told_after_it_and_once() -> None:
    rest = spot_rest(
        **{"/orders": [rest_order(state="PARTIALLY_FILLED", filledQuantity="0.5")], "/trades": [rest_fill()]}
    )
    rest.waits["/accounts/balances"] = trio.Event()
    second = spot_fill_row(
        tradeId="60014522", filledQuantity="1", filledAmount="47112.1", state="FILLED", ts=MS + 9, tradeTime=MS + 9
    )

    async def talkative(peer: Peer) -> None:
        await peer.welcome(2)
        while "/accounts/balances?accountType=SPOT" not in rest.asked:
            await trio.sleep(0.005)
        await peer.say(frame("orders", spot_order_row()), frame("orders", spot_fill_row()), frame("orders", second))
        await trio.sleep(0.1)
        rest.waits["/accounts/balances"].set()

    async with opened(talkative, rest=rest) as bench:
        told = await bench.until(ps.Fresh)
    assert fills(told) == ["60014521", "60014522"]
    assert states(told) == ["PARTIALLY_FILLED", "FILLED"]
    assert isinstance(told[-1], ps.Fresh)
    assert told[-1].living == frozenset()


async def test_a_connection_dropped_during_the_catch_up_is_caught_up_again() -> None:
    rest = spot_rest(**{"/trades": [rest_fill()]})
    rest.waits["/orders"] = trio.Event()

    async def drop(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.say(frame("orders", spot_fill_row()))
        await trio.sleep(0.05)
        await peer.socket.aclose()
        rest.waits["/orders"].set()

    async with opened(drop, spot_welcome, rest=rest) as bench:
        lost = await bench.until(ps.Stale)
        told = await bench.until(ps.Fresh)
    assert fills(lost) == []  # what was kept back is not told unsorted; REST knows it
    assert fills(told) == ["60014521"]
    assert len(bench.peers) == 2


async def test_what_happened_while_away_is_told_once() -> None:
    async def drop(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.say(frame("orders", spot_order_row()), frame("orders", spot_fill_row()))
        await peer.until_fresh()
        await peer.socket.aclose()

    rest = spot_rest()
    async with opened(drop, spot_welcome, rest=rest) as bench:
        told = await bench.until(ps.Stale)
        assert fills(told) == ["60014521"]
        gone = rest_order(state="FILLED", filledQuantity="1", filledAmount="47112.1", updateTime=MS + 50)
        rest.data["/orders/32471407854219264"] = gone
        rest.data["/trades"] = [rest_fill(id="60014522", createTime=MS + 50), rest_fill()]
        told = await bench.until(ps.Fresh)
    assert fills(told) == ["60014522"]
    assert states(told) == ["FILLED"]


async def test_rest_that_fails_is_tried_again_with_a_new_connection() -> None:
    rest = spot_rest()
    rest.failures["/trades"] = 3
    async with opened(spot_welcome, rest=rest) as bench:
        assert "cannot ask by REST" in str(await bench.until(ps.Stale))
        await bench.until(ps.Fresh)
    assert len(bench.peers) == 2


async def test_older_rest_news_never_lowers_newer_from_the_socket() -> None:
    rest = spot_rest(**{"/orders": [rest_order()]})
    rest.waits["/trades"] = trio.Event()
    filled = spot_fill_row(filledQuantity="1", filledAmount="47112.1", state="FILLED", tradeQty="1")

    async def talkative(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.say(frame("orders", filled))
        await trio.sleep(0.05)
        rest.waits["/trades"].set()

    async with opened(talkative, rest=rest) as bench:
        told = await bench.until(ps.Fresh)
    assert states(told) == ["NEW", "FILLED"]
    assert isinstance(told[-1], ps.Fresh)
    assert told[-1].living == frozenset()


# --- live


async def test_an_event_before_the_answer_to_its_order_carries_the_client_id() -> None:
    async def eager(peer: Peer) -> None:
        await peer.welcome(2)
        request = await peer.next("createOrder")
        await peer.say(frame("orders", spot_order_row()), frame("orders", spot_fill_row()))
        await trio.sleep(0.05)
        row = {"orderId": "32471407854219264", "clientOrderId": "bot1", "message": "", "code": 200}
        await peer.say(encoded({"id": request["id"], "data": [row]}))

    async with opened(eager, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        outcome = await create(bench)
        told = await bench.until(ps.OrderChanged)
    assert isinstance(told[-1], ps.OrderChanged)
    assert (told[-1].client_id, told[-1].order_id) == ("bot1", outcome.value.id)


async def test_a_fill_that_comes_twice_is_told_once() -> None:
    twice = frame("orders", spot_fill_row(), spot_fill_row())
    with_ourselves = spot_fill_row(orderId="99", clientOrderId="bot2", side="SELL", matchRole="TAKER")

    async def stutter(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.until_fresh()
        await peer.say(
            twice, twice, frame("orders", with_ourselves), frame("balances", balance_row(changeTime=NOW + 10))
        )

    async with opened(stutter, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        told = await bench.until(ps.BalanceChanged)
    assert [(event.order_id, event.trade_id) for event in told if isinstance(event, ps.Filled)] == [
        ("32471407854219264", "60014521"),
        ("99", "60014521"),  # the other side of a trade with ourselves has the same trade id
    ]


async def test_an_unreadable_frame_ends_the_session_and_is_caught_up() -> None:
    async def garble(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.until_fresh()
        await peer.say(frame("orders", spot_order_row(state="NOVELTY")))

    async with opened(garble, spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        await bench.until(ps.Stale)
        await bench.until(ps.Fresh)


async def test_pings_are_json_and_keep_coming() -> None:
    async with opened(spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        await trio.sleep(0.35)
    assert bench.heard.count({"event": "ping"}) >= 2


async def test_a_connection_without_any_frame_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FRAME_SILENCE_S", 0.2)

    async def mute(peer: Peer) -> None:
        await peer.welcome(2)
        while True:
            await peer.socket.get_message()

    async with opened(mute, spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        assert "not even a pong" in str(await bench.until(ps.Stale))


# --- silence


def watchful(monkeypatch: pytest.MonkeyPatch) -> StreamSettings:
    monkeypatch.setattr(streams, "WATCH_EVERY_S", 0.05)
    return StreamSettings(
        backoff_min_s=0.01, backoff_max_s=0.02, grace_s=0.05, silence_s={"orders": 0.1}, connect_timeout_s=2
    )


async def test_a_silent_topic_that_rest_agrees_with_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = spot_rest(**{"/orders": [rest_order()]})
    async with opened(spot_welcome, rest=rest, settings=watchful(monkeypatch)) as bench:
        await bench.until(ps.Fresh)
        await trio.sleep(0.5)
        assert bench.stream.is_fresh
    assert sum("/trades" in whole for whole in rest.asked) >= 3
    assert len(bench.peers) == 1


async def test_a_topic_that_kept_something_back_is_told_by_rest_and_connected_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = spot_rest(**{"/orders": [rest_order()]})
    async with opened(spot_welcome, rest=rest, settings=watchful(monkeypatch)) as bench:
        await bench.until(ps.Fresh)
        rest.data["/orders"] = [rest_order(state="PARTIALLY_FILLED", filledQuantity="0.5")]
        rest.data["/trades"] = [rest_fill()]
        told = await bench.until(ps.Stale)
        assert fills(told) == ["60014521"]
        assert "orders: 2 events were not said" in str(told[-1])
        assert fills(await bench.until(ps.Fresh)) == []


async def test_rest_that_cannot_check_a_silence_ends_no_good_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = spot_rest()
    async with opened(spot_welcome, rest=rest, settings=watchful(monkeypatch)) as bench:
        await bench.until(ps.Fresh)
        rest.failures["/orders"] = 4
        with trio.fail_after(5):
            while rest.failures["/orders"]:
                await trio.sleep(0.01)
        assert bench.stream.is_fresh
    assert len(bench.peers) == 1


async def test_a_topic_that_is_only_late_is_not_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = spot_rest(**{"/orders": [rest_order()]})
    asked_before = trio.Event()

    async def late(peer: Peer) -> None:
        await peer.welcome(2)
        await asked_before.wait()
        while rest.asked.count("/orders?limit=2000") < 2:
            await trio.sleep(0.002)
        await trio.sleep(0.02)
        await peer.say(frame("orders", spot_fill_row()))

    settings = watchful(monkeypatch)
    async with opened(late, rest=rest, settings=settings) as bench:
        await bench.until(ps.Fresh)
        rest.data["/orders"] = [rest_order(state="PARTIALLY_FILLED", filledQuantity="0.5")]
        rest.data["/trades"] = [rest_fill()]
        asked_before.set()
        await trio.sleep(0.5)
        assert bench.stream.is_fresh
    assert len(bench.peers) == 1


# --- futures


async def test_futures_catch_up_and_go_on() -> None:
    rest = futures_rest(
        **{
            "/v3/trade/order/opens": [order_row(state="PARTIALLY_FILLED", execQty="3")],
            "/v3/trade/order/trades": [fill_row()],
            "/v3/trade/position/opens": [position_row()],
        }
    )

    async def busy(peer: Peer) -> None:
        await peer.welcome(4)
        await peer.until_fresh()
        later = str(NOW + 10)
        await peer.say(
            frame("trade", futures_fill_row(), futures_fill_row(trdId="105813554", fqty="7")),
            frame("orders", order_row(state="FILLED", execQty="10")),
            frame("positions", position_row(qty="10", uTime=later)),
            frame("account", account_row(eq="1001", uTime=later)),
        )

    async with opened(busy, rest=rest) as bench:
        first = await bench.until(ps.Fresh)
        second = await bench.until(ps.AccountChanged)
    assert [type(event).__name__ for event in first] == [
        "Filled",
        "OrderChanged",
        "PositionChanged",
        "AccountChanged",
        "Fresh",
    ]
    assert fills(second) == ["105813554"]
    assert states(second) == ["FILLED"]
    positions = [event.row.signed_contracts for event in second if isinstance(event, ps.PositionChanged)]
    assert positions == [10]
    asked = [request["channel"] for request in bench.heard if request["event"] == "subscribe"]
    assert asked == [["auth"], ["orders"], ["trade"], ["positions"], ["account"]]


async def test_a_position_that_rest_no_longer_lists_is_closed() -> None:
    async def drop(peer: Peer) -> None:
        await peer.welcome(4)
        await peer.until_fresh()
        await peer.socket.aclose()

    rest = futures_rest(**{"/v3/trade/position/opens": [position_row()]})
    async with opened(drop, futures_welcome, rest=rest) as bench:
        await bench.until(ps.Fresh)
        rest.data["/v3/trade/position/opens"] = []
        told = await bench.until(ps.Fresh)
    assert [event.row.contracts for event in told if isinstance(event, ps.PositionChanged)] == [0]


# --- many fills


def fill(at_ms: int, number: int = 0) -> ps.Filled:
    return ps.Filled(
        market=Market.FUTURES,
        symbol=PERP,
        order_id="1",
        client_id="",
        trade_id=f"{at_ms}-{number}",
        side=Side.BUY,
        price=Decimal(1),
        quantity=Decimal(1),
        fee=Decimal(0),
        fee_currency="USDT",
        is_maker=True,
        traded_ms=at_ms,
    )


@pytest.mark.parametrize("is_newest_first", [True, False])
async def test_all_fills_are_found_whichever_end_a_full_answer_leaves_out(*, is_newest_first: bool) -> None:
    there = [fill(at_ms, number) for at_ms in (5, 6, 7, 500, 501, 502, 503, 999) for number in range(4)]

    async def read(start_ms: int, end_ms: int) -> list[ps.Filled]:
        rows = sorted((row for row in there if start_ms <= row.traded_ms <= end_ms), key=lambda row: row.traded_ms)
        return rows[::-1][:5] if is_newest_first else rows[:5]

    assert {row.trade_id for row in await all_fills(read, 0, 1000, 5)} == {row.trade_id for row in there}


async def test_more_fills_in_a_millisecond_than_an_answer_holds_is_a_bad_reply() -> None:
    async def read(start_ms: int, end_ms: int) -> list[ps.Filled]:
        return [fill(7, number) for number in range(5)] if start_ms <= 7 <= end_ms else []

    with pytest.raises(BadReply, match="within one millisecond"):
        await all_fills(read, 0, 1000, 5)


# --- trading over the spot socket

(SPOT_MARKET,) = decode_markets(
    encoded(
        [
            {
                "symbol": "BTC_USDT",
                "baseCurrencyName": "BTC",
                "quoteCurrencyName": "USDT",
                "displayName": "BTC/USDT",
                "state": "NORMAL",
                "visibleStartTime": MS,
                "tradableStartTime": MS,
                "symbolTradeLimit": {
                    "symbol": "BTC_USDT",
                    "priceScale": 2,
                    "quantityScale": 6,
                    "amountScale": 2,
                    "minQuantity": "0.000001",
                    "minAmount": "1",
                    "highestBid": "0",
                    "lowestAsk": "0",
                },
                "crossMargin": {"supportCrossMargin": True, "maxLeverage": 3},
            }
        ]
    )
).values()


async def create(bench: Bench, price: str = "47112.1") -> Any:
    assert isinstance(bench.stream, SpotStream)
    order = sw.NewOrder(
        symbol="BTC_USDT",
        side=Side.BUY,
        type="LIMIT",
        client_id="bot1",
        price=Decimal(price),
        quantity=Decimal(1),
    )
    return await bench.stream.create_order(order, SPOT_MARKET)


def answering(*replies: Callable[[Row], bytes]) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome(2)
        for reply in replies:
            while (request := await peer.next())["event"] == "subscribe":
                pass
            await peer.say(reply(request))

    return script


def reply(*rows: Row) -> Callable[[Row], bytes]:
    return lambda request: encoded({"id": request["id"], "data": list(rows)})


TAKEN: Row = {"orderId": "5", "clientOrderId": "bot1", "message": "", "code": 200}


async def test_an_order_over_the_socket_is_what_rest_would_send() -> None:
    async with opened(answering(reply(TAKEN)), rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        outcome = await create(bench)
    assert outcome.value.id == "5"
    (request,) = [each for each in bench.heard if each["event"] == "createOrder"]
    params: Any = request["params"]
    assert (params["type"], params["price"], params["quantity"]) == ("LIMIT", "47112.1", "1")
    assert params["clientOrderId"] == "bot1"


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"orderId": 0, "clientOrderId": None, "message": "low", "code": 21721}, RefusalKind.ORDER),
        ({"orderId": 0, "clientOrderId": None, "message": "", "code": 21312}, Doubt.EXISTS),
        ({"orderId": 0, "clientOrderId": None, "message": "", "code": 500}, Doubt.AMBIGUOUS),
        ({"orderId": "5", "clientOrderId": "other", "message": "", "code": 200}, Doubt.AMBIGUOUS),
    ],
)
async def test_a_code_decides_what_became_of_an_order(row: Row, kind: RefusalKind | Doubt) -> None:
    async with opened(answering(reply(row)), rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        outcome = await create(bench)
    assert isinstance(outcome, Refused | Unknown)
    assert (outcome.kind if isinstance(outcome, Refused) else outcome.doubt) is kind


async def test_answers_find_their_requests_in_any_order() -> None:
    async def crossed(peer: Peer) -> None:
        await peer.welcome(2)
        requests = [await peer.next("createOrder"), await peer.next("cancelOrders")]
        other = encoded({"id": "999", "data": []})
        await peer.say(other, reply(TAKEN | {"orderId": "7"})(requests[1]), reply(TAKEN)(requests[0]))

    async with opened(crossed, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        stream = bench.stream
        assert isinstance(stream, SpotStream)
        found: list[Any] = []

        async def order() -> None:
            found.append(await create(bench))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(order)
            await trio.sleep(0.05)
            cancelled = await stream.cancel_orders(order_ids=["7", "8"])
    assert found[0].value.id == "5"
    assert isinstance(cancelled[0], Accepted)
    assert isinstance(cancelled[1], Unknown)


async def test_a_lost_answer_is_unknown_and_nothing_is_sent_again() -> None:
    async def drop(peer: Peer) -> None:
        await peer.welcome(2)
        await peer.next("createOrder")
        await peer.socket.aclose()

    async with opened(drop, spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        outcome = await create(bench)
        await bench.until(ps.Stale)
        await bench.until(ps.Fresh)
        await trio.sleep(0.05)
    assert isinstance(outcome, Unknown)
    assert (outcome.doubt, outcome.client_id) == (Doubt.NO_ANSWER, "bot1")
    assert outcome.fence_ms > NOW
    assert sum(request["event"] == "createOrder" for request in bench.heard) == 1


async def test_an_answer_that_does_not_come_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ANSWER_TIMEOUT_S", 0.1)
    async with opened(spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        outcome = await create(bench)
    assert isinstance(outcome, Unknown)
    assert "no answer in 0.1 s" in outcome.reason


async def test_nothing_is_sent_before_the_state_is_fresh() -> None:
    async with opened(spot_welcome, rest=spot_rest(), is_running=False) as bench:
        outcome = await create(bench)
        assert isinstance(bench.stream, SpotStream)
        (cancelled,) = await bench.stream.cancel_orders(client_ids=["bot1"])
    for each in (outcome, cancelled):
        assert isinstance(each, Refused)
        assert each.kind is RefusalKind.NOT_SENT
    assert not bench.heard


async def test_an_order_off_the_grid_is_not_sent() -> None:
    async with opened(spot_welcome, rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        with pytest.raises(OrderRefusedHere):
            await create(bench, "47112.123")
    assert all(request["event"] != "createOrder" for request in bench.heard)


async def test_all_orders_are_cancelled_over_the_socket() -> None:
    finished: Row = {"orderId": "6", "clientOrderId": "", "message": "finished", "code": 21359}
    async with opened(answering(reply(TAKEN, finished)), rest=spot_rest()) as bench:
        await bench.until(ps.Fresh)
        assert isinstance(bench.stream, SpotStream)
        outcome = await bench.stream.cancel_all_orders()
    assert isinstance(outcome, Accepted)
    assert [type(each) for each in outcome.value] == [Accepted, Unknown]


# --- what is known


def changed(state: OrderState, filled: str = "0", at_ms: int = MS) -> ps.OrderChanged:
    return ps.OrderChanged(
        market=Market.SPOT,
        symbol="BTC_USDT",
        order_id="1",
        client_id="bot1",
        side=Side.BUY,
        order_type="LIMIT",
        state=state,
        price=Decimal(1),
        quantity=Decimal(10),
        filled_quantity=Decimal(filled),
        filled_amount=Decimal(filled),
        created_ms=MS,
        changed_ms=at_ms,
    )


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ([("NEW", "0"), ("NEW", "0")], ["NEW"]),
        ([("NEW", "0"), ("PARTIALLY_FILLED", "3"), ("NEW", "0")], ["NEW", "PARTIALLY_FILLED"]),
        ([("PARTIALLY_FILLED", "3"), ("PARTIALLY_FILLED", "5")], ["PARTIALLY_FILLED", "PARTIALLY_FILLED"]),
        ([("FILLED", "10"), ("PARTIALLY_FILLED", "3"), ("NEW", "0")], ["FILLED"]),
        ([("CANCELED", "0"), ("CANCELED", "4")], ["CANCELED", "CANCELED"]),
        ([("PENDING_CANCEL", "0"), ("NEW", "0"), ("CANCELED", "0")], ["PENDING_CANCEL", "CANCELED"]),
    ],
)
def test_each_report_of_an_order_is_a_lower_bound(reports: list[tuple[str, str]], told: list[str]) -> None:
    known = ps.Known(Market.SPOT)
    events = [known.take(changed(OrderState(state), filled)) for state, filled in reports]
    assert [event.state for event in events if isinstance(event, ps.OrderChanged)] == told


def test_an_older_balance_does_not_replace_a_newer() -> None:
    def balance(available: str, at_ms: int) -> ps.BalanceChanged:
        return ps.BalanceChanged(
            market=Market.SPOT, currency="USDT", available=Decimal(available), hold=Decimal(0), changed_ms=at_ms
        )

    known = ps.Known(Market.SPOT)
    assert known.take(balance("5", 10))
    assert known.take(balance("4", 9)) is None
    assert known.take(balance("5", 11)) is None
    assert known.take(balance("4", 10)) is None
    assert known.take(balance("4", 12))


def test_the_memory_of_fills_and_finished_orders_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ps, "FILLS_KEPT", 3)
    known = ps.Known(Market.FUTURES)
    for number in range(10):
        assert known.take(fill(MS, number))
    assert not known.is_news(fill(MS, 9))
    assert known.is_news(fill(MS, 0))
