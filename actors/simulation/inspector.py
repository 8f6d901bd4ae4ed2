"""Looks at a world once a second, shows what it sees to every checker, and collects what they say."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from actors.simulation.checkers import (
    Arrival,
    Breach,
    Checker,
    End,
    Exposure,
    Second,
    Violation,
    all_checkers,
    coverage_of,
)
from actors.simulation.outages import Outage
from actors.simulation.scenario import Scenario
from actors.simulation.truth import SPOT, Truth, Working, books_of
from actors.simulation.world import World
from bot.core import messages as m
from bot.core.instrument import Side
from bot.core.latches import latch_name
from bot.core.ledger import Ledger
from bot.core.orders import OrderIntent
from bot.exchange.live.order import own_id
from bot.exchange.poloniex.limits import PAUSE_S_MAX
from bot.exchange.simulated.faults import FaultEvent, TooManyRequests
from bot.storage.replay import facts

CHECKPOINT_S: Final = 60
VIOLATIONS_MAX: Final = 20
"""Of one seed: what is wrong once is often wrong from then on."""
HARMLESS: Final = frozenset({"duplicate_frame", "reordered_frame", "fill_during_cancel", "slow_disk", "wall_jump"})
"""Faults that keep no news away."""
AFTERWARDS_S: Final = 15.0
"""So long after a fault a connection may still be coming back."""
BPS: Final = 10_000


class Inspector:
    """An observer of one world. `violations` is what was broken, in order."""

    def __init__(self, scenario: Scenario) -> None:
        self.violations: list[Violation] = []
        self._scenario = scenario
        self._checkers: list[Checker] = all_checkers(is_fault_free=scenario.is_fault_free)
        self._world: World | None = None
        self._truth: Truth | None = None
        self._ledger = Ledger()
        """What the journal adds up to, as far as it was read."""
        self._approved: dict[str, OrderIntent] = {}
        """What was approved in it, by client id."""
        self._read = 0
        self._facts: list[m.Journalled] = []
        self._arrivals: list[Arrival] = []
        self.seen_s = 0.0
        self.orders = 0
        self.fills = 0
        self._repaired = 0
        self._equity_atoms = 0
        self._disturbed = disturbances(scenario)

    @property
    def coverage(self) -> dict[str, int]:
        """Return what was seen, and how often."""
        return coverage_of(self._checkers)

    # --- called by the world

    def on_second(self, world: World, at_s: float) -> None:
        """Look at the world."""
        if self._truth is None:
            self._begin(world)
        self.seen_s = at_s
        self._read_journal(world)
        second = self._second(world, at_s)
        self._facts.clear()
        self._arrivals.clear()
        for checker in self._checkers:
            for breach in checker.look(second):
                self._say(breach, at_s)

    def on_end(self, world: World) -> None:
        """Look at the world for the last time."""
        if self._truth is None or world.trader is None:
            self._say(Breach("END", "no bot ever lived"), 0.0)
            return
        self._read_journal(world)
        ledger = world.trader.keeper.ledger
        exchange = self._truth.books
        ours = books_of(ledger, exchange)
        end = End(
            exchange=exchange if self._is_live else ours,
            ours=ours,
            risk_state=ledger.risk_state,
            causes=tuple(latch_name(latch) for latch in ledger.latches),
        )
        at_s = world.settings.seconds + world.settings.heal_s
        for checker in self._checkers:
            for breach in checker.close(end):
                self._say(breach, at_s)
        if _digest(ledger) != _digest(self._ledger):
            self._say(Breach("P1", "the ledger at the end is not what its journal adds up to"), at_s)

    def died(self, reason: str) -> None:
        """Note that the run itself ended by an exception that no bot may raise."""
        self._say(Breach("END", reason), self.seen_s)

    # --- what is seen

    @property
    def _is_live(self) -> bool:
        """Return whether the exchange has our orders: on paper it hears of nothing."""
        return self._scenario.executor == "live"

    def _begin(self, world: World) -> None:
        self._truth = Truth(world.exchange, world.account, world.settings.symbols)
        self._world = world
        self._truth.on_arrival(self._arrived)

    def _read_journal(self, world: World) -> None:
        """Take what became durable since the last time."""
        synced = world.disk.synced
        new = list(facts(synced[self._read :]))
        self._read = len(synced)
        for fact in new:
            self._ledger.apply(fact)
            if isinstance(fact, m.OrderApproved):
                self._approved[fact.intent.client_id] = fact.intent
                self.orders += 1
            elif isinstance(fact, m.Fill):
                self.fills += 1
            elif isinstance(fact, m.ExternalFlow) or (isinstance(fact, m.AccountCompared) and fact.differences):
                self._repaired += 1
        self._facts += new

    def _arrived(self, order: Working) -> None:
        assert self._world is not None
        self._read_journal(self._world)
        intent = self._approved.get(own_id(order.client_id))
        self._arrivals.append(
            Arrival(
                client_id=order.client_id,
                order_id=str(order.order_id),
                symbol=order.symbol,
                increases=self._increases(order),
                is_written=intent is not None,
                difference="" if intent is None else _difference(order, intent),
            )
        )

    def _increases(self, order: Working) -> bool:
        if order.only_closes or order.waits:
            return False
        if not order.symbol.endswith("_PERP"):
            return order.side is Side.BUY
        assert self._truth is not None
        return order.side.sign * self._truth.position_lots(order.symbol) >= 0

    def _second(self, world: World, at_s: float) -> Second:
        assert self._truth is not None
        trader = world.trader
        is_alive = world.is_alive and trader is not None
        ledger = trader.keeper.ledger if is_alive and trader is not None else None
        exchange = self._truth.books
        ours = None if ledger is None or not ledger.quote else books_of(ledger, exchange)
        live_hash = replayed_hash = ""
        if ledger is not None and at_s % CHECKPOINT_S == 0 and self._is_written_down(world):
            live_hash, replayed_hash = _digest(ledger), _digest(self._ledger)
        exposures = self._exposures(world) if self._arrivals else ()
        return Second(
            at_s=at_s,
            is_connected=is_alive and self._is_calm(at_s),
            exchange=exchange if self._is_live or ours is None else ours,
            ours=ours,
            session=world.incarnations,
            arrivals=tuple(self._arrivals),
            exposures=exposures,
            gross=self._gross(world, exposures),
            facts=tuple(self._facts),
            counts={} if trader is None else {**trader.keeper.events, "repaired": self._repaired},
            live_hash=live_hash,
            replayed_hash=replayed_hash,
        )

    def _is_written_down(self, world: World) -> bool:
        """Return whether nothing is on its way to the disk: only then can the journal say all."""
        assert world.trader is not None
        return not world.disk.written and not any(
            mailbox.unhandled for mailbox in world.trader.office.mailboxes.values()
        )

    def _is_calm(self, at_s: float) -> bool:
        return not any(begin_s <= at_s <= end_s for begin_s, end_s in self._disturbed)

    def _exposures(self, world: World) -> tuple[Exposure, ...]:
        """Return what each market could come to on the exchange's books."""
        assert self._truth is not None
        if world.trader is not None:
            self._equity_atoms = world.trader.keeper.equity_atoms or self._equity_atoms
        risk = world.settings.settings.risk
        bound_atoms = self._equity_atoms * int(risk.max_position_pct * 100) // BPS
        working = list(self._truth.working())
        instruments = self._truth.instruments
        exposures: list[Exposure] = []
        for symbol in world.settings.symbols:
            instrument, mark = instruments[symbol], self._truth.mark_ticks(symbol)
            is_perp = symbol.endswith("_PERP")
            held = (
                self._truth.position_lots(symbol)
                if is_perp
                else self._truth.amount(SPOT, instrument.base) // instrument.base_atoms_per_lot
            )
            mine = [order for order in working if order.symbol == symbol and not (order.only_closes or order.waits)]
            buys = sum(order.leaves_lots for order in mine if order.side is Side.BUY)
            sells = sum(order.leaves_lots for order in mine if order.side is Side.SELL) if is_perp else 0
            long_atoms = instrument.notional_atoms(mark, max(held + buys, 0))
            short_atoms = instrument.notional_atoms(mark, max(sells - held, 0))
            exposures.append(Exposure(symbol, long_atoms, short_atoms, bound_atoms))
        return tuple(exposures)

    def _gross(self, world: World, exposures: tuple[Exposure, ...]) -> Exposure | None:
        if not exposures:
            return None
        total = sum(max(each.long_atoms, each.short_atoms) for each in exposures)
        bound_atoms = self._equity_atoms * int(world.settings.settings.risk.max_gross_pct * 100) // BPS
        return Exposure("all markets", total, 0, bound_atoms)

    def _say(self, breach: Breach, at_s: float) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(seed=self._scenario.seed, rule=breach.rule, at_s=at_s, text=breach.text))


