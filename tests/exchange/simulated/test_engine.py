from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import pytest

from bot.core.instrument import Side
from bot.core.orders import OrderType, TimeInForce
from bot.exchange.simulated.accounts import Account, Ids
from bot.exchange.simulated.engine import Fill, Matcher
from bot.exchange.simulated.events import BookChange, BookSnapshot, Level, MarketEvent, MarketTrade
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.liquidity import EndReason, Order, StpMode
from bot.exchange.simulated.venue import Venue
from tests.exchange.simulated.builders import BTC, START_NS, change, snapshot, trade

ANN, BOB, CAT = (Account(number, name, "") for number, name in enumerate(("ann", "bob", "cat")))


class NotingDesk:
    """A desk without money that notes what it is told. `limits` bounds what an order can fill in all."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.fills: list[Fill[Order]] = []
        self.limits: dict[str, int] = {}

    def fillable_lots(self, order: Order, price_ticks: int, lots: int) -> int:
        if order.qty_lots is None:
            return min(lots, (order.budget_atoms - order.filled_value) // price_ticks)
        return min(lots, self.limits.get(order.client_id, 10**9) - order.filled_lots)

    def on_placed(self, order: Order) -> None:
        self.notes.append(f"{order.client_id} placed")

    def on_fill(self, fill: Fill[Order]) -> None:
        self.fills.append(fill)
        taker = fill.taker.client_id if fill.taker is not None else "market"
        maker = fill.maker.client_id if fill.maker is not None else "market"
        self.notes.append(f"{taker} {fill.taker_side} {fill.qty_lots}@{fill.price_ticks} of {maker}")

    def on_ended(self, order: Order) -> None:
        self.notes.append(f"{order.client_id} {order.state} {order.end_reason}")


class Floor:
    """A market, its desk, and short ways to trade on it."""

    def __init__(self, bids: Iterable[Level] = (), asks: Iterable[Level] = ()) -> None:
        self.desk = NotingDesk()
        self.matcher: Matcher[Order] = Matcher(BTC, self.desk, Ids(), bids, asks)
        self._placed = 0

    def place(
        self,
        name: str,
        side: str,
        qty_lots: int | None,
        price_ticks: int | None = None,
        *,
        account: Account = ANN,
        kind: OrderType | None = None,
        time_in_force: TimeInForce = "GTC",
        stp_mode: StpMode = StpMode.EXPIRE_TAKER,
        budget: int = 0,
        slippage_ppb: int | None = None,
    ) -> Order:
        self._placed += 1
        order = Order(
            order_id=self._placed,
            client_id=name,
            account=account,
            symbol=BTC,
            side=Side(side),
            order_type=kind or ("MARKET" if price_ticks is None else "LIMIT"),
            time_in_force=time_in_force,
            price_ticks=price_ticks,
            qty_lots=qty_lots,
            budget_atoms=budget,
            stp_mode=stp_mode,
            slippage_ppb=slippage_ppb,
            created_ns=START_NS,
            updated_ns=START_NS,
        )
        self.matcher.place(order, START_NS)
        return order

    def replay(self, event: MarketEvent) -> list[MarketEvent]:
        self.matcher.take_public(START_NS)
        self.matcher.replay(event)
        return self.matcher.take_public(START_NS)

    def book(self) -> tuple[list[Level], list[Level]]:
        return self.matcher.bids.levels(), self.matcher.asks.levels()

    def notes(self) -> list[str]:
        notes, self.desk.notes = self.desk.notes, []
        return notes


# --- clients alone


def test_the_best_price_is_served_first_then_the_older_order() -> None:
    floor = Floor()
    for name, price, account in (("a", 102, ANN), ("b", 101, BOB), ("c", 101, CAT)):
        floor.place(name, "SELL", 5, price, account=account)
    floor.notes()
    taker = floor.place("t", "BUY", 12, 102, account=Account(9, "dan", ""))
    assert floor.notes() == ["t placed", "t BUY 5@101 of b", "t BUY 5@101 of c", "t BUY 2@102 of a"]
    assert (taker.state, taker.filled_lots, taker.filled_value) == ("FILLED", 12, 5 * 101 * 2 + 2 * 102)
    assert floor.book() == ([], [(102, 3)])


def test_what_is_not_filled_of_a_limit_order_rests_at_its_price() -> None:
    floor = Floor()
    floor.place("a", "SELL", 5, 101)
    taker = floor.place("t", "BUY", 8, 101, account=BOB)
    assert (taker.state, taker.leaves_lots, taker.is_resting) == ("PARTIALLY_FILLED", 3, True)
    assert floor.book() == ([(101, 3)], [])
    assert [order.client_id for order in floor.matcher.orders()] == ["t"]


def test_a_taker_pays_the_price_of_the_order_that_rested() -> None:
    floor = Floor()
    floor.place("a", "BUY", 5, 99)
    taker = floor.place("t", "SELL", 5, 90, account=BOB)
    assert taker.filled_value == 5 * 99


def test_cancelling_takes_an_order_off_the_book() -> None:
    floor = Floor(bids=[(99, 2)])
    order = floor.place("a", "BUY", 5, 99)
    assert floor.book() == ([(99, 7)], [])
    floor.matcher.cancel(order, START_NS + 1)
    assert floor.book() == ([(99, 2)], [])
    assert (order.state, order.end_reason, order.updated_ns) == ("CANCELED", EndReason.USER, START_NS + 1)


@pytest.mark.parametrize(
    ("kind", "time_in_force", "qty_lots", "state", "filled", "reason"),
    [
        ("LIMIT", "IOC", 4, "FILLED", 4, None),
        ("LIMIT", "IOC", 9, "PARTIALLY_CANCELED", 5, EndReason.NOTHING_LEFT),
        ("LIMIT", "FOK", 5, "FILLED", 5, None),
        ("LIMIT", "FOK", 6, "CANCELED", 0, EndReason.NOT_ALL),
        ("LIMIT_MAKER", "GTC", 1, "CANCELED", 0, EndReason.WOULD_TAKE),
        ("MARKET", "GTC", 6, "FILLED", 6, None),
        ("MARKET", "GTC", 20, "PARTIALLY_CANCELED", 10, EndReason.NO_OTHER_SIDE),
    ],
)
def test_how_long_an_order_stays(
    kind: OrderType, time_in_force: TimeInForce, qty_lots: int, state: str, filled: int, reason: EndReason | None
) -> None:
    floor = Floor()
    floor.place("a", "SELL", 5, 101)
    floor.place("b", "SELL", 5, 102)
    price = None if kind == "MARKET" else 101
    order = floor.place("t", "BUY", qty_lots, price, account=BOB, kind=kind, time_in_force=time_in_force)
    assert (order.state, order.filled_lots, order.end_reason) == (state, filled, reason)
    assert not order.is_resting


def test_an_immediate_order_that_meets_nothing_is_cancelled_unfilled() -> None:
    floor = Floor(asks=[(105, 1)])
    order = floor.place("t", "BUY", 1, 104, time_in_force="IOC")
    assert floor.notes() == ["t placed", "t CANCELED LIMIT_MATCH_IOC_ORDER_CANNOT_FILLED"]
    assert not order.filled_lots


def test_a_post_only_order_that_takes_nothing_rests() -> None:
    floor = Floor(asks=[(101, 1)])
    assert floor.place("a", "BUY", 1, 100, kind="LIMIT_MAKER").is_resting


@pytest.mark.parametrize(
    ("budget", "filled", "value", "state"),
    [(505, 5, 505, "FILLED"), (504, 4, 404, "FILLED"), (710, 7, 709, "FILLED"), (100, 0, 0, "CANCELED")],
)
def test_a_market_buy_by_amount_spends_no_more_and_ends_when_no_lot_can_be_bought(
    budget: int, filled: int, value: int, state: str
) -> None:
    floor = Floor(asks=[(101, 5), (102, 50)])
    order = floor.place("t", "BUY", None, budget=budget)
    assert (order.filled_lots, order.filled_value, order.state) == (filled, value, state)


def test_slippage_tolerance_stops_a_market_order() -> None:
    floor = Floor(asks=[(1_000, 1), (1_010, 1), (1_011, 1)], bids=[(900, 1), (891, 1), (890, 1)])
    buy = floor.place("b", "BUY", 3, slippage_ppb=10**7)
    sell = floor.place("s", "SELL", 3, slippage_ppb=10**7, account=BOB)
    for order in (buy, sell):
        assert (order.filled_lots, order.state, order.end_reason) == (2, "PARTIALLY_CANCELED", EndReason.SLIPPAGE)


@pytest.mark.parametrize(
    ("mode", "taker_filled", "taker_state", "maker_state"),
    [
        (StpMode.EXPIRE_TAKER, 3, "PARTIALLY_CANCELED", "NEW"),
        (StpMode.EXPIRE_MAKER, 6, "FILLED", "CANCELED"),
        (StpMode.EXPIRE_BOTH, 3, "PARTIALLY_CANCELED", "CANCELED"),
        (StpMode.NONE, 6, "FILLED", "PARTIALLY_FILLED"),
    ],
)
def test_an_order_that_meets_its_own_account(
    mode: StpMode, taker_filled: int, taker_state: str, maker_state: str
) -> None:
    floor = Floor()
    floor.place("other", "SELL", 3, 100, account=BOB)
    own = floor.place("own", "SELL", 5, 101)
    floor.place("last", "SELL", 9, 102, account=BOB)
    taker = floor.place("t", "BUY", 6, 102, stp_mode=mode)
    assert (taker.filled_lots, taker.state, own.state) == (taker_filled, taker_state, maker_state)


@pytest.mark.parametrize(("mode", "state"), [(StpMode.EXPIRE_TAKER, "CANCELED"), (StpMode.EXPIRE_MAKER, "FILLED")])
def test_all_or_nothing_counts_no_orders_of_its_own(mode: StpMode, state: str) -> None:
    floor = Floor()
    floor.place("own", "SELL", 5, 101)
    floor.place("other", "SELL", 5, 102, account=BOB)
    order = floor.place("t", "BUY", 5, 102, time_in_force="FOK", stp_mode=mode)
    assert order.state == state


def test_a_maker_that_can_give_less_than_it_shows_is_cut_and_ended() -> None:
    floor = Floor()
    floor.desk.limits["cut"] = 2
    cut = floor.place("cut", "SELL", 5, 101)
    floor.place("next", "SELL", 5, 101, account=CAT)
    taker = floor.place("t", "BUY", 5, 101, account=BOB)
    assert (cut.state, cut.filled_lots, taker.state) == ("PARTIALLY_CANCELED", 2, "FILLED")
    assert floor.book() == ([], [(101, 2)])


# --- the replayed market


def test_a_taker_consumes_the_displayed_levels_until_they_change() -> None:
    floor = Floor(bids=[(99, 5)], asks=[(101, 5), (102, 5)])
    floor.place("t", "BUY", 7, 102)
    assert floor.notes() == ["t placed", "t BUY 5@101 of market", "t BUY 2@102 of market"]
    assert floor.book() == ([(99, 5)], [(102, 3)])
    floor.replay(change(asks=[(101, 5), (102, 5)]))  # nothing new
    assert floor.book()[1] == [(102, 3)]
    floor.replay(change(asks=[(101, 4), (102, 6)]))
    assert floor.book()[1] == [(101, 4), (102, 6)]


def test_a_whole_new_book_keeps_what_was_consumed_of_the_levels_that_stayed() -> None:
    floor = Floor(asks=[(101, 5), (102, 5)])
    floor.place("t", "BUY", 6, 102)
    (event,) = floor.replay(snapshot(bids=[(99, 1)], asks=[(101, 7), (102, 5)]))
    assert isinstance(event, BookSnapshot)
    assert (event.bids, event.asks) == (((99, 1),), ((101, 7), (102, 4)))


def test_the_displayed_quantity_is_served_before_an_order_and_what_is_added_later_after_it() -> None:
    floor = Floor(asks=[(101, 5)])
    floor.place("a", "SELL", 3, 101)
    floor.replay(change(asks=[(101, 9)]))
    floor.notes()
    floor.place("t", "BUY", 10, 101, account=BOB)
    assert floor.notes() == ["t placed", "t BUY 5@101 of market", "t BUY 3@101 of a", "t BUY 2@101 of market"]
    assert floor.book()[1] == [(101, 2)]


@pytest.mark.parametrize(
    ("price", "qty_lots", "filled"),
    [(99, 5, 0), (99, 6, 1), (99, 20, 4), (98, 3, 3), (98, 20, 4), (100, 50, 0)],
    ids=["all before it", "one of it", "all of it", "through, a part", "through", "not reached"],
)
def test_replayed_trades_fill_an_order_when_all_before_it_is_served(price: int, qty_lots: int, filled: int) -> None:
    floor = Floor(bids=[(99, 5)], asks=[(101, 5)])
    order = floor.place("a", "BUY", 4, 99)
    floor.replay(trade(price, qty_lots=qty_lots, taker_side="sell"))
    assert (order.filled_lots, order.filled_value) == (filled, filled * 99)


def test_a_queue_gets_shorter_with_trades_and_with_the_level() -> None:
    floor = Floor(bids=[(99, 5)])
    order = floor.place("a", "BUY", 4, 99)
    floor.replay(trade(99, qty_lots=2, taker_side="sell"))
    assert order.ahead_lots == 3
    floor.replay(change(bids=[(99, 3)]))
    assert order.ahead_lots == 3
    floor.replay(change(bids=[(99, 1)]))
    assert order.ahead_lots == 1
    floor.replay(change(bids=[(99, 50)]))
    assert order.ahead_lots == 1
    floor.replay(trade(99, qty_lots=2, taker_side="sell"))
    assert order.filled_lots == 1


def test_a_trade_that_takes_the_other_side_fills_nothing() -> None:
    floor = Floor()
    order = floor.place("a", "BUY", 4, 99)
    floor.replay(trade(99, qty_lots=9, taker_side="buy"))
    assert not order.filled_lots


def test_one_trade_fills_several_orders_best_first_and_the_rest_of_it_is_published() -> None:
    floor = Floor()
    floor.place("low", "BUY", 4, 98)
    floor.place("high", "BUY", 4, 99)
    events = floor.replay(trade(98, qty_lots=10, taker_side="sell", trade_id="7"))
    trades = [(event.price_ticks, event.qty_lots) for event in events if isinstance(event, MarketTrade)]
    assert trades == [(99, 4), (98, 4), (98, 2)]
    ids = [int(event.trade_id) for event in events if isinstance(event, MarketTrade)]
    assert ids == sorted(set(ids))
    assert isinstance(events[-1], BookChange)


def test_trades_keep_their_ids_until_a_client_has_traded() -> None:
    floor = Floor(asks=[(101, 5)])
    floor.place("a", "BUY", 4, 99)
    (told,) = floor.replay(trade(101, trade_id="7"))
    assert told == trade(101, trade_id="7")
    floor.place("t", "BUY", 1, account=BOB)
    (told, *_) = floor.replay(trade(101, trade_id="8"))
    assert isinstance(told, MarketTrade)
    assert int(told.trade_id) > 10**15


def test_levels_that_come_across_an_order_trade_with_it_at_its_price() -> None:
    floor = Floor(bids=[(98, 1)], asks=[(101, 5)])
    order = floor.place("a", "BUY", 4, 100)
    events = floor.replay(change(asks=[(99, 3)]))
    assert (order.filled_lots, order.filled_value) == (3, 300)
    assert floor.book() == ([(100, 1), (98, 1)], [(101, 5)])
    (told, _) = events
    assert isinstance(told, MarketTrade)
    assert (told.price_ticks, told.qty_lots, told.taker_side) == (100, 3, "sell")
    floor.replay(snapshot(bids=[(90, 1)], asks=[(100, 3)]))
    assert order.state == "FILLED"
    assert floor.book() == ([(90, 1)], [(100, 2)])


def test_a_sell_across_new_bids_trades_too() -> None:
    floor = Floor(bids=[(98, 1)])
    order = floor.place("a", "SELL", 4, 100)
    floor.replay(change(bids=[(100, 9)]))
    assert (order.state, floor.book()) == ("FILLED", ([(100, 5), (98, 1)], []))


def test_nothing_is_told_of_a_market_where_nothing_changed() -> None:
    floor = Floor(bids=[(98, 1)])
    assert floor.matcher.take_public(START_NS) == []
    floor.place("t", "BUY", 1)
    assert floor.matcher.take_public(START_NS) == []


def test_the_book_is_told_after_the_trades_and_only_where_it_changed() -> None:
    floor = Floor(bids=[(98, 1)], asks=[(101, 5), (102, 5)])
    floor.place("t", "BUY", 7, 101)
    told, book = floor.matcher.take_public(START_NS)
    assert isinstance(told, MarketTrade)
    assert book == BookChange(START_NS, BTC, ((101, 2),), ((101, 0),))


def test_a_market_whose_clients_have_gone_is_shown_as_if_they_had_never_come() -> None:
    source = GeneratedMarket([BTC], 3, START_NS)
    alone = Venue(source.instruments, START_NS)
    shown = Venue(source.instruments, START_NS)
    events = source.events()
    opening = next(events)
    assert isinstance(opening, BookSnapshot)
    floor = Floor(opening.bids, opening.asks)
    for venue in (alone, shown):
        venue.apply(opening, ())
    for side, price in (("BUY", 1), ("SELL", 10**9)):
        floor.matcher.cancel(floor.place(side, side, 5, price), START_NS)
    topics = {("book_lv2", BTC), ("trades", BTC), ("ticker", BTC), ("candles_minute_1", BTC)}
    for event in islice(events, 3_000):
        floor.matcher.replay(event)
        told = [frame for each in floor.matcher.take_public(event.ts_ns) for frame in shown.publish(each, topics)]
        assert told == alone.apply(event, topics)
