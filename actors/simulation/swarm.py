"""From a seed to a scenario: a random part of all faults, and a random shape of all work.

Every kind of fault, and each of its windows, is drawn from a generator named by the seed and itself, so nothing shifts
when one is left out. That only some kinds are on, and that the work varies too, finds what a mean of everything hides
(Groce and others, "Swarm testing", ISSTA 2012; faults.md 3.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, TypeVar

import msgspec

from actors.simulation import faults_drawn as drawn
from actors.simulation.draws import Latencies, Latency
from actors.simulation.operator import Command
from actors.simulation.outages import Outage
from actors.simulation.scenario import Executor, Family, Manner, Scenario, Tier, Trader
from actors.simulation.world import Crash
from bot.exchange.simulated.faults import FaultEvent

FAMILIES: Final[tuple[Family, ...]] = ("net", "exchange", "clock", "disk", "crash")
KIND_IS_ON: Final = 0.35
"""Part of the seeds in which a kind of fault happens at all."""
FAULT_FREE: Final = 0.08
"""Part of the seeds in which nothing goes wrong: there, nothing may have to be repaired either."""
HOUR_S: Final = 3_600.0
WINDOWS_MAX: Final = 30
"""Of one kind, in one seed."""
WINDOW_S: Final = (4.0, 20.0, 60.0, 180.0)
LADDER: Final = ("1s", "2s", "5s", "10s", "15s", "30s", "1m", "5m", "10m")
"""Lengths of bars; a step changes the rate of orders by about three."""
BARS_A_RUN: Final = 300
NOTIONALS: Final = (150.0, 300.0, 700.0)
MARKETS: Final = (
    ("BTC_USDT",),
    ("BTC_USDT", "ETH_USDT"),
    ("BTC_USDT_PERP",),
    ("BTC_USDT", "BTC_USDT_PERP"),
    ("BTC_USDT", "ETH_USDT", "BTC_USDT_PERP"),
)
MANNERS: Final[tuple[Manner, ...]] = ("market", "touch", "turning", "guarded", "limit", "twap", "chase")
LOOSE: Final = (
    "risk.daily_loss_pct=80",
    "risk.daily_loss_halt_pct=90",
    "risk.drawdown_pct=80",
    "risk.drawdown_halt_pct=90",
    "risk.loss_velocity_pct=0",
    "risk.max_losing_closes=0",
    "risk.mean_slippage_bps=0",
    "risk.max_repeats=0",
    "risk.max_orders_per_trade=0",
    "risk.max_reject_pct=0",
    "risk.max_turnover=0",
    "risk.orders_per_day=0",
    "risk.max_trades_per_day=0",
)
"""Strategies that change their minds with every bar lose their fees, and trade often: that must not end most seeds."""
T = TypeVar("T")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be simulated, besides the seed."""

    seconds: float
    """With faults."""
    heal_s: float = 900.0
    """After them, without: all must come to rest."""
    tier: Tier = "message"
    executor: Executor = "live"
    families: tuple[Family, ...] = FAMILIES
    strategy: str = ""
    """A strategy by name or file; empty: a swarm of strategies that act often."""
    sets: tuple[str, ...] = ()
    """Settings, as `--set` takes them; they win over what is drawn."""
    update_s: float | None = None
    """Mean seconds between two moments of a market; None: drawn."""


def draw_scenario(seed: int, wish: Wish) -> Scenario:
    """Return the world of a seed. The same seed and wish give the same one, everywhere."""
    symbols = _chance(seed, "markets").choice(MARKETS)
    is_calm = _chance(seed, "calm").random() < FAULT_FREE
    families = () if is_calm else wish.families
    return Scenario(
        seed=seed,
        tier=wish.tier,
        executor=wish.executor,
        symbols=symbols,
        seconds=wish.seconds,
        heal_s=wish.heal_s,
        update_s=wish.update_s or _chance(seed, "update").choice((0.5, 1.0, 2.0)),
        latencies=_latencies(seed),
        traders=() if wish.strategy else _traders(seed, symbols, wish.seconds),
        strategy=wish.strategy,
        sets=(*_sets(seed), *wish.sets),
        faults=_faults(seed, wish, families),
        outages=_outages(seed, wish, families),
        crashes=_crashes(seed, wish.seconds) if "crash" in families else (),
        commands=_commands(seed, wish.seconds),
        rearm_s=_chance(seed, "rearm").choice((0.0, 20.0, 20.0, 120.0)),
    )


def _chance(seed: int, name: str) -> Random:
    return Random(f"{seed}/{name}")  # noqa: S311 - nothing here is secret


# --- faults


def _faults(seed: int, wish: Wish, families: tuple[Family, ...]) -> tuple[FaultEvent, ...]:
    draws: dict[str, drawn.Draw] = {}
    if "net" in families:
        draws.update(drawn.NET)
    if "exchange" in families:
        draws.update(drawn.EXCHANGE)
    if "clock" in families:
        draws.update(drawn.CLOCK)
    return tuple(draw(chance, at_s, for_s) for draw, chance, at_s, for_s in _windows(seed, draws, wish.seconds))


def _outages(seed: int, wish: Wish, families: tuple[Family, ...]) -> tuple[Outage, ...]:
    draws: dict[str, drawn.DrawOutage] = {}
    if "net" in families:
        draws.update(drawn.NET_OUTAGES)
        if wish.tier == "wire":
            draws.update(drawn.WIRE_OUTAGES)
    if "disk" in families:
        draws.update(drawn.DISK)
    if "clock" in families:
        draws.update(drawn.CLOCK_OUTAGES)
    return tuple(draw(chance, at_s, for_s) for draw, chance, at_s, for_s in _windows(seed, draws, wish.seconds))


