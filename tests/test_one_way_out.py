"""There is one way from the bot to an order at the exchange, and nothing goes round it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from bot import __version__
from bot.backtest.replay import replay_market
from bot.config import load_settings
from bot.core import messages as m
from bot.core.messages import SECOND_NS
from bot.exchange.simulated.generator import GeneratedMarket
from bot.storage.replay import facts

REPOSITORY = Path(__file__).parents[1]
PLACING = frozenset({"place", "place_batch", "place_smart", "place_order", "place_orders", "create_order"})
CLIENTS = frozenset({"bot/exchange/poloniex/spot_client.py", "bot/exchange/poloniex/futures_client.py"})
SEND_PORT = "actors/live.py"
KILL = "actors/kill.py"
"""The lever outside of the daemon: it can only close."""


def calls(name: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node


def modules() -> list[str]:
    found = [path for top in ("bot", "actors") for path in (REPOSITORY / top).rglob("*.py")]
    return sorted(str(path.relative_to(REPOSITORY)) for path in found)


def callers_of(names: frozenset[str]) -> set[str]:
    return {
        module
        for module in modules()
        if not module.startswith("bot/exchange/simulated/")
        for call in calls(module)
        if isinstance(call.func, ast.Attribute) and call.func.attr in names
    }


def test_F99_orders_are_placed_at_the_send_port_and_nowhere_else() -> None:
    assert callers_of(PLACING) - CLIENTS == {SEND_PORT, KILL}


def test_F99_the_kill_lever_only_reduces() -> None:
    placed = [
        ast.unparse(keyword.value)
        for call in calls(KILL)
        for keyword in call.keywords
        if keyword.arg == "reduce_only" or keyword.arg == "is_reduce_only"
    ]
    # Where longs and shorts are held side by side, the exchange takes no such flag: there the side itself closes.
    assert placed == ["row.position_side == 'BOTH'"]


def test_F99_only_the_gate_approves() -> None:
    approving = {name for name in callers_of(frozenset({"issue"})) if name.startswith(("bot/core", "actors"))}
    assert approving == {"bot/core/risk/gate.py"}


def test_F140_unsafe_deserialisers_are_refused_by_the_linter() -> None:
    lint = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]  # flake8-bandit: pickle, marshal, yaml.load, eval, exec
    assert not [rule for rule in lint["ignore"] if rule.startswith("S") and rule != "S101" and rule[1:].isdigit()]
    forbidden = {"pickle", "marshal", "shelve", "yaml"}
    for module in modules():
        for node in ast.walk(ast.parse((REPOSITORY / module).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & set(names), module


def test_F105_every_session_in_a_journal_names_the_version_that_wrote_it() -> None:
    source = GeneratedMarket(["BTC_USDT"], 1, 1_700_000_000 * SECOND_NS)
    played = replay_market(source, load_settings([], {}, []), account="test", for_ns=2 * SECOND_NS)
    first = next(facts(played.records))
    assert isinstance(first, m.SessionStarted)
    assert first.version == __version__
