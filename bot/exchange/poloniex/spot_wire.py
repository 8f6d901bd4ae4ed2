"""Poloniex's spot REST calls: every endpoint, the rows that it answers with, and the bodies that it takes.

Money is `Decimal`, exact as it came; times are milliseconds and end in `_ms`. Ids are text, though some come as
numbers. Texts are fit for a terminal. Source: the dossier's spot-rest.md, sections 4 to 10.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from bot.core.instrument import NUMBER_LENGTH_MAX, Side
from bot.core.orders import OrderType, TimeInForce
from bot.core.text import safe_text
from bot.exchange.poloniex.limits import Group
from bot.exchange.poloniex.wire import TIME_MS_MAX, Scale, Symbol, TimeMs

TEXT_LENGTH_MAX: Final = 500
ID_LENGTH_MAX: Final = 64
DIGITS_MAX: Final = 60

AnyTimeMs = Annotated[int, Meta(ge=0, lt=TIME_MS_MAX)]
"""A time that may be 0, for none."""
OptionalTimeMs = AnyTimeMs | None
Count = Annotated[int, Meta(ge=0)]
SmartOrderType = Literal["STOP", "STOP_LIMIT", "TRAILING_STOP", "TRAILING_STOP_LIMIT"]
SelfTrade = Literal["NONE", "EXPIRE_TAKER"]
Direction = Literal["PRE", "NEXT"]


class ExchangeId(str):
    """An id of the exchange's making, or a client id: text, though the exchange may send a number."""

    __slots__ = ()


def is_bounded(value: Decimal) -> bool:
    """Return whether a number is one that money can be: finite, and written out not longer than a line."""
    return (
        value.is_finite() and abs(value.adjusted()) <= NUMBER_LENGTH_MAX and len(value.as_tuple().digits) <= DIGITS_MAX
    )


def wire_name(name: str) -> str:
    """Return the exchange's name of a field of ours: `create_time_ms` is `createTime`."""
    first, *others = name.removesuffix("_ms").split("_")
    return first + "".join(word.capitalize() for word in others)


class Row(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Anything that the exchange answers with: its numbers are bounded and its texts harmless."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Decimal) and not is_bounded(value):
                raise ValueError(f"{name} is not a number of money")
            if isinstance(value, str) and not (value.isprintable() and len(value) <= TEXT_LENGTH_MAX):
                msgspec.structs.force_setattr(self, name, type(value)(safe_text(value, TEXT_LENGTH_MAX)))


class Endpoint(NamedTuple):
    """A call: its method, its path with `{names}` for what is filled in, and the limit that it counts for."""

    method: str
    path: str
    group: Group

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.method} {self.path}"


_PUBLIC, _PUBLIC_HEAVY = Group.PUBLIC_LIGHT, Group.PUBLIC_HEAVY
_LIGHT, _HEAVY = Group.PRIVATE_LIGHT, Group.PRIVATE_HEAVY

TIMESTAMP: Final = Endpoint("GET", "/timestamp", _PUBLIC)
MARKETS: Final = Endpoint("GET", "/markets", _PUBLIC_HEAVY)
MARKET: Final = Endpoint("GET", "/markets/{symbol}", _PUBLIC)
CURRENCIES: Final = Endpoint("GET", "/currencies", _PUBLIC_HEAVY)
CURRENCY: Final = Endpoint("GET", "/currencies/{currency}", _PUBLIC_HEAVY)
COINS: Final = Endpoint("GET", "/v2/currencies", _PUBLIC_HEAVY)
COIN: Final = Endpoint("GET", "/v2/currencies/{coin}", _PUBLIC_HEAVY)
PRICES: Final = Endpoint("GET", "/markets/price", _PUBLIC)
PRICE: Final = Endpoint("GET", "/markets/{symbol}/price", _PUBLIC)
MARK_PRICES: Final = Endpoint("GET", "/markets/markPrice", _PUBLIC)
MARK_PRICE: Final = Endpoint("GET", "/markets/{symbol}/markPrice", _PUBLIC)
MARK_PRICE_COMPONENTS: Final = Endpoint("GET", "/markets/{symbol}/markPriceComponents", _PUBLIC)
ORDER_BOOK: Final = Endpoint("GET", "/markets/{symbol}/orderBook", _PUBLIC)
CANDLES: Final = Endpoint("GET", "/markets/{symbol}/candles", _PUBLIC)
PUBLIC_TRADES: Final = Endpoint("GET", "/markets/{symbol}/trades", _PUBLIC_HEAVY)
TICKERS: Final = Endpoint("GET", "/markets/ticker24h", _PUBLIC_HEAVY)
TICKER: Final = Endpoint("GET", "/markets/{symbol}/ticker24h", _PUBLIC_HEAVY)
COLLATERALS: Final = Endpoint("GET", "/markets/collateralInfo", _PUBLIC)
COLLATERAL: Final = Endpoint("GET", "/markets/{currency}/collateralInfo", _PUBLIC)
BORROW_RATES: Final = Endpoint("GET", "/markets/borrowRatesInfo", _PUBLIC)

