from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.core.instrument import Side
from bot.errors import BadReply, NotListed, OrderRefusedHere
from bot.exchange.poloniex import spot_codec as codec
from bot.exchange.poloniex import spot_wire as wire
from tests.exchange.poloniex import spot_samples as samples
from tests.exchange.poloniex.spot_samples import BOOK, CURRENCY, MARKET, ORDER, SAMPLES, TRADE, encoded

RULES = codec.decode(encoded(MARKET), wire.SpotMarket)
D = Decimal


def limit_order(**changes: Any) -> wire.NewOrder:
    fields: dict[str, Any] = {
        "symbol": "BTC_USDT",
        "side": Side.BUY,
        "type": "LIMIT",
        "client_id": "b1",
        "price": D("20000"),
        "quantity": D("0.01"),
    }
    return wire.NewOrder(**fields | changes)


def market_order(side: Side, **changes: Any) -> wire.NewOrder:
    size: dict[str, Any] = {"amount": D(5)} if side is Side.BUY else {"quantity": D("0.01")}
    fields: dict[str, Any] = {"symbol": "BTC_USDT", "side": side, "type": "MARKET", "client_id": "b1"}
    return wire.NewOrder(**fields | size | changes)


def smart_order(**changes: Any) -> wire.NewSmartOrder:
    fields: dict[str, Any] = {
        "symbol": "BTC_USDT",
        "side": Side.SELL,
        "type": "STOP",
        "client_id": "b1",
        "stop_price": D("19000"),
        "quantity": D("0.01"),
    }
    return wire.NewSmartOrder(**fields | changes)


def sent(body: wire.Body | wire.CancelAllBody) -> dict[str, Any]:
    return json.loads(codec.encode(body))


# --- reading


@pytest.mark.parametrize(("kind", "sample"), SAMPLES, ids=[str(kind) for kind, _ in SAMPLES])
def test_each_documented_answer_is_read_whole(kind: type[Any], sample: object) -> None:
    value = codec.decode(encoded(sample), kind)
    if isinstance(value, wire.Row) and not isinstance(value, wire.SpotCandle):
        names = {field.encode_name for field in msgspec.structs.fields(value)}
        assert json.loads(encoded(sample)).keys() <= names


def test_decimals_are_exact_whether_text_or_number() -> None:
    order = codec.decode(encoded(ORDER), wire.OrderRow)
    assert order.filled_quantity == D("5.000000000000000001")
    assert order.filled_amount == D("9.25")
    long = encoded(ORDER).replace(b"9.25", b"0.12345678901234567890123")
    assert codec.decode(long, wire.OrderRow).filled_amount == D("0.12345678901234567890123")


def test_ids_are_text_though_they_come_as_numbers() -> None:
    trade = codec.decode(encoded(TRADE), wire.TradeRow)
    assert trade.page_id == "32164924331503616"
    assert codec.decode(encoded(ORDER | {"id": 123}), wire.OrderRow).id == "123"


def test_an_id_of_theirs_can_be_sent_back() -> None:
    ids = codec.decode(b'{"id": 5, "clientOrderId": "bot1"}', wire.OrderIds)
    body = wire.CancelSomeBody(order_ids=(ids.id,), client_order_ids=(ids.client_order_id,))
    assert codec.encode(body) == b'{"orderIds":["5"],"clientOrderIds":["bot1"]}'


def test_an_order_in_a_state_that_we_do_not_know_is_still_an_order() -> None:
    assert codec.decode(encoded(ORDER | {"state": "PENDING_MAGIC"}), wire.OrderRow).state == "PENDING_MAGIC"


