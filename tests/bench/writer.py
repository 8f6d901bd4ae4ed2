"""A process that writes frames into a WebSocket, so that their making and sending is on nobody's account.

`python -m tests.bench.writer FILE SYMBOLS RATE ROUNDS` prints its port. To each WebSocket that subscribes it sends the
frames of FILE, ROUNDS times over, each in a call of its own, RATE a second (0: as fast as they are taken); then it
closes. GET is answered by the simulated exchange's REST.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bot.core.flow import END_OF_MARKET
from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.venue import Venue
from tests.bench.frames import Made, load, market, repeated
from tests.support.cli import REPOSITORY

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NO_CONTRACTS = b'{"code":200,"msg":"","data":[]}'
LEAD_S = 0.2


def server_frame(payload: bytes, first: int = 0x81) -> bytes:
    """Return one unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 2**16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


class Writer:
    """Serves one connection after another, each in a thread of its own."""

    def __init__(self, made: Made, symbols: Sequence[str], rate: float, rounds: int) -> None:
        source = market(symbols)
        self._venue = Venue(source.instruments, source.first_ns)
        for _ in zip(range(100), self._venue.open(source), strict=False):
            pass  # the books and a few trades: some clients want tickers before they load markets
        self._answers = [server_frame(frame) for frame in made.answers]
        self._made = made
        self._goodbye = server_frame((1000).to_bytes(2, "big") + END_OF_MARKET.encode(), 0x88)
        self._rate = rate
        self._rounds = rounds

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, suppress(OSError):
            while head := _head(connection):
                key = _header(head, b"sec-websocket-key")
                if key is None:
                    connection.sendall(self._reply(head))
                    continue
                self._shake_hands(connection, key)
                self._write(connection)
                connection.settimeout(5)
                while connection.recv(2**16):
                    pass
                return

    def _reply(self, head: bytes) -> bytes:
        path, _, query = head.split(b" ")[1].decode().partition("?")
        body = NO_CONTRACTS if path.startswith("/v3/") else answer(self._venue, "GET", path, query).body
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def _shake_hands(self, connection: socket.socket, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def _write(self, connection: socket.socket) -> None:
        connection.recv(2**16)  # it subscribes, to whatever we have
        connection.sendall(b"".join(self._answers))
        news = map(server_frame, repeated(self._made.news, self._rounds))
        if not self._rate:
            for frame in news:
                connection.sendall(frame)
        else:
            time.sleep(LEAD_S)  # let it settle
            began = time.perf_counter()
            for number, frame in enumerate(news):
                wait_s = began + number / self._rate - time.perf_counter()
                if wait_s > 0:
                    time.sleep(wait_s)
                connection.sendall(frame)
        connection.sendall(self._goodbye)


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(2**16)
        if not data:
            return b""
        head += data
    return head


def _header(head: bytes, name: bytes) -> bytes | None:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), None)


def main() -> None:
    path, symbols, rate, rounds = sys.argv[1:]
    writer = Writer(load(Path(path)), symbols.split(","), float(rate), int(rounds))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=writer.serve, args=(connection,), daemon=True).start()


@contextmanager
def open_writer(path: Path, symbols: Sequence[str], *, rate: float = 0.0, rounds: int = 1) -> Generator[int]:
    """Start a writer process; yields its port."""
    command = [sys.executable, "-m", "tests.bench.writer", str(path), ",".join(symbols), str(rate), str(rounds)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    main()
