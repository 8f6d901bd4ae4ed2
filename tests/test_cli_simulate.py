"""`bot simulate`, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.simulation.seeds import play, read_replay
from bot.cli import main
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.errors import EXIT_OK, PromiseBroken, SettingsError

SHORT = ("--hours", "0.05", "--heal", "60", "--executor", "paper")


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Return the exit code, the result and what was said on standard error."""
    code = main(["simulate", *arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_the_result_names_what_was_played(capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = simulate(capsys, "--seed", "6", *SHORT)
    assert code == EXIT_OK
    assert result["seeds"] == 1
    assert result["simulated_seconds"] >= 240
    assert result["orders"] > 0
    assert result["fills"] > 0
    assert result["crashes"] == 0
    assert sum(result["faults"].values()) > 0
    assert result["violations"] == []


def test_the_same_seed_gives_the_same_result(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (simulate(capsys, "--seed", "7", *SHORT)[1] for _ in range(2))
    assert first == second


def test_without_faults_nothing_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    _, result, _ = simulate(capsys, "--seed", "9", "--faults", "none", *SHORT)
    assert (result["crashes"], sum(result["faults"].values())) == (0, 0)


def test_a_strategy_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = simulate(capsys, "--seed", "3", "--strategy", "crossover", *SHORT)
    assert (code, result["seeds"]) == (EXIT_OK, 1)


def test_a_campaign_is_told_in_words_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "1..2", "--jobs", "1", *SHORT]) == EXIT_OK
    assert capsys.readouterr().out.startswith("2 seeds, 0.01 days of virtual time\n")


def test_seeds_that_a_ledger_knows_are_not_played_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = str(tmp_path / "ledger.jsonl")
    _, before, _ = simulate(capsys, "--seeds", "1..2", "--jobs", "1", "--ledger", ledger, *SHORT)

    def nobody(seeds: Sequence[int], *_: object, **__: object) -> list[object]:
        assert list(seeds) == []
        return []

    monkeypatch.setattr("actors.simulation.campaign.play_seeds", nobody)
    _, after, _ = simulate(capsys, "--seeds", "1..2", "--jobs", "1", "--ledger", ledger, *SHORT)
    assert after == before


def test_a_broken_promise_is_said_shrunk_and_can_be_seen_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Bookkeeper.take_pending

    def forgetful(keeper: Bookkeeper) -> list[m.Journalled]:
        return [fact for fact in honest(keeper) if not isinstance(fact, m.Fill)]

    monkeypatch.setattr(Bookkeeper, "take_pending", forgetful)
    out = ("--out", str(tmp_path), "--shrink", "12")
    code, result, err = simulate(capsys, "--seed", "6", *SHORT, *out)
    assert code == PromiseBroken.exit_code
    assert result["failed_seeds"] == [6]
    assert {violation["rule"] for violation in result["violations"]} >= {"P1"}
    path = tmp_path / "violation-6.json"
    assert f"see it again: bot simulate --replay {path}" in err
    assert len(read_replay(path).scenario.items) == 0  # it takes no fault to forget
    code, again, _ = simulate(capsys, "--replay", str(path))
    assert code == PromiseBroken.exit_code
    assert again["violations"][0]["rule"] == "P1"
    monkeypatch.undo()
    assert play(read_replay(path).scenario).violations == ()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--seeds", "5..1"], "--seeds 5..1: must read A..B"),
        (["--seeds", "1"], "--seeds 1: must read A..B"),
        (["--seed", "1", "--seeds", "1..2"], "--seed and --seeds: give one of them"),
        (["--days", "1", "--hours", "1"], "--days and --hours: give one of them"),
        (["--days", "0"], "--days, --hours: 0 seconds must be more than 0"),
        (["--days", "1000"], "must be more than 0 and at most"),
        (["--faults", "net,weather"], "--faults net,weather: 'weather' is none of net, exchange, clock, disk, crash"),
        (["--heal", "0"], "--heal 0: must be more than 0"),
        (["--update", "0"], "--update 0: must be 0.1 to 60 seconds"),
        (["--strategy", "crosover"], "--strategy crosover: is none of"),
        (["--set", "risk.collar_pct=200"], "risk.collar_pct"),
        (["--replay", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(["simulate", *arguments]) == SettingsError.exit_code
    assert problem in capsys.readouterr().err


def test_a_file_that_is_no_replay_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"scenario": 1}')
    assert main(["simulate", "--replay", str(path)]) == SettingsError.exit_code
    assert "is no file of `bot simulate`" in capsys.readouterr().err
