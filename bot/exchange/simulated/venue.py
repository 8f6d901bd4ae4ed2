"""The state of every market of the simulated exchange, and what it says to subscribers.

A pure machine: `apply` takes a market event and returns the frames of it, exactly as they go on the wire. What is
pushed, and when, never depends on who listens; only the encoding is spared where nobody does. Time is the event's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from bot.core.instrument import Instrument
from bot.exchange.simulated.books import Book, Window
from bot.exchange.simulated.candles import INTERVALS, SECOND_NS, Candle, CandleSeries, Day, Interval, day_of
from bot.exchange.simulated.events import (
    BookChange,
    BookSnapshot,
    Level,
    MarketEvent,
    MarketSource,
    MarketTrade,
    TakerSide,
)

Topic = tuple[str, str]
"""(channel, symbol). The `book` channel's depth is part of its name here: `book_5`, `book_10`, `book_20`."""

BOOK_DEPTHS: Final = (5, 10, 20)
EXCHANGE_TOPIC: Final[Topic] = ("exchange", "")
"""Maintenance and post-only mode of the whole exchange: a channel without symbols."""
CHANNELS: Final = frozenset(
    {"trades", "ticker", "book_lv2"}
    | {f"book_{depth}" for depth in BOOK_DEPTHS}
    | {interval.channel for interval in INTERVALS}
)
PUSH_NS: Final = SECOND_NS
"""Candles and tickers of a market are pushed at most this often."""
TRADES_KEPT: Final = 1_000
"""As many as REST gives at most."""
TEXTS_KEPT: Final = 100_000
MS_NS: Final = 1_000_000
BPS_SCALE: Final = 4
"""Decimals of a fraction in basis points."""


class Publication(NamedTuple):
    """One frame, and who gets it."""

    channel: str
    """As in a `Topic`."""
    symbol: str
    payload: bytes


class Texts(dict[int, str]):
    """Integers as plain decimal text of one scale, remembered: a market says the same numbers again and again."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self._scale = scale

    def __missing__(self, value: int) -> str:
        if len(self) >= TEXTS_KEPT:
            self.clear()
        text = self[value] = plain(value, self._scale)
        return text


def plain(value: int, scale: int) -> str:
    """Return `value` / 10**scale in plain decimal notation, without zeros at the end."""
    if value < 0:
        return f"-{plain(-value, scale)}"
    if not scale:
        return str(value)
    digits = str(value).rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}".rstrip("0").rstrip(".")


class Market:
    """One market: its book, its last trades, its candles, and when it last pushed them."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.book = Book()
        self.trades: deque[MarketTrade] = deque(maxlen=TRADES_KEPT)
        self.series = tuple(CandleSeries(interval) for interval in INTERVALS)
        self.pushed_ns = -PUSH_NS
        self.is_push_due = False
        """There were trades since the last push of candles and ticker."""
        self.price_texts = Texts(instrument.price_scale)
        self.quantity_texts = Texts(instrument.quantity_scale)
        self.amount_scale = instrument.price_scale + instrument.quantity_scale

    def amount_text(self, amount: int) -> str:
        """Return price x quantity, given in ticks x lots, in quote currency."""
        return plain(amount, self.amount_scale)

    def levels(self, levels: Iterable[Level]) -> list[tuple[str, str]]:
        """Return levels as the exchange writes them."""
        prices, quantities = self.price_texts, self.quantity_texts
        return [(prices[price], quantities[lots]) for price, lots in levels]

    @property
    def mark_ticks(self) -> int:
        """Return the middle of the book, or the last trade's price without one, or 0 before both."""
        mid_ticks = self.book.mid_ticks
        if mid_ticks is not None:
            return mid_ticks
        return self.trades[-1].price_ticks if self.trades else 0

    def day(self, now_ns: int) -> Day:
        """Return the last 24 hours."""
        return day_of(self.series[0], now_ns, self.mark_ticks)


