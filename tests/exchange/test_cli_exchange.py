"""`bot exchange …` as a user runs it: a served exchange, and every question to it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bot.cli_exchange import KEY_VARIABLE, SECRET_VARIABLE, table
from tests.exchange.clients.raw_client import RawRest
from tests.exchange.clients.served import Process, exchange_process
from tests.support.cli import bot, environment

BTC, PERP = "BTC_USDT", "BTC_USDT_PERP"
PUBLIC = ("markets", "ticker", "book", "candles", "trades")


class Shell(NamedTuple):
    """Where commands run."""

    process: Process
    directory: Path

    def run(self, *arguments: str, url: str | None = None, key: str = "", secret: str = "") -> Any:
        named = {KEY_VARIABLE: key, SECRET_VARIABLE: secret} if key else {}
        command = bot("exchange", *arguments, "--url", url or self.process.served.rest)
        env = environment(self.directory) | named
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)

    def rows(self, *arguments: str, number: int = 0) -> list[dict[str, Any]]:
        """Return what a question prints as JSON, asked with the key of an account."""
        account = self.process.served.accounts[number]
        done = self.run(*arguments, "--json", key=account.key, secret=account.secret)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout, parse_float=Decimal)

    def text(self, *arguments: str) -> list[str]:
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("exchange")
    with exchange_process(directory, "--account", "my-key:my-secret") as process:
        yield Shell(process, directory)


# --- serving


def test_one_line_says_where_and_for_whom(shell: Shell) -> None:
    said = json.loads(shell.process.line)
    assert list(said) == ["rest", "ws", "accounts"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", said["rest"])
    assert said["ws"] == said["rest"].replace("http", "ws")
    demo, _, own = said["accounts"]
    assert demo.keys() == {"key", "secret", "spot", "futures"}
    assert (demo["spot"], demo["futures"]) == ({"USDT": 10_000, "BTC": 1}, {"USDT": 10_000})
    assert (own["key"], own["secret"]) == ("my-key", "my-secret")


def test_without_json_it_says_so_in_words(tmp_path: Path) -> None:
    command = bot("exchange", "serve")
    with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(8)]
        process.terminate()
    assert process.returncode == 0
    assert re.fullmatch(r"REST +http://127\.0\.0\.1:\d+\n", lines[0])
    assert "made-up money" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--account", "nobody"), "KEY:SECRET"),
        (("--recording", "no-such-file"), "no-such-file"),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = subprocess.run(
        bot("exchange", "serve", *arguments), env=environment(tmp_path), capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(shell: Shell, tmp_path: Path) -> None:
    port = shell.process.served.rest.rpartition(":")[2]
    command = bot("exchange", "serve", "--port", port)
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert f"--port {port}: " in done.stderr
    assert "Traceback" not in done.stderr


# --- public questions


def test_markets(shell: Shell) -> None:
    rows = {row["symbol"]: row for row in shell.rows("markets")}
    assert set(rows) == {BTC, "ETH_USDT", PERP}
    assert (rows[BTC]["tick size"], rows[BTC]["contract"]) == (Decimal("0.01"), None)
    assert rows[PERP]["contract"] == Decimal("0.001")


def test_ticker(shell: Shell) -> None:
    assert {row["symbol"] for row in shell.rows("ticker")} == {BTC, "ETH_USDT", PERP}
    for symbol in (BTC, PERP):
        (row,) = shell.rows("ticker", symbol)
        assert row["bid"] < row["ask"]
        assert row["low"] <= row["last"] <= row["high"]


@pytest.mark.parametrize("symbol", [BTC, PERP])
def test_book(shell: Shell, symbol: str) -> None:
    rows = shell.rows("book", symbol, "--limit", "3")
    assert len(rows) == 3
    assert rows[2]["bid"] < rows[0]["bid"] < rows[0]["ask"] < rows[2]["ask"]


@pytest.mark.parametrize("symbol", [BTC, PERP])
def test_trades_and_candles(shell: Shell, symbol: str) -> None:
    trades = shell.rows("trades", symbol, "--limit", "2")
    assert {row["side"].upper() for row in trades} <= {"BUY", "SELL"}
    for row in shell.rows("candles", symbol, "--limit", "2", "--interval", "MINUTE_5"):
        assert row["low"] <= row["open"] <= row["high"]
        assert row["time"].endswith(" UTC")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_table_has_a_heading_and_needs_no_key(shell: Shell, name: str) -> None:
    heading, *rows = shell.text(name, *([BTC] if name in ("book", "candles", "trades") else []))
    assert rows
    assert len(heading.split("  ")) >= 4


@pytest.mark.parametrize("arguments", [("ticker", "NO_SUCH"), ("book", "NO_SUCH_PERP")])
def test_an_unknown_market_is_said_without_a_traceback(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run(*arguments)
    assert done.returncode != 0
    assert re.search(r"24101|10001", done.stderr), done.stderr
    assert "Traceback" not in done.stderr


# --- private questions


def test_balances_and_orders(shell: Shell) -> None:
    assert shell.rows("balances") == [
        {"account": "SPOT", "currency": "USDT", "available": 10_000, "hold": 0},
        {"account": "SPOT", "currency": "BTC", "available": 1, "hold": 0},
        {"account": "FUTURES", "currency": "USDT", "available": 10_000, "hold": 0},
    ]
    assert shell.rows("orders") == []
    account = shell.process.served.accounts[0]
    rest = RawRest(shell.process.served.rest, account.key, account.secret)
    spot = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "price": "50000", "quantity": "0.001"}
    order_id = rest.ask("POST", "/orders", body=json.dumps(spot)).body["id"]
    perp = {"symbol": PERP, "side": "BUY", "type": "LIMIT", "px": "50000", "sz": "1"}
    rest.ask("POST", "/v3/trade/order", body=json.dumps(perp))
    (row,) = shell.rows("orders", BTC)
    assert (row["id"], row["price"], row["quantity"], row["state"]) == (order_id, 50_000, Decimal("0.001"), "NEW")
    assert [row["symbol"] for row in shell.rows("orders")] == [BTC, PERP]
    assert [row["symbol"] for row in shell.rows("orders", PERP)] == [PERP]
    assert shell.rows("balances")[0]["hold"] == 50
    assert shell.rows("orders", number=2) == []


@pytest.mark.parametrize("name", ["balances", "orders"])
def test_a_private_question_needs_a_key(shell: Shell, name: str) -> None:
    done = shell.run(name)
    assert done.returncode != 0
    assert KEY_VARIABLE in done.stderr
    assert SECRET_VARIABLE in done.stderr


@pytest.mark.parametrize("url", ["https://api.poloniex.com.evil.example", "https://10.0.0.1", "https://example.org"])
def test_a_key_goes_to_nobody_else(shell: Shell, url: str) -> None:
    done = shell.run("balances", url=url, key="a-key", secret="s3cr3t-text")
    assert done.returncode != 0
    assert "a key is sent to" in done.stderr
    assert "s3cr3t-text" not in done.stderr + done.stdout


def test_a_wrong_key_is_said(shell: Shell) -> None:
    done = shell.run("balances", key="a-key", secret="s3cr3t-text")
    assert done.returncode != 0
    assert "401" in done.stderr
    assert "s3cr3t-text" not in done.stderr


def test_a_table_is_aligned() -> None:
    assert table([{"name": "a", "size": Decimal("1.50")}, {"name": "bcd", "size": None}]) == (
        "name  size\na     1.50\nbcd      -\n"
    )
    assert table([]) == "nothing\n"
