"""Kernel strategies: a column of shares is what the steps say, and shares become advice when they change."""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.core import tactics as t
from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies import kernels as k
from bot.strategies.advice import AdviceRow, Market
from bot.strategies.base import Strategy
from bot.strategies.crossover import Crossover, CrossoverSettings
from bot.strategies.mean_reversion import MeanReversion, MeanReversionSettings
from bot.strategies.rules.series import Joiner
from tests.support.rule_documents import MINUTE_NS, bars_of, random_market

Floats = NDArray[np.float64]
LONG, SHORT = t.ENTER_LONG | t.EXIT_SHORT, t.ENTER_SHORT | t.EXIT_LONG
FLAT = t.EXIT_LONG | t.EXIT_SHORT
SIZE = (t.SIZE_QUOTE, 1_000_000_000)


class EmaParams(msgspec.Struct, frozen=True):
    """One average."""

    window: int = 5
    is_short: bool = False


@k.share_step
def ema_step(params: Floats, state: Floats, bar: Floats) -> float:
    """Long above the average, half short below it if asked for."""
    if state[1] == 0.0:
        state[0] = bar[k.CLOSE]
    state[1] += 1.0
    state[0] += (bar[k.CLOSE] - state[0]) * 2.0 / (params[0] + 1.0)
    if bar[k.CLOSE] > state[0]:
        return 1.0
    return -0.5 * params[1]


def two_numbers(params: Floats) -> Floats:
    """Return the average and the count."""
    return np.zeros(2)


EMA = k.KernelStrategy(EmaParams, ema_step, two_numbers, lambda params: int(params[0]))


def ema(window: int = 5, timeframe_ns: int = MINUTE_NS, *, is_short: bool = False) -> k.KernelDefinition:
    return k.KernelDefinition(EMA, EmaParams(window, is_short), timeframe_ns=timeframe_ns, size=SIZE)


def crossover(fast: int, slow: int, timeframe_ns: int = MINUTE_NS) -> k.KernelDefinition:
    params = k.CrossoverParams(fast=fast, slow=slow)
    return k.KernelDefinition(k.CROSSOVER, params, timeframe_ns=timeframe_ns, size=SIZE)


def reversion(window: int) -> k.KernelDefinition:
    params = k.MeanReversionParams(window=window, entry_z=1.2, exit_z=0.1)
    return k.KernelDefinition(k.MEAN_REVERSION, params, timeframe_ns=MINUTE_NS, size=SIZE)


def stepped(made: k.KernelDefinition, bars: list[Bar]) -> list[AdviceRow | None]:
    adviser = made.make_adviser("BTC_USDT", {})
    return [adviser.on_bar(bar) for bar in bars]


def column_rows(made: k.KernelDefinition, market: Market) -> list[AdviceRow]:
    advice = made.advise("BTC_USDT", {"BTC_USDT": market})
    stays = [column for column in advice if len(column) == 1]
    assert all(column.tolist() == [0] for column in stays)
    return [
        AdviceRow(flags, size, 0, 0, 0) for flags, size in zip(advice.flags.tolist(), advice.size.tolist(), strict=True)
    ]


MADE = {
    "ema": ema,
    "ema, short too": lambda: ema(7, is_short=True),
    "crossover": lambda: crossover(3, 8),
    "crossover of one bar": lambda: crossover(1, 2),
    "reversion": lambda: reversion(6),
}


@pytest.mark.parametrize("name", MADE)
def test_columns_equal_steps(name: str) -> None:
    made = MADE[name]()
    for seed in range(5):
        market = random_market(np.random.default_rng(seed), 300)
        rows = stepped(made, bars_of(market))
        assert all(row is None for row in rows[: made.lookback_bars])
        assert column_rows(made, market) == [row or AdviceRow(0, 0, 0, 0, 0) for row in rows]
        assert len({row.flags for row in rows if row}) > 1


def test_longer_bars_are_made_of_whole_shorter_ones() -> None:
    made = ema(4, 5 * MINUTE_NS)
    market = random_market(np.random.default_rng(3), 400, gaps=0.2)
    joiner, adviser = Joiner(5 * MINUTE_NS), made.make_adviser("BTC_USDT", {})
    rows: list[AdviceRow] = []
    for bar in bars_of(market):
        said = [adviser.on_bar(own) for own in joiner.add(bar)]
        last = said[-1] if said else None
        rows.append(last or AdviceRow(0, 0, 0, 0, 0))
    assert column_rows(made, market) == rows


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 6))
def test_the_crossover_kernel_decides_as_the_class(closes: list[int], fast: int, more: int) -> None:
    settings = CrossoverSettings(timeframe="1m", notional=1, fast=fast, slow=fast + more)
    assert_same(crossover(fast, fast + more), Crossover(settings), closes)


@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=60), st.integers(4, 6), st.integers(1, 6))
def test_prices_too_high_to_multiply_are_divided_as_the_class_does(closes: list[int], fast: int, more: int) -> None:
    high = [2**48 + 2**27 * close for close in closes]
    assert min(high) * fast * (fast + more) > k.EXACT
    settings = CrossoverSettings(timeframe="1m", notional=1, fast=fast, slow=fast + more)
    assert_same(crossover(fast, fast + more), Crossover(settings), high)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 6))
