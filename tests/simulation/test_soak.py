"""A bot that runs for hours holds no more than after its first: what it remembers is bounded, or the journal's."""

from __future__ import annotations

import gc
import multiprocessing
import types
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import pytest

from actors.simulation.scenario import Manner, Scenario, Trader
from actors.simulation.swarm import LOOSE
from actors.simulation.world import World, simulate
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.exchange.poloniex import market_data

STEP_S = 2_400.0
STEPS = 3
OTHERS = ("bot.exchange.simulated", "actors.simulation", "bot.storage", "trio")
"""Whatever is there belongs to the world around the bot."""
NOTHING = (type, types.ModuleType, types.FunctionType, types.FrameType, types.CoroutineType, types.BuiltinFunctionType)
GROWTH_MAX = 1.15
"""One object a second, or one a frame, would be more."""


def module(thing: object) -> str:
    return str(type(thing).__module__)


def is_the_bots(thing: object) -> bool:
    return module(thing).startswith(("bot.", "actors.")) and not module(thing).startswith(OTHERS)


def held() -> int:
    """Return how many objects hang from any object of the bot."""
    gc.collect()
    waiting = [thing for thing in gc.get_objects() if is_the_bots(thing)]
    seen = {id(thing) for thing in waiting}
    while waiting:
        for thing in gc.get_referents(waiting.pop()):
            if id(thing) not in seen and not isinstance(thing, NOTHING) and not module(thing).startswith(OTHERS):
                seen.add(id(thing))
                waiting.append(thing)
    return len(seen)


class Scale:
    """Counts now and then."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_second(self, world: World, at_s: float) -> None:
        if at_s % STEP_S == STEP_S - 1:
            self.counts.append(held())

    def on_end(self, world: World) -> None: ...


def growth(is_hoarding: bool) -> float:
    """Return by which factor what the bot holds grows from the first step to the last; patches this process."""
    market_data.TRADE_IDS_KEPT = market_data.PRICES_KEPT = 50
    if is_hoarding:
        hoard()
    manners: tuple[tuple[str, Manner], ...] = (("BTC_USDT", "guarded"), ("BTC_USDT_PERP", "touch"))
    session = Scenario(
        seed=3,
        symbols=tuple(symbol for symbol, _ in manners),
        seconds=STEPS * STEP_S,
        heal_s=0.0,
        update_s=5.0,
        traders=tuple(
            Trader(name=manner, symbol=symbol, manner=manner, timeframe="5m", notional=300.0)
            for symbol, manner in manners
        ),
        sets=LOOSE,
    )
    scale = Scale()
    report = simulate(session.world(), [scale])
    assert (report.incarnations, len(scale.counts)) == (1, STEPS)
    assert report.orders > 5
    return scale.counts[-1] / scale.counts[0]


def hoard() -> None:
    """Make the bookkeeper keep every message."""
    honest, heard = Bookkeeper.handle, list[m.AnyMessage]()

    def hoarding(keeper: Bookkeeper, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        heard.append(message)
        vars(keeper)["heard"] = heard
        return honest(keeper, message)

    pytest.MonkeyPatch().setattr(Bookkeeper, "handle", hoarding)


def growth_in_a_fresh_process(is_hoarding: bool) -> float:
    """Return ``growth`` where no other test has left anything."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(growth, is_hoarding).result()


def test_F94_what_the_bot_holds_does_not_grow_over_hours() -> None:
    assert growth_in_a_fresh_process(is_hoarding=False) < GROWTH_MAX


def test_a_bot_that_forgets_nothing_would_be_noticed() -> None:
    assert growth_in_a_fresh_process(is_hoarding=True) > GROWTH_MAX
