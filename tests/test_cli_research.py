"""The commands of research, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bot.backtest.choice import templates
from bot.backtest.made import made_market
from bot.cli import main
from bot.core.durations import UNITS_NS
from tests.support.candle_files import CANDLES, START_MS, row, write, write_market
from tests.support.cli import bot, environment

MINUTE_NS = UNITS_NS["m"]
ALIASES = {
    "winRate",
    "profitFactor",
    "totalReturn",
    "totalTrades",
    "winningTrades",
    "losingTrades",
    "averageWin",
    "averageLoss",
    "sharpeRatio",
    "maxDrawdown",
    "finalEquity",
}


class Said:
    """What a command said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, "standard output holds one line, and nothing else"
        return json.loads(self.out)


class User:
    """Runs commands, in this process or in one of their own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.env = environment(directory)

    def run(self, command: str, *arguments: str | Path) -> Said:
        has_place = command not in {"report", "compare"}
        place = ["--state-dir", str(self.directory / "state")] if has_place else []
        self.capsys.readouterr()
        try:
            code = main([command, *map(str, arguments), *place])
        except SystemExit as left:  # argparse's own complaints
            code = left.code if isinstance(left.code, int) else 1
        said = self.capsys.readouterr()
        return Said(code, said.out, said.err)

    def start(
        self, command: str, *arguments: str | Path, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        place = ["--state-dir", self.directory / "state"]
        line = bot(command, *arguments, *place)
        return subprocess.Popen(line, env=self.env, text=True, stdout=stdout, stderr=stderr)


@pytest.fixture
def user(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> User:
    for name in [name for name in os.environ if name.startswith("BOT__")]:
        monkeypatch.delenv(name)
    return User(tmp_path, capsys)


@pytest.fixture(scope="session")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    market = made_market(bars=3_000, seed=11, timeframe_ns=MINUTE_NS)
    return write_market(tmp_path_factory.mktemp("candles") / "BTC_USDT-1m.csv.gz", market)


def issue_line(path: Path) -> list[str | Path]:
    """The line of the issue, but for `--json`."""
    text = (
        "--strategy crossover --param fast=20 --param slow=50 --lot-size 1e-8 --capital 10000 --fee-bps 20 --size all"
    )
    return [*text.split(), "--data", path]


# --- bot backtest


@pytest.mark.timeout(400)  # every kernel is compiled anew
def test_a_backtest_without_arguments_runs_in_a_process_of_its_own_and_shows_a_report(tmp_path: Path) -> None:
    done = subprocess.run(
        bot("backtest"), env=environment(tmp_path) | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=380
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bot: the candles are made up, with seed 1\n"
    assert "\x1b" not in done.stdout
    for words in ("crossover (fast 10, slow 30)", "BTC_USDT  5m  2024-01-01 to 2024-12-31", "Final equity", "Win rate"):
        assert words in done.stdout


def test_the_issues_line_reports_its_numbers_by_name(user: User, minutes: Path) -> None:
    said = user.run("backtest", *issue_line(minutes), "--json").json
    assert said.keys() >= ALIASES
    for name in ALIASES:
        assert said[name] == said["metrics"][name]
    assert said["totalTrades"] == said["winningTrades"] + said["losingTrades"] > 10
    assert said["finalEquity"] == pytest.approx(10_000 * (1 + said["totalReturn"]))
    assert said["symbols"] == ["BTC_USDT"]
    assert said["parameters"] == {"fast": 20, "slow": 50}
    assert said["terms"]["maker_fee_ppm"] == said["terms"]["taker_fee_ppm"] == 2_000
    assert said["data"][0] == said["data"][0] | {"rows": 3_000, "bars": 3_000, "timeframe": "1m", "findings": []}


@pytest.mark.parametrize("name", ["ETH_BTC-5m.csv.gz", "EURUSD-1h.csv.gz"])
def test_the_issues_line_works_on_real_candles(user: User, name: str) -> None:
    if not (CANDLES / name).exists():
        pytest.skip("no real candles beside this checkout")
    said = user.run("backtest", *issue_line(CANDLES / name), "--json")
    assert said.json["totalTrades"] > 10
    assert ("gaps kept" in said.err) == (name == "EURUSD-1h.csv.gz")


def test_both_engines_say_the_same(user: User, minutes: Path) -> None:
    exact, compiled = (
        user.run("backtest", *issue_line(minutes), "--engine", engine, "--json").json
        for engine in ("exact", "compiled")
    )
    assert exact["finalEquity"] == pytest.approx(compiled["finalEquity"], rel=1e-9)
    assert exact["totalTrades"] == compiled["totalTrades"]


def test_the_same_inputs_give_the_same_bytes(user: User, minutes: Path, tmp_path: Path) -> None:
    outputs = [user.run("backtest", *issue_line(minutes), "--json", "--out", tmp_path / at).out for at in ("a", "b")]
    assert outputs[0] == outputs[1]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_another_seed_makes_another_market(user: User) -> None:
    first, again, other = (
        user.run("backtest", "--bars", "2000", "--seed", seed, "--json").json for seed in ("1", "1", "2")
    )
    assert first == again
    assert first["manifest"]["data"] != other["manifest"]["data"]


def test_options_are_settings_and_win_over_them(user: User, minutes: Path, tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text('[backtest]\ncapital = 500\ntaker_fee_bps = 1\nfee_in = "received"\n')
    options = ["--data", minutes, "--config", settings, "--set", "backtest.latency_ms=1", "--capital", "700"]
    said = user.run("backtest", *options, "--slippage-bps", "2.5", "--json").json
    terms = said["terms"]
    assert said["cash"] == 700
    assert (terms["taker_fee_ppm"], terms["latency_ns"]) == (100, 1_000_000)
    assert (terms["slippage"], terms["slippage_ppm"]) == ("fixed", 250)


def test_a_strategy_may_have_longer_bars_than_the_data(user: User, minutes: Path) -> None:
    walked = user.run("backtest", "--data", minutes, "--timeframe", "15m", "--json").json
    coarse = user.run("backtest", "--data", minutes, "--timeframe", "15m", "--coarse", "--json").json
    assert (walked["timeframe_ns"], coarse["timeframe_ns"]) == (MINUTE_NS, 15 * MINUTE_NS)
    assert walked["finalEquity"] == pytest.approx(coarse["finalEquity"], rel=1e-9)
    assert "bars of 1m were made into 15m" in coarse["notes"][-1]


def test_a_period_is_selected(user: User, minutes: Path) -> None:
    said = user.run("backtest", "--data", minutes, "--from", "2024-01-02", "--to", "2024-01-02T12:00Z", "--json").json
    assert (said["to_ns"] - said["from_ns"]) // UNITS_NS["h"] == 12


def test_several_symbols_share_the_capital(user: User, minutes: Path, tmp_path: Path) -> None:
    other = write_market(
        tmp_path / "ETH_USDT-1m.csv", made_market("ETH_USDT", bars=3_000, seed=12, timeframe_ns=MINUTE_NS)
    )
    said = user.run("backtest", "--data", minutes, other, "--size", "40%", "--json").json
    assert said["symbols"] == ["BTC_USDT", "ETH_USDT"]
    assert set(said["manifest"]["data"]) == {minutes.name, other.name}
    twice = user.run("backtest", "--data", minutes, minutes)
    assert (twice.code, "BTC_USDT is given twice" in twice.err) == (2, True)


def test_a_perpetual_is_one_because_it_is_said_to_be(user: User, minutes: Path, tmp_path: Path) -> None:
    funding = write(tmp_path / "funding.csv", ["1704096000000,0.0001", "1704124800000,0.0001"], "time,rate")
    line = ["--data", minutes, "--symbol", "BTC_USDT_PERP", "--funding", funding, "--leverage", "2", "--json"]
    said = user.run("backtest", *line, "--param", "fast=2", "slow=500").json
    assert said["terms"]["leverage"] == 2
    assert set(said["manifest"]["data"]) == {minutes.name, "funding BTC_USDT_PERP"}
    spot = user.run("backtest", "--data", minutes, "--funding", funding)
    assert (spot.code, "--symbol NAME_PERP makes one" in spot.err) == (2, True)
    named = minutes.parent / "BTC_USDT_PERP-1m.csv.gz"
    named.write_bytes(minutes.read_bytes())
    said = user.run("backtest", "--data", named, "--json")
    assert said.json["symbols"] == ["BTC_USDT"]
    assert "traded as a spot market; --symbol BTC_USDT_PERP makes a perpetual of it" in said.err


def test_the_bounds_of_risk_can_be_applied(user: User, minutes: Path) -> None:
    free = user.run("backtest", "--data", minutes, "--json").json
    bound = user.run("backtest", "--data", minutes, "--risk", "--json").json
    assert sum(bound["metrics"]["refusals"].values()) > sum(free["metrics"]["refusals"].values())
    said = user.run("backtest", "--data", minutes, "--risk", "--engine", "compiled")
    assert (said.code, "the exact engine only" in said.err) == (2, True)


def test_a_run_is_saved_shown_again_and_compared(user: User, minutes: Path, tmp_path: Path) -> None:
    page, columns = tmp_path / "page.html", tmp_path / "columns"
    line = [*issue_line(minutes), "--out", tmp_path / "a", "--html", page, "--csv", columns]
    first = user.run("backtest", *line)
    assert first.code == 0, first.err
    assert page.read_text().lstrip().startswith("<!")
    assert {file.name for file in columns.iterdir()} == {"trades.csv", "fills.csv", "equity.csv"}
    again = user.run("report", tmp_path / "a", "--html", tmp_path / "again.html")
    assert again.out == first.out
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    as_json = tmp_path / "run.json"
    as_json.write_text(user.run("backtest", *issue_line(minutes), "--json").out)
    assert user.run("report", as_json).out == first.out
    compared = user.run("compare", tmp_path / "a", as_json)
    assert "inputs that differ: nothing" in compared.out
    rows = user.run("compare", tmp_path / "a", as_json, "--json").json["rows"]
    assert all(set(found["differences"]) <= {0.0, None} for found in rows)


WRONG = [
    (["--strategy", "crosover"], "--strategy crosover: is none of .*; did you mean crossover?"),
    (["--strategy", "none.toml"], "none.toml: cannot be read: No such file"),
    (["--strategy", "mine.py"], "name what is meant in the file, as in mine.py:NAME"),
    (["--param", "fst=3"], "crossover: has no parameter fst; did you mean fast?"),
    (["--param", "fast=60", "slow=50"], "fast = 60 must be less than slow = 50"),
    (["--param", "fast=x"], "crossover: Expected `int`, got `str`"),
    (["--param", "fast=1..5"], "a backtest takes one value; `bot sweep` takes many"),
    (["--param", "fast"], "is not of the form"),
    (["--timeframe", "7m"], "--timeframe 7m: must divide a day"),
    (["--timeframe", "soon"], "--timeframe soon: 'soon' is not a length of time"),
    (["--timeframe", "30s"], "bars of 1m cannot be made into"),
    (["--from", "yesterday"], "--from yesterday: must be a date such as"),
    (["--size", "120%"], "--size 120%: must be own, all, a share"),
    (["--size", "lots"], 'backtest.size = "lots" must be "own", "all"'),
    (["--capital", "0"], "backtest.capital = 0 must be"),
    (["--fee-bps", "-1"], "backtest.maker_fee_bps = -1 must be"),
    (["--lot-size", "0.5"], "--lot-size 0.5: must be a power of ten"),
    (["--tick-size", "x"], "--tick-size x: must be a power of ten"),
    (["--symbol", "btc"], "--symbol btc: must be a symbol such as"),
    (["--symbol", "A_B", "C_D"], "--symbol: 2 given for 1 files"),
    (["--coarse"], "--coarse: needs --timeframe"),
    (["--strategy", "donchian_breakout", "--timeframe", "1s"], "bars of 1m cannot be made into"),
    (["--bars", "5"], "--bars: is the length of made-up candles"),
    (["--repair", "hope"], "invalid choice: 'hope'"),
    (["--out", "/dev/null/x"], "/dev/null"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_a_wrong_option_is_a_sentence_and_exit_code_2(
    user: User, minutes: Path, options: list[str], words: str
) -> None:
    import re

    said = user.run("backtest", "--data", minutes, *options)
    assert said.code == 2
    assert re.search(words.replace("?", r"\?"), said.err), said.err
    assert said.out == ""


def test_bad_data_are_refused_with_exit_code_12_or_repaired_and_always_told(user: User, tmp_path: Path) -> None:
    rows = [row(at, f"{100 + at % 7},110,90,{101 + at % 7},5") for at in range(300)]
    rows[3] = row(3, "nan,1,1,1,1")
    rows[5], rows[6] = rows[6], rows[5]
    path = write(tmp_path / "A_B-1m.csv", rows)
    refused = user.run("backtest", "--data", path, "--json")
    assert refused.code == 12
    assert json.loads(refused.out)["error"] == "DataError"
    assert "A_B-1m.csv: 1 row refused: missing (--repair drop would go on); line 5" in refused.err
    assert "A_B-1m.csv: 1 row refused: unsorted (--repair sort would go on); line 8" in refused.err
    repaired = user.run("backtest", "--data", path, "--repair", "drop", "sort", "--gaps", "fill", "--json")
    told = [(found["fault"], found["done"]) for found in repaired.json["data"][0]["findings"]]
    assert told == [("missing", "dropped"), ("unsorted", "sorted"), ("gap", "filled")]
    assert [note.split(": ")[1] for note in repaired.json["notes"]] == [
        "1 row dropped",
        "1 row sorted",
        "1 gap filled; line 6",
    ]
    assert all(f"bot: {note}\n" in repaired.err for note in repaired.json["notes"])


def test_a_last_bar_that_is_not_over_yet_is_refused(user: User, tmp_path: Path) -> None:
    path = write(tmp_path / "A_B-1m.csv", [row(at) for at in range(100)])
    seconds = START_MS // 1000 + 99 * 60 + 30
    as_of = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    said = user.run("backtest", "--data", path, "--as-of", as_of)
    assert (said.code, "partial last bar" in said.err) == (12, True)
    assert user.run("backtest", "--data", path, "--as-of", as_of, "--repair", "drop").code == 0
    assert user.run("backtest", "--data", path).code == 0


RULES = """
timeframe = "1m"
name = "mine"
side = "long"

