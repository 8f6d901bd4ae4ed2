"""One daemon a state directory: a lock that the system frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bot.errors import AlreadyRunning, SettingsError

LOCK_NAME = "daemon.lock"


@contextmanager
def hold(state_dir: Path) -> Generator[None]:
    """Make `state_dir` (0700) and hold its lock.

    Raises:
        AlreadyRunning: another process holds it; names its pid.
        SettingsError: the directory cannot be made or written.

    """
    path = state_dir / LOCK_NAME
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunning(
                f"a bot already runs on {state_dir} (pid {pid}): attach to it with `bot attach`, "
                f"or give this one another --state-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
