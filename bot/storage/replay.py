"""Facts as journal records, and the state that records add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bot.core.ledger import Ledger
from bot.core.messages import Journalled
from bot.errors import JournalError
from bot.storage.base import Record, collector_paused

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Journalled)


def encode_fact(fact: Journalled) -> bytes:
    """Return the journal's form of `fact`."""
    return _encoder.encode(fact)


def facts(records: Iterable[Record]) -> Iterator[Journalled]:
    """Yield what `records` hold, in their order.

    Raises:
        JournalError: a record does not hold a fact that this version knows.

    """
    for record in records:
        try:
            yield _decoder.decode(record.payload)
        except msgspec.MsgspecError as error:
            raise JournalError(
                f"journal record {record.seq} is not a fact ({error}): {record.payload[:200]!r}"
            ) from error


def replay(records: Iterable[Record]) -> Ledger:
    """Return the ledger that `records` add up to. Raises as `facts` does."""
    ledger = Ledger()
    with collector_paused():
        for fact in facts(records):
            ledger.apply(fact)
    return ledger
