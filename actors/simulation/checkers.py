"""What must hold in every world, whatever goes wrong in it: the promises of faults.md 1, as checks of plain values.

`inspector.py` looks at a world once a second and makes a `Second` of what it sees; a checker is shown one after the
other and says what was broken. None of them knows trio, the exchange or the bot, so each can be shown a world made by
hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from bot.core import messages as m
from bot.core.latches import Latches
from bot.core.messages import RiskState
from bot.core.orders import FOLLOWS, OrderState

STALE_S: Final = 40.0
"""A difference between our books and the exchange's may last so long while they are connected (faults.md 3.2)."""
SLACK_PPM: Final = 10_000
"""What prices and equity may move between an approval and the exchange: a hundredth."""
FLIGHT_S: Final = 20.0
"""No request is under way for longer: what arrives later than this after a halt was sent after it."""
PPM: Final = 1_000_000


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that was broken."""

    seed: int
    rule: str
    """Its id in faults.md 1: O1, R1, …"""
    at_s: float
    """Virtual time."""
    text: str


class Breach(NamedTuple):
    """What a checker says."""

    rule: str
    text: str


# --- what is seen


class Arrival(NamedTuple):
    """An order that reached the exchange since the last second."""

    client_id: str
    order_id: str
    symbol: str
    increases: bool
    """Whether it could make the position larger."""
    is_written: bool
    """Whether its approval was durable in the journal when it arrived."""
    difference: str = ""
    """What of it is not as it was approved."""


class Exposure(NamedTuple):
    """What one symbol could come to on the exchange's own books, all working orders filled; in quote atoms."""

    symbol: str
    long_atoms: int
    """If every buy filled, at the price now; at least 0."""
    short_atoms: int
    """If every sell filled; at least 0, and 0 on spot."""
    bound_atoms: int
    """The gate's limit now."""


class Books(NamedTuple):
    """What somebody says of an account."""

    amounts: Mapping[str, int]
    """`spot USDT`, `futures USDT`, `BTC_USDT_PERP` and the like to atoms; what is missing is 0."""
    living: Mapping[str, int]
    """Client id of every living order to what is left of it, in lots."""


