from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.core.instrument import ATOM_SCALE, ATOMS, Instrument
from bot.errors import BadReply, ExchangeError
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import (
    CANDLE_CHANNELS,
    CANDLE_INTERVALS,
    PING,
    TIMEFRAMES_NS,
    Candle,
    decode_candles,
    decode_error,
    decode_frame,
    decode_markets,
    decode_timestamp,
    subscribe_text,
    unsubscribe_text,
)
from tests.support.fuzz import EXAMPLES

MINUTE_NS = 60 * 10**9
TS_MS = 1_700_000_000_000


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def book_row(**changes: object) -> dict[str, object]:
    return {
        "symbol": "BTC_USDT",
        "createTime": TS_MS,
        "asks": [["60000.01", "0.5"], ["60000.02", "0"]],
        "bids": [["60000", "1.25"]],
        "lastId": 100,
        "id": 101,
        "ts": TS_MS + 7,
    } | changes


def trade_row(**changes: object) -> dict[str, object]:
    return {
        "symbol": "BTC_USDT",
        "amount": "70",
        "takerSide": "buy",
        "quantity": "4",
        "createTime": TS_MS,
        "price": "17.5",
        "id": "60014521",
        "ts": TS_MS + 7,
    } | changes


def ticker_row(**changes: object) -> dict[str, object]:
    return {
        "symbol": "BTC_USDT",
        "startTime": TS_MS - 86_400_000,
        "open": "28795.38",
        "high": "29177.5",
        "low": "28200",
        "close": "29000",
        "quantity": "10.5",
        "amount": "300000",
        "tradeCount": 12,
        "dailyChange": "-0.0123",
        "markPrice": "29001",
        "closeTime": TS_MS,
        "ts": TS_MS,
    } | changes


def candle_row(**changes: object) -> dict[str, object]:
    return {
        "symbol": "BTC_USDT",
        "open": "10",
        "high": "12",
        "low": "9",
        "close": "11",
        "quantity": "3",
        "amount": "33",
        "tradeCount": 4,
        "startTime": 1_700_000_040_000,
        "closeTime": 1_700_000_099_999,
        "ts": 1_700_000_050_000,
    } | changes


def book(action: str = "update", **changes: object) -> dict[str, object]:
    return {"channel": "book_lv2", "data": [book_row(**changes)], "action": action}


def trades(**changes: object) -> dict[str, object]:
    return data("trades", trade_row(**changes))


def ticker(**changes: object) -> dict[str, object]:
    return data("ticker", ticker_row(**changes))


def data(channel: str, *rows: dict[str, object]) -> dict[str, object]:
    return {"channel": channel, "data": list(rows)}


def market_row(**changes: object) -> dict[str, object]:
    limits: dict[str, object] = {
        "symbol": "BTC_USDT",
        "priceScale": 2,
        "quantityScale": 6,
        "amountScale": 2,
        "minQuantity": "0.000001",
        "minAmount": "1",
        "highestBid": "0",
        "lowestAsk": "0",
    }
    market: dict[str, object] = {
        "symbol": "BTC_USDT",
        "baseCurrencyName": "BTC",
        "quoteCurrencyName": "USDT",
        "displayName": "BTC/USDT",
        "state": "NORMAL",
        "visibleStartTime": 1_659_018_819_512,
        "tradableStartTime": 1_659_018_819_512,
        "crossMargin": {"supportCrossMargin": True, "maxLeverage": 3},
    }
    return (
        market | {"symbolTradeLimit": limits | changes} | {key: changes[key] for key in changes.keys() & market.keys()}
    )


def candle_array(start_ms: int = 1_700_000_040_000, **changes: object) -> list[object]:
    named: dict[str, object] = {
        "low": "9.00",
        "high": "12",
        "open": "10",
        "close": "11",
        "amount": "33",
        "quantity": "3",
        "buyTakerAmount": "11",
        "buyTakerQuantity": "1",
        "tradeCount": 4,
        "ts": start_ms + 60_500,
        "weightedAverage": "11",
        "interval": "MINUTE_1",
        "startTime": start_ms,
        "closeTime": start_ms + 59_999,
    }
    return list((named | changes).values())


