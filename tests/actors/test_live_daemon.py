"""Live trading end to end: a daemon as a process, the simulated exchange, real sockets, a real disk."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.core.instrument import ATOM_SCALE, decimal_of
from bot.errors import JournalError, LiveLocked, NotConfirmed, RestartLoop
from bot.storage.replay import replay
from bot.storage.sqlite import read_sqlite_journal
from tests.exchange.contract.served import Clients, Served, exchange_thread, open_clients
from tests.support.live import ACCOUNT, LiveBench, write_key

SMALL = """
[strategies.crossover]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 3
notional = 100
"""
RESTING = """
[strategies.resting]
kind = "rules"
document = "{document}"
timeframe = "1s"
"""
DOCUMENT = """
name = "Resting"
timeframe = "1m"
side = "long"
[entry.long]
when = "close > 0"
[exit.long]
when = "close < 0"
[size]
kind = "fixed"
quote = 50
[order]
kind = "limit"
offset_percent = 3
patience = 1000
"""


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with exchange_thread(12) as served:
        yield served


def resting(path: Path) -> str:
    (path / "resting.toml").write_text(DOCUMENT)
    return RESTING.format(document=path / "resting.toml")


@contextmanager
def running(bench: LiveBench, *more: str | Path, **options: Any) -> Generator[subprocess.Popen[str]]:
    """Start a live bot; whatever becomes of the test, the bot does not outlive it."""
    with bench.start(*bench.run_live, "--json", *more, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    return json.loads(out, parse_float=Decimal)


def is_halted(status: dict[str, Any]) -> bool:
    return (status["view"]["risk_state"], status["view"]["risk_cause"]) == ("HALTED", "kill")


async def held(clients: Clients) -> dict[str, Decimal]:
    (account,) = await clients.spot.balances("SPOT")
    return {row.currency: row.available + row.hold for row in account.balances if row.available + row.hold}


def books(bench: LiveBench) -> dict[str, Decimal]:
    """Return cash and coins as the journal has them."""
    ledger = replay(read_sqlite_journal(bench.state_dir / f"live-{ACCOUNT}.sqlite"))
    coins = dict(ledger.external["spot"])
    for symbol, position in ledger.positions.items():
        base = ledger.instruments[symbol].base
        coins[base] = coins.get(base, 0) + position.base_atoms
    return {
        coin: decimal_of(atoms, ATOM_SCALE) for coin, atoms in {**coins, "USDT": ledger.cash_atoms}.items() if atoms
    }


async def test_a_live_bot_trades_and_its_books_are_the_exchanges_to_the_atom(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=SMALL)
        with running(bench) as process:
            status = bench.wait_status(lambda status: status["view"]["counters"]["fills"] > 3, process, 60)
            assert status["daemon"]["mode"] == "live"
            result = end(process)
        assert result["journal"] == "live-main.sqlite"
        assert result["open_orders"] == []
        assert await clients.spot.open_orders() == ()
        assert await clients.spot.kill_switch() is None
        assert books(bench) == await held(clients)
    shown = bench.run("status", "--json").stdout + bench.config.read_text()
    assert clients.credentials.secret.reveal() not in shown


async def test_S1_neither_key_nor_secret_is_in_anything_that_a_live_run_leaves(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=SMALL)
        with running(bench) as process:
            bench.wait_status(lambda status: status["view"]["counters"]["fills"] > 0, process, 60)
            command_line = str(process.args).encode()
            process.terminate()
            out, err = process.communicate(timeout=20)
        sinks = [out.encode(), err.encode(), command_line]
        sinks += [path.read_bytes() for path in bench.state_dir.iterdir() if path.is_file()]
        for secret in (clients.credentials.key, clients.credentials.secret):
            text = secret.reveal().encode()
            pieces = {text[at : at + 8] for at in range(len(text) - 7)}
            assert [piece for piece in pieces if any(piece in sink for sink in sinks)] == []


async def test_F106_each_lock_is_an_error_of_its_own_at_the_command_line(served: Served, tmp_path: Path) -> None:
    bench = LiveBench(tmp_path, served, next(served.accounts))
    run = ("run", "--headless", "--config", bench.config)
    assert bench.run(*run).returncode == LiveLocked.exit_code
    assert bench.run(*run, "--live", "other", "--confirm", "other").returncode == LiveLocked.exit_code
    unconfirmed = bench.start(*run, "--live", ACCOUNT, stdin=subprocess.DEVNULL)
    _, err = unconfirmed.communicate(timeout=30)
    assert unconfirmed.returncode == NotConfirmed.exit_code
    assert f"--confirm {ACCOUNT}" in err
    assert bench.run("run", "--headless", "--live", ACCOUNT).returncode == LiveLocked.exit_code
    assert not bench.state_dir.exists()


async def test_F106_the_journal_of_another_account_is_refused(served: Served, tmp_path: Path) -> None:
    bench = LiveBench(tmp_path, served, next(served.accounts))
    bench.result("run", "--headless", "--exchange", "simulated", "--for", "1s", "--json")
    (bench.state_dir / "paper-simulated.sqlite").rename(bench.state_dir / f"live-{ACCOUNT}.sqlite")
    done = bench.run(*bench.run_live)
    assert done.returncode == JournalError.exit_code
    assert "paper-simulated" in done.stderr


async def test_F96_a_bot_that_dies_again_and_again_stays_down(served: Served, tmp_path: Path) -> None:
    bench = LiveBench(tmp_path, served, next(served.accounts))
    for _ in range(2):
        with running(bench, "--set", "live.restarts_max=2") as process:
            bench.wait_ready(process)
            process.kill()
    done = bench.run(*bench.run_live, "--set", "live.restarts_max=2")
    assert done.returncode == RestartLoop.exit_code
    assert "starts.json" in done.stderr


async def test_F80_F81_a_journal_that_cannot_be_written_ends_the_bot_halted_and_without_orders(
    served: Served, tmp_path: Path
) -> None:
    def write_no_file_beyond_200_kib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, 200 * 1024))

    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=SMALL)
        with running(bench, preexec_fn=write_no_file_beyond_200_kib) as process:
            _, err = process.communicate(timeout=90)
        assert process.returncode == JournalError.exit_code, err
        assert await clients.spot.open_orders() == ()
        assert "the journal could not be written" in (bench.state_dir / "KILL").read_text()
        with running(bench) as process:
            bench.wait_status(is_halted, process)
            bench.wait_status(lambda status: status["view"]["compared"] == ["spot"], process, 30)
            end(process)
        assert books(bench) == await held(clients)


async def test_F143_nothing_in_the_directory_that_one_stands_in_is_read(served: Served, tmp_path: Path) -> None:
    credentials = next(served.accounts)
    bench = LiveBench(tmp_path, served, credentials)
    here = tmp_path / "here"
    (here / "config").mkdir(parents=True)
    for name in ("live.toml", "default.toml", "config/default.toml", "bot.toml"):
        (here / name).write_text(bench.config.read_text())
    write_key(here / ".env", credentials)
    command = bench.start("run", "--headless", "--live", ACCOUNT, "--confirm", ACCOUNT, cwd=here)
    _, err = command.communicate(timeout=30)
    assert command.returncode == LiveLocked.exit_code
    assert 'bot.mode = "paper"' in err


async def test_bot_kill_works_while_the_daemon_hangs(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=resting(tmp_path))
        with running(bench) as process:
            bench.wait_status(lambda status: status["view"]["orders"], process, 60)
            assert len(await clients.spot.open_orders()) > 0
            process.send_signal(signal.SIGSTOP)
            result = bench.result("kill", "--config", bench.config, "--json")
            assert {row["left"] for row in result["rows"]} == {0}
            assert await clients.spot.open_orders() == ()
            process.send_signal(signal.SIGCONT)
            bench.wait_status(lambda status: status["view"]["risk_state"] == "HALTED", process, 20)
            end(process)
        with running(bench) as process:
            bench.wait_status(is_halted, process)
            assert bench.run("resume").returncode == 1
            (bench.state_dir / "KILL").unlink()
            bench.wait_status(lambda _: bench.run("resume").returncode == 0, process, 20)
            process.terminate()
            _, err = process.communicate(timeout=20)
        assert f"{bench.state_dir / 'KILL'} (bot kill by" in err
        assert "remove it, then resume" in err


async def test_the_first_order_after_a_signal_of_halt_is_a_cancel(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=resting(tmp_path))
        with running(bench) as process:
            bench.wait_status(lambda status: status["view"]["orders"], process, 60)
            process.send_signal(signal.SIGUSR1)
            bench.wait_status(lambda status: not status["view"]["orders"], process, 20)
            assert await clients.spot.open_orders() == ()
            status = bench.wait_ready(process)
            assert (status["view"]["risk_state"], status["view"]["risk_cause"]) == ("HALTED", "kill")
            assert bench.run("resume").returncode == 0
            end(process)


async def test_orders_that_are_to_rest_are_there_after_the_end_and_taken_up_again(
    served: Served, tmp_path: Path
) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=resting(tmp_path))
        keep = ("--set", "live.resting_orders=keep")
        with running(bench, *keep) as process:
            bench.wait_status(lambda status: status["view"]["orders"], process, 60)
            before = {row["client_id"] for row in end(process)["open_orders"]}
        assert {row.client_order_id for row in await clients.spot.open_orders()} == before
        assert await clients.spot.kill_switch() is None
        with running(bench) as process:
            status = bench.wait_ready(process)
            assert {row["client_id"] for row in status["view"]["orders"]} >= before
            assert end(process)["open_orders"] == []
        assert await clients.spot.open_orders() == ()
        assert books(bench) == await held(clients)


async def test_what_is_left_in_a_market_that_is_not_traded_any_more_is_looked_after(
    served: Served, tmp_path: Path
) -> None:
    def has_both(status: dict[str, Any]) -> bool:
        view = status["view"]
        is_held = any(row["symbol"] == "ETH_USDT" and row["quantity"] for row in view["positions"])
        return is_held and any(row["symbol"] == "ETH_USDT" for row in view["orders"])

    def is_known(status: dict[str, Any]) -> bool:
        view = status["view"]
        prices = {row["symbol"]: row["mark_price"] for row in view["positions"]}
        is_priced = view["equity"] is not None and prices.get("ETH_USDT") is not None
        return is_priced and all(row["symbol"] != "ETH_USDT" for row in view["orders"])

    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=SMALL + resting(tmp_path))
        with running(bench, "--set", "live.resting_orders=keep") as process:
            bench.wait_status(has_both, process, 60)
            end(process)
        bench.env["BOT__EXCHANGE__SYMBOLS"] = '["BTC_USDT"]'
        with running(bench) as process:
            bench.wait_status(is_known, process, 60)
            process.terminate()
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
        assert json.loads(out)["open_orders"] == []
        assert "ETH_USDT is not traded now, but something of ours is left there" in err
        assert await clients.spot.open_orders() == ()
        assert books(bench) == await held(clients)


async def test_F95_a_second_signal_ends_a_live_bot_at_once_and_leaves_nothing_working(
    served: Served, tmp_path: Path
) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=resting(tmp_path))
        with running(bench) as process:
            bench.wait_status(lambda status: status["view"]["orders"], process, 60)
            began_s = time.monotonic()
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
                process.send_signal(number)
            process.communicate(timeout=20)
        assert process.returncode == 130
        assert time.monotonic() - began_s < 10
        assert await clients.spot.open_orders() == ()


async def test_an_order_that_is_given_up_by_name_must_be_one_of_ours(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        bench = LiveBench(tmp_path, served, clients.credentials, more=resting(tmp_path))
        with running(bench) as process:
            status = bench.wait_status(lambda status: status["view"]["orders"], process, 60)
            refused = bench.run("abandon", "nobody")
            assert refused.returncode == 1
            assert "nobody" in refused.stdout
            client_id = status["view"]["orders"][0]["client_id"]
            done = bench.run("abandon", client_id)
            assert done.returncode == 0, done.stdout
            end(process)
