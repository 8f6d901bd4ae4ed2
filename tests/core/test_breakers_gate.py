"""The breakers in the gate, with a journal that is written and read back: what trips stays so, and stops orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import Fifo, Stage
from bot.core.instrument import ATOMS
from bot.core.latches import latch_name
from bot.core.messages import SECOND_NS, Condition, DenyReason, RiskState
from bot.core.orders import OrderState
from bot.core.risk import RiskGate
from bot.core.risk.rate import DAY_NS
from bot.storage.base import GENESIS, Record, sealed
from bot.storage.replay import encode_fact, replay
from tests.core.test_breakers import STRICT
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    book_lost,
    command,
    event,
    fill,
    limits,
    liquidated,
    listed,
    only,
    quote,
    recovered,
    risk_gate,
    say,
    session,
    signal,
    tick,
)

NORMAL, REDUCE, HALT = RiskState.NORMAL, RiskState.REDUCE_ONLY, RiskState.HALTED


def unwell(
    condition: Condition, severity: RiskState = REDUCE, scope: str = "", *, is_well: bool = False, at_ns: int = NOW_NS
) -> m.HealthReported:
    return m.HealthReported(
        ts_ns=at_ns, condition=condition, is_well=is_well, severity=severity, scope=scope, detail="broken"
    )


class Bot:
    """A gate and its books. What it writes is a journal, and the next bot begins with what that says."""

    def __init__(self, journal: list[Record] | None = None, *, is_perp: bool = False, **bounds: Any) -> None:
        self.journal = journal or []
        self.is_perp = is_perp
        self.bounds = bounds
        self.keeper = Bookkeeper(replay(self.journal))
        self.gate = RiskGate(limits(**{"breakers": STRICT, **bounds}))
        self.fifo = Fifo({Stage.RISK_GATE: self.gate, Stage.PERSISTENCE: self.keeper})
        self.facts: list[m.Journalled] = []
        last_ns = self.journal[-1].ts_ns if self.journal else NOW_NS
        self.now_ns = last_ns
        self.post(Stage.CONTROL, session(epoch=self.keeper.ledger.epoch + 1, at_ns=last_ns))
        self.post(Stage.FEED, listed(is_perp=is_perp))

    def post(self, speaker: Stage, *messages: m.AnyMessage) -> list[m.Journalled]:
        """Say something and let all come of it that does; return what was written."""
        for message in messages:
            self.fifo.post(speaker, message)
        self.fifo.run()
        new = self.keeper.take_pending()
        head = (self.journal[-1].seq, self.journal[-1].digest) if self.journal else (0, GENESIS)
        self.journal += sealed(head, [(fact.ts_ns, encode_fact(fact)) for fact in new])
        self.facts += new
        return new

    def price(self, mid: int, seconds: float = 0) -> list[m.Journalled]:
        self.now_ns += int(seconds * SECOND_NS)
        return self.post(Stage.FEED, quote(mid - 1, mid + 1, at_ns=self.now_ns))

    def wait(self, seconds: int) -> list[m.Journalled]:
        """Let time pass, a tick each second."""
        written: list[m.Journalled] = []
        for _ in range(seconds):
            self.now_ns += SECOND_NS
            written += self.post(Stage.FEED, tick(self.now_ns))
        return written

    def report(self, report: m.HealthReported) -> list[m.Journalled]:
        return self.post(Stage.EXECUTOR, msgspec.structs.replace(report, ts_ns=self.now_ns))

    def order(self, verb: m.OperatorVerb, **more: Any) -> m.OperatorAnswered:
        written = self.post(Stage.CONTROL, msgspec.structs.replace(command(verb, at_ns=self.now_ns), **more))
        return only(written, m.OperatorAnswered)

    def trade(self, target: int, price: int, strategy: str = "one") -> list[m.Journalled]:
        """Let a strategy go to a position, and have its order filled at a price."""
        wish = signal(target, strategy=strategy, at_ns=self.now_ns, price=price)
        (approved,) = all_of(self.post(Stage.STRATEGY, wish), m.OrderApproved)
        intent = approved.intent
        return self.post(
            Stage.EXECUTOR,
            fill(intent, intent.qty_lots, price, trade_id=f"t{len(self.facts)}", at_ns=self.now_ns),
            event(intent, OrderState.FILLED, intent.qty_lots, at_ns=self.now_ns),
        )

    def restarted(self) -> Bot:
        return Bot(self.journal, is_perp=self.is_perp, **self.bounds)

    @property
    def latches(self) -> list[tuple[RiskState, str]]:
        return [(latch.state, latch_name(latch)) for latch in self.gate.breakers.latches]


def fall(bot: Bot, price: int, *, slowly: bool = False) -> None:
    """Let all that is owned, 50 lots bought at 100 beside 5,000 in cash, be priced anew."""
    bot.price(100)
    bot.trade(50, 100)
    if slowly:
        bot.wait(301)
    bot.price(price)


def lose_streak(bot: Bot) -> None:
    bot.price(100)
    for _ in range(3):
        bot.trade(10, 100)
        bot.trade(0, 99)


def slip_always(bot: Bot) -> None:
    bot.price(1_000)
    for turn in range(10):
        wish = signal(0 if turn % 2 else 5, at_ns=bot.now_ns, price=1_000)
        (approved,) = all_of(bot.post(Stage.STRATEGY, wish), m.OrderApproved)
        intent = approved.intent
        price = 1_000 + intent.side.sign * 10
        bot.post(
            Stage.EXECUTOR,
            fill(intent, 5, price, trade_id=f"s{turn}", at_ns=bot.now_ns),
            event(intent, OrderState.FILLED, 5, at_ns=bot.now_ns),
        )


def last(condition: Condition, seconds: int, severity: RiskState = REDUCE, scope: str = "") -> Callable[[Bot], None]:
    """Return how something is not well, for some seconds."""

    def happen(bot: Bot) -> None:
        bot.report(unwell(condition, severity, scope))
        bot.wait(seconds)

    return happen


def lose_book(bot: Bot) -> None:
    bot.price(100)
    bot.trade(10, 100)
    bot.wait(1)
    bot.post(Stage.FEED, book_lost(at_ns=bot.now_ns))
    bot.wait(60)


def be_refused(bot: Bot) -> None:
    for _ in range(3):
        bot.report(unwell(Condition.RATE_LIMIT))


BIG = {"daily_loss_bps": 9_000, "daily_loss_halt_bps": 9_500, "drawdown_bps": 9_000, "drawdown_halt_bps": 9_500}
CALM = msgspec.structs.replace(STRICT, velocity_bps=0)
NO_STREAK = msgspec.structs.replace(STRICT, losing_closes=0, velocity_bps=0)
SYMBOL = f"symbol:{BTC}"

TRIPS: list[tuple[str, Callable[[Bot], None], dict[str, Any], list[tuple[RiskState, str]]]] = [
    ("B1", lambda bot: fall(bot, 93), {"breakers": CALM}, [(REDUCE, "daily_loss")]),
    ("B1h", lambda bot: fall(bot, 90), {"breakers": CALM}, [(HALT, "daily_loss")]),
    ("B2", lambda bot: fall(bot, 84), {**BIG, "drawdown_bps": 800, "breakers": CALM}, [(REDUCE, "drawdown")]),
    (
        "B2h",
        lambda bot: fall(bot, 76),
        {**BIG, "drawdown_bps": 800, "drawdown_halt_bps": 1_200, "breakers": CALM},
        [(HALT, "drawdown")],
    ),
    ("B3", lambda bot: fall(bot, 96), {}, [(HALT, "loss_velocity")]),
    ("B4", lose_streak, {}, [(REDUCE, "losing_streak@strategy:one")]),
    ("B5", last(Condition.RECONCILIATION, 30), {}, [(REDUCE, "reconciliation")]),
    ("B5h", last(Condition.RECONCILIATION, 120), {}, [(HALT, "reconciliation")]),
    ("B6", last(Condition.UNKNOWN_ORDER, 30, scope=SYMBOL), {}, [(REDUCE, f"unknown_order@{SYMBOL}")]),
    (
        "B6h",
        last(Condition.UNKNOWN_ORDER, 120, scope=SYMBOL),
        {},
        [(REDUCE, f"unknown_order@{SYMBOL}"), (HALT, "unknown_order")],
    ),
    ("B7", last(Condition.CANCELS, 60), {}, [(REDUCE, "cancels")]),
    ("B8", last(Condition.AUTHORITY, 0), {}, [(HALT, "authority")]),
    ("B9", be_refused, {}, [(REDUCE, "rate_limit")]),
    ("B9h", last(Condition.RATE_LIMIT, 0, HALT), {}, [(HALT, "rate_limit")]),
    ("B10", last(Condition.PRIVATE_STREAM, 10), {}, [(REDUCE, "private_stream")]),
    ("B10b", lose_book, {}, [(REDUCE, f"stale_book@{SYMBOL}")]),
    ("B11", last(Condition.JOURNAL, 0, HALT), {}, [(HALT, "journal")]),
    ("B12", last(Condition.LOAD, 0), {}, [(REDUCE, "load")]),
    ("B13", last(Condition.CLOCK, 0), {}, [(REDUCE, "clock")]),
    ("B13h", last(Condition.CLOCK, 0, HALT), {}, [(HALT, "clock")]),
    ("B15", last(Condition.FOREIGN_ORDER, 0, scope=SYMBOL), {}, [(REDUCE, f"foreign_order@{SYMBOL}")]),
    ("B16", last(Condition.INTEGRITY, 0, HALT), {}, [(HALT, "integrity")]),
    ("B17", slip_always, {**BIG, "breakers": NO_STREAK}, [(REDUCE, "slippage@strategy:one")]),
    ("B19", last(Condition.KILL, 0, HALT), {}, [(HALT, "kill")]),
    ("B19o", lambda bot: (bot.order("halt"), None)[1], {}, [(HALT, "operator")]),
]


@pytest.mark.parametrize(("trip", "bounds", "latches"), [row[1:] for row in TRIPS], ids=[row[0] for row in TRIPS])
def test_R2_F100_every_breaker_survives_a_restart_and_a_new_day(
    trip: Callable[[Bot], None], bounds: dict[str, Any], latches: list[tuple[RiskState, str]]
) -> None:
    bot = Bot(**bounds)
    trip(bot)
    assert bot.latches == latches
    again = bot.restarted()
    assert again.latches == latches
    assert again.keeper.ledger.risk_state is again.gate.state is bot.gate.state
    again.now_ns = (NOW_NS // DAY_NS + 2) * DAY_NS
    again.price(100)
    assert again.restarted().latches[: len(latches)] == latches


def test_F100_baselines_survive_a_restart_between_two_marks() -> None:
    bot = Bot(breakers=CALM)
    fall(bot, 97)
    again = bot.restarted()
    again.price(94)
    assert again.latches == [(REDUCE, "daily_loss")]  # 3 % of 10,000, not of what there was at the restart


def test_F74_money_that_came_just_before_a_crash_is_no_gain_after_it() -> None:
    """The books know of it and are written; the gate's shifted baselines are not."""
    bot = Bot(breakers=CALM)
    fall(bot, 100)
    flow = m.ExternalFlow(ts_ns=bot.now_ns, wallet="spot", currency="USDT", atoms=-2_000 * ATOMS, reason="withdrawal")
    head = bot.journal[-1]
    bot.journal += sealed((head.seq, head.digest), [(flow.ts_ns, encode_fact(flow))])
    again = bot.restarted()
    assert [type(fact) for fact in again.price(100)] == []
    assert again.latches == []
    again.price(95)  # 250 of 8,000 are more than 3 %
    assert again.latches == [(REDUCE, "daily_loss")]


