"""Exact whole numbers beyond 64 bits, for kernels: money in atoms.

A *wide* number is a pair (high, low) of 64-bit integers and means high x 2**62 + low, with 0 <= low < 2**62. So it
reaches from -2**124 to 2**124, which is 2e21 units of a quote currency in atoms, and no step below ever wraps: the
kernels give the same pairs compiled and as plain Python. A *number* below is a plain integer, 0 to 2**62 - 1 unless it
says otherwise.
"""

from __future__ import annotations

from typing import Final

from bot.core.jit import kernel

LIMB: Final = 62
LOW: Final = 2**62 - 1
"""The low half's bits; also the largest quotient."""
HALF: Final = 31
HALF_BITS: Final = 2**31 - 1
LIMB_FLOAT: Final = 4611686018427387904.0

Wide = tuple[int, int]


def wide(value: int) -> Wide:
    """Return any integer within +-2**124 as a pair."""
    assert abs(value) <= 2**124
    return value >> LIMB, value & LOW


def narrow(high: int, low: int) -> int:
    """Return the integer that a pair means."""
    return (int(high) << LIMB) + int(low)


@kernel
def widened(number: int) -> Wide:
    """Return a number of any sign as a pair."""
    return number >> LIMB, number & LOW


@kernel
def plus(a_high: int, a_low: int, b_high: int, b_low: int) -> Wide:
    """Return a + b."""
    low = a_low + b_low
    return a_high + b_high + (low >> LIMB), low & LOW


@kernel
def minus(a_high: int, a_low: int, b_high: int, b_low: int) -> Wide:
    """Return a - b."""
    low = a_low - b_low
    return a_high - b_high + (low >> LIMB), low & LOW


@kernel
def negative(high: int, low: int) -> Wide:
    """Return -a."""
    return -high + (-low >> LIMB), -low & LOW


@kernel
def magnitude(high: int, low: int) -> Wide:
    """Return |a|."""
    return negative(high, low) if high < 0 else (high, low)


@kernel
def is_below(a_high: int, a_low: int, b_high: int, b_low: int) -> bool:
    """Return whether a < b."""
    return a_high < b_high or (a_high == b_high and a_low < b_low)


@kernel
def product(a: int, b: int) -> Wide:
    """Return a x b, both 0 to 2**62 - 1."""
    a_high, a_low = a >> HALF, a & HALF_BITS
    b_high, b_low = b >> HALF, b & HALF_BITS
    middle = a_high * b_low + a_low * b_high
    low = a_low * b_low + ((middle & HALF_BITS) << HALF)
    return a_high * b_high + (middle >> HALF) + (low >> LIMB), low & LOW


@kernel
def times(high: int, low: int, number: int) -> Wide:
    """Return a x number; the result must fit."""
    carry, rest = product(low, number)
    return high * number + carry, rest


@kernel
def over(high: int, low: int, divisor: int) -> Wide:
    """Return a / divisor rounded down, for a divisor of 1 to 2**31: schoolbook division by halves."""
    quotient = high // divisor
    rest = high - quotient * divisor
    part = (rest << HALF) + (low >> HALF)
    first = part // divisor
    part = ((part - first * divisor) << HALF) + (low & HALF_BITS)
    second = part // divisor
    return plus(quotient, first << HALF, 0, second)


@kernel
def over_up(high: int, low: int, divisor: int) -> Wide:
    """Return a / divisor rounded up, for a divisor of 1 to 2**31."""
    high, low = negative(high, low)
    high, low = over(high, low, divisor)
    return negative(high, low)


@kernel
def share_up(high: int, low: int, ppm: int) -> Wide:
    """Return `ppm` millionths of a, rounded up: a fee."""
    high, low = times(high, low, ppm)
    return over_up(high, low, 1_000_000)


@kernel
def as_float(high: int, low: int) -> float:
    """Return the nearest float or its neighbour."""
    if high < 0:  # the halves of a small negative number would cancel
        high, low = negative(high, low)
        return -(float(high) * LIMB_FLOAT + float(low))
    return float(high) * LIMB_FLOAT + float(low)


@kernel
def quotient(a_high: int, a_low: int, b_high: int, b_low: int) -> int:
    """Return a / b rounded down, 0 to 2**62 - 1: 0 for a <= 0, and the bound for what is beyond it or has b <= 0.

    Floats estimate it, exact remainders correct it; each round leaves at most 2**-50 of the error before.
    """
    if a_high < 0 or (a_high == 0 and a_low == 0):
        return 0
    if b_high < 0 or (b_high == 0 and b_low == 0):
        return LOW
    if b_high == 0 and a_high >= b_low:
        return LOW
    divisor = as_float(b_high, b_low)
    result = 0
    while True:
        # At least one divisor up from below 0, and down from above: so no rounding can go round for ever.
        if a_high < 0:
            step = min(max(1, int(-as_float(a_high, a_low) / divisor)), LOW)
            high, low = times(b_high, b_low, step)
            a_high, a_low = plus(a_high, a_low, high, low)
            result -= step
        elif is_below(a_high, a_low, b_high, b_low):
            return result
        else:
            step = min(max(1, int(as_float(a_high, a_low) / divisor)), LOW)
            high, low = times(b_high, b_low, step)
            a_high, a_low = minus(a_high, a_low, high, low)
            result += step


@kernel
def part_of(high: int, low: int, part: int, whole: int) -> Wide:
    """Return a x part / whole rounded down, for numbers part and whole with 0 <= part, 0 < whole; a may be negative."""
    high, low = times(high, low, part)
    quotient_high = high // whole
    rest = high - quotient_high * whole
    return quotient_high, quotient(rest, low, 0, whole)
