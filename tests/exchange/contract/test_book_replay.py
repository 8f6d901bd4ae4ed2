"""The local book through real recordings: it equals the exchange's own window after every update, whatever is lost.

Frames are lost between the socket and the codec, at random by a seed, and connections are dropped and made again.
`REPLAY_EVENTS=0` plays the whole files.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice
from typing import cast

import pytest
import trio

from bot.core.book import Applied, Book
from bot.errors import ConnectionLost
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import decode_frame, subscribe_text, unsubscribe_text
from bot.exchange.poloniex.dialects import BOOK
from bot.exchange.poloniex.market_data import MarketData
from bot.exchange.poloniex.private_codec import decode_futures_public
from bot.exchange.poloniex.private_wire import FuturesBookFrame
from bot.exchange.simulated.events import Level, MarketEvent, MarketSource
from bot.exchange.simulated.futures_instruments import perpetual
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.recording import open_recording
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from bot.exchange.transport import WebSocket, open_websocket
from tests.support.cli import RECORDINGS

EVENTS = int(os.environ.get("REPLAY_EVENTS", "4500")) or None
SPEED = 15.0
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
            wing = self.exchange.futures
            markets = self.exchange.venue.markets if wing is None else cast("FuturesWing", wing).feed.markets
            book = markets[self.instruments[0].symbol].book
            self.windows[book.id] = tuple(book.window.bids), tuple(book.window.asks)


class Follower:
    """Our local book of one spot symbol, on a connection that loses frames."""

    path = "/ws/public"

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
                url = exchange.rest_url.replace("http", "ws") + self.path
                async with open_websocket(url, connect_timeout_s=5.0) as socket:
                    await socket.send(subscribe_text([BOOK], [self.symbol]))
                    exchange.start()
                    await self._read(socket, exchange)
            except ConnectionLost:
                assert exchange.ended.is_set()
            self.lose()

    @property
    def book(self) -> Book:
        """The local book."""
        return self.data._markets[self.symbol].book  # nothing else shows a whole side

    @property
    def gaps(self) -> int:
        """How often it was lost."""
        return self.data.gaps

    def lose(self) -> None:
        """The connection is gone."""
        list(self.data.lose_all(0, "disconnected"))

    def take(self, raw: bytes) -> tuple[int | None, bool]:
        """Apply a frame; return the id of the book that it says, if it does, and whether to subscribe again."""
        frame = decode_frame(raw)
        list(self.data.handle(frame, 0))
        is_broken = bool(self.data.broken)
        self.data.broken.clear()
        return (frame.data[-1].id if isinstance(frame, wire.BookFrame) else None), is_broken

    async def _read(self, socket: WebSocket, exchange: SimulatedExchange) -> None:
        """Read until it is time to hang up."""
        hang_up_at = (self.disconnects + 1) * self._event_count // (DISCONNECTS + 1)
        while self.disconnects >= DISCONNECTS or exchange.events_done < hang_up_at:
            raw = await socket.receive()
            if self._rng.random() < LOSS and b'"action":"update"' in raw:
                self.lost += 1
                continue
            book_id, is_broken = self.take(raw)
            if book_id is not None and self.book.is_whole:
                assert (self.book.bids, self.book.asks) == self._windows[book_id]
                self.compared += 1
            if is_broken:
                await socket.send(unsubscribe_text([BOOK], [self.symbol]))
                await socket.send(subscribe_text([BOOK], [self.symbol]))
        self.disconnects += 1


class FuturesFollower(Follower):
    """The same of a contract, on the futures' socket: sizes are contracts, and the chain is called `lid`."""

    path = "/ws/v3/public"

    def __init__(self, watched: Watched, seed: int) -> None:
        super().__init__(watched, seed)
        self._instrument = perpetual(watched.instruments[0]).instrument
        self._book = Book()
        self._gaps = 0

    @property
    def book(self) -> Book:
        return self._book

    @property
    def gaps(self) -> int:
        return self._gaps

    def lose(self) -> None:
        self._book.lose()

    def take(self, raw: bytes) -> tuple[int | None, bool]:
        frame = decode_futures_public(raw)
        if not isinstance(frame, FuturesBookFrame):
            return None, False
        (row,) = frame.data
        bids, asks = (
            [(self._instrument.price_ticks(price), int(contracts)) for price, contracts in side]
            for side in (row.bids, row.asks)
        )
        if frame.action == "snapshot":
            applied = self._book.replace(row.id, bids, asks)
        else:
            applied = self._book.update(row.last_id, row.id, bids, asks)
        self._gaps += applied is Applied.GAP
        return row.id, applied is Applied.GAP


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "kind"),
    [("spot-btc_usdt", Follower), ("perp-btc_usdt", Follower), ("perp-btc_usdt", FuturesFollower)],
)
async def test_the_local_book_is_the_exchanges_window_after_every_update(name: str, kind: type[Follower]) -> None:
    path = RECORDINGS / f"{name}-20240808.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the real recording is not at hand at {path}")
    watched = Watched(open_recording(path))
    wing = FuturesWing if kind is FuturesFollower else None
    async with open_exchange(watched, speed=SPEED, accounts=[], futures=wing) as exchange:
        watched.exchange = exchange
        watched.note()
        follower = kind(watched, seed=1)
        with trio.fail_after(280):
            await follower.follow(exchange)
    print(f"{name} {kind.__name__}: {follower.compared} compared, {follower.gaps} gaps, {follower.lost} frames lost")
    assert follower.disconnects == DISCONNECTS
    assert follower.gaps + follower.disconnects >= 100
    assert follower.compared >= 200
