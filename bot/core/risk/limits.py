"""The bounds of the gate, and the ceilings above which no settings can put them."""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.messages import SECOND_NS
from bot.core.risk.bounds import BREAKER_CEILINGS, BreakerBounds

NO_RAMP_BPS: Final = 10_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the gate, in core units. Percentages are in hundredths (basis points).

    Those with a default are checks that research does not know: as made they are off, and 0 means off.
    """

    max_order_value_atoms: int
    max_position_bps: int
    """Of equity, for one symbol: what is held and everything in flight, if all that makes it larger fills."""
    max_gross_bps: int
    """Of equity, for all symbols together."""
    collar_bps: int
    """How far a price may lie from the middle of the book."""
    stale_ns: int
    intent_ttl_ns: int
    orders_per_second: int
    orders_per_minute: int
    max_open_orders: int
    passive_ttl_ns: int
    """A resting order older than this is cancelled, and asked for again at the new touch."""
    daily_loss_bps: int
    daily_loss_halt_bps: int
    drawdown_bps: int
    drawdown_halt_bps: int
    leverage: int = 1
    """A perpetual's initial margin is its value divided by this."""

    allowed: tuple[str, ...] | None = None
    """The symbols in which positions may be made larger; None: every one that is listed."""
    mark_stale_ns: int = 0
    """Age of the mark price above which a perpetual's position is not made larger."""
    account_stale_ns: int = 0
    """Age of the last look at the exchange's books above which, in live trading, nothing is made larger."""
    notional_headroom_bps: int = 0
    """What opens a position is worth this much more than the exchange's minimum, so that it can be closed again."""
    passive_collar_bps: int = 0
    """How far on the cheap side of the middle a limit may lie."""
    market_slippage_bps: int = 0
    """How far from the middle the mean price of a market order may lie, by the book that is seen."""
    depth_share_bps: int = 0
    """Part of the visible side of the book that a market order may take."""
    max_order_bps: int = 0
    """Of equity, for one order."""
    max_order_multiple: int = 0
    """One order's quantity, in medians of the last orders of its symbol."""
    max_order_base_atoms: dict[str, int] = {}
    """Symbol to the most that one order may buy or sell, in atoms of the base coin."""
    duplicate_ns: int = 0
    """The same order of the same strategy is not sent again within this time."""
    forbids_self_cross: bool = False
    fee_headroom_bps: int = 0
    """What must be left of free cash after a buy on spot, as a share of its cost."""
    margin_buffer_bps: int = 0
    """What must be left of free margin, as a share of the initial margin."""
    max_net_bps: int = 0
    """Of equity: longs less shorts."""
    max_strategy_bps: int = 0
    """Of equity, for one strategy."""
    max_group_bps: int = 0
    """Of equity, for one group of symbols."""
    groups: dict[str, str] = {}
    """Symbol to the name of its group."""
    max_leverage_bps: int = 0
    """All perpetuals together, in hundredths of a percent of equity: 20,000 is twice."""
    liquidation_distance_bps: int = 0
    """How far the marks of all perpetuals may go against us, after this order, before they are liquidated."""
    maintenance_bps: int = 0
    """Equity, as a share of the positions, at which they are."""
    orders_per_day: int = 0
    """UTC days; after a restart the count begins with the orders that still live."""
    cancels_per_second: int = 0
    """The budget of cancels. Orders that only reduce take from it what their own has not."""
    cancels_per_minute: int = 0
    max_repeats: int = 0
    """Orders of one strategy, symbol and side that may trade in ten minutes while its position keeps its sign."""
    max_open_orders_symbol: int = 0
    max_unknown_orders: int = 0
    """Orders of which nobody knows whether they live, of all symbols."""
    max_orders_per_trade: int = 0
    max_reject_bps: int = 0
    """Part of the orders of five minutes that the exchange may reject."""
    max_turnover_bps: int = 0
    """What is traded in a UTC day, in hundredths of a percent of equity."""
    max_trades: int = 0
    """Orders that trade in a UTC day."""
    max_funding_ppb: int = 0
    """A perpetual is not made larger shortly before we would pay more than this."""
    ramp_bps: int = NO_RAMP_BPS
    """Part of the bounds on value that holds for a day after a new version or strategy."""
    breakers: BreakerBounds = BreakerBounds()


CEILINGS: Final[dict[str, int]] = {
    "max_order_value_atoms": 10**25,
    "max_position_bps": 10_000,
    "max_gross_bps": 10_000,
    "collar_bps": 500,
    "stale_ns": 60 * SECOND_NS,
    "intent_ttl_ns": 60 * SECOND_NS,
    "orders_per_second": 50,
    "orders_per_minute": 3_000,
    "max_open_orders": 200,
    "passive_ttl_ns": 3_600 * SECOND_NS,
    "daily_loss_bps": 10_000,
    "daily_loss_halt_bps": 10_000,
    "drawdown_bps": 10_000,
    "drawdown_halt_bps": 10_000,
    "leverage": 5,
    "mark_stale_ns": 60 * SECOND_NS,
    "account_stale_ns": 600 * SECOND_NS,
    "notional_headroom_bps": 1_000,
    "passive_collar_bps": 5_000,
    "market_slippage_bps": 300,
    "depth_share_bps": 5_000,
    "max_order_bps": 2_500,
    "max_order_multiple": 100,
    "duplicate_ns": 60 * SECOND_NS,
    "fee_headroom_bps": 1_000,
    "margin_buffer_bps": 10_000,
    "max_net_bps": 10_000,
    "max_strategy_bps": 10_000,
    "max_group_bps": 10_000,
    "max_leverage_bps": 50_000,
    "liquidation_distance_bps": 10_000,
    "maintenance_bps": 5_000,
    "orders_per_day": 1_000_000,
    "cancels_per_second": 50,
    "cancels_per_minute": 3_000,
    "max_repeats": 1_000,
    "max_open_orders_symbol": 200,
    "max_unknown_orders": 10,
    "max_orders_per_trade": 1_000,
    "max_reject_bps": 10_000,
    "max_turnover_bps": 10**8,
    "max_trades": 100_000,
    "max_funding_ppb": 50_000_000,
    "ramp_bps": NO_RAMP_BPS,
}
"""The hard ceiling of each bound: what trades with somebody's settings never goes above it. The other way, a check that
the settings may switch off, or a quantity of a single symbol, has none."""
LOOSE: Final = frozenset({"allowed", "breakers", "forbids_self_cross", "groups", "max_order_base_atoms"})
"""Bounds that are no numbers, or many."""


def above_ceiling(limits: Limits) -> list[str]:
    """Return, for each bound that is above its ceiling or no positive number, what is wrong with it."""
    return [
        f"{name} is {value}, its ceiling is {ceiling}"
        for bounds, ceilings in ((limits, CEILINGS), (limits.breakers, BREAKER_CEILINGS))
        for name, ceiling in ceilings.items()
        if not 0 <= (value := getattr(bounds, name)) <= ceiling
    ]
