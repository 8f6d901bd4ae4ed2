"""Reading what Poloniex's futures say over REST, and writing what we ask. Any bytes give a value or an `ExchangeError`.

It knows the envelope, the shapes in `futures_wire` and the steps of an instrument; not connections, signatures or
which answers are worth another try.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Final, NamedTuple, TypeVar

import msgspec

from bot.core.instrument import ATOM_SCALE
from bot.core.text import safe_text
from bot.errors import BadReply, OffGrid, OrderRefusedHere, ReadRefused
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.codec import TEXT_LENGTH_MAX, UNREADABLE
from bot.exchange.poloniex.futures_wire import Contracts, number_or_none

CODE_OK: Final = 200
CODE_THROTTLED: Final = 429
BATCH_MAX: Final = 10
"""Most orders that are placed (10016) or cancelled (10017) at once."""
CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
CLIENT_ID_RULE: Final = "1 to 64 of A-Z a-z 0-9 _ -"

INTERVALS: Final = (
    *(f"MINUTE_{count}" for count in (1, 5, 10, 15, 30)),
    *(f"HOUR_{count}" for count in (1, 2, 4, 6, 8, 12)),
    *("DAY_1", "DAY_3", "WEEK_1", "MONTH_1"),
)
"""All that some source lists; the exchange may refuse HOUR_6, HOUR_8, MINUTE_10 and MONTH_1."""

EXACT: Final = Context(prec=100)
"""Python's own 28 digits would round, or refuse to divide, numbers that the exchange may send."""
_FINEST: Final = Decimal(1).scaleb(-ATOM_SCALE)

T = TypeVar("T")


# --- instruments


class FuturesInstrument(msgspec.Struct, frozen=True, kw_only=True):
    """One contract: its coins, its steps and its bounds. A bound of None is none."""

    symbol: str
    base: str
    quote: str
    settlement: str
    contract_value: Decimal
    """Coins in one contract."""
    tick_size: Decimal
    lot_contracts: Contracts
    contracts_min: Contracts
    price_min: Decimal | None
    price_max: Decimal | None
    market_contracts_max: Contracts | None
    limit_contracts_max: Contracts | None
    leverage_max: Decimal | None
    taker_rate: Decimal | None
    maker_rate: Decimal | None
    initial_rate: Decimal | None
    maintenance_rate: Decimal | None
    is_open: bool

    def coins(self, contracts: Contracts) -> Decimal:
        """Return how many coins `contracts` are, exactly."""
        return EXACT.multiply(contracts, self.contract_value)

    def contracts(self, coins: Decimal) -> Contracts:
        """Return `coins` in contracts.

        Raises:
            OffGrid: `coins` is not a whole number of contracts, or negative.

        """
        if not fw.is_bounded(coins) or coins < 0 or EXACT.remainder(coins, self.contract_value):
            raise OffGrid(f"{self.symbol}: {coins} {self.base} are not a whole number of {self.contract_value}")
        return Contracts(int(EXACT.divide_int(coins, self.contract_value)))

    def notional(self, contracts: Contracts, price: Decimal) -> Decimal:
        """Return what `contracts` are worth at `price`, in quote currency."""
        return EXACT.multiply(self.coins(contracts), price)

    def check(self, order: fw.FuturesOrder) -> None:
        """Check an order against the steps and bounds, as the exchange would.

        Raises:
            OffGrid: its price or size lies between two steps.
            OrderRefusedHere: the exchange would refuse or misread it; names the value and the bound.

        """
        if order.symbol != self.symbol:
            raise OrderRefusedHere(f"{self.symbol}: an order for {order.symbol}")
        if not CLIENT_ID.fullmatch(order.client_id):
            raise OrderRefusedHere(f"{self.symbol}: client id {safe_text(order.client_id, 80)!r}; {CLIENT_ID_RULE}")
        self._check_contracts(order.contracts, is_market=order.order_type == "MARKET")
        if order.order_type == "MARKET":
            if order.price is not None:
                raise OrderRefusedHere(f"{self.symbol}: a market order with the price {order.price}")
        elif order.price is None:
            raise OrderRefusedHere(f"{self.symbol}: a {order.order_type} order without a price")
        else:
            self._check_price(order.price)
        if order.order_type == "LIMIT_MAKER" and order.time_in_force != "GTC":
            raise OrderRefusedHere(f"{self.symbol}: a LIMIT_MAKER order that is {order.time_in_force}")
        if order.is_reduce_only and order.position_side != "BOTH":
            raise OrderRefusedHere(
                f"{self.symbol}: reduce-only on {order.position_side}; in hedge mode the side says it"
            )

    def _check_contracts(self, contracts: Contracts, *, is_market: bool) -> None:
        if contracts % self.lot_contracts:
            raise OffGrid(f"{self.symbol}: {contracts} contracts are not a multiple of {self.lot_contracts}")
        if contracts < self.contracts_min:
            raise OrderRefusedHere(f"{self.symbol}: {contracts} contracts < {self.contracts_min}, the least")
        most = self.market_contracts_max if is_market else self.limit_contracts_max
        if most is not None and contracts > most:
            raise OrderRefusedHere(f"{self.symbol}: {contracts} contracts > {most}, the most")

    def _check_price(self, price: Decimal) -> None:
        if not fw.is_bounded(price) or price <= 0:
            raise OrderRefusedHere(f"{self.symbol}: price {price} is not a number > 0")
        if EXACT.remainder(price, self.tick_size):
            raise OffGrid(f"{self.symbol}: price {price} is not a multiple of {self.tick_size}")
        if self.price_min is not None and price < self.price_min:
            raise OrderRefusedHere(f"{self.symbol}: price {price} < {self.price_min}, the least")
        if self.price_max is not None and price > self.price_max:
            raise OrderRefusedHere(f"{self.symbol}: price {price} > {self.price_max}, the most")


