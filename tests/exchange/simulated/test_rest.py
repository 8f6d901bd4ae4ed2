from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.venue import Venue
from tests.exchange.simulated.builders import BTC, START_NS, parsed, snapshot, trade, venue

NOW_MS = START_NS // 10**6


def get(made: Venue, path: str, query: str = "") -> Any:
    reply = answer(made, "GET", path, query)
    assert reply.status == 200, reply
    return parsed(reply.body)


def refused(made: Venue, path: str, query: str = "", *, method: str = "GET") -> tuple[int, int]:
    reply = answer(made, method, path, query)
    error = parsed(reply.body)
    assert error.keys() == {"code", "message"}
    return reply.status, error["code"]


def traded() -> Venue:
    made = venue()
    for at in range(5):
        taker_side = "buy" if at % 2 else "sell"
        event = trade(100 + at, at_s=60.0 * at, trade_id=str(at), taker_side=taker_side)
        made.apply(event, ())
    return made


@pytest.mark.parametrize("path", ["/timestamp", "/timestamp/"])
def test_the_time_is_that_of_the_newest_event(path: str) -> None:
    assert get(traded(), path) == {"serverTime": NOW_MS + 240_000}


def test_a_market_is_listed_with_its_scales_and_limits() -> None:
    (listing,) = get(venue(), "/markets")
    assert (listing["symbol"], listing["baseCurrencyName"], listing["quoteCurrencyName"]) == (BTC, "BTC", "USDT")
    assert (listing["displayName"], listing["state"]) == ("BTC/USDT", "NORMAL")
    limits = listing["symbolTradeLimit"]
    assert (limits["priceScale"], limits["quantityScale"]) == (2, 4)
    assert (limits["minQuantity"], limits["minAmount"]) == ("0.0001", "1")
    assert (limits["maxQuantity"], limits["maxAmount"]) == ("0", "0")


def test_one_market_is_a_list_of_one() -> None:
    made = venue(BTC, "ETH_USDT")
    assert get(made, f"/markets/{BTC}") == get(made, "/markets/")[:1]


def test_the_order_book_is_flat_and_best_first() -> None:
    made = venue()
    made.apply(snapshot(bids=[(99, 2), (100, 1)], asks=[(103, 4), (102, 30_000)]), ())
    book = get(made, f"/markets/{BTC}/orderBook", "limit=5")
    assert book["bids"] == ["1", "0.0001", "0.99", "0.0002"]
    assert book["asks"] == ["1.02", "3", "1.03", "0.0004"]
    assert (book["time"], book["ts"], book["scale"]) == (NOW_MS, NOW_MS, "0.01")


def test_the_order_book_is_cut_at_its_limit_which_is_10_unless_told() -> None:
    made = venue()
    made.apply(snapshot(bids=[(price, 1) for price in range(1, 80)], asks=[(80, 1)]), ())
    lengths = [len(get(made, f"/markets/{BTC}/orderBook", query)["bids"]) for query in ("", "limit=5", "limit=50")]
    assert lengths == [20, 10, 100]


def test_the_order_book_is_grouped_away_from_the_touch() -> None:
    made = venue()
    made.apply(snapshot(bids=[(109, 1), (101, 1), (99, 1)], asks=[(111, 1), (120, 1), (121, 1)]), ())
    book = get(made, f"/markets/{BTC}/orderBook", "scale=0.1")
    assert book["bids"] == ["1", "0.0002", "0.9", "0.0001"]
    assert book["asks"] == ["1.2", "0.0002", "1.3", "0.0001"]


def test_a_candle_has_fourteen_fields_low_and_high_first() -> None:
    made = venue()
    for at, price in enumerate((100, 120, 90, 110)):
        event = trade(price, at_s=at, qty_lots=20_000, taker_side="buy" if at < 1 else "sell")
        made.apply(event, ())
    (candle,) = get(made, f"/markets/{BTC}/candles", "interval=MINUTE_5")
    start_ms = NOW_MS - NOW_MS % 300_000
    assert candle == [
        *("0.9", "1.2", "1", "1.1", "8.4", "8", "2", "2", 4, NOW_MS + 3_000),
        *("1.05", "MINUTE_5", start_ms, start_ms + 299_999),
    ]


