"""Level-2 replay: the book alone, and a market maker with queue position and latencies; beside hftbacktest."""

from __future__ import annotations

import importlib
import random
import statistics
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from bot.backtest.book.events import ASK, BID, BOUGHT, CLEAR, IS_LAST, SOLD, BookEvents, make_events
from bot.backtest.book.ladder import BEST_ASK, BEST_BID, make_ladder, replay_touch, touch_of
from bot.backtest.book.replay import BookTerms, Latency, play_book
from bot.backtest.book.strategies import QuoterSettings, compiled_quoter
from bot.core.instrument import ATOMS, Instrument
from bot.strategies.advice import Ints
from tests.bench.measure import Figure, spent

MESSAGES = 200_000
STEP_NS = 6_000_000
"""Between two messages; with eight levels in one, as dense as a recorded BTC perpetual."""
INTERVAL_NS = 100_000_000
RUNS = 5
PEER_RUNS = 3
MAKER = QuoterSettings(half_spread_ticks=1, lots=10, position_lots_max=200, skew_ticks=0)
INSTRUMENT = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=1,
    quantity_scale=3,
    qty_lots_min=1,
    notional_atoms_min=0,
)


@cache
def market() -> BookEvents:
    """Return a made-up market: 200,000 messages of eight levels or one trade, around a wandering middle."""
    rng = random.Random(1)
    mid, now_ns = 600_000, 1_700_000_000 * 10**9
    bids = {mid - 1 - k for k in range(40)}
    asks = {mid + 1 + k for k in range(40)}
    rows = [(now_ns, CLEAR, 0, 0)]
    rows += [(now_ns, BID, price, 20) for price in sorted(bids)] + [(now_ns, ASK, price, 20) for price in sorted(asks)]
    rows[-1] = now_ns, ASK | IS_LAST, rows[-1][2], 20
    for _ in range(MESSAGES):
        now_ns += STEP_NS
        if rng.random() < 0.3:
            buys = rng.random() < 0.5
            kind, price = (BOUGHT, min(asks)) if buys else (SOLD, max(bids))
            rows.append((now_ns, kind | IS_LAST, price, rng.randrange(1, 60)))
            continue
        mid += rng.choice((-2, -1, -1, 0, 0, 0, 0, 1, 1, 2))
        changed = [(now_ns, BID, price, 0) for price in [price for price in bids if price >= mid]]
        changed += [(now_ns, ASK, price, 0) for price in [price for price in asks if price <= mid]]
        while len(changed) < 8:
            distance, lots = rng.randrange(1, 40), rng.randrange(1, 80)
            is_bid = rng.random() < 0.5
            price = mid - distance if is_bid else mid + distance
            changed.append((now_ns, BID if is_bid else ASK, price, lots))
        for _, kind, price, lots in changed:
            side = bids if kind == BID else asks
            (side.add if lots else side.discard)(price)
        if not bids or not asks:
            raise AssertionError("a side of the made-up market is empty")
        ts_ns, kind, price, lots = changed[-1]
        changed[-1] = ts_ns, kind | IS_LAST, price, lots
        rows += changed
    return make_events(INSTRUMENT, rows, "benchmark")


def book(*, peers: bool = False) -> Figure:
    """Level-2 updates a second, the book alone, with the best prices after each message."""
    events = market()
    touch, ladder = touch_of(events), make_ladder(events.width)

    def replay() -> int:
        return replay_touch(events.ts_ns, events.kind, events.price, events.lots, ladder, touch)

    peer = _peer() if peers else None
    ours, theirs, cpu_s, wall_s = _by_turns(replay, None if peer is None else lambda: peer.book_only(events))
    assert ladder.best[BEST_BID] < ladder.best[BEST_ASK]
    if peer is not None:
        mids = peer.mids(events, INTERVAL_NS)[:-1]  # its last interval is cut short
        until_ns: Ints = events.ts_ns[0] + INTERVAL_NS * np.arange(1, len(mids) + 1)
        at: Ints = touch.ts_ns.searchsorted(until_ns, side="right") - 1
        own = (2 * events.base_ticks + touch.bid[at] + touch.ask[at]) / 2
        assert np.allclose(own, mids), "the books differ"
    rows = len(events.kind)
    return Figure(
        name="book",
        value=rows / statistics.median(ours) / 1e6,
        unit="M/s",
        cpu_s=cpu_s,
        wall_s=wall_s,
        peers={"hftbacktest": rows / statistics.median(theirs) / 1e6} if theirs else {},
    )


def queue(*, peers: bool = False) -> Figure:
    """Level-2 updates a second with a market maker: queue position, three latencies, a decision each 100 ms."""
    events = market()
    late = Latency(median_ns=20_000_000, p99_ns=0)
    terms = BookTerms(cash_atoms=10**6 * ATOMS, feed=late, entry=late, response=late, interval_ns=INTERVAL_NS)
    fills: list[int] = []

    def replay() -> None:
        fills.append(len(play_book(events, compiled_quoter(MAKER), terms).fills.step))

    peer = _peer() if peers else None
    ours, theirs, cpu_s, wall_s = _by_turns(replay, None if peer is None else lambda: peer.maker(events, INTERVAL_NS))
    assert fills[0] > 1_000
    assert len(set(fills)) == 1, f"runs differ: {fills}"
    rows = len(events.kind)
    return Figure(
        name="queue",
        value=rows / statistics.median(ours) / 1e6,
        unit="M/s",
        cpu_s=cpu_s,
        wall_s=wall_s,
        peers={"hftbacktest": rows / statistics.median(theirs) / 1e6} if theirs else {},
        details={"fills": fills[0]},
    )


def _peer() -> ModuleType | None:
    return importlib.import_module("tests.bench.peer_hftbacktest") if find_spec("hftbacktest") else None


def _by_turns(
    own: Callable[[], object], other: Callable[[], object] | None
) -> tuple[list[float], list[float], float, float]:
    """Return the wall seconds of our runs and of theirs, by turns after one of each to warm up."""
    own()
    if other is not None:
        other()
    ours: list[float] = []
    theirs: list[float] = []
    cpu_total_s = wall_total_s = 0.0
    for number in range(RUNS):
        _, cpu_s, wall_s = spent(own)
        ours.append(wall_s)
        cpu_total_s, wall_total_s = cpu_total_s + cpu_s, wall_total_s + wall_s
        if other is not None and number < PEER_RUNS:
            theirs.append(spent(other)[2])
    return ours, theirs, cpu_total_s, wall_total_s
