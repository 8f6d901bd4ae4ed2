from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.core.secret import Secret
from bot.errors import SettingsError
from bot.exchange.poloniex.signing import (
    Credentials,
    Freshness,
    encoded,
    freshness,
    is_signed,
    is_websocket_signed,
    query_text,
    sign,
    websocket_signature,
)

VECTORS = Path(__file__).parents[4] / "shared" / "poloniex" / "signing-vectors.json"
CREDENTIALS = Credentials(Secret("KEY"), Secret("s3cr3t"))
NOW_MS = 1_700_000_000_000

Vector = dict[str, Any]


def vectors() -> list[Vector]:
    return cast("list[Vector]", json.loads(VECTORS.read_text())["vectors"]) if VECTORS.is_file() else []


def of_kind(kind: str, *policies: str) -> list[Any]:
    return [
        pytest.param(vector, id=vector["id"])
        for vector in vectors()
        if vector["kind"] == kind and vector["server_policy"] in (policies or ("accept", "reject"))
    ]


def by_ccxt() -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in vectors() if vector.get("ccxt")]


def credentials_of(vector: Vector) -> Credentials:
    return Credentials(Secret(vector["key"]), Secret(vector["secret"]))


def headers_of(vector: Vector, signature: str) -> dict[str, str]:
    return {"key": vector["key"], "signTimestamp": vector["timestamp"], "signature": signature}


def test_all_57_vectors_are_at_hand() -> None:
    if not VECTORS.is_file():
        pytest.skip(f"the signing vectors are not at hand in {VECTORS}")
    assert len(vectors()) == 57
    assert sum(vector["server_policy"] == "reject" for vector in vectors()) == 2


@pytest.mark.parametrize("vector", of_kind("rest"))
def test_the_official_clients_requests_are_accepted_and_the_others_refused(vector: Vector) -> None:
    body = vector["body"].encode()
    headers = headers_of(vector, vector["expected_signature"])
    secret = Secret(vector["secret"])
    is_valid = is_signed(secret, vector["method"], vector["wire_path"], vector["query_string"], body, headers)
    assert is_valid is (vector["server_policy"] == "accept")


@pytest.mark.parametrize("vector", by_ccxt())
def test_ccxts_requests_are_accepted(vector: Vector) -> None:
    ccxt = vector["ccxt"]
    headers = headers_of(vector, ccxt["signature"])
    body = ccxt["body"].encode()
    secret = Secret(vector["secret"])
    assert is_signed(secret, vector["method"], ccxt["wire_path"], ccxt["query_string"], body, headers)


@pytest.mark.parametrize("vector", of_kind("rest", "accept"))
def test_we_sign_as_the_official_client_does(vector: Vector) -> None:
    params = cast("dict[str, object]", vector["params"])
    if vector["body"] or not all(isinstance(value, str | int) for value in params.values()):
        query = ""
    else:
        query = query_text((name, str(value)) for name, value in params.items())
    body = vector["body"].encode()
    signed = sign(credentials_of(vector), vector["method"], vector["path"], query, body, int(vector["timestamp"]))
    assert signed["signature"] == vector["expected_signature"]


@pytest.mark.parametrize("vector", of_kind("ws-auth"))
def test_a_private_socket_is_opened_as_the_official_client_does(vector: Vector) -> None:
    secret = Secret(vector["secret"])
    assert websocket_signature(secret, int(vector["timestamp"])) == vector["expected_signature"]
    assert is_websocket_signed(secret, vector["timestamp"], vector["expected_signature"])
    assert not is_websocket_signed(secret, str(int(vector["timestamp"]) + 1), vector["expected_signature"])


def test_the_headers_are_complete() -> None:
    headers = sign(CREDENTIALS, "GET", "/accounts", "", b"", NOW_MS, recv_window_ms=4321)
    assert headers.keys() == {"key", "signTimestamp", "signature", "recvWindow"}
    assert (headers["key"], headers["signTimestamp"], headers["recvWindow"]) == ("KEY", str(NOW_MS), "4321")


def test_names_are_sorted_by_their_bytes() -> None:
    # The same signature whatever the order on the wire: Alpha, alpha, from, signTimestamp, zeta.
    query = query_text([("zeta", "1"), ("Alpha", "2"), ("alpha", "3"), ("from", "0")])
    other = query_text([("from", "0"), ("alpha", "3"), ("Alpha", "2"), ("zeta", "1")])
    assert sign(CREDENTIALS, "GET", "/x", query, b"", 1) == sign(CREDENTIALS, "GET", "/x", other, b"", 1)


names = st.text(min_size=1, max_size=8).filter(lambda text: text != "signTimestamp" and text.isprintable())
texts = st.text(max_size=12).filter(lambda text: not any("\ud800" <= mark <= "\udfff" for mark in text))
params_of = st.dictionaries(names, texts, max_size=5)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE"])