BTC = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=2,
    quantity_scale=6,
    qty_lots_min=1,
    notional_atoms_min=ATOMS,
)


# --- what we send


def test_requests_are_compact_json() -> None:
    assert PING == '{"event":"ping"}'
    assert (
        subscribe_text(["book_lv2", "trades"], ["BTC_USDT"])
        == '{"event":"subscribe","channel":["book_lv2","trades"],"symbols":["BTC_USDT"]}'
    )
    assert (
        unsubscribe_text(["ticker"], ["BTC_USDT", "ETH_USDT"])
        == '{"event":"unsubscribe","channel":["ticker"],"symbols":["BTC_USDT","ETH_USDT"]}'
    )


# --- frames as documented


def test_a_book_update_keeps_its_chain_and_its_texts() -> None:
    frame = decode_frame(encoded(book()))
    assert isinstance(frame, wire.BookFrame)
    assert frame.action == "update"
    (row,) = frame.data
    assert (row.symbol, row.id, row.last_id, row.ts_ms) == ("BTC_USDT", 101, 100, TS_MS + 7)
    assert row.asks == [("60000.01", "0.5"), ("60000.02", "0")]
    assert row.bids == [("60000", "1.25")]


def test_a_book_snapshot_is_one() -> None:
    frame = decode_frame(encoded(book("snapshot")))
    assert isinstance(frame, wire.BookFrame)
    assert frame.action == "snapshot"


def test_the_order_of_keys_does_not_matter() -> None:
    frame = book()
    shuffled = [dict(random.Random(seed).sample(list(frame.items()), 3)) for seed in range(20)]
    assert {decode_frame(encoded(each)).__class__ for each in shuffled} == {wire.BookFrame}
    assert len({repr(decode_frame(encoded(each))) for each in shuffled}) == 1


@pytest.mark.parametrize(
    ("sent", "trade_id"), [("60014521", "60014521"), (60014521, "60014521"), (2**63 - 1, str(2**63 - 1))]
)
def test_a_trade_id_may_be_text_or_number(sent: object, trade_id: str) -> None:
    frame = decode_frame(encoded(data("trades", trade_row(id=sent))))
    assert isinstance(frame, wire.TradesFrame)
    assert frame.data[0].trade_id == trade_id
    assert (frame.data[0].taker_side, frame.data[0].price, frame.data[0].created_ms) == ("buy", "17.5", TS_MS)


def test_times_and_book_ids_may_be_text() -> None:
    as_text = decode_frame(encoded(book(id="101", lastId="100", ts=str(TS_MS + 7))))
    assert as_text == decode_frame(encoded(book()))


def test_a_ticker_has_a_mark_price_or_none() -> None:
    marks: list[object] = []
    for row in (ticker_row(), ticker_row(markPrice=None), ticker_row(markPrice=""), {**ticker_row()}):
        frame = decode_frame(encoded(data("ticker", row)))
        assert isinstance(frame, wire.TickerFrame)
        marks.append(frame.data[0].mark_price)
    assert marks == ["29001", None, "", "29001"]


@pytest.mark.parametrize(("timeframe_ns", "channel"), CANDLE_CHANNELS.items())
def test_every_candle_channel_of_fixed_length_is_read(timeframe_ns: int, channel: str) -> None:
    frame = decode_frame(encoded(data(channel, candle_row())))
    assert isinstance(frame, wire.CandlesFrame)
    assert frame.timeframe_ns == timeframe_ns
    assert (frame.data[0].open, frame.data[0].start_ms) == ("10", 1_700_000_040_000)


