"""The screen gives the same equity and trades as the full sweep."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.crossings import WORD, SignalGrid, SmaColumns, decisions_word, first_turn
from bot.backtest.screen import screen
from bot.backtest.signal_sweep import signal_sweep
from bot.errors import SettingsError


def grid(seed: int, bars: int, fee_ppm: int = 2_000) -> SignalGrid:
    rng = np.random.default_rng(seed)
    close = rng.integers(50, 100, bars)
    fast, slow = np.arange(1, 6), np.arange(2, 90, 11)
    pairs = np.array(list(product(range(len(fast)), range(len(slow)))))
    return SignalGrid(
        np.append(close[:1], close[:-1]), close, SmaColumns(close, fast), SmaColumns(close, slow), pairs, fee_ppm
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    bars=st.one_of(st.integers(1, 4 * WORD), st.sampled_from([64 * WORD + 1, 65 * WORD])),
    threads=st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_it_equals_the_full_sweep(seed: int, bars: int, threads: int) -> None:
    market = grid(seed, bars)
    screened, swept = screen(market, threads=threads), signal_sweep(market)
    assert screened.trades.tolist() == swept.trades.tolist()
    assert screened.is_open.tolist() == swept.is_open.tolist()
    assert screened.total_return + 1 == pytest.approx(swept.total_return + 1, rel=1e-12)


def test_it_refuses_what_the_sweep_refuses() -> None:
    with pytest.raises(SettingsError, match="a fee of 1000000 ppm"):
        screen(grid(1, 9, fee_ppm=1_000_000))


@given(st.lists(st.integers(0, WORD - 1), min_size=1))
@settings(deadline=None)
def test_the_first_turn_is_the_lowest_bit(places: list[int]) -> None:
    assert first_turn(sum(1 << place for place in set(places))) == min(places)


@given(st.lists(st.sampled_from([1.0, 2.0, float("nan"), float("inf")]), min_size=2 * WORD, max_size=2 * WORD))
@settings(deadline=None)
def test_a_word_holds_a_bit_for_each_comparison(values: list[float]) -> None:
    fast, slow = np.array(values[:WORD]), np.array(values[WORD:])
    assert decisions_word(fast, slow) == sum(
        1 << j for j, (a, b) in enumerate(zip(values[:WORD], values[WORD:], strict=True)) if a > b
    )
