"""`bot simulate`: the whole bot and the whole exchange in one process, in virtual time, with all that can go wrong.

A seed names a world. The result goes to standard output; the seeds that broke a promise, and how to see it again, to
standard error.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot.errors import EXIT_OK, PromiseBroken, SettingsError

if TYPE_CHECKING:
    from actors.simulation.campaign import CampaignLedger, SeedResult, Summary
    from actors.simulation.scenario import Family
    from actors.simulation.swarm import Wish
    from bot.cli_progress import ProgressLine

EXIT_INTERRUPTED: Final = 130
HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0
HEAL_S: Final = 900.0
SECONDS_MAX: Final = 366 * DAY_S
SEEDS_MAX: Final = 1_000_000
FAMILIES: Final = ("net", "exchange", "clock", "disk", "crash")
UPDATE_S_MIN: Final = 0.1
UPDATE_S_MAX: Final = 60.0
SHOWN: Final = 20
"""Breaks that are printed, of all seeds."""


def add_simulate(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = add(
        commands, "simulate", "Run the bot against a simulated exchange with faults, in virtual time.", _simulate
    )
    parser.add_argument("--seed", type=int, metavar="N", help="names the world: the same seed, the same run (1)")
    parser.add_argument("--seeds", metavar="A..B", help="play each of these instead")
    parser.add_argument("--days", type=float, metavar="N", help="of virtual time, for each seed")
    parser.add_argument("--hours", type=float, metavar="N", help="the same (1)")
    parser.add_argument(
        "--heal", type=float, default=HEAL_S, metavar="SECONDS", help=f"without faults, at the end ({HEAL_S:g})"
    )
    parser.add_argument(
        "--faults", default=",".join(FAMILIES), metavar="LIST", help=f"out of {','.join(FAMILIES)}; or none (all)"
    )
    parser.add_argument(
        "--update", type=float, metavar="SECONDS", help="mean time between two moments of a market (drawn: 0.5, 1 or 2)"
    )
    parser.add_argument("--strategy", default="", metavar="NAME|FILE", help="what trades (a swarm that trades often)")
    parser.add_argument(
        "--tier", choices=("message", "wire"), default="message", help="messages, or bytes on wires (message)"
    )
    parser.add_argument("--executor", choices=("live", "paper"), default="live", help="what sends orders (live)")
    parser.add_argument("--jobs", type=int, metavar="N", help="seeds at a time (one a core)")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="keep what is done in this file, and go on from it")
    parser.add_argument(
        "--crash-points",
        nargs="?",
        const="all",
        metavar="A..B",
        help="kill one short session at every await of the order path instead",
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play what an earlier run wrote when it broke")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where violation-SEED.json goes (.)")
    parser.add_argument("--shrink", type=int, default=60, metavar="N", help="runs spent on making a break smaller (60)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the bot that is simulated"
    )
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="of a running bot that shows how far this is")


def _simulate(arguments: argparse.Namespace) -> int:
    if arguments.crash_points is not None:
        from bot.cli_crash_points import play_crash_points

        return play_crash_points(arguments, _state_dir(arguments))
    if arguments.replay is not None:
        return _play_again(arguments)
    from actors.simulation.campaign import code_digest, open_campaign, wish_digest

    wish, seeds = _wish(arguments), _seeds(arguments)
    if arguments.ledger is None:
        return _campaign(arguments, wish, seeds, None)
    with open_campaign(arguments.ledger, code=code_digest(), wish=wish_digest(wish)) as ledger:
        return _campaign(arguments, wish, seeds, ledger)


# --- what was asked


def _wish(arguments: argparse.Namespace) -> Wish:
    from actors.simulation.swarm import Wish

    if arguments.days is not None and arguments.hours is not None:
        raise SettingsError("--days and --hours: give one of them")
    seconds = arguments.days * DAY_S if arguments.days is not None else (arguments.hours or 1.0) * HOUR_S
    if not 0 < seconds <= SECONDS_MAX:
        raise SettingsError(f"--days, --hours: {seconds:g} seconds must be more than 0 and at most {SECONDS_MAX:g}")
    if not 0 < arguments.heal <= DAY_S:
        raise SettingsError(f"--heal {arguments.heal:g}: must be more than 0 and at most {DAY_S:g}")
    if arguments.update is not None and not UPDATE_S_MIN <= arguments.update <= UPDATE_S_MAX:
        raise SettingsError(f"--update {arguments.update:g}: must be {UPDATE_S_MIN:g} to {UPDATE_S_MAX:g} seconds")
    return Wish(
        seconds=seconds,
        heal_s=arguments.heal,
        tier=arguments.tier,
        executor=arguments.executor,
        families=_families(arguments.faults),
        strategy=arguments.strategy,
        sets=tuple(arguments.set),
        update_s=arguments.update,
    )


def _families(text: str) -> tuple[Family, ...]:
    names = [] if text == "none" else text.split(",")
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise SettingsError(f"--faults {text}: {unknown[0]!r} is none of {', '.join(FAMILIES)}, none")
    return tuple(family for family in FAMILIES if family in names)


def _seeds(arguments: argparse.Namespace) -> list[int]:
    if arguments.seeds is None:
        return [arguments.seed if arguments.seed is not None else 1]
    if arguments.seed is not None:
        raise SettingsError("--seed and --seeds: give one of them")
    found = re.fullmatch(r"(\d{1,12})\.\.(\d{1,12})", arguments.seeds)
    first, last = (int(found[1]), int(found[2])) if found else (1, 0)
    if not 0 <= last - first < SEEDS_MAX:
        raise SettingsError(f"--seeds {arguments.seeds}: must read A..B, at most {SEEDS_MAX} of them")
    return list(range(first, last + 1))


# --- the campaign


def _campaign(arguments: argparse.Namespace, wish: Wish, seeds: list[int], ledger: CampaignLedger | None) -> int:
    from actors.simulation.campaign import default_jobs, play_seeds, summarise
    from actors.simulation.seeds import play_seed
    from bot.cli_progress import interruptible, open_progress

    known = {} if ledger is None else ledger.known
    results = [known[seed] for seed in seeds if seed in known]
    left = [seed for seed in seeds if seed not in known]
    with (
        interruptible() as is_interrupted,
        open_progress("simulate", _state_dir(arguments), is_quiet=False) as progress,
    ):
        jobs = arguments.jobs or default_jobs()
        for result in play_seeds(left, wish, play_seed, jobs=jobs, is_cancelled=is_interrupted):
            results.append(result)
            if ledger is not None:
                ledger.append(result)
            _update(progress, results, len(seeds))
        was_cut = is_interrupted()
    _write_breaks(arguments, wish, results)
    _print(arguments, summarise(results))
    if any(result.violations for result in results):
        return PromiseBroken.exit_code
    return EXIT_INTERRUPTED if was_cut else EXIT_OK


def _state_dir(arguments: argparse.Namespace) -> Path:
    """Return where a daemon may run that shows our progress."""
    import os

    from bot.config import load_settings

    given: Path | None = arguments.state_dir
    return load_settings([], os.environ, []).bot.state_path if given is None else given


def _update(progress: ProgressLine, results: list[SeedResult], total: int) -> None:
    days = sum(result.simulated_seconds for result in results) / DAY_S
    broken = sum(bool(result.violations) for result in results)
    progress.update(len(results), total, f"{days:,.1f} days, {broken} broken")


def _write_breaks(arguments: argparse.Namespace, wish: Wish, results: list[SeedResult]) -> None:
    """Say which seeds broke what; write a file for each, the first of them shrunk."""
    from actors.simulation.seeds import play, shrunk, write_replay
    from actors.simulation.swarm import draw_scenario

    broken = [result for result in sorted(results, key=lambda each: each.seed) if result.violations]
    for number, result in enumerate(broken):
        scenario, violations = draw_scenario(result.seed, wish), result.violations
        for violation in violations[:SHOWN]:
            _say(f"seed {result.seed}, {violation.at_s:.1f} s: {violation.rule}: {violation.text}")
        if number == 0 and arguments.shrink > 0:
            found = shrunk(scenario, violations[0].rule, tries_max=arguments.shrink)
            scenario, violations = found.scenario, play(found.scenario).violations
            _say(f"shrunk in {found.tries} runs: {len(scenario.items)} faults, {scenario.seconds:g} s")
        path = arguments.out / f"violation-{result.seed}.json"
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_replay(path, scenario, violations)
        _say(f"see it again: bot simulate --replay {path}")


def _play_again(arguments: argparse.Namespace) -> int:
    from actors.simulation.campaign import summarise
    from actors.simulation.seeds import play, read_replay

    result = play(read_replay(arguments.replay).scenario)
    for violation in result.violations[:SHOWN]:
        _say(f"seed {result.seed}, {violation.at_s:.1f} s: {violation.rule}: {violation.text}")
    _print(arguments, summarise([result]))
    return PromiseBroken.exit_code if result.violations else EXIT_OK


# --- what is said


def _print(arguments: argparse.Namespace, summary: Summary) -> None:
    if arguments.json:
        import msgspec

        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
        return
    lines = [
        f"{summary.seeds} seeds, {summary.simulated_seconds / DAY_S:,.2f} days of virtual time",
        f"{summary.orders:,} orders, {summary.fills:,} fills, {summary.crashes:,} crashes",
        "faults: " + (", ".join(f"{kind} {count:,}" for kind, count in summary.faults.items()) or "none"),
        f"{len(summary.violations)} violations"
        + (f", in the seeds {', '.join(map(str, summary.failed_seeds[:SHOWN]))}" if summary.failed_seeds else ""),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
