from __future__ import annotations

from typing import Any

import pytest

from bot.exchange.simulated.events import BookSnapshot
from bot.exchange.simulated.futures_positions import RATE
from tests.exchange.simulated.futures_builders import PERP, Floor, usdt

ETH_PERP = "ETH_USDT_PERP"


def hedged() -> Floor:
    floor = Floor()
    floor.do("POST", "/position/mode", {"posMode": "HEDGE"})
    return floor


def long_(side: str, contracts: int, price: int | None = None) -> dict[str, Any]:
    return Floor.order_body(side, contracts, price, mgnMode="CROSS", posSide="LONG")


def short(side: str, contracts: int, price: int | None = None) -> dict[str, Any]:
    return Floor.order_body(side, contracts, price, mgnMode="CROSS", posSide="SHORT")


# --- orders and their ends


def test_a_market_order_fills_against_the_market_at_its_prices() -> None:
    floor = Floor()
    order_id = floor.order("BUY", 10)
    assert floor.state(order_id) == ("FILLED", "10", "")
    (fill,) = floor.get("/trade/order/trades")
    assert (fill["px"], fill["qty"], fill["sz"], fill["role"]) == ("60001", "10", "10", "TAKER")
    assert (fill["value"], fill["feeAmt"], fill["feeRate"]) == ("600.01", "0.300005", "0.0005")
    assert floor.position() == ("BUY", "10")


def test_clients_trade_with_each_other_in_price_and_time() -> None:
    floor = Floor()
    first, second = (floor.order("SELL", 5, 60_000, number=number) for number in (0, 1))
    taker = floor.order("BUY", 7, 60_000, number=2)
    assert floor.state(taker, number=2) == ("FILLED", "7", "")
    assert floor.state(first) == ("FILLED", "5", "")
    assert floor.state(second, number=1) == ("PARTIALLY_FILLED", "2", "")
    assert [row["role"] for row in floor.get("/trade/order/trades")] == ["MAKER"]
    assert floor.position(number=2) == ("BUY", "7")


def test_a_resting_order_is_filled_by_the_market_as_maker() -> None:
    floor = Floor()
    order_id = floor.order("BUY", 5, 60_000)
    floor.trade(60_000, 3, "sell")
    assert floor.state(order_id) == ("PARTIALLY_FILLED", "3", "")
    (fill,) = floor.get("/trade/order/trades")
    assert (fill["role"], fill["feeRate"]) == ("MAKER", "0.0002")


@pytest.mark.parametrize(
    ("further", "state"),
    [
        ({"timeInForce": "GTC"}, ("PARTIALLY_FILLED", "1000", "")),
        ({"timeInForce": "IOC"}, ("PARTIALLY_CANCELED", "1000", "LIMIT_MATCH_IOC_ORDER_CANNOT_FILLED")),
        ({"timeInForce": "FOK"}, ("CANCELED", "0", "LIMIT_MATCH_FOK_ORDER_MAKER_INSUFFICIENT_AVAILABLE_QUANTITY")),
        ({"type": "LIMIT_MAKER"}, ("CANCELED", "0", "LIMIT_MAKER_ORDER_INCORRECT_PRICE_CONDITION")),
    ],
)
def test_what_is_left_goes_by_time_in_force(further: dict[str, Any], state: tuple[str, str, str]) -> None:
    floor = Floor()
    assert floor.state(floor.order("BUY", 1_500, 60_001, **further)) == state


def test_a_post_only_order_that_does_not_take_rests() -> None:
    floor = Floor()
    assert floor.state(floor.order("BUY", 1, 60_000, type="limit_maker")) == ("NEW", "0", "")


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        ("NONE", ("FILLED", "1", ""), ("FILLED", "1", "")),
        ("EXPIRE_TAKER", ("NEW", "0", ""), ("CANCELED", "0", "LIMIT_MATCH_ORDER_TAKER_SELF_TRADE")),
        ("EXPIRE_MAKER", ("CANCELED", "0", "LIMIT_MATCH_ORDER_TAKER_SELF_TRADE"), ("NEW", "0", "")),
        (
            "EXPIRE_BOTH",
            ("CANCELED", "0", "LIMIT_MATCH_ORDER_TAKER_SELF_TRADE"),
            ("CANCELED", "0", "LIMIT_MATCH_ORDER_TAKER_SELF_TRADE"),
        ),
    ],
)
def test_self_trade_goes_by_the_takers_mode(mode: str, maker: tuple[str, ...], taker: tuple[str, ...]) -> None:
    floor = Floor()
    resting = floor.order("SELL", 1, 60_000)
    incoming = floor.order("BUY", 1, 60_000, stpMode=mode)
    assert (floor.state(resting), floor.state(incoming)) == (maker, taker)


