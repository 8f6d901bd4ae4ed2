from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketEvent
from bot.exchange.simulated.venue import CHANNELS, Topic, plain
from tests.exchange.simulated.builders import (
    BTC,
    START_NS,
    Json,
    change,
    parsed,
    published,
    row,
    snapshot,
    trade,
    venue,
)

LV2: Topic = ("book_lv2", BTC)
TRADES: Topic = ("trades", BTC)
MINUTE: Topic = ("candles_minute_1", BTC)
TICKER: Topic = ("ticker", BTC)


def test_a_trade_is_written_as_the_exchange_writes_it() -> None:
    (frame,) = venue().apply(trade(6_000_001, qty_lots=15_000), {TRADES})
    assert frame.payload == (
        b'{"channel":"trades","data":[{"symbol":"BTC_USDT","amount":"90000.015","takerSide":"buy","quantity":"1.5",'
        b'"createTime":1700000000000,"price":"60000.01","id":"7","ts":1700000000000}]}'
    )


def test_a_book_change_is_written_as_the_exchange_writes_it() -> None:
    (frame,) = venue().apply(change(bids=[(100, 0), (99, 5_000)]), {LV2})
    assert frame.payload == (
        b'{"channel":"book_lv2","data":[{"symbol":"BTC_USDT","createTime":1700000000000,"asks":[],'
        b'"bids":[["1","0"],["0.99","0.5"]],"lastId":1,"id":2,"ts":1700000000000}],"action":"update"}'
    )


def test_a_new_subscriber_gets_the_book_as_a_snapshot() -> None:
    (frame,) = venue().opening(*LV2)
    assert parsed(frame)["action"] == "snapshot"
    assert row(parsed(frame))["bids"] == [["1", "0.0001"]]
    assert row(parsed(frame))["lastId"] < row(parsed(frame))["id"]


def test_nothing_opens_trades_candles_and_tickers() -> None:
    assert [venue().opening(*topic) for topic in (TRADES, MINUTE, TICKER)] == [[], [], []]


def test_a_book_that_is_not_known_yet_opens_with_nothing() -> None:
    assert venue(book=False).opening(*LV2) == []


def test_a_level_that_leaves_the_window_is_sent_as_removed() -> None:
    made = venue()
    made.apply(snapshot(bids=[(100 - at, 1) for at in range(20)]), ())
    (frame,) = published(made, [change(bids=[(101, 3)])], LV2)
    assert row(frame)["bids"] == [["0.81", "0"], ["1.01", "0.0003"]]


def test_a_level_that_enters_the_window_is_sent_as_new() -> None:
    made = venue()
    made.apply(snapshot(bids=[(100 - at, 1) for at in range(21)]), ())
    (frame,) = published(made, [change(bids=[(100, 0)])], LV2)
    assert row(frame)["bids"] == [["1", "0"], ["0.8", "0.0001"]]


def test_a_change_behind_the_window_is_not_sent() -> None:
    made = venue()
    made.apply(snapshot(bids=[(100 - at, 1) for at in range(21)]), ())
    assert published(made, [change(bids=[(80, 9), (79, 9)]), change(bids=[(98, 1)])], LV2, ("book_20", BTC)) == []


def test_a_snapshot_in_the_middle_replaces_the_book_of_subscribers() -> None:
    (frame,) = published(venue(), [snapshot(bids=[(90, 1)])], LV2)
    assert (frame["action"], row(frame)["bids"], row(frame)["id"]) == ("snapshot", [["0.9", "0.0001"]], 2)


def test_the_book_channel_sends_its_depth_whole_and_only_when_that_changed() -> None:
    made = venue()
    made.apply(snapshot(bids=[(100 - at, 1) for at in range(8)]), ())
    five = ("book_5", BTC)
    assert published(made, [change(bids=[(94, 2)])], five) == []
    (frame,) = published(made, [change(bids=[(96, 2)])], five)
    assert frame["channel"] == "book"
    assert [price for price, _ in row(frame)["bids"]] == ["1", "0.99", "0.98", "0.97", "0.96"]
    assert "action" not in frame


