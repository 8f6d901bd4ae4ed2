"""How long a person waits: help, status of a running bot, and a new bot until it answers."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import Figure, command
from tests.support.cli import Bench, bot

RUN = ("run", "--headless", "--exchange", "simulated")


@contextmanager
def _bench() -> Generator[Bench]:
    with tempfile.TemporaryDirectory() as path:
        yield Bench(Path(path))


def help_() -> Figure:
    """`bot --help`."""
    with _bench() as bench:
        return command("help", bot("--help"), env=bench.env)


def status() -> Figure:
    """`bot status` of a bot that trades on two generated markets."""
    with _bench() as bench, bench.start(*RUN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        bench.wait_ready(daemon)
        try:
            return command("status", bot("status", "--state-dir", bench.state_dir), env=bench.env)
        finally:
            daemon.terminate()


def ready() -> Figure:
    """`bot run --headless` from nothing until its control socket listens."""
    walls: list[float] = []
    for _ in range(6):
        with _bench() as bench:
            began = time.perf_counter()
            with bench.start(*RUN, stdout=subprocess.DEVNULL) as daemon:
                assert daemon.stderr is not None
                daemon.stderr.readline()  # the daemon says on which exchange it trades once it is ready
                walls.append(time.perf_counter() - began)
                daemon.terminate()
                daemon.communicate()
    walls = sorted(walls[1:])
    return Figure(name="ready", value=1000 * walls[len(walls) // 2], unit="ms", cpu_s=0.0, wall_s=sum(walls))
