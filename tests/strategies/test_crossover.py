"""Hold while the fast average is above the slow one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.strategies.crossover import Crossover, CrossoverSettings


def bar(close: int) -> m.Bar:
    return m.Bar(
        ts_ns=0,
        symbol="",
        timeframe_ns=1,
        start_ns=0,
        open_ticks=close,
        high_ticks=close,
        low_ticks=close,
        close_ticks=close,
        volume_lots=0,
    )


def shares(closes: list[int], *, fast: int, slow: int) -> list[float | None]:
    strategy = Crossover(CrossoverSettings(timeframe="1s", notional=1, fast=fast, slow=slow))
    return [strategy.on_bar(bar(close)) for close in closes]


def test_it_has_no_opinion_before_the_slow_average_is_full() -> None:
    assert shares([1, 2, 3, 4], fast=1, slow=3) == [None, None, 1.0, 1.0]


def test_it_leaves_when_the_averages_cross_or_touch() -> None:
    assert shares([1, 2, 3, 1, 2], fast=1, slow=3) == [None, None, 1.0, 0.0, 0.0]


@given(st.lists(st.integers(1, 1_000), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_it_equals_a_naive_one(closes: list[int], fast: int, more: int) -> None:
    slow = fast + more
    for end, share in enumerate(shares(closes, fast=fast, slow=slow), start=1):
        if end < slow:
            assert share is None
        else:
            assert share == float(sum(closes[end - fast : end]) * slow > sum(closes[end - slow : end]) * fast)


@pytest.mark.parametrize(("fast", "slow"), [(5, 5), (6, 5)])
def test_a_fast_average_is_faster(fast: int, slow: int) -> None:
    with pytest.raises(ValueError, match="must be less than slow"):
        CrossoverSettings(timeframe="1s", notional=1, fast=fast, slow=slow)
    with pytest.raises(msgspec.ValidationError, match="must be less than slow"):
        msgspec.convert(
            {"kind": "crossover", "timeframe": "1s", "notional": 1, "fast": fast, "slow": slow}, CrossoverSettings
        )
