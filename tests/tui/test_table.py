"""A table fits its width, and says what matters first."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from textual.style import Style

from bot.tui.table import CELL_LENGTH_MAX, Cell, Column, Tone, body, fitting, head, line, safe_cell, spread

COLUMNS = (
    Column("Symbol", [Cell("BTC_USDT"), Cell("X")]),
    Column("Price", [Cell("1,000.5"), Cell("2.0")], is_number=True),
    Column("Strategy", [Cell("crossover"), Cell("")], rank=2),
    Column("Age", [Cell("3 s"), Cell("12 s")], is_number=True, rank=1),
)


def plain(_: Tone) -> Style:
    return Style()


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["Symbol", "Price", "Strategy", "Age"]),
        (34, ["Symbol", "Price", "Strategy", "Age"]),
        (33, ["Symbol", "Price", "Age"]),
        (20, ["Symbol", "Price"]),
        (1, ["Symbol", "Price"]),
    ],
)
def test_the_least_important_column_leaves_first(width: int, titles: list[str]) -> None:
    assert [column.title for column in fitting(COLUMNS, width)] == titles


def test_numbers_stand_on_the_right_under_their_titles() -> None:
    columns = fitting(COLUMNS, 33)
    assert head(columns, 33, plain).plain == "Symbol        Price     Age"
    assert body(columns, 33, plain).plain.split("\n") == ["BTC_USDT    1,000.5     3 s", "X               2.0    12 s"]


@pytest.mark.parametrize("width", range(12))
def test_no_line_is_wider_than_its_place(width: int) -> None:
    cells = [Cell("漢字"), Cell("abc"), Cell("é漢")]
    assert cell_len(line(cells, width, plain).plain) <= width
    for row in body(COLUMNS, width, plain).plain.split("\n"):
        assert cell_len(row) <= width


def test_two_ends_keep_the_right_one_whole() -> None:
    shown = "".join(cell.text for cell in spread([Cell("left side")], [Cell("right")], 12))
    assert shown == "left…  right"
    assert "".join(cell.text for cell in spread([Cell("l")], [Cell("r")], 5)) == "l   r"


def test_a_cell_of_a_stranger_is_short_and_harmless() -> None:
    cell = safe_cell("\x1b[31m" + "x" * 500)
    assert cell.text.isprintable()
    assert len(cell.text) == CELL_LENGTH_MAX
