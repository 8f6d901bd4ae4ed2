"""How often Poloniex may be asked: one limiter for each documented group of calls, and who goes first.

`Limiter` is pure: it counts, and time comes in as an argument. `Gate` makes trio tasks wait for it. Sources: the
dossier's spot-rest.md, section 3, and futures-rest.md, section 2.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

import trio

from bot.errors import RateLimited

WINDOW_S: Final = 1.1
"""The exchange counts per second; the tenth more is for requests that bunch up on their way."""
PAUSE_S: Final = 1.0
"""The pause after a first refusal that names none; it doubles with each one that follows without a good answer."""
PAUSE_S_MAX: Final = 60.0
BAN_S: Final = 60.0
CANCEL_EVERY_S: Final = 30.0
"""In a long pause one cancel may still try this often: a forgotten order can cost more than a longer ban."""
WAITING_MAX: Final = 1_000


class Lane(IntEnum):
    """Who goes first; a later one never passes an earlier one."""

    CANCEL = 0
    CLOSE = 1
    """Orders that make a position smaller, and questions about orders whose fate is unknown."""
    OPEN = 2
    DATA = 3


class Group(StrEnum):
    """Calls that are counted together. Public ones count per address, private ones per account."""

    PUBLIC_LIGHT = "public_light"
    PUBLIC_HEAVY = "public_heavy"
    PRIVATE_LIGHT = "private_light"
    PRIVATE_HEAVY = "private_heavy"
    FUTURES_MARKET = "futures_market"
    FUTURES_CANDLES = "futures_candles"
    FUTURES_BALANCE = "futures_balance"
    FUTURES_PRIVATE = "futures_private"
    FUTURES_PLACE = "futures_place"
    FUTURES_PLACE_BATCH = "futures_place_batch"
    FUTURES_CANCEL = "futures_cancel"
    FUTURES_CLOSE_ALL = "futures_close_all"


PER_ADDRESS: Final = frozenset({Group.PUBLIC_LIGHT, Group.PUBLIC_HEAVY, Group.FUTURES_MARKET, Group.FUTURES_CANDLES})
LIMITS: Final[Mapping[Group, int]] = {
    Group.PUBLIC_LIGHT: 200,
    Group.PUBLIC_HEAVY: 10,
    Group.PRIVATE_LIGHT: 50,
    Group.PRIVATE_HEAVY: 10,
    Group.FUTURES_MARKET: 300,
    Group.FUTURES_CANDLES: 20,
    Group.FUTURES_BALANCE: 50,
    Group.FUTURES_PRIVATE: 10,
    Group.FUTURES_PLACE: 50,
    Group.FUTURES_PLACE_BATCH: 5,
    Group.FUTURES_CANCEL: 100,
    Group.FUTURES_CLOSE_ALL: 2,
}
"""Calls a second, without any VIP tier."""


def reserve(limit: int) -> int:
    """Return how many of `limit` calls each lane leaves to those before it: a tenth, but at least one can go."""
    return min(max(1, limit // 10), (limit - 1) // (len(Lane) - 1))


# --- the pure part


@dataclass(slots=True, eq=False)
class Ticket:
    """A call that waits for its turn."""

    lane: Lane


@dataclass(slots=True)
class Limiter:
    """Lets at most `limit` calls go in any `window_s`, the first lane first, each lane in the order of asking.

    A lane may use the limit less `reserve` for each lane before it, so a cancel always finds room that no order
    took. Times are seconds of any clock that never goes back.
    """

    limit: int
    window_s: float = WINDOW_S
    _gone_s: deque[float] = field(default_factory=deque[float])
    """When the calls of the current window went, oldest first."""
    _waiting: tuple[deque[Ticket], ...] = field(default_factory=lambda: tuple(deque[Ticket]() for _ in Lane))
    _paused_until_s: float = -math.inf
    _cancel_after_s: float = -math.inf
    """When the next cancel may try in spite of a pause."""
    _refusals: int = 0
    """Refusals since the last good answer."""

    def __post_init__(self) -> None:
        assert self.limit >= 1

    def ask(self, lane: Lane) -> Ticket:
        """Return a ticket at the end of `lane`."""
        ticket = Ticket(lane)
        self._waiting[lane].append(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Forget a ticket that has not gone."""
        self._waiting[ticket.lane].remove(ticket)

    @property
    def first(self) -> Ticket | None:
        """The only ticket that may go next, if any waits."""
        return next((lane[0] for lane in self._waiting if lane), None)

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return sum(len(lane) for lane in self._waiting)

    def may_go(self, ticket: Ticket, now_s: float) -> bool:
        """Let `ticket` go and count it, if it is the first and its time has come; else return False."""
        if ticket is not self.first or now_s < self.ready_s(ticket.lane, now_s):
            return False
        self._waiting[ticket.lane].popleft()
        self._gone_s.append(now_s)
        if now_s < self._paused_until_s:
            self._cancel_after_s = now_s + CANCEL_EVERY_S
        return True

    def ready_s(self, lane: Lane, now_s: float) -> float:
        """Return the time at which the first ticket of `lane` may go, if no other lane goes before."""
        # The very comparison that a checker would make, lest a rounding lets two windows touch.
        while self._gone_s and now_s - self._gone_s[0] >= self.window_s:
            self._gone_s.popleft()
        open_s = self._open_s(lane)
        excess = len(self._gone_s) - (self.limit - lane * reserve(self.limit))
        if excess < 0:
            return open_s
        room_s = self._gone_s[excess] + self.window_s
        return max(open_s, room_s if room_s > now_s else math.nextafter(now_s, math.inf))

    def _open_s(self, lane: Lane) -> float:
        """Return when the pause ends for `lane`."""
        if lane is Lane.CANCEL:
            return min(self._paused_until_s, self._cancel_after_s)
        return self._paused_until_s

    def refused(self, now_s: float, retry_after_s: float | None = None) -> float:
        """Pause after an answer of "too many"; return for how long, in seconds."""
        own_s = min(PAUSE_S * 2.0**self._refusals, PAUSE_S_MAX)
        self._refusals = min(self._refusals + 1, 64)
        return self.pause(now_s, max(own_s, retry_after_s or 0.0))

    def pause(self, now_s: float, for_s: float) -> float:
        """Let nothing go for `for_s` seconds, but for a cancel each `CANCEL_EVERY_S`; return `for_s`."""
        if now_s >= self._paused_until_s:
            self._cancel_after_s = now_s + CANCEL_EVERY_S
        self._paused_until_s = max(self._paused_until_s, now_s + for_s)
        return for_s

    def answered(self) -> None:
        """Take note of an answer that was not "too many"."""
        self._refusals = 0


