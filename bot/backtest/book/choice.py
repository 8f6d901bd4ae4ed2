"""Which strategy on the book a command means: by name, or a class with `on_book` in a Python file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import msgspec

from bot.backtest.book.replay import BookStrategy, CompiledStrategy
from bot.backtest.book.strategies import Imbalance, ImbalanceSettings, QuoterSettings, compiled_quoter
from bot.backtest.space import Value
from bot.config.words import closest_hint
from bot.errors import SettingsError
from bot.strategies.definition import object_of

DEFAULT: Final = "quoter"


class PythonBookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A class in a Python file."""

    file: str
    object: str
    params: dict[str, Value] = {}
    """What the class is made with."""


BookSettings = QuoterSettings | ImbalanceSettings | PythonBookSettings
BOOK_KINDS: Final[Mapping[str, type[QuoterSettings | ImbalanceSettings]]] = {
    "quoter": QuoterSettings,
    "imbalance": ImbalanceSettings,
}


class BookChosen(NamedTuple):
    """A strategy on the book that can be run with any parameters."""

    name: str
    settings: BookSettings

    def with_params(self, params: Mapping[str, Value]) -> BookSettings:
        """Return the settings with these parameters.

        Raises:
            SettingsError: one is unknown or out of its bounds.

        """
        own = self.settings
        if isinstance(own, PythonBookSettings):
            return msgspec.structs.replace(own, params={**own.params, **params})
        for name in params:
            if name not in own.__struct_fields__:
                raise SettingsError(f"{self.name}: has no parameter {name}{closest_hint(name, own.__struct_fields__)}")
        try:
            return msgspec.convert({**msgspec.to_builtins(own), **params}, type(own))
        except msgspec.ValidationError as error:
            raise SettingsError(f"{self.name}: {error}") from None

    def parameters(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return the value of every parameter, those that were not given too. Raises as `with_params` does."""
        settings = self.with_params(params)
        if isinstance(settings, PythonBookSettings):
            return dict(settings.params)
        return msgspec.to_builtins(settings)

    def make(self, params: Mapping[str, Value]) -> BookStrategy | CompiledStrategy:
        """Return a fresh strategy. Raises as `with_params` does, and where its class cannot be made."""
        settings = self.with_params(params)
        match settings:
            case QuoterSettings():
                return compiled_quoter(settings)
            case ImbalanceSettings():
                return Imbalance(settings)
            case PythonBookSettings():
                kind = cast("type[BookStrategy]", object_of(settings.file, settings.object))  # `choose_book` looked
                try:
                    return kind(**settings.params)
                except TypeError as error:
                    raise SettingsError(f"{self.name}: cannot be made: {error}") from error


def choose_book(name: str) -> BookChosen | None:
    """Return the strategy on the book of that name, or None where it means one on bars.

    `name` is one of `BOOK_KINDS`, or a path that ends in `.py:NAME` of a class with `on_book`.

    Raises:
        SettingsError: the file cannot be loaded, or has no such name.

    """
    if name in BOOK_KINDS:
        return BookChosen(name, BOOK_KINDS[name]())
    file, _, member = name.rpartition(":")
    if not file.endswith(".py"):
        return None
    made = object_of(file, member)
    if not (isinstance(made, type) and callable(getattr(made, "on_book", None))):
        return None
    return BookChosen(name, PythonBookSettings(file=file, object=member))
