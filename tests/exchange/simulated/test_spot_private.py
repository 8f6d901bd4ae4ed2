from __future__ import annotations

from typing import Any

import pytest

from bot.core.instrument import ATOMS
from bot.core.secret import Secret
from bot.exchange.poloniex.signing import Credentials, sign
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.events import MarketTrade
from bot.exchange.simulated.replies import Request
from bot.exchange.simulated.spot_desk import OPEN_ORDERS_MAX, SpotTerms
from tests.exchange.simulated.builders import BTC, START_NS, Json, parsed, trade
from tests.exchange.simulated.traders import Exchange

ETH = "ETH_USDT"
DAY_MS = 86_400_000


def limit(price: Any = "1", quantity: Any = "1", **fields: Any) -> dict[str, Any]:
    return {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": price, "quantity": quantity, **fields}


# --- the door


def test_a_request_is_let_in_by_its_signature() -> None:
    exchange = Exchange()
    assert exchange.ask(exchange.ann, "GET", "/accounts") == [
        {"accountId": "10001001", "accountType": "SPOT", "accountState": "NORMAL"}
    ]
    assert exchange.ask(exchange.ann, "GET", "/accounts/") == exchange.ask(exchange.ann, "GET", "/accounts")


def test_our_own_client_and_the_exchange_agree_on_signatures() -> None:
    exchange = Exchange()
    keys = Credentials(Secret(exchange.ann.key), Secret(exchange.ann.secret))
    for method, path, query, body in (
        ("GET", "/orders", "symbol=BTC_USDT&limit=5", b""),
        ("POST", "/orders", "", b'{"symbol": "BTC_USDT", "side":"BUY","amount": 5}'),
    ):
        headers = sign(keys, method, path, query, body, exchange.venue.time_ms)
        lower = {name.lower(): value for name, value in headers.items()}
        assert exchange.spot.answer(Request(method, path, query, lower, body, 0.0, "")).status == 200


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"key": "nobody"}, 401),
        ({"signature": "AAAA"}, 401),
        ({"signature": "\u00e9"}, 401),
        ({"stamp": str(START_NS // 10**6 - 60_000)}, 200),
        ({"stamp": str(START_NS // 10**6 - 60_001)}, 408),
        ({"stamp": str(START_NS // 10**6 - 6_000), "recvwindow": "5000"}, 408),
        ({"stamp": str(START_NS // 10**6 + 1_000)}, 200),
        ({"stamp": str(START_NS // 10**6 + 1_001)}, 400),
        ({"stamp": "soon"}, 401),
        ({"recvwindow": "long"}, 400),
    ],
)
def test_who_is_not_let_in(changed: dict[str, str], status: int) -> None:
    exchange = Exchange()
    answered, answer = exchange.request(exchange.ann, "GET", "/accounts", None, None, **changed)
    assert answered == status
    assert status == 200 or answer["code"] == status


def test_calls_are_counted_per_second_and_account() -> None:
    exchange = Exchange(has_limits=True)

    def statuses(count: int, path: str) -> list[int]:
        return [exchange.request(exchange.ann, "GET", path)[0] for _ in range(count)]

    assert statuses(11, "/orders") == [200] * 10 + [429]
    assert statuses(51, "/accounts") == [200] * 50 + [429]
    assert exchange.request(exchange.bob, "GET", "/orders")[0] == 200
    assert statuses(11, "/markets") == [200] * 10 + [429]
    exchange.arrived_s = 1.0
    assert statuses(1, "/orders") == [200]


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "/orders", 405), ("GET", "/nothing", 404)])
def test_what_is_not_served(method: str, path: str, status: int) -> None:
    exchange = Exchange()
    assert exchange.request(exchange.ann, method, path)[0] == status


# --- placing


def test_an_order_is_answered_with_ids_and_says_nothing_of_its_outcome() -> None:
    exchange = Exchange()
    answer = exchange.ask(exchange.ann, "POST", "/orders", body=limit(clientOrderId="mine"))
    assert answer == {"id": answer["id"], "clientOrderId": "mine"}
    assert len(answer["id"]) == 16
    assert exchange.ask(exchange.ann, "POST", "/orders", body=limit())["clientOrderId"] == ""
    assert exchange.order(exchange.ann, "cid:mine") == exchange.order(exchange.ann, answer["id"])
    assert exchange.order(exchange.ann, answer["id"]) == {
        "id": answer["id"],
        "clientOrderId": "mine",
        "symbol": BTC,
        "state": "NEW",
        "accountType": "SPOT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "1",
        "avgPrice": "0",
        "amount": "0",
        "filledQuantity": "0",
        "filledAmount": "0",
        "createTime": START_NS // 10**6,
        "updateTime": START_NS // 10**6,
        "orderSource": "API",
        "loan": False,
        "cancelReason": 0,
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"symbol": None}, 602),
        ({"symbol": "DOGE_USDT"}, 10040),
        ({"side": None}, 602),
        ({"side": "HOLD"}, 21319),
        ({"type": "STOP"}, 21320),
        ({"timeInForce": "DAY"}, 21321),
        ({"type": "LIMIT_MAKER", "timeInForce": "IOC"}, 21321),
        ({"accountType": "MARGIN"}, 21324),
        ({"clientOrderId": "x" * 65}, 21315),
        ({"clientOrderId": "a b"}, 601),
        ({"clientOrderId": 5}, 601),
        ({"stpMode": "EXPIRE_MAKER"}, 601),
        ({"price": None}, 602),
        ({"price": "dear"}, 601),
        ({"price": "1e2"}, 601),
        ({"price": "NaN"}, 601),
        ({"price": True}, 601),
        ({"price": ["1"]}, 601),
        ({"price": "0"}, 21309),
        ({"price": "-1"}, 21309),
        ({"price": "-0.001"}, 21309),
        ({"price": "1.001"}, 21335),
        ({"price": "1" + "0" * 15}, 21349),
        ({"price": "1" + "0" * 50}, 601),
        ({"quantity": None}, 602),
        ({"quantity": None, "amount": "5"}, 602),
        ({"quantity": "0"}, 21328),
        ({"quantity": "0.00001"}, 21336),
        ({"price": "1", "quantity": "0.5"}, 21322),
        ({"price": "1", "quantity": "1001"}, 21721),
        ({"side": "SELL", "quantity": "10.0001"}, 21721),
        ({"type": "MARKET", "quantity": "1"}, 601),
        ({"type": "MARKET", "quantity": None}, 602),
        ({"type": "MARKET", "amount": "0.5"}, 21322),
        ({"type": "MARKET", "amount": "1.001"}, 21337),
        ({"type": "MARKET", "amount": "0"}, 21317),
        ({"type": "MARKET", "amount": "1001"}, 21721),
        ({"type": "MARKET", "amount": "5", "slippageTolerance": "1"}, 601),
        ({"type": "MARKET", "amount": "5", "slippageTolerance": "0"}, 601),
        ({"type": "MARKET", "side": "SELL", "quantity": None, "amount": "5"}, 601),
    ],
)
def test_what_is_wrong_with_an_order_is_told_by_a_code_and_changes_nothing(fields: dict[str, Any], code: int) -> None:
    exchange = Exchange()
    assert exchange.refused(exchange.ann, "POST", "/orders", body={**limit(), **fields}) == code
    assert exchange.ask(exchange.ann, "GET", "/orders") == []
    assert exchange.money(exchange.ann, "USDT") == ("1000", "0")


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        ({"type": "LIMIT", "side": "BUY", "price": "0.5", "quantity": "5"}, {"quantity": "5.0001"}),
        ({"type": "LIMIT_MAKER", "side": "SELL", "price": "1.5", "quantity": "2"}, {"quantity": "2.0001"}),
        ({"type": "MARKET", "side": "SELL", "quantity": "4"}, {"quantity": "4.0001"}),
        ({"type": "MARKET", "side": "BUY", "amount": "3"}, {"amount": "3.01"}),
    ],
    ids=["quantity", "price x quantity", "market quantity", "amount"],
)
def test_C6_an_order_over_the_limit_is_refused_and_the_limit_is_listed(fields: Json, over: Json) -> None:
    exchange = Exchange(limit_lots_max=50_000, market_lots_max=40_000, notional_atoms_max=3 * ATOMS)
    (row,) = exchange.ask(exchange.ann, "GET", "/markets")
    assert (row["symbolTradeLimit"]["maxQuantity"], row["symbolTradeLimit"]["maxAmount"]) == ("5", "3")
    order = {"symbol": BTC, **fields}
    assert exchange.refused(exchange.ann, "POST", "/orders", body={**order, **over}) == 21360
    assert exchange.ask(exchange.ann, "POST", "/orders", body=order)["id"]


@pytest.mark.parametrize("body", [[], "x", 5, None, {"symbol": 5}])
def test_a_body_that_is_no_order_is_refused(body: Any) -> None:
    exchange = Exchange()
    status, answer = exchange.request(exchange.ann, "POST", "/orders", body=body)
    assert (status, answer["code"]) == (400, 601)


def test_numbers_may_come_as_numbers_and_with_zeros_at_the_end() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "0.990000", 1.5)  # type: ignore[arg-type]
    order = exchange.order(exchange.ann, order_id)
    assert (order["price"], order["quantity"]) == ("0.99", "1.5")


def test_the_type_is_market_when_it_is_left_out() -> None:
    exchange = Exchange()
    order_id = exchange.place(exchange.ann, "BUY", amount="2.04", price="1")
    order = exchange.order(exchange.ann, order_id)
    assert (order["type"], order["state"], order["price"]) == ("MARKET", "FILLED", "0")
    assert (order["amount"], order["quantity"]) == ("2.04", "0")


def test_a_market_buy_spends_at_most_its_amount_and_gives_the_rest_back() -> None:
    exchange = Exchange()
    order = exchange.order(exchange.ann, exchange.place(exchange.ann, "BUY", amount="6", type="MARKET"))
    # Five are sold at 1.02; nothing is behind them.
    assert (order["state"], order["filledQuantity"], order["filledAmount"]) == ("PARTIALLY_CANCELED", "5", "5.1")
    assert (order["avgPrice"], exchange.money(exchange.ann, "USDT")) == ("1.02", ("994.9", "0"))


def test_the_fee_is_taken_in_what_is_received() -> None:
    exchange = Exchange(terms=SpotTerms(maker_fee_ppm=1_000, taker_fee_ppm=2_000))
    exchange.limit(exchange.ann, "BUY", "1.01", "2")
    exchange.limit(exchange.bob, "SELL", "1.01", "1")
    assert exchange.money(exchange.ann, "BTC") == ("10.999", "0")
    assert exchange.money(exchange.ann, "USDT") == ("997.98", "1.01")
    assert exchange.money(exchange.bob, "USDT") == ("1001.00798", "0")
    assert exchange.money(exchange.bob, "BTC") == ("9", "0")
    fees = exchange.accounts.fees
    assert fees.wallet(AccountType.SPOT, "BTC").available_atoms == ATOMS // 1_000
    assert exchange.is_balanced()


def test_a_better_price_gives_frozen_money_back() -> None:
    exchange = Exchange()
    exchange.limit(exchange.ann, "BUY", "5", "6")
    assert exchange.money(exchange.ann, "USDT") == ("989.9", "5")
    assert exchange.is_balanced()


def test_a_client_id_is_taken_for_ever() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1", "1", clientOrderId="one")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}")
    exchange.later(10)
    assert exchange.state(exchange.ann, order_id) == "CANCELED"
    assert exchange.refused(exchange.ann, "POST", "/orders", body=limit(clientOrderId="one")) == 21312
    exchange.limit(exchange.bob, "BUY", "1", "1", clientOrderId="one")


def test_no_more_than_2000_orders_live() -> None:
    exchange = Exchange()
    for _ in range(OPEN_ORDERS_MAX):
        exchange.limit(exchange.ann, "SELL", "500", "0.002")
    assert exchange.refused(exchange.ann, "POST", "/orders", body=limit()) == 21314
    assert len(exchange.ask(exchange.ann, "GET", "/orders")) == OPEN_ORDERS_MAX
    assert len(exchange.ask(exchange.ann, "DELETE", "/orders")) == OPEN_ORDERS_MAX
    exchange.later(10)
    assert exchange.ask(exchange.ann, "GET", "/orders") == []
    assert exchange.is_balanced()


def test_a_batch_is_answered_in_its_order_whatever_is_in_it() -> None:
    exchange = Exchange()
    batch = [limit(clientOrderId="a"), limit(price="0", clientOrderId="b"), limit(clientOrderId="a"), 5]
    first, *others = exchange.ask(exchange.ann, "POST", "/orders/batch", body=batch)
    assert first["clientOrderId"] == "a"
    assert [(row["code"], row["clientOrderId"]) for row in others] == [(21309, "b"), (21312, "a"), (601, "")]
    wrongs: list[Any] = [[], [limit()] * 21, {}]
    for wrong in wrongs:
        assert exchange.refused(exchange.ann, "POST", "/orders/batch", body=wrong) == 601


def test_orders_are_in_the_public_book_and_their_fills_in_the_public_trades() -> None:
    exchange = Exchange()
    exchange.limit(exchange.ann, "BUY", "1.01", "4")
    book = exchange.ask(exchange.ann, "GET", f"/markets/{BTC}/orderBook")
    assert book["bids"][:4] == ["1.01", "4", "1", "5"]
    exchange.limit(exchange.bob, "SELL", "1.01", "1")
    (public,) = exchange.ask(exchange.ann, "GET", f"/markets/{BTC}/trades")
    (mine,) = exchange.ask(exchange.ann, "GET", "/trades")
    assert (public["id"], public["price"], public["quantity"], public["takerSide"]) == (
        mine["id"],
        "1.01",
        "1",
        "SELL",
    )
    assert exchange.ask(exchange.ann, "GET", f"/markets/{BTC}/ticker24h")["close"] == "1.01"
    assert exchange.ask(exchange.ann, "GET", f"/markets/{BTC}/orderBook")["bids"][:2] == ["1.01", "3"]


# --- cancelling and replacing


def test_a_cancel_is_pending_and_then_done() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1", "1", clientOrderId="one")
    pending = {
        "orderId": order_id,
        "clientOrderId": "one",
        "state": "PENDING_CANCEL",
        "code": 200,
        "message": "",
    }
    assert exchange.ask(exchange.ann, "DELETE", "/orders/cid:one") == pending
    assert exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}") == pending
    assert exchange.state(exchange.ann, order_id) == "PENDING_CANCEL"
    assert exchange.money(exchange.ann, "USDT") == ("999", "1")
    exchange.later(5)
    assert exchange.state(exchange.ann, order_id) == "CANCELED"
    assert exchange.money(exchange.ann, "USDT") == ("1000", "0")
    assert exchange.refused(exchange.ann, "DELETE", f"/orders/{order_id}") == 21359


def test_a_cancel_loses_to_a_fill_that_comes_first() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1.01", "1")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}")
    exchange.limit(exchange.bob, "SELL", "1.01", "1")
    exchange.later(10)
    assert exchange.state(exchange.ann, order_id) == "FILLED"
    assert exchange.refused(exchange.ann, "DELETE", f"/orders/{order_id}") == 21359


def test_a_part_that_is_filled_while_a_cancel_is_pending_counts() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1.01", "2")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}")
    exchange.limit(exchange.bob, "SELL", "1.01", "1", timeInForce="IOC")
    assert exchange.state(exchange.ann, order_id) == "PENDING_CANCEL"
    exchange.later(10)
    assert exchange.state(exchange.ann, order_id) == "PARTIALLY_CANCELED"
    assert exchange.is_balanced()


