"""One side of a market that can be traded with: the replayed market's levels, and the clients' resting orders.

At one price, who came first is served first. What the replayed market displayed when an order came is `ahead_lots` of
it; what the market added since stands behind. Knows neither money nor messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from bot.core.instrument import Side
from bot.core.orders import OrderState, OrderType, TimeInForce
from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.books import BookSide
from bot.exchange.simulated.events import Level

LOTS_UNLIMITED: Final = 2**62
"""What an order wants that is bounded by money, not by quantity."""


class StpMode(StrEnum):
    """What happens when an order would meet another one of its account."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class EndReason(StrEnum):
    """Why an order ended without being filled, in the words of the futures API."""

    USER = "USER_CANCEL_ORDER_ACTION"
    WOULD_TAKE = "LIMIT_MAKER_ORDER_INCORRECT_PRICE_CONDITION"
    NOTHING_LEFT = "LIMIT_MATCH_IOC_ORDER_CANNOT_FILLED"
    NOT_ALL = "LIMIT_MATCH_FOK_ORDER_MAKER_INSUFFICIENT_AVAILABLE_QUANTITY"
    SELF_TRADE = "LIMIT_MATCH_ORDER_TAKER_SELF_TRADE"
    NO_OTHER_SIDE = "MARKET_ORDER_NO_OTHER_SIDE_ORDER"
    SLIPPAGE = "MARKET_ORDER_EXCEED_SLIPPAGE_TOLERANCE"
    NO_MONEY = "MARKET_ORDER_INSUFFICIENT_FUNDS"
    SYSTEM = "SYSTEM_CANCEL_ORDER"


@dataclass(slots=True, eq=False, kw_only=True)
class Order:
    """An order at the exchange, living or ended. A subclass may add what its market needs."""

    order_id: int
    client_id: str
    account: Account
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    price_ticks: int | None
    """None on a market order."""
    qty_lots: int | None
    """None on a market order that is bounded by `budget_atoms`."""
    created_ns: int
    updated_ns: int
    budget_atoms: int = 0
    stp_mode: StpMode = StpMode.EXPIRE_TAKER
    slippage_ppb: int | None = None
    """Of a market order: how far from the best price it may go, in billionths of it."""
    source: str = "API"
    reserved_atoms: int = 0
    """What is frozen for it now; its desk keeps this."""
    state: OrderState = OrderState.NEW
    filled_lots: int = 0
    filled_value: int = 0
    """Sum of price x quantity, in ticks x lots."""
    end_reason: EndReason | None = None
    ahead_lots: int = 0
    """The replayed market's quantity that is served before it, at its price."""
    is_resting: bool = False
    cancel_due_ns: int | None = None
    """When a cancel that was asked for takes effect; until then the order can be filled."""

    @property
    def shown_state(self) -> OrderState:
        """Return the state that a query tells."""
        is_canceling = self.cancel_due_ns is not None and not self.state.is_final
        return OrderState.PENDING_CANCEL if is_canceling else self.state

    @property
    def leaves_lots(self) -> int:
        """Return what is still to be filled."""
        return LOTS_UNLIMITED if self.qty_lots is None else self.qty_lots - self.filled_lots

    @property
    def limit_ticks(self) -> int:
        """Return the price of an order that has one."""
        assert self.price_ticks is not None
        return self.price_ticks


OrderT = TypeVar("OrderT", bound=Order)


