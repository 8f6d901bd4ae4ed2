"""Orders on contracts: what a client asks for, checked for itself, and what the exchange remembers of it.

Checks here need no market and no account; those that do are the desk's. Codes: the dossier's futures-rest.md,
section 7.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

import msgspec

from bot.core.instrument import Side, scaled
from bot.core.orders import OrderType, TimeInForce
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.accounts import MS_NS
from bot.exchange.simulated.candles import DAY_NS, HOUR_NS
from bot.exchange.simulated.futures_instruments import Contract
from bot.exchange.simulated.futures_margin import Claim, PositionKey, closes
from bot.exchange.simulated.futures_positions import MarginMode, PosSide
from bot.exchange.simulated.liquidity import Order, StpMode

OK: Final = 200
CLIENT_ID_TAKEN: Final = 250
BAD_PARAMETER: Final = 400
UNAUTHORISED: Final = 401
NOT_FOUND: Final = 404
NO_SUCH_SYMBOL: Final = 10001
BEYOND_PRICE_LIMIT: Final = 10002
NO_BID: Final = 10003
NO_ASK: Final = 10004
NOT_TRADING: Final = 10000
BATCH_TOO_LARGE: Final = 10016
CANCEL_BATCH_TOO_LARGE: Final = 10017
NOTHING_TO_CLOSE: Final = 10018
NO_SUCH_ORDER: Final = 11008
NO_SUCH_POSITION: Final = 21001
TOO_LITTLE_MARGIN: Final = 21721
"""Not in any source: the code that spot uses for it."""

BATCH_MAX: Final = 10
ORDERS_KEPT: Final = 10_000
FINISHED_NS: Final = 90 * DAY_NS
UNFILLED_NS: Final = 4 * HOUR_NS
"""How long finished orders can be read, and those that ended without a fill."""
CLIENT_ID_PREFIX: Final = "polo"
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIMES: Final[Mapping[str, TimeInForce]] = {"GTC": "GTC", "IOC": "IOC", "FOK": "FOK"}
_TYPES: Final[Mapping[str, OrderType]] = {"MARKET": "MARKET", "LIMIT": "LIMIT", "LIMIT_MAKER": "LIMIT_MAKER"}
_SHOWN_MAX: Final = 40

Text = str | int | float
"""A number as clients send it, in quotes or not."""
_Choice = TypeVar("_Choice")


class Refusal(Exception):
    """A request that is answered with a code and a text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of an order; keys that we do not know are ignored."""

    symbol: str = ""
    side: str = ""
    type: str = ""
    sz: Text | None = None
    px: Text | None = None
    mgn_mode: str | None = None
    pos_side: str | None = None
    cl_ord_id: str | None = None
    reduce_only: bool | str | None = None
    time_in_force: str | None = None
    stp_mode: str | None = None


class Ticket(NamedTuple):
    """An order that is well formed."""

    contract: Contract
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    contracts: int
    price_ticks: int | None
    margin_mode: MarginMode | None
    """None: the symbol's."""
    pos_side: PosSide | None
    """None: the only one, in one-way mode."""
    client_id: str
    """Empty: one is made."""
    is_reduce_only: bool
    stp_mode: StpMode


def ticket_of(request: OrderRequest, contract: Contract) -> Ticket:
    """Return an order request, checked for itself.

    Raises:
        Refusal: a field is missing, unknown, off its grid or out of bounds, or two contradict each other.

    """
    order_type = choice(request.type, "type", _TYPES)
    time_in_force = choice(request.time_in_force or "GTC", "timeInForce", _TIMES)
    if order_type == "LIMIT_MAKER" and time_in_force != "GTC":
        raise Refusal(BAD_PARAMETER, f"LIMIT_MAKER cannot be {time_in_force}")
    price_ticks = None
    if order_type != "MARKET":
        price_ticks = _price_ticks(request.px, contract)
    return Ticket(
        contract=contract,
        side=choice(request.side, "side", Side.__members__),
        order_type=order_type,
        time_in_force=time_in_force,
        contracts=_contracts(request.sz, contract, contract.order_max(is_market=order_type == "MARKET")),
        price_ticks=price_ticks,
        margin_mode=margin_mode_of(request.mgn_mode),
        pos_side=pos_side_of(request.pos_side),
        client_id=client_id_of(request.cl_ord_id),
        is_reduce_only=flag(request.reduce_only, "reduceOnly"),
        stp_mode=choice(request.stp_mode or "NONE", "stpMode", StpMode.__members__),
    )


def choice(text: str, name: str, choices: Mapping[str, _Choice]) -> _Choice:
    """Return the one of `choices` that `text` names, in any case.

    Raises:
        Refusal: it names none of them.

    """
    try:
        return choices[text.strip().upper()]
    except KeyError:
        raise Refusal(BAD_PARAMETER, f"Invalid {name}: {text[:_SHOWN_MAX]!r}") from None


def flag(value: bool | str | None, name: str) -> bool:
    """Return a truth value that may be text."""
    if isinstance(value, str):
        return choice(value, name, {"TRUE": True, "FALSE": False})
    return bool(value)


def margin_mode_of(text: str | None) -> MarginMode | None:
    """Return a margin mode, or None where none is given."""
    return choice(text, "mgnMode", MarginMode.__members__) if text else None


