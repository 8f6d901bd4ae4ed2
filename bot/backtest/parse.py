"""Lines of `time,open,high,low,close,volume` into columns of whole numbers: exact, at some hundred megabytes a second.

A number may have a sign, a fraction and an exponent. Nothing is refused here: a row that cannot be read gets a code,
and `bot/backtest/checks.py` says what is made of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core.jit import kernel

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

FIELDS: Final = 6
LINE_BYTES_MAX: Final = 400
"""Six numbers of 40 digits are shorter."""

# What is wrong with a row.
FINE: Final = 0
OFF_TICK: Final = 1
"""A price has more decimals than wanted; it was rounded to the nearest."""
NOT_SIX: Final = 2
NOT_A_NUMBER: Final = 3
MISSING: Final = 4
"""Empty, NaN, null or infinite."""
TOO_LARGE: Final = 5
BAD_TIME: Final = 6
"""Between two of its units, or no date of the calendar."""
NO_ZONE: Final = 7
OVERLONG: Final = 8

_NINE: Final = 57
_ZERO: Final = 48
_COMMA: Final = 44
_LINE_FEED: Final = 10
_RETURN: Final = 13
_POINT: Final = 46
_MINUS: Final = 45
_PLUS: Final = 43
_COLON: Final = 58
_SPACE: Final = 32
_TAB: Final = 9
_SMALL_E: Final = 101
_SMALL: Final = 32
"""The bit that makes a capital letter small."""
_SMALL_I: Final = 105
_SMALL_N: Final = 110
_SMALL_Z: Final = 122
_FULL: Final = 900_000_000_000_000_000
"""Ten times this and 9 more is still an int64."""

_DAY_S: Final = 86_400
_SECOND_NS: Final = 1_000_000_000


@kernel
def read_rows(text: Bytes, at: int, is_iso: bool, decimals: Ints, columns: Ints, codes: Bytes) -> int:
    """Read every line of `text` from `at` on into `columns`; return the decimals that its prices need.

    `text` ends with a line feed. `columns` has shape (6, n) for n lines: time as it is written (or nanoseconds, where
    `is_iso`), then prices and volume times 10**`decimals[field]`, `decimals` of shape (6,); more decimals of a price
    are rounded to the nearest, those of a volume cut off. `codes`, shape (n,), says what is wrong with each row.
    """
    needed = 0
    end = len(text)
    row = 0
    while at < end:
        begin = at
        code = FINE
        for field in range(FIELDS):
            if field == 0 and is_iso:
                at, value, fault = _read_moment(text, at)
            else:
                at, value, own_needed, rest, fault = _read_number(text, at, decimals[field])
                if 0 < field < 5:
                    needed = max(needed, own_needed)
                    if rest != 0:
                        fault = max(fault, OFF_TICK)
                        value += 1 if rest == 2 else 0
                elif field == 0 and rest != 0:
                    fault = max(fault, BAD_TIME)
            columns[field, row] = value
            if code == FINE or (code == OFF_TICK and fault != FINE):
                code = fault
            is_last = field == FIELDS - 1
            if (text[at] == _COMMA) == is_last:
                code = NOT_SIX
                break
            if not is_last:
                at += 1
        while text[at] != _LINE_FEED:
            at += 1
        codes[row] = OVERLONG if at - begin > LINE_BYTES_MAX else code
        at += 1
        row += 1
    return needed


@kernel
def _read_number(text: Bytes, at: int, decimals: int) -> tuple[int, int, int, int, int]:
    """Return (its end, the number x 10**decimals, the decimals it needs, what was cut off, code).

    Cut off is 0 for nothing, 1 for less than half a unit, 2 for half or more.
    """
    while text[at] == _SPACE or text[at] == _TAB:
        at += 1
    begin = at
    is_negative = text[at] == _MINUS
    if is_negative:
        at += 1
    value = needed = rest = digits = places = 0
    code = FINE
    has_point = False
    while True:
        byte = text[at]
        if _ZERO <= byte <= _NINE:
            digit = int(byte) - _ZERO
            digits += 1
            if has_point:
                places += 1
                if places > decimals:
                    if digit != 0 and rest == 0:
                        rest = 1
                    if places == decimals + 1 and digit >= 5:
                        rest = 2
                    at += 1
                    continue
                if digit != 0:
                    needed = places
            if value > _FULL:
                code = TOO_LARGE
            else:
                value = value * 10 + digit
        elif byte == _POINT and not has_point:
            has_point = True
        else:
            break
        at += 1
    if digits != 0 and text[at] | _SMALL == _SMALL_E:
        return _read_power(text, begin, decimals)
    if digits == 0:
        return _no_number(text, at)
    at, is_end = _number_end(text, at)
    if not is_end:
        return at, 0, 0, 0, NOT_A_NUMBER
    for _ in range(decimals - min(places, decimals)):
        if value > _FULL:
            code = TOO_LARGE
            break
        value *= 10
    return at, -value if is_negative else value, needed, rest, code


@kernel
def _read_power(text: Bytes, at: int, decimals: int) -> tuple[int, int, int, int, int]:
    """Read a number with an exponent, as `_read_number` does; `at` is its first byte."""
    is_negative = text[at] == _MINUS
    if is_negative:
        at += 1
    value = places = power = 0
    has_point = False
    while text[at] | _SMALL != _SMALL_E:
        if text[at] == _POINT:
            has_point = True
        elif value <= _FULL:
            value = value * 10 + int(text[at]) - _ZERO
            places += 1 if has_point else 0
        elif not has_point:
            power += 1
        at += 1
    at += 1
    sign = -1 if text[at] == _MINUS else 1
    if text[at] == _MINUS or text[at] == _PLUS:
        at += 1
    exponent = 0
    digits = 0
    while _ZERO <= text[at] <= _NINE:
        exponent = min(1000, exponent * 10 + int(text[at]) - _ZERO)
        digits += 1
        at += 1
    at, is_end = _number_end(text, at)
    if digits == 0 or not is_end:
        return at, 0, 0, 0, NOT_A_NUMBER
    shift = decimals + sign * exponent + power - places
    rest = 0
    while shift < 0 and value != 0:
        digit = value % 10
        rest = 2 if digit >= 5 else min(1, digit + rest)
        value //= 10
        shift += 1
    while shift > 0 and value != 0:
        if value > _FULL:
            return at, 0, 0, 0, TOO_LARGE
        value *= 10
        shift -= 1
    if value == 0 and rest != 0 and shift < 0:
        rest = 1
    needed, whole = decimals, value
    while needed > 0 and whole % 10 == 0:
        whole //= 10
        needed -= 1
    return at, -value if is_negative else value, needed, rest, FINE


@kernel
def _number_end(text: Bytes, at: int) -> tuple[int, bool]:
    """Return where the field that should end here ends, and whether nothing but blanks stood in it."""
    is_end = True
    while text[at] != _COMMA and text[at] != _LINE_FEED:
        if text[at] != _SPACE and text[at] != _RETURN and text[at] != _TAB:
            is_end = False
        at += 1
    return at, is_end


@kernel
def _no_number(text: Bytes, at: int) -> tuple[int, int, int, int, int]:
    """Return what a field without a digit at its beginning is."""
    letter = text[at] | _SMALL
    end, is_empty = _number_end(text, at)
    is_missing = is_empty or letter in (_SMALL_N, _SMALL_I)
    return end, 0, 0, 0, MISSING if is_missing else NOT_A_NUMBER


@kernel
def _read_moment(text: Bytes, at: int) -> tuple[int, int, int]:
    """Return (its end, nanoseconds since 1970 UTC, code) of `2024-01-31T23:59:59.5Z` or with `+01:00`.

    The day number is Howard Hinnant's: "chrono-compatible low-level date algorithms", 2013.
    """
    at, year, is_year = _read_digits(text, at, 4)
    at, month, is_month = _read_digits(text, at + 1 if text[at] == _MINUS else at, 2)
    at, day, is_day = _read_digits(text, at + 1 if text[at] == _MINUS else at, 2)
    is_date = is_year and is_month and is_day and 1 <= month <= 12 and 1 <= day <= _month_days(year, month)
    if text[at] == _COMMA:
        return at, 0, NO_ZONE if is_date else BAD_TIME
    at += 0 if text[at] == _LINE_FEED else 1  # the T, or a blank
    at, hour, is_hour = _read_digits(text, at, 2)
    at, minute, is_minute = _read_digits(text, at + 1 if text[at] == _COLON else at, 2)
    second, is_second = 0, True
    if text[at] == _COLON:
        at, second, is_second = _read_digits(text, at + 1, 2)
    nanos = 0
    if text[at] == _POINT:
        at += 1
        unit = _SECOND_NS
        while _ZERO <= text[at] <= _NINE:
            unit //= 10
            nanos += (int(text[at]) - _ZERO) * unit
            at += 1
    is_time = is_hour and is_minute and is_second and hour < 24 and minute < 60 and second < 60
    while text[at] == _SPACE:
        at += 1
    if text[at] == _COMMA or text[at] == _LINE_FEED:
        return at, 0, NO_ZONE if is_date and is_time else BAD_TIME
    at, offset_s, is_zone = _read_zone(text, at)
    at, is_end = _number_end(text, at)
    if not (is_date and is_time and is_zone and is_end):
        return at, 0, BAD_TIME
    shifted = year - (1 if month <= 2 else 0)
    era_year = shifted % 400
    year_day = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = shifted // 400 * 146_097 + era_year * 365 + era_year // 4 - era_year // 100 + year_day - 719_468
    seconds = days * _DAY_S + hour * 3600 + minute * 60 + second - offset_s
    if not 0 <= seconds < 9_000_000_000:
        return at, 0, BAD_TIME
    return at, seconds * _SECOND_NS + nanos, FINE


@kernel
def _read_zone(text: Bytes, at: int) -> tuple[int, int, bool]:
    """Return (its end, seconds ahead of UTC, whether it is a zone) of `Z`, `UTC`, `+01:00`, `+0100` or `+01`."""
    if text[at] | _SMALL == _SMALL_Z:
        return at + 1, 0, True
    if text[at] == 85 and text[at + 1] == 84 and text[at + 2] == 67:  # UTC; a line feed stands before any end
        return at + 3, 0, True
    sign = -1 if text[at] == _MINUS else 1
    if text[at] != _MINUS and text[at] != _PLUS:
        return at, 0, False
    at, hours, is_hours = _read_digits(text, at + 1, 2)
    if text[at] == _COLON:
        at += 1
    minutes, is_minutes = 0, True
    if _ZERO <= text[at] <= _NINE:
        at, minutes, is_minutes = _read_digits(text, at, 2)
    return at, sign * (hours * 3600 + minutes * 60), is_hours and is_minutes and hours < 24 and minutes < 60


@kernel
def _read_digits(text: Bytes, at: int, count: int) -> tuple[int, int, bool]:
    """Return (their end, the number, whether there were `count` digits)."""
    value = 0
    for _ in range(count):
        if not _ZERO <= text[at] <= _NINE:
            return at, value, False
        value = value * 10 + int(text[at]) - _ZERO
        at += 1
    return at, value, True


@kernel
def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31
