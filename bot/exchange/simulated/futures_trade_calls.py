"""The private calls of the contracts' API about orders and fills. Source: the dossier's futures-rest.md, section 5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from bot.core.orders import OrderState
from bot.exchange.simulated.futures_calls import Call, Route, Routes, Span, decoded, names, page, span
from bot.exchange.simulated.futures_orders import (
    BAD_PARAMETER,
    BATCH_MAX,
    BATCH_TOO_LARGE,
    CANCEL_BATCH_TOO_LARGE,
    NO_SUCH_ORDER,
    OK,
    FillRecord,
    FuturesOrder,
    OrderRequest,
    Refusal,
    client_id_of,
    margin_mode_of,
    pos_side_of,
    ticket_of,
)
from bot.exchange.simulated.futures_rows import FillRow, OrderRow, Row, fill_row, order_row

PLACE: Final = 50
CANCEL: Final = 100
BATCH: Final = 5
CLOSE_ALL: Final = 2
OTHER: Final = 10


class _Ids(Row, frozen=True, kw_only=True, gc=False):
    ord_id: str
    cl_ord_id: str


class _Outcome(Row, frozen=True, kw_only=True, gc=False):
    """One of several orders: what became of the request."""

    code: int = OK
    msg: str = "Success"
    ord_id: str | None = None
    cl_ord_id: str | None = None


class _One(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str = ""
    ord_id: str | int = ""
    cl_ord_id: str = ""


class _Several(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str = ""
    ord_ids: list[str | int] | str = ""
    cl_ord_ids: list[str] | str = ""


class _All(msgspec.Struct, frozen=True, kw_only=True):
    """ccxt says `symbols`, a name that the pages do not know; both are honoured, or it would cancel everything."""

    symbol: list[str] | str = ""
    symbols: list[str] | str = ""
    side: str = ""


class _Close(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str = ""
    mgn_mode: str | None = None
    pos_side: str | None = None
    cl_ord_id: str | None = None


def _ids(order: FuturesOrder) -> _Ids:
    return _Ids(ord_id=str(order.order_id), cl_ord_id=order.client_id)


def _done(order: FuturesOrder) -> _Outcome:
    return _Outcome(ord_id=str(order.order_id), cl_ord_id=order.client_id)


# --- placing


def _place(call: Call) -> _Ids:
    return _ids(_placed(call, decoded(call.body, OrderRequest)))


def _placed(call: Call, request: OrderRequest) -> FuturesOrder:
    ticket = ticket_of(request, call.exchange.contract(request.symbol))
    return call.desk.place(call.client, ticket, call.now_ns)


def _place_several(call: Call) -> list[_Outcome]:
    requests = decoded(call.body, list[msgspec.Raw])
    if not requests:
        raise Refusal(BAD_PARAMETER, "no orders")
    if len(requests) > BATCH_MAX:
        raise Refusal(BATCH_TOO_LARGE, f"{len(requests)} orders, more than {BATCH_MAX}")
    return [_place_one(call, request) for request in requests]


def _place_one(call: Call, raw: msgspec.Raw) -> _Outcome:
    client_id = None
    try:
        request = decoded(raw, OrderRequest)
        client_id = request.cl_ord_id
        if not (request.mgn_mode and request.pos_side):
            raise Refusal(BAD_PARAMETER, "mgnMode and posSide must be present and not empty")  # noqa: TRY301
        return _done(_placed(call, request))
    except Refusal as refusal:
        return _Outcome(code=refusal.code, msg=refusal.text, cl_ord_id=client_id)


# --- cancelling


def _cancel(call: Call) -> _Ids:
    asked = call.fields(_One)
    if not (asked.ord_id or asked.cl_ord_id):
        raise Refusal(BAD_PARAMETER, "ordId or clOrdId is missing")
    symbol = call.exchange.contract(asked.symbol).symbol if asked.symbol else ""
    return _ids(call.desk.cancel(call.client, str(asked.ord_id), asked.cl_ord_id, symbol, call.now_ns))


def _cancel_several(call: Call) -> list[_Outcome]:
    asked = call.fields(_Several)
    order_ids, client_ids = _listed(asked.ord_ids), _listed(asked.cl_ord_ids)
    pairs = [(one, "") for one in order_ids] or [("", one) for one in client_ids]
    if not pairs:
        raise Refusal(BAD_PARAMETER, "ordIds or clOrdIds is missing")
    if len(pairs) > BATCH_MAX:
        raise Refusal(CANCEL_BATCH_TOO_LARGE, f"{len(pairs)} orders, more than {BATCH_MAX}")
    symbol = call.exchange.contract(asked.symbol).symbol if asked.symbol else ""
    outcomes: list[_Outcome] = []
    for order_id, client_id in pairs:
        try:
            order = call.desk.cancel(call.client, order_id, client_id, symbol, call.now_ns)
            outcomes.append(_done(order))
        except Refusal as refusal:
            ids = {"ord_id": order_id or None, "cl_ord_id": client_id or None}
            outcomes.append(_Outcome(code=refusal.code, msg=refusal.text, **ids))
    return outcomes


def _listed(value: list[str | int] | list[str] | str) -> list[str]:
    """Return ids that were sent as a list, as text by commas, or as the text of a JSON list."""
    if isinstance(value, str) and value.startswith("["):
        return names(decoded(value.encode(), list[str | int]))
    return names(value)


def _cancel_all(call: Call) -> list[_Outcome]:
    asked = call.fields(_All)
    symbols = {call.exchange.contract(name).symbol for name in (*_listed(asked.symbol), *_listed(asked.symbols))}
    side = asked.side.upper()
    outcomes: list[_Outcome] = []
    for order in tuple(call.desk.orders(call.client).living.values()):
        if order.is_resting and (not symbols or order.symbol in symbols) and side in ("", order.side):
            call.desk.end(order, call.now_ns)
            outcomes.append(_done(order))
    return outcomes


# --- closing


def _close(call: Call) -> _Ids:
    asked = call.fields(_Close)
    symbol = call.exchange.contract(asked.symbol).symbol
    position = call.desk.position(call.client, symbol, pos_side_of(asked.pos_side))
    mode = margin_mode_of(asked.mgn_mode)
    if mode not in (None, position.margin_mode):
        raise Refusal(BAD_PARAMETER, f"the position of {symbol} is {position.margin_mode}")
    return _ids(call.desk.close(call.client, position, client_id_of(asked.cl_ord_id), call.now_ns))


def _close_all(call: Call) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    for position in tuple(call.desk.clearing.member(call.client).positions.values()):
        try:
            outcomes.append(_done(call.desk.close(call.client, position, "", call.now_ns)))
        except Refusal as refusal:
            outcomes.append(_Outcome(code=refusal.code, msg=refusal.text))
    return outcomes


# --- reading


class _Filter:
    """What rows a list of orders or fills is to have."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._symbol = query.get("symbol", "").upper()
        self._side = query.get("side", "").upper()
        self._order_id = query.get("ordId", "")
        self._client_id = query.get("clOrdId", "")
        self._type = query.get("type", "").upper()
        self._states = {name.upper() for name in names(query.get("state"))}
        self._span: Span = span(query)

    def takes_order(self, order: FuturesOrder) -> bool:
        """Return whether an order is asked for."""
        return (
            self._takes(order.symbol, order.side, order.order_id, order.client_id)
            and self._type in ("", order.order_type)
            and (not self._states or order.state in self._states)
            and self._span.holds(order.updated_ns)
        )

    def takes_fill(self, fill: FillRecord) -> bool:
        """Return whether a fill is asked for."""
        ids = fill.order_id, fill.client_id
        return self._takes(fill.contract.symbol, fill.side, *ids) and self._span.holds(fill.ts_ns)

    def _takes(self, symbol: str, side: str, order_id: int, client_id: str) -> bool:
        return (
            self._symbol in ("", symbol)
            and self._side in ("", side)
            and self._order_id in ("", str(order_id))
            and self._client_id in ("", client_id)
        )


