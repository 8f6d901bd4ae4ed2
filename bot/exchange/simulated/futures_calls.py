"""What a call of the contracts' API is made of: its fields, wherever they stand, its page, its envelope.

Every answer is `{"code", "msg", "data"}`, and most failures come with HTTP status 200: the code tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.futures_desk import FuturesDesk
from bot.exchange.simulated.futures_feed import ContractMarket, FuturesFeed
from bot.exchange.simulated.futures_instruments import Contract
from bot.exchange.simulated.futures_orders import BAD_PARAMETER, NO_SUCH_SYMBOL, OK, Refusal, ms
from bot.exchange.simulated.replies import MS_MAX, QUERY_FIELDS_MAX, Reply, decoded_query, encode
from bot.exchange.simulated.replies import Refusal as QueryRefusal

PAGE_DEFAULT: Final = 10
PAGE_MAX: Final = 100
NAMES_MAX: Final = 100
SUCCESS: Final = "Success"
_SHOWN_MAX: Final = 60
_DIGITS_MAX: Final = 19

T = TypeVar("T")
StructT = TypeVar("StructT", bound=msgspec.Struct)


class Envelope(msgspec.Struct, frozen=True):
    """The body of every answer."""

    code: int
    msg: str
    data: object


class Exchange(NamedTuple):
    """What calls are answered from."""

    feed: FuturesFeed
    desk: FuturesDesk
    opened_ns: int
    """When it opened, and with it all accounts."""

    @property
    def now_ns(self) -> int:
        """Return the exchange's clock."""
        return self.feed.time_ns

    def contract(self, symbol: object) -> Contract:
        """Return a listed contract.

        Raises:
            Refusal: there is no symbol, or no such one.

        """
        return self.market(symbol).contract

    def market(self, symbol: object) -> ContractMarket:
        """Return a listed contract's market. Raises as `contract` does."""
        if not isinstance(symbol, str) or not symbol:
            raise Refusal(BAD_PARAMETER, "symbol is missing")
        market = self.feed.markets.get(symbol.upper())
        if market is None:
            raise Refusal(NO_SUCH_SYMBOL, f"no such symbol: {symbol[:_SHOWN_MAX]}")
        return market


class Call(NamedTuple):
    """One admitted request."""

    exchange: Exchange
    account: Account | None
    """None on a public call."""
    query_text: str
    body: bytes

    @property
    def feed(self) -> FuturesFeed:
        """Return the public markets."""
        return self.exchange.feed

    @property
    def desk(self) -> FuturesDesk:
        """Return the private side."""
        return self.exchange.desk

    @property
    def client(self) -> Account:
        """Return the account that calls."""
        assert self.account is not None, "a public call has no account"
        return self.account

    @property
    def now_ns(self) -> int:
        """Return the exchange's clock."""
        return self.exchange.now_ns

    def query(self) -> Mapping[str, str]:
        """Return the query's parameters.

        Raises:
            Refusal: too many, or not UTF-8.

        """
        try:
            return decoded_query(self.query_text)
        except QueryRefusal as error:
            raise Refusal(BAD_PARAMETER, f"more than {QUERY_FIELDS_MAX} parameters, or not UTF-8") from error

    def fields(self, kind: type[StructT]) -> StructT:
        """Return the fields of a call, out of its query and its body; the body goes first.

        Raises:
            Refusal: they are not of the kind.

        """
        merged: dict[str, object] = dict(self.query())
        if self.body.strip():
            merged.update(decoded(self.body, dict[str, object]))
        try:
            return msgspec.convert(merged, kind)
        except msgspec.ValidationError as error:
            raise Refusal(BAD_PARAMETER, str(error)) from error


class Route(NamedTuple):
    """Who answers a call, who may make it, and how often a second."""

    answer: Callable[[Call], object]
    per_second: int
    is_private: bool = True
    shares: bool = False
    """It is counted together with all others of the same limit."""


Routes = Mapping[tuple[str, str], Route]
"""(method, path) to its route."""


def envelope(data: object, code: int = OK, text: str = SUCCESS, status: int = OK) -> Reply:
    """Return an answer."""
    return Reply(status, encode(Envelope(code, text, data)))


def decoded(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return a JSON body as a typed value.

    Raises:
        Refusal: it is none of the kind.

    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refusal(BAD_PARAMETER, str(error)) from error


def integer(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a whole number out of a query.

    Raises:
        Refusal: it is none, or out of bounds.

    """
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and least <= int(text) <= most):
        raise Refusal(BAD_PARAMETER, f"Invalid {name}: {text[:_SHOWN_MAX]}")
    return int(text)


def names(value: object) -> list[str]:
    """Return names that were sent as text, by commas, or as a list."""
    parts: Sequence[object] = (
        msgspec.convert(value, list[object]) if isinstance(value, list) else str(value or "").split(",")
    )
    if len(parts) > NAMES_MAX:
        raise Refusal(BAD_PARAMETER, f"{len(parts)} names")
    return [name for part in parts if (name := str(part).strip())]


class Span(NamedTuple):
    """A range of time in milliseconds, ends included."""

    start_ms: int
    end_ms: int

    def holds(self, ts_ns: int) -> bool:
        """Return whether a time falls in the range."""
        return self.start_ms <= ms(ts_ns) <= self.end_ms


def span(query: Mapping[str, str], start: tuple[str, ...] = ("sTime",), end: tuple[str, ...] = ("eTime",)) -> Span:
    """Return the range that is asked for, under any of the names; all of time where none is.

    Raises:
        Refusal: it is none, or ends before it starts.

    """
    found = Span(
        start_ms=max((integer(query, name, 0, 0, MS_MAX) for name in start), default=0),
        end_ms=min((integer(query, name, MS_MAX, 0, MS_MAX) for name in end), default=MS_MAX),
    )
    if found.start_ms > found.end_ms:
        raise Refusal(BAD_PARAMETER, f"{start[0]} {found.start_ms} is after {end[0]} {found.end_ms}")
    return found


def page(query: Mapping[str, str], rows: Iterable[T], id_of: Callable[[T], int]) -> list[T]:
    """Return a page of `rows`, which come newest first, as `limit`, `from` and `direct` ask.

    `NEXT` goes on to older rows than `from`, `PREV` back to newer ones; no `from`, or 0, is the beginning.

    Raises:
        Refusal: one of the three is none.

    """
    limit = integer(query, "limit", PAGE_DEFAULT, 1, PAGE_MAX)
    start = integer(query, "from", 0, 0, 10**_DIGITS_MAX)
    direct = query.get("direct", "").upper() or "NEXT"
    if direct not in ("NEXT", "PREV"):
        raise Refusal(BAD_PARAMETER, f"Invalid direct: {direct[:_SHOWN_MAX]}")
    if not start:
        return list(islice(rows, limit))
    if direct == "NEXT":
        return list(islice((row for row in rows if id_of(row) < start), limit))
    return [row for row in rows if id_of(row) > start][-limit:]
