"""Fault schedules without sockets: how they are read, when they strike, and what is left when one is taken out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.errors import SettingsError
from bot.exchange.simulated import faults as f
from bot.exchange.simulated.generator import Chance
from bot.exchange.simulated.injector import End, FrameLine, Injector, Out, delay_s, garbage
from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.session import Session
from tests.exchange.simulated.builders import BTC, Json, parsed, trade, venue
from tests.exchange.simulated.futures_builders import PERP, Floor
from tests.exchange.simulated.traders import DELAY_NS, Exchange, Listener

DOCS = (Path(__file__).parents[3] / "docs" / "faults.md").read_text("utf-8")
EXAMPLES: list[Json] = [parsed(each) for each in re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)]
ANY_FRAME = b'{"channel":"trades","data":[{"symbol":"BTC_USDT"}]}'


def armed(*events: Json, seed: int = 1, now_s: float = 0.0) -> Injector:
    injector = Injector()
    injector.add(f.decode_schedule(msgspec.json.encode({"seed": seed, "faults": events}), "test"), now_s)
    return injector


def line(injector: Injector, path: str = "/ws/public") -> FrameLine:
    return FrameLine(injector, path)


def sent(
    made: FrameLine, *frames: bytes, channel: str = "trades", account: str = "", now_s: float = 0.0
) -> list[Out | End]:
    return list(made.send(frames, channel, account, now_s))


def payloads(steps: Sequence[Out | End]) -> list[bytes]:
    return [step.payload for step in steps if isinstance(step, Out)]


def numbered(count: int) -> list[bytes]:
    return [b"%d" % at for at in range(count)]


def struck(injector: Injector) -> list[int]:
    return [report.struck for report in injector.report(0.0).faults]


# --- reading


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example["kind"]))
def test_each_documented_example_strikes(example: Json) -> None:
    injector = armed(example)
    live_through(injector, seconds=120)
    (report,) = injector.report(120.0).faults
    assert report.struck > 0
    assert report.matched >= report.struck


def live_through(injector: Injector, seconds: int) -> None:
    lines = [line(injector, path) for path in ("/ws/public", "/ws/private")]
    for tenth in range(seconds * 10):
        now_s = tenth / 10
        for method, path in [("POST", "/orders"), ("GET", "/markets"), ("POST", "/v3/trade/order"), ("GET", "/orders")]:
            injector.request(method, path, "key", now_s)
            injector.refusal(method, path, now_s)
        injector.refuses_takers(now_s)
        injector.skew_ms("timestamp", now_s)
        injector.skew_ms("signatures", now_s)
        injector.fill_lots("key", 10, now_s)
        for begun in injector.begin(now_s):
            for each in lines:
                each.strike(begun, "key", now_s)
        for each in lines:
            for channel in ("answers", "book_lv2", "trades", "ticker", "orders"):
                sent(each, ANY_FRAME, channel=channel, now_s=now_s)


def test_every_kind_is_documented() -> None:
    assert {example["kind"] for example in EXAMPLES} == set(f.KINDS)


def test_the_documented_file_is_read() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    schedule = f.decode_schedule(toml.encode(), "docs", is_toml=True)
    assert schedule.seed == 7
    assert [type(event) for event in schedule.faults] == [f.LostAnswer, f.Maintenance]


def test_a_schedule_is_a_value() -> None:
    written = msgspec.json.encode({"seed": 3, "faults": EXAMPLES})
    schedule = f.decode_schedule(written, "test")
    assert f.decode_schedule(msgspec.json.encode(schedule), "again") == schedule
    assert f.decode_schedule(msgspec.json.encode(EXAMPLES), "list") == msgspec.structs.replace(schedule, seed=1)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"kind": "cut", "code": 3}, "faults[0].code: 3 is wrong: expected `int` >= 1000"),
        ({"kind": "cut", "probability": 1.5}, "faults[0].probability: 1.5 is wrong: expected `float` <= 1.0"),
        ({"kind": "cut", "every": 0}, "faults[0].every: 0 is wrong: expected `int` >= 1"),
        ({"kind": "cut", "for_s": 0}, "faults[0].for_s: 0 is wrong: expected `float` > 0.0"),
        ({"kind": "cut", "at_s": "1"}, "faults[0].at_s: '1' is wrong: expected `float`, got `str`"),
        ({"kind": "cut", "delay": 1}, "faults[0].delay: cut has no such key; it has at_s, for_s, account"),
        ({"kind": "lost_request", "ends": "x"}, "faults[0].ends: 'x' must be one of 'close', 'reset', 'silence'"),
        ({"kind": "clock_skew"}, "faults[0].offset_ms: is missing"),
        ({"kind": "flood"}, "faults[0].kind: 'flood' must be one of request_latency, answer_latency"),
        ({"at_s": 1}, "faults[0].kind: is missing and must be one of request_latency"),
        (3, "faults[0]: 3 must be a table with kind"),
        ({"kind": "frame_latency", "delay": {"shape": "flat"}}, "faults[0].delay.shape: 'flat' must be one of fixed"),
        (
            {"kind": "frame_latency", "delay": {"shape": "uniform", "from_s": 2, "to_s": 1}},
            "faults[0].delay.from_s: 2 must be <= to_s 1",
        ),
        (
            {"kind": "frame_latency", "delay": {"shape": "fixed", "s": -1}},
            "faults[0].delay.s: -1 is wrong: expected `float` >= 0.0",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_value_and_bound(raw: object, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        f.decode_schedule(msgspec.json.encode([raw]), "faults.json")
    (only,) = caught.value.problems
    assert only.startswith(f"faults.json: {problem}")


def test_every_mistake_is_named() -> None:
    raw = {"speed": 1, "seed": "x", "faults": [{"kind": "cut", "code": 1, "at_s": -1}, {"kind": "reset"}, {}]}
    with pytest.raises(SettingsError) as caught:
        f.decode_schedule(msgspec.json.encode(raw), "faults.json")
    places = [problem.split(": ")[1] for problem in caught.value.problems]
    assert places == ["speed", "seed", "faults[0].code", "faults[0].at_s", "faults[2].kind"]


@pytest.mark.parametrize(
    ("data", "is_toml"),
    [
        *((data, False) for data in (b"{", b"\xff", b"3", b'{"faults":3}', b"[" * 100_000)),
        (msgspec.json.encode([{"kind": "cut"}] * (f.EVENTS_MAX + 1)), False),
        *((data, True) for data in (b"=", b"\xff")),
        *((b'[[faults]]\nkind="cut"\n' + data, True) for data in (b"at_s=nan", b"for_s=inf")),
    ],
)
def test_what_is_no_schedule_is_refused(data: bytes, is_toml: bool) -> None:
    with pytest.raises(SettingsError):
        f.decode_schedule(data, "faults", is_toml=is_toml)


# --- when a fault strikes


def test_the_same_seed_strikes_the_same_and_another_one_differently() -> None:
    def strikes(seed: int) -> list[bool]:
        injector = armed({"kind": "dropped_frame", "probability": 0.5}, seed=seed)
        made = line(injector)
        return [not sent(made, ANY_FRAME) for _ in range(64)]

    assert strikes(1) == strikes(1)
    assert strikes(1) != strikes(2)


def test_leaving_one_fault_out_does_not_change_when_the_others_strike() -> None:
    drop = {"kind": "dropped_frame", "probability": 0.3}
    double = {"kind": "duplicate_frame", "probability": 0.3}

    def doubled(*events: Json) -> set[bytes]:
        out = payloads(sent(line(armed(*events)), *numbered(200)))
        return {payload for payload in out if out.count(payload) == 2}

    alone, beside = doubled(double), doubled(drop, double)
    assert beside < alone
    assert alone - beside <= set(numbered(200)) - set(payloads(sent(line(armed(drop)), *numbered(200))))


def test_a_window_is_open_from_its_beginning_to_before_its_end_counted_from_the_schedule() -> None:
    injector = armed({"kind": "dropped_frame", "at_s": 2, "for_s": 3}, now_s=10)
    made = line(injector)
    gone = [now_s for now_s in (11.9, 12.0, 14.9, 15.0) if not sent(made, ANY_FRAME, now_s=now_s)]
    assert gone == [12.0, 14.9]
    states = [injector.report(now_s).faults[0].state for now_s in (11.9, 12.0, 15.0)]
    assert states == ["waiting", "active", "over"]


def test_every_and_count_bound_the_strikes() -> None:
    injector = armed({"kind": "dropped_frame", "every": 3, "count": 2})
    assert payloads(sent(line(injector), *numbered(12))) == [b"%d" % at for at in range(12) if at not in (2, 5)]
    assert injector.report(0.0).faults[0].state == "over"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, True),
        ({"path": "/orders"}, True),
        ({"path": "/orders/1"}, False),
        ({"method": "POST"}, True),
        ({"method": "GET"}, False),
        ({"account": "ann"}, True),
        ({"account": "bob"}, False),
    ],
)
def test_a_request_is_struck_by_path_method_and_account(target: Json, expected: bool) -> None:
    fate = armed({"kind": "lost_answer", **target}).request("POST", "/orders", "ann", 0.0)
    assert (fate.lost_answer is not None) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"channel": "trades"}, True),
        ({"channel": "answers"}, False),
        ({"path": "/ws/public"}, True),
        ({"path": "/ws/v3"}, False),
        ({"account": "ann"}, True),
        ({"account": "bob"}, False),
    ],
)
def test_a_frame_is_struck_by_channel_path_and_account(target: Json, expected: bool) -> None:
    out = sent(line(armed({"kind": "dropped_frame", **target})), ANY_FRAME, account="ann")
    assert (not out) is expected


# --- requests


def test_the_fate_of_a_request_adds_delays_and_keeps_the_first_answer() -> None:
    fixed = {"delay": {"shape": "fixed", "s": 0.25}}
    injector = armed(
        {"kind": "request_latency", **fixed},
        {"kind": "request_latency", **fixed},
        {"kind": "answer_latency", **fixed},
        {"kind": "server_error", "status": 500},
        {"kind": "too_many_requests", "retry_after_s": 9},
        {"kind": "server_error", "status": 502, "is_executed": True},
        {"kind": "slow_answer", "bytes_per_s": 5},
    )
    fate = injector.request("POST", "/orders", "", 0.0)
    assert (fate.request_delay_s, fate.answer_delay_s, fate.bytes_per_s) == (0.5, 0.25, 5)
    assert fate.instead is not None
    assert (fate.instead.status, parsed(fate.instead.body)["code"]) == (500, 500)
    assert fate.afterwards is not None
    assert (fate.afterwards.status, fate.afterwards.body[:6]) == (502, b"<html>")


def test_too_many_requests_speak_the_language_of_their_market() -> None:
    injector = armed({"kind": "too_many_requests", "retry_after_s": 3})
    spot = injector.request("GET", "/markets", "", 0.0)
    futures = injector.request("GET", "/v3/market/tickers", "", 0.0)
    assert spot.instead is not None
    assert futures.instead is not None
    assert spot.retry_after_s == futures.retry_after_s == 3
    assert spot.instead.status == futures.instead.status == 429
    assert parsed(spot.instead.body).keys() == {"code", "message"}
    assert parsed(futures.instead.body).keys() == {"code", "msg", "data"}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/orders", (400, 21340)),
        ("DELETE", "/orders/cid:1", (400, 21340)),
        ("PUT", "/orders/1", (400, 21340)),
        ("POST", "/smartorders", (400, 21340)),
        ("POST", "/v3/trade/order", (200, 1002)),
        ("DELETE", "/v3/trade/allOrders", (200, 1002)),
        ("GET", "/orders", None),
        ("POST", "/orders/killSwitch", None),
        ("POST", "/accounts/transfer", None),
    ],
)
def test_maintenance_refuses_what_creates_or_cancels_orders(
    method: str, path: str, expected: tuple[int, int] | None
) -> None:
    reply = armed({"kind": "maintenance", "for_s": 5}).refusal(method, path, 1.0)
    assert (None if reply is None else (reply.status, parsed(reply.body)["code"])) == expected


def test_a_wrong_clock_is_wrong_where_it_is_said_to_be() -> None:
    injector = armed(
        {"kind": "clock_skew", "offset_ms": 100},
        {"kind": "clock_skew", "offset_ms": -3_000, "of": "signatures"},
        {"kind": "clock_skew", "offset_ms": 7, "of": "timestamp"},
    )
    assert (injector.skew_ms("timestamp", 0.0), injector.skew_ms("signatures", 0.0)) == (107, -2_900)
    assert struck(injector) == [2, 1, 1]


@pytest.mark.parametrize("form", ["half", "noise"])
def test_garbage_is_text_and_no_json(form: Any) -> None:
    chance = Chance(1)
    for body in (b"{}", b"[]", b'{"event":"pong"}', '{"text":"ä€ä€"}'.encode(), ANY_FRAME):
        made = garbage(body, form, chance)
        made.decode()
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(made)


def test_delays_follow_their_distribution() -> None:
    chance = Chance(1)
    uniform = [delay_s(f.Uniform(from_s=1, to_s=2), chance) for _ in range(1_000)]
    assert 1 <= min(uniform) < 1.01 < 1.99 < max(uniform) <= 2
    normal = sorted(delay_s(f.LogNormal(median_s=0.1, sigma=1, most_s=1), chance) for _ in range(1_000))
    assert 0.08 < normal[500] < 0.12
    assert normal[-1] == 1
    assert delay_s(f.Fixed(s=0.5), chance) == 0.5


# --- frames


def test_a_reordered_frame_leaves_after_those_that_overtake_it() -> None:
    made = line(armed({"kind": "reordered_frame", "by": 2, "every": 3, "count": 1}))
    assert payloads(sent(made, *numbered(7))) == [b"0", b"1", b"3", b"4", b"2", b"5", b"6"]


def test_a_duplicate_follows_its_frame() -> None:
    made = line(armed({"kind": "duplicate_frame", "copies": 2, "every": 2}))
    assert payloads(sent(made, *numbered(3))) == [b"0", b"1", b"1", b"1", b"2"]


def test_a_late_frame_carries_its_delay() -> None:
    made = line(armed({"kind": "frame_latency", "delay": {"shape": "fixed", "s": 0.5}}))
    assert sent(made, ANY_FRAME) == [Out(ANY_FRAME, 0.5)]


def test_an_oversized_frame_is_json_of_that_size() -> None:
    (payload,) = payloads(sent(line(armed({"kind": "oversized_frame", "size_bytes": 1_000})), ANY_FRAME))
    assert len(payload) == 1_000
    assert isinstance(parsed(payload), str)


@pytest.mark.parametrize(
    ("event", "end"),
    [
        ({"kind": "cut"}, End(None, is_reset=False)),
        ({"kind": "cut", "code": 1012}, End(1012, is_reset=False)),
        ({"kind": "reset"}, End(None, is_reset=True)),
    ],
)
def test_nothing_leaves_after_the_end_of_a_connection(event: Json, end: End) -> None:
    made = line(armed({**event, "every": 2, "count": 1}))
    assert sent(made, *numbered(5)) == [Out(b"0", 0.0), end]


def test_a_half_open_connection_is_silent_to_the_end_of_the_window() -> None:
    injector = armed({"kind": "half_open", "at_s": 1, "for_s": 2, "count": 1})
    silent, other = line(injector), line(injector)
    assert not sent(silent, ANY_FRAME, now_s=1.5)
    assert silent.is_silent(2.9)
    assert not sent(silent, ANY_FRAME, now_s=2.9)
    assert sent(silent, ANY_FRAME, now_s=3.0)
    assert sent(other, ANY_FRAME, now_s=1.5)
    assert struck(injector) == [1]


def test_a_fault_of_connections_begins_once_and_strikes_those_that_are_silent() -> None:
    injector = armed({"kind": "cut", "at_s": 1, "for_s": 1, "path": "/ws/private"}, {"kind": "maintenance", "at_s": 3})
    assert injector.due_s == 1
    assert injector.begin(0.9) == []
    (begun,) = injector.begin(1.0)
    assert line(injector).strike(begun, "", 1.0) is None
    assert line(injector, "/ws/private").strike(begun, "", 1.0) == End(None, is_reset=False)
    assert injector.begin(1.1) == []
    assert injector.due_s == 3
    injector.begin(3.0)
    assert injector.due_s == float("inf")


# --- at the desks


def filled_by_cancel(share: float, is_running: bool) -> tuple[list[tuple[str, str]], str, Exchange]:
    exchange = Exchange()
    exchange.spot.desk.is_running = is_running
    injector = armed({"kind": "fill_during_cancel", "share": share})
    exchange.spot.desk.lots_before_cancel = lambda order: injector.fill_lots(order.account.key, order.leaves_lots, 0.0)
    listener = Listener(exchange).listen(exchange.ann, "orders")
    order_id = exchange.limit(exchange.ann, "BUY", "0.9", "10")
    assert exchange.request(exchange.ann, "DELETE", f"/orders/{order_id}")[0] == 200
    exchange.later(2 * DELAY_NS / 1e6)
    said = [(row["eventType"], row["state"]) for row in listener.heard()]
    return said, exchange.order(exchange.ann, order_id)["filledQuantity"], exchange


@pytest.mark.parametrize("is_running", [True, False])
def test_an_order_is_filled_in_part_while_it_is_cancelled(is_running: bool) -> None:
    said, filled, exchange = filled_by_cancel(0.25, is_running)
    assert said == [("place", "NEW"), ("trade", "PARTIALLY_FILLED"), ("canceled", "PARTIALLY_CANCELED")]
    assert float(filled) == 2.5
    assert exchange.is_balanced()


@pytest.mark.parametrize("is_running", [True, False])
def test_a_cancel_can_lose_wholly(is_running: bool) -> None:
    said, filled, exchange = filled_by_cancel(1.0, is_running)
    assert said == [("place", "NEW"), ("trade", "FILLED")]
    assert float(filled) == 10
    assert exchange.is_balanced()


@pytest.mark.parametrize(("share", "code", "state"), [(0.5, 200, "PARTIALLY_CANCELED"), (1.0, 11008, "FILLED")])
def test_a_futures_cancel_loses_too(share: float, code: int, state: str) -> None:
    floor = Floor()
    worth = floor.worth_atoms()
    floor.wing.desk.lots_before_cancel = lambda order: int(order.leaves_lots * share)
    order_id = floor.order("BUY", 10, 59_000)
    answer = floor.ask("DELETE", "/trade/order", body={"symbol": PERP, "ordId": order_id})
    assert answer["code"] == code
    assert floor.state(order_id)[:2] == (state, str(int(10 * share)))
    assert floor.worth_atoms() == worth


def test_a_fill_is_public_too() -> None:
    exchange = Exchange()
    exchange.wanted.add(("trades", BTC))
    exchange.spot.desk.lots_before_cancel = lambda order: order.leaves_lots
    order_id = exchange.limit(exchange.ann, "BUY", "0.9", "10")
    exchange.ask(exchange.ann, "DELETE", f"/orders/{order_id}")
    exchange.later(2 * DELAY_NS / 1e6)
    frames = [parsed(each.payload) for each in exchange.spot.take() if each.channel == "trades"]
    assert [frame["data"][0]["quantity"] for frame in frames] == ["10"]


def test_maintenance_is_said_on_the_channel_of_the_exchange() -> None:
    made = venue()
    session = Session(made)
    answers = [parsed(frame) for frame in session.handle('{"event":"subscribe","channel":["exchange"]}')]
    assert answers == [
        {"event": "subscribe", "channel": "exchange", "symbols": ["ALL"]},
        {"channel": "exchange", "data": [{"MM": "OFF", "POM": "OFF"}], "action": "snapshot"},
    ]
    made.is_in_maintenance = True
    assert parsed(made.exchange_frame("update"))["data"] == [{"MM": "ON", "POM": "OFF"}]
    assert list(session.topics) == [("exchange", "")]
    again = [parsed(frame) for frame in session.handle('{"event":"subscribe","channel":["exchange"]}')]
    assert [answer["event"] for answer in again] == ["error"]
    with_trades = '{"event":"subscribe","channel":["exchange","trades"],"symbols":["btc_usdt"]}'
    assert [parsed(frame)["channel"] for frame in Session(made).handle(with_trades)] == [
        "exchange",
        "trades",
        "exchange",
    ]
    listed = parsed(session.handle('{"event":"list_subscriptions"}')[0])
    assert listed["subscriptions"] == [{"channel": "exchange", "symbols": ["ALL"]}]
    session.handle('{"event":"unsubscribe","channel":["exchange"]}')
    assert not session.topics
    assert made.apply(trade(), ()) == []


def test_post_only_mode_refuses_what_could_take_and_nothing_else() -> None:
    exchange = Exchange()
    smart = exchange.ask(
        exchange.ann,
        "POST",
        "/smartorders",
        body={"symbol": BTC, "side": "SELL", "type": "STOP", "quantity": "1", "stopPrice": "0.95"},
    )
    resting = exchange.limit(exchange.ann, "BUY", "0.9", "10")
    exchange.spot.desk.refuses_takers = lambda: True
    orders = [
        {"side": "BUY", "type": "LIMIT", "price": "0.9", "quantity": "10"},
        {"side": "BUY", "type": "LIMIT", "price": "0.9", "quantity": "10", "timeInForce": "FOK"},
        {"side": "BUY", "type": "MARKET", "amount": "10"},
        {"side": "SELL", "type": "MARKET", "quantity": "1"},
    ]
    for order in orders:
        assert exchange.refused(exchange.ann, "POST", "/orders", body={"symbol": BTC, **order}) == 21341
    listener = Listener(exchange).listen(exchange.ann)
    (said,) = listener.say({"event": "createOrder", "id": "1", "params": {"symbol": BTC, **orders[0]}})
    assert said["data"][0]["code"] == 21341
    assert exchange.refused(exchange.ann, "PUT", f"/orders/{resting}", body={"price": "0.8"}) == 21341
    assert exchange.state(exchange.ann, resting) == "NEW"
    maker = exchange.place(exchange.ann, "BUY", type="LIMIT_MAKER", price="0.9", quantity="10")
    assert exchange.state(exchange.ann, maker) == "NEW"
    exchange.ask(exchange.ann, "DELETE", f"/orders/{resting}")
    exchange.apply(trade(94))
    assert exchange.ask(exchange.ann, "GET", f"/smartorders/{smart['id']}")[0]["state"] == "FAILED"
    assert exchange.is_balanced()


def test_post_only_mode_is_listed_and_said_on_the_channel_of_the_exchange() -> None:
    made = venue()

    def state() -> str:
        return parsed(answer(made, "GET", "/markets").body)[0]["state"]

    assert state() == "NORMAL"
    made.is_post_only = True
    assert state() == "POST_ONLY"
    assert parsed(made.exchange_frame("update"))["data"] == [{"MM": "OFF", "POM": "ON"}]


def test_maintenance_refuses_orders_over_the_socket() -> None:
    exchange = Exchange()
    exchange.spot.desk.refuses_orders = lambda: True
    listener = Listener(exchange).listen(exchange.ann)
    for event in ("createOrder", "cancelOrders", "cancelAllOrders"):
        (answer,) = listener.say({"event": event, "id": "1", "params": {}})
        assert answer["data"][0]["code"] == 21340
