"""Smart orders: held by the exchange until the last trade reaches their trigger; money is frozen only then.

Source: the dossier's spot-rest.md, section 10. Pure: knows prices and triggers, not money.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

from bot.core.instrument import Instrument, Side, scaled_down
from bot.errors import BadReply
from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.liquidity import Order
from bot.exchange.simulated.spot_orders import OrderFields, OrderTerms, number, plain_text

PPM: Final = 1_000_000
_PERCENT_SCALE: Final = 4
"""Decimals of a percentage that are a millionth."""

SmartType = Literal["STOP", "STOP_LIMIT", "TRAILING_STOP", "TRAILING_STOP_LIMIT"]
Operator = Literal["GTE", "LTE"]


class SmartState(StrEnum):
    """Where a smart order stands."""

    PENDING_NEW = "PENDING_NEW"
    CANCELED = "CANCELED"
    TRIGGERED = "TRIGGERED"
    FAILED = "FAILED"


class Offset(NamedTuple):
    """A distance of price, or a part of it; `text` is how it was sent."""

    text: str
    ticks: int | None
    ppm: int

    def of(self, price_ticks: int) -> int:
        """Return the distance from a price, in ticks, at least one."""
        return max(self.ticks if self.ticks is not None else price_ticks * self.ppm // PPM, 1)


class SmartTerms(NamedTuple):
    """A well-formed smart order."""

    type: SmartType
    order: OrderTerms
    """What is placed when it triggers; a trailing limit order has its price only then."""
    stop_ticks: int | None
    operator: Operator | None
    trailing: Offset | None
    limit: Offset | None

    @property
    def is_trailing(self) -> bool:
        """Return whether the trigger follows the price."""
        return self.trailing is not None


@dataclass(slots=True, eq=False)
class SmartOrder:
    """A smart order at the exchange."""

    order_id: int
    account: Account
    terms: SmartTerms
    operator: Operator
    """How the last price must stand to `stop_ticks`."""
    created_ns: int
    updated_ns: int
    is_active: bool
    """Trailing has begun, or nothing trails."""
    state: SmartState = SmartState.PENDING_NEW
    extreme_ticks: int | None = None
    """The best price since a trailing order became active."""
    triggered: Order | None = None

    @property
    def symbol(self) -> str:
        """Return its market."""
        return self.terms.order.instrument.symbol

    def triggers_at(self, price_ticks: int) -> bool:
        """Take the price of a trade; return whether it pulls the trigger."""
        if self.terms.trailing is None:
            return self._is_reached(price_ticks)
        if not self.is_active and not self._is_reached(price_ticks):
            return False
        self.is_active = True
        is_sell = self.terms.order.side is Side.SELL
        before = self.extreme_ticks if self.extreme_ticks is not None else price_ticks
        extreme = self.extreme_ticks = max(before, price_ticks) if is_sell else min(before, price_ticks)
        distance = self.terms.trailing.of(extreme)
        return price_ticks <= extreme - distance if is_sell else price_ticks >= extreme + distance

    def order_at(self, price_ticks: int) -> OrderTerms:
        """Return the order to place when a trade at `price_ticks` has pulled the trigger."""
        order = self.terms.order
        if self.terms.type != "TRAILING_STOP_LIMIT":
            return order
        distance = self.terms.limit.of(price_ticks) if self.terms.limit is not None else 0
        limit_ticks = price_ticks + (distance if order.side is Side.BUY else -distance)
        return order._replace(price_ticks=max(limit_ticks, 1))

    def _is_reached(self, price_ticks: int) -> bool:
        stop = self.terms.stop_ticks
        if stop is None:
            return True
        return price_ticks >= stop if self.operator == "GTE" else price_ticks <= stop


def smart_type(fields: OrderFields) -> SmartType:
    """Return the kind of smart order that is meant."""
    named = (fields.type or "").upper()
    if not named:
        is_trailing = plain_text(fields.trailing_offset) is not None
        has_price = plain_text(fields.price) is not None
        named = ("TRAILING_" if is_trailing else "") + ("STOP_LIMIT" if has_price else "STOP")
    if named not in ("STOP", "STOP_LIMIT", "TRAILING_STOP", "TRAILING_STOP_LIMIT"):
        raise refused(Code.BAD_TYPE, named)
    return named


def plain_fields(fields: OrderFields, kind: SmartType, last_price: str) -> OrderFields:
    """Return the fields of the order that is placed when a smart order triggers; `last_price` is the price now."""
    if kind in ("STOP", "TRAILING_STOP"):
        return msgspec.structs.replace(fields, type="MARKET")
    if kind == "TRAILING_STOP_LIMIT":
        # Its price comes with the trigger; until then the price of now stands for it, to check the other fields.
        return msgspec.structs.replace(fields, type="LIMIT", price=msgspec.Raw(f'"{last_price}"'.encode()))
    return msgspec.structs.replace(fields, type="LIMIT")


def checked_triggers(fields: OrderFields, kind: SmartType, order: OrderTerms) -> SmartTerms:
    """Return a smart order out of its fields and the order that it places.

    Raises:
        Refusal: the trigger is not one.

    """
    is_trailing = kind.startswith("TRAILING")
    stop_text = plain_text(fields.stop_price)
    if stop_text is None and not is_trailing:
        raise refused(Code.MISSING_PARAMETER, "stopPrice")
    scale = order.instrument.price_scale
    stop_ticks = None
    if stop_text is not None:
        stop_ticks = number(stop_text, "stopPrice", scale, Code.BAD_STOP_PRICE, Code.PRICE_SCALE)
    operator = (fields.operator or "").upper()
    if operator not in ("", "GTE", "LTE"):
        raise refused(Code.SMART_BAD_PARAMETER, f"operator {operator}")
    trailing = _offset(plain_text(fields.trailing_offset), "trailingOffset", order.instrument) if is_trailing else None
    if is_trailing and trailing is None:
        raise refused(Code.MISSING_PARAMETER, "trailingOffset")
    return SmartTerms(
        type=kind,
        order=order,
        stop_ticks=stop_ticks,
        operator=operator or None,
        trailing=trailing,
        limit=_offset(plain_text(fields.limit_offset), "limitOffset", order.instrument),
    )


def _offset(text: str | None, name: str, instrument: Instrument) -> Offset | None:
    if text is None:
        return None
    if not text.endswith("%"):
        ticks = number(text, name, instrument.price_scale, Code.SMART_BAD_PARAMETER, Code.PRICE_SCALE)
        return Offset(text, ticks, 0)
    try:
        ppm = scaled_down(text.removesuffix("%"), _PERCENT_SCALE)
    except BadReply as error:
        raise refused(Code.INVALID_PARAMETER, f"{name} {text}") from error
    if not 0 < ppm < PPM:
        raise refused(Code.SMART_BAD_PARAMETER, f"{name} {text}")
    return Offset(text, None, ppm)
