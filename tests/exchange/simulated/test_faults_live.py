"""Faults over sockets: each strikes as scheduled and is counted, and our own clients live through them."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

import actors.feed
from actors.clock import WallClock
from actors.feed import Feed, Market
from actors.mailbox import Office
from bot.config import FeedSettings
from bot.control.view import FeedStatus
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import Side
from bot.core.messages import Levels
from bot.core.secret import Secret
from bot.errors import BadReply, ClockSkew
from bot.exchange.poloniex import outcome, spot_client, streams
from bot.exchange.poloniex import private_state as ps
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.poloniex.outcome import Accepted, Doubt, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient, by_client_id, by_id
from bot.exchange.poloniex.streams import PrivateStream, SpotAccount, StreamSettings
from bot.exchange.simulated.events import MarketEvent, MarketSource
from bot.exchange.simulated.faults import FaultSchedule, decode_schedule
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import open_recording
from bot.exchange.simulated.server import ExchangeTerms, SimulatedExchange, open_exchange
from bot.exchange.transport import Backoff, Http, open_http
from tests.exchange.simulated.builders import BTC, RECORDINGS, Json, parsed
from tests.exchange.simulated.test_server import connected

FAULTS = "/simulated/faults"
QUICK = Backoff(0.001, 0.01, lambda: 0.5)
ORDERS: Json = {"method": "POST", "path": "/orders"}
ONCE: Json = {"count": 1}
REQUEST_TIMEOUT_S = 0.5


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@pytest.fixture(autouse=True)
def short_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search for an unknown order be as careful as ever, but in less time."""
    monkeypatch.setattr(outcome, "MARGIN_MS", 100)
    monkeypatch.setattr(outcome, "SLOW_MARGIN_MS", 200)
    monkeypatch.setattr(outcome, "NOT_FOUND_APART_MS", 100)
    monkeypatch.setattr(spot_client, "QUERY_AFTER_S", (0.05, 0.1))


def schedule(*faults: Json) -> FaultSchedule:
    return decode_schedule(msgspec.json.encode(faults), "test")


@dataclass
class Rig:
    """A simulated exchange and our client of its first account."""

    exchange: SimulatedExchange
    http: Http
    client: SpotClient
    credentials: Credentials
    placed: int = 0

    def inject(self, *faults: Json) -> None:
        self.exchange.inject(schedule(*faults))

    def struck(self) -> list[int]:
        return [report.struck for report in self.exchange.faults().faults]

    def order(self, *, is_market: bool = False) -> sw.NewOrder:
        """Return an order that fills at once, or one far below the market."""
        self.placed += 1
        return sw.NewOrder(
            symbol=BTC,
            side=Side.BUY,
            type="MARKET" if is_market else "LIMIT",
            client_id=f"ours-{self.placed}",
            price=None if is_market else Decimal(1_000),
            quantity=None if is_market else Decimal("0.01"),
            amount=Decimal(5) if is_market else None,
        )

    async def open_ids(self) -> list[str]:
        return [row.client_order_id or "" for row in await self.client.open_orders(BTC)]


@asynccontextmanager
async def open_rig(
    *faults: Json,
    source: MarketSource | None = None,
    speed: float = 1.0,
    recv_window_ms: int = 300,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
) -> AsyncGenerator[Rig]:
    async with (
        open_exchange(
            source or GeneratedMarket([BTC, "BTC_USDT_PERP"], 1, time.time_ns()),
            speed=speed,
            terms=ExchangeTerms(has_limits=False),
            futures=None if source else FuturesWing,
            faults=schedule(*faults),
        ) as exchange,
        open_http(
            exchange.rest_url, connect_timeout_s=1, request_timeout_s=request_timeout_s, user_agent="test"
        ) as http,
    ):
        account = exchange.clients[0]
        credentials = Credentials(Secret(account.key), Secret(account.secret))
        client = SpotClient(http, credentials=credentials, recv_window_ms=recv_window_ms, backoff=QUICK)
        exchange.start()
        with trio.fail_after(40):
            yield Rig(exchange, http, client, credentials)


async def place_unknown(rig: Rig) -> Unknown:
    placed = await rig.client.place(rig.order())
    assert isinstance(placed, Unknown), placed
    return placed


