from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.secret import Secret
from bot.exchange.poloniex.signing import websocket_signature
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.futures_session import FuturesSession
from bot.exchange.simulated.venue import Publication
from tests.exchange.simulated.futures_builders import NOW_NS, PERP, USDT, Floor, keys

NOW_MS = NOW_NS // 10**6
ETH_PERP = "ETH_USDT_PERP"


def public(floor: Floor | None = None) -> FuturesSession:
    return (floor or Floor(symbols=(PERP, ETH_PERP))).wing.session(is_private=False)


def private(floor: Floor) -> FuturesSession:
    session = floor.wing.session(is_private=True)
    (answer,) = say(session, **auth())
    assert answer == {"data": {"success": True, "ts": NOW_MS}, "channel": "auth"}
    return session


def auth(key: str = "key0", secret: str = "secret") -> dict[str, Any]:
    signature = websocket_signature(Secret(secret), NOW_MS)
    params = {"key": key, "signTimestamp": NOW_MS, "signature": signature}
    return {"event": "subscribe", "channel": ["auth"], "params": params}


def say(session: FuturesSession, **request: Any) -> list[Any]:
    return [msgspec.json.decode(frame) for frame in session.handle(msgspec.json.encode(request).decode())]


def subscribe(session: FuturesSession, channel: Any, symbols: Any = (PERP,), **further: Any) -> list[Any]:
    return say(session, event="subscribe", channel=channel, symbols=symbols, **further)


def published(floor: Floor, channel: str, symbol: str = PERP) -> list[Any]:
    frames: list[Publication] = [each for each in floor.wing.take() if (each.channel, each.symbol) == (channel, symbol)]
    return [msgspec.json.decode(frame.payload) for frame in frames]


@pytest.mark.parametrize("text", ['{"event":"ping"}', '{"event":"PING"}', "ping", "PING"])
def test_a_ping_is_answered_with_exactly_a_pong(text: str) -> None:
    assert public().handle(text) == [b'{"event":"pong"}']


def test_each_channel_is_acknowledged_apart_and_before_any_data() -> None:
    answers = subscribe(public(), ["book_lv2", "tickers", "mark_price", "symbol"])
    assert answers[:4] == [
        {"event": "subscribe", "channel": name, "symbols": [PERP]}
        for name in ("book_lv2", "tickers", "mark_price", "symbol")
    ]
    assert [(answer["channel"], answer["action"]) for answer in answers[4:]] == [
        ("book_lv2", "snapshot"),
        ("symbol", "snapshot"),
    ]


@pytest.mark.parametrize(
    ("symbols", "shown"),
    [
        (["all"], ["ALL"]),
        ("ALL", ["ALL"]),
        ([""], ["ALL"]),
        (["BTC_USDT_PERP", ""], [PERP]),  # the Python SDK's tickers
        (["btc_usdt_perp", "BTC_USDT_PERP"], [PERP]),  # and its trades
    ],
)
def test_empty_names_and_repetitions_are_dropped(symbols: Any, shown: list[str]) -> None:
    session = public()
    assert subscribe(session, ["trades"], symbols) == [{"event": "subscribe", "channel": "trades", "symbols": shown}]
    assert len(session.topics) == (2 if shown == ["ALL"] else 1)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("mark_price_candles_minute_1", "mark_price_candles_minute_1"),
        ("mark_candles_minute_1", "mark_price_candles_minute_1"),
        ("index_candles_hour_1", "index_candles_hour_1"),
        ("candles_month_1", "candles_month_1"),
        ("book", "book_5"),
    ],
)
def test_channels_have_the_names_of_the_sdk_and_of_the_pages(asked: str, key: str) -> None:
    session = public()
    subscribe(session, [asked])
    assert list(session.topics) == [(key, PERP)]


