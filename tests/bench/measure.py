"""What a benchmark returns, and how processes are timed."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[2]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number. Higher is better, unless the unit is a time."""

    name: str
    value: float
    unit: str
    cpu_s: float
    """CPU spent on the measured part, all runs together."""
    wall_s: float
    peers: dict[str, float] = {}
    """The same of others, measured by turns in the same command."""
    details: dict[str, float] = {}


def spent(work: Callable[[], T]) -> tuple[T, float, float]:
    """Return what `work` returns, and the CPU and wall seconds that it took in this process."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return result, time.process_time() - cpu_s, time.perf_counter() - wall_s


def command(
    name: str, arguments: Sequence[str], *, env: Mapping[str, str], runs: int = 11, exit_code: int = 0
) -> Figure:
    """Return the median wall time of a command as a whole process, in milliseconds, after one run to warm up."""
    walls: list[float] = []
    before = os.times()
    for number in range(runs + 1):
        began = time.perf_counter()
        done = subprocess.run(arguments, capture_output=True, env=env)
        if done.returncode != exit_code:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr.decode()}")
        if number:
            walls.append(time.perf_counter() - began)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Figure(name=name, value=1000 * statistics.median(walls), unit="ms", cpu_s=cpu_s, wall_s=sum(walls))
