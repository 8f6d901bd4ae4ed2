"""The network and the disk of the simulated world: what they lose, delay and break looks as the real ones do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NoReturn

import pytest
import trio

from actors.simulation.clock import START_NS, SimulatedClock, VirtualClock
from actors.simulation.disk import Disk, DiskJournal
from actors.simulation.draws import Latencies, Latency, LatencyDraw, generator
from actors.simulation.network import MemoryNetwork
from actors.simulation.outages import (
    BadDisk,
    BrokenRequest,
    Delayed,
    LostPacket,
    NoName,
    Outage,
    Outages,
    Partition,
    SlowDisk,
    SocketsCut,
)
from actors.simulation.trace import Trace
from actors.simulation.wire_network import WireNetwork
from bot.core.instrument import ATOMS, Side
from bot.core.secret import Secret
from bot.errors import ConnectionLost, JournalError, NotSent
from bot.exchange.network import HttpPort, Network, SocketPort
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.codec import PING, subscribe_text
from bot.exchange.poloniex.outcome import Unknown
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.simulated import faults as f
from bot.exchange.simulated.accounts import Funding
from bot.exchange.simulated.faults import FaultSchedule
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.server import ExchangeTerms, SimulatedExchange, open_unconnected_exchange
from bot.storage.base import GENESIS, sealed

KEY, SECRET = "KEY", "secret"
STILL = Latency(median_ms=0.0, p99_ms=0.0)
TENTH = Latency(median_ms=100.0, p99_ms=100.0)
LATENCIES = Latencies(request=TENTH, answer=TENTH, frame=TENTH, commit=TENTH)
BTC = "BTC_USDT"
PUBLIC = "ws://127.0.0.1/ws/public"


@pytest.fixture
def virtual_clock() -> VirtualClock:
    return VirtualClock()


Tier = type[MemoryNetwork] | type[WireNetwork]
BOTH_TIERS = pytest.mark.parametrize("tier", [MemoryNetwork, WireNetwork], ids=["message", "wire"])


@dataclass
class Rig:
    """An exchange in memory, and one bot's network to it."""

    exchange: SimulatedExchange
    network: MemoryNetwork | WireNetwork
    trace: Trace

    def spot(self, http: HttpPort) -> SpotClient:
        clock = ServerClock(SpotClient(http).server_time_ms, wall_ns=SimulatedClock().now_ns)
        return SpotClient(http, credentials=Credentials(Secret(KEY), Secret(SECRET)), clock=clock)


@asynccontextmanager
async def rig(
    outages: Sequence[Outage] = (), faults: Sequence[f.FaultEvent] = (), tier: Tier = MemoryNetwork
) -> AsyncGenerator[Rig]:
    async with (
        open_unconnected_exchange(
            GeneratedMarket((BTC,), 1, START_NS),
            accounts=[Funding(KEY, SECRET, {"USDT": 10_000 * ATOMS}, {})],
            terms=ExchangeTerms(takes_wall_clock=False),
            faults=FaultSchedule(faults=tuple(faults)),
        ) as exchange,
        trio.open_nursery() as nursery,
    ):
        exchange.start()
        trace = Trace()
        network = tier(exchange, nursery, Outages(outages, 1), LATENCIES, generator(1, "network"), trace)
        yield Rig(exchange, network, trace)
        nursery.cancel_scope.cancel()


def http_of(network: Network) -> AbstractAsyncContextManager[HttpPort]:
    return network.open_http("http://127.0.0.1", connect_timeout_s=3.0, request_timeout_s=5.0, user_agent="test")


async def get(network: Network, path: str = "/timestamp") -> int:
    async with http_of(network) as http:
        return (await http.get(path)).status


# --- requests


async def test_a_request_takes_a_connection_there_and_back(virtual_clock: VirtualClock) -> None:
    async with rig() as made, http_of(made.network) as http:
        began_s = trio.current_time()
        assert (await http.get("/timestamp")).status == 200
        assert trio.current_time() - began_s == pytest.approx(0.4)
        began_s = trio.current_time()
        assert (await http.get("/markets")).status == 200
        assert trio.current_time() - began_s == pytest.approx(0.2), "the connection was there already"


