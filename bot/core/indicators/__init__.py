"""Indicators: one definition each, used a bar at a time and as a column; see `registry.py` and `docs/indicators.md`.

This file holds the two that strategies in Python use, and imports the kernels only where one is made: a settings file
is read without a compiler.
"""

from __future__ import annotations

import math


class _Live:
    """One indicator of one series of whole numbers below 2^53, that has no value before it is warm."""

    __slots__ = ("_stepper",)

    def __init__(self, name: str, window: int) -> None:
        from bot.core.indicators.registry import INDICATORS, Stepper

        self._stepper = Stepper(INDICATORS[name], (window,))

    def step(self, value: int) -> float | None:
        """Take the next value; return the indicator, or None before `window` values."""
        result = float(self._stepper.step(value)[0])
        return None if math.isnan(result) else result


class Sma(_Live):
    """Simple moving average of the last `window` values (1 to 10,000)."""

    __slots__ = ()

    def __init__(self, window: int) -> None:
        super().__init__("sma", window)


class ZScore(_Live):
    """How many population standard deviations a value lies above the average of the last `window` (2 to 10,000).

    0.0 where all are equal.
    """

    __slots__ = ()

    def __init__(self, window: int) -> None:
        super().__init__("zscore", window)