ACCOUNTS: Final = Endpoint("GET", "/accounts", _LIGHT)
BALANCES: Final = Endpoint("GET", "/accounts/balances", _LIGHT)
ACCOUNT_BALANCES: Final = Endpoint("GET", "/accounts/{id}/balances", _LIGHT)
ACTIVITY: Final = Endpoint("GET", "/accounts/activity", _HEAVY)
TRANSFER: Final = Endpoint("POST", "/accounts/transfer", _LIGHT)
TRANSFERS: Final = Endpoint("GET", "/accounts/transfer", _HEAVY)
ONE_TRANSFER: Final = Endpoint("GET", "/accounts/transfer/{id}", _LIGHT)
FEE_INFO: Final = Endpoint("GET", "/feeinfo", _HEAVY)
INTEREST: Final = Endpoint("GET", "/accounts/interest/history", _HEAVY)
SUBACCOUNTS: Final = Endpoint("GET", "/subaccounts", _LIGHT)
SUBACCOUNTS_BALANCES: Final = Endpoint("GET", "/subaccounts/balances", _HEAVY)
SUBACCOUNT_BALANCES: Final = Endpoint("GET", "/subaccounts/{id}/balances", _LIGHT)
SUBACCOUNT_TRANSFER: Final = Endpoint("POST", "/subaccounts/transfer", _HEAVY)
SUBACCOUNT_TRANSFERS: Final = Endpoint("GET", "/subaccounts/transfer", _HEAVY)
ONE_SUBACCOUNT_TRANSFER: Final = Endpoint("GET", "/subaccounts/transfer/{id}", _HEAVY)
ADDRESSES: Final = Endpoint("GET", "/wallets/addresses", _HEAVY)
WALLETS_ACTIVITY: Final = Endpoint("GET", "/wallets/activity", _HEAVY)
NEW_ADDRESS: Final = Endpoint("POST", "/wallets/address", _HEAVY)
WITHDRAW: Final = Endpoint("POST", "/wallets/withdraw", _HEAVY)
WITHDRAW_COIN: Final = Endpoint("POST", "/v2/wallets/withdraw", _HEAVY)
MARGIN: Final = Endpoint("GET", "/margin/accountMargin", _LIGHT)
BORROW_STATUS: Final = Endpoint("GET", "/margin/borrowStatus", _LIGHT)
MAX_SIZE: Final = Endpoint("GET", "/margin/maxSize", _LIGHT)

PLACE: Final = Endpoint("POST", "/orders", _LIGHT)
PLACE_BATCH: Final = Endpoint("POST", "/orders/batch", _HEAVY)
REPLACE: Final = Endpoint("PUT", "/orders/{id}", _HEAVY)
OPEN_ORDERS: Final = Endpoint("GET", "/orders", _HEAVY)
ORDER: Final = Endpoint("GET", "/orders/{id}", _LIGHT)
CANCEL: Final = Endpoint("DELETE", "/orders/{id}", _LIGHT)
CANCEL_SOME: Final = Endpoint("DELETE", "/orders/cancelByIds", _HEAVY)
CANCEL_ALL: Final = Endpoint("DELETE", "/orders", _HEAVY)
KILL_SWITCH: Final = Endpoint("POST", "/orders/killSwitch", _LIGHT)
KILL_SWITCH_STATUS: Final = Endpoint("GET", "/orders/killSwitchStatus", _LIGHT)
ORDER_HISTORY: Final = Endpoint("GET", "/orders/history", _HEAVY)
TRADES: Final = Endpoint("GET", "/trades", _HEAVY)
ORDER_TRADES: Final = Endpoint("GET", "/orders/{id}/trades", _LIGHT)

