"""`bot candles`: fetch past candles of a market into a file, for `bot backtest --data`.

A file that is there already is gone on with: every whole page is written as soon as it is read.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bot.errors import EXIT_OK, DataError, SettingsError

if TYPE_CHECKING:
    from bot.cli_progress import ProgressLine
    from bot.exchange.transport import Http

HEADER: Final = b"time,open,high,low,close,volume\n"
PAGE: Final = 500
"""Most candles that the exchange returns at once (24104)."""
DAYS: Final = 30
TIMEOUT_S: Final = 15.0
_MS: Final = 1_000_000
_TAIL_BYTES: Final = 4096


class CandleLine(NamedTuple):
    """One candle as it is written."""

    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


Fetch = Callable[[int, int], Awaitable[Iterable[CandleLine]]]
"""Returns the candles that start in `first` <= t < `second` milliseconds, and perhaps others."""


class Span(NamedTuple):
    """Which candles to fetch, in milliseconds; both ends begin a bar."""

    start_ms: int
    end_ms: int
    timeframe_ms: int


def add_candles(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = add(commands, "candles", "Fetch past candles of a market into a file, and go on where it ends.", _candles)
    parser.add_argument("symbol", help="such as BTC_USDT or BTC_USDT_PERP")
    parser.add_argument("--timeframe", default="1m", metavar="TIME", help="1m to 1w (1m)")
    parser.add_argument("--from", dest="from_", metavar="TIME", help=f"first bar, UTC ({DAYS} days before the last)")
    parser.add_argument("--to", metavar="TIME", help="bars end by then (now)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="(SYMBOL-TIMEFRAME.csv)")
    parser.add_argument("--url", default="https://api.poloniex.com", help="another server of the same protocol")


class CandleFile:
    """A file of candles that is written at its end; a last line that a crash cut off is dropped."""

    def __init__(self, path: Path) -> None:
        """Open the file, or begin one.

        Raises:
            DataError: it holds something else.
            SettingsError: it cannot be written.

        """
        self.path = path
        try:
            self._file = path.open("r+b" if path.exists() else "x+b")
        except OSError as error:
            raise SettingsError(f"{path}: cannot be written ({error.strerror})") from error
        try:
            self.last_ms = self._find_end()
            """Time of the last candle, None in an empty file."""
        except BaseException:
            self._file.close()
            raise

    def _find_end(self) -> int | None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        first = self._file.read(len(HEADER))
        if not HEADER.startswith(first) if size < len(HEADER) else first != HEADER:
            raise DataError(f"{self.path}: is there already, and is no file of candles")
        tail_at = max(len(HEADER), size - _TAIL_BYTES)
        self._file.seek(tail_at)
        tail = self._file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        time = whole.splitlines()[-1].split(b",")[0] if whole else b""
        if whole and not time.isdigit():
            raise DataError(f"{self.path}: its last line does not begin with milliseconds since 1970")
        self._file.seek(0 if size < len(HEADER) else tail_at + len(whole))
        self._file.truncate()
        if size < len(HEADER):
            self._file.write(HEADER)
        return int(time) if whole else None

    def append(self, candles: Sequence[CandleLine]) -> None:
        """Write candles, which come after the last one."""
        text = "".join(f"{start_ms},{','.join(f'{number:f}' for number in rest)}\n" for start_ms, *rest in candles)
        self._file.write(text.encode())
        self._file.flush()
        if candles:
            self.last_ms = candles[-1].start_ms

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


async def fill_file(fetch: Fetch, file: CandleFile, span: Span, progress: Callable[[int, int], None]) -> int:
    """Fetch the candles of `span` that the file has not yet, page by page; return how many there were."""
    length_ms = span.timeframe_ms
    begin_ms = span.start_ms if file.last_ms is None else max(span.start_ms, file.last_ms + length_ms)
    written = 0
    for page_ms in range(begin_ms, span.end_ms, PAGE * length_ms):
        page_end_ms = min(page_ms + PAGE * length_ms, span.end_ms)
        found = {candle.start_ms: candle for candle in await fetch(page_ms, page_end_ms)}
        last_ms = min(page_end_ms - 1, span.end_ms - length_ms)  # a later one may still run
        candles = [found[start_ms] for start_ms in sorted(found) if page_ms <= start_ms <= last_ms]
        file.append(candles)
        written += len(candles)
        progress((page_end_ms - begin_ms) // length_ms, (span.end_ms - begin_ms) // length_ms)
    return written


def _candles(arguments: argparse.Namespace) -> int:
    import msgspec
    import trio

    from actors.front_door import leaf_error
    from bot.backtest.checks import moment
    from bot.cli_progress import open_progress
    from bot.config import load_settings

    path: Path = arguments.out or Path(f"{arguments.symbol}-{arguments.timeframe}.csv")
    interval, timeframe_ms = _interval(arguments.timeframe)
    name, state_dir = f"candles {arguments.symbol}", load_settings([], os.environ, []).bot.state_path
    with CandleFile(path) as file, open_progress(name, state_dir, is_quiet=arguments.json) as line:
        try:
            written = trio.run(_download, arguments, interval, timeframe_ms, file, line)
        except BaseExceptionGroup as group:
            raise leaf_error(group) from group
        last = None if file.last_ms is None else moment(file.last_ms * _MS)
    if arguments.json:
        result = {"symbol": arguments.symbol, "timeframe": arguments.timeframe, "file": str(path), "written": written}
        sys.stdout.write(msgspec.json.encode({**result, "last": last}).decode() + "\n")
    else:
        sys.stdout.write(f"{written:,} candles written to {path}" + (f", the last of {last}\n" if last else "\n"))
    return EXIT_OK


def _interval(text: str) -> tuple[str, int]:
    from bot.core.durations import duration_ns
    from bot.exchange.poloniex.codec import CANDLE_INTERVALS

    try:
        length_ns = duration_ns(text)
    except ValueError:
        length_ns = 0
    if length_ns not in CANDLE_INTERVALS:
        from bot.config import CANDLE_TIMEFRAMES

        raise SettingsError(f"--timeframe {text}: must be one of {' '.join(CANDLE_TIMEFRAMES)}")
    return CANDLE_INTERVALS[length_ns], length_ns // _MS


async def _download(
    arguments: argparse.Namespace, interval: str, timeframe_ms: int, file: CandleFile, line: ProgressLine
) -> int:
    from bot import __version__
    from bot.exchange.transport import open_http

    agent = f"poloniex-bot/{__version__}"
    async with open_http(
        arguments.url, connect_timeout_s=TIMEOUT_S, request_timeout_s=TIMEOUT_S, user_agent=agent
    ) as http:
        fetch, now_ms = await _fetcher(http, arguments.symbol, interval)
        return await fill_file(fetch, file, _span(arguments, timeframe_ms, now_ms), line.update)


async def _fetcher(http: Http, symbol: str, interval: str) -> tuple[Fetch, int]:
    """Return what asks the exchange for candles, and the exchange's time."""
    from bot.exchange.poloniex.futures_client import FuturesClient
    from bot.exchange.poloniex.limits import RateLimits
    from bot.exchange.poloniex.spot_client import SpotClient

    limits = RateLimits()
    spot = SpotClient(http, credentials=None, limits=limits)
    futures = FuturesClient(http, credentials=None, limits=limits)

    async def fetch_spot(start_ms: int, end_ms: int) -> list[CandleLine]:
        rows = await spot.candles(symbol, interval, limit=PAGE, start_ms=start_ms, end_ms=end_ms - 1)
        return [CandleLine(row.start_time_ms, row.open, row.high, row.low, row.close, row.quantity) for row in rows]

    async def fetch_futures(start_ms: int, end_ms: int) -> list[CandleLine]:
        rows = await futures.candles(symbol, interval, limit=PAGE, start_ms=start_ms, end_ms=end_ms)
        return [CandleLine(row.start_ms, row.open, row.high, row.low, row.close, row.contracts) for row in rows]

    return (fetch_futures if symbol.endswith("_PERP") else fetch_spot), await spot.server_time_ms()


