"""The control socket's language: newline-delimited JSON, one tagged object a line, both ways.

A screen says `Attach` and receives `Hello`, then a `View` whenever something changed (the newest wins, at
most ten a second) and every `Note`, in order, with `Lost` where it read too slowly. Any client may send a
`Command` and receives one `Reply`. A command of research says `Research` now and then, and every screen is told the
newest of each. Numbers are decimals in whole currency units, times nanoseconds since 1970
UTC.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec

from bot.core.instrument import Side
from bot.core.messages import OperatorVerb, RiskState
from bot.core.orders import OrderState, OrderType
from bot.errors import BadReply

LINE_BYTES_MAX: Final = 64 * 1024
"""Longest request a daemon reads; a longer one ends the connection."""

VIEW_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest line a client reads."""


ID_LENGTH_MAX: Final = 64
"""Longest name of a request; the reply carries it back."""

SUBJECT_LENGTH_MAX: Final = 120
EQUITY_PATTERN: Final = r"^(-?[0-9]{1,15}(\.[0-9]{1,12})?)?\Z"
EquityText = Annotated[str, msgspec.Meta(pattern=EQUITY_PATTERN)]
"""A plain decimal number, or nothing."""

RESEARCH_TEXT_MAX: Final = 120
COUNT_MAX: Final = 2**53

Verb = OperatorVerb | Literal["stop"]


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One line of the protocol."""


class Attach(_Line, frozen=True, kw_only=True):
    """Send me views and notes until I close."""


class Status(_Line, frozen=True, kw_only=True):
    """Send me one view."""


class Command(_Line, frozen=True, kw_only=True):
    """Do something. `verb` is an operator's, or `stop` to end the daemon."""

    id: Annotated[str, msgspec.Meta(max_length=ID_LENGTH_MAX)]
    verb: Verb
    subject: Annotated[str, msgspec.Meta(max_length=SUBJECT_LENGTH_MAX)] = ""
    """What it is about: of `rearm` a latch, of `abandon` an order's client id."""
    equity: EquityText = ""
    """Of `rearm`: what equity is, as the operator knows it, in quote currency."""
    is_new_baseline: bool = False
    """Of `rearm`: the loss counts from here on."""


class Research(_Line, frozen=True, kw_only=True):
    """How far a backtest or a sweep is, said by its command and told to every screen."""

    id: Annotated[str, msgspec.Meta(max_length=ID_LENGTH_MAX)]
    """Which of several."""
    name: Annotated[str, msgspec.Meta(max_length=RESEARCH_TEXT_MAX)]
    done: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
    total: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
    rate: Annotated[float, msgspec.Meta(ge=0, le=COUNT_MAX)]
    """Of what is done, a second."""
    left_s: Annotated[float, msgspec.Meta(ge=0, le=COUNT_MAX)] | None = None
    """None: not known."""
    best: Annotated[str, msgspec.Meta(max_length=RESEARCH_TEXT_MAX)] = ""
    """The best so far, in words."""
    is_over: bool = False


Request = Attach | Status | Command | Research


class Hello(_Line, frozen=True, kw_only=True):
    """Who answers."""

    version: str
    pid: int
    mode: Literal["paper", "live"]
    exchange: str
    """Where prices come from, in words for the header: `poloniex`, `simulated (generated, seed 7)`, …"""
    state_dir: str


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One coin or perpetual that is held."""

    symbol: str
    quantity: Decimal
    """Below 0 where a perpetual is short; so is `value` then."""
    entry_price: Decimal
    """Average price paid, fees left out."""
    mark_price: Decimal | None
    value: Decimal | None
    unrealised_pnl: Decimal | None
    realised_pnl: Decimal


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One order that works."""

    client_id: str
    strategy: str
    symbol: str
    side: Side
    order_type: OrderType
    price: Decimal | None
    """Its limit, or the trigger of a stop order."""
    quantity: Decimal
    filled: Decimal
    state: OrderState
    submitted_ns: int


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of ours."""

    ts_ns: int
    strategy: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool


class MarketRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one market shows."""

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    age_ms: int | None
    """Time since the last quote; None before the first, or while the book is lost."""


class DifferenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line in which our books and the exchange's differ."""

    wallet: Literal["spot", "futures"]
    kind: Literal["cash", "coin", "position", "order"]
    name: str
    """Currency, coin, symbol, or the order's client id (its exchange id where it has none)."""
    exchange: Decimal
    ours: Decimal
    unit: str
    """The coin; `contracts`, below 0 where it is short; or `lots` that are left of an order."""
    action: str
    """What an operator can do about it."""


class LatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One latch that keeps orders back."""

    name: str
    """What `bot rearm` calls it: `CAUSE`, or `CAUSE@SCOPE`."""
    scope: str
    """"" is everything."""
    cause: str
    state: RiskState
    since_ns: int
    detail: str


class View(_Line, frozen=True, kw_only=True):
    """Everything a screen shows, at one moment."""

    ts_ns: int
    feed: Literal["connecting", "live", "lost", "ended"]
    feed_detail: str
    quote_currency: str
    equity: Decimal | None
    """None while a held coin has no price."""
    cash: Decimal
    day_pnl: Decimal | None
    drawdown_pct: Decimal
    risk_state: RiskState
    risk_cause: str
    latches: tuple[LatchRow, ...] = ()
    """Every latch that is closed, the latest change last."""
    epoch: int
    markets: tuple[MarketRow, ...]
    positions: tuple[PositionRow, ...]
    orders: tuple[OrderRow, ...]
    fills: tuple[FillRow, ...]
    """The latest 50, newest first."""
    equity_history: tuple[tuple[int, Decimal], ...]
    """(ts_ns, equity), oldest first, at most 240 points."""
    counters: dict[str, int]
    """frames, signals, orders, denied, fills, reconnects, …"""
    progress: tuple[int, int] | None = None
    """Events done and events in all, while a recording is played."""
    compared: tuple[Literal["spot", "futures"], ...] = ()
    """The wallets that were compared with the exchange's books in this session."""
    differences: tuple[DifferenceRow, ...] = ()
    """What came of the last comparison of each."""


class Note(_Line, frozen=True, kw_only=True):
    """Something that an operator would want to read. `text` is one plain line without control characters."""

    ts_ns: int
    level: Literal["info", "warning", "error"]
    text: str


class Lost(_Line, frozen=True, kw_only=True):
    """You read too slowly: `count` notes were dropped here."""

    count: int


class Reply(_Line, frozen=True, kw_only=True):
    """What came of a command."""

    id: str
    is_ok: bool
    text: str


Answer = Hello | View | Note | Lost | Reply | Research

# msgspec lets two others out: for bytes that are no UTF-8, and for brackets nested some thousand deep.
_MALFORMED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_request_decoder: Final = msgspec.json.Decoder(Request)
_answer_decoder: Final = msgspec.json.Decoder(Answer)
_encoder: Final = msgspec.json.Encoder(decimal_format="string")


def encode(line: Request | Answer) -> bytes:
    """Return `line` as one line of JSON with its line feed."""
    return _encoder.encode(line) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return what a client asked. Raises BadReply for anything else."""
    try:
        return _request_decoder.decode(line)
    except _MALFORMED as error:
        raise BadReply(f"not a request ({error})", line) from error


def decode_answer(line: bytes) -> Answer:
    """Return what the daemon said. Raises BadReply for anything else."""
    try:
        return _answer_decoder.decode(line)
    except _MALFORMED as error:
        raise BadReply(f"not an answer ({error})", line) from error