def test_text_from_the_exchange_is_harmless() -> None:
    activity = codec.decode(
        encoded(samples.ACTIVITY | {"description": "\x1b]52;c;\u202e" + "x" * 2000}), wire.ActivityRow
    )
    assert activity.description is not None
    assert activity.description.isprintable()
    assert len(activity.description) <= wire.TEXT_LENGTH_MAX
    assert codec.decode_refusal(encoded({"code": 1, "message": "a\x1bb"})) == (1, "ab")
    assert codec.decode_addresses(encoded({"B\x1bTC": "b\nxt"})) == {"BTC": "bxt"}
    cancel = codec.decode(encoded(samples.CANCEL | {"clientOrderId": "a\x1b[31m"}), wire.CancelRow)
    assert cancel.client_order_id == "a[31m"


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999999999", "1e-99999", "", "1.2.3", "9" * 70, True]
)
def test_a_number_that_no_money_has_is_a_bad_reply(number: object) -> None:
    with pytest.raises(BadReply):
        codec.decode(encoded(ORDER | {"price": number}), wire.OrderRow)
    with pytest.raises(BadReply):
        codec.decode_order_book(encoded(BOOK | {"asks": [number, "1"]}))


def test_a_book_is_read_out_of_its_flat_list() -> None:
    book = codec.decode_order_book(encoded(BOOK))
    assert book.asks == ((D("46100"), D("1.5")), (D("46101"), D("0.3")))
    assert book.bids == ((D("46099.99"), D(2)),)
    with pytest.raises(BadReply, match="half levels"):
        codec.decode_order_book(encoded(BOOK | {"asks": ["1", "2", "3"]}))


def test_one_row_is_read_with_or_without_an_array_around_it() -> None:
    assert codec.decode_one(encoded([MARKET]), wire.SpotMarket) == RULES
    assert codec.decode_one(b" " + encoded(MARKET), wire.SpotMarket) == RULES
    for rows in ([], [MARKET, MARKET]):
        with pytest.raises(BadReply, match="rows where one was expected"):
            codec.decode_one(encoded(rows), wire.SpotMarket)


def test_a_market_that_cannot_be_read_does_not_stop_the_others() -> None:
    assert codec.decode_markets(encoded([{"symbol": "NEW"}, MARKET])) == {"BTC_USDT": RULES}
    with pytest.raises(BadReply, match="no readable market"):
        codec.decode_markets(encoded([{"symbol": "NEW"}]))
    assert codec.decode_markets(b"[]") == {}


def test_currencies_come_by_their_names() -> None:
    both = [CURRENCY, {"ETH": CURRENCY["BTC"] | {"id": 267}}]
    assert {name: row.id for name, row in codec.decode_currencies(encoded(both)).items()} == {"BTC": 28, "ETH": 267}
    assert codec.decode_currencies(encoded(CURRENCY)).keys() == {"BTC"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"code":21301,"message":"Order not found"}', (21301, "Order not found")),
        (b'{"code":"21301"}', (21301, "")),
        (b"<html>\x1b</html>", (None, "<html></html>")),
        (b"", (None, "")),
        (b"[]", (None, "[]")),
        (b"\xff\xfe", (None, "\ufffd\ufffd")),
    ],
)
def test_a_refusal_is_read_or_shown(body: bytes, expected: tuple[int | None, str]) -> None:
    assert codec.decode_refusal(body) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[type[Any], bytes]:
    """Return a documented answer in which one thing was changed: a value, a key, or a byte."""
    kind, sample = draw(st.sampled_from(SAMPLES))
    body = json.loads(encoded(sample))
    holder = draw(st.sampled_from(list(_holders(body))))
    keys: list[Any] = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
    key: Any = draw(st.sampled_from(keys)) if keys else None
    if key is not None:
        if draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = draw(values)
    raw = bytearray(json.dumps(body).encode())
    if draw(st.booleans()):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return kind, bytes(raw)


def _holders(value: object) -> Iterator[Any]:
    if isinstance(value, dict | list):
        holder = cast("dict[Any, Any] | list[Any]", value)
        yield holder
        for inner in [*holder.values()] if isinstance(holder, dict) else holder:
            yield from _holders(inner)


@given(reply=mutated())
@settings(max_examples=800, deadline=None)
def test_a_mutated_answer_is_a_typed_value_or_a_bad_reply(reply: tuple[type[Any], bytes]) -> None:
    kind, body = reply
    readers = (codec.decode, codec.decode_one)
    for read in readers:
        try:
            value = read(body, kind)
        except BadReply:
            continue
        assert_bounded(value)


