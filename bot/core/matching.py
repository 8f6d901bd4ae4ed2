"""The paper exchange: orders of ours matched against the live book of somebody else's market.

Pessimistic on purpose. A market order walks the visible levels, less what was taken from them before, and a buy spends
no more than the gate reserved for it. A resting order
waits behind all that was displayed at its price, and is filled only by trades at or through it, or when the book
itself has moved through. Every order travels for `latency_ns` before it acts, on the book of that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from bot.core import messages as m
from bot.core.instrument import Instrument, Side, fee_atoms
from bot.core.orders import OrderIntent, OrderState

# The exchange's own codes and words for its refusals (dossier, spot REST, section 11).
_NO_MONEY: Final = "21721 available balance too low"
_QTY_MIN: Final = "21330 quantity below minQuantity"
_NOTIONAL_MIN: Final = "21322 amount below minAmount"
_FROZEN: Final = "10041 symbol frozen"
_WOULD_TAKE: Final = "post-only order would take"
_NO_DEPTH: Final = "no more visible depth within the price"
_NO_BUDGET: Final = "the rest costs more than the order may spend"
_LOST_AT_STOP: Final = "had not reached the paper exchange when the daemon stopped"


class PaperTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the paper exchange charges, and how far away it is."""

    maker_fee_ppm: int
    """Millionths of what is received; 1 basis point is 100."""
    taker_fee_ppm: int
    latency_ns: int


class _Arrival(NamedTuple):
    due_ns: int
    action: m.SubmitOrder | m.CancelOrder


@dataclass(slots=True)
class _Order:
    intent: OrderIntent
    order_id: str
    filled_lots: int
    ahead_lots: int | None = None
    """Displayed before us at our price; None until a book says so."""

    @property
    def leaves_lots(self) -> int:
        return self.intent.qty_lots - self.filled_lots

    @property
    def price_ticks(self) -> int:
        assert self.intent.price_ticks is not None
        return self.intent.price_ticks


@dataclass(slots=True)
class _Market:
    """One symbol: its visible book, what we took out of it, and our resting orders."""

    depth: m.Depth | None
    taken: dict[tuple[Side, int], tuple[int, int]]
    """(the side whose levels these are, price) to (displayed then, taken by us since)."""
    resting: list[_Order]