PLACE_SMART: Final = Endpoint("POST", "/smartorders", _LIGHT)
REPLACE_SMART: Final = Endpoint("PUT", "/smartorders/{id}", _HEAVY)
OPEN_SMART_ORDERS: Final = Endpoint("GET", "/smartorders", _HEAVY)
SMART_ORDER: Final = Endpoint("GET", "/smartorders/{id}", _LIGHT)
CANCEL_SMART: Final = Endpoint("DELETE", "/smartorders/{id}", _LIGHT)
CANCEL_SOME_SMART: Final = Endpoint("DELETE", "/smartorders/cancelByIds", _HEAVY)
CANCEL_ALL_SMART: Final = Endpoint("DELETE", "/smartorders", _HEAVY)
SMART_ORDER_HISTORY: Final = Endpoint("GET", "/smartorders/history", _HEAVY)

ENDPOINTS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Endpoint))
"""All of them, in the order above."""


# --- markets


class TradeLimitRow(Row, frozen=True, kw_only=True):
    """The steps and bounds of a market. A scale is the largest number of decimals; a 0 bounds nothing."""

    price_scale: Scale
    quantity_scale: Scale
    amount_scale: Scale
    min_quantity: Decimal
    min_amount: Decimal
    max_quantity: Decimal = Decimal(0)
    max_amount: Decimal = Decimal(0)
    highest_bid: Decimal = Decimal(0)
    lowest_ask: Decimal = Decimal(0)


class CrossMarginRow(Row, frozen=True, kw_only=True):
    """Whether a market can be traded on margin, and how far."""

    support_cross_margin: bool
    max_leverage: int


class SpotMarket(Row, frozen=True, kw_only=True):
    """One market, with all that an order is checked against."""

    symbol: Symbol
    base_currency_name: Symbol
    quote_currency_name: Symbol
    display_name: str = ""
    state: str
    visible_start_time_ms: AnyTimeMs = 0
    tradable_start_time_ms: AnyTimeMs = 0
    symbol_trade_limit: TradeLimitRow
    cross_margin: CrossMarginRow | None = None


class CurrencyRow(Row, frozen=True, kw_only=True):
    """A currency, as /currencies tells it."""

    id: int
    name: str
    description: str | None = None
    type: str | None = None
    withdrawal_fee: Decimal | None = None
    min_conf: int | None = None
    deposit_address: str | None = None
    blockchain: str | None = None
    delisted: bool
    trading_state: str | None = None
    wallet_state: str | None = None
    parent_chain: str | None = None
    is_multi_chain: bool = False
    is_child_chain: bool = False
    child_chains: tuple[str, ...] = ()
    support_collateral: bool | None = None
    support_borrow: bool | None = None


class NetworkRow(Row, frozen=True, kw_only=True):
    """One network that a coin travels on."""

    id: int
    coin: str
    name: str
    currency_type: str | None = None
    blockchain: str
    withdrawal_enable: bool
    deposit_enable: bool
    deposit_address: str | None = None
    withdraw_min: Decimal | None = None
    decimals: int
    withdraw_fee: Decimal | None = None
    min_confirm: int | None = None
    contract_address: str | None = None


class CoinRow(Row, frozen=True, kw_only=True):
    """A coin, as /v2/currencies tells it."""

    id: int
    coin: str
    delisted: bool
    trade_enable: bool
    name: str
    network_list: tuple[NetworkRow, ...] = ()
    support_collateral: bool | None = None
    support_borrow: bool | None = None


class PriceRow(Row, frozen=True, kw_only=True):
    """The last price. `daily_change` is a fraction."""

    symbol: Symbol
    price: Decimal
    time_ms: TimeMs
    daily_change: Decimal | None = None
    ts_ms: TimeMs


class MarkPriceRow(Row, frozen=True, kw_only=True):
    """A mark price; cross-margin markets only."""

    symbol: Symbol
    mark_price: Decimal
    time_ms: TimeMs


