from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import RateLimited
from bot.exchange.poloniex import limits as module
from bot.exchange.poloniex.limits import (
    CANCEL_EVERY_S,
    LIMITS,
    PAUSE_S_MAX,
    PER_ADDRESS,
    WINDOW_S,
    Gate,
    Group,
    Lane,
    Limiter,
    RateLimits,
    Ticket,
    reserve,
)


def run_until_idle(limiter: Limiter, now_s: float) -> list[tuple[float, Lane]]:
    """Return when each waiting ticket went, as the trio part would let them."""
    gone: list[tuple[float, Lane]] = []
    while (first := limiter.first) is not None:
        if limiter.may_go(first, now_s):
            gone.append((now_s, first.lane))
        else:
            now_s = limiter.ready_s(first.lane, now_s)
    return gone


def most_in_a_window(times_s: list[float]) -> int:
    """Return the largest number of times in any [t, t + WINDOW_S)."""
    return max(
        (sum(1 for other in times_s[index:] if other - start < WINDOW_S) for index, start in enumerate(times_s)),
        default=0,
    )


def test_every_documented_group_has_its_limit() -> None:
    assert LIMITS.keys() == set(Group)
    spot = {Group.PUBLIC_LIGHT: 200, Group.PUBLIC_HEAVY: 10, Group.PRIVATE_LIGHT: 50, Group.PRIVATE_HEAVY: 10}
    assert {group: LIMITS[group] for group in spot} == spot


@pytest.mark.parametrize("limit", [*range(1, 60), 100, 200, 300])
def test_every_lane_can_go_and_leaves_room_for_those_before(limit: int) -> None:
    for lane in Lane:
        assert limit - lane * reserve(limit) >= 1
    assert reserve(limit) >= 1 or limit < 4


@given(
    limit=st.integers(1, 12),
    asks=st.lists(
        st.tuples(st.floats(0, 1.5, allow_nan=False), st.sampled_from(Lane), st.sampled_from(["ask", "429", "ok"])),
        max_size=60,
    ),
)
@settings(deadline=None)
def test_no_window_holds_more_than_the_limit_and_no_cancel_waits_behind_an_open(
    limit: int, asks: list[tuple[float, Lane, str]]
) -> None:
    limiter, now_s = Limiter(limit), 0.0
    waiting: list[Ticket] = []
    gone: list[tuple[float, Lane]] = []

    def let_go(until_s: float) -> None:
        nonlocal now_s
        while (first := limiter.first) is not None and limiter.ready_s(first.lane, now_s) <= until_s:
            now_s = max(now_s, limiter.ready_s(first.lane, now_s))
            # Whoever is not the first is turned away: those of a later lane and those behind.
            assert not any(limiter.may_go(ticket, now_s) for ticket in waiting if ticket is not first)
            if limiter.may_go(first, now_s):
                assert first.lane == min(ticket.lane for ticket in waiting)
                assert first is next(ticket for ticket in waiting if ticket.lane is first.lane)
                waiting.remove(first)
                gone.append((now_s, first.lane))
        now_s = until_s

    for after_s, lane, event in asks:
        let_go(now_s + after_s)
        if event == "429":
            limiter.refused(now_s)
        elif event == "ok":
            limiter.answered()
        else:
            waiting.append(limiter.ask(lane))
    let_go(now_s + 10_000)
    assert not waiting
    assert most_in_a_window([time_s for time_s, _ in gone]) <= limit


@given(limit=st.integers(4, 60), floods=st.lists(st.sampled_from([Lane.CLOSE, Lane.OPEN, Lane.DATA]), min_size=100))
def test_a_cancel_finds_room_at_once_whatever_the_flood(limit: int, floods: list[Lane]) -> None:
    limiter = Limiter(limit)
    for lane in floods:
        limiter.ask(lane)
    while (first := limiter.first) is not None and limiter.may_go(first, 0.0):
        pass
    cancel = limiter.ask(Lane.CANCEL)
    assert limiter.may_go(cancel, 0.0)


def test_the_full_limit_is_used() -> None:
    limiter = Limiter(10)
    for _ in range(25):
        limiter.ask(Lane.CANCEL)
    assert [round(time_s, 6) for time_s, _ in run_until_idle(limiter, 0.0)] == [0.0] * 10 + [1.1] * 10 + [2.2] * 5


@given(
    now_s=st.floats(0, 1e9),
    retry_after_s=st.one_of(st.none(), st.floats(0, CANCEL_EVERY_S)),
    lane=st.sampled_from(Lane),
)
def test_a_pause_is_kept_by_all(now_s: float, retry_after_s: float | None, lane: Lane) -> None:
    limiter = Limiter(10)
    ticket = limiter.ask(lane)
    for_s = limiter.refused(now_s, retry_after_s)
    assert for_s >= (retry_after_s or 0.0)
    assert for_s >= 1.0
    assert not limiter.may_go(ticket, now_s + for_s * 0.99)
    assert limiter.may_go(ticket, now_s + for_s)


