from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.core.instrument import Side
from bot.core.orders import OrderState
from bot.core.secret import Secret
from bot.errors import BadReply
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.private_codec import (
    CANDLE_READERS,
    auth_text,
    cancel_params,
    decode_futures_private,
    decode_futures_public,
    decode_spot_private,
    decode_spot_public,
    subscription_text,
    trading_text,
)
from bot.exchange.poloniex.signing import Credentials
from tests.exchange.poloniex.futures_samples import (
    AUTH_OK,
    AUTH_REFUSED,
    MS,
    PERP,
    TALK,
    Row,
    account_row,
    balance_row,
    encoded,
    frame,
    futures_fill_row,
    instrument_row,
    mutated,
    order_row,
    position_row,
    spot_fill_row,
    spot_order_row,
    talk,
    ticker_row,
    value_or_error,
)
from tests.support.fuzz import EXAMPLES
from tests.support.ids import short_id

CREDENTIALS = Credentials(
    Secret("TESTKEY1-AAAA2222-BBBB3333-CCCC4444"), Secret("s3cr3t-for-test-vectors-only-0123456789abcdef")
)


# --- what we send


def test_the_authentication_is_that_of_the_official_sdk() -> None:
    assert json.loads(auth_text(CREDENTIALS, MS)) == {
        "event": "subscribe",
        "channel": ["auth"],
        "params": {
            "key": "TESTKEY1-AAAA2222-BBBB3333-CCCC4444",
            "signTimestamp": MS,
            "signature": "HiDNr7ghZajCuoD2eBTvQfOoakhjn4hIl8OYuwucMos=",
        },
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            subscription_text(["orders"], ["all"]),
            {"event": "subscribe", "channel": ["orders"], "symbols": ["all"]},
        ),
        (subscription_text(["balances"]), {"event": "subscribe", "channel": ["balances"]}),
        (
            subscription_text(["currencies"], currencies=["all"]),
            {"event": "subscribe", "channel": ["currencies"], "currencies": ["all"]},
        ),
        (
            subscription_text(["book"], ["BTC_USDT"], depth=20),
            {"event": "subscribe", "channel": ["book"], "symbols": ["BTC_USDT"], "depth": 20},
        ),
        (
            trading_text("1", "createOrder", b'{"symbol":"BTC_USDT"}'),
            {"id": "1", "event": "createOrder", "params": {"symbol": "BTC_USDT"}},
        ),
        (
            trading_text("2", "cancelOrders", cancel_params([sw.ExchangeId("5")], ["bot1"])),
            {"id": "2", "event": "cancelOrders", "params": {"orderIds": ["5"], "clientOrderIds": ["bot1"]}},
        ),
        (trading_text("3", "cancelAllOrders"), {"id": "3", "event": "cancelAllOrders", "params": {}}),
    ],
)
def test_a_request_is_what_the_dossier_says(text: str, said: object) -> None:
    assert json.loads(text) == said
    assert ": " not in text  # compact


# --- spot, private


def test_a_placed_spot_order_is_read() -> None:
    read = decode_spot_private(frame("orders", spot_order_row()))
    assert isinstance(read, pw.SpotOrdersFrame)
    (row,) = read.data
    assert (row.symbol, row.side, row.order_id, row.client_id) == ("BTC_USDT", Side.BUY, "32471407854219264", "bot1")
    assert (row.state, row.price, row.quantity) == (OrderState.NEW, Decimal("47112.1"), Decimal(1))
    assert (row.created_ms, row.ts_ms) == (MS, MS + 5)


def test_a_spot_fill_has_its_own_size_beside_the_sums() -> None:
    row = spot_fill_row(filledQuantity="1", filledAmount="47112.1", state="FILLED")
    read = decode_spot_private(frame("orders", row))
    assert isinstance(read, pw.SpotOrdersFrame)
    (fill,) = read.data
    assert (fill.trade_id, fill.trade_price, fill.trade_quantity) == ("60014521", Decimal("47112.1"), Decimal("0.5"))
    assert (fill.fee, fill.fee_currency, fill.role) == (Decimal("0.00075"), "BTC", "MAKER")
    assert (fill.filled_quantity, fill.state) == (1, OrderState.FILLED)


