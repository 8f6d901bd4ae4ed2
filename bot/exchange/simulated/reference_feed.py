"""The public channels of what is listed: markets and currencies. Pure.

Here each is one snapshot after its acknowledgement: only the mode changes later, which the channel `exchange` says.
Source: the dossier's spot-ws.md, section 3.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.exchange.simulated.reference import currencies, currency_row
from bot.exchange.simulated.replies import encode
from bot.exchange.simulated.rest import listing
from bot.exchange.simulated.venue import Venue

SYMBOLS: Final = "symbols"
CURRENCIES: Final = "currencies"
REFERENCE_CHANNELS: Final = frozenset({SYMBOLS, CURRENCIES})


def snapshot(venue: Venue, channel: str, name: str) -> bytes:
    """Return what a new subscriber is sent about a currency or a market."""
    if channel == CURRENCIES:
        row: object = {"currency": name} | msgspec.to_builtins(currency_row(name)[name])
    else:
        row = listing(venue, venue.markets[name])
    return encode({"channel": channel, "data": [row], "action": "snapshot"})


def names_of(venue: Venue, channel: str) -> list[str]:
    """Return all that a channel can be about."""
    return currencies(venue) if channel == CURRENCIES else list(venue.markets)
