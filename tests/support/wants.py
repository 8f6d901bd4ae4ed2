"""The plainest strategy there is."""

from __future__ import annotations

from bot.core.messages import Bar
from bot.strategies.base import Strategy


class Wants(Strategy):
    """Wants the same share with every bar."""

    def __init__(self, share: float) -> None:
        self._share = share

    def on_bar(self, bar: Bar) -> float | None:
        return self._share
