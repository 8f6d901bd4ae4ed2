"""The send port's guest list: an order leaves the bot only on an approval of the gate, once, unchanged and in time.

One object, shared by the gate, which issues, and the executor, which takes in the very turn in which it sends. A
breaker that trips in between withdraws what was issued, whatever mailbox the order lies in.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bot.core.orders import OrderIntent

NOT_SENT: Final = "not sent"
"""How the reason of a refusal begins that is the send port's own, and not the exchange's."""


class _Approval(NamedTuple):
    intent: OrderIntent
    until_ns: int


class Approvals:
    """Approvals that were issued and not yet used."""

    def __init__(self, ttl_ns: int) -> None:
        self.ttl_ns = ttl_ns
        self._issued: dict[str, _Approval] = {}

    def issue(self, intent: OrderIntent, now_ns: int) -> None:
        """Let `intent` be sent once, until `ttl_ns` from now."""
        assert intent.client_id not in self._issued, f"order {intent.client_id} approved twice"
        self._issued[intent.client_id] = _Approval(intent, now_ns + self.ttl_ns)

    def withdraw(self, *, increases_only: bool) -> None:
        """Forget what was issued and not sent: all of it, or only what makes a position larger."""
        self._issued = {
            client_id: approval
            for client_id, approval in self._issued.items()
            if increases_only and not approval.intent.reserved_atoms
        }

    def take(self, intent: OrderIntent, now_ns: int) -> str:
        """Use the approval of `intent` up; return why it may not be sent, or "" if it may."""
        approval = self._issued.pop(intent.client_id, None)
        if approval is None:
            return "not approved, or no longer"
        if approval.intent != intent:
            return "not what was approved"
        if now_ns > approval.until_ns:
            return f"approved {(now_ns - approval.until_ns + self.ttl_ns) // 1_000_000} ms ago, which is too long"
        return ""
