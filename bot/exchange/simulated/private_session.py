"""The protocol of one private WebSocket connection: authentication, news of orders and balances, and trading.

Pure. Frames are handled strictly in order: the Python SDK subscribes without waiting for the answer to `auth`. Sources
and guesses: the dossier's spot-ws.md, sections 4 to 6.
"""

from __future__ import annotations

from collections.abc import Callable, KeysView, Sequence
from typing import Final

import msgspec

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.replies import OK, Refusal, Shape, encode
from bot.exchange.simulated.session import PONG, Names, error_frame, names
from bot.exchange.simulated.spot_calls import decoded
from bot.exchange.simulated.spot_desk import BALANCES_CHANNEL, NO_SYMBOL, ORDERS_CHANNEL, SpotDesk, private_topic
from bot.exchange.simulated.spot_orders import OrderFields
from bot.exchange.simulated.spot_trading import (
    CancelAll,
    CancelIds,
    cancel_all,
    cancel_orders,
    place_order,
)
from bot.exchange.simulated.venue import CHANNELS, Topic

AUTH_CHANNEL: Final = "auth"
CHANNELS_PRIVATE: Final = (ORDERS_CHANNEL, BALANCES_CHANNEL)
NOT_AUTHENTICATED: Final = "Authentication required for"
_EMPTY: Final = msgspec.Raw(b"{}")


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    event: str
    channel: Names | str = ()
    symbols: Names | str = ()
    params: msgspec.Raw = _EMPTY
    id: str | int = ""


