"""The lean WebSocket: our own frame reader on a trio stream, for the hot public feed.

It keeps the contract of `transport.WebSocket` at a tenth of its cost: one wake-up brings all frames that one read of
the socket holds. h11 parses the opening handshake. What is not spoken here (extensions, binary messages) is refused.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import SplitResult

import h11
import trio

from bot.core.text import safe_text
from bot.errors import BadReply, ConnectionLost
from bot.exchange import transport
from bot.exchange.frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    UNSUPPORTED_DATA,
    BrokenFrame,
    FrameReader,
    client_frame,
    close_code,
)
from bot.exchange.transport import (
    CLOSE_TIMEOUT_S,
    CLOSED_WITHOUT_A_WORD,
    HANDSHAKE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    REASON_LENGTH_MAX,
    OpenTcp,
    Stream,
    checked_url,
    connect,
    refusal,
)

ANSWER_TIMEOUT_S: Final = 1.0
"""How long a pong or a goodbye may take: so long a cancelled reader waits at most."""
READ_BYTES: Final = 64 * 1024
"""Bytes taken at once, some 200 frames of a book: more would let nobody else run for milliseconds."""
NORMAL_CLOSURE: Final = 1000
SWITCHING_PROTOCOLS: Final = 101
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class LeanWebSocket:
    """An open WebSocket of text messages; made by `open_lean_websocket`. One task may send, another receive."""

    def __init__(self, stream: Stream, reader: FrameReader) -> None:
        self._stream = stream
        self._reader = reader
        self._messages: deque[bytes] = deque()
        """Whole and not yet received."""
        self._sending = trio.Lock()
        self._lost: ConnectionLost | BadReply | None = None
        self._is_leaving = False

    async def receive(self) -> bytes:
        """Return the next message; those that came before the end of the connection are still returned.

        Raises:
            ConnectionLost: the connection is gone, with its close code and reason.
            BadReply: the message is binary.

        """
        while not self._messages:
            await self._read()
        return self._messages.popleft()

    async def receive_many(self) -> list[bytes]:
        """Return every message that is there, at least one, oldest first. Raises as `receive` does."""
        while not self._messages:
            await self._read()
        waiting = list(self._messages)
        self._messages.clear()
        return waiting

    async def send(self, text: str | bytes) -> None:
        """Send one text message; the connection is dropped if that is cancelled or takes `SEND_TIMEOUT_S`."""
        await self._write(TEXT, text.encode() if isinstance(text, str) else text)

    async def say_goodbye(self) -> None:
        """Close politely, unless the peer does not answer within `CLOSE_TIMEOUT_S`."""
        if self._lost is not None:
            return
        self._is_leaving = True
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            try:
                await self._write(CLOSE, NORMAL_CLOSURE.to_bytes(2, "big"))
                while True:
                    self._messages.clear()
                    await self._read()
            except (ConnectionLost, BadReply):
                pass  # it is closed, one way or another

    async def _read(self) -> None:
        """Take what one read of the socket gives, and answer the peer's control frames."""
        if self._lost is not None:
            raise self._lost
        address = self._stream.address
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError as error:
            raise self._end(ConnectionLost(f"{address}: {_cause(error)}", code=CLOSED_WITHOUT_A_WORD)) from error
        except trio.ClosedResourceError as error:
            raise self._end(ConnectionLost(f"{address}: closed by us", code=CLOSED_WITHOUT_A_WORD)) from error
        if not data:
            lost = ConnectionLost(f"{address}: closed with {CLOSED_WITHOUT_A_WORD}", code=CLOSED_WITHOUT_A_WORD)
            raise self._end(lost)
        await self.take(data)

    async def take(self, data: bytes | bytearray) -> None:
        """Take bytes that came from the peer."""
        try:
            self._messages.extend(self._reader.feed(data))
            if self._reader.controls:
                await self._answer_controls()
            if self._reader.refusal is not None:
                raise self._reader.refusal
        except BrokenFrame as error:
            await self._refuse(error)

    async def _refuse(self, error: BrokenFrame) -> None:
        """End the connection for what the peer sent; messages before it can still be received."""
        address = self._stream.address
        if error.code == UNSUPPORTED_DATA:
            lost = BadReply(f"{address}: a binary message")
        else:
            lost = ConnectionLost(f"{address}: closed with {error.code}: {error}", code=error.code, reason=str(error))
        lost.__cause__ = error
        self._end(lost)
        await trio.aclose_forcefully(self._stream)

    async def _answer_controls(self) -> None:
        controls, self._reader.controls = self._reader.controls, []
        try:
            for control in controls:
                if control.opcode == PING:
                    await self._write(PONG, control.payload)
                elif control.opcode == CLOSE:
                    code, text = close_code(control.payload)
                    reason = safe_text(text, REASON_LENGTH_MAX)
                    lost = ConnectionLost(
                        f"{self._stream.address}: closed with {code}{': ' if reason else ''}{reason}",
                        code=code,
                        reason=reason,
                    )
                    if self._is_leaving:  # that is the answer to ours
                        self._end(lost)
                    else:
                        await self._write(CLOSE, control.payload[:2], last=lost)
        except (ConnectionLost, BadReply) as error:
            if isinstance(error, BrokenFrame):
                raise
            # The way back is gone: what came before that can still be received, then this is told.

    def _end(self, lost: ConnectionLost | BadReply) -> ConnectionLost | BadReply:
        self._lost = self._lost or lost
        return self._lost

    async def _write(self, opcode: int, payload: bytes, last: ConnectionLost | None = None) -> None:
        """Write one frame; after it, or if that fails, `last` is why the connection is gone."""
        if self._lost is not None:
            raise self._lost
        if last is not None:
            self._end(last)
        address = self._stream.address
        frame = client_frame(opcode, payload, secrets.token_bytes(4))
        is_sent = False
        # A reader that is cancelled while it answers a ping must not lose the connection over it.
        is_answer = opcode != TEXT
        timeout_s = min(ANSWER_TIMEOUT_S, transport.SEND_TIMEOUT_S) if is_answer else transport.SEND_TIMEOUT_S
        try:
            with trio.fail_after(timeout_s, shield=is_answer):
                async with self._sending:
                    await self._stream.send_all(frame)
            is_sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            lost = ConnectionLost(f"{address}: {_cause(error)}", code=CLOSED_WITHOUT_A_WORD)
            raise self._end(lost) from error
        except trio.TooSlowError as late:
            lost = ConnectionLost(f"{address}: could not send within {timeout_s:g} s")
            raise self._end(lost) from late
        finally:
            if not is_sent:  # half a frame may be on the wire
                await trio.aclose_forcefully(self._stream)


