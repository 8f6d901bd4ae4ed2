"""Hold while a fast average of closes is above a slow one."""

from __future__ import annotations

from typing import Annotated

import msgspec

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
        self._fast, self._slow = settings.fast, settings.slow
        self._fast_sum = self._slow_sum = self._count = 0
        self._closes = [0] * settings.slow
        """A ring of the last `slow` closes: both sums are exact, and one place holds what leaves them."""

    def on_bar(self, bar: Bar) -> float | None:
        """Return 1.0 or 0.0 by the order of the averages."""
        closes, count, close = self._closes, self._count, bar.close_ticks
        fast, slow = self._fast, self._slow
        here = count % slow
        self._fast_sum += close - closes[(count - fast) % slow]
        self._slow_sum += close - closes[here]
        closes[here] = close
        self._count = count + 1
        if self._count < slow:
            return None
        return 1.0 if self._fast_sum / fast > self._slow_sum / slow else 0.0
