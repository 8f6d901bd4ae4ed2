"""One seed from its drawing to its result, and the file that plays a break again."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path

import msgspec

from actors.front_door import leaf_error
from actors.simulation.campaign import SeedResult
from actors.simulation.checkers import Violation
from actors.simulation.inspector import Inspector
from actors.simulation.operator import Operator
from actors.simulation.scenario import Scenario
from actors.simulation.shrink import TRIES_MAX, Shrunk, shrink
from actors.simulation.swarm import Wish, draw_scenario
from actors.simulation.world import simulate
from bot.errors import SettingsError


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A file that plays a break again."""

    scenario: Scenario
    violations: tuple[Violation, ...]
    """What was broken, for the reader."""


def play_seed(seed: int, wish: Wish) -> SeedResult:
    """Return what came of the world of a seed."""
    return play(draw_scenario(seed, wish))


def play(scenario: Scenario) -> SeedResult:
    """Return what came of a scenario; the same one gives the same result, in any process.

    Raises:
        SettingsError: its settings are wrong.

    """
    inspector = Inspector(scenario)
    try:
        report = simulate(scenario.world(), [inspector, Operator(scenario.commands, scenario.rearm_s)])
    except BaseExceptionGroup as group:
        return _dead(scenario, inspector, group)
    finally:
        gc.collect()  # a world is one large cycle, and collecting is off while it is played
    return SeedResult(
        seed=scenario.seed,
        simulated_seconds=report.simulated_seconds,
        orders=report.orders,
        fills=report.fills,
        crashes=report.crashes,
        faults=report.faults,
        coverage={**inspector.coverage, **{f"exit {name}": count for name, count in report.exits.items()}},
        violations=tuple(inspector.violations),
        journal_hash=report.journal_hash,
    )


def _dead(scenario: Scenario, inspector: Inspector, group: BaseExceptionGroup) -> SeedResult:
    """Return the result of a run that an exception has ended which no bot may raise. Raises what is no exception."""
    error = leaf_error(group)
    if not isinstance(error, Exception):
        raise error
    inspector.died(f"{type(error).__name__}: {error} ({_place(error)})")
    return SeedResult(
        seed=scenario.seed,
        simulated_seconds=inspector.seen_s,
        orders=inspector.orders,
        fills=inspector.fills,
        crashes=0,
        faults={},
        coverage=inspector.coverage,
        violations=tuple(inspector.violations),
        journal_hash="",
    )


def _place(error: BaseException) -> str:
    """Return the file and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"


def shrunk(scenario: Scenario, rule: str, *, tries_max: int = TRIES_MAX) -> Shrunk:
    """Return the smallest scenario found that still breaks `rule`."""

    def breaks(smaller: Scenario) -> float | None:
        return next((each.at_s for each in play(smaller).violations if each.rule == rule), None)

    return shrink(scenario, breaks, tries_max=tries_max)


def write_replay(path: Path, scenario: Scenario, violations: tuple[Violation, ...]) -> None:
    """Write a file for `bot simulate --replay`."""
    content = msgspec.json.encode(Replay(scenario=scenario, violations=violations))
    path.write_bytes(msgspec.json.format(content, indent=2) + b"\n")


def read_replay(path: Path) -> Replay:
    """Return what `write_replay` wrote.

    Raises:
        SettingsError: it cannot be read, or is none.

    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Replay)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{path}: is no file of `bot simulate`: {error}") from None
