"""An endless made-up market that behaves like a real one, the same for the same seed on every machine.

Per symbol: a price with volatility that clusters (GARCH) and a slow pull to its own average; trades that come in
bursts (each makes the next likelier, as in a Hawkes process); a book whose levels grow with distance from the touch.
Only sums, products, quotients and square roots of floats are used, which IEEE 754 rounds alike everywhere, and a
generator of random numbers of our own: nothing here depends on a maths library or on Python's version.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Final, NamedTuple

from bot.core.instrument import ATOMS, Instrument
from bot.exchange.simulated.events import BookChange, BookSnapshot, Level, MarketEvent, MarketTrade, TakerSide

MASK: Final = 2**64 - 1
MS_NS: Final = 1_000_000
STEP_MS_MIN, STEP_MS_MAX = 60, 440
"""Time between two moments at which a market does something; four a second on average."""
STEPS_A_YEAR: Final = 4 * 86_400 * 365
VOLATILITY: Final = 0.5
"""Of a year, as a fraction of the price."""
LEVELS: Final = 60
"""Levels on each side of a book."""
TRADES_A_STEP_MAX: Final = 8

# GARCH(1,1) on moves in units of their usual size: the weights sum to 1, so the long-run variance is 1.
GARCH_NEWS: Final = 0.08
GARCH_MEMORY: Final = 0.91
GARCH_REST: Final = 0.01
VARIANCE_MAX: Final = 30.0

PULL: Final = 0.00005
"""Part of the distance to its average that the price goes back in one step: half of it in about an hour."""
AVERAGING: Final = 0.000005
"""Part of the distance that the average follows in one step: half of it in about half a day."""

TRADE_RATE: Final = 0.15
"""Trades per step in quiet times."""
EXCITEMENT: Final = 0.3
"""What each trade adds to the rate of the following steps, before it fades."""
FADING: Final = 0.6
"""Part of the added rate that is left after one step; 0.3 x 1 / (1 - 0.6) < 1, so bursts end."""


TOUCH_GAP_TICKS: Final = 3
"""The best price of a side lies less than this from the fair price, after each step."""
CHURN: Final = 3
"""Levels a side whose quantity changes in a step, at most."""
LOTS_RATIO_MAX: Final = 30
"""Largest order, in usual ones."""
PRICE_RANGE: Final = 5
"""The price stays within its beginning divided by this and times this."""


class _Shape(NamedTuple):
    """How a made-up market begins."""

    price: int
    price_scale: int
    quantity_scale: int
    lots_usual: int
    """Size of a usual order."""


_SHAPES: Final = {
    "BTC_USDT": _Shape(60_000, 2, 6, 20_000),
    "ETH_USDT": _Shape(2_600, 2, 5, 40_000),
    "BTC_USDT_PERP": _Shape(60_000, 2, 3, 20),
}
_SHAPE_DEFAULT: Final = _Shape(100, 3, 4, 80_000)


class Chance:
    """Random numbers of a seed: splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & MASK

    def bits(self) -> int:
        """Return 64 random bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        return state ^ (state >> 31)

    def uniform(self) -> float:
        """Return a number from 0.0 to below 1.0."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, end: int) -> int:
        """Return a whole number from 0 to below `end`, which is far below 2**64."""
        return self.bits() * end >> 64

    def gauss(self) -> float:
        """Return a number of mean 0 and deviation 1, about normal: twelve uniform ones, summed."""
        bits = [self.bits() for _ in range(3)]
        return sum((word >> shift & 0xFFFF) for word in bits for shift in (0, 16, 32, 48)) / 65_536 - 6.0

    def exponential(self) -> float:
        """Return a number of mean 1, exponentially distributed.

        Source: von Neumann, "Various techniques used in connection with random digits", 1951; it only compares.
        """
        whole = 0
        while True:
            first = last = self.uniform()
            run = 1
            while (following := self.uniform()) < last:
                last, run = following, run + 1
            if run % 2:
                return whole + first
            whole += 1


