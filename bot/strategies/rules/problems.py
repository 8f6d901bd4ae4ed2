"""Everything that is wrong with a document, each with its line, its key and its column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from bot.core.toml_lines import KeyPath

PROBLEMS_MAX: Final = 50
"""More help nobody."""


class Problems:
    """Collects full sentences; `found` is what a `SettingsError` is made of."""

    def __init__(self, label: str, lines: Mapping[KeyPath, int]) -> None:
        self.found: list[str] = []
        self._label = label
        self._lines = dict(lines)
        for path, line in lines.items():  # a dotted key names its tables too
            for length in range(1, len(path)):
                self._lines.setdefault(path[:length], line)

    def say(self, path: KeyPath, sentence: str, column: int | None = None) -> None:
        """Report what is wrong with the value at `path`, or at a column (from 0) of the expression there."""
        if len(self.found) >= PROBLEMS_MAX:
            return
        place = dotted(path) if column is None else f"{dotted(path)}, column {column + 1}"
        said = f"{self.where(path)}: {place}: {sentence}" if place else f"{self.where(path)}: {sentence}"
        if said not in self.found:
            self.found.append(said)

    def where(self, path: KeyPath) -> str:
        """Return the label, and the line of `path` or of the nearest table that it should be in."""
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return f"{self._label}:{line}"
        return self._label


def dotted(path: KeyPath) -> str:
    """Return a key as TOML writes it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in path)


def hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to `name`, or nothing."""
    import difflib

    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """Return a value of a document on one line of at most 60 characters."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 100:
        return "a very long number"
    text = json.dumps(value) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
