"""Poloniex's futures records (REST, version 3) as they travel, under our own names.

Numbers are `Decimal`, never NaN nor infinite, of at most 30 digits on either side of the point; those that the exchange
leaves out or empty are text with a property that gives `Decimal | None`. Sizes count contracts, not coins. Times are
milliseconds and end in `_ms`. Integers may come as text. Keys that we do not use are left out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal, NewType

import msgspec
from msgspec import Meta

from bot.core.instrument import NUMBER_LENGTH_MAX, Side
from bot.core.orders import OrderState, OrderType, TimeInForce
from bot.exchange.poloniex.wire import Id, Symbol, TextId, TimeMs

DIGITS_MAX: Final = 30
"""Most digits before the point, and most decimals, of a number from outside."""

Contracts = NewType("Contracts", int)
"""A size of futures: whole contracts. How many coins that is, the instrument tells."""

WireContracts = Annotated[Contracts, Meta(ge=0, le=2**63 - 1)]
Blank = Annotated[str, Meta(pattern=r"\A(-?[0-9]{1,30}(\.[0-9]{1,30})?)?\Z", max_length=NUMBER_LENGTH_MAX)]
"""A number, or nothing."""
Name = Annotated[str, Meta(max_length=64)]
Key = Annotated[str, Meta(min_length=1, max_length=64)]
SideText = Literal["BUY", "SELL", "buy", "sell"]
MarginMode = Literal["CROSS", "ISOLATED"]
PositionSide = Literal["BOTH", "LONG", "SHORT"]
PositionMode = Literal["ONE_WAY", "HEDGE"]
SelfTrade = Literal["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]
Direction = Literal["NEXT", "PREV"]
Role = Literal["MAKER", "TAKER"]
MarginChange = Literal["ADD", "REDUCE"]
BillType = Literal[
    "FEE", "PNL", "MANUAL_MARGIN", "TRANSFER", "TRIAL_INCOME", "COUPON", "LIQ_PNL", "ADL_PNL", "FUNDING_FEE"
]
StateText = Literal[
    "NEW", "PARTIALLY_FILLED", "PARTIAL_FILLED", "FILLED", "PARTIALLY_CANCELED", "PARTIAL_CANCELED", "CANCELED"
]
"""One official comment drops the LY of two states."""

_STATES: Final = {"PARTIAL_FILLED": OrderState.PARTIALLY_FILLED, "PARTIAL_CANCELED": OrderState.PARTIALLY_CANCELED}


def number_or_none(text: str | None) -> Decimal | None:
    """Return the number that a `Blank` holds, or None."""
    return Decimal(text) if text else None


def number_or_zero(text: str | None) -> Decimal:
    """Return the number that a `Blank` holds; nothing is 0, as in a price of a market order."""
    return Decimal(text) if text else Decimal(0)


def order_state(text: StateText) -> OrderState:
    """Return the state that the exchange calls `text`, in either spelling."""
    return _STATES.get(text) or OrderState(text)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record whose numbers can be reckoned with (finite, of a bounded length) and whose text can be printed."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value: object = getattr(self, name)
            if isinstance(value, Decimal) and not is_bounded(value):
                raise ValueError(f"{name} is not a number of at most {DIGITS_MAX} digits")
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"{name} cannot be printed")


def is_bounded(number: Decimal) -> bool:
    """Return whether `number` is finite, with at most `DIGITS_MAX` digits on either side of the point."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DIGITS_MAX and number.adjusted() < DIGITS_MAX


class Sided(Row, frozen=True, kw_only=True, gc=False, rename={"side_text": "side"}):
    """A record of one side; the case of its letters is not settled."""

    side_text: SideText

    @property
    def side(self) -> Side:
        """Return the side."""
        return Side(self.side_text.upper())


