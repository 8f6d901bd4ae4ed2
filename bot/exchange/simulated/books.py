"""The full order book of one market, and the 20 best levels of it that the exchange shows."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bot.exchange.simulated.events import Level

WINDOW_LEVELS: Final = 20
"""Levels a side of `book_lv2`."""


class Window(NamedTuple):
    """The best levels of both sides, best first; also a change of them, where 0 lots removes a level."""

    bids: list[Level]
    asks: list[Level]


class BookSide:
    """One side of a book: its prices in order, best first, and the quantity at each."""

    __slots__ = ("_keys", "_lots", "_sign")

    def __init__(self, *, is_bid: bool) -> None:
        self._sign = -1 if is_bid else 1
        self._keys: list[int] = []  # sign x price, so that the best is always the smallest
        self._lots: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def best(self) -> int | None:
        """Return the best price, or None on an empty side."""
        return self._sign * self._keys[0] if self._keys else None

    def lots_at(self, price: int) -> int:
        """Return the quantity at a price; 0 where there is no level."""
        return self._lots.get(self._sign * price, 0)

    def replace(self, levels: Iterable[Level]) -> None:
        """Forget everything and hold `levels`, whose quantities are > 0."""
        sign = self._sign
        self._lots = {sign * price: lots for price, lots in levels}
        self._keys = sorted(self._lots)

    def apply(self, levels: Iterable[Level]) -> None:
        """Set the quantity of each level; 0 lots removes it, and removing what is not there does nothing."""
        keys, lots_at, sign = self._keys, self._lots, self._sign
        for price, lots in levels:
            key = sign * price
            if lots:
                if key not in lots_at:
                    insort(keys, key)
                lots_at[key] = lots
            elif lots_at.pop(key, 0):
                del keys[bisect_left(keys, key)]

    def top(self, levels_max: int) -> list[Level]:
        """Return up to `levels_max` levels, best first."""
        lots_at, sign = self._lots, self._sign
        return [(sign * key, lots_at[key]) for key in self._keys[:levels_max]]


class Book:
    """A full book, its visible window, and the number of the window's newest state."""

    __slots__ = ("asks", "bids", "id", "window")

    def __init__(self) -> None:
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)
        self.window = Window([], [])
        self.id = 0
        """Grows by one with each change of the window; 0 before the first snapshot."""

    @property
    def is_known(self) -> bool:
        """Return whether a snapshot has come."""
        return self.id > 0

    @property
    def mid_ticks(self) -> int | None:
        """Return the middle of best bid and best ask, rounded down, or None while a side is empty."""
        if not (self.window.bids and self.window.asks):
            return None
        return (self.window.bids[0][0] + self.window.asks[0][0]) // 2

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Take a whole new book."""
        self.bids.replace(bids)
        self.asks.replace(asks)
        self.window = Window(self.bids.top(WINDOW_LEVELS), self.asks.top(WINDOW_LEVELS))
        self.id += 1

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> Window | None:
        """Change levels; return what changed in the window, removals first, or None when nothing did."""
        self.bids.apply(bids)
        self.asks.apply(asks)
        before = self.window
        after = Window(self.bids.top(WINDOW_LEVELS), self.asks.top(WINDOW_LEVELS))
        if after == before:
            return None
        self.window = after
        self.id += 1
        return Window(_difference(before.bids, after.bids), _difference(before.asks, after.asks))


def _difference(before: Sequence[Level], after: Sequence[Level]) -> list[Level]:
    """Return the levels that turn `before` into `after`; what left comes first, with 0 lots."""
    if before == after:
        return []
    was, now = dict(before), dict(after)
    gone = [(price, 0) for price in was if price not in now]
    return gone + [level for level in after if was.get(level[0]) != level[1]]
