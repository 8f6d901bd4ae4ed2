"""HTTP and WebSocket connections: the only module that imports httpx and trio_websocket.

It knows how connections fail, and says so in our own words (`ConnectionLost`, `RateLimited`, `BadReply`); it
does not know what travels over them. The rules that it is built on:

- A cancel scope around an httpx request can ruin the client's pool, so requests live in tasks of their own,
  one client each. A caller only waits; an overdue request ends because its client is closed under it.
- A request is sent at most once. Nothing here tries again, and an error says whether it may have arrived.
- A WebSocket whose send was cancelled may have half a frame on the wire, so it is dropped.
- trio-websocket never notices that its peer goes away during the opening handshake, so our stream tells.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import CookieJar
from ipaddress import ip_address
from typing import Final, NoReturn, cast
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import certifi
import h11
import httpx
import msgspec
import outcome
import trio
import trio_websocket
import wsproto.utilities

from bot.core.text import safe_text
from bot.errors import BadReply, ConnectionLost, ExchangeError, NotSent, RateLimited, SettingsError

LANES: Final = 4
"""Requests that may be under way at once; each lane has a client, and so a connection, of its own."""
URGENT_LANES: Final = 2
"""Lanes beside those, for requests that must not wait behind slow answers: cancels."""
REQUESTS_WAITING_MAX: Final = 256
BODY_BYTES_MAX: Final = 8 * 2**20
MESSAGE_BYTES_MAX: Final = 2**20
MESSAGE_QUEUE_SIZE: Final = 256
"""With trio-websocket's own 1, a reader that is busy for a moment would keep pings unanswered."""
RECEIVE_BUFFER_BYTES: Final = 64 * 2**10
HANDSHAKE_BYTES_MAX: Final = 4 * RECEIVE_BUFFER_BYTES
SEND_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 2.0
HEALTHY_AFTER_S: Final = 30.0
"""A session that lived this long was a good one: the next attempt is a first attempt again."""
RETRY_AFTER_S_MAX: Final = 3600.0
HTTP_TOO_MANY_REQUESTS: Final = 429
CLOSED_WITHOUT_A_WORD: Final = 1006
"""The close code of a connection that ended without a close frame."""
REASON_LENGTH_MAX: Final = 123
"""Longest reason in a WebSocket close frame, in bytes (RFC 6455, 5.5)."""
READER_ERRORS: Final = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    wsproto.utilities.ProtocolError,
    h11.ProtocolError,
    UnicodeError,
)
"""What a peer's bytes can make trio-websocket's reader task end with; found by fuzzing its handshake."""
BEFORE_SENDING: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.InvalidURL)
"""How httpx fails without having sent a byte of the request: no address, no connection, no TLS, no free slot."""


# --- trying again


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before trying again: a random time whose bound doubles."""

    minimum_s: float
    maximum_s: float
    rng: Callable[[], float]
    """Returns a number in [0, 1)."""

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after attempt `attempt` (0 is the first)."""
        ceiling_s = min(self.maximum_s, self.minimum_s * 2.0 ** min(attempt + 1, 64))
        return self.minimum_s + self.rng() * (ceiling_s - self.minimum_s)

    def delay_after(self, error: Exception, attempt: int) -> float:
        """Return the wait after `error`; when the exchange named a longer one, that one."""
        asked_s = error.retry_after_s if isinstance(error, RateLimited) else None
        return max(self.delay(attempt), asked_s or 0.0)


async def keep_connected(
    session: Callable[[], Awaitable[None]],
    backoff: Backoff,
    on_lost: Callable[[ExchangeError, float], None],
) -> NoReturn:
    """Run `session` again each time it ends or its connection is lost; any other exception goes up.

    `on_lost` is told the error and the wait in seconds. A peer that breaks the protocol (`BadReply`) and one
    that asks us to wait (`RateLimited`) count as lost. The attempt count starts anew after a session of
    `HEALTHY_AFTER_S`.
    """
    attempt = 0
    while True:
        started_s = trio.current_time()
        error: ExchangeError = ConnectionLost("the session ended")
        try:
            await session()
        except* (ConnectionLost, RateLimited, BadReply) as lost:
            error = _most_patient(lost)
        if trio.current_time() - started_s >= HEALTHY_AFTER_S:
            attempt = 0
        delay_s = backoff.delay_after(error, attempt)
        on_lost(error, delay_s)
        await trio.sleep(delay_s)
        attempt += 1


