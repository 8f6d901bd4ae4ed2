from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.simulated.accounts import AccountType, Funding
from bot.exchange.simulated.futures_positions import RATE
from bot.exchange.simulated.futures_rest import ROUTES
from bot.exchange.simulated.replies import Request
from tests.exchange.simulated.builders import RECORDINGS
from tests.exchange.simulated.futures_builders import NOW_NS, PERP, USDT, Floor, keys

NOW_MS = NOW_NS // 10**6
ETH_PERP = "ETH_USDT_PERP"
DOCUMENTED = keys(
    "GET/v3/market/allInstruments GET/v3/market/instruments GET/v3/market/orderBook GET/v3/market/trades "
    "GET/v3/market/tickers GET/v3/market/openInterest GET/v3/market/insurance GET/v3/market/limitPrice "
    "GET/v3/market/liquidationOrder GET/v3/market/candles GET/v3/market/indexPriceCandlesticks "
    "GET/v3/market/markPriceCandlesticks GET/v3/market/premiumIndexCandlesticks GET/v3/market/markPrice "
    "GET/v3/market/indexPrice GET/v3/market/indexPriceComponents GET/v3/market/fundingRate "
    "GET/v3/market/fundingRate/history GET/v3/market/riskLimit GET/v3/account/balance GET/v3/account/bills "
    "POST/v3/trade/order POST/v3/trade/orders DELETE/v3/trade/order DELETE/v3/trade/batchOrders "
    "DELETE/v3/trade/allOrders POST/v3/trade/position POST/v3/trade/positionAll GET/v3/trade/order/opens "
    "GET/v3/trade/order/history GET/v3/trade/order/details GET/v3/trade/order/trades GET/v3/trade/position/opens "
    "GET/v3/trade/position/history GET/v3/position/leverages POST/v3/position/leverage GET/v3/position/mode "
    "POST/v3/position/mode POST/v3/trade/position/margin GET/v3/position/riskLimit"
)


def public(floor: Floor, path: str, query: str = "") -> Any:
    return floor.get(f"/market/{path}", query, number=None)


def test_every_documented_call_is_served_and_no_other() -> None:
    assert {method + path for method, path in ROUTES} == DOCUMENTED


# --- the envelope


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/market/tickers", 405),
        ("GET", "/trade/order", 405),
        ("GET", "/position/switchIsolated", 404),  # gone
    ],
)
def test_what_is_not_served_has_an_envelope_too(method: str, path: str, code: int) -> None:
    assert Floor().refused(method, path) == code


def test_a_bad_signature_is_401_with_its_text() -> None:
    floor = Floor()
    request = floor.request("GET", "/v3/account/balance")
    for headers in ({}, {**request.headers, "signature": "x"}, {**request.headers, "key": "nobody"}):
        reply = floor.wing.answer(request._replace(headers=headers))
        assert (reply.status, msgspec.json.decode(reply.body)["code"]) == (401, 401)
    assert floor.wing.answer(request).status == 200


def test_public_calls_need_no_key() -> None:
    floor = Floor()
    for method, path in sorted(ROUTES):
        if path.startswith("/v3/market"):
            query = f"symbol={PERP}&interval=MINUTE_1"
            assert floor.ask(method, path.removeprefix("/v3"), query, number=None)["code"] == 200, path


def test_a_trailing_slash_is_routed() -> None:
    assert Floor().get("/market/allInstruments/", number=None)


def test_a_delete_takes_an_empty_object_for_nothing() -> None:
    floor = Floor()
    floor.order("BUY", 1, 60_000)
    request = floor.request("DELETE", "/v3/trade/allOrders", "", b"{}")
    assert len(msgspec.json.decode(floor.wing.answer(request).body)["data"]) == 1


def vectors() -> list[Any]:
    path = RECORDINGS.parent / "poloniex" / "signing-vectors.json"
    if not path.is_file():
        pytest.skip(f"skipped: no signing vectors at {path}")
    return [each for each in msgspec.json.decode(path.read_bytes())["vectors"] if each["path"].startswith("/v3")]


