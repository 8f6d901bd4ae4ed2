"""Poloniex's futures over REST: every call of version 3, as typed reads that try again and writes that never do.

A write is sent at most once and comes back as `Accepted`, `Refused` or `Unknown`; what an unknown one became is found
out by its client id (`resolve_order`). Sizes are contracts. It knows neither sockets nor what a strategy wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain, pairwise, repeat
from typing import Final, TypeVar

import msgspec
import trio

from bot.core.instrument import Side
from bot.core.orders import OrderType
from bot.core.text import safe_text
from bot.errors import BadReply, ConnectionLost, OrderRefusedHere, RateLimited, ReadRefused
from bot.exchange.network import HttpPort
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.client import HTTP_OK, HTTP_REQUEST_TIMEOUT, HTTP_SERVER_ERRORS, READ_BACKOFF, TRIES
from bot.exchange.poloniex.codec import TEXT_LENGTH_MAX
from bot.exchange.poloniex.futures_codec import (
    BATCH_MAX,
    CODE_OK,
    CODE_THROTTLED,
    INTERVALS,
    FuturesInstrument,
    Refusal,
    decode_data,
    decode_instrument,
    decode_instruments,
    decode_rows,
    decoder,
    json_body,
    place_body,
    place_many_body,
    plain,
    refusal_of,
)
from bot.exchange.poloniex.limits import Group, Lane, RateLimits
from bot.exchange.poloniex.outcome import (
    QUERY_AFTER_S,
    Accepted,
    Doubt,
    Market,
    Outcome,
    RefusalKind,
    Refused,
    Search,
    Unknown,
    Write,
    classify,
    search_fence_ms,
)
from bot.exchange.poloniex.rest import Request, RestSession
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import RECV_WINDOW_MS, Credentials, query_text
from bot.exchange.poloniex.wire import TIME_MS_MAX
from bot.exchange.transport import Backoff

CANDLES_MAX: Final = 500
TRADES_MAX: Final = 1000
ROWS_MAX: Final = 100
"""Most rows of a list of ours: orders, fills, positions, bills."""
BOOK_LIMITS: Final = (5, 10, 20, 100, 150)
NOT_FOUND_CODE: Final = 11008
NOTHING_TO_CLOSE_CODES: Final = frozenset({10018, 21001})
PASSING_CODES: Final = frozenset({500, 503, 24201})
"""Internal, degraded, busy: a question is worth another try."""

T = TypeVar("T")
Params = list[tuple[str, str]]


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's name for an order, and ours."""

    order_id: str
    client_id: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list to read: `limit` rows from the row `from_id` on, in `direction`; times bound it."""

    start_ms: int | None = None
    end_ms: int | None = None
    from_id: str | None = None
    direction: fw.Direction | None = None
    limit: int = ROWS_MAX


FIRST_PAGE: Final = Page()

_ack: Final = decoder(fw.AckRow)
_acks: Final[msgspec.json.Decoder[list[fw.AckRow] | None]] = msgspec.json.Decoder(list[fw.AckRow] | None, strict=False)
_orders: Final = decoder(list[fw.OrderRow])
_order: Final = decoder(fw.OrderRow)
_fills: Final = decoder(list[fw.FillRow])
_positions: Final = decoder(list[fw.PositionRow])
_leverage: Final = decoder(fw.LeverageRow)
_mode: Final = decoder(fw.PositionModeBody)
_account: Final = decoder(fw.AccountRow)
_candles: Final = decoder(list[fw.CandleArray])
_price_candles: Final = decoder(list[fw.PriceCandleArray])
_mark: Final = decoder(fw.MarkPriceRow)
_index: Final = decoder(fw.IndexPriceRow)
_margin: Final = decoder(fw.MarginRow)
_anything: Final = decoder(msgspec.Raw)


class FuturesClient:
    """All of the futures. A read is tried `tries` times; a write once.

    Without `credentials` only market data can be asked for. Reads raise `ConnectionLost`, `RateLimited`,
    `ReadRefused` (with the exchange's code) or `BadReply`. Every signed call may raise `ClockSkew`.
    """

    def __init__(
        self,
        http: HttpPort,
        *,
        credentials: Credentials | None = None,
        limits: RateLimits | None = None,
        clock: ServerClock | None = None,
        tries: int = TRIES,
        backoff: Backoff = READ_BACKOFF,
        recv_window_ms: int = RECV_WINDOW_MS,
    ) -> None:
        assert tries >= 1
        self._limits = limits or RateLimits()
        self._tries = tries
        self._backoff = backoff
        self._rest = RestSession(
            http,
            Market.FUTURES,
            credentials=credentials,
            limits=self._limits,
            clock=clock,
            tries=1,  # what is worth another try is known here, where envelopes are read
            recv_window_ms=recv_window_ms,
        )

    @property
    def clock(self) -> ServerClock:
        """The exchange's clock, as requests are signed by it."""
        return self._rest.clock

    # --- market data

    async def instruments(self) -> dict[str, FuturesInstrument]:
        """Return every instrument by its symbol; those that we cannot hold exactly are left out."""
        rows = decode_instruments(await self._public("/v3/market/allInstruments"))
        return {row.symbol: row for row in rows}

    async def instrument(self, symbol: str) -> FuturesInstrument:
        """Return one instrument."""
        return decode_instrument(await self._public("/v3/market/instruments", symbol=symbol))

    async def order_book(self, symbol: str, *, limit: int = 20, scale: Decimal | None = None) -> fw.BookReply:
        """Return the best `limit` levels of each side (one of `BOOK_LIMITS`), summed up to steps of `scale`."""
        assert limit in BOOK_LIMITS
        body = await self._public(
            "/v3/market/orderBook", symbol=symbol, limit=limit, scale=None if scale is None else plain(scale)
        )
        return decode_data(decoder(fw.BookReply), body)

    async def trades(self, symbol: str, *, limit: int = TRADES_MAX) -> list[fw.MarketTradeRow]:
        """Return the last trades, in the exchange's order."""
        assert 1 <= limit <= TRADES_MAX
        body = await self._public("/v3/market/trades", symbol=symbol, limit=limit)
        return decode_data(decoder(list[fw.MarketTradeRow]), body)

    async def tickers(self, symbol: str | None = None) -> list[fw.TickerRow]:
        """Return the last 24 hours of one symbol or of all."""
        return decode_data(decoder(list[fw.TickerRow]), await self._public("/v3/market/tickers", symbol=symbol))

    async def candles(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, limit: int = CANDLES_MAX
    ) -> list[fw.CandleArray]:
        """Return candles that start in `start_ms` <= t < `end_ms`, oldest first; the last may still run."""
        body = await self._candle_body("candles", symbol, interval, start_ms, end_ms, limit)
        rows = sorted(decode_data(_candles, body), key=lambda row: row.start_ms)
        return _cut(rows, [row.start_ms for row in rows], start_ms, end_ms)

    async def index_candles(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, limit: int = CANDLES_MAX
    ) -> list[fw.PriceCandleArray]:
        """Return candles of the index price, as `candles` does."""
        return await self._price_candles("indexPriceCandlesticks", symbol, interval, start_ms, end_ms, limit)

    async def mark_candles(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, limit: int = CANDLES_MAX
    ) -> list[fw.PriceCandleArray]:
        """Return candles of the mark price, as `candles` does."""
        return await self._price_candles("markPriceCandlesticks", symbol, interval, start_ms, end_ms, limit)

    async def premium_candles(
        self, symbol: str, interval: str, *, start_ms: int, end_ms: int, limit: int = CANDLES_MAX
    ) -> list[fw.PriceCandleArray]:
        """Return candles of the premium index, as `candles` does."""
        return await self._price_candles("premiumIndexCandlesticks", symbol, interval, start_ms, end_ms, limit)

    async def mark_price(self, symbol: str) -> Decimal:
        """Return the mark price of a symbol."""
        (row,) = decode_rows(_mark, await self._public("/v3/market/markPrice", symbol=symbol), count=1)
        return row.price

    async def mark_prices(self) -> dict[str, Decimal]:
        """Return all mark prices by symbol."""
        return {row.symbol: row.price for row in decode_rows(_mark, await self._public("/v3/market/markPrice"))}

    async def index_price(self, symbol: str) -> Decimal:
        """Return the index price of a symbol."""
        (row,) = decode_rows(_index, await self._public("/v3/market/indexPrice", symbol=symbol), count=1)
        return row.price

    async def index_prices(self) -> dict[str, Decimal]:
        """Return all index prices by symbol."""
        return {row.symbol: row.price for row in decode_rows(_index, await self._public("/v3/market/indexPrice"))}

    async def index_components(self, symbol: str) -> list[fw.IndexComponentsRow]:
        """Return what an index price is made of."""
        body = await self._public("/v3/market/indexPriceComponents", symbol=symbol)
        return decode_rows(decoder(fw.IndexComponentsRow), body)

    async def funding_rate(self, symbol: str) -> fw.FundingRow:
        """Return the last funding rate and the predicted next one."""
        body = await self._public("/v3/market/fundingRate", symbol=symbol)
        (row,) = decode_rows(decoder(fw.FundingRow), body, count=1)
        return row

    async def funding_history(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = ROWS_MAX
    ) -> list[fw.FundingHistoryRow]:
        """Return past fundings in `start_ms` <= t <= `end_ms`, oldest first."""
        body = await self._public(
            "/v3/market/fundingRate/history",
            symbol=symbol,
            # The page says seconds here, and nowhere else.
            sT=None if start_ms is None else start_ms // 1000,
            eT=None if end_ms is None else -(-end_ms // 1000),
            limit=limit,
        )
        rows = decode_data(decoder(list[fw.FundingHistoryRow]), body)
        kept = [row for row in rows if (start_ms or 0) <= row.funding_ms <= (end_ms or TIME_MS_MAX)]
        return sorted(kept, key=lambda row: row.funding_ms)

    async def open_interest(self, symbol: str) -> Decimal:
        """Return the contracts that are open in a symbol."""
        body = await self._public("/v3/market/openInterest", symbol=symbol)
        return decode_data(decoder(fw.OpenInterestReply), body).contracts

    async def insurance(self) -> list[fw.InsuranceRow]:
        """Return the insurance fund."""
        return decode_data(decoder(list[fw.InsuranceRow]), await self._public("/v3/market/insurance"))

    async def limit_price(self, symbol: str) -> fw.LimitPriceRow:
        """Return between which prices orders are taken now."""
        body = await self._public("/v3/market/limitPrice", symbol=symbol)
        (row,) = decode_rows(decoder(fw.LimitPriceRow), body, count=1)
        return row

    async def liquidations(self, symbol: str, page: Page = FIRST_PAGE) -> list[fw.LiquidationRow]:
        """Return liquidations of others' positions."""
        params = _params(symbol=symbol) + _page(page)
        return decode_data(decoder(list[fw.LiquidationRow]), await self._read("/v3/market/liquidationOrder", params))

    async def market_risk_limits(
        self, symbol: str, *, margin_mode: fw.MarginMode | None = None, tier: int | None = None
    ) -> list[fw.RiskLimitRow]:
        """Return the tiers of a symbol."""
        body = await self._public("/v3/market/riskLimit", symbol=symbol, mgnMode=margin_mode, tier=tier)
        return decode_rows(decoder(fw.RiskLimitRow), body)

    # --- account

    async def balance(self) -> fw.AccountRow:
        """Return the futures account."""
        return decode_data(_account, await self._private("/v3/account/balance", group=Group.FUTURES_BALANCE))

    async def bills(self, bill_type: fw.BillType | None = None, page: Page = FIRST_PAGE) -> list[fw.BillRow]:
        """Return movements of money, of at most 90 days."""
        body = await self._private("/v3/account/bills", _params(type=bill_type) + _page(page))
        return decode_data(decoder(list[fw.BillRow]), body)

    # --- orders: writes

    async def place_order(
        self,
        order: fw.FuturesOrder,
        instrument: FuturesInstrument,
        lane: Lane = Lane.OPEN,
        why_not: Callable[[], str] | None = None,
    ) -> Outcome[Ack]:
        """Send an order. Accepted says that it exists, nothing of its fills.

        `why_not` is asked at the last moment, when the limit has room: it says why it shall not be sent after all.

        Raises:
            OffGrid: its price or size lies between two steps; nothing was sent.
            OrderRefusedHere: the exchange would refuse or misread it; nothing was sent.

        """
        instrument.check(order)
        request = Request(
            method="POST",
            path="/v3/trade/order",
            body=place_body(order),
            group=Group.FUTURES_PLACE,
            lane=Lane.CLOSE if order.is_reduce_only else lane,
            why_not=why_not,
        )
        return await self._write(request, _read_ack(Write.SUBMIT), client_id=order.client_id)

    async def place_orders(
        self, orders: Sequence[fw.FuturesOrder], instruments: Mapping[str, FuturesInstrument], lane: Lane = Lane.OPEN
    ) -> list[Outcome[Ack]]:
        """Send 1 to `BATCH_MAX` orders at once; return the outcome of each, in order. Raises as `place_order`."""
        if not 1 <= len(orders) <= BATCH_MAX:
            raise OrderRefusedHere(f"{len(orders)} orders in a batch of 1 to {BATCH_MAX}")
        for order in orders:
            if order.symbol not in instruments:
                raise OrderRefusedHere(f"{order.symbol}: not listed")
            instruments[order.symbol].check(order)
        client_ids = [order.client_id for order in orders]
        if len(set(client_ids)) < len(client_ids):
            raise OrderRefusedHere("a batch with one client id twice")
        request = Request(
            method="POST",
            path="/v3/trade/orders",
            body=place_many_body(orders),
            group=Group.FUTURES_PLACE_BATCH,
            lane=lane,
        )
        return _each(await self._write(request, _read_placed(client_ids)), client_ids)

    async def cancel_order(self, symbol: str, *, order_id: str = "", client_id: str = "") -> Outcome[Ack]:
        """Ask to cancel the order of one id. Accepted is not yet cancelled: a fill may win."""
        assert bool(order_id) != bool(client_id), "one id"
        request = Request(
            method="DELETE",
            path="/v3/trade/order",
            query=query_text(_params(symbol=symbol, ordId=order_id or None, clOrdId=client_id or None)),
            group=Group.FUTURES_CANCEL,
            lane=Lane.CANCEL,
        )
        return await self._write(request, _read_ack(Write.CANCEL), Write.CANCEL, client_id)

    async def cancel_orders(
        self, symbol: str, *, order_ids: Sequence[str] = (), client_ids: Sequence[str] = ()
    ) -> list[Outcome[Ack]]:
        """Ask to cancel up to `BATCH_MAX` orders by ids of one kind; return the outcome of each, in order."""
        assert bool(order_ids) != bool(client_ids), "ids of one kind"
        ids = order_ids or client_ids
        assert len(ids) <= BATCH_MAX
        body = fw.CancelManyBody(symbol=symbol, order_ids=tuple(order_ids), client_ids=tuple(client_ids))
        request = Request(
            method="DELETE",
            path="/v3/trade/batchOrders",
            body=json_body(body),
            group=Group.FUTURES_PRIVATE,
            lane=Lane.CANCEL,
        )
        sent = await self._write(request, _read_cancelled(ids, is_ours=bool(client_ids)), Write.CANCEL)
        return _each(sent, client_ids or [""] * len(ids))

    async def cancel_all_orders(
        self, symbol: str | None, side: Side | None = None
    ) -> Outcome[tuple[Outcome[Ack], ...]]:
        """Ask to cancel all orders of a symbol, or all there are for None; of one side if it is given."""
        request = Request(
            method="DELETE",
            path="/v3/trade/allOrders",
            query=query_text(_params(symbol=symbol, side=side)),
            group=Group.FUTURES_PRIVATE,
            lane=Lane.CANCEL,
        )
        return await self._write(request, _read_acks(Write.CANCEL), Write.CANCEL)

    async def close_position(
        self,
        symbol: str,
        margin_mode: fw.MarginMode,
        *,
        position_side: fw.PositionSide | None = None,
        client_id: str = "",
    ) -> Outcome[Ack]:
        """Close a position at market. Nothing open: refused with one of `NOTHING_TO_CLOSE_CODES`."""
        body = fw.CloseBody(symbol=symbol, margin_mode=margin_mode, position_side=position_side, client_id=client_id)
        request = Request(
            method="POST",
            path="/v3/trade/position",
            body=json_body(body),
            group=Group.FUTURES_PRIVATE,
            lane=Lane.CLOSE,
        )
        return await self._write(request, _read_ack(Write.SUBMIT), client_id=client_id)

    async def close_all_positions(self) -> Outcome[tuple[Outcome[Ack], ...]]:
        """Close every position at market."""
        request = Request(method="POST", path="/v3/trade/positionAll", group=Group.FUTURES_CLOSE_ALL, lane=Lane.CLOSE)
        return await self._write(request, _read_acks(Write.SUBMIT))

    async def resolve_order(self, symbol: str, unknown: Unknown) -> Accepted[fw.OrderRow] | Refused:
        """Return what became of a submit or a cancel that is unknown, by asking for its client id.

        An order that is found is `Accepted`, whatever its state. `Refused` as never accepted needs proof: it is asked
        for twice after its fence, and the lists of orders and fills know nothing of it. Without either it asks for
        ever, so set a deadline: after it the order is still unknown.
        """
        client_id = unknown.client_id
        assert client_id, "only a client id can be asked for without an answer"
        search = Search(search_fence_ms(unknown))
        # A client id that is taken, or an order that could not be cancelled, is there: absence proves nothing.
        may_be_absent = unknown.doubt not in {Doubt.EXISTS, Doubt.RACE}
        for pause_s in chain(QUERY_AFTER_S, repeat(QUERY_AFTER_S[-1])):
            await trio.sleep(pause_s)
            try:
                await self.clock.make_ready()
                asked_ms = self.clock.now_ms()
                found = await self._find(symbol, client_id)
                if found is None:
                    search.not_found(asked_ms)
                if found is None and may_be_absent and search.is_absent:
                    found = await self._find_listed(symbol, client_id)
                    if found is None and not await self._has_fills(symbol, client_id):
                        text = f"client id {client_id}: never accepted; its answer was lost ({unknown.reason})"
                        return Refused(code=0, text=text, kind=RefusalKind.NEVER_ACCEPTED)
            except (ConnectionLost, RateLimited, ReadRefused, BadReply):
                continue
            if found is not None:
                return Accepted(value=found)
        raise AssertionError("unreachable: the search has no end of its own")

    async def _find(self, symbol: str, client_id: str) -> fw.OrderRow | None:
        try:
            return await self.order(symbol=symbol, client_id=client_id, lane=Lane.CLOSE)
        except ReadRefused as refused:
            if refused.code == NOT_FOUND_CODE:
                return None
            raise

    async def _find_listed(self, symbol: str, client_id: str) -> fw.OrderRow | None:
        rows = [
            *await self.open_orders(symbol=symbol, client_id=client_id),
            *await self.order_history(symbol=symbol, client_id=client_id),
        ]
        return next((row for row in rows if row.client_id == client_id), None)

    async def _has_fills(self, symbol: str, client_id: str) -> bool:
        return any(fill.client_id == client_id for fill in await self.fills(symbol=symbol, client_id=client_id))

    # --- orders: reads

    async def order(
        self, *, symbol: str | None = None, order_id: str = "", client_id: str = "", lane: Lane = Lane.DATA
    ) -> fw.OrderRow:
        """Return one order, living or finished; not found: `ReadRefused` with `NOT_FOUND_CODE`."""
        assert bool(order_id) != bool(client_id), "one id"
        params = _params(symbol=symbol, ordId=order_id or None, clOrdId=client_id or None)
        (row,) = decode_rows(_order, await self._private("/v3/trade/order/details", params, lane=lane), count=1)
        return row

    async def open_orders(
        self,
        *,
        symbol: str | None = None,
        side: Side | None = None,
        order_id: str | None = None,
        client_id: str | None = None,
        page: Page = FIRST_PAGE,
    ) -> list[fw.OrderRow]:
        """Return living orders."""
        params = _params(symbol=symbol, side=side, ordId=order_id, clOrdId=client_id) + _page(page)
        return decode_data(_orders, await self._private("/v3/trade/order/opens", params))

    async def order_history(
        self,
        *,
        symbol: str | None = None,
        side: Side | None = None,
        order_id: str | None = None,
        client_id: str | None = None,
        state: str | None = None,
        order_type: OrderType | None = None,
        page: Page = FIRST_PAGE,
    ) -> list[fw.OrderRow]:
        """Return finished orders of at most 90 days; those cancelled without a fill are kept for 4 hours only."""
        params = _params(symbol=symbol, side=side, ordId=order_id, clOrdId=client_id, state=state, type=order_type)
        return decode_data(_orders, await self._private("/v3/trade/order/history", params + _page(page)))

    async def fills(
        self,
        *,
        symbol: str | None = None,
        side: Side | None = None,
        order_id: str | None = None,
        client_id: str | None = None,
        page: Page = FIRST_PAGE,
    ) -> list[fw.FillRow]:
        """Return our fills."""
        params = _params(symbol=symbol, side=side, ordId=order_id, clOrdId=client_id) + _page(page)
        return decode_data(_fills, await self._private("/v3/trade/order/trades", params))

    # --- positions

    async def positions(self, symbol: str | None = None) -> list[fw.PositionRow]:
        """Return the open positions."""
        return decode_data(_positions, await self._private("/v3/trade/position/opens", _params(symbol=symbol)))

    async def position_history(
        self,
        *,
        symbol: str | None = None,
        margin_mode: fw.MarginMode | None = None,
        position_side: fw.PositionSide | None = None,
        page: Page = FIRST_PAGE,
    ) -> list[fw.PositionHistoryRow]:
        """Return closed positions."""
        params = _params(symbol=symbol, mgnMode=margin_mode, posSide=position_side) + _page(page)
        body = await self._private("/v3/trade/position/history", params)
        return decode_data(decoder(list[fw.PositionHistoryRow]), body)

    async def leverages(self, symbol: str, margin_mode: fw.MarginMode) -> list[fw.LeverageRow]:
        """Return the leverage of each position side of a symbol."""
        body = await self._private("/v3/position/leverages", _params(symbol=symbol, mgnMode=margin_mode))
        return decode_rows(_leverage, body)

    async def set_leverage(
        self, instrument: FuturesInstrument, leverage: int, margin_mode: fw.MarginMode, position_side: fw.PositionSide
    ) -> Outcome[fw.LeverageRow]:
        """Set the leverage of a symbol, 1 to the instrument's own bound.

        Raises:
            OrderRefusedHere: beyond that bound; nothing was sent.

        """
        bound = instrument.leverage_max
        if leverage < 1 or (bound is not None and leverage > bound):
            raise OrderRefusedHere(f"{instrument.symbol}: leverage {leverage} is not 1 to {bound}")
        body = fw.LeverageBody(
            symbol=instrument.symbol, leverage=str(leverage), margin_mode=margin_mode, position_side=position_side
        )
        request = Request(
            method="POST",
            path="/v3/position/leverage",
            body=json_body(body),
            group=Group.FUTURES_PRIVATE,
            lane=Lane.CLOSE,
        )
        return await self._write(request, _read_leverage, Write.SETTING)

    async def position_mode(self) -> fw.PositionMode:
        """Return whether a symbol has one position or a long and a short one."""
        return decode_data(_mode, await self._private("/v3/position/mode")).mode

    async def set_position_mode(self, mode: fw.PositionMode) -> Outcome[None]:
        """Set the mode of the account; only without positions and orders."""
        body = fw.PositionModeBody(mode=mode)
        request = Request(
            method="POST", path="/v3/position/mode", body=json_body(body), group=Group.FUTURES_PRIVATE, lane=Lane.CLOSE
        )
        return await self._write(request, _nothing, Write.SETTING)

    async def change_margin(
        self, symbol: str, change: fw.MarginChange, amount: Decimal, position_side: fw.PositionSide | None = None
    ) -> Outcome[fw.MarginRow]:
        """Move `amount` of quote currency to or from an isolated position's margin. Not to be repeated blindly.

        Raises:
            OrderRefusedHere: `amount` is not more than 0; nothing was sent.

        """
        if not fw.is_bounded(amount) or amount <= 0:
            raise OrderRefusedHere(f"{symbol}: a margin change of {amount}; it must be > 0")
        body = fw.MarginBody(symbol=symbol, amount=plain(amount), change=change, position_side=position_side)
        request = Request(
            method="POST",
            path="/v3/trade/position/margin",
            body=json_body(body),
            group=Group.FUTURES_PRIVATE,
            lane=Lane.CLOSE,
        )
        return await self._write(request, _read_margin, Write.TRANSFER)

    async def risk_limits(self, symbol: str, margin_mode: fw.MarginMode | None = None) -> list[fw.RiskLimitRow]:
        """Return our own tiers of a symbol."""
        body = await self._private("/v3/position/riskLimit", _params(symbol=symbol, mgnMode=margin_mode))
        return decode_rows(decoder(fw.RiskLimitRow), body)

    # --- reading

    async def _public(self, path: str, **params: str | int | None) -> bytes:
        return await self._read(path, _params(**params))

    async def _candle_body(
        self, kind: str, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int
    ) -> bytes:
        assert interval in INTERVALS
        assert 1 <= limit <= CANDLES_MAX
        params = _params(symbol=symbol, interval=interval, limit=limit, sTime=start_ms, eTime=end_ms)
        return await self._read(f"/v3/market/{kind}", params, group=Group.FUTURES_CANDLES)

    async def _price_candles(
        self, kind: str, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int
    ) -> list[fw.PriceCandleArray]:
        body = await self._candle_body(kind, symbol, interval, start_ms, end_ms, limit)
        rows = sorted(decode_data(_price_candles, body), key=lambda row: row.start_ms)
        return _cut(rows, [row.start_ms for row in rows], start_ms, end_ms)

    async def _private(
        self,
        path: str,
        params: Params | None = None,
        *,
        group: Group = Group.FUTURES_PRIVATE,
        lane: Lane = Lane.DATA,
    ) -> bytes:
        return await self._read(path, params or [], group=group, lane=lane, is_signed=True)

    async def _read(
        self,
        path: str,
        params: Params,
        *,
        group: Group = Group.FUTURES_MARKET,
        lane: Lane = Lane.DATA,
        is_signed: bool = False,
    ) -> bytes:
        """Return the body of a good answer to GET `path`."""
        request = Request(method="GET", path=path, query=query_text(params), group=group, lane=lane)
        for attempt in range(self._tries - 1):
            try:
                return await self._ask(request, is_signed=is_signed)
            except (ConnectionLost, RateLimited, ReadRefused) as error:
                if isinstance(error, ReadRefused) and not _may_pass(error):
                    raise
                await trio.sleep(self._backoff.delay_after(error, attempt))
        return await self._ask(request, is_signed=is_signed)

    async def _ask(self, request: Request, *, is_signed: bool) -> bytes:
        body = await (self._rest.read_signed(request) if is_signed else self._rest.read(request))
        refusal = refusal_of(body)
        if refusal is None:
            return body
        message = f"{request.name}: code {refusal.code}: {refusal.text}"
        if refusal.code == CODE_THROTTLED:
            self._limits.gate(request.group).refused(None)
            raise RateLimited(message)
        raise ReadRefused(message, status=HTTP_OK, code=refusal.code)

    # --- writing

    async def _write(
        self,
        request: Request,
        read: Callable[[bytes, Unknown], Outcome[T]],
        write: Write = Write.SUBMIT,
        client_id: str = "",
    ) -> Outcome[T]:
        """Send a request once; return what `read` makes of a good answer, or what another one means."""

        def accept(body: bytes, unknown: Unknown) -> Outcome[T]:
            refusal = refusal_of(body)
            if refusal is None:
                return read(body, unknown)
            if refusal.code == CODE_THROTTLED:
                self._limits.gate(request.group).refused(None)
            return _judged(refusal, write, unknown)

        return await self._rest.write(request, write, accept, client_id=client_id)


# --- requests


def _params(**params: str | int | None) -> Params:
    """Return the parameters that are not None, in their order."""
    return [(name, str(value)) for name, value in params.items() if value is not None]


def _page(page: Page) -> Params:
    assert 1 <= page.limit <= ROWS_MAX
    made = _params(sTime=page.start_ms, eTime=page.end_ms, limit=page.limit, direct=page.direction)
    return made + ([("from", page.from_id)] if page.from_id is not None else [])


# --- answers to reads


def _may_pass(refused: ReadRefused) -> bool:
    return (
        refused.status in HTTP_SERVER_ERRORS or refused.status == HTTP_REQUEST_TIMEOUT or refused.code in PASSING_CODES
    )


def _cut(rows: list[T], starts_ms: list[int], start_ms: int, end_ms: int) -> list[T]:
    """Return the candles that start in a range; `starts_ms` is theirs, in order.

    Raises:
        BadReply: two candles of one time.

    """
    if any(before == after for before, after in pairwise(starts_ms)):
        raise BadReply("two candles of one time")
    return [row for row, at_ms in zip(rows, starts_ms, strict=True) if start_ms <= at_ms < end_ms]


# --- answers to writes: each is given the `Unknown` to return when it cannot tell


def _judged(refusal: Refusal, write: Write, unknown: Unknown) -> Refused | Unknown:
    return classify(
        Market.FUTURES,
        write,
        status=HTTP_OK,
        code=refusal.code,
        text=refusal.text,
        client_id=unknown.client_id,
        fence_ms=unknown.fence_ms,
    )


def _read_ack(write: Write) -> Callable[[bytes, Unknown], Outcome[Ack]]:
    return lambda body, unknown: _acknowledged(decode_data(_ack, body), write, unknown)


def _read_acks(write: Write) -> Callable[[bytes, Unknown], Outcome[tuple[Outcome[Ack], ...]]]:
    def read(body: bytes, unknown: Unknown) -> Outcome[tuple[Outcome[Ack], ...]]:
        rows = decode_data(_acks, body) or []
        return Accepted(value=tuple(_acknowledged(row, write, unknown) for row in rows))

    return read


def _acknowledged(row: fw.AckRow, write: Write, unknown: Unknown) -> Outcome[Ack]:
    """Return what is said of the order `unknown.client_id`, or, when that is empty, of the one that `row` names."""
    ours, named = unknown.client_id, row.client_id or ""
    unknown = msgspec.structs.replace(unknown, client_id=ours or named)
    if row.code != CODE_OK:
        return _judged(Refusal(row.code, safe_text(row.text or "", TEXT_LENGTH_MAX)), write, unknown)
    if not row.order_id or (ours and named and named != ours):
        reason = safe_text(f"the answer names the order {row.order_id} {named!r}", TEXT_LENGTH_MAX)
        return msgspec.structs.replace(unknown, reason=reason, doubt=Doubt.AMBIGUOUS)
    return Accepted(value=Ack(order_id=str(row.order_id), client_id=ours or named))


def _read_placed(client_ids: Sequence[str]) -> Callable[[bytes, Unknown], Outcome[tuple[Outcome[Ack], ...]]]:
    """Each order of a batch by its place in the answer."""

    def read(body: bytes, unknown: Unknown) -> Outcome[tuple[Outcome[Ack], ...]]:
        rows = decode_rows(_ack, body, count=len(client_ids))
        pairs = zip(rows, client_ids, strict=True)
        return Accepted(value=tuple(_acknowledged(row, Write.SUBMIT, _of(unknown, each)) for row, each in pairs))

    return read


def _read_cancelled(
    ids: Sequence[str], *, is_ours: bool
) -> Callable[[bytes, Unknown], Outcome[tuple[Outcome[Ack], ...]]]:
    """Each cancel of a batch by its id in the answer; `is_ours`: they are client ids."""

    def read(body: bytes, unknown: Unknown) -> Outcome[tuple[Outcome[Ack], ...]]:
        rows = decode_data(_acks, body) or []
        named = {row.client_id if is_ours else str(row.order_id): row for row in rows}
        silent = msgspec.structs.replace(unknown, reason="the answer does not name it")
        return Accepted(
            value=tuple(
                _acknowledged(named[each], Write.CANCEL, _of(unknown, each if is_ours else ""))
                if each in named
                else _of(silent, each if is_ours else "")
                for each in ids
            )
        )

    return read


def _of(unknown: Unknown, client_id: str) -> Unknown:
    return msgspec.structs.replace(unknown, client_id=client_id)


def _each(sent: Outcome[tuple[Outcome[Ack], ...]], client_ids: Iterable[str]) -> list[Outcome[Ack]]:
    """Return the outcome of each order of a batch; what the whole batch met, each of them met."""
    match sent:
        case Accepted():
            return list(sent.value)
        case Unknown():
            return [_of(sent, each) for each in client_ids]
        case Refused():
            return [sent for _ in client_ids]


def _read_leverage(body: bytes, unknown: Unknown) -> Outcome[fw.LeverageRow]:
    del unknown
    return Accepted(value=decode_rows(_leverage, body, count=1)[0])


def _read_margin(body: bytes, unknown: Unknown) -> Outcome[fw.MarginRow]:
    del unknown
    return Accepted(value=decode_data(_margin, body))


def _nothing(body: bytes, unknown: Unknown) -> Outcome[None]:
    del unknown
    decode_data(_anything, body)
    return Accepted(value=None)
