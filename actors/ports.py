"""What one bot needs of the world around it, in one record: the world can then be the real one or a simulated one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from actors.clock import Clock
from bot.exchange.network import INTERNET, Network
from bot.storage.base import Journal


@dataclass(frozen=True, slots=True)
class Ports:
    """The network, the disk, time and chance."""

    journal: Journal
    clock: Clock
    network: Network = INTERNET
    rng: Callable[[], float] = random.random
    """Returns a number in [0, 1); it spreads waiting times, and decides nothing else."""
    stopwatch_s: Callable[[], float] | None = None
    """Returns seconds that pass while code runs, and never go back; None: nobody is timed."""
