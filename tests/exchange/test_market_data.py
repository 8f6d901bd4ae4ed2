"""The feed's machine: no price out of a book that may be wrong, no bar twice, no trade twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
import pytest

from bot.core import messages as m
from bot.core.bars import GRACE_NS
from bot.core.book import DEPTH_MAX
from bot.core.instrument import Side
from bot.core.messages import SECOND_NS
from bot.errors import BadReply
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import MS_NS, Candle
from bot.exchange.poloniex.market_data import TICK_NS, TRADE_IDS_KEPT, MarketData, sent_ns
from tests.support.builders import BTC, ETH, all_of, instrument, only

MINUTE_NS = 60 * SECOND_NS
START_MS = 1_700_000_040_000
"""The start of a minute."""
NOW_NS = START_MS * MS_NS
Texts = Iterable[tuple[str, str]]


def market_data(*timeframes_ns: int, **steps: Any) -> MarketData:
    """Return the machine for BTC, with one decimal in prices and in quantities."""
    steps = {"price_scale": 1, "quantity_scale": 1} | steps
    return MarketData([instrument(**steps)], {BTC: timeframes_ns})


def book(
    book_id: int,
    bids: Texts = (("99", "1"),),
    asks: Texts = (("101", "1"),),
    *,
    last_id: int | None = None,
    action: Literal["snapshot", "update"] = "update",
    symbol: str = BTC,
) -> wire.BookFrame:
    last_id = book_id - 1 if last_id is None else last_id
    row = wire.BookRow(symbol=symbol, bids=list(bids), asks=list(asks), id=book_id, last_id=last_id, ts_ms=START_MS)
    return wire.BookFrame(action=action, data=[row])


def snapshot(book_id: int = 10, bids: Texts = (("99", "1"),), asks: Texts = (("101", "1"),)) -> wire.BookFrame:
    return book(book_id, bids, asks, action="snapshot")


def trades(
    *ids: int | str, price: str = "100", quantity: str = "2", side: Literal["buy", "SELL"] = "buy"
) -> wire.Frame:
    rows = [
        wire.TradeRow(
            symbol=BTC,
            id=trade_id,
            price=price,
            quantity=quantity,
            taker_side=side,
            created_ms=START_MS,
            ts_ms=START_MS,
        )
        for trade_id in ids
    ]
    return wire.TradesFrame(data=rows)


def ticker(mark_price: str | None) -> wire.TickerFrame:
    row = wire.TickerRow(
        symbol=BTC,
        open="1",
        high="1",
        low="1",
        close="1",
        quantity="1",
        amount="1",
        mark_price=mark_price,
        ts_ms=START_MS,
    )
    return wire.TickerFrame(data=[row])


def candles(minute: int, *, symbol: str = BTC, timeframe_ns: int = MINUTE_NS, **prices: str) -> wire.CandlesFrame:
    said = {"open": "100", "high": "100", "low": "100", "close": "100", "quantity": "5", "amount": "1"} | prices
    row = wire.CandleRow(
        symbol=symbol,
        start_ms=START_MS + minute * 60_000,
        close_ms=START_MS + minute * 60_000 + 59_999,
        ts_ms=START_MS,
        **said,
    )
    return wire.CandlesFrame(timeframe_ns=timeframe_ns, data=[row])


def rest_candles(*minutes: int) -> list[Candle]:
    return [
        Candle(
            start_ns=NOW_NS + minute * MINUTE_NS,
            open_ticks=1_000,
            high_ticks=1_000,
            low_ticks=1_000,
            close_ticks=1_000,
            volume_lots=1,
        )
        for minute in minutes
    ]


def hear(data: MarketData, *frames: wire.Frame, at_ns: int = NOW_NS) -> list[m.AnyMessage]:
    return [message for frame in frames for message in data.handle(frame, at_ns)]


def best(outputs: list[m.AnyMessage]) -> list[tuple[int, int]]:
    return [(quote.bid_ticks, quote.ask_ticks) for quote in all_of(outputs, m.Quote)]


def lost(outputs: list[m.AnyMessage]) -> list[str]:
    return [loss.reason for loss in all_of(outputs, m.BookLost)]


def minutes(outputs: Iterable[m.AnyMessage]) -> list[tuple[int, bool]]:
    """Return which minute each bar is, and whether it is history."""
    return [((bar.start_ns - NOW_NS) // MINUTE_NS, bar.is_history) for bar in all_of(outputs, m.Bar)]


# --- books


def test_a_snapshot_and_its_updates_are_said_as_depth_and_quote() -> None:
    data = market_data()
    said = hear(data, snapshot(), book(11, [("99.5", "3")], []))
    assert best(said) == [(990, 1010), (995, 1010)]
    assert all_of(said, m.Depth)[-1] == m.Depth(
        ts_ns=NOW_NS, symbol=BTC, bids=((995, 30), (990, 10)), asks=((1010, 10),)
    )
    assert all_of(said, m.Quote)[-1].bid_lots == 30


def test_of_several_changes_taken_together_only_the_last_book_is_said_and_every_trade() -> None:
    data = market_data()
    said: list[m.AnyMessage] = []
    for frame in (snapshot(), trades(1), book(11, [("99.5", "3")], []), trades(2), book(12, [("99.6", "1")], [])):
        said += data.take(frame, NOW_NS)
    assert [trade.trade_id for trade in said if isinstance(trade, m.TradeTick)] == ["1", "2"]
    assert best(said) == []
    assert best(data.books(NOW_NS)) == [(996, 1010)]
    assert data.books(NOW_NS) == []


def test_a_book_that_was_lost_after_it_changed_is_not_said() -> None:
    data = market_data()
    assert lost([*data.take(snapshot(), NOW_NS), *data.take(book(13, last_id=12), NOW_NS)]) == ["book gap"]
    assert data.books(NOW_NS) == []
    list(data.take(snapshot(20), NOW_NS))
    assert lost(list(data.lose_all(NOW_NS, "disconnected"))) == ["disconnected"]
    assert data.books(NOW_NS) == []


def test_new_steps_of_a_market_count_for_the_prices_that_were_known() -> None:
    data = market_data()
    assert best(hear(data, snapshot())) == [(990, 1010)]
    list(data.list_instruments([instrument(price_scale=2, quantity_scale=1)], NOW_NS))
    assert best(hear(data, snapshot(20))) == [(9900, 10100)]


def test_a_gap_loses_the_book_until_the_next_snapshot() -> None:
    data = market_data()
    said = hear(data, snapshot(), book(12, last_id=11), book(13, last_id=12))
    assert (lost(said), best(said)[1:]) == (["book gap"], [])
    assert (data.broken, data.gaps) == ({BTC}, 1)
    assert best(hear(data, snapshot(20), book(21, [("98", "1")], []))) == [(990, 1010), (990, 1010)]
    assert data.broken == set()


def test_a_repeated_update_says_nothing() -> None:
    data = market_data()
    hear(data, snapshot(), book(11, [("99.5", "1")], []))
    assert hear(data, book(11, [("97", "1")], []), book(10, [], [])) == []
    assert (data.repeated, data.gaps) == (2, 0)


def test_a_crossed_book_is_lost() -> None:
    data = market_data()
    said = hear(data, snapshot(), book(11, [("101", "1")], []))
    assert (lost(said), data.broken) == (["book crossed"], {BTC})


def test_a_crossed_snapshot_is_not_believed() -> None:
    data = market_data()
    assert hear(data, snapshot(10, [("101", "1")])) == []
    assert data.broken == {BTC}


def test_an_update_before_the_snapshot_asks_for_one() -> None:
    data = market_data()
    assert hear(data, book(11)) == []
    assert (data.broken, data.gaps) == ({BTC}, 0)


def test_a_snapshot_in_the_middle_starts_the_chain_again() -> None:
    data = market_data()
    said = hear(data, snapshot(), book(11), snapshot(50, [("90", "1")]), book(51, [("91", "1")], []))
    assert best(said)[-2:] == [(900, 1010), (910, 1010)]
    assert lost(hear(data, book(12))) == []
    assert data.repeated == 1


def test_a_level_of_zero_is_no_level() -> None:
    data = market_data()
    said = hear(data, snapshot(10, [("99", "0"), ("98", "1")]), book(11, [("98", "0"), ("97", "1")], [("50", "0")]))
    assert best(said) == [(980, 1010), (970, 1010)]


def test_a_side_that_is_empty_has_no_price() -> None:
    data = market_data()
    said = hear(data, snapshot(), book(11, [("99", "0")], []))
    assert (lost(said), best(said)[1:]) == (["a side of the book is empty"], [])
    assert data.broken == set()
    assert best(hear(data, book(12, [("98", "1")], []))) == [(980, 1010)]


def test_no_more_than_twenty_levels_are_said() -> None:
    bids = [(f"{99 - i}", "1") for i in range(25)]
    (said,) = all_of(hear(market_data(), snapshot(10, bids)), m.Depth)
    assert len(said.bids) == DEPTH_MAX
    assert said.bids[-1] == (800, 10)


@pytest.mark.parametrize(
    ("levels", "problem"),
    [
        ([("99.55", "1")], "off the grid"),
        ([("99", "0.25")], "off the grid"),
        ([("0", "1")], "a price of 0"),
        ([("-1", "1")], "plain decimal"),
        ([("1e2", "1")], "plain decimal"),
        ([("99", "")], "plain decimal"),
    ],
)
def test_a_level_that_cannot_be_is_a_bad_reply_and_changes_nothing(levels: Texts, problem: str) -> None:
    data = market_data()
    hear(data, snapshot())
    with pytest.raises(BadReply, match=problem):
        hear(data, book(11, levels, []))
    assert best(hear(data, book(11, [("98", "1")], []))) == [(990, 1010)]


def test_books_of_other_markets_are_left_out() -> None:
    data = market_data()
    assert hear(data, book(11, symbol=ETH)) == []
    assert data.broken == set()


def test_one_broken_book_leaves_the_others_whole() -> None:
    data = MarketData([instrument(), instrument(ETH)], {})
    hear(data, book(10, action="snapshot"), book(10, action="snapshot", symbol=ETH))
    said = hear(data, book(15), book(11, [("98", "1")], [], symbol=ETH))
    assert [type(message).__name__ for message in said] == ["BookLost", "Depth", "Quote"]
    assert data.broken == {BTC}


# --- trades


def test_a_trade_is_said_once() -> None:
    data = market_data()
    said = hear(data, trades(1, 2), trades("2", 3))
    assert [trade.trade_id for trade in all_of(said, m.TradeTick)] == ["1", "2", "3"]
    assert data.repeated == 1
    assert all_of(said, m.TradeTick)[0] == m.TradeTick(
        ts_ns=NOW_NS, symbol=BTC, trade_id="1", price_ticks=1_000, qty_lots=20, taker_side=Side.BUY
    )
    assert only(hear(data, trades(4, side="SELL")), m.TradeTick).taker_side is Side.SELL


def test_only_so_many_trades_are_remembered() -> None:
    data = market_data()
    hear(data, trades(*range(TRADE_IDS_KEPT + 1)))
    assert all_of(hear(data, trades(TRADE_IDS_KEPT)), m.TradeTick) == []
    assert len(all_of(hear(data, trades(0)), m.TradeTick)) == 1


def test_an_id_from_outside_is_made_fit_for_a_terminal() -> None:
    assert only(hear(market_data(), trades("\x1b[31m7\n")), m.TradeTick).trade_id == "[31m7"


@pytest.mark.parametrize(("price", "quantity"), [("0", "1"), ("1", "0"), ("100.05", "1"), ("100", "0.15")])
def test_a_trade_that_cannot_be_is_a_bad_reply(price: str, quantity: str) -> None:
    with pytest.raises(BadReply):
        hear(market_data(), trades(1, price=price, quantity=quantity))


def test_trades_make_bars_below_a_minute() -> None:
    data = market_data(5 * SECOND_NS)
    hear(data, trades(1, price="100"), trades(2, price="101"), at_ns=NOW_NS + SECOND_NS)
    (bar,) = all_of(hear(data, trades(3, price="90"), at_ns=NOW_NS + 7 * SECOND_NS), m.Bar)
    assert (bar.start_ns, bar.open_ticks, bar.close_ticks, bar.volume_lots) == (NOW_NS, 1_000, 1_010, 40)
    assert not bar.is_history


# --- mark prices


def test_a_mark_price_is_cut_to_a_tick() -> None:
    assert only(hear(market_data(), ticker("100.19")), m.MarkPrice).price_ticks == 1_001


@pytest.mark.parametrize("text", [None, "", "0", "0.01"])
def test_a_market_may_have_no_mark_price(text: str | None) -> None:
    assert hear(market_data(), ticker(text)) == []


# --- candles


def test_a_candle_is_a_bar_when_the_next_one_starts() -> None:
    data = market_data(MINUTE_NS)
    said = hear(data, candles(0, close="100"), candles(0, high="101.99", close="101.99"), candles(1))
    (bar,) = all_of(said, m.Bar)
    assert (bar.start_ns, bar.close_ticks, bar.volume_lots, bar.is_history) == (NOW_NS, 1_019, 50, False)


def test_a_candle_is_a_bar_when_its_time_and_a_grace_are_over() -> None:
    data = market_data(MINUTE_NS)
    hear(data, candles(0))
    assert minutes(data.on_time(NOW_NS + MINUTE_NS + GRACE_NS - SECOND_NS)) == []
    assert minutes(data.on_time(NOW_NS + MINUTE_NS + GRACE_NS)) == [(0, False)]
    assert hear(data, candles(0, close="100")) == []


@pytest.mark.parametrize(
    "prices",
    [
        {"low": "100.1"},
        {"high": "99.9"},
        {"open": "101"},
        {"close": "99"},
        {"low": "0"},
        {"close": "x"},
        {"quantity": "-1"},
    ],
)
def test_a_candle_that_cannot_be_is_a_bad_reply(prices: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        hear(market_data(MINUTE_NS), candles(0, **prices))


def test_candles_that_nobody_watches_are_left_out() -> None:
    data = market_data(MINUTE_NS)
    assert hear(data, candles(0, symbol=ETH), candles(0, timeframe_ns=5 * MINUTE_NS), candles(5, symbol=ETH)) == []


def test_the_first_candles_by_rest_are_history() -> None:
    data = market_data(MINUTE_NS)
    assert [done_ns for _, _, done_ns in data.repairs()] == [-1]
    now_ns = NOW_NS + 3 * MINUTE_NS + 10 * SECOND_NS
    assert minutes(data.repair(BTC, MINUTE_NS, rest_candles(0, 1, 2, 3), now_ns)) == [(0, True), (1, True), (2, True)]
    assert [done_ns for _, _, done_ns in data.repairs()] == [NOW_NS + 2 * MINUTE_NS]


def test_the_newest_candle_that_was_missed_asks_for_orders() -> None:
    data = market_data(MINUTE_NS)
    list(data.repair(BTC, MINUTE_NS, rest_candles(0), NOW_NS + 2 * MINUTE_NS))
    hear(data, candles(1))
    list(data.lose_all(NOW_NS + 2 * MINUTE_NS, "disconnected"))
    now_ns = NOW_NS + 4 * MINUTE_NS + 10 * SECOND_NS
    # The running candle, 4, is in the answer too, and is not over.
    said = list(data.repair(BTC, MINUTE_NS, rest_candles(1, 2, 3, 4), now_ns))
    assert minutes(said) == [(1, True), (2, True), (3, False)]
    assert list(data.repair(BTC, MINUTE_NS, rest_candles(1, 2, 3, 4), now_ns)) == []


def test_a_candle_that_runs_when_the_connection_is_lost_is_left_to_repair() -> None:
    data = market_data(MINUTE_NS)
    hear(data, candles(0, close="100"))
    list(data.lose_all(NOW_NS + 30 * SECOND_NS, "disconnected"))
    assert minutes(data.on_time(NOW_NS + 5 * MINUTE_NS)) == []
    assert minutes(data.repair(BTC, MINUTE_NS, rest_candles(0), NOW_NS + 2 * MINUTE_NS)) == [(0, True)]


# --- time and connections


def test_time_is_said_four_times_a_second_at_most() -> None:
    data = market_data()
    said = [data.on_time(NOW_NS + step * TICK_NS // 5) for step in range(11)]
    assert [len(list(messages)) for messages in said] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def test_bars_that_are_over_come_before_the_tick() -> None:
    data = market_data(SECOND_NS)
    hear(data, trades(1))
    assert [type(message).__name__ for message in data.on_time(NOW_NS + SECOND_NS)] == ["Bar", "Tick"]


def test_without_a_connection_no_book_is_known_and_the_running_bar_is_dropped() -> None:
    data = market_data(5 * SECOND_NS)
    hear(data, snapshot(), trades(1), book(15))
    said = list(data.lose_all(NOW_NS + SECOND_NS, "disconnected"))
    assert said == [m.BookLost(ts_ns=NOW_NS + SECOND_NS, symbol=BTC, reason="disconnected")]
    assert data.broken == set()
    assert all_of(data.on_time(NOW_NS + 6 * SECOND_NS), m.Bar) == []
    assert hear(data, book(16)) == []
    # The first bucket after the loss misses trades too.
    hear(data, trades(2), at_ns=NOW_NS + 8 * SECOND_NS)
    hear(data, trades(3), at_ns=NOW_NS + 11 * SECOND_NS)
    assert [bar.start_ns for bar in all_of(data.on_time(NOW_NS + 15 * SECOND_NS), m.Bar)] == [NOW_NS + 10 * SECOND_NS]


def test_our_markets_are_listed_with_their_newest_steps() -> None:
    data = market_data()
    finer = instrument(price_scale=2, quantity_scale=1)
    said = list(data.list_instruments([instrument(ETH), finer], NOW_NS))
    assert said == [m.InstrumentListed(ts_ns=NOW_NS, instrument=finer)]
    assert best(hear(data, snapshot())) == [(9_900, 10_100)]


def test_the_channels_are_those_that_somebody_watches() -> None:
    data = MarketData([instrument(), instrument(ETH)], {BTC: [MINUTE_NS, SECOND_NS], ETH: [5 * MINUTE_NS]})
    assert data.symbols == [BTC, ETH]
    assert data.channels == ["book_lv2", "trades", "ticker", "candles_minute_1", "candles_minute_5"]


@pytest.mark.parametrize(
    ("frame", "ns"),
    [
        (snapshot(), NOW_NS),
        (trades(1), NOW_NS),
        (ticker("1"), NOW_NS),
        (candles(3), NOW_NS),
        (wire.TradesFrame(data=[]), None),
        (wire.Pong(), None),
        (wire.Subscribed(channel="trades", symbols=()), None),
    ],
)
def test_market_data_says_when_it_was_sent(frame: wire.Frame, ns: int | None) -> None:
    assert sent_ns(frame) == ns
    if ns is None:
        assert hear(market_data(), frame) == []


def test_F60_trades_stay_in_the_order_of_the_stream_whatever_the_exchange_s_times_say() -> None:
    data = market_data()
    late, early = trades("b"), trades("a")
    assert isinstance(early, wire.TradesFrame)
    early.data[0] = msgspec.structs.replace(early.data[0], ts_ms=START_MS - 5_000, created_ms=START_MS - 5_000)
    said = [*data.handle(late, NOW_NS), *data.handle(early, NOW_NS + 1)]
    assert [(each.trade_id, each.ts_ns) for each in said if isinstance(each, m.TradeTick)] == [
        ("b", NOW_NS),
        ("a", NOW_NS + 1),
    ]


def test_F44_a_trade_far_away_moves_no_price_that_positions_are_valued_at() -> None:
    data = market_data()
    list(data.handle(snapshot(), NOW_NS))
    said = list(data.handle(trades(1, price="9000"), NOW_NS))
    assert [type(each) for each in said] == [m.TradeTick]


def test_F142_a_market_whose_name_only_looks_like_ours_is_not_ours() -> None:
    data = market_data()
    looks_alike = BTC.replace("T", "\N{CYRILLIC CAPITAL LETTER TE}", 1)
    assert looks_alike != BTC
    assert list(data.handle(book(10, action="snapshot", symbol=looks_alike), NOW_NS)) == []
