"""The simulated world: virtual time, seeded choices, bots that die and come back, and the same again from a seed."""

from __future__ import annotations

import json
import math
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trio
from trio._core import _run
from trio.testing import MockClock

from actors.simulation.clock import START_NS, Alarm, VirtualClock
from actors.simulation.market import SimulatedMarket, simulated_market
from actors.simulation.outages import (
    BadDisk,
    Corruption,
    Delayed,
    LostPacket,
    NoName,
    Outage,
    Partition,
    SlowDisk,
    SocketsCut,
)
from actors.simulation.scheduler import run_seeded, seeded_scheduling
from actors.simulation.world import Crash, World, WorldReport, WorldSettings, simulate
from bot.config import Settings, load_settings
from bot.core import messages as m
from bot.exchange.simulated import faults as f
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketTrade
from bot.exchange.simulated.faults import FaultSchedule
from bot.storage.base import verified
from bot.storage.replay import facts
from bot.strategies.crossover import CrossoverSettings

ROOT = Path(__file__).parents[2]
BTC, PERP = "BTC_USDT", "BTC_USDT_PERP"


def settings_of(*symbols: str) -> Settings:
    """A bot that changes its mind as often as the market does."""
    churn = {
        f"churn-{symbol.lower()}": CrossoverSettings(
            timeframe="3s", notional=200.0, symbols=(symbol,), is_passive=False, fast=1, slow=2
        )
        for symbol in symbols
    }
    return msgspec.structs.replace(load_settings([], {}, ["strategies={}"]), strategies=churn)


def world(
    *, seed: int = 1, seconds: float = 300.0, symbols: tuple[str, ...] = (BTC,), **changes: object
) -> WorldSettings:
    quiet = WorldSettings(seed=seed, seconds=seconds, symbols=symbols, settings=settings_of(*symbols), executor="paper")
    return msgspec.structs.replace(quiet, **changes)


# --- time and choices


def test_trio_still_has_the_two_private_names_that_make_a_run_repeatable() -> None:
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(_run._r, random.Random)


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def task(number: int) -> None:
        for _ in range(3):
            order.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(task, number)

    run_seeded(seed, main)
    return order


def test_a_seed_says_in_which_order_tasks_run() -> None:
    # What trio 0.35 makes of these seeds. A change of it is no fault, but it makes every written seed another world.
    assert order_of_tasks(1) == [0, 1, 3, 2, 3, 1, 2, 0, 3, 0, 2, 1]
    assert order_of_tasks(2) == [0, 3, 1, 2, 1, 2, 3, 0, 2, 3, 0, 1]
    assert len({tuple(order_of_tasks(seed)) for seed in range(20)}) > 15


def test_trio_is_as_it_was_after_a_seeded_run() -> None:
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate(), random.getstate(), trio.sleep
    with seeded_scheduling(1):
        assert _run._ALLOW_DETERMINISTIC_SCHEDULING
    order_of_tasks(1)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate(), random.getstate(), trio.sleep) == before


async def naps(log: list[tuple[str, float]]) -> None:
    """Sleep in all ways that there are."""

    async def nap(name: str, *seconds: float) -> None:
        for each in seconds:
            await trio.sleep(each)
            log.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        began_s = trio.current_time()
        nursery.start_soon(nap, "a", 1.0, 2.0, 0.0)
        nursery.start_soon(nap, "b", 0.5, 86_400.0)
        with trio.move_on_after(2.0) as scope:
            await trio.sleep(50.0)
        log.append((f"moved on {scope.cancelled_caught}", trio.current_time()))
        await trio.sleep_until(began_s + 10.0)
        await trio.sleep_until(began_s)
        log.append(("until", trio.current_time()))


def test_virtual_time_passes_as_with_trios_own_mock_clock() -> None:
    ours: list[tuple[str, float]] = []
    theirs: list[tuple[str, float]] = []
    run_seeded(1, lambda: naps(ours))
    trio.run(naps, theirs, clock=MockClock(autojump_threshold=0))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert [at_s for _, at_s in ours] == pytest.approx([at_s for _, at_s in theirs])
    assert ours[-1][1] == pytest.approx(86_400.5)


