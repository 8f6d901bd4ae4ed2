"""The control actor: one who attaches, floods, stalls or talks nonsense is not felt by those who publish."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from actors import control
from actors.control import CLIENT_NOTES_MAX, CLIENTS_MAX, Hub, serve_control
from bot.control.protocol import (
    LINE_BYTES_MAX,
    Answer,
    Attach,
    Command,
    Hello,
    Lost,
    Note,
    Reply,
    Request,
    Research,
    Status,
    View,
    decode_answer,
    encode,
)
from bot.errors import SettingsError
from tests.control.samples import NOW_NS, busy_view, hello, research, view

LONG_S = 10.0
"""A test that waits longer for something has failed; real time, as sockets know no other."""


async def carry_out(command: Command) -> Reply:
    return Reply(id=command.id, is_ok=True, text=f"did {command.verb}")


async def never(command: Command) -> Reply:
    await trio.sleep_forever()
    raise AssertionError(command)


class Daemon:
    """A served hub, and how to connect to it."""

    def __init__(self, hub: Hub, path: Path, nursery: trio.Nursery) -> None:
        self.hub = hub
        self.path = path
        self.nursery = nursery

    async def connect(self) -> Screen:
        return Screen(await trio.open_unix_socket(self.path))

    async def attach(self) -> Screen:
        """Return an attached screen that has read `Hello` and its first view."""
        screen = await self.connect()
        await screen.ask(Attach())
        assert isinstance(await screen.read(), Hello)
        assert isinstance(await screen.read(), View)
        return screen


class Screen:
    """The other end of a connection; closed after the test at the latest."""

    opened: ClassVar[list[Screen]] = []

    def __init__(self, stream: trio.SocketStream) -> None:
        self.opened.append(self)
        self.stream = stream
        self._heard = b""

    async def ask(self, request: Request) -> None:
        await self.stream.send_all(encode(request))

    async def read_or_end(self) -> Answer | None:
        with trio.fail_after(LONG_S):
            while b"\n" not in self._heard:
                chunk = await self.stream.receive_some()
                if not chunk:
                    assert not self._heard, "ended within a line"
                    return None
                self._heard += chunk
        line, self._heard = self._heard.split(b"\n", 1)
        return decode_answer(line)

    async def read(self) -> Answer:
        answer = await self.read_or_end()
        assert answer is not None, "closed"
        return answer

    async def read_all(self) -> list[Answer]:
        answers: list[Answer] = []
        while (answer := await self.read_or_end()) is not None:
            answers.append(answer)
        return answers


@asynccontextmanager
async def serving(
    tmp_path: Path, on_command: control.OnCommand = carry_out, make_view: Callable[[], View] = view
) -> AsyncGenerator[Daemon]:
    hub = Hub(make_view)
    path = tmp_path / "run" / "test.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, hub, hello, path, on_command)
        yield Daemon(hub, path, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
async def close_screens() -> AsyncGenerator[None]:
    yield
    while Screen.opened:
        await trio.aclose_forcefully(Screen.opened.pop().stream)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LONG_S):
        while not condition():
            await trio.sleep(0.005)


def note(text: str) -> Note:
    return Note(ts_ns=NOW_NS, level="info", text=text)


# --- the socket


async def test_the_socket_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        async with serving(tmp_path) as daemon:
            mode = daemon.path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert stat.S_IMODE(daemon.path.parent.stat().st_mode) == 0o700
        assert not daemon.path.exists()
    finally:
        os.umask(mask)


async def test_the_socket_has_its_mode_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    really_listen = socket.socket.listen

    def listen(sock: socket.socket, backlog: int) -> None:
        modes.append(Path(sock.getsockname()).stat().st_mode & 0o777)
        really_listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen)
    async with serving(tmp_path):
        assert modes == [0o600]


async def test_a_dead_daemon_s_socket_is_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "test.sock"))
    async with serving(tmp_path) as daemon:
        await daemon.attach()


async def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o755)
    with pytest.raises(SettingsError, match="0755"):
        await serve_control(Hub(view), hello, run / "x.sock", carry_out)


async def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as daemon:
        uid = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: uid)
        screen = await daemon.connect()
        assert await screen.read_or_end() is None
        assert not daemon.hub.has_clients


async def test_the_kernel_says_who_asks() -> None:
    left, right = trio.socket.socketpair()
    with left, right:
        assert control._is_ours(left)
        data = left.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        assert struct.unpack("3i", data)[:2] == (os.getpid(), os.getuid())


# --- views and notes


async def test_status_is_hello_and_one_view(tmp_path: Path) -> None:
    async with serving(tmp_path, make_view=busy_view) as daemon:
        screen = await daemon.connect()
        await screen.ask(Status())
        assert [await screen.read(), await screen.read()] == [hello(), busy_view()]
        assert daemon.hub.has_clients
        assert not daemon.hub.wants_view


async def test_nobody_builds_views_for_nobody(tmp_path: Path) -> None:
    built: list[int] = []

    def make_view() -> View:
        built.append(1)
        return view()

    async with serving(tmp_path, make_view=make_view) as daemon:
        assert not daemon.hub.wants_view
        assert not built
        screen = await daemon.attach()
        assert daemon.hub.wants_view
        assert len(built) == 1
        await screen.stream.aclose()
        await until(lambda: not daemon.hub.has_clients)
        assert not daemon.hub.wants_view


async def test_the_newest_view_wins(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        for epoch in range(2, 1002):
            daemon.hub.publish(view(epoch=epoch))
        latest = await screen.read()
        assert isinstance(latest, View)
        assert latest.epoch == 1001


async def test_views_come_ten_times_a_second_at_most(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        began_s = trio.current_time()
        epoch, views = 2, 0
        while views < 5:
            daemon.hub.publish(view(epoch=epoch))
            epoch += 1
            with trio.move_on_after(0.002):
                await screen.read()
                views += 1
        assert trio.current_time() - began_s > 4 * control.VIEW_INTERVAL_S


async def test_an_attached_screen_is_told_what_it_missed(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        for i in range(250):
            daemon.hub.note(note(str(i)))
        screen = await daemon.attach()
        notes = [await screen.read() for _ in range(200)]
        assert notes == [note(str(i)) for i in range(50, 250)]
        daemon.hub.note(note("new"))
        assert await screen.read() == note("new")


async def test_attaching_twice_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        daemon.hub.note(note("old"))
        screen = await daemon.attach()
        assert await screen.read() == note("old")
        await screen.ask(Attach())
        assert await screen.read() == hello()
        daemon.hub.note(note("new"))
        assert await screen.read() == note("new")


async def test_a_note_cannot_reach_the_terminal_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        daemon.hub.note(note("a\x1b]52;c;aGk=\x07b\u202ec\ud800" + "x" * 5000))
        told = await screen.read()
        assert isinstance(told, Note)
        assert told.text.isprintable()
        assert len(told.text) == control.NOTE_LENGTH_MAX


async def test_everything_published_before_the_end_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        daemon.hub.publish(view(epoch=2))
        assert isinstance(await screen.read(), View)
        daemon.hub.publish(view(epoch=3, feed="ended"))
        daemon.hub.note(note("the run has ended"))
        daemon.nursery.cancel_scope.cancel()
    assert await screen.read_all() == [view(epoch=3, feed="ended"), note("the run has ended")]


# --- clients that do not read


def _fill(daemon: Daemon) -> None:
    """Publish more than a socket's buffer holds."""
    for _ in range(CLIENT_NOTES_MAX):
        daemon.hub.note(note("x" * 1000))


