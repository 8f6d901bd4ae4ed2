"""The strategies that come with the bot, one file each; `KINDS` is the list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.strategies.base import Strategy
from bot.strategies.crossover import Crossover, CrossoverSettings
from bot.strategies.definition import PythonSettings, RulesSettings, python_strategy, rule_definition
from bot.strategies.mean_reversion import MeanReversion, MeanReversionSettings

if TYPE_CHECKING:
    from bot.strategies.advice import Definition

AnyStrategySettings = CrossoverSettings | MeanReversionSettings | RulesSettings | PythonSettings
"""Settings of every kind there is; `kind` in the file tells them apart."""

KINDS: dict[str, type[AnyStrategySettings]] = {
    "crossover": CrossoverSettings,
    "mean_reversion": MeanReversionSettings,
    "rules": RulesSettings,
    "python": PythonSettings,
}


def make_strategy(settings: AnyStrategySettings) -> Strategy | Definition:
    """Return a fresh strategy for one symbol; or a definition, which makes an adviser for each.

    Raises:
        SettingsError: its document or its Python file is wrong.

    """
    match settings:
        case CrossoverSettings():
            return Crossover(settings)
        case MeanReversionSettings():
            return MeanReversion(settings)
        case RulesSettings():
            return rule_definition(settings)
        case PythonSettings():
            return python_strategy(settings)
