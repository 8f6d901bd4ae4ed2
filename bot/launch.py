"""Starts a daemon that outlives its terminal, and waits until it can be talked to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bot.control.client import ask_status
from bot.errors import AlreadyRunning, BotError, ConnectionLost, NotRunning, SettingsError

LOG_NAME: Final = "daemon.log"
LOG_BYTES_MAX: Final = 5 * 2**20
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


def start_daemon(arguments: list[str], state_dir: Path) -> None:
    """Start `bot ARGUMENTS --headless` in a session of its own; return when its control socket answers.

    Raises:
        AlreadyRunning: a daemon runs on `state_dir`.
        BotError: the daemon ended at once; carries its last words.

    """
    try:
        hello, _ = ask_status(state_dir)
    except NotRunning:
        pass
    else:
        raise AlreadyRunning(f"a bot already runs on {state_dir} (pid {hello.pid}): attach to it with `bot attach`")
    log_path = _open_log(state_dir)
    with log_path.open("ab") as log:
        began = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own program, with the arguments we were given
            [sys.executable, "-m", "bot", *arguments, "--headless"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise _Ended(process.returncode, log_path.read_bytes()[began:].decode("utf-8", "replace"))
        try:
            ask_status(state_dir, timeout_s=1.0)
        except (NotRunning, ConnectionLost):
            time.sleep(POLL_S)
        else:
            return
    process.terminate()
    raise BotError(f"the daemon did not get ready in {READY_TIMEOUT_S:g} s; its log is {log_path}")


class _Ended(BotError):
    """The daemon ended before it was ready; we end with its exit code."""

    def __init__(self, exit_code: int, words: str) -> None:
        super().__init__("\n".join(line.removeprefix("bot: ") for line in words.splitlines()[-10:]))
        self.exit_code = exit_code  # pyright: ignore[reportAttributeAccessIssue]  # the class's is a default


def _open_log(state_dir: Path) -> Path:
    """Return the path of the daemon's log, private to us; an old one that grew large is put aside."""
    path = state_dir / LOG_NAME
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
    except OSError as error:
        raise SettingsError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    return path