# --- the trio part


class Gate:
    """Where tasks wait for one group's limiter."""

    def __init__(self, group: Group, limit: int) -> None:
        self._group = group
        self._limiter = Limiter(limit)
        self._changes: dict[Ticket, trio.Event] = {}

    async def wait(self, lane: Lane) -> None:
        """Return when a call may be sent now; it is counted then, whether it is sent or not.

        Raises:
            RateLimited: `WAITING_MAX` calls wait already, and this one is not a cancel.

        """
        if self._limiter.waiting >= WAITING_MAX and lane is not Lane.CANCEL:
            raise RateLimited(f"{self._group}: {WAITING_MAX} calls wait already")
        ticket = self._limiter.ask(lane)
        has_gone = False
        try:
            while not self._limiter.may_go(ticket, trio.current_time()):
                await self._next_try(ticket)
            has_gone = True
        finally:
            self._changes.pop(ticket, None)
            if not has_gone:
                self._limiter.withdraw(ticket)
            self._wake_first()

    def refused(self, retry_after_s: float | None) -> float:
        """Pause the group after a status 429; return for how long, in seconds."""
        return self._limiter.refused(trio.current_time(), retry_after_s)

    def banned(self, for_s: float) -> float:
        """Pause the group after a ban; return for how long, in seconds."""
        return self._limiter.pause(trio.current_time(), for_s)

    def answered(self) -> None:
        """Take note of an answer that was not "too many"."""
        self._limiter.answered()

    async def _next_try(self, ticket: Ticket) -> None:
        """Return when `ticket` may have become ready: only the first one watches the clock."""
        changed = self._changes[ticket] = trio.Event()
        ready_s = math.inf
        if ticket is self._limiter.first:
            ready_s = self._limiter.ready_s(ticket.lane, trio.current_time())
        with trio.move_on_at(ready_s):
            await changed.wait()

    def _wake_first(self) -> None:
        first = self._limiter.first
        if first is not None and first in self._changes:
            self._changes[first].set()


class RateLimits:
    """All gates of one account. `address` lends its gates to the groups that count per address."""

    def __init__(self, limits: Mapping[Group, int] = LIMITS, *, address: RateLimits | None = None) -> None:
        self._gates = {group: Gate(group, limit) for group, limit in limits.items()}
        if address is not None:
            self._gates |= {group: address.gate(group) for group in PER_ADDRESS}

    def gate(self, group: Group) -> Gate:
        """Return the gate of a group."""
        return self._gates[group]

    def banned(self, retry_after_s: float | None) -> float:
        """Pause every group: the exchange has shut out our address. Return for how long, in seconds."""
        for_s = max(BAN_S, retry_after_s or 0.0)
        for gate in self._gates.values():
            gate.banned(for_s)
        return for_s
