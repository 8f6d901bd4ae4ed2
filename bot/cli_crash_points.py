"""`bot simulate --crash-points`: one short session, killed at every await of the order path, and begun again."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot.errors import EXIT_OK, PromiseBroken, SettingsError

if TYPE_CHECKING:
    from actors.simulation.crash_points import Point, PointResult

EXIT_INTERRUPTED: Final = 130
ALL: Final = "all"
SHOWN: Final = 20
"""Points whose breaks are printed."""


def play_crash_points(arguments: argparse.Namespace, state_dir: Path) -> int:
    """Kill the session at each point that was asked for; return the exit code."""
    from actors.simulation.campaign import default_jobs, play_seeds
    from actors.simulation.crash_points import SESSION, kill_at, points_of
    from bot.cli_progress import interruptible, open_progress

    points = _chosen(arguments.crash_points, points_of(SESSION))
    results: list[PointResult] = []
    with interruptible() as is_interrupted, open_progress("crash points", state_dir, is_quiet=False) as progress:
        jobs = arguments.jobs or default_jobs()
        for result in play_seeds(points, SESSION, kill_at, jobs=jobs, is_cancelled=is_interrupted):
            results.append(result)
            progress.update(len(results), len(points), f"{sum(bool(each.violations) for each in results)} broken")
        was_cut = is_interrupted()
    is_broken = _print(results, is_json=arguments.json)
    if is_broken:
        return PromiseBroken.exit_code
    return EXIT_INTERRUPTED if was_cut else EXIT_OK


def _chosen(text: str, points: list[Point]) -> list[Point]:
    """Return the points of `all`, `A` or `A..B`."""
    if text == ALL:
        return points
    found = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= len(points):
        raise SettingsError(f"--crash-points {text}: must read A..B, out of 1..{len(points)}")
    return points[first - 1 : last]


def _print(results: list[PointResult], *, is_json: bool) -> bool:
    """Say what came of it; return whether a promise was broken."""
    import msgspec

    from actors.simulation.crash_points import summarise

    summary = summarise(results)
    for result in sorted(results, key=lambda each: each.number):
        if result.number in summary.failed_points[:SHOWN]:
            for each in result.violations:
                sys.stderr.write(
                    f"point {result.number} ({result.task}, {result.at_s:.3f} s), {each.at_s:.1f} s: "
                    f"{each.rule}: {each.text}\n"
                )
            sys.stderr.write(f"see it again: bot simulate --crash-points {result.number}\n")
    if is_json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        tasks = ", ".join(f"{task} {count:,}" for task, count in summary.tasks.items())
        sys.stdout.write(
            f"{summary.points:,} crash points ({tasks})\n"
            f"{summary.kills:,} kills, {summary.orders:,} orders\n"
            f"{summary.survived:,} of {summary.points:,} survived\n"
        )
    return bool(summary.failed_points)
