"""Buy what fell far below its average, and sell it when it is back."""

from __future__ import annotations

from typing import Annotated

import msgspec

from bot.core.indicators import ZScore
from bot.core.messages import Bar
from bot.strategies.base import Strategy, StrategySettings


class MeanReversionSettings(StrategySettings, frozen=True, kw_only=True, tag="mean_reversion"):
    """The distance of the close from its average, in standard deviations of `window` bars."""

    window: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 30
    """Bars in the average and the deviation."""
    entry_z: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.5
    """Enter when the close is this many deviations below the average; must be more than `exit_z`."""
    exit_z: Annotated[float, msgspec.Meta(ge=-10, le=10)] = 0.0
    """Leave when the close is no more than this many deviations below the average."""

    def __post_init__(self) -> None:
        if self.exit_z >= self.entry_z:
            raise ValueError(f"exit_z = {self.exit_z} must be less than entry_z = {self.entry_z}")


class MeanReversion(Strategy):
    """Enters at z <= -entry_z, leaves at z >= -exit_z, and keeps its mind in between."""

    def __init__(self, settings: MeanReversionSettings) -> None:
        self._entry_z = settings.entry_z
        self._exit_z = settings.exit_z
        self._z = ZScore(settings.window)
        self._is_in = False

    def on_bar(self, bar: Bar) -> float | None:
        """Return 1.0 while in, 0.0 while out."""
        z = self._z.step(bar.close_ticks)
        if z is None:
            return None
        if z <= -self._entry_z:
            self._is_in = True
        elif z >= -self._exit_z:
            self._is_in = False
        return 1.0 if self._is_in else 0.0
