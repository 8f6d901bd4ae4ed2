"""The loop of an actor whose machine needs nothing but its mailbox: strategy, risk gate, paper executor."""

from __future__ import annotations

from actors.mailbox import Mailbox, Office
from bot.core.flow import Machine, Stage
from bot.core.messages import CancelOrder, CancelRequested


async def run_stage(mailbox: Mailbox, machine: Machine, office: Office) -> None:
    """Handle what comes, for ever. The only task that touches `machine`; each message is handled without a pause."""
    while True:
        for message in await mailbox.receive():
            for output in machine.handle(message):
                office.post(mailbox.owner, output)


async def run_live_gate(mailbox: Mailbox, machine: Machine, office: Office) -> None:
    """As `run_stage`, but a cancel goes to the executor at once, however slow the disk is, and is written beside that.

    A cancel that is sent twice or never written does no harm: the exchange says what became of the order. The executor
    passes over a cancel of an order that it was not told of yet; the written one follows the order.
    """
    executor = office.mailboxes[Stage.EXECUTOR]
    while True:
        for message in await mailbox.receive():
            for output in machine.handle(message):
                if isinstance(output, CancelRequested):
                    executor.post(CancelOrder(ts_ns=output.ts_ns, client_id=output.client_id))
                office.post(mailbox.owner, output)