async def assert_found(rig: Rig, unknown: Unknown) -> None:
    found = await rig.client.resolve(BTC, unknown)
    assert isinstance(found, Accepted)
    assert found.value.client_order_id == unknown.client_id
    assert await rig.open_ids() == [unknown.client_id]


async def assert_absent(rig: Rig, unknown: Unknown) -> None:
    began_ms = rig.client.clock.now_ms()
    refused = await rig.client.resolve(BTC, unknown)
    assert isinstance(refused, Refused)
    assert refused.kind is RefusalKind.NEVER_ACCEPTED
    assert rig.client.clock.now_ms() > max(began_ms, unknown.fence_ms)
    assert await rig.open_ids() == []


# --- requests


@pytest.mark.parametrize("ends", ["close", "reset", "silence"])
async def test_after_a_lost_answer_the_order_is_found_and_is_the_only_one(ends: str) -> None:
    async with open_rig({"kind": "lost_answer", "ends": ends, **ORDERS, **ONCE}) as rig:
        unknown = await place_unknown(rig)
        assert unknown.doubt is Doubt.NO_ANSWER
        await assert_found(rig, unknown)
        assert rig.struck() == [1]


@pytest.mark.parametrize("ends", ["close", "reset", "silence"])
async def test_after_a_lost_request_the_order_is_never_accepted(ends: str) -> None:
    async with open_rig({"kind": "lost_request", "ends": ends, **ORDERS, **ONCE}) as rig:
        await assert_absent(rig, await place_unknown(rig))
        assert rig.struck() == [1]


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_may_hide_an_order(status: int) -> None:
    async with open_rig({"kind": "server_error", "status": status, "is_executed": True, **ORDERS, **ONCE}) as rig:
        unknown = await place_unknown(rig)
        assert unknown.doubt is Doubt.AMBIGUOUS
        await assert_found(rig, unknown)


async def test_a_server_error_may_be_all_that_happened() -> None:
    async with open_rig({"kind": "server_error", **ORDERS, **ONCE}) as rig:
        await assert_absent(rig, await place_unknown(rig))


async def test_a_storm_of_errors_is_lived_through() -> None:
    async with open_rig({"kind": "server_error", "method": "GET", "for_s": 1}) as rig:
        while rig.exchange.faults().faults[0].state != "over":
            await trio.sleep(0.05)
        assert (await rig.client.market(BTC)).symbol == BTC


@pytest.mark.parametrize("form", ["half", "noise"])
async def test_an_answer_that_is_garbage_hides_an_order(form: str) -> None:
    async with open_rig({"kind": "garbage_answer", "form": form, **ORDERS, **ONCE}) as rig:
        await assert_found(rig, await place_unknown(rig))


async def test_a_request_that_comes_too_late_is_refused() -> None:
    late = {"kind": "request_latency", "delay": {"shape": "fixed", "s": 1.0}}
    async with open_rig({**late, **ORDERS, **ONCE}) as rig:
        unknown = await place_unknown(rig)
        await assert_absent(rig, unknown)
        await trio.sleep(0.7)  # by now it has arrived
        assert await rig.open_ids() == []


async def test_an_answer_that_comes_too_late_hides_an_order() -> None:
    late = {"kind": "answer_latency", "delay": {"shape": "fixed", "s": 1.0}}
    async with open_rig({**late, **ORDERS, **ONCE}) as rig:
        await assert_found(rig, await place_unknown(rig))


async def test_delays_are_as_long_as_they_say() -> None:
    each = {"delay": {"shape": "uniform", "from_s": 0.1, "to_s": 0.15}}
    faults = {"kind": "request_latency", **each}, {"kind": "answer_latency", **each}
    async with open_rig(*faults, request_timeout_s=3.0) as rig:
        began_s = trio.current_time()
        await rig.client.server_time_ms()
        assert 0.2 <= trio.current_time() - began_s < 1.5


async def test_an_answer_that_drips_comes_in_the_end_or_is_given_up() -> None:
    async with open_rig({"kind": "slow_answer", "bytes_per_s": 200, **ORDERS}) as rig:
        began_s = trio.current_time()
        assert isinstance(await rig.client.place(rig.order()), Accepted)
        assert trio.current_time() - began_s > 0.2
        rig.exchange.clear_faults()
        rig.inject({"kind": "slow_answer", "bytes_per_s": 5, **ORDERS})
        assert isinstance(await rig.client.place(rig.order()), Unknown)
        assert len(await rig.open_ids()) == 2


