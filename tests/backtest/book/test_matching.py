"""The compiled desk fills what the paper exchange fills, and its queue models do what they say."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest.book import matching as mt
from bot.backtest.book.events import ASK, BID, BOUGHT, CLEAR, IS_LAST, SOLD, BookEvents, make_events
from bot.backtest.book.ladder import make_ladder
from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.orders import OrderIntent
from tests.backtest.book.markets import BTC, MS_NS, START_NS, RandomBook, Row

LATENCY_NS = 25 * MS_NS
Filled = tuple[str, int, int, int, bool]
"""Client id, signed lots, price, order of its fills, whether as a maker."""


class Desk:
    """The compiled desk, asked order by order."""

    def __init__(self, events: BookEvents, *, power: int = 0) -> None:
        self._events, self._power = events, power
        self._book, self._desk = make_ladder(events.width), mt.make_desk(1_024)

    def advance(self, until_ns: int) -> list[list[int]]:
        """Return the rows of the log up to then."""
        said: list[list[int]] = []
        is_full = True
        while is_full:
            is_full = mt.advance(*self._events[4:8], *self._book, self._desk, until_ns, 20, self._power)
            said += self._desk.log[: self._desk.cursor[mt.LOGGED]].tolist()
            self._desk.cursor[mt.LOGGED] = 0
        return said

    def place(self, order_id: int, due_ns: int, side: int, price_ticks: int, lots: int, rules: int) -> None:
        at = min(max((price_ticks - self._events.base_ticks) // self._events.step_ticks, 0), self._events.width - 1)
        assert mt.send(self._desk, order_id, side, at, lots, due_ns, rules)

    def cancel(self, order_id: int, due_ns: int) -> None:
        assert mt.send(self._desk, order_id, 0, 0, 0, due_ns, 0)


class Order:
    """One order of a script, sent at `sent_ns`, perhaps cancelled later."""

    def __init__(self, number: int, rng: random.Random, book: RandomBook) -> None:
        self.number = number
        self.sent_ns = book.now_ns
        self.side = rng.choice([1, -1])
        own = book.bids if self.side > 0 else book.asks
        other = book.asks if self.side > 0 else book.bids
        self.kind = rng.choice(["LIMIT", "LIMIT", "LIMIT_MAKER", "MARKET"])
        self.price = rng.choice(sorted({*own, *other} or {5_000}))
        self.lots = rng.randrange(1, 60)
        self.cancel_ns = book.now_ns + rng.randrange(1, 800) * MS_NS


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6))
def test_the_compiled_desk_fills_what_the_paper_exchange_fills(seed: int) -> None:
    book, rng = RandomBook(seed), random.Random(seed + 1)
    messages: list[list[Row]] = []
    depths: list[m.AnyMessage] = []
    script: list[Order] = []
    for message in book.messages(150):
        messages.append(message)
        depths.append(_paper_news(message, book))
        if len(messages) > 1 and rng.random() < 0.15 and len(script) < mt.ORDERS_MAX:
            script.append(Order(len(script) + 1, rng, book))
    assert _compiled(messages, script) == _on_paper(messages, depths, script)


def _paper_news(rows: list[Row], book: RandomBook) -> m.AnyMessage:
    ts_ns, kind, price, lots = rows[-1]
    if kind & 7 in (BOUGHT, SOLD):
        taker = Side.BUY if kind & 7 == BOUGHT else Side.SELL
        return m.TradeTick(
            ts_ns=ts_ns, symbol=BTC.symbol, trade_id="1", price_ticks=price, qty_lots=lots, taker_side=taker
        )
    bids = tuple(sorted(book.bids.items(), reverse=True))
    return m.Depth(ts_ns=ts_ns, symbol=BTC.symbol, bids=bids, asks=tuple(sorted(book.asks.items())))


def _on_paper(messages: list[list[Row]], news: list[m.AnyMessage], script: list[Order]) -> list[Filled]:
    exchange = PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=LATENCY_NS))
    said: list[m.AnyMessage] = []

    def tell(message: m.AnyMessage) -> None:
        said.extend(exchange.handle(message))

    tell(m.InstrumentListed(ts_ns=START_NS, instrument=BTC))
    tell(
        m.Recovered(
            ts_ns=START_NS,
            epoch=1,
            quote="USDT",
            cash_atoms=10**12 * ATOMS,
            holdings={"s": {BTC.symbol: 10**9 * ATOMS}},
            orders=(),
            risk_state=m.RiskState.NORMAL,
            risk_cause="",
            equity=None,
        )
    )
    for _, action in sorted(_actions(script, messages, news), key=lambda item: item[0]):
        tell(action)
    fills = [each for each in said if isinstance(each, m.Fill)]
    return [(f.client_id, f.side.sign * f.qty_lots, f.price_ticks, k, f.is_maker) for k, f in enumerate(fills)]


def _actions(
    script: list[Order], messages: list[list[Row]], news: list[m.AnyMessage]
) -> Iterable[tuple[tuple[int, int, int], m.AnyMessage]]:
    """Yield everything with its place in time: what is sent at an instant is sent after the news of that instant."""
    last_ns = messages[-1][-1][0]
    for number, message in enumerate(news):
        yield (message.ts_ns, 0, number), message
    for order in script:
        intent = OrderIntent(
            client_id=str(order.number),
            strategy="s",
            symbol=BTC.symbol,
            side=Side.BUY if order.side > 0 else Side.SELL,
            order_type="MARKET"
            if order.kind == "MARKET"
            else "LIMIT_MAKER"
            if order.kind == "LIMIT_MAKER"
            else "LIMIT",
            time_in_force="IOC" if order.kind == "MARKET" else "GTC",
            qty_lots=order.lots,
            price_ticks=None if order.kind == "MARKET" else order.price,
            reserved_atoms=10**12 * ATOMS,
        )
        yield (order.sent_ns, 1, order.number), m.SubmitOrder(ts_ns=order.sent_ns, intent=intent)
        if order.cancel_ns <= last_ns:
            cancel = m.CancelOrder(ts_ns=order.cancel_ns, client_id=str(order.number))
            yield (order.cancel_ns, 1, order.number), cancel
    end_ns = last_ns + 10**9
    yield (end_ns, 0, 0), m.Tick(ts_ns=end_ns)


def _compiled(messages: list[list[Row]], script: list[Order]) -> list[Filled]:
    events = make_events(BTC, [row for message in messages for row in message], "test")
    desk = Desk(events)
    last_ns = messages[-1][-1][0]
    fills: list[Filled] = []

    def play_until(ts_ns: int) -> None:
        for row in desk.advance(ts_ns):
            if row[mt.LOG_WHAT] in (mt.TAKEN, mt.MADE):
                price = events.base_ticks + events.step_ticks * row[mt.LOG_PRICE]
                signed = row[mt.LOG_SIDE] * row[mt.LOG_LOTS]
                fills.append((str(row[mt.LOG_ID]), signed, price, len(fills), row[mt.LOG_WHAT] == mt.MADE))

    todo = [(order.sent_ns, order.number, order, True) for order in script]
    todo += [(order.cancel_ns, order.number, order, False) for order in script if order.cancel_ns <= last_ns]
    for ts_ns, _, order, is_new in sorted(todo, key=lambda item: item[:2]):
        play_until(ts_ns)
        if is_new:
            rules = {"LIMIT": 0, "LIMIT_MAKER": mt.POST_ONLY, "MARKET": mt.IMMEDIATE}[order.kind]
            price = (10**9 if order.side > 0 else 0) if order.kind == "MARKET" else order.price
            desk.place(order.number, ts_ns + LATENCY_NS, order.side, price, order.lots, rules)
        else:
            desk.cancel(order.number, ts_ns + LATENCY_NS)
    play_until(last_ns + 10**9)
    return fills


def rows(*messages: tuple[int, list[tuple[int, int, int]]]) -> list[Row]:
    made: list[Row] = []
    for ms, levels in messages:
        made += [(START_NS + ms * MS_NS, kind, price, lots) for kind, price, lots in levels]
        ts_ns, kind, price, lots = made[-1]
        made[-1] = ts_ns, kind | IS_LAST, price, lots
    return made


def filled(made: list[Row], *, power: int, lots: int = 10) -> list[tuple[int, int]]:
    """Return (ms, lots) of the fills of a buy at 99 that arrives 1 ms after the first book."""
    desk = Desk(make_events(BTC, made, "test"), power=power)
    desk.advance(START_NS)
    desk.place(1, START_NS + MS_NS, 1, 99, lots, mt.POST_ONLY)
    said = desk.advance(START_NS + 10**9)
    return [((row[0] - START_NS) // MS_NS, row[mt.LOG_LOTS]) for row in said if row[mt.LOG_WHAT] == mt.MADE]


BOOK = (0, [(CLEAR, 0, 0), (BID, 99, 100), (ASK, 101, 50)])


def test_a_resting_order_waits_behind_all_that_was_displayed() -> None:
    assert filled(rows(BOOK, (5, [(SOLD, 99, 100)])), power=0) == []
    assert filled(rows(BOOK, (5, [(SOLD, 99, 100)]), (6, [(SOLD, 99, 4)])), power=0) == [(6, 4)]
    assert filled(rows(BOOK, (5, [(SOLD, 99, 103)])), power=0) == [(5, 3)]


def test_a_trade_through_the_price_fills_no_more_than_it_traded() -> None:
    assert filled(rows(BOOK, (5, [(SOLD, 98, 7)])), power=0) == [(5, 7)]


def test_a_book_that_moved_through_the_price_fills_at_the_price() -> None:
    assert filled(rows(BOOK, (5, [(BID, 99, 0), (ASK, 98, 4)])), power=0) == [(5, 4)]


def test_who_leaves_the_queue_stood_behind_us_or_in_front_by_the_power_of_their_numbers() -> None:
    # 100 before us, then 100 more behind us; half of all leave without a trade.
    grows, shrinks = (3, [(BID, 99, 200)]), (4, [(BID, 99, 100)])
    assert filled(rows(BOOK, grows, shrinks, (5, [(SOLD, 99, 51)])), power=0) == []
    assert filled(rows(BOOK, grows, shrinks, (5, [(SOLD, 99, 51)])), power=1) == [(5, 1)]


def test_the_queue_cannot_be_longer_than_what_is_displayed() -> None:
    assert filled(rows(BOOK, (4, [(BID, 99, 20)]), (5, [(SOLD, 99, 23)])), power=0) == [(5, 3)]
