"""Where an axis has its marks, round numbers and round moments; and how strong the colour of a value is."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

_SECOND_NS: Final = 1_000_000_000
_STEPS_S: Final = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
_DAYS: Final = (1, 2, 7, 14)
_MONTHS: Final = (1, 2, 3, 6, 12, 24, 60, 120, 300, 1200)
_DAY_S: Final = 86_400


def number_ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from `low` to `high`, low < high, both included where they are round."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step)))
    return [round(number * step, decimals) + 0.0 for number in range(first, last + 1)]


def time_ticks(from_ns: int, to_ns: int, count: int) -> list[tuple[int, str]]:
    """Return at most about `count` round moments between two, with their names: hours, days, months or years."""
    span_s = max(1, (to_ns - from_ns) // _SECOND_NS)
    for step in _STEPS_S:
        if span_s / step <= count:
            return _even(from_ns, to_ns, step, "%H:%M" if span_s <= _DAY_S else "%d %b %H:%M")
    for days in _DAYS:
        if span_s / (days * _DAY_S) <= count:
            return _even(from_ns, to_ns, days * _DAY_S, "%d %b")
    months = next((months for months in _MONTHS if span_s / (months * 30.44 * _DAY_S) <= count), _MONTHS[-1])
    return _monthly(from_ns, to_ns, months)


def shade(value: float, low: float, high: float) -> float:
    """Return the strength of a colour, -1.0 to 1.0, of a value among others from `low` to `high`.

    The sign is that of the value. Where all have the same sign, the one nearest to 0 is weak and the farthest strong.
    """
    if low < 0 < high:
        return value / max(-low, high)
    share = (value - low) / (high - low) if high > low else 1.0
    if low >= 0:
        return 0.1 + 0.9 * share if value else 0.0
    return -(0.1 + 0.9 * (1 - share)) if value else 0.0


def month_shade(change: float, strongest: float) -> float:
    """Return the strength of a month's colour; the square root, so that one wild month leaves the others some."""
    share = min(1.0, abs(change) / strongest) if strongest > 0 else 0.0
    return math.copysign(math.sqrt(share), change)


def _even(from_ns: int, to_ns: int, step_s: int, pattern: str) -> list[tuple[int, str]]:
    step_ns = step_s * _SECOND_NS
    moments = range(-(-from_ns // step_ns) * step_ns, to_ns + 1, step_ns)
    return [(moment, _date(moment).strftime(pattern)) for moment in moments]


def _monthly(from_ns: int, to_ns: int, months: int) -> list[tuple[int, str]]:
    first = np.datetime64(from_ns, "ns").astype("datetime64[M]").astype(int)
    last = np.datetime64(to_ns, "ns").astype("datetime64[M]").astype(int)
    found: list[tuple[int, str]] = []
    for number in range(int(first), int(last) + 1):
        moment = int(np.datetime64(number, "M").astype("datetime64[ns]").astype(int))
        if number % months == 0 and from_ns <= moment <= to_ns:
            found.append((moment, _date(moment).strftime("%Y" if months % 12 == 0 else "%b %Y")))
    return found


def _date(ts_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ts_ns // _SECOND_NS)
