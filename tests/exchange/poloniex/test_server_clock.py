from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from bot.errors import ClockSkew, ConnectionLost
from bot.exchange.poloniex.server_clock import MEASURE_EVERY_S, RoundTrip, ServerClock, median_reading

NOW_MS = 1_700_000_000_000


@dataclass(slots=True)
class World:
    """A true time, our wall clock beside it, and an exchange some way off."""

    wall_error_ms: float = 0.0
    out_s: Sequence[float] = (0.02,)
    back_s: Sequence[float] = (0.02,)
    asked: int = 0
    starts_s: float = field(default_factory=trio.current_time)

    def true_ms(self) -> float:
        return NOW_MS + (trio.current_time() - self.starts_s) * 1e3

    def wall_ns(self) -> int:
        return int((self.true_ms() + self.wall_error_ms) * 1e6)

    async def server_time_ms(self) -> int:
        number, self.asked = self.asked, self.asked + 1
        await trio.sleep(self.out_s[number % len(self.out_s)])
        server_ms = int(self.true_ms())
        await trio.sleep(self.back_s[number % len(self.back_s)])
        return server_ms

    def clock(self, offset_ms_max: float = 2_000) -> ServerClock:
        return ServerClock(self.server_time_ms, offset_ms_max=offset_ms_max, wall_ns=self.wall_ns)


@pytest.mark.parametrize("wall_error_ms", [0, 700, -700, 1_999, -1_990])
async def test_a_wrong_wall_clock_is_put_right(autojump_clock: trio.testing.MockClock, wall_error_ms: float) -> None:
    world = World(wall_error_ms)
    clock = world.clock()
    await clock.measure()
    assert world.asked == 5
    assert abs(clock.now_ms() - world.true_ms()) <= 2
    await trio.sleep(3600)
    assert abs(clock.now_ms() - world.true_ms()) <= 2


async def test_the_median_forgets_two_slow_round_trips(autojump_clock: trio.testing.MockClock) -> None:
    world = World(300, out_s=(0.01, 1.5, 0.01, 0.9, 0.01), back_s=(0.01,))
    reading = await world.clock().measure()
    assert abs(reading.offset_ms + 300) <= 2
    assert abs(reading.uncertainty_ms - 10) <= 1


def test_half_a_round_trip_is_taken_off() -> None:
    assert RoundTrip(asked_ms=1_000, took_ms=40, server_ms=1_120).offset_ms == 100
    assert median_reading([RoundTrip(1_000, 40, 1_120)]) == (100, 20)


@pytest.mark.parametrize("wall_error_ms", [2_100, -2_100, 3_600_000])
async def test_nothing_is_signed_beyond_the_bound(autojump_clock: trio.testing.MockClock, wall_error_ms: float) -> None:
    clock = World(wall_error_ms).clock()
    await clock.measure()
    with pytest.raises(ClockSkew, match="ms off the exchange's, more than 2000 ms"):
        clock.now_ms()


async def test_nothing_is_signed_by_a_clock_known_too_badly(autojump_clock: trio.testing.MockClock) -> None:
    clock = World(out_s=(3.0,), back_s=(3.0,)).clock()
    await clock.measure()
    with pytest.raises(ClockSkew, match="known to 3000 ms only"):
        clock.now_ms()


async def test_nothing_is_signed_before_the_first_measurement(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ClockSkew, match="not measured"):
        World().clock().now_ms()


async def test_a_jump_of_the_wall_clock_asks_for_a_new_measurement(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    clock = world.clock()
    await clock.make_ready()
    world.wall_error_ms = 900
    with pytest.raises(ClockSkew, match="jumped"):
        clock.now_ms()
    await clock.make_ready()
    assert abs(clock.now_ms() - world.true_ms()) <= 2


async def test_callers_share_one_measurement(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    clock = world.clock()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(clock.make_ready)
    assert world.asked == 5


async def test_it_is_measured_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    with trio.move_on_after(10 * MEASURE_EVERY_S):
        await world.clock().keep_measured(lambda reading: None)
    assert world.asked == 50


async def test_a_question_that_fails_goes_up(autojump_clock: trio.testing.MockClock) -> None:
    async def fails() -> int:
        raise ConnectionLost("gone")

    clock = ServerClock(fails)
    with pytest.raises(ConnectionLost):
        await clock.make_ready()
    with pytest.raises(ClockSkew):
        clock.now_ms()
