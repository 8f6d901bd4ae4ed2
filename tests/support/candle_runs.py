"""Markets of candles and strategies that follow a script, for both engines of the candle market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from bot.backtest.base import Terms
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.core.messages import SECOND_NS, Bar
from bot.strategies.advice import Advice, AdviceRow, Adviser, Candles, Ints, Market
from tests.support.builders import BTC, ETH, instrument

START_NS: Final = 1_704_067_200 * SECOND_NS
MINUTE_NS: Final = 60 * SECOND_NS
NO_FUNDING: Final = np.zeros(0, np.int64)

Row = tuple[int, int, int, int, int] | tuple[int, int, int, int]
"""Open, high, low, close; and the volume, if a test cares."""


def candle_market(
    rows: Sequence[Row],
    *,
    at: Sequence[int] | None = None,
    symbol: str = BTC,
    funding: Sequence[tuple[int, int]] = (),
    **changes: Any,
) -> Market:
    """Return a market of minutes: `at` are their numbers, `funding` is (minutes after the start, billionths)."""
    starts = START_NS + MINUTE_NS * np.array(range(len(rows)) if at is None else at, np.int64)
    columns = np.array([(*row, 1_000)[:5] for row in rows], np.int64).T
    return Market(
        instrument=instrument(symbol, **changes),
        timeframe_ns=MINUTE_NS,
        candles=Candles(starts, *columns),
        funding_ns=np.array([START_NS + minutes * MINUTE_NS for minutes, _ in funding], np.int64),
        funding_ppb=np.array([ppb for _, ppb in funding], np.int64),
    )


def flat_rows(*closes: int) -> list[Row]:
    """Return bars that open at the close before and go straight to their own."""
    opens = (closes[0], *closes[:-1])
    return [(o, max(o, c), min(o, c), c) for o, c in zip(opens, closes, strict=True)]


def terms(cash: int = 10_000, **changes: Any) -> Terms:
    return Terms(cash_atoms=cash * ATOMS, **changes)


def row(flags: int, size: int = 10, *, stop_by: int = 0, target_by: int = 0, trail_by: int = 0) -> AdviceRow:
    return AdviceRow(flags, size, stop_by, target_by, trail_by)


LONG: Final = row(tactics.ENTER_LONG)
SHORT: Final = row(tactics.ENTER_SHORT)
OUT: Final = row(tactics.EXIT_LONG | tactics.EXIT_SHORT)


class Script:
    """A definition that advises what stands in its script: number of its own bar to advice, for every symbol or one."""

    def __init__(
        self,
        rows: Mapping[int, AdviceRow],
        *,
        only: str = "",
        timeframe_ns: int = MINUTE_NS,
        watches: tuple[str, ...] = (),
        sizing: int = tactics.SIZE_LOTS,
        tactic: Mapping[str, int] | None = None,
    ) -> None:
        """`tactic` is other terms of the tactics by name, in small letters."""
        self.rows = rows
        self.only = only
        self.watches = watches
        self.timeframe_ns = timeframe_ns
        self.lookback_bars = 0
        self.terms: Ints = np.zeros(tactics.TERMS, np.int64)
        self.terms[tactics.SIZING] = sizing
        for name, value in (tactic or {}).items():
            self.terms[getattr(tactics, name.upper())] = value
        self.advisers: list[Reader] = []

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """Return one that reads the script, and can be asked what it saw."""
        del instruments
        reader = Reader(self.rows if self.only in ("", symbol) else {})
        self.advisers.append(reader)
        return reader

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        """Return the same by the column; only for bars of its own length."""
        n = len(markets[symbol].candles.start_ns)
        columns = np.zeros((5, n), np.int64)
        for at, advised in self.rows.items() if self.only in ("", symbol) else ():
            if at < n:
                columns[:, at] = advised
        return Advice(columns[0].astype(np.uint8), *columns[1:])


class Reader:
    """Reads a script, a bar at a time."""

    def __init__(self, rows: Mapping[int, AdviceRow]) -> None:
        self._rows = rows
        self.seen: list[Bar] = []
        self.heard: list[Bar] = []

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        """Return what stands at this bar."""
        self.seen.append(bar)
        return self._rows.get(len(self.seen) - 1)

    def hear(self, bar: Bar) -> None:
        """Keep it."""
        self.heard.append(bar)


# --- at random


def random_market(rng: np.random.Generator, bars: int, *, symbol: str = BTC, **changes: Any) -> Market:
    """Return a market that moves a few ticks a bar, with ties, gaps in price, gaps in time and bars without volume."""
    steps = rng.integers(-6, 7, bars) * rng.integers(0, 2, bars)
    close = np.maximum(300 + np.cumsum(steps), 20)
    open_ = np.maximum(np.concatenate([[300], close[:-1]]) + rng.choice([0, 0, 0, -9, 9, 2], bars), 5)
    high = np.maximum(open_, close) + rng.integers(0, 8, bars)
    low = np.maximum(np.minimum(open_, close) - rng.integers(0, 8, bars), 1)
    volume = rng.integers(0, 200, bars)
    rows = [tuple(int(value) for value in values) for values in zip(open_, high, low, close, volume, strict=True)]
    at = np.flatnonzero(rng.random(bars * 2) < 0.8)[:bars]
    funding = [(int(when), int(rng.integers(-3_000_000, 3_000_000))) for when in range(0, int(at[-1]), 7)]
    return candle_market(
        [(r[0], r[1], r[2], r[3], r[4]) for r in rows[: len(at)]],
        at=at.tolist(),
        symbol=symbol,
        funding=funding if changes.get("is_perp") else (),
        **changes,
    )


def random_distance(rng: np.random.Generator) -> int:
    return int(rng.choice([0, 0, 3, 8, 20, -10_000, -50_000]))


def random_script(rng: np.random.Generator, bars: int, *, is_perp: bool) -> Script:
    """Return advice of every kind, tactics of every kind, and sizes that fit or do not."""
    sizing = int(rng.integers(0, 3))
    sizes = ((1, 5, 30), (0, 300_000_000, 6_000_000_000), (100_000, 500_000, 1_000_000))[sizing]
    if is_perp and rng.integers(0, 2):  # enough to be ruined by
        sizes = tuple(20 * size for size in sizes)
    kinds = (0, 0, 0, 1, 4, 10, 2, 8, 5, 9, 6, 17, 20) if is_perp else (0, 0, 0, 0, 1, 1, 2, 17, 16, 5)
    rows = {
        at: row(
            int(rng.choice(kinds)),
            int(rng.choice(sizes)),
            stop_by=random_distance(rng),
            target_by=random_distance(rng),
            trail_by=random_distance(rng),
        )
        for at in range(bars)
    }
    return Script(
        rows,
        sizing=sizing,
        tactic={
            "is_limit": int(rng.integers(0, 2)),
            "offset": int(rng.choice([0, 1, 4, -5_000])),
            "patience": int(rng.integers(1, 5)),
            "bars_max": int(rng.choice([0, 0, 1, 6])),
            "cool_down": int(rng.choice([0, 0, 1, 4])),
            "break_even": int(rng.choice([0, 0, 4, -10_000])),
        },
    )


def random_terms(rng: np.random.Generator) -> Terms:
    return Terms(
        cash_atoms=int(rng.choice([3_000, 10_000, 200_000])) * ATOMS,
        maker_fee_ppm=int(rng.choice([0, 500])),
        taker_fee_ppm=int(rng.choice([0, 1_000, 2_000])),
        slippage=("none", "fixed", "spread", "volume")[int(rng.integers(0, 4))],
        slippage_ppm=int(rng.choice([0, 2_000, 30_000])),
        half_spread_ticks=int(rng.integers(0, 3)),
        latency_ns=int(rng.choice([0, 0, 7, 20, 33, 59])) * SECOND_NS,
        volume_share_ppm=int(rng.choice([0, 0, 50_000, 300_000])),
        leverage=int(rng.choice([1, 5, 50])),
    )


def random_run_parts(seed: int, bars: int = 120) -> tuple[Script, list[Market], Terms]:
    """Return a definition, one or two markets and terms, all out of one seed."""
    rng = np.random.default_rng(seed)
    is_perp = bool(rng.integers(0, 2))
    changes: dict[str, Any] = {"is_perp": is_perp, "qty_lots_min": int(rng.choice([1, 1, 3]))}
    if not is_perp and rng.integers(0, 2):
        changes["quote_fee_ppm"] = 2_000
    if not is_perp and "quote_fee_ppm" not in changes:
        changes["quantity_scale"] = int(rng.choice([0, 3]))
    symbols = (BTC, ETH)[: int(rng.integers(1, 3))]
    markets = [random_market(rng, bars, symbol=symbol, **changes) for symbol in symbols]
    return random_script(rng, bars, is_perp=is_perp), markets, random_terms(rng)