@pytest.mark.parametrize(
    ("outage", "words", "may_have_arrived", "took_s"),
    [
        (LostPacket(at_s=0, for_s=99, way="out"), "ReadTimeout", True, 5.2),
        (LostPacket(at_s=0, for_s=99, way="in"), "ReadTimeout", True, 5.2),
        (BrokenRequest(at_s=0, for_s=99, way="out"), "ReadError: .Errno 104. Connection reset by peer$", True, 0.3),
        (BrokenRequest(at_s=0, for_s=99, way="in"), "ReadError: .Errno 104. Connection reset by peer$", True, 0.4),
        (NoName(at_s=0, for_s=99), "ConnectError: .Errno -3. Temporary failure in name resolution$", False, 0.1),
        (Partition(at_s=0, for_s=99), "ConnectTimeout", False, 3.0),
        (Delayed(at_s=0, for_s=99, delay=f.Fixed(s=30.0)), "ReadTimeout", True, 5.2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Outage) else "",
)
@BOTH_TIERS
async def test_a_failed_request_says_whether_it_may_have_arrived(
    virtual_clock: VirtualClock, tier: Tier, outage: Outage, words: str, may_have_arrived: bool, took_s: float
) -> None:
    async with rig([outage], tier=tier) as made:
        with pytest.raises(ConnectionLost, match=words) as caught:
            await get(made.network)
        assert caught.value.may_have_arrived is may_have_arrived
        assert trio.current_time() == pytest.approx(took_s, abs=0.25)


@pytest.mark.parametrize(
    ("ends", "words", "took_s"),
    [("close", "Server disconnected", 0.4), ("reset", "ReadError", 0.4), ("silence", "ReadTimeout", 5.2)],
)
@BOTH_TIERS
async def test_an_answer_that_the_exchange_loses_looks_as_on_a_socket(
    virtual_clock: VirtualClock, tier: Tier, ends: f.Ending, words: str, took_s: float
) -> None:
    async with rig(faults=[f.LostAnswer(ends=ends)], tier=tier) as made:
        with pytest.raises(ConnectionLost, match=words) as caught:
            await get(made.network)
        assert caught.value.may_have_arrived
        assert trio.current_time() == pytest.approx(took_s, abs=0.25)


@BOTH_TIERS
async def test_an_order_whose_answer_is_lost_lives_at_the_exchange(virtual_clock: VirtualClock, tier: Tier) -> None:
    lost = LostPacket(at_s=0, for_s=99, way="in", path="/orders", method="POST", count=1)
    async with rig([lost], tier=tier) as made, http_of(made.network) as http:
        client = made.spot(http)
        await client.markets()
        outcome = await client.place(
            sw.NewOrder(
                symbol=BTC,
                side=Side.BUY,
                type="LIMIT",
                price=Decimal(50_000),
                quantity=Decimal("0.001"),
                client_id="one",
            )
        )
        assert isinstance(outcome, Unknown)
        (order,) = made.exchange.spot.desk.folder(made.exchange.clients[0]).living.values()
        assert order.client_id == "one"


@BOTH_TIERS
async def test_a_request_waits_for_a_lane_and_is_given_up_unsent(virtual_clock: VirtualClock, tier: Tier) -> None:
    async with (
        rig([Delayed(at_s=0, for_s=99, delay=f.Fixed(s=2.0), way="in")], tier=tier) as made,
        http_of(made.network) as http,
    ):
        failed: list[Exception] = []

        async def ask() -> None:
            try:
                await http.request("GET", "/timestamp", start_within_s=1.0)
            except NotSent as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)
        assert [str(error) for error in failed] == ["GET /timestamp: not sent, it waited for its turn for 1 s"] * 2
        assert made.trace.counts["request"] == 4


async def test_what_a_partition_holds_back_arrives_after_it_although_its_sender_has_given_up(
    virtual_clock: VirtualClock,
) -> None:
    async with rig([Partition(at_s=1.0, for_s=20.0, way="out")]) as made, http_of(made.network) as http:
        await http.get("/timestamp")
        await trio.sleep_until(1.5)
        with pytest.raises(ConnectionLost, match="ReadTimeout"):
            await http.get("/markets")
        await trio.sleep_until(30.0)
        assert made.network.trace.counts["request"] == 2


# --- sockets


@asynccontextmanager
async def listening(made: Rig) -> AsyncGenerator[SocketPort]:
    async with made.network.open_websocket(PUBLIC, connect_timeout_s=3.0) as socket:
        await socket.send(subscribe_text(["book_lv2"], [BTC]))
        assert b'"subscribe"' in await socket.receive()
        yield socket


