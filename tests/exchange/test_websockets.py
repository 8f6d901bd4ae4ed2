"""One contract, two sockets: trio-websocket behind our port, and our own lean reader, against peers of other makes."""

from __future__ import annotations

import base64
import hashlib
import resource
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import pytest
import trio
import trio_websocket
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bot.errors import BadReply, ConnectionLost, RateLimited, SettingsError
from bot.exchange import transport
from bot.exchange.lean_websocket import LeanWebSocket, open_lean_websocket
from bot.exchange.poloniex.codec import subscribe_text
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.play import play
from bot.exchange.simulated.server import open_exchange
from bot.exchange.transport import WebSocket, open_websocket
from tests.support.certificates import make_certificate, server_context
from tests.support.http_peer import Step, answers, free_port, hangs_up, is_silent, open_http_peer, resets, says

Handler = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]
OPENERS = {"trio-websocket": open_websocket, "lean": open_lean_websocket}
START_NS = 1_767_225_600 * 10**9


class At(Protocol):
    """Opens a socket."""

    def __call__(
        self, url: str, connect_timeout_s: float = ..., message_bytes_max: int = ...
    ) -> AbstractAsyncContextManager[WebSocket | LeanWebSocket]: ...


def opener(kind: str) -> At:
    def websocket_at(
        url: str, connect_timeout_s: float = 5.0, message_bytes_max: int = transport.MESSAGE_BYTES_MAX
    ) -> AbstractAsyncContextManager[WebSocket | LeanWebSocket]:
        return OPENERS[kind](url, connect_timeout_s=connect_timeout_s, message_bytes_max=message_bytes_max)

    return websocket_at


@pytest.fixture(params=list(OPENERS))
def websocket_at(request: pytest.FixtureRequest) -> At:
    return opener(request.param)


@pytest.fixture
def own_certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@asynccontextmanager
async def websocket_peer(handler: Handler) -> AsyncGenerator[str]:
    """Serve `handler` on a free loopback port; yields the URL."""

    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            await handler(await request.accept())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, None)
        yield f"ws://127.0.0.1:{server.port}/ws/public"
        nursery.cancel_scope.cancel()


async def test_a_websocket_to_another_machine_must_be_encrypted(websocket_at: At) -> None:
    with pytest.raises(SettingsError, match="use wss://"):
        async with websocket_at("ws://ws.poloniex.com/ws/public"):
            pass


async def is_quiet(connection: trio_websocket.WebSocketConnection) -> None:
    await connection.get_message()


async def echoes(connection: trio_websocket.WebSocketConnection) -> None:
    while True:
        await connection.send_message(await connection.get_message())


async def test_messages_go_out_as_text_and_come_in_as_bytes(websocket_at: At) -> None:
    async with websocket_peer(echoes) as url, websocket_at(url) as socket_:
        await socket_.send('{"event":"ping"}')
        await socket_.send("größer".encode())
        assert await socket_.receive() == b'{"event":"ping"}'
        assert await socket_.receive() == "größer".encode()


async def test_messages_before_the_close_are_received_then_its_code_and_reason(websocket_at: At) -> None:
    async def leaves(connection: trio_websocket.WebSocketConnection) -> None:
        for number in range(100):
            await connection.send_message(str(number))
        await connection.aclose(4001, "go \x1b[31maway")

    async with websocket_peer(leaves) as url, websocket_at(url) as socket_:
        await trio.sleep(0.05)
        assert [await socket_.receive() for _ in range(100)] == [b"%d" % number for number in range(100)]
        with pytest.raises(ConnectionLost, match=r"closed with 4001.*: go \[31maway") as lost:
            await socket_.receive()
        assert (lost.value.code, lost.value.reason) == (4001, "go [31maway")
        with pytest.raises(ConnectionLost):
            await socket_.send("too late")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
