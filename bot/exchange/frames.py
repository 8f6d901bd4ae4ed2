"""WebSocket frames (RFC 6455) as bytes: a reader that makes whole text messages of what a socket gave, and a writer.

For the hot public feed only: on loopback it costs a tenth of a full WebSocket library. It knows no sockets and no JSON.
It is as strict as the RFC asks a client to be, and holds no more than one message of `message_bytes_max`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bot.errors import BadReply

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
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
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
BAD_TEXT: Final = 1007
TOO_BIG: Final = 1009


class BrokenFrame(BadReply):
    """A frame that is refused. `code` is the close code for it (RFC 6455, 7.4.1)."""

    def __init__(self, message: str, *, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


class Control(NamedTuple):
    """A control frame: a ping wants its payload back as a pong, a close wants a close."""

    opcode: int
    payload: bytes


class FrameReader:
    """Takes bytes as they come, gives messages as they are whole."""

    __slots__ = ("_buffer", "_fragments", "_fragments_bytes", "_message_bytes_max", "controls", "refusal")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = b""
        self._fragments: list[bytes] | None = None
        self._fragments_bytes = 0
        self.controls: list[Control] = []
        """Control frames that came, in order, for the caller to answer and to clear."""
        self.refusal: BrokenFrame | None = None
        """Why nothing more is read, once a frame was refused."""

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """Return the text messages that `data` makes whole, oldest first. After a close frame nothing is read.

        Messages before a frame that is refused are still returned: then `refusal` is set, and the next call raises it.

        Raises:
            BrokenFrame: the peer broke the protocol, sent a binary message, or one larger than `message_bytes_max`.

        """
        if self.refusal is not None:
            raise self.refusal
        messages: list[bytes] = []
        try:
            self._read(self._buffer + data if self._buffer else bytes(data), messages)
        except BrokenFrame as error:
            self.refusal = error
            if not messages:
                raise
        return messages

    def _read(self, buffer: bytes, messages: list[bytes]) -> None:
        size = len(buffer)
        at = 0
        while size - at >= 2:
            first, length = buffer[at], buffer[at + 1]
            start = at + 2
            if length >= _LENGTH_16:
                if length & _MASKED:
                    raise BrokenFrame("a server must not mask its frames")
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
                messages.append(_text(buffer[start:end]))
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

    def _check_wide(self, length: int, wide: int) -> None:
        if length < _LENGTH_16 or (wide == 8 and length < 2**16):
            raise BrokenFrame(f"a length of {length} in {wide} bytes, which is not the shortest form")
        if length > self._message_bytes_max:
            raise BrokenFrame(f"a message of {length} bytes, the most is {self._message_bytes_max}", code=TOO_BIG)

    def _check(self, first: int, length: int) -> None:
        """Refuse a frame before its payload is waited for."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise BrokenFrame("reserved bits are set, and no extension was agreed on")
        if opcode in (CLOSE, PING, PONG):
            if not first & _FINAL or length > CONTROL_BYTES_MAX:
                raise BrokenFrame("a control frame that is cut, or longer than 125 bytes")
            return
        if opcode not in (TEXT, CONTINUATION):
            code = UNSUPPORTED_DATA if opcode == BINARY else PROTOCOL_ERROR
            raise BrokenFrame(f"frames of kind {opcode:#x} are not spoken here", code=code)
        if (opcode == CONTINUATION) != (self._fragments is not None):
            raise BrokenFrame("a message inside another, or the rest of none")
        if self._fragments_bytes + length > self._message_bytes_max or len(self._fragments or ()) >= FRAGMENTS_MAX:
            most = f"{self._message_bytes_max} bytes or {FRAGMENTS_MAX} frames"
            raise BrokenFrame(f"a message of more than {most}", code=TOO_BIG)

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
        return _text(message)


def _text(message: bytes) -> bytes:
    if not message.isascii():  # nearly never: to decode each message would be for nothing
        try:
            message.decode()
        except UnicodeDecodeError as error:
            raise BrokenFrame("a text message that is not UTF-8", code=BAD_TEXT) from error
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
        BrokenFrame: one byte alone, or a reason that is no UTF-8.

    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise BrokenFrame("half a status in a close frame")
    try:
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    except UnicodeDecodeError as error:
        raise BrokenFrame("a close reason that is not UTF-8", code=BAD_TEXT) from error
