"""Where the control socket of a state directory lies.

A state directory may be on a file system without sockets, and its path may be longer than the 108 bytes that
a socket's may have. So sockets lie in a private runtime directory, under a short name made from the state
directory's.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from bot.errors import SettingsError

SOCKET_PATH_BYTES_MAX: Final = 103
"""Linux takes 107 bytes and a zero, the BSDs 103."""


def socket_path(state_dir: Path) -> Path:
    """Return the path of the socket of the daemon that holds `state_dir`; its directory exists afterwards.

    Raises:
        SettingsError: the runtime directory is not private to us, cannot be made, or has too long a name.

    """
    digest = hashlib.sha256(os.fsencode(state_dir.expanduser().resolve())).hexdigest()[:16]
    path = runtime_dir() / f"{digest}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise SettingsError(f"{path}: longer than {SOCKET_PATH_BYTES_MAX} bytes; set XDG_RUNTIME_DIR to a shorter one")
    return path


def runtime_dir() -> Path:
    """Return `$XDG_RUNTIME_DIR/bot` if that is ours, else `<tempdir>/bot-<uid>`; made where missing."""
    uid = os.getuid()
    session_dir = os.environ.get("XDG_RUNTIME_DIR", "")
    path = Path(session_dir) / "bot" if _is_our_dir(session_dir, uid) else Path(tempfile.gettempdir()) / f"bot-{uid}"
    make_private_dir(path)
    return path


def make_private_dir(path: Path) -> None:
    """Make the directory `path`, 0700, or see that it already is ours alone.

    Raises:
        SettingsError: it is a link, another user's, open to others, or cannot be made.

    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"{path}: not a directory but a link or a file; remove it")
    if status.st_uid != os.getuid():
        raise SettingsError(f"{path}: belongs to user {status.st_uid}, not to us ({os.getuid()}); remove it")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise SettingsError(f"{path}: open to other users (mode {mode:04o}); run `chmod 700 {path}`")


def _is_our_dir(name: str, uid: int) -> bool:
    # The standard wants an absolute path, and has relative ones ignored.
    if not Path(name).is_absolute():
        return False
    try:
        status = Path(name).stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid
