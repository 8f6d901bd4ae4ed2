"""The README: its commands run in a fresh copy, its tables say what the code says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import bot.errors
from tests.support.cli import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
FIRST, TESTS, *OTHERS = BLOCKS
IS_INSIDE = "README_UNDER_TEST" in os.environ
IS_CHECKOUT = (REPOSITORY / ".git").exists() and shutil.which("git") is not None
TRADES_WITHIN_S = 180


def test_the_exit_codes_are_those_of_the_code() -> None:
    documented = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| (\w+) \|", README, re.MULTILINE)}
    kinds = [
        kind for kind in vars(bot.errors).values() if isinstance(kind, type) and issubclass(kind, bot.errors.BotError)
    ]
    assert documented == {kind.__name__: kind.exit_code for kind in kinds if "exit_code" in vars(kind)}


def test_the_first_two_commands_are_one_line_each() -> None:
    assert FIRST.count("\n") == TESTS.count("\n") == 1


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of what git would commit, without an environment."""
    if IS_INSIDE:
        pytest.skip("the README's test command is being tested: once is enough")
    if not IS_CHECKOUT:
        pytest.skip("not a git checkout: there is nothing to make a fresh copy of")
    clone = tmp_path_factory.mktemp("clone")
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=REPOSITORY, text=True)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():  # a deletion may not be committed yet
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    return clone


@pytest.fixture
def place(clone: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a newcomer, whose state begins empty."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("BOT__", "PYTHON", "PYTEST", "XDG_"))
    }
    (tmp_path / "run").mkdir(mode=0o700)
    return kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "README_UNDER_TEST": "1",
    }


@pytest.fixture
def shell(clone: Path, place: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Shells started by a test; they and all that they started end with it."""
    shells: list[subprocess.Popen[str]] = []
    yield shells
    for process in shells:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(block: str, clone: Path, place: dict[str, str], shells: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        ["bash", "-ec", block],
        cwd=clone,
        env=place,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    shells.append(process)
    return process


@pytest.mark.timeout(600)
def test_the_first_command_trades_on_paper_within_three_minutes(
    clone: Path, place: dict[str, str], shell: list[subprocess.Popen[str]]
) -> None:
    began_s = time.monotonic()
    process = start(FIRST, clone, place, shell)
    status = [str(clone / ".venv/bin/bot"), "status", "--json"]
    while True:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began_s < TRADES_WITHIN_S, "no trade in three minutes"
        time.sleep(0.5)
        if not Path(status[0]).exists():
            continue
        done = subprocess.run(status, env=place, capture_output=True, text=True)
        if done.returncode == 0 and not re.search(r'"fills":0[,}]', done.stdout):
            break
    subprocess.run([status[0], "stop"], env=place, check=True, capture_output=True)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "paper trading on" in out


@pytest.mark.skipif("IS_RUN_BY_README" in os.environ, reason="this whole run is that command, in a fresh clone")
@pytest.mark.timeout(600)
def test_the_test_command_runs_the_tests(
    clone: Path, place: dict[str, str], shell: list[subprocess.Popen[str]]
) -> None:
    process = start(TESTS, clone, place | {"PYTEST_ADDOPTS": "-k test_a_newer_quote"}, shell)
    out, _ = process.communicate(timeout=590)
    assert process.returncode == 0, out
    assert re.search(r"\b1 passed", out)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", OTHERS, ids=lambda block: block.split("\n")[0][:60])
def test_every_other_command_of_the_readme_works(
    block: str, clone: Path, place: dict[str, str], shell: list[subprocess.Popen[str]]
) -> None:
    if not (clone / ".venv").exists():
        subprocess.run(["bash", "-ec", FIRST.replace(".venv/bin/bot run", "true")], cwd=clone, env=place, check=True)
    process = start(block, clone, place, shell)
    out, _ = process.communicate(timeout=590)
    assert process.returncode == 0, out
