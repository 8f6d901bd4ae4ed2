"""What a private spot call is made of, and how its lists are paged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.replies import INTEGER_DIGITS_MAX, MS_MAX, Query, decoded_query, integer
from bot.exchange.simulated.smart_desk import SmartDesk
from bot.exchange.simulated.spot_desk import SpotDesk
from bot.exchange.simulated.venue import MS_NS

DAY_MS: Final = 86_400_000
CLIENT_ID_PREFIX: Final = "cid:"
NAMES_MAX: Final = 2_000

T = TypeVar("T")
StructT = TypeVar("StructT", bound=msgspec.Struct)
Loose = str | int | list[str | int] | None
"""One name or several, as clients send them."""


class Call(NamedTuple):
    """One admitted request."""

    desk: SpotDesk
    smart: SmartDesk
    account: Account
    arg: str
    """What stands in the path for an id, decoded; empty where there is none."""
    query_text: str
    body: bytes

    @property
    def query(self) -> Query:
        """Return the query's parameters. Raises as `decoded_query` does."""
        return decoded_query(self.query_text)

    def fields(self, kind: type[StructT]) -> StructT:
        """Return the fields of a request, out of its body, or out of its query where it has no body.

        Raises:
            Refusal: they are not of the kind.

        """
        try:
            if self.body.strip():
                return decoded(self.body, kind)
            return msgspec.convert(dict(self.query), kind)
        except msgspec.ValidationError as error:
            raise refused(Code.INVALID_PARAMETER, str(error)) from error


class Route(NamedTuple):
    """Who answers a call, and how often it may be made."""

    answer: Callable[[Call], object]
    is_heavy: bool = False


Routes = Mapping[tuple[str, str], Route]
"""(method, path with `*` for an id) to its route."""


def decoded(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return a JSON body as a typed value.

    Raises:
        Refusal: it is none of the kind.

    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise refused(Code.INVALID_PARAMETER, str(error)) from error


def listed(*values: Loose) -> list[str]:
    """Return all names that were sent, as one or as several, by commas or as a list."""
    names: list[str] = []
    for value in values:
        parts = value if isinstance(value, list) else str(value if value is not None else "").split(",")
        names += [name for part in parts if (name := str(part).strip())]
    if len(names) > NAMES_MAX:
        raise refused(Code.INVALID_PARAMETER, f"{len(names)} names")
    return names


def order_id(text: str) -> int:
    """Return an order's id.

    Raises:
        Refusal: it is not a number.

    """
    if not (text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX):
        raise refused(Code.ID_NOT_A_NUMBER, text)
    return int(text)


class Span(NamedTuple):
    """A range of time, in milliseconds, ends included."""

    start_ms: int
    end_ms: int

    def holds(self, ts_ns: int) -> bool:
        """Return whether a time falls in the range."""
        return self.start_ms <= ts_ns // MS_NS <= self.end_ms


def span(query: Query, now_ms: int, days_max: int, days_of_one_end: int = 7) -> Span:
    """Return the range that is asked for; all of the past where none is, a week where one end is given.

    Raises:
        Refusal: it ends before it starts, or is longer than allowed.

    """
    has_start, has_end = "startTime" in query, "endTime" in query
    week_ms = days_of_one_end * DAY_MS
    end_ms = integer(query, "endTime", now_ms, 0, MS_MAX, Code.BAD_END_TIME)
    start_ms = integer(query, "startTime", max(end_ms - week_ms, 0) if has_end else 0, 0, MS_MAX, Code.BAD_START_TIME)
    if has_start and not has_end:
        end_ms = start_ms + week_ms
    if start_ms > end_ms:
        raise refused(Code.BAD_START_TIME, f"{start_ms} is after endTime {end_ms}")
    if has_start and has_end and end_ms - start_ms > days_max * DAY_MS:
        raise refused(Code.BAD_RANGE, f"at most {days_max} days")
    return Span(start_ms, end_ms)


def page(query: Query, rows: Iterable[T], id_of: Callable[[T], int], default: int, most: int) -> list[T]:
    """Return a page of `rows`, which come newest first, as `limit`, `from` and `direction` ask.

    `NEXT` goes on to older rows than `from`, `PRE` back to newer ones; 0 is the beginning.

    Raises:
        Refusal: one of the three is none.

    """
    limit = integer(query, "limit", default, 1, most, Code.BAD_LIMIT)
    start = integer(query, "from", 0, 0, 10**INTEGER_DIGITS_MAX, Code.INVALID_PARAMETER)
    direction = query.get("direction", "NEXT").upper()
    if direction not in ("NEXT", "PRE"):
        raise refused(Code.INVALID_PARAMETER, f"direction {direction}")
    if not start:
        return list(islice(rows, limit))
    if direction == "NEXT":
        return list(islice((row for row in rows if id_of(row) < start), limit))
    newer: Sequence[T] = [row for row in rows if id_of(row) > start]
    return list(newer[-limit:])
