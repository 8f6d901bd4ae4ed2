"""Markets in which nobody trades but the clients: an empty book, and time that passes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from bot.core.instrument import Instrument
from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketEvent

BEAT_NS: Final = 1_000_000_000
"""Time between two events that say nothing: by them a market at full speed has a time too."""


class QuietMarket:
    """A `MarketSource` without end and without levels or trades of its own."""

    def __init__(self, instruments: Sequence[Instrument], start_ns: int) -> None:
        self.instruments = tuple(instruments)
        self.description = f"quiet market of {', '.join(each.symbol for each in instruments)}"
        self.event_count: int | None = None
        self.first_ns = start_ns

    def events(self) -> Iterator[MarketEvent]:
        """Yield an empty book of each market, then changes of nothing for ever."""
        streams = [_one_market(each.symbol, self.first_ns) for each in self.instruments]
        return heapq.merge(*streams, key=lambda event: event.ts_ns)


def _one_market(symbol: str, start_ns: int) -> Iterator[MarketEvent]:
    yield BookSnapshot(start_ns, symbol, (), ())
    for beat in count(1):
        yield BookChange(start_ns + beat * BEAT_NS, symbol, (), ())