def test_an_alarm_can_be_moved_both_ways_while_its_task_waits() -> None:
    async def main() -> list[float]:
        woken: list[float] = []
        alarm = Alarm()

        async def wait(due_s: float) -> None:
            await alarm.wait_until(due_s)
            woken.append(trio.current_time())

        for first_s, then_s in ((math.inf, 5.0), (50.0, 10.0), (11.0, 20.0), (30.0, 0.0)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, first_s)
                await trio.sleep(0.1)
                alarm.move(then_s)
        alarm.move(1.0)  # nobody waits
        return woken

    assert run_seeded(1, main) == pytest.approx([5.0, 10.0, 20.0, 20.1])


def test_a_run_in_which_everybody_waits_for_another_ends_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    monkeypatch.setattr("actors.simulation.clock.STILL_MAX", 2)
    assert clock.deadline_to_sleep_time(math.inf) > 0
    assert clock.deadline_to_sleep_time(math.inf) > 0
    with pytest.raises(AssertionError, match="has come to a stand"):
        clock.deadline_to_sleep_time(math.inf)


# --- the market


def test_the_simulated_market_never_crosses_and_keeps_its_pace() -> None:
    market = SimulatedMarket((BTC,), 3, 2.0)
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    kinds = Counter[str]()
    for event in market.events():
        if event.ts_ns > START_NS + 20_000 * 10**9:
            break
        kinds[type(event).__name__] += 1
        if isinstance(event, BookSnapshot | BookChange):
            for side, changes in ((bids, event.bids), (asks, event.asks)):
                for price, lots in changes:
                    if lots:
                        side[price] = lots
                    else:
                        del side[price]
            assert max(bids) < min(asks)
            assert min(*bids.values(), *asks.values()) > 0
        else:
            assert isinstance(event, MarketTrade)
            touch, lots = (min(asks), asks[min(asks)]) if event.taker_side == "buy" else (max(bids), bids[max(bids)])
            assert (event.price_ticks, event.qty_lots <= lots) == (touch, True)
    assert kinds["BookSnapshot"] == 1
    assert 9_000 < kinds["BookChange"] < 11_000
    assert 3_000 < kinds["MarketTrade"] < 6_000


def test_a_contract_follows_the_market_of_its_coin() -> None:
    events = simulated_market(("BTC_USDT_PERP",), 1, 1.0)
    assert [each.symbol for each in events.instruments] == [BTC, "BTC_USDT_PERP"]
    spot: list[tuple[int, int]] = []
    perp: list[tuple[int, int]] = []
    for event, _ in zip(events.events(), range(500), strict=False):
        if isinstance(event, MarketTrade):
            (perp if event.symbol.endswith("_PERP") else spot).append((event.ts_ns, event.price_ticks))
    assert spot[: len(perp)] == perp[: len(spot)] != []


# --- the same again

SCRIPT = """
import json
from tests.simulation.test_world import hashes
print(json.dumps(hashes()))
"""
TROUBLES: tuple[Outage, ...] = (
    LostPacket(at_s=0.0, for_s=300.0, probability=0.2),
    Delayed(at_s=50.0, for_s=30.0, probability=0.3, delay=f.Uniform(from_s=0.5, to_s=5.0)),
    Partition(at_s=90.0, for_s=10.0),
    SocketsCut(at_s=120.0, for_s=2.0),
    NoName(at_s=120.0, for_s=5.0),
    SlowDisk(at_s=140.0, for_s=20.0, delay=f.Fixed(s=0.5)),
    Corruption(at_s=170.0, for_s=20.0, probability=0.01),
)
FAULTS = FaultSchedule(
    faults=(
        f.Cut(at_s=30.0, for_s=1.0, code=1012),
        f.GarbageFrame(probability=0.002),
        f.ReorderedFrame(probability=0.005),
        f.LostAnswer(probability=0.2),
        f.HalfOpen(at_s=210.0, for_s=20.0),
    )
)
CRASHES = (Crash(at_s=70.2, after_s=3.0), Crash(at_s=160.0, after_s=10.0, loses_unsynced=True))


