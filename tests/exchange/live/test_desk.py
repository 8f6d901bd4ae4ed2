"""What the desk of live orders concludes from evidence, edge by edge."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bot.core import messages as m
from bot.core.messages import Condition, RiskState
from bot.core.orders import OrderRecord, OrderState, client_id
from bot.exchange.live.calls import Cancel, CancelSymbol, Look, Place, ReadFills, Resolve
from bot.exchange.poloniex.outcome import Accepted, Doubt, Market, RefusalKind, Unknown, search_fence_ms
from bot.exchange.poloniex.private_state import BalanceChanged, Fresh, Stale
from tests.exchange.live.desks import (
    NEVER,
    NOW_MS,
    PERP,
    TTL_NS,
    Rig,
    changed,
    filled,
    lost,
    recovered,
    refused,
    stop,
)
from tests.support.builders import BTC, NOW_NS, all_of, buy, depth, listed, only, sell, trade

S = OrderState
RACE = Unknown(reason="21304: filled", doubt=Doubt.RACE, code=21304)
TIMEOUT = Unknown(reason="no answer", doubt=Doubt.NO_ANSWER)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.tell(recovered(epoch=1))
    return rig


# --- the send port


def test_an_approved_order_is_sent_once_and_is_new_when_the_exchange_says_so(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    assert rig.asked(Place) == [Place(order, is_protective=False)]
    rig.placed(order, Accepted(value="77"))
    assert [(event.state, event.order_id) for event in rig.events(order)] == [(S.NEW, "77")]
    rig.pass_s(60)
    assert not rig.asked(Place)


def test_F99_an_order_without_an_approval_is_not_sent(rig: Rig) -> None:
    order = buy(10, 100)
    event = only(rig.tell(m.SubmitOrder(ts_ns=NOW_NS, intent=order)), m.OrderEvent)
    assert (event.state, event.reason) == (S.REJECTED, "not sent: not approved, or no longer")
    assert not rig.calls


def test_F29_an_order_that_was_approved_too_long_ago_is_not_sent(rig: Rig) -> None:
    order = buy(10, 100)
    rig.approvals.issue(order, NOW_NS)
    event = only(rig.tell(m.SubmitOrder(ts_ns=NOW_NS + TTL_NS + 1, intent=order)), m.OrderEvent)
    assert event.state is S.REJECTED
    assert not rig.calls


def test_R3_an_order_that_was_cancelled_while_it_waited_for_its_turn_does_not_leave(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    assert rig.desk.why_not(order.client_id, NOW_NS) == ""
    rig.cancel(order)
    assert rig.desk.why_not(order.client_id, NOW_NS) == "cancelled before it left"


def test_F29_an_order_that_waited_too_long_for_its_turn_does_not_leave_but_a_reduction_does(rig: Rig) -> None:
    order, reduction = rig.submit(buy(10, 100)), rig.submit(sell(10, 100, number=2))
    later_ns = NOW_NS + TTL_NS + 1
    assert rig.desk.why_not(order.client_id, later_ns) == "waited too long for its turn"
    assert rig.desk.why_not(reduction.client_id, later_ns) == ""


def test_an_order_that_never_left_is_rejected_as_not_sent(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    rig.placed(order, refused(RefusalKind.NOT_SENT, 0, "no connection"))
    assert rig.events(order)[-1].reason == "not sent: no connection"


# --- answers


def test_F30_a_definite_refusal_is_a_rejection_with_its_code(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    rig.placed(order, refused(code=21330, text="below minQuantity"))
    assert [(event.state, event.reason) for event in rig.events(order)] == [(S.REJECTED, "21330 below minQuantity")]


def test_F07_a_throttled_submit_is_a_rejection_and_each_is_counted(rig: Rig) -> None:
    for number in range(3):
        order = rig.submit(buy(10, 100, number=number + 1))
        rig.placed(order, refused(RefusalKind.THROTTLED, 429, "slow down"))
        assert rig.states(order) == [S.REJECTED]
    assert [report.is_well for report in rig.health(Condition.RATE_LIMIT)] == [False] * 3


@pytest.mark.parametrize("kind", [RefusalKind.AUTH, RefusalKind.ACCOUNT])
def test_F108_a_refusal_of_the_account_halts_each_time(rig: Rig, kind: RefusalKind) -> None:
    for number in (1, 2):
        rig.placed(rig.submit(buy(10, 100, number=number)), refused(kind, 21351, "frozen"))
    assert [report.severity for report in rig.health(Condition.AUTHORITY)] == [RiskState.HALTED] * 2


def test_F45_a_market_that_takes_no_orders_is_reported_until_it_takes_one(rig: Rig) -> None:
    rig.placed(rig.submit(buy(10, 100)), refused(RefusalKind.MODE, 21341, "post-only"))
    rig.pass_s(1)
    report = only(rig.health(Condition.CANCELS), m.HealthReported)
    assert (report.is_well, report.scope) == (False, f"symbol:{BTC}")
    rig.accept(buy(10, 100, number=2))
    rig.pass_s(1)
    assert rig.health(Condition.CANCELS)[-1].is_well


def test_F06_an_ambiguous_answer_is_unknown_and_is_looked_for_by_the_same_id(rig: Rig) -> None:
    order = rig.lose(buy(10, 100), Doubt.AMBIGUOUS)
    assert rig.states(order) == [S.UNKNOWN]
    assert only(rig.asked(Resolve), Resolve).unknown.client_id == order.client_id
    assert [(r.is_well, r.scope) for r in rig.health(Condition.UNKNOWN_ORDER)] == [(False, f"symbol:{BTC}")]


def test_F01_proof_of_absence_is_the_end_of_an_unknown_order(rig: Rig) -> None:
    order = rig.lose(buy(10, 100))
    rig.resolved(order, NEVER)
    assert rig.states(order) == [S.UNKNOWN, S.NEVER_ACCEPTED]
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well


def test_F05_an_unknown_order_is_never_sent_again(rig: Rig) -> None:
    rig.lose(buy(10, 100))
    rig.asked(Place)
    rig.pass_s(300)
    assert not rig.asked(Place)


def test_F02_an_unknown_order_that_is_found_goes_on_as_it_stands(rig: Rig) -> None:
    order = rig.lose(buy(10, 100))
    rig.resolved(order, Accepted(value=changed(order, S.NEW)))
    assert rig.states(order) == [S.UNKNOWN, S.NEW]
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well


def test_F04_a_client_id_that_is_taken_means_that_the_order_is_there(rig: Rig) -> None:
    order = rig.lose(buy(10, 100), Doubt.EXISTS)
    assert rig.states(order) == [S.UNKNOWN]
    rig.hear(changed(order, S.NEW))
    assert rig.states(order) == [S.UNKNOWN, S.NEW]
    rig.resolved(order, NEVER)  # whatever comes of the search now
    assert rig.states(order) == [S.UNKNOWN, S.NEW]


def test_F46_F21_a_question_that_fails_or_finds_nothing_is_no_evidence(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.looked(order, None)
    rig.pass_s(60)
    assert rig.states(order) == [S.NEW]


def test_F08_news_of_the_stream_may_come_before_the_answer(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    rig.hear(changed(order, S.NEW))
    rig.placed(order, Accepted(value="77"))
    assert rig.states(order) == [S.NEW]


def test_F08_a_lost_answer_about_an_order_that_the_stream_knows_raises_no_doubt(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    rig.hear(changed(order, S.NEW))
    rig.placed(order, lost(order))
    assert rig.states(order) == [S.NEW]
    assert not rig.asked(Resolve)
    assert not rig.health(Condition.UNKNOWN_ORDER)


def test_F09_a_fill_of_an_unknown_order_ends_the_doubt(rig: Rig) -> None:
    order = rig.lose(buy(10, 100))
    rig.hear(filled(order, 4))
    assert rig.states(order) == [S.UNKNOWN, S.PARTIALLY_FILLED]
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well
    assert not rig.desk.is_lost(order.client_id)
    rig.resolved(order, NEVER)
    assert rig.states(order)[-1] is S.PARTIALLY_FILLED


@pytest.mark.parametrize("answer", [lost(buy(10, 100)), refused(), Accepted(value="77")])
def test_F09_a_fill_before_the_answer_is_booked_and_the_answer_takes_nothing_back(rig: Rig, answer: object) -> None:
    order = rig.submit(buy(10, 100))
    rig.hear(filled(order, 4))
    rig.placed(order, answer)  # type: ignore[arg-type]
    assert rig.booked_lots(order) == 4
    assert rig.states(order) == [S.PARTIALLY_FILLED]


@pytest.mark.parametrize("answer", [lost(buy(10, 100)), refused(), Accepted(value="77")])
def test_F10_an_answer_after_the_end_changes_nothing(rig: Rig, answer: object) -> None:
    order = rig.submit(buy(10, 100))
    rig.hear(filled(order, 10), changed(order, S.FILLED, 10))
    before = list(rig.said)
    rig.placed(order, answer)  # type: ignore[arg-type]
    rig.hear(changed(order, S.NEW))
    assert rig.said == before
    assert rig.states(order) == [S.FILLED]


# --- fills and ends


def test_an_end_is_said_after_its_fills(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    said = rig.hear(changed(order, S.PARTIALLY_CANCELED, 4, cancel_reason="21"))
    assert said == []
    assert only(rig.asked(ReadFills), ReadFills).order_id == "77"
    said = rig.fills_read(order, [filled(order, 3, "1"), filled(order, 1, "2")])
    assert [type(each) for each in said] == [m.Fill, m.Fill, m.OrderEvent]
    last = rig.events(order)[-1]
    assert (last.state, last.filled_lots, last.reason) == (S.PARTIALLY_CANCELED, 4, "21")


def test_an_end_whose_fills_cannot_be_had_is_said_after_a_while_and_its_fills_are_still_asked_for(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(changed(order, S.CANCELED, 4))
    rig.fills_read(order, None)
    rig.pass_s(31)
    assert (rig.events(order)[-1].state, rig.events(order)[-1].filled_lots) == (S.CANCELED, 4)
    assert not rig.desk.is_quiet("spot")
    rig.asked(ReadFills)
    rig.fills_read(order, None)
    rig.pass_s(6)
    assert rig.asked(ReadFills)
    rig.fills_read(order, [filled(order, 4)])
    assert rig.booked_lots(order) == 4
    assert rig.desk.is_quiet("spot")


def test_F19_a_report_of_more_than_our_fills_asks_for_those_of_the_order(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(changed(order, S.PARTIALLY_FILLED, 5))
    rig.pass_s(3)
    assert only(rig.asked(ReadFills), ReadFills).client_id == order.client_id
    rig.fills_read(order, [filled(order, 5)])
    assert rig.booked_lots(order) == 5


def test_F20_a_fill_with_a_lower_id_that_was_missed_is_found_by_its_order(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 2, "9"), changed(order, S.PARTIALLY_FILLED, 5))
    rig.pass_s(3)
    rig.asked(ReadFills)
    rig.fills_read(order, [filled(order, 3, "8"), filled(order, 2, "9")])
    assert rig.booked_lots(order) == 5
    assert len(all_of(rig.said, m.Fill)) == 2


def test_F17_a_fill_is_said_once_wherever_it_comes_from(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 2), filled(order, 2))
    rig.fills_read(order, [filled(order, 2)])
    assert len(all_of(rig.said, m.Fill)) == 1


def test_F18_the_same_trade_with_another_content_is_passed_on_to_be_put_aside(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 2), filled(order, 3))
    assert [fill.qty_lots for fill in all_of(rig.said, m.Fill)] == [2, 3]
    assert rig.events(order)[-1].filled_lots == 2  # not counted


def test_F12_a_fill_after_the_end_is_said_and_opens_nothing(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    rig.hear(changed(order, S.CANCELED))
    rig.hear(filled(order, 2))
    assert rig.booked_lots(order) == 2
    assert rig.states(order)[-1] is S.CANCELED


def test_a_report_after_the_end_that_counts_more_has_its_fills_asked_for(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(changed(order, S.CANCELED))
    rig.hear(changed(order, S.CANCELED, 2))
    rig.pass_s(3)
    assert rig.asked(ReadFills)


def test_F16_more_than_was_ordered_is_said_as_it_is(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 8, "1"), filled(order, 8, "2"))
    assert rig.booked_lots(order) == 16


def test_all_lots_filled_is_an_end_without_a_report(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 10))
    assert rig.states(order) == [S.NEW, S.FILLED]


def test_an_amount_is_spent_when_the_exchange_says_so(rig: Rig) -> None:
    order = rig.accept(msgspec.structs.replace(buy(10), amount_atoms=1))
    rig.hear(filled(order, 10))
    assert S.FILLED not in rig.states(order)
    rig.hear(changed(order, S.FILLED, 10))
    assert rig.states(order)[-1] is S.FILLED


def test_F54_an_old_report_lowers_nothing(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 5), changed(order, S.PARTIALLY_FILLED, 5))
    before = rig.events(order)
    rig.looked(order, changed(order, S.NEW, 0))
    rig.looked(order, changed(order, S.PARTIALLY_FILLED, 2))
    assert rig.events(order) == before


@pytest.mark.parametrize("reason", ["LIMIT_MAKER_ORDER_INCORRECT_PRICE_CONDITION", "a reason of next year"])
def test_F27_a_maker_that_would_take_ends_with_the_exchange_s_reason(rig: Rig, reason: str) -> None:
    order = rig.accept(msgspec.structs.replace(buy(10, 100), order_type="LIMIT_MAKER", symbol=PERP))
    rig.hear(changed(order, S.CANCELED, cancel_reason=reason))
    assert (rig.events(order)[-1].state, rig.events(order)[-1].reason) == (S.CANCELED, reason)


@pytest.mark.parametrize("reason", ["OUT_OF_RANGE_LIMIT_PRICE", "MARKET_ORDER_EXCEED_SLIPPAGE_TOLERANCE"])
def test_F111_what_a_price_band_ended_is_over_and_is_not_sent_again(rig: Rig, reason: str) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(changed(order, S.CANCELED, cancel_reason=reason))
    assert (rig.events(order)[-1].state, rig.events(order)[-1].reason) == (S.CANCELED, reason)
    rig.asked(Place)
    rig.pass_s(60)
    assert not rig.asked(Place)
    assert rig.desk.is_quiet("spot")


def test_F111_a_price_beyond_the_band_is_a_refusal_and_is_not_sent_again(rig: Rig) -> None:
    order = rig.submit(msgspec.structs.replace(buy(10, 100), symbol=PERP))
    rig.placed(order, refused(RefusalKind.ORDER, 10002))
    assert rig.states(order) == [S.REJECTED]
    rig.asked(Place)
    rig.pass_s(60)
    assert not rig.asked(Place)


@pytest.mark.parametrize("reason", ["FL_LIQUIDATION", "RISK_LIMIT"])
def test_F72_an_end_forced_by_the_exchange_halts_its_market(rig: Rig, reason: str) -> None:
    order = rig.accept(msgspec.structs.replace(buy(10, 100), symbol=PERP))
    rig.hear(changed(order, S.CANCELED, cancel_reason=reason))
    report = only(rig.health(Condition.INTEGRITY), m.HealthReported)
    assert (report.severity, report.scope) == (RiskState.HALTED, f"symbol:{PERP}")


def test_F22_what_cannot_be_read_keeps_the_order_and_is_reported(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.looked(order, "PAUSED is no state")  # type: ignore[arg-type]
    assert rig.states(order) == [S.NEW]
    assert not rig.health(Condition.UNKNOWN_ORDER)[-1].is_well
    rig.looked(order, changed(order, S.CANCELED))
    assert rig.states(order)[-1] is S.CANCELED
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well


def test_a_fill_off_the_grid_is_not_booked_and_halts_its_market(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 1, quantity=Decimal("0.5")))
    assert not all_of(rig.said, m.Fill)
    assert rig.health(Condition.INTEGRITY)[-1].severity is RiskState.HALTED


def test_F66_coins_and_contracts_become_lots_each_in_its_own_way(rig: Rig) -> None:
    rig.tell(listed(quantity_scale=3), listed(PERP, quantity_scale=3, is_perp=True, notional_atoms_min=0))
    coins, contracts = rig.accept(buy(9_000, 100)), rig.accept(buy(9_000, 100, number=2, symbol=PERP), "78")
    rig.hear(filled(coins, 2), filled(contracts, 2, order_id="78"))
    assert [fill.qty_lots for fill in all_of(rig.said, m.Fill)] == [2_000, 2]


def test_F64_a_fee_in_a_third_coin_names_it(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 1, "1", fee=Decimal("0.5"), fee_currency="TRX"), filled(order, 1, "2", fee_currency="BTC"))
    assert [fill.fee_currency for fill in all_of(rig.said, m.Fill)] == ["TRX", ""]


def test_an_order_that_is_two_at_the_exchange_halts_its_market(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(changed(order, S.NEW, order_id="78"))
    assert rig.health(Condition.INTEGRITY)[-1].severity is RiskState.HALTED


# --- cancels


def test_F13_a_lost_cancel_is_repeated_slower_and_slower_and_then_goes_to_the_whole_market(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    asked_s: list[float] = []
    for quarter in range(4 * 40):
        for _ in rig.asked(Cancel):
            asked_s.append(quarter / 4)
            rig.cancelled(order, TIMEOUT)
        rig.pass_s(0.25)
    assert asked_s[:7] == [0, 0.5, 1.5, 3.5, 8.5, 13.5, 18.5]
    assert len(rig.asked(CancelSymbol)) == 3  # at 30, 35 and 40 s
    report = rig.health(Condition.CANCELS)[0]
    assert (report.is_well, report.ts_ns - NOW_NS) == (False, m.SECOND_NS // 4)
    rig.hear(changed(order, S.CANCELED))
    rig.pass_s(0.25)
    assert rig.health(Condition.CANCELS)[-1].is_well


def test_F107_a_market_that_refuses_cancels_is_asked_on_and_reported(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    rig.asked(Cancel)
    rig.cancelled(order, refused(RefusalKind.MODE, 21340, "maintenance"))
    rig.pass_s(1)
    assert not rig.health(Condition.CANCELS)[-1].is_well
    assert rig.asked(Cancel)


def test_F12_a_cancel_that_was_taken_is_no_end(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    rig.cancelled(order)
    assert rig.states(order) == [S.NEW, S.PENDING_CANCEL]
    rig.asked(Look)
    rig.pass_s(1.25)
    assert rig.asked(Look)
    rig.looked(order, changed(order, S.CANCELED))
    assert rig.states(order)[-1] is S.CANCELED


def test_F11_a_cancel_that_lost_the_race_is_settled_by_the_order_itself(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    rig.cancelled(order, RACE)
    assert rig.states(order) == [S.NEW]
    assert rig.asked(Look)
    rig.looked(order, None)  # not found is never final by itself
    assert rig.states(order) == [S.NEW]
    rig.looked(order, changed(order, S.FILLED, 10))
    rig.fills_read(order, [filled(order, 10)])
    assert rig.states(order)[-1] is S.FILLED
    rig.pass_s(1)
    assert not rig.health(Condition.CANCELS)


def test_a_cancel_of_an_order_that_is_not_answered_waits_for_the_answer(rig: Rig) -> None:
    order = rig.submit(buy(10, 100))
    rig.cancel(order)
    assert not rig.asked(Cancel)
    rig.placed(order, Accepted(value="77"))
    assert only(rig.asked(Cancel), Cancel).client_id == order.client_id


def test_a_cancel_of_an_unknown_order_is_sent_by_its_client_id(rig: Rig) -> None:
    order = rig.lose(buy(10, 100))
    rig.cancel(order)
    assert only(rig.asked(Cancel), Cancel).client_id == order.client_id
    rig.cancelled(order, RACE)
    assert rig.states(order) == [S.UNKNOWN]


def test_F15_a_cancel_after_a_partial_fill_ends_with_the_fills(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.cancel(order)
    rig.hear(filled(order, 3), changed(order, S.PARTIALLY_CANCELED, 3))
    assert (rig.events(order)[-1].state, rig.events(order)[-1].filled_lots) == (S.PARTIALLY_CANCELED, 3)


# --- the private stream


def test_F55_a_stale_stream_is_reported_until_all_of_them_are_fresh(rig: Rig) -> None:
    rig.hear(Stale(market=Market.SPOT, reason="cut"), Stale(market=Market.FUTURES, reason="cut"))
    rig.hear(Fresh(market=Market.SPOT, at_ms=NOW_MS, living=frozenset()))
    assert [report.is_well for report in rig.health(Condition.PRIVATE_STREAM)] == [False]
    rig.hear(Fresh(market=Market.FUTURES, at_ms=NOW_MS, living=frozenset()))
    assert [report.is_well for report in rig.health(Condition.PRIVATE_STREAM)] == [False, True]


def test_F55_an_order_that_a_fresh_list_lacks_is_asked_for(rig: Rig) -> None:
    there, gone = rig.accept(buy(10, 100)), rig.accept(buy(10, 100, number=2), "78")
    rig.hear(Fresh(market=Market.SPOT, at_ms=NOW_MS, living=frozenset({"77"})))
    assert only(rig.asked(Look), Look).client_id == gone.client_id
    assert rig.states(there) == [S.NEW]


def test_F55_without_a_stream_the_list_of_orders_tells_what_ended(rig: Rig) -> None:
    there, gone = rig.accept(buy(10, 100)), rig.accept(buy(10, 100, number=2), "78")
    list(rig.desk.listed("spot", [changed(there, S.PARTIALLY_FILLED, 1)], rig.now_ns))
    rig.pass_s(3)
    assert [call.client_id for call in rig.asked(Look)] == [gone.client_id]
    assert [call.client_id for call in rig.asked(ReadFills)] == [there.client_id]


@pytest.mark.parametrize("found", [None, S.NEW, S.CANCELED])
def test_F55_books_are_not_compared_before_an_order_that_a_list_lacks_was_asked_for(
    rig: Rig, found: OrderState | None
) -> None:
    order = rig.accept(buy(10, 100))
    list(rig.desk.listed("spot", [], rig.now_ns))
    assert not rig.desk.is_quiet("spot")  # its end is on its way: that is no difference
    rig.looked(order, None if found is None else changed(order, found))
    assert rig.desk.is_quiet("spot")
    list(rig.desk.listed("spot", [], rig.now_ns))
    assert rig.desk.is_quiet("spot")  # nobody knows it: that is a difference
    list(rig.desk.listed("spot", [changed(order, S.NEW)], rig.now_ns))
    list(rig.desk.listed("spot", [], rig.now_ns))
    assert rig.desk.is_quiet("spot") is (found is S.CANCELED)


def test_F25_a_foreign_order_allows_only_reductions_in_its_market(rig: Rig) -> None:
    rig.hear(changed(buy(10, 100), S.NEW, client_id="mine", order_id="5"))
    rig.hear(changed(buy(10, 100), S.PARTIALLY_FILLED, 1, client_id="mine", order_id="5"))
    report = only(rig.health(Condition.FOREIGN_ORDER), m.HealthReported)
    assert (report.severity, report.scope) == (RiskState.REDUCE_ONLY, f"symbol:{BTC}")


@pytest.mark.parametrize("theirs", [client_id(1, 500), client_id(7, 1)])
def test_F56_F87_an_order_in_our_name_that_is_not_ours_halts_everything(rig: Rig, theirs: str) -> None:
    rig.hear(changed(buy(10, 100), S.NEW, client_id=theirs, order_id="5"))
    report = only(rig.health(Condition.FOREIGN_ORDER), m.HealthReported)
    assert (report.severity, report.scope) == (RiskState.HALTED, "")


def test_the_end_of_a_foreign_order_is_nothing(rig: Rig) -> None:
    assert rig.hear(changed(buy(10, 100), S.CANCELED, client_id="mine", order_id="5")) == []


def test_an_order_that_never_lived_and_lives_halts_its_market(rig: Rig) -> None:
    order = rig.lose(buy(10, 100))
    rig.resolved(order, NEVER)
    rig.hear(changed(order, S.NEW))
    report = only(rig.health(Condition.INTEGRITY), m.HealthReported)
    assert (report.severity, report.scope) == (RiskState.HALTED, f"symbol:{BTC}")


# --- the comparison of books


def test_a_wallet_is_quiet_only_while_none_of_its_orders_is_under_way(rig: Rig) -> None:
    assert rig.desk.is_quiet("spot")
    order = rig.submit(buy(10, 100))
    assert not rig.desk.is_quiet("spot")
    assert rig.desk.is_quiet("futures")
    rig.placed(order, Accepted(value="77"))
    assert rig.desk.is_quiet("spot")
    rig.hear(changed(order, S.PARTIALLY_FILLED, 2))
    assert not rig.desk.is_quiet("spot")
    rig.hear(filled(order, 2))
    assert rig.desk.is_quiet("spot")


def test_what_changed_counts_and_what_was_repeated_does_not(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    version = rig.desk.versions["spot"]
    rig.hear(changed(order, S.NEW))
    rig.looked(order, changed(order, S.NEW))
    assert rig.desk.versions["spot"] == version
    rig.hear(filled(order, 1))
    assert rig.desk.versions["spot"] > version


def test_orders_are_compared_as_the_books_count_them(rig: Rig) -> None:
    order = rig.accept(buy(10, 100))
    rig.hear(filled(order, 4))
    guard = rig.submit(stop(PERP, 5, number=2))
    assert rig.desk.living("spot", {order.client_id: 1, "5": 7}) == {order.client_id: 6, "5": 7}
    assert rig.desk.living("futures", {}) == {guard.client_id: 5}


# --- giving up


def test_an_order_that_the_operator_gives_up_ends_and_is_looked_for_no_more(rig: Rig) -> None:
    order = rig.lose(buy(10, 100), Doubt.EXISTS)
    rig.tell(m.OperatorCommand(ts_ns=NOW_NS, verb="abandon", command_id="", subject=order.client_id))
    assert rig.states(order)[-1] is S.ABANDONED
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well
    assert not rig.desk.is_lost(order.client_id)


# --- a start


def record(state: OrderState = S.SUBMITTED, filled_lots: int = 0, order_id: str = "", **changes: object) -> OrderRecord:
    made = OrderRecord(
        intent=buy(10, 100), state=state, filled_lots=filled_lots, submitted_ns=NOW_NS - m.SECOND_NS, order_id=order_id
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def start(*records: OrderRecord, **more: object) -> Rig:
    rig = Rig()
    rig.tell(recovered(*records, **more))  # type: ignore[arg-type]
    return rig


@pytest.mark.parametrize("state", [S.SUBMITTED, S.UNKNOWN])
def test_F77_F03_an_order_that_was_not_answered_before_the_crash_is_unknown_until_it_can_no_longer_arrive(
    state: OrderState,
) -> None:
    rig = start(record(state))
    assert rig.states(buy(10, 100)) == [S.UNKNOWN]
    unknown = only(rig.asked(Resolve), Resolve).unknown
    # It was signed before the start at the latest, and what was answered is not known either.
    assert search_fence_ms(unknown) >= NOW_MS + 5_000 + 10_000
    assert not rig.asked(Place)


def test_F77_an_order_of_long_ago_can_no_longer_arrive() -> None:
    rig = start(record(submitted_ns=NOW_NS - 3_600 * m.SECOND_NS))
    assert search_fence_ms(only(rig.asked(Resolve), Resolve).unknown) < NOW_MS


def test_F97_an_order_that_worked_before_the_restart_is_asked_for_and_goes_on() -> None:
    order = buy(10, 100)
    rig = start(record(S.NEW, order_id="77"))
    assert only(rig.asked(Look), Look).order_id == "77"
    rig.looked(order, changed(order, S.NEW))
    assert rig.states(order) == []
    assert rig.desk.is_quiet("spot")


def test_F97_a_cancel_that_was_wanted_before_the_restart_is_wanted_still() -> None:
    rig = start(record(S.NEW, order_id="77", is_cancel_requested=True))
    rig.pass_s(0.25)
    assert rig.asked(Cancel)


def test_F17_fills_of_an_earlier_session_are_not_counted_twice() -> None:
    order = buy(10, 100)
    rig = start(record(S.PARTIALLY_FILLED, 3, order_id="77", reported_lots=3))
    rig.hear(filled(order, 3, "1"))  # the stream tells it again
    assert all(event.filled_lots == 3 for event in rig.events(order))
    rig.looked(order, changed(order, S.PARTIALLY_FILLED, 5))
    rig.pass_s(3)
    rig.fills_read(order, [filled(order, 3, "1"), filled(order, 2, "2")])
    assert rig.events(order)[-1].filled_lots == 5
    assert rig.booked_lots(order) == 5


def test_fills_that_the_journal_has_are_not_asked_for_again() -> None:
    order = buy(10, 100)
    rig = start(record(S.PARTIALLY_FILLED, 3, order_id="77", reported_lots=3))
    rig.looked(order, changed(order, S.PARTIALLY_FILLED, 3))
    rig.pass_s(10)
    assert not rig.asked(ReadFills)
    assert rig.desk.is_quiet("spot")


def test_fills_that_an_ended_order_owes_are_asked_for_after_a_restart() -> None:
    order = buy(10, 100)
    rig = start(unsettled=[record(S.CANCELED, 1, order_id="77", reported_lots=4)])
    assert not rig.desk.is_quiet("spot")
    rig.pass_s(1)
    assert rig.asked(ReadFills)
    rig.fills_read(order, [filled(order, 1, "1"), filled(order, 3, "2")])
    assert rig.booked_lots(order) == 4
    assert rig.events(order) == []
    assert rig.desk.is_quiet("spot")


def test_what_the_stream_says_before_the_journal_was_read_waits_for_it() -> None:
    order = buy(10, 100)
    rig = Rig()
    assert rig.hear(changed(order, S.NEW), filled(order, 2)) == []
    assert not rig.desk.is_quiet("spot")
    rig.tell(recovered(record(S.NEW, order_id="77")))
    assert rig.booked_lots(order) == 2
    assert not rig.health(Condition.FOREIGN_ORDER)


def test_what_is_said_of_a_market_before_it_is_listed_waits_for_it() -> None:
    order = buy(10, 100)
    rig = Rig(is_listed=False)
    rig.tell(recovered(record(S.NEW, order_id="77")))
    rig.hear(filled(order, 2), changed(order, S.PARTIALLY_FILLED, 2))
    assert not all_of(rig.said, m.Fill)
    rig.tell(listed())
    assert rig.booked_lots(order) == 2


# --- stops


def test_a_stop_on_coins_waits_at_the_exchange(rig: Rig) -> None:
    guard = rig.submit(stop())
    assert rig.asked(Place) == [Place(guard, is_protective=True)]
    rig.placed(guard, Accepted(value="77"))
    assert rig.desk.has_protective
    rig.tell(trade(80, 1, symbol=BTC))
    assert not rig.asked(Place)
    rig.pass_s(1.25)
    assert only(rig.asked(Look), Look).is_protective  # the exchange should have seen it


def test_a_stop_on_contracts_waits_here_and_is_sent_once_at_its_trigger(rig: Rig) -> None:
    guard = rig.submit(stop(PERP))
    assert rig.states(guard) == [S.NEW]
    rig.tell(trade(91, 1, symbol=PERP), depth(((91, 1),), ((92, 1),), symbol=PERP))
    assert not rig.asked(Place)
    rig.tell(trade(90, 1, symbol=PERP), trade(89, 1, symbol=PERP))
    sent = only(rig.asked(Place), Place).intent
    assert (sent.client_id, sent.order_type, sent.is_reduce_only) == (guard.client_id, "MARKET", True)
    rig.placed(guard, Accepted(value="77"))
    rig.hear(filled(guard, 10), changed(guard, S.FILLED, 10))
    assert rig.states(guard) == [S.NEW, S.FILLED]


def test_a_stop_on_a_short_is_reached_from_below_by_the_ask(rig: Rig) -> None:
    rig.submit(stop(PERP, trigger=110, side=buy(1).side))
    rig.tell(depth(((111, 1),), ((112, 1),), symbol=PERP))
    assert only(rig.asked(Place), Place).intent.side is buy(1).side


def test_a_stop_that_waits_here_is_cancelled_here(rig: Rig) -> None:
    guard = rig.submit(stop(PERP))
    rig.cancel(guard)
    assert rig.states(guard) == [S.NEW, S.CANCELED]
    rig.tell(trade(80, 1, symbol=PERP))
    assert not rig.calls


def test_a_stop_that_the_exchange_refused_waits_here(rig: Rig) -> None:
    guard = rig.submit(stop())
    rig.placed(guard, refused(code=25001, text="stop price"))
    assert rig.states(guard) == [S.NEW]
    rig.asked(Place)
    rig.tell(trade(90, 1))
    closing = only(rig.asked(Place), Place)
    assert (closing.intent.order_type, closing.is_protective) == ("MARKET", False)


def test_a_stop_that_fails_at_its_trigger_makes_way_for_itself_and_closes_at_the_market(rig: Rig) -> None:
    profit = rig.accept(sell(10, 120, number=2, is_reduce_only=True), "78")
    guard = rig.accept(stop())
    rig.asked(Place)
    rig.hear(changed(guard, S.FAILED))
    assert only(rig.asked(Cancel), Cancel).client_id == profit.client_id
    assert not rig.asked(Place)
    rig.hear(changed(profit, S.CANCELED, order_id="78"))
    rig.pass_s(0.25)
    closing = only(rig.asked(Place), Place).intent
    assert (closing.client_id, closing.qty_lots) == (f"{guard.client_id}s", 10)
    rig.placed(closing, Accepted(value="79"))
    rig.hear(changed(guard, S.FAILED))  # late news of the exchange's own stop
    rig.hear(filled(guard, 10, client_id=closing.client_id, order_id="79"))
    assert rig.states(guard) == [S.NEW, S.FILLED]
    assert rig.booked_lots(guard) == 10


def test_a_stop_on_contracts_closes_when_its_rival_is_gone(rig: Rig) -> None:
    profit = rig.accept(sell(10, 120, number=2, symbol=PERP, is_reduce_only=True), "78")
    guard = rig.submit(stop(PERP))
    other = rig.submit(stop(PERP, trigger=50, number=3))  # waits here, so it is in nobody's way
    rig.asked(Place)
    rig.tell(trade(90, 1, symbol=PERP))
    assert only(rig.asked(Cancel), Cancel).client_id == profit.client_id
    assert not rig.asked(Place)  # the exchange would not close more than is held
    rig.hear(changed(profit, S.CANCELED, order_id="78"))
    rig.pass_s(0.25)
    assert only(rig.asked(Place), Place).intent.client_id == guard.client_id
    assert rig.states(other) == [S.NEW]


def test_an_order_that_the_exchange_made_smaller_is_taken_back_and_not_again_at_once(rig: Rig) -> None:
    for number, seconds, is_taken_back in ((1, 0, True), (2, 29, False), (3, 1, True)):
        rig.pass_s(seconds)
        guard = rig.accept(sell(10, 120, number=number, symbol=PERP, is_reduce_only=True), str(number))
        rig.hear(changed(guard, S.NEW, order_id=str(number)))
        assert not rig.asked(Cancel)
        rig.hear(changed(guard, S.NEW, order_id=str(number), quantity=Decimal(4)))
        assert [each.client_id for each in rig.asked(Cancel)] == [guard.client_id] * is_taken_back


def test_a_stop_whose_work_is_refused_tries_again_with_what_is_there_and_then_tells(rig: Rig) -> None:
    guard = rig.accept(stop())
    rig.asked(Place)
    rig.hear(BalanceChanged(market=Market.SPOT, currency="BTC", available=Decimal(7), hold=Decimal(0), changed_ms=1))
    rig.hear(changed(guard, S.FAILED))
    tried: list[int] = []
    for _ in range(40):
        for call in rig.asked(Place):
            tried.append(call.intent.qty_lots)
            rig.placed(call.intent, refused())
        rig.pass_s(1)
    assert tried == [10, 7, 7, 7, 7]
    assert rig.states(guard) == [S.NEW, S.EXPIRED]
    report = only(rig.health(Condition.INTEGRITY), m.HealthReported)
    assert (report.severity, report.scope) == (RiskState.REDUCE_ONLY, f"symbol:{BTC}")


def test_F69_a_stop_with_nothing_left_to_close_ends(rig: Rig) -> None:
    guard = rig.submit(stop(PERP))
    rig.tell(trade(80, 1, symbol=PERP))
    rig.placed(guard, refused(code=10018, text="no position"))
    assert rig.states(guard) == [S.NEW, S.EXPIRED]
    assert not rig.health(Condition.INTEGRITY)


def test_a_stop_whose_work_never_arrived_is_sent_again_after_proof_and_under_the_same_id(rig: Rig) -> None:
    guard = rig.submit(stop(PERP))
    rig.tell(trade(80, 1, symbol=PERP))
    rig.asked(Place)
    rig.placed(guard, lost(guard))
    assert not rig.health(Condition.UNKNOWN_ORDER)[-1].is_well
    rig.pass_s(20)
    assert not rig.asked(Place)  # it may live
    rig.resolved(guard, NEVER)
    rig.pass_s(2)
    assert only(rig.asked(Place), Place).intent.client_id == guard.client_id
    assert rig.health(Condition.UNKNOWN_ORDER)[-1].is_well
    assert rig.states(guard) == [S.NEW]


def test_a_triggered_stop_is_the_order_that_came_of_it(rig: Rig) -> None:
    guard = rig.accept(stop())
    rig.looked(guard, changed(guard, S.FILLED, 10, order_id="99", client_id=""))
    assert only(rig.asked(ReadFills), ReadFills).order_id == "99"
    rig.fills_read(guard, [filled(guard, 10, order_id="99", client_id="")])
    assert rig.states(guard)[-1] is S.FILLED


def test_a_stop_that_waited_here_waits_here_after_a_restart() -> None:
    guard = stop(PERP)
    rig = start(OrderRecord(intent=guard, state=S.NEW, filled_lots=0, submitted_ns=NOW_NS))
    assert only(rig.asked(Resolve), Resolve).unknown.client_id == guard.client_id
    rig.tell(trade(80, 1, symbol=PERP))
    assert not rig.asked(Place)  # it may have been sent just before the end
    rig.resolved(guard, NEVER)
    rig.tell(trade(80, 1, symbol=PERP))
    assert rig.asked(Place)
    assert rig.states(guard) == []


def test_a_stop_that_was_sent_just_before_the_restart_and_fills_is_not_sent_again() -> None:
    guard = stop(PERP)
    rig = start(OrderRecord(intent=guard, state=S.NEW, filled_lots=0, submitted_ns=NOW_NS))
    rig.hear(filled(guard, 4))
    rig.tell(trade(80, 1, symbol=PERP))
    assert not rig.asked(Place)
    rig.hear(changed(guard, S.PARTIALLY_CANCELED, 4))
    assert rig.states(guard) == [S.PARTIALLY_FILLED, S.PARTIALLY_CANCELED]


def test_a_stop_that_was_sent_just_before_the_restart_is_not_sent_again() -> None:
    guard = stop(PERP)
    rig = start(OrderRecord(intent=guard, state=S.NEW, filled_lots=0, submitted_ns=NOW_NS))
    rig.resolved(guard, Accepted(value=changed(guard, S.FILLED, 10)))
    rig.fills_read(guard, [filled(guard, 10)])
    rig.tell(trade(80, 1, symbol=PERP))
    assert rig.states(guard) == [S.FILLED]
    assert not rig.asked(Place)
