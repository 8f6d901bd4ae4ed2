"""The breakers of what the bot may use, memory and a strategy's time, and of a strategy that failed."""

from __future__ import annotations

import pytest

from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.messages import Condition, DenyReason, RiskState
from tests.core.test_breakers_gate import CALM, Bot, unwell
from tests.support.builders import BTC, all_of, only, signal

REDUCE, HALT = RiskState.REDUCE_ONLY, RiskState.HALTED
SLOW = unwell(Condition.STRATEGY_SLOW, HALT, "strategy:one")


def bot() -> Bot:
    made = Bot(breakers=CALM)
    made.price(100)
    return made


def test_F117_a_slow_strategy_is_halted_and_the_others_go_on() -> None:
    made = bot()
    change = only(made.report(SLOW), m.RiskStateChanged)
    assert (change.state, change.cause, change.scope) == (HALT, "strategy_slow", "strategy:one")
    denied = only(made.post(Stage.STRATEGY, signal(5, at_ns=made.now_ns)), m.OrderDenied)
    assert (denied.reason, denied.detail) == (DenyReason.HALTED, f"{BTC}: halted by strategy_slow@strategy:one")
    assert made.gate.state is RiskState.NORMAL
    wish = signal(5, strategy="two", at_ns=made.now_ns)
    assert all_of(made.post(Stage.STRATEGY, wish), m.OrderApproved)


def test_F117_what_a_slow_strategy_has_working_is_cancelled() -> None:
    made = bot()
    mine, others = signal(5, is_passive=True, at_ns=made.now_ns), signal(5, strategy="two", is_passive=True)
    (approved,) = all_of(made.post(Stage.STRATEGY, mine), m.OrderApproved)
    made.post(Stage.STRATEGY, others)
    cancels = all_of(made.report(SLOW), m.CancelRequested)
    assert [cancel.client_id for cancel in cancels] == [approved.intent.client_id]


@pytest.mark.parametrize("severity", [REDUCE, HALT])
def test_F117_the_halt_is_opened_by_its_name_only(severity: RiskState) -> None:
    condition = Condition.STRATEGY_SLOW
    made = bot()
    made.report(unwell(condition, severity, "strategy:one"))
    latches = [(HALT, f"{condition}@strategy:one")]
    made.report(unwell(condition, scope="strategy:one", is_well=True))
    made.wait(3_700)
    assert made.latches == latches
    made = made.restarted()
    made.wait(200)
    answer = made.order("resume")
    assert answer.detail.startswith(f"{condition}@strategy:one stays closed")
    assert made.latches == latches
    assert made.order("rearm", subject=f"{condition}@strategy:one").detail == ""
    assert made.latches == []
    made.report(unwell(condition, HALT, "strategy:one"))  # and if it happens again, it is halted again
    assert made.latches == latches


@pytest.mark.parametrize("severity", [REDUCE, HALT])
def test_F117_a_strategy_that_failed_stays_halted_until_a_restart_and_then_until_it_is_named(
    severity: RiskState,
) -> None:
    made = bot()
    made.report(unwell(Condition.STRATEGY_FAILED, severity, "strategy:one"))
    latches = [(HALT, "strategy_failed@strategy:one")]
    assert made.latches == latches
    assert "still not well" in made.order("rearm", subject="strategy_failed@strategy:one").detail
    assert made.latches == latches
    made = made.restarted()
    made.wait(200)
    assert made.order("resume").detail.startswith("strategy_failed@strategy:one stays closed")
    assert made.latches == latches
    assert made.order("rearm", subject="strategy_failed@strategy:one").detail == ""
    assert made.latches == []


def test_F117_a_strategy_that_asks_without_end_is_held_to_the_rate_of_orders() -> None:
    made = Bot(breakers=CALM, orders_per_second=3)
    made.price(100)
    for target in (1, 2, 3):
        made.trade(target, 100)
    wishes = [signal(target, at_ns=made.now_ns) for target in range(4, 50)]
    written = made.post(Stage.STRATEGY, *wishes)
    assert {denied.reason for denied in all_of(written, m.OrderDenied)} == {DenyReason.RATE_LIMIT}
    assert not all_of(written, m.OrderApproved)


def test_B12_memory_reduces_and_returns_a_minute_after_it_is_well() -> None:
    made = bot()
    made.report(unwell(Condition.LOAD))
    assert made.latches == [(REDUCE, "load")]
    made.wait(10)
    made.report(unwell(Condition.LOAD, is_well=True))
    made.wait(59)
    assert made.latches == [(REDUCE, "load")]
    made.wait(1)
    assert made.latches == []
