"""Virtual time: nobody waits, the clock jumps to whatever is due next; and the wall clock that is made of it.

trio's `MockClock` does the same in its public form, and pays for it with a survey of all tasks at each jump. This one
jumps in the very question that the run loop asks when nothing can run: how long it may sleep. It also keeps timers of
its own, which cost a quarter of what a cancel scope with a deadline costs; a sleep is nothing but one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Final, NoReturn

import trio

START_NS: Final = 1_767_225_600 * 10**9
"""2026-01-01 UTC: when every simulated world begins."""
STILL_S: Final = 0.05
STILL_MAX: Final = 40
"""So often, for so many real seconds, nothing may be due before a run counts as stuck."""


class VirtualClock(trio.abc.Clock):
    """Starts at 0 and stands still while any task can run. For a run without threads and without real sockets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[_Timer] = []
        self._timers_set = 0
        self._stood_still = 0

    def start_clock(self) -> None:
        """Begin at 0: nothing to do."""

    def current_time(self) -> float:
        """Return the seconds since the run began."""
        return self.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return 0, after a jump to what is due next. trio asks only when no task can run."""
        timers = self._timers
        while timers and timers[0][2].timer is not timers[0]:  # moved meanwhile
            heappop(timers)
        due_s = min(deadline, timers[0][0]) if timers else deadline
        if due_s < math.inf:
            self._stood_still = 0
            self.now_s = max(self.now_s, due_s)
            while timers and timers[0][0] <= due_s:
                entry = heappop(timers)
                entry[2].go_off(entry)
            return 0.0
        # Only trio's own pipe to itself can wake anybody now, as it does at the end of a run.
        self._stood_still += 1
        assert self._stood_still <= STILL_MAX, "the simulation has come to a stand: every task waits for another"
        return STILL_S

    def set_timer(self, due_s: float, alarm: Alarm) -> _Timer:
        """Let `alarm` go off at `due_s`, unless it has another timer by then."""
        self._timers_set += 1
        entry = due_s, self._timers_set, alarm
        if due_s < math.inf:
            heappush(self._timers, entry)
        return entry


class Alarm:
    """Wakes the one task that waits for it, at a time that can be moved meanwhile."""

    __slots__ = ("_clock", "_task", "timer")

    def __init__(self) -> None:
        self.timer: _Timer | None = None
        """What it waits for now."""
        self._task: trio.lowlevel.Task | None = None

    async def wait_until(self, due_s: float) -> None:
        """Return at `due_s` of trio's clock, which must be a `VirtualClock`; at once if that is past."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, VirtualClock)
        if due_s <= clock.now_s:
            await trio.lowlevel.checkpoint()
            return
        self._clock = clock
        self._task = trio.lowlevel.current_task()
        self.timer = clock.set_timer(due_s, self)
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def move(self, due_s: float) -> None:
        """Let it go off at `due_s` instead; without a task that waits for it, do nothing."""
        if self.timer is not None:
            self.timer = self._clock.set_timer(due_s, self)

    def _abort(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        del raise_cancel
        self.timer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def go_off(self, entry: _Timer) -> None:
        """Wake the task, if `entry` is still the timer that it waits for."""
        if entry is self.timer and self._task is not None:
            self.timer = None
            trio.lowlevel.reschedule(self._task)


_Timer = tuple[float, int, Alarm]
"""When, its number, and whose it is."""


async def _sleep_until(deadline: float) -> None:
    if math.isnan(deadline):
        raise ValueError("deadline must not be NaN")
    await Alarm().wait_until(deadline)


async def _sleep(seconds: float) -> None:
    if not seconds >= 0:
        raise ValueError("`seconds` must be non-negative")
    await Alarm().wait_until(trio.current_time() + seconds)


@contextmanager
def cheap_sleep() -> Generator[None]:
    """Let `trio.sleep` and `trio.sleep_until` use timers of the virtual clock, until the block is left."""
    before = trio.sleep, trio.sleep_until
    trio.sleep, trio.sleep_until = _sleep, _sleep_until
    try:
        yield
    finally:
        trio.sleep, trio.sleep_until = before


class SimulatedClock:
    """A bot's clock in virtual time. Implements `Clock` of `actors/clock.py`."""

    speed = 1.0

    def __init__(self, tick_s: float = 1.0) -> None:
        self.tick_s = tick_s

    def now_ns(self) -> int:
        """Return nanoseconds since 1970; never less than before."""
        return START_NS + round(trio.current_time() * 1e9)

    def stamp(self, exchange_ns: int) -> int:
        """Return the time now: a frame counts from when we have it."""
        del exchange_ns
        return self.now_ns()
