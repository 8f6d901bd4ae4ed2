"""How faults look on sockets: answers that drip, answers that never come, connections that break."""

from __future__ import annotations

import struct
from typing import Final

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

from bot.exchange.simulated.faults import Ending
from bot.exchange.simulated.replies import Reply

DRIPS_A_SECOND: Final = 10
_LINGER_OFF: Final = struct.pack("ii", 1, 0)


def break_stream(stream: trio.SocketStream, *, is_reset: bool) -> None:
    """End a TCP connection now, without a word; with a reset its peer gets an error instead of an end."""
    if is_reset and stream.socket.fileno() != -1:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, _LINGER_OFF)
    # hypercorn shields its sending, so that only a closed socket ends it.
    stream.socket.close()


async def lose_answer(ending: Ending, stream: trio.SocketStream | None, receive: ASGIReceiveCallable) -> None:
    """Let a client wait for an answer that never comes, or learn that none comes."""
    if ending == "silence" or stream is None:
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        break_stream(stream, is_reset=ending == "reset")


async def send_reply(
    send: ASGISendCallable, reply: Reply, *, retry_after_s: int | None = None, bytes_per_s: float | None = None
) -> None:
    """Send the answer to a request; with `bytes_per_s` its body drips."""
    body = reply.body
    kind = b"text/html" if body.startswith(b"<") else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if bytes_per_s is not None:
        size = max(1, round(bytes_per_s / DRIPS_A_SECOND))
        for at in range(0, len(body), size):
            await trio.sleep(size / bytes_per_s)
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})
