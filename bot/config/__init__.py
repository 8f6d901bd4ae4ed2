"""Settings: what they are, their bounds, and how the layers of them are read, checked and put together.

`config/default.toml` is the manual and holds every default; nothing here repeats one. This package knows neither trio
nor the screen: reading settings is the first thing that every command does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.config.checks import Checker
from bot.config.layers import drop_strategies, lay, read_environment, read_file, read_set
from bot.config.settings import (
    CANDLE_TIMEFRAMES,
    SECTIONS,
    STRATEGIES,
    BacktestSettings,
    BotSettings,
    ExchangeSettings,
    FeedSettings,
    LiveSettings,
    PaperSettings,
    RiskSettings,
    Settings,
    settings_digest,
)
from bot.errors import SettingsError

__all__ = [
    "CANDLE_TIMEFRAMES",
    "SECTIONS",
    "BacktestSettings",
    "BotSettings",
    "ExchangeSettings",
    "FeedSettings",
    "LiveSettings",
    "PaperSettings",
    "RiskSettings",
    "Settings",
    "default_file",
    "load_settings",
    "settings_digest",
]


def load_settings(files: Sequence[Path], environ: Mapping[str, str], sets: Sequence[str]) -> Settings:
    """Return the settings: defaults, `files` in order, `BOT__…` of `environ`, `sets`; later wins.

    Raises:
        SettingsError: anything is wrong; names everything that is.

    """
    problems: list[str] = []
    default = default_file()
    tree = read_file(default, f"{default.parent.name}/{default.name}", problems)
    has_default_strategies = True
    for path in files:
        layer = read_file(path, str(path), problems)
        if has_default_strategies and any(key[0] == STRATEGIES for key in layer):
            drop_strategies(tree)
            has_default_strategies = False
        lay(tree, layer)
    lay(tree, read_environment(environ, problems))
    for text in sets:
        lay(tree, read_set(text, problems))
    settings = Checker(tree, problems).settings()
    if settings is None:
        raise SettingsError(problems)
    return settings


def default_file() -> Path:
    """Return the path of default.toml: beside this module in a wheel, in config/ in a checkout."""
    packaged = Path(__file__).with_name("default.toml")
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "config" / "default.toml"
