"""WebSocket frames (RFC 6455) as bytes: a reader that makes whole text messages of what a socket gave, and a writer.

For the hot public feed only: on loopback it costs a tenth of a full WebSocket library. It knows no sockets and no JSON.
It is as strict as the RFC asks a client to be, and holds no more than one message of `message_bytes_max`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bot.errors import BadReply

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
CONTROL_BYTES_MAX: Final = 125
FRAGMENTS_MAX: Final = 1024
"""Frames that one message may be cut into: without a bound, empty ones could go on for ever."""
NO_STATUS: Final = 1005


class Control(NamedTuple):
    """A control frame: a ping wants its payload back as a pong, a close wants a close."""

    opcode: int
    payload: bytes


class FrameReader:
    """Takes bytes as they come, gives messages as they are whole."""

    __slots__ = ("_buffer", "_fragments", "_fragments_bytes", "_message_bytes_max", "controls")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = b""
        self._fragments: list[bytes] | None = None
        self._fragments_bytes = 0
        self.controls: list[Control] = []
        """Control frames that came, in order, for the caller to answer and to clear."""

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Return the text messages that `data` makes whole, oldest first. After a close frame nothing is read.

        Raises:
            BadReply: the peer broke the protocol, sent a binary message, or one larger than `message_bytes_max`.

        """
        buffer = self._buffer + data if self._buffer else bytes(data)
        size = len(buffer)
        at = 0
        messages: list[bytes] = []
        while size - at >= 2:
            first, length = buffer[at], buffer[at + 1]
            start = at + 2
            if length >= _LENGTH_16:
                if length & _MASKED:
                    raise BadReply("a server must not mask its frames")
                wide = 2 if length == _LENGTH_16 else 8
                start += wide
                if size < start:
                    break
                length = int.from_bytes(buffer[at + 2 : start], "big")
                self._check_wide(length, wide)
            end = start + length
            if first == _FINAL | TEXT and self._fragments is None and length <= self._message_bytes_max:
                if size < end:
                    break
                messages.append(buffer[start:end])
                at = end
                continue
            self._check(first, length)
            if size < end:
                break
            at = end
            message = self._take(first, buffer[start:end])
            if message is not None:
                messages.append(message)
            if first & _OPCODE == CLOSE:
                at = size
        self._buffer = buffer[at:] if at < size else b""
        return messages

    def _check_wide(self, length: int, wide: int) -> None:
        if length < _LENGTH_16 or (wide == 8 and length < 2**16):
            raise BadReply(f"a length of {length} in {wide} bytes, which is not the shortest form")
        if length > self._message_bytes_max:
            raise BadReply(f"a message of {length} bytes, the most is {self._message_bytes_max}")

    def _check(self, first: int, length: int) -> None:
        """Refuse a frame before its payload is waited for."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise BadReply("reserved bits are set, and no extension was agreed on")
        if opcode in (CLOSE, PING, PONG):
            if not first & _FINAL or length > CONTROL_BYTES_MAX:
                raise BadReply("a control frame that is cut, or longer than 125 bytes")
            return
        if opcode not in (TEXT, CONTINUATION):
            raise BadReply(f"frames of kind {opcode:#x} are not spoken here")
        if (opcode == CONTINUATION) != (self._fragments is not None):
            raise BadReply("a message inside another, or the rest of none")
        if self._fragments_bytes + length > self._message_bytes_max or len(self._fragments or ()) >= FRAGMENTS_MAX:
            raise BadReply(f"a message of more than {self._message_bytes_max} bytes or {FRAGMENTS_MAX} frames")

    def _take(self, first: int, payload: bytes) -> bytes | None:
        opcode = first & _OPCODE
        if opcode in (CLOSE, PING, PONG):
            self.controls.append(Control(opcode, payload))
            return None
        if self._fragments is None:
            self._fragments = []
        self._fragments.append(payload)
        self._fragments_bytes += len(payload)
        if not first & _FINAL:
            return None
        message = b"".join(self._fragments)
        self._fragments, self._fragments_bytes = None, 0
        return message


def client_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Return one whole frame from a client; `mask` is 4 unpredictable bytes."""
    length = len(payload)
    head = bytearray((_FINAL | opcode,))
    if length < _LENGTH_16:
        head.append(_MASKED | length)
    elif length < 2**16:
        head.append(_MASKED | _LENGTH_16)
        head += length.to_bytes(2, "big")
    else:
        head.append(_MASKED | _LENGTH_64)
        head += length.to_bytes(8, "big")
    repeated = mask * (length // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
    return bytes(head) + mask + masked.to_bytes(length, "big")


def close_code(payload: bytes) -> tuple[int, str]:
    """Return the status and the reason of a close frame; 1005 and nothing where it has none.

    Raises:
        BadReply: one byte alone, or a reason that is no UTF-8.

    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise BadReply("half a status in a close frame", payload)
    try:
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    except UnicodeDecodeError as error:
        raise BadReply("a close reason that is not UTF-8", payload) from error