class Second(NamedTuple):
    """A world at one moment."""

    at_s: float
    is_connected: bool
    """Whether a bot lives, and nothing goes wrong on purpose between it and the exchange."""
    exchange: Books
    ours: Books | None
    """None while no bot lives."""
    session: int
    """Counts the bot's lives."""
    arrivals: tuple[Arrival, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    gross: Exposure | None = None
    facts: tuple[m.Journalled, ...] = ()
    """What became durable since the last second."""
    counts: Mapping[str, int] = {}
    """Counters of the bookkeeper: `received`, `applied`, `duplicate`, `quarantined`, `repaired`."""
    live_hash: str = ""
    replayed_hash: str = ""
    """Of the ledger, and of one made from the journal; empty between checkpoints."""


class End(NamedTuple):
    """A world after its healing."""

    exchange: Books
    ours: Books
    risk_state: RiskState
    causes: tuple[str, ...]
    """Names of the latches that are closed."""


class Checker(Protocol):
    """One promise."""

    def look(self, second: Second) -> Iterator[Breach]:
        """Return what this second broke."""
        ...

    def close(self, end: End) -> Iterator[Breach]:
        """Return what the end broke."""
        ...


class _Checker:
    def look(self, second: Second) -> Iterator[Breach]:
        del second
        return iter(())

    def close(self, end: End) -> Iterator[Breach]:
        del end
        return iter(())


# --- orders


@dataclass(slots=True)
class SingleUse(_Checker):
    """O1, O6, O7: an order at the exchange was approved, once, and that was durable before it arrived."""

    _seen: dict[str, str] = field(default_factory=dict[str, str])

    def look(self, second: Second) -> Iterator[Breach]:
        """Look at each order that arrived."""
        for arrival in second.arrivals:
            known = self._seen.get(arrival.client_id)
            if not arrival.client_id:
                yield Breach("O6", f"order {arrival.order_id} has no client id: nobody approved it")
            elif known is not None and known != arrival.order_id:
                yield Breach("O1", f"{arrival.client_id} became two orders, {known} and {arrival.order_id}")
            elif not arrival.is_written:
                yield Breach("O7", f"{arrival.client_id} reached the exchange before its approval was durable")
            elif arrival.difference:
                yield Breach("O6", f"{arrival.client_id} is not what was approved: {arrival.difference}")
            self._seen.setdefault(arrival.client_id, arrival.order_id)


@dataclass(slots=True)
class LegalSteps(_Checker):
    """O3: the journal's order events go by the table; each edge that was walked is counted."""

    coverage: dict[str, int] = field(default_factory=dict[str, int])
    _states: dict[str, OrderState] = field(default_factory=dict[str, OrderState])

    def look(self, second: Second) -> Iterator[Breach]:
        """Follow each order."""
        for fact in second.facts:
            match fact:
                case m.OrderApproved():
                    self._states[fact.intent.client_id] = OrderState.SUBMITTED
                case m.OrderEvent():
                    yield from self._step(fact)
                case m.OrderDenied():
                    self._count(f"denied {fact.reason}")
                case m.RiskStateChanged():
                    self._count(f"latch {fact.cause} {fact.state}")
                case _:
                    pass

    def _step(self, event: m.OrderEvent) -> Iterator[Breach]:
        before = self._states.get(event.client_id)
        if before is None:
            yield Breach("O6", f"{event.client_id}: journalled as {event.state} without an approval")
            return
        self._count(f"edge {before} {event.state}")
        if event.reason:
            self._count(f"reason {event.reason.split(maxsplit=1)[0].rstrip(':')}")
        if event.state is not before and event.state not in FOLLOWS.get(before, frozenset()):
            yield Breach("O3", f"{event.client_id} went from {before} to {event.state}")
        self._states[event.client_id] = event.state

    def _count(self, name: str) -> None:
        self.coverage[name] = self.coverage.get(name, 0) + 1


@dataclass(slots=True)
class Conservation(_Checker):
    """O10: every event that came in was applied, known already, or put aside: nothing is silently ignored."""

    def look(self, second: Second) -> Iterator[Breach]:
        """Compare the counters."""
        counts = second.counts
        disposed = sum(counts.get(name, 0) for name in ("applied", "duplicate", "quarantined"))
        if counts.get("received", 0) != disposed:
            yield Breach(
                "O10", f"{counts.get('received', 0)} events came in, {disposed} were disposed of: {dict(counts)}"
            )


# --- money


@dataclass(slots=True)
class Agreement(_Checker):
    """C2: a difference between our books and the exchange's is gone after `STALE_S` of connection."""

    _since: dict[str, float] = field(default_factory=dict[str, float])
    _said: set[str] = field(default_factory=set[str])
    _session: int = -1

    def look(self, second: Second) -> Iterator[Breach]:
        """Compare, and remember since when each thing differs; patience begins anew with each connection."""
        if not second.is_connected or second.ours is None or second.session != self._session:
            self._since.clear()
            self._session = second.session
            return
        differing = dict(differences(second.ours, second.exchange))
        self._since = {name: self._since.get(name, second.at_s) for name in differing}
        for name, said in differing.items():
            if second.at_s - self._since[name] > STALE_S and name not in self._said:
                self._said.add(name)
                yield Breach("C2", f"{said}, for {second.at_s - self._since[name]:.0f} s while connected")


def differences(ours: Books, exchange: Books) -> Iterator[tuple[str, str]]:
    """Yield the name of each thing that differs, and both values in words."""
    for name in sorted({*ours.amounts, *exchange.amounts}):
        mine, theirs = ours.amounts.get(name, 0), exchange.amounts.get(name, 0)
        if mine != theirs:
            yield name, f"{name}: {mine} in our books, {theirs} at the exchange"
    for client_id in sorted({*ours.living, *exchange.living}):
        left, there = ours.living.get(client_id), exchange.living.get(client_id)
        if left != there:
            yield client_id, f"order {client_id}: {_left(left)} in our books, {_left(there)} at the exchange"


def _left(lots: int | None) -> str:
    return "not living" if lots is None else f"{lots} lots left"


@dataclass(slots=True)
class WithinLimits(_Checker):
    """R1: no interleaving passes a limit on the exchange's own books, working orders counted as filled.

    Looked at when an order that increases arrives: afterwards only the price can carry a position past its bound.
    """

    def look(self, second: Second) -> Iterator[Breach]:
        """Compare what each symbol could come to with the bound."""
        arrived = {arrival.symbol for arrival in second.arrivals if arrival.increases}
        if not arrived:
            return
        gross = () if second.gross is None else (second.gross,)
        for exposure in (*(each for each in second.exposures if each.symbol in arrived), *gross):
            worst, bound = max(exposure.long_atoms, exposure.short_atoms), exposure.bound_atoms
            if worst * PPM > bound * (PPM + SLACK_PPM):
                yield Breach("R1", f"{exposure.symbol}: {worst} atoms if all fills, the bound is {bound}")


@dataclass(slots=True)
class NothingAfterHalt(_Checker):
    """R3: once HALTED is durable, nothing that makes a position larger is approved or arrives, until it is re-armed."""

    _halted_s: float | None = None
    _latches: Latches = field(default_factory=Latches)

    def look(self, second: Second) -> Iterator[Breach]:
        """Follow the latches, and look at what is approved and what arrives."""
        for fact in second.facts:
            if isinstance(fact, m.RiskStateChanged):
                self._take(fact, second.at_s)
            elif isinstance(fact, m.OrderApproved) and self._halted_s is not None and fact.intent.reserved_atoms:
                yield Breach("R3", f"{fact.intent.client_id} was approved after the halt at {self._halted_s:.0f} s")
        if self._halted_s is None or second.at_s - self._halted_s < FLIGHT_S:
            return
        for arrival in second.arrivals:
            if arrival.increases:
                yield Breach("R3", f"{arrival.client_id} arrived after the halt at {self._halted_s:.0f} s")

    def _take(self, fact: m.RiskStateChanged, at_s: float) -> None:
        self._latches.take(fact)
        strictest = self._latches.strictest()
        if strictest is None or strictest.state is not RiskState.HALTED:
            self._halted_s = None
        elif self._halted_s is None:
            self._halted_s = at_s


# --- memory


@dataclass(slots=True)
class Replayable(_Checker):
    """P1: what the journal adds up to is what the bot holds, byte for byte."""

    checkpoints: int = 0

    def look(self, second: Second) -> Iterator[Breach]:
        """Compare the two hashes of a checkpoint."""
        if second.live_hash:
            self.checkpoints += 1
            if second.live_hash != second.replayed_hash:
                yield Breach(
                    "P1", f"the ledger is {second.live_hash[:16]}, its journal gives {second.replayed_hash[:16]}"
                )


@dataclass(slots=True)
class NothingRepaired(_Checker):
    """Where nothing goes wrong, nothing has to be repaired: redundancy would hide a fault of ours."""

    _most: int = 0

    def look(self, second: Second) -> Iterator[Breach]:
        """Look at the counter of repairs."""
        repaired = second.counts.get("repaired", 0)
        if repaired > self._most:
            self._most = repaired
            yield Breach("REPAIRS", f"{repaired} repairs, and nothing had gone wrong")


# --- the end


@dataclass(slots=True)
class AtRest(_Checker):
    """O2, C1: after the healing no order lives in one book only, and the books are equal to the atom."""

    def close(self, end: End) -> Iterator[Breach]:
        """Compare the books."""
        for client_id, left in end.ours.living.items():
            if client_id not in end.exchange.living:
                yield Breach("O2", f"order {client_id}: {left} lots left in our books, and it is over at the exchange")
        for name, said in differences(end.ours, end.exchange):
            if name not in end.ours.living or name in end.exchange.living:
                yield Breach("C1", f"{said}, after the healing")
        if end.risk_state is not RiskState.NORMAL and not end.causes:
            yield Breach("O2", f"the gate is {end.risk_state} and no latch says why")


def all_checkers(*, is_fault_free: bool) -> list[Checker]:
    """Return one of each; that nothing is repaired is asked only where nothing goes wrong."""
    checkers: list[Checker] = [
        SingleUse(),
        LegalSteps(),
        Conservation(),
        Agreement(),
        WithinLimits(),
        NothingAfterHalt(),
        Replayable(),
        AtRest(),
    ]
    return [*checkers, NothingRepaired()] if is_fault_free else checkers


def coverage_of(checkers: Iterable[Checker]) -> dict[str, int]:
    """Return what was seen, and how often."""
    for each in checkers:
        if isinstance(each, LegalSteps):
            return dict(sorted(each.coverage.items()))
    return {}
