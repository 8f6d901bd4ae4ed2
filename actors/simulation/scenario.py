"""What one seed plays: a pure value that can be written down, read again and made smaller.

A scenario is everything that a run depends on: market, bounds, strategies, latencies, and each fault by itself. Any of
its items may be missing: so a schedule that breaks something can be shrunk.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from actors.simulation.draws import Latencies, Latency
from actors.simulation.operator import Command
from actors.simulation.outages import Outage
from actors.simulation.world import Crash, WorldSettings
from bot.config import load_settings
from bot.core.durations import duration_ns, duration_text
from bot.errors import SettingsError
from bot.exchange.simulated.faults import FaultEvent, FaultSchedule
from bot.strategies import AnyStrategySettings
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.definition import RulesSettings

Tier = Literal["message", "wire"]
Family = Literal["net", "exchange", "clock", "disk", "crash"]
Executor = Literal["live", "paper"]
SLOWEST_NS: Final = duration_ns("10m")
"""Bars are not made longer than this when a schedule is shrunk."""
BARS_OF_TRADES_MAX_NS: Final = duration_ns("1m")
"""From here on bars are the exchange's candles, of which there are only some lengths."""
_CANDLES: Final = ("1m", "5m", "10m")
_AT_ONCE: Final = Latency(median_ms=0.0, p99_ms=0.0)

Manner = Literal["market", "touch", "turning", "guarded", "limit", "twap", "chase"]
"""How a trader acts: takes; rests at the touch; goes from long to short; guards what it holds; enters with a limit; in
slices; or resting at the touch for a while."""
EXECUTION_TIME: Final = "30s"

_CHURN: Final = """\
name = "Churn"
timeframe = "{timeframe}"
side = "{side}"
[entry.long]
when = "close > close[1]"
[exit.long]
when = "close < close[1]"
{short}[size]
kind = "fixed"
quote = {notional:g}
{extra}"""
_SHORT: Final = """\
[entry.short]
when = "close < close[1]"
[exit.short]
when = "close > close[1]"
"""
_GUARDS: Final = "[stop]\npercent = 0.08\n[target]\npercent = 0.08\n[trail]\npercent = 0.06\n"
_LIMIT: Final = '[order]\nkind = "limit"\noffset_ticks = 3\npatience = 3\n'


