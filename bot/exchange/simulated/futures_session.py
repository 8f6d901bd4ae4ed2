"""The protocol of one WebSocket connection to the contracts, public or private; source: futures-ws.md of the dossier.

Frames, acknowledgements and errors are as on spot. Pure. A private connection first says `auth`; its channels belong to
the account then, and nothing is sent on subscribing.
"""

from __future__ import annotations

from collections.abc import KeysView, Sequence
from typing import Annotated, Final

import msgspec

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.futures_feed import CHANNELS, INDEX_CANDLES, MARK_CANDLES, FuturesFeed
from bot.exchange.simulated.replies import encode
from bot.exchange.simulated.venue import BOOK_DEPTHS, Topic

PONG: Final = b'{"event":"pong"}'
AUTH: Final = "auth"
ACCOUNT: Final = "account"
PRIVATE_CHANNELS: Final = ("orders", "trade", "positions", ACCOUNT)
DEPTH_DEFAULT: Final = 5
QUOTED_MAX: Final = 200
VALUES_SHOWN_MAX: Final = 10
NAMES_MAX: Final = 1_000
SPELLINGS: Final = {"mark_candles_": MARK_CANDLES, "index_price_candles_": INDEX_CANDLES}
"""Other names of channels, by how they begin: some pages say `mark_candles_…`."""

_Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=NAMES_MAX)]


