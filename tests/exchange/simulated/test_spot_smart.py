"""Smart orders and the kill switch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exchange.simulated.builders import BTC, change, trade
from tests.exchange.simulated.traders import Exchange


def smart(exchange: Exchange, **fields: Any) -> str:
    body = {"symbol": BTC, "side": "SELL", "quantity": "1", **fields}
    return str(exchange.ask(exchange.ann, "POST", "/smartorders", body=body)["id"])


def smart_state(exchange: Exchange, order_id: str) -> str:
    (row,) = exchange.ask(exchange.ann, "GET", f"/smartorders/{order_id}")
    return str(row["state"])


def traded(exchange: Exchange, *prices: int) -> None:
    exchange.apply(*(trade(price, at_s=1, qty_lots=1, trade_id=str(price)) for price in prices))


@pytest.mark.parametrize(
    ("fields", "prices_before", "price"),
    [
        ({"stopPrice": "0.9"}, (101, 91), 90),
        ({"stopPrice": "1.2"}, (101, 119), 121),
        ({"stopPrice": "1.2", "operator": "LTE"}, (121,), 101),
        ({"trailingOffset": "0.1"}, (101, 120, 111), 110),
        ({"trailingOffset": "10%"}, (100, 200, 181), 180),
        ({"trailingOffset": "0.1", "stopPrice": "1.5"}, (101, 80, 150, 141), 139),
        ({"side": "BUY", "amount": "2", "trailingOffset": "0.1"}, (101, 90, 99), 100),
        ({"side": "BUY", "amount": "2", "stopPrice": "1.2"}, (101, 119), 120),
    ],
)
def test_a_stop_triggers_on_the_last_trade(fields: dict[str, Any], prices_before: tuple[int, ...], price: int) -> None:
    exchange = Exchange()
    traded(exchange, 101)
    order_id = smart(exchange, **fields)
    traded(exchange, *prices_before)
    assert smart_state(exchange, order_id) == "PENDING_NEW"
    assert exchange.money(exchange.ann, "BTC") == ("10", "0")
    traded(exchange, price)
    (row,) = exchange.ask(exchange.ann, "GET", f"/smartorders/{order_id}")
    assert (row["state"], row["triggeredOrder"]["state"]) == ("TRIGGERED", "FILLED")
    assert (row["triggeredOrder"]["type"], row["triggeredOrder"]["orderSource"]) == ("MARKET", "SMART")
    assert exchange.ask(exchange.ann, "GET", "/smartorders") == []
    assert [each["id"] for each in exchange.ask(exchange.ann, "GET", "/smartorders/history")] == [order_id]


@pytest.mark.parametrize(
    ("fields", "at", "price"),
    [
        ({"stopPrice": "0.9", "price": "1.5"}, 90, "1.5"),
        ({"type": "TRAILING_STOP_LIMIT", "trailingOffset": "0.5", "limitOffset": "0.1"}, 150, "1.4"),
        ({"type": "TRAILING_STOP_LIMIT", "trailingOffset": "0.5", "limitOffset": "10%"}, 150, "1.35"),
    ],
)
def test_a_limit_stop_places_its_limit_order(fields: dict[str, Any], at: int, price: str) -> None:
    exchange = Exchange()
    order_id = smart(exchange, **fields)
    traded(exchange, 200, at)
    (row,) = exchange.ask(exchange.ann, "GET", f"/smartorders/{order_id}")
    assert (row["state"], row["triggeredOrder"]["price"], row["triggeredOrder"]["state"]) == ("TRIGGERED", price, "NEW")


def test_a_trigger_without_money_fails() -> None:
    exchange = Exchange()
    order_id = smart(exchange, quantity="20", stopPrice="0.9")
    traded(exchange, 90)
    assert smart_state(exchange, order_id) == "FAILED"
    assert exchange.ask(exchange.ann, "GET", "/orders") == []


def test_one_trigger_sets_off_the_next() -> None:
    exchange = Exchange()
    exchange.apply(change(bids=[(100, 10_000), (95, 10_000), (90, 90_000)]))
    traded(exchange, 101)
    ids = [smart(exchange, stopPrice=price) for price in ("0.95", "1", "0.9", "0.85")]
    traded(exchange, 100)
    # The first sale takes 1.00, the second 0.95, which sets off the third at 0.90.
    assert [smart_state(exchange, order_id) for order_id in ids] == ["PENDING_NEW", "TRIGGERED"] + ["PENDING_NEW"] * 2
    traded(exchange, 95)
    assert [smart_state(exchange, order_id) for order_id in ids] == ["TRIGGERED"] * 2 + ["PENDING_NEW"] * 2
    exchange.apply(change(bids=[(95, 0)]))
    smart(exchange, stopPrice="0.95", operator="LTE")
    traded(exchange, 94)
    assert [smart_state(exchange, order_id) for order_id in ids] == ["TRIGGERED"] * 3 + ["PENDING_NEW"]
    assert exchange.is_balanced()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 602),
        ({"stopPrice": "0"}, 21347),
        ({"stopPrice": "1", "operator": "EQ"}, 25001),
        ({"stopPrice": "1", "type": "LIMIT"}, 21320),
        ({"type": "TRAILING_STOP"}, 602),
        ({"trailingOffset": "0%"}, 25001),
        ({"trailingOffset": "x%"}, 601),
        ({"trailingOffset": "0"}, 25001),
        ({"stopPrice": "1", "quantity": "x"}, 601),
        ({"stopPrice": "1", "symbol": "DOGE_USDT"}, 10040),
    ],
)
def test_what_is_wrong_with_a_smart_order(fields: dict[str, Any], code: int) -> None:
    exchange = Exchange()
    body = {"symbol": BTC, "side": "SELL", "quantity": "1", **fields}
    assert exchange.refused(exchange.ann, "POST", "/smartorders", body=body) == code


def test_smart_orders_are_cancelled_and_replaced() -> None:
    exchange = Exchange()
    first = smart(exchange, stopPrice="0.9", clientOrderId="one")
    body = {"symbol": BTC, "side": "SELL", "quantity": "1", "stopPrice": "1", "clientOrderId": "one"}
    assert exchange.refused(exchange.ann, "POST", "/smartorders", body=body) == 25004
    second = exchange.ask(exchange.ann, "PUT", "/smartorders/cid:one", body={"stopPrice": "0.8"})["id"]
    assert (smart_state(exchange, first), smart_state(exchange, second)) == ("CANCELED", "PENDING_NEW")
    (row,) = exchange.ask(exchange.ann, "GET", f"/smartorders/{second}")
    assert (row["stopPrice"], row["quantity"], row["type"]) == ("0.8", "1", "STOP")
    answer = exchange.ask(exchange.ann, "DELETE", f"/smartorders/{second}")
    assert (answer["state"], answer["code"]) == ("CANCELED", 200)
    assert exchange.refused(exchange.ann, "DELETE", f"/smartorders/{second}") == 25009
    assert exchange.refused(exchange.ann, "PUT", f"/smartorders/{second}", body={}) == 25009
    assert exchange.refused(exchange.ann, "GET", "/smartorders/5") == 25013
    third, _ = smart(exchange, stopPrice="0.9"), smart(exchange, stopPrice="0.9")
    (row,) = exchange.ask(exchange.ann, "DELETE", "/smartorders/cancelByIds", body={"orderIds": [third]})
    assert row["orderId"] == third
    assert len(exchange.ask(exchange.ann, "DELETE", "/smartorders")) == 1


def test_the_kill_switch_cancels_everything_when_it_is_not_set_again() -> None:
    exchange = Exchange()
    path = "/orders/killSwitch"
    order_id, smart_id = exchange.limit(exchange.ann, "BUY", "1", "1"), smart(exchange, stopPrice="0.9")
    other_id = exchange.limit(exchange.bob, "BUY", "1", "1")
    assert exchange.refused(exchange.ann, "GET", "/orders/killSwitchStatus") == 25020
    now_ms = exchange.venue.time_ms
    times = {"startTime": now_ms, "cancellationTime": now_ms + 10_000}
    assert exchange.ask(exchange.ann, "POST", path, body={"timeout": "10"}) == times
    assert exchange.ask(exchange.ann, "GET", "/orders/killSwitchStatus") == times
    exchange.later(9_000)
    exchange.ask(exchange.ann, "POST", path, body={"timeout": 10})
    exchange.later(9_000)
    assert exchange.state(exchange.ann, order_id) == "NEW"
    exchange.later(1_010)
    assert exchange.state(exchange.ann, order_id) == "CANCELED"
    assert smart_state(exchange, smart_id) == "CANCELED"
    assert exchange.state(exchange.bob, other_id) == "NEW"
    assert exchange.refused(exchange.ann, "GET", "/orders/killSwitchStatus") == 25020


def test_the_kill_switch_can_be_disarmed() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1", "1")
    exchange.ask(exchange.ann, "POST", "/orders/killSwitch", body={"timeout": "10"})
    answer = exchange.ask(exchange.ann, "POST", "/orders/killSwitch", body={"timeout": "-1"})
    assert answer == {"startTime": 0, "cancellationTime": 0}
    exchange.later(20_000)
    assert exchange.state(exchange.ann, order_id) == "NEW"
    for timeout, code in (("9", 601), ("601", 601), ("soon", 601), ("", 602)):
        assert exchange.refused(exchange.ann, "POST", "/orders/killSwitch", body={"timeout": timeout}) == code