async def test_frames_arrive_in_order_each_after_its_latency(virtual_clock: VirtualClock) -> None:
    async with rig() as made, listening(made) as socket:
        ids = [
            int(frame.partition(b'"id":')[2].partition(b",")[0])
            for frame in [await socket.receive() for _ in range(50)]
        ]
        assert ids == sorted(ids)
        assert made.trace.counts["received"] == 51


async def test_a_delayed_frame_keeps_those_behind_it_waiting(virtual_clock: VirtualClock) -> None:
    slow = Delayed(at_s=2.0, for_s=1.0, delay=f.Fixed(s=5.0), way="in", place="public")
    async with rig([slow]) as made, listening(made) as socket:
        gaps: list[float] = []
        last_s = trio.current_time()
        for _ in range(60):
            await socket.receive()
            gaps.append(trio.current_time() - last_s)
            last_s = trio.current_time()
        assert max(gaps) > 4.0
        assert gaps.count(0.0) > 5, "they came all at once"


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (f.Cut(at_s=3.0, for_s=1.0, code=1012), 1012, ": an injected fault"),
        (f.Cut(at_s=3.0, for_s=1.0), 1006, "closed with 1006"),
        (f.Reset(at_s=3.0, for_s=1.0), 1006, "ConnectionResetError"),
        (f.OversizedFrame(at_s=3.0, for_s=1.0), 1009, "closed with 1009"),
    ],
)
@BOTH_TIERS
async def test_a_socket_that_the_exchange_ends_says_how(
    virtual_clock: VirtualClock, tier: Tier, fault: f.FaultEvent, code: int, words: str
) -> None:
    async with rig(faults=[fault], tier=tier) as made:
        error = await lost(made)
        assert error.code == code
        assert words in str(error)


@pytest.mark.parametrize(("is_reset", "words"), [(True, "ConnectionResetError"), (False, "closed with 1006")])
@BOTH_TIERS
async def test_a_socket_that_the_network_cuts_says_how(
    virtual_clock: VirtualClock, tier: Tier, is_reset: bool, words: str
) -> None:
    cut = SocketsCut(at_s=3.0, for_s=1.0, is_reset=is_reset)
    async with rig([cut], tier=tier) as made, trio.open_nursery() as nursery:
        nursery.start_soon(_at, cut.at_s, lambda: made.network.cut(cut))
        error = await lost(made)
        assert error.code == 1006
        assert words in str(error)


async def lost(made: Rig) -> ConnectionLost:
    """Read until the socket is lost, a little after the third second."""
    try:
        await read_for_ever(made)
    except ConnectionLost as error:
        assert 3.0 <= trio.current_time() < 3.7
        return error


async def read_for_ever(made: Rig) -> NoReturn:
    async with listening(made) as socket:
        while True:
            await socket.receive()


async def _at(at_s: float, do: Callable[[], None]) -> None:
    await trio.sleep_until(at_s)
    do()


@BOTH_TIERS
async def test_a_client_that_says_nothing_for_half_a_minute_is_left(virtual_clock: VirtualClock, tier: Tier) -> None:
    async with rig(tier=tier) as made:
        with pytest.raises(ConnectionLost, match=r"closed with 1000.*: no message for 30 s"):
            await read_for_ever(made)
        assert 30.0 < trio.current_time() < 31.0


@BOTH_TIERS
async def test_no_socket_opens_during_a_partition_or_without_a_name(virtual_clock: VirtualClock, tier: Tier) -> None:
    gone = [Partition(at_s=0, for_s=5.0, place="public"), NoName(at_s=5.0, for_s=5.0), SocketsCut(at_s=10.0, for_s=5.0)]
    async with rig(gone, tier=tier) as made:
        for begins_s, words in [(0.0, "no connection in time"), (5.0, "gaierror"), (10.0, "ConnectionRefused")]:
            await trio.sleep_until(begins_s)
            with pytest.raises(ConnectionLost, match=words):
                await made.network.open_websocket(PUBLIC, connect_timeout_s=3.0).__aenter__()
        await trio.sleep_until(15.0)
        async with listening(made):
            pass


# --- the end of an incarnation


