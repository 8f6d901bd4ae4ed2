"""What can be wrong with candles, what may be done about it, and the report of what was.

Nothing is changed that the user did not ask for, and nothing is changed in silence: a fault is refused, or repaired
and counted. Only a gap is kept as it is, where nothing else was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from bot.backtest import parse
from bot.core.durations import UNITS_NS, duration_text
from bot.errors import DataError
from bot.strategies.advice import Candles, Ints

Mask = NDArray[np.bool_]
Repair = Literal["sort", "drop", "clip", "round"]
REPAIRS: Final[tuple[Repair, ...]] = get_args(Repair)
Gaps = Literal["keep", "refuse", "fill"]

EXAMPLES_MAX: Final = 3
BARS_MAX: Final = 50_000_000
"""Some 95 years of minutes; 2.4 GB."""
FINE_TICKS: Final = 500_000
"""From here on rounding to a tick changes a price by a millionth at most."""
TICKS_MAX: Final = 10**15
"""A price in ticks stays exact as a float64, and a year of minutes of them can be summed."""
DAY_NS: Final = UNITS_NS["d"]
WEEK_NS: Final = UNITS_NS["w"]
MONDAY_NS: Final = 4 * DAY_NS
"""1970-01-05: weeks begin on Mondays, UTC."""
CLOCKS_NS: Final = 15 * UNITS_NS["m"]
"""Time zones differ by multiples of this."""


class Fault(StrEnum):
    """One kind of bad data."""

    MALFORMED = "malformed"
    MISSING = "missing"
    TOO_LARGE = "too large"
    BAD_TIME = "bad time"
    NO_ZONE = "no time zone"
    OFF_TICK = "off the tick"
    PRICE = "price not above 0"
    VOLUME = "negative volume"
    CONTRADICTION = "high and low contradict"
    UNSORTED = "unsorted"
    DUPLICATE = "duplicate"
    OFF_GRID = "off the timeframe's grid"
    SHIFTED = "all off the timeframe's grid alike"
    PARTIAL = "partial last bar"
    GAP = "gap"


CURES: Final[Mapping[Fault, tuple[Repair, ...]]] = {
    Fault.MALFORMED: ("drop",),
    Fault.MISSING: ("drop",),
    Fault.TOO_LARGE: ("drop",),
    Fault.BAD_TIME: ("drop",),
    Fault.NO_ZONE: ("drop",),
    Fault.OFF_TICK: ("round", "drop"),
    Fault.PRICE: ("drop",),
    Fault.VOLUME: ("drop",),
    Fault.CONTRADICTION: ("clip", "drop"),
    Fault.UNSORTED: ("sort",),
    Fault.DUPLICATE: ("drop",),
    Fault.OFF_GRID: ("drop",),
    Fault.PARTIAL: ("drop",),
}
"""Which repairs help; the first that the user chose is made. Of duplicates the first is kept."""

_DONE: Final[Mapping[str, str]] = {"sort": "sorted", "drop": "dropped", "clip": "clipped", "round": "rounded"}
_BY_CODE: Final = {
    Fault.MALFORMED: (parse.NOT_SIX, parse.NOT_A_NUMBER, parse.OVERLONG),
    Fault.MISSING: (parse.MISSING,),
    Fault.TOO_LARGE: (parse.TOO_LARGE,),
    Fault.BAD_TIME: (parse.BAD_TIME,),
    Fault.NO_ZONE: (parse.NO_ZONE,),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault in one file."""

    fault: Fault
    count: int
    done: str
    """`refused`, `kept`, `filled`, or the repair: `dropped`, `sorted`, `clipped`, `rounded`."""
    examples: tuple[str, ...]
    """The first few, each with its line and its values."""


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a file held and what was done to it."""

    file: str
    """Its name, without directories: a report is the same wherever it is made."""
    sha256: str
    """Of its text, decompressed."""
    symbol: str
    timeframe: str
    rows: int
    bars: int
    first: str
    last: str
    bars_missing: int
    """In gaps, by the timeframe."""
    findings: tuple[Finding, ...]

    def lines(self) -> Iterator[str]:
        """Yield what was found, in words, one line each; nothing for a file without a fault."""
        for finding in self.findings:
            yield f"{self.file}: {_sentence(finding)}"


@dataclass(slots=True)
class Rows:
    """The rows of a file on their way to candles; columns of one length."""

    time_ns: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    codes: NDArray[np.uint8]
    """As `bot/backtest/parse.py` gives them."""
    line: Ints
    """Each one's line in the file."""

    def __len__(self) -> int:
        return len(self.time_ns)

    def take(self, chosen: Mask | Ints) -> Rows:
        """Return those rows only, or in that order."""
        return Rows(*(column[chosen] for column in self.candles), codes=self.codes[chosen], line=self.line[chosen])

    @property
    def candles(self) -> Candles:
        """Return what a market has of them."""
        return Candles(self.time_ns, self.open, self.high, self.low, self.close, self.volume)