def pos_side_of(text: str | None) -> PosSide | None:
    """Return a position side, or None where none is given."""
    return choice(text, "posSide", PosSide.__members__) if text else None


def client_id_of(text: str | None) -> str:
    """Return a client's id of an order, or an empty text where none is given."""
    if text and not _CLIENT_ID.fullmatch(text):
        raise Refusal(BAD_PARAMETER, f"Invalid clOrdId: {text[:_SHOWN_MAX]!r}")
    return text or ""


def _contracts(value: Text | None, contract: Contract, most: int) -> int:
    if value is None:
        raise Refusal(BAD_PARAMETER, "sz is missing")
    try:
        # Whole contracts; "1.0" is one.
        contracts = scaled(str(value), 0)
    except (BadReply, OffGrid) as error:
        raise Refusal(BAD_PARAMETER, f"sz {_shown(value)} is not a multiple of lotSz 1") from error
    if not contract.instrument.qty_lots_min <= contracts <= most:
        raise Refusal(
            BAD_PARAMETER,
            f"sz {contracts} is not within {contract.instrument.qty_lots_min} and {most}",
        )
    return contracts


def _price_ticks(value: Text | None, contract: Contract) -> int:
    if value is None or value == "":
        raise Refusal(BAD_PARAMETER, "px is missing")
    try:
        price_ticks = scaled(str(value), contract.instrument.price_scale)
    except (BadReply, OffGrid) as error:
        raise Refusal(BAD_PARAMETER, f"px {_shown(value)} is not a multiple of tSz") from error
    if not price_ticks:
        raise Refusal(BAD_PARAMETER, "px must be > 0")
    return price_ticks


def _shown(value: Text) -> str:
    return str(value)[:_SHOWN_MAX]


# --- what the exchange remembers


@dataclass(slots=True, eq=False, kw_only=True)
class FuturesOrder(Order):
    """An order on a contract, living or ended."""

    contract: Contract
    pos_side: PosSide
    margin_mode: MarginMode
    leverage: int
    """When it was placed."""
    is_reduce_only: bool = False
    fee_atoms: int = 0

    @property
    def key(self) -> PositionKey:
        """Return the position that it changes."""
        return self.symbol, self.pos_side

    @property
    def only_closes(self) -> bool:
        """Return whether it may not open anything."""
        return self.is_reduce_only or closes(self.side, self.pos_side)

    def claim(self, leverage: int, price_ticks: int | None = None) -> Claim:
        """Return what it binds, at its own price if no other is given."""
        return Claim(
            contract=self.contract,
            pos_side=self.pos_side,
            margin_mode=self.margin_mode,
            side=self.side,
            price_ticks=self.limit_ticks if price_ticks is None else price_ticks,
            contracts=self.leaves_lots,
            leverage=leverage,
            is_reduce_only=self.is_reduce_only,
        )


class FillType(StrEnum):
    """What kind of trade a fill was; all but `TRADE` is unsourced."""

    TRADE = "TRADE"
    LIQUIDATION = "LIQUIDATION"


class FillRecord(NamedTuple):
    """One fill of one client."""

    fill_id: int
    trade_id: int
    order_id: int
    client_id: str
    contract: Contract
    side: Side
    order_type: OrderType
    pos_side: PosSide
    margin_mode: MarginMode
    is_maker: bool
    price_ticks: int
    contracts: int
    fee_atoms: int
    fee_ppm: int
    ts_ns: int
    type: FillType = FillType.TRADE


@dataclass(slots=True, eq=False)
class OrderBookOfOne:
    """Every order and fill of one account."""

    living: dict[int, FuturesOrder] = field(default_factory=dict[int, FuturesOrder])
    """By order id, oldest first."""
    by_client_id: dict[str, FuturesOrder] = field(default_factory=dict[str, FuturesOrder])
    """All that ever were: a client's id is never taken twice."""
    finished: deque[FuturesOrder] = field(default_factory=lambda: deque[FuturesOrder](maxlen=ORDERS_KEPT))
    fills: deque[FillRecord] = field(default_factory=lambda: deque[FillRecord](maxlen=ORDERS_KEPT))

    def find(self, order_id: str, client_id: str) -> FuturesOrder | None:
        """Return the order of an id, living or finished; the exchange's id goes before the client's."""
        if order_id:
            number = int(order_id) if order_id.isdigit() and order_id.isascii() and len(order_id) < 20 else 0
            if number in self.living:
                return self.living[number]
            return next((order for order in reversed(self.finished) if order.order_id == number), None)
        return self.by_client_id.get(client_id)

    def readable(self, now_ns: int) -> Iterator[FuturesOrder]:
        """Yield finished orders that can still be read, newest first."""
        for order in reversed(self.finished):
            kept_ns = FINISHED_NS if order.filled_lots else UNFILLED_NS
            if order.updated_ns > now_ns - kept_ns:
                yield order

    def closing(self, key: PositionKey) -> list[FuturesOrder]:
        """Return the living orders that may only close a position, oldest first."""
        return [order for order in self.living.values() if order.only_closes and order.key == key]


def ms(ts_ns: int) -> int:
    """Return a time in the exchange's milliseconds."""
    return ts_ns // MS_NS
