"""The machine of the feed: Poloniex's frames in, quotes, trades, bars and mark prices out.

It holds the local books. It never lets a price out of a book that may be wrong: after a gap the book is lost, and the
symbol stands in `broken` until its channel is subscribed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.bars import BarBuilder, CandleFollower
from bot.core.book import Applied, Book
from bot.core.instrument import Instrument, Side, scaled_down
from bot.core.text import safe_text
from bot.errors import BadReply, OffGrid
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import CANDLE_CHANNELS, MS_NS, Candle

TICK_NS: Final = 250_000_000
BOOK: Final = "book_lv2"
TRADES: Final = "trades"
TICKER: Final = "ticker"
TRADE_IDS_KEPT: Final = 1_000
"""Trades of one symbol that are told from repetitions."""


def sent_ns(frame: wire.Frame) -> int | None:
    """Return when the exchange sent a frame with market data; None for any other frame."""
    match frame:
        case wire.BookFrame() | wire.TradesFrame() | wire.TickerFrame() | wire.CandlesFrame():
            return max((row.ts_ms for row in frame.data), default=0) * MS_NS or None
        case _:
            return None


class _RecentIds:
    """The newest ids of a stream."""

    __slots__ = ("_known", "_order")

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._order: deque[str] = deque()

    def is_new(self, trade_id: str) -> bool:
        """Return whether `trade_id` was not seen lately; it has been, from now on."""
        if trade_id in self._known:
            return False
        self._known.add(trade_id)
        self._order.append(trade_id)
        if len(self._order) > TRADE_IDS_KEPT:
            self._known.discard(self._order.popleft())
        return True


class _Market:
    """What is kept of one symbol."""

    __slots__ = ("book", "builders", "candles", "instrument", "trade_ids")

    def __init__(self, instrument: Instrument, timeframes_ns: Iterable[int]) -> None:
        self.instrument = instrument
        self.book = Book()
        self.trade_ids = _RecentIds()
        wanted = sorted(set(timeframes_ns))
        self.candles = {length: CandleFollower() for length in wanted if length in CANDLE_CHANNELS}
        self.builders = [BarBuilder(instrument.symbol, length) for length in wanted if length not in CANDLE_CHANNELS]


class MarketData:
    """Books, bars and candles of the symbols that the bot watches."""

    def __init__(self, instruments: Sequence[Instrument], timeframes_ns: Mapping[str, Iterable[int]]) -> None:
        """`timeframes_ns`: by symbol, the bar lengths that some strategy watches."""
        self._markets = {
            instrument.symbol: _Market(instrument, timeframes_ns.get(instrument.symbol, ()))
            for instrument in instruments
        }
        self._ticked_ns = 0
        self.broken: set[str] = set()
        """Symbols whose book must be subscribed again."""
        self.repeated = 0
        """Frames that said again what was known."""
        self.gaps = 0

    @property
    def symbols(self) -> list[str]:
        """Return the symbols watched."""
        return list(self._markets)

    @property
    def channels(self) -> list[str]:
        """Return the channels to subscribe, in a fixed order."""
        lengths = sorted({length for market in self._markets.values() for length in market.candles})
        return [BOOK, TRADES, TICKER, *(CANDLE_CHANNELS[length] for length in lengths)]

    def list_instruments(self, instruments: Iterable[Instrument], now_ns: int) -> Iterator[m.AnyMessage]:
        """Take the exchange's steps and minimums; say those of our symbols."""
        for instrument in instruments:
            market = self._markets.get(instrument.symbol)
            if market is not None:
                market.instrument = instrument
                yield m.InstrumentListed(ts_ns=now_ns, instrument=instrument)

    def handle(self, frame: wire.Frame, now_ns: int) -> Iterator[m.AnyMessage]:
        """Return what a frame that came in at `now_ns` says.

        Raises:
            BadReply: a price or a quantity is no number, or lies between two steps.

        """
        try:
            match frame:
                case wire.BookFrame():
                    for row in frame.data:
                        yield from self._on_book(row, frame.action == "snapshot", now_ns)
                case wire.TradesFrame():
                    for row in frame.data:
                        yield from self._on_trade(row, now_ns)
                case wire.TickerFrame():
                    for row in frame.data:
                        yield from self._on_ticker(row, now_ns)
                case wire.CandlesFrame():
                    for row in frame.data:
                        yield from self._on_candle(row, frame.timeframe_ns, now_ns)
                case _:
                    pass
        except OffGrid as error:
            raise BadReply(f"off the grid: {error}") from error

    def on_time(self, now_ns: int) -> Iterator[m.AnyMessage]:
        """Return the bars that are over at `now_ns` and a tick, if the last one is `TICK_NS` ago."""
        if now_ns - self._ticked_ns < TICK_NS:
            return
        self._ticked_ns = now_ns
        for market in self._markets.values():
            for follower in (*market.builders, *market.candles.values()):
                bar = follower.close_until(now_ns)
                if bar is not None:
                    yield bar
        yield m.Tick(ts_ns=now_ns)

    def lose_all(self, now_ns: int, reason: str) -> Iterator[m.AnyMessage]:
        """The connection is gone: no book is known, and a bar or candle that misses trades would be a wrong one."""
        self.broken.clear()
        for symbol, market in self._markets.items():
            market.book.lose()
            for follower in (*market.builders, *market.candles.values()):
                follower.lose()
            yield m.BookLost(ts_ns=now_ns, symbol=symbol, reason=reason)

    # --- candles by REST

    def repairs(self) -> list[tuple[Instrument, int, int]]:
        """Return what to ask for by REST: instrument, timeframe, start of the last candle known (-1: none)."""
        return [
            (market.instrument, length, follower.done_ns)
            for market in self._markets.values()
            for length, follower in market.candles.items()
        ]

    def repair(self, symbol: str, timeframe_ns: int, candles: Sequence[Candle], now_ns: int) -> Iterator[m.AnyMessage]:
        """Take candles of a REST answer, oldest first; say those that are over and new.

        Only the last of them, and only when others were known already, asks for orders: the rest is history.
        """
        follower = self._markets[symbol].candles[timeframe_ns]
        is_first = follower.done_ns < 0
        bars = [
            m.Bar(
                ts_ns=now_ns,
                symbol=symbol,
                timeframe_ns=timeframe_ns,
                start_ns=candle.start_ns,
                open_ticks=candle.open_ticks,
                high_ticks=candle.high_ticks,
                low_ticks=candle.low_ticks,
                close_ticks=candle.close_ticks,
                volume_lots=candle.volume_lots,
                is_history=True,
            )
            for candle in candles
        ]
        fresh = follower.restore(bars)
        if fresh and not is_first:
            fresh[-1] = msgspec.structs.replace(fresh[-1], is_history=False)
        yield from fresh

    # --- frames

    def _on_book(self, row: wire.BookRow, is_snapshot: bool, now_ns: int) -> Iterator[m.AnyMessage]:
        market = self._markets.get(row.symbol)
        if market is None:
            return
        instrument, book = market.instrument, market.book
        bids, asks = _levels(instrument, row.bids), _levels(instrument, row.asks)
        was_whole = book.is_whole
        applied = book.replace(row.id, bids, asks) if is_snapshot else book.update(row.last_id, row.id, bids, asks)
        match applied:
            case Applied.CHANGED:
                self.broken.discard(row.symbol)
                yield from _quote(row.symbol, book, now_ns)
            case Applied.REPEATED:
                self.repeated += 1
            case Applied.GAP | Applied.CROSSED:
                self.gaps += 1
                self.broken.add(row.symbol)
                if was_whole:
                    yield m.BookLost(ts_ns=now_ns, symbol=row.symbol, reason=f"book {applied.value}")
            case Applied.WAITING:
                self.broken.add(row.symbol)

    def _on_trade(self, row: wire.TradeRow, now_ns: int) -> Iterator[m.AnyMessage]:
        market = self._markets.get(row.symbol)
        if market is None:
            return
        trade_id = safe_text(row.trade_id, 64)
        if not market.trade_ids.is_new(trade_id):
            self.repeated += 1
            return
        instrument = market.instrument
        trade = m.TradeTick(
            ts_ns=now_ns,
            symbol=row.symbol,
            trade_id=trade_id,
            price_ticks=_positive(instrument.price_ticks(row.price), "price"),
            qty_lots=_positive(instrument.qty_lots(row.quantity), "quantity"),
            taker_side=Side.BUY if row.taker_side.upper() == "BUY" else Side.SELL,
        )
        yield trade
        for builder in market.builders:
            bar = builder.add(trade)
            if bar is not None:
                yield bar

    def _on_ticker(self, row: wire.TickerRow, now_ns: int) -> Iterator[m.AnyMessage]:
        market = self._markets.get(row.symbol)
        if market is None or not row.mark_price:
            return
        ticks = scaled_down(row.mark_price, market.instrument.price_scale)
        if ticks:  # "0" stands for a market without one
            yield m.MarkPrice(ts_ns=now_ns, symbol=row.symbol, price_ticks=ticks)

    def _on_candle(self, row: wire.CandleRow, timeframe_ns: int, now_ns: int) -> Iterator[m.AnyMessage]:
        market = self._markets.get(row.symbol)
        follower = market.candles.get(timeframe_ns) if market is not None else None
        if market is None or follower is None:
            return
        instrument = market.instrument
        bar = m.Bar(
            ts_ns=now_ns,
            symbol=row.symbol,
            timeframe_ns=timeframe_ns,
            start_ns=row.start_ms * MS_NS,
            open_ticks=_positive(scaled_down(row.open, instrument.price_scale), "open"),
            high_ticks=_positive(scaled_down(row.high, instrument.price_scale), "high"),
            low_ticks=_positive(scaled_down(row.low, instrument.price_scale), "low"),
            close_ticks=_positive(scaled_down(row.close, instrument.price_scale), "close"),
            volume_lots=scaled_down(row.quantity, instrument.quantity_scale),
        )
        if (
            not bar.low_ticks
            <= min(bar.open_ticks, bar.close_ticks)
            <= max(bar.open_ticks, bar.close_ticks)
            <= bar.high_ticks
        ):
            raise BadReply(
                f"{row.symbol}: a candle whose low {row.low} and high {row.high} do not hold {row.open} and {row.close}"
            )
        done = follower.update(bar)
        if done is not None:
            yield done


def _quote(symbol: str, book: Book, now_ns: int) -> Iterator[m.AnyMessage]:
    bid, ask = book.best_bid, book.best_ask
    if bid is None or ask is None:
        yield m.BookLost(ts_ns=now_ns, symbol=symbol, reason="a side of the book is empty")
        return
    yield m.Depth(ts_ns=now_ns, symbol=symbol, bids=book.bids, asks=book.asks)
    yield m.Quote(ts_ns=now_ns, symbol=symbol, bid_ticks=bid[0], bid_lots=bid[1], ask_ticks=ask[0], ask_lots=ask[1])


def _levels(instrument: Instrument, levels: wire.Levels) -> list[tuple[int, int]]:
    return [
        (_positive(instrument.price_ticks(price), "price"), instrument.qty_lots(quantity)) for price, quantity in levels
    ]


def _positive(value: int, name: str) -> int:
    if value <= 0:
        raise BadReply(f"a {name} of {value}, which must be more than 0")
    return value
