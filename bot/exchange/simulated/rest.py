"""The public spot REST calls, answered from a `Venue`. Pure; source: the dossier's spot-rest.md, sections 1, 4 and 11.

Private calls are not here: a path that is not served is answered with 404, never with invented data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Final, Literal

from bot.core.instrument import ATOM_SCALE, Instrument
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.books import BookSide
from bot.exchange.simulated.candles import Candle, Interval
from bot.exchange.simulated.events import Level
from bot.exchange.simulated.reference import (
    BorrowTier,
    CoinRow,
    CollateralRow,
    CurrencyRow,
    MarkComponents,
    borrow_tiers,
    coin_row,
    currencies,
    currency_row,
    mark_components,
)
from bot.exchange.simulated.replies import (
    INVALID_PARAMETER,
    MS_MAX,
    OK,
    Query,
    Refusal,
    Reply,
    Shape,
    decoded_query,
    encode,
    integer,
)
from bot.exchange.simulated.venue import BPS_SCALE, MS_NS, TRADES_KEPT, Market, Venue, plain

ORDER_BOOK_LIMITS: Final = (5, 10, 20, 50, 100, 150)
ORDER_BOOK_DEFAULT: Final = 10
CANDLES_DEFAULT: Final = 100
CANDLES_MAX: Final = 500
TRADES_DEFAULT: Final = 500
MAX_LEVERAGE: Final = 3
LISTED_MS: Final = 1_659_259_389_000
"""2022-07-31, when the real exchange opened its present markets; all of ours are as old."""

BAD_CURRENCY: Final = 21705
BAD_SYMBOL: Final = 24101
BAD_INTERVAL: Final = 24102
BAD_END_TIME: Final = 24103
BAD_LIMIT: Final = 24104
BAD_START_TIME: Final = 24105
BAD_DEPTH: Final = 24106
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405


def answer(venue: Venue, method: str, path: str, query: str = "") -> Reply:
    """Return the exchange's answer to a request; `path` is decoded, `query` as on the wire, without its `?`."""
    try:
        return Reply(OK, encode(_result(venue, method, path, query)))
    except Refusal as refusal:
        return refusal.reply


def _result(venue: Venue, method: str, path: str, query: str) -> object:
    call = _call(path.removeprefix("/").removesuffix("/"))
    if call is None:
        raise Refusal(NOT_FOUND, f"Not Found: {path[:100]}", NOT_FOUND)
    if method != "GET":
        raise Refusal(METHOD_NOT_ALLOWED, f"Method Not Allowed: {method[:20]}", METHOD_NOT_ALLOWED)
    return call(venue, decoded_query(query))


def _call(route: str) -> _Call | None:
    """Return what answers a route, or None where nothing does."""
    whole = _WHOLE.get(route)
    if whole is not None:
        return lambda venue, _query: whole(venue)
    collection, _, rest = route.partition("/")
    name, _, call = rest.partition("/")
    part = _OF_ONE.get(call) if collection == "markets" and name else None
    if part is not None:
        return partial(_of_market, part, name)
    collection, _, name = route.rpartition("/")
    if route.endswith("/collateralInfo"):
        collection, name = "collateralInfo", route.removeprefix("markets/").removesuffix("/collateralInfo")
    of_currency = _OF_CURRENCY.get(collection) if name else None
    return partial(_of_currency, of_currency, name) if of_currency is not None else None


def _of_market(part: Callable[[Venue, Market, Query], object], symbol: str, venue: Venue, query: Query) -> object:
    market = venue.markets.get(symbol)
    if market is None:
        raise Refusal(BAD_SYMBOL, f"Invalid symbol: {symbol[:40]}")
    return part(venue, market, query)


def _of_currency(row: Callable[[str], object], currency: str, venue: Venue, _query: Query) -> object:
    if currency not in currencies(venue):
        raise Refusal(BAD_CURRENCY, f"Invalid currency: {currency[:40]}")
    return row(currency)


def _limit(query: Query, default: int, most: int) -> int:
    return integer(query, "limit", default, 1, most, BAD_LIMIT)


# --- all markets and currencies


