"""The table in `docs/indicators.md` and the registry say the same."""

from __future__ import annotations

import re
from math import isqrt
from pathlib import Path

from bot.core.indicators.registry import INDICATORS, Indicator, Param

PAGE = Path(__file__).parents[2] / "docs" / "indicators.md"


def table() -> dict[str, list[str]]:
    """Return the cells after the name of each row."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0].strip("`"): row[1:] for row in rows}


def parameter(param: Param) -> str:
    default = int(param.default) if param.kind == "int" else param.default
    return f"{param.name} {default} [{param.low:g}, {param.high:g}]"


def listed(words: list[str]) -> str:
    return ", ".join(words) or "-"


def columns(indicator: Indicator) -> list[str]:
    return [
        listed(list(indicator.inputs)),
        listed([parameter(p) for p in indicator.params]),
        listed(list(indicator.outputs)),
    ]


def test_the_table_lists_the_registry_in_its_order() -> None:
    rows = table()
    assert {name: columns(indicator) for name, indicator in INDICATORS.items()} == {
        name: cells[:3] for name, cells in rows.items()
    }
    assert list(rows) == list(INDICATORS)


def test_the_look_backs_of_the_table_are_those_of_the_registry() -> None:
    for name, cells in table().items():
        indicator = INDICATORS[name]
        values = [17.0 + 4 * index for index in range(len(indicator.params))]
        names = dict(zip([param.name for param in indicator.params], values, strict=True))
        days = re.search(r" \+ (\d) days?$", cells[3])
        assert indicator.days == (int(days[1]) if days else 0), name
        if any(param.kind == "float" for param in indicator.params):
            values = [
                value if p.kind == "int" else p.default for p, value in zip(indicator.params, values, strict=True)
            ]
        assert indicator.lookback(values) == look_back(cells[3].removesuffix(days[0] if days else ""), names), name


def look_back(formula: str, names: dict[str, float]) -> float:
    """Return the value of a formula of the table: terms, products with a number before them, and max(…)."""
    formula = formula.partition(", r = ")[0]
    largest = re.match(r"max\(([^)]*)\)(.*)", formula)
    if largest:
        return max(look_back(part, names) for part in largest[1].split(", ")) + look_back("0" + largest[2], names)
    inner = re.fullmatch(r"(\d) \((.*)\)", formula)
    if inner:
        return int(inner[1]) * look_back(inner[2], names)
    total = 0.0
    for sign, factor, word in re.findall(r"([+-]?) ?(?:(\d+) )?([a-z_]+|\d+)", formula):
        value = float(isqrt(int(names["window"]))) if word == "r" else names.get(word) or float(word)
        total += (-1 if sign == "-" else 1) * int(factor or 1) * value
    return total
