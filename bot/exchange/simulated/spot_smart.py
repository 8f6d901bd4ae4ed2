"""The private spot calls about smart orders. Source: the dossier's spot-rest.md, section 10."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.replies import OK, Shape
from bot.exchange.simulated.smart import SmartOrder, SmartState
from bot.exchange.simulated.smart_desk import SmartDesk
from bot.exchange.simulated.spot_calls import (
    CLIENT_ID_PREFIX,
    Call,
    Route,
    Routes,
    decoded,
    listed,
    order_id,
    page,
    span,
)
from bot.exchange.simulated.spot_orders import OrderFields, is_true, plain_text
from bot.exchange.simulated.spot_rows import OrderRow, atoms_text, order_row
from bot.exchange.simulated.spot_trading import (
    HISTORY_DAYS,
    HISTORY_DEFAULT,
    HISTORY_MAX,
    CancelAll,
    CancelIds,
    Canceling,
    Placed,
    cancel_by_ids,
)
from bot.exchange.simulated.venue import MS_NS

WAITING_DEFAULT: Final = 500


class SmartRow(Shape, frozen=True, kw_only=True, omit_defaults=True):
    """A smart order in an answer."""

    id: str
    client_order_id: str
    symbol: str
    state: str
    account_type: str
    side: str
    type: str
    time_in_force: str
    quantity: str
    price: str
    amount: str
    stop_price: str
    trailing_offset: str | None = None
    limit_offset: str | None = None
    operator: str
    create_time: int
    update_time: int
    triggered_order: OrderRow | None = None


def _row(call: Call, smart: SmartOrder, *, with_triggered: bool = False) -> SmartRow:
    market = call.desk.venue.markets[smart.symbol]
    terms, order = smart.terms, smart.terms.order
    is_priced_later = terms.type == "TRAILING_STOP_LIMIT"
    triggered = smart.triggered if with_triggered else None
    return SmartRow(
        id=str(smart.order_id),
        client_order_id=order.client_id,
        symbol=smart.symbol,
        state=smart.state,
        account_type="SPOT",
        side=order.side,
        type=terms.type,
        time_in_force=order.time_in_force,
        quantity=market.quantity_texts[order.qty_lots or 0],
        price="0" if is_priced_later else market.price_texts[order.price_ticks or 0],
        amount=atoms_text(order.budget_atoms),
        stop_price=market.price_texts[terms.stop_ticks or 0],
        trailing_offset=terms.trailing.text if terms.trailing is not None else None,
        limit_offset=terms.limit.text if terms.limit is not None else None,
        operator=smart.operator,
        create_time=smart.created_ns // MS_NS,
        update_time=smart.updated_ns // MS_NS,
        triggered_order=order_row(market, triggered) if triggered is not None else None,
    )


def _place(call: Call) -> Placed:
    smart = call.smart.place(call.account, call.smart.checked(decoded(call.body, OrderFields)))
    return _placed(smart)


def _placed(smart: SmartOrder) -> Placed:
    return Placed(id=str(smart.order_id), client_order_id=smart.terms.order.client_id)


def _replace(call: Call) -> Placed:
    smart = _find(call.smart, call.account, call.arg)
    changes = call.fields(OrderFields)
    row = _row(call, smart)

    def copied(change: msgspec.Raw, old: str | None) -> msgspec.Raw:
        is_given = plain_text(change) is not None
        return change if is_given or old in (None, "0") else msgspec.Raw(f'"{old}"'.encode())

    fields = msgspec.structs.replace(
        changes,
        symbol=row.symbol,
        side=row.side,
        type=changes.type or row.type,
        time_in_force=changes.time_in_force or row.time_in_force,
        price=copied(changes.price, row.price),
        quantity=copied(changes.quantity, row.quantity),
        amount=copied(changes.amount, row.amount),
        stop_price=copied(changes.stop_price, row.stop_price),
        trailing_offset=copied(changes.trailing_offset, row.trailing_offset),
        limit_offset=copied(changes.limit_offset, row.limit_offset),
        operator=changes.operator or smart.terms.operator,
    )
    return _placed(call.smart.replace(smart, fields, proceeds_on_failure=is_true(changes.proceed_on_failure)))


def _find(desk: SmartDesk, account: Account, name: str) -> SmartOrder:
    folder = desk.folder(account)
    if name.startswith(CLIENT_ID_PREFIX):
        number = folder.by_client_id.get(name.removeprefix(CLIENT_ID_PREFIX))
    else:
        number = order_id(name)
    smart = folder.orders.get(number) if number is not None else None
    if smart is None:
        raise refused(Code.NO_SMART_ORDER, name)
    return smart


def _waiting(call: Call) -> list[SmartRow]:
    query = call.query
    newest_first = reversed(call.smart.waiting(call.account))
    asked = (smart for smart in newest_first if _is_asked(smart, query.get("symbol")))
    return _rows(call, page(query, asked, lambda smart: smart.order_id, WAITING_DEFAULT, HISTORY_MAX))


def _history(call: Call) -> list[SmartRow]:
    query = call.query
    times = span(query, call.desk.venue.time_ms, HISTORY_DAYS)
    states = {name.upper() for name in listed(query.get("states"))}
    told = (
        smart
        for smart in reversed(call.smart.folder(call.account).orders.values())
        if smart.state is not SmartState.PENDING_NEW
        and times.holds(smart.updated_ns)
        and (not states or smart.state in states)
        and _is_asked(smart, query.get("symbol"))
    )
    return _rows(call, page(query, told, lambda smart: smart.order_id, HISTORY_DEFAULT, HISTORY_MAX))


def _rows(call: Call, smarts: Iterable[SmartOrder]) -> list[SmartRow]:
    return [_row(call, smart) for smart in smarts]


def _is_asked(smart: SmartOrder, symbol: str | None) -> bool:
    return not symbol or smart.symbol == symbol.upper()


def _one(call: Call) -> list[SmartRow]:
    # The Python SDK's docstring promises an object; the pages, the Java SDK and ccxt say an array of one.
    return [_row(call, _find(call.smart, call.account, call.arg), with_triggered=True)]


def _cancel(call: Call) -> Canceling:
    return _canceled(call.smart, _find(call.smart, call.account, call.arg))


def _canceled(desk: SmartDesk, smart: SmartOrder) -> Canceling:
    desk.cancel(smart)
    return Canceling(
        order_id=str(smart.order_id),
        client_order_id=smart.terms.order.client_id,
        state=smart.state,
        code=OK,
        message="",
    )


def _cancel_by_ids(call: Call) -> list[Canceling]:
    def cancel(name: str) -> Canceling:
        return _canceled(call.smart, _find(call.smart, call.account, name))

    return cancel_by_ids(call.fields(CancelIds), cancel)


def _cancel_all(call: Call) -> list[Canceling]:
    fields = call.fields(CancelAll)
    waiting = [smart for smart in call.smart.waiting(call.account) if fields.means(smart.symbol)]
    return [_canceled(call.smart, smart) for smart in waiting]


SMART_ROUTES: Final[Routes] = {
    ("POST", "smartorders"): Route(_place),
    ("PUT", "smartorders/*"): Route(_replace, is_heavy=True),
    ("GET", "smartorders"): Route(_waiting, is_heavy=True),
    ("GET", "smartorders/history"): Route(_history, is_heavy=True),
    ("GET", "smartorders/*"): Route(_one),
    ("DELETE", "smartorders"): Route(_cancel_all, is_heavy=True),
    ("DELETE", "smartorders/cancelByIds"): Route(_cancel_by_ids, is_heavy=True),
    ("DELETE", "smartorders/*"): Route(_cancel),
}
