"""The watch: what is not well is said once, with what it calls for; a loop that stood still ends the bot."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import watch as watching
from actors.clock import WallClock
from actors.ports import Ports
from actors.resets import Resets
from actors.trader import Terms, Trader
from actors.watch import DISK_AT_START, DISK_FULL, DISK_LOW, MIB, Lever, Watch, check_disk, resident_bytes
from bot.config import load_settings
from bot.control.killfile import write_kill_file
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.messages import Condition, HealthReported, RiskState
from bot.errors import ConnectionLost, JournalError, Stalled
from bot.exchange.network import Network, SocketPort
from bot.storage.memory import MemoryJournal

LOAD, JOURNAL, KILL = Condition.LOAD, Condition.JOURNAL, Condition.KILL


class Bench:
    """A watch, the trader that it looks at, and everything around them in our hands."""

    def __init__(self, state_dir: Path, *sets: str) -> None:
        terms = Terms(settings=load_settings([], {}, sets), account="a", symbols=(), rest_url="", ws_url="")
        self.trader = Trader(terms, Ports(MemoryJournal(), WallClock()), [])
        self.said: list[tuple[Condition, bool, RiskState]] = []
        self.details: list[str] = []
        self.trader.post = self._hear
        self.given_up: list[str] = []
        self.lever = Lever()
        self.free = DISK_LOW
        self.resident = MIB
        self.wall_jump_s = 0.0
        self.state_dir = state_dir
        self.watch = Watch(
            self.trader,
            state_dir,
            self.lever,
            self.given_up.append,
            wall_s=lambda: 1e9 + trio.current_time() + self.wall_jump_s,
            free=lambda _: self.free,
            resident=lambda: self.resident,
        )

    def _hear(self, message: m.AnyMessage) -> None:
        assert isinstance(message, HealthReported)
        self.said.append((message.condition, message.is_well, message.severity))
        self.details.append(message.detail)


@asynccontextmanager
async def watching_over(state_dir: Path, *sets: str) -> AsyncGenerator[Bench]:
    bench = Bench(state_dir, *sets)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.watch.run)
        bench.watch.begin()
        yield bench
        nursery.cancel_scope.cancel()


async def test_while_all_is_well_nothing_is_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watching_over(tmp_path) as bench:
        await trio.sleep(3600)
    assert bench.said == []


async def test_F58_a_jump_of_the_wall_clock_gives_the_sockets_up_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watching_over(tmp_path) as bench:
        await trio.sleep(1)
        bench.wall_jump_s = 3.0
        await trio.sleep(1)
        assert bench.said == []
        bench.wall_jump_s += 600
        await trio.sleep(10)
    assert bench.said == [(LOAD, False, RiskState.REDUCE_ONLY), (LOAD, True, RiskState.REDUCE_ONLY)]
    assert len(bench.given_up) == 1


async def test_F61_a_loop_that_is_late_three_times_is_a_trouble_until_it_is_not(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with watching_over(tmp_path) as bench:

        async def lag(seconds: float) -> None:
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked()

        await lag(1.5)
        await lag(1.5)
        assert bench.said == []
        await lag(1.5)
        assert bench.said == [(LOAD, False, RiskState.REDUCE_ONLY)]
        for _ in range(300):
            await lag(0.25)
    assert bench.said[1:] == [(LOAD, True, RiskState.REDUCE_ONLY)]


async def test_F61_a_loop_that_stood_still_for_ten_seconds_ends_the_bot(tmp_path: Path, mock_clock: MockClock) -> None:
    with pytest.RaisesGroup(Stalled, flatten_subgroups=True):
        async with watching_over(tmp_path):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(11)
            await trio.sleep_forever()


async def test_F92_a_mailbox_that_fills_up_is_a_trouble(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "QUEUE_MAX", 3)
    async with watching_over(tmp_path) as bench:
        for number in range(4):
            bench.trader.office.post(Stage.CONTROL, m.SessionEnded(ts_ns=number, reason="a fact", is_complete=False))
        await trio.sleep(1)
    assert bench.said == [(LOAD, False, RiskState.REDUCE_ONLY)]
    assert "persistence" in bench.details[0]


async def test_B12_memory_above_four_fifths_of_its_cap_is_a_trouble_until_it_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watching_over(tmp_path, "live.memory_max_mib=1000") as bench:
        bench.resident = 800 * MIB
        await trio.sleep(60)
        assert bench.said == []
        bench.resident += 1
        await trio.sleep(60)
        assert bench.said == [(LOAD, False, RiskState.REDUCE_ONLY)]
        assert bench.details == ["800 MiB of memory held, more than 80 % of memory_max_mib 1000"]
        bench.resident -= 1
        await trio.sleep(11)
    assert bench.said[1:] == [(LOAD, True, RiskState.REDUCE_ONLY)]


async def test_B12_without_a_cap_memory_is_nobody_s_trouble(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watching_over(tmp_path, "live.memory_max_mib=0") as bench:
        bench.resident = 10**15
        await trio.sleep(60)
    assert bench.said == []


@pytest.mark.parametrize("system", ["linux", "darwin", "freebsd"])
def test_B12_what_we_hold_is_measured_in_bytes(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter holds some megabytes, and never a terabyte; elsewhere the peak is what the system tells."""
    held = resident_bytes()
    if system != "linux":
        peak = held if system == "darwin" else held // 1024

        def usage(who: int) -> SimpleNamespace:
            return SimpleNamespace(ru_maxrss=peak)

        monkeypatch.setattr(Path, "read_bytes", no_such_file)
        monkeypatch.setattr(watching.sys, "platform", system)
        monkeypatch.setattr(watching.resource, "getrusage", usage)
    assert 4 * MIB < resident_bytes() < MIB * MIB
    assert abs(resident_bytes() - held) < 64 * MIB


