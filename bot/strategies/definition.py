"""From the settings of a strategy to what research and the live bot run: a definition, or a class with `on_bar`.

Settings are read by every command: what needs a compiler or arrays is imported where a strategy is made.
"""

from __future__ import annotations

import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from bot.core.durations import duration_ns
from bot.errors import SettingsError
from bot.strategies.base import Strategy, StrategySettings
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.mean_reversion import MeanReversionSettings

if TYPE_CHECKING:
    from bot.strategies.advice import Definition

_MILLION = 1_000_000
_PPM_PER_PERCENT = 10_000

SizeRule = tuple[int, int]
"""How `bot/core/tactics.py` reads sizes, and the size of a full position."""


class RulesSettings(StrategySettings, frozen=True, kw_only=True, tag="rules"):
    """A rule document; see `docs/rules.md`."""

    document: str
    """Path of the TOML document; in a settings file relative to that file, elsewhere to the working directory."""
    params: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Values of some of its parameters."""
    timeframe: str = ""
    """Length of a bar, instead of the document's; "" until the document is read."""
    notional: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Quote currency of a full position, instead of the document's size; 0: as the document says."""
    text: str = ""
    """The document itself, as it was read with the settings."""


class PythonSettings(StrategySettings, frozen=True, kw_only=True, tag="python"):
    """A strategy in a Python file; see `docs/strategies.md`."""

    file: str
    """Path of the file; in a settings file relative to that file, elsewhere to the working directory."""
    object: str
    """Name in the file of a class with `on_bar`, or of a `KernelStrategy`."""
    params: dict[str, bool | int | float | str] = msgspec.field(default_factory=dict[str, bool | int | float | str])
    """What the class, or the kernel's record of parameters, is made with."""


def definition_of(settings: StrategySettings, size: SizeRule | None = None) -> Definition | None:
    """Return the definition of a strategy, or None of one that only the exact engine can run.

    `size` is taken instead of the size that the settings say.

    Raises:
        SettingsError: the document or the Python file of the strategy is wrong; names everything.

    """
    match settings:
        case RulesSettings():
            return rule_definition(settings, size)
        case CrossoverSettings() | MeanReversionSettings():
            return None if settings.is_passive else _bundled(settings, size or size_of(settings))
        case PythonSettings():
            made = _loaded(settings)
            return None if isinstance(made, Strategy) else made(size or size_of(settings))
        case _:
            return None


def python_strategy(settings: PythonSettings) -> Strategy | Definition:
    """Return a fresh strategy for one symbol, or the definition of a kernel strategy. Raises as `definition_of`."""
    made = _loaded(settings)
    return made if isinstance(made, Strategy) else made(size_of(settings))


def rule_definition(settings: RulesSettings, size: SizeRule | None = None) -> Definition:
    """Return the definition of a rule document. Takes and raises as `definition_of`."""
    from bot.strategies.rules.definition import RuleDefinition
    from bot.strategies.rules.document import read_document

    document = read_document(rules_text(settings), settings.document)
    if size is None and (settings.notional > 0 or settings.equity_pct > 0):
        size = size_of(settings)
    timeframe_ns = duration_ns(settings.timeframe) if settings.timeframe else None
    return RuleDefinition(document, settings.params, timeframe_ns=timeframe_ns, size=size)


def templates_folder() -> Path:
    """Return where the rule documents are that come with the bot: beside this module in a wheel, else in config/."""
    packaged = Path(__file__).with_name("templates")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "config" / "strategies"


def size_of(settings: StrategySettings) -> SizeRule:
    """Return the size that settings say: percent of equity if they do, or quote currency."""
    from bot.core import tactics

    if settings.equity_pct > 0:
        return tactics.SIZE_SHARE, round(settings.equity_pct * _PPM_PER_PERCENT)
    return tactics.SIZE_QUOTE, round(settings.notional * _MILLION)


def rules_text(settings: RulesSettings) -> str | bytes:
    """Return the document of `settings`, read now if it was not with them.

    Raises:
        SettingsError: it cannot be read.

    """
    if settings.text:
        return settings.text
    try:
        return Path(settings.document).read_bytes()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{settings.document}: cannot be read: {_reason(error)}") from None


def _bundled(settings: CrossoverSettings | MeanReversionSettings, size: SizeRule) -> Definition:
    from bot.strategies import kernels as k

    timeframe_ns = duration_ns(settings.timeframe)
    match settings:
        case CrossoverSettings():
            params = k.CrossoverParams(fast=settings.fast, slow=settings.slow)
            return k.KernelDefinition(k.CROSSOVER, params, timeframe_ns=timeframe_ns, size=size)
        case MeanReversionSettings():
            score = k.MeanReversionParams(window=settings.window, entry_z=settings.entry_z, exit_z=settings.exit_z)
            return k.KernelDefinition(k.MEAN_REVERSION, score, timeframe_ns=timeframe_ns, size=size)


class _MakeKernel(msgspec.Struct, frozen=True):
    """A kernel strategy out of a file, which still needs a size."""

    strategy: Any
    params: Any
    timeframe_ns: int

    def __call__(self, size: SizeRule) -> Definition:
        from bot.strategies.kernels import KernelDefinition

        return KernelDefinition(self.strategy, self.params, timeframe_ns=self.timeframe_ns, size=size)


def _loaded(settings: PythonSettings) -> Strategy | _MakeKernel:
    from bot.strategies.kernels import KernelStrategy, params_of

    where = f"{settings.file}: {settings.object}"
    made = object_of(settings.file, settings.object)
    if isinstance(made, KernelStrategy):
        return _MakeKernel(made, params_of(made, settings.params, where), duration_ns(settings.timeframe))
    if isinstance(made, type) and issubclass(made, Strategy):
        try:
            return made(**settings.params)
        except TypeError as error:
            raise SettingsError(f"{where}: cannot be made: {error}") from error
    raise SettingsError(f"{where}: must be a subclass of Strategy or a KernelStrategy, not {made!r}")


def object_of(file: str, name: str) -> object:
    """Return what `name` is in a Python file.

    Raises:
        SettingsError: the file cannot be loaded, or has no such name.

    """
    made: object = getattr(_module(file), name, None)
    if made is None:
        raise SettingsError(f"{file}: {name}: there is no such name in the file")
    return made


def _module(file: str) -> Any:
    """Return the module of a file, run once for each path of it."""
    path = Path(file).absolute()
    name = f"bot_user_{blake2b(str(path).encode(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{file}: is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except (OSError, ImportError, SyntaxError, ValueError) as error:
        del sys.modules[name]
        raise SettingsError(f"{file}: cannot be loaded: {_reason(error)}") from error
    return module


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
