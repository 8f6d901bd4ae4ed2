"""Symbols that are played apart come to what they come to together, bit for bit; short of cash, they are not apart."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bot.backtest import compiled
from bot.backtest.apart import Apart
from bot.backtest.base import Outcome, Run
from bot.backtest.compiled import run_compiled
from bot.backtest.exact import run_exact
from bot.backtest.slots import Columns, Floats, Ints
from bot.core import tactics
from bot.core.instrument import ATOMS
from tests.support.markets import Kind, random_run

PLAIN = Kind(symbols=3, is_plain=True)
TIMES = (1, 1, 7, 100, 10_000)
"""Cash beside that of a random run, which is often too little."""


def plain_run(seed: int, bars: int = 60) -> Run:
    run = random_run(seed, PLAIN._replace(bars=bars))
    return with_cash(run, min(run.terms.cash_atoms * TIMES[seed % len(TIMES)], compiled.CASH_MAX))


def with_cash(run: Run, cash_atoms: int) -> Run:
    return run._replace(terms=msgspec.structs.replace(run.terms, cash_atoms=cash_atoms))


def is_never(_run: Ints, _row: Ints, _columns: Columns) -> bool:
    return False


def together(run: Run) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "is_apart", is_never)
        return run_compiled(run)


def played(run: Run) -> tuple[Outcome, Counter[bool]]:
    """Return what comes of a run, and how often a stretch of it was played apart, with enough cash and without."""
    came: Counter[bool] = Counter()
    play = Apart.play

    def spied(self: Apart, first: int, last: int, equity: Floats, exposure: Floats) -> bool:
        is_enough = play(self, first, last, equity, exposure)
        came[is_enough] += 1
        return is_enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Apart, "play", spied)
        return run_compiled(run), came


def is_apart(run: Run) -> bool:
    _, came = played(run)
    assert came, "the run is not a plain one"
    return not came[False]


def assert_same(ours: Outcome, theirs: Outcome) -> None:
    for name, own, other in zip(theirs.fills._fields, ours.fills, theirs.fills, strict=True):
        np.testing.assert_array_equal(own, other, err_msg=name)
    for name in ("time_ns", "equity", "exposure", "funding"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    assert dict(ours.denied) == dict(theirs.denied)
    assert ours.final_lots == theirs.final_lots


# A seed cannot be made simpler.
@settings(deadline=None, max_examples=300, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**40))
def test_symbols_apart_come_to_what_they_come_to_together(seed: int) -> None:
    run = plain_run(seed)
    assert_same(run_compiled(run), together(run))


@settings(deadline=None, max_examples=60, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**40))
def test_and_to_what_the_exact_engine_comes_to(seed: int) -> None:
    run = plain_run(seed)
    ours, exact = run_compiled(run), run_exact(run)
    for name in ("step", "symbol", "price", "lots", "role", "is_maker"):
        np.testing.assert_array_equal(getattr(ours.fills, name), getattr(exact.fills, name), err_msg=name)
    np.testing.assert_allclose(ours.equity, exact.equity, rtol=1e-9, atol=1e-9 * exact.cash)
    assert dict(ours.denied) == dict(exact.denied)
    assert ours.final_lots == exact.final_lots


def test_random_runs_meet_enough_cash_and_too_little_and_everything_else() -> None:
    runs = [plain_run(seed) for seed in range(200)]
    enough = [run for run in runs if is_apart(run)]
    assert 60 < len(enough) < 160
    outcomes = [run_compiled(run) for run in enough]
    assert {run.terms.slippage for run in enough} == {"none", "fixed", "spread", "volume"}
    assert {run.definition.timeframe_ns == run.markets[0].timeframe_ns for run in enough} == {True, False}
    assert {run.markets[0].instrument.is_fee_in_quote for run in enough} == {True, False}
    assert {int(run.definition.terms[tactics.SIZING]) for run in enough} == {tactics.SIZE_LOTS, tactics.SIZE_QUOTE}
    assert any(len({len(market.candles.close) for market in run.markets}) > 1 for run in enough)
    assert {name for outcome in outcomes for name in outcome.denied} >= {"MIN_QTY", "MIN_NOTIONAL"}
    assert any(any(outcome.final_lots) for outcome in outcomes)
    both = [np.bincount(outcome.fills.step).max(initial=0) for outcome in outcomes]
    assert max(both) == PLAIN.symbols


def least_cash(run: Run) -> int:
    """Return the least cash, in atoms, with which the symbols of a run are apart."""
    short, enough = 0, compiled.CASH_MAX
    while enough - short > 1:
        middle = (short + enough) // 2
        if is_apart(with_cash(run, middle)):
            enough = middle
        else:
            short = middle
    return enough


@pytest.mark.parametrize("seed", range(12))
def test_an_atom_less_than_enough_is_too_little(seed: int) -> None:
    run = plain_run(seed)
    least = least_cash(run)
    if least == 1:
        assert not len(run_compiled(run).fills.step)
        return
    for cash_atoms in (least - 1, least, least + 1, least + ATOMS):
        near = with_cash(run, cash_atoms)
        outcome = run_compiled(near)
        assert_same(outcome, together(near))
        is_short = bool({"INSUFFICIENT_FUNDS", "NO_FUNDS"} & set(outcome.denied))
        assert is_short == (cash_atoms < least)


@pytest.mark.parametrize("seed", range(10))
def test_stretches_and_room_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [plain_run(seed), plain_run(1_000 + seed, bars=400)]
    whole = [together(run) for run in runs]
    monkeypatch.setattr(compiled, "FILLS_ROOM", 1)
    monkeypatch.setattr(compiled, "ORDERS_ROOM", 1)
    for chunk in (1, 12, 100):
        monkeypatch.setattr(compiled, "CHUNK", chunk)
        for run, outcome in zip(runs, whole, strict=True):
            assert_same(run_compiled(run), outcome)


def test_a_cancelled_run_is_that_of_the_steps_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "CHUNK", 30)
    for run in [run for seed in range(20) if is_apart(run := plain_run(seed))]:
        asked = count()
        outcome = run_compiled(run, is_cancelled=lambda asked=asked: next(asked) >= 3)
        asked = count()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "is_apart", is_never)
            whole = run_compiled(run, is_cancelled=lambda asked=asked: next(asked) >= 3)
        assert len(outcome.equity) == 30
        assert_same(outcome, whole)


def test_progress_never_goes_back_where_a_run_is_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "CHUNK", 30)
    runs = [run for seed in range(60) if not is_apart(run := plain_run(seed))]
    for run in runs:
        steps: list[int] = []
        outcome = run_compiled(run, on_progress=lambda done, _, steps=steps: steps.append(done))
        assert (steps[0], steps[-1]) == (0, len(outcome.time_ns))
        assert all(before < after for before, after in pairwise(steps))
