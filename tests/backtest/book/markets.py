"""Random level-2 markets for tests: whole books of a few levels, never crossed, with trades at the touch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from bot.backtest.book.events import ASK, BID, BOUGHT, CLEAR, IS_LAST, SOLD
from bot.core.instrument import Instrument

BTC = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=2,
    quantity_scale=6,
    qty_lots_min=1,
    notional_atoms_min=0,
)
START_NS = 1_700_000_000 * 10**9
MS_NS = 1_000_000
REACH: Final = 9
"""No level is farther from the middle, but one on each side that is always there: the window reaches every order."""
FAR: Final = 3_000
Row = tuple[int, int, int, int]


class RandomBook:
    """A walk of a small book; `bids` and `asks` are lots by price in ticks after the last message."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ns = START_NS
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._mid = 5_000

    def messages(self, count: int) -> Iterator[list[Row]]:
        """Yield the rows of each message: first a snapshot, then changes, trades, and now and then a snapshot."""
        for number in range(count):
            self.now_ns += self.rng.randrange(0, 30) * MS_NS
            kind = "snapshot" if number == 0 or self.rng.random() < 0.01 else self.rng.choice(["change", "trade"])
            yield getattr(self, f"_{kind}")()

    def _snapshot(self) -> list[Row]:
        self.bids = {self._mid - 1 - k: self._lots() for k in range(self.rng.randrange(1, 8))} | {5_000 - FAR: 9}
        self.asks = {self._mid + 1 + k: self._lots() for k in range(self.rng.randrange(1, 8))} | {5_000 + FAR: 9}
        rows = [(self.now_ns, CLEAR, 0, 0)]
        rows += [(self.now_ns, BID, price, lots) for price, lots in self.bids.items()]
        rows += [(self.now_ns, ASK, price, lots) for price, lots in self.asks.items()]
        return _ended(rows)

    def _change(self) -> list[Row]:
        rows: list[Row] = []
        self._mid += self.rng.choice([-2, -1, 0, 0, 0, 1, 2])
        rows += [self._set(BID, price, 0) for price in list(self.bids) if self._is_gone(self._mid - price)]
        rows += [self._set(ASK, price, 0) for price in list(self.asks) if self._is_gone(price - self._mid)]
        for _ in range(self.rng.randrange(1, 5)):
            distance = self.rng.randrange(1, REACH)
            lots = self.rng.choice([0, self._lots(), self._lots()])
            if self.rng.random() < 0.5:
                rows.append(self._set(BID, self._mid - distance, lots))
            else:
                rows.append(self._set(ASK, self._mid + distance, lots))
        return _ended(rows)

    def _is_gone(self, distance: int) -> bool:
        return distance <= 0 or REACH < distance < FAR // 2

    def _set(self, kind: int, price: int, lots: int) -> Row:
        side = self.bids if kind == BID else self.asks
        if lots:
            side[price] = lots
        else:
            side.pop(price, None)
        return self.now_ns, kind, price, lots

    def _trade(self) -> list[Row]:
        buys = self.rng.random() < 0.5
        side = self.asks if buys else self.bids
        touch = (min(side) if buys else max(side)) if side else self._mid
        beyond = self.rng.choice([0, 0, 0, 1, 2]) * (1 if buys else -1)
        return _ended([(self.now_ns, BOUGHT if buys else SOLD, touch + beyond, self._lots())])

    def _lots(self) -> int:
        return self.rng.randrange(1, 40)


def _ended(rows: list[Row]) -> list[Row]:
    ts_ns, kind, price, lots = rows[-1]
    return [*rows[:-1], (ts_ns, kind | IS_LAST, price, lots)]
