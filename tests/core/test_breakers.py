"""The circuit breakers: when each trips, what opens it again, and that nothing else does.

Most of them are asked alone, with amounts in whole units of quote currency and times in seconds; what concerns orders
is asked of the whole gate, and what must survive a restart of a journal that is read back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.assembly import limits_of
from bot.config import load_settings
from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.latches import Latches, latch_name
from bot.core.messages import SECOND_NS, Condition, RiskState
from bot.core.risk.bounds import BREAKER_CEILINGS, BreakerBounds
from bot.core.risk.breakers import Breakers
from bot.core.risk.health import RETURNING
from bot.core.risk.limits import above_ceiling
from bot.core.risk.rate import DAY_NS
from bot.errors import SettingsError
from tests.support.builders import BTC, ETH, NOW_NS, all_of, buy, fill, instrument, limits, liquidated, recovered, sell

NORMAL, REDUCE, HALT = RiskState.NORMAL, RiskState.REDUCE_ONLY, RiskState.HALTED
MINUTE, HOUR = 60, 3_600

STRICT = BreakerBounds(
    velocity_bps=200,
    losing_closes=3,
    differ_ns=30 * SECOND_NS,
    differ_halt_ns=120 * SECOND_NS,
    unknown_ns=30 * SECOND_NS,
    unknown_halt_ns=120 * SECOND_NS,
    cancels_ns=60 * SECOND_NS,
    rate_limits=3,
    stream_ns=10 * SECOND_NS,
    book_ns=60 * SECOND_NS,
    liquidation_bps=1_500,
    liquidation_flatten_bps=800,
    slippage_bps=50,
    blind_ns=60 * SECOND_NS,
)
"""Bounds as they may stand in the settings, with a short losing streak; the drawdown is not smoothed."""

Change = tuple[RiskState, str, str]
"""State, cause and scope."""


class Bench:
    """Breakers, their clock in seconds from its start, and everything that they ever said."""

    def __init__(self, bounds: BreakerBounds = STRICT, *, known: m.Recovered | None = None, **more: Any) -> None:
        self.breakers = Breakers(limits(breakers=bounds, **more))
        self.breakers.recover(known or recovered())
        self.said: list[m.RiskStateChanged | m.EquityMarked] = []
        self.now_s = 0.0

    @property
    def now_ns(self) -> int:
        return NOW_NS + int(self.now_s * SECOND_NS)

    def note(self, said: Iterable[m.RiskStateChanged | m.EquityMarked]) -> list[Change]:
        new = list(said)
        self.said += new
        return [(change.state, change.cause, change.scope) for change in all_of(new, m.RiskStateChanged)]

    def worth(self, equity: float | None, at_s: float | None = None) -> list[Change]:
        self.now_s = self.now_s if at_s is None else at_s
        return self.note(self.breakers.watch(self.now_ns, None if equity is None else int(equity * ATOMS)))

    def tick(self, at_s: float) -> list[Change]:
        self.now_s = at_s
        return self.note(self.breakers.tick(self.now_ns))

    def wait(self, until_s: float) -> list[Change]:
        """Let time pass, a tick each second."""
        changes: list[Change] = []
        while self.now_s < until_s:
            changes += self.tick(min(self.now_s + 1, until_s))
        return changes

    def report(self, condition: Condition, *, is_well: bool = False, **more: Any) -> list[Change]:
        report = m.HealthReported(ts_ns=self.now_ns, condition=condition, is_well=is_well, **more)
        return self.note(self.breakers.report(self.now_ns, report))

    def rearm(self, subject: str, equity: float | None = None, *, is_new_baseline: bool = False) -> str:
        """Return why the latch stays closed, or nothing."""
        refusal, said = self.breakers.rearm(
            self.now_ns,
            m.OperatorCommand(
                ts_ns=self.now_ns,
                verb="rearm",
                command_id="",
                subject=subject,
                who="ada",
                equity_atoms=None if equity is None else int(equity * ATOMS),
                is_new_baseline=is_new_baseline,
            ),
        )
        self.note(said)
        return refusal

    def resume(self) -> list[Change]:
        command = m.OperatorCommand(ts_ns=self.now_ns, verb="resume", command_id="", who="ada")
        return self.note(self.breakers.resume(self.now_ns, command))

    def trade(self, strategy: str, entry: int, leave: int, *, lots: int = 10) -> list[Change]:
        """Let a strategy buy at one price and sell at another."""
        changes: list[Change] = []
        for order, before, after in ((buy(lots), 0, lots), (sell(lots), lots, 0)):
            booked = m.FillBooked(
                ts_ns=self.now_ns,
                fill=fill(order, lots, entry if after else leave),
                strategy=strategy,
                strategy_atoms=after * ATOMS,
                cash_atoms=0,
            )
            changes += self.note(self.breakers.book(booked, instrument(), before * ATOMS))
        return changes

    def slip(self, price: int, decided: int = 1_000, *, side: Side = Side.BUY, strategy: str = "one") -> list[Change]:
        """Let an order of a strategy that was decided at one price trade at another."""
        self.now_s += 1
        order = buy(10) if side is Side.BUY else sell(10)
        self.breakers.decide(order.client_id, strategy, side, decided)
        booked = m.FillBooked(
            ts_ns=self.now_ns, fill=fill(order, 10, price), strategy=strategy, strategy_atoms=0, cash_atoms=0
        )
        self.note(self.breakers.book(booked, instrument(), 0))
        return self.note(self.breakers.end_order(self.now_ns, order.client_id))

    @property
    def state(self) -> RiskState:
        latch = self.breakers.latches.strictest()
        return NORMAL if latch is None else latch.state

    @property
    def closed(self) -> list[str]:
        return [latch_name(latch) for latch in self.breakers.latches]

    @property
    def marked(self) -> m.EquityMarked:
        return all_of(self.said, m.EquityMarked)[-1]


# --- latches


def change(state: RiskState, cause: str = "drawdown", scope: str = "", who: str = "ada") -> m.RiskStateChanged:
    return m.RiskStateChanged(ts_ns=NOW_NS, state=state, cause=cause, detail="", scope=scope, who=who)


def latches(*changes: m.RiskStateChanged) -> Latches:
    made = Latches({BTC: "majors"})
    for each in changes:
        made.take(each)
    return made


@pytest.mark.parametrize(
    ("closed", "cause"),
    [
        ([], None),
        ([change(REDUCE, "a")], "a"),
        ([change(REDUCE, "a"), change(REDUCE, "b")], "a"),
        ([change(REDUCE, "a"), change(HALT, "b")], "b"),
        ([change(REDUCE, "a"), change(HALT, "b", f"symbol:{BTC}")], "b"),
        ([change(HALT, "a"), change(REDUCE, "b", f"symbol:{BTC}")], "a"),
        ([change(REDUCE, "a"), change(HALT, "b", "strategy:one")], "b"),
        ([change(REDUCE, "a"), change(HALT, "b", "group:majors")], "b"),
        ([change(HALT, "a", f"symbol:{ETH}"), change(HALT, "b", "strategy:two"), change(HALT, "c", "group:x")], None),
        ([change(HALT, "a"), change(NORMAL, "a")], None),
        ([change(HALT, "a"), change(REDUCE, "b"), change(NORMAL, "a")], "b"),
        ([change(HALT, "a", f"symbol:{BTC}"), change(NORMAL, "a")], "a"),
        ([change(HALT, "operator"), change(REDUCE, "b"), change(NORMAL, "operator")], "b"),
    ],
)
def test_the_strictest_latch_over_an_order_counts(closed: list[m.RiskStateChanged], cause: str | None) -> None:
    latch = latches(*closed).over("one", BTC)
    assert (None if latch is None else latch.cause) == cause


def test_an_old_journal_s_resume_opens_everything() -> None:
    closed = latches(change(HALT, "drawdown"), change(HALT, "b", f"symbol:{BTC}"), change(NORMAL, "operator", who=""))
    assert list(closed) == []
    assert closed.over("one", BTC) is None


# --- B1: the day's loss


@pytest.mark.parametrize(
    ("equity", "state"),
    [(9_700.01, NORMAL), (9_700, REDUCE), (9_500.01, REDUCE), (9_500, HALT), (0, HALT)],
)
def test_B1_the_day_s_loss_trips_at_its_bound(equity: float, state: RiskState) -> None:
    bench = Bench(BreakerBounds(), drawdown_bps=20_000, drawdown_halt_bps=20_000)
    bench.worth(10_000)
    assert bench.worth(equity, 1) == ([] if state is NORMAL else [(state, "daily_loss", "")])


def test_B1_F100_a_new_day_measures_anew_and_keeps_the_latch() -> None:
    bench = Bench(BreakerBounds())
    bench.worth(10_000)
    bench.worth(9_700, 1)
    to_midnight_s = (DAY_NS - NOW_NS % DAY_NS) // SECOND_NS
    bench.worth(9_700, to_midnight_s)
    assert bench.state is REDUCE
    assert bench.marked.day_start_atoms == 9_700 * ATOMS
    assert bench.worth(9_216, to_midnight_s + 1) == []  # 4.99 % of the new day's start
    assert bench.worth(9_215, to_midnight_s + 2)[:1] == [(HALT, "daily_loss", "")]


@pytest.mark.parametrize("days", [1, 2, 400])
def test_F59_F58_a_clock_behind_is_no_new_day(days: int) -> None:
    """The last session's clock stood ahead; its baselines hold, the loss since then counts."""
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=9_800 * ATOMS,
        peak_atoms=10_000 * ATOMS,
        day=NOW_NS // DAY_NS + days,
        day_start_atoms=10_000 * ATOMS,
    )
    bench = Bench(BreakerBounds(), known=recovered(equity=marked))
    assert bench.worth(9_700.01) == []
    assert bench.worth(9_700, 1) == [(REDUCE, "daily_loss", "")]


