"""Latches: what keeps orders back, each closed for a cause of its own and opened by itself.

A latch is named by its scope and its cause, and is the newest `RiskStateChanged` of that name. The gate says such
messages, the journal keeps them, and both sides fold them here: after a restart nothing is looser than before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from bot.core.messages import RiskState, RiskStateChanged

EVERYTHING: Final = ""
"""The scope of a latch that holds for all orders."""
OPERATOR: Final = "operator"


def symbol_scope(symbol: str) -> str:
    """Return the scope of one market."""
    return f"symbol:{symbol}"


def strategy_scope(strategy: str) -> str:
    """Return the scope of one strategy."""
    return f"strategy:{strategy}"


def group_scope(group: str) -> str:
    """Return the scope of one group of markets."""
    return f"group:{group}"


def latch_name(latch: RiskStateChanged) -> str:
    """Return what an operator calls it: `CAUSE`, or `CAUSE@SCOPE` where it does not hold for everything."""
    return f"{latch.cause}@{latch.scope}" if latch.scope else latch.cause


class Latches:
    """Every latch that is closed, and the strictest of each scope at hand."""

    def __init__(self, groups: Mapping[str, str] | None = None) -> None:
        """Begin with all open. `groups` says of a symbol which group it is in."""
        self._groups = groups or {}
        self._closed: dict[tuple[str, str], RiskStateChanged] = {}
        self._strictest: dict[str, RiskStateChanged] = {}

    def __iter__(self) -> Iterator[RiskStateChanged]:
        """Yield what closed each latch, the latest change last."""
        return iter(list(self._closed.values()))

    def __len__(self) -> int:
        return len(self._closed)

    def find(self, cause: str, scope: str = EVERYTHING) -> RiskStateChanged | None:
        """Return the latch of this name, or None while it is open."""
        return self._closed.get((scope, cause))

    def take(self, change: RiskStateChanged) -> None:
        """Close the latch that `change` names, or open it."""
        if change.state is RiskState.NORMAL and _opens_all(change):
            self._closed.clear()
            self._strictest.clear()
            return
        self._closed.pop((change.scope, change.cause), None)
        if change.state is not RiskState.NORMAL:
            self._closed[change.scope, change.cause] = change
        self._find_strictest(change.scope)

    def strictest(self) -> RiskStateChanged | None:
        """Return the strictest latch that holds for everything, the oldest of several; None while there is none."""
        return self._strictest.get(EVERYTHING)

    def over(self, strategy: str, symbol: str) -> RiskStateChanged | None:
        """Return the strictest latch that holds for a strategy's orders on a symbol; None while there is none."""
        if not self._strictest:
            return None
        found = self._strictest.get(EVERYTHING)
        if len(self._strictest) == (found is not None):
            return found
        scopes = [symbol_scope(symbol), strategy_scope(strategy)]
        if symbol in self._groups:
            scopes.append(group_scope(self._groups[symbol]))
        for scope in scopes:
            latch = self._strictest.get(scope)
            if latch is not None and (found is None or latch.state.severity > found.state.severity):
                found = latch
        return found

    def _find_strictest(self, scope: str) -> None:
        here = [latch for latch in self._closed.values() if latch.scope == scope]
        if here:
            self._strictest[scope] = max(here, key=lambda latch: latch.state.severity)
        else:
            self._strictest.pop(scope, None)


def _opens_all(change: RiskStateChanged) -> bool:
    # Journals from before there were latches: one state for everything, and nobody's name on it.
    return change.cause == OPERATOR and not change.scope and not change.who