def test_the_crossover_column_is_what_exact_averages_say(closes: list[int], fast: int, more: int) -> None:
    slow = fast + more
    market = random_market(np.random.default_rng(0), len(closes))
    column = market.candles._replace(close=np.array(closes, np.int64))
    expected: list[float | None] = [None] * min(slow - 1, len(closes))
    for end in range(slow, len(closes) + 1):
        averages = [Fraction(sum(closes[end - window : end]), window) for window in (fast, slow)]
        expected.append(float(averages[0] > averages[1]))
    shares = crossover(fast, slow).shares(column).tolist()
    assert [None if math.isnan(share) else share for share in shares] == expected


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(2, 8))
def test_the_mean_reversion_kernel_decides_as_the_class(closes: list[int], window: int) -> None:
    settings = MeanReversionSettings(timeframe="1m", notional=1, window=window, entry_z=1.2, exit_z=0.1)
    assert_same(reversion(window), MeanReversion(settings), closes)


def assert_same(made: k.KernelDefinition, strategy: Strategy, closes: list[int]) -> None:
    market = random_market(np.random.default_rng(0), len(closes))
    column = np.array(closes, np.int64)
    market = market._replace(candles=market.candles._replace(close=column))
    wanted = [strategy.on_bar(bar) for bar in bars_of(market)]
    shares = made.shares(market.candles).tolist()
    assert [None if math.isnan(share) else share for share in shares] == wanted


@pytest.mark.parametrize(
    ("shares", "flags", "sizes"),
    [
        ([math.nan, 0.0, 0.0], [0, FLAT, 0], [0, 0, 0]),
        ([1.0, 1.0, math.nan, 1.0], [LONG, 0, 0, 0], [100, 100, 0, 100]),
        ([0.5, 0.25, 0.0], [LONG, LONG | t.RESIZE, FLAT], [50, 25, 0]),
        ([-1.0, -0.5, 0.005], [SHORT, SHORT | t.RESIZE, LONG], [100, 50, 1]),
    ],
)
def test_a_share_is_advice_when_it_changes(shares: list[float], flags: list[int], sizes: list[int]) -> None:
    said, size = np.zeros(len(shares), np.uint8), np.zeros(len(shares), np.int64)
    assert k.advise_shares(np.array(shares), 100, said, size) == -1
    assert said.tolist() == flags
    assert size.tolist() == sizes


def test_history_warms_up_and_the_first_bar_of_a_session_says_all_anew() -> None:
    made = ema(2)
    bars = bars_of(random_market(np.random.default_rng(3), 30))
    adviser = made.make_adviser("BTC_USDT", {})
    for bar in bars[:20]:
        adviser.on_bar(msgspec.structs.replace(bar, is_history=True))
    row = adviser.on_bar(bars[20])
    assert row is not None
    assert row.flags in (LONG, FLAT)


class FreeParams(msgspec.Struct, frozen=True):
    """A share to want."""

    share: float = 2.0


@k.share_step
def free_step(params: Floats, state: Floats, bar: Floats) -> float:
    """Want what was asked for."""
    return params[0]


def test_a_share_of_more_than_all_is_refused() -> None:
    strategy = k.KernelStrategy(FreeParams, free_step, two_numbers, lambda _: 0)
    made = k.KernelDefinition(strategy, FreeParams(), timeframe_ns=MINUTE_NS, size=SIZE)
    market = random_market(np.random.default_rng(1), 3)
    with pytest.raises(ValueError, match=r"a share of 2\.0, which is not in -1\.0 to 1\.0"):
        made.advise("BTC_USDT", {"BTC_USDT": market})
    with pytest.raises(ValueError, match=r"a share of 2\.0, which is not in -1\.0 to 1\.0"):
        made.make_adviser("BTC_USDT", {}).on_bar(bars_of(market)[0])


def test_terms_are_a_size_at_the_market() -> None:
    assert ema().terms.tolist() == [t.SIZE_QUOTE, 0, 0, 1, 0, 0, 0]
    assert ema().watches == ()
    assert ema(9).lookback_bars == 9
    assert crossover(3, 8).lookback_bars == 7


def test_parameters_are_those_of_the_record() -> None:
    assert k.params_of(EMA, {"window": 7}, "x.py: EMA") == EmaParams(7)
    with pytest.raises(SettingsError, match=r"x.py: EMA: has no parameter windw, only window, is_short"):
        k.params_of(EMA, {"windw": 7}, "x.py: EMA")
    with pytest.raises(SettingsError, match=r"x.py: EMA: Expected `int`, got `str` - at `\$.window`"):
        k.params_of(EMA, {"window": "7"}, "x.py: EMA")
    with pytest.raises(SettingsError, match="must be a EmaParams, not FreeParams"):
        k.KernelDefinition(EMA, FreeParams(), timeframe_ns=MINUTE_NS, size=SIZE)
