"""`bot reconcile`: the journal of a live account against a simulated exchange, both read from outside of a daemon."""

from __future__ import annotations

import json
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import trio

from bot import cli
from bot.control import client
from bot.control.books import BooksReport, report_lines
from bot.control.protocol import DifferenceRow, Hello, Reply, View
from bot.core import messages as m
from bot.core.orders import OrderState
from bot.errors import EXIT_OK, BooksDiffer, JournalError, KeyRefused, SettingsError
from bot.exchange.simulated.accounts import DEMO_FUTURES, DEMO_SPOT
from bot.storage.portal import open_portal
from bot.storage.replay import encode_fact, replay
from bot.storage.sqlite import open_sqlite_journal, read_sqlite_journal
from tests.control import samples
from tests.exchange.contract.served import Served, exchange_thread
from tests.support.builders import NOW_NS, approved, buy, event, listed, session

COINS = [coin for coin in DEMO_SPOT if coin != "USDT"]
ACCOUNTS = 8


@pytest.fixture(scope="module", name="served")
def _served() -> Generator[Served]:
    with exchange_thread(ACCOUNTS) as served:
        yield served


class Desk:
    """A state directory with the journal of one new live account."""

    def __init__(self, path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state_dir = path
        self.journal = path / "live-main.sqlite"
        self._monkeypatch = monkeypatch
        self._credentials = next(served.accounts)
        ws = served.ws
        self._file = path / "live.toml"
        self._file.write_text(f"""
[bot]
mode = "live"
state_dir = "{path}"
[exchange]
name = "poloniex"
rest_url = "{served.rest}"
ws_url = "{ws}/ws/public"
[live]
account = "main"
key_cannot_withdraw = true
wallets = ["spot", "futures"]
private_ws_url = "{ws}/ws/private"
futures_rest_url = "{served.rest}"
futures_public_ws_url = "{ws}/ws/v3/public"
futures_ws_url = "{ws}/ws/v3/private"
""")

    def write(self, *facts: m.Journalled) -> None:
        """Write `facts` into the journal, after the first session's."""
        spot, futures = DEMO_SPOT["USDT"], DEMO_FUTURES["USDT"]
        begun = msgspec.structs.replace(session(), cash_atoms=spot + futures, futures_cash_atoms=futures)

        async def run() -> None:
            async with open_portal() as portal, open_sqlite_journal(self.journal, portal) as journal:
                every = [] if await journal.load() else [begun, listed()]
                await journal.append([(fact.ts_ns, encode_fact(fact)) for fact in (*every, *facts)])

        trio.run(run)

    def reconcile(self, *options: str) -> int:
        """Run the command with this account's key; return its exit code."""
        self._monkeypatch.setenv("POLONIEX_KEY", self._credentials.key.reveal())
        self._monkeypatch.setenv("POLONIEX_SECRET", self._credentials.secret.reveal())
        return self.run(*options)

    def run(self, *options: str) -> int:
        """Run the command as it is."""
        return cli.main(["reconcile", *options, "--config", str(self._file)])


@pytest.fixture(name="desk")
def _desk(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, served, monkeypatch)


def coins_of_demo() -> list[m.Journalled]:
    """Return the flows that bring the coins of a demo account."""
    return [
        m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency=coin, atoms=DEMO_SPOT[coin], reason="") for coin in COINS
    ]


