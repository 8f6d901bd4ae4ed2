"""The two evaluators are one: columns give what a bar at a time gives, to the last bit, and never know the future."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies.advice import Advice, AdviceRow, Candles, Market
from bot.strategies.rules.columns import ColumnCache
from bot.strategies.rules.definition import RuleDefinition
from bot.strategies.rules.document import read_document
from bot.strategies.rules.series import Joiner
from tests.strategies.rules.documents import definition, document
from tests.support.rule_documents import MINUTE_NS, bars_of, random_document, random_market

BTC, ETH = "BTC_USDT", "ETH_USDT"
BARS = 240
BATCH = 25
Markets = dict[str, Market]


def row_of(advice: Advice, row: int) -> AdviceRow:
    return AdviceRow(*(int(column[row] if len(column) > 1 else column[0]) for column in advice))


def stepped(made: RuleDefinition, markets: Mapping[str, Market]) -> list[AdviceRow | None]:
    """Return what an adviser says with each base bar; None without a bar of its own or an opinion."""
    adviser = made.make_adviser(BTC, {symbol: market.instrument for symbol, market in markets.items()})
    joiners = {symbol: Joiner(made.timeframe_ns) for symbol in markets}
    bars = [bar for market in markets.values() for bar in bars_of(market)]
    said: list[AdviceRow | None] = []
    for bar in sorted(bars, key=lambda bar: (bar.ts_ns, bar.symbol != BTC)):
        row: AdviceRow | None = None
        for own in own_bars(joiners[bar.symbol], bar, made.timeframe_ns):
            if bar.symbol == BTC:
                row = adviser.on_bar(own)
            else:
                adviser.hear(own)
        if bar.symbol == BTC:
            said.append(row)
    return said


def own_bars(joiner: Joiner, bar: Bar, timeframe_ns: int) -> list[Bar]:
    return [bar] if bar.timeframe_ns == timeframe_ns else joiner.add(bar)


def two_markets(rng: np.random.Generator, *, gaps: float = 0.0, bars: int = BARS) -> Markets:
    return {symbol: random_market(rng, bars, symbol, gaps=gaps) for symbol in (BTC, ETH)}


def assert_equal(made: RuleDefinition, markets: Markets) -> list[AdviceRow]:
    """Check every row; return those with an opinion."""
    advice = made.advise(BTC, markets)
    rows = stepped(made, markets)
    assert len(advice.flags) == len(rows)
    for place, row in enumerate(rows):
        if row is None:
            assert advice.flags[place] == 0, place
        else:
            assert row_of(advice, place) == row, place
    return [row for row in rows if row is not None]


@pytest.mark.parametrize("batch", range(14))
def test_columns_equal_steps_for_random_documents_and_candles(batch: int) -> None:
    flags: set[int] = set()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        rng = np.random.default_rng(seed)
        made = definition(random_document(rng))
        flags.update(row.flags for row in assert_equal(made, two_markets(rng, gaps=0.1 * (seed % 2))))
    assert len(flags) > 4


def test_columns_equal_steps_where_bars_are_made_of_shorter_ones() -> None:
    count = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, 5])
        made = definition(random_document(rng, timeframe="5m", longer=("15m", "1h")))
        count += len(assert_equal(made, two_markets(rng, gaps=0.3 * (seed % 2), bars=900)))
    assert count > 500


def test_nothing_is_advised_before_the_look_back_and_always_after_it() -> None:
    for seed in range(60):
        rng = np.random.default_rng([seed, 6])
        text = random_document(rng)
        made = definition(text)
        rows = stepped(made, two_markets(rng))
        needs = made.lookback_bars
        assert all(row is None for row in rows[: min(needs, BARS)]) or "vwap" in text or "pivots" in text
        assert all(row is not None for row in rows[needs:])


def other_future(rng: np.random.Generator, markets: Markets, until_ns: int) -> Markets:
    """Return the markets with noise in place of every bar that is not over at `until_ns`."""
    changed: Markets = {}
    for symbol, market in markets.items():
        start = market.candles.start_ns
        is_past = start + market.timeframe_ns <= until_ns
        noise = random_market(rng, len(start), symbol).candles
        columns = (np.where(is_past, old, new) for old, new in zip(market.candles[1:], noise[1:], strict=True))
        changed[symbol] = market._replace(candles=Candles(start, *columns))
    return changed


@pytest.mark.parametrize("batch", range(4))
def test_the_future_changes_no_past_advice(batch: int) -> None:
    differed = 0
    for seed in range(batch * 20, (batch + 1) * 20):
        rng = np.random.default_rng([seed, 7])
        timeframe = ("1m", "5m")[seed % 2]
        made = definition(random_document(rng, timeframe=timeframe, longer=("15m", "1h")))
        markets = two_markets(rng, gaps=0.1 * (seed % 3), bars=600)
        start = markets[BTC].candles.start_ns
        cut = int(rng.integers(len(start) // 2, len(start) - 20))
        changed = other_future(rng, markets, int(start[cut]) + MINUTE_NS)
        before, after = made.advise(BTC, markets), made.advise(BTC, changed)
        for row in range(cut + 1):
            assert row_of(before, row).flags == row_of(after, row).flags, (seed, row)
            assert not before.flags[row] or row_of(before, row) == row_of(after, row), (seed, row)
        differed += not np.array_equal(before.flags[cut + 1 :], after.flags[cut + 1 :])
    assert differed > 3


@pytest.mark.parametrize("scale", [1, 10**12], ids=["tiny", "huge"])
def test_any_candles_are_advised_on(scale: int) -> None:
    """Flat, without volume, of one tick, of enormous prices: rules are total."""
    for seed in range(60):
        rng = np.random.default_rng([seed, 8])
        made = definition(random_document(rng))
        flat = np.full(BARS, scale, np.int64)
        volume = np.zeros(BARS, np.int64)
        start = np.arange(BARS, dtype=np.int64) * MINUTE_NS
        jumps = rng.choice([1, scale], BARS).astype(np.int64)
        markets: Markets = {}
        for symbol, column in ((BTC, jumps), (ETH, flat)):
            market = random_market(rng, 2, symbol)
            markets[symbol] = market._replace(candles=Candles(start, column, column, column, column, volume))
        assert_equal(made, markets)


def test_a_cache_changes_nothing_and_keeps_what_parameters_share() -> None:
    text = document(
        "[params]",
        "n = { default = 3, low = 2, high = 9 }",
        when="sma(close, n) > sma(close, 5) + atr(3)",
        until="close < at('15m', ema(close, n))",
    )
    rng = np.random.default_rng(3)
    markets = {BTC: random_market(rng, 600)}
    cache = ColumnCache(markets)
    small = ColumnCache(markets, bytes_max=4_000)
    for n in (3, 4, 3, 5):
        made = definition(text, n=n)
        plain = made.advise(BTC, markets)
        for kept in (cache, small):
            for ours, theirs in zip(plain, made.advise(BTC, markets, kept), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert 10_000 < cache.bytes < 100_000
    assert small.bytes < 10_000
    with pytest.raises(AssertionError, match="belongs to its markets"):
        definition(text).advise(BTC, dict(markets), cache)


def test_a_size_from_outside_takes_the_place_of_the_documents() -> None:
    markets = {BTC: random_market(np.random.default_rng(1), 30)}
    made = RuleDefinition(read_document(document(timeframe="1m"), "x"), size=(1, 250_000_000))
    advice = made.advise(BTC, markets)
    assert advice.size.tolist() == [250_000_000]
    assert made.terms[0] == 1
    adviser = made.make_adviser(BTC, {BTC: markets[BTC].instrument})
    rows = [adviser.on_bar(bar) for bar in bars_of(markets[BTC])]
    assert [row and row.size for row in rows] == [250_000_000] * 30


def test_who_has_no_stop_distance_does_not_enter() -> None:
    text = document(when="close > 0", until="close < 0", timeframe="1m") + '[stop]\nprice = "sqrt(open - close)"\n'
    market = random_market(np.random.default_rng(2), 50)
    advice = definition(text).advise(BTC, {BTC: market})
    falls = market.candles.close < market.candles.open
    np.testing.assert_array_equal(advice.flags == 1, falls)
    np.testing.assert_array_equal(advice.stop_by > 0, falls)


def test_sizes_and_distances_are_rounded_once_to_the_nearest() -> None:
    tables = '[size]\nkind = "fixed"\nquantity = 0.12345\n[stop]\npercent = 1.00004\n'
    tables += "[target]\nprice = 0.015\n[trail]\natr = 1e-6"
    made = definition(document(timeframe="1m") + tables)
    row = stepped(made, {BTC: random_market(np.random.default_rng(2), 60)})[-1]
    assert row is not None
    assert (row.size, row.stop_by, row.target_by, row.trail_by) == (1234, -10000, 2, 1)  # halves to the even one


def test_other_symbols_are_known_by_the_last_bar_that_began_before() -> None:
    made = definition(document(when=f"of('{ETH}', close) == 7", timeframe="1m"))
    rng = np.random.default_rng(1)
    own, other = random_market(rng, 6), random_market(rng, 6, ETH)
    close = np.array([700, 1, 1, 700, 1, 1])
    candles = other.candles._replace(close=close, open=close, high=close, low=close)
    markets = {BTC: own, ETH: other._replace(candles=candles)}
    assert made.watches == (ETH,)
    advice = made.advise(BTC, markets)
    assert [place for place in range(6) if advice.flags[place] & 1] == [1, 4]
    assert_equal(made, markets)


def test_an_other_symbol_may_be_the_own_one() -> None:
    made = definition(
        document(when=f"of('{BTC}', close) < close", until=f"of('{BTC}', sma(close, 3)) > close", timeframe="1m")
    )
    before = definition(document(when="close[1] < close", until="sma(close, 3)[1] > close", timeframe="1m"))
    markets = {BTC: random_market(np.random.default_rng(4), 80)}
    assert_equal(made, markets)
    np.testing.assert_array_equal(made.advise(BTC, markets).flags, before.advise(BTC, markets).flags)


def test_history_that_comes_late_counts_as_known_when_it_ended() -> None:
    made = definition(document(when=f"of('{ETH}', close) > 0", timeframe="1m"))
    rng = np.random.default_rng(5)
    markets = two_markets(rng, bars=5)
    adviser = made.make_adviser(BTC, {symbol: market.instrument for symbol, market in markets.items()})
    rows: list[AdviceRow | None] = []
    for other, own in zip(bars_of(markets[ETH]), bars_of(markets[BTC]), strict=True):
        adviser.hear(replaced(other, own.ts_ns + 10**12))
        rows.append(adviser.on_bar(replaced(own, own.ts_ns + 10**12)))
    assert [row is not None for row in rows] == [False, True, True, True, True]


def replaced(bar: Bar, ts_ns: int) -> Bar:
    return Bar(
        **{name: getattr(bar, name) for name in Bar.__struct_fields__ if name not in ("ts_ns", "is_history")},
        ts_ns=ts_ns,
        is_history=True,
    )


def test_the_clock_is_that_of_the_end_of_the_bar() -> None:
    made = definition(document(when="hour == 0 and minute == 2 and weekday == 1", timeframe="1m"))
    advice = made.advise(BTC, {BTC: random_market(np.random.default_rng(1), 5)})
    assert np.flatnonzero(advice.flags & 1).tolist() == [1]  # 2024-01-01 was a Monday


def test_weeks_begin_on_mondays() -> None:
    week_ns = 7 * 24 * 60 * MINUTE_NS
    made = definition(document(when="close > at('1w', open)", timeframe="1d"))
    market = random_market(np.random.default_rng(1), 30, timeframe_ns=week_ns // 7)
    assert made.lookback_bars == 6
    rows = stepped(made, {BTC: market})
    assert [row is None for row in rows[:8]] == [True] * 6 + [False] * 2
    assert_equal(made, {BTC: market})


def test_a_market_that_is_missing_or_too_coarse_is_named() -> None:
    market = random_market(np.random.default_rng(1), 5)
    with pytest.raises(SettingsError, match="XRP_USDT: the strategy needs its candles, and there are none"):
        definition(document(when="of('XRP_USDT', close) > 0", timeframe="1m")).advise(BTC, {BTC: market})
    with pytest.raises(SettingsError, match="BTC_USDT: bars of 1m cannot be made into bars of 30s"):
        definition(document(timeframe="30s")).advise(BTC, {BTC: market})
