from __future__ import annotations

import importlib
import itertools
import math
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest import significance
from bot.backtest.significance import (
    Moments,
    assess,
    block_length,
    bootstrap,
    deflated_sharpe,
    expected_max_sharpe,
    moments,
    paired_difference,
    probabilistic_sharpe,
    sharpe_error,
    track_record_min,
    trade_growth,
    trade_luck,
)
from bot.errors import SettingsError
from bot.strategies.advice import Floats

stats: Final[Any] = importlib.import_module("scipy.stats")


def normal_returns(count: int = 400, mean: float = 0.001, seed: int = 3) -> Floats:
    return np.random.default_rng(seed).normal(mean, 0.01, count)


def number(value: Any) -> float:
    return float(value)


def mean_of(values: Any) -> float:
    return number(np.mean(values))


# --- Sharpe ratios


def test_moments_are_those_of_scipy() -> None:
    returns = np.random.default_rng(1).standard_t(4, 500)
    found = moments(returns)
    assert found.periods == 500
    assert found.sharpe == pytest.approx(mean_of((returns) / np.std(returns, ddof=1)))
    assert found.skewness == pytest.approx(number(stats.skew(returns)))
    assert found.kurtosis == pytest.approx(number(stats.kurtosis(returns, fisher=False)))


@pytest.mark.parametrize("returns", [[], [0.1], [0.01] * 50, [0.0] * 3], ids=["none", "one", "equal", "zero"])
def test_returns_that_do_not_vary_have_no_sharpe_ratio(returns: list[float]) -> None:
    sample = moments(np.array(returns))
    assert sample.sharpe is None
    assert sharpe_error(sample) is probabilistic_sharpe(sample) is track_record_min(sample) is None


def test_the_probabilistic_sharpe_ratio_is_that_of_its_paper() -> None:
    """Bailey and Lopez de Prado 2012, formula 12, with scipy's normal distribution."""
    sample = Moments(periods=60, sharpe=0.458, skewness=-2.448, kurtosis=10.164)
    spread = 1 + 2.448 * 0.458 + (10.164 - 1) / 4 * 0.458**2
    expected = float(stats.norm.cdf((0.458 - 0.1) * math.sqrt(59) / math.sqrt(spread)))
    assert probabilistic_sharpe(sample, 0.1) == pytest.approx(expected, rel=1e-12)


def test_the_deflated_sharpe_ratio_is_the_example_of_its_paper() -> None:
    """Bailey and Lopez de Prado 2014: SR 2.5 a year over 1250 days, 100 trials of variance 1/2."""
    sample = Moments(periods=1250, sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0)
    assert expected_max_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(sample, 100, 0.5 / 250) == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize("trials", [5, 10, 46, 1000])
def test_the_expected_maximum_is_near_that_of_simulated_trials(trials: int) -> None:
    drawn = np.max(np.random.default_rng(trials).normal(0, 2, (4_000, trials)), axis=1)
    assert expected_max_sharpe(trials, 4.0) == pytest.approx(mean_of(drawn), rel=0.06, abs=0.12)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_more_trials_never_raise_the_deflated_sharpe_ratio(first: int, second: int) -> None:
    sample = Moments(periods=250, sharpe=0.1, skewness=0.2, kurtosis=4.0)
    few, many = (deflated_sharpe(sample, trials, 0.01) for trials in sorted((first, second)))
    assert few is not None
    assert many is not None
    assert few >= many


def test_one_trial_deflates_nothing() -> None:
    sample = moments(normal_returns())
    assert deflated_sharpe(sample, 1, 0.01) == probabilistic_sharpe(sample)


def test_the_shortest_track_record_makes_exactly_so_sure() -> None:
    sample = Moments(periods=100, sharpe=0.1, skewness=-0.5, kurtosis=5.0)
    needed = track_record_min(sample, 0.02, 0.95)
    assert needed is not None
    longer = sample._replace(periods=int(needed) + 1)
    assert (probabilistic_sharpe(longer, 0.02) or 0) >= 0.95
    assert (probabilistic_sharpe(longer._replace(periods=int(needed) - 1), 0.02) or 1) < 0.95
    assert track_record_min(sample, 0.1) is None


# --- bootstrap


