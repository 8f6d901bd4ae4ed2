"""The private sockets of spot and futures: what happens to our orders and our money, told once, and told when unsure.

A `PrivateStream` connects for ever. After every connection it authenticates, subscribes, and then catches up by REST
while what the socket says is kept back; only then it says `Fresh`. A loss says `Stale`. A topic that is silent for its
budget is checked against REST, because a private channel says nothing when nothing happens. `SpotStream` also trades.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NoReturn, Protocol, TypeVar

import msgspec
import trio

from bot.core.text import safe_text
from bot.errors import BadReply, ClockSkew, ConnectionLost, ExchangeError, RateLimited, ReadRefused
from bot.exchange.network import INTERNET, Network, SocketPort
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import PING, TEXT_LENGTH_MAX
from bot.exchange.poloniex.futures_client import NOT_FOUND_CODE, ROWS_MAX, FuturesClient, Page
from bot.exchange.poloniex.limits import Group, Lane, RateLimits
from bot.exchange.poloniex.outcome import (
    Accepted,
    Doubt,
    Market,
    Outcome,
    RefusalKind,
    Refused,
    Unknown,
    Write,
    classify,
    fence_ms,
    is_not_found,
)
from bot.exchange.poloniex.private_codec import (
    ACCOUNT,
    BALANCES,
    FILLS,
    ORDERS,
    POSITIONS,
    auth_text,
    cancel_params,
    decode_futures_private,
    decode_spot_private,
    subscription_text,
    trading_text,
)
from bot.exchange.poloniex.private_state import (
    AccountChanged,
    BalanceChanged,
    Event,
    Filled,
    Fresh,
    Holding,
    Known,
    News,
    OrderChanged,
    PositionChanged,
    Stale,
    futures_news,
    futures_order,
    futures_rest_fill,
    spot_news,
    spot_rest_fill,
    spot_rest_order,
)
from bot.exchange.poloniex.rest import SUBMIT_WITHIN_S
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import RECV_WINDOW_MS, Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_codec import by_id, encode, order_body
from bot.exchange.transport import Backoff, keep_connected

log: Final = logging.getLogger(__name__)

ACK_TIMEOUT_S: Final = 15.0
FRAME_SILENCE_S: Final = 25.0
"""Without any frame, pongs included, for so long the connection is dead, whatever TCP says."""
ANSWER_TIMEOUT_S: Final = 10.0
"""A trading request without an answer for so long is unknown."""
WATCH_EVERY_S: Final = 1.0
KEPT_BACK_MAX: Final = 20_000
"""Most events that are kept back while we catch up."""
OVERLAP_MS: Final = 60_000
"""How far a catch-up reads fills back before the oldest time that matters."""
FIRST_LOOK_MS: Final = 600_000
"""How far back the first catch-up reads fills when nobody says since when."""
OVERLAP_HOLDINGS_MS: Final = 1_000
"""How much older than the question for them holdings count: what was kept back and is newer than that is told again."""
AHEAD_MS: Final = 2_000
"""How far beyond our idea of now fills are asked for."""
WINDOW_MS: Final = 7 * 86_400_000 - 1_000
"""Longest range of fills in one question."""
OLDEST_MS: Final = 89 * 86_400_000
"""How long fills are kept at the exchange, less a day."""
SPOT_ROWS_MAX: Final = 100
"""Most fills of one answer on which all sources agree."""
SPOT_OPEN_MAX: Final = 2_000
"""Most living orders of an account (21314)."""

Lost = TypeVar("Lost", Refused, Unknown, Refused | Unknown)


class AuthRefused(ExchangeError):
    """The exchange did not accept our key on a private socket; says why, and nothing of the key."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream pings, doubts and tries again."""

    connect_timeout_s: float = 10.0
    ping_interval_s: float = 10.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
    silence_s: Mapping[str, float] = msgspec.field(
        default_factory=lambda: {ORDERS: 30.0, FILLS: 30.0, BALANCES: 60.0, POSITIONS: 60.0}
    )
    """By channel: after so long without a row REST is asked whether there was none. Others may be silent for ever."""
    grace_s: float = 2.0
    """How long the socket may be later than REST with the same news."""


# --- the two markets


