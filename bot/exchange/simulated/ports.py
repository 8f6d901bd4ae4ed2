"""What the server asks of the parts behind it: of a session, and of the futures wing.

All parts are pure machines on the exchange's clock. What they have to say to subscribers they keep until `take`; the
server takes it after every call and puts it into the queues before it sends the call's answer. A topic may belong to
one account: its channel then has the account's number in it (`orders@1`), and only sessions of that account have it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from typing import NamedTuple, Protocol

from bot.core.instrument import Instrument
from bot.exchange.simulated.accounts import Accounts
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.replies import Reply, Request
from bot.exchange.simulated.spot_desk import SpotDesk
from bot.exchange.simulated.venue import Publication, Topic


class SessionPort(Protocol):
    """One WebSocket connection's side of the protocol."""

    @property
    def topics(self) -> Collection[Topic]:
        """Return the topics subscribed to, oldest first."""
        ...

    def handle(self, text: str) -> list[bytes]:
        """Return the answers to one frame."""
        ...


class WingPort(Protocol):
    """One half of the exchange: spot or futures."""

    @property
    def symbols(self) -> Container[str]:
        """Return the markets that are its own."""
        ...

    @property
    def due_ns(self) -> int | None:
        """Return when it next has to be called although nothing happens, or None."""
        ...

    def apply(self, event: MarketEvent) -> None:
        """Take the next market event of a symbol of its own."""
        ...

    def advance(self, now_ns: int) -> None:
        """Let its clock be `now_ns`, if that is later than it is; do what is due."""
        ...

    def answer(self, request: Request) -> Reply:
        """Answer a REST request."""
        ...

    def session(self, *, is_private: bool) -> SessionPort:
        """Return the protocol side of a new connection."""
        ...

    def take(self) -> list[Publication]:
        """Return what is to be said since the last call, in order."""
        ...


class WingParts(NamedTuple):
    """What the futures wing shares with the rest of the exchange."""

    accounts: Accounts
    door: Door
    spot: SpotDesk
    """Transfers between spot and futures are its; `futures_free` asks back what may leave."""
    wanted: Container[Topic]
    """The topics that somebody has subscribed to, always those of now."""
    instruments: tuple[Instrument, ...]
    """Every market of the source."""
    first_ns: int


FuturesFactory = Callable[[WingParts], WingPort]
"""Opens the futures wing."""
