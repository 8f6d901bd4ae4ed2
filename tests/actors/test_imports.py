"""What a daemon does not load: a compiler and a screen."""

from __future__ import annotations

from tests.support.cli import Bench


def test_a_daemon_runs_its_kernels_without_a_compiler(bench: Bench) -> None:
    bench.env["PYTHONPROFILEIMPORTTIME"] = "1"
    done = bench.run("run", "--headless", "--exchange", "simulated", "--speed", "max", "--for", "5s")
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "bot.core.tactics" in imported
    assert not {name for name in imported if name.partition(".")[0] in ("numba", "llvmlite", "textual")}