def test_the_signing_vectors_are_let_in() -> None:
    seen = 0
    for vector in vectors():
        floor = Floor(clients=0)
        floor.accounts.open(Funding(vector["key"], vector["secret"], {}, {}), NOW_NS)
        headers = {
            "key": vector["key"],
            "signtimestamp": vector["timestamp"],
            "signature": vector["expected_signature"],
        }
        request = Request(
            vector["method"], vector["wire_path"], vector["query_string"], headers, vector["body"].encode(), 0.0, ""
        )
        is_let_in = floor.wing.answer(request).status != 401
        assert is_let_in == (vector["server_policy"] == "accept"), vector["id"]
        seen += 1
    assert seen >= 14


fields = st.sampled_from(
    [
        "symbol",
        "side",
        "type",
        "sz",
        "px",
        "mgnMode",
        "posSide",
        "clOrdId",
        "ordId",
        "lever",
        "ordIds",
        "symbols",
        "amt",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from([PERP, "BUY", "LIMIT", "60000", "1", "CROSS", "BOTH", "ADD"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=3),
    max_leaves=6,
)
private_routes = st.sampled_from(sorted(route for route in ROUTES if not route[1].startswith("/v3/market")))


@given(private_routes, st.dictionaries(fields, values, max_size=6) | values)
def test_any_body_is_answered_with_an_envelope(route: tuple[str, str], body: Any) -> None:
    floor = Floor()
    content = msgspec.json.encode(body)
    reply = floor.wing.answer(floor.request(*route, "", content))
    answer = msgspec.json.decode(reply.body)
    assert answer.keys() == {"code", "msg", "data"}
    assert reply.status == 200
    assert answer["code"] in (200, 400, 10001, 10016, 10017, 11008, 10018, 21001, 21721, 10002)


public_routes = st.sampled_from(sorted(path for _, path in ROUTES if path.startswith("/v3/market")))
parameters = st.dictionaries(
    st.sampled_from(["symbol", "limit", "interval", "sTime", "eTime", "from", "direct", "scale", "sT", "tier"]),
    st.sampled_from([PERP, "1", "5", "-1", "x", "", "MINUTE_1", "1e3", "99999999999999999999", "NEXT", "\u0663"]),
)


@given(public_routes, parameters)
def test_any_query_is_answered_with_an_envelope(path: str, query: dict[str, str]) -> None:
    reply = Floor().wing.answer(Request("GET", path, urlencode(query), {}, b"", 0.0, ""))
    assert (reply.status, msgspec.json.decode(reply.body)["code"]) in [(200, 200), (200, 400), (200, 10001)]


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"1", b'"{}"', b"\xff", b"[" * 10_000, b'{"symbol":1}'])
def test_nonsense_is_refused_with_400(body: bytes) -> None:
    floor = Floor()
    for path in ("/v3/trade/order", "/v3/position/leverage", "/v3/trade/position"):
        reply = floor.wing.answer(floor.request("POST", path, "", body))
        assert (reply.status, msgspec.json.decode(reply.body)["code"]) == (200, 400)


def test_too_many_calls_are_429_by_limit() -> None:
    floor = Floor()
    floor.door._has_limits = True

    def codes(request: Request, times: int) -> list[int]:
        return [floor.wing.answer(request).status for _ in range(times)]

    assert codes(floor.request("GET", "/v3/position/mode"), 11) == [200] * 10 + [429]
    assert codes(floor.request("GET", "/v3/position/mode", number=1), 1) == [200]
    reply = floor.wing.answer(floor.request("GET", "/v3/position/mode"))
    assert msgspec.json.decode(reply.body)["code"] == 429


# --- market data


def test_an_instrument_is_listed_as_clients_read_it() -> None:
    floor = Floor(symbols=(PERP, ETH_PERP))
    row, _ = public(floor, "allInstruments")
    assert row == public(floor, "instruments", f"symbol={PERP}")
    assert row.keys() == keys(
        "symbol bAsset bCcy qCcy visibleStartTime tradableStartTime sCcy tSz pxScale lotSz minSz ctVal status oDate "
        "maxPx minPx maxQty minQty maxLever lever ctType alias iM mM mR buyLmt sellLmt ordPxRange marketMaxQty "
        "limitMaxQty tFee mFee"
    )
    assert (row["symbol"], row["bAsset"], row["ctVal"], row["tSz"]) == (PERP, ".PXBTCUSDT", "0.001", "0.01")
    assert (row["alias"], row["status"], row["ctType"], row["pxScale"]) == ("", "OPEN", "LINEAR", "0.01,0.1,1,10")
    assert (row["lever"], row["maxLever"], row["mM"], row["tFee"]) == ("20", "75", "0.006", "0.0005")


