"""Text from outside, made fit for a terminal and a log line. What the text means is not known here."""

from __future__ import annotations

from typing import Final

CUT_MARK: Final = "…"


def safe_text(text: str, length_max: int) -> str:
    """Return `text` in at most `length_max` characters, without those that could steer a terminal.

    Control characters (C0, C1, escape), line ends, bidirectional and other invisible marks are left out, so
    an escape sequence becomes harmless letters. A cut text ends in `…`.
    """
    # Twice the length is looked at, so that a megabyte of marks costs nothing.
    shown = "".join(filter(str.isprintable, text[: 2 * length_max]))
    is_cut = len(shown) > length_max or len(text) > 2 * length_max
    return shown[: length_max - 1] + CUT_MARK if is_cut else shown
