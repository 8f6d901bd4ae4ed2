"""Chance that depends on nothing but its name: the same name gives the same draw, in any order and in any process.

Drawn by name and not from a stream, because two runs that differ in one order should not differ in all that follow.
"""

from __future__ import annotations

import hashlib
from math import exp, log
from statistics import NormalDist
from typing import Final

_NORMAL: Final = NormalDist()
_P99: Final = _NORMAL.inv_cdf(0.99)
_DIGEST_BITS: Final = 64


def uniform(name: str) -> float:
    """Return a number in (0, 1) that belongs to `name`."""
    bits = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=_DIGEST_BITS // 8).digest(), "big")
    return (bits + 0.5) / 2.0**_DIGEST_BITS


def delay_ns(name: str, median_ns: int, p99_ns: int) -> int:
    """Return a delay out of the log-normal distribution with this median and 99th percentile, at most twice the latter.

    `p99_ns` not above `median_ns`: always the median.
    """
    if p99_ns <= median_ns or median_ns == 0:
        return median_ns
    sigma = log(p99_ns / median_ns) / _P99
    return min(round(median_ns * exp(sigma * _NORMAL.inv_cdf(uniform(name)))), longest_ns(median_ns, p99_ns))


def longest_ns(median_ns: int, p99_ns: int) -> int:
    """Return the bound of `delay_ns`."""
    return max(median_ns, 2 * p99_ns) if median_ns else 0