def _span(arguments: argparse.Namespace, timeframe_ms: int, now_ms: int) -> Span:
    """Return the whole bars from `--from` to `--to`, none of which still runs."""
    end_ms = min(now_ms, _time_ms(arguments.to, "--to") or now_ms)
    start_ms = _time_ms(arguments.from_, "--from")
    if start_ms is None:
        start_ms = end_ms - int(timedelta(days=DAYS).total_seconds()) * 1000
    if start_ms >= end_ms:
        raise SettingsError(f"--from {arguments.from_}: does not come before the end")
    first_ms = _grid_ms(start_ms + timeframe_ms - 1, timeframe_ms)
    return Span(first_ms, _grid_ms(end_ms, timeframe_ms), timeframe_ms)


def _grid_ms(time_ms: int, timeframe_ms: int) -> int:
    """Return the start of the bar that a time falls in; weeks begin on Mondays, as in `bot/backtest/checks.py`."""
    week_ms = int(timedelta(weeks=1).total_seconds()) * 1000
    origin_ms = int(timedelta(days=4).total_seconds()) * 1000 if timeframe_ms == week_ms else 0
    return time_ms - (time_ms - origin_ms) % timeframe_ms


def _time_ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} {text}: must be a date such as 2024-01-31, or 2024-01-31T12:00Z") from None
    return round((when.replace(tzinfo=UTC) if when.tzinfo is None else when).timestamp()) * 1000