def test_a_replayed_event_before_the_cancel_takes_effect_wins() -> None:
    exchange = Exchange()
    first, second = (exchange.limit(exchange.ann, "BUY", "1.01", "1") for _ in range(2))
    exchange.ask(exchange.ann, "DELETE", f"/orders/{first}")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{second}")
    exchange.apply(trade(101, at_s=0.004, taker_side="sell"), trade(101, at_s=0.006, taker_side="sell"))
    assert exchange.state(exchange.ann, first) == "FILLED"
    assert exchange.state(exchange.ann, second) == "CANCELED"


@pytest.mark.parametrize(("name", "code"), [("123", 21301), ("cid:none", 21301), ("one", 21346)])
def test_orders_that_are_not_there(name: str, code: int) -> None:
    exchange = Exchange()
    for method in ("GET", "DELETE", "PUT"):
        assert exchange.refused(exchange.ann, method, f"/orders/{name}") == code
    assert exchange.refused(exchange.bob, "GET", "/orders/123") == 21301


def test_an_order_is_its_accounts_alone() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1", "1")
    assert exchange.refused(exchange.bob, "GET", f"/orders/{order_id}") == 21301
    assert exchange.refused(exchange.bob, "DELETE", f"/orders/{order_id}") == 21301
    assert exchange.ask(exchange.bob, "DELETE", "/orders") == []


