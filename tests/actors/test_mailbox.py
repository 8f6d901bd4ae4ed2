"""Mailboxes: facts are kept, perishables are replaced, nobody waits to send; turns keep the order of posting."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors.mailbox import Mailbox, Office, Turns
from actors.stage import run_stage
from bot.core import messages as m
from bot.core.flow import Fifo, Stage
from bot.errors import MailboxFull


def quote(bid_ticks: int, symbol: str = "BTC_USDT") -> m.Quote:
    return m.Quote(ts_ns=1, symbol=symbol, bid_ticks=bid_ticks, bid_lots=1, ask_ticks=bid_ticks + 1, ask_lots=1)


def tick(ts_ns: int) -> m.Tick:
    return m.Tick(ts_ns=ts_ns)


def lost(ts_ns: int) -> m.OrderEvent:
    return m.OrderEvent(
        ts_ns=ts_ns, client_id="b", symbol="BTC_USDT", order_id="1", state=m.OrderState.NEW, filled_lots=0
    )


async def test_a_newer_quote_replaces_an_unread_one() -> None:
    mailbox = Mailbox(Stage.RISK_GATE)
    for message in (quote(1), quote(5, "ETH_USDT"), quote(2)):
        mailbox.post(message)
    assert await mailbox.receive() == [quote(5, "ETH_USDT"), quote(2)]


async def test_facts_are_all_kept_and_stay_in_order_with_perishables() -> None:
    mailbox = Mailbox(Stage.RISK_GATE)
    for message in (lost(1), quote(1), lost(2), quote(2), lost(3)):
        mailbox.post(message)
    assert await mailbox.receive() == [lost(1), lost(2), quote(2), lost(3)]


async def test_a_lost_book_replaces_the_quote_that_it_contradicts() -> None:
    mailbox = Mailbox(Stage.RISK_GATE)
    mailbox.post(quote(1))
    gone = m.BookLost(ts_ns=2, symbol="BTC_USDT", reason="gap")
    mailbox.post(gone)
    assert await mailbox.receive() == [gone]


async def test_perishables_never_fill_a_mailbox() -> None:
    mailbox = Mailbox(Stage.RISK_GATE, facts_max=2)
    for number in range(1000):
        mailbox.post(quote(number))
    assert await mailbox.receive() == [quote(999)]


async def test_one_fact_too_many_stops_the_bot_and_says_whose_mailbox_it_was() -> None:
    mailbox = Mailbox(Stage.PERSISTENCE, facts_max=2)
    mailbox.post(lost(1))
    mailbox.post(lost(2))
    with pytest.raises(MailboxFull, match=r"persistence: 2 facts wait unread, the most is 2"):
        mailbox.post(lost(3))


async def test_a_reader_takes_all_that_waits() -> None:
    mailbox = Mailbox(Stage.PERSISTENCE)
    for number in range(5):
        mailbox.post(lost(number))
    assert len(await mailbox.receive()) == 5
    with trio.move_on_after(0.01) as scope:
        await mailbox.receive()
    assert scope.cancelled_caught


async def test_what_was_received_counts_as_handled_only_at_the_next_receive() -> None:
    mailbox = Mailbox(Stage.PERSISTENCE)
    mailbox.post(lost(1))
    await mailbox.receive()
    assert mailbox.unhandled == 1
    with trio.move_on_after(0.01):
        await mailbox.receive()
    assert mailbox.unhandled == 0


class Chatter:
    """A machine whose every message has followers, so that orders of delivery would show."""

    def __init__(self, stage: Stage, seen: list[tuple[Stage, m.AnyMessage]]) -> None:
        self._stage = stage
        self._seen = seen

    def handle(self, message: m.AnyMessage) -> list[m.AnyMessage]:
        self._seen.append((self._stage, message))
        if message.ts_ns > 40:
            return []
        match self._stage, message:
            case Stage.RISK_GATE, m.Tick():
                return [m.CancelRequested(ts_ns=message.ts_ns + 1, client_id="b", reason="")] * 2
            case Stage.PERSISTENCE, m.CancelRequested():
                return [m.CancelOrder(ts_ns=message.ts_ns, client_id="b")]
            case Stage.EXECUTOR, m.CancelOrder():
                return [lost(message.ts_ns + 1), lost(message.ts_ns + 2)]
            case Stage.PERSISTENCE, m.OrderEvent():
                return [message]
            case _:
                return []


STAGES = (Stage.RISK_GATE, Stage.PERSISTENCE, Stage.EXECUTOR)


def fifo_order() -> list[tuple[Stage, m.AnyMessage]]:
    seen: list[tuple[Stage, m.AnyMessage]] = []
    fifo = Fifo({stage: Chatter(stage, seen) for stage in STAGES})
    for ts_ns in (1, 10, 20):
        fifo.post(Stage.FEED, tick(ts_ns))
    fifo.run()
    return seen


async def lockstep_order() -> list[tuple[Stage, m.AnyMessage]]:
    seen: list[tuple[Stage, m.AnyMessage]] = []
    office = Office(STAGES, is_lockstep=True)
    async with trio.open_nursery() as nursery:
        for stage in STAGES:
            nursery.start_soon(run_stage, office.mailboxes[stage], Chatter(stage, seen), office)
        await trio.testing.wait_all_tasks_blocked()
        for ts_ns in (1, 10, 20):
            office.post(Stage.FEED, tick(ts_ns))
        await office.idle()
        nursery.cancel_scope.cancel()
    return seen


async def test_in_lockstep_actors_handle_messages_in_the_order_of_the_plain_loop() -> None:
    expected = fifo_order()
    for _ in range(20):  # trio schedules tasks at random
        assert await lockstep_order() == expected


async def test_idle_waits_for_the_last_consequence() -> None:
    turns = Turns()
    mailbox = Mailbox(Stage.RISK_GATE, turns)
    assert turns.is_idle
    mailbox.post(tick(1))
    assert not turns.is_idle
    await mailbox.receive()
    assert not turns.is_idle
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.receive)
        await turns.idle()
        nursery.cancel_scope.cancel()
