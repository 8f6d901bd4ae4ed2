"""The ledger: state is what replaying the journal gives, and no fact counts twice."""

from __future__ import annotations

from collections.abc import Iterator
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


def test_funding_is_paid_out_of_cash_once_for_each_time() -> None:
    book = perp_ledger((10, 100))
    said = [funding(7), funding(7), funding(-3, at_ns=NOW_NS + 1), funding(9)]
    assert [book.apply(fact) for fact in said] == [True, False, True, False]
    assert book.cash_atoms == (10_000 - 7 + 3) * ATOMS
    assert book.positions[BTC].realised_atoms == -4 * ATOMS


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


def test_dust_has_no_entry_and_the_next_buy_opens_anew() -> None:
    book = ledger(approved(buy(10)), fill(buy(10), 10, 100, fee_atoms=ATOMS // 100), approved(sell(9, number=2)))
    book.apply(fill(sell(9, number=2), 9, 120))
    assert book.positions[BTC].base_atoms == 99 * ATOMS // 100
    assert book.recovered(0).entries == {"one": {}}
    book.apply(approved(buy(5, number=3)))
    book.apply(fill(buy(5, number=3), 5, 130))
    assert book.recovered(0).entries == {"one": {BTC: 130}}


# --- exactly once


def test_a_fill_counts_once_by_its_full_name() -> None:
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


def test_an_order_whose_fills_are_still_to_come_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "FINISHED_KEPT", 3)
    late = buy(1)
    book = ledger(*ended(1, filled=1))
    for number in range(2, 9):
        for fact in ended(number):
            book.apply(fact)
    assert isinstance(book.apply(fill(late, 1)), m.FillBooked)


# --- sessions


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