def test_cancelling_by_ids_answers_for_each() -> None:
    exchange = Exchange()
    first = exchange.limit(exchange.ann, "BUY", "1", "1")
    exchange.limit(exchange.ann, "BUY", "1", "1", clientOrderId="two")
    body = {"orderIds": [first, "77"], "clientOrderIds": ["two", "none"]}
    rows = exchange.ask(exchange.ann, "DELETE", "/orders/cancelByIds", body=body)
    assert [row["code"] for row in rows] == [200, 21301, 200, 21301]
    assert exchange.refused(exchange.ann, "DELETE", "/orders/cancelByIds", body={}) == 602


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, 0),
        ({"symbols": []}, 0),
        ({"symbols": [ETH]}, 1),
        ({"symbol": ETH}, 1),
        ({"symbol": [BTC, ETH]}, 0),
        ({"accountTypes": ["SPOT"]}, 0),
        ({"accountType": "MARGIN"}, 2),
        ({"symbol": "DOGE_USDT"}, 2),
    ],
)
@pytest.mark.parametrize("in_query", [False, True])
def test_cancel_all_reads_every_name_of_its_filters(filters: dict[str, Any], left: int, *, in_query: bool) -> None:
    exchange = Exchange(BTC, ETH)
    exchange.limit(exchange.ann, "BUY", "1", "1")
    exchange.limit(exchange.ann, "BUY", "1", "1", symbol=ETH)
    if in_query:
        params = {name: value if isinstance(value, str) else ",".join(value) for name, value in filters.items()}
        exchange.ask(exchange.ann, "DELETE", "/orders", params)
    else:
        exchange.ask(exchange.ann, "DELETE", "/orders", body=filters or None)
    exchange.later(10)
    assert len(exchange.ask(exchange.ann, "GET", "/orders")) == left


