"""The way of a frame: through socket, codec, feed, strategies, gate, ledger and paper exchange; and onto the disk."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trio

from bot.backtest.replay import replay_market
from bot.config import load_settings
from bot.exchange.poloniex.codec import subscribe_text
from bot.exchange.simulated.play import play
from bot.storage.portal import open_portal
from bot.storage.sqlite import open_sqlite_journal
from tests.bench.frames import START_NS, make_frames, market, save
from tests.bench.measure import Figure, spent
from tests.bench.rig import CHANNELS, SYMBOLS, Run, run_bot
from tests.bench.writer import open_writer

MARKET_NS = 10 * 60 * 10**9
COMMITS = 300
FRAMES = 50_000
PIPELINE_RUNS = 5
SUSTAINED_S = 10.0
ROUNDS = 40
"""Of `FRAMES` in the sustained run: enough for `SUSTAINED_S` at 180,000 a second."""
RATE = 5_000
QUEUE_MAX = 5_000
"""Facts waiting at one actor at which a load does not count as sustained: a quarter of what stops the bot."""


@contextmanager
def _frames() -> Generator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "frames"
        save(path, *make_frames(SYMBOLS, CHANNELS, FRAMES))
        yield path


def pipeline() -> Figure:
    """CPU of a frame at full load: lean socket, all actors and their mailboxes, orders; journal in memory."""
    with _frames() as path, open_writer(path, SYMBOLS) as port:
        runs = [run_bot(port, journal=None) for _ in range(PIPELINE_RUNS)]
    assert all(run.decided for run in runs), "no order was decided"
    return _figure("pipeline", statistics.median(1e6 * run.cpu_s / run.frames for run in runs), "us", *runs)


def sustained() -> Figure:
    """Frames a second for 10 s and more: lean socket, all actors and their mailboxes, orders; journal in SQLite."""
    with _frames() as path, open_writer(path, SYMBOLS, rounds=ROUNDS) as port:
        run = run_bot(port, journal=path.with_name("journal.sqlite"), for_s=SUSTAINED_S + 1)
    assert run.decided, "no order was decided"
    assert run.wall_s >= SUSTAINED_S, f"the frames were used up after {run.wall_s:.1f} s"
    assert run.depth_max <= QUEUE_MAX, f"{run.depth_max} facts waited at one actor"
    return _figure("sustained", run.frames / run.wall_s, "1/s", run)


def latency() -> Figure:
    """Median from a frame's receipt to the decision on its order, 5,000 frames a second, all as in `sustained`."""
    with _frames() as path, open_writer(path, SYMBOLS, rate=RATE) as port:
        run = run_bot(port, journal=path.with_name("journal.sqlite"), is_timed=True)
    assert run.frames / run.wall_s > RATE * 0.9, "the frames came too slowly"
    cuts_us = [cut / 1000 for cut in statistics.quantiles(run.decided_ns, n=100)]
    return _figure("latency", cuts_us[49], "us", run, p99=cuts_us[98])


def _figure(name: str, value: float, unit: str, *runs: Run, **details: float) -> Figure:
    cpu_s, wall_s = sum(run.cpu_s for run in runs), sum(run.wall_s for run in runs)
    decided, depth_max = sum(run.decided for run in runs), max(run.depth_max for run in runs)
    details = {"decided": decided, "queue_max": depth_max, **details}
    return Figure(name=name, value=value, unit=unit, cpu_s=cpu_s, wall_s=wall_s, details=details)


def machines() -> Figure:
    """CPU of one frame through all five machines in the plain loop, the making of the frames left out."""
    settings = load_settings([], {}, [])

    def make() -> int:
        frames = play(market(SYMBOLS), [subscribe_text(CHANNELS, SYMBOLS)])
        count = 0
        for _ in frames.frames():
            count += 1
            if frames.venue.time_ns >= START_NS + MARKET_NS:
                break
        return count

    values: list[float] = []
    cpu_total_s = wall_total_s = 0.0
    for _ in range(PIPELINE_RUNS):  # a difference of two larger numbers: one pair alone says little
        _, making_cpu_s, making_wall_s = spent(make)
        run, cpu_s, wall_s = spent(lambda: replay_market(market(SYMBOLS), settings, account="bench", for_ns=MARKET_NS))
        values.append(1e6 * (cpu_s - making_cpu_s) / run.frames)
        cpu_total_s += cpu_s - making_cpu_s
        wall_total_s += wall_s - making_wall_s
    return Figure(name="machines", value=statistics.median(values), unit="us", cpu_s=cpu_total_s, wall_s=wall_total_s)


def commit() -> Figure:
    """Durable commits a second of one record each, SQLite on this disk, `synchronous=FULL`."""

    async def write(path: Path) -> None:
        async with open_portal() as portal, open_sqlite_journal(path / "journal.sqlite", portal) as journal:
            for number in range(COMMITS):
                await journal.append([(number + 1, b'{"bench":true}')])

    with tempfile.TemporaryDirectory() as path:
        _, cpu_s, wall_s = spent(lambda: trio.run(write, Path(path)))
    return Figure(name="commit", value=COMMITS / wall_s, unit="1/s", cpu_s=cpu_s, wall_s=wall_s)
