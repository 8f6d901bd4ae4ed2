from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
)

from bot.exchange.simulated import server
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.play import play
from bot.exchange.simulated.server import open_exchange
from tests.exchange.simulated.builders import (
    BTC,
    START_NS,
    ListedMarket,
    change,
    parsed,
    real_recording,
    snapshot,
    trade,
)

ALL_CHANNELS = ["book_lv2", "trades", "ticker", "candles_minute_1", "candles_hour_1", "candles_month_1"]


def subscribe(*channels: str) -> str:
    request = {"event": "subscribe", "channel": channels or ALL_CHANNELS, "symbols": ["all"]}
    return msgspec.json.encode(request).decode()


BOOK_OF_20 = '{"event":"subscribe","channel":["book"],"symbols":["BTC_USDT"],"depth":20}'
BOOK_OF_10 = '{"event":"subscribe","channel":["book"],"symbols":["BTC_USDT"],"depth":10}'


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[WebSocketConnection]:
    """Open a WebSocket whose socket is closed at the end: trio-websocket leaves that out after the server's close."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream, trio.open_nursery() as nursery:
        host = f"{parts.hostname}:{parts.port}"
        connection = await wrap_client_stream(nursery, stream, host, parts.path, receive_buffer_size=65_536)
        yield connection
        await connection.aclose()


async def all_frames(connection: WebSocketConnection) -> tuple[list[str], str]:
    """Return every frame until the server closes, and the reason that it gives."""
    frames: list[str] = []
    with pytest.raises(ConnectionClosed) as closed:
        await read_into(frames, connection)
    reason = closed.value.reason
    assert reason is not None
    return frames, f"{reason.code} {reason.reason}"


async def read_into(frames: list[str], connection: WebSocketConnection) -> None:
    while True:
        frames.append(str(await connection.get_message()))


def quiet_market(*events: MarketEvent) -> ListedMarket:
    return ListedMarket([snapshot(), *events])


class FirstOf:
    """The first events of another source."""

    def __init__(self, source: server.MarketSource, event_count: int) -> None:
        self.instruments = source.instruments
        self.description = source.description
        self.event_count: int | None = event_count
        self.first_ns = source.first_ns
        self._source = source

    def events(self) -> Iterator[MarketEvent]:
        return islice(self._source.events(), self.event_count)


async def test_frames_over_sockets_are_those_of_play_byte_for_byte() -> None:
    source = FirstOf(real_recording(), 2_000)
    requests = [subscribe(), BOOK_OF_10, '{"event":"ping"}', "nonsense"]
    async with open_exchange(source, speed=None) as exchange, connected(exchange.ws_url) as client:
        for request in requests:
            await client.send_message(request)
        acknowledged = [str(await client.get_message()) for _ in range(11)]
        exchange.start()
        frames, reason = await all_frames(client)
        assert exchange.ended.is_set()
        assert exchange.events_done == exchange.events_total == 2_000
    assert acknowledged + frames == [frame.decode() for frame in play(source, requests).frames()]
    assert reason == "1000 end of market data"


async def test_every_event_of_a_recording_is_replayed() -> None:
    recording = real_recording()
    async with open_exchange(recording, speed=None) as exchange, connected(exchange.ws_url) as client:
        await client.send_message(subscribe("trades"))
        await client.get_message()
        exchange.start()
        frames, _ = await all_frames(client)
    assert exchange.events_done == exchange.events_total == 13_206
    assert len(frames) == 9_756
    ids = [int(parsed(frame)["data"][0]["id"]) for frame in frames]
    assert ids == sorted(set(ids))


async def test_nothing_moves_before_the_start_and_starting_again_does_nothing() -> None:
    source = quiet_market(change(at_s=1, bids=[(99, 1)]), trade(at_s=2))
    async with (
        open_exchange(source, speed=None) as exchange,
        connected(exchange.ws_url) as client,
        httpx.AsyncClient(base_url=exchange.rest_url) as rest,
    ):
        for _ in range(2):
            assert (await rest.get("/timestamp")).json() == {"serverTime": START_NS // 10**6}
        assert exchange.events_done == 1
        await client.send_message(subscribe("book_lv2"))
        assert parsed(await client.get_message())["event"] == "subscribe"
        assert parsed(await client.get_message())["action"] == "snapshot"
        exchange.start()
        exchange.start()
        frames, _ = await all_frames(client)
        assert [parsed(frame)["action"] for frame in frames] == ["update"]
        assert (await rest.get("/timestamp/")).json() == {"serverTime": START_NS // 10**6 + 2_000}


async def test_rest_answers_json_and_refusals() -> None:
    async with (
        open_exchange(quiet_market(), speed=None) as exchange,
        httpx.AsyncClient(base_url=exchange.rest_url) as rest,
    ):
        listed = await rest.get("/markets")
        assert (listed.status_code, listed.headers["content-type"]) == (200, "application/json")
        assert listed.json()[0]["symbol"] == BTC
        refused = await rest.get("/markets/BTC_USDT/candles", params={"interval": "MINUTE_2"})
        assert (refused.status_code, refused.json()["code"]) == (400, 24102)
        assert (await rest.post("/orders", json={"symbol": BTC})).status_code == 401
        assert (await rest.get("/v3/market/tickers")).status_code == 404


async def test_other_websocket_paths_are_refused() -> None:
    async with open_exchange(quiet_market(), speed=None) as exchange:
        upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        upgrade["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        async with httpx.AsyncClient(base_url=exchange.rest_url, headers=upgrade) as client:
            assert (await client.get("/ws/v3/private")).status_code == 403


async def test_a_market_in_real_time_keeps_the_pace_of_its_events() -> None:
    source = quiet_market(*(trade(at_s=at, trade_id=str(at)) for at in (1, 2, 3)))
    async with open_exchange(source, speed=10.0) as exchange, connected(exchange.ws_url) as client:
        await client.send_message(subscribe("trades"))
        await client.get_message()
        began_s = trio.current_time()
        exchange.start()
        passed_s: list[float] = []
        for _ in range(3):
            await client.get_message()
            passed_s.append(trio.current_time() - began_s)
    assert all(0.1 * at <= passed < 0.1 * at + 0.5 for at, passed in zip((1, 2, 3), passed_s, strict=True))


async def test_a_ping_is_answered_while_the_market_runs() -> None:
    source = GeneratedMarket([BTC], 1, START_NS)
    async with open_exchange(source, speed=None) as exchange, connected(exchange.ws_url) as client:
        assert exchange.events_total is None
        await client.send_message(subscribe())
        exchange.start()
        await client.send_message('{"event":"ping"}')
        with trio.fail_after(5):
            while await client.get_message() != '{"event":"pong"}':
                pass


async def test_two_subscribers_see_the_same_frames_and_a_third_only_what_it_asked_for() -> None:
    source = FirstOf(GeneratedMarket([BTC, "ETH_USDT"], 1, START_NS), 600)
    seen: dict[str, list[str]] = {}

    async def follow(url: str, name: str, request: str, task_status: trio.TaskStatus[None]) -> None:
        async with connected(url) as client:
            await client.send_message(request)
            first = str(await client.get_message())
            task_status.started()
            frames, _ = await all_frames(client)
            seen[name] = [first, *frames]

    async with open_exchange(source, speed=None) as exchange, trio.open_nursery() as nursery:
        for name, request in (("one", subscribe()), ("two", subscribe()), ("three", subscribe("trades"))):
            await nursery.start(follow, exchange.ws_url, name, request)
        exchange.start()
    assert seen["one"] == seen["two"] == [frame.decode() for frame in play(source, [subscribe()]).frames()]
    assert {parsed(frame)["channel"] for frame in seen["three"]} == {"trades"}


async def test_who_stops_reading_holds_a_market_at_full_speed_back() -> None:
    source = FirstOf(GeneratedMarket([BTC], 1, START_NS), 100_000)
    async with open_exchange(source, speed=None) as exchange, connected(exchange.ws_url) as client:
        await client.send_message(subscribe())
        await client.get_message()
        exchange.start()
        await stands_still(exchange)
        assert exchange.events_done < 100_000
        with trio.fail_after(2):  # leaving is quick, even in the middle of a frame that nobody takes
            await exchange.say_farewell()


async def test_who_stops_reading_is_disconnected_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUEUE_MAX", 100)
    source = FirstOf(GeneratedMarket([BTC], 1, START_NS), 8_000)
    async with open_exchange(source, speed=1e9) as exchange, connected(exchange.ws_url) as client:
        await client.send_message(BOOK_OF_20)
        await client.send_message(subscribe())
        await client.get_message()
        exchange.start()
        with trio.fail_after(30):
            await exchange.ended.wait()
        assert exchange.events_done == 8_000
        frames, reason = await all_frames(client)
    assert len(frames) < 8_000
    assert not reason.startswith("1000")


async def test_who_asks_and_never_reads_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUEUE_MAX", 100)
    async with open_exchange(quiet_market(), speed=None) as exchange, connected(exchange.ws_url) as client:
        with trio.fail_after(20), pytest.raises(ConnectionClosed):
            await say_for_ever(client, subscribe(*(str(at) * 200 for at in range(9))))


async def say_for_ever(connection: WebSocketConnection, request: str) -> None:
    while True:
        await connection.send_message(request)


async def stands_still(exchange: server.SimulatedExchange) -> None:
    done = -1
    while exchange.events_done != done:
        done = exchange.events_done
        await trio.sleep(0.1)


async def test_the_idle_are_disconnected_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.1)
    async with open_exchange(quiet_market(), speed=1.0) as exchange, connected(exchange.ws_url) as client:
        with trio.fail_after(5):
            assert (await all_frames(client))[1].startswith("1000 no message for")


async def test_the_idle_are_left_alone_at_full_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.01)
    async with open_exchange(quiet_market(), speed=None) as exchange, connected(exchange.ws_url) as client:
        await trio.sleep(0.1)
        await client.send_message('{"event":"ping"}')
        assert await client.get_message() == '{"event":"pong"}'


async def test_leaving_closes_connections_in_good_order_and_quickly() -> None:
    source = GeneratedMarket([BTC], 1, START_NS)
    reports, reported = trio.open_memory_channel[str](1)

    async def follow(url: str) -> None:
        async with connected(url) as client:
            await client.send_message(subscribe())
            await reports.send("")
            await reports.send((await all_frames(client))[1])

    async with trio.open_nursery() as nursery:
        async with open_exchange(source, speed=None) as exchange:
            nursery.start_soon(follow, exchange.ws_url)
            await reported.receive()
            exchange.start()
            await trio.sleep(0.05)
            began_s = trio.current_time()
        assert trio.current_time() - began_s < 2
        assert await reported.receive() == "1001 the simulated exchange stops"


async def test_a_message_that_is_too_long_ends_its_connection_only() -> None:
    async with open_exchange(quiet_market(), speed=None) as exchange, connected(exchange.ws_url) as other:
        async with connected(exchange.ws_url) as client:
            await client.send_message("x" * (server.MESSAGE_BYTES_MAX + 1))
            assert (await all_frames(client))[1].startswith("1009")
        await other.send_message(b"ping")
        assert parsed(await other.get_message())["event"] == "error"


async def test_who_comes_after_the_end_is_told_so() -> None:
    async with open_exchange(quiet_market(), speed=None) as exchange:
        exchange.start()
        await exchange.ended.wait()
        async with connected(exchange.ws_url) as client:
            assert await all_frames(client) == ([], "1000 end of market data")


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
async def test_a_speed_must_be_positive(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        async with open_exchange(quiet_market(), speed=speed):
            pass


async def test_the_port_can_be_chosen() -> None:
    async with open_exchange(quiet_market(), speed=1.0) as first:
        port = urlsplit(first.rest_url).port
        assert port is not None
    async with open_exchange(quiet_market(), speed=None, port=port) as second:
        assert second.rest_url == first.rest_url


async def test_a_port_that_is_taken_anew_before_the_end_of_its_last_connection_was_seen_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = [trio.Event(), trio.Event()]
    waiting = iter(ends)

    class Served:
        """Stands in for hypercorn: a connection lasts until its event."""

        def __init__(self, *_: object) -> None:
            self.end = next(waiting)

        def __await__(self) -> Generator[Any, None, None]:
            return self.end.wait().__await__()

    class Accepted:
        """A stream of which only the peer's name is asked."""

        socket = SimpleNamespace(getpeername=lambda: ("127.0.0.1", 50_000))

    streams: list[Any] = [Accepted(), Accepted()]
    monkeypatch.setattr(server, "TCPServer", Served)
    async with open_exchange(quiet_market(), speed=None) as exchange, trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(exchange.serve_stream, Config(), WorkerContext(None), stream)
        await trio.testing.wait_all_tasks_blocked()
        for end in ends:
            end.set()
            await trio.testing.wait_all_tasks_blocked()
