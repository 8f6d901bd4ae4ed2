"""Price-time-priority matching of one market: clients with each other, and with the replayed market's levels.

Pure, and the same for spot and for contracts: it knows prices, quantities and turns, not money. Behind it stands a
`Desk`, which settles fills and tells the news; what the public sees comes out as market events, as if the market had
been recorded so. A market that has no replayed levels has only its clients' orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Generic, NamedTuple, Protocol

from bot.core.instrument import Side
from bot.core.orders import OrderState
from bot.exchange.simulated.accounts import Ids
from bot.exchange.simulated.events import BookChange, BookSnapshot, Level, MarketEvent, MarketTrade, TakerSide
from bot.exchange.simulated.liquidity import EndReason, Liquidity, OrderT, StpMode

PPB: Final = 10**9


class Fill(NamedTuple, Generic[OrderT]):
    """One trade. A side that is None is the replayed market."""

    trade_id: int
    ts_ns: int
    symbol: str
    price_ticks: int
    qty_lots: int
    taker: OrderT | None
    maker: OrderT | None
    taker_side: Side


class Desk(Protocol[OrderT]):
    """What stands behind a market: money or positions, and the clients' news."""

    def fillable_lots(self, order: OrderT, price_ticks: int, lots: int) -> int:
        """Return how many of `lots` an order can take or give at a price: its budget, its position may be smaller.

        What it had before counts by `filled_lots` and `filled_value`, whether it is settled already or not.
        """
        ...

    def on_placed(self, order: OrderT) -> None:
        """An order was accepted; nothing of it is filled yet."""
        ...

    def on_fill(self, fill: Fill[OrderT]) -> None:
        """Settle a trade; the orders in it have it counted already, and FILLED as their state if it was their last."""
        ...

    def on_ended(self, order: OrderT) -> None:
        """An order ended before it was filled: `state` and `end_reason` say how."""
        ...


