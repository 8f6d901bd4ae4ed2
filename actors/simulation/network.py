"""The network of the message tier: requests and frames go straight to the exchange, late, lost or broken.

A `MemoryNetwork` is one bot's way to the exchange and implements `Network`. What its errors say and promise is what
`bot/exchange/transport.py` documents, above all whether a request may have arrived. What has left the bot arrives even
when the bot is gone: the exchange's side of everything lives in the nursery of the world.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Final, Literal
from urllib.parse import quote, urlencode, urlsplit

import trio

from actors.simulation.clock import Alarm
from actors.simulation.draws import Latencies, LatencyDraw
from actors.simulation.outages import Outages, SocketsCut, Where
from actors.simulation.pipes import End, Pipe
from actors.simulation.trace import Trace
from bot.core.text import safe_text
from bot.errors import BadReply, ConnectionLost, NotSent
from bot.exchange.simulated.connections import Connection, Late
from bot.exchange.simulated.fault_wire import DRIPS_A_SECOND
from bot.exchange.simulated.replies import Request
from bot.exchange.simulated.server import LAST_FRAMES_S, Answer, SimulatedExchange
from bot.exchange.transport import (
    BODY_BYTES_MAX,
    CLOSED_WITHOUT_A_WORD,
    LANES,
    MESSAGE_BYTES_MAX,
    REASON_LENGTH_MAX,
    REQUESTS_WAITING_MAX,
    URGENT_LANES,
    Response,
)

CLIENT_ADDRESS: Final = "192.0.2.1"
KEEP_ALIVE_S: Final = 5.0
"""An HTTP connection that was idle for so long is made anew."""
RESENT_WITHIN_S: Final = 60.0
"""What a partition holds back for longer than this is never delivered."""
TOO_BIG: Final = 1009
NO_NAME: Final = "[Errno -3] Temporary failure in name resolution"
REFUSED: Final = "[Errno 111] Connection refused"
RESET: Final = "[Errno 104] Connection reset by peer"
NO_RESPONSE: Final = "RemoteProtocolError: Server disconnected without sending a response."


class _ServedFrames:
    """The exchange's frames to one client. Implements `Frames` of the simulated exchange."""

    def __init__(self, socket: _Wire) -> None:
        self._socket = socket

    def __len__(self) -> int:
        return len(self._socket.to_client)

    def put(self, frames: Iterable[bytes | Late]) -> None:
        """Send frames; those behind a late one wait for it."""
        for frame in frames:
            if isinstance(frame, Late):
                self._socket.send_in(frame.payload, frame.due_s)
            else:
                self._socket.send_in(frame, trio.current_time())

    def close(self, code: int, reason: str) -> None:
        """Close after what was sent; a client that does not go is left after a while."""
        if not self._socket.to_client.is_over:
            self._socket.send_in(End(code=code, reason=reason), trio.current_time())
            self._socket.to_server.put(End(), trio.current_time() + LAST_FRAMES_S)

    def close_early(self, code: int, reason: str) -> None:
        """Close; here everything that was put has been sent."""
        self.close(code, reason)

    def end(self) -> None:
        """The connection is gone."""
        self._socket.to_client.put(End(), trio.current_time())
        self._socket.to_server.put(End(), trio.current_time())

    async def wait_empty(self) -> None:
        """Wait until the client has taken every frame."""
        await self._socket.to_client.wait_shorter(0)

    async def wait_room(self) -> None:
        """Return: this exchange runs in real time and waits for nobody."""
        await trio.lowlevel.checkpoint()


class _Wire:
    """One WebSocket connection, both ways of it."""

    def __init__(self, network: MemoryNetwork, where: Where, path: str) -> None:
        self.where: Where = where
        self.path = path
        self.to_client = Pipe()
        self.to_server = Pipe()
        self._network = network
        self._left_s = self._arrives_s = -math.inf

    def send_in(self, item: bytes | End, from_s: float) -> None:
        """Send something from the exchange to the client, which leaves at `from_s`."""
        if self.to_client.is_over:
            return
        if from_s != self._left_s:  # what leaves at the same time arrives at the same time
            self._left_s = from_s
            self._arrives_s = self._network.arrival_s("in", self.where, from_s)
        self.to_client.put(item, self._arrives_s)

    def send_out(self, item: bytes | End) -> None:
        """Send something from the client to the exchange."""
        if not self.to_server.is_over:
            self.to_server.put(item, self._network.arrival_s("out", self.where, trio.current_time()))

    def break_off(self, *, is_reset: bool) -> None:
        """End it at both ends, without a word; a reset loses what is under way."""
        self.to_client.cut(End(is_reset=is_reset), drops=is_reset)
        self.to_server.cut(End(is_reset=is_reset), drops=True)