def instrument_of(row: fw.InstrumentRow) -> FuturesInstrument:
    """Return the instrument that `row` describes.

    Raises:
        OffGrid: not linear, or a step that is not more than 0 or too fine to be held.

    """
    if row.contract_type.upper() != "LINEAR":
        raise OffGrid(f"{row.symbol}: a {safe_text(row.contract_type, 20)} contract; only LINEAR ones are known")
    for name, step in (("contract value", row.contract_value), ("tick size", row.tick_size)):
        if step <= 0 or EXACT.remainder(step, _FINEST):
            raise OffGrid(f"{row.symbol}: {name} {step}; it must be > 0 with at most {ATOM_SCALE} decimals")
    if row.lot_contracts < 1:
        raise OffGrid(f"{row.symbol}: a lot of {row.lot_contracts} contracts")
    return FuturesInstrument(
        symbol=row.symbol,
        base=row.base,
        quote=row.quote,
        settlement=row.settlement,
        contract_value=row.contract_value,
        tick_size=row.tick_size,
        lot_contracts=row.lot_contracts,
        contracts_min=Contracts(max(row.contracts_min, row.lot_contracts)),
        price_min=_bound(row.price_min),
        price_max=_bound(row.price_max),
        market_contracts_max=_contracts_bound(row.market_contracts_max),
        limit_contracts_max=_contracts_bound(row.limit_contracts_max),
        leverage_max=_bound(row.leverage_max),
        taker_rate=number_or_none(row.taker_rate),
        maker_rate=number_or_none(row.maker_rate),
        initial_rate=number_or_none(row.initial_rate),
        maintenance_rate=number_or_none(row.maintenance_rate),
        is_open=row.status == "OPEN",
    )


def _bound(text: str | None) -> Decimal | None:
    """Return a bound; 0 is the exchange's way to say that there is none."""
    return number_or_none(text) or None


def _contracts_bound(text: str | None) -> Contracts | None:
    bound = _bound(text)
    return None if bound is None else Contracts(int(bound))


# --- answers


class Refusal(NamedTuple):
    """What the envelope of an answer says when it is not good; `text` is fit for a terminal."""

    code: int
    text: str


