"""The journal: a list of records that only grows, in order, each sealed with the digest of all before it.

A chain of digests shows damage and lost rows; it does not keep out somebody who recomputes it to the end.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from bot.errors import JournalError

Head = tuple[int, bytes]
"""(seq, digest) of the last record."""

DIGEST_BYTES: Final = 32
GENESIS: Final = bytes(DIGEST_BYTES)
"""The digest before the first record."""


class Record(NamedTuple):
    """One message that is written down."""

    seq: int
    """From 1, without gaps."""
    ts_ns: int
    payload: bytes
    """One message as msgspec JSON; it holds `ts_ns` too, and that is the one under the seal."""
    digest: bytes


def seal(previous_digest: bytes, seq: int, payload: bytes) -> bytes:
    """Return the digest of record `seq`, which holds those of all before it."""
    return hashlib.sha256(previous_digest + seq.to_bytes(8, "big") + payload).digest()


def sealed(head: Head, payloads: Sequence[tuple[int, bytes]]) -> list[Record]:
    """Return the records that follow `head`, one for each (ts_ns, payload)."""
    seq, digest = head
    records: list[Record] = []
    for ts_ns, payload in payloads:
        seq += 1
        digest = seal(digest, seq, payload)
        records.append(Record(seq, ts_ns, payload, digest))
    return records


def verified(records: Iterable[Record], place: str) -> list[Record]:
    """Return `records` as a list, after checking that they begin at 1, have no gap and that every seal holds.

    Raises:
        JournalError: they do not; names `place` and the first sequence number that is wrong.

    """
    checked: list[Record] = []
    digest = GENESIS
    with collector_paused():
        for expected_seq, record in enumerate(records, start=1):
            if record.seq != expected_seq:
                raise JournalError(f"{place}: record {expected_seq} is missing, {record.seq} stands in its place")
            digest = seal(digest, record.seq, record.payload)
            if record.digest != digest:
                raise JournalError(f"{place}: record {record.seq} is damaged, its seal does not hold")
            checked.append(record)
    return checked


@contextmanager
def collector_paused() -> Generator[None, None, None]:
    """Let many records be made without a search for cycles among them, of which they have none.

    Over a million of them the searches take longer than all else together.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Journal(Protocol):
    """What persistence needs of a journal. It has one owner: no two calls at the same time."""

    @property
    def head(self) -> Head:
        """Return (seq, digest) of the last durable record; (0, GENESIS) while there is none."""
        ...

    async def load(self) -> list[Record]:
        """Return every record, oldest first, verified. Raises JournalError when the journal is damaged."""
        ...

    async def append(self, payloads: Sequence[tuple[int, bytes]]) -> bytes:
        """Write every (ts_ns, payload), all or nothing, and return the last digest once they are durable.

        Raises:
            JournalError: they could not be written; the journal takes no more.

        """
        ...

    async def aclose(self) -> None:
        """Let go of the file. May be called twice."""
        ...
