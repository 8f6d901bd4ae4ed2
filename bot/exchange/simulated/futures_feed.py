"""What everybody sees of the contracts: books, trades, candles, tickers, mark and index prices, funding.

As `venue` is for spot, with the rows of the dossier's futures-ws.md, section 2: `apply` takes what a matcher made
public, `sample` looks at mark and index. Frames of the wanted topics are kept until `take`, as they go on the wire.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final, Literal

import msgspec

from bot.exchange.simulated.books import Window
from bot.exchange.simulated.candles import INTERVALS, MINUTE_NS, Candle, CandleSeries, Interval
from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketEvent, MarketTrade
from bot.exchange.simulated.futures_instruments import Contract
from bot.exchange.simulated.futures_listing import listing
from bot.exchange.simulated.futures_positions import RATE_SCALE
from bot.exchange.simulated.futures_prices import CONTRACT_INTERVALS, FUNDING_NS, ContractPrices
from bot.exchange.simulated.venue import BOOK_DEPTHS, BPS_SCALE, MS_NS, PUSH_NS, Market, Publication, Topic, plain

CANDLES: Final = "candles_"
MARK_CANDLES: Final = "mark_price_candles_"
INDEX_CANDLES: Final = "index_candles_"
_LENGTHS: Final = tuple(interval.name.lower() for interval in INTERVALS)
CHANNELS: Final = frozenset(
    {"symbol", "tickers", "trades", "book_lv2", "mark_price", "index_price", "funding_rate"}
    | {f"book_{depth}" for depth in BOOK_DEPTHS}
    | {f"{kind}{length}" for kind in (CANDLES, MARK_CANDLES, INDEX_CANDLES) for length in _LENGTHS}
)
FUNDING_PUSH_NS: Final = MINUTE_NS
"""The predicted rate is pushed at most this often; push rates are not published."""

_CandleRow = tuple[str, str, str, str, str, str, str, int, int, int, int]
"""symbol, low, high, open, close, amount, quantity, trade count, start, end, time of sending."""
_PriceCandleRow = tuple[str, str, str, str, str, int, int, int]
"""symbol, low, high, open, close, start, end, time of sending: by REST it is open, high, low, close."""


class ContractMarket(Market):
    """One contract's market, with what it is valued at. Quantities are contracts."""

    def __init__(self, contract: Contract, first_ns: int) -> None:
        super().__init__(contract.instrument)
        self.series = tuple(CandleSeries(interval) for interval in CONTRACT_INTERVALS)
        self.contract = contract
        self.prices = ContractPrices(contract.symbol, first_ns)
        self.funding_pushed_ns = first_ns - FUNDING_PUSH_NS

    def price(self, ticks: int | None) -> str:
        """Return a price as text; 0 where there is none."""
        return self.price_texts[ticks or 0]

    def contract_levels(self, levels: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
        """Return levels as the exchange writes them."""
        prices = self.price_texts
        return [(prices[price], str(contracts)) for price, contracts in levels]

    @property
    def last_ticks(self) -> int:
        """Return the price of the last trade, or of the middle before one."""
        return self.trades[-1].price_ticks if self.trades else self.mark_ticks


class FuturesFeed:
    """All contracts' markets, and what they say to subscribers."""

    def __init__(self, contracts: Iterable[Contract], first_ns: int, wanted: Container[Topic]) -> None:
        self.time_ns = first_ns
        """The exchange's clock."""
        self.markets = {contract.symbol: ContractMarket(contract, first_ns) for contract in contracts}
        self._wanted = wanted
        self._out: list[Publication] = []
        self._unpushed: dict[str, ContractMarket] = {}

    @property
    def time_ms(self) -> int:
        """Return the exchange's clock in milliseconds."""
        return self.time_ns // MS_NS

    def take(self) -> list[Publication]:
        """Return what was said since the last call."""
        out, self._out = self._out, []
        return out

    def apply(self, event: MarketEvent) -> None:
        """Take what a matcher made public, not older than what came before."""
        self.time_ns = max(self.time_ns, event.ts_ns)
        market = self.markets[event.symbol]
        match event:
            case MarketTrade():
                self._on_trade(market, event)
            case BookChange():
                self._on_change(market, event)
            case BookSnapshot():
                self._on_snapshot(market, event)
        for unpushed in tuple(self._unpushed.values()):
            self._push(unpushed)

    def sample(self, market: ContractMarket, spot_mid_ticks: int | None) -> bool:
        """Look at mark and index, and say them; return whether they were taken anew."""
        if not market.prices.sample(self.time_ns, market.book.mid_ticks, spot_mid_ticks):
            return False
        symbol = market.contract.symbol
        if self._wants("mark_price", symbol):
            row = _MarkRow(s=symbol, m_px=market.price(market.prices.mark_ticks), ts=self.time_ms)
            self._say("mark_price", symbol, row)
        if self._wants("index_price", symbol):
            row = _IndexRow(s=symbol, i_px=market.price(market.prices.index_ticks), ts=self.time_ms)
            self._say("index_price", symbol, row)
        for kind, series in ((MARK_CANDLES, market.prices.mark_series), (INDEX_CANDLES, market.prices.index_series)):
            for one in series:
                channel = f"{kind}{one.interval.name.lower()}"
                if self._wants(channel, symbol):
                    self._say(channel, symbol, self._price_candle(market, one))
        if self.time_ns >= market.funding_pushed_ns + FUNDING_PUSH_NS:
            self.say_funding(market)
        return True

    def say_funding(self, market: ContractMarket) -> None:
        """Say the last and the predicted funding rate."""
        market.funding_pushed_ns = self.time_ns
        if self._wants("funding_rate", market.contract.symbol):
            self._say("funding_rate", market.contract.symbol, self.funding_row(market))

    def funding_row(self, market: ContractMarket) -> FundingRow:
        """Return the last rate and its time, the predicted rate and the next time."""
        prices = market.prices
        last = prices.fundings[-1] if prices.fundings else None
        return FundingRow(
            s=market.contract.symbol,
            f_r=plain(last.rate if last else prices.rate, RATE_SCALE),
            f_t=(last.ts_ns if last else prices.next_funding_ns - FUNDING_NS) // MS_NS,
            n_f_r=plain(prices.rate, RATE_SCALE),
            n_f_t=prices.next_funding_ns // MS_NS,
            ts=self.time_ms,
        )

    def opening(self, channel: str, symbol: str) -> list[bytes]:
        """Return what a new subscriber of a topic is sent after its acknowledgement."""
        market = self.markets[symbol]
        if channel == "symbol":
            return [_encode(_Frame(channel=channel, data=(listing(market.contract),), action="snapshot"))]
        if channel == "funding_rate":  # it is said once a minute: too long to wait for the first
            return [_encode(_Frame(channel=channel, data=(self.funding_row(market),)))]
        if not market.book.is_known:
            return []
        if channel == "book_lv2":
            return [self._lv2(market, market.book.window, market.book.id - 1, "snapshot")]
        if channel.startswith("book_"):
            return [_encode(_Frame(channel="book", data=(self._top(market, int(channel.removeprefix("book_"))),)))]
        return []

    # --- what happens

    def _on_trade(self, market: ContractMarket, trade: MarketTrade) -> None:
        symbol, amount = trade.symbol, trade.price_ticks * trade.qty_lots
        market.trades.append(trade)
        if self._wants("trades", symbol):
            self._say("trades", symbol, self._trade(market, trade, amount))
        for series in market.series:
            ended = series.add(trade, amount)
            # The last state of a candle is always said, before its successor is.
            if ended is not None and market.is_push_due:
                self._say_candle(market, series.interval, ended)
        market.is_push_due = True
        self._unpushed[symbol] = market

    def _on_change(self, market: ContractMarket, change: BookChange) -> None:
        before = market.book.window
        changed = market.book.apply(change.bids, change.asks)
        if changed is None:
            return
        if self._wants("book_lv2", change.symbol):
            payload = self._lv2(market, changed, market.book.id - 1, "update")
            self._out.append(Publication("book_lv2", change.symbol, payload))
        self._push_tops(market, before)

    def _on_snapshot(self, market: ContractMarket, snapshot: BookSnapshot) -> None:
        before = market.book.window
        market.book.replace(snapshot.bids, snapshot.asks)
        if self._wants("book_lv2", snapshot.symbol):
            payload = self._lv2(market, market.book.window, market.book.id - 1, "snapshot")
            self._out.append(Publication("book_lv2", snapshot.symbol, payload))
        self._push_tops(market, before)

    def _push_tops(self, market: ContractMarket, before: Window) -> None:
        symbol, after = market.contract.symbol, market.book.window
        for depth in BOOK_DEPTHS:
            is_changed = before.bids[:depth] != after.bids[:depth] or before.asks[:depth] != after.asks[:depth]
            if is_changed and self._wants(f"book_{depth}", symbol):
                payload = _encode(_Frame(channel="book", data=(self._top(market, depth),)))
                self._out.append(Publication(f"book_{depth}", symbol, payload))

    def _push(self, market: ContractMarket) -> None:
        """Say what trades have changed, if the last time was long enough ago."""
        if self.time_ns < market.pushed_ns + PUSH_NS:
            return
        symbol = market.contract.symbol
        market.pushed_ns = self.time_ns
        market.is_push_due = False
        del self._unpushed[symbol]
        for series in market.series:
            self._say_candle(market, series.interval, series.candles[-1])
        if self._wants("tickers", symbol):
            self._say("tickers", symbol, self.ticker(market))

    # --- rows

    def _wants(self, channel: str, symbol: str) -> bool:
        return (channel, symbol) in self._wanted

    def _say(self, channel: str, symbol: str, row: object) -> None:
        self._out.append(Publication(channel, symbol, _encode(_Frame(channel=channel, data=(row,)))))

    def _say_candle(self, market: ContractMarket, interval: Interval, candle: Candle) -> None:
        symbol = market.contract.symbol
        if self._wants(interval.channel, symbol):
            self._say(interval.channel, symbol, self._candle(market, candle))

    def _candle(self, market: ContractMarket, candle: Candle) -> _CandleRow:
        prices = market.price_texts
        return (
            market.contract.symbol,
            prices[candle.low_ticks],
            prices[candle.high_ticks],
            prices[candle.open_ticks],
            prices[candle.close_ticks],
            market.amount_text(candle.amount),
            str(candle.qty_lots),
            candle.trade_count,
            candle.start_ns // MS_NS,
            candle.end_ns // MS_NS - 1,
            self.time_ms,
        )

    def _price_candle(self, market: ContractMarket, series: CandleSeries) -> _PriceCandleRow:
        prices, candle = market.price_texts, series.candles[-1]
        low, high = prices[candle.low_ticks], prices[candle.high_ticks]
        first, last = prices[candle.open_ticks], prices[candle.close_ticks]
        times = candle.start_ns // MS_NS, candle.end_ns // MS_NS - 1, self.time_ms
        return (market.contract.symbol, low, high, first, last, *times)

    def _trade(self, market: ContractMarket, trade: MarketTrade, amount: int) -> _TradeRow:
        return _TradeRow(
            id=int(trade.trade_id),
            ts=self.time_ms,
            s=trade.symbol,
            px=market.price_texts[trade.price_ticks],
            qty=str(trade.qty_lots),
            amt=market.amount_text(amount),
            side=trade.taker_side,
            c_t=trade.ts_ns // MS_NS,
        )

    def _top(self, market: ContractMarket, depth: int) -> _BookRow:
        return _BookRow(
            s=market.contract.symbol,
            asks=market.contract_levels(market.book.window.asks[:depth]),
            bids=market.contract_levels(market.book.window.bids[:depth]),
            id=market.book.id,
            ts=self.time_ms,
            c_t=self.time_ms,
        )

    def _lv2(
        self, market: ContractMarket, levels: Window, last_id: int, action: Literal["snapshot", "update"]
    ) -> bytes:
        row = _Lv2Row(
            s=market.contract.symbol,
            asks=market.contract_levels(levels.asks),
            bids=market.contract_levels(levels.bids),
            lid=last_id,
            id=market.book.id,
            ts=self.time_ms,
            c_t=self.time_ms,
        )
        return _encode(_Frame(channel="book_lv2", data=(row,), action=action))

    def ticker(self, market: ContractMarket) -> TickerRow:
        """Return the last 24 hours, and the best bid and ask."""
        day, prices, window = market.day(self.time_ns), market.price_texts, market.book.window
        bid, ask = (window.bids or [(0, 0)])[0], (window.asks or [(0, 0)])[0]
        return TickerRow(
            s=market.contract.symbol,
            o=prices[day.open_ticks],
            l=prices[day.low_ticks],
            h=prices[day.high_ticks],
            c=prices[day.close_ticks],
            qty=str(day.qty_lots),
            amt=market.amount_text(day.amount),
            t_c=day.trade_count,
            s_t=day.start_ns // MS_NS,
            c_t=self.time_ms,
            d_c=plain(day.change_bps, BPS_SCALE),
            b_px=prices[bid[0]],
            b_sz=str(bid[1]),
            a_px=prices[ask[0]],
            a_sz=str(ask[1]),
            ts=self.time_ms,
        )


class _Row(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """One row of a frame's data, keys in the exchange's order."""


class TickerRow(_Row, frozen=True, kw_only=True, gc=False):
    """A ticker, by either way."""

    s: str
    o: str
    l: str  # noqa: E741 - the exchange's key
    h: str
    c: str
    qty: str
    amt: str
    t_c: int
    s_t: int
    c_t: int
    d_c: str
    b_px: str
    b_sz: str
    a_px: str
    a_sz: str
    ts: int


class FundingRow(_Row, frozen=True, kw_only=True, gc=False):
    """Funding, by either way."""

    s: str
    f_r: str
    f_t: int
    n_f_r: str
    n_f_t: int
    ts: int


class _MarkRow(_Row, frozen=True, kw_only=True, gc=False):
    s: str
    m_px: str
    ts: int


class _IndexRow(_Row, frozen=True, kw_only=True, gc=False):
    s: str
    i_px: str
    ts: int


class _TradeRow(_Row, frozen=True, kw_only=True, gc=False):
    id: int
    ts: int
    s: str
    px: str
    qty: str
    amt: str
    side: Literal["buy", "sell"]
    c_t: int


class _BookRow(_Row, frozen=True, kw_only=True, gc=False):
    s: str
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]
    id: int
    ts: int
    c_t: int


class _Lv2Row(_Row, frozen=True, kw_only=True, gc=False):
    s: str
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]
    lid: int
    id: int
    ts: int
    c_t: int


class _Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    channel: str
    data: tuple[object]
    action: Literal["snapshot", "update"] | None = None


_encode = msgspec.json.Encoder().encode
