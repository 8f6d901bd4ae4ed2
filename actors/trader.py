"""One bot: its actors around given ports, from the first message of a session to the last.

It knows no signal, file, database or control socket: the daemon puts those around it, the deterministic simulation puts
a simulated world around the very same object. Start-up is recovery, after a crash and after a clean stop alike.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import trio

from actors.feed import Feed, Market
from actors.kill import Access, send_cancels
from actors.live import LiveAccess, disarm, run_live
from actors.mailbox import FACTS_MAX, Office
from actors.opening import Opening, read_opening
from actors.persistence import COMMIT_S_MAX, Commits, run_persistence
from actors.ports import Ports
from actors.stage import run_live_gate, run_stage
from actors.supervisor import Supervisor
from bot import __version__
from bot.assembly import Machines, atoms_of
from bot.config import Settings
from bot.control.view import FeedStatus, together
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import TIME_IS_OVER, Machine, Stage, closing
from bot.core.instrument import Instrument
from bot.core.ledger import Ledger
from bot.core.risk.selftest import self_test
from bot.errors import ClockSkew, ExchangeError, SelfTestFailed, SettingsError
from bot.exchange.live.calls import wallet_of
from bot.exchange.live.desk import LiveDesk
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.poloniex.dialects import FUTURES, SPOT, Dialect
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.futures_public import FuturesPublic
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.transport import Backoff
from bot.storage.base import Record
from bot.storage.replay import facts, replay

log: Final = logging.getLogger(__name__)

USER_AGENT: Final = f"poloniex-bot/{__version__}"
CLOSE_TIMEOUT_S: Final = 4.0
"""An orderly end that takes longer is cut: the journal says what was open."""
CLOSE_POLL_S: Final = 0.05
LAST_CANCELS_S: Final = 3.0
COMMAND_TIMEOUT_S: Final = 5.0
MINUTE_NS: Final = 60 * m.SECOND_NS
RAMP_NS: Final = 86_400 * m.SECOND_NS
"""For so long after a change of version or strategies the gate's limits are narrower."""
READ_BACKOFF_S: Final = (0.25, 8.0)
"""The bounds of the wait before a public question is asked again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one bot is to do: settled before it starts."""

    settings: Settings
    account: str
    """Names the journal."""
    symbols: tuple[str, ...]
    rest_url: str
    ws_url: str
    futures_rest_url: str = ""
    futures_ws_url: str = ""
    """Of the public futures socket. "": perpetuals come over the socket of spot, as those of a recording do."""
    is_lockstep: bool = False
    """The market's clock is the bot's."""
    for_ns: int | None = None
    """End after so much time: of the market's clock in lockstep, else of ours."""
    credentials: Credentials | None = None
    """Of the live account; None: on paper."""

    @property
    def access(self) -> Access | None:
        """Return how to reach the live account; None on paper."""
        return None if self.credentials is None else Access.of(self.settings, self.credentials, USER_AGENT)

    @property
    def wallets(self) -> tuple[m.Wallet, ...]:
        """Return the wallets that are traded with live; none on paper."""
        return () if self.credentials is None else self.settings.live.wallets


class _Wing(NamedTuple):
    """A half of the exchange: where it is, what is watched there, and how it talks."""

    rest_url: str
    ws_url: str
    symbols: tuple[str, ...]
    left: tuple[str, ...]
    """Symbols that are not traded now, but in which something of ours is left: they are watched."""
    dialect: Dialect


def _wings(terms: Terms, left: Sequence[str]) -> list[_Wing]:
    """Return the halves in which anything is traded or left; without an address of futures there is only one."""
    if not terms.futures_ws_url:
        return [_Wing(terms.rest_url, terms.ws_url, terms.symbols, tuple(left), SPOT)]
    (spot, perps), (left_spot, left_perps) = _halves(terms.symbols), _halves(left)
    wings = [
        _Wing(terms.rest_url, terms.ws_url, spot, left_spot, SPOT),
        _Wing(terms.futures_rest_url, terms.futures_ws_url, perps, left_perps, FUTURES),
    ]
    return [wing for wing in wings if wing.symbols or wing.left]