_envelope: Final = msgspec.json.Decoder(fw.Envelope, strict=False)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return a reader of `kind`; integers may come as text."""
    return msgspec.json.Decoder(kind, strict=False)


def refusal_of(body: bytes) -> Refusal | None:
    """Return why an answer is not good; None when `body` is a good envelope, or none at all."""
    try:
        envelope = _envelope.decode(body)
    except UNREADABLE:
        return None
    return None if envelope.code == CODE_OK else Refusal(envelope.code, safe_text(envelope.msg, TEXT_LENGTH_MAX))


def decode_data(reader: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return the `data` of a good answer.

    Raises:
        ReadRefused: the envelope carries another code than 200.
        BadReply: no envelope, or data of another shape.

    """
    envelope = _read(_envelope, body)
    if envelope.code != CODE_OK:
        text = safe_text(envelope.msg, TEXT_LENGTH_MAX)
        raise ReadRefused(f"code {envelope.code}: {text}", status=CODE_OK, code=envelope.code)
    return _read(reader, bytes(envelope.data))


def _read(reader: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return reader.decode(raw)
    except UNREADABLE as error:
        raise BadReply(safe_text(str(error), TEXT_LENGTH_MAX), raw) from error


_instrument: Final = decoder(fw.InstrumentRow)
_raw_rows: Final = decoder(list[msgspec.Raw])
_one_or_rows: Final = decoder(msgspec.Raw)


def decode_instruments(body: bytes) -> list[FuturesInstrument]:
    """Return the instruments of /v3/market/allInstruments that we can hold exactly; the others are not listed for us.

    Raises:
        ReadRefused: the envelope says no.
        BadReply: not a list, or not one readable instrument in it.

    """
    instruments: list[FuturesInstrument] = []
    error: BadReply | OffGrid | None = None
    for row in decode_data(_raw_rows, body):
        try:
            instruments.append(instrument_of(_read(_instrument, bytes(row))))
        except (BadReply, OffGrid) as bad:
            error = bad
    if error is not None and not instruments:
        raise BadReply("no readable instrument", body) from error
    return instruments


def decode_instrument(body: bytes) -> FuturesInstrument:
    """Return the instrument of /v3/market/instruments: an object, or an array of one by another source.

    Raises:
        ReadRefused: the envelope says no.
        BadReply: unreadable, or an instrument that we cannot hold.

    """
    (row,) = decode_rows(_instrument, body, count=1)
    try:
        return instrument_of(row)
    except OffGrid as error:
        raise BadReply(str(error)) from error


def decode_rows(reader: msgspec.json.Decoder[T], body: bytes, *, count: int | None = None) -> list[T]:
    """Return the rows of an answer that is an array, or one object; `count` is how many there must be.

    Raises:
        ReadRefused: the envelope says no.
        BadReply: unreadable, or another number of rows.

    """
    raw = bytes(decode_data(_one_or_rows, body))
    rows = [bytes(row) for row in _read(_raw_rows, raw)] if raw.lstrip()[:1] == b"[" else [raw]
    if count is not None and len(rows) != count:
        raise BadReply(f"{len(rows)} rows instead of {count}", body)
    return [_read(reader, row) for row in rows]


# --- requests


def place_body(order: fw.FuturesOrder) -> bytes:
    """Return the body that places `order`."""
    return msgspec.json.encode(_placing(order))


def place_many_body(orders: Iterable[fw.FuturesOrder]) -> bytes:
    """Return the body that places some orders."""
    return msgspec.json.encode([_placing(order) for order in orders])


def _placing(order: fw.FuturesOrder) -> fw.PlaceBody:
    return fw.PlaceBody(
        symbol=order.symbol,
        side=order.side,
        order_type=order.order_type,
        contracts=str(order.contracts),
        margin_mode=order.margin_mode,
        position_side=order.position_side,
        client_id=order.client_id,
        price="" if order.price is None else plain(order.price),
        is_reduce_only=True if order.is_reduce_only else None,
        time_in_force=None if order.order_type == "MARKET" else order.time_in_force,
        self_trade=order.self_trade,
    )


def plain(number: Decimal) -> str:
    """Return `number` in plain notation, without an exponent or zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def json_body(body: msgspec.Struct) -> bytes:
    """Return any other body, in compact JSON."""
    return msgspec.json.encode(body)
