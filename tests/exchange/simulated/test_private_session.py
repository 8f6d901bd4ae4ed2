from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange.simulated.builders import BTC, START_NS, Json, parsed, trade
from tests.exchange.simulated.traders import Exchange, Listener

ETH = "ETH_USDT"
NOW_MS = START_NS // 10**6


def subscribe(*channels: str, symbols: Any = ("all",)) -> Json:
    return {"event": "subscribe", "channel": channels, "symbols": symbols}


# --- authentication


@pytest.mark.parametrize("stamp", [NOW_MS, str(NOW_MS), NOW_MS - 60_000, NOW_MS + 1_000])
def test_a_connection_is_authenticated_by_a_number_or_a_text(stamp: Any) -> None:
    exchange = Exchange()
    answer = Listener(exchange).authenticate(exchange.ann, stamp=stamp)
    assert answer == {"data": {"success": True, "ts": NOW_MS}, "channel": "auth"}


@pytest.mark.parametrize("stamp", [NOW_MS - 60_001, NOW_MS + 1_001, "soon", ""])
def test_a_signature_of_another_time_is_refused(stamp: Any) -> None:
    exchange = Exchange()
    answer = Listener(exchange).authenticate(exchange.ann, stamp=stamp)
    failed = {"success": False, "message": "Authentication failed!", "ts": NOW_MS}
    assert answer == {"data": failed, "channel": "auth"}


@pytest.mark.parametrize("params", [{}, {"key": "nobody"}, [], "x", {"key": 5}, {"signature": "\u00e9"}])
def test_who_shows_no_good_signature_stays_outside(params: Any) -> None:
    listener = Listener(Exchange())
    (answer,) = listener.say({"event": "subscribe", "channel": ["auth"], "params": params})
    assert answer["data"]["success"] is False
    (answer,) = listener.say(subscribe("orders"))
    assert answer["event"] == "error"
    (answer,) = listener.say({"event": "createOrder", "id": "1", "params": {}})
    assert answer["event"] == "error"


def test_a_bad_second_authentication_takes_nothing_away() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    assert not listener.authenticate(exchange.bob, secret="wrong")["data"]["success"]
    exchange.limit(exchange.ann, "BUY", "1", "1")
    assert listener.heard()


def test_the_answer_to_auth_is_the_text_that_the_java_sdk_looks_for() -> None:
    exchange = Exchange()
    session = exchange.spot.session(is_private=True)
    (answer,) = session.handle('{"event":"subscribe","channel":["auth"],"params":{}}')
    assert b'"channel":"auth"' in answer
    assert session.handle('{"event":"ping"}') == session.handle("ping") == [b'{"event":"pong"}']


# --- subscriptions


def test_each_channel_is_acknowledged_apart_and_there_is_no_first_state() -> None:
    exchange = Exchange()
    listener = Listener(exchange)
    listener.authenticate(exchange.ann)
    assert listener.say(subscribe("orders", "balances")) == [
        {"event": "subscribe", "channel": "orders", "symbols": ["ALL"]},
        {"event": "subscribe", "channel": "balances"},
    ]


def test_orders_are_of_the_symbols_that_were_asked_for() -> None:
    exchange = Exchange(BTC, ETH)
    listener = Listener(exchange)
    listener.authenticate(exchange.ann)
    answers = listener.say(subscribe("orders", symbols=["eth_usdt", "DOGE_USDT"]))
    assert [answer["event"] for answer in answers] == ["subscribe", "error"]
    exchange.limit(exchange.ann, "BUY", "1", "1")
    assert listener.heard() == []
    exchange.limit(exchange.ann, "BUY", "1", "1", symbol=ETH)
    assert [row["symbol"] for row in listener.heard()] == [ETH]


def test_a_repetition_is_acknowledged_and_tells_nothing_twice() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    first, second = (listener.say(subscribe("orders", "balances")) for _ in range(2))
    assert first == second
    exchange.limit(exchange.ann, "BUY", "1", "1")
    assert len(listener.heard()) == 2


def test_an_unknown_and_a_public_channel_are_errors() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    for channel in ("trades", "book", "dance"):
        (answer,) = listener.say(subscribe(channel))
        assert answer["event"] == "error"


def test_unsubscribing_and_listing() -> None:
    exchange = Exchange(BTC, ETH)
    listener = Listener(exchange).listen(exchange.ann)
    listed: list[Json] = [{"channel": "orders", "symbols": [BTC, ETH]}, {"channel": "balances", "symbols": []}]
    assert listener.say({"event": "list_subscriptions"}) == [{"event": "list_subscriptions", "subscriptions": listed}]
    assert listener.say({"event": "unsubscribe", "channel": ["orders"], "symbols": [BTC]}) == [
        {"event": "unsubscribe", "channel": "orders", "symbols": [BTC]}
    ]
    (answer,) = listener.say({"event": "unsubscribe", "channel": ["x"]})
    assert answer["event"] == "error"
    assert listener.say({"event": "unsubscribe_all"}) == [{"event": "unsubscribe_all"}]
    assert list(listener.session.topics) == []


