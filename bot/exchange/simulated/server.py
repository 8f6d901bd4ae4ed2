"""The simulated exchange on loopback: HTTP and WebSocket by hypercorn, a market played and traded.

Everything that is said is made by the pure parts; here are only tasks, queues and sockets. One task plays the market;
each connection has a queue, one task that sends from it and one that reads. A frame enters the queue at the moment it
is made, without a pause, so every connection sees the order of the venue. `answer`, `connect` and `listen` are the way
in without sockets: whoever simulates the network too carries requests and frames himself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import chain
from typing import Final, NamedTuple, cast

import msgspec
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

from bot.errors import SettingsError
from bot.exchange.simulated.accounts import Account, Accounts, Funding, demo_accounts
from bot.exchange.simulated.codes import METHOD_NOT_ALLOWED, not_found
from bot.exchange.simulated.connections import Connection, FrameQueue, Frames, Late
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.events import BookSnapshot, MarketEvent, MarketSource
from bot.exchange.simulated.fault_wire import break_stream, lose_answer, send_reply
from bot.exchange.simulated.faults import Ending, FaultSchedule, decode_schedule
from bot.exchange.simulated.injector import (
    ANSWERS,
    TIMESTAMP_PATH,
    End,
    FrameLine,
    Injector,
    Reports,
    channel_name,
    shifted_timestamp,
)
from bot.exchange.simulated.liquidity import Order
from bot.exchange.simulated.ports import FuturesFactory, SessionPort, WingParts, WingPort
from bot.exchange.simulated.replies import BAD_REQUEST, INVALID_PARAMETER, OK, Refusal, Reply, Request, encode
from bot.exchange.simulated.spot_desk import SpotTerms
from bot.exchange.simulated.spot_private import SpotExchange
from bot.exchange.simulated.venue import EXCHANGE_TOPIC, Topic, Venue

HOST: Final = "127.0.0.1"
PUBLIC_PATH: Final = "/ws/public"
PRIVATE_PATH: Final = "/ws/private"
FUTURES_PUBLIC_PATH: Final = "/ws/v3/public"
FUTURES_PRIVATE_PATH: Final = "/ws/v3/private"
FUTURES_REST: Final = "/v3/"
END_REASON: Final = "end of market data"
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
BODY_BYTES_MAX: Final = 256 * 1024
"""Longest body of a request."""
FAULTS_PATH: Final = "/simulated/faults"
"""No part of Poloniex: lists, adds and clears faults."""
KEEP_ALIVE_S: Final = 75.0
NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001

log = logging.getLogger(__name__)


class ExchangeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What may differ from one simulated exchange to the other."""

    spot: SpotTerms = SpotTerms()
    has_limits: bool = True
    """Whether more calls than the exchange allows are answered with 429."""
    takes_wall_clock: bool = True
    """Whether a request may be signed by the real time, where the market is of another day."""


DEFAULT_TERMS: Final = ExchangeTerms()


class Answer(NamedTuple):
    """What becomes of a request: a reply, or how its client learns that none comes."""

    reply: Reply | None
    lost: Ending | None = None
    retry_after_s: int | None = None
    bytes_per_s: float | None = None
    """How fast the body of the reply drips; None: it comes at once."""


