r"""Signatures of requests, as Poloniex's clients make them and its server checks them; spot and futures alike.

Pure: the time is an argument. Source: the dossier's spot-rest.md, section 2, and its 57 vectors.

    signature = base64( HMAC-SHA256( secret, METHOD "\n" PATH "\n" PARAMS ) )
    no body   : PARAMS = the query's parameters and signTimestamp, sorted bytewise by name, joined by &
    with body : PARAMS = requestBody=<the body exactly as sent>&signTimestamp=<ms>
    WebSocket : GET "\n" /ws "\n" signTimestamp=<ms>
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, unquote_plus

from bot.core.secret import Secret
from bot.errors import SettingsError

KEY: Final = "key"
TIMESTAMP: Final = "signTimestamp"
SIGNATURE: Final = "signature"
RECV_WINDOW: Final = "recvWindow"
WEBSOCKET_PATH: Final = "/ws"
"""What is signed for both sockets, whatever their address."""
RECV_WINDOW_MS: Final = 5_000
"""How old a request of ours may be when it arrives; without it the exchange would allow a minute."""
AHEAD_MS_MAX: Final = 1_000
"""How far ahead of the exchange's clock a request may be signed."""
AGE_MS_MAX: Final = 60_000
"""How old a request without `recvWindow` may be."""
_UNRESERVED: Final = "-_.!~*'()"
"""What JavaScript's encodeURIComponent leaves as it is, beside letters and digits."""
_TIMESTAMP_DIGITS_MAX: Final = 19


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key and its secret. Neither is ever printed."""

    key: Secret
    secret: Secret

    def __post_init__(self) -> None:
        key, secret = self.key.reveal(), self.secret.reveal()
        if not (key.isascii() and key.isprintable()) or " " in key:  # it travels in a header
            raise SettingsError("the API key has characters that no key has; was it copied whole?")
        if not secret.isprintable() or secret != secret.strip():
            raise SettingsError("the API secret has a blank or a line end at its end; was it copied whole?")


# --- our side


def encoded(text: str) -> str:
    """Return `text` as encodeURIComponent would; the exchange's clients sign and send values so."""
    return quote(text, safe=_UNRESERVED)


def query_text(params: Iterable[tuple[str, str]]) -> str:
    """Return the query of `params` as it goes on the wire, in their order."""
    return "&".join(f"{encoded(name)}={encoded(value)}" for name, value in params)


def sign(
    credentials: Credentials,
    method: str,
    path: str,
    query: str,
    body: bytes,
    timestamp_ms: int,
    recv_window_ms: int = RECV_WINDOW_MS,
) -> dict[str, str]:
    """Return the headers that make a request ours.

    `path` and `query` are as they will be on the wire, `body` as it will be sent, empty for none. A body and a query
    never travel together: the query would not be signed.
    """
    assert not (query and body), f"{method} {path}: a query beside a body is not signed"
    text = _body_text(body, str(timestamp_ms)) if body else _params_text(_pairs(query), str(timestamp_ms))
    return {
        KEY: credentials.key.reveal(),
        TIMESTAMP: str(timestamp_ms),
        SIGNATURE: _signature(credentials.secret, method, path, text),
        RECV_WINDOW: str(recv_window_ms),
    }


def websocket_signature(secret: Secret, timestamp_ms: int) -> str:
    """Return the signature for the `auth` channel of a private socket, spot or futures."""
    return _signature(secret, "GET", WEBSOCKET_PATH, _params_text([], str(timestamp_ms)))


def _signature(secret: Secret, method: str, path: str, text: bytes) -> str:
    message = f"{method}\n{path}\n".encode() + text
    return b64encode(hmac.digest(secret.reveal().encode(), message, hashlib.sha256)).decode()


class _Pair(NamedTuple):
    name: str
    value: str


def _pairs(query: str) -> list[_Pair]:
    """Return the parameters of a query as they travel, undecoded."""
    parts = (piece.partition("=") for piece in query.split("&") if piece)
    return [_Pair(name, value) for name, _, value in parts]


def _params_text(pairs: Iterable[_Pair], timestamp: str) -> bytes:
    # UTF-8 keeps the order of code points, so sorting text is sorting bytes.
    rows = sorted([*pairs, _Pair(TIMESTAMP, timestamp)], key=lambda pair: pair.name)
    return "&".join(f"{pair.name}={pair.value}" for pair in rows).encode(errors="surrogatepass")


def _body_text(body: bytes, timestamp: str) -> bytes:
    return b"requestBody=" + body + f"&{TIMESTAMP}={timestamp}".encode()


# --- the exchange's side


class Freshness(StrEnum):
    """Whether a request was signed at a time that the exchange accepts."""

    FRESH = "fresh"
    AHEAD = "ahead"
    """Answered with status 400."""
    STALE = "stale"
    """Answered with status 408."""
    UNREADABLE = "unreadable"


def is_signed(secret: Secret, method: str, path: str, query: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Return whether a received request carries a signature by `secret`. Says nothing of its age.

    `path` and `query` are as received, undecoded, without the `?`; `body` is what came. The clients of the
    exchange differ in what they sign, so each documented form that can be rebuilt from the wire is tried, all
    of them always, and compared in constant time. A repeated name cannot be rebuilt and is refused.
    """
    given = {name.lower(): value for name, value in headers.items()}
    timestamp = given.get(TIMESTAMP.lower(), "")
    signature = given.get(SIGNATURE.lower(), "").encode(errors="replace")
    pairs = _pairs(query)
    names = [unquote_plus(pair.name) for pair in pairs]
    if not _is_timestamp(timestamp) or len({*names, TIMESTAMP}) <= len(names):
        return False
    is_valid = False
    for tried_path in (path, unquote(path)):
        for text in _texts(pairs, body, timestamp):
            expected = _signature(secret, method, tried_path, text).encode()
            is_valid |= hmac.compare_digest(expected, signature)
    return is_valid


def is_websocket_signed(secret: Secret, timestamp: str, signature: str) -> bool:
    """Return whether `signature` opens a private socket."""
    expected = _signature(secret, "GET", WEBSOCKET_PATH, f"{TIMESTAMP}={timestamp}".encode(errors="replace"))
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


def freshness(headers: Mapping[str, str], now_ms: int) -> Freshness:
    """Return how the time in a request's headers stands to the exchange's `now_ms`."""
    given = {name.lower(): value for name, value in headers.items()}
    timestamp = given.get(TIMESTAMP.lower(), "")
    window = given.get(RECV_WINDOW.lower(), str(AGE_MS_MAX))
    if not (_is_timestamp(timestamp) and _is_timestamp(window)):
        return Freshness.UNREADABLE
    age_ms = now_ms - int(timestamp)
    if age_ms < -AHEAD_MS_MAX:
        return Freshness.AHEAD
    return Freshness.STALE if age_ms > int(window) else Freshness.FRESH


def _is_timestamp(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _TIMESTAMP_DIGITS_MAX


def _texts(pairs: list[_Pair], body: bytes, timestamp: str) -> list[bytes]:
    """Return what may have been signed after the path, by the clients that are known."""
    if body:
        return [_body_text(body, timestamp)]
    decoded = [_Pair(unquote_plus(name), unquote_plus(value)) for name, value in pairs]
    return [
        _params_text([_Pair(encoded(name), encoded(value)) for name, value in decoded], timestamp),  # Python SDK
        _params_text(pairs, timestamp),  # ccxt
        _params_text(decoded, timestamp),  # Java SDK
    ]