@pytest.mark.parametrize("is_stationary", [True, False])
@pytest.mark.parametrize("block", [1.0, 3.0, 7.5, 50.0])
def test_blocks_add_up_to_the_length_of_the_data(block: float, is_stationary: bool) -> None:
    ones = np.stack([np.ones(50), np.arange(50.0)])
    sums = np.concatenate(
        list(significance._block_sums(ones, 300, block, is_stationary, np.random.default_rng(0))), axis=1
    )
    assert sums.shape == (2, 300)
    assert sums[0].tolist() == [50.0] * 300
    assert mean_of(sums[1]) == pytest.approx(49 * 25, rel=0.1)


def test_blocks_are_runs_of_neighbours_that_go_on_at_the_beginning() -> None:
    """In blocks of two, of four returns that are powers of ten, only these pairs of neighbours can be drawn."""
    (sums,) = significance._block_sums(np.array([[1.0, 10, 100, 1000]]), 500, 2.0, False, np.random.default_rng(0))
    pairs = (11, 110, 1100, 1001)
    assert set(sums[0].tolist()) == {float(a + b) for a, b in itertools.product(pairs, pairs)}


def test_stationary_blocks_have_geometric_lengths() -> None:
    lengths = significance._lengths(2_000, 1_000, 10.0, True, np.random.default_rng(0))
    inner = lengths[:, :20]
    assert mean_of(inner) == pytest.approx(10.0, rel=0.02)
    assert mean_of(inner == 1) == pytest.approx(0.1, rel=0.05)


def test_the_interval_of_independent_returns_is_that_of_theory() -> None:
    returns = normal_returns(2_000)
    found = bootstrap(returns, 365.25, seed=1, block=1, samples=4_000).sharpe
    sample = moments(returns)
    error, sharpe = sharpe_error(sample), sample.sharpe
    assert error is not None
    assert sharpe is not None
    assert found.value == pytest.approx(sharpe * math.sqrt(365.25))
    assert found.low == pytest.approx((sharpe - 1.96 * error) * math.sqrt(365.25), abs=0.15)
    assert found.high == pytest.approx((sharpe + 1.96 * error) * math.sqrt(365.25), abs=0.15)


def test_an_interval_is_that_of_scipy_when_blocks_are_single_returns() -> None:
    returns = normal_returns(300)
    found = bootstrap(returns, 1.0, seed=1, block=1, samples=5_000).total_return
    theirs = stats.bootstrap(
        (np.log1p(returns),), np.sum, n_resamples=5_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.low == pytest.approx(math.expm1(number(theirs.low)), abs=0.03)
    assert found.high == pytest.approx(math.expm1(number(theirs.high)), abs=0.03)


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(0, 2**31), st.booleans())
def test_the_same_seed_gives_the_same_interval_around_the_total(count: int, seed: int, is_stationary: bool) -> None:
    returns = normal_returns(count, seed=seed)
    first, second = (bootstrap(returns, 365.25, seed=seed, samples=200, is_stationary=is_stationary) for _ in "ab")
    assert first == second
    assert first.total_return.value == pytest.approx(float(np.prod(1 + returns)) - 1)
    assert number(first.total_return.low) <= number(first.total_return.high)


def test_batches_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = normal_returns(100)
    whole = bootstrap(returns, 365.25, seed=4, samples=500, block=5, is_stationary=False)
    monkeypatch.setattr(significance, "_BATCH", 1000)
    parts = bootstrap(returns, 365.25, seed=4, samples=500, block=5, is_stationary=False)
    assert parts.total_return == whole.total_return


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"returns": [0.1]}, "1 returns are too few", id="one-return"),
        pytest.param({"returns": [0.1, -1.0]}, "-1 or less", id="all-lost"),
        pytest.param({"returns": [0.1, math.nan]}, "no number", id="nan"),
        pytest.param({"samples": 99}, "99 samples", id="samples"),
        pytest.param({"block": 0.5}, r"block of 0\.5 returns is not in 1 to 2", id="short-block"),
        pytest.param({"block": 3}, "block of 3 returns is not in 1 to 2", id="long-block"),
        pytest.param({"confidence": 1.0}, r"confidence 1\.0", id="confidence"),
    ],
)
def test_a_bootstrap_that_makes_no_sense_is_refused(arguments: dict[str, Any], words: str) -> None:
    returns = np.array(arguments.pop("returns", [0.1, 0.2]))
    with pytest.raises(SettingsError, match=words):
        bootstrap(returns, 365.25, seed=1, **arguments)


