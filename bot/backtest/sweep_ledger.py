"""The ledger of a sweep: a file of JSON lines that says what came of each point, so that a sweep can go on.

The first line names the inputs by their digest. A line that was cut off by a crash is dropped, and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from bot.backtest.space import Point, Value
from bot.errors import SettingsError
from bot.strategies.advice import Market

Row = tuple[float, ...] | None
"""The metrics of a point, or None for one that the strategy refused."""
_FORMAT: Final = 1


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    digest: str
    names: tuple[str, ...]
    metrics: tuple[str, ...]


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    point: tuple[Value, ...]
    metrics: tuple[float | None, ...] | None
    """null where a metric is not defined."""


class Ledger:
    """An open ledger. `known` holds what was read."""

    def __init__(self, path: Path, header: _Header) -> None:
        self.path = path
        self.known: dict[Point, Row] = {}
        self.is_torn = False
        """Whether a last line was cut off, and dropped."""
        kept = self._read(header) if path.exists() else 0
        self._file: BinaryIO = path.open("r+b" if kept else "wb")
        if kept:
            self._file.truncate(kept)
            self._file.seek(kept)
        else:
            self._write([header])

    def _read(self, header: _Header) -> int:
        """Return how many bytes of the file are good."""
        content = self.path.read_bytes()
        kept = content.rfind(b"\n") + 1
        self.is_torn = kept < len(content)
        lines = content[:kept].splitlines()
        if not lines:
            return 0
        self._check(lines[0], header)
        for number, line in enumerate(lines[1:], start=2):
            try:
                found = msgspec.json.decode(line, type=_Line)
            except msgspec.DecodeError as error:
                raise SettingsError(f"{self.path}:{number}: not a line of a sweep's ledger: {error}") from None
            self.known[found.point] = _row(found.metrics)
        return kept

    def _check(self, line: bytes, header: _Header) -> None:
        try:
            found = msgspec.json.decode(line, type=_Header)
        except msgspec.DecodeError as error:
            raise SettingsError(f"{self.path}:1: not a ledger of a sweep: {error}") from None
        if found.digest != header.digest:
            raise SettingsError(
                f"{self.path}: made of other inputs (digest {found.digest[:12]}, these have {header.digest[:12]}): "
                "code, settings, costs or data have changed; name another file to start anew"
            )
        if found != header:
            raise SettingsError(
                f"{self.path}: holds {', '.join(found.metrics)} over {', '.join(found.names)}; "
                f"asked for are {', '.join(header.metrics)} over {', '.join(header.names)}"
            )

    def append(self, points: Sequence[Point], rows: Sequence[Row]) -> None:
        """Write down what came of `points`, all together."""
        self._write(_Line(point=point, metrics=row) for point, row in zip(points, rows, strict=True))
        self.known.update(zip(points, rows, strict=True))

    def _write(self, records: Iterable[_Header | _Line]) -> None:
        self._file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def open_ledger(path: Path, *, digest: str, names: tuple[str, ...], metrics: tuple[str, ...]) -> Generator[Ledger]:
    """Open the ledger at `path`, or begin one.

    Raises:
        SettingsError: it was made of other inputs, or is no ledger.

    """
    ledger = Ledger(path, _Header(format=_FORMAT, digest=digest, names=names, metrics=metrics))
    try:
        yield ledger
    finally:
        ledger.close()


def inputs_digest(*, code: str, settings: bytes, markets: Sequence[Market], terms: msgspec.Struct) -> str:
    """Return a name for all that a sweep's figures depend on, besides the points: code, settings, costs and data."""
    hashed = hashlib.sha256()
    parts: list[bytes] = [code.encode(), settings, msgspec.json.encode(terms)]
    for market in markets:
        parts += [msgspec.json.encode(market.instrument), str(market.timeframe_ns).encode()]
        parts += [column.tobytes() for column in (*market.candles, market.funding_ns, market.funding_ppb)]
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.hexdigest()


def _row(metrics: tuple[float | None, ...] | None) -> Row:
    if metrics is None:
        return None
    return tuple(float("nan") if value is None else value for value in metrics)
