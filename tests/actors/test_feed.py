"""The feed under faults, over real sockets: it comes back or says why not, and never believes in a wrong book."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
from trio.testing import MockClock

import actors.feed
from actors.clock import MarketClock, WallClock
from actors.feed import Feed, Market
from actors.mailbox import Office
from bot.config import FeedSettings
from bot.control.view import FeedStatus
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import Instrument
from bot.errors import ConnectionLost, NotListed, ReplayBroken
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.poloniex.codec import decode_frame
from bot.exchange.poloniex.market_data import MarketData, sent_ns
from bot.exchange.transport import Backoff, open_http
from tests.support.builders import instrument
from tests.support.http_peer import Step, answers, is_silent
from tests.support.scripted_exchange import (
    SYMBOL,
    Connection,
    Script,
    ScriptedExchange,
    open_scripted_exchange,
    well,
)

MINUTE_NS = 60 * 10**9
QUICK = Backoff(0.001, 0.01, lambda: 0.5)


class Recorder(Office):
    """Keeps what the feed says."""

    def __init__(self, *, is_lockstep: bool = False) -> None:
        super().__init__((), is_lockstep=is_lockstep)
        self.said: list[m.AnyMessage] = []

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        assert speaker is Stage.FEED
        self.said.append(message)


@dataclass
class Fixture:
    """A feed on a scripted exchange."""

    exchange: ScriptedExchange
    feed: Feed
    office: Recorder
    status: FeedStatus
    believed: list[tuple[m.Levels, m.Levels]] = field(default_factory=list[tuple[m.Levels, m.Levels]])

    def said(self) -> list[m.AnyMessage]:
        return list(self.office.said)

    def depths(self) -> list[m.Depth]:
        return [message for message in self.office.said if isinstance(message, m.Depth)]

    async def wait_depths(self, count: int) -> None:
        """Wait until the feed has said `count` more books."""
        wanted = len(self.depths()) + count
        while len(self.depths()) < wanted:
            await trio.sleep(0.005)

    def assert_no_wrong_book(self) -> None:
        wrong = [depth for depth in self.depths() if (depth.bids, depth.asks) not in self.exchange.books]
        assert wrong == []


websocket_kind: ContextVar[str] = ContextVar("websocket_kind", default="trio-websocket")


@pytest.fixture(params=["trio-websocket", "lean"], autouse=True)
def either_websocket(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test with either socket: `settings` looks here."""
    token = websocket_kind.set(request.param)
    yield
    websocket_kind.reset(token)


def settings(**changes: float) -> FeedSettings:
    values: dict[str, float | str] = {
        "websocket": websocket_kind.get(),
        "book_silence_s": 30,
        "trades_silence_s": 900,
        "ticker_silence_s": 900,
        "candles_silence_s": 900,
        "ping_interval_s": 10,
        "backoff_min_s": 0.01,
        "backoff_max_s": 0.02,
        "history_bars": 20,
    }
    return FeedSettings(**values | changes)  # pyright: ignore[reportArgumentType]  # history_bars is whole


@asynccontextmanager
async def feeding(
    *scripts: Script,
    is_lockstep: bool = False,
    rest: tuple[Step, ...] = (),
    symbols: tuple[str, ...] = (SYMBOL,),
    **changes: float,
) -> AsyncGenerator[Fixture]:
    async with (
        open_scripted_exchange(*scripts, rest=rest) as exchange,
        open_http(exchange.rest.url, connect_timeout_s=2, request_timeout_s=1, user_agent="test") as http,
    ):
        office, status = Recorder(is_lockstep=is_lockstep), FeedStatus()
        feed = Feed(
            Market(ws_url=exchange.ws_url, symbols=symbols, timeframes_ns={SYMBOL: (10**9, MINUTE_NS)}),
            PublicClient(http, tries=2, backoff=QUICK),
            settings(**changes),
            MarketClock(exchange.venue.time_ns) if is_lockstep else WallClock(),
            office,
            status,
            connect_timeout_s=2,
            on_ready=lambda: None,
        )
        fixture = Fixture(exchange, feed, office, status)
        with trio.fail_after(30):
            yield fixture
        fixture.assert_no_wrong_book()


