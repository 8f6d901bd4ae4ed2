from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import bot
from bot.backtest.metrics import METRICS
from bot.backtest.report.compare import Comparison, compare, comparison_json, day_returns, render_comparison
from bot.backtest.report.document import Days, Report
from bot.backtest.report.files import (
    EQUITY,
    FILLS,
    MANIFEST,
    PAGE,
    REPORT,
    TRADES,
    equity_csv,
    load_report,
    load_run,
    report_json,
    save_run,
)
from bot.backtest.report.manifest import candles_hash, code_hash, file_hash, make_manifest
from bot.backtest.report.text import Style
from bot.backtest.trades import round_trips
from bot.errors import SettingsError
from tests.support.outcomes import (
    MINUTE_NS,
    START_NS,
    fills_of,
    market,
    outcome,
    perp,
    sample_manifest,
    sample_report,
    sampled,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run, markets = sampled()
    save_run(tmp_path / "run", sample_report(), run, markets)
    return tmp_path / "run"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- saving and loading


def test_a_saved_run_is_loaded_as_it_was(saved: Path) -> None:
    assert set(contents(saved)) == {REPORT, PAGE, TRADES, FILLS, EQUITY, MANIFEST}
    assert load_run(saved) == sample_report() == load_report(saved / REPORT)


def test_the_same_run_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    run, markets = sampled()
    save_run(tmp_path / "again", sample_report(), run, markets, round_trips(run, markets))
    assert contents(saved) == contents(tmp_path / "again")


def test_a_run_replaces_the_one_that_was_there(saved: Path) -> None:
    run, markets = sampled(300, seed=8)
    other = sample_report(300, seed=8)
    save_run(saved, other, run, markets)
    assert load_run(saved) == other


def test_json_has_the_names_that_others_use_and_no_number_that_json_lacks(saved: Path) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    loaded = json.loads((saved / REPORT).read_text(), parse_constant=refuse)
    assert list(loaded["metrics"])[: len(METRICS)] == list(METRICS)
    assert loaded["metrics"]["sharpeRatio"] == loaded["metrics"]["sharpe"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _one_digit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))


@pytest.mark.parametrize("name", [REPORT, PAGE, TRADES, FILLS, EQUITY])
@pytest.mark.parametrize("damage", [_cut, _one_digit, Path.unlink])
def test_a_damaged_file_is_found_out_by_name(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    with pytest.raises(SettingsError, match=name):
        load_run(saved)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    def remove(document: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for step in path:
            document = document[step]
        del document[last]

    return remove


def _without_page(document: dict[str, Any]) -> None:
    del document["files"][PAGE]


def _with(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for step in path:
            document = document[step]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        pytest.param(REPORT, _without("cash"), "`cash`", id="no-cash"),
        pytest.param(REPORT, _with("curve.equity", "much"), r"\$.curve.equity", id="equity-of-a-wrong-type"),
        pytest.param(REPORT, _with("version", 2), r"\$.version", id="another-version"),
        pytest.param(REPORT, _without("metrics.sharpe"), "metrics.sharpe is missing", id="no-metric"),
        pytest.param(REPORT, _with("curve.time_ns", [1]), "columns of curve", id="curve-of-two-lengths"),
        pytest.param(REPORT, _with("days.day_ns", [1]), "columns of days", id="days-of-two-lengths"),
        pytest.param(REPORT, _with("sweep.cells", []), "heat map", id="sweep-of-another-shape"),
        pytest.param(REPORT, _with("manifest.seed", 1), "manifest is not that of", id="another-manifest"),
        pytest.param(MANIFEST, _without("manifest.code"), "`code`", id="no-code"),
        pytest.param(MANIFEST, _without_page, "files.report.html is missing", id="no-file"),
        pytest.param(MANIFEST, _with("files", {"../x": ""}), "files.report.json is missing", id="no-files"),
    ],
)
def test_a_damaged_key_is_found_out_by_name(
    saved: Path, name: str, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    document = json.loads((saved / name).read_text())
    change(document)
    (saved / name).write_text(json.dumps(document))
    if name == REPORT:  # what is wrong with it is not found out by its hash alone
        listed = json.loads((saved / MANIFEST).read_text())
        listed["files"][REPORT] = hashlib.sha256((saved / REPORT).read_bytes()).hexdigest()
        (saved / MANIFEST).write_text(json.dumps(listed))
    with pytest.raises(SettingsError, match=words) as caught:
        load_run(saved)
    assert str(saved) in str(caught.value)


def test_a_manifest_that_leads_out_of_the_folder_is_refused(saved: Path) -> None:
    listed = json.loads((saved / MANIFEST).read_text())
    listed["files"]["../secret"] = "0"
    (saved / MANIFEST).write_text(json.dumps(listed))
    with pytest.raises(SettingsError, match="not the name of a file in this folder"):
        load_run(saved)


def test_text_that_is_no_json_is_refused(saved: Path) -> None:
    (saved / REPORT).write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=REPORT):
        load_report(saved / REPORT)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run, markets = sampled(10)
    with pytest.raises(SettingsError, match="file"):
        save_run(tmp_path / "file", sample_report(10), run, markets)


# --- CSV


def test_trades_add_up_to_what_the_report_says(saved: Path) -> None:
    rows = lines_of(saved / TRADES)
    closed = [row for row in rows if row["exit"] != "open"]
    metrics = load_run(saved).metrics
    assert len(closed) == metrics["totalTrades"]
    assert sum(float(row["net"]) for row in closed) / len(closed) == pytest.approx(metrics["expectancy"])
    for row in rows:
        assert (row["exit_time"] == "") == (row["exit"] == "open")
        assert float(row["net"]) == pytest.approx(float(row["gross"]) - float(row["fees"]))


def test_fills_are_exact(tmp_path: Path) -> None:
    fine = perp(price_scale=2, quantity_scale=8)
    run = outcome([1000.0] * 2, instruments=[fine])
    run = run._replace(fills=fills_of([(0, 12_345, 1), (1, 100, -250_000_000, 0.5, "stop")]))
    save_run(tmp_path, sample_report(), run, [market([100, 100], of=fine)])
    assert (tmp_path / FILLS).read_text().splitlines()[1:] == [
        "2024-01-01T00:00:00Z,BTC_USDT,buy,123.45,0.00000001,0.0,trade,taker",
        "2024-01-02T00:00:00Z,BTC_USDT,sell,1,2.5,0.5,stop,taker",
    ]


def test_every_step_is_in_the_equity_file_to_the_last_digit(saved: Path) -> None:
    run, _ = sampled()
    rows = lines_of(saved / EQUITY)
    assert [float(row["equity"]) for row in rows] == run.equity.tolist()
    assert rows[0]["time"] == "2024-01-01T00:00:00Z"


def test_times_between_two_seconds_keep_their_milliseconds() -> None:
    run = outcome([1.0, 2.0], time_ns=[START_NS, START_NS + 500_000_000], timeframe_ns=MINUTE_NS)
    assert equity_csv(run).splitlines()[2] == "2024-01-01T00:00:00.500Z,2.0,0.0"


# --- the manifest


def test_the_hash_of_the_code_changes_with_any_file_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "deep" / "b.py").write_text("y = 2")
    (tmp_path / "note.txt").write_text("no code")
    before = code_hash(tmp_path)
    (tmp_path / "note.txt").write_text("still none")
    assert code_hash(tmp_path) == before
    (tmp_path / "deep" / "b.py").write_text("y = 3")
    changed = code_hash(tmp_path)
    (tmp_path / "deep" / "b.py").rename(tmp_path / "deep" / "c.py")
    assert len({before, changed, code_hash(tmp_path)}) == 3


