from __future__ import annotations

import base64
import hashlib
import itertools
import resource
import shutil
import ssl
import struct
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import BadReply, ConnectionLost, ExchangeError, RateLimited, SettingsError
from bot.exchange import transport
from bot.exchange.transport import (
    BODY_BYTES_MAX,
    LANES,
    Backoff,
    Http,
    WebSocket,
    keep_connected,
    open_http,
    open_websocket,
)
from tests.support.http_peer import Step, answers, free_port, hangs_up, is_silent, open_http_peer, resets, says

Handler = Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]


def http_at(url: str, request_timeout_s: float = 5.0) -> AbstractAsyncContextManager[Http]:
    return open_http(url, connect_timeout_s=0.5, request_timeout_s=request_timeout_s, user_agent="test")


def websocket_at(url: str, connect_timeout_s: float = 5.0) -> AbstractAsyncContextManager[WebSocket]:
    return open_websocket(url, connect_timeout_s=connect_timeout_s)


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


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://api.poloniex.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "ftp://api.poloniex.com",
        "ws://127.0.0.1",
        "https://",
        "https://api.poloniex.com:0",
        "https://api.poloniex.com:99999",
        "https://key:word@api.poloniex.com",
        "https://[::1",
        "",
    ],
)
async def test_an_address_that_is_not_safe_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        async with http_at(url):
            pass


async def test_a_websocket_to_another_machine_must_be_encrypted() -> None:
    with pytest.raises(SettingsError, match="use wss://"):
        async with websocket_at("ws://ws.poloniex.com/ws/public"):
            pass


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://[::1]", "http://localhost:1", "https://api.poloniex.com"]
)
async def test_a_safe_address_is_accepted_without_connecting(url: str) -> None:
    async with http_at(url):
        pass


def test_the_environment_does_not_weaken_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    context = transport.tls_context.__wrapped__()
    assert context.keylog_filename is None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) > 50


# --- HTTP


async def test_an_answer_comes_whole_with_its_status() -> None:
    async with open_http_peer(answers(b'{"serverTime":1}')) as peer, http_at(peer.url) as http:
        reply = await http.get("/timestamp", {"symbol": "BTC_USDT", "limit": 5})
    assert (reply.status, reply.body, reply.retry_after_s) == (200, b'{"serverTime":1}', None)
    head = peer.requests[0].decode().lower()
    assert head.startswith("get /timestamp?symbol=btc_usdt&limit=5 http/1.1")
    assert "user-agent: test" in head
    assert "accept-encoding: identity" in head


async def test_a_redirect_is_not_followed() -> None:
    redirect = answers(status=302, headers="Location: http://example.com/\r\n")
    async with open_http_peer(redirect) as peer, http_at(peer.url) as http:
        assert (await http.get("/")).status == 302


@pytest.mark.parametrize(
    ("headers", "retry_after_s"),
    [
        ("Retry-After: 7\r\n", 7.0),
        ("Retry-After: 0\r\n", 0.0),
        ("Retry-After: 99999999999999999999\r\n", 3600.0),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 22:13:50 GMT\r\n", 30.0),
        ("Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 22:13:10 GMT\r\n", 0.0),
        ("Retry-After: Tue, 14 Nov 2023 22:13:50 GMT\r\n", None),
    ],
)
async def test_retry_after_is_read_and_bounded(headers: str, retry_after_s: float | None) -> None:
    async with open_http_peer(answers(status=429, headers=headers)) as peer, http_at(peer.url) as http:
        assert (await http.get("/")).retry_after_s == retry_after_s


async def test_a_refused_connection_is_lost() -> None:
    async with http_at(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(ConnectionLost, match="ConnectError"):
            await http.get("/")


@pytest.mark.parametrize("step", [resets, hangs_up])
async def test_a_connection_that_ends_without_an_answer_is_lost(
    step: Step,
) -> None:
    async with open_http_peer(step, answers()) as peer, http_at(peer.url) as http:
        with pytest.raises(ConnectionLost):
            await http.get("/")
        assert (await http.get("/")).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"what?\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000,
    ],
)
async def test_what_is_not_http_is_a_lost_connection(garbage: bytes) -> None:
    async with open_http_peer(says(garbage)) as peer, http_at(peer.url) as http:
        with pytest.raises(ConnectionLost):
            await http.get("/")


