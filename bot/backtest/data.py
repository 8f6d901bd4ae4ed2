"""Candles out of a file: `time,open,high,low,close,volume`, plain or compressed with gzip, into whole ticks and lots.

Times are seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size, or ISO 8601 with a
zone. Prices are exact; quantities are cut to whole lots. What is wrong is refused or repaired, as
`bot/backtest/checks.py` says.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bot.backtest import parse
from bot.backtest.checks import BARS_MAX, DAY_NS, WEEK_NS, DataReport, Gaps, Inspector, Repair, Rows, moment
from bot.core.durations import UNITS_NS, duration_ns, duration_text
from bot.core.instrument import ATOM_SCALE, Instrument
from bot.core.text import safe_text
from bot.errors import DataError
from bot.strategies.advice import Ints, Market

HEADER: Final = ("time", "open", "high", "low", "close", "volume")
FUNDING_HEADER: Final = ("time", "rate")
FILE_BYTES_MAX: Final = 2 * 1024**3
"""Of text, decompressed: some thirty years of minutes."""
PRICE_SCALE_MAX: Final = 8
"""Decimals of a price that are found by looking; more must be asked for."""
QUANTITY_SCALE: Final = 8
FUNDING_SCALE: Final = 9
LINE_SHOWN_MAX: Final = 80

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_SECOND_NS: Final = UNITS_NS["s"]
_YEAR_1990_S: Final = 631_152_000
_YEAR_2100_S: Final = 4_102_444_800
_UNITS: Final = (1, 1_000, 1_000_000, 1_000_000_000)
"""Parts of a second. No time from 1990 to 2099 in one of them is such a time in another."""
_NAME: Final = re.compile(r"(?P<symbol>[A-Za-z0-9_]+?)(?:[-_. ](?P<length>[0-9]{1,3}[smhdw]))?(?:[-. ].*)?")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}_(?!PERP\Z)[A-Z0-9]{1,20}(_PERP)?")
_QUOTES: Final = ("USDT", "USDC", "USDD", "TUSD", "USD", "EUR", "JPY", "GBP", "BTC", "ETH", "TRX")
_QUOTE_UNKNOWN: Final = "QUOTE"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a file of candles is to be read; None is found out from the file."""

    symbol: str | None = None
    timeframe_ns: int | None = None
    """Used where neither the name nor the spacing of the bars says it."""
    price_scale: int | None = None
    quantity_scale: int | None = None
    quote_fee_ppm: int = 0
    """Of the instrument: above 0 fees are paid in quote."""
    repairs: frozenset[Repair] = frozenset()
    gaps: Gaps = "keep"
    as_of_ns: int | None = None
    """When the file was made: a last bar that was not over then is a partial one. None: not known."""


class Loaded(NamedTuple):
    """A market, and what its file held."""

    market: Market
    report: DataReport


def load_candles(path: Path, reading: Reading) -> Loaded:
    """Return the candles of a file.

    Raises:
        DataError: the file cannot be read, or has faults that `reading` does not repair; names them all.

    """
    text = read_text(path)
    start = _check_header(path.name, text, HEADER)
    named_symbol, named_ns = name_parts(path.name)
    rows, price_scale, quantity_scale = _read_rows(path.name, text, start, reading)
    symbol = reading.symbol or named_symbol
    inspector = Inspector(path.name, reading.repairs, lambda number: _line(text, number), reading.price_scale is None)
    count = len(rows)
    rows = inspector.in_order(inspector.readable(rows))
    if not len(rows):
        inspector.refuse()
        raise DataError(f"{path.name}: there is no bar in it")
    timeframe_ns = _timeframe_ns(path.name, rows.time_ns, named_ns, reading.timeframe_ns, inspector)
    rows = inspector.on_grid(rows, timeframe_ns, reading.as_of_ns)
    rows = inspector.without_gaps(rows, timeframe_ns, reading.gaps)
    inspector.refuse()
    if not len(rows):
        raise DataError(f"{path.name}: no bar is left of {count} rows")
    instrument = make_instrument(symbol, price_scale, quantity_scale, quote_fee_ppm=reading.quote_fee_ppm)
    nothing = np.zeros(0, np.int64)
    report = DataReport(
        file=path.name,
        sha256=hashlib.sha256(text).hexdigest(),
        symbol=symbol,
        timeframe=duration_text(timeframe_ns),
        rows=count,
        bars=len(rows),
        first=moment(rows.time_ns[0]),
        last=moment(rows.time_ns[-1]),
        bars_missing=inspector.bars_missing,
        findings=tuple(inspector.findings),
    )
    return Loaded(Market(instrument, timeframe_ns, rows.candles, nothing, nothing), report)


def make_instrument(symbol: str, price_scale: int, quantity_scale: int, *, quote_fee_ppm: int = 0) -> Instrument:
    """Return an instrument for research: its own steps, and no minimums but one lot."""
    base, quote = symbol.removesuffix("_PERP").split("_")
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        qty_lots_min=1,
        notional_atoms_min=0,
        is_perp=symbol.endswith("_PERP"),
        quote_fee_ppm=quote_fee_ppm,
    )