def assert_bounded(value: object) -> None:
    """Assert that every number and text in `value` is one that can be printed."""
    if isinstance(value, wire.Row):
        for name in value.__struct_fields__:
            assert_bounded(getattr(value, name))
    elif isinstance(value, Decimal):
        assert len(f"{value:f}") < 200
    elif isinstance(value, wire.ExchangeId):
        assert value.isprintable()
        assert len(value) <= wire.ID_LENGTH_MAX


@given(body=st.binary(max_size=80))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@settings(deadline=None)
def test_any_bytes_are_a_typed_value_or_a_bad_reply(body: bytes) -> None:
    readers: list[Callable[[bytes], object]] = [
        codec.decode_markets,
        codec.decode_currencies,
        codec.decode_addresses,
        codec.decode_order_book,
        *(partial(codec.decode_one, kind=kind) for kind, _ in SAMPLES[:4]),
    ]
    for read in readers:
        try:
            read(body)
        except BadReply:
            continue
    codec.decode_refusal(body)


# --- asking


def test_a_query_leaves_out_what_is_none_and_writes_booleans_small() -> None:
    params = {"limit": 0, "symbol": None, "hideCancel": True, "states": "FILLED,CANCELED", "x": ""}
    assert codec.query(params) == "limit=0&hideCancel=true&states=FILLED%2CCANCELED&x="


def test_a_page_becomes_its_parameters() -> None:
    page = wire.Page(limit=5, from_id="7", direction="PRE", start_ms=1, end_ms=2)
    assert codec.query(codec.page_params(page)) == "limit=5&from=7&direction=PRE&startTime=1&endTime=2"
    assert codec.query(codec.page_params(wire.Page())) == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a?b", "%2e", "cid:", "cid:a/b", "ü", "x" * 65, "a\n"])
def test_a_name_that_would_change_the_path_is_refused(name: str) -> None:
    with pytest.raises(NotListed):
        codec.path(wire.ORDER, id=name)


def test_an_order_is_named_by_either_id() -> None:
    assert codec.path(wire.ORDER, id=codec.by_id("123").text) == "/orders/123"
    assert codec.path(wire.ORDER_TRADES, id="123") == "/orders/123/trades"
    assert codec.path(wire.CANCEL, id=codec.by_client_id("a_B-1").text) == "/orders/cid:a_B-1"


# --- sending


def test_a_limit_order_always_says_that_it_is_one() -> None:
    assert codec.encode(codec.order_body(limit_order(), RULES)) == (
        b'{"symbol":"BTC_USDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","accountType":"SPOT",'
        b'"price":"20000","quantity":"0.01","clientOrderId":"b1"}'
    )


def test_a_market_buy_takes_an_amount_and_a_market_sell_a_quantity() -> None:
    buy, sell = (sent(codec.order_body(market_order(side), RULES)) for side in (Side.BUY, Side.SELL))
    assert (buy["type"], buy["amount"], buy.get("quantity"), buy.get("price")) == ("MARKET", "5", None, None)
    assert (sell["type"], sell["quantity"], sell.get("amount"), sell.get("price")) == ("MARKET", "0.01", None, None)


