from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.instrument import ATOM_SCALE, Side
from bot.core.orders import OrderState
from bot.errors import BadReply, ExchangeError, OffGrid, OrderRefusedHere, ReadRefused
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.dialects import perpetual
from bot.exchange.poloniex.futures_codec import (
    FuturesInstrument,
    Refusal,
    decode_data,
    decode_instrument,
    decode_instruments,
    decode_rows,
    decoder,
    place_body,
    place_many_body,
    plain,
    refusal_of,
)
from bot.exchange.poloniex.futures_wire import Contracts
from tests.exchange.poloniex.futures_samples import (
    CANDLE,
    MS,
    PERP,
    PRICE_CANDLE,
    Row,
    account_row,
    bill_row,
    encoded,
    envelope,
    fill_row,
    instrument_row,
    market_trade_row,
    mutated,
    order_row,
    position_history_row,
    position_row,
    risk_row,
    ticker_row,
    value_or_error,
)
from tests.support.fuzz import EXAMPLES


def instrument(**changes: object) -> FuturesInstrument:
    return decode_instrument(envelope(instrument_row(**changes)))


def order(**changes: object) -> fw.FuturesOrder:
    made = fw.FuturesOrder(
        client_id="bot1",
        symbol=PERP,
        side=Side.BUY,
        order_type="LIMIT",
        contracts=Contracts(10),
        price=Decimal("50000.25"),
    )
    return msgspec.structs.replace(made, **changes)


# --- instruments


def test_an_instrument_is_read() -> None:
    read = instrument()
    assert (read.symbol, read.base, read.quote, read.settlement) == (PERP, "BTC", "USDT", "USDT")
    assert (read.contract_value, read.tick_size, read.lot_contracts) == (Decimal("0.001"), Decimal("0.01"), 1)
    assert (read.market_contracts_max, read.limit_contracts_max, read.leverage_max) == (2800, 1_000_000, 75)
    assert (read.taker_rate, read.maker_rate, read.is_open) == (Decimal("0.0005"), Decimal("0.0001"), True)


@pytest.mark.parametrize("steps", [(1, 1), ("1", "1"), ("1.0", 1)])
def test_steps_are_text_or_numbers(steps: tuple[object, object]) -> None:
    assert instrument(lotSz=steps[0], minSz=steps[1]).contracts_min == 1


def test_one_instrument_may_come_in_an_array() -> None:
    assert decode_instrument(envelope([instrument_row()])) == instrument()
    for rows in ([], [instrument_row(), instrument_row()]):
        with pytest.raises(BadReply, match="rows instead of 1"):
            decode_instrument(envelope(rows))


def test_a_perpetual_has_the_largest_orders_that_are_listed_or_none() -> None:
    made = [perpetual(instrument()), perpetual(instrument(marketMaxQty="", limitMaxQty="0"))]
    assert [(each.limit_lots_max, each.market_lots_max) for each in made] == [(1_000_000, 2_800), (0, 0)]
    assert not any(each.is_post_only or each.notional_atoms_max for each in made)


@pytest.mark.parametrize("status", ["PAUSE", "CANCEL_ONLY", "open", ""])
def test_an_instrument_that_is_not_open_is_not_open(status: str) -> None:
    assert not instrument(status=status).is_open


@pytest.mark.parametrize(
    "changes",
    [
        {"ctVal": "0"},
        {"ctVal": "-1"},
        {"ctVal": "NaN"},
        {"tSz": "0"},
        {"tSz": f"0.{'0' * ATOM_SCALE}1"},
        {"lotSz": 0},
        {"lotSz": "0.5"},
        {"ctType": "INVERSE"},
        {"symbol": ""},
        {"maxPx": "soon"},
    ],
)
def test_an_instrument_that_we_cannot_hold_is_left_out_of_the_others(changes: Row) -> None:
    bad = instrument_row(**changes)
    assert [each.symbol for each in decode_instruments(envelope([bad, instrument_row()]))] == [PERP]
    with pytest.raises(BadReply, match="no readable instrument"):
        decode_instruments(envelope([bad]))
    with pytest.raises(BadReply):
        decode_instrument(envelope(bad))


