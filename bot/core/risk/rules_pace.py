"""Rules on how often: orders that work, messages, repetitions, rejections, what was traded today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bot.core.messages import DenyReason
from bot.core.risk.account import money
from bot.core.risk.pace import ALIKE, ALIKE_NS, REJECTS_LEAST
from bot.core.risk.proposal import Proposal
from bot.core.risk.rule import Denial

if TYPE_CHECKING:
    from bot.core.risk.gate import RiskGate

WHOLE_BPS: Final = 10_000


def open_orders_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when too many orders work already; of one symbol, only growth."""
    working = gate.account.working
    if len(working) >= gate.limits.max_open_orders:
        return (
            DenyReason.MAX_OPEN_ORDERS,
            f"{len(working)} orders work, max_open_orders {gate.limits.max_open_orders}",
        )
    bound = gate.limits.max_open_orders_symbol
    if not bound or not order.is_increase:
        return None
    symbol = order.instrument.symbol
    count = sum(own.record.intent.symbol == symbol for own in working.values())
    if count < bound:
        return None
    return DenyReason.MAX_OPEN_ORDERS, f"{count} orders of {symbol} work, max_open_orders_symbol {bound}"


def none_unknown(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth in a symbol while nobody knows whether an order of it lives, and anywhere while that are many."""
    if not order.is_increase:
        return None
    unknown = gate.account.unknown_orders()
    if not unknown:
        return None
    for own in unknown:
        if own.record.intent.symbol == order.instrument.symbol:
            return DenyReason.UNKNOWN_OUTSTANDING, f"resolve {own.record.intent.client_id} first"
    bound = gate.limits.max_unknown_orders
    if not bound or len(unknown) <= bound:
        return None
    names = ", ".join(own.record.intent.client_id for own in unknown)
    return DenyReason.UNKNOWN_OUTSTANDING, f"{len(unknown)} unknown orders > max_unknown_orders {bound}: {names}"


def rate_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when too many orders were sent lately."""
    return gate.budget.full(order.now_ns, is_increase=order.is_increase)


def repeats_few(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when a strategy has traded the same way again and again, and got nowhere."""
    bound = gate.limits.max_repeats
    if not bound or not order.is_increase:
        return None
    count = gate.pace.repeats(order.strategy, order.instrument.symbol, order.side, order.now_ns)
    if count < bound:
        return None
    return (
        DenyReason.REPEAT_THROTTLE,
        f"{order.strategy} traded {count} times {order.side} within 10 min, max_repeats {bound}",
    )


def not_rejected_alike(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny what the exchange has refused twice for one reason: growth for good, a reduction for a minute."""
    rejected = gate.pace.rejected.get((order.strategy, order.instrument.symbol, order.side))
    if rejected is None or rejected.count < ALIKE:
        return None
    if not order.is_increase and order.now_ns - rejected.last_ns >= ALIKE_NS:
        return None
    return DenyReason.REJECT_RATIO, f"the exchange refused {rejected.count} in a row: {rejected.reason or 'no reason'}"


def rejects_few(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth when the exchange has refused too many of the last orders."""
    bound_bps = gate.limits.max_reject_bps
    if not bound_bps or not order.is_increase:
        return None
    rejects = gate.pace.rejects(order.now_ns)
    orders = max(gate.pace.orders(order.now_ns), rejects)
    if rejects < REJECTS_LEAST or rejects * WHOLE_BPS <= orders * bound_bps:
        return None
    return DenyReason.REJECT_RATIO, f"{rejects} of {orders} orders in 5 min were refused > max_reject {bound_bps} bps"


def trades_enough(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth when many orders were sent for few trades."""
    bound = gate.limits.max_orders_per_trade
    if not bound or not order.is_increase:
        return None
    orders, trades = gate.pace.orders(order.now_ns), gate.pace.trades(order.now_ns)
    if orders < bound * max(trades, 1):
        return None
    return DenyReason.OTR, f"{orders} orders for {trades} trades in 5 min, max_orders_per_trade {bound}"


def day_not_spent(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth after too many trades today, or too much traded."""
    limits = gate.limits
    if not order.is_increase or not (limits.max_trades or limits.max_turnover_bps):
        return None
    trades, turnover = gate.pace.today(order.now_ns)
    if limits.max_trades and trades >= limits.max_trades:
        return DenyReason.MAX_TRADES, f"{trades} trades today, max_trades_per_day {limits.max_trades}"
    if not limits.max_turnover_bps:
        return None
    assert order.equity_atoms is not None
    bound = order.equity_atoms * limits.max_turnover_bps // WHOLE_BPS
    if turnover + order.value_atoms <= bound:
        return None
    return DenyReason.MAX_TURNOVER, f"turnover today {money(turnover)} > max_turnover, which is {money(bound)}"
