"""The desk of live orders, edge by edge, and against an exchange that loses and reorders everything."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import Side
from bot.core.orders import OrderIntent, OrderRecord, OrderState
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve
from bot.exchange.live.desk import CANCEL_ALL_AFTER_NS, CANCEL_FAILS_AFTER_NS, LiveDesk
from bot.exchange.poloniex.outcome import Accepted, Doubt, Market, Outcome, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.private_state import Filled, Fresh, OrderChanged, Stale
from tests.support.builders import BTC, MS_NS, NOW_NS, all_of, buy, listed, only, recovered, sell

S = OrderState
PERP = "BTC_USDT_PERP"
FENCE_MS = NOW_NS // MS_NS + 6_500


def desk(*orders: OrderRecord) -> LiveDesk:
    made = LiveDesk(Approvals(60 * m.SECOND_NS))
    for message in (listed(), listed(PERP, is_perp=True), recovered(orders=orders)):
        list(made.handle(message))
    return made


def submit(made: LiveDesk, intent: OrderIntent, at_ns: int = NOW_NS) -> list[m.AnyMessage]:
    made._approvals.issue(intent, at_ns)
    return list(made.handle(m.SubmitOrder(ts_ns=at_ns, intent=intent)))


def changed(
    intent: OrderIntent, state: OrderState, filled: int = 0, order_id: str = "e1", market: Market = Market.SPOT
) -> OrderChanged:
    return OrderChanged(
        market=market,
        symbol=intent.symbol,
        order_id=order_id,
        client_id=intent.client_id,
        side=intent.side,
        order_type=intent.order_type,
        state=state,
        price=None,
        quantity=Decimal(intent.qty_lots),
        filled_quantity=Decimal(filled),
        filled_amount=Decimal(0),
        created_ms=0,
        changed_ms=0,
    )


def filled(intent: OrderIntent, lots: int, trade_id: str = "t1", fee_currency: str = "BTC") -> Filled:
    return Filled(
        market=Market.SPOT,
        symbol=intent.symbol,
        order_id="e1",
        client_id=intent.client_id,
        trade_id=trade_id,
        side=intent.side,
        price=Decimal(100),
        quantity=Decimal(lots),
        fee=Decimal("0.001"),
        fee_currency=fee_currency,
        is_maker=False,
        traded_ms=0,
    )


def lost(intent: OrderIntent, doubt: Doubt = Doubt.NO_ANSWER) -> Unknown:
    return Unknown(reason="no answer", doubt=doubt, client_id=intent.client_id, fence_ms=FENCE_MS)


def states(said: Iterable[m.AnyMessage]) -> list[OrderState]:
    return [event.state for event in all_of(said, m.OrderEvent)]


def kinds(made: LiveDesk) -> list[type]:
    return [type(call) for call in made.take_calls()]


def placed(made: LiveDesk, intent: OrderIntent, outcome: Outcome[str], at_ns: int = NOW_NS) -> list[m.AnyMessage]:
    return list(made.placed(intent.client_id, outcome, at_ns))


def living(intent: OrderIntent | None = None) -> tuple[LiveDesk, OrderIntent]:
    """Return a desk with one order that the exchange has accepted."""
    made, order = desk(), intent or buy(10, 90)
    submit(made, order)
    made.take_calls()
    placed(made, order, Accepted(value="e1"))
    return made, order


# --- sending


def test_an_order_is_asked_for_once_and_said_when_it_is_accepted() -> None:
    made, order = desk(), buy(10, 90)
    assert submit(made, order) == []
    assert made.take_calls() == [Place(order, is_protective=False)]
    assert states(placed(made, order, Accepted(value="e1"))) == [S.NEW]
    assert made.take_calls() == []


def test_F29_an_order_without_an_approval_is_not_asked_for() -> None:
    made, order = desk(), buy(10, 90)
    said = list(made.handle(m.SubmitOrder(ts_ns=NOW_NS, intent=order)))
    assert (states(said), kinds(made)) == ([S.REJECTED], [])


@pytest.mark.parametrize(
    ("kind", "condition", "severity"),
    [
        (RefusalKind.ORDER, None, None),
        (RefusalKind.NOT_SENT, None, None),
        (RefusalKind.AUTH, m.Condition.AUTHORITY, m.RiskState.HALTED),
        (RefusalKind.ACCOUNT, m.Condition.AUTHORITY, m.RiskState.HALTED),
        (RefusalKind.MODE, m.Condition.ACCOUNT_MODE, m.RiskState.REDUCE_ONLY),
    ],
)
def test_F108_a_refusal_ends_the_order_and_says_whom_it_concerns(
    kind: RefusalKind, condition: m.Condition | None, severity: m.RiskState | None
) -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    said = placed(made, order, Refused(code=21_000, text="no", kind=kind))
    assert states(said) == [S.REJECTED]
    assert [(each.condition, each.severity) for each in all_of(said, m.HealthReported)] == (
        [(condition, severity)] if condition is not None else []
    )


def test_three_throttled_orders_in_a_minute_are_reported_and_time_heals_them() -> None:
    made = desk()
    for number in range(1, 4):
        order = buy(10, 90, number=number)
        submit(made, order)
        said = placed(made, order, Refused(code=429, text="slow", kind=RefusalKind.THROTTLED))
        assert len(all_of(said, m.HealthReported)) == (number == 3)
    later = list(made.handle(m.Tick(ts_ns=NOW_NS + 61 * m.SECOND_NS)))
    assert only(later, m.HealthReported).is_well


# --- doubt


@pytest.mark.parametrize("doubt", [Doubt.NO_ANSWER, Doubt.AMBIGUOUS, Doubt.EXISTS])
def test_F02_F04_F06_an_answer_that_says_nothing_leaves_the_order_unknown_and_searched_for(doubt: Doubt) -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    made.take_calls()
    said = placed(made, order, lost(order, doubt))
    assert states(said) == [S.UNKNOWN]
    assert only(said, m.HealthReported).scope == f"symbol:{BTC}"
    assert made.take_calls() == [Resolve(BTC, lost(order, doubt), is_protective=False)]
    assert not made.is_quiet("spot")


def test_F05_nothing_is_ever_sent_twice() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    made.take_calls()
    placed(made, order, lost(order))
    for second in range(200):
        list(made.handle(m.Tick(ts_ns=NOW_NS + second * m.SECOND_NS)))
        assert Place not in kinds(made)


def test_F02_an_unknown_order_that_is_found_is_adopted() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    placed(made, order, lost(order))
    said = list(made.resolved(order.client_id, Accepted(value=changed(order, S.NEW)), NOW_NS))
    assert (states(said), only(said, m.HealthReported).is_well) == ([S.NEW], True)


def test_F01_F03_only_proof_ends_an_unknown_order_as_never_accepted() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    placed(made, order, lost(order))
    never = Refused(code=0, text="never accepted", kind=RefusalKind.NEVER_ACCEPTED)
    assert states(made.resolved(order.client_id, never, NOW_NS)) == [S.NEVER_ACCEPTED]


def test_F08_news_of_a_lost_order_on_the_stream_settles_the_doubt_and_the_search_changes_nothing() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    placed(made, order, lost(order))
    assert states(made.hear(changed(order, S.NEW), NOW_NS)) == [S.NEW]
    never = Refused(code=0, text="never accepted", kind=RefusalKind.NEVER_ACCEPTED)
    assert states(made.resolved(order.client_id, never, NOW_NS)) == []


def test_F08_the_answer_after_the_stream_is_no_news() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    assert states(made.hear(changed(order, S.NEW), NOW_NS)) == [S.NEW]
    assert placed(made, order, Accepted(value="e1")) == []


def test_F09_a_fill_before_the_answer_is_said_and_the_order_lives_on() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    assert len(all_of(made.hear(filled(order, 4), NOW_NS), m.Fill)) == 1
    assert states(placed(made, order, Accepted(value="e1"))) == [S.NEW]


@pytest.mark.parametrize("late", [Accepted(value="e1"), Refused(code=1, text="no"), None])
def test_F10_an_answer_after_the_end_changes_nothing(late: Outcome[str] | None) -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    list(made.hear(changed(order, S.CANCELED), NOW_NS))
    assert placed(made, order, late or lost(order)) == []


# --- fills and ends


def test_F17_a_fill_is_said_once_however_often_it_comes() -> None:
    made, order = living()
    assert len(all_of(made.hear(filled(order, 4), NOW_NS), m.Fill)) == 1
    assert list(made.hear(filled(order, 4), NOW_NS)) == []
    assert list(made.fills_read(order.client_id, [filled(order, 4)], NOW_NS)) == []


def test_F19_an_end_waits_for_the_fills_that_it_counts_and_they_are_asked_for() -> None:
    made, order = living()
    assert list(made.hear(changed(order, S.FILLED, 10), NOW_NS)) == []
    assert made.take_calls() == [ReadFills(order.client_id, BTC, "e1")]
    said = list(made.fills_read(order.client_id, [filled(order, 6, "t1"), filled(order, 4, "t2")], NOW_NS))
    assert [type(each) for each in said] == [m.Fill, m.Fill, m.OrderEvent]
    assert states(said) == [S.FILLED]


def test_F20_fills_of_a_gap_are_found_whatever_their_ids() -> None:
    made, order = living()
    list(made.hear(filled(order, 2, "t9"), NOW_NS))
    list(made.hear(changed(order, S.FILLED, 10), NOW_NS))
    said = made.fills_read(order.client_id, [filled(order, 2, "t9"), filled(order, 8, "t1")], NOW_NS)
    assert [fill.trade_id for fill in all_of(said, m.Fill)] == ["t1"]


def test_F19_a_fill_that_a_report_counts_and_nobody_tells_is_asked_for_after_a_while() -> None:
    made, order = living()
    list(made.hear(changed(order, S.PARTIALLY_FILLED, 4), NOW_NS))
    assert kinds(made) == []
    list(made.handle(m.Tick(ts_ns=NOW_NS + 3 * m.SECOND_NS)))
    assert kinds(made) == [ReadFills]
    assert list(made.fills_read(order.client_id, None, NOW_NS)) == []
    list(made.handle(m.Tick(ts_ns=NOW_NS + 10 * m.SECOND_NS)))
    assert kinds(made) == [ReadFills]


def test_F12_a_fill_after_the_end_is_said() -> None:
    made, order = living()
    assert states(made.hear(changed(order, S.CANCELED), NOW_NS)) == [S.CANCELED]
    assert len(all_of(made.hear(filled(order, 4), NOW_NS), m.Fill)) == 1


def test_F54_an_older_report_lowers_nothing() -> None:
    made, order = living()
    list(made.hear(filled(order, 6), NOW_NS))
    list(made.hear(changed(order, S.PARTIALLY_FILLED, 6), NOW_NS))
    assert list(made.hear(changed(order, S.NEW, 0), NOW_NS)) == []
    assert list(made.hear(changed(order, S.PARTIALLY_FILLED, 2), NOW_NS)) == []


@pytest.mark.parametrize(("currency", "said_as"), [("BTC", ""), ("", ""), ("USDT", "USDT"), ("TRX", "TRX")])
def test_F64_a_fee_in_an_unusual_coin_says_so(currency: str, said_as: str) -> None:
    made, order = living()
    assert only(made.hear(filled(order, 4, fee_currency=currency), NOW_NS), m.Fill).fee_currency == said_as


def test_F66_contracts_are_lots_and_no_coins() -> None:
    made = LiveDesk(Approvals(60 * m.SECOND_NS))
    for message in (listed(PERP, is_perp=True, quantity_scale=3), recovered()):
        list(made.handle(message))
    order = buy(7, symbol=PERP)
    submit(made, order)
    report = changed(order, S.PARTIALLY_FILLED, 3, market=Market.FUTURES)
    assert only(made.hear(report, NOW_NS), m.OrderEvent).filled_lots == 3


# --- cancels


def test_F13_a_cancel_is_repeated_ever_more_slowly_until_the_order_is_seen_to_have_ended() -> None:
    made, order = living()
    list(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id)))
    asked_s: list[float] = []
    for quarter in range(80):
        at_ns = NOW_NS + quarter * m.SECOND_NS // 4
        list(made.handle(m.Tick(ts_ns=at_ns)))
        for call in made.take_calls():
            if isinstance(call, Cancel):
                asked_s.append(quarter / 4)
                list(made.cancelled(order.client_id, lost(order), at_ns))
            elif isinstance(call, Look):
                list(made.looked(order.client_id, None, at_ns))
    assert asked_s == [0, 0.5, 1.5, 3.5, 8.5, 13.5, 18.5]


def test_F13_F107_a_cancel_that_does_not_work_takes_all_orders_of_its_market_and_is_reported() -> None:
    made, order = living()
    list(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id)))
    made.take_calls()
    list(made.handle(m.Tick(ts_ns=NOW_NS + CANCEL_ALL_AFTER_NS)))
    assert CancelSymbol(BTC) in made.take_calls()
    said = list(made.handle(m.Tick(ts_ns=NOW_NS + CANCEL_FAILS_AFTER_NS)))
    report = only(said, m.HealthReported)
    assert (report.condition, report.is_well) == (m.Condition.CANCELS, False)
    list(made.hear(changed(order, S.CANCELED), NOW_NS + CANCEL_FAILS_AFTER_NS))
    healed = only(made.handle(m.Tick(ts_ns=NOW_NS + CANCEL_FAILS_AFTER_NS + 1)), m.HealthReported)
    assert (healed.condition, healed.is_well) == (m.Condition.CANCELS, True)


def test_F11_a_race_is_settled_by_looking_at_the_order() -> None:
    made, order = living()
    list(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id)))
    made.take_calls()
    assert list(made.cancelled(order.client_id, lost(order, Doubt.RACE), NOW_NS)) == []
    assert kinds(made) == [Look]
    list(made.looked(order.client_id, changed(order, S.FILLED, 10), NOW_NS))
    assert kinds(made) == [ReadFills]
    assert states(made.fills_read(order.client_id, [filled(order, 10)], NOW_NS)) == [S.FILLED]


def test_F11_not_found_alone_ends_nothing() -> None:
    made, order = living()
    assert list(made.looked(order.client_id, None, NOW_NS)) == []
    assert made.living == [order]


def test_a_cancel_that_is_wanted_before_the_answer_is_sent_after_it() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    made.take_calls()
    list(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id)))
    assert kinds(made) == []
    placed(made, order, Accepted(value="e1"))
    assert kinds(made) == [Cancel]


def test_a_cancel_of_an_unknown_order_is_sent_by_its_client_id() -> None:
    made, order = desk(), buy(10, 90)
    submit(made, order)
    placed(made, order, lost(order))
    made.take_calls()
    list(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id)))
    assert made.take_calls() == [Cancel(order.client_id, BTC, is_protective=False)]


# --- strangers


def test_F25_an_order_of_somebody_else_is_reported_once() -> None:
    made, stranger = desk(), buy(10, 90, client_id="web-123")
    report = only(made.hear(changed(stranger, S.NEW), NOW_NS), m.HealthReported)
    assert (report.condition, report.severity, report.scope) == (
        m.Condition.FOREIGN_ORDER,
        m.RiskState.REDUCE_ONLY,
        f"symbol:{BTC}",
    )
    assert list(made.hear(changed(stranger, S.NEW), NOW_NS)) == []


def test_F56_F87_an_order_with_our_mark_that_we_never_made_halts() -> None:
    made, twin = desk(), buy(10, 90, number=77)
    report = only(made.hear(changed(twin, S.NEW), NOW_NS), m.HealthReported)
    assert (report.condition, report.severity) == (m.Condition.FOREIGN_ORDER, m.RiskState.HALTED)


def test_F55_a_stream_that_is_down_is_reported_until_all_are_up() -> None:
    made = desk()
    assert not only(made.hear(Stale(market=Market.SPOT, reason="cut"), NOW_NS), m.HealthReported).is_well
    assert list(made.hear(Stale(market=Market.FUTURES, reason="cut"), NOW_NS)) == []
    assert list(made.hear(Fresh(market=Market.SPOT, at_ms=0, living=frozenset()), NOW_NS)) == []
    fresh = Fresh(market=Market.FUTURES, at_ms=0, living=frozenset())
    assert only(made.hear(fresh, NOW_NS), m.HealthReported).is_well


def test_F21_an_order_that_a_full_list_lacks_is_looked_at_and_not_given_up() -> None:
    made, _ = living()
    said = list(made.hear(Fresh(market=Market.SPOT, at_ms=0, living=frozenset()), NOW_NS))
    assert (states(said), kinds(made)) == ([], [Look])


# --- stops


def stop(symbol: str = BTC) -> OrderIntent:
    return sell(
        5, order_type="STOP", time_in_force="GTC", trigger_ticks=80, symbol=symbol, is_reduce_only=True, role="stop"
    )


def test_a_stop_on_coins_waits_at_the_exchange() -> None:
    made, order = desk(), stop()
    submit(made, order)
    assert made.take_calls() == [Place(order, is_protective=True)]


def test_a_stop_on_contracts_waits_here_and_is_sent_when_the_touch_reaches_it() -> None:
    made, order = desk(), stop(PERP)
    assert states(submit(made, order)) == [S.NEW]
    book = m.Depth(ts_ns=NOW_NS, symbol=PERP, bids=((81, 1),), asks=((82, 1),))
    list(made.handle(book))
    assert kinds(made) == []
    list(made.handle(m.Depth(ts_ns=NOW_NS, symbol=PERP, bids=((80, 1),), asks=((81, 1),))))
    list(made.handle(m.Depth(ts_ns=NOW_NS, symbol=PERP, bids=((79, 1),), asks=((80, 1),))))
    assert made.take_calls() == [Place(order, is_protective=False)]


def test_a_stop_that_waits_here_is_cancelled_at_once() -> None:
    made, order = desk(), stop(PERP)
    submit(made, order)
    assert states(made.handle(m.CancelOrder(ts_ns=NOW_NS, client_id=order.client_id))) == [S.CANCELED]


def test_a_stop_that_the_exchange_refuses_waits_here() -> None:
    made, order = desk(), stop()
    submit(made, order)
    made.take_calls()
    assert states(placed(made, order, Refused(code=25_003, text="no"))) == [S.NEW]
    list(
        made.handle(
            m.TradeTick(ts_ns=NOW_NS, symbol=BTC, trade_id="t", price_ticks=79, qty_lots=1, taker_side=Side.SELL)
        )
    )
    assert made.take_calls() == [Place(order, is_protective=False)]


# --- after a restart


@pytest.mark.parametrize("state", [S.SUBMITTED, S.UNKNOWN])
def test_F77_what_was_perhaps_sent_is_unknown_after_a_crash_and_searched_for(state: OrderState) -> None:
    record = OrderRecord(intent=buy(10, 90), state=state, filled_lots=0, submitted_ns=NOW_NS)
    made = LiveDesk(Approvals(2 * m.SECOND_NS))
    list(made.handle(listed()))
    said = list(made.handle(recovered(orders=[record])))
    assert states(said) == [S.UNKNOWN]
    (call,) = made.take_calls()
    assert isinstance(call, Resolve)
    assert call.unknown.fence_ms == NOW_NS // MS_NS + 2_000 + 5_000 + 1_500


def test_what_worked_before_a_crash_is_looked_at() -> None:
    record = OrderRecord(intent=buy(10, 90), state=S.NEW, filled_lots=3, submitted_ns=NOW_NS, order_id="e1")
    made = desk(record)
    assert made.take_calls() == [Look(record.intent.client_id, BTC, "e1", is_protective=False)]
    assert list(made.hear(changed(record.intent, S.PARTIALLY_FILLED, 3), NOW_NS)) != []


# --- against an exchange that loses and reorders everything


@dataclass
class Book:
    """An order as the exchange has it."""

    intent: OrderIntent
    fills: list[int] = field(default_factory=list[int])
    state: OrderState = S.NEW

    @property
    def filled(self) -> int:
        return sum(self.fills)

    def all_fills(self) -> list[Filled]:
        fills = [filled(self.intent, lots, f"t{number}") for number, lots in enumerate(self.fills)]
        return [msgspec.structs.replace(fill, order_id=f"e-{self.intent.client_id}") for fill in fills]


class Chaos:
    """A model exchange, its wires, and the desk at the other end."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.desk = desk()
        self.now_ns = NOW_NS
        self.said: list[m.AnyMessage] = []
        self.calls: list[Call] = []
        self.books: dict[str, Book] = {}
        self.on_the_way: list[tuple[int, OrderIntent]] = []
        """(until when it may arrive, order): requests that nobody heard an answer to."""
        self.news: list[OrderChanged | Filled] = []
        self.made = 0

    def hear(self, said: Iterable[m.AnyMessage]) -> None:
        self.said += said
        self.calls += self.desk.take_calls()

    def run(self) -> None:
        often = self.new, self.answer, self.answer, self.fill, self.tell, self.tell, self.tick, self.arrive, self.cancel
        for _ in range(120):
            self.rng.choice(often)()
        self.settle()

    def new(self) -> None:
        if self.made < 6:
            self.made += 1
            order = buy(10, 90, number=self.made)
            self.desk._approvals.issue(order, self.now_ns)
            self.hear(self.desk.handle(m.SubmitOrder(ts_ns=self.now_ns, intent=order)))

    def cancel(self) -> None:
        if self.desk.living:
            order = self.rng.choice(self.desk.living)
            self.hear(self.desk.handle(m.CancelOrder(ts_ns=self.now_ns, client_id=order.client_id)))

    def tick(self) -> None:
        self.now_ns += self.rng.choice((m.SECOND_NS // 4, m.SECOND_NS, 3 * m.SECOND_NS))
        self.hear(self.desk.handle(m.Tick(ts_ns=self.now_ns)))

    def accept(self, order: OrderIntent) -> None:
        assert order.client_id not in self.books, "one intent became two orders"
        self.books[order.client_id] = Book(order)
        self.report(self.books[order.client_id])

    def report(self, book: Book) -> None:
        self.news.append(changed(book.intent, book.state, book.filled, f"e-{book.intent.client_id}"))

    def arrive(self) -> None:
        """Let a lost request arrive after all, as long as the exchange takes it."""
        if self.on_the_way:
            until_ns, order = self.on_the_way.pop(self.rng.randrange(len(self.on_the_way)))
            if self.now_ns <= until_ns:
                self.accept(order)

    def fill(self) -> None:
        open_books = [book for book in self.books.values() if not book.state.is_final]
        if open_books:
            book = self.rng.choice(open_books)
            book.fills.append(self.rng.randint(1, 10 - book.filled))
            book.state = S.FILLED if book.filled == 10 else S.PARTIALLY_FILLED
            self.news.append(book.all_fills()[-1])
            self.report(book)

    def tell(self) -> None:
        """Tell a piece of news, not always the oldest, perhaps twice, perhaps never."""
        if not self.news:
            return
        event = self.news[self.rng.randrange(len(self.news))]
        fate = self.rng.random()
        if fate < 0.85:
            self.news.remove(event)
        if fate < 0.1:
            return
        self.hear(self.desk.hear(event, self.now_ns))

    def answer(self, *, is_well: bool = False) -> None:
        if not self.calls:
            return
        call = self.calls.pop(self.rng.randrange(len(self.calls)))
        fate = 0.0 if is_well else self.rng.random()
        match call:
            case Place():
                self.hear(self.desk.placed(call.intent.client_id, self.place(call.intent, fate), self.now_ns))
            case Cancel():
                self.hear(self.desk.cancelled(call.client_id, self.try_cancel(call.client_id, fate), self.now_ns))
            case CancelSymbol():
                self.desk.symbol_cancelled(call.symbol, self.now_ns)
            case Resolve():
                self.resolve(call)
            case Look():
                book = self.books.get(call.client_id)
                report = None if book is None or fate > 0.7 else self.stale(book, fate)
                self.hear(self.desk.looked(call.client_id, report, self.now_ns))
            case ReadFills():
                book = self.books[call.client_id]
                self.hear(self.desk.fills_read(call.client_id, None if fate > 0.7 else book.all_fills(), self.now_ns))

    def stale(self, book: Book, fate: float) -> OrderChanged:
        """Return how an order stands, or, from a replica that lags, how it stood."""
        order_id = f"e-{book.intent.client_id}"
        if fate > 0.5:
            return changed(book.intent, S.NEW, 0, order_id)
        return changed(book.intent, book.state, book.filled, order_id)

    def place(self, order: OrderIntent, fate: float) -> Outcome[str]:
        unknown = Unknown(
            reason="lost", doubt=Doubt.NO_ANSWER, client_id=order.client_id, fence_ms=self.now_ns // MS_NS + 6_500
        )
        if fate < 0.4:
            self.accept(order)
            return Accepted(value=f"e-{order.client_id}")
        if fate < 0.6:
            self.accept(order)
            return unknown
        if fate < 0.9:
            self.on_the_way.append((self.now_ns + 6_000 * MS_NS, order))
            return unknown
        return Refused(code=1, text="no")

    def try_cancel(self, client_id: str, fate: float) -> Refused | Unknown | None:
        book = self.books.get(client_id)
        trouble = Unknown(reason="?", doubt=Doubt.RACE if fate < 0.8 else Doubt.NO_ANSWER, client_id=client_id)
        if book is None or book.state.is_final or fate > 0.7:
            return trouble
        book.state = S.PARTIALLY_CANCELED if book.fills else S.CANCELED
        self.report(book)
        return None if fate < 0.5 else trouble

    def resolve(self, call: Resolve) -> None:
        """Answer as `resolve` of the clients does: what is there is found, absence needs the fence."""
        client_id = call.unknown.client_id
        book = self.books.get(client_id)
        if book is not None:
            report = changed(book.intent, book.state, book.filled, f"e-{client_id}")
            self.hear(self.desk.resolved(client_id, Accepted(value=report), self.now_ns))
        elif self.now_ns // MS_NS > call.unknown.fence_ms:
            never = Refused(code=0, text="never", kind=RefusalKind.NEVER_ACCEPTED)
            self.hear(self.desk.resolved(client_id, never, self.now_ns))
        else:
            self.calls.append(call)

    def settle(self) -> None:
        """Heal everything, cancel everything, and wait for every end."""
        for _ in range(400):
            for order in self.desk.living:
                self.hear(self.desk.handle(m.CancelOrder(ts_ns=self.now_ns, client_id=order.client_id)))
            while self.on_the_way:
                self.arrive()
            while self.news:
                self.hear(self.desk.hear(self.news.pop(0), self.now_ns))
            for _ in range(len(self.calls)):
                self.answer(is_well=True)
            self.now_ns += m.SECOND_NS
            self.hear(self.desk.handle(m.Tick(ts_ns=self.now_ns)))
            if not self.desk.living and not self.news and not self.calls:
                return
        raise AssertionError(f"still alive: {self.desk.living}")


@given(st.integers(0, 2**32))
def test_whatever_is_lost_or_reordered_every_order_ends_as_the_exchange_has_it(seed: int) -> None:
    chaos = Chaos(seed)
    chaos.run()
    fills = all_of(chaos.said, m.Fill)
    assert len({fill.key for fill in fills}) == len(fills)
    for number in range(1, chaos.made + 1):
        client_id = buy(10, 90, number=number).client_id
        events = [event for event in all_of(chaos.said, m.OrderEvent) if event.client_id == client_id]
        ends = [event for event in events if event.state.is_final]
        assert len(ends) == 1, events
        assert events[-1] is ends[0]
        book = chaos.books.get(client_id)
        booked = sum(fill.qty_lots for fill in fills if fill.client_id == client_id)
        if book is None:
            assert ends[0].state in {S.NEVER_ACCEPTED, S.REJECTED}
            assert booked == 0
        else:
            assert (ends[0].state, booked, ends[0].filled_lots) == (book.state, book.filled, book.filled)