async def test_the_close_code_is_told(websocket_at: At, code: int) -> None:
    async def leaves(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.aclose(code)

    async with websocket_peer(leaves) as url, websocket_at(url) as socket_:
        with pytest.raises(ConnectionLost, match=f"closed with {code}") as lost:
            await socket_.receive()
    assert (lost.value.code, lost.value.reason) == (code, "")


async def test_a_binary_message_is_refused(websocket_at: At) -> None:
    async def sends_binary(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.send_message(b"\x00\x01")
        await is_quiet(connection)

    async with websocket_peer(sends_binary) as url, websocket_at(url) as socket_:
        with pytest.raises(BadReply, match="binary"):
            await socket_.receive()


async def test_a_refused_websocket_is_lost(websocket_at: At) -> None:
    with pytest.raises(ConnectionLost, match="Connection refused"):
        async with websocket_at(f"ws://127.0.0.1:{free_port()}/"):
            pass


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (hangs_up, "closed during the handshake"),
        (resets, "ConnectionResetError"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "broke the protocol"),
        (
            says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
            "broke the protocol",
        ),
        (says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: \xb2\r\n\r\n"), "broke the protocol"),
        (answers(b"no", status=403), "status 403"),
    ],
)
async def test_a_handshake_that_fails_is_told_at_once(websocket_at: At, step: Step, words: str) -> None:
    async with open_http_peer(step) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match=words):
            async with websocket_at(peer.ws_url, connect_timeout_s=60):
                pass


async def test_an_endless_refusal_is_not_read_to_its_end(websocket_at: At) -> None:
    async def flood(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n" + bytes(65536) + b"\r\n")

    async with open_http_peer(flood) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match=r"an endless handshake|status 400"):
            async with websocket_at(peer.ws_url, connect_timeout_s=60):
                pass


