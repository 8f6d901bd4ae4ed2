"""Everything that one actor can say to another.

A message is a frozen record that carries its own time (`ts_ns`, nanoseconds since 1970, UTC): a machine that reads one
needs no clock. A *fact* (trade, bar, order event, fill) is kept until read; a *perishable* (quote, signal, snapshot)
replaces an unread one of its `slot`. Names of quantities end in their unit: ticks, lots, atoms, ns, bps.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from bot.core.instrument import Instrument, Side
from bot.core.orders import OrderIntent, OrderRecord, OrderState

Levels = tuple[tuple[int, int], ...]
"""(price_ticks, qty_lots), best price first, every quantity > 0."""

SECOND_NS: Final = 1_000_000_000


Wallet = Literal["spot", "futures"]
FillKey = tuple[str, str, str, Side]
"""(symbol, trade_id, order_id, side)."""
FillContent = tuple[int, int, int, str]
"""(price_ticks, qty_lots, fee_atoms, fee_currency)."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The base of all messages: when it was true."""

    ts_ns: int


# --- the market, said by the feed


class Tick(Message, frozen=True, kw_only=True):
    """Time has come this far. Four a second in real time; in a replay, at most four a second, each before a frame."""


class InstrumentListed(Message, frozen=True, kw_only=True):
    """The exchange lists this market, with these steps; comes before anything else about it."""

    instrument: Instrument


class Quote(Message, frozen=True, kw_only=True):
    """Best bid and ask of a whole, continuous book. Perishable."""

    symbol: str
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    bids: Levels = ()
    """The visible book behind it, the touch included; `()` where nobody looks at more than the touch."""
    asks: Levels = ()


class Depth(Message, frozen=True, kw_only=True):
    """The visible book, at most 20 levels a side. Perishable."""

    symbol: str
    bids: Levels
    asks: Levels


class BookLost(Message, frozen=True, kw_only=True):
    """The book of `symbol` is not known until the next quote: nothing may be priced on it."""

    symbol: str
    reason: str


class TradeTick(Message, frozen=True, kw_only=True):
    """One trade between others on the exchange."""

    symbol: str
    trade_id: str
    price_ticks: int
    qty_lots: int
    taker_side: Side


class Bar(Message, frozen=True, kw_only=True):
    """A finished candle: of the exchange, or built by us out of trades. `ts_ns` is when we knew that it was over."""

    symbol: str
    timeframe_ns: int
    start_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume_lots: int
    is_history: bool = False
    """Older than our session: it warms indicators up and asks for no order."""


class MarkPrice(Message, frozen=True, kw_only=True):
    """The exchange's own mark price. Perishable."""

    symbol: str
    price_ticks: int


class FundingRate(Message, frozen=True, kw_only=True):
    """What a perpetual's funding will be at `due_ns`, as it stands now. Perishable."""

    symbol: str
    rate_ppb: int
    """Billionths of the position's value; above 0 longs pay shorts."""
    due_ns: int


# --- what to hold, said by strategies


ExecutionStyle = Literal["now", "twap", "chase"]


class Signal(Message, frozen=True, kw_only=True):
    """The position that a strategy wants to hold, not an order. Perishable: only the newest wish counts."""

    strategy: str
    symbol: str
    target_lots: int
    price_ticks: int
    """The price that the decision was made at; slippage is measured from here."""
    is_passive: bool
    """True: rest at the touch and wait, as a maker; False: take what is there."""
    number: int = 0
    """Counts the sizes that this strategy has set on this symbol: an amount is spent once for each."""
    amount_atoms: int = 0
    """Above 0: buy for this much quote in all, fees included, at the market; `target_lots` is what that buys at
    `price_ticks`. The strategy's next signal says what came of it."""
    limit_ticks: int = 0
    """Above 0: make the position larger with a limit order at this price only."""
    stop_ticks: int = 0
    """Above 0: what is held is guarded by a stop order at this price."""
    profit_ticks: int = 0
    """Above 0: what is held is offered at this price."""
    style: ExecutionStyle = "now"
    """How the position is reached: at once; `twap` in equal slices over `style_ns`; `chase` resting at the touch, moved
    after it, until `style_ns` have passed, then at once."""
    style_ns: int = 0


# --- what may be done, said by the risk gate


