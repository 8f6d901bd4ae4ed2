"""What happens on a market, in exact integers, whoever says it: a recording or a generator.

A `MarketSource` is what the simulated exchange plays. Prices are in ticks, quantities in lots, times in nanoseconds
since 1970 (UTC). Nothing here knows of files, sockets or Poloniex.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec

from bot.core.instrument import Instrument

Level = tuple[int, int]
"""(price_ticks, qty_lots)."""

TakerSide = Literal["buy", "sell"]


class BookSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The whole book of `symbol`; replaces what was known. Levels in any order, every quantity > 0."""

    ts_ns: int
    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BookChange(msgspec.Struct, frozen=True, gc=False):
    """Levels with their new quantity; a quantity of 0 lots removes the level."""

    ts_ns: int
    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class MarketTrade(msgspec.Struct, frozen=True, gc=False):
    """One trade; the book changes that it made come apart from it."""

    ts_ns: int
    symbol: str
    trade_id: str
    price_ticks: int
    qty_lots: int
    taker_side: TakerSide


MarketEvent = BookSnapshot | BookChange | MarketTrade


class MarketSource(Protocol):
    """A market that can be played, from its beginning as often as asked."""

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return every market that events are about."""
        ...

    @property
    def description(self) -> str:
        """Return what is played, for the operator."""
        ...

    @property
    def event_count(self) -> int | None:
        """Return how many events there are, or None where there is no end."""
        ...

    @property
    def first_ns(self) -> int:
        """Return the time of the first event."""
        ...

    def events(self) -> Iterator[MarketEvent]:
        """Return the events from the first one, in order of time; a symbol's first event is its snapshot."""
        ...
