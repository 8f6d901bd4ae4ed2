"""An intent in the words of the exchange, and a conditional order of the exchange in ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from bot.core.instrument import ATOM_SCALE, Instrument, Side, decimal_of
from bot.core.orders import OrderIntent, OrderState
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.outcome import Market
from bot.exchange.poloniex.private_state import OrderChanged, spot_rest_order

_STATES: Final = {
    "PENDING_NEW": OrderState.NEW,
    "TRIGGERED": OrderState.NEW,
    "PENDING_CANCEL": OrderState.PENDING_CANCEL,
    "CANCELED": OrderState.CANCELED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "FAILED": OrderState.FAILED,
}
"""What a conditional order is called, as long as it has not become another one."""


def spot_order(intent: OrderIntent, instrument: Instrument) -> sw.NewOrder:
    """Return an order as spot takes it.

    A market buy there spends an amount, and buys what that buys. Where lots are wanted, it is sent as a limit order
    that takes what is there up to the worst price that was reserved, and leaves nothing behind: so lots stay exact.
    """
    amount = quantity = price = None
    order_type, time_in_force = intent.order_type, intent.time_in_force
    if intent.order_type == "MARKET" and intent.amount_atoms:
        amount = decimal_of(intent.amount_atoms, ATOM_SCALE)
        time_in_force = "GTC"
    elif intent.order_type == "MARKET" and intent.side is Side.BUY:
        quantity = instrument.quantity(intent.qty_lots)
        price = instrument.price(intent.reserved_atoms // instrument.spent_atoms(1, intent.qty_lots))
        order_type, time_in_force = "LIMIT", "IOC"
    else:
        quantity = instrument.quantity(intent.qty_lots)
        price = None if intent.price_ticks is None else instrument.price(intent.price_ticks)
        time_in_force = "GTC" if intent.order_type == "MARKET" else intent.time_in_force
    assert order_type != "STOP", "conditional orders are worded elsewhere"
    return sw.NewOrder(
        symbol=intent.symbol,
        side=intent.side,
        type=order_type,
        client_id=intent.client_id,
        price=price,
        quantity=quantity,
        amount=amount,
        time_in_force=time_in_force,
        self_trade="EXPIRE_TAKER",
    )


def protective_order(intent: OrderIntent, instrument: Instrument) -> sw.NewSmartOrder:
    """Return a stop as spot's conditional orders have it: at its trigger it trades at the market."""
    return sw.NewSmartOrder(
        symbol=intent.symbol,
        side=intent.side,
        type="STOP",
        client_id=intent.client_id,
        stop_price=instrument.price(intent.trigger_ticks),
        quantity=instrument.quantity(intent.qty_lots),
        operator="GTE" if intent.side is Side.BUY else "LTE",
    )


def futures_intent(intent: OrderIntent, instrument: Instrument, margin_mode: fw.MarginMode) -> fw.FuturesOrder:
    """Return an order as futures take it, in contracts; a stop that has triggered with us goes out at the market."""
    is_market = intent.order_type in {"MARKET", "STOP"}
    return fw.FuturesOrder(
        client_id=intent.client_id,
        symbol=intent.symbol,
        side=intent.side,
        order_type="MARKET" if is_market else "LIMIT_MAKER" if intent.order_type == "LIMIT_MAKER" else "LIMIT",
        contracts=fw.Contracts(intent.qty_lots),
        price=None if intent.price_ticks is None else instrument.price(intent.price_ticks),
        margin_mode=margin_mode,
        is_reduce_only=intent.is_reduce_only and not intent.is_netted,
        time_in_force="GTC" if is_market else intent.time_in_force,
    )


def protective_report(row: sw.SmartOrderRow) -> OrderChanged:
    """Return how a conditional order stands; once it has triggered, how the order stands that came of it.

    Raises:
        ValueError: a state that we do not know.

    """
    if row.triggered_order is not None:
        return spot_rest_order(row.triggered_order)
    if row.state not in _STATES:
        raise ValueError(f"{row.state!r} is no state of a conditional order that we know")
    return OrderChanged(
        market=Market.SPOT,
        symbol=row.symbol,
        order_id=str(row.id),
        client_id=str(row.client_order_id or ""),
        side=row.side,
        order_type=row.type,
        state=_STATES[row.state],
        price=None,
        quantity=row.quantity or Decimal(0),
        filled_quantity=Decimal(0),
        filled_amount=Decimal(0),
        created_ms=row.create_time_ms,
        changed_ms=row.update_time_ms,
    )
