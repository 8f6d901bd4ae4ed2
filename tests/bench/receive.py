"""What it costs to receive a frame of the book and decode it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tests.bench.frames import make_frames, save, time_ms
from tests.bench.measure import Figure
from tests.bench.receiver import SYMBOL, Received
from tests.bench.writer import open_writer
from tests.support.cli import REPOSITORY

FRAMES = 20_000
RUNS = 3
OWN = ("lean", "trio-websocket")


def receive(*, peers: bool = False) -> Figure:
    """CPU of one book frame, from a loopback socket to a typed record, by the lean socket (ccxt keeps a book too)."""
    kinds = (*OWN, "ccxt") if peers and find_spec("ccxt") else OWN
    costs_us: dict[str, list[float]] = {kind: [] for kind in kinds}
    books: list[tuple[object, object]] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "frames"
        made = make_frames([SYMBOL], ["book_lv2"], FRAMES)
        save(path, made.answers, made.news)
        with open_writer(path, [SYMBOL]) as port:
            for _ in range(RUNS):
                for kind in kinds:  # by turns: what slows the machine down slows each of them
                    received = _run(kind, port, time_ms(made.news[-1]))
                    costs_us[kind].append(1e6 * received.cpu_s / received.frames)
                    books.append((received.bids, received.asks))
    assert all(book == books[0] for book in books), "the receivers came to different books"
    medians = {kind: statistics.median(costs) for kind, costs in costs_us.items()}
    return Figure(
        name="receive",
        value=medians.pop("lean"),
        unit="us",
        cpu_s=sum(map(sum, costs_us.values())) * FRAMES / 1e6,
        wall_s=time.perf_counter() - began,
        peers=medians,
    )


def _run(kind: str, port: int, last_ms: int) -> Received:
    command = [sys.executable, "-m", "tests.bench.receiver", kind, str(port), str(FRAMES), str(last_ms)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{kind} ended with {done.returncode}: {done.stderr.decode()}")
    return msgspec.json.decode(done.stdout, type=Received)