def test_an_order_that_trades_with_itself_leaves_no_position_and_two_fees() -> None:
    floor = Floor()
    floor.order("SELL", 1, 60_000)
    floor.order("BUY", 1, 60_000)
    assert floor.position() is None
    assert floor.get("/account/balance")["eq"] == "9999.958"


# --- refusals


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "DOGE_USDT_PERP"}, 10001),
        ({"symbol": ""}, 400),
        ({"side": "HOLD"}, 400),
        ({"type": "STOP"}, 400),
        ({"type": ""}, 400),
        ({"timeInForce": "GTX"}, 400),
        ({"stpMode": "MAYBE"}, 400),
        ({"sz": "0"}, 400),
        ({"sz": "1.5"}, 400),
        ({"sz": "-1"}, 400),
        ({"sz": None}, 400),
        ({"sz": "2000000"}, 400),
        ({"px": "60000.001"}, 400),
        ({"px": "0"}, 400),
        ({"px": "1e4"}, 400),
        ({"px": None}, 400),
        ({"px": "63001"}, 10002),  # 5 % beyond the mark
        ({"type": "LIMIT_MAKER", "timeInForce": "IOC"}, 400),
        ({"clOrdId": "a b"}, 400),
        ({"clOrdId": "x" * 65}, 400),
        ({"posSide": "LONG"}, 400),
        ({"posSide": "UP"}, 400),
        ({"mgnMode": "BOTH"}, 400),
        ({"reduceOnly": True}, 10018),
        ({"reduceOnly": "true"}, 10018),
        ({"sz": "40000"}, 21721),
        ({"sz": "400001"}, 400),  # more than the tier of 20 times allows
        ({"reduceOnly": 3}, 400),
    ],
)
def test_an_order_that_is_wrong_is_refused_with_its_code(changes: dict[str, Any], code: int) -> None:
    floor = Floor()
    body = {**floor.order_body("BUY", 1, 60_000), **changes}
    sent = {name: value for name, value in body.items() if value is not None}
    assert floor.refused("POST", "/trade/order", sent) == code
    assert floor.get("/trade/order/opens") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"px": "60000.000"},
        {"px": 60_000},
        {"px": 60000.0},
        {"sz": 1},
        {"sz": "1.0"},
        {"side": "buy", "type": "limit"},
        {"mgnMode": "cross"},
        {"mgnMode": "CROSS", "posSide": "BOTH"},
        {"posSide": ""},
        {"reduceOnly": "false"},
        {"unknown": [1]},
        {"px": "1"},
    ],
)
def test_what_clients_send_in_their_own_ways_is_taken(changes: dict[str, Any]) -> None:
    floor = Floor()
    floor.do("POST", "/trade/order", {**floor.order_body("BUY", 1, 60_000), **changes})
    assert len(floor.get("/trade/order/opens")) == 1


def test_C6_an_order_larger_than_the_contract_lists_is_refused() -> None:
    floor = Floor(limit_lots_max=20, market_lots_max=5)
    for size, most, price in ((21, 20, 60_000), (6, 5, None)):
        answer = floor.ask("POST", "/trade/order", body=floor.order_body("BUY", size, price))
        assert (answer["code"], answer["msg"]) == (400, f"sz {size} is not within 1 and {most}")
        floor.do("POST", "/trade/order", floor.order_body("BUY", most, price))


def test_a_market_order_needs_somebody_on_the_other_side() -> None:
    floor = Floor()
    floor.order("BUY", 1_000, number=1, mgnMode="CROSS")
    floor.order("SELL", 1_000, number=2)
    assert floor.refused("POST", "/trade/order", floor.order_body("BUY", 1)) == 10004
    assert floor.refused("POST", "/trade/order", floor.order_body("SELL", 1)) == 10003