async def test_too_many_requests_are_obeyed() -> None:
    async with open_rig() as rig:
        await rig.client.market(BTC)
        assert isinstance(await rig.client.place(rig.order()), Accepted)
        rig.inject({"kind": "too_many_requests", "retry_after_s": 1, **ORDERS, **ONCE})
        throttled = await rig.client.place(rig.order())
        assert isinstance(throttled, Refused)
        assert (throttled.kind, throttled.retry_after_s) == (RefusalKind.THROTTLED, 1)
        began_s = trio.current_time()
        assert isinstance(await rig.client.place(rig.order()), Accepted)
        assert trio.current_time() - began_s > 0.95
        assert len(await rig.open_ids()) == 2
        assert rig.struck() == [1]


async def test_maintenance_refuses_orders_and_cancels_and_is_announced() -> None:
    async with open_rig() as rig, connected(rig.exchange.ws_url) as socket:
        placed = await rig.client.place(rig.order())
        assert isinstance(placed, Accepted)
        await socket.send_message('{"event":"subscribe","channel":["exchange"]}')
        assert [await mode(socket), await mode(socket)] == [None, "OFF"]
        rig.inject({"kind": "maintenance", "at_s": 0.2, "for_s": 1})
        assert await mode(socket) == "ON"
        for refused in (await rig.client.place(rig.order()), await rig.client.cancel(by_id(placed.value.id))):
            assert isinstance(refused, Refused)
            assert (refused.kind, refused.code) == (RefusalKind.MODE, 21340)
        assert await rig.open_ids() == ["ours-1"]
        futures = await httpx_call(rig, "POST", "/v3/trade/order")
        assert (futures.status_code, futures.json()["code"]) == (200, 1002)
        assert await mode(socket) == "OFF"
        assert isinstance(await rig.client.cancel(by_id(placed.value.id)), Accepted)
        assert rig.struck() == [3]


async def test_C21_post_only_mode_refuses_takers_is_listed_and_ends() -> None:
    async with open_rig() as rig, connected(rig.exchange.ws_url) as socket:
        await socket.send_message('{"event":"subscribe","channel":["exchange"]}')
        assert [await mode(socket, "POM"), await mode(socket, "POM")] == [None, "OFF"]
        rig.inject({"kind": "post_only", "at_s": 0.2, "for_s": 1})
        assert await mode(socket, "POM") == "ON"
        assert (await rig.client.market(BTC)).state == "POST_ONLY"
        refused = await rig.client.place(rig.order())
        assert isinstance(refused, Refused)
        assert (refused.kind, refused.code) == (RefusalKind.MODE, 21341)
        maker = msgspec.structs.replace(rig.order(), type="LIMIT_MAKER")
        assert isinstance(await rig.client.place(maker), Accepted)
        assert await mode(socket, "POM") == "OFF"
        assert (await rig.client.market(BTC)).state == "NORMAL"
        assert isinstance(await rig.client.place(rig.order()), Accepted)
        assert rig.struck() == [1]


async def mode(socket: WebSocketConnection, name: str = "MM") -> str | None:
    """Return what the next frame says about a mode; None for an acknowledgement."""
    frame = parsed(await socket.get_message())
    return frame["data"][0][name] if "data" in frame else None


async def httpx_call(rig: Rig, method: str, path: str, body: Any = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=rig.exchange.rest_url) as client:
        return await client.request(method, path, content=None if body is None else msgspec.json.encode(body))


async def test_with_a_wrong_clock_nothing_is_signed() -> None:
    async with open_rig({"kind": "clock_skew", "offset_ms": 5_000}) as rig:
        with pytest.raises(ClockSkew):
            await rig.client.place(rig.order())


async def test_a_signature_that_is_too_old_for_a_wrong_clock_is_refused() -> None:
    async with open_rig({"kind": "clock_skew", "offset_ms": 5_000, "of": "signatures"}) as rig:
        refused = await rig.client.place(rig.order())
        assert isinstance(refused, Refused)
        assert (refused.kind, refused.code) == (RefusalKind.AUTH, 408)
        assert rig.struck() == [1]


