"""Files that a strategy's table names: where they are, and whether a rule document makes sense with the table."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bot.config.layers import Source
from bot.core.durations import duration_ns, duration_text
from bot.errors import SettingsError

if TYPE_CHECKING:
    from bot.strategies.advice import Definition

_BYTES_MAX = 1024 * 1024


class Rules(NamedTuple):
    """A rule document, read."""

    text: str
    timeframe: str
    """The document's own."""
    params: frozenset[str]
    """Names of its parameters."""
    definition: Definition


def path_of(text: str, source: Source) -> Path:
    """Return the path that `text` means: relative to the settings file that says it, else to the working directory."""
    path = Path(text).expanduser()
    return path if source.text is None else Path(source.label).parent / path


def file_text(path: Path) -> str:
    """Return what stands in a file.

    Raises:
        SettingsError: it cannot be read, is too large, or is no text.

    """
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise SettingsError(f"{path}: is larger than {_BYTES_MAX} bytes")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SettingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_rules(path: Path, params: Mapping[str, float], timeframe: str) -> Rules:
    """Return the document at `path` with these parameters; those that it does not have are left out.

    Raises:
        SettingsError: the document is wrong, or makes no sense with them.

    """
    from bot.strategies.rules.definition import RuleDefinition
    from bot.strategies.rules.document import read_document

    text = file_text(path)
    document = read_document(text, str(path))
    known = frozenset(param.name for param in document.params)
    timeframe_ns = duration_ns(timeframe) if timeframe else None
    given = {name: value for name, value in params.items() if name in known}
    definition = RuleDefinition(document, given, timeframe_ns=timeframe_ns)
    return Rules(text, duration_text(document.timeframe_ns), known, definition)


def plain(value: object) -> object:
    """Return a value of a settings file as Python code takes it: floats instead of Decimals."""
    return float(value) if isinstance(value, Decimal) else value
