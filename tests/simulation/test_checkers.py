"""Each promise, broken by hand: a checker that cannot see it would be no checker."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from actors.simulation.checkers import (
    STALE_S,
    Agreement,
    Arrival,
    AtRest,
    Books,
    Checker,
    Conservation,
    End,
    Exposure,
    LegalSteps,
    NothingAfterHalt,
    NothingRepaired,
    Replayable,
    Second,
    SingleUse,
    WithinLimits,
    all_checkers,
    coverage_of,
)
from bot.core import messages as m
from bot.core.instrument import Side
from bot.core.messages import RiskState
from bot.core.orders import OrderIntent, OrderState

SAME = Books({"spot USDT": 100, "spot BTC": 5}, {"b1": 3})
OTHER = Books({"spot USDT": 99, "spot BTC": 5}, {"b1": 3})
LIMIT = Exposure("BTC_USDT", 100, 0, 100)


def second(at_s: float = 1.0, **changed: object) -> Second:
    return Second(at_s=at_s, is_connected=True, exchange=SAME, ours=SAME, session=1)._replace(**changed)


def said(checker: Checker, seconds: Sequence[Second]) -> list[str]:
    """Return the ids of what was broken."""
    return [breach.rule for each in seconds for breach in checker.look(each)]


def arrival(client_id: str = "b1", order_id: str = "1", *, is_written: bool = True, increases: bool = True) -> Arrival:
    return Arrival(client_id, order_id, "BTC_USDT", increases, is_written)


def approved(client_id: str, reserved_atoms: int = 10) -> m.OrderApproved:
    intent = OrderIntent(
        client_id=client_id,
        strategy="s",
        symbol="BTC_USDT",
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        qty_lots=1,
        price_ticks=10,
        reserved_atoms=reserved_atoms,
    )
    return m.OrderApproved(ts_ns=1, intent=intent)


def event(client_id: str, state: OrderState, filled_lots: int = 0, reason: str = "") -> m.OrderEvent:
    return m.OrderEvent(
        ts_ns=1, client_id=client_id, symbol="A", order_id="1", state=state, filled_lots=filled_lots, reason=reason
    )


def latch(state: RiskState, cause: str = "drawdown", scope: str = "") -> m.RiskStateChanged:
    return m.RiskStateChanged(ts_ns=1, state=state, cause=cause, detail="", scope=scope)


# --- orders


def test_O1_one_intent_that_becomes_two_orders_is_seen() -> None:
    assert said(SingleUse(), [second(arrivals=(arrival(),)), second(arrivals=(arrival(order_id="2"),))]) == ["O1"]


def test_O1_an_order_that_is_seen_again_is_no_second_one() -> None:
    assert said(SingleUse(), [second(arrivals=(arrival(),)), second(arrivals=(arrival(), arrival("b2", "2")))]) == []


def test_O6_an_order_that_nobody_approved_is_seen() -> None:
    assert said(SingleUse(), [second(arrivals=(arrival(client_id=""),))]) == ["O6"]
    assert said(LegalSteps(), [second(facts=(event("b1", OrderState.NEW),))]) == ["O6"]


def test_O7_an_order_that_was_sent_before_it_was_written_is_seen() -> None:
    assert said(SingleUse(), [second(arrivals=(arrival(is_written=False),))]) == ["O7"]


def test_O6_an_order_that_is_not_what_was_approved_is_seen() -> None:
    other = arrival()._replace(difference="7 lots, approved were 3")
    assert said(SingleUse(), [second(arrivals=(other,))]) == ["O6"]


def test_O3_steps_by_the_table_pass_and_are_counted() -> None:
    checker = LegalSteps()
    facts = (
        approved("b1"),
        event("b1", OrderState.UNKNOWN),
        event("b1", OrderState.NEW),
        event("b1", OrderState.PARTIALLY_FILLED, 1),
        event("b1", OrderState.PARTIALLY_FILLED, 2),
        event("b1", OrderState.CANCELED, 2, reason="21301: gone"),
    )
    assert said(checker, [second(facts=facts)]) == []
    assert coverage_of([checker]) == {
        "edge NEW PARTIALLY_FILLED": 1,
        "edge PARTIALLY_FILLED CANCELED": 1,
        "edge PARTIALLY_FILLED PARTIALLY_FILLED": 1,
        "edge SUBMITTED UNKNOWN": 1,
        "edge UNKNOWN NEW": 1,
        "reason 21301": 1,
    }


@pytest.mark.parametrize("after", [OrderState.NEW, OrderState.UNKNOWN, OrderState.REJECTED, OrderState.CANCELED])
def test_O3_a_final_state_that_is_left_is_seen(after: OrderState) -> None:
    facts = (approved("b1"), event("b1", OrderState.FILLED, 1), event("b1", after))
    assert said(LegalSteps(), [second(facts=facts)]) == ["O3"]


def test_O10_an_event_that_was_ignored_is_seen() -> None:
    kept = {"received": 5, "applied": 3, "duplicate": 1, "quarantined": 1, "repaired": 7}
    assert said(Conservation(), [second(counts=kept), second(counts=kept | {"received": 6})]) == ["O10"]
    assert said(Conservation(), [second()]) == []


# --- money


def seconds(count: int, **changed: object) -> list[Second]:
    return [second(float(at), **changed) for at in range(count)]


def test_C2_a_difference_that_lasts_is_seen_once() -> None:
    checker = Agreement()
    assert said(checker, seconds(int(STALE_S) + 1, ours=OTHER)) == []
    assert said(checker, [second(STALE_S + 1, ours=OTHER), second(STALE_S + 2, ours=OTHER)]) == ["C2"]


def test_C2_an_order_that_lives_in_one_book_only_is_seen() -> None:
    assert said(Agreement(), seconds(43, ours=SAME._replace(living={}))) == ["C2"]
    assert said(Agreement(), seconds(43, exchange=SAME._replace(living={"b1": 2}))) == ["C2"]


def test_C2_what_is_not_named_is_nothing() -> None:
    assert said(Agreement(), seconds(43, ours=SAME._replace(amounts={**SAME.amounts, "spot ETH": 0}))) == []


def test_C2_a_difference_that_goes_away_in_time_is_no_breach() -> None:
    checker = Agreement()
    for begin in (0, 100, 200):
        late = [second(float(begin + at), ours=OTHER) for at in range(39)]
        assert said(checker, [*late, second(begin + 40.0)]) == []


@pytest.mark.parametrize("broken", [{"is_connected": False}, {"ours": None}, {"session": 2}])
def test_C2_patience_begins_anew_with_a_connection_and_with_a_session(broken: dict[str, object]) -> None:
    checker = Agreement()
    later = [second(60.0 + at, ours=OTHER, session=broken.get("session", 1)) for at in range(39)]
    assert said(checker, [*seconds(39, ours=OTHER), second(50.0, **{"ours": OTHER, **broken}), *later]) == []


def test_R1_working_orders_that_could_pass_a_limit_are_seen_when_one_arrives() -> None:
    over = LIMIT._replace(long_atoms=102)
    assert said(WithinLimits(), [second(exposures=(over,), arrivals=(arrival(),))]) == ["R1"]
    assert said(WithinLimits(), [second(exposures=(LIMIT,), gross=over, arrivals=(arrival(),))]) == ["R1"]
    short = LIMIT._replace(long_atoms=0, short_atoms=110)
    assert said(WithinLimits(), [second(exposures=(short,), arrivals=(arrival(),))]) == ["R1"]


def test_R1_a_hundredth_is_forgiven_and_what_only_the_price_did_too() -> None:
    near, over = LIMIT._replace(long_atoms=101), LIMIT._replace(long_atoms=150)
    assert said(WithinLimits(), [second(exposures=(near,), arrivals=(arrival(),))]) == []
    assert said(WithinLimits(), [second(exposures=(over,))]) == []
    assert said(WithinLimits(), [second(exposures=(over,), arrivals=(arrival(increases=False),))]) == []


def test_R3_an_increase_after_a_halt_is_seen() -> None:
    checker = NothingAfterHalt()
    halted = second(10.0, facts=(latch(RiskState.HALTED), approved("b1")))
    assert said(checker, [halted]) == ["R3"]
    assert said(checker, [second(40.0, arrivals=(arrival(),))]) == ["R3"]


def test_R3_what_was_under_way_and_what_reduces_may_arrive() -> None:
    halted = second(10.0, facts=(approved("b0"), latch(RiskState.HALTED), approved("b1", 0)))
    later = second(60.0, arrivals=(arrival(increases=False),))
    assert said(NothingAfterHalt(), [halted, second(15.0, arrivals=(arrival(),)), later]) == []


@pytest.mark.parametrize(
    ("facts", "breaches"),
    [
        ((latch(RiskState.NORMAL),), []),
        ((latch(RiskState.NORMAL, "operator"),), []),
        ((latch(RiskState.NORMAL, "daily_loss"),), ["R3"]),
        ((latch(RiskState.NORMAL, scope="symbol:A"),), ["R3"]),
        ((latch(RiskState.REDUCE_ONLY),), []),
    ],
)
def test_R3_a_halt_lasts_until_its_own_latch_is_opened(facts: tuple[m.Journalled, ...], breaches: list[str]) -> None:
    checker = NothingAfterHalt()
    opened = second(20.0, facts=(*facts, approved("b2")))
    assert said(checker, [second(10.0, facts=(latch(RiskState.HALTED),)), opened]) == breaches


def test_R3_the_halt_of_one_symbol_halts_nothing_else() -> None:
    halted = second(10.0, facts=(latch(RiskState.HALTED, scope="symbol:A"), approved("b1")))
    assert said(NothingAfterHalt(), [halted]) == []


# --- memory and the end


def test_P1_a_ledger_that_its_journal_does_not_give_is_seen() -> None:
    checker = Replayable()
    assert said(checker, [second(), second(live_hash="a", replayed_hash="a")]) == []
    assert said(checker, [second(live_hash="a", replayed_hash="b")]) == ["P1"]
    assert checker.checkpoints == 2


def test_each_repair_where_nothing_went_wrong_is_seen_once() -> None:
    repaired = [second(counts={"repaired": count}) for count in (0, 1, 1, 2)]
    assert said(NothingRepaired(), repaired) == ["REPAIRS", "REPAIRS"]


REST = End(exchange=SAME, ours=SAME, risk_state=RiskState.NORMAL, causes=())


@pytest.mark.parametrize(
    ("end", "breaches"),
    [
        (REST, []),
        (REST._replace(ours=OTHER), ["C1"]),
        (REST._replace(exchange=SAME._replace(living={})), ["O2"]),
        (REST._replace(ours=SAME._replace(living={})), ["C1"]),
        (REST._replace(ours=SAME._replace(living={"b1": 2})), ["C1"]),
        (REST._replace(risk_state=RiskState.HALTED), ["O2"]),
        (REST._replace(risk_state=RiskState.HALTED, causes=("drawdown",)), []),
    ],
)
def test_O2_C1_the_end_is_at_rest(end: End, breaches: list[str]) -> None:
    assert [breach.rule for breach in AtRest().close(end)] == breaches


def test_nothing_is_said_of_a_world_where_all_is_well() -> None:
    facts = (approved("b1"), event("b1", OrderState.NEW), event("b1", OrderState.FILLED, 1))
    world = [second(1.0, facts=facts, arrivals=(arrival(),), exposures=(LIMIT,)), *seconds(50)]
    for checker in all_checkers(is_fault_free=True):
        assert said(checker, world) == []
        assert list(checker.close(REST)) == []


def test_repairs_are_forbidden_only_where_nothing_goes_wrong() -> None:
    kinds = [type(each) for each in all_checkers(is_fault_free=False)]
    assert NothingRepaired not in kinds
    assert NothingRepaired in [type(each) for each in all_checkers(is_fault_free=True)]
    assert msgspec.json.decode(msgspec.json.encode(coverage_of([]))) == {}