async def test_a_small_skew_is_measured_and_does_no_harm() -> None:
    async with open_rig({"kind": "clock_skew", "offset_ms": -1_500}) as rig:
        assert isinstance(await rig.client.place(rig.order()), Accepted)
        reading = rig.client.clock.reading
        assert reading is not None
        assert -1_600 < reading.offset_ms < -1_400


async def test_a_cancel_that_loses_leaves_a_filled_order() -> None:
    async with open_rig({"kind": "fill_during_cancel", "share": 1.0}) as rig:
        placed = await rig.client.place(rig.order())
        assert isinstance(placed, Accepted)
        assert isinstance(await rig.client.cancel(by_id(placed.value.id)), Accepted)
        await trio.sleep(0.05)
        row = await rig.client.order(by_client_id("ours-1"))
        assert (row.state, row.filled_quantity) == ("FILLED", Decimal("0.01"))
        (trade,) = await rig.client.order_trades(placed.value.id)
        assert trade.quantity == Decimal("0.01")


# --- the control call


async def test_faults_are_added_listed_and_cleared_by_call() -> None:
    async with open_rig() as rig:
        added = await httpx_call(rig, "POST", FAULTS, [{"kind": "server_error", "status": 502, "path": "/markets"}])
        assert added.status_code == 200
        assert (await httpx_call(rig, "GET", "/markets")).status_code == 502
        listed = (await httpx_call(rig, "GET", FAULTS)).json()
        assert listed["faults"] == [
            {
                "fault": {"kind": "server_error", "path": "/markets", "status": 502},
                "state": "active",
                "matched": 1,
                "struck": 1,
            }
        ]
        assert (await httpx_call(rig, "DELETE", FAULTS)).json()["faults"] == listed["faults"]
        assert (await httpx_call(rig, "GET", FAULTS)).json()["faults"] == []
        assert (await httpx_call(rig, "GET", "/markets")).status_code == 200


async def test_a_bad_schedule_is_refused_and_changes_nothing() -> None:
    async with open_rig() as rig:
        refused = await httpx_call(rig, "POST", FAULTS, [{"kind": "cut", "code": 3}, {"kind": "cut"}])
        assert refused.status_code == 400
        assert refused.json() == {"code": 601, "message": "body: faults[0].code: 3 is wrong: expected `int` >= 1000"}
        assert rig.struck() == []
        assert (await httpx_call(rig, "PUT", FAULTS)).status_code == 405


async def test_a_fault_never_strikes_the_control_call() -> None:
    async with open_rig({"kind": "lost_request"}) as rig:
        assert (await httpx_call(rig, "GET", FAULTS)).status_code == 200
        assert rig.struck() == [0]


async def test_the_window_of_a_call_counts_from_the_call() -> None:
    async with open_rig(speed=10) as rig:
        await trio.sleep(0.2)
        rig.inject({"kind": "server_error", "at_s": 2, "for_s": 2})
        seen: list[int] = []
        for _ in range(20):
            seen.append((await httpx_call(rig, "GET", "/timestamp")).status_code)
            await trio.sleep(0.04)
        assert [seen[0], seen[-1]] == [200, 200]
        assert 503 in seen
        assert rig.struck() == [seen.count(503)]


async def serve(*arguments: str) -> trio.Process:
    command = [sys.executable, "-m", "bot", "exchange", "serve", *arguments]
    return await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_an_exchange_is_served_with_faults_out_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text('[[faults]]\nkind = "server_error"\nstatus = 502\npath = "/markets"\n')
    with trio.fail_after(30):
        process = await serve("--json", "--faults", str(file))
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stdout.receive_some()
        async with httpx.AsyncClient(base_url=parsed(said)["rest"]) as client:
            assert (await client.get("/markets")).status_code == 502
            assert (await client.get("/timestamp")).status_code == 200
            assert (await client.get(FAULTS)).json()["faults"][0]["struck"] == 1
        process.terminate()
        assert await process.wait() == 0
        await process.stdout.aclose()
        await process.stderr.aclose()


