"""Recorded markets: files of JSON lines, gzipped or plain, read line by line and never whole.

A recording is read twice: once when it is opened, to refuse every defect before anything is played and to learn its
steps of price and quantity, and once more for each playing.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Final, cast

import msgspec

from bot.core.instrument import ATOM_SCALE, ATOMS, Instrument
from bot.errors import RecordingError
from bot.exchange.simulated.events import (
    BookChange,
    BookSnapshot,
    Level,
    MarketEvent,
    MarketSource,
    MarketTrade,
    TakerSide,
)

LINE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Longest line that is read; a snapshot of 1,000 levels a side is about 50 kB."""
PRICE_SCALE_MIN: Final = 2
QUANTITY_SCALE_MIN: Final = 4
"""A short recording may show fewer decimals than its market has."""
TS_NS_MAX: Final = 2**62
"""In the year 2116."""
DIGITS_MAX: Final = 15
"""Most digits of a price or a quantity before the point; after it, the scales decide."""
NUMBERS_KEPT: Final = 200_000
"""Different numbers remembered while reading; beyond, all are forgotten and read anew."""
SHOWN_MAX: Final = 60
GZIP_MAGIC: Final = b"\x1f\x8b"

_NUMBER: Final = re.compile(rf"[0-9]{{1,{DIGITS_MAX}}}(?:\.[0-9]{{1,{2 * DIGITS_MAX}}})?")
_SYMBOL: Final = re.compile(r"[A-Z0-9]+_[A-Z0-9]+(?:_PERP)?")
_SYMBOL_IN_NAME: Final = re.compile(r"(?:^|[^a-z0-9])([a-z0-9]+_[a-z0-9]+)")

_Time = Annotated[int, msgspec.Meta(gt=0, lt=TS_NS_MAX)]
_Id = Annotated[int, msgspec.Meta(ge=0)]
_TextLevels = tuple[tuple[str, str], ...]


class _SnapshotLine(msgspec.Struct, frozen=True, tag_field="e", tag="snapshot"):
    t: _Time
    id: _Id
    bids: _TextLevels
    asks: _TextLevels


class _DepthLine(msgspec.Struct, frozen=True, tag_field="e", tag="depth"):
    t: _Time
    first: _Id
    last: _Id
    bids: _TextLevels
    asks: _TextLevels


class _TradeLine(msgspec.Struct, frozen=True, tag_field="e", tag="trade"):
    t: _Time
    id: _Id
    price: str
    quantity: str
    taker_side: TakerSide


_Line = _SnapshotLine | _DepthLine | _TradeLine
_decode = msgspec.json.Decoder(_Line).decode


class _Defect(Exception):
    """What is wrong with a line."""


class _Scan:
    """What the lines so far say: the newest time and update id, and the finest steps of price and quantity."""

    def __init__(self, price_scale: int, quantity_scale: int) -> None:
        self.price_scale = price_scale
        self.quantity_scale = quantity_scale
        self._ts_ns = 0
        self._update_id: int | None = None
        self._is_on_snapshot = False
        self._prices: set[str] = set()  # already found good: markets repeat their numbers
        self._quantities: set[str] = set()

    def check(self, line: _Line) -> bool:
        """Take the next line; return whether it says something new (an update that its snapshot has does not).

        Raises:
            _Defect: it contradicts the lines before it, or itself.

        """
        if line.t < self._ts_ns:
            raise _Defect(f"time goes back, from {self._ts_ns} to {line.t}")
        self._ts_ns = line.t
        match line:
            case _TradeLine():
                self._check_levels(((line.price, line.quantity),), may_be_zero=False)
                if self._update_id is None:
                    raise _Defect("a trade before the first snapshot")
                return True
            case _DepthLine():
                self._check_levels(line.bids, may_be_zero=True)
                self._check_levels(line.asks, may_be_zero=True)
                return self._take_depth(line.first, line.last)
            case _SnapshotLine():
                self._check_levels(line.bids, may_be_zero=False)
                self._check_levels(line.asks, may_be_zero=False)
                self._take_snapshot(line)
                return True

    def _take_depth(self, first: int, last: int) -> bool:
        if self._update_id is None:
            raise _Defect("a depth update before the first snapshot")
        if last < first:
            raise _Defect(f"update ids run backwards, {first} to {last}")
        if self._is_on_snapshot and last <= self._update_id:
            return False
        # Numbers may be left out between two updates, and the first update may have begun before the snapshot.
        if not self._is_on_snapshot and first <= self._update_id:
            raise _Defect(f"update {first} after update {self._update_id}")
        self._update_id, self._is_on_snapshot = last, False
        return True

    def _take_snapshot(self, line: _SnapshotLine) -> None:
        if self._update_id is not None and line.id < self._update_id:
            raise _Defect(f"snapshot {line.id} after update {self._update_id}")
        if not (line.bids and line.asks):
            raise _Defect("a snapshot without bids or without asks")
        if max(float(price) for price, _ in line.bids) >= min(float(price) for price, _ in line.asks):
            raise _Defect("a snapshot whose best bid is not below its best ask")
        self._update_id, self._is_on_snapshot = line.id, True

    def _check_levels(self, levels: _TextLevels, *, may_be_zero: bool) -> None:
        prices, quantities = self._prices, self._quantities
        for price, quantity in levels:
            if price not in prices:
                self.price_scale = max(self.price_scale, _decimals(price))
                if _is_zero(price):
                    raise _Defect("a price of 0")
                _remember(prices, price)
            if quantity not in quantities:
                self.quantity_scale = max(self.quantity_scale, _decimals(quantity))
                _remember(quantities, quantity)
            if not may_be_zero and _is_zero(quantity):
                raise _Defect(f"a quantity of 0 at {price}")


