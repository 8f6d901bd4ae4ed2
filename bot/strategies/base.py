"""What a strategy is: settings that say what it watches, and a class that turns bars into wanted positions.

A strategy knows nothing of orders, money or other strategies. It sees finished bars of one symbol, in order, and
answers how much of its notional it wants to hold: 0.0 is flat, 1.0 is all of it, -1.0 is all of it short.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import msgspec

from bot.core.messages import Bar, ExecutionStyle


class StrategySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every strategy is told, whatever its kind."""

    timeframe: str
    """Length of a bar: `1s`, `5s`, `1m`, `4h`, … From one minute up the exchange's candles, below built from trades."""
    notional: Annotated[float, msgspec.Meta(gt=0)]
    """Quote currency that a full position is worth when it is opened, for each symbol."""
    equity_pct: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    """Percent of equity that a full position is worth when it is opened, instead of `notional`; 0: use `notional`."""
    symbols: tuple[str, ...] = ()
    """Markets to trade; empty: all of `exchange.symbols`."""
    is_passive: bool = False
    """True: enter and leave with limit orders at the touch; False: with market orders."""
    execution: ExecutionStyle = "now"
    """How positions are reached: at once, as a `twap` in slices, or as a `chase` at the touch."""
    execution_time: str = "10m"
    """Over how long, for `twap` and `chase`."""


class Strategy(ABC):
    """One strategy on one symbol, with the state of its indicators."""

    @abstractmethod
    def on_bar(self, bar: Bar) -> float | None:
        """Return the wanted share of the notional (-1.0 to 1.0), or None while there is no opinion.

        Only a perpetual can be held short; on a spot market less than 0.0 is flat.
        """
