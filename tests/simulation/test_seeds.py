"""Worlds of many seeds: whatever goes wrong, no promise is broken; and a seed is the same world everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from actors.simulation.campaign import SeedResult, play_seeds, summarise
from actors.simulation.scenario import Executor, Tier
from actors.simulation.seeds import play, play_seed, read_replay, write_replay
from actors.simulation.swarm import Wish, draw_scenario

REPOSITORY = Path(__file__).parents[2]
ANY_SEED = 1_000
"""Seeds of these tests begin here; a campaign has its own."""
BATCH = 8


def wish(executor: Executor, tier: Tier = "message", seconds: float = 600.0) -> Wish:
    return Wish(seconds=seconds, heal_s=240.0, tier=tier, executor=executor)


def broken(results: list[SeedResult]) -> list[str]:
    """Return what was broken, in words."""
    return [
        f"seed {each.seed}, {each.at_s:.1f} s: {each.rule}: {each.text}"
        for result in results
        for each in result.violations
    ]


@pytest.mark.parametrize("first", range(ANY_SEED, ANY_SEED + 48, BATCH))
def test_no_seed_breaks_a_promise(first: int) -> None:
    results = [play_seed(seed, wish("live")) for seed in range(first, first + BATCH)]
    assert broken(results) == []
    assert sum(result.orders for result in results) > 100
    assert sum(result.fills for result in results) > 50


def test_no_seed_breaks_a_promise_on_paper() -> None:
    results = [play_seed(seed, wish("paper")) for seed in range(ANY_SEED, ANY_SEED + BATCH)]
    assert broken(results) == []
    assert sum(result.fills for result in results) > 50


def test_no_seed_breaks_a_promise_on_wires() -> None:
    results = [play_seed(seed, wish("live", "wire", 200.0)) for seed in range(ANY_SEED, ANY_SEED + 3)]
    assert broken(results) == []
    assert sum(result.orders for result in results) > 10


PROGRAM = """
import json, sys
from bot.core.jit import interpret
interpret()
from actors.simulation.campaign import SeedResult
from actors.simulation.seeds import play_seed
from actors.simulation.swarm import Wish
import msgspec
wish = msgspec.json.decode(sys.argv[1], type=Wish)
results = [play_seed(int(seed), wish) for seed in sys.argv[2:]]
print(json.dumps([[result.journal_hash, result.orders, result.fills] for result in results]))
"""


def played_elsewhere(seeds: list[int], asked: Wish, hash_seed: str) -> list[list[object]]:
    """Return what a fresh process says of seeds."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, msgspec.json.encode(asked).decode(), *map(str, seeds)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("tier", ["message", "wire"])
def test_P4_the_same_seed_gives_the_same_journal_in_fresh_processes_whatever_their_hashes(tier: Tier) -> None:
    seeds, asked = [ANY_SEED + 3, ANY_SEED + 5], wish("live", tier, 150.0)
    here = [play_seed(seed, asked) for seed in seeds]
    said = [[each.journal_hash, each.orders, each.fills] for each in here]
    assert len({each.journal_hash for each in here}) == len(seeds)
    assert played_elsewhere(seeds, asked, "0") == played_elsewhere(seeds, asked, "4242") == said


def test_a_seed_is_played_alike_alone_and_among_others() -> None:
    asked = wish("live", seconds=120.0)
    alone = play_seed(ANY_SEED + 7, asked)
    among = list(play_seeds(range(ANY_SEED + 6, ANY_SEED + 9), asked, play_seed, jobs=1))
    assert among[1] == alone
    assert summarise(among).seeds == 3


def test_a_file_plays_the_same_world_again(tmp_path: Path) -> None:
    scenario = draw_scenario(ANY_SEED + 9, wish("live", seconds=120.0))
    path = tmp_path / "violation-1.json"
    write_replay(path, scenario, ())
    assert read_replay(path).scenario == scenario
    assert play(read_replay(path).scenario).journal_hash == play(scenario).journal_hash
