"""The daemon: opens what the actors need, starts them, and ends them in order.

Start-up is recovery, after a crash and after a clean stop alike: replay the journal, tell everybody what it says, go
on. The end cancels what works, writes that it ended, and closes the journal.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from actors.clock import Clock, MarketClock, WallClock
from actors.control import Hub, serve_control
from actors.feed import Feed, Market
from actors.lock import hold
from actors.mailbox import Office
from actors.persistence import run_persistence
from actors.plan import MarketKind, Plan, Result, holdings
from actors.stage import run_stage
from bot import __version__
from bot.assembly import MS_NS, Machines, atoms_of
from bot.control.paths import socket_path
from bot.control.protocol import Command, Hello, Reply, View
from bot.control.view import FeedStatus, make_view, note_of
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import TIME_IS_OVER, Stage, closing
from bot.errors import ExchangeError, SettingsError
from bot.exchange.network import INTERNET
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import merge_sources, open_recording, symbol_in_name
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from bot.storage.base import Record
from bot.storage.portal import AsyncioPortal, open_portal
from bot.storage.replay import replay
from bot.storage.sqlite import SqliteJournal, open_sqlite_journal

log: Final = logging.getLogger(__name__)

USER_AGENT: Final = f"poloniex-bot/{__version__}"
VIEWS_PER_SECOND: Final = 10
CLOSE_TIMEOUT_S: Final = 4.0
"""An orderly end that takes longer is cut: the journal says what was open."""
COMMAND_TIMEOUT_S: Final = 5.0
GENERATED_START_NS: Final = 1_767_225_600 * m.SECOND_NS
"""2026-01-01 UTC: where a generated market begins in lockstep, so that a seed gives the same run on any day."""


@dataclass(slots=True)
class _End:
    """The wish to end, and its reason; the first one counts."""

    asked: trio.Event = field(default_factory=trio.Event)
    reason: str = ""
    is_complete: bool = False

    def ask(self, reason: str, *, is_complete: bool) -> None:
        if not self.asked.is_set():
            self.reason, self.is_complete = reason, is_complete
            self.asked.set()


@dataclass(frozen=True, slots=True)
class _Venue:
    """Where prices come from in this run."""

    kind: MarketKind
    description: str
    rest_url: str
    ws_url: str
    symbols: tuple[str, ...]
    first_ns: int | None
    simulated: SimulatedExchange | None


async def run_daemon(plan: Plan, on_ready: Callable[[Hello], None]) -> Result:
    """Run until the market, the time, a signal or an operator ends it; return what came of it.

    `on_ready` is called once the control socket listens.

    Raises:
        AlreadyRunning: another daemon holds the state directory.
        SettingsError, RecordingError: the plan cannot be carried out.
        NotListed, JournalError, ReplayBroken, MailboxFull, UnknownOrder: what ended it, see `bot/errors.py`.

    """
    started_s = time.monotonic()
    with hold(plan.state_dir):
        async with AsyncExitStack() as stack:
            end = _End()
            nursery = await stack.enter_async_context(_signals(end))
            venue = await stack.enter_async_context(_open_venue(plan))
            portal = await stack.enter_async_context(open_portal())
            path = plan.state_dir / f"{plan.account(venue.kind)}.sqlite"
            journal, records = await _open_journal(stack, path, portal, plan, venue)
            daemon = _Daemon(plan, venue, journal, records, end)
            await daemon.run(on_ready)
            nursery.cancel_scope.cancel()
            return daemon.result(time.monotonic() - started_s)
    # Only the cancellation by a second signal ends the block above without a result.
    raise KeyboardInterrupt


@asynccontextmanager
async def _signals(end: _End) -> AsyncGenerator[trio.Nursery]:
    """Turn the first SIGTERM, SIGINT or SIGHUP into an orderly end; a second one cuts it."""

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if end.asked.is_set():
                    log.warning("%s again: ending at once", signal.Signals(number).name)
                    nursery.cancel_scope.cancel()
                end.ask(signal.Signals(number).name, is_complete=False)

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        yield nursery


# --- where prices come from


@asynccontextmanager
async def _open_venue(plan: Plan) -> AsyncGenerator[_Venue]:
    settings = plan.settings.exchange
    name = plan.exchange
    if name == "auto":
        name = "poloniex" if await _is_poloniex_there(plan) else "simulated"
    if name == "poloniex":
        yield _Venue(
            kind="poloniex",
            description="poloniex",
            rest_url=settings.rest_url,
            ws_url=settings.ws_url,
            symbols=settings.symbols,
            first_ns=None,
            simulated=None,
        )
        return
    source = await trio.to_thread.run_sync(_source, plan)
    async with open_exchange(source, speed=plan.speed) as exchange:
        speed = "as fast as the bot follows" if plan.speed is None else f"{plan.speed:g}x"
        yield _Venue(
            kind="recording" if plan.recordings else "generated",
            description=f"simulated ({source.description}, {speed})",
            rest_url=exchange.rest_url,
            ws_url=exchange.ws_url,
            symbols=tuple(instrument.symbol for instrument in source.instruments),
            first_ns=source.first_ns,
            simulated=exchange,
        )


def _source(plan: Plan) -> MarketSource:
    if plan.recordings:
        usual = plan.settings.exchange.symbols[0]
        return merge_sources([open_recording(path, symbol_in_name(path) or usual) for path in plan.recordings])
    if plan.is_lockstep and plan.for_ns is None:
        raise SettingsError("--speed max on a generated market never ends: give it an end with --for, such as --for 1h")
    start_ns = GENERATED_START_NS if plan.is_lockstep else time.time_ns()
    return GeneratedMarket(plan.settings.exchange.symbols, plan.settings.bot.seed, start_ns)


async def _is_poloniex_there(plan: Plan) -> bool:
    settings = plan.settings.exchange
    timeout_s = settings.probe_timeout_s
    async with INTERNET.open_http(
        settings.rest_url, connect_timeout_s=timeout_s, request_timeout_s=timeout_s, user_agent=USER_AGENT
    ) as http:
        try:
            with trio.fail_after(timeout_s):
                await PublicClient(http, tries=1).server_time_ns()
        except (ExchangeError, trio.TooSlowError) as error:
            log.info("Poloniex cannot be reached (%s): trading on the simulated exchange", error)
            return False
    return True


# --- the journal


async def _open_journal(
    stack: AsyncExitStack, path: Path, portal: AsyncioPortal, plan: Plan, venue: _Venue
) -> tuple[SqliteJournal, list[Record]]:
    """Open the account's journal. A replay that was played to its end is put aside, and begins anew."""
    journal = await stack.enter_async_context(open_sqlite_journal(path, portal))
    records = await journal.load()
    is_replay = plan.is_lockstep or venue.kind == "recording"
    if not (is_replay and records and replay(records).is_complete):
        return journal, records
    await journal.aclose()
    await trio.Path(path).rename(path.with_name(f"{path.stem}.previous{path.suffix}"))
    journal = await stack.enter_async_context(open_sqlite_journal(path, portal))
    return journal, await journal.load()


