"""Small markets, events and recordings for the tests of the simulated exchange."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bot.core.instrument import ATOMS, Instrument
from bot.exchange.simulated.events import BookChange, BookSnapshot, Level, MarketEvent, MarketTrade, TakerSide
from bot.exchange.simulated.recording import Recording, open_recording
from bot.exchange.simulated.venue import Topic, Venue

Json = dict[str, Any]
BTC = "BTC_USDT"
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
RECORDINGS = Path(__file__).parents[4] / "shared" / "recordings"


def instrument(symbol: str = BTC) -> Instrument:
    base, quote = symbol.split("_")[:2]
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        price_scale=2,
        quantity_scale=4,
        qty_lots_min=1,
        notional_atoms_min=ATOMS,
    )


def snapshot(
    *, at_s: float = 0.0, bids: Iterable[Level] = ((100, 1),), asks: Iterable[Level] = ((102, 1),), symbol: str = BTC
) -> BookSnapshot:
    return BookSnapshot(START_NS + int(at_s * SECOND_NS), symbol, tuple(bids), tuple(asks))


def change(
    *, at_s: float = 0.0, bids: Iterable[Level] = (), asks: Iterable[Level] = (), symbol: str = BTC
) -> BookChange:
    return BookChange(START_NS + int(at_s * SECOND_NS), symbol, tuple(bids), tuple(asks))


def trade(
    price_ticks: int = 101,
    *,
    at_s: float = 0.0,
    qty_lots: int = 10_000,
    taker_side: TakerSide = "buy",
    trade_id: str = "7",
    symbol: str = BTC,
) -> MarketTrade:
    return MarketTrade(START_NS + int(at_s * SECOND_NS), symbol, trade_id, price_ticks, qty_lots, taker_side)


def venue(*symbols: str, book: bool = True) -> Venue:
    listed = symbols or (BTC,)
    made = Venue([instrument(symbol) for symbol in listed], START_NS)
    if book:
        for symbol in listed:
            made.apply(snapshot(symbol=symbol), ())
    return made


def published(made: Venue, events: Iterable[MarketEvent], *topics: Topic) -> list[Json]:
    return [parsed(frame.payload) for event in events for frame in made.apply(event, topics)]


def parsed(frame: bytes | str) -> Any:
    return msgspec.json.decode(frame)


def row(frame: Json) -> Json:
    """Return the only row of a frame's data."""
    (only,) = cast("list[Json]", frame["data"])
    return only


class ListedMarket:
    """A market source out of a list."""

    def __init__(self, events: Sequence[MarketEvent], *symbols: str) -> None:
        self.instruments = tuple(instrument(symbol) for symbol in symbols or (BTC,))
        self.description = "a list"
        self.event_count: int | None = len(events)
        self.first_ns = events[0].ts_ns
        self._events = events

    def events(self) -> Iterator[MarketEvent]:
        return iter(self._events)


SNAPSHOT_LINE: Json = {
    "t": START_NS,
    "e": "snapshot",
    "ts": 1,
    "id": 100,
    "bids": [["99.5", "1.25"]],
    "asks": [["100.500", "2"]],
}


def depth_line(first: int, last: int, *, t: int = START_NS, bids: Any = (("99.5", "0"),), asks: Any = ()) -> Json:
    return {"t": t, "e": "depth", "ts": 1, "first": first, "last": last, "bids": bids, "asks": asks}


def trade_line(*, t: int = START_NS, price: Any = "100", quantity: Any = "0.5", taker_side: str = "buy") -> Json:
    return {"t": t, "e": "trade", "ts": 1, "id": 5, "price": price, "quantity": quantity, "taker_side": taker_side}


def write_recording(path: Path, lines: Iterable[Json | bytes]) -> Path:
    content = b"".join(line if isinstance(line, bytes) else msgspec.json.encode(line) + b"\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def real_recording(name: str = "spot-btc_usdt-20240808.jsonl.gz") -> Recording:
    path = RECORDINGS / name
    if not path.is_file():
        pytest.skip(f"skipped: no recorded market at {path}")
    return open_recording(path)
