"""The feed actor: keeps a session with the exchange's public feed, for ever, and says what comes in.

A session is one connection: list the markets, subscribe, fetch missing candles by REST, then read. Any loss of it makes
every book unknown until the next one is up. Silence is measured for each topic of each symbol: one that says nothing
for longer than its budget is subscribed again, and if that does not help the connection is given up.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Protocol

import msgspec
import trio

from actors.clock import Clock
from actors.mailbox import Office
from bot.config import FeedSettings
from bot.control.view import FeedStatus
from bot.core.flow import END_OF_MARKET, TIME_IS_OVER, Stage
from bot.core.instrument import Instrument
from bot.core.messages import AnyMessage
from bot.errors import ConnectionLost, ExchangeError, NotListed, ReplayBroken
from bot.exchange.network import INTERNET, Network, SocketPort
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import (
    CANDLE_CHANNELS,
    PING,
    Candle,
    subscribe_text,
    unsubscribe_text,
)
from bot.exchange.poloniex.dialects import (
    BOOK,
    FUNDING_RATE,
    MARK_PRICE,
    SPOT,
    TICKER,
    TRADES,
    Dialect,
    MarketFrame,
)
from bot.exchange.poloniex.market_data import MarketData, sent_ns
from bot.exchange.transport import Backoff, keep_connected

log: Final = logging.getLogger(__name__)

ACK_TIMEOUT_S: Final = 15.0
FRAME_SILENCE_S: Final = 25.0
"""Without any frame, pongs included, for so long the connection is dead, whatever TCP says."""
WATCH_EVERY_S: Final = 1.0
BOOK_RETRY_S: Final = 5.0
BOOK_RETRIES_MAX: Final = 3
HISTORY_MAX: Final = 500
RELIST_S: Final = 600.0
"""Between two looks at what the exchange lists."""


class MarketEnded(Exception):
    """The simulated market has ended: every frame of it was read."""


@dataclass(frozen=True, slots=True)
class Market:
    """What to watch, and where."""

    ws_url: str
    symbols: tuple[str, ...]
    timeframes_ns: Mapping[str, tuple[int, ...]]
    """By symbol, the bars that are wanted."""
    left: tuple[str, ...] = ()
    """Symbols in which nobody trades now, but something is left: watched too, where they are listed at the start."""


class MarketClient(Protocol):
    """What a feed asks by REST: `PublicClient`, or `FuturesPublic`."""

    async def instruments(self) -> dict[str, Instrument]:
        """Return every market by its symbol."""
        ...

    async def candles(
        self, instrument: Instrument, timeframe_ns: int, start_ns: int, end_ns: int, limit: int = HISTORY_MAX
    ) -> list[Candle]:
        """Return candles that start in `start_ns` <= t < `end_ns`, oldest first."""
        ...


class Feed:
    """One feed with its state. `run` is its only task that touches the market data."""

    def __init__(
        self,
        market: Market,
        client: MarketClient,
        settings: FeedSettings,
        clock: Clock,
        office: Office,
        status: FeedStatus,
        *,
        connect_timeout_s: float,
        end_ns: int | None = None,
        on_ready: Callable[[], None],
        dialect: Dialect = SPOT,
        network: Network = INTERNET,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`end_ns`: stop before the first frame at or after it. `on_ready` is called when all is subscribed."""
        self._market = market
        self._dialect = dialect
        self._network = network
        self._rng = rng
        self._client = client
        self._settings = settings
        self._clock = clock
        self._office = office
        self._status = status
        self._end_ns = end_ns
        self._on_ready = on_ready
        self._connect_timeout_s = connect_timeout_s
        self._data: MarketData | None = None
        self._is_over = False
        self._listed: list[Instrument] = []
        status.symbols = list(market.symbols)

    async def run(self) -> str:
        """Feed until the market ends; return why it did. Otherwise run until cancelled.

        Raises:
            NotListed: the exchange does not list a symbol that we were told to trade.
            ReplayBroken: a lockstep replay lost its connection or a frame.

        """
        backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s, self._rng)
        reason = ""
        async with trio.open_nursery() as nursery:
            if self._office.turns is None:
                nursery.start_soon(self._keep_time)
            try:
                await keep_connected(self._run_session, backoff, self._on_lost)
            except MarketEnded as ended:
                reason = str(ended)
            nursery.cancel_scope.cancel()
        self._status.state, self._status.detail = "ended", reason
        return reason

    def _say(self, messages: Iterable[AnyMessage]) -> None:
        for message in messages:
            self._office.post(Stage.FEED, message)

    async def _keep_time(self) -> None:
        """Let time pass in messages, connected or not: orders travel, bars end, quotes grow old."""
        while True:
            if self._data is not None:
                self._say(self._data.on_time(self._clock.now_ns()))
            await trio.sleep(self._clock.tick_s)

    def _on_lost(self, error: ExchangeError, delay_s: float) -> None:
        if self._data is not None:
            self._say(self._data.lose_all(self._clock.now_ns(), "disconnected"))
        self._status.state, self._status.detail = "lost", f"{error}; next try in {delay_s:.1f} s"
        self._status.reconnects += 1
        log.warning("feed lost: %s; next try in %.1f s", error, delay_s)

    # --- a session

    async def _run_session(self) -> None:
        end: ConnectionLost | None = None
        try:
            await self._connect()
        except* ConnectionLost as group:
            end = _first(group)
            if end.reason != END_OF_MARKET:
                if self._office.turns is not None:
                    raise ReplayBroken(f"the replay lost its connection: {end}") from end
                raise
        if end is not None:
            raise MarketEnded(END_OF_MARKET)

    async def _connect(self) -> None:
        data = await self._list_markets()
        if not self._listed:  # of what is left nothing is listed any more
            self._status.state, self._status.detail = "live", ""
            self._on_ready()
            await trio.sleep_forever()
        is_lean = self._settings.websocket == "lean"
        async with self._network.open_websocket(
            self._market.ws_url, connect_timeout_s=self._connect_timeout_s, is_lean=is_lean
        ) as socket:
            session = _Session(socket, data, self._settings, self._market.left)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.keep_alive)
                if self._office.turns is None:
                    nursery.start_soon(session.watch_silence)
                    nursery.start_soon(self._keep_listed, data)
                await self._subscribe(session)
                await self._repair_candles(data)
                self._status.state, self._status.detail = "live", ""
                self._on_ready()
                while not self._is_over:
                    if self._office.turns is not None:
                        # Lockstep: the next frame is taken when all that came of the last one is done and written.
                        await self._office.turns.idle()
                    await self._take_frames(session)
                nursery.cancel_scope.cancel()
        raise MarketEnded(TIME_IS_OVER)

    async def _keep_listed(self, data: MarketData) -> None:
        """Ask now and then what the exchange lists: a market that is paused or has new steps says so nowhere else."""
        known = self._listed
        while True:
            await trio.sleep(RELIST_S)
            try:
                listed = await self._our_instruments()
            except ConnectionLost as error:
                log.warning("%s; what was listed before stays true", error)
                continue
            for before, now in zip(known, listed, strict=True):
                if (before.price_scale, before.quantity_scale) != (now.price_scale, now.quantity_scale):
                    raise ConnectionLost(f"the steps of {now.symbol} changed: its book must be read anew")
            changed = [now for before, now in zip(known, listed, strict=True) if before != now]
            for each in changed:
                if not each.is_open:
                    log.warning("%s is not traded now: the exchange has paused or delisted it", each.symbol)
                elif each.is_post_only:
                    log.warning("%s is in post-only mode: the exchange takes maker orders only", each.symbol)
            self._say(data.list_instruments(changed, self._clock.now_ns()))
            known = listed

    async def _our_instruments(self) -> list[Instrument]:
        """Return our markets as the exchange lists them, in our order. Raises ConnectionLost and NotListed.

        One that was listed and is gone counts as closed: it is no reason to leave the others alone.
        """
        try:
            listed = await self._client.instruments()
        except ExchangeError as error:
            raise ConnectionLost(f"cannot list the markets: {error}") from error
        gone = {each.symbol: msgspec.structs.replace(each, is_open=False) for each in self._listed}
        ours = gone | listed
        missing = [symbol for symbol in self._market.symbols if symbol not in ours]
        if missing:
            raise NotListed(_not_listed(missing, listed))
        at_start = gone or listed
        left = [symbol for symbol in self._market.left if symbol in at_start]
        return [ours[symbol] for symbol in (*self._market.symbols, *left)]

    async def _list_markets(self) -> MarketData:
        """Ask what the exchange lists; its steps may have changed since the last session."""
        self._listed = ours = await self._our_instruments()
        self._status.symbols = [each.symbol for each in ours]
        if self._data is None:
            self._data = MarketData(ours, self._market.timeframes_ns, self._dialect.channels)
        self._say(self._data.list_instruments(ours, self._clock.now_ns()))
        return self._data

    async def _subscribe(self, session: _Session) -> None:
        await session.subscribe_all()
        try:
            with trio.fail_after(ACK_TIMEOUT_S):
                while session.unacknowledged:
                    await self._take_frames(session)
        except trio.TooSlowError:
            channels = ", ".join(sorted(session.unacknowledged))
            raise ConnectionLost(f"no answer to the subscription of {channels} in {ACK_TIMEOUT_S:g} s") from None

    async def _repair_candles(self, data: MarketData) -> None:
        """Fetch what strategies need to warm up, or missed while the connection was down."""
        for instrument, timeframe_ns, done_ns in data.repairs():
            now_ns = self._clock.now_ns()
            oldest_ns = now_ns - self._settings.history_bars * timeframe_ns
            start_ns = max(oldest_ns, done_ns + timeframe_ns) if done_ns >= 0 else oldest_ns
            if start_ns >= now_ns:
                continue
            try:
                candles = await self._client.candles(instrument, timeframe_ns, start_ns, now_ns, HISTORY_MAX)
            except ExchangeError as error:
                raise ConnectionLost(f"cannot fetch candles of {instrument.symbol}: {error}") from error
            self._say(data.repair(instrument.symbol, timeframe_ns, candles, self._clock.now_ns()))

    async def _take_frames(self, session: _Session) -> None:
        """Handle all that waits, without a pause; in lockstep one frame."""
        is_lockstep = self._office.turns is not None
        raws = [await session.socket.receive()] if is_lockstep else await session.socket.receive_many()
        session.hears()
        data = session.data
        for raw in raws:
            frame = self._dialect.decode(raw)
            exchange_ns = sent_ns(frame)
            if exchange_ns is not None:
                now_ns = self._clock.stamp(exchange_ns)
                if self._end_ns is not None and now_ns >= self._end_ns:
                    self._is_over = True
                    return
                self._status.frames += 1
                if is_lockstep:
                    self._say(data.on_time(now_ns))
                self._say(data.take(frame, now_ns))
                if is_lockstep:
                    self._say(data.books(now_ns))
            session.take(frame)
        if not is_lockstep:
            # Of all that a burst did to a book only the last is said: a mailbox would drop the rest anyway.
            self._say(data.books(self._clock.now_ns()))
        self._status.gaps = data.gaps
        if data.broken:
            await session.ask_for_broken_books()


