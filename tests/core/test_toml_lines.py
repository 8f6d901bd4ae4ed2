"""The line of every key, against tomllib as the judge of what the keys are."""

from __future__ import annotations

import json
import tomllib
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from bot.core.toml_lines import KeyPath, key_lines

AWKWARD = '''# [no.table]
top = 1   # = [x]
"quoted key" = "a # b"
a.b . "c.d" = 'x = 1'

[table] # comment
text = """
[not.a.table]
key = "no"
\\""" ""more"""""
literal = \'\'\'
x = 1\'\'\'
list = [
  1, # one = 1
  "]", [ "a", "b" ],
  { inner = 1 },
]
after = { x = 1, y = { z = [1, 2] }, "w w" = "}" }
when = 1979-05-27 07:32:00
[ table . "sub.x" ]
k = inf
[[many]]
n = 1
[[many]]
n = 2
'''


def test_awkward_documents() -> None:
    tomllib.loads(AWKWARD)
    assert key_lines(AWKWARD) == {
        ("top",): 2,
        ("quoted key",): 3,
        ("a", "b", "c.d"): 4,
        ("table",): 6,
        ("table", "text"): 7,
        ("table", "literal"): 11,
        ("table", "list"): 13,
        ("table", "list", "inner"): 16,
        ("table", "after"): 18,
        ("table", "after", "x"): 18,
        ("table", "after", "y"): 18,
        ("table", "after", "y", "z"): 18,
        ("table", "after", "w w"): 18,
        ("table", "when"): 19,
        ("table", "sub.x"): 20,
        ("table", "sub.x", "k"): 21,
        ("many",): 22,
        ("many", "n"): 23,
    }


values = st.recursive(
    st.integers(0, 99).map(str)
    | st.text("ab#=[]{},. '\\\"", max_size=6).map(json.dumps)
    | st.text('a#=[]{},.\n"', max_size=6).map(lambda text: f"'''{text}'''")
    | st.sampled_from(["true", "1.5", "1979-05-27", '"""a\nb = 1\n"""']),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[\n{', '.join(items)}]"),
    max_leaves=4,
)
names = st.text('ab-_.= #[]"', min_size=1, max_size=5)


@given(st.dictionaries(names, st.dictionaries(names, values, max_size=3), max_size=3))
def test_every_key_that_tomllib_knows_has_its_line(tables: dict[str, dict[str, str]]) -> None:
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}

    def write(text: str, path: KeyPath) -> None:
        expected[path] = sum(line.count("\n") + 1 for line in lines) + 1
        lines.append(text)

    for table, keys in tables.items():
        write(f"[{json.dumps(table)}] # = [", (table,))
        for key, value in keys.items():
            write(f"{json.dumps(key)} = {value} # x = 1", (table, key))
    text = "\n".join(lines)
    document = cast("dict[str, dict[str, Any]]", tomllib.loads(text))
    assert {(table, key) for table, keys in document.items() for key in keys} | {(t,) for t in document} == set(
        expected
    )
    assert key_lines(text) == expected
