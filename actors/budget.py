"""Times strategies: who takes too long for a bar, again and again, is reported to the risk gate, which halts it.

One task runs all strategies, so every other one waits for the slowest, with bars and fills that grow older meanwhile.
Only here the time that our own code takes becomes a message: what the gate does, and the journal keeps, needs no clock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from bot.core import messages as m
from bot.core.latches import strategy_scope
from bot.strategies.host import StrategyHost

log: Final = logging.getLogger(__name__)

STRIKES_MAX: Final = 3
"""So many strikes within `WINDOW_S` are reported; after that they are counted anew."""
WINDOW_S: Final = 3600.0


class TimedHost:
    """A host whose strategies are timed while they look at a bar."""

    def __init__(self, host: StrategyHost, budget_ms: int, stopwatch_s: Callable[[], float]) -> None:
        """`budget_ms`, above 0: how long one strategy may take for one bar."""
        self._host = host
        self._budget_ms = budget_ms
        self._stopwatch_s = stopwatch_s
        self._strikes_s: dict[str, deque[float]] = {}
        """Strategy to when it took too long, the last times."""
        self._warm: set[tuple[str, str]] = set()
        """(strategy, symbol) of which a bar was seen: with the first a strategy may load what it needs."""

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return what the host says; before that, who took too long once too often."""
        if not isinstance(message, m.Bar):
            yield from self._host.handle(message)
            return
        taken_s: dict[str, float] = {}
        began_s = self._stopwatch_s()
        for strategy, wish in self._host.turns(message):
            before_s = taken_s.get(strategy, 0.0)
            taken_s[strategy] = after_s = before_s + self._stopwatch_s() - began_s
            is_over = before_s * 1000 <= self._budget_ms < after_s * 1000
            if is_over and not message.is_history and (strategy, message.symbol) in self._warm:
                yield from self._strike(strategy, message, after_s)
            if wish is not None:
                yield wish
            began_s = self._stopwatch_s()
        self._warm.update((strategy, message.symbol) for strategy in taken_s)

    def _strike(self, strategy: str, bar: m.Bar, took_s: float) -> Iterator[m.HealthReported]:
        now_s = self._stopwatch_s()
        strikes_s = self._strikes_s.setdefault(strategy, deque())
        strikes_s.append(now_s)
        while strikes_s[0] < now_s - WINDOW_S:
            strikes_s.popleft()
        trouble = f"took {took_s * 1000:.0f} ms for a bar of {bar.symbol}, more than {self._budget_ms} ms"
        log.warning("strategy %s %s: %d of %d within an hour", strategy, trouble, len(strikes_s), STRIKES_MAX)
        if len(strikes_s) < STRIKES_MAX:
            return
        strikes_s.clear()
        yield m.HealthReported(
            ts_ns=bar.ts_ns,
            condition=m.Condition.STRATEGY_SLOW,
            is_well=False,
            severity=m.RiskState.HALTED,
            scope=strategy_scope(strategy),
            detail=f"{trouble}, {STRIKES_MAX} times within an hour",
        )