def test_nothing_trades_before_there_is_a_price() -> None:
    assert Floor(is_open=False).refused("POST", "/trade/order", Floor.order_body("BUY", 1, 60_000)) == 10000


def test_a_clients_id_is_taken_for_ever() -> None:
    floor = Floor()
    body = floor.order_body("BUY", 1, 60_000, clOrdId="mine-1")
    floor.do("POST", "/trade/order", body)
    assert floor.refused("POST", "/trade/order", body) == 250
    floor.do("DELETE", "/trade/allOrders")
    assert floor.refused("POST", "/trade/order", body) == 250
    floor.do("POST", "/trade/order", body, number=1)


def test_an_order_without_a_clients_id_is_given_one() -> None:
    floor = Floor()
    placed = floor.do("POST", "/trade/order", floor.order_body("BUY", 1, 60_000))
    assert placed == {"ordId": placed["ordId"], "clOrdId": f"polo{placed['ordId']}"}


# --- batches and cancels


def test_a_batch_answers_each_order_apart() -> None:
    floor = Floor()
    both = {"mgnMode": "CROSS", "posSide": "BOTH"}
    good = floor.order_body("BUY", 1, 60_000, clOrdId="a", **both)
    bad = [floor.order_body("BUY", 0, 60_000, clOrdId="b", **both), floor.order_body("BUY", 1, 60_000), {"side": 3}]
    outcomes = floor.do("POST", "/trade/orders", [good, *bad])
    assert [outcome["code"] for outcome in outcomes] == [200, 400, 400, 400]
    assert (outcomes[0]["msg"], outcomes[0]["clOrdId"], outcomes[1]["clOrdId"]) == ("Success", "a", "b")
    assert "must be present and not empty" in outcomes[2]["msg"]
    assert floor.refused("POST", "/trade/orders", [good] * 11) == 10016
    assert floor.refused("POST", "/trade/orders", []) == 400


@pytest.mark.parametrize("names_client_id", [False, True])
@pytest.mark.parametrize("is_in_query", [False, True])
def test_a_cancel_takes_either_id_from_query_or_body(names_client_id: bool, is_in_query: bool) -> None:
    floor = Floor()
    placed = floor.do("POST", "/trade/order", floor.order_body("BUY", 1, 60_000, clOrdId="mine"))
    fields = {"symbol": PERP, **({"clOrdId": "mine"} if names_client_id else {"ordId": placed["ordId"]})}
    if is_in_query:
        answer = floor.ask("DELETE", "/trade/order", "&".join(f"{name}={value}" for name, value in fields.items()))
    else:
        answer = floor.ask("DELETE", "/trade/order", "", fields)
    assert answer["data"] == placed
    assert floor.state(placed["ordId"]) == ("CANCELED", "0", "USER_CANCEL_ORDER_ACTION")
    assert floor.refused("DELETE", "/trade/order", fields) == 11008


def test_a_cancel_that_lost_to_a_fill_finds_no_order() -> None:
    floor = Floor()
    order_id = floor.order("BUY", 1)
    assert floor.refused("DELETE", "/trade/order", {"symbol": PERP, "ordId": order_id}) == 11008
    assert floor.refused("DELETE", "/trade/order", {"symbol": PERP}) == 400
    assert floor.refused("DELETE", "/trade/order", {"ordId": order_id}, number=1) == 11008