@pytest.mark.parametrize("trade_id", ["60014521", 60014521])
def test_a_trade_id_is_text_or_a_number(trade_id: object) -> None:
    read = decode_spot_private(frame("orders", spot_fill_row(tradeId=trade_id)))
    assert isinstance(read, pw.SpotOrdersFrame)
    assert read.data[0].trade_id == "60014521"


@pytest.mark.parametrize("event", ["canceled", "cancel"])
def test_both_spellings_of_a_cancel_are_read(event: str) -> None:
    read = decode_spot_private(frame("orders", spot_order_row(eventType=event, state="CANCELED")))
    assert isinstance(read, pw.SpotOrdersFrame)
    assert read.data[0].state is OrderState.CANCELED


def test_a_market_order_is_read() -> None:
    row = spot_order_row(type="MARKET", quantity="0", price="0", orderAmount="100", clientOrderId="")
    assert isinstance(decode_spot_private(frame("orders", row)), pw.SpotOrdersFrame)


def test_a_balance_is_read_without_its_huge_id() -> None:
    read = decode_spot_private(frame("balances", balance_row()))
    assert isinstance(read, pw.BalancesFrame)
    (row,) = read.data
    assert (row.currency, row.available, row.hold) == ("USDT", Decimal("9999999983.668"), Decimal("16.332"))


@pytest.mark.parametrize("decode", [decode_spot_private, decode_futures_private])
def test_the_verdict_on_our_key_is_read(decode: Callable[[bytes], object]) -> None:
    assert decode(AUTH_OK) == pw.AuthFrame(data=pw.AuthVerdict(success=True))
    assert decode(AUTH_REFUSED) == pw.AuthFrame(data=pw.AuthVerdict(success=False, message="Authentication failed!"))


@pytest.mark.parametrize(
    ("row", "order_id", "code"),
    [
        ({"orderId": "1234", "clientOrderId": "bot1", "message": "", "code": 200}, "1234", 200),
        ({"orderId": 1234, "clientOrderId": "bot1", "message": "", "code": 200}, 1234, 200),
        ({"orderId": 0, "clientOrderId": None, "message": "balance", "code": 21721}, 0, 21721),
    ],
)
def test_an_answer_over_the_socket_is_read(row: Row, order_id: object, code: int) -> None:
    read = decode_spot_private(encoded({"id": "1", "data": [row]}))
    assert isinstance(read, pw.TradingReply)
    assert read.request_id == "1"
    assert (str(read.data[0].order_id), read.data[0].code) == (str(order_id), code)


# --- spot, public


def book_row(**changes: object) -> Row:
    return {
        "symbol": "BTC_USDT",
        "createTime": MS,
        "asks": [["42510.28", "0.1"], ["42511", "2"]],
        "bids": [["42509.9", "1.5"]],
        "id": 123456,
        "ts": MS + 3,
    } | changes


MARKET = {
    "symbol": "BTC_USDT",
    "baseCurrencyName": "BTC",
    "quoteCurrencyName": "USDT",
    "state": "NORMAL",
    "symbolTradeLimit": {"priceScale": 2, "quantityScale": 6, "minQuantity": "0.000001", "minAmount": "1"},
}
CURRENCY = {
    "currency": "BTC",
    "id": 28,
    "name": "Bitcoin",
    "type": "address",
    "withdrawalFee": "0.0008",
    "delisted": False,
    "tradingState": "NORMAL",
    "walletState": "ENABLED",
}


def test_the_top_of_a_book_is_read() -> None:
    read = decode_spot_public(frame("book", book_row()))
    assert isinstance(read, pw.BookTopFrame)
    assert read.data[0].asks == [("42510.28", "0.1"), ("42511", "2")]


@pytest.mark.parametrize("action", ["snapshot", "update"])
def test_markets_currencies_and_modes_are_read(action: str) -> None:
    symbols = decode_spot_public(frame("symbols", MARKET, action=action))
    assert isinstance(symbols, pw.SymbolsFrame)
    assert (symbols.data[0].symbol, symbols.action) == ("BTC_USDT", action)
    currencies = decode_spot_public(frame("currencies", CURRENCY, action=action))
    assert isinstance(currencies, pw.CurrenciesFrame)
    assert (currencies.data[0].currency, currencies.data[0].trading_state) == ("BTC", "NORMAL")
    modes = decode_spot_public(frame("exchange", {"MM": "OFF", "POM": "ON"}, action=action))
    assert isinstance(modes, pw.ExchangeFrame)
    assert (modes.data[0].maintenance, modes.data[0].post_only) == ("OFF", "ON")