def test_all_that_an_order_can_say_is_said() -> None:
    body = sent(
        codec.order_body(
            market_order(Side.SELL, self_trade="NONE", slippage_tolerance=D("0.01"), allow_borrow=True), RULES
        )
    )
    assert (body["stpMode"], body["slippageTolerance"], body["allowBorrow"]) == ("NONE", "0.01", True)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (limit_order(price=D("20000.001")), r"price 20000\.001 has more than 2 decimals"),
        (limit_order(quantity=D("0.0000011")), r"quantity 0\.0000011 has more than 6 decimals"),
        (market_order(Side.BUY, amount=D("5.001")), r"amount 5\.001 has more than 2 decimals"),
        (limit_order(price=D(0)), "price 0 is not above 0"),
        (limit_order(price=D(-1)), "price -1 is not above 0"),
        (limit_order(price=D("NaN")), "price NaN is not above 0"),
        (limit_order(quantity=D("Infinity")), "is not above 0"),
        (limit_order(quantity=D("1e50")), "longer than 40 characters"),
        (limit_order(price=D("1e-50")), "longer than 40 characters"),
        (limit_order(price=D("10"), quantity=D("0.09")), r"price x quantity 0\.90 < minimum 1"),
        (limit_order(quantity=D(101)), "quantity 101 > maximum 100"),
        (limit_order(price=D(20_000), quantity=D(51)), "price x quantity 1020000 > maximum 1000000"),
        (market_order(Side.BUY, amount=D("0.99")), r"amount 0\.99 < minimum 1"),
        (market_order(Side.BUY, amount=None), "a MARKET BUY order needs amount"),
        (market_order(Side.BUY, quantity=D(1)), "a MARKET BUY order takes no quantity"),
        (market_order(Side.SELL, quantity=None), "a MARKET SELL order needs quantity"),
        (market_order(Side.SELL, amount=D(5)), "a MARKET SELL order takes no amount"),
        (market_order(Side.SELL, price=D(5)), "a MARKET SELL order takes no price"),
        (limit_order(price=None), "a LIMIT BUY order needs price"),
        (limit_order(amount=D(5)), "a LIMIT BUY order takes no amount"),
        (limit_order(type="LIMIT_MAKER", time_in_force="IOC"), "LIMIT_MAKER with IOC"),
        (limit_order(slippage_tolerance=D("0.1")), "only market orders"),
        (market_order(Side.SELL, slippage_tolerance=D(1)), "slippage tolerance 1"),
        (limit_order(symbol="ETH_USDT"), "ETH_USDT: checked against the rules of BTC_USDT"),
        (limit_order(client_id=""), "client id ''"),
        (limit_order(client_id="a b"), "client id 'a b'"),
        (limit_order(client_id="x" * 65), "1 to 64 characters"),
    ],
)
def test_an_order_that_the_exchange_would_refuse_is_not_sent(order: wire.NewOrder, message: str) -> None:
    with pytest.raises(OrderRefusedHere, match=message):
        codec.order_body(order, RULES)


def test_the_smallest_quantity_is_kept() -> None:
    rules = codec.decode(
        encoded(MARKET | {"symbolTradeLimit": MARKET["symbolTradeLimit"] | {"minQuantity": "0.002"}}), wire.SpotMarket
    )
    with pytest.raises(OrderRefusedHere, match=r"BTC_USDT: quantity 0\.001 < minimum 0\.002"):
        codec.order_body(limit_order(quantity=D("0.001")), rules)


def test_zeros_at_the_end_are_no_decimals_and_bounds_are_inside() -> None:
    body = sent(codec.order_body(limit_order(price=D("40000.50000"), quantity=D("1E-4")), RULES))
    assert (body["price"], body["quantity"]) == ("40000.50000", "0.0001")
    codec.order_body(limit_order(price=D(1), quantity=D(1)), RULES)
    codec.order_body(limit_order(price=D(10_000), quantity=D(100)), RULES)


prices = st.decimals(allow_nan=True, allow_infinity=True) | st.decimals("0.01", 10**6, places=2)


@given(price=prices, quantity=prices | st.decimals("0.000001", 100, places=6))
def test_what_is_sent_is_within_every_bound(price: Decimal, quantity: Decimal) -> None:
    try:
        body = sent(codec.order_body(limit_order(price=price, quantity=quantity), RULES))
    except OrderRefusedHere:
        return
    limit = RULES.symbol_trade_limit
    assert D(body["price"]) == price
    assert D(body["quantity"]) == quantity
    assert price == round(price, limit.price_scale)
    assert quantity == round(quantity, limit.quantity_scale)
    assert limit.min_quantity <= quantity <= limit.max_quantity
    assert limit.min_amount <= price * quantity <= limit.max_amount