class Account(Protocol):
    """One market's private side: what to subscribe to, how to read it, and how to ask the same by REST."""

    market: Market
    subscriptions: Mapping[str, str]
    """By channel, the request for it."""

    @property
    def clock(self) -> ServerClock:
        """The exchange's clock."""
        ...

    def read(self, raw: bytes) -> tuple[pw.SpotPrivateFrame | pw.FuturesPrivateFrame, str, list[News]]:
        """Return a frame, the channel that it is data of (or ""), and its news."""
        ...

    async def open_orders(self) -> list[OrderChanged]:
        """Return all living orders."""
        ...

    async def order(self, known: OrderChanged) -> OrderChanged | None:
        """Return an order as it stands now, or None when the exchange does not know it."""
        ...

    async def fills(self, start_ms: int, end_ms: int) -> list[Filled]:
        """Return all fills of a range, which is not longer than `WINDOW_MS`."""
        ...

    async def holdings(self, at_ms: int) -> list[Holding]:
        """Return all that we hold, as of `at_ms`."""
        ...


class SpotAccount:
    """The spot account."""

    market = Market.SPOT
    subscriptions: Mapping[str, str] = {
        ORDERS: subscription_text([ORDERS], ["all"]),
        BALANCES: subscription_text([BALANCES]),
    }

    def __init__(self, client: SpotClient) -> None:
        self._client = client

    @property
    def clock(self) -> ServerClock:
        """The exchange's clock."""
        return self._client.clock

    def read(self, raw: bytes) -> tuple[pw.SpotPrivateFrame, str, list[News]]:
        """Return a frame, the channel that it is data of (or ""), and its news."""
        frame = decode_spot_private(raw)
        match frame:
            case pw.SpotOrdersFrame():
                return frame, ORDERS, spot_news(frame)
            case pw.BalancesFrame():
                return frame, BALANCES, spot_news(frame)
            case _:
                return frame, "", []

    async def open_orders(self) -> list[OrderChanged]:
        """Return all living orders."""
        rows = await self._client.open_orders(page=sw.Page(limit=SPOT_OPEN_MAX))
        return [_checked(spot_rest_order, row) for row in rows]

    async def order(self, known: OrderChanged) -> OrderChanged | None:
        """Return an order as it stands now, or None when the exchange does not know it."""
        try:
            return _checked(spot_rest_order, await self._client.order(by_id(known.order_id)))
        except ReadRefused as refused:
            if is_not_found(refused.code):
                return None
            raise

    async def fills(self, start_ms: int, end_ms: int) -> list[Filled]:
        """Return all fills of a range."""

        async def read(first_ms: int, last_ms: int) -> list[Filled]:
            page = sw.Page(start_ms=first_ms, end_ms=last_ms, limit=SPOT_ROWS_MAX)
            return [spot_rest_fill(row) for row in await self._client.trades(page=page)]

        return await all_fills(read, start_ms, end_ms, SPOT_ROWS_MAX)

    async def holdings(self, at_ms: int) -> list[Holding]:
        """Return the balances of the spot account."""
        accounts = await self._client.balances("SPOT")
        return [
            BalanceChanged(
                market=Market.SPOT,
                currency=row.currency,
                available=row.available,
                hold=row.hold,
                changed_ms=at_ms,
            )
            for account in accounts
            if account.account_type == "SPOT"
            for row in account.balances
        ]


