"""Many seeds, on all cores, and the ledger that says which are done: a campaign can be stopped and go on.

The ledger is a file of JSON lines, one for each seed that was played to its end. A line names the code and the wishes
that it was played with: other code is another campaign, whose seeds are played again. A line that a crash cut off is
dropped.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

import actors
import bot
from actors.simulation.checkers import Violation
from actors.simulation.swarm import Wish
from bot.core.jit import interpret
from bot.errors import SettingsError

_AHEAD: Final = 2
"""Seeds that wait for each process, so that none is idle."""


class SeedResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one seed."""

    seed: int
    simulated_seconds: float
    orders: int
    fills: int
    crashes: int
    faults: dict[str, int]
    """Kind to how often it struck."""
    coverage: dict[str, int] = {}
    """What was seen (`edge NEW>FILLED`, `denied MAX_POSITION`, `code 21312`), and how often."""
    violations: tuple[Violation, ...]
    journal_hash: str
    """Of every incarnation's journal: the same seed gives the same one, in any process."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a campaign; the result of `bot simulate --json`."""

    seeds: int
    simulated_seconds: float
    orders: int
    fills: int
    crashes: int
    faults: dict[str, int]
    coverage: dict[str, int]
    violations: tuple[Violation, ...]
    failed_seeds: tuple[int, ...]


def summarise(results: Iterable[SeedResult]) -> Summary:
    """Return the sums over all results, kinds in the order of their names."""
    seeds = orders = fills = crashes = 0
    seconds = 0.0
    faults: dict[str, int] = {}
    coverage: dict[str, int] = {}
    violations: list[Violation] = []
    failed: list[int] = []
    for result in sorted(results, key=lambda each: each.seed):
        seeds += 1
        seconds += result.simulated_seconds
        orders += result.orders
        fills += result.fills
        crashes += result.crashes
        _add(faults, result.faults)
        _add(coverage, result.coverage)
        violations += result.violations
        failed += [result.seed] if result.violations else []
    return Summary(
        seeds=seeds,
        simulated_seconds=seconds,
        orders=orders,
        fills=fills,
        crashes=crashes,
        faults=dict(sorted(faults.items())),
        coverage=dict(sorted(coverage.items())),
        violations=tuple(violations),
        failed_seeds=tuple(failed),
    )


def _add(sums: dict[str, int], counts: dict[str, int]) -> None:
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count


# --- the ledger


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    wish: str
    result: SeedResult


class CampaignLedger:
    """An open ledger. `known` holds the seeds that this code played with these wishes."""

    def __init__(self, path: Path, *, code: str, wish: str) -> None:
        self.path = path
        self.known: dict[int, SeedResult] = {}
        self.is_torn = False
        """Whether a last line was cut off, and dropped."""
        self._code, self._wish = code, wish
        kept = self._read() if path.exists() else 0
        self._file: BinaryIO = path.open("r+b" if kept else "wb")
        self._file.truncate(kept)
        self._file.seek(kept)

    def _read(self) -> int:
        """Return how many bytes of the file are good."""
        content = self.path.read_bytes()
        kept = content.rfind(b"\n") + 1
        self.is_torn = kept < len(content)
        for number, line in enumerate(content[:kept].splitlines(), start=1):
            try:
                found = msgspec.json.decode(line, type=_Line)
            except msgspec.MsgspecError as error:
                raise SettingsError(f"{self.path}:{number}: not a line of a simulation's ledger: {error}") from None
            if (found.code, found.wish) == (self._code, self._wish):
                self.known[found.result.seed] = found.result
        return kept

    def append(self, result: SeedResult) -> None:
        """Write down what came of a seed."""
        self._file.write(msgspec.json.encode(_Line(code=self._code, wish=self._wish, result=result)) + b"\n")
        self._file.flush()
        self.known[result.seed] = result

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def open_campaign(path: Path, *, code: str, wish: str) -> Generator[CampaignLedger]:
    """Open the ledger at `path`, or begin one.

    Raises:
        SettingsError: it is no ledger of a simulation.

    """
    ledger = CampaignLedger(path, code=code, wish=wish)
    try:
        yield ledger
    finally:
        ledger.close()


def code_digest() -> str:
    """Return a name for the code that plays: every source file of the bot and of its actors."""
    digest = hashlib.sha256()
    for package in (bot, actors):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).parts):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def wish_digest(wish: Wish) -> str:
    """Return a name for what is played, besides the seed."""
    return hashlib.sha256(msgspec.json.encode(wish, order="deterministic")).hexdigest()


# --- many at once

Seed = TypeVar("Seed")
Wanted = TypeVar("Wanted")
Result = TypeVar("Result")


def play_seeds(
    seeds: Sequence[Seed],
    wish: Wanted,
    play: Callable[[Seed, Wanted], Result],
    *,
    jobs: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Yield what came of each seed, as they end; in this process where `jobs` is 1.

    `play` is a function of a module, so that another process finds it. Once `is_cancelled`, seeds that have not begun
    are left out.
    """
    if jobs <= 1 or len(seeds) <= 1:
        for seed in seeds:
            if is_cancelled():
                return
            yield play(seed, wish)
        return
    # Fresh interpreters: a fork would share trio's generator of random numbers, and whatever else was warm here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=interpret) as pool:
        waiting = iter(seeds)
        running: set[Future[Result]] = set()
        while True:
            for seed in waiting:
                running.add(pool.submit(play, seed, wish))
                if len(running) >= jobs * _AHEAD:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
            if is_cancelled():
                for future in running:
                    future.cancel()
                return


def default_jobs() -> int:
    """Return how many seeds are played at a time where nobody says: one a core."""
    return os.cpu_count() or 1
