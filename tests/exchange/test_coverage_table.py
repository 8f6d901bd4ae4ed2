"""`docs/poloniex.md` against the dossier, against the code, and against the contract tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from bot.exchange.poloniex import codec, private_codec
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.market_data import MarketData
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.streams import FuturesAccount, PrivateStream, SpotStream
from tests.exchange.contract.test_futures_contract import CONTRACTS as FUTURES_CONTRACTS
from tests.exchange.contract.test_spot_contract import CONTRACTS as SPOT_CONTRACTS
from tests.exchange.contract.test_streams_contract import CONTRACTS as STREAM_CONTRACTS

REPOSITORY = Path(__file__).parents[2]
DOSSIER = REPOSITORY.parent / "shared" / "poloniex"
KINDS = (SpotClient, FuturesClient, PrivateStream, SpotStream, FuturesAccount, MarketData)
OWNERS: Mapping[str, object] = {kind.__name__: kind for kind in KINDS} | {
    "codec": codec,
    "private_codec": private_codec,
}
GONE = {"GET /v3/position/leverage"}
"""Named by the dossier to say that they are no more."""

PART = r"(?:[A-Za-z0-9-]+|\{[^}]*\})"
PATH = rf"/{PART}(?:/{PART})*"
DECORATION = r"(?:\?[\w&=]*)?(?: \([a-z]+\))?"
CALLS = re.compile(
    rf"(?:\b(GET|POST|PUT|DELETE)\s`?|^\| )({PATH}{DECORATION}(?:(?: · |, ){PATH}{DECORATION})*)"
    r"((?:, [a-z]+[A-Z]\w+)*)",
    re.MULTILINE,
)


class Row(NamedTuple):
    """A row of the table."""

    name: str
    methods: tuple[str, ...]
    simulated: str


def table() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for line in (REPOSITORY / "docs" / "poloniex.md").read_text().splitlines():
        match line.strip("| ").split(" | "):
            case [name, methods, simulated] if name.startswith("`"):
                row = Row(name.strip("`"), tuple(re.findall(r"`([^`]+)`", methods)), simulated)
                assert row.name not in rows, f"{row.name} twice"
                rows[row.name] = row
            case _:
                pass
    return rows


ROWS = table()


def dossier(name: str) -> str:
    path = DOSSIER / name
    if not path.is_file():
        pytest.skip(f"the dossier is not at hand in {DOSSIER}")
    return path.read_text()


def canonical(name: str) -> str:
    """Return a call without what its parameters are called: the dossier says `{s}` and `{id | cid:clientId}`."""
    return re.sub(r"\{[^}]*\}", "{}", name)


def calls(text: str) -> set[str]:
    """Return `METHOD /path` of every call that the dossier names; what has no method is a table of reads."""
    found: set[str] = set()
    for method, listed, siblings in CALLS.findall(text.replace("\\|", "|")):
        paths = re.findall(PATH, listed)
        paths += [f"{paths[-1].rpartition('/')[0]}/{name}" for name in siblings.split(", ") if name]
        found |= {canonical(f"{method or 'GET'} {path}") for path in paths}
    return found - GONE


def section(text: str, first: str, last: str) -> str:
    return text[text.index(first) : text.index(last)]


def headings(text: str) -> set[str]:
    """Return the channels that headings name, `symbols · currencies · exchange — medium` three of them."""
    lines = [line.removeprefix("### ").partition(" — ")[0] for line in text.splitlines() if line.startswith("### ")]
    return {name.strip() for line in lines for name in line.partition(" (")[0].split(" · ")}


def first_cells(text: str) -> set[str]:
    """Return what stands in backticks in the first column of a table."""
    return set(re.findall(r"^\| `([^`]+)`[^|]*\|", text, re.MULTILINE))


def test_every_spot_call_of_the_dossier_is_in_the_table() -> None:
    rows = {canonical(name) for name in ROWS if " /" in name and " /v3/" not in name}
    named = calls(dossier("spot-rest.md"))
    assert len(named) == 64
    assert named == rows


def test_every_futures_call_of_the_dossier_is_in_the_table() -> None:
    rows = {canonical(name) for name in ROWS if " /v3/" in name}
    named = calls(dossier("futures-rest.md")) - {"POST /accounts/transfer"}  # that is spot's
    assert len(named) == 40
    assert named == rows


def test_every_spot_channel_of_the_dossier_is_in_the_table() -> None:
    text = dossier("spot-ws.md")
    public = headings(section(text, "## 3.", "## 4."))
    private = headings(section(text, "## 5.", "## 6."))
    requests = set(re.findall(r'"event":"(\w+)"', section(text, "### other requests", "### errors")))
    trading = set(re.findall(r'"event":"(\w+)"', section(text, "## 6.", "## 7.")))
    assert {"book_lv2", "candles_…", "exchange"} <= public
    assert (len(private), len(requests), len(trading)) == (2, 3, 3)
    named = {f"/ws/public {name}" for name in {*public, *requests, "ping"}}
    named |= {f"/ws/private {name}" for name in {*private, *trading, "auth"}}
    assert named == {name for name in ROWS if name.startswith(("/ws/public", "/ws/private"))}


def test_every_futures_channel_of_the_dossier_is_in_the_table() -> None:
    text = dossier("futures-ws.md")
    public = first_cells(section(text, "## 2.", "## 3."))
    private = headings(section(text, "## 3.", "## 4."))
    assert (len(public), len(private)) == (11, 4)
    named = {f"/ws/v3/public {name}" for name in public} | {f"/ws/v3/private {name}" for name in {*private, "auth"}}
    assert named == {name for name in ROWS if name.startswith("/ws/v3")}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_method_in_the_table_exists(row: Row) -> None:
    assert row.methods
    for method in row.methods:
        owner, _, name = method.partition(".")
        assert hasattr(OWNERS[owner], name), method


def test_every_public_method_of_both_clients_is_in_the_table() -> None:
    beside = {"clock", "resolve", "resolve_smart", "resolve_order"}
    named = {method for row in ROWS.values() for method in row.methods}
    for kind in (SpotClient, FuturesClient):
        public = {name for name in vars(kind) if not name.startswith("_")} - beside
        assert {f"{kind.__name__}.{name}" for name in public} <= named


def test_every_row_of_the_table_has_a_contract_test() -> None:
    assert {**SPOT_CONTRACTS, **FUTURES_CONTRACTS, **STREAM_CONTRACTS}.keys() == ROWS.keys()