def _remember(numbers: set[str], number: str) -> None:
    if len(numbers) >= NUMBERS_KEPT:
        numbers.clear()
    numbers.add(number)


def _is_zero(number: str) -> bool:
    return not number.strip("0.")


def _decimals(number: str) -> int:
    """Return how many decimals a plain number has, zeros at the end not counted."""
    if not _NUMBER.fullmatch(number):
        raise _Defect(f"not a plain decimal number of at most {DIGITS_MAX} digits: {number[:SHOWN_MAX]!r}")
    return len(number.partition(".")[2].rstrip("0"))


class Recording:
    """One recorded market; made by `open_recording`."""

    def __init__(self, path: Path, instrument: Instrument, event_count: int, first_ns: int) -> None:
        self.path = path
        self.instruments = (instrument,)
        self.event_count: int | None = event_count
        self.first_ns = first_ns
        self.description = f"recording {path.name} of {instrument.symbol}, {event_count} events"

    def events(self) -> Iterator[MarketEvent]:
        """Yield the recorded events, in order.

        Raises:
            RecordingError: the file changed since it was opened.

        """
        instrument = self.instruments[0]
        symbol, price_scale, quantity_scale = instrument.symbol, instrument.price_scale, instrument.quantity_scale
        scan = _Scan(price_scale, quantity_scale)
        ticks, lots = _Integers(price_scale), _Integers(quantity_scale)
        for line in _checked_lines(self.path, scan):
            if scan.price_scale != price_scale or scan.quantity_scale != quantity_scale:
                raise RecordingError(f"{self.path}: changed while it was being played")
            match line:
                case _TradeLine():
                    price_ticks, qty_lots = ticks[line.price], lots[line.quantity]
                    yield MarketTrade(line.t, symbol, str(line.id), price_ticks, qty_lots, line.taker_side)
                case _DepthLine():
                    yield BookChange(line.t, symbol, _levels(line.bids, ticks, lots), _levels(line.asks, ticks, lots))
                case _SnapshotLine():
                    yield BookSnapshot(line.t, symbol, _levels(line.bids, ticks, lots), _levels(line.asks, ticks, lots))


def open_recording(path: Path, symbol: str | None = None) -> Recording:
    """Read the recording at `path` through once and return it, ready to be played.

    `symbol` is the market's name; without one it is taken from the file's name (`spot-btc_usdt-20240808.jsonl.gz` is
    `BTC_USDT`, `perp-…` adds `_PERP`). Steps of price and quantity are the finest ones that the file shows.

    Raises:
        RecordingError: the file cannot be read, is not a recording, or has a defect; names file, line and value.

    """
    symbol = symbol_in_name(path) if symbol is None else symbol
    if symbol is None:
        raise RecordingError(f"{path}: no symbol in the file's name; give one, like BTC_USDT")
    if not _SYMBOL.fullmatch(symbol):
        raise RecordingError(f"{path}: symbol {symbol!r} is not of the form BASE_QUOTE")
    scan = _Scan(PRICE_SCALE_MIN, QUANTITY_SCALE_MIN)
    first_ns, count = 0, 0
    for line in _checked_lines(path, scan):
        first_ns = first_ns or line.t
        count += 1
    if scan.price_scale + scan.quantity_scale > ATOM_SCALE:
        raise RecordingError(
            f"{path}: {scan.price_scale} decimals of price and {scan.quantity_scale} of quantity; "
            f"together more than {ATOM_SCALE}"
        )
    base, quote = symbol.split("_")[:2]
    instrument = Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        price_scale=scan.price_scale,
        quantity_scale=scan.quantity_scale,
        qty_lots_min=1,
        notional_atoms_min=ATOMS,
    )
    return Recording(path, instrument, count, first_ns)


