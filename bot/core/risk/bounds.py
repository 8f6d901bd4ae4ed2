"""The bounds of the breakers beside the day's loss and the drawdown, which are among the gate's own limits."""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.messages import SECOND_NS

VELOCITY_NS: Final = 300 * SECOND_NS
SLIPS: Final = 10
"""Trades that the mean of slippage is taken over."""
RATE_LIMIT_WINDOW_NS: Final = 60 * SECOND_NS
RATE_LIMIT_PAUSE_NS: Final = 300 * SECOND_NS
"""Time without an answer of "too many requests" before the gate opens again."""


BREAKER_CEILINGS: Final[dict[str, int]] = {
    "drawdown_smooth_ns": 600 * SECOND_NS,
    "velocity_bps": 10_000,
    "losing_closes": 100,
    "differ_ns": 600 * SECOND_NS,
    "differ_halt_ns": 3_600 * SECOND_NS,
    "unknown_ns": 600 * SECOND_NS,
    "unknown_halt_ns": 3_600 * SECOND_NS,
    "cancels_ns": 3_600 * SECOND_NS,
    "rate_limits": 100,
    "stream_ns": 600 * SECOND_NS,
    "book_ns": 3_600 * SECOND_NS,
    "liquidation_bps": 10_000,
    "liquidation_flatten_bps": 10_000,
    "slippage_bps": 1_000,
    "blind_ns": 3_600 * SECOND_NS,
}
"""The hard ceiling of each bound: no settings put it higher."""


class BreakerBounds(msgspec.Struct, frozen=True, kw_only=True):
    """When each breaker trips. 0 switches it off, and all are off as made: research knows none of them.

    What somebody else measures and reports (load, clock, journal) has no bound here: the report says how bad it is.
    """

    drawdown_smooth_ns: int = 0
    """A drawdown counts when the mean of equity over this time has fallen as well: one wrong price is no loss."""
    velocity_bps: int = 0
    """Loss of equity within `VELOCITY_NS` that halts."""
    losing_closes: int = 0
    """Positions of one strategy, one after the other, that were closed at a loss."""
    differ_ns: int = 0
    """How long our books and the exchange's may differ; then only reductions are let through."""
    differ_halt_ns: int = 0
    unknown_ns: int = 0
    """How long it may be unknown whether an order lives, before its market allows only reductions."""
    unknown_halt_ns: int = 0
    cancels_ns: int = 0
    """How long cancels may fail."""
    rate_limits: int = 0
    """Answers of "too many requests" within `RATE_LIMIT_WINDOW_NS`."""
    stream_ns: int = 0
    """How long the private stream may be down."""
    book_ns: int = 0
    """How long the book of something held may be lost or silent."""
    liquidation_bps: int = 0
    """A held perpetual's distance to its liquidation, in hundredths of a percent of its mark."""
    liquidation_flatten_bps: int = 0
    """Nearer than this all of that market is closed."""
    slippage_bps: int = 0
    """What a strategy's trades may cost against the prices they were decided at, in the mean of the last `SLIPS`."""
    blind_ns: int = 0
    """How long equity may be unknown."""
