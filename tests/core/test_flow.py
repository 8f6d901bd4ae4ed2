"""Who hears what, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import pytest

from bot.core import messages as m
from bot.core.flow import ROUTES, Fifo, Machine, Stage, closing, readers
from tests.support.builders import NOW_NS, approved, buy, fill, paper_exchange, quote, risk_gate, signal, submit, tick


class Echo:
    """A machine that notes what it hears and says what it was told to."""

    def __init__(self, heard: list[tuple[str, str]], name: str, answers: Iterable[m.AnyMessage] = ()) -> None:
        self._heard = heard
        self._name = name
        self._answers = list(answers)

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        self._heard.append((self._name, type(message).__name__))
        answers, self._answers = self._answers, []
        return answers


def test_every_message_has_a_speaker_and_a_reader() -> None:
    spoken = {kind for routes in ROUTES.values() for kind in routes}
    assert spoken == set(get_args(m.AnyMessage))
    assert all(stages for routes in ROUTES.values() for stages in routes.values())


def test_nobody_but_persistence_talks_to_the_executor_of_orders() -> None:
    speakers = {
        speaker
        for speaker, routes in ROUTES.items()
        for kind, stages in routes.items()
        if kind in (m.SubmitOrder, m.CancelOrder) and Stage.EXECUTOR in stages
    }
    assert speakers == {Stage.PERSISTENCE}


def test_the_gate_hears_of_fills_only_when_they_are_written() -> None:
    assert readers(Stage.EXECUTOR, fill(buy(1), 1)) == (Stage.PERSISTENCE,)
    assert Stage.RISK_GATE not in ROUTES[Stage.EXECUTOR][m.OrderEvent]


def test_a_message_without_a_route_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="no reader"):
        readers(Stage.STRATEGY, submit(buy(1)))


def test_what_is_posted_first_is_handled_first() -> None:
    heard: list[tuple[str, str]] = []
    intent = buy(1)
    machines: dict[Stage, Machine] = {
        Stage.RISK_GATE: Echo(heard, "gate", [approved(intent)]),
        Stage.PERSISTENCE: Echo(heard, "keeper", [submit(intent)]),
        Stage.EXECUTOR: Echo(heard, "exchange"),
    }
    fifo = Fifo(machines)
    fifo.post(Stage.STRATEGY, signal(1))
    fifo.post(Stage.FEED, quote())
    fifo.post(Stage.FEED, tick())
    fifo.run()
    assert heard == [
        ("gate", "Signal"),
        ("gate", "Quote"),
        ("keeper", "Quote"),
        ("gate", "Tick"),
        ("keeper", "Tick"),
        ("exchange", "Tick"),
        ("keeper", "OrderApproved"),
        ("exchange", "SubmitOrder"),
    ]


def test_a_stage_without_a_machine_is_left_out() -> None:
    heard: list[tuple[str, str]] = []
    fifo = Fifo({Stage.PERSISTENCE: Echo(heard, "keeper")})
    fifo.post(Stage.FEED, quote())
    fifo.run()
    assert heard == [("keeper", "Quote")]


def test_every_machine_understands_what_is_routed_to_it() -> None:
    with pytest.raises(AssertionError, match="not routed to the risk gate"):
        list(risk_gate().handle(submit(buy(1))))
    with pytest.raises(AssertionError, match="not routed to the executor"):
        list(paper_exchange().handle(quote()))


def test_a_session_closes_when_its_cancels_have_arrived() -> None:
    latency_ns = 50_000_000
    close, time_passes, ended = closing(NOW_NS, latency_ns, "over", is_complete=True)
    assert close.verb == "close"
    assert time_passes.ts_ns > NOW_NS + latency_ns
    assert (ended.reason, ended.is_complete) == ("over", True)
