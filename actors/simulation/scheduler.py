"""A trio run whose every choice comes from a seed: which task goes next, and what time it is.

trio makes no promise here. It shuffles the tasks that can run with a generator of its own, in an order that is the same
for the same seed only when a private switch is on; `tests/simulation/test_world.py` notices when either is gone.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Final, TypeVar, cast

import trio

from actors.simulation.clock import VirtualClock, cheap_sleep

T = TypeVar("T")
SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
GENERATOR: Final = "_r"
_TRIO: Final[dict[str, object]] = vars(import_module("trio._core._run"))


@contextmanager
def seeded_scheduling(seed: int) -> Generator[None]:
    """Let trio's choices, and all of `random`, come from `seed` until the block is left; then it is as it was."""
    chance = cast("random.Random", _TRIO[GENERATOR])
    was_on, state, library_state = _TRIO[SWITCH], chance.getstate(), random.getstate()
    _TRIO[SWITCH] = True
    chance.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        _TRIO[SWITCH] = was_on
        chance.setstate(state)
        random.setstate(library_state)


@contextmanager
def no_collection() -> Generator[None]:
    """Let nothing be finalised at a moment that depends on how much memory was used before.

    Reference counting goes on; only cycles wait. Those that were made meanwhile are collected at the end.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        gc.collect(0)


@contextmanager
def no_logs() -> Generator[None]:
    """Let nobody log: what a simulated bot has to say is for no operator, and it has much to say."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def run_seeded(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Return what `main` returns, run by trio in virtual time, every choice drawn from `seed`, without a log line."""
    with no_collection(), no_logs(), seeded_scheduling(seed), cheap_sleep():
        return trio.run(main, clock=VirtualClock(), strict_exception_groups=True)
