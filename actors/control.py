"""The control actor: serves screens and the command line on a Unix socket; nobody ever waits for them.

The hub is where actors leave what a screen should show; each client has an outbox of bounded size and a task
that empties it. A client that does not read, or talks nonsense, is closed. Nothing here knows what a command
does.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from bot.control.paths import make_private_dir
from bot.control.protocol import (
    LINE_BYTES_MAX,
    Answer,
    Attach,
    Command,
    Hello,
    Lost,
    Note,
    Reply,
    Research,
    Status,
    View,
    decode_request,
    encode,
)
from bot.core.text import safe_text
from bot.errors import BadReply

log = logging.getLogger(__name__)

CLIENTS_MAX: Final = 16
BACKLOG_NOTES_MAX: Final = 200
"""Notes that a screen is shown when it attaches."""
CLIENT_NOTES_MAX: Final = 500
"""Notes kept for one slow client; the oldest make room."""
NOTE_LENGTH_MAX: Final = 1000
RESEARCH_LENGTH_MAX: Final = 80
CLIENT_ANSWERS_MAX: Final = 8
"""Unread answers to one client's requests; at more of them its next request is not read."""
CLIENT_COMMANDS_MAX: Final = 4
"""Commands of one client that are carried out at once."""
VIEW_INTERVAL_S: Final = 0.1
SEND_TIMEOUT_S: Final = 2.0
LINE_TIMEOUT_S: Final = 5.0
IDLE_TIMEOUT_S: Final = 30.0
"""A client that has not attached, and asks nothing for so long, makes room for another."""
COMMAND_TIMEOUT_S: Final = 10.0
LAST_WORDS_S: Final = 1.0
_CHUNK_BYTES: Final = 16 * 1024

OnCommand = Callable[[Command], Awaitable[Reply]]


class Hub:
    """What all screens show. Every method is synchronous, and none can fail or wait because of a client."""

    def __init__(self, make_view: Callable[[], View]) -> None:
        self.make_view = make_view
        """Builds a view for one who has just come; called only then."""
        self._clients: set[_Client] = set()
        self._backlog: deque[bytes] = deque(maxlen=BACKLOG_NOTES_MAX)
        self._research: dict[_Client, Research] = {}
        """What each client works on."""

    @property
    def has_clients(self) -> bool:
        """Return whether anybody is connected."""
        return bool(self._clients)

    @property
    def wants_view(self) -> bool:
        """Return whether a screen is attached, so that building a view is worth it."""
        return any(client.is_attached for client in self._clients)

    def publish(self, view: View) -> None:
        """Show `view` on every screen; it replaces one that is not sent yet."""
        shot = _Shot(view)
        for client in self._clients:
            if client.is_attached:
                client.show(shot)

    def note(self, note: Note) -> None:
        """Tell every screen `note`, now or when it attaches; its text is made safe for a terminal."""
        line = encode(msgspec.structs.replace(note, text=safe_text(note.text, NOTE_LENGTH_MAX)))
        self._backlog.append(line)
        for client in self._clients:
            if client.is_attached:
                client.tell(line)

    def research(self, client: _Client, report: Research) -> None:
        """Tell every screen how far the work of `client` is; its words are made safe for a terminal."""
        name, best = (safe_text(text, RESEARCH_LENGTH_MAX) for text in (report.name, report.best))
        self._tell_research(client, msgspec.structs.replace(report, name=name, best=best))

    def _tell_research(self, client: _Client, report: Research) -> None:
        if report.is_over:
            self._research.pop(client, None)
        else:
            self._research[client] = report
        line = encode(report)
        for screen in self._clients:
            if screen.is_attached:
                screen.follow(report.id, line)

    def attach(self, client: _Client) -> None:
        """Begin to send views and notes to `client`: all of the backlog and a view of now first."""
        if client.is_attached:
            return
        client.is_attached = True
        client.show(_Shot(self.make_view()))
        for line in self._backlog:
            client.tell(line)
        for report in self._research.values():
            client.follow(report.id, encode(report))

    def add(self, client: _Client) -> bool:
        """Return whether there is room for `client`, who is connected from now on."""
        if len(self._clients) >= CLIENTS_MAX:
            return False
        self._clients.add(client)
        return True

    def remove(self, client: _Client) -> None:
        """Forget `client`, and what it worked on."""
        self._clients.discard(client)
        report = self._research.get(client)
        if report is not None:
            self._tell_research(client, msgspec.structs.replace(report, is_over=True))


