"""Counts starts that did not come to a good end: one that dies again and again stays down until somebody has looked.

A service manager that restarts a bot for ever turns one fault into a hundred, and the exchange shuts it out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from bot.errors import RestartLoop

STARTS_FILE: Final = "starts.json"
WINDOW_S: Final = 600.0


def note_start(state_dir: Path, starts_max: int, now_s: float) -> None:
    """Write down that a start is made, in seconds since 1970.

    Raises:
        RestartLoop: `starts_max` within the last ten minutes did not come to a good end.

    """
    path = state_dir / STARTS_FILE
    recent = [at_s for at_s in _read(path) if now_s - WINDOW_S < at_s <= now_s]
    if len(recent) >= starts_max:
        raise RestartLoop(
            f"started {len(recent)} times in the last {WINDOW_S / 60:g} minutes, and never came to a good end: "
            f"look why, then remove {path}"
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode([*recent, now_s]))


def note_good_end(state_dir: Path) -> None:
    """Forget all starts: this one came to a good end."""
    (state_dir / STARTS_FILE).unlink(missing_ok=True)


def _read(path: Path) -> list[float]:
    # A file that cannot be read says nothing; the journal is what must not be lost.
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=list[float])
    return []
