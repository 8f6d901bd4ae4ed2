"""The port to the exchange: HTTP and WebSockets, of the real network or of a simulated one.

Implementations raise what `bot/exchange/transport.py` documents (`ConnectionLost`, `NotSent`, `RateLimited`,
`BadReply`) and keep its promises: a request is sent at most once, and an error says whether it may have arrived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from bot.exchange.lean_websocket import open_lean_websocket
from bot.exchange.transport import Response, open_http, open_websocket


class HttpPort(Protocol):
    """A client of one server; see `transport.Http`."""

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Response:
        """Return the answer to GET `path`, whatever its status."""
        ...

    async def request(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        start_within_s: float = math.inf,
        is_urgent: bool = False,
    ) -> Response:
        """Return the answer to a request, whatever its status; it is sent at most once."""
        ...


class SocketPort(Protocol):
    """An open WebSocket of text messages; see `transport.WebSocket`."""

    async def send(self, text: str | bytes) -> None:
        """Send one text message."""
        ...

    async def receive(self) -> bytes:
        """Return the next message."""
        ...

    async def receive_many(self) -> list[bytes]:
        """Return the messages that are there, at least one."""
        ...


class Network(Protocol):
    """Opens connections."""

    def open_http(
        self, base_url: str, *, connect_timeout_s: float, request_timeout_s: float, user_agent: str
    ) -> AbstractAsyncContextManager[HttpPort]:
        """Open a client of the server at `base_url`."""
        ...

    def open_websocket(
        self, url: str, *, connect_timeout_s: float, is_lean: bool = False
    ) -> AbstractAsyncContextManager[SocketPort]:
        """Open a WebSocket; `is_lean` asks for our own reader in the place of the library's."""
        ...


class Internet:
    """The real one, TLS verified; plain connections to this machine only."""

    def open_http(
        self, base_url: str, *, connect_timeout_s: float, request_timeout_s: float, user_agent: str
    ) -> AbstractAsyncContextManager[HttpPort]:
        """Open a client of the server at `base_url`."""
        return open_http(
            base_url, connect_timeout_s=connect_timeout_s, request_timeout_s=request_timeout_s, user_agent=user_agent
        )

    def open_websocket(
        self, url: str, *, connect_timeout_s: float, is_lean: bool = False
    ) -> AbstractAsyncContextManager[SocketPort]:
        """Open a WebSocket with trio-websocket, or with our own reader."""
        if is_lean:
            return open_lean_websocket(url, connect_timeout_s=connect_timeout_s)
        return open_websocket(url, connect_timeout_s=connect_timeout_s)


INTERNET: Final = Internet()