@pytest.mark.parametrize("channel", ["ticker", "symbols", "book_5", "liquidation_orders", "", "auth", "orders"])
def test_channels_that_are_not_there_are_refused(channel: str) -> None:
    session = public()
    answers = subscribe(session, [channel])
    assert [answer["event"] for answer in answers] == ["error"]
    assert not session.topics


def test_a_repeated_subscription_is_an_error_and_sends_no_new_snapshot() -> None:
    session = public()
    subscribe(session, ["book_lv2"])
    assert [answer["event"] for answer in subscribe(session, ["book_lv2"])] == ["error"]


def test_subscriptions_are_listed_and_ended() -> None:
    session = public()
    subscribe(session, ["trades", "book"], ["all"], depth=20)
    (listed,) = say(session, event="list_subscriptions")
    assert listed["subscriptions"] == [
        {"channel": "trades", "symbols": [PERP, ETH_PERP]},
        {"channel": "book", "symbols": [PERP, ETH_PERP]},
    ]
    assert say(session, event="unsubscribe", channel=["book"], symbols=[PERP]) == [
        {"event": "unsubscribe", "channel": "book", "symbols": [PERP]}
    ]
    assert say(session, event="unsubscribe_all") == [{"event": "unsubscribe_all"}]
    assert not session.topics


# --- public frames, against the documented examples


def test_a_book_is_a_window_of_contracts_chained_by_lid() -> None:
    floor = Floor()
    (snapshot,) = [frame for frame in subscribe(public(floor), ["book_lv2"]) if frame.get("data")]
    (row,) = snapshot["data"]
    assert row.keys() == {"s", "asks", "bids", "lid", "id", "ts", "cT"}
    assert (row["s"], row["asks"], row["bids"]) == (PERP, [["60001", "1000"]], [["59999", "1000"]])
    floor.order("BUY", 5, 60_000)
    (update,) = published(floor, "book_lv2")
    assert update["action"] == "update"
    assert update["data"][0]["bids"] == [["60000", "5"]]
    assert update["data"][0]["lid"] == row["id"]


def test_a_trade_has_short_keys_and_contracts() -> None:
    floor = Floor()
    floor.order("BUY", 5)
    ((trade,),) = [frame["data"] for frame in published(floor, "trades")]
    assert trade.keys() == {"id", "ts", "s", "px", "qty", "amt", "side", "cT"}
    assert (trade["px"], trade["qty"], trade["amt"], trade["side"]) == ("60001", "5", "300.005", "buy")
    assert isinstance(trade["id"], int)


def test_candles_are_arrays_low_first() -> None:
    floor = Floor()
    for price in (60_000, 60_010, 59_990):
        floor.trade(price, 2, "buy")
    floor.trade(60_005, 2, "buy", at_s=2)
    last = published(floor, "candles_minute_1")[-1]["data"][0]
    assert last[:7] == [PERP, "59990", "60010", "60000", "60005", "480.01", "8"]
    assert [type(value) for value in last[7:]] == [int] * 4
    assert last[7:] == [4, last[8], last[8] + 59_999, NOW_MS + 2_000]


def test_mark_and_index_are_pushed_once_a_second() -> None:
    floor = Floor()
    for at in range(10):
        floor.book(60_100, 60_102, at_s=1 + at / 4)
    frames = [
        each for each in floor.wing.take() if each.channel in ("mark_price", "index_price", "index_candles_minute_1")
    ]
    assert [frame.channel for frame in frames] == ["mark_price", "index_price", "index_candles_minute_1"] * 3
    mark, index, candle = (msgspec.json.decode(frame.payload)["data"][0] for frame in frames[:3])
    assert mark == {"s": PERP, "mPx": "60101", "ts": NOW_MS + 1_000}
    assert index == {"s": PERP, "iPx": "60101", "ts": NOW_MS + 1_000}
    # s, low, high, open, close, start, end, ts: by REST it is open, high, low, close.
    assert candle[:5] == [PERP, "60000", "60101", "60000", "60101"]
    assert [type(value) for value in candle[5:]] == [int] * 3


