"""On which line each key of a TOML document stands: what an error message needs and `tomllib` does not say.

Not a parser: the document has been read by `tomllib`, so it is known to be valid.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

KeyPath = tuple[str, ...]
DEPTH_MAX: Final = 8

# A multi-line string may end in up to two more of its quotes.
_TOKEN: Final = re.compile(
    r"""(?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<comment>\#[^\n]*)|(?P<newline>\n)|(?P<mark>[\[\]{}=,])|(?P<other>[^\n\#\[\]{}=,"']+)""",
    re.DOTALL | re.VERBOSE,
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key and table header of the valid TOML document `text`.

    Keys inside an array of tables share one path, and so do those deeper than `DEPTH_MAX`; the first counts.
    """
    scanner = _Scanner()
    for token in _TOKEN.finditer(text):
        scanner.read(token.lastgroup or "", token.group())
    scanner.end_statement()
    return scanner.lines


@dataclass(slots=True)
class _Scanner:
    """Where we are between two tokens."""

    lines: dict[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    line: int = 1
    expects: Literal["key", "header", "value"] = "key"
    key: str = ""
    """What was read of a key or a header so far, as it is written."""
    prefix: KeyPath = ()
    """The table that keys belong to."""
    path: KeyPath = ()
    """The key whose value is being read."""
    outer: list[KeyPath | None] = field(default_factory=list[KeyPath | None])
    """For each open bracket of a value: the table around an inline table, or None for an array."""

    def read(self, kind: str, token: str) -> None:
        """Go one token further."""
        if kind == "mark":
            self._read_mark(token)
        elif kind == "newline" and not self.outer:
            self.end_statement()
        elif kind in ("string", "other") and self.expects != "value":
            self.key += token
        self.line += token.count("\n")

    def _read_mark(self, mark: str) -> None:
        match self.expects, mark:
            case "key", "[":
                self.expects = "header"
            case "key", "=":
                self.path = self._take_key(self.prefix)
                self.expects = "value"
            case "value", "[":
                self.outer.append(None)
            case "value", "{":
                self.outer.append(self.prefix)
                self.prefix = self.path
                self.expects = "key"
            case _, "]" | "}" if self.outer:
                table = self.outer.pop()
                self.prefix = self.prefix if table is None else table
                self.expects = "value"
            case "value", "," if self.outer and self.outer[-1] is not None:
                self.expects = "key"
            case _:
                pass  # a comma of an array, a bracket of a header

    def end_statement(self) -> None:
        """Close what a line without open brackets held."""
        if self.expects == "header":
            self.prefix = self._take_key(())
        self.expects = "key"
        self.key = ""

    def _take_key(self, prefix: KeyPath) -> KeyPath:
        path = (prefix + _parts(self.key.strip()))[:DEPTH_MAX]
        self.lines.setdefault(path, self.line)
        self.key = ""
        return path


def _parts(key: str) -> KeyPath:
    """Return the parts of the dotted key `key`, out of their quotes."""
    if _BARE_KEY.fullmatch(key):
        return tuple(key.split("."))
    parts: list[str] = []
    table: dict[str, Any] = tomllib.loads(f"{key} = 0")
    while table:
        name, inner = next(iter(table.items()))  # there is one key a level
        parts.append(name)
        table = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    return tuple(parts)