def test_nobody_hears_of_another_account() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.bob)
    exchange.limit(exchange.ann, "BUY", "1", "1")
    assert listener.heard() == []


def test_another_account_on_the_same_connection_ends_the_subscriptions_of_the_first() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    listener.authenticate(exchange.bob)
    assert list(listener.session.topics) == []


# --- news


def test_a_new_order_is_told_with_what_it_freezes() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    order_id = exchange.limit(exchange.ann, "BUY", "1", "2", clientOrderId="one")
    order, balance = listener.heard()
    assert order == {
        "channel": "orders",
        "symbol": BTC,
        "type": "LIMIT",
        "quantity": "2",
        "orderId": order_id,
        "tradeFee": "0",
        "clientOrderId": "one",
        "accountType": "SPOT",
        "feeCurrency": "",
        "eventType": "place",
        "source": "API",
        "side": "BUY",
        "filledQuantity": "0",
        "filledAmount": "0",
        "matchRole": "MAKER",
        "state": "NEW",
        "tradeTime": 0,
        "tradeAmount": "0",
        "orderAmount": "0",
        "createTime": NOW_MS,
        "price": "1",
        "tradeQty": "0",
        "tradePrice": "0",
        "tradeId": "0",
        "ts": NOW_MS,
    }
    assert balance == {
        "channel": "balances",
        "changeTime": NOW_MS,
        "accountId": "10001001",
        "accountType": "SPOT",
        "eventType": "place_order",
        "available": "998",
        "currency": "USDT",
        "id": balance["id"],
        "userId": 1,
        "hold": "2",
        "ts": NOW_MS,
    }


def test_an_order_that_fills_at_once_is_placed_first_and_each_fill_has_a_row() -> None:
    exchange = Exchange()
    exchange.limit(exchange.bob, "SELL", "1.01", "1")
    listener = Listener(exchange).listen(exchange.ann, "orders")
    exchange.limit(exchange.ann, "BUY", "1.02", "3")
    rows = listener.heard()
    assert [row["eventType"] for row in rows] == ["place", "trade", "trade"]
    assert [row["state"] for row in rows] == ["NEW", "PARTIALLY_FILLED", "FILLED"]
    assert [row["tradePrice"] for row in rows] == ["0", "1.01", "1.02"]
    assert [row["tradeQty"] for row in rows] == ["0", "1", "2"]
    assert [row["filledQuantity"] for row in rows] == ["0", "1", "3"]
    assert [row["filledAmount"] for row in rows] == ["0", "1.01", "3.05"]
    assert [row["matchRole"] for row in rows[1:]] == ["TAKER", "TAKER"]
    assert [row["feeCurrency"] for row in rows[1:]] == ["BTC", "BTC"]
    assert len({row["tradeId"] for row in rows}) == 3


def test_both_currencies_of_a_fill_have_one_row_each() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann, "balances")
    exchange.limit(exchange.ann, "BUY", "1.02", "1")
    rows = [(row["eventType"], row["currency"], row["available"], row["hold"]) for row in listener.heard()]
    assert rows == [
        ("place_order", "USDT", "998.98", "1.02"),
        ("match_order", "USDT", "998.98", "0"),
        ("match_order", "BTC", "10.99845", "0"),
    ]


def test_a_maker_hears_of_a_replayed_trade_that_fills_it() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann, "orders")
    exchange.limit(exchange.ann, "BUY", "1.01", "2")
    exchange.apply(trade(101, at_s=1, taker_side="sell", qty_lots=5_000))
    (_, row) = listener.heard()
    assert (row["eventType"], row["matchRole"], row["tradeQty"]) == ("trade", "MAKER", "0.5")
    assert row["tradeTime"] == row["ts"] == NOW_MS + 1_000


def test_a_cancelled_order_is_told_when_it_ends_not_when_it_is_asked_for() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    order_id = exchange.limit(exchange.ann, "BUY", "1", "2")
    listener.heard()
    exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}")
    assert listener.heard() == []
    exchange.later(5)
    order, balance = listener.heard()
    assert (order["eventType"], order["state"], order["orderId"]) == ("canceled", "CANCELED", order_id)
    assert (balance["eventType"], balance["hold"]) == ("canceled_order", "0")