# --- B2: drawdown


@pytest.mark.parametrize(
    ("equity", "state"),
    [(9_200.01, NORMAL), (9_200, REDUCE), (8_800.01, REDUCE), (8_800, HALT)],
)
def test_B2_a_drawdown_trips_at_its_bound(equity: float, state: RiskState) -> None:
    bench = Bench(BreakerBounds(), daily_loss_bps=9_000, daily_loss_halt_bps=9_500)
    bench.worth(10_000)
    bench.worth(equity, 1)
    assert bench.state is state


SMOOTH = BreakerBounds(drawdown_smooth_ns=60 * SECOND_NS)
WIDE: dict[str, Any] = {"daily_loss_bps": 9_000, "daily_loss_halt_bps": 9_500}


@pytest.mark.parametrize("wrong", [1.0, 5_000.0, 20_000.0])
def test_B2_one_wrong_price_is_no_drawdown_and_no_peak(wrong: float) -> None:
    bench = Bench(SMOOTH, daily_loss_bps=10_000, daily_loss_halt_bps=10_000)
    for second in range(120):
        bench.worth(10_000, second)
    assert bench.worth(wrong, 120) == []
    for second in range(121, 300):
        assert bench.worth(10_000, second) == []


@pytest.mark.parametrize(("fall", "trips_s"), [(2_000, 24), (1_000, 48), (800, 60)])
def test_B2_a_fall_that_lasts_trips_when_its_mean_has_fallen_as_far(fall: int, trips_s: int) -> None:
    bench = Bench(SMOOTH, **WIDE)
    for quarter in range(240):
        bench.worth(10_000, quarter / 4)
    second = next(second for second in range(100) if bench.worth(10_000 - fall, 60 + second))
    assert abs(second - trips_s) <= 1  # the window moves in steps of a second


