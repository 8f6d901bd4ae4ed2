"""A daemon's control socket without a daemon: says what a test wants said, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from bot.control.protocol import Answer, Attach, Command, Reply, Request, View, decode_request, encode
from tests.control.samples import hello, view


class FakeDaemon:
    """Serves `path` between enter and exit; every client that attaches is told `greeting`."""

    def __init__(self, path: Path, *greeting: Answer) -> None:
        self.path = path
        self.greeting: tuple[Answer, ...] = greeting or (hello(), view())
        self.reply = Reply(id="", is_ok=True, text="done")
        self.asked: list[Request] = []
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def verbs(self) -> list[str]:
        return [request.verb for request in self.asked if isinstance(request, Command)]

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks)
        self._writers.clear()
        self._server = None
        self.path.unlink(missing_ok=True)

    def say(self, *answers: Answer) -> None:
        self.say_raw(b"".join(encode(answer) for answer in answers))

    def say_raw(self, data: bytes) -> None:
        for writer in self._writers:
            writer.write(data)

    def show(self, shown: View) -> None:
        self.say(shown)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.append(writer)
        try:
            while line := await reader.readline():
                request = decode_request(line)
                self.asked.append(request)
                if isinstance(request, Attach):
                    writer.write(b"".join(encode(answer) for answer in self.greeting))
                elif isinstance(request, Command):
                    reply = Reply(id=request.id, is_ok=self.reply.is_ok, text=self.reply.text)
                    writer.write(encode(reply))
        except ConnectionResetError:
            return
        finally:
            writer.close()
