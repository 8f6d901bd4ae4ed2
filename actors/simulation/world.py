"""One simulated world: the exchange, the network, the disk, and one bot after the other, until its time is over.

A crash severs the bot from everything it could act on, then cancels it; the next incarnation begins with what the disk
kept. Nothing waits for real time and nothing is drawn but from the seed, so a world can be seen again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

import msgspec
import trio

from actors.ports import Ports
from actors.simulation.clock import START_NS, SimulatedClock
from actors.simulation.disk import Disk, DiskJournal
from actors.simulation.draws import Latencies, Latency, generator
from actors.simulation.market import simulated_market
from actors.simulation.network import MemoryNetwork
from actors.simulation.outages import Outage, Outages
from actors.simulation.scheduler import run_seeded
from actors.simulation.trace import Trace
from actors.simulation.wire_network import WireNetwork, seeded_libraries
from actors.trader import End, Terms, Trader
from bot.config import Settings
from bot.core.flow import TIME_IS_OVER
from bot.core.instrument import ATOMS
from bot.core.secret import Secret
from bot.errors import BotError
from bot.exchange.poloniex.server_clock import WALL_NS
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.simulated.accounts import Account, AccountType, Funding
from bot.exchange.simulated.faults import FaultSchedule
from bot.exchange.simulated.futures_positions import MarginMode, PosSide
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.server import (
    FUTURES_PRIVATE_PATH,
    PRIVATE_PATH,
    PUBLIC_PATH,
    ExchangeTerms,
    SimulatedExchange,
    open_unconnected_exchange,
)
from bot.storage.replay import facts

__all__ = ["Crash", "Latencies", "Latency", "Observer", "World", "WorldReport", "WorldSettings", "simulate"]

NO_FAULTS: Final = FaultSchedule()
REST_URL: Final = "http://127.0.0.1"
WS_URL: Final = "ws://127.0.0.1"
PERP: Final = "_PERP"
KEY: Final = "SIMULATED-KEY"
SECRET: Final = "simulated-secret"  # noqa: S105  # of an account that nobody else could ever use
ACCOUNT: Final = "simulated"
RESTART_S: Final = 5.0
"""After a bot has ended by itself it is started again, as a service manager would."""
HEAL_EVERY_S: Final = 5.0
"""So often the operator asks for all positions to be closed, until somebody answers."""
END_S: Final = 120.0
MS_NS: Final = 1_000_000
CASH_ATOMS: Final = 10_000 * ATOMS


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """kill -9, or with `loses_unsynced` the power fails; the bot starts again after a while."""

    at_s: float
    after_s: float
    loses_unsynced: bool = False


class WorldSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a world depends on."""

    seed: int
    tier: Literal["message", "wire"] = "message"
    """Whether ports exchange messages, or bytes through HTTP and WebSocket libraries."""
    symbols: tuple[str, ...] = ("BTC_USDT",)
    """Spot markets, and `_PERP` contracts."""
    seconds: float = 3_600.0
    """Of virtual time, with faults."""
    update_s: float = 1.0
    """Mean seconds between two moments at which a market does something."""
    tick_s: float = 1.0
    """Seconds between two moments at which the bot is told that time passes; in the daemon 0.25."""
    settings: Settings
    executor: Literal["live", "paper"] = "live"
    latencies: Latencies = Latencies()
    faults: FaultSchedule = NO_FAULTS
    """What the exchange does wrong."""
    outages: tuple[Outage, ...] = ()
    """What the network and the disk do wrong."""
    crashes: tuple[Crash, ...] = ()
    heal_s: float = 0.0
    """After `seconds` nothing goes wrong any more for so long, and the operator wants all positions closed."""
    trace_lines: int = 0
    """How many of the last things that passed are kept as text."""


class WorldReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a world came to."""

    simulated_seconds: float
    orders: int
    fills: int
    crashes: int
    incarnations: int
    exits: dict[str, int]
    """By exception, how often a bot ended by itself."""
    frames: int
    requests: int
    journal_records: int
    journal_hash: str
    """Seals the records of all incarnations."""
    trace_hash: str
    """Of everything that passed between the bots and the exchange."""
    faults: dict[str, int]
    """By kind, how often each fault and each outage struck."""
    end: dict[str, str]
    """What the exchange and the bot say is there at the end, in atoms."""


class Observer(Protocol):
    """Looks on, and never waits."""

    def on_second(self, world: World, at_s: float) -> None:
        """Called once in each virtual second."""
        ...

    def on_end(self, world: World) -> None:
        """Called once, when all is over and the last bot has ended."""
        ...


class _Incarnation:
    """One bot, from its start to its end or its death."""

    def __init__(self, world: World, number: int) -> None:
        settings = world.settings
        self.ended = trio.Event()
        """Set when nothing of it has any effect any more."""
        self.trader: Trader | None = None
        self.wish = End()
        self.restart_s = RESTART_S
        """How long after its end the next one begins."""
        tier = MemoryNetwork if settings.tier == "message" else WireNetwork
        rng = generator(settings.seed, f"network of bot {number}")
        self.network = tier(world.exchange, world.nursery, world.outages, settings.latencies, rng, world.trace)
        self.journal = DiskJournal(world.disk)
        self._ports = Ports(
            journal=self.journal,
            clock=SimulatedClock(settings.tick_s),
            network=self.network,
            rng=generator(settings.seed, f"bot {number}").random,
        )
        self._terms = _terms(settings)
        self._life = trio.CancelScope()

    async def run(self, exits: Counter[str]) -> None:
        """Live. What it ends by is counted in `exits`, if it is an exception of ours; any other one goes up."""
        try:
            with self._life:
                self.trader = Trader(self._terms, self._ports, await self.journal.load(), end=self.wish)
                await self.trader.run()
        except* BotError as group:
            if not self.ended.is_set():  # what a dead one says is heard by nobody
                exits.update(type(error).__name__ for error in _leaves(group))
        finally:
            self.end()

    def end(self) -> None:
        """Sever it from everything it could act on."""
        self.network.sever()
        self.journal.sever()
        self.ended.set()

    def kill(self) -> None:
        """End it now, whatever it was doing. Its tasks are cancelled, and cannot do anything about it."""
        self.end()
        self._life.cancel()


class World:
    """What observers see, and what makes it happen."""

    def __init__(self, settings: WorldSettings, exchange: SimulatedExchange, nursery: trio.Nursery) -> None:
        self.settings = settings
        self.exchange = exchange
        self.nursery = nursery
        self.outages = Outages(settings.outages, settings.seed)
        self.disk = Disk(settings.latencies.commit, self.outages, generator(settings.seed, "disk"))
        self.trace = Trace(settings.trace_lines)
        self.is_healing = False
        self.is_over = False
        self.crashes = 0
        self.incarnations = 0
        self.exits = Counter[str]()
        """By exception, how often a bot ended by itself."""
        self._last: _Incarnation | None = None
        self._down = trio.CancelScope()
        """Of the time between two incarnations."""

    @property
    def trader(self) -> Trader | None:
        """Return the living bot, or the last one that lived."""
        return None if self._last is None else self._last.trader

    @property
    def is_alive(self) -> bool:
        """Return whether a bot lives."""
        return self._last is not None and self._last.trader is not None and not self._last.ended.is_set()

    @property
    def account(self) -> Account:
        """Return the bot's account, as the exchange has it."""
        return self.exchange.accounts.clients[0]

    def wall_ns(self) -> int:
        """Return what the machine's own clock shows."""
        now_s = trio.current_time()
        return START_NS + self.outages.wall_offset_ms(now_s) * MS_NS + round(now_s * 1e9)

    async def live(self) -> None:
        """Run one bot after the other, until the world is over."""
        async with trio.open_nursery() as corpses:
            while not self.is_over:
                self.incarnations += 1
                self._last = _Incarnation(self, self.incarnations)
                # A dead one may take a while to fall; the next one does not wait for it.
                corpses.start_soon(self._last.run, self.exits)
                await self._last.ended.wait()
                if not self.is_over:
                    with trio.CancelScope() as self._down:
                        await trio.sleep(self._last.restart_s)

    def crash(self, crash: Crash) -> None:
        """Kill the bot, if it lives."""
        if self._last is not None and not self._last.ended.is_set():
            self.crashes += 1
            self._last.restart_s = crash.after_s
            self._last.kill()
            self.disk.crash(loses_unsynced=crash.loses_unsynced)

    # --- what happens to them

    async def crash_all(self) -> None:
        """Let each crash happen at its time."""
        for crash in sorted(self.settings.crashes, key=lambda each: each.at_s):
            await trio.sleep_until(crash.at_s)
            if not self.is_healing:
                self.crash(crash)

    async def cut_all(self) -> None:
        """Break sockets at the time of each cut."""
        for cut in self.outages.cuts():
            await trio.sleep_until(cut.at_s)
            if not self.is_healing and self._last is not None:
                self._last.network.cut(cut)

    async def heal(self) -> None:
        """Let nothing go wrong any more; have all positions closed."""
        self.is_healing = True
        self.outages.heal()
        self.exchange.clear_faults()
        self._down.cancel()
        is_answered = False
        while not is_answered:
            await trio.sleep(HEAL_EVERY_S)
            if self.trader is not None and self.is_alive:
                try:
                    await self.trader.command("flatten", who="simulation")
                    is_answered = True
                except trio.TooSlowError:
                    pass  # it may have died in between: the next one is asked

    async def end(self) -> None:
        """Let the last bot end in order, as by SIGTERM; it must not take for ever."""
        self.is_over = True
        self._down.cancel()
        if self._last is not None:
            self._last.wish.ask(TIME_IS_OVER, is_complete=True)
            with trio.move_on_after(END_S) as patience:
                await self._last.ended.wait()
            assert not patience.cancelled_caught, f"the bot did not end within {END_S:g} s"

    async def watch(self, observers: Sequence[Observer]) -> None:
        """Show the world to its observers once a second."""
        at_s = 0
        while True:
            at_s += 1
            await trio.sleep_until(at_s)
            for observer in observers:
                observer.on_second(self, float(at_s))

    # --- what came of it

    def report(self, faults: dict[str, int]) -> WorldReport:
        """Return what the world came to."""
        kinds = Counter(type(fact).__name__ for fact in facts(self.disk.synced))
        return WorldReport(
            simulated_seconds=trio.current_time(),
            orders=kinds["OrderApproved"],
            fills=kinds["Fill"],
            crashes=self.crashes,
            incarnations=self.incarnations,
            exits=dict(sorted(self.exits.items())),
            frames=self.trace.counts.get("received", 0),
            requests=self.trace.counts.get("request", 0),
            journal_records=len(self.disk.synced),
            journal_hash=self.disk.synced[-1].digest.hex() if self.disk.synced else "",
            trace_hash=self.trace.hash,
            faults=dict(sorted(faults.items())),
            end=self._books(),
        )

    def _books(self) -> dict[str, str]:
        wallets = {
            f"exchange {kind.lower()} {currency}": str(wallet.total_atoms)
            for kind in AccountType
            for currency, wallet in self.account.of_type(kind)
        }
        if self.trader is None:
            return wallets
        ledger = self.trader.keeper.ledger
        held = {f"bot {symbol}": str(position.base_atoms) for symbol, position in ledger.positions.items()}
        return wallets | {"bot cash": str(ledger.cash_atoms)} | held