class MemorySocket:
    """The bot's end of a WebSocket. Implements `SocketPort`."""

    def __init__(self, wire: _Wire, address: str, network: MemoryNetwork) -> None:
        self._wire = wire
        self._address = address
        self._network = network

    async def send(self, text: str | bytes) -> None:
        """Send one text message.

        Raises:
            ConnectionLost: the connection has ended.

        """
        await self._network.alive()
        if self._wire.to_server.is_over:
            raise self._lost(End())
        payload = text.encode() if isinstance(text, str) else text
        self._network.trace.note("sent", self._wire.path, payload)
        self._wire.send_out(payload)

    async def receive(self) -> bytes:
        """Return the next message; those that came before the end of the connection are still returned.

        Raises:
            ConnectionLost: the connection has ended, with its close code and reason.

        """
        item = await self._wire.to_client.take()
        await self._network.alive()
        if isinstance(item, End):
            raise self._lost(item)
        if len(item) > MESSAGE_BYTES_MAX:
            self._wire.break_off(is_reset=True)
            raise self._lost(End(code=TOO_BIG, reason="Payload exceeded maximum size"))
        self._network.trace.note("received", self._wire.path, item)
        return item

    async def receive_many(self) -> list[bytes]:
        """Return every message that is there, at least one. Raises as `receive` does."""
        messages = [await self.receive()]
        while self._wire.to_client.has_due():
            messages.append(await self.receive())
        return messages

    def _lost(self, end: End) -> ConnectionLost:
        if end.code is None:
            how = f"ConnectionResetError: {RESET}" if end.is_reset else f"closed with {CLOSED_WITHOUT_A_WORD}"
            return ConnectionLost(f"{self._address}: {how}", code=CLOSED_WITHOUT_A_WORD)
        reason = safe_text(end.reason, REASON_LENGTH_MAX)
        message = f"{self._address}: closed with {end.code}{': ' if reason else ''}{reason}"
        return ConnectionLost(message, code=end.code, reason=reason)


@dataclass(slots=True, eq=False)
class _Call:
    """One request under way."""

    name: str
    request: Request
    waiting: Alarm = field(default_factory=Alarm)
    """Of its caller, who gives up when it goes off."""
    answer: Answer | None = None


@dataclass(slots=True)
class _Lanes:
    """So many requests may be under way at once; the others wait, first come, first served."""

    free: int
    ends_idle_s: list[float] = field(default_factory=list[float])
    """Until when each connection that nobody uses stays open."""
    waiting: deque[trio.Event] = field(default_factory=deque[trio.Event])


