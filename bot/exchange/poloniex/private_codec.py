"""Reading the frames in `private_wire` and writing private requests. Any bytes give a typed value or `BadReply`.

It knows the shapes of four sockets (spot and futures, public and private), not connections nor what a fill means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, Literal, TypeVar

import msgspec

from bot.core.text import safe_text
from bot.errors import BadReply
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import NAME_LENGTH_MAX, TEXT_LENGTH_MAX, UNREADABLE, decode_frame
from bot.exchange.poloniex.futures_codec import INTERVALS, decoder
from bot.exchange.poloniex.signing import Credentials, websocket_signature

ORDERS: Final = "orders"
BALANCES: Final = "balances"
FILLS: Final = "trade"
POSITIONS: Final = "positions"
ACCOUNT: Final = "account"
AUTH: Final = "auth"
SPOT_PRIVATE_CHANNELS: Final = (ORDERS, BALANCES)
FUTURES_PRIVATE_CHANNELS: Final = (ORDERS, FILLS, POSITIONS, ACCOUNT)
SPOT_RARE_CHANNELS: Final = ("book", "symbols", "currencies", "exchange")
FUTURES_PUBLIC_CHANNELS: Final = (
    *("book_lv2", "trades", "book", "tickers", "symbol", "mark_price", "index_price", "funding_rate"),
)
BOOK_DEPTHS: Final = (5, 10, 20)

T = TypeVar("T")


# --- what we send


class _Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    event: str
    channel: tuple[str, ...]
    symbols: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    depth: int = 0


def subscription_text(
    channels: Iterable[str], symbols: Iterable[str] = (), currencies: Iterable[str] = (), depth: int = 0
) -> str:
    """Return a subscription; `depth` (one of `BOOK_DEPTHS`) is for `book`, `currencies` for `currencies` alone."""
    assert not depth or depth in BOOK_DEPTHS
    request = _Subscription(
        event="subscribe",
        channel=tuple(channels),
        symbols=tuple(symbols),
        currencies=tuple(currencies),
        depth=depth,
    )
    return msgspec.json.encode(request).decode()


def auth_text(credentials: Credentials, timestamp_ms: int) -> str:
    """Return the request that opens a private socket. Never log it."""
    params = pw.AuthParams(
        key=credentials.key.reveal(),
        sign_ms=timestamp_ms,
        signature=websocket_signature(credentials.secret, timestamp_ms),
    )
    return msgspec.json.encode(pw.AuthRequest(params=params)).decode()


def trading_text(
    request_id: str, event: Literal["createOrder", "cancelOrders", "cancelAllOrders"], params: bytes = b"{}"
) -> str:
    """Return a trading request; `params` is JSON: the body that REST would take, or a list of ids."""
    request = pw.TradingRequest(id=request_id, event=event, params=msgspec.Raw(params))
    return msgspec.json.encode(request).decode()


def cancel_params(order_ids: Iterable[str] = (), client_ids: Iterable[str] = ()) -> bytes:
    """Return the params of a `cancelOrders` request."""
    # Ids that the exchange gave us are a kind of `str`, which msgspec does not know.
    params = pw.CancelParams(order_ids=tuple(map(str, order_ids)), client_ids=tuple(map(str, client_ids)))
    return msgspec.json.encode(params)


# --- what we receive

_spot_private: Final[msgspec.json.Decoder[pw.SpotPrivateData]] = msgspec.json.Decoder(pw.SpotPrivateData, strict=False)
_spot_public: Final[msgspec.json.Decoder[pw.SpotPublicData]] = msgspec.json.Decoder(pw.SpotPublicData, strict=False)
_futures_private: Final[msgspec.json.Decoder[pw.FuturesPrivateData]] = msgspec.json.Decoder(
    pw.FuturesPrivateData, strict=False
)
_futures_public: Final[msgspec.json.Decoder[pw.FuturesPublicData]] = msgspec.json.Decoder(
    pw.FuturesPublicData, strict=False
)
_trading: Final = decoder(pw.TradingReply)
_head: Final = decoder(wire.Envelope)
_candles: Final = decoder(list[pw.FuturesCandleRow])
_price_candles: Final = decoder(list[pw.FuturesPriceCandleRow])


def decode_spot_private(raw: bytes) -> pw.SpotPrivateFrame:
    """Return a frame of the private spot socket.

    Raises:
        BadReply: `raw` is not JSON, or is a frame of a known kind with a field missing or out of its bounds.

    """
    try:
        return _spot_private.decode(raw)
    except UNREADABLE as error:
        head = _read(_head, raw)
        if not head.event and not head.channel:
            return _read(_trading, raw)
        return _talk(raw, head, error, (*SPOT_PRIVATE_CHANNELS, AUTH))


def decode_futures_private(raw: bytes) -> pw.FuturesPrivateFrame:
    """Return a frame of the private futures socket. Raises as `decode_spot_private` does."""
    try:
        return _futures_private.decode(raw)
    except UNREADABLE as error:
        return _talk(raw, _read(_head, raw), error, (*FUTURES_PRIVATE_CHANNELS, AUTH))


def decode_spot_public(raw: bytes) -> pw.SpotPublicData | wire.Frame:
    """Return a frame of the public spot socket, of the frequent channels as of the rare. Raises as the others do."""
    frame = decode_frame(raw)
    if not isinstance(frame, wire.Other) or frame.name not in SPOT_RARE_CHANNELS:
        return frame
    try:
        return _spot_public.decode(raw)
    except UNREADABLE as error:
        return _talk(raw, _read(_head, raw), error, SPOT_RARE_CHANNELS)


def decode_futures_public(raw: bytes) -> pw.FuturesPublicFrame:
    """Return a frame of the public futures socket. Raises as the others do."""
    try:
        return _futures_public.decode(raw)  # books and trades: one pass
    except UNREADABLE as error:
        head = _read(_head, raw)
        read_candles = None if head.event else CANDLE_READERS.get(head.channel)
        if read_candles is not None:
            return read_candles(bytes(head.data))
        return _talk(raw, head, error, FUTURES_PUBLIC_CHANNELS)


def _talk(raw: bytes, head: wire.Envelope, error: Exception, channels: Collection[str]) -> pw.Talk:
    """Return a frame that is not data; `error` says what was wrong with it if it is."""
    if not head.event:
        if head.channel in channels:
            raise BadReply(safe_text(str(error), TEXT_LENGTH_MAX), raw) from error
        if not head.channel:
            raise BadReply("a frame with neither event nor channel", raw)
        return wire.Other(name=safe_text(head.channel, NAME_LENGTH_MAX))
    match decode_frame(raw):
        case wire.Subscribed() | wire.Unsubscribed() | wire.Refused() | wire.Pong() | wire.Other() as talk:
            return talk
        case data:
            # Data of the public spot socket that calls itself an event.
            raise BadReply(f"{type(data).__name__} where talk was expected", raw)


def _read(reader: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return reader.decode(raw)
    except UNREADABLE as error:
        raise BadReply(safe_text(str(error), TEXT_LENGTH_MAX), raw) from error


# --- futures candles: their interval is in the name of their channel

_CandleFrame = pw.FuturesCandlesFrame | pw.FuturesPriceCandlesFrame


def _candle_reader(interval: str) -> Callable[[bytes], _CandleFrame]:
    return lambda raw: pw.FuturesCandlesFrame(interval=interval, data=_read(_candles, raw))


def _price_candle_reader(price: Literal["mark", "index"], interval: str) -> Callable[[bytes], _CandleFrame]:
    return lambda raw: pw.FuturesPriceCandlesFrame(price=price, interval=interval, data=_read(_price_candles, raw))


def _candle_readers() -> dict[str, Callable[[bytes], _CandleFrame]]:
    readers: dict[str, Callable[[bytes], _CandleFrame]] = {}
    for interval in INTERVALS:
        name = interval.lower()
        readers[f"candles_{name}"] = _candle_reader(interval)
        readers[f"mark_price_candles_{name}"] = _price_candle_reader("mark", interval)
        readers[f"mark_candles_{name}"] = _price_candle_reader("mark", interval)  # so in some pages
        readers[f"index_candles_{name}"] = _price_candle_reader("index", interval)
    return readers


CANDLE_READERS: Final = _candle_readers()
"""By channel, the reader of its `data`."""
