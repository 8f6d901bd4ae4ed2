"""One way of a simulated connection: things in order, each of which can be taken from its time on."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import trio

from actors.simulation.clock import Alarm


@dataclass(frozen=True, slots=True)
class End:
    """Last in a pipe: the connection is over."""

    code: int | None = None
    """Of a close frame; None: there was none."""
    reason: str = ""
    is_reset: bool = False


class Pipe:
    """What travels one way on one connection, in order; each thing can be taken from its time on. One task takes."""

    def __init__(self) -> None:
        self._items: deque[tuple[float, bytes | End]] = deque()
        self._last_s = -math.inf
        self._alarm = Alarm()
        self._taken = trio.lowlevel.ParkingLot()
        self.is_over = False
        """An end lies in it: nothing more goes in."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: bytes | End, due_s: float) -> None:
        """Add something that can be taken from `due_s` on, and not before what was put in earlier."""
        if self.is_over:
            return
        self.is_over = isinstance(item, End)
        self._last_s = max(self._last_s, due_s)
        self._items.append((self._last_s, item))
        if len(self._items) == 1:
            self._alarm.move(self._last_s)

    def cut(self, end: End, *, drops: bool) -> None:
        """End it; with `drops` forget what has not been taken."""
        if drops:
            self._items.clear()
            self._last_s = -math.inf
            self.is_over = False
        self.put(end, trio.current_time())
        self._taken.unpark_all()

    async def take(self) -> bytes | End:
        """Return the next thing when its time has come; an end again and again."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._items or self._items[0][0] > trio.current_time():
            await self._alarm.wait_until(self._items[0][0] if self._items else math.inf)
        item = self._items[0][1]
        if not isinstance(item, End):
            self._items.popleft()
            if self._taken:
                self._taken.unpark_all()
        return item

    def has_due(self) -> bool:
        """Return whether something other than an end can be taken now."""
        return bool(self._items and self._items[0][0] <= trio.current_time() and not isinstance(self._items[0][1], End))

    @property
    def is_due(self) -> bool:
        """Return whether something can be taken now, be it an end."""
        return bool(self._items and self._items[0][0] <= trio.current_time())

    async def wait_shorter(self, length: int) -> None:
        """Wait until no more than `length` things lie in it."""
        while len(self._items) > length and not self.is_over:
            await self._taken.park()