NAMES: Final = {
    "price": "px",
    "contracts": "sz",
    "order_id": "ordId",
    "client_id": "clOrdId",
    "trade_id": "trdId",
    "order_type": "type",
    "time_in_force": "timeInForce",
    "margin_mode": "mgnMode",
    "position_side": "posSide",
    "is_reduce_only": "reduceOnly",
    "self_trade": "stpMode",
    "state_text": "state",
    "cancel_reason": "cancelReason",
    "leverage": "lever",
    "average_price_text": "avgPx",
    "filled_contracts": "execQty",
    "filled_amount": "execAmt",
    "fee_currency": "feeCcy",
    "fee_text": "feeAmt",
    "fee_rate_text": "feeRate",
    "deduct_currency": "deductCcy",
    "deduct_text": "deductAmt",
    "open_price_text": "openAvgPx",
    "close_price_text": "closeAvgPx",
    "available_contracts": "availQty",
    "closed_contracts": "closedQty",
    "liquidation_price_text": "liqPx",
    "initial_margin": "im",
    "maintenance_margin": "mm",
    "margin_text": "mgn",
    "unrealised_pnl": "upl",
    "unrealised_ratio_text": "uplRatio",
    "realised_pnl_text": "pnl",
    "mark_price_text": "markPx",
    "last_price_text": "lastPx",
    "index_price_text": "indexPx",
    "margin_ratio_text": "mgnRatio",
    "funding_fee_text": "fFee",
    "currency": "ccy",
    "created_ms": "cTime",
    "updated_ms": "uTime",
}
"""Our name to the exchange's, where records agree; a record adds its own."""


