"""Recordings for tests, in the form of `docs/recordings.md`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Final

from bot.backtest.book.events import ASK, BID, BOUGHT, CLEAR, KIND
from tests.backtest.book.markets import RandomBook, Row

NAME: Final = "spot-btc_usdt-20231114.jsonl.gz"


def write_random(path: Path, *, seed: int = 3, messages: int = 3_000) -> Path:
    """Write a random book: prices around 50.00, some units at each level, a message every 15 ms."""
    lines = [_line(rows, number) for number, rows in enumerate(RandomBook(seed).messages(messages), start=1)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def _line(rows: list[Row], number: int) -> dict[str, object]:
    ts_ns, kind, price, lots = rows[0]
    common = {"t": ts_ns, "ts": ts_ns // 10**6}
    if kind & KIND in (BID, ASK, CLEAR):
        sides = {
            name: [[f"{price / 100:.2f}", str(lots)] for _, kind, price, lots in rows if kind & KIND == side]
            for name, side in (("bids", BID), ("asks", ASK))
        }
        if kind & KIND == CLEAR:
            return {**common, "e": "snapshot", "id": number, **sides}
        return {**common, "e": "depth", "first": number, "last": number, **sides}
    side = "buy" if kind & KIND == BOUGHT else "sell"
    trade = {"id": number, "price": f"{price / 100:.2f}", "quantity": str(lots), "taker_side": side}
    return {**common, "e": "trade", **trade}
