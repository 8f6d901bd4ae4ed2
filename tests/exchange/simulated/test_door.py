"""The official SDK's and ccxt's signed requests, as their bytes came, at the door of the exchange."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.exchange.simulated.accounts import Accounts, Funding
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.replies import Refusal, Request
from tests.exchange.simulated.builders import RECORDINGS, START_NS, Json

VECTORS = RECORDINGS.parent / "poloniex" / "signing-vectors.json"


def vectors() -> list[Json]:
    return msgspec.json.decode(VECTORS.read_bytes())["vectors"] if VECTORS.is_file() else []


def door_of(vector: Json, *, secret: str | None = None) -> Door:
    accounts = Accounts()
    accounts.open(Funding(vector["key"], secret or vector["secret"], {}, {}), START_NS)
    return Door(accounts)


def is_admitted(door: Door, vector: Json, sent: Json, signature: str) -> bool:
    headers = {"key": vector["key"], "signtimestamp": vector["timestamp"], "signature": signature}
    body = sent["body"].encode()
    request = Request(vector["method"], sent["wire_path"], sent["query_string"], headers, body, 0.0, "")
    try:
        return door.admit(request, int(vector["timestamp"])).key == vector["key"]
    except Refusal as refusal:
        if refusal.code != 401:
            raise
        return False


@pytest.mark.skipif(not VECTORS.is_file(), reason=f"no signing vectors at {VECTORS}")
def test_the_vectors_are_let_in_or_refused_as_they_say() -> None:
    counts = {"accept": 0, "reject": 0, "ccxt": 0, "socket": 0}
    for vector in vectors():
        expected = vector["server_policy"]
        if vector["kind"] == "rest":
            counts[expected] += 1
            is_good = expected == "accept"
            assert is_admitted(door_of(vector), vector, vector, vector["expected_signature"]) is is_good, vector["id"]
            assert not is_admitted(door_of(vector, secret="wrong"), vector, vector, vector["expected_signature"])
            if (peer := vector.get("ccxt")) is not None:
                counts["ccxt"] += 1
                is_good = peer["server_policy"] == "accept"
                assert is_admitted(door_of(vector), vector, peer, peer["signature"]) is is_good, vector["id"]
        else:
            counts["socket"] += 1
            assert opens_a_socket(vector, vector["expected_signature"])
            assert not opens_a_socket(vector, vector["expected_signature"][::-1])
    assert counts == {"accept": 51, "reject": 2, "ccxt": 47, "socket": 4}


def opens_a_socket(vector: Json, signature: str) -> bool:
    timestamp: Any = vector["timestamp"]
    return door_of(vector).admit_socket(vector["key"], timestamp, signature, int(timestamp)) is not None


def test_the_limits_of_one_second_are_forgotten_in_the_next() -> None:
    door = Door(Accounts())
    for now_s in (0.0, 0.5, 1.0):
        for _ in range(2 if now_s != 0.5 else 0):
            door.count("ann", "light", 2, now_s)
    for who, group in (("ann", "light"),):
        with pytest.raises(Refusal):
            door.count(who, group, 2, 1.9)
    door.count("bob", "light", 2, 1.9)
    door.count("ann", "heavy", 2, 1.9)
