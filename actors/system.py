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
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import trio

from actors.clock import Clock, MarketClock, WallClock
from actors.control import Hub, serve_control
from actors.front_door import leaves
from actors.lock import hold
from actors.plan import MarketKind, Plan, Result, holdings
from actors.ports import Ports
from actors.resets import Resets
from actors.restarts import note_good_end, note_start
from actors.trader import COMMAND_TIMEOUT_S, USER_AGENT, End, Terms, Trader
from actors.watch import Lever, Watch, check_disk
from bot import __version__
from bot.assembly import atoms_of
from bot.control.killfile import write_kill_file
from bot.control.paths import socket_path
from bot.control.protocol import Command, Hello, Reply, View
from bot.control.view import make_view, note_of
from bot.control.who import user_name
from bot.core import messages as m
from bot.errors import ExchangeError, JournalError, SettingsError
from bot.exchange.live.calls import wallet_of
from bot.exchange.network import INTERNET
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.futures_instruments import generated_markets
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import merge_sources, open_recording, symbol_in_name
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from bot.storage.base import Record
from bot.storage.portal import AsyncioPortal, open_portal
from bot.storage.replay import facts, replay
from bot.storage.sqlite import SqliteJournal, open_sqlite_journal

log: Final = logging.getLogger(__name__)

VIEWS_PER_SECOND: Final = 10
GENERATED_START_NS: Final = 1_767_225_600 * m.SECOND_NS
"""2026-01-01 UTC: where a generated market begins in lockstep, so that a seed gives the same run on any day."""


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
    futures_rest_url: str = ""
    futures_ws_url: str = ""
    """"" where perpetuals come over the socket of spot."""


async def run_daemon(plan: Plan, on_ready: Callable[[Hello], None]) -> Result:
    """Run until the market, the time, a signal or an operator ends it; return what came of it.

    `on_ready` is called once the control socket listens.

    Raises:
        AlreadyRunning: another daemon holds the state directory.
        SettingsError, RecordingError, RestartLoop: the plan cannot be carried out.
        NotListed, Stalled, JournalError, ReplayBroken, MailboxFull, UnknownOrder: what ended it, see `bot/errors.py`.

    """
    started_s = time.monotonic()
    with hold(plan.state_dir):
        if plan.live is not None:
            check_disk(plan.state_dir)
            note_start(plan.state_dir, plan.settings.live.restarts_max, time.time())
        async with AsyncExitStack() as stack:
            end, lever = End(), Lever()
            nursery = await stack.enter_async_context(_signals(end, lever))
            venue = await stack.enter_async_context(_open_venue(plan))
            portal = await stack.enter_async_context(open_portal())
            path = plan.state_dir / f"{plan.account(venue.kind)}.sqlite"
            journal, records = await _open_journal(stack, path, portal, plan, venue)
            check_account(path, records, plan.account(venue.kind))
            daemon = _Daemon(plan, venue, journal, records, end, lever)
            del records  # half a gigabyte for a million
            await daemon.run(on_ready)
            nursery.cancel_scope.cancel()
            if plan.live is not None:
                note_good_end(plan.state_dir)
            return daemon.result(time.monotonic() - started_s)
    # Only the cancellation by a second signal ends the block above without a result.
    raise KeyboardInterrupt