class _Credentials(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    key: str = ""
    sign_timestamp: str | int = ""
    signature: str = ""


class _AuthData(Shape, frozen=True, kw_only=True, omit_defaults=True):
    success: bool
    message: str = ""
    ts: int


class _AuthAnswer(Shape, frozen=True, kw_only=True):
    data: _AuthData
    channel: str = AUTH_CHANNEL


class _Acknowledged(Shape, frozen=True, kw_only=True, omit_defaults=True):
    event: str
    channel: str
    symbols: Sequence[str] = ()


class _Subscriptions(Shape, frozen=True, kw_only=True):
    event: str = "list_subscriptions"
    subscriptions: list[_Subscription]


class _Subscription(Shape, frozen=True, kw_only=True):
    channel: str
    symbols: list[str]


class _Done(Shape, frozen=True, kw_only=True):
    order_id: str | int
    client_order_id: str | None
    message: str
    code: int


class _Answer(Shape, frozen=True, kw_only=True):
    id: str
    data: list[_Done]


class PrivateSession:
    """What one private connection may do and hear. A bad request is answered and changes nothing."""

    def __init__(self, desk: SpotDesk, door: Door) -> None:
        self._desk = desk
        self._door = door
        self._account: Account | None = None
        self._topics: dict[Topic, None] = {}
        self._shown: dict[Topic, tuple[str, str]] = {}
        """A topic's channel and symbol as clients say them."""

    @property
    def topics(self) -> KeysView[Topic]:
        """Return the topics subscribed to, oldest first."""
        return self._topics.keys()

    def handle(self, text: str) -> list[bytes]:
        """Return the answers to one frame."""
        if text.strip().lower() == "ping":
            return [PONG]
        try:
            frame = _decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return [error_frame("Invalid request", text)]
        match frame.event.lower():
            case "ping":
                return [PONG]
            case "subscribe":
                return self._subscribe(frame)
            case "unsubscribe":
                return self._unsubscribe(frame)
            case "unsubscribe_all":
                self._topics.clear()
                return [b'{"event":"unsubscribe_all"}']
            case "list_subscriptions":
                return [encode(_Subscriptions(subscriptions=self._grouped()))]
            case "createorder":
                return self._trade(frame, self._create_order)
            case "cancelorders":
                return self._trade(frame, self._cancel_orders)
            case "cancelallorders":
                return self._trade(frame, self._cancel_all)
            case _:
                return [error_frame("Invalid event value", frame.event)]

    # --- authentication

    def _authenticate(self, frame: _Frame) -> bytes:
        now_ms = self._desk.venue.time_ms
        try:
            shown = decoded(frame.params, _Credentials)
        except Refusal:
            shown = _Credentials()
        account = self._door.admit_socket(shown.key, str(shown.sign_timestamp), shown.signature, now_ms)
        if account is None:
            failure = _AuthData(success=False, message="Authentication failed!", ts=now_ms)
            return encode(_AuthAnswer(data=failure))
        if self._account is not account:
            self._topics.clear()  # they were another account's
        self._account = account
        return encode(_AuthAnswer(data=_AuthData(success=True, ts=now_ms)))

    # --- subscriptions

    def _subscribe(self, frame: _Frame) -> list[bytes]:
        answers: list[bytes] = []
        for name in names(frame.channel) or ("",):
            channel = name.strip().lower()
            if channel == AUTH_CHANNEL:
                answers.append(self._authenticate(frame))
            elif channel not in CHANNELS_PRIVATE:
                answers.append(_no_such(name))
            elif self._account is None:
                answers.append(error_frame(NOT_AUTHENTICATED, name))
            else:
                answers += self._add(self._account, channel, frame)
        return answers

    def _add(self, account: Account, channel: str, frame: _Frame) -> list[bytes]:
        """Subscribe to one channel; return its acknowledgement, then what was wrong."""
        symbols, unknown = self._symbols(channel, frame)
        answers = [error_frame("Invalid symbol value", *unknown)] if unknown else []
        # A repetition is acknowledged again: ccxt.pro subscribes to `orders` twice, for orders and for its own trades.
        for symbol in symbols:
            topic = private_topic(channel, account, symbol)
            self._topics[topic] = None
            self._shown[topic] = channel, symbol
        return [_acknowledged("subscribe", channel, frame, symbols), *answers] if symbols else answers

    def _unsubscribe(self, frame: _Frame) -> list[bytes]:
        answers: list[bytes] = []
        for name in names(frame.channel) or ("",):
            channel = name.strip().lower()
            if channel not in CHANNELS_PRIVATE:
                answers.append(_no_such(name))
                continue
            symbols, unknown = self._symbols(channel, frame)
            if self._account is not None:
                for symbol in symbols:
                    self._topics.pop(private_topic(channel, self._account, symbol), None)
            if symbols:
                answers.append(_acknowledged("unsubscribe", channel, frame, symbols))
            if unknown:
                answers.append(error_frame("Invalid symbol value", *unknown))
        return answers

    def _symbols(self, channel: str, frame: _Frame) -> tuple[list[str], list[str]]:
        """Return the symbols that a frame means for a channel, each once, and those that are not listed."""
        markets = self._desk.venue.markets
        asked = dict.fromkeys(name.strip().upper() for name in names(frame.symbols))
        if channel == BALANCES_CHANNEL:
            return [NO_SYMBOL], []
        if not asked or asked.keys() & {"ALL", ""}:
            return list(markets), []
        return [name for name in asked if name in markets], [name for name in asked if name not in markets]

    def _grouped(self) -> list[_Subscription]:
        groups: dict[str, list[str]] = {}
        for topic in self._topics:
            channel, symbol = self._shown[topic]
            groups.setdefault(channel, [])
            if symbol:
                groups[channel].append(symbol)
        return [_Subscription(channel=channel, symbols=symbols) for channel, symbols in groups.items()]

    # --- trading

    def _trade(self, frame: _Frame, do: Callable[[Account, msgspec.Raw], list[_Done]]) -> list[bytes]:
        if self._account is None:
            return [error_frame(NOT_AUTHENTICATED, frame.event)]
        try:
            if self._desk.refuses_orders():
                raise refused(Code.MAINTENANCE)
            done = do(self._account, frame.params)
        except Refusal as refusal:
            done = [_Done(order_id=0, client_order_id=None, message=refusal.message, code=refusal.code)]
        return [encode(_Answer(id=str(frame.id), data=done))]

    def _create_order(self, account: Account, params: msgspec.Raw) -> list[_Done]:
        order = place_order(self._desk, account, decoded(params, OrderFields))
        return [_Done(order_id=str(order.order_id), client_order_id=order.client_id, message="", code=OK)]

    def _cancel_orders(self, account: Account, params: msgspec.Raw) -> list[_Done]:
        rows = cancel_orders(self._desk, account, decoded(params, CancelIds))
        return [
            _Done(order_id=row.order_id, client_order_id=row.client_order_id, message=row.message, code=row.code)
            for row in rows
        ]

    def _cancel_all(self, account: Account, params: msgspec.Raw) -> list[_Done]:
        rows = cancel_all(self._desk, account, decoded(params, CancelAll))
        return [
            _Done(order_id=row.order_id, client_order_id=row.client_order_id, message=row.message, code=row.code)
            for row in rows
        ]


def _acknowledged(event: str, channel: str, frame: _Frame, symbols: Sequence[str]) -> bytes:
    if channel == BALANCES_CHANNEL:
        return encode(_Acknowledged(event=event, channel=channel))
    asked = {name.strip().upper() for name in names(frame.symbols)}
    is_all = not asked or asked & {"ALL", ""}
    return encode(_Acknowledged(event=event, channel=channel, symbols=("ALL",) if is_all else symbols))


def _no_such(name: str) -> bytes:
    channel = name.strip().lower()
    is_public = channel in CHANNELS or channel in ("book", "symbols", "currencies", "exchange")
    return error_frame("Public channel on a private connection" if is_public else "Invalid channel value", name)


_decode = msgspec.json.Decoder(_Frame).decode