def _nothing(world: World) -> None:
    del world


async def run_world(
    settings: WorldSettings, observers: Sequence[Observer] = (), on_made: Callable[[World], None] = _nothing
) -> WorldReport:
    """Return what a world comes to. Needs a run in virtual time; `simulate` is one.

    `on_made` is shown the world before anything happens in it. A bot that ends by an exception of ours is started
    again; any other exception goes up, as a group.
    """
    source = simulated_market(settings.symbols, settings.seed, settings.update_s)
    has_futures = any(symbol.endswith(PERP) for symbol in settings.symbols)
    async with (
        open_unconnected_exchange(
            source,
            accounts=[Funding(KEY, SECRET, {"USDT": CASH_ATOMS}, {"USDT": CASH_ATOMS})],
            terms=ExchangeTerms(takes_wall_clock=False),
            futures=FuturesWing if has_futures else None,
            faults=settings.faults,
        ) as exchange,
        trio.open_nursery() as nursery,
    ):
        world = World(settings, exchange, nursery)
        on_made(world)
        WALL_NS.set(world.wall_ns)
        _agree_on_leverage(world)
        exchange.start()
        for task in (world.crash_all, world.cut_all):
            nursery.start_soon(task)
        if observers:
            nursery.start_soon(world.watch, observers)
        faults = Counter[str]()
        async with trio.open_nursery() as life:
            life.start_soon(world.live)
            await trio.sleep_until(settings.seconds)
            faults.update(_struck(world))
            if settings.heal_s:
                with trio.move_on_at(settings.seconds + settings.heal_s):
                    await world.heal()
                await trio.sleep_until(settings.seconds + settings.heal_s)
            await world.end()
        for observer in observers:
            observer.on_end(world)
        nursery.cancel_scope.cancel()
        return world.report(dict(faults))
    raise AssertionError("a world ends with a report or an exception")