def no_such_file(path: Path) -> bytes:
    raise FileNotFoundError(path)


async def test_F85_a_slow_commit_is_said_while_it_runs(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watching_over(tmp_path) as bench:
        bench.trader.commits.begin(trio.current_time())
        await trio.sleep(1.9)
        assert bench.said == []
        await trio.sleep(1)
        assert bench.said == [(JOURNAL, False, RiskState.REDUCE_ONLY)]
        bench.trader.commits.end()
        await trio.sleep(1)
    assert bench.said[1:] == [(JOURNAL, True, RiskState.REDUCE_ONLY)]


async def test_F80_little_disk_reduces_and_hardly_any_halts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watching_over(tmp_path) as bench:
        for free in (DISK_LOW - 1, DISK_FULL - 1, DISK_LOW):
            bench.free = free
            await trio.sleep(11)
    assert bench.said == [
        (JOURNAL, False, RiskState.REDUCE_ONLY),
        (JOURNAL, False, RiskState.HALTED),
        (JOURNAL, True, RiskState.REDUCE_ONLY),
    ]


def almost_full(path: Path) -> int:
    return DISK_AT_START - 1


def test_F80_live_trading_does_not_begin_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "free_bytes", almost_full)
    with pytest.raises(JournalError, match="1023 MiB free"):
        check_disk(tmp_path)


async def test_the_kill_file_halts_within_a_second_and_its_end_is_said(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watching_over(tmp_path) as bench:
        await trio.sleep(5)
        path = write_kill_file(tmp_path, "by \x1b[31mme")
        await trio.sleep(1.1)
        assert bench.said == [(KILL, False, RiskState.HALTED)]
        assert str(path) in bench.details[0]
        assert "\x1b" not in bench.details[0]
        path.unlink()
        await trio.sleep(1.1)
    assert bench.said[1:] == [(KILL, True, RiskState.HALTED)]


async def test_a_kill_file_that_is_there_at_the_start_is_said_before_anything_else(tmp_path: Path) -> None:
    (tmp_path / "KILL").symlink_to("/nowhere")
    bench = Bench(tmp_path)
    bench.watch.begin()
    assert bench.said == [(KILL, False, RiskState.HALTED)]


async def test_a_pulled_lever_halts_at_once_and_lets_an_operator_resume(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watching_over(tmp_path) as bench:
        await trio.sleep(0.5)
        bench.lever.pull("SIGUSR1")
        await trio.testing.wait_all_tasks_blocked()
        assert bench.said == [(KILL, False, RiskState.HALTED), (KILL, True, RiskState.HALTED)]
        bench.lever.pull("SIGUSR1")
        await trio.testing.wait_all_tasks_blocked()
    assert len(bench.said) == 4


# --- sockets that can be given up


class Silent:
    """A network whose sockets never say anything."""

    class Socket:
        async def send(self, text: str | bytes) -> None:
            await trio.lowlevel.checkpoint()

        async def receive(self) -> bytes:
            await trio.sleep_forever()

        async def receive_many(self) -> list[bytes]:
            await trio.sleep_forever()

    def open_websocket(self, url: str, *, connect_timeout_s: float, is_lean: bool = False) -> Any:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[Silent.Socket]:
            await trio.lowlevel.checkpoint()
            yield Silent.Socket()

        return opened()

    open_http = open_websocket


async def test_F58_every_open_socket_is_lost_when_all_are_given_up(autojump_clock: MockClock) -> None:
    network: Network = Silent()  # pyright: ignore[reportAssignmentType]  # it opens no HTTP
    resets = Resets(network)
    lost: list[str] = []

    async def read(task_status: trio.TaskStatus[SocketPort]) -> None:
        async with resets.open_websocket("ws://x", connect_timeout_s=1) as socket:
            task_status.started(socket)
            try:
                await socket.receive()
            except ConnectionLost as error:
                lost.append(str(error))
            with pytest.raises(ConnectionLost):  # and stays so
                await socket.send("more")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            await nursery.start(read)
        await trio.testing.wait_all_tasks_blocked()
        resets.give_up_all("slept")
    assert lost == ["slept"] * 3
    async with resets.open_websocket("ws://x", connect_timeout_s=1) as socket:
        await socket.send("a new one is as good as new")
