"""A local order book: the exchange's 20-level window, kept in step by its chain of ids.

It says what the exchange last said, or nothing: after a gap, a crossed side or a wrong level the book is lost until the
next snapshot, and nobody can read a price from it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
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

    __slots__ = ("_ask_prices", "_asks", "_bid_prices", "_bids", "_id", "_repeats")

    def __init__(self) -> None:
        # Lots by price, and the prices in ascending order: most updates change the lots of a level that is there.
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []
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
        for levels in (self._bids, self._asks, self._bid_prices, self._ask_prices):
            levels.clear()

    def replace(self, book_id: int, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> Applied:
        """Take a snapshot; the chain starts again from `book_id`."""
        # Of a price that is there twice the last word counts.
        self._bids = {price: lots for price, lots in dict(bids).items() if lots}
        self._asks = {price: lots for price, lots in dict(asks).items() if lots}
        self._bid_prices = sorted(self._bids)
        self._ask_prices = sorted(self._asks)
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
        _set_levels(self._bids, self._bid_prices, bids)
        _set_levels(self._asks, self._ask_prices, asks)
        self._id = book_id
        return self._checked()

    def _checked(self) -> Applied:
        bid_prices, ask_prices = self._bid_prices, self._ask_prices
        if len(bid_prices) > DEPTH_MAX:
            _forget(self._bids, bid_prices, slice(0, len(bid_prices) - DEPTH_MAX))
        if len(ask_prices) > DEPTH_MAX:
            _forget(self._asks, ask_prices, slice(DEPTH_MAX, None))
        if bid_prices and ask_prices and bid_prices[-1] >= ask_prices[0]:
            self.lose()
            return Applied.CROSSED
        return Applied.CHANGED

    @property
    def best_bid(self) -> tuple[int, int] | None:
        """Return (price_ticks, qty_lots) of the highest bid."""
        if not self._bid_prices:
            return None
        price = self._bid_prices[-1]
        return price, self._bids[price]

    @property
    def best_ask(self) -> tuple[int, int] | None:
        """Return (price_ticks, qty_lots) of the lowest ask."""
        if not self._ask_prices:
            return None
        price = self._ask_prices[0]
        return price, self._asks[price]

    @property
    def bids(self) -> Levels:
        """Return the bids, best first."""
        prices = self._bid_prices[::-1]
        return tuple(zip(prices, map(self._bids.__getitem__, prices), strict=True))

    @property
    def asks(self) -> Levels:
        """Return the asks, best first."""
        return tuple(zip(self._ask_prices, map(self._asks.__getitem__, self._ask_prices), strict=True))


def _set_levels(lots_at: dict[int, int], prices: list[int], levels: Iterable[tuple[int, int]]) -> None:
    for price, lots in levels:
        if lots:
            if price not in lots_at:
                insort(prices, price)
            lots_at[price] = lots
        elif lots_at.pop(price, 0):
            del prices[bisect_left(prices, price)]


def _forget(lots_at: dict[int, int], prices: list[int], beyond: slice) -> None:
    for price in prices[beyond]:
        del lots_at[price]
    del prices[beyond]
