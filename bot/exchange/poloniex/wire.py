"""Poloniex's records as they travel: public spot WebSocket frames and REST replies; nothing is converted.

Prices and quantities stay text until an `Instrument` makes them integers. Times are milliseconds and end in
`_ms`; one outside 2000..2200 is refused. Integers may come as text. Keys that we do not use are left out.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from bot.core.instrument import NUMBER_LENGTH_MAX

TIME_MS_MIN: Final = 946_684_800_000
"""2000-01-01."""
TIME_MS_MAX: Final = 7_258_118_400_000
"""2200-01-01."""

Number = Annotated[str, Meta(min_length=1, max_length=NUMBER_LENGTH_MAX)]
Symbol = Annotated[str, Meta(min_length=1, max_length=32)]
TimeMs = Annotated[int, Meta(ge=TIME_MS_MIN, lt=TIME_MS_MAX)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
TextId = Annotated[str, Meta(min_length=1, max_length=64)]
Scale = Annotated[int, Meta(ge=0, le=30)]
Levels = list[tuple[Number, Number]]
"""(price, quantity); quantity "0" removes the level."""


# --- WebSocket: data


class BookRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"last_id": "lastId", "ts_ms": "ts"}):
    """A book, or the changes of one. An update follows the message whose `id` is its `last_id`."""

    symbol: Symbol
    bids: Levels
    asks: Levels
    id: Id
    last_id: Id = 0
    ts_ms: TimeMs


class BookFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="book_lv2"):
    """Snapshots or updates of the best 20 levels."""

    action: Literal["snapshot", "update"]
    data: list[BookRow]


class TradeRow(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"taker_side": "takerSide", "created_ms": "createTime", "ts_ms": "ts"},
):
    """One trade: made at `created_ms`, sent at `ts_ms`."""

    symbol: Symbol
    id: TextId | Id
    price: Number
    quantity: Number
    taker_side: Literal["buy", "sell", "BUY", "SELL"]
    created_ms: TimeMs
    ts_ms: TimeMs

    @property
    def trade_id(self) -> str:
        """Return the id as text; the exchange sends text or a number."""
        return str(self.id)


class TradesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="trades"):
    """Trades, oldest first."""

    data: list[TradeRow]


class TickerRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"mark_price": "markPrice", "ts_ms": "ts"}):
    """The last 24 hours. `mark_price` is empty where the market has none."""

    symbol: Symbol
    open: Number
    high: Number
    low: Number
    close: Number
    quantity: Number
    amount: Number
    mark_price: Annotated[str, Meta(max_length=NUMBER_LENGTH_MAX)] | None = None
    ts_ms: TimeMs


class TickerFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="ticker"):
    """Tickers."""

    data: list[TickerRow]


class CandleRow(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"start_ms": "startTime", "close_ms": "closeTime", "ts_ms": "ts"},
):
    """A candle as it is now; the same `start_ms` comes again until the next candle begins."""

    symbol: Symbol
    open: Number
    high: Number
    low: Number
    close: Number
    quantity: Number
    amount: Number
    start_ms: TimeMs
    close_ms: TimeMs
    ts_ms: TimeMs


class CandlesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Candles of one fixed length."""

    timeframe_ns: int
    data: list[CandleRow]


# --- WebSocket: talk about the connection


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange accepted a subscription; `symbols` may be empty or `("ALL",)` when all were asked for."""

    channel: str
    symbols: tuple[str, ...]


class Unsubscribed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange ended a subscription."""

    channel: str
    symbols: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange refused a request; the connection lives on. `message` is fit for a terminal."""

    message: str


class Pong(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a ping."""


class Other(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A valid frame that we have no use for: its event or its channel, fit for a terminal."""

    name: str


Frame = BookFrame | TradesFrame | TickerFrame | CandlesFrame | Subscribed | Unsubscribed | Refused | Pong | Other


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What any frame may have around its data."""

    event: str = ""
    channel: str = ""
    symbols: list[Symbol] | None = None
    message: str = ""
    data: msgspec.Raw = msgspec.Raw()


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What we send."""

    event: Literal["subscribe", "unsubscribe", "ping"]
    channel: list[str] = []
    symbols: list[str] = []


# --- REST


class TimestampReply(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """GET /timestamp."""

    server_time: TimeMs


class TradeLimitRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """The steps and bounds of a market; a scale is a number of decimals, a largest of 0 bounds nothing."""

    price_scale: Scale
    quantity_scale: Scale
    min_quantity: Number
    min_amount: Number
    max_quantity: Number = "0"
    max_amount: Number = "0"


class MarketRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """One market of GET /markets."""

    symbol: Symbol
    base_currency_name: Symbol
    quote_currency_name: Symbol
    state: str
    symbol_trade_limit: TradeLimitRow


class CandleArray(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One candle of GET /markets/{symbol}/candles, by position."""

    low: Number
    high: Number
    open: Number
    close: Number
    amount: Number
    quantity: Number
    buy_taker_amount: Number
    buy_taker_quantity: Number
    trade_count: int
    ts_ms: TimeMs
    weighted_average: Number
    interval: str
    start_ms: TimeMs
    close_ms: TimeMs


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What comes with a status other than 200."""

    code: int
    message: str = ""
    """The text, on spot."""
    msg: str = ""
    """The text, on futures."""
