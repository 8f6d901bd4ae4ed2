"""A compiled document: nodes without names, each value computed once.

A *frame* is a series of bars: the strategy's own, those of a longer timeframe (`at`), or another symbol's (`of`).
Each has its own nodes, in an order in which every node comes after those that it needs. A `sample` brings the newest
known value of a child frame into its parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from bot.strategies.rules.document import Side

TAME_MAX: Final = 1e100
TAME_MIN: Final = 1e-100
OWN: Final = -1
"""The key of a frame itself in `Node.needs`."""


class Kind(StrEnum):
    """The type of a value."""

    NUMBER = "number"
    CONDITION = "condition"
    BUNDLE = "bundle"
    """All outputs of an indicator."""


class Op(StrEnum):
    """What a node does."""

    CONST = "const"
    FIELD = "field"
    INDICATOR = "indicator"
    OUTPUT = "output"
    SAMPLE = "sample"
    HISTORY = "history"
    NEG = "neg"
    ABS = "abs"
    SQRT = "sqrt"
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MIN = "min"
    MAX = "max"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    EQ = "eq"
    NE = "ne"
    AND = "and"
    OR = "or"
    NOT = "not"
    CROSS_UP = "cross_up"
    CROSS_DOWN = "cross_down"
    CHOOSE = "choose"
    TAME = "tame"
    """The value, but NaN where it is beyond `TAME_MAX`, and 0 where it is nearer to 0 than `TAME_MIN`."""


class Node(NamedTuple):
    """One value of a frame."""

    op: Op
    kind: Kind
    args: tuple[int, ...]
    """Nodes of the same frame."""
    value: float | bool
    """Of a constant."""
    name: str
    """Of a field or an indicator."""
    params: tuple[float, ...]
    """Of an indicator."""
    number: int
    """Bars of a history; number of an output; frame of a sample."""
    source: int
    """Node of a sample in its frame."""
    needs: dict[int, int]
    """Bars before the first that has a value: own ones by `OWN`, and by sample node those since that one had one."""
    digest: bytes
    """Equal for equal values of equal bars, in whatever document."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One series of bars; number 0 is the strategy's own."""

    parent: int
    symbol: str
    """Another symbol's name, or "" for that of the strategy."""
    timeframe_ns: int
    nodes: tuple[Node, ...]
    live: tuple[int, ...]
    """The nodes that are needed, in order."""
    needs: dict[int, int]
    """The most that any live node needs, as in `Node.needs`."""
    children: tuple[int, ...]


Unit = Literal["lots", "quantity", "quote", "percent", "ticks", "price"]


class Amount(NamedTuple):
    """A size or a distance: a node of frame 0, and what it counts."""

    node: int
    unit: Unit
    is_distance: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is needed to advise."""

    frames: tuple[Frame, ...]
    entries: dict[Side, int]
    """Side to a condition of frame 0."""
    exits: dict[Side, int]
    size: Amount
    is_rebalanced: bool
    stop: Amount | None
    target: Amount | None
    trail: Amount | None
    is_limit: bool
    offset: tuple[float, Unit] | None
    patience: int
    bars_max: int
    cool_down: int
    break_even: tuple[float, Unit] | None
