"""The paper exchange: pessimistic, exact, and every lot filled once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bot.assembly import terms_of
from bot.config import load_settings
from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import ATOMS, Side
from bot.core.ledger import Ledger, Position
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.orders import OrderIntent, OrderState, OrderType, TimeInForce, client_id
from tests.support.builders import (
    BTC,
    ETH,
    MS_NS,
    NOW_NS,
    all_of,
    approved,
    book_lost,
    buy,
    cancel,
    depth,
    listed,
    only,
    order,
    paper_exchange,
    record,
    recovered,
    say,
    sell,
    session,
    submit,
    tick,
    trade,
)

S = OrderState
ASKS = ((101, 10), (102, 20), (103, 30))


def taken(outputs: list[m.AnyMessage]) -> list[tuple[int, int]]:
    """Return price and quantity of each fill."""
    return [(fill.price_ticks, fill.qty_lots) for fill in all_of(outputs, m.Fill)]


def states(outputs: list[m.AnyMessage]) -> list[OrderState]:
    return [event.state for event in all_of(outputs, m.OrderEvent)]


def last_reason(outputs: list[m.AnyMessage]) -> str:
    return all_of(outputs, m.OrderEvent)[-1].reason


def owner(base: int) -> m.Recovered:
    return recovered(held={"one": {BTC: base}})


# --- taking


def test_a_market_order_walks_the_levels() -> None:
    said = say(paper_exchange(depth(asks=ASKS)), submit(buy(15)))
    assert taken(said) == [(101, 10), (102, 5)]
    assert states(said) == [S.NEW, S.PARTIALLY_FILLED, S.FILLED]
    assert [event.filled_lots for event in all_of(said, m.OrderEvent)] == [0, 10, 15]


def test_what_the_book_does_not_hold_is_cancelled() -> None:
    said = say(paper_exchange(depth(asks=ASKS[:1])), submit(buy(15)))
    assert taken(said) == [(101, 10)]
    assert states(said)[-1] is S.PARTIALLY_CANCELED
    assert "no more visible depth" in last_reason(said)


def test_levels_that_we_took_are_gone_until_they_change() -> None:
    exchange = paper_exchange(depth(asks=ASKS))
    assert taken(say(exchange, submit(buy(8)))) == [(101, 8)]
    say(exchange, depth(asks=ASKS))
    assert taken(say(exchange, submit(buy(4, number=2)))) == [(101, 2), (102, 2)]
    say(exchange, depth(asks=((101, 11), (102, 20))))
    assert taken(say(exchange, submit(buy(30, number=3)))) == [(101, 11), (102, 18)]


def test_a_sale_walks_the_bids() -> None:
    said = say(paper_exchange(depth(bids=((99, 3), (98, 9))), known=owner(20)), submit(sell(5)))
    assert taken(said) == [(99, 3), (98, 2)]


def test_a_limit_order_takes_within_its_price_and_rests_with_the_remainder() -> None:
    exchange = paper_exchange(depth(asks=ASKS))
    said = say(exchange, submit(buy(50, 102)))
    assert taken(said) == [(101, 10), (102, 20)]
    assert states(said)[-1] is S.PARTIALLY_FILLED
    rested = say(exchange, trade(101, 20))
    assert taken(rested) == [(102, 20)]
    assert only(rested, m.Fill).is_maker


def test_a_limit_ioc_does_not_rest() -> None:
    said = say(paper_exchange(depth(asks=ASKS)), submit(buy(50, 102, time_in_force="IOC")))
    assert states(said)[-1] is S.PARTIALLY_CANCELED


@pytest.mark.parametrize(("qty", "filled"), [(30, 30), (31, 0)])
def test_a_fok_order_fills_whole_or_not_at_all(qty: int, filled: int) -> None:
    said = say(paper_exchange(depth(asks=ASKS)), submit(buy(qty, 102, time_in_force="FOK")))
    assert sum(lots for _, lots in taken(said)) == filled
    assert states(said)[-1] is (S.FILLED if filled else S.CANCELED)


def test_a_fok_order_that_money_does_not_cover_fills_not_at_all() -> None:
    exchange = paper_exchange(depth(asks=ASKS), known=recovered(cash=1_015))
    said = say(exchange, submit(buy(10, time_in_force="FOK")), submit(buy(20, number=2, time_in_force="FOK")))
    assert taken(said) == [(101, 10)]


def test_a_post_only_order_that_would_take_is_cancelled() -> None:
    said = say(paper_exchange(depth()), submit(buy(5, 101, order_type="LIMIT_MAKER")))
    assert states(said) == [S.NEW, S.CANCELED]
    assert last_reason(said) == "post-only order would take"


# --- money


def test_a_market_buy_spends_no_more_than_was_reserved_for_it() -> None:
    said = say(paper_exchange(depth(asks=((101, 10), (150, 100)))), submit(buy(15, reserved_atoms=1_530 * ATOMS)))
    assert taken(said) == [(101, 10), (150, 3)]
    assert "costs more" in last_reason(said)


def test_a_market_buy_spends_no_more_than_there_is() -> None:
    exchange = paper_exchange(depth(asks=ASKS), known=recovered(cash=1_213))
    assert taken(say(exchange, submit(buy(12)))) == [(101, 10), (102, 1)]


def test_cash_of_resting_buys_is_not_spent_twice() -> None:
    exchange = paper_exchange(depth(), known=recovered(cash=1_000), latency_ms=0)
    say(exchange, submit(buy(9, 90)))
    assert taken(say(exchange, submit(buy(1, number=2)))) == [(101, 1)]
    assert say(exchange, submit(buy(1, number=3)))[-1:] == [
        m.OrderEvent(
            ts_ns=NOW_NS,
            client_id=buy(1, number=3).client_id,
            symbol=BTC,
            order_id="1000000003",
            state=S.REJECTED,
            filled_lots=0,
            reason="21721 available balance too low",
        )
    ]


@pytest.mark.parametrize(
    ("intent", "reason"),
    [
        (buy(4, 99), "21330"),
        (buy(6, 9), "21322"),
        (buy(101, 100), "21721"),
        (sell(11, 110), "21721"),
        (sell(11), "21721"),
    ],
    ids=["quantity", "notional", "cash", "coins", "coins of a market order"],
)
def test_an_order_that_breaks_a_rule_is_refused_with_the_exchange_s_code(intent: OrderIntent, reason: str) -> None:
    exchange = paper_exchange(depth(), known=owner(10), qty_lots_min=5, notional_atoms_min=60 * ATOMS)
    said = say(exchange, submit(intent))
    assert states(said) == [S.REJECTED]
    assert last_reason(said).startswith(reason)


def test_a_frozen_market_refuses() -> None:
    assert last_reason(say(paper_exchange(depth(), is_open=False), submit(buy(5)))) == "10041 symbol frozen"


STOP: dict[str, Any] = {"order_type": "STOP", "time_in_force": "GTC", "trigger_ticks": 90, "is_reduce_only": True}


@pytest.mark.parametrize(
    ("intent", "is_taken"),
    [
        (buy(4), True),
        (buy(5), False),
        (sell(5, 110), True),
        (sell(6, 110), False),
        (sell(4, **STOP), True),
        (sell(5, **STOP), False),
        (buy(50, amount_atoms=600 * ATOMS), True),
        (buy(50, amount_atoms=600 * ATOMS + 1), False),
        (sell(5, 120), True),
        (sell(5, 121), False),
    ],
    ids=lambda each: f"{each.order_type} {each.qty_lots} {each.price_ticks}" if isinstance(each, OrderIntent) else "",
)
def test_C6_an_order_larger_than_the_exchange_takes_is_refused(intent: OrderIntent, is_taken: bool) -> None:
    bounds = {"limit_lots_max": 5, "market_lots_max": 4, "notional_atoms_max": 600 * ATOMS}
    said = say(paper_exchange(depth(), known=owner(10), **bounds), submit(intent))
    if is_taken:
        assert states(said)[0] is S.NEW
    else:
        assert last_reason(said) == "21360 size over limit"


def test_C21_a_market_in_post_only_mode_takes_makers_alone() -> None:
    exchange = paper_exchange(depth(), known=owner(10), is_post_only=True)
    for number, intent in enumerate((buy(5), buy(5, 90), sell(5), sell(5, **STOP)), 1):
        said = say(exchange, submit(msgspec.structs.replace(intent, client_id=client_id(1, number))))
        assert last_reason(said) == "21341 post-only mode"
    assert states(say(exchange, submit(buy(5, 90, number=9, order_type="LIMIT_MAKER")))) == [S.NEW]


def test_coins_on_offer_are_not_sold_twice() -> None:
    exchange = paper_exchange(depth(), known=owner(10))
    say(exchange, submit(sell(7, 110)))
    assert states(say(exchange, submit(sell(4, number=2)))) == [S.REJECTED]
    assert states(say(exchange, submit(sell(3, number=3))))[-1] is S.FILLED


def test_a_fee_is_taken_out_of_what_is_received_and_rounded_against_us() -> None:
    exchange = paper_exchange(
        depth(((99, 10),), ((101, 10),)),
        known=owner(10),
        taker_fee_ppm=1_550,
        maker_fee_ppm=333_333,
        quantity_scale=15,
        notional_atoms_min=0,
        price_scale=1,
    )
    bought = only(say(exchange, submit(buy(3))), m.Fill)
    assert (bought.fee_atoms, bought.is_maker) == (1, False)  # of 30 base atoms
    sold = only(say(exchange, submit(sell(3, number=2))), m.Fill)
    assert (sold.fee_atoms, sold.is_maker) == (1, False)  # of 297 quote atoms
    say(exchange, submit(buy(3, 99, number=3)), depth(((98, 1),), ((102, 1),)))
    rested = only(say(exchange, trade(98, 3)), m.Fill)
    assert (rested.fee_atoms, rested.is_maker) == (10, True)


def test_a_fraction_of_a_fee_s_millionth_is_rounded_up() -> None:
    paper = msgspec.structs.replace(
        load_settings([], {}, []).paper, maker_fee_bps=Decimal("14.505"), taker_fee_bps=Decimal("15.5")
    )
    terms = terms_of(paper)
    assert (terms.maker_fee_ppm, terms.taker_fee_ppm) == (1451, 1550)


# --- resting


def resting(qty: int = 5, price: int = 99, *, displayed: int = 10) -> PaperExchange:
    """Return an exchange where a buy of ours stands behind what is displayed at its price."""
    return paper_exchange(depth(((99, displayed), (98, 50))), submit(buy(qty, price)))


def test_a_resting_order_waits_behind_what_was_displayed() -> None:
    exchange = resting(5, displayed=10)
    assert say(exchange, trade(99, 10)) == []
    assert taken(say(exchange, trade(99, 3))) == [(99, 3)]
    assert taken(say(exchange, trade(99, 9))) == [(99, 2)]
    assert say(exchange, trade(99, 9)) == []


def test_a_level_that_shrank_let_us_forward_and_one_that_grew_did_not() -> None:
    exchange = resting(5, displayed=10)
    say(exchange, depth(((99, 4), (98, 50))), depth(((99, 40), (98, 50))))
    assert taken(say(exchange, trade(99, 6))) == [(99, 2)]


def test_a_trade_through_our_price_fills_at_our_price() -> None:
    assert taken(say(resting(5), trade(98, 3))) == [(99, 3)]


def test_an_order_that_a_trade_went_beyond_is_first_from_then_on() -> None:
    exchange = resting(5, displayed=10)
    assert taken(say(exchange, trade(98, 3))) == [(99, 3)]
    assert taken(say(exchange, trade(99, 2))) == [(99, 2)]


@pytest.mark.parametrize("missed", [trade(100, 50), trade(99, 50, Side.BUY), trade(99, 50, symbol=ETH)])
def test_a_trade_elsewhere_fills_nothing(missed: m.TradeTick) -> None:
    assert say(resting(), missed) == []


def test_a_book_that_moved_through_us_fills_at_our_price_once() -> None:
    exchange = resting(50)
    moved = depth(((97, 10),), ((98, 4), (99, 5), (100, 9)))
    assert taken(say(exchange, moved)) == [(99, 4), (99, 5)]
    assert say(exchange, moved) == []
    assert taken(say(exchange, depth(((97, 10),), ((98, 4), (99, 6), (100, 9))))) == [(99, 6)]


def test_one_trade_fills_no_more_than_its_size() -> None:
    exchange = paper_exchange(
        depth(((99, 10), (95, 1))), submit(buy(5, 98)), submit(buy(5, 97, number=2)), submit(buy(5, 96, number=3))
    )
    said = say(exchange, trade(95, 7))
    assert [(fill.client_id, fill.qty_lots) for fill in all_of(said, m.Fill)] == [
        (buy(5).client_id, 5),
        (buy(5, number=2).client_id, 2),
    ]


def test_at_one_price_the_older_order_is_first() -> None:
    exchange = paper_exchange(depth(((98, 10),)), submit(buy(5, 99)), submit(buy(5, 99, number=2)))
    assert only(say(exchange, trade(99, 5)), m.Fill).client_id == buy(5).client_id


def test_below_the_visible_levels_only_a_trade_through_us_counts() -> None:
    exchange = paper_exchange(depth(((99, 10), (98, 10))), submit(buy(5, 90)))
    assert say(exchange, trade(90, 500)) == []
    assert taken(say(exchange, trade(89, 2))) == [(90, 2)]


def test_a_sale_rests_like_a_buy() -> None:
    exchange = paper_exchange(depth(), known=owner(10))
    say(exchange, submit(sell(5, 101)))
    assert say(exchange, trade(101, 10, Side.BUY)) == []
    assert taken(say(exchange, trade(101, 2, Side.BUY))) == [(101, 2)]
    assert taken(say(exchange, depth(((102, 1),), ((103, 1),)))) == [(101, 1)]


# --- the way there


def test_an_order_meets_the_book_of_its_arrival() -> None:
    exchange = paper_exchange(depth(asks=((101, 10),)), latency_ms=50)
    assert say(exchange, submit(buy(5))) == []
    say(exchange, depth(asks=((105, 10),), at_ns=NOW_NS + 49 * MS_NS))
    # What comes at the very moment finds the order already there.
    said = say(exchange, depth(asks=((109, 10),), at_ns=NOW_NS + 50 * MS_NS))
    assert taken(said) == [(105, 5)]


def test_a_tick_lets_orders_arrive() -> None:
    exchange = paper_exchange(depth(), latency_ms=50)
    say(exchange, submit(buy(5)))
    assert say(exchange, tick(NOW_NS + 49 * MS_NS)) == []
    assert states(say(exchange, tick(NOW_NS + 50 * MS_NS))) == [S.NEW, S.FILLED]


def test_a_cancel_that_comes_in_time_ends_the_order() -> None:
    exchange = resting(5, displayed=0)
    say(exchange, trade(99, 2))
    said = say(exchange, cancel(buy(5)))
    assert [(event.state, event.filled_lots) for event in all_of(said, m.OrderEvent)] == [(S.PARTIALLY_CANCELED, 2)]
    assert say(exchange, trade(98, 9), cancel(buy(5))) == []


def test_a_cancel_can_lose_to_a_fill() -> None:
    exchange = paper_exchange(depth(((98, 10),)), latency_ms=50)
    say(exchange, submit(buy(5, 99)), tick(NOW_NS + 60 * MS_NS), cancel(buy(5), at_ns=NOW_NS + 60 * MS_NS))
    assert states(say(exchange, trade(99, 5, at_ns=NOW_NS + 100 * MS_NS))) == [S.FILLED]
    assert say(exchange, tick(NOW_NS + 200 * MS_NS)) == []


def test_an_order_waits_at_the_door_while_there_is_no_book() -> None:
    exchange = paper_exchange()
    assert say(exchange, submit(buy(5)), depth(symbol=ETH)) == []
    assert taken(say(exchange, depth())) == [(101, 5)]
    assert say(exchange, book_lost(), submit(buy(2, number=2))) == []
    assert taken(say(exchange, depth(asks=((120, 9),)))) == [(120, 2)]


def test_an_order_at_the_door_can_be_cancelled() -> None:
    exchange = paper_exchange(submit(buy(5)))
    assert states(say(exchange, cancel(buy(5)))) == [S.CANCELED]
    assert say(exchange, depth()) == []


# --- stops, guards and amounts


def stop(side: Side, trigger: int, qty: int = 5, **changes: Any) -> OrderIntent:
    """Return a stop order that guards what is held."""
    made = order(side, qty, None, time_in_force="GTC", order_type="STOP", trigger_ticks=trigger, role="stop", **changes)
    return msgspec.structs.replace(made, is_reduce_only=True, reserved_atoms=0)


def target(side: Side, price: int, qty: int = 5, **changes: Any) -> OrderIntent:
    """Return a limit order that takes the profit of what is held."""
    made = order(side, qty, price, role="profit", is_reduce_only=True, **changes)
    return msgspec.structs.replace(made, reserved_atoms=0)


def guarded(base: int, *orders: OrderIntent, **steps: Any) -> PaperExchange:
    """Return an exchange at 99 to 101 where strategy `one` holds `base` lots, guarded by `orders`."""
    return paper_exchange(depth(), *map(submit, orders), known=owner(base), **steps)


@pytest.mark.parametrize(
    ("news", "price"),
    [
        (depth(((95, 10),)), 95),
        (depth(((93, 10),)), 93),
        (trade(95, 1), 99),
        (trade(90, 1), 99),
        (depth(((96, 10),)), None),
        (trade(96, 1), None),
    ],
)
def test_a_stop_sells_at_the_market_once_its_trigger_is_reached(news: m.AnyMessage, price: int | None) -> None:
    exchange = guarded(10, stop(Side.SELL, 95))
    assert taken(say(exchange, news)) == ([(price, 5)] if price is not None else [])


@pytest.mark.parametrize(
    ("news", "price"),
    [(depth(asks=((105, 10),)), 105), (trade(106, 1), 101), (depth(asks=((104, 10),)), None), (trade(104, 1), None)],
)
def test_a_stop_buys_a_short_back(news: m.AnyMessage, price: int | None) -> None:
    exchange = guarded(-10, stop(Side.BUY, 105), is_perp=True)
    assert taken(say(exchange, news)) == ([(price, 5)] if price is not None else [])


def test_a_stop_that_is_reached_already_acts_at_once() -> None:
    said = say(guarded(10), submit(stop(Side.SELL, 99)))
    assert states(said) == [S.NEW, S.FILLED]
    assert not only(said, m.Fill).is_maker


def test_a_stop_locks_no_coins_and_may_be_cancelled() -> None:
    exchange = guarded(10, stop(Side.SELL, 95, 10))
    assert taken(say(exchange, submit(sell(4, number=2)))) == [(99, 4)]
    assert states(say(exchange, cancel(stop(Side.SELL, 95, 10)))) == [S.CANCELED]
    assert say(exchange, depth(((90, 10),))) == []


def test_a_stop_that_a_trade_reached_while_there_is_no_book_acts_on_the_next_one() -> None:
    exchange = guarded(10, stop(Side.SELL, 95))
    assert say(exchange, book_lost(), trade(94, 1)) == []
    assert taken(say(exchange, depth())) == [(99, 5)]


def test_what_a_triggered_stop_finds_no_buyers_for_is_cancelled() -> None:
    said = say(guarded(10, stop(Side.SELL, 95)), depth(((90, 3),)))
    assert (taken(said), states(said)[-1]) == ([(90, 3)], S.PARTIALLY_CANCELED)
    assert "no more visible depth" in last_reason(said)


@pytest.mark.parametrize(
    ("is_perp", "held", "side"), [(False, 3, Side.SELL), (True, 3, Side.SELL), (True, -3, Side.BUY)]
)
def test_a_reduce_only_order_is_cut_to_what_its_strategy_holds(is_perp: bool, held: int, side: Side) -> None:
    known = recovered(held={"one": {BTC: held}, "two": {BTC: 7 * held}})
    exchange = paper_exchange(depth(), known=known, is_perp=is_perp)
    said = say(exchange, submit(stop(side, 100)))
    assert [lots for _, lots in taken(said)] == [3]
    assert last_reason(said) == "nothing is left to reduce"


def test_two_guards_never_sell_more_than_is_held() -> None:
    exchange = guarded(5, stop(Side.SELL, 95), target(Side.SELL, 110, number=2))
    said = say(exchange, trade(111, 2, Side.BUY), depth(((94, 10),)), trade(120, 50, Side.BUY))
    assert taken(said) == [(110, 2), (94, 3)]
    assert states(say(exchange, cancel(target(Side.SELL, 110, number=2)))) == [S.PARTIALLY_CANCELED]


def test_a_target_rests_and_is_a_maker() -> None:
    exchange = guarded(5, target(Side.SELL, 110))
    said = say(exchange, trade(111, 9, Side.BUY))
    assert (taken(said), only(said, m.Fill).is_maker) == ([(110, 5)], True)


def test_a_stop_outlives_its_session() -> None:
    exchange = paper_exchange(known=recovered(held={"one": {BTC: 5}}, orders=[record(stop(Side.SELL, 95))]))
    assert say(exchange, depth()) == []
    assert taken(say(exchange, depth(((95, 10),)))) == [(95, 5)]


def spending(amount: int, lots: int = 100) -> OrderIntent:
    """Return an order that spends an amount of whole units."""
    return buy(lots, amount_atoms=amount * ATOMS, reserved_atoms=amount * ATOMS)


@pytest.mark.parametrize(
    ("amount", "fills", "state"),
    [
        (1_010, [(101, 10)], S.FILLED),
        (1_011, [(101, 10)], S.FILLED),
        (1_111, [(101, 10)], S.FILLED),
        (1_112, [(101, 10), (102, 1)], S.FILLED),
        (100, [], S.CANCELED),
        (6_200, [(101, 10), (102, 20), (103, 30)], S.PARTIALLY_CANCELED),
    ],
)
def test_an_amount_is_spent_to_within_a_lot(amount: int, fills: list[tuple[int, int]], state: OrderState) -> None:
    said = say(paper_exchange(depth(asks=ASKS)), submit(spending(amount)))
    assert (taken(said), states(said)[-1]) == (fills, state)


def test_an_amount_buys_at_most_its_lots() -> None:
    said = say(paper_exchange(depth(asks=ASKS)), submit(spending(5_000, lots=12)))
    assert (taken(said), states(said)[-1]) == ([(101, 10), (102, 2)], S.FILLED)


@pytest.mark.parametrize(("amount", "reason"), [(10_001, "21721"), (59, "21322")])
def test_an_amount_that_breaks_a_rule_is_refused(amount: int, reason: str) -> None:
    exchange = paper_exchange(depth(), notional_atoms_min=60 * ATOMS)
    assert last_reason(say(exchange, submit(spending(amount)))).startswith(reason)


def test_a_fee_in_quote_comes_out_of_the_amount() -> None:
    exchange = paper_exchange(depth(asks=((100, 50),)), taker_fee_ppm=10_000, quote_fee_ppm=10_000)
    bought = only(say(exchange, submit(spending(1_010))), m.Fill)
    assert (bought.qty_lots, bought.fee_atoms) == (10, 10 * ATOMS)
    assert taken(say(exchange, submit(msgspec.structs.replace(spending(1_009), client_id="b2")))) == [(100, 9)]


# --- perpetuals


def test_a_perpetual_is_sold_without_coins_and_pays_its_fee_in_quote() -> None:
    exchange = paper_exchange(depth(), is_perp=True, taker_fee_ppm=10_000)
    sold = only(say(exchange, submit(sell(5))), m.Fill)
    assert (sold.qty_lots, sold.fee_atoms) == (5, 495 * ATOMS // 100)
    bought = only(say(exchange, submit(buy(8, number=2))), m.Fill)
    assert (bought.qty_lots, bought.fee_atoms) == (8, 808 * ATOMS // 100)


def test_a_turn_round_is_one_order_whatever_was_reserved_for_its_increase() -> None:
    said = say(guarded(-5, is_perp=True), submit(buy(8, reserved_atoms=3 * 101 * ATOMS)))
    assert taken(said) == [(101, 8)]


# --- recovery


def test_what_had_not_arrived_has_failed() -> None:
    said = say(paper_exchange(), recovered(orders=[record(buy(5), order_id="")]))
    assert states(said) == [S.FAILED]


@pytest.mark.parametrize("intent", [buy(5), buy(5, 99)])
def test_an_order_of_which_only_the_end_was_lost_is_filled(intent: OrderIntent) -> None:
    exchange = paper_exchange()
    assert states(say(exchange, recovered(orders=[record(intent, filled=5)]))) == [S.FILLED]
    assert say(exchange, depth(), cancel(intent)) == []


def test_a_market_order_does_not_outlive_its_session() -> None:
    said = say(paper_exchange(), recovered(orders=[record(buy(5), filled=2)]))
    assert [(event.state, event.filled_lots) for event in all_of(said, m.OrderEvent)] == [(S.PARTIALLY_CANCELED, 2)]


def test_a_resting_order_rests_on_behind_all_that_is_displayed() -> None:
    exchange = paper_exchange(known=recovered(orders=[record(buy(5, 99), filled=2)]))
    say(exchange, depth(((99, 10),)))
    assert say(exchange, trade(99, 10)) == []
    said = say(exchange, trade(99, 10))
    assert taken(said) == [(99, 3)]
    assert only(said, m.Fill).trade_id == "e1.2"
    assert states(said) == [S.FILLED]


def test_a_cancel_that_was_under_way_is_sent_again() -> None:
    exchange = paper_exchange()
    say(exchange, recovered(orders=[record(buy(5, 99), is_cancel_requested=True)]))
    assert states(say(exchange, tick())) == [S.CANCELED]


def test_an_order_that_rests_where_this_session_does_not_trade_stops_nobody() -> None:
    elsewhere = record(buy(5, 99, symbol=ETH))
    exchange = paper_exchange(depth(), known=recovered(orders=[elsewhere]))
    assert taken(say(exchange, submit(buy(1, number=2)))) == [(101, 1)]
    assert states(say(exchange, cancel(elsewhere.intent))) == [S.CANCELED]


def test_order_ids_of_two_sessions_differ() -> None:
    first = only(say(paper_exchange(depth()), submit(buy(1))), m.Fill)
    second = only(say(paper_exchange(depth(), known=recovered(epoch=2)), submit(buy(1))), m.Fill)
    assert first.key != second.key


# --- laws

sides = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 9)), max_size=5)
kinds: list[tuple[OrderType, TimeInForce]] = [
    ("MARKET", "IOC"),
    ("LIMIT", "GTC"),
    ("LIMIT", "IOC"),
    ("LIMIT", "FOK"),
    ("LIMIT_MAKER", "GTC"),
    ("STOP", "GTC"),
]


class PaperAndLedger(RuleBasedStateMachine):
    """A paper exchange in any market, and the ledger of what it says: they never differ by an atom."""

    market = listed()

    def __init__(self) -> None:
        super().__init__()
        self.book = Ledger()
        for fact in (session(cash=3_000), self.market):
            self.book.apply(fact)
        self.now_ns = NOW_NS
        self.orders: dict[str, OrderIntent] = {}
        self.fills: dict[tuple[str, str, str, Side], m.Fill] = {}
        self.restart()

    def say(self, message: m.AnyMessage) -> None:
        for output in self.exchange.handle(message):
            if isinstance(output, m.Fill):
                assert output.key not in self.fills, "a fill was said twice"
                self.fills[output.key] = output
            assert isinstance(output, m.Fill | m.OrderEvent)
            self.book.apply(output)

    @rule()
    def restart(self) -> None:
        """Forget everything but the journal."""
        self.book.apply(session(epoch=self.book.epoch + 1))
        terms = PaperTerms(taker_fee_ppm=1_550, maker_fee_ppm=1_450, latency_ns=20 * MS_NS)
        self.exchange = PaperExchange(terms)
        self.say(self.book.recovered(self.now_ns))
        self.say(self.market)

    @rule(bids=sides, asks=sides)
    def move_book(self, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        lower = sorted({99 - price: lots for price, lots in bids}.items(), reverse=True)
        upper = sorted({101 + price: lots for price, lots in asks}.items())
        self.say(depth(lower, upper, at_ns=self.now_ns))

    @rule(price=st.integers(92, 108), qty=st.integers(1, 30), taker=st.sampled_from(Side))
    def trade(self, price: int, qty: int, taker: Side) -> None:
        self.say(trade(price, qty, taker, at_ns=self.now_ns))

    @rule(
        side=st.sampled_from(Side),
        kind=st.sampled_from(kinds),
        qty=st.integers(1, 25),
        price=st.integers(94, 106),
        is_guard=st.booleans(),
    )
    def submit(self, side: Side, kind: tuple[OrderType, TimeInForce], qty: int, price: int, is_guard: bool) -> None:
        is_stop = kind[0] == "STOP"
        intent = msgspec.structs.replace(
            order(side, qty, price, number=len(self.orders) + 1),
            order_type=kind[0],
            time_in_force=kind[1],
            price_ticks=None if is_stop or kind[0] == "MARKET" else price,
            trigger_ticks=price if is_stop else 0,
            is_reduce_only=is_stop or is_guard,
            client_id=client_id(self.book.epoch, len(self.orders) + 1),
        )
        self.send(intent)

    @rule(qty=st.integers(1, 25), price=st.integers(94, 106))
    def spend(self, qty: int, price: int) -> None:
        intent = buy(2 * qty, client_id=client_id(self.book.epoch, len(self.orders) + 1))
        amount = qty * price * ATOMS
        self.send(msgspec.structs.replace(intent, amount_atoms=amount, reserved_atoms=amount))

    def send(self, intent: OrderIntent) -> None:
        self.orders[intent.client_id] = intent
        self.book.apply(approved(intent))
        self.say(submit(intent, at_ns=self.now_ns))

    @rule(number=st.integers(0, 10))
    def cancel(self, number: int) -> None:
        for intent in list(self.orders.values())[number : number + 1]:
            self.say(cancel(intent, at_ns=self.now_ns))

    @rule(ms=st.integers(1, 60))
    def let_time_pass(self, ms: int) -> None:
        self.now_ns += ms * MS_NS
        self.say(tick(self.now_ns))

    @rule()
    def lose_book(self) -> None:
        self.say(book_lost(at_ns=self.now_ns))

    @invariant()
    def money_and_coins_agree(self) -> None:
        assert self.exchange._cash_atoms == self.book.cash_atoms
        position = self.book.positions.get(BTC, Position())
        assert self.exchange._position(BTC).base_atoms == position.base_atoms
        if self.market.instrument.is_perp:
            assert self.exchange._position(BTC).cost_atoms == position.cost_atoms
        else:
            assert self.book.cash_atoms >= 0
            assert position.base_atoms >= 0

    @invariant()
    def no_order_gets_more_than_it_asked_for(self) -> None:
        for intent in self.orders.values():
            own = [fill for fill in self.fills.values() if fill.client_id == intent.client_id]
            assert sum(fill.qty_lots for fill in own) <= intent.qty_lots
            spent = sum(fill.qty_lots * fill.price_ticks for fill in own) * ATOMS
            is_bound = intent.side is Side.BUY and not self.market.instrument.is_perp
            assert not is_bound or spent <= intent.reserved_atoms
            limit = intent.price_ticks
            assert limit is None or all(intent.side.sign * (limit - fill.price_ticks) >= 0 for fill in own)

    def teardown(self) -> None:
        """Cancel everything: then nothing lives anywhere."""
        for intent in self.orders.values():
            self.say(cancel(intent, at_ns=self.now_ns))
        self.let_time_pass(1_000)
        assert self.book.live_orders == []
        self.money_and_coins_agree()


class PerpetualAndLedger(PaperAndLedger):
    """The same with a perpetual."""

    market = listed(is_perp=True)


TestPaperAndLedger = PaperAndLedger.TestCase
TestPaperAndLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPerpetualAndLedger = PerpetualAndLedger.TestCase
TestPerpetualAndLedger.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


# --- the way there and the way back


def distant(**terms: int) -> PaperExchange:
    exchange = PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=50 * MS_NS, **terms))
    say(exchange, recovered(), listed(), depth())
    return exchange


def at(ms: int) -> m.Tick:
    return tick(NOW_NS + ms * MS_NS)


def test_what_became_of_an_order_is_heard_after_the_way_back() -> None:
    exchange = distant(response_ns=70 * MS_NS)
    assert say(exchange, submit(buy(5)), at(119)) == []
    assert [type(said) for said in say(exchange, at(120))] == [m.OrderEvent, m.Fill, m.OrderEvent]


def arrivals_ms(seed: int) -> list[int]:
    exchange = distant(latency_p99_ns=400 * MS_NS, seed=seed)
    say(exchange, *(submit(buy(1, number=number)) for number in range(1, 6)))
    return [ms for ms in range(900) for _ in all_of(say(exchange, at(ms)), m.Fill)]


def test_delays_belong_to_the_name_of_an_order_and_to_the_seed() -> None:
    assert len(arrivals_ms(1)) == 5
    assert len(set(arrivals_ms(1))) > 1
    assert arrivals_ms(1) == arrivals_ms(1) != arrivals_ms(2)


@pytest.mark.parametrize("seed", range(20))
def test_a_cancel_never_overtakes_its_order(seed: int) -> None:
    exchange = distant(latency_p99_ns=400 * MS_NS, response_ns=9, response_p99_ns=20, seed=seed)
    resting_buy = buy(5, 50)
    assert states(say(exchange, submit(resting_buy), cancel(resting_buy), at(2_000), at(2_001))) == [S.NEW, S.CANCELED]


def test_all_is_answered_after_the_longest_round_trip() -> None:
    for seed in range(50):
        exchange = distant(latency_p99_ns=90 * MS_NS, response_ns=9 * MS_NS, response_p99_ns=70 * MS_NS, seed=seed)
        longest_ns = exchange._terms.round_trip_ns_max
        assert states(say(exchange, submit(buy(5)), tick(NOW_NS + longest_ns + 1)))[-1] is S.FILLED


def test_F29_an_order_whose_approval_is_too_old_is_not_sent() -> None:
    approvals = Approvals(2_000 * MS_NS)
    exchange = PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=0), approvals)
    say(exchange, recovered(), listed(), depth())
    approvals.issue(buy(5), NOW_NS)
    said = say(exchange, submit(buy(5), at_ns=NOW_NS + 3_000 * MS_NS))
    assert (states(said), last_reason(said)) == ([S.REJECTED], "not sent: approved 3000 ms ago, which is too long")


def test_an_approval_is_used_up_by_one_order() -> None:
    approvals = Approvals(2_000 * MS_NS)
    exchange = PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=0), approvals)
    say(exchange, recovered(), listed(), depth())
    approvals.issue(buy(5), NOW_NS)
    assert states(say(exchange, submit(buy(5))))[-1] is S.FILLED
    assert states(say(exchange, submit(buy(5)))) == [S.REJECTED]


# --- what a perpetual costs


def perpetual_held(lots: int, cash: int = 1_000, **terms: int) -> PaperExchange:
    exchange = PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=0, **terms))
    say(exchange, recovered(cash=cash), listed(is_perp=True), depth())
    say(exchange, submit(buy(lots) if lots > 0 else sell(-lots)))
    return exchange


def marked(price: int, at_ns: int = NOW_NS) -> m.MarkPrice:
    return m.MarkPrice(ts_ns=at_ns, symbol=BTC, price_ticks=price)


@pytest.mark.parametrize(("lots", "sign"), [(5, 1), (-5, -1)], ids=["long", "short"])
def test_F71_funding_is_paid_once_at_its_hour_by_who_owes_it(lots: int, sign: int) -> None:
    exchange = perpetual_held(lots)
    due_ns = NOW_NS + 1_000 * MS_NS
    say(exchange, marked(100), m.FundingRate(ts_ns=NOW_NS, symbol=BTC, rate_ppb=1_000_000, due_ns=due_ns))
    assert say(exchange, at(999)) == []
    paid = only(say(exchange, at(1_005)), m.FundingPaid)
    assert (paid.ts_ns, paid.paid_atoms) == (due_ns, sign * 500 * ATOMS // 1_000)
    assert say(exchange, at(1_006)) == []


def test_F72_an_account_that_is_ruined_loses_its_perpetuals_and_their_orders() -> None:
    exchange = perpetual_held(5, cash=300, maintenance_ppm=10_000)
    say(exchange, submit(sell(5, 150, number=2)))
    assert say(exchange, marked(60)) == []
    ended, order_event = say(exchange, marked(41))
    assert isinstance(ended, m.Liquidated)
    assert (ended.signed_lots, ended.price_ticks) == (-5, 41)
    assert states([order_event]) == [S.CANCELED]
    assert say(exchange, marked(10)) == []


def test_a_perpetual_without_a_mark_is_not_closed() -> None:
    assert say(perpetual_held(5, cash=1), at(1)) == []
