"""The market of a simulated world: as fast or as slow as the world wants it, thin, and never quiet for long.

The exchange's own generator makes books that look like real ones, sixty levels deep; here a world needs a day of market
in a second. Prices wander with volatility that comes and goes, and now and then jump; trades take from the touch.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from actors.simulation.clock import START_NS
from actors.simulation.draws import generator
from bot.core.instrument import Instrument
from bot.exchange.simulated.events import BookChange, BookSnapshot, Level, MarketEvent, MarketSource, MarketTrade
from bot.exchange.simulated.futures_instruments import ContractSource, is_perp, spot_symbol
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import merge_sources

LEVELS: Final = 8
"""On each side of a book."""
NS: Final = 10**9
MS_NS: Final = 1_000_000
MOVE_BPS: Final = 1.0
"""Usual size of a move, of the price, in quiet times."""
STORM: Final = 6.0
"""How many times as large moves are at the most restless."""
JUMP_BPS: Final = 60.0
JUMP_CHANCE: Final = 1 / 2_000
TRADE_CHANCE: Final = 0.4
PRICE_RANGE: Final = 3
"""The price stays within its beginning divided by this and times this."""


class SimulatedMarket:
    """A `MarketSource` without end, of spot markets; the same arguments give the same events."""

    def __init__(self, symbols: Sequence[str], seed: int, update_s: float) -> None:
        generated = GeneratedMarket(symbols, seed, START_NS)
        self.instruments: tuple[Instrument, ...] = generated.instruments
        self.description = f"simulated market of {', '.join(symbols)}, seed {seed}"
        self.event_count: int | None = None
        self.first_ns = START_NS
        self._openings = list(_openings(generated))
        self._seed = seed
        self._update_s = update_s

    def events(self) -> Iterator[MarketEvent]:
        """Yield events for ever, in order of time, every book first."""
        streams = [
            _one_market(opening, generator(self._seed, f"market {opening.symbol}"), self._update_s)
            for opening in self._openings
        ]
        return heapq.merge(*streams, key=lambda event: event.ts_ns)


def simulated_market(symbols: Sequence[str], seed: int, update_s: float) -> MarketSource:
    """Return made-up markets of `symbols` that do something every `update_s` seconds, in the mean.

    A contract follows the market of its coin, which its index comes from: that is listed too.
    """
    coins = tuple(dict.fromkeys(spot_symbol(symbol) for symbol in symbols))
    perps = tuple(spot_symbol(symbol) for symbol in symbols if is_perp(symbol))
    sources: list[MarketSource] = [SimulatedMarket(coins, seed, update_s)]
    if perps:
        sources.append(ContractSource(SimulatedMarket(perps, seed, update_s)))
    return merge_sources(sources)


def _openings(generated: GeneratedMarket) -> Iterator[BookSnapshot]:
    """Yield the first book of each market: where its price begins, and how much lies at a level."""
    for event, _ in zip(generated.events(), generated.instruments, strict=False):
        assert isinstance(event, BookSnapshot)
        yield event


@dataclass(slots=True)
class _Side:
    """One side of a book; `sign` is -1 for bids."""

    sign: Literal[-1, 1]
    lots_usual: int
    gap_ticks: int
    levels: dict[int, int] = field(default_factory=dict[int, int])
    touch_ticks: int = 0
    changed: dict[int, int] = field(default_factory=dict[int, int])

    def set(self, price_ticks: int, lots: int) -> None:
        """Let `lots` lie at a price; 0 takes the level away."""
        if lots:
            self.levels[price_ticks] = lots
        else:
            del self.levels[price_ticks]
        self.changed[price_ticks] = lots

    def quote(self, touch_ticks: int, rng: Random) -> None:
        """Move the side to a new touch: what the price has passed goes, what is missing comes."""
        sign, gap = self.sign, self.gap_ticks
        reach = gap * LEVELS
        for price in [price for price in self.levels if not 0 <= (price - touch_ticks) * sign < reach]:
            self.set(price, 0)
        if touch_ticks not in self.levels:
            self.set(touch_ticks, 1 + int(self.lots_usual * rng.expovariate(1.0)))
        while len(self.levels) < LEVELS // 2:
            price = touch_ticks + sign * rng.randrange(1, reach)
            if price not in self.levels:
                self.set(price, 1 + int(2 * self.lots_usual * rng.expovariate(1.0)))
        if rng.random() < 0.5 and len(self.levels) < LEVELS:
            price = touch_ticks + sign * rng.randrange(1, reach)
            self.set(price, 1 + int(2 * self.lots_usual * rng.expovariate(1.0)))
        self.touch_ticks = touch_ticks

    def take(self, wanted: int) -> int:
        """Take from the touch; return how much was there. Some of it is left."""
        there = self.levels[self.touch_ticks]
        taken = min(wanted, there - 1)
        if taken > 0:
            self.set(self.touch_ticks, there - taken)
        return taken

    def changes(self) -> tuple[Level, ...]:
        """Return what has changed since the last call."""
        changes = tuple(self.changed.items())
        self.changed = {}
        return changes


def _one_market(opening: BookSnapshot, rng: Random, update_s: float) -> Iterator[MarketEvent]:
    """Yield the events of one market."""
    symbol, now_ns = opening.symbol, opening.ts_ns
    first_ticks = price = float(max(level[0] for level in opening.bids))
    lots_usual = max(2, sum(lots for _, lots in opening.bids[:10]) // 10)
    gap_ticks = max(1, round(first_ticks * MOVE_BPS / 10_000))
    bids, asks = _Side(-1, lots_usual, gap_ticks), _Side(1, lots_usual, gap_ticks)
    restless, trade_id = 1.0, START_NS // MS_NS * 1_000
    bids.quote(int(price), rng)
    asks.quote(int(price) + 1, rng)
    yield BookSnapshot(now_ns, symbol, bids.changes(), asks.changes())
    step_ns = round(update_s * NS)
    while True:
        now_ns += max(MS_NS, int(step_ns * (0.5 + rng.random())))
        if rng.random() < TRADE_CHANCE:
            is_buy = rng.random() < 0.5
            side = asks if is_buy else bids
            taken = side.take(1 + int(lots_usual * rng.expovariate(2.0)))
            if taken > 0:
                trade_id += 1
                yield MarketTrade(now_ns, symbol, str(trade_id), side.touch_ticks, taken, "buy" if is_buy else "sell")
        restless = min(max(restless * (1.0 + 0.1 * (rng.random() - 0.5)), 0.5), STORM)
        move_bps = MOVE_BPS * restless * rng.gauss(0.0, 1.0)
        if rng.random() < JUMP_CHANCE:
            move_bps += JUMP_BPS * (1 if rng.random() < 0.5 else -1)
        price = min(max(price * (1.0 + move_bps / 10_000), first_ticks / PRICE_RANGE), first_ticks * PRICE_RANGE)
        bids.quote(int(price), rng)
        asks.quote(int(price) + 1, rng)
        below, above = bids.changes(), asks.changes()
        if below or above:
            yield BookChange(now_ns, symbol, below, above)
