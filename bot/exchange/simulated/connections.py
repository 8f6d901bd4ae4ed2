"""One WebSocket connection of the simulated exchange: its session, its end, and the frames that wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio
from hypercorn.typing import ASGISendCallable

from bot.exchange.simulated.injector import End, FrameLine
from bot.exchange.simulated.ports import SessionPort

QUEUE_FULL: Final = 256
"""Frames waiting for one connection at which a market at full speed pauses."""
FAULT_REASON: Final = "an injected fault"


@dataclass(frozen=True, slots=True)
class _Close:
    """Last in a queue: close the connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Late:
    """A frame that a fault delays: neither it nor what is behind it is sent before `due_s`, on trio's clock."""

    payload: bytes
    due_s: float


class Frames(Protocol):
    """Frames on their way to one client. Putting never waits."""

    def __len__(self) -> int:
        """Return how many have not been taken yet."""
        ...

    def put(self, frames: Iterable[bytes | Late]) -> None:
        """Add frames at the end; what comes after the close goes nowhere."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frames that wait; only the first close counts."""
        ...

    def close_early(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frame that is being sent."""
        ...

    def end(self) -> None:
        """The connection is gone: forget everything, and let everybody go who waits."""
        ...

    async def wait_empty(self) -> None:
        """Wait until every frame has been taken."""
        ...

    async def wait_room(self) -> None:
        """Wait while too many frames have not been taken."""
        ...


class FrameQueue:
    """Frames that wait for one connection's socket. A frame leaves only when it has been sent."""

    def __init__(self) -> None:
        self._waiting: deque[bytes | Late | _Close] = deque()
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, frames: Iterable[bytes | Late]) -> None:
        """Add frames at the end; what comes after the close goes nowhere."""
        if not self._is_closed:
            self._waiting.extend(frames)
            self._changed.unpark_all()

    def close(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frames that wait; only the first close counts."""
        if not self._is_closed:
            self._is_closed = True
            self._waiting.append(_Close(code, reason))
            self._changed.unpark_all()

    def close_early(self, code: int, reason: str) -> None:
        """Let the connection be closed after the frame that is being sent."""
        while len(self._waiting) > 1 and not self._is_closed:
            self._waiting.pop()
        self.close(code, reason)

    def end(self) -> None:
        """The connection is gone: forget everything, and let everybody go who waits."""
        self._is_closed = True
        self._waiting.clear()
        self._changed.unpark_all()

    async def send_all(self, send: ASGISendCallable) -> None:
        """Send frames as they come, until a close has been sent."""
        is_open = True
        while is_open:
            while not self._waiting:
                await self._changed.park()
            frame = self._waiting[0]
            if isinstance(frame, Late):
                await trio.sleep_until(frame.due_s)
                frame = frame.payload
            if isinstance(frame, _Close):
                is_open = False
                await send({"type": "websocket.close", "code": frame.code, "reason": frame.reason})
            else:
                await send({"type": "websocket.send", "bytes": None, "text": frame.decode()})
            if self._waiting:  # else the connection went while we sent
                self._waiting.popleft()
            if len(self._waiting) in (0, QUEUE_FULL // 2):
                self._changed.unpark_all()

    async def wait_empty(self) -> None:
        """Wait until every frame has been sent."""
        while self._waiting:
            await self._changed.park()

    async def wait_room(self) -> None:
        """Return at once below `QUEUE_FULL`; else wait until half of it has been sent, to be woken rarely."""
        while len(self._waiting) >= QUEUE_FULL:
            await self._changed.park()


@dataclass(slots=True, eq=False)
class Connection:
    """One WebSocket connection."""

    session: SessionPort
    line: FrameLine
    """What faults make of its frames, where there are any."""
    breaks: Callable[[bool], None]
    """Ends it without a word; told whether with a reset."""
    queue: Frames
    gone: trio.Event = field(default_factory=trio.Event)

    def abort(self, *, is_reset: bool = False) -> None:
        """Drop the connection now, even while a frame is being sent into a full socket."""
        self.breaks(is_reset)
        self.queue.end()

    def fall(self, end: End) -> None:
        """End the connection as a fault will have it."""
        if end.code is None:
            self.abort(is_reset=end.is_reset)
        else:
            self.queue.close_early(end.code, FAULT_REASON)
