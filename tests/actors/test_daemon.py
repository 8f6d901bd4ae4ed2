"""The daemon as a process: one a state directory, an orderly end, an operator's commands, distinct exit codes."""

from __future__ import annotations

import json
import signal
import stat
import time
from pathlib import Path

import pytest

from bot.control.paths import socket_path
from bot.errors import AlreadyRunning, NotRunning, RecordingError, SettingsError
from bot.storage.sqlite import read_sqlite_journal
from tests.support.cli import Bench

FAST = ("--set", "strategies.crossover.fast=2", "--set", "strategies.crossover.slow=3")
"""Strategies that trade within seconds of real time."""


def test_a_second_bot_on_the_same_state_directory_is_refused(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as first:
        bench.wait_ready(first)
        second = bench.run("run", "--headless", "--exchange", "simulated")
        assert second.returncode == AlreadyRunning.exit_code
        assert f"pid {first.pid}" in second.stderr
        first.terminate()
        assert first.wait(10) == 0


def test_the_lock_of_a_killed_bot_is_free(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as first:
        bench.wait_ready(first)
        first.kill()
    assert bench.result("run", "--headless", "--exchange", "simulated", "--for", "1s", "--json")["epoch"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_bot_in_order_within_five_seconds(bench: Bench, number: signal.Signals) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated", "--json", *FAST) as process:
        bench.wait_status(lambda status: status["view"]["counters"]["fills"] > 0, process, 60)
        began_s = time.monotonic()
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
    assert time.monotonic() - began_s < 5
    assert process.returncode == 0
    result = json.loads(out)
    assert result["reason"] == number.name
    assert result["open_orders"] == []
    (path,) = bench.state_dir.glob("*.sqlite")
    last = json.loads(read_sqlite_journal(path)[-1].payload)
    assert last["type"] == "SessionEnded"


def test_a_second_signal_ends_the_bot_at_once_as_interrupted(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as process:
        bench.wait_ready(process)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):  # both wait when it wakes
            process.send_signal(number)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_an_operator_halts_resumes_reduces_flattens_and_stops(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated", *FAST) as process:
        bench.wait_status(lambda status: status["view"]["positions"], process, 60)
        for verb, state in [("halt", "HALTED"), ("resume", "NORMAL"), ("reduce", "REDUCE_ONLY")]:
            assert bench.run(verb).stdout == f"risk is {state}\n"
        halted = bench.run("halt"), bench.run("flatten")
        assert [done.returncode for done in halted] == [0, 1]
        assert "resume first" in halted[1].stdout
        bench.run("resume")
        assert bench.run("flatten", "--json").stdout == '{"ok":true,"text":"risk is REDUCE_ONLY"}\n'

        def is_flat(status: dict[str, dict[str, list[dict[str, float]]]]) -> bool:
            return all((row["value"] or 0) < 1 for row in status["view"]["positions"])

        bench.wait_status(is_flat, process)
        assert bench.run("stop").returncode == 0
        assert process.wait(10) == 0
    stopped = bench.run("status", "--json")
    assert stopped.returncode == NotRunning.exit_code
    assert json.loads(stopped.stdout)["running"] is False


def test_a_breaker_survives_a_restart(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as process:
        bench.wait_ready(process)
        bench.run("halt")
        process.kill()
    with bench.start("run", "--headless", "--exchange", "simulated") as process:
        assert bench.wait_ready(process)["view"]["risk_state"] == "HALTED"
        process.terminate()


def test_everything_the_bot_writes_is_private(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as process:
        bench.wait_ready(process)
        monkeypatch.setenv("XDG_RUNTIME_DIR", bench.env["XDG_RUNTIME_DIR"])
        paths = [bench.state_dir, *bench.state_dir.iterdir(), socket_path(bench.state_dir)]
        open_to_others = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
        process.terminate()
    assert len(paths) >= 4
    assert open_to_others == []


def test_without_a_bot_commands_say_so(bench: Bench) -> None:
    for verb in ("status", "halt", "stop"):
        done = bench.run(verb)
        assert done.returncode == NotRunning.exit_code
        assert str(bench.state_dir) in done.stderr


def test_every_wrong_setting_is_named_in_one_go(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[risk]\ndayly_loss_pct = 3\nstale_ms = -5\n")
    done = bench.run("run", "--headless", "--config", file, "--set", "paper.cash=no")
    assert done.returncode == SettingsError.exit_code
    for part in (f"{file}:2", "risk.dayly_loss_pct", "daily_loss_pct", "risk.stale_ms", "-5", "paper.cash"):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--speed", "0"), "--speed 0"),
        (("--speed", "max", "--exchange", "simulated"), "--for"),
        (("--for", "soon"), "--for soon"),
        (("--recording", "x.jsonl", "--exchange", "poloniex"), "--recording"),
    ],
)
def test_options_that_make_no_sense_are_refused(bench: Bench, arguments: tuple[str, ...], words: str) -> None:
    done = bench.run("run", "--headless", *arguments)
    assert done.returncode == SettingsError.exit_code
    assert words in done.stderr


def test_a_broken_recording_is_named_with_its_line(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "spot-btc_usdt.jsonl"
    path.write_text('{"t":1723161254206652067,"e":"snapshot","ts":1723161254206,"id":5,"bids":[["1","1"]]}\n')
    done = bench.run("run", "--headless", "--recording", path, "--speed", "max", "--json")
    assert done.returncode == RecordingError.exit_code
    assert f"{path}" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == RecordingError.exit_code


def test_a_state_directory_that_cannot_be_made_is_named(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    done = bench.run("run", "--headless", "--exchange", "simulated")
    assert done.returncode == SettingsError.exit_code
    assert str(tmp_path / "state") in done.stderr


def test_without_poloniex_the_bot_trades_on_the_simulated_exchange_and_says_so(bench: Bench) -> None:
    nowhere = ("--set", "exchange.rest_url=http://127.0.0.1:9", "--set", "exchange.probe_timeout_s=1")
    result = bench.result("run", "--headless", "--for", "1s", "--json", *nowhere)
    assert result["exchange"].startswith("simulated")


def test_prices_of_a_stopped_daemon_are_not_needed_for_its_journal(bench: Bench) -> None:
    bench.result("run", "--headless", "--exchange", "simulated", "--for", "1s", "--json")
    status = json.loads(bench.run("status", "--json").stdout)
    assert status["view"]["cash"] == 10000


def test_a_recording_whose_name_tells_no_symbol_is_played_as_the_first_one_of_the_settings(
    bench: Bench, btc_recording: Path, tmp_path: Path
) -> None:
    path = tmp_path / "market.jsonl.gz"
    path.symlink_to(btc_recording)
    run = ("run", "--headless", "--recording", path, "--speed", "max", "--for", "60s", "--json")
    result = bench.result(*run, "--set", 'exchange.symbols=["XBT_USDT"]')
    assert "of XBT_USDT" in result["exchange"]


def test_faster_than_real_time_the_clock_is_the_markets(bench: Bench, btc_recording: Path) -> None:
    result = bench.result("run", "--headless", "--recording", btc_recording, "--speed", "60", "--json")
    assert result["events"] == 13_206
    assert result["signals"] > 100
    (path,) = bench.state_dir.glob("*.sqlite")
    days = {record.ts_ns // (86_400 * 10**9) for record in read_sqlite_journal(path)}
    assert days == {19_943, 19_944}  # the recording goes over midnight of 2024-08-08, UTC
