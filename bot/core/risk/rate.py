"""How many messages were sent lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from bot.core import messages as m
from bot.core.messages import DenyReason
from bot.core.risk.limits import Limits
from bot.core.risk.rule import Denial

MINUTE_NS: Final = 60 * m.SECOND_NS
DAY_NS: Final = 86_400 * m.SECOND_NS


class OrderRate:
    """What was sent in the last second, the last minute and the UTC day; `per_day` 0: however much."""

    def __init__(self, per_second: int, per_minute: int, per_day: int = 0, *, what: str = "orders") -> None:
        self._per_second = per_second
        self._per_minute = per_minute
        self._per_day = per_day
        self._what = what
        self._sent_ns: deque[int] = deque()
        self._day = -1
        self._today = 0

    def full(self, now_ns: int) -> Denial | None:
        """Return the refusal if one more would be too many."""
        while self._sent_ns and self._sent_ns[0] <= now_ns - MINUTE_NS:
            self._sent_ns.popleft()
        what = self._what
        if len(self._sent_ns) >= self._per_minute:
            return (
                DenyReason.RATE_LIMIT,
                f"{len(self._sent_ns)} {what} in a minute, {what}_per_minute {self._per_minute}",
            )
        # At most `per_second` of the newest are looked at.
        oldest = len(self._sent_ns) - self._per_second
        if oldest >= 0 and self._sent_ns[oldest] > now_ns - m.SECOND_NS:
            return (
                DenyReason.RATE_LIMIT,
                f"{self._per_second} {what} in a second, {what}_per_second {self._per_second}",
            )
        if self._per_day and self._day == now_ns // DAY_NS and self._today >= self._per_day:
            return DenyReason.RATE_LIMIT, f"{self._today} {what} today, {what}_per_day {self._per_day}"
        return None

    def count(self, now_ns: int, number: int = 1) -> None:
        """Count what is sent now."""
        self._sent_ns.extend([now_ns] * number)
        if now_ns // DAY_NS != self._day:
            self._day, self._today = now_ns // DAY_NS, 0
        self._today += number

    def fill(self, now_ns: int) -> None:
        """Take the second and the minute for used up: nobody knows what was sent just before."""
        self._sent_ns.extend([now_ns] * self._per_minute)


class MessageBudget:
    """What may be sent to the exchange: orders out of one budget, cancels out of another.

    A cancel is never held back. No more of them can come than orders: each order is cancelled once at most.
    """

    def __init__(self, limits: Limits) -> None:
        self.orders = OrderRate(limits.orders_per_second, limits.orders_per_minute, limits.orders_per_day)
        self.cancels = OrderRate(limits.cancels_per_second, limits.cancels_per_minute, what="cancels")
        self._has_reserve = limits.cancels_per_second > 0 and limits.cancels_per_minute > 0

    def full(self, now_ns: int, *, is_increase: bool) -> Denial | None:
        """Return the refusal of one more order: one that only reduces may take from the cancels."""
        refusal = self.orders.full(now_ns)
        if refusal is None or is_increase or not self._has_reserve:
            return refusal
        return self.cancels.full(now_ns) and refusal

    def count_order(self, now_ns: int, *, is_increase: bool) -> None:
        """Count an order that was let through."""
        if not is_increase and self._has_reserve and self.orders.full(now_ns) is not None:
            self.cancels.count(now_ns)
        else:
            self.orders.count(now_ns)

    def count_cancel(self, now_ns: int) -> None:
        """Count a cancel."""
        if self._has_reserve:
            self.cancels.full(now_ns)  # forgets what is over
            self.cancels.count(now_ns)

    def take_up(self, sent_ns: Iterable[int]) -> None:
        """Begin after a session whose orders of the last minute were approved at `sent_ns`, oldest first."""
        for ns in sent_ns:
            self.orders.count(ns)

    def restart(self, now_ns: int, living: int, *, is_pessimistic: bool) -> None:
        """Begin after a session whose last messages nobody counted: `living` orders of it are known of.

        `is_pessimistic`: as if it had used up its minute to the last message.
        """
        self.orders.count(now_ns, living)
        if is_pessimistic:
            self.orders.fill(now_ns)