def _orders(call: Call, orders: Iterable[FuturesOrder]) -> list[OrderRow]:
    query = call.query()
    asked = _Filter(query)
    rows = (order for order in orders if asked.takes_order(order))
    return [order_row(order) for order in page(query, rows, lambda order: order.order_id)]


def _open_orders(call: Call) -> list[OrderRow]:
    return _orders(call, reversed(call.desk.orders(call.client).living.values()))


def _past_orders(call: Call) -> list[OrderRow]:
    mine = call.desk.orders(call.client).readable(call.now_ns)
    return _orders(call, sorted(mine, key=lambda order: -order.order_id))


def _order(call: Call) -> OrderRow:
    asked = call.fields(_One)
    if not (asked.ord_id or asked.cl_ord_id):
        raise Refusal(BAD_PARAMETER, "ordId or clOrdId is missing")
    mine = call.desk.orders(call.client)
    order = mine.find(str(asked.ord_id), asked.cl_ord_id)
    if order is None or asked.symbol.upper() not in ("", order.symbol):
        raise Refusal(NO_SUCH_ORDER, "the order does not exist")
    if order.state in (OrderState.CANCELED, OrderState.PARTIALLY_CANCELED) and order not in mine.readable(call.now_ns):
        raise Refusal(NO_SUCH_ORDER, "the order is no longer kept")
    return order_row(order)


def _fills(call: Call) -> list[FillRow]:
    query = call.query()
    asked = _Filter(query)
    rows = (fill for fill in reversed(call.desk.orders(call.client).fills) if asked.takes_fill(fill))
    return [fill_row(fill) for fill in page(query, rows, lambda fill: fill.fill_id)]


TRADE_ROUTES: Final[Routes] = {
    ("POST", "/v3/trade/order"): Route(_place, PLACE),
    ("POST", "/v3/trade/orders"): Route(_place_several, BATCH),
    ("DELETE", "/v3/trade/order"): Route(_cancel, CANCEL),
    ("DELETE", "/v3/trade/batchOrders"): Route(_cancel_several, OTHER),
    ("DELETE", "/v3/trade/allOrders"): Route(_cancel_all, OTHER),
    ("POST", "/v3/trade/position"): Route(_close, OTHER),
    ("POST", "/v3/trade/positionAll"): Route(_close_all, CLOSE_ALL),
    ("GET", "/v3/trade/order/opens"): Route(_open_orders, OTHER),
    ("GET", "/v3/trade/order/history"): Route(_past_orders, OTHER),
    ("GET", "/v3/trade/order/details"): Route(_order, OTHER),
    ("GET", "/v3/trade/order/trades"): Route(_fills, OTHER),
}