def test_F74_a_flow_shifts_baselines_and_equity_in_one_turn() -> None:
    gate = risk_gate(known=recovered(cash=10_000, held={"one": {BTC: 10}}), breakers=STRICT)
    said = say(
        gate,
        m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="USDT", atoms=-5_000 * ATOMS, reason="withdrawal"),
        quote(),
        m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="BTC", atoms=5 * ATOMS, reason="gift"),
        quote(),
    )
    assert all_of(said, m.RiskStateChanged) == []
    marked = only(said, m.EquityMarked)
    assert (marked.peak_atoms, marked.day_start_atoms, gate.account.equity_atoms) == (6_000 * ATOMS,) * 3


# --- orders


def test_a_trip_is_said_before_its_cancels() -> None:
    gate = risk_gate(breakers=STRICT)
    approved = only(say(gate, signal(10, is_passive=True)), m.OrderApproved)
    said = say(gate, unwell(Condition.KILL))
    assert [type(each) for each in said] == [m.RiskStateChanged, m.CancelRequested]
    assert only(said, m.CancelRequested).client_id == approved.intent.client_id


@pytest.mark.parametrize("scope", [SYMBOL, "strategy:one", "group:majors"])
@pytest.mark.parametrize("state", [REDUCE, HALT])
def test_F99_a_latch_stops_what_is_in_its_scope_and_nothing_else(scope: str, state: RiskState) -> None:
    gate = risk_gate(
        listed(ETH), quote(symbol=ETH), known=recovered(), breakers=STRICT, groups={BTC: "majors"}, max_group_bps=10_000
    )
    mine, others = signal(5, is_passive=True), signal(5, strategy="two", symbol=ETH, is_passive=True)
    first = only(say(gate, mine), m.OrderApproved).intent
    second = only(say(gate, others), m.OrderApproved).intent
    said = say(gate, unwell(Condition.FOREIGN_ORDER, state, scope))
    assert [cancel.client_id for cancel in all_of(said, m.CancelRequested)] == [first.client_id]
    reason = DenyReason.HALTED if state is HALT else DenyReason.REDUCE_ONLY
    assert only(say(gate, event(first, OrderState.CANCELED), mine), m.OrderDenied).reason is reason
    say(gate, event(second, OrderState.CANCELED))
    assert len(all_of(say(gate, others), m.OrderApproved)) == 1
    assert gate.state is NORMAL