class _Params(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    key: str = ""
    sign_timestamp: int | str = ""
    signature: str = ""


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as clients send it; keys that we do not know are ignored."""

    event: str
    channel: _Names | str = ()
    symbols: _Names | str = ()
    depth: int | str = DEPTH_DEFAULT
    params: _Params = _Params()


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


class _AuthData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    success: bool
    message: str = ""
    ts: int


class _AuthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    data: _AuthData
    channel: str = AUTH


def private_channel(channel: str, account: Account) -> str:
    """Return the name that an account's channel has in a `Topic`."""
    return f"{channel}@{account.number}"


class FuturesSession:
    """What one connection has asked for. A bad request is answered with an error frame and changes nothing."""

    def __init__(self, feed: FuturesFeed, door: Door, *, is_private: bool) -> None:
        self._feed = feed
        self._door = door
        self._is_private = is_private
        self._account: Account | None = None
        self._topics: dict[Topic, None] = {}  # in order of subscribing

    @property
    def topics(self) -> KeysView[Topic]:
        """Return the topics subscribed to, oldest first."""
        return self._topics.keys()

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
            case "subscribe" if AUTH in [name.strip().lower() for name in _names(request.channel)]:
                return [self._authenticate(request.params)]
            case "subscribe":
                return self._subscribe(request)
            case "unsubscribe":
                return self._unsubscribe(request)
            case "unsubscribe_all":
                self._topics.clear()
                return [b'{"event":"unsubscribe_all"}']
            case "list_subscriptions":
                return [encode(_Subscriptions(subscriptions=self._grouped()))]
            case _:
                return [_error("Invalid event value", request.event)]

    def _authenticate(self, params: _Params) -> bytes:
        if not self._is_private:
            return _error("Private channel on a public connection", AUTH)
        account = self._door.admit_socket(params.key, str(params.sign_timestamp), params.signature, self._feed.time_ms)
        if account is None:
            data = _AuthData(success=False, message="Authentication failed!", ts=self._feed.time_ms)
            return encode(_AuthAnswer(data=data))
        if account is not self._account:
            self._topics.clear()
        self._account = account
        return encode(_AuthAnswer(data=_AuthData(success=True, ts=self._feed.time_ms)))

    def _subscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request)
        symbols, unknown = self._symbols(request)
        if unknown and any(_channel(key) != ACCOUNT for key in keys):
            errors.append(_error("Invalid symbol value", *unknown))
        answers: list[bytes] = []
        added: list[Topic] = []
        for key in keys:
            asked = [""] if _channel(key) == ACCOUNT else symbols
            new = [symbol for symbol in asked if (key, symbol) not in self._topics]
            if asked and not new:
                errors.append(_error(f"Already subscribed to {_channel(key)}", *asked))
            if not new:
                continue
            shown = ("ALL",) if _is_all(request) or not any(new) else new
            answers.append(encode(_Answer(event="subscribe", channel=_channel(key), symbols=shown)))
            added += [(key, symbol) for symbol in new]
        self._topics.update(dict.fromkeys(added))
        openings = [] if self._is_private else [frame for topic in added for frame in self._feed.opening(*topic)]
        return answers + errors + openings

    def _unsubscribe(self, request: _Request) -> list[bytes]:
        keys, errors = self._channels(request, any_depth=True)
        symbols, unknown = self._symbols(request)
        if unknown and any(_channel(key) != ACCOUNT for key in keys):
            errors.append(_error("Invalid symbol value", *unknown))
        answers: dict[str, bytes] = {}
        for key in keys:
            asked = [""] if _channel(key) == ACCOUNT else symbols
            for symbol in asked:
                self._topics.pop((key, symbol), None)
            if asked:
                shown = ("ALL",) if _is_all(request) or not any(asked) else asked
                answers[_channel(key)] = encode(_Answer(event="unsubscribe", channel=_channel(key), symbols=shown))
        return [*answers.values(), *errors]

    def _channels(self, request: _Request, *, any_depth: bool = False) -> tuple[list[str], list[bytes]]:
        """Return the channels of a request, as in a `Topic`, and an error frame for each that is wrong."""
        asked = _names(request.channel)
        keys: dict[str, None] = {}
        errors: list[bytes] = [] if asked else [_error("Invalid channel value", *asked)]
        for name in asked:
            channel = _spelled(name.strip().lower())
            if channel in PRIVATE_CHANNELS:
                if not self._is_private:
                    errors.append(_error("Private channel on a public connection", name))
                elif self._account is None:
                    errors.append(_error("Not authenticated for channel", name))
                else:
                    keys[private_channel(channel, self._account)] = None
            elif channel != "book" and (channel not in CHANNELS or _channel(channel) != channel):
                errors.append(_error("Invalid channel value", name))
            elif self._is_private:
                errors.append(_error("Public channel on a private connection", name))
            elif channel != "book":
                keys[channel] = None
            elif any_depth:
                keys.update(dict.fromkeys(f"book_{depth}" for depth in BOOK_DEPTHS))
            elif str(request.depth) not in map(str, BOOK_DEPTHS):
                errors.append(_error("Invalid depth value", str(request.depth)))
            else:
                keys[f"book_{request.depth}"] = None
        return list(keys), errors

    def _symbols(self, request: _Request) -> tuple[list[str], list[str]]:
        """Return the symbols of a request that are listed, each once, and those that are not."""
        if _is_all(request):
            return list(self._feed.markets), []
        # The Python SDK's own helpers ask for ["BTC_USDT_PERP", ""].
        asked = dict.fromkeys(name.strip().upper() for name in _names(request.symbols) if name.strip())
        unknown = [symbol for symbol in asked if symbol not in self._feed.markets]
        return [symbol for symbol in asked if symbol in self._feed.markets], unknown if asked else [""]

    def _grouped(self) -> list[_Subscription]:
        groups: dict[str, list[str]] = {}
        for key, symbol in self._topics:
            symbols = groups.setdefault(_channel(key), [])
            if symbol and symbol not in symbols:
                symbols.append(symbol)
        return [_Subscription(channel, symbols or ["ALL"]) for channel, symbols in groups.items()]


def _names(value: tuple[str, ...] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _is_all(request: _Request) -> bool:
    """Return whether every symbol is meant: `all` in any case, or nothing but empty names."""
    asked = [name.strip().lower() for name in _names(request.symbols)]
    return "all" in asked or (bool(asked) and not any(asked))


def _channel(key: str) -> str:
    """Return the wire's name of a channel: `book` for each of its depths, no account."""
    name = key.partition("@")[0]
    return "book" if name.removeprefix("book_").isdigit() else name


def _spelled(channel: str) -> str:
    for beginning, ours in SPELLINGS.items():
        if channel.startswith(beginning):
            return ours + channel.removeprefix(beginning)
    return channel


def _error(problem: str, *values: str) -> bytes:
    shown = [value[:QUOTED_MAX].encode("utf-8", "replace").decode() for value in values[:VALUES_SHOWN_MAX]]
    return encode(_Error(message=f"{problem} {encode(shown).decode()}"))


_decode = msgspec.json.Decoder(_Request).decode
