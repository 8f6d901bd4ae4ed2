"""Round trips in short come out as by the whole rules, bit for bit, wherever they give way to those."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bot.backtest import compiled, slots
from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import MarketTable, run_compiled, summarised
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.strategies.advice import Advice, Ints, Market
from tests.support.markets import MINUTE_NS, ScriptedDefinition, candles_of

SYMBOL = "BTC_USDT"
SIZES = {
    tactics.SIZE_LOTS: (1, 40, 700, 90_000),
    tactics.SIZE_QUOTE: (-5, 900_000, 700_000_000, 30_000_000_000),
    tactics.SIZE_SHARE: (0, 20_000, 500_000, 999_000, 1_000_000),
}
MANY_BARS = 9_000
"""More than a window, and fills than there is room for at first."""


def common_run(seed: int, bars: int) -> Run:
    """Return a run out of a seed: mostly entries and exits of longs, a few other advices, gaps and jumps."""
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, random.choice([0.001, 0.02, 0.3]), bars)
    close = np.clip(np.exp(np.log(2_000.0) + np.cumsum(steps)), 2, 10**7).astype(np.int64)
    opened = np.maximum(1, close + random.integers(-3, 4, bars))
    high, low = np.maximum(opened, close) + 1, np.maximum(1, np.minimum(opened, close) - 1)
    rows = [(int(o), int(h), int(lo), int(c)) for o, h, lo, c in zip(opened, high, low, close, strict=True)]
    instrument = Instrument(
        symbol=SYMBOL,
        base="BTC",
        quote="USDT",
        price_scale=2,
        quantity_scale=3,
        qty_lots_min=int(random.choice([1, 30])),
        notional_atoms_min=int(random.choice([0, 5])) * ATOMS,
        quote_fee_ppm=int(random.choice([1, 200, 5_000])),
    )
    market = Market(instrument, MINUTE_NS, candles_of(rows), np.zeros(0, np.int64), np.zeros(0, np.int64))
    common = [tactics.ENTER_LONG | tactics.EXIT_SHORT, tactics.EXIT_LONG | tactics.EXIT_SHORT]
    flags = np.where(random.random(bars) < random.choice([0.1, 0.6, 1.0]), random.choice(common, bars), 0)
    flags = np.where(random.random(bars) < random.choice([0.0, 0.05]), random.integers(0, 32, bars), flags)
    sizing = int(random.integers(3))
    sizes = np.array(SIZES[sizing], np.int64)
    size = random.choice(sizes, bars if random.random() < 0.5 else 1)
    none = np.zeros(1, np.int64)
    advice = Advice(flags.astype(np.uint8), size, none, none, none)
    terms = np.zeros(tactics.TERMS, np.int64)
    terms[tactics.SIZING] = sizing
    definition = ScriptedDefinition(MINUTE_NS, terms, {SYMBOL: advice}, {SYMBOL: market})
    fee = int(random.choice([0, 200, 7_000]))
    return Run(
        definition,
        [market],
        Terms(
            cash_atoms=int(random.choice([7, 1_000, 10**9])) * ATOMS,
            maker_fee_ppm=fee,
            taker_fee_ppm=fee,
            slippage="none" if random.random() < 0.5 else "fixed",
            slippage_ppm=int(random.choice([300, 200_000])),
        ),
    )


def is_never(_run: Ints, _book: Ints, _columns: slots.Columns) -> bool:
    return False


def by_the_rules(run: Run) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "is_common", is_never)
        return run_compiled(run)


def assert_same(quick: Outcome, whole: Outcome) -> None:
    for name, ours, theirs in zip(whole.fills._fields, quick.fills, whole.fills, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    np.testing.assert_array_equal(quick.equity, whole.equity)
    np.testing.assert_array_equal(quick.exposure, whole.exposure)
    assert dict(quick.denied) == dict(whole.denied)
    assert quick.final_lots == whole.final_lots


# A seed cannot be made simpler.
@settings(deadline=None, max_examples=400, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 2**40))
def test_round_trips_in_short_are_those_of_the_rules(seed: int) -> None:
    run = common_run(seed, bars=200)
    assert_same(run_compiled(run), by_the_rules(run))


@pytest.mark.parametrize("seed", range(8))
def test_they_go_on_from_window_to_window(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = common_run(seed, MANY_BARS)
    whole = by_the_rules(run)
    assert_same(run_compiled(run), whole)
    monkeypatch.setattr(compiled, "CHUNK", 777)
    assert_same(run_compiled(run), whole)


def test_a_sweep_plays_them_too() -> None:
    for seed in range(20):
        run = common_run(seed, bars=300)
        table = MarketTable(run.markets)
        quick = summarised(table, run.definition, run.terms)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "is_common", is_never)
            whole = summarised(table, run.definition, run.terms)
        assert (quick.curve, quick.denied) == (whole.curve, whole.denied)
        np.testing.assert_array_equal(quick.fills, whole.fills)


def test_the_runs_meet_refusals_and_shorts_of_money_and_long_rows_of_trips() -> None:
    runs = [common_run(seed, bars=200) for seed in range(150)]
    outcomes = [run_compiled(run) for run in runs]
    denied = {name for outcome in outcomes for name in outcome.denied}
    assert {"MIN_QTY", "MIN_NOTIONAL", "INSUFFICIENT_FUNDS", "NO_FUNDS"} <= denied
    assert max(len(outcome.fills.step) for outcome in outcomes) > 50
    for run in runs:
        table = MarketTable(run.markets)
        box, _ = table.boxed(run.definition, run.terms, table.advised(run.definition, run.terms))
        assert box.run[slots.IS_COMMON]