class DenyReason(StrEnum):
    """Why the gate refused an order. These codes are stable: operators and tests count them."""

    INVALID_INTENT = "INVALID_INTENT"
    HALTED = "HALTED"
    REDUCE_ONLY = "REDUCE_ONLY"
    NOT_ALLOWED = "NOT_ALLOWED"
    NOT_RECONCILED = "NOT_RECONCILED"
    ACCOUNT_STALE = "ACCOUNT_STALE"
    ACCOUNT_MODE = "ACCOUNT_MODE"
    NOT_LISTED = "NOT_LISTED"
    SYMBOL_MODE = "SYMBOL_MODE"
    MARKET_DATA_STALE = "MARKET_DATA_STALE"
    INTENT_EXPIRED = "INTENT_EXPIRED"
    MIN_QTY = "MIN_QTY"
    MIN_NOTIONAL = "MIN_NOTIONAL"
    MAX_QTY = "MAX_QTY"
    PRICE_COLLAR = "PRICE_COLLAR"
    DEPTH = "DEPTH"
    SLIPPAGE = "SLIPPAGE"
    MAX_ORDER_VALUE = "MAX_ORDER_VALUE"
    MAX_ORDER_QTY = "MAX_ORDER_QTY"
    SELF_CROSS = "SELF_CROSS"
    DUPLICATE_INTENT = "DUPLICATE_INTENT"
    MAX_POSITION = "MAX_POSITION"
    MAX_GROSS = "MAX_GROSS"
    MAX_NET = "MAX_NET"
    MAX_STRATEGY = "MAX_STRATEGY"
    MAX_GROUP = "MAX_GROUP"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    MAX_LEVERAGE = "MAX_LEVERAGE"
    LIQ_DISTANCE = "LIQ_DISTANCE"
    FUNDING = "FUNDING"
    RAMP = "RAMP"
    MAX_OPEN_ORDERS = "MAX_OPEN_ORDERS"
    UNKNOWN_OUTSTANDING = "UNKNOWN_OUTSTANDING"
    RATE_LIMIT = "RATE_LIMIT"
    REPEAT_THROTTLE = "REPEAT_THROTTLE"
    REJECT_RATIO = "REJECT_RATIO"
    OTR = "OTR"
    MAX_TRADES = "MAX_TRADES"
    MAX_TURNOVER = "MAX_TURNOVER"


class RiskState(StrEnum):
    """What the gate lets through: everything, only what makes positions smaller, nothing."""

    NORMAL = "NORMAL"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"

    @property
    def severity(self) -> int:
        """Return 0, 1 or 2; a breaker may only ever raise it."""
        return (RiskState.NORMAL, RiskState.REDUCE_ONLY, RiskState.HALTED).index(self)


class OrderApproved(Message, frozen=True, kw_only=True):
    """The gate let an order through and reserved its worst case."""

    intent: OrderIntent


class OrderDenied(Message, frozen=True, kw_only=True):
    """The gate refused: what was asked, which rule said no, its value and its bound."""

    strategy: str
    symbol: str
    side: Side
    qty_lots: int
    reason: DenyReason
    detail: str


class CancelRequested(Message, frozen=True, kw_only=True):
    """The gate wants a working order gone."""

    client_id: str
    reason: str


class RiskStateChanged(Message, frozen=True, kw_only=True):
    """A breaker closed or opened the gate; `cause` is its name, `operator`, or `flatten` while all is sold.

    Every (scope, cause) is a latch of its own: the state in force is the strictest of those that apply. NORMAL opens
    this latch only; in journals from before there were latches, NORMAL by `operator`, by nobody's name, opens them all.
    """

    state: RiskState
    cause: str
    detail: str
    scope: str = ""
    """"" is everything; else `symbol:NAME`, `strategy:NAME` or `group:NAME`."""
    who: str = ""
    """The user that re-armed it; empty where the bot did."""


class EquityMarked(Message, frozen=True, kw_only=True):
    """Equity and the baselines of the breakers, about once a minute, so that a restart does not forget them."""

    equity_atoms: int
    peak_atoms: int
    day: int
    """Days since 1970-01-01, UTC."""
    day_start_atoms: int
    external_atoms: int = 0
    """All quote currency that ever came from outside, as far as the baselines above are shifted by it."""
    forgiven: tuple[str, ...] = ()
    """The losses that were re-armed while they stood: they trip again only at their harder bound."""
    losing_streaks: dict[str, int] = {}
    """Strategy to the number of its latest positions that lost, one after the other."""
    returned_ns: dict[str, tuple[int, ...]] = {}
    """Latch (`CAUSE` or `CAUSE@SCOPE`) to when it opened by itself, within an hour of the last time."""


OperatorVerb = Literal["halt", "reduce", "flatten", "resume", "rearm", "abandon", "adopt", "close"]
"""`rearm` opens the one latch named by `subject` (`CAUSE` or `CAUSE@SCOPE`); `abandon` gives up the order whose client
id is `subject`; `adopt` takes the exchange's word where the reconciliation found a difference. `close` is said by the
daemon itself at its end: cancel what works, and let nothing new through."""


class OperatorCommand(Message, frozen=True, kw_only=True):
    """Somebody at a screen or a command line asks for something."""

    verb: OperatorVerb
    command_id: str
    """Names the asker's request in the answer; empty where nobody waits."""
    subject: str = ""
    who: str = ""
    """The user that asks."""
    equity_atoms: int | None = None
    """What equity is, as the operator knows it: the evidence that a loss is re-armed on."""
    is_new_baseline: bool = False
    """The loss that is re-armed counts from here on."""


