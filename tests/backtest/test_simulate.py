"""What the compiled engine makes of a few bars: every rule of the candle model by hand, in ticks and lots.

A tick is one unit of quote currency and a lot one coin; bars last a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import MarketTable, run_compiled, summarised
from bot.backtest.summary import summarise
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.core.messages import SECOND_NS
from bot.errors import DataError, SettingsError
from bot.strategies.advice import Advice, Market
from tests.support.markets import MINUTE_NS, START_NS, ScriptedDefinition, candles_of

LONG, OUT, SHORT = tactics.ENTER_LONG, tactics.EXIT_LONG, tactics.ENTER_SHORT
Rows = Sequence[tuple[int, int, int, int]]
Fill = tuple[int, int, int]
"""(step, price, signed lots)."""


def instrument(symbol: str = "BTC_USDT", **changes: Any) -> Instrument:
    fields: dict[str, Any] = {
        "symbol": symbol,
        "base": symbol.removesuffix("_USDT"),
        "quote": "USDT",
        "price_scale": 0,
        "quantity_scale": 0,
        "qty_lots_min": 1,
        "notional_atoms_min": 0,
        **changes,
    }
    return Instrument(**fields)


def market_of(
    rows: Rows, *, volume: int = 1_000_000, funding: Mapping[int, int] | None = None, **fields: Any
) -> Market:
    """`funding` is rate in billionths by bar, at its start."""
    due = funding or {}
    return Market(
        instrument(**fields),
        MINUTE_NS,
        candles_of(rows, volume=volume),
        np.array([START_NS + bar * MINUTE_NS for bar in due], np.int64),
        np.array(list(due.values()), np.int64),
    )


def play(
    rows: Rows,
    flags: Mapping[int, int],
    *,
    size: int = 10,
    stop_by: int = 0,
    target_by: int = 0,
    trail_by: int = 0,
    tactic: Mapping[int, int] | None = None,
    cash: int = 10_000,
    volume: int = 1_000_000,
    funding: Mapping[int, int] | None = None,
    fields: Mapping[str, Any] | None = None,
    **terms: Any,
) -> Outcome:
    """Play bars (open, high, low, close) with advice by bar."""
    market = market_of(rows, volume=volume, funding=funding, **(fields or {}))
    columns = np.zeros(len(rows), np.uint8)
    for bar, bits in flags.items():
        columns[bar] = bits
    one = [np.array([number], np.int64) for number in (size, stop_by, target_by, trail_by)]
    its_terms = np.zeros(tactics.TERMS, np.int64)
    for slot, number in (tactic or {}).items():
        its_terms[slot] = number
    definition = ScriptedDefinition(MINUTE_NS, its_terms, {"BTC_USDT": Advice(columns, *one)}, {"BTC_USDT": market})
    return run_compiled(Run(definition, [market], Terms(cash_atoms=cash * ATOMS, **terms)))


def fills(outcome: Outcome) -> list[Fill]:
    columns = (outcome.fills.step, outcome.fills.price, outcome.fills.lots)
    return [(int(step), int(price), int(lots)) for step, price, lots in zip(*columns, strict=True)]


def flat(count: int, price: int = 100) -> list[tuple[int, int, int, int]]:
    return [(price, price, price, price)] * count


PATH = [(100, 104, 96, 100), (100, 110, 90, 105), (105, 112, 99, 101), (101, 101, 101, 101)]
LIMIT = {tactics.IS_LIMIT: 1, tactics.OFFSET: 2, tactics.PATIENCE: 2}
IN_THIRDS = 20 * SECOND_NS

CASES: dict[str, tuple[Callable[[], Outcome], list[Fill]]] = {
    "the market fills at the next open": (lambda: play(PATH, {0: LONG, 1: OUT}), [(1, 100, 10), (2, 105, -10)]),
    "a stop fills at its price": (lambda: play(PATH, {0: LONG}, stop_by=7), [(1, 100, 10), (1, 93, -10)]),
    "the stop of a long comes before its target": (
        lambda: play(PATH, {0: LONG}, stop_by=7, target_by=7),
        [(1, 100, 10), (1, 93, -10)],
    ),
    "a target needs a price beyond it": (
        lambda: play(PATH, {0: LONG}, target_by=10),
        [(1, 100, 10), (2, 110, -10)],
    ),
    "an open beyond the stop is the price": (
        lambda: play([*flat(2), (80, 85, 75, 80)], {0: LONG}, stop_by=5),
        [(1, 100, 10), (2, 80, -10)],
    ),
    "an open beyond the target gives no more than the target": (
        lambda: play([*flat(2), (120, 120, 120, 120)], {0: LONG}, target_by=5),
        [(1, 100, 10), (2, 105, -10)],
    ),
    "a limit rests until the price goes through it": (
        lambda: play([*flat(1), (100, 100, 98, 99), (99, 99, 97, 98)], {0: LONG}, tactic=LIMIT),
        [(2, 98, 10)],
    ),
    "a limit that waits too long is given up": (
        lambda: play([*flat(4), (99, 99, 90, 95)], {0: LONG}, tactic=LIMIT),
        [],
    ),
    "a limit that is reached at the open takes": (
        lambda: play([*flat(1), (95, 99, 95, 99)], {0: LONG}, tactic=LIMIT, slippage="fixed", slippage_ppm=100_000),
        [(1, 95, 10)],
    ),
    "slippage is a share of the price": (
        lambda: play(PATH, {0: LONG, 1: OUT}, slippage="fixed", slippage_ppm=15_000),
        [(1, 102, 10), (2, 103, -10)],
    ),
    "slippage is half the spread": (
        lambda: play(PATH, {0: LONG, 1: OUT}, slippage="spread", half_spread_ticks=3),
        [(1, 103, 10), (2, 102, -10)],
    ),
    "slippage grows with the root of the share of volume": (
        lambda: play(flat(3), {0: LONG}, volume=40, slippage="volume", slippage_ppm=100_000),
        [(1, 105, 10)],
    ),
    "a share of the volume is filled, the rest at the next open": (
        lambda: play(flat(4), {0: LONG}, volume=10, volume_share_ppm=450_000),
        [(1, 100, 4), (2, 100, 4), (3, 100, 2)],
    ),
    "latency takes an order to a leg": (
        lambda: play([*flat(1), (100, 112, 88, 100)], {0: LONG}, latency_ns=IN_THIRDS // 2),
        [(1, 106, 10)],
    ),
    "between two ticks the taker loses": (
        lambda: play([*flat(1), (100, 105, 95, 100)], {0: LONG}, latency_ns=IN_THIRDS // 2),
        [(1, 103, 10)],
    ),
    "cash cuts a buy of lots": (
        lambda: play([*flat(1), (110, 110, 110, 110)], {0: LONG}, cash=1_000),
        [(1, 110, 9)],
    ),
    "a share is an amount, spent with the fee at the price of the fill": (
        lambda: play(
            [*flat(1), (50, 50, 50, 50)],
            {0: LONG},
            size=1_000_000,
            tactic={tactics.SIZING: tactics.SIZE_SHARE},
            cash=1_000,
            fields={"quote_fee_ppm": 10_000},
            taker_fee_ppm=10_000,
        ),
        [(1, 50, 18)],
    ),
    "a short turns a perpetual round in one order": (
        lambda: play(flat(4), {0: LONG, 1: SHORT}, fields={"is_perp": True}),
        [(1, 100, 10), (2, 100, -20)],
    ),
    "spot sells what it has, and no more": (lambda: play(flat(4), {0: LONG, 1: SHORT}), [(1, 100, 10), (2, 100, -10)]),
    "a trailing stop follows at closes": (
        lambda: play([*flat(2), (100, 120, 100, 120), (120, 121, 108, 115)], {0: LONG}, trail_by=10),
        [(1, 100, 10), (3, 110, -10)],
    ),
    "bars_max leaves": (
        lambda: play(flat(5), {0: LONG}, tactic={tactics.BARS_MAX: 2}),
        [(1, 100, 10), (3, 100, -10)],
    ),
    "a cool-down bars the way": (
        lambda: play(flat(6), {0: LONG, 1: OUT, 2: LONG, 3: LONG}, tactic={tactics.COOL_DOWN: 2}),
        [(1, 100, 10), (2, 100, -10)],
    ),
    "a long that cannot be carried is liquidated": (
        lambda: play(
            [*flat(2), (100, 100, 80, 90)],
            {0: LONG},
            size=100,
            cash=1_000,
            fields={"is_perp": True},
            leverage=10,
            maintenance_ppm=10_000,
        ),
        [(1, 100, 100), (2, 90, -100)],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bars_make_fills(case: tuple[Callable[[], Outcome], list[Fill]]) -> None:
    outcome, expected = case
    assert fills(outcome()) == expected


REFUSED: dict[str, tuple[Callable[[], Outcome], dict[str, int]]] = {
    "no money, asked with every bar and said once": (
        lambda: play(flat(5), {0: LONG}, cash=999),
        {"INSUFFICIENT_FUNDS": 1},
    ),
    "too few lots": (lambda: play(flat(3), {0: LONG}, fields={"qty_lots_min": 11}), {"MIN_QTY": 1}),
    "too little value": (
        lambda: play(flat(3), {0: LONG}, fields={"notional_atoms_min": 1_001 * ATOMS}),
        {"MIN_NOTIONAL": 1},
    ),
    "no short on spot": (lambda: play(flat(3), {0: SHORT}), {}),
    "no margin": (
        lambda: play(flat(3), {0: SHORT}, cash=999, fields={"is_perp": True}),
        {"INSUFFICIENT_FUNDS": 1},
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_counted(case: tuple[Callable[[], Outcome], dict[str, int]]) -> None:
    outcome, expected = case[0](), case[1]
    assert (dict(outcome.denied), fills(outcome)) == (expected, [])


def test_equity_is_cash_and_positions_at_each_close() -> None:
    outcome = play(PATH, {0: LONG, 1: OUT}, taker_fee_ppm=10_000, fields={"quote_fee_ppm": 10_000})
    assert outcome.equity.tolist() == [10_000.0, 10_000 - 1_010 + 1_050, 10_000 - 1_010 + 1_050 - 10.5, 10_029.5]
    assert outcome.exposure.tolist() == [0.0, 1_050.0, 0.0, 0.0]
    assert outcome.fills.fee.tolist() == [10.0, 10.5]


def test_a_fee_out_of_what_is_received_leaves_fewer_coins() -> None:
    outcome = play(flat(3), {0: LONG}, size=100, taker_fee_ppm=10_000)
    assert (outcome.final_lots, outcome.fills.fee.tolist()) == ((99,), [100.0])
    assert outcome.equity.tolist() == [10_000.0, 9_900.0, 9_900.0]


def test_funding_is_paid_at_the_open_on_what_is_held() -> None:
    outcome = play(flat(4), {0: LONG}, funding={1: 10_000_000, 2: 10_000_000, 3: -5_000_000}, fields={"is_perp": True})
    assert outcome.funding.tolist() == [0.0, 0.0, 10.0, 5.0]
    assert outcome.equity.tolist() == [10_000.0, 10_000.0, 9_990.0, 9_995.0]


def test_a_liquidation_costs_its_fee() -> None:
    outcome = play(
        [*flat(2), (95, 95, 80, 90)],
        {0: LONG},
        size=100,
        cash=1_000,
        fields={"is_perp": True},
        leverage=10,
        maintenance_ppm=10_000,
        liquidation_fee_ppm=10_000,
    )
    assert fills(outcome)[-1] == (2, 90, -100)
    assert outcome.equity[-1] == 1_000 - 1_000 - 90


def test_a_symbol_without_a_bar_keeps_its_last_close() -> None:
    whole = market_of(PATH)
    torn = market_of(PATH, symbol="ETH_USDT")
    torn = torn._replace(candles=type(torn.candles)(*(np.delete(column, 2) for column in torn.candles)))
    markets = {"BTC_USDT": whole, "ETH_USDT": torn}
    script = {
        symbol: Advice(
            np.array([LONG, 0, 0, 0][: len(market.candles.close)], np.uint8),
            *(np.array([number], np.int64) for number in (10, 0, 0, 0)),
        )
        for symbol, market in markets.items()
    }
    definition = ScriptedDefinition(MINUTE_NS, np.zeros(tactics.TERMS, np.int64), script, markets)
    outcome = run_compiled(Run(definition, [whole, torn], Terms(cash_atoms=10_000 * ATOMS)))
    assert outcome.equity.tolist() == [10_000.0, 8_000 + 1_050 + 1_050, 8_000 + 1_010 + 1_050, 8_000 + 1_010 + 1_010]


def test_a_cancelled_run_is_as_long_as_it_was_played() -> None:
    market = market_of(flat(5))
    advice = Advice(np.zeros(5, np.uint8), *(np.zeros(1, np.int64) for _ in range(4)))
    script = ScriptedDefinition(
        MINUTE_NS, np.zeros(tactics.TERMS, np.int64), {"BTC_USDT": advice}, {"BTC_USDT": market}
    )
    run = Run(script, [market], Terms(cash_atoms=ATOMS))
    assert len(run_compiled(run, is_cancelled=lambda: True).equity) == 0


def test_a_summary_is_that_of_the_whole_run() -> None:
    rows = PATH * 5_000
    market = market_of(rows)
    flags = np.zeros(len(rows), np.uint8)
    flags[::7], flags[3::7] = LONG, OUT
    advice = Advice(flags, *(np.array([number], np.int64) for number in (10, 7, 0, 0)))
    script = ScriptedDefinition(
        MINUTE_NS, np.zeros(tactics.TERMS, np.int64), {"BTC_USDT": advice}, {"BTC_USDT": market}
    )
    terms = Terms(cash_atoms=10**6 * ATOMS, taker_fee_ppm=10)
    outcome = run_compiled(Run(script, [market], terms))
    came = summarised(MarketTable([market]), script, terms)
    assert came.curve == summarise(outcome.equity, outcome.cash)
    assert came.denied == outcome.denied
    np.testing.assert_array_equal(came.fills, outcome.fills)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"latency_ns": MINUTE_NS}, "latency"), ({"cash": 0}, "cash"), ({"cash": 10**12}, "cash")],
    ids=["latency", "no-cash", "cash"],
)
def test_terms_out_of_bounds_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        play(flat(2), {}, **change)


def test_markets_that_do_not_go_together_are_refused() -> None:
    market = market_of(flat(2))
    for markets, message in (
        ([], "needs a market"),
        ([market, market], "twice"),
        ([market, market_of(flat(2), symbol="ETH_USDT")._replace(timeframe_ns=2 * MINUTE_NS)], "one length"),
        ([market, market_of(flat(2), symbol="ETH_USDT", quote="EUR")], "quote currency"),
    ):
        with pytest.raises(DataError, match=message):
            MarketTable(markets)