def test_F107_while_only_reductions_are_let_through_what_is_held_can_be_sold() -> None:
    gate = risk_gate(known=recovered(held={"one": {BTC: 10}}), breakers=STRICT)
    say(gate, unwell(Condition.CANCELS))
    for second in range(61):
        say(gate, tick(NOW_NS + second * SECOND_NS))
    assert gate.state is REDUCE
    fresh = quote(at_ns=NOW_NS + 60 * SECOND_NS)
    wishes = (signal(target, at_ns=NOW_NS + 60 * SECOND_NS) for target in (20, 0))
    more, less = (say(gate, fresh, wish) for wish in wishes)
    assert only(more, m.OrderDenied).reason is DenyReason.REDUCE_ONLY
    assert only(less, m.OrderApproved).intent.signed_lots == -10


def test_what_a_halt_forbids_is_cancelled_after_a_crash_between_the_two() -> None:
    bot = Bot()
    bot.price(100)
    bot.post(Stage.STRATEGY, signal(10, is_passive=True))
    change = m.RiskStateChanged(ts_ns=bot.now_ns, state=HALT, cause="kill", detail="", scope=SYMBOL)
    head = bot.journal[-1]
    bot.journal += sealed((head.seq, head.digest), [(change.ts_ns, encode_fact(change))])
    again = Bot(bot.journal)
    assert len(all_of(again.facts, m.CancelRequested)) == 1