class Liquidity(Generic[OrderT]):
    """One side: `house` is what the replayed market has left, `resting` the sum of the clients' orders by price."""

    def __init__(self, *, is_bid: bool) -> None:
        self.house = BookSide(is_bid=is_bid)
        self.resting = BookSide(is_bid=is_bid)
        self.touched: dict[int, None] = {}
        """Prices whose quantity may have changed since somebody last cleared this."""
        self._sign = -1 if is_bid else 1
        self._taken: dict[int, int] = {}
        """What clients took from the house at a price since the replayed market last changed it."""
        self._queues: dict[int, list[OrderT]] = {}

    # --- what is there

    @property
    def best(self) -> int | None:
        """Return the best price of all."""
        house, resting = self.house.best, self.resting.best
        if house is None or resting is None:
            return resting if house is None else house
        return min(house, resting, key=self._sign.__mul__)

    def lots_at(self, price: int) -> int:
        """Return the quantity that the public sees at a price."""
        return self.house.lots_at(price) + self.resting.lots_at(price)

    def levels(self) -> list[Level]:
        """Return all levels that the public sees, best first."""
        return [(price, self.lots_at(price)) for price in self.prices()]

    def changes(self) -> tuple[Level, ...]:
        """Return the touched prices with their quantity now."""
        return tuple((price, self.lots_at(price)) for price in self.touched)

    def prices(self) -> Iterator[int]:
        """Yield every price that has a quantity, best first."""
        sides = (self.house, self.resting)
        yield from sorted({price for side in sides for price, _ in side.top(len(side))}, key=self._sign.__mul__)

    def is_within(self, price: int, bound: int | None) -> bool:
        """Return whether a taker bounded by `bound` takes at `price`."""
        return bound is None or self._sign * price <= self._sign * bound

    def walk(self, price: int) -> Iterator[tuple[int, OrderT | None]]:
        """Yield (lots, order) at a price in the order of being served; the order is None for the house."""
        house_lots = self.house.lots_at(price)
        served = 0
        for order in self._queues.get(price, ()):
            if (lots := min(order.ahead_lots, house_lots) - served) > 0:
                served += lots
                yield lots, None
            yield order.leaves_lots, order
        if house_lots > served:
            yield house_lots - served, None

    def first_resting(self) -> OrderT | None:
        """Return the client's order that is served before all other clients' orders."""
        price = self.resting.best
        return None if price is None else self._queues[price][0]

    # --- clients' orders

    def add(self, order: OrderT) -> None:
        """Let an order rest, behind all that is at its price."""
        price = order.limit_ticks
        order.ahead_lots = self.house.lots_at(price)
        order.is_resting = True
        self._queues.setdefault(price, []).append(order)
        self._count(price, order.leaves_lots)

    def remove(self, order: OrderT) -> None:
        """Take a resting order off the book; it still has the leaves that it was counted with."""
        price = order.limit_ticks
        queue = self._queues[price]
        queue.remove(order)
        if not queue:
            del self._queues[price]
        order.is_resting = False
        self._count(price, -order.leaves_lots)

    def fill_resting(self, order: OrderT, lots: int) -> None:
        """Count `lots` less at the price of a resting order; the caller counts them as filled, right after."""
        self._count(order.limit_ticks, -lots)

    def _count(self, price: int, lots: int) -> None:
        self.resting.apply([(price, self.resting.lots_at(price) + lots)])
        self.touched[price] = None

    # --- the replayed market

    def take_house(self, price: int, lots: int) -> None:
        """Let a client take from the house."""
        left = self.house.lots_at(price) - lots
        assert left >= 0
        self.house.apply([(price, left)])
        self._taken[price] = self._taken.get(price, 0) + lots
        self.touched[price] = None
        self.move_up(price, lots)

    def move_up(self, price: int, lots: int) -> None:
        """Let the orders at a price come nearer: `lots` of the house before them are served."""
        for order in self._queues.get(price, ()):
            order.ahead_lots = max(order.ahead_lots - lots, 0)

    def move_to_front(self, order: OrderT) -> None:
        """Let nothing of the house be before an order."""
        order.ahead_lots = 0

    def change(self, levels: Iterable[Level]) -> None:
        """Take new quantities of the replayed market; what clients took counts until a quantity really changes."""
        for price, lots in levels:
            taken = self._taken.get(price, 0)
            if taken and lots == self.house.lots_at(price) + taken:
                continue
            self._taken.pop(price, None)
            self.house.apply([(price, lots)])
            self.touched[price] = None
            for order in self._queues.get(price, ()):
                order.ahead_lots = min(order.ahead_lots, lots)

    def replace(self, levels: Iterable[Level]) -> None:
        """Take a whole new side of the replayed market."""
        new = dict(levels)
        gone = [(price, 0) for price, _ in self.house.top(len(self.house)) if price not in new]
        gone += [(price, 0) for price in self._taken if price not in new]
        self.change(gone)
        self.change(new.items())