class MemoryHttp:
    """The bot's HTTP client. Implements `HttpPort`."""

    def __init__(self, network: MemoryNetwork, connect_timeout_s: float, request_timeout_s: float) -> None:
        self._network = network
        self._connect_timeout_s = connect_timeout_s
        self._request_timeout_s = request_timeout_s
        self._total_s = request_timeout_s + 2 * connect_timeout_s
        self._lanes = {False: _Lanes(LANES), True: _Lanes(URGENT_LANES)}
        self.is_open = True

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Response:
        """Return the answer to GET `path`, whatever its status. Raises as `request`."""
        return await self.request("GET", path, urlencode(params or {}, quote_via=quote))

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
        """Return the answer to a request, whatever its status. Raises what `transport.Http.request` raises."""
        name = f"{method} {path}"
        await self._network.alive()
        lanes = self._lanes[is_urgent]
        await self._take_lane(lanes, name, start_within_s)
        is_reusable = False
        try:
            await self._connect(lanes, name)
            lower = {key.lower(): value for key, value in (headers or {}).items()}
            request = Request(method, path, query, lower, body or b"", 0.0, CLIENT_ADDRESS)
            response = await self._exchange(name, request)
            is_reusable = True
        finally:
            self._leave_lane(lanes, is_reusable=is_reusable)
        return response

    async def _take_lane(self, lanes: _Lanes, name: str, start_within_s: float) -> None:
        if not self.is_open:
            raise NotSent(f"{name}: we are closing")
        if lanes.free:
            lanes.free -= 1
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        if len(lanes.waiting) >= REQUESTS_WAITING_MAX:
            raise NotSent(f"{name}: {REQUESTS_WAITING_MAX} requests wait already")
        turn = trio.Event()
        lanes.waiting.append(turn)
        try:
            with trio.move_on_after(start_within_s):
                await turn.wait()
        finally:
            if not turn.is_set():
                lanes.waiting.remove(turn)
        if not turn.is_set():
            raise NotSent(f"{name}: not sent, it waited for its turn for {start_within_s:g} s")

    def _leave_lane(self, lanes: _Lanes, *, is_reusable: bool) -> None:
        if is_reusable:
            lanes.ends_idle_s.append(trio.current_time() + KEEP_ALIVE_S)
        if lanes.waiting:
            lanes.waiting.popleft().set()
        else:
            lanes.free += 1

    async def _connect(self, lanes: _Lanes, name: str) -> None:
        """Take an open connection, or make one.

        Raises:
            ConnectionLost: there is none; nothing was sent.

        """
        now_s = trio.current_time()
        while lanes.ends_idle_s:
            if lanes.ends_idle_s.pop() > now_s:
                return
        await self._network.reach("rest", name, self._connect_timeout_s)

    async def _exchange(self, name: str, request: Request) -> Response:
        """Send a request and wait for its answer."""
        call = _Call(name, request)
        self._network.send(call)
        await call.waiting.wait_until(trio.current_time() + self._request_timeout_s)
        await self._network.alive()
        if call.answer is None:
            raise ConnectionLost(f"{name}: ReadTimeout")
        return await self._read(name, call.answer)

    async def _read(self, name: str, answer: Answer) -> Response:
        reply = answer.reply
        if reply is None:
            raise ConnectionLost(f"{name}: {NO_RESPONSE if answer.lost == 'close' else f'ReadError: {RESET}'}")
        if answer.bytes_per_s is not None:
            await self._drip(name, len(reply.body), answer.bytes_per_s)
        if len(reply.body) > BODY_BYTES_MAX:
            raise BadReply(f"{name}: a body of more than {BODY_BYTES_MAX} bytes", reply.body)
        self._network.trace.note("answer", name, b"%d " % reply.status + reply.body)
        retry_after_s = None if answer.retry_after_s is None else float(answer.retry_after_s)
        return Response(status=reply.status, body=reply.body, retry_after_s=retry_after_s)

    async def _drip(self, name: str, size: int, bytes_per_s: float) -> None:
        """Wait for a body that comes in pieces, as long as the real client would."""
        gap_s = max(1, round(bytes_per_s / DRIPS_A_SECOND)) / bytes_per_s
        if gap_s > self._request_timeout_s:
            await trio.sleep(self._request_timeout_s)
            raise ConnectionLost(f"{name}: ReadTimeout")
        await trio.sleep(min(size / bytes_per_s, self._total_s))
        if size / bytes_per_s > self._total_s:
            raise ConnectionLost(f"{name}: no whole answer within {self._total_s:g} s")