def _halves(symbols: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return spot markets and perpetuals."""
    spot = tuple(symbol for symbol in symbols if wallet_of(symbol) == "spot")
    return spot, tuple(symbol for symbol in symbols if wallet_of(symbol) == "futures")


def _left_behind(ledger: Ledger, symbols: Iterable[str]) -> list[str]:
    """Return what is not among `symbols`, but of which an order lives or something is held."""
    ordered = {record.intent.symbol for record in (*ledger.live_orders, *ledger.unsettled_orders)}
    held = {symbol for symbol, position in ledger.positions.items() if position.base_atoms}
    return sorted((ordered | held) - set(symbols))


@dataclass(slots=True)
class End:
    """The wish to end, and its reason; the first one counts."""

    asked: trio.Event = field(default_factory=trio.Event)
    reason: str = ""
    is_complete: bool = False

    def ask(self, reason: str, *, is_complete: bool) -> None:
        """End in order. `is_complete`: all was done that was to be done."""
        if not self.asked.is_set():
            self.reason, self.is_complete = reason, is_complete
            self.asked.set()


def _live_access(terms: Terms, ports: Ports) -> LiveAccess | None:
    """Return what the live executor needs; None on paper."""
    if terms.credentials is None:
        return None
    exchange, live = terms.settings.exchange, terms.settings.live
    return LiveAccess(
        credentials=terms.credentials,
        rest_url=exchange.rest_url,
        private_ws_url=live.private_ws_url,
        futures_rest_url=live.futures_rest_url,
        futures_ws_url=live.futures_ws_url,
        wallets=live.wallets,
        symbols=terms.symbols,
        user_agent=USER_AGENT,
        rng=ports.rng,
        leverage=live.leverage,
        margin_mode=live.margin_mode,
        dead_man_s=live.dead_man_s,
        connect_timeout_s=exchange.connect_timeout_s,
        request_timeout_s=exchange.request_timeout_s,
    )


def _version(terms: Terms) -> str:
    """Return what runs: our version, and live the strategies too, so that the journal tells when they changed."""
    if terms.credentials is None:
        return __version__
    strategies = msgspec.json.encode(terms.settings.strategies, order="deterministic")
    return f"{__version__}+{hashlib.sha256(strategies).hexdigest()[:8]}"


def _ramp_until_ns(records: Sequence[Record], version: str, now_ns: int) -> int:
    """Return until when what runs counts as new: a day after its first session in a row."""
    first_ns = now_ns
    for record in reversed(records):
        if b'"SessionStarted"' in record.payload:
            for fact in facts([record]):
                if not isinstance(fact, m.SessionStarted) or fact.version != version:
                    return first_ns + RAMP_NS
                first_ns = fact.ts_ns
    return first_ns + RAMP_NS


def _sent_ns(records: Sequence[Record], now_ns: int) -> tuple[int, ...]:
    """Return when the orders of the last minute were approved, oldest first: each was written before it was sent."""
    sent: list[int] = []
    for record in reversed(records):
        if record.ts_ns < now_ns - 2 * MINUTE_NS:  # records are in the order of writing, not quite of time
            break
        if b'"OrderApproved"' in record.payload:
            sent.append(record.ts_ns)
    return tuple(sorted(ns for ns in sent if ns > now_ns - MINUTE_NS))


def _ignore(fact: m.AnyMessage) -> None:
    del fact


def _nothing() -> None: ...


class Trader:
    """All actors of one bot. `run` is called once."""

    def __init__(
        self,
        terms: Terms,
        ports: Ports,
        records: Sequence[Record],
        *,
        end: End | None = None,
        on_written: Callable[[m.AnyMessage], None] = _ignore,
        on_feed_ready: Callable[[], None] = _nothing,
    ) -> None:
        """`records` is what the journal holds. `on_written` is told each fact after its commit."""
        self.terms = terms
        self.ports = ports
        self.end = end or End()
        self.office = Office(
            (Stage.STRATEGY, Stage.RISK_GATE, Stage.PERSISTENCE, Stage.EXECUTOR, Stage.CONTROL),
            is_lockstep=terms.is_lockstep,
        )
        self.keeper = Bookkeeper(replay(records))
        self.version = _version(terms)
        self.machines = Machines(
            terms.settings,
            terms.symbols,
            wallets=terms.wallets,
            ramp_until_ns=_ramp_until_ns(records, self.version, ports.clock.now_ns()) if terms.wallets else 0,
            sent_ns=_sent_ns(records, ports.clock.now_ns()) if terms.wallets else None,
        )
        self._live = _live_access(terms, ports)
        self.desk = LiveDesk(self.machines.approvals)
        """Of live orders; idle on paper."""
        self._left = _left_behind(self.keeper.ledger, terms.symbols)
        self._wings = _wings(terms, self._left)
        self._feed_statuses = [FeedStatus() for _ in self._wings]
        self._feeds_to_come = len(self._wings)
        self.commits = Commits()
        self._on_written = on_written
        self._on_feed_ready = on_feed_ready
        self._answers: dict[str, tuple[trio.Event, list[m.OperatorAnswered]]] = {}
        self._asked = 0

    @property
    def feed_status(self) -> FeedStatus:
        """Return how the feeds are, all together."""
        return together(self._feed_statuses)

    @property
    def now_ns(self) -> int:
        """Return the time, never before anything that was said."""
        return max(self.ports.clock.now_ns(), self.keeper.now_ns)

    def post(self, message: m.AnyMessage) -> None:
        """Say `message` as the control actor."""
        self.office.post(Stage.CONTROL, message)

    async def command(
        self,
        verb: m.OperatorVerb,
        subject: str = "",
        who: str = "",
        *,
        equity_atoms: int | None = None,
        is_new_baseline: bool = False,
    ) -> m.OperatorAnswered:
        """Ask the bot for something, and return its answer once that is written.

        Raises:
            trio.TooSlowError: not within `COMMAND_TIMEOUT_S`; it may still be done.

        """
        event, box = trio.Event(), list[m.OperatorAnswered]()
        self._asked += 1
        key = str(self._asked)
        self._answers[key] = event, box
        try:
            self.post(
                m.OperatorCommand(
                    ts_ns=self.now_ns,
                    verb=verb,
                    command_id=key,
                    subject=subject,
                    who=who,
                    equity_atoms=equity_atoms,
                    is_new_baseline=is_new_baseline,
                )
            )
            with trio.fail_after(COMMAND_TIMEOUT_S):
                await event.wait()
        finally:
            del self._answers[key]
        return box[0]

    # --- the run

    async def run(self, on_ready: Callable[[], None] = _nothing) -> None:
        """Trade until `end` is asked for; end in order. `on_ready` is called when what the journal says is told.

        Whatever an actor raises goes up: the money path lives and dies together.
        """
        self._mind_what_is_left()
        listed = await self._list_markets()
        self._test_gate(listed)
        opening = await self._read_opening()
        try:
            async with trio.open_nursery() as nursery:
                self._start_actors(nursery)
                self._start_session(opening)
                await self.office.idle()
                # What the exchange says of orders means nothing without the steps of their markets, so the feed, which
                # lists them again with each connection, is not waited for.
                for instrument in listed:
                    self.office.post(Stage.FEED, m.InstrumentListed(ts_ns=self.now_ns, instrument=instrument))
                await self.office.idle()
                on_ready()
                await self._trade_until_end()
                await self._close()
                nursery.cancel_scope.cancel()
        except BaseException:
            await self._cancel_all_at_last()
            raise

    def _mind_what_is_left(self) -> None:
        """Say in which markets something is left. Raises SettingsError where a live bot could not look after it."""
        for symbol in self._left:
            log.info("%s is not traded now, but something of ours is left there", symbol)
            if self._live is not None and wallet_of(symbol) not in self.terms.wallets:
                raise SettingsError(
                    f"live.wallets lacks {wallet_of(symbol)!r}, where something of ours is left in {symbol}: add it"
                )

    async def _list_markets(self) -> list[Instrument]:
        """Return the markets of a live bot as the exchange lists them, also those that only the journal still knows.

        None on paper, which asks nobody but the feed.
        """
        if self._live is None:
            return []
        instruments: list[Instrument] = []
        for wing in self._wings:
            async with self._open_client(wing) as client:
                listed = await client.instruments()
            instruments += [listed[symbol] for symbol in wing.symbols if symbol in listed]
            instruments += [listed.get(symbol) or self._delisted(symbol) for symbol in wing.left]
        return instruments

    def _delisted(self, symbol: str) -> Instrument:
        """Return a market as the journal knows it."""
        return msgspec.structs.replace(self.keeper.ledger.instruments[symbol], is_open=False)

    def _test_gate(self, instruments: Sequence[Instrument]) -> None:
        """Before live trading, see that the gate refuses what it must, with these bounds on these markets."""
        if self._live is None:
            return
        traded = [instrument for instrument in instruments if instrument.symbol in self.terms.symbols]
        wrong = self_test(self.machines.gate.limits, traded)
        if wrong:
            raise SelfTestFailed("\n".join(["the risk gate's test of itself failed:", *wrong]))

    @asynccontextmanager
    async def _open_client(self, wing: _Wing) -> AsyncGenerator[PublicClient | FuturesPublic]:
        """Open what asks for the public data of one half of the exchange."""
        exchange = self.terms.settings.exchange
        async with self.ports.network.open_http(
            wing.rest_url,
            connect_timeout_s=exchange.connect_timeout_s,
            request_timeout_s=exchange.request_timeout_s,
            user_agent=USER_AGENT,
        ) as http:
            backoff = Backoff(*READ_BACKOFF_S, self.ports.rng)
            if wing.dialect is SPOT:
                yield PublicClient(http, backoff=backoff)
            else:
                yield FuturesPublic(FuturesClient(http, backoff=backoff))

    async def _read_opening(self) -> Opening | None:
        """Ask the exchange what is there, before the first session of a live journal; later the journal knows."""
        access = self.terms.access
        if access is None or self.keeper.ledger.epoch:
            return None
        backoff = Backoff(*READ_BACKOFF_S, self.ports.rng)
        return await read_opening(access, self.ports.network, self.terms.settings.exchange.quote, backoff)

    async def _cancel_all_at_last(self) -> None:
        """Leave nothing working behind when the money path has died: nobody is there to look after it."""
        access = self.terms.access
        if access is not None:
            log.error("ending without order: cancelling everything at the exchange first")
            with trio.move_on_after(LAST_CANCELS_S, shield=True):
                await send_cancels(access, self.ports.network)

    def _start_actors(self, nursery: trio.Nursery) -> None:
        mailboxes = self.office.mailboxes
        nursery.start_soon(
            run_persistence,
            mailboxes[Stage.PERSISTENCE],
            self.keeper,
            self.ports.journal,
            self.office,
            self._on_written,
            self.commits,
        )
        machines = self.machines.by_stage
        nursery.start_soon(run_stage, mailboxes[Stage.STRATEGY], self._strategies(), self.office)
        if self._live is None:
            nursery.start_soon(run_stage, mailboxes[Stage.RISK_GATE], machines[Stage.RISK_GATE], self.office)
            nursery.start_soon(run_stage, mailboxes[Stage.EXECUTOR], machines[Stage.EXECUTOR], self.office)
        else:
            nursery.start_soon(run_live_gate, mailboxes[Stage.RISK_GATE], machines[Stage.RISK_GATE], self.office)
            nursery.start_soon(self._run_live, self._live)
        nursery.start_soon(self._run_answers)

    def _strategies(self) -> Machine:
        """Return the machine of the strategies; they are timed where time passes while they work."""
        budget_ms = self.terms.settings.risk.strategy_budget_ms
        return Supervisor(self.machines.host, budget_ms, self.ports.stopwatch_s if budget_ms else None)

    async def _run_live(self, access: LiveAccess) -> None:
        await run_live(
            self.office.mailboxes[Stage.EXECUTOR],
            self.office,
            self.desk,
            access,
            network=self.ports.network,
            clock=self.ports.clock,
            is_healthy=self._is_healthy,
        )

    def _is_healthy(self) -> bool:
        """Return whether the exchange may go on trusting us with orders: the money path reads and writes."""
        waiting = max(box.unhandled for box in self.office.mailboxes.values())
        return waiting < FACTS_MAX // 2 and self.commits.running_s(trio.current_time()) < COMMIT_S_MAX

    def _start_session(self, opening: Opening | None) -> None:
        now_ns = self.ports.clock.now_ns()
        self.post(
            m.SessionStarted(
                ts_ns=now_ns,
                epoch=self.keeper.ledger.epoch + 1,
                version=self.version,
                account=self.terms.account,
                quote=self.terms.settings.exchange.quote,
                cash_atoms=atoms_of(self.terms.settings.paper.cash) if opening is None else opening.cash_atoms,
                futures_cash_atoms=None if opening is None else opening.futures_cash_atoms,
            ),
        )
        for flow in opening.flows(now_ns) if opening is not None else ():
            self.post(flow)

    async def _trade_until_end(self) -> None:
        async with trio.open_nursery() as nursery:
            for wing, status in zip(self._wings, self._feed_statuses, strict=True):
                nursery.start_soon(self._run_feed, wing, status)
            if self.terms.for_ns is not None and not self.terms.is_lockstep:
                nursery.start_soon(self._run_timer, self.terms.for_ns)
            await self.end.asked.wait()
            log.info("ending: %s", self.end.reason)
            nursery.cancel_scope.cancel()

    async def _run_timer(self, for_ns: int) -> None:
        await trio.sleep(for_ns / m.SECOND_NS)
        self.end.ask(TIME_IS_OVER, is_complete=True)

    async def _run_feed(self, wing: _Wing, status: FeedStatus) -> None:
        terms, settings = self.terms, self.terms.settings
        end_ns = None
        if terms.is_lockstep and terms.for_ns is not None:
            end_ns = self.ports.clock.now_ns() + terms.for_ns
        timeframes_ns = self.machines.watched_ns | dict.fromkeys(wing.left, (MINUTE_NS,))
        market = Market(ws_url=wing.ws_url, symbols=wing.symbols, timeframes_ns=timeframes_ns, left=wing.left)
        async with self._open_client(wing) as client:
            feed = Feed(
                market,
                client,
                settings.feed,
                self.ports.clock,
                self.office,
                status,
                connect_timeout_s=settings.exchange.connect_timeout_s,
                end_ns=end_ns,
                on_ready=self._make_on_ready(),
                dialect=wing.dialect,
                network=self.ports.network,
                rng=self.ports.rng,
            )
            reason = await feed.run()
        self.end.ask(reason, is_complete=True)

    def _make_on_ready(self) -> Callable[[], None]:
        """Return what one feed calls after each connection: the first time counts, and the last feed's is told."""
        is_first = True

        def on_ready() -> None:
            nonlocal is_first
            self._feeds_to_come -= is_first
            is_first = False
            if not self._feeds_to_come:
                self._on_feed_ready()

        return on_ready

    async def _close(self) -> None:
        """Cancel what works, let the cancels arrive, write that the session ended."""
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as scope:
            await self.office.idle()
            latency_ns = self.machines.paper_terms.round_trip_ns_max if self._live is None else 0
            close, tick, ended = closing(self.now_ns, latency_ns, self.end.reason, is_complete=self.end.is_complete)
            if self._live is None or self.terms.settings.live.resting_orders == "cancel":
                self.post(close)
                await self.office.idle()
                await self._until_cancelled()
            self.post(tick)
            await self.office.idle()
            self.post(ended)
            await self.office.idle()
            await self._disarm()
        if scope.cancelled_caught:
            log.error("could not end in order within %g s; the journal says what was open", CLOSE_TIMEOUT_S)

    async def _disarm(self) -> None:
        """Take the exchange's own switch back: what still rests there is to rest."""
        live = self._live
        if live is None or not live.dead_man_s or "spot" not in live.wallets:
            return
        try:
            await disarm(live, self.ports.network, self.ports.clock)
        except (ExchangeError, ClockSkew) as error:
            log.warning("the dead man's switch stays armed: %s", error)

    async def _until_cancelled(self) -> None:
        """Wait until the exchange has ended every order; the paper exchange needs only time to pass."""
        while self._live is not None and self.keeper.ledger.live_orders:  # noqa: ASYNC110 - once a run
            await trio.sleep(CLOSE_POLL_S)

    async def _run_answers(self) -> None:
        while True:
            for message in await self.office.mailboxes[Stage.CONTROL].receive():
                assert isinstance(message, m.OperatorAnswered)
                waiting = self._answers.get(message.command_id)
                if waiting is not None:
                    event, box = waiting
                    box.append(message)
                    event.set()
