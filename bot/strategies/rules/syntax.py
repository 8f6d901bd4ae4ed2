"""Expressions as text and as trees: the grammar of `docs/rules.md`, read by precedence climbing.

Knows no names and no types: that `sma(close, "1h")` makes no sense is found out in `expressions.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

TEXT_MAX: Final = 4_000
"""Characters of an expression."""
DEPTH_MAX: Final = 40
"""Levels of nesting in one expression."""

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<text>"[^"\n]*"|'[^'\n]*')|(?P<mark><=|>=|==|!=|[-+*/<>()\[\].,=])""",
    re.VERBOSE,
)
_WORDS: Final = frozenset({"and", "or", "not", "crosses", "above", "below"})
_COMPARISONS: Final = frozenset({"<", "<=", ">", ">=", "==", "!=", "crosses"})
_BINDING: Final = {"or": 1, "and": 2, **dict.fromkeys(_COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "/": 6}
_NOT: Final = 3
_MINUS: Final = 7


class SyntaxProblem(Exception):
    """An expression cannot be read; `column` counts from 0."""

    def __init__(self, column: int, sentence: str) -> None:
        super().__init__(sentence)
        self.column, self.sentence = column, sentence


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written."""

    column: int
    value: float
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Name:
    """A field, a parameter, a let or an indicator without arguments."""

    column: int
    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string: only `at` and `of` take one."""

    column: int
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an indicator with its arguments."""

    column: int
    name: str
    arguments: tuple[Tree, ...]
    named: tuple[tuple[str, Tree], ...]


@dataclass(frozen=True, slots=True)
class Output:
    """One of the outputs of an indicator."""

    column: int
    of: Tree
    name: str


@dataclass(frozen=True, slots=True)
class History:
    """A value of `bars` bars ago."""

    column: int
    of: Tree
    bars: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`-` or `not`."""

    column: int
    operator: str
    of: Tree


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator of two sides; `column` is that of the operator."""

    column: int
    operator: str
    left: Tree
    right: Tree


Tree = Number | Name | Text | Call | Output | History | Unary | Binary


class _Token(NamedTuple):
    kind: str
    """number, name, text, mark, word or end"""
    text: str
    column: int


def parse(text: str, history_max: int) -> Tree:
    """Return the tree of an expression.

    Raises:
        SyntaxProblem: `text` is no expression, or is larger than the bounds.

    """
    if len(text) > TEXT_MAX:
        raise SyntaxProblem(0, f"has {len(text)} characters, more than {TEXT_MAX}")
    parser = _Parser(_tokens(text), history_max)
    tree = parser.expression(0, 0)
    token = parser.next
    if token.kind != "end":
        raise SyntaxProblem(token.column, f"{_shown(token)} is too much here; expected an operator or the end")
    return tree


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    column = 0
    while column < len(text):
        match = _TOKEN.match(text, column)
        if match is None:
            raise SyntaxProblem(column, _strange(text[column]))
        kind = match.lastgroup or ""
        if kind == "name" and match.group() in _WORDS:
            kind = "word"
        if kind != "space":
            tokens.append(_Token(kind, match.group(), column))
        column = match.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _strange(character: str) -> str:
    words = {"&": "and", "|": "or", "!": "not"}
    if character in words:
        return f"{character} means nothing here; write {words[character]}"
    if character in "\"'":
        return "the string has no end"
    return f"the character {character!r} means nothing here"


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else token.text


class _Parser:
    def __init__(self, tokens: list[_Token], history_max: int) -> None:
        self._tokens = tokens
        self._at = 0
        self._history_max = history_max

    @property
    def next(self) -> _Token:
        return self._tokens[self._at]

    def expression(self, binding: int, depth: int) -> Tree:
        """Return the expression that goes on while operators bind tighter than `binding`."""
        if depth > DEPTH_MAX:
            raise SyntaxProblem(self.next.column, f"is nested more than {DEPTH_MAX} levels deep")
        left = self._prefix(depth)
        levels = depth  # a long chain of operators is a deep tree as well
        while True:
            token = self.next
            power = _BINDING.get(token.text, 0) if token.kind in ("mark", "word") else 0
            if power <= binding:
                return left
            levels += 1
            if levels > depth + 4 * DEPTH_MAX:
                raise SyntaxProblem(token.column, f"is a chain of more than {4 * DEPTH_MAX} operators; use [let]")
            self._at += 1
            operator = f"crosses {self._above_or_below()}" if token.text == "crosses" else token.text
            left = Binary(token.column, operator, left, self.expression(power, depth + 1))
            if power == _BINDING["<"] and self.next.text in _COMPARISONS:
                raise SyntaxProblem(
                    self.next.column, "comparisons cannot be chained; write a < b and b < c, or use brackets"
                )

    def _prefix(self, depth: int) -> Tree:
        token = self.next
        self._at += 1
        match token.kind, token.text:
            case "word", "not":
                return Unary(token.column, "not", self.expression(_NOT, depth + 1))
            case "mark", "-":
                return Unary(token.column, "-", self.expression(_MINUS, depth + 1))
            case "mark", "(":
                inner = self.expression(0, depth + 1)
                self._take(")")
                return self._postfix(inner)
            case "number", text:
                return Number(token.column, self._finite(token), "." not in text and "e" not in text.lower())
            case "text", text:
                return Text(token.column, text[1:-1])
            case "name", name:
                if self.next.text == "(":
                    return self._postfix(self._call(token, depth))
                return self._postfix(Name(token.column, name))
            case _:
                raise SyntaxProblem(token.column, f"expected a value, found {_shown(token)}")

    def _postfix(self, tree: Tree) -> Tree:
        for _ in range(DEPTH_MAX):
            token = self.next
            if token.text == ".":
                self._at += 1
                tree = Output(token.column, tree, self._take_kind("name", "the name of an output").text)
            elif token.text == "[":
                self._at += 1
                tree = History(token.column, tree, self._bars_ago())
                self._take("]")
            else:
                return tree
        raise SyntaxProblem(self.next.column, f"is nested more than {DEPTH_MAX} levels deep")

    def _bars_ago(self) -> int:
        token = self.next
        rule = f"expected a whole number from 0 to {self._history_max}, of bars ago"
        if token.kind != "number" or not token.text.isdigit():
            raise SyntaxProblem(token.column, f"{rule}; found {_shown(token)}")
        if len(token.text) > 9 or int(token.text) > self._history_max:
            raise SyntaxProblem(token.column, f"{rule}; found {token.text[:20]}")
        self._at += 1
        return int(token.text)

    def _call(self, name: _Token, depth: int) -> Call:
        self._take("(")
        arguments: list[Tree] = []
        named: dict[str, Tree] = {}
        while self.next.text != ")":
            token = self.next
            if token.kind == "name" and self._tokens[self._at + 1].text == "=":
                self._at += 2
                if token.text in named:
                    raise SyntaxProblem(token.column, f"{token.text} is given twice")
                named[token.text] = self.expression(0, depth + 1)
            elif named:
                raise SyntaxProblem(token.column, "arguments without a name come before those with one")
            else:
                arguments.append(self.expression(0, depth + 1))
            if self.next.text != ")":
                self._take(",", "or )")
        self._take(")")
        return Call(name.column, name.text, tuple(arguments), tuple(named.items()))

    def _above_or_below(self) -> str:
        token = self.next
        if token.text not in ("above", "below"):
            raise SyntaxProblem(token.column, f"expected above or below after crosses, found {_shown(token)}")
        self._at += 1
        return token.text

    def _take(self, mark: str, other: str = "") -> None:
        if self.next.text != mark or self.next.kind != "mark":
            expected = f"{mark} {other}".strip()
            raise SyntaxProblem(self.next.column, f"expected {expected}, found {_shown(self.next)}")
        self._at += 1

    def _take_kind(self, kind: str, what: str) -> _Token:
        token = self.next
        if token.kind != kind:
            raise SyntaxProblem(token.column, f"expected {what}, found {_shown(token)}")
        self._at += 1
        return token

    def _finite(self, token: _Token) -> float:
        value = float(token.text)
        if value > 1e300:
            raise SyntaxProblem(token.column, f"{token.text[:20]} is too large a number")
        return value
