"""The network of the wire tier: the real HTTP and WebSocket libraries at both ends, and bytes between them in memory.

What is sent is cut into pieces, each with its latency; a piece may be changed, held back or lost, and a connection may
break at any byte. The exchange's side of every connection lives in the nursery of the world.
"""

from __future__ import annotations

import errno
import os
import socket as sockets
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import httpcore
import httpx
import trio
from httpcore._async import http11
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from wsproto import frame_protocol, utilities

from actors.simulation.draws import Latencies, LatencyDraw
from actors.simulation.network import CLIENT_ADDRESS, KEEP_ALIVE_S, RESENT_WITHIN_S
from actors.simulation.outages import Outages, SocketsCut, Where
from actors.simulation.pipes import End, Pipe
from actors.simulation.trace import Trace
from bot.exchange import lean_websocket
from bot.exchange.network import HttpPort, SocketPort
from bot.exchange.simulated.server import SimulatedExchange, server_config
from bot.exchange.transport import open_http, open_websocket

SERVER_ADDRESS: Final = ("192.0.2.2", 443)
METHODS: Final = (b"GET ", b"POST ", b"PUT ", b"DELETE ")
TOP_BIT: Final = 0x80
CUT_BITS: Final = 2
"""One send in so many (as a power of two) is cut into pieces."""
PIECES_MAX: Final = 3
Direction = Literal["out", "in"]


@dataclass(slots=True, eq=False)
class Wire:
    """One TCP connection, both ways of it."""

    where: Where
    to_client: Pipe = field(default_factory=Pipe)
    to_server: Pipe = field(default_factory=Pipe)
    request: tuple[str, str] = ("", "")
    """Method and path of the last request on it."""
    is_deaf: bool = False
    """What is sent on it from now on vanishes."""

    def break_off(self, *, is_reset: bool) -> None:
        """End it at both ends; a reset loses what is under way."""
        self.to_client.cut(End(is_reset=is_reset), drops=is_reset)
        self.to_server.cut(End(is_reset=is_reset), drops=True)


class WireSocket:
    """What hypercorn and the exchange ask of the socket beneath a stream."""

    family: Final = sockets.AF_INET

    def __init__(self, peer: tuple[str, int], own: tuple[str, int], close: Callable[[bool], None]) -> None:
        self._peer = peer
        self._own = own
        self._close = close
        self.resets = False
        """Whether closing breaks the connection."""

    def getpeername(self) -> tuple[str, int]:
        """Return the other end's address."""
        return self._peer

    def getsockname(self) -> tuple[str, int]:
        """Return this end's address."""
        return self._own

    def fileno(self) -> int:
        """Return a number that is no file's."""
        return 0

    def close(self) -> None:
        """End the connection now, without a word."""
        self._close(self.resets)


class WireStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self, incoming: Pipe, send: Callable[[bytes | End], bool], socket: WireSocket) -> None:
        self.socket = socket
        self._incoming = incoming
        self._send = send
        self._rest = b""
        self._is_closed = False
        self.is_dead = False
        """Its owner was killed: it waits for ever."""

    def setsockopt(self, *_: object) -> None:
        """Take the one option that is ever set: to break the connection on closing."""
        self.socket.resets = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        await self._enter()
        if data and not self._send(bytes(data)):
            raise trio.BrokenResourceError from OSError(errno.EPIPE, os.strerror(errno.EPIPE))

    async def wait_send_all_might_not_block(self) -> None:
        """Return: there is always room."""
        await self._enter()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what came, empty at the end."""
        await self._enter()
        if not self._rest:
            item = await self._incoming.take()
            await self._enter()
            if isinstance(item, End):
                if item.is_reset:
                    raise trio.BrokenResourceError from ConnectionResetError(
                        errno.ECONNRESET, os.strerror(errno.ECONNRESET)
                    )
                return b""
            self._rest = item
        size = len(self._rest) if max_bytes is None else max_bytes
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    @property
    def is_readable(self) -> bool:
        """Return whether a read would not wait."""
        return bool(self._rest) or self._incoming.is_due

    async def send_eof(self) -> None:
        """Say that nothing more comes."""
        await self._enter()
        self._send(End())

    async def aclose(self) -> None:
        """End this end."""
        if not self._is_closed and not self.is_dead:
            self._is_closed = True
            self._send(End())
            self._incoming.cut(End(), drops=True)
        await trio.lowlevel.checkpoint()

    async def _enter(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_dead:
            await trio.sleep_forever()
        if self._is_closed:
            raise trio.ClosedResourceError


class _HttpStream(httpcore.AsyncNetworkStream):
    """A `WireStream` as httpcore wants it."""

    def __init__(self, stream: WireStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        try:
            with trio.fail_after(_or_ever(timeout)):
                return await self._stream.receive_some(max_bytes)
        except trio.TooSlowError as error:
            raise httpcore.ReadTimeout from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error.__cause__ or "")) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        try:
            with trio.fail_after(_or_ever(timeout)):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore.WriteTimeout from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error.__cause__ or "")) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.is_readable if info == "is_readable" else None


class _HttpBackend(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore."""

    def __init__(self, open_tcp: Callable[[], Any]) -> None:
        self._open_tcp = open_tcp

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del host, port, local_address, socket_options
        try:
            with trio.fail_after(_or_ever(timeout)):
                return _HttpStream(await self._open_tcp())
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _HttpTransport(httpx.AsyncHTTPTransport):
    """httpx over our own connections; everything else as it is."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        # Not super().__init__: it reads the certificates of this machine, for nothing.
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE_S, network_backend=backend
        )


def _or_ever(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout


class WireNetwork:
    """One incarnation's network. Implements `Network`, and has what `MemoryNetwork` has."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        nursery: trio.Nursery,
        outages: Outages,
        latencies: Latencies,
        rng: Random,
        trace: Trace,
    ) -> None:
        self.trace = trace
        self._exchange = exchange
        self._nursery = nursery
        self._outages = outages
        self._rng = rng
        self._rest_s = {"out": LatencyDraw(latencies.request, rng), "in": LatencyDraw(latencies.answer, rng)}
        self._frame_s = LatencyDraw(latencies.frame, rng)
        self._context = WorkerContext(None)
        self._config = _quiet_config()
        self._is_severed = False
        self._wires: dict[Wire, WireStream] = {}
        """Every open connection with the bot's end of it, oldest first."""

    # --- Network

    @asynccontextmanager
    async def open_http(
        self, base_url: str, *, connect_timeout_s: float, request_timeout_s: float, user_agent: str
    ) -> AsyncGenerator[HttpPort]:
        """Open a client; see `transport.open_http`."""
        backend = _HttpBackend(lambda: self._open_tcp("rest"))
        async with open_http(
            base_url,
            connect_timeout_s=connect_timeout_s,
            request_timeout_s=request_timeout_s,
            user_agent=user_agent,
            transport=lambda: _HttpTransport(backend),
        ) as http:
            yield http

    @asynccontextmanager
    async def open_websocket(
        self, url: str, *, connect_timeout_s: float, is_lean: bool = False
    ) -> AsyncGenerator[SocketPort]:
        """Open a WebSocket; see `transport.open_websocket`."""
        where: Where = "private" if "private" in urlsplit(url).path else "public"
        opener = lean_websocket.open_lean_websocket if is_lean else open_websocket
        async with opener(
            url, connect_timeout_s=connect_timeout_s, open_tcp=lambda _host, _port: self._open_tcp(where)
        ) as socket:
            yield socket

    # --- the end of an incarnation

    def sever(self) -> None:
        """Let nothing that this incarnation does have any effect any more: it is dead. What has left it arrives."""
        self._is_severed = True
        for wire, stream in tuple(self._wires.items()):
            stream.is_dead = True
            self._carry("out", wire, End())
            wire.to_client.cut(End(), drops=True)

    def cut(self, cut: SocketsCut) -> None:
        """Break the sockets that a cut is about."""
        for wire in tuple(self._wires):
            if wire.where != "rest" and cut.place in ("all", "sockets", wire.where):
                wire.break_off(is_reset=cut.is_reset)

    # --- connections

    async def _open_tcp(self, where: Where) -> WireStream:
        """Return the bot's end of a new connection.

        Raises:
            OSError: there is none.

        """
        if self._is_severed:
            await trio.sleep_forever()
        match self._outages.no_connection(where, trio.current_time()):
            case "silent":
                await trio.sleep_forever()
            case "refused":
                await trio.sleep(self._rest_s["out"].draw_s())
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            case "no name":
                await trio.sleep(self._rest_s["out"].draw_s())
                raise sockets.gaierror(sockets.EAI_AGAIN, "Temporary failure in name resolution")
            case "":
                await trio.sleep(self._rest_s["out"].draw_s() + self._rest_s["in"].draw_s())
        self.trace.count("connection")
        wire = Wire(where)
        # The exchange tells connections apart by their address, those of dead bots too.
        client = (CLIENT_ADDRESS, self.trace.counts["connection"])
        ours, theirs = (
            WireSocket(SERVER_ADDRESS, client, lambda is_reset: wire.break_off(is_reset=is_reset)),
            WireSocket(client, SERVER_ADDRESS, lambda is_reset: wire.break_off(is_reset=is_reset)),
        )
        stream = WireStream(wire.to_client, lambda item: self._carry("out", wire, item), ours)
        self._wires[wire] = stream
        self._nursery.start_soon(
            self._serve, wire, WireStream(wire.to_server, lambda item: self._carry("in", wire, item), theirs)
        )
        return stream

    async def _serve(self, wire: Wire, stream: WireStream) -> None:
        """Be the exchange's end of a connection."""
        try:
            await self._exchange.serve_stream(self._config, self._context, cast("trio.SocketStream", stream))
        finally:
            del self._wires[wire]

    # --- what travels

    def _carry(self, way: Direction, wire: Wire, item: bytes | End) -> bool:
        """Send something on its way; return False when the connection is over."""
        pipe = wire.to_server if way == "out" else wire.to_client
        if pipe.is_over:
            return False
        if isinstance(item, End):
            pipe.put(item, self._arrival_s(way, wire.where))
            return True
        self.trace.note("sent" if way == "out" else "received", wire.where, item)
        if wire.where == "rest" and not self._is_lucky(way, wire, item):
            return True
        if not wire.is_deaf:
            for piece in self._pieces(item):
                pipe.put(self._changed(way, wire.where, piece), self._arrival_s(way, wire.where))
        return True

    def _is_lucky(self, way: Direction, wire: Wire, data: bytes) -> bool:
        """Judge the beginning of a request or of an answer; return False when the connection breaks under it."""
        if way == "out" and data.startswith(METHODS):
            method, target, _ = data.split(b" ", 2)
            wire.request = method.decode(), target.decode("latin-1").partition("?")[0]
            self.trace.count("request")
        elif way == "out" or not data.startswith(b"HTTP/1.1 "):
            return True
        fate = self._outages.request(way, *wire.request, trio.current_time())
        if fate == "broken":
            wire.break_off(is_reset=True)
        wire.is_deaf = wire.is_deaf or fate == "lost"
        return fate != "broken"

    def _pieces(self, data: bytes) -> list[bytes]:
        """Return `data` as it may be cut on its way."""
        if len(data) <= 1 or self._rng.getrandbits(CUT_BITS):
            return [data]
        cuts = sorted(self._rng.randrange(1, len(data)) for _ in range(self._rng.randrange(1, PIECES_MAX)))
        edges = [0, *cuts, len(data)]
        return [data[begin:end] for begin, end in pairwise(edges) if begin < end]

    def _changed(self, way: Direction, where: Where, piece: bytes) -> bytes:
        """Return a piece, perhaps with the top bit of one byte flipped: in text that never passes for another text.

        Beneath TLS nothing else would arrive as it was not sent.
        """
        at = self._outages.corrupts(way, where, len(piece), trio.current_time())
        if at is None:
            return piece
        return piece[:at] + bytes([piece[at] ^ TOP_BIT]) + piece[at + 1 :]

    def _arrival_s(self, way: Direction, where: Where) -> float:
        now_s = trio.current_time()
        free_s = self._outages.parted_until_s(way, where, now_s)
        draw = self._rest_s[way] if where == "rest" else self._frame_s
        held_s = min(free_s - now_s, RESENT_WITHIN_S)
        return now_s + held_s + draw.draw_s() + self._outages.delay_s(way, where, now_s)


def _quiet_config() -> Config:
    config = server_config()
    config.include_date_header = False  # it would be the real one
    return config


@contextmanager
def seeded_libraries(rng: Random) -> Generator[None]:
    """Let what the libraries draw and ask the clock come from the world, until the block is left.

    A WebSocket client masks its frames with random bytes, and an HTTP connection grows old by the monotonic clock: the
    bytes on the wire, and so what becomes of a corrupted one, would differ from run to run.
    """
    seams: list[tuple[Any, str, object]] = [
        (frame_protocol, "os", SimpleNamespace(urandom=rng.randbytes)),
        (utilities, "os", SimpleNamespace(urandom=rng.randbytes)),
        (lean_websocket, "secrets", SimpleNamespace(token_bytes=rng.randbytes)),
        (http11, "time", SimpleNamespace(monotonic=trio.current_time)),
    ]
    before = [getattr(module, name) for module, name, _ in seams]
    for module, name, made in seams:
        setattr(module, name, made)
    try:
        yield
    finally:
        for (module, name, _), was in zip(seams, before, strict=True):
            setattr(module, name, was)
