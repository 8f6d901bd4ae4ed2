"""`bot exchange serve` as a process of its own, for clients that are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.support.cli import bot, environment

STOP_S = 10.0


class ServedAccount(msgspec.Struct, frozen=True):
    """An account of the exchange that is served."""

    key: str
    secret: str
    spot: dict[str, float]
    futures: dict[str, float]


class Served(msgspec.Struct, frozen=True):
    """The one line that `--json` prints."""

    rest: str
    ws: str
    accounts: tuple[ServedAccount, ...]


class Process(NamedTuple):
    """A running exchange and what it printed."""

    served: Served
    line: str


@contextmanager
def exchange_process(directory: Path, *arguments: str) -> Generator[Process]:
    """Run `bot exchange serve --port 0 --json` until the block is left; it must then end well and have said nothing."""
    log = directory / "serve.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            bot("exchange", "serve", "--port", "0", "--json", *arguments),
            env=environment(directory) | {"PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            assert line, log.read_text()
            yield Process(msgspec.json.decode(line, type=Served), line)
        finally:
            os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    said = log.read_text()
    assert not said, said
    assert process.returncode == 0
