"""The operator of a simulated world: says what the scenario says, and re-arms what has tripped after a while."""

from __future__ import annotations

from typing import Literal

import msgspec

from actors.simulation.world import World
from actors.trader import Trader
from bot.core import messages as m
from bot.core.latches import latch_name
from bot.core.risk.breakers import LOSSES

NAME = "simulation"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the operator says."""

    at_s: float
    verb: Literal["halt", "reduce", "flatten", "resume"]


class Operator:
    """An observer that speaks. `rearm_s` is how long it thinks before it opens a latch; 0: it never does."""

    def __init__(self, commands: tuple[Command, ...], rearm_s: float) -> None:
        self._left = sorted(commands, key=lambda command: command.at_s)
        self._rearm_s = rearm_s
        self._seen_s: dict[str, float] = {}
        """Names of closed latches to when they were seen first, or asked about last."""

    def on_second(self, world: World, at_s: float) -> None:
        """Say what is due, to a bot that listens."""
        trader = world.trader
        if trader is None or world.is_healing or not world.is_alive or trader.keeper.now_ns == 0:
            return
        while self._left and self._left[0].at_s <= at_s:
            self._say(trader, self._left.pop(0).verb)
        if self._rearm_s:
            self._rearm(trader, at_s)

    def on_end(self, world: World) -> None:
        """Say nothing."""

    def _rearm(self, trader: Trader, at_s: float) -> None:
        closed = {latch_name(latch): latch for latch in trader.keeper.ledger.latches}
        self._seen_s = {name: self._seen_s.get(name, at_s) for name in closed}
        for name, latch in closed.items():
            if at_s - self._seen_s[name] >= self._rearm_s:
                self._seen_s[name] = at_s
                self._say(trader, "rearm", name, is_loss=latch.cause in LOSSES)

    def _say(self, trader: Trader, verb: m.OperatorVerb, subject: str = "", *, is_loss: bool = False) -> None:
        trader.post(
            m.OperatorCommand(
                ts_ns=trader.now_ns,
                verb=verb,
                command_id="",
                subject=subject,
                who=NAME,
                equity_atoms=trader.keeper.equity_atoms if is_loss else None,
                is_new_baseline=is_loss and subject != "loss_velocity",
            )
        )