class MarkPriceComponent(Row, frozen=True, kw_only=True):
    """One price that a mark price is made of."""

    symbol: str
    symbol_price: Decimal
    weight: Decimal
    convert_price: Decimal
    exchange: str


class MarkPriceComponents(Row, frozen=True, kw_only=True):
    """What a mark price is made of."""

    symbol: Symbol
    mark_price: Decimal
    ts_ms: TimeMs
    components: tuple[MarkPriceComponent, ...]


class Level(NamedTuple):
    """A price and the quantity that waits there."""

    price: Decimal
    quantity: Decimal


class FlatBookRow(Row, frozen=True, kw_only=True):
    """A book as it travels: price and quantity alternate."""

    time_ms: TimeMs
    scale: Decimal
    asks: tuple[Decimal, ...]
    bids: tuple[Decimal, ...]
    ts_ms: TimeMs


class OrderBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book, best level first."""

    time_ms: int
    scale: Decimal
    asks: tuple[Level, ...]
    bids: tuple[Level, ...]
    ts_ms: int


class SpotCandle(Row, frozen=True, array_like=True):
    """One candle, by position. `amount` is in quote, `quantity` in base currency."""

    low: Decimal
    high: Decimal
    open: Decimal
    close: Decimal
    amount: Decimal
    quantity: Decimal
    buy_taker_amount: Decimal
    buy_taker_quantity: Decimal
    trade_count: Count
    ts_ms: TimeMs
    weighted_average: Decimal
    interval: str
    start_time_ms: TimeMs
    close_time_ms: TimeMs


class PublicTrade(Row, frozen=True, kw_only=True):
    """A trade of anybody's."""

    id: ExchangeId
    price: Decimal
    quantity: Decimal
    amount: Decimal
    taker_side: Side
    ts_ms: TimeMs
    create_time_ms: TimeMs


class SpotTicker(Row, frozen=True, kw_only=True):
    """The last 24 hours."""

    symbol: Symbol
    open: Decimal
    low: Decimal
    high: Decimal
    close: Decimal
    quantity: Decimal
    amount: Decimal
    trade_count: Count
    start_time_ms: AnyTimeMs
    close_time_ms: AnyTimeMs
    display_name: str = ""
    daily_change: Decimal | None = None
    bid: Decimal | None = None
    bid_quantity: Decimal | None = None
    ask: Decimal | None = None
    ask_quantity: Decimal | None = None
    ts_ms: TimeMs
    mark_price: Decimal | None = None


class CollateralRow(Row, frozen=True, kw_only=True):
    """What a currency counts for as collateral."""

    currency: str
    collateral_rate: Decimal
    initial_margin_rate: Decimal
    maintenance_margin_rate: Decimal


class BorrowRate(Row, frozen=True, kw_only=True):
    """What borrowing a currency costs."""

    currency: str
    daily_borrow_rate: Decimal
    hourly_borrow_rate: Decimal
    borrow_limit: Decimal


class BorrowTier(Row, frozen=True, kw_only=True):
    """What borrowing costs one tier of customers."""

    tier: str
    rates: tuple[BorrowRate, ...]


# --- accounts


class AccountRow(Row, frozen=True, kw_only=True):
    """One account of ours."""

    account_id: ExchangeId
    account_type: str
    account_state: str


class BalanceRow(Row, frozen=True, kw_only=True):
    """How much of a currency is there. `available` may be negative on margin."""

    currency_id: ExchangeId
    currency: str
    available: Decimal
    hold: Decimal


class AccountBalances(Row, frozen=True, kw_only=True):
    """The balances of one account."""

    account_id: ExchangeId
    account_type: str
    balances: tuple[BalanceRow, ...]


class ActivityRow(Row, frozen=True, kw_only=True):
    """A change of an account that is no trade; `amount` is signed."""

    id: ExchangeId
    currency: str
    amount: Decimal
    state: str
    create_time_ms: TimeMs
    description: str | None = None
    activity_type: int


class TransferId(Row, frozen=True, kw_only=True):
    """The answer to a transfer."""

    transfer_id: ExchangeId


class TransferRow(Row, frozen=True, kw_only=True):
    """Money moved between accounts of ours."""

    id: ExchangeId
    from_account: str
    to_account: str
    currency: str
    amount: Decimal
    state: str
    create_time_ms: TimeMs