def load_funding(path: Path, market: Market) -> Market:
    """Return `market` with the funding rates of a file of `time,rate`, rates as fractions (0.0001 is a basis point).

    Raises:
        DataError: the file cannot be read, its times do not rise, or a rate has more than nine decimals.

    """
    name = path.name
    text = read_text(path)
    start = _check_header(name, text, FUNDING_HEADER)
    times, rates = np.zeros(0, np.int64), np.zeros(0, np.int64)
    pairs = [_funding_row(name, line, at) for at, line in enumerate(text[start:].decode().splitlines(), 2)]
    if pairs:
        times, rates = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    if len(times) > 1 and np.diff(times).min() <= 0:
        at = int(np.flatnonzero(np.diff(times) <= 0)[0])
        raise DataError(f"{name}: line {at + 3}: {moment(times[at + 1])} does not come after the line before")
    return market._replace(funding_ns=times, funding_ppb=rates)


def _funding_row(name: str, line: str, number: int) -> tuple[int, int]:
    where = f"{name}: line {number}: {safe_text(line, LINE_SHOWN_MAX)}"
    fields = line.split(",")
    if len(fields) != len(FUNDING_HEADER):
        raise DataError(f"{where}: must be time,rate")
    time_ns = time_text_ns(fields[0].strip())
    if time_ns is None:
        raise DataError(f"{where}: {fields[0].strip()[:40]} is no time: digits since 1970, or ISO 8601 with a zone")
    try:
        rate = Decimal(fields[1].strip()).scaleb(FUNDING_SCALE)
        if rate == rate.to_integral_value() and abs(rate) <= 10**FUNDING_SCALE:
            return time_ns, int(rate)
    except ArithmeticError:
        pass
    raise DataError(f"{where}: a rate is a number from -1 to 1 with at most {FUNDING_SCALE} decimals")