def test_a_symbol_that_is_not_listed_is_10001() -> None:
    floor = Floor()
    assert floor.refused("GET", "/market/instruments", query="symbol=BTC_USDT", number=None) == 10001
    assert floor.refused("GET", "/market/orderBook", number=None) == 400


def test_the_order_book_is_nested_and_in_contracts() -> None:
    floor = Floor()
    floor.order("BUY", 7, 59_990)
    book = public(floor, "orderBook", f"symbol={PERP}&limit=5")
    assert book == {"asks": [["60001", "1000"]], "bids": [["59999", "1000"], ["59990", "7"]], "s": "0.01", "ts": NOW_MS}
    assert public(floor, "orderBook", f"symbol={PERP}&scale=10")["bids"] == [["59990", "1007"]]
    for query in ("limit=7", "scale=0", "scale=x"):
        assert floor.refused("GET", "/market/orderBook", query=f"symbol={PERP}&{query}", number=None) == 400


def test_trades_are_newest_first_and_lower_case() -> None:
    floor = Floor()
    floor.order("BUY", 2)
    floor.order("SELL", 3)
    sell, buy = public(floor, "trades", f"symbol={PERP}")
    assert sell.keys() == keys("id side px qty amt cT")
    assert (sell["side"], sell["px"], sell["qty"], sell["amt"]) == ("sell", "59999", "3", "179.997")
    assert buy["id"] < sell["id"]


def test_tickers_are_always_an_array_with_mark_and_index() -> None:
    floor = Floor()
    (row,) = public(floor, "tickers", f"symbol={PERP}")
    assert row.keys() >= keys("s o l h c qty amt tC sT cT dN dC bPx bSz aPx aSz mPx iPx")
    assert (row["mPx"], row["iPx"], row["tC"], row["dN"]) == ("60000", "60000", 0, "BTC/USDT/PERP")


def test_candles_are_low_first_and_those_of_mark_open_first() -> None:
    floor = Floor()
    floor.trade(60_010, 2, "buy")
    floor.trade(59_990, 3, "sell")
    (candle,) = public(floor, "candles", f"symbol={PERP}&interval=HOUR_1")
    start = NOW_MS // 3_600_000 * 3_600_000
    times = [str(start), str(start + 3_599_999)]
    assert candle == ["59990", "60010", "60010", "59990", "299.99", "5", "2", *times]
    floor.book(60_099, 60_101, at_s=2)
    (mark,) = public(floor, "markPriceCandlesticks", f"symbol={PERP}&interval=HOUR_1")
    assert mark == ["60000", "60100", "60000", "60100", *times]
    assert floor.refused("GET", "/market/candles", query=f"symbol={PERP}&interval=MINUTE_2", number=None) == 400


@pytest.mark.parametrize("names", [("sTime", "eTime"), ("startTime", "endTime")])
def test_candle_times_have_two_names(names: tuple[str, str]) -> None:
    floor = Floor()
    for minute in range(5):
        floor.trade(60_000, 1, "buy", at_s=60 * minute)
    start, end = (NOW_MS + 60_000 * minute for minute in (1, 3))
    query = f"symbol={PERP}&interval=MINUTE_1&{names[0]}={start}&{names[1]}={end}"
    assert len(public(floor, "candles", query)) == 2
    assert len(public(floor, "candles", f"symbol={PERP}&interval=MINUTE_1&limit=3")) == 3
    assert len(public(floor, "candles", f"symbol={PERP}&interval=HOUR_8")) == 1


def test_mark_and_index_are_objects_for_one_symbol_and_arrays_for_all() -> None:
    floor = Floor()
    assert public(floor, "markPrice", f"symbol={PERP}") == {"s": PERP, "mPx": "60000"}
    assert public(floor, "indexPrice") == [{"s": PERP, "iPx": "60000"}]
    (components,) = public(floor, "indexPriceComponents", f"symbol={PERP}")
    assert components["cs"] == [{"e": "POLONIEX", "sPx": "60000", "w": "1", "cPx": "60000"}]