def test_timeframes_have_the_exchanges_names() -> None:
    assert CANDLE_CHANNELS[MINUTE_NS] == "candles_minute_1"
    assert CANDLE_INTERVALS[4 * 60 * MINUTE_NS] == "HOUR_4"
    assert CANDLE_INTERVALS[7 * 24 * 60 * MINUTE_NS] == "WEEK_1"
    assert len(CANDLE_CHANNELS) == len(CANDLE_INTERVALS) == len(TIMEFRAMES_NS) == 13
    assert {TIMEFRAMES_NS[channel]: channel for channel in TIMEFRAMES_NS} == CANDLE_CHANNELS
    assert list(CANDLE_CHANNELS) == sorted(CANDLE_CHANNELS)


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        (b'{"event":"pong"}', wire.Pong()),
        (
            b'{"event":"subscribe","channel":"trades","symbols":["BTC_USDT"]}',
            wire.Subscribed(channel="trades", symbols=("BTC_USDT",)),
        ),
        (b'{"event":"subscribe","channel":"ticker"}', wire.Subscribed(channel="ticker", symbols=())),
        (
            b'{"channel":"candles_minute_1","event":"subscribe","symbols":["ALL"]}',
            wire.Subscribed(channel="candles_minute_1", symbols=("ALL",)),
        ),
        (
            b'{"event":"unsubscribe","channel":"book_lv2","symbols":["BTC_USDT"]}',
            wire.Unsubscribed(channel="book_lv2", symbols=("BTC_USDT",)),
        ),
        (b'{"event":"unsubscribe_all"}', wire.Other(name="unsubscribe_all")),
        (b'{"event":"error","message":"Invalid channel value"}', wire.Refused(message="Invalid channel value")),
        (b'{"message":"a\\u001b[2Jb\\n","event":"error"}', wire.Refused(message="a[2Jb")),
        (b'{"event":"error"}', wire.Refused(message="")),
        (b'{"channel":"exchange","data":[{"MM":"OFF"}],"action":"snapshot"}', wire.Other(name="exchange")),
        (b'{"data":{"success":true,"ts":1700000000000},"channel":"auth"}', wire.Other(name="auth")),
        (b'{"channel":"candles_month_1","data":[]}', wire.Other(name="candles_month_1")),
        (b'{"channel":"\\u001b]0;new\\u0007","data":[]}', wire.Other(name="]0;new")),
        (b'{"channel":"trades","data":[]}', wire.TradesFrame(data=[])),
    ],
)
def test_a_frame_is_what_it_says(raw: bytes, frame: wire.Frame) -> None:
    assert decode_frame(raw) == frame


# --- frames that are wrong


def without(row: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != key}


DEEP = 200_000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"ping",
        b"{}",
        b"[]",
        b"null",
        b'"{\\"event\\":\\"pong\\"}"',
        b'{"event":"pong"',
        b'{"event":"pong"}}',
        b'{"event":1}',
        b'{"event":null}',
        b'{"channel":null,"data":[]}',
        b'{"channel":["trades"],"data":[]}',
        b'{"data":[]}',
        b'\xff\xfe{"event":"pong"}',
        b'{"event":"\xff"}',
        b'{"channel":"trades","data":"\xc3\x28"}',
        b'{"event":"error","message":"\\ud800"}',
        b"[" * DEEP + b"]" * DEEP,
        b'{"channel":"exchange","data":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"channel":"trades","data":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"x":' + b"[" * DEEP,
        encoded(data("trades", without(trade_row(), "price"))),
        encoded(data("trades", without(trade_row(), "ts"))),
        encoded(data("trades", trade_row(price=17.5))),
        encoded(data("trades", trade_row(price=None))),
        encoded(data("trades", trade_row(price=""))),
        encoded(data("trades", trade_row(price="1" * 41))),
        encoded(data("trades", trade_row(takerSide="hold"))),
        encoded(data("trades", trade_row(id=-1))),
        encoded(data("trades", trade_row(id=1.5))),
        encoded(data("trades", trade_row(id=2**63))),
        encoded(data("trades", trade_row(id="9" * 65))),
        encoded(data("trades", trade_row(symbol="X" * 33))),
        encoded({"channel": "trades", "data": trade_row()}),
        encoded({"channel": "trades"}),
        encoded({"channel": "trades", "data": None}),
        encoded(book("replace")),
        encoded(without(book(), "action")),
        encoded(book(id=10**4000)),
        encoded(book(id=-1)),
        encoded(book(id=None)),
        encoded(book(asks=[["1"]])),
        encoded(book(asks=[["1", "2", "3"]])),
        encoded(book(asks=[[1, 2]])),
        encoded(book(asks=["1", "2"])),
        encoded(book(asks=None)),
        encoded(data("ticker", ticker_row(close=1))),
        encoded(data("candles_minute_1", candle_row(startTime=0))),
        encoded(data("candles_minute_1", without(candle_row(), "open"))),
        encoded({"channel": "candles_minute_1", "data": {}}),
        encoded({"channel": "candles_minute_1"}),
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_a_wrong_frame_is_a_bad_reply(raw: bytes) -> None:
    with pytest.raises(BadReply) as bad:
        decode_frame(raw)
    assert len(bad.value.frame) <= 200
    assert str(bad.value).isprintable()
    assert len(str(bad.value)) < 1200