class GeneratedMarket:
    """A `MarketSource` without end. The same `symbols`, `seed` and `start_ns` give the same events, everywhere.

    Raises:
        ValueError: no symbol, one twice, or one that is not of the form BASE_QUOTE.

    """

    def __init__(self, symbols: Sequence[str], seed: int, start_ns: int) -> None:
        if not symbols or len(set(symbols)) < len(symbols):
            raise ValueError(f"symbols {list(symbols)} must be at least one, each once")
        self.instruments = tuple(_instrument(symbol) for symbol in symbols)
        self.description = f"generated market of {', '.join(symbols)}, seed {seed}"
        self.event_count: int | None = None
        self.first_ns = start_ns
        self._seed = seed

    def events(self) -> Iterator[MarketEvent]:
        """Yield events for ever, in order of time, every book first."""
        streams = [_one_market(instrument.symbol, self._seed, self.first_ns) for instrument in self.instruments]
        return heapq.merge(*streams, key=lambda event: event.ts_ns)


def _instrument(symbol: str) -> Instrument:
    base, _, quote = symbol.partition("_")
    if not (base and quote):
        raise ValueError(f"symbol {symbol!r} is not of the form BASE_QUOTE")
    shape = _SHAPES.get(symbol, _SHAPE_DEFAULT)
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote.partition("_")[0],
        price_scale=shape.price_scale,
        quantity_scale=shape.quantity_scale,
        qty_lots_min=1,
        notional_atoms_min=ATOMS,
    )


def _one_market(symbol: str, seed: int, start_ns: int) -> Iterator[MarketEvent]:
    """Yield the events of one market; those of others do not depend on it."""
    name = int.from_bytes(symbol.encode())
    chance = Chance(Chance(seed).bits() ^ Chance(name % (MASK - 58)).bits())  # modulo the largest prime below 2**64
    shape = _SHAPES.get(symbol, _SHAPE_DEFAULT)
    price = _FairPrice(chance, float(shape.price * 10**shape.price_scale))
    trading = _Trading(chance)
    book = _MadeBook(chance, shape, int(price.ticks))
    # Ids grow with time, also from one run to the next.
    trade_id = start_ns // MS_NS * 1_000
    now_ns = start_ns
    yield BookSnapshot(now_ns, symbol, tuple(book.bids.items()), tuple(book.asks.items()))
    while True:
        now_ns += chance.below((STEP_MS_MAX - STEP_MS_MIN) * MS_NS) + STEP_MS_MIN * MS_NS
        target_ticks = int(price.step())
        pressure = 0.5 + 0.4 * ((target_ticks > book.mid_ticks) - (target_ticks < book.mid_ticks))
        for at in range(trading.step()):
            taker_side: TakerSide = "buy" if chance.uniform() < pressure else "sell"
            for price_ticks, qty_lots in book.take(taker_side):
                trade_id += 1
                yield MarketTrade(now_ns + at, symbol, str(trade_id), price_ticks, qty_lots, taker_side)
        book.requote(target_ticks)
        bids, asks = book.changes()
        if bids or asks:
            yield BookChange(now_ns + MS_NS, symbol, bids, asks)


class _FairPrice:
    """The price that a market wanders about: GARCH(1,1) moves, and a pull to its own slow average."""

    def __init__(self, chance: Chance, ticks: float) -> None:
        self._chance = chance
        self._lowest, self._highest = ticks / PRICE_RANGE, ticks * PRICE_RANGE
        self._average = ticks
        self._variance = 1.0
        self._step_size = VOLATILITY / sqrt(STEPS_A_YEAR)
        self.ticks = ticks

    def step(self) -> float:
        """Move on; return the new price in ticks."""
        shock = self._chance.gauss() * sqrt(self._variance)
        variance = GARCH_REST + GARCH_NEWS * shock * shock + GARCH_MEMORY * self._variance
        self._variance = min(variance, VARIANCE_MAX)
        away = self.ticks - self._average
        moved = self.ticks * (1.0 + self._step_size * shock) - PULL * away
        self._average += AVERAGING * away
        self.ticks = min(max(moved, self._lowest), self._highest)
        return self.ticks


