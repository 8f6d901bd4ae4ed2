"""The way of a frame: through codec, feed, strategies, gate, ledger and paper exchange; and onto the disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from bot.backtest.replay import replay_market
from bot.config import load_settings
from bot.exchange.poloniex.codec import subscribe_text
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.play import play
from bot.storage.portal import open_portal
from bot.storage.sqlite import open_sqlite_journal
from tests.bench.measure import Figure, spent

START_NS = 1_767_225_600 * 10**9
MARKET_NS = 10 * 60 * 10**9
COMMITS = 300


def pipeline() -> Figure:
    """CPU of one frame through all five machines in the plain loop, the making of the frames left out."""
    settings = load_settings([], {}, [])
    symbols = ("BTC_USDT", "ETH_USDT")

    def source() -> GeneratedMarket:
        return GeneratedMarket(symbols, 1, START_NS)

    def make_frames() -> int:
        frames = play(source(), [subscribe_text(["book_lv2", "trades", "ticker"], symbols)])
        count = 0
        for _ in frames.frames():
            count += 1
            if frames.venue.time_ns >= START_NS + MARKET_NS:
                break
        return count

    _, making_cpu_s, making_wall_s = spent(make_frames)
    run, cpu_s, wall_s = spent(lambda: replay_market(source(), settings, account="bench", for_ns=MARKET_NS))
    cpu_s, wall_s = cpu_s - making_cpu_s, wall_s - making_wall_s
    return Figure(name="pipeline", value=1e6 * cpu_s / run.frames, unit="us", cpu_s=cpu_s, wall_s=wall_s)


def commit() -> Figure:
    """Durable commits a second of one record each, SQLite on this disk, `synchronous=FULL`."""

    async def write(path: Path) -> None:
        async with open_portal() as portal, open_sqlite_journal(path / "journal.sqlite", portal) as journal:
            for number in range(COMMITS):
                await journal.append([(number + 1, b'{"bench":true}')])

    with tempfile.TemporaryDirectory() as path:
        _, cpu_s, wall_s = spent(lambda: trio.run(write, Path(path)))
    return Figure(name="commit", value=COMMITS / wall_s, unit="1/s", cpu_s=cpu_s, wall_s=wall_s)
