"""Bars out of trades, and the exchange's candles let out once, in order, when they are over."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bot.core.bars import GRACE_NS, BarBuilder, CandleFollower
from bot.core.messages import SECOND_NS, Bar
from tests.support.builders import BTC, trade

LENGTH_NS = 5 * SECOND_NS
MINUTE_NS = 60 * SECOND_NS


def at(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def candle(minute: int, close: int = 100, *, at_s: float | None = None) -> Bar:
    start_ns = minute * MINUTE_NS
    return Bar(
        ts_ns=at(at_s) if at_s is not None else start_ns + SECOND_NS,
        symbol=BTC,
        timeframe_ns=MINUTE_NS,
        start_ns=start_ns,
        open_ticks=100,
        high_ticks=max(100, close),
        low_ticks=min(100, close),
        close_ticks=close,
        volume_lots=1,
    )


def starts(bars: Iterable[Bar | None]) -> list[int]:
    return [bar.start_ns // MINUTE_NS for bar in bars if bar is not None]


def test_a_bar_holds_the_trades_of_its_bucket() -> None:
    builder = BarBuilder(BTC, LENGTH_NS)
    for price, seconds in [(100, 10), (103, 11), (98, 12), (101, 14.9)]:
        assert builder.add(trade(price, 2, at_ns=at(seconds))) is None
    bar = builder.close_until(at(15))
    assert bar == Bar(
        ts_ns=at(15),
        symbol=BTC,
        timeframe_ns=LENGTH_NS,
        start_ns=at(10),
        open_ticks=100,
        high_ticks=103,
        low_ticks=98,
        close_ticks=101,
        volume_lots=8,
    )
    assert builder.close_until(at(20)) is None


def test_a_later_trade_ends_the_bar_before_it() -> None:
    builder = BarBuilder(BTC, LENGTH_NS)
    builder.add(trade(100, 1, at_ns=at(10)))
    bar = builder.add(trade(200, 1, at_ns=at(27)))
    assert bar is not None
    assert (bar.start_ns, bar.close_ticks, bar.ts_ns) == (at(10), 100, at(27))


def test_a_bucket_without_a_trade_makes_no_bar() -> None:
    builder = BarBuilder(BTC, LENGTH_NS)
    assert builder.close_until(at(100)) is None


def test_a_bar_that_misses_trades_is_dropped_and_the_first_after_the_loss_with_it() -> None:
    builder = BarBuilder(BTC, LENGTH_NS)
    builder.add(trade(100, 1, at_ns=at(10)))
    builder.lose()
    assert builder.add(trade(101, 1, at_ns=at(23))) is None
    assert builder.add(trade(102, 1, at_ns=at(26))) is None
    bar = builder.close_until(at(30))
    assert bar is not None
    assert (bar.start_ns, bar.open_ticks) == (at(25), 102)


trades = st.lists(st.tuples(st.integers(0, 4 * SECOND_NS), st.integers(1, 500), st.integers(1, 50)), max_size=60)


@given(trades, st.booleans())
def test_bars_equal_a_naive_model(steps: list[tuple[int, int, int]], is_ticked: bool) -> None:
    builder, now_ns = BarBuilder(BTC, LENGTH_NS), 0
    bars: list[Bar | None] = []
    buckets: dict[int, list[tuple[int, int]]] = {}
    for wait_ns, price, lots in steps:
        now_ns += wait_ns
        if is_ticked:
            bars.append(builder.close_until(now_ns))
        bars.append(builder.add(trade(price, lots, at_ns=now_ns)))
        buckets.setdefault(now_ns // LENGTH_NS * LENGTH_NS, []).append((price, lots))
    bars.append(builder.close_until(now_ns + LENGTH_NS))
    assert [
        (bar.start_ns, bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks, bar.volume_lots)
        for bar in bars
        if bar is not None
    ] == [
        (start, made[0][0], max(made)[0], min(made)[0], made[-1][0], sum(lots for _, lots in made))
        for start, made in buckets.items()
    ]


def test_a_candle_is_over_when_the_next_one_starts() -> None:
    follower = CandleFollower()
    assert follower.update(candle(1, 100)) is None
    assert follower.update(candle(1, 105)) is None
    done = follower.update(candle(2, at_s=121))
    assert done == msgspec.structs.replace(candle(1, 105), ts_ns=at(121))
    assert follower.done_ns == MINUTE_NS


def test_a_candle_is_over_when_time_has_passed_its_end_and_a_grace() -> None:
    follower = CandleFollower()
    follower.update(candle(1))
    assert follower.close_until(2 * MINUTE_NS + GRACE_NS - 1) is None
    assert starts([follower.close_until(2 * MINUTE_NS + GRACE_NS)]) == [1]


def test_a_late_revision_rewrites_nothing() -> None:
    follower = CandleFollower()
    follower.update(candle(1))
    follower.close_until(3 * MINUTE_NS)
    assert follower.update(candle(1, 200)) is None
    assert follower.close_until(9 * MINUTE_NS) is None


def test_a_candle_older_than_the_running_one_is_left_out() -> None:
    follower = CandleFollower()
    follower.update(candle(5))
    assert follower.update(candle(4)) is None
    assert starts([follower.close_until(9 * MINUTE_NS)]) == [5]


def test_repair_lets_out_what_is_over_and_new() -> None:
    follower = CandleFollower()
    follower.update(candle(1))
    follower.close_until(3 * MINUTE_NS)
    answer = [candle(minute, at_s=5 * 60 + 1) for minute in (1, 2, 3, 4)]
    assert starts(follower.restore(answer)) == [2, 3]  # 4 is within its grace
    assert follower.restore(answer) == []


def test_repair_replaces_a_running_candle_that_it_knows_better() -> None:
    follower = CandleFollower()
    follower.update(candle(1, 100))
    (bar,) = follower.restore([candle(1, 107, at_s=150)])
    assert bar.close_ticks == 107
    assert follower.close_until(9 * MINUTE_NS) is None


def test_a_candle_whose_last_change_may_be_missing_is_left_to_repair() -> None:
    follower = CandleFollower()
    follower.update(candle(1, 100))
    follower.lose()
    assert follower.close_until(9 * MINUTE_NS) is None
    assert starts(follower.restore([candle(1, 107, at_s=150)])) == [1]


@given(st.lists(st.tuples(st.sampled_from(["update", "close", "restore", "lose"]), st.integers(1, 12)), max_size=40))
def test_each_candle_is_let_out_at_most_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    follower, out = CandleFollower(), list[Bar | None]()
    for verb, minute in steps:
        if verb == "update":
            out.append(follower.update(candle(minute)))
        elif verb == "close":
            out.append(follower.close_until(minute * MINUTE_NS))
        elif verb == "lose":
            follower.lose()
        else:
            out.extend(follower.restore([candle(m, at_s=60 * minute) for m in range(max(1, minute - 3), minute + 1)]))
    assert starts(out) == sorted(set(starts(out)))
