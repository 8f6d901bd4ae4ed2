from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.checks import REPAIRS, Fault, Gaps, Repair, grid_start, moment
from bot.backtest.data import Loaded, Reading, load_candles
from bot.core.durations import UNITS_NS
from bot.errors import DataError
from tests.support.candle_files import MINUTE_MS, START_MS, row, write

GOOD = "10,12,9,11,5"


def load(path: Path, rows: list[str], *repairs: Repair, gaps: Gaps = "keep", as_of_ms: int | None = None) -> Loaded:
    as_of_ns = None if as_of_ms is None else as_of_ms * 1_000_000
    reading = Reading(repairs=frozenset(repairs), gaps=gaps, as_of_ns=as_of_ns)
    return load_candles(write(path / "A_B-1m.csv", rows), reading)


BAD_ROWS = [
    (Fault.MALFORMED, "10,12,9,11"),
    (Fault.MALFORMED, "10,12,9,eleven,5"),
    (Fault.MISSING, "10,12,9,,5"),
    (Fault.MISSING, "10,12,nan,11,5"),
    (Fault.MISSING, "10,12,9,11,inf"),
    (Fault.PRICE, "10,12,0,11,5"),
    (Fault.PRICE, "-10,12,9,11,5"),
    (Fault.VOLUME, "10,12,9,11,-5"),
    (Fault.CONTRADICTION, "10,9,12,11,5"),
    (Fault.CONTRADICTION, "13,12,9,11,5"),
    (Fault.CONTRADICTION, "10,12,9,8,5"),
    (Fault.TOO_LARGE, "10,99999999999,9,11,5"),
    (Fault.TOO_LARGE, "10.00000001,12345678,9,11,5"),
    (Fault.OFF_TICK, "10.000000001,12,9,11,5"),
]


@pytest.mark.parametrize(("fault", "values"), BAD_ROWS, ids=[f"{fault} {values}" for fault, values in BAD_ROWS])
def test_a_bad_row_is_refused_with_its_line_or_dropped_and_reported(tmp_path: Path, fault: Fault, values: str) -> None:
    rows = [row(0), row(1), row(2, values), row(3), row(4)]
    with pytest.raises(DataError, match=f"A_B-1m.csv: 1 row refused: {fault} .*line 4: ") as raised:
        load(tmp_path, rows)
    assert values in str(raised.value)
    market, report = load(tmp_path, rows, "drop")
    found = {finding.fault: (finding.count, finding.done) for finding in report.findings}
    assert found == {fault: (1, "dropped"), Fault.GAP: (1, "kept")}
    minutes = (market.candles.start_ns // 1_000_000 - START_MS) // MINUTE_MS
    assert minutes.tolist() == [0, 1, 3, 4]


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    rows = [row(0), row(0), row(2, "x,1,1,1,1"), row(5, "0,1,1,1,1"), row(4), row(3), row(9)]
    with pytest.raises(DataError) as raised:
        load(tmp_path, rows, gaps="refuse")
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[1] for line in lines][:4] == ["1 row refused"] * 4
    assert len(lines) == 5
    assert [fault for fault in Fault if any(fault in line for line in lines)] == [
        Fault.MALFORMED,
        Fault.PRICE,
        Fault.UNSORTED,
        Fault.DUPLICATE,
        Fault.GAP,
    ]


def test_examples_are_the_first_three_and_safe_to_print(tmp_path: Path) -> None:
    rows = [row(0), *(row(at, f"\x1b[31m{at},1,1,1,1") for at in range(1, 9)), row(9), row(10)]
    finding = load(tmp_path, rows, "drop").report.findings[0]
    assert finding.count == 8
    assert [example.split(":")[0] for example in finding.examples] == ["line 3", "line 4", "line 5"]
    assert all(text.isprintable() for text in finding.examples)


def test_clipping_widens_high_and_low_to_open_and_close(tmp_path: Path) -> None:
    rows = [row(0), row(1, "13,12,9,8,5"), row(2, "10,9,12,11,5")]
    market, report = load(tmp_path, rows, "clip", "drop")
    assert market.candles.high.tolist() == [12, 13, 12]
    assert market.candles.low.tolist() == [9, 8, 9]
    assert market.candles.open.tolist() == [10, 13, 10]
    assert [(finding.fault, finding.done) for finding in report.findings] == [(Fault.CONTRADICTION, "clipped")]


