"""What a strategy sees and says in research: candles as columns, advice by the bar and by the column.

Prices are ticks, quantities lots, times nanoseconds since 1970 UTC. `docs/candle-model.md` says what is made of advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bot.core.instrument import Instrument
from bot.core.messages import Bar

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.uint8]


class Candles(NamedTuple):
    """The bars of one symbol: six columns of shape (n,), oldest first, `start_ns` strictly rising, low > 0."""

    start_ns: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    """Lots, rounded down."""


class Market(NamedTuple):
    """One symbol's instrument and bars."""

    instrument: Instrument
    timeframe_ns: int
    candles: Candles
    funding_ns: Ints
    """Times at which funding was settled, rising; shape (0,) without."""
    funding_ppb: Ints
    """Its rates in billionths, same shape."""


class Advice(NamedTuple):
    """What a strategy advises on one symbol at the close of each base bar; see `bot/core/tactics.py`.

    `flags` has shape (n,), and is 0 where the strategy has no bar of its own. The others have shape (n,), or (1,) where
    they never change.
    """

    flags: Flags
    size: Ints
    stop_by: Ints
    target_by: Ints
    trail_by: Ints


class AdviceRow(NamedTuple):
    """The same for one bar."""

    flags: int
    size: int
    stop_by: int
    target_by: int
    trail_by: int


class Adviser(Protocol):
    """One strategy on one symbol, a bar at a time: what the live bot runs."""

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        """Take the next bar of its own; return what it advises, or None while it has no opinion."""
        ...

    def hear(self, bar: Bar) -> None:
        """Take the next bar of another symbol that it watches."""
        ...


class Definition(Protocol):
    """A strategy with its parameters fixed: the same advice by the bar and by the column, to the last bit."""

    @property
    def timeframe_ns(self) -> int:
        """Return the length of its own bars."""
        ...

    @property
    def watches(self) -> tuple[str, ...]:
        """Return the other symbols that it looks at."""
        ...

    @property
    def terms(self) -> Ints:
        """Return the terms of its tactics, shape (tactics.TERMS,)."""
        ...

    @property
    def lookback_bars(self) -> int:
        """Return the bars of its own that it needs before its first advice."""
        ...

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """Return a fresh one for `symbol`; `instruments` must know a symbol by its first bar."""
        ...

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        """Return its advice on `symbol` for all of its base bars."""
        ...
