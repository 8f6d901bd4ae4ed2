"""Paper and the simulated exchange match by the same rules: the same orders on the same market are filled alike.

The third matcher, the compiled one of backtests, is held against paper in `tests/backtest/test_engines_agree.py` and
`tests/backtest/book/test_matching.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.orders import OrderIntent, OrderState, OrderType, TimeInForce
from bot.exchange.simulated.accounts import Account, Ids
from bot.exchange.simulated.engine import Fill, Matcher
from bot.exchange.simulated.events import BookSnapshot, MarketTrade
from bot.exchange.simulated.liquidity import Order
from tests.support.builders import (
    BTC,
    NOW_NS,
    all_of,
    cancel,
    depth,
    order,
    paper_exchange,
    recovered,
    say,
    submit,
    trade,
)

STEPS = 80
LEVELS = 80
"""So many that no order of ours is ever outside: there paper keeps its place in the queue, as nothing is known."""
NEAR = 6
RICH = 10**9
DONE = {OrderState.FILLED, OrderState.CANCELED, OrderState.PARTIALLY_CANCELED}
ME = Account(1, "me", "")
Booked = tuple[str, int, int, bool]
"""(client id, price, lots, whether it rested)"""


@dataclass
class Desk:
    """Knows no money, and notes what was filled."""

    fills: list[Booked] = field(default_factory=list[Booked])

    def fillable_lots(self, order: Order, price_ticks: int, lots: int) -> int:
        return lots

    def on_placed(self, order: Order) -> None: ...

    def on_fill(self, fill: Fill[Order]) -> None:
        for mine, is_maker in ((fill.taker, False), (fill.maker, True)):
            if mine is not None:
                self.fills.append((mine.client_id, fill.price_ticks, fill.qty_lots, is_maker))

    def on_ended(self, order: Order) -> None: ...


class Both:
    """One market, and two exchanges that play it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.mid = 1_000
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.paper = paper_exchange(known=recovered(cash=RICH, held={"one": {BTC: RICH}}))
        self.desk = Desk()
        self.matcher: Matcher[Order] = Matcher(BTC, self.desk, Ids(), (), ())
        self.ours: dict[str, tuple[OrderIntent, Order]] = {}
        self.paper_fills: list[Booked] = []
        self.states: dict[str, OrderState] = {}
        self.placed = 0
        self.show()

    def hear(self, said: list[m.AnyMessage]) -> None:
        for fill in all_of(said, m.Fill):
            self.paper_fills.append((fill.client_id, fill.price_ticks, fill.qty_lots, fill.is_maker))
        for event in all_of(said, m.OrderEvent):
            self.states[event.client_id] = event.state

    @property
    def living(self) -> list[OrderIntent]:
        return [intent for name, (intent, _) in self.ours.items() if self.states[name] not in DONE]

    # --- the market

    def show(self) -> None:
        """Show a new book: it moved by up to two ticks, and most of its levels are what they were."""
        self.mid += self.rng.choice((-2, -1, 0, 0, 0, 1, 2))
        for levels, sign in ((self.bids, -1), (self.asks, 1)):
            before = dict(levels)
            levels.clear()
            for step in range(1, LEVELS + 1):
                price = self.mid + sign * step
                is_new = price not in before or self.rng.random() < 0.3
                levels[price] = self.rng.randrange(1, 40) if is_new else before[price]
        bids, asks = sorted(self.bids.items(), reverse=True), sorted(self.asks.items())
        self.hear(say(self.paper, depth(bids, asks)))
        self.matcher.replay(BookSnapshot(NOW_NS, BTC, tuple(bids), tuple(asks)))

    def trade(self) -> None:
        is_buy = self.rng.random() < 0.5
        price = self.mid + (1 if is_buy else -1) * self.rng.randrange(1, 4)
        lots = self.rng.randrange(1, 60)
        self.hear(say(self.paper, trade(price, lots, Side.BUY if is_buy else Side.SELL)))
        self.matcher.replay(MarketTrade(NOW_NS, BTC, "1", price, lots, "buy" if is_buy else "sell"))

    # --- orders

    def place(self) -> None:
        """Send an order that meets none of ours, and would not rest beside one, nor where we took.

        There paper is the more pessimistic one: each order waits for all that was displayed when it came, whoever
        was served of it before.
        """
        side = self.rng.choice((Side.BUY, Side.SELL))
        kind: OrderType = self.rng.choice(("LIMIT", "LIMIT", "LIMIT", "MARKET", "LIMIT_MAKER"))
        price = None if kind == "MARKET" else self.mid + self.rng.randrange(1 - NEAR, NEAR)
        prices = [intent.price_ticks for intent in self.living]
        others = [each.price_ticks for each in self.living if each.side is not side and each.price_ticks is not None]
        taken = self.matcher.bids._taken.keys() | self.matcher.asks._taken.keys()
        if (price is None and others) or price in prices or price in taken:
            return
        if price is not None and any(side.sign * (price - other) >= 0 for other in others):
            return
        force: TimeInForce = "IOC" if kind == "MARKET" else "GTC"
        if kind == "LIMIT":
            force = self.rng.choice(("GTC", "GTC", "IOC", "FOK"))
        self.placed += 1
        lots = self.rng.randrange(1, 50)
        reserved = 10**6 * ATOMS if side is Side.BUY else 0
        intent = order(
            side, lots, price, number=self.placed, order_type=kind, time_in_force=force, reserved_atoms=reserved
        )
        theirs = Order(
            order_id=self.placed,
            client_id=intent.client_id,
            account=ME,
            symbol=BTC,
            side=side,
            order_type=kind,
            time_in_force=force,
            price_ticks=price,
            qty_lots=lots,
            created_ns=NOW_NS,
            updated_ns=NOW_NS,
        )
        self.ours[intent.client_id] = intent, theirs
        self.hear(say(self.paper, submit(intent)))
        self.matcher.place(theirs, NOW_NS)

    def cancel(self) -> None:
        if self.living:
            intent = self.rng.choice(self.living)
            self.hear(say(self.paper, cancel(intent)))
            self.matcher.cancel(self.ours[intent.client_id][1], NOW_NS)

    def play(self) -> None:
        for _ in range(STEPS):
            self.rng.choice((self.show, self.trade, self.trade, self.place, self.place, self.place, self.cancel))()
            assert self.paper_fills == self.desk.fills
            assert self.states == {name: theirs.state for name, (_, theirs) in self.ours.items()}


@pytest.mark.parametrize("seeds", [range(first, first + 50) for first in range(0, 300, 50)], ids=str)
def test_paper_and_the_simulated_exchange_fill_alike(seeds: range) -> None:
    makers = takers = 0
    for seed in seeds:
        both = Both(seed)
        try:
            both.play()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        makers += sum(is_maker for *_, is_maker in both.paper_fills)
        takers += sum(not is_maker for *_, is_maker in both.paper_fills)
    assert makers > 100 < takers, "hardly anything was filled"