def test_the_frequent_spot_channels_are_read_as_ever() -> None:
    raw = frame("trades")
    assert decode_spot_public(raw) == wire.TradesFrame(data=[])


# --- futures, private


def test_a_futures_order_is_read() -> None:
    row = order_row(state="PARTIALLY_FILLED", execQty="4", execAmt="200", avgPx="50000", cancelReason="")
    read = decode_futures_private(frame("orders", row))
    assert isinstance(read, pw.FuturesOrdersFrame)
    (order,) = read.data
    assert (order.order_id, order.contracts, order.filled_contracts) == ("331378951169769472", 10, 4)
    assert (order.state, order.price, order.average_price) == (OrderState.PARTIALLY_FILLED, 50000, 50000)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("PARTIAL_FILLED", OrderState.PARTIALLY_FILLED),
        ("PARTIALLY_FILLED", OrderState.PARTIALLY_FILLED),
        ("PARTIAL_CANCELED", OrderState.PARTIALLY_CANCELED),
        ("PARTIALLY_CANCELED", OrderState.PARTIALLY_CANCELED),
        ("CANCELED", OrderState.CANCELED),
    ],
)
def test_both_spellings_of_a_partial_state_are_read(text: str, state: OrderState) -> None:
    read = decode_futures_private(frame("orders", order_row(state=text)))
    assert isinstance(read, pw.FuturesOrdersFrame)
    assert read.data[0].state is state


def test_a_futures_fill_is_read() -> None:
    read = decode_futures_private(frame("trade", futures_fill_row()))
    assert isinstance(read, pw.FuturesFillsFrame)
    (fill,) = read.data
    assert (fill.trade_id, fill.contracts, fill.price) == ("105813553", 3, Decimal("46100.5"))
    assert (fill.side, fill.role, fill.fee) == (Side.SELL, "TAKER", Decimal("0.06915075"))


@pytest.mark.parametrize(
    ("changes", "signed"),
    [
        ({}, 3),
        ({"side": "SELL"}, -3),
        ({"posSide": "LONG", "side": "SELL"}, 3),
        ({"posSide": "SHORT"}, -3),
        ({"qty": "0"}, 0),
    ],
)
def test_a_position_is_read_with_its_direction(changes: Row, signed: int) -> None:
    read = decode_futures_private(frame("positions", position_row(**changes)))
    assert isinstance(read, pw.PositionsFrame)
    assert read.data[0].signed_contracts == signed
    assert read.data[0].liquidation_price is None


def test_the_futures_account_is_read() -> None:
    read = decode_futures_private(frame("account", account_row()))
    assert isinstance(read, pw.AccountFrame)
    assert (read.data[0].equity, read.data[0].details[0].available) == (Decimal("998.75"), 1000)


# --- futures, public


def futures_book(action: str = "update", **changes: object) -> bytes:
    row: Row = {"s": PERP, "asks": [["46100", "9284"]], "bids": [["46000", "0"]], "lid": 1, "id": 2}
    return frame("book_lv2", row | {"ts": MS, "cT": MS} | changes, action=action)


def test_a_futures_book_chains_by_its_lid() -> None:
    read = decode_futures_public(futures_book())
    assert isinstance(read, pw.FuturesBookFrame)
    assert (read.data[0].last_id, read.data[0].id, read.data[0].bids) == (1, 2, [("46000", "0")])


@pytest.mark.parametrize("side", ["buy", "BUY"])
def test_a_futures_trade_is_read(side: str) -> None:
    row = {"id": 291, "ts": MS, "s": PERP, "px": "46100", "qty": "1", "amt": "46.1", "side": side, "cT": MS}
    read = decode_futures_public(frame("trades", row))
    assert isinstance(read, pw.FuturesTradesFrame)
    assert (read.data[0].trade_id, read.data[0].contracts, read.data[0].side) == ("291", "1", Side.BUY)