async def test_a_cookie_is_not_kept() -> None:
    cookie = answers(headers="Set-Cookie: a=\u00ff; Path=/\r\n")
    async with open_http_peer(cookie) as peer, http_at(peer.url) as http:
        for _ in range(2 * LANES):
            await http.get("/")
    assert not any(b"cookie" in head.lower() for head in peer.requests)


async def test_a_body_cut_short_is_a_lost_connection() -> None:
    async def half(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await hangs_up(stream)

    async with open_http_peer(half) as peer, http_at(peer.url) as http:
        with pytest.raises(ConnectionLost):
            await http.get("/")


async def test_a_silent_server_is_given_up() -> None:
    async with open_http_peer(is_silent) as peer, http_at(peer.url, request_timeout_s=0.1) as http:
        with trio.fail_after(10), pytest.raises(ConnectionLost, match="ReadTimeout"):
            await http.get("/")


DRIP = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000


@pytest.mark.parametrize("start", [len(DRIP) - 1000, 9], ids=["in the body", "in the head"])
async def test_a_dripping_answer_is_cut_off(start: int) -> None:
    drip = says(DRIP[:start], *(DRIP[i : i + 1] for i in range(start, len(DRIP))), pause_s=0.05)
    async with open_http_peer(drip, answers()) as peer, http_at(peer.url, request_timeout_s=0.3) as http:
        with trio.fail_after(10), pytest.raises(ConnectionLost, match=r"no whole answer within 1\.3 s"):
            await http.get("/")
        assert (await http.get("/")).status == 200


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_oversized_body_is_refused_and_not_held(is_chunked: bool) -> None:
    size = 10 * BODY_BYTES_MAX

    async def flood(stream: trio.SocketStream) -> None:
        framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}"
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for _ in range(size // 65536):
            await stream.send_all(b"10000\r\n" + bytes(65536) + b"\r\n" if is_chunked else bytes(65536))

    async with open_http_peer(flood, answers()) as peer, http_at(peer.url) as http:
        with pytest.raises(BadReply, match="more than 8388608 bytes"):
            await http.get("/")
        assert (await http.get("/")).status == 200


async def test_a_body_of_the_greatest_size_is_accepted() -> None:
    async with open_http_peer(answers(bytes(BODY_BYTES_MAX))) as peer, http_at(peer.url) as http:
        assert len((await http.get("/")).body) == BODY_BYTES_MAX


async def test_a_compressed_body_is_refused() -> None:
    zipped = answers(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")
    async with open_http_peer(zipped) as peer, http_at(peer.url) as http:
        with pytest.raises(BadReply, match="coding 'gzip'"):
            await http.get("/")


async def test_too_many_waiting_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REQUESTS_WAITING_MAX", 3)
    refused: list[ConnectionLost] = []

    async def ask(http: Http) -> None:
        try:
            await http.get("/")
        except ConnectionLost as error:
            refused.append(error)

    async with open_http_peer(is_silent) as peer, http_at(peer.url) as http, trio.open_nursery() as nursery:
        for _ in range(LANES + 3 + 2):
            nursery.start_soon(ask, http)
            await trio.testing.wait_all_tasks_blocked()
        assert len(refused) == 2
        nursery.cancel_scope.cancel()


async def test_a_request_whose_caller_left_is_not_sent() -> None:
    gate = trio.Event()

    async def held(stream: trio.SocketStream) -> None:
        await gate.wait()
        await answers()(stream)

    async with open_http_peer(held) as peer, http_at(peer.url) as http, trio.open_nursery() as nursery:
        for _ in range(LANES):
            nursery.start_soon(http.get, "/busy")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01):
            await http.get("/left")
        nursery.start_soon(http.get, "/stayed")
        gate.set()
    assert len(peer.requests) == LANES + 1
    assert not any(b"/left" in head for head in peer.requests)


async def test_a_storm_of_cancelled_callers_leaves_the_client_healthy() -> None:
    waits = itertools.cycle((0.0, 0.003, 0.017, 0.009, 0.02))

    async def slow(stream: trio.SocketStream) -> None:
        await trio.sleep(next(waits))
        await answers(b"ok")(stream)

    async def caller(http: Http, patience_s: float) -> None:
        with trio.move_on_after(patience_s):
            await http.get("/")

    async with open_http_peer(slow) as peer, http_at(peer.url) as http:
        for _ in range(15):
            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(caller, http, number * 0.005)
        with trio.fail_after(10):
            for _ in range(2 * LANES):
                assert (await http.get("/")).body == b"ok"


async def test_leaving_ends_requests_under_way_at_once() -> None:
    async with open_http_peer(is_silent) as peer:
        outcomes: list[str] = []

        async def ask(http: Http) -> None:
            try:
                await http.get("/")
            except ConnectionLost as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            with trio.fail_after(5):
                async with http_at(peer.url, request_timeout_s=60) as http:
                    for _ in range(LANES + 2):
                        nursery.start_soon(ask, http)
                    await trio.testing.wait_all_tasks_blocked(0.05)
        assert outcomes == ["GET /: we are closing"] * (LANES + 2)


async def test_an_error_in_the_body_goes_up_as_it_is() -> None:
    async with open_http_peer(answers()) as peer, websocket_peer(is_quiet) as url:
        with pytest.raises(KeyError, match="mine"):
            async with http_at(peer.url):
                raise KeyError("mine")
        with pytest.raises(KeyError, match="mine"):
            async with websocket_at(url):
                raise KeyError("mine")


# --- WebSocket


async def is_quiet(connection: trio_websocket.WebSocketConnection) -> None:
    await connection.get_message()


async def echoes(connection: trio_websocket.WebSocketConnection) -> None:
    while True:
        await connection.send_message(await connection.get_message())


async def test_messages_go_out_as_text_and_come_in_as_bytes() -> None:
    async with websocket_peer(echoes) as url, websocket_at(url) as socket_:
        await socket_.send('{"event":"ping"}')
        await socket_.send("größer".encode())
        assert await socket_.receive() == b'{"event":"ping"}'
        assert await socket_.receive() == "größer".encode()


async def test_messages_before_the_close_are_received_then_its_code_and_reason() -> None:
    async def leaves(connection: trio_websocket.WebSocketConnection) -> None:
        for number in range(100):
            await connection.send_message(str(number))
        await connection.aclose(4001, "go \x1b[31maway")

    async with websocket_peer(leaves) as url, websocket_at(url) as socket_:
        await trio.sleep(0.05)
        assert [await socket_.receive() for _ in range(100)] == [b"%d" % number for number in range(100)]
        with pytest.raises(ConnectionLost, match=r"closed with 4001 .*: go \[31maway") as lost:
            await socket_.receive()
        assert (lost.value.code, lost.value.reason) == (4001, "go [31maway")
        with pytest.raises(ConnectionLost):
            await socket_.send("too late")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
async def test_the_close_code_is_told(code: int) -> None:
    async def leaves(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.aclose(code)

    async with websocket_peer(leaves) as url, websocket_at(url) as socket_:
        with pytest.raises(ConnectionLost, match=f"closed with {code}") as lost:
            await socket_.receive()
    assert (lost.value.code, lost.value.reason) == (code, "")


async def test_a_binary_message_is_refused() -> None:
    async def sends_binary(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.send_message(b"\x00\x01")
        await is_quiet(connection)

    async with websocket_peer(sends_binary) as url, websocket_at(url) as socket_:
        with pytest.raises(BadReply, match="binary"):
            await socket_.receive()


async def test_a_refused_websocket_is_lost() -> None:
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
async def test_a_handshake_that_fails_is_told_at_once(step: Step, words: str) -> None:
    async with open_http_peer(step) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match=words):
            async with websocket_at(peer.ws_url, connect_timeout_s=60):
                pass


async def test_an_endless_refusal_is_not_read_to_its_end() -> None:
    async def flood(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"10000\r\n" + bytes(65536) + b"\r\n")

    async with open_http_peer(flood) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match="an endless handshake"):
            async with websocket_at(peer.ws_url, connect_timeout_s=60):
                pass


@pytest.mark.parametrize("step", [is_silent, says(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\nx")])
async def test_a_handshake_that_is_not_answered_to_its_end_is_given_up(step: Step) -> None:
    async with open_http_peer(step) as peer:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match="no handshake in time"):
            async with websocket_at(peer.ws_url, connect_timeout_s=0.1):
                pass


async def test_a_handshake_answered_with_429_asks_us_to_wait() -> None:
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


async def test_a_reset_is_lost() -> None:
    async with raw_peer(resets) as url, websocket_at(url) as socket_:
        with pytest.raises(ConnectionLost, match="ConnectionResetError"):
            await socket_.receive()


async def test_an_end_without_a_close_frame_is_lost() -> None:
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
async def test_a_broken_frame_is_a_lost_connection(frame: bytes) -> None:
    async with raw_peer(says(frame, pause_s=10)) as url, websocket_at(url) as socket_:
        with trio.fail_after(5), pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_a_silent_peer_is_left_to_the_callers_deadline_and_does_not_delay_the_exit() -> None:
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


async def test_a_cancelled_receive_loses_no_message() -> None:
    async with websocket_peer(echoes) as url, websocket_at(url) as socket_:
        with trio.move_on_after(0.02):
            await socket_.receive()
        await socket_.send("1")
        assert await socket_.receive() == b"1"


async def test_a_cancelled_send_drops_the_connection() -> None:
    async with raw_peer(is_silent) as url, websocket_at(url) as socket_:
        with trio.move_on_after(0.1) as scope:
            await socket_.send("x" * 50_000_000)  # more than the peer's buffers hold
        assert scope.cancelled_caught
        with pytest.raises(ConnectionLost):
            await socket_.send("more")
        with pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_a_send_that_takes_too_long_drops_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SEND_TIMEOUT_S", 0.1)
    async with raw_peer(is_silent) as url, websocket_at(url) as socket_:
        with trio.fail_after(10), pytest.raises(ConnectionLost, match="could not send"):
            await socket_.send("x" * 50_000_000)  # more than the peer's buffers hold
        with pytest.raises(ConnectionLost):
            await socket_.receive()


async def test_two_tasks_may_send_and_receive_at_once() -> None:
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


async def test_a_message_of_the_greatest_size_is_received_and_one_byte_more_is_not() -> None:
    async def sends_two(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.send_message("x" * transport.MESSAGE_BYTES_MAX)
        await connection.get_message()
        await connection.send_message("x" * (transport.MESSAGE_BYTES_MAX + 1))
        await connection.get_message()

    async with websocket_peer(sends_two) as url, websocket_at(url) as socket_:
        assert len(await socket_.receive()) == transport.MESSAGE_BYTES_MAX
        await socket_.send("next")
        with pytest.raises(ConnectionLost, match="maximum message size") as lost:
            await socket_.receive()
    assert lost.value.code == 1009


async def test_a_small_bound_holds_although_more_arrives_at_once() -> None:
    async def sends_much(connection: trio_websocket.WebSocketConnection) -> None:
        for _ in range(20):
            await connection.send_message("x" * 3000)
        await connection.get_message()

    async def receives(url: str) -> None:
        async with open_websocket(url, connect_timeout_s=5, message_bytes_max=1000) as socket_:
            await trio.sleep(0.05)
            await socket_.receive()

    async with websocket_peer(sends_much) as url:
        with pytest.raises(ConnectionLost):
            await receives(url)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_of_100_mb_is_never_held(is_fragmented: bool) -> None:
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


@pytest.fixture
def own_certificate(tmp_path: Path) -> Path:
    """Return a file with a new key and the certificate for `localhost` that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    file = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    make += " -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*make.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True
    )
    file.write_text((tmp_path / "key").read_text() + (tmp_path / "cert").read_text())
    return file


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(own_certificate: Path) -> None:
    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.do_handshake()

    async with trio.open_nursery() as nursery:
        serve_tls = partial(trio.serve_ssl_over_tcp, serve, 0, server_context(own_certificate), host="127.0.0.1")
        listeners = await nursery.start(serve_tls)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with trio.fail_after(10):
            with pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"):
                async with websocket_at(f"wss://localhost:{port}/", connect_timeout_s=60):
                    pass
            async with http_at(f"https://localhost:{port}") as http:
                with pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"):
                    await http.get("/")
        nursery.cancel_scope.cancel()


async def test_an_encrypted_websocket_works(own_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- trying again


def test_the_wait_doubles_up_to_its_maximum() -> None:
    low, high = Backoff(0.5, 60.0, lambda: 0.0), Backoff(0.5, 60.0, lambda: 1.0)
    assert [low.delay(attempt) for attempt in range(9)] == [0.5] * 9
    assert [high.delay(attempt) for attempt in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.floats(0.01, 5), st.floats(5, 600), st.floats(0, 0.999), st.integers(0, 10**6))
def test_the_wait_stays_in_its_bounds(minimum_s: float, maximum_s: float, random: float, attempt: int) -> None:
    assert minimum_s <= Backoff(minimum_s, maximum_s, lambda: random).delay(attempt) <= maximum_s


class Sessions:
    """Runs scripted sessions: each lives some seconds, then ends with its error."""

    def __init__(self, *script: tuple[float, BaseException | None]) -> None:
        self.script = list(script)
        self.lost: list[tuple[str, float]] = []

    async def session(self) -> None:
        life_s, error = self.script.pop(0)
        await trio.sleep(life_s)
        if error is not None:
            raise error

    def on_lost(self, error: ExchangeError, delay_s: float) -> None:
        self.lost.append((str(error), delay_s))

    async def run(self) -> None:
        with pytest.raises(KeyError, match="enough"):
            await keep_connected(self.session, Backoff(1.0, 8.0, lambda: 1.0), self.on_lost)


ENOUGH = (0.0, KeyError("enough"))


async def test_a_lost_session_runs_again_later_and_later(autojump_clock: trio.testing.MockClock) -> None:
    sessions = Sessions(*[(1.0, ConnectionLost("gone"))] * 5, ENOUGH)
    await sessions.run()
    assert sessions.lost == [("gone", 2), ("gone", 4), ("gone", 8), ("gone", 8), ("gone", 8)]


async def test_a_session_that_lived_long_begins_anew(autojump_clock: trio.testing.MockClock) -> None:
    gone = ConnectionLost("gone")
    sessions = Sessions((0.0, gone), (0.0, gone), (transport.HEALTHY_AFTER_S, gone), (0.0, gone), ENOUGH)
    await sessions.run()
    assert [delay_s for _, delay_s in sessions.lost] == [2, 4, 2, 4]


async def test_the_exchange_names_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    sessions = Sessions(
        (0.0, RateLimited("slow down", 100.0)), (0.0, RateLimited("slow down", 0.1)), (0.0, RateLimited("why")), ENOUGH
    )
    await sessions.run()
    assert [delay_s for _, delay_s in sessions.lost] == [100, 4, 8]


async def test_a_broken_protocol_and_a_quiet_end_count_as_lost(autojump_clock: trio.testing.MockClock) -> None:
    sessions = Sessions((0.0, BadReply("nonsense")), (0.0, None), ENOUGH)
    await sessions.run()
    assert [words for words, _ in sessions.lost] == ["nonsense", "the session ended"]


async def test_losses_out_of_nurseries_are_understood(autojump_clock: trio.testing.MockClock) -> None:
    inner = ExceptionGroup("inner", [ConnectionLost("gone"), RateLimited("wait", 50.0)])
    sessions = Sessions((0.0, ExceptionGroup("outer", [inner, ConnectionLost("gone too")])), ENOUGH)
    await sessions.run()
    assert sessions.lost == [("wait", 50.0)]


async def test_other_errors_beside_a_loss_go_up(autojump_clock: trio.testing.MockClock) -> None:
    sessions = Sessions((0.0, ExceptionGroup("both", [ConnectionLost("gone"), ValueError("bug")])))
    with pytest.raises(ExceptionGroup) as group:
        await keep_connected(sessions.session, Backoff(1.0, 8.0, lambda: 1.0), sessions.on_lost)
    assert group.group_contains(ValueError, match="bug")
    assert sessions.lost == []