def wish(target: int, strategy: str, is_passive: bool) -> m.Signal:
    return signal(target, strategy=strategy, is_passive=is_passive)


def book_at(mid: int) -> m.Quote:
    return quote(mid - 1, mid + 1)


def tick_after(seconds: int) -> m.Tick:
    return tick(NOW_NS + seconds * SECOND_NS)


STEPS = st.lists(
    st.one_of(
        st.builds(wish, st.integers(-30, 30), st.sampled_from(["one", "two"]), st.booleans()),
        st.builds(book_at, st.integers(90, 110)),
        st.builds(tick_after, st.integers(0, 4)),
        st.just("end"),
    ),
    max_size=30,
)


@given(before=STEPS, after=STEPS, is_perp=st.booleans(), by_hand=st.booleans())
@settings(max_examples=100, deadline=None)
def test_R3_after_a_halt_nothing_is_let_through_and_nothing_that_was_is_sent(
    before: list[Any], after: list[Any], is_perp: bool, by_hand: bool
) -> None:
    approvals = Approvals(ttl_ns=5 * SECOND_NS)
    gate = RiskGate(limits(breakers=STRICT, **BIG), approvals)
    say(gate, recovered(cash=100_000), listed(is_perp=is_perp), quote())
    issued: list[m.OrderApproved] = []

    def play(steps: list[Any]) -> list[m.AnyMessage]:
        said: list[m.AnyMessage] = []
        for step in steps:
            if not isinstance(step, str):
                said += say(gate, step)
            elif issued:
                intent = issued[len(said) % len(issued)].intent
                if step == "end":
                    said += say(gate, event(intent, OrderState.CANCELED))
        return said

    issued += all_of(play(before), m.OrderApproved)
    halted = say(gate, command("halt") if by_hand else unwell(Condition.KILL, HALT))
    assert only(halted, m.RiskStateChanged).state is HALT
    assert all_of(halted + play(after), m.OrderApproved) == []
    assert all(approvals.take(approved.intent, NOW_NS) for approved in issued)
    assert all(order.record.is_cancel_requested for order in gate.account.working.values())


