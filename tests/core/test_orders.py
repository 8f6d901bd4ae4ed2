"""The life of an order as a table, and ids that are never used twice."""

from __future__ import annotations

import re
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.orders import FINAL, FOLLOWS, REFUSALS, OrderRecord, OrderState, advance, client_id, order_number
from tests.support.builders import buy, record, sell

S = OrderState
NOT_YET_ANSWERED = S.SUBMITTED


@pytest.mark.parametrize(
    ("state", "reported", "after"),
    [
        (S.SUBMITTED, S.NEW, S.NEW),
        (S.SUBMITTED, S.FILLED, S.FILLED),
        (S.SUBMITTED, S.REJECTED, S.REJECTED),
        (S.SUBMITTED, S.FAILED, S.FAILED),
        (S.NEW, S.PARTIALLY_FILLED, S.PARTIALLY_FILLED),
        (S.NEW, S.NEW, S.NEW),
        (S.PARTIALLY_FILLED, S.NEW, S.PARTIALLY_FILLED),
        (S.PARTIALLY_FILLED, S.PARTIALLY_CANCELED, S.PARTIALLY_CANCELED),
        (S.PENDING_CANCEL, S.FILLED, S.FILLED),
        (S.PENDING_CANCEL, S.NEW, S.PENDING_CANCEL),
        (S.CANCELED, S.FILLED, S.CANCELED),
        (S.FILLED, S.PARTIALLY_FILLED, S.FILLED),
        (S.SUBMITTED, S.UNKNOWN, S.UNKNOWN),
        (S.UNKNOWN, S.UNKNOWN, S.UNKNOWN),
        (S.UNKNOWN, S.NEW, S.NEW),
        (S.UNKNOWN, S.PARTIALLY_FILLED, S.PARTIALLY_FILLED),
        (S.UNKNOWN, S.PENDING_CANCEL, S.PENDING_CANCEL),
        (S.UNKNOWN, S.FILLED, S.FILLED),
        (S.UNKNOWN, S.REJECTED, S.REJECTED),
        (S.UNKNOWN, S.NEVER_ACCEPTED, S.NEVER_ACCEPTED),
        (S.SUBMITTED, S.NEVER_ACCEPTED, S.SUBMITTED),
        (S.NEW, S.NEVER_ACCEPTED, S.NEW),
        (S.NEW, S.UNKNOWN, S.NEW),
        (S.NEW, S.REJECTED, S.NEW),
        (S.NEW, S.ABANDONED, S.ABANDONED),
        (S.SUBMITTED, S.ABANDONED, S.ABANDONED),
        (S.PENDING_CANCEL, S.ABANDONED, S.ABANDONED),
        (S.ABANDONED, S.FILLED, S.ABANDONED),
        (S.NEVER_ACCEPTED, S.NEW, S.NEVER_ACCEPTED),
    ],
)
def test_an_order_advances_by_the_table(state: OrderState, reported: OrderState, after: OrderState) -> None:
    assert advance(state, reported) is after


ENDED = {S.FILLED, S.CANCELED, S.PARTIALLY_CANCELED, S.EXPIRED, S.ABANDONED}
UNDER_WAY = {S.NEW, S.PARTIALLY_FILLED, S.PENDING_CANCEL}


@pytest.mark.parametrize(
    ("state", "others"),
    [
        (S.SUBMITTED, UNDER_WAY | ENDED | {S.UNKNOWN, S.REJECTED, S.FAILED}),
        (S.UNKNOWN, UNDER_WAY | ENDED | {S.REJECTED, S.FAILED, S.NEVER_ACCEPTED}),
        (S.NEW, ENDED | {S.PARTIALLY_FILLED, S.PENDING_CANCEL}),
        (S.PARTIALLY_FILLED, ENDED | {S.PENDING_CANCEL}),
        (S.PENDING_CANCEL, ENDED | {S.PARTIALLY_FILLED}),
    ],
)
def test_the_states_that_an_order_may_become_are_these_and_no_others(
    state: OrderState, others: set[OrderState]
) -> None:
    assert {after for reported in OrderState if (after := advance(state, reported)) is not state} == others


def test_nothing_follows_an_end() -> None:
    assert not FINAL & set(FOLLOWS)
    for end, reported in product(FINAL, OrderState):
        assert advance(end, reported) is end


def test_every_state_is_living_or_final_and_every_life_can_end() -> None:
    assert set(FOLLOWS) | FINAL == set(OrderState)
    assert all(FINAL & after for after in FOLLOWS.values())
    assert [state for state in OrderState if state.is_final] == [state for state in OrderState if state in FINAL]


def test_nothing_becomes_unanswered_again() -> None:
    assert all(NOT_YET_ANSWERED not in after for after in FOLLOWS.values())
    assert [state for state, after in FOLLOWS.items() if S.UNKNOWN in after] == [NOT_YET_ANSWERED]


def test_only_doubt_ends_in_never_accepted() -> None:
    assert [state for state, after in FOLLOWS.items() if S.NEVER_ACCEPTED in after] == [S.UNKNOWN]


def test_every_living_order_can_be_given_up() -> None:
    assert all(S.ABANDONED in after for after in FOLLOWS.values())


def test_what_worked_is_never_refused() -> None:
    worked = {S.NEW, S.PARTIALLY_FILLED, S.PENDING_CANCEL}
    assert all(not REFUSALS & FOLLOWS[state] for state in worked)


@given(st.lists(st.sampled_from(OrderState), max_size=20))
def test_any_reports_in_any_order_walk_the_table_to_at_most_one_end(reports: list[OrderState]) -> None:
    state, ends = S.SUBMITTED, 0
    for reported in reports:
        before, state = state, advance(state, reported)
        assert state in {before, reported}
        assert state is before or state in FOLLOWS[before]
        ends += state.is_final and not before.is_final
        assert not before.is_final or state is before
    assert ends == state.is_final


def test_an_order_may_increase_a_position_and_is_not_being_cancelled_unless_it_is_said() -> None:
    made = OrderRecord(intent=buy(1), state=S.NEW, filled_lots=0, submitted_ns=0)
    assert (made.intent.is_reduce_only, made.is_cancel_requested, made.has_late_fill) == (False, False, False)


def test_what_is_left_and_which_way_it_goes() -> None:
    assert record(buy(10), filled=3).leaves_lots == 7
    assert [msgspec.structs.replace(record(buy(10), filled=3), reported_lots=n).is_settled for n in (2, 3, 4)] == [
        True,
        True,
        False,
    ]
    assert (buy(10).signed_lots, sell(10).signed_lots) == (10, -10)


numbers = st.tuples(st.integers(1, 32**4 - 1), st.integers(1, 32**7 - 1))


@given(numbers)
def test_an_id_is_short_plain_and_tells_its_number(made_of: tuple[int, int]) -> None:
    text = client_id(*made_of)
    assert re.fullmatch(r"[a-z0-9]{12}", text)
    assert order_number(text) == made_of


@pytest.mark.parametrize(
    "text", ["", "b", "x" + "a" * 11, "b" + "a" * 10, "b" + "a" * 12, "b" + "A" * 11, "baaaa1aaaaab"]
)
def test_an_id_of_somebody_else_has_no_number(text: str) -> None:
    assert order_number(text) is None


@pytest.mark.parametrize(("epoch", "number"), [(0, 1), (1, 0), (32**4, 1), (1, 32**7)])
def test_an_id_out_of_range_is_a_broken_promise(epoch: int, number: int) -> None:
    with pytest.raises(AssertionError):
        client_id(epoch, number)
