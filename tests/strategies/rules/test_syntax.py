"""The grammar of expressions: what is read, how it binds, and what each mistake is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.strategies.rules import syntax as s


def plain(tree: s.Tree) -> str:
    """Return a tree with all of its brackets."""
    match tree:
        case s.Number():
            return f"{tree.value:g}"
        case s.Name():
            return tree.name
        case s.Text():
            return f"'{tree.text}'"
        case s.Call():
            named = [f"{name}={plain(value)}" for name, value in tree.named]
            return f"{tree.name}({', '.join([*map(plain, tree.arguments), *named])})"
        case s.Output():
            return f"{plain(tree.of)}.{tree.name}"
        case s.History():
            return f"{plain(tree.of)}[{tree.bars}]"
        case s.Unary():
            return f"({tree.operator} {plain(tree.of)})"
        case s.Binary():
            return f"({plain(tree.left)} {tree.operator} {plain(tree.right)})"


READ = {
    "1 + 2 * 3": "(1 + (2 * 3))",
    "1 - 2 - 3": "((1 - 2) - 3)",
    "8 / 4 / 2": "((8 / 4) / 2)",
    "-a * b": "((- a) * b)",
    "- - a": "(- (- a))",
    "(1 + 2) * 3": "((1 + 2) * 3)",
    "a < b + 1 and c > d or e < f": "(((a < (b + 1)) and (c > d)) or (e < f))",
    "not a < b and c > d": "((not (a < b)) and (c > d))",
    "a crosses above b[1]": "(a crosses above b[1])",
    "a crosses\n below  b": "(a crosses below b)",
    "cross_above(a, b)": "cross_above(a, b)",
    "macd(close, 12, signal = 9).histogram[3]": "macd(close, 12, signal=9).histogram[3]",
    "at('1h', sma(close, 3))": "at('1h', sma(close, 3))",
    'of("ETH_USDT", close)[2]': "of('ETH_USDT', close)[2]",
    "(a + b)[1]": "(a + b)[1]",
    "1.5e-3 + 2E2": "(0.0015 + 200)",
    "pivots().r1": "pivots().r1",
    "a == b": "(a == b)",
    "not not a": "(not (not a))",
}


@pytest.mark.parametrize("text", READ, ids=range(len(READ)))
def test_operators_bind_as_the_grammar_says(text: str) -> None:
    assert plain(s.parse(text, 100)) == READ[text]


REFUSED = {
    "": (0, "expected a value, found the end"),
    "1 +": (3, "expected a value, found the end"),
    "close >": (7, "expected a value, found the end"),
    "1 2": (2, "2 is too much here; expected an operator or the end"),
    "a < b < c": (6, "comparisons cannot be chained; write a < b and b < c, or use brackets"),
    "a crosses b": (10, "expected above or below after crosses, found b"),
    "close[-1]": (6, "expected a whole number from 0 to 100, of bars ago; found -"),
    "close[n]": (6, "expected a whole number from 0 to 100, of bars ago; found n"),
    "close[1.5]": (6, "expected a whole number from 0 to 100, of bars ago; found 1.5"),
    "close[101]": (6, "expected a whole number from 0 to 100, of bars ago; found 101"),
    "close[1": (7, "expected ], found the end"),
    "sma(close, 20": (13, "expected , or ), found the end"),
    "sma(close 20)": (10, "expected , or ), found 20"),
    "sma(window = 2, close)": (16, "arguments without a name come before those with one"),
    "sma(close, a = 1, a = 2)": (18, "a is given twice"),
    "a & b": (2, "& means nothing here; write and"),
    "!a": (0, "! means nothing here; write not"),
    "a $ b": (2, "the character '$' means nothing here"),
    "at('1h, close)": (3, "the string has no end"),
    "macd.": (5, "expected the name of an output, found the end"),
    "1e999": (0, "1e999 is too large a number"),
    "import os": (7, "os is too much here; expected an operator or the end"),
    "__import__('os').system('x')": (23, "( is too much here; expected an operator or the end"),
    "a if b else c": (2, "if is too much here; expected an operator or the end"),
    "(" * 60 + "1" + ")" * 60: (41, "is nested more than 40 levels deep"),
    "1" + "+1" * 200: (321, "is a chain of more than 160 operators; use [let]"),
    "a" + "[1]" * 50: (121, "is nested more than 40 levels deep"),
    "x" * 4001: (0, "has 4001 characters, more than 4000"),
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_a_mistake_is_named_with_its_column(text: str) -> None:
    with pytest.raises(s.SyntaxProblem) as caught:
        s.parse(text, 100)
    assert (caught.value.column, caught.value.sentence) == REFUSED[text]


PIECES = st.sampled_from(
    ["close", "1", "2.5", "+", "-", "*", "/", "<", "and", "or", "not", "crosses", "above", "(", ")", "[", "]", ",", ".",
     "sma", "'1h'", "=", "==", " ", "1e9", '"', "€"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=80))
def test_any_text_is_a_tree_or_a_problem_in_a_column_of_it(text: str) -> None:
    assert 0 <= column_of_problem(text) <= len(text)


def column_of_problem(text: str) -> int:
    """Return where a text stops to make sense, or its end."""
    try:
        s.parse(text, 100)
    except s.SyntaxProblem as problem:
        return problem.column
    return len(text)
