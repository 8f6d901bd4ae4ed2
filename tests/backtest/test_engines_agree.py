"""The two engines trade alike: on random documents, on every bundled one, and whatever comes later."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.compiled import run_compiled
from bot.backtest.exact import run_exact
from bot.backtest.made import made_market
from bot.core.instrument import ATOMS
from bot.core.messages import SECOND_NS
from bot.strategies import AnyStrategySettings
from bot.strategies.advice import Market
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.definition import definition_of, templates_folder
from bot.strategies.mean_reversion import MeanReversionSettings
from bot.strategies.rules.definition import RuleDefinition
from bot.strategies.rules.document import read_document
from tests.support.candle_runs import random_terms
from tests.support.rule_documents import random_document, random_market

MINUTE_NS = 60 * SECOND_NS
SYMBOLS = ("BTC_USDT", "ETH_USDT")
DOCUMENTS = 520
GROUP = 20
"""Documents in one test: enough that xdist can share them out."""
BARS = 150
FEES = Terms(cash_atoms=10_000 * ATOMS, maker_fee_ppm=1_000, taker_fee_ppm=2_000, leverage=3)


def assert_same(exact: Outcome, compiled: Outcome) -> None:
    """Orders, fills and refusals are equal, money to 1e-9."""
    pairs = zip(exact.fills, compiled.fills, strict=True)
    for name, (ours, theirs) in zip(exact.fills._fields, pairs, strict=True):
        if name == "fee":
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
        else:
            assert ours.tolist() == theirs.tolist(), name
    assert exact.equity == pytest.approx(compiled.equity, rel=1e-9)
    assert exact.funding[-1] == pytest.approx(compiled.funding[-1], rel=1e-9, abs=1e-12)
    assert (dict(exact.denied), exact.final_lots) == (dict(compiled.denied), compiled.final_lots)


def compared(run: Run) -> Outcome:
    """Return what both engines say."""
    exact, compiled = run_exact(run), run_compiled(run)
    assert_same(exact, compiled)
    return exact


def random_case(seed: int) -> tuple[str, Run]:
    """Return a random document and all that it is run on."""
    rng = np.random.default_rng(seed)
    side = ("long", "short", "both")[seed % 3]
    timeframe = "1m" if seed % 4 else "5m"
    text = random_document(rng, timeframe=timeframe, longer=("15m", "1h"), others=SYMBOLS[1:], side=side)
    markets = [random_market(rng, BARS, symbol, gaps=0.05 if seed % 2 else 0.0) for symbol in SYMBOLS]
    if side != "long":  # only perpetuals can be sold short
        markets = [as_perpetual(market, rng) for market in markets]
    definition = RuleDefinition(read_document(text, f"document {seed}"))
    return text, Run(definition, markets, random_terms(rng))


def as_perpetual(market: Market, rng: np.random.Generator) -> Market:
    """Return a perpetual with the same candles, and funding four times."""
    starts = market.candles.start_ns
    return market._replace(
        instrument=msgspec.structs.replace(market.instrument, is_perp=True, quote_fee_ppm=0),
        funding_ns=starts[:: len(starts) // 4].copy(),
        funding_ppb=rng.integers(-200_000, 200_000, len(starts[:: len(starts) // 4])),
    )


@pytest.mark.parametrize("first", range(0, DOCUMENTS, GROUP))
def test_random_documents_trade_alike_in_both_engines(first: int) -> None:
    fills = 0
    for seed in range(first, first + GROUP):
        text, run = random_case(seed)
        try:
            fills += len(compared(run).fills.step)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}:\n{text}") from error
    assert fills > GROUP


TEMPLATES = sorted(path.stem for path in templates_folder().glob("*.toml"))
KINDS: dict[str, AnyStrategySettings] = {
    "crossover": CrossoverSettings(timeframe="1m", notional=3_000, fast=5, slow=20),
    "mean_reversion": MeanReversionSettings(timeframe="1m", notional=3_000, window=20, entry_z=1.5),
}


def bundled(name: str) -> Run:
    """Return a bundled strategy on made-up markets: perpetuals, if it sells short."""
    if name in KINDS:
        definition = definition_of(KINDS[name])
        assert definition is not None
        return Run(definition, (made_market(bars=3_000, seed=5, timeframe_ns=MINUTE_NS),), FEES)
    path = templates_folder() / f"{name}.toml"
    document = read_document(path.read_bytes(), path.name)
    definition = RuleDefinition(document)
    markets = [
        made_market(symbol, bars=3_000, seed=number, timeframe_ns=definition.timeframe_ns)
        for number, symbol in enumerate(dict.fromkeys(("BTC_USDT", *definition.watches)), start=1)
    ]
    if "entry.short" in path.read_text():
        markets = [as_perpetual(market, np.random.default_rng(7)) for market in markets]
    return Run(definition, markets, FEES)


@pytest.mark.parametrize("name", [*KINDS, *TEMPLATES])
def test_every_bundled_strategy_trades_alike_in_both_engines(name: str) -> None:
    assert len(compared(bundled(name)).fills.step) > 3


@pytest.mark.parametrize("name", [*KINDS, *TEMPLATES])
def test_what_comes_later_changes_no_trade_of_a_bundled_strategy(name: str) -> None:
    assert_blind(bundled(name))


@pytest.mark.parametrize("first", range(1_000, 1_060, GROUP))
def test_what_comes_later_changes_no_trade_of_random_documents(first: int) -> None:
    for seed in range(first, first + GROUP):
        assert_blind(random_case(seed)[1])


def assert_blind(run: Run) -> None:
    """Both engines do the same up to a cut, whatever stands in the candles after it."""
    times = np.unique(np.concatenate([market.candles.start_ns for market in run.markets]))
    cut = len(times) * 2 // 3
    other = run._replace(markets=[with_noise(market, times[cut]) for market in run.markets])
    for play in (run_exact, run_compiled):
        first, second = play(run), play(other)
        assert first.equity[:cut].tolist() == second.equity[:cut].tolist()
        known = [[column[fills.step < cut].tolist() for column in fills] for fills in (first.fills, second.fills)]
        assert known[0] == known[1]


def with_noise(market: Market, from_ns: int) -> Market:
    """Return the market with other candles from a time on."""
    candles = market.candles
    later = candles.start_ns >= from_ns
    rng = np.random.default_rng(3)
    moved = {name: getattr(candles, name).copy() for name in ("open", "high", "low", "close", "volume")}
    shift = rng.integers(1, 400, len(later))
    for name, column in moved.items():
        column[later] = column[later] + (shift[later] if name != "volume" else 17)
    moved["high"][later] += 50
    return market._replace(candles=candles._replace(**moved))
