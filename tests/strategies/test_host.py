"""Bars go to the strategies that watch them; what they want becomes whole lots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bot.core import messages as m
from bot.core.durations import duration_ns
from bot.strategies import KINDS, AnyStrategySettings, make_strategy
from bot.strategies.base import Strategy
from bot.strategies.crossover import Crossover, CrossoverSettings
from bot.strategies.host import StrategyHost
from bot.strategies.mean_reversion import MeanReversionSettings
from tests.support.builders import BTC, ETH, NOW_NS, all_of, listed, quote, say

FAST = CrossoverSettings(timeframe="1s", notional=1_000, fast=1, slow=2)


def bar(close: int, *, symbol: str = BTC, timeframe: str = "1s", is_history: bool = False) -> m.Bar:
    return m.Bar(
        ts_ns=NOW_NS,
        symbol=symbol,
        timeframe_ns=duration_ns(timeframe),
        start_ns=NOW_NS,
        open_ticks=close,
        high_ticks=close,
        low_ticks=close,
        close_ticks=close,
        volume_lots=1,
        is_history=is_history,
    )


def host(
    settings: Mapping[str, AnyStrategySettings] | None = None, symbols: Sequence[str] = (BTC, ETH)
) -> StrategyHost:
    made = StrategyHost(settings or {"one": FAST}, symbols)
    say(made, *(listed(symbol) for symbol in symbols))
    return made


def targets(outputs: list[m.AnyMessage]) -> list[int]:
    return [wish.target_lots for wish in all_of(outputs, m.Signal)]


def test_a_bar_becomes_a_wish_in_whole_lots() -> None:
    (wish,) = say(host(), bar(90), bar(101))
    assert wish == m.Signal(ts_ns=NOW_NS, strategy="one", symbol=BTC, target_lots=9, price_ticks=101, is_passive=False)


def test_the_size_is_fixed_while_the_wish_stays() -> None:
    assert targets(say(host(), bar(90), bar(100), bar(200), bar(300), bar(100), bar(125))) == [10, 10, 10, 0, 8]


def test_history_warms_up_and_asks_for_nothing() -> None:
    made = host()
    assert say(made, bar(90, is_history=True), bar(100, is_history=True)) == []
    assert targets(say(made, bar(200))) == [5]


def test_each_symbol_has_a_mind_of_its_own() -> None:
    made = host()
    said = say(made, bar(90), bar(90, symbol=ETH), bar(100), bar(50, symbol=ETH))
    assert [(wish.symbol, wish.target_lots) for wish in all_of(said, m.Signal)] == [(BTC, 10), (ETH, 0)]


def test_a_strategy_hears_only_what_it_watches() -> None:
    settings = {
        "one": FAST,
        "slow": CrossoverSettings(timeframe="1m", notional=1_000, fast=1, slow=2),
        "elsewhere": CrossoverSettings(timeframe="1s", notional=1_000, fast=1, slow=2, symbols=("XRP_USDT",)),
    }
    made = host(settings)
    assert set(made.watched) == {(BTC, 10**9), (ETH, 10**9), (BTC, 60 * 10**9), (ETH, 60 * 10**9)}
    said = say(made, bar(90), bar(100), bar(90, timeframe="1m"), bar(100, timeframe="1m"), bar(1, timeframe="5m"))
    assert [wish.strategy for wish in all_of(said, m.Signal)] == ["one", "slow"]


def test_a_passive_strategy_says_so() -> None:
    settings = {"quiet": CrossoverSettings(timeframe="1s", notional=1_000, fast=1, slow=2, is_passive=True)}
    assert [wish.is_passive for wish in all_of(say(host(settings), bar(90), bar(100)), m.Signal)] == [True]


class TooMuch(Strategy):
    """Wants what it cannot have."""

    def on_bar(self, bar: m.Bar) -> float | None:
        return 1.5


def test_a_strategy_that_wants_more_than_all_stops_the_bot() -> None:
    made = host()
    made.watched[BTC, 10**9][0].strategy = TooMuch()
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        say(made, bar(90))


def test_every_kind_can_be_made() -> None:
    assert isinstance(make_strategy(FAST), Crossover)
    made = [make_strategy(kind(timeframe="1s", notional=1)) for kind in KINDS.values()]
    assert len({type(strategy) for strategy in made}) == len(KINDS)


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed"):
        say(host({"one": MeanReversionSettings(timeframe="1s", notional=1)}), quote())