def _windows(seed: int, draws: Mapping[str, T], seconds: float) -> list[tuple[T, Random, float, float]]:
    """Return for each kind that is on its draw, a generator, and when it begins and how long it lasts, per window."""
    windows: list[tuple[T, Random, float, float]] = []
    for kind, draw in draws.items():
        chance = _chance(seed, kind)
        if chance.random() >= KIND_IS_ON:
            continue
        for number in range(_count(chance, seconds)):
            own = _chance(seed, f"{kind}/{number}")
            at_s = round(own.uniform(0.02, 0.95) * seconds, 1)
            windows.append((draw, own, at_s, min(own.choice(WINDOW_S), seconds - at_s)))
    return windows


def _count(chance: Random, seconds: float) -> int:
    """Return how many windows a kind has: a few, and more in a long run."""
    return min(chance.randint(1, 3) + int(chance.random() * seconds / HOUR_S), WINDOWS_MAX)


def _crashes(seed: int, seconds: float) -> tuple[Crash, ...]:
    chance = _chance(seed, "crash")
    if chance.random() < 0.4:
        return ()
    crashes: list[Crash] = []
    for number in range(_count(chance, seconds)):
        own = _chance(seed, f"crash/{number}")
        at_s, after_s = own.uniform(0.02, 0.98) * seconds, own.choice((0.3, 2.0, 10.0, 90.0))
        crashes.append(Crash(at_s=round(at_s, 3), after_s=after_s, loses_unsynced=own.random() < 0.5))
    return tuple(sorted(crashes, key=lambda crash: crash.at_s))


# --- work


def _traders(seed: int, symbols: tuple[str, ...], seconds: float) -> tuple[Trader, ...]:
    """Return one or two strategies a market, at a third, once or three times the usual rate."""
    usual_s = seconds / BARS_A_RUN
    place = sum(float(usual_s > limit_s) for limit_s in (1, 2, 4, 8, 12, 25, 50, 250)) - 1
    place += _chance(seed, "order_rate").choice((-2, 0, 0, 2))
    timeframe = LADDER[min(max(int(place), 0), len(LADDER) - 1)]
    notional = _notional(seed)
    traders: list[Trader] = []
    for symbol in symbols:
        chance = _chance(seed, f"traders/{symbol}")
        traders += [
            Trader(
                name=f"{manner}-{symbol.lower().replace('_', '-')}",
                symbol=symbol,
                manner=manner,
                timeframe=timeframe,
                notional=notional,
            )
            for manner in chance.sample(MANNERS, chance.choice((1, 1, 2)))
        ]
    return tuple(traders)


def _notional(seed: int) -> float:
    return _chance(seed, "notional").choice(NOTIONALS)


def _commands(seed: int, seconds: float) -> tuple[Command, ...]:
    """Return what an operator says: in most seeds nothing."""
    chance = _chance(seed, "commands")
    if chance.random() < 0.6:
        return ()
    commands: list[Command] = []
    for number in range(_count(chance, seconds)):
        own = _chance(seed, f"commands/{number}")
        at_s = round(own.uniform(0.05, 0.95) * seconds)
        commands.append(Command(at_s=float(at_s), verb=own.choice(("halt", "reduce", "flatten", "resume"))))
    return tuple(commands)


def _sets(seed: int) -> tuple[str, ...]:
    """Return bounds that are tight or loose, patience that is short or long."""
    chance = _chance(seed, "limits")
    is_tight = chance.random() < 0.4
    # Tight: one position fits and half of another, of the ten thousand that an account begins with.
    position_pct = 1.5 * _notional(seed) / 100
    bounds = (
        (
            f"risk.max_order_value={1.2 * _notional(seed):g}",
            f"risk.max_position_pct={position_pct:g}",
            f"risk.max_gross_pct={1.5 * position_pct:g}",
            "risk.max_open_orders=4",
        )
        if is_tight
        else ("risk.max_order_value=2000", "risk.max_position_pct=40", "risk.max_gross_pct=90")
    )
    habits = () if _chance(seed, "losses").random() < 0.2 else LOOSE
    ramp = _chance(seed, "ramp").choice((25, 100, 100))
    patience = _chance(seed, "patience")
    return (
        *bounds,
        *habits,
        f"risk.ramp_pct={ramp}",
        f"risk.passive_ttl_s={patience.choice((1.0, 5.0, 30.0))}",
        f"exchange.request_timeout_s={patience.choice((2.0, 4.0, 10.0))}",
    )


def _latencies(seed: int) -> Latencies:
    """Return how long everything takes in this world, from next to nothing to a bad line."""
    chance = _chance(seed, "latencies")

    def latency(choices: tuple[tuple[float, float], ...]) -> Latency:
        median_ms, p99_ms = chance.choice(choices)
        return Latency(median_ms=median_ms, p99_ms=p99_ms)

    ways = ((5.0, 20.0), (40.0, 200.0), (40.0, 400.0), (150.0, 1_500.0))
    return Latencies(
        request=latency(ways),
        answer=latency(ways),
        frame=latency(ways),
        commit=latency(((0.6, 5.0), (0.6, 50.0), (8.0, 200.0))),
    )
