"""A recorded or generated level-2 market as columns: one row for each level that changed and each trade."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.core.instrument import Instrument
from bot.errors import RecordingError
from bot.exchange.simulated.events import BookSnapshot, MarketSource, MarketTrade

Int32s = NDArray[np.int32]
Ints = NDArray[np.int64]
Kinds = NDArray[np.uint8]

BID: Final = 0
"""`lots` is what stands at this price now, 0: nothing."""
ASK: Final = 1
BOUGHT: Final = 2
"""A trade; its taker bought."""
SOLD: Final = 3
CLEAR: Final = 4
"""The book is empty from here on: a snapshot follows."""
KIND: Final = 7
IS_LAST: Final = 8
"""Bit of the last row of a message: the book is whole again."""

WIDTH_MAX: Final = 1 << 22
"""Ticks from the lowest to the highest price that is replayed: two ladders of 32 MB. What lies beyond is left out."""


class BookEvents(NamedTuple):
    """One symbol's events, oldest first: four columns of shape (n,)."""

    instrument: Instrument
    base_ticks: int
    step_ticks: int
    """Ticks = base_ticks + step_ticks * price: a recording may show more decimals than its market has steps."""
    width: int
    """Every `price` is in 0 to width - 1."""
    ts_ns: Ints
    kind: Kinds
    price: Int32s
    lots: Ints
    left_out: int
    """Rows of levels so far from all trades that nobody could reach them."""


def read_events(source: MarketSource, symbol: str) -> BookEvents:
    """Return all events of `symbol`.

    Raises:
        RecordingError: `source` has no such symbol, nothing happens there, or its trades span more than `WIDTH_MAX`.

    """
    instrument = next((each for each in source.instruments if each.symbol == symbol), None)
    if instrument is None:
        raise RecordingError(f"{source.description}: no {symbol}, only {[each.symbol for each in source.instruments]}")
    rows: list[tuple[int, int, int, int]] = []
    for event in source.events():
        if event.symbol != symbol:
            continue
        ts_ns = event.ts_ns
        if isinstance(event, MarketTrade):
            kind = BOUGHT if event.taker_side == "buy" else SOLD
            rows.append((ts_ns, kind | IS_LAST, event.price_ticks, event.qty_lots))
            continue
        if isinstance(event, BookSnapshot):
            rows.append((ts_ns, CLEAR, 0, 0))
        rows += [(ts_ns, BID, price, lots) for price, lots in event.bids]
        rows += [(ts_ns, ASK, price, lots) for price, lots in event.asks]
        if event.bids or event.asks or isinstance(event, BookSnapshot):
            ts_ns, kind, price, lots = rows[-1]
            rows[-1] = ts_ns, kind | IS_LAST, price, lots
    return make_events(instrument, rows, source.description)


def make_events(instrument: Instrument, rows: list[tuple[int, int, int, int]], label: str) -> BookEvents:
    """Return the columns of rows (ts_ns, kind, price_ticks, lots). Raises as `read_events` does."""
    if not rows:
        raise RecordingError(f"{label}: nothing happens on {instrument.symbol}")
    table = np.array(rows, np.int64)
    kind = table[:, 1] & KIND
    low, high = _window(table[kind != CLEAR, 2], table[(kind == BOUGHT) | (kind == SOLD), 2])
    if high - low >= WIDTH_MAX:
        raise RecordingError(f"{label}: trades of {instrument.symbol} span {high - low} ticks, at most {WIDTH_MAX}")
    is_far = (kind != CLEAR) & ((table[:, 2] < low) | (table[:, 2] > high))
    near = _without(table, is_far)
    above = np.where(near[:, 1] & KIND == CLEAR, 0, near[:, 2] - low)
    step = max(int(np.gcd.reduce(above)), 1)
    price = (above // step).astype(np.int32)
    return BookEvents(
        instrument=instrument,
        base_ticks=low,
        step_ticks=step,
        width=int(price.max()) + 1,
        ts_ns=np.ascontiguousarray(near[:, 0]),
        kind=near[:, 1].astype(np.uint8),
        price=price,
        lots=np.ascontiguousarray(near[:, 3]),
        left_out=int(np.count_nonzero(is_far)),
    )


def _window(prices: Ints, traded: Ints) -> tuple[int, int]:
    """Return the lowest and highest price to keep: all of them, or as far around the trades as is allowed."""
    if not len(prices):
        return 0, 0
    low, high = int(prices.min()), int(prices.max())
    if high - low < WIDTH_MAX:
        return low, high
    inner = traded if len(traded) else prices
    inner_low, inner_high = int(inner.min()), int(inner.max())
    margin = max((WIDTH_MAX - 1 - (inner_high - inner_low)) // 2, 0)
    return max(low, inner_low - margin), min(high, inner_high + margin)


def _without(table: Ints, is_far: NDArray[np.bool_]) -> Ints:
    """Return `table` without the rows `is_far`; one that ended its message hands that on to the row before it."""
    if not is_far.any():
        return table
    is_last = (table[:, 1] & IS_LAST) != 0
    message = np.cumsum(is_last) - is_last
    kept = table[~is_far].copy()
    ends = np.flatnonzero(np.diff(message[~is_far], append=-1))
    kept[:, 1] &= KIND
    kept[ends, 1] |= IS_LAST
    return kept