class _Row(Protocol):
    """A row of market data."""

    @property
    def symbol(self) -> str: ...


class _Session:
    """One connection: what it was asked for, what was heard on it, and when."""

    def __init__(self, socket: SocketPort, data: MarketData, settings: FeedSettings, left: Sequence[str]) -> None:
        """`left`: symbols that nobody trades now. Their silence is no reason to leave the others alone."""
        self.socket = socket
        self._left = left
        self.data = data
        self.unacknowledged: set[str] = set()
        """Channels asked for and not yet confirmed."""
        self._settings = settings
        self._heard_s: dict[tuple[str, str], float] = {}
        """(channel, symbol) to when it last said something."""
        self._asked_again: set[tuple[str, str]] = set()
        self._now_s = trio.current_time()
        """When something came last."""
        self._book_tries: dict[str, tuple[int, float]] = {}
        """Symbol to how often its lost book was asked for, and when last."""

    async def subscribe_all(self) -> None:
        """Ask for every channel of every symbol."""
        self.unacknowledged = set(self.data.channels)
        now_s = trio.current_time()
        self._heard_s = {(channel, symbol): now_s for channel in self.data.channels for symbol in self.data.symbols}
        await self.socket.send(subscribe_text(self.data.channels, self.data.symbols))

    def hears(self) -> None:
        """Note that something came."""
        self._now_s = trio.current_time()

    def take(self, frame: MarketFrame) -> None:
        """Note what was heard."""
        match frame:
            case wire.BookFrame():
                self._note(BOOK, frame.data)
                if self._book_tries:
                    for row in frame.data:
                        if row.symbol not in self.data.broken and row.symbol in self._book_tries:
                            # Whole again, but one that breaks again at once is not asked for at once.
                            self._book_tries[row.symbol] = 0, self._book_tries[row.symbol][1]
            case wire.TradesFrame():
                self._note(TRADES, frame.data)
            case wire.TickerFrame():
                self._note(TICKER, frame.data)
            case pw.MarkPriceFrame():
                self._note(MARK_PRICE, frame.data)
            case pw.FundingFrame():
                self._note(FUNDING_RATE, frame.data)
            case wire.CandlesFrame():
                self._note(CANDLE_CHANNELS[frame.timeframe_ns], frame.data)
            case wire.Subscribed():
                self.unacknowledged.discard(frame.channel)
            case wire.Refused():
                log.warning("the exchange refused a request: %s", frame.message)
            case _:
                pass

    def _note(self, channel: str, rows: Iterable[_Row]) -> None:
        for row in rows:
            key = channel, row.symbol
            if key in self._heard_s:
                self._heard_s[key] = self._now_s
                if self._asked_again:
                    self._asked_again.discard(key)

    async def ask_for_broken_books(self) -> None:
        """Answer each lost book by asking for it again."""
        for symbol in sorted(self.data.broken):
            await self._ask_book_again(symbol)

    async def _ask_book_again(self, symbol: str) -> None:
        now_s = self._now_s
        tries, last_s = self._book_tries.get(symbol, (0, -BOOK_RETRY_S))
        if now_s - last_s < BOOK_RETRY_S:
            return
        if tries >= BOOK_RETRIES_MAX:
            raise ConnectionLost(f"the book of {symbol} stayed broken after {tries} subscriptions")
        self._book_tries[symbol] = tries + 1, now_s
        log.warning("the book of %s is broken; subscribing to it again", symbol)
        await self._ask_again(BOOK, symbol)

    async def _ask_again(self, channel: str, symbol: str) -> None:
        await self.socket.send(unsubscribe_text([channel], [symbol]))
        await self.socket.send(subscribe_text([channel], [symbol]))

    async def keep_alive(self) -> None:
        """Ping; give the connection up when nothing at all comes back."""
        while True:
            await trio.sleep(self._settings.ping_interval_s)
            silence_s = trio.current_time() - self._now_s
            if silence_s > max(FRAME_SILENCE_S, 2.5 * self._settings.ping_interval_s):
                raise ConnectionLost(f"silent for {silence_s:.0f} s, not even a pong")
            await self.socket.send(PING)

    async def watch_silence(self) -> None:
        """Ask again for a topic that is silent beyond its budget; a second time, give the connection up."""
        while True:
            await trio.sleep(WATCH_EVERY_S)
            now_s = trio.current_time()
            for (channel, symbol), heard_s in list(self._heard_s.items()):
                budget_s = self._budget_s(channel)
                if now_s - heard_s <= budget_s:
                    continue
                if (channel, symbol) in self._asked_again and symbol not in self._left:
                    raise ConnectionLost(f"{channel} of {symbol} silent for {budget_s:g} s, twice")
                log.warning("%s of %s silent for %g s; subscribing again", channel, symbol, budget_s)
                self._asked_again.add((channel, symbol))
                self._heard_s[channel, symbol] = now_s
                await self._ask_again(channel, symbol)

    def _budget_s(self, channel: str) -> float:
        settings = self._settings
        return {
            BOOK: settings.book_silence_s,
            TRADES: settings.trades_silence_s,
            TICKER: settings.ticker_silence_s,
            MARK_PRICE: settings.ticker_silence_s,
            FUNDING_RATE: math.inf,  # it may be said once in hours
        }.get(channel, settings.candles_silence_s)


def _first(group: BaseExceptionGroup[ConnectionLost]) -> ConnectionLost:
    """Return one leaf of `group`: the end of the market if it is there."""
    found = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in found if error.reason == END_OF_MARKET), found[0])


def _not_listed(missing: list[str], listed: dict[str, Instrument]) -> str:
    hints = [f"{symbol} (closest: {', '.join(get_close_matches(symbol, listed, 2)) or 'none'})" for symbol in missing]
    return f"the exchange does not list {'; '.join(hints)}: change exchange.symbols"