def simulate(
    settings: WorldSettings, observers: Sequence[Observer] = (), on_made: Callable[[World], None] = _nothing
) -> WorldReport:
    """Return what a world comes to, from its seed alone. Takes the same, and raises the same, as `run_world`."""

    async def main() -> WorldReport:
        return await run_world(settings, observers, on_made)

    with seeded_libraries(generator(settings.seed, "libraries")):
        return run_seeded(settings.seed, main)


def _terms(settings: WorldSettings) -> Terms:
    """Return what a bot is told: where everything is, and the key of its account."""
    has_futures = any(symbol.endswith(PERP) for symbol in settings.symbols)
    has_spot = any(not symbol.endswith(PERP) for symbol in settings.symbols)
    wallets: tuple[Literal["spot", "futures"], ...] = (("spot",) if has_spot else ()) + (
        ("futures",) if has_futures else ()
    )
    given = settings.settings
    live = msgspec.structs.replace(
        given.live,
        wallets=wallets,
        private_ws_url=f"{WS_URL}{PRIVATE_PATH}",
        futures_rest_url=REST_URL,
        futures_public_ws_url=f"{WS_URL}/ws/v3/public",
        futures_ws_url=f"{WS_URL}{FUTURES_PRIVATE_PATH}",
    )
    exchange = msgspec.structs.replace(
        given.exchange, symbols=settings.symbols, rest_url=REST_URL, ws_url=f"{WS_URL}{PUBLIC_PATH}"
    )
    return Terms(
        settings=msgspec.structs.replace(given, live=live, exchange=exchange),
        account=ACCOUNT,
        symbols=settings.symbols,
        rest_url=REST_URL,
        ws_url=exchange.ws_url,
        futures_rest_url=REST_URL,
        futures_ws_url=live.futures_public_ws_url,
        credentials=Credentials(Secret(KEY), Secret(SECRET)) if settings.executor == "live" else None,
    )


def _agree_on_leverage(world: World) -> None:
    """Set the account's leverage to that of the settings, as its owner has done before."""
    if not isinstance(world.exchange.futures, FuturesWing):
        return
    live, desk = world.settings.settings.live, world.exchange.futures.desk
    member = desk.clearing.member(world.account)
    for symbol in desk.contracts:
        member.leverages[symbol, MarginMode(live.margin_mode), PosSide.BOTH] = live.leverage


def _struck(world: World) -> dict[str, int]:
    struck = Counter(world.outages.struck)
    for each in world.exchange.faults().faults:
        struck[str(type(each.fault).__struct_config__.tag)] += each.struck
    return dict(struck)


def _leaves(group: BaseExceptionGroup[BotError]) -> list[BotError]:
    found: list[BotError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
