from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.backtest import trades
from bot.backtest.base import ROLES, Outcome
from bot.backtest.trades import OPEN, Trades, excursions, final_price_ticks, round_trips
from bot.strategies.advice import Market
from tests.support.builders import ETH, instrument
from tests.support.outcomes import DAY_NS, START_NS, FillRow, market, outcome, perp, traded

CLOSES = [100, 110, 120, 90, 95, 100]
Row = tuple[int, int, int, int, float, float, float, float]


def trips(fills: list[FillRow], closes: list[int] = CLOSES) -> Trades:
    return round_trips(*traded(closes, fills))


def rows(found: Trades) -> list[Row]:
    """Side, entry step, exit step, lots, entry price, exit price, gross, fees."""
    columns = (
        found.side,
        found.entry_step,
        found.exit_step,
        found.lots,
        found.entry_price,
        found.exit_price,
        found.gross,
        found.fees,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        pytest.param([], [], id="no-fill"),
        pytest.param(
            [(0, 100, 2, 1.0), (2, 120, -2, 1.5)], [(1, 0, 2, 2, 100.0, 120.0, 40.0, 2.5)], id="long-and-back"
        ),
        pytest.param([(1, 110, -3), (3, 90, 3)], [(-1, 1, 3, 3, 110.0, 90.0, 60.0, 0.0)], id="short-and-back"),
        pytest.param([(0, 100, 1), (1, 110, 1), (2, 120, -2)], [(1, 0, 2, 2, 105.0, 120.0, 30.0, 0.0)], id="scaled-in"),
        pytest.param(
            [(0, 100, 2), (1, 110, -1), (2, 120, -1)], [(1, 0, 2, 2, 100.0, 115.0, 30.0, 0.0)], id="scaled-out"
        ),
        pytest.param(
            [(0, 100, 1, 1.0), (1, 110, -4, 4.0), (3, 90, 3, 3.0)],
            [(1, 0, 1, 1, 100.0, 110.0, 10.0, 2.0), (-1, 1, 3, 3, 110.0, 90.0, 60.0, 6.0)],
            id="turned-round-with-the-fee-split-by-lots",
        ),
        pytest.param([(3, 90, 2, 0.5)], [(1, 3, 5, 2, 90.0, 100.0, 20.0, 0.5)], id="open-at-the-final-price"),
        pytest.param([(0, 100, 4), (1, 110, -1)], [(1, 0, 5, 4, 100.0, 102.5, 10.0, 0.0)], id="open-and-partly-sold"),
        pytest.param([(1, 100, 1), (1, 110, -1)], [(1, 1, 1, 1, 100.0, 110.0, 10.0, 0.0)], id="inside-one-step"),
    ],
)
def test_a_trade_opens_when_a_position_leaves_zero_and_ends_when_it_is_back(
    fills: list[FillRow], expected: list[Row]
) -> None:
    assert rows(trips(fills)) == expected


def test_the_role_of_the_last_fill_is_that_of_the_trade() -> None:
    found = trips([(0, 100, 1), (1, 90, -1, 0.0, "stop"), (2, 100, -1), (3, 90, 1, 0.0, "profit"), (4, 95, 1)])
    assert found.exit_role.tolist() == [ROLES.index("stop"), ROLES.index("profit"), OPEN]
    assert found.is_open.tolist() == [False, False, True]


def test_returns_are_net_profit_over_entry_notional() -> None:
    found = trips([(0, 100, 2, 4.0), (2, 120, -2, 6.0)])
    assert found.net.tolist() == [30.0]
    assert found.returns.tolist() == [0.15]
    assert found.bars.tolist() == [2]


def test_symbols_are_kept_apart_and_trades_come_in_the_order_of_their_ends() -> None:
    run = outcome(
        [1000.0] * 4,
        [(0, 100, 1), (0, 10, -5), (1, 8, 5), (2, 130, -1)],
        instruments=[perp(), perp(ETH)],
        symbols=[0, 1, 1, 0],
    )
    found = round_trips(run, [market([100] * 4), market([10] * 4, of=perp(ETH))])
    assert found.symbol.tolist() == [1, 0]
    assert found.gross.tolist() == [10.0, 30.0]


def test_prices_and_money_are_in_quote_currency_whatever_the_steps_of_the_market() -> None:
    fine = perp(price_scale=2, quantity_scale=4)
    found = round_trips(*traded([10_000, 11_000], [(0, 10_000, 5_000), (1, 11_000, -5_000)], of=fine))
    assert found.entry_price.tolist() == [100.0]
    assert found.exit_price.tolist() == [110.0]
    assert found.notional.tolist() == [50.0]
    assert found.gross.tolist() == [5.0]