def test_contracts_and_coins_convert_exactly() -> None:
    perp = instrument()
    assert perp.coins(Contracts(3)) == Decimal("0.003")
    assert perp.contracts(Decimal("0.003")) == 3
    assert perp.notional(Contracts(3), Decimal("50000.01")) == Decimal("150.00003")
    for coins in ("0.0035", "-0.001", "NaN", "1e40"):
        with pytest.raises(OffGrid, match=r"not a whole number of 0\.001"):
            perp.contracts(Decimal(coins))


@given(st.integers(0, 10**18), st.integers(1, 10**12))
def test_any_size_survives_the_way_to_coins_and_back(contracts: int, value: int) -> None:
    perp = msgspec.structs.replace(instrument(), contract_value=Decimal(value).scaleb(-12))
    assert perp.contracts(perp.coins(Contracts(contracts))) == contracts


# --- orders


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"price": Decimal("50000.2500")},
        {"price": Decimal("5E+4")},
        {"order_type": "MARKET", "price": None},
        {"order_type": "LIMIT_MAKER"},
        {"contracts": Contracts(1)},
        {"is_reduce_only": True},
    ],
)
def test_an_order_on_the_grid_is_good(changes: dict[str, object]) -> None:
    instrument().check(order(**changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"price": Decimal("50000.001")}, "not a multiple of 0.01"),
        ({"price": Decimal(0)}, "not a number > 0"),
        ({"price": Decimal(-1)}, "not a number > 0"),
        ({"price": Decimal("NaN")}, "not a number > 0"),
        ({"price": Decimal("1e400")}, "not a number > 0"),
        ({"price": Decimal(2_000_000)}, "> 1000000, the most"),
        ({"price": None}, "without a price"),
        ({"order_type": "MARKET"}, "with the price"),
        ({"order_type": "MARKET", "price": None, "contracts": Contracts(2801)}, "> 2800, the most"),
        ({"contracts": Contracts(0)}, "< 1, the least"),
        ({"contracts": Contracts(-5)}, "< 1, the least"),
        ({"contracts": Contracts(1_000_001)}, "> 1000000, the most"),
        ({"symbol": "ETH_USDT_PERP"}, "an order for ETH_USDT_PERP"),
        ({"client_id": ""}, "client id"),
        ({"client_id": "x" * 65}, "client id"),
        ({"client_id": "a b"}, "client id"),
        ({"order_type": "LIMIT_MAKER", "time_in_force": "IOC"}, "LIMIT_MAKER order that is IOC"),
        ({"is_reduce_only": True, "position_side": "LONG"}, "hedge mode"),
    ],
)
def test_an_order_that_would_be_refused_is_refused_here(changes: dict[str, object], error: str) -> None:
    with pytest.raises((OffGrid, OrderRefusedHere), match=error):
        instrument().check(order(**changes))


def test_a_size_between_two_lots_is_off_the_grid() -> None:
    with pytest.raises(OffGrid, match="not a multiple of 4"):
        instrument(lotSz=4).check(order())


def test_an_order_is_written_with_its_type_and_plain_numbers() -> None:
    assert json.loads(place_body(order(price=Decimal("5.000E+4")))) == {
        "symbol": PERP,
        "side": "BUY",
        "type": "LIMIT",
        "sz": "10",
        "mgnMode": "CROSS",
        "posSide": "BOTH",
        "clOrdId": "bot1",
        "px": "50000",
        "timeInForce": "GTC",
        "stpMode": "EXPIRE_TAKER",
    }
    market = order(order_type="MARKET", price=None, is_reduce_only=True, self_trade="NONE")
    assert json.loads(place_many_body([market])) == [
        {
            "symbol": PERP,
            "side": "BUY",
            "type": "MARKET",
            "sz": "10",
            "mgnMode": "CROSS",
            "posSide": "BOTH",
            "clOrdId": "bot1",
            "reduceOnly": True,
            "stpMode": "NONE",
        }
    ]


