"""A table that fits its width: numbers to the right, unimportant columns left out first.

Cells are plain text with a tone; what a tone looks like is said in the style sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.style import Style

from bot.core.text import safe_text

CELL_LENGTH_MAX: Final = 40
_GAP_MIN: Final = 2
_GAP_MAX: Final = 4


class Tone(StrEnum):
    """How a piece of text is meant; each is a component class of the style sheet."""

    PLAIN = "tone--plain"
    STRONG = "tone--strong"
    FAINT = "tone--faint"
    GAIN = "tone--gain"
    LOSS = "tone--loss"
    WARNING = "tone--warning"
    ERROR = "tone--error"
    BADGE_CALM = "tone--badge-calm"
    BADGE_ALARM = "tone--badge-alarm"


StyleOf = Callable[[Tone], Style]


class Cell(NamedTuple):
    """A piece of text; it may come from a stranger."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(slots=True, frozen=True)
class Column:
    """A column: `rank` 0 always stays, the highest leaves first when there is not enough room."""

    title: str
    cells: Sequence[Cell]
    is_number: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """Return the cells that the widest entry takes."""
        return max(cell_len(self.title), *(cell_len(cell.text) for cell in self.cells), 1)


def safe_cell(text: str, tone: Tone = Tone.PLAIN) -> Cell:
    """Return a cell of text from outside."""
    return Cell(safe_text(text, CELL_LENGTH_MAX), tone)


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns for which there is room, in their order."""
    chosen = list(columns)
    while _width(chosen) > width:
        worst = max(chosen, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        chosen.remove(worst)
    return chosen


def head(columns: Sequence[Column], width: int, style_of: StyleOf) -> Content:
    """Return the titles of `columns`, which fit."""
    cells = [Cell(column.title, Tone.FAINT) for column in columns]
    return _row(columns, cells, width, style_of)


def body(columns: Sequence[Column], width: int, style_of: StyleOf) -> Content:
    """Return the rows of `columns`, which fit, one a line."""
    rows = zip(*(column.cells for column in columns), strict=True)
    return Content("\n").join([_row(columns, row, width, style_of) for row in rows])


def line(cells: Sequence[Cell], width: int, style_of: StyleOf) -> Content:
    """Return `cells` one behind the other, cut at `width`."""
    parts: list[tuple[str, Style]] = []
    left = width
    for cell in cells:
        text = cell.text if cell_len(cell.text) <= left else _cut(cell.text, left)
        parts.append((text, style_of(cell.tone)))
        left -= cell_len(text)
    return Content.assemble(*parts)


def spread(left: Sequence[Cell], right: Sequence[Cell], width: int) -> list[Cell]:
    """Return `left` and `right` at the two ends of `width`; the last cell of `left` is cut where they would meet."""
    room = width - sum(cell_len(cell.text) for cell in right) - 1
    kept: list[Cell] = []
    for cell in left:
        text = cell.text if cell_len(cell.text) <= room else _cut(cell.text, room)
        room -= cell_len(text)
        kept.append(Cell(text, cell.tone))
    return [*kept, Cell(" " * (max(0, room) + 1)), *right]


def _row(columns: Sequence[Column], cells: Sequence[Cell], width: int, style_of: StyleOf) -> Content:
    gap = " " * _gap(columns, width)
    parts: list[Cell] = []
    for column, cell in zip(columns, cells, strict=True):
        spaces = " " * (column.width - cell_len(cell.text))
        padded = spaces + cell.text if column.is_number else cell.text + spaces
        parts += [Cell(gap)] if parts else []
        parts.append(Cell(padded, cell.tone))
    return line(parts, width, style_of)


def _gap(columns: Sequence[Column], width: int) -> int:
    spare = width - sum(column.width for column in columns)
    return max(_GAP_MIN, min(_GAP_MAX, spare // max(1, len(columns) - 1)))


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + _GAP_MIN * (len(columns) - 1)


def _cut(text: str, width: int) -> str:
    if width <= 0:
        return ""
    return set_cell_size(text, width - 1).rstrip() + "…"