@pytest.mark.parametrize(("count", "length"), [(2, 1), (27, 3), (365, 7), (1_000_000, 100)])
def test_a_block_is_the_cube_root_of_the_data(count: int, length: int) -> None:
    assert block_length(count) == length


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not() -> None:
    market = normal_returns(500, 0.0, seed=8)
    noise = normal_returns(500, 0.0, seed=9) * 0.1
    found = paired_difference(market + 0.001 + noise, market, seed=1)
    assert found.p_value < 0.001
    assert number(found.mean.low) > 0
    nothing = paired_difference(market + noise - mean_of(noise), market, seed=1)
    assert nothing.p_value > 0.9


def test_equal_returns_differ_by_nothing() -> None:
    returns = normal_returns(50)
    found = paired_difference(returns, returns, seed=1)
    assert found.p_value == 1.0
    assert (found.mean.value, found.mean.low, found.mean.high) == (0.0, 0.0, 0.0)
    with pytest.raises(SettingsError, match="50 and 49 returns"):
        paired_difference(returns, returns[1:], seed=1)


# --- trades


def test_reshuffled_trades_end_where_they_did_and_meet_every_drawdown() -> None:
    """Of three trades there are six orders: their drawdowns are known."""
    growth = np.array([0.5, -0.2, -0.1])
    found = trade_luck(growth, seed=1, method="reshuffle", samples=3_000)
    assert found.final_growth == pytest.approx([1.5 * 0.8 * 0.9] * 5)
    drawdowns: list[float] = []
    for order in itertools.permutations(growth.tolist()):
        curve = np.cumprod([1.0, *(1 + g for g in order)])
        drawdowns.append(float(np.max(1 - curve / np.maximum.accumulate(curve))))
    assert found.max_drawdown[0] == pytest.approx(min(drawdowns))
    assert found.max_drawdown[-1] == pytest.approx(max(drawdowns))
    assert found.ruin_probability == 0.0


def test_resampled_trades_ruin_as_often_as_theory_says() -> None:
    """Two trades of +10 % or -30 %: only two losses in a row halve the equity (0.49)."""
    found = trade_luck(np.array([0.1, -0.3]), seed=1, samples=20_000)
    assert found.ruin_probability == pytest.approx(0.25, abs=0.01)


@settings(max_examples=25)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.integers(0, 99))
def test_trades_that_never_lose_have_no_drawdown(growth: list[float], seed: int) -> None:
    found = trade_luck(np.array(growth), seed=seed, samples=100)
    assert max(found.max_drawdown) == 0.0
    assert found == trade_luck(np.array(growth), seed=seed, samples=100)


def test_trade_growth_is_against_the_equity_before() -> None:
    assert trade_growth(np.array([100.0, -110.0, -990.0, 5.0]), 1000.0).tolist() == [0.1, -0.1, -1.0, 0.0]
    assert trade_growth(np.zeros(0), 1000.0).tolist() == []


@pytest.mark.parametrize(
    ("growth", "arguments", "words"),
    [
        ([], {}, "no trades"),
        ([-1.0], {}, "lost all equity"),
        ([0.1], {"samples": 5}, "5 samples"),
        ([0.1], {"ruin_level": 1.0}, r"ruin level 1\.0"),
    ],
    ids=["none", "all-lost", "samples", "ruin-level"],
)
def test_trades_that_cannot_be_reshuffled_are_refused(
    growth: list[float], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        trade_luck(np.array(growth), seed=1, **arguments)


def test_an_assessment_says_nothing_where_there_is_too_little() -> None:
    nothing = assess(np.array([0.1]), np.zeros(0), 1000.0, seed=1)
    assert nothing.bootstrap is nothing.reshuffled is nothing.resampled is nothing.deflated_sharpe is None
    lost = assess(np.array([0.1, -1.0]), np.array([-1000.0]), 1000.0, seed=1)
    assert lost.bootstrap is lost.resampled is None


def test_an_assessment_counts_the_trials() -> None:
    returns = normal_returns()
    found = assess(returns, np.array([5.0, -3.0]), 1000.0, seed=1, trials=50, trials_variance=0.001, samples=100)
    assert found.trials == 50
    assert number(found.deflated_sharpe) < number(found.probabilistic_sharpe)
    assert found.bootstrap == bootstrap(returns, 365.25, seed=1, samples=100)
    assert found.track_record_days_min == track_record_min(moments(returns))