def test_funding_history_takes_seconds_and_milliseconds() -> None:
    floor = Floor()
    floor.wing.feed.markets[PERP].prices.injected_rate = RATE // 1_000
    for _ in range(3):
        due_ns = floor.wing.due_ns
        assert due_ns is not None
        floor.wing.advance(due_ns)
    rows = public(floor, "fundingRate/history", f"symbol={PERP}")
    assert [row["fR"] for row in rows] == ["0.001"] * 3
    last_ms = rows[0]["fT"]
    assert last_ms % 28_800_000 == 0
    for start in (last_ms, last_ms // 1_000):
        assert public(floor, "fundingRate/history", f"symbol={PERP}&sT={start}") == rows[:1]


def test_open_interest_counts_each_contract_once() -> None:
    floor = Floor()
    floor.order("SELL", 5, 60_000, number=1)
    floor.order("BUY", 7, 60_001)
    assert public(floor, "openInterest", f"symbol={PERP}") == {"s": PERP, "oInterest": "7"}


def test_risk_limits_are_tiers() -> None:
    floor = Floor()
    rows = public(floor, "riskLimit", f"symbol={PERP}&mgnMode=CROSS")
    assert rows[0] == {
        "symbol": PERP,
        "mgnMode": "CROSS",
        "tier": "1",
        "maxLever": "75",
        "mMRatio": "0.006",
        "maxSize": "40000",
        "minSize": "0",
    }
    assert public(floor, "riskLimit", f"symbol={PERP}&mgnMode=CROSS&tier=1") == rows[:1]
    assert floor.get("/position/riskLimit", f"symbol={PERP}&mgnMode=CROSS") == rows


# --- private rows


def test_an_order_row_has_every_documented_key() -> None:
    floor = Floor()
    order_id = floor.order(
        "BUY", 3, 60_000, clOrdId="mine", reduceOnly=False, timeInForce="GTC", stpMode="EXPIRE_TAKER"
    )
    (row,) = floor.get("/trade/order/opens")
    assert row == floor.get("/trade/order/details", "clOrdId=mine")
    assert row.keys() == keys(
        "symbol side type ordId clOrdId mgnMode posSide px sz lever state source reduceOnly timeInForce tpTrgPx tpPx "
        "tpTrgPxType slTrgPx slPx slTrgPxType avgPx execQty execAmt feeCcy feeAmt deductCcy deductAmt stpMode cTime "
        "uTime qCcy cancelReason"
    )
    assert (row["ordId"], row["px"], row["sz"], row["lever"], row["state"]) == (order_id, "60000", "3", "20", "NEW")
    assert (row["reduceOnly"], row["posSide"], row["mgnMode"], row["cTime"]) == (False, "BOTH", "CROSS", str(NOW_MS))
    assert all(isinstance(value, str) for name, value in row.items() if name != "reduceOnly")


def test_a_position_row_has_every_documented_key_and_plain_numbers() -> None:
    floor = Floor()
    floor.order("SELL", 100)
    (row,) = floor.get("/trade/position/opens", f"symbol={PERP}")
    assert row.keys() >= keys(
        "symbol posSide side mgnMode openAvgPx qty availQty lever adl liqPx im mm mgn upl uplRatio pnl markPx lastPx "
        "indexPx mgnRatio state cTime uTime actType maxWAmt tpTrgPx slTrgPx"
    )
    assert (row["side"], row["qty"], row["openAvgPx"], row["markPx"]) == ("SELL", "100", "59999", "60000")
    assert (row["im"], row["mm"], row["upl"], row["mgn"]) == ("300", "36", "-0.1", "0")
    assert floor.get("/trade/position/opens", f"symbol={PERP}", number=1) == []


def test_available_contracts_are_those_that_no_order_closes() -> None:
    floor = Floor()
    floor.order("BUY", 10)
    floor.order("SELL", 4, 61_000, reduceOnly=True)
    assert floor.get("/trade/position/opens")[0]["availQty"] == "6"


def test_the_balance_adds_up_as_the_page_says() -> None:
    floor = Floor(symbols=(PERP, ETH_PERP))
    floor.order("BUY", 100)
    floor.order("SELL", 50, symbol=ETH_PERP, mgnMode="ISOLATED")
    floor.order("BUY", 10, 59_000)
    row = floor.get("/account/balance")
    (coin,) = row["details"]
    number = {name: float(value) for name, value in coin.items() if name != "ccy"}
    assert number["eq"] == pytest.approx(number["avail"] + number["upl"])
    assert number["isoEq"] == pytest.approx(number["isoAvail"] + number["isoUpl"] + number["isoHold"])
    assert float(row["availMgn"]) == pytest.approx(number["eq"] - number["im"])
    assert number["mmr"] == pytest.approx(number["mm"] / number["eq"], abs=1e-8)
    assert (row["state"], coin["ccy"]) == ("NORMAL", "USDT")


def test_lists_are_paged_newest_first() -> None:
    floor = Floor()
    ids = [floor.order("BUY", 1, 59_000 + at) for at in range(15)]
    newest = list(reversed(ids))

    def page(query: str = "") -> list[str]:
        return [row["ordId"] for row in floor.get("/trade/order/opens", query)]

    assert page() == newest[:10]
    assert page(f"from={newest[9]}&direct=NEXT") == newest[10:]
    assert page(f"from={newest[9]}&direct=PREV&limit=2") == newest[7:9]
    assert page("limit=100&side=SELL") == []
    for query in ("limit=101", "limit=0", "direct=UP", "from=x"):
        assert floor.refused("GET", "/trade/order/opens", query=query) == 400


def test_history_is_filtered_and_forgets_unfilled_orders_after_four_hours() -> None:
    floor = Floor()
    floor.order("BUY", 1)
    canceled = floor.order("BUY", 1, 59_000)
    floor.do("DELETE", "/trade/allOrders")
    path = "/trade/order/history"
    assert [row["state"] for row in floor.get(path)] == ["CANCELED", "FILLED"]
    assert [row["state"] for row in floor.get(path, "state=FILLED%2CCANCELED&symbol=BTC_USDT_PERP")] == [
        "CANCELED",
        "FILLED",
    ]
    assert [row["type"] for row in floor.get(path, "type=MARKET")] == ["MARKET"]
    assert floor.get(path, f"eTime={NOW_MS - 1}") == []
    floor.book(at_s=4 * 3_600 + 1)
    assert [row["state"] for row in floor.get(path)] == ["FILLED"]
    assert floor.refused("GET", "/trade/order/details", query=f"ordId={canceled}") == 11008


def test_fills_are_filtered_by_order_and_side() -> None:
    floor = Floor()
    order_id = floor.order("BUY", 1)
    floor.order("SELL", 1)
    path = "/trade/order/trades"
    assert [row["ordId"] for row in floor.get(path, f"ordId={order_id}")] == [order_id]
    assert [row["side"] for row in floor.get(path, "side=SELL&sTime=1&limit=100&direct=NEXT")] == ["SELL"]


def test_bills_tell_every_movement() -> None:
    floor = Floor()
    floor.order("BUY", 10)
    floor.order("SELL", 10)
    rows = floor.get("/account/bills")
    assert rows[0].keys() == keys("id actType symbol mgnMode posSide ccy sz cTime type")
    assert [(row["type"], row["sz"]) for row in rows] == [("FEE", "-0.299995"), ("PNL", "-0.02"), ("FEE", "-0.300005")]
    assert floor.refused("GET", "/account/bills", query="type=GIFT") == 400


def test_transfers_are_bills() -> None:
    floor = Floor()
    account = floor.accounts.clients[0]
    floor.order("BUY", 1)
    floor.spot.desk.transfer(account, AccountType.FUTURES, AccountType.SPOT, "USDT", 5 * USDT)
    rows = floor.get("/account/bills")
    assert sorted((row["type"], row["sz"]) for row in rows) == [("FEE", "-0.0300005"), ("TRANSFER", "-5")]
    assert [row["type"] for row in floor.get("/account/bills", "type=transfer")] == ["TRANSFER"]


def test_the_price_limit_is_the_one_that_orders_are_refused_by() -> None:
    floor = Floor()
    (limit,) = floor.get("/market/limitPrice", f"symbol={PERP}", number=None)
    mark = Decimal(floor.get("/market/markPrice", f"symbol={PERP}", number=None)["mPx"])
    assert Decimal(limit["sellLmt"]) < mark < Decimal(limit["buyLmt"])
    tick = Decimal("0.01")
    for side, price, beyond in (("BUY", limit["buyLmt"], tick), ("SELL", limit["sellLmt"], -tick)):
        body = {"symbol": PERP, "side": side, "type": "LIMIT", "sz": "1", "px": price}
        assert floor.do("POST", "/trade/order", body)
        assert floor.refused("POST", "/trade/order", body | {"px": str(Decimal(price) + beyond)}) == 10002
