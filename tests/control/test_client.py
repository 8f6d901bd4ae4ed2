"""The command line's client, against a served socket and against servers that misbehave."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from actors.control import Hub, serve_control
from bot.control import client
from bot.control.client import Announcer, ask_status, send_command
from bot.control.paths import socket_path
from bot.control.protocol import Attach, Command, Lost, Reply, decode_answer, decode_request, encode
from bot.errors import BadReply, ConnectionLost, NotRunning
from tests.control.samples import busy_view, hello, research


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "state"


async def _carry_out(command: Command) -> Reply:
    return Reply(id=command.id, is_ok=command.verb == "halt", text=f"did {command.verb}")


async def test_a_served_daemon_tells_its_status(state_dir: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, Hub(busy_view), hello, socket_path(state_dir), _carry_out)
        answer = await trio.to_thread.run_sync(ask_status, state_dir, 5.0)
        nursery.cancel_scope.cancel()
    assert answer == (hello(), busy_view())


async def test_a_served_daemon_answers_commands(state_dir: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, Hub(busy_view), hello, socket_path(state_dir), _carry_out)
        halted = await trio.to_thread.run_sync(send_command, state_dir, "halt", 5.0)
        resumed = await trio.to_thread.run_sync(send_command, state_dir, "resume", 5.0)
        nursery.cancel_scope.cancel()
    assert (halted.is_ok, halted.text) == (True, "did halt")
    assert (resumed.is_ok, resumed.text) == (False, "did resume")


def test_without_a_daemon_the_operator_is_told_what_to_do(state_dir: Path) -> None:
    with pytest.raises(NotRunning, match=r"state.*bot run"):
        ask_status(state_dir, 1.0)


def test_a_socket_left_by_a_dead_daemon_counts_as_none(state_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(state_dir)))
    with pytest.raises(NotRunning):
        ask_status(state_dir, 1.0)


@contextmanager
def _server(state_dir: Path, behave: Callable[[socket.socket], None]) -> Generator[None]:
    """Serve one client with `behave`, in a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(state_dir)))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def _say(connection: socket.socket, *lines: bytes) -> None:
    connection.recv(4096)
    for line in lines:
        connection.sendall(line)


def _say_nothing(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def _say_for_ever(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(b"x" * 65536)
    except OSError:
        return


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ((b"nonsense\n",), BadReply),
        ((encode(Lost(count=1)), encode(Lost(count=1))), BadReply),
        ((encode(hello()), encode(hello())), BadReply),
        ((encode(Reply(id="", is_ok=False, text="too many")), encode(hello())), BadReply),
        ((encode(hello()), b'{"type":"View"'), ConnectionLost),
        ((), ConnectionLost),
    ],
)
def test_a_bad_answer_has_a_name(lines: tuple[bytes, ...], error: type[Exception], state_dir: Path) -> None:
    with _server(state_dir, lambda connection: _say(connection, *lines)), pytest.raises(error):
        ask_status(state_dir, 5.0)


def test_an_answer_in_pieces_is_put_together(state_dir: Path) -> None:
    pieces = encode(hello()) + encode(busy_view())
    say = partial(_say_slowly, pieces=[pieces[i : i + 97] for i in range(0, len(pieces), 97)])
    with _server(state_dir, say):
        assert ask_status(state_dir, 5.0) == (hello(), busy_view())


def _say_slowly(connection: socket.socket, pieces: list[bytes]) -> None:
    _say(connection, *pieces)


def test_a_daemon_that_says_nothing_is_given_up(state_dir: Path) -> None:
    with _server(state_dir, _say_nothing), pytest.raises(ConnectionLost, match=r"within 0\.05 s"):
        ask_status(state_dir, 0.05)


def test_a_line_without_end_is_given_up(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "VIEW_BYTES_MAX", 1_000_000)
    with _server(state_dir, _say_for_ever), pytest.raises(BadReply, match="longer than"):
        ask_status(state_dir, 5.0)


def test_a_reply_to_somebody_else_is_refused(state_dir: Path) -> None:
    reply = encode(Reply(id="other", is_ok=True, text=""))
    with (
        _server(state_dir, lambda connection: _say(connection, reply)),
        pytest.raises(BadReply, match="Reply"),
    ):
        send_command(state_dir, "halt", 5.0)


def test_a_refusal_without_a_name_is_the_reply(state_dir: Path) -> None:
    reply = Reply(id="", is_ok=False, text="16 clients")
    with _server(state_dir, lambda connection: _say(connection, encode(reply))):
        assert send_command(state_dir, "halt", 5.0) == reply


def test_each_command_has_its_own_name(state_dir: Path) -> None:
    names: set[str] = set()

    def behave(connection: socket.socket) -> None:
        request = decode_request(connection.recv(4096))
        assert isinstance(request, Command)
        names.add(request.id)
        connection.sendall(encode(Reply(id=request.id, is_ok=True, text="")))

    for _ in range(3):
        with _server(state_dir, behave):
            send_command(state_dir, "halt", 5.0)
        socket_path(state_dir).unlink()
    assert len(names) == 3


def test_the_client_needs_neither_trio_nor_textual() -> None:
    code = "import sys, bot.control.client; sys.exit(bool({'trio', 'textual', 'asyncio'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


async def test_an_announcer_tells_the_daemon_that_is_there_and_its_end_when_it_closes(state_dir: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, Hub(busy_view), hello, socket_path(state_dir), _carry_out)
        async with await trio.open_unix_socket(str(socket_path(state_dir))) as screen:
            await screen.send_all(encode(Attach()))
            announcer = Announcer(state_dir)
            announcer.say(research(done=1))
            heard = b""
            with trio.fail_after(10):
                while b'"Research"' not in heard:
                    heard += await screen.receive_some()
                announcer.close()
                while b'"is_over":true' not in heard:
                    heard += await screen.receive_some()
        nursery.cancel_scope.cancel()
    told = [decode_answer(line) for line in heard.splitlines()[2:]]
    assert told == [research(done=1), research(done=1, is_over=True)]


def test_an_announcer_without_a_daemon_says_nothing(state_dir: Path) -> None:
    announcer = Announcer(state_dir)
    announcer.say(research())
    announcer.close()


def test_an_announcer_never_waits_for_a_daemon_that_does_not_read(state_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(socket_path(state_dir)))
        deaf.listen()
        announcer = Announcer(state_dir)
        for done in range(20_000):  # some megabytes: more than any socket keeps
            announcer.say(research(done=done))
        announcer.close()