class FuturesAccount:
    """The futures account."""

    market = Market.FUTURES
    subscriptions: Mapping[str, str] = {
        channel: subscription_text([channel], ["all"]) for channel in (ORDERS, FILLS, POSITIONS, ACCOUNT)
    }

    def __init__(self, client: FuturesClient) -> None:
        self._client = client

    @property
    def clock(self) -> ServerClock:
        """The exchange's clock."""
        return self._client.clock

    def read(self, raw: bytes) -> tuple[pw.FuturesPrivateFrame, str, list[News]]:
        """Return a frame, the channel that it is data of (or ""), and its news."""
        frame = decode_futures_private(raw)
        match frame:
            case pw.FuturesOrdersFrame():
                return frame, ORDERS, futures_news(frame)
            case pw.FuturesFillsFrame():
                return frame, FILLS, futures_news(frame)
            case pw.PositionsFrame():
                return frame, POSITIONS, futures_news(frame)
            case pw.AccountFrame():
                return frame, ACCOUNT, futures_news(frame)
            case _:
                return frame, "", []

    async def open_orders(self) -> list[OrderChanged]:
        """Return all living orders, page by page."""
        found: dict[str, OrderChanged] = {}
        from_id: str | None = None
        while True:
            page = Page(from_id=from_id, direction=None if from_id is None else "NEXT")
            rows = await self._client.open_orders(page=page)
            fresh = [row for row in rows if row.order_id not in found]
            found |= {row.order_id: futures_order(row) for row in rows}
            if len(rows) < ROWS_MAX or not fresh:
                return list(found.values())
            from_id = rows[-1].order_id

    async def order(self, known: OrderChanged) -> OrderChanged | None:
        """Return an order as it stands now, or None when the exchange does not know it."""
        try:
            return futures_order(await self._client.order(symbol=known.symbol, order_id=known.order_id))
        except ReadRefused as refused:
            if refused.code == NOT_FOUND_CODE:
                return None
            raise

    async def fills(self, start_ms: int, end_ms: int) -> list[Filled]:
        """Return all fills of a range."""

        async def read(first_ms: int, last_ms: int) -> list[Filled]:
            rows = await self._client.fills(page=Page(start_ms=first_ms, end_ms=last_ms))
            return [futures_rest_fill(row) for row in rows]

        return await all_fills(read, start_ms, end_ms, ROWS_MAX)

    async def holdings(self, at_ms: int) -> list[Holding]:
        """Return the open positions and the account."""
        positions = await self._client.positions()
        balance = await self._client.balance()
        return [
            *(PositionChanged(market=Market.FUTURES, row=row, changed_ms=at_ms) for row in positions),
            AccountChanged(market=Market.FUTURES, row=balance, changed_ms=at_ms),
        ]


def _checked(read: Callable[[sw.OrderRow], OrderChanged], row: sw.OrderRow) -> OrderChanged:
    try:
        return read(row)
    except ValueError as error:
        raise BadReply(f"order {row.id}: {safe_text(str(error), TEXT_LENGTH_MAX)}") from error


async def all_fills(
    read: Callable[[int, int], Awaitable[list[Filled]]], start_ms: int, end_ms: int, rows_max: int
) -> list[Filled]:
    """Return all fills of a range through questions that answer at most `rows_max` rows.

    A full answer may leave out either end, so its range is halved until no answer is full. What pages start with and
    in which order they come need not be known.

    Raises:
        BadReply: a full answer to a question about a single millisecond.

    """
    found: dict[object, Filled] = {}
    ranges = [(start_ms, end_ms)]
    while ranges:
        first_ms, last_ms = ranges.pop()
        rows = await read(first_ms, last_ms)
        if len(rows) < rows_max:
            found |= {row.identity: row for row in rows}
        elif first_ms >= last_ms:
            raise BadReply(f"{len(rows)} fills within one millisecond")
        else:
            middle_ms = (first_ms + last_ms) // 2
            ranges += [(middle_ms + 1, last_ms), (first_ms, middle_ms)]
    return sorted(found.values(), key=lambda fill: fill.traded_ms)


# --- the stream


@dataclass(slots=True, eq=False)
class _Session:
    """One connection, and what is going on on it."""

    socket: SocketPort
    frame_s: float
    """When anything was last heard."""
    unacknowledged: set[str]
    heard_s: dict[str, float] = field(default_factory=dict[str, float])
    """By channel, when it last said something or was checked."""
    kept_back: list[News] | None = field(default_factory=list[News])
    """News since the connection, until the catch-up is done; None after that."""
    acknowledged: trio.Event = field(default_factory=trio.Event)
    sending: trio.Lock = field(default_factory=trio.Lock)

    async def send(self, text: str) -> None:
        """Send one message; one task at a time."""
        async with self.sending:
            await self.socket.send(text)


