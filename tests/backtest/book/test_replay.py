"""Strategies on the book: late news, late orders, exact money."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.base import Outcome
from bot.backtest.book.events import ASK, BID, CLEAR, IS_LAST, SOLD, BookEvents, make_events
from bot.backtest.book.replay import BookStrategy, BookTerms, BookView, Latency, Quotes, play_book
from bot.backtest.book.strategies import Imbalance, ImbalanceSettings, Quoter, QuoterSettings, compiled_quoter
from bot.core.instrument import ATOMS
from tests.backtest.book.markets import BTC, MS_NS, START_NS, RandomBook, Row

QUOTER = QuoterSettings(half_spread_ticks=0, lots=5, position_lots_max=20, skew_ticks=2)
STRATEGIES: dict[str, type] = {"quoter": Quoter, "imbalance": Imbalance}


def strategy(name: str) -> BookStrategy:
    return Quoter(QUOTER) if name == "quoter" else Imbalance(ImbalanceSettings(lots=7, ratio=0.6))


def random_rows(seed: int, count: int = 200) -> list[Row]:
    return [row for message in RandomBook(seed).messages(count) for row in message]


def terms(**changes: object) -> BookTerms:
    values: dict[str, object] = {"cash_atoms": 1_000 * ATOMS, "maker_fee_ppm": 100, "taker_fee_ppm": 500, **changes}
    return BookTerms(**values)  # pyright: ignore[reportArgumentType] (fields by name)


def late(ms: int) -> Latency:
    return Latency(median_ns=ms * MS_NS, p99_ns=3 * ms * MS_NS)


def test_every_strategy_trades_on_a_random_book() -> None:
    events = make_events(BTC, random_rows(3, 2_000), "test")
    for name in STRATEGIES:
        assert len(play_book(events, strategy(name), terms()).fills.step) > 20


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)))
def test_equity_is_cash_and_what_is_held_at_the_middle(seed: int, name: str) -> None:
    events = make_events(BTC, random_rows(seed), "test")
    out = play_book(events, strategy(name), terms(feed=late(5), entry=late(20), response=late(30)))
    fills = out.fills
    flow = -np.sum(fills.price * fills.lots) / 1e8 - np.sum(fills.fee)
    last = out.equity[-1] - out.cash - flow
    assert sum(fills.lots.tolist()) == out.final_lots[0]
    assert abs(last) == pytest.approx(out.exposure[-1], abs=1e-9)
    rates = np.where(fills.is_maker == 1, 100, 500) / 1e6
    assert fills.fee == pytest.approx(np.abs(fills.price * fills.lots) / 1e8 * rates, rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_a_compiled_strategy_trades_as_the_same_one_in_python(seed: int, power: int) -> None:
    events = make_events(BTC, random_rows(seed, 600), "test")
    own = terms(feed=late(5), entry=late(20), response=late(30), queue_power=power)
    plain, compiled = (play_book(events, made, own) for made in (Quoter(QUOTER), compiled_quoter(QUOTER)))
    assert plain.equity.tolist() == compiled.equity.tolist()
    assert [column.tolist() for column in plain.fills] == [column.tolist() for column in compiled.fills]
    assert plain.denied == compiled.denied


def test_a_run_in_pieces_is_the_run_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    events = make_events(BTC, random_rows(3, 2_000), "test")
    whole = play_book(events, compiled_quoter(QUOTER), terms(interval_ns=MS_NS))
    heard: list[tuple[int, int]] = []
    monkeypatch.setattr("bot.backtest.book.replay.TABLE", 1_024)  # room for one log: the tables grow on the way
    made = compiled_quoter(QUOTER)
    pieces = play_book(events, made, terms(interval_ns=MS_NS), on_progress=lambda done, of: heard.append((done, of)))
    assert whole.equity.tolist() == pieces.equity.tolist()
    assert len(heard) > 5
    assert heard[-1][0] == heard[-1][1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(sorted(STRATEGIES)))
def test_what_comes_later_changes_nothing_before(seed: int, name: str) -> None:
    rows = random_rows(seed)
    cut = len(rows) // 2
    while not rows[cut - 1][1] & IS_LAST:
        cut += 1
    other = [(ts_ns, kind, price, lots + 3 if lots else 0) for ts_ns, kind, price, lots in rows[cut:]]
    late_terms = terms(feed=late(5), entry=late(20), response=late(30))
    first, second = (_played(made, name, late_terms) for made in (rows, rows[:cut] + other))
    known = (rows[cut][0] - rows[0][0] - 1) // late_terms.interval_ns  # steps that end before it
    assert first.equity[:known].tolist() == second.equity[:known].tolist()


def _played(rows: list[Row], name: str, own: BookTerms) -> Outcome:
    return play_book(make_events(BTC, rows, "test"), strategy(name), own)


class Once:
    """Asks for one quote at its first look and remembers what it saw."""

    def __init__(self, wish: Quotes) -> None:
        self._wish: Quotes | None = wish
        self.views: list[BookView] = []

    def on_book(self, view: BookView) -> Quotes | None:
        self.views.append(view)
        wish, self._wish = self._wish, None
        return wish


def book_events(*later: Row) -> BookEvents:
    opening = [(START_NS, CLEAR, 0, 0), (START_NS, BID, 99, 100), (START_NS, ASK | IS_LAST, 101, 50)]
    end = (START_NS + 3_000 * MS_NS, SOLD | IS_LAST, 90, 1)
    return make_events(BTC, [*opening, *later, end], "test")


def test_an_order_meets_the_book_of_its_arrival() -> None:
    # Decided at 100 ms, on its way for 70 ms: the better offer is gone by then.
    gone = [(START_NS + 150 * MS_NS, ASK, 101, 0), (START_NS + 150 * MS_NS, ASK | IS_LAST, 105, 9)]
    far = Latency(median_ns=40 * MS_NS, p99_ns=0)
    own = terms(feed=Latency(median_ns=30 * MS_NS, p99_ns=0), entry=far)
    out = play_book(book_events(*gone), Once(Quotes(market_lots=4)), own)
    assert (out.fills.price.tolist(), out.fills.lots.tolist()) == ([105], [4])
    quick = play_book(book_events(*gone), Once(Quotes(market_lots=4)), terms(entry=far))
    assert quick.fills.price.tolist() == [101]


def test_a_fill_is_heard_when_its_response_has_travelled() -> None:
    watcher = Once(Quotes(market_lots=4))
    play_book(book_events(), watcher, terms(response=Latency(median_ns=250 * MS_NS, p99_ns=0)))
    seen = [(view.position_lots, view.pending_lots) for view in watcher.views[:5]]
    assert seen == [(0, 0), (0, 4), (0, 4), (4, 0), (4, 0)]


def test_an_order_that_is_more_than_all_that_stands_there_is_cut() -> None:
    out = play_book(book_events(), Once(Quotes(market_lots=80)), terms())
    assert out.final_lots == (50,)


def test_a_quote_that_would_take_is_refused_and_counted() -> None:
    out = play_book(book_events(), Once(Quotes(bid_ticks=101, bid_lots=4)), terms())
    assert (len(out.fills.step), dict(out.denied)) == (0, {"REFUSED_BY_EXCHANGE": 1})


def test_the_same_seed_gives_the_same_run_and_another_one_other_latencies() -> None:
    rows = random_rows(5, 2_000)
    own = {"feed": late(20), "entry": late(60), "response": late(60)}
    first, again, other = (_played(rows, "quoter", terms(seed=seed, **own)) for seed in (1, 1, 2))
    assert first.equity.tolist() == again.equity.tolist()
    assert first.equity.tolist() != other.equity.tolist()


def test_interpreted_kernels_say_what_compiled_ones_say() -> None:
    code = (
        "from tests.backtest.book.test_replay import _played, random_rows, terms\n"
        "for name in ('quoter', 'imbalance'):\n"
        "    out = _played(random_rows(11), name, terms(queue_power=3))\n"
        "    print(out.equity.tolist(), out.fills.price.tolist(), out.fills.lots.tolist())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": flag}, capture_output=True, check=True
        ).stdout
        for flag in ("0", "1")
    ]
    assert said[0] == said[1]
    assert b"5000" in said[0]
