"""Keys and values as an operator reads them in a complaint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from bot.core.toml_lines import KeyPath

_SECRET_NAME: Final = re.compile(r"secret|passw|passphrase|api_?key|token|private_?key|credential|^key$", re.IGNORECASE)


def is_secret(path: KeyPath, value: object) -> bool:
    """Return whether a value should be kept out of sight."""
    return bool(_SECRET_NAME.search(path[-1])) or (isinstance(value, str) and "@" in value)


def dotted(path: KeyPath) -> str:
    """Return a key as TOML writes it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in path)


def shown_value(value: object) -> str:
    """Return `value` as TOML would show it, on one line of at most 80 characters."""
    match value:
        case dict():
            text = "{…}" if value else "{}"
        case list():
            text = f"[{', '.join(shown_value(item) for item in value[:8])}{', …' if len(value) > 8 else ''}]"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case str() | bool():
            text = json.dumps(value)
        case int() if value.bit_length() > 1000:
            text = "(a very long number)"
        case _:
            text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def closest_hint(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to `name`, or nothing."""
    import difflib

    known = list(known)
    last = name.rpartition(".")[2]
    same_key = [key for key in known if "." in key and key.rpartition(".")[2] == last]
    near = same_key[:1] or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
