"""From a schedule that breaks something to the smallest one found that still does, faults.md 3.3.

Every step asks one question: does the run without this still break the same promise? A scenario is a value whose items
were drawn independently, so what is left out changes nothing about the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from actors.simulation.scenario import Scenario, calm_latencies

TRIES_MAX: Final = 120
SECONDS_MIN: Final = 10.0
"""A shorter run has hardly begun."""
T = TypeVar("T")

Breaks = Callable[[Scenario], float | None]
"""Runs a scenario; returns when, in its seconds, it broke the promise in question, or None where it kept it."""


@dataclass(slots=True)
class Shrunk:
    """What was found, and with how many runs."""

    scenario: Scenario
    tries: int


def ddmin(items: Sequence[T], fails: Callable[[tuple[T, ...]], bool]) -> tuple[T, ...]:
    """Return a part of `items`, in their order, that fails and from which no single one can be left out.

    `items` fail. Source: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
    """
    kept = tuple(items)
    if kept and fails(()):
        return ()
    parts = 2
    while len(kept) >= 2:
        smaller = next((rest for rest in _leaving_out(kept, parts) if fails(rest)), None)
        if smaller is not None:
            kept, parts = smaller, max(parts - 1, 2)
        elif parts < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    return kept


def _leaving_out(items: tuple[T, ...], parts: int) -> Iterator[tuple[T, ...]]:
    size = -(-len(items) // parts)
    for begin in range(0, len(items), size):
        yield items[:begin] + items[begin + size :]


def shrink(scenario: Scenario, breaks: Breaks, *, tries_max: int = TRIES_MAX) -> Shrunk:
    """Return the smallest scenario found that still breaks, after at most `tries_max` runs.

    Leaves out faults, shortens, leaves out traders and makes the rest act less often, then takes the latencies away.
    """
    search = _Search(scenario, breaks, tries_max)
    search.leave_out_faults()
    search.shorten()
    search.leave_out_traders()
    search.slow_down()
    search.calm()
    search.leave_out_faults()
    return Shrunk(search.best, search.tries)


class _Search:
    """The smallest scenario so far, and the runs that are left."""

    def __init__(self, scenario: Scenario, breaks: Breaks, tries_max: int) -> None:
        self.best = scenario
        self.tries = 0
        self._breaks = breaks
        self._tries_max = tries_max

    def _takes(self, smaller: Scenario) -> bool:
        """Keep `smaller` if it still breaks; return whether it does."""
        if smaller == self.best or self.tries >= self._tries_max:
            return False
        self.tries += 1
        if self._breaks(smaller) is None:
            return False
        self.best = smaller
        return True

    def leave_out_faults(self) -> None:
        """Leave out faults of every family."""
        whole = self.best
        ddmin(whole.items, lambda kept: self._takes(whole.with_items(kept)))

    def shorten(self) -> None:
        """Search for the shortest time, between nothing and what is known to break."""
        low, whole = 0.0, self.best
        while self.best.seconds - low > max(SECONDS_MIN, self.best.seconds / 16):
            middle = (low + self.best.seconds) / 2
            if middle < SECONDS_MIN or not self._takes(whole.cut_to(middle)):
                low = middle

    def leave_out_traders(self) -> None:
        """Leave out strategies, and the markets that nobody trades any more."""
        whole = self.best
        ddmin(whole.traders, lambda kept: bool(kept) and self._takes(whole.with_traders(kept)))

    def slow_down(self) -> None:
        """Let the strategies act half as often, as long as it breaks."""
        while self._takes(self.best.slower()):
            pass

    def calm(self) -> None:
        """Answer everything at once."""
        self._takes(msgspec.structs.replace(self.best, latencies=calm_latencies(self.best.latencies)))
