from __future__ import annotations

import itertools
import ssl
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import BadReply, ConnectionLost, ExchangeError, RateLimited, SettingsError
from bot.exchange import transport
from bot.exchange.transport import (
    BODY_BYTES_MAX,
    LANES,
    Backoff,
    Http,
    keep_connected,
    open_http,
)
from tests.support.certificates import make_certificate, server_context
from tests.support.http_peer import Step, answers, free_port, hangs_up, is_silent, open_http_peer, resets, says


def http_at(url: str, request_timeout_s: float = 5.0) -> AbstractAsyncContextManager[Http]:
    return open_http(url, connect_timeout_s=0.5, request_timeout_s=request_timeout_s, user_agent="test")


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
    async with open_http_peer(answers()) as peer:
        with pytest.raises(KeyError, match="mine"):
            async with http_at(peer.url):
                raise KeyError("mine")


@pytest.fixture
def own_certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


async def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(own_certificate: Path) -> None:
    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.do_handshake()

    async with trio.open_nursery() as nursery:
        serve_tls = partial(trio.serve_ssl_over_tcp, serve, 0, server_context(own_certificate), host="127.0.0.1")
        listeners = await nursery.start(serve_tls)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        async with http_at(f"https://localhost:{port}") as http:
            with trio.fail_after(10), pytest.raises(ConnectionLost, match="CERTIFICATE_VERIFY_FAILED"):
                await http.get("/")
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
