"""What clients ask for when they send a spot order, and what of it is an order: every check but those of money.

Source: the dossier's spot-rest.md, sections 9 and 11. Numbers come as text or as JSON numbers, and stay exact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import msgspec

from bot.core.instrument import ATOM_SCALE, Instrument, Side, scaled, scaled_down
from bot.core.orders import OrderType, TimeInForce
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.liquidity import StpMode

CLIENT_ID_MAX: Final = 64
WHOLE_DIGITS_MAX: Final = 15
"""Digits before the point of a price, a quantity or an amount."""
SLIPPAGE_SCALE: Final = 9
ORDER_TYPES: Final = ("MARKET", "LIMIT", "LIMIT_MAKER")
TIMES_IN_FORCE: Final = ("GTC", "IOC", "FOK")
SPOT_STP_MODES: Final = (StpMode.EXPIRE_TAKER, StpMode.NONE)
_CLIENT_ID: Final = re.compile(r"[A-Za-z0-9_-]*")
_NO_VALUE: Final = msgspec.Raw()


class OrderFields(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An order as clients send it, of either kind; keys that we do not know are ignored."""

    symbol: str | None = None
    side: str | None = None
    type: str | None = None
    time_in_force: str | None = None
    account_type: str | None = None
    price: msgspec.Raw = _NO_VALUE
    quantity: msgspec.Raw = _NO_VALUE
    amount: msgspec.Raw = _NO_VALUE
    client_order_id: str | None = None
    allow_borrow: msgspec.Raw = _NO_VALUE
    stp_mode: str | None = None
    slippage_tolerance: msgspec.Raw = _NO_VALUE
    stop_price: msgspec.Raw = _NO_VALUE
    trailing_offset: msgspec.Raw = _NO_VALUE
    limit_offset: msgspec.Raw = _NO_VALUE
    operator: str | None = None
    proceed_on_failure: msgspec.Raw = _NO_VALUE


def plain_text(raw: msgspec.Raw) -> str | None:
    """Return a value that was sent as text or as a JSON number, true or false, as text; None where there is none."""
    written = bytes(raw)
    if written in (b"", b"null", b'""'):
        return None
    if not written.startswith(b'"'):
        return written.decode()
    try:
        return msgspec.json.decode(written, type=str).strip()
    except msgspec.DecodeError as error:
        raise refused(Code.INVALID_PARAMETER) from error


def is_true(raw: msgspec.Raw) -> bool:
    """Return whether a flag that was sent as a boolean or as text is set."""
    return (plain_text(raw) or "").lower() == "true"


class OrderTerms(NamedTuple):
    """A well-formed order, before its money."""

    instrument: Instrument
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    price_ticks: int | None
    qty_lots: int | None
    budget_atoms: int
    client_id: str
    stp_mode: StpMode
    slippage_ppb: int | None

    @property
    def frozen(self) -> tuple[str, int]:
        """Return (currency, atoms) that the order needs."""
        if self.side is Side.SELL:
            assert self.qty_lots is not None
            return self.instrument.base, self.qty_lots * self.instrument.base_atoms_per_lot
        if self.price_ticks is None or self.qty_lots is None:
            return self.instrument.quote, self.budget_atoms
        return self.instrument.quote, self.instrument.notional_atoms(self.price_ticks, self.qty_lots)


def checked_order(fields: OrderFields, instruments: Mapping[str, Instrument]) -> OrderTerms:
    """Return the order that `fields` are.

    Raises:
        Refusal: they are none.

    """
    instrument = _instrument(fields, instruments)
    side = _side(fields)
    order_type = cast("OrderType", _one_of(fields.type, "MARKET", ORDER_TYPES, Code.BAD_TYPE))
    time_in_force = cast("TimeInForce", _one_of(fields.time_in_force, "GTC", TIMES_IN_FORCE, Code.BAD_TIME_IN_FORCE))
    if order_type == "LIMIT_MAKER" and time_in_force != "GTC":
        raise refused(Code.BAD_TIME_IN_FORCE, f"{time_in_force} with LIMIT_MAKER")
    if fields.account_type not in (None, "", "SPOT"):
        raise refused(Code.BAD_ACCOUNT_TYPE, fields.account_type)
    client_id = checked_client_id(fields.client_order_id)
    stp_mode = _one_of(fields.stp_mode, StpMode.EXPIRE_TAKER, SPOT_STP_MODES, Code.INVALID_PARAMETER)
    price_ticks, qty_lots, budget_atoms = _sizes(fields, instrument, side, order_type)
    return OrderTerms(
        instrument=instrument,
        side=side,
        order_type=order_type,
        time_in_force=time_in_force,
        price_ticks=price_ticks,
        qty_lots=qty_lots,
        budget_atoms=budget_atoms,
        client_id=client_id,
        stp_mode=StpMode(stp_mode),
        slippage_ppb=_slippage_ppb(fields) if order_type == "MARKET" else None,
    )


