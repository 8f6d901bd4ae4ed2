"""What an order must pass, in the order in which it is asked."""

from __future__ import annotations

from typing import Final

from bot.core.risk import rules_market as market
from bot.core.risk import rules_pace as pace
from bot.core.risk import rules_size as size
from bot.core.risk.rule import Rule

RULES: Final[tuple[Rule, ...]] = (
    market.well_formed,
    market.not_halted,
    market.account_mode_right,
    market.not_reduce_only,
    market.symbol_allowed,
    market.reconciled,
    market.market_open,
    market.mode_allows,
    market.data_fresh,
    market.not_expired,
    market.qty_min,
    market.notional_min,
    market.qty_max,
    market.notional_headroom,
    market.price_collar,
    market.depth_enough,
    market.slippage_small,
    size.order_value_max,
    size.order_qty_max,
    size.no_self_cross,
    size.not_duplicate,
    size.position_max,
    size.gross_max,
    size.net_max,
    size.strategy_max,
    size.group_max,
    size.funds_enough,
    size.leverage_max,
    size.liquidation_far,
    market.funding_bearable,
    size.ramped,
    pace.open_orders_max,
    pace.none_unknown,
    pace.rate_max,
    pace.repeats_few,
    pace.not_rejected_alike,
    pace.rejects_few,
    pace.trades_enough,
    pace.day_not_spent,
)
"""The first that says no gives the reason. Each is named by what must hold."""

SIGHTED: Final = RULES.index(market.data_fresh) + 1
"""From here on a rule may rely on a book and, for what makes a position larger, on equity."""

GUARD_RULES: Final[tuple[Rule, ...]] = (
    market.well_formed,
    market.not_halted,
    market.market_open,
    market.mode_allows,
)
"""What a guard must pass. It can only make a position smaller, and an unguarded one is the greater danger: so it is not
held back by a lost book, by bounds on exposure, or by the number of orders."""
