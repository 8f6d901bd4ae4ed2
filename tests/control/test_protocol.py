"""The control protocol: what goes in comes out, and nonsense is refused by name."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.control.protocol import (
    Answer,
    Attach,
    Command,
    Lost,
    Note,
    Reply,
    Request,
    Status,
    Verb,
    decode_answer,
    decode_request,
    encode,
)
from bot.errors import BadReply
from tests.control.samples import NOW_NS, busy_view, hello, latch, research, view

REARM = Command(id="a1", verb="rearm", subject="drawdown", equity="-9874.50", is_new_baseline=True)
REQUESTS: list[Request] = [
    Attach(),
    Status(),
    Command(id="a1", verb="halt"),
    Command(id="", verb="stop"),
    REARM,
    research(),
]
ANSWERS: list[Answer] = [
    hello(),
    view(),
    view(equity=None, day_pnl=None, progress=(3, 9)),
    busy_view(latches=(latch(),)),
    Note(ts_ns=NOW_NS, level="warning", text="connection lost"),
    Lost(count=12),
    Reply(id="a1", is_ok=True, text="HALTED"),
    research(left_s=None, is_over=True),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_request_survives_the_wire(request_: Request) -> None:
    line = encode(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_request(line) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_survives_the_wire(answer: Answer) -> None:
    line = encode(answer)
    assert line.count(b"\n") == 1
    assert decode_answer(line) == answer


def test_every_verb_is_understood() -> None:
    verbs = [verb for group in get_args(Verb) for verb in get_args(group) or (group,)]
    assert "stop" in verbs
    for verb in verbs:
        assert decode_request(json.dumps({"type": "Command", "id": "x", "verb": verb}).encode()) == Command(
            id="x", verb=verb
        )


NONSENSE = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"GET / HTTP/1.1",
    b'{"type":"Reply","id":"x","is_ok":true,"text":""}',
    b'{"type":"Command","id":"x","verb":"buy"}',
    b'{"type":"Command","id":1,"verb":"halt"}',
    b'{"type":"Command","id":"' + b"x" * 65 + b'","verb":"halt"}',
    b'{"type":"Command","id":"\xff","verb":"halt"}',
    b'{"type":"Attach","x":' + b"[" * 30_000,
    b'{"type":"Research","id":"x","name":"y","done":-1,"total":1,"rate":1}',
    b'{"type":"Research","id":"x","name":"y","done":1,"total":9007199254740993,"rate":1}',
    b'{"type":"Research","id":"x","name":"y","done":1,"total":1,"rate":1e400}',
    b'{"type":"Research","id":"x","name":"y","done":1,"total":1,"rate":1,"left_s":-1}',
    b'{"type":"Research","id":"x","name":"' + b"y" * 121 + b'","done":1,"total":1,"rate":1}',
]


@pytest.mark.parametrize("line", NONSENSE, ids=lambda line: repr(line[:30]))
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(BadReply, match="not a request"):
        decode_request(line)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    _decodes_or_is_refused(line)


_SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_JSON = _SCALAR | st.lists(_SCALAR, max_size=3) | st.sampled_from(["Command", "halt", "Attach"])


@given(
    st.dictionaries(
        st.sampled_from(["type", "id", "verb", "x"]), _JSON | st.sampled_from(["Command", "halt", "Attach"])
    )
)
def test_any_object_is_a_request_or_refused(document: dict[str, object]) -> None:
    _decodes_or_is_refused(json.dumps(document).encode())


@given(st.sampled_from(REQUESTS), st.data())
def test_a_request_with_a_byte_changed_is_a_request_or_refused(request_: Request, data: st.DataObject) -> None:
    line = bytearray(encode(request_))
    line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    _decodes_or_is_refused(bytes(line))


def _decodes_or_is_refused(line: bytes) -> None:
    try:
        decoded = decode_request(line)
    except BadReply:
        return
    assert isinstance(decoded, get_args(Request))
    assert decode_request(encode(decoded)) == decoded


@pytest.mark.parametrize(
    "equity", ["NaN", "Infinity", "1e9", " 1", "1,000", "+1", "1.", ".5", "1" * 16, "0." + "1" * 13]
)
def test_evidence_that_is_no_plain_number_is_refused(equity: str) -> None:
    line = encode(REARM).replace(b"-9874.50", equity.encode())
    with pytest.raises(BadReply, match="not a request"):
        decode_request(line)
