"""What every part of the simulated exchange answers with: replies, refusals, and the reading of what clients send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

OK: Final = 200
BAD_REQUEST: Final = 400
INVALID_PARAMETER: Final = 601
QUERY_FIELDS_MAX: Final = 50
INTEGER_DIGITS_MAX: Final = 19
MS_MAX: Final = 10**15

Query = Mapping[str, str]
"""The parameters of a request, decoded."""


class Request(NamedTuple):
    """One HTTP request, as its bytes came."""

    method: str
    path: str
    """Undecoded, without the query."""
    query: str
    """Undecoded, without the `?`."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    arrived_s: float
    """On any clock that never goes back; rate limits are counted on it."""
    address: str
    """Of the client."""


class Reply(NamedTuple):
    """HTTP status and JSON body."""

    status: int
    body: bytes


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of what answers are made of; keys in the exchange's order."""


class ErrorShape(Shape, frozen=True, kw_only=True):
    """The body of every refusal of the spot API."""

    code: int
    message: str


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reply = Reply(status, encode(ErrorShape(code=code, message=message)))


def decoded_query(query: str) -> Query:
    """Return the parameters of a query; of a name that comes twice, the last.

    Raises:
        Refusal: too many fields, or not UTF-8.

    """
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"))
    except ValueError as error:
        raise Refusal(INVALID_PARAMETER, "Invalid parameter") from error


def integer(query: Query, name: str, default: int, least: int, most: int, code: int) -> int:
    """Return a whole number out of a query, within its bounds.

    Raises:
        Refusal: it is none, or out of bounds.

    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX and least <= int(text) <= most):
        raise Refusal(code, f"Invalid {name}: {text[:40]}")
    return int(text)


encode = msgspec.json.Encoder().encode
