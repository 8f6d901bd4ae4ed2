"""What breaks is made smaller until nothing more can go."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.simulation.draws import Latencies
from actors.simulation.scenario import Scenario, Trader, calm_latencies
from actors.simulation.shrink import ddmin, shrink
from actors.simulation.swarm import Wish, draw_scenario


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=5))
@settings(max_examples=150)
def test_what_is_left_is_exactly_what_is_needed(count: int, needed: set[int]) -> None:
    needed = {item for item in needed if item < count}

    def fails(kept: Sequence[int]) -> bool:
        return needed <= set(kept)

    assert ddmin(range(count), fails) == tuple(sorted(needed))


@given(st.sets(st.integers(0, 15), min_size=1, max_size=6), st.integers(1, 6))
@settings(max_examples=100)
def test_no_single_item_can_be_left_out_of_what_is_left(marked: set[int], enough: int) -> None:
    def fails(kept: Sequence[int]) -> bool:
        return len(marked & set(kept)) >= min(enough, len(marked))

    left = ddmin(range(16), fails)
    assert fails(left)
    assert not any(fails(left[:place] + left[place + 1 :]) for place in range(len(left)))


def noisy() -> Scenario:
    """Return a scenario with many items, three markets and several traders."""
    drawn = (draw_scenario(seed, Wish(seconds=3_600.0)) for seed in range(200))
    return max((each for each in drawn if len(each.symbols) == 3), key=lambda each: len(each.items))


def test_a_scenario_is_shrunk_to_what_it_takes() -> None:
    scenario = noisy()
    culprits = scenario.outages[1], scenario.faults[2]
    guilty = scenario.traders[-1]
    needs_s = max(event.at_s for event in culprits) + 20.0

    def breaks(smaller: Scenario) -> float | None:
        has_all = (
            any(event.at_s == culprits[0].at_s for event in smaller.outages)
            and any(event.at_s == culprits[1].at_s for event in smaller.faults)
            and any(trader.name == guilty.name for trader in smaller.traders)
        )
        return needs_s if has_all and smaller.seconds >= needs_s else None

    found = shrink(scenario, breaks, tries_max=500)
    small = found.scenario
    assert breaks(small) is not None
    assert (len(small.faults), len(small.outages), small.crashes) == (1, 1, ())
    assert [trader.name for trader in small.traders] == [guilty.name]
    assert small.symbols == (guilty.symbol,)
    assert needs_s <= small.seconds <= needs_s + max(10.0, small.seconds / 16)
    assert small.traders[0].timeframe == "10m"
    assert small.latencies == calm_latencies(Latencies())
    assert found.tries < 150


def test_the_runs_are_counted_and_bounded() -> None:
    tried: list[Scenario] = []

    def breaks(smaller: Scenario) -> float | None:
        tried.append(smaller)
        return 1.0 if len(smaller.items) % 2 else None

    found = shrink(noisy(), breaks, tries_max=15)
    assert found.tries == len(tried) == 15


def test_what_breaks_without_any_fault_loses_all_of_them_at_once() -> None:
    runs = 0

    def breaks(smaller: Scenario) -> float | None:
        nonlocal runs
        runs += 1
        return 1.0 if smaller.traders else None

    trader = Trader(name="a", symbol="BTC_USDT", manner="market", timeframe="10m", notional=300.0)
    scenario = msgspec.structs.replace(noisy(), traders=(trader,), symbols=("BTC_USDT",))
    found = shrink(scenario, breaks, tries_max=100)
    assert found.scenario.items == ()
    assert found.scenario.seconds <= 20.0
    assert runs < 20
