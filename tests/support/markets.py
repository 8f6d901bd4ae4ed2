"""Candle markets and runs out of a seed, and a strategy that plays given columns.

A seed makes everything: small prices and lots, so that rounding, minimums and shortage of cash are met all the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from bot.backtest.base import Run, Terms
from bot.core import tactics
from bot.core.instrument import ATOM_SCALE, Instrument
from bot.core.messages import SECOND_NS, Bar
from bot.strategies.advice import Advice, AdviceRow, Candles, Ints, Market

MINUTE_NS: Final = 60 * SECOND_NS
START_NS: Final = 1_704_067_200 * SECOND_NS
SYMBOLS: Final = ("BTC_USDT", "ETH_USDT", "SOL_USDT")
ENTRIES: Final = (tactics.ENTER_LONG, tactics.ENTER_SHORT)


class ScriptedDefinition:
    """A strategy that advises what its columns say: rows of `script[symbol]` by the number of its own bar."""

    def __init__(
        self, timeframe_ns: int, terms: Ints, script: Mapping[str, Advice], base: Mapping[str, Market]
    ) -> None:
        """`script` is by own bars; `base` tells which of those each market's bars make."""
        self.timeframe_ns = timeframe_ns
        self.terms = terms
        self.watches: tuple[str, ...] = ()
        self.lookback_bars = 0
        self._script = script
        self._over = {symbol: own_bars(market, timeframe_ns) for symbol, market in base.items()}

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> ScriptedAdviser:
        starts = [start for start, _ in self._over[symbol]]
        return ScriptedAdviser(self._script[symbol], {start: row for row, start in enumerate(starts)})

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        script, bars = self._script[symbol], len(markets[symbol].candles.start_ns)
        over = np.array([last for _, last in self._over[symbol]], np.int64)
        flags = np.zeros(bars, np.uint8)
        flags[over] = script.flags[: len(over)]
        numbers: list[Ints] = []
        for column in script[1:]:
            spread = column
            if len(column) > 1:
                spread = np.zeros(bars, np.int64)
                spread[over] = column[: len(over)]
            numbers.append(spread)
        return Advice(flags, *numbers)


class ScriptedAdviser:
    """The same, a bar at a time."""

    def __init__(self, script: Advice, rows: Mapping[int, int]) -> None:
        self._script = script
        self._rows = rows

    def on_bar(self, bar: Bar) -> AdviceRow:
        row = self._rows[bar.start_ns]
        return AdviceRow(*(int(column[row if len(column) > 1 else 0]) for column in self._script))

    def hear(self, bar: Bar) -> None:
        raise AssertionError(f"it watches nobody, and hears {bar}")


def own_bars(market: Market, timeframe_ns: int) -> list[tuple[int, int]]:
    """Return (start, index of the base bar it is over with) of each longer bar; the slow way."""
    made: list[tuple[int, int]] = []
    running: int | None = None
    for index, start in enumerate(market.candles.start_ns.tolist()):
        bucket = start - start % timeframe_ns
        if running is not None and running != bucket:
            made.append((running, index))
        running = bucket
        if start + market.timeframe_ns >= bucket + timeframe_ns:
            made.append((bucket, index))
            running = None
    return made


def candles_of(rows: Sequence[tuple[int, int, int, int]], *, volume: int = 1_000_000) -> Candles:
    """Return one-minute bars (open, high, low, close)."""
    columns = np.array(rows, np.int64).T.copy()
    start = START_NS + np.arange(len(rows), dtype=np.int64) * MINUTE_NS
    opens, highs, lows, closes = columns
    return Candles(start, opens, highs, lows, closes, np.full(len(rows), volume, np.int64))