@asynccontextmanager
async def running(*scripts: Script, rest: tuple[Step, ...] = (), **changes: float) -> AsyncGenerator[Fixture]:
    feeder = feeding(*scripts, rest=rest, **changes)  # pyright: ignore[reportArgumentType]  # changes are of settings
    async with feeder as fixture, trio.open_nursery() as nursery:
        nursery.start_soon(fixture.feed.run)
        yield fixture
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


async def test_a_feed_says_instrument_books_trades_and_marks() -> None:
    async with running(well) as fixture:
        wanted = {m.InstrumentListed, m.Depth, m.Quote, m.TradeTick, m.Bar, m.MarkPrice, m.Tick}
        while not wanted <= {type(message) for message in fixture.office.said}:
            await trio.sleep(0.01)
        assert fixture.status.state == "live"
        assert isinstance(fixture.office.said[0], m.InstrumentListed)


async def test_a_burst_loses_no_trade_and_ends_with_the_newest_book() -> None:
    sent: list[wire.Frame] = []
    is_sent = trio.Event()

    async def bursts(connection: Connection) -> None:
        sent.extend(decode_frame(payload) for payload in connection.answers)
        for _ in range(500):  # without a pause
            payload = connection.exchange.next_frame(connection.session).payload
            sent.append(decode_frame(payload))
            await connection.socket.send_message(payload.decode())
        is_sent.set()
        await trio.sleep_forever()

    async with running(bursts) as fixture:
        await is_sent.wait()
        while fixture.status.frames < sum(sent_ns(frame) is not None for frame in sent):
            await trio.sleep(0.01)
        trades = [row.trade_id for frame in sent if isinstance(frame, wire.TradesFrame) for row in frame.data]
        assert [message.trade_id for message in fixture.office.said if isinstance(message, m.TradeTick)] == trades
        last = fixture.depths()[-1]
        assert (last.bids, last.asks) == fixture.exchange.book
        assert fixture.status.gaps == 0


# --- connections that end


async def cut(connection: Connection) -> None:
    await connection.play(10)
    await connection.socket.aclose(1001, "going away")


async def reset(connection: Connection) -> None:
    await connection.play(10)
    await connection.reset()


async def cut_at_once(connection: Connection) -> None:
    await trio.aclose_forcefully(connection.stream)


@pytest.mark.parametrize("fault", [cut, reset, cut_at_once])
async def test_a_connection_that_ends_is_made_again(fault: Script) -> None:
    async with running(fault, fault, well) as fixture:
        while fixture.exchange.connections < 3:
            await trio.sleep(0.01)
        await fixture.wait_depths(10)
        assert fixture.status.reconnects == 2


async def test_while_disconnected_no_book_is_known() -> None:
    async with running(cut, well, backoff_min_s=0.3, backoff_max_s=0.3) as fixture:
        while fixture.status.state != "lost":
            await trio.sleep(0.005)
        books = [x for x in fixture.office.said if isinstance(x, m.Depth | m.BookLost)]
        assert isinstance(books[-1], m.BookLost)
        await fixture.wait_depths(1)


async def test_a_half_open_connection_is_found_by_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.feed, "FRAME_SILENCE_S", 1.0)

    async def half_open(connection: Connection) -> None:
        await connection.play(10)
        connection.is_listening = False  # TCP lives, nothing is answered any more
        await trio.sleep_forever()

    async with running(half_open, well, ping_interval_s=1) as fixture:
        await fixture.wait_depths(30)
        assert fixture.exchange.connections == 2