def test_a_replacement_copies_what_is_not_given() -> None:
    exchange = Exchange()
    old = exchange.limit(exchange.ann, "BUY", "1.01", "2", clientOrderId="old")
    exchange.limit(exchange.bob, "SELL", "1.01", "1")
    answer = exchange.ask(exchange.ann, "PUT", f"/orders/{old}", body={"price": "0.9", "clientOrderId": "new"})
    assert answer["clientOrderId"] == "new"
    assert exchange.state(exchange.ann, old) == "PARTIALLY_CANCELED"
    order = exchange.order(exchange.ann, answer["id"])
    assert (order["price"], order["quantity"], order["side"], order["state"]) == ("0.9", "2", "BUY", "NEW")
    assert exchange.is_balanced()


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"price": "0"}, 21309), ({"quantity": "2000"}, 21721), ({"clientOrderId": "old"}, 21312)],
)
def test_a_replacement_that_is_refused_leaves_the_old_order(changes: dict[str, Any], code: int) -> None:
    exchange = Exchange()
    old = exchange.limit(exchange.ann, "BUY", "1", "900", clientOrderId="old")
    assert exchange.refused(exchange.ann, "PUT", f"/orders/{old}", body=changes) == code
    assert exchange.state(exchange.ann, old) == "NEW"
    exchange.ask(exchange.ann, "PUT", f"/orders/{old}", body={"quantity": "950"})  # paid with what the old one held
    assert exchange.is_balanced()


