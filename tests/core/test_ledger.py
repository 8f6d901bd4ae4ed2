"""The ledger: state is what replaying the journal gives, and no fact counts twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import ledger as ledger_module
from bot.core import messages as m
from bot.core.instrument import ATOMS, Side, fee_atoms
from bot.core.ledger import Ledger, Position
from bot.core.orders import OrderIntent, OrderState, client_id
from bot.errors import UnknownOrder
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    approved,
    buy,
    event,
    fill,
    funding,
    ledger,
    liquidated,
    listed,
    sell,
    session,
)

S = OrderState


def cancel_requested(intent: OrderIntent) -> m.CancelRequested:
    return m.CancelRequested(ts_ns=NOW_NS, client_id=intent.client_id, reason="")


def state_of(book: Ledger) -> tuple[Any, ...]:
    """Return all that a ledger says."""
    return book.recovered(0), dict(book.positions), book.is_complete


def ended(number: int, *, filled: int = 0) -> Iterator[m.Journalled]:
    """Return the facts of an order of 1 lot that was approved and cancelled."""
    intent = buy(1, number=number)
    yield approved(intent)
    yield event(intent, S.CANCELED, filled)


# --- money


def test_a_buy_pays_its_notional_and_receives_coins_less_the_fee() -> None:
    book = ledger(approved(buy(10)), fill(buy(10), 10, 100, fee_atoms=ATOMS // 100))
    assert book.cash_atoms == 9_000 * ATOMS
    assert book.positions[BTC] == Position(base_atoms=10 * ATOMS - ATOMS // 100, cost_atoms=1_000 * ATOMS)


def test_a_sale_gives_coins_and_receives_its_notional_less_the_fee() -> None:
    book = ledger(approved(buy(10)), fill(buy(10), 10, 100), approved(sell(4, number=2)))
    book.apply(fill(sell(4, number=2), 4, 150, fee_atoms=7 * ATOMS))
    assert book.cash_atoms == (9_000 + 600 - 7) * ATOMS
    assert book.positions[BTC] == Position(
        base_atoms=6 * ATOMS, cost_atoms=600 * ATOMS, realised_atoms=(600 - 7 - 400) * ATOMS
    )


def test_a_position_belongs_to_the_strategy_that_wanted_it() -> None:
    mine, other = buy(3), buy(5, number=2, strategy="two")
    book = ledger(approved(mine), approved(other), fill(mine, 3), fill(other, 5, trade_id="f2"))
    assert book.recovered(0).holdings == {"one": {BTC: 3 * ATOMS}, "two": {BTC: 5 * ATOMS}}
    assert book.positions[BTC].base_atoms == 8 * ATOMS


def test_a_new_fill_says_what_is_held_after_it() -> None:
    book = ledger(approved(buy(10)))
    booked = book.apply(fill(buy(10), 4, 100))
    assert isinstance(booked, m.FillBooked)
    assert (booked.strategy, booked.strategy_atoms, booked.cash_atoms) == ("one", 4 * ATOMS, 9_600 * ATOMS)


def test_a_fee_in_quote_makes_a_buy_dearer_and_leaves_its_coins_whole() -> None:
    book = ledger(listed(quote_fee_ppm=2_000), approved(buy(10)), fill(buy(10), 10, 100, fee_atoms=2 * ATOMS))
    assert book.cash_atoms == (9_000 - 2) * ATOMS
    assert book.positions[BTC] == Position(base_atoms=10 * ATOMS, cost_atoms=1_002 * ATOMS)


def test_the_profits_of_sales_add_up() -> None:
    book = ledger(approved(buy(10)), fill(buy(10), 10, 100))
    for number, price in ((2, 110), (3, 130)):
        book.apply(approved(sell(5, number=number)))
        book.apply(fill(sell(5, number=number), 5, price))
    assert book.positions[BTC].realised_atoms == (50 + 150) * ATOMS


# --- perpetuals


def perp_ledger(*trades: tuple[int, int], fee: int = 0) -> Ledger:
    """Return a ledger that traded a perpetual: (signed lots, price) of each fill, each with a fee in whole units."""
    book = ledger(listed(is_perp=True))
    for number, (lots, price) in enumerate(trades, start=1):
        intent = (buy if lots > 0 else sell)(abs(lots), number=number)
        book.apply(approved(intent))
        book.apply(fill(intent, abs(lots), price, fee_atoms=fee * ATOMS))
    return book


@pytest.mark.parametrize(
    ("trades", "position"),
    [
        ([(10, 100)], (10, 1_000, 0)),
        ([(-10, 100)], (-10, -1_000, 0)),
        ([(10, 100), (10, 200)], (20, 3_000, 0)),
        ([(-10, 100), (-10, 200)], (-20, -3_000, 0)),
        ([(10, 100), (-4, 150)], (6, 600, 200)),
        ([(-10, 100), (4, 150)], (-6, -600, -200)),
        ([(10, 100), (-10, 90)], (0, 0, -100)),
        ([(10, 100), (-15, 120)], (-5, -600, 200)),
        ([(-10, 100), (15, 120)], (5, 600, -200)),
    ],
)
def test_a_perpetual_costs_nothing_and_pays_the_profit_of_what_is_closed(
    trades: list[tuple[int, int]], position: tuple[int, int, int]
) -> None:
    book = perp_ledger(*trades)
    lots, cost, profit = (number * ATOMS for number in position)
    assert book.positions[BTC] == Position(base_atoms=lots, cost_atoms=cost, realised_atoms=profit)
    assert book.cash_atoms == 10_000 * ATOMS + profit
    assert book.recovered(0).costs == ({BTC: cost} if lots else {})


def test_a_perpetual_s_fees_are_paid_out_of_cash_at_once() -> None:
    book = perp_ledger((-10, 100), (4, 100), fee=1)
    assert (book.cash_atoms, book.positions[BTC].realised_atoms) == (9_998 * ATOMS, -2 * ATOMS)
    assert book.positions[BTC].base_atoms == -6 * ATOMS


def test_what_is_left_carries_the_rounding_of_a_cost() -> None:
    book = ledger(listed(is_perp=True, price_scale=16))  # a tick of a coin is one atom
    for number, (lots, price) in enumerate([(-2, 3), (-1, 4), (1, 5)], start=1):
        intent = (buy if lots > 0 else sell)(abs(lots), number=number)
        book.apply(approved(intent))
        book.apply(fill(intent, abs(lots), price))
    assert book.positions[BTC] == Position(base_atoms=-2 * ATOMS, cost_atoms=-6, realised_atoms=-1)


def test_F71_funding_is_paid_out_of_cash_once_for_each_time() -> None:
    book = perp_ledger((10, 100))
    said = [funding(7), funding(7), funding(-3, at_ns=NOW_NS + 1), funding(9)]
    assert [book.apply(fact) for fact in said] == [True, False, True, False]
    assert book.cash_atoms == (10_000 - 7 + 3) * ATOMS
    assert book.positions[BTC].realised_atoms == -4 * ATOMS


def test_F71_funding_that_was_missed_is_paid_when_it_is_heard_of() -> None:
    book = perp_ledger((10, 100))
    assert [book.apply(funding(paid, at_ns=NOW_NS + at)) for paid, at in ((7, 2), (5, 1), (5, 1))] == [
        True,
        True,
        False,
    ]
    assert book.cash_atoms == (10_000 - 12) * ATOMS


def test_a_liquidation_told_again_does_not_close_what_was_opened_since() -> None:
    book = perp_ledger((10, 100))
    book.apply(liquidated(-10, 60))
    again = buy(2, number=2)
    book.apply(approved(again))
    book.apply(fill(again, 2))
    assert book.apply(liquidated(-10, 60)) is False
    assert book.positions[BTC].base_atoms == 2 * ATOMS


def test_a_liquidation_closes_what_every_strategy_holds_of_the_symbol() -> None:
    mine, other, spot = buy(3), buy(5, number=2, strategy="two"), buy(1, number=3, symbol=ETH)
    book = ledger(listed(is_perp=True), listed(ETH), *map(approved, (mine, other, spot)))
    for intent in (mine, other, spot):
        book.apply(fill(intent, intent.qty_lots, 100))
    assert book.apply(liquidated(-8, 60, fee=2)) is True
    assert book.apply(liquidated(-8, 60, fee=2)) is False
    assert book.cash_atoms == (10_000 - 100 - 8 * 40 - 2) * ATOMS
    known = book.recovered(0)
    assert (known.holdings, known.costs) == ({"one": {ETH: ATOMS}, "two": {}}, {})
    assert known.entries == {"one": {ETH: 100}, "two": {}}


def test_a_liquidation_leaves_alone_who_holds_nothing_of_the_symbol() -> None:
    mine, other = buy(3), buy(1, number=2, symbol=ETH, strategy="two")
    book = ledger(listed(is_perp=True), listed(ETH), approved(mine), approved(other), fill(mine, 3), fill(other, 1))
    assert book.apply(liquidated(-3, 60)) is True
    known = book.recovered(0)
    assert (known.holdings, known.entries) == ({"one": {}, "two": {ETH: ATOMS}}, {"one": {}, "two": {ETH: 100}})


def test_a_liquidated_short_is_bought_back() -> None:
    book = perp_ledger((-10, 100))
    book.apply(liquidated(10, 130, fee=1))
    assert book.cash_atoms == (10_000 - 300 - 1) * ATOMS
    assert book.positions[BTC].base_atoms == 0


@pytest.mark.parametrize(
    ("trades", "entry"),
    [
        ([(10, 100)], 100),
        ([(10, 100), (10, 120)], 100),
        ([(10, 100), (-4, 120)], 100),
        ([(10, 100), (-10, 120)], None),
        ([(10, 100), (-10, 120), (3, 90)], 90),
        ([(10, 100), (-12, 120)], 120),
    ],
)
def test_an_entry_is_the_price_that_opened_what_is_held(trades: list[tuple[int, int]], entry: int | None) -> None:
    assert perp_ledger(*trades).recovered(0).entries["one"].get(BTC) == entry


def test_F65_dust_has_no_entry_and_the_next_buy_opens_anew() -> None:
    book = ledger(approved(buy(10)), fill(buy(10), 10, 100, fee_atoms=ATOMS // 100), approved(sell(9, number=2)))
    book.apply(fill(sell(9, number=2), 9, 120))
    assert book.positions[BTC].base_atoms == 99 * ATOMS // 100
    assert book.recovered(0).entries == {"one": {}}
    book.apply(approved(buy(5, number=3)))
    book.apply(fill(buy(5, number=3), 5, 130))
    assert book.recovered(0).entries == {"one": {BTC: 130}}


def test_F65_what_grows_by_less_than_a_lot_was_not_opened_anew() -> None:
    more = buy(1, number=2)
    fee = 6 * ATOMS // 10
    book = ledger(approved(buy(1)), fill(buy(1), 1, 100), approved(more), fill(more, 1, 120, fee_atoms=fee))
    assert book.recovered(0).entries == {"one": {BTC: 100}}


def test_F65_a_buy_that_is_all_fee_has_no_entry() -> None:
    book = ledger(approved(buy(1)), fill(buy(1), 1, 100, fee_atoms=1))
    assert book.recovered(0).entries == {"one": {}}


# --- exactly once


def test_F17_a_fill_counts_once_by_its_full_name() -> None:
    intent = buy(10)
    book = ledger(approved(intent), fill(intent, 4))
    assert book.apply(fill(intent, 4)) is False
    for other in (fill(intent, 1, trade_id="f2"), msgspec.structs.replace(fill(intent, 1), order_id="e2")):
        assert isinstance(book.apply(other), m.FillBooked)
    assert book.positions[BTC].base_atoms == 6 * ATOMS


def test_both_sides_of_a_trade_with_ourselves_are_booked() -> None:
    bought, sold = buy(2), sell(2, number=2)
    book = ledger(approved(bought), approved(sold), fill(bought, 2), fill(sold, 2))
    assert (book.positions[BTC].base_atoms, book.cash_atoms) == (0, 10_000 * ATOMS)


def test_a_fill_is_booked_in_any_state() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.CANCELED))
    assert isinstance(book.apply(fill(intent, 4)), m.FillBooked)
    assert book.live_orders == []


@pytest.mark.parametrize("fact", [fill(buy(1), 1), event(buy(1), S.NEW)])
def test_news_of_a_foreign_order_stops_the_bot(fact: m.Journalled) -> None:
    with pytest.raises(UnknownOrder, match="never approved"):
        ledger().apply(fact)
    with pytest.raises(UnknownOrder, match="never approved"):
        ledger().apply(msgspec.structs.replace(fact, client_id="somebody-else"))


def test_an_approval_counts_once_even_after_the_end() -> None:
    intent = buy(1)
    book = ledger(approved(intent))
    assert book.apply(approved(intent)) is False
    book.apply(event(intent, S.CANCELED))
    assert book.apply(approved(intent)) is False
    assert book.live_orders == []


def test_an_order_whose_id_is_not_of_our_making_is_known_by_its_name() -> None:
    old, new = buy(1, client_id="by-hand-1"), buy(1, client_id="by-hand-2")
    book = ledger()
    assert [book.apply(approved(intent)) for intent in (old, new, old, new)] == [True, True, False, False]
    assert [record.intent for record in book.live_orders] == [old, new]
    assert [book.is_known(name) for name in ("by-hand-1", "by-hand-2", "by-hand-3")] == [True, True, False]


def test_a_cancel_is_requested_once_and_not_after_the_end() -> None:
    intent = buy(1)
    book = ledger(approved(intent))
    assert book.apply(cancel_requested(intent)) is True
    assert book.apply(cancel_requested(intent)) is False
    book.apply(event(intent, S.CANCELED))
    assert book.apply(cancel_requested(intent)) is False


def test_each_partial_fill_is_news_once() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.NEW))
    said = [event(intent, S.PARTIALLY_FILLED, filled) for filled in (3, 3, 5, 3)]
    assert [book.apply(fact) for fact in said] == [True, False, True, False]
    book.apply(event(intent, S.FILLED, 10))
    assert book.apply(event(intent, S.PARTIALLY_FILLED, 11)) is False


def test_the_same_steps_listed_again_are_no_news() -> None:
    book = ledger()
    assert book.apply(listed()) is False
    assert book.apply(listed(qty_lots_min=2)) is True


# --- late, early and contradicting news


def test_F10_an_acknowledgement_after_the_end_changes_nothing() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.CANCELED))
    before = state_of(book)
    for late in (S.NEW, S.UNKNOWN, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.FILLED, S.REJECTED):
        assert book.apply(event(intent, late, 3)) is False
    assert state_of(book) == before


def test_F12_a_fill_after_the_end_is_booked_and_flagged_and_the_end_stays() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.CANCELED, 4), fill(intent, 4))
    known = book.order(intent.client_id)
    assert known is not None
    assert not known.has_late_fill  # the exchange said that it would come
    assert isinstance(book.apply(fill(intent, 2, trade_id="f2")), m.FillBooked)
    known = book.order(intent.client_id)
    assert known is not None
    assert (known.state, known.filled_lots, known.has_late_fill) == (S.CANCELED, 6, True)
    assert book.positions[BTC].base_atoms == 6 * ATOMS


def test_F15_a_cancelled_order_leaves_what_was_filled_less_the_fee() -> None:
    intent = buy(10)
    book = ledger(approved(intent), fill(intent, 4, fee_atoms=ATOMS // 250), event(intent, S.PARTIALLY_CANCELED, 4))
    assert book.recovered(0).holdings == {"one": {BTC: 4 * ATOMS - ATOMS // 250}}


def test_F16_an_over_fill_is_money_and_is_booked() -> None:
    intent = buy(10)
    book = ledger(approved(intent), fill(intent, 8), fill(intent, 5, trade_id="f2"))
    assert book.positions[BTC].base_atoms == 13 * ATOMS
    assert book.order(intent.client_id) == msgspec.structs.replace(book.live_orders[0], filled_lots=13)


@pytest.mark.parametrize("change", [{"price_ticks": 101}, {"qty_lots": 5}, {"fee_atoms": 1}, {"fee_currency": "TRX"}])
def test_F18_a_trade_told_twice_and_differently_contradicts_what_is_booked(change: dict[str, Any]) -> None:
    intent = buy(10)
    book = ledger(approved(intent), fill(intent, 4))
    other = msgspec.structs.replace(fill(intent, 4), **change)
    assert book.apply(other) is False
    assert book.contradicts(other)
    assert not book.contradicts(fill(intent, 4, at_ns=NOW_NS + 1))
    assert not book.contradicts(fill(intent, 5, trade_id="f2"))
    assert book.positions[BTC].base_atoms == 4 * ATOMS


def test_F18_a_funding_told_twice_and_differently_contradicts_what_is_booked() -> None:
    book = perp_ledger((10, 100))
    assert not book.contradicts(funding(7))
    book.apply(funding(7))
    assert book.contradicts(funding(8))
    assert not book.contradicts(funding(7))


def test_F19_an_end_is_unsettled_until_all_the_fills_that_it_speaks_of_are_booked() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.NEW), fill(intent, 3), event(intent, S.CANCELED, 7))
    (owed,) = book.recovered(0).unsettled
    assert (owed.state, owed.filled_lots, owed.reported_lots) == (S.CANCELED, 3, 7)
    assert not book.is_quiet("spot")
    book.apply(fill(intent, 4, trade_id="f2"))
    assert book.recovered(0).unsettled == ()
    assert book.is_quiet("spot")


def test_F20_a_trade_with_an_earlier_id_is_booked_too() -> None:
    intent = buy(10)
    book = ledger(approved(intent), fill(intent, 4, trade_id="900"))
    assert isinstance(book.apply(fill(intent, 3, trade_id="899")), m.FillBooked)


def test_older_news_of_a_state_still_tells_of_fills() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.PENDING_CANCEL, 2))
    assert book.apply(event(intent, S.NEW, 5)) is True
    (record,) = book.live_orders
    assert (record.state, record.reported_lots) == (S.PENDING_CANCEL, 5)


def test_an_order_knows_when_it_was_submitted_and_a_booked_fill_when_it_was_made() -> None:
    intent = buy(10)
    book = ledger(approved(intent, at_ns=NOW_NS + 1))
    assert [record.submitted_ns for record in book.live_orders] == [NOW_NS + 1]
    booked = book.apply(fill(intent, 4, at_ns=NOW_NS + 2))
    assert isinstance(booked, m.FillBooked)
    assert booked.ts_ns == NOW_NS + 2


def test_an_order_in_doubt_stays_whole_and_comes_back_after_a_restart() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.UNKNOWN, order_id=""))
    (record,) = book.recovered(0).orders
    assert (record.state, record.leaves_lots) == (S.UNKNOWN, 10)
    book.apply(event(intent, S.NEVER_ACCEPTED, order_id=""))
    assert book.recovered(0).orders == ()


def test_fills_that_nobody_waits_for_any_more_are_late_when_they_come() -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, S.CANCELED, 7), fill(intent, 3))
    assert book.apply(event(intent, S.ABANDONED, 3)) is True
    assert book.apply(event(intent, S.ABANDONED, 3)) is False
    assert book.is_quiet("spot")
    book.apply(fill(intent, 4, trade_id="f2"))
    known = book.order(intent.client_id)
    assert known is not None
    assert (known.state, known.has_late_fill, known.filled_lots) == (S.CANCELED, True, 7)


@pytest.mark.parametrize(
    ("fact", "is_quiet"),
    [(S.SUBMITTED, False), (S.UNKNOWN, False), (S.NEW, True), (S.PENDING_CANCEL, True), (S.REJECTED, True)],
)
def test_a_wallet_is_quiet_when_every_order_has_an_answer(fact: OrderState, is_quiet: bool) -> None:
    intent = buy(10)
    book = ledger(approved(intent), event(intent, fact))
    assert book.is_quiet("spot") is is_quiet
    assert book.is_quiet("futures")


# --- orders that ended long ago


def test_a_repetition_of_an_old_fill_changes_nothing_and_a_foreign_one_still_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "FINISHED_KEPT", 3)
    old = buy(1)
    book = ledger(approved(old), fill(old, 1), event(old, S.FILLED, 1))
    for number in range(2, 9):
        for fact in ended(number):
            book.apply(fact)
    before = state_of(book)
    assert book.apply(fill(old, 1)) is False
    assert book.apply(event(old, S.FILLED, 1)) is False
    assert book.apply(approved(old)) is False
    assert state_of(book) == before
    with pytest.raises(UnknownOrder):
        book.apply(fill(buy(1, number=9), 1))
    with pytest.raises(UnknownOrder):
        book.apply(fill(buy(1, client_id=client_id(2, 1)), 1))


def test_the_newest_ends_are_kept_whole_and_of_older_ones_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "FINISHED_KEPT", 3)
    book = ledger()
    for number in range(1, 6):
        for fact in ended(number):
            book.apply(fact)
    names = [client_id(1, number) for number in range(1, 7)]
    assert [book.order(name) is not None for name in names] == [False, False, True, True, True, False]
    assert [book.is_known(name) for name in names] == [True] * 5 + [False]


def test_the_last_order_is_known_when_nothing_of_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "FINISHED_KEPT", 0)
    book = ledger(*ended(1))
    assert (book.order(buy(1).client_id), book.is_known(buy(1).client_id)) == (None, True)
    assert book.apply(approved(buy(1))) is False


def test_an_order_whose_fills_are_still_to_come_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "FINISHED_KEPT", 3)
    late = buy(1)
    book = ledger(*ended(1, filled=1))
    for number in range(2, 9):
        for fact in ended(number):
            book.apply(fact)
    assert isinstance(book.apply(fill(late, 1)), m.FillBooked)


# --- sessions


def test_before_its_first_session_a_ledger_holds_nothing() -> None:
    book = Ledger()
    assert (book.cash_atoms, book.futures_cash_atoms) == (0, None)
    assert (book.epoch, book.quote, book.is_complete) == (0, "", False)


def test_only_the_first_session_brings_cash() -> None:
    book = ledger(m.SessionEnded(ts_ns=0, reason="", is_complete=True))
    assert book.is_complete
    book.apply(session(cash=99, epoch=2))
    assert (book.cash_atoms, book.epoch, book.is_complete) == (10_000 * ATOMS, 2, False)


def test_what_a_session_must_know() -> None:
    marked = m.EquityMarked(ts_ns=1, equity_atoms=5, peak_atoms=6, day=7, day_start_atoms=8)
    changed = m.RiskStateChanged(ts_ns=1, state=m.RiskState.HALTED, cause="drawdown", detail="")
    gone, intent = buy(1), buy(10, number=2)
    book = ledger(approved(gone), event(gone, S.REJECTED), approved(intent), event(intent, S.NEW), fill(intent, 4))
    for fact in (cancel_requested(intent), marked, changed):
        book.apply(fact)
    known = book.recovered(77)
    (record,) = known.orders
    assert (record.filled_lots, record.state, record.order_id) == (4, S.NEW, "e1")
    assert record.is_cancel_requested
    assert (known.ts_ns, known.epoch, known.quote, known.cash_atoms) == (77, 1, "USDT", 9_600 * ATOMS)
    assert (known.risk_state, known.risk_cause, known.equity) == (m.RiskState.HALTED, "drawdown", marked)
    assert known.latches == (changed,)


def test_every_closed_latch_is_told_to_the_next_session_oldest_first() -> None:
    def latch(state: m.RiskState, cause: str, scope: str = "") -> m.RiskStateChanged:
        return m.RiskStateChanged(ts_ns=NOW_NS, state=state, cause=cause, detail="", scope=scope)

    halted, reduced, normal = m.RiskState.HALTED, m.RiskState.REDUCE_ONLY, m.RiskState.NORMAL
    here, first, second = latch(halted, "loss", f"symbol:{BTC}"), latch(reduced, "clock"), latch(reduced, "load")
    book = ledger(second, first, here, second)
    assert book.recovered(0).latches == (first, here, second)
    assert book.risk_state is reduced  # what holds for one symbol is no state of everything
    book.apply(latch(normal, "clock"))
    assert (book.recovered(0).latches, book.risk_cause) == ((here, second), "load")
    book.apply(latch(normal, "operator"))
    assert (book.recovered(0).latches, book.risk_state, book.risk_cause) == ((), normal, "")


# --- wallets

PERP = "BTC_USDT_PERP"


def wallets(*facts: m.Journalled, futures: int | None = 4_000) -> Ledger:
    """Return a ledger of 10,000 in cash, with a spot market, a perpetual, and then `facts`."""
    book = Ledger()
    started = msgspec.structs.replace(session(), futures_cash_atoms=None if futures is None else futures * ATOMS)
    for fact in (started, listed(), listed(PERP, is_perp=True), *facts):
        book.apply(fact)
    return book


def flow(currency: str, whole: int, wallet: m.Wallet = "spot") -> m.ExternalFlow:
    return m.ExternalFlow(ts_ns=NOW_NS, wallet=wallet, currency=currency, atoms=whole * ATOMS, reason="")


def cash_of(book: Ledger) -> tuple[int, int | None]:
    """Return all cash, and that of the futures wallet, in whole units."""
    futures = book.futures_cash_atoms
    return book.cash_atoms // ATOMS, None if futures is None else futures // ATOMS


def test_each_wallet_pays_for_its_own_markets() -> None:
    spot, perp, back = buy(2), buy(5, number=2, symbol=PERP), sell(5, number=3, symbol=PERP)
    book = wallets(*map(approved, (spot, perp, back)), fill(spot, 2, 100))
    assert cash_of(book) == (9_800, 4_000)
    for fact in (fill(perp, 5, 100, fee_atoms=ATOMS), fill(back, 5, 110, fee_atoms=ATOMS)):
        book.apply(fact)
    assert cash_of(book) == (9_848, 4_048)
    book.apply(funding(7, symbol=PERP))
    assert cash_of(book) == (9_841, 4_041)


def test_a_liquidation_is_paid_out_of_the_futures_wallet_and_takes_foreign_contracts_along() -> None:
    perp = buy(5, symbol=PERP)
    book = wallets(approved(perp), fill(perp, 5, 100), flow(PERP, 3, "futures"), liquidated(-5, 60, symbol=PERP))
    assert cash_of(book) == (9_800, 3_800)
    assert book.external["futures"] == {}


def test_one_wallet_for_everything_has_no_part() -> None:
    perp = buy(5, symbol=PERP)
    book = wallets(approved(perp), fill(perp, 5, 100, fee_atoms=ATOMS), flow("USDT", 9, "futures"), futures=None)
    assert cash_of(book) == (10_008, None)


def test_fills_and_recoveries_tell_both_wallets() -> None:
    perp = buy(5, symbol=PERP)
    book = wallets(approved(perp))
    booked = book.apply(fill(perp, 5, 100, fee_atoms=ATOMS))
    assert isinstance(booked, m.FillBooked)
    known = book.recovered(0)
    assert (booked.cash_atoms, booked.futures_cash_atoms) == (known.cash_atoms, known.futures_cash_atoms)
    assert cash_of(book) == (9_999, 3_999)


def test_F74_a_deposit_is_cash_and_a_coin_that_came_is_nobody_s() -> None:
    book = wallets(flow("USDT", 100), flow("USDT", -30, "futures"), flow("BTC", 2), flow("TRX", 1), flow("TRX", -1))
    assert cash_of(book) == (10_070, 3_970)
    known = book.recovered(0)
    assert (known.holdings, known.external) == ({}, {"spot": {"BTC": 2 * ATOMS}})


def test_F74_baselines_are_recovered_with_what_came_from_outside_since_they_were_marked() -> None:
    marked = m.EquityMarked(ts_ns=1, equity_atoms=50, peak_atoms=60, day=7, day_start_atoms=40, external_atoms=0)
    book = wallets(flow("USDT", 1), flow("BTC", 1), marked)
    assert book.recovered(0).equity == m.EquityMarked(
        ts_ns=1,
        equity_atoms=50 + ATOMS,
        peak_atoms=60 + ATOMS,
        day=7,
        day_start_atoms=40 + ATOMS,
        external_atoms=ATOMS,
    )
    book.apply(msgspec.structs.replace(marked, external_atoms=ATOMS))
    assert book.recovered(0).equity == msgspec.structs.replace(marked, external_atoms=ATOMS)


def test_F74_only_what_came_after_a_mark_shifts_its_baselines_and_all_of_it() -> None:
    marked = m.EquityMarked(ts_ns=1, equity_atoms=50, peak_atoms=60, day=7, day_start_atoms=40, external_atoms=ATOMS)
    came = flow("USDT", 1), marked, flow("TRX", 500), flow("USDT", 2), flow("USDT", 4, "futures")
    known = wallets(*came).recovered(0).equity
    assert known is not None
    shifted = known.equity_atoms, known.peak_atoms, known.day_start_atoms, known.external_atoms
    assert shifted == (50 + 6 * ATOMS, 60 + 6 * ATOMS, 40 + 6 * ATOMS, 7 * ATOMS)


@pytest.mark.parametrize(
    ("fee_currency", "cash", "coins", "external"),
    [
        ("", -1_000, 9, {}),
        ("BTC", -1_000, 9, {}),
        ("USDT", -1_001, 10, {}),
        ("TRX", -1_000, 10, {"TRX": -ATOMS}),
    ],
)
def test_F64_a_fee_is_taken_from_the_coin_that_it_is_in(
    fee_currency: str, cash: int, coins: int, external: dict[str, int]
) -> None:
    intent = buy(10)
    book = wallets(
        approved(intent), msgspec.structs.replace(fill(intent, 10, fee_atoms=ATOMS), fee_currency=fee_currency)
    )
    assert (book.cash_atoms, book.positions[BTC].base_atoms) == ((10_000 + cash) * ATOMS, coins * ATOMS)
    assert book.external["spot"] == external


def test_F64_a_perpetual_s_fee_in_its_base_coin_is_a_third_coin_of_the_futures_wallet() -> None:
    intent = buy(10, symbol=PERP)
    book = wallets(approved(intent), msgspec.structs.replace(fill(intent, 10, fee_atoms=ATOMS), fee_currency="BTC"))
    assert cash_of(book) == (10_000, 4_000)
    assert (book.external["futures"], book.positions[PERP].base_atoms) == ({"BTC": -ATOMS}, 10 * ATOMS)


def test_F64_a_rebate_is_a_fee_below_nothing() -> None:
    intent = buy(10)
    rebate = msgspec.structs.replace(fill(intent, 10, fee_atoms=-ATOMS), fee_currency="USDT")
    assert wallets(approved(intent), rebate).cash_atoms == 9_001 * ATOMS


# --- laws

steps = st.lists(
    st.tuples(
        st.sampled_from(["approve", "fill", "cancel", *S]),
        st.integers(0, 7),
        st.integers(1, 5),
        st.integers(50, 150),
        st.integers(0, 20_000),
    ),
    max_size=40,
)


def facts_of(script: list[tuple[str, int, int, int, int]]) -> list[m.Journalled]:
    """Return facts about eight orders, four of them buys, in an order that an exchange might never have."""
    facts: list[m.Journalled] = [session(cash=10**6), listed(), listed(ETH)]
    # Something to sell, so that no position goes below nothing.
    first = buy(1_000)
    facts += [approved(first), fill(first, 1_000, 10), fill(first, 1_000, 10)]
    orders: dict[int, OrderIntent] = {}
    for verb, number, qty, price, ppm in script:
        is_new = number not in orders
        if is_new:
            orders[number] = (buy if number % 2 else sell)(20, number=len(orders) + 2)
        intent = orders[number]
        if verb == "approve" or is_new:
            facts.append(approved(intent))
        elif verb == "fill":
            received = qty if intent.side is Side.BUY else qty * price
            facts.append(
                fill(intent, qty, price, fee_atoms=fee_atoms(received * ATOMS, ppm), trade_id=f"{number}.{price}")
            )
        elif verb == "cancel":
            facts.append(cancel_requested(intent))
        else:
            facts.append(event(intent, OrderState(verb), qty))
    return facts


@given(steps)
def test_applying_any_fact_twice_changes_nothing(script: list[tuple[str, int, int, int, int]]) -> None:
    facts = facts_of(script)
    once, twice = Ledger(), Ledger()
    for fact in facts:
        once.apply(fact)
        twice.apply(fact)
        before = state_of(twice)
        again = twice.apply(fact)
        assert state_of(twice) == before
        assert not isinstance(again, m.FillBooked)
        assert state_of(once) == state_of(twice)
    for fact in facts:
        if isinstance(fact, m.Fill | m.OrderApproved):
            assert once.apply(fact) is False


@given(steps)
def test_what_changed_nothing_need_not_be_written(script: list[tuple[str, int, int, int, int]]) -> None:
    live, replayed = Ledger(), Ledger()
    for fact in facts_of(script):
        if live.apply(fact):
            replayed.apply(fact)
    assert state_of(live) == state_of(replayed)


@given(steps, st.integers(1, 1_000))
def test_equity_is_cash_and_positions_and_money_only_moves(
    script: list[tuple[str, int, int, int, int]], mark: int
) -> None:
    book, fees = Ledger(), 0
    traded = base = 0
    for fact in facts_of(script):
        booked = book.apply(fact)
        if isinstance(booked, m.FillBooked):
            filled = booked.fill
            traded += -filled.side.sign * filled.qty_lots * filled.price_ticks * ATOMS
            base += filled.side.sign * filled.qty_lots * ATOMS
            if filled.side is Side.BUY:
                base -= filled.fee_atoms
            else:
                fees += filled.fee_atoms
    assert book.cash_atoms == 10**6 * ATOMS + traded - fees
    assert book.positions[BTC].base_atoms == base
    assert sum(held.get(BTC, 0) for held in book.holdings.values()) == base
    # Profit, realised and not, is all that equity ever gained.
    position = book.positions[BTC]
    value = book.instruments[BTC].value_atoms(base, mark)
    equity = book.cash_atoms + value
    assert equity == 10**6 * ATOMS + position.realised_atoms + value - position.cost_atoms


trades = st.lists(
    st.tuples(
        st.sampled_from([BTC, ETH, PERP]),
        st.sampled_from(Side),
        st.integers(1, 9),
        st.integers(50, 150),
        st.integers(-5, 20),
        st.sampled_from(["", "BTC", "ETH", "USDT", "TRX"]),
        st.sampled_from(["fill", "fill", "fill", "fill twice", "funding", "flow"]),
    ),
    max_size=30,
)
Trade = tuple[str, Side, int, int, int, str, str]
MARKETS = {BTC: {}, ETH: {"quote_fee_ppm": 2_000}, PERP: {"is_perp": True}}
STOCK = 1_000
"""Coins of each spot market to begin with, so that nothing is sold that is not there."""


def traded(script: list[Trade]) -> tuple[Ledger, list[m.Fill], dict[str, int], dict[str, int]]:
    """Return a ledger that went through `script`; its fills; and beside it what each coin and each fund moved.

    Coins are `COIN` of the spot wallet and `futures:COIN`; perpetuals are followed in flow form: their whole notional
    leaves the wallet, and `futures:USDT` is cash less what open positions cost.
    """
    book = wallets(*(listed(symbol, **steps) for symbol, steps in MARKETS.items()))
    moved, funds = {"USDT": 6_000 * ATOMS, "futures:USDT": 4_000 * ATOMS}, dict[str, int]()
    fills: list[m.Fill] = []

    def move(coin: str, atoms: int) -> None:
        moved[coin] = moved.get(coin, 0) + atoms

    first = [(symbol, Side.BUY, STOCK, 1, 0, "", "fill") for symbol in (BTC, ETH)]
    for number, (symbol, side, lots, price, fee, fee_currency, verb) in enumerate([*first, *script], start=1):
        wallet, place = ("futures", "futures:") if symbol == PERP else ("spot", "")
        if verb == "flow":
            coin = fee_currency or "TRX"
            book.apply(flow(coin, fee, wallet))
            move(f"{place}{coin}", fee * ATOMS)
            continue
        if verb == "funding":
            for _ in range(2):
                book.apply(funding(fee, symbol=PERP, at_ns=NOW_NS + number))
            move("futures:USDT", -fee * ATOMS)
            funds[PERP] = funds.get(PERP, 0) - fee * ATOMS
            continue
        intent = (
            buy(lots, number=number, symbol=symbol) if side is Side.BUY else sell(lots, number=number, symbol=symbol)
        )
        done = msgspec.structs.replace(
            fill(intent, lots, price, fee_atoms=fee * ATOMS // 100, trade_id=str(number)), fee_currency=fee_currency
        )
        book.apply(approved(intent))
        for _ in range(1 + (verb == "fill twice")):
            book.apply(done)
        fills.append(done)
        base = symbol.partition("_")[0]
        coin = fee_currency or ("USDT" if side is Side.SELL or symbol != BTC else "BTC")
        if symbol != PERP:
            move(base, side.sign * lots * ATOMS)
        move(f"{place}USDT", -side.sign * lots * price * ATOMS)
        move(f"{place}{coin}", -done.fee_atoms)
    return book, fills, moved, funds


@given(trades)
def test_L1_every_coin_is_what_it_was_and_what_moved(script: list[Trade]) -> None:
    book, _, moved, _ = traded(script)
    spot = {"USDT": book.cash_atoms - (book.futures_cash_atoms or 0)}
    for coin in ("BTC", "ETH", "TRX"):
        position = book.positions.get(f"{coin}_USDT", Position())
        spot[coin] = position.base_atoms + book.external["spot"].get(coin, 0)
    assert spot == {coin: moved.get(coin, 0) for coin in spot}
    assert book.external["futures"] == {
        coin: moved[f"futures:{coin}"] for coin in ("BTC", "ETH", "TRX") if moved.get(f"futures:{coin}")
    }


@given(trades)
def test_L3_a_perpetual_is_the_sum_of_its_fills_and_a_reduction_leaves_its_average_price(script: list[Trade]) -> None:
    _, fills, _, _ = traded(script)
    instrument = listed(PERP, is_perp=True).instrument
    position, lots = Position(), 0
    for each in fills:
        if each.symbol != PERP:
            continue
        before = replace(position)
        position.book(instrument, each.side, each.price_ticks, each.qty_lots, each.fee_atoms, each.fee_currency)
        lots_before, lots = lots, lots + each.side.sign * each.qty_lots
        assert position.base_atoms == lots * ATOMS
        if lots == 0:
            assert position.cost_atoms == 0
        elif lots * lots_before > 0 and abs(lots) < abs(lots_before):  # to the atom in which a share is rounded
            assert abs(position.cost_atoms * lots_before - before.cost_atoms * lots) < abs(lots_before)
        elif lots * lots_before <= 0:  # opened, or turned round: all of it at this price
            assert position.cost_atoms == lots * each.price_ticks * ATOMS


@given(trades, st.integers(1, 1_000))
def test_L4_equity_gains_only_what_prices_fees_funding_and_flows_say(script: list[Trade], mark: int) -> None:
    book, _, moved, _ = traded(script)
    perp = book.positions.get(PERP, Position())
    instrument = book.instruments[PERP]
    futures = (book.futures_cash_atoms or 0) - perp.cost_atoms + instrument.value_atoms(perp.base_atoms, mark)
    assert futures == moved["futures:USDT"] + perp.base_atoms * mark
    spot = sum(book.positions[symbol].base_atoms * mark for symbol in (BTC, ETH))
    assert book.cash_atoms - (book.futures_cash_atoms or 0) + spot == moved["USDT"] + spot
    assert book.cash_atoms == moved["USDT"] + moved["futures:USDT"] + perp.cost_atoms


@given(trades)
def test_L7_the_profit_of_a_symbol_is_made_of_its_own_fills_and_funding(script: list[Trade]) -> None:
    book, fills, _, funds = traded(script)
    for symbol, position in book.positions.items():
        alone = Position(realised_atoms=funds.get(symbol, 0))
        for each in fills:
            if each.symbol == symbol:
                instrument = book.instruments[symbol]
                alone.book(instrument, each.side, each.price_ticks, each.qty_lots, each.fee_atoms, each.fee_currency)
        assert position == alone


@given(trades)
def test_L5_funding_is_kept_by_its_time_however_often_it_is_told(script: list[Trade]) -> None:
    book, _, _, funds = traded(script)
    again = [fact for fact in script if fact[-1] == "funding"]
    before = state_of(book)
    for number, fact in enumerate([*([None] * 2), *script], start=1):
        if fact is not None and fact[-1] == "funding":
            assert book.apply(funding(fact[4], symbol=PERP, at_ns=NOW_NS + number)) is False
    assert state_of(book) == before
    assert funds.get(PERP, 0) == -sum(fact[4] for fact in again) * ATOMS


reports = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(OrderState), st.integers(0, 12)),
        st.tuples(st.just("fill"), st.integers(1, 6), st.integers(1, 4)),
    ),
    max_size=25,
)


@given(reports)
def test_in_any_order_of_news_an_end_stays_fills_only_grow_and_each_counts_once(script: list[Any]) -> None:
    intent = buy(10)
    book = ledger(approved(intent))
    booked: dict[str, int] = {}
    for kind, first, second in script:
        before = book.order(intent.client_id)
        assert before is not None
        if kind == "event":
            book.apply(event(intent, first, second))
        else:
            said = book.apply(fill(intent, second, trade_id=str(first)))
            assert isinstance(said, m.FillBooked) is (str(first) not in booked)
            booked.setdefault(str(first), second)
        after = book.order(intent.client_id)
        assert after is not None
        assert after.state is before.state or not before.state.is_final
        assert after.filled_lots == sum(booked.values())
        assert after.reported_lots >= before.reported_lots or first is S.ABANDONED
        is_living, is_owed = not after.state.is_final, after.state.is_final and not after.is_settled
        assert [order.intent for order in book.live_orders] == [intent] * is_living
        assert [order.intent for order in book.unsettled_orders] == [intent] * is_owed
    assert book.positions.get(BTC, Position()).base_atoms == sum(booked.values()) * ATOMS