class SymbolFee(Row, frozen=True, kw_only=True):
    """The fees of one market; rates are fractions."""

    symbol: Symbol
    maker_rate: Decimal
    taker_rate: Decimal


class FeeInfo(
    Row,
    frozen=True,
    kw_only=True,
    rename={
        "trx_discount": "trxDiscount",
        "maker_rate": "makerRate",
        "taker_rate": "takerRate",
        "volume_30d": "volume30D",
        "special_fee_rates": "specialFeeRates",
    },
):
    """Our fees; rates are fractions."""

    trx_discount: bool
    maker_rate: Decimal
    taker_rate: Decimal
    volume_30d: Decimal
    special_fee_rates: tuple[SymbolFee, ...] | None = ()


class InterestRow(
    Row,
    frozen=True,
    kw_only=True,
    rename=lambda name: "interestAccuredTime" if name == "accrued_ms" else wire_name(name),
):
    """Interest that we paid. The exchange misspells the name of its time."""

    id: ExchangeId
    accrued_ms: TimeMs
    currency_name: str
    principal: Decimal
    interest: Decimal
    interest_rate: Decimal


class SubaccountRow(Row, frozen=True, kw_only=True):
    """One subaccount, or the primary one."""

    account_id: ExchangeId
    account_name: str
    account_state: str
    is_primary: bool


class SubaccountBalanceRow(
    Row, frozen=True, kw_only=True, rename=lambda name: "unrealisedPNL" if name == "unrealised_pnl" else wire_name(name)
):
    """A currency of a subaccount: the first fields of a spot row, the others of a futures row."""

    currency: str
    available: Decimal | None = None
    hold: Decimal | None = None
    max_available: Decimal | None = None
    account_equity: Decimal | None = None
    unrealised_pnl: Decimal | None = None
    margin_balance: Decimal | None = None
    position_margin: Decimal | None = None
    order_margin: Decimal | None = None
    frozen_funds: Decimal | None = None
    available_balance: Decimal | None = None
    pnl: Decimal | None = None


class SubaccountBalances(Row, frozen=True, kw_only=True):
    """The balances of one subaccount."""

    account_id: ExchangeId
    account_name: str
    account_type: str
    is_primary: bool
    balances: tuple[SubaccountBalanceRow, ...]


class SubaccountTransferRow(Row, frozen=True, kw_only=True):
    """Money moved between subaccounts."""

    id: ExchangeId
    from_account_id: ExchangeId
    from_account_name: str | None = None
    from_account_type: str
    to_account_id: ExchangeId
    to_account_name: str | None = None
    to_account_type: str
    currency: str
    amount: Decimal
    state: str
    create_time_ms: TimeMs


# --- wallets


class AddressRow(Row, frozen=True, kw_only=True):
    """A new address to deposit to."""

    address: str


class DepositRow(Row, frozen=True, kw_only=True):
    """A deposit. The time is in seconds."""

    deposit_number: ExchangeId
    currency: str
    address: str
    amount: Decimal
    confirmations: int | None = None
    txid: str | None = None
    timestamp: Annotated[int, Meta(ge=0)]
    status: str


class WithdrawalRow(
    Row, frozen=True, kw_only=True, rename=lambda name: "paymentID" if name == "payment_id" else wire_name(name)
):
    """A withdrawal. The time is in seconds; one of the two numbers is there."""

    withdrawal_requests_id: ExchangeId | None = None
    withdrawal_number: ExchangeId | None = None
    currency: str
    address: str
    amount: Decimal
    fee: Decimal | None = None
    timestamp: Annotated[int, Meta(ge=0)]
    status: str
    txid: str | None = None
    ip_address: str | None = None
    payment_id: str | None = None


class WalletsActivity(Row, frozen=True, kw_only=True):
    """What came and went. Nobody documents the shape of an adjustment, so it is left as it came."""

    deposits: tuple[DepositRow, ...] = ()
    withdrawals: tuple[WithdrawalRow, ...] = ()
    adjustments: tuple[msgspec.Raw, ...] = ()