@pytest.mark.parametrize(
    ("text", "problem"),
    [('[[faults]]\nkind = "flood"', b"faults.toml: faults[0].kind: 'flood' must be one of"), (None, b"cannot read")],
)
async def test_faults_that_cannot_be_read_are_said(tmp_path: Path, text: str | None, problem: bytes) -> None:
    file = tmp_path / "faults.toml"
    if text is not None:
        file.write_text(text)
    command = [sys.executable, "-m", "bot", "exchange", "serve", "--faults", str(file)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 2
    assert problem in done.stderr


# --- frames and connections


async def closed(socket: WebSocketConnection) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        await socket.get_message()
    assert caught.value.reason is not None
    return caught.value.reason.code


@pytest.mark.parametrize(
    ("fault", "code"), [({"kind": "cut"}, 1006), ({"kind": "cut", "code": 1012}, 1012), ({"kind": "reset"}, 1006)]
)
async def test_a_silent_connection_ends_when_the_window_begins(fault: Json, code: int) -> None:
    async with open_rig() as rig, connected(rig.exchange.ws_url) as socket:
        rig.inject({**fault, "at_s": 0.2, "for_s": 60, **ONCE})
        with trio.fail_after(5):
            assert await closed(socket) == code
        assert rig.struck() == [1]


async def test_a_half_open_connection_neither_speaks_nor_listens_until_it_heals() -> None:
    async with open_rig() as rig, connected(rig.exchange.ws_url) as socket:
        rig.inject({"kind": "half_open", "for_s": 0.5, **ONCE})
        await socket.send_message('{"event":"ping"}')
        with trio.move_on_after(0.3) as waiting:
            await socket.get_message()
        assert waiting.cancelled_caught
        await trio.sleep(0.3)
        await socket.send_message('{"event":"ping"}')
        assert await socket.get_message() == '{"event":"pong"}'
        assert rig.struck() == [1]


async def test_late_frames_come_late_and_in_order() -> None:
    late = {"kind": "frame_latency", "delay": {"shape": "uniform", "from_s": 0.1, "to_s": 0.3}}
    async with open_rig(late) as rig, connected(rig.exchange.ws_url) as socket:
        began_s = trio.current_time()
        for number in range(3):
            await socket.send_message(f'{{"event":"unknown {number}"}}')
        said = [parsed(await socket.get_message())["message"] for _ in range(3)]
        assert 0.1 <= trio.current_time() - began_s < 2
        assert [f"unknown {number}" in text for number, text in enumerate(said)] == [True] * 3


async def test_frames_are_dropped_doubled_swapped_and_spoilt() -> None:
    answers = {"channel": "answers"}
    async with (
        open_rig(
            {"kind": "dropped_frame", **answers, "every": 2, **ONCE},
            {"kind": "duplicate_frame", **answers, "every": 4, **ONCE},
            {"kind": "garbage_frame", **answers, "every": 5, **ONCE},
            {"kind": "oversized_frame", **answers, "every": 6, "size_bytes": 3_000, **ONCE},
            {"kind": "reordered_frame", **answers, "every": 7, **ONCE},
        ) as rig,
        connected(rig.exchange.ws_url) as socket,
    ):
        for number in range(1, 10):
            await socket.send_message(f'{{"event":"{number}"}}')
        said = [shown(await socket.get_message()) for _ in range(9)]
        assert said == ["1", "3", "4", "4", "garbage", "3000", "8", "7", "9"]
        assert rig.struck() == [1, 1, 1, 1, 1]


def shown(frame: str | bytes) -> str:
    try:
        said = parsed(frame)
    except msgspec.DecodeError:
        return "garbage"
    return str(len(frame)) if isinstance(said, str) else said["message"][-3]


# --- the feed


class Watched:
    """A source that notes every window that the exchange has shown, by the id of the book."""

    def __init__(self, source: MarketSource) -> None:
        self.instruments = source.instruments
        self.description = source.description
        self.event_count = source.event_count
        self.first_ns = source.first_ns
        self.symbol = source.instruments[0].symbol
        self.exchange: SimulatedExchange | None = None
        self.windows: dict[int, tuple[Levels, Levels]] = {}
        self._source = source

    def events(self) -> Iterator[MarketEvent]:
        for event in self._source.events():
            yield event
            self.note()

    def note(self) -> None:
        if self.exchange is not None:
            book = self.exchange.venue.markets[self.symbol].book
            self.windows[book.id] = tuple(book.window.bids), tuple(book.window.asks)


@dataclass
class Witness(Office):
    """Compares each book that the feed says with the exchange's window of the same id."""

    source: Watched
    feed: Feed | None = None
    books: int = 0
    lost: int = 0
    wrong: list[m.Depth] = field(default_factory=list[m.Depth])
    trades: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        super().__init__((), is_lockstep=False)

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        match message:
            case m.Depth():
                self.source.note()
                assert self.feed is not None
                assert self.feed._data is not None
                book_id = self.feed._data._markets[message.symbol].book._id
                assert book_id is not None
                self.books += 1
                if self.source.windows[book_id] != (message.bids, message.asks):
                    self.wrong.append(message)
            case m.BookLost():
                self.lost += 1
            case m.TradeTick():
                self.trades.append(message.trade_id)
            case _:
                pass


FEED_FAULTS: tuple[Json, ...] = (
    {"kind": "dropped_frame", "channel": "book_lv2", "every": 13},
    {"kind": "reordered_frame", "channel": "book_lv2", "every": 29, "by": 1},
    {"kind": "duplicate_frame", "every": 11},
    {"kind": "cut", "path": "/ws", "every": 211},
    {"kind": "cut", "path": "/ws", "every": 307, "code": 1001},
    {"kind": "reset", "path": "/ws", "every": 257},
    {"kind": "garbage_frame", "every": 401},
    {"kind": "oversized_frame", "every": 977, "count": 2},
    {"kind": "half_open", "path": "/ws", "every": 301, "count": 1},
    {"kind": "server_error", "method": "GET", "every": 7},
    {"kind": "frame_latency", "every": 97, "delay": {"shape": "log_normal", "median_s": 0.005}},
)
GAPS_AND_ENDS = (0, 1, 3, 4, 5, 6, 7, 8)
"""Which of these lose something."""


async def feed_through_faults(source: MarketSource, speed: float, websocket: str) -> None:
    watched = Watched(source)
    witness = Witness(watched)
    async with open_rig(*FEED_FAULTS, source=watched, speed=speed) as rig, trio.open_nursery() as nursery:
        watched.exchange = rig.exchange
        watched.note()
        status = FeedStatus()
        settings = FeedSettings(
            websocket=websocket,  # pyright: ignore[reportArgumentType]  # one of the two
            book_silence_s=30,
            trades_silence_s=900,
            ticker_silence_s=900,
            candles_silence_s=900,
            ping_interval_s=0.3,
            backoff_min_s=0.01,
            backoff_max_s=0.02,
            history_bars=20,
        )
        feed = witness.feed = Feed(
            Market(ws_url=rig.exchange.ws_url, symbols=(watched.symbol,), timeframes_ns={}),
            PublicClient(rig.http, tries=2, backoff=QUICK),
            settings,
            WallClock(),
            witness,
            status,
            connect_timeout_s=1,
            on_ready=lambda: None,
        )
        nursery.start_soon(feed.run)
        while not has_lost_enough(rig) or witness.lost < 100:
            await trio.sleep(0.02)
        strikes = rig.struck()
        rig.exchange.clear_faults()
        assert all(strikes)
        before = witness.books
        while witness.books < before + 20:  # it comes back, and goes on
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert witness.wrong == []
    assert len(witness.trades) == len(set(witness.trades))
    assert status.gaps > 10
    assert status.reconnects > 10


def has_lost_enough(rig: Rig) -> bool:
    strikes = rig.struck()
    return sum(strikes[at] for at in GAPS_AND_ENDS) >= 100 and all(strikes)


@pytest.fixture
def sharp_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.feed, "FRAME_SILENCE_S", 0.7)
    monkeypatch.setattr(actors.feed, "BOOK_RETRY_S", 0.2)