# --- perpetuals


@pytest.mark.parametrize(
    ("lots", "cash", "maintenance_bps", "distance_bps"),
    [
        (10, 1_000, 0, 10_000),
        (10, 500, 0, 5_000),
        (10, 150, 0, 1_500),
        (-10, 150, 0, 1_500),
        (10, 150, 100, 1_414),  # at 85.86: 10 x 85.86 x 1 % = 8.59, and 150 - 141.4 = 8.6
        (-10, 150, 100, 1_386),  # at 113.86: 11.39, and 150 - 138.6 = 11.4
        (10, 5, 100, 0),
    ],
)
def test_the_distance_to_the_liquidation(lots: int, cash: int, maintenance_bps: int, distance_bps: int) -> None:
    known = recovered(cash=cash, held={"one": {BTC: lots}}, costs={BTC: lots * 100 * ATOMS})
    gate = risk_gate(listed(is_perp=True), known=known)
    say(gate, quote())
    assert gate.account.liquidation_bps(BTC, maintenance_bps) == distance_bps


def near_its_end(**bounds: Any) -> RiskGate:
    """Return a gate that holds a perpetual at seven times its equity, and coins."""
    held = {"one": {BTC: 10}, "two": {ETH: 1}}
    known = recovered(cash=50, held=held, costs={BTC: 1_000 * ATOMS})
    gate = risk_gate(listed(is_perp=True), listed(ETH), quote(symbol=ETH), known=known, leverage=10, **bounds)
    say(gate, quote())
    return gate


def test_B14_near_its_liquidation_a_perpetual_may_not_grow() -> None:
    gate = near_its_end(breakers=msgspec.structs.replace(STRICT, liquidation_bps=1_600, liquidation_flatten_bps=0))
    said = say(gate, tick())
    assert [(change.state, latch_name(change)) for change in all_of(said, m.RiskStateChanged)] == [
        (REDUCE, f"liquidation@{SYMBOL}")
    ]
    assert all_of(said, m.OrderApproved) == []
    assert gate.state is NORMAL


