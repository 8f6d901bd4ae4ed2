"""Names of parametrised cases that are the same in every process."""

from __future__ import annotations

from typing import Final

LENGTH_MAX: Final = 48


def short_id(value: object) -> str:
    """Return a short name of `value`: a function's own, else what it looks like without addresses."""
    if callable(value):
        return getattr(value, "__name__", type(value).__name__).strip("<>")
    return repr(value)[:LENGTH_MAX]
