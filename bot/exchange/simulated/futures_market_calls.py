"""The public calls of the contracts' API. Source: the dossier's futures-rest.md, section 3."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final, Literal

import msgspec

from bot.core.instrument import Instrument
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.books import BookSide
from bot.exchange.simulated.candles import Candle, CandleSeries
from bot.exchange.simulated.events import Level
from bot.exchange.simulated.futures_calls import Call, Route, Routes, integer, page, span
from bot.exchange.simulated.futures_feed import ContractMarket, FundingRow, TickerRow
from bot.exchange.simulated.futures_instruments import PPM, SETTLEMENT
from bot.exchange.simulated.futures_listing import InstrumentRow, RiskLimitRow, listing, risk_limits
from bot.exchange.simulated.futures_orders import BAD_PARAMETER, Refusal, margin_mode_of, ms
from bot.exchange.simulated.futures_positions import RATE_SCALE, MarginMode
from bot.exchange.simulated.futures_rows import Row, price_text, side_of_position, usdt
from bot.exchange.simulated.replies import MS_MAX
from bot.exchange.simulated.venue import TRADES_KEPT, plain

MARKET_DATA: Final = 300
CANDLES: Final = 20
BOOK_LIMITS: Final = (5, 10, 20, 100, 150)
BOOK_DEFAULT: Final = 10
CANDLES_DEFAULT: Final = 100
CANDLES_MAX: Final = 500
TRADES_DEFAULT: Final = 500
FUNDINGS_DEFAULT: Final = 10
FUNDINGS_MAX: Final = 100
SECONDS_END: Final = 10**11
"""Times below this are in seconds (until the year 5138), others in milliseconds (since 1973)."""


class _Book(Row, frozen=True, kw_only=True, gc=False):
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]
    s: str
    ts: int


class _Trade(Row, frozen=True, kw_only=True, gc=False):
    id: int
    side: Literal["buy", "sell"]
    px: str
    qty: str
    amt: str
    c_t: int


class _Ticker(TickerRow, frozen=True, kw_only=True, gc=False):
    d_n: str
    m_px: str
    i_px: str


class _Mark(Row, frozen=True, kw_only=True, gc=False):
    s: str
    m_px: str


class _Index(Row, frozen=True, kw_only=True, gc=False):
    s: str
    i_px: str


class _Component(Row, frozen=True, kw_only=True, gc=False):
    e: str
    s_px: str
    w: str
    c_px: str


class _Components(Row, frozen=True, kw_only=True, gc=False):
    s: str
    px: str
    cs: list[_Component]


class _OpenInterest(Row, frozen=True, kw_only=True, gc=False):
    s: str
    o_interest: str


class _Insurance(Row, frozen=True, kw_only=True, gc=False):
    amt: str
    ccy: str
    u_time: str


class _PriceLimit(Row, frozen=True, kw_only=True, gc=False):
    symbol: str
    buy_lmt: str
    sell_lmt: str


class _PastFunding(Row, frozen=True, kw_only=True, gc=False):
    s: str
    f_r: str
    f_t: int


class _Liquidation(Row, frozen=True, kw_only=True, gc=False):
    symbol: str
    side: str
    pos_side: str
    sz: str
    bk_px: str
    u_time: str


def _market(call: Call) -> ContractMarket:
    return call.exchange.market(call.query().get("symbol"))


def _asked(call: Call) -> list[ContractMarket]:
    """Return the market that is asked for, or all."""
    return [_market(call)] if call.query().get("symbol") else list(call.feed.markets.values())


# --- listings


def _instruments(call: Call) -> list[InstrumentRow]:
    return [listing(market.contract) for market in call.feed.markets.values()]


def _instrument(call: Call) -> InstrumentRow:
    return listing(_market(call).contract)


def _risk_limits(call: Call) -> list[RiskLimitRow]:
    query = call.query()
    asked = margin_mode_of(query.get("mgnMode"))
    rows = [
        row for market in _asked(call) for row in risk_limits(market.contract, (asked,) if asked else tuple(MarginMode))
    ]
    tier = query.get("tier")
    return [row for row in rows if not tier or row.tier == tier]


# --- books and trades


def _order_book(call: Call) -> _Book:
    query, market = call.query(), _market(call)
    limit = integer(query, "limit", BOOK_DEFAULT, 1, max(BOOK_LIMITS))
    if limit not in BOOK_LIMITS:
        raise Refusal(BAD_PARAMETER, f"Invalid limit: {limit}")
    step = _step_ticks(query, market.contract.instrument)
    return _Book(
        asks=market.contract_levels(_grouped(market.book.asks, step, limit, is_bid=False)),
        bids=market.contract_levels(_grouped(market.book.bids, step, limit, is_bid=True)),
        s=market.price(step),
        ts=call.feed.time_ms,
    )


def _step_ticks(query: Mapping[str, str], instrument: Instrument) -> int:
    text = query.get("scale") or plain(1, instrument.price_scale)
    try:
        step = instrument.price_ticks(text)
    except (BadReply, OffGrid):
        step = 0
    if not step:
        raise Refusal(BAD_PARAMETER, f"Invalid scale: {text[:40]}")
    return step


def _grouped(side: BookSide, step: int, limit: int, *, is_bid: bool) -> list[Level]:
    """Return up to `limit` levels by steps of price; a bid counts in the step below it, an ask above."""
    if step == 1:
        return side.top(limit)
    groups: dict[int, int] = {}
    for price, contracts in side.top(len(side)):
        group = (price // step if is_bid else -(-price // step)) * step
        if group not in groups and len(groups) == limit:
            break
        groups[group] = groups.get(group, 0) + contracts
    return list(groups.items())


def _trades(call: Call) -> list[_Trade]:
    market = _market(call)
    limit = integer(call.query(), "limit", TRADES_DEFAULT, 1, TRADES_KEPT)
    return [
        _Trade(
            id=int(trade.trade_id),
            side=trade.taker_side,
            px=market.price(trade.price_ticks),
            qty=str(trade.qty_lots),
            amt=market.amount_text(trade.price_ticks * trade.qty_lots),
            c_t=ms(trade.ts_ns),
        )
        for trade in islice(reversed(market.trades), limit)
    ]


def _tickers(call: Call) -> list[_Ticker]:
    rows: list[_Ticker] = []
    for market in _asked(call):
        row = call.feed.ticker(market)
        rows.append(
            _Ticker(
                **msgspec.structs.asdict(row),
                d_n=market.contract.symbol.replace("_", "/"),
                m_px=market.price(market.prices.mark_ticks),
                i_px=market.price(market.prices.index_ticks),
            )
        )
    return rows


def _open_interest(call: Call) -> _OpenInterest:
    market = _market(call)
    symbol = market.contract.symbol
    longs = shorts = 0
    for member in call.desk.clearing.members.values():
        for position in member.positions_of(symbol):
            longs, shorts = longs + max(position.contracts, 0), shorts + max(-position.contracts, 0)
    # The replayed market has the other side of what clients do not have among themselves.
    return _OpenInterest(s=symbol, o_interest=str(max(longs, shorts)))


def _insurance(call: Call) -> list[_Insurance]:
    fund = call.desk.accounts.insurance.wallet(AccountType.FUTURES, SETTLEMENT)
    return [_Insurance(amt=usdt(fund.total_atoms), ccy=SETTLEMENT, u_time=str(call.feed.time_ms))]


def _price_limits(call: Call) -> list[_PriceLimit]:
    """Return the highest price of a buy and the lowest of a sell, by which orders are refused (10002)."""
    rows: list[_PriceLimit] = []
    for market in _asked(call):
        mark, contract = market.prices.mark_ticks or 0, market.contract
        band = mark * contract.price_band_ppm // PPM
        highest, lowest = market.price(mark + band), market.price(mark - band)
        rows.append(_PriceLimit(symbol=contract.symbol, buy_lmt=highest, sell_lmt=lowest))
    return rows


def _liquidations(call: Call) -> list[_Liquidation]:
    query = call.query()
    market = _market(call) if query.get("symbol") else None
    asked = span(query)
    rows = [
        one
        for one in reversed(call.desk.clearing.liquidations)
        if asked.holds(one.ts_ns) and (market is None or one.contract.symbol == market.contract.symbol)
    ]
    return [
        _Liquidation(
            symbol=one.contract.symbol,
            side=side_of_position(-one.contracts),
            pos_side=one.pos_side,
            sz=str(abs(one.contracts)),
            bk_px=price_text(one.contract, one.bankruptcy_ticks),
            u_time=str(ms(one.ts_ns)),
        )
        for one in page(query, rows, lambda one: ms(one.ts_ns))
    ]


# --- candles


def _series(call: Call, all_series: tuple[CandleSeries, ...]) -> CandleSeries:
    name = call.query().get("interval", "").upper()
    for series in all_series:
        if series.interval.name == name:
            return series
    raise Refusal(BAD_PARAMETER, f"Invalid interval: {name[:40]}")


def _candles(call: Call) -> list[tuple[str, ...]]:
    market = _market(call)
    return [
        (
            market.price(candle.low_ticks),
            market.price(candle.high_ticks),
            market.price(candle.open_ticks),
            market.price(candle.close_ticks),
            market.amount_text(candle.amount),
            str(candle.qty_lots),
            str(candle.trade_count),
            str(ms(candle.start_ns)),
            str(ms(candle.end_ns) - 1),
        )
        for candle in _kept(call, _series(call, market.series))
    ]


def _mark_candles(call: Call) -> list[tuple[str, ...]]:
    market = _market(call)
    return _price_candles(call, market, market.prices.mark_series)


def _index_candles(call: Call) -> list[tuple[str, ...]]:
    market = _market(call)
    return _price_candles(call, market, market.prices.index_series)


def _premium_candles(call: Call) -> list[tuple[str, ...]]:
    market = _market(call)
    return _price_candles(call, market, market.prices.premium_series, RATE_SCALE)


def _price_candles(
    call: Call, market: ContractMarket, all_series: tuple[CandleSeries, ...], scale: int | None = None
) -> list[tuple[str, ...]]:
    """Return candles in the order open, high, low, close: not that of traded ones."""
    price_scale = market.contract.instrument.price_scale if scale is None else scale
    return [
        (
            plain(candle.open_ticks, price_scale),
            plain(candle.high_ticks, price_scale),
            plain(candle.low_ticks, price_scale),
            plain(candle.close_ticks, price_scale),
            str(ms(candle.start_ns)),
            str(ms(candle.end_ns) - 1),
        )
        for candle in _kept(call, _series(call, all_series))
    ]


def _kept(call: Call, series: CandleSeries) -> list[Candle]:
    query = call.query()
    limit = integer(query, "limit", CANDLES_DEFAULT, 1, CANDLES_MAX)
    asked = span(query, ("sTime", "startTime"), ("eTime", "endTime"))
    found = [candle for candle in series.candles if asked.holds(candle.start_ns)]
    # Of a range longer than `limit`, which end the exchange keeps is not known.
    return found[:limit] if asked.start_ms else found[-limit:]


# --- mark, index, funding


def _mark_price(call: Call) -> _Mark | list[_Mark]:
    rows = [_Mark(s=one.contract.symbol, m_px=one.price(one.prices.mark_ticks)) for one in _asked(call)]
    return rows[0] if call.query().get("symbol") else rows


def _index_price(call: Call) -> _Index | list[_Index]:
    rows = [_Index(s=one.contract.symbol, i_px=one.price(one.prices.index_ticks)) for one in _asked(call)]
    return rows[0] if call.query().get("symbol") else rows


def _components(call: Call) -> list[_Components]:
    rows: list[_Components] = []
    for market in _asked(call):
        price = market.price(market.prices.index_ticks)
        only = _Component(e="POLONIEX", s_px=price, w="1", c_px=price)
        rows.append(_Components(s=market.contract.symbol, px=price, cs=[only]))
    return rows


def _funding_rate(call: Call) -> FundingRow:
    return call.feed.funding_row(_market(call))


def _funding_history(call: Call) -> list[_PastFunding]:
    query, market = call.query(), _market(call)
    limit = integer(query, "limit", FUNDINGS_DEFAULT, 1, FUNDINGS_MAX)
    start, end = (_ms(integer(query, name, default, 0, MS_MAX)) for name, default in (("sT", 0), ("eT", MS_MAX)))
    asked = [one for one in reversed(market.prices.fundings) if start <= ms(one.ts_ns) <= end]
    return [
        _PastFunding(s=market.contract.symbol, f_r=plain(one.rate, RATE_SCALE), f_t=ms(one.ts_ns))
        for one in asked[:limit]
    ]


def _ms(time: int) -> int:
    """Return a time in milliseconds: the page says seconds, with little trust."""
    return time * 1_000 if time < SECONDS_END else time


_PATH: Final = "/v3/market/"
MARKET_ROUTES: Final[Routes] = {
    ("GET", _PATH + name): Route(answer, limit, is_private=False, shares=True)
    for name, answer, limit in (
        ("allInstruments", _instruments, MARKET_DATA),
        ("instruments", _instrument, MARKET_DATA),
        ("riskLimit", _risk_limits, MARKET_DATA),
        ("orderBook", _order_book, MARKET_DATA),
        ("trades", _trades, MARKET_DATA),
        ("tickers", _tickers, MARKET_DATA),
        ("openInterest", _open_interest, MARKET_DATA),
        ("insurance", _insurance, MARKET_DATA),
        ("limitPrice", _price_limits, MARKET_DATA),
        ("liquidationOrder", _liquidations, MARKET_DATA),
        ("candles", _candles, CANDLES),
        ("markPriceCandlesticks", _mark_candles, CANDLES),
        ("indexPriceCandlesticks", _index_candles, CANDLES),
        ("premiumIndexCandlesticks", _premium_candles, CANDLES),
        ("markPrice", _mark_price, MARKET_DATA),
        ("indexPrice", _index_price, MARKET_DATA),
        ("indexPriceComponents", _components, MARKET_DATA),
        ("fundingRate", _funding_rate, MARKET_DATA),
        ("fundingRate/history", _funding_history, MARKET_DATA),
    )
}