def test_the_replacement_of_an_ended_order_needs_to_proceed_on_failure() -> None:
    exchange = Exchange()
    old = exchange.limit(exchange.ann, "BUY", "1.02", "1")
    assert exchange.state(exchange.ann, old) == "FILLED"
    assert exchange.refused(exchange.ann, "PUT", f"/orders/{old}", body={"price": "1"}) == 21359
    for proceed in (True, "true"):
        body = {"price": "1", "proceedOnFailure": proceed}
        new = exchange.ask(exchange.ann, "PUT", f"/orders/{old}", body=body)["id"]
        assert exchange.state(exchange.ann, new) == "NEW"


# --- asking


def test_open_orders_are_filtered_and_paged_newest_first() -> None:
    exchange = Exchange(BTC, ETH)
    ids = [exchange.limit(exchange.ann, "BUY", "1", "1", symbol=symbol) for symbol in (BTC, ETH, BTC, BTC)]
    a, _, c, d = ids

    def listed(**params: str) -> list[str]:
        return [row["id"] for row in exchange.ask(exchange.ann, "GET", "/orders", params)]

    assert listed() == ids[::-1]
    assert listed(symbol=BTC) == [d, c, a]
    assert listed(side="SELL") == []
    assert listed(limit="2") == ids[:1:-1]
    assert listed(limit="1", **{"from": c}) == [ids[1]]
    assert listed(limit="1", direction="PRE", **{"from": a}) == [ids[1]]
    assert exchange.refused(exchange.ann, "GET", "/orders", {"limit": "0"}) == 21344
    assert exchange.refused(exchange.ann, "GET", "/orders", {"direction": "UP"}) == 601


