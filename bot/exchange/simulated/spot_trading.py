"""The private spot calls about orders, fills and the kill switch. Source: the dossier's spot-rest.md, section 9."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from bot.core.orders import OrderState
from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.liquidity import Order
from bot.exchange.simulated.replies import OK, Refusal, Shape
from bot.exchange.simulated.smart_desk import KILL_SWITCH_S_MAX, KILL_SWITCH_S_MIN
from bot.exchange.simulated.spot_calls import (
    CLIENT_ID_PREFIX,
    DAY_MS,
    Call,
    Loose,
    Route,
    Routes,
    decoded,
    listed,
    order_id,
    page,
    span,
)
from bot.exchange.simulated.spot_desk import OPEN_ORDERS_MAX, SpotDesk
from bot.exchange.simulated.spot_orders import OrderFields, checked_order, is_true, plain_text
from bot.exchange.simulated.spot_rows import Execution, ExecutionRow, OrderRow, execution_row, order_row
from bot.exchange.simulated.venue import MS_NS

BATCH_MAX: Final = 20
HISTORY_DEFAULT: Final = 500
HISTORY_MAX: Final = 1_000
HISTORY_DAYS: Final = 30
UNFILLED_KEPT_DAYS: Final = 7
FILLED_KEPT_DAYS: Final = 90
TRADES_DEFAULT: Final = 100
TRADES_MAX: Final = 1_000
TRADES_DAYS: Final = 90
HISTORY_STATES: Final = frozenset(
    {OrderState.FAILED, OrderState.FILLED, OrderState.CANCELED, OrderState.PARTIALLY_CANCELED}
)


class Placed(Shape, frozen=True, kw_only=True):
    """The answer to an order: an id, not an outcome."""

    id: str
    client_order_id: str


class _NotPlaced(Shape, frozen=True, kw_only=True):
    code: int
    message: str
    client_order_id: str


class Canceling(Shape, frozen=True, kw_only=True):
    """The answer to a cancel: that it was heard, or why not."""

    order_id: str
    client_order_id: str
    state: str
    code: int
    message: str


class CancelIds(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which orders to cancel."""

    order_ids: Loose = None
    client_order_ids: Loose = None


