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
from bot.core.instrument import Instrument, Side, scaled, scaled_down
from bot.core.text import safe_text
from bot.errors import BadReply, OffGrid
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import CANDLE_CHANNELS, MS_NS, Candle
from bot.exchange.poloniex.dialects import SPOT, MarketFrame, counting_contracts

TICK_NS: Final = 250_000_000
PPB_SCALE: Final = 9
TRADE_IDS_KEPT: Final = 1_000
"""Trades of one symbol that are told from repetitions."""
PRICES_KEPT: Final = 4_096
"""Prices of one symbol whose ticks are remembered."""


def sent_ns(frame: MarketFrame) -> int | None:
    """Return when the exchange sent a frame with market data; None for any other frame."""
    match frame:
        case (
            wire.BookFrame()
            | wire.TradesFrame()
            | wire.TickerFrame()
            | wire.CandlesFrame()
            | pw.MarkPriceFrame()
            | pw.FundingFrame()
        ):
            rows = frame.data
            if len(rows) == 1:  # nearly always: a loop over one row costs three times as much
                return rows[0].ts_ms * MS_NS
            return max((row.ts_ms for row in rows), default=0) * MS_NS or None
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

    __slots__ = ("_prices", "book", "builders", "candles", "instrument", "trade_ids")

    def __init__(self, instrument: Instrument, timeframes_ns: Iterable[int]) -> None:
        self.instrument = counting_contracts(instrument)
        self._prices: dict[str, int] = {}
        """Prices of the book as text to ticks, the newest few thousand."""
        self.book = Book()
        self.trade_ids = _RecentIds()
        wanted = sorted(set(timeframes_ns))
        self.candles = {length: CandleFollower() for length in wanted if length in CANDLE_CHANNELS}
        self.builders = [BarBuilder(instrument.symbol, length) for length in wanted if length not in CANDLE_CHANNELS]

    def relist(self, instrument: Instrument) -> None:
        """Take the exchange's steps, which may have changed."""
        self.instrument = counting_contracts(instrument)
        self._prices.clear()

    def levels(self, levels: wire.Levels) -> list[tuple[int, int]]:
        """Return levels in (price_ticks, qty_lots). Raises as `scaled` does, and BadReply for a price of 0."""
        prices, price_scale, quantity_scale = self._prices, self.instrument.price_scale, self.instrument.quantity_scale
        made: list[tuple[int, int]] = []
        for price, quantity in levels:
            # A book names the same prices, and "0", again and again: not to convert them halves the cost of a frame.
            ticks = prices.get(price)
            if ticks is None:
                if len(prices) >= PRICES_KEPT:
                    prices.clear()
                ticks = prices[price] = _positive(scaled(price, price_scale), "price")
            made.append((ticks, scaled(quantity, quantity_scale) if quantity != "0" else 0))
        return made