class Venue:
    """All markets of the simulated exchange."""

    def __init__(self, instruments: Iterable[Instrument], first_ns: int) -> None:
        self.time_ns = first_ns
        """The exchange's clock: the time of the newest event, or later where somebody knows better."""
        self.events_done = 0
        self.is_in_maintenance = False
        """Orders are neither taken nor cancelled, which others see to: a fault."""
        self.is_post_only = False
        """Orders that could take are refused, which others see to: a fault."""
        self.markets = {instrument.symbol: Market(instrument) for instrument in instruments}
        self._unpushed: dict[str, Market] = {}

    def open(self, source: MarketSource) -> Iterator[MarketEvent]:
        """Apply the snapshots that `source` begins with; return all events after them."""
        events = source.events()
        for event in events:
            if not isinstance(event, BookSnapshot) or self.markets[event.symbol].book.is_known:
                return _chain(event, events)
            self.apply(event, ())
        return events

    def apply(self, event: MarketEvent, wanted: Container[Topic]) -> list[Publication]:
        """Take the next event, not older than the one before; return the frames of the `wanted` topics in order."""
        self.events_done += 1
        return self.publish(event, wanted)

    def publish(self, event: MarketEvent, wanted: Container[Topic]) -> list[Publication]:
        """Do what `apply` does for an event that is not the source's, but made by clients' orders."""
        self.time_ns = max(self.time_ns, event.ts_ns)
        publications: list[Publication] = []
        market = self.markets[event.symbol]
        match event:
            case MarketTrade():
                self._on_trade(market, event, wanted, publications)
            case BookChange():
                self._on_change(market, event, wanted, publications)
            case BookSnapshot():
                self._on_snapshot(market, event, wanted, publications)
        self._push_all(wanted, publications)
        return publications

    def advance(self, now_ns: int, wanted: Container[Topic]) -> list[Publication]:
        """Let the clock be `now_ns`, if that is later; return the frames that have become due."""
        self.time_ns = max(self.time_ns, now_ns)
        publications: list[Publication] = []
        self._push_all(wanted, publications)
        return publications

    def opening(self, channel: str, symbol: str) -> list[bytes]:
        """Return what a new subscriber of a topic is sent after its acknowledgement: the book, where one is known."""
        if (channel, symbol) == EXCHANGE_TOPIC:
            return [self.exchange_frame("snapshot")]
        market = self.markets[symbol]
        if not market.book.is_known:
            return []
        if channel == "book_lv2":
            return [self._lv2(market, market.book.window, market.book.id - 1, "snapshot")]
        if channel.startswith("book_"):
            return [self._top(market, int(channel.removeprefix("book_")))]
        return []

    def exchange_frame(self, action: Literal["snapshot", "update"]) -> bytes:
        """Return the frame of the channel `exchange`."""
        row = {"MM": "ON" if self.is_in_maintenance else "OFF", "POM": "ON" if self.is_post_only else "OFF"}
        return _encode({"channel": EXCHANGE_TOPIC[0], "data": [row], "action": action})

    def _on_trade(self, market: Market, trade: MarketTrade, wanted: Container[Topic], out: list[Publication]) -> None:
        symbol = trade.symbol
        amount = trade.price_ticks * trade.qty_lots
        market.trades.append(trade)
        if ("trades", symbol) in wanted:
            out.append(Publication("trades", symbol, self._trade(market, trade, amount)))
        for series in market.series:
            ended = series.add(trade, amount)
            # The last state of a candle is always said, even within the second, before its successor is.
            if ended is not None and market.is_push_due and (series.interval.channel, symbol) in wanted:
                out.append(self._candle(market, series.interval, ended))
        market.is_push_due = True
        self._unpushed[symbol] = market

    def _on_change(self, market: Market, change: BookChange, wanted: Container[Topic], out: list[Publication]) -> None:
        before = market.book.window
        changed = market.book.apply(change.bids, change.asks)
        if changed is None:
            return
        if ("book_lv2", change.symbol) in wanted:
            payload = self._lv2(market, changed, market.book.id - 1, "update")
            out.append(Publication("book_lv2", change.symbol, payload))
        self._push_tops(market, before, wanted, out)

    def _on_snapshot(
        self, market: Market, snapshot: BookSnapshot, wanted: Container[Topic], out: list[Publication]
    ) -> None:
        before = market.book.window
        market.book.replace(snapshot.bids, snapshot.asks)
        if ("book_lv2", snapshot.symbol) in wanted:
            payload = self._lv2(market, market.book.window, market.book.id - 1, "snapshot")
            out.append(Publication("book_lv2", snapshot.symbol, payload))
        self._push_tops(market, before, wanted, out)

    def _push_tops(self, market: Market, before: Window, wanted: Container[Topic], out: list[Publication]) -> None:
        symbol, after = market.instrument.symbol, market.book.window
        for depth in BOOK_DEPTHS:
            if (f"book_{depth}", symbol) not in wanted:
                continue
            if before.bids[:depth] != after.bids[:depth] or before.asks[:depth] != after.asks[:depth]:
                out.append(Publication(f"book_{depth}", symbol, self._top(market, depth)))

    def _push_all(self, wanted: Container[Topic], out: list[Publication]) -> None:
        if self._unpushed:
            for unpushed in tuple(self._unpushed.values()):
                self._push(unpushed, wanted, out)

    def _push(self, market: Market, wanted: Container[Topic], out: list[Publication]) -> None:
        """Say what trades have changed, if the last time was long enough ago."""
        if self.time_ns < market.pushed_ns + PUSH_NS:
            return
        symbol = market.instrument.symbol
        market.pushed_ns = self.time_ns
        market.is_push_due = False
        del self._unpushed[symbol]
        out += [
            self._candle(market, series.interval, series.candles[-1])
            for series in market.series
            if (series.interval.channel, symbol) in wanted
        ]
        if ("ticker", symbol) in wanted:
            out.append(Publication("ticker", symbol, self._ticker(market)))

    @property
    def time_ms(self) -> int:
        """Return the exchange's clock in milliseconds."""
        return self.time_ns // MS_NS

    def _lv2(self, market: Market, levels: Window, last_id: int, action: Literal["snapshot", "update"]) -> bytes:
        row = _Lv2Row(
            symbol=market.instrument.symbol,
            create_time=self.time_ms,
            asks=market.levels(levels.asks),
            bids=market.levels(levels.bids),
            last_id=last_id,
            id=market.book.id,
            ts=self.time_ms,
        )
        return _encode(_Frame(channel="book_lv2", data=(row,), action=action))

    def _top(self, market: Market, depth: int) -> bytes:
        row = _BookRow(
            symbol=market.instrument.symbol,
            create_time=self.time_ms,
            asks=market.levels(market.book.window.asks[:depth]),
            bids=market.levels(market.book.window.bids[:depth]),
            id=market.book.id,
            ts=self.time_ms,
        )
        return _encode(_Frame(channel="book", data=(row,)))

    def _trade(self, market: Market, trade: MarketTrade, amount: int) -> bytes:
        row = _TradeRow(
            symbol=trade.symbol,
            amount=market.amount_text(amount),
            taker_side=trade.taker_side,
            quantity=market.quantity_texts[trade.qty_lots],
            create_time=trade.ts_ns // MS_NS,
            price=market.price_texts[trade.price_ticks],
            id=trade.trade_id,
            ts=self.time_ms,
        )
        return _encode(_Frame(channel="trades", data=(row,)))

    def _candle(self, market: Market, interval: Interval, candle: Candle) -> Publication:
        prices = market.price_texts
        row = _CandleRow(
            symbol=market.instrument.symbol,
            open=prices[candle.open_ticks],
            high=prices[candle.high_ticks],
            low=prices[candle.low_ticks],
            close=prices[candle.close_ticks],
            amount=market.amount_text(candle.amount),
            quantity=market.quantity_texts[candle.qty_lots],
            trade_count=candle.trade_count,
            start_time=candle.start_ns // MS_NS,
            close_time=candle.end_ns // MS_NS - 1,
            ts=self.time_ms,
        )
        payload = _encode(_Frame(channel=interval.channel, data=(row,)))
        return Publication(interval.channel, row.symbol, payload)

    def _ticker(self, market: Market) -> bytes:
        day, prices = market.day(self.time_ns), market.price_texts
        row = _TickerRow(
            symbol=market.instrument.symbol,
            start_time=day.start_ns // MS_NS,
            open=prices[day.open_ticks],
            high=prices[day.high_ticks],
            low=prices[day.low_ticks],
            close=prices[day.close_ticks],
            quantity=market.quantity_texts[day.qty_lots],
            amount=market.amount_text(day.amount),
            trade_count=day.trade_count,
            daily_change=plain(day.change_bps, BPS_SCALE),
            mark_price=prices[market.mark_ticks],
            close_time=self.time_ms,
            ts=self.time_ms,
        )
        return _encode(_Frame(channel="ticker", data=(row,)))