def troubled(*, seed: int = 1, symbols: tuple[str, ...] = (BTC,), **changes: object) -> WorldSettings:
    quiet = world(seed=seed, symbols=symbols, executor="live")
    return msgspec.structs.replace(quiet, faults=FAULTS, outages=TROUBLES, crashes=CRASHES, heal_s=60.0, **changes)


def hashes() -> list[tuple[str, str]]:
    """What worlds come to, for this process and for others."""
    both = (BTC, PERP)
    worlds = (troubled(symbols=both), troubled(tier="wire"), troubled(seed=2, executor="paper"))
    return [(report.journal_hash, report.trace_hash) for report in map(simulate, worlds)]


def in_another_process(hash_seed: int) -> list[list[str]]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


def test_P4_a_seed_gives_the_same_world_in_every_process() -> None:
    first, second = in_another_process(1), in_another_process(2)
    assert first == second
    assert len({trace for _, trace in first}) == len({journal for journal, _ in first}) == 3


def test_another_seed_is_another_world() -> None:
    one, two = simulate(world(seed=1, seconds=60.0)), simulate(world(seed=2, seconds=60.0))
    assert one.trace_hash != two.trace_hash
    assert one.journal_hash != two.journal_hash


def test_nothing_in_a_world_asks_the_real_clock_a_thread_or_the_systems_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def forbid(owner: object, name: str) -> None:
        def call(*_: object, **__: object) -> None:
            asked.append(name)
            raise AssertionError(name)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (time, "time_ns"),
        (time, "monotonic"),
        (time, "sleep"),
        (os, "urandom"),
        (secrets, "token_bytes"),
        (secrets, "randbits"),
        (threading.Thread, "start"),
    ):
        forbid(owner, name)
    assert simulate(troubled()).incarnations > 1
    assert asked == []


# --- lives


