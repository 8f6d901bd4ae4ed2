"""What the exchange's largest orders (C6) and its post-only mode (C21) do to growth, exits and guards."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.messages import SECOND_NS, DenyReason
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import RiskGate
from tests.support.builders import (
    BTC,
    NOW_NS,
    all_of,
    book_fill,
    command,
    event,
    instrument,
    listed,
    only,
    quote,
    recovered,
    risk_gate,
    say,
    signal,
    tick,
)

S = OrderState
D = DenyReason
WIDE: dict[str, Any] = {"max_position_bps": 10**6, "max_gross_bps": 10**6, "leverage": 5}


def holder(lots: int, *before: m.AnyMessage, is_perp: bool = False, **bounds: Any) -> RiskGate:
    """Return a gate whose strategy `one` holds `lots`."""
    costs: dict[str, Any] = {"costs": {BTC: lots * 100 * ATOMS}} if is_perp else {}
    known = recovered(cash=100_000, held={"one": {BTC: lots}}, **costs)
    return risk_gate(*before, known=known, **{**WIDE, **bounds})


def ordered(said: list[m.AnyMessage]) -> list[OrderIntent]:
    return [each.intent for each in all_of(said, m.OrderApproved)]


def sizes(said: list[m.AnyMessage]) -> list[tuple[Side, int]]:
    return [(each.side, each.qty_lots) for each in ordered(said)]


def reasons(said: list[m.AnyMessage]) -> list[DenyReason]:
    return [each.reason for each in all_of(said, m.OrderDenied)]


def fill_all(gate: RiskGate, intent: OrderIntent) -> list[m.AnyMessage]:
    """Fill an order and end it; return what the gate says to that."""
    return say(gate, book_fill(gate, intent, intent.qty_lots), event(intent, S.FILLED, intent.qty_lots))


def fill_on(gate: RiskGate, said: list[m.AnyMessage]) -> list[tuple[Side, int]]:
    """Fill each order that comes, until none does; return them."""
    came: list[tuple[Side, int]] = []
    while intents := ordered(said):
        (intent,) = intents
        came.append((intent.side, intent.qty_lots))
        said = fill_all(gate, intent)
    return came


# --- C6: the bounds


def test_an_instrument_of_an_older_journal_has_no_bounds_and_no_mode() -> None:
    old = msgspec.to_builtins(instrument())
    for name in ("is_post_only", "limit_lots_max", "market_lots_max", "notional_atoms_max"):
        del old[name]
    read = msgspec.convert(old, Instrument)
    assert read == instrument()
    assert (read.lots_max(None), read.lots_max(100), read.is_post_only) == (None, None, False)


@pytest.mark.parametrize(
    ("bounds", "price_ticks", "lots"),
    [
        ({"limit_lots_max": 7}, 100, 7),
        ({"limit_lots_max": 7}, None, None),
        ({"market_lots_max": 3}, 100, None),
        ({"market_lots_max": 3}, None, 3),
        ({"notional_atoms_max": 599 * ATOMS}, 100, 5),
        ({"notional_atoms_max": 599 * ATOMS}, None, None),
        ({"notional_atoms_max": 599 * ATOMS, "limit_lots_max": 4}, 100, 4),
        ({"notional_atoms_max": 99 * ATOMS}, 100, 1),
    ],
)
def test_the_largest_order_goes_by_its_price(bounds: dict[str, Any], price_ticks: int | None, lots: int | None) -> None:
    assert instrument(**bounds).lots_max(price_ticks) == lots


@pytest.mark.parametrize(
    ("bounds", "wish", "detail"),
    [
        ({"market_lots_max": 9}, signal(10), "quantity 10 > maximum 9"),
        ({"limit_lots_max": 9}, signal(10, is_passive=True), "quantity 10 > maximum 9"),
        ({"limit_lots_max": 9}, signal(10, limit_ticks=99), "quantity 10 > maximum 9"),
        ({"notional_atoms_max": 989 * ATOMS}, signal(10, limit_ticks=99), "quantity 10 > maximum 9"),
        # The ask is 101, and the collar lets a market order go 3 ticks beyond it.
        ({"notional_atoms_max": 1_039 * ATOMS}, signal(10), "value 1040 > maximum 1039"),
        ({"notional_atoms_max": 999 * ATOMS}, signal(10, amount_atoms=1_000 * ATOMS), "value 1000 > maximum 999"),
    ],
)
def test_C6_growth_beyond_the_largest_order_is_refused_and_at_it_let_through(
    bounds: dict[str, Any], wish: m.Signal, detail: str
) -> None:
    denied = only(say(risk_gate(listed(**bounds)), wish), m.OrderDenied)
    assert (denied.reason, detail in denied.detail) == (D.MAX_QTY, True)
    ((name, bound),) = bounds.items()
    wider: dict[str, Any] = {name: bound + (ATOMS if name == "notional_atoms_max" else 1)}
    (intent,) = ordered(say(risk_gate(listed(**wider)), wish))
    assert (intent.side, intent.qty_lots) == (Side.BUY, 20 if wish.amount_atoms else 10)


@pytest.mark.parametrize("is_perp", [False, True])
def test_C6_an_exit_larger_than_the_largest_order_goes_in_parts(is_perp: bool) -> None:
    gate = holder(25, listed(market_lots_max=10, is_perp=is_perp), is_perp=is_perp)
    assert fill_on(gate, say(gate, signal(0))) == [(Side.SELL, 10), (Side.SELL, 10), (Side.SELL, 5)]
    assert gate.account.held["one", BTC] == 0
    assert gate._parts == set()


def test_C6_a_passive_exit_goes_in_parts_of_the_largest_limit_and_value() -> None:
    gate = holder(25, listed(limit_lots_max=20, notional_atoms_max=1_100 * ATOMS, market_lots_max=3))
    came = fill_on(gate, say(gate, signal(5, is_passive=True)))
    assert came == [(Side.SELL, 10), (Side.SELL, 10)]  # at the ask, 101


def test_C6_a_part_that_was_not_filled_is_not_followed_before_the_next_bar() -> None:
    gate = holder(25, listed(market_lots_max=10))
    (intent,) = ordered(say(gate, signal(0)))
    assert say(gate, book_fill(gate, intent, 4), event(intent, S.PARTIALLY_CANCELED, 4)) == []
    assert gate._parts == set()
    assert sizes(say(gate, signal(0))) == [(Side.SELL, 10)]


def test_C6_of_a_turn_round_that_is_too_large_the_part_that_closes_is_sent() -> None:
    gate = holder(8, listed(market_lots_max=5, is_perp=True), is_perp=True)
    said = say(gate, signal(-4))
    assert reasons(said) == [D.MAX_QTY]
    assert fill_on(gate, said) == [(Side.SELL, 5), (Side.SELL, 3)]
    assert fill_on(gate, say(gate, signal(-4))) == [(Side.SELL, 4)]


def test_C6_all_is_closed_in_parts_while_flattening() -> None:
    gate = holder(25, listed(market_lots_max=10))
    assert fill_on(gate, say(gate, command("flatten"))) == [(Side.SELL, 10), (Side.SELL, 10), (Side.SELL, 5)]


def test_C6_a_guard_stands_for_the_largest_order_and_the_next_follows_it() -> None:
    wish = signal(25, stop_ticks=90)
    gate = holder(25, listed(market_lots_max=10))
    (stop,) = ordered(say(gate, wish))
    assert (stop.role, stop.qty_lots, stop.trigger_ticks) == ("stop", 10, 90)
    assert say(gate, wish) == []
    # What is left of it keeps its place.
    assert say(gate, book_fill(gate, stop, 4), wish) == []
    (second,) = ordered(say(gate, book_fill(gate, stop, 6), event(stop, S.FILLED, 10)))
    assert (second.role, second.qty_lots, second.trigger_ticks) == ("stop", 10, 90)
    (third,) = ordered(fill_all(gate, second))
    assert (third.role, third.qty_lots) == ("stop", 5)
    assert ordered(fill_all(gate, third)) == []


def test_C6_stop_and_target_have_their_own_bounds() -> None:
    gate = holder(25, listed(market_lots_max=10, limit_lots_max=22, notional_atoms_max=2_400 * ATOMS))
    assert sizes(say(gate, signal(25, stop_ticks=90, profit_ticks=120))) == [(Side.SELL, 10), (Side.SELL, 20)]


def test_C6_a_guard_grows_with_the_largest_order() -> None:
    gate = holder(25, listed(market_lots_max=10))
    (stop,) = ordered(say(gate, signal(25, stop_ticks=90)))
    said = say(gate, listed(market_lots_max=20), signal(25, stop_ticks=90))
    assert [each.client_id for each in all_of(said, m.CancelRequested)] == [stop.client_id]
    assert sizes(say(gate, event(stop, S.CANCELED))) == [(Side.SELL, 20)]


# --- C21: post-only mode

POST_ONLY = listed(is_post_only=True)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (signal(10), D.SYMBOL_MODE),
        (signal(10, limit_ticks=99), D.SYMBOL_MODE),
        (signal(10, amount_atoms=1_000 * ATOMS), D.SYMBOL_MODE),
        (signal(10, is_passive=True), None),
    ],
)
def test_C21_in_post_only_mode_only_makers_make_a_position_larger(wish: m.Signal, code: DenyReason | None) -> None:
    said = say(risk_gate(POST_ONLY), wish)
    assert (reasons(said), len(ordered(said))) == (([code], 0) if code else ([], 1))


def test_C21_an_exit_that_would_take_waits_for_the_end_of_post_only_mode() -> None:
    gate = holder(10, POST_ONLY)
    assert reasons(say(gate, signal(0))) == [D.SYMBOL_MODE]
    assert say(gate, signal(0)) == []
    assert sizes(say(gate, signal(0, is_passive=True))) == [(Side.SELL, 10)]
    again = holder(10, POST_ONLY, signal(0), listed())
    assert sizes(say(again, signal(0))) == [(Side.SELL, 10)]


def test_C21_flattening_goes_on_with_the_first_tick_after_post_only_mode() -> None:
    gate = holder(10, POST_ONLY)
    said = say(gate, command("flatten"), tick(NOW_NS + SECOND_NS))
    assert (reasons(said), ordered(said)) == ([D.SYMBOL_MODE], [])
    assert sizes(say(gate, listed(), tick(NOW_NS + 2 * SECOND_NS))) == [(Side.SELL, 10)]


@pytest.mark.parametrize("change", [{"is_post_only": True}, {"is_open": False}])
@pytest.mark.parametrize("is_perp", [False, True])
def test_C21_guards_stay_where_neither_an_exit_nor_they_would_be_taken(change: dict[str, Any], is_perp: bool) -> None:
    gate = holder(10, listed(is_perp=is_perp), is_perp=is_perp)
    guards = ordered(say(gate, signal(10, stop_ticks=90, profit_ticks=120)))
    said = say(gate, listed(is_perp=is_perp, **change), signal(4, stop_ticks=90, profit_ticks=120))
    assert not [each for each in all_of(said, m.CancelRequested) if each.reason.startswith("makes way")]
    assert ordered(said) == []
    said = say(gate, listed(is_perp=is_perp), signal(4, stop_ticks=90, profit_ticks=120))
    assert {each.client_id for each in all_of(said, m.CancelRequested)} == {each.client_id for each in guards}


def test_C21_a_guard_is_not_placed_in_post_only_mode_but_after_it() -> None:
    gate = holder(10, POST_ONLY)
    said = say(gate, signal(10, stop_ticks=90))
    assert (reasons(said), ordered(said)) == ([D.SYMBOL_MODE], [])
    (stop,) = ordered(say(gate, listed(), quote(), signal(10, stop_ticks=90)))
    assert (stop.role, stop.qty_lots) == ("stop", 10)