def _chain(first: MarketEvent, rest: Iterator[MarketEvent]) -> Iterator[MarketEvent]:
    yield first
    yield from rest


class _Row(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """One row of a frame's data, keys in the exchange's order."""

    symbol: str


class _Lv2Row(_Row, frozen=True, kw_only=True, gc=False):
    create_time: int
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]
    last_id: int
    id: int
    ts: int


class _BookRow(_Row, frozen=True, kw_only=True, gc=False):
    create_time: int
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]
    id: int
    ts: int


class _TradeRow(_Row, frozen=True, kw_only=True, gc=False):
    amount: str
    taker_side: TakerSide
    quantity: str
    create_time: int
    price: str
    id: str
    ts: int


class _CandleRow(_Row, frozen=True, kw_only=True, gc=False):
    open: str
    high: str
    low: str
    close: str
    amount: str
    quantity: str
    trade_count: int
    start_time: int
    close_time: int
    ts: int


class _TickerRow(_Row, frozen=True, kw_only=True, gc=False):
    start_time: int
    open: str
    high: str
    low: str
    close: str
    quantity: str
    amount: str
    trade_count: int
    daily_change: str
    mark_price: str
    close_time: int
    ts: int


class _Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    channel: str
    data: tuple[_Row]
    action: Literal["snapshot", "update"] | None = None


_encode = msgspec.json.Encoder().encode
