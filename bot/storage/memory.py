"""A journal that ends with the process.

For tests, and for the simulation: threads and virtual time do not mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from bot.errors import JournalError
from bot.storage.base import GENESIS, Head, Record, sealed, verified


class MemoryJournal:
    """Keeps records in a list. `records` are those of an earlier life."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records = list(records)
        self._is_closed = False

    @property
    def head(self) -> Head:
        """Return (seq, digest) of the last record."""
        if not self._records:
            return 0, GENESIS
        return self._records[-1].seq, self._records[-1].digest

    async def load(self) -> list[Record]:
        """Return every record, oldest first, verified."""
        await self._enter()
        return verified(self._records, "journal in memory")

    async def append(self, payloads: Sequence[tuple[int, bytes]]) -> bytes:
        """Keep every (ts_ns, payload), and return the last digest."""
        await self._enter()
        self._records += sealed(self.head, payloads)
        return self.head[1]

    async def aclose(self) -> None:
        """Take no more records."""
        await trio.lowlevel.checkpoint()
        self._is_closed = True

    async def _enter(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise JournalError("journal in memory: is closed")