FUTURES_PUBLIC: tuple[tuple[bytes, type], ...] = (
    (futures_book("snapshot"), pw.FuturesBookFrame),
    (frame("book", {"s": PERP, "asks": [], "bids": [], "id": 2, "ts": MS, "cT": MS}), pw.FuturesBookTopFrame),
    (frame("tickers", ticker_row(ts=MS)), pw.FuturesTickersFrame),
    (frame("symbol", instrument_row()), pw.FuturesSymbolFrame),
    (frame("mark_price", {"s": PERP, "mPx": "46050.1", "ts": MS}), pw.MarkPriceFrame),
    (frame("index_price", {"s": PERP, "iPx": "46050.1", "ts": MS}), pw.IndexPriceFrame),
    (
        frame("funding_rate", {"s": PERP, "fR": "0.0001", "fT": MS, "nFR": "-0.0002", "nFT": MS + 1, "ts": MS}),
        pw.FundingFrame,
    ),
)


@pytest.mark.parametrize(("raw", "kind"), FUTURES_PUBLIC, ids=short_id)
def test_every_public_futures_channel_is_read(raw: bytes, kind: type) -> None:
    assert isinstance(decode_futures_public(raw), kind)


def candle(*prices: str) -> list[object]:
    return [PERP, *prices, "8.4", "10", 25, MS, MS + 59_999, MS + 5]


def price_candle(*prices: str) -> list[object]:
    return [PERP, *prices, MS, MS + 59_999, MS + 5]


def test_futures_candles_are_low_high_open_close_on_the_socket() -> None:
    read = decode_futures_public(frame("candles_minute_1", candle("9", "12", "10", "11")))
    assert isinstance(read, pw.FuturesCandlesFrame)
    row = read.data[0]
    assert (row.low, row.high, row.open, row.close, read.interval) == (9, 12, 10, 11, "MINUTE_1")
    mark = decode_futures_public(frame("mark_price_candles_hour_1", price_candle("9", "12", "10", "11")))
    assert isinstance(mark, pw.FuturesPriceCandlesFrame)
    assert (mark.price, mark.interval, mark.data[0].close) == ("mark", "HOUR_1", 11)


@pytest.mark.parametrize("channel", sorted(CANDLE_READERS))
def test_every_candle_channel_is_read_and_its_prices_are_checked(channel: str) -> None:
    make = candle if channel.startswith("candles_") else price_candle
    decode_futures_public(frame(channel, make("9", "12", "10", "11")))
    for prices in (("10", "12", "9", "11"), ("9", "10", "12", "11"), ("9", "10", "9.5", "11")):
        with pytest.raises(BadReply, match="a candle with low"):
            decode_futures_public(frame(channel, make(*prices)))


# --- talk

SOCKETS: tuple[Callable[[bytes], object], ...] = (
    decode_spot_private,
    decode_spot_public,
    decode_futures_private,
    decode_futures_public,
)


@pytest.mark.parametrize("decode", SOCKETS)
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (talk("pong"), wire.Pong()),
        (talk("subscribe", channel="orders", symbols=["ALL"]), wire.Subscribed(channel="orders", symbols=("ALL",))),
        (talk("subscribe", channel="orders"), wire.Subscribed(channel="orders", symbols=())),
        (talk("error", message="no \x1b[2J"), wire.Refused(message="no [2J")),
        (talk("unsubscribe_all"), wire.Other(name="unsubscribe_all")),
        (frame("a_new_channel", {}), wire.Other(name="a_new_channel")),
    ],
)
def test_talk_is_the_same_on_all_sockets(decode: Callable[[bytes], object], raw: bytes, said: object) -> None:
    assert decode(raw) == said


# --- frames that are wrong


