"""`bot candles`: what is fetched, what is written, and how a file is gone on with."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from bot.backtest.data import Reading, load_candles
from bot.cli_candles import PAGE, CandleFile, CandleLine, Span, _span, fill_file
from bot.errors import DataError, SettingsError

MINUTE_MS = 60_000
START_MS = 1_700_000_100_000


def candle(minute: int) -> CandleLine:
    price = Decimal("0.00001234") + minute * Decimal("1E-8")
    return CandleLine(START_MS + minute * MINUTE_MS, price, price, price, price, Decimal("1E+2"))


class Exchange:
    """Has a candle for every minute but those in `without`, and remembers what it was asked for."""

    def __init__(self, without: Iterable[int] = ()) -> None:
        self.without = set(without)
        self.asked: list[tuple[int, int]] = []

    async def fetch(self, start_ms: int, end_ms: int) -> list[CandleLine]:
        first, last = (-(-(at - START_MS) // MINUTE_MS) for at in (start_ms, end_ms))
        self.asked.append((first, last))
        found = [candle(minute) for minute in range(first, last + 1) if minute not in self.without]
        return [*reversed(found), *found[:1]]  # in no order, one twice, and one too many: as a stranger may


async def fill(path: Path, first: int, last: int, exchange: Exchange) -> int:
    with CandleFile(path) as file:
        span = Span(START_MS + first * MINUTE_MS, START_MS + last * MINUTE_MS, MINUTE_MS)
        return await fill_file(exchange.fetch, file, span, lambda _done, _total: None)


def minutes(path: Path) -> list[int]:
    return [(int(line.split(",")[0]) - START_MS) // MINUTE_MS for line in path.read_text().splitlines()[1:]]


async def test_every_candle_is_written_once_in_order_and_reads_as_candles(tmp_path: Path) -> None:
    path, exchange = tmp_path / "A_B-1m.csv", Exchange(without=[7])
    assert await fill(path, 0, 2 * PAGE + 10, exchange) == 2 * PAGE + 9
    assert minutes(path) == [minute for minute in range(2 * PAGE + 10) if minute != 7]
    assert [last - first for first, last in exchange.asked] == [PAGE, PAGE, 10]
    market, report = load_candles(path, Reading())
    assert (report.timeframe, report.bars_missing) == ("1m", 1)
    assert market.candles.close[:2].tolist() == [1_234, 1_235]
    assert market.candles.volume[0] == 100 * 10**8


async def test_a_file_is_gone_on_with_where_it_ends(tmp_path: Path) -> None:
    path, exchange = tmp_path / "A_B-1m.csv", Exchange()
    await fill(path, 0, 10, exchange)
    assert await fill(path, 0, 25, exchange) == 15
    assert exchange.asked[1:] == [(10, 25)]
    assert minutes(path) == list(range(25))
    assert await fill(path, 0, 25, exchange) == 0


@pytest.mark.parametrize("kept", [5, 31, 100, 200])
async def test_a_line_that_a_crash_cut_off_is_fetched_again(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "A_B-1m.csv"
    await fill(path, 0, 10, Exchange())
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    await fill(path, 0, 10, Exchange())
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", ["something else\n", "time,open\n", "time,open,high,low,close,volume\n2024-01-01,1\n"]
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(content)
    with pytest.raises(DataError):
        CandleFile(path)
    assert path.read_text() == content


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written"):
        CandleFile(tmp_path / "no" / "such.csv")


async def test_what_was_fetched_before_an_error_is_kept(tmp_path: Path) -> None:
    path, exchange = tmp_path / "A_B-1m.csv", Exchange()

    async def fetch(start_ms: int, end_ms: int) -> list[CandleLine]:
        if len(exchange.asked) == 1:
            raise ConnectionError
        return await exchange.fetch(start_ms, end_ms)

    span = Span(START_MS, START_MS + 3 * PAGE * MINUTE_MS, MINUTE_MS)
    with pytest.raises(ConnectionError), CandleFile(path) as file:
        await fill_file(fetch, file, span, lambda _done, _total: None)
    assert minutes(path) == list(range(PAGE))


@pytest.mark.parametrize(
    ("from_", "to", "timeframe_ms", "span"),
    [
        ("2024-01-02", "2024-01-03", 60_000, ("2024-01-02T00:00", "2024-01-03T00:00")),
        ("2024-01-02T00:00:01Z", None, 60_000, ("2024-01-02T00:01", "2024-01-10T12:34")),
        ("2024-01-02", None, 604_800_000, ("2024-01-08T00:00", "2024-01-08T00:00")),
        (None, "2024-02-01", 86_400_000, ("2023-12-12T00:00", "2024-01-10T00:00")),
    ],
)
def test_only_whole_bars_that_are_over_are_asked_for(
    from_: str | None, to: str | None, timeframe_ms: int, span: tuple[str, str]
) -> None:
    from datetime import UTC, datetime

    now_ms = int(datetime(2024, 1, 10, 12, 34, 56, tzinfo=UTC).timestamp()) * 1000
    made = _span(argparse.Namespace(from_=from_, to=to), timeframe_ms, now_ms)
    shown = [f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M}" for at in made[:2]]
    assert tuple(shown) == span


def test_a_beginning_after_the_end_is_refused() -> None:
    with pytest.raises(SettingsError, match="--from 2024-03-01: does not come before the end"):
        _span(argparse.Namespace(from_="2024-03-01", to=None), 60_000, 1_704_067_200_000)
