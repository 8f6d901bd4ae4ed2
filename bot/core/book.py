"""A local order book: the exchange's 20-level window, kept in step by its chain of ids.

It says what the exchange last said, or nothing: after a gap, a crossed side or a wrong level the book is lost until the
next snapshot, and nobody can read a price from it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from enum import Enum
from typing import Final

from bot.core.messages import Levels

DEPTH_MAX: Final = 20
"""Levels a side that the exchange shows; what lies behind them is not known."""

REPEATS_MAX: Final = 100
"""So many known updates in a row, and none that follows: the exchange has begun to count anew."""


class Applied(Enum):
    """What came of an update."""

    CHANGED = "changed"
    REPEATED = "repeated"
    """Already known: nothing changed."""
    GAP = "gap"
    """The chain is broken: the book is lost."""
    CROSSED = "crossed"
    """Best bid >= best ask: a message is missing, the book is lost."""
    WAITING = "waiting"
    """There is no book yet to apply an update to."""


class Book:
    """One symbol's bids and asks. Prices are unique in a side, quantities > 0, best bid < best ask."""

    __slots__ = ("_asks", "_bids", "_id", "_repeats")

    def __init__(self) -> None:
        # Sorted by key, best first: a bid's key is -price, an ask's its price. Twenty levels: a list beats a tree.
        self._bids: list[tuple[int, int]] = []
        self._asks: list[tuple[int, int]] = []
        self._id: int | None = None
        self._repeats = 0

    @property
    def is_whole(self) -> bool:
        """Return whether the book can be read."""
        return self._id is not None

    def lose(self) -> None:
        """Forget the book: something is known to be missing."""
        self._id = None
        self._repeats = 0
        self._bids.clear()
        self._asks.clear()

    def replace(self, book_id: int, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> Applied:
        """Take a snapshot; the chain starts again from `book_id`."""
        self._bids = _side((-price, lots) for price, lots in bids)
        self._asks = _side(asks)
        self._id = book_id
        return self._checked()

    def update(
        self, last_id: int, book_id: int, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> Applied:
        """Apply changed levels (0 lots removes one) that follow the message `last_id`."""
        if self._id is None:
            return Applied.WAITING
        if book_id <= self._id:
            self._repeats += 1
            if self._repeats < REPEATS_MAX:
                return Applied.REPEATED
            self.lose()
            return Applied.GAP
        self._repeats = 0
        if last_id != self._id:
            self.lose()
            return Applied.GAP
        for price, lots in bids:
            _set_level(self._bids, -price, lots)
        for price, lots in asks:
            _set_level(self._asks, price, lots)
        self._id = book_id
        return self._checked()

    def _checked(self) -> Applied:
        del self._bids[DEPTH_MAX:], self._asks[DEPTH_MAX:]
        if self._bids and self._asks and -self._bids[0][0] >= self._asks[0][0]:
            self.lose()
            return Applied.CROSSED
        return Applied.CHANGED

    @property
    def best_bid(self) -> tuple[int, int] | None:
        """Return (price_ticks, qty_lots) of the highest bid."""
        return (-self._bids[0][0], self._bids[0][1]) if self._bids else None

    @property
    def best_ask(self) -> tuple[int, int] | None:
        """Return (price_ticks, qty_lots) of the lowest ask."""
        return self._asks[0] if self._asks else None

    @property
    def bids(self) -> Levels:
        """Return the bids, best first."""
        return tuple((-key, lots) for key, lots in self._bids)

    @property
    def asks(self) -> Levels:
        """Return the asks, best first."""
        return tuple(self._asks)


def _side(levels: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the levels of a snapshot by key; of a price that is there twice the last word counts."""
    return sorted(level for level in dict(levels).items() if level[1])


def _set_level(side: list[tuple[int, int]], key: int, lots: int) -> None:
    at = bisect_left(side, (key,))
    is_there = at < len(side) and side[at][0] == key
    if lots:
        if is_there:
            side[at] = (key, lots)
        else:
            side.insert(at, (key, lots))
    elif is_there:
        del side[at]
