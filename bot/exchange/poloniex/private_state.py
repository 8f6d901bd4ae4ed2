"""What happened to our orders and our money, from a private socket or from REST, each thing told once. Pure.

Both sources are turned into the same events, and `Known` lets through what is news: a fill by its full key, an order
when its state advances or its fills grow, a holding when it changes. Older news never lowers newer. It knows no
connection.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from bot.core.instrument import Side
from bot.core.orders import OrderState, advance
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.outcome import Market

FILLS_KEPT: Final = 100_000
"""How many fills are remembered; a fill older than these could be told twice."""
FINISHED_KEPT: Final = 10_000
"""How many finished orders are remembered."""

T = TypeVar("T")


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    market: Market


class Fresh(_Event, frozen=True, kw_only=True):
    """All that happened until `at_ms` was told; what follows is told as it happens.

    An order that is believed to live and is not in `living` (exchange ids) has ended before our memory began.
    """

    at_ms: int
    living: frozenset[str]


class Stale(_Event, frozen=True, kw_only=True):
    """From now on things may happen that are not told, until the next `Fresh`. `reason` is fit for a terminal."""

    reason: str


class OrderChanged(_Event, frozen=True, kw_only=True):
    """An order as it stands. Sizes are base coins on spot and contracts on futures; amounts are in quote currency."""

    symbol: str
    order_id: str
    client_id: str
    side: Side
    order_type: str
    state: OrderState
    price: Decimal | None
    quantity: Decimal
    """0 on a spot market buy."""
    filled_quantity: Decimal
    filled_amount: Decimal
    cancel_reason: str = ""
    created_ms: int
    changed_ms: int

    @property
    def identity(self) -> Hashable:
        """Return what makes it the same news."""
        return self.order_id, self.state, self.filled_quantity


class Filled(_Event, frozen=True, kw_only=True):
    """One fill of ours. `quantity` is in base coins on spot and in contracts on futures."""

    symbol: str
    order_id: str
    client_id: str
    trade_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    traded_ms: int

    @property
    def identity(self) -> Hashable:
        """Return its full key: of a trade with ourselves both sides are fills of ours."""
        return self.symbol, self.order_id, self.trade_id


class BalanceChanged(_Event, frozen=True, kw_only=True):
    """What there is of a coin on the spot account."""

    currency: str
    available: Decimal
    hold: Decimal
    changed_ms: int

    @property
    def place(self) -> Hashable:
        """Return whose newest value counts."""
        return self.currency

    @property
    def identity(self) -> Hashable:
        """Return what makes it the same news."""
        return self.currency, self.available, self.hold


class PositionChanged(_Event, frozen=True, kw_only=True):
    """A futures position; without contracts it is closed."""

    row: fw.PositionRow
    changed_ms: int

    @property
    def place(self) -> Hashable:
        """Return whose newest value counts."""
        return self.row.symbol, self.row.margin_mode, self.row.position_side

    @property
    def identity(self) -> Hashable:
        """Return what makes it the same news; what moves with the mark price is not in it."""
        row = self.row
        return self.place, row.signed_contracts, row.open_price, row.leverage


class AccountChanged(_Event, frozen=True, kw_only=True):
    """The futures account. It moves with the mark price, so it is never missed: only the newest counts."""

    row: fw.AccountRow
    changed_ms: int

    @property
    def place(self) -> Hashable:
        """Return whose newest value counts."""
        return "account"

    @property
    def identity(self) -> Hashable:
        """Return what makes it the same news."""
        return self.place, self.row.updated_ms, self.row.equity, self.row.available_margin


Holding = BalanceChanged | PositionChanged | AccountChanged
News = OrderChanged | Filled | Holding
Event = News | Fresh | Stale


# --- from the sockets


def spot_news(frame: pw.SpotOrdersFrame | pw.BalancesFrame) -> list[News]:
    """Return what a frame of the private spot socket says; a fill comes before the state that it led to."""
    if isinstance(frame, pw.BalancesFrame):
        return [
            BalanceChanged(
                market=Market.SPOT,
                currency=row.currency,
                available=row.available,
                hold=row.hold,
                changed_ms=row.changed_ms,
            )
            for row in frame.data
            if row.account_type == "SPOT"
        ]
    news: list[News] = []
    for row in frame.data:
        if row.event == "trade":
            news.append(_spot_fill(row))
        news.append(_spot_order(row))
    return news


def _spot_fill(row: pw.SpotOrderRow) -> Filled:
    return Filled(
        market=Market.SPOT,
        symbol=row.symbol,
        order_id=row.order_id,
        client_id=row.client_id or "",
        trade_id=row.trade_id,
        side=row.side,
        price=row.trade_price,
        quantity=row.trade_quantity,
        fee=row.fee,
        fee_currency=row.fee_currency or "",
        is_maker=row.role == "MAKER",
        traded_ms=row.trade_ms,
    )


def _spot_order(row: pw.SpotOrderRow) -> OrderChanged:
    return OrderChanged(
        market=Market.SPOT,
        symbol=row.symbol,
        order_id=row.order_id,
        client_id=row.client_id or "",
        side=row.side,
        order_type=row.order_type,
        state=row.state,
        price=row.price or None,
        quantity=row.quantity,
        filled_quantity=row.filled_quantity,
        filled_amount=row.filled_amount,
        created_ms=row.created_ms,
        changed_ms=row.ts_ms,
    )


def futures_news(
    frame: pw.FuturesOrdersFrame | pw.FuturesFillsFrame | pw.PositionsFrame | pw.AccountFrame,
) -> list[News]:
    """Return what a frame of the private futures socket says."""
    match frame:
        case pw.FuturesOrdersFrame():
            return [futures_order(row) for row in frame.data]
        case pw.FuturesFillsFrame():
            return [_futures_fill(row) for row in frame.data]
        case pw.PositionsFrame():
            return [PositionChanged(market=Market.FUTURES, row=row, changed_ms=row.updated_ms) for row in frame.data]
        case pw.AccountFrame():
            return [AccountChanged(market=Market.FUTURES, row=row, changed_ms=row.updated_ms) for row in frame.data]


def _futures_fill(row: pw.FuturesFillRow) -> Filled:
    return Filled(
        market=Market.FUTURES,
        symbol=row.symbol,
        order_id=row.order_id,
        client_id=row.client_id or "",
        trade_id=row.trade_id,
        side=row.side,
        price=row.price,
        quantity=Decimal(row.contracts),
        fee=row.fee,
        fee_currency=row.fee_currency or "",
        is_maker=row.role == "MAKER",
        traded_ms=row.updated_ms,
    )


# --- from REST


def spot_rest_order(row: sw.OrderRow) -> OrderChanged:
    """Return what REST says of a spot order.

    Raises:
        ValueError: a state that we do not know.

    """
    return OrderChanged(
        market=Market.SPOT,
        symbol=row.symbol,
        order_id=str(row.id),  # plain text: what is written down knows no kinds of it
        client_id=str(row.client_order_id or ""),
        side=row.side,
        order_type=row.type,
        state=OrderState.NEW if row.state == "PENDING_NEW" else OrderState(row.state),
        price=row.price or None,
        quantity=row.quantity,
        filled_quantity=row.filled_quantity,
        filled_amount=row.filled_amount,
        cancel_reason="" if row.cancel_reason is None else str(row.cancel_reason),
        created_ms=row.create_time_ms,
        changed_ms=row.update_time_ms,
    )


def spot_rest_fill(row: sw.TradeRow) -> Filled:
    """Return what REST says of a spot fill."""
    return Filled(
        market=Market.SPOT,
        symbol=row.symbol,
        order_id=str(row.order_id),
        client_id=str(row.client_order_id or ""),
        trade_id=str(row.id),
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        fee=row.fee_amount,
        fee_currency=row.fee_currency,
        is_maker=row.match_role == "MAKER",
        traded_ms=row.create_time_ms,
    )


def futures_order(row: fw.OrderRow) -> OrderChanged:
    """Return what REST or the socket says of a futures order."""
    return OrderChanged(
        market=Market.FUTURES,
        symbol=row.symbol,
        order_id=row.order_id,
        client_id=row.client_id or "",
        side=row.side,
        order_type=row.order_type,
        state=row.state,
        price=row.price,
        quantity=Decimal(row.contracts),
        filled_quantity=Decimal(row.filled_contracts),
        filled_amount=row.filled_amount,
        cancel_reason=row.cancel_reason or "",
        created_ms=row.created_ms,
        changed_ms=row.updated_ms,
    )


def futures_rest_fill(row: fw.FillRow) -> Filled:
    """Return what REST says of a futures fill."""
    return Filled(
        market=Market.FUTURES,
        symbol=row.symbol,
        order_id=row.order_id,
        client_id=row.client_id or "",
        trade_id=row.trade_id,
        side=row.side,
        price=row.price,
        quantity=Decimal(row.contracts),
        fee=row.fee,
        fee_currency=row.fee_currency or "",
        is_maker=row.role == "MAKER",
        traded_ms=row.created_ms,
    )


# --- what is known


@dataclass(slots=True)
class Known:
    """What was told so far. `take` returns what is to be told of an event, or None when it is no news."""

    market: Market
    _living: dict[str, OrderChanged] = field(default_factory=dict[str, OrderChanged])
    _finished: dict[str, OrderChanged] = field(default_factory=dict[str, OrderChanged])
    _fills: dict[Hashable, None] = field(default_factory=dict[Hashable, None])
    _holdings: dict[Hashable, Holding] = field(default_factory=dict[Hashable, Holding])

    @property
    def living(self) -> list[OrderChanged]:
        """Return the orders that have not ended, as last told."""
        return list(self._living.values())

    @property
    def oldest_living_ms(self) -> int | None:
        """Return when the oldest living order was made."""
        return min((order.created_ms for order in self._living.values()), default=None)

    def forget(self, order_id: str) -> None:
        """Forget a living order that the exchange no longer knows; what became of it is for the caller to find out."""
        self._living.pop(order_id, None)

    def take(self, event: News) -> News | None:
        """Remember an event; return it as it is to be told, or None."""
        match event:
            case OrderChanged():
                return self._take_order(event)
            case Filled():
                if not self.is_news(event):
                    return None
                self._fills[event.identity] = None
                _forget_oldest(self._fills, FILLS_KEPT)
                return event
            case _:
                is_news = self.is_news(event)
                known = self._holdings.get(event.place)
                if known is None or event.changed_ms >= known.changed_ms:
                    self._holdings[event.place] = event
                return event if is_news else None

    def is_news(self, event: News) -> bool:
        """Return whether `take` would tell of `event`."""
        match event:
            case OrderChanged():
                known = self._order(event.order_id)
                return known is None or _merged(known, event).identity != known.identity
            case Filled():
                return event.identity not in self._fills
            case _:
                known = self._holdings.get(event.place)
                if known is None:
                    return True
                return event.changed_ms >= known.changed_ms and event.identity != known.identity

    def absent(self, listed: Iterable[Holding], asked_ms: int) -> list[Holding]:
        """Return the holdings that are gone, as none: those that a complete list of them, read at `asked_ms`, lacks."""
        places = {holding.place for holding in listed}
        gone: list[Holding] = []
        for place, known in self._holdings.items():
            if place in places:
                continue
            match known:
                case BalanceChanged():
                    none = Decimal(0)
                    gone.append(msgspec.structs.replace(known, available=none, hold=none, changed_ms=asked_ms))
                case PositionChanged():
                    row = msgspec.structs.replace(known.row, contracts=fw.Contracts(0))
                    gone.append(msgspec.structs.replace(known, row=row, changed_ms=asked_ms))
                case AccountChanged():
                    pass
        return gone

    def _order(self, order_id: str) -> OrderChanged | None:
        return self._living.get(order_id) or self._finished.get(order_id)

    def _take_order(self, event: OrderChanged) -> OrderChanged | None:
        known = self._order(event.order_id)
        told = event if known is None else _merged(known, event)
        if known is not None and told.identity == known.identity:
            return None
        if told.state.is_final:
            self._living.pop(told.order_id, None)
            self._finished[told.order_id] = told
            _forget_oldest(self._finished, FINISHED_KEPT)
        else:
            self._living[told.order_id] = told
        return told


def _merged(known: OrderChanged, event: OrderChanged) -> OrderChanged:
    """Return `event` with what `known` knows better: each report of an order is a lower bound."""
    newer = event if event.filled_quantity >= known.filled_quantity else known
    return msgspec.structs.replace(
        event,
        client_id=event.client_id or known.client_id,
        state=advance(known.state, event.state),
        filled_quantity=newer.filled_quantity,
        filled_amount=newer.filled_amount,
        cancel_reason=event.cancel_reason or known.cancel_reason,
        changed_ms=max(event.changed_ms, known.changed_ms),
    )


def _forget_oldest(kept: dict[Hashable, T] | dict[str, T], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]  # type: ignore[arg-type]
