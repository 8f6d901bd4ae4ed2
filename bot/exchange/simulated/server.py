"""The simulated exchange on loopback: HTTP and WebSocket by hypercorn, a market played to whoever subscribes.

Everything that is said is made by the pure parts; here are only tasks, queues and sockets. One task plays the market;
each connection has a queue, one task that sends from it and one that reads. A frame enters the queue at the moment it
is made, without a pause, so every connection sees the order of the venue.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ConnectionState,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from bot.exchange.simulated.events import MarketEvent, MarketSource
from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.session import Session
from bot.exchange.simulated.venue import Topic, Venue

HOST: Final = "127.0.0.1"
PUBLIC_PATH: Final = "/ws/public"
END_REASON: Final = "end of market data"
QUEUE_FULL: Final = 256
"""Frames waiting for one connection at which a market at full speed pauses."""
QUEUE_MAX: Final = 10_000
"""Frames waiting for one connection at which it is dropped: it does not read, or asks for more than it reads."""
IDLE_S: Final = 30.0
"""A session ends this long after its client's last message; in real time only."""
FAREWELL_S: Final = 0.25
"""How long leaving waits for connections to end in good order."""
LAST_FRAMES_S: Final = 5.0
"""How long a market in real time waits for its last frames to be taken, and then for the end of the connection."""
MESSAGE_BYTES_MAX: Final = 64 * 1024
"""Longest message from a client."""
KEEP_ALIVE_S: Final = 75.0
NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Close:
    """Last in a queue: close the connection."""

    code: int
    reason: str


class _Queue:
    """Frames that wait for one connection. Putting never waits; a frame leaves only when it has been sent."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | _Close] = deque()
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, frames: Iterable[bytes]) -> None:
        """Add frames at the end; what comes after the close goes nowhere."""
        if not self._is_closed:
            self._waiting.extend(frames)
            self._changed.unpark_all()

    def close(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frames that wait; only the first close counts."""
        if not self._is_closed:
            self._is_closed = True
            self._waiting.append(_Close(code, reason))
            self._changed.unpark_all()

    def close_early(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frame that is being sent."""
        while len(self._waiting) > 1 and not self._is_closed:
            self._waiting.pop()
        self.close(code, reason)

    def end(self) -> None:
        """The connection is gone: forget everything, and let everybody go who waits."""
        self._is_closed = True
        self._waiting.clear()
        self._changed.unpark_all()

    async def send_all(self, send: ASGISendCallable) -> None:
        """Send frames as they come, until a close has been sent."""
        is_open = True
        while is_open:
            while not self._waiting:
                await self._changed.park()
            frame = self._waiting[0]
            if isinstance(frame, _Close):
                is_open = False
                await send({"type": "websocket.close", "code": frame.code, "reason": frame.reason})
            else:
                await send({"type": "websocket.send", "bytes": None, "text": frame.decode()})
            if self._waiting:  # else the connection went while we sent
                self._waiting.popleft()
            if len(self._waiting) in (0, QUEUE_FULL // 2):
                self._changed.unpark_all()

    async def wait_empty(self) -> None:
        """Wait until every frame has been sent."""
        while self._waiting:
            await self._changed.park()

    async def wait_room(self) -> None:
        """Return at once below `QUEUE_FULL`; else wait until half of it has been sent, to be woken rarely."""
        while len(self._waiting) >= QUEUE_FULL:
            await self._changed.park()


@dataclass(slots=True, eq=False)
class _Connection:
    """One WebSocket connection."""

    session: Session
    stream: trio.SocketStream
    queue: _Queue = field(default_factory=_Queue)
    gone: trio.Event = field(default_factory=trio.Event)

    def abort(self) -> None:
        """Drop the connection now, even while a frame is being sent into a full socket."""
        # hypercorn shields its sending, so that only a closed socket ends it.
        self.stream.socket.close()
        self.queue.end()


class SimulatedExchange:
    """A running exchange; made by `open_exchange`."""

    def __init__(self, source: MarketSource, speed: float | None) -> None:
        self.rest_url = ""
        self.ws_url = ""
        self.ended = trio.Event()
        """Set when the source ran out and every frame was sent."""
        self.events_total = source.event_count
        """How many events the source has; None where it has no end."""
        self.venue = Venue(source.instruments, source.first_ns)
        self._speed = speed
        self._events = self.venue.open(source)
        self._started = trio.Event()
        self._connections: dict[_Connection, None] = {}
        self._subscribers: dict[Topic, list[_Connection]] = {}
        self._streams: dict[tuple[str, int], trio.SocketStream] = {}

    @property
    def events_done(self) -> int:
        """Return how many events have been applied, opening snapshots included."""
        return self.venue.events_done

    def start(self) -> None:
        """Let the market begin; until then its time stands still. Again does nothing."""
        self._started.set()

    # --- the market

    async def play(self) -> None:
        """Play the source to its end, then close every connection."""
        await self._started.wait()
        if self._speed is None:
            await self._play_at_full_speed()
        else:
            await self._play_in_real_time(self._speed)
        with trio.move_on_after(self._patience_s(LAST_FRAMES_S)):
            for connection in tuple(self._connections):
                await connection.queue.wait_empty()
        log.info("end of market data after %d events", self.events_done)
        self.ended.set()
        for connection in self._connections:
            connection.queue.close(NORMAL_CLOSURE, END_REASON)

    def _patience_s(self, seconds: float) -> float:
        """Return how long to wait for a client: in real time `seconds`, at full speed for ever."""
        return math.inf if self._speed is None else seconds

    async def _play_at_full_speed(self) -> None:
        for event in self._events:
            self._publish(event)
            for connection in tuple(self._connections):
                await connection.queue.wait_room()
            await trio.lowlevel.checkpoint()

    async def _play_in_real_time(self, speed: float) -> None:
        began_s, began_ns = trio.current_time(), self.venue.time_ns
        for event in self._events:
            await trio.sleep_until(began_s + (event.ts_ns - began_ns) / 1e9 / speed)
            self._publish(event)

    def _publish(self, event: MarketEvent) -> None:
        for publication in self.venue.apply(event, self._subscribers):
            for connection in self._subscribers[publication.channel, publication.symbol]:
                self._put(connection, (publication.payload,))

    def _put(self, connection: _Connection, frames: Iterable[bytes]) -> None:
        connection.queue.put(frames)
        if len(connection.queue) > QUEUE_MAX:
            log.warning("a client has left %d frames unread and is disconnected", len(connection.queue))
            connection.abort()

    # --- connections

    async def serve_stream(self, config: Config, context: WorkerContext, stream: trio.SocketStream) -> None:
        """Let hypercorn serve one TCP connection, and know its stream: only so can a stalled one be dropped."""
        try:
            address = cast("tuple[str, int]", stream.socket.getpeername())
        except OSError:  # it was gone before we looked
            return
        # hypercorn's annotation names one kind of stream; it tells by trying which one it has.
        named = cast("trio.SSLStream[trio.SocketStream]", stream)
        self._streams[address] = stream
        try:
            await TCPServer(ASGIWrapper(self.app), config, context, ConnectionState({}), named)
        finally:
            del self._streams[address]

    async def app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """The ASGI application."""
        match scope["type"]:
            case "http":
                await self._answer_request(scope, send)
            case "websocket":
                await self._serve_websocket(scope, receive, send)
            case "lifespan":
                raise AssertionError("hypercorn's worker does not run here, so nobody asks for a lifespan")

    async def _answer_request(self, scope: HTTPScope, send: ASGISendCallable) -> None:
        reply = answer(self.venue, scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply.body))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})

    async def _serve_websocket(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await receive()  # websocket.connect
        client = scope["client"]
        stream = self._streams.get(client) if client is not None else None
        if scope["path"].rstrip("/") != PUBLIC_PATH or stream is None:
            await send({"type": "websocket.close", "code": NORMAL_CLOSURE, "reason": None})
            return
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        connection = _Connection(Session(self.venue), stream)
        if self.ended.is_set():
            connection.queue.close(NORMAL_CLOSURE, END_REASON)
        self._connections[connection] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection, send)
                await self._read(connection, receive)
                nursery.cancel_scope.cancel()
        finally:
            del self._connections[connection]
            connection.queue.end()
            connection.gone.set()
            self._index_subscribers()

    async def _write(self, connection: _Connection, send: ASGISendCallable) -> None:
        """Send what the connection is owed; after the close, leave its client time to read to the end."""
        await connection.queue.send_all(send)
        with trio.move_on_after(self._patience_s(LAST_FRAMES_S)):
            await connection.gone.wait()
        connection.abort()

    async def _read(self, connection: _Connection, receive: ASGIReceiveCallable) -> None:
        """Answer what the client sends, until it is gone."""
        while True:
            with trio.move_on_after(self._patience_s(IDLE_S)) as patience:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return
                text = message["text"]
                self._put(connection, connection.session.handle(text or ""))
                self._index_subscribers()
            if patience.cancelled_caught:
                connection.queue.close(NORMAL_CLOSURE, f"no message for {IDLE_S:.0f} s")

    def _index_subscribers(self) -> None:
        self._subscribers.clear()
        for connection in self._connections:
            for topic in connection.session.topics:
                self._subscribers.setdefault(topic, []).append(connection)

    async def say_farewell(self) -> None:
        """End all connections: in good order those whose clients read, the others by force."""
        for connection in self._connections:
            connection.queue.close_early(GOING_AWAY, "the simulated exchange stops")
        with trio.move_on_after(FAREWELL_S):
            for connection in tuple(self._connections):
                await connection.gone.wait()
        for stream in tuple(self._streams.values()):
            stream.socket.close()


@asynccontextmanager
async def open_exchange(
    source: MarketSource, *, speed: float | None, port: int = 0
) -> AsyncGenerator[SimulatedExchange]:
    """Serve `source` as a public spot exchange on loopback, until the block is left.

    `speed` is how much faster than its own time the market runs, > 0; None is as fast as subscribers take the frames.
    `port` 0 is any free one. Nothing moves before `start()`.

    Raises:
        OSError: the port is taken.
        RecordingError: the source is a recording that changed since it was opened.

    """
    if speed is not None and not speed > 0:
        raise ValueError(f"speed {speed} must be > 0")
    exchange = SimulatedExchange(source, speed)
    listeners = await trio.open_tcp_listeners(port, host=HOST)
    bound_port = cast("tuple[str, int]", listeners[0].socket.getsockname())[1]
    exchange.rest_url = f"http://{HOST}:{bound_port}"
    exchange.ws_url = f"ws://{HOST}:{bound_port}{PUBLIC_PATH}"
    context = WorkerContext(None)
    async with trio.open_nursery() as nursery:
        handler = partial(exchange.serve_stream, _config(), context)
        await nursery.start(partial(trio.serve_listeners, handler, listeners))
        nursery.start_soon(exchange.play)
        try:
            yield exchange
        finally:
            with trio.CancelScope(shield=True):
                await context.terminated.set()
                await exchange.say_farewell()
            nursery.cancel_scope.cancel()


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.websocket_max_message_size = MESSAGE_BYTES_MAX
    config.websocket_ping_interval = None
    return config
