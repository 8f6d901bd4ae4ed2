"""One session, killed at every await of the order path: here at a spread of them, in full by `bot simulate`."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from actors.simulation.checkers import Violation
from actors.simulation.crash_points import (
    ORDER_PATH,
    SESSION,
    Point,
    PointResult,
    kill_at,
    points_of,
    summarise,
)
from actors.simulation.scenario import Scenario
from actors.simulation.world import World, simulate
from bot.cli import main
from bot.core import messages as m
from bot.core.orders import OrderState
from bot.errors import EXIT_OK, PromiseBroken, SettingsError
from bot.exchange.live.desk import LiveDesk
from bot.storage.replay import facts

MANUAL = Path(__file__).parents[2] / "docs" / "simulation.md"
SPREAD = 40
PARTS = 4
AROUND = 0.25
"""Every change of the order path changes how many points there are; by so much only in an overhaul."""


@cache
def points() -> list[Point]:
    return points_of(SESSION)


def known_points(session: Scenario) -> list[Point]:
    assert session is SESSION
    return points()


def killed(point: Point) -> PointResult:
    return kill_at(point, SESSION)


def test_there_are_as_many_points_as_the_full_run_in_the_manual_had() -> None:
    found = re.search(r"([\d,]+) crash points", MANUAL.read_text())
    assert found is not None
    reported = int(found[1].replace(",", ""))
    assert len(points()) == pytest.approx(reported, rel=AROUND)


def test_every_task_of_the_order_path_has_points() -> None:
    assert {point.task for point in points()} == {*ORDER_PATH.values(), "start"}
    assert [point.number for point in points()] == list(range(1, len(points()) + 1))
    assert points()[-1].at_s > SESSION.seconds - 2.0


def test_the_session_takes_rests_cancels_guards_turns_and_recovers() -> None:
    class Reader:
        def on_second(self, world: World, at_s: float) -> None: ...

        def on_end(self, world: World) -> None:
            self.facts = list(facts(world.disk.synced))

    reader = Reader()
    simulate(SESSION.world(), [reader])
    approved = {fact.intent.client_id: fact.intent for fact in reader.facts if isinstance(fact, m.OrderApproved)}
    ends = {
        (approved[fact.client_id].symbol, approved[fact.client_id].order_type, fact.state)
        for fact in reader.facts
        if isinstance(fact, m.OrderEvent) and fact.state.is_final
    }
    assert len(approved) >= 20
    assert ends >= {
        ("BTC_USDT", "MARKET", OrderState.FILLED),
        ("BTC_USDT", "LIMIT", OrderState.FILLED),
        ("BTC_USDT", "LIMIT", OrderState.CANCELED),
        ("BTC_USDT", "STOP", OrderState.CANCELED),
        ("BTC_USDT_PERP", "MARKET", OrderState.FILLED),
        ("BTC_USDT_PERP", "LIMIT_MAKER", OrderState.FILLED),
        ("BTC_USDT_PERP", "LIMIT_MAKER", OrderState.CANCELED),
        ("BTC_USDT_PERP", "LIMIT_MAKER", OrderState.PARTIALLY_CANCELED),
    }
    assert sum(isinstance(fact, m.SessionStarted) for fact in reader.facts) == 2


@pytest.mark.parametrize("part", range(PARTS))
def test_F77_a_bot_killed_at_any_await_loses_doubles_and_orphans_nothing(part: int) -> None:
    spread = points()[:: len(points()) // SPREAD][part::PARTS]
    assert len(spread) >= SPREAD // PARTS
    assert [violation for point in spread for violation in killed(point).violations] == []


def test_an_executor_that_forgets_what_was_under_way_does_not_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LiveDesk.handle

    def forgetful(desk: LiveDesk, message: m.AnyMessage) -> object:
        if isinstance(message, m.Recovered):
            message = msgspec.structs.replace(message, orders=())
        return honest(desk, message)

    under_way = next(point for point in points() if point.task == "call" and point.at_s > 60.2)
    monkeypatch.setattr(LiveDesk, "handle", forgetful)
    assert {violation.rule for violation in killed(under_way).violations} & {"O2", "C1", "C2"}


def test_the_summary_adds_up_and_names_what_failed() -> None:
    violation = Violation(seed=2, rule="O1", at_s=3.0, text="twice")
    results = [
        PointResult(number=7, task="gate", at_s=2.0, orders=30, violations=(violation, violation)),
        PointResult(number=3, task="call", at_s=1.0, orders=20, violations=()),
    ]
    summary = summarise(results)
    assert (summary.points, summary.survived, summary.kills, summary.orders) == (2, 1, 4, 50)
    assert summary.tasks == {"call": 1, "gate": 1}
    assert summary.failed_points == (7,)
    assert summary.violations == (violation, violation)


# --- as a user runs it


def test_the_command_says_how_many_points_there_are_and_how_many_were_survived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    middle = len(points()) // 2
    chosen = f"{middle}..{middle + 1}"
    assert main(["simulate", "--crash-points", chosen, "--jobs", "1", "--json"]) == EXIT_OK
    said = json.loads(capsys.readouterr().out)
    assert (said["points"], said["survived"], said["kills"], said["violations"]) == (2, 2, 4, [])
    assert said["orders"] > 0


def test_a_point_that_was_not_survived_is_named_with_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(point: Point, _: object) -> PointResult:
        violation = Violation(seed=2, rule="C1", at_s=99.0, text="one coin is gone")
        return PointResult(number=point.number, task=point.task, at_s=point.at_s, orders=1, violations=(violation,))

    monkeypatch.setattr("actors.simulation.crash_points.kill_at", lost)
    monkeypatch.setattr("actors.simulation.crash_points.points_of", known_points)
    assert main(["simulate", "--crash-points", "5", "--jobs", "1"]) == PromiseBroken.exit_code
    out, err = capsys.readouterr()
    assert out.endswith("0 of 1 survived\n")
    assert re.search(r"point 5 \(\S+, \d+\.\d{3} s\), 99\.0 s: C1: one coin is gone\n", err)
    assert "see it again: bot simulate --crash-points 5\n" in err


@pytest.mark.parametrize("text", ["0..5", "1..100000000", "x"])
def test_points_that_are_none_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("actors.simulation.crash_points.points_of", known_points)
    assert main(["simulate", "--crash-points", text]) == SettingsError.exit_code
    assert f"--crash-points {text}: must read A..B" in capsys.readouterr().err
