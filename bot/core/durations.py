"""Lengths of time as an operator writes them (`5s`, `1h30m`), and as nanoseconds."""

from __future__ import annotations

import re
from typing import Final

UNITS_NS: Final = {
    "w": 604_800_000_000_000,
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
}
"""Longest first: the order in which the parts of a length are written."""

# At most nine digits a part, so that a slip of the finger cannot make a number that nobody can hold.
_LENGTH: Final = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit}(?![a-z]))?" for unit in UNITS_NS))


def duration_ns(text: str) -> int:
    """Return the length `text` in nanoseconds; 0 is a length.

    Raises:
        ValueError: `text` is not whole numbers with units w d h m s ms, each at most once, in this order.

    """
    match = _LENGTH.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a length of time such as 250ms, 5s, 1h30m or 1w")
    parts = zip(match.groups(default="0"), UNITS_NS.values(), strict=True)
    return sum(int(count) * unit_ns for count, unit_ns in parts)


def duration_text(ns: int) -> str:
    """Return the shortest text that `duration_ns` reads as `ns`.

    Raises:
        ValueError: `ns` is negative or not a whole number of milliseconds.

    """
    if ns < 0 or ns % UNITS_NS["ms"]:
        raise ValueError(f"{ns} ns is not a whole, non-negative number of milliseconds")
    text = ""
    for unit, unit_ns in UNITS_NS.items():
        count, ns = divmod(ns, unit_ns)
        if count:
            text += f"{count}{unit}"
    return text or "0s"
