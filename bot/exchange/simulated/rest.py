"""The public spot REST calls, answered from a `Venue`. Pure; source: the dossier's spot-rest.md, sections 1, 4 and 11.

Private and margin calls are not here: a path that is not served is answered with 404, never with invented data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from bot.core.instrument import ATOM_SCALE, Instrument
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.books import BookSide
from bot.exchange.simulated.candles import Candle, Interval
from bot.exchange.simulated.events import Level
from bot.exchange.simulated.venue import BPS_SCALE, MS_NS, TRADES_KEPT, Market, Venue, plain

ORDER_BOOK_LIMITS: Final = (5, 10, 20, 50, 100, 150)
ORDER_BOOK_DEFAULT: Final = 10
CANDLES_DEFAULT: Final = 100
CANDLES_MAX: Final = 500
TRADES_DEFAULT: Final = 500
MAX_LEVERAGE: Final = 3
LISTED_MS: Final = 1_659_259_389_000
"""2022-07-31, when the real exchange opened its present markets; all of ours are as old."""
QUERY_FIELDS_MAX: Final = 50
INTEGER_DIGITS_MAX: Final = 19
MS_MAX: Final = 10**15

INVALID_PARAMETER: Final = 601
BAD_SYMBOL: Final = 24101
BAD_INTERVAL: Final = 24102
BAD_END_TIME: Final = 24103
BAD_LIMIT: Final = 24104
BAD_START_TIME: Final = 24105
BAD_DEPTH: Final = 24106
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
BAD_REQUEST: Final = 400
OK: Final = 200


Query = Mapping[str, str]
"""The parameters of a request, decoded."""


class Reply(NamedTuple):
    """HTTP status and JSON body."""

    status: int
    body: bytes


class _Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.reply = Reply(status, _encode(_Error(code=code, message=message)))


def answer(venue: Venue, method: str, path: str, query: str = "") -> Reply:
    """Return the exchange's answer to a request; `path` is decoded, `query` as on the wire, without its `?`."""
    try:
        return Reply(OK, _encode(_result(venue, method, path, query)))
    except _Refusal as refusal:
        return refusal.reply


def _result(venue: Venue, method: str, path: str, query: str) -> object:
    route = path.removeprefix("/").removesuffix("/")
    whole = _WHOLE.get(route)
    collection, _, rest = route.partition("/")
    symbol, _, call = rest.partition("/")
    part = _OF_ONE.get(call) if whole is None and collection == "markets" and symbol else None
    if whole is None and part is None:
        raise _Refusal(NOT_FOUND, f"Not Found: {path[:100]}", NOT_FOUND)
    if method != "GET":
        raise _Refusal(METHOD_NOT_ALLOWED, f"Method Not Allowed: {method[:20]}", METHOD_NOT_ALLOWED)
    if whole is not None:
        return whole(venue)
    assert part is not None
    market = venue.markets.get(symbol)
    if market is None:
        raise _Refusal(BAD_SYMBOL, f"Invalid symbol: {symbol[:40]}")
    return part(venue, market, _query(query))


def _query(query: str) -> Query:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"))
    except ValueError as error:  # too many fields, or not UTF-8
        raise _Refusal(INVALID_PARAMETER, "Invalid parameter") from error


def _limit(query: Query, default: int, most: int) -> int:
    return _integer(query, "limit", default, 1, most, BAD_LIMIT)