def _timestamp(venue: Venue) -> _ServerTime:
    return _ServerTime(server_time=venue.time_ms)


def _markets(venue: Venue) -> list[_Listing]:
    return [listing(venue, market) for market in venue.markets.values()]


def _currencies(venue: Venue) -> list[dict[str, CurrencyRow]]:
    return [currency_row(currency) for currency in currencies(venue)]


def _coins(venue: Venue) -> list[CoinRow]:
    return [coin_row(currency) for currency in currencies(venue)]


def _collaterals(venue: Venue) -> list[CollateralRow]:
    return [_collateral(currency) for currency in currencies(venue)]


def _collateral(currency: str) -> CollateralRow:
    return CollateralRow(currency=currency)


def _borrow_rates(venue: Venue) -> list[BorrowTier]:
    return borrow_tiers(currencies(venue))


def _prices(venue: Venue) -> list[_Price]:
    return [_price(venue, market) for market in venue.markets.values()]


def _mark_prices(venue: Venue) -> list[_MarkPrice]:
    return [_mark_price(venue, market) for market in venue.markets.values()]


def _tickers(venue: Venue) -> list[_Ticker]:
    return [_ticker(venue, market) for market in venue.markets.values()]


# --- one market


def _listing_of_one(venue: Venue, market: Market, _query: Query) -> list[_Listing]:
    # The Python SDK's docstring promises an object; the pages and the Java SDK say an array of one.
    return [listing(venue, market)]


def listing(venue: Venue, market: Market) -> _Listing:
    """Return a market, as `/markets` and the channel `symbols` show it."""
    instrument = market.instrument
    return _Listing(
        symbol=instrument.symbol,
        base_currency_name=instrument.base,
        quote_currency_name=instrument.quote,
        display_name=instrument.symbol.replace("_", "/", 1),
        state=_state(venue, instrument),
        visible_start_time=LISTED_MS,
        tradable_start_time=LISTED_MS,
        symbol_trade_limit=_TradeLimit(
            symbol=instrument.symbol,
            price_scale=instrument.price_scale,
            quantity_scale=instrument.quantity_scale,
            amount_scale=instrument.price_scale,
            min_quantity=plain(instrument.qty_lots_min, instrument.quantity_scale),
            min_amount=plain(instrument.notional_atoms_min, ATOM_SCALE),
            max_quantity=plain(instrument.limit_lots_max, instrument.quantity_scale),
            max_amount=plain(instrument.notional_atoms_max, ATOM_SCALE),
        ),
        cross_margin=_CrossMargin(),
    )


def _state(venue: Venue, instrument: Instrument) -> _State:
    if not instrument.is_open:
        return "PAUSE"
    return "POST_ONLY" if venue.is_post_only or instrument.is_post_only else "NORMAL"


def _price(venue: Venue, market: Market, _query: Query | None = None) -> _Price:
    day = market.day(venue.time_ns)
    return _Price(
        symbol=market.instrument.symbol,
        price=market.price_texts[day.close_ticks],
        time=market.trades[-1].ts_ns // MS_NS if market.trades else venue.time_ms,
        daily_change=plain(day.change_bps, BPS_SCALE),
        ts=venue.time_ms,
    )


def _mark_price(venue: Venue, market: Market, _query: Query | None = None) -> _MarkPrice:
    mark_price = market.price_texts[market.mark_ticks]
    return _MarkPrice(symbol=market.instrument.symbol, mark_price=mark_price, time=venue.time_ms)


def _mark_components(venue: Venue, market: Market, _query: Query) -> MarkComponents:
    return mark_components(venue, market)


