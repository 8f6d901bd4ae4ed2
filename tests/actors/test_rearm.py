"""Re-arming from the command line: the latch by its name, from `bot status` to the journal."""

from __future__ import annotations

import getpass
import json

from bot.control.killfile import KILL_FILE
from bot.storage.sqlite import read_sqlite_journal
from tests.support.cli import Bench


def test_F101_a_latch_is_shown_rearmed_by_name_and_journalled_with_who_did_it(bench: Bench) -> None:
    with bench.start("run", "--headless", "--exchange", "simulated") as process:
        bench.wait_ready(process)
        bench.run("reduce")
        (bench.state_dir / KILL_FILE).touch()
        status = bench.wait_status(lambda status: len(status["view"]["latches"]) == 2, process)
        assert [latch["name"] for latch in status["view"]["latches"]] == ["operator", "kill"]
        assert "latch     HALTED by kill since" in bench.run("status").stdout
        unknown, still_there = bench.run("rearm", "drawdown"), bench.run("rearm", "kill", "--json")
        assert (unknown.returncode, still_there.returncode) == (1, 1)
        assert "drawdown is not closed; closed: operator, kill" in unknown.stdout
        assert "still not well: kill file" in json.loads(still_there.stdout)["text"]
        assert bench.run("rearm", "operator").stdout == "risk is HALTED\n"
        (bench.state_dir / KILL_FILE).unlink()

        def is_gone() -> bool:
            return bench.run("rearm", "kill", "--json").stdout == '{"ok":true,"text":"risk is NORMAL"}\n'

        assert any(is_gone() for _ in range(20))
        process.terminate()
        assert process.wait(10) == 0
    (path,) = bench.state_dir.glob("*.sqlite")
    facts = [json.loads(record.payload) for record in read_sqlite_journal(path)]
    opened = [fact for fact in facts if fact["type"] == "RiskStateChanged" and fact["state"] == "NORMAL"]
    assert [(fact["cause"], fact["who"]) for fact in opened] == [(c, getpass.getuser()) for c in ("operator", "kill")]


def test_what_is_no_evidence_is_refused_before_anything_is_sent(bench: Bench) -> None:
    refused = bench.run("rearm", "drawdown", "--equity", "1e5")
    assert refused.returncode == 2
    assert "--equity 1e5: must be a number" in refused.stderr