def test_sums_that_pass_64_bits_do_not_wrap() -> None:
    huge = perp(price_scale=8, quantity_scale=8)
    ticks, lots = 100_000 * 10**8, 50 * 10**8
    found = round_trips(*traded([ticks, ticks + 10**8], [(0, ticks, lots), (1, ticks + 10**8, -lots)], of=huge))
    assert found.notional.tolist() == [5_000_000.0]
    assert found.gross.tolist() == [50.0]


def test_fees_in_coins_leave_dust_that_ends_the_trade() -> None:
    """1000 lots bought, 2.5 of them kept as the fee; 997 sold: half a lot stays."""
    spot = instrument(quantity_scale=3, qty_lots_min=10)
    run = outcome([1000.0] * 3, [(0, 100, 1000, 0.25), (2, 120, -997, 0.1)], instruments=[spot])
    found = round_trips(run, [market([100, 110, 120], of=spot)])
    assert found.is_open.tolist() == [False]
    cash, dust = -100.0 + 0.997 * 120 - 0.1, 0.0005 * 120
    assert found.net.tolist() == [pytest.approx(cash + dust, rel=1e-12)]
    assert found.fees.tolist() == [pytest.approx(0.35)]


def test_dust_of_many_trades_never_looks_like_a_position() -> None:
    spot = instrument(quantity_scale=3, qty_lots_min=2)
    rows: list[FillRow] = []
    kept = 0.0
    for step in range(0, 400, 2):
        kept += 1000 - 2.3
        rows += [(step, 100, 1000, 0.23), (step + 1, 100, -int(kept), 0.1)]
        kept -= int(kept)
    found = round_trips(outcome([1.0] * 400, rows, instruments=[spot]), [market([100] * 400, of=spot)])
    assert len(found.side) == 200
    assert not found.is_open.any()


def test_the_final_price_is_that_of_the_last_bar_of_the_run() -> None:
    candles = market([100, 110, 120]).candles
    assert final_price_ticks(candles, START_NS + DAY_NS) == 110
    assert final_price_ticks(candles, START_NS - 1) == 0


def test_excursions_span_the_bars_from_entry_to_exit() -> None:
    run, markets = traded([100, 110, 80, 100, 130, 100], [(0, 100, 1), (2, 80, -1), (3, 100, -1), (5, 100, 1)])
    moved = excursions(round_trips(run, markets), run, markets)
    assert moved.favourable.tolist() == pytest.approx([0.1, 0.2])  # the short's entry bar reaches down to 80
    assert moved.adverse.tolist() == pytest.approx([0.2, 0.3])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Outcome, list[Market]]:
    closes = draw(st.lists(st.integers(50, 150), min_size=2, max_size=30))
    fills: list[FillRow] = []
    for step in sorted(draw(st.lists(st.integers(0, len(closes) - 1), max_size=30))):
        lots = draw(st.integers(-5, 5).filter(bool))
        fills.append((step, draw(st.integers(50, 150)), lots, draw(st.integers(0, 8)) / 4))
    return traded(closes, fills, cash=100_000.0)


@given(histories())
def test_profits_of_all_trades_are_the_change_of_equity(history: tuple[Outcome, list[Market]]) -> None:
    run, markets = history
    found = round_trips(run, markets)
    assert float(np.sum(found.net)) == pytest.approx(float(run.equity[-1]) - run.cash, abs=1e-6)
    assert float(np.sum(found.fees)) == pytest.approx(float(np.sum(run.fills.fee)), abs=1e-9)
    open_lots = found.side[found.is_open]
    assert len(open_lots) == sum(lots != 0 for lots in run.final_lots)


@given(histories())
def test_trades_of_one_symbol_follow_each_other(history: tuple[Outcome, list[Market]]) -> None:
    found = round_trips(*history)
    assert (found.exit_step >= found.entry_step).all()
    assert (found.entry_step[1:] >= found.exit_step[:-1]).all()
    assert (found.lots > 0).all()


@given(histories())
def test_the_kernel_gives_the_same_bits_as_plain_python(history: tuple[Outcome, list[Market]]) -> None:
    compiled = round_trips(*history)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_walk", "_book", "_write"):
            kernel = getattr(trades, name)
            patch.setattr(trades, name, getattr(kernel, "py_func", kernel))
        plain = round_trips(*history)
    for mine, theirs in zip(compiled, plain, strict=True):
        assert mine.tobytes() == theirs.tobytes()