class PrivateStream:
    """One private socket with its memory, told to `say`. `run` may be started once.

    `say` must not wait; what it raises ends the stream. `fills_since_ms` is asked at each catch-up for the time of the
    oldest order that the caller still believes to live, or of the last fill that it booked; None for neither.
    """

    def __init__(
        self,
        account: Account,
        url: str,
        credentials: Credentials,
        say: Callable[[Event], None],
        *,
        settings: StreamSettings | None = None,
        fills_since_ms: Callable[[], int | None] = lambda: None,
        rng: Callable[[], float] = random.random,
        network: Network = INTERNET,
    ) -> None:
        self._network = network
        self._account = account
        self._url = url
        self._credentials = credentials
        self._say = say
        self._settings = settings or StreamSettings()
        self._fills_since_ms = fills_since_ms
        self._rng = rng
        self._known = Known(account.market)
        self._session: _Session | None = None
        """Set while we are authenticated."""
        self._fresh_ms = 0
        """On the exchange's clock, until when all that happened is told for certain; 0: never yet."""
        self._was_welcome = False

    @property
    def is_fresh(self) -> bool:
        """Return whether all that happened was told."""
        return self._session is not None and self._session.kept_back is None

    async def run(self) -> NoReturn:
        """Keep the connection for ever.

        Raises:
            AuthRefused: the exchange does not accept our key, and never has.

        """
        backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s, self._rng)
        await keep_connected(self._run_session, backoff, self._on_lost)

    def _on_lost(self, error: ExchangeError, delay_s: float) -> None:
        log.warning("private %s stream lost: %s; next try in %.1f s", self._account.market, error, delay_s)
        self._say(Stale(market=self._account.market, reason=str(error)))

    def _take(self, event: News) -> None:
        told = self._known.take(event)
        if told is not None:
            self._say(told)

    # --- a session

    async def _run_session(self) -> None:
        timeout_s = self._settings.connect_timeout_s
        async with self._network.open_websocket(self._url, connect_timeout_s=timeout_s) as socket:
            await self._authenticate(socket)
            session = _Session(socket, trio.current_time(), set(self._account.subscriptions))
            self._session = session
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, session)
                    nursery.start_soon(self._keep_alive, session)
                    await self._subscribe(session)
                    await self._catch_up(session)
                    nursery.start_soon(self._watch_silence, session)
            finally:
                self._session = None
                self._on_session_end()

    async def _now_ms(self) -> int:
        """Return the time at the exchange. An unsure clock heals by itself or by the operator: try again until then."""
        try:
            await self._account.clock.make_ready()
            return self._account.clock.now_ms()
        except (ExchangeError, ClockSkew) as error:
            raise ConnectionLost(f"cannot tell the exchange's time: {error}") from error

    def _on_session_end(self) -> None:
        """Give up what waits for an answer."""

    async def _authenticate(self, socket: SocketPort) -> None:
        """Show our key and wait for the verdict."""
        verdict: pw.AuthVerdict | None = None
        await socket.send(auth_text(self._credentials, await self._now_ms()))
        with trio.move_on_after(ACK_TIMEOUT_S):
            while verdict is None:
                frame, _, _ = self._account.read(await socket.receive())
                if isinstance(frame, wire.Refused):
                    raise ConnectionLost(f"not authenticated: {frame.message}")
                verdict = frame.data if isinstance(frame, pw.AuthFrame) else None
        if verdict is None:
            raise ConnectionLost(f"no answer to the authentication in {ACK_TIMEOUT_S:g} s")
        if not verdict.success:
            reason = f"the exchange does not accept our key: {safe_text(verdict.message, TEXT_LENGTH_MAX)}"
            # A key that was good before is good again when whatever ails the exchange has passed.
            raise ConnectionLost(reason) if self._was_welcome else AuthRefused(reason)
        self._was_welcome = True

    async def _subscribe(self, session: _Session) -> None:
        now_s = trio.current_time()
        for channel, text in self._account.subscriptions.items():
            session.heard_s[channel] = now_s
            await session.send(text)
        with trio.move_on_after(ACK_TIMEOUT_S):
            await session.acknowledged.wait()
            return
        channels = ", ".join(sorted(session.unacknowledged))
        raise ConnectionLost(f"no answer to the subscription of {channels} in {ACK_TIMEOUT_S:g} s")

    async def _receive(self, session: _Session) -> None:
        """Take frames, for ever."""
        while True:
            frame, channel, news = self._account.read(await session.socket.receive())
            session.frame_s = trio.current_time()
            if channel:
                session.heard_s[channel] = session.frame_s
                self._take_news(session, news)
            else:
                self._take_talk(session, frame)

    def _take_news(self, session: _Session, news: list[News]) -> None:
        if session.kept_back is None:
            for event in news:
                self._take(event)
            return
        session.kept_back += news
        if len(session.kept_back) > KEPT_BACK_MAX:
            raise ConnectionLost(f"more than {KEPT_BACK_MAX} events while catching up")

    def _take_talk(self, session: _Session, frame: pw.SpotPrivateFrame | pw.FuturesPrivateFrame) -> None:
        match frame:
            case wire.Subscribed():
                session.unacknowledged.discard(frame.channel)
                if not session.unacknowledged:
                    session.acknowledged.set()
            case wire.Refused() if session.unacknowledged:
                raise ConnectionLost(f"a subscription was refused: {frame.message}")
            case wire.Refused():
                log.warning("the exchange refused a request: %s", frame.message)
            case pw.AuthFrame() if not frame.data.success:
                raise ConnectionLost(f"the exchange no longer accepts our key: {frame.data.message[:TEXT_LENGTH_MAX]}")
            case pw.TradingReply():
                self._take_answer(frame)
            case _:
                pass

    def _take_answer(self, reply: pw.TradingReply) -> None:
        """Take the answer to a trading request; none was made here."""
        log.warning("an answer to a trading request %s that nobody made", reply.request_id)

    async def _keep_alive(self, session: _Session) -> None:
        """Ping; give the connection up when nothing at all comes back."""
        interval_s = self._settings.ping_interval_s
        while True:
            await trio.sleep(interval_s)
            silence_s = trio.current_time() - session.frame_s
            if silence_s > max(FRAME_SILENCE_S, 2.5 * interval_s):
                raise ConnectionLost(f"silent for {silence_s:.0f} s, not even a pong")
            await session.send(PING)

    # --- REST

    async def _catch_up(self, session: _Session) -> None:
        """Tell what was missed, then what was kept back meanwhile, and say that all is fresh."""
        at_ms = await self._now_ms()
        self._fresh_ms = self._fresh_ms or at_ms - FIRST_LOOK_MS
        for event in await self._read_all(at_ms, self._catch_up_since_ms):
            self._take(event)
        # No pause from here on: nothing can come in between.
        for event in session.kept_back or ():
            self._take(event)
        session.kept_back = None
        self._fresh_ms = at_ms
        now_s = trio.current_time()
        session.heard_s = dict.fromkeys(session.heard_s, now_s)
        living = frozenset(order.order_id for order in self._known.living)
        self._say(Fresh(market=self._account.market, at_ms=at_ms, living=living))

    async def _read_all(self, now_ms: int, since_ms: Callable[[Sequence[OrderChanged]], list[int]]) -> list[News]:
        """Return the state of our orders and our money by REST; fills first, for an order may end by them.

        `since_ms` returns, for the living orders, the times from which on a fill may be missing.

        Raises:
            ConnectionLost: REST could not say.

        """
        try:
            orders = await self._orders(now_ms)
            fills = await self._fills(min(since_ms(orders)) - OVERLAP_MS, now_ms)
            holdings = await self._account.holdings(now_ms - OVERLAP_HOLDINGS_MS)
        except (ExchangeError, ClockSkew) as error:
            raise ConnectionLost(f"cannot ask by REST what happened: {error}") from error
        return [*fills, *orders, *holdings, *self._known.absent(holdings, now_ms - OVERLAP_HOLDINGS_MS)]

    async def _orders(self, now_ms: int) -> list[OrderChanged]:
        """Return the living orders, and those that we believed to live, as they ended."""
        believed = self._known.living
        orders = await self._account.open_orders()
        listed = {order.order_id for order in orders}
        for order in believed:
            if order.order_id in listed:
                continue
            ended = await self._account.order(order)
            if ended is not None:
                orders.append(ended)
            elif now_ms - order.created_ms > OVERLAP_MS:
                log.warning("order %s of %s is not known to the exchange any more", order.order_id, order.symbol)
                self._known.forget(order.order_id)
        return orders

    def _catch_up_since_ms(self, orders: Sequence[OrderChanged]) -> list[int]:
        since = [order.created_ms for order in orders]
        since += [each for each in (self._fills_since_ms(), self._known.oldest_living_ms) if each is not None]
        return [*since, *self._last_checked_ms(orders)]

    def _last_checked_ms(self, orders: Sequence[OrderChanged]) -> list[int]:
        del orders
        return [self._fresh_ms]

    async def _fills(self, start_ms: int, now_ms: int) -> list[Filled]:
        """Return the fills since `start_ms`, in ranges that the exchange answers to."""
        start_ms = max(start_ms, now_ms - OLDEST_MS)
        end_ms = now_ms + AHEAD_MS
        fills: list[Filled] = []
        while start_ms <= end_ms:
            last_ms = min(start_ms + WINDOW_MS, end_ms)
            fills += await self._account.fills(start_ms, last_ms)
            start_ms = last_ms + 1
        return fills

    # --- silence

    async def _watch_silence(self, session: _Session) -> None:
        """Ask REST what a silent topic should have said; one that kept something back is deaf."""
        while True:
            await trio.sleep(WATCH_EVERY_S)
            silent = [channel for channel, heard_s in session.heard_s.items() if self._is_silent(channel, heard_s)]
            if silent:
                await self._check_silence(silent)
                session.heard_s = dict.fromkeys(session.heard_s, trio.current_time())

    def _is_silent(self, channel: str, heard_s: float) -> bool:
        budget_s = self._settings.silence_s.get(channel)
        return budget_s is not None and trio.current_time() - heard_s > budget_s

    async def _check_silence(self, silent: Sequence[str]) -> None:
        """Raise `ConnectionLost` when REST knows of something, twice, that the socket did not say in between."""
        try:
            missed = await self._missed()
        except ConnectionLost as error:
            # The socket itself may be well: REST is asked again when the topic has been silent for another budget.
            log.warning("cannot check the silence of %s: %s", ", ".join(silent), error)
            return
        for event in missed:
            self._take(event)
        if missed:
            raise ConnectionLost(f"{', '.join(silent)}: {len(missed)} events were not said, but REST knows them")

    async def _missed(self) -> list[News]:
        """Return what REST knows now and after the grace, and the socket did not say in between."""
        now_ms = await self._now_ms()
        first = {event.identity for event in await self._untold(now_ms)}
        if first:
            await trio.sleep(self._settings.grace_s)
            missed = [event for event in await self._untold(await self._now_ms()) if event.identity in first]
            if missed:
                return missed
        self._fresh_ms = now_ms
        return []

    async def _untold(self, now_ms: int) -> list[News]:
        """Return what REST knows and the socket did not say; the account moves by itself and does not count."""
        news = await self._read_all(now_ms, self._last_checked_ms)
        return [event for event in news if not isinstance(event, AccountChanged) and self._known.is_news(event)]