@asynccontextmanager
async def _signals(end: End, lever: Lever) -> AsyncGenerator[trio.Nursery]:
    """Turn the first SIGTERM, SIGINT or SIGHUP into an orderly end; a second one cuts it. SIGUSR1 pulls the lever."""

    async def watch(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGUSR1:
                    lever.pull("SIGUSR1")
                    continue
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
            description="poloniex" if not plan.is_simulated_live else f"simulated at {settings.rest_url}",
            rest_url=settings.rest_url,
            ws_url=settings.ws_url,
            symbols=settings.symbols,
            first_ns=None,
            simulated=None,
            futures_rest_url=plan.settings.live.futures_rest_url,
            futures_ws_url=plan.settings.live.futures_public_ws_url,
        )
        return
    source = await trio.to_thread.run_sync(_source, plan)
    has_wing = _has_futures_wing(plan)
    async with open_exchange(source, speed=plan.speed, futures=FuturesWing if has_wing else None) as exchange:
        speed = "as fast as the bot follows" if plan.speed is None else f"{plan.speed:g}x"
        yield _Venue(
            kind="recording" if plan.recordings else "generated",
            description=f"simulated ({source.description}, {speed})",
            rest_url=exchange.rest_url,
            ws_url=exchange.ws_url,
            symbols=tuple(instrument.symbol for instrument in source.instruments),
            first_ns=source.first_ns,
            simulated=exchange,
            futures_rest_url=exchange.rest_url if has_wing else "",
            futures_ws_url=exchange.futures_ws_url if has_wing else "",
        )


def _has_futures_wing(plan: Plan) -> bool:
    """Return whether perpetuals trade on a socket of their own: a recording has one socket, and lockstep one order."""
    perps = [symbol for symbol in plan.settings.exchange.symbols if wallet_of(symbol) == "futures"]
    return bool(perps) and not plan.recordings and not plan.is_lockstep


def _source(plan: Plan) -> MarketSource:
    if plan.recordings:
        usual = plan.settings.exchange.symbols[0]
        return merge_sources([open_recording(path, symbol_in_name(path) or usual) for path in plan.recordings])
    if plan.is_lockstep and plan.for_ns is None:
        raise SettingsError("--speed max on a generated market never ends: give it an end with --for, such as --for 1h")
    start_ns = GENERATED_START_NS if plan.is_lockstep else time.time_ns()
    if _has_futures_wing(plan):
        return generated_markets(plan.settings.exchange.symbols, plan.settings.bot.seed, start_ns)
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


def check_account(path: Path, records: list[Record], account: str) -> None:
    """See that a journal is this account's: paper and live never share one. Raises JournalError."""
    for fact in facts(records[:1]):
        if isinstance(fact, m.SessionStarted) and fact.account != account:
            raise JournalError(f"{path}: is the journal of the account {fact.account}, not of {account}")