class Diary:
    """Keeps what can be seen of a world each second."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.synced: list[int] = []
        self.alive: list[bool] = []
        self.world: World | None = None

    def on_second(self, world: World, at_s: float) -> None:
        self.seconds.append(at_s)
        self.synced.append(len(world.disk.synced))
        self.alive.append(world.is_alive)

    def on_end(self, world: World) -> None:
        self.world = world


def lived(settings: WorldSettings) -> tuple[WorldReport, Diary, World]:
    diary = Diary()
    report = simulate(settings, [diary])
    assert diary.world is not None
    return report, diary, diary.world


@pytest.mark.parametrize("executor", ["paper", "live"])
@pytest.mark.parametrize("tier", ["message", "wire"])
def test_a_bot_trades_in_a_world_and_ends_in_order(tier: str, executor: str) -> None:
    report, diary, seen = lived(world(seconds=400.0, tier=tier, executor=executor))
    assert report.simulated_seconds == pytest.approx(400.0, abs=3.0)
    assert report.orders > 1
    assert report.fills > 1
    assert report.frames > 300
    assert (report.incarnations, report.crashes, report.exits) == (1, 0, {})
    assert diary.seconds[:3] == [1.0, 2.0, 3.0]
    last = list(facts(seen.disk.synced))[-1]
    assert isinstance(last, m.SessionEnded)


def test_a_live_bot_and_the_exchange_agree_to_the_atom() -> None:
    report, _, seen = lived(world(seconds=400.0, symbols=(BTC, PERP), executor="live", heal_s=100.0))
    assert seen.trader is not None
    ledger = seen.trader.keeper.ledger
    theirs = {
        kind: {currency: wallet.total_atoms for currency, wallet in seen.account.of_type(kind)} for kind in AccountType
    }
    assert report.fills > 2
    assert ledger.futures_cash_atoms == theirs[AccountType.FUTURES]["USDT"]
    assert ledger.cash_atoms == sum(wallets["USDT"] for wallets in theirs.values())
    assert ledger.positions[BTC].base_atoms == theirs[AccountType.SPOT]["BTC"]


@pytest.mark.parametrize("loses_unsynced", [False, True])
def test_a_killed_bot_comes_back_with_what_the_disk_kept(loses_unsynced: bool) -> None:
    crashes = tuple(Crash(at_s=20.0 + 17.3 * at, after_s=2.0, loses_unsynced=loses_unsynced) for at in range(12))
    slow = SlowDisk(at_s=0.0, for_s=300.0, delay=f.Uniform(from_s=0.0, to_s=2.0))
    report, diary, seen = lived(world(crashes=crashes, outages=(slow,)))
    assert report.crashes == 12
    assert report.incarnations == 13
    assert diary.synced == sorted(diary.synced), "what was durable stayed"
    assert (seen.disk.lost > 0) is loses_unsynced
    assert diary.alive.count(False) >= 12
    verified(seen.disk.synced, "disk")
    epochs = [fact.epoch for fact in facts(seen.disk.synced) if isinstance(fact, m.SessionStarted)]
    assert epochs == list(range(1, len(epochs) + 1))


def test_a_bot_that_ends_by_itself_is_started_again() -> None:
    full = BadDisk(at_s=100.0, for_s=20.0, error="ENOSPC")
    report, _, _ = lived(world(outages=(full,)))
    assert report.exits["JournalError"] >= 1
    assert report.incarnations == 1 + report.exits["JournalError"]
    assert report.crashes == 0


def test_after_the_healing_nothing_goes_wrong_and_all_positions_are_closed() -> None:
    report, _, seen = lived(troubled())
    answered = [fact for fact in facts(seen.disk.synced) if isinstance(fact, m.OperatorAnswered)]
    assert [fact.verb for fact in answered] == ["flatten", "close"]
    assert seen.trader is not None
    ledger = seen.trader.keeper.ledger
    assert not ledger.live_orders
    held = ledger.positions[BTC].base_atoms if BTC in ledger.positions else 0
    assert held < 10**15, "only what is less than a lot is left"
    assert report.faults["lost_packet"] > 0


def test_a_bot_that_does_not_end_fails_its_world(monkeypatch: pytest.MonkeyPatch) -> None:
    async def for_ever(_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("actors.trader.Trader._close", for_ever)
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="did not end within"), flatten_subgroups=True):
        simulate(world(seconds=10.0))


def test_a_world_ends_although_its_bot_has_only_begun() -> None:
    for at in range(1, 20):
        report = simulate(world(seconds=0.05 * at))
        assert report.incarnations == 1


def test_a_live_bot_that_ends_before_its_feed_has_begun_settles_the_orders_of_the_last_session() -> None:
    resting = CrossoverSettings(timeframe="3s", notional=200.0, symbols=(BTC,), is_passive=True, fast=1, slow=2)
    settings = msgspec.structs.replace(settings_of(), strategies={"resting": resting})
    killed = world(settings=settings, executor="live", seconds=75.1, crashes=(Crash(at_s=70.0, after_s=5.0),))
    report, _, seen = lived(killed)
    assert report.incarnations == 2
    assert seen.trader is not None
    assert seen.trader.feed_status.state != "live"
    said = list(facts(seen.disk.synced))
    began = next(at for at, fact in enumerate(said) if isinstance(fact, m.SessionStarted) and fact.epoch == 2)
    assert any(isinstance(fact, m.CancelRequested) for fact in said[began:])
    assert not seen.trader.keeper.ledger.live_orders
    assert isinstance(said[-1], m.SessionEnded)


def test_an_exception_that_is_none_of_ours_goes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bot.core.bookkeeper.Bookkeeper.take_pending", broken)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        simulate(world(seconds=10.0))