@given(method=methods, params=params_of, cid=texts, at_ms=st.integers(0, 10**15))
def test_what_we_sign_is_accepted(method: str, params: dict[str, str], cid: str, at_ms: int) -> None:
    path, query = f"/orders/cid:{encoded(cid)}", query_text(params.items())
    headers = sign(CREDENTIALS, method, path, query, b"", at_ms)
    assert is_signed(CREDENTIALS.secret, method, path, query, b"", headers)
    assert not is_signed(Secret("other"), method, path, query, b"", headers)


@given(method=methods, body=st.binary(min_size=1, max_size=60), at_ms=st.integers(0, 10**15))
def test_a_body_is_signed_byte_for_byte(method: str, body: bytes, at_ms: int) -> None:
    headers = sign(CREDENTIALS, method, "/orders", "", body, at_ms)
    assert is_signed(CREDENTIALS.secret, method, "/orders", "", body, headers)
    assert not is_signed(CREDENTIALS.secret, method, "/orders", "", body + b" ", headers)
    assert not is_signed(CREDENTIALS.secret, method, "/orders", "", b"", headers)


@given(params=params_of, other=params_of)
def test_another_query_is_refused(params: dict[str, str], other: dict[str, str]) -> None:
    # A server that tries the decoded form cannot tell "a=1&b=2" from a value that holds an ampersand.
    assume(not any(mark in text for text in [*params.values(), *params, *other.values(), *other] for mark in "&=%+"))
    assume(params != other)
    headers = sign(CREDENTIALS, "GET", "/orders", query_text(params.items()), b"", NOW_MS)
    assert not is_signed(CREDENTIALS.secret, "GET", "/orders", query_text(other.items()), b"", headers)


@given(
    query=st.text(max_size=30), path=st.text(max_size=30), signature=st.text(max_size=50), stamp=st.text(max_size=20)
)
def test_any_garbage_is_refused_without_an_error(query: str, path: str, signature: str, stamp: str) -> None:
    assume(not any("\ud800" <= mark <= "\udfff" for mark in path))
    headers = {"SIGNATURE": signature, "signtimestamp": stamp}
    assert not is_signed(CREDENTIALS.secret, "GET", path, query, b"", headers)
    assert not is_websocket_signed(CREDENTIALS.secret, stamp, signature)


@pytest.mark.parametrize("query", ["a=1&a=2", "a=1&signTimestamp=5", "a=1&%61=2"])
def test_a_repeated_name_is_refused(query: str) -> None:
    headers = sign(CREDENTIALS, "GET", "/orders", query, b"", NOW_MS)
    assert not is_signed(CREDENTIALS.secret, "GET", "/orders", query, b"", headers)


def test_header_names_are_read_in_any_case() -> None:
    headers = {name.upper(): value for name, value in sign(CREDENTIALS, "GET", "/x", "", b"", NOW_MS).items()}
    assert is_signed(CREDENTIALS.secret, "GET", "/x", "", b"", headers)


@pytest.mark.parametrize(
    ("age_ms", "window", "expected"),
    [
        (0, "5000", Freshness.FRESH),
        (5_000, "5000", Freshness.FRESH),
        (5_001, "5000", Freshness.STALE),
        (-1_000, "5000", Freshness.FRESH),
        (-1_001, "5000", Freshness.AHEAD),
        (60_000, None, Freshness.FRESH),
        (60_001, None, Freshness.STALE),
        (0, "soon", Freshness.UNREADABLE),
        (0, "-5", Freshness.UNREADABLE),
    ],
)
def test_a_request_is_fresh_within_its_window(age_ms: int, window: str | None, expected: Freshness) -> None:
    headers = {"signTimestamp": str(NOW_MS - age_ms)} | ({} if window is None else {"recvWindow": window})
    assert freshness(headers, NOW_MS) is expected


@pytest.mark.parametrize("stamp", ["", "now", "1" * 20, "-1", "1.5"])
def test_a_time_that_is_none_is_unreadable(stamp: str) -> None:
    assert freshness({"signTimestamp": stamp}, NOW_MS) is Freshness.UNREADABLE


@pytest.mark.parametrize(
    ("key", "secret"), [("with space", "fine"), ("line\nend", "fine"), ("\u00e9", "fine"), ("fine", "line end\n")]
)
def test_a_key_that_was_not_copied_whole_is_refused_unseen(key: str, secret: str) -> None:
    with pytest.raises(SettingsError) as error:
        Credentials(Secret(key), Secret(secret))
    assert key not in str(error.value)
    assert secret not in str(error.value)


def test_credentials_print_nothing() -> None:
    assert "s3cr3t" not in repr(CREDENTIALS)
    assert "KEY" not in repr(CREDENTIALS)
