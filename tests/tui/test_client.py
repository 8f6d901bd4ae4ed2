"""The screen's link: attaches, notices an end, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path

from bot.control.protocol import Attach, Command, Hello, Lost, Reply, View
from bot.tui.client import DaemonLink, Disconnected
from tests.control.samples import busy_view, hello, view
from tests.tui.fake_daemon import FakeDaemon


def run(test: Coroutine[None, None, None]) -> None:
    """Run `test` within ten seconds; not as a test of its own, as those are trio's."""
    asyncio.run(asyncio.wait_for(test, 10))


def test_an_attached_link_yields_what_the_daemon_says(tmp_path: Path) -> None:
    async def check() -> None:
        async with FakeDaemon(tmp_path / "x.sock", hello(), busy_view(), Lost(count=3)) as daemon:
            link = DaemonLink(daemon.path)
            async with aclosing(link.answers()) as answers:
                said = [await anext(answers) for _ in range(3)]
            assert said == [hello(), busy_view(), Lost(count=3)]
            assert daemon.asked == [Attach()]
            assert not link.is_up

    run(check())


def test_a_command_carries_the_name_that_its_reply_has(tmp_path: Path) -> None:
    async def check() -> None:
        async with FakeDaemon(tmp_path / "x.sock", hello()) as daemon:
            link = DaemonLink(daemon.path)
            async with aclosing(link.answers()) as answers:
                assert isinstance(await anext(answers), Hello)
                command_id = link.send("halt")
                reply = await anext(answers)
            assert isinstance(reply, Reply)
            assert reply.id == command_id
            assert daemon.asked[1:] == [Command(id=reply.id, verb="halt")]

    run(check())


def test_without_a_daemon_nothing_is_sent_and_retries_slow_down(tmp_path: Path) -> None:
    async def check() -> None:
        link = DaemonLink(tmp_path / "x.sock", retry_s=0.01)
        assert link.send("halt") is None
        async with aclosing(link.answers()) as answers:
            losses = [await anext(answers) for _ in range(4)]
        waits = [loss.retry_s for loss in losses if isinstance(loss, Disconnected)]
        assert waits == [0.01, 0.02, 0.04, 0.08]

    run(check())


def test_a_link_comes_back_and_then_retries_fast_again(tmp_path: Path) -> None:
    async def check() -> None:
        daemon = FakeDaemon(tmp_path / "x.sock")
        link = DaemonLink(daemon.path, retry_s=0.01)
        async with aclosing(link.answers()) as answers:
            for _ in range(3):
                assert isinstance(await anext(answers), Disconnected)
            await daemon.start()
            answer = await anext(answers)
            while not isinstance(answer, View):
                answer = await anext(answers)
            await daemon.stop()
            lost = await anext(answers)
            assert isinstance(lost, Disconnected)
            assert lost.retry_s == 0.01
            assert link.send("halt") is None

    run(check())


def test_nonsense_ends_the_connection(tmp_path: Path) -> None:
    async def check() -> None:
        async with FakeDaemon(tmp_path / "x.sock", view()) as daemon:
            async with aclosing(DaemonLink(daemon.path).answers()) as answers:
                assert isinstance(await anext(answers), View)
                daemon.say_raw(b"\xff\xfe nonsense\n")
                lost = await anext(answers)
            assert isinstance(lost, Disconnected)
            assert "not an answer" in lost.reason

    run(check())


def test_half_a_line_at_the_end_is_not_an_answer(tmp_path: Path) -> None:
    async def check() -> None:
        daemon = FakeDaemon(tmp_path / "x.sock", hello())
        await daemon.start()
        async with aclosing(DaemonLink(daemon.path).answers()) as answers:
            assert isinstance(await anext(answers), Hello)
            daemon.say_raw(b'{"type":"Lost","count":1}')
            await daemon.stop()
            assert isinstance(await anext(answers), Disconnected)

    run(check())
