"""The persistence actor: nothing is said to the executor or the gate before it is on disk.

All that waits is handled in one go and written in one transaction, so a burst costs one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from actors.mailbox import Mailbox, Office
from bot.core.bookkeeper import Bookkeeper
from bot.core.messages import AnyMessage
from bot.storage.base import Journal
from bot.storage.replay import encode_fact

COMMIT_S_MAX: Final = 2.0
"""A commit that runs for longer is a trouble."""


class Commits:
    """How long the commit that runs now has been running."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Note that a commit begins."""
        self._began_s = now_s

    def end(self) -> None:
        """Note that it is on the disk."""
        self._began_s = None

    def running_s(self, now_s: float) -> float:
        """Return for how many seconds a commit has been running; 0.0 while there is none."""
        return 0.0 if self._began_s is None else now_s - self._began_s


async def run_persistence(
    mailbox: Mailbox,
    keeper: Bookkeeper,
    journal: Journal,
    office: Office,
    on_written: Callable[[AnyMessage], None],
    commits: Commits,
) -> None:
    """Write, then speak, for ever. `on_written` is told each fact after its commit, for screens."""
    while True:
        outputs: list[AnyMessage] = []
        for message in await mailbox.receive():
            outputs.extend(keeper.handle(message))
        pending = keeper.take_pending()
        if pending:
            commits.begin(trio.current_time())
            await journal.append([(fact.ts_ns, encode_fact(fact)) for fact in pending])
            commits.end()
        for output in outputs:
            office.post(mailbox.owner, output)
        for fact in pending:
            on_written(fact)