def test_equal_books_are_said_with_exit_code_0(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.write(*coins_of_demo())
    assert desk.reconcile() == EXIT_OK
    assert capsys.readouterr().out == "futures and spot: the books are equal\n"


def test_differences_are_shown_and_nothing_is_written(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.write(*coins_of_demo(), m.ExternalFlow(ts_ns=NOW_NS, wallet="futures", currency="USDT", atoms=5, reason=""))
    before = desk.journal.read_bytes()
    assert desk.reconcile("--json") == BooksDiffer.exit_code
    report = json.loads(capsys.readouterr().out)
    assert (report["is_equal"], report["adopted"], report["source"]) == (False, 0, "live-main.sqlite")
    (row,) = report["differences"]
    assert (row["wallet"], row["kind"], row["name"], row["unit"]) == ("futures", "cash", "USDT", "USDT")
    assert row["ours"] - row["exchange"] == pytest.approx(5e-16, abs=1e-9)
    assert desk.journal.read_bytes() == before


def test_F74_what_is_applied_is_in_the_journal_and_the_books_are_equal_from_then_on(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write()
    assert desk.reconcile() == BooksDiffer.exit_code
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in table[1:-1]] == [["spot", "coin", coin] for coin in sorted(COINS)]
    assert desk.reconcile("--apply") == EXIT_OK
    assert f"{len(COINS)} differences were adopted" in capsys.readouterr().out
    assert desk.reconcile() == EXIT_OK
    ledger = replay(read_sqlite_journal(desk.journal))
    assert ledger.external["spot"] == {coin: DEMO_SPOT[coin] for coin in COINS}
    assert {wallet: each.differences for wallet, each in ledger.compared.items()} == {"spot": (), "futures": ()}


def test_an_order_in_doubt_is_left_to_the_bot(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    intent = buy(1, 1)
    desk.write(*coins_of_demo(), approved(intent), event(intent, OrderState.UNKNOWN, order_id=""))
    assert desk.reconcile("--apply") == BooksDiffer.exit_code
    assert "spot: orders are in doubt; start the bot, which settles them" in capsys.readouterr().out


def test_an_order_that_the_exchange_does_not_have_is_shown(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    intent = buy(7, 1)
    desk.write(*coins_of_demo(), approved(intent), event(intent, OrderState.NEW))
    assert desk.reconcile("--apply") == BooksDiffer.exit_code
    (line,) = [line for line in capsys.readouterr().out.splitlines() if intent.client_id in line]
    assert line.split()[:6] == ["spot", "order", intent.client_id, "0", "7", "lots"]


def test_without_a_key_a_journal_or_a_live_account_there_is_nothing_to_compare(desk: Desk, tmp_path: Path) -> None:
    assert desk.run() == JournalError.exit_code
    desk.write()
    assert desk.run() == KeyRefused.exit_code
    assert cli.main(["reconcile", "--state-dir", str(tmp_path)]) == SettingsError.exit_code


ROW = DifferenceRow(
    wallet="spot", kind="coin", name="TRX", exchange=Decimal(3), ours=Decimal(0), unit="TRX", action="adopt it"
)


def fake_daemon(monkeypatch: pytest.MonkeyPatch, views: list[View], reply: Reply | None = None) -> list[str]:
    """Let a daemon answer with each of `views` in turn; return the verbs that it is told."""
    verbs: list[str] = []
    hello = Hello(version="0", pid=1, mode="live", exchange="poloniex", state_dir="")

    def ask_status(state_dir: Path) -> tuple[Hello, View]:
        del state_dir
        return hello, views.pop(0)

    def send_command(state_dir: Path, verb: str) -> Reply:
        del state_dir
        verbs.append(verb)
        assert reply is not None
        return reply

    monkeypatch.setattr(client, "ask_status", ask_status)
    monkeypatch.setattr(client, "send_command", send_command)
    return verbs


def view(*differences: DifferenceRow, compared: tuple[Literal["spot", "futures"], ...] = ("spot",)) -> View:
    return samples.view(compared=compared, differences=differences)


@pytest.mark.parametrize(
    ("shown", "exit_code", "words"),
    [
        (view(), EXIT_OK, "spot: the books are equal"),
        (view(ROW), BooksDiffer.exit_code, "coin TRX"),
        (view(compared=()), BooksDiffer.exit_code, "the daemon has not compared its books with an exchange"),
    ],
)
def test_a_running_daemon_is_asked_what_it_found(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shown: View,
    exit_code: int,
    words: str,
) -> None:
    fake_daemon(monkeypatch, [shown])
    assert desk.run() == exit_code
    assert words in capsys.readouterr().out


def test_a_running_daemon_adopts_by_itself(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = fake_daemon(monkeypatch, [view(ROW), view()], Reply(id="", is_ok=True, text=""))
    assert desk.run("--apply") == EXIT_OK
    assert verbs == ["adopt"]
    assert capsys.readouterr().out.splitlines() == ["1 differences were adopted", "spot: the books are equal"]
    fake_daemon(monkeypatch, [view(ROW), view(ROW)], Reply(id="", is_ok=False, text="not now"))
    assert desk.run("--apply") == BooksDiffer.exit_code
    assert capsys.readouterr().out.splitlines()[-1] == "not now"


def test_a_report_without_a_comparison_says_so_and_is_not_equal() -> None:
    report = BooksReport(source="daemon", is_equal=False, compared=(), differences=(), adopted=0, note="not compared")
    assert report_lines(report) == ["not compared"]
