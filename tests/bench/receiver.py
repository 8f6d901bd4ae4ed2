"""A process that receives a book over a WebSocket and says what that cost.

`python -m tests.bench.receiver KIND PORT FRAMES LAST_MS`: KIND is `lean`, `trio-websocket` or `ccxt`, FRAMES how many
frames of the book will come, LAST_MS the exchange's time in the last. It prints one JSON object, a `Received`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from decimal import Decimal
from typing import Any

import msgspec
import trio

from bot.core.instrument import ATOM_SCALE, scaled
from bot.exchange.lean_websocket import open_lean_websocket
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import decode_frame, subscribe_text
from bot.exchange.transport import open_websocket

SYMBOL = "BTC_USDT"
LEVELS = 20
OPENERS = {"lean": open_lean_websocket, "trio-websocket": open_websocket}
Side = list[tuple[int, int]]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """CPU seconds from the opening book to the last update, how many updates, and the book that came of them.

    Prices and quantities are in atoms, the best level first.
    """

    cpu_s: float
    frames: int
    bids: Side
    asks: Side


async def receive(kind: str, port: int, count: int) -> Received:
    """Receive and decode; the book is made afterwards, since a book is not what is measured."""
    async with OPENERS[kind](f"ws://127.0.0.1:{port}/ws/public", connect_timeout_s=5) as socket:
        await socket.send(subscribe_text(["book_lv2"], [SYMBOL]))
        raws: list[bytes] = []
        while not raws:
            raws = [raw for raw in await socket.receive_many() if isinstance(decode_frame(raw), wire.BookFrame)]
        early = len(raws)
        gc.collect()
        began_s = time.process_time()
        while len(raws) < count:
            for raw in await socket.receive_many():
                decode_frame(raw)
                raws.append(raw)
        cpu_s = time.process_time() - began_s
    bids, asks = _book(raws)
    return Received(cpu_s=cpu_s, frames=count - early, bids=bids, asks=asks)


def _book(raws: list[bytes]) -> tuple[Side, Side]:
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for raw in raws:
        frame = decode_frame(raw)
        assert isinstance(frame, wire.BookFrame)
        for row in frame.data:
            for side, levels in ((bids, row.bids), (asks, row.asks)):
                side.update((scaled(price, ATOM_SCALE), scaled(quantity, ATOM_SCALE)) for price, quantity in levels)
    return _best(bids, is_bid=True), _best(asks, is_bid=False)


def _best(side: dict[int, int], *, is_bid: bool) -> Side:
    return sorted(((price, lots) for price, lots in side.items() if lots), reverse=is_bid)[:LEVELS]


async def watch_with_ccxt(port: int, count: int, last_ms: int) -> Received:
    """Let ccxt.pro keep the book; it cannot do less."""
    import ccxt.pro

    url = f"127.0.0.1:{port}"
    exchange: Any = ccxt.pro.poloniex()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    exchange.urls["api"] = {
        "spot": f"http://{url}",
        "swap": f"http://{url}",
        "ws": {"public": f"ws://{url}/ws/public", "private": f"ws://{url}/ws/private"},
    }
    try:
        await exchange.load_markets()
        name = SYMBOL.replace("_", "/")
        await exchange.watch_order_book(name)
        gc.collect()
        began_s = time.process_time()
        while (book := exchange.orderbooks[name])["timestamp"] < last_ms:
            await exchange.watch_order_book(name)
        cpu_s = time.process_time() - began_s
        bids, asks = ([(_atoms(price), _atoms(qty)) for price, qty in book[side][:LEVELS]] for side in ("bids", "asks"))
    finally:
        await exchange.close()
    return Received(cpu_s=cpu_s, frames=count, bids=bids, asks=asks)


def _atoms(number: float) -> int:
    return scaled(f"{Decimal(repr(number)):f}", ATOM_SCALE)


def main() -> None:
    kind, (port, count, last_ms) = sys.argv[1], map(int, sys.argv[2:])
    if kind == "ccxt":
        received = asyncio.run(watch_with_ccxt(port, count, last_ms))
    else:
        received = trio.run(receive, kind, port, count)
    sys.stdout.write(msgspec.json.encode(received).decode() + "\n")


if __name__ == "__main__":
    main()
