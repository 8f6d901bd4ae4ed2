"""The risk gate: the only way from a wish to an order.

A strategy says what it wants to hold. The gate computes target - held - in flight, checks it against every rule, and
reserves its worst case, all in one turn. News that is late can delay an order; it can never double one, because what
was approved stays reserved until its end is known.

Beside the orders of the way there, *guards* keep what is held: one stop order and one order that takes the profit, at
the prices that the wish names, of all that is held and not being sold already.
"""

from bot.core.risk.account import Account, money
from bot.core.risk.bounds import BreakerBounds
from bot.core.risk.breakers import FLATTEN, Breakers
from bot.core.risk.gate import MARK_EVERY_NS, REBALANCE_SHARE, RiskGate, new_record
from bot.core.risk.limits import Limits
from bot.core.risk.proposal import Proposal
from bot.core.risk.rate import DAY_NS, OrderRate
from bot.core.risk.rule import Rule
from bot.core.risk.rules import GUARD_RULES, RULES

__all__ = [
    "DAY_NS",
    "FLATTEN",
    "GUARD_RULES",
    "MARK_EVERY_NS",
    "REBALANCE_SHARE",
    "RULES",
    "Account",
    "BreakerBounds",
    "Breakers",
    "Limits",
    "OrderRate",
    "Proposal",
    "RiskGate",
    "Rule",
    "money",
    "new_record",
]
