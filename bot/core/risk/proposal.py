"""An order that the gate considers, before anything is decided."""

from __future__ import annotations

from typing import NamedTuple

from bot.core import messages as m
from bot.core.instrument import Instrument, Side
from bot.core.orders import OrderType


class Proposal(NamedTuple):
    """An order that the gate considers, with all that its rules look at."""

    strategy: str
    instrument: Instrument
    side: Side
    qty_lots: int
    order_type: OrderType
    price_ticks: int
    """Its limit, or for a market order the touch that it meets first."""
    increase_lots: int
    """The part that makes the position larger. A turn-round closes with the rest; a pure reduction has 0."""
    value_atoms: int
    """Worst case of that part: at the price, or at the market at the far end of the collar; with fees in quote."""
    closes_atoms: int
    """What the part that closes is worth; 0 on spot, where that is only sold."""
    amount_atoms: int
    decided_ns: int
    now_ns: int
    quote: m.Quote | None
    equity_atoms: int | None

    @property
    def limit_ticks(self) -> int | None:
        """Return its limit price; None for what is at the market, or will be."""
        return None if self.order_type in ("MARKET", "STOP") else self.price_ticks

    @property
    def is_increase(self) -> bool:
        """Return whether some of it makes a position larger."""
        return self.increase_lots > 0
