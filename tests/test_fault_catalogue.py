"""The table of faults in the manual names tests that exist, and every test that carries a fault's number."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
CATALOGUE = TESTS.parent / "docs" / "fault-catalogue.md"
FAULTS = [f"F{number:02}" for number in range(1, 144)]
HERE_SECTIONS = ("2.A", "2.B", "2.C", "2.D", "2.F")
"""Sections of which every fault is tested."""


class Row(NamedTuple):
    section: str
    tests: frozenset[str]
    is_later: bool


@cache
def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    section = ""
    for line in CATALOGUE.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").split()[0]
        elif match := re.fullmatch(r"\| (F\d+) \| .+? \| (.+) \|", line):
            assert match[1] not in found, f"{match[1]} has two rows"
            found[match[1]] = Row(section, frozenset(re.findall(r"`([^`]+)`", match[2])), "*later" in match[2])
    return found


@cache
def all_tests() -> frozenset[str]:
    return frozenset(
        f"{path.relative_to(TESTS)}::{node.name.removeprefix('test_')}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_fault_has_a_row_and_every_row_an_owner() -> None:
    assert list(rows()) == FAULTS
    assert [fault for fault, row in rows().items() if not row.tests and not row.is_later] == []


def test_every_test_of_the_table_exists() -> None:
    assert {name for row in rows().values() for name in row.tests} - all_tests() == set()


def test_every_test_that_carries_a_number_stands_in_its_row() -> None:
    missing = [
        (fault, name)
        for name in sorted(all_tests())
        for fault in re.findall(r"F\d{2,3}(?!\d)", name.partition("::")[2])
        if name not in rows()[fault].tests
    ]
    assert missing == []


def test_what_has_to_do_with_orders_data_connections_money_and_processes_is_tested() -> None:
    untested = [fault for fault, row in rows().items() if row.section in HERE_SECTIONS and not row.tests]
    assert untested == []
    assert sum(bool(row.tests) for row in rows().values()) >= 100