def random_candles(random: np.random.Generator, bars: int, *, gaps: float, price: int, swing: float) -> Candles:
    """Return one-minute bars that wander, with jumps between them and, now and then, no volume or no bar."""
    kept = np.flatnonzero(random.random(bars) >= gaps)
    start = START_NS + (kept if len(kept) else np.zeros(1, np.int64)) * MINUTE_NS
    n = len(start)
    moves = random.normal(0.0, swing, (n, 4))
    rows = np.zeros((4, n), np.int64)
    close = price
    for i in range(n):
        jump = moves[i, 0] if random.random() < 0.3 else 0.0
        opens = max(2, round(close * (1.0 + jump)))
        close = max(2, round(opens * (1.0 + moves[i, 1])))
        high = max(opens, close) + round(abs(moves[i, 2]) * opens)
        low = max(1, min(opens, close) - round(abs(moves[i, 3]) * opens))
        rows[:, i] = opens, high, low, close
    volume = random.integers(0, 400, n) * (random.random(n) < 0.9)
    opened, highs, lows, closes = rows
    return Candles(start.astype(np.int64), opened, highs, lows, closes, volume.astype(np.int64))


class Kind(NamedTuple):
    """What a random run is made of."""

    symbols: int = 1
    has_perps: bool = False
    has_spot: bool = True
    bars: int = 60
    is_plain: bool = False
    """Orders at the market without guards, that fill at once; sizes without regard to equity."""


def random_run(seed: int, kind: Kind) -> Run:
    """Return a run with everything that can differ drawn from `seed`."""
    random = np.random.default_rng(seed)
    gaps = float(random.choice([0.0, 0.1])) if kind.symbols > 1 else float(random.choice([0.0, 0.0, 0.05]))
    swing = float(random.choice([0.003, 0.02, 0.08]))
    is_fee_in_quote = bool(random.integers(2))
    taker_ppm, maker_ppm = int(random.choice([0, 500, 2_000, 30_000])), int(random.choice([0, 200, 1_000]))
    price_scale, quantity_scale = int(random.integers(0, 4)), int(random.integers(0, 5))
    markets = [
        _market(
            random,
            symbol,
            random_candles(random, kind.bars, gaps=gaps, price=int(random.integers(50, 5_000)), swing=swing),
            is_perp=kind.has_perps and (not kind.has_spot or bool(random.integers(2))),
            scales=(price_scale, quantity_scale),
            quote_fee_ppm=max(taker_ppm, maker_ppm) if is_fee_in_quote else 0,
        )
        for symbol in SYMBOLS[: kind.symbols]
    ]
    unit = 10 ** (ATOM_SCALE - price_scale - quantity_scale)
    price = int(markets[0].candles.open[0])
    odd_atoms = round(random.random() * unit)
    cash_atoms = price * unit * int(random.choice([3, 40, 1_000, 20_000])) + odd_atoms
    timeframe_ns = MINUTE_NS * int(random.choice([1, 1, 1, 3]))
    latencies = [0, 0, 1, 7 * SECOND_NS, 20 * SECOND_NS, 31_415_926_535, 59 * SECOND_NS]
    terms = Terms(
        cash_atoms=cash_atoms,
        maker_fee_ppm=maker_ppm,
        taker_fee_ppm=taker_ppm,
        slippage=random.choice(["none", "fixed", "spread", "volume"]),
        slippage_ppm=int(random.choice([100, 5_000, 60_000])),
        half_spread_ticks=int(random.integers(0, 6)),
        latency_ns=0 if kind.is_plain else int(random.choice(latencies)),
        volume_share_ppm=0 if kind.is_plain else int(random.choice([0, 0, 30_000, 500_000])),
        leverage=int(random.choice([1, 3, 20])),
        maintenance_ppm=int(random.choice([5_000, 50_000])),
        liquidation_fee_ppm=int(random.choice([0, 5_000])),
    )
    lots = cash_atoms // (price * unit)
    return Run(_definition(random, timeframe_ns, markets, lots, is_plain=kind.is_plain), markets, terms)


