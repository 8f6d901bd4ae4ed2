from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.simulated.session import Session
from bot.exchange.simulated.venue import Publication
from tests.exchange.simulated.builders import BTC, Json, parsed, venue

ETH = "ETH_USDT"


def session() -> Session:
    return Session(venue(BTC, ETH))


def say(to: Session, **request: Any) -> list[Json]:
    return [parsed(frame) for frame in to.handle(msgspec.json.encode(request).decode())]


def subscribe(to: Session, channel: Any, symbols: Any, **further: Any) -> list[Json]:
    return say(to, event="subscribe", channel=channel, symbols=symbols, **further)


@pytest.mark.parametrize("text", ['{"event":"ping"}', '{"event":"PING"}', "ping", "PING"])
def test_a_ping_is_answered_with_exactly_a_pong(text: str) -> None:
    assert session().handle(text) == [b'{"event":"pong"}']


def test_each_channel_is_acknowledged_apart_and_before_any_data() -> None:
    answers = subscribe(session(), ["book_lv2", "trades"], [BTC])
    assert answers[:2] == [
        {"event": "subscribe", "channel": "book_lv2", "symbols": [BTC]},
        {"event": "subscribe", "channel": "trades", "symbols": [BTC]},
    ]
    assert [answer["action"] for answer in answers[2:]] == ["snapshot"]


def test_acknowledgements_are_compact_json() -> None:
    frames = session().handle('{"event":"subscribe","channel":["trades"],"symbols":["btc_usdt"]}')
    assert frames == [b'{"event":"subscribe","channel":"trades","symbols":["BTC_USDT"]}']


@pytest.mark.parametrize("symbols", [["all"], ["ALL"], ["All"], [""], "all"])
def test_all_means_every_symbol(symbols: Any) -> None:
    one = session()
    assert subscribe(one, ["trades"], symbols) == [{"event": "subscribe", "channel": "trades", "symbols": ["ALL"]}]
    assert list(one.topics) == [("trades", BTC), ("trades", ETH)]


def test_names_are_taken_in_any_case_and_once() -> None:
    one = session()
    assert len(subscribe(one, ["TRADES", "trades"], ["btc_usdt", "BTC_USDT"])) == 1
    assert list(one.topics) == [("trades", BTC)]


def test_a_repeated_subscription_is_an_error_and_sends_no_new_snapshot() -> None:
    one = session()
    subscribe(one, ["book_lv2"], [BTC])
    (answer,) = subscribe(one, ["book_lv2"], [BTC])
    assert answer["event"] == "error"
    assert list(one.topics) == [("book_lv2", BTC)]


def test_what_is_wrong_is_refused_and_the_rest_subscribed() -> None:
    one = session()
    answers = subscribe(one, ["trades", "ordersss"], [BTC, "DOGE_USDT"])
    assert [answer["event"] for answer in answers] == ["subscribe", "error", "error"]
    assert answers[1]["message"] == 'Invalid channel value ["ordersss"]'
    assert answers[2]["message"] == 'Invalid symbol value ["DOGE_USDT"]'
    assert list(one.topics) == [("trades", BTC)]


@pytest.mark.parametrize("channel", ["orders", "balances", "auth"])
def test_private_channels_are_refused(channel: str) -> None:
    (answer,) = subscribe(session(), [channel], ["all"])
    assert (answer["event"], channel in answer["message"]) == ("error", True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "1", "null", '"{\\"event\\":\\"ping\\"}"', "{}", '{"event":1}', '{"event":"dance"}'),
        *("\ud800", "[" * 10_000, '{"event":"ping","x":' + "[" * 50_000, "x" * 60_000, '{"event":"auth"}'),
        '{"event":"subscribe","channel":[1],"symbols":["all"]}',
        '{"event":"subscribe","channel":["trades"]}',
        '{"event":"subscribe","channel":[],"symbols":["all"]}',
        '{"event":"subscribe","channel":["book"],"symbols":["all"],"depth":6}',
    ],
)
def test_nonsense_is_answered_with_one_error_frame(text: str) -> None:
    one = session()
    (frame,) = one.handle(text)
    assert parsed(frame)["event"] == "error"
    assert len(frame) < 1_000
    assert list(one.topics) == []


@pytest.mark.parametrize(("depth", "levels"), [(None, "book_5"), (10, "book_10"), ("20", "book_20")])
def test_a_book_has_the_depth_asked_for(depth: Any, levels: str) -> None:
    one = session()
    answers = subscribe(one, ["book"], [BTC], **({} if depth is None else {"depth": depth}))
    assert [answer["channel"] for answer in answers] == ["book", "book"]
    assert list(one.topics) == [(levels, BTC)]


