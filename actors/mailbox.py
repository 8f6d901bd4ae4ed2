"""How actors talk: mailboxes that nobody waits to fill, and the office that carries messages between them.

A mailbox is a memory channel for facts, in order and bounded, with one slot a key for perishables: a newer quote
replaces an unread one. Posting never blocks; one fact too many stops the bot loudly. A reader takes all that waits.

In lockstep (`Turns`) messages are handled one after another in the order in which they were posted, whichever actor
reads them: what a run does then depends on its input alone, not on how tasks were scheduled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

import trio

from bot.core.flow import ROUTES, Stage, readers
from bot.core.messages import AnyMessage, slot
from bot.errors import MailboxFull

FACTS_MAX: Final = 20_000
"""Unread facts that a mailbox holds. At 5,000 trades a second this is a reader that stood still for four seconds."""

_Numbered = tuple[int, AnyMessage]
"""The how-manieth message of the mailbox, and the message. None in the channel wakes the reader of perishables."""


class Turns:
    """Lets one actor run at a time: the reader of the oldest unread message."""

    def __init__(self) -> None:
        self._queue: deque[Stage] = deque()
        self._holder: Stage | None = None
        self._waiting: dict[Stage, trio.Event] = {}
        self._idle = trio.Event()
        self._idle.set()

    def posted(self, reader: Stage) -> None:
        """Queue a turn of `reader`, for one message."""
        self._queue.append(reader)
        if self._holder is None:
            self._pass_on()

    async def take(self, reader: Stage) -> int:
        """End the turn that `reader` may hold, wait for its next one; return how many messages it may handle.

        Messages that lie next to each other and have the same reader make one turn: the order of handling is the same
        as one by one, and a batch costs one commit.
        """
        if self._holder is reader:
            self._holder = None
            self._pass_on()
        if self._holder is not reader:
            event = self._waiting[reader] = trio.Event()
            await event.wait()
        count = 0
        while self._queue and self._queue[0] is reader:
            self._queue.popleft()
            count += 1
        return count

    async def idle(self) -> None:
        """Wait until every message is handled, and all that came of it."""
        await self._idle.wait()

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits and nobody works."""
        return self._idle.is_set()

    def _pass_on(self) -> None:
        if not self._queue:
            self._idle.set()
            return
        if self._idle.is_set():
            self._idle = trio.Event()
        self._holder = self._queue[0]
        event = self._waiting.pop(self._holder, None)
        if event is not None:
            event.set()


class Mailbox:
    """One actor's unread messages, in the order in which they came."""

    def __init__(self, owner: Stage, turns: Turns | None = None, facts_max: int = FACTS_MAX) -> None:
        self.owner = owner
        self.depth_max = 0
        """Most facts that ever waited."""
        self._turns = turns
        # One place more than facts: the wake token takes none of theirs.
        self._send, self._channel = trio.open_memory_channel[_Numbered | None](facts_max + 1)
        self._facts_max = facts_max
        self._facts = 0
        self._slots: dict[Hashable, _Numbered] = {}
        self._is_woken = False
        self._posted = 0
        self._in_hand = 0

    def post(self, message: AnyMessage) -> None:
        """Leave `message` here.

        Raises:
            MailboxFull: `facts_max` facts wait unread.

        """
        key = None if self._turns is not None else slot(message)
        self._posted += 1
        if key is not None:
            self._slots[key] = self._posted, message
            if not self._is_woken:
                self._is_woken = True
                self._send.send_nowait(None)
            return
        if self._facts >= self._facts_max:
            raise MailboxFull(f"{self.owner}: {self._facts} facts wait unread, the most is {self._facts_max}")
        self._facts += 1
        self.depth_max = max(self.depth_max, self._facts)
        self._send.send_nowait((self._posted, message))
        if self._turns is not None:
            self._turns.posted(self.owner)

    async def receive(self) -> list[AnyMessage]:
        """Return all that waits, at least one message, oldest first; what was received before counts as handled."""
        self._in_hand = 0
        if self._turns is not None:
            count = await self._turns.take(self.owner)
            batch = [self._take_nowait() for _ in range(count)]
        else:
            batch = await self._receive_all()
        self._in_hand = len(batch)
        return batch

    def _take_nowait(self) -> AnyMessage:
        item = self._channel.receive_nowait()
        assert item is not None, "no perishables in lockstep"
        self._facts -= 1
        return item[1]

    async def _receive_all(self) -> list[AnyMessage]:
        items = [await self._channel.receive()]
        # We count what is in there ourselves: to ask the channel costs as much as to receive.
        for _ in range(self._facts + self._is_woken - 1):
            items.append(self._channel.receive_nowait())  # noqa: PERF401 - each call changes the channel
        numbered = [item for item in items if item is not None]
        self._facts -= len(numbered)
        if self._slots:
            numbered.extend(self._slots.values())
            self._slots.clear()
            numbered.sort(key=lambda item: item[0])
        self._is_woken = False
        return [message for _, message in numbered]

    @property
    def unhandled(self) -> int:
        """Return how many messages wait or are being handled."""
        return self._facts + len(self._slots) + self._in_hand


class Office:
    """Carries messages by the routing table."""

    def __init__(self, stages: Iterable[Stage], *, is_lockstep: bool) -> None:
        self.turns = Turns() if is_lockstep else None
        self.mailboxes = {stage: Mailbox(stage, self.turns) for stage in stages}
        # The routing table with mailboxes in the place of names: looked up once, not for every message.
        self._boxes = {
            speaker: {
                kind: tuple(self.mailboxes[reader] for reader in heard_by if reader in self.mailboxes)
                for kind, heard_by in routes.items()
            }
            for speaker, routes in ROUTES.items()
        }

    def post(self, speaker: Stage, message: AnyMessage) -> None:
        """Leave `message` with each of its readers."""
        boxes = self._boxes[speaker].get(type(message))
        if boxes is None:
            readers(speaker, message)  # says what is wrong
            return
        for mailbox in boxes:
            mailbox.post(message)

    @property
    def depth_max(self) -> int:
        """Return the most facts that ever waited in one mailbox."""
        return max(mailbox.depth_max for mailbox in self.mailboxes.values())

    async def idle(self) -> None:
        """Wait until nothing is unread and nobody works on anything; meaningful once the feed has stopped."""
        if self.turns is not None:
            await self.turns.idle()
            return
        while any(mailbox.unhandled for mailbox in self.mailboxes.values()):  # noqa: ASYNC110 - asked once a run
            await trio.sleep(0.001)