def test_repeated_refusals_wait_longer_until_a_good_answer() -> None:
    limiter = Limiter(10)
    assert [limiter.refused(0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, PAUSE_S_MAX, PAUSE_S_MAX]
    limiter.answered()
    assert limiter.refused(0.0) == 1


def test_in_a_long_pause_one_cancel_tries_now_and_then() -> None:
    limiter = Limiter(10)
    limiter.pause(0.0, 100.0)
    for lane in (Lane.CANCEL, Lane.CANCEL, Lane.CANCEL, Lane.CANCEL, Lane.OPEN):
        limiter.ask(lane)
    gone = run_until_idle(limiter, 0.0)
    assert gone == [
        (30.0, Lane.CANCEL),
        (60.0, Lane.CANCEL),
        (90.0, Lane.CANCEL),
        (100.0, Lane.CANCEL),
        (100.0, Lane.OPEN),
    ]


def test_a_withdrawn_ticket_holds_nobody_up() -> None:
    limiter = Limiter(1)
    first, second = limiter.ask(Lane.OPEN), limiter.ask(Lane.OPEN)
    limiter.withdraw(first)
    assert limiter.may_go(second, 0.0)


# --- with trio


async def goes(gate: Gate, lane: Lane, gone: list[tuple[float, Lane]]) -> None:
    await gate.wait(lane)
    gone.append((round(trio.current_time(), 6), lane))


@given(asks=st.lists(st.tuples(st.floats(0, 3, allow_nan=False), st.sampled_from(Lane)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_tasks_keep_the_limit_on_virtual_time(asks: list[tuple[float, Lane]]) -> None:
    limit, gone = 5, list[tuple[float, Lane]]()
    asked: list[tuple[float, Lane]] = []

    async def ask_later(gate: Gate, at_s: float, lane: Lane) -> None:
        await trio.sleep_until(at_s)
        asked.append((at_s, lane))
        await gate.wait(lane)
        # Nobody of an earlier lane waits still: it would have gone first, in this very instant too.
        ahead = [each for each in asked if each[1] < lane and each[0] < trio.current_time()]
        assert sum(1 for each in gone if each[1] < lane) >= len(ahead)
        gone.append((trio.current_time(), lane))

    async def main() -> None:
        gate = Gate(Group.PRIVATE_HEAVY, limit)
        async with trio.open_nursery() as nursery:
            for at_s, lane in asks:
                nursery.start_soon(ask_later, gate, at_s, lane)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(gone) == len(asks)
    assert most_in_a_window(sorted(time_s for time_s, _ in gone)) <= limit


async def test_a_late_cancel_passes_all_that_wait(autojump_clock: trio.testing.MockClock) -> None:
    gate, gone = Gate(Group.PRIVATE_HEAVY, 10), list[tuple[float, Lane]]()
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(goes, gate, Lane.OPEN, gone)
        await trio.sleep(0.5)
        before = len(gone)
        nursery.start_soon(goes, gate, Lane.CANCEL, gone)
    assert before == 8
    assert gone[before] == (0.5, Lane.CANCEL)


async def test_a_cancelled_caller_leaves_its_place_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    gate, gone = Gate(Group.PRIVATE_HEAVY, 1), list[tuple[float, Lane]]()
    await gate.wait(Lane.OPEN)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope(deadline=trio.current_time() + 0.5)

        async def impatient() -> None:
            with scope:
                await gate.wait(Lane.CANCEL)

        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(goes, gate, Lane.OPEN, gone)
    assert scope.cancelled_caught
    assert gone == [(1.1, Lane.OPEN)]


async def test_too_many_waiting_calls_are_refused_but_not_cancels(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    gate = Gate(Group.PRIVATE_HEAVY, 1)
    await gate.wait(Lane.OPEN)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(gate.wait, Lane.DATA)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimited, match="3 calls wait already"):
            await gate.wait(Lane.OPEN)
        await gate.wait(Lane.CANCEL)
        nursery.cancel_scope.cancel()


async def test_a_refusal_stops_its_group_and_no_other(autojump_clock: trio.testing.MockClock) -> None:
    limits = RateLimits()
    limits.gate(Group.PRIVATE_LIGHT).refused(7.0)
    await limits.gate(Group.PRIVATE_HEAVY).wait(Lane.OPEN)
    assert trio.current_time() == 0.0
    await limits.gate(Group.PRIVATE_LIGHT).wait(Lane.CANCEL)
    assert trio.current_time() == 7.0


async def test_a_ban_stops_everything(autojump_clock: trio.testing.MockClock) -> None:
    limits = RateLimits()
    assert limits.banned(None) == 60.0
    await limits.gate(Group.PUBLIC_LIGHT).wait(Lane.DATA)
    assert trio.current_time() == 60.0


async def test_accounts_share_what_counts_per_address(autojump_clock: trio.testing.MockClock) -> None:
    one = RateLimits()
    other = RateLimits(address=one)
    for group in Group:
        assert (other.gate(group) is one.gate(group)) is (group in PER_ADDRESS)