@pytest.mark.usefixtures("sharp_ears")
@pytest.mark.parametrize("websocket", ["trio-websocket", "lean"])
async def test_the_book_of_a_feed_is_right_through_a_hundred_faults(websocket: str) -> None:
    await feed_through_faults(GeneratedMarket([BTC], 3, time.time_ns()), 120.0, websocket)


def recording(name: str) -> Path:
    path = RECORDINGS / f"{name}-20240808.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"skipped: no recorded market at {path}")
    return path


@pytest.mark.usefixtures("sharp_ears")
@pytest.mark.parametrize(("name", "speed"), [("spot-btc_usdt", 25.0), ("perp-btc_usdt", 12.0)])
async def test_the_book_of_a_recorded_market_is_right_through_a_hundred_faults(name: str, speed: float) -> None:
    await feed_through_faults(open_recording(recording(name)), speed, "lean")


# --- the private stream


@dataclass
class Told:
    """What a private stream says."""

    events: list[ps.Event] = field(default_factory=list[ps.Event])
    orders: dict[str, ps.OrderChanged] = field(default_factory=dict[str, ps.OrderChanged])
    fills: list[ps.Filled] = field(default_factory=list[ps.Filled])

    def say(self, event: ps.Event) -> None:
        self.events.append(event)
        match event:
            case ps.OrderChanged():
                self.orders[event.order_id] = event
            case ps.Filled():
                self.fills.append(event)
            case _:
                pass

    def is_right_about(self, row: sw.OrderRow) -> bool:
        """Return whether all was told of an order; one that lived while nobody listened is told by its fills only."""
        known = self.orders.get(row.id)
        if known is None:
            return row.state in FINISHED
        return (known.state, known.filled_quantity) == (row.state, row.filled_quantity)