# --- the envelope


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every answer has around its `data`; `code` 200 alone is success, whatever the HTTP status."""

    code: int
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()


# --- market data


class InstrumentRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "base": "bCcy",
        "quote": "qCcy",
        "settlement": "sCcy",
        "contract_type": "ctType",
        "contract_value": "ctVal",
        "tick_size": "tSz",
        "lot_contracts": "lotSz",
        "contracts_min": "minSz",
        "price_min": "minPx",
        "price_max": "maxPx",
        "market_contracts_max": "marketMaxQty",
        "limit_contracts_max": "limitMaxQty",
        "leverage": "lever",
        "leverage_max": "maxLever",
        "taker_rate": "tFee",
        "maker_rate": "mFee",
        "initial_rate": "iM",
        "maintenance_rate": "mM",
        "tradable_ms": "tradableStartTime",
    },
):
    """One instrument of /v3/market/allInstruments, /v3/market/instruments or the channel `symbol`."""

    symbol: Symbol
    base: Symbol
    quote: Symbol
    settlement: Symbol
    contract_type: Name = "LINEAR"
    contract_value: Decimal
    tick_size: Decimal
    lot_contracts: WireContracts
    contracts_min: WireContracts
    price_min: Blank | None = None
    price_max: Blank | None = None
    market_contracts_max: Blank | None = None
    limit_contracts_max: Blank | None = None
    leverage: Blank | None = None
    leverage_max: Blank | None = None
    taker_rate: Blank | None = None
    maker_rate: Blank | None = None
    initial_rate: Blank | None = None
    maintenance_rate: Blank | None = None
    status: Name
    tradable_ms: Name = ""


class LevelPair(Row, frozen=True, gc=False, array_like=True):
    """One price of a book and the contracts that rest there."""

    price: Decimal
    contracts: WireContracts


class BookReply(Row, frozen=True, kw_only=True, gc=False, rename={"scale": "s", "ts_ms": "ts"}):
    """GET /v3/market/orderBook: best price first."""

    asks: list[LevelPair]
    bids: list[LevelPair]
    scale: Blank = ""
    ts_ms: TimeMs


class MarketTradeRow(
    Sided,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"price": "px", "contracts": "qty", "amount": "amt", "created_ms": "cT"},
):
    """One trade of the market; `amount` is in quote currency."""

    id: Id | TextId
    price: Decimal
    contracts: WireContracts
    amount: Decimal
    created_ms: TimeMs

    @property
    def trade_id(self) -> str:
        """Return the id as text."""
        return str(self.id)


TICKER_NAMES: Final = {
    "symbol": "s",
    "open": "o",
    "low": "l",
    "high": "h",
    "close": "c",
    "contracts": "qty",
    "amount": "amt",
    "trade_count": "tC",
    "start_ms": "sT",
    "close_ms": "cT",
    "daily_change_text": "dC",
    "bid_text": "bPx",
    "bid_contracts_text": "bSz",
    "ask_text": "aPx",
    "ask_contracts_text": "aSz",
    "mark_price_text": "mPx",
    "index_price_text": "iPx",
    "ts_ms": "ts",
}


class TickerRow(Row, frozen=True, kw_only=True, gc=False, rename=TICKER_NAMES):
    """The last 24 hours of one symbol; a side without orders has no bid or ask."""

    symbol: Symbol
    open: Decimal
    low: Decimal
    high: Decimal
    close: Decimal
    contracts: Decimal
    amount: Decimal
    trade_count: Id
    start_ms: TimeMs
    close_ms: TimeMs
    daily_change_text: Blank | None = None
    bid_text: Blank | None = None
    bid_contracts_text: Blank | None = None
    ask_text: Blank | None = None
    ask_contracts_text: Blank | None = None
    mark_price_text: Blank | None = None
    index_price_text: Blank | None = None

    @property
    def bid(self) -> Decimal | None:
        """Return the best price to sell at."""
        return number_or_none(self.bid_text)

    @property
    def ask(self) -> Decimal | None:
        """Return the best price to buy at."""
        return number_or_none(self.ask_text)

    @property
    def mark_price(self) -> Decimal | None:
        """Return the mark price."""
        return number_or_none(self.mark_price_text)

    @property
    def index_price(self) -> Decimal | None:
        """Return the index price."""
        return number_or_none(self.index_price_text)


class OpenInterestReply(Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "contracts": "oInterest"}):
    """GET /v3/market/openInterest."""

    symbol: Symbol
    contracts: Decimal


class InsuranceRow(
    Row, frozen=True, kw_only=True, gc=False, rename={"amount": "amt", "currency": "ccy", "updated_ms": "uTime"}
):
    """The insurance fund of one currency."""

    amount: Decimal
    currency: Symbol
    updated_ms: TimeMs


class LimitPriceRow(Row, frozen=True, kw_only=True, gc=False, rename={"buy_max": "buyLmt", "sell_min": "sellLmt"}):
    """The highest price of a buy and the lowest of a sell, now."""

    symbol: Symbol
    buy_max: Decimal
    sell_min: Decimal


class LiquidationRow(Sided, frozen=True, kw_only=True, gc=False, rename={**NAMES, "bankruptcy_price": "bkPx"}):
    """A liquidation of somebody's position."""

    symbol: Symbol
    position_side: PositionSide = "BOTH"
    contracts: WireContracts
    bankruptcy_price: Decimal
    updated_ms: TimeMs


class CandleArray(Row, frozen=True, gc=False, array_like=True):
    """One candle of /v3/market/candles, by position: low first."""

    low: Decimal
    high: Decimal
    open: Decimal
    close: Decimal
    amount: Decimal
    contracts: Decimal
    trade_count: Id
    start_ms: TimeMs
    close_ms: TimeMs

    def __post_init__(self) -> None:
        super().__post_init__()
        check_candle(self.low, self.high, self.open, self.close)


