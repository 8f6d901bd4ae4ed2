"""The compiled engine plays what the exact one plays, fill for fill, whatever is advised on whatever market."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from bot.backtest.base import Outcome
from bot.backtest.compiled import run_compiled
from bot.backtest.exact import run_exact
from tests.support.markets import Kind, random_run

KINDS = {
    "spot": Kind(),
    "perp": Kind(has_perps=True, has_spot=False),
    "three spot markets": Kind(symbols=3),
    "two perps": Kind(symbols=2, has_perps=True, has_spot=False),
    "spot and perps": Kind(symbols=3, has_perps=True),
}


def fill_rows(outcome: Outcome) -> list[tuple[int, ...]]:
    fills = outcome.fills
    columns = (fills.step, fills.symbol, fills.price, fills.lots, fills.role, fills.is_maker)
    return [tuple(int(number) for number in row) for row in zip(*columns, strict=True)]


def assert_same(exact: Outcome, compiled: Outcome) -> None:
    assert fill_rows(compiled) == fill_rows(exact)
    assert dict(compiled.denied) == dict(exact.denied)
    assert compiled.final_lots == exact.final_lots
    np.testing.assert_array_equal(compiled.time_ns, exact.time_ns)
    np.testing.assert_allclose(compiled.fills.fee, exact.fills.fee, rtol=1e-9)
    for name in ("equity", "exposure", "funding"):
        ours, theirs = getattr(compiled, name), getattr(exact, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * exact.cash, err_msg=name)


# A seed cannot be made simpler.
@settings(deadline=None, max_examples=300, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**40), st.sampled_from(sorted(KINDS)))
@example(1434, "two perps")  # the part that closes is dust
@example(1942, "spot and perps")  # guards make way for dust, and come back
@example(3634, "spot")  # a cancel whose order fills before it arrives
@example(3703, "two perps")  # a wish that a cancel at the end would go on with
@example(10882, "spot")  # a short that a spot market cannot hold
def test_compiled_is_exact(seed: int, kind: str) -> None:
    run = random_run(seed, KINDS[kind])
    assert_same(run_exact(run), run_compiled(run))


def test_random_runs_meet_everything_that_can_differ() -> None:
    runs = [random_run(seed, kind) for kind in KINDS.values() for seed in range(40)]
    outcomes = [run_compiled(run) for run in runs]
    roles = np.concatenate([outcome.fills.role for outcome in outcomes])
    assert set(roles.tolist()) == {0, 1, 2, 3}
    assert {name for outcome in outcomes for name in outcome.denied} >= {
        "MIN_QTY",
        "MIN_NOTIONAL",
        "INSUFFICIENT_FUNDS",
    }
    assert {run.terms.slippage for run in runs} == {"none", "fixed", "spread", "volume"}
    assert any(outcome.funding[-1] != 0.0 for outcome in outcomes)


PRINTED = """
from bot.backtest.compiled import run_compiled
from tests.support.markets import Kind, random_run
for kind in (Kind(), Kind(has_perps=True, has_spot=False), Kind(symbols=3, has_perps=True)):
    for seed in range(4):
        outcome = run_compiled(random_run(seed, kind))
        print([column.tolist() for column in outcome.fills], outcome.equity.tolist(), outcome.denied)
"""


def test_interpreted_kernels_print_what_compiled_ones_print() -> None:
    def printed(disable_jit: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PRINTED],
            env={**os.environ, "NUMBA_DISABLE_JIT": disable_jit},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert printed("1") == printed("0") != ""


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_run_does_not_depend_on_how_often_it_pauses(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    run = random_run(7, kind)
    at_once = run_compiled(run)
    monkeypatch.setattr("bot.backtest.compiled.CHUNK", 1)
    monkeypatch.setattr("bot.backtest.compiled.FILLS_ROOM", 1)
    monkeypatch.setattr("bot.backtest.compiled.ORDERS_ROOM", 1)
    steps: list[tuple[int, int]] = []
    paused = run_compiled(run, on_progress=lambda done, total: steps.append((done, total)))
    assert_same(at_once, paused)
    assert steps[-1] == (len(paused.time_ns), len(paused.time_ns))
    assert steps == sorted(steps)
