"""What the official SDKs do, by a client that is not ours; source: the dossier, README and spot-rest.md."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.exchange.clients.raw_client import Answer, RawRest, RawSocket, signature
from tests.exchange.clients.served import Served, exchange_process

BTC = "BTC_USDT"
PERP = "BTC_USDT_PERP"
OPEN_S = 5.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with exchange_process(tmp_path_factory.mktemp("exchange"), "--account", "own-key:own-secret") as process:
        yield process.served


@pytest.fixture
def rest(served: Served) -> RawRest:
    return RawRest(served.rest, served.accounts[0].key, served.accounts[0].secret)


def order(price: str = "40000.50000", **changes: Any) -> str:
    """Return an order as the Python SDK writes it: with spaces."""
    fields = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": price, "quantity": "0.0010", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def placed(rest: RawRest, price: str = "40000.50000", **changes: Any) -> str:
    answer = rest.ask("POST", "/orders", body=order(price, **changes))
    assert answer.status == 200, answer
    return answer.body["id"]


def living(rest: RawRest) -> set[str]:
    return {row["id"] for row in rest.ask("GET", "/orders", {"symbol": BTC}).body}


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + OPEN_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


# --- REST


def test_it_prints_one_line_for_two_accounts_and_ours(served: Served) -> None:
    assert [account.key for account in served.accounts[2:]] == ["own-key"]
    assert all(account.spot == {"USDT": 10_000, "BTC": 1} for account in served.accounts)
    assert all(account.futures == {"USDT": 10_000} for account in served.accounts)


@pytest.mark.parametrize(
    "path", ["/markets/", "/currencies/", "/v2/currencies/", "/markets/BTC_USDT/trades/", "/timestamp/"]
)
def test_a_public_path_may_end_in_a_slash(rest: RawRest, path: str) -> None:
    assert rest.send("GET", path).status == rest.send("GET", path.rstrip("/")).status == 200


@pytest.mark.parametrize("path", ["/accounts/", "/feeinfo/", "/trades/", "/orders/", "/v3/trade/order/opens/"])
def test_a_private_path_may_end_in_a_slash_and_is_signed_as_sent(rest: RawRest, path: str) -> None:
    assert rest.ask("GET", path).status == rest.ask("GET", path.rstrip("/")).status == 200


def test_no_user_agent_is_needed_here_and_other_headers_do_no_harm(rest: RawRest) -> None:
    answer = rest.ask("GET", "/feeinfo", signatureMethod="HmacSHA256", signatureVersion="2", recvWindow="5000")
    assert answer.status == 200
    assert answer.body["takerRate"] == "0.00155"


def test_trailing_zeros_are_no_decimals(rest: RawRest) -> None:
    order_id = placed(rest)
    row = rest.ask("GET", f"/orders/{order_id}").body
    assert (row["price"], row["quantity"], row["state"]) == ("40000.5", "0.001", "NEW")
    assert rest.ask("POST", "/orders", body=order("40000.50001")).body["code"] == 21335
    assert rest.ask("POST", "/orders", body=order(quantity="0.00100001")).body["code"] == 21336


def test_numbers_may_be_numbers(rest: RawRest) -> None:
    body = '{"symbol": "BTC_USDT", "side": "BUY", "type": "LIMIT", "price": 40000.50, "quantity": 0.001}'
    order_id = rest.ask("POST", "/orders", body=body).body["id"]
    assert rest.ask("GET", f"/orders/{order_id}").body["price"] == "40000.5"


def test_a_client_id_stands_in_the_path(rest: RawRest) -> None:
    order_id = placed(rest, clientOrderId="raw-1")
    assert rest.ask("GET", "/orders/cid:raw-1").body["id"] == order_id
    assert rest.ask("POST", "/orders", body=order(clientOrderId="raw-1")).body["code"] == 21312
    answer = rest.ask("DELETE", "/orders/cid:raw-1")
    assert (answer.status, answer.body["orderId"], answer.body["state"]) == (200, order_id, "PENDING_CANCEL")


def test_a_delete_with_a_body_signs_the_body(rest: RawRest) -> None:
    ids = [placed(rest) for _ in range(2)]
    answer = rest.ask("DELETE", "/orders/cancelByIds", body=json.dumps({"orderIds": ids}))
    assert [row["orderId"] for row in answer.body] == ids
    until(lambda: not living(rest) & set(ids))


@pytest.mark.parametrize(
    "body",
    [
        {"symbol": BTC},
        {"symbol": [BTC]},
        {"symbols": BTC},
        {"symbols": [BTC], "accountTypes": ["SPOT"]},
        {"symbol": BTC, "accountType": "SPOT"},
        {},
        None,
    ],
)
def test_cancel_all_reads_every_name(rest: RawRest, body: Any) -> None:
    order_id = placed(rest)
    other = rest.ask("POST", "/orders", body=order("100", symbol="ETH_USDT", quantity="0.5")).body["id"]
    rows = rest.ask("DELETE", "/orders", body=None if body is None else json.dumps(body)).body
    named = {row["orderId"] for row in rows}
    assert order_id in named
    assert (other in named) is not bool(body)  # a filter that is not understood would cancel everything
    rest.ask("DELETE", "/orders")


def test_a_query_is_signed_raw_and_sent_encoded(rest: RawRest) -> None:
    answer = rest.ask("GET", "/trades", {"symbols": "BTC_USDT,ETH_USDT", "limit": "5"})
    assert (answer.status, answer.body) == (200, [])


def test_a_wrong_signature_is_refused(rest: RawRest, served: Served) -> None:
    wrong = RawRest(served.rest, served.accounts[0].key, "wrong")
    assert wrong.ask("GET", "/accounts") == Answer(401, {"code": 401, "message": "Invalid signature"})
    futures = wrong.ask("GET", "/v3/account/balance")
    assert (futures.status, futures.body["code"], futures.body["msg"]) == (401, 401, "Invalid signature")
    assert wrong.send("GET", "/accounts").status == 401


def test_markets_and_smart_orders_are_arrays_of_one(rest: RawRest) -> None:
    assert [row["symbol"] for row in rest.send("GET", "/markets/BTC_USDT").body] == [BTC]
    smart = order("40000", type="STOP_LIMIT", stopPrice="41000", side="SELL")
    order_id = rest.ask("POST", "/smartorders", body=smart).body["id"]
    assert [row["id"] for row in rest.ask("GET", f"/smartorders/{order_id}").body] == [order_id]


def test_a_market_order_is_the_default(rest: RawRest) -> None:
    order_id = placed(rest, type=None, price="40000", amount="5", quantity=None)
    row = rest.ask("GET", f"/orders/{order_id}").body
    assert (row["type"], row["state"], row["amount"]) == ("MARKET", "FILLED", "5")


# --- futures


def test_futures_say_no_with_status_200(rest: RawRest) -> None:
    answer = rest.send("GET", "/v3/market/instruments?symbol=NOPE")
    assert (answer.status, answer.body["code"], answer.body["data"]) == (200, 10001, None)


@pytest.mark.parametrize("way", ["query", "body"])
def test_a_futures_delete_takes_a_query_or_a_body(rest: RawRest, way: str) -> None:
    # The SDK always sends these three, on market orders too.
    fields = {"reduceOnly": False, "timeInForce": "GTC", "stpMode": "NONE"}
    body = json.dumps({"symbol": PERP, "side": "buy", "type": "limit", "px": "50000.0", "sz": "1", **fields})
    answer = rest.ask("POST", "/v3/trade/order", body=body)
    assert (answer.status, answer.body["code"]) == (200, 200)
    order_id = answer.body["data"]["ordId"]
    assert answer.body["data"]["clOrdId"] == f"polo{order_id}"
    named = {"symbol": PERP, "ordId": order_id}
    query, text = (named, None) if way == "query" else (None, json.dumps(named))
    answer = rest.ask("DELETE", "/v3/trade/order", query, text)
    assert (answer.body["code"], answer.body["data"]["ordId"]) == (200, order_id)
    assert rest.ask("DELETE", "/v3/trade/order", query, text).body["code"] == 11008


def test_leverage_may_be_a_number_without_a_position_side(rest: RawRest) -> None:
    body = json.dumps({"symbol": PERP, "lever": 7, "mgnMode": "CROSS"})
    assert rest.ask("POST", "/v3/position/leverage", body=body).body["data"]["lever"] == "7"
    query = {"symbol": PERP, "mgnMode": "CROSS"}
    assert {row["lever"] for row in rest.ask("GET", "/v3/position/leverages", query).body["data"]} == {"7"}


# --- sockets


def auth(served: Served, stamp: Callable[[int], object], secret: str | None = None) -> dict[str, Any]:
    account = served.accounts[1]
    now_ms = int(time.time() * 1000)
    signed = signature(secret or account.secret, f"GET\n/ws\nsignTimestamp={now_ms}")
    params = {"key": account.key, "signTimestamp": stamp(now_ms), "signature": signed}
    return {"event": "subscribe", "channel": ["auth"], "params": params}


@pytest.mark.parametrize("path", ["/ws/private", "/ws/v3/private"])
@pytest.mark.parametrize("stamp", [int, str])
def test_subscribing_does_not_wait_for_the_answer_to_auth(served: Served, path: str, stamp: Any) -> None:
    with closing(RawSocket(served.ws + path)) as raw:
        raw.say(**auth(served, stamp))
        raw.say(event="subscribe", channel=["orders"], symbols=["all"])
        first = raw.hear_text()
        assert '"channel":"auth"' in first  # the Java SDK looks for this text
        assert json.loads(first)["data"]["success"] is True
        assert raw.hear() == {"event": "subscribe", "channel": "orders", "symbols": ["ALL"]}


@pytest.mark.parametrize("path", ["/ws/private", "/ws/v3/private"])
def test_failed_authentication_stays_open(served: Served, path: str) -> None:
    with closing(RawSocket(served.ws + path)) as raw:
        raw.say(**auth(served, int, "wrong"))
        assert raw.hear()["data"]["success"] is False
        raw.say(event="subscribe", channel=["orders"], symbols=["all"])
        assert raw.hear()["event"] == "error"
        raw.say(**auth(served, int))
        assert raw.hear()["data"]["success"] is True


@pytest.mark.parametrize("path", ["/ws/public", "/ws/v3/public/", "/ws/private", "/ws/v3/private"])
def test_a_frame_that_was_encoded_twice_is_refused_and_the_connection_lives(served: Served, path: str) -> None:
    with closing(RawSocket(served.ws + path)) as raw:
        raw.say_text(json.dumps(json.dumps({"event": "subscribe", "channel": ["ticker"], "symbols": [BTC]})))
        assert raw.hear()["event"] == "error"
        raw.say(event="ping")
        assert raw.hear_text() == '{"event":"pong"}'


def test_symbols_may_be_lower_case(served: Served) -> None:
    with closing(RawSocket(served.ws + "/ws/public/")) as raw:
        raw.say(event="subscribe", channel=["book_lv2"], symbols=["btc_usdt"])
        assert raw.hear() == {"event": "subscribe", "channel": "book_lv2", "symbols": [BTC]}
        assert raw.hear()["action"] == "snapshot"


def test_the_sdks_own_symbols_do_no_harm(served: Served) -> None:
    with closing(RawSocket(served.ws + "/ws/v3/public")) as raw:
        raw.say(event="subscribe", channel=["tickers"], symbols=[PERP, ""])
        assert raw.hear() == {"event": "subscribe", "channel": "tickers", "symbols": [PERP]}
        raw.say(event="subscribe", channel=["trades"], symbols=[PERP, PERP])
        while (frame := raw.hear()).get("event") != "subscribe":
            pass
        assert frame == {"event": "subscribe", "channel": "trades", "symbols": [PERP]}


def test_an_order_by_socket_is_told_once_and_answered(served: Served) -> None:
    with closing(RawSocket(served.ws + "/ws/private")) as raw:
        raw.say(**auth(served, str))
        raw.say(event="subscribe", channel=["orders", "balances"], symbols=["all"])
        raw.say(id=7, event="createOrder", params=json.loads(order(clientOrderId="by-socket")))
        frames = [raw.hear() for _ in range(6)]
        (answer,) = [frame for frame in frames if "id" in frame]
        (done,) = answer["data"]
        assert (answer["id"], done["clientOrderId"], done["code"], done["message"]) == ("7", "by-socket", 200, "")
        (told,) = [frame["data"][0] for frame in frames if frame.get("channel") == "orders" and "data" in frame]
        assert (told["eventType"], told["state"], told["orderId"]) == ("place", "NEW", done["orderId"])
        assert (told["tradeId"], told["price"]) == ("0", "40000.5")
        (held,) = [frame["data"][0] for frame in frames if frame.get("channel") == "balances" and "data" in frame]
        assert (held["eventType"], held["currency"], held["hold"]) == ("place_order", "USDT", "40.0005")
        raw.say(id="8", event="cancelAllOrders", params={})
        assert raw.hear_channel("orders")["data"][0]["state"] == "CANCELED"
        raw.say(id="9", event="createOrder", params=json.loads(order(quantity="9999")))
        while (frame := raw.hear()).get("id") != "9":
            pass
        (refused,) = frame["data"]
        assert (refused["orderId"], refused["clientOrderId"], refused["code"]) == (0, None, 21721)
