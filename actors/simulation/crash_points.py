"""Killed at every await: one short session, ended wherever a task of the order path gives way, and begun again.

The session is played once without a fault, and each step of the tasks that carry orders is counted: the strategies, the
gate, persistence, the executor with all its calls, and the private streams. Then it is played again for each of them,
to exactly there, twice: with what was written and not synced yet kept, and lost. The next bot starts from the disk.
A seed fixes the order of all steps, so a point is the same in every process.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Final, NamedTuple

import msgspec
import trio

from actors.simulation.checkers import Violation
from actors.simulation.inspector import Inspector
from actors.simulation.operator import Command, Operator
from actors.simulation.scenario import Scenario, Trader
from actors.simulation.swarm import LOOSE
from actors.simulation.truth import Truth
from actors.simulation.world import Crash, World, WorldReport, simulate

ORDER_PATH: Final = {
    "actors.stage.run_stage": "strategies",
    "actors.stage.run_live_gate": "gate",
    "actors.persistence.run_persistence": "persistence",
    "actors.trader.Trader._run_live": "executor",
    "actors.live._Executor._carry_out": "call",
    "actors.live._Executor.listen": "stream",
    "actors.live._Executor.sweep": "sweep",
    "actors.live._Executor.keep_time": "clock",
    "actors.live._Executor.check_modes": "modes",
    "actors.live._Executor.feed_dead_man": "dead man",
}
"""Tasks by trio's name, and what they are here. A task without a name of its own is what its parent is."""
START: Final = "actors.simulation.world._Incarnation.run"
"""The task that starts the others; they are not what it is."""
SPOT: Final = "BTC_USDT"
PERP: Final = "BTC_USDT_PERP"
RESTART_S: Final = (2.0, 5.0)
TRADES_ON_S: Final = 12.0
"""So long after its start the next bot trades before it is told to close everything."""
HEAL_S: Final = 45.0
CLEAN_EVERY: Final = 25
"""After so many points what is left of their worlds is collected: it is old by then, and nobody else would."""
TOLD_MAX: Final = 3
"""Breaks that are told of one point."""


def _trader(name: str, symbol: str, manner: str) -> Trader:
    return msgspec.convert(
        {"name": name, "symbol": symbol, "manner": manner, "timeframe": "10s", "notional": 300.0}, Trader
    )


SESSION: Final = Scenario(
    seed=2,
    symbols=(SPOT, PERP),
    seconds=130.0,
    traders=(
        _trader("takes", SPOT, "market"),
        _trader("guards", SPOT, "guarded"),
        _trader("rests", PERP, "touch"),
        _trader("turns", PERP, "turning"),
    ),
    sets=(
        "risk.max_order_value=2000",
        "risk.max_position_pct=40",
        "risk.max_gross_pct=90",
        "risk.passive_ttl_s=5",
        *LOOSE,
    ),
    commands=(Command(at_s=90.0, verb="flatten"), Command(at_s=95.0, verb="resume")),
    crashes=(Crash(at_s=110.75, after_s=3.0, loses_unsynced=True),),
)
"""Orders that take and orders that rest, on spot and futures; cancels, guards, a turn, all positions closed once. Then
a crash with orders in flight, so that the points of a recovery are points too."""


class Point(NamedTuple):
    """One step of a task of the order path."""

    number: int
    """From 1, in the order in which they happen."""
    task: str
    """One of the values of `ORDER_PATH`, or `start`."""
    at_s: float


class PointResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a session that was killed at one point, once with and once without what was not synced."""

    number: int
    task: str
    at_s: float
    orders: int
    violations: tuple[Violation, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all points; the result of `bot simulate --crash-points --json`."""

    points: int
    survived: int
    kills: int
    tasks: dict[str, int]
    """How many points each kind of task has."""
    orders: int
    """Of all sessions together."""
    violations: tuple[Violation, ...]
    failed_points: tuple[int, ...]


def summarise(results: Iterable[PointResult]) -> Summary:
    """Return the sums over all results."""
    ordered = sorted(results, key=lambda each: each.number)
    failed = tuple(each.number for each in ordered if each.violations)
    return Summary(
        points=len(ordered),
        survived=len(ordered) - len(failed),
        kills=2 * len(ordered),
        tasks=dict(sorted(Counter(each.task for each in ordered).items())),
        orders=sum(each.orders for each in ordered),
        violations=tuple(violation for each in ordered for violation in each.violations),
        failed_points=failed,
    )