def test_what_an_immediate_order_leaves_is_told_as_cancelled() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann, "orders")
    exchange.limit(exchange.ann, "BUY", "1.02", "9", timeInForce="IOC")
    exchange.limit(exchange.ann, "BUY", "1.02", "9", timeInForce="FOK")
    exchange.place(exchange.ann, "SELL", type="LIMIT_MAKER", price="1", quantity="1")
    rows = [(row["eventType"], row["state"]) for row in listener.heard()]
    assert rows == [
        ("place", "NEW"),
        ("trade", "PARTIALLY_FILLED"),
        ("canceled", "PARTIALLY_CANCELED"),
        *[("place", "NEW"), ("canceled", "CANCELED")] * 2,
    ]


def test_a_transfer_changes_a_balance() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann, "balances")
    body = {"currency": "USDT", "amount": "1", "fromAccount": "SPOT", "toAccount": "FUTURES"}
    exchange.ask(exchange.ann, "POST", "/accounts/transfer", body=body)
    exchange.ask(
        exchange.ann, "POST", "/accounts/transfer", body={**body, "fromAccount": "FUTURES", "toAccount": "SPOT"}
    )
    assert [(row["eventType"], row["available"]) for row in listener.heard()] == [
        ("transfer_out", "999"),
        ("transfer_in", "1000"),
    ]


def test_the_public_sees_the_book_and_the_trade_before_the_client_hears_of_it() -> None:
    exchange = Exchange()
    Listener(exchange).listen(exchange.ann, "orders")
    exchange.wanted |= {("book_lv2", BTC), ("trades", BTC)}
    exchange.limit(exchange.ann, "BUY", "1.02", "1")
    said = exchange.spot.take()
    assert [publication.channel for publication in said] == ["trades", "book_lv2", "orders@1", "orders@1"]
    told, book = (parsed(publication.payload)["data"][0] for publication in said[:2])
    assert (told["price"], told["quantity"], told["takerSide"]) == ("1.02", "1", "buy")
    assert (book["asks"], book["bids"]) == ([["1.02", "4"]], [])


# --- trading over the socket


def test_orders_are_placed_and_cancelled_over_the_socket() -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann, "orders")
    params = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": "1", "quantity": "1", "clientOrderId": "one"}
    (answer,) = listener.say({"id": 1, "event": "createOrder", "params": params})
    (placed,) = listener.heard()
    order_id = placed["orderId"]
    row = {"orderId": order_id, "clientOrderId": "one", "message": "", "code": 200}
    assert answer == {"id": "1", "data": [row]}
    cancel = {"id": "2", "event": "cancelOrders", "params": {"orderIds": [order_id], "clientOrderIds": ["none"]}}
    (answer,) = listener.say(cancel)
    assert (answer["id"], answer["data"][0]) == ("2", row)
    assert answer["data"][1]["code"] == 21301
    (answer,) = listener.say({"id": "3", "event": "cancelAllOrders", "params": {}})
    assert answer == {"id": "3", "data": [row]}
    exchange.later(10)
    assert [row["state"] for row in listener.heard()] == ["CANCELED"]


@pytest.mark.parametrize(
    ("params", "code"),
    [({}, 602), ([], 601), ("x", 601), ({"symbol": BTC, "side": "BUY", "amount": "1001"}, 21721)],
)
def test_a_refusal_over_the_socket_has_no_id(params: Any, code: int) -> None:
    exchange = Exchange()
    listener = Listener(exchange).listen(exchange.ann)
    (answer,) = listener.say({"id": "9", "event": "createOrder", "params": params})
    (row,) = answer["data"]
    assert (answer["id"], row["orderId"], row["clientOrderId"], row["code"]) == ("9", 0, None, code)
    assert answer.keys() == {"id", "data"}


names = st.sampled_from([BTC, "all", "", "orders", "balances", "auth", "trades", "x"])
values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)
order_fields = st.dictionaries(
    st.sampled_from(["symbol", "side", "type", "price", "quantity", "amount", "clientOrderId", "orderIds"]),
    values | st.sampled_from([BTC, "BUY", "SELL", "LIMIT", "1", "1.01"]),
)
events = st.sampled_from(
    ["subscribe", "unsubscribe", "unsubscribe_all", "createOrder", "cancelOrders", "cancelAllOrders", "ping", "x"]
)
frames = st.fixed_dictionaries(
    {"event": events},
    optional={"channel": st.lists(names) | names, "symbols": st.lists(names), "params": order_fields, "id": values},
)


@given(st.lists(frames | st.text(), max_size=8), st.booleans())
def test_whatever_is_said_is_answered_and_money_is_kept(said: list[Any], is_known: bool) -> None:
    exchange = Exchange()
    listener = Listener(exchange)
    if is_known:
        listener.authenticate(exchange.ann)
    for each in said:
        assert listener.say(each)
    assert exchange.is_balanced()