def _integer(query: Query, name: str, default: int, least: int, most: int, code: int) -> int:
    """Return a whole number out of a query, within its bounds."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= INTEGER_DIGITS_MAX and least <= int(text) <= most):
        raise _Refusal(code, f"Invalid {name}: {text[:40]}")
    return int(text)


# --- all markets


def _timestamp(venue: Venue) -> _ServerTime:
    return _ServerTime(server_time=venue.time_ms)


def _markets(venue: Venue) -> list[_Listing]:
    return [_listing(market.instrument) for market in venue.markets.values()]


def _prices(venue: Venue) -> list[_Price]:
    return [_price(venue, market) for market in venue.markets.values()]


def _mark_prices(venue: Venue) -> list[_MarkPrice]:
    return [_mark_price(venue, market) for market in venue.markets.values()]


def _tickers(venue: Venue) -> list[_Ticker]:
    return [_ticker(venue, market) for market in venue.markets.values()]


# --- one market


def _listing_of_one(_venue: Venue, market: Market, _query: Query) -> list[_Listing]:
    # The Python SDK's docstring promises an object; the pages and the Java SDK say an array of one.
    return [_listing(market.instrument)]


def _listing(instrument: Instrument) -> _Listing:
    return _Listing(
        symbol=instrument.symbol,
        base_currency_name=instrument.base,
        quote_currency_name=instrument.quote,
        display_name=instrument.symbol.replace("_", "/", 1),
        state="NORMAL" if instrument.is_open else "PAUSE",
        visible_start_time=LISTED_MS,
        tradable_start_time=LISTED_MS,
        symbol_trade_limit=_TradeLimit(
            symbol=instrument.symbol,
            price_scale=instrument.price_scale,
            quantity_scale=instrument.quantity_scale,
            amount_scale=instrument.price_scale,
            min_quantity=plain(instrument.qty_lots_min, instrument.quantity_scale),
            min_amount=plain(instrument.notional_atoms_min, ATOM_SCALE),
        ),
        cross_margin=_CrossMargin(),
    )


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
    limit = _integer(query, "limit", ORDER_BOOK_DEFAULT, 1, max(ORDER_BOOK_LIMITS), BAD_DEPTH)
    if limit not in ORDER_BOOK_LIMITS:
        raise _Refusal(BAD_DEPTH, f"Invalid limit: {limit}")
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
        raise _Refusal(INVALID_PARAMETER, f"Invalid scale: {text[:40]}")
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
        raise _Refusal(BAD_INTERVAL, f"Invalid interval: {name[:40]}")
    limit = _limit(query, CANDLES_DEFAULT, CANDLES_MAX)
    start_ms = _integer(query, "startTime", 0, 0, MS_MAX, BAD_START_TIME)
    end_ms = _integer(query, "endTime", venue.time_ms, 0, MS_MAX, BAD_END_TIME)
    if start_ms > end_ms:
        raise _Refusal(BAD_START_TIME, f"Invalid startTime: {start_ms} > endTime {end_ms}")
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
}
_OF_ONE: Final[Mapping[str, Callable[[Venue, Market, Query], object]]] = {
    "": _listing_of_one,
    "price": _price,
    "markPrice": _mark_price,
    "orderBook": _order_book,
    "candles": _candles,
    "trades": _trades,
    "ticker24h": _ticker,
}

_CandleRow = tuple[str, str, str, str, str, str, str, str, int, int, str, str, int, int]
"""low, high, open, close, amount, quantity, buyTakerAmount, buyTakerQuantity, tradeCount, ts, weightedAverage,
interval, startTime, closeTime."""


class _Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of what answers are made of; keys in the exchange's order."""


class _Error(_Shape, frozen=True, kw_only=True):
    code: int
    message: str


class _ServerTime(_Shape, frozen=True, kw_only=True):
    server_time: int


class _TradeLimit(_Shape, frozen=True, kw_only=True):
    symbol: str
    price_scale: int
    quantity_scale: int
    amount_scale: int
    min_quantity: str
    min_amount: str
    max_quantity: str = "0"
    max_amount: str = "0"
    highest_bid: str = "0"
    lowest_ask: str = "0"


class _CrossMargin(_Shape, frozen=True, kw_only=True):
    support_cross_margin: bool = True
    max_leverage: int = MAX_LEVERAGE


class _Listing(_Shape, frozen=True, kw_only=True):
    symbol: str
    base_currency_name: str
    quote_currency_name: str
    display_name: str
    state: Literal["NORMAL", "PAUSE"]
    visible_start_time: int
    tradable_start_time: int
    symbol_trade_limit: _TradeLimit
    cross_margin: _CrossMargin


class _Price(_Shape, frozen=True, kw_only=True):
    symbol: str
    price: str
    time: int
    daily_change: str
    ts: int


class _MarkPrice(_Shape, frozen=True, kw_only=True):
    symbol: str
    mark_price: str
    time: int


class _Ticker(_Shape, frozen=True, kw_only=True):
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


class _OrderBook(_Shape, frozen=True, kw_only=True):
    time: int
    scale: str
    asks: list[str]
    bids: list[str]
    ts: int


class _Trade(_Shape, frozen=True, kw_only=True):
    id: str
    price: str
    quantity: str
    amount: str
    taker_side: Literal["BUY", "SELL"]
    ts: int
    create_time: int


_encode = msgspec.json.Encoder().encode
