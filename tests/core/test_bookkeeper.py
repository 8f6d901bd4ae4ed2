"""What is written, and what may be said once it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import bookkeeper as bookkeeper_module
from bot.core import messages as m
from bot.core.bookkeeper import HISTORY_POINTS, RECENT_FILLS, Bookkeeper
from bot.core.instrument import ATOMS
from bot.core.ledger import Ledger
from bot.core.messages import SECOND_NS
from bot.core.orders import OrderState, client_id
from tests.support.builders import (
    BTC,
    NOW_NS,
    all_of,
    approved,
    book_lost,
    bookkeeper,
    buy,
    depth,
    event,
    fill,
    funding,
    liquidated,
    listed,
    only,
    quote,
    say,
    sell,
    session,
    submit,
    tick,
)

INTENT = buy(10)


def mark_price(price: int) -> m.MarkPrice:
    return m.MarkPrice(ts_ns=NOW_NS, symbol=BTC, price_ticks=price)


def test_an_approved_order_is_written_before_it_is_submitted() -> None:
    keeper = bookkeeper()
    assert say(keeper, approved(INTENT)) == [submit(INTENT)]
    assert keeper.take_pending() == [approved(INTENT)]
    assert keeper.take_pending() == []


def test_an_approval_is_good_for_one_order() -> None:
    keeper = bookkeeper(approved(INTENT))
    assert say(keeper, approved(INTENT)) == []
    assert keeper.counts["orders"] == 1


def test_a_repeated_fact_is_neither_written_nor_said() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.NEW), fill(INTENT, 4))
    keeper.take_pending()
    assert say(keeper, event(INTENT, OrderState.NEW), fill(INTENT, 4), listed()) == []
    assert keeper.take_pending() == []
    assert keeper.counts["fills"] == 1


def test_a_cancel_is_sent_only_for_an_order_that_lives() -> None:
    wish = m.CancelRequested(ts_ns=NOW_NS, client_id=INTENT.client_id, reason="")
    keeper = bookkeeper(approved(INTENT))
    assert say(keeper, wish) == [m.CancelOrder(ts_ns=NOW_NS, client_id=INTENT.client_id)]
    say(keeper, event(INTENT, OrderState.CANCELED))
    assert say(keeper, wish) == []


def test_a_session_begins_with_what_the_journal_says() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 4, 100))
    known = only(say(keeper, session(epoch=2, at_ns=NOW_NS + 5)), m.Recovered)
    assert (known.ts_ns, known.epoch, known.cash_atoms) == (NOW_NS + 5, 2, 9_600 * ATOMS)
    assert [record.leaves_lots for record in known.orders] == [6]


def test_refusals_are_counted_by_whose_they_are() -> None:
    denied = m.OrderDenied(
        ts_ns=NOW_NS, strategy="", symbol=BTC, side=INTENT.side, qty_lots=1, reason=m.DenyReason.HALTED, detail=""
    )
    keeper = bookkeeper(denied, approved(INTENT), event(INTENT, OrderState.REJECTED))
    assert keeper.counts == {"orders": 1, "denied": 1, "fills": 0, "rejected": 1, "late_fills": 0}
    assert keeper.take_pending()[0] == denied


def test_each_thing_that_happens_is_counted() -> None:
    denied = m.OrderDenied(
        ts_ns=NOW_NS, strategy="", symbol=BTC, side=INTENT.side, qty_lots=1, reason=m.DenyReason.HALTED, detail=""
    )
    refused, dead = (buy(10, number=1), buy(10, number=2)), (buy(10, number=3), buy(10, number=4))
    keeper = bookkeeper(denied, denied, *map(approved, refused + dead))
    for intent in refused:
        say(keeper, event(intent, OrderState.REJECTED))
    for intent in dead:
        say(keeper, event(intent, OrderState.CANCELED), fill(intent, 1))
    say(keeper, event(dead[0], OrderState.NEW))
    assert keeper.counts == {"orders": 4, "denied": 2, "fills": 2, "rejected": 2, "late_fills": 2}


def test_an_answer_is_written_and_said() -> None:
    answer = m.OperatorAnswered(ts_ns=NOW_NS, verb="halt", command_id="", state=m.RiskState.HALTED, detail="")
    keeper = bookkeeper()
    assert say(keeper, answer) == [answer]
    assert keeper.take_pending() == [answer]


def test_equity_is_cash_and_positions_at_the_middle_of_the_book() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 10, 100))
    assert keeper.equity_atoms is None
    say(keeper, quote(119, 121))
    assert keeper.equity_atoms == (9_000 + 1_200) * ATOMS


def test_the_middle_of_a_book_is_a_whole_number_of_ticks_rounded_down() -> None:
    keeper = bookkeeper(quote(100, 103))
    assert (keeper.quotes, repr(keeper.marks[BTC])) == ({BTC: quote(100, 103)}, "101")


def test_a_perpetual_counts_with_its_open_profit() -> None:
    keeper = bookkeeper(listed(is_perp=True), approved(sell(10)), fill(sell(10), 10, 100))
    assert keeper.equity_atoms is None
    say(keeper, quote(119, 121))
    assert keeper.equity_atoms == (10_000 - 200) * ATOMS


def test_funding_and_liquidation_are_written_and_said_once() -> None:
    keeper = bookkeeper(listed(is_perp=True), approved(sell(10)), fill(sell(10), 10, 100))
    keeper.take_pending()
    paid, closed = funding(7), liquidated(10, 130, fee=3)
    said = say(keeper, paid, paid, closed, closed)
    assert said == [paid, msgspec.structs.replace(closed, cash_atoms=(10_000 - 7 - 300 - 3) * ATOMS)]
    assert keeper.take_pending() == [paid, closed]
    assert keeper.equity_atoms == (10_000 - 310) * ATOMS


def test_a_liquidation_says_what_is_left_in_each_wallet() -> None:
    started = msgspec.structs.replace(session(), futures_cash_atoms=4_000 * ATOMS)
    keeper = Bookkeeper(Ledger())
    say(keeper, started, listed(is_perp=True), approved(sell(10)), fill(sell(10), 10, 100))
    (said,) = say(keeper, liquidated(10, 130))
    assert said == msgspec.structs.replace(
        liquidated(10, 130), cash_atoms=9_700 * ATOMS, futures_cash_atoms=3_700 * ATOMS
    )


def test_a_book_that_was_never_known_can_be_lost() -> None:
    assert say(bookkeeper(), book_lost()) == []


def test_the_exchange_s_mark_counts_only_while_the_book_is_lost() -> None:
    keeper = bookkeeper(quote(119, 121), mark_price(50))
    assert keeper.marks[BTC] == 120
    say(keeper, book_lost(), mark_price(50))
    assert keeper.marks[BTC] == 50
    assert BTC not in keeper.quotes


def test_the_history_of_equity_has_at_most_one_point_a_second_and_an_end() -> None:
    keeper = bookkeeper()
    for step in range(4 * (HISTORY_POINTS + 10)):
        say(keeper, tick(NOW_NS + step * SECOND_NS // 4))
    times = [ts_ns for ts_ns, _ in keeper.equity_history]
    assert len(times) == HISTORY_POINTS
    assert {after - before for before, after in pairwise(times)} == {SECOND_NS}


def test_the_newest_fills_are_kept_for_screens() -> None:
    intent = buy(1_000)
    keeper = bookkeeper(approved(intent))
    for number in range(RECENT_FILLS + 5):
        say(keeper, fill(intent, 1, 1, trade_id=str(number)))
    assert len(keeper.fills) == RECENT_FILLS
    assert keeper.fills[0].fill.trade_id == str(RECENT_FILLS + 4)


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed"):
        say(bookkeeper(), depth())


# --- what the exchange says, and what is wrong with it


def health(
    condition: m.Condition, severity: m.RiskState, *, is_well: bool = False, scope: str = ""
) -> m.HealthReported:
    return m.HealthReported(ts_ns=NOW_NS, condition=condition, is_well=is_well, severity=severity, scope=scope)


def without_detail(said: Iterable[m.AnyMessage]) -> list[m.AnyMessage]:
    return [msgspec.structs.replace(each, detail="") if isinstance(each, m.HealthReported) else each for each in said]


def test_F16_an_over_fill_is_booked_and_halts_its_symbol() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 8))
    said = say(keeper, fill(INTENT, 5, trade_id="f2"))
    assert only(said, m.FillBooked).strategy_atoms == 13 * ATOMS
    assert without_detail(said)[1:] == [health(m.Condition.INTEGRITY, m.RiskState.HALTED, scope=f"symbol:{BTC}")]
    assert only(said, m.HealthReported).detail == f"order {INTENT.client_id} filled 13 lots of 10"


def test_F16_an_order_that_is_filled_to_its_last_lot_is_no_surprise() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 8))
    assert [type(each) for each in say(keeper, fill(INTENT, 2, trade_id="f2"))] == [m.FillBooked]


@pytest.mark.parametrize("end", [OrderState.REJECTED, OrderState.FAILED, OrderState.NEVER_ACCEPTED])
def test_a_fill_of_an_order_that_never_was_is_booked_and_halts_its_symbol(end: OrderState) -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.UNKNOWN), event(INTENT, end))
    said = say(keeper, fill(INTENT, 1))
    assert only(said, m.FillBooked).strategy_atoms == ATOMS
    assert without_detail(said)[1:] == [health(m.Condition.INTEGRITY, m.RiskState.HALTED, scope=f"symbol:{BTC}")]
    assert only(said, m.HealthReported).detail == f"order {INTENT.client_id} filled 1 lots after it was {end}"


def test_F12_a_fill_after_a_cancel_is_counted_and_nothing_is_halted() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.CANCELED, 0))
    assert [type(each) for each in say(keeper, fill(INTENT, 1))] == [m.FillBooked]
    assert keeper.counts["late_fills"] == 1


def test_a_fill_that_an_end_spoke_of_is_not_late() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.FILLED, 10), fill(INTENT, 10))
    assert (keeper.counts["late_fills"], keeper.events["applied"]) == (0, 2)


def test_F18_a_trade_with_two_contents_is_put_aside_and_said_once() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 4))
    keeper.take_pending()
    other = fill(INTENT, 5)
    assert without_detail(say(keeper, other, other)) == [health(m.Condition.INTEGRITY, m.RiskState.REDUCE_ONLY)]
    assert keeper.take_pending() == []
    assert keeper.ledger.positions[BTC].base_atoms == 4 * ATOMS
    assert keeper.events == {"received": 3, "applied": 1, "duplicate": 0, "quarantined": 2}


def test_F18_what_is_put_aside_names_the_trade_and_what_was_said_of_it_now() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 4), listed(is_perp=True), funding(7))
    in_a_coin = msgspec.structs.replace(fill(INTENT, 5, 101, fee_atoms=3), fee_currency="TRX")
    told = "told twice, and not the same: "
    trade = f"trade f1 of order {INTENT.client_id} on {BTC}: "
    assert [each.detail for each in all_of(say(keeper, fill(INTENT, 5), in_a_coin, funding(8)), m.HealthReported)] == [
        f"{told}{trade}5 lots at 100 ticks, fee 0 atoms",
        f"{told}{trade}5 lots at 101 ticks, fee 3 atoms TRX",
        f"{told}funding of {BTC} at {NOW_NS}: {8 * ATOMS} atoms",
    ]


def test_F18_only_so_much_that_was_put_aside_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bookkeeper_module, "QUARANTINE_KEPT", 2)
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 4))
    contradictions = [fill(INTENT, lots) for lots in (5, 6, 7)]
    assert len(say(keeper, *contradictions, *contradictions[1:])) == 3
    assert len(say(keeper, contradictions[0])) == 1


def test_F71_funding_with_two_contents_is_put_aside() -> None:
    keeper = bookkeeper(listed(is_perp=True), funding(7))
    assert without_detail(say(keeper, funding(8))) == [health(m.Condition.INTEGRITY, m.RiskState.REDUCE_ONLY)]
    assert keeper.ledger.cash_atoms == (10_000 - 7) * ATOMS


def test_the_gate_hears_what_all_news_of_an_order_come_to() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.PENDING_CANCEL, 7))
    assert say(keeper, event(INTENT, OrderState.NEW, 8)) == [event(INTENT, OrderState.PENDING_CANCEL, 8)]
    assert say(keeper, event(INTENT, OrderState.CANCELED, 5)) == [event(INTENT, OrderState.CANCELED, 8)]


def some_fill(number: int, lots: int) -> m.Fill:
    return fill(INTENT, lots, trade_id=str(number))


def some_funding(paid: int, at: int) -> m.FundingPaid:
    return funding(paid, at_ns=NOW_NS + at)


def some_liquidation(at: int) -> m.Liquidated:
    return liquidated(-1, 60, at_ns=NOW_NS + at)


news = st.lists(
    st.one_of(
        st.builds(event, st.just(INTENT), st.sampled_from(OrderState), st.integers(0, 12)),
        st.builds(some_fill, st.integers(1, 4), st.integers(1, 2)),
        st.builds(some_funding, st.integers(1, 2), st.integers(1, 3)),
        st.builds(some_liquidation, st.integers(1, 3)),
    ),
    max_size=25,
)


@given(news)
def test_O10_everything_that_is_received_is_applied_known_or_put_aside(told: list[m.AnyMessage]) -> None:
    keeper = bookkeeper(listed(is_perp=True), approved(INTENT))
    keeper.take_pending()
    say(keeper, *told)
    assert keeper.events.pop("received") == len(told) == sum(keeper.events.values())
    assert keeper.events["applied"] == len(keeper.take_pending())


# --- reconciliation


def seen(
    cash: int = 10_000, living: Mapping[str, int] | None = None, market: m.Wallet = "spot", **coins: int
) -> m.AccountSeen:
    """Return a wallet in whole units, without positions."""
    balances = {coin: whole * ATOMS for coin, whole in {"USDT": cash, **coins}.items()}
    return m.AccountSeen(ts_ns=NOW_NS, market=market, balances=balances, positions={}, living=dict(living or {}))


def compared(*differences: m.Difference, market: m.Wallet = "spot") -> m.AccountCompared:
    return m.AccountCompared(ts_ns=NOW_NS, market=market, differences=differences)


WELL = [
    health(m.Condition.RECONCILIATION, m.RiskState.REDUCE_ONLY, is_well=True),
    health(m.Condition.FOREIGN_ORDER, m.RiskState.REDUCE_ONLY, is_well=True),
]
CASH_DIFFERS = m.Difference(kind="cash", name="spot", ours=10_000 * ATOMS, theirs=10_005 * ATOMS)


def command(verb: m.OperatorVerb, subject: str = "") -> m.OperatorCommand:
    return m.OperatorCommand(ts_ns=NOW_NS, verb=verb, command_id="7", subject=subject, who="ann")


def answer(verb: m.OperatorVerb, detail: str = "") -> m.OperatorAnswered:
    return m.OperatorAnswered(ts_ns=NOW_NS, verb=verb, command_id="7", state=m.RiskState.NORMAL, detail=detail)


def test_equal_books_are_said_each_time_and_written_once() -> None:
    keeper = bookkeeper()
    assert say(keeper, seen()) == [compared(), *WELL]
    assert say(keeper, seen()) == [compared()]
    assert keeper.take_pending() == [compared()]


def test_a_difference_is_written_when_it_changes_and_makes_the_books_unwell() -> None:
    keeper = bookkeeper(seen())
    keeper.take_pending()
    unwell = health(m.Condition.RECONCILIATION, m.RiskState.REDUCE_ONLY)
    assert without_detail(say(keeper, seen(10_005))) == [compared(CASH_DIFFERS), unwell]
    assert say(keeper, seen(10_005)) == [compared(CASH_DIFFERS)]
    assert [type(each) for each in say(keeper, seen(10_006), seen(10_005))] == [m.AccountCompared] * 2
    assert say(keeper, seen()) == [compared(), WELL[0]]
    written = [len(each.differences) for each in keeper.take_pending() if isinstance(each, m.AccountCompared)]
    assert written == [1, 1, 1, 0]


@pytest.mark.parametrize(
    "facts",
    [
        (approved(INTENT),),
        (approved(INTENT), event(INTENT, OrderState.UNKNOWN)),
        (approved(INTENT), event(INTENT, OrderState.NEW, 3)),
        (approved(INTENT), event(INTENT, OrderState.CANCELED, 3)),
    ],
)
def test_books_are_not_compared_while_something_is_under_way(facts: tuple[m.AnyMessage, ...]) -> None:
    keeper = bookkeeper(*facts)
    assert say(keeper, seen()) == []
    assert [type(each) for each in say(keeper, seen(0, market="futures"))][:1] == [m.AccountCompared]


def test_one_wallet_that_differs_keeps_the_books_unwell() -> None:
    keeper = bookkeeper(seen(10_005))
    assert without_detail(say(keeper, seen(0, market="futures"))) == [compared(market="futures")]


def test_the_first_three_differences_are_named() -> None:
    said = say(bookkeeper(), seen(ADA=1, BTC=2, DOT=3, ETH=4))
    wrong = next(each for each in all_of(said, m.HealthReported) if not each.is_well)
    lines = [f"coin {coin}: {whole * ATOMS} there, 0 here" for whole, coin in enumerate(("ADA", "BTC", "DOT"), start=1)]
    assert wrong.detail == "; ".join(lines)


def test_F25_a_foreign_order_is_no_mistake_in_the_books_but_somebody_trades_here() -> None:
    keeper = bookkeeper(seen())
    said = say(keeper, seen(living={"somebody": 3}))
    foreign = m.Difference(kind="order", name="somebody", ours=0, theirs=3)
    assert without_detail(said) == [
        compared(foreign),
        health(m.Condition.FOREIGN_ORDER, m.RiskState.REDUCE_ONLY),
    ]
    assert only(said, m.HealthReported).detail == "order somebody: 3 there, 0 here"
    assert say(keeper, seen()) == [compared(), WELL[1]]


def test_F87_an_order_with_an_id_of_ours_that_we_never_made_is_another_bot_and_halts() -> None:
    keeper = bookkeeper(seen())
    said = say(keeper, seen(living={client_id(1, 99): 3}))
    assert without_detail(said)[1:] == [health(m.Condition.FOREIGN_ORDER, m.RiskState.HALTED)]


def test_F74_what_an_operator_adopts_is_written_and_the_books_are_equal() -> None:
    keeper = bookkeeper(seen(10_005, BTC=2))
    keeper.take_pending()
    adopted = [
        m.ExternalFlow(
            ts_ns=NOW_NS,
            wallet="spot",
            currency=currency,
            atoms=whole * ATOMS,
            reason="reconciliation: the exchange's word is taken",
            who="ann",
        )
        for currency, whole in (("USDT", 5), ("BTC", 2))
    ]
    said = say(keeper, command("adopt"))
    assert said == [*adopted, compared(), WELL[0], answer("adopt")]
    assert keeper.take_pending() == [*adopted, compared(), answer("adopt")]
    assert say(keeper, seen(10_005, BTC=2)) == [compared()]
    assert say(keeper, command("adopt")) == [answer("adopt")]


def test_what_is_adopted_is_compared_anew_at_the_time_of_the_command() -> None:
    keeper = bookkeeper(seen(10_005))
    late = msgspec.structs.replace(command("adopt"), ts_ns=NOW_NS + 5)
    assert only(say(keeper, late), m.AccountCompared).ts_ns == NOW_NS + 5


def test_F112_a_trade_that_the_exchange_took_back_is_a_difference_and_its_operator_s_to_adopt() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 10, 100), event(INTENT, OrderState.FILLED, 10))
    busted = seen(10_000)  # neither paid nor received
    assert [each.kind for each in only(say(keeper, busted), m.AccountCompared).differences] == ["cash", "coin"]
    say(keeper, command("adopt"))
    assert only(say(keeper, busted), m.AccountCompared).differences == ()
    assert keeper.ledger.holdings["one"] == {BTC: 10 * ATOMS}  # no fill is taken back behind a strategy's back


def test_orders_are_not_adopted() -> None:
    foreign = m.Difference(kind="order", name="somebody", ours=0, theirs=3)
    keeper = bookkeeper(seen(10_005, living={"somebody": 3}))
    said = say(keeper, command("adopt"))
    assert only(said, m.AccountCompared) == compared(foreign)
    assert keeper.compared["spot"] == compared(foreign)


def test_a_flow_that_somebody_else_knows_of_is_written_and_said() -> None:
    keeper = bookkeeper()
    flow = m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="USDT", atoms=5, reason="")
    assert say(keeper, flow) == [flow]
    assert (keeper.take_pending(), keeper.ledger.cash_atoms) == ([flow], 10_000 * ATOMS + 5)


def test_nothing_is_adopted_before_a_comparison() -> None:
    keeper = bookkeeper()
    (said,) = say(keeper, command("adopt"))
    assert said == answer("adopt", "the books were not compared in this session: nothing is adopted")


def test_an_abandoned_order_is_over_for_everybody() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.UNKNOWN, order_id=""))
    keeper.take_pending()
    given_up = msgspec.structs.replace(event(INTENT, OrderState.ABANDONED, order_id=""), reason="given up by ann")
    given = command("abandon", INTENT.client_id)
    assert say(keeper, given) == [given_up, given, answer("abandon")]
    assert keeper.take_pending() == [given_up, answer("abandon")]
    assert keeper.ledger.live_orders == []
    assert only(say(keeper, command("abandon", INTENT.client_id)), m.OperatorAnswered).detail
    # What the exchange still has of it shows when the books are compared.
    living = only(say(keeper, seen(living={INTENT.client_id: 10})), m.AccountCompared)
    assert living.differences == (m.Difference(kind="order", name=INTENT.client_id, ours=0, theirs=10),)


def test_whoever_gives_an_order_up_without_a_name_is_the_operator() -> None:
    keeper = bookkeeper(approved(INTENT))
    nameless = msgspec.structs.replace(command("abandon", INTENT.client_id), who="")
    assert only(say(keeper, nameless), m.OrderEvent).reason == "given up by the operator"


def test_fills_that_are_owed_can_be_given_up_and_the_order_stays_what_it_was() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.CANCELED, 7), fill(INTENT, 3))
    over, _, said = say(keeper, command("abandon", INTENT.client_id))
    assert over == msgspec.structs.replace(event(INTENT, OrderState.CANCELED, 3), reason="given up by ann")
    assert said == answer("abandon")
    assert keeper.ledger.is_quiet("spot")


@pytest.mark.parametrize(("subject", "named"), [("", "nothing"), ("nobody", "nobody")])
def test_only_an_order_that_lives_can_be_abandoned(subject: str, named: str) -> None:
    keeper = bookkeeper()
    refused = answer("abandon", f"{named}: no living order has this client id")
    assert say(keeper, command("abandon", subject)) == [refused]
    assert keeper.take_pending() == [refused]


@pytest.mark.parametrize("verb", ["halt", "reduce", "flatten", "resume", "rearm", "close"])
def test_every_other_command_is_the_gate_s(verb: m.OperatorVerb) -> None:
    keeper = bookkeeper()
    assert say(keeper, command(verb)) == []
    assert keeper.take_pending() == []
