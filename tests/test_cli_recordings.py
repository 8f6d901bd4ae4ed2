"""`bot backtest` and `bot sweep` on recorded markets, as a user runs them."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bot.backtest.book.choice import BOOK_KINDS
from bot.backtest.book.replay import BookTerms, Latency
from bot.backtest.choice import ON_THE_BOOK
from bot.backtest.recorded import book_terms
from bot.cli import main
from bot.config import load_settings
from bot.core import messages as m
from bot.core.instrument import ATOMS
from bot.storage.replay import facts
from bot.storage.sqlite import read_sqlite_journal
from tests.support.book_files import NAME, write_random
from tests.support.cli import REPOSITORY, Bench

MS_NS = 1_000_000
QUOTER = ("--strategy", "quoter", "--param", "half_spread_ticks=0", "lots=20000", "position_lots_max=100000")


class Said(NamedTuple):
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, "standard output holds one line, and nothing else"
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def bot(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process."""
    for name in [name for name in os.environ if name.startswith("BOT__")]:
        monkeypatch.delenv(name)

    def run(command: str, *arguments: str | Path) -> Said:
        capsys.readouterr()
        try:
            place = [] if command == "report" else ["--state-dir", str(tmp_path / "state")]
            code = main([command, *map(str, arguments), *place])
        except SystemExit as left:  # argparse's own complaints
            code = left.code if isinstance(left.code, int) else 1
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("book") / NAME)


# --- on the book