def _cause(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {safe_text(str(cause), REASON_LENGTH_MAX)}"


@asynccontextmanager
async def open_lean_websocket(
    url: str,
    *,
    connect_timeout_s: float,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
    user_agent: str = "",
    open_tcp: OpenTcp | None = None,
) -> AsyncGenerator[LeanWebSocket]:
    """Open a WebSocket as `transport.open_websocket` does; it raises what that raises."""
    parts = checked_url(url, "ws")
    address = f"{parts.scheme}://{parts.netloc}"
    deadline = trio.current_time() + connect_timeout_s
    stream = await connect(parts, address, deadline, open_tcp)
    try:
        try:
            with trio.fail_at(deadline):
                socket = await _shake_hands(stream, parts, message_bytes_max, user_agent)
        except trio.TooSlowError as late:
            raise ConnectionLost(f"{address}: no handshake in time") from late
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"{address}: {_cause(error)}") from error
        yield socket
        await socket.say_goodbye()
    finally:
        await trio.aclose_forcefully(stream)


async def _shake_hands(stream: Stream, parts: SplitResult, message_bytes_max: int, user_agent: str) -> LeanWebSocket:
    key = base64.b64encode(secrets.token_bytes(16))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HANDSHAKE_BYTES_MAX)
    request = h11.Request(
        method="GET",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=[
            (b"Host", parts.netloc.encode()),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Key", key),
            (b"Sec-WebSocket-Version", b"13"),
            *([(b"User-Agent", user_agent.encode())] if user_agent else []),
        ],
    )
    await stream.send_all(http.send(request) + http.send(h11.EndOfMessage()))
    reply = await _reply(stream, http)
    headers = {bytes(name).lower(): bytes(value) for name, value in reply.headers}
    if reply.status_code != SWITCHING_PROTOCOLS:
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        raise refusal(stream.address, reply.status_code, texts)
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())
    if headers.get(b"sec-websocket-accept") != accept or headers.get(b"upgrade", b"").lower() != b"websocket":
        raise ConnectionLost(f"{stream.address}: the peer broke the protocol: no consent to a WebSocket")
    if b"sec-websocket-extensions" in headers or b"sec-websocket-protocol" in headers:
        raise ConnectionLost(f"{stream.address}: the peer broke the protocol: it agreed to what was not offered")
    socket = LeanWebSocket(stream, FrameReader(message_bytes_max))
    trailing, _ = http.trailing_data
    if trailing:  # frames that came together with the consent
        await socket.take(trailing)
    return socket


async def _reply(stream: Stream, http: h11.Connection) -> h11.Response | h11.InformationalResponse:
    received = 0
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            words = safe_text(str(error), REASON_LENGTH_MAX)
            raise ConnectionLost(f"{stream.address}: the peer broke the protocol: {words}") from error
        if isinstance(event, h11.Response | h11.InformationalResponse):
            return event
        if event is not h11.NEED_DATA:
            raise ConnectionLost(f"{stream.address}: closed during the handshake")
        data = await stream.receive_some(READ_BYTES)
        if not data:
            raise ConnectionLost(f"{stream.address}: closed during the handshake")
        received += len(data)
        if received > HANDSHAKE_BYTES_MAX:
            raise ConnectionLost(f"{stream.address}: an endless handshake")
        http.receive_data(bytes(data))