def _ticker(venue: Venue, market: Market, _query: Query | None = None) -> _Ticker:
    day, prices, window = market.day(venue.time_ns), market.price_texts, market.book.window
    bid, bid_quantity = market.levels(window.bids[:1] or [(0, 0)])[0]
    ask, ask_quantity = market.levels(window.asks[:1] or [(0, 0)])[0]
    return _Ticker(
        symbol=market.instrument.symbol,
        open=prices[day.open_ticks],
        low=prices[day.low_ticks],
        high=prices[day.high_ticks],
        close=prices[day.close_ticks],
        quantity=market.quantity_texts[day.qty_lots],
        amount=market.amount_text(day.amount),
        trade_count=day.trade_count,
        start_time=day.start_ns // MS_NS,
        close_time=venue.time_ms,
        display_name=market.instrument.symbol.replace("_", "/", 1),
        daily_change=plain(day.change_bps, BPS_SCALE),
        bid=bid,
        bid_quantity=bid_quantity,
        ask=ask,
        ask_quantity=ask_quantity,
        ts=venue.time_ms,
        mark_price=prices[market.mark_ticks],
    )


def _order_book(venue: Venue, market: Market, query: Query) -> _OrderBook:
    limit = integer(query, "limit", ORDER_BOOK_DEFAULT, 1, max(ORDER_BOOK_LIMITS), BAD_DEPTH)
    if limit not in ORDER_BOOK_LIMITS:
        raise Refusal(BAD_DEPTH, f"Invalid limit: {limit}")
    step_ticks = _step_ticks(query, market.instrument)
    return _OrderBook(
        time=venue.time_ms,
        scale=market.price_texts[step_ticks],
        asks=_flat(market, _grouped(market.book.asks, step_ticks, limit, is_bid=False)),
        bids=_flat(market, _grouped(market.book.bids, step_ticks, limit, is_bid=True)),
        ts=venue.time_ms,
    )


def _step_ticks(query: Query, instrument: Instrument) -> int:
    text = query.get("scale")
    if text is None:
        return 1
    try:
        step_ticks = instrument.price_ticks(text)
    except (BadReply, OffGrid):
        step_ticks = 0
    if step_ticks == 0:
        raise Refusal(INVALID_PARAMETER, f"Invalid scale: {text[:40]}")
    return step_ticks


