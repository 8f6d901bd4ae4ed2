"""The persistence actor: nothing is said to the executor or the gate before it is on disk.

All that waits is handled in one go and written in one transaction, so a burst costs one commit.
"""

from __future__ import annotations

from collections.abc import Callable

from actors.mailbox import Mailbox, Office
from bot.core.bookkeeper import Bookkeeper
from bot.core.messages import AnyMessage
from bot.storage.base import Journal
from bot.storage.replay import encode_fact


async def run_persistence(
    mailbox: Mailbox,
    keeper: Bookkeeper,
    journal: Journal,
    office: Office,
    on_written: Callable[[AnyMessage], None],
) -> None:
    """Write, then speak, for ever. `on_written` is told each fact after its commit, for screens."""
    while True:
        outputs: list[AnyMessage] = []
        for message in await mailbox.receive():
            outputs.extend(keeper.handle(message))
        pending = keeper.take_pending()
        if pending:
            await journal.append([(fact.ts_ns, encode_fact(fact)) for fact in pending])
        for output in outputs:
            office.post(mailbox.owner, output)
        for fact in pending:
            on_written(fact)
