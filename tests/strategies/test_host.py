"""Bars go to the strategies that watch them; what they want becomes whole lots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core import tactics
from bot.core.durations import duration_ns
from bot.core.instrument import ATOMS
from bot.core.orders import OrderIntent
from bot.strategies import KINDS, AnyStrategySettings, make_strategy
from bot.strategies.crossover import Crossover, CrossoverSettings
from bot.strategies.host import StrategyHost
from bot.strategies.mean_reversion import MeanReversionSettings
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    buy,
    fill,
    funding,
    liquidated,
    listed,
    quote,
    record,
    recovered,
    say,
    sell,
)
from tests.support.candle_runs import Script, row
from tests.support.wants import Wants

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


def wanting(share: float, **changes: Any) -> StrategyHost:
    made = StrategyHost({}, (BTC,))
    made.seat_strategy("own", BTC, msgspec.structs.replace(FAST, **changes), Wants(share))
    say(made, listed(is_perp=True))
    return made


@pytest.mark.parametrize("share", [1.5, -1.01, float("nan"), float("inf")])
def test_a_strategy_that_wants_more_than_all_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"BTC_USDT: strategy own wants a share of {share}, .* -1\.0 to 1\.0"):
        say(wanting(share), bar(90))


@pytest.mark.parametrize(("share", "lots"), [(-1.0, -10), (-0.55, -5), (0.0, 0), (0.55, 5)])
def test_a_share_may_be_short(share: float, lots: int) -> None:
    assert targets(say(wanting(share), bar(100))) == [lots]


def test_every_kind_can_be_made() -> None:
    assert isinstance(make_strategy(FAST), Crossover)
    kinds = CrossoverSettings, MeanReversionSettings
    made = [make_strategy(kind(timeframe="1s", notional=1)) for kind in kinds]
    assert len({type(strategy) for strategy in made}) == len(kinds) == len(KINDS) - 2  # the others are of files


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed"):
        say(host({"one": MeanReversionSettings(timeframe="1s", notional=1)}), quote())


# --- fills


def booked(
    price: int, change: int, held: int, *, strategy: str = "one", symbol: str = BTC, cash: int = 0
) -> m.FillBooked:
    """Return a fill of a strategy, after which it holds so many lots and the account so much cash."""
    intent = (buy if change > 0 else sell)(abs(change), strategy=strategy, symbol=symbol)
    return m.FillBooked(
        ts_ns=NOW_NS,
        fill=fill(intent, abs(change), price),
        strategy=strategy,
        strategy_atoms=held * ATOMS,
        cash_atoms=cash * ATOMS,
    )


def advised(script: Script, *, is_perp: bool = False, known: m.Recovered | None = None) -> StrategyHost:
    """Return a host with one adviser, that knows 10,000 in cash."""
    made = StrategyHost({}, (BTC,))
    made.seat_definition("one", BTC, script, (BTC, ETH))
    say(made, known or recovered(), listed(is_perp=is_perp))
    return made


def minute(close: int, **changes: Any) -> m.Bar:
    return bar(close, timeframe="1m", **changes)


def wishes(outputs: list[m.AnyMessage]) -> list[tuple[int, int, int]]:
    """Return target, stop and profit of each signal."""
    return [(wish.target_lots, wish.stop_ticks, wish.profit_ticks) for wish in all_of(outputs, m.Signal)]


def test_a_fill_of_a_strategy_without_guards_is_not_answered() -> None:
    made = host()
    say(made, recovered(), bar(90), bar(100))
    assert say(made, booked(100, 4, 4), booked(101, 6, 10), booked(99, -10, 0)) == []
    made = advised(Script({0: row(1)}))
    say(made, minute(100))
    assert say(made, booked(100, 10, 10)) == []


def test_a_fill_that_sets_guards_is_answered_at_once() -> None:
    made = advised(Script({0: row(1, stop_by=5, target_by=8)}))
    assert wishes(say(made, minute(100))) == [(10, 0, 0)]
    assert wishes(say(made, booked(101, 4, 4))) == [(10, 96, 109)]
    assert say(made, booked(102, 6, 10)) == []
    assert wishes(say(made, booked(96, -10, 0))) == [(0, 0, 0)]


def test_a_stop_that_follows_is_said_without_an_opinion() -> None:
    made = advised(Script({0: row(1, trail_by=5)}))
    say(made, minute(100), booked(100, 10, 10))
    assert wishes(say(made, minute(100))) == []
    assert wishes(say(made, minute(104))) == [(10, 99, 0)]


def test_a_wish_is_repeated_with_every_opinion() -> None:
    made = advised(Script({0: row(1), 1: row(0), 2: row(2), 3: row(0)}))
    assert targets(say(made, minute(100), minute(101), minute(102), minute(103))) == [10, 10, 0, 0]


def test_every_size_has_a_number_of_its_own() -> None:
    made = advised(Script({0: row(1), 1: row(0), 2: row(2), 3: row(1)}))
    said = say(made, *(minute(100) for _ in range(4)))
    assert [wish.number for wish in all_of(said, m.Signal)] == [1, 1, 1, 2]


def test_a_share_of_equity_is_an_amount_and_what_it_bought_is_wanted() -> None:
    made = advised(Script({0: row(1, 500_000)}, sizing=tactics.SIZE_SHARE))
    (wish,) = all_of(say(made, minute(100)), m.Signal)
    assert (wish.target_lots, wish.amount_atoms, wish.number) == (50, 5_000 * ATOMS, 1)
    (wish,) = all_of(say(made, booked(90, 55, 55, cash=5_050)), m.Signal)
    assert (wish.target_lots, wish.amount_atoms, wish.number) == (55, 5_000 * ATOMS, 1)


def test_equity_percent_sizes_a_share_as_an_amount() -> None:
    settings = msgspec.structs.replace(FAST, equity_pct=50.0)
    made = host({"one": settings})
    say(made, recovered())
    (wish,) = all_of(say(made, bar(90), bar(100)), m.Signal)
    assert (wish.target_lots, wish.amount_atoms, wish.number) == (50, 5_000 * ATOMS, 1)
    assert targets(say(made, booked(90, 55, 55, cash=5_050))) == [55]
    assert targets(say(made, bar(101), bar(90))) == [55, 0]


def test_equity_counts_positions_funding_and_the_losses_of_a_liquidation() -> None:
    shares = Script({0: row(1, 500_000), 1: row(2), 2: row(1, 500_000)}, sizing=tactics.SIZE_SHARE)
    made = advised(shares, is_perp=True)
    say(made, booked(100, 10, 10, strategy="other", cash=10_000), funding(1_000))
    assert targets(say(made, minute(200))) == [25]  # half of 10,000 - 1000 + 10 x 100
    say(made, minute(200), liquidated(-10, 100))
    assert targets(say(made, minute(100))) == [45]


def test_who_was_liquidated_wants_nothing_until_a_new_entry() -> None:
    made = advised(Script({0: row(1, stop_by=5), 3: row(1)}), is_perp=True)
    say(made, minute(100), booked(100, 10, 10))
    assert wishes(say(made, liquidated(-10, 50))) == [(0, 0, 0)]
    assert targets(say(made, minute(50), minute(50), minute(50))) == [10]
    made = wanting(1.0)
    say(made, bar(100))
    (wish,) = all_of(say(made, liquidated(-10, 50)), m.Signal)
    assert wish.target_lots == 0
    (again,) = all_of(say(made, bar(100)), m.Signal)
    assert (again.target_lots, again.number) == (0, wish.number)


def test_history_warms_an_adviser_up() -> None:
    script = Script({0: row(1), 1: row(1)})
    made = advised(script)
    assert say(made, minute(100, is_history=True)) == []
    assert targets(say(made, minute(101))) == [10]
    assert [seen.close_ticks for seen in script.advisers[0].seen] == [100, 101]


def test_other_symbols_are_heard_and_watched() -> None:
    script = Script({}, watches=(ETH, "XRP_USDT"))
    made = advised(script)
    assert made.is_hearing
    assert set(made.watched) == {(BTC, 60 * 10**9), (ETH, 60 * 10**9)}
    say(made, minute(7, symbol=ETH), minute(100))
    assert [heard.close_ticks for heard in script.advisers[0].heard] == [7]


# --- an earlier session


def earlier(*orders: OrderIntent) -> m.Recovered:
    known = recovered(held={"one": {BTC: 10}}, orders=[record(order) for order in orders])
    return msgspec.structs.replace(known, entries={"one": {BTC: 100}})


def test_what_an_earlier_session_holds_stays_held_and_guarded_as_it_was() -> None:
    stop = sell(10, order_type="STOP", role="stop", trigger_ticks=93)
    made = advised(Script({0: row(0, stop_by=5, target_by=8)}), known=earlier(stop, sell(10, 120, role="profit")))
    assert wishes(say(made, minute(101))) == [(10, 93, 120)]


def test_a_guard_that_the_journal_does_not_name_is_measured_from_the_entry() -> None:
    made = advised(Script({0: row(0, stop_by=5, target_by=8)}), known=earlier())
    assert wishes(say(made, minute(101))) == [(10, 95, 108)]


def test_what_an_earlier_session_holds_can_be_left() -> None:
    made = advised(Script({0: row(2)}), known=earlier())
    assert wishes(say(made, minute(101))) == [(0, 0, 0)]


def test_money_from_outside_can_be_spent() -> None:
    host = StrategyHost({}, [BTC])
    say(host, listed(), recovered(cash=1_000))
    say(host, m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="USDT", atoms=500 * ATOMS, reason="deposit"))
    say(host, m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="DOGE", atoms=500 * ATOMS, reason="deposit"))
    assert (host.purse.cash_atoms, host.purse.equity_atoms) == (1_500 * ATOMS, 1_500 * ATOMS)


@pytest.mark.parametrize(("history", "wanted"), [([], [0]), ([bar(100, symbol=ETH, is_history=True)], [55])])
def test_a_share_of_equity_counts_what_is_left_in_a_market_that_is_not_played(
    history: list[m.Bar], wanted: list[int]
) -> None:
    """Its bars of history are all that tells its price, so they count."""
    made = StrategyHost({}, (BTC,))
    made.seat_strategy("own", BTC, msgspec.structs.replace(FAST, equity_pct=50.0), Wants(1.0))
    say(made, recovered(cash=10_000, held={"own": {ETH: 10}}), listed(), listed(ETH), *history)
    assert targets(say(made, bar(100))) == wanted