def test_a_recording_without_a_strategy_is_quoted_on(bench: Bench, book: Path) -> None:
    done = bench.run("backtest", "--data", book)
    assert done.returncode == 0, done.stderr
    for words in ("quoter (half_spread_ticks 1, lots 1, position_lots_max 10, skew_ticks 1)", "BTC_USDT  100ms"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_a_run_on_the_book_is_reported_and_saved_in_every_form(bot: Command, book: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "out"
    said = bot("backtest", "--data", book, *QUOTER, "--capital", "700", "--out", out, "--html", page, "--json").json
    assert (said["cash"], said["symbols"], said["timeframe_ns"]) == (700, ["BTC_USDT"], 100 * MS_NS)
    assert said["metrics"]["fills"] > 50
    assert said["metrics"]["fees"] > 0
    assert said["terms"]["feed_p99_ns"] == 400 * MS_NS
    assert said["manifest"]["data"] == {book.name: said["data"][0]["sha256"]}
    assert said["data"][0]["events"] == 3_000
    assert page.read_text().lstrip().startswith("<!")
    assert bot("report", out, "--json").json == {key: value for key, value in said.items() if key != "data"}
    with (out / "fills.csv").open() as file:
        assert len(list(csv.DictReader(file))) == said["metrics"]["fills"]


def test_the_same_recording_gives_the_same_bytes_and_another_seed_other_latencies(
    bot: Command, book: Path, tmp_path: Path
) -> None:
    line = ["--data", book, *QUOTER, "--json"]
    outputs = [bot("backtest", *line, "--out", tmp_path / at).out for at in ("a", "b")]
    assert outputs[0] == outputs[1]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    other = bot("backtest", *line, "--seed", "2").json
    assert other["finalEquity"] != json.loads(outputs[0])["finalEquity"]


def test_the_form_of_a_file_changes_its_hash_and_nothing_else(bot: Command, book: Path, tmp_path: Path) -> None:
    plain = tmp_path / book.name.removesuffix(".gz")
    plain.write_bytes(gzip.decompress(book.read_bytes()))
    first, second = (bot("backtest", "--data", file, *QUOTER, "--json").json for file in (book, plain))
    assert first["metrics"] == second["metrics"]
    assert first["manifest"]["data"] != second["manifest"]["data"]


def test_settings_of_the_book_reach_the_model() -> None:
    sets = ["capital=5", "maker_fee_bps=1", "taker_fee_bps=2.5", "feed_ms=1", "feed_p99_ms=2", "entry_ms=3"]
    sets += ["entry_p99_ms=4", "response_ms=5", "response_p99_ms=6", "queue_power=7", "book_interval_ms=8"]
    sets += ["book_levels=9", "seed=10"]
    settings = load_settings([], {}, [f"backtest.{text}" for text in sets])
    assert book_terms(settings.backtest) == BookTerms(
        cash_atoms=5 * ATOMS,
        maker_fee_ppm=100,
        taker_fee_ppm=250,
        feed=Latency(median_ns=MS_NS, p99_ns=2 * MS_NS),
        entry=Latency(median_ns=3 * MS_NS, p99_ns=4 * MS_NS),
        response=Latency(median_ns=5 * MS_NS, p99_ns=6 * MS_NS),
        queue_power=7,
        interval_ns=8 * MS_NS,
        levels_max=9,
        seed=10,
    )


def test_a_run_that_owed_coins_or_money_says_so(bot: Command, book: Path) -> None:
    notes = bot("backtest", "--data", book, *QUOTER, "--capital", "10", "--json").json["notes"]
    assert [note.partition(":")[2].partition(";")[0].strip() for note in notes] == [
        "was held short at times",
        "more was held at times than equity",
    ]


MANUAL = (REPOSITORY / "docs" / "backtesting.md").read_text("utf-8")
JOINS = MANUAL.partition("```python\n")[2].partition("```")[0]
MINE = f"""{JOINS}

class Halves:
    def on_book(self, view):
        return Quotes(bid_ticks=view.bid_ticks, bid_lots=0.5)


class Counts:
    def __init__(self):
        import numpy as np

        self.lots = np.int64(10_000)

    def on_book(self, view):
        return Quotes(market_lots=self.lots) if view.position_lots == 0 == view.pending_lots else None


class Nothing:
    pass
"""


def test_a_class_with_on_book_is_played_and_swept(bot: Command, book: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    line = ["--data", book, "--strategy", f"{file}:Joins"]
    said = bot("backtest", *line, "--param", "lots=10000", "--json").json
    assert said["parameters"] == {"lots": 10_000}
    assert said["totalTrades"] > 5
    counted = bot("backtest", "--data", book, "--strategy", f"{file}:Counts", "--json").json
    assert counted["metrics"]["traded_notional"] > 0, "a whole number of numpy is one, too"
    swept = bot("sweep", *line, "--param", "lots=10000,20000", "--metric", "fees", "--json").json
    assert (swept["points"], swept["top"][0]["lots"]) == (2, 10_000)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Joins", ["--param", "lot=3"], "Joins: cannot be made: "),
        ("Halves", [], "on_book must return None, or Quotes of whole numbers"),
        ("Nothing", ["--timeframe", "1s"], "must be a subclass of Strategy"),
        ("Nobody", [], "there is no such name in the file"),
    ],
)
def test_a_class_that_cannot_be_played_is_a_sentence(
    bot: Command, book: Path, tmp_path: Path, name: str, options: list[str], words: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    said = bot("backtest", "--data", book, "--strategy", f"{file}:{name}", *options)
    assert (said.code, said.out) == (2, "")
    assert words in said.err


# --- on bars, as the live bot runs them


SETTINGS = """
[strategies.mine]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 4
notional = 300

[paper]
cash = 5000
latency_ms = 70

# A random book jumps about: what a real market never does is not what is tried here.
[risk]
market_slippage_pct = 0
depth_share_pct = 0
loss_velocity_pct = 0
max_repeats = 0
mean_slippage_bps = 0
daily_loss_pct = 80
daily_loss_halt_pct = 90
drawdown_pct = 80
drawdown_halt_pct = 90
"""


def fills_of_the_bot(bench: Bench, recording: Path, config: Path) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return what `bot run` says in the end, and its fills out of its journal."""
    line = ("run", "--headless", "--recording", recording, "--speed", "max", "--config", config, "--json")
    result = bench.result(*line)
    found: list[tuple[str, ...]] = []
    journal = list(facts(read_sqlite_journal(bench.state_dir / result["journal"])))
    (instrument,) = [fact.instrument for fact in journal if isinstance(fact, m.InstrumentListed)]
    for fact in journal:
        if isinstance(fact, m.Fill):
            price, quantity = instrument.price(fact.price_ticks), instrument.quantity(fact.qty_lots)
            row = (fact.side.lower(), f"{price:f}", f"{quantity:f}", "maker" if fact.is_maker else "taker")
            found.append(row)
    return result, found


def check_parity(bench: Bench, recording: Path, config: Path, directory: Path) -> None:
    line = ("backtest", "--data", recording, "--strategy", "mine", "--config", config, "--csv", directory, "--json")
    ours = bench.result(*line)
    theirs, fills = fills_of_the_bot(bench, recording, config)
    with (directory / "fills.csv").open() as file:
        rows = [(row["side"], row["price"], row["quantity"], row["liquidity"]) for row in csv.DictReader(file)]
    assert rows == fills
    assert len(rows) > 10
    assert Decimal(ours["finalEquity"]) == pytest.approx(theirs["equity"], rel=Decimal("1e-12"))
    assert sum(ours["metrics"]["refusals"].values()) >= theirs["denied"]


def test_a_strategy_on_bars_fills_as_the_live_bot_does(bench: Bench, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(SETTINGS)
    check_parity(bench, write_random(tmp_path / NAME, messages=6_000), config, tmp_path / "columns")


def test_a_strategy_on_bars_fills_as_the_live_bot_does_on_a_real_recording(
    bench: Bench, btc_recording: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(SETTINGS.replace("slow = 4\n", "slow = 4\nis_passive = true\n"))
    check_parity(bench, btc_recording, config, tmp_path / "columns")


def test_money_of_the_command_line_is_that_of_the_paper_exchange(bot: Command, book: Path) -> None:
    line = ["--data", book, "--strategy", "crossover", "--capital", "700", "--fee-bps", "3", "--size", "200", "--json"]
    said = bot("backtest", *line).json
    assert (said["cash"], said["terms"]["maker_fee_ppm"], said["terms"]["taker_fee_ppm"]) == (700, 300, 300)
    assert said["timeframe_ns"] == 1_000 * MS_NS
    assert said["curve"]["equity"][-1] == said["finalEquity"]


RULES = """
timeframe = "1s"
name = "mine"
side = "long"

[entry.long]
when = "close > sma(close, 3)"

[exit.long]
when = "close < sma(close, 3)"

[size]
kind = "percent"
percent = 1
"""


def test_rules_run_on_recordings_and_a_size_wins_over_theirs(bot: Command, book: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text(RULES)
    own, larger = (
        bot("backtest", "--data", book, "--strategy", rules, *size, "--json").json for size in ((), ("--size", "3%"))
    )
    assert own["metrics"]["fills"] > 3
    assert larger["metrics"]["exposure"] > 2 * own["metrics"]["exposure"]


def test_several_recordings_are_played_together(bot: Command, book: Path, tmp_path: Path) -> None:
    other = write_random(tmp_path / "spot-eth_usdt-20231114.jsonl.gz", seed=4)
    said = bot("backtest", "--data", book, other, "--strategy", "crossover", "--size", "200", "--json").json
    assert said["symbols"] == ["BTC_USDT", "ETH_USDT"]
    assert set(said["manifest"]["data"]) == {book.name, other.name}
    alone = bot("backtest", "--data", book, other)
    assert (alone.code, "the book of one recording, not of 2" in alone.err) == (2, True)


# --- sweeps


def test_a_sweep_plays_every_point_and_reports_the_best(bot: Command, book: Path, tmp_path: Path) -> None:
    line = ["--data", book, *QUOTER[:2], "--param", "half_spread_ticks=0..2:1", "lots=20000", "--metric", "fills"]
    swept = bot("sweep", *line, "--resume", tmp_path / "ledger", "--json").json
    assert [point["half_spread_ticks"] for point in swept["top"]] == [0, 1, 2]
    best = bot("backtest", "--data", book, *QUOTER[:2], "--param", "half_spread_ticks=0", "lots=20000", "--json").json
    assert swept["report"]["metrics"] == best["metrics"]
    assert bot("sweep", *line, "--resume", tmp_path / "ledger", "--json").json["resumed"] == 3
    changed = bot("sweep", *line, "--resume", tmp_path / "ledger", "--set", "backtest.queue_power=2")
    assert (changed.code, "made of other inputs" in changed.err) == (2, True)


# --- what is refused


WRONG = [
    (["--strategy", "quotr"], "--strategy quotr: is none of .*; did you mean quoter"),
    (["--param", "lot=3"], "quoter: has no parameter lot; did you mean lots"),
    (["--param", "lots=0"], "quoter: Expected `int` >= 1"),
    (["--strategy", "imbalance", "--param", "ratio=0.2"], "imbalance: Expected `float` > 0.5"),
    (["--param", "lots=1..5"], "a backtest takes one value"),
    (["--timeframe", "1s"], "--timeframe: is for strategies on bars"),
    (["--risk"], "--risk: is for strategies on bars"),
    (["--size", "all"], "--size: is for strategies on bars"),
    (["--from", "2024-01-01"], "--from: is for candles"),
    (["--repair", "drop"], "--repair: is for candles"),
    (["--engine", "compiled"], "--engine: is for candles"),
    (["--lot-size", "1"], "--lot-size: is for candles"),
    (["--slippage-bps", "1"], "--slippage-bps: is for candles"),
    (["--symbol", "A_B", "C_D"], "--symbol: 2 given for 1 files"),
    (["--capital", "0"], "backtest.capital = 0 must be"),
    (["--set", "backtest.feed_ms=60001"], "backtest.feed_ms = 60001 must be a whole number at least 0, at most 60000"),
    (["--set", "backtest.queue_power=11"], "backtest.queue_power = 11 must be"),
    (["--set", "backtest.book_levels=0"], "backtest.book_levels = 0 must be"),
    (["--strategy", "mean_reversion"], "mean_reversion: says no length of its bars"),
    (["--strategy", "mean_reversion", "--timeframe", "8h"], "--timeframe 8h: must be below 1m or one of"),
    (["--strategy", "pair_filter", "--timeframe", "1s"], "pair_filter: looks at BTC_USDT; recorded is ETH_USDT"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_a_wrong_option_is_a_sentence_and_exit_code_2(bot: Command, book: Path, options: list[str], words: str) -> None:
    import re

    named = [] if "--symbol" in options or "pair_filter" not in options else ["--symbol", "ETH_USDT"]
    said = bot("backtest", "--data", book, *options, *named)
    assert said.code == 2
    assert re.search(words, said.err), said.err
    assert said.out == ""


def test_candles_and_recordings_are_told_apart(bot: Command, book: Path, tmp_path: Path) -> None:
    mixed = bot("backtest", "--data", book, tmp_path / "BTC_USDT-1m.csv")
    assert (mixed.code, "candles and recordings cannot be mixed" in mixed.err) == (2, True)
    on_candles = bot("backtest", "--strategy", "quoter", "--bars", "100")
    assert (on_candles.code, "plays on the book of a recording; give --data" in on_candles.err) == (2, True)
    walk = bot("walk", "--data", book)
    assert (walk.code, "a walk goes over candles" in walk.err) == (2, True)
    assert tuple(BOOK_KINDS) == ON_THE_BOOK


def test_too_many_steps_are_refused_before_they_are_made(
    bot: Command, book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.backtest.recorded.STEPS_MAX", 100)
    said = bot("backtest", "--data", book)
    assert (said.code, "a larger backtest.book_interval_ms makes fewer" in said.err) == (2, True)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _one_bad_line(content: bytes) -> bytes:
    lines = gzip.decompress(content).splitlines()
    lines[7] = b'{"t": 5}'
    return gzip.compress(b"\n".join(lines))


def _nothing(_: bytes) -> bytes:
    return gzip.compress(b"")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_cut, "the gzip file is cut off"),
        (_one_bad_line, "line 8: "),
        (_nothing, "empty; a recording begins with a snapshot"),
        (gzip.decompress, "not a gzip file"),
    ],
    ids=["cut", "a line", "empty", "plain"],
)
def test_a_damaged_recording_is_refused_with_exit_code_5(
    bot: Command, book: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    path = tmp_path / NAME
    path.write_bytes(damage(book.read_bytes()))
    for strategy in ("quoter", "crossover"):
        said = bot("backtest", "--data", path, "--strategy", strategy, "--json")
        assert said.code == 5
        assert json.loads(said.out)["error"] == "RecordingError"
        assert f"bot: {path}: {words}" in said.err
    missing = bot("backtest", "--data", tmp_path / "none.jsonl")
    assert (missing.code, "no such file" in missing.err) == (5, True)
