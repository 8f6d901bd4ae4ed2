"""The local book through real recordings: it equals the exchange's own window after every update, whatever is lost.

Frames are lost between the socket and the codec, at random by a seed, and connections are dropped and made again.
`REPLAY_EVENTS=0` plays the whole files.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice

import pytest
import trio

from bot.errors import ConnectionLost
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import decode_frame, subscribe_text, unsubscribe_text
from bot.exchange.poloniex.market_data import BOOK, MarketData
from bot.exchange.simulated.events import Level, MarketEvent, MarketSource
from bot.exchange.simulated.recording import open_recording
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from bot.exchange.transport import WebSocket, open_websocket
from tests.support.cli import RECORDINGS

EVENTS = int(os.environ.get("REPLAY_EVENTS", "3000")) or None
SPEED = 20.0
"""How much faster than then: what is lost in a pause is lost."""
LOSS = 0.2
"""Of frames."""
DISCONNECTS = 5
LEVELS = 20
Sides = tuple[tuple[Level, ...], tuple[Level, ...]]


class Watched:
    """A source that notes the exchange's window after each event that was applied."""

    def __init__(self, source: MarketSource) -> None:
        self.instruments = source.instruments
        self.description = source.description
        self.first_ns = source.first_ns
        self.event_count = EVENTS if EVENTS is not None else source.event_count
        self.exchange: SimulatedExchange | None = None
        self.windows: dict[int, Sides] = {}
        """By the window's id."""
        self._source = source

    def events(self) -> Iterator[MarketEvent]:
        for event in islice(self._source.events(), EVENTS):
            yield event
            self.note()

    def note(self) -> None:
        if self.exchange is not None:
            book = self.exchange.venue.markets[self.instruments[0].symbol].book
            self.windows[book.id] = tuple(book.window.bids), tuple(book.window.asks)


class Follower:
    """Our local book of one symbol, on a connection that loses frames."""

    def __init__(self, watched: Watched, seed: int) -> None:
        self.data = MarketData(watched.instruments, {})
        self.symbol = watched.instruments[0].symbol
        self.compared = self.lost = self.disconnects = 0
        self._windows = watched.windows
        self._rng = random.Random(seed)
        self._event_count = watched.event_count or 1

    async def follow(self, exchange: SimulatedExchange) -> None:
        """Follow the book to the end of the market."""
        while not exchange.ended.is_set():
            try:
                async with open_websocket(exchange.ws_url, connect_timeout_s=5.0) as socket:
                    await socket.send(subscribe_text([BOOK], [self.symbol]))
                    exchange.start()
                    await self._read(socket, exchange)
            except ConnectionLost:
                assert exchange.ended.is_set()
            list(self.data.lose_all(0, "disconnected"))

    async def _read(self, socket: WebSocket, exchange: SimulatedExchange) -> None:
        """Read until it is time to hang up."""
        hang_up_at = (self.disconnects + 1) * self._event_count // (DISCONNECTS + 1)
        while self.disconnects >= DISCONNECTS or exchange.events_done < hang_up_at:
            raw = await socket.receive()
            if self._rng.random() < LOSS and b'"action":"update"' in raw:
                self.lost += 1
                continue
            frame = decode_frame(raw)
            list(self.data.handle(frame, 0))
            if isinstance(frame, wire.BookFrame):
                self._compare(frame.data[-1].id)
            if self.data.broken:
                self.data.broken.clear()
                await socket.send(unsubscribe_text([BOOK], [self.symbol]))
                await socket.send(subscribe_text([BOOK], [self.symbol]))
        self.disconnects += 1

    def _compare(self, book_id: int) -> None:
        book = self.data._markets[self.symbol].book  # nothing else shows a whole side
        if book.is_whole:
            assert (book.bids, book.asks) == self._windows[book_id]
            self.compared += 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["spot-btc_usdt", "perp-btc_usdt"])
async def test_the_local_book_is_the_exchanges_window_after_every_update(name: str) -> None:
    path = RECORDINGS / f"{name}-20240808.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the real recording is not at hand at {path}")
    watched = Watched(open_recording(path))
    async with open_exchange(watched, speed=SPEED, accounts=[]) as exchange:
        watched.exchange = exchange
        watched.note()
        follower = Follower(watched, seed=1)
        with trio.fail_after(280):
            await follower.follow(exchange)
    print(f"{name}: {follower.compared} compared, {follower.data.gaps} gaps, {follower.lost} frames lost")
    assert follower.disconnects == DISCONNECTS
    assert follower.data.gaps + follower.disconnects >= 100
    assert follower.compared >= 200
