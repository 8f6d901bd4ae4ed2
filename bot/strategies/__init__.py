"""The strategies that come with the bot, one file each; `KINDS` is the list of them."""

from __future__ import annotations

from bot.strategies.base import Strategy
from bot.strategies.crossover import Crossover, CrossoverSettings
from bot.strategies.mean_reversion import MeanReversion, MeanReversionSettings

AnyStrategySettings = CrossoverSettings | MeanReversionSettings
"""Settings of every kind there is; `kind` in the file tells them apart."""

KINDS: dict[str, type[AnyStrategySettings]] = {
    "crossover": CrossoverSettings,
    "mean_reversion": MeanReversionSettings,
}


def make_strategy(settings: AnyStrategySettings) -> Strategy:
    """Return a fresh strategy for one symbol."""
    match settings:
        case CrossoverSettings():
            return Crossover(settings)
        case MeanReversionSettings():
            return MeanReversion(settings)