class _Shot:
    """A view that becomes bytes once, for the first client who takes it, or never."""

    __slots__ = ("_line", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._line: bytes | None = None

    @property
    def line(self) -> bytes:
        if self._line is None:
            self._line = encode(self._view)
        return self._line


class _Client:
    """One connection: its outbox, and the half line that it is saying."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.is_attached = False
        self.commands_running = 0
        self._stream = stream
        self._heard = bytearray()
        self._answers: deque[bytes] = deque()
        self._shot: _Shot | None = None
        self._notes: deque[bytes] = deque()
        self._notes_lost = 0
        self._research: dict[str, bytes] = {}
        self._unsent = bytearray()
        self._has_mail = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()

    # --- put in, by anybody, at once

    def answer(self, *answers: Answer) -> None:
        """Send `answers`, all of them and in order."""
        self._answers.extend(encode(answer) for answer in answers)
        self._has_mail.set()

    def show(self, shot: _Shot) -> None:
        """Send `shot`, unless a newer one comes before."""
        self._shot = shot
        self._has_mail.set()

    def tell(self, note: bytes) -> None:
        """Send `note`, unless too many come while it waits."""
        if len(self._notes) == CLIENT_NOTES_MAX:
            self._notes.popleft()
            self._notes_lost += 1
        self._notes.append(note)
        self._has_mail.set()

    def follow(self, work: str, report: bytes) -> None:
        """Send the `report` of a piece of research, unless a newer one of the same comes before."""
        if work in self._research or len(self._research) < CLIENTS_MAX:
            self._research[work] = report
            self._has_mail.set()

    def finish_command(self, reply: Reply) -> None:
        """Send `reply` to a command that ran."""
        self.commands_running -= 1
        self.answer(reply)
        self._changed.unpark_all()

    # --- sent and read, by the tasks of this client

    async def pump(self) -> None:
        """Send what is put in, as fast as it is read, but views and research no more often than `VIEW_INTERVAL_S`.

        Raises:
            trio.TooSlowError: the client read nothing for `SEND_TIMEOUT_S`.
            OSError: the client is gone.

        """
        while True:
            await self._has_mail.wait()
            is_news_to_pace = self._shot is not None or bool(self._research)
            await self.flush()
            if is_news_to_pace:
                await trio.sleep(VIEW_INTERVAL_S)

    async def flush(self) -> None:
        """Send what is in the outbox now; if cancelled, the next call goes on within the same line."""
        self._unsent += self._take_all()
        while self._unsent:
            with trio.fail_after(SEND_TIMEOUT_S):
                sent = await self._stream.socket.send(self._unsent)
            del self._unsent[:sent]

    async def room_for_a_request(self) -> None:
        """Wait until few enough answers are unread."""
        while len(self._answers) >= CLIENT_ANSWERS_MAX:
            await self._changed.park()

    async def commands_done(self) -> None:
        """Wait until every command of this client has its reply in the outbox."""
        while self.commands_running:
            await self._changed.park()

    async def next_line(self) -> bytes | None:
        """Return the next line, without its line feed, or None at the end.

        Raises:
            BadReply: the line is too long, or took too long to say.
            OSError, trio.BrokenResourceError: the client is gone.

        """
        searched = 0
        deadline = self._line_deadline()
        while (end := self._heard.find(b"\n", searched)) < 0 and len(self._heard) <= LINE_BYTES_MAX:
            searched = len(self._heard)
            with trio.move_on_at(deadline) as scope:
                chunk = await self._stream.receive_some(_CHUNK_BYTES)
            if scope.cancelled_caught:
                raise BadReply(f"half a line for {LINE_TIMEOUT_S:g} s, or no request for {IDLE_TIMEOUT_S:g} s")
            if not chunk:
                return None
            self._heard += chunk
            if searched == 0:
                deadline = self._line_deadline()
        if not 0 <= end <= LINE_BYTES_MAX:
            raise BadReply(f"a line longer than {LINE_BYTES_MAX} bytes", bytes(self._heard[:200]))
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        return line

    def _line_deadline(self) -> float:
        if self._heard:
            return trio.current_time() + LINE_TIMEOUT_S
        return float("inf") if self.is_attached else trio.current_time() + IDLE_TIMEOUT_S

    def _take_all(self) -> bytes:
        """Empty the outbox. Answers come first: `Hello` stands before every view."""
        self._has_mail = trio.Event()
        lines = list(self._answers)
        if self._shot is not None:
            lines.append(self._shot.line)
        if self._notes_lost:
            lines.append(encode(Lost(count=self._notes_lost)))
        lines.extend(self._notes)
        lines.extend(self._research.values())
        self._answers.clear()
        self._research.clear()
        self._shot, self._notes_lost = None, 0
        self._notes.clear()
        self._changed.unpark_all()
        return b"".join(lines)


async def serve_control(
    hub: Hub,
    hello: Callable[[], Hello],
    path: Path,
    on_command: OnCommand,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients on the Unix socket `path` until cancelled; then send what waits, and remove the socket.

    The caller holds the daemon's lock: a socket that lies there is a dead daemon's. `on_command` runs in a
    task for each command, goes on when its client leaves, and has `COMMAND_TIMEOUT_S`; what it raises goes
    up.

    Raises:
        SettingsError: the directory of `path` is not private to us.

    """
    make_private_dir(path.parent)
    listener = _open_listener(path)
    try:
        async with trio.open_nursery() as commands, trio.open_nursery() as clients:

            async def serve(stream: trio.SocketStream) -> None:
                client = _Client(stream)
                async with stream:
                    if not _is_ours(stream.socket):
                        log.warning("control: refused a client of another user")
                    elif hub.add(client):
                        await _serve_client(hub, client, _Desk(hub, client, hello, on_command, commands))
                    else:
                        client.answer(Reply(id="", is_ok=False, text=f"{CLIENTS_MAX} clients are connected already"))
                        await _say_last_words(client)

            await trio.serve_listeners(serve, [listener], handler_nursery=clients, task_status=task_status)
    finally:
        _remove(path)


class _Desk:
    """Answers the requests of one client."""

    def __init__(
        self,
        hub: Hub,
        client: _Client,
        hello: Callable[[], Hello],
        on_command: OnCommand,
        commands: trio.Nursery,
    ) -> None:
        self._hub = hub
        self._client = client
        self._hello = hello
        self._on_command = on_command
        self._commands = commands

    async def serve(self) -> None:
        """Answer until the client says no more, or says nonsense."""
        try:
            while (line := await self._client.next_line()) is not None:
                self._serve_line(line)
                await self._client.room_for_a_request()
        except BadReply as error:
            log.warning("control: closing a client: %s", error)
            self._client.answer(Reply(id="", is_ok=False, text=safe_text(str(error), NOTE_LENGTH_MAX)))
        await self._client.commands_done()

    def _serve_line(self, line: bytes) -> None:
        match decode_request(line):
            case Attach():
                self._client.answer(self._hello())
                self._hub.attach(self._client)
            case Status():
                self._client.answer(self._hello(), self._hub.make_view())
            case Research() as report:
                self._hub.research(self._client, report)
            case Command() as command if self._client.commands_running >= CLIENT_COMMANDS_MAX:
                text = f"{CLIENT_COMMANDS_MAX} commands of yours are running already"
                self._client.answer(Reply(id=command.id, is_ok=False, text=text))
            case Command() as command:
                self._client.commands_running += 1
                self._commands.start_soon(self._carry_out, command)

    async def _carry_out(self, command: Command) -> None:
        text = f"{command.verb}: no answer within {COMMAND_TIMEOUT_S:g} s; it may still be carried out"
        reply = Reply(id=command.id, is_ok=False, text=text)
        with trio.move_on_after(COMMAND_TIMEOUT_S):
            reply = await self._on_command(command)
        self._client.finish_command(reply)


async def _serve_client(hub: Hub, client: _Client, desk: _Desk) -> None:
    is_there = True
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pump)
            await desk.serve()
            nursery.cancel_scope.cancel()
    except* trio.TooSlowError:
        is_there = False
        log.warning("control: dropped a client that read nothing for %g s", SEND_TIMEOUT_S)
    except* (OSError, trio.BrokenResourceError):
        is_there = False
        log.info("control: a client is gone")
    finally:
        if is_there:
            await _say_last_words(client)
        hub.remove(client)


async def _say_last_words(client: _Client) -> None:
    """Send what waits, in bounded time, even while everything ends."""
    with trio.move_on_after(LAST_WORDS_S, shield=True):
        try:
            await client.flush()
        except (OSError, trio.TooSlowError):
            log.info("control: a client left before its last lines")


def _open_listener(path: Path) -> trio.SocketListener:
    _remove(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Not trio's bind: that is a checkpoint, and the mask is the whole process's.
    mask = os.umask(0o177)
    try:
        sock.bind(os.fspath(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    sock.listen(CLIENTS_MAX)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _is_ours(sock: trio.socket.SocketType) -> bool:
    """Return whether the other end is a process of our own user."""
    if sys.platform != "linux":
        return True  # the modes of the socket and of its directory stand alone
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return uid == os.getuid()
