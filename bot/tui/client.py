"""The screen's end of the control socket: attaches, stays attached, and says so when it cannot.

Nothing here knows what a screen looks like.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, NamedTuple

from bot.control.protocol import (
    VIEW_BYTES_MAX,
    Answer,
    Attach,
    Command,
    Hello,
    Verb,
    decode_answer,
    encode,
)
from bot.errors import BadReply

RETRY_S: Final = 0.25
RETRY_S_MAX: Final = 4.0


class Disconnected(NamedTuple):
    """There is no daemon at the other end; the next attempt is in `retry_s`."""

    reason: str
    retry_s: float


class DaemonLink:
    """One attached connection at a time, made anew as often as it is lost."""

    def __init__(self, path: Path, retry_s: float = RETRY_S) -> None:
        self._path = path
        self._retry_s = retry_s
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_up(self) -> bool:
        """Return whether a command could be sent now."""
        return self._writer is not None

    def send(self, verb: Verb, *, subject: str = "", equity: str = "", is_new_baseline: bool = False) -> str | None:
        """Send `verb`; return the name that its reply will carry, or None while there is no daemon."""
        if self._writer is None or self._writer.is_closing():
            return None
        command = Command(
            id=os.urandom(8).hex(), verb=verb, subject=subject, equity=equity, is_new_baseline=is_new_baseline
        )
        self._writer.write(encode(command))
        return command.id

    async def answers(self) -> AsyncGenerator[Answer | Disconnected]:
        """Yield what the daemon says, and `Disconnected` whenever it is not there. Never ends."""
        retry_s = self._retry_s
        while True:
            reason = "it closed the connection"
            try:
                async with aclosing(self._session()) as session:
                    async for answer in session:
                        if isinstance(answer, Hello):
                            retry_s = self._retry_s
                        yield answer
            except (FileNotFoundError, ConnectionRefusedError):
                reason = "no daemon"
            except (OSError, BadReply) as error:
                reason = str(error)
            yield Disconnected(reason, retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, max(RETRY_S_MAX, self._retry_s))

    async def _session(self) -> AsyncGenerator[Answer]:
        """Yield the answers of one connection until it ends. Raises OSError or BadReply."""
        reader, writer = await asyncio.open_unix_connection(self._path, limit=VIEW_BYTES_MAX)
        try:
            writer.write(encode(Attach()))
            self._writer = writer
            while line := await _line(reader):
                yield decode_answer(line)
        finally:
            self._writer = None
            writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, or nothing at the end; half a line at the end counts as none."""
    try:
        line = await reader.readline()
    except ValueError as error:  # asyncio's name for a line longer than its limit
        raise BadReply(f"a line longer than {VIEW_BYTES_MAX} bytes") from error
    return line if line.endswith(b"\n") else b""