def test_a_batch_of_cancels_answers_each_and_order_ids_win() -> None:
    floor = Floor()
    ids = [floor.order("BUY", 1, 60_000, clOrdId=name) for name in "ab"]
    outcomes = floor.do("DELETE", "/trade/batchOrders", {"symbol": PERP, "ordIds": [ids[0], "7"], "clOrdIds": ["b"]})
    assert [(outcome["code"], outcome["ordId"]) for outcome in outcomes] == [(200, ids[0]), (11008, "7")]
    (outcome,) = floor.do("DELETE", "/trade/batchOrders", {"symbol": PERP, "clOrdIds": ["b"]})
    assert (outcome["code"], outcome["clOrdId"], outcome["msg"]) == (200, "b", "Success")
    assert floor.refused("DELETE", "/trade/batchOrders", {"ordIds": ["1"] * 11}) == 10017
    assert floor.refused("DELETE", "/trade/batchOrders", {"symbol": PERP}) == 400


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        (None, 0),
        ({}, 0),
        ({"symbol": PERP}, 1),
        ({"symbols": [PERP]}, 1),
        ({"symbol": [ETH_PERP]}, 2),
        ({"symbols": []}, 0),
        ({"side": "SELL"}, 2),
        ({"symbol": PERP, "side": "buy"}, 2),
    ],
)
def test_cancel_all_honours_both_names_of_its_filter(fields: dict[str, Any] | None, left: int) -> None:
    floor = Floor(symbols=(PERP, ETH_PERP))
    floor.order("BUY", 1, 59_000)
    floor.order("SELL", 1, 61_000)
    floor.order("BUY", 1, 59_000, symbol=ETH_PERP)
    outcomes = floor.do("DELETE", "/trade/allOrders", fields)
    assert [outcome["code"] for outcome in outcomes] == [200] * (3 - left)
    assert len(floor.get("/trade/order/opens")) == left


# --- reduce-only, closing, hedge mode


def test_a_reduce_only_order_is_cut_to_the_position() -> None:
    floor = Floor()
    floor.order("BUY", 5)
    assert floor.refused("POST", "/trade/order", floor.order_body("BUY", 1, reduceOnly=True)) == 10018
    floor.order("SELL", 9, reduceOnly=True)
    assert floor.position() is None


def test_reduce_only_orders_together_never_flip_a_position() -> None:
    floor = Floor()
    floor.order("BUY", 5)
    first = floor.order("SELL", 3, 61_000, reduceOnly=True)
    second = floor.order("SELL", 9, 61_000, reduceOnly=True)
    assert floor.get("/trade/order/details", f"ordId={second}")["sz"] == "2"
    assert floor.refused("POST", "/trade/order", floor.order_body("SELL", 1, 61_000, reduceOnly=True)) == 10018
    floor.order("SELL", 3)  # an ordinary order takes of what they would close
    assert floor.state(second)[0] == "CANCELED"
    assert floor.state(first)[0] == "CANCELED"
    assert floor.position() == ("BUY", "2")


def test_an_order_beyond_the_position_flips_it() -> None:
    floor = Floor()
    floor.order("BUY", 5)
    floor.order("SELL", 8)
    assert floor.position() == ("SELL", "3")
    (past,) = floor.get("/trade/position/history")
    assert (past["side"], past["qty"], past["closedQty"], past["pnl"]) == ("BUY", "5", "5", "-0.01")
    assert (past["openAvgPx"], past["closeAvgPx"]) == ("60001", "59999")


def test_a_position_is_closed_at_the_market() -> None:
    floor = Floor()
    floor.order("SELL", 5)
    floor.order("BUY", 5, 59_000, reduceOnly=True)
    closed = floor.do("POST", "/trade/position", {"symbol": PERP, "mgnMode": "CROSS", "clOrdId": "bye"})
    assert closed["clOrdId"] == "bye"
    assert floor.position() is None
    assert floor.get("/trade/order/opens") == []
    assert floor.refused("POST", "/trade/position", {"symbol": PERP, "mgnMode": "CROSS"}) == 21001


def test_close_all_closes_every_position() -> None:
    floor = hedged()
    assert floor.do("POST", "/trade/positionAll") == []
    for body in (long_("BUY", 5), short("SELL", 3)):
        floor.do("POST", "/trade/order", body)
    assert [outcome["code"] for outcome in floor.do("POST", "/trade/positionAll")] == [200, 200]
    assert floor.position() is None


def test_hedge_mode_keeps_long_and_short_apart() -> None:
    floor = hedged()
    for body in (long_("BUY", 5), short("SELL", 3), long_("SELL", 2), short("BUY", 1)):
        floor.do("POST", "/trade/order", body)
    rows = floor.get("/trade/position/opens")
    assert [(row["posSide"], row["side"], row["qty"]) for row in rows] == [("LONG", "BUY", "3"), ("SHORT", "SELL", "2")]


def test_in_hedge_mode_closing_is_by_side_and_cut_to_the_position() -> None:
    floor = hedged()
    assert floor.refused("POST", "/trade/order", long_("SELL", 1)) == 10018
    floor.do("POST", "/trade/order", long_("BUY", 5))
    floor.do("POST", "/trade/order", long_("SELL", 9))
    assert floor.position() is None


@pytest.mark.parametrize(
    "fields", [{}, {"posSide": "LONG"}, {"mgnMode": "CROSS"}, {"mgnMode": "CROSS", "posSide": "BOTH"}]
)
def test_hedge_mode_requires_both_fields(fields: dict[str, Any]) -> None:
    assert hedged().refused("POST", "/trade/order", Floor.order_body("BUY", 1, **fields)) == 400


def test_the_position_mode_changes_only_without_positions_and_orders() -> None:
    floor = Floor()
    assert floor.get("/position/mode") == {"posMode": "ONE_WAY"}
    order_id = floor.order("BUY", 1, 60_000)
    assert floor.refused("POST", "/position/mode", {"posMode": "HEDGE"}) == 400
    assert floor.do("POST", "/position/mode", {"posMode": "ONE_WAY"}) == {}
    floor.do("DELETE", "/trade/order", {"ordId": order_id})
    assert floor.do("POST", "/position/mode", {"posMode": "HEDGE"}) == {}
    assert floor.get("/position/mode") == {"posMode": "HEDGE"}


def test_positions_and_orders_of_a_symbol_have_one_margin_mode() -> None:
    floor = Floor()
    floor.order("BUY", 1, mgnMode="ISOLATED", posSide="BOTH")
    assert floor.refused("POST", "/trade/order", floor.order_body("BUY", 1, mgnMode="CROSS")) == 400
    floor.order("BUY", 1)
    (row,) = floor.get("/trade/position/opens")
    assert (row["mgnMode"], row["qty"]) == ("ISOLATED", "2")


# --- leverage and margin


def test_leverage_is_kept_by_symbol_mode_and_side() -> None:
    floor = Floor()
    rows = floor.get("/position/leverages", f"symbol={PERP}")
    assert [(row["mgnMode"], row["posSide"], row["lever"]) for row in rows] == [
        ("CROSS", "BOTH", "20"),
        ("ISOLATED", "BOTH", "20"),
    ]
    body = {"symbol": PERP, "lever": 10, "mgnMode": "CROSS"}  # as ccxt sends it
    assert floor.do("POST", "/position/leverage", body) == {
        "symbol": PERP,
        "mgnMode": "CROSS",
        "posSide": "BOTH",
        "lever": "10",
    }
    (row,) = floor.get("/position/leverages", f"symbol={PERP}&mgnMode=CROSS")
    assert row["lever"] == "10"


@pytest.mark.parametrize(
    "body", [{"lever": "0"}, {"lever": "76"}, {"lever": "1.5"}, {"lever": "x"}, {"lever": "5", "posSide": "LONG"}]
)
def test_leverage_out_of_bounds_is_refused(body: dict[str, Any]) -> None:
    assert Floor().refused("POST", "/position/leverage", {"symbol": PERP, "mgnMode": "CROSS", **body}) == 400


def test_leverage_sets_the_margin_of_what_is_open() -> None:
    floor = Floor()
    floor.order("BUY", 100)
    assert floor.get("/trade/position/opens")[0]["im"] == "300"
    floor.do("POST", "/position/leverage", {"symbol": PERP, "lever": "10", "mgnMode": "CROSS", "posSide": "BOTH"})
    assert floor.get("/trade/position/opens")[0]["im"] == "600"


def test_leverage_that_the_account_cannot_bear_is_refused_and_changes_nothing() -> None:
    floor = Floor()
    floor.order("BUY", 500, mgnMode="ISOLATED")
    before = floor.get("/trade/position/opens")
    assert floor.refused("POST", "/position/leverage", {"symbol": PERP, "lever": "1", "mgnMode": "ISOLATED"}) == 21721
    assert floor.get("/trade/position/opens") == before
    floor.do("POST", "/position/leverage", {"symbol": PERP, "lever": "10", "mgnMode": "ISOLATED"})
    (after,) = floor.get("/trade/position/opens")
    assert (before[0]["mgn"], after["mgn"]) == ("1500.025", "3000.05")


