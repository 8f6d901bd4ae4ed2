"""A tiny HTTP peer on loopback that says exactly what its script says, byte by byte."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

Step = Callable[[trio.SocketStream], Awaitable[None]]
"""What the peer does with one request."""


@dataclass(slots=True)
class HttpPeer:
    """Answers request number n with step n of `script`; the last step answers all later ones."""

    script: list[Step]
    port: int = 0
    requests: list[bytes] = field(default_factory=list[bytes])
    """The head of each request, in the order they came."""
    bodies: list[bytes] = field(default_factory=list[bytes])
    """The body of each request, as long as its Content-Length says."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/public"

    async def serve(self, stream: trio.SocketStream) -> None:
        pending = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                pending += data
                while b"\r\n\r\n" in pending:
                    head, pending = pending.split(b"\r\n\r\n", 1)
                    size = content_length(head)
                    while len(pending) < size:
                        more = await stream.receive_some()
                        if not more:  # the client left in the middle of its body
                            return
                        pending += more
                    self.requests.append(head)
                    self.bodies.append(pending[:size])
                    pending = pending[size:]
                    step = self.script[min(len(self.requests), len(self.script)) - 1]
                    await step(stream)


def content_length(head: bytes) -> int:
    """Return how long a request's body is."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)


@asynccontextmanager
async def open_http_peer(*script: Step) -> AsyncGenerator[HttpPeer]:
    """Serve `script` on a free loopback port."""
    peer = HttpPeer(list(script))
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        peer.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, peer.serve, [listener])
        yield peer
        nursery.cancel_scope.cancel()


def says(*parts: bytes, pause_s: float = 0.0) -> Step:
    """Send `parts` as they are, with a pause after each."""

    async def step(stream: trio.SocketStream) -> None:
        for part in parts:
            await stream.send_all(part)
            await trio.sleep(pause_s)

    return step


def answers(body: bytes = b"{}", status: int = 200, headers: str = "") -> Step:
    """Send a whole answer; `headers` are lines that end in CRLF."""
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return says(head + body)


async def resets(stream: trio.SocketStream) -> None:
    """Reset the connection."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
    raise trio.ClosedResourceError


async def hangs_up(stream: trio.SocketStream) -> None:
    """Close the connection politely, without a word."""
    await stream.aclose()
    raise trio.ClosedResourceError


async def is_silent(stream: trio.SocketStream) -> None:
    """Say nothing, for ever."""
    del stream
    await trio.sleep_forever()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
