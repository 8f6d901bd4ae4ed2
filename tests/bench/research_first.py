"""CPU of a fresh process from its start to its first result: our command, and the least that peers need.

All read the same file of made-up candles, make the averages, and print the equity in the end and the number of trades.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.backtest.made import made_market
from tests.bench.measure import Figure
from tests.bench.research_peers import FAST, FEE_PPM, SILENT, SLOW
from tests.bench.research_turns import MINUTE_NS
from tests.support.candle_files import write_market
from tests.support.cli import Bench, bot

BARS: Final = 50_000
CAPITAL: Final = 10_000
PEERS: Final = ("raptorbt", "vectorbt")
RUNS: Final = 5


class Printed(msgspec.Struct, rename="camel"):
    """What each process prints, among other things."""

    final_equity: float
    total_trades: int


class _Spent(NamedTuple):
    printed: Printed
    cpu_s: float
    wall_s: float


def first_backtest(*, peers: bool = False) -> Figure:
    """CPU seconds of `bot backtest --json` on a file of 50,000 minutes, kernels cached, imports and all."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        env = bench.env | SILENT
        file = Path(directory) / "BTC_USDT-1m.csv"
        write_market(file, made_market(bars=BARS, seed=1, timeframe_ns=MINUTE_NS))
        commands = {"bot": _command(file)}
        for name in PEERS if peers else ():
            if find_spec(name):
                commands[name] = _peer_command(name, file)
        first = {name: _run(command, env).printed for name, command in commands.items()}
        for name, printed in first.items():
            assert printed.total_trades == first["bot"].total_trades > 100, f"{name}: {printed}, we {first['bot']}"
            assert abs(printed.final_equity / first["bot"].final_equity - 1) <= 1e-6, f"{name}: {printed}, not {first}"
        runs: dict[str, list[_Spent]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                runs[name].append(_run(command, env))
    cpu_s = {name: statistics.median(each.cpu_s for each in done) for name, done in runs.items()}
    return Figure(
        name="first-backtest",
        value=cpu_s.pop("bot"),
        unit="s",
        cpu_s=sum(each.cpu_s for each in runs["bot"]),
        wall_s=sum(each.wall_s for each in runs["bot"]),
        peers=cpu_s,
        details={"wall_s": statistics.median(each.wall_s for each in runs["bot"])},
    )


def _command(file: Path) -> list[str]:
    money = ["--capital", str(CAPITAL), "--fee-bps", str(FEE_PPM // 100), "--size", "all"]
    params = ["--param", f"fast={FAST}", f"slow={SLOW}"]
    return bot("backtest", "--strategy", "crossover", *params, *money, "--data", file, "--json")


def _peer_command(name: str, file: Path) -> list[str]:
    script = Path(__file__).with_name(f"research_first_{name}.py")
    return [sys.executable, *map(str, (script, file, FAST, SLOW, FEE_PPM / 1e6, CAPITAL))]


def _run(command: list[str], env: dict[str, str]) -> _Spent:
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True)
    after, ended = os.times(), time.perf_counter()
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return _Spent(msgspec.json.decode(done.stdout, type=Printed), cpu_s, ended - began)
