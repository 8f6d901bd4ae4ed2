"""A ladder says what a plain book says, whatever happens to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.book.events import WIDTH_MAX, make_events, read_events
from bot.backtest.book.ladder import touch_of
from bot.errors import RecordingError
from bot.exchange.simulated.recording import open_recording
from tests.backtest.book.markets import BTC, START_NS, RandomBook, Row

RECORDINGS = Path(__file__).parents[3].parent / "shared" / "recordings"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_the_best_prices_are_those_of_a_plain_book(seed: int) -> None:
    book = RandomBook(seed)
    rows: list[Row] = []
    expected: list[tuple[int, int, int, int]] = []
    for message in book.messages(120):
        rows += message
        bid, ask = max(book.bids, default=None), min(book.asks, default=None)
        expected.append((bid or 0, book.bids.get(bid or 0, 0), ask or 0, book.asks.get(ask or 0, 0)))
    events = make_events(BTC, rows, "test")
    touch = touch_of(events)
    said = zip(touch.bid.tolist(), touch.bid_lots.tolist(), touch.ask.tolist(), touch.ask_lots.tolist(), strict=True)
    base, step = events.base_ticks, events.step_ticks
    ticks = [
        (base + step * bid if bid_lots else 0, bid_lots, base + step * ask if ask_lots else 0, ask_lots)
        for bid, bid_lots, ask, ask_lots in said
    ]
    assert ticks == expected


@pytest.mark.parametrize("name", ["spot-btc_usdt", "spot-eth_usdt", "perp-btc_usdt"])
def test_a_recorded_book_never_crosses_and_says_what_a_plain_book_says(name: str) -> None:
    found = sorted(RECORDINGS.glob(f"{name}*.jsonl.gz"))
    if not found:
        pytest.skip("no recordings beside the project")
    source = open_recording(found[0])
    events = read_events(source, source.instruments[0].symbol)
    touch = touch_of(events)
    columns = (events.kind.tolist(), events.price.tolist(), events.lots.tolist())
    plain = _plain_touch(zip(*(column[:60_000] for column in columns), strict=True))
    assert np.all(touch.bid < touch.ask)
    assert list(zip(touch.bid.tolist(), touch.ask.tolist(), strict=True))[: len(plain)] == plain


def _plain_touch(rows: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    best: list[tuple[int, int]] = []
    bid, ask = -1, 0
    for what, at, now in rows:
        if what & 7 == 4:
            sides[0].clear()
            sides[1].clear()
        elif what & 7 < 2:
            side = sides[what & 7]
            if now:
                side[at] = now
            else:
                side.pop(at, None)
        if what & 8:
            if what & 7 not in (2, 3):
                bid, ask = max(sides[0]), min(sides[1])
            best.append((bid, ask))
    return best


def test_levels_that_nobody_can_reach_are_left_out_and_counted() -> None:
    rows = [
        (START_NS, 4, 0, 0),
        (START_NS, 0, 1, 5),
        (START_NS, 0, 10_000_000, 7),
        (START_NS, 1, 10_000_001, 7),
        (START_NS, 1 | 8, 90_000_000, 3),
        (START_NS, 2 | 8, 10_000_001, 1),
    ]
    events = make_events(BTC, rows, "test")
    assert events.left_out == 2
    touch = touch_of(events)
    assert (touch.bid_lots.tolist(), touch.ask_lots.tolist()) == ([7, 7], [7, 7])


def test_trades_that_span_too_much_are_refused() -> None:
    rows = [(START_NS, 4 | 8, 0, 0), (START_NS, 2 | 8, 1, 1), (START_NS, 2 | 8, 1 + WIDTH_MAX, 1)]
    with pytest.raises(RecordingError, match=f"span {WIDTH_MAX} ticks, at most {WIDTH_MAX}"):
        make_events(BTC, rows, "test")


def test_a_market_without_events_is_refused() -> None:
    with pytest.raises(RecordingError, match="nothing happens on BTC_USDT"):
        make_events(BTC, [], "test")