def test_B14_nearer_still_it_alone_is_closed_if_that_is_asked_for() -> None:
    gate = near_its_end(breakers=msgspec.structs.replace(STRICT, liquidation_flatten_bps=1_501, liquidation_bps=1_600))
    said = say(gate, tick(), tick())
    sold = only(said, m.OrderApproved).intent
    assert (sold.symbol, sold.signed_lots) == (BTC, -10)
    assert say(gate, signal(20)) == []  # its strategy is not heard meanwhile
    assert gate.state is NORMAL


def test_B4_a_liquidation_reaches_the_streak_of_each_strategy() -> None:
    known = recovered(
        cash=1_000,
        held={"one": {BTC: 10}, "two": {BTC: 5}},
        entries={"one": {BTC: 100}, "two": {BTC: 100}},
        costs={BTC: 1_500 * ATOMS},
    )
    breakers = msgspec.structs.replace(STRICT, losing_closes=1, velocity_bps=0)
    gate = risk_gate(listed(is_perp=True), known=known, breakers=breakers, **BIG)
    said = all_of(say(gate, liquidated(-15, 50)), m.RiskStateChanged)
    assert [latch_name(change) for change in said] == ["losing_streak@strategy:one", "losing_streak@strategy:two"]


# --- the operator


def test_F101_rearm_answers_with_what_it_did_and_journals_who_and_on_what() -> None:
    bot = Bot(breakers=CALM)
    fall(bot, 93)
    answer = bot.order("rearm", subject="daily_loss", who="ada")
    assert "wants evidence" in answer.detail
    assert "daily_loss stays closed" in bot.order("resume", who="ada").detail
    answer = bot.order("rearm", subject="daily_loss", who="ada", equity_atoms=9_650 * ATOMS)
    assert (answer.detail, answer.state) == ("", NORMAL)
    opened = [change for change in all_of(bot.facts, m.RiskStateChanged) if change.state is NORMAL]
    assert [(change.who, change.detail) for change in opened] == [("ada", "re-armed at equity 9,650.00")]
    again = bot.restarted()
    assert (again.latches, again.gate.state) == ([], NORMAL)
    again.price(93)
    assert again.latches == []  # forgiven, up to the harder bound
    again.price(90)
    assert again.latches == [(HALT, "daily_loss")]


def test_a_resume_after_halt_opens_the_halt_alone_where_a_loss_stands() -> None:
    bot = Bot(breakers=CALM)
    fall(bot, 93)
    bot.order("halt")
    answer = bot.order("resume", who="ada")
    assert (answer.state, bot.latches) == (REDUCE, [(REDUCE, "daily_loss")])
    assert bot.restarted().latches == [(REDUCE, "daily_loss")]


def test_what_is_a_matter_of_the_books_is_answered_once() -> None:
    bot = Bot()
    assert "no living order" in bot.order("abandon", subject="x").detail
    assert "not compared" in bot.order("adopt").detail


# --- what was allowed before


def test_orders_that_make_larger_what_may_not_be_larger_any_more_are_cancelled_at_the_start() -> None:
    bot = Bot()
    bot.price(100)
    bot.trade(10, 100)
    (larger,) = all_of(bot.post(Stage.STRATEGY, signal(15, is_passive=True)), m.OrderApproved)
    smaller = signal(0, strategy="one", is_passive=True, at_ns=bot.now_ns)
    for allowed, cancelled in (((BTC,), []), ((ETH,), [larger.intent.client_id]), ((), [])):
        bot = Bot(bot.journal, allowed=allowed)
        assert [cancel.client_id for cancel in all_of(bot.facts, m.CancelRequested)] == cancelled
    bot.post(Stage.EXECUTOR, event(larger.intent, OrderState.CANCELED, at_ns=bot.now_ns))
    bot.price(100)
    assert all_of(bot.post(Stage.STRATEGY, smaller), m.OrderApproved)
    assert all_of(Bot(bot.journal, allowed=()).facts, m.CancelRequested) == []
