"""Walk-forward: windows, choices that never see the future, warm-up without trading, one stitched curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bot.backtest import space as s
from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.dressed import DecidesFrom
from bot.backtest.sweep import Progress
from bot.backtest.walkforward import Walk, WalkPlan, Window, cut, since, walk_forward, windows
from bot.core.instrument import ATOMS
from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies.advice import Candles, Market
from tests.support.builders import BTC, instrument
from tests.support.outcomes import DAY_NS, START_NS, market, traded
from tests.support.toy_strategy import ToyCrossover, make_toy, simulate_toy

BARS = 600


def day(number: int) -> int:
    return START_NS + number * DAY_NS


def spot(bars: int = BARS, seed: int = 3) -> Market:
    rng = np.random.default_rng(seed)
    close = np.round(5_000_000 * np.exp(np.cumsum(0.02 * rng.normal(size=bars)))).astype(np.int64)
    return market(close, of=instrument(BTC, price_scale=2, quantity_scale=8, quote_fee_ppm=1_000))


def draw() -> s.Draw:
    axes = [s.parse_axis("fast=2..10:4"), s.parse_axis("slow=8..38:10")]
    return s.grid(s.make_space(axes, ["fast < slow"]))


def plan(of: Market, *, trades_min: int = 1, metric: str = "total_return") -> WalkPlan:
    terms = Terms(cash_atoms=10_000 * ATOMS, taker_fee_ppm=1_000)
    return WalkPlan(make_toy, simulate_toy, [of], terms, draw, metric, trades_min=trades_min)


ROLLING = windows(day(0), day(BARS), train_ns=200 * DAY_NS, test_ns=90 * DAY_NS)


# --- windows


def test_rolling_windows_move_on_by_one_test_and_the_last_may_be_shorter() -> None:
    assert windows(0, 100, train_ns=40, test_ns=25) == [
        Window(0, 40, 65),
        Window(25, 65, 90),
        Window(50, 90, 100),
    ]


def test_anchored_windows_begin_at_the_start() -> None:
    assert windows(0, 100, train_ns=40, test_ns=30, is_anchored=True) == [Window(0, 40, 70), Window(0, 70, 100)]


@pytest.mark.parametrize(
    ("train_ns", "test_ns", "says"),
    [(0, 5, "both must be above 0"), (5, -1, "both must be above 0"), (100, 5, "leaves nothing to test")],
)
def test_windows_need_room(train_ns: int, test_ns: int, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        windows(0, 100, train_ns=train_ns, test_ns=test_ns)


# --- a part of the data


def test_a_part_has_the_bars_that_end_in_time_and_those_that_warm_up() -> None:
    of = spot(20)
    part = cut(of, day(5), day(8), 2 * DAY_NS)
    assert part.candles.start_ns.tolist() == [day(number) for number in range(3, 8)]
    assert cut(of, day(5), day(8) - 1, 0).candles.start_ns.tolist() == [day(5), day(6)]
    assert cut(of, day(1), day(3), 9 * DAY_NS).candles.start_ns.tolist() == [day(0), day(1), day(2)]
    assert len(cut(of, day(30), day(40), 0).candles.close) == 0


def test_bars_that_warm_up_are_counted_across_gaps() -> None:
    of = spot(20)
    kept = [0, 1, 2, 9, 10, 11]
    gappy = of._replace(candles=Candles(*(column[kept] for column in of.candles)))
    assert cut(gappy, day(10), day(12), 3 * DAY_NS).candles.start_ns.tolist() == [
        day(number) for number in (1, 2, 9, 10, 11)
    ]


def test_a_part_has_its_own_funding() -> None:
    funded = spot(20)._replace(funding_ns=np.array([day(2), day(5), day(7), day(8)]), funding_ppb=np.arange(4))
    part = cut(funded, day(5), day(8), 2 * DAY_NS)
    assert (part.funding_ns.tolist(), part.funding_ppb.tolist()) == ([day(5), day(7)], [1, 2])


def test_a_run_without_its_first_steps_counts_from_there() -> None:
    outcome, _ = traded([10, 11, 12, 13], [(2, 11, 5, 0.5), (3, 12, -5, 0.5)])
    later = since(outcome, day(2))
    assert later.time_ns.tolist() == [day(2), day(3)]
    assert later.equity.tolist() == outcome.equity[2:].tolist()
    assert later.fills.step.tolist() == [0, 1]
    with pytest.raises(AssertionError, match="only warm up"):
        since(outcome, day(3))


def test_a_strategy_decides_nothing_on_bars_that_warm_up_but_hears_them() -> None:
    of, inner = spot(60), ToyCrossover(2, 9, DAY_NS)
    late = DecidesFrom(inner, day(30))
    flags, all_flags = (each.advise(BTC, {BTC: of}).flags for each in (late, inner))
    assert not flags[:30].any()
    assert flags[30:].tolist() == all_flags[30:].tolist()
    assert (late.timeframe_ns, late.watches, late.lookback_bars) == (DAY_NS, (), 9)
    assert late.terms.tolist() == inner.terms.tolist()
    adviser = late.make_adviser(BTC, {})
    rows = [adviser.on_bar(bar(of, number)) for number in range(60)]
    assert [0 if row is None else row.flags for row in rows] == flags.tolist()


def bar(of: Market, number: int) -> Bar:
    start_ns, open_, high, low, close, volume = (int(column[number]) for column in of.candles)
    return Bar(
        ts_ns=start_ns + DAY_NS,
        symbol=BTC,
        timeframe_ns=DAY_NS,
        start_ns=start_ns,
        open_ticks=open_,
        high_ticks=high,
        low_ticks=low,
        close_ticks=close,
        volume_lots=volume,
    )


# --- the walk


def test_each_choice_is_the_best_of_its_training() -> None:
    of = spot()
    walk = walk_forward(plan(of), ROLLING)
    assert len(walk.steps) == len(ROLLING)
    for step in walk.steps:
        returns = {
            point: simulated(of, point, step.window.train_start_ns, step.window.test_start_ns) for point in draw()
        }
        assert step.point == max(returns, key=lambda point: returns[point])
        assert step.train[0] == pytest.approx(max(returns.values()))
        assert step.trials == len(returns)


def simulated(of: Market, point: s.Point, start_ns: int, end_ns: int) -> float:
    """Return the total return of a run on a part of the data, warmed up by all that is before it."""
    definition = DecidesFrom(make_toy(draw().space.named(point)), start_ns)
    outcome = simulate_toy(Run(definition, [cut(of, start_ns, end_ns, BARS * DAY_NS)], plan(of).terms))
    return float(outcome.equity[-1]) / outcome.cash - 1


@pytest.mark.parametrize("is_anchored", [False, True])
def test_noise_in_the_future_changes_no_earlier_choice_and_no_earlier_equity(is_anchored: bool) -> None:
    of = spot()
    steps = windows(day(0), day(BARS), train_ns=200 * DAY_NS, test_ns=90 * DAY_NS, is_anchored=is_anchored)
    before = walk_forward(plan(of), steps)
    differs = False
    for number, window in enumerate(steps):
        known = int(np.searchsorted(of.candles.start_ns, window.test_start_ns))
        noise = spot(seed=99)
        noisy = of._replace(
            candles=Candles(
                of.candles.start_ns,
                *(
                    np.concatenate([ours[:known], theirs[known:]])
                    for ours, theirs in zip(of.candles[1:], noise.candles[1:], strict=True)
                ),
            )
        )
        after = walk_forward(plan(noisy), steps)
        assert [step.point for step in after.steps[: number + 1]] == [step.point for step in before.steps[: number + 1]]
        assert after.steps[number].train == pytest.approx(before.steps[number].train, nan_ok=True)
        steps_before = int(np.searchsorted(before.time_ns, window.test_start_ns))
        assert after.equity[:steps_before].tolist() == before.equity[:steps_before].tolist()
        differs |= after.equity[steps_before:].tolist() != before.equity[steps_before:].tolist()
    assert differs


def test_capital_is_carried_over_into_one_curve() -> None:
    walk = walk_forward(plan(spot()), ROLLING)
    assert walk.is_complete
    assert walk.time_ns.tolist() == [day(number) for number in range(200, BARS)]
    growth = 1.0
    for step in walk.steps:
        growth *= 1 + step.test[walk.metrics.index("total_return")]
        last = int(np.searchsorted(walk.time_ns, step.window.test_end_ns)) - 1
        assert walk.equity[last] == pytest.approx(walk.cash * growth, rel=1e-9)
    assert walk.equity[-1] != walk.cash


def test_efficiency_is_the_return_a_unit_of_time_outside_over_inside() -> None:
    walk = walk_forward(plan(spot()), ROLLING)
    for step in walk.steps:
        inside, outside = (
            step.train[0] / 200,
            step.test[0] / round((step.window.test_end_ns - step.window.test_start_ns) / DAY_NS),
        )
        assert step.efficiency == pytest.approx(outside / inside if inside > 0 else math.nan, nan_ok=True)
    inside = sum(step.train[0] / 200 for step in walk.steps)
    outside = sum(step.test[0] * DAY_NS / (step.window.test_end_ns - step.window.test_start_ns) for step in walk.steps)
    assert walk.efficiency == pytest.approx(outside / inside if inside > 0 else math.nan, nan_ok=True)


def test_without_a_point_that_trades_enough_a_test_is_spent_in_cash() -> None:
    walk = walk_forward(plan(spot(), trades_min=10_000), ROLLING)
    assert [step.point for step in walk.steps] == [None] * len(ROLLING)
    assert set(walk.equity.tolist()) == {walk.cash}
    assert len(walk.equity) == BARS - 200
    assert math.isnan(walk.efficiency)
    assert all(math.isnan(step.test[0]) and step.trials == 11 for step in walk.steps)


def test_a_window_in_a_gap_of_the_data_is_passed_by() -> None:
    of = spot()
    kept = [*range(210), *range(500, BARS)]
    gappy = of._replace(candles=Candles(*(column[kept] for column in of.candles)))
    walk = walk_forward(plan(gappy), ROLLING)
    assert walk.time_ns.tolist() == [day(number) for number in (*range(200, 210), *range(500, BARS))]
    assert [math.isnan(step.test[0]) for step in walk.steps] == [False, True, True, True, False]


def test_ruin_ends_the_trading() -> None:
    def ruined(run: Run) -> Outcome:
        outcome = simulate_toy(run)
        is_test = run.markets[0].candles.start_ns[-1] >= day(BARS - 1)
        return outcome._replace(equity=outcome.equity * 0.0) if is_test else outcome

    steps = [ROLLING[-1], ROLLING[-1]]
    walk = walk_forward(plan(spot())._replace(simulate=ruined), steps)
    assert set(walk.equity.tolist()) == {0.0}
    assert math.isnan(walk.steps[1].test[0])


def test_progress_counts_the_points_of_all_windows_and_a_walk_can_be_stopped() -> None:
    seen: list[Progress] = []
    walk = walk_forward(plan(spot()), ROLLING, progress=seen.append, is_cancelled=lambda: len(seen) > 4)
    assert not walk.is_complete
    assert 0 < len(walk.steps) < len(ROLLING)
    assert len(walk.equity) == 90 * len(walk.steps)
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    assert {now.total for now in seen} == {12 * len(ROLLING)}


def test_the_same_walk_gives_the_same_curve() -> None:
    one, other = (walk_forward(plan(spot(), metric="sharpe"), ROLLING) for _ in range(2))
    assert isinstance(one, Walk)
    assert one.equity.tolist() == other.equity.tolist()
    assert [step.point for step in one.steps] == [step.point for step in other.steps]
    assert one.metrics == ("total_return", "trades", "sharpe", "max_drawdown")