class _Daemon:
    """Everything that lives as long as one run."""

    def __init__(self, plan: Plan, venue: _Venue, journal: SqliteJournal, records: list[Record], end: _End) -> None:
        self._plan = plan
        self._venue = venue
        self._journal = journal
        self._end = end
        self._office = Office(
            (Stage.STRATEGY, Stage.RISK_GATE, Stage.PERSISTENCE, Stage.EXECUTOR, Stage.CONTROL),
            is_lockstep=plan.is_lockstep,
        )
        self._clock: Clock = (
            WallClock(venue.first_ns, plan.speed) if plan.speed is not None else MarketClock(venue.first_ns or 0)
        )
        self._keeper = Bookkeeper(replay(records))
        self._machines = Machines(plan.settings, venue.symbols)
        self._feed_status = FeedStatus()
        self._hub = Hub(self._view)
        self._answers: dict[str, tuple[trio.Event, list[m.OperatorAnswered]]] = {}
        self._recovered = holdings(self._view())

    # --- what is shown

    def _hello(self) -> Hello:
        return Hello(
            version=__version__,
            pid=os.getpid(),
            mode="paper",
            exchange=self._venue.description,
            state_dir=str(self._plan.state_dir),
        )

    def _view(self) -> View:
        simulated = self._venue.simulated
        progress = None
        if simulated is not None and simulated.events_total is not None:
            progress = simulated.events_done, simulated.events_total
        now_ns = max(self._clock.now_ns(), self._keeper.now_ns)
        return make_view(self._keeper, self._feed_status, self._machines.gate.signals, now_ns, progress)

    def _on_written(self, fact: m.AnyMessage) -> None:
        note = note_of(self._keeper, fact)
        if note is not None:
            self._hub.note(note)

    async def _publish_views(self) -> None:
        while True:
            await trio.sleep(1 / VIEWS_PER_SECOND)
            if self._hub.wants_view:
                self._hub.publish(self._view())

    # --- the run

    async def run(self, on_ready: Callable[[Hello], None]) -> None:
        """Start the actors, wait for the end, end them in order."""
        mailboxes = self._office.mailboxes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                run_persistence,
                mailboxes[Stage.PERSISTENCE],
                self._keeper,
                self._journal,
                self._office,
                self._on_written,
            )
            for stage, machine in self._machines.by_stage.items():
                nursery.start_soon(run_stage, mailboxes[stage], machine, self._office)
            nursery.start_soon(self._run_answers)
            nursery.start_soon(self._publish_views)
            await nursery.start(
                serve_control, self._hub, self._hello, socket_path(self._plan.state_dir), self._on_command
            )
            self._start_session()
            await self._idle()
            on_ready(self._hello())
            await self._trade_until_end()
            await self._close()
            if self._hub.wants_view:
                self._hub.publish(self._view())
            nursery.cancel_scope.cancel()

    def _start_session(self) -> None:
        self._office.post(
            Stage.CONTROL,
            m.SessionStarted(
                ts_ns=self._clock.now_ns(),
                epoch=self._keeper.ledger.epoch + 1,
                version=__version__,
                account=self._plan.account(self._venue.kind),
                quote=self._plan.settings.exchange.quote,
                cash_atoms=atoms_of(self._plan.settings.paper.cash),
            ),
        )

    async def _trade_until_end(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_feed)
            if self._plan.for_ns is not None and not self._plan.is_lockstep:
                nursery.start_soon(self._run_timer, self._plan.for_ns)
            await self._end.asked.wait()
            log.info("ending: %s", self._end.reason)
            nursery.cancel_scope.cancel()

    async def _run_timer(self, for_ns: int) -> None:
        await trio.sleep(for_ns / m.SECOND_NS)
        self._end.ask(TIME_IS_OVER, is_complete=True)

    async def _run_feed(self) -> None:
        settings = self._plan.settings
        end_ns = None
        if self._plan.is_lockstep and self._plan.for_ns is not None:
            end_ns = self._clock.now_ns() + self._plan.for_ns
        market = Market(
            ws_url=self._venue.ws_url,
            symbols=self._venue.symbols,
            timeframes_ns=self._machines.watched_ns,
        )
        async with INTERNET.open_http(
            self._venue.rest_url,
            connect_timeout_s=settings.exchange.connect_timeout_s,
            request_timeout_s=settings.exchange.request_timeout_s,
            user_agent=USER_AGENT,
        ) as http:
            feed = Feed(
                market,
                PublicClient(http),
                settings.feed,
                self._clock,
                self._office,
                self._feed_status,
                connect_timeout_s=settings.exchange.connect_timeout_s,
                end_ns=end_ns,
                on_ready=self._on_feed_ready,
            )
            reason = await feed.run()
        self._end.ask(reason, is_complete=True)

    def _on_feed_ready(self) -> None:
        if self._venue.simulated is not None:
            self._venue.simulated.start()

    async def _idle(self) -> None:
        await self._office.idle()

    async def _close(self) -> None:
        """Cancel what works, let the cancels arrive, write that the session ended."""
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as scope:
            await self._idle()
            now_ns = max(self._clock.now_ns(), self._keeper.now_ns)
            latency_ns = self._plan.settings.paper.latency_ms * MS_NS
            for message in closing(now_ns, latency_ns, self._end.reason, is_complete=self._end.is_complete):
                self._office.post(Stage.CONTROL, message)
                await self._idle()
        if scope.cancelled_caught:
            log.error("could not end in order within %g s; the journal says what was open", CLOSE_TIMEOUT_S)

    # --- the operator

    async def _run_answers(self) -> None:
        while True:
            for message in await self._office.mailboxes[Stage.CONTROL].receive():
                assert isinstance(message, m.OperatorAnswered)
                waiting = self._answers.get(message.command_id)
                if waiting is not None:
                    event, box = waiting
                    box.append(message)
                    event.set()

    async def _on_command(self, command: Command) -> Reply:
        if command.verb == "stop":
            self._end.ask("stopped by the operator", is_complete=False)
            return Reply(id=command.id, is_ok=True, text="stopping: working orders are cancelled first")
        event, box = trio.Event(), list[m.OperatorAnswered]()
        key = f"{command.id}/{id(event)}"
        self._answers[key] = event, box
        try:
            now_ns = max(self._clock.now_ns(), self._keeper.now_ns)
            self._office.post(Stage.CONTROL, m.OperatorCommand(ts_ns=now_ns, verb=command.verb, command_id=key))
            with trio.fail_after(COMMAND_TIMEOUT_S):
                await event.wait()
        except trio.TooSlowError:
            return Reply(id=command.id, is_ok=False, text=f"{command.verb}: not written in {COMMAND_TIMEOUT_S:g} s")
        finally:
            del self._answers[key]
        answer = box[0]
        return Reply(
            id=command.id,
            is_ok=not answer.detail,
            text=f"risk is {answer.state}" + (f": {answer.detail}" if answer.detail else ""),
        )

    def result(self, seconds: float) -> Result:
        """Return what the run came to."""
        view = self._view()
        seq, digest = self._journal.head
        held = holdings(view)
        return Result(
            exchange=self._venue.description,
            reason=self._end.reason,
            events=self._venue.simulated.events_done if self._venue.simulated is not None else 0,
            frames=self._feed_status.frames,
            signals=self._machines.gate.signals,
            orders=self._keeper.counts["orders"],
            denied=self._keeper.counts["denied"],
            fills=self._keeper.counts["fills"],
            quote=view.quote_currency,
            equity=view.equity,
            cash=view.cash,
            positions=held.positions,
            open_orders=held.open_orders,
            recovered=self._recovered,
            risk_state=view.risk_state,
            reconnects=self._feed_status.reconnects,
            queue_depth_max=self._office.depth_max,
            epoch=view.epoch,
            journal=f"{self._plan.account(self._venue.kind)}.sqlite",
            journal_records=seq,
            journal_hash=digest.hex(),
            state_dir=str(self._plan.state_dir),
            seconds=round(seconds, 3),
        )
