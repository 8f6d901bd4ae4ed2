from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.text import safe_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Invalid channel value", "Invalid channel value"),
        ("größer als 5 €", "größer als 5 €"),
        ("", ""),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\r\nb\tc\x00d\x7f", "abcd"),
        ("c1 \x9b2J", "c1 2J"),
        ("bidi \u202eevil\u202c\u2066x\u2069", "bidi evilx"),
        ("zero\u200b width\ufeff", "zero width"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("line\u2028paragraph\u2029", "lineparagraph"),
    ],
)
def test_what_could_steer_a_terminal_is_left_out(text: str, shown: str) -> None:
    assert safe_text(text, 100) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert safe_text("12345", 5) == "12345"
    assert safe_text("123456", 5) == "1234…"
    assert safe_text("\x00" * 10**6 + "x", 5) == "…"


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_any_text_becomes_printable_and_short(text: str, length_max: int) -> None:
    shown = safe_text(text, length_max)
    assert shown.isprintable()
    assert len(shown) <= length_max
    shown.encode()