class OperatorAnswered(Message, frozen=True, kw_only=True):
    """What came of an operator's command; journalled."""

    verb: OperatorVerb
    command_id: str
    state: RiskState
    detail: str


# --- what is written, said by persistence


class SessionStarted(Message, frozen=True, kw_only=True):
    """A daemon began to trade on this journal, for the `epoch`-th time."""

    epoch: int
    version: str
    account: str
    quote: str
    cash_atoms: int
    """Cash that the account began with, all wallets together; counts only in the first session of a journal."""
    futures_cash_atoms: int | None = None
    """How much of it lies in the futures wallet; None where one wallet pays for everything, as on paper."""


class SessionEnded(Message, frozen=True, kw_only=True):
    """The daemon ended in good order. `is_complete`: it did all that it was asked for."""

    reason: str
    is_complete: bool


class Recovered(Message, frozen=True, kw_only=True):
    """What the journal says, told to everybody before the first message of a session."""

    epoch: int
    quote: str
    cash_atoms: int
    futures_cash_atoms: int | None = None
    """The part of it that margins perpetuals; None where one wallet pays for everything."""
    holdings: dict[str, dict[str, int]]
    """Strategy to symbol to atoms of the base coin; only those that are not 0."""
    orders: tuple[OrderRecord, ...]
    """Every order that may still live, oldest first."""
    unsettled: tuple[OrderRecord, ...] = ()
    """Orders that ended while some of their fills were still to come, oldest first."""
    external: dict[Wallet, dict[str, int]] = {}
    """Wallet to coin, or perpetual, to atoms that are there by no order of ours: no strategy's, and not in equity."""
    entries: dict[str, dict[str, int]] = {}
    """Strategy to symbol to the price of the fill that opened what it holds."""
    costs: dict[str, int] = {}
    """Symbol of a perpetual to the signed notional that its position was opened at, in quote atoms."""
    risk_state: RiskState
    risk_cause: str
    latches: tuple[RiskStateChanged, ...] = ()
    """The newest of every latch that is not open, oldest first."""
    equity: EquityMarked | None


class SubmitOrder(Message, frozen=True, kw_only=True):
    """The order is written down: send it. Only persistence makes one, out of an `OrderApproved`."""

    intent: OrderIntent


class CancelOrder(Message, frozen=True, kw_only=True):
    """The wish to cancel is written down: send it."""

    client_id: str


class FillBooked(Message, frozen=True, kw_only=True):
    """A fill is in the ledger, once; with what is held after it."""

    fill: Fill
    strategy: str
    strategy_atoms: int
    """Base atoms of the symbol that belong to the strategy now; below 0 where it is short."""
    cash_atoms: int
    futures_cash_atoms: int | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One line in which our books and the exchange's differ."""

    kind: Literal["cash", "coin", "position", "order"]
    name: str
    """Wallet, coin, symbol, or the order's client id (its exchange id where it has none)."""
    ours: int
    """Atoms, or lots of a position; of an order what is left of it, 0 where we know none."""
    theirs: int


class AccountCompared(Message, frozen=True, kw_only=True):
    """Our books were held against the exchange's; journalled when what came of it changes. `()`: they are equal."""

    market: Wallet
    differences: tuple[Difference, ...]


class ExternalFlow(Message, frozen=True, kw_only=True):
    """Money or coins came or went without an order of ours: a deposit, a transfer, an operator's trade; journalled.

    Of the quote currency it changes cash, and shifts the baselines of the breakers; coins belong to no strategy. An
    operator's trade in a perpetual is a flow too.
    """

    wallet: Wallet
    currency: str
    """A coin; or the symbol of a perpetual, whose position changed by `atoms` of the base coin."""
    atoms: int
    reason: str
    who: str = ""


# --- how the bot itself is, said by whoever knows


class Condition(StrEnum):
    """What can be well or not, beside the market and our money; each is watched by one breaker."""

    RECONCILIATION = "reconciliation"
    UNKNOWN_ORDER = "unknown_order"
    CANCELS = "cancels"
    AUTHORITY = "authority"
    """Key, permission, frozen account."""
    RATE_LIMIT = "rate_limit"
    PRIVATE_STREAM = "private_stream"
    JOURNAL = "journal"
    LOAD = "load"
    """Loop lag, queues, memory."""
    CLOCK = "clock"
    FOREIGN_ORDER = "foreign_order"
    INTEGRITY = "integrity"
    """An over-fill, a doubled order, one fill with two contents: our idea of the exchange is wrong."""
    ACCOUNT_MODE = "account_mode"
    """Leverage, margin mode or position mode is not what the settings say."""
    KILL = "kill"
    """A signal, the kill file, or the kill key."""
    STRATEGY_FAILED = "strategy_failed"
    """A strategy raised an error, or wanted what nobody can want."""
    STRATEGY_SLOW = "strategy_slow"
    """A strategy took too long for a bar, again and again: all others wait for it."""