class PriceCandleArray(Row, frozen=True, gc=False, array_like=True):
    """One candle of index, mark or premium prices by REST, by position: open first, and no volume."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    start_ms: TimeMs
    close_ms: TimeMs

    def __post_init__(self) -> None:
        super().__post_init__()
        check_candle(self.low, self.high, self.open, self.close)


def check_candle(low: Decimal, high: Decimal, open_price: Decimal, close: Decimal) -> None:
    """Refuse a candle whose prices are in another order than we think.

    Raises:
        ValueError: not low <= open, close <= high.

    """
    if not low <= min(open_price, close) <= max(open_price, close) <= high:
        raise ValueError(f"a candle with low {low}, high {high}, open {open_price}, close {close}")


class MarkPriceRow(Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "price": "mPx"}):
    """The mark price of one symbol."""

    symbol: Symbol
    price: Decimal


class IndexPriceRow(Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "price": "iPx"}):
    """The index price of one symbol."""

    symbol: Symbol
    price: Decimal


class IndexSourceRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"exchange": "e", "price": "sPx", "weight": "w", "converted_text": "cPx"},
):
    """What one exchange adds to an index price."""

    exchange: Name
    price: Decimal
    weight: Decimal
    converted_text: Blank | None = None


class IndexComponentsRow(
    Row, frozen=True, kw_only=True, gc=False, rename={"symbol": "s", "price": "px", "sources": "cs"}
):
    """An index price and what it is made of."""

    symbol: Symbol
    price: Decimal
    sources: list[IndexSourceRow]


FUNDING_NAMES: Final = {
    "symbol": "s",
    "rate": "fR",
    "funding_ms": "fT",
    "next_rate_text": "nFR",
    "next_funding_ms": "nFT",
    "ts_ms": "ts",
}


class FundingRow(Row, frozen=True, kw_only=True, gc=False, rename=FUNDING_NAMES):
    """The last funding rate and its time; what is predicted for the next. Longs pay when it is positive."""

    symbol: Symbol
    rate: Decimal
    funding_ms: TimeMs
    next_rate_text: Blank | None = None
    next_funding_ms: TimeMs

    @property
    def next_rate(self) -> Decimal | None:
        """Return the predicted rate."""
        return number_or_none(self.next_rate_text)


class FundingHistoryRow(Row, frozen=True, kw_only=True, gc=False, rename=FUNDING_NAMES):
    """One funding of the past."""

    symbol: Symbol
    rate: Decimal
    funding_ms: TimeMs


class RiskLimitRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "margin_mode": "mgnMode",
        "leverage_max": "maxLever",
        "maintenance_rate": "mMRatio",
        "contracts_max": "maxSize",
        "contracts_min": "minSize",
    },
):
    """One tier: a position of so many contracts needs that much margin."""

    symbol: Symbol
    margin_mode: MarginMode
    tier: Id
    leverage_max: Decimal
    maintenance_rate: Decimal
    contracts_max: Decimal
    contracts_min: Decimal


# --- account


class AccountDetailRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        **NAMES,
        "equity": "eq",
        "isolated_equity": "isoEq",
        "available": "avail",
        "held": "trdHold",
        "isolated_available": "isoAvail",
        "isolated_held": "isoHold",
        "isolated_pnl": "isoUpl",
    },
):
    """One currency of the futures account."""

    currency: Symbol
    equity: Decimal
    isolated_equity: Decimal = Decimal(0)
    available: Decimal
    held: Decimal = Decimal(0)
    unrealised_pnl: Decimal = Decimal(0)
    isolated_available: Decimal = Decimal(0)
    isolated_held: Decimal = Decimal(0)
    isolated_pnl: Decimal = Decimal(0)
    initial_margin: Decimal = Decimal(0)
    maintenance_margin: Decimal = Decimal(0)


class AccountRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        **NAMES,
        "equity": "eq",
        "isolated_equity": "isoEq",
        "maintenance_ratio_text": "mmr",
        "available_margin": "availMgn",
    },
):
    """The futures account: GET /v3/account/balance, and the channel `account`."""

    state: Name
    equity: Decimal
    isolated_equity: Decimal
    initial_margin: Decimal
    maintenance_margin: Decimal
    maintenance_ratio_text: Blank | None = None
    unrealised_pnl: Decimal
    available_margin: Decimal
    details: list[AccountDetailRow]
    created_ms: TimeMs
    updated_ms: TimeMs


class BillRow(
    Row,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={**NAMES, "account_type": "actType", "amount": "sz", "bill_type": "type"},
):
    """One movement of money; `amount` is signed."""

    id: Key
    account_type: Name = ""
    symbol: Name = ""
    margin_mode: Name = ""
    position_side: Name = ""
    currency: Symbol
    amount: Decimal
    created_ms: TimeMs
    bill_type: Name


# --- orders: what we send


class FuturesOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that we would send. `margin_mode` and `position_side` are always said, as a batch demands."""

    client_id: str
    """At most 64 characters; unique, made before sending."""
    symbol: str
    side: Side
    order_type: OrderType
    contracts: Contracts
    price: Decimal | None = None
    """None on a market order, and only there."""
    margin_mode: MarginMode = "CROSS"
    position_side: PositionSide = "BOTH"
    is_reduce_only: bool = False
    """For one-way mode; in hedge mode side and position side say it."""
    time_in_force: TimeInForce = "GTC"
    self_trade: SelfTrade = "EXPIRE_TAKER"
    """The exchange's own default is NONE, which lets us trade with ourselves."""