[params]
window = { default = 10, low = 5, high = 25, step = 5 }

[entry.long]
when = "close > sma(close, window)"

[exit.long]
when = "close < sma(close, window)"

[size]
kind = "percent"
percent = 50
"""

PYTHON = """
from bot.strategies.base import Strategy


class Turns(Strategy):
    def __init__(self, every=10):
        self.every, self.bars = every, 0

    def on_bar(self, bar):
        self.bars += 1
        return float(self.bars // self.every % 2)
"""


def test_a_file_of_rules_is_run_and_swept_over_its_own_ranges(user: User, minutes: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text(RULES)
    line = ["--strategy", rules, "--data", minutes, "--json"]
    said = user.run("backtest", *line, "--param", "window=20").json
    assert (said["parameters"], said["totalTrades"] > 10) == ({"window": 20}, True)
    swept = user.run("sweep", *line).json
    assert sorted(point["window"] for point in swept["top"]) == [5, 10, 15, 20, 25]
    longer = user.run("backtest", *line, "--timeframe", "5m").json
    assert 0 < longer["totalTrades"] < said["totalTrades"]
    whole = user.run("backtest", *line, "--size", "all").json
    assert whole["metrics"]["exposure"] > 1.5 * user.run("backtest", *line).json["metrics"]["exposure"]
    wrong = user.run("backtest", *line[:-1], "--param", "windw=3")
    assert (wrong.code, "has no parameter windw; did you mean window?" in wrong.err) == (2, True)


def test_a_python_class_is_run_by_the_exact_engine(user: User, minutes: Path, tmp_path: Path) -> None:
    file = tmp_path / "turns.py"
    file.write_text(PYTHON)
    line = ["--strategy", f"{file}:Turns", "--data", minutes]
    said = user.run("backtest", *line, "--param", "every=100", "--json").json
    assert (said["parameters"], said["totalTrades"]) == ({"every": 100}, 14)
    assert said["metrics"]["open_trades"] == 1
    compiled = user.run("backtest", *line, "--engine", "compiled")
    assert (compiled.code, "the exact engine runs it" in compiled.err) == (2, True)
    swept = user.run("sweep", *line, "--param", "every=5,10")
    assert (swept.code, "cannot be swept" in swept.err) == (2, True)


@pytest.mark.parametrize("name", sorted(templates()))
def test_every_strategy_that_comes_with_the_bot_runs_on_made_up_candles(user: User, name: str) -> None:
    said = user.run("backtest", "--strategy", name, "--bars", "3000", "--symbol", "BTC_USDT", "ETH_USDT", "--json").json
    assert said["symbols"] == ["BTC_USDT", "ETH_USDT"]
    assert said["metrics"]["fills"] > 0


# --- bot sweep, bot walk


def test_a_sweep_ranks_points_and_reports_the_best(user: User, minutes: Path, tmp_path: Path) -> None:
    line = ["--data", minutes, "--param", "fast=5..15:5", "--param", "slow=10..40:10", "--heat", "fast,slow"]
    points = tmp_path / "points.csv"
    said = user.run("sweep", *line, "--csv", points, "--out", tmp_path / "best", "--json").json
    assert (said["points"], said["refused"], said["complete"]) == (10, 2, True)
    sharpes = [point["sharpe"] for point in said["top"]]
    assert sharpes == sorted(sharpes, reverse=True)
    assert said["report"]["parameters"] == {name: said["best"][name] for name in ("fast", "slow")}
    assert said["report"]["chance"]["trials"] == 10
    assert said["report"]["metrics"]["sharpeRatio"] == pytest.approx(sharpes[0], rel=1e-6)
    assert said["heat"]["x_name"] == "fast"
    assert len(points.read_text().splitlines()) == 11
    assert user.run("report", tmp_path / "best", "--json").json["parameters"] == said["report"]["parameters"]
    shown = user.run("sweep", *line).out
    for words in ("10 points by sharpe, 2 refused", "by slow (down) and fast (across)", "Deflated for 10 trials"):
        assert words in shown


def test_the_fast_kernel_and_the_engines_rank_alike(user: User, minutes: Path) -> None:
    line = ["--data", minutes, "--param", "fast=5,9", "--param", "slow=20,30", "--json"]
    fast = user.run("sweep", *line).json
    slow = user.run("sweep", *line, "--engine", "exact").json
    names = ("fast", "slow", "trades")
    assert [[point[name] for name in names] for point in fast["top"]] == [
        [point[name] for name in names] for point in slow["top"]
    ]


@pytest.mark.parametrize("method", ["random", "sobol", "tpe"])
def test_other_methods_try_as_many_points_as_asked_and_the_same_again(user: User, minutes: Path, method: str) -> None:
    if method == "tpe":
        pytest.importorskip("optuna")
    line = ["--data", minutes, "--param", "fast=2..20", "--param", "slow=21..90", "--method", method, "--trials", "8"]
    first, again = (user.run("sweep", *line, "--json").json for _ in range(2))
    assert first == again
    assert first["points"] + first["repeated"] == 8


def test_a_walk_tests_what_training_chose(user: User, minutes: Path) -> None:
    line = ["--data", minutes, "--param", "fast=5,10", "--param", "slow=20,40", "--train", "1d", "--test", "6h"]
    said = user.run("walk", *line, "--json").json
    assert [window["test_from"][11:13] for window in said["windows"]] == ["00", "06", "12", "18", "00"]
    assert all(window["parameters"]["fast"] in (5, 10) for window in said["windows"])
    assert said["finalEquity"] == pytest.approx(said["curve"]["equity"][-1])
    anchored = user.run("walk", *line, "--anchored")
    assert anchored.out.count("2024-01-01T00:00") == 5
    assert "All tests, one after the other" in anchored.out


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("sweep", ["--param", "fast=3"], "nothing to try"),
        ("sweep", ["--param", "fast=2..4", "--metric", "sharp"], "--metric sharp: there is none of that name; did you"),
        ("sweep", ["--param", "fast=2..4", "--heat", "fast"], "--heat fast: must be two parameters"),
        ("sweep", ["--param", "fast=2..4", "--heat", "fast,slw"], "there is no parameter slw"),
        ("sweep", ["--param", "fast=2..4", "--trials", "0"], "--trials 0: must be at least 1"),
        ("sweep", ["--param", "fast=1..9", "slow=2..9", "--where", "fast<slw"], "no parameter slw"),
        ("walk", ["--param", "fast=2..4", "--train", "90s"], "--train: must be a multiple of the bars' 1m"),
        ("walk", ["--param", "fast=2..4", "--train", "90d"], "leaves nothing to test"),
        ("walk", ["--param", "fast=2..4", "--test", "0s"], "--test 0s: must be more than nothing"),
    ],
)
def test_a_wrong_search_is_a_sentence_and_exit_code_2(
    user: User, minutes: Path, command: str, options: list[str], words: str
) -> None:
    said = user.run(command, "--data", minutes, *options)
    assert (said.code, said.out) == (2, "")
    assert words in said.err


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(user: User, minutes: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "sweep.jsonl"
    line = ["--data", minutes, "--engine", "exact", "--param", "fast=2..15", "slow=20..60:4", "--json"]
    with user.start("sweep", *line, "--resume", ledger) as process:
        give_up_s = time.monotonic() + 100
        while not (ledger.exists() and ledger.read_bytes().count(b"\n") > 1):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    cut = json.loads(out)
    assert 0 < cut["points"] < 154
    assert (cut["complete"], cut["report"]) == (False, None)
    assert f"--resume {ledger} goes on" in err
    resumed = user.run("sweep", *line, "--resume", ledger).json
    assert resumed["resumed"] >= cut["points"]
    whole = user.run("sweep", *line).json
    assert {key: value for key, value in resumed.items() if key != "resumed"} == {
        key: value for key, value in whole.items() if key != "resumed"
    }


# --- what is said where


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(user: User, minutes: Path) -> None:
    line = ["--data", minutes, "--engine", "exact", "--param", "fast=2..12:2", "slow=20..60:5"]
    ours, theirs = pty.openpty()
    with user.start("sweep", *line, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        drawn = b""
        try:
            while chunk := os.read(ours, 4096):
                drawn += chunk
        except OSError:  # how a terminal says that the other end is gone
            pass
        process.wait(timeout=100)
    os.close(ours)
    assert process.returncode == 0
    text = drawn.decode()
    assert "\rsweep crossover #" in text
    assert "/s" in text
    assert "left" in text
    assert "best sharpe" in text
    assert text.endswith("\r\x1b[K")
    assert user.run("sweep", *line).err == ""


def test_help_and_status_do_not_wait_for_numpy_or_numba(tmp_path: Path) -> None:
    code = "import sys, bot.cli as c; c.make_parser(); print([m for m in ('numba', 'numpy') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["backtest", "sweep", "walk", "report", "compare"])
def test_every_command_has_help(user: User, command: str) -> None:
    said = user.run(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: bot {command}")