class WithdrawalId(Row, frozen=True, kw_only=True):
    """The answer to a withdrawal."""

    withdrawal_requests_id: ExchangeId | None = None
    withdrawal_number: ExchangeId | None = None

    def __post_init__(self) -> None:
        Row.__post_init__(self)
        if not self.number:
            raise ValueError("a withdrawal without a number")

    @property
    def number(self) -> str:
        """Return the number, under whichever name it came."""
        return str(self.withdrawal_requests_id or self.withdrawal_number or "")


# --- margin


class MarginRow(Row, frozen=True, kw_only=True):
    """How far the account is from its margin's end."""

    total_account_value: Decimal
    total_margin: Decimal
    used_margin: Decimal
    free_margin: Decimal
    maintenance_margin: Decimal
    margin_ratio: Decimal
    time_ms: TimeMs


class BorrowStatusRow(Row, frozen=True, kw_only=True):
    """What we have borrowed of a currency."""

    currency: str
    available: Decimal
    borrowed: Decimal
    hold: Decimal
    max_available: Decimal
    hourly_borrow_rate: Decimal
    version: ExchangeId | None = None


class MaxSizeRow(Row, frozen=True, kw_only=True):
    """How much of a market we could trade; buys in quote, sells in base currency."""

    symbol: Symbol
    max_leverage: int
    available_buy: Decimal
    max_available_buy: Decimal
    available_sell: Decimal
    max_available_sell: Decimal


# --- orders


class OrderIds(Row, frozen=True, kw_only=True):
    """The answer to an order: which one it is, not what became of it."""

    id: ExchangeId
    client_order_id: ExchangeId = ExchangeId("")


class BatchItem(Row, frozen=True, kw_only=True):
    """One answer of a batch: an id, or a code."""

    id: ExchangeId | None = None
    client_order_id: ExchangeId | None = None
    code: int | None = None
    message: str = ""


class OrderRow(Row, frozen=True, kw_only=True):
    """An order as the exchange knows it. `state` and `type` are its own words, also those that we do not know."""

    id: ExchangeId
    client_order_id: ExchangeId | None = None
    symbol: Symbol
    state: str
    account_type: str | None = None
    side: Side
    type: str
    time_in_force: str | None = None
    quantity: Decimal
    price: Decimal
    avg_price: Decimal
    amount: Decimal
    filled_quantity: Decimal
    filled_amount: Decimal
    create_time_ms: TimeMs
    update_time_ms: TimeMs
    order_source: str | None = None
    loan: bool | None = None
    cancel_reason: int | None = None


class CancelRow(Row, frozen=True, kw_only=True):
    """The answer to a cancel: code 200 says that it was asked for, not that it is done."""

    order_id: ExchangeId | None = None
    client_order_id: ExchangeId | None = None
    state: str | None = None
    code: int
    message: str | None = None


class KillSwitchRow(Row, frozen=True, kw_only=True):
    """When the kill switch was set and when it will cancel everything; both 0 when it is off."""

    start_time_ms: AnyTimeMs
    cancellation_time_ms: AnyTimeMs


class TradeRow(Row, frozen=True, kw_only=True):
    """A trade of ours."""

    id: ExchangeId
    symbol: Symbol
    account_type: str | None = None
    order_id: ExchangeId
    side: Side
    type: str
    match_role: Literal["MAKER", "TAKER"]
    create_time_ms: TimeMs
    price: Decimal
    quantity: Decimal
    amount: Decimal
    fee_currency: str
    fee_amount: Decimal
    page_id: ExchangeId | None = None
    client_order_id: ExchangeId | None = None


class SmartOrderRow(Row, frozen=True, kw_only=True):
    """A conditional order. `triggered_order` is there once it has become an order."""

    id: ExchangeId
    client_order_id: ExchangeId | None = None
    symbol: Symbol
    state: str
    account_type: str | None = None
    side: Side
    type: str
    time_in_force: str | None = None
    quantity: Decimal | None = None
    price: Decimal | None = None
    amount: Decimal | None = None
    stop_price: Decimal | None = None
    trailing_offset: str | None = None
    limit_offset: str | None = None
    operator: str | None = None
    create_time_ms: TimeMs
    update_time_ms: TimeMs
    triggered_order: OrderRow | None = None