@pytest.mark.parametrize("step", [is_silent, says(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\nx")])
async def test_a_handshake_that_is_not_answered_to_its_end_is_given_up(websocket_at: At, step: Step) -> None:
    async with open_http_peer(step) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match=r"no handshake in time|status 400"):
            async with websocket_at(peer.ws_url, connect_timeout_s=0.1):
                pass


async def test_a_handshake_answered_with_429_asks_us_to_wait(websocket_at: At) -> None:
    async with open_http_peer(answers(status=429, headers="Retry-After: 9\r\n")) as peer:
        with pytest.raises(RateLimited) as limited:
            async with websocket_at(peer.ws_url):
                pass
    assert limited.value.retry_after_s == 9.0


@asynccontextmanager
async def raw_peer(after: Step) -> AsyncGenerator[str]:
    """Answer a WebSocket handshake by hand, then do `after` with the bare stream."""

    async def serve(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        key = next(
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await after(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def test_a_reset_is_lost(websocket_at: At) -> None:
    async with raw_peer(resets) as url, websocket_at(url) as socket_:
        with pytest.raises(ConnectionLost, match="ConnectionResetError"):
            await socket_.receive()


async def test_an_end_without_a_close_frame_is_lost(websocket_at: At) -> None:
    async with raw_peer(hangs_up) as url, websocket_at(url) as socket_:
        with pytest.raises(ConnectionLost, match="1006") as lost:
            await socket_.receive()
    assert lost.value.code == 1006


@pytest.mark.parametrize(
    "frame",
    [
        b"\x83\x00",  # an opcode that does not exist
        b"\x81\x82\x00\x00\x00\x00hi",  # masked by the server
        b"\xf1\x00",  # reserved bits
        b"\x81\x02\xff\xfe",  # not UTF-8
        b"\x80\x00",  # continues nothing
        b"\x88\x01\x00",  # half a close code
        b"\x89\x7e\x00\xff" + b"p" * 255,  # a ping that is too long
        b"\x81\x7f" + b"\xff" * 8,  # a negative length
    ],
)
async def test_a_broken_frame_is_a_lost_connection(websocket_at: At, frame: bytes) -> None:
    async with raw_peer(says(frame, pause_s=10)) as url, websocket_at(url) as socket_:
        with trio.fail_after(5), pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_a_silent_peer_is_left_to_the_callers_deadline_and_does_not_delay_the_exit(websocket_at: At) -> None:
    started_s = trio.current_time()

    async def receives(url: str) -> None:
        async with websocket_at(url) as socket_:
            with trio.fail_after(0.05):
                await socket_.receive()

    async with raw_peer(is_silent) as url:
        with pytest.raises(trio.TooSlowError):
            await receives(url)
        with trio.move_on_after(0.05):
            async with websocket_at(url) as socket_:
                await socket_.receive()
        async with websocket_at(url):
            pass  # says goodbye, and is not answered
    assert trio.current_time() - started_s < 2 * transport.CLOSE_TIMEOUT_S


async def test_a_cancelled_receive_loses_no_message(websocket_at: At) -> None:
    async with websocket_peer(echoes) as url, websocket_at(url) as socket_:
        with trio.move_on_after(0.02):
            await socket_.receive()
        await socket_.send("1")
        assert await socket_.receive() == b"1"


async def test_a_cancelled_send_drops_the_connection(websocket_at: At) -> None:
    async with raw_peer(is_silent) as url, websocket_at(url) as socket_:
        with trio.move_on_after(0.1) as scope:
            await socket_.send("x" * 50_000_000)  # more than the peer's buffers hold
        assert scope.cancelled_caught
        with pytest.raises(ConnectionLost):
            await socket_.send("more")
        with pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_a_send_that_takes_too_long_drops_the_connection(
    websocket_at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SEND_TIMEOUT_S", 0.1)
    async with raw_peer(is_silent) as url, websocket_at(url) as socket_:
        with trio.fail_after(10), pytest.raises(ConnectionLost, match="could not send"):
            await socket_.send("x" * 50_000_000)  # more than the peer's buffers hold
        with pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_two_tasks_may_send_and_receive_at_once(websocket_at: At) -> None:
    async with websocket_peer(echoes) as url, websocket_at(url) as socket_:
        received: list[bytes] = []

        async def read() -> None:
            while len(received) < 200:
                received.append(await socket_.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(200):
                await socket_.send(str(number))
    assert received == [b"%d" % number for number in range(200)]


async def test_a_message_of_the_greatest_size_is_received_and_one_byte_more_is_not(websocket_at: At) -> None:
    async def sends_two(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.send_message("x" * transport.MESSAGE_BYTES_MAX)
        await connection.get_message()
        await connection.send_message("x" * (transport.MESSAGE_BYTES_MAX + 1))
        await connection.get_message()

    async with websocket_peer(sends_two) as url, websocket_at(url) as socket_:
        assert len(await socket_.receive()) == transport.MESSAGE_BYTES_MAX
        await socket_.send("next")
        with pytest.raises(ConnectionLost) as lost:
            await socket_.receive()
    assert lost.value.code == 1009


async def test_a_small_bound_holds_although_more_arrives_at_once(websocket_at: At) -> None:
    async def sends_much(connection: trio_websocket.WebSocketConnection) -> None:
        for _ in range(20):
            await connection.send_message("x" * 3000)
        await connection.get_message()

    async def receives(url: str) -> None:
        async with websocket_at(url, message_bytes_max=1000) as socket_:
            await trio.sleep(0.05)
            await socket_.receive()

    async with websocket_peer(sends_much) as url:
        with pytest.raises(ConnectionLost):
            await receives(url)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_of_100_mb_is_never_held(websocket_at: At, is_fragmented: bool) -> None:
    size, piece = 100 * 2**20, 2**16
    most_bytes = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal most_bytes
        await stream.send_all(b"" if is_fragmented else b"\x81\x7f" + struct.pack("!Q", size))
        for number in range(size // piece):
            fragment = (b"\x01" if number == 0 else b"\x00") + b"\x7f" + struct.pack("!Q", piece)
            await stream.send_all((fragment if is_fragmented else b"") + b"x" * piece)
            most_bytes = max(most_bytes, resident_bytes())

    async with raw_peer(flood) as url:
        before_bytes = resident_bytes()
        async with websocket_at(url) as socket_:
            with trio.fail_after(20), pytest.raises(ConnectionLost):
                await socket_.receive()
    assert most_bytes - before_bytes < 20 * 2**20


async def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    websocket_at: At, own_certificate: Path
) -> None:
    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.do_handshake()

    async with trio.open_nursery() as nursery:
        serve_tls = partial(trio.serve_ssl_over_tcp, serve, 0, server_context(own_certificate), host="127.0.0.1")
        listeners = await nursery.start(serve_tls)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with trio.fail_after(10), pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"):
            async with websocket_at(f"wss://localhost:{port}/", connect_timeout_s=60):
                pass
        nursery.cancel_scope.cancel()


async def test_an_encrypted_websocket_works(
    websocket_at: At, own_certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = transport.tls_context.__wrapped__()
    trusting.load_verify_locations(own_certificate)
    monkeypatch.setattr(transport, "tls_context", lambda: trusting)

    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            await echoes(await request.accept())

    async with trio.open_nursery() as nursery:
        context = server_context(own_certificate)
        server = await nursery.start(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, context)
        async with websocket_at(f"wss://localhost:{server.port}/") as socket_:
            await socket_.send("hello")
            assert await socket_.receive() == b"hello"
        with pytest.raises(ConnectionLost, match="IP address mismatch"):
            async with websocket_at(f"wss://127.0.0.1:{server.port}/"):
                pass
        nursery.cancel_scope.cancel()


# --- what the peers are made of


def sent_frame(payload: bytes, first: int = 0x81) -> bytes:
    """Return a frame as a server writes it."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    return bytes((first, 126)) + size.to_bytes(2, "big") + payload


class Short(GeneratedMarket):
    """A market that ends."""

    def events(self) -> Iterator[MarketEvent]:
        return islice(super().events(), 400)


async def test_the_simulated_exchange_is_received_to_its_end_and_byte_for_byte(websocket_at: At) -> None:
    request = subscribe_text(["book_lv2", "trades", "ticker"], ["BTC_USDT"])
    expected = list(play(Short(["BTC_USDT"], 3, START_NS), [request]).frames())
    received: list[bytes] = []

    async def read_all(socket_: WebSocket | LeanWebSocket) -> None:
        while True:
            received.extend(await socket_.receive_many())

    async with (
        open_exchange(Short(["BTC_USDT"], 3, START_NS), speed=None) as exchange,
        websocket_at(exchange.ws_url) as socket_,
    ):
        await socket_.send(request)
        received.append(await socket_.receive())
        exchange.start()
        with trio.fail_after(30), pytest.raises(ConnectionLost, match="end of market data") as lost:
            await read_all(socket_)
    assert received == expected
    assert (lost.value.code, lost.value.reason) == (1000, "end of market data")


async def test_pings_are_answered_also_while_nobody_waits_for_a_message(websocket_at: At) -> None:
    async def pings(connection: trio_websocket.WebSocketConnection) -> None:
        with trio.fail_after(5):
            for number in range(5):
                await connection.ping(b"%d" % number)
        await connection.send_message("answered")
        await is_quiet(connection)

    async with websocket_peer(pings) as url, websocket_at(url) as socket_:
        assert await socket_.receive() == b"answered"


async def test_a_message_in_pieces_with_pings_between_is_one_message(websocket_at: At) -> None:
    ping = sent_frame(b"p", 0x89)
    wire = sent_frame("größer".encode()[:3], 0x01) + ping + sent_frame(b"", 0x00) + ping
    wire += sent_frame("größer".encode()[3:], 0x80) + sent_frame(b"next")
    pieces = [wire[at : at + 3] for at in range(0, len(wire), 3)]
    async with raw_peer(says(*pieces, pause_s=0.001)) as url, websocket_at(url) as socket_:
        assert await socket_.receive() == "größer".encode()
        assert await socket_.receive() == b"next"


async def test_messages_before_a_broken_frame_are_received_first(websocket_at: At) -> None:
    wire = sent_frame(b"1") + sent_frame(b"2") + b"\xf1\x00"
    async with raw_peer(says(wire, pause_s=10)) as url, websocket_at(url) as socket_:
        with trio.fail_after(5):
            assert [await socket_.receive(), await socket_.receive()] == [b"1", b"2"]
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await socket_.receive()
            with pytest.raises(ConnectionLost):
                await socket_.send("too late")


async def test_all_that_waits_is_received_at_once_and_nothing_twice(websocket_at: At) -> None:
    count = 5000

    async def floods(stream: trio.SocketStream) -> None:
        await stream.send_all(b"".join(sent_frame(b"%d" % number) for number in range(count)))
        await trio.sleep(10)

    async with raw_peer(floods) as url, websocket_at(url) as socket_:
        received: list[bytes] = []
        with trio.fail_after(10):
            while len(received) < count:
                received += await socket_.receive_many() if len(received) % 2 else [await socket_.receive()]
    assert received == [b"%d" % number for number in range(count)]


async def test_a_cancelled_receive_of_a_busy_peer_loses_no_message(websocket_at: At) -> None:
    async def counts(connection: trio_websocket.WebSocketConnection) -> None:
        for number in range(300):
            await connection.send_message(str(number))
            if number % 7 == 0:
                await connection.ping(b"p")
        await is_quiet(connection)

    async with websocket_peer(counts) as url, websocket_at(url) as socket_:
        received: list[bytes] = []
        with trio.fail_after(10):
            while len(received) < 300:
                with trio.move_on_after(0.0003):
                    received.append(await socket_.receive())
    assert received == [b"%d" % number for number in range(300)]


async def test_a_peer_that_is_told_goodbye_hears_one_close_with_1000(websocket_at: At) -> None:
    heard: list[trio_websocket.CloseReason | None] = []

    async def listens(connection: trio_websocket.WebSocketConnection) -> None:
        try:
            await connection.get_message()
        finally:
            heard.append(connection.closed)

    async with websocket_peer(listens) as url:
        async with websocket_at(url):
            await trio.sleep(0.01)
        await trio.sleep(0.05)
    assert [reason and reason.code for reason in heard] == [1000]


async def test_a_goodbye_to_a_peer_that_goes_on_talking_is_bounded(websocket_at: At) -> None:
    async def talks(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(sent_frame(b"x" * 1000) * 60)

    async with raw_peer(talks) as url:
        with trio.fail_after(3 * transport.CLOSE_TIMEOUT_S):
            async with websocket_at(url) as socket_:
                await socket_.receive()


@pytest.mark.parametrize("kind", list(OPENERS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.binary(max_size=300)
        | st.builds(sent_frame, st.binary(max_size=200), st.integers(0, 255))
        | st.text(max_size=50).map(lambda text: sent_frame(text.encode())),
        max_size=8,
    ).map(b"".join)
)
@example(sent_frame(b"", 0x88) + sent_frame(b"after the close"))
@example(sent_frame(b"\x03\xe8", 0x88) * 2)
@example(sent_frame(b"\x00\x00", 0x88))
def test_any_bytes_after_the_handshake_give_messages_a_bad_reply_or_a_lost_connection(kind: str, wire: bytes) -> None:
    async def speaks(stream: trio.SocketStream) -> None:
        await stream.send_all(wire)
        await hangs_up(stream)

    async def read_all(socket_: WebSocket | LeanWebSocket) -> None:
        while True:
            (await socket_.receive()).decode()

    async def hears() -> None:
        async with raw_peer(speaks) as url:
            with trio.fail_after(5):
                async with opener(kind)(url) as socket_:
                    with pytest.raises((ConnectionLost, BadReply)):
                        await read_all(socket_)

    trio.run(hears)
