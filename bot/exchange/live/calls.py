"""What the desk asks of the exchange: one small record for each call, carried out by whoever holds the connection."""

from __future__ import annotations

from typing import NamedTuple

from bot.core.messages import Wallet
from bot.core.orders import OrderIntent
from bot.exchange.poloniex.outcome import Unknown


class Place(NamedTuple):
    """Send an order, once. The approval was used up: a call that is not carried out is answered as not sent."""

    intent: OrderIntent
    is_protective: bool
    """A conditional order of the exchange, which waits for its trigger there."""


class Cancel(NamedTuple):
    """Ask for an order to be cancelled, by its client id."""

    client_id: str
    symbol: str
    is_protective: bool


class CancelSymbol(NamedTuple):
    """Ask for every order of a market to be cancelled: one of them did not go any other way."""

    symbol: str


class Resolve(NamedTuple):
    """Ask until it is certain whether an order exists."""

    symbol: str
    unknown: Unknown
    is_protective: bool


class Look(NamedTuple):
    """Ask how an order stands."""

    client_id: str
    symbol: str
    order_id: str
    is_protective: bool


class ReadFills(NamedTuple):
    """Ask for all fills of one order."""

    client_id: str
    symbol: str
    order_id: str


Call = Place | Cancel | CancelSymbol | Resolve | Look | ReadFills

PERP_ENDING = "_PERP"


def wallet_of(symbol: str) -> Wallet:
    """Return where orders of a market are settled."""
    return "futures" if symbol.endswith(PERP_ENDING) else "spot"
