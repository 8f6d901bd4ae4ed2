"""How long things take, drawn from a seed: log-normal, by a table, so that a draw costs next to nothing."""

from __future__ import annotations

import math
from functools import cache
from random import Random
from statistics import NormalDist
from typing import Final

import msgspec

_STEPS_BITS: Final = 10
_P99: Final = NormalDist().inv_cdf(0.99)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long one way takes: log-normal, in milliseconds. `p99_ms` below the median counts as the median."""

    median_ms: float
    p99_ms: float


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """How long everything takes that is no fault."""

    request: Latency = Latency(median_ms=40.0, p99_ms=200.0)
    """From us to the exchange."""
    answer: Latency = Latency(median_ms=40.0, p99_ms=200.0)
    frame: Latency = Latency(median_ms=30.0, p99_ms=150.0)
    """Of a socket's frame, in either direction; frames never overtake each other."""
    commit: Latency = Latency(median_ms=0.6, p99_ms=5.0)
    """Of the disk."""


class LatencyDraw:
    """Draws of one latency."""

    def __init__(self, latency: Latency, rng: Random) -> None:
        self._table_s = _quantiles_s(latency)
        self._bits = rng.getrandbits

    def draw_s(self) -> float:
        """Return how long the next one takes, in seconds."""
        return self._table_s[self._bits(_STEPS_BITS)]


def generator(seed: int, name: str) -> Random:
    """Return the random numbers of `name` in the world of `seed`, which those of other names do not touch."""
    return Random(f"{seed} {name}")  # noqa: S311  # a world is repeated, not kept secret


@cache
def _quantiles_s(latency: Latency) -> tuple[float, ...]:
    if latency.median_ms <= 0:
        return (0.0,) * 2**_STEPS_BITS
    sigma = math.log(max(latency.p99_ms, latency.median_ms) / latency.median_ms) / _P99
    normal = NormalDist()
    steps = 2**_STEPS_BITS
    # In whole nanoseconds: exp() may differ in its last bit from one machine to the other.
    return tuple(
        round(latency.median_ms * 1e6 * math.exp(sigma * normal.inv_cdf((at + 0.5) / steps))) / 1e9
        for at in range(steps)
    )