def test_sorting_is_a_repair_and_keeps_every_row(tmp_path: Path) -> None:
    rows = [row(at, f"10,12,9,11,{at}") for at in (3, 1, 2, 0)]
    with pytest.raises(DataError, match=r"2 rows refused: unsorted \(--repair sort would go on\); line 3: "):
        load(tmp_path, rows)
    market, report = load(tmp_path, rows, "sort")
    assert (market.candles.volume // 10**8).tolist() == [0, 1, 2, 3]
    assert [(finding.fault, finding.done) for finding in report.findings] == [(Fault.UNSORTED, "sorted")]


def test_of_duplicates_the_first_is_kept_and_it_is_said_whether_they_differ(tmp_path: Path) -> None:
    rows = [row(0), row(1, "10,12,9,11,1"), row(1, "10,12,9,11,2"), row(1, "10,12,9,11,1"), row(2), row(2)]
    market, report = load(tmp_path, rows, "drop")
    assert (market.candles.volume // 10**8).tolist() == [5, 1, 5]
    (finding,) = report.findings
    assert (finding.count, finding.done) == (3, "dropped")
    assert ["other values than line 3" in text for text in finding.examples] == [True, False, False]
    assert "the same as line 6" in finding.examples[2]


def test_times_of_another_clock_are_refused(tmp_path: Path) -> None:
    hour_ms = 60 * MINUTE_MS
    day_ms = 24 * hour_ms
    start_ms = START_MS - START_MS % day_ms + 5 * hour_ms
    rows = [f"{start_ms + at * day_ms},{GOOD}" for at in range(5)]
    with pytest.raises(DataError, match=r"5 rows refused: off the timeframe's grid .*a clock that is not UTC\?"):
        load_candles(write(tmp_path / "A_B-1d.csv", rows), Reading())
    with pytest.raises(DataError, match="no bar is left of 5 rows"):
        load_candles(write(tmp_path / "A_B-1d.csv", rows), Reading(repairs=frozenset({"drop"})))


def test_bars_that_are_all_late_alike_have_a_grid_of_their_own(tmp_path: Path) -> None:
    start_ms = START_MS + 20_000
    rows = [f"{start_ms + at * MINUTE_MS},{GOOD}" for at in range(20)]
    market, report = load(tmp_path, rows)
    assert market.candles.start_ns[0] == start_ms * 1_000_000
    (finding,) = report.findings
    assert (finding.fault, finding.count, finding.done) == (Fault.SHIFTED, 20, "kept")
    assert finding.examples == ("line 2: 2023-11-14T22:15:20Z lies 20s after a bar of 1m begins",)
    rows[10] = f"{start_ms + 10 * MINUTE_MS + 1},{GOOD}"
    with pytest.raises(DataError, match=r"1 row refused: off the timeframe's grid .*line 12"):
        load(tmp_path, rows)


def test_weeks_begin_on_monday(tmp_path: Path) -> None:
    monday_ms, day_ms = 1_704_067_200_000, 86_400_000
    rows = [f"{monday_ms + at * 7 * day_ms},{GOOD}" for at in range(3)]
    assert load_candles(write(tmp_path / "A_B-1w.csv", rows), Reading()).report.timeframe == "1w"
    rows = [f"{monday_ms + day_ms + at * 7 * day_ms},{GOOD}" for at in range(3)]
    with pytest.raises(DataError, match="off the timeframe's grid"):
        load_candles(write(tmp_path / "A_B-1w.csv", rows), Reading())


@pytest.mark.parametrize("late_ms", [0, MINUTE_MS - 1])
def test_a_last_bar_that_was_not_over_when_the_file_was_made_is_partial(tmp_path: Path, late_ms: int) -> None:
    rows = [row(at) for at in range(5)]
    as_of_ms = START_MS + 4 * MINUTE_MS + late_ms
    with pytest.raises(DataError, match=r"1 row refused: partial last bar .*line 6: .* ends at 2023-11-14T22:20:00Z"):
        load(tmp_path, rows, as_of_ms=as_of_ms)
    market, report = load(tmp_path, rows, "drop", as_of_ms=as_of_ms)
    assert len(market.candles.open) == 4
    assert [(finding.fault, finding.done) for finding in report.findings] == [(Fault.PARTIAL, "dropped")]


@pytest.mark.parametrize("as_of_ms", [START_MS + 5 * MINUTE_MS, START_MS + 99 * MINUTE_MS, START_MS - MINUTE_MS])
def test_a_last_bar_that_was_over_is_whole_and_a_future_that_was_made_up_too(tmp_path: Path, as_of_ms: int) -> None:
    assert load(tmp_path, [row(at) for at in range(5)], as_of_ms=as_of_ms).report.findings == ()


def test_a_last_row_between_two_bars_is_a_partial_one(tmp_path: Path) -> None:
    rows = [*(row(at) for at in range(5)), f"{START_MS + 5 * MINUTE_MS + 17_000},{GOOD}"]
    with pytest.raises(DataError, match=r"1 row refused: partial last bar .*line 7"):
        load(tmp_path, rows)
    assert len(load(tmp_path, rows, "drop").market.candles.open) == 5


def test_gaps_are_kept_refused_or_filled_and_always_reported(tmp_path: Path) -> None:
    rows = [row(0), row(1, "10,12,9,11,1"), row(4), row(5), row(7)]
    market, report = load(tmp_path, rows)
    assert (len(market.candles.open), report.bars_missing) == (5, 3)
    (finding,) = report.findings
    assert (finding.fault, finding.count, finding.done) == (Fault.GAP, 2, "kept")
    assert finding.examples[0] == "line 4: 2 bars from 2023-11-14T22:17:00Z"
    with pytest.raises(DataError, match=r"2 gaps refused \(--gaps keep or --gaps fill would go on\); line 4: 2 bars"):
        load(tmp_path, rows, gaps="refuse")
    market, report = load(tmp_path, rows, gaps="fill")
    assert report.findings[0].done == "filled"
    assert np.diff(market.candles.start_ns).tolist() == [UNITS_NS["m"]] * 7
    for column in market.candles[1:5]:
        assert column[2:4].tolist() == [11, 11]
    assert (market.candles.volume // 10**8).tolist() == [5, 1, 0, 0, 5, 5, 0, 5]


def test_no_more_bars_are_filled_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.backtest.checks.BARS_MAX", 100)
    with pytest.raises(DataError, match=r"3 bars and 98 to fill are more than 100"):
        load(tmp_path, [row(0), row(1), row(100)], gaps="fill")


DAMAGES = st.lists(
    st.tuples(
        st.integers(0, 19),
        st.sampled_from(["10,12,9", "nan,1,1,1,1", "0,1,1,1,1", "1,0.5,2,1,1", "1,1,1,1,-1", "", "ten,1,1,1,1", GOOD]),
    ),
    max_size=10,
)


@given(DAMAGES, st.sets(st.sampled_from(REPAIRS)), st.sampled_from(["keep", "refuse", "fill"]), st.randoms())
@settings(max_examples=150, deadline=None)
def test_what_is_let_through_is_whole_and_every_row_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory,
    damages: list[tuple[int, str]],
    repairs: set[Repair],
    gaps: Gaps,
    chance: Random,
) -> None:
    rows = [row(at) for at in range(20)] + [row(at, values) for at, values in damages]
    chance.shuffle(rows)
    try:
        market, report = load(tmp_path_factory.mktemp("a"), rows, *repairs, gaps=gaps)
    except DataError as error:
        assert "refused" in str(error)  # noqa: PT017 - it may also be let through
        return
    start_ns, open_, high, low, close, volume = market.candles
    assert (np.diff(start_ns) > 0).all()
    assert (low > 0).all()
    assert (volume >= 0).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
    dropped = sum(finding.count for finding in report.findings if finding.done == "dropped")
    filled = report.bars_missing if gaps == "fill" else 0
    assert report.bars == len(open_) == report.rows - dropped + filled
    assert all(finding.done != "refused" for finding in report.findings)


@pytest.mark.parametrize(
    ("length", "start"),
    [("1m", "2024-05-16T23:59:00Z"), ("4h", "2024-05-16T20:00:00Z"), ("1d", "2024-05-16T00:00:00Z"),
     ("1w", "2024-05-13T00:00:00Z")],
)  # fmt: skip
def test_a_bar_begins_on_the_grid_of_utc(length: str, start: str) -> None:
    at_ns = np.array([1_715_903_999_000_000_000], np.int64)
    unit_ns = UNITS_NS[length[-1]] * int(length[:-1])
    assert moment(grid_start(at_ns, unit_ns)[0]) == start