async def test_a_client_that_does_not_read_is_dropped_and_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SEND_TIMEOUT_S", 0.2)
    async with serving(tmp_path) as daemon:
        stuck = await daemon.attach()
        reader = await daemon.attach()
        slowest_s, epoch = 0.0, 2
        while len(daemon.hub._clients) == 2:
            began_s = trio.current_time()
            _fill(daemon)
            daemon.hub.publish(view(epoch=epoch))
            slowest_s = max(slowest_s, trio.current_time() - began_s)
            epoch += 1
            answer = await reader.read()
            while not isinstance(answer, View):
                answer = await reader.read()
        assert slowest_s < 1.0
        await reader.ask(Command(id="still", verb="halt"))
        answer = await reader.read()
        while not isinstance(answer, Reply):
            answer = await reader.read()
        assert answer.id == "still"
        await stuck.stream.aclose()


async def test_a_slow_reader_learns_how_many_notes_it_lost(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        count = CLIENT_NOTES_MAX + 70
        for i in range(count):
            daemon.hub.note(note(str(i)))
        assert await screen.read() == Lost(count=70)
        assert await screen.read() == note("70")
        for _ in range(CLIENT_NOTES_MAX - 2):
            await screen.read()
        assert await screen.read() == note(str(count - 1))
        daemon.hub.note(note("after"))
        assert await screen.read() == note("after")


async def test_a_client_s_outbox_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SEND_TIMEOUT_S", LONG_S)
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        (client,) = daemon.hub._clients
        for _ in range(20):
            _fill(daemon)
            daemon.hub.publish(view())
            await trio.sleep(0.01)
        assert len(client._notes) <= CLIENT_NOTES_MAX
        assert len(client._unsent) < CLIENT_NOTES_MAX * 1200
        await screen.stream.aclose()


async def test_one_who_asks_and_never_reads_is_not_read_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SEND_TIMEOUT_S", 0.2)
    async with serving(tmp_path, make_view=busy_view) as daemon:
        screen = await daemon.connect()
        with pytest.raises(trio.BrokenResourceError):
            await _ask_for_ever(screen)
        await until(lambda: not daemon.hub.has_clients)
        await screen.stream.aclose()


async def _ask_for_ever(screen: Screen) -> None:
    with trio.fail_after(LONG_S):
        while True:
            await screen.stream.send_all(encode(Status()) * 100)


# --- clients that talk nonsense


@pytest.mark.parametrize("garbage", [b"\n", b"nonsense\n", b"\x00\xff" * 50 + b"\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_garbage_gets_one_reply_and_the_door(garbage: bytes, tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        await screen.stream.send_all(garbage)
        (reply,) = await screen.read_all()
        assert isinstance(reply, Reply)
        assert not reply.is_ok
        assert reply.text.isprintable()
        await daemon.attach()


async def test_what_was_asked_before_garbage_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        await screen.stream.send_all(encode(Command(id="1", verb="halt")) + b"garbage\n" + encode(Status()))
        replies = {answer.id: answer.is_ok for answer in await screen.read_all() if isinstance(answer, Reply)}
        assert replies == {"1": True, "": False}


@pytest.mark.parametrize("has_end", [True, False])
async def test_a_line_too_long_is_refused(has_end: bool, tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        line = b'{"type":"Attach","x":"' + b"x" * LINE_BYTES_MAX + (b'"}\n' if has_end else b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_if_taken, screen, line)
            (reply,) = await screen.read_all()
        assert isinstance(reply, Reply)
        assert f"longer than {LINE_BYTES_MAX}" in reply.text


async def _send_if_taken(screen: Screen, line: bytes) -> None:
    try:
        await screen.stream.send_all(line)
    except trio.BrokenResourceError:
        return


async def test_half_a_line_is_waited_for_and_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_TIMEOUT_S", 0.1)
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        for byte in encode(Command(id="slow", verb="halt")):
            await screen.stream.send_all(bytes([byte]))
        assert isinstance(await screen.read(), Reply)
        await screen.stream.send_all(b'{"type":')
        (reply,) = await screen.read_all()
        assert isinstance(reply, Reply)
        assert "half a line" in reply.text


async def test_one_who_says_nothing_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_TIMEOUT_S", 0.1)
    async with serving(tmp_path) as daemon:
        attached = await daemon.attach()
        silent = await daemon.connect()
        (reply,) = await silent.read_all()
        assert isinstance(reply, Reply)
        daemon.hub.note(note("attached screens may be silent"))
        assert await attached.read() == note("attached screens may be silent")


async def test_requests_in_pieces_and_in_heaps_are_all_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        requests = b"".join(encode(Status()) for _ in range(30))
        async with trio.open_nursery() as nursery:
            for start in range(0, len(requests), 7):
                await screen.stream.send_all(requests[start : start + 7])
            nursery.start_soon(screen.stream.send_eof)
            answers = await screen.read_all()
        assert answers == [hello(), view()] * 30


async def test_a_client_too_many_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screens = [await daemon.attach() for _ in range(CLIENTS_MAX)]
        late = await daemon.connect()
        (reply,) = await late.read_all()
        assert isinstance(reply, Reply)
        assert not reply.is_ok
        await screens[3].stream.aclose()
        await until(lambda: len(daemon.hub._clients) == CLIENTS_MAX - 1)
        await daemon.attach()
        daemon.hub.note(note("to all"))
        for screen in screens[:3] + screens[4:]:
            assert await screen.read() == note("to all")


async def test_clients_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        for _ in range(50):
            screen = await daemon.attach()
            daemon.hub.publish(view())
            await screen.stream.aclose()
            daemon.hub.publish(view())
        await until(lambda: not daemon.hub.has_clients)


# --- commands


async def test_a_command_gets_its_reply(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        await screen.ask(Command(id="7", verb="flatten"))
        assert await screen.read() == Reply(id="7", is_ok=True, text="did flatten")


async def test_a_command_that_hangs_is_given_up_and_its_client_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "COMMAND_TIMEOUT_S", 0.1)

    async def on_command(command: Command) -> Reply:
        return await (never if command.verb == "flatten" else carry_out)(command)

    async with serving(tmp_path, on_command) as daemon:
        screen = await daemon.attach()
        await screen.ask(Command(id="hangs", verb="flatten"))
        await screen.ask(Command(id="urgent", verb="halt"))
        assert await screen.read() == Reply(id="urgent", is_ok=True, text="did halt")
        given_up = await screen.read()
        assert isinstance(given_up, Reply)
        assert (given_up.id, given_up.is_ok) == ("hangs", False)
        await screen.ask(Command(id="after", verb="halt"))
        assert await screen.read() == Reply(id="after", is_ok=True, text="did halt")


async def test_too_many_commands_at_once_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, never) as daemon:
        screen = await daemon.connect()
        for i in range(control.CLIENT_COMMANDS_MAX + 1):
            await screen.ask(Command(id=str(i), verb="halt"))
        refused = await screen.read()
        assert isinstance(refused, Reply)
        assert (refused.id, refused.is_ok) == (str(control.CLIENT_COMMANDS_MAX), False)


async def test_a_command_goes_on_when_its_client_leaves(tmp_path: Path) -> None:
    may_go_on, done = trio.Event(), trio.Event()

    async def on_command(command: Command) -> Reply:
        await may_go_on.wait()
        done.set()
        return Reply(id=command.id, is_ok=True, text="")

    async with serving(tmp_path, on_command) as daemon:
        screen = await daemon.connect()
        await screen.ask(Command(id="1", verb="halt"))
        await screen.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        may_go_on.set()
        with trio.fail_after(LONG_S):
            await done.wait()
        await until(lambda: not daemon.hub.has_clients)


async def test_who_closes_its_half_still_gets_its_reply(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.connect()
        await screen.ask(Command(id="1", verb="halt"))
        await screen.stream.send_eof()
        assert await screen.read_all() == [Reply(id="1", is_ok=True, text="did halt")]


async def test_the_reply_to_stop_comes_before_the_end(tmp_path: Path) -> None:
    scope = trio.CancelScope()

    async def on_command(command: Command) -> Reply:
        scope.cancel()
        return Reply(id=command.id, is_ok=True, text="stopping")

    hub, path = Hub(view), tmp_path / "run" / "x.sock"
    async with trio.open_nursery() as nursery:
        with scope:
            await nursery.start(serve_control, hub, hello, path, on_command)
        screen = Screen(await trio.open_unix_socket(path))
        await screen.ask(Command(id="1", verb="stop"))
        assert await screen.read() == Reply(id="1", is_ok=True, text="stopping")
        nursery.cancel_scope.cancel()
    assert await screen.read_all() == []


async def test_a_stuck_client_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LAST_WORDS_S", 0.1)
    async with serving(tmp_path) as daemon:
        stuck = await daemon.attach()
        _fill(daemon)
        daemon.nursery.cancel_scope.cancel()
        began_s = trio.current_time()
    assert trio.current_time() - began_s < 2.0
    await stuck.stream.aclose()


# --- research


async def test_research_is_told_to_every_screen_and_to_one_that_comes_later(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        early = await daemon.attach()
        worker = await daemon.connect()
        await worker.ask(research(done=1))
        assert await early.read() == research(done=1)
        late = await daemon.attach()
        assert await late.read() == research(done=1)
        await worker.ask(research(done=2, is_over=True))
        assert await early.read() == await late.read() == research(done=2, is_over=True)
        assert [type(answer) for answer in await _told_to_a_newcomer(daemon)] == [Hello, View]


async def test_research_whose_command_is_gone_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        worker = await daemon.connect()
        await worker.ask(research())
        await screen.read()
        await worker.stream.aclose()
        assert await screen.read() == research(is_over=True)


async def test_the_words_of_research_are_safe_for_a_terminal(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        worker = await daemon.connect()
        await worker.ask(research(name="\x1b[31mred\n", best="b" * 120))
        told = await screen.read()
        assert isinstance(told, Research)
        assert told.name == "[31mred"
        assert told.best == "b" * 79 + "…"


async def test_a_flood_of_research_is_thinned_to_the_newest(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        screen = await daemon.attach()
        worker = await daemon.connect()
        count = 2_000
        for done in range(count):
            await worker.ask(research(done=done))
        told = 0
        while True:
            answer = await screen.read()
            assert isinstance(answer, Research)
            told += 1
            if answer.done == count - 1:
                break
        assert told < count // 10


async def test_research_that_says_nonsense_is_closed_and_leaves_no_trace(tmp_path: Path) -> None:
    async with serving(tmp_path) as daemon:
        worker = await daemon.connect()
        await worker.stream.send_all(b'{"type":"Research","id":"x","name":1}\n')
        (answer,) = await worker.read_all()
        assert isinstance(answer, Reply)
        assert not answer.is_ok
        assert [type(answer) for answer in await _told_to_a_newcomer(daemon)] == [Hello, View]


async def _told_to_a_newcomer(daemon: Daemon) -> list[Answer]:
    """What one who attaches hears until a note that is said afterwards."""
    newcomer = await daemon.connect()
    await newcomer.ask(Attach())
    told = [await newcomer.read(), await newcomer.read()]
    daemon.hub.note(note("after"))
    while not isinstance(answer := await newcomer.read(), Note):
        told.append(answer)
    return told
