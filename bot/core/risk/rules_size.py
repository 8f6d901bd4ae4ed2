"""Rules on how much: of one order, of what all orders together may come to, and of what pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bot.core.instrument import Side
from bot.core.messages import DenyReason
from bot.core.risk.account import money
from bot.core.risk.limits import NO_RAMP_BPS
from bot.core.risk.proposal import Proposal
from bot.core.risk.rule import Denial

if TYPE_CHECKING:
    from bot.core.risk.gate import RiskGate

WHOLE_BPS: Final = 10_000


def order_value_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny one order that is worth too much; closing down is always allowed."""
    if not order.is_increase:
        return None
    bound = gate.limits.max_order_value_atoms
    if order.value_atoms > bound:
        return DenyReason.MAX_ORDER_VALUE, f"value {money(order.value_atoms)} > max_order_value {money(bound)}"
    if not gate.limits.max_order_bps:
        return None
    assert order.equity_atoms is not None
    bound = order.equity_atoms * gate.limits.max_order_bps // WHOLE_BPS
    if order.value_atoms <= bound:
        return None
    return DenyReason.MAX_ORDER_VALUE, f"value {money(order.value_atoms)} > max_order_pct, which is {money(bound)}"


def order_qty_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny one order of too many coins: more than allowed, or than its symbol's orders usually have."""
    if not order.is_increase:
        return None
    instrument = order.instrument
    atoms = gate.limits.max_order_base_atoms.get(instrument.symbol)
    if atoms is not None and order.qty_lots * instrument.base_atoms_per_lot > atoms:
        quantity = instrument.quantity(order.qty_lots)
        return DenyReason.MAX_ORDER_QTY, f"quantity {quantity:f} > max_order_qty {money(atoms)}"
    multiple = gate.limits.max_order_multiple
    usual_lots = gate.pace.median_lots(instrument.symbol) if multiple else 0
    if not usual_lots or order.qty_lots <= multiple * usual_lots:
        return None
    quantity, usual = instrument.quantity(order.qty_lots), instrument.quantity(usual_lots)
    return DenyReason.MAX_ORDER_QTY, f"quantity {quantity:f} > {multiple} x {usual:f}, the median of the last orders"


