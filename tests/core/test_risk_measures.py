"""What the gate and its breakers measure, asked alone: means, round trips, slippage, pace, messages, troubles."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.latches import EVERYTHING
from bot.core.messages import SECOND_NS, Condition, RiskState
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk.bounds import SLIPS, BreakerBounds
from bot.core.risk.health import BOOK, LIQUIDATION, Health
from bot.core.risk.losses import HighWindow, RoundTrips, Slips, SmoothedEquity
from bot.core.risk.pace import REPEAT_NS, SIZES, SIZES_LEAST, WINDOW_NS, Pace
from bot.core.risk.rate import DAY_NS, MINUTE_NS, MessageBudget, OrderRate
from tests.support.builders import BTC, ETH, NOW_NS, buy, event, fill, instrument, limits, sell

S = OrderState
REDUCE, HALT = RiskState.REDUCE_ONLY, RiskState.HALTED


def at(seconds: float) -> int:
    return NOW_NS + round(seconds * SECOND_NS)


# --- a mean over time


def means(window_s: float, *values: tuple[float, int]) -> list[int]:
    """Return what a smoothed equity says of values at times in seconds."""
    smoothed = SmoothedEquity(round(window_s * SECOND_NS))
    return [smoothed.add(at(seconds), equity) for seconds, equity in values]


@pytest.mark.parametrize(
    ("window_s", "values", "last"),
    [
        (4, [(0, 100)], 100),
        (4, [(0, 100), (2, 200)], 100),  # until now it was 100
        (4, [(0, 100), (2, 200), (4, 0)], 150),
        (4, [(second, 100 if second < 10 else 200) for second in range(13)], 150),
        (4, [(second, 100 if second < 10 else 200) for second in range(15)], 200),
        (4, [(0, 100), (100, 300)], 100),  # a long silence is one stretch
        (4, [(0, 100), (1, 300), (200, 500)], 300),
        (0.5, [(0, 100), (1, 300), (1.6, 500)], 300),  # what is older than the window does not count
    ],
)
def test_B2_the_mean_weighs_each_value_by_how_long_it_held(
    window_s: float, values: list[tuple[float, int]], last: int
) -> None:
    assert means(window_s, *values)[-1] == last


def test_B2_a_nanosecond_counts_too() -> None:
    assert means(4, (0, 100), (1e-9, 500)) == [100, 100]


@given(st.lists(st.tuples(st.integers(0, 4 * SECOND_NS), st.integers(-(10**20), 10**20)), min_size=1, max_size=30))
def test_B2_a_mean_lies_between_what_was_meaned_and_is_a_whole_number_of_atoms(steps: list[tuple[int, int]]) -> None:
    smoothed, now_ns, seen = SmoothedEquity(5 * SECOND_NS), NOW_NS, list[int]()
    for after_ns, equity in steps:
        now_ns += after_ns
        seen.append(equity)
        mean = smoothed.add(now_ns, equity)
        assert isinstance(mean, int)
        assert min(seen) <= mean <= max(seen)


def test_B2_what_never_moves_is_its_own_mean_to_the_atom() -> None:
    equity = 10**20 + 1
    assert set(means(4, *((second / 3, equity) for second in range(40)))) == {equity}


def test_B2_a_fast_market_is_remembered_by_the_second() -> None:
    smoothed = SmoothedEquity(5 * SECOND_NS)
    for step in range(1_000):
        smoothed.add(at(step / 50), step)
    assert len(smoothed._stretches) <= 7


# --- round trips


@pytest.mark.parametrize(("price", "streak"), [(99, 1), (100, 0), (101, 0)])
def test_B4_what_the_exchange_closes_is_a_loss_below_its_entry(price: int, streak: int) -> None:
    trips = RoundTrips()
    trips.recover("one", BTC, 10 * ATOMS, 100)
    assert trips.end("one", instrument(is_perp=True), price, 10 * ATOMS)
    assert trips.streaks == {"one": streak}
    assert not trips.end("one", instrument(is_perp=True), price, 0)


def round_trip(*fills: tuple[int, int, int, float, float], is_perp: bool = False) -> list[int | None]:
    """Return the streak after each (signed lots, price, fee in quote, lots before, lots after), None before any."""
    trips, market = RoundTrips(), instrument(is_perp=is_perp)
    streaks: list[int | None] = []
    for lots, price, fee, before, after in fills:
        made = fill((buy if lots > 0 else sell)(abs(lots)), abs(lots), price, fee_atoms=fee * ATOMS)
        if lots > 0 and fee:
            made = msgspec.structs.replace(made, fee_currency="USDT")
        trips.book("one", market, made, int(before * ATOMS), int(after * ATOMS))
        streaks.append(trips.streaks.get("one"))
    return streaks


@pytest.mark.parametrize(
    ("fills", "streaks"),
    [
        ([(10, 100, 0, 0, 10), (-10, 100, 1, 10, 0)], [None, 1]),  # the fee of the sale is a loss
        ([(10, 100, 1, 0, 10), (-10, 100, 0, 10, 0)], [None, 1]),
        ([(10, 100, 0, 0, 10), (-10, 100, 0, 10, 0)], [None, 0]),
        ([(1, 100, 0, 0, 1), (1, 120, 0, 1, 1.4), (-1, 90, 0, 1.4, 0)], [None, None, 1]),  # a fee of 0.6 coins
        ([(10, 100, 0, 0, 10), (-4, 50, 0, 10, 6), (-6, 140, 0, 6, 0)], [None, None, 0]),
    ],
)
def test_B4_a_position_is_judged_by_all_that_was_paid_and_received_for_it(
    fills: list[tuple[int, int, int, float, float]], streaks: list[int | None]
) -> None:
    assert round_trip(*fills) == streaks


@pytest.mark.parametrize(("price", "streak"), [(98, 0), (99, 0), (100, 2)])
def test_B4_what_is_turned_round_begins_at_the_price_of_the_turn(price: int, streak: int) -> None:
    fills = (10, 100, 0, 0, 10), (-15, 99, 0, 10, -5), (5, price, 0, -5, 0)
    assert round_trip(*fills, is_perp=True) == [None, 1, streak]


def test_B4_a_loss_of_one_atom_is_a_loss() -> None:
    trips, perp = RoundTrips(), instrument(is_perp=True)
    assert not trips.book("one", perp, fill(buy(10), 10, 100, fee_atoms=1), 0, 10 * ATOMS)
    assert trips.end("one", perp, 100, 10 * ATOMS)
    assert trips.streaks == {"one": 1}


def test_B4_a_high_is_forgotten_when_it_is_asked_for() -> None:
    highs = HighWindow(300 * SECOND_NS)
    assert [highs.add(at(0), 500), highs.add(at(1), 400)] == [500, 500]
    highs.forget()
    assert highs.add(at(2), 400) == 400


def test_B3_a_fast_market_s_highs_are_remembered_by_the_second() -> None:
    highs = HighWindow(300 * SECOND_NS)
    for step in range(1_000):
        assert highs.add(at(step / 50), -step) == 0
    assert len(highs._falling) <= 21


@pytest.mark.parametrize(
    ("values", "after_s", "high"),
    [
        ([(0, 500), (1, 400)], 300, 500),
        ([(0, 500), (1, 400)], 300.5, 400),  # a second is over: the next value stands for itself
        ([(0, 500), (0.5, 500), (1.2, 400)], 301.1, 500),  # what is reached again begins its second again
        ([(0, 500), (0.5, 500), (1.2, 400)], 301.3, 100),  # and takes with it what it stood for
    ],
)
def test_B3_a_high_counts_for_its_window_and_stands_for_less_than_a_second(
    values: list[tuple[float, int]], after_s: float, high: int
) -> None:
    highs = HighWindow(300 * SECOND_NS)
    for seconds, equity in values:
        highs.add(at(seconds), equity)
    assert highs.add(at(after_s), 100) == high


# --- slippage


def slipped(slips: Slips, ticks: int, *, decided: int = 1_000_000, strategy: str = "one") -> str | None:
    order = buy(1)
    slips.decide(order.client_id, strategy, Side.BUY, decided)
    slips.book(fill(order, 1, decided + ticks))
    return slips.end(order.client_id)


def test_B17_the_mean_of_the_last_ten_trades_is_whole_and_rounded_down() -> None:
    slips = Slips()
    assert slips.mean_ppm("one") is None
    for ticks in range(SLIPS - 1):
        assert slipped(slips, ticks) == "one"
    assert slips.mean_ppm("one") is None
    slipped(slips, SLIPS - 1)
    assert repr(slips.mean_ppm("one")) == "4"  # 45 in ten
    slipped(slips, 20)
    assert slips.mean_ppm("one") == 6  # 65, as the first was 0
    slips.forget("two")
    slips.forget("one")
    assert slips.mean_ppm("one") is None


def test_B17_all_fills_of_an_order_count_by_their_lots() -> None:
    slips = Slips()
    for _ in range(SLIPS):
        slips.decide(buy(10).client_id, "one", Side.BUY, 1_000)
        for lots, price in ((1, 1_100), (3, 1_000), (6, 1_010)):
            slips.book(fill(buy(10), lots, price))
        slips.end(buy(10).client_id)
    assert repr(slips.mean_ppm("one")) == "16000"  # 100 and 60 ticks for 10 lots


# --- pace


def pace(**bounds: Any) -> Pace:
    return Pace(limits(**bounds))


def booked(intent: OrderIntent, lots: int, held: int, *, after_ns: int = 0) -> m.FillBooked:
    """Return a fill of a strategy that holds `held` lots after it."""
    made = fill(intent, lots, 100, at_ns=NOW_NS + after_ns)
    return m.FillBooked(ts_ns=made.ts_ns, fill=made, strategy="one", strategy_atoms=held * ATOMS, cash_atoms=0)


@pytest.mark.parametrize(
    ("before", "after", "repeats"),
    [
        (1, 2, 2),
        (2, 1, 2),
        (-1, -2, 2),
        (-2, -1, 2),
        (0, 1, 1),
        (1, 0, 1),
        (0, -1, 1),
        (-1, 0, 1),
        (1, -1, 1),
        (-1, 1, 1),
    ],
)
def test_C15_repetitions_count_while_a_position_keeps_its_sign(before: int, after: int, repeats: int) -> None:
    counts = pace(max_repeats=3)
    perp, order = instrument(is_perp=True), buy(1)
    counts.book(booked(order, 1, 7), perp, 6 * ATOMS, is_first=True)
    counts.book(booked(order, 1, after), perp, before * ATOMS, is_first=True)
    counts.book(booked(order, 1, after), perp, after * ATOMS, is_first=False)  # the rest of the same order
    assert counts.repeats("one", BTC, Side.BUY, NOW_NS) == repeats
    assert counts.repeats("one", BTC, Side.SELL, NOW_NS) == 0
    assert counts.repeats("one", ETH, Side.BUY, NOW_NS) == 0
    assert counts.repeats("one", BTC, Side.BUY, NOW_NS + REPEAT_NS - 1) == repeats
    assert counts.repeats("one", BTC, Side.BUY, NOW_NS + REPEAT_NS) == 0


@pytest.mark.parametrize(("strategy", "left"), [("one", 0), ("", 0), ("two", 1)])
def test_C15_an_operator_s_look_ends_the_repetitions_of_one_strategy_or_of_all(strategy: str, left: int) -> None:
    counts = pace(max_repeats=3)
    counts.book(booked(buy(1), 1, 7), instrument(), 6 * ATOMS, is_first=True)
    counts.acknowledge(strategy)
    assert counts.repeats("one", BTC, Side.BUY, NOW_NS) == left


def test_C11_the_same_order_is_one_of_the_same_strategy_market_side_price_and_quantity() -> None:
    counts = pace(duplicate_ns=SECOND_NS)
    counts.send(buy(10), 100, NOW_NS)
    later_ns = NOW_NS + SECOND_NS - 1

    def age_ns(
        strategy: str = "one", symbol: str = BTC, side: Side = Side.BUY, price: int = 100, lots: int = 10
    ) -> int:
        return counts.age_ns(strategy, symbol, side, price, lots, later_ns)

    assert age_ns() == SECOND_NS - 1
    others = [age_ns("two"), age_ns(symbol=ETH), age_ns(side=Side.SELL), age_ns(price=101), age_ns(lots=11)]
    assert all(age < 0 for age in others)
    later_ns += 1
    assert age_ns() < 0


def test_C18_orders_trades_and_refusals_count_for_five_minutes() -> None:
    counts = pace(max_orders_per_trade=5, max_reject_bps=5_000)
    order = buy(10)
    for step in (0, 1):
        counts.send(order, 100, NOW_NS + step)
        counts.book(booked(order, 1, step, after_ns=step), instrument(), 0, is_first=True)
        counts.book(booked(order, 1, step, after_ns=step), instrument(), 0, is_first=False)
        counts.hear(event(order, S.REJECTED, at_ns=NOW_NS + step), order)

    def all_counts(now_ns: int) -> tuple[int, int, int]:
        return counts.orders(now_ns), counts.trades(now_ns), counts.rejects(now_ns)

    assert all_counts(NOW_NS + WINDOW_NS - 1) == (2, 2, 2)
    assert all_counts(NOW_NS + WINDOW_NS) == (1, 1, 1)
    assert all_counts(NOW_NS + WINDOW_NS + 1) == (0, 0, 0)


@pytest.mark.parametrize("bounds", [{"max_orders_per_trade": 5}, {"max_reject_bps": 5_000}])
def test_C18_either_bound_alone_counts_orders_and_trades(bounds: dict[str, int]) -> None:
    counts, order = pace(**bounds), buy(10)
    counts.send(order, 100, NOW_NS)
    counts.book(booked(order, 1, 1), instrument(), 0, is_first=True)
    assert (counts.orders(NOW_NS), counts.trades(NOW_NS)) == (1, 1)
    off = pace()
    off.send(order, 100, NOW_NS)
    off.book(booked(order, 1, 1), instrument(), 0, is_first=True)
    assert (off.orders(NOW_NS), off.trades(NOW_NS)) == (0, 0)


def test_F30_refusals_in_a_row_are_of_one_strategy_market_and_side_and_end_with_a_fill() -> None:
    counts = pace(max_reject_bps=5_000)
    orders = buy(1), buy(1, strategy="two"), buy(1, symbol=ETH), sell(1)
    for order in orders:
        for reason in ("a", "b", "b"):
            counts.hear(msgspec.structs.replace(event(order, S.REJECTED), reason=reason), order)
    assert [(each.reason, each.count) for each in counts.rejected.values()] == [("b", 2)] * 4
    counts.book(booked(buy(1), 1, 1), instrument(), 0, is_first=True)
    assert list(counts.rejected) == [("two", BTC, Side.BUY), ("one", ETH, Side.BUY), ("one", BTC, Side.SELL)]
    counts.hear(event(orders[1], S.NEW), orders[1])  # the exchange took one
    counts.hear(event(orders[2], S.CANCELED), orders[2])
    assert list(counts.rejected) == [("one", ETH, Side.BUY), ("one", BTC, Side.SELL)]
    counts.forgive("one", ETH)
    assert list(counts.rejected) == [("one", BTC, Side.SELL)]


def test_what_our_own_send_port_refused_is_no_refusal_of_the_exchange() -> None:
    counts, order = pace(max_reject_bps=5_000), buy(1)
    for reason in ("not sent: too old", "", "the exchange says: not sent"):
        counts.hear(msgspec.structs.replace(event(order, S.REJECTED), reason=reason), order)
    assert counts.rejects(NOW_NS) == 2


def test_C19_a_day_s_trades_and_turnover_are_those_of_the_utc_day() -> None:
    counts = pace(max_trades=9, max_turnover_bps=1)
    order = buy(10)
    midnight_ns = (NOW_NS // DAY_NS + 1) * DAY_NS
    assert counts.today(NOW_NS) == (0, 0)
    for after_ns, is_first in ((0, True), (1, False), (2, True)):
        counts.book(booked(order, 3, 0, after_ns=after_ns), instrument(), 0, is_first=is_first)
    assert counts.today(NOW_NS) == (2, 900 * ATOMS)
    assert counts.today(midnight_ns - 1) == (2, 900 * ATOMS)
    assert counts.today(midnight_ns) == (0, 0)
    counts.book(booked(order, 5, 0, after_ns=midnight_ns - NOW_NS), instrument(), 0, is_first=False)
    assert counts.today(midnight_ns) == (0, 500 * ATOMS)
    counts.book(booked(order, 1, 0), instrument(), 0, is_first=True)  # told late: it counts as today's
    assert counts.today(midnight_ns) == (1, 600 * ATOMS)


def test_C10_the_usual_size_is_the_median_of_the_last_orders_that_grew_once_there_are_enough() -> None:
    counts = pace(max_order_multiple=10)
    for lots in range(1, SIZES_LEAST):
        counts.send(buy(lots, 100), 100, NOW_NS)
    counts.send(sell(50, 100), 100, NOW_NS)  # a reduction says nothing of what is usual
    assert counts.median_lots(BTC) == 0
    counts.send(buy(SIZES_LEAST, 100), 100, NOW_NS)
    assert (counts.median_lots(BTC), counts.median_lots(ETH)) == (3, 0)
    for lots in (10, 80):
        for _ in range(SIZES):
            counts.send(buy(lots, 100), 100, NOW_NS)
    assert counts.median_lots(BTC) == 80  # of the last twenty


# --- messages


def test_C14_each_count_has_its_own_bound_and_its_own_time() -> None:
    rate = OrderRate(2, 3, 4)
    for after_ns in (0, 0, SECOND_NS):
        assert rate.full(NOW_NS + after_ns) is None
        rate.count(NOW_NS + after_ns)
    refusals = [rate.full(NOW_NS + after_ns) for after_ns in (MINUTE_NS - 1, MINUTE_NS)]
    assert refusals == [(m.DenyReason.RATE_LIMIT, "3 orders in a minute, orders_per_minute 3"), None]
    rate.count(NOW_NS + MINUTE_NS)
    full = rate.full(NOW_NS + MINUTE_NS + SECOND_NS)
    assert full == (m.DenyReason.RATE_LIMIT, "4 orders today, orders_per_day 4")
    assert rate.full((NOW_NS // DAY_NS + 1) * DAY_NS) is None


def test_C14_a_second_begins_with_any_order() -> None:
    rate = OrderRate(2, 100, what="cancels")
    for after_ns in (0, SECOND_NS // 2):
        rate.count(NOW_NS + after_ns)
    full = (m.DenyReason.RATE_LIMIT, "2 cancels in a second, cancels_per_second 2")
    assert [rate.full(NOW_NS + after_ns) for after_ns in (SECOND_NS // 2, SECOND_NS - 1)] == [full, full]
    assert rate.full(NOW_NS + SECOND_NS) is None


def test_R5_a_session_goes_on_with_the_minute_and_the_day_of_the_last_one() -> None:
    budget = MessageBudget(limits(orders_per_minute=3, orders_per_day=100))
    budget.take_up([NOW_NS - MINUTE_NS + 1, NOW_NS - 2, NOW_NS - 1])
    assert budget.full(NOW_NS, is_increase=True) is not None
    assert budget.full(NOW_NS + 1, is_increase=True) is None


@pytest.mark.parametrize(("is_pessimistic", "minute_ns"), [(False, 0), (True, MINUTE_NS)])
def test_R5_orders_that_still_live_count_for_the_day(is_pessimistic: bool, minute_ns: int) -> None:
    budget = MessageBudget(limits(orders_per_minute=5, orders_per_day=3))
    budget.restart(NOW_NS, 2, is_pessimistic=is_pessimistic)
    first_ns = NOW_NS + minute_ns
    assert (budget.full(NOW_NS, is_increase=True) is None) is not is_pessimistic
    assert budget.full(first_ns, is_increase=True) is None
    budget.count_order(first_ns, is_increase=True)
    refusal = budget.full(first_ns, is_increase=True)
    assert refusal == (m.DenyReason.RATE_LIMIT, "3 orders today, orders_per_day 3")


@pytest.mark.parametrize(("per_second", "per_minute"), [(0, 5), (5, 0), (0, 0)])
def test_C14_without_a_reserve_an_exit_has_no_more_than_an_entry(per_second: int, per_minute: int) -> None:
    budget = MessageBudget(limits(orders_per_second=1, cancels_per_second=per_second, cancels_per_minute=per_minute))
    budget.count_order(NOW_NS, is_increase=False)
    assert budget.full(NOW_NS, is_increase=False) is not None


def test_C14_a_reserve_of_one_cancel_is_lent_once() -> None:
    budget = MessageBudget(limits(orders_per_second=1, cancels_per_second=1, cancels_per_minute=1))
    budget.count_order(NOW_NS, is_increase=True)
    assert budget.full(NOW_NS, is_increase=False) is None
    budget.count_order(NOW_NS, is_increase=False)
    assert budget.full(NOW_NS, is_increase=False) is not None


def test_C14_without_a_reserve_every_order_is_counted_as_one() -> None:
    budget = MessageBudget(limits(orders_per_second=1, orders_per_minute=2, cancels_per_second=5))
    for _ in range(2):
        budget.count_order(NOW_NS, is_increase=False)
    assert budget.full(NOW_NS + SECOND_NS, is_increase=False) is not None


def test_C14_an_entry_never_takes_from_the_reserve() -> None:
    budget = MessageBudget(limits(orders_per_second=1, cancels_per_second=1, cancels_per_minute=10))
    for _ in range(3):
        budget.count_order(NOW_NS, is_increase=True)
    assert budget.full(NOW_NS, is_increase=True) is not None
    assert budget.full(NOW_NS, is_increase=False) is None


def test_C14_an_exit_takes_from_the_orders_first() -> None:
    budget = MessageBudget(limits(orders_per_second=2, cancels_per_second=1, cancels_per_minute=10))
    for _ in range(2):
        budget.count_order(NOW_NS, is_increase=False)
    assert budget.cancels.full(NOW_NS) is None
    assert budget.orders.full(NOW_NS) is not None


def test_C14_exits_and_cancels_share_the_reserve() -> None:
    budget = MessageBudget(limits(orders_per_second=1, cancels_per_second=3, cancels_per_minute=10))
    budget.count_order(NOW_NS, is_increase=True)
    for _ in range(2):
        assert budget.full(NOW_NS, is_increase=False) is None
        budget.count_order(NOW_NS, is_increase=False)
    assert budget.cancels.full(NOW_NS) is None
    budget.count_cancel(NOW_NS)
    refusal = budget.full(NOW_NS, is_increase=False)
    assert refusal == (m.DenyReason.RATE_LIMIT, "1 orders in a second, orders_per_second 1")
    assert budget.full(NOW_NS + SECOND_NS, is_increase=True) is None


# --- troubles


def health(**bounds: Any) -> Health:
    return Health(BreakerBounds(**bounds))


def test_a_trouble_keeps_its_beginning_and_its_worst_and_tells_its_newest_detail() -> None:
    troubles = health(unknown_ns=30 * SECOND_NS)
    troubles.begin(at(0), Condition.CLOCK, severity=HALT, detail="first")
    troubles.begin(at(5), Condition.CLOCK, severity=REDUCE, detail="second")
    assert [(*demand,) for demand in troubles.demands(at(5))] == [(Condition.CLOCK, EVERYTHING, HALT, "second")]
    trouble = troubles.find(Condition.CLOCK)
    assert trouble is not None
    assert (trouble.since_ns, trouble.well_ns) == (at(0), None)


def test_a_trouble_that_lasts_says_for_how_long() -> None:
    troubles = health(book_ns=60 * SECOND_NS, unknown_ns=1, unknown_halt_ns=90 * SECOND_NS)
    troubles.begin(at(0), BOOK, f"symbol:{BTC}", detail="no book")
    troubles.begin(at(0), Condition.UNKNOWN_ORDER, f"symbol:{ETH}")
    assert [(*demand,) for demand in troubles.demands(at(90))] == [
        (BOOK, f"symbol:{BTC}", REDUCE, "no book, for 90 s"),
        (Condition.UNKNOWN_ORDER, f"symbol:{ETH}", REDUCE, "not well, for 90 s"),
        (Condition.UNKNOWN_ORDER, EVERYTHING, HALT, "not well, for 90 s"),
    ]
    assert [demand.state for demand in troubles.demands(at(89.9))] == [REDUCE, REDUCE]


@pytest.mark.parametrize(
    ("scope", "asked", "is_lasting"),
    [
        ("", "", True),
        ("", "symbol:A", False),
        ("symbol:A", "symbol:A", True),
        ("symbol:A", "", True),
        ("symbol:A", "symbol:B", False),
    ],
)
def test_what_lasts_in_one_place_lasts_everywhere_and_not_elsewhere(scope: str, asked: str, is_lasting: bool) -> None:
    troubles = health()
    troubles.begin(at(0), LIQUIDATION, scope)
    assert troubles.is_lasting(LIQUIDATION, asked) == ("not well" if is_lasting else "")
    assert troubles.is_lasting(BOOK, asked) == ""


def test_only_a_closed_latch_that_may_return_has_its_quiet_watched() -> None:
    troubles = health()
    for cause in (Condition.LOAD, LIQUIDATION):
        for is_latched in (False, True):
            troubles.begin(at(0), cause)
            troubles.end(at(10), cause, is_latched=is_latched)
            trouble = troubles.find(cause)
            assert (trouble is not None) is (is_latched and cause is Condition.LOAD)
    watched = troubles.find(Condition.LOAD)
    assert watched is not None
    assert (watched.well_ns, watched.quiet_ns) == (at(10), 60 * SECOND_NS)
    troubles.end(at(50), Condition.LOAD, is_latched=True)  # it is over already
    assert watched.well_ns == at(10)
    troubles.begin(at(55), Condition.LOAD)
    troubles.end(at(60), Condition.LOAD, is_latched=True)
    assert watched.quiet_ns == 120 * SECOND_NS  # twice from its first beginning
    troubles.restart_quiet(at(100))
    assert (watched.well_ns, watched.quiet_ns) == (at(100), 120 * SECOND_NS)


def test_an_opened_latch_forgets_a_trouble_that_is_over_and_no_other() -> None:
    troubles = health()
    troubles.begin(at(0), Condition.LOAD, detail="slow")
    troubles.forget(Condition.LOAD)
    troubles.forget(Condition.CLOCK)
    assert troubles.is_lasting(Condition.LOAD) == "slow"
    troubles.end(at(1), Condition.LOAD, is_latched=True)
    troubles.forget(Condition.LOAD)
    assert troubles.find(Condition.LOAD) is None


@pytest.mark.parametrize("scope", [EVERYTHING, f"symbol:{BTC}"])
def test_B9_refusals_are_a_trouble_from_the_first_to_the_last_of_a_minute(scope: str) -> None:
    troubles = health(rate_limits=3)
    for seconds in (0, 50, 61):
        troubles.refuse(at(seconds), scope, "slow down")
    assert list(troubles.demands(at(61))) == []  # the first is forgotten
    troubles.refuse(at(62), scope, "slow down")
    trouble = troubles.find(Condition.RATE_LIMIT, scope)
    assert trouble is not None
    assert (trouble.since_ns, trouble.well_ns, trouble.quiet_ns) == (at(50), at(62), 300 * SECOND_NS)
    assert [(*demand,) for demand in troubles.demands(at(70))] == [(Condition.RATE_LIMIT, scope, REDUCE, "slow down")]
    troubles.refuse(at(80), scope, "slow down")
    assert (trouble.since_ns, trouble.well_ns) == (at(50), at(80))


def test_B9_switched_off_nothing_is_counted() -> None:
    troubles = health()
    for seconds in range(100):
        troubles.refuse(at(seconds), EVERYTHING, "slow down")
    assert list(troubles.demands(at(100))) == []