# --- trading over the spot socket

TradingEvent = Literal["createOrder", "cancelOrders", "cancelAllOrders"]


@dataclass(slots=True, eq=False)
class _Pending:
    """A trading request without an answer."""

    done: trio.Event = field(default_factory=trio.Event)
    rows: list[pw.TradingRow] | None = None


class SpotStream(PrivateStream):
    """The private spot socket, and orders over it. A request is sent at most once; without an answer it is unknown."""

    def __init__(
        self,
        account: SpotAccount,
        url: str,
        credentials: Credentials,
        say: Callable[[Event], None],
        *,
        limits: RateLimits,
        settings: StreamSettings | None = None,
        fills_since_ms: Callable[[], int | None] = lambda: None,
        rng: Callable[[], float] = random.random,
        network: Network = INTERNET,
    ) -> None:
        super().__init__(
            account, url, credentials, say, settings=settings, fills_since_ms=fills_since_ms, rng=rng, network=network
        )
        self._limits = limits
        self._numbers = count(1)
        self._pending: dict[str, _Pending] = {}

    async def create_order(
        self, order: sw.NewOrder, market: sw.SpotMarket, *, lane: Lane = Lane.OPEN
    ) -> Outcome[sw.OrderIds]:
        """Place an order. Accepted says that it exists, nothing of its fills.

        Raises:
            OrderRefusedHere: the exchange would refuse it; nothing was sent.
            ClockSkew: until when it might still be accepted cannot be told; nothing was sent.

        """
        params = encode(order_body(order, market))
        sent = await self._ask("createOrder", params, Group.PRIVATE_LIGHT, lane, Write.SUBMIT, order.client_id)
        if not isinstance(sent, Accepted):
            return sent
        rows, unknown = sent.value
        if len(rows) != 1:
            return msgspec.structs.replace(unknown, reason=f"{len(rows)} answers to one order")
        return _judged(rows[0], Write.SUBMIT, unknown)

    async def cancel_orders(
        self, *, order_ids: Sequence[str] = (), client_ids: Sequence[str] = ()
    ) -> list[Outcome[sw.OrderIds]]:
        """Ask to cancel some orders; outcomes come in the order of the ids, then of the client ids."""
        params = cancel_params(order_ids, client_ids)
        sent = await self._ask("cancelOrders", params, Group.PRIVATE_HEAVY, Lane.CANCEL, Write.CANCEL)
        ids = [*((each, "") for each in order_ids), *(("", each) for each in client_ids)]
        if not isinstance(sent, Accepted):
            return [_of(sent, client_id) for _, client_id in ids]
        rows, unknown = sent.value
        named = {name: row for row in rows for name in ((str(row.order_id), ""), ("", row.client_id or ""))}
        silent = msgspec.structs.replace(unknown, reason="the answer does not name it")
        return [
            _judged(named[each], Write.CANCEL, _of(unknown, each[1])) if each in named else _of(silent, each[1])
            for each in ids
        ]

    async def cancel_all_orders(self) -> Outcome[tuple[Outcome[sw.OrderIds], ...]]:
        """Ask to cancel every order of the account."""
        sent = await self._ask("cancelAllOrders", b"{}", Group.PRIVATE_HEAVY, Lane.CANCEL, Write.CANCEL)
        if not isinstance(sent, Accepted):
            return sent
        rows, unknown = sent.value
        return Accepted(value=tuple(_judged(row, Write.CANCEL, unknown) for row in rows))

    async def _ask(
        self, event: TradingEvent, params: bytes, group: Group, lane: Lane, write: Write, client_id: str = ""
    ) -> Accepted[tuple[list[pw.TradingRow], Unknown]] | Refused | Unknown:
        """Return the rows of an answer, with what to say of a row that tells nothing."""
        not_sent = await self._wait(group, lane)
        session = self._session
        if session is None or (write is Write.SUBMIT and not self.is_fresh):
            not_sent = not_sent or "the socket is not ready"
        if session is None or not_sent:
            return Refused(code=0, text=f"{event}: not sent, {not_sent}", kind=RefusalKind.NOT_SENT)
        fence = fence_ms(self._account.clock.now_ms(), RECV_WINDOW_MS)
        unknown = Unknown(reason="", doubt=Doubt.NO_ANSWER, client_id=client_id, fence_ms=fence)
        request_id = str(next(self._numbers))
        pending = self._pending[request_id] = _Pending()
        try:
            with trio.move_on_after(ANSWER_TIMEOUT_S):
                await session.send(trading_text(request_id, event, params))
                await pending.done.wait()
        except ConnectionLost as error:
            return msgspec.structs.replace(unknown, reason=f"{event}: {error}")
        finally:
            del self._pending[request_id]
        if pending.rows is None:
            why = "the connection was lost" if pending.done.is_set() else f"no answer in {ANSWER_TIMEOUT_S:g} s"
            return msgspec.structs.replace(unknown, reason=f"{event}: {why}")
        return Accepted(value=(pending.rows, unknown))

    async def _wait(self, group: Group, lane: Lane) -> str:
        """Wait for the limit; return why it was given up, or "". An old order would be one for another market."""
        try:
            with trio.move_on_after(SUBMIT_WITHIN_S if lane is Lane.OPEN else math.inf):
                await self._limits.gate(group).wait(lane)
                return ""
        except RateLimited as error:
            return str(error)
        return f"the limit had no room for {SUBMIT_WITHIN_S:g} s"

    def _take_answer(self, reply: pw.TradingReply) -> None:
        pending = self._pending.get(reply.request_id)
        if pending is None:
            log.warning("an answer to the trading request %s came too late", reply.request_id)
            return
        pending.rows = reply.data
        pending.done.set()

    def _on_session_end(self) -> None:
        for pending in self._pending.values():
            pending.done.set()


def _judged(row: pw.TradingRow, write: Write, unknown: Unknown) -> Outcome[sw.OrderIds]:
    """Return what is said of the order `unknown.client_id`, or, when that is empty, of the one that `row` names."""
    ours, named = unknown.client_id, row.client_id or ""
    if row.code != 200:
        text = safe_text(row.text or "", TEXT_LENGTH_MAX)
        return classify(
            Market.SPOT,
            write,
            status=200,
            code=row.code,
            text=text,
            client_id=ours or named,
            fence_ms=unknown.fence_ms,
        )
    if not row.order_id or (ours and named and named != ours):
        reason = f"the answer names the order {row.order_id} {named!r}"
        return msgspec.structs.replace(unknown, reason=reason, doubt=Doubt.AMBIGUOUS)
    return Accepted(
        value=sw.OrderIds(id=sw.ExchangeId(str(row.order_id)), client_order_id=sw.ExchangeId(ours or named))
    )


def _of(sent: Lost, client_id: str) -> Lost:
    """Return what became of a whole request as what became of one order in it."""
    return msgspec.structs.replace(sent, client_id=client_id) if isinstance(sent, Unknown) else sent