def no_self_cross(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth that would trade with an order of our own."""
    if not gate.limits.forbids_self_cross or not order.is_increase or order.order_type == "LIMIT_MAKER":
        return None
    is_buy = order.side is Side.BUY
    for own in gate.account.resting(order.instrument.symbol, Side.SELL if is_buy else Side.BUY):
        own_ticks = own.record.intent.price_ticks
        assert own_ticks is not None
        if own_ticks <= order.price_ticks if is_buy else own_ticks >= order.price_ticks:
            return DenyReason.SELF_CROSS, f"would trade with our own order {own.record.intent.client_id}"
    return None


def not_duplicate(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny to send the same order again at once."""
    if not gate.limits.duplicate_ns or not order.is_increase:
        return None
    age_ns = gate.pace.age_ns(
        order.strategy, order.instrument.symbol, order.side, order.price_ticks, order.qty_lots, order.now_ns
    )
    if age_ns < 0:
        return None
    bound_ms = gate.limits.duplicate_ns // 1_000_000
    return DenyReason.DUPLICATE_INTENT, f"the same was sent {age_ns // 1_000_000} ms ago < duplicate_ms {bound_ms}"


def ramped(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny what is large, for a day after a new version or strategy: it is not known yet what it does."""
    ramp_bps = gate.limits.ramp_bps
    if ramp_bps >= NO_RAMP_BPS or not order.is_increase or order.now_ns >= gate.ramp_until_ns:
        return None
    assert order.equity_atoms is not None
    limits, equity = gate.limits, order.equity_atoms * ramp_bps // WHOLE_BPS
    asked = (
        ("order", order.value_atoms, limits.max_order_value_atoms * ramp_bps // WHOLE_BPS),
        (
            "position",
            gate.account.worst_atoms(order.instrument.symbol, order),
            equity * limits.max_position_bps // WHOLE_BPS,
        ),
        ("all positions", gate.account.gross_atoms(order), equity * limits.max_gross_bps // WHOLE_BPS),
    )
    for what, value, bound in asked:
        if value > bound:
            return DenyReason.RAMP, f"{what} {money(value)} > {money(bound)}, which is ramp_pct of what is usual"
    return None


def position_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when this order and every working increase of the symbol, all filled, pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.worst_atoms(order.instrument.symbol, order)
    bound = order.equity_atoms * gate.limits.max_position_bps // WHOLE_BPS
    if after <= bound:
        return None
    return DenyReason.MAX_POSITION, f"position {money(after)} > max_position_pct, which is {money(bound)}"


def gross_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when all symbols together would pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.gross_atoms(order)
    bound = order.equity_atoms * gate.limits.max_gross_bps // WHOLE_BPS
    if after <= bound:
        return None
    return DenyReason.MAX_GROSS, f"all positions {money(after)} > max_gross_pct, which is {money(bound)}"


def net_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when longs less shorts would pass the bound."""
    if not gate.limits.max_net_bps or not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.net_atoms(order)
    bound = order.equity_atoms * gate.limits.max_net_bps // WHOLE_BPS
    if after <= bound:
        return None
    return DenyReason.MAX_NET, f"net position {money(after)} > max_net_pct, which is {money(bound)}"


def strategy_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when all positions of one strategy would pass the bound."""
    if not gate.limits.max_strategy_bps or not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.strategy_atoms(order)
    bound = order.equity_atoms * gate.limits.max_strategy_bps // WHOLE_BPS
    if after <= bound:
        return None
    return (
        DenyReason.MAX_STRATEGY,
        f"positions of {order.strategy} {money(after)} > max_strategy_pct, which is {money(bound)}",
    )


def group_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when a group of symbols that move together would pass the bound."""
    groups = gate.limits.groups
    group = groups.get(order.instrument.symbol)
    if group is None or not gate.limits.max_group_bps or not order.is_increase:
        return None
    assert order.equity_atoms is not None
    positions = gate.account.positions(order).items()
    after = sum(atoms for (_, symbol), atoms in positions if groups.get(symbol) == group)
    bound = order.equity_atoms * gate.limits.max_group_bps // WHOLE_BPS
    if after <= bound:
        return None
    return DenyReason.MAX_GROUP, f"positions of group {group} {money(after)} > max_group_pct, which is {money(bound)}"


def funds_enough(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a buy on spot that the free cash does not cover, and a perpetual whose margin equity does not cover."""
    if not order.is_increase:
        return None
    if order.instrument.is_perp:
        return _margin_enough(gate, order)
    free = gate.account.free_atoms
    needed = order.value_atoms
    if gate.limits.fee_headroom_bps and not order.amount_atoms:  # an amount is spent with its fees
        needed += -(-needed * gate.limits.fee_headroom_bps // WHOLE_BPS)
    if needed <= free:
        return None
    return DenyReason.INSUFFICIENT_FUNDS, f"needs {money(needed)} > free cash {money(free)}"


def _margin_enough(gate: RiskGate, order: Proposal) -> Denial | None:
    owned = gate.account.margin_atoms
    assert owned is not None
    margin = -(-gate.account.perps_atoms(order) // gate.limits.leverage)
    margin += -(-margin * gate.limits.margin_buffer_bps // WHOLE_BPS)
    if margin <= owned:
        return None
    whose = "equity" if gate.account.futures_cash_atoms is None else "futures wallet"
    return DenyReason.INSUFFICIENT_FUNDS, f"margin of all {money(margin)} > {whose} {money(owned)}"


def leverage_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny when all perpetuals together would be too large for equity."""
    bound_bps = gate.limits.max_leverage_bps
    if not bound_bps or not order.is_increase or not order.instrument.is_perp:
        return None
    assert order.equity_atoms is not None
    after = gate.account.perps_atoms(order)
    bound = order.equity_atoms * bound_bps // WHOLE_BPS
    if after <= bound:
        return None
    return DenyReason.MAX_LEVERAGE, f"perpetuals {money(after)} > max_leverage, which is {money(bound)}"


def liquidation_far(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a perpetual that brings the liquidation too near, if all perpetuals go against us together."""
    bound_bps = gate.limits.liquidation_distance_bps
    if not bound_bps or not order.is_increase or not order.instrument.is_perp:
        return None
    owned = gate.account.margin_atoms
    assert owned is not None
    after = gate.account.perps_atoms(order)
    if after == 0:  # less than a lot: another rule says so
        return None
    maintenance_bps = gate.limits.maintenance_bps
    # Once the marks have moved by d against us: owned - d x after = maintenance x (1 + d) x after, a short's growth.
    distance_bps = (owned * WHOLE_BPS // after - maintenance_bps) * WHOLE_BPS // (WHOLE_BPS + maintenance_bps)
    if distance_bps >= bound_bps:
        return None
    return (
        DenyReason.LIQ_DISTANCE,
        f"liquidation {max(distance_bps, 0)} bps away < liquidation_distance {bound_bps} bps",
    )