def _grouped(side: BookSide, step_ticks: int, limit: int, *, is_bid: bool) -> list[Level]:
    """Return up to `limit` levels of a side by steps of price; a bid counts in the step below it, an ask above."""
    if step_ticks == 1:
        return side.top(limit)
    groups: dict[int, int] = {}
    for price, lots in side.top(len(side)):
        group = (price // step_ticks if is_bid else -(-price // step_ticks)) * step_ticks
        if group not in groups and len(groups) == limit:
            break
        groups[group] = groups.get(group, 0) + lots
    return list(groups.items())


def _flat(market: Market, levels: list[Level]) -> list[str]:
    return [text for level in market.levels(levels) for text in level]


def _candles(venue: Venue, market: Market, query: Query) -> list[_CandleRow]:
    name = query.get("interval", "")
    series = next((series for series in market.series if series.interval.name == name), None)
    if series is None:
        raise Refusal(BAD_INTERVAL, f"Invalid interval: {name[:40]}")
    limit = _limit(query, CANDLES_DEFAULT, CANDLES_MAX)
    start_ms = integer(query, "startTime", 0, 0, MS_MAX, BAD_START_TIME)
    end_ms = integer(query, "endTime", venue.time_ms, 0, MS_MAX, BAD_END_TIME)
    if start_ms > end_ms:
        raise Refusal(BAD_START_TIME, f"Invalid startTime: {start_ms} > endTime {end_ms}")
    asked = [candle for candle in series.candles if start_ms <= candle.start_ns // MS_NS <= end_ms]
    # Of a range longer than `limit`, which end the exchange keeps is not known.
    kept = asked[:limit] if "startTime" in query else asked[-limit:]
    return [_candle_row(market, series.interval, candle) for candle in kept]


def _candle_row(market: Market, interval: Interval, candle: Candle) -> _CandleRow:
    prices, quantities = market.price_texts, market.quantity_texts
    return (
        prices[candle.low_ticks],
        prices[candle.high_ticks],
        prices[candle.open_ticks],
        prices[candle.close_ticks],
        market.amount_text(candle.amount),
        quantities[candle.qty_lots],
        market.amount_text(candle.buy_amount),
        quantities[candle.buy_qty_lots],
        candle.trade_count,
        candle.ts_ns // MS_NS,
        prices[candle.amount // candle.qty_lots],
        interval.name,
        candle.start_ns // MS_NS,
        candle.end_ns // MS_NS - 1,
    )


def _trades(venue: Venue, market: Market, query: Query) -> list[_Trade]:
    limit = _limit(query, TRADES_DEFAULT, TRADES_KEPT)
    newest_first = islice(reversed(market.trades), limit)
    return [
        _Trade(
            id=trade.trade_id,
            price=market.price_texts[trade.price_ticks],
            quantity=market.quantity_texts[trade.qty_lots],
            amount=market.amount_text(trade.price_ticks * trade.qty_lots),
            taker_side="BUY" if trade.taker_side == "buy" else "SELL",
            ts=venue.time_ms,
            create_time=trade.ts_ns // MS_NS,
        )
        for trade in newest_first
    ]


_WHOLE: Final[Mapping[str, Callable[[Venue], object]]] = {
    "timestamp": _timestamp,
    "markets": _markets,
    "markets/price": _prices,
    "markets/markPrice": _mark_prices,
    "markets/ticker24h": _tickers,
    "markets/collateralInfo": _collaterals,
    "markets/borrowRatesInfo": _borrow_rates,
    "currencies": _currencies,
    "v2/currencies": _coins,
}
_OF_ONE: Final[Mapping[str, Callable[[Venue, Market, Query], object]]] = {
    "": _listing_of_one,
    "price": _price,
    "markPrice": _mark_price,
    "orderBook": _order_book,
    "candles": _candles,
    "trades": _trades,
    "ticker24h": _ticker,
    "markPriceComponents": _mark_components,
}
_OF_CURRENCY: Final[Mapping[str, Callable[[str], object]]] = {
    "currencies": currency_row,
    "v2/currencies": coin_row,
    "collateralInfo": _collateral,
}
_Call = Callable[[Venue, Query], object]


_State = Literal["NORMAL", "PAUSE", "POST_ONLY"]
_CandleRow = tuple[str, str, str, str, str, str, str, str, int, int, str, str, int, int]
"""low, high, open, close, amount, quantity, buyTakerAmount, buyTakerQuantity, tradeCount, ts, weightedAverage,
interval, startTime, closeTime."""


class _ServerTime(Shape, frozen=True, kw_only=True):
    server_time: int


class _TradeLimit(Shape, frozen=True, kw_only=True):
    symbol: str
    price_scale: int
    quantity_scale: int
    amount_scale: int
    min_quantity: str
    min_amount: str
    max_quantity: str
    max_amount: str
    highest_bid: str = "0"
    lowest_ask: str = "0"


class _CrossMargin(Shape, frozen=True, kw_only=True):
    support_cross_margin: bool = True
    max_leverage: int = MAX_LEVERAGE


class _Listing(Shape, frozen=True, kw_only=True):
    symbol: str
    base_currency_name: str
    quote_currency_name: str
    display_name: str
    state: _State
    visible_start_time: int
    tradable_start_time: int
    symbol_trade_limit: _TradeLimit
    cross_margin: _CrossMargin


class _Price(Shape, frozen=True, kw_only=True):
    symbol: str
    price: str
    time: int
    daily_change: str
    ts: int


class _MarkPrice(Shape, frozen=True, kw_only=True):
    symbol: str
    mark_price: str
    time: int


class _Ticker(Shape, frozen=True, kw_only=True):
    symbol: str
    open: str
    low: str
    high: str
    close: str
    quantity: str
    amount: str
    trade_count: int
    start_time: int
    close_time: int
    display_name: str
    daily_change: str
    bid: str
    bid_quantity: str
    ask: str
    ask_quantity: str
    ts: int
    mark_price: str


class _OrderBook(Shape, frozen=True, kw_only=True):
    time: int
    scale: str
    asks: list[str]
    bids: list[str]
    ts: int


class _Trade(Shape, frozen=True, kw_only=True):
    id: str
    price: str
    quantity: str
    amount: str
    taker_side: Literal["BUY", "SELL"]
    ts: int
    create_time: int