def without(row: Row, key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


WRONG: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
    *((decode, raw) for decode in SOCKETS for raw in (b"", b"ping", b"{}", b"[]", b"null", b'"{}"', b"[" * 200_000)),
    *(
        (decode_spot_private, frame("orders", row))
        for row in (
            spot_order_row(state="GONE"),
            spot_order_row(eventType="maybe"),
            spot_order_row(orderId=""),
            spot_order_row(price="NaN"),
            spot_order_row(price="1e40"),
            spot_order_row(quantity="Infinity"),
            spot_order_row(quantity=None),
            spot_order_row(createTime=0),
            spot_order_row(side="HOLD"),
            without(spot_order_row(), "filledQuantity"),
            spot_fill_row(tradeId="0"),
            spot_fill_row(tradeId="9" * 65),
            spot_fill_row(tradeQty=""),
            spot_fill_row(tradePrice="1e5"),
            spot_fill_row(tradeTime=0),
            without(spot_fill_row(), "tradeQty"),
        )
    ),
    (decode_spot_private, encoded({"channel": "orders", "data": spot_order_row()})),
    (decode_spot_private, frame("balances", without(balance_row(), "hold"))),
    (decode_spot_private, frame("balances", balance_row(available="sNaN"))),
    (decode_spot_private, encoded({"data": {"success": "maybe"}, "channel": "auth"})),
    (decode_spot_private, b'{"id":"1","data":[{}]}'),
    (decode_spot_private, encoded({"id": None, "data": []})),
    *(
        (decode_futures_private, frame("orders", row))
        for row in (
            order_row(state="EXPIRED?"),
            order_row(sz="1.5"),
            order_row(sz="-1"),
            order_row(execQty=None),
            order_row(avgPx="NaN"),
            order_row(mgnMode="SHARED"),
            without(order_row(), "ordId"),
        )
    ),
    (decode_futures_private, frame("trade", futures_fill_row(fqty="0.5"))),
    (decode_futures_private, frame("trade", futures_fill_row(trdId=""))),
    (decode_futures_private, frame("trade", without(futures_fill_row(), "role"))),
    (decode_futures_private, frame("positions", position_row(qty="-3"))),
    (decode_futures_private, frame("positions", position_row(lever="NaN"))),
    (decode_futures_private, frame("account", without(account_row(), "eq"))),
    (decode_futures_public, futures_book("replace")),
    (decode_futures_public, futures_book(id=-1)),
    (decode_futures_public, futures_book(asks=[[1, 2]])),
    (decode_futures_public, frame("mark_price", {"s": PERP, "mPx": "", "ts": MS})),
    (decode_futures_public, frame("candles_minute_1", candle("9", "12", "10", "11")[:-1])),
    (decode_spot_public, frame("book", without(book_row(), "id"))),
    (decode_spot_public, frame("exchange", {"MM": "PERHAPS"})),
)


@pytest.mark.parametrize(("decode", "raw"), WRONG, ids=short_id)
def test_a_wrong_frame_is_a_bad_reply(decode: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(BadReply) as bad:
        decode(raw)
    assert len(bad.value.frame) <= 200
    assert str(bad.value).isprintable()


# --- fuzz

GOOD = (
    frame("orders", spot_order_row(), spot_fill_row()),
    frame("balances", balance_row()),
    encoded({"id": "1", "data": [{"orderId": "5", "clientOrderId": None, "message": "", "code": 200}]}),
    AUTH_OK,
    AUTH_REFUSED,
    frame("book", book_row()),
    frame("symbols", MARKET, action="snapshot"),
    frame("currencies", CURRENCY, action="update"),
    frame("exchange", {"MM": "OFF", "POM": "ON"}, action="snapshot"),
    frame("orders", order_row()),
    frame("trade", futures_fill_row()),
    frame("positions", position_row()),
    frame("account", account_row()),
    futures_book(),
    *(raw for raw, _ in FUTURES_PUBLIC),
    frame("candles_minute_1", candle("9", "12", "10", "11")),
    frame("index_candles_day_1", price_candle("9", "12", "10", "11")),
    *TALK,
)


def check(raw: bytes) -> int:
    """Return how many sockets would read `raw`; each must read it or say that it is a bad reply."""
    count = 0
    for decode in SOCKETS:
        value = value_or_error(decode, raw)
        if isinstance(value, Exception):
            assert isinstance(value, BadReply)
        else:
            count += 1
    return count


def test_mutated_frames_are_frames_or_bad_replies_on_every_socket() -> None:
    read = sum(check(mutated(GOOD, seed)) for seed in range(EXAMPLES))
    assert EXAMPLES // 5 < read < EXAMPLES * 12 // 5  # the wounds are neither all harmless nor all deadly


@settings(max_examples=300)
@given(st.binary(max_size=300))
@example(b'{"event":"\\ud83d"}')
@example(b'{"event":"","channel":"trade","data":0}')
def test_any_bytes_are_a_frame_or_a_bad_reply(raw: bytes) -> None:
    check(raw)