def test_candles_come_oldest_first_and_the_newest_are_kept() -> None:
    candles = get(traded(), f"/markets/{BTC}/candles", "interval=MINUTE_1&limit=2")
    assert [candle[3] for candle in candles] == ["1.03", "1.04"]


def test_candles_from_a_start_time_are_the_oldest_ones() -> None:
    query = f"interval=MINUTE_1&limit=2&startTime={NOW_MS}&endTime={NOW_MS + 10**6}"
    assert [candle[3] for candle in get(traded(), f"/markets/{BTC}/candles", query)] == ["1.01", "1.02"]


def test_trades_come_newest_first_with_takers_in_capitals() -> None:
    newest, *_ = trades = get(traded(), f"/markets/{BTC}/trades")
    assert [each["id"] for each in trades] == ["4", "3", "2", "1", "0"]
    assert (newest["takerSide"], newest["price"], newest["amount"]) == ("SELL", "1.04", "1.04")
    assert len(get(traded(), f"/markets/{BTC}/trades", "limit=2")) == 2


def test_prices_and_tickers_are_of_the_last_24_hours() -> None:
    made = traded()
    (price,) = get(made, "/markets/price")
    assert price == get(made, f"/markets/{BTC}/price")
    assert (price["price"], price["dailyChange"]) == ("1.04", "0.04")
    (ticker,) = get(made, "/markets/ticker24h")
    assert ticker == get(made, f"/markets/{BTC}/ticker24h/")
    assert (ticker["bid"], ticker["ask"], ticker["tradeCount"]) == ("1", "1.02", 5)
    (mark,) = get(made, "/markets/markPrice")
    assert mark == get(made, f"/markets/{BTC}/markPrice") == {"symbol": BTC, "markPrice": "1.01", "time": made.time_ms}


def test_a_market_without_trades_or_book_can_be_asked_about() -> None:
    made = venue(book=False)
    assert get(made, f"/markets/{BTC}/candles", "interval=DAY_1") == []
    assert get(made, f"/markets/{BTC}/orderBook")["bids"] == []
    assert get(made, f"/markets/{BTC}/ticker24h")["close"] == "0"
    assert get(made, f"/markets/{BTC}/price")["price"] == "0"


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/markets/DOGE_USDT", "", 24101),
        ("/markets/DOGE_USDT/trades", "", 24101),
        ("/markets/BTC_USDT/orderBook", "limit=7", 24106),
        ("/markets/BTC_USDT/orderBook", "limit=-5", 24106),
        ("/markets/BTC_USDT/orderBook", "scale=0.001", 601),
        ("/markets/BTC_USDT/orderBook", "scale=0", 601),
        ("/markets/BTC_USDT/candles", "", 24102),
        ("/markets/BTC_USDT/candles", "interval=MINUTE_2", 24102),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&limit=501", 24104),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&limit=x", 24104),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&limit=%D9%A3", 24104),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&startTime=-1", 24105),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&startTime=9&endTime=8", 24105),
        ("/markets/BTC_USDT/candles", "interval=DAY_1&endTime=1e3", 24103),
        ("/markets/BTC_USDT/trades", "limit=1001", 24104),
        ("/markets/BTC_USDT/trades", "limit=%FF", 601),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_code(path: str, query: str, code: int) -> None:
    assert refused(venue(), path, query) == (400, code)


@pytest.mark.parametrize("path", ["/", "", "/orders", "/accounts/balances", "/markets/BTC_USDT/x", "/markets//price"])
def test_what_is_not_served_is_not_found(path: str) -> None:
    assert refused(venue(), path) == (404, 404)


def test_only_get_is_served() -> None:
    assert refused(venue(), "/markets", method="POST") == (405, 405)


words = st.sampled_from(
    ["markets", BTC, "orderBook", "candles", "trades", "price", "limit", "scale", "interval", "5", ""]
)
fields = st.lists(st.tuples(words | st.text(), words | st.text() | st.integers().map(str)), max_size=4)


@given(st.lists(words, max_size=4), fields)
def test_whatever_is_asked_is_answered_with_json(parts: list[str], query: list[tuple[str, str]]) -> None:
    reply = answer(traded(), "GET", "/" + "/".join(parts), "&".join(f"{name}={value}" for name, value in query))
    assert ("code" in parsed(reply.body)) == (reply.status != 200)
