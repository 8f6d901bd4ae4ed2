"""Runs the bot as a user does: as a process of its own, with a state directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
RECORDINGS = REPOSITORY.parent / "shared" / "recordings"


def bot(*arguments: str | Path) -> list[str]:
    """Return the command line of `bot ARGUMENTS`."""
    return [sys.executable, "-m", "bot", *map(str, arguments)]


def environment(runtime_dir: Path) -> dict[str, str]:
    """Return an environment in which no setting and no daemon of the tester's shows."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOT__", "XDG_", "COV_"))}
    return kept | {"XDG_RUNTIME_DIR": str(runtime_dir), "HOME": str(runtime_dir), "PYTHONPATH": str(REPOSITORY)}


class Bench:
    """A place to run bots in: `state_dir` and everything else under one temporary directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_dir = path / "state"
        # A socket's path must be short, and a test's directory is not.
        runtime_dir = Path(tempfile.mkdtemp(prefix="bot-"))
        weakref.finalize(self, shutil.rmtree, runtime_dir, ignore_errors=True)
        self.env = environment(runtime_dir)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start `bot ARGUMENTS --state-dir …`."""
        return subprocess.Popen(
            bot(*arguments, "--state-dir", self.state_dir),
            env=self.env,
            text=True,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            **options,
        )

    def run(self, *arguments: str | Path, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `bot ARGUMENTS --state-dir …` to its end."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def result(self, *arguments: str | Path, timeout_s: float = 60) -> dict[str, Any]:
        """Run a command that must succeed; return the object that it prints."""
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout, parse_float=Decimal)

    def wait_ready(self, process: subprocess.Popen[str], timeout_s: float = 30) -> dict[str, Any]:
        """Wait until the daemon answers `bot status`; return what it says."""
        return self.wait_status(lambda status: status["running"], process, timeout_s)

    def wait_status(
        self, condition: Callable[[dict[str, Any]], bool], process: subprocess.Popen[str], timeout_s: float = 30
    ) -> dict[str, Any]:
        """Wait until `bot status --json` fulfils `condition`; return it."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            assert process.poll() is None, f"the daemon ended with {process.returncode}"
            done = self.run("status", "--json")
            if done.returncode == 0:
                status = json.loads(done.stdout)
                if condition(status):
                    return status
            time.sleep(0.1)
        raise AssertionError("the daemon did not get there in time")
