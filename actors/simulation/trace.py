"""What happened in a world, as one digest, and its last lines for whoever looks for a reason."""

from __future__ import annotations

import hashlib
from collections import deque

import trio


class Trace:
    """Everything that passed between a bot and the exchange, in order."""

    def __init__(self, lines_kept: int = 0) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.lines: deque[str] = deque(maxlen=lines_kept)
        """The last of them, oldest first."""
        self.counts: dict[str, int] = {}

    def note(self, what: str, where: str, content: bytes) -> None:
        """Note something that passes now."""
        self.count(what)
        now_s = trio.current_time()
        self._digest.update(f"{now_s!r} {what} {where} ".encode() + content)
        if self.lines.maxlen:
            self.lines.append(f"{now_s:.6f} {what} {where} {content.decode(errors='replace')}")

    def count(self, what: str) -> None:
        """Count something that is noted elsewhere."""
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def hash(self) -> str:
        """Return the digest of all that was noted."""
        return self._digest.hexdigest()