class SimulatedExchange:
    """A running exchange; made by `open_exchange`."""

    def __init__(
        self,
        source: MarketSource,
        speed: float | None,
        accounts: Sequence[Funding],
        terms: ExchangeTerms,
        futures: FuturesFactory | None,
    ) -> None:
        self.rest_url = ""
        self.ws_url = ""
        """Of the public spot socket."""
        self.private_ws_url = ""
        self.futures_ws_url = ""
        """Of the public futures socket, which is there with a futures wing."""
        self.futures_private_ws_url = ""
        self.ended = trio.Event()
        """Set when the source ran out and every frame was sent."""
        self.events_total = source.event_count
        """How many events the source has; None where it has no end."""
        self.events_done = 0
        """How many events have been applied, opening snapshots included."""
        self._subscribers: dict[Topic, list[Connection]] = {}
        self._speed = speed
        self._began: tuple[float, int] | None = None
        """When a market in real time began, by trio's clock and by its own."""
        self._due_ns: int | None = None
        """What `keep_time` waits for."""
        self._rescheduled = trio.lowlevel.ParkingLot()
        self._started = trio.Event()
        self._connections: dict[Connection, None] = {}
        self._streams: dict[tuple[str, int], trio.SocketStream] = {}
        self.accounts = Accounts()
        door = Door(self.accounts, wall_ms=_wall_ms if terms.takes_wall_clock else None, has_limits=terms.has_limits)
        self._injector = Injector()
        self._first_ns = self._event_ns = source.first_ns
        self._faults_changed = trio.lowlevel.ParkingLot()
        door.skew_ms = lambda: self._injector.skew_ms("signatures", self._now_s())
        # Contracts are spot markets like any other as long as nobody opens the futures wing.
        is_spot = futures is None
        listed = [each for each in source.instruments if is_spot or not each.symbol.endswith("_PERP")]
        self.venue = Venue(listed, source.first_ns)
        self.spot = SpotExchange(self.venue, self.accounts, door, terms.spot, self._subscribers)
        self.spot.desk.is_running = False
        self.spot.desk.refuses_orders = lambda: self._injector.refuses_orders(self._now_s())
        self.spot.desk.refuses_takers = lambda: self._injector.refuses_takers(self._now_s())
        self.spot.desk.lots_before_cancel = self._lots_before_cancel
        self.futures: WingPort | None = None
        if futures is not None:
            instruments, first_ns = source.instruments, source.first_ns
            parts = WingParts(self.accounts, door, self.spot.desk, self._subscribers, instruments, first_ns)
            self.futures = futures(parts)
        for funding in accounts:
            self.accounts.open(funding, source.first_ns)
        self._events = self._open(source)

    @property
    def clients(self) -> Sequence[Account]:
        """Return the accounts that clients may use, with their keys and secrets."""
        return self.accounts.clients

    def _wings(self) -> tuple[WingPort, ...]:
        return (self.spot,) if self.futures is None else (self.spot, self.futures)

    def _open(self, source: MarketSource) -> Iterator[MarketEvent]:
        """Apply the snapshots that `source` begins with; return all events after them."""
        events = source.events()
        opened: set[str] = set()
        for event in events:
            if not isinstance(event, BookSnapshot) or event.symbol in opened:
                return chain((event,), events)
            opened.add(event.symbol)
            self._apply(event)
        return events

    def _apply(self, event: MarketEvent) -> None:
        self.events_done += 1
        self._event_ns = event.ts_ns
        if self._injector:
            self._begin_faults()
        for wing in self._wings():
            if event.symbol in wing.symbols:
                wing.apply(event)
                self._deliver(wing)

    def start(self) -> None:
        """Let the market begin; until then its time stands still. Again does nothing."""
        self._started.set()

    def start_tasks(self, nursery: trio.Nursery) -> None:
        """Let the exchange live in `nursery`: its market, its timers and its faults."""
        nursery.start_soon(self.play)
        if self._speed is not None:
            nursery.start_soon(self.keep_time)
            nursery.start_soon(self.keep_faults)

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
            self._apply(event)
            for connection in tuple(self._connections):
                await connection.queue.wait_room()
            await trio.lowlevel.checkpoint()

    async def _play_in_real_time(self, speed: float) -> None:
        began_s, began_ns = self._began = trio.current_time(), self.venue.time_ns
        self.spot.desk.is_running = True
        self._rescheduled.unpark_all()
        self._faults_changed.unpark_all()
        last_ns = -1
        for event in self._events:
            if event.ts_ns != last_ns:  # what happens at once is told at once
                last_ns = event.ts_ns
                await trio.sleep_until(began_s + (last_ns - began_ns) / 1e9 / speed)
            self._apply(event)

    def _deliver(self, wing: WingPort) -> None:
        """Queue what a wing has to say, and let the timer look again."""
        for publication in wing.take():
            for connection in self._subscribers.get((publication.channel, publication.symbol), ()):
                self._put(connection, (publication.payload,), publication.channel)
        if self._next_due_ns() != self._due_ns:
            self._rescheduled.unpark_all()

    # --- time

    def _next_due_ns(self) -> int | None:
        return min((due_ns for wing in self._wings() if (due_ns := wing.due_ns) is not None), default=None)

    async def keep_time(self) -> None:
        """Do what is due at its time, also while the market is silent; only in real time."""
        while True:
            due_ns = self._due_ns = self._next_due_ns()
            with trio.move_on_at(math.inf if due_ns is None else self._moment_s(due_ns)) as waiting:
                await self._rescheduled.park()
            if waiting.cancelled_caught and due_ns is not None:
                self._advance(due_ns)

    def _moment_s(self, at_ns: int) -> float:
        """Return when, on trio's clock, the exchange's time will be `at_ns`: never, while it stands still."""
        if self._began is None or self._speed is None:
            return math.inf
        began_s, began_ns = self._began
        return began_s + (at_ns - began_ns) / 1e9 / self._speed

    def _advance(self, least_ns: int = 0) -> None:
        """Let the time be what it is now, at least `least_ns`, before somebody acts on it."""
        if self._began is None or self._speed is None:
            return
        began_s, began_ns = self._began
        now_ns = max(began_ns + int((trio.current_time() - began_s) * self._speed * 1e9), least_ns)
        for wing in self._wings():
            wing.advance(now_ns)
            self._deliver(wing)

    def _put(self, connection: Connection, frames: Iterable[bytes], channel: str = ANSWERS) -> None:
        if self._injector:
            self._put_amiss(connection, frames, channel)
        else:
            connection.queue.put(frames)
        if len(connection.queue) > QUEUE_MAX:
            log.warning("a client has left %d frames unread and is disconnected", len(connection.queue))
            connection.abort()

    # --- faults

    def inject(self, schedule: FaultSchedule) -> None:
        """Add faults; their windows count from now on the exchange's clock."""
        self._injector.add(schedule, self._now_s())
        self._faults_changed.unpark_all()

    def faults(self) -> Reports:
        """Return how all faults stand."""
        return self._injector.report(self._now_s())

    def clear_faults(self) -> None:
        """Forget every fault: what is silent speaks again."""
        self._injector.clear()
        self._say_modes()

    def _now_s(self) -> float:
        """Return the exchange's clock, in seconds since its start."""
        now_ns = max(self._event_ns, self.venue.time_ns)
        if self._began is not None and self._speed is not None:
            began_s, began_ns = self._began
            now_ns = max(now_ns, began_ns + int((trio.current_time() - began_s) * self._speed * 1e9))
        return (now_ns - self._first_ns) / 1e9

    async def keep_faults(self) -> None:
        """Begin faults of whole connections at their time, also while nothing is said; only in real time."""
        while True:
            due_s = self._injector.due_s
            # A microsecond later: in a virtual time nothing else moves the clock past what rounding takes off.
            due_ns = None if due_s is None or due_s == math.inf else self._first_ns + math.ceil(due_s * 1e9) + 1_000
            with trio.move_on_at(math.inf if due_ns is None else self._moment_s(due_ns)):
                await self._faults_changed.park()
            self._begin_faults()

    def _begin_faults(self) -> None:
        for armed in self._injector.begin(self._now_s()):
            for connection in tuple(self._connections):
                end = connection.line.strike(armed, self._key_of(connection), self._now_s())
                if end is not None:
                    connection.fall(end)
        self._say_modes()

    def _say_modes(self) -> None:
        venue, now_s = self.venue, self._now_s()
        before = venue.is_in_maintenance, venue.is_post_only
        venue.is_in_maintenance = self._injector.is_in_maintenance(now_s)
        venue.is_post_only = self._injector.is_post_only(now_s)
        if (venue.is_in_maintenance, venue.is_post_only) != before:
            for connection in self._subscribers.get(EXCHANGE_TOPIC, ()):
                self._put(connection, (venue.exchange_frame("update"),), EXCHANGE_TOPIC[0])

    def _put_amiss(self, connection: Connection, frames: Iterable[bytes], channel: str) -> None:
        key = self._key_of(connection)
        for step in connection.line.send(frames, channel_name(channel), key, self._now_s()):
            if isinstance(step, End):
                connection.fall(step)
            elif step.delay_s:
                connection.queue.put((Late(step.payload, trio.current_time() + step.delay_s),))
            else:
                connection.queue.put((step.payload,))

    def _key_of(self, connection: Connection) -> str:
        """Return the key of the account whose private channels a connection listens to, or nothing."""
        numbers = (channel.partition("@")[2] for channel, _ in connection.session.topics)
        number = next(filter(None, numbers), None)
        return self.clients[int(number) - 1].key if number is not None else ""

    def _lots_before_cancel(self, order: Order) -> int:
        return self._injector.fill_lots(order.account.key, order.leaves_lots, self._now_s())

    async def answer(self, request: Request) -> Answer:
        """Return what becomes of a request that arrives now, after the delays that faults want."""
        if request.path == FAULTS_PATH:
            return Answer(self._control_faults(request.method, request.body))
        if not self._injector:
            return Answer(self._execute(request))
        fate = self._injector.request(request.method, request.path, request.headers.get("key", ""), self._now_s())
        await trio.sleep(fate.request_delay_s)
        if fate.lost_request is not None:
            return Answer(None, fate.lost_request)
        reply = fate.instead or self._execute_amiss(request._replace(arrived_s=trio.current_time()))
        await trio.sleep(fate.answer_delay_s)
        if fate.lost_answer is not None:
            return Answer(None, fate.lost_answer)
        reply = fate.afterwards or reply
        if fate.mangle is not None:
            reply = reply._replace(body=fate.mangle(reply.body))
        return Answer(reply, None, fate.retry_after_s, fate.bytes_per_s)

    def _execute_amiss(self, request: Request) -> Reply:
        refusal = self._injector.refusal(request.method, request.path, self._now_s())
        if refusal is not None:
            return refusal
        reply = self._execute(request)
        if request.path.rstrip("/") != TIMESTAMP_PATH:
            return reply
        return shifted_timestamp(reply, self._injector.skew_ms("timestamp", self._now_s()))

    def _control_faults(self, method: str, body: bytes) -> Reply:
        """Answer a call about the faults themselves; a DELETE is told what they did."""
        match method:
            case "GET":
                return Reply(OK, encode(self.faults()))
            case "POST":
                try:
                    self.inject(decode_schedule(body, "body"))
                except SettingsError as error:
                    return Refusal(INVALID_PARAMETER, str(error), BAD_REQUEST).reply
                return Reply(OK, encode(self.faults()))
            case "DELETE":
                reports = self.faults()
                self.clear_faults()
                return Reply(OK, encode(reports))
            case _:
                return Refusal(METHOD_NOT_ALLOWED, f"Method Not Allowed: {method[:20]}", METHOD_NOT_ALLOWED).reply

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
            if self._streams.get(address) is stream:  # else its port was taken anew before we saw its end
                del self._streams[address]

    async def app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """The ASGI application."""
        match scope["type"]:
            case "http":
                await self._answer_request(scope, receive, send)
            case "websocket":
                await self._serve_websocket(scope, receive, send)
            case "lifespan":
                raise AssertionError("hypercorn's worker does not run here, so nobody asks for a lifespan")

    async def _answer_request(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await _body(receive)
        if body is None:
            text = f"Body longer than {BODY_BYTES_MAX} bytes"
            await send_reply(send, Refusal(INVALID_PARAMETER, text, BAD_REQUEST).reply)
            return
        client = scope["client"]
        stream = self._streams.get(client) if client is not None else None
        reply, lost, retry_after_s, bytes_per_s = await self.answer(_request(scope, body))
        if reply is not None:
            await send_reply(send, reply, retry_after_s=retry_after_s, bytes_per_s=bytes_per_s)
        elif lost is not None:
            await lose_answer(lost, stream, receive)

    def _execute(self, request: Request) -> Reply:
        self._advance()
        reply = self._wing_answer(request)
        # What happened is told before it is answered: events may win, as they do at the real exchange.
        for wing in self._wings():
            self._deliver(wing)
        return reply

    def _wing_answer(self, request: Request) -> Reply:
        if not request.path.startswith(FUTURES_REST):
            return self.spot.answer(request)
        return not_found(request.path).reply if self.futures is None else self.futures.answer(request)

    def _session(self, path: str) -> SessionPort | None:
        """Return the protocol side of a connection to `path`, or None where nothing is."""
        match path.rstrip("/"):
            case "/ws/public" | "/ws/private" as known:
                return self.spot.session(is_private=known == PRIVATE_PATH)
            case "/ws/v3/public" | "/ws/v3/private" as known if self.futures is not None:
                return self.futures.session(is_private=known == FUTURES_PRIVATE_PATH)
            case _:
                return None

    async def _serve_websocket(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await receive()  # websocket.connect
        client = scope["client"]
        stream = self._streams.get(client) if client is not None else None
        queue = FrameQueue()
        connection = None
        if stream is not None:
            connection = self.connect(scope["path"], queue, lambda is_reset: break_stream(stream, is_reset=is_reset))
        if connection is None:
            await send({"type": "websocket.close", "code": NORMAL_CLOSURE, "reason": None})
            return
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})

        async def text() -> str | None:
            message = await receive()
            return message["text"] or "" if message["type"] == "websocket.receive" else None

        with self.connected(connection):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, connection, queue, send)
                await self.listen(connection, text)
                nursery.cancel_scope.cancel()

    def connect(self, path: str, queue: Frames, breaks: Callable[[bool], None]) -> Connection | None:
        """Return a new connection to a socket's path, or None where nothing is."""
        session = self._session(path)
        return None if session is None else Connection(session, FrameLine(self._injector, path), breaks, queue)

    @contextmanager
    def connected(self, connection: Connection) -> Generator[None]:
        """Let a connection hear what it subscribes to, until the block is left."""
        if self.ended.is_set():
            connection.queue.close(NORMAL_CLOSURE, END_REASON)
        self._connections[connection] = None
        try:
            yield
        finally:
            del self._connections[connection]
            connection.queue.end()
            connection.gone.set()
            self._index_subscribers()

    async def _write(self, connection: Connection, queue: FrameQueue, send: ASGISendCallable) -> None:
        """Send what the connection is owed; after the close, leave its client time to read to the end."""
        await queue.send_all(send)
        with trio.move_on_after(self._patience_s(LAST_FRAMES_S)):
            await connection.gone.wait()
        connection.abort()

    async def listen(self, connection: Connection, receive: Callable[[], Awaitable[str | None]]) -> None:
        """Answer what the client sends, until it is gone: then `receive` returns None."""
        while True:
            with trio.move_on_after(self._patience_s(IDLE_S)) as patience:
                text = await receive()
                if text is None:
                    return
                if self._injector and connection.line.is_silent(self._now_s()):
                    continue
                self._advance()
                answers = connection.session.handle(text)
                for wing in self._wings():
                    self._deliver(wing)
                self._put(connection, answers)
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
    source: MarketSource,
    *,
    speed: float | None,
    port: int = 0,
    seed: int = 0,
    accounts: Sequence[Funding] | None = None,
    terms: ExchangeTerms = DEFAULT_TERMS,
    futures: FuturesFactory | None = None,
    faults: FaultSchedule | None = None,
) -> AsyncGenerator[SimulatedExchange]:
    """Serve `source` as an exchange on loopback, public and private, until the block is left.

    `speed` is how much faster than its own time the market runs, > 0; None is as fast as subscribers take the frames.
    `port` 0 is any free one. Nothing moves before `start()`. `accounts` are opened with their money; without them, two
    to try things with, whose keys and secrets come from `seed`. `futures` opens the futures wing, which then has the
    markets whose symbols end in `_PERP`. `faults` begin with the market.

    Raises:
        OSError: the port is taken.
        RecordingError: the source is a recording that changed since it was opened.

    """
    exchange = _exchange(source, speed, demo_accounts(seed) if accounts is None else accounts, terms, futures, faults)
    listeners = await trio.open_tcp_listeners(port, host=HOST)
    bound_port = cast("tuple[str, int]", listeners[0].socket.getsockname())[1]
    exchange.rest_url = f"http://{HOST}:{bound_port}"
    exchange.ws_url = f"ws://{HOST}:{bound_port}{PUBLIC_PATH}"
    exchange.private_ws_url = f"ws://{HOST}:{bound_port}{PRIVATE_PATH}"
    exchange.futures_ws_url = f"ws://{HOST}:{bound_port}{FUTURES_PUBLIC_PATH}"
    exchange.futures_private_ws_url = f"ws://{HOST}:{bound_port}{FUTURES_PRIVATE_PATH}"
    context = WorkerContext(None)
    async with trio.open_nursery() as nursery:
        handler = partial(exchange.serve_stream, server_config(), context)
        await nursery.start(partial(trio.serve_listeners, handler, listeners))
        exchange.start_tasks(nursery)
        try:
            yield exchange
        finally:
            with trio.CancelScope(shield=True):
                await context.terminated.set()
                await exchange.say_farewell()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_unconnected_exchange(
    source: MarketSource,
    *,
    accounts: Sequence[Funding],
    terms: ExchangeTerms = DEFAULT_TERMS,
    futures: FuturesFactory | None = None,
    faults: FaultSchedule | None = None,
) -> AsyncGenerator[SimulatedExchange]:
    """Run an exchange that listens nowhere, at the speed of trio's clock, until the block is left.

    Requests come in by `answer`, sockets by `connect`, `connected` and `listen`, streams by `serve_stream`. The rest is
    as with `open_exchange`.
    """
    exchange = _exchange(source, 1.0, accounts, terms, futures, faults)
    async with trio.open_nursery() as nursery:
        exchange.start_tasks(nursery)
        try:
            yield exchange
        finally:
            nursery.cancel_scope.cancel()


def _exchange(
    source: MarketSource,
    speed: float | None,
    accounts: Sequence[Funding],
    terms: ExchangeTerms,
    futures: FuturesFactory | None,
    faults: FaultSchedule | None,
) -> SimulatedExchange:
    if speed is not None and not speed > 0:
        raise ValueError(f"speed {speed} must be > 0")
    exchange = SimulatedExchange(source, speed, accounts, terms, futures)
    if faults is not None:
        exchange.inject(faults)
    return exchange


async def _body(receive: ASGIReceiveCallable) -> bytes | None:
    """Return the body of a request, or None where it is too long or never came whole."""
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        length += len(message["body"])
        if length <= BODY_BYTES_MAX:
            parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts) if length <= BODY_BYTES_MAX else None


def _request(scope: HTTPScope, body: bytes) -> Request:
    client = scope["client"]
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
        arrived_s=trio.current_time(),
        address=client[0] if client is not None else "",
    )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def server_config() -> Config:
    """Return how hypercorn serves the exchange."""
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.websocket_max_message_size = MESSAGE_BYTES_MAX
    config.websocket_ping_interval = None
    return config
