"""Rules on when and where: the state of the gate, what is known of the market and the account, steps and prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bot.core.latches import latch_name
from bot.core.messages import SECOND_NS, Condition, DenyReason, Levels, Quote, RiskState
from bot.core.risk.account import money
from bot.core.risk.proposal import Proposal
from bot.core.risk.rule import Denial

if TYPE_CHECKING:
    from bot.core.risk.gate import RiskGate

FUNDING_NS: Final = 600 * SECOND_NS
"""How long before funding is due its rate is looked at."""


def well_formed(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny an order that no honest computation makes."""
    if order.qty_lots <= 0:
        return DenyReason.INVALID_INTENT, f"quantity of {order.qty_lots} lots is not valid"
    if order.price_ticks < 0 or (order.price_ticks == 0 and order.quote is not None):
        return DenyReason.INVALID_INTENT, f"price of {order.price_ticks} ticks is not valid"
    if order.value_atoms < 0:
        return DenyReason.INVALID_INTENT, f"value {money(order.value_atoms)} is not valid"
    return None


def market_open(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny on a market that the exchange has paused."""
    if order.instrument.is_open:
        return None
    return DenyReason.NOT_LISTED, "the exchange does not trade it now"


def mode_allows(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny what could take while the exchange lets orders only rest: it would refuse it."""
    if not order.instrument.is_post_only or order.order_type == "LIMIT_MAKER":
        return None
    return DenyReason.SYMBOL_MODE, f"the market is in post-only mode, and this is a {order.order_type} order"


def not_halted(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny everything while halted: all trading, or that of the symbol or the strategy."""
    latch = gate.breakers.latches.over(order.strategy, order.instrument.symbol)
    if latch is None or latch.state is not RiskState.HALTED:
        return None
    return DenyReason.HALTED, f"halted by {latch_name(latch)}"


def not_reduce_only(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny what makes a position larger while only reductions are allowed."""
    if not order.is_increase:
        return None
    latch = gate.breakers.latches.over(order.strategy, order.instrument.symbol)
    if latch is None or latch.state is not RiskState.REDUCE_ONLY:
        return None
    return DenyReason.REDUCE_ONLY, f"reduce-only by {latch_name(latch)}"


def symbol_allowed(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth in a symbol that is not on the list; none is on an empty one."""
    allowed = gate.limits.allowed
    if not order.is_increase or allowed is None or order.instrument.symbol in allowed:
        return None
    return DenyReason.NOT_ALLOWED, f"not in risk.allowed, which is {', '.join(allowed) or 'empty'}"


def reconciled(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth until our books were equal to the exchange's, and while news of our orders may be missing."""
    if not order.is_increase or not gate.needs_reconciliation:
        return None
    if gate.unreconciled:
        wallets = " and ".join(gate.unreconciled)
        return DenyReason.NOT_RECONCILED, f"no new exposure until the {wallets} wallet was reconciled"
    down = gate.unwell(Condition.PRIVATE_STREAM)
    if down is not None:
        return DenyReason.NOT_RECONCILED, f"private stream: {down or 'not well'}"
    bound_ns, age_ns = gate.limits.account_stale_ns, gate.compared_age_ns
    if bound_ns and age_ns > bound_ns:
        return (
            DenyReason.ACCOUNT_STALE,
            f"account {age_ns // SECOND_NS} s old > account_stale_s {bound_ns // SECOND_NS}",
        )
    return None


def account_mode_right(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth where leverage, margin mode or position mode is not what the settings say."""
    if not order.is_increase:
        return None
    wrong = gate.unwell(Condition.ACCOUNT_MODE, order.instrument.symbol)
    return None if wrong is None else (DenyReason.ACCOUNT_MODE, wrong or "not as in the settings")


def data_fresh(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny without a whole and recent book; and growth while equity or a perpetual's mark is not known."""
    if order.quote is None:
        return DenyReason.MARKET_DATA_STALE, "no whole book"
    age_ns = order.now_ns - order.quote.ts_ns
    if age_ns > gate.limits.stale_ns:
        return (
            DenyReason.MARKET_DATA_STALE,
            f"book {age_ns // 1_000_000} ms old > stale_ms {gate.limits.stale_ns // 1_000_000}",
        )
    if order.is_increase and order.equity_atoms is None:
        return DenyReason.MARKET_DATA_STALE, "equity unknown: a held coin has no price"
    bound_ns = gate.limits.mark_stale_ns
    if bound_ns and order.is_increase and order.instrument.is_perp:
        marked_ns = gate.account.marked_ns.get(order.instrument.symbol)
        if marked_ns is None:
            return DenyReason.MARKET_DATA_STALE, "no mark price"
        if order.now_ns - marked_ns > bound_ns:
            age_ms = (order.now_ns - marked_ns) // 1_000_000
            return DenyReason.MARKET_DATA_STALE, f"mark {age_ms} ms old > mark_stale_ms {bound_ns // 1_000_000}"
    return None


def not_expired(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a decision that waited too long."""
    age_ns = order.now_ns - order.decided_ns
    if age_ns <= gate.limits.intent_ttl_ns:
        return None
    return (
        DenyReason.INTENT_EXPIRED,
        f"decided {age_ns // 1_000_000} ms ago > intent_ttl_ms {gate.limits.intent_ttl_ns // 1_000_000}",
    )


def qty_min(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny less than the exchange's smallest quantity."""
    bound = order.instrument.qty_lots_min
    if order.qty_lots >= bound:
        return None
    quantity = order.instrument.quantity
    return DenyReason.MIN_QTY, f"quantity {quantity(order.qty_lots):f} < minimum {quantity(bound):f}"


def notional_min(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny less than the exchange's smallest value."""
    notional = order.instrument.notional_atoms(order.price_ticks, order.qty_lots)
    bound = order.instrument.notional_atoms_min
    if notional >= bound:
        return None
    return DenyReason.MIN_NOTIONAL, f"notional {money(notional)} < {money(bound)}"


def qty_max(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny growth by more than the exchange's largest quantity or value; what only reduces was cut to them."""
    if not order.is_increase:
        return None
    instrument = order.instrument
    bound = instrument.lots_max(order.limit_ticks)
    if bound is not None and order.qty_lots > bound:
        quantity = instrument.quantity
        return DenyReason.MAX_QTY, f"quantity {quantity(order.qty_lots):f} > maximum {quantity(bound):f}"
    # What is at the market, too, may go to the exchange as a limit, at its worst price.
    most = instrument.notional_atoms_max
    if most and order.limit_ticks is None and order.value_atoms > most:
        return DenyReason.MAX_QTY, f"value {money(order.value_atoms)} > maximum {money(most)}"
    return None


def notional_headroom(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny to open so little that it could soon not be closed any more."""
    headroom_bps = gate.limits.notional_headroom_bps
    if not headroom_bps or not order.is_increase:
        return None
    notional = order.instrument.notional_atoms(order.price_ticks, order.qty_lots)
    bound = order.instrument.notional_atoms_min
    if notional * 10_000 >= bound * (10_000 + headroom_bps):
        return None
    return DenyReason.MIN_NOTIONAL, f"notional {money(notional)} < {money(bound)} and {headroom_bps} bps"


def price_collar(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a price far from the middle of the book; a limit may lie farther on the cheap side than on the dear."""
    assert order.quote is not None
    middle2 = order.quote.bid_ticks + order.quote.ask_ticks
    off_ticks2 = 2 * order.price_ticks - middle2
    off_bps = (order.side.sign * off_ticks2 if order.order_type == "LIMIT" else abs(off_ticks2)) * 10_000 // middle2
    if off_bps > gate.limits.collar_bps:
        return (
            DenyReason.PRICE_COLLAR,
            f"price {off_bps} bps from the middle > collar {gate.limits.collar_bps} bps",
        )
    bound_bps = gate.limits.passive_collar_bps
    if bound_bps and -off_bps > bound_bps:
        return DenyReason.PRICE_COLLAR, f"price {-off_bps} bps on the cheap side > passive collar {bound_bps} bps"
    return None


def depth_enough(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a market order that would take too much of the book that is seen."""
    share_bps = gate.limits.depth_share_bps
    if not share_bps or not order.is_increase or order.order_type != "MARKET":
        return None
    assert order.quote is not None
    visible_lots = sum(lots for _, lots in _levels(order.quote, order))
    if order.qty_lots * 10_000 <= visible_lots * share_bps:
        return None
    return (
        DenyReason.DEPTH,
        f"{order.qty_lots} lots > {share_bps} bps of the {visible_lots} lots that are seen",
    )


def slippage_small(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny a market order whose mean price, by the book that is seen, lies far from the middle."""
    bound_bps = gate.limits.market_slippage_bps
    if not bound_bps or not order.is_increase or order.order_type != "MARKET":
        return None
    assert order.quote is not None
    middle2 = order.quote.bid_ticks + order.quote.ask_ticks
    left_lots, cost = order.qty_lots, 0
    for price_ticks, lots in _levels(order.quote, order):
        taken_lots = min(lots, left_lots)
        cost += price_ticks * taken_lots
        left_lots -= taken_lots
        if not left_lots:
            break
    filled_lots = order.qty_lots - left_lots
    if left_lots or not filled_lots:
        return DenyReason.SLIPPAGE, f"the book that is seen has only {filled_lots} of {order.qty_lots} lots"
    off_bps = abs(2 * cost - middle2 * filled_lots) * 10_000 // (middle2 * filled_lots)
    if off_bps <= bound_bps:
        return None
    return DenyReason.SLIPPAGE, f"mean price {off_bps} bps from the middle > slippage {bound_bps} bps"


def _levels(quote: Quote, order: Proposal) -> Levels:
    """Return the side of the book that an order meets; of a quote without a book, its touch."""
    if order.side.sign > 0:
        return quote.asks or ((quote.ask_ticks, quote.ask_lots),)
    return quote.bids or ((quote.bid_ticks, quote.bid_lots),)


def funding_bearable(gate: RiskGate, order: Proposal) -> Denial | None:
    """Deny to make a perpetual's position larger just before it would pay a high funding."""
    bound_ppb = gate.limits.max_funding_ppb
    if not bound_ppb or not order.is_increase or not order.instrument.is_perp:
        return None
    funding = gate.account.funding.get(order.instrument.symbol)
    if funding is None or not 0 <= funding.due_ns - order.now_ns <= FUNDING_NS:
        return None
    paid_ppb = order.side.sign * funding.rate_ppb
    if paid_ppb <= bound_ppb:
        return None
    due_s = (funding.due_ns - order.now_ns) // SECOND_NS
    return DenyReason.FUNDING, f"funding of {paid_ppb} ppb due in {due_s} s > {bound_ppb} ppb"