class Matcher(Generic[OrderT]):
    """One market. After every call, `take_public` has what the public is to see of it."""

    def __init__(self, symbol: str, desk: Desk[OrderT], ids: Ids, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        self.symbol = symbol
        self.bids: Liquidity[OrderT] = Liquidity(is_bid=True)
        self.asks: Liquidity[OrderT] = Liquidity(is_bid=False)
        self._desk = desk
        self._ids = ids
        self._now_ns = 0
        self._trades: list[MarketTrade] = []
        self._is_snapshot_due = False
        self._has_traded = False
        """A client traded here: from then on all trades have ids of ours, which grow, as those of both never would."""
        self.bids.replace(bids)
        self.asks.replace(asks)
        self._clear_touched()

    # --- clients

    def place(self, order: OrderT, now_ns: int) -> None:
        """Take an order, whose money is frozen: match it, and let it rest or end."""
        self._now_ns = now_ns
        opposite = self._side(order.side, opposite=True)
        self._desk.on_placed(order)
        bound = self._bound(order, opposite)
        best = opposite.best
        would_take = best is not None and opposite.is_within(best, bound)
        if order.order_type == "LIMIT_MAKER":
            if would_take:
                self._end(order, EndReason.WOULD_TAKE)
            else:
                self._side(order.side).add(order)
            return
        if order.order_type == "LIMIT" and order.time_in_force == "FOK" and not self._has_all(order, opposite, bound):
            self._end(order, EndReason.NOT_ALL)
            return
        stopped = self._match(order, opposite, bound)
        if order.state is OrderState.FILLED:
            return
        if stopped is not None:
            self._end(order, stopped)
        elif order.order_type == "LIMIT" and order.time_in_force == "GTC":
            self._side(order.side).add(order)
        else:
            self._end(order, self._why_not_more(order, opposite))

    def cancel(self, order: OrderT, now_ns: int, reason: EndReason = EndReason.USER) -> None:
        """End a resting order."""
        self._now_ns = now_ns
        self._end(order, reason)

    def fill_from_market(self, order: OrderT, lots: int, now_ns: int) -> None:
        """Let a resting order trade with the replayed market at its price, whatever that shows: a fault."""
        self._now_ns = now_ns
        fillable = self._fillable(order, order.limit_ticks, min(lots, order.leaves_lots))
        if fillable:
            self._fill(None, order, order.limit_ticks, fillable)

    def orders(self) -> Iterator[OrderT]:
        """Yield the resting orders, bids first, best first, in turn."""
        for side in (self.bids, self.asks):
            for price, _ in side.resting.top(len(side.resting)):
                yield from (order for _, order in side.walk(price) if order is not None)

    # --- the replayed market

    def replay(self, event: MarketEvent) -> None:
        """Take what happened in the replayed market, which may fill clients' orders."""
        self._now_ns = max(self._now_ns, event.ts_ns)
        match event:
            case MarketTrade():
                self._on_trade(event)
            case BookChange():
                self.bids.change(event.bids)
                self.asks.change(event.asks)
                self._uncross()
            case BookSnapshot():
                self.bids.replace(event.bids)
                self.asks.replace(event.asks)
                self._is_snapshot_due = True
                self._uncross()

    def take_public(self, now_ns: int) -> list[MarketEvent]:
        """Return the trades since the last call, then the change of the book that they and the orders made."""
        events: list[MarketEvent] = list(self._trades)
        self._trades.clear()
        if self._is_snapshot_due:
            events.append(BookSnapshot(now_ns, self.symbol, tuple(self.bids.levels()), tuple(self.asks.levels())))
        elif self.bids.touched or self.asks.touched:
            events.append(BookChange(now_ns, self.symbol, self.bids.changes(), self.asks.changes()))
        self._is_snapshot_due = False
        self._clear_touched()
        return events

    def _on_trade(self, trade: MarketTrade) -> None:
        """Let a replayed trade fill the clients' orders that it would have met, and publish what is left of it."""
        side = self.bids if trade.taker_side == "sell" else self.asks
        left = trade.qty_lots
        filled = 0
        while left and (order := side.first_resting()) is not None:
            price = order.limit_ticks
            if not side.is_within(price, trade.price_ticks):
                break
            if price == trade.price_ticks:
                served = min(order.ahead_lots, side.house.lots_at(price), left)
                side.move_up(price, served)
                left -= served
            else:
                side.move_to_front(order)  # a trade beyond its price: all before it is gone
            lots = self._fillable(order, price, min(order.leaves_lots, left))
            if lots:
                self._fill(None, order, price, lots)
                left -= lots
                filled += lots
        if filled < trade.qty_lots:
            self._trades.append(self._renumbered(trade, trade.qty_lots - filled))

    def _renumbered(self, trade: MarketTrade, lots: int) -> MarketTrade:
        if not self._has_traded:
            return trade
        trade_id = str(self._ids.next(self._now_ns))
        return MarketTrade(self._now_ns, trade.symbol, trade_id, trade.price_ticks, lots, trade.taker_side)

    def _uncross(self) -> None:
        """Let replayed levels that came across clients' orders trade with them, at the clients' prices."""
        for mine, other in ((self.bids, self.asks), (self.asks, self.bids)):
            while (order := mine.first_resting()) is not None and (price := other.house.best) is not None:
                if not other.is_within(price, order.limit_ticks):
                    break
                lots = self._fillable(order, order.limit_ticks, min(order.leaves_lots, other.house.lots_at(price)))
                if lots:
                    other.take_house(price, lots)
                    self._fill(None, order, order.limit_ticks, lots)

    def _fillable(self, maker: OrderT, price: int, lots: int) -> int:
        """Return how much of `lots` a resting order can fill; one that can fill nothing is ended."""
        fillable = self._desk.fillable_lots(maker, price, lots) if lots else 0
        if lots and not fillable:
            self._end(maker, EndReason.SYSTEM)
        return fillable

    # --- matching

    def _match(self, order: OrderT, opposite: Liquidity[OrderT], bound: int | None) -> EndReason | None:
        """Fill an order as far as it goes; return why it must end now, if it must."""
        while order.state is not OrderState.FILLED:
            price = opposite.best
            if price is None or not opposite.is_within(price, bound):
                return None
            lots, maker = next(opposite.walk(price))
            if maker is not None and maker.account is order.account and order.stp_mode is not StpMode.NONE:
                if order.stp_mode is not StpMode.EXPIRE_TAKER:
                    self._end(maker, EndReason.SELF_TRADE)
                if order.stp_mode is not StpMode.EXPIRE_MAKER:
                    return EndReason.SELF_TRADE
                continue
            wanted = min(lots, order.leaves_lots)
            if maker is not None and not (wanted := self._fillable(maker, price, wanted)):
                continue
            taken = self._desk.fillable_lots(order, price, wanted)
            if not taken:
                return EndReason.NO_MONEY
            if maker is None:
                opposite.take_house(price, taken)
            self._fill(order, maker, price, taken)
        return None

    def _fill(self, taker: OrderT | None, maker: OrderT | None, price: int, lots: int) -> None:
        trade_id = self._ids.next(self._now_ns)
        self._has_traded = True
        if maker is not None:
            side = self._side(maker.side)
            side.fill_resting(maker, lots)
            self._count(maker, price, lots)
            if maker.state is OrderState.FILLED:
                side.remove(maker)
        if taker is not None:
            self._count(taker, price, lots)
        known = taker or maker
        assert known is not None
        is_buy = (known.side is Side.BUY) == (known is taker)
        taker_side: TakerSide = "buy" if is_buy else "sell"
        self._trades.append(MarketTrade(self._now_ns, self.symbol, str(trade_id), price, lots, taker_side))
        side_taken = Side.BUY if is_buy else Side.SELL
        self._desk.on_fill(Fill(trade_id, self._now_ns, self.symbol, price, lots, taker, maker, side_taken))

    def _count(self, order: OrderT, price: int, lots: int) -> None:
        order.filled_lots += lots
        order.filled_value += price * lots
        order.updated_ns = self._now_ns
        is_by_amount = order.qty_lots is None
        is_all = not (self._desk.fillable_lots(order, price, 1) if is_by_amount else order.leaves_lots)
        order.state = OrderState.FILLED if is_all else OrderState.PARTIALLY_FILLED

    def _end(self, order: OrderT, reason: EndReason) -> None:
        if order.is_resting:
            self._side(order.side).remove(order)
        order.state = OrderState.PARTIALLY_CANCELED if order.filled_lots else OrderState.CANCELED
        order.end_reason = reason
        order.updated_ns = self._now_ns
        self._desk.on_ended(order)

    def _has_all(self, order: OrderT, opposite: Liquidity[OrderT], bound: int | None) -> bool:
        """Return whether an order could be filled at once as a whole."""
        left = order.leaves_lots
        for price in opposite.prices():
            if not opposite.is_within(price, bound):
                break
            for lots, maker in opposite.walk(price):
                if maker is not None and maker.account is order.account and order.stp_mode is not StpMode.NONE:
                    if order.stp_mode is not StpMode.EXPIRE_MAKER:
                        return False
                    continue
                left -= lots
                if left <= 0:
                    return True
        return False

    def _bound(self, order: OrderT, opposite: Liquidity[OrderT]) -> int | None:
        """Return the worst price that an order may take."""
        best = opposite.best
        if order.price_ticks is not None or order.slippage_ppb is None or best is None:
            return order.price_ticks
        if order.side is Side.BUY:
            return best * (PPB + order.slippage_ppb) // PPB
        return -(-best * (PPB - order.slippage_ppb) // PPB)

    def _why_not_more(self, order: OrderT, opposite: Liquidity[OrderT]) -> EndReason:
        if order.order_type == "MARKET":
            return EndReason.NO_OTHER_SIDE if opposite.best is None else EndReason.SLIPPAGE
        return EndReason.NOTHING_LEFT

    def _side(self, side: Side, *, opposite: bool = False) -> Liquidity[OrderT]:
        return self.bids if (side is Side.BUY) is not opposite else self.asks

    def _clear_touched(self) -> None:
        self.bids.touched.clear()
        self.asks.touched.clear()
