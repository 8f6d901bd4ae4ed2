"""Frames of the sockets that `wire` does not have: private channels, trading, futures, and the rarer spot channels.

What concerns our money is `Decimal`, bounded as in `futures_wire`. Books and trades stay text as in `wire`, for they
are many and an instrument makes integers of them. Talk about the connection (`Subscribed`, `Pong`, …) is `wire`'s.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from bot.core.instrument import Side
from bot.core.orders import OrderState
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.futures_wire import Blank, Key, Name, Row, Sided, WireContracts, number_or_zero
from bot.exchange.poloniex.wire import (
    TIME_MS_MAX,
    Id,
    Levels,
    MarketRow,
    Number,
    Other,
    Pong,
    Refused,
    Subscribed,
    Symbol,
    TextId,
    TimeMs,
    Unsubscribed,
)

MaybeMs = Annotated[int, Meta(ge=0, lt=TIME_MS_MAX)]
"""A time, or 0 for none."""
Switch = Literal["ON", "OFF"]


# --- talk of private connections


class AuthVerdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether our key was accepted; `message` says why not."""

    success: bool
    message: str = ""


class AuthFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="auth"):
    """The answer to our authentication."""

    data: AuthVerdict


class AuthParams(msgspec.Struct, frozen=True, kw_only=True, rename={"sign_ms": "signTimestamp"}):
    """Who we are, and the proof."""

    key: str
    sign_ms: int
    signature: str


class AuthRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="subscribe"):
    """Our authentication."""

    channel: tuple[Literal["auth"]] = ("auth",)
    params: AuthParams


class TradingRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"order_id": "orderId", "client_id": "clientOrderId", "text": "message"},
):
    """What became of one order of a request over the socket. A refused one has the order id 0."""

    order_id: Id | TextId | None = None
    client_id: Name | None = None
    code: int
    text: str | None = None


class TradingReply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to the trading request `id`."""

    id: Key | Id
    data: list[TradingRow]

    @property
    def request_id(self) -> str:
        """Return the id as we sent it."""
        return str(self.id)


class TradingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A trading request of ours; `params` is encoded already."""

    id: str
    event: Literal["createOrder", "cancelOrders", "cancelAllOrders"]
    params: msgspec.Raw


class CancelParams(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"order_ids": "orderIds", "client_ids": "clientOrderIds"},
):
    """Which orders to cancel."""

    order_ids: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()


# --- spot, private

_SPOT_NAMES: Final = {
    "order_type": "type",
    "side_text": "side",
    "account_type": "accountType",
    "order_id": "orderId",
    "client_id": "clientOrderId",
    "event": "eventType",
    "state_text": "state",
    "order_amount": "orderAmount",
    "filled_quantity": "filledQuantity",
    "filled_amount": "filledAmount",
    "role": "matchRole",
    "trade_id_wire": "tradeId",
    "trade_price_text": "tradePrice",
    "trade_quantity_text": "tradeQty",
    "trade_amount_text": "tradeAmount",
    "fee_text": "tradeFee",
    "fee_currency": "feeCurrency",
    "trade_ms": "tradeTime",
    "created_ms": "createTime",
    "ts_ms": "ts",
}


class SpotOrderRow(Sided, frozen=True, kw_only=True, gc=False, rename=_SPOT_NAMES):
    """A change of one order; of the event `trade`, also the fill. `filled_…` are sums, `trade_…` this fill alone."""

    symbol: Symbol
    order_type: Name
    account_type: Name = "SPOT"
    order_id: Key
    client_id: Name | None = None
    event: Literal["place", "trade", "canceled", "cancel"]
    source: Name = ""
    state_text: Literal[
        "PENDING_NEW",
        "NEW",
        "PARTIALLY_FILLED",
        "FILLED",
        "PENDING_CANCEL",
        "CANCELED",
        "PARTIALLY_CANCELED",
        "REJECTED",
        "EXPIRED",
        "FAILED",
    ]
    quantity: Decimal
    order_amount: Decimal = Decimal(0)
    price: Decimal
    filled_quantity: Decimal
    filled_amount: Decimal
    role: fw.Role | Literal[""] | None = None
    trade_id_wire: Id | TextId = "0"
    trade_price_text: Blank | None = None
    trade_quantity_text: Blank | None = None
    trade_amount_text: Blank | None = None
    fee_text: Blank | None = None
    fee_currency: Name | None = None
    trade_ms: MaybeMs = 0
    created_ms: TimeMs
    ts_ms: TimeMs

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.event != "trade":
            return
        if not (self.trade_price_text and self.trade_quantity_text and self.trade_ms) or self.trade_id == "0":
            raise ValueError("a trade without its id, time, price or quantity")

    @property
    def state(self) -> OrderState:
        """Return where the order stands."""
        return OrderState.NEW if self.state_text == "PENDING_NEW" else OrderState(self.state_text)

    @property
    def trade_id(self) -> str:
        """Return the id of the fill as text."""
        return str(self.trade_id_wire)

    @property
    def trade_price(self) -> Decimal:
        """Return the price of this fill."""
        return number_or_zero(self.trade_price_text)

    @property
    def trade_quantity(self) -> Decimal:
        """Return the quantity of this fill."""
        return number_or_zero(self.trade_quantity_text)

    @property
    def fee(self) -> Decimal:
        """Return the fee of this fill, in `fee_currency`."""
        return number_or_zero(self.fee_text)


class SpotOrdersFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="orders"):
    """Changes of spot orders, in their order."""

    data: list[SpotOrderRow]


class BalanceRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "changed_ms": "changeTime",
        "account_id": "accountId",
        "account_type": "accountType",
        "event": "eventType",
        "ts_ms": "ts",
    },
):
    """What there is of one currency, after a change."""

    account_id: Name = ""
    account_type: Name = "SPOT"
    event: Name = ""
    currency: Symbol
    available: Decimal
    hold: Decimal
    changed_ms: TimeMs
    ts_ms: TimeMs


class BalancesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="balances"):
    """Changed balances."""

    data: list[BalanceRow]


# --- spot, public


class BookTopRow(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"created_ms": "createTime", "ts_ms": "ts"}
):
    """The best levels of a book, whole."""

    symbol: Symbol
    bids: Levels
    asks: Levels
    id: Id
    created_ms: TimeMs
    ts_ms: TimeMs


class BookTopFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="book"):
    """The tops of some books; each replaces the last."""

    data: list[BookTopRow]


class SymbolsFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="symbols"):
    """Markets, first all and then those that change."""

    action: Literal["snapshot", "update"] = "snapshot"
    data: list[MarketRow]


class CurrencyRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A currency, as far as a trader cares."""

    currency: Symbol
    id: Id | None = None
    name: Name = ""
    delisted: bool = False
    trading_state: Name = ""
    wallet_state: Name = ""


class CurrenciesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="currencies"):
    """Currencies, first all and then those that change."""

    action: Literal["snapshot", "update"] = "snapshot"
    data: list[CurrencyRow]


class ExchangeRow(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"maintenance": "MM", "post_only": "POM"}
):
    """The modes of the whole exchange; a key that is missing did not change."""

    maintenance: Switch | None = None
    post_only: Switch | None = None


class ExchangeFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="exchange"):
    """Maintenance and post-only mode."""

    action: Literal["snapshot", "update"] = "snapshot"
    data: list[ExchangeRow]


# --- futures, private


class FuturesOrdersFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="orders"):
    """Changes of futures orders; their fills come on `trade`, in no order to these."""

    data: list[fw.OrderRow]


class FuturesFillRow(
    Sided,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={**fw.NAMES, "price": "fpx", "contracts": "fqty"},
):
    """One fill of ours. That its fee is not a sum is our reading; REST says it per fill."""

    symbol: Symbol
    order_id: Key
    client_id: Name | None = None
    role: fw.Role
    trade_id: Key
    fee_currency: Name | None = None
    fee_text: Blank | None = None
    deduct_currency: Name | None = None
    deduct_text: Blank | None = None
    price: Decimal
    contracts: WireContracts
    updated_ms: TimeMs

    @property
    def fee(self) -> Decimal:
        """Return the fee in `fee_currency`."""
        return number_or_zero(self.fee_text)


class FuturesFillsFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="trade"):
    """Our fills."""

    data: list[FuturesFillRow]


class PositionsFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="positions"):
    """Changed positions; a closed one has no contracts."""

    data: list[fw.PositionRow]


class AccountFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="account"):
    """The whole account after a change."""

    data: list[fw.AccountRow]


# --- futures, public


class FuturesSymbolFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="symbol"):
    """Instruments."""

    data: list[fw.InstrumentRow]


class FuturesTickerRow(fw.TickerRow, frozen=True, kw_only=True, gc=False, rename=fw.TICKER_NAMES):
    """The last 24 hours, sent at `ts_ms`."""

    ts_ms: TimeMs


class FuturesTickersFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="tickers"):
    """Tickers."""

    data: list[FuturesTickerRow]


class FuturesTradeRow(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "symbol": "s",
        "price": "px",
        "contracts": "qty",
        "amount": "amt",
        "taker_side": "side",
        "created_ms": "cT",
        "ts_ms": "ts",
    },
):
    """One trade of the market; `contracts` is a whole number in text."""

    symbol: Symbol
    id: Id | TextId
    price: Number
    contracts: Number
    amount: Number
    taker_side: fw.SideText
    created_ms: TimeMs
    ts_ms: TimeMs

    @property
    def trade_id(self) -> str:
        """Return the id as text."""
        return str(self.id)

    @property
    def side(self) -> Side:
        """Return the taker's side."""
        return Side(self.taker_side.upper())


class FuturesTradesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="trades"):
    """Trades, oldest first."""

    data: list[FuturesTradeRow]


_BOOK_NAMES: Final = {"symbol": "s", "last_id": "lid", "created_ms": "cT", "ts_ms": "ts"}


class FuturesBookTopRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=_BOOK_NAMES):
    """The best levels of a book, whole; quantities are contracts."""

    symbol: Symbol
    bids: Levels
    asks: Levels
    id: Id
    created_ms: TimeMs
    ts_ms: TimeMs


class FuturesBookTopFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="book"):
    """The tops of some books; each replaces the last."""

    data: list[FuturesBookTopRow]


class FuturesBookRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename=_BOOK_NAMES):
    """A book, or the changes of one. An update follows the message whose `id` is its `last_id`."""

    symbol: Symbol
    bids: Levels
    asks: Levels
    id: Id
    last_id: Id = 0
    ts_ms: TimeMs


class FuturesBookFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="book_lv2"):
    """Snapshots or updates of the best 20 levels."""

    action: Literal["snapshot", "update"]
    data: list[FuturesBookRow]


class FuturesCandleRow(Row, frozen=True, gc=False, array_like=True):
    """A candle as it is now, by position: low first."""

    symbol: Symbol
    low: Decimal
    high: Decimal
    open: Decimal
    close: Decimal
    amount: Decimal
    contracts: Decimal
    trade_count: Id
    start_ms: TimeMs
    close_ms: TimeMs
    ts_ms: TimeMs

    def __post_init__(self) -> None:
        super().__post_init__()
        fw.check_candle(self.low, self.high, self.open, self.close)


class FuturesPriceCandleRow(Row, frozen=True, gc=False, array_like=True):
    """A candle of mark or index prices as it is now, by position: low first here, unlike REST."""

    symbol: Symbol
    low: Decimal
    high: Decimal
    open: Decimal
    close: Decimal
    start_ms: TimeMs
    close_ms: TimeMs
    ts_ms: TimeMs

    def __post_init__(self) -> None:
        super().__post_init__()
        fw.check_candle(self.low, self.high, self.open, self.close)


class FuturesCandlesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Candles of one interval (`MINUTE_1`, …)."""

    interval: str
    data: list[FuturesCandleRow]


class FuturesPriceCandlesFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Candles of the mark or the index price, of one interval."""

    price: Literal["mark", "index"]
    interval: str
    data: list[FuturesPriceCandleRow]


class MarkPriceFrameRow(
    Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "price": "mPx", "ts_ms": "ts"}
):
    """The price that positions are valued at."""

    symbol: Symbol
    price: Decimal
    ts_ms: TimeMs


class MarkPriceFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="mark_price"):
    """Mark prices."""

    data: list[MarkPriceFrameRow]


class IndexPriceFrameRow(
    Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "price": "iPx", "ts_ms": "ts"}
):
    """The price of the underlying coin on other exchanges."""

    symbol: Symbol
    price: Decimal
    ts_ms: TimeMs


class IndexPriceFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="index_price"):
    """Index prices."""

    data: list[IndexPriceFrameRow]


class FundingFrameRow(fw.FundingRow, frozen=True, kw_only=True, gc=False, rename=fw.FUNDING_NAMES):
    """A funding rate, sent at `ts_ms`."""

    ts_ms: TimeMs


class FundingFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="channel", tag="funding_rate"):
    """Funding rates."""

    data: list[FundingFrameRow]


# --- by socket

Talk = Subscribed | Unsubscribed | Refused | Pong | Other
SpotPrivateData = SpotOrdersFrame | BalancesFrame | AuthFrame
SpotPrivateFrame = SpotPrivateData | TradingReply | Talk
SpotPublicData = BookTopFrame | SymbolsFrame | CurrenciesFrame | ExchangeFrame
FuturesPrivateData = FuturesOrdersFrame | FuturesFillsFrame | PositionsFrame | AccountFrame | AuthFrame
FuturesPrivateFrame = FuturesPrivateData | Talk
FuturesPublicData = (
    FuturesBookFrame
    | FuturesTradesFrame
    | FuturesBookTopFrame
    | FuturesTickersFrame
    | FuturesSymbolFrame
    | MarkPriceFrame
    | IndexPriceFrame
    | FundingFrame
)
FuturesPublicFrame = FuturesPublicData | FuturesCandlesFrame | FuturesPriceCandlesFrame | Talk
