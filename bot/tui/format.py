"""Numbers and times as text. Pure; what is shown where is not known here.

A number is never told by colour alone: a gain has `▲` and a plus, a loss `▼` and a minus.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

NONE: Final = "—"
"""Shown where a value is not known."""

_TWO_PLACES: Final = frozenset({"USDT", "USDC", "USDD", "TUSD", "USD", "EUR"})
_PLACES_MAX: Final = 12
_DIGITS_MAX: Final = 18
"""A number with more digits before its point is told in powers of ten, so that no value can widen a screen."""
_SPARKS: Final = "▁▂▃▄▅▆▇█"


def places(currency: str) -> int:
    """Return how many decimals an amount of `currency` is shown with."""
    return 2 if currency in _TWO_PLACES else 8


def money(value: Decimal | None, decimals: int = 2) -> str:
    """Return `value` with thousands separators and `decimals` decimals."""
    if value is None:
        return NONE
    if _is_huge(value):
        return _huge(value)
    text = f"{value:,.{decimals}f}"
    return text if _has_digit(text) else text.lstrip("-")


def signed(value: Decimal | None, decimals: int = 2) -> str:
    """Return `value` as money with its sign; what rounds to zero has none."""
    text = money(value, decimals)
    return f"+{text}" if _has_digit(text) and text[0].isdigit() else text


def change(value: Decimal | None, decimals: int = 2) -> str:
    """Return `value` as signed money behind an arrow: `▲ +1.50`, `▼ -1.50`, `0.00`."""
    text = signed(value, decimals)
    arrow = {"+": "▲ ", "-": "▼ "}.get(text[0], "")
    return arrow + text


def percent(value: Decimal | None, decimals: int = 2) -> str:
    """Return `value`, which already is in hundredths, with a percent sign."""
    return NONE if value is None else f"{money(value, decimals)}%"


def signed_percent(value: Decimal | None, decimals: int = 2) -> str:
    """Return `value`, which already is in hundredths, with its sign and a percent sign."""
    return NONE if value is None else f"{signed(value, decimals)}%"


def price(value: Decimal | None) -> str:
    """Return `value` with thousands separators and every decimal that its market quotes."""
    if value is None:
        return NONE
    if _is_huge(value):
        return _huge(value)
    exponent = value.as_tuple().exponent
    decimals = min(max(0, -exponent), _PLACES_MAX) if isinstance(exponent, int) else 0
    return f"{value:,.{decimals}f}"


def quantity(value: Decimal | None) -> str:
    """Return `value` with thousands separators, without zeros at its end."""
    text = price(value)
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text


def age(age_ms: int | None) -> str:
    """Return an age in at most six characters: `180 ms`, `2.3 s`, `42 s`, `3m05s`, `5h12m`, `3d04h`."""
    if age_ms is None:
        return NONE
    if age_ms < 1000:
        return f"{max(0, age_ms)} ms"
    seconds = age_ms // 1000
    if seconds < 10:
        return f"{seconds}.{age_ms % 1000 // 100} s"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def clock(ts_ns: int) -> str:
    """Return the time of day in UTC, as `03:04:05`; the zone is for the column's title to say."""
    seconds = ts_ns // 1_000_000_000 % 86400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def moment(ts_ns: int) -> str:
    """Return date, time and zone: `2026-01-02 03:04:05 UTC`."""
    try:
        date = datetime.fromtimestamp(ts_ns // 1_000_000_000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        date = "????-??-??"
    return f"{date} {clock(ts_ns)} UTC"


def count(value: int) -> str:
    """Return `value` with thousands separators."""
    return f"{value:,}"


def align_points(numbers: Iterable[str]) -> list[str]:
    """Return `numbers` with spaces behind them, so that in a right-aligned column their points stand in one line."""
    parts = [number.partition(".") for number in numbers]
    behind = max((len(point + fraction) for _, point, fraction in parts), default=0)
    return ["".join(part) + " " * (behind - len(part[1] + part[2])) for part in parts]


def sparkline(values: Sequence[Decimal], width: int) -> str:
    """Return `values`, oldest first, as one line of at most `width` blocks; the newest are on the right."""
    if len(values) < 2 or width < 2:
        return ""
    heights = _heights(values, width, len(_SPARKS))
    return "".join(_SPARKS[height] for height in heights)


def area_chart(values: Sequence[Decimal], width: int, height: int) -> list[str]:
    """Return `values`, oldest first, as `height` lines of `width` blocks, filled from below."""
    if len(values) < 2 or width < 2 or height < 1:
        return []
    heights = [eighths + 1 for eighths in _heights(values, width, len(_SPARKS) * height)]
    rows = ["".join(_block(eighths - len(_SPARKS) * row) for eighths in heights) for row in reversed(range(height))]
    return [row.rjust(width) for row in rows]


def _block(eighths: int) -> str:
    """Return a character filled by so many eighths, and no more than it holds."""
    return _SPARKS[min(eighths, len(_SPARKS)) - 1] if eighths > 0 else " "


def _heights(values: Sequence[Decimal], width: int, levels: int) -> list[int]:
    """Return at most `width` heights, 0 to `levels` - 1; each is the last value of its share of the time."""
    points = min(width, len(values))
    chosen = [values[(i + 1) * len(values) // points - 1] for i in range(points)]
    low, high = min(chosen), max(chosen)
    if high == low:
        return [levels // 2] * points
    return [int((value - low) / (high - low) * (levels - 1)) for value in chosen]


def _is_huge(value: Decimal) -> bool:
    return not value.is_finite() or value.adjusted() >= _DIGITS_MAX


def _huge(value: Decimal) -> str:
    return f"{value:.3E}" if value.is_finite() else str(value)


def _has_digit(text: str) -> bool:
    """Return whether `text` is anything but a zero."""
    return any(char in "123456789" for char in text)