class Trader(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that changes its mind as often as the market does: it makes orders, not money."""

    name: str
    symbol: str
    manner: Manner
    timeframe: str
    notional: float

    @property
    def settings(self) -> AnyStrategySettings:
        """Return the strategy."""
        if self.manner in ("market", "touch", "twap", "chase"):
            return CrossoverSettings(
                timeframe=self.timeframe,
                notional=self.notional,
                symbols=(self.symbol,),
                is_passive=self.manner == "touch",
                execution="twap" if self.manner == "twap" else "chase" if self.manner == "chase" else "now",
                execution_time=EXECUTION_TIME,
                fast=1,
                slow=2,
            )
        can_turn = self.symbol.endswith("_PERP") and self.manner != "limit"
        text = _CHURN.format(
            timeframe=self.timeframe,
            notional=self.notional,
            side="both" if can_turn else "long",
            short=_SHORT if can_turn else "",
            extra={"guarded": _GUARDS, "limit": _LIMIT}.get(self.manner, ""),
        )
        return RulesSettings(document=f"{self.manner}.toml", symbols=(self.symbol,), text=text)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One seed's world."""

    seed: int
    """Of the market, the scheduler, the latencies, and of when each fault strikes."""
    tier: Tier = "message"
    executor: Executor = "live"
    symbols: tuple[str, ...] = ("BTC_USDT",)
    seconds: float
    """Of virtual time in which things go wrong."""
    heal_s: float = 900.0
    """After it, without faults: all must come to rest."""
    update_s: float = 1.0
    latencies: Latencies = Latencies()
    traders: tuple[Trader, ...] = ()
    strategy: str = ""
    """A strategy by name or file that trades in the place of `traders`."""
    sets: tuple[str, ...] = ()
    """Settings that differ from the defaults, as `--set` takes them."""
    faults: tuple[FaultEvent, ...] = ()
    outages: tuple[Outage, ...] = ()
    crashes: tuple[Crash, ...] = ()
    commands: tuple[Command, ...] = ()
    """What the operator says."""
    rearm_s: float = 0.0
    """How long the operator thinks before a latch is re-armed; 0: it never is."""

    @property
    def items(self) -> tuple[tuple[str, int], ...]:
        """Return the name of everything that can be left out: its list, and its place there."""
        lists = {
            "faults": self.faults,
            "outages": self.outages,
            "crashes": self.crashes,
            "commands": self.commands,
        }
        return tuple((name, place) for name, events in lists.items() for place in range(len(events)))

    @property
    def is_fault_free(self) -> bool:
        """Return whether nothing goes wrong on purpose."""
        return not (self.faults or self.outages or self.crashes)

    def with_items(self, kept: tuple[tuple[str, int], ...]) -> Scenario:
        """Return the scenario with only those of its `items`."""
        names = frozenset(kept)
        return msgspec.structs.replace(
            self,
            faults=tuple(event for place, event in enumerate(self.faults) if ("faults", place) in names),
            outages=tuple(event for place, event in enumerate(self.outages) if ("outages", place) in names),
            crashes=tuple(event for place, event in enumerate(self.crashes) if ("crashes", place) in names),
            commands=tuple(event for place, event in enumerate(self.commands) if ("commands", place) in names),
        )

    def cut_to(self, seconds: float) -> Scenario:
        """Return the scenario with only its first `seconds`; what would still go wrong then ends with them."""
        return msgspec.structs.replace(
            self,
            seconds=seconds,
            faults=tuple(_ending(event, seconds) for event in self.faults if event.at_s < seconds),
            outages=tuple(
                msgspec.structs.replace(event, for_s=min(event.for_s, seconds - event.at_s))
                for event in self.outages
                if event.at_s < seconds
            ),
            crashes=tuple(crash for crash in self.crashes if crash.at_s < seconds),
            commands=tuple(command for command in self.commands if command.at_s < seconds),
        )

    def with_traders(self, kept: tuple[Trader, ...]) -> Scenario:
        """Return the scenario with only these traders, and the markets that they trade."""
        traded = frozenset(trader.symbol for trader in kept)
        symbols = tuple(symbol for symbol in self.symbols if symbol in traded)
        return msgspec.structs.replace(self, traders=kept, symbols=symbols)

    def slower(self) -> Scenario:
        """Return the scenario with bars of about twice the length; itself where they are as long as they may be."""
        return msgspec.structs.replace(
            self,
            traders=tuple(msgspec.structs.replace(each, timeframe=_longer(each.timeframe)) for each in self.traders),
        )

    def world(self) -> WorldSettings:
        """Return what the world is made of.

        Raises:
            SettingsError: `sets` or the strategy are wrong.

        """
        sets = ["strategies={}", f"bot.seed={self.seed % 2**32}", f"exchange.symbols={_toml_list(self.symbols)}"]
        settings = load_settings([], {}, [*sets, *self.sets])
        strategies = {trader.name: trader.settings for trader in self.traders}
        if self.strategy:
            strategies = {"simulated": _chosen(self.strategy)}
        return WorldSettings(
            seed=self.seed,
            tier=self.tier,
            symbols=self.symbols,
            seconds=self.seconds,
            update_s=self.update_s,
            settings=msgspec.structs.replace(settings, strategies=strategies),
            executor=self.executor,
            latencies=self.latencies,
            faults=FaultSchedule(seed=self.seed, faults=self.faults),
            outages=self.outages,
            crashes=self.crashes,
            heal_s=self.heal_s,
        )


def calm_latencies(latencies: Latencies) -> Latencies:
    """Return latencies with which everything takes no time at all."""
    return msgspec.structs.replace(latencies, **dict.fromkeys(latencies.__struct_fields__, _AT_ONCE))


def _ending(event: FaultEvent, end_s: float) -> FaultEvent:
    return msgspec.structs.replace(event, for_s=min(event.end_s, end_s) - event.at_s)


def _longer(timeframe: str) -> str:
    length_ns = duration_ns(timeframe)
    if 2 * length_ns <= BARS_OF_TRADES_MAX_NS:
        return duration_text(2 * length_ns)
    return next((candle for candle in _CANDLES if duration_ns(candle) > length_ns), timeframe)


def _toml_list(names: tuple[str, ...]) -> str:
    return msgspec.json.encode(names).decode()  # a JSON list of strings is a TOML one


def _chosen(strategy: str) -> AnyStrategySettings:
    """Return the strategy of a name or a file."""
    from bot.backtest.choice import choose

    chosen = choose(strategy, "own", load_settings([], {}, []).strategies, is_own_first=True)
    settings = chosen.for_bot({})
    if not settings.timeframe and not isinstance(settings, RulesSettings):
        raise SettingsError(f"--strategy {strategy}: does not say how long its bars are")
    return settings
