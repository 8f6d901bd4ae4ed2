"""Files of candles, as a user has them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from bot.core.durations import UNITS_NS
from bot.strategies.advice import Market
from tests.support.cli import REPOSITORY

CANDLES = REPOSITORY.parent / "shared" / "candles"
HEADER = "time,open,high,low,close,volume"
START_MS = 1_700_000_100_000
"""2023-11-14T22:15:00Z."""
MINUTE_MS = UNITS_NS["m"] // 1_000_000


def row(minute: int, values: str = "10,12,9,11,5") -> str:
    """Return one line, `minute` minutes after the first."""
    return f"{START_MS + minute * MINUTE_MS},{values}"


def write(path: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    """Write a file of these lines; compressed where its name says so."""
    content = "\n".join([header, *rows, ""]).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_market(path: Path, market: Market) -> Path:
    """Write the candles of a market, times in milliseconds."""
    instrument = market.instrument
    lines = [
        f"{start_ns // 1_000_000},{instrument.price(open_)},{instrument.price(high)},{instrument.price(low)},"
        f"{instrument.price(close)},{instrument.quantity(volume):f}"
        for start_ns, open_, high, low, close, volume in zip(
            *(column.tolist() for column in market.candles), strict=True
        )
    ]
    return write(path, lines)
