"""The send port's guest list: once, unchanged, in time, and not after it was taken back."""

from __future__ import annotations

import msgspec
import pytest

from bot.core.approvals import Approvals
from bot.core.orders import OrderIntent
from tests.support.builders import MS_NS, NOW_NS, buy, sell

TTL_NS = 2_000 * MS_NS
INCREASE = buy(10, 100, number=1)
REDUCTION = sell(5, 100, number=2)


def issued(*intents: OrderIntent) -> Approvals:
    """Return a list on which `intents` stand since NOW."""
    approvals = Approvals(TTL_NS)
    for intent in intents:
        approvals.issue(intent, NOW_NS)
    return approvals


def test_an_approval_lets_its_order_through_once() -> None:
    approvals = issued(INCREASE, REDUCTION)
    assert approvals.take(INCREASE, NOW_NS) == ""
    assert approvals.take(INCREASE, NOW_NS) == "not approved, or no longer"
    assert approvals.take(REDUCTION, NOW_NS) == ""


def test_an_order_without_an_approval_is_not_sent() -> None:
    assert issued().take(INCREASE, NOW_NS) == "not approved, or no longer"


def test_an_order_that_changed_is_not_sent_and_its_approval_is_gone() -> None:
    approvals = issued(INCREASE)
    assert approvals.take(msgspec.structs.replace(INCREASE, qty_lots=11), NOW_NS) == "not what was approved"
    assert approvals.take(INCREASE, NOW_NS) == "not approved, or no longer"


@pytest.mark.parametrize(
    ("waited_ms", "refusal"),
    [
        (0, ""),
        (2_000, ""),
        (2_001, "approved 2001 ms ago, which is too long"),
        (60_000, "approved 60000 ms ago, which is too long"),
    ],
)
def test_an_approval_is_good_for_so_long(waited_ms: int, refusal: str) -> None:
    assert issued(INCREASE).take(INCREASE, NOW_NS + waited_ms * MS_NS) == refusal


@pytest.mark.parametrize(
    ("increases_only", "increase", "reduction"),
    [(False, "not approved, or no longer", "not approved, or no longer"), (True, "not approved, or no longer", "")],
)
def test_what_is_taken_back_is_not_sent(increases_only: bool, increase: str, reduction: str) -> None:
    approvals = issued(INCREASE, REDUCTION)
    approvals.withdraw(increases_only=increases_only)
    assert [approvals.take(intent, NOW_NS) for intent in (INCREASE, REDUCTION)] == [increase, reduction]


def test_an_order_approved_twice_is_a_broken_promise() -> None:
    approvals = issued(INCREASE)
    with pytest.raises(AssertionError, match=f"order {INCREASE.client_id} approved twice"):
        approvals.issue(INCREASE, NOW_NS)
