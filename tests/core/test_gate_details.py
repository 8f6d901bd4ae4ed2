"""What the gate says to the last word, and when: reasons, details, times; and orders that look alike but are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS, Condition, DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderState, client_id
from bot.core.risk import RiskGate
from bot.core.risk.bounds import BreakerBounds
from bot.core.risk.rate import MINUTE_NS
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    book_fill,
    book_lost,
    command,
    event,
    limits,
    listed,
    only,
    quote,
    record,
    recovered,
    risk_gate,
    say,
    signal,
    tick,
)

S = OrderState
NORMAL, REDUCE, HALT = RiskState.NORMAL, RiskState.REDUCE_ONLY, RiskState.HALTED
LATER_NS = NOW_NS + SECOND_NS
PERP = listed(is_perp=True)


def owner(lots: int = 10, **changes: Any) -> m.Recovered:
    """Return what a journal says where strategy `one` holds coins; equity is 10,000 at a price of 100."""
    return recovered(cash=10_000 - lots * 100, held={"one": {BTC: lots}}, **changes)


def short(lots: int = 10) -> m.Recovered:
    """Return what a journal says where strategy `one` is short of a perpetual that it sold at 100."""
    return recovered(held={"one": {BTC: -lots}}, costs={BTC: -lots * 100 * ATOMS})


def guarded(target: int = 10, stop: int = 90, profit: int = 120, **changes: Any) -> m.Signal:
    return signal(target, stop_ticks=stop, profit_ticks=profit, **changes)


def ordered(outputs: list[m.AnyMessage]) -> OrderIntent:
    return only(outputs, m.OrderApproved).intent


def approved(outputs: list[m.AnyMessage]) -> list[OrderIntent]:
    return [each.intent for each in all_of(outputs, m.OrderApproved)]


def reasons(outputs: list[m.AnyMessage]) -> set[str]:
    """Return why orders are cancelled, each said at the time of the last message."""
    wishes = all_of(outputs, m.CancelRequested)
    assert all(wish.ts_ns == LATER_NS for wish in wishes)
    return {wish.reason for wish in wishes}


# --- why an order is cancelled


def resting() -> RiskGate:
    gate = risk_gate(passive_ttl_ns=SECOND_NS)
    ordered(say(gate, signal(10, is_passive=True)))
    return gate


def with_guards() -> RiskGate:
    gate = risk_gate(known=owner())
    assert len(approved(say(gate, guarded()))) == 2
    return gate


def chased() -> RiskGate:
    gate = risk_gate()
    ordered(say(gate, signal(10, style="chase", style_ns=60 * SECOND_NS)))
    return gate


def restarted() -> RiskGate:
    stop, profit = (record(intent) for intent in approved(say(risk_gate(known=owner()), guarded())))
    return risk_gate(known=owner(orders=[stop, profit], epoch=2))


@pytest.mark.parametrize(
    ("make", "message", "reason"),
    [
        (resting, signal(0, at_ns=LATER_NS), "the wish changed"),
        (resting, command("close", at_ns=LATER_NS), "closing"),
        (resting, command("halt", at_ns=LATER_NS), "halted by operator"),
        (resting, command("reduce", at_ns=LATER_NS), "reduce-only by operator"),
        (resting, tick(LATER_NS), "rested longer than passive_ttl_s"),
        (with_guards, guarded(4, at_ns=LATER_NS), "makes way for an order that reduces"),
        (with_guards, command("flatten", at_ns=LATER_NS), "makes way for a market order"),
        (with_guards, guarded(stop=95, at_ns=LATER_NS), "the guard changed"),
        (with_guards, guarded(stop=0, at_ns=LATER_NS), "no longer wanted"),
    ],
)
def test_a_cancel_says_why_and_when(make: Callable[[], RiskGate], message: m.AnyMessage, reason: str) -> None:
    assert reasons(say(make(), message)) == {reason}


def test_an_order_that_chases_is_cancelled_when_the_touch_moves_away_and_not_before() -> None:
    gate = chased()
    assert reasons(say(gate, quote(98, 100, at_ns=LATER_NS), tick(LATER_NS))) == set()
    assert reasons(say(gate, quote(100, 102, at_ns=LATER_NS), tick(LATER_NS))) == {"the touch moved away"}


def test_after_a_restart_guards_of_nothing_are_cancelled_for_that() -> None:
    gate = restarted()
    lost = gate.account.working[client_id(1, 1)].record.intent
    assert reasons(say(gate, tick(LATER_NS), book_fill(gate, lost, 10, 90))) == {"nothing is left to guard"}


def test_a_guard_of_a_position_that_turned_round_is_not_wanted_any_more() -> None:
    gate = risk_gate(PERP, guarded(), known=recovered(held={"one": {BTC: 10}}, costs={BTC: 1_000 * ATOMS}))
    (stop, profit) = [order.record.intent for order in gate.account.working.values()]
    said = say(gate, tick(LATER_NS), book_fill(gate, stop, 10, 90), event(stop, S.FILLED, 10))
    assert [(each.client_id, each.reason) for each in all_of(said, m.CancelRequested)] == [
        (profit.client_id, "no longer wanted")
    ]


# --- guards to the last field


@pytest.mark.parametrize(
    ("known", "wish", "side"), [(owner(), guarded(), Side.SELL), (short(), guarded(-10, 120, 90), Side.BUY)]
)
@pytest.mark.parametrize("guards", [("stop",), ("profit",), ("stop", "profit")])
def test_a_guard_is_a_whole_order(known: m.Recovered, wish: m.Signal, side: Side, guards: tuple[str, ...]) -> None:
    gate = RiskGate(limits())
    say(gate, known, PERP if known.costs else listed(), quote())
    wish = msgspec.structs.replace(wish, **{f"{role}_ticks": 0 for role in ("stop", "profit") if role not in guards})
    price = {"stop": wish.stop_ticks, "profit": wish.profit_ticks}
    assert approved(say(gate, wish)) == [
        OrderIntent(
            client_id=client_id(1, number),
            strategy="one",
            symbol=BTC,
            side=side,
            order_type="STOP" if role == "stop" else "LIMIT",
            time_in_force="GTC",
            qty_lots=10,
            price_ticks=None if role == "stop" else price[role],
            role="stop" if role == "stop" else "profit",
            trigger_ticks=price[role] if role == "stop" else 0,
            is_reduce_only=True,
            reserved_atoms=0,
        )
        for number, role in enumerate(guards, start=1)
    ]


@pytest.mark.parametrize(("known", "wish"), [(owner(1), guarded(1)), (short(1), guarded(-1, 120, 90))])
def test_a_single_lot_is_guarded_and_its_guards_go_with_it(known: m.Recovered, wish: m.Signal) -> None:
    gate = risk_gate(PERP if known.costs else listed(), known=known)
    stop, profit = approved(say(gate, wish))
    assert (stop.qty_lots, profit.qty_lots) == (1, 1)
    said = say(gate, book_fill(gate, stop, 1, 90), event(stop, S.FILLED, 1))
    assert [each.client_id for each in all_of(said, m.CancelRequested)] == [profit.client_id]


def test_a_guard_asks_the_latches_of_its_own_strategy() -> None:
    trouble = m.HealthReported(
        ts_ns=NOW_NS, condition=Condition.INTEGRITY, is_well=False, severity=HALT, scope="strategy:one"
    )
    denials = all_of(say(risk_gate(trouble, known=owner()), guarded()), m.OrderDenied)
    assert [denial.reason for denial in denials] == [DenyReason.HALTED] * 2
    elsewhere = msgspec.structs.replace(trouble, scope="strategy:two")
    assert len(approved(say(risk_gate(elsewhere, known=owner()), guarded()))) == 2


def test_a_guard_at_another_price_is_another_wish_and_its_refusal_is_news() -> None:
    gate = risk_gate(command("halt"), known=owner())
    said = [all_of(say(gate, guarded(stop=stop, profit=0)), m.OrderDenied) for stop in (90, 90, 91)]
    assert [len(denials) for denials in said] == [1, 0, 1]


def test_nothing_is_guarded_once_the_session_closes() -> None:
    assert approved(say(risk_gate(command("close"), known=owner()), guarded())) == []
    gate = risk_gate()
    entry = ordered(say(gate, guarded()))
    assert approved(say(gate, command("close"), book_fill(gate, entry, 4))) == []


def test_an_exit_that_is_refused_is_not_guarded_by_its_own_prices() -> None:
    gate = risk_gate(book_lost(), known=owner())
    assert approved(say(gate, guarded(0))) == []


def test_after_a_restart_a_fill_of_an_order_that_nobody_wishes_for_is_no_surprise() -> None:
    entry = ordered(say(risk_gate(), signal(10)))
    gate = risk_gate(known=recovered(orders=[record(entry)], epoch=2))
    assert say(gate, book_fill(gate, entry, 4)) == []
    assert gate.account.held["one", BTC] == 4 * ATOMS


# --- guards and what they make way for


@pytest.mark.parametrize(("known", "target"), [(short(), 5), (recovered(held={"one": {BTC: 10}}), -5)])
def test_guards_make_way_for_a_turn_round(known: m.Recovered, target: int) -> None:
    costs = {BTC: known.holdings["one"][BTC] * 100}
    gate = risk_gate(PERP, known=msgspec.structs.replace(known, costs=costs))
    held = known.holdings["one"][BTC] // ATOMS
    wish = guarded(held) if held > 0 else guarded(held, 120, 90)
    assert len(approved(say(gate, wish))) == 2
    wish = guarded(target, *((120, 90) if target < 0 else (90, 120)), at_ns=LATER_NS)
    assert reasons(say(gate, wish)) == {"makes way for an order that reduces"}


@pytest.mark.parametrize(
    ("known", "wish", "target", "is_dust"),
    [
        (owner(20), guarded(20), 10, True),  # ten lots at a bid of 99 are less than 1,000
        (short(20), guarded(-20, 120, 90), -10, False),  # and at an ask of 101 they are not
        (owner(20), guarded(20), 9, False),
        (short(20), guarded(-20, 120, 90), -11, True),
    ],
)
def test_F65_what_is_dust_is_seen_at_the_price_that_it_would_meet(
    known: m.Recovered, wish: m.Signal, target: int, is_dust: bool
) -> None:
    gate = risk_gate(listed(is_perp=bool(known.costs), notional_atoms_min=1_000 * ATOMS), known=known)
    assert len(approved(say(gate, wish))) == 2
    cancels = all_of(say(gate, msgspec.structs.replace(wish, target_lots=target)), m.CancelRequested)
    assert len(cancels) == (0 if is_dust else 2)


def test_guards_make_way_for_a_single_lot() -> None:
    gate = risk_gate(known=owner(10))
    say(gate, guarded())
    assert len(all_of(say(gate, guarded(9)), m.CancelRequested)) == 2


def test_what_guards_no_longer_hold_back_is_not_bought_while_they_go() -> None:
    gate = risk_gate(known=owner())
    stop, profit = approved(say(gate, guarded()))
    say(gate, book_fill(gate, stop, 10, 90), event(stop, S.FILLED, 10))
    assert approved(say(gate, guarded(0, number=1))) == []  # the other guard still sells ten lots
    assert list(gate.account.working) == [profit.client_id]


def test_a_new_position_does_not_wait_for_the_guards_of_the_last() -> None:
    gate = risk_gate(known=owner())
    stop = approved(say(gate, guarded()))[0]
    say(gate, book_fill(gate, stop, 10, 90), event(stop, S.FILLED, 10))
    assert ordered(say(gate, signal(10, number=1))).signed_lots == 10


def test_only_guards_make_way_and_what_sells_already_goes_on() -> None:
    gate = risk_gate(known=owner())
    for guard in approved(say(gate, guarded())):
        say(gate, guarded(5), event(guard, S.CANCELED))
    sale, *guards = [order.record.intent for order in gate.account.working.values()]
    assert (sale.role, [guard.qty_lots for guard in guards]) == ("trade", [5, 5])
    cancels = all_of(say(gate, guarded(2)), m.CancelRequested)
    assert [each.client_id for each in cancels] == [guard.client_id for guard in guards]


def test_without_a_book_guards_stay_and_nothing_is_said() -> None:
    gate = risk_gate(known=owner())
    say(gate, guarded(), book_lost())
    assert say(gate, guarded(5)) == []


@pytest.mark.parametrize(
    ("known", "wish"),
    [(short(1), signal(-1, stop_ticks=120)), (owner(1), signal(1, profit_ticks=120, is_passive=True))],
)
def test_guards_make_way_for_a_last_lot_that_is_worth_enough_where_it_would_be_sent(
    known: m.Recovered, wish: m.Signal
) -> None:
    gate = risk_gate(listed(is_perp=bool(known.costs), notional_atoms_min=100 * ATOMS), known=known)
    assert len(approved(say(gate, wish))) == 1
    exit_wish = msgspec.structs.replace(wish, target_lots=0, ts_ns=LATER_NS)
    assert reasons(say(gate, exit_wish)) == {"makes way for an order that reduces"}


def test_after_a_restart_an_order_that_closes_goes_on_after_its_first_fill() -> None:
    sale = ordered(say(risk_gate(known=owner()), signal(0)))
    gate = risk_gate(known=owner(orders=[record(sale)], epoch=2))
    assert all_of(say(gate, book_fill(gate, sale, 4)), m.CancelRequested) == []


@pytest.mark.parametrize(
    ("known", "wish", "side"), [(owner(), guarded(), Side.SELL), (short(), guarded(-10), Side.BUY)]
)
def test_the_refusal_of_a_guard_names_its_side(known: m.Recovered, wish: m.Signal, side: Side) -> None:
    gate = risk_gate(PERP if known.costs else listed(), command("halt"), known=known)
    assert [denial.side for denial in all_of(say(gate, wish), m.OrderDenied)] == [side, side]


# --- scopes


@pytest.mark.parametrize(
    ("scope", "is_refused"), [("strategy:one", True), (f"symbol:{BTC}", True), ("strategy:two", False)]
)
def test_under_a_scope_s_reduce_only_a_turn_round_closes_and_no_more(scope: str, is_refused: bool) -> None:
    trouble = m.HealthReported(ts_ns=NOW_NS, condition=Condition.INTEGRITY, is_well=False, severity=REDUCE, scope=scope)
    gate = risk_gate(PERP, trouble, known=short(10))
    said = say(gate, signal(5))
    assert ordered(said).signed_lots == (10 if is_refused else 15)
    assert all_of(said, m.OrderDenied) == []
    assert gate.state_for("one", BTC) is (REDUCE if is_refused else NORMAL)


def test_under_reduce_only_what_is_closed_by_what_works_is_not_closed_again() -> None:
    gate = risk_gate(PERP, known=recovered(held={"one": {BTC: 10}}, costs={BTC: 1_000 * ATOMS}))
    assert ordered(say(gate, signal(0))).signed_lots == -10
    said = say(gate, command("reduce"), signal(-10))
    assert approved(said) == []
    denial = only(said, m.OrderDenied)
    assert (denial.reason, denial.side, denial.qty_lots) == (DenyReason.REDUCE_ONLY, Side.SELL, 10)


def test_under_reduce_only_a_short_of_one_lot_is_bought_back() -> None:
    assert ordered(say(risk_gate(PERP, command("reduce"), known=short(1)), signal(0))).signed_lots == 1


# --- the operator


def test_an_operator_s_latch_says_what_was_asked_for() -> None:
    gate = risk_gate()
    asked: tuple[tuple[m.OperatorVerb, str], ...] = (
        ("reduce", "reduce"),
        ("flatten", "all positions are closed at the market"),
        ("halt", "halt"),
    )
    for verb, detail in asked:
        change, answer = say(gate, command(verb, at_ns=LATER_NS))
        assert isinstance(change, m.RiskStateChanged)
        assert (change.ts_ns, change.detail) == (LATER_NS, detail)
        assert isinstance(answer, m.OperatorAnswered)
        assert (answer.ts_ns, answer.detail) == (LATER_NS, "")


@pytest.mark.parametrize(
    ("verb", "detail"),
    [
        ("reduce", "already halted, which is stricter; resume first"),
        ("flatten", "halted: nothing may be sold; resume first"),
    ],
)
def test_a_halt_is_not_loosened_and_the_answer_says_so(verb: m.OperatorVerb, detail: str) -> None:
    (answer,) = say(risk_gate(command("halt"), known=owner()), command(verb))
    assert isinstance(answer, m.OperatorAnswered)
    assert (answer.state, answer.detail) == (HALT, detail)


def test_what_is_asked_for_again_is_said_again() -> None:
    gate = risk_gate(command("halt"))
    assert only(say(gate, command("halt")), m.RiskStateChanged).state is HALT


def test_C15_to_resume_acknowledges_every_repetition() -> None:
    gate = risk_gate(known=owner(10), max_repeats=1)
    intent = ordered(say(gate, signal(11)))
    say(gate, book_fill(gate, intent, 1), event(intent, S.FILLED, 1))
    assert gate.pace.repeats("one", BTC, Side.BUY, NOW_NS) == 1
    say(gate, command("resume"))
    assert gate.pace.repeats("one", BTC, Side.BUY, NOW_NS) == 0


def test_C15_the_latch_of_a_strategy_that_goes_round_in_circles_says_why() -> None:
    gate = risk_gate(known=owner(10), max_repeats=1)
    intent = ordered(say(gate, signal(11)))
    say(gate, book_fill(gate, intent, 1), event(intent, S.FILLED, 1))
    change = only(say(gate, signal(20, at_ns=LATER_NS)), m.RiskStateChanged)
    words = "one traded 1 times BUY within 10 min, max_repeats 1"
    assert (change.ts_ns, change.cause, change.scope, change.detail) == (LATER_NS, "repeats", "strategy:one", words)


# --- flattening


def test_B14_what_is_closed_near_its_liquidation_is_said_at_the_time_of_the_tick() -> None:
    bounds = BreakerBounds(liquidation_bps=1_600, liquidation_flatten_bps=1_501)
    known = recovered(cash=50, held={"one": {BTC: 10}, "two": {ETH: 1}}, costs={BTC: 1_000 * ATOMS})
    gate = risk_gate(PERP, listed(ETH), quote(symbol=ETH), quote(), known=known, breakers=bounds)
    said = all_of(say(gate, tick(LATER_NS)), m.RiskStateChanged)
    assert {change.cause for change in said} == {"flatten", "liquidation"}
    assert {change.ts_ns for change in said} == {LATER_NS}


@pytest.mark.parametrize(("known", "lots", "touch"), [(owner(), -10, 99), (short(), 10, 101)])
def test_what_is_flattened_is_measured_against_the_touch_that_it_meets(
    known: m.Recovered, lots: int, touch: int
) -> None:
    gate = risk_gate(PERP if known.costs else listed(), known=known, breakers=BreakerBounds(slippage_bps=50))
    sold = ordered(say(gate, command("flatten")))
    assert sold.signed_lots == lots
    assert gate.breakers._slips._open[sold.client_id].decided.price_ticks == touch


def test_what_is_flattened_without_a_book_is_measured_against_nothing() -> None:
    gate = risk_gate(known=owner(), breakers=BreakerBounds(slippage_bps=50))
    entry = ordered(say(gate, signal(20, is_passive=True)))
    say(gate, book_lost(), command("flatten"), quote())
    assert ordered(say(gate, event(entry, S.CANCELED))).signed_lots == -10
    assert list(gate.breakers._slips._open) == []


def test_flattening_passes_over_dust_and_what_is_not_listed() -> None:
    held = {"one": {"X_USDT": 10, BTC: 10}, "two": {BTC: 7}}
    known = recovered(cash=1_000, held=held)
    known.holdings["one"][BTC] = ATOMS // 2
    gate = risk_gate(known=known)
    assert ordered(say(gate, command("flatten"))).signed_lots == -7


def test_flattening_leaves_a_market_order_alone() -> None:
    gate = risk_gate(known=owner())
    sale = ordered(say(gate, signal(0)))
    said = say(gate, command("flatten"), tick())
    assert all_of(said, m.CancelRequested) == []
    assert approved(said) == []
    assert list(gate.account.working) == [sale.client_id]


def test_B14_while_one_market_is_flattened_no_style_asks_for_more_of_it() -> None:
    bounds = BreakerBounds(liquidation_bps=1_600, liquidation_flatten_bps=1_501)
    known = recovered(cash=50, held={"one": {BTC: 10}}, costs={BTC: 1_000 * ATOMS})
    gate = risk_gate(PERP, quote(), known=known, breakers=bounds)
    say(gate, signal(10, strategy="two", style="twap", style_ns=60 * SECOND_NS))
    assert "flatten" in [change.cause for change in all_of(say(gate, tick(LATER_NS)), m.RiskStateChanged)]
    said = say(gate, tick(LATER_NS + SECOND_NS))
    assert [intent.strategy for intent in approved(said)] == ["one"]
    assert all_of(said, m.OrderDenied) == []


# --- styles


@pytest.mark.parametrize("wish", [{"is_passive": True}, {"limit_ticks": 100}, {}])
def test_an_amount_is_spent_at_the_market_whatever_else_is_wished_for(wish: dict[str, Any]) -> None:
    intent = ordered(say(risk_gate(), signal(9, amount_atoms=1_000 * ATOMS, **wish)))
    assert (intent.order_type, intent.price_ticks, intent.amount_atoms) == ("MARKET", None, 1_000 * ATOMS)


def test_an_order_of_one_lot_stands_while_its_wish_is_repeated() -> None:
    gate = risk_gate()
    ordered(say(gate, signal(1, is_passive=True)))
    assert say(gate, signal(1, is_passive=True)) == []


def test_only_what_is_on_its_way_is_followed_with_every_tick() -> None:
    gate = risk_gate()
    plain = ordered(say(gate, signal(10)))
    sliced = ordered(say(gate, signal(10, strategy="two", style="twap", style_ns=60 * SECOND_NS)))
    for intent in (plain, sliced):
        say(gate, event(intent, S.CANCELED))
    assert [intent.strategy for intent in approved(say(gate, tick()))] == ["two"]


# --- what is watched with every tick

WATCHFUL = BreakerBounds(book_ns=60 * SECOND_NS, blind_ns=60 * SECOND_NS)


def causes(outputs: list[m.AnyMessage]) -> list[tuple[str, str, str]]:
    return [(change.cause, change.scope, change.detail) for change in all_of(outputs, m.RiskStateChanged)]


def ticks(until_s: int, begin_s: int = 0) -> list[m.AnyMessage]:
    return [tick(NOW_NS + seconds * SECOND_NS) for seconds in range(begin_s, until_s + 1)]


@pytest.mark.parametrize("lots", [1, 10, -1, -10])
def test_B10_a_held_market_without_news_of_its_book_is_stale_after_its_bound(lots: int) -> None:
    known = owner(lots) if lots > 0 else short(-lots)
    gate = risk_gate(listed("X_USDT"), PERP if lots < 0 else listed(), known=known, breakers=WATCHFUL)
    assert causes(say(gate, *ticks(59))) == []
    assert causes(say(gate, *ticks(60, 60))) == [("stale_book", f"symbol:{BTC}", f"no book of {BTC}, for 60 s")]


def test_B10_a_market_that_is_quoted_or_not_held_is_not_stale() -> None:
    gate = risk_gate(known=owner(1), breakers=WATCHFUL)
    said: list[m.AnyMessage] = []
    for seconds in range(100):
        said += say(gate, quote(at_ns=NOW_NS + seconds * SECOND_NS), tick(NOW_NS + seconds * SECOND_NS))
    sale = ordered(say(gate, signal(0, at_ns=NOW_NS + 99 * SECOND_NS)))
    said += say(gate, book_fill(gate, sale, 1), event(sale, S.FILLED, 1), *ticks(300, 100))
    assert causes(said) == []


def test_B10_a_book_that_comes_back_in_time_begins_anew() -> None:
    gate = risk_gate(known=owner(1), breakers=WATCHFUL)
    assert causes(say(gate, book_lost(), *ticks(59), quote(at_ns=NOW_NS + 59 * SECOND_NS), *ticks(118, 60))) == []
    assert len(causes(say(gate, *ticks(119, 119)))) == 1


def test_B18_equity_that_is_unknown_for_long_stops_growth() -> None:
    held = {"one": {"UNLISTED_USDT": 1, ETH: 1}}
    gate = risk_gate(listed(ETH), known=recovered(held=held), breakers=WATCHFUL)
    detail = "equity unknown: something held has no price, for 60 s"
    assert causes(say(gate, *ticks(59))) == []
    assert ("equity_unknown", "", detail) in causes(say(gate, *ticks(60, 60)))


def test_an_unlisted_market_does_not_hide_the_next() -> None:
    held = {"one": {"UNLISTED_USDT": 1, BTC: 1}}
    gate = risk_gate(known=recovered(held=held), breakers=WATCHFUL)
    assert "stale_book" in [cause for cause, _, _ in causes(say(gate, *ticks(60)))]


def test_live_a_trouble_s_latch_waits_for_the_books_to_be_equal() -> None:
    gate = RiskGate(limits(), reconciles=("spot",))
    slow = m.HealthReported(ts_ns=NOW_NS, condition=Condition.LOAD, is_well=False, detail="slow")
    well = msgspec.structs.replace(slow, is_well=True)
    equal = m.AccountCompared(ts_ns=NOW_NS + 80 * SECOND_NS, market="spot", differences=())
    assert causes(say(gate, owner(), listed(), quote(), tick(), slow, well, *ticks(80))) == [("load", "", "slow")]
    assert causes(say(gate, equal, *ticks(81, 81))) == [("load", "", "well for 81 s")]


# --- news that says nothing new


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed to the risk gate: Depth"):
        say(risk_gate(), m.Depth(ts_ns=NOW_NS, symbol=BTC, bids=(), asks=()))


def test_what_was_never_there_can_be_lost_and_be_well() -> None:
    well = m.HealthReported(ts_ns=NOW_NS, condition=Condition.LOAD, is_well=True)
    assert say(risk_gate(), book_lost(ETH), well) == []


def test_every_wish_is_counted() -> None:
    gate = risk_gate(signal(10), signal(10), signal(10))
    assert (RiskGate(limits()).signals, gate.signals) == (0, 3)


# --- refusals to the last field


def test_a_refusal_says_whose_order_it_was_and_what_it_would_have_been() -> None:
    gate = risk_gate(PERP, known=recovered(held={"one": {BTC: 10}}), max_order_value_atoms=ATOMS, max_net_bps=1)
    assert only(say(gate, signal(-5, at_ns=LATER_NS)), m.OrderDenied) == m.OrderDenied(
        ts_ns=LATER_NS,
        strategy="one",
        symbol=BTC,
        side=Side.SELL,
        qty_lots=15,
        reason=DenyReason.MAX_ORDER_VALUE,
        detail=f"{BTC}: value 505 > max_order_value 1; also: MAX_NET",
    )


def test_what_is_refused_again_after_it_was_let_through_is_news() -> None:
    gate = risk_gate(max_open_orders=1)
    say(gate, signal(5, strategy="two"))
    assert len(all_of(say(gate, signal(10), signal(10)), m.OrderDenied)) == 1
    (other,) = [order.record.intent for order in gate.account.working.values()]
    own = ordered(say(gate, event(other, S.CANCELED), signal(10)))
    say(gate, event(own, S.CANCELED), signal(5, strategy="two"))
    assert len(all_of(say(gate, signal(10)), m.OrderDenied)) == 1


def test_a_refusal_of_another_target_is_news() -> None:
    gate = risk_gate(command("halt"))
    assert [len(all_of(say(gate, signal(lots)), m.OrderDenied)) for lots in (10, 10, 11, 10)] == [1, 0, 1, 1]


def test_each_slice_that_is_refused_is_news() -> None:
    gate = risk_gate(command("halt"))
    say(gate, signal(10, style="twap", style_ns=60 * SECOND_NS))
    said = [say(gate, tick(NOW_NS + seconds * SECOND_NS)) for seconds in (5, 6, 7)]
    assert [len(all_of(each, m.OrderDenied)) for each in said] == [0, 1, 0]


def test_the_next_rule_s_code_is_named_too() -> None:
    gate = risk_gate(listed(qty_lots_min=20, notional_atoms_min=5_000 * ATOMS))
    assert only(say(gate, signal(10)), m.OrderDenied).detail == f"{BTC}: quantity 10 < minimum 20; also: MIN_NOTIONAL"


@pytest.mark.parametrize("lots", [1, 2, 10])
@pytest.mark.parametrize("way", [1, -1])
def test_a_turn_round_that_is_refused_closes_every_lot(lots: int, way: int) -> None:
    held = -way * lots
    known = recovered(held={"one": {BTC: held}}, costs={BTC: held * 100 * ATOMS})
    gate = risk_gate(PERP, known=known, max_order_value_atoms=ATOMS)
    closing = ordered(say(gate, signal(way * 5)))
    assert (closing.signed_lots, closing.amount_atoms) == (way * lots, 0)


def test_what_is_on_its_way_is_part_of_what_an_exit_closes() -> None:
    gate = risk_gate(known=owner(20))
    first = ordered(say(gate, signal(15)))
    assert first.signed_lots == -5
    second = ordered(say(gate, signal(5)))
    assert (second.signed_lots, second.reserved_atoms) == (-10, 0)
    perp = risk_gate(PERP, known=short(20))
    assert [ordered(say(perp, signal(target))).signed_lots for target in (-15, -5)] == [5, 10]
    assert sum(order.record.intent.reserved_atoms for order in perp.account.working.values()) == 0


@pytest.mark.parametrize(("price", "collar_bps", "worst"), [(10_001, 200, 10_202), (10_000, 1, 10_001), (99, 0, 99)])
def test_a_market_order_s_worst_price_lies_at_the_far_end_of_the_collar_rounded_up(
    price: int, collar_bps: int, worst: int
) -> None:
    gate = RiskGate(limits(collar_bps=collar_bps))
    say(gate, recovered(cash=10**9), listed(), quote(price, price))
    assert ordered(say(gate, signal(1))).reserved_atoms == worst * ATOMS


def test_a_perpetual_with_fees_in_quote_reserves_its_notional_alone() -> None:
    gate = risk_gate(listed(is_perp=True, quote_fee_ppm=10_000))
    assert ordered(say(gate, signal(10))).reserved_atoms == 1_040 * ATOMS


def test_one_strategy_s_latch_cancels_its_orders_wherever_they_stand_in_the_queue() -> None:
    gate = risk_gate()
    orders = [ordered(say(gate, signal(5, strategy=name))) for name in ("one", "two")]
    trouble = m.HealthReported(
        ts_ns=LATER_NS, condition=Condition.INTEGRITY, is_well=False, severity=HALT, scope="strategy:two"
    )
    assert [each.client_id for each in all_of(say(gate, trouble), m.CancelRequested)] == [orders[1].client_id]


# --- counts


def test_C19_an_order_that_fills_in_parts_is_one_trade() -> None:
    gate = risk_gate(max_trades=5)
    intent = ordered(say(gate, signal(10)))
    say(gate, book_fill(gate, intent, 4), book_fill(gate, intent, 6), event(intent, S.FILLED, 10))
    assert gate.pace.trades_today == 1
    other = ordered(say(gate, signal(20)))
    say(gate, book_fill(gate, other, 10))
    assert gate.pace.trades_today == 2


@pytest.mark.parametrize(
    ("sent_ns", "wait_ns"),
    [
        ((), 0),
        ((NOW_NS - 2, NOW_NS - 1), 0),
        ((NOW_NS - 3, NOW_NS - 2, NOW_NS - 1), MINUTE_NS - 3),
        (None, MINUTE_NS),
    ],
)
def test_R5_a_session_goes_on_with_the_minute_of_the_last_one(sent_ns: tuple[int, ...] | None, wait_ns: int) -> None:
    def tried(at_ns: int) -> list[OrderIntent]:
        gate = RiskGate(limits(orders_per_minute=3), reconciles=("spot",), sent_ns=sent_ns)
        equal = m.AccountCompared(ts_ns=NOW_NS, market="spot", differences=())
        say(gate, owner(epoch=2), listed(), equal, quote(at_ns=at_ns))
        return approved(say(gate, signal(20, at_ns=at_ns)))

    assert len(tried(NOW_NS + wait_ns)) == 1
    assert not wait_ns or tried(NOW_NS + wait_ns - 1) == []


# --- margin


@pytest.mark.parametrize(("leverage", "buffer_bps", "needs"), [(1, 0, 1_040), (3, 0, 347), (3, 1_000, 382)])
def test_C12_margin_is_rounded_up_and_exactly_enough_is_enough(leverage: int, buffer_bps: int, needs: int) -> None:
    bounds = {"leverage": leverage, "margin_buffer_bps": buffer_bps, "max_position_bps": 10**6, "max_gross_bps": 10**6}
    terms = listed(is_perp=True, price_scale=16, notional_atoms_min=1)  # a tick of a coin is one atom
    for atoms in (needs - 1, needs):
        known = msgspec.structs.replace(recovered(), cash_atoms=atoms, futures_cash_atoms=atoms)
        said = say(risk_gate(terms, known=known, **bounds), signal(10))
        assert len(approved(said)) == (atoms == needs)
        assert atoms == needs or "> futures wallet 0" in only(said, m.OrderDenied).detail


@pytest.mark.parametrize(("leverage", "buffer_bps", "needs"), [(3, 0, 10**20 + 1), (1, 10_000, 2 * (3 * 10**20 + 3))])
def test_C12_margin_is_exact_to_the_atom(leverage: int, buffer_bps: int, needs: int) -> None:
    terms, price = listed(is_perp=True, price_scale=16, notional_atoms_min=1), 3 * 10**20 + 3
    for atoms in (needs - 1, needs):
        known = msgspec.structs.replace(recovered(), cash_atoms=atoms)
        bounds = {"max_position_bps": 10**6, "max_gross_bps": 10**6, "margin_buffer_bps": buffer_bps}
        gate = RiskGate(limits(leverage=leverage, **bounds))
        say(gate, known, terms, quote(price, price + 1))
        assert len(approved(say(gate, signal(1, limit_ticks=price)))) == (atoms == needs)


def test_C12_a_refusal_of_margin_names_the_wallet() -> None:
    known = recovered(cash=5_000, futures_cash_atoms=100 * ATOMS)
    denial = only(say(risk_gate(PERP, known=known), signal(10)), m.OrderDenied)
    assert denial.detail == f"{BTC}: margin of all 1040 > futures wallet 100"


# --- all that is said has the time of what was heard


def test_everything_that_the_gate_says_has_the_time_of_the_message_that_it_answers() -> None:
    gate = risk_gate(known=owner(), breakers=msgspec.structs.replace(WATCHFUL, losing_closes=1, slippage_bps=1))
    unwell = [m.HealthReported(ts_ns=0, condition=condition, is_well=False, severity=REDUCE) for condition in Condition]
    verbs: tuple[m.OperatorVerb, ...] = ("reduce", "resume", "flatten", "resume", "halt", "resume")
    script: list[m.AnyMessage] = [
        guarded(),
        guarded(20),
        guarded(4),
        signal(10, strategy="two", is_passive=True),
        signal(10**6, strategy="three"),
        tick(),
        m.ExternalFlow(ts_ns=0, wallet="spot", currency="USDT", atoms=ATOMS, reason=""),
        quote(40, 42),
        *map(command, verbs),
        *unwell,
        *(msgspec.structs.replace(report, is_well=True) for report in unwell),
        *(tick() for _ in range(300)),
        command("close"),
    ]
    kinds: set[type] = set()
    for number, message in enumerate(script):
        for said in say(gate, msgspec.structs.replace(message, ts_ns=NOW_NS + number * SECOND_NS)):
            assert said.ts_ns == NOW_NS + number * SECOND_NS
            kinds.add(type(said))
    assert kinds == {
        m.OrderApproved,
        m.OrderDenied,
        m.CancelRequested,
        m.RiskStateChanged,
        m.EquityMarked,
        m.OperatorAnswered,
    }


def test_a_spot_market_that_is_sold_by_a_guard_already_is_not_bought_for_a_wish_below_nothing() -> None:
    gate = risk_gate(known=owner())
    stop = approved(say(gate, guarded()))[0]
    say(gate, book_fill(gate, stop, 10, 90), event(stop, S.FILLED, 10))
    assert approved(say(gate, signal(-1, number=1))) == []
