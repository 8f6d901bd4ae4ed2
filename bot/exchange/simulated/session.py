"""The protocol of one public WebSocket connection: requests in, answers out, and what it is subscribed to.

Pure: it knows neither sockets nor time. Sources and guesses: the dossier's spot-ws.md, section 2. Where the real texts
are unknown (errors, answers to unsubscribing), ours say what was wrong with which value.
"""

from __future__ import annotations

from collections.abc import KeysView, Sequence
from typing import Annotated, Final

import msgspec

from bot.exchange.simulated.venue import BOOK_DEPTHS, CHANNELS, Publication, Topic, Venue

PONG: Final = b'{"event":"pong"}'
PRIVATE_CHANNELS: Final = frozenset({"auth", "orders", "balances"})
DEPTH_DEFAULT: Final = 5
QUOTED_MAX: Final = 200
"""How much of a bad request an error frame repeats, in characters."""
VALUES_SHOWN_MAX: Final = 10
NAMES_MAX: Final = 1_000
"""Channels or symbols named in one request."""

_Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=NAMES_MAX)]


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as clients send it; keys that we do not know are ignored."""

    event: str
    channel: _Names | str = ()
    symbols: _Names | str = ()
    depth: int | str = DEPTH_DEFAULT


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    event: str
    channel: str
    symbols: Sequence[str]


class _Subscription(msgspec.Struct, frozen=True):
    channel: str
    symbols: list[str]


class _Subscriptions(msgspec.Struct, frozen=True, kw_only=True):
    event: str = "list_subscriptions"
    subscriptions: list[_Subscription]


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    event: str = "error"
    message: str


class Session:
    """What one connection has asked for. A bad request is answered with an error frame and changes nothing."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._topics: dict[Topic, None] = {}  # in order of subscribing

    @property
    def topics(self) -> KeysView[Topic]:
        """Return the topics subscribed to, oldest first."""
        return self._topics.keys()

    def wants(self, publication: Publication) -> bool:
        """Return whether a publication goes to this connection."""
        return (publication.channel, publication.symbol) in self._topics

    def handle(self, text: str) -> list[bytes]:
        """Return the answers to one request: acknowledgements, then errors, then opening snapshots."""
        if text.strip().lower() == "ping":
            return [PONG]
        try:
            request = _decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):  # a lone surrogate; brackets without end
            return [_error("Invalid request", text)]
        match request.event.lower():
            case "ping":
                return [PONG]
            case "subscribe":
                return self._subscribe(request)
            case "unsubscribe":
                return self._unsubscribe(request)
            case "unsubscribe_all":
                self._topics.clear()
                return [b'{"event":"unsubscribe_all"}']
            case "list_subscriptions":
                return [_encode(_Subscriptions(subscriptions=self._grouped()))]
            case _:
                return [_error("Invalid event value", request.event)]

    def _subscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request)
        symbols, unknown = self._symbols(request)
        if unknown:
            errors.append(_error("Invalid symbol value", *unknown))
        answers: list[bytes] = []
        added: list[Topic] = []
        for key in keys if symbols else ():
            new = [symbol for symbol in symbols if (key, symbol) not in self._topics]
            if not new:
                errors.append(_error(f"Already subscribed to {_channel(key)}", *symbols))
                continue
            shown = ("ALL",) if _is_all(request) else new
            answers.append(_encode(_Answer(event="subscribe", channel=_channel(key), symbols=shown)))
            added += [(key, symbol) for symbol in new]
        self._topics.update(dict.fromkeys(added))
        openings = [frame for topic in added for frame in self._venue.opening(*topic)]
        return answers + errors + openings

    def _unsubscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request, any_depth=True)
        symbols, unknown = self._symbols(request)
        if unknown:
            errors.append(_error("Invalid symbol value", *unknown))
        answers: dict[str, bytes] = {}
        for key in keys if symbols else ():
            for symbol in symbols:
                self._topics.pop((key, symbol), None)
            shown = ("ALL",) if _is_all(request) else symbols
            answers[_channel(key)] = _encode(_Answer(event="unsubscribe", channel=_channel(key), symbols=shown))
        return [*answers.values(), *errors]

    def _channels(self, request: _Request, *, any_depth: bool = False) -> tuple[list[str], list[bytes]]:
        """Return the channels of a request, as in a `Topic`, and an error frame for each that is wrong."""
        asked = _names(request.channel)
        keys: dict[str, None] = {}
        errors: list[bytes] = [] if asked else [_error("Invalid channel value", *asked)]
        for name in asked:
            channel = name.strip().lower()
            if channel in PRIVATE_CHANNELS:
                errors.append(_error("Private channel on a public connection", name))
            elif channel == "book" and any_depth:
                keys.update(dict.fromkeys(f"book_{depth}" for depth in BOOK_DEPTHS))
            elif channel == "book" and str(request.depth) not in map(str, BOOK_DEPTHS):
                errors.append(_error("Invalid depth value", str(request.depth)))
            elif channel == "book":
                keys[f"book_{request.depth}"] = None
            elif channel in CHANNELS and _channel(channel) == channel:
                keys[channel] = None
            else:
                errors.append(_error("Invalid channel value", name))
        return list(keys), errors

    def _symbols(self, request: _Request) -> tuple[list[str], list[str]]:
        """Return the symbols of a request that are listed, each once, and those that are not."""
        if _is_all(request):
            return list(self._venue.markets), []
        asked = dict.fromkeys(name.strip().upper() for name in _names(request.symbols))
        unknown = [symbol for symbol in asked if symbol not in self._venue.markets]
        return [symbol for symbol in asked if symbol in self._venue.markets], unknown if asked else [""]

    def _grouped(self) -> list[_Subscription]:
        groups: dict[str, list[str]] = {}
        for key, symbol in self._topics:
            symbols = groups.setdefault(_channel(key), [])
            if symbol not in symbols:
                symbols.append(symbol)
        return [_Subscription(channel, symbols) for channel, symbols in groups.items()]


def _names(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _is_all(request: _Request) -> bool:
    """Return whether every symbol is meant: `all` in any case, or the empty text that some clients send."""
    return any(name.strip().lower() in ("all", "") for name in _names(request.symbols))


def _channel(key: str) -> str:
    """Return the wire's name of a channel: `book` for each of its depths."""
    return "book" if key.removeprefix("book_").isdigit() else key


def _error(problem: str, *values: str) -> bytes:
    shown = [value[:QUOTED_MAX].encode("utf-8", "replace").decode() for value in values[:VALUES_SHOWN_MAX]]
    return _encode(_Error(message=f"{problem} {_encode(shown).decode()}"))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Request).decode