@dataclass(slots=True)
class Inspector:
    """Goes through the rows of one file, repairs what may be repaired, and collects the rest."""

    file: str
    repairs: frozenset[Repair]
    raw_line: Callable[[int], str]
    """Gives a line of the file, by its number."""
    is_tick_found: bool = False
    """Nobody said the tick size: it is as fine as it can be."""
    findings: list[Finding] = field(default_factory=list[Finding])
    bars_missing: int = 0

    def readable(self, rows: Rows) -> Rows:
        """Return the rows that could be read, at prices that can be."""
        if rows.codes.any():
            for fault, codes in _BY_CODE.items():
                rows = self._without(rows, fault, np.isin(rows.codes, codes))
            rows = self._on_tick(rows)
        lowest = np.minimum(np.minimum(rows.open, rows.close), np.minimum(rows.high, rows.low))
        highest = np.maximum(np.maximum(rows.open, rows.close), np.maximum(rows.high, rows.low))
        if len(rows) and lowest.min() <= 0:
            is_good = lowest > 0
            rows = self._without(rows, Fault.PRICE, ~is_good)
            lowest, highest = lowest[is_good], highest[is_good]
        if len(rows) and highest.max() > TICKS_MAX:
            rows = self._without(rows, Fault.TOO_LARGE, highest > TICKS_MAX)
        if len(rows) and rows.volume.min() < 0:
            rows = self._without(rows, Fault.VOLUME, rows.volume < 0)
        return self._without_contradictions(rows)

    def _on_tick(self, rows: Rows) -> Rows:
        """Return the rows at whole ticks; where the tick was found and is fine enough, rounding needs no leave."""
        off = rows.codes == parse.OFF_TICK
        if not off.any():
            return rows
        lowest = min(int(column[off].min()) for column in rows.candles[1:5])
        if self.is_tick_found and lowest >= FINE_TICKS and "drop" not in self.repairs:
            self._note(Fault.OFF_TICK, off, rows, None, done=_DONE["round"])
            return rows
        return self._without(rows, Fault.OFF_TICK, off)

    def _without_contradictions(self, rows: Rows) -> Rows:
        high = np.maximum(np.maximum(rows.open, rows.close), np.maximum(rows.high, rows.low))
        low = np.minimum(np.minimum(rows.open, rows.close), np.minimum(rows.high, rows.low))
        bad = (rows.high < high) | (rows.low > low)
        if not bad.any():
            return rows
        kept = self._without(rows, Fault.CONTRADICTION, bad)
        if self.findings[-1].done == _DONE["clip"]:
            kept.high, kept.low = high, low
        return kept

    def in_order(self, rows: Rows) -> Rows:
        """Return the rows by time, each time once."""
        steps = np.diff(rows.time_ns)
        if not len(steps) or steps.min() > 0:
            return rows
        if steps.min() < 0:
            back = np.concatenate(([False], steps < 0))
            self._note(Fault.UNSORTED, back, rows, lambda at: f"{moment(rows.time_ns[at])} after a later one")
            rows = rows.take(np.argsort(rows.time_ns, kind="stable"))
            steps = np.diff(rows.time_ns)
        again = np.concatenate(([False], steps == 0))
        if not again.any():
            return rows
        return self._without(rows, Fault.DUPLICATE, again, lambda at: _again(rows, at))

    def on_grid(self, rows: Rows, timeframe_ns: int, as_of_ns: int | None) -> Rows:
        """Return the rows that begin where a bar of that length begins, up to the last that was over at `as_of_ns`."""
        if not len(rows):
            return rows
        late_ns = rows.time_ns - grid_start(rows.time_ns, timeframe_ns)
        shift_ns = self._shift_ns(rows, late_ns, timeframe_ns)
        off = late_ns != shift_ns
        is_running = as_of_ns is not None and 0 <= as_of_ns - int(rows.time_ns[-1]) < timeframe_ns
        is_last_off = bool(off[-1]) and (len(rows) == 1 or not off[:-1].any())
        if is_running or is_last_off:
            last = np.zeros(len(rows), np.bool_)
            last[-1] = True
            off[-1] = False
            ends = moment(int(rows.time_ns[-1]) + timeframe_ns)
            why = f"ends at {ends}, after {moment(as_of_ns)}" if is_running and as_of_ns is not None else "off the grid"
            rows = self._without(rows, Fault.PARTIAL, last, lambda at: f"{moment(rows.time_ns[at])} {why}")
            off = off[: len(rows)]
        if not off.any():
            return rows
        return self._without(rows, Fault.OFF_GRID, off, lambda at: _lateness(rows, late_ns, timeframe_ns, at))

    def _shift_ns(self, rows: Rows, late_ns: Ints, timeframe_ns: int) -> int:
        """Return how far all bars lie off the grid, where that is no other clock's doing; it is written down.

        Clocks differ by quarters of an hour. A file whose bars all begin 20 s late has a grid of its own.
        """
        if not late_ns.any():
            return 0
        lengths, counts = np.unique(late_ns, return_counts=True)
        shift_ns = int(lengths[counts.argmax()])
        if shift_ns % CLOCKS_NS == 0 or 2 * counts.max() <= len(rows) or len(rows) == 1:
            return 0
        at = int(np.flatnonzero(late_ns == shift_ns)[0])
        example = f"line {rows.line[at]}: {_lateness(rows, late_ns, timeframe_ns, at)}"
        self.findings.append(Finding(fault=Fault.SHIFTED, count=int(counts.max()), done="kept", examples=(example,)))
        return shift_ns

    def without_gaps(self, rows: Rows, timeframe_ns: int, gaps: Gaps) -> Rows:
        """Return the rows, with the gaps between them as the user wants them."""
        steps = np.diff(rows.time_ns)
        if not len(steps) or steps.max() <= timeframe_ns:
            return rows
        before = np.flatnonzero(steps > timeframe_ns)
        missing = steps[before] // timeframe_ns - 1
        self.bars_missing = int(missing.sum())
        examples = tuple(
            f"line {rows.line[at + 1]}: {count} bars from {moment(int(rows.time_ns[at]) + timeframe_ns)}"
            for at, count in zip(before[:EXAMPLES_MAX], missing, strict=False)
        )
        done = {"keep": "kept", "refuse": "refused", "fill": "filled"}[gaps]
        self.findings.append(Finding(fault=Fault.GAP, count=len(before), done=done, examples=examples))
        return self._filled(rows, timeframe_ns) if gaps == "fill" else rows

    def _filled(self, rows: Rows, timeframe_ns: int) -> Rows:
        """Return the rows with bars of the close before and no volume in every gap."""
        if len(rows) + self.bars_missing > BARS_MAX:
            raise DataError(f"{self.file}: {len(rows)} bars and {self.bars_missing} to fill are more than {BARS_MAX}")
        copies = np.append(np.diff(rows.time_ns) // timeframe_ns, 1)
        first = np.cumsum(copies) - copies
        made = rows.take(np.repeat(np.arange(len(rows)), copies))
        is_made = np.ones(len(made), np.bool_)
        is_made[first] = False
        nth = np.arange(len(made)) - np.repeat(first, copies)
        made.time_ns = made.time_ns + nth * timeframe_ns
        for column in (made.open, made.high, made.low):
            column[is_made] = made.close[is_made]
        made.volume[is_made] = 0
        return made

    def refuse(self) -> None:
        """Raise DataError if a fault was found that is not repaired; it names them all."""
        refused = [finding for finding in self.findings if finding.done == "refused"]
        if refused:
            raise DataError("\n".join(f"{self.file}: {_sentence(finding)}" for finding in refused))

    def _without(self, rows: Rows, fault: Fault, bad: Mask, say: Callable[[int], str] | None = None) -> Rows:
        """Return the rows without the bad ones, unless another repair keeps them; write down what was done."""
        if not bad.any():
            return rows
        done = self._note(fault, bad, rows, say)
        return rows if done in {"clipped", "rounded"} else rows.take(~bad)

    def _note(self, fault: Fault, bad: Mask, rows: Rows, say: Callable[[int], str] | None, *, done: str = "") -> str:
        """Write the bad rows down, with what `say` knows of each or as they are in the file; return what is done."""
        done = done or next((_DONE[cure] for cure in CURES[fault] if cure in self.repairs), "refused")
        where: list[int] = np.flatnonzero(bad).tolist()
        lines = [(at, int(rows.line[at])) for at in where[:EXAMPLES_MAX]]
        examples = tuple(f"line {line}: {say(at) if say else self.raw_line(line)}" for at, line in lines)
        self.findings.append(Finding(fault=fault, count=len(where), done=done, examples=examples))
        return done


def grid_start(time_ns: Ints, timeframe_ns: int) -> Ints:
    """Return the start of the bar of that length that each time falls in; weeks begin on Mondays, UTC."""
    origin_ns = MONDAY_NS if timeframe_ns % WEEK_NS == 0 else 0
    return time_ns - (time_ns - origin_ns) % timeframe_ns


def moment(time_ns: int | np.int64) -> str:
    """Return a time as `2024-01-31T23:59:59Z`, to the second, or with its fraction where there is one."""
    seconds, nanos = divmod(int(time_ns), UNITS_NS["s"])
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _lateness(rows: Rows, late_ns: Ints, timeframe_ns: int, at: int) -> str:
    """Return where a row lies on the grid."""
    by_ns = int(late_ns[at])
    late = duration_text(by_ns) if by_ns % UNITS_NS["ms"] == 0 else f"{by_ns}ns"
    hint = "; a clock that is not UTC?" if by_ns % CLOCKS_NS == 0 else ""
    return f"{moment(rows.time_ns[at])} lies {late} after a bar of {duration_text(timeframe_ns)} begins{hint}"


def _again(rows: Rows, at: int) -> str:
    """Return what a second row of one time says of the first."""
    is_same = all(column[at] == column[at - 1] for column in rows.candles)
    relation = "the same as" if is_same else "other values than"
    return f"{moment(rows.time_ns[at])} again, {relation} line {rows.line[at - 1]}"


def _sentence(finding: Finding) -> str:
    if finding.fault is Fault.GAP:
        words = f"{finding.count} {'gap' if finding.count == 1 else 'gaps'} {finding.done}"
    else:
        words = f"{finding.count} {'row' if finding.count == 1 else 'rows'} {finding.done}: {finding.fault}"
    help_ = ""
    if finding.done == "refused":
        choices = ("--gaps keep", "--gaps fill") if finding.fault is Fault.GAP else ()
        choices = choices or tuple(f"--repair {cure}" for cure in CURES[finding.fault])
        help_ = f" ({' or '.join(choices)} would go on)"
    return f"{words}{help_}; {'; '.join(finding.examples)}"
