"""The candle market: every sentence of `docs/candle-model.md` that is about orders and money.

One tick is one unit of quote currency, one lot one coin, a bar lasts 60 ns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.candle_exchange import NO_FUNDS, NOTHING_HELD, WOULD_TAKE, CandleExchange, CandleTerms
from bot.core.instrument import ATOMS, Side
from bot.core.orders import OrderIntent, OrderState
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    buy,
    cancel,
    listed,
    only,
    quote,
    recovered,
    say,
    sell,
    submit,
)

S = OrderState
T = 60
PERP = {"is_perp": True}
IN_QUOTE = {"quote_fee_ppm": 10_000}
Fill = tuple[int, int]
"""(price, signed lots)"""
Answer = Callable[[m.Fill], Sequence[m.AnyMessage]]
"""What the bot says after a fill, before the walk goes on."""


def bar(*prices: int, at: int = 1, volume: int = 1_000, symbol: str = BTC) -> m.Bar:
    """Return bar number `at`: its open, high, low and close."""
    open_, high, low, close = prices
    start_ns = NOW_NS + at * T
    return m.Bar(
        ts_ns=start_ns + T,
        symbol=symbol,
        timeframe_ns=T,
        start_ns=start_ns,
        open_ticks=open_,
        high_ticks=high,
        low_ticks=low,
        close_ticks=close,
        volume_lots=volume,
    )


def market(
    *orders: OrderIntent,
    cash: int = 10_000,
    held: int = 0,
    entry: int = 0,
    funding: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    steps: Mapping[str, Any] | None = None,
    other: int | None = None,
    **terms: Any,
) -> CandleExchange:
    """Return a market at the close of bar 0, just after it was sent some orders.

    `entry` is the price at which a perpetual is `held`; `other` lists a second one and how much of it is held at 100.
    """
    made = CandleExchange(CandleTerms(**terms), funding)
    holdings = {"one": {symbol: lots for symbol, lots in ((BTC, held), (ETH, other)) if lots}}
    known = recovered(cash=cash, held=holdings, at_ns=NOW_NS)
    costs = {BTC: held * entry * ATOMS, ETH: (other or 0) * 100 * ATOMS}
    say(made, msgspec.structs.replace(known, costs=costs), listed(**(steps or {})))
    if other is not None:
        say(made, listed(ETH, **PERP))
    say(made, *(submit(intent, at_ns=NOW_NS + T) for intent in orders))
    return made


def play(exchange: CandleExchange, *bars: m.Bar, answer: Answer = lambda fill: ()) -> list[m.AnyMessage]:
    """Return all that is said while bars of one symbol are walked, one after another."""
    heard: list[m.AnyMessage] = []
    for each in bars:
        for walk in (exchange.open, exchange.walk):
            for said in walk([each]):
                heard += said
                for fill in all_of(said, m.Fill):
                    heard += say(exchange, *answer(fill))
    return heard


def fills(said: Sequence[m.AnyMessage]) -> list[Fill]:
    return [(fill.price_ticks, fill.side.sign * fill.qty_lots) for fill in all_of(said, m.Fill)]


def ends(said: Sequence[m.AnyMessage]) -> list[tuple[S, str]]:
    return [(event.state, event.reason) for event in all_of(said, m.OrderEvent) if event.state.is_final]


def stop(side: Side, trigger: int, qty: int = 10, *, number: int = 8) -> OrderIntent:
    make = buy if side is Side.BUY else sell
    return make(
        qty,
        number=number,
        order_type="STOP",
        time_in_force="GTC",
        role="stop",
        trigger_ticks=trigger,
        is_reduce_only=True,
    )


def profit(side: Side, limit: int, qty: int = 10, *, number: int = 9) -> OrderIntent:
    make = buy if side is Side.BUY else sell
    return make(qty, limit, number=number, role="profit", is_reduce_only=True)


FLAT = bar(100, 100, 100, 100)


# --- the open


def test_a_market_order_fills_at_the_next_open() -> None:
    said = play(market(buy(10)), bar(101, 105, 99, 104))
    assert fills(said) == [(101, 10)]
    assert [event.state for event in all_of(said, m.OrderEvent)] == [S.FILLED]
    assert not only(said, m.Fill).is_maker


@pytest.mark.parametrize(
    ("order", "opens", "expected", "is_maker"),
    [
        (buy(10, 100), 100, [(100, 10)], False),
        (buy(10, 100), 98, [(98, 10)], False),
        (buy(10, 100), 101, [], None),
        (sell(10, 100), 100, [(100, -10)], False),
        (sell(10, 100), 103, [(103, -10)], False),
        (sell(10, 100), 99, [], None),
    ],
    ids=["buy-at", "buy-better", "buy-rests", "sell-at", "sell-better", "sell-rests"],
)
def test_a_limit_order_that_arrives_takes_a_marketable_open_and_rests_otherwise(
    order: OrderIntent, opens: int, expected: list[Fill], is_maker: bool | None
) -> None:
    made = market(order, held=10, slippage="fixed", slippage_ppm=50_000)
    said = play(made, bar(opens, opens, opens, opens))
    assert fills(said) == expected
    assert [fill.is_maker for fill in all_of(said, m.Fill)] == ([] if is_maker is None else [is_maker])
    assert [event.state for event in all_of(said, m.OrderEvent)] == ([S.FILLED] if expected else [S.NEW])


@pytest.mark.parametrize(
    ("order", "opens", "expected"),
    [
        (buy(10, 100), 100, []),
        (buy(10, 100), 99, [(100, 10)]),
        (buy(10, 100), 50, [(100, 10)]),
        (sell(10, 110), 110, []),
        (sell(10, 110), 111, [(110, -10)]),
    ],
    ids=["buy-at", "buy-through", "buy-far-through", "sell-at", "sell-through"],
)
def test_a_limit_order_that_rested_fills_at_its_limit_when_the_open_is_beyond_it(
    order: OrderIntent, opens: int, expected: list[Fill]
) -> None:
    said = play(market(order, held=10), bar(105, 105, 105, 105), bar(opens, opens, opens, opens, at=2))
    assert fills(said) == expected
    assert all(fill.is_maker for fill in all_of(said, m.Fill))


@pytest.mark.parametrize(
    ("order", "opens", "expected"),
    [
        (stop(Side.SELL, 95), 95, [(95, -10)]),
        (stop(Side.SELL, 95), 90, [(90, -10)]),
        (stop(Side.SELL, 95), 96, []),
        (stop(Side.BUY, 105), 105, [(105, 10)]),
        (stop(Side.BUY, 105), 110, [(110, 10)]),
        (stop(Side.BUY, 105), 104, []),
    ],
    ids=["sell-at", "sell-gap", "sell-not-reached", "buy-at", "buy-gap", "buy-not-reached"],
)
def test_a_stop_that_the_open_has_reached_fills_there(order: OrderIntent, opens: int, expected: list[Fill]) -> None:
    held = 10 if order.side is Side.SELL else -10
    made = market(order, held=held, entry=100, steps=PERP)
    assert fills(play(made, bar(opens, opens, opens, opens))) == expected


def test_stops_go_before_targets_and_those_before_the_rest_which_goes_by_age() -> None:
    orders = (buy(1, number=1), sell(2, number=2), profit(Side.SELL, 100, 3), stop(Side.SELL, 104, 4))
    said = play(market(*orders, held=20), bar(103, 103, 103, 103))
    assert fills(said) == [(103, -4), (100, -3), (103, 1), (103, -2)]


@pytest.mark.parametrize(("opens", "states"), [(100, [S.REJECTED]), (99, [S.REJECTED]), (101, [S.NEW])])
def test_a_post_only_order_that_would_take_is_refused(opens: int, states: list[S]) -> None:
    made = market(buy(10, 100, order_type="LIMIT_MAKER"))
    said = play(made, bar(opens, opens, opens, opens))
    assert [event.state for event in all_of(said, m.OrderEvent)] == states
    assert [reason for _, reason in ends(said)] == [WOULD_TAKE] * (states == [S.REJECTED])


# --- the path


@pytest.mark.parametrize(
    ("order", "candle", "expected"),
    [
        (buy(10, 100), (105, 106, 100, 101), []),
        (buy(10, 100), (105, 106, 99, 101), [(100, 10)]),
        (sell(10, 110), (105, 110, 104, 106), []),
        (sell(10, 110), (105, 111, 104, 106), [(110, -10)]),
        (stop(Side.SELL, 100), (105, 106, 100, 101), [(100, -10)]),
        (stop(Side.SELL, 100), (105, 106, 101, 101), []),
    ],
    ids=["buy-touched", "buy-through", "sell-touched", "sell-through", "stop-touched", "stop-not-reached"],
)
def test_a_limit_needs_a_tick_through_and_a_stop_a_touch(
    order: OrderIntent, candle: tuple[int, int, int, int], expected: list[Fill]
) -> None:
    said = play(market(order, held=10), bar(*candle))
    assert fills(said) == expected
    assert [fill.is_maker for fill in all_of(said, m.Fill)] == [order.order_type == "LIMIT"] * len(expected)


@pytest.mark.parametrize(
    ("held", "expected"),
    [(10, [(95, -10)]), (-10, [(105, 10)])],
    ids=["long-falls-first", "short-rises-first"],
)
def test_the_extreme_that_hurts_comes_first(held: int, expected: list[Fill]) -> None:
    away, back = (Side.SELL, 1) if held > 0 else (Side.BUY, -1)
    guards = (stop(away, 100 - 5 * back), profit(away, 100 + 5 * back))

    def answer(fill: m.Fill) -> list[m.AnyMessage]:
        return [cancel(guard, at_ns=fill.ts_ns) for guard in guards]

    made = market(*guards, held=held, entry=100, steps=PERP)
    assert fills(play(made, bar(100, 110, 90, 100), answer=answer)) == expected


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ((buy(1, 96, number=1),), [(96, 1)]),
        ((buy(1, 96, number=1), sell(1, 200, number=2)), [(96, 1), (104, -1)]),
    ],
    ids=["only-buys-rise-first", "else-fall-first"],
)
def test_without_a_position_the_orders_say_which_extreme_comes_first(
    orders: tuple[OrderIntent, ...], expected: list[Fill]
) -> None:
    """After an entry at 96 the target at 104 is on the way only if the high is still to come."""

    def answer(fill: m.Fill) -> list[m.AnyMessage]:
        return [submit(profit(Side.SELL, 104, 1), at_ns=fill.ts_ns)] if fill.price_ticks == 96 else []

    assert fills(play(market(*orders), bar(100, 106, 90, 100), answer=answer)) == expected


def test_a_fill_is_as_late_as_its_leg() -> None:
    candle = bar(100, 106, 90, 105)
    said = play(market(buy(1, 96, number=1), sell(1, 103, number=2), stop(Side.SELL, 99, 1), held=2), candle)
    assert [(fill.price_ticks, fill.ts_ns - candle.start_ns) for fill in all_of(said, m.Fill)] == [
        (99, 0),
        (96, 0),
        (103, 20),
    ]


def test_the_nearest_trigger_fires_first_and_the_walk_goes_on_from_its_price() -> None:
    orders = (buy(1, 95, number=1), buy(2, 97, number=2), stop(Side.SELL, 96, 3))
    assert fills(play(market(*orders, held=3), bar(100, 100, 90, 99))) == [(97, 2), (96, -3), (95, 1)]


def test_of_equals_the_stop_goes_before_the_limit_and_the_older_before_the_younger() -> None:
    orders = (buy(1, 95, number=1), buy(2, 95, number=2), stop(Side.SELL, 95, 3))
    assert fills(play(market(*orders, held=3), bar(100, 100, 90, 99))) == [(95, -3), (95, 1), (95, 2)]


def test_a_guard_that_is_sent_in_the_walk_stands_at_once() -> None:
    def answer(fill: m.Fill) -> list[m.AnyMessage]:
        return [submit(stop(Side.SELL, 96), at_ns=fill.ts_ns)] if fill.side is Side.BUY else []

    made = market(buy(10, 98), latency_ns=0)
    assert fills(play(made, bar(100, 101, 95, 99), answer=answer)) == [(98, 10), (96, -10)]


def test_a_stop_that_lies_behind_the_price_fires_at_the_price_now() -> None:
    def answer(fill: m.Fill) -> list[m.AnyMessage]:
        return [submit(stop(Side.SELL, 99), at_ns=fill.ts_ns)] if fill.side is Side.BUY else []

    assert fills(play(market(buy(10, 98)), bar(100, 101, 97, 99), answer=answer)) == [(98, 10), (98, -10)]


# --- slippage


@pytest.mark.parametrize(
    ("terms", "bought", "sold"),
    [
        ({"slippage": "none", "slippage_ppm": 10_000}, 1001, 1001),
        ({"slippage": "fixed", "slippage_ppm": 1_000}, 1003, 999),
        ({"slippage": "spread", "half_spread_ticks": 3}, 1004, 998),
        ({"slippage": "volume", "slippage_ppm": 10_000}, 1003, 999),
        ({"slippage": "fixed", "slippage_ppm": 2_000_000}, 3003, 1),
    ],
    ids=["none", "fixed", "spread", "volume", "at-least-a-tick"],
)
def test_slippage_is_rounded_up_against_us(terms: Mapping[str, Any], bought: int, sold: int) -> None:
    """Of the volume of 1000, 10 lots are a hundredth: a tenth of the impact."""
    made = market(buy(10, number=1), sell(10, number=2), cash=10**6, held=10, **terms)
    assert fills(play(made, bar(1001, 1001, 1001, 1001))) == [(bought, 10), (sold, -10)]


def test_a_bar_without_volume_has_the_whole_impact() -> None:
    made = market(buy(1), slippage="volume", slippage_ppm=10_000)
    assert fills(play(made, bar(1000, 1000, 1000, 1000, volume=0))) == [(1010, 1)]


def test_a_stop_slips_from_its_trigger() -> None:
    made = market(stop(Side.SELL, 95), held=10, slippage="spread", half_spread_ticks=2)
    assert fills(play(made, bar(100, 101, 90, 100))) == [(93, -10)]


# --- volume share


def test_what_the_volume_does_not_cover_waits_for_the_next_open() -> None:
    made = market(buy(10), volume_share_ppm=200_000)
    said = play(made, bar(100, 100, 100, 100, volume=34), bar(102, 102, 102, 102, at=2, volume=100))
    assert fills(said) == [(100, 6), (102, 4)]
    assert [event.state for event in all_of(said, m.OrderEvent)] == [S.PARTIALLY_FILLED, S.FILLED]


def test_a_triggered_stop_waits_for_the_next_open_and_goes_first_there() -> None:
    made = market(stop(Side.SELL, 95), held=20, volume_share_ppm=100_000)
    said = play(made, bar(100, 100, 90, 96, volume=60))
    say(made, submit(sell(10, number=2), at_ns=NOW_NS + 2 * T))
    said += play(made, bar(97, 97, 97, 97, at=2, volume=50))
    assert fills(said) == [(95, -6), (97, -4), (97, -1)]


def test_a_limit_goes_on_resting_and_a_trigger_without_volume_is_passed_by() -> None:
    made = market(buy(10, 95), volume_share_ppm=100_000)
    said = play(made, bar(100, 100, 90, 99, volume=60), bar(99, 99, 94, 94, at=2, volume=60))
    assert fills(said) == [(95, 6), (95, 4)]


def test_all_orders_share_the_volume_of_a_bar() -> None:
    made = market(buy(10, number=1), sell(10, number=2), held=10, volume_share_ppm=100_000)
    assert fills(play(made, bar(100, 100, 100, 100, volume=120))) == [(100, 10), (100, -2)]


# --- fees and funds


@pytest.mark.parametrize(
    ("steps", "order", "fee"),
    [
        (None, buy(10), 10 * ATOMS * 2_500 // 10**6),
        (None, sell(10), 1000 * ATOMS * 2_500 // 10**6),
        (IN_QUOTE, buy(10), 1000 * ATOMS * 2_500 // 10**6),
        (IN_QUOTE, sell(10), 1000 * ATOMS * 2_500 // 10**6),
        (PERP, buy(10), 1000 * ATOMS * 2_500 // 10**6),
        (None, buy(10, 101), 10 * ATOMS * 2_500 // 10**6),
        (None, profit(Side.SELL, 99), 990 * ATOMS * 1_000 // 10**6),
    ],
    ids=["coins-buy", "coins-sell", "quote-buy", "quote-sell", "perp", "taking-limit", "resting-limit"],
)
def test_fees_are_those_of_maker_or_taker_in_coins_or_in_quote(
    steps: Mapping[str, Any] | None, order: OrderIntent, fee: int
) -> None:
    made = market(order, held=10, steps=steps, maker_fee_ppm=1_000, taker_fee_ppm=2_500)
    assert only(play(made, FLAT), m.Fill).fee_atoms == fee


def test_a_fee_is_rounded_up_to_an_atom() -> None:
    made = market(buy(1), steps={"price_scale": 8, "quantity_scale": 8, "quote_fee_ppm": 1}, taker_fee_ppm=1)
    assert only(play(made, bar(3, 3, 3, 3)), m.Fill).fee_atoms == 1


@pytest.mark.parametrize(
    ("steps", "price", "expected"),
    [(None, 100, [(100, 99)]), (IN_QUOTE, 100, [(100, 98)]), (None, 9_901, [(9_901, 1)]), (PERP, 100, [(100, 100)])],
    ids=["coins", "quote", "one", "perp"],
)
def test_a_buy_is_cut_to_what_free_cash_covers_and_the_rest_cancelled(
    steps: Mapping[str, Any] | None, price: int, expected: list[Fill]
) -> None:
    made = market(buy(100), cash=9_990, steps=steps, taker_fee_ppm=10_000)
    said = play(made, bar(price, price, price, price))
    assert fills(said) == expected
    assert ends(said) == [(S.FILLED, "") if steps is PERP else (S.PARTIALLY_CANCELED, NO_FUNDS)]


def test_a_buy_that_nothing_is_left_for_is_refused() -> None:
    assert ends(play(market(buy(1), cash=99), FLAT)) == [(S.REJECTED, NO_FUNDS)]


def test_cash_that_other_resting_buys_may_need_is_not_free() -> None:
    made = market(buy(10, 90, number=1), steps=IN_QUOTE, cash=1_908, taker_fee_ppm=10_000)
    play(made, FLAT)
    say(made, submit(buy(10, number=2), at_ns=NOW_NS + 2 * T))
    # 1908 less 909 leaves 999, and ten at 100 with their fee cost 1010.
    assert fills(play(made, bar(100, 100, 100, 100, at=2))) == [(100, 9)]


@pytest.mark.parametrize(
    ("steps", "orders", "expected"),
    [
        (None, (sell(10),), [(100, -7)]),
        (None, (stop(Side.SELL, 100),), [(100, -7)]),
        (PERP, (sell(10),), [(100, -10)]),
        (PERP, (stop(Side.SELL, 100),), [(100, -7)]),
        (PERP, (stop(Side.BUY, 100),), []),
    ],
    ids=["spot", "spot-guard", "perp", "perp-guard", "perp-guard-of-nothing"],
)
def test_a_spot_sell_and_every_guard_is_cut_to_what_is_held(
    steps: Mapping[str, Any] | None, orders: tuple[OrderIntent, ...], expected: list[Fill]
) -> None:
    said = play(market(*orders, held=7, entry=100, steps=steps), FLAT)
    assert fills(said) == expected
    if not expected or expected[0][1] == -7:
        assert [reason for _, reason in ends(said)] == [NOTHING_HELD]


# --- amounts


@pytest.mark.parametrize(
    ("steps", "opens", "expected"),
    [
        (None, 100, [(100, 10)]),
        (None, 90, [(90, 11)]),
        (None, 120, [(120, 8)]),
        (None, 30, [(30, 20)]),
        (IN_QUOTE, 100, [(100, 9)]),
        (IN_QUOTE, 99, [(99, 10)]),
    ],
    ids=["as-expected", "cheaper", "dearer", "at-most-the-quantity", "fee-in-quote", "fee-just-covered"],
)
def test_an_amount_buys_what_it_covers_with_its_fee(
    steps: Mapping[str, Any] | None, opens: int, expected: list[Fill]
) -> None:
    made = market(buy(20, amount_atoms=1_000 * ATOMS), steps=steps, taker_fee_ppm=10_000)
    said = play(made, bar(opens, opens, opens, opens))
    assert fills(said) == expected
    assert ends(said) == [(S.FILLED, "")]


def test_an_amount_is_spent_over_several_bars() -> None:
    made = market(buy(20, amount_atoms=1_000 * ATOMS), volume_share_ppm=100_000)
    said = play(made, bar(100, 100, 100, 100, volume=60), bar(80, 80, 80, 80, at=2, volume=1_000))
    assert fills(said) == [(100, 6), (80, 5)]
    assert ends(said) == [(S.FILLED, "")]


def test_an_amount_that_buys_no_lot_is_refused() -> None:
    assert ends(play(market(buy(20, amount_atoms=99 * ATOMS)), FLAT)) == [(S.REJECTED, NO_FUNDS)]


# --- latency


@pytest.mark.parametrize(
    ("latency_ns", "candle", "bought", "sold"),
    [
        (0, (100, 130, 70, 110), 100, 100),
        (10, (100, 130, 70, 110), 115, 115),
        (20, (100, 130, 70, 110), 130, 130),
        (30, (100, 130, 70, 110), 100, 100),
        (59, (100, 130, 70, 110), 108, 108),
        (7, (100, 110, 90, 95), 104, 103),
        (27, (100, 110, 90, 95), 103, 103),
        (28, (100, 111, 90, 95), 103, 102),
        (59, (100, 110, 90, 95), 95, 94),
    ],
    ids=["open", "first-leg", "at-the-extreme", "second-leg", "last-leg", "up", "down-whole", "down", "last"],
)
def test_an_order_that_travels_meets_the_price_of_its_moment_rounded_against_us(
    latency_ns: int, candle: tuple[int, int, int, int], bought: int, sold: int
) -> None:
    """The pair of orders leaves the account flat, and a sell waits too: with a short held the high comes first."""
    made = market(
        buy(1, number=1), sell(1, number=2), held=-20, entry=100, steps=PERP, cash=10**6, latency_ns=latency_ns
    )
    assert fills(play(made, bar(*candle))) == [(bought, 1), (sold, -1)]


def test_a_gap_longer_than_the_latency_makes_it_arrive_at_the_open() -> None:
    made = market(buy(1), latency_ns=30)
    assert fills(play(made, bar(100, 130, 70, 110, at=3))) == [(100, 1)]


def test_a_short_gap_takes_its_part_of_the_latency() -> None:
    made = market(buy(1), latency_ns=30)
    late = msgspec.structs.replace(bar(100, 130, 70, 110), start_ns=NOW_NS + T + 20)
    assert fills(play(made, late)) == [(115, 1)]


def test_triggers_before_the_arrival_fire_first() -> None:
    """Halfway down the first leg, at 80: the stop at 85 has fired, the one at 75 has not."""
    orders = (sell(1, number=1), stop(Side.SELL, 85, 2, number=2), stop(Side.SELL, 75, 3, number=3))
    made = market(*orders, held=6, latency_ns=10)
    assert fills(play(made, bar(100, 100, 60, 100))) == [(85, -2), (80, -1), (75, -3)]


def test_guards_do_not_travel() -> None:
    made = market(stop(Side.SELL, 95), held=10, latency_ns=50)
    assert fills(play(made, bar(100, 100, 90, 100))) == [(95, -10)]
    made = market(stop(Side.SELL, 95), held=10, latency_ns=50)
    assert ends(say(made, cancel(stop(Side.SELL, 95), at_ns=NOW_NS + T))) == [(S.CANCELED, "canceled by us")]


def test_a_cancel_travels_and_what_it_cancels_can_be_filled_until_then() -> None:
    entry = buy(10, 95)
    for low, expected in ((94, [(95, 10)]), (96, [])):
        made = market(entry, latency_ns=50)
        play(made, FLAT)
        assert say(made, cancel(entry, at_ns=NOW_NS + 2 * T)) == []
        said = play(made, bar(100, 101, low, 100, at=2), bar(100, 101, 90, 100, at=3))
        assert fills(said) == expected
        assert ends(said) == [(S.FILLED, "") if expected else (S.CANCELED, "canceled by us")]


def test_without_latency_a_cancel_acts_before_the_next_open() -> None:
    entry = buy(10, 95)
    made = market(entry)
    play(made, FLAT)
    assert ends(say(made, cancel(entry, at_ns=NOW_NS + 2 * T))) == [(S.CANCELED, "canceled by us")]


def test_a_cancel_and_the_order_in_its_place_arrive_together() -> None:
    old, new = buy(10, 90, number=1), buy(10, number=2)
    made = market(old, latency_ns=30)
    play(made, FLAT)
    say(made, cancel(old, at_ns=NOW_NS + 2 * T))
    heard: list[m.AnyMessage] = []
    candle = bar(100, 130, 95, 100, at=2)
    for walk in (made.open, made.walk):
        for said in walk([candle]):
            heard += said
            if any(state is S.CANCELED for state, _ in ends(said)):
                heard += say(made, submit(new, at_ns=candle.start_ns + 30))
    # Only a buy waits: the high comes first, and half of the way down again is 112.5.
    assert fills(heard) == [(113, 10)]


def test_a_cancel_and_the_order_in_its_place_arrive_together_after_a_gap_as_well() -> None:
    old, new = buy(10, 90, number=1), buy(10, number=2)
    made = market(old, latency_ns=30)
    play(made, FLAT)
    say(made, cancel(old, at_ns=NOW_NS + 2 * T))
    heard: list[m.AnyMessage] = []
    for said in made.open([bar(100, 130, 95, 100, at=7)]):
        heard += said
        if any(state is S.CANCELED for state, _ in ends(said)):
            heard += say(made, submit(new, at_ns=NOW_NS + 7 * T))
    assert fills(heard) == [(100, 10)]


def test_a_cancel_inside_a_bar_acts_at_once() -> None:
    """The rest of an entry goes with the position that its stop has closed."""
    entry = buy(10, 98, number=1)

    def answer(fill: m.Fill) -> list[m.AnyMessage]:
        if fill.side is Side.BUY:
            return [submit(stop(Side.SELL, 97, 5), at_ns=fill.ts_ns)]
        return [cancel(entry, at_ns=fill.ts_ns)]

    made = market(entry, latency_ns=30, volume_share_ppm=500_000)
    said = play(made, bar(100, 100, 100, 100), bar(100, 101, 90, 100, at=2, volume=10), answer=answer)
    assert fills(said) == [(98, 5)]  # the stop has no volume left, and goes at the next open
    said = play(made, bar(99, 99, 99, 99, at=3), answer=answer)
    assert fills(said) == [(99, -5)]
    assert ends(said) == [(S.FILLED, ""), (S.PARTIALLY_CANCELED, "canceled by us")]
    assert made.is_idle


# --- perpetuals


@pytest.mark.parametrize(
    ("held", "rate_ppb", "paid"),
    [(10, 100_000, 10**13 * 100), (10, -100_000, -(10**13) * 100), (-10, 100_000, -(10**13) * 100), (0, 100_000, None)],
    ids=["long-pays", "long-receives", "short-receives", "flat"],
)
def test_funding_is_paid_at_the_open_on_what_is_held(held: int, rate_ppb: int, paid: int | None) -> None:
    times = {BTC: [(NOW_NS + T, rate_ppb)]}
    said = play(market(held=held, entry=100, steps=PERP, funding=times), FLAT)
    payments = all_of(said, m.FundingPaid)
    assert [payment.paid_atoms for payment in payments] == ([] if paid is None else [paid])
    assert all(payment.ts_ns == NOW_NS + T and payment.price_ticks == 100 for payment in payments)


@pytest.mark.parametrize(("rate_ppb", "paid"), [(1, 1), (-1, 0)], ids=["pays-up", "receives-down"])
def test_funding_is_rounded_against_us(rate_ppb: int, paid: int) -> None:
    steps = {**PERP, "price_scale": 8, "quantity_scale": 8}
    made = market(steps=steps, funding={BTC: [(NOW_NS + 2 * T, rate_ppb)]})
    say(made, submit(buy(1), at_ns=NOW_NS + T))
    said = play(made, bar(3, 3, 3, 3), bar(3, 3, 3, 3, at=2))
    assert only(said, m.FundingPaid).paid_atoms == paid


def test_funding_belongs_to_the_first_bar_that_opens_at_or_after_it() -> None:
    times = {BTC: [(NOW_NS + T + 1, 1_000), (NOW_NS + 2 * T, 1_000), (NOW_NS + 2 * T + 1, 1_000)]}
    made = market(held=10, entry=100, steps=PERP, funding=times)
    assert all_of(play(made, FLAT), m.FundingPaid) == []
    said = play(made, bar(100, 100, 100, 100, at=2))
    assert [payment.ts_ns - NOW_NS for payment in all_of(said, m.FundingPaid)] == [T + 1, 2 * T]


@pytest.mark.parametrize(
    ("held", "candle", "price"),
    [
        (100, (100, 101, 91, 95), None),
        (100, (100, 101, 90, 95), 90),
        (100, (100, 101, 80, 95), 90),
        (100, (85, 101, 80, 95), 85),
        (-100, (100, 109, 99, 105), None),
        (-100, (100, 110, 99, 105), 110),
        (-100, (120, 120, 99, 105), 120),
    ],
    ids=["long-holds", "long-at", "long-beyond", "long-gap", "short-holds", "short-at", "short-gap"],
)
def test_a_position_that_the_account_cannot_carry_is_closed(
    held: int, candle: tuple[int, int, int, int], price: int | None
) -> None:
    """1000 behind 100 coins at 100, maintenance 0.5 %: a long ends at 9000/99.5 = 90.45, a short at 11000/100.5.

    That is 109.45; both are rounded to where the account is ruined.
    """
    made = market(held=held, entry=100, cash=1_000, steps=PERP, liquidation_fee_ppm=10_000)
    said = play(made, bar(*candle))
    if price is None:
        assert all_of(said, m.Liquidated) == []
    else:
        ended = only(said, m.Liquidated)
        assert (ended.price_ticks, ended.signed_lots) == (price, -held)
        assert ended.fee_atoms == price * ATOMS


def test_a_liquidation_ends_the_waiting_orders_of_its_symbol_only() -> None:
    waiting = stop(Side.SELL, 50, 100)
    elsewhere = sell(1, 200, symbol=ETH, number=2)
    made = market(waiting, elsewhere, held=100, entry=100, cash=1_000, steps=PERP, other=0)
    said = play(made, bar(100, 100, 90, 95))
    assert ends(said) == [(S.CANCELED, "LIQUIDATED")]
    assert not made.is_idle


def test_of_equals_the_liquidation_goes_before_the_stop() -> None:
    made = market(stop(Side.SELL, 90, 100), held=100, entry=100, cash=1_000, steps=PERP)
    said = play(made, bar(100, 100, 85, 95))
    assert fills(said) == []
    assert only(said, m.Liquidated).price_ticks == 90


def test_other_positions_count_at_their_last_price() -> None:
    """A gain of 500 on the other perpetual carries this one further down; its own margin is taken off."""
    made = market(held=100, entry=100, cash=1_000, steps=PERP, other=10)
    list(made.open([bar(150, 150, 150, 150, symbol=ETH)]))
    # 1000 + 500 - 0.5 % of 1500: equity at P is 1500 - 10000 + 100 P, so P is 8507.5 / 99.5 = 85.5.
    said = play(made, bar(100, 100, 80, 95))
    assert only(said, m.Liquidated).price_ticks == 85


def test_an_exit_and_an_entry_on_the_other_side_turn_round_in_one_order() -> None:
    made = market(sell(20), held=10, entry=100, steps=PERP)
    assert fills(play(made, FLAT)) == [(100, -20)]


# --- the machine


def test_it_is_idle_without_orders_and_without_perpetuals_that_could_cost_something() -> None:
    assert market(held=10).is_idle
    assert not market(held=10, entry=100, steps=PERP).is_idle
    made = market(buy(10))
    assert not made.is_idle
    play(made, FLAT)
    assert made.is_idle


def test_at_the_end_every_order_is_cancelled() -> None:
    made = market(buy(10, 50, number=1), stop(Side.SELL, 40))
    assert [event.state for event in all_of(made.close(), m.OrderEvent)] == [S.CANCELED, S.CANCELED]
    assert made.is_idle


def test_a_cancel_of_what_is_over_is_not_answered() -> None:
    made = market(buy(10))
    play(made, FLAT)
    assert say(made, cancel(buy(10))) == []


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed"):
        say(market(), quote())