def _difference(order: Working, intent: OrderIntent) -> str:
    """Return what of an order at the exchange is not as it was approved; the exchange may cut what only reduces."""
    if (order.symbol, order.side) != (intent.symbol, intent.side):
        return f"{order.side} {order.symbol}, approved was {intent.side} {intent.symbol}"
    may_be_less = order.only_closes or order.client_id != intent.client_id
    if order.qty_lots is not None and not (
        order.qty_lots == intent.qty_lots or (may_be_less and order.qty_lots < intent.qty_lots)
    ):
        return f"{order.qty_lots} lots, approved were {intent.qty_lots}"
    if intent.price_ticks is not None and order.price_ticks not in (None, intent.price_ticks):
        return f"at {order.price_ticks} ticks, approved were {intent.price_ticks}"
    return ""


def disturbances(scenario: Scenario) -> tuple[tuple[float, float], ...]:
    """Return when something goes wrong that can keep news away, from and to."""
    events = (*scenario.faults, *scenario.outages)
    return tuple(
        (event.at_s, event.end_s + _afterwards_s(event))
        for event in events
        if str(event.__struct_config__.tag) not in HARMLESS
    )


def _afterwards_s(event: FaultEvent | Outage) -> float:
    """Return how long an event is felt: the last "too many requests" keeps our orders here for a whole pause."""
    return AFTERWARDS_S + (PAUSE_S_MAX if isinstance(event, TooManyRequests) else 0.0)


def _digest(ledger: Ledger) -> str:
    """Return a name for all that a ledger says, in any process."""
    compared = {wallet: found.differences for wallet, found in ledger.compared.items()}
    state = (
        ledger.recovered(0),
        sorted((symbol, repr(position)) for symbol, position in ledger.positions.items()),
        sorted((wallet, msgspec.to_builtins(found)) for wallet, found in compared.items()),
        sorted(ledger.instruments),
    )
    return hashlib.sha256(msgspec.json.encode(state, order="deterministic")).hexdigest()
