"""What the exchange says of a client's spot orders, fills and wallets: rows of REST, and frames of the private socket.

Source: the dossier's spot-rest.md, section 9, and spot-ws.md, section 5; keys in the exchange's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from bot.core.instrument import ATOM_SCALE
from bot.exchange.simulated.accounts import Account, AccountType
from bot.exchange.simulated.liquidity import Order
from bot.exchange.simulated.replies import Shape, encode
from bot.exchange.simulated.venue import MS_NS, Market, plain

AVERAGE_DECIMALS: Final = 8
"""Of an average price, beyond those of a price."""
MatchRole = Literal["MAKER", "TAKER"]


class BalanceEvent(StrEnum):
    """Why a wallet changed; only `place_order` is sourced."""

    PLACE = "place_order"
    MATCH = "match_order"
    CANCEL = "canceled_order"
    TRANSFER_IN = "transfer_in"
    TRANSFER_OUT = "transfer_out"


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill, as one of its accounts sees it."""

    trade_id: int
    ts_ns: int
    order: Order
    role: MatchRole
    price_ticks: int
    qty_lots: int
    fee_currency: str
    fee_atoms: int


def atoms_text(atoms: int) -> str:
    """Return money or coins as the exchange writes them."""
    return plain(atoms, ATOM_SCALE)


class OrderRow(Shape, frozen=True, kw_only=True):
    """An order in an answer."""

    id: str
    client_order_id: str
    symbol: str
    state: str
    account_type: str = "SPOT"
    side: str
    type: str
    time_in_force: str
    quantity: str
    price: str
    avg_price: str
    amount: str
    filled_quantity: str
    filled_amount: str
    create_time: int
    update_time: int
    order_source: str
    loan: bool = False
    cancel_reason: int = 0


def order_row(market: Market, order: Order) -> OrderRow:
    """Return the row of an order."""
    value, lots = order.filled_value, order.filled_lots
    scale = market.instrument.price_scale + AVERAGE_DECIMALS
    return OrderRow(
        id=str(order.order_id),
        client_order_id=order.client_id,
        symbol=order.symbol,
        state=order.shown_state,
        side=order.side,
        type=order.order_type,
        time_in_force=order.time_in_force,
        quantity=market.quantity_texts[order.qty_lots or 0],
        price=market.price_texts[order.price_ticks or 0],
        avg_price=plain(value * 10**AVERAGE_DECIMALS // lots, scale) if lots else "0",
        amount=atoms_text(order.budget_atoms),
        filled_quantity=market.quantity_texts[lots],
        filled_amount=market.amount_text(value),
        create_time=order.created_ns // MS_NS,
        update_time=order.updated_ns // MS_NS,
        order_source=order.source,
    )


class ExecutionRow(Shape, frozen=True, kw_only=True):
    """A fill in an answer."""

    id: str
    symbol: str
    account_type: str = "SPOT"
    order_id: str
    side: str
    type: str
    match_role: MatchRole
    create_time: int
    price: str
    quantity: str
    amount: str
    fee_currency: str
    fee_amount: str
    page_id: str
    client_order_id: str


def execution_row(market: Market, execution: Execution) -> ExecutionRow:
    """Return the row of a fill."""
    order = execution.order
    return ExecutionRow(
        id=str(execution.trade_id),
        symbol=order.symbol,
        order_id=str(order.order_id),
        side=order.side,
        type=order.order_type,
        match_role=execution.role,
        create_time=execution.ts_ns // MS_NS,
        price=market.price_texts[execution.price_ticks],
        quantity=market.quantity_texts[execution.qty_lots],
        amount=market.amount_text(execution.price_ticks * execution.qty_lots),
        fee_currency=execution.fee_currency,
        fee_amount=atoms_text(execution.fee_atoms),
        page_id=str(execution.trade_id),
        client_order_id=order.client_id,
    )


class _OrderNews(Shape, frozen=True, kw_only=True):
    symbol: str
    type: str
    quantity: str
    order_id: str
    trade_fee: str
    client_order_id: str
    account_type: str = "SPOT"
    fee_currency: str
    event_type: Literal["place", "trade", "canceled"]
    source: str
    side: str
    filled_quantity: str
    filled_amount: str
    match_role: MatchRole
    state: str
    trade_time: int
    trade_amount: str
    order_amount: str
    create_time: int
    price: str
    trade_qty: str
    trade_price: str
    trade_id: str
    ts: int


class _BalanceNews(Shape, frozen=True, kw_only=True):
    change_time: int
    account_id: str
    account_type: str = "SPOT"
    event_type: str
    available: str
    currency: str
    id: int
    user_id: int
    hold: str
    ts: int


class _OrderFrame(Shape, frozen=True, kw_only=True):
    channel: str = "orders"
    data: tuple[_OrderNews]


class _BalanceFrame(Shape, frozen=True, kw_only=True):
    channel: str = "balances"
    data: tuple[_BalanceNews]


def order_frame(
    market: Market,
    order: Order,
    event_type: Literal["place", "trade", "canceled"],
    execution: Execution | None,
    ms: int,
) -> bytes:
    """Return the frame that tells of a change of an order; `execution` is the fill of a trade."""
    fill = execution
    price = fill.price_ticks if fill is not None else 0
    lots = fill.qty_lots if fill is not None else 0
    row = _OrderNews(
        symbol=order.symbol,
        type=order.order_type,
        quantity=market.quantity_texts[order.qty_lots or 0],
        order_id=str(order.order_id),
        trade_fee=atoms_text(fill.fee_atoms) if fill is not None else "0",
        client_order_id=order.client_id,
        fee_currency=fill.fee_currency if fill is not None else "",
        event_type=event_type,
        source=order.source,
        side=order.side,
        filled_quantity=market.quantity_texts[order.filled_lots],
        filled_amount=market.amount_text(order.filled_value),
        match_role=fill.role if fill is not None else "MAKER",
        state=order.state,
        trade_time=fill.ts_ns // MS_NS if fill is not None else 0,
        trade_amount=market.amount_text(price * lots),
        order_amount=atoms_text(order.budget_atoms),
        create_time=order.created_ns // MS_NS,
        price=market.price_texts[order.price_ticks or 0],
        trade_qty=market.quantity_texts[lots],
        trade_price=market.price_texts[price],
        trade_id=str(fill.trade_id) if fill is not None else "0",
        ts=ms,
    )
    return encode(_OrderFrame(data=(row,)))


def balance_frame(account: Account, currency: str, event: BalanceEvent, change_id: int, ms: int) -> bytes:
    """Return the frame that tells how much of a currency there is now."""
    wallet = account.wallet(AccountType.SPOT, currency)
    row = _BalanceNews(
        change_time=ms,
        account_id=account.account_id,
        event_type=event,
        available=atoms_text(wallet.available_atoms),
        currency=currency,
        id=change_id,
        user_id=account.number,
        hold=atoms_text(wallet.hold_atoms),
        ts=ms,
    )
    return encode(_BalanceFrame(data=(row,)))