def time_text_ns(text: str) -> int | None:
    """Return nanoseconds since 1970 UTC of one time as a file has it, or None where that is not certain."""
    if text.isascii() and text.isdigit():
        value = int(text)
        per_second = _parts_of_second(np.array([min(value, 2**62)], np.int64))
        return None if per_second is None else value * (_SECOND_NS // per_second)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        return None
    seconds = int(when.replace(microsecond=0).timestamp())
    return seconds * _SECOND_NS + when.microsecond * 1000


# --- the file


def read_text(path: Path) -> bytes:
    """Return the text of a file, decompressed if it is compressed, with a line feed at its end.

    Raises:
        DataError: it cannot be read, is no file, is broken, or is larger than `FILE_BYTES_MAX`.

    """
    name = path.name or str(path)
    try:
        if not path.is_file():
            raise DataError(f"{path}: {'is not a file' if path.exists() else 'there is no such file'}")
        with path.open("rb") as file:
            is_compressed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            if is_compressed:
                with gzip.GzipFile(fileobj=file) as opened:
                    content = opened.read(FILE_BYTES_MAX + 1)
            else:
                content = file.read(FILE_BYTES_MAX + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: a broken gzip file ({error})") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if path.suffix == ".gz" and not is_compressed:
        raise DataError(f"{name}: is named .gz and is not a gzip file")
    if len(content) > FILE_BYTES_MAX:
        raise DataError(f"{name}: has more than {FILE_BYTES_MAX} bytes of text")
    return content.rstrip() + b"\n"


def _check_header(name: str, text: bytes, wanted: Sequence[str]) -> int:
    """Return where the rows begin. Raises DataError if the first line is not the header."""
    end = text.find(b"\n", 0, parse.LINE_BYTES_MAX) + 1
    line = text[: end or parse.LINE_BYTES_MAX].removeprefix(_BOM)
    try:
        shown = line.decode().strip()
    except UnicodeDecodeError:
        raise DataError(f"{name}: is not UTF-8 text") from None
    if [field.strip().lower() for field in shown.split(",")] != list(wanted):
        raise DataError(f"{name}: line 1 must be {','.join(wanted)}, and is {safe_text(shown, LINE_SHOWN_MAX)!r}")
    return end


def _line(text: bytes, number: int) -> str:
    """Return a line of the file, made safe to show."""
    at = 0
    for _ in range(number - 1):
        at = text.find(b"\n", at) + 1
    return safe_text(text[at : text.find(b"\n", at)].decode(errors="replace").strip(), LINE_SHOWN_MAX)


def name_parts(file_name: str) -> tuple[str, int | None]:
    """Return the symbol and the timeframe (None: not said) that a file's name speaks of.

    `ETH_BTC-5m.csv.gz` is ETH_BTC. Of `BTCUSDT.csv` the known coin at its end is the quote; a name without one is the
    base of an unknown quote.
    """
    match = _NAME.fullmatch(re.sub(r"(\.csv)?(\.gz)?\Z", "", file_name))
    if match is None:
        return f"DATA_{_QUOTE_UNKNOWN}", None
    length_ns = duration_ns(match["length"]) if match["length"] else 0
    return _symbol_of(match["symbol"].upper()), length_ns if is_timeframe(length_ns) else None


def _symbol_of(name: str) -> str:
    if _SYMBOL.fullmatch(name):
        return name
    whole = name.replace("_", "")[:20] or "DATA"
    quote = next((quote for quote in _QUOTES if whole.endswith(quote) and len(whole) > len(quote)), "")
    return f"{whole.removesuffix(quote)}_{quote or _QUOTE_UNKNOWN}"


# --- the rows


def _read_rows(name: str, text: bytes, start: int, reading: Reading) -> tuple[Rows, int, int]:
    """Return all rows with their times in nanoseconds, the decimals of a price, and those of a quantity."""
    is_tick_given = reading.price_scale is not None
    price_scale = PRICE_SCALE_MAX if reading.price_scale is None else reading.price_scale
    quantity_scale = reading.quantity_scale
    if quantity_scale is None:
        quantity_scale = min(QUANTITY_SCALE, ATOM_SCALE - price_scale)
    content = np.frombuffer(text, np.uint8)
    count = int(np.count_nonzero(content[start:] == 10))
    if count > BARS_MAX:
        raise DataError(f"{name}: has {count} rows, more than {BARS_MAX}")
    columns = np.zeros((parse.FIELDS, count), np.int64)
    codes = np.zeros(count, np.uint8)
    decimals = np.array((0, *(price_scale,) * 4, quantity_scale), np.int64)
    first = text[start : start + parse.LINE_BYTES_MAX].split(b"\n", 1)[0].split(b",", 1)[0]
    is_iso = b"-" in first[1:] or b":" in first
    needed = parse.read_rows(content, start, is_iso, decimals, columns, codes)
    if not is_iso:
        columns[0] = _times_ns(name, columns[0], codes)
    if not is_tick_given and needed < price_scale:
        columns[1:5] //= 10 ** (price_scale - needed)
        price_scale = needed
    if price_scale + quantity_scale > ATOM_SCALE:
        raise DataError(
            f"{name}: {price_scale} decimals of a price and {quantity_scale} of a lot are more than {ATOM_SCALE} "
            f"together; a larger --lot-size would do"
        )
    return Rows(*columns, codes=codes, line=np.arange(2, count + 2)), price_scale, quantity_scale


def _times_ns(name: str, times: Ints, codes: parse.Bytes) -> Ints:
    """Return times in nanoseconds; those of another unit than the first get a code."""
    read = times[(codes == parse.FINE) | (codes == parse.OFF_TICK)]
    per_second = _parts_of_second(read)
    if per_second is None:
        if not len(read):
            return times
        raise DataError(f"{name}: time {read[0]} lies outside the years 1990 to 2099 in s, ms, µs and ns since 1970")
    is_good = (times >= _YEAR_1990_S * per_second) & (times < _YEAR_2100_S * per_second)
    codes[~is_good & ((codes == parse.FINE) | (codes == parse.OFF_TICK))] = parse.BAD_TIME
    return np.where(is_good, times, 0) * (_SECOND_NS // per_second)


def _parts_of_second(times: Ints) -> int | None:
    """Return how many units a second has, by the first time that is one from 1990 to 2099; None if none is."""
    for value in times[:100].tolist():
        for per_second in _UNITS:
            if _YEAR_1990_S * per_second <= value < _YEAR_2100_S * per_second:
                return per_second
    return None


def is_timeframe(length_ns: int) -> bool:
    """Return whether bars of this length lie on a grid: whole seconds that divide a day, 1d, 3d or 1w."""
    if length_ns in (DAY_NS, 3 * DAY_NS, WEEK_NS):
        return True
    return length_ns > 0 and length_ns % _SECOND_NS == 0 and DAY_NS % length_ns == 0


def _timeframe_ns(name: str, time_ns: Ints, named_ns: int | None, wanted_ns: int | None, inspector: Inspector) -> int:
    """Return the length of the bars: the most frequent step between them, which their file's name must not deny."""
    steps = np.diff(time_ns)
    if not len(steps):
        length_ns = named_ns or wanted_ns
        if length_ns is None:
            raise DataError(f"{name}: one bar does not say how long it is; give --timeframe")
        return length_ns
    length_ns = int(steps[0])
    if not (steps == length_ns).all():
        lengths, counts = np.unique(steps, return_counts=True)
        length_ns = int(lengths[counts.argmax()])
    shown = f"{length_ns / _SECOND_NS:g} s"
    if not is_timeframe(length_ns):
        inspector.refuse()
        raise DataError(f"{name}: its bars are {shown} apart, which is no timeframe (1s to 1w, dividing the day)")
    if named_ns is not None and named_ns == int(steps.min()):
        return named_ns  # gaps may be more frequent than bars that follow each other
    if named_ns is not None and named_ns != length_ns:
        inspector.refuse()
        raise DataError(f"{name}: its name says {duration_text(named_ns)}, and its bars are {shown} apart")
    return length_ns