@pytest.mark.parametrize(
    ("number", "text"), [("1.50", "1.5"), ("100", "100"), ("1E+3", "1000"), ("1E-9", "0.000000001"), ("0.0", "0")]
)
def test_numbers_are_written_plainly(number: str, text: str) -> None:
    assert plain(Decimal(number)) == text


# --- the envelope

ORDER = decoder(fw.OrderRow)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (envelope(None, 11008, "Order does not exist"), 11008, "Order does not exist"),
        (envelope({}, 250, "DUPLICATE"), 250, "DUPLICATE"),
        (b'{"code":"503"}', 503, ""),
        (b'{"code":400,"msg":"\\u001b[2J"}', 400, "[2J"),
    ],
)
def test_a_code_other_than_200_is_a_refusal_whatever_the_data(body: bytes, code: int, text: str) -> None:
    assert refusal_of(body) == Refusal(code, text)
    with pytest.raises(ReadRefused) as refused:
        decode_data(ORDER, body)
    assert refused.value.code == code


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"code":"x"}', b'{"code":null}', b'{"data":{}}'])
def test_no_envelope_is_a_bad_reply_and_no_refusal(body: bytes) -> None:
    assert refusal_of(body) is None
    with pytest.raises(BadReply):
        decode_data(ORDER, body)


def test_a_good_envelope_is_no_refusal() -> None:
    assert refusal_of(envelope([])) is None


# --- rows

ROWS: tuple[tuple[type[msgspec.Struct], object], ...] = (
    (fw.InstrumentRow, instrument_row()),
    (fw.BookReply, {"asks": [["46100", "9284"]], "bids": [["46000", "10"]], "s": "0.01", "ts": MS}),
    (fw.MarketTradeRow, market_trade_row()),
    (fw.TickerRow, ticker_row()),
    (fw.OpenInterestReply, {"s": PERP, "oInterest": "123456"}),
    (fw.InsuranceRow, {"amt": "1000000.5", "ccy": "USDT", "uTime": str(MS)}),
    (fw.LimitPriceRow, {"symbol": PERP, "buyLmt": "48000", "sellLmt": "44000"}),
    (
        fw.LiquidationRow,
        {"symbol": PERP, "side": "SELL", "posSide": "LONG", "sz": "5", "bkPx": "45000", "uTime": str(MS)},
    ),
    (fw.CandleArray, CANDLE),
    (fw.PriceCandleArray, PRICE_CANDLE),
    (fw.MarkPriceRow, {"s": PERP, "mPx": "46050.1"}),
    (fw.IndexPriceRow, {"s": PERP, "iPx": "46050.1"}),
    (
        fw.IndexComponentsRow,
        {"s": PERP, "px": "46050.1", "cs": [{"e": "x", "sPx": "46050", "w": "0.5", "cPx": "46050"}]},
    ),
    (fw.FundingRow, {"s": PERP, "fR": "0.0001", "fT": str(MS), "nFR": "0.0002", "nFT": str(MS + 1)}),
    (fw.FundingHistoryRow, {"s": PERP, "fR": "-0.0001", "fT": str(MS)}),
    (fw.RiskLimitRow, risk_row()),
    (fw.AccountRow, account_row()),
    (fw.BillRow, bill_row()),
    (fw.AckRow, {"ordId": "1", "clOrdId": "bot1"}),
    (fw.OrderRow, order_row()),
    (fw.FillRow, fill_row()),
    (fw.PositionRow, position_row()),
    (fw.PositionHistoryRow, position_history_row()),
    (fw.LeverageRow, {"symbol": PERP, "mgnMode": "CROSS", "posSide": "BOTH", "lever": "20"}),
    (fw.MarginRow, {"amt": "10", "lever": "20", "symbol": PERP, "posSide": "LONG", "type": "ADD"}),
)


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_row_is_read_alone_and_in_an_array(kind: type[msgspec.Struct], row: object) -> None:
    read = decode_data(decoder(kind), envelope(row))
    assert isinstance(read, kind)
    if not isinstance(row, list):
        assert decode_rows(decoder(kind), envelope([row, row])) == [read, read]


