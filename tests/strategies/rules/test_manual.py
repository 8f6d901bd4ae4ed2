"""The examples of the manual are documents that work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.strategies.rules.definition import check_document
from bot.strategies.rules.document import DISTANCES, read_document
from bot.strategies.rules.expressions import CLOCK, FIELDS, FUNCTIONS
from tests.strategies.rules.documents import problems
from tests.strategies.test_definition import TEN_LINES, TEN_LINES_OF_KERNEL

DOCS = Path(__file__).parents[3] / "docs"
RULES = (DOCS / "rules.md").read_text("utf-8")
EXAMPLES = re.findall(r"\*\*(\d+)\. .*?```toml\n(.*?)```", RULES, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[number for number, _ in EXAMPLES])
def test_an_example_works(example: tuple[str, str]) -> None:
    check_document(read_document(example[1], "example.toml"))


def test_there_are_ten_examples() -> None:
    assert [number for number, _ in EXAMPLES] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("word", [*FIELDS, *CLOCK, *FUNCTIONS, *DISTANCES, "rebalance", "patience", "offset_ticks"])
def test_every_word_stands_in_the_manual(word: str) -> None:
    assert re.search(rf"\b{word}\b", RULES)


def test_the_documents_first_listing_works() -> None:
    (listing,) = re.findall(r"## A document\n\n```\n(.*?)```", RULES, re.DOTALL)
    check_document(read_document(listing, "listing.toml"))
    assert problems(listing.replace("sma(close, slow)", "smaa(close, slow)", 1)) == [
        "x.toml:17: entry.long.when, column 21: there is no function smaa; did you mean sma?"
    ]


def test_the_python_of_the_manual_is_the_python_that_is_tested() -> None:
    manual = (DOCS / "strategies.md").read_text("utf-8")
    assert f"```python\n{TEN_LINES}```" in manual
    assert f"```python\n{TEN_LINES_OF_KERNEL}```" in manual