class CancelAll(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of what markets to cancel everything; the Python SDK and the pages use different names."""

    symbol: Loose = None
    symbols: Loose = None
    account_type: Loose = None
    account_types: Loose = None

    def means(self, symbol: str) -> bool:
        """Return whether orders of a market are meant."""
        symbols = [name.upper() for name in listed(self.symbol, self.symbols)]
        types = [name.upper() for name in listed(self.account_type, self.account_types)]
        return (not symbols or symbol in symbols) and (not types or "SPOT" in types)


class _KillSwitchFields(msgspec.Struct, frozen=True, kw_only=True):
    timeout: int | str = ""


class _KillSwitchTimes(Shape, frozen=True, kw_only=True):
    start_time: int
    cancellation_time: int


# --- placing


def place_order(desk: SpotDesk, account: Account, fields: OrderFields) -> Order:
    """Place what `fields` are.

    Raises:
        Refusal: they are no order, or one that the exchange does not take.

    """
    instruments = {symbol: market.instrument for symbol, market in desk.venue.markets.items()}
    return desk.place(account, checked_order(fields, instruments))


def _place(call: Call) -> Placed:
    return _placed(place_order(call.desk, call.account, decoded(call.body, OrderFields)))


def _placed(order: Order) -> Placed:
    return Placed(id=str(order.order_id), client_order_id=order.client_id)


def _place_batch(call: Call) -> list[Placed | _NotPlaced]:
    batch = decoded(call.body, list[msgspec.Raw])
    if not 1 <= len(batch) <= BATCH_MAX:
        raise refused(Code.INVALID_PARAMETER, f"{len(batch)} orders; 1 to {BATCH_MAX} in a batch")
    answers: list[Placed | _NotPlaced] = []
    for raw in batch:
        client_id = ""
        try:
            fields = decoded(raw, OrderFields)
            client_id = fields.client_order_id or ""
            answers.append(_placed(place_order(call.desk, call.account, fields)))
        except Refusal as refusal:
            answers.append(_NotPlaced(code=refusal.code, message=refusal.message, client_order_id=client_id))
    return answers


def _replace(call: Call) -> Placed:
    order = find_order(call.desk, call.account, call.arg)
    changes = call.fields(OrderFields)
    row = order_row(call.desk.venue.markets[order.symbol], order)
    fields = filled_in(changes, row)
    instruments = {order.symbol: call.desk.instrument(order.symbol)}
    proceeds = is_true(changes.proceed_on_failure)
    return _placed(call.desk.replace(order, checked_order(fields, instruments), proceeds_on_failure=proceeds))


def filled_in(changes: OrderFields, row: OrderRow) -> OrderFields:
    """Return the new order of a replacement: what is not given is copied, but the client id never is."""

    def copied(change: msgspec.Raw, old: str) -> msgspec.Raw:
        is_given = plain_text(change) is not None
        return change if is_given or old == "0" else msgspec.Raw(f'"{old}"'.encode())

    kind = changes.type or row.type
    is_market = kind.upper() == "MARKET"
    return msgspec.structs.replace(
        changes,
        symbol=row.symbol,
        side=row.side,
        type=kind,
        time_in_force=changes.time_in_force or row.time_in_force,
        price=changes.price if is_market else copied(changes.price, row.price),
        quantity=copied(changes.quantity, row.quantity),
        amount=copied(changes.amount, row.amount),
    )


def find_order(desk: SpotDesk, account: Account, name: str) -> Order:
    """Return an order by its id, or by `cid:` and the client's id.

    Raises:
        Refusal: there is none, or the name is none.

    """
    folder = desk.folder(account)
    if name.startswith(CLIENT_ID_PREFIX):
        number = folder.by_client_id.get(name.removeprefix(CLIENT_ID_PREFIX))
    else:
        number = order_id(name)
    order = folder.orders.get(number) if number is not None else None
    if order is None:
        raise refused(Code.NO_ORDER, name)
    return order


# --- cancelling


def _cancel(call: Call) -> Canceling:
    order = find_order(call.desk, call.account, call.arg)
    call.desk.cancel(order)
    return canceling(order)


def canceling(order: Order) -> Canceling:
    """Return that the cancel of an order was heard."""
    return Canceling(
        order_id=str(order.order_id), client_order_id=order.client_id, state="PENDING_CANCEL", code=OK, message=""
    )


def cancel_by_ids(fields: CancelIds, cancel: Callable[[str], Canceling]) -> list[Canceling]:
    """Cancel one order after the other; a refusal is told in its row."""
    named = [(name, "") for name in listed(fields.order_ids)]
    named += [(CLIENT_ID_PREFIX + name, name) for name in listed(fields.client_order_ids)]
    if not named:
        raise refused(Code.MISSING_PARAMETER, "orderIds or clientOrderIds")
    rows: list[Canceling] = []
    for name, client_id in named:
        try:
            rows.append(cancel(name))
        except Refusal as refusal:
            rows.append(
                Canceling(
                    order_id="" if client_id else name,
                    client_order_id=client_id,
                    state="",
                    code=refusal.code,
                    message=refusal.message,
                )
            )
    return rows


def cancel_orders(desk: SpotDesk, account: Account, fields: CancelIds) -> list[Canceling]:
    """Cancel the orders of the given ids."""

    def cancel(name: str) -> Canceling:
        order = find_order(desk, account, name)
        desk.cancel(order)
        return canceling(order)

    return cancel_by_ids(fields, cancel)


def cancel_all(desk: SpotDesk, account: Account, fields: CancelAll) -> list[Canceling]:
    """Cancel all living orders of the markets that are meant."""
    orders = [order for order in desk.folder(account).living.values() if fields.means(order.symbol)]
    for order in orders:
        if not order.state.is_final:
            desk.cancel(order)
    return [canceling(order) for order in orders]


def _cancel_by_ids(call: Call) -> list[Canceling]:
    return cancel_orders(call.desk, call.account, call.fields(CancelIds))


def _cancel_all(call: Call) -> list[Canceling]:
    return cancel_all(call.desk, call.account, call.fields(CancelAll))


# --- asking


def _order(call: Call) -> OrderRow:
    order = find_order(call.desk, call.account, call.arg)
    return order_row(call.desk.venue.markets[order.symbol], order)


def _rows(call: Call, orders: Iterable[Order]) -> list[OrderRow]:
    return [order_row(call.desk.venue.markets[order.symbol], order) for order in orders]


def _open_orders(call: Call) -> list[OrderRow]:
    query = call.query
    living = reversed(call.desk.folder(call.account).living.values())
    asked = (order for order in living if _is_asked(order, query.get("symbol"), query.get("side"), None))
    return _rows(call, page(query, asked, lambda order: order.order_id, OPEN_ORDERS_MAX, OPEN_ORDERS_MAX))


def _history(call: Call) -> list[OrderRow]:
    query = call.query
    now_ms = call.desk.venue.time_ms
    times = span(query, now_ms, HISTORY_DAYS)
    states = {name.upper() for name in listed(query.get("states"))}
    if unknown := states - HISTORY_STATES:
        raise refused(Code.INVALID_PARAMETER, f"states {','.join(unknown)}")
    hides_cancel = query.get("hideCancel", "").lower() == "true"

    def is_told(order: Order) -> bool:
        kept_days = FILLED_KEPT_DAYS if order.filled_lots else UNFILLED_KEPT_DAYS
        return (
            order.state.is_final
            and times.holds(order.updated_ns)
            and order.updated_ns // MS_NS >= now_ms - kept_days * DAY_MS
            and (not states or order.state in states)
            and not (hides_cancel and order.state is OrderState.CANCELED)
            and _is_asked(order, query.get("symbol"), query.get("side"), query.get("type"))
        )

    newest_first = reversed(call.desk.folder(call.account).orders.values())
    told = filter(is_told, newest_first)
    return _rows(call, page(query, told, lambda order: order.order_id, HISTORY_DEFAULT, HISTORY_MAX))


def _is_asked(order: Order, symbol: str | None, side: str | None, kind: str | None) -> bool:
    return (
        (not symbol or order.symbol == symbol.upper())
        and (not side or order.side == side.upper())
        and (not kind or order.order_type == kind.upper())
    )


def _trades(call: Call) -> list[ExecutionRow]:
    query = call.query
    times = span(query, call.desk.venue.time_ms, TRADES_DAYS)
    symbols = {name.upper() for name in listed(query.get("symbols"), query.get("symbol"))}
    newest_first = reversed(call.desk.folder(call.account).executions)
    told = (
        execution
        for execution in newest_first
        if times.holds(execution.ts_ns) and (not symbols or execution.order.symbol in symbols)
    )
    return _execution_rows(call, page(query, told, lambda each: each.trade_id, TRADES_DEFAULT, TRADES_MAX))


def _order_trades(call: Call) -> list[ExecutionRow]:
    order = find_order(call.desk, call.account, str(order_id(call.arg)))
    newest_first = reversed(call.desk.folder(call.account).executions)
    return _execution_rows(call, (execution for execution in newest_first if execution.order is order))


def _execution_rows(call: Call, executions: Iterable[Execution]) -> list[ExecutionRow]:
    markets = call.desk.venue.markets
    return [execution_row(markets[execution.order.symbol], execution) for execution in executions]


# --- the kill switch


def _set_kill_switch(call: Call) -> _KillSwitchTimes:
    text = str(decoded(call.body, _KillSwitchFields).timeout).strip()
    if not text:
        raise refused(Code.MISSING_PARAMETER, "timeout")
    if text == "-1":
        call.smart.disarm(call.account)
        return _KillSwitchTimes(start_time=0, cancellation_time=0)
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(KILL_SWITCH_S_MAX))
    if not (is_number and KILL_SWITCH_S_MIN <= int(text) <= KILL_SWITCH_S_MAX):
        raise refused(Code.INVALID_PARAMETER, f"timeout {text}; -1 or {KILL_SWITCH_S_MIN} to {KILL_SWITCH_S_MAX}")
    call.smart.arm(call.account, int(text))
    return _kill_switch(call)


def _kill_switch(call: Call) -> _KillSwitchTimes:
    switch = call.smart.folder(call.account).kill_switch
    if switch is None:
        raise refused(Code.NO_KILL_SWITCH)
    return _KillSwitchTimes(start_time=switch.armed_ns // MS_NS, cancellation_time=switch.due_ns // MS_NS)


TRADING_ROUTES: Final[Routes] = {
    ("POST", "orders"): Route(_place),
    ("POST", "orders/batch"): Route(_place_batch, is_heavy=True),
    ("PUT", "orders/*"): Route(_replace, is_heavy=True),
    ("GET", "orders"): Route(_open_orders, is_heavy=True),
    ("GET", "orders/history"): Route(_history, is_heavy=True),
    ("GET", "orders/*"): Route(_order),
    ("GET", "orders/*/trades"): Route(_order_trades),
    ("GET", "trades"): Route(_trades, is_heavy=True),
    ("DELETE", "orders"): Route(_cancel_all, is_heavy=True),
    ("DELETE", "orders/cancelByIds"): Route(_cancel_by_ids, is_heavy=True),
    ("DELETE", "orders/*"): Route(_cancel),
    ("POST", "orders/killSwitch"): Route(_set_kill_switch),
    ("GET", "orders/killSwitchStatus"): Route(_kill_switch),
}