def test_a_manifest_says_what_a_run_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"time,open\n")
    data = {"b": "2", "a": file_hash(tmp_path / "data.csv")}
    made = make_manifest(settings={"fast": 20, "slow": 50}, data=data, seed=7)
    assert made == make_manifest(settings={"slow": 50, "fast": 20}, data=data, seed=7)
    assert made.settings != make_manifest(settings={"fast": 21, "slow": 50}, data=data, seed=7).settings
    assert made.code == code_hash(Path(bot.__file__).parent)
    assert list(made.data) == ["a", "b"]
    assert made.data["a"] == hashlib.sha256(b"time,open\n").hexdigest()
    assert set(made.versions) == {"bot", "python", "numpy", "numba"}


def test_generated_bars_have_a_hash_too() -> None:
    first, second = market([1, 2, 3]).candles, market([1, 2, 4]).candles
    assert candles_hash(first) == candles_hash(market([1, 2, 3]).candles) != candles_hash(second)


# --- side by side


def compared(*reports: Report, samples: int = 300) -> Comparison:
    return compare(reports, [f"run {number}" for number in range(len(reports))], seed=1, samples=samples)


def test_a_report_against_itself_differs_in_nothing() -> None:
    found = compared(sample_report(), sample_report())
    assert {gap for row in found.rows for gap in row.differences} == {0.0, None}
    (other,) = found.against
    assert other.other_inputs == []
    assert other.difference is not None
    assert other.difference.p_value == 1.0


def test_every_metric_is_told_for_every_report() -> None:
    reports = [sample_report(seed=seed) for seed in (7, 8, 9)]
    found = compared(*reports)
    assert [row.name for row in found.rows] == list(METRICS)
    for row in found.rows:
        assert row.values == [report.metrics[row.name] for report in reports]
        assert len(row.differences) == 2


def test_only_days_in_common_are_paired() -> None:
    long = sample_report(500)
    days = Days(day_ns=long.days.day_ns[:300], equity=long.days.equity[:300])
    short = msgspec.structs.replace(long, days=days)
    (other,) = compared(long, short).against
    assert other.difference is not None
    assert other.difference.periods == 300
    assert other.difference.mean.value == 0.0
    lonely = sample_report(1)
    (other,) = compared(long, lonely).against
    assert other.difference is None


def test_inputs_that_differ_are_named() -> None:
    other = sample_report(manifest=make_manifest(settings={}, data={"btc.csv.gz": "d" * 64}, seed=7))
    assert sample_report().manifest == sample_manifest()
    assert compared(sample_report(), other).against[0].other_inputs == ["code", "settings", "versions"]


def test_daily_returns_compound_to_the_total() -> None:
    report = sample_report()
    _, returns = day_returns(report)
    assert float(np.prod(1 + returns)) - 1 == pytest.approx(report.metrics["total_return"])


@pytest.mark.parametrize("width", [60, 120])
def test_a_comparison_fits_the_terminal(width: int) -> None:
    reports = [sample_report(seed=seed) for seed in (7, 8, 9)]
    found = compared(*reports)
    text = render_comparison(found, reports, Style(width, is_unicode=False))
    text.encode("ascii")
    assert max(len(line) for line in text.splitlines()) <= width
    for label in found.labels:
        assert label in text
    assert comparison_json(found) == comparison_json(compared(*reports))


def test_what_cannot_be_compared_is_refused() -> None:
    report = sample_report()
    with pytest.raises(SettingsError, match="at least 2"):
        compared(report)
    with pytest.raises(SettingsError, match="1 labels for 2 reports"):
        compare([report, report], ["one"])


def test_json_of_a_report_ends_with_a_line_end() -> None:
    assert report_json(sample_report()).endswith(b"}\n")
