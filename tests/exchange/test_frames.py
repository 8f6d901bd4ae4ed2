"""The lean frame reader against an independent WebSocket library, in any slices, and against rubbish."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from bot.errors import BadReply
from bot.exchange.frames import (
    CLOSE,
    FRAGMENTS_MAX,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
    FrameReader,
    client_frame,
    close_code,
)

MOST = 2**16 + 100

texts = st.text(max_size=300) | st.integers(120, MOST // 4).map(lambda size: "é" * size)
events = st.lists(
    texts.map(lambda text: TextMessage(data=text)) | st.binary(max_size=125).map(lambda data: Ping(payload=data))
)


def sliced(data: bytes, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    slices: list[bytes] = []
    while data:
        size = rng.choice((1, 2, 3, 50, 5000))
        slices.append(data[:size])
        data = data[size:]
    return slices


def read(slices: list[bytes], message_bytes_max: int = MOST) -> tuple[list[bytes], FrameReader]:
    reader = FrameReader(message_bytes_max)
    messages = [message for data in slices for message in reader.feed(data)]
    return messages, reader


@given(events, st.integers(0, 10**6))
def test_what_another_library_wrote_is_read_in_any_slices(sent: list[Event], seed: int) -> None:
    server = Connection(ConnectionType.SERVER)
    wire = b"".join(server.send(event) for event in sent)
    messages, reader = read(sliced(wire, seed))
    assert messages == [event.data.encode() for event in sent if isinstance(event, TextMessage)]
    assert [control.payload for control in reader.controls] == [bytes(x.payload) for x in sent if isinstance(x, Ping)]


@given(st.lists(st.text(max_size=200), min_size=1, max_size=10), st.integers(0, 10**6))
def test_a_message_in_fragments_is_one_message_and_may_have_pings_inside(parts: list[str], seed: int) -> None:
    server = Connection(ConnectionType.SERVER)
    wire = b"".join(
        server.send(TextMessage(data=part, message_finished=number == len(parts) - 1)) + server.send(Ping(payload=b"p"))
        for number, part in enumerate(parts)
    )
    messages, reader = read(sliced(wire, seed))
    assert messages == ["".join(parts).encode()]
    assert len(reader.controls) == len(parts)


@given(st.binary(max_size=70_000), st.sampled_from([TEXT, PING, PONG]))
def test_another_library_reads_what_we_write(payload: bytes, opcode: int) -> None:
    payload = payload.hex().encode() if opcode == TEXT else payload[:125]
    server = Connection(ConnectionType.SERVER)
    server.receive_data(client_frame(opcode, payload, os.urandom(4)))
    (event,) = server.events()
    assert isinstance(event, TextMessage | Ping | Pong)
    received = event.data.encode() if isinstance(event, TextMessage) else bytes(event.payload)
    assert received == payload


def test_a_close_is_told_with_its_code_and_ends_the_reading() -> None:
    server = Connection(ConnectionType.SERVER)
    wire = server.send(TextMessage(data="last")) + server.send(CloseConnection(code=1000, reason="end"))
    messages, reader = read([wire + b"\x81\x01x"])
    assert messages == [b"last"]
    assert reader.controls[0].opcode == CLOSE
    assert close_code(reader.controls[0].payload) == (1000, "end")
    assert close_code(b"") == (1005, "")


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"\x82\x01x", "0x2"),  # binary
        (b"\xc1\x01x", "reserved"),
        (b"\x81\x81\x00\x00\x00\x00x", "spoken|mask"),
        (b"\x81\xfe\x00\x80", "mask"),
        (b"\x80\x01x", "rest of none"),
        (b"\x01\x01x\x81\x01y", "inside another"),
        (b"\x09\x01x", "control"),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, "control"),
        (b"\x81\x7e\x00\x7d" + b"x" * 125, "shortest"),
        (b"\x81\x7f" + (2**15).to_bytes(8, "big"), "shortest"),
        (b"\x81\x7f" + (100 * 2**20).to_bytes(8, "big"), "most is"),
        (b"\x01\x00" + b"\x00\x00" * (FRAGMENTS_MAX + 1), "frames"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_refused(wire: bytes, words: str) -> None:
    with pytest.raises(BadReply, match=words):
        read([wire])


@pytest.mark.parametrize("wire", [b"\x81\x02\xff\xfe", b"\x01\x01\xc3\x80\x01x"])
def test_a_text_that_is_not_utf8_is_refused_with_its_close_code(wire: bytes) -> None:
    with pytest.raises(BrokenFrame, match="UTF-8") as broken:
        read([wire])
    assert broken.value.code == 1007


def test_messages_before_a_refused_frame_are_given_and_nothing_after_it() -> None:
    reader = FrameReader(MOST)
    assert reader.feed(b"\x81\x01a\x81\x01b\xf1\x00\x81\x01c") == [b"a", b"b"]
    assert reader.refusal is not None
    for _ in range(2):
        with pytest.raises(BrokenFrame, match="reserved"):
            reader.feed(b"\x81\x01d")


def test_a_large_message_is_refused_before_it_is_read() -> None:
    reader = FrameReader(1000)
    with pytest.raises(BadReply, match="1001 bytes"):
        reader.feed(b"\x81\x7e" + (1001).to_bytes(2, "big"))


def test_fragments_together_may_not_pass_the_bound() -> None:
    reader = FrameReader(200)
    part = b"x" * 120
    reader.feed(b"\x01\x78" + part)
    with pytest.raises(BadReply, match="more than 200 bytes"):
        reader.feed(b"\x80\x78" + part)


@given(st.binary(max_size=400))
def test_any_bytes_give_messages_or_a_bad_reply(data: bytes) -> None:
    reader = FrameReader(300)
    try:
        for byte in data:
            reader.feed(bytes((byte,)))
    except BadReply:
        return
    assert len(reader._buffer) <= 300 + 14


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xe8\xff"])
def test_a_close_that_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(BadReply):
        close_code(payload)