@pytest.mark.parametrize("ts", [0, 946_684_799_999, 7_258_118_400_000, -1, 10**30, 1.5, True, None, "soon", [TS_MS]])
@pytest.mark.parametrize("frame", [book, trades, ticker])
def test_a_time_outside_of_2000_to_2200_is_a_bad_reply(frame: Callable[..., dict[str, object]], ts: object) -> None:
    decode_frame(encoded(frame(ts=946_684_800_000)))
    with pytest.raises(BadReply):
        decode_frame(encoded(frame(ts=ts)))


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"1e400", b"-0", b"01", b"1.", b"0x1", b"1" * 5000, b"1e999999999"]
)
def test_a_number_out_of_any_bound_is_a_bad_reply(number: bytes) -> None:
    with pytest.raises(BadReply):
        decode_frame(encoded(book(id="@")).replace(b'"@"', number) if number != b"-0" else b'{"channel":-0}')
    with pytest.raises(BadReply):
        decode_frame(encoded(data("trades", trade_row(ts="@"))).replace(b'"@"', number))


# --- fuzz

GOOD: tuple[bytes, ...] = tuple(
    encoded(frame)
    for frame in (
        book(),
        book("snapshot"),
        data("trades", trade_row(), trade_row(id=5)),
        data("ticker", ticker_row()),
        data("candles_minute_5", candle_row()),
        {"event": "subscribe", "channel": "trades", "symbols": ["BTC_USDT"]},
        {"event": "error", "message": "Invalid"},
        {"event": "pong"},
        {"channel": "exchange", "data": [{"MM": "OFF"}]},
    )
)
SPLICES = (
    b"",
    b"null",
    b"1e400",
    b"NaN",
    b"-1",
    b"9" * 400,
    b'"',
    b"\\ud800",
    b"\\u0000",
    b"\xff",
    b"\x00",
    b"[[[[",
    b"{",
    b"}",
    b"true",
    b'"channel":"trades",',
    b'"event":"error",',
    b'"data":[],',
    b"[" * 5000,
)


def mutated(seed: int) -> bytes:
    """Return a good frame with up to three wounds: splices, cuts, flipped bits, frames crossed, values replaced."""
    rng = random.Random(seed)
    raw = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(1, 3)):
        at, end = sorted((rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1)))
        match rng.randrange(6):
            case 0:
                raw[at:at] = rng.choice(SPLICES)
            case 1:
                raw[at : min(end, at + 20)] = b""
            case 2 if at < len(raw):
                raw[at] ^= 1 << rng.randrange(8)
            case 3:
                other = rng.choice(GOOD)
                raw[at:] = other[rng.randrange(len(other)) :]
            case 4:
                starts = [index for index, byte in enumerate(raw) if byte in b":,["]
                if starts:
                    start = rng.choice(starts) + 1
                    raw[start : start + rng.randrange(8)] = rng.choice(SPLICES)
            case _:
                raw[at:end] = raw[at:end] * 2
    return bytes(raw)


FRAMES = (
    wire.BookFrame,
    wire.TradesFrame,
    wire.TickerFrame,
    wire.CandlesFrame,
    wire.Subscribed,
    wire.Unsubscribed,
    wire.Refused,
    wire.Pong,
    wire.Other,
)


def value_or_error(decode: Callable[[bytes], object], raw: bytes) -> object:
    """Return what `decode` makes of `raw`, or the error of ours that it raises, fit for a terminal."""
    try:
        return decode(raw)
    except ExchangeError as error:
        if not str(error).isprintable():
            raise
        return error


