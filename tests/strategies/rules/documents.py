"""Documents to begin from, and what is wrong with others."""

from __future__ import annotations

import pytest

from bot.errors import SettingsError
from bot.strategies.rules.definition import RuleDefinition, check_document
from bot.strategies.rules.document import read_document


def document(*lines: str, when: str = "close > open", until: str = "close < open", timeframe: str = "5m") -> str:
    """Return a document with `lines` after its header, which are lines 3 and on."""
    tables = (f'[entry.long]\nwhen = "{when}"', f'[exit.long]\nwhen = "{until}"')
    return "\n".join(('name = "mine"', f'timeframe = "{timeframe}"', *lines, *tables)) + "\n"


def definition(text: str, **params: float) -> RuleDefinition:
    """Return what a text defines."""
    return RuleDefinition(read_document(text, "x.toml"), params)


def problems(text: str | bytes) -> list[str]:
    """Return everything that is wrong with a text."""
    with pytest.raises(SettingsError) as caught:
        check_document(read_document(text, "x.toml"))
    return caught.value.problems