def test_smart_orders_say_when_they_trigger() -> None:
    stop = sent(codec.smart_order_body(smart_order(operator="LTE"), RULES))
    assert (stop["type"], stop["stopPrice"], stop["operator"], stop["quantity"]) == ("STOP", "19000", "LTE", "0.01")
    assert "timeInForce" not in stop
    limit = sent(codec.smart_order_body(smart_order(type="STOP_LIMIT", price=D(18_900), time_in_force="FOK"), RULES))
    assert (limit["price"], limit["timeInForce"]) == ("18900", "FOK")
    trailing = smart_order(type="TRAILING_STOP_LIMIT", trailing_offset=wire.Offset(value=D(2), is_percent=True))
    trailing = msgspec.structs.replace(trailing, limit_offset=wire.Offset(value=D(50)))
    body = sent(codec.smart_order_body(trailing, RULES))
    assert (body["trailingOffset"], body["limitOffset"]) == ("2%", "50")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (smart_order(stop_price=D("1.001")), r"stop price 1\.001 has more than 2 decimals"),
        (smart_order(price=D(1)), "takes no price"),
        (smart_order(type="STOP_LIMIT"), "needs price"),
        (smart_order(type="TRAILING_STOP"), "trailing offset belongs to trailing orders"),
        (smart_order(trailing_offset=wire.Offset(value=D(1))), "this is STOP"),
        (smart_order(limit_offset=wire.Offset(value=D(1))), "limit offset belongs to TRAILING_STOP_LIMIT"),
        (smart_order(type="TRAILING_STOP_LIMIT", quantity=None), "takes a quantity"),
        (
            smart_order(type="TRAILING_STOP", trailing_offset=wire.Offset(value=D("0.001"))),
            r"trailing offset 0\.001 has more than 2 decimals",
        ),
        (smart_order(type="TRAILING_STOP", trailing_offset=wire.Offset(value=D(0), is_percent=True)), "not above 0"),
        (smart_order(client_id="ä"), "client id"),
    ],
)
def test_a_smart_order_that_the_exchange_would_refuse_is_not_sent(order: wire.NewSmartOrder, message: str) -> None:
    with pytest.raises(OrderRefusedHere, match=message):
        codec.smart_order_body(order, RULES)


def test_a_replacement_says_only_what_changes() -> None:
    change = wire.Replacement(client_id="b2", price=D("19000"), proceeds_on_failure=True)
    assert sent(codec.replace_body(change, RULES)) == {
        "price": "19000",
        "clientOrderId": "b2",
        "proceedOnFailure": True,
    }
    smart = wire.Replacement(client_id="b2", stop_price=D(5))
    assert sent(codec.replace_body(smart, RULES, is_smart=True)) == {"clientOrderId": "b2", "stopPrice": "5"}
    with pytest.raises(OrderRefusedHere, match="stop price 5 of an order that is not a smart one"):
        codec.replace_body(smart, RULES)
    with pytest.raises(OrderRefusedHere, match="more than 2 decimals"):
        codec.replace_body(wire.Replacement(client_id="b2", price=D("1.001")), RULES)


def test_F14_a_replacement_whose_cancel_fails_places_nothing_unless_that_is_asked_for() -> None:
    change = wire.Replacement(client_id="b2", price=D("19000"))
    assert not codec.replace_body(change, RULES).proceed_on_failure
    assert sent(codec.replace_body(change, RULES)) == {"price": "19000", "clientOrderId": "b2"}


def test_an_empty_filter_never_cancels_everything() -> None:
    assert sent(codec.cancel_all_body(["BTC_USDT"])) == {"symbols": ["BTC_USDT"], "accountTypes": ["SPOT"]}
    assert sent(codec.cancel_all_body(None)) == {"symbols": [], "accountTypes": ["SPOT"]}
    for symbols in ((), "BTC_USDT"):
        with pytest.raises(OrderRefusedHere, match="cancel everything"):
            codec.cancel_all_body(symbols)


@pytest.mark.parametrize(("timeout_s", "text"), [(10, "10"), (600, "600"), (None, "-1")])
def test_the_kill_switch_is_armed_within_its_bounds(timeout_s: int | None, text: str) -> None:
    assert sent(codec.kill_switch_body(timeout_s)) == {"timeout": text}


@pytest.mark.parametrize("timeout_s", [9, 601, 0, -1])
def test_the_kill_switch_is_not_armed_beyond_its_bounds(timeout_s: int) -> None:
    with pytest.raises(OrderRefusedHere, match=f"kill switch of {timeout_s} s: 10 to 600 s"):
        codec.kill_switch_body(timeout_s)


def test_the_text_of_a_futures_refusal_is_read_by_its_own_name() -> None:
    assert codec.decode_refusal(b'{"code":10016,"msg":"Market closed"}').text == "Market closed"
