"""The whole bot but for its screens, on frames of a writer process: real socket, real actors, either journal.

The market's clock is the bot's, so that bars end and orders are decided as often as the market's own time says, however
fast it is played; but nobody waits for anybody, as in real time.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import trio

from actors.clock import MarketClock
from actors.feed import Feed, Market
from actors.mailbox import Office
from actors.persistence import Commits, run_persistence
from actors.stage import run_stage
from bot.assembly import Machines, atoms_of
from bot.config import Settings, load_settings
from bot.control.view import FeedStatus
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import Stage
from bot.core.ledger import Ledger
from bot.exchange.lean_websocket import LeanWebSocket
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.transport import open_http
from bot.storage.base import Journal
from bot.storage.memory import MemoryJournal
from bot.storage.portal import open_portal
from bot.storage.sqlite import open_sqlite_journal
from bot.strategies.base import Strategy
from bot.strategies.seats import ShareSeat
from tests.bench.frames import START_NS

SYMBOLS = ("BTC_USDT", "ETH_USDT")
CHANNELS = ("book_lv2", "trades", "ticker")
STAGES = (Stage.STRATEGY, Stage.RISK_GATE, Stage.PERSISTENCE, Stage.EXECUTOR, Stage.CONTROL)


@dataclass
class Run:
    """What a run came to."""

    frames: int = 0
    cpu_s: float = 0.0
    """Of the whole process: all actors, and the thread that writes the journal."""
    wall_s: float = 0.0
    signals: int = 0
    decided: int = 0
    """Orders approved and denied."""
    fills: int = 0
    depth_max: int = 0
    decided_ns: list[int] = field(default_factory=list[int])
    """Nanoseconds from the receipt of a frame to the decision on the order that came of it."""


class StampedClock(MarketClock):
    """The market's clock; remembers when the first frame of each moment came in."""

    def __init__(self, start_ns: int) -> None:
        super().__init__(start_ns)
        self.received_ns: dict[int, int] = {}
        self.read_ns = 0
        """When the socket gave the frames that are being handled: before any of them was decoded."""

    def stamp(self, exchange_ns: int) -> int:
        now_ns = super().stamp(exchange_ns)
        self.received_ns.setdefault(now_ns, self.read_ns)
        return now_ns


@contextmanager
def _timed_reads(clock: StampedClock) -> Generator[None]:
    """Let `clock` know when the lean socket gives frames."""
    receive_many = LeanWebSocket.receive_many

    async def timed(self: LeanWebSocket) -> list[bytes]:
        raws = await receive_many(self)
        clock.read_ns = time.perf_counter_ns()
        return raws

    LeanWebSocket.receive_many = timed
    try:
        yield
    finally:
        LeanWebSocket.receive_many = receive_many


class TimedOffice(Office):
    """Measures from the frame that ended a bar to the decision on its signal."""

    def __init__(self, clock: StampedClock, run: Run) -> None:
        super().__init__(STAGES, is_lockstep=False)
        self._clock = clock
        self._run = run
        self._wished: dict[tuple[str, str], int] = {}

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        match message:
            case m.Signal():
                self._wished[message.strategy, message.symbol] = message.ts_ns
            case m.OrderApproved():
                self._decided(message.intent.strategy, message.intent.symbol)
            case m.OrderDenied():
                self._decided(message.strategy, message.symbol)
            case _:
                pass
        super().post(speaker, message)

    def _decided(self, strategy: str, symbol: str) -> None:
        bar_ns = self._wished.pop((strategy, symbol), None)
        received_ns = self._clock.received_ns.get(bar_ns or 0)
        if received_ns is not None:  # else it was decided anew, without a frame of its own
            self._run.decided_ns.append(time.perf_counter_ns() - received_ns)


class FlipFlop(Strategy):
    """A strategy that wants all with one bar and nothing with the next: an order is decided with each."""

    def __init__(self) -> None:
        self._share = 0.0

    def on_bar(self, bar: m.Bar) -> float:
        """Return the other share."""
        del bar
        self._share = 1.0 - self._share
        return self._share


def run_bot(port: int, *, journal: Path | None, is_timed: bool = False, for_s: float = math.inf) -> Run:
    """Trade until the writer at `port` has no more frames, or for `for_s`, with the lean socket.

    `journal` is an SQLite file, or None for one in memory. `is_timed`: decide an order with each bar, and time it.
    """
    return trio.run(_run, port, journal, is_timed, for_s)


async def _run(port: int, path: Path | None, is_timed: bool, for_s: float) -> Run:
    settings = load_settings([], {}, ["feed.websocket=lean", *(["paper.latency_ms=0"] if is_timed else [])])
    if path is None:
        return await _trade(port, settings, MemoryJournal(), is_timed, for_s)
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        return await _trade(port, settings, journal, is_timed, for_s)


async def _trade(port: int, settings: Settings, journal: Journal, is_timed: bool, for_s: float) -> Run:
    run, status, began = Run(), FeedStatus(), [0.0, 0.0]
    machines = Machines(settings, SYMBOLS)
    keeper = Bookkeeper(Ledger())
    clock = StampedClock(START_NS) if is_timed else MarketClock(START_NS)
    office = TimedOffice(clock, run) if isinstance(clock, StampedClock) else Office(STAGES, is_lockstep=False)
    if is_timed:
        for seats in machines.host.watched.values():
            for seat in seats[:1]:
                assert isinstance(seat, ShareSeat)
                seat.strategy = FlipFlop()
            del seats[1:]

    def on_ready() -> None:
        gc.collect()
        began[:] = time.perf_counter(), time.process_time()

    async with (
        open_http(f"http://127.0.0.1:{port}", connect_timeout_s=5, request_timeout_s=5, user_agent="bench") as http,
        trio.open_nursery() as nursery,
    ):
        boxes = office.mailboxes
        nursery.start_soon(run_persistence, boxes[Stage.PERSISTENCE], keeper, journal, office, _unshown, Commits())
        for stage, machine in machines.by_stage.items():
            nursery.start_soon(run_stage, boxes[stage], machine, office)
        office.post(Stage.CONTROL, _session(settings))
        await office.idle()
        feed = Feed(
            Market(ws_url=f"ws://127.0.0.1:{port}/ws/public", symbols=SYMBOLS, timeframes_ns=machines.watched_ns),
            PublicClient(http),
            settings.feed,
            clock,
            office,
            status,
            connect_timeout_s=5,
            on_ready=on_ready,
        )
        with trio.move_on_after(for_s), _timed_reads(clock) if isinstance(clock, StampedClock) else nullcontext():
            await feed.run()
        await office.idle()
        run.wall_s, run.cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
        nursery.cancel_scope.cancel()
    run.frames, run.signals, run.depth_max = status.frames, machines.gate.signals, office.depth_max
    run.decided, run.fills = keeper.counts["orders"] + keeper.counts["denied"], keeper.counts["fills"]
    assert status.reconnects == 0, status.detail
    assert status.gaps == 0
    return run


def _unshown(fact: m.AnyMessage) -> None:
    del fact


def _session(settings: Settings) -> m.SessionStarted:
    return m.SessionStarted(
        ts_ns=START_NS,
        epoch=1,
        version="bench",
        account="bench",
        quote=settings.exchange.quote,
        cash_atoms=atoms_of(settings.paper.cash),
    )
