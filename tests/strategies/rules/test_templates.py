"""The documents that come with the bot: each is right, decides alike in both ways, and says what it does."""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from bot.config import load_settings
from bot.core.durations import duration_text
from bot.strategies.advice import Candles, Market
from bot.strategies.definition import templates_folder
from bot.strategies.rules.definition import RuleDefinition, check_document
from bot.strategies.rules.describing import describe
from bot.strategies.rules.document import Document, read_document
from tests.strategies.rules.test_agreement import other_future, row_of
from tests.support.rule_documents import bars_of, instrument, random_market

REAL = Path(__file__).parents[3].parent / "shared" / "candles" / "XRP_USDT_PERP-5m.csv.gz"
HISTORY = load_settings([], {}, []).feed.history_bars
LOOKBACKS = {
    "bollinger_squeeze": 139,
    "donchian_breakout": 20,
    "kelly_trend": 168,
    "macd_two_timeframes": 239,
    "momentum_volatility_target": 30,
    "pair_filter": 72,
    "rsi_pullback": 204,
    "supertrend": 48,
    "trend_crossover": 50,
    "zscore_reversion": 47,
}


def template(name: str) -> Document:
    path = templates_folder() / f"{name}.toml"
    return read_document(path.read_bytes(), path.name)


def test_every_template_is_here() -> None:
    assert sorted(path.stem for path in templates_folder().glob("*.toml")) == sorted(LOOKBACKS)


@pytest.mark.parametrize("name", LOOKBACKS)
def test_a_template_is_right_and_looks_back_as_told(name: str) -> None:
    document = template(name)
    check_document(document)
    assert RuleDefinition(document).lookback_bars == LOOKBACKS[name]


@pytest.mark.parametrize("name", LOOKBACKS)
def test_a_template_decides_alike_by_the_column_and_by_the_bar(name: str) -> None:
    made = RuleDefinition(template(name))
    rng = np.random.default_rng(11)
    markets = {
        symbol: random_market(rng, 1_500, symbol, timeframe_ns=made.timeframe_ns, gaps=0.02)
        for symbol in ("ETH_USDT", *made.watches)
    }
    assert entries_of(made, "ETH_USDT", markets) > 0


@pytest.mark.parametrize("name", LOOKBACKS)
def test_the_future_changes_no_past_advice_of_a_template(name: str) -> None:
    made = RuleDefinition(template(name))
    rng = np.random.default_rng(12)
    markets = {
        symbol: random_market(rng, 900, symbol, timeframe_ns=made.timeframe_ns)
        for symbol in ("ETH_USDT", *made.watches)
    }
    cut = 700
    changed = other_future(rng, markets, int(markets["ETH_USDT"].candles.start_ns[cut]) + made.timeframe_ns)
    before, after = made.advise("ETH_USDT", markets), made.advise("ETH_USDT", changed)
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours[: cut + 1], theirs[: cut + 1])
    assert not np.array_equal(before.flags[cut + 1 :], after.flags[cut + 1 :])


@pytest.mark.parametrize("name", LOOKBACKS)
def test_F115_a_longer_warm_up_changes_no_decision_of_a_template(name: str) -> None:
    made = RuleDefinition(template(name))
    rng = np.random.default_rng(13)
    once, live = max(HISTORY, made.lookback_bars), 300
    markets = {
        symbol: random_market(rng, 4 * once + live, symbol, timeframe_ns=made.timeframe_ns)
        for symbol in ("ETH_USDT", *made.watches)
    }
    flags = [
        made.advise("ETH_USDT", {symbol: newest(market, times * once + live) for symbol, market in markets.items()})
        .flags[-live:]
        .tolist()
        for times in (1, 2, 4)
    ]
    assert flags[0] == flags[1] == flags[2]
    assert any(flags[0])


def newest(market: Market, count: int) -> Market:
    """Return the market as who asked for its last bars only."""
    return market._replace(candles=Candles(*(column[-count:] for column in market.candles)))


