"""The disk of a simulated machine: a journal that survives the bot, and may lose what was not synced yet.

A commit is written first and synced after a while. kill -9 between the two keeps what was written, as the system's own
memory does; a power failure does not. Nobody can count on either, so both have to be recovered from.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from random import Random

import trio

from actors.simulation.draws import Latency, LatencyDraw
from actors.simulation.outages import Outages
from bot.errors import JournalError
from bot.storage.base import GENESIS, Head, Record, sealed, verified

PLACE = "journal on a simulated disk"


class Disk:
    """What is there when no bot runs: the synced records, and those that are only written."""

    def __init__(self, latency: Latency, outages: Outages, rng: Random) -> None:
        self.synced: list[Record] = []
        self.written: list[Record] = []
        """After `synced`, and not safe yet."""
        self.lost = 0
        """Records that were written, and gone after a power failure."""
        self._latency_s = LatencyDraw(latency, rng)
        self._outages = outages

    @property
    def head(self) -> Head:
        """Return (seq, digest) of the last synced record; (0, GENESIS) while there is none."""
        return (self.synced[-1].seq, self.synced[-1].digest) if self.synced else (0, GENESIS)

    def crash(self, *, loses_unsynced: bool) -> None:
        """Let the machine stop now. Without power what is only written is gone, else it will be synced."""
        if loses_unsynced:
            self.lost += len(self.written)
            self.written.clear()
        self.sync()

    def write(self, records: Sequence[Record]) -> float:
        """Write `records`; return how many seconds their sync will take.

        Raises:
            JournalError: the disk is full or broken, and nothing was written.

        """
        now_s = trio.current_time()
        error = self._outages.commit_error(now_s)
        if error:
            number = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}[error]
            raise JournalError(f"{PLACE}: cannot be written: [Errno {number}] {os.strerror(number)}")
        self.written += records
        return self._latency_s.draw_s() + self._outages.commit_delay_s(now_s)

    def sync(self) -> None:
        """Make safe what is written."""
        self.synced += self.written
        self.written.clear()


class DiskJournal:
    """One incarnation's journal. After `sever` it changes nothing any more."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._head = disk.head
        self._failure = ""
        self._is_severed = False
        self._syncing = trio.CancelScope()

    @property
    def head(self) -> Head:
        """Return (seq, digest) of the last durable record; (0, GENESIS) while there is none."""
        return self._head

    def sever(self) -> None:
        """Let nothing that this incarnation does have any effect any more."""
        self._is_severed = True
        self._syncing.cancel()

    async def load(self) -> list[Record]:
        """Return every record, oldest first, verified. Raises JournalError when the journal is damaged."""
        self._check()
        await trio.lowlevel.checkpoint()
        return verified(self._disk.synced, PLACE)

    async def append(self, payloads: Sequence[tuple[int, bytes]]) -> bytes:
        """Write every (ts_ns, payload), all or nothing, and return the last digest once they are durable.

        Raises:
            JournalError: they could not be written; the journal takes no more.

        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check()
        records = sealed(self._head, payloads)
        if not records:
            return self._head[1]
        await self._commit(records)
        self._head = records[-1].seq, records[-1].digest
        return self._head[1]

    async def _commit(self, records: Sequence[Record]) -> None:
        if not self._is_severed:
            try:
                syncs_s = self._disk.write(records)
            except JournalError as error:
                self._failure = str(error)
                raise
            # As with a real one, a commit cannot be called back, except that its process dies.
            with trio.CancelScope(shield=True) as self._syncing:
                await trio.sleep(syncs_s)
        if self._is_severed:
            await trio.sleep_forever()
        self._disk.sync()

    async def aclose(self) -> None:
        """Let go of the file. May be called twice."""
        await trio.lowlevel.checkpoint()
        self._failure = self._failure or f"{PLACE}: is closed"

    def _check(self) -> None:
        if self._failure:
            raise JournalError(self._failure)
