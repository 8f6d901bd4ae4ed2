"""Troubles: what is not well, since when, and what that calls for after how long.

A trouble begins and ends with reports; patience and quiet are counted here, in the time of messages. What is done about
it (latches, journal) is the breakers' matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from bot.core.latches import EVERYTHING
from bot.core.messages import SECOND_NS, Condition, RiskState
from bot.core.risk.bounds import RATE_LIMIT_PAUSE_NS, RATE_LIMIT_WINDOW_NS, BreakerBounds

BOOK: Final = "stale_book"
BLIND: Final = "equity_unknown"
LIQUIDATION: Final = "liquidation"

QUIET_NS: Final = 60 * SECOND_NS
"""A trouble must be over for this long, or for twice as long as it lasted if that is more, before the gate opens."""

RETURNING: Final = frozenset(
    {Condition.CANCELS, Condition.RATE_LIMIT, Condition.PRIVATE_STREAM, Condition.LOAD, Condition.CLOCK, BOOK, BLIND}
)
"""The causes whose REDUCE_ONLY ends by itself; every other latch is opened by hand."""

AT_ONCE: Final = frozenset(
    {
        Condition.JOURNAL,
        Condition.LOAD,
        Condition.CLOCK,
        Condition.ACCOUNT_MODE,
        Condition.KILL,
        Condition.STRATEGY_FAILED,
        LIQUIDATION,
    }
)
"""The causes that have no patience."""

EVENTS: Final = frozenset({Condition.AUTHORITY, Condition.FOREIGN_ORDER, Condition.INTEGRITY, Condition.STRATEGY_SLOW})
"""The causes that happen and do not end: who opens their latch says that they are dealt with."""

HALTING: Final = frozenset({Condition.AUTHORITY, Condition.KILL, Condition.STRATEGY_FAILED, Condition.STRATEGY_SLOW})
"""The causes that halt, however mildly they are reported."""


class Demand(NamedTuple):
    """A latch that should be closed at least this far."""

    cause: str
    scope: str
    state: RiskState
    detail: str


@dataclass(slots=True)
class Trouble:
    """What is not well, or has not been well for long enough yet."""

    cause: str
    scope: str
    since_ns: int
    severity: RiskState
    detail: str
    well_ns: int | None = None
    """When it ended; None while it lasts."""

    @property
    def quiet_ns(self) -> int:
        """Return how long it must be over before its latch opens."""
        least_ns = RATE_LIMIT_PAUSE_NS if self.cause == Condition.RATE_LIMIT else QUIET_NS
        return least_ns if self.well_ns is None else max(least_ns, 2 * (self.well_ns - self.since_ns))


class Health:
    """All troubles there are."""

    def __init__(self, bounds: BreakerBounds) -> None:
        self._rate_limits = bounds.rate_limits
        self._refused_ns: deque[int] = deque()
        self._troubles: dict[tuple[str, str], Trouble] = {}
        self._patience: dict[str, tuple[int, int]] = {
            Condition.RECONCILIATION: (bounds.differ_ns, bounds.differ_halt_ns),
            Condition.UNKNOWN_ORDER: (bounds.unknown_ns, bounds.unknown_halt_ns),
            Condition.CANCELS: (bounds.cancels_ns, 0),
            Condition.PRIVATE_STREAM: (bounds.stream_ns, 0),
            BOOK: (bounds.book_ns, 0),
            BLIND: (bounds.blind_ns, 0),
        }
        """Cause to how long it may last before REDUCE_ONLY and before HALTED; 0: it never asks for that."""

    def find(self, cause: str, scope: str = EVERYTHING) -> Trouble | None:
        """Return the trouble of this name, also one that is over but watched on."""
        return self._troubles.get((scope, cause))

    def begin(
        self,
        now_ns: int,
        cause: str,
        scope: str = EVERYTHING,
        severity: RiskState = RiskState.REDUCE_ONLY,
        detail: str = "",
    ) -> None:
        """Note that something is not well; what is known already keeps its beginning, and the worse severity."""
        trouble = self._troubles.get((scope, cause))
        if trouble is None:
            self._troubles[scope, cause] = Trouble(cause, scope, now_ns, severity, detail)
            return
        trouble.well_ns, trouble.detail = None, detail
        if severity.severity > trouble.severity.severity:
            trouble.severity = severity

    def end(self, now_ns: int, cause: str, scope: str = EVERYTHING, *, is_latched: bool) -> None:
        """Note that something is well again. `is_latched`: its latch is closed, so its quiet is watched."""
        trouble = self._troubles.get((scope, cause))
        if trouble is None or trouble.well_ns is not None:
            return
        if is_latched and cause in RETURNING:
            trouble.well_ns = now_ns
        else:
            del self._troubles[scope, cause]

    def forget(self, cause: str, scope: str = EVERYTHING) -> None:
        """Note that the latch of a trouble was opened; one that lasts stays known."""
        trouble = self._troubles.get((scope, cause))
        if trouble is not None and trouble.well_ns is not None:
            del self._troubles[scope, cause]

    def refuse(self, now_ns: int, scope: str, detail: str) -> None:
        """Count an answer of "too many requests"; enough of them are a trouble, from the first to the last."""
        if not self._rate_limits:
            return
        refused_ns = self._refused_ns
        refused_ns.append(now_ns)
        while refused_ns[0] < now_ns - RATE_LIMIT_WINDOW_NS:
            refused_ns.popleft()
        trouble = self._troubles.get((scope, Condition.RATE_LIMIT))
        if trouble is not None:
            trouble.well_ns = now_ns
        elif len(refused_ns) >= self._rate_limits:
            self.begin(refused_ns[0], Condition.RATE_LIMIT, scope, detail=detail)
            self.end(now_ns, Condition.RATE_LIMIT, scope, is_latched=True)

    def demands(self, now_ns: int) -> Iterator[Demand]:
        """Yield what all troubles call for now, oldest first; the same again as long as they last."""
        for trouble in self._troubles.values():
            if trouble.cause == Condition.RATE_LIMIT:
                yield Demand(trouble.cause, trouble.scope, RiskState.REDUCE_ONLY, trouble.detail)
            elif trouble.well_ns is not None:
                continue
            elif trouble.cause in AT_ONCE:
                yield Demand(trouble.cause, trouble.scope, trouble.severity, trouble.detail)
            else:
                yield from self._after_patience(trouble, now_ns)

    def _after_patience(self, trouble: Trouble, now_ns: int) -> Iterator[Demand]:
        reduce_ns, halt_ns = self._patience[trouble.cause]
        lasted_ns = now_ns - trouble.since_ns
        detail = f"{trouble.detail or 'not well'}, for {lasted_ns // SECOND_NS} s"
        if reduce_ns and lasted_ns >= reduce_ns:
            yield Demand(trouble.cause, trouble.scope, RiskState.REDUCE_ONLY, detail)
        if halt_ns and lasted_ns >= halt_ns:
            yield Demand(trouble.cause, EVERYTHING, RiskState.HALTED, detail)

    def is_lasting(self, cause: str, scope: str = EVERYTHING) -> str:
        """Return what is still wrong with a cause, "" where nothing is; a halt of everything counts for all scopes."""
        for trouble in self._troubles.values():
            if trouble.cause == cause and trouble.well_ns is None and scope in (trouble.scope, EVERYTHING):
                return trouble.detail or "not well"
        return ""

    def restart_quiet(self, now_ns: int) -> None:
        """Count all quiet from now on: what happened until now was not seen."""
        for trouble in self._troubles.values():
            if trouble.well_ns is not None:
                trouble.since_ns += now_ns - trouble.well_ns
                trouble.well_ns = now_ns