def test_isolated_margin_can_be_added_and_taken_out_again() -> None:
    floor = Floor()
    floor.order("BUY", 100, mgnMode="ISOLATED")
    margin = {"symbol": PERP, "amt": "100", "type": "ADD"}
    answer = floor.do("POST", "/trade/position/margin", margin)
    assert answer == {"amt": "100", "lever": "20", "symbol": PERP, "posSide": "BOTH", "type": "ADD"}
    (row,) = floor.get("/trade/position/opens")
    assert (row["mgn"], row["maxWAmt"]) == ("400.005", "99.905")
    assert floor.refused("POST", "/trade/position/margin", {**margin, "type": "REDUCE"}) == 21721
    floor.do("POST", "/trade/position/margin", {**margin, "type": "reduce", "amt": 99, "posMode": "BOTH"})
    assert floor.refused("POST", "/trade/position/margin", {**margin, "amt": "100000"}) == 21721
    assert floor.refused("POST", "/trade/position/margin", {**margin, "amt": "0"}) == 400
    assert floor.refused("POST", "/trade/position/margin", {**margin, "type": "SET"}) == 400


def test_cross_positions_have_no_margin_to_move() -> None:
    floor = Floor()
    body = {"symbol": PERP, "amt": "1", "type": "ADD"}
    assert floor.refused("POST", "/trade/position/margin", body) == 21001
    floor.order("BUY", 1)
    assert floor.refused("POST", "/trade/position/margin", body) == 400


def test_working_orders_bind_margin_and_closing_ones_do_not() -> None:
    floor = Floor()
    floor.order("BUY", 1_000, 60_000)  # 3,000 of margin and 30 of fees
    balance = floor.get("/account/balance")
    assert (balance["availMgn"], balance["im"], balance["details"][0]["trdHold"]) == ("6970", "3030", "3030")
    assert floor.refused("POST", "/trade/order", floor.order_body("BUY", 2_500, 60_000)) == 21721
    floor.do("DELETE", "/trade/allOrders")
    assert floor.get("/account/balance")["availMgn"] == "10000"
    floor.order("BUY", 100)
    before = floor.get("/account/balance")["availMgn"]
    floor.order("SELL", 100, 61_000)
    assert floor.get("/account/balance")["availMgn"] == before


def test_only_what_is_free_can_be_transferred() -> None:
    floor = Floor()
    account = floor.accounts.clients[0]
    assert floor.wing.free_atoms(account, "USDT") == usdt("10000")
    floor.order("BUY", 1_000)
    # 3,000 of margin at the mark, 30.0005 of fees, and 1 lost to the spread.
    assert floor.wing.free_atoms(account, "USDT") == usdt("6968.9995")
    floor.book(69_999, 70_001, at_s=100)
    # The profit may not leave; the margin has grown with the mark.
    assert floor.wing.free_atoms(account, "USDT") == usdt("6469.9995")


# --- what time brings