def test_history_has_finished_orders_by_state_and_time() -> None:
    exchange = Exchange()
    canceled = exchange.limit(exchange.ann, "BUY", "1", "1")
    filled = exchange.limit(exchange.ann, "BUY", "1.02", "1")
    exchange.limit(exchange.ann, "BUY", "1", "1")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{canceled}")
    exchange.later(10)

    def listed(**params: str) -> list[str]:
        return [row["id"] for row in exchange.ask(exchange.ann, "GET", "/orders/history", params)]

    assert listed() == [filled, canceled]
    assert listed(states="FILLED") == [filled]
    assert listed(hideCancel="true") == [filled]
    assert listed(type="MARKET") == []
    now_ms = exchange.venue.time_ms
    assert listed(startTime=str(now_ms - 5)) == [canceled]
    assert listed(endTime=str(now_ms - 6)) == [filled]
    for params, code in (
        ({"states": "NEW"}, 601),
        ({"startTime": "5", "endTime": "4"}, 24105),
        ({"startTime": "0", "endTime": str(31 * DAY_MS)}, 21355),
        ({"limit": "1001"}, 21344),
    ):
        assert exchange.refused(exchange.ann, "GET", "/orders/history", params) == code
    exchange.later(8 * DAY_MS)
    assert listed() == [filled]


def test_fills_are_told_to_both_sides_with_their_fees() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1.01", "1", clientOrderId="one")
    other_id = exchange.limit(exchange.bob, "SELL", "1.01", "1")
    (row,) = exchange.ask(exchange.ann, "GET", "/trades")
    assert row == {
        "id": row["id"],
        "symbol": BTC,
        "accountType": "SPOT",
        "orderId": order_id,
        "side": "BUY",
        "type": "LIMIT",
        "matchRole": "MAKER",
        "createTime": START_NS // 10**6,
        "price": "1.01",
        "quantity": "1",
        "amount": "1.01",
        "feeCurrency": "BTC",
        "feeAmount": "0.00145",
        "pageId": row["id"],
        "clientOrderId": "one",
    }
    (other,) = exchange.ask(exchange.bob, "GET", f"/orders/{other_id}/trades")
    assert (other["matchRole"], other["feeCurrency"], other["feeAmount"]) == ("TAKER", "USDT", "0.0015655")
    assert exchange.ask(exchange.ann, "GET", "/trades", {"symbols": ETH}) == []
    assert exchange.refused(exchange.ann, "GET", "/orders/cid:one/trades") == 21346


# --- markets


def test_a_market_without_replayed_levels_has_only_orders() -> None:
    exchange = Exchange(BTC, ETH)
    exchange.venue.markets[ETH].book.replace((), ())
    exchange.limit(exchange.ann, "BUY", "1", "1", symbol=ETH)
    exchange.limit(exchange.bob, "SELL", "1.1", "1", symbol=BTC)
    book = exchange.ask(exchange.ann, "GET", f"/markets/{ETH}/orderBook")
    assert (book["bids"], book["asks"]) == (["1", "1"], [])


def test_events_of_a_market_without_orders_pass_through_unchanged() -> None:
    exchange = Exchange(BTC, ETH)
    exchange.limit(exchange.ann, "BUY", "1", "1", symbol=ETH)
    exchange.limit(exchange.bob, "SELL", "1", "1", symbol=ETH)
    told = trade(101, at_s=1, trade_id="77")
    exchange.apply(told)
    assert list(exchange.venue.markets[BTC].trades) == [told]
    (mine,) = exchange.venue.markets[ETH].trades
    assert isinstance(mine, MarketTrade)


def test_answers_are_json_without_a_stray_code() -> None:
    exchange = Exchange()
    order_id = exchange.limit(exchange.ann, "BUY", "1", "1")
    keys = {"key": "ann"}
    reply = exchange.spot.answer(Request("GET", f"/orders/{order_id}", "", keys, b"", 0.0, ""))
    assert (reply.status, parsed(reply.body)["code"]) == (401, 401)
    assert "code" not in exchange.order(exchange.ann, order_id)