class MergedSource:
    """Several markets as one, in order of time; made by `merge_sources`."""

    def __init__(self, sources: Sequence[MarketSource]) -> None:
        self._sources = tuple(sources)
        self.instruments = tuple(instrument for source in sources for instrument in source.instruments)
        self.description = "; ".join(source.description for source in sources)
        self.first_ns = min(source.first_ns for source in sources)
        counts = [source.event_count for source in sources]
        self.event_count = None if None in counts else sum(count for count in counts if count is not None)

    def events(self) -> Iterator[MarketEvent]:
        """Yield the events of all sources by time; of equal times, those of the earlier named source first."""
        return heapq.merge(*(source.events() for source in self._sources), key=lambda event: event.ts_ns)


def merge_sources(sources: Sequence[MarketSource]) -> MarketSource:
    """Return one source that plays all of `sources`, at least one, by time.

    Raises:
        RecordingError: two of them have the same symbol.

    """
    seen: dict[str, str] = {}
    for source in sources:
        for instrument in source.instruments:
            if instrument.symbol in seen:
                first = seen[instrument.symbol]
                raise RecordingError(f"{instrument.symbol} comes twice: {first}; {source.description}")
            seen[instrument.symbol] = source.description
    return sources[0] if len(sources) == 1 else MergedSource(sources)


class _Integers(dict[str, int]):
    """Checked numbers of one scale as integers, remembered."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self._scale = scale

    def __missing__(self, text: str) -> int:
        if len(self) >= NUMBERS_KEPT:
            self.clear()
        whole, _, fraction = text.partition(".")
        value = self[text] = int(whole + fraction[: self._scale].ljust(self._scale, "0"))
        return value


def _levels(levels: _TextLevels, ticks: _Integers, lots: _Integers) -> tuple[Level, ...]:
    return tuple([(ticks[price], lots[quantity]) for price, quantity in levels])


def symbol_in_name(path: Path) -> str | None:
    """Return the symbol that a file's name tells, or None."""
    name = path.name.partition(".")[0].lower()
    found = _SYMBOL_IN_NAME.search(name)
    if found is None:
        return None
    return found[1].upper() + ("_PERP" if "perp" in re.split(r"[^a-z0-9]+", name) else "")


def _checked_lines(path: Path, scan: _Scan) -> Iterator[_Line]:
    """Yield the lines of a recording, each one checked against those before it.

    Raises:
        RecordingError: names file, line and value of the first defect, an empty file included.

    """
    number = 0
    for number, text in enumerate(_raw_lines(path), start=1):
        try:
            line = _decode(text)
            is_news = scan.check(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Defect) as error:
            raise RecordingError(f"{path}: line {number}: {error}: {_shown(text)}") from error
        if is_news:
            yield line
    if number == 0:
        raise RecordingError(f"{path}: empty; a recording begins with a snapshot")


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        if not path.is_file():
            raise RecordingError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        with path.open("rb") as probe:
            is_gzip = probe.read(2) == GZIP_MAGIC
        if path.suffix == ".gz" and not is_gzip:
            raise RecordingError(f"{path}: not a gzip file")
        with cast("IO[bytes]", gzip.open(path, "rb")) if is_gzip else path.open("rb") as file:
            number = 1
            while text := file.readline(LINE_BYTES_MAX):
                if len(text) == LINE_BYTES_MAX:
                    raise RecordingError(f"{path}: line {number}: longer than {LINE_BYTES_MAX} bytes: {_shown(text)}")
                yield text
                number += 1
    except EOFError as error:
        raise RecordingError(f"{path}: the gzip file is cut off: {error}") from error
    except (OSError, zlib.error) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error


def _shown(text: bytes) -> str:
    shown = text[:SHOWN_MAX].decode("utf-8", "backslashreplace").rstrip()
    return shown + ("…" if len(text) > SHOWN_MAX else "")