def test_unsubscribing_ends_publications() -> None:
    one = session()
    subscribe(one, ["trades", "book"], ["all"], depth=20)
    trades, book = Publication("trades", BTC, b""), Publication("book_20", BTC, b"")
    assert one.wants(trades)
    assert one.wants(book)
    answers = say(one, event="unsubscribe", channel=["trades", "book"], symbols=[BTC])
    assert answers == [
        {"event": "unsubscribe", "channel": "trades", "symbols": [BTC]},
        {"event": "unsubscribe", "channel": "book", "symbols": [BTC]},
    ]
    assert not one.wants(trades)
    assert not one.wants(book)
    assert one.wants(Publication("trades", ETH, b""))


def test_unsubscribe_all_ends_everything() -> None:
    one = session()
    subscribe(one, ["trades"], ["all"])
    assert say(one, event="unsubscribe_all") == [{"event": "unsubscribe_all"}]
    assert list(one.topics) == []


def test_subscriptions_are_listed_by_channel() -> None:
    one = session()
    subscribe(one, ["trades", "ticker"], ["all"])
    say(one, event="unsubscribe", channel=["ticker"], symbols=[ETH])
    assert say(one, event="list_subscriptions") == [
        {
            "event": "list_subscriptions",
            "subscriptions": [
                {"channel": "trades", "symbols": [BTC, ETH]},
                {"channel": "ticker", "symbols": [BTC]},
            ],
        }
    ]


def test_a_subscription_can_be_had_again_after_it_ended_with_a_new_snapshot() -> None:
    one = session()
    subscribe(one, ["book_lv2"], [BTC])
    say(one, event="unsubscribe", channel=["book_lv2"], symbols=[BTC])
    assert [answer.get("action") for answer in subscribe(one, ["book_lv2"], [BTC])] == [None, "snapshot"]


names = st.sampled_from([BTC, "eth_usdt", "all", "", "trades", "book", "book_lv2", "book_5", "orders", "x"])
requests = st.fixed_dictionaries(
    {"event": st.sampled_from(["subscribe", "unsubscribe", "unsubscribe_all", "list_subscriptions", "ping", "x"])},
    optional={"channel": st.lists(names) | names, "symbols": st.lists(names) | names, "depth": st.integers() | names},
)


@given(st.lists(requests | st.text(), max_size=8))
def test_whatever_is_said_is_answered_and_never_fails(said: list[Any]) -> None:
    one = session()
    for each in said:
        frames = one.handle(each if isinstance(each, str) else msgspec.json.encode(each).decode())
        assert frames
        assert all(parsed(frame) for frame in frames)
        assert all(channel != "book" and symbol in (BTC, ETH) for channel, symbol in one.topics)


# --- what is listed


def test_symbols_are_told_once_as_markets_are() -> None:
    one = session()
    acknowledged, frame = subscribe(one, ["symbols"], [BTC])
    assert acknowledged == {"event": "subscribe", "channel": "symbols", "symbols": [BTC]}
    assert (frame["channel"], frame["action"]) == ("symbols", "snapshot")
    (row,) = frame["data"]
    assert (row["symbol"], row["state"], row["symbolTradeLimit"]["priceScale"]) == (BTC, "NORMAL", 2)
    assert [answer["event"] for answer in subscribe(one, ["symbols"], [BTC])] == ["error"]


@pytest.mark.parametrize("asked", [{"currencies": ["all"]}, {}, {"symbols": ["all"]}])
def test_currencies_have_a_key_of_their_own(asked: Any) -> None:
    one = session()
    acknowledged, *frames = say(one, event="subscribe", channel=["currencies"], **asked)
    assert acknowledged == {"event": "subscribe", "channel": "currencies", "currencies": ["ALL"]}
    assert [frame["data"][0]["currency"] for frame in frames] == ["BTC", "USDT", "ETH"]
    assert frames[0]["data"][0]["tradingState"] == "NORMAL"


def test_one_currency_of_two_is_listed() -> None:
    acknowledged, error, frame = say(session(), event="subscribe", channel="currencies", currencies=["btc", "X"])
    assert acknowledged == {"event": "subscribe", "channel": "currencies", "currencies": ["BTC"]}
    assert error == {"event": "error", "message": 'Invalid currency value ["X"]'}
    assert frame["data"][0]["currency"] == "BTC"
