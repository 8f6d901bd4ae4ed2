"""HTTP requests with any method and a body: sent at most once, byte for byte, and honest about their fate."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import ConnectionLost, NotSent
from bot.exchange import transport
from bot.exchange.poloniex.signing import encoded, query_text
from bot.exchange.transport import LANES, URGENT_LANES, Http, open_http
from tests.support.http_peer import Step, answers, free_port, hangs_up, is_silent, open_http_peer, resets, says


def http_at(url: str, request_timeout_s: float = 5.0) -> AbstractAsyncContextManager[Http]:
    return open_http(url, connect_timeout_s=2, request_timeout_s=request_timeout_s, user_agent="test")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_request_travels_as_it_was_given(method: str) -> None:
    body = None if method == "GET" else b'{"symbol": "BTC_USDT"}'
    async with open_http_peer(answers(b"yes")) as peer, http_at(peer.url) as http:
        reply = await http.request(
            method, "/orders/cid:a_b-c", "a=1%2C2&b=~!*'()", body=body, headers={"signature": "a+/=", "key": "K"}
        )
    head = peer.requests[0].decode()
    assert reply.body == b"yes"
    assert head.startswith(f"{method} /orders/cid:a_b-c?a=1%2C2&b=~!*'() HTTP/1.1\r\n")
    assert "signature: a+/=" in head
    assert peer.bodies == [body or b""]


async def test_a_delete_without_a_body_has_none() -> None:
    async with open_http_peer(answers()) as peer, http_at(peer.url) as http:
        await http.request("DELETE", "/orders/1")
    assert b"content" not in peer.requests[0].lower()


wire_text = st.text(max_size=15).filter(lambda text: not any("\ud800" <= mark <= "\udfff" for mark in text))


@given(params=st.dictionaries(wire_text.filter(bool), wire_text, max_size=4), segment=wire_text.filter(bool))
@settings(deadline=None, max_examples=50)
def test_what_is_encoded_for_a_signature_is_not_encoded_again(params: dict[str, str], segment: str) -> None:
    path, query = f"/orders/cid:{encoded(segment)}", query_text(params.items())

    async def main() -> bytes:
        async with open_http_peer(answers()) as peer, http_at(peer.url) as http:
            await http.request("GET", path, query)
        return peer.requests[0]

    target = f"{path}?{query}" if query else path
    assert trio.run(main).startswith(f"GET {target} HTTP/1.1".encode())


@pytest.mark.parametrize(
    "step",
    [resets, hangs_up, is_silent, says(b"garbage\r\n\r\n"), says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")],
    ids=["reset", "hang-up", "silence", "garbage", "half"],
)
async def test_a_lost_answer_is_not_asked_for_again_and_may_have_arrived(step: Step) -> None:
    async with open_http_peer(step, answers()) as peer, http_at(peer.url, 0.2) as http:
        with pytest.raises(ConnectionLost) as lost:
            await http.request("POST", "/orders", body=b"{}")
        await trio.sleep(0.3)
    assert lost.value.may_have_arrived
    assert len(peer.requests) == 1


async def test_a_refused_connection_sent_nothing() -> None:
    async with http_at(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(ConnectionLost) as lost:
            await http.request("POST", "/orders", body=b"{}")
    assert not lost.value.may_have_arrived
    assert not isinstance(lost.value, NotSent)


async def test_a_certificate_that_is_not_shown_sent_nothing() -> None:
    async with open_http_peer(answers()) as peer, http_at(peer.url.replace("http:", "https:")) as http:
        with pytest.raises(ConnectionLost) as lost:
            await http.request("POST", "/orders", body=b"{}")
    assert not lost.value.may_have_arrived
    assert peer.requests == []


async def fill(http: Http, nursery: trio.Nursery, *, is_urgent: bool = False) -> None:
    """Occupy every lane with a request that is never answered."""

    async def ask() -> None:
        with pytest.raises(ConnectionLost):
            await http.request("GET", "/busy", is_urgent=is_urgent)

    for _ in range(URGENT_LANES if is_urgent else LANES):
        nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked(0.02)


async def test_a_request_that_waits_too_long_for_its_turn_is_not_sent() -> None:
    async with open_http_peer(is_silent) as peer, trio.open_nursery() as nursery, http_at(peer.url) as http:
        await fill(http, nursery)
        with pytest.raises(NotSent, match=r"POST /orders: not sent, it waited for its turn for 0\.05 s") as error:
            await http.request("POST", "/orders", "", body=b"secret", start_within_s=0.05)
        assert not error.value.may_have_arrived
    assert not any(b"POST" in head for head in peer.requests)


async def test_a_request_that_waits_when_we_close_is_not_sent() -> None:
    fates: list[ConnectionLost] = []

    async def submit(http: Http) -> None:
        try:
            await http.request("POST", "/orders", body=b"{}")
        except ConnectionLost as error:
            fates.append(error)

    async with open_http_peer(is_silent) as peer, trio.open_nursery() as nursery, http_at(peer.url, 60) as http:
        for _ in range(LANES + 1):
            nursery.start_soon(submit, http)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert [fate.may_have_arrived for fate in fates].count(True) == LANES == len(peer.requests)
    assert [isinstance(fate, NotSent) for fate in fates].count(True) == 1


async def test_too_many_requests_and_a_closed_client_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REQUESTS_WAITING_MAX", 0)
    async with http_at("http://127.0.0.1:1") as http:
        with pytest.raises(NotSent, match="0 requests wait already"):
            await http.request("POST", "/orders", body=b"{}")
    with pytest.raises(NotSent, match="we are closing"):
        await http.request("POST", "/orders", body=b"{}")


async def test_a_write_whose_caller_left_before_its_turn_is_not_sent_and_one_under_way_goes_on() -> None:
    gate = trio.Event()

    async def held(stream: trio.SocketStream) -> None:
        await gate.wait()
        await answers()(stream)

    async with open_http_peer(held) as peer, http_at(peer.url) as http:
        async with trio.open_nursery() as nursery:
            for _ in range(LANES):
                nursery.start_soon(http.request, "POST", "/under-way")
            await trio.testing.wait_all_tasks_blocked(0.02)
            with trio.move_on_after(0.01):
                await http.request("POST", "/left")
            nursery.cancel_scope.cancel()
        gate.set()
        await http.request("POST", "/after")
    paths = sorted(head.split(b" ")[1] for head in peer.requests)
    assert paths == [b"/after", *[b"/under-way"] * LANES]


async def test_an_urgent_request_does_not_wait_behind_slow_answers() -> None:
    async def slow_unless_cancel(stream: trio.SocketStream) -> None:
        if peer.requests[-1].startswith(b"DELETE"):
            await answers(b"cancelled")(stream)

    async with (
        open_http_peer(slow_unless_cancel) as peer,
        trio.open_nursery() as nursery,
        http_at(peer.url) as http,
    ):
        await fill(http, nursery)
        with trio.fail_after(2):
            reply = await http.request("DELETE", "/orders/1", is_urgent=True)
        assert reply.body == b"cancelled"


async def test_an_error_names_the_call_and_nothing_of_what_it_carries() -> None:
    async with open_http_peer(resets) as peer, http_at(peer.url) as http:
        with pytest.raises(ConnectionLost) as lost:
            await http.request("POST", "/orders", "q=hidden", body=b"hidden", headers={"signature": "hidden"})
    assert str(lost.value).startswith("POST /orders: ")
    assert "hidden" not in str(lost.value)
