"""Documented replies and frames, as rows that a test may change, and what wounds them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from decimal import Decimal

from bot.errors import ExchangeError

MS = 1_700_000_000_000
PERP = "BTC_USDT_PERP"

Row = dict[str, object]


def encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def envelope(data: object, code: int = 200, msg: str = "Success") -> bytes:
    return encoded({"code": code, "msg": msg, "data": data})


def frame(channel: str, *rows: object, **more: object) -> bytes:
    return encoded({"channel": channel, "data": list(rows)} | more)


# --- futures, REST


def instrument_row(**changes: object) -> Row:
    return {
        "symbol": PERP,
        "bAsset": ".PXBTUSDT",
        "bCcy": "BTC",
        "qCcy": "USDT",
        "sCcy": "USDT",
        "visibleStartTime": "1584721775000",
        "tradableStartTime": "1584721775000",
        "oDate": "1584721775000",
        "pxScale": "0.01,0.1,1,10",
        "lotSz": 1,
        "minSz": 1,
        "ctVal": "0.001",
        "tSz": "0.01",
        "status": "OPEN",
        "maxPx": "1000000",
        "minPx": "0.01",
        "maxQty": "1000000",
        "minQty": "1",
        "maxLever": "75",
        "lever": "20",
        "ctType": "LINEAR",
        "alias": "",
        "iM": "0.0133",
        "mM": "0.006",
        "mR": "2000",
        "buyLmt": "1.05",
        "sellLmt": "0.95",
        "ordPxRange": "0.05",
        "marketMaxQty": "2800",
        "limitMaxQty": "1000000",
        "tFee": "0.0005",
        "mFee": "0.0001",
    } | changes


def order_row(**changes: object) -> Row:
    return {
        "symbol": PERP,
        "side": "BUY",
        "type": "LIMIT",
        "ordId": "331378951169769472",
        "clOrdId": "polo331378951169769472",
        "mgnMode": "CROSS",
        "posSide": "BOTH",
        "px": "50000",
        "sz": "10",
        "lever": "20",
        "state": "NEW",
        "source": "API",
        "reduceOnly": False,
        "timeInForce": "GTC",
        "tpTrgPx": "",
        "tpPx": "",
        "tpTrgPxType": "",
        "slTrgPx": "",
        "slPx": "",
        "slTrgPxType": "",
        "avgPx": "0",
        "execQty": "0",
        "execAmt": "0",
        "feeCcy": "",
        "feeAmt": "0",
        "deductCcy": "0",
        "deductAmt": "0",
        "stpMode": "NONE",
        "cTime": str(MS),
        "uTime": str(MS + 1),
        "qCcy": "USDT",
    } | changes


def fill_row(**changes: object) -> Row:
    return {
        "id": "105813553",
        "trdId": "105813553",
        "symbol": PERP,
        "side": "SELL",
        "type": "TRADE",
        "mgnMode": "CROSS",
        "posSide": "BOTH",
        "ordType": "MARKET",
        "ordId": "331378951169769472",
        "clOrdId": "polo331378951169769472",
        "role": "TAKER",
        "px": "46100.5",
        "qty": "3",
        "sz": "3",
        "value": "138.3015",
        "feeCcy": "USDT",
        "feeAmt": "0.06915075",
        "feeRate": "0.0005",
        "deductCcy": "",
        "deductAmt": "0",
        "qCcy": "USDT",
        "actType": "TRADING",
        "cTime": str(MS),
        "uTime": str(MS),
    } | changes


def position_row(**changes: object) -> Row:
    return {
        "symbol": PERP,
        "posSide": "BOTH",
        "side": "BUY",
        "mgnMode": "CROSS",
        "openAvgPx": "46100.5",
        "qty": "3",
        "oldQty": "0",
        "availQty": "3",
        "lever": "20",
        "fee": "-0.06",
        "adl": "0",
        "liqPx": "",
        "mgn": "0",
        "im": "6.915",
        "mm": "0.83",
        "upl": "-1.25",
        "uplRatio": "-0.01",
        "pnl": "0",
        "fPnl": "0",
        "fFee": "0",
        "markPx": "45683.83",
        "lastPx": "45680",
        "indexPx": "45682",
        "mgnRatio": "0.005",
        "state": "NORMAL",
        "cTime": str(MS),
        "uTime": str(MS),
        "actType": "TRADING",
        "maxWAmt": "3",
    } | changes


def account_row(**changes: object) -> Row:
    detail = {
        "ccy": "USDT",
        "eq": "998.75",
        "isoEq": "0",
        "avail": "1000",
        "trdHold": "0",
        "upl": "-1.25",
        "isoAvail": "0",
        "isoHold": "0",
        "isoUpl": "0",
        "im": "6.915",
        "mm": "0.83",
        "mmr": "0.0008",
        "imr": "0.0069",
        "cTime": str(MS),
        "uTime": str(MS),
    }
    return {
        "state": "NORMAL",
        "eq": "998.75",
        "isoEq": "0",
        "im": "6.915",
        "mm": "0.83",
        "mmr": "0.00083",
        "upl": "-1.25",
        "availMgn": "991.835",
        "cTime": str(MS),
        "uTime": str(MS),
        "details": [detail],
    } | changes


def ticker_row(**changes: object) -> Row:
    return {
        "s": PERP,
        "o": "46000",
        "l": "26829.54",
        "h": "46100",
        "c": "46100",
        "qty": "18736",
        "amt": "8556118.81",
        "tC": 1,
        "sT": MS - 86_400_000,
        "cT": MS,
        "dN": "BTC/USDT",
        "dC": "0.0022",
        "bPx": "46000",
        "bSz": "46",
        "aPx": "46100",
        "aSz": "9279",
        "mPx": "46050.1",
        "iPx": "46050.2",
    } | changes


def market_trade_row(**changes: object) -> Row:
    return {"id": 291, "side": "sell", "px": "46100", "qty": "1", "amt": "46.1", "cT": MS} | changes


def bill_row(**changes: object) -> Row:
    return {
        "id": "1234",
        "actType": "TRADING",
        "symbol": PERP,
        "mgnMode": "CROSS",
        "posSide": "BOTH",
        "ccy": "USDT",
        "sz": "-0.25",
        "cTime": str(MS),
        "type": "FUNDING_FEE",
    } | changes


def risk_row(**changes: object) -> Row:
    return {
        "symbol": PERP,
        "mgnMode": "CROSS",
        "tier": "1",
        "maxLever": "75",
        "mMRatio": "0.006",
        "maxSize": "20000",
        "minSize": "0",
    } | changes


def position_history_row(**changes: object) -> Row:
    return {
        "id": "77",
        "symbol": PERP,
        "posSide": "BOTH",
        "side": "BUY",
        "mgnMode": "CROSS",
        "openAvgPx": "46000",
        "closeAvgPx": "46100",
        "qty": "3",
        "closedQty": "3",
        "availQty": "0",
        "pnl": "0.3",
        "fee": "-0.1",
        "fFee": "0",
        "state": "CLOSED",
        "cTime": str(MS),
        "uTime": str(MS),
    } | changes


CANDLE = ["58651", "58651.5", "58651.1", "58651.2", "3.4", "58", "62", str(MS), str(MS + 59_999)]
PRICE_CANDLE = ["57520.12", "57520.98", "57519.13", "57520.5", str(MS), str(MS + 59_999)]


# --- spot and futures, private sockets


def spot_order_row(**changes: object) -> Row:
    """Return an order that was just placed."""
    return {
        "symbol": "BTC_USDT",
        "type": "LIMIT",
        "quantity": "1",
        "orderId": "32471407854219264",
        "tradeFee": "0",
        "clientOrderId": "bot1",
        "accountType": "SPOT",
        "feeCurrency": "",
        "eventType": "place",
        "source": "API",
        "side": "BUY",
        "filledQuantity": "0",
        "filledAmount": "0",
        "matchRole": "",
        "state": "NEW",
        "tradeTime": 0,
        "tradeAmount": "0",
        "orderAmount": "0",
        "createTime": MS,
        "price": "47112.1",
        "tradeQty": "0",
        "tradePrice": "0",
        "tradeId": "0",
        "ts": MS + 5,
    } | changes


def spot_fill_row(**changes: object) -> Row:
    """Return the first fill of that order: a half."""
    return (
        spot_order_row(
            eventType="trade",
            state="PARTIALLY_FILLED",
            matchRole="MAKER",
            filledQuantity="0.5",
            filledAmount="23556.05",
            tradeId="60014521",
            tradePrice="47112.1",
            tradeQty="0.5",
            tradeAmount="23556.05",
            tradeFee="0.00075",
            feeCurrency="BTC",
            tradeTime=MS + 4,
        )
        | changes
    )


def balance_row(**changes: object) -> Row:
    return {
        "changeTime": MS,
        "accountId": "1234",
        "accountType": "SPOT",
        "eventType": "place_order",
        "available": "9999999983.668",
        "currency": "USDT",
        "id": 60018450912695040,
        "userId": 12345,
        "hold": "16.332",
        "ts": MS,
    } | changes


def futures_fill_row(**changes: object) -> Row:
    return {
        "symbol": PERP,
        "side": "SELL",
        "ordId": "331378951169769472",
        "clOrdId": "polo331378951169769472",
        "role": "TAKER",
        "trdId": "105813553",
        "feeCcy": "USDT",
        "feeAmt": "0.06915075",
        "deductCcy": "",
        "deductAmt": "0",
        "fpx": "46100.5",
        "fqty": "3",
        "uTime": str(MS),
    } | changes


def talk(event: str, **more: object) -> bytes:
    return encoded({"event": event} | more)


AUTH_OK = encoded({"data": {"success": True, "ts": MS}, "channel": "auth"})
AUTH_REFUSED = encoded({"data": {"success": False, "message": "Authentication failed!", "ts": MS}, "channel": "auth"})
TALK = (
    talk("subscribe", channel="orders", symbols=["ALL"]),
    talk("unsubscribe", channel="orders", symbols=["ALL"]),
    talk("error", message='Invalid channel value ["ordersss"]'),
    talk("pong"),
    talk("unsubscribe_all"),
)


# --- wounds

SPLICES = (
    b"",
    b"null",
    b"1e400",
    b"NaN",
    b'"NaN"',
    b'"-Infinity"',
    b'"1e99999999"',
    b'"1_0"',
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
    b'""',
    b'"channel":"orders",',
    b'"event":"error",',
    b'"code":250,',
    b'"data":[],',
    b"[" * 5000,
)


def mutated(good: Sequence[bytes], seed: int) -> bytes:
    """Return one of `good` with up to three wounds: splices, cuts, flipped bits, frames crossed, values replaced."""
    rng = random.Random(seed)
    raw = bytearray(rng.choice(good))
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
                other = rng.choice(good)
                raw[at:] = other[rng.randrange(len(other)) :]
            case 4:
                starts = [index for index, byte in enumerate(raw) if byte in b":,["]
                if starts:
                    start = rng.choice(starts) + 1
                    raw[start : start + rng.randrange(8)] = rng.choice(SPLICES)
            case _:
                raw[at:end] = raw[at:end] * 2
    return bytes(raw)


def value_or_error(decode: Callable[[bytes], object], raw: bytes) -> object:
    """Return what `decode` makes of `raw`, or the error of ours that it raises, fit for a terminal."""
    try:
        value = decode(raw)
    except ExchangeError as error:
        if not str(error).isprintable():
            raise
        return error
    check_numbers(value)
    return value


def check_numbers(value: object) -> None:
    """Check that every number in a decoded value, at any depth, can be reckoned with."""
    if isinstance(value, Decimal):
        assert abs(value) < 10**30
        assert value == 0 or abs(value) >= Decimal(10) ** -30
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]  (any value at all)
            check_numbers(item)  # pyright: ignore[reportUnknownArgumentType]
    elif hasattr(value, "__struct_fields__"):
        for name in dir(type(value)):
            if not name.startswith("_"):
                attribute = getattr(value, name)
                if not callable(attribute):
                    check_numbers(attribute)
