"""Sweeps: every point once, on threads, stopped and taken up again; the table and the heat map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bot.backtest import space as s
from bot.backtest.base import Terms
from bot.backtest.evaluators import CrossoverEvaluator, RunEvaluator, crossover_refusal
from bot.backtest.sweep import Progress, Watch, run_search, run_sweep
from bot.backtest.sweep_ledger import Row, inputs_digest, open_ledger
from bot.backtest.sweep_table import SweepTable, heat_map
from bot.core.instrument import ATOMS
from bot.errors import SettingsError
from bot.strategies.advice import Market
from tests.support.builders import BTC, instrument
from tests.support.outcomes import market
from tests.support.toy_strategy import make_toy, simulate_toy

TERMS = Terms(cash_atoms=10_000 * ATOMS, taker_fee_ppm=2_000)
METRICS = ("final_equity", "trades", "open_trades", "winning_trades", "max_drawdown", "sharpe", "win_rate")


def spot(bars: int = 400, seed: int = 3) -> Market:
    rng = np.random.default_rng(seed)
    close = np.round(5_000_000 * np.exp(np.cumsum(0.01 * rng.normal(size=bars)))).astype(np.int64)
    return market(close, of=instrument(BTC, price_scale=2, quantity_scale=8, quote_fee_ppm=2_000))


def space(*axes: str, constraints: Sequence[str] = ()) -> s.Space:
    return s.make_space(map(s.parse_axis, axes), constraints)


@dataclass
class Sums:
    """An evaluator whose metric is a + b; a point with a = 0 is refused, one with b = 0 has none."""

    metrics: tuple[str, ...] = ("sum",)
    chunk: int = 3
    ran: list[s.Point] = field(default_factory=list[s.Point])

    def run(self, space: s.Space, points: Sequence[s.Point]) -> Sequence[Row]:
        self.ran += points
        rows: list[Row] = []
        for a, b in points:
            rows.append(None if a == 0 else (float(a) + float(b) if b else math.nan,))
        return rows


GRID = ("a=0..2", "b=0..2")
DIGEST = "d" * 64


def sweep_sums(
    evaluator: Sums,
    path: Path | None = None,
    *,
    axes: Sequence[str] = GRID,
    digest: str = DIGEST,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> SweepTable:
    draw = s.grid(space(*axes))
    opened = (
        nullcontext()
        if path is None
        else open_ledger(path, digest=digest, names=draw.space.names, metrics=evaluator.metrics)
    )
    with opened as ledger:
        return run_sweep(
            evaluator, draw, watch=Watch("sum", progress=progress, is_cancelled=is_cancelled), ledger=ledger
        )


def test_every_point_gets_a_row_and_refused_ones_are_counted() -> None:
    table = sweep_sums(Sums())
    assert table.points == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert table.column("sum") == pytest.approx([math.nan, 2, 3, math.nan, 3, 4], nan_ok=True)
    assert (table.invalid, table.is_complete, table.resumed) == (3, True, 0)


def test_progress_tells_the_best_so_far() -> None:
    seen: list[Progress] = []
    sweep_sums(Sums(), progress=seen.append)
    assert [now.done for now in seen] == [3, 6, 9, 9]
    assert {now.total for now in seen} == {9}
    assert [now.best_point for now in seen] == [None, (1, 2), (2, 2), (2, 2)]
    assert seen[-1].best_value == 4.0


def test_of_equals_the_one_tried_first_is_the_best() -> None:
    seen: list[Progress] = []
    draw = s.grid(space("a=1..2", "b=1..2", constraints=["a != b"]))
    run_sweep(Sums(), draw, watch=Watch("sum", progress=seen.append))
    assert (seen[-1].best_point, seen[-1].best_value) == ((1, 2), 3.0)
    points: list[s.Point] = [(number,) for number in range(500)]
    flat = SweepTable(("n",), ("sharpe",), points, np.zeros((500, 1)), 0, 0, 0, is_complete=True)
    assert flat.ranked("sharpe") == list(range(500))


def test_progress_counts_what_a_constraint_left_out() -> None:
    seen: list[Progress] = []
    draw = s.grid(space("a=1..3", "b=1..3", constraints=["a < b"]))
    table = run_sweep(Sums(), draw, watch=Watch("sum", progress=seen.append))
    assert (len(table.points), table.invalid) == (3, 6)
    assert (seen[-1].done, seen[-1].total) == (9, 9)


def test_a_cancelled_sweep_keeps_the_chunks_that_were_done() -> None:
    answers = iter([False, False, True])
    table = sweep_sums(Sums(), is_cancelled=lambda: next(answers))
    assert not table.is_complete
    assert table.points == [(1, 0), (1, 1), (1, 2)]


def test_a_sweep_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    answers = iter([False, True])
    sweep_sums(Sums(), path, is_cancelled=lambda: next(answers))
    second = Sums()
    table = sweep_sums(second, path)
    assert second.ran == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert table.resumed == 3
    third = Sums()
    again = sweep_sums(third, path)
    assert third.ran == []
    assert again.resumed == 9
    assert again.points == table.points == sweep_sums(Sums()).points
    assert np.array_equal(again.values, table.values, equal_nan=True)


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_torn_last_line_is_dropped_and_said(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = sweep_sums(Sums(), path)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    with open_ledger(path, digest=DIGEST, names=("a", "b"), metrics=("sum",)) as ledger:
        assert ledger.is_torn
        assert len(ledger.known) == 8
    with open_ledger(path, digest=DIGEST, names=("a", "b"), metrics=("sum",)) as ledger:
        assert not ledger.is_torn
    second = Sums()
    assert np.array_equal(sweep_sums(second, path).values, whole.values, equal_nan=True)
    assert second.ran == [(2, 2)]
    assert path.read_bytes() == content


def test_a_ledger_torn_in_its_header_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"format":1,"dig')
    with open_ledger(path, digest=DIGEST, names=("a",), metrics=("sum",)) as ledger:
        assert ledger.is_torn
        ledger.append([(1,)], [(2.0,)])
    with open_ledger(path, digest=DIGEST, names=("a",), metrics=("sum",)) as ledger:
        assert ledger.known == {(1,): (2.0,)}
        assert not ledger.is_torn


def test_values_keep_their_kind_in_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    points: list[s.Point] = [(1, 2.0, "x", True), (0, 0.1, "1", False)]
    with open_ledger(path, digest=DIGEST, names=("a", "b", "c", "d"), metrics=("m",)) as ledger:
        ledger.append(points, [(0.1 + 0.2,), None])
    with open_ledger(path, digest=DIGEST, names=("a", "b", "c", "d"), metrics=("m",)) as ledger:
        assert ledger.known == {points[0]: (0.1 + 0.2,), points[1]: None}
        assert [[type(value) for value in point] for point in ledger.known] == [[int, float, str, bool]] * 2


def test_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    sweep_sums(Sums(), path)
    with pytest.raises(SettingsError, match=r"made of other inputs \(digest dddddddddddd, these have eeeeeeeeeeee\)"):
        sweep_sums(Sums(), path, digest="e" * 64)


def test_other_parameters_or_metrics_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    sweep_sums(Sums(), path)
    with pytest.raises(SettingsError, match="holds sum over a, b; asked for are sum over a, c"):
        sweep_sums(Sums(), path, axes=("a=1", "c=1"))


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"time,open\n", "jsonl:1: not a ledger"), (None, "jsonl:3: not a line of a sweep's ledger")],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "ledger.jsonl"
    sweep_sums(Sums(), path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(content or b"".join([*lines[:2], b"garbage\n", *lines[3:]]))
    with pytest.raises(SettingsError, match=says):
        sweep_sums(Sums(), path)


def test_the_digest_follows_every_input() -> None:
    made, other = spot(), spot(seed=4)
    funded = made._replace(funding_ns=np.array([5]), funding_ppb=np.array([7]))
    digests = [
        inputs_digest(code="1", settings=b"s", markets=[made], terms=TERMS),
        inputs_digest(code="2", settings=b"s", markets=[made], terms=TERMS),
        inputs_digest(code="1", settings=b"t", markets=[made], terms=TERMS),
        inputs_digest(code="1", settings=b"s", markets=[other], terms=TERMS),
        inputs_digest(code="1", settings=b"s", markets=[funded], terms=TERMS),
        inputs_digest(code="1", settings=b"s", markets=[made, other], terms=TERMS),
        inputs_digest(code="1", settings=b"s", markets=[made], terms=Terms(cash_atoms=1)),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == inputs_digest(code="1", settings=b"s", markets=[spot()], terms=TERMS)


# --- the optimiser


def search(path: Path, count: int, evaluator: Sums) -> SweepTable:
    optimiser = s.Optimiser(space("a=1..40", "b=1..40"), seed=1)
    with open_ledger(path, digest=DIGEST, names=("a", "b"), metrics=("sum",)) as ledger:
        return run_search(evaluator, optimiser, count, watch=Watch("sum"), ledger=ledger)


def test_a_search_finds_much_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", 40, Sums())
    assert len(whole.points) == 40
    assert whole.column("sum").max() > 70
    search(tmp_path / "parts", 20, Sums())
    rest = Sums()
    parts = search(tmp_path / "parts", 40, rest)
    assert parts.points == whole.points
    assert (parts.resumed, len(rest.ran)) == (20, 20)


def test_a_search_ends_when_nothing_is_left() -> None:
    table = run_search(Sums(), s.Optimiser(space("a=1..2", "b=1..2"), seed=1), 100, watch=Watch("sum"))
    assert sorted(table.points) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert table.is_complete


# --- evaluators


CROSSINGS = space("fast=2..20:6", "slow=5..60:11")


def run_evaluator(threads: int = 2) -> RunEvaluator:
    return RunEvaluator(make_toy, simulate_toy, [spot()], TERMS, METRICS, threads)


def test_threads_change_nothing() -> None:
    one, three = (run_sweep(run_evaluator(threads), s.grid(CROSSINGS), watch=Watch("sharpe")) for threads in (1, 3))
    assert one.points == three.points
    assert np.array_equal(one.values, three.values, equal_nan=True)
    assert one.invalid == 4


def test_the_crossover_kernel_equals_runs_but_for_whole_lots() -> None:
    runs = run_sweep(run_evaluator(), s.grid(CROSSINGS), watch=Watch("sharpe"))
    fast = run_sweep(CrossoverEvaluator(spot(), TERMS), s.grid(CROSSINGS), watch=Watch("sharpe"))
    assert fast.points == runs.points
    assert fast.invalid == runs.invalid
    for metric in METRICS:
        assert fast.column(metric) == pytest.approx(runs.column(metric), rel=1e-6, nan_ok=True), metric


@pytest.mark.parametrize(
    ("changes", "terms", "says"),
    [
        ({"is_perp": True}, TERMS, "trades spot with fees in quote"),
        ({"quote_fee_ppm": 0}, TERMS, "trades spot with fees in quote"),
        ({}, Terms(cash_atoms=1, slippage="fixed", slippage_ppm=5), "no slippage, latency or volume share"),
        ({}, Terms(cash_atoms=1, latency_ns=5), "no slippage, latency or volume share"),
        ({}, Terms(cash_atoms=1, volume_share_ppm=5), "no slippage, latency or volume share"),
    ],
)
def test_the_crossover_kernel_says_what_it_cannot_do(changes: dict[str, int], terms: Terms, says: str) -> None:
    chosen = market([1, 2, 3], of=instrument(BTC, **({"quote_fee_ppm": 5} | changes)))
    assert says in (crossover_refusal(chosen, terms) or "")
    with pytest.raises(SettingsError, match=says):
        CrossoverEvaluator(chosen, terms)


@pytest.mark.parametrize("axes", [("fast=0,2", "slow=5"), ("fast=1.5", "slow=5"), ("fast=2", "slow=long")])
def test_windows_are_whole_numbers_above_0(axes: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="whole numbers above 0"):
        run_sweep(CrossoverEvaluator(spot(), TERMS), s.grid(space(*axes)), watch=Watch("sharpe"))


@pytest.mark.parametrize(
    ("metric", "says"), [("luck", "no metric luck; there are: final_equity"), ("refusals", "refusals is not a number")]
)
def test_metrics_must_be_numbers(metric: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        run_sweep(
            RunEvaluator(make_toy, simulate_toy, [spot()], TERMS, (metric,)),
            s.grid(space("fast=2", "slow=9")),
            watch=Watch(metric),
        )


# --- the table


def table() -> SweepTable:
    points: list[s.Point] = [(1, 10, "a"), (2, 10, "a"), (1, 5, "a"), (1, 10, "b"), (1, 10, "c"), (2, 5, "a")]
    values = [[3.0, 4.0, 0.5], [5.0, 0.0, 0.1], [5.0, 9.0, 0.2], [1.0, 9.0, 0.4], [9.0, 9.0, 0.9], [math.nan, 9.0, 0.0]]
    return SweepTable(
        ("x", "y", "kind"), ("sharpe", "trades", "max_drawdown"), points, np.array(values), 0, 0, 0, is_complete=True
    )


def test_the_best_come_first_and_of_equals_the_one_tried_first() -> None:
    assert table().ranked("sharpe") == [4, 1, 2, 0, 3]
    assert table().ranked("sharpe", goal="lowest") == [3, 0, 1, 2, 4]


def test_a_small_drawdown_is_better() -> None:
    assert table().ranked("max_drawdown") == [5, 1, 2, 3, 0, 4]


def test_points_with_too_few_trades_are_not_ranked() -> None:
    assert table().ranked("sharpe", trades_min=4) == [4, 2, 0, 3]


@pytest.mark.parametrize(
    ("metric", "others", "cells"),
    [
        ("sharpe", "best", [[5.0, math.nan], [9.0, 5.0]]),
        ("sharpe", "median", [[5.0, math.nan], [3.0, 5.0]]),
        ("max_drawdown", "best", [[0.2, 0.0], [0.4, 0.1]]),
    ],
)
def test_a_cell_of_the_heat_map_is_the_best_or_the_median(metric: str, others: str, cells: list[list[float]]) -> None:
    made = heat_map(table(), "x", "y", metric, others="median" if others == "median" else "best")
    assert (made.x, made.y) == ([1, 2], [5, 10])
    assert np.array_equal(made.cells, np.array(cells), equal_nan=True)


def test_a_heat_map_of_words_keeps_their_order() -> None:
    assert heat_map(table(), "kind", "x", "trades").x == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("x", "z", "sharpe"), "no parameter z; it has: x, y, kind"),
        (("x", "y", "luck"), "no metric luck; it has: sharpe, trades, max_drawdown"),
    ],
)
def test_a_heat_map_needs_known_names(names: tuple[str, str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        heat_map(table(), *names)