class MemoryNetwork:
    """One incarnation's network. `nursery` is the world's: what was sent arrives although its sender is dead."""

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
        self._request_s = LatencyDraw(latencies.request, rng)
        self._answer_s = LatencyDraw(latencies.answer, rng)
        self._frame_s = LatencyDraw(latencies.frame, rng)
        self._is_severed = False
        self._wires: dict[_Wire, None] = {}
        """Every open socket, oldest first."""

    # --- Network

    @asynccontextmanager
    async def open_http(
        self, base_url: str, *, connect_timeout_s: float, request_timeout_s: float, user_agent: str
    ) -> AsyncGenerator[MemoryHttp]:
        """Open a client."""
        del base_url, user_agent
        http = MemoryHttp(self, connect_timeout_s, request_timeout_s)
        try:
            yield http
        finally:
            http.is_open = False

    @asynccontextmanager
    async def open_websocket(
        self, url: str, *, connect_timeout_s: float, is_lean: bool = False
    ) -> AsyncGenerator[MemorySocket]:
        """Open a WebSocket.

        Raises:
            ConnectionLost: there is no way, or nothing at `url`; or the body raised it.

        """
        del is_lean
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.netloc}"
        where: Where = "private" if "private" in parts.path else "public"
        await self.alive()
        with trio.move_on_after(connect_timeout_s) as patience:
            await self.reach(where, address, connect_timeout_s)
        if patience.cancelled_caught:
            raise ConnectionLost(f"{address}: no connection in time")
        await self.alive()
        wire = _Wire(self, where, parts.path)
        connection = self._exchange.connect(
            parts.path, _ServedFrames(wire), lambda is_reset: wire.break_off(is_reset=is_reset)
        )
        if connection is None:
            raise ConnectionLost(f"{address}: refused with status {HTTPStatus.FORBIDDEN:d}")
        self.trace.note("opened", parts.path, b"")
        self._wires[wire] = None
        self._nursery.start_soon(self._serve, wire, connection)
        try:
            yield MemorySocket(wire, address, self)
        finally:
            if not self._is_severed:
                self._hang_up(wire)

    # --- the end of an incarnation

    def sever(self) -> None:
        """Let nothing that this incarnation does have any effect any more: it is dead. What has left it arrives."""
        self._is_severed = True
        for wire in tuple(self._wires):
            self._hang_up(wire)

    async def alive(self) -> None:
        """Return, or with a dead incarnation never: only its cancellation gets it out."""
        if self._is_severed:
            await trio.sleep_forever()

    def _hang_up(self, wire: _Wire) -> None:
        self._wires.pop(wire, None)
        wire.send_out(End())
        wire.to_client.cut(End(), drops=True)

    # --- the way

    async def reach(self, where: Where, name: str, timeout_s: float) -> None:
        """Make a connection.

        Raises:
            ConnectionLost: that fails, and so nothing was sent.

        """
        is_rest = where == "rest"
        match self._outages.no_connection(where, trio.current_time()):
            case "":
                await trio.sleep(self._request_s.draw_s() + self._answer_s.draw_s())
                return
            case "silent":
                await trio.sleep(timeout_s)
                why = "ConnectTimeout" if is_rest else "no connection in time"
            case "refused":
                await trio.sleep(self._request_s.draw_s())
                why = f"{'ConnectError' if is_rest else 'ConnectionRefusedError'}: {REFUSED}"
            case "no name":
                await trio.sleep(self._request_s.draw_s())
                why = f"{'ConnectError' if is_rest else 'gaierror'}: {NO_NAME}"
        raise ConnectionLost(f"{name}: {why}", may_have_arrived=not is_rest)

    def arrival_s(self, way: Literal["out", "in"], where: Where, from_s: float) -> float:
        """Return when a frame arrives that leaves at `from_s`."""
        if not self._outages:
            return from_s + self._frame_s.draw_s()
        now_s = trio.current_time()
        free_s = max(self._outages.parted_until_s(way, where, now_s), from_s)
        return free_s + self._frame_s.draw_s() + self._outages.delay_s(way, where, now_s)

    @contextmanager
    def _registered(self, wire: _Wire) -> Generator[None]:
        try:
            yield
        finally:
            self._wires.pop(wire, None)

    async def _serve(self, wire: _Wire, connection: Connection) -> None:
        """Be the exchange's end of a socket."""

        async def receive() -> str | None:
            item = await wire.to_server.take()
            return None if isinstance(item, End) else item.decode()

        with self._registered(wire), self._exchange.connected(connection):
            await self._exchange.listen(connection, receive)

    def cut(self, cut: SocketsCut) -> None:
        """Break the sockets that a cut is about."""
        for wire in tuple(self._wires):
            if cut.place in ("all", "sockets", wire.where):
                wire.break_off(is_reset=cut.is_reset)

    def send(self, call: _Call) -> None:
        """Let a request leave; its caller is woken when the answer is there."""
        self.trace.note("request", call.name, call.request.query.encode() + call.request.body)
        self._nursery.start_soon(self._carry, call)

    async def _carry(self, call: _Call) -> None:
        """Bring a request to the exchange, and its answer back."""
        request = call.request
        fate = self._outages.request("out", request.method, request.path, trio.current_time())
        if not await self._travel("out", self._request_s) or fate == "lost":
            return
        if fate == "broken":
            self._answer(call, Answer(None, "reset"))
            return
        answer = await self._exchange.answer(request._replace(arrived_s=trio.current_time()))
        if answer.lost == "silence":
            return
        fate = self._outages.request("in", request.method, request.path, trio.current_time())
        if fate == "lost" or not await self._travel("in", self._answer_s):
            return
        self._answer(call, Answer(None, "reset") if fate == "broken" else answer)

    async def _travel(self, way: Literal["out", "in"], draw: LatencyDraw) -> bool:
        """Wait as long as a request or an answer takes; return whether it arrives at all."""
        now_s = trio.current_time()
        free_s = self._outages.parted_until_s(way, "rest", now_s)
        if free_s - now_s > RESENT_WITHIN_S:
            return False
        await trio.sleep_until(free_s + draw.draw_s() + self._outages.delay_s(way, "rest", now_s))
        return True

    def _answer(self, call: _Call, answer: Answer) -> None:
        call.answer = answer
        call.waiting.move(trio.current_time())