class PlaceBody(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={**NAMES, "side": "side", "order_type": "type"},
):
    """One order of POST /v3/trade/order and /v3/trade/orders."""

    symbol: str
    side: Side
    order_type: OrderType
    contracts: str
    margin_mode: MarginMode
    position_side: PositionSide
    client_id: str
    price: str = ""
    is_reduce_only: bool | None = None
    time_in_force: TimeInForce | None = None
    self_trade: SelfTrade | None = None


class CancelManyBody(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"order_ids": "ordIds", "client_ids": "clOrdIds"},
):
    """DELETE /v3/trade/batchOrders."""

    symbol: str
    order_ids: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()


class CloseBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=NAMES):
    """POST /v3/trade/position."""

    symbol: str
    margin_mode: MarginMode
    position_side: PositionSide | None = None
    client_id: str = ""


class LeverageBody(msgspec.Struct, frozen=True, kw_only=True, rename=NAMES):
    """POST /v3/position/leverage."""

    symbol: str
    leverage: str
    margin_mode: MarginMode
    position_side: PositionSide


class PositionModeBody(msgspec.Struct, frozen=True, kw_only=True, rename={"mode": "posMode"}):
    """POST /v3/position/mode, and the answer to the GET."""

    mode: PositionMode


class MarginBody(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={**NAMES, "amount": "amt", "change": "type"},
):
    """POST /v3/trade/position/margin."""

    symbol: str
    amount: str
    change: MarginChange
    position_side: PositionSide | None = None


# --- orders: what comes back


class AckRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={**NAMES, "text": "msg"}):
    """What is said of one order or one cancel; alone in its envelope it has no `code`."""

    order_id: Key | Id | None = None
    client_id: Name | None = None
    code: int = 200
    text: str | None = None


class OrderRow(Sided, frozen=True, kw_only=True, gc=False, rename={**NAMES, "price_text": "px"}):
    """An order as it stands: a row of the REST queries, and of the channel `orders`. Amounts are cumulative."""

    symbol: Symbol
    order_type: Name
    order_id: Key
    client_id: Name | None = None
    margin_mode: MarginMode = "CROSS"
    position_side: PositionSide = "BOTH"
    price_text: Blank | None = None
    contracts: WireContracts
    state_text: StateText
    cancel_reason: Name | None = None
    source: Name = ""
    is_reduce_only: bool = False
    time_in_force: Name = ""
    average_price_text: Blank | None = None
    filled_contracts: WireContracts
    filled_amount: Decimal = Decimal(0)
    fee_currency: Name | None = None
    fee_text: Blank | None = None
    deduct_currency: Name | None = None
    deduct_text: Blank | None = None
    self_trade: Name | None = None
    created_ms: TimeMs
    updated_ms: TimeMs

    @property
    def state(self) -> OrderState:
        """Return where the order stands."""
        return order_state(self.state_text)

    @property
    def price(self) -> Decimal | None:
        """Return the limit price; None on a market order."""
        return number_or_none(self.price_text) or None

    @property
    def average_price(self) -> Decimal | None:
        """Return the average price of what is filled."""
        return number_or_none(self.average_price_text) or None