async def test_a_topic_that_falls_silent_is_asked_for_again_on_the_same_connection() -> None:
    async def book_stops(connection: Connection) -> None:
        await connection.play(10)
        del connection.session._topics["book_lv2", SYMBOL]
        await connection.subscribed()  # the client asks again
        await well(connection)

    async with running(book_stops, book_silence_s=1) as fixture:
        await fixture.wait_depths(30)
        assert fixture.exchange.connections == 1
        asked = [request for request in fixture.exchange.requests if '"book_lv2"' in request]
        events = [msgspec.json.decode(request)["event"] for request in asked]
        # A machine that is slow leaves a second of silence again: then it is asked for again.
        assert events == ["subscribe", *["unsubscribe", "subscribe"] * (len(events) // 2)]
        assert len(events) >= 3


class Deaf:
    """A socket that nobody answers."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []

    async def send(self, text: str | bytes) -> None:
        self.sent.append(text)

    async def receive(self) -> bytes:
        return await trio.sleep_forever()

    async def receive_many(self) -> list[bytes]:
        return await trio.sleep_forever()


@pytest.mark.parametrize("left", [(), (SYMBOL,)])
async def test_the_silence_of_a_market_in_which_something_is_left_ends_no_connection(
    left: tuple[str, ...], autojump_clock: MockClock
) -> None:
    socket = Deaf()
    session = actors.feed._Session(socket, MarketData([instrument(SYMBOL)], {}), settings(), left)
    await session.subscribe_all()
    with trio.move_on_after(3_600) as hour:
        if left:
            await session.watch_silence()
        else:
            with pytest.raises(ConnectionLost, match="book_lv2 of BTC_USDT silent for 30 s, twice"):
                await session.watch_silence()
    assert hour.cancelled_caught is bool(left)
    assert len(socket.sent) > 2


# --- frames that are wrong


async def gap(connection: Connection) -> None:
    await connection.play(10)
    for _ in range(3):
        await connection.play_book()  # never sent
        await connection.play(20)
    await well(connection)


async def duplicates(connection: Connection) -> None:
    while True:
        frame = connection.exchange.next_frame(connection.session)
        await connection.send(frame)
        await connection.send(frame)


async def reordered(connection: Connection) -> None:
    await connection.play(10)
    late = await connection.play_book()
    early = await connection.play_book()
    await connection.send(early)
    await connection.send(late)
    await well(connection)


async def test_a_gap_in_the_book_is_repaired_by_subscribing_again() -> None:
    async with running(gap) as fixture:
        while fixture.status.gaps < 1:
            await trio.sleep(0.01)
        await fixture.wait_depths(20)
        assert fixture.exchange.connections == 1
        assert any(isinstance(message, m.BookLost) for message in fixture.office.said)


async def always_gaps(connection: Connection) -> None:
    while True:
        await connection.play(3)
        await connection.play_book()  # never sent


async def test_F36_a_book_that_stays_broken_is_asked_for_seldom() -> None:
    async with running(always_gaps) as fixture:
        while fixture.status.gaps < 1:
            await trio.sleep(0.01)
        await trio.sleep(0.5)
        asked = [request for request in fixture.exchange.requests if '"book_lv2"' in request]
        assert len(asked) == 3  # the first subscription, and one more try in any five seconds
        assert fixture.exchange.connections == 1


async def test_repeated_frames_change_nothing() -> None:
    async with running(duplicates) as fixture:
        await fixture.wait_depths(30)
        trades = [message.trade_id for message in fixture.office.said if isinstance(message, m.TradeTick)]
        assert trades
        assert len(trades) == len(set(trades))
        assert fixture.status.gaps == 0


async def test_frames_out_of_order_are_a_gap() -> None:
    async with running(reordered) as fixture:
        await fixture.wait_depths(30)
        assert fixture.status.gaps >= 1
        assert fixture.exchange.connections == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json at all",
        b'{"channel":"book_lv2","data":[{"symbol":"BTC_USDT","bids":[["1e400","1"]],"asks":[],"id":1,"ts":1}]}',
        b'{"channel":"trades","data":[{"symbol":"BTC_USDT","id":1,"price":"NaN","quantity":"1"}]}',
        b"[" * 100_000,
    ],
)
async def test_a_garbage_frame_ends_the_connection_and_a_new_one_is_made(garbage: bytes) -> None:
    async def script(connection: Connection) -> None:
        await connection.play(10)
        await connection.send(garbage)
        await well(connection)

    async with running(script, well) as fixture:
        while fixture.exchange.connections < 2:
            await trio.sleep(0.01)
        await fixture.wait_depths(10)


async def test_a_frame_of_100_mb_is_not_read() -> None:
    async def script(connection: Connection) -> None:
        await connection.play(10)
        await connection.stream.send_all(b"\x81\x7f" + (100 * 2**20).to_bytes(8, "big"))
        for _ in range(1600):  # past the stream: the peer may want to say goodbye in between
            await connection.stream.socket.send(b"x" * 2**16)

    async with running(script, well) as fixture:
        while fixture.exchange.connections < 2:
            await trio.sleep(0.01)
        await fixture.wait_depths(10)


# --- REST


@pytest.mark.parametrize(
    "fault", [answers(b"{}", 429, "Retry-After: 0\r\n"), answers(b"oops", 500), is_silent, answers(b"[")]
)
async def test_rest_that_fails_at_the_start_is_asked_again(fault: Step) -> None:
    async with running(well, rest=(fault,) * 3) as fixture:
        await fixture.wait_depths(5)
        assert len(fixture.exchange.rest.requests) > 3


async def test_a_symbol_that_is_not_listed_ends_the_bot_and_names_the_closest() -> None:
    async with feeding(well, symbols=("BTC_USDC",)) as fixture:
        with pytest.RaisesGroup(NotListed, flatten_subgroups=True) as caught:
            await fixture.feed.run()
        assert "BTC_USDC (closest: BTC_USDT" in str(caught.value.exceptions[0])


async def listed_anew(fixture: Fixture, monkeypatch: pytest.MonkeyPatch, **changes: bool) -> None:
    """List all markets with another mode from now on, and wait until the feed has said so."""
    listed = await fixture.feed._client.instruments()
    anew = {symbol: msgspec.structs.replace(each, **changes) for symbol, each in listed.items()}

    async def instruments() -> dict[str, Instrument]:
        return anew

    monkeypatch.setattr(fixture.feed._client, "instruments", instruments)
    while not any(isinstance(each, m.InstrumentListed) and each.instrument in anew.values() for each in fixture.said()):
        await trio.sleep(0.01)


async def test_F42_a_market_that_is_paused_is_said_without_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.feed, "RELIST_S", 0.05)
    async with running(well) as fixture:
        await fixture.wait_depths(5)
        await listed_anew(fixture, monkeypatch, is_open=False)
        assert fixture.exchange.connections == 1


async def test_C21_post_only_mode_is_heard_with_the_next_listing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(actors.feed, "RELIST_S", 0.05)
    caplog.set_level(logging.WARNING)
    async with running(well) as fixture:
        await fixture.wait_depths(5)
        await listed_anew(fixture, monkeypatch, is_post_only=True)
        assert fixture.exchange.connections == 1
    assert f"{SYMBOL} is in post-only mode: the exchange takes maker orders only" in caplog.text


async def test_F113_a_market_that_is_delisted_is_closed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(actors.feed, "RELIST_S", 0.05)
    caplog.set_level(logging.WARNING)
    async with running(well) as fixture:
        await fixture.wait_depths(5)

        async def instruments() -> dict[str, Instrument]:
            return {}

        monkeypatch.setattr(fixture.feed._client, "instruments", instruments)
        while not any(isinstance(each, m.InstrumentListed) and not each.instrument.is_open for each in fixture.said()):
            await trio.sleep(0.01)
        await fixture.wait_depths(10)
        assert fixture.exchange.connections == 1
    assert f"{SYMBOL} is not traded now: the exchange has paused or delisted it" in caplog.text


async def test_F42_new_steps_of_a_market_make_its_book_be_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.feed, "RELIST_S", 0.05)
    async with running(well, well) as fixture:
        await fixture.wait_depths(5)
        listed = await fixture.feed._client.instruments()
        finer = {symbol: msgspec.structs.replace(each, price_scale=3) for symbol, each in listed.items()}

        async def instruments() -> dict[str, Instrument]:
            return finer

        monkeypatch.setattr(fixture.feed._client, "instruments", instruments)
        while fixture.exchange.connections < 2:
            await trio.sleep(0.01)
        await fixture.wait_depths(5)
        fixture.office.said.clear()  # in the finer steps they are none of the exchange's own


# --- lockstep


async def test_a_replay_that_loses_its_connection_ends_and_says_so() -> None:
    async with feeding(cut, well, is_lockstep=True) as fixture:
        with pytest.RaisesGroup(ReplayBroken, flatten_subgroups=True):
            await fixture.feed.run()
        assert fixture.exchange.connections == 1
