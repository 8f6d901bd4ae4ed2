"""What a rule of the gate is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bot.core.messages import DenyReason
from bot.core.risk.proposal import Proposal

if TYPE_CHECKING:
    from bot.core.risk.gate import RiskGate

Denial = tuple[DenyReason, str]
"""The code, and for an operator what was asked and what is allowed."""
Rule = Callable[["RiskGate", Proposal], Denial | None]
"""Looks and changes nothing; named by what must hold."""
