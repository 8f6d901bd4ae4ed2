"""The life of an order, as a table, in the exchange's own words.

A state is a view of an order; fills are money and are booked in any state. Ends are final: what arrives later never
opens an order again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from bot.core.instrument import Side

OrderType = Literal["MARKET", "LIMIT", "LIMIT_MAKER", "STOP"]
"""`STOP` waits for the market to reach `trigger_ticks`, and is a market order from then on."""
OrderRole = Literal["trade", "stop", "profit"]
"""What an order is for: to reach the position wanted, or to guard the one that is held."""
TimeInForce = Literal["GTC", "IOC", "FOK"]


class OrderState(StrEnum):
    """Where an order stands. Poloniex's names; `SUBMITTED` before it has answered, and what we conclude ourselves."""

    SUBMITTED = "SUBMITTED"
    UNKNOWN = "UNKNOWN"
    """Its answer was lost or says nothing: it may live. All of it stays reserved until evidence settles it."""
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    PARTIALLY_CANCELED = "PARTIALLY_CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    NEVER_ACCEPTED = "NEVER_ACCEPTED"
    """The exchange was asked, after the last moment at which it could still have taken it, and knows nothing of it."""
    ABANDONED = "ABANDONED"
    """The operator gave it up by name; a difference to the exchange's books then shows in the reconciliation."""

    @property
    def is_final(self) -> bool:
        """Return whether nothing follows this state."""
        return self in FINAL


S = OrderState
_ENDS_OF_LIVING: Final = frozenset({S.FILLED, S.CANCELED, S.PARTIALLY_CANCELED, S.EXPIRED, S.ABANDONED})
REFUSALS: Final = frozenset({S.REJECTED, S.FAILED, S.NEVER_ACCEPTED})
"""The ends of orders that never worked: nothing of them can be filled."""
FINAL: Final = _ENDS_OF_LIVING | REFUSALS

FOLLOWS: Final[dict[OrderState, frozenset[OrderState]]] = {
    # A fast market can fill an order before its acceptance reaches us. Only doubt leads to NEVER_ACCEPTED.
    S.SUBMITTED: (FINAL - {S.NEVER_ACCEPTED}) | {S.UNKNOWN, S.NEW, S.PARTIALLY_FILLED, S.PENDING_CANCEL},
    S.UNKNOWN: FINAL | {S.NEW, S.PARTIALLY_FILLED, S.PENDING_CANCEL},
    S.NEW: _ENDS_OF_LIVING | {S.PARTIALLY_FILLED, S.PENDING_CANCEL},
    S.PARTIALLY_FILLED: _ENDS_OF_LIVING | {S.PARTIALLY_FILLED, S.PENDING_CANCEL},
    # A cancel can lose to a fill; a partial fill in between leaves it pending.
    S.PENDING_CANCEL: _ENDS_OF_LIVING | {S.PENDING_CANCEL, S.PARTIALLY_FILLED},
}
"""The states that may follow each living one. A final state has no line: nothing follows it."""


def advance(state: OrderState, reported: OrderState) -> OrderState:
    """Return the state after the exchange reported `reported`; late, repeated and backward news change nothing."""
    return reported if reported in FOLLOWS.get(state, frozenset()) else state


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True):
    """An order that the risk gate let through: everything that will be on the wire."""

    client_id: str
    """At most 17 characters of a-z and 0-9, unique for the life of the journal, made before sending."""
    strategy: str
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    qty_lots: int
    price_ticks: int | None
    """None on a market order."""
    role: OrderRole = "trade"
    amount_atoms: int = 0
    """Above 0: a market buy that spends this much quote, fees included, and at most `qty_lots`."""
    trigger_ticks: int = 0
    """Of a stop order: a sell triggers at or below it, a buy at or above."""
    is_reduce_only: bool = False
    """Never opens a position or turns it round: the exchange cuts it to what is held."""
    is_netted: bool = False
    """Another strategy holds the other side of this perpetual, and the exchange knows only the sum: it is not asked to
    cut what reduces one strategy's position, because it would cut it to the sum."""
    reserved_atoms: int
    """The worst case, in quote atoms, of what makes a position larger: the price of a spot buy, or the value of a
    perpetual's increase. 0 on an order that only reduces."""

    @property
    def signed_lots(self) -> int:
        """Return the change of position when all is filled."""
        return self.side.sign * self.qty_lots


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the ledger knows it."""

    intent: OrderIntent
    state: OrderState
    filled_lots: int
    submitted_ns: int
    is_cancel_requested: bool = False
    order_id: str = ""
    reported_lots: int = 0
    """Filled so far, as the exchange says; above `filled_lots` while some of its fills are still to come."""
    has_late_fill: bool = False
    """A fill was booked beyond what the exchange said at the order's end."""

    @property
    def leaves_lots(self) -> int:
        """Return what is still to be filled."""
        return self.intent.qty_lots - self.filled_lots

    @property
    def is_settled(self) -> bool:
        """Return whether every fill that the exchange told of is booked."""
        return self.filled_lots >= self.reported_lots


_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_TO_PYTHON: Final = str.maketrans(_BASE32, "0123456789abcdefghijklmnopqrstuv")
"""Our digits to those that Python reads; a million ids are read when a long journal is."""
_EPOCH_DIGITS: Final = 4
_NUMBER_DIGITS: Final = 7


def client_id(epoch: int, number: int) -> str:
    """Return the id of order `number` (from 1) of session `epoch` (from 1): 12 characters, never used twice.

    The exchange's text allows 64 characters in one place and 17 in another; the smaller bound is kept.
    """
    assert 0 < epoch < 32**_EPOCH_DIGITS
    assert 0 < number < 32**_NUMBER_DIGITS
    return "b" + _base32(epoch, _EPOCH_DIGITS) + _base32(number, _NUMBER_DIGITS)


def order_number(client_id: str) -> tuple[int, int] | None:
    """Return the (epoch, number) that `client_id` was made of, or None if it is not of our making."""
    if len(client_id) != 1 + _EPOCH_DIGITS + _NUMBER_DIGITS or client_id[0] != "b" or client_id.strip(_BASE32):
        return None
    value = int(client_id[1:].translate(_TO_PYTHON), 32)
    return value >> 5 * _NUMBER_DIGITS, value & 32**_NUMBER_DIGITS - 1


def _base32(value: int, digits: int) -> str:
    return "".join(_BASE32[value >> 5 * place & 31] for place in reversed(range(digits)))
