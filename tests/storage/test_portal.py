"""The door to asyncio: what passes through it, and that nobody is left waiting. Real threads, real time."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
import trio
import trio.testing

from bot.storage.portal import PortalClosed, open_portal


class OwnError(Exception):
    pass


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def test_a_call_returns_its_value_from_another_thread() -> None:
    async def thread_name() -> str:
        return threading.current_thread().name

    async with open_portal() as portal:
        assert await portal.run(give, 5) == 5
        assert await portal.run(thread_name) == "asyncio-portal"


@pytest.mark.parametrize("kind", [OwnError, ValueError, SystemExit, KeyboardInterrupt, TimeoutError])
async def test_an_exception_keeps_its_type_and_the_loop_lives_on(kind: type[BaseException]) -> None:
    raised = kind("mine")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise raised

    async with open_portal() as portal:
        with pytest.raises(kind) as caught:
            await portal.run(fail)
        assert caught.value is raised
        assert await portal.run(give, 1) == 1


async def test_many_calls_run_at_once() -> None:
    async with open_portal() as portal:
        gate = await portal.run(make_event)
        results: list[int] = []

        async def wait(number: int) -> int:
            await gate.wait()
            return number

        async def call(number: int) -> None:
            results.append(await portal.run(wait, number))

        async def open_gate() -> None:
            gate.set()

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(call, number)
                await trio.testing.wait_all_tasks_blocked()
                await portal.run(open_gate)
        assert sorted(results) == list(range(20))


async def make_event() -> asyncio.Event:
    return asyncio.Event()


async def test_a_cancelled_call_waits_until_its_task_has_ended() -> None:
    steps: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            steps.append("cleaned up")

    async with open_portal() as portal:
        with trio.move_on_after(0.05) as scope:
            await portal.run(slow)
        assert scope.cancelled_caught
        assert steps == ["cleaned up"]


async def test_a_task_that_ignores_its_cancellation_returns_its_value() -> None:
    async def stubborn() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 7
        return 0

    async with open_portal() as portal:
        with trio.move_on_after(0.05) as scope:
            assert await portal.run(stubborn) == 7
        assert not scope.cancelled_caught


async def test_a_call_in_a_cancelled_scope_never_starts() -> None:
    started: list[int] = []

    async def start() -> None:
        started.append(1)

    async with open_portal() as portal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await portal.run(start)
        assert scope.cancelled_caught
    assert not started


async def test_a_task_that_cancels_itself_is_no_cancellation_of_ours() -> None:
    async def cancel_self() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    async with open_portal() as portal:
        with pytest.raises(PortalClosed, match="cancelled inside asyncio"):
            await portal.run(cancel_self)
        assert await portal.run(give, 2) == 2


async def test_two_thousand_cancels_at_random_moments_leave_nobody_waiting() -> None:
    dice = random.Random(1)

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    with trio.fail_after(60):
        async with open_portal() as portal:

            async def call() -> None:
                for _ in range(100):
                    with trio.move_on_after(dice.random() * 0.002):
                        await portal.run(work, dice.choice([0, 0.001, 0.01]))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(call)
            assert not portal._waiters
            assert await portal.run(count_tasks) == 1


async def count_tasks() -> int:
    return len(asyncio.all_tasks())


async def test_a_loop_that_ends_wakes_all_who_wait() -> None:
    woken: list[type[BaseException]] = []

    async with open_portal() as portal:

        async def wait() -> None:
            try:
                await portal.run(asyncio.sleep, 60)
            except PortalClosed as error:
                woken.append(type(error))

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                portal._loop.call_soon_threadsafe(portal._loop.stop)
        assert woken == [PortalClosed] * 10
        # While the loop ends, a call may still get through; once it has ended none does.
        await trio.to_thread.run_sync(portal._thread.join)
        with pytest.raises(PortalClosed):
            await portal.run(give, 1)
    assert not portal._waiters


async def test_a_closed_portal_leaves_no_thread_and_takes_no_call() -> None:
    async with open_portal() as portal:
        await portal.run(give, 1)
    assert not portal._thread.is_alive()
    assert portal._loop.is_closed()
    with pytest.raises(PortalClosed):
        await portal.run(give, 1)