FINISHED = {"FILLED", "CANCELED", "PARTIALLY_CANCELED"}
STREAM_FAULTS: tuple[Json, ...] = tuple(
    {"path": "/ws/private", **fault}
    for fault in (
        {"kind": "dropped_frame", "channel": "orders", "every": 5},
        {"kind": "dropped_frame", "channel": "balances", "every": 7},
        {"kind": "duplicate_frame", "every": 3},
        {"kind": "reordered_frame", "channel": "orders", "every": 9},
        {"kind": "cut", "every": 23},
        {"kind": "reset", "every": 31},
        {"kind": "garbage_frame", "every": 37},
        {"kind": "half_open", "every": 29, "count": 1},
    )
)


async def trade_on(rig: Rig, rounds: int) -> list[str]:
    """Place, cancel and fill orders; return the ids of all."""
    ids: list[str] = []
    for number in range(rounds):
        placed = await rig.client.place(rig.order(is_market=number % 3 == 0))
        assert isinstance(placed, Accepted), placed
        ids.append(placed.value.id)
        if number % 3 == 1:
            assert isinstance(await rig.client.cancel(by_id(placed.value.id)), Accepted)
        await trio.sleep(0.03)
    return ids


async def test_a_private_stream_misses_nothing_through_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FRAME_SILENCE_S", 0.7)
    monkeypatch.setattr(streams, "WATCH_EVERY_S", 0.2)
    told = Told()
    cancel_race = {"kind": "fill_during_cancel", "every": 2}
    async with open_rig(*STREAM_FAULTS, cancel_race, recv_window_ms=5_000) as rig, trio.open_nursery() as nursery:
        stream = PrivateStream(
            SpotAccount(rig.client),
            rig.exchange.private_ws_url,
            rig.credentials,
            told.say,
            settings=StreamSettings(
                connect_timeout_s=1,
                ping_interval_s=0.3,
                backoff_min_s=0.01,
                backoff_max_s=0.05,
                silence_s={"orders": 0.5, "balances": 0.5},
                grace_s=0.2,
            ),
        )
        nursery.start_soon(stream.run)
        while not stream.is_fresh:
            await trio.sleep(0.01)
        ids = await trade_on(rig, 60)
        strikes = rig.struck()
        rig.exchange.clear_faults()
        rows = [await rig.client.order(by_id(order_id)) for order_id in ids]
        while not all(told.is_right_about(row) for row in rows):
            await trio.sleep(0.05)
        traded = {row.id for row in await rig.client.trades([BTC], page=sw.Page(limit=100))}
        while {fill.trade_id for fill in told.fills} != traded:
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert all(strikes), strikes
    assert len(told.fills) == len(traded) > 20
    assert sum(isinstance(event, ps.Stale) for event in told.events) > 5
    assert {row.state for row in rows} >= {"NEW", "FILLED", "CANCELED", "PARTIALLY_CANCELED"}


async def test_garbage_in_a_read_is_an_error_of_ours() -> None:
    async with open_rig({"kind": "garbage_answer", "path": "/markets"}) as rig:
        with pytest.raises(BadReply):
            await rig.client.markets()
