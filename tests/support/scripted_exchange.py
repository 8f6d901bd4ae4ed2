"""A small exchange on real sockets that misbehaves on cue: each connection to it follows a script."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio
import trio_websocket

from bot.core.messages import Levels
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.session import Session
from bot.exchange.simulated.venue import Publication, Venue
from tests.support.http_peer import HttpPeer, Step, answers, open_http_peer

SYMBOL = "BTC_USDT"
START_NS = 1_767_225_600 * 10**9
PAUSE_S = 0.002


@dataclass
class Connection:
    """One client; a script says what happens to it."""

    exchange: ScriptedExchange
    socket: trio_websocket.WebSocketConnection
    stream: trio.SocketStream
    session: Session
    is_listening: bool = True
    is_answering: bool = False
    answers: list[bytes] = field(default_factory=list[bytes])
    """All that was sent in answer to requests."""

    async def listen(self) -> None:
        """Answer requests, for ever."""
        with suppress(*GONE):
            while True:
                text = await self.socket.get_message()
                if self.is_listening:
                    self.exchange.requests.append(str(text))
                    await self.answer(self.session.handle(str(text)))

    async def answer(self, frames: list[bytes]) -> None:
        """Send what a request is answered with."""
        self.is_answering = True
        try:
            for frame in frames:
                await self.socket.send_message(frame.decode())
                self.answers.append(frame)
        finally:
            self.is_answering = False

    async def subscribed(self) -> None:
        """Wait until the client has asked for the book, and has its answers: no update goes before its snapshot."""
        while ("book_lv2", SYMBOL) not in self.session.topics or self.is_answering:
            await trio.sleep(PAUSE_S)

    async def play(self, frames: int) -> None:
        """Send so many frames, as a good exchange does."""
        for _ in range(frames):
            await self.send(self.exchange.next_frame(self.session))

    async def play_book(self) -> bytes:
        """Let time pass until the book changes; return that frame without sending it."""
        while True:
            frame = self.exchange.next_frame(self.session)
            if frame.channel == "book_lv2":
                return frame.payload
            await self.send(frame)

    async def send(self, frame: Publication | bytes) -> None:
        await self.socket.send_message((frame if isinstance(frame, bytes) else frame.payload).decode())
        await trio.sleep(PAUSE_S)

    async def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(self.stream)


GONE = (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""How a client that has left looks from here."""

Script = Callable[[Connection], Awaitable[None]]


async def well(connection: Connection) -> None:
    """Behave, for ever."""
    while True:
        await connection.play(1)


@dataclass
class ScriptedExchange:
    """The market that all connections share; it stands still while nobody plays it."""

    scripts: list[Script]
    rest: HttpPeer
    venue: Venue
    ws_url: str = ""
    connections: int = 0
    requests: list[str] = field(default_factory=list[str])
    books: set[tuple[Levels, Levels]] = field(default_factory=set[tuple[Levels, Levels]])
    """Every window that was ever true."""

    def __post_init__(self) -> None:
        source = GeneratedMarket((SYMBOL,), 5, START_NS)
        self._events = self.venue.open(source)
        self._waiting: list[Publication] = []
        self._note_book()

    def _note_book(self) -> None:
        self.books.add(self.book)

    @property
    def book(self) -> tuple[Levels, Levels]:
        """Return the best 20 levels of each side, as they are."""
        bids, asks = self.venue.markets[SYMBOL].book.window
        return tuple(bids), tuple(asks)

    def next_frame(self, session: Session) -> Publication:
        """Let the market go on until it has something to say to `session`."""
        while not self._waiting:
            self._waiting = self.venue.apply(next(self._events), session.topics)
            self._note_book()
        return self._waiting.pop(0)

    async def serve(self, request: trio_websocket.WebSocketRequest) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        socket = await request.accept()
        stream = socket._stream
        assert isinstance(stream, trio.SocketStream)
        connection = Connection(self, socket, stream, Session(self.venue))
        self._waiting.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.listen)
            with suppress(*GONE):
                await connection.subscribed()
                await script(connection)
            nursery.cancel_scope.cancel()


def market_rest(venue: Venue, peers: list[HttpPeer]) -> Step:
    """Return the step that answers as the exchange does; the peer that takes the requests is put into `peers`."""

    async def step(stream: trio.SocketStream) -> None:
        target = peers[0].requests[-1].split(b" ")[1].decode()
        path, _, query = target.partition("?")
        reply = answer(venue, "GET", path, query)
        await answers(reply.body, reply.status)(stream)

    return step


@asynccontextmanager
async def open_scripted_exchange(*scripts: Script, rest: tuple[Step, ...] = ()) -> AsyncGenerator[ScriptedExchange]:
    """Serve connection number n by script n, and all later ones by the last; REST request n by step n, then well."""
    source = GeneratedMarket((SYMBOL,), 5, START_NS)
    venue = Venue(source.instruments, source.first_ns)
    peers: list[HttpPeer] = []
    async with open_http_peer(*rest, market_rest(venue, peers)) as peer, trio.open_nursery() as nursery:
        peers.append(peer)
        exchange = ScriptedExchange(list(scripts), peer, venue)
        server = await nursery.start(trio_websocket.serve_websocket, exchange.serve, "127.0.0.1", 0, None)
        exchange.ws_url = f"ws://127.0.0.1:{server.port}/ws/public"
        yield exchange
        nursery.cancel_scope.cancel()