def check(raw: bytes) -> bool:
    """Return whether `raw` is a frame; it must be one or a `BadReply`, and safe to use either way."""
    frame = value_or_error(decode_frame, raw)
    if isinstance(frame, ExchangeError):
        assert isinstance(frame, BadReply)
        return False
    assert isinstance(frame, FRAMES)
    match frame:
        case wire.TradesFrame():
            assert all(row.trade_id for row in frame.data)
        case wire.Refused() | wire.Other():
            text = frame.message if isinstance(frame, wire.Refused) else frame.name
            assert text.isprintable()
            assert len(text) <= 200
        case _:
            pass
    return True


def test_mutated_frames_are_frames_or_bad_replies() -> None:
    count = sum(check(mutated(seed)) for seed in range(EXAMPLES))
    assert EXAMPLES // 40 < count < EXAMPLES * 3 // 4  # the wounds are neither all harmless nor all deadly


@settings(max_examples=500)
@given(st.binary(max_size=300))
@example(b'{"event":"\\ud83d"}')
def test_any_bytes_are_a_frame_or_a_bad_reply(raw: bytes) -> None:
    check(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=500)
@given(st.sampled_from(GOOD), json_values, st.randoms(use_true_random=False))
def test_any_value_anywhere_gives_a_frame_or_a_bad_reply(good: bytes, value: object, rng: random.Random) -> None:
    frame: Any = json.loads(good)
    at: Any = frame
    while True:
        key: Any = rng.choice(list(at.keys() if hasattr(at, "keys") else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.3:
            break
        at = at[key]
    at[key] = value
    check(encoded(frame))


REST_DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_timestamp,
    decode_markets,
    decode_error,
    lambda body: decode_candles(body, BTC, MINUTE_NS),
)


@settings(max_examples=500)
@given(st.sampled_from(REST_DECODERS), st.binary(max_size=200) | json_values.map(encoded))
def test_any_body_gives_a_value_or_an_exchange_error(decode: Callable[[bytes], object], body: bytes) -> None:
    value_or_error(decode, body)


# --- REST


def test_the_exchanges_time_is_read() -> None:
    assert decode_timestamp(b'{"serverTime":1700000000123}') == 1_700_000_000_123_000_000


@pytest.mark.parametrize("body", [b"", b"{}", b'{"serverTime":0}', b'{"serverTime":null}', b"<html>"])
def test_a_wrong_time_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        decode_timestamp(body)


def test_a_market_becomes_an_instrument_with_exact_steps_and_minimums() -> None:
    (instrument,) = decode_markets(encoded([market_row(minQuantity="0.00012", minAmount="0.5")]))
    assert instrument == Instrument(
        symbol="BTC_USDT",
        base="BTC",
        quote="USDT",
        price_scale=2,
        quantity_scale=6,
        qty_lots_min=120,
        notional_atoms_min=ATOMS // 2,
        is_open=True,
    )


@pytest.mark.parametrize(
    ("text", "lots"),
    [("0", 1), ("0.000000", 1), ("0.0000001", 1), ("0.0000011", 2), ("1", 10**6), ("1.000001", 1_000_001)],
)
def test_a_minimum_between_two_lots_is_rounded_up(text: str, lots: int) -> None:
    assert decode_markets(encoded([market_row(minQuantity=text)]))[0].qty_lots_min == lots


@pytest.mark.parametrize("state", ["PAUSE", "OFFLINE", "normal", "post_only", ""])
def test_a_market_that_takes_no_orders_is_not_open(state: str) -> None:
    instrument = decode_markets(encoded([market_row(state=state)]))[0]
    assert (instrument.is_open, instrument.is_post_only) == (False, False)


def test_a_market_in_post_only_mode_is_open() -> None:
    modes = [decode_markets(encoded([market_row(state=state)]))[0] for state in ("NORMAL", "POST_ONLY")]
    assert [(each.is_open, each.is_post_only) for each in modes] == [(True, False), (True, True)]


@pytest.mark.parametrize(
    ("text", "lots"),
    [("0", 0), ("0.000", 0), ("0.0000001", 1), ("0.0000019", 1), ("100", 10**8), ("1.0000011", 1_000_001)],
)
def test_a_largest_quantity_between_two_lots_is_rounded_down_and_0_is_none(text: str, lots: int) -> None:
    instrument = decode_markets(encoded([market_row(maxQuantity=text)]))[0]
    assert (instrument.limit_lots_max, instrument.market_lots_max) == (lots, lots)


def test_a_market_has_a_largest_amount_or_none() -> None:
    rows = [market_row(), market_row(maxAmount="0"), market_row(maxAmount="2500.5")]
    assert [decode_markets(encoded([row]))[0].notional_atoms_max for row in rows] == [0, 0, 25_005 * ATOMS // 10]


@pytest.mark.parametrize(
    "changes",
    [
        {"priceScale": 9, "quantityScale": 8},
        {"priceScale": -1},
        {"priceScale": None},
        {"priceScale": 2.5},
        {"minQuantity": "-1"},
        {"minQuantity": "1e-6"},
        {"minAmount": f"0.{'0' * ATOM_SCALE}1"},
        {"symbol": ""},
        {"quantityScale": 29},
    ],
)
def test_one_market_that_we_cannot_hold_is_left_out_of_the_others(changes: dict[str, object]) -> None:
    bad = market_row(**changes)
    assert [each.symbol for each in decode_markets(encoded([bad, market_row()]))] == ["BTC_USDT"]
    with pytest.raises(BadReply, match="no readable market"):
        decode_markets(encoded([bad]))


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[", b"[1]", b'[{"symbol":"X"}]', b"[" * DEEP])
def test_a_wrong_list_of_markets_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        decode_markets(body)


def test_no_markets_are_no_markets() -> None:
    assert decode_markets(b"[]") == []


def test_candles_come_oldest_first_in_steps() -> None:
    later = 1_700_000_100_000
    candles = decode_candles(encoded([candle_array(later, close="9.5"), candle_array()]), BTC, MINUTE_NS)
    assert candles[0] == Candle(
        start_ns=1_700_000_040_000_000_000,
        open_ticks=1000,
        high_ticks=1200,
        low_ticks=900,
        close_ticks=1100,
        volume_lots=3_000_000,
    )
    assert (candles[1].start_ns, candles[1].close_ticks) == (later * 10**6, 950)


@pytest.mark.parametrize(
    "rows",
    [
        [candle_array(low="10.01")],
        [candle_array(low="11.01", open="12")],
        [candle_array(high="10.99")],
        [candle_array(high="9.5", close="9.2")],
        [candle_array(interval="MINUTE_5")],
        [candle_array(startTime=0)],
        [candle_array(quantity="-1")],
        [candle_array(open="1e1")],
        [candle_array(open=10)],
        [candle_array()[:13]],
        [candle_array(), candle_array()],
        [candle_array(), candle_array(1_700_000_099_999)],
        [{}],
        [[]],
    ],
    ids=repr,
)
def test_wrong_candles_are_a_bad_reply(rows: list[object]) -> None:
    with pytest.raises(BadReply):
        decode_candles(encoded(rows), BTC, MINUTE_NS)


def test_what_is_finer_than_todays_ticks_in_an_old_candle_is_cut_off() -> None:
    (candle,) = decode_candles(encoded([candle_array(close="10.009")]), BTC, MINUTE_NS)
    assert candle.close_ticks == 1000


def test_candles_may_gain_fields_at_their_end() -> None:
    assert len(decode_candles(encoded([[*candle_array(), "new"]]), BTC, MINUTE_NS)) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"code":24101,"message":"Invalid symbol"}', "code 24101: Invalid symbol"),
        (b'{"code":"500","message":"\\u001b[2J"}', "code 500: [2J"),
        (b"<html>Bad\r\nGateway</html>", "<html>BadGateway</html>"),
        (b"", ""),
        (b"\xff\x1b[1m", "\ufffd[1m"),
    ],
)
def test_a_refusal_names_its_code_and_text(body: bytes, text: str) -> None:
    assert decode_error(body) == text


def test_a_long_refusal_is_cut() -> None:
    assert len(decode_error(string.ascii_letters.encode() * 1000)) == 200
