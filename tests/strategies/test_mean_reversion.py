"""Buy what fell far, sell it when it is back."""

from __future__ import annotations

import pytest

from bot.core import messages as m
from bot.strategies.mean_reversion import MeanReversion, MeanReversionSettings


def shares(closes: list[int], *, entry_z: float = 1.5, exit_z: float = 0.0) -> list[float | None]:
    strategy = MeanReversion(
        MeanReversionSettings(timeframe="1s", notional=1, window=4, entry_z=entry_z, exit_z=exit_z)
    )
    return [
        strategy.on_bar(
            m.Bar(
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
        )
        for close in closes
    ]


def test_it_has_no_opinion_before_its_window_is_full() -> None:
    assert shares([100, 100, 100, 100]) == [None, None, None, 0.0]


def test_it_enters_far_below_the_average_and_leaves_at_it() -> None:
    assert shares([100, 100, 100, 90, 91, 100]) == [None, None, None, 1.0, 1.0, 0.0]


def test_it_keeps_its_mind_in_between() -> None:
    assert shares([100, 101, 100, 99, 100, 90, 92, 93, 94, 97])[5:] == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_it_may_leave_before_the_average() -> None:
    assert shares([100, 100, 100, 90, 94])[3:] == [1.0, 1.0]
    assert shares([100, 100, 100, 90, 94], exit_z=0.5)[3:] == [1.0, 0.0]


@pytest.mark.parametrize("exit_z", [1.5, 2.0])
def test_the_way_out_is_above_the_way_in(exit_z: float) -> None:
    with pytest.raises(ValueError, match="must be less than entry_z"):
        MeanReversionSettings(timeframe="1s", notional=1, exit_z=exit_z)