class PaperExchange:
    """The machine behind the executor in paper mode."""

    def __init__(self, terms: PaperTerms) -> None:
        self._terms = terms
        self._now_ns = 0
        self._epoch = 0
        self._orders_seen = 0
        self._cash_atoms = 0
        self._base_atoms: dict[str, int] = {}
        self._instruments: dict[str, Instrument] = {}
        self._markets: dict[str, _Market] = {}
        self._symbols: dict[str, str] = {}
        """Client id of a resting order to its symbol."""
        self._travelling: deque[_Arrival] = deque()
        self._at_door: dict[str, OrderIntent] = {}

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return order events and fills, in the order in which they happened."""
        if message.ts_ns > self._now_ns:
            self._now_ns = message.ts_ns
        # What is due acts on the book as it stood before this news.
        yield from self._arrive()
        match message:
            case m.Depth():
                yield from self._on_depth(message)
            case m.TradeTick():
                yield from self._on_trade(message)
            case m.Tick():
                pass
            case m.SubmitOrder() | m.CancelOrder():
                self._travelling.append(_Arrival(self._now_ns + self._terms.latency_ns, message))
                yield from self._arrive()
            case m.BookLost():
                self._market(message.symbol).depth = None
            case m.InstrumentListed():
                self._instruments[message.instrument.symbol] = message.instrument
            case m.Recovered():
                yield from self._recover(message)
            case _:
                raise AssertionError(f"not routed to the executor: {message!r}")

    def _market(self, symbol: str) -> _Market:
        market = self._markets.get(symbol)
        if market is None:
            market = self._markets[symbol] = _Market(None, {}, [])
        return market

    def _recover(self, message: m.Recovered) -> Iterator[m.AnyMessage]:
        """Take the account and the resting orders back from the journal: this exchange has no other memory."""
        self._epoch = message.epoch
        self._cash_atoms = message.cash_atoms
        for held in message.holdings.values():
            for symbol, atoms in held.items():
                self._base_atoms[symbol] = self._base_atoms.get(symbol, 0) + atoms
        for record in message.orders:
            order = _Order(record.intent, record.order_id, record.filled_lots)
            if not record.order_id:
                yield self._event(order, OrderState.FAILED, _LOST_AT_STOP)
            elif record.intent.time_in_force != "GTC":
                yield self._canceled(order, _LOST_AT_STOP)
            else:
                self._rest(order)
                if record.is_cancel_requested:
                    cancel = m.CancelOrder(ts_ns=self._now_ns, client_id=record.intent.client_id)
                    self._travelling.append(_Arrival(self._now_ns + self._terms.latency_ns, cancel))

    # --- arrivals

    def _arrive(self) -> Iterator[m.AnyMessage]:
        while self._travelling and self._travelling[0].due_ns <= self._now_ns:
            action = self._travelling.popleft().action
            if isinstance(action, m.CancelOrder):
                yield from self._cancel(action.client_id)
            elif self._market(action.intent.symbol).depth is None:
                self._at_door[action.intent.client_id] = action.intent
            else:
                yield from self._accept(action.intent)

    def _let_in(self, symbol: str) -> Iterator[m.AnyMessage]:
        """Accept the orders that arrived while `symbol` had no book to match them against."""
        for intent in [intent for intent in self._at_door.values() if intent.symbol == symbol]:
            del self._at_door[intent.client_id]
            yield from self._accept(intent)

    def _accept(self, intent: OrderIntent) -> Iterator[m.AnyMessage]:
        self._orders_seen += 1
        order = _Order(intent, str(self._epoch * 10**9 + self._orders_seen), 0)
        market = self._market(intent.symbol)
        refusal = self._refusal(intent, market)
        if refusal is not None:
            yield self._event(order, OrderState.REJECTED, refusal)
            return
        yield self._event(order, OrderState.NEW)
        levels = list(self._levels(market, intent))
        if intent.order_type == "LIMIT_MAKER" and levels:
            yield self._canceled(order, _WOULD_TAKE)
            return
        takes = self._affordable(intent, levels)
        missing_lots = intent.qty_lots - sum(qty for _, qty in takes)
        why_missing = _NO_DEPTH if sum(lots for _, lots in levels) < intent.qty_lots else _NO_BUDGET
        if intent.time_in_force == "FOK" and missing_lots:
            yield self._canceled(order, why_missing)
            return
        for price, qty in takes:
            self._note_taken(market, intent.side, price, qty)
            yield from self._fill(order, price, qty, is_maker=False)
        if missing_lots and intent.time_in_force == "GTC":
            self._rest(order)
        elif missing_lots:
            yield self._canceled(order, why_missing)

    def _refusal(self, intent: OrderIntent, market: _Market) -> str | None:
        instrument = self._instruments[intent.symbol]
        assert market.depth is not None
        touch = market.depth.asks if intent.side is Side.BUY else market.depth.bids
        price_ticks = intent.price_ticks if intent.price_ticks is not None else (touch[0][0] if touch else 0)
        notional = instrument.notional_atoms(price_ticks, intent.qty_lots)
        if not instrument.is_open:
            return _FROZEN
        if intent.qty_lots < instrument.qty_lots_min:
            return _QTY_MIN
        if price_ticks and notional < instrument.notional_atoms_min:
            return _NOTIONAL_MIN
        if intent.side is Side.BUY:
            is_covered = notional <= self._free_cash()
        else:
            is_covered = intent.qty_lots <= self._free_lots(instrument)
        return None if is_covered else _NO_MONEY

    def _free_cash(self) -> int:
        held = sum(
            self._instruments[symbol].notional_atoms(order.price_ticks, order.leaves_lots)
            for symbol, market in self._markets.items()
            if symbol in self._instruments  # an order of another session may rest where this one does not trade
            for order in market.resting
            if order.intent.side is Side.BUY
        )
        return self._cash_atoms - held

    def _free_lots(self, instrument: Instrument) -> int:
        offered = sum(o.leaves_lots for o in self._market(instrument.symbol).resting if o.intent.side is Side.SELL)
        return instrument.whole_lots(self._base_atoms.get(instrument.symbol, 0)) - offered

    def _cancel(self, client_id: str) -> Iterator[m.AnyMessage]:
        waiting = self._at_door.pop(client_id, None)
        if waiting is not None:
            yield self._event(_Order(waiting, "", 0), OrderState.CANCELED, "canceled by us before it was accepted")
        symbol = self._symbols.get(client_id)
        if symbol is None:
            return  # it ended before the cancel arrived: its last event said how
        order = next(o for o in self._market(symbol).resting if o.intent.client_id == client_id)
        self._unrest(order)
        yield self._canceled(order, "canceled by us")

    # --- taking

    def _levels(self, market: _Market, intent: OrderIntent) -> Iterator[tuple[int, int]]:
        """Return what `intent` can take, best first: (price_ticks, lots left of what is displayed)."""
        assert market.depth is not None
        is_buy = intent.side is Side.BUY
        other = Side.SELL if is_buy else Side.BUY
        for price, lots in market.depth.asks if is_buy else market.depth.bids:
            limit = intent.price_ticks
            if limit is not None and (price > limit if is_buy else price < limit):
                return
            _, taken = market.taken.get((other, price), (0, 0))
            if lots > taken:
                yield price, lots - taken

    def _affordable(self, intent: OrderIntent, levels: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return (price_ticks, qty_lots) of each level that `intent` takes, as far as its quantity and money go."""
        instrument = self._instruments[intent.symbol]
        left = intent.qty_lots
        budget_atoms = min(self._free_cash(), intent.reserved_atoms)
        takes: list[tuple[int, int]] = []
        for price, lots in levels:
            qty = min(lots, left)
            if intent.side is Side.BUY:  # money may run out on the way up
                qty = min(qty, budget_atoms // instrument.notional_atoms(price, 1))
                budget_atoms -= instrument.notional_atoms(price, qty)
            if qty <= 0:
                break
            takes.append((price, qty))
            left -= qty
        return takes

    def _note_taken(self, market: _Market, taker: Side, price_ticks: int, qty_lots: int) -> None:
        assert market.depth is not None
        other, levels = (Side.SELL, market.depth.asks) if taker is Side.BUY else (Side.BUY, market.depth.bids)
        displayed = dict(levels)[price_ticks]
        _, taken = market.taken.get((other, price_ticks), (0, 0))
        market.taken[other, price_ticks] = displayed, taken + qty_lots

    # --- resting

    def _rest(self, order: _Order) -> None:
        market = self._market(order.intent.symbol)
        order.ahead_lots = self._displayed(market, order)
        market.resting.append(order)
        # Price, then time: the sort is stable.
        market.resting.sort(key=lambda o: -o.intent.side.sign * o.price_ticks)
        self._symbols[order.intent.client_id] = order.intent.symbol

    def _unrest(self, order: _Order) -> None:
        self._market(order.intent.symbol).resting.remove(order)
        del self._symbols[order.intent.client_id]

    def _displayed(self, market: _Market, order: _Order) -> int | None:
        """Return what is displayed at the order's price, or None where the window does not reach."""
        if market.depth is None:
            return None
        side = order.intent.side
        levels = market.depth.bids if side is Side.BUY else market.depth.asks
        if not levels or side.sign * (order.price_ticks - levels[-1][0]) < 0:
            return None
        for price, lots in levels:
            if price == order.price_ticks:
                return lots
        return 0

    def _on_depth(self, depth: m.Depth) -> Iterator[m.AnyMessage]:
        market = self._market(depth.symbol)
        market.depth = depth
        if market.taken:
            self._forget_taken(market, depth)
        for order in list(market.resting):
            displayed = self._displayed(market, order)
            if displayed is not None:
                order.ahead_lots = displayed if order.ahead_lots is None else min(order.ahead_lots, displayed)
            # The market itself moved through our price: whoever came there met us first.
            for price, lots in list(self._levels(market, order.intent)):
                qty = min(lots, order.leaves_lots)
                if qty:
                    self._note_taken(market, order.intent.side, price, qty)
                    yield from self._fill(order, order.price_ticks, qty, is_maker=True)
        if self._at_door:
            yield from self._let_in(depth.symbol)

    @staticmethod
    def _forget_taken(market: _Market, depth: m.Depth) -> None:
        """A level that changed was filled up by others: what we took of it is the past."""
        displayed = {(Side.BUY, price): lots for price, lots in depth.bids}
        displayed.update({(Side.SELL, price): lots for price, lots in depth.asks})
        market.taken = {key: entry for key, entry in market.taken.items() if displayed.get(key) == entry[0]}

    def _on_trade(self, trade: m.TradeTick) -> Iterator[m.AnyMessage]:
        market = self._markets.get(trade.symbol)
        if market is None or not market.resting:
            return
        left = trade.qty_lots
        for order in list(market.resting):
            side = order.intent.side
            if side is trade.taker_side or left == 0:
                continue
            beyond = side.sign * (order.price_ticks - trade.price_ticks)
            if beyond < 0:
                continue
            if beyond == 0:
                passed = min(left, order.ahead_lots if order.ahead_lots is not None else left)
                left -= passed
                if order.ahead_lots is not None:
                    order.ahead_lots -= passed
            qty = min(left, order.leaves_lots)
            if qty:
                left -= qty
                yield from self._fill(order, order.price_ticks, qty, is_maker=True)

    # --- what is said

    def _fill(self, order: _Order, price_ticks: int, qty_lots: int, *, is_maker: bool) -> Iterator[m.AnyMessage]:
        intent = order.intent
        instrument = self._instruments[intent.symbol]
        base_atoms = qty_lots * instrument.base_atoms_per_lot
        notional_atoms = instrument.notional_atoms(price_ticks, qty_lots)
        fee_ppm = self._terms.maker_fee_ppm if is_maker else self._terms.taker_fee_ppm
        if intent.side is Side.BUY:
            fee = fee_atoms(base_atoms, fee_ppm)
            cash_change, base_change = -notional_atoms, base_atoms - fee
        else:
            fee = fee_atoms(notional_atoms, fee_ppm)
            cash_change, base_change = notional_atoms - fee, -base_atoms
        self._cash_atoms += cash_change
        self._base_atoms[intent.symbol] = self._base_atoms.get(intent.symbol, 0) + base_change
        trade_id = f"{order.order_id}.{order.filled_lots}"
        order.filled_lots += qty_lots
        yield m.Fill(
            ts_ns=self._now_ns,
            client_id=intent.client_id,
            symbol=intent.symbol,
            trade_id=trade_id,
            order_id=order.order_id,
            side=intent.side,
            price_ticks=price_ticks,
            qty_lots=qty_lots,
            fee_atoms=fee,
            is_maker=is_maker,
        )
        if order.leaves_lots:
            yield self._event(order, OrderState.PARTIALLY_FILLED)
        else:
            if intent.client_id in self._symbols:
                self._unrest(order)
            yield self._event(order, OrderState.FILLED)

    def _canceled(self, order: _Order, reason: str) -> m.OrderEvent:
        state = OrderState.PARTIALLY_CANCELED if order.filled_lots else OrderState.CANCELED
        return self._event(order, state, reason)

    def _event(self, order: _Order, state: OrderState, reason: str = "") -> m.OrderEvent:
        return m.OrderEvent(
            ts_ns=self._now_ns,
            client_id=order.intent.client_id,
            symbol=order.intent.symbol,
            order_id=order.order_id,
            state=state,
            filled_lots=order.filled_lots,
            reason=reason,
        )
