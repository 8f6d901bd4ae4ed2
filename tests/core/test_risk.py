"""The risk gate: what it lets through, what it keeps reserved, and what makes it close."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS, DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import DAY_NS, OrderRate, RiskGate, money
from tests.support.builders import (
    BTC,
    ETH,
    MS_NS,
    NOW_NS,
    all_of,
    book_fill,
    book_lost,
    buy,
    command,
    event,
    funding,
    limits,
    liquidated,
    listed,
    only,
    quote,
    record,
    recovered,
    risk_gate,
    say,
    sell,
    signal,
    tick,
)

S = OrderState
TODAY = NOW_NS // DAY_NS


def ordered(outputs: list[m.AnyMessage]) -> OrderIntent:
    """Return the one order that was approved."""
    return only(outputs, m.OrderApproved).intent


def denied(outputs: list[m.AnyMessage]) -> tuple[DenyReason, str]:
    """Return the one refusal: its reason and its detail."""
    refusal = only(outputs, m.OrderDenied)
    return refusal.reason, refusal.detail


def cancelled(outputs: list[m.AnyMessage]) -> list[str]:
    return [cancel.client_id for cancel in all_of(outputs, m.CancelRequested)]


def owner(lots: int = 10, **changes: Any) -> m.Recovered:
    """Return what a journal says where strategy `one` holds coins; equity is 10,000 at a price of 100."""
    return recovered(cash=10_000 - lots * 100, held={"one": {BTC: lots}}, **changes)


def filled(gate: RiskGate, intent: OrderIntent, qty: int, price: int = 100, fee_atoms: int = 0) -> list[m.AnyMessage]:
    return say(gate, book_fill(gate, intent, qty, price, fee_atoms))


def worth(equity: int) -> m.Quote:
    """Return the quote at which the owner of 100 lots and no cash is worth `equity`, a multiple of 100."""
    return quote(equity // 100 - 1, equity // 100 + 1)


def all_in(**bounds: Any) -> RiskGate:
    """Return a gate with 100 lots, no cash and 10,000 of equity."""
    return risk_gate(known=owner(100), **bounds)


# --- from a wish to an order


def test_a_wish_becomes_a_market_order_whose_worst_case_is_reserved() -> None:
    gate = risk_gate(collar_bps=200)
    intent = ordered(say(gate, signal(10)))
    assert (intent.side, intent.qty_lots, intent.order_type, intent.time_in_force) == (Side.BUY, 10, "MARKET", "IOC")
    assert intent.price_ticks is None
    assert intent.reserved_atoms == 10 * 104 * ATOMS  # the ask of 101 and 2 %, rounded up
    assert gate.account.free_atoms == (10_000 - 1_040) * ATOMS


def test_a_passive_wish_joins_the_queue_on_its_own_side() -> None:
    intent = ordered(say(risk_gate(), signal(10, is_passive=True)))
    assert (intent.order_type, intent.time_in_force, intent.price_ticks) == ("LIMIT_MAKER", "GTC", 99)
    assert intent.reserved_atoms == 990 * ATOMS
    sold = ordered(say(risk_gate(known=owner()), signal(0, is_passive=True)))
    assert (sold.price_ticks, sold.reserved_atoms) == (101, 0)


@pytest.mark.parametrize(
    ("held", "target", "side", "qty"),
    [(0, 10, Side.BUY, 10), (4, 10, Side.BUY, 6), (10, 4, Side.SELL, 6), (10, 0, Side.SELL, 10)],
)
def test_an_order_is_the_way_from_what_is_held_to_what_is_wanted(held: int, target: int, side: Side, qty: int) -> None:
    intent = ordered(say(risk_gate(known=owner(held)), signal(target)))
    assert (intent.side, intent.qty_lots) == (side, qty)


def test_a_wish_that_is_fulfilled_or_on_its_way_asks_for_nothing() -> None:
    assert say(risk_gate(known=owner(10)), signal(10)) == []
    gate = risk_gate(signal(10))
    assert say(gate, signal(10), signal(10)) == []


def test_strategies_do_not_share_what_they_hold() -> None:
    gate = risk_gate(known=owner(10))
    assert say(gate, signal(0, strategy="two")) == []
    assert ordered(say(gate, signal(5, strategy="two"))).qty_lots == 5


def test_a_position_near_its_target_is_left_alone() -> None:
    assert say(risk_gate(known=owner(98)), signal(100)) == []
    assert say(risk_gate(known=recovered(held={"one": {BTC: 102}})), signal(100)) == []
    assert ordered(say(risk_gate(known=owner(47)), signal(50))).qty_lots == 3


@pytest.mark.parametrize("target", [1, 10, 1_000])
def test_what_a_fee_takes_in_coins_is_not_bought_again(target: int) -> None:
    gate = risk_gate(known=recovered(cash=10**6))
    intent = ordered(say(gate, signal(target)))
    filled(gate, intent, target, fee_atoms=target * ATOMS * 20 // 10_000)
    say(gate, event(intent, S.FILLED, target))
    assert say(gate, signal(target)) == []


def test_a_partial_fill_is_completed_at_the_next_signal_only() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    assert filled(gate, intent, 4) == []
    assert say(gate, event(intent, S.PARTIALLY_CANCELED, 4)) == []
    assert ordered(say(gate, signal(10))).qty_lots == 6


def test_only_whole_lots_are_sold_and_dust_counts_as_flat() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    filled(gate, intent, 10, fee_atoms=ATOMS // 100)
    say(gate, event(intent, S.FILLED, 10))
    sale = ordered(say(gate, signal(0)))
    assert sale.qty_lots == 9
    filled(gate, sale, 9)
    assert say(gate, event(sale, S.FILLED, 9), signal(0)) == []


@pytest.mark.parametrize("steps", [{"qty_lots_min": 11}, {"notional_atoms_min": 1_000 * ATOMS}])
def test_too_little_to_be_sold_is_no_news(steps: dict[str, Any]) -> None:
    assert say(risk_gate(listed(**steps), known=owner(10)), signal(0)) == []


def test_nothing_is_asked_of_an_exchange_before_the_journal_is_read() -> None:
    gate = RiskGate(limits())
    assert say(gate, listed(), quote(), signal(10), command("flatten"))[-1:] == [
        m.OperatorAnswered(ts_ns=NOW_NS, verb="flatten", command_id="", state=RiskState.REDUCE_ONLY, detail="")
    ]


def test_an_unlisted_market_is_not_traded() -> None:
    assert say(risk_gate(), signal(10, symbol=ETH)) == []


# --- every rule


REFUSALS: list[tuple[DenyReason, str, m.Recovered | None, dict[str, Any], list[m.AnyMessage], m.Signal]] = [
    (DenyReason.HALTED, "halted by operator", None, {}, [command("halt")], signal(10)),
    (DenyReason.REDUCE_ONLY, "reduce-only by operator", None, {}, [command("reduce")], signal(10)),
    (DenyReason.NOT_LISTED, "does not trade it now", None, {}, [listed(is_open=False)], signal(10)),
    (DenyReason.SYMBOL_MODE, "in post-only mode", None, {}, [listed(is_post_only=True)], signal(10)),
    (DenyReason.MARKET_DATA_STALE, "no whole book", None, {}, [book_lost()], signal(10)),
    (
        DenyReason.MARKET_DATA_STALE,
        "book 5001 ms old > stale_ms 5000",
        None,
        {},
        [],
        signal(10, at_ns=NOW_NS + 5_001 * MS_NS),
    ),
    (
        DenyReason.MARKET_DATA_STALE,
        "equity unknown: a held coin has no price",
        recovered(held={"two": {ETH: 1}}),
        {},
        [],
        signal(10),
    ),
    (
        DenyReason.INTENT_EXPIRED,
        "decided 5001 ms ago > intent_ttl_ms 5000",
        None,
        {},
        [quote(at_ns=NOW_NS + 5_001 * MS_NS)],
        signal(10),
    ),
    (DenyReason.MIN_QTY, "quantity 10 < minimum 11", None, {}, [listed(qty_lots_min=11)], signal(10)),
    (
        DenyReason.MIN_NOTIONAL,
        "notional 1010 < 1011",
        None,
        {},
        [listed(notional_atoms_min=1_011 * ATOMS)],
        signal(10),
    ),
    (
        DenyReason.PRICE_COLLAR,
        "price 1000 bps from the middle > collar 999 bps",
        None,
        {"collar_bps": 999},
        [quote(90, 110)],
        signal(10),
    ),
    (
        DenyReason.MAX_ORDER_VALUE,
        "value 1040 > max_order_value 1039",
        None,
        {"max_order_value_atoms": 1_039 * ATOMS},
        [],
        signal(10),
    ),
    (
        DenyReason.MAX_POSITION,
        "position 2040 > max_position_pct, which is 2000",
        owner(10),
        {"max_position_bps": 2_000},
        [],
        signal(20),
    ),
    (
        DenyReason.MAX_GROSS,
        "all positions 2040 > max_gross_pct, which is 2000",
        owner(10),
        {"max_gross_bps": 2_000},
        [],
        signal(10, strategy="two"),
    ),
    (
        DenyReason.INSUFFICIENT_FUNDS,
        "needs 1040 > free cash 1000",
        owner(90),
        {"max_position_bps": 20_000, "max_gross_bps": 20_000},
        [],
        signal(10, strategy="two"),
    ),
    (
        DenyReason.MAX_OPEN_ORDERS,
        "1 orders work, max_open_orders 1",
        None,
        {"max_open_orders": 1},
        [signal(1, strategy="two")],
        signal(10),
    ),
    (
        DenyReason.RATE_LIMIT,
        "1 orders in a second, orders_per_second 1",
        None,
        {"orders_per_second": 1},
        [signal(1, strategy="two")],
        signal(10),
    ),
    (
        DenyReason.RATE_LIMIT,
        "1 orders in a minute, orders_per_minute 1",
        None,
        {"orders_per_minute": 1},
        [signal(1, strategy="two")],
        signal(10),
    ),
]


@pytest.mark.parametrize(("reason", "detail", "known", "bounds", "before", "wish"), REFUSALS)
def test_a_refusal_names_its_value_and_its_bound(
    reason: DenyReason,
    detail: str,
    known: m.Recovered | None,
    bounds: dict[str, Any],
    before: list[m.AnyMessage],
    wish: m.Signal,
) -> None:
    found, said = denied(say(risk_gate(*before, known=known, **bounds), wish))
    assert found is reason
    assert detail in said
    assert said.startswith(BTC)


@pytest.mark.parametrize(
    ("known", "bounds", "wish"),
    [
        (None, {"max_order_value_atoms": 1_040 * ATOMS}, signal(10)),
        (owner(10), {"max_position_bps": 2_040}, signal(20)),
        (owner(10), {"max_gross_bps": 2_040}, signal(20)),
        (recovered(cash=1_040), {"max_position_bps": 20_000, "max_gross_bps": 20_000}, signal(10)),
        (None, {}, signal(10, at_ns=NOW_NS + 5_000 * MS_NS)),
    ],
)
def test_an_order_exactly_at_a_bound_is_approved(
    known: m.Recovered | None, bounds: dict[str, int], wish: m.Signal
) -> None:
    assert ordered(say(risk_gate(known=known, **bounds), wish)).qty_lots == 10


def test_closing_down_is_not_held_back_by_what_limits_growth() -> None:
    gate = risk_gate(
        command("reduce"),
        known=recovered(cash=0, held={"one": {BTC: 10}, "two": {ETH: 5}}),  # the price of ETH is not known
        max_order_value_atoms=1,
        max_position_bps=1,
        max_gross_bps=1,
    )
    assert ordered(say(gate, signal(0))).qty_lots == 10


def test_working_buys_of_all_strategies_count_against_the_limits() -> None:
    gate = risk_gate(max_position_bps=2_100)
    say(gate, signal(10, strategy="one"), signal(10, strategy="two"))
    assert denied(say(gate, signal(1, strategy="three")))[0] is DenyReason.MAX_POSITION


def test_a_refusal_is_news_once_for_each_wish_and_reason() -> None:
    gate = risk_gate(command("reduce"))
    wishes = [signal(10), signal(10), signal(11), signal(0), signal(11)]
    assert [len(all_of(say(gate, wish), m.OrderDenied)) for wish in wishes] == [1, 0, 1, 0, 1]
    assert denied(say(gate, command("halt"), signal(11)))[0] is DenyReason.HALTED


def test_orders_are_counted_in_any_second_and_any_minute() -> None:
    rate = OrderRate(2, 3)
    sent: list[float] = []
    for tenth in range(1_300):
        now_ns = tenth * SECOND_NS // 10
        if rate.full(now_ns) is None:
            rate.count(now_ns)
            sent.append(tenth / 10)
    assert sent == [0.0, 0.1, 1.0, 60.0, 60.1, 61.0, 120.0, 120.1, 121.0]


def test_money_is_shown_without_empty_decimals() -> None:
    assert (money(1_500 * ATOMS), money(ATOMS // 4), money(1)) == ("1500", "0.25", "0")


# --- reservations


def test_a_fill_shrinks_the_reservation_by_what_it_spent() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    filled(gate, intent, 4, price=101)
    assert gate.account.cash_atoms - gate.account.free_atoms == (1_040 - 404) * ATOMS
    assert gate.account.worst_atoms(BTC) == (400 + 1_040 - 404) * ATOMS


def test_a_reservation_goes_when_the_end_is_known_and_the_fills_have_caught_up() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    say(gate, event(intent, S.PARTIALLY_CANCELED, 7))
    assert gate.account.free_atoms < gate.account.cash_atoms
    assert say(gate, signal(10)) == []  # nothing is ordered twice meanwhile
    filled(gate, intent, 4)
    assert intent.client_id in gate.account.working
    filled(gate, intent, 3)
    assert not gate.account.working
    assert gate.account.free_atoms == gate.account.cash_atoms
    assert ordered(say(gate, signal(10))).qty_lots == 3


@pytest.mark.parametrize("state", [S.REJECTED, S.FAILED, S.EXPIRED, S.CANCELED])
def test_an_order_that_ended_without_a_fill_is_released_at_once(state: OrderState) -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    assert say(gate, event(intent, state)) == []
    assert gate.account.free_atoms == 10_000 * ATOMS


@pytest.mark.parametrize("state", [S.NEW, S.PARTIALLY_FILLED, S.PENDING_CANCEL])
def test_news_of_a_living_order_releases_nothing(state: OrderState) -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    say(gate, event(intent, state, 5))
    assert gate.account.free_atoms == (10_000 - 1_040) * ATOMS


def test_a_fill_after_the_end_is_held_and_news_of_an_unknown_order_is_not() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    say(gate, event(intent, S.CANCELED))
    filled(gate, intent, 10)
    assert gate.account.held["one", BTC] == 10 * ATOMS
    assert say(gate, event(buy(1, number=77), S.FILLED, 1)) == []


def test_what_is_being_sold_is_not_sold_again() -> None:
    gate = risk_gate(known=owner(10))
    first = ordered(say(gate, signal(4)))
    second = ordered(say(gate, signal(0)))
    assert (first.qty_lots, second.qty_lots) == (6, 4)
    assert say(gate, signal(0)) == []


# --- a wish that changed


def test_an_order_in_the_way_is_cancelled_first_and_its_end_goes_on_with_the_wish() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    said = say(gate, signal(0))
    assert cancelled(said) == [intent.client_id]
    assert say(gate, signal(0)) == []
    filled(gate, intent, 4)
    assert ordered(say(gate, event(intent, S.PARTIALLY_CANCELED, 4))).signed_lots == -4


def test_it_goes_on_with_the_wish_too_when_the_end_is_known_before_the_fills() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    say(gate, signal(0), event(intent, S.PARTIALLY_CANCELED, 4))
    assert ordered(filled(gate, intent, 4)).signed_lots == -4


def test_an_order_that_is_too_large_by_now_is_cancelled() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10)))
    assert cancelled(say(gate, signal(5))) == [intent.client_id]
    assert ordered(say(gate, event(intent, S.CANCELED))).qty_lots == 5


def test_a_larger_wish_adds_an_order() -> None:
    gate = risk_gate(signal(10))
    assert ordered(say(gate, signal(15))).qty_lots == 5


def test_an_order_that_rested_too_long_is_asked_for_again_at_the_new_touch() -> None:
    gate = risk_gate(passive_ttl_ns=5 * SECOND_NS)
    intent = ordered(say(gate, signal(10, is_passive=True)))
    assert cancelled(say(gate, tick(NOW_NS + 5 * SECOND_NS - 1))) == []
    said = say(gate, quote(100, 102, at_ns=NOW_NS + 5 * SECOND_NS), tick(NOW_NS + 5 * SECOND_NS))
    assert cancelled(said) == [intent.client_id]
    assert cancelled(say(gate, tick(NOW_NS + 6 * SECOND_NS))) == []
    assert ordered(say(gate, event(intent, S.CANCELED))).price_ticks == 100


def test_a_market_order_does_not_rest() -> None:
    gate = risk_gate(signal(10))
    assert cancelled(say(gate, tick(NOW_NS + 60 * SECOND_NS))) == []


def test_an_order_that_the_exchange_ended_is_tried_again_at_the_next_signal_and_not_before() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(10, is_passive=True)))
    assert say(gate, event(intent, S.NEW), event(intent, S.CANCELED)) == []
    assert say(gate, tick(), quote(100, 102)) == []
    assert ordered(say(gate, signal(10, is_passive=True))).price_ticks == 100


# --- breakers


@pytest.mark.parametrize(
    ("bounds", "equity", "state", "cause", "detail"),
    [
        ({}, 9_800, RiskState.NORMAL, "", ""),
        ({}, 9_700, RiskState.REDUCE_ONLY, "daily_loss", "daily_loss 300 bps >= 300 bps"),
        ({}, 9_500, RiskState.HALTED, "daily_loss", "daily_loss 500 bps >= 500 bps"),
        ({"daily_loss_bps": 9_000}, 9_200, RiskState.REDUCE_ONLY, "drawdown", "drawdown 800 bps >= 800 bps"),
        (
            {"daily_loss_bps": 9_000, "daily_loss_halt_bps": 9_500},
            8_800,
            RiskState.HALTED,
            "drawdown",
            "drawdown 1200 bps >= 1200 bps",
        ),
    ],
)
def test_a_loss_closes_the_gate(bounds: dict[str, int], equity: int, state: RiskState, cause: str, detail: str) -> None:
    gate = all_in(**{"daily_loss_halt_bps": 9_500 if "daily_loss_bps" in bounds else 500, **bounds})
    said = all_of(say(gate, worth(equity)), m.RiskStateChanged)
    assert (gate.state, gate.cause) == (state, cause)
    assert [change.detail for change in said] == ([detail] if detail else [])


def test_a_breaker_only_tightens() -> None:
    gate = all_in()
    for equity, state in [
        (9_700, RiskState.REDUCE_ONLY),
        (10_000, RiskState.REDUCE_ONLY),
        (9_500, RiskState.HALTED),
        (9_700, RiskState.HALTED),
        (12_000, RiskState.HALTED),
    ]:
        say(gate, worth(equity))
        assert gate.state is state


def test_a_breaker_says_so_once() -> None:
    gate = all_in()
    said = say(gate, worth(9_700), worth(9_700), worth(9_600))
    assert len(all_of(said, m.RiskStateChanged)) == 1


def test_a_loss_is_seen_in_a_fill_and_in_the_exchange_s_mark_as_well() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, signal(50)))
    said = filled(gate, intent, 50, price=110)
    assert only(said, m.RiskStateChanged).state is RiskState.HALTED
    blind = all_in()
    say(blind, book_lost(), m.MarkPrice(ts_ns=NOW_NS, symbol=BTC, price_ticks=95))
    assert blind.state is RiskState.HALTED


def test_the_exchange_s_mark_does_not_count_beside_a_book() -> None:
    gate = all_in()
    assert say(gate, m.MarkPrice(ts_ns=NOW_NS, symbol=BTC, price_ticks=50)) == []


def test_the_peak_moves_up_only() -> None:
    gate = all_in(daily_loss_bps=9_000, daily_loss_halt_bps=9_500)
    say(gate, worth(12_000), worth(11_100))
    assert gate.state is RiskState.NORMAL
    say(gate, worth(11_000))
    assert gate.state is RiskState.REDUCE_ONLY


def rearm(cause: str, equity: int, *, is_new_baseline: bool = False) -> m.OperatorCommand:
    return msgspec.structs.replace(
        command("rearm"), subject=cause, equity_atoms=equity * ATOMS, is_new_baseline=is_new_baseline
    )


def test_a_rearmed_soft_bound_is_forgiven_until_a_new_peak_or_day() -> None:
    gate = all_in()
    say(gate, worth(9_700), rearm("daily_loss", 9_700), worth(9_600))
    assert gate.state is RiskState.NORMAL
    say(gate, worth(9_500))
    assert gate.state is RiskState.HALTED
    dawn_ns = (TODAY + 1) * DAY_NS
    say(gate, rearm("daily_loss", 9_500, is_new_baseline=True))
    say(gate, msgspec.structs.replace(worth(9_500), ts_ns=dawn_ns))
    assert gate.state is RiskState.NORMAL  # the new day begins at 9,500
    say(gate, worth(9_200))
    assert (gate.state, gate.cause) == (RiskState.REDUCE_ONLY, "daily_loss")


def test_a_new_peak_ends_the_forgiving_of_a_drawdown() -> None:
    gate = all_in(daily_loss_bps=9_000, daily_loss_halt_bps=9_500)
    say(gate, worth(9_200), rearm("drawdown", 9_200), worth(9_100))
    assert gate.state is RiskState.NORMAL
    say(gate, worth(10_100), worth(9_200))
    assert (gate.state, gate.cause) == (RiskState.REDUCE_ONLY, "drawdown")


def test_the_day_s_loss_is_measured_from_the_first_price_after_midnight() -> None:
    gate = all_in()
    dawn_ns = (TODAY + 1) * DAY_NS
    say(gate, worth(9_800))
    said = say(gate, msgspec.structs.replace(worth(9_700), ts_ns=dawn_ns))
    marked = only(said, m.EquityMarked)
    assert (marked.day, marked.day_start_atoms, marked.peak_atoms) == (TODAY + 1, 9_700 * ATOMS, 10_000 * ATOMS)
    assert gate.state is RiskState.NORMAL


def test_a_clock_that_went_back_forgives_no_loss() -> None:
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=9_800 * ATOMS,
        peak_atoms=10_000 * ATOMS,
        day=TODAY + 1,
        day_start_atoms=10_000 * ATOMS,
    )
    gate = RiskGate(limits())
    say(gate, owner(100, equity=marked), listed(), worth(9_800))
    assert gate.state is RiskState.NORMAL
    say(gate, worth(9_700))
    assert gate.state is RiskState.REDUCE_ONLY
    (again,) = all_of(say(gate, msgspec.structs.replace(worth(9_700), ts_ns=(TODAY + 1) * DAY_NS)), m.EquityMarked)
    assert again.day_start_atoms == 9_700 * ATOMS


def test_a_price_that_comes_before_the_journal_makes_no_baseline() -> None:
    gate = RiskGate(limits())
    assert say(gate, listed(), quote()) == []
    say(gate, owner(100), worth(10_000), worth(9_700))
    assert gate.state is RiskState.REDUCE_ONLY


def test_equity_is_marked_once_a_minute() -> None:
    gate = RiskGate(limits())
    said = say(gate, owner(100), listed(), quote())
    for quarter in range(8 * 60):
        said += say(gate, tick(NOW_NS + quarter * SECOND_NS // 4))
    marked = all_of(said, m.EquityMarked)
    assert [mark.ts_ns - NOW_NS for mark in marked] == [0, 60 * SECOND_NS]
    assert marked[0].equity_atoms == marked[0].peak_atoms == marked[0].day_start_atoms == 10_000 * ATOMS


# --- the operator


@pytest.mark.parametrize("verb", ["halt", "close"])
def test_to_halt_and_to_close_cancel_everything(verb: m.OperatorVerb) -> None:
    gate = risk_gate(known=owner(10))
    orders = [ordered(say(gate, wish)) for wish in (signal(0), signal(3, strategy="two"))]
    said = say(gate, command(verb))
    assert cancelled(said) == [intent.client_id for intent in orders]
    assert isinstance(said[-1], m.OperatorAnswered)


def test_to_reduce_cancels_the_buys() -> None:
    gate = risk_gate(known=owner(10))
    _, bought = (ordered(say(gate, wish)) for wish in (signal(0), signal(3, strategy="two")))
    assert cancelled(say(gate, command("reduce"))) == [bought.client_id]


def test_after_the_close_nothing_new_is_let_through() -> None:
    gate = risk_gate(known=owner(10))
    intent = ordered(say(gate, signal(0)))
    say(gate, command("close"))
    assert say(gate, signal(20), event(intent, S.CANCELED), signal(0)) == []


@pytest.mark.parametrize("verb", ["reduce", "flatten"])
def test_a_halt_is_left_only_by_resuming(verb: m.OperatorVerb) -> None:
    gate = risk_gate(command("halt"), known=owner(10))
    answer = only(say(gate, command(verb)), m.OperatorAnswered)
    assert (answer.state, "resume first" in answer.detail) == (RiskState.HALTED, True)
    say(gate, command("resume"))
    assert ordered(say(gate, signal(0))).qty_lots == 10


def test_to_flatten_sells_all_and_answers_last() -> None:
    gate = risk_gate(known=recovered(held={"one": {BTC: 10}, "two": {BTC: 5}}))
    said = say(gate, command("flatten"))
    assert [made.intent.signed_lots for made in all_of(said, m.OrderApproved)] == [-10, -5]
    assert only(said, m.RiskStateChanged).state is RiskState.REDUCE_ONLY
    assert isinstance(said[-1], m.OperatorAnswered)


def test_while_flattening_strategies_are_not_heard() -> None:
    gate = risk_gate(known=owner(10))
    sold = ordered(say(gate, signal(10), command("flatten")))
    assert say(gate, signal(10), signal(20)) == []
    filled(gate, sold, 10)
    assert say(gate, event(sold, S.FILLED, 10), signal(20)) == []
    assert ordered(say(gate, command("resume"), signal(20))).qty_lots == 20


def test_flattening_goes_on_until_nothing_is_left() -> None:
    gate = risk_gate(known=owner(10))
    first = ordered(say(gate, command("flatten")))
    filled(gate, first, 4)
    say(gate, event(first, S.PARTIALLY_CANCELED, 4))
    second = ordered(say(gate, tick()))
    assert second.qty_lots == 6
    assert all_of(say(gate, tick()), m.OrderApproved) == []
    filled(gate, second, 6)
    assert say(gate, event(second, S.FILLED, 6), tick()) == []


def test_flattening_sells_what_a_buy_on_its_way_still_brings() -> None:
    gate = risk_gate()
    bought = ordered(say(gate, signal(10)))
    assert cancelled(say(gate, command("flatten"))) == [bought.client_id]
    filled(gate, bought, 10)
    said = say(gate, event(bought, S.FILLED, 10), tick())
    assert ordered(said).signed_lots == -10


def test_flattening_does_not_wait_for_an_order_that_rests() -> None:
    gate = risk_gate(known=owner(10))
    rests = ordered(say(gate, signal(0, is_passive=True)))
    assert cancelled(say(gate, command("flatten"))) == [rests.client_id]
    sold = ordered(say(gate, event(rests, S.CANCELED)))
    assert (sold.order_type, sold.qty_lots) == ("MARKET", 10)


def test_flattening_without_a_book_says_so_and_sells_when_it_is_back() -> None:
    gate = risk_gate(book_lost(), known=owner(10))
    assert denied(say(gate, command("flatten")))[0] is DenyReason.MARKET_DATA_STALE
    assert all_of(say(gate, tick()), m.OrderDenied) == []
    assert ordered(say(gate, quote(), tick())).qty_lots == 10


def test_flattening_outlives_a_restart() -> None:
    gate = risk_gate(known=owner(10, risk_state=RiskState.REDUCE_ONLY, risk_cause="flatten"))
    assert ordered(say(gate, signal(20), tick())).signed_lots == -10


# --- recovery


def test_a_session_goes_on_where_the_last_one_was() -> None:
    works = record(buy(4, 99, order_type="LIMIT_MAKER"), filled=1)
    gate = risk_gate(known=owner(10, orders=[works], epoch=7))
    assert gate.account.equity_atoms == 10_000 * ATOMS
    assert gate.account.cash_atoms - gate.account.free_atoms == 3 * 99 * ATOMS
    assert say(gate, signal(13)) == []
    first, second = (ordered(say(gate, signal(lots))).client_id for lots in (14, 15))
    assert first != second
    assert not {first, second} & {works.intent.client_id}


def test_baselines_and_state_outlive_a_restart() -> None:
    marked = m.EquityMarked(
        ts_ns=NOW_NS, equity_atoms=9_800 * ATOMS, peak_atoms=11_000 * ATOMS, day=TODAY, day_start_atoms=10_000 * ATOMS
    )
    gate = risk_gate(known=owner(100, equity=marked))
    assert (gate.state, gate.cause) == (RiskState.REDUCE_ONLY, "drawdown")  # 10,000 against a peak of 11,000
    say(gate, worth(9_500))
    assert (gate.state, gate.cause) == (RiskState.HALTED, "daily_loss")
    halted = risk_gate(known=owner(100, risk_state=RiskState.HALTED, risk_cause="drawdown"))
    assert denied(say(halted, signal(0))) == (DenyReason.HALTED, f"{BTC}: halted by drawdown")


@pytest.mark.parametrize(("state", "count"), [(RiskState.NORMAL, 0), (RiskState.REDUCE_ONLY, 1), (RiskState.HALTED, 2)])
def test_what_the_state_forbids_is_cancelled_after_a_crash_too(state: RiskState, count: int) -> None:
    orders = [record(buy(4, 99)), record(sell(4, 101, number=2))]
    gate = RiskGate(limits())
    assert len(cancelled(say(gate, owner(10, orders=orders, risk_state=state)))) == count


def test_an_old_order_has_its_patience_again() -> None:
    rests = record(buy(4, 99, order_type="LIMIT_MAKER"))
    gate = risk_gate(known=recovered(orders=[rests], at_ns=NOW_NS + 100 * SECOND_NS))
    assert cancelled(say(gate, tick(NOW_NS + 104 * SECOND_NS))) == []
    assert len(cancelled(say(gate, tick(NOW_NS + 105 * SECOND_NS)))) == 1


# --- perpetuals

PERP = listed(is_perp=True)


def perp_gate(lots: int = 0, *after: m.AnyMessage, cash: int = 10_000, **bounds: Any) -> RiskGate:
    """Return a gate where strategy `one` holds lots of a perpetual, opened at 100, with `cash` in the wallet."""
    known = recovered(cash=cash, held={"one": {BTC: lots}}, costs={BTC: lots * 100 * ATOMS})
    return risk_gate(PERP, *after, known=known, **{"max_position_bps": 10**6, "max_gross_bps": 10**6, **bounds})


@pytest.mark.parametrize(
    ("held", "target", "change", "value"),
    [
        (0, -10, -10, 10 * 101),  # the bid of 99 and 2 %, rounded up: it may rise before the order arrives
        (0, 10, 10, 10 * 104),
        (-4, -10, -6, 6 * 101),
        (-10, -4, 6, 0),
        (-10, 0, 10, 0),
        (10, 0, -10, 0),
        (10, -5, -15, 5 * 101),
        (-10, 5, 15, 5 * 104),
    ],
)
def test_what_makes_a_perpetual_larger_reserves_its_worst_value(
    held: int, target: int, change: int, value: int
) -> None:
    intent = ordered(say(perp_gate(held), signal(target)))
    assert (intent.signed_lots, intent.reserved_atoms) == (change, value * ATOMS)


def test_a_short_is_worth_its_open_profit() -> None:
    gate = perp_gate(-10)
    assert gate.account.equity_atoms == 10_000 * ATOMS
    say(gate, quote(89, 91))
    assert gate.account.equity_atoms == 10_100 * ATOMS
    assert gate.account.worst_atoms(BTC) == gate.account.gross_atoms() == 900 * ATOMS


def test_the_exposure_of_a_perpetual_is_its_worse_side() -> None:
    gate = perp_gate(10)
    intent = ordered(say(gate, signal(-15)))
    exposures: list[int] = []
    for qty in (0, 6, 4, 10, 5):
        if qty:
            filled(gate, intent, qty)
        exposures.append(gate.account.worst_atoms(BTC) // ATOMS)
    assert exposures == [1_500, 1_500, 1_500, 1_500, 1_500]
    say(gate, signal(15, strategy="two"))
    assert gate.account.exposures() == {BTC: 1_500 * ATOMS}
    assert gate.account.worst_atoms(BTC) == 3_000 * ATOMS


def test_R1_strategies_against_each_other_leave_no_more_than_allowed_when_one_of_them_closes() -> None:
    gate = perp_gate(40, max_position_bps=4_000)
    assert denied(say(gate, signal(-40, strategy="two")))[0] is DenyReason.MAX_POSITION


@pytest.mark.parametrize(
    ("one", "two", "target", "lots"),
    [(20, 0, -20, -40), (30, -10, 10, 20), (30, -10, 11, 10), (30, -30, 30, 30), (-20, 10, -20, -30)],
)
def test_the_limit_is_on_what_all_strategies_hold_together(one: int, two: int, target: int, lots: int) -> None:
    known = recovered(held={"one": {BTC: one}, "two": {BTC: two}}, costs={BTC: (one + two) * 100 * ATOMS})
    gate = risk_gate(PERP, quote(100, 100), known=known, max_position_bps=4_000, collar_bps=0)
    strategy = "two" if two else "one"
    made = all_of(say(gate, signal(target, strategy=strategy)), m.OrderApproved)
    assert [each.intent.signed_lots for each in made] == [lots]


@pytest.mark.parametrize(
    ("held", "target", "leverage", "is_enough"),
    [
        (0, -99, 1, True),
        (0, -100, 1, False),
        (0, -198, 2, True),
        (0, -199, 2, False),
        (50, 98, 1, True),
        (50, -98, 1, True),
    ],
)
def test_an_increase_needs_its_margin(held: int, target: int, leverage: int, is_enough: bool) -> None:
    said = say(perp_gate(held, leverage=leverage), signal(target))
    assert bool(all_of(said, m.OrderDenied)) != is_enough
    if is_enough:
        assert ordered(said).signed_lots == target - held


def test_a_refusal_of_margin_names_what_is_free() -> None:
    gate = perp_gate(leverage=2)
    say(gate, signal(-100, strategy="two"))
    reason, detail = denied(say(gate, signal(-100)))
    assert reason is DenyReason.INSUFFICIENT_FUNDS
    assert "margin of all 10050 > equity 10000" in detail


def test_a_perpetual_takes_no_cash_from_spot() -> None:
    gate = risk_gate(listed(ETH, is_perp=True), quote(symbol=ETH))
    say(gate, signal(-10, symbol=ETH))
    assert gate.account.free_atoms == 10_000 * ATOMS
    assert gate.account.perps_atoms() == 1_000 * ATOMS


def test_a_turn_round_that_is_refused_still_closes() -> None:
    said = say(perp_gate(10, max_order_value_atoms=1), signal(-5))
    assert denied(said)[0] is DenyReason.MAX_ORDER_VALUE
    assert (ordered(said).signed_lots, ordered(said).reserved_atoms) == (-10, 0)


def test_a_turn_round_under_reduce_only_closes_and_no_more() -> None:
    gate = perp_gate(-10, command("reduce"))
    assert ordered(say(gate, signal(5))).signed_lots == 10


def test_to_reduce_cancels_the_orders_that_open_shorts() -> None:
    gate = perp_gate()
    opens = ordered(say(gate, signal(-10)))
    assert cancelled(say(gate, command("reduce"))) == [opens.client_id]


def test_flattening_buys_shorts_back() -> None:
    assert ordered(say(perp_gate(-10), command("flatten"))).signed_lots == 10


def test_a_larger_short_adds_an_order_and_a_smaller_one_cancels_it() -> None:
    gate = perp_gate()
    first = ordered(say(gate, signal(-10)))
    assert ordered(say(gate, signal(-15))).signed_lots == -5
    assert first.client_id in cancelled(say(gate, signal(-5)))


def test_a_short_near_its_target_is_left_alone() -> None:
    assert say(perp_gate(-49), signal(-50)) == []


def test_funding_and_a_liquidation_change_equity_and_may_close_the_gate() -> None:
    gate = perp_gate(-10)
    assert say(gate, funding(100)) == []
    assert gate.account.equity_atoms == 9_900 * ATOMS
    assert only(say(gate, funding(200, at_ns=NOW_NS + 1)), m.RiskStateChanged).cause == "daily_loss"
    say(gate, msgspec.structs.replace(liquidated(10, 130), cash_atoms=9_400 * ATOMS))
    assert (gate.account.equity_atoms, gate.account.cash_atoms) == (9_400 * ATOMS, 9_400 * ATOMS)
    assert gate.account.held["one", BTC] == 0
    assert gate.state is RiskState.HALTED


def test_what_the_exchange_closed_is_not_opened_again_before_its_strategy_knows() -> None:
    gate = perp_gate(-10, drawdown_bps=9_000, drawdown_halt_bps=9_500, daily_loss_bps=9_000, daily_loss_halt_bps=9_500)
    say(gate, signal(-10, number=3), msgspec.structs.replace(liquidated(10, 130), cash_atoms=9_700 * ATOMS))
    assert say(gate, signal(-10, number=3)) == []
    assert ordered(say(gate, signal(-10, number=4))).signed_lots == -10


# --- limit entries


def test_an_entry_at_a_price_rests_there_and_an_exit_does_not_wait() -> None:
    entry = ordered(say(risk_gate(), signal(10, limit_ticks=95)))
    assert (entry.order_type, entry.time_in_force, entry.price_ticks) == ("LIMIT", "GTC", 95)
    assert entry.reserved_atoms == 950 * ATOMS
    assert ordered(say(risk_gate(known=owner(10)), signal(0, limit_ticks=95))).order_type == "MARKET"


def test_a_turn_round_with_a_limit_closes_at_the_market_first() -> None:
    gate = perp_gate(-10)
    closes = ordered(say(gate, signal(5, limit_ticks=95)))
    assert (closes.order_type, closes.signed_lots) == ("MARKET", 10)
    filled(gate, closes, 10)
    opens = ordered(say(gate, event(closes, S.FILLED, 10), signal(5, limit_ticks=95)))
    assert (opens.order_type, opens.signed_lots) == ("LIMIT", 5)


@pytest.mark.parametrize(
    ("wish", "allowed"), [(signal(10, limit_ticks=50), True), (signal(10, limit_ticks=103), False)]
)
def test_a_limit_may_be_far_away_on_the_cheap_side_only(wish: m.Signal, allowed: bool) -> None:
    said = say(risk_gate(collar_bps=200), wish)
    assert [type(output) for output in said] == [m.OrderApproved if allowed else m.OrderDenied]


def test_a_short_that_would_be_sold_at_once_is_worth_the_bid() -> None:
    assert ordered(say(perp_gate(), signal(-10, limit_ticks=98))).reserved_atoms == 990 * ATOMS
    assert ordered(say(perp_gate(), signal(-10, limit_ticks=105))).reserved_atoms == 1_050 * ATOMS


@pytest.mark.parametrize("wish", [signal(10, limit_ticks=96), signal(10), signal(0, limit_ticks=95)])
def test_an_entry_whose_price_is_not_wanted_any_more_is_cancelled(wish: m.Signal) -> None:
    gate = risk_gate()
    entry = ordered(say(gate, signal(10, limit_ticks=95)))
    assert say(gate, signal(10, limit_ticks=95)) == []
    assert cancelled(say(gate, wish)) == [entry.client_id]
    said = say(gate, event(entry, S.CANCELED))
    assert [made.intent.price_ticks for made in all_of(said, m.OrderApproved)] == (
        [wish.limit_ticks or None] if wish.target_lots else []
    )


def test_an_entry_at_a_price_does_not_age() -> None:
    gate = risk_gate(signal(10, limit_ticks=95))
    assert cancelled(say(gate, tick(NOW_NS + 60 * SECOND_NS))) == []


# --- amounts


def amount(number: int = 1, target: int = 10, **changes: Any) -> m.Signal:
    return signal(target, amount_atoms=1_000 * ATOMS, number=number, **changes)


def test_an_amount_is_spent_at_the_market_and_bound_to_twice_the_lots() -> None:
    intent = ordered(say(risk_gate(), amount()))
    assert (intent.order_type, intent.time_in_force, intent.qty_lots) == ("MARKET", "IOC", 20)
    assert intent.amount_atoms == intent.reserved_atoms == 1_000 * ATOMS


def test_an_amount_is_spent_once_for_each_number() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, amount()))
    assert say(gate, amount()) == []
    filled(gate, intent, 7)
    assert say(gate, signal(7, number=1), amount()) == []  # what it is buying is neither topped up nor sold
    assert say(gate, event(intent, S.FILLED, 7), amount()) == []
    assert say(gate, signal(7, number=1)) == []
    sold = ordered(say(gate, signal(0, number=1)))
    filled(gate, sold, 7)
    say(gate, event(sold, S.FILLED, 7))
    assert say(gate, amount()) == []
    assert ordered(say(gate, amount(number=2))).amount_atoms == 1_000 * ATOMS


def test_an_amount_that_was_refused_is_asked_for_again() -> None:
    gate = risk_gate(book_lost())
    assert denied(say(gate, amount()))[0] is DenyReason.MARKET_DATA_STALE
    assert ordered(say(gate, quote(), amount())).amount_atoms == 1_000 * ATOMS


def test_an_amount_is_judged_by_itself_and_its_lots_by_what_is_expected() -> None:
    assert denied(say(risk_gate(known=recovered(cash=999)), amount()))[0] is DenyReason.MAX_POSITION
    bounds = {"max_position_bps": 20_000, "max_gross_bps": 20_000}
    assert denied(say(risk_gate(known=recovered(cash=999), **bounds), amount()))[0] is DenyReason.INSUFFICIENT_FUNDS
    assert ordered(say(risk_gate(known=recovered(cash=1_000)), amount())).reserved_atoms == 1_000 * ATOMS
    assert denied(say(risk_gate(listed(qty_lots_min=11)), amount()))[0] is DenyReason.MIN_QTY


def test_an_amount_that_is_not_wanted_any_more_is_cancelled() -> None:
    gate = risk_gate()
    intent = ordered(say(gate, amount()))
    assert cancelled(say(gate, signal(0, number=1))) == [intent.client_id]


def test_what_is_bought_already_is_not_bought_for_the_amount_again() -> None:
    gate = risk_gate(signal(4))
    intent = ordered(say(gate, amount()))
    assert (intent.qty_lots, intent.amount_atoms) == (6, 0)


def test_dust_does_not_make_an_amount_smaller() -> None:
    gate = risk_gate(listed(qty_lots_min=4), known=owner(3))
    assert ordered(say(gate, amount())).qty_lots == 20


def test_who_holds_already_buys_lots_and_no_amount() -> None:
    intent = ordered(say(risk_gate(known=owner(4)), amount()))
    assert (intent.qty_lots, intent.amount_atoms) == (6, 0)


def test_a_fee_in_quote_is_part_of_the_worst_case() -> None:
    gate = risk_gate(listed(quote_fee_ppm=2_001))
    intent = ordered(say(gate, signal(10)))
    assert intent.reserved_atoms == 1_040 * ATOMS + 2_081_040 * ATOMS // 10**6
    filled(gate, intent, 4, price=100, fee_atoms=ATOMS)
    left = gate.account.working[intent.client_id].reserved_atoms
    assert left == intent.reserved_atoms - 401 * ATOMS


# --- guards


def guarded(target: int = 10, stop: int = 90, profit: int = 120, **changes: Any) -> m.Signal:
    return signal(target, stop_ticks=stop, profit_ticks=profit, **changes)


def guards_of(outputs: list[m.AnyMessage]) -> dict[str, tuple[Side, str, int, int]]:
    """Return by role each guard that was approved: side, type, quantity and price."""
    made = [approved.intent for approved in all_of(outputs, m.OrderApproved) if approved.intent.role != "trade"]
    assert all(intent.is_reduce_only and not intent.reserved_atoms for intent in made)
    assert len({intent.role for intent in made}) == len(made)
    return {
        intent.role: (intent.side, intent.order_type, intent.qty_lots, intent.trigger_ticks or intent.price_ticks or 0)
        for intent in made
    }


def guards(gate: RiskGate, role: str) -> OrderIntent:
    """Return the one guard of a role that works."""
    (found,) = [each.record.intent for each in gate.account.working.values() if each.record.intent.role == role]
    return found


def test_what_is_held_is_guarded_by_a_stop_and_a_target() -> None:
    assert guards_of(say(risk_gate(known=owner(10)), guarded())) == {
        "stop": (Side.SELL, "STOP", 10, 90),
        "profit": (Side.SELL, "LIMIT", 10, 120),
    }
    assert guards_of(say(perp_gate(-10), guarded(-10, 120, 90))) == {
        "stop": (Side.BUY, "STOP", 10, 120),
        "profit": (Side.BUY, "LIMIT", 10, 90),
    }


def test_guards_that_stand_are_left_alone() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    assert say(gate, guarded(), guarded(), tick(NOW_NS + 59 * SECOND_NS)) == []
    assert gate.account.free_atoms == gate.account.cash_atoms


def test_nothing_is_guarded_before_it_is_held() -> None:
    gate = risk_gate()
    entry = ordered(say(gate, guarded()))
    assert guards_of(filled(gate, entry, 4)) == {
        "stop": (Side.SELL, "STOP", 4, 90),
        "profit": (Side.SELL, "LIMIT", 4, 120),
    }
    assert len(cancelled(filled(gate, entry, 6))) == 2


@pytest.mark.parametrize(("wish", "role"), [(guarded(stop=95), "stop"), (guarded(profit=110), "profit")])
def test_a_guard_whose_price_changed_is_replaced_once_its_cancel_is_confirmed(wish: m.Signal, role: str) -> None:
    gate = risk_gate(guarded(), known=owner(10))
    before = guards(gate, role)
    assert cancelled(say(gate, wish)) == [before.client_id]
    assert say(gate, wish) == []
    assert set(guards_of(say(gate, event(before, S.CANCELED)))) == {role}


@pytest.mark.parametrize("doubt", [S.PENDING_CANCEL, S.UNKNOWN])
def test_F14_between_the_halves_of_a_replacement_the_old_order_counts_and_no_new_one_is_sent(doubt: S) -> None:
    gate = risk_gate(guarded(), known=owner(10))
    before = guards(gate, "stop")
    assert cancelled(say(gate, guarded(stop=95))) == [before.client_id]
    assert all_of(say(gate, event(before, doubt), guarded(stop=95)), m.OrderApproved) == []
    assert before.client_id in gate.account.working
    assert set(guards_of(say(gate, event(before, S.CANCELED)))) == {"stop"}
    assert before.client_id not in gate.account.working


def test_a_guard_that_is_not_wanted_any_more_is_cancelled() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    stop = guards(gate, "stop")
    assert cancelled(say(gate, guarded(stop=0))) == [stop.client_id]
    assert say(gate, event(stop, S.CANCELED)) == []


def test_when_one_guard_has_filled_the_other_is_cancelled() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    stop, profit = guards(gate, "stop"), guards(gate, "profit")
    assert cancelled(filled(gate, stop, 10, 90)) == [profit.client_id]
    assert say(gate, event(stop, S.FILLED, 10), event(profit, S.CANCELED)) == []
    assert not gate.account.working


def test_what_a_guard_took_is_not_bought_back_before_its_strategy_knows() -> None:
    gate = risk_gate(guarded(number=1), known=owner(10))
    profit = guards(gate, "profit")
    stop = guards(gate, "stop")
    assert cancelled(filled(gate, profit, 4, 120)) == [stop.client_id]
    assert guards_of(say(gate, event(stop, S.CANCELED))) == {"stop": (Side.SELL, "STOP", 6, 90)}
    assert say(gate, guarded(number=1)) == []
    assert ordered(say(gate, guarded(number=2))).signed_lots == 4


@pytest.mark.parametrize("target", [0, 4])
def test_guards_make_way_for_an_order_that_reduces(target: int) -> None:
    gate = risk_gate(guarded(), known=owner(10))
    stop, profit = guards(gate, "stop"), guards(gate, "profit")
    assert cancelled(say(gate, guarded(target))) == [stop.client_id, profit.client_id]
    assert say(gate, guarded(target), event(stop, S.CANCELED)) == []
    said = say(gate, event(profit, S.CANCELED))
    (exit_,) = [each.intent for each in all_of(said, m.OrderApproved) if each.intent.role == "trade"]
    assert (exit_.order_type, exit_.signed_lots) == ("MARKET", target - 10)
    assert {guard[2] for guard in guards_of(said).values()} == ({target} if target else set())


@pytest.mark.parametrize("minimum", [{"notional_atoms_min": 300 * ATOMS}, {"qty_lots_min": 3}])
@pytest.mark.parametrize("target", [8, -8])
def test_F65_guards_stay_where_what_is_too_much_is_dust(target: int, minimum: dict[str, Any]) -> None:
    is_long = target > 0
    known = owner(10) if is_long else recovered(cash=10_000, held={"one": {BTC: -10}}, costs={BTC: -1_000 * ATOMS})
    gate = risk_gate(listed(is_perp=not is_long, **minimum), known=known)
    wish = guarded(target) if is_long else guarded(target, 120, 90)
    assert set(guards_of(say(gate, wish))) == {"stop", "profit"}
    assert say(gate, wish, wish) == []


def test_guards_stay_while_nothing_can_be_sold_for_want_of_a_book() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    assert all_of(say(gate, book_lost(), guarded(4)), m.CancelRequested) == []


def test_a_guard_that_filled_while_it_was_cancelled_leaves_the_rest_to_the_exit() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    stop, profit = guards(gate, "stop"), guards(gate, "profit")
    say(gate, signal(0))
    filled(gate, stop, 4, 90)
    said = say(gate, event(stop, S.PARTIALLY_CANCELED, 4), event(profit, S.CANCELED))
    assert ordered(said).signed_lots == -6


def test_guards_are_not_held_back_by_what_limits_growth() -> None:
    gate = risk_gate(
        book_lost(),
        command("reduce"),
        known=owner(10),
        max_order_value_atoms=1,
        max_position_bps=1,
        max_gross_bps=1,
        orders_per_second=1,
        max_open_orders=1,
    )
    assert set(guards_of(say(gate, guarded()))) == {"stop", "profit"}


def test_guards_live_through_reduce_only_and_not_through_a_halt() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    assert cancelled(say(gate, command("reduce"))) == []
    ids = list(gate.account.working)
    assert cancelled(say(gate, command("halt"))) == ids


def test_a_guard_is_refused_while_halted_and_that_is_news_once() -> None:
    gate = risk_gate(command("halt"), known=owner(10))
    said = say(gate, guarded(), guarded())
    assert [refusal.reason for refusal in all_of(said, m.OrderDenied)] == [DenyReason.HALTED, DenyReason.HALTED]
    assert set(guards_of(say(gate, command("resume"), guarded()))) == {"stop", "profit"}


def test_flattening_cancels_the_guards_and_then_sells() -> None:
    gate = risk_gate(guarded(), known=owner(10))
    stop, profit = guards(gate, "stop"), guards(gate, "profit")
    said = say(gate, command("flatten"))
    assert cancelled(said) == [stop.client_id, profit.client_id]
    assert all_of(said, m.OrderApproved) == []
    assert ordered(say(gate, event(stop, S.CANCELED), event(profit, S.CANCELED))).signed_lots == -10


def test_dust_is_not_guarded() -> None:
    gate = risk_gate(listed(notional_atoms_min=950 * ATOMS), known=owner(10))
    assert set(guards_of(say(gate, guarded()))) == {"profit"}  # ten lots at 90 are worth too little
    assert say(risk_gate(listed(qty_lots_min=11), known=owner(10)), guarded()) == []


def test_a_limit_entry_that_works_on_is_not_in_the_way_of_the_guards() -> None:
    gate = risk_gate()
    entry = ordered(say(gate, guarded(limit_ticks=95)))
    filled(gate, entry, 4, 95)
    assert {role: guards(gate, role).qty_lots for role in ("stop", "profit")} == {"stop": 4, "profit": 4}
    assert say(gate, guarded(limit_ticks=95)) == []


@pytest.mark.parametrize(("other", "is_netted"), [(-4, True), (4, False), (0, False)])
def test_a_guard_of_contracts_is_no_business_of_the_exchange_where_strategies_differ(
    other: int, is_netted: bool
) -> None:
    known = recovered(held={"one": {BTC: 10}, "two": {BTC: other}}, costs={BTC: (10 + other) * 100 * ATOMS})
    gate = risk_gate(PERP, known=known, max_position_bps=10**6, max_gross_bps=10**6)
    made = [each.intent for each in all_of(say(gate, guarded()), m.OrderApproved)]
    assert [(guard.is_reduce_only, guard.is_netted) for guard in made] == [(True, is_netted)] * 2


def test_guards_that_the_exchange_would_cut_to_the_sum_are_replaced() -> None:
    gate = perp_gate(10)
    made = [each.intent for each in all_of(say(gate, guarded()), m.OrderApproved)]
    sale = only(say(gate, signal(-4, strategy="two")), m.OrderApproved).intent
    filled(gate, sale, 4, 99)
    assert cancelled(say(gate, msgspec.structs.replace(guarded(), ts_ns=NOW_NS + 1))) == [
        guard.client_id for guard in made
    ]


def test_after_a_restart_guards_stand_on_and_are_not_doubled() -> None:
    before = risk_gate(guarded(), known=owner(10))
    orders = [record(guards(before, role)) for role in ("stop", "profit")]
    gate = risk_gate(known=owner(10, orders=orders, epoch=2))
    assert say(gate, guarded()) == []
    assert cancelled(filled(gate, orders[0].intent, 10, 90)) == [orders[1].intent.client_id]


def test_after_a_restart_guards_of_nothing_are_cancelled_though_nobody_has_a_wish() -> None:
    before = risk_gate(guarded(), known=owner(10))
    stop, profit = guards(before, "stop"), guards(before, "profit")
    gate = risk_gate(known=owner(10, orders=[record(stop), record(profit)], epoch=2))
    assert cancelled(filled(gate, stop, 4, 90)) == []
    assert cancelled(filled(gate, stop, 6, 90)) == [profit.client_id]


# --- laws

wishes = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 60), st.booleans(), st.integers(0, 100)), max_size=30
)


@given(wishes, st.integers(0, 20))
def test_the_worst_case_never_passes_the_limit_whatever_fills(
    script: list[tuple[str, int, bool, int]], fee_lots_permille: int
) -> None:
    gate = risk_gate(max_position_bps=4_000)
    bound = 4_000 * ATOMS
    for strategy, target, is_passive, share in script:
        for made in all_of(say(gate, signal(target, strategy=strategy, is_passive=is_passive)), m.OrderApproved):
            intent = made.intent
            assert gate.account.worst_atoms(BTC) <= bound or intent.side is Side.SELL
            qty = intent.qty_lots * share // 100
            if qty:
                fee = qty * ATOMS * fee_lots_permille // 1_000 if intent.side is Side.BUY else 0
                filled(gate, intent, qty, 100, fee)
            if share % 2:
                say(gate, event(intent, S.PARTIALLY_CANCELED if qty else S.CANCELED, qty))
        assert gate.account.free_atoms >= 0
        held = sum(gate.account.held.values())
        reserved = gate.account.cash_atoms - gate.account.free_atoms
        assert held * 100 + reserved == gate.account.worst_atoms(BTC) == gate.account.gross_atoms()
        assert gate.account.equity_atoms == gate.account.cash_atoms + held * 100