@pytest.mark.skipif(not REAL.is_file(), reason="no real candles beside the repository")
@pytest.mark.parametrize("name", LOOKBACKS)
def test_a_template_decides_alike_on_real_candles(name: str) -> None:
    market = real_market()
    made = RuleDefinition(template(name), timeframe_ns=market.timeframe_ns)
    others = {symbol: market._replace(instrument=instrument(symbol, price_scale=4)) for symbol in made.watches}
    assert entries_of(made, "XRP_USDT", {"XRP_USDT": market, **others}) >= 0


def entries_of(made: RuleDefinition, symbol: str, markets: dict[str, Market]) -> int:
    """Check that steps say what the columns say; return how often an entry was advised."""
    advice = made.advise(symbol, markets)
    adviser = made.make_adviser(symbol, {name: market.instrument for name, market in markets.items()})
    bars = [bar for market in markets.values() for bar in bars_of(market)]
    place = 0
    for bar in sorted(bars, key=lambda bar: (bar.ts_ns, bar.symbol != symbol)):
        if bar.symbol != symbol:
            adviser.hear(bar)
            continue
        row = adviser.on_bar(bar)
        if row is None:
            assert advice.flags[place] == 0
        else:
            assert row_of(advice, place) == row
        place += 1
    assert place == len(advice.flags)
    return int(np.count_nonzero(advice.flags & 5))


def real_market() -> Market:
    """Return five-minute candles of a perpetual, in ticks of 0.0001 and lots of one coin."""
    with gzip.open(REAL, "rt") as file:
        rows = list(csv.DictReader(file))
    columns = [[int(Decimal(row[name]).scaleb(4)) for row in rows] for name in ("open", "high", "low", "close")]
    start = np.array([int(row["time"]) * 1_000_000 for row in rows], np.int64)
    volume = np.array([int(Decimal(row["volume"])) for row in rows], np.int64)
    none = np.empty(0, np.int64)
    opened, high, low, close = (np.array(column, np.int64) for column in columns)
    market = instrument("XRP_USDT", price_scale=4, quantity_scale=0)
    return Market(market, 300 * 10**9, Candles(start, opened, high, low, close, volume), none, none)


@pytest.mark.parametrize("name", LOOKBACKS)
def test_a_description_says_what_matters(name: str) -> None:
    document = template(name)
    said = describe(document)
    assert said.startswith(document.name)
    assert duration_text(document.timeframe_ns) in said
    assert f"needs {LOOKBACKS[name]} bars" in said
    for expression in (*document.entries.values(), *document.exits.values(), *document.lets.values()):
        assert expression.text in said
    for param in document.params:
        assert f"Parameter {param.name} = {param.default:g}; {param.low:g} to {param.high:g}" in said


def test_a_description_in_full() -> None:
    assert describe(template("bollinger_squeeze")) == (
        "Bollinger squeeze\n"
        "Enters with a limit order after the bands were narrow and the close leaves them upward.\n"
        "Decides at the close of each 15m bar; needs 139 bars (1d10h45m) before.\n"
        "bands is bollinger(close, window, width).\n"
        "spread is (bands.upper - bands.lower) / bands.middle.\n"
        "was_quiet is spread[1] <= lowest(spread, quiet)[1] * 1.25.\n"
        "Goes long when was_quiet and close > bands.upper.\n"
        "Leaves a long position when close < bands.middle.\n"
        "Uses 30 % of equity.\n"
        "Enters with a limit order, 0.1 % better than the close, for 4 bars.\n"
        "Stops a loss 2 % from the entry.\n"
        "Takes a profit 5 % from the entry.\n"
        "Parameter window = 20; 10 to 60 in steps of 5.\n"
        "Parameter width = 2; 1 to 3 in steps of 0.25.\n"
        "Parameter quiet = 120; 40 to 400 in steps of 40."
    )
