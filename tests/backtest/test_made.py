from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bot.backtest.made import MOVES, PRICE_RANGE, PRICE_TICKS, fill_columns, made_market
from bot.core.durations import UNITS_NS

MINUTE_NS = UNITS_NS["m"]


def digest(seed: int, bars: int = 1_000) -> str:
    columns = made_market(bars=bars, seed=seed, timeframe_ns=MINUTE_NS).candles
    return hashlib.sha256(b"".join(column.astype("<i8").tobytes() for column in columns)).hexdigest()


def test_a_seed_gives_the_same_market_everywhere() -> None:
    assert digest(7) == "a08b1671d1fdbb14bdf471b0e76730ce0acd594809d782b17645a389f1f9879f"
    assert digest(8) != digest(7)


def test_a_longer_market_begins_like_a_shorter_one() -> None:
    short, long = (made_market(bars=bars, seed=2, timeframe_ns=MINUTE_NS).candles for bars in (100, 1_000))
    for mine, theirs in zip(short, long, strict=True):
        np.testing.assert_array_equal(mine, theirs[:100])


@pytest.mark.parametrize("seed", range(5))
def test_made_candles_are_candles(seed: int) -> None:
    start_ns, open_, high, low, close, volume = made_market(bars=20_000, seed=seed, timeframe_ns=MINUTE_NS).candles
    assert (np.diff(start_ns) == MINUTE_NS).all()
    assert (low > 0).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (open_[1:] == close[:-1]).all()
    assert (volume > 0).all()
    moves = np.diff(np.log(close))
    assert 1e-4 < moves.std() < 2e-3
    assert (high - low).astype(float).std() > 0


def test_the_price_stays_in_its_range() -> None:
    down = np.zeros((50_000, MOVES + 1), np.int64)
    down[0, MOVES] = 1024 * 512
    columns = np.empty((5, len(down)), np.int64)
    fill_columns(down, columns, PRICE_TICKS)
    assert columns[3].min() == PRICE_TICKS // PRICE_RANGE


def test_the_first_bar_begins_on_the_grid() -> None:
    market = made_market(bars=2, seed=1, timeframe_ns=UNITS_NS["w"], start_ns=1_704_153_600 * UNITS_NS["s"])
    assert market.candles.start_ns.tolist() == [1_704_672_000 * UNITS_NS["s"], 1_705_276_800 * UNITS_NS["s"]]