class HealthReported(Message, frozen=True, kw_only=True):
    """A condition became well or not; repeated only when it changes. The gate's breakers decide what follows."""

    condition: Condition
    is_well: bool
    severity: RiskState = RiskState.REDUCE_ONLY
    """What it calls for at once while it is not well; a breaker with patience may wait first."""
    scope: str = ""
    detail: str = ""


# --- what happened, said by the executor


class AccountSeen(Message, frozen=True, kw_only=True):
    """One wallet as the exchange has it, read while nothing of ours was under way."""

    market: Wallet
    balances: dict[str, int]
    """Currency to all there is of it, free or held, in atoms; of the futures wallet its cash, without open profit."""
    positions: dict[str, int]
    """Perpetual to signed lots; those that are not 0."""
    living: dict[str, int]
    """Client id (exchange id where it has none) of every living order to what is left of it, in lots."""


class OrderEvent(Message, frozen=True, kw_only=True):
    """The exchange said something about an order."""

    client_id: str
    symbol: str
    order_id: str
    state: OrderState
    filled_lots: int
    """Filled so far, all fills together."""
    reason: str = ""
    """The exchange's code and text when it refused or ended the order."""


class Fill(Message, frozen=True, kw_only=True):
    """One execution of ours. (symbol, trade_id, order_id, side) names it for ever."""

    client_id: str
    symbol: str
    trade_id: str
    order_id: str
    side: Side
    price_ticks: int
    qty_lots: int
    fee_atoms: int
    """Below 0 where the exchange paid us."""
    is_maker: bool
    fee_currency: str = ""
    """The coin of the fee, where it is not `Instrument.fee_coin`: out of what is received, or in quote."""

    @property
    def key(self) -> FillKey:
        """Return the full name of this fill: both sides of a self-trade share a trade id."""
        return self.symbol, self.trade_id, self.order_id, self.side

    @property
    def content(self) -> FillContent:
        """Return what a repetition of this fill must say again."""
        return self.price_ticks, self.qty_lots, self.fee_atoms, self.fee_currency


class FundingPaid(Message, frozen=True, kw_only=True):
    """A perpetual's funding was settled on the position held at that instant: `ts_ns` names the payment for ever."""

    symbol: str
    rate_ppb: int
    """Billionths of the position's value; above 0 longs pay shorts."""
    price_ticks: int
    paid_atoms: int
    """Quote atoms; below 0 where we received."""


class Liquidated(Message, frozen=True, kw_only=True):
    """The exchange closed our position in a perpetual, because the account could no longer carry it."""

    symbol: str
    price_ticks: int
    signed_lots: int
    """The change of the position: below 0 where a long was sold."""
    fee_atoms: int
    """In quote."""
    cash_atoms: int = 0
    """Cash after it: set by persistence, like the next."""
    futures_cash_atoms: int | None = None


AnyMessage = (
    Tick
    | InstrumentListed
    | Quote
    | Depth
    | BookLost
    | TradeTick
    | Bar
    | MarkPrice
    | FundingRate
    | Signal
    | OrderApproved
    | OrderDenied
    | CancelRequested
    | RiskStateChanged
    | EquityMarked
    | OperatorCommand
    | OperatorAnswered
    | SessionStarted
    | SessionEnded
    | Recovered
    | SubmitOrder
    | CancelOrder
    | FillBooked
    | OrderEvent
    | Fill
    | FundingPaid
    | Liquidated
    | AccountSeen
    | AccountCompared
    | ExternalFlow
    | HealthReported
)

Journalled = (
    SessionStarted
    | SessionEnded
    | InstrumentListed
    | OrderApproved
    | OrderDenied
    | CancelRequested
    | RiskStateChanged
    | EquityMarked
    | OperatorAnswered
    | OrderEvent
    | Fill
    | FundingPaid
    | Liquidated
    | AccountCompared
    | ExternalFlow
)
"""What the journal holds; state is what replaying it gives."""

_SLOTS: Final[dict[type, str]] = {
    Tick: "tick",
    Quote: "book",
    Depth: "book",
    BookLost: "book",
    MarkPrice: "mark",
    FundingRate: "funding",
}


def slot(message: AnyMessage) -> tuple[str, ...] | None:
    """Return the slot of a perishable message, or None for a fact."""
    if type(message) is Signal:
        return "signal", message.strategy, message.symbol
    kind = _SLOTS.get(type(message))
    if kind is None:
        return None
    return kind, getattr(message, "symbol", "")
