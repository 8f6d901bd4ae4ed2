"""Bars of a book, against a loop over its messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.book.bars import bars_of
from bot.backtest.book.events import BID, BOUGHT, CLEAR, IS_LAST, KIND, SOLD, make_events
from bot.errors import RecordingError
from tests.backtest.book.markets import BTC, MS_NS, START_NS, RandomBook, Row


def expected(rows: list[Row], step_ns: int, steps: int) -> list[list[int]]:
    """Return (open, high, low, close, volume) of each bar."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    middles: list[list[int]] = [[] for _ in range(steps)]
    volumes = [0] * steps
    for ts_ns, kind, price, lots in rows:
        bar = min(max(ts_ns - rows[0][0] - 1, 0) // step_ns, steps - 1)
        what = kind & KIND
        if what in (BOUGHT, SOLD):
            volumes[bar] += lots
        elif what == CLEAR:
            bids, asks = {}, {}
        else:
            side = bids if what == BID else asks
            side[price] = lots
            if not lots:
                side.pop(price)
        if kind & IS_LAST and bids and asks:
            middles[bar].append((max(bids) + min(asks)) // 2)
    last = next(middle for bar in middles for middle in bar)
    bars: list[list[int]] = []
    for inside, volume in zip(middles, volumes, strict=True):
        seen = [last, *inside]
        bars.append([last, max(seen), min(seen), seen[-1], volume])
        last = seen[-1]
    return bars


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([7, 100, 1_000]))
def test_a_bar_is_the_middles_between_its_ends_and_what_was_traded(seed: int, step_ms: int) -> None:
    rows = [row for message in RandomBook(seed).messages(120) for row in message]
    events = make_events(BTC, rows, "test")
    step_ns = step_ms * MS_NS
    steps = (rows[-1][0] - rows[0][0]) // step_ns + 1
    candles = bars_of(events, first_ns=rows[0][0], step_ns=step_ns, steps=steps)
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    assert np.stack(columns, axis=1).tolist() == expected(rows, step_ns, steps)
    assert candles.start_ns.tolist() == [rows[0][0] + k * step_ns for k in range(steps)]


def test_a_book_with_one_side_only_has_no_bars() -> None:
    events = make_events(BTC, [(START_NS, CLEAR, 0, 0), (START_NS, BID | IS_LAST, 99, 5)], "test")
    with pytest.raises(RecordingError, match="never both a bid and an ask"):
        bars_of(events, first_ns=START_NS, step_ns=MS_NS, steps=1)
