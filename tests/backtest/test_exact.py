"""The exact engine: the live machines on candles, from advice to an outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.backtest.base import ROLES, Outcome, Run, Terms
from bot.backtest.exact import NAME, ExactRun, run_exact, run_strategies
from bot.core import tactics
from bot.core.instrument import ATOMS
from bot.core.messages import SECOND_NS, Bar
from bot.errors import DataError, SettingsError
from bot.strategies.advice import AdviceRow, Candles, Market
from bot.strategies.base import Strategy
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.host import StrategyHost
from tests.support.builders import BTC, ETH, limits
from tests.support.candle_runs import (
    LONG,
    MINUTE_NS,
    OUT,
    SHORT,
    START_NS,
    Row,
    Script,
    candle_market,
    flat_rows,
    random_run_parts,
    row,
    terms,
)

PERP: Mapping[str, Any] = {"is_perp": True}
Told = list[tuple[int, int, int, str]]
"""(step, price, signed lots, role) of each fill."""


def outcome_of(rows: Sequence[Row], script: Script, charges: Terms | None = None, **market: Any) -> Outcome:
    return run_exact(Run(script, [candle_market(rows, **market)], charges or terms()))


def told(outcome: Outcome) -> Told:
    fills = outcome.fills
    columns = (fills.step.tolist(), fills.price.tolist(), fills.lots.tolist(), fills.role.tolist())
    return [(step, price, lots, ROLES[role]) for step, price, lots, role in zip(*columns, strict=True)]


def exact_run(seed: int, *, is_patient: bool = True) -> tuple[ExactRun, Outcome]:
    script, markets, charges = random_run_parts(seed)
    symbols = [market.instrument.symbol for market in markets]
    host = StrategyHost({}, symbols)
    for symbol in symbols:
        host.seat_definition(NAME, symbol, script, symbols)
    run = ExactRun(host, markets, charges, is_patient=is_patient)
    return run, run.play()


def same(one: Outcome, other: Outcome) -> bool:
    """Return True; asserts that two outcomes are equal to the last bit."""
    assert told(one) == told(other)
    columns = [
        *zip(one.fills, other.fills, strict=True),
        (one.equity, other.equity),
        (one.exposure, other.exposure),
        (one.funding, other.funding),
    ]
    assert all(np.array_equal(mine, theirs) for mine, theirs in columns)
    assert (one.denied, one.final_lots) == (other.denied, other.final_lots)
    return True


# --- from advice to fills


def test_what_is_decided_at_a_close_happens_at_the_next_open() -> None:
    outcome = outcome_of(flat_rows(100, 110, 120, 130), Script({0: LONG, 2: OUT}), terms(taker_fee_ppm=1_000))
    assert told(outcome) == [(1, 100, 10, "trade"), (3, 120, -10 + 1, "trade")]
    # Fees are taken out of what is received: 0.01 coins, and nine whole lots are left to sell.
    last = 9_000 + 1_080 - 1.08 + 0.99 * 130
    assert outcome.equity.tolist() == [10_000.0, 9_000 + 9.99 * 110, 9_000 + 9.99 * 120, last]
    assert outcome.exposure.tolist() == pytest.approx([0.0, 9.99 * 110, 9.99 * 120, 0.99 * 130])
    assert outcome.fills.fee.tolist() == [1.0, 1.08]
    assert outcome.fills.is_maker.tolist() == [0, 0]
    assert outcome.final_lots == (0,)
    assert (outcome.symbols, outcome.cash, outcome.funding.tolist()) == ((BTC,), 10_000.0, [0.0])


def test_the_last_wish_finds_no_market() -> None:
    outcome = outcome_of(flat_rows(100, 110), Script({1: LONG}))
    assert told(outcome) == []
    assert outcome.final_lots == (0,)


GUARDED: Sequence[tuple[str, AdviceRow, Mapping[str, int], Sequence[Row], Told]] = (
    (
        "stop-in-the-bar-of-the-entry",
        row(1, stop_by=5),
        {},
        [(100, 100, 100, 100), (100, 110, 90, 105), (105, 110, 90, 100)],
        [(1, 100, 10, "trade"), (1, 95, -10, "stop")],
    ),
    (
        "stop-before-target-in-one-bar",
        row(1, stop_by=5, target_by=5),
        {},
        [(100, 100, 100, 100), (100, 110, 90, 105)],
        [(1, 100, 10, "trade"), (1, 95, -10, "stop")],
    ),
    (
        "target",
        row(1, stop_by=20, target_by=5),
        {},
        [(100, 100, 100, 100), (100, 106, 90, 100)],
        [(1, 100, 10, "trade"), (1, 105, -10, "profit")],
    ),
    (
        "target-needs-a-tick-through",
        row(1, target_by=5),
        {},
        [(100, 100, 100, 100), (100, 105, 90, 100)],
        [(1, 100, 10, "trade")],
    ),
    (
        "distance-in-millionths",
        row(1, stop_by=-50_000),
        {},
        [(200, 200, 200, 200), (200, 200, 190, 195)],
        [(1, 200, 10, "trade"), (1, 190, -10, "stop")],
    ),
    (
        "stop-at-a-gap",
        row(1, stop_by=5),
        {},
        [(100, 100, 100, 100), (100, 100, 99, 100), (80, 85, 80, 85)],
        [(1, 100, 10, "trade"), (2, 80, -10, "stop")],
    ),
    (
        "trailing-follows-closes",
        row(1, trail_by=10),
        {},
        [(100, 100, 100, 100), (100, 120, 98, 119), (119, 119, 109, 112)],
        [(1, 100, 10, "trade"), (2, 110, -10, "stop")],
    ),
    (
        "break-even",
        row(1, stop_by=50),
        {"break_even": 10},
        [(100, 100, 100, 100), (100, 111, 95, 108), (108, 109, 90, 95)],
        [(1, 100, 10, "trade"), (2, 100, -10, "stop")],
    ),
    (
        "time-exit",
        row(1),
        {"bars_max": 2},
        [*flat_rows(100, 101, 102, 103, 104)],
        [(1, 100, 10, "trade"), (3, 102, -10, "trade")],
    ),
)


@pytest.mark.parametrize(
    ("advised", "tactic", "rows", "expected"), [case[1:] for case in GUARDED], ids=[case[0] for case in GUARDED]
)
def test_tactics_become_orders(
    advised: AdviceRow, tactic: Mapping[str, int], rows: Sequence[Row], expected: Told
) -> None:
    assert told(outcome_of(rows, Script({0: advised}, tactic=tactic))) == expected


def test_after_a_position_the_cool_down_refuses_entries() -> None:
    rows = {0: row(1, stop_by=5), 1: LONG, 2: LONG, 3: LONG}
    candles = [(100, 100, 100, 100), (100, 100, 90, 100), *([(100, 100, 100, 100)] * 4)]
    for cool_down, expected in ((2, [1, 4]), (0, [1, 2])):
        outcome = outcome_of(candles, Script(rows, tactic={"cool_down": cool_down}))
        assert [step for step, _, lots, _ in told(outcome) if lots > 0] == expected


@pytest.mark.parametrize(("patience", "expected"), [(1, []), (2, [(2, 95, 10, "trade")])], ids=["one", "two"])
def test_a_limit_entry_rests_as_long_as_its_patience(patience: int, expected: Told) -> None:
    candles = [(100, 100, 100, 100), (100, 100, 96, 100), (100, 100, 94, 100)]
    script = Script({0: LONG}, tactic={"is_limit": 1, "offset": 5, "patience": patience})
    outcome = outcome_of(candles, script)
    assert told(outcome) == expected
    assert outcome.fills.is_maker.tolist() == [1] * len(expected)


def test_what_came_of_a_limit_entry_is_kept() -> None:
    candles = [(100, 100, 100, 100), (100, 100, 94, 100, 40), (100, 100, 96, 100), (100, 100, 90, 100)]
    script = Script({0: row(1, stop_by=30)}, tactic={"is_limit": 1, "offset": 5, "patience": 2})
    outcome = outcome_of(candles, script, terms(volume_share_ppm=100_000))
    assert told(outcome) == [(1, 95, 4, "trade")]
    assert outcome.final_lots == (4,)


def test_a_turn_round_is_one_order_on_a_perpetual() -> None:
    outcome = outcome_of(flat_rows(100, 110, 120, 130), Script({0: LONG, 2: SHORT}), **PERP)
    assert told(outcome) == [(1, 100, 10, "trade"), (3, 120, -20, "trade")]
    assert outcome.equity.tolist() == [10_000.0, 10_100.0, 10_200.0, 10_200.0 - 100.0]
    assert outcome.final_lots == (-10,)


def test_on_a_spot_market_nothing_is_sold_that_is_not_held() -> None:
    outcome = outcome_of(flat_rows(100, 110, 120, 130), Script({0: SHORT}))
    assert told(outcome) == []


# --- sizes


@pytest.mark.parametrize(
    ("sizing", "size", "quote_fee", "lots"),
    [
        (tactics.SIZE_LOTS, 7, 0, 7),
        (tactics.SIZE_QUOTE, 990_000_000, 0, 9),
        (tactics.SIZE_SHARE, 500_000, 0, 55),
        (tactics.SIZE_SHARE, 1_000_000, 10_000, 110),
    ],
    ids=["lots", "quote", "share", "share-with-fee"],
)
def test_sizes(sizing: int, size: int, quote_fee: int, lots: int) -> None:
    """Decided at 100, bought at 90: an amount buys more of it, the others what was decided."""
    rows = [(100, 100, 100, 100), (90, 90, 90, 90)]
    charges = terms(taker_fee_ppm=10_000 if quote_fee else 0)
    outcome = outcome_of(rows, Script({0: row(1, size)}, sizing=sizing), charges, quote_fee_ppm=quote_fee)
    assert told(outcome) == [(1, 90, lots, "trade")]


def test_what_an_amount_bought_is_the_position_wanted() -> None:
    candles = flat_rows(100, 90, 50, 50, 50)
    outcome = outcome_of(candles, Script({0: row(1, 500_000), 3: OUT}, sizing=tactics.SIZE_SHARE))
    assert told(outcome) == [(1, 100, 50, "trade"), (4, 50, -50, "trade")]


def test_a_share_of_equity_can_be_spent_again_although_dust_is_left() -> None:
    script = Script({0: row(1, 1_000_000), 1: OUT, 2: row(1, 1_000_000)}, sizing=tactics.SIZE_SHARE)
    outcome = outcome_of(flat_rows(100, 100, 100, 100, 100), script, terms(taker_fee_ppm=2_000))
    assert [lots for _, _, lots, _ in told(outcome)] == [100, -99, 98]
    assert outcome.denied == {}


# --- many symbols, many lengths


def test_symbols_share_the_cash_in_the_order_of_listing() -> None:
    markets = [candle_market(flat_rows(100, 100, 100), symbol=symbol) for symbol in (BTC, ETH)]
    outcome = run_exact(Run(Script({0: row(1, 60)}), markets, terms()))
    assert told(outcome) == [(1, 100, 60, "trade")]
    assert outcome.fills.symbol.tolist() == [0]
    assert outcome.denied == {"INSUFFICIENT_FUNDS": 1}


def test_a_symbol_without_a_bar_sits_the_step_out() -> None:
    whole = candle_market(flat_rows(*[100] * 6), symbol=BTC)
    holed = candle_market(flat_rows(100, 100, 120), at=[0, 3, 5], symbol=ETH)
    outcome = run_exact(Run(Script({0: LONG}, only=ETH), [whole, holed], terms()))
    assert len(outcome.time_ns) == 6
    assert told(outcome) == [(3, 100, 10, "trade")]
    assert outcome.equity.tolist() == [10_000.0] * 5 + [10_200.0]


def test_a_longer_timeframe_is_made_of_base_bars_and_its_orders_meet_them() -> None:
    script = Script({0: row(1, stop_by=5)}, timeframe_ns=3 * MINUTE_NS)
    rows = [*flat_rows(100, 104, 102, 103), (103, 103, 90, 100)]
    outcome = outcome_of(rows, script)
    assert told(outcome) == [(3, 102, 10, "trade"), (4, 97, -10, "stop")]
    (bar,) = script.advisers[0].seen
    assert (bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks) == (100, 104, 100, 102)
    assert (bar.start_ns, bar.timeframe_ns, bar.volume_lots) == (START_NS, 3 * MINUTE_NS, 3_000)


def test_of_two_buckets_that_are_over_at_once_the_earlier_only_warms_up() -> None:
    script = Script({0: row(1, 3), 1: row(1, 5)}, timeframe_ns=3 * MINUTE_NS)
    outcome = outcome_of(flat_rows(100, 101, 102, 103), script, at=[0, 1, 5, 6])
    assert [bar.start_ns - START_NS for bar in script.advisers[0].seen] == [0, 3 * MINUTE_NS]
    assert told(outcome) == [(3, 102, 5, "trade")]


def test_other_symbols_are_heard() -> None:
    markets = [candle_market(flat_rows(1, 2, 3), symbol=symbol) for symbol in (BTC, ETH)]
    script = Script({}, watches=(ETH,))
    run_exact(Run(script, markets, terms()))
    btc, eth = script.advisers
    assert [bar.symbol for bar in btc.heard] == [ETH] * 3
    assert eth.heard == []


# --- perpetuals


def test_funding_is_paid_and_summed() -> None:
    outcome = outcome_of(
        flat_rows(100, 100, 100, 100), Script({0: LONG}), funding=[(2, 1_000_000), (3, -500_000)], **PERP
    )
    assert outcome.funding.tolist() == [0.0, 0.0, 1.0, 0.5]
    assert outcome.equity.tolist() == [10_000.0, 10_000.0, 9_999.0, 9_999.5]


def test_a_liquidation_is_a_fill_and_nobody_buys_it_back() -> None:
    rows = [(100, 100, 100, 100), (100, 100, 100, 100), (100, 100, 80, 100), *flat_rows(100, 100, 100)]
    script = Script({at: row(1, 100, stop_by=50) for at in range(1)})
    outcome = outcome_of(rows, script, terms(1_000, leverage=50), **PERP)
    assert told(outcome) == [(1, 100, 100, "trade"), (2, 90, -100, "liquidation")]
    assert outcome.fills.fee.tolist() == [0.0, 45.0]
    assert outcome.final_lots == (0,)
    assert outcome.equity[-1] == -45.0


def test_the_initial_margin_bounds_a_position() -> None:
    for leverage, expected in ((1, {"INSUFFICIENT_FUNDS": 1}), (2, {})):
        outcome = outcome_of(flat_rows(100, 100, 100), Script({0: row(1, 150)}), terms(leverage=leverage), is_perp=True)
        assert outcome.denied == expected


# --- refusals


@pytest.mark.parametrize(
    ("size", "changes", "reason"),
    [
        (200, {}, "INSUFFICIENT_FUNDS"),
        (1, {"qty_lots_min": 2}, "MIN_QTY"),
        (1, {"notional_atoms_min": 101 * ATOMS}, "MIN_NOTIONAL"),
    ],
    ids=["funds", "quantity", "notional"],
)
def test_a_refusal_is_counted_once_while_the_same_is_wanted(size: int, changes: Mapping[str, Any], reason: str) -> None:
    outcome = outcome_of(flat_rows(*[100] * 6), Script({0: row(1, size)}), **changes)
    assert outcome.denied == {reason: 1}


def test_a_refusal_is_asked_again_while_it_is_wanted() -> None:
    outcome = outcome_of(flat_rows(100, 100, 50, 50), Script({at: row(1, 150) for at in range(4)}))
    assert told(outcome) == [(3, 50, 150, "trade")]


def test_refusals_of_the_exchange_are_counted_as_well() -> None:
    outcome = outcome_of([(100, 100, 100, 100), (101, 101, 101, 101)], Script({0: row(1, 100)}))
    assert told(outcome) == [(1, 101, 99, "trade")]
    assert outcome.denied == {"NO_FUNDS": 1}


def test_the_limits_of_the_gate_apply_where_they_are_given() -> None:
    run = Run(Script({0: row(1, 60)}), [candle_market(flat_rows(*[100] * 4))], terms())
    assert run_exact(run, limits=limits(max_position_bps=5_000)).denied == {"MAX_POSITION": 1}
    assert told(run_exact(run, limits=limits(max_position_bps=7_000))) == [(1, 100, 60, "trade")]


def test_a_breaker_stops_the_backtest_as_it_would_the_bot() -> None:
    rows = flat_rows(100, 100, 80, 80, 80, 80)
    run = Run(Script({0: row(1, 90), 3: OUT, 4: LONG}), [candle_market(rows)], terms())
    assert told(run_exact(run, limits=limits(drawdown_bps=1_000, drawdown_halt_bps=5_000, daily_loss_bps=9_000))) == [
        (1, 100, 90, "trade"),
        (4, 80, -90, "trade"),
    ]


# --- strategies in Python


def crossover(**changes: Any) -> CrossoverSettings:
    return CrossoverSettings(timeframe="1m", notional=1_000, fast=1, slow=2, **changes)


def test_a_strategy_of_a_settings_file_trades_its_notional() -> None:
    market = candle_market(flat_rows(100, 110, 120, 100, 90))
    outcome = run_strategies({"one": crossover()}, [market], terms())
    assert told(outcome) == [(2, 110, 9, "trade"), (4, 100, -9, "trade")]


def test_a_strategy_of_a_settings_file_trades_a_share_of_equity() -> None:
    market = candle_market(flat_rows(100, 110, 120, 100, 90))
    outcome = run_strategies({"one": crossover(equity_pct=50)}, [market], terms())
    assert told(outcome) == [(2, 110, 45, "trade"), (4, 100, -45, "trade")]


class Bounce(Strategy):
    """Ten lines: long below 100, short above, all or half."""

    def on_bar(self, bar: Bar) -> float | None:
        """Return a share by the close."""
        if bar.close_ticks == 100:
            return None
        return 1.0 if bar.close_ticks < 100 else -0.5


def test_a_strategy_in_python_may_go_short_on_a_perpetual() -> None:
    market = candle_market(flat_rows(100, 90, 100, 125, 100), is_perp=True)
    host = StrategyHost({}, [BTC])
    host.seat_strategy("own", BTC, crossover(), Bounce())
    outcome = ExactRun(host, [market], terms()).play()
    assert told(outcome) == [(2, 90, 11, "trade"), (4, 125, -15, "trade")]


# --- laws, on random markets, advice, tactics and terms


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
@example(2351)  # dust beside guards: the gate takes them down and puts them up again with every repetition
def test_patience_changes_nothing(seed: int) -> None:
    assert same(exact_run(seed)[1], exact_run(seed, is_patient=False)[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_outcome_is_what_the_ledger_says(seed: int) -> None:
    run, outcome = exact_run(seed)
    ledger = run.ledger
    total = ledger.cash_atoms / ATOMS
    for symbol, market, lots in zip(outcome.symbols, run.markets, outcome.final_lots, strict=True):
        position = ledger.positions.get(symbol)
        if position is None:
            continue
        instrument = market.instrument
        value = instrument.value_atoms(position.base_atoms, int(market.candles.close[-1]))
        total += (value - (position.cost_atoms if instrument.is_perp else 0)) / ATOMS
        assert lots == instrument.position_lots(position.base_atoms)
        mine = outcome.fills.lots[outcome.fills.symbol == outcome.symbols.index(symbol)]
        if instrument.is_fee_in_quote:
            assert int(mine.sum()) * instrument.base_atoms_per_lot == position.base_atoms
    assert outcome.equity[-1] == pytest.approx(total, rel=1e-12, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_cash_of_spot_is_never_negative_and_nothing_is_sold_short(seed: int) -> None:
    run, outcome = exact_run(seed)
    if run.markets[0].instrument.is_perp:
        return
    assert (outcome.equity - outcome.exposure).min() >= -1e-9
    assert all(lots >= 0 for lots in outcome.final_lots)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_guard_never_opens_a_position(seed: int) -> None:
    _, outcome = exact_run(seed)
    held = dict.fromkeys(range(len(outcome.symbols)), 0)
    for symbol, lots, role in zip(outcome.fills.symbol, outcome.fills.lots, outcome.fills.role, strict=True):
        before = held[int(symbol)]
        held[int(symbol)] = before + int(lots)
        if ROLES[role] != "trade":
            assert int(lots) * before < 0
            assert abs(int(lots)) <= abs(before)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 100))
def test_the_future_changes_nothing_of_the_past(seed: int, cut: int) -> None:
    script, markets, charges = random_run_parts(seed)
    rng = np.random.default_rng(seed + 1)
    cut_ns = int(markets[0].candles.start_ns[min(cut, len(markets[0].candles.start_ns) - 1)])
    past, noise = run_exact(Run(script, markets, charges)), [_with_noise(each, cut_ns, rng) for each in markets]
    other = run_exact(Run(script, noise, charges))
    steps = int(np.searchsorted(past.time_ns, cut_ns))
    assert [fill for fill in told(past) if fill[0] < steps] == [fill for fill in told(other) if fill[0] < steps]
    assert np.array_equal(past.equity[:steps], other.equity[:steps])


def _with_noise(market: Market, cut_ns: int, rng: np.random.Generator) -> Market:
    candles = market.candles
    later = candles.start_ns >= cut_ns
    factor = np.where(later, rng.integers(1, 4, len(later)), 1)
    columns = (column * factor for column in candles[1:])
    return market._replace(candles=Candles(candles.start_ns, *columns))


# --- what cannot be played


@pytest.mark.parametrize(
    ("markets", "charges", "error", "words"),
    [
        ([], terms(), DataError, "needs a market"),
        ([candle_market(flat_rows(1, 2))] * 2, terms(), DataError, "there twice: BTC_USDT, BTC_USDT"),
        (
            [candle_market(flat_rows(1, 2)), candle_market(flat_rows(1, 2), symbol=ETH)._replace(timeframe_ns=5)],
            terms(),
            DataError,
            "ETH_USDT: bars of 5 ns beside bars of 60000000000 ns",
        ),
        (
            [candle_market(flat_rows(1, 2)), candle_market(flat_rows(1, 2), symbol="ETH_BTC")],
            terms(),
            DataError,
            "ETH_BTC: is paid in BTC, BTC_USDT in USDT",
        ),
        ([candle_market(flat_rows(1, 2))], terms(latency_ns=60 * SECOND_NS), SettingsError, "latency 60000000000 ns"),
    ],
    ids=["none", "twice", "lengths", "quotes", "latency"],
)
def test_what_does_not_go_together_is_refused(
    markets: list[Market], charges: Terms, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run_exact(Run(Script({}), markets, charges))


def test_bars_cannot_be_made_shorter() -> None:
    run = Run(Script({}, timeframe_ns=90 * SECOND_NS), [candle_market(flat_rows(1, 2))], terms())
    with pytest.raises(DataError, match="must be a multiple"):
        run_exact(run)


def test_progress_is_told_from_the_first_step_to_the_last() -> None:
    told_steps: list[tuple[int, int]] = []
    run = Run(Script({}), [candle_market(flat_rows(1, 2, 3))], terms())
    run_exact(run, on_progress=lambda done, total: told_steps.append((done, total)))
    assert told_steps == [(0, 3), (3, 3)]
