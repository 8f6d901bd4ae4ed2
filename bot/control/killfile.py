"""The kill file: while it lies in the state directory, the daemon lets nothing through, and starts so too.

Anybody who can write there can make it, `touch` is enough; the daemon never removes it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.core.text import safe_text
from bot.errors import SettingsError

KILL_FILE: Final = "KILL"
_SHOWN_BYTES: Final = 200


def kill_file(state_dir: Path) -> Path:
    """Return where the kill file of a state directory lies, if it does."""
    return state_dir / KILL_FILE


def is_killed(state_dir: Path) -> bool:
    """Return whether there is a kill file, or anything else of that name, a dead link too."""
    return os.path.lexists(kill_file(state_dir))


def kill_reason(state_dir: Path) -> str:
    """Return what the kill file says, as one safe line."""
    with suppress(OSError):
        descriptor = os.open(kill_file(state_dir), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return safe_text(file.read(_SHOWN_BYTES).decode("utf-8", "replace").strip(), _SHOWN_BYTES)
    return ""


def write_kill_file(state_dir: Path, reason: str) -> Path:
    """Make the kill file, so that it outlives a loss of power; return its path. One that is there is left as it is.

    Raises:
        SettingsError: it cannot be made.

    """
    path = kill_file(state_dir)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{reason}\n")
                file.flush()
                os.fsync(descriptor)
        directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise SettingsError(f"{path}: the kill file cannot be made ({error.strerror})") from error
    return path
