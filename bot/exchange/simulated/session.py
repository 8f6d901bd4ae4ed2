"""The protocol of one public WebSocket connection: requests in, answers out, and what it is subscribed to.

Pure: it knows neither sockets nor time. Sources and guesses: the dossier's spot-ws.md, section 2. Where the real texts
are unknown (errors, answers to unsubscribing), ours say what was wrong with which value.
"""

from __future__ import annotations

from collections.abc import KeysView, Sequence
from typing import Annotated, Final

import msgspec

from bot.exchange.simulated.reference_feed import CURRENCIES, REFERENCE_CHANNELS, names_of, snapshot
from bot.exchange.simulated.venue import BOOK_DEPTHS, CHANNELS, EXCHANGE_TOPIC, Publication, Topic, Venue

PONG: Final = b'{"event":"pong"}'
PRIVATE_CHANNELS: Final = frozenset({"auth", "orders", "balances"})
DEPTH_DEFAULT: Final = 5
QUOTED_MAX: Final = 200
"""How much of a bad request an error frame repeats, in characters."""
VALUES_SHOWN_MAX: Final = 10
EXCHANGE: Final = EXCHANGE_TOPIC[0]
_NOBODY: Final = EXCHANGE_TOPIC[1]
_WHOLE: Final = REFERENCE_CHANNELS | {EXCHANGE}
"""Channels that are not about trading."""
NAMES_MAX: Final = 1_000
"""Channels or symbols named in one request."""

Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=NAMES_MAX)]


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as clients send it; keys that we do not know are ignored."""

    event: str
    channel: Names | str = ()
    symbols: Names | str = ()
    currencies: Names | str = ()
    depth: int | str = DEPTH_DEFAULT


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
            return [error_frame("Invalid request", text)]
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
                return [error_frame("Invalid event value", request.event)]

    def _subscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request)
        answers: list[bytes] = []
        added: list[Topic] = []
        for key, subjects in self._subjects(keys, request, errors).items():
            new = [subject for subject in subjects if (key, subject) not in self._topics]
            if not new:
                errors.append(error_frame(f"Already subscribed to {_channel(key)}", *subjects))
                continue
            answers.append(_acknowledged("subscribe", key, request, new))
            added += [(key, subject) for subject in new]
        self._topics.update(dict.fromkeys(added))
        return answers + errors + [frame for topic in added for frame in self._opening(*topic)]

    def _opening(self, key: str, subject: str) -> list[bytes]:
        return [snapshot(self._venue, key, subject)] if key in REFERENCE_CHANNELS else self._venue.opening(key, subject)

    def _unsubscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request, any_depth=True)
        answers: dict[str, bytes] = {}
        for key, subjects in self._subjects(keys, request, errors).items():
            for subject in subjects:
                self._topics.pop((key, subject), None)
            answers[_channel(key)] = _acknowledged("unsubscribe", key, request, subjects)
        return [*answers.values(), *errors]

    def _channels(self, request: _Request, *, any_depth: bool = False) -> tuple[list[str], list[bytes]]:
        """Return the channels of a request, as in a `Topic`, and an error frame for each that is wrong."""
        asked = names(request.channel)
        keys: dict[str, None] = {}
        errors: list[bytes] = [] if asked else [error_frame("Invalid channel value", *asked)]
        for name in asked:
            channel = name.strip().lower()
            if channel in PRIVATE_CHANNELS:
                errors.append(error_frame("Private channel on a public connection", name))
            elif channel == "book" and any_depth:
                keys.update(dict.fromkeys(f"book_{depth}" for depth in BOOK_DEPTHS))
            elif channel == "book" and str(request.depth) not in map(str, BOOK_DEPTHS):
                errors.append(error_frame("Invalid depth value", str(request.depth)))
            elif channel == "book":
                keys[f"book_{request.depth}"] = None
            elif channel in _WHOLE or (channel in CHANNELS and _channel(channel) == channel):
                keys[channel] = None
            else:
                errors.append(error_frame("Invalid channel value", name))
        return list(keys), errors

    def _subjects(self, keys: Sequence[str], request: _Request, errors: list[bytes]) -> dict[str, list[str]]:
        """Return, for each key that means something, the listed symbols or currencies that are meant, each once.

        What is not listed goes to `errors`, once however many channels it was asked for.
        """
        meant: dict[str, list[str]] = {}
        unknown: dict[str, dict[str, None]] = {}
        for key in keys:
            listed = [_NOBODY] if key == EXCHANGE else names_of(self._venue, key)
            if key == EXCHANGE or _is_all(key, request):
                meant[key] = listed
                continue
            asked = dict.fromkeys(name.strip().upper() for name in _asked(key, request) or (_NOBODY,))
            meant[key] = [name for name in asked if name in listed]
            kind = "currency" if key == CURRENCIES else "symbol"
            unknown.setdefault(kind, {}).update(dict.fromkeys(name for name in asked if name not in listed))
        errors += [error_frame(f"Invalid {kind} value", *values) for kind, values in unknown.items() if values]
        return {key: subjects for key, subjects in meant.items() if subjects}

    def _grouped(self) -> list[_Subscription]:
        groups: dict[str, list[str]] = {}
        for key, symbol in self._topics:
            symbols = groups.setdefault(_channel(key), [])
            if symbol and symbol not in symbols:
                symbols.append(symbol)
        return [_Subscription(channel, symbols or ["ALL"]) for channel, symbols in groups.items()]


def names(value: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return names that were sent as a list, or one as text."""
    return (value,) if isinstance(value, str) else value


def _asked(key: str, request: _Request) -> tuple[str, ...]:
    """Return what a request names for a channel: `currencies` has a key of its own."""
    return names(request.currencies if key == CURRENCIES else request.symbols)


def _is_all(key: str, request: _Request) -> bool:
    """Return whether everything is meant: `all` in any case, or the empty text that some clients send."""
    asked = _asked(key, request)
    return any(name.strip().lower() in ("all", "") for name in asked) or (key == CURRENCIES and not asked)


def _acknowledged(event: str, key: str, request: _Request, subjects: Sequence[str]) -> bytes:
    shown = ("ALL",) if key == EXCHANGE or _is_all(key, request) else subjects
    field = CURRENCIES if key == CURRENCIES else "symbols"
    return _encode({"event": event, "channel": _channel(key), field: shown})


def _channel(key: str) -> str:
    """Return the wire's name of a channel: `book` for each of its depths."""
    return "book" if key.removeprefix("book_").isdigit() else key


def error_frame(problem: str, *values: str) -> bytes:
    """Return an error frame that shows the values at fault."""
    shown = [value[:QUOTED_MAX].encode("utf-8", "replace").decode() for value in values[:VALUES_SHOWN_MAX]]
    return _encode(_Error(message=f"{problem} {_encode(shown).decode()}"))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Request).decode
