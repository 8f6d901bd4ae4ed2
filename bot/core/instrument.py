"""What can be traded, and in which steps: the one place where decimals become integers and back.

Inside the core a price is a whole number of ticks, a quantity a whole number of lots, money and coins are whole
atoms of `ATOM_SCALE` decimals. So price x quantity is exact, and no sum ever drifts.
"""

from __future__ import annotations

from decimal import Context, Decimal
from enum import StrEnum
from typing import Final

import msgspec

from bot.errors import BadReply, OffGrid

ATOM_SCALE: Final = 16
"""Decimals of money and coins in the ledger. Tick and lot decimals of a market must not add up to more."""

ATOMS: Final = 10**ATOM_SCALE
NUMBER_LENGTH_MAX: Final = 40
"""Longest number accepted from outside, in characters; the exchange's own stay under 30."""
_EXACT: Final = Context(prec=100)
"""Python's own 28 digits would round the atoms of a coin that costs next to nothing."""


class Side(StrEnum):
    """Which way an order goes, in the exchange's words."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """Return +1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


def side_of(signed_lots: int) -> Side:
    """Return the side that changes a position by `signed_lots`, which is not 0."""
    return Side.BUY if signed_lots > 0 else Side.SELL


def scaled(text: str, scale: int) -> int:
    """Return the plain decimal number `text` times 10**scale, exactly.

    Raises:
        BadReply: `text` is not a plain, non-negative decimal number (no sign, exponent, space or other digits).
        OffGrid: `text` has more decimals than `scale`; zeros at the end do not count.

    """
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii() and whole) or len(text) > NUMBER_LENGTH_MAX:
        raise BadReply("not a plain decimal number", text)
    spare = scale - len(fraction)
    if spare == 0:  # most prices: a power and a product less
        return int(digits)
    if spare > 0:
        return int(digits) * 10**spare
    if fraction[scale:].strip("0"):
        raise OffGrid(f"{text} has more than {scale} decimals")
    return int(whole + fraction[:scale])


def scaled_down(text: str, scale: int) -> int:
    """Return what `scaled` does, with decimals beyond `scale` cut off: for averages and marks, not for orders."""
    spare = max(len(text.partition(".")[2]) - scale, 0)
    return scaled(text, scale + spare) // 10**spare


def decimal_of(value: int, scale: int) -> Decimal:
    """Return `value` / 10**scale, exactly and without zeros at the end."""
    if value % 10**scale == 0:
        return Decimal(value // 10**scale)
    return Decimal(value).scaleb(-scale, _EXACT).normalize(_EXACT)


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One market: its name, its coins, its steps, its bounds and its mode. A largest of 0 bounds nothing."""

    symbol: str
    base: str
    quote: str
    price_scale: int
    """Decimals of a price: the tick size is 10**-price_scale."""
    quantity_scale: int
    """Decimals of a quantity: the lot size is 10**-quantity_scale."""
    qty_lots_min: int
    notional_atoms_min: int
    is_open: bool = True
    """Whether orders are taken at all; in post-only mode they are."""
    is_perp: bool = False
    """A linear perpetual: positions may be short, and their profit is paid in quote."""
    quote_fee_ppm: int = 0
    """Above 0 the fees of a spot market are taken in quote on top, at most this much; else out of what is received."""
    is_post_only: bool = False
    """Only orders that cannot take are taken: `LIMIT_MAKER`."""
    limit_lots_max: int = 0
    """Most lots of an order with a limit price."""
    market_lots_max: int = 0
    """Most lots of an order at the market, or of a stop, which becomes one."""
    notional_atoms_max: int = 0
    """Most that an order with a limit price may be worth, or an order for an amount may spend."""

    @property
    def is_fee_in_quote(self) -> bool:
        """Return whether both sides pay their fee in quote; otherwise a buy pays in the coin that it buys."""
        return self.is_perp or self.quote_fee_ppm > 0

    def fee_coin(self, side: Side) -> str:
        """Return the coin in which a fill pays its fee, where the exchange says no other."""
        return self.quote if side is Side.SELL or self.is_fee_in_quote else self.base

    def __post_init__(self) -> None:
        if self.price_scale < 0 or self.quantity_scale < 0 or self.price_scale + self.quantity_scale > ATOM_SCALE:
            raise OffGrid(
                f"{self.symbol}: {self.price_scale} price decimals and {self.quantity_scale} quantity decimals; "
                f"each must be >= 0 and their sum <= {ATOM_SCALE}"
            )

    def price_ticks(self, text: str) -> int:
        """Return the price `text` in ticks. Raises as `scaled` does."""
        return scaled(text, self.price_scale)

    def qty_lots(self, text: str) -> int:
        """Return the quantity `text` in lots. Raises as `scaled` does."""
        return scaled(text, self.quantity_scale)

    def price(self, ticks: int) -> Decimal:
        """Return a price in quote currency."""
        return decimal_of(ticks, self.price_scale)

    def quantity(self, lots: int) -> Decimal:
        """Return a quantity in base currency."""
        return decimal_of(lots, self.quantity_scale)

    def lots_max(self, price_ticks: int | None) -> int | None:
        """Return the most lots of one order with a limit price, or with None of one at the market; None: no bound."""
        bounds = [self.market_lots_max if price_ticks is None else self.limit_lots_max]
        if price_ticks and self.notional_atoms_max:
            # A market whose bound buys no lot takes no order: one lot is as far as we can go.
            bounds.append(max(self.notional_atoms_max // self.notional_atoms(price_ticks, 1), 1))
        return min((bound for bound in bounds if bound), default=None)

    @property
    def base_atoms_per_lot(self) -> int:
        """Return how many atoms of the base coin one lot is."""
        return 10 ** (ATOM_SCALE - self.quantity_scale)

    def notional_atoms(self, price_ticks: int, qty_lots: int) -> int:
        """Return price x quantity in atoms of the quote currency, exactly."""
        return price_ticks * qty_lots * 10 ** (ATOM_SCALE - self.price_scale - self.quantity_scale)

    def value_atoms(self, base_atoms: int, price_ticks: int) -> int:
        """Return what `base_atoms` are worth at a price, in quote atoms; rounded down, so a short owes more."""
        return base_atoms * price_ticks // 10**self.price_scale

    def spent_atoms(self, price_ticks: int, qty_lots: int) -> int:
        """Return the most that a buy on spot takes out of cash: its notional, and the fee if that is in quote."""
        notional = self.notional_atoms(price_ticks, qty_lots)
        return notional + fee_atoms(notional, self.quote_fee_ppm) if self.quote_fee_ppm else notional

    def whole_lots(self, base_atoms: int) -> int:
        """Return how many whole lots can be sold out of `base_atoms`; less than a lot is dust."""
        return base_atoms // self.base_atoms_per_lot

    def nearest_lots(self, base_atoms: int) -> int:
        """Return `base_atoms` in lots, rounded to the nearest: a fee taken in coins does not make ten lots nine."""
        return (2 * base_atoms + self.base_atoms_per_lot) // (2 * self.base_atoms_per_lot)

    def position_lots(self, base_atoms: int) -> int:
        """Return a position in lots, rounded to the nearest; less than the smallest quantity is dust, which is 0."""
        is_dust = abs(base_atoms) < self.qty_lots_min * self.base_atoms_per_lot
        return 0 if is_dust else self.nearest_lots(base_atoms)


def fee_atoms(amount_atoms: int, fee_ppm: int) -> int:
    """Return the fee on `amount_atoms` at `fee_ppm` millionths (1 basis point is 100), rounded up, against us."""
    return -(-amount_atoms * fee_ppm // 1_000_000)
