"""Who hears what: the routing table, and the plain scheduler that needs no actors.

The same table serves the actors (`actors/system.py`) and `Fifo`, which runs the same machines in one loop: each
message goes to its readers in the order in which messages were posted. In lockstep the actors keep that very order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from bot.core import messages as m

END_OF_MARKET: Final = "end of market data"
"""Why a session ended: the simulated exchange closes its connections with this reason."""
TIME_IS_OVER: Final = "the time is over"


class Stage(StrEnum):
    """The actors, by what they own."""

    FEED = "feed"
    STRATEGY = "strategy"
    RISK_GATE = "risk_gate"
    PERSISTENCE = "persistence"
    EXECUTOR = "executor"
    CONTROL = "control"


class Machine(Protocol):
    """The pure part of an actor: it never waits, reads a clock or draws a random number."""

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        """Return what is to be said after `message`, in order."""
        ...


_F, _S, _R, _P, _E, _C = Stage
ROUTES: Final[dict[Stage, dict[type, tuple[Stage, ...]]]] = {
    _F: {
        m.InstrumentListed: (_P, _S, _R, _E),
        m.Tick: (_R, _P, _E),
        m.Quote: (_R, _P),
        m.Depth: (_E,),
        m.BookLost: (_R, _P, _E),
        m.TradeTick: (_E,),
        m.Bar: (_S,),
        m.MarkPrice: (_R, _P, _E),
        m.FundingRate: (_R, _E),
    },
    _S: {m.Signal: (_R,), m.HealthReported: (_R,)},
    _R: dict.fromkeys(
        (
            m.OrderApproved,
            m.OrderDenied,
            m.CancelRequested,
            m.RiskStateChanged,
            m.EquityMarked,
            m.OperatorAnswered,
        ),
        (_P,),
    ),
    # The gate hears of orders and fills only after they are written.
    _P: {
        m.Recovered: (_R, _E, _S),
        m.SubmitOrder: (_E,),
        m.CancelOrder: (_E,),
        m.OrderEvent: (_R,),
        m.FillBooked: (_R, _S),
        m.FundingPaid: (_R, _S),
        m.Liquidated: (_R, _S),
        m.OperatorAnswered: (_C,),
        m.AccountCompared: (_R,),
        m.OperatorCommand: (_E,),  # an order that is given up
        m.ExternalFlow: (_R, _S),
        m.HealthReported: (_R,),
    },
    _E: {
        **dict.fromkeys((m.OrderEvent, m.Fill, m.FundingPaid, m.Liquidated, m.AccountSeen), (_P,)),
        m.HealthReported: (_R,),
    },
    _C: {
        # An order that is given up and differences that are taken over are matters of the books, the rest of the gate.
        m.OperatorCommand: (_R, _P),
        m.SessionStarted: (_P,),
        m.SessionEnded: (_P,),
        m.Tick: (_R, _P, _E),
        m.HealthReported: (_R,),
        m.ExternalFlow: (_P,),
    },
}
"""Speaker, then kind of message, to its readers in order."""


def readers(speaker: Stage, message: m.AnyMessage) -> tuple[Stage, ...]:
    """Return the stages that hear `message` from `speaker`."""
    try:
        return ROUTES[speaker][type(message)]
    except KeyError:
        raise AssertionError(f"{speaker} has no reader for {message!r}") from None


class Fifo:
    """Runs machines in one loop, first posted, first handled."""

    def __init__(self, machines: Mapping[Stage, Machine]) -> None:
        self._machines = machines
        self._queue: deque[tuple[Stage, m.AnyMessage]] = deque()

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        """Queue `message` for its readers; those that have no machine here are left out."""
        for reader in readers(speaker, message):
            if reader in self._machines:
                self._queue.append((reader, message))

    def run(self) -> None:
        """Handle all that waits, and all that comes of it."""
        while self._queue:
            stage, message = self._queue.popleft()
            for output in self._machines[stage].handle(message):
                self.post(stage, output)


def closing(
    now_ns: int, latency_ns: int, reason: str, *, is_complete: bool
) -> tuple[m.OperatorCommand, m.Tick, m.SessionEnded]:
    """Return what is said at the end of a session, each after all is done that came of the one before.

    Working orders are cancelled; time passes until the cancels have reached the paper exchange; that is written.
    """
    return (
        m.OperatorCommand(ts_ns=now_ns, verb="close", command_id=""),
        m.Tick(ts_ns=now_ns + latency_ns + 1),
        m.SessionEnded(ts_ns=now_ns + latency_ns + 1, reason=reason, is_complete=is_complete),
    )