class _Daemon:
    """What stands around a trader: its screens and its operators."""

    def __init__(
        self,
        plan: Plan,
        venue: _Venue,
        journal: SqliteJournal,
        records: list[Record],
        end: End,
        lever: Lever,
    ) -> None:
        self._plan = plan
        self._venue = venue
        self._journal = journal
        self._network = Resets(INTERNET)
        clock: Clock = (
            WallClock(venue.first_ns, plan.speed) if plan.speed is not None else MarketClock(venue.first_ns or 0)
        )
        self._trader = Trader(
            Terms(
                settings=plan.settings,
                account=plan.account(venue.kind),
                symbols=venue.symbols,
                rest_url=venue.rest_url,
                ws_url=venue.ws_url,
                futures_rest_url=venue.futures_rest_url,
                futures_ws_url=venue.futures_ws_url,
                is_lockstep=plan.is_lockstep,
                for_ns=plan.for_ns,
                credentials=plan.live.credentials if plan.live is not None else None,
            ),
            Ports(
                journal=journal,
                clock=clock,
                network=self._network,
                # In lockstep a run depends on its input alone.
                stopwatch_s=None if plan.is_lockstep else time.monotonic,
            ),
            records,
            end=end,
            on_written=self._on_written,
            on_feed_ready=self._on_feed_ready,
        )
        self._watch = Watch(self._trader, plan.state_dir, lever, self._network.give_up_all)
        self._hub = Hub(self._view)
        self._recovered = holdings(self._view())

    # --- what is shown

    def _hello(self) -> Hello:
        return Hello(
            version=__version__,
            pid=os.getpid(),
            mode="paper" if self._plan.live is None else "live",
            exchange=self._venue.description,
            state_dir=str(self._plan.state_dir),
        )

    def _view(self) -> View:
        trader, simulated = self._trader, self._venue.simulated
        progress = None
        if simulated is not None and simulated.events_total is not None:
            progress = simulated.events_done, simulated.events_total
        return make_view(trader.keeper, trader.feed_status, trader.machines.gate.signals, trader.now_ns, progress)

    def _on_written(self, fact: m.AnyMessage) -> None:
        note = note_of(self._trader.keeper, fact)
        if note is not None:
            self._hub.note(note)

    def _on_feed_ready(self) -> None:
        if self._venue.simulated is not None:
            self._venue.simulated.start()

    async def _publish_views(self) -> None:
        while True:
            await trio.sleep(1 / VIEWS_PER_SECOND)
            if self._hub.wants_view:
                self._hub.publish(self._view())

    # --- the run

    async def run(self, on_ready: Callable[[Hello], None]) -> None:
        """Open the control socket, let the trader trade to its end, show the end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish_views)
            await nursery.start(
                serve_control, self._hub, self._hello, socket_path(self._plan.state_dir), self._on_command
            )
            if not self._plan.is_lockstep:
                nursery.start_soon(self._watch.run if self._plan.live is not None else self._watch.watch_levers)
            try:
                await self._trader.run(lambda: self._on_recovered(on_ready))
            except BaseExceptionGroup as group:
                self._leave_kill_file(group)
                raise
            if self._hub.wants_view:
                self._hub.publish(self._view())
            nursery.cancel_scope.cancel()

    def _leave_kill_file(self, group: BaseExceptionGroup[BaseException]) -> None:
        """What a broken journal cannot remember is remembered beside it: the next start is halted."""
        broken = next((error for error in leaves(group) if isinstance(error, JournalError)), None)
        if broken is not None and self._plan.live is not None:
            with suppress(SettingsError):
                write_kill_file(self._plan.state_dir, f"the journal could not be written: {broken}")

    def _on_recovered(self, on_ready: Callable[[Hello], None]) -> None:
        """Look for the kill file before the first price comes in."""
        self._watch.begin()
        on_ready(self._hello())

    async def _on_command(self, command: Command) -> Reply:
        if command.verb == "stop":
            self._trader.end.ask("stopped by the operator", is_complete=False)
            return Reply(id=command.id, is_ok=True, text="stopping: working orders are cancelled first")
        try:
            answer = await self._trader.command(
                command.verb,
                command.subject,
                # The control socket lets in nobody else.
                user_name(),
                equity_atoms=atoms_of(Decimal(command.equity)) if command.equity else None,
                is_new_baseline=command.is_new_baseline,
            )
        except trio.TooSlowError:
            return Reply(id=command.id, is_ok=False, text=f"{command.verb}: not written in {COMMAND_TIMEOUT_S:g} s")
        return Reply(
            id=command.id,
            is_ok=not answer.detail,
            text=f"risk is {answer.state}" + (f": {answer.detail}" if answer.detail else ""),
        )

    def result(self, seconds: float) -> Result:
        """Return what the run came to."""
        trader, view = self._trader, self._view()
        seq, digest = self._journal.head
        held = holdings(view)
        return Result(
            exchange=self._venue.description,
            reason=trader.end.reason,
            events=self._venue.simulated.events_done if self._venue.simulated is not None else 0,
            frames=trader.feed_status.frames,
            signals=trader.machines.gate.signals,
            orders=trader.keeper.counts["orders"],
            denied=trader.keeper.counts["denied"],
            fills=trader.keeper.counts["fills"],
            quote=view.quote_currency,
            equity=view.equity,
            cash=view.cash,
            positions=held.positions,
            open_orders=held.open_orders,
            recovered=self._recovered,
            risk_state=view.risk_state,
            reconnects=trader.feed_status.reconnects,
            queue_depth_max=trader.office.depth_max,
            epoch=view.epoch,
            journal=f"{trader.terms.account}.sqlite",
            journal_records=seq,
            journal_hash=digest.hex(),
            state_dir=str(self._plan.state_dir),
            seconds=round(seconds, 3),
        )
