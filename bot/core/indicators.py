"""Indicators: one `step` a bar, O(1), on integers where the sum is exact.

Sums of ticks are whole numbers, so a rolling sum never drifts however long the bot runs.
"""

from __future__ import annotations

from collections import deque
from math import sqrt


class Sma:
    """Simple moving average of the last `window` values (window >= 1)."""

    __slots__ = ("_sum", "_values", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._values: deque[int] = deque()
        self._sum = 0

    def step(self, value: int) -> float | None:
        """Take the next value; return the average, or None before `window` values."""
        self._values.append(value)
        self._sum += value
        if len(self._values) > self._window:
            self._sum -= self._values.popleft()
        return self._sum / self._window if len(self._values) == self._window else None


class ZScore:
    """How many population standard deviations a value lies above the average of the last `window` (>= 2)."""

    __slots__ = ("_squares", "_sum", "_values", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._values: deque[int] = deque()
        self._sum = 0
        self._squares = 0

    def step(self, value: int) -> float | None:
        """Take the next value; return its score, 0.0 where all are equal, or None before `window` values."""
        self._values.append(value)
        self._sum += value
        self._squares += value * value
        if len(self._values) > self._window:
            gone = self._values.popleft()
            self._sum -= gone
            self._squares -= gone * gone
        if len(self._values) < self._window:
            return None
        # n^2 times the variance, exactly, in integers: no cancellation.
        spread = self._window * self._squares - self._sum * self._sum
        return (self._window * value - self._sum) / sqrt(spread) if spread else 0.0