def test_funding_is_paid_once_at_its_time() -> None:
    floor = Floor()
    floor.order("BUY", 100)
    floor.order("SELL", 50, number=1)
    floor.wing.feed.markets[PERP].prices.injected_rate = RATE // 1_000
    before = floor.worth_atoms()
    next_ns = floor.wing.due_ns
    assert next_ns is not None
    floor.wing.advance(next_ns - 1)
    assert floor.get("/trade/position/opens")[0]["fFee"] == "0"
    for _ in range(2):
        floor.wing.advance(next_ns)
    assert floor.get("/trade/position/opens")[0]["fFee"] == "-6"
    assert floor.get("/trade/position/opens", number=1)[0]["fFee"] == "3"
    (bill,) = floor.get("/account/bills", "type=FUNDING_FEE")
    assert (bill["sz"], bill["symbol"], bill["mgnMode"]) == ("-6", PERP, "CROSS")
    rate = floor.get("/market/fundingRate", f"symbol={PERP}")
    assert (rate["fR"], rate["fT"], rate["nFT"]) == ("0.001", next_ns // 10**6, next_ns // 10**6 + 8 * 3_600_000)
    assert floor.get("/market/fundingRate/history", f"symbol={PERP}") == [
        {"s": PERP, "fR": "0.001", "fT": next_ns // 10**6}
    ]
    assert floor.worth_atoms() == before == 0


def test_a_missed_funding_time_is_made_up_for_each_once() -> None:
    floor = Floor()
    floor.order("BUY", 100)
    floor.wing.feed.markets[PERP].prices.injected_rate = RATE // 1_000
    next_ns = floor.wing.due_ns
    assert next_ns is not None
    floor.book(at_s=(next_ns - 1_700_000_000 * 10**9) / 10**9 + 2 * 8 * 3_600)
    assert len(floor.get("/account/bills", "type=FUNDING_FEE")) == 3


@pytest.mark.parametrize("mode", ["CROSS", "ISOLATED"])
def test_a_lost_position_is_liquidated_at_its_bankruptcy_price(mode: str) -> None:
    floor = Floor()
    contracts = 3_000 if mode == "CROSS" else 500
    floor.do("POST", "/position/leverage", {"symbol": PERP, "lever": "20", "mgnMode": mode})
    floor.book(size=10_000, at_s=1)
    floor.order("BUY", contracts, mgnMode=mode)
    resting = floor.order("SELL", 1, 69_000)
    floor.wing.take()
    floor.book(50_000, 50_002, at_s=100)  # one that gaps far beyond the bankruptcy price
    assert floor.position() is None
    assert floor.state(resting)[0] == "CANCELED"
    account = floor.accounts.clients[0]
    standing = floor.wing.desk.standing(account)
    # Cross: all is gone. Isolated: only the margin of 1,500 and the fee of the order.
    assert standing.equity == (0 if mode == "CROSS" else usdt("10000") - usdt("1500.025") - usdt("15.00025"))
    (public,) = floor.get("/market/liquidationOrder", f"symbol={PERP}", number=None)
    assert (public["side"], public["sz"]) == ("SELL", str(contracts))
    (fill, *_) = floor.get("/trade/order/trades")
    assert (fill["type"], fill["px"]) == ("LIQUIDATION", public["bkPx"])
    assert {bill["type"] for bill in floor.get("/account/bills")} == {"FEE", "LIQ_PNL"}
    (fund,) = floor.get("/market/insurance", number=None)
    assert fund["amt"].startswith("-")
    assert floor.worth_atoms() == 0


def test_a_liquidation_before_bankruptcy_feeds_the_insurance_fund() -> None:
    floor = Floor()
    floor.order("BUY", 500, mgnMode="ISOLATED")
    (row,) = floor.get("/trade/position/opens")
    liquidation = int(float(row["liqPx"]))
    floor.book(liquidation - 1, liquidation + 1, at_s=100)
    assert floor.position() is None
    (fund,) = floor.get("/market/insurance", number=None)
    assert float(fund["amt"]) > 0
    assert floor.worth_atoms() == 0


def test_a_position_lives_a_little_above_its_liquidation_price() -> None:
    floor = Floor()
    floor.order("BUY", 500, mgnMode="ISOLATED")
    liquidation = int(float(floor.get("/trade/position/opens")[0]["liqPx"])) + 1
    floor.book(liquidation, liquidation + 2, at_s=100)
    assert floor.position() == ("BUY", "500")


def test_what_a_client_owes_with_nothing_left_is_paid_by_the_fund() -> None:
    floor = Floor()
    floor.book(size=10_000, at_s=1)
    floor.do("POST", "/position/leverage", {"symbol": PERP, "lever": "75", "mgnMode": "ISOLATED"})
    floor.order("BUY", 9_000, mgnMode="ISOLATED")
    # Nobody bids near the mark any more, until the next second tells.
    floor.wing.apply(BookSnapshot(floor.wing.feed.time_ns, PERP, ((5_000_000, 10_000),), ((6_000_100, 1),)))
    floor.do("POST", "/trade/positionAll")
    assert floor.wing.desk.standing(floor.accounts.clients[0]).equity < 0
    floor.book(at_s=10)
    assert floor.wing.desk.standing(floor.accounts.clients[0]).equity == 0
    assert floor.worth_atoms() == 0
