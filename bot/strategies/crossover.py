"""Hold while a fast average of closes is above a slow one."""

from __future__ import annotations

from typing import Annotated

import msgspec

from bot.core.indicators import Sma
from bot.core.messages import Bar
from bot.strategies.base import Strategy, StrategySettings


class CrossoverSettings(StrategySettings, frozen=True, kw_only=True, tag="crossover"):
    """Simple moving averages of `fast` and `slow` bars."""

    fast: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    """Bars in the fast average; must be less than `slow`."""
    slow: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 30
    """Bars in the slow average."""

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast = {self.fast} must be less than slow = {self.slow}")


class Crossover(Strategy):
    """Wants all while fast > slow, nothing otherwise, and has no opinion before `slow` bars."""

    def __init__(self, settings: CrossoverSettings) -> None:
        self._fast = Sma(settings.fast)
        self._slow = Sma(settings.slow)

    def on_bar(self, bar: Bar) -> float | None:
        """Return 1.0 or 0.0 by the order of the averages."""
        fast = self._fast.step(bar.close_ticks)
        slow = self._slow.step(bar.close_ticks)
        if fast is None or slow is None:
            return None
        return 1.0 if fast > slow else 0.0
