"""Looks after strategies while they look at a bar: who raises an error, or takes too long again and again, is halted.

One task runs all strategies, so every other one waits for the slowest, with bars and fills that grow older meanwhile;
and the bot would die with the first that fails. What the gate does about either needs no clock: a message tells it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from bot.core import messages as m
from bot.core.latches import strategy_scope
from bot.core.text import safe_text
from bot.strategies.host import StrategyHost

log: Final = logging.getLogger(__name__)

STRIKES_MAX: Final = 3
"""So many strikes within `WINDOW_S` are reported; after that they are counted anew."""
WINDOW_S: Final = 3600.0
ERROR_LENGTH_MAX: Final = 200


def _no_time() -> float:
    return 0.0


class Supervisor:
    """A host whose strategies cannot hurt each other."""

    def __init__(self, host: StrategyHost, budget_ms: int = 0, stopwatch_s: Callable[[], float] | None = None) -> None:
        """`budget_ms`: how long one strategy may take for one bar; without a stopwatch nobody is timed."""
        self._host = host
        self._budget_ms = budget_ms
        self._stopwatch_s = stopwatch_s or _no_time
        self._strikes_s: dict[str, deque[float]] = {}
        """Strategy to when it took too long, the last times."""
        self._warm: set[tuple[str, str]] = set()
        """(strategy, symbol) of which a bar was seen: with the first a strategy may load what it needs."""
        self._failed: set[str] = set()
        """Strategies that raised an error: nobody knows what they know, so they are not asked again."""

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return what the host says; before that, who failed, and who took too long once too often."""
        if not isinstance(message, m.Bar):
            yield from self._host.handle(message)
            return
        taken_s: dict[str, float] = {}
        for strategy, look in self._host.turns(message):
            if strategy in self._failed:
                continue
            began_s, before_s = self._stopwatch_s(), taken_s.get(strategy, 0.0)
            try:
                wish = look(message)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this strategy's, and the others go on
                yield self._fail(strategy, message, error)
                continue
            taken_s[strategy] = after_s = before_s + self._stopwatch_s() - began_s
            is_over = before_s * 1000 <= self._budget_ms < after_s * 1000
            if is_over and not message.is_history and (strategy, message.symbol) in self._warm:
                yield from self._strike(strategy, message, after_s)
            if wish is not None:
                yield wish
        self._warm.update((strategy, message.symbol) for strategy in taken_s)

    def _fail(self, strategy: str, bar: m.Bar, error: Exception) -> m.HealthReported:
        self._failed.add(strategy)
        trouble = safe_text(f"{type(error).__name__}: {error}", ERROR_LENGTH_MAX)
        log.error("strategy %s failed at a bar of %s, and is not asked again", strategy, bar.symbol, exc_info=error)
        detail = f"at a bar of {bar.symbol}: {trouble}; not asked again before a restart"
        return _halt(strategy, bar, m.Condition.STRATEGY_FAILED, detail)

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
        yield _halt(strategy, bar, m.Condition.STRATEGY_SLOW, f"{trouble}, {STRIKES_MAX} times within an hour")


def _halt(strategy: str, bar: m.Bar, condition: m.Condition, detail: str) -> m.HealthReported:
    return m.HealthReported(
        ts_ns=bar.ts_ns,
        condition=condition,
        is_well=False,
        severity=m.RiskState.HALTED,
        scope=strategy_scope(strategy),
        detail=detail,
    )
