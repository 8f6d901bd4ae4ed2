from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.made import START_NS, made_market
from bot.backtest.resample import resample, select
from bot.core.durations import UNITS_NS, duration_ns
from bot.errors import DataError
from bot.strategies.advice import Candles, Market

MINUTE_NS = UNITS_NS["m"]


def market(bars: int, *, start_ns: int = START_NS, timeframe: str = "1m") -> Market:
    return made_market(bars=bars, seed=5, timeframe_ns=duration_ns(timeframe), start_ns=start_ns)


def without(own: Market, gone: set[int]) -> Market:
    kept = np.array([at not in gone for at in range(len(own.candles.open))])
    return own._replace(candles=Candles(*(column[kept] for column in own.candles)))


@given(
    bars=st.integers(1, 60),
    late=st.integers(0, 10),
    times=st.sampled_from([2, 5, 15]),
    gone=st.sets(st.integers(0, 59), max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_a_longer_bar_is_made_of_all_bars_that_begin_in_it(bars: int, late: int, times: int, gone: set[int]) -> None:
    own = market(bars, start_ns=START_NS + late * MINUTE_NS)
    if len(gone & set(range(bars))) == bars:
        return
    own = without(own, gone)
    length_ns = times * MINUTE_NS
    groups: dict[int, list[tuple[int, ...]]] = {}
    for row in zip(*(column.tolist() for column in own.candles), strict=True):
        groups.setdefault(row[0] - row[0] % length_ns, []).append(row)
    first_ns, last_ns = int(own.candles.start_ns[0]), int(own.candles.start_ns[-1])
    whole = {
        start_ns: rows
        for start_ns, rows in groups.items()
        if start_ns >= first_ns and start_ns + length_ns <= last_ns + MINUTE_NS
    }
    if not whole:
        with pytest.raises(DataError, match=f"hold no whole bar of {times}m"):
            resample(own, length_ns)
        return
    longer, cut = resample(own, length_ns)
    expected = [
        (start_ns, rows[0][1], max(r[2] for r in rows), min(r[3] for r in rows), rows[-1][4], sum(r[5] for r in rows))
        for start_ns, rows in whole.items()
    ]
    assert list(zip(*(column.tolist() for column in longer.candles), strict=True)) == expected
    assert cut == sum(len(rows) for rows in groups.values()) - sum(len(rows) for rows in whole.values())
    assert longer.timeframe_ns == length_ns


def test_weeks_begin_on_monday_and_days_at_midnight_utc() -> None:
    wednesday_ns = START_NS + 2 * UNITS_NS["d"]
    longer, cut = resample(market(21 * 24, start_ns=wednesday_ns, timeframe="1h"), UNITS_NS["w"])
    assert longer.candles.start_ns.tolist() == [START_NS + at * UNITS_NS["w"] for at in (1, 2)]
    assert cut == 7 * 24


def test_its_own_length_changes_nothing() -> None:
    own = market(10)
    assert resample(own, MINUTE_NS) == (own, 0)


@pytest.mark.parametrize("length", ["30s", "1m500ms", "1m30s"])
def test_only_a_multiple_can_be_made(length: str) -> None:
    with pytest.raises(DataError, match=f"bars of 1m cannot be made into bars of {length}"):
        resample(market(10), duration_ns(length))


def test_a_volume_that_no_number_holds_is_refused() -> None:
    own = market(10)
    large = own._replace(candles=own.candles._replace(volume=np.full(10, 2**62, np.int64)))
    with pytest.raises(DataError, match="volume is too large"):
        resample(large, 5 * MINUTE_NS)


@pytest.mark.parametrize(
    ("from_", "to", "kept"),
    [(None, None, range(10)), (2, None, range(2, 10)), (None, 7, range(7)), (3, 5, [3, 4]), (1.5, 8.5, range(2, 8))],
)
def test_a_selection_holds_the_bars_that_begin_and_end_within(
    from_: float | None, to: float | None, kept: list[int]
) -> None:
    times = [None if at is None else START_NS + int(at * MINUTE_NS) for at in (from_, to)]
    chosen = select(market(10), *times)
    assert ((chosen.candles.start_ns - START_NS) // MINUTE_NS).tolist() == list(kept)


def test_an_empty_selection_is_refused() -> None:
    with pytest.raises(DataError, match="no bar of 10 lies between --from and --to"):
        select(market(10), START_NS + 20 * MINUTE_NS, None)
