"""One live order: what was sent of it, and what is known of it. Knowledge only grows; nothing lowers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.orders import FOLLOWS, REFUSALS, OrderIntent, OrderState, order_number
from bot.exchange.live.calls import PERP_ENDING

CLOSING_MARK: Final = "s"
"""What follows the client id of a stop in the id of an order that does the stop's work in its place."""
_ID_LENGTH: Final = 12
LIVING: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL})
"""The states of an order that the exchange has."""
_IN_DOUBT: Final = frozenset({"place", "cancel", "missed"})
"""What is under way where the exchange's books may change, or may have."""


class Place(Enum):
    """Where an order waits."""

    BOOK = auto()
    """In the exchange's book, or on its way there."""
    CONDITIONAL = auto()
    """Among the exchange's conditional orders."""
    HERE = auto()
    """With us: the exchange has no such orders, or did not keep this one."""


def own_id(client_id: str) -> str:
    """Return the client id of the intent that an order with `client_id` was sent for."""
    is_closing = client_id[_ID_LENGTH:] == CLOSING_MARK and order_number(client_id[:_ID_LENGTH])
    return client_id[:_ID_LENGTH] if is_closing else client_id


@dataclass(slots=True, eq=False)
class LiveOrder:
    """An order, as far as we know."""

    intent: OrderIntent
    since_ns: int
    """When it was submitted."""
    place: Place = Place.BOOK
    state: OrderState = OrderState.SUBMITTED
    """As it was said."""
    order_id: str = ""
    sent_id: str = ""
    """The client id that it has at the exchange."""
    known_lots: int = 0
    """Filled in earlier sessions, by fills whose names only the journal knows."""
    reported_lots: int = 0
    """Filled, as the exchange counts."""
    summed_lots: int = 0
    """Filled, by the fills in `fills`."""
    fills: dict[m.FillKey, m.FillContent] = field(default_factory=dict[m.FillKey, m.FillContent])
    told_lots: int = 0
    """Filled, as our last event said."""
    end: tuple[OrderState, str] | None = None
    """How it ended, from when that is known until it is said."""
    end_ns: int = 0
    is_lost: bool = False
    """Its answer was lost, and it is being looked for."""
    is_strange: bool = False
    """What the exchange says of it cannot be read."""
    is_cancel_wanted: bool = False
    has_cancel_failed: bool = False
    cancel_since_ns: int = 0
    cancels: int = 0
    next_cancel_ns: int = 0
    next_look_ns: int = 0
    """When to ask how it stands; 0: nobody asks."""
    fills_due_ns: int = 0
    """When to ask for fills that a report counts and nobody told; 0: none are missing."""
    is_fired: bool = False
    """A stop that waited here, and whose trigger was reached."""
    fired_ns: int = 0
    tries: int = 0
    """How often the work of a stop was begun in its place."""
    next_try_ns: int = 0
    is_missed: bool = False
    """The last full list of orders lacked it."""
    under_way: set[str] = field(default_factory=set[str])
    """Calls that were not answered yet, by kind; "missed" with the first "look" since a list lacked it."""

    def __post_init__(self) -> None:
        self.sent_id = self.sent_id or self.intent.client_id

    @property
    def is_protective(self) -> bool:
        """Return whether it waits at the exchange for its trigger."""
        return self.place is Place.CONDITIONAL

    @property
    def is_stop(self) -> bool:
        """Return whether it guards something until its trigger."""
        return self.intent.order_type == "STOP"

    @property
    def booked_lots(self) -> int:
        """Return what is filled by fills that were told, now or in earlier sessions."""
        return max(self.summed_lots, self.known_lots)

    @property
    def filled_lots(self) -> int:
        """Return what is filled at least."""
        return max(self.reported_lots, self.booked_lots)

    @property
    def left_lots(self) -> int:
        """Return what is not filled yet."""
        return self.intent.qty_lots - self.filled_lots

    @property
    def is_seen(self) -> bool:
        """Return whether the exchange has said that it is there."""
        return bool(self.order_id or self.filled_lots or self.end or self.state in LIVING)

    @property
    def is_short_of_fills(self) -> bool:
        """Return whether the exchange counts more than was told."""
        return self.booked_lots < self.reported_lots

    @property
    def is_all_filled(self) -> bool:
        """Return whether nothing is left of it; who buys for an amount is done when the exchange says so."""
        return self.booked_lots >= self.intent.qty_lots and not self.intent.amount_atoms

    @property
    def is_in_doubt(self) -> bool:
        """Return whether nobody knows what the exchange's books hold because of it."""
        return self.is_lost or self.state in {OrderState.SUBMITTED, OrderState.UNKNOWN}

    @property
    def is_settled(self) -> bool:
        """Return whether nothing of it is in doubt or on its way."""
        return not (self.is_in_doubt or self.end or self.is_short_of_fills or self.under_way & _IN_DOUBT)

    def end_after(self, state: OrderState) -> OrderState:
        """Return the end to be said for one of the exchange: an order that lived was not refused."""
        if state in REFUSALS and state not in FOLLOWS.get(self.state, frozenset()):
            return OrderState.EXPIRED
        return state

    def wait_here(self) -> None:
        """Wait with us from now on; what is sent at the trigger is another order than one that waited there."""
        self.place = Place.HERE
        if not self.intent.symbol.endswith(PERP_ENDING):
            self.sent_id = self.intent.client_id + CLOSING_MARK

    def closing(self, qty_lots: int) -> OrderIntent:
        """Return the market order that does the work of a stop."""
        return msgspec.structs.replace(
            self.intent,
            client_id=self.sent_id,
            order_type="MARKET",
            time_in_force="IOC",
            trigger_ticks=0,
            qty_lots=qty_lots,
        )
