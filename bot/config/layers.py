"""Layers of settings: files, environment and --set become one tree of entries, each with where it comes from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from bot.config.settings import STRATEGIES
from bot.core.toml_lines import KeyPath, key_lines

FILE_BYTES_MAX: Final = 1024 * 1024
ENV_PREFIX: Final = "BOT__"
_DEPTH_MAX: Final = 3
"""strategies.NAME.key"""
_PARAMS: Final = "params"
"""The one key of a strategy that is a table of its own."""


@dataclass(frozen=True)
class Source:
    """Where values come from: a file with its text, or one environment variable or --set without."""

    label: str
    text: str | None = None

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        """The line of every key; of a table that has none of its own, the first line that names it."""
        own = {} if self.text is None else key_lines(self.text)
        first: dict[KeyPath, int] = {}
        for path, line in own.items():
            for length in range(1, min(len(path), _DEPTH_MAX) + 1):
                first.setdefault(path[:length], line)
        return {**first, **own}

    def where(self, path: KeyPath) -> str:
        """Return the label, and the line of `path`: itself, what stands in it, or the table that it should be in."""
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return f"{self.label}:{line}"
        return self.label


class Entry(NamedTuple):
    """One value and where it was said."""

    value: object
    source: Source


Layer = dict[KeyPath, Entry]


def lay(tree: Layer, layer: Layer) -> None:
    """Put `layer` over `tree`; an empty table of strategies takes all of them away."""
    if (STRATEGIES,) in layer:
        drop_strategies(tree)
    tree.update(layer)


def drop_strategies(tree: Layer) -> None:
    """Forget all strategies: a file that has its own replaces those of the defaults."""
    for path in [path for path in tree if path[0] == STRATEGIES]:
        del tree[path]


def read_file(path: Path, label: str, problems: list[str]) -> Layer:
    """Return the entries of a file; whatever keeps it from being read is a problem."""
    text = _file_text(path, label, problems)
    if text is None:
        return {}
    try:
        return _entries(_parse_toml(text), Source(label, text))
    except _BadTomlError as bad:
        problems.append(f"{label}:{bad.line}:{bad.column}: {bad.reason}")
        return {}


def _file_text(path: Path, label: str, problems: list[str]) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        problems.append(f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if len(content) > FILE_BYTES_MAX:
        problems.append(f"{label}: is larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(f"{label}:{line}: is not UTF-8 text")
        return None


def read_environment(environ: Mapping[str, str], problems: list[str]) -> Layer:
    """Return the entries of all variables that begin with `BOT__`."""
    layer: Layer = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        source = Source(f"environment variable {variable}")
        path = _variable_path(variable)
        if path is None:
            problems.append(f"{source.label}: the name must read {ENV_PREFIX}SECTION__KEY")
        else:
            _read_value(path, environ[variable], source, layer, problems)
    return layer


def _variable_path(variable: str) -> KeyPath | None:
    section, _, rest = variable.removeprefix(ENV_PREFIX).lower().partition("__")
    if section == STRATEGIES:
        name, _, key = rest.rpartition("__")
        if name.endswith(f"__{_PARAMS}"):
            return section, name.removesuffix(f"__{_PARAMS}"), _PARAMS, key
        return (section, name, key) if name and key else None
    return (section, rest) if section and rest else None


def read_set(text: str, problems: list[str]) -> Layer:
    """Return the entry of one `key=value`."""
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    source = Source(f"--set {key.strip()}")
    layer: Layer = {}
    if not equals or not all(re.fullmatch(r"[A-Za-z0-9_-]+", part) for part in path):
        problems.append(f"{source.label}: must read --set section.key=value")
    else:
        _read_value(path, value, source, layer, problems)
    return layer


def _read_value(path: KeyPath, text: str, source: Source, layer: Layer, problems: list[str]) -> None:
    """Put the value `text` at `path` into `layer`: TOML, or else the text itself."""
    text = text.strip()
    value: object = text
    try:
        document = _parse_toml(f"value = {text}")
        value = document["value"] if len(document) == 1 else text
    except _BadTomlError as bad:
        if text.startswith(('"', "'", "[", "{")):
            problems.append(f"{source.label}: {bad.reason}")
            return
    for part in reversed(path):
        value = {part: value}
    assert isinstance(value, dict)
    layer.update(_entries(value, source))  # pyright: ignore[reportUnknownArgumentType]  # str keys, made above


def _entries(document: dict[str, Any], source: Source) -> Layer:
    """Return one entry a key: two levels deep, three under `strategies`, four in `params`; an empty table is one."""
    layer: Layer = {}

    def walk(table: dict[str, Any], path: KeyPath) -> None:
        for key, value in table.items():
            here = (*path, key)
            depth = 2 if here[0] != STRATEGIES else _DEPTH_MAX + (here[2:3] == (_PARAMS,))
            if isinstance(value, dict) and value and len(here) < depth:
                walk(value, here)  # pyright: ignore[reportUnknownArgumentType]  # TOML keys are str
            else:
                layer[here] = Entry(value, source)

    walk(document, ())
    return layer


class _BadTomlError(Exception):
    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(reason)
        self.reason, self.line, self.column = reason, line, column


def _parse_toml(text: str) -> dict[str, Any]:
    """Return the document, with floats as the Decimals that were written."""
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except RecursionError:
        raise _BadTomlError("brackets are nested too deeply", 1, 1) from None
    except ValueError as error:  # TOMLDecodeError is one, and so is Python's refusal of numbers of 4300 digits
        reason, _, _ = str(error).partition(" (at ")
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        if place:
            raise _BadTomlError(reason, int(place[1]), int(place[2])) from error
        end = text.removesuffix("\n")
        raise _BadTomlError(reason, end.count("\n") + 1, len(end) - end.rfind("\n")) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"number {text[:40]} has too large an exponent") from None
