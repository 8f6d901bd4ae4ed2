"""The loop of an actor whose machine needs nothing but its mailbox: strategy, risk gate, paper executor."""

from __future__ import annotations

from actors.mailbox import Mailbox, Office
from bot.core.flow import Machine


async def run_stage(mailbox: Mailbox, machine: Machine, office: Office) -> None:
    """Handle what comes, for ever. The only task that touches `machine`; each message is handled without a pause."""
    while True:
        for message in await mailbox.receive():
            for output in machine.handle(message):
                office.post(mailbox.owner, output)