class MarketData:
    """Books, bars and candles of the symbols that the bot watches."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        timeframes_ns: Mapping[str, Iterable[int]],
        channels: Sequence[str] = SPOT.channels,
    ) -> None:
        """`timeframes_ns`: by symbol, the bar lengths that some strategy watches; `channels`: those beside candles."""
        self._topics = channels
        self._markets = {
            instrument.symbol: _Market(instrument, timeframes_ns.get(instrument.symbol, ()))
            for instrument in instruments
        }
        self._ticked_ns = 0
        self._changed: dict[str, Book] = {}
        """Books that changed and were not said yet, by symbol."""
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
        return [*self._topics, *(CANDLE_CHANNELS[length] for length in lengths)]

    def list_instruments(self, instruments: Iterable[Instrument], now_ns: int) -> Iterator[m.AnyMessage]:
        """Take the exchange's steps and minimums; say those of our symbols."""
        for instrument in instruments:
            market = self._markets.get(instrument.symbol)
            if market is not None:
                market.relist(instrument)
                yield m.InstrumentListed(ts_ns=now_ns, instrument=instrument)

    def handle(self, frame: MarketFrame, now_ns: int) -> Iterator[m.AnyMessage]:
        """Return all that a frame that came in at `now_ns` says. Raises as `take` does."""
        yield from self.take(frame, now_ns)
        yield from self.books(now_ns)

    def books(self, now_ns: int) -> list[m.AnyMessage]:
        """Return each book that changed since the last call: of several changes, the last."""
        said: list[m.AnyMessage] = []
        for symbol, book in self._changed.items():
            said += _quote(symbol, book, now_ns)
        self._changed.clear()
        return said

    def take(self, frame: MarketFrame, now_ns: int) -> Iterator[m.AnyMessage]:
        """Return what a frame says, but for the books that it changes: those wait for `books`.

        Raises:
            BadReply: a price or a quantity is no number, or lies between two steps.

        """
        try:
            match frame:
                case wire.BookFrame():
                    for row in frame.data:
                        lost = self._on_book(row, frame.action == "snapshot", now_ns)
                        if lost is not None:
                            yield lost
                case wire.TradesFrame():
                    for row in frame.data:
                        yield from self._on_trade(row, now_ns)
                case wire.TickerFrame():
                    for row in frame.data:
                        yield from self._on_ticker(row, now_ns)
                case wire.CandlesFrame():
                    for row in frame.data:
                        yield from self._on_candle(row, frame.timeframe_ns, now_ns)
                case pw.MarkPriceFrame():
                    for row in frame.data:
                        yield from self._on_mark(row.symbol, f"{row.price:f}", now_ns)
                case pw.FundingFrame():
                    for row in frame.data:
                        yield from self._on_funding(row, now_ns)
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
        self._changed.clear()
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

    def _on_book(self, row: wire.BookRow, is_snapshot: bool, now_ns: int) -> m.BookLost | None:
        symbol = row.symbol
        market = self._markets.get(symbol)
        if market is None:
            return None
        book = market.book
        bids, asks = market.levels(row.bids), market.levels(row.asks)
        was_whole = book.is_whole
        applied = book.replace(row.id, bids, asks) if is_snapshot else book.update(row.last_id, row.id, bids, asks)
        # `is` instead of a match, which would look up each case's name: this runs for every frame.
        if applied is Applied.CHANGED:
            self.broken.discard(symbol)
            self._changed[symbol] = book
            return None
        if applied is Applied.REPEATED:
            self.repeated += 1
            return None
        self.broken.add(symbol)
        if applied is Applied.WAITING:
            return None
        self.gaps += 1
        self._changed.pop(symbol, None)
        return m.BookLost(ts_ns=now_ns, symbol=symbol, reason=f"book {applied.value}") if was_whole else None

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
        if row.mark_price:
            yield from self._on_mark(row.symbol, row.mark_price, now_ns)

    def _on_mark(self, symbol: str, price: str, now_ns: int) -> Iterator[m.AnyMessage]:
        market = self._markets.get(symbol)
        if market is None:
            return
        ticks = scaled_down(price, market.instrument.price_scale)
        if ticks:  # "0" stands for a market without one
            yield m.MarkPrice(ts_ns=now_ns, symbol=symbol, price_ticks=ticks)

    def _on_funding(self, row: pw.FundingFrameRow, now_ns: int) -> Iterator[m.AnyMessage]:
        """Say the next funding: the rate that is predicted for it, or the last one while none is."""
        if row.symbol not in self._markets:
            return
        rate = row.rate if row.next_rate is None else row.next_rate
        due_ns = row.next_funding_ms * MS_NS
        yield m.FundingRate(ts_ns=now_ns, symbol=row.symbol, rate_ppb=int(rate.scaleb(PPB_SCALE)), due_ns=due_ns)

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


def _quote(symbol: str, book: Book, now_ns: int) -> tuple[m.AnyMessage, ...]:
    bids, asks = book.bids, book.asks
    if not bids or not asks:
        return (m.BookLost(ts_ns=now_ns, symbol=symbol, reason="a side of the book is empty"),)
    (bid_ticks, bid_lots), (ask_ticks, ask_lots) = bids[0], asks[0]
    return (
        m.Depth(ts_ns=now_ns, symbol=symbol, bids=bids, asks=asks),
        m.Quote(
            ts_ns=now_ns,
            symbol=symbol,
            bid_ticks=bid_ticks,
            bid_lots=bid_lots,
            ask_ticks=ask_ticks,
            ask_lots=ask_lots,
            bids=bids,
            asks=asks,
        ),
    )


def _positive(value: int, name: str) -> int:
    if value <= 0:
        raise BadReply(f"a {name} of {value}, which must be more than 0")
    return value