class _Trading:
    """How many orders take in each step: each one makes more of them likelier, for a while."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._excited = 0.0

    def step(self) -> int:
        """Return the number of orders of the next step."""
        each = min((TRADE_RATE + self._excited) / TRADES_A_STEP_MAX, 1.0)
        orders = sum(self._chance.uniform() < each for _ in range(TRADES_A_STEP_MAX))
        self._excited = FADING * self._excited + EXCITEMENT * orders
        return orders


class _MadeBook:
    """Two sides of levels, best first, that never cross and never end; knows what it has not told yet."""

    def __init__(self, chance: Chance, shape: _Shape, mid_ticks: int) -> None:
        self._chance = chance
        self._lots_usual = shape.lots_usual
        # Levels lie about a tenth of a basis point apart near the touch, at least a tick, and wider further out.
        self._gap_ticks = max(mid_ticks // 100_000, 1)
        self._reach_ticks = self._distance_ticks(LEVELS)
        self._told_bids: dict[int, int] = {}
        self._told_asks: dict[int, int] = {}
        self.bids = self._quoted({}, mid_ticks, -1)
        self.asks = self._quoted({}, mid_ticks + 1, +1)
        self.changes()

    @property
    def mid_ticks(self) -> int:
        """Return the middle of best bid and best ask."""
        return (next(iter(self.bids)) + next(iter(self.asks))) // 2

    def take(self, taker_side: TakerSide) -> list[Level]:
        """Let one order take from the best levels, but never all of them; return its trades."""
        levels = self.asks if taker_side == "buy" else self.bids
        # The product of two exponential numbers has a long tail: many small orders, some very large ones.
        size = self._lots_usual * self._chance.exponential() * self._chance.exponential() / 2
        wanted = 1 + min(int(size), self._lots_usual * LOTS_RATIO_MAX)
        trades: list[Level] = []
        while wanted and len(levels) > LEVELS // 2:
            price = next(iter(levels))
            taken = min(wanted, levels[price])
            trades.append((price, taken))
            wanted -= taken
            levels[price] -= taken
            if not levels[price]:
                del levels[price]
        return trades

    def requote(self, target_ticks: int) -> None:
        """Let makers follow the fair price, change their minds about some levels, and fill up what is thin."""
        self.bids = self._quoted(self.bids, target_ticks, -1)
        self.asks = self._quoted(self.asks, target_ticks + 1, +1)

    def changes(self) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return what changed since the last call, bids and asks; 0 lots where a level is gone."""
        bids, asks = _changes(self._told_bids, self.bids), _changes(self._told_asks, self.asks)
        self._told_bids, self._told_asks = dict(self.bids), dict(self.asks)
        return bids, asks

    def _quoted(self, levels: dict[int, int], touch_ticks: int, sign: int) -> dict[int, int]:
        """Return a side whose best price is `touch_ticks` or a few ticks worse, with `LEVELS` levels or one more."""
        kept = {price: lots for price, lots in levels.items() if 0 <= (price - touch_ticks) * sign <= self._reach_ticks}
        self._churn(kept)
        best = next(iter(kept), None)
        if best is None or (best - touch_ticks) * sign >= TOUCH_GAP_TICKS:
            kept[touch_ticks + sign * self._chance.below(TOUCH_GAP_TICKS)] = self._lots(0)
        while len(kept) < LEVELS:
            at = self._chance.below(LEVELS)
            here, next_one = self._distance_ticks(at), self._distance_ticks(at + 1)
            kept.setdefault(touch_ticks + sign * (here + self._chance.below(next_one - here)), self._lots(at))
        return dict(sorted(kept.items(), reverse=sign < 0))

    def _churn(self, levels: dict[int, int]) -> None:
        """Change the quantity of a few levels, most of them near the touch; take some away, but not the best."""
        prices = list(levels)
        for _ in range(self._chance.below(CHURN + 1) if prices else 0):
            at = self._chance.below(self._chance.below(len(prices)) + 1)
            if at and self._chance.below(4) == 0:
                levels.pop(prices[at], None)
            elif prices[at] in levels:
                levels[prices[at]] = self._lots(at)

    def _distance_ticks(self, at: int) -> int:
        """Return how far from the touch the level at place `at` lies, about."""
        return self._gap_ticks * (8 * at + at * at) // 8

    def _lots(self, at: int) -> int:
        """Return a quantity for the level at place `at`: more of it, the further from the touch."""
        size = self._lots_usual * (4 + at) / 4 * self._chance.exponential()
        return 1 + min(int(size), self._lots_usual * LOTS_RATIO_MAX)


def _changes(before: dict[int, int], after: dict[int, int]) -> tuple[Level, ...]:
    gone = [(price, 0) for price in before if price not in after]
    return (*gone, *[level for level in after.items() if before.get(level[0]) != level[1]])