# --- what we send


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to be placed. A market buy is sized by `amount` (quote), everything else by `quantity` (base)."""

    symbol: str
    side: Side
    type: OrderType
    client_id: str
    """Made before sending, unique for ever: by it alone a lost answer can be cleared up."""
    price: Decimal | None = None
    quantity: Decimal | None = None
    amount: Decimal | None = None
    time_in_force: TimeInForce = "GTC"
    self_trade: SelfTrade | None = None
    slippage_tolerance: Decimal | None = None
    """Of market orders: how far from the best price they may go, as a fraction."""
    allow_borrow: bool = False


class Offset(msgspec.Struct, frozen=True, kw_only=True):
    """A distance from a price, or a percentage of it."""

    value: Decimal
    is_percent: bool = False


class NewSmartOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional order to be placed."""

    symbol: str
    side: Side
    type: SmartOrderType
    client_id: str
    stop_price: Decimal
    price: Decimal | None = None
    quantity: Decimal | None = None
    amount: Decimal | None = None
    time_in_force: TimeInForce = "GTC"
    trailing_offset: Offset | None = None
    limit_offset: Offset | None = None
    operator: Literal["GTE", "LTE"] | None = None
    allow_borrow: bool = False


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """What is to change of an order; what is None stays. The rest is that of the order replaced."""

    client_id: str
    """Of the new order."""
    price: Decimal | None = None
    quantity: Decimal | None = None
    amount: Decimal | None = None
    type: OrderType | SmartOrderType | None = None
    time_in_force: TimeInForce | None = None
    stop_price: Decimal | None = None
    """Of smart orders only."""
    proceeds_on_failure: bool = False
    """Place the new order even if the old one could not be cancelled; it may have been filled."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list; None leaves it to the exchange. `from_id` is the id to start at."""

    limit: int | None = None
    from_id: str | None = None
    direction: Direction | None = None
    start_ms: int | None = None
    end_ms: int | None = None


class OrderRef(msgspec.Struct, frozen=True):
    """Which order is meant, as it stands in a path."""

    text: str


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=wire_name):
    """Anything that we send. What is None is left out."""


class OrderBody(Body, frozen=True, kw_only=True):
    """An order, conditional or not."""

    symbol: str
    side: Side
    type: str
    time_in_force: str | None = None
    account_type: str | None = None
    price: str | None = None
    quantity: str | None = None
    amount: str | None = None
    client_order_id: str
    allow_borrow: bool = False
    stp_mode: str | None = None
    slippage_tolerance: str | None = None
    stop_price: str | None = None
    trailing_offset: str | None = None
    limit_offset: str | None = None
    operator: str | None = None


class ReplaceBody(Body, frozen=True, kw_only=True):
    """What changes of an order."""

    price: str | None = None
    quantity: str | None = None
    amount: str | None = None
    type: str | None = None
    time_in_force: str | None = None
    client_order_id: str
    stop_price: str | None = None
    proceed_on_failure: bool = False


class CancelSomeBody(Body, frozen=True, kw_only=True):
    """Which orders to cancel."""

    order_ids: tuple[str, ...] = ()
    client_order_ids: tuple[str, ...] = ()


class CancelAllBody(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """In which markets to cancel everything. Without a symbol: in all."""

    symbols: tuple[str, ...]
    account_types: tuple[str, ...] = ("SPOT",)


class KillSwitchBody(Body, frozen=True, kw_only=True):
    """Seconds until everything is cancelled; "-1" for never."""

    timeout: str


class TransferBody(Body, frozen=True, kw_only=True):
    """Money to be moved between accounts."""

    currency: str
    amount: str
    from_account: str
    to_account: str


class SubaccountTransferBody(Body, frozen=True, kw_only=True):
    """Money to be moved between subaccounts."""

    currency: str
    amount: str
    from_account_id: str
    from_account_type: str
    to_account_id: str
    to_account_type: str


class NewAddressBody(Body, frozen=True, kw_only=True):
    """The currency to make an address for."""

    currency: str


class WithdrawBody(Body, frozen=True, kw_only=True):
    """Money to be sent away."""

    currency: str
    amount: str
    address: str
    payment_id: str | None = None
    allow_borrow: bool = False


class WithdrawCoinBody(Body, frozen=True, kw_only=True):
    """Money to be sent away over a named network."""

    coin: str
    network: str
    amount: str
    address: str
    address_tag: str | None = None
    allow_borrow: bool = False