def checked_client_id(client_id: str | None) -> str:
    """Return a client id that may be one, empty where there is none."""
    text = client_id or ""
    if len(text) > CLIENT_ID_MAX:
        raise refused(Code.CLIENT_ID_TOO_LONG)
    if not _CLIENT_ID.fullmatch(text):
        raise refused(Code.INVALID_PARAMETER, f"clientOrderId {text!r}")
    return text


def _instrument(fields: OrderFields, instruments: Mapping[str, Instrument]) -> Instrument:
    if not fields.symbol:
        raise refused(Code.MISSING_PARAMETER, "symbol")
    instrument = instruments.get(fields.symbol.upper())
    if instrument is None:
        raise refused(Code.NO_SYMBOL, fields.symbol)
    if not instrument.is_open:
        raise refused(Code.SYMBOL_FROZEN, fields.symbol)
    return instrument


def _side(fields: OrderFields) -> Side:
    if not fields.side:
        raise refused(Code.MISSING_PARAMETER, "side")
    return Side(_one_of(fields.side, "", tuple(Side), Code.BAD_SIDE))


def _one_of(text: str | None, default: str, known: tuple[str, ...], code: Code) -> str:
    if not text:
        return default
    if text.upper() not in known:
        raise refused(code, text)
    return text.upper()


def _sizes(
    fields: OrderFields, instrument: Instrument, side: Side, order_type: OrderType
) -> tuple[int | None, int | None, int]:
    """Return price in ticks, quantity in lots, budget in atoms: those that an order of its kind has."""
    if order_type != "MARKET":
        price_ticks, qty_lots = _price(fields, instrument), _quantity(fields, instrument)
        if instrument.notional_atoms(price_ticks, qty_lots) < instrument.notional_atoms_min:
            raise refused(Code.AMOUNT_MIN)
        return price_ticks, _within(qty_lots, instrument.lots_max(price_ticks)), 0
    quantity, amount = plain_text(fields.quantity), plain_text(fields.amount)
    needed, other = (amount, quantity) if side is Side.BUY else (quantity, amount)
    if needed is None and other is not None:
        size = "amount" if side is Side.BUY else "quantity"
        raise refused(Code.INVALID_PARAMETER, f"a market {side} is sized by {size}")
    if side is Side.SELL:
        return None, _within(_quantity(fields, instrument), instrument.lots_max(None)), 0
    return None, None, _within(_amount(fields, instrument), instrument.notional_atoms_max or None)


def _within(size: int, bound: int | None) -> int:
    if bound is not None and size > bound:
        raise refused(Code.OVER_LIMIT)
    return size


def _price(fields: OrderFields, instrument: Instrument) -> int:
    text = plain_text(fields.price)
    return number(text, "price", instrument.price_scale, Code.PRICE_NOT_POSITIVE, Code.PRICE_SCALE)


def _quantity(fields: OrderFields, instrument: Instrument) -> int:
    text = plain_text(fields.quantity)
    scale = instrument.quantity_scale
    qty_lots = number(text, "quantity", scale, Code.QUANTITY_NOT_POSITIVE, Code.QUANTITY_SCALE)
    if qty_lots < instrument.qty_lots_min:
        raise refused(Code.QUANTITY_MIN)
    return qty_lots


def _amount(fields: OrderFields, instrument: Instrument) -> int:
    text = plain_text(fields.amount)
    # A market shows its priceScale as its amountScale too.
    scale = instrument.price_scale
    amount = number(text, "amount", scale, Code.AMOUNT_NOT_POSITIVE, Code.AMOUNT_SCALE)
    budget_atoms = amount * 10 ** (ATOM_SCALE - scale)
    if budget_atoms < instrument.notional_atoms_min:
        raise refused(Code.AMOUNT_MIN)
    return budget_atoms


def number(text: str | None, name: str, scale: int, not_positive: Code, too_fine: Code) -> int:
    """Return a positive number times 10**scale; zeros at its end do not count as decimals.

    Raises:
        Refusal: it is missing, not a number, not positive, too fine or too large.

    """
    if text is None:
        raise refused(Code.MISSING_PARAMETER, name)
    is_negative = text.startswith("-")
    try:
        value = scaled(text.removeprefix("-"), scale)
    except BadReply as error:
        raise refused(Code.INVALID_PARAMETER, f"{name} {text}") from error
    except OffGrid as error:
        raise refused(not_positive if is_negative else too_fine, text) from error
    if is_negative or not value:
        raise refused(not_positive, text)
    if value >= 10 ** (scale + WHOLE_DIGITS_MAX):
        raise refused(Code.TOO_LARGE, f"{name} {text}")
    return value


def _slippage_ppb(fields: OrderFields) -> int | None:
    text = plain_text(fields.slippage_tolerance)
    if text is None:
        return None
    try:
        slippage_ppb = scaled_down(text, SLIPPAGE_SCALE)
    except BadReply as error:
        raise refused(Code.INVALID_PARAMETER, f"slippageTolerance {text}") from error
    if not 0 < slippage_ppb < 10**SLIPPAGE_SCALE:
        raise refused(Code.INVALID_PARAMETER, f"slippageTolerance {text}; must be above 0 and below 1")
    return slippage_ppb
