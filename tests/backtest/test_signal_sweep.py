"""The sweep of signal strategies equals one plain pass for each pair, and that equals exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.crossings import WORD, MatrixColumns, SignalGrid, SmaColumns
from bot.backtest.signal_sweep import SignalFigures, signal_sweep
from bot.errors import SettingsError
from bot.strategies.advice import Floats, Ints
from tests.support.one_pass import Plain, averages, one_pass


def walk(seed: int, bars: int, *, step: float = 0.01, start: int = 10_000) -> tuple[Ints, Ints]:
    """Return opens and closes of a random market; small prices make many averages equal."""
    rng = np.random.default_rng(seed)
    close = np.clip(np.round(start * np.exp(np.cumsum(rng.normal(size=bars) * step))), 1, 10**9).astype(np.int64)
    open_ = np.maximum(1, np.append(close[:1], close[:-1]) + rng.integers(-1, 2, bars))
    return open_.astype(np.int64), close


def sma_grid(open_: Ints, close: Ints, fast: list[int], slow: list[int], fee_ppm: int = 2_000) -> SignalGrid:
    pairs = np.array(list(product(range(len(fast)), range(len(slow)))), np.int64)
    return SignalGrid(
        open_, close, SmaColumns(close, np.array(fast)), SmaColumns(close, np.array(slow)), pairs, fee_ppm
    )


def row(figures: SignalFigures, i: int) -> Plain:
    return Plain(*(column[i].item() for column in figures))


def assert_equal(ours: Plain, plain: Plain) -> None:
    assert (ours.trades, ours.wins, ours.is_open) == (plain.trades, plain.wins, plain.is_open)
    assert ours.total_return + 1 == pytest.approx(plain.total_return + 1, rel=1e-9)
    assert ours.max_drawdown == pytest.approx(plain.max_drawdown, rel=1e-9, abs=1e-14)
    # One short trade at a price of three ticks, beside moves of a third, loses digits: hence the absolute part.
    assert ours.sharpe == pytest.approx(plain.sharpe, rel=1e-9, abs=1e-9, nan_ok=True)


def exact(open_: list[int], close: list[int], fast: int, slow: int, fee_ppm: int) -> Plain:
    """Return the same in fractions, from the definitions."""
    fee = Fraction(fee_ppm, 10**6)
    cash, coins, spent = Fraction(1), Fraction(0), Fraction(0)
    profits: list[Fraction] = []
    equity = [cash]
    for i in range(1, len(close)):
        seen = close[:i]
        wants = i >= max(fast, slow) and sum(seen[-fast:]) * slow > sum(seen[-slow:]) * fast
        if wants and not coins:
            coins, cash, spent = cash / (open_[i] * (1 + fee)), Fraction(0), cash
        elif coins and not wants:
            cash, coins = coins * open_[i] * (1 - fee), Fraction(0)
            profits.append(cash - spent)
        equity.append(cash + coins * close[i])
    returns = [Fraction(0), *(after / before - 1 for before, after in pairwise(equity))]
    mean = sum(returns, Fraction(0)) / len(returns)
    variance = sum(((r - mean) ** 2 for r in returns), Fraction(0)) / max(1, len(returns) - 1)
    return Plain(
        total_return=float(equity[-1] - 1),
        trades=len(profits),
        wins=sum(profit > 0 for profit in profits),
        is_open=int(coins > 0),
        max_drawdown=float(max(1 - after / max(equity[: i + 1]) for i, after in enumerate(equity))),
        sharpe=float(mean) / sqrt(variance) if variance else float("nan"),
    )


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([0, 1_999, 150_000]),
)
@settings(max_examples=150, deadline=None)
def test_small_markets_equal_exact_arithmetic(bars: list[tuple[int, int]], fast: int, slow: int, fee_ppm: int) -> None:
    opens, closes = map(list, zip(*bars, strict=True))
    open_, close = np.array(opens, np.int64), np.array(closes, np.int64)
    expected = exact(opens, closes, fast, slow, fee_ppm)
    assert_equal(one_pass(open_, close, averages(close, fast), averages(close, slow), fee_ppm), expected)
    assert_equal(row(signal_sweep(sma_grid(open_, close, [fast], [slow], fee_ppm)), 0), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    bars=st.one_of(st.integers(1, 5 * WORD), st.sampled_from([WORD, WORD + 1, 64 * WORD, 64 * WORD + 1, 70 * WORD])),
    step=st.sampled_from([0.0, 0.0005, 0.01, 0.1]),
    start=st.sampled_from([3, 200, 10_000_000]),
    fee_ppm=st.sampled_from([0, 2_000]),
)
@settings(max_examples=60, deadline=None)
def test_each_pair_equals_one_plain_pass(seed: int, bars: int, step: float, start: int, fee_ppm: int) -> None:
    open_, close = walk(seed, bars, step=step, start=start)
    fast, slow = [1, 2, 7], [3, 20, WORD, 200]
    figures = signal_sweep(sma_grid(open_, close, fast, slow, fee_ppm), threads=3)
    for i, (a, b) in enumerate(product(fast, slow)):
        plain = one_pass(open_, close, averages(close, a), averages(close, b), fee_ppm)
        assert_equal(row(figures, i), Plain(*plain))


@pytest.mark.parametrize("drift", [-0.002, 0.002])
def test_a_market_that_always_makes_new_records_equals_one_plain_pass(drift: float) -> None:
    rng = np.random.default_rng(5)
    close = np.round(1e6 * np.exp(np.cumsum(drift + 0.002 * rng.normal(size=3_000)))).astype(np.int64)
    open_ = np.append(close[:1], close[:-1])
    figures = signal_sweep(sma_grid(open_, close, [2, 10], [30, 300]))
    for i, (a, b) in enumerate(product([2, 10], [30, 300])):
        assert_equal(row(figures, i), Plain(*one_pass(open_, close, averages(close, a), averages(close, b), 2_000)))


def test_many_columns_make_small_blocks_and_the_same_figures() -> None:
    open_, close = walk(3, 700)
    few = signal_sweep(sma_grid(open_, close, [5], [40]))
    many = signal_sweep(sma_grid(open_, close, list(range(1, 800)), [40]), threads=1)
    for one, all_ in zip(few, many, strict=True):
        assert one[0] == pytest.approx(all_[4], rel=1e-9)


def test_any_columns_can_be_compared() -> None:
    open_, close = walk(4, 500)
    band = averages(close, 20) * 1.01
    grid = SignalGrid(
        open_,
        close,
        MatrixColumns(np.stack([close.astype(np.float64), averages(close, 3)])),
        MatrixColumns(np.stack([band])),
        np.array([[1, 0], [0, 0], [1, 0]]),
        1_000,
    )
    figures = signal_sweep(grid)
    columns: list[Floats] = [averages(close, 3), close.astype(np.float64), averages(close, 3)]
    for i, column in enumerate(columns):
        assert_equal(row(figures, i), Plain(*one_pass(open_, close, column, band, 1_000)))


def test_no_pairs_give_no_figures() -> None:
    open_, close = walk(1, 100)
    assert len(signal_sweep(sma_grid(open_, close, [], [])._replace(pairs=np.empty((0, 2), np.int64))).trades) == 0


@pytest.mark.parametrize(
    ("prices", "fee_ppm", "says"),
    [
        ([5, 0, 5], 0, "a price of 0 ticks"),
        ([5, 5, 5], 1_000_000, "a fee of 1000000 ppm"),
        ([5, 5, 5], -1, "a fee of -1 ppm"),
        ([5, 2**50, 5], 2_000, "not exact in 53 bits"),
    ],
)
def test_what_cannot_be_exact_is_refused(prices: list[int], fee_ppm: int, says: str) -> None:
    close = np.array(prices, np.int64)
    with pytest.raises(SettingsError, match=says):
        signal_sweep(sma_grid(close, close, [1], [2], fee_ppm))


@pytest.mark.parametrize(
    ("closes", "window", "says"), [([1], 0, "average of 0 bars"), ([2**50], 8, r"add up to 2\*\*53 or more")]
)
def test_averages_that_cannot_be_exact_are_refused(closes: list[int], window: int, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        SmaColumns(np.array(closes), np.array([window]))