# --- B3: a rush


@pytest.mark.parametrize(
    ("equity", "after_s", "trips"),
    [(9_800.01, 1, False), (9_800, 1, True), (9_800, 300, True), (9_800, 301, False)],
)
def test_B3_a_fast_loss_halts_at_its_bound(equity: float, after_s: int, trips: bool) -> None:
    bench = Bench(STRICT)
    bench.worth(10_000)
    assert bench.worth(equity, after_s) == ([(HALT, "loss_velocity", "")] if trips else [])


def test_B3_a_slow_loss_is_no_rush_and_a_slower_one_s_highest_counts() -> None:
    bench = Bench(STRICT)
    for minute in range(10):
        assert bench.worth(10_000 - 29 * minute, MINUTE * minute) == []
    bench = Bench(STRICT, known=recovered(cash=0))
    for second, equity in enumerate([10_000, 9_990, 10_050, 9_990, 9_900]):
        assert bench.worth(equity, second) == []
    assert bench.worth(9_849, 6) == [(HALT, "loss_velocity", "")]  # 2 % of 10,050


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1_000)), min_size=1, max_size=60))
def test_B3_the_window_never_knows_less_than_a_list_of_all(steps: list[tuple[int, int]]) -> None:
    from bot.core.risk.losses import HighWindow

    window, history, now_s = HighWindow(300 * SECOND_NS), list[tuple[int, int]](), 0
    for wait_quarters, equity in steps:
        now_s += wait_quarters
        history.append((now_s, equity))
        highest = window.add(now_s * SECOND_NS // 4, equity)
        assert highest >= max(value for at, value in history if now_s - at <= 1_200)
        assert highest <= max(value for at, value in history if now_s - at <= 1_204)


# --- B4: losing streaks


def test_B4_a_strategy_that_only_loses_may_only_reduce() -> None:
    bench = Bench()
    assert bench.trade("one", 100, 99) == []
    assert bench.trade("one", 100, 99) == []
    assert bench.trade("two", 100, 99) == []
    assert bench.trade("one", 100, 99) == [(REDUCE, "losing_streak", "strategy:one")]


@pytest.mark.parametrize("leave", [100, 101])
def test_B4_a_position_that_did_not_lose_ends_the_streak(leave: int) -> None:
    bench = Bench()
    for price in (99, 99, leave, 99, 99):
        assert bench.trade("one", 100, price) == []
    assert bench.trade("one", 100, 99) != []


def test_B4_a_position_is_judged_when_it_is_over_with_all_its_fees() -> None:
    bench, atoms = Bench(msgspec.structs.replace(STRICT, losing_closes=1)), 0
    steps = [(Side.BUY, 10, 100, 0), (Side.SELL, 4, 90, 0), (Side.SELL, 6, 107, 3)]  # -40 + 42 - 3
    for number, (side, lots, price, fee) in enumerate(steps):
        order = buy(lots) if side is Side.BUY else sell(lots)
        before, atoms = atoms, atoms + side.sign * lots * ATOMS
        booked = m.FillBooked(
            ts_ns=NOW_NS,
            fill=fill(order, lots, price, fee_atoms=fee * ATOMS),
            strategy="one",
            strategy_atoms=atoms,
            cash_atoms=0,
        )
        said = bench.note(bench.breakers.book(booked, instrument(quote_fee_ppm=1), before))
        assert bool(said) is (number == 2)


def test_B4_turning_round_ends_a_position_and_begins_another() -> None:
    bench, perp = Bench(msgspec.structs.replace(STRICT, losing_closes=2)), instrument(is_perp=True)

    def trade(order: Any, lots: int, price: int, before: int, after: int) -> list[Change]:
        booked = m.FillBooked(
            ts_ns=NOW_NS,
            fill=fill(order, lots, price),
            strategy="one",
            strategy_atoms=after * ATOMS,
            cash_atoms=0,
        )
        return bench.note(bench.breakers.book(booked, perp, before * ATOMS))

    assert trade(buy(10), 10, 100, 0, 10) == []
    assert trade(sell(15), 15, 99, 10, -5) == []  # -10, and short at 99
    assert trade(buy(5), 5, 100, -5, 0) == [(REDUCE, "losing_streak", "strategy:one")]  # -5


def test_B4_a_liquidation_is_a_losing_close() -> None:
    known = recovered(held={"one": {BTC: 10}}, entries={"one": {BTC: 100}})
    bench = Bench(msgspec.structs.replace(STRICT, losing_closes=1), known=known)
    perp = instrument(is_perp=True)
    said = bench.note(bench.breakers.end_position(liquidated(-10, 50), "one", perp, 10 * ATOMS))
    assert said == [(REDUCE, "losing_streak", "strategy:one")]


# --- B5 to B13, B18: health, with patience

PATIENT = [
    ("B5", Condition.RECONCILIATION, "", 30, 120),
    ("B6", Condition.UNKNOWN_ORDER, f"symbol:{BTC}", 30, 120),
    ("B7", Condition.CANCELS, "", 60, None),
    ("B10", Condition.PRIVATE_STREAM, "", 10, None),
]


@pytest.mark.parametrize(
    ("breaker", "condition", "scope", "reduce_s", "halt_s"), PATIENT, ids=[row[0] for row in PATIENT]
)
def test_B5_B6_B7_B10_patience_ends_at_its_bound(
    breaker: str, condition: Condition, scope: str, reduce_s: int, halt_s: int | None
) -> None:
    bench = Bench()
    bench.report(condition, scope=scope, detail="broken")
    assert bench.wait(reduce_s - 0.001) == []
    assert bench.tick(reduce_s) == [(REDUCE, condition, scope)]
    if halt_s is None:
        assert bench.wait(600) == []
        return
    assert bench.wait(halt_s - 0.001) == []
    assert bench.tick(halt_s) == [(HALT, condition, "")]


@pytest.mark.parametrize("condition", [row[1] for row in PATIENT])
def test_what_is_well_again_in_time_trips_nothing(condition: Condition) -> None:
    bench = Bench()
    for _ in range(5):
        bench.report(condition)
        bench.wait(bench.now_s + 9)
        bench.report(condition, is_well=True)
        assert bench.wait(bench.now_s + 1) == []
    assert bench.closed == []


AT_ONCE = [
    ("B8", Condition.AUTHORITY, REDUCE, HALT),
    ("B11", Condition.JOURNAL, REDUCE, REDUCE),
    ("B11", Condition.JOURNAL, HALT, HALT),
    ("B12", Condition.LOAD, REDUCE, REDUCE),
    ("B13", Condition.CLOCK, REDUCE, REDUCE),
    ("B13", Condition.CLOCK, HALT, HALT),
    ("B15", Condition.FOREIGN_ORDER, REDUCE, REDUCE),
    ("B15", Condition.FOREIGN_ORDER, HALT, HALT),
    ("B16", Condition.INTEGRITY, HALT, HALT),
    ("B16", Condition.INTEGRITY, REDUCE, REDUCE),
    ("B19", Condition.KILL, REDUCE, HALT),
    ("C21", Condition.ACCOUNT_MODE, REDUCE, REDUCE),
]


@pytest.mark.parametrize(("breaker", "condition", "reported", "state"), AT_ONCE, ids=str)
@pytest.mark.parametrize("scope", ["", f"symbol:{BTC}"])
def test_B8_B11_B12_B13_B15_B16_B19_F108_some_trip_at_once(
    breaker: str, condition: Condition, reported: RiskState, state: RiskState, scope: str
) -> None:
    assert Bench().report(condition, severity=reported, scope=scope) == [(state, condition, scope)]


def test_B13_a_clock_that_gets_worse_halts() -> None:
    bench = Bench()
    assert bench.report(Condition.CLOCK, severity=REDUCE) == [(REDUCE, "clock", "")]
    assert bench.report(Condition.CLOCK, severity=HALT) == [(HALT, "clock", "")]
    bench.report(Condition.CLOCK, is_well=True)
    assert bench.wait(HOUR) == []  # HALTED is opened by hand only


@pytest.mark.parametrize(("gaps_s", "trips"), [((0, 30, 30), True), ((0, 30, 30.001), False), ((0, 61, 0.5), False)])
def test_B9_too_many_rate_limit_answers_pause(gaps_s: tuple[float, ...], trips: bool) -> None:
    bench, changes = Bench(), list[Change]()
    for gap_s in gaps_s:
        bench.now_s += gap_s
        changes += bench.report(Condition.RATE_LIMIT)
    assert changes == ([(REDUCE, "rate_limit", "")] if trips else [])


def test_B9_the_pause_ends_five_minutes_after_the_last_answer_and_a_ban_does_not() -> None:
    bench = Bench()
    for _ in range(3):
        bench.report(Condition.RATE_LIMIT)
    bench.wait(100)
    bench.report(Condition.RATE_LIMIT)
    assert bench.wait(399) == []
    assert bench.wait(400) == [(NORMAL, "rate_limit", "")]
    assert bench.report(Condition.RATE_LIMIT, severity=HALT) == [(HALT, "rate_limit", "")]
    assert bench.wait(2 * HOUR) == []


@pytest.mark.parametrize(("silent_s", "is_held", "trips"), [(59.9, True, False), (60, True, True), (600, False, False)])
def test_B10_a_stale_book_of_what_is_held_stops_its_growth(silent_s: float, is_held: bool, trips: bool) -> None:
    bench = Bench()
    bench.breakers.watch_book(bench.now_ns, BTC, NOW_NS, is_held=is_held)
    bench.now_s = silent_s
    bench.breakers.watch_book(bench.now_ns, BTC, None, is_held=is_held)
    assert bench.tick(silent_s) == ([(REDUCE, "stale_book", f"symbol:{BTC}")] if trips else [])


@pytest.mark.parametrize(("is_blind", "wait_s", "trips"), [(True, 59.9, False), (True, 60, True), (False, 600, False)])
def test_B18_equity_unknown_for_long_stops_growth(is_blind: bool, wait_s: float, trips: bool) -> None:
    bench = Bench()
    bench.breakers.watch_sight(bench.now_ns, is_blind=is_blind)
    assert bench.wait(wait_s) == ([(REDUCE, "equity_unknown", "")] if trips else [])


# --- B14: liquidation


@pytest.mark.parametrize(
    ("distance_bps", "causes"),
    [(None, []), (1_500, []), (1_499, ["liquidation"]), (800, ["liquidation"]), (799, ["flatten", "liquidation"])],
)
def test_B14_a_perpetual_near_its_liquidation_only_shrinks(distance_bps: int | None, causes: list[str]) -> None:
    bench = Bench()
    said = bench.note(bench.breakers.watch_liquidation(bench.now_ns, BTC, distance_bps)) + bench.tick(0)
    assert said == [(REDUCE, cause, f"symbol:{BTC}") for cause in causes]


def test_B14_is_opened_by_hand_when_the_liquidation_is_far_again() -> None:
    bench = Bench()
    list(bench.breakers.watch_liquidation(bench.now_ns, BTC, 1_000))
    bench.tick(0)
    assert "still not well" in bench.rearm(f"liquidation@symbol:{BTC}")
    list(bench.breakers.watch_liquidation(bench.now_ns, BTC, 2_000))
    assert bench.wait(HOUR) == []
    assert bench.rearm(f"liquidation@symbol:{BTC}") == ""
    assert bench.closed == []


# --- B17: slippage


@pytest.mark.parametrize(("price", "side", "trips"), [(1_005, Side.BUY, True), (1_004, Side.BUY, False)])
def test_B17_ten_dear_trades_stop_a_strategy(price: int, side: Side, trips: bool) -> None:
    bench = Bench()
    for _ in range(9):
        assert bench.slip(price, side=side) == []
    assert bench.slip(price, side=side) == ([(REDUCE, "slippage", "strategy:one")] if trips else [])


def test_B17_a_sale_slips_downwards_and_gains_count_against_losses() -> None:
    bench = Bench()
    for _ in range(9):
        assert bench.slip(995, side=Side.SELL) == []
    assert bench.slip(996, side=Side.SELL) == []
    assert bench.slip(995, strategy="two") == []
    assert bench.slip(995, side=Side.SELL) == []  # the first nine and a 4
    for _ in range(8):
        bench.slip(995, side=Side.SELL)
    assert bench.slip(995, side=Side.SELL) == [(REDUCE, "slippage", "strategy:one")]


def test_an_order_that_never_traded_is_no_trade() -> None:
    bench = Bench()
    bench.breakers.decide("x", "one", Side.BUY, 100)
    assert bench.note(bench.breakers.end_order(NOW_NS, "x")) == []
    assert bench.note(bench.breakers.end_order(NOW_NS, "never heard of")) == []


# --- what opens by itself


@pytest.mark.parametrize(("outage_s", "quiet_s"), [(10, 60), (30, 60), (31, 62), (100, 200)])
def test_a_trouble_s_latch_opens_after_a_minute_or_twice_its_length(outage_s: int, quiet_s: int) -> None:
    bench = Bench()
    bench.report(Condition.PRIVATE_STREAM)
    bench.wait(outage_s)
    bench.report(Condition.PRIVATE_STREAM, is_well=True)
    assert bench.wait(outage_s + quiet_s - 0.001) == []
    assert bench.tick(outage_s + quiet_s) == [(NORMAL, "private_stream", "")]
    assert all_of(bench.said, m.RiskStateChanged)[-1].who == ""


def test_a_trouble_that_comes_back_in_its_quiet_is_the_same_trouble() -> None:
    bench = Bench()
    bench.report(Condition.LOAD)
    bench.wait(20)
    bench.report(Condition.LOAD, is_well=True)
    bench.wait(70)
    bench.report(Condition.LOAD)
    bench.wait(80)
    bench.report(Condition.LOAD, is_well=True)
    assert bench.wait(80 + 159) == []
    assert bench.wait(80 + 160) == [(NORMAL, "load", "")]


def test_three_returns_in_an_hour_and_the_next_stays() -> None:
    bench, returned = Bench(), 0
    for _ in range(5):
        bench.report(Condition.LOAD)
        bench.report(Condition.LOAD, is_well=True)
        returned += bench.wait(bench.now_s + 61) == [(NORMAL, "load", "")]
    assert (returned, bench.closed) == (3, ["load"])
    assert bench.wait(3 * HOUR) == []
    assert bench.rearm("load") == ""
    bench.report(Condition.LOAD)
    bench.report(Condition.LOAD, is_well=True)
    assert bench.wait(bench.now_s + 61) == [(NORMAL, "load", "")]  # an hour without one


def test_F58_no_quiet_is_counted_over_time_that_was_slept_through() -> None:
    bench = Bench()
    bench.report(Condition.LOAD)
    bench.wait(10)
    bench.report(Condition.LOAD, is_well=True)
    bench.wait(20)
    assert bench.tick(20 + 8 * HOUR) == []
    assert bench.wait(20 + 8 * HOUR + 59) == []
    assert bench.wait(20 + 8 * HOUR + 60) == [(NORMAL, "load", "")]


def test_live_a_latch_opens_only_after_the_books_were_found_equal() -> None:
    bench, cash = Bench(), m.Difference(kind="cash", name="spot", ours=1, theirs=2)

    def compare(*differences: m.Difference, market: m.Wallet = "spot") -> None:
        bench.breakers.compare(
            bench.now_ns, m.AccountCompared(ts_ns=bench.now_ns, market=market, differences=differences)
        )

    compare()
    compare(market="futures")
    bench.report(Condition.PRIVATE_STREAM)
    bench.wait(20)
    bench.report(Condition.PRIVATE_STREAM, is_well=True)
    assert bench.wait(100) == []
    compare()
    assert bench.tick(101) == []
    compare(cash, market="futures")
    assert bench.tick(102) == []
    compare(market="futures")
    assert bench.tick(103) == [(NORMAL, "private_stream", "")]


@pytest.mark.parametrize("condition", [c for c in Condition if c not in RETURNING])
def test_R2_what_does_not_return_stays_closed_however_well_it_is(condition: Condition) -> None:
    bench = Bench()
    bench.report(condition)
    bench.wait(40)
    assert bench.closed
    bench.report(condition, is_well=True)
    assert bench.wait(2 * HOUR) == []
    assert bench.closed


# --- by hand


def test_F101_a_latch_is_opened_by_its_name() -> None:
    bench = Bench()
    bench.report(Condition.INTEGRITY, scope=f"symbol:{BTC}", severity=HALT)
    bench.report(Condition.AUTHORITY)
    assert "is not closed; closed: integrity@symbol:BTC_USDT, authority" in bench.rearm("integrity")
    assert "nothing is not closed" in bench.rearm("")
    assert bench.rearm(f"integrity@symbol:{BTC}") == ""
    assert bench.closed == ["authority"]
    assert bench.rearm("authority") == ""
    opened = all_of(bench.said, m.RiskStateChanged)[-1]
    assert (opened.state, opened.cause, opened.who) == (NORMAL, "authority", "ada")


def test_two_causes_need_two_hands() -> None:
    bench = Bench(BreakerBounds())
    bench.worth(10_000)
    bench.worth(9_200, 1)
    assert bench.closed == ["daily_loss", "drawdown"]
    assert bench.rearm("drawdown", 9_200) == ""
    assert bench.closed == ["daily_loss"]


def test_what_is_still_not_well_cannot_be_rearmed() -> None:
    bench = Bench()
    bench.report(Condition.KILL, detail="the kill file is there")
    assert "still not well: the kill file is there" in bench.rearm("kill")
    assert bench.resume() == []
    bench.report(Condition.KILL, is_well=True)
    assert bench.rearm("kill") == ""


def test_while_an_order_is_unknown_the_halt_that_it_brought_stays() -> None:
    bench = Bench()
    bench.report(Condition.UNKNOWN_ORDER, scope=f"symbol:{BTC}")
    bench.wait(120)
    assert "still not well" in bench.rearm("unknown_order")
    bench.report(Condition.UNKNOWN_ORDER, is_well=True, scope=f"symbol:{BTC}")
    assert bench.rearm("unknown_order") == ""
    assert bench.closed == [f"unknown_order@symbol:{BTC}"]


@pytest.mark.parametrize(
    ("equity", "words"),
    [
        (None, "wants evidence"),
        (9_500, "equity is 9,700.00, not 9,500.00"),
        (9_700, ""),
        (9_604, ""),
        (9_602, "equity is"),
    ],
)
def test_a_loss_is_rearmed_on_evidence(equity: float | None, words: str) -> None:
    bench = Bench(BreakerBounds())
    bench.worth(10_000)
    bench.worth(9_700, 1)
    refusal = bench.rearm("daily_loss", equity)
    assert words in refusal
    assert (refusal == "") is (words == "")


def test_B1_rearming_keeps_the_day_s_start_and_forgives_up_to_the_harder_bound() -> None:
    bench = Bench(BreakerBounds())
    bench.worth(10_000)
    bench.worth(9_700, 1)
    assert bench.rearm("daily_loss", 9_700) == ""
    assert bench.marked.day_start_atoms == 10_000 * ATOMS
    assert bench.marked.forgiven == ("daily_loss",)
    assert bench.worth(9_501, 2) == []
    assert bench.worth(9_500, 3) == [(HALT, "daily_loss", "")]
    assert "would halt again at once" in bench.rearm("daily_loss", 9_500)
    assert bench.rearm("daily_loss", 9_500, is_new_baseline=True) == ""
    assert bench.worth(9_216, 4) == []  # 2.99 %
    assert bench.worth(9_215, 5) == [(REDUCE, "daily_loss", "")]


def test_B2_a_drawdown_that_halted_is_rearmed_with_a_new_peak_and_stays_open() -> None:
    """The peak is for all time, so without a new one it would halt again at the next price."""
    bench = Bench(BreakerBounds(), **WIDE)
    bench.worth(10_000)
    bench.worth(8_800, 1)
    assert "would halt again at once" in bench.rearm("drawdown", 8_800)
    assert bench.rearm("drawdown", 8_800, is_new_baseline=True) == ""
    assert bench.worth(8_790, 2) == []
    assert bench.marked.peak_atoms == 8_800 * ATOMS
    assert bench.worth(8_096, 3) == [(REDUCE, "drawdown", "")]


@pytest.mark.parametrize("cause", ["loss_velocity", "integrity"])
def test_what_has_no_baseline_gets_none(cause: str) -> None:
    bench = Bench()
    bench.worth(10_000)
    bench.report(Condition.INTEGRITY)
    bench.worth(9_800, 1)
    assert "has no baseline" in bench.rearm(cause, 9_800, is_new_baseline=True)


def test_B3_B4_B17_a_rearmed_measure_begins_anew() -> None:
    bench = Bench()
    bench.worth(10_000)
    bench.worth(9_800, 1)
    assert bench.rearm("loss_velocity", 9_800) == ""
    assert bench.worth(9_799, 2) == []
    for _ in range(3):
        bench.trade("one", 100, 99)
    assert bench.rearm("losing_streak@strategy:one") == ""
    assert bench.trade("one", 100, 99) == []
    for _ in range(10):
        bench.slip(1_010)
    assert bench.rearm("slippage@strategy:one") == ""
    assert bench.slip(1_010) == []


def test_a_resumed_measure_begins_anew_as_well() -> None:
    bench = Bench()
    bench.worth(10_000)
    for _ in range(3):
        bench.trade("one", 100, 99)
    assert [cause for _, cause, _ in bench.resume()] == ["losing_streak"]
    assert bench.marked.losing_streaks == {}
    assert bench.trade("one", 100, 99) == []


def test_live_no_latch_opens_by_itself_before_the_first_comparison() -> None:
    bench = Bench()
    bench.breakers = Breakers(limits(breakers=STRICT), reconciles=("spot",))
    bench.breakers.recover(recovered(latches=(change(REDUCE, "load"),)))
    assert bench.wait(200) == []
    bench.breakers.compare(bench.now_ns, m.AccountCompared(ts_ns=bench.now_ns, market="spot", differences=()))
    assert bench.wait(201) == [(NORMAL, "load", "")]


def test_resume_leaves_losses_in_breach_and_broken_integrity() -> None:
    bench = Bench(BreakerBounds())
    bench.note(bench.breakers.operate(bench.now_ns, HALT, "operator", "halt"))
    bench.worth(10_000)
    bench.worth(9_700, 1)
    bench.report(Condition.INTEGRITY)
    bench.report(Condition.AUTHORITY)
    assert [cause for _, cause, _ in bench.resume()] == ["operator", "authority"]
    assert "daily_loss, integrity stays closed" in bench.breakers.kept()
    bench.worth(9_800, 2)
    assert [cause for _, cause, _ in bench.resume()] == ["daily_loss"]
    assert bench.rearm("integrity") == ""
    assert bench.breakers.kept() == ""


# --- money from outside


@pytest.mark.parametrize("atoms", [-5_000 * ATOMS, 5_000 * ATOMS])
def test_F74_money_from_outside_is_no_gain_and_no_loss(atoms: int) -> None:
    bench = Bench(msgspec.structs.replace(STRICT, drawdown_smooth_ns=60 * SECOND_NS))
    bench.worth(10_000)
    bench.worth(10_000, 30)
    bench.note(bench.breakers.flow(bench.now_ns, atoms))
    after = 10_000 + atoms // ATOMS
    for second in range(31, 100):
        assert bench.worth(after, second) == []
    marked = bench.marked
    assert (marked.peak_atoms, marked.day_start_atoms) == (after * ATOMS, after * ATOMS)
    assert marked.external_atoms == atoms
    assert bench.worth(after * 0.98, 101) == [(HALT, "loss_velocity", "")]


# --- what a restart keeps


def restarted(bench: Bench, at_s: float) -> Bench:
    """Return breakers of a new session, on what the last one said."""
    known = recovered(
        at_ns=NOW_NS + int(at_s * SECOND_NS),
        latches=tuple(bench.breakers.latches),
        equity=bench.breakers.mark(bench.now_ns),
    )
    again = Bench(known=known)
    again.now_s = at_s
    return again


def test_B4_a_streak_goes_on_after_a_restart() -> None:
    bench = Bench()
    bench.worth(10_000)
    bench.trade("one", 100, 99)
    bench.trade("one", 100, 99)
    assert bench.marked.losing_streaks == {"one": 2}  # written at once, not at the next full minute
    assert restarted(bench, 100).trade("one", 100, 99) == [(REDUCE, "losing_streak", "strategy:one")]


def test_what_returned_too_often_stays_after_a_restart_as_well() -> None:
    bench = Bench()
    bench.worth(10_000)
    for _ in range(3):
        bench.report(Condition.LOAD)
        bench.report(Condition.LOAD, is_well=True)
        bench.wait(bench.now_s + 61)
    bench.report(Condition.LOAD)
    again = restarted(bench, 300)
    assert again.wait(HOUR) == []
    assert again.closed == ["load"]


def test_a_trouble_s_latch_opens_a_minute_after_a_restart_unless_it_is_still_there() -> None:
    bench = Bench()
    bench.report(Condition.LOAD)
    bench.report(Condition.CLOCK)
    again = restarted(bench, 100)
    again.tick(100)
    again.report(Condition.CLOCK)
    assert again.wait(159) == []
    assert again.wait(160) == [(NORMAL, "load", "")]
    assert again.wait(HOUR) == []


def test_a_state_without_a_latch_is_kept_too() -> None:
    """Journals from before there were latches know one state and its cause."""
    bench = Bench(known=recovered(risk_state=HALT, risk_cause="drawdown"))
    assert (bench.state, bench.closed) == (HALT, ["drawdown"])


# --- bounds

LARGEST = {
    "drawdown_smooth_s": 600,
    "loss_velocity_pct": 100,
    "max_losing_closes": 100,
    "differences_s": 600,
    "differences_halt_s": 3_600,
    "unknown_order_s": 600,
    "unknown_order_halt_s": 3_600,
    "cancels_fail_s": 3_600,
    "rate_limit_answers": 100,
    "private_stream_s": 600,
    "book_lost_s": 3_600,
    "liquidation_pct": 100,
    "liquidation_flatten_pct": 100,
    "mean_slippage_bps": 1_000,
    "equity_unknown_s": 3_600,
}


def test_R7_the_largest_that_can_be_set_is_the_ceiling() -> None:
    sets = [f"risk.{key}={value}" for key, value in LARGEST.items()]
    made = limits_of(load_settings([], {}, sets).risk, [BTC])
    assert above_ceiling(made) == []
    assert {name: getattr(made.breakers, name) for name in BreakerBounds.__struct_fields__} == BREAKER_CEILINGS
    above = msgspec.structs.replace(made, breakers=msgspec.structs.replace(STRICT, velocity_bps=10_001))
    assert above_ceiling(above) == ["velocity_bps is 10001, its ceiling is 10000"]


@pytest.mark.parametrize("key", LARGEST)
def test_R7_more_than_the_largest_cannot_be_set(key: str) -> None:
    with pytest.raises(SettingsError, match=f"risk.{key}"):
        load_settings([], {}, [f"risk.{key}={LARGEST[key] + 1}"])


@pytest.mark.parametrize(
    ("low", "high"), [("differences_s", "differences_halt_s"), ("unknown_order_s", "unknown_order_halt_s")]
)
def test_the_milder_patience_must_be_the_shorter(low: str, high: str) -> None:
    with pytest.raises(SettingsError, match=f"risk.{low} = 60 must be less than risk.{high} = 60"):
        load_settings([], {}, [f"risk.{low}=60", f"risk.{high}=60"])


def test_what_is_switched_off_never_trips() -> None:
    bench = Bench(BreakerBounds(), daily_loss_bps=20_000, daily_loss_halt_bps=20_000)
    bench.worth(10_000)
    bench.breakers.watch_book(bench.now_ns, BTC, None, is_held=True)
    bench.breakers.watch_sight(bench.now_ns, is_blind=True)
    for condition in (Condition.RATE_LIMIT, Condition.CANCELS, Condition.PRIVATE_STREAM):
        for _ in range(5):
            bench.report(condition)
    bench.note(bench.breakers.watch_liquidation(bench.now_ns, BTC, 0))
    for _ in range(20):
        bench.trade("one", 100, 99)
        bench.slip(1_100)
    bench.worth(9_300, 1)
    bench.wait(2 * HOUR)
    assert bench.closed == []


# --- the law

EVENTS = st.one_of(
    st.tuples(st.just("worth"), st.integers(0, 20_000)),
    st.tuples(st.just("wait"), st.integers(1, 200)),
    st.tuples(st.just("report"), st.sampled_from([*Condition]), st.booleans(), st.sampled_from([REDUCE, HALT])),
    st.tuples(st.just("trade"), st.sampled_from([99, 101])),
    st.tuples(st.just("flow"), st.integers(-500, 500)),
    st.tuples(st.just("blind"), st.booleans()),
    st.tuples(st.just("restart")),
)


@given(st.lists(EVENTS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_R2_without_a_hand_nothing_loosens_but_troubles_that_are_over(events: list[tuple[Any, ...]]) -> None:
    bench = Bench()
    strictest: dict[tuple[str, str], int] = {}
    troubled_s: dict[tuple[str, str], float] = {}
    for event in events:
        changes: list[Change] = []
        match event:
            case ("worth", equity):
                changes = bench.worth(equity, bench.now_s + 1)
            case ("wait", seconds):
                changes = bench.wait(bench.now_s + seconds)
            case ("report", condition, is_well, severity):
                changes = bench.report(condition, is_well=is_well, severity=severity)
                if not is_well:
                    troubled_s[condition, ""] = bench.now_s
            case ("trade", leave):
                changes = bench.trade("one", 100, leave)
            case ("flow", amount):
                changes = bench.note(bench.breakers.flow(bench.now_ns, amount * ATOMS))
            case ("blind", is_blind):
                bench.breakers.watch_sight(bench.now_ns, is_blind=is_blind)
            case _:
                before = [(latch.state, latch.cause, latch.scope) for latch in bench.breakers.latches]
                bench = restarted(bench, bench.now_s + 1)
                assert [(latch.state, latch.cause, latch.scope) for latch in bench.breakers.latches] == before
        for state, cause, scope in changes:
            if state is NORMAL:
                assert cause in RETURNING
                assert strictest[cause, scope] == REDUCE.severity
                assert bench.now_s - troubled_s.get((cause, scope), 0.0) >= 60
                del strictest[cause, scope]
            else:
                assert state.severity > strictest.get((cause, scope), 0)
                strictest[cause, scope] = state.severity
