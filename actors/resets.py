"""A network whose WebSockets can all be given up at once: after a sleep of this machine none of them can be trusted.

Whoever reads one then sees a lost connection, and does what it always does: connect again, and ask for what it missed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import trio

from bot.errors import ConnectionLost
from bot.exchange.network import HttpPort, Network, SocketPort

T = TypeVar("T")


class Resets:
    """Passes everything on to `network`, and keeps count of the WebSockets that are open."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._open: dict[int, _Socket] = {}
        self._opened = 0

    def give_up_all(self, reason: str) -> None:
        """Count every open WebSocket as lost."""
        for socket in list(self._open.values()):
            socket.give_up(reason)

    def open_http(
        self, base_url: str, *, connect_timeout_s: float, request_timeout_s: float, user_agent: str
    ) -> AbstractAsyncContextManager[HttpPort]:
        """Open a client of the server at `base_url`."""
        return self._network.open_http(
            base_url, connect_timeout_s=connect_timeout_s, request_timeout_s=request_timeout_s, user_agent=user_agent
        )

    @asynccontextmanager
    async def open_websocket(
        self, url: str, *, connect_timeout_s: float, is_lean: bool = False
    ) -> AsyncGenerator[SocketPort]:
        """Open a WebSocket that can be given up."""
        async with self._network.open_websocket(url, connect_timeout_s=connect_timeout_s, is_lean=is_lean) as inner:
            self._opened += 1
            number = self._opened
            self._open[number] = socket = _Socket(inner)
            try:
                yield socket
            finally:
                del self._open[number]


class _Socket:
    """A WebSocket that raises `ConnectionLost` in everything that waits on it once it was given up."""

    def __init__(self, inner: SocketPort) -> None:
        self._inner = inner
        self._reason = ""
        self._scopes: dict[int, trio.CancelScope] = {}

    def give_up(self, reason: str) -> None:
        self._reason = reason
        for scope in self._scopes.values():
            scope.cancel()

    async def send(self, text: str | bytes) -> None:
        await self._unless_given_up(lambda: self._inner.send(text))

    async def receive(self) -> bytes:
        return await self._unless_given_up(self._inner.receive)

    async def receive_many(self) -> list[bytes]:
        return await self._unless_given_up(self._inner.receive_many)

    async def _unless_given_up(self, work: Callable[[], Awaitable[T]]) -> T:
        if not self._reason:
            scope = trio.CancelScope()
            self._scopes[id(scope)] = scope
            try:
                with scope:
                    return await work()
            finally:
                del self._scopes[id(scope)]
        raise ConnectionLost(self._reason)