def _market(
    random: np.random.Generator,
    symbol: str,
    candles: Candles,
    *,
    is_perp: bool,
    scales: tuple[int, int],
    quote_fee_ppm: int,
) -> Market:
    price_scale, quantity_scale = scales
    unit = 10 ** (ATOM_SCALE - price_scale - quantity_scale)
    instrument = Instrument(
        symbol=symbol,
        base=symbol.removesuffix("_USDT"),
        quote="USDT",
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        qty_lots_min=int(random.choice([1, 1, 4])),
        notional_atoms_min=int(random.choice([0, 0, 5])) * int(candles.open[0]) * unit,
        is_perp=is_perp,
        quote_fee_ppm=quote_fee_ppm,
    )
    funding = np.zeros(0, np.int64)
    rates = np.zeros(0, np.int64)
    if is_perp:
        minutes = int((candles.start_ns[-1] - START_NS) // MINUTE_NS) + 1
        funding = START_NS + np.arange(0, minutes, 8, dtype=np.int64) * MINUTE_NS + int(random.integers(2)) * SECOND_NS
        rates = random.integers(-3_000_000, 3_000_000, len(funding))
    return Market(instrument, MINUTE_NS, candles, funding, rates)


def _definition(
    random: np.random.Generator, timeframe_ns: int, markets: Sequence[Market], lots: int, *, is_plain: bool
) -> ScriptedDefinition:
    terms = np.zeros(tactics.TERMS, np.int64)
    terms[tactics.SIZING] = sizing = int(random.integers(2 if is_plain else 3))
    terms[tactics.IS_LIMIT] = 0 if is_plain else int(random.integers(2))
    terms[tactics.OFFSET] = int(random.choice([0, 2, -5_000]))
    terms[tactics.PATIENCE] = int(random.integers(1, 5))
    terms[tactics.BARS_MAX] = int(random.choice([0, 0, 4]))
    terms[tactics.COOL_DOWN] = int(random.choice([0, 0, 3]))
    terms[tactics.BREAK_EVEN] = 0 if is_plain else int(random.choice([0, 0, 3, -10_000]))
    busy = float(random.choice([0.03, 0.1, 0.3]))
    has_short = bool(random.integers(3))
    script: dict[str, Advice] = {}
    for market in markets:
        n = len(own_bars(market, timeframe_ns))
        flags = np.zeros(n, np.uint8)
        bits = [tactics.ENTER_LONG, tactics.EXIT_LONG, tactics.EXIT_SHORT]
        bits += [tactics.ENTER_SHORT] * has_short + [tactics.RESIZE] * int(random.integers(2))
        for bit in bits:
            flags |= (random.random(n) < busy).astype(np.uint8) * np.uint8(bit)
        none = np.zeros(1, np.int64)
        script[market.instrument.symbol] = Advice(
            flags,
            _sizes(random, n, sizing, lots),
            *(none if is_plain else _distances(random, n) for _ in range(3)),
        )
    return ScriptedDefinition(timeframe_ns, terms, script, {m.instrument.symbol: m for m in markets})


def _sizes(random: np.random.Generator, n: int, sizing: int, lots: int) -> Ints:
    count = n if random.integers(2) else 1
    if sizing == tactics.SIZE_LOTS:
        return random.integers(1, max(2, 2 * lots), count)
    if sizing == tactics.SIZE_QUOTE:
        return random.integers(1, 10**6, count) * max(1, int(random.choice([1, 50, 2_000])))
    return random.choice(np.array([250_000, 1_000_000, 3_000_000, 18_000_000]), count).astype(np.int64)


def _distances(random: np.random.Generator, n: int) -> Ints:
    kind = random.integers(5)
    if kind < 2:
        return np.zeros(1, np.int64)
    if kind == 2:
        return -random.integers(1_000, 60_000, 1)
    if kind == 3:
        return random.integers(1, 60, 1)
    return random.integers(-50_000, 40, n)
