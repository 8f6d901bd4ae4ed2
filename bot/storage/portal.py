"""A door from trio to asyncio: one asyncio loop in one thread, for libraries that know nothing else.

`await portal.run(afn, *args)` calls `afn` over there. Its exceptions keep their type. Cancelling the call
cancels the asyncio task and waits until that has truly ended, so that nothing is ever written behind our
back. No coroutine can end the loop for the others, and a loop that has ended wakes all who wait for it. Context
variables do not cross.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import outcome
import trio

from bot.errors import JournalError

P = ParamSpec("P")
T = TypeVar("T")
RaiseCancel = Callable[[], NoReturn]

JOIN_SECONDS_MAX: Final = 5.0
"""How long an end waits for the thread; it is a daemon thread and cannot hold the process."""

log = logging.getLogger(__name__)


class PortalClosed(JournalError):
    """The asyncio loop has ended, or is about to."""


class AsyncioPortal:
    """One asyncio loop in a thread of its own. Made and used by one trio run; `open_portal` closes it."""

    def __init__(self) -> None:
        self._is_closed = False
        # By waiting trio task; touched by the trio thread alone.
        self._waiters: dict[trio.lowlevel.Task, Callable[[outcome.Outcome[Any]], None]] = {}
        self._token = trio.lowlevel.current_trio_token()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="asyncio-portal", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        """Run the loop until it is stopped; then cancel what is left, close it, and wake who still waits."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop):
                self._loop.run_forever()
        finally:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake_all)

    def _wake_all(self) -> None:
        self._is_closed = True
        for wake in list(self._waiters.values()):
            wake(outcome.Error(PortalClosed("the asyncio loop has ended")))

    async def run(self, afn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `await afn(*args)` returns on the asyncio loop.

        Raises:
            PortalClosed: the loop has ended, or `afn` cancelled itself.

        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closed:
            raise PortalClosed("the asyncio portal is closed")
        waiter = trio.lowlevel.current_task()
        task: asyncio.Task[outcome.Outcome[T]] | None = None
        raise_cancel: RaiseCancel | None = None

        def wake(result: outcome.Outcome[T]) -> None:
            if self._waiters.pop(waiter, None) is None:
                return  # the end of the loop came first
            if isinstance(result, outcome.Error) and isinstance(result.error, asyncio.CancelledError):
                result = _cancelled(raise_cancel)
            trio.lowlevel.reschedule(waiter, result)

        async def runner() -> outcome.Outcome[T]:
            # Nothing may escape: a SystemExit in a task would end the loop for everybody.
            try:
                return outcome.Value(await afn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # handed to the caller, whatever it is
                return outcome.Error(error)

        def done(ended: asyncio.Task[outcome.Outcome[T]]) -> None:
            # The result comes from here: a task cancelled before its first step never enters `runner`.
            result = outcome.Error(asyncio.CancelledError()) if ended.cancelled() else ended.result()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(wake, result)

        def start() -> None:
            nonlocal task
            task = self._loop.create_task(runner())
            task.add_done_callback(done)

        def cancel() -> None:
            assert task is not None  # the loop keeps the order of its callbacks, and `start` came before
            task.cancel()

        def abort(raise_cancel_: RaiseCancel) -> trio.lowlevel.Abort:
            nonlocal raise_cancel
            raise_cancel = raise_cancel_
            with suppress(RuntimeError):  # the loop is closed: `_wake_all` is on its way
                self._loop.call_soon_threadsafe(cancel)
            return trio.lowlevel.Abort.FAILED  # wait until the asyncio task has ended

        self._waiters[waiter] = wake
        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError as error:
            del self._waiters[waiter]
            raise PortalClosed("the asyncio loop has ended") from error
        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    async def aclose(self) -> None:
        """Stop the loop, cancel what still runs there, and wait for the thread to end."""
        self._is_closed = True
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._loop.stop)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join, JOIN_SECONDS_MAX, limiter=trio.CapacityLimiter(1))
        if self._thread.is_alive():
            log.warning("asyncio thread still runs after %s s", JOIN_SECONDS_MAX)


def _cancelled(raise_cancel: RaiseCancel | None) -> outcome.Outcome[Any]:
    """Return trio's cancellation if we asked for one; otherwise the task was cancelled from its own side."""
    if raise_cancel is None:
        return outcome.Error(PortalClosed("the call was cancelled inside asyncio"))
    return outcome.capture(raise_cancel)


@asynccontextmanager
async def open_portal() -> AsyncGenerator[AsyncioPortal, None]:
    """Open a portal for the length of a block."""
    portal = AsyncioPortal()
    try:
        yield portal
    finally:
        await portal.aclose()
