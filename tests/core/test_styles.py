from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.orders import OrderState
from bot.core.styles import SLICES, Styles, is_behind
from tests.support.builders import NOW_NS, all_of, event, quote, risk_gate, say, signal, tick

MINUTE_NS = 60 * m.SECOND_NS


def twap(target: int, **changes: Any) -> m.Signal:
    return signal(target, style="twap", style_ns=10 * MINUTE_NS, **changes)


def test_a_wish_without_a_style_is_asked_for_at_once() -> None:
    styles = Styles()
    assert styles.at(signal(50), 0, 0).target_lots == 50
    assert not styles.are_any


@pytest.mark.parametrize(
    ("minutes", "target"), [(0, 10), (0.99, 10), (1, 20), (5.5, 60), (9, 100), (10, 100), (500, 100)]
)
def test_a_twap_asks_for_a_tenth_more_with_every_tenth_of_its_time(minutes: float, target: int) -> None:
    styles = Styles()
    styles.at(twap(100), 0, 0)
    assert styles.at(twap(100), 7, round(minutes * MINUTE_NS)).target_lots == target


def test_a_repeated_wish_goes_on_and_a_new_target_sets_out_from_what_is_held() -> None:
    styles = Styles()
    styles.at(twap(100), 0, 0)
    assert styles.at(twap(100), 30, 3 * MINUTE_NS).target_lots == 40
    assert styles.at(twap(0), 40, 4 * MINUTE_NS).target_lots == 36
    assert styles.at(twap(0), 36, 6 * MINUTE_NS).target_lots == 28


def test_an_amount_and_a_style_do_not_go_together() -> None:
    assert Styles().at(twap(100, amount_atoms=5), 0, 0).amount_atoms == 0


def test_a_chase_rests_until_its_time_is_over_and_then_takes() -> None:
    styles = Styles()
    chase = signal(5, style="chase", style_ns=MINUTE_NS)
    assert styles.at(chase, 0, 0).is_passive
    assert styles.at(chase, 0, MINUTE_NS - 1).is_passive
    assert not styles.at(chase, 0, MINUTE_NS).is_passive


@pytest.mark.parametrize(
    ("sign", "price", "behind"), [(1, 98, True), (1, 99, False), (-1, 102, True), (-1, 101, False)]
)
def test_an_order_that_chases_is_behind_when_the_touch_went_away(sign: int, price: int, behind: bool) -> None:
    chase = signal(5, style="chase", style_ns=MINUTE_NS)
    assert is_behind(chase, sign, price, quote(99, 101)) is behind
    assert not is_behind(signal(5), sign, price, quote(99, 101))


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12), st.lists(st.integers(0, 10**12), max_size=8))
def test_a_twap_never_turns_back_and_never_goes_beyond_its_target(start: int, target: int, gaps_ns: list[int]) -> None:
    styles, now_ns, last = Styles(), 0, start
    styles.at(twap(target), start, 0)
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        asked = styles.at(twap(target), start, now_ns).target_lots
        assert min(start, target) <= asked <= max(start, target)
        assert abs(target - asked) <= abs(target - last)
        last = asked
    assert styles.at(twap(target), start, now_ns + SLICES * MINUTE_NS).target_lots == target


# --- through the gate


def approvals(said: list[m.AnyMessage]) -> list[int]:
    return [each.intent.qty_lots for each in all_of(said, m.OrderApproved)]


def test_the_gate_sends_a_twap_slice_by_slice_as_time_passes() -> None:
    gate = risk_gate(stale_ns=3_600 * m.SECOND_NS)
    wish = twap(100)
    assert approvals(say(gate, wish)) == [10]
    assert approvals(say(gate, tick(NOW_NS + MINUTE_NS - 1))) == []
    assert approvals(say(gate, tick(NOW_NS + MINUTE_NS))) == [10]
    assert approvals(say(gate, tick(NOW_NS + 4 * MINUTE_NS))) == [30]


def test_an_order_that_chases_is_taken_down_when_the_touch_moves_away_and_put_up_there() -> None:
    gate = risk_gate(passive_ttl_ns=3_600 * m.SECOND_NS)
    chase = signal(5, style="chase", style_ns=MINUTE_NS)
    (first,) = all_of(say(gate, chase), m.OrderApproved)
    assert (first.intent.order_type, first.intent.price_ticks) == ("LIMIT_MAKER", 99)
    later_ns = NOW_NS + m.SECOND_NS
    assert all_of(say(gate, tick(later_ns)), m.CancelRequested) == []
    gone = all_of(say(gate, quote(100, 102, at_ns=later_ns), tick(later_ns)), m.CancelRequested)
    assert [each.reason for each in gone] == ["the touch moved away"]
    (moved,) = all_of(say(gate, event(first.intent, OrderState.CANCELED)), m.OrderApproved)
    assert moved.intent.price_ticks == 100


def test_a_chase_whose_time_is_over_takes_what_is_there() -> None:
    gate = risk_gate(passive_ttl_ns=3_600 * m.SECOND_NS, stale_ns=3_600 * m.SECOND_NS)
    (first,) = all_of(say(gate, signal(5, style="chase", style_ns=MINUTE_NS)), m.OrderApproved)
    end_ns = NOW_NS + MINUTE_NS
    say(gate, quote(100, 102, at_ns=end_ns), tick(end_ns))
    (last,) = all_of(say(gate, event(first.intent, OrderState.CANCELED)), m.OrderApproved)
    assert last.intent.order_type == "MARKET"
