"""The command line's way to the daemon: ask, wait, read, close.

Plain blocking sockets, so that `bot status` starts at once. A screen stays attached, and has a client of its
own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bot.control.paths import socket_path
from bot.control.protocol import (
    VIEW_BYTES_MAX,
    Answer,
    Command,
    Hello,
    Reply,
    Request,
    Research,
    Status,
    Verb,
    View,
    decode_answer,
    encode,
)
from bot.errors import BadReply, ConnectionLost, NotRunning, SettingsError

_CHUNK_BYTES: Final = 64 * 1024


def ask_status(state_dir: Path, timeout_s: float = 5.0) -> tuple[Hello, View]:
    """Return who runs on `state_dir`, and what it would show on a screen.

    Raises:
        NotRunning: no daemon holds `state_dir`.
        ConnectionLost: the daemon closed, or did not answer within `timeout_s`.
        BadReply: the answer is not of this protocol.

    """
    with _connected(state_dir, timeout_s) as line:
        line.send(Status())
        hello, view = line.receive(), line.receive()
    if not isinstance(hello, Hello):
        raise _unexpected(hello, "Hello")
    if not isinstance(view, View):
        raise _unexpected(view, "View")
    return hello, view


def send_command(
    state_dir: Path,
    verb: Verb,
    timeout_s: float = 15.0,
    *,
    subject: str = "",
    equity: str = "",
    is_new_baseline: bool = False,
) -> Reply:
    """Return what the daemon of `state_dir` answers to `verb`. Raises as `ask_status` does.

    After a ConnectionLost the command may have been carried out, or not.
    """
    command = Command(
        id=os.urandom(8).hex(), verb=verb, subject=subject, equity=equity, is_new_baseline=is_new_baseline
    )
    with _connected(state_dir, timeout_s) as line:
        line.send(command)
        reply = line.receive()
    if not isinstance(reply, Reply) or reply.id not in {command.id, ""}:
        raise _unexpected(reply, f"Reply to {command.id}")
    return reply


class Announcer:
    """Tells the daemon of `state_dir`, if there is one, how far a piece of research is; it never waits, never fails."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._sock: socket.socket | None = None

    def say(self, report: Research) -> None:
        """Send `report`; drop it where there is no daemon, or one that does not read."""
        try:
            if self._sock is None:
                self._sock = self._connected()
            line = encode(report)
            if self._sock.send(line) < len(line):
                self.close()  # a daemon that does not read; half a line cannot be taken back
        except BlockingIOError:
            return
        except (OSError, SettingsError):
            self.close()

    def close(self) -> None:
        """Hang up: the screens take that as the end of the work."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
            self._sock = None

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(os.fspath(socket_path(self._state_dir)))
        except (OSError, SettingsError):
            sock.close()
            raise
        return sock


class _Connection:
    """A connected socket, a deadline for all that is done on it, and what was read past the last line."""

    def __init__(self, sock: socket.socket, state_dir: Path, timeout_s: float) -> None:
        self._sock = sock
        self._who = f"the daemon on {state_dir}"
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._buffer = bytearray()

    def connect(self, path: Path) -> None:
        self._sock.settimeout(self._left_s())
        self._sock.connect(os.fspath(path))

    def send(self, request: Request) -> None:
        try:
            self._sock.settimeout(self._left_s())
            self._sock.sendall(encode(request))
        except TimeoutError:
            raise self._silent() from None
        except (BrokenPipeError, ConnectionResetError):
            # It has refused us and says why: read that first.
            return

    def receive(self) -> Answer:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > VIEW_BYTES_MAX:
                raise BadReply(f"{self._who} sent a line longer than {VIEW_BYTES_MAX} bytes", bytes(self._buffer[:200]))
            self._buffer += self._chunk()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return decode_answer(line)

    def _chunk(self) -> bytes:
        try:
            self._sock.settimeout(self._left_s())
            chunk = self._sock.recv(_CHUNK_BYTES)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise ConnectionLost(f"{self._who} closed the connection ({error.strerror})") from error
        if not chunk:
            raise ConnectionLost(f"{self._who} closed the connection")
        return chunk

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise self._silent()
        return left_s

    def _silent(self) -> ConnectionLost:
        return ConnectionLost(f"{self._who} did not answer within {self._timeout_s:g} s")


@contextmanager
def _connected(state_dir: Path, timeout_s: float) -> Generator[_Connection]:
    path = socket_path(state_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        line = _Connection(sock, state_dir, timeout_s)
        try:
            line.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(
                f"no daemon runs on {state_dir}: start one with `bot run`, or name another state directory"
            ) from error
        except OSError as error:
            raise ConnectionLost(f"cannot reach the daemon on {state_dir} ({error})") from error
        yield line


def _unexpected(answer: Answer, wanted: str) -> BadReply:
    if isinstance(answer, Reply) and not answer.is_ok:
        return BadReply(f"the daemon refused: {answer.text}")
    return BadReply(f"the daemon sent {type(answer).__name__} in place of {wanted}")