def test_a_ticker_has_the_best_bid_and_ask() -> None:
    floor = Floor()
    floor.trade(60_000, 2, "buy")
    (frame,) = published(floor, "tickers")
    assert frame["data"][0] == {
        "s": PERP,
        "o": "60000",
        "l": "60000",
        "h": "60000",
        "c": "60000",
        "qty": "2",
        "amt": "120",
        "tC": 1,
        "sT": NOW_MS - 86_400_000,
        "cT": NOW_MS,
        "dC": "0",
        "bPx": "59999",
        "bSz": "1000",
        "aPx": "60001",
        "aSz": "1000",
        "ts": NOW_MS,
    }


def test_funding_rates_are_pushed_at_least_at_funding() -> None:
    floor = Floor()
    due_ns = floor.wing.due_ns
    assert due_ns is not None
    floor.wing.advance(due_ns)
    frame = published(floor, "funding_rate")[-1]
    assert frame["data"][0].keys() == {"s", "fR", "fT", "nFR", "nFT", "ts"}
    assert frame["data"][0]["fT"] == due_ns // 10**6


# --- the private socket


@pytest.mark.parametrize("wrong", [{"key": "nobody"}, {"secret": "other"}])
def test_a_failed_authentication_says_so_and_stays_open(wrong: dict[str, str]) -> None:
    floor = Floor()
    session = floor.wing.session(is_private=True)
    (answer,) = say(session, **auth(**wrong))
    assert answer["channel"] == "auth"
    assert answer["data"] == {"success": False, "message": "Authentication failed!", "ts": NOW_MS}
    assert [frame["event"] for frame in subscribe(session, ["orders"], ["all"])] == ["error"]
    say(session, **auth())
    assert [frame["event"] for frame in subscribe(session, ["orders"], ["all"])] == ["subscribe"]


def test_public_channels_are_refused_on_the_private_socket() -> None:
    assert [frame["event"] for frame in subscribe(private(Floor()), ["trades", "book"])] == ["error", "error"]


def test_nothing_is_sent_on_subscribing_to_private_channels() -> None:
    floor = Floor()
    floor.order("BUY", 1)
    session = private(floor)
    answers = subscribe(session, ["orders", "trade", "positions", "account"], ["all"])
    assert answers == [
        {"event": "subscribe", "channel": name, "symbols": ["ALL"]}
        for name in ("orders", "trade", "positions", "account")
    ]
    assert list(session.topics) == [("orders@1", PERP), ("trade@1", PERP), ("positions@1", PERP), ("account@1", "")]


def test_a_client_hears_of_its_own_orders_only() -> None:
    floor = Floor()
    floor.order("BUY", 1, number=1)
    assert floor.news("orders", number=0) == []
    floor.order("BUY", 1, number=1)
    assert [row["state"] for row in floor.news("orders", number=1)] == ["NEW", "FILLED"]


def test_orders_rows_are_one_a_change_and_cumulative() -> None:
    floor = Floor()
    floor.order("BUY", 1_500, 60_001, clOrdId="mine")
    rows = floor.news("orders")
    assert [(row["state"], row["execQty"], row["cancelReason"]) for row in rows] == [
        ("NEW", "0", ""),
        ("PARTIALLY_FILLED", "1000", ""),
    ]
    floor.do("DELETE", "/trade/allOrders")
    (row,) = floor.news("orders")
    assert row["state"] == "PARTIALLY_CANCELED"
    assert row["cancelReason"] == "USER_CANCEL_ORDER_ACTION"
    assert row.keys() == keys(
        "symbol side type mgnMode timeInForce clOrdId sz px reduceOnly posSide ordId state cancelReason source avgPx "
        "execQty execAmt feeCcy feeAmt deductCcy deductAmt cTime uTime stpMode"
    )
    assert (row["cTime"], row["reduceOnly"], row["clOrdId"], row["avgPx"]) == (NOW_MS, False, "mine", "60001")


def test_trade_rows_are_one_a_fill_with_its_own_fee() -> None:
    floor = Floor()
    floor.order("SELL", 1, 60_000, number=1)
    floor.order("BUY", 3, 60_001)
    rows = floor.news("trade")
    assert rows[0].keys() == keys(
        "symbol side ordId clOrdId role trdId feeCcy feeAmt deductCcy deductAmt fpx fqty uTime"
    )
    assert [(row["fpx"], row["fqty"], row["feeAmt"]) for row in rows] == [
        ("60000", "1", "0.03"),
        ("60001", "2", "0.060001"),
    ]
    assert all(isinstance(row["uTime"], str) for row in rows)


def test_position_rows_say_the_size_before_and_zero_when_closed() -> None:
    floor = Floor()
    for side, size in (("BUY", 3), ("SELL", 5), ("BUY", 2)):
        floor.order(side, size)
    rows = floor.news("positions")
    assert rows[0].keys() == keys(
        "symbol posSide side mgnMode openAvgPx qty oldQty availQty lever fee adl liqPx mgn im mm upl uplRatio pnl fPnl "
        "fFee markPx mgnRatio state cTime uTime"
    )
    assert [(row["side"], row["oldQty"], row["qty"]) for row in rows] == [
        ("BUY", "0", "3"),
        ("BUY", "3", "0"),  # a flip is close, then open
        ("SELL", "0", "2"),
        ("SELL", "2", "0"),
    ]


def test_account_rows_come_last_and_whole() -> None:
    floor = Floor()
    floor.order("BUY", 100)
    (row,) = floor.news("account")
    assert row.keys() == keys("state eq isoEq im mm mmr upl availMgn details cTime uTime")
    (coin,) = row["details"]
    assert coin.keys() == keys("ccy eq isoEq avail trdHold upl isoAvail isoHold isoUpl im mm mmr imr cTime uTime")
    assert (row["upl"], row["im"], row["eq"], coin["avail"]) == ("-0.1", "300", "9996.89995", "9996.99995")


def test_a_transfer_is_told_on_the_account_channel() -> None:
    floor = Floor()
    account = floor.accounts.clients[0]
    floor.spot.desk.transfer(account, AccountType.FUTURES, AccountType.SPOT, "USDT", USDT)
    (row,) = floor.news("account")
    assert row["eq"] == "9999"


names = st.sampled_from(
    [PERP, "btc_usdt_perp", "all", "", "trades", "book", "book_lv2", "book_5", "orders", "auth", "x"]
)
requests = st.fixed_dictionaries(
    {"event": st.sampled_from(["subscribe", "unsubscribe", "unsubscribe_all", "list_subscriptions", "ping", "x"])},
    optional={"channel": st.lists(names) | names, "symbols": st.lists(names) | names, "depth": st.integers() | names},
)


@given(st.lists(requests | st.text(), max_size=8), st.booleans())
def test_whatever_is_said_is_answered_and_never_fails(said: list[Any], is_private: bool) -> None:
    floor = Floor()
    session = private(floor) if is_private else public(floor)
    for each in said:
        frames = session.handle(each if isinstance(each, str) else msgspec.json.encode(each).decode())
        assert frames
        assert all(msgspec.json.decode(frame) for frame in frames)


def test_the_funding_rate_is_said_to_a_new_subscriber() -> None:
    floor = Floor()
    session = floor.wing.session(is_private=False)
    request = msgspec.json.encode({"event": "subscribe", "channel": ["funding_rate"], "symbols": [PERP]}).decode()
    acknowledged, frame = (msgspec.json.decode(raw) for raw in session.handle(request))
    assert acknowledged["event"] == "subscribe"
    (row,) = frame["data"]
    assert {name: row[name] for name in ("s", "fR", "nFT")} == {
        name: floor.get("/market/fundingRate", f"symbol={PERP}", number=None)[name] for name in ("s", "fR", "nFT")
    }