def test_candles_are_pushed_at_most_once_a_second() -> None:
    trades = [trade(100 + at, at_s=at * 0.3) for at in range(10)]
    frames = published(venue(), trades, MINUTE)
    assert [row(frame)["ts"] - START_NS // 10**6 for frame in frames] == [0, 1200, 2400]


def test_a_held_back_candle_is_pushed_by_the_first_event_a_second_later() -> None:
    events = [trade(100), trade(105, at_s=0.5), change(at_s=0.9), change(at_s=1.0)]
    frames = published(venue(), events, MINUTE)
    assert [(row(frame)["close"], row(frame)["tradeCount"]) for frame in frames] == [("1", 1), ("1.05", 2)]


def test_the_last_state_of_a_candle_is_pushed_before_the_next_candle() -> None:
    # 1,700,000,000 s is 20 s into its minute.
    events = [trade(100, at_s=39.2), trade(105, at_s=39.9), trade(110, at_s=40.0), trade(120, at_s=40.5)]
    frames = published(venue(), events, MINUTE)
    seen = [(row(frame)["startTime"] - START_NS // 10**6, row(frame)["close"]) for frame in frames]
    assert seen == [(-20_000, "1"), (-20_000, "1.05"), (40_000, "1.2")]


def test_every_interval_begins_where_the_calendar_says() -> None:
    channels = {channel for channel in CHANNELS if channel.startswith("candles_")}
    frames = published(venue(), [trade()], *((channel, BTC) for channel in channels))
    starts = {frame["channel"]: row(frame)["startTime"] // 1000 for frame in frames}
    assert len(starts) == 14
    assert starts["candles_week_1"] == 1_699_833_600  # Monday 2023-11-13
    assert starts["candles_month_1"] == 1_698_796_800  # 2023-11-01
    assert starts["candles_hour_12"] == 1_699_963_200
    ends = {frame["channel"]: row(frame)["closeTime"] for frame in frames}
    assert ends["candles_month_1"] == 1_701_388_800_000 - 1  # 2023-12-01


def test_the_ticker_is_the_last_24_hours() -> None:
    day_s = 24 * 3600
    events = [trade(500), trade(100, at_s=3_600), trade(90, at_s=day_s), trade(110, at_s=day_s + 3_000)]
    ticker = row(published(venue(), events, TICKER)[-1])
    assert (ticker["open"], ticker["high"], ticker["low"], ticker["close"]) == ("1", "1.1", "0.9", "1.1")
    assert (ticker["tradeCount"], ticker["quantity"], ticker["amount"]) == (3, "3", "3")
    assert (ticker["dailyChange"], ticker["markPrice"]) == ("0.1", "1.01")


def test_what_is_pushed_does_not_depend_on_who_listens() -> None:
    events = [trade(100 + at, at_s=at * 0.3) for at in range(9)]
    alone = published(venue(), events, MINUTE)
    together = published(venue(), events, MINUTE, TRADES, TICKER, LV2)
    assert [frame for frame in together if frame["channel"] == "candles_minute_1"] == alone


def test_numbers_are_plain_and_without_zeros_at_the_end() -> None:
    cases = [(0, 2), (1, 8), (10, 1), (120, 2), (-5, 1), (7, 0)]
    assert [plain(*case) for case in cases] == ["0", "0.00000001", "1", "1.2", "-0.5", "7"]


levels = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), max_size=40).map(tuple)
full = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 3)), min_size=1, max_size=60).map(tuple)
events_of_a_book = st.lists(
    st.one_of(
        st.builds(BookChange, st.just(START_NS), st.just(BTC), levels, levels),
        st.builds(BookSnapshot, st.just(START_NS), st.just(BTC), full, full),
    ),
    max_size=12,
)


@given(events_of_a_book)
def test_the_window_rebuilt_from_frames_is_the_true_top_20(events: list[MarketEvent]) -> None:
    made = venue()
    bids, asks = {"1": "0.0001"}, {"1.02": "0.0001"}
    true_bids, true_asks = {100: 1}, {102: 1}
    last_id = row(parsed(made.opening(*LV2)[0]))["id"]
    for event in events:
        assert isinstance(event, BookChange | BookSnapshot)
        for side, news in ((true_bids, event.bids), (true_asks, event.asks)):
            if isinstance(event, BookSnapshot):
                side.clear()
            side.update(news)
            for price in [price for price, lots in side.items() if not lots]:
                del side[price]
        for frame in published(made, [event], LV2):
            last_id = _follow(frame, bids, asks, last_id)
        assert bids == _top(sorted(true_bids.items(), reverse=True))
        assert asks == _top(sorted(true_asks.items()))


def _follow(frame: Json, bids: dict[str, str], asks: dict[str, str], last_id: int) -> int:
    data = row(frame)
    assert data["lastId"] == last_id
    for side, news in ((bids, data["bids"]), (asks, data["asks"])):
        if frame["action"] == "snapshot":
            side.clear()
        for price, quantity in msgspec.convert(news, list[tuple[str, str]]):
            if quantity == "0":
                del side[price]
            else:
                side[price] = quantity
        assert len(side) <= 20
    return data["id"]


def _top(levels: list[tuple[int, int]]) -> dict[str, str]:
    return {plain(price, 2): plain(lots, 4) for price, lots in levels[:20]}