class _Steps(trio.abc.Instrument):
    """Follows the steps of the order path, until the session is over or its bot is killed at one of them."""

    def __init__(self, kill_at: Point | None = None, crash: Crash | None = None) -> None:
        self.points: list[Point] = []
        self._kill_at, self._crash = kill_at, crash
        self._tasks: dict[trio.lowlevel.Task, str] = {}
        self._world: World | None = None

    def attach(self, world: World) -> None:
        """Begin with a world in which nothing has happened yet."""
        self._world = world
        trio.lowlevel.add_instrument(self)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note what a task belongs to."""
        nursery = task.parent_nursery
        parent = None if nursery is None else nursery.parent_task
        inherited = None if parent is None or parent.name == START else self._tasks.get(parent)
        kind = ORDER_PATH.get(task.name, inherited)
        if task.name == START:
            self._tasks.clear()  # those before it are dead, and fall
            kind = "start"
        if kind is not None:
            self._tasks[task] = kind

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step, the task of which now waits or has ended; kill the bot if this is the one."""
        kind, world = self._tasks.get(task), self._world
        if kind is None or world is None or not world.is_alive or world.is_healing or world.is_over:
            return
        self.points.append(Point(len(self.points) + 1, kind, trio.current_time()))
        if self._kill_at is not None and len(self.points) == self._kill_at.number:
            trio.lowlevel.remove_instrument(self)
            assert self._crash is not None
            world.crash(self._crash)


class _AllEnded:
    """An observer of the end: no order lives any more, in nobody's books."""

    def __init__(self) -> None:
        self.living: list[str] = []

    def on_second(self, world: World, at_s: float) -> None:
        """Look at nothing before the end."""

    def on_end(self, world: World) -> None:
        """Look at both books."""
        truth = Truth(world.exchange, world.account, world.settings.symbols)
        self.living = [f"{name} lives at the exchange" for name in sorted(truth.books.living)]
        if world.trader is not None:
            ours = world.trader.keeper.ledger.live_orders
            self.living += [f"{record.intent.client_id} lives in our books" for record in ours]


def points_of(session: Scenario) -> list[Point]:
    """Return every point of a session at which its bot can be killed. Plays it once."""
    steps = _Steps()
    report, broken = _play(session, steps)
    assert not broken, f"the session breaks without a crash: {broken[0].text}"
    assert report.crashes == len(session.crashes), f"the session's bot was not alive at its crash: {report}"
    return steps.points


def kill_at(point: Point, session: Scenario) -> PointResult:
    """Return what came of killing the session's bot at a point, both ways. Plays it twice, to its rest."""
    broken: list[Violation] = []
    orders = 0
    for loses_unsynced in (False, True):
        after_s = Random(f"{session.seed}/{point.number}").uniform(*RESTART_S)  # noqa: S311 - nothing here is secret
        crash = Crash(at_s=point.at_s, after_s=after_s, loses_unsynced=loses_unsynced)
        steps = _Steps(point, crash)
        rest = _until_rest(session, point.at_s, point.at_s + after_s + TRADES_ON_S)
        report, found = _play(rest, steps)
        assert steps.points[-1] == point, f"point {point} was {steps.points[-1]} this time"
        assert report.crashes == len(rest.crashes) + 1, f"{point}: {report.crashes} crashes"
        way = "lost" if loses_unsynced else "kept"
        broken += [msgspec.structs.replace(each, text=f"{each.text} [unsynced {way}]") for each in found[:TOLD_MAX]]
        orders += report.orders
    if point.number % CLEAN_EVERY == 0:
        gc.collect()
    return PointResult(number=point.number, task=point.task, at_s=point.at_s, orders=orders, violations=tuple(broken))


def _until_rest(session: Scenario, killed_s: float, seconds: float) -> Scenario:
    """Return the session with an end and a healing soon after its bot was killed, and no other crash after that."""
    before = tuple(crash for crash in session.crashes if crash.at_s <= killed_s)
    return msgspec.structs.replace(session, seconds=seconds, heal_s=HEAL_S, crashes=before)


def _play(session: Scenario, steps: _Steps) -> tuple[WorldReport, list[Violation]]:
    """Return what a session comes to, and what it broke. Nothing but a crash may happen, so nothing may be repaired."""
    inspector, ended = Inspector(msgspec.structs.replace(session, crashes=())), _AllEnded()
    observers = (inspector, Operator(session.commands, session.rearm_s), ended)
    report = simulate(session.world(), observers, on_made=steps.attach)
    end_s = session.seconds + session.heal_s
    living = [Violation(seed=session.seed, rule="O2", at_s=end_s, text=text) for text in ended.living]
    died = [
        Violation(seed=session.seed, rule="END", at_s=end_s, text=f"a bot ended by {name}") for name in report.exits
    ]
    return report, [*inspector.violations, *living, *died]