def _most_patient(group: BaseExceptionGroup[ExchangeError]) -> ExchangeError:
    """Return the error that asks for the longest wait, else the first."""
    errors = list(_leaves(group))
    return max(errors, key=lambda error: (error.retry_after_s or 0.0) if isinstance(error, RateLimited) else 0.0)


def _leaves(group: BaseExceptionGroup[ExchangeError]) -> list[ExchangeError]:
    found: list[ExchangeError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


# --- addresses and certificates


def checked_url(url: str, scheme: str) -> SplitResult:
    """Return `url` in parts; `scheme` is `http` or `ws`; all but loopback hosts need its secure form.

    Raises:
        SettingsError: another scheme, no host, a bad port, or an open connection to another machine.

    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{url!r}: {error}") from error
    if parts.scheme not in {scheme, scheme + "s"} or not parts.hostname or port == 0:
        raise SettingsError(f"{url!r}: expected {scheme}s://HOST[:PORT]")
    if "@" in parts.netloc:
        raise SettingsError(f"{scheme}://…@{parts.hostname}: a name or a password does not belong in an address")
    if parts.scheme == scheme and not _is_loopback(parts.hostname):
        raise SettingsError(f"{url!r}: {scheme}:// is only for this machine; use {scheme}s://")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def tls_context() -> ssl.SSLContext:
    """Return a verifying client context: TLS 1.2 or newer, Mozilla's roots, no environment variables."""
    # Made once: reading the roots takes 40 ms. Not create_default_context, which writes session keys to $SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    return context


# --- HTTP


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A whole HTTP answer. `retry_after_s` is what a Retry-After header asks for, if there is one."""

    status: int
    body: bytes
    retry_after_s: float | None = None


@dataclass(slots=True, eq=False)
class _Request:
    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    has_started: trio.Event = field(default_factory=trio.Event)
    """Set when a lane took it up: from then on it may arrive. Or when it ended without that."""
    done: trio.Event = field(default_factory=trio.Event)
    result: outcome.Outcome[Response] | None = None
    has_caller: bool = True

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def name(self) -> str:
        """What errors call it: nothing of its query, its headers or its body."""
        return f"{self.method} {self.path}"

    def finish(self, result: outcome.Outcome[Response]) -> None:
        if self.result is None:
            self.result = result
            self.has_started.set()
            self.done.set()


class _NoCookies(CookieJar):
    """Reads and keeps no cookie: one that is not ASCII would make httpx unable to send anything more."""

    def extract_cookies(self, response: object, request: object) -> None:
        pass


class Http:
    """A client of one HTTP/1.1 server; made by `open_http`. Callers may be cancelled at any time."""

    def __init__(
        self,
        base_url: str,
        timeout: httpx.Timeout,
        total_s: float,
        user_agent: str,
        transport: Callable[[], httpx.AsyncBaseTransport] | None,
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._timeout = timeout
        self._total_s = total_s
        self._user_agent = user_agent
        self._tls = tls_context()
        self._requests, self.waiting = trio.open_memory_channel[_Request](REQUESTS_WAITING_MAX)
        self._urgent_requests, self.urgent_waiting = trio.open_memory_channel[_Request](REQUESTS_WAITING_MAX)

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Response:
        """Return the answer to GET `path`, whatever its status; `params` are encoded here. Raises as `request`."""
        return await self._answer(_Request("GET", path, urlencode(params or {}, quote_via=quote)), self._requests)

    async def request(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        start_within_s: float = math.inf,
        is_urgent: bool = False,
    ) -> Response:
        """Return the answer to a request, whatever its status. It is sent at most once, byte for byte as given.

        `path` and `query` are encoded already. `LANES` requests are under way at once, and `URGENT_LANES` urgent
        ones. A caller that leaves while the request waits takes it back: it is not sent. One that leaves
        later does not stop it.

        Raises:
            NotSent: it was not taken up within `start_within_s`, too many wait, or we are closing.
            ConnectionLost: no whole answer came in time. It may have arrived, unless `may_have_arrived` is False.
            BadReply: the body is larger than `BODY_BYTES_MAX` or is compressed, which we do not ask for.

        """
        request = _Request(method, path, query, body, headers or {})
        wire_target = httpx.URL(self._base_url).join(request.target).raw_path.decode()
        assert wire_target == request.target, f"{request.name}: would travel as {wire_target.partition('?')[0]}"
        return await self._answer(request, self._urgent_requests if is_urgent else self._requests, start_within_s)

    async def _answer(
        self, request: _Request, requests: trio.MemorySendChannel[_Request], start_within_s: float = math.inf
    ) -> Response:
        try:
            requests.send_nowait(request)
        except trio.WouldBlock as error:
            raise NotSent(f"{request.name}: {REQUESTS_WAITING_MAX} requests wait already") from error
        except trio.ClosedResourceError as error:
            raise NotSent(_closing(request)) from error
        try:
            with trio.move_on_after(start_within_s):
                await request.has_started.wait()
            if not request.has_started.is_set():
                raise NotSent(f"{request.name}: not sent, it waited for its turn for {start_within_s:g} s")
            await request.done.wait()
        finally:
            request.has_caller = False
        assert request.result is not None
        return request.result.unwrap()

    async def run_lane(self, nursery: trio.Nursery, waiting: trio.MemoryReceiveChannel[_Request]) -> None:
        """Perform the requests of `waiting` one after another, for ever, with a client of our own."""
        client = self._new_client()
        try:
            async for request in waiting:
                if not request.has_caller:
                    request.finish(outcome.Error(NotSent(f"{request.name}: not sent, its caller left")))
                    continue
                request.has_started.set()
                nursery.start_soon(self._close_when_late, client, request.done)
                result: outcome.Outcome[Response] = outcome.Error(ConnectionLost(_closing(request)))
                try:
                    result = await self._outcome(client, request)
                finally:
                    request.finish(result)
                if client.is_closed:
                    client = self._new_client()
        finally:
            await _close_client(client)

    def close(self) -> None:
        """Refuse new requests, and answer those that nobody will perform any more."""
        for requests, waiting in ((self._requests, self.waiting), (self._urgent_requests, self.urgent_waiting)):
            requests.close()
            for request in _drain(waiting):
                request.finish(outcome.Error(NotSent(_closing(request))))
            waiting.close()

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._base_url,
            headers={
                "User-Agent": self._user_agent,
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            timeout=self._timeout,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._tls,
            cookies=_NoCookies(),
            http2=False,
            trust_env=False,
            follow_redirects=False,
            transport=None if self._transport is None else self._transport(),
        )

    async def _outcome(self, client: httpx.AsyncClient, request: _Request) -> outcome.Outcome[Response]:
        try:
            return outcome.Value(await _perform(client, request))
        except httpx.PoolTimeout as error:
            await _close_client(client)
            return _failed(request, "no free connection", error)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            late = f"no whole answer within {self._total_s:g} s"
            return _failed(request, late if client.is_closed else _words(error), error)
        except BadReply as error:
            return outcome.Error(error)

    async def _close_when_late(self, client: httpx.AsyncClient, done: trio.Event) -> None:
        with trio.move_on_after(self._total_s):
            await done.wait()
            return
        await _close_client(client)


@asynccontextmanager
async def open_http(
    base_url: str,
    *,
    connect_timeout_s: float,
    request_timeout_s: float,
    user_agent: str,
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
) -> AsyncGenerator[Http]:
    """Open a client of the server at `base_url`; connections are made when needed.

    A silent server is given up after `request_timeout_s`. One that keeps dripping is cut off after that plus
    the time that connecting may take (TCP and TLS, `connect_timeout_s` each). `transport` makes what carries the
    requests of one client, in the place of sockets.

    Raises:
        SettingsError: `base_url` is not https://, nor http:// on a loopback host.

    """
    checked_url(base_url, "http")
    timeout = httpx.Timeout(request_timeout_s, connect=connect_timeout_s, pool=connect_timeout_s)
    http = Http(base_url, timeout, request_timeout_s + 2 * connect_timeout_s, user_agent, transport)
    body_error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        for waiting in [http.waiting] * LANES + [http.urgent_waiting] * URGENT_LANES:
            nursery.start_soon(http.run_lane, nursery, waiting)
        try:
            yield http
        except BaseException as error:  # noqa: BLE001  (raised below, outside the nursery, which would wrap it)
            body_error = error
        http.close()
        nursery.cancel_scope.cancel()
    if body_error is not None:
        raise body_error


async def _perform(client: httpx.AsyncClient, request: _Request) -> Response:
    async with client.stream(
        request.method, request.target, content=request.body, headers=dict(request.headers)
    ) as reply:
        body = await _read_body(client, reply)
    if len(body) > BODY_BYTES_MAX:
        raise BadReply(f"{request.name}: a body of more than {BODY_BYTES_MAX} bytes", body)
    if (coding := reply.headers.get("content-encoding", "identity")) != "identity":
        raise BadReply(f"{request.name}: a body in the coding {safe_text(coding, 20)!r}", body)
    return Response(status=reply.status_code, body=body, retry_after_s=_retry_after_s(reply.headers))


async def _read_body(client: httpx.AsyncClient, reply: httpx.Response) -> bytes:
    """Return the body as it travelled, or a little more than `BODY_BYTES_MAX` bytes of a longer one."""
    body = bytearray()
    try:
        async for chunk in reply.aiter_raw():
            if len(body) <= BODY_BYTES_MAX:
                body += chunk
            elif not client.is_closed:
                # Leaving the loop would leave httpx's generators to the garbage collector: make it end by itself.
                await _close_client(client)
    except httpx.HTTPError:
        if len(body) <= BODY_BYTES_MAX:
            raise
    return bytes(body)


async def _close_client(client: httpx.AsyncClient) -> None:
    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
        await client.aclose()


def _closing(request: _Request) -> str:
    return f"{request.name}: we are closing"


def _failed(request: _Request, reason: str, cause: Exception) -> outcome.Error:
    error = ConnectionLost(f"{request.name}: {reason}", may_have_arrived=not isinstance(cause, BEFORE_SENDING))
    error.__cause__ = cause
    return outcome.Error(error)


def _drain(channel: trio.MemoryReceiveChannel[_Request]) -> list[_Request]:
    requests: list[_Request] = []
    while channel.statistics().current_buffer_used:
        requests.append(channel.receive_nowait())
    return requests


def _words(error: BaseException) -> str:
    """Return what went wrong: `ReadTimeout`, or `ConnectError: [Errno 111] Connection refused`."""
    text = safe_text(str(_root(error)), 200)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _root(error: BaseException) -> BaseException:
    """Return what `error` began with; of several addresses that were tried, the first one's failure."""
    if isinstance(error, BaseExceptionGroup):
        return _root(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    # httpx raises some errors "from None"; what they came from is then only their context.
    beneath = error.__cause__ or error.__context__
    return _root(beneath) if isinstance(beneath, Exception) else error


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return what a Retry-After header asks for: seconds, or a date, measured from the server's own."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_S_MAX)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait.total_seconds(), 0.0), RETRY_AFTER_S_MAX)


# --- WebSocket


class Stream(trio.abc.Stream):
    """A TCP or TLS stream that remembers how it failed, and ends a handshake that will never be answered."""

    def __init__(self, stream: trio.abc.Stream, address: str) -> None:
        self.address = address
        self.failure: BaseException | None = None
        self.is_ended = False
        self._stream = stream
        self._handshake: trio.CancelScope | None = None
        self._handshake_bytes = 0

    @contextmanager
    def handshake_until(self, deadline: float) -> Generator[None]:
        """Leave the body at `deadline`, or when this stream ends."""
        with trio.CancelScope(deadline=deadline) as self._handshake:
            yield
        self._handshake = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what came, empty at the end."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            self._end(error.__cause__ or error)
            raise
        if not data:
            self._end()
        if self._handshake is not None:
            self._handshake_bytes += len(data)
            if self._handshake_bytes > HANDSHAKE_BYTES_MAX:
                error = trio.BrokenResourceError("an endless handshake")
                self._end(error)
                raise error
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._end(error.__cause__ or error)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send has room."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream beneath."""
        self._end()
        await self._stream.aclose()

    def _end(self, failure: BaseException | None = None) -> None:
        self.is_ended = True
        self.failure = self.failure or failure
        if self._handshake is not None:
            self._handshake.cancel()


OpenTcp = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a TCP connection to (host, port); raises OSError."""


class WebSocket:
    """An open WebSocket of text messages; made by `open_websocket`. One task may send, another receive."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream

    async def send(self, text: str | bytes) -> None:
        """Send one text message; the connection is dropped if that is cancelled or takes `SEND_TIMEOUT_S`."""
        is_sent = False
        try:
            with trio.fail_after(SEND_TIMEOUT_S):
                await self._connection.send_message(text if isinstance(text, str) else text.decode())
            is_sent = True
        except trio_websocket.ConnectionClosed as closed:
            raise self._lost(closed.reason) from closed
        except trio.TooSlowError as late:
            raise ConnectionLost(f"{self._stream.address}: could not send within {SEND_TIMEOUT_S:g} s") from late
        finally:
            if not is_sent:  # half a frame may be on the wire
                await trio.aclose_forcefully(self._stream)

    async def receive(self) -> bytes:
        """Return the next message; those that came before the end of the connection are still returned.

        Raises:
            ConnectionLost: the connection is gone, with its close code and reason.
            BadReply: the message is binary.

        """
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise self._lost(closed.reason) from closed
        if isinstance(message, bytes):
            raise BadReply(f"{self._stream.address}: a binary message", message)
        return message.encode()

    async def receive_many(self) -> list[bytes]:
        """Return the messages that are there: with this library, always one. Raises as `receive` does."""
        return [await self.receive()]

    async def say_goodbye(self) -> None:
        """Close politely, unless the peer does not answer within `CLOSE_TIMEOUT_S`."""
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._connection.aclose()

    def _lost(self, reason: trio_websocket.CloseReason | None) -> ConnectionLost:
        if reason is None:
            return ConnectionLost(f"{self._stream.address}: the peer broke the WebSocket protocol")
        if self._stream.failure is not None and reason.code == CLOSED_WITHOUT_A_WORD:
            return ConnectionLost(f"{self._stream.address}: {_words(self._stream.failure)}", code=reason.code)
        text = safe_text(reason.reason or "", REASON_LENGTH_MAX)
        message = f"{self._stream.address}: closed with {reason.code} ({reason.name}){': ' if text else ''}{text}"
        return ConnectionLost(message, code=reason.code, reason=text)


@asynccontextmanager
async def open_websocket(
    url: str,
    *,
    connect_timeout_s: float,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
    user_agent: str = "",
    open_tcp: OpenTcp | None = None,
) -> AsyncGenerator[WebSocket]:
    """Open a WebSocket: address, TCP, TLS and handshake within `connect_timeout_s`.

    Leaving says goodbye, for at most `CLOSE_TIMEOUT_S`; leaving by an exception or cancelled does not. `open_tcp` opens
    the connection in the place of trio.

    Raises:
        SettingsError: `url` is not wss://, nor ws:// on a loopback host.
        ConnectionLost: no connection, or the peer refused; or the body raised it.
        RateLimited: the peer answered the handshake with status 429.

    """
    parts = checked_url(url, "ws")
    address = f"{parts.scheme}://{parts.netloc}"
    deadline = trio.current_time() + connect_timeout_s
    stream = await connect(parts, address, deadline, open_tcp)
    body_error: BaseException | None = None
    refusals: list[Exception] = []
    try:
        async with trio.open_nursery() as nursery:
            try:
                socket = await _shake_hands(nursery, stream, parts, deadline, message_bytes_max, user_agent)
                yield socket
                await socket.say_goodbye()
            except BaseException as error:  # noqa: BLE001  (raised below, outside the nursery, which would wrap it)
                body_error = error
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    except* READER_ERRORS as crash:
        # What trio-websocket's reader task ended with; our body was then cancelled for its sake.
        refusals += [error for error in crash.exceptions if not isinstance(error, BaseExceptionGroup)]
    if refusals and (body_error is None or isinstance(body_error, trio.Cancelled)):
        raise _refusal(address, refusals[0]) from refusals[0]
    if body_error is not None:
        raise body_error


async def connect(parts: SplitResult, address: str, deadline: float, open_tcp: OpenTcp | None = None) -> Stream:
    """Open a TCP connection, with TLS where `parts` asks for it, by `deadline` of trio's clock.

    Raises:
        ConnectionLost: there is none.

    """
    host = parts.hostname or ""
    opener = open_tcp or trio.open_tcp_stream
    try:
        with trio.fail_at(deadline):
            stream = await opener(host, parts.port or (80 if parts.scheme == "ws" else 443))
            return Stream(stream if parts.scheme == "ws" else await _encrypt(stream, host), address)
    except (OSError, trio.BrokenResourceError) as error:
        raise ConnectionLost(f"{address}: {_words(_root(error))}") from error
    except trio.TooSlowError as late:
        raise ConnectionLost(f"{address}: no connection in time") from late


async def _encrypt(stream: trio.abc.Stream, host: str) -> trio.abc.Stream:
    encrypted = trio.SSLStream(stream, tls_context(), server_hostname=host, https_compatible=True)
    try:
        await encrypted.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return encrypted


async def _shake_hands(
    nursery: trio.Nursery,
    stream: Stream,
    parts: SplitResult,
    deadline: float,
    message_bytes_max: int,
    user_agent: str,
) -> WebSocket:
    """Start the reader task in `nursery` and wait for the peer's consent."""
    with stream.handshake_until(deadline):
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            cast("trio.SocketStream", stream),  # any trio stream will do, says its documentation
            parts.netloc,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            extra_headers=[(b"User-Agent", user_agent.encode())] if user_agent else None,
            message_queue_size=MESSAGE_QUEUE_SIZE,
            max_message_size=message_bytes_max,
            receive_buffer_size=RECEIVE_BUFFER_BYTES,
        )
        return WebSocket(connection, stream)
    if stream.failure is not None:
        raise ConnectionLost(f"{stream.address}: {_words(stream.failure)}")
    if stream.is_ended:
        raise ConnectionLost(f"{stream.address}: closed during the handshake")
    raise ConnectionLost(f"{stream.address}: no handshake in time")


def _refusal(address: str, error: Exception) -> ExchangeError:
    """Return what the end of trio-websocket's reader task means to us."""
    if not isinstance(error, trio_websocket.ConnectionRejected):
        return ConnectionLost(f"{address}: the peer broke the protocol: {_words(_root(error))}")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in error.headers or ()}
    return refusal(address, error.status_code, headers)


def refusal(address: str, status: int, headers: Mapping[str, str]) -> ExchangeError:
    """Return what an opening handshake answered with `status` means; names of headers are in lower case."""
    message = f"{address}: refused with status {status}"
    if status != HTTP_TOO_MANY_REQUESTS:
        return ConnectionLost(message)
    return RateLimited(message, _retry_after_s(headers))
