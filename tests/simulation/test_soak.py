"""A bot that runs for hours holds no more than after its first: what it remembers is bounded, or the journal's."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator

import msgspec
import pytest

from actors.simulation.scenario import Manner, Scenario, Trader
from actors.simulation.swarm import LOOSE
from actors.simulation.world import World, simulate

HOUR_S = 3_600.0
HOURS = 3
OTHERS = ("bot.exchange.simulated", "actors.simulation", "bot.storage", "trio")
"""Whatever is there belongs to the world around the bot."""
NOTHING = (type, types.ModuleType, types.FunctionType, types.FrameType, types.CoroutineType, types.BuiltinFunctionType)
CACHES = {
    "bot.exchange.poloniex.market_data.TRADE_IDS_KEPT": 50,
    "bot.exchange.poloniex.market_data.PRICES_KEPT": 50,
}


def is_the_bots(thing: object) -> bool:
    module = str(type(thing).__module__)
    return module.startswith(("bot.", "actors.")) and not module.startswith(OTHERS)


def held() -> int:
    """Return how many objects hang from any object of the bot."""
    gc.collect()
    waiting = [thing for thing in gc.get_objects() if is_the_bots(thing)]
    seen = {id(thing) for thing in waiting}
    while waiting:
        for thing in gc.get_referents(waiting.pop()):
            if id(thing) not in seen and not isinstance(thing, NOTHING):
                if not str(type(thing).__module__).startswith(OTHERS):
                    seen.add(id(thing))
                    waiting.append(thing)
    return len(seen)


class Scale:
    """Counts once an hour."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_second(self, world: World, at_s: float) -> None:
        if at_s % HOUR_S == HOUR_S - 1:
            self.counts.append(held())

    def on_end(self, world: World) -> None: ...


def test_x():
    import time,sys
    T = lambda n, s, mn: Trader(name=n, symbol=s, manner=mn, timeframe="5m", notional=300.0)
    sc = Scenario(seed=3, seconds=HOURS*HOUR_S, heal_s=0, update_s=5, symbols=("BTC_USDT", "BTC_USDT_PERP"), traders=(T("a","BTC_USDT","guarded"),T("b","BTC_USDT_PERP","touch")), sets=("risk.max_order_value=2000","risk.max_position_pct=40","risk.max_gross_pct=90",*LOOSE))
    o=Scale(); t=time.process_time()
    r=simulate(sc.world(),[o]); print(o.counts, r.orders, r.fills, r.frames, time.process_time()-t)
    assert 0