class FillRow(Sided, frozen=True, kw_only=True, gc=False, rename={**NAMES, "contracts": "qty"}):
    """One fill of GET /v3/trade/order/trades; its fee is its own."""

    id: Key | None = None
    trade_id: Key
    symbol: Symbol
    order_id: Key
    client_id: Name | None = None
    margin_mode: Name = ""
    position_side: Name = ""
    role: Role
    price: Decimal
    contracts: WireContracts
    fee_currency: Name | None = None
    fee_text: Blank | None = None
    fee_rate_text: Blank | None = None
    deduct_currency: Name | None = None
    deduct_text: Blank | None = None
    created_ms: TimeMs

    @property
    def fee(self) -> Decimal:
        """Return the fee in `fee_currency`."""
        return number_or_zero(self.fee_text)


# --- positions


class PositionRow(Sided, frozen=True, kw_only=True, gc=False, rename={**NAMES, "contracts": "qty"}):
    """An open position: `side` is the direction of its opening; without contracts it is closed."""

    symbol: Symbol
    position_side: PositionSide
    margin_mode: MarginMode
    open_price_text: Blank | None = None
    contracts: WireContracts
    available_contracts: WireContracts = Contracts(0)
    leverage: Decimal
    liquidation_price_text: Blank | None = None
    initial_margin: Decimal
    maintenance_margin: Decimal = Decimal(0)
    margin_text: Blank | None = None
    unrealised_pnl: Decimal = Decimal(0)
    unrealised_ratio_text: Blank | None = None
    realised_pnl_text: Blank | None = None
    funding_fee_text: Blank | None = None
    mark_price_text: Blank | None = None
    last_price_text: Blank | None = None
    index_price_text: Blank | None = None
    margin_ratio_text: Blank | None = None
    state: Name = ""
    created_ms: TimeMs
    updated_ms: TimeMs

    @property
    def signed_contracts(self) -> int:
        """Return the contracts, negative when short."""
        if self.position_side == "BOTH":
            return self.side.sign * self.contracts
        return self.contracts if self.position_side == "LONG" else -self.contracts

    @property
    def open_price(self) -> Decimal | None:
        """Return the average price of the opening."""
        return number_or_none(self.open_price_text)

    @property
    def mark_price(self) -> Decimal | None:
        """Return the price that the position is valued at."""
        return number_or_none(self.mark_price_text)

    @property
    def liquidation_price(self) -> Decimal | None:
        """Return the mark price at which the exchange would close the position; None or 0: nowhere."""
        return number_or_none(self.liquidation_price_text)


class PositionHistoryRow(
    Sided,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={**NAMES, "contracts": "qty", "fee_text": "fee", "realised_pnl": "pnl"},
):
    """A position that was closed, at least in part."""

    id: Key | None = None
    symbol: Symbol
    position_side: PositionSide
    margin_mode: MarginMode
    open_price_text: Blank | None = None
    close_price_text: Blank | None = None
    contracts: WireContracts = Contracts(0)
    closed_contracts: WireContracts
    realised_pnl: Decimal
    fee_text: Blank | None = None
    funding_fee_text: Blank | None = None
    state: Name = ""
    created_ms: TimeMs
    updated_ms: TimeMs


class LeverageRow(Row, frozen=True, kw_only=True, gc=False, rename=NAMES):
    """The leverage of one side of one symbol."""

    symbol: Symbol
    margin_mode: MarginMode
    position_side: PositionSide = "BOTH"
    leverage: Decimal


class MarginRow(Row, frozen=True, kw_only=True, gc=False, rename={**NAMES, "amount": "amt", "change": "type"}):
    """The answer to a change of an isolated position's margin."""

    symbol: Symbol
    amount: Decimal
    change: MarginChange
    position_side: PositionSide = "BOTH"
    leverage: Decimal | None = None