def test_numbers_are_exact() -> None:
    fill = decode_data(decoder(fw.FillRow), envelope(fill_row()))
    assert (fill.price, fill.contracts, fill.fee) == (Decimal("46100.5"), 3, Decimal("0.06915075"))
    account = decode_data(decoder(fw.AccountRow), envelope(account_row()))
    assert (account.available_margin, account.details[0].unrealised_pnl) == (Decimal("991.835"), Decimal("-1.25"))


def test_the_order_of_a_candle_differs_by_its_kind() -> None:
    candle = decode_data(decoder(fw.CandleArray), envelope(CANDLE))
    assert (candle.low, candle.high, candle.open, candle.close) == tuple(map(Decimal, CANDLE[:4]))
    price = decode_data(decoder(fw.PriceCandleArray), envelope(PRICE_CANDLE))
    assert (price.open, price.high, price.low, price.close) == tuple(map(Decimal, PRICE_CANDLE[:4]))
    with pytest.raises(BadReply, match="a candle with low"):
        decode_data(decoder(fw.CandleArray), envelope(["10", "12", "9", "11", *CANDLE[4:]]))


def test_an_order_without_prices_has_none() -> None:
    read = decode_data(ORDER, envelope(order_row(type="MARKET", px="", avgPx="", state="CANCELED")))
    assert (read.price, read.average_price, read.state) == (None, None, OrderState.CANCELED)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (fw.OrderRow, order_row(state="UNHEARD_OF")),
        (fw.OrderRow, order_row(sz="1.5")),
        (fw.OrderRow, order_row(execAmt="Infinity")),
        (fw.OrderRow, order_row(px="1e5")),
        (fw.OrderRow, order_row(cTime="0")),
        (fw.FillRow, fill_row(px="sNaN")),
        (fw.FillRow, fill_row(px="1" * 31)),
        (fw.FillRow, fill_row(px="1e-31")),
        (fw.FillRow, fill_row(role="BOTH")),
        (fw.PositionRow, position_row(qty="-1")),
        (fw.PositionRow, position_row(side="NONE")),
        (fw.AccountRow, account_row(details={})),
        (fw.RiskLimitRow, risk_row(tier="-1")),
        (fw.BookReply, {"asks": ["1", "2"], "bids": [], "ts": MS}),
    ],
)
def test_a_wrong_row_is_a_bad_reply(kind: type[fw.Row], row: Row) -> None:
    with pytest.raises(BadReply) as bad:
        decode_data(decoder(kind), envelope(row))
    assert str(bad.value).isprintable()


# --- fuzz

READERS: tuple[Callable[[bytes], object], ...] = (
    decode_instruments,
    decode_instrument,
    refusal_of,
    *(partial(decode_rows, decoder(kind)) for kind, _ in ROWS),
)
GOOD = (
    *(envelope(row) for _, row in ROWS),
    *(envelope([row, row]) for _, row in ROWS),
    envelope(None, 11008, "Order does not exist"),
    envelope({}, 250, "DUPLICATE"),
)


def check(body: bytes, seed: int) -> bool:
    """Return whether a reader, chosen by `seed`, could read `body`; it must do that or raise an error of ours."""
    value = value_or_error(READERS[seed % len(READERS)], body)
    assert not isinstance(value, ExchangeError) or isinstance(value, BadReply | ReadRefused)
    return not isinstance(value, ExchangeError)


def test_mutated_replies_are_values_or_errors_of_ours() -> None:
    kinds = len(ROWS)
    read = 0
    for seed in range(EXAMPLES):
        row = seed % kinds
        # Mostly the reply that the reader expects, so that the wounds and not the shapes decide.
        good = (GOOD[row], GOOD[kinds + row]) if seed % 5 else GOOD
        read += check(mutated(good, seed), row + 3)
    assert EXAMPLES // 40 < read < EXAMPLES * 7 // 8  # the wounds are neither all harmless nor all deadly


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 100))
def test_any_bytes_are_a_value_or_an_error_of_ours(body: bytes, seed: int) -> None:
    check(body, seed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300)
@given(json_values, st.integers(0, 100))
def test_any_data_in_an_envelope_is_a_value_or_an_error_of_ours(data: object, seed: int) -> None:
    check(encoded({"code": 200, "msg": "Success", "data": data}), seed)
