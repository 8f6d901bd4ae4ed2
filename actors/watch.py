"""Watches the process that the bot lives in: the loop, the clock, the queues, memory, the disk, the kill file.

What is not well is said to the risk gate, whose breakers decide what follows. Only a loop that stood still for too long
ends the process at once: whatever it knows is old.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from actors.mailbox import FACTS_MAX
from actors.persistence import COMMIT_S_MAX
from actors.trader import Trader
from bot.control.killfile import is_killed, kill_file, kill_reason
from bot.core.messages import Condition, HealthReported, RiskState
from bot.errors import JournalError, Stalled

log: Final = logging.getLogger(__name__)

BEAT_S: Final = 0.25
LAG_S_MAX: Final = 1.0
LAGS_MAX: Final = 3
"""So many lags within `LAG_WINDOW_S` are a trouble."""
LAG_WINDOW_S: Final = 60.0
GAP_S_MAX: Final = 5.0
"""A longer gap between two beats, on the monotonic or on the wall clock, was slept through."""
STALL_S_MAX: Final = 10.0
QUEUE_MAX: Final = FACTS_MAX * 4 // 5
KILL_FILE_EVERY_S: Final = 1.0
DISK_EVERY_S: Final = 10.0
MEMORY_EVERY_S: Final = 10.0
MEMORY_PCT: Final = 80
"""More than this part of `live.memory_max_mib` is a trouble: there is time yet to look before the system ends us."""
MIB: Final = 2**20
DISK_AT_START: Final = 1024 * MIB
DISK_LOW: Final = 512 * MIB
DISK_FULL: Final = 64 * MIB
"""Less is left for the last records than they might need."""


def free_bytes(path: Path) -> int:
    """Return how much we may still write beside `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def resident_bytes() -> int:
    """Return how much memory we hold; where the system does not say, the most that we ever held."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def check_disk(state_dir: Path) -> None:
    """Look for room before anything starts. Raises JournalError where there is too little."""
    free = free_bytes(state_dir)
    if free < DISK_AT_START:
        raise JournalError(f"{state_dir}: {free // MIB} MiB free, live trading begins with {DISK_AT_START // MIB} MiB")


class Lever:
    """A halt that can be pulled from anywhere, before there is anybody to halt."""

    def __init__(self) -> None:
        self.pulled = ""
        """By whom; empty while nobody has."""
        self._has_moved = trio.Event()

    def pull(self, who: str) -> None:
        """Halt at once."""
        self.pulled = who
        self._has_moved.set()

    async def wait(self) -> str:
        """Return by whom it was pulled, and put it back."""
        await self._has_moved.wait()
        who, self.pulled = self.pulled, ""
        self._has_moved = trio.Event()
        return who


class Watch:
    """Tells the gate of one trader how its process is. `wall_s`, `free` and `resident` are replaced in tests."""

    def __init__(
        self,
        trader: Trader,
        state_dir: Path,
        lever: Lever,
        give_up_sockets: Callable[[str], None],
        *,
        wall_s: Callable[[], float] = time.time,
        free: Callable[[Path], int] = free_bytes,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._trader = trader
        self._state_dir = state_dir
        self._lever = lever
        self._give_up_sockets = give_up_sockets
        self._wall_s = wall_s
        self._free = free
        self._resident = resident
        self._memory_max_mib = trader.terms.settings.live.memory_max_mib
        self._begun = trio.Event()
        """Before the session has begun nobody listens."""
        self._said: dict[Condition, tuple[bool, RiskState]] = {}
        self._lags_s: deque[float] = deque(maxlen=LAGS_MAX)
        self._disk = "", RiskState.REDUCE_ONLY
        """What is wrong with the disk, and how bad that is."""
        self._memory = ""
        """What is wrong with our memory."""

    async def run(self) -> None:
        """Watch everything, for ever. Raises Stalled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_loop)
            nursery.start_soon(self._watch_disk)
            if self._memory_max_mib:
                nursery.start_soon(self._watch_memory)
            nursery.start_soon(self.watch_levers)

    def begin(self) -> None:
        """Say what must be known before the first price comes in, now that somebody hears it."""
        self._begun.set()
        self._look_for_kill_file()

    def _say(self, condition: Condition, trouble: str, severity: RiskState = RiskState.REDUCE_ONLY) -> None:
        """Report a condition, well where `trouble` is empty, if that is new."""
        if not self._begun.is_set():
            return
        is_well = not trouble
        said = is_well, RiskState.NORMAL if is_well else severity
        if self._said.get(condition, (True, RiskState.NORMAL)) == said:
            return
        self._said[condition] = said
        log.log(logging.INFO if is_well else logging.ERROR, "%s: %s", condition, trouble or "well again")
        self._trader.post(
            HealthReported(
                ts_ns=self._trader.now_ns, condition=condition, is_well=is_well, severity=severity, detail=trouble
            )
        )

    # --- the loop and the clocks

    async def _watch_loop(self) -> None:
        offset_s = self._wall_s() - trio.current_time()
        while True:
            due_s = trio.current_time() + BEAT_S
            await trio.sleep_until(due_s)
            now_s = trio.current_time()
            lag_s = now_s - due_s
            if lag_s > STALL_S_MAX:
                raise Stalled(f"the event loop stood still for {lag_s:.1f} s, the most is {STALL_S_MAX:g} s")
            # A sleep of the machine stops the monotonic clock, and shows as a jump of the wall clock.
            jump_s = self._wall_s() - now_s - offset_s
            offset_s += jump_s
            gap_s = max(lag_s, abs(jump_s))
            if gap_s > GAP_S_MAX:
                self._give_up_sockets(f"{gap_s:.1f} s were slept through, or the clock was set")
            self._judge_load(now_s, lag_s, gap_s)
            self._judge_journal(now_s)

    def _judge_load(self, now_s: float, lag_s: float, gap_s: float) -> None:
        if lag_s > LAG_S_MAX:
            self._lags_s.append(now_s)
        depth, name = max((box.unhandled, stage) for stage, box in self._trader.office.mailboxes.items())
        trouble = ""
        if gap_s > GAP_S_MAX:
            trouble = f"{gap_s:.1f} s were slept through, or the clock was set: connecting anew"
        elif depth > QUEUE_MAX:
            trouble = f"{depth} messages wait for {name}, more than {QUEUE_MAX}"
        elif len(self._lags_s) == LAGS_MAX and now_s - self._lags_s[0] <= LAG_WINDOW_S:
            trouble = f"the event loop was late by more than {LAG_S_MAX:g} s, {LAGS_MAX} times in {LAG_WINDOW_S:g} s"
        self._say(Condition.LOAD, trouble or self._memory)

    def _judge_journal(self, now_s: float) -> None:
        took_s = self._trader.commits.running_s(now_s)
        if took_s > COMMIT_S_MAX:
            self._say(Condition.JOURNAL, f"a commit takes longer than {COMMIT_S_MAX:g} s")
        elif took_s == 0:
            self._say(Condition.JOURNAL, *self._disk)

    async def _watch_memory(self) -> None:
        while True:
            held, most_mib = self._resident(), self._memory_max_mib
            is_much = held * 100 > most_mib * MIB * MEMORY_PCT
            trouble = f"{held // MIB} MiB of memory held, more than {MEMORY_PCT} % of memory_max_mib {most_mib}"
            self._memory = trouble if is_much else ""
            await trio.sleep(MEMORY_EVERY_S)

    # --- files

    async def _watch_disk(self) -> None:
        while True:
            free = self._free(self._state_dir)
            severity = RiskState.HALTED if free < DISK_FULL else RiskState.REDUCE_ONLY
            trouble = f"{free // MIB} MiB of disk left, less than {DISK_LOW // MIB} MiB" if free < DISK_LOW else ""
            self._disk = trouble, severity
            await trio.sleep(DISK_EVERY_S)

    # --- levers

    async def watch_levers(self) -> None:
        """Look for the kill file and wait for signals, for ever; without both `resume` opens the gate again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_lever)
            while True:
                self._look_for_kill_file()
                await trio.sleep(KILL_FILE_EVERY_S)

    async def _wait_for_lever(self) -> None:
        await self._begun.wait()
        while True:
            who = await self._lever.wait()
            self._say(Condition.KILL, who, RiskState.HALTED)
            self._look_for_kill_file()

    def _look_for_kill_file(self) -> None:
        trouble = ""
        if is_killed(self._state_dir):
            path = kill_file(self._state_dir)
            trouble = f"kill file {path} ({kill_reason(self._state_dir) or 'no reason given'}): remove it, then resume"
        self._say(Condition.KILL, trouble, RiskState.HALTED)
