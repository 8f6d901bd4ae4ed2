"""What time it is at the exchange: the measured offset of its clock against ours, and a bound to what is signed.

It knows neither connections nor signatures; the caller gives it a way to ask the time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median_low
from typing import Final, NamedTuple

import trio

from bot.errors import ClockSkew

ROUND_TRIPS: Final = 5
OFFSET_MS_MAX: Final = 2_000
"""Beyond this our clock is broken, not slow: nothing is signed (faults.md, T2: halt at 2 s)."""
JUMP_MS_MAX: Final = 500
"""How far the wall clock may move against the monotonic one before the offset counts as unknown."""
MEASURE_EVERY_S: Final = 30.0
MS_NS: Final = 1_000_000
WALL_NS: Final[trio.lowlevel.RunVar[Callable[[], int]]] = trio.lowlevel.RunVar("wall_ns", time.time_ns)
"""The machine's own clock in this trio run, nanoseconds since 1970; a simulated machine has one of its own."""


class RoundTrip(NamedTuple):
    """One question for the time: our wall clock when we asked, how long the answer took, what it said."""

    asked_ms: float
    took_ms: float
    server_ms: int

    @property
    def offset_ms(self) -> float:
        """Return how far the exchange's clock is ahead of ours, if both ways took as long."""
        return self.server_ms - (self.asked_ms + self.took_ms / 2)


class Reading(NamedTuple):
    """An offset and how far it may be wrong: half of its round trip."""

    offset_ms: float
    uncertainty_ms: float


def median_reading(trips: Sequence[RoundTrip]) -> Reading:
    """Return the reading whose offset is the median of `trips`, of which there is at least one."""
    offset_ms = median_low(trip.offset_ms for trip in trips)
    took_ms = min(trip.took_ms for trip in trips if trip.offset_ms == offset_ms)
    return Reading(offset_ms, took_ms / 2)


class ServerClock:
    """The exchange's clock as seen from here.

    `server_time_ms` asks the exchange; `wall_ns` is asked in the place of `WALL_NS`. The wall clock may jump: the
    offset then counts as unknown until it is measured again, because the monotonic clock has not jumped with it.
    """

    def __init__(
        self,
        server_time_ms: Callable[[], Awaitable[int]],
        *,
        offset_ms_max: float = OFFSET_MS_MAX,
        wall_ns: Callable[[], int] | None = None,
    ) -> None:
        self._server_time_ms = server_time_ms
        self._offset_ms_max = offset_ms_max
        self._given_wall_ns = wall_ns
        self._lock = trio.Lock()
        self._reading: Reading | None = None
        self._epoch_ms = 0.0
        """Wall clock minus monotonic clock when the offset was measured."""

    @property
    def reading(self) -> Reading | None:
        """The last measurement, or None before the first one and after a jump of the wall clock."""
        has_jumped = abs(self._epoch_now_ms() - self._epoch_ms) > JUMP_MS_MAX
        return None if has_jumped else self._reading

    async def measure(self) -> Reading:
        """Ask the exchange `ROUND_TRIPS` times and keep the median. Raises what the question raises."""
        trips: list[RoundTrip] = []
        for _ in range(ROUND_TRIPS):
            asked_ms, started_s = self._wall_ns() / MS_NS, trio.current_time()
            server_ms = await self._server_time_ms()
            trips.append(RoundTrip(asked_ms, (trio.current_time() - started_s) * 1e3, server_ms))
        self._reading = median_reading(trips)
        self._epoch_ms = self._epoch_now_ms()
        return self._reading

    async def make_ready(self) -> None:
        """Measure, if the offset is not known; callers at the same time share one measurement."""
        if self.reading is None:
            async with self._lock:
                if self.reading is None:
                    await self.measure()

    async def keep_measured(self, on_measured: Callable[[Reading], None]) -> None:
        """Measure every `MEASURE_EVERY_S`, for ever. Raises what the question raises."""
        while True:
            on_measured(await self.measure())
            await trio.sleep(MEASURE_EVERY_S)

    def now_ms(self) -> int:
        """Return the time at the exchange, in milliseconds since the epoch, for a signature.

        Raises:
            ClockSkew: the offset is not known, or larger than its bound.

        """
        reading = self.reading
        if reading is None:
            raise ClockSkew("the exchange's clock is not measured, or ours has jumped since")
        if abs(reading.offset_ms) > self._offset_ms_max:
            raise ClockSkew(
                f"our clock is {-reading.offset_ms:+.0f} ms off the exchange's, more than {self._offset_ms_max:g} ms; "
                "set this machine's clock"
            )
        if reading.uncertainty_ms > self._offset_ms_max:
            raise ClockSkew(
                f"the exchange's clock is known to {reading.uncertainty_ms:.0f} ms only, "
                f"not to {self._offset_ms_max:g} ms: the way to it is too slow"
            )
        return int(self._wall_ns() / MS_NS + reading.offset_ms)

    def _wall_ns(self) -> int:
        return (self._given_wall_ns or WALL_NS.get())()

    def _epoch_now_ms(self) -> float:
        return self._wall_ns() / MS_NS - trio.current_time() * 1e3
