"""Which strategy a command means: by a name that the bot knows, or by a file of rules or of Python."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.backtest.space import Value
from bot.config.words import closest_hint
from bot.core import tactics
from bot.core.durations import duration_ns, duration_text
from bot.errors import SettingsError
from bot.strategies import KINDS, AnyStrategySettings
from bot.strategies.advice import Definition
from bot.strategies.base import StrategySettings
from bot.strategies.definition import PythonSettings, RulesSettings, SizeRule, definition_of, templates_folder
from bot.strategies.rules.document import checked_params, read_document

PPM: Final = 1_000_000
PPM_PER_PERCENT: Final = 10_000
ALL_PERCENT: Final = 100.0
_BUNDLED: Final = frozenset(KINDS) - {"rules", "python"}
"""Kinds that need no file."""
ON_THE_BOOK: Final = ("quoter", "imbalance")
"""Strategies of `bot/backtest/book/choice.py`, which has their kinds."""
_RESERVED: Final = ("kind", "timeframe", "symbols", "document", "text", "file", "object", "params")


class Chosen(NamedTuple):
    """A strategy that can be run with any parameters."""

    name: str
    settings: AnyStrategySettings
    timeframe_ns: int | None
    """That it says itself; None: it takes what it is given."""
    size: SizeRule | None

    def at(self, timeframe_ns: int) -> Chosen:
        """Return the same with bars of that length."""
        settings = msgspec.structs.replace(self.settings, timeframe=duration_text(timeframe_ns))
        return self._replace(settings=settings, timeframe_ns=timeframe_ns)

    def with_params(self, params: Mapping[str, Value]) -> AnyStrategySettings:
        """Return the settings with these parameters.

        Raises:
            SettingsError: one is unknown or out of its bounds.

        """
        if not params:
            return self.settings
        if isinstance(self.settings, RulesSettings):
            numbers = {name: _number(self.name, name, value) for name, value in params.items()}
            return msgspec.structs.replace(self.settings, params={**self.settings.params, **numbers})
        if isinstance(self.settings, PythonSettings):
            return msgspec.structs.replace(self.settings, params={**self.settings.params, **params})
        known = [name for name in self.settings.__struct_fields__ if name not in _RESERVED]
        for name in params:
            if name not in known:
                raise SettingsError(f"{self.name}: has no parameter {name}{closest_hint(name, known)}")
        try:
            return msgspec.convert({**msgspec.to_builtins(self.settings), **params}, type(self.settings))
        except (msgspec.ValidationError, ValueError) as error:
            raise SettingsError(f"{self.name}: {error}") from None

    def for_bot(self, params: Mapping[str, Value]) -> AnyStrategySettings:
        """Return the settings as a live bot takes them: with the size in them. Raises as `with_params` does."""
        return _with_size(self.with_params(params), self.size)

    def parameters(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return the value of every parameter, those that were not given too. Raises as `with_params` does."""
        settings = self.with_params(params)
        if isinstance(settings, RulesSettings):
            return dict(checked_params(read_document(settings.text, settings.document), settings.params))
        if isinstance(settings, PythonSettings):
            return dict(settings.params)
        common = StrategySettings.__struct_fields__
        return {name: getattr(settings, name) for name in settings.__struct_fields__ if name not in common}

    def definition(self, params: Mapping[str, Value]) -> Definition | None:
        """Return its definition, or None where only the exact engine can run it. Raises as `with_params` does."""
        return definition_of(self.with_params(params), self.size)


def choose(name: str, size: str, own: Mapping[str, AnyStrategySettings], *, is_own_first: bool = False) -> Chosen:
    """Return the strategy of that name; `own` are those of the settings.

    `name` is that of a template, of a kind or of one of `own`, or a path that ends in `.toml` or in `.py:NAME`; one of
    `own` comes last, or first if `is_own_first`. `size` is `own`, `all`, a share such as `25%`, or an amount of quote
    currency.

    Raises:
        SettingsError: there is none of that name, or the size makes no sense.

    """
    rule = size_rule(size)
    settings = own[name] if is_own_first and name in own else _settings(name, own)
    if isinstance(settings, RulesSettings) and not settings.timeframe:
        timeframe_ns = read_document(settings.text, settings.document).timeframe_ns
    else:
        timeframe_ns = duration_ns(settings.timeframe) if settings.timeframe else None
    return Chosen(name, _sized(settings, rule), timeframe_ns, rule)


def _settings(name: str, own: Mapping[str, AnyStrategySettings]) -> AnyStrategySettings:
    file, _, member = name.rpartition(":")
    if name.endswith(".toml"):
        return RulesSettings(document=name, text=_text(name), notional=0)
    if file.endswith(".py"):
        return PythonSettings(file=file, object=member, timeframe="", equity_pct=ALL_PERCENT, notional=1.0)
    if name.endswith(".py"):
        raise SettingsError(f"--strategy {name}: name what is meant in the file, as in {name}:NAME")
    if name in templates():
        return RulesSettings(document=name, text=_text(str(templates()[name])), notional=0)
    if name in _BUNDLED:
        return msgspec.convert({"kind": name, "timeframe": "", "notional": 1, "equity_pct": ALL_PERCENT}, KINDS[name])
    if name in own:
        return own[name]
    if name in ON_THE_BOOK:
        raise SettingsError(f"--strategy {name}: plays on the book of a recording; give --data FILE.jsonl")
    known = sorted({*templates(), *_BUNDLED, *own, *ON_THE_BOOK})
    raise SettingsError(f"--strategy {name}: is none of {', '.join(known)}{closest_hint(name, known)}")


@cache
def templates() -> Mapping[str, Path]:
    """Return the rule documents that come with the bot, by name."""
    return {path.stem: path for path in sorted(templates_folder().glob("*.toml"))}


def _sized(settings: AnyStrategySettings, size: SizeRule | None) -> AnyStrategySettings:
    """Return settings that say that size too: for a strategy that is run by its settings alone."""
    return settings if isinstance(settings, RulesSettings) else _with_size(settings, size)


def _with_size(settings: AnyStrategySettings, size: SizeRule | None) -> AnyStrategySettings:
    if size is None:
        return settings
    kind, amount = size
    if kind == tactics.SIZE_SHARE:
        return msgspec.structs.replace(settings, equity_pct=amount / PPM_PER_PERCENT)
    return msgspec.structs.replace(settings, equity_pct=0.0, notional=amount / PPM)


def size_rule(text: str) -> SizeRule | None:
    """Return how `bot/core/tactics.py` reads a size, and the size; None for `own`.

    Raises:
        SettingsError: it is no size, or a share that is not more than 0 % and at most 100 %.

    """
    if text == "own":
        return None
    if text == "all":
        return tactics.SIZE_SHARE, PPM
    number = text.removesuffix("%")
    try:
        amount = Decimal(number) if number.replace(".", "", 1).isdigit() else Decimal(0)
    except ArithmeticError:
        amount = Decimal(0)
    is_share = text.endswith("%")
    ppm = amount * (PPM_PER_PERCENT if is_share else PPM)
    if not 0 < ppm < 10**18 or ppm != int(ppm) or (is_share and amount > 100):
        raise SettingsError(
            f"--size {text}: must be own, all, a share of equity to 100% or an amount of quote currency"
        )
    return (tactics.SIZE_SHARE if is_share else tactics.SIZE_QUOTE), int(ppm)


def _text(path: str) -> str:
    """Return a document now: what is run is what was hashed."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _number(where: str, name: str, value: Value) -> float:
    if isinstance(value, str):
        raise SettingsError(f"{where}: parameter {name} = {value} must be a number")
    return float(value)
