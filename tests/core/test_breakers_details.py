"""What the breakers say to the last word, and the edges of time on which they decide."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS, Condition, RiskState
from bot.core.risk.bounds import BreakerBounds
from bot.core.risk.breakers import HOUR_NS, Breakers
from bot.core.risk.rate import DAY_NS
from tests.core.test_breakers import STRICT, Bench
from tests.support.builders import BTC, ETH, NOW_NS, instrument, limits, liquidated, recovered

NORMAL, REDUCE, HALT = RiskState.NORMAL, RiskState.REDUCE_ONLY, RiskState.HALTED


def changes(bench: Bench) -> list[m.RiskStateChanged]:
    return [said for said in bench.said if isinstance(said, m.RiskStateChanged)]


def changed(cause: str, detail: str, state: RiskState = REDUCE, scope: str = "", **more: Any) -> m.RiskStateChanged:
    made = m.RiskStateChanged(ts_ns=NOW_NS, state=state, cause=cause, detail=detail, scope=scope)
    return msgspec.structs.replace(made, **more)


# --- what is said


def test_B14_a_near_liquidation_names_its_distance_and_its_bound() -> None:
    bench, scope = Bench(), f"symbol:{BTC}"
    bench.now_s = 2
    bench.note(bench.breakers.watch_liquidation(bench.now_ns, BTC, 799))
    bench.tick(2)
    detail, at_ns = "liquidation 799 bps away < 1500 bps", NOW_NS + 2 * SECOND_NS
    assert changes(bench) == [
        changed("flatten", detail, scope=scope, ts_ns=at_ns),
        changed("liquidation", detail, scope=scope, ts_ns=at_ns),
    ]


def test_B10_B18_what_is_not_seen_is_named() -> None:
    bench = Bench()
    bench.breakers.watch_book(bench.now_ns, BTC, NOW_NS, is_held=True)
    bench.breakers.watch_sight(bench.now_ns, is_blind=True)
    bench.now_s = 60
    bench.breakers.watch_book(bench.now_ns, BTC, None, is_held=True)
    bench.tick(60)
    at_ns = NOW_NS + 60 * SECOND_NS
    assert changes(bench) == [
        changed("equity_unknown", "equity unknown: something held has no price, for 60 s", ts_ns=at_ns),
        changed("stale_book", f"no book of {BTC}, for 60 s", scope=f"symbol:{BTC}", ts_ns=at_ns),
    ]


def test_B10_a_book_that_was_never_heard_of_is_lost_from_then_on() -> None:
    bench = Bench()
    for seconds in (0, 59):
        bench.now_s = seconds
        bench.breakers.watch_book(bench.now_ns, BTC, None, is_held=True)
        assert bench.tick(seconds) == []
    bench.now_s = 60
    bench.breakers.watch_book(bench.now_ns, BTC, None, is_held=True)
    assert bench.tick(60) == [(REDUCE, "stale_book", f"symbol:{BTC}")]


def test_B10_one_book_that_is_back_says_nothing_of_another() -> None:
    bench = Bench()

    def watch(seconds: int, **quotes_s: int) -> list[Any]:
        bench.now_s = seconds
        for symbol in (BTC, ETH):
            quote_s = quotes_s.get(symbol)
            quote_ns = None if quote_s is None else NOW_NS + quote_s * SECOND_NS
            bench.breakers.watch_book(bench.now_ns, symbol, quote_ns, is_held=True)
        return bench.tick(seconds)

    assert watch(0) == []
    assert watch(60) == [(REDUCE, "stale_book", f"symbol:{BTC}"), (REDUCE, "stale_book", f"symbol:{ETH}")]
    for seconds in range(61, 131):
        assert watch(seconds, BTC_USDT=seconds) == []  # it was stale since 0: quiet for twice a minute
    said = [change for seconds in range(131, 190) for change in watch(seconds, BTC_USDT=seconds)]
    assert said == [(NORMAL, "stale_book", f"symbol:{BTC}")]


def test_B4_a_streak_says_its_length_and_its_bound_at_the_time_of_the_close() -> None:
    known = recovered(held={"one": {BTC: 10}}, entries={"one": {BTC: 100}})
    bench = Bench(msgspec.structs.replace(STRICT, losing_closes=1), known=known)
    closed = liquidated(-10, 50, at_ns=NOW_NS + 5)
    said = list(bench.breakers.end_position(closed, "one", instrument(is_perp=True), 10 * ATOMS))
    detail = "1 positions in a row closed at a loss >= 1"
    assert said == [changed("losing_streak", detail, scope="strategy:one", ts_ns=NOW_NS + 5)]


def test_B4_a_counted_close_is_marked_at_its_time() -> None:
    bench = Bench(msgspec.structs.replace(STRICT, losing_closes=2))
    bench.worth(1_000)
    bench.said.clear()
    bench.now_s = 3
    assert bench.trade("one", 100, 90) == []
    (marked,) = bench.said
    assert isinstance(marked, m.EquityMarked)
    assert (marked.ts_ns, marked.losing_streaks) == (NOW_NS + 3 * SECOND_NS, {"one": 1})


def test_B17_slippage_is_told_with_its_mean_and_its_bound() -> None:
    bench = Bench()
    for _ in range(10):
        bench.slip(1_006)
    assert changes(bench) == [
        changed(
            "slippage",
            "slippage 60.0 bps in the mean >= 50 bps",
            scope="strategy:one",
            ts_ns=NOW_NS + 10 * SECOND_NS,
        )
    ]


@pytest.mark.parametrize(
    ("equity", "detail", "state"),
    [
        (9_700, "daily_loss 300 bps >= 300 bps", REDUCE),
        (9_600, "daily_loss 400 bps >= 300 bps", REDUCE),
        (9_500, "daily_loss 500 bps >= 500 bps", HALT),
        (9_456, "daily_loss 544 bps >= 500 bps", HALT),
    ],
)
def test_B1_a_loss_is_told_with_its_bound(equity: float, detail: str, state: RiskState) -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0))
    bench.worth(10_000)
    bench.worth(equity, at_s=1)
    assert changes(bench)[0] == changed("daily_loss", detail, state, ts_ns=NOW_NS + SECOND_NS)


def test_what_nobody_describes_is_not_well() -> None:
    bench = Bench()
    bench.report(Condition.CLOCK)
    assert changes(bench) == [changed("clock", "not well")]


# --- what an operator hears


def test_what_is_opened_says_how_and_by_whom() -> None:
    bench = Bench()
    bench.report(Condition.FOREIGN_ORDER, detail="somebody")
    bench.resume()
    assert changes(bench)[-1] == changed("foreign_order", "resume", NORMAL, who="ada")
    bench.report(Condition.FOREIGN_ORDER, detail="somebody")
    nameless = m.OperatorCommand(ts_ns=NOW_NS, verb="resume", command_id="")
    assert list(bench.breakers.resume(NOW_NS, nameless)) == [changed("foreign_order", "resume", NORMAL, who="operator")]
    bench.report(Condition.FOREIGN_ORDER, detail="somebody")
    by_name = msgspec.structs.replace(nameless, verb="rearm", subject="foreign_order")
    assert bench.breakers.rearm(NOW_NS, by_name) == (
        "",
        [changed("foreign_order", "re-armed", NORMAL, who="operator")],
    )


def test_what_returns_by_itself_says_after_how_long_and_names_nobody() -> None:
    bench = Bench()
    bench.tick(0)
    bench.report(Condition.LOAD)
    bench.report(Condition.LOAD, is_well=True)
    bench.wait(60)
    assert changes(bench)[-1] == changed("load", "well for 60 s", NORMAL, ts_ns=NOW_NS + 60 * SECOND_NS)


def test_a_rearmed_loss_says_on_what_evidence() -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0))
    bench.worth(10_000)
    bench.worth(9_700, at_s=1)
    assert bench.rearm("daily_loss", 9_650.5) == ""
    bench.worth(9_500)
    assert bench.rearm("daily_loss", 9_500, is_new_baseline=True) == ""
    opened = [(change.detail, change.who) for change in changes(bench) if change.state is NORMAL]
    assert opened == [
        ("re-armed at equity 9,650.50", "ada"),
        ("re-armed at equity 9,500.00 with a new baseline", "ada"),
    ]


@pytest.mark.parametrize(
    ("equity", "refusal"), [(9_797, ""), (9_603, ""), (9_797.01, "9,797.01"), (9_602.99, "9,602.99")]
)
def test_evidence_may_be_off_by_one_part_in_a_hundred(equity: float, refusal: str) -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0))
    bench.worth(10_000)
    bench.worth(9_700, at_s=1)
    assert bench.rearm("daily_loss", equity) == (f"equity is 9,700.00, not {refusal}" if refusal else "")


def test_what_cannot_be_rearmed_says_why() -> None:
    bench = Bench()
    assert bench.rearm("") == "nothing is not closed; closed: none is"
    bench.report(Condition.INTEGRITY, severity=HALT, scope=f"symbol:{BTC}")
    bench.report(Condition.FOREIGN_ORDER)
    names = f"integrity@symbol:{BTC}, foreign_order"
    assert bench.rearm("load") == f"load is not closed; closed: {names}"
    assert bench.rearm("integrity") == f"integrity is not closed; closed: {names}"
    assert bench.breakers.kept() == f"{names} stays closed; look into it, then `bot rearm integrity@symbol:{BTC}`"
    assert bench.rearm("foreign_order", is_new_baseline=True) == "foreign_order has no baseline"
    latch = changed("daily_loss", "", HALT)
    blind = Bench(known=recovered(latches=(latch,)))
    assert blind.rearm("daily_loss", 100) == "equity is not known now"
    wanted = "daily_loss wants evidence: say what equity is now, with --equity"
    assert blind.rearm("daily_loss") == wanted


def near_liquidation() -> Bench:
    """Return breakers that two perpetuals have tripped."""
    bench = Bench()
    for symbol in (BTC, ETH):
        list(bench.breakers.watch_liquidation(bench.now_ns, symbol, 1_000))
    bench.tick(0)
    return bench


def test_what_is_wrong_with_one_market_does_not_keep_another_s_latch() -> None:
    bench = near_liquidation()
    list(bench.breakers.watch_liquidation(bench.now_ns, ETH, 5_000))
    assert bench.resume() == [(NORMAL, "liquidation", f"symbol:{ETH}")]
    distance = "liquidation 1000 bps away < 1500 bps"
    stays = f"liquidation@symbol:{BTC} stays closed, as it is still not well: {distance}"
    assert bench.rearm(f"liquidation@symbol:{BTC}") == stays
    assert bench.resume() == []
    list(bench.breakers.watch_liquidation(bench.now_ns, BTC, 5_000))
    assert bench.resume() == [(NORMAL, "liquidation", f"symbol:{BTC}")]


def test_what_is_wrong_with_one_market_does_not_keep_another_s_latch_from_its_name() -> None:
    bench = near_liquidation()
    list(bench.breakers.watch_liquidation(bench.now_ns, ETH, 5_000))
    assert bench.rearm(f"liquidation@symbol:{ETH}") == ""
    assert bench.closed == [f"liquidation@symbol:{BTC}"]


def test_resume_keeps_a_loss_of_which_no_number_is_known() -> None:
    bench = Bench(known=recovered(latches=(changed("daily_loss", "", HALT),)))
    assert bench.resume() == []
    assert bench.closed == ["daily_loss"]


def test_B2_a_drawdown_stands_after_a_restart_whether_a_price_is_known_or_not() -> None:
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=9_000 * ATOMS,
        peak_atoms=10_000 * ATOMS,
        day=NOW_NS // DAY_NS,
        day_start_atoms=9_000 * ATOMS,
    )
    bench = Bench(BreakerBounds(), known=recovered(latches=(changed("drawdown", ""),), equity=marked))
    assert bench.resume() == []
    assert bench.closed == ["drawdown"]
    bench.worth(9_000)
    assert bench.closed == ["drawdown"]


def test_only_a_loss_is_forgiven_when_its_latch_is_opened() -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0))
    bench.worth(10_000)
    bench.report(Condition.FOREIGN_ORDER)
    assert bench.rearm("foreign_order") == ""
    bench.worth(9_700, at_s=1)
    assert bench.rearm("daily_loss", 9_700) == ""
    marks = [said.forgiven for said in bench.said if isinstance(said, m.EquityMarked)]
    assert (marks[-2], marks[-1]) == ((), ("daily_loss",))


def test_a_recovered_latch_of_a_count_that_nobody_knows_is_opened_too() -> None:
    latches = [changed(cause, "", scope="strategy:one") for cause in ("losing_streak", "slippage")]
    bench = Bench(known=recovered(latches=tuple(latches)))
    assert [bench.rearm(f"{latch.cause}@{latch.scope}") for latch in latches] == ["", ""]
    assert bench.closed == []


@pytest.mark.parametrize(("equity", "is_kept"), [(9_700, True), (9_700.01, False)])
def test_B1_resume_opens_a_loss_that_is_less_than_its_bound_by_now(equity: float, is_kept: bool) -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0), drawdown_bps=10_000, drawdown_halt_bps=10_000)
    bench.worth(10_000)
    bench.worth(9_600, at_s=1)
    bench.worth(equity, at_s=2)
    assert bench.resume() == ([] if is_kept else [(NORMAL, "daily_loss", "")])


@pytest.mark.parametrize(("equity", "is_kept"), [(9_500, True), (9_500.01, False)])
def test_B1_a_loss_below_its_harder_bound_by_now_needs_no_new_baseline(equity: float, is_kept: bool) -> None:
    bench = Bench(msgspec.structs.replace(STRICT, velocity_bps=0), drawdown_bps=10_000, drawdown_halt_bps=10_000)
    bench.worth(10_000)
    bench.worth(9_400, at_s=1)
    bench.worth(equity, at_s=2)
    assert ("would halt again" in bench.rearm("daily_loss", equity)) is is_kept


def test_B18_what_is_seen_again_returns_after_twice_as_long_as_it_was_not() -> None:
    bench = Bench()
    bench.tick(0)
    bench.breakers.watch_sight(bench.now_ns, is_blind=True)
    assert bench.wait(70) == [(REDUCE, "equity_unknown", "")]
    bench.breakers.watch_sight(bench.now_ns, is_blind=False)
    assert bench.wait(209) == []
    assert bench.wait(210) == [(NORMAL, "equity_unknown", "")]


def test_an_operator_s_latch_is_said_again_unless_a_stricter_one_stands() -> None:
    bench = Bench()

    def operate(state: RiskState) -> list[m.RiskStateChanged]:
        return list(bench.breakers.operate(NOW_NS, state, "operator", "so"))

    assert operate(REDUCE) == [changed("operator", "so")]
    assert operate(REDUCE) == [changed("operator", "so")]
    assert operate(HALT) == [changed("operator", "so", HALT)]
    assert operate(REDUCE) == []
    assert operate(HALT) == [changed("operator", "so", HALT)]


def test_F74_every_flow_shifts_every_baseline_and_is_marked() -> None:
    bench = Bench()
    bench.worth(1_000)
    bench.worth(990, at_s=1)
    bench.said.clear()
    for seconds, whole in ((2, 50), (3, -20)):
        bench.now_s = seconds
        bench.note(bench.breakers.flow(bench.now_ns, whole * ATOMS))
    marks = [said for said in bench.said if isinstance(said, m.EquityMarked)]
    assert [mark.ts_ns for mark in marks] == [NOW_NS + 2 * SECOND_NS, NOW_NS + 3 * SECOND_NS]
    assert [(mark.equity_atoms, mark.peak_atoms, mark.day_start_atoms, mark.external_atoms) for mark in marks] == [
        (1_040 * ATOMS, 1_050 * ATOMS, 1_050 * ATOMS, 50 * ATOMS),
        (1_020 * ATOMS, 1_030 * ATOMS, 1_030 * ATOMS, 30 * ATOMS),
    ]


def test_money_that_comes_before_the_first_price_is_part_of_the_baselines() -> None:
    bench = Bench()
    assert bench.note(bench.breakers.flow(bench.now_ns, 500 * ATOMS)) == []
    assert bench.worth(10_500) == []
    mark = bench.marked
    baselines = mark.peak_atoms, mark.day_start_atoms, mark.external_atoms
    assert baselines == (10_500 * ATOMS, 10_500 * ATOMS, 500 * ATOMS)


# --- a new baseline, a measure that begins anew


@pytest.mark.parametrize("smooth_s", [0, 2])
def test_B2_a_new_peak_is_where_the_operator_says_and_nothing_of_the_fall_is_left(smooth_s: int) -> None:
    bounds = BreakerBounds(drawdown_smooth_ns=smooth_s * SECOND_NS)
    bench = Bench(bounds, daily_loss_bps=10_000, daily_loss_halt_bps=10_000)
    for seconds in range(5):
        bench.worth(10_000, at_s=seconds)
    for seconds in range(5, 10):
        bench.worth(8_700, at_s=seconds)
    assert bench.rearm("drawdown", 8_700, is_new_baseline=True) == ""
    assert bench.breakers._breach("drawdown") is NORMAL
    assert bench.worth(8_010, at_s=10) == []
    for seconds in range(11, 15):
        bench.worth(8_010, at_s=seconds)
    assert bench.closed == []  # 793 bps below 8,700
    assert bench.worth(8_003, at_s=20) + bench.worth(8_003, at_s=30) == [(REDUCE, "drawdown", "")]


@pytest.mark.parametrize(("after", "is_kept"), [(9_801, False), (9_800, True)])
def test_B3_resume_opens_a_rush_that_is_over(after: float, is_kept: bool) -> None:
    bench = Bench(daily_loss_bps=10_000, daily_loss_halt_bps=10_000, drawdown_bps=10_000, drawdown_halt_bps=10_000)
    bench.worth(10_000)
    bench.worth(9_700, at_s=1)
    bench.worth(after, at_s=2)
    assert bench.resume() == ([] if is_kept else [(NORMAL, "loss_velocity", "")])
    if not is_kept:
        assert bench.breakers._breach("loss_velocity") is NORMAL
        assert bench.worth(after, at_s=3) == []


def test_B2_money_from_outside_is_no_drawdown_after_smoothing_either() -> None:
    bench = Bench(BreakerBounds(drawdown_smooth_ns=5 * SECOND_NS))
    equity = 1_000
    for seconds in range(40):
        bench.worth(equity, at_s=seconds)
        if seconds in (10, 20):
            equity += 5_000
            bench.note(bench.breakers.flow(bench.now_ns, 5_000 * ATOMS))
    assert bench.closed == []
    assert bench.breakers._peak_atoms == 11_000 * ATOMS


def test_B2_after_a_withdrawal_a_drawdown_is_seen_after_smoothing_as_before() -> None:
    bench = Bench(BreakerBounds(drawdown_smooth_ns=5 * SECOND_NS), daily_loss_bps=10_000, daily_loss_halt_bps=10_000)
    for seconds in range(10):
        bench.worth(10_000, at_s=seconds)
    bench.note(bench.breakers.flow(bench.now_ns, -5_000 * ATOMS))
    for seconds in range(10, 20):
        assert bench.worth(5_000, at_s=seconds) == []
    said = [change for seconds in range(20, 30) for change in bench.worth(4_500, at_s=seconds)]
    assert said == [(REDUCE, "drawdown", "")]


@pytest.mark.parametrize(("high", "is_forgiven"), [(10_000, True), (10_000.01, False)])
def test_B2_a_forgiven_drawdown_trips_again_after_a_new_peak_and_not_before(high: float, is_forgiven: bool) -> None:
    bench = Bench(BreakerBounds(), daily_loss_bps=10_000, daily_loss_halt_bps=10_000)
    bench.worth(10_000)
    assert bench.worth(9_100, at_s=1) == [(REDUCE, "drawdown", "")]
    assert bench.rearm("drawdown", 9_100) == ""
    bench.worth(high, at_s=2)
    assert bench.worth(9_100, at_s=3) == ([] if is_forgiven else [(REDUCE, "drawdown", "")])


def test_an_account_with_nothing_in_it_loses_nothing() -> None:
    assert Bench().worth(0) == []


@pytest.mark.parametrize(("decided", "price", "trips"), [(0, 5, False), (1, 1, False), (1, 2, True)])
def test_B17_slippage_is_measured_from_any_price_and_from_no_other(decided: int, price: int, trips: bool) -> None:
    bench = Bench()
    said = [change for _ in range(10) for change in bench.slip(price, decided)]
    assert said == ([(REDUCE, "slippage", "strategy:one")] if trips else [])


def test_B1_what_was_forgiven_yesterday_trips_today() -> None:
    bench = Bench(BreakerBounds(), drawdown_bps=10_000, drawdown_halt_bps=10_000)
    bench.worth(10_000)
    bench.worth(9_700, at_s=1)
    assert bench.rearm("daily_loss", 9_700) == ""
    assert bench.worth(9_690, at_s=2) == []
    bench.worth(9_700, at_s=86_400)
    assert bench.worth(9_400, at_s=86_401) == [(REDUCE, "daily_loss", "")]


# --- what the journal says


def test_a_state_that_its_latches_explain_is_no_latch_of_its_own() -> None:
    latch = changed("load", "slow")
    bench = Bench(known=recovered(latches=(latch,), risk_state=REDUCE, risk_cause="load"))
    assert list(bench.breakers.latches) == [latch]


def test_a_state_that_no_latch_explains_is_kept_as_one() -> None:
    bench = Bench(known=recovered(latches=(changed("load", "slow"),), risk_state=HALT, risk_cause="journal"))
    assert list(bench.breakers.latches) == [changed("load", "slow"), changed("journal", "recovered", HALT)]
    assert list(Bench(known=recovered(risk_state=NORMAL, risk_cause="x")).breakers.latches) == []


def test_what_was_marked_is_marked_again_before_anything_is_priced() -> None:
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=5,
        peak_atoms=9,
        day=7,
        day_start_atoms=8,
        external_atoms=3,
        forgiven=("drawdown",),
        losing_streaks={"one": 2},
        returned_ns={"load": (4,)},
    )
    assert Bench(known=recovered(equity=marked)).breakers.mark(NOW_NS) == marked
    assert Bench().breakers.mark(NOW_NS) is None


# --- what returns, and how often


def test_one_latch_that_stays_does_not_keep_another() -> None:
    bench = Bench()
    bench.tick(0)
    for condition in (Condition.FOREIGN_ORDER, Condition.CLOCK, Condition.LOAD):
        bench.report(condition)
    bench.report(Condition.LOAD, is_well=True)  # the clock is still wrong
    assert bench.wait(60) == [(NORMAL, "load", "")]


def test_one_latch_that_returned_too_often_does_not_keep_another() -> None:
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=ATOMS,
        peak_atoms=ATOMS,
        day=0,
        day_start_atoms=ATOMS,
        returned_ns={"clock": (NOW_NS - 2, NOW_NS - 1, NOW_NS)},
    )
    bench = Bench(known=recovered(latches=(changed("clock", ""), changed("load", "")), equity=marked))
    assert bench.wait(70) == [(NORMAL, "load", "")]


def test_live_a_wallet_that_was_never_compared_is_not_equal() -> None:
    bench = Bench()
    bench.breakers = Breakers(limits(breakers=STRICT), ["spot", "futures"])
    bench.breakers.recover(recovered(latches=(changed("load", ""),)))
    bench.tick(0)
    bench.breakers.compare(NOW_NS + SECOND_NS, m.AccountCompared(ts_ns=NOW_NS, market="spot", differences=()))
    assert bench.wait(200) == []


@pytest.mark.parametrize(("age_ns", "returns"), [(HOUR_NS, True), (HOUR_NS - 1, False)])
def test_what_returned_an_hour_ago_is_forgotten(age_ns: int, returns: bool) -> None:
    latch = changed("load", "slow")
    marked = m.EquityMarked(
        ts_ns=NOW_NS,
        equity_atoms=ATOMS,
        peak_atoms=ATOMS,
        day=0,
        day_start_atoms=ATOMS,
        returned_ns={"load": (NOW_NS - age_ns, NOW_NS, NOW_NS)},
    )
    bench = Bench(known=recovered(latches=(latch,), equity=marked))
    assert bench.wait(61) == ([(NORMAL, "load", "")] if returns else [])


@pytest.mark.parametrize(("after_ns", "returns"), [(0, True), (-1, False)])
def test_live_books_that_were_found_equal_when_it_was_over_are_enough(after_ns: int, returns: bool) -> None:
    bench = Bench()
    bench.breakers = Breakers(limits(breakers=STRICT), ["spot"])
    bench.breakers.recover(recovered())
    bench.tick(0)
    bench.report(Condition.LOAD)
    bench.report(Condition.LOAD, is_well=True)
    bench.breakers.compare(NOW_NS + after_ns, m.AccountCompared(ts_ns=NOW_NS, market="spot", differences=()))
    assert bench.wait(60) == ([(NORMAL, "load", "")] if returns else [])


def test_an_opened_latch_ends_the_watch_over_its_own_trouble_only() -> None:
    bench, scope = Bench(), f"symbol:{BTC}"
    bench.tick(0)
    for where in ("", scope):
        bench.report(Condition.LOAD, scope=where)
        bench.report(Condition.LOAD, scope=where, is_well=True)
    bench.wait(30)
    assert bench.rearm(f"load@{scope}") == ""
    assert bench.wait(59) == []
    assert bench.wait(60) == [(NORMAL, "load", "")]


def test_what_returned_has_all_its_patience_again_in_its_own_scope() -> None:
    bench, scope = Bench(), f"symbol:{BTC}"
    bench.tick(0)
    bench.report(Condition.PRIVATE_STREAM, scope=scope)
    assert bench.wait(10) == [(REDUCE, "private_stream", scope)]
    bench.report(Condition.PRIVATE_STREAM, scope=scope, is_well=True)
    assert bench.wait(80) == [(NORMAL, "private_stream", scope)]
    assert bench.report(Condition.PRIVATE_STREAM, scope=scope) == []
    assert bench.wait(89) == []
    assert bench.wait(90) == [(REDUCE, "private_stream", scope)]


@pytest.mark.parametrize(("step_s", "returns"), [(5, True), (6, False)])
def test_quiet_is_counted_over_gaps_of_five_seconds_and_no_more(step_s: int, returns: bool) -> None:
    bench = Bench()
    bench.tick(0)
    bench.report(Condition.LOAD)
    bench.report(Condition.LOAD, is_well=True)
    said = [change for seconds in range(step_s, 121, step_s) for change in bench.tick(seconds)]
    assert said == ([(NORMAL, "load", "")] if returns else [])


def test_a_sale_below_its_decision_is_dear_and_above_it_cheap() -> None:
    for price, trips in ((995, True), (1_005, False)):
        bench = Bench()
        said = [change for _ in range(10) for change in bench.slip(price, side=Side.SELL)]
        assert bool(said) is trips