@BOTH_TIERS
async def test_nothing_of_a_dead_bot_has_any_effect_but_what_has_left_it_arrives(
    virtual_clock: VirtualClock, tier: Tier
) -> None:
    async with rig(tier=tier) as made, trio.open_nursery() as nursery, http_of(made.network) as http:
        await http.get("/timestamp")
        answered: list[str] = []

        async def ask(path: str) -> None:
            with suppress(ConnectionLost):  # in the end we close
                await http.get(path)
                answered.append(path)

        nursery.start_soon(ask, "/timestamp")
        while made.trace.counts["request"] < 2:
            await trio.sleep(0.01)
        made.network.sever()
        nursery.start_soon(ask, "/markets")
        await trio.sleep(4.0)
        assert made.trace.counts["request"] == 2
        assert not answered, "and nothing comes back"
        nursery.cancel_scope.cancel()


@BOTH_TIERS
async def test_the_exchange_hears_of_a_dead_bot_that_its_socket_is_gone(
    virtual_clock: VirtualClock, tier: Tier
) -> None:
    async with rig(tier=tier) as made:
        with trio.move_on_after(5.0):
            async with listening(made) as socket:
                made.network.sever()
                await socket.send(PING)
        assert trio.current_time() == 5.0, "a dead bot never goes on"
        assert not made.exchange._connections


# --- the disk


def disk(*outages: Outage) -> Disk:
    return Disk(TENTH, Outages(outages, 1), generator(1, "disk"))


async def test_a_commit_is_durable_after_its_sync(virtual_clock: VirtualClock) -> None:
    made = disk()
    journal = DiskJournal(made)
    digest = await journal.append([(1, b"a"), (2, b"b")])
    assert trio.current_time() == pytest.approx(0.1)
    assert journal.head == (2, digest) == DiskJournal(made).head
    assert [record.payload for record in await DiskJournal(made).load()] == [b"a", b"b"]


@pytest.mark.parametrize("loses_unsynced", [False, True])
async def test_a_crash_keeps_or_loses_what_was_not_synced_and_never_half_of_it(
    virtual_clock: VirtualClock, loses_unsynced: bool
) -> None:
    made = disk()
    journal = DiskJournal(made)
    await journal.append([(1, b"a")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.append, [(2, b"b"), (3, b"c")])
        await trio.sleep(0.05)
        journal.sever()
        made.crash(loses_unsynced=loses_unsynced)
        nursery.cancel_scope.cancel()
    next_one = DiskJournal(made)
    assert trio.current_time() == pytest.approx(0.15), "the dead one does not hold up the next"
    kept = [b"a"] if loses_unsynced else [b"a", b"b", b"c"]
    assert [record.payload for record in await next_one.load()] == kept
    last = await next_one.append([(4, b"d")])
    assert last == sealed((0, GENESIS), [(0, payload) for payload in (*kept, b"d")])[-1].digest


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
async def test_a_disk_that_fails_stops_the_journal_for_good(
    virtual_clock: VirtualClock, error: Literal["ENOSPC", "EIO"]
) -> None:
    made = disk(BadDisk(at_s=0.0, for_s=1.0, error=error))
    journal = DiskJournal(made)
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append([(1, b"a")])
    await trio.sleep(2.0)
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append([(1, b"a")])
    assert await DiskJournal(made).append([(1, b"a")])


async def test_a_slow_disk_delays_a_commit(virtual_clock: VirtualClock) -> None:
    await DiskJournal(disk(SlowDisk(at_s=0.0, for_s=1.0, delay=f.Fixed(s=3.0)))).append([(1, b"a")])
    assert trio.current_time() == pytest.approx(3.1)


# --- chance


def test_latencies_have_their_median_and_their_99th_percentile() -> None:
    draw = LatencyDraw(Latency(median_ms=40.0, p99_ms=200.0), generator(1, "test"))
    drawn = sorted(draw.draw_s() for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(0.040, rel=0.05)
    assert drawn[19_800] == pytest.approx(0.200, rel=0.1)


def test_leaving_an_outage_out_changes_nothing_about_the_others() -> None:
    half = LostPacket(at_s=0, for_s=1e6, probability=0.5)
    other = BrokenRequest(at_s=0, for_s=1e6, probability=0.2, path="/markets")
    both, alone = Outages([other, half], 7), Outages([half], 7)
    for at in range(200):
        assert (both.request("out", "GET", "/orders", at) == "lost") == (
            alone.request("out", "GET", "/orders", at) == "lost"
        )
    assert both.struck["lost_packet"] == alone.struck["lost_packet"]
