"""The paper exchange: orders of ours matched against the live book of somebody else's market.

Pessimistic on purpose. A market order walks the visible levels, less what was taken from them before, and a buy spends
no more than the gate reserved for it. A resting order
waits behind all that was displayed at its price, and is filled only by trades at or through it, or when the book
itself has moved through. A stop order waits until the touch or a trade has reached its trigger, and is a market order
then. Every order travels before it acts, on the book of that moment, and what became of it travels back; both ways take
a time that is drawn by the order's name.

A reduce-only order is cut to what its strategy holds when it fills. Perpetuals need no coins to be sold; they pay
funding at its hours, and are closed by force when the account can no longer carry them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, NamedTuple

import msgspec

from bot.core import messages as m
from bot.core.approvals import NOT_SENT, Approvals
from bot.core.chance import delay_ns, longest_ns
from bot.core.instrument import Instrument, Side, fee_atoms
from bot.core.ledger import Position
from bot.core.orders import OrderIntent, OrderState
from bot.core.paper_perps import MarginTerms, PaperPerps

# The exchange's own codes and words for its refusals (dossier, spot REST, section 11).
_NO_MONEY: Final = "21721 available balance too low"
_QTY_MIN: Final = "21330 quantity below minQuantity"
_NOTIONAL_MIN: Final = "21322 amount below minAmount"
_OVER_LIMIT: Final = "21360 size over limit"
_POST_ONLY: Final = "21341 post-only mode"
_FROZEN: Final = "10041 symbol frozen"
_WOULD_TAKE: Final = "post-only order would take"
_NO_DEPTH: Final = "no more visible depth within the price"
_NO_BUDGET: Final = "the rest costs more than the order may spend"
_NOTHING_HELD: Final = "nothing is left to reduce"
_LIQUIDATED: Final = "the account could no longer carry its perpetuals"
_FORGOTTEN: Final = "its last fills were lost with the daemon that stopped"
_LOST_AT_STOP: Final = "had not reached the paper exchange when the daemon stopped"


class PaperTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the paper exchange charges, and how far away it is."""

    maker_fee_ppm: int
    """Millionths of what is received; 1 basis point is 100."""
    taker_fee_ppm: int
    latency_ns: int
    """Median of the way there; with a 99th percentile not above it, always so long."""
    latency_p99_ns: int = 0
    response_ns: int = 0
    """Median of the way back."""
    response_p99_ns: int = 0
    seed: int = 0
    maintenance_ppm: int = 5_000
    """Equity, in millionths of the value of all perpetuals, at which they are closed."""
    liquidation_fee_ppm: int = 5_000

    @property
    def round_trip_ns_max(self) -> int:
        """Return after how long every order has arrived and been answered."""
        there = longest_ns(self.latency_ns, self.latency_p99_ns)
        return there + longest_ns(self.response_ns, self.response_p99_ns)


class _Arrival(NamedTuple):
    due_ns: int
    number: int
    """Of two that arrive at once, the one that was sent first acts first."""
    action: m.SubmitOrder | m.CancelOrder


@dataclass(slots=True)
class _Order:
    intent: OrderIntent
    order_id: str
    filled_lots: int
    ahead_lots: int | None = None
    """Displayed before us at our price; None until a book says so."""
    is_triggered: bool = False

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
    stops: list[_Order]
    """Stop orders of ours that wait for their trigger, oldest first."""


class _Takes(NamedTuple):
    levels: list[tuple[int, int]]
    """(price_ticks, qty_lots) of each level that an order takes."""
    is_out_of_money: bool
    """Its budget does not cover the next lot."""


class PaperExchange:
    """The machine behind the executor in paper mode."""

    def __init__(self, terms: PaperTerms, approvals: Approvals | None = None) -> None:
        """`approvals`: an order that is not among them is not sent; None trusts whoever posts."""
        self._terms = terms
        self._approvals = approvals
        self._perps = PaperPerps(MarginTerms(terms.maintenance_ppm, terms.liquidation_fee_ppm))
        self._now_ns = 0
        self._acted_ns = 0
        """When that happened which is being said: what arrived between two messages was answered before the second."""
        self._epoch = 0
        self._orders_seen = 0
        self._cash_atoms = 0
        self._positions: dict[str, Position] = {}
        self._held: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to base atoms."""
        self._instruments: dict[str, Instrument] = {}
        self._markets: dict[str, _Market] = {}
        self._symbols: dict[str, str] = {}
        """Client id of an order that rests or waits for its trigger to its symbol."""
        self._travelling: list[_Arrival] = []
        """A heap: the next arrival first."""
        self._sent = 0
        self._arrivals_ns: dict[str, int] = {}
        """Client id of an order under way to its arrival: no cancel of it comes before."""
        self._answers: deque[tuple[int, m.AnyMessage]] = deque()
        """(when it is heard, what), in the order in which it happened."""
        self._at_door: dict[str, OrderIntent] = {}

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return order events and fills that are heard by now, in the order in which they happened."""
        if message.ts_ns > self._now_ns:
            self._now_ns = message.ts_ns
        if not self._terms.response_ns:
            yield from self._react(message)
            return
        for said in self._react(message):
            self._answer(said)
        while self._answers and self._answers[0][0] <= self._now_ns:
            yield self._answers.popleft()[1]

    def _answer(self, said: m.AnyMessage) -> None:
        """Let `said` travel back; the exchange's news come in their order."""
        terms = self._terms
        name = f"{terms.seed} back {self._epoch} {self._sent} {len(self._answers)} {said.ts_ns}"
        heard_ns = self._acted_ns + delay_ns(name, terms.response_ns, terms.response_p99_ns)
        if self._answers:
            heard_ns = max(heard_ns, self._answers[-1][0])
        self._answers.append((heard_ns, said))

    def _react(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        # What is due acts on the book as it stood before this news.
        yield from self._arrive()
        self._acted_ns = self._now_ns
        match message:
            case m.Depth():
                yield from self._on_depth(message)
            case m.TradeTick():
                yield from self._on_trade(message)
            case m.Tick():
                yield from self._carry()
            case m.SubmitOrder():
                yield from self._submit(message)
            case m.CancelOrder():
                self._send(message)
                yield from self._arrive()
            case m.MarkPrice():
                self._perps.mark(message.symbol, message.price_ticks)
                yield from self._carry()
            case m.FundingRate():
                yield from self._carry()
                self._perps.expect(message)
            case m.BookLost():
                self._market(message.symbol).depth = None
            case m.InstrumentListed():
                self._instruments[message.instrument.symbol] = message.instrument
            case m.Recovered():
                yield from self._recover(message)
            case m.OperatorCommand():
                pass  # an order that the bot gave up goes on at an exchange
            case _:
                raise AssertionError(f"not routed to the executor: {message!r}")

    def _submit(self, submit: m.SubmitOrder) -> Iterator[m.AnyMessage]:
        refusal = "" if self._approvals is None else self._approvals.take(submit.intent, self._now_ns)
        if refusal:
            yield self._event(_Order(submit.intent, "", 0), OrderState.REJECTED, f"{NOT_SENT}: {refusal}")
            return
        self._send(submit)
        yield from self._arrive()

    def _send(self, action: m.SubmitOrder | m.CancelOrder) -> None:
        terms = self._terms
        self._sent += 1
        client_id = action.intent.client_id if isinstance(action, m.SubmitOrder) else action.client_id
        name = f"{terms.seed} there {type(action).__name__} {client_id}"
        due_ns = self._now_ns + delay_ns(name, terms.latency_ns, terms.latency_p99_ns)
        if isinstance(action, m.SubmitOrder):
            self._arrivals_ns[client_id] = due_ns
        else:
            due_ns = max(due_ns, self._arrivals_ns.get(client_id, 0))
        heappush(self._travelling, _Arrival(due_ns, self._sent, action))

    def _carry(self) -> Iterator[m.AnyMessage]:
        """Pay the funding that is due; close the perpetuals that the account cannot carry."""
        for funding in self._perps.due(self._now_ns, self._instruments, self._positions):
            self._cash_atoms -= funding.paid_atoms
            yield funding
        for liquidated in self._perps.ruined(self._now_ns, self._cash_atoms, self._instruments, self._positions):
            symbol = liquidated.symbol
            lots = liquidated.signed_lots
            cash, _ = self._position(symbol).book(
                self._instruments[symbol],
                Side.BUY if lots > 0 else Side.SELL,
                liquidated.price_ticks,
                abs(lots),
                liquidated.fee_atoms,
            )
            self._cash_atoms += cash
            for key in self._held:
                if key[1] == symbol:
                    self._held[key] = 0
            yield liquidated
            market = self._market(symbol)
            for order in (*market.resting, *market.stops):
                self._unrest(order)
                yield self._canceled(order, _LIQUIDATED)

    def _market(self, symbol: str) -> _Market:
        market = self._markets.get(symbol)
        if market is None:
            market = self._markets[symbol] = _Market(None, {}, [], [])
        return market

    def _recover(self, message: m.Recovered) -> Iterator[m.AnyMessage]:
        """Take the account and the resting orders back from the journal: this exchange has no other memory."""
        self._epoch = message.epoch
        self._cash_atoms = message.cash_atoms
        for strategy, held in message.holdings.items():
            for symbol, atoms in held.items():
                self._held[strategy, symbol] = atoms
                self._position(symbol).base_atoms += atoms
        for symbol, atoms in message.costs.items():
            self._position(symbol).cost_atoms = atoms
        for record in message.unsettled:
            # What it was filled with at last was known to this exchange alone, and it forgot.
            yield self._event(
                _Order(record.intent, record.order_id, record.filled_lots), OrderState.ABANDONED, _FORGOTTEN
            )
        for record in message.orders:
            order = _Order(record.intent, record.order_id, record.filled_lots)
            if record.leaves_lots == 0:  # only its end was lost
                yield self._event(order, OrderState.FILLED)
            elif not record.order_id:
                yield self._event(order, OrderState.FAILED, _LOST_AT_STOP)
            elif record.intent.time_in_force != "GTC":
                yield self._canceled(order, _LOST_AT_STOP)
            else:
                self._rest(order)
                if record.is_cancel_requested:
                    self._send(m.CancelOrder(ts_ns=self._now_ns, client_id=record.intent.client_id))

    def _position(self, symbol: str) -> Position:
        position = self._positions.get(symbol)
        if position is None:
            position = self._positions[symbol] = Position()
        return position

    # --- arrivals

    def _arrive(self) -> Iterator[m.AnyMessage]:
        while self._travelling and self._travelling[0].due_ns <= self._now_ns:
            self._acted_ns, _, action = heappop(self._travelling)
            if isinstance(action, m.CancelOrder):
                yield from self._cancel(action.client_id)
                continue
            del self._arrivals_ns[action.intent.client_id]
            if self._market(action.intent.symbol).depth is None:
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
        if intent.order_type == "STOP":
            self._rest(order)
            yield from self._trigger(market)
        else:
            yield from self._take(market, order)

    def _take(self, market: _Market, order: _Order) -> Iterator[m.AnyMessage]:
        """Fill what `order` can take now; the rest of it rests or ends."""
        intent = order.intent
        levels = list(self._levels(market, intent))
        if intent.order_type == "LIMIT_MAKER" and levels:
            yield self._canceled(order, _WOULD_TAKE)
            return
        takes = self._affordable(order, levels)
        missing_lots = order.leaves_lots - sum(qty for _, qty in takes.levels)
        is_all_reduced = self._fillable_lots(order) == sum(qty for _, qty in takes.levels)
        why_missing = _NO_BUDGET if takes.is_out_of_money else _NOTHING_HELD if is_all_reduced else _NO_DEPTH
        if intent.time_in_force == "FOK" and missing_lots:
            yield self._canceled(order, why_missing)
            return
        for price, qty in takes.levels:
            self._note_taken(market, intent.side, price, qty)
            yield from self._fill(order, price, qty, is_maker=False)
        if missing_lots and intent.time_in_force == "GTC" and intent.order_type != "STOP":
            self._rest(order)
        elif intent.amount_atoms and takes.is_out_of_money and order.filled_lots:
            yield self._event(order, OrderState.FILLED)  # the amount is spent, to within a lot
        elif missing_lots:
            yield self._canceled(order, why_missing)

    def _refusal(self, intent: OrderIntent, market: _Market) -> str | None:
        instrument = self._instruments[intent.symbol]
        assert market.depth is not None
        touch = market.depth.asks if intent.side is Side.BUY else market.depth.bids
        price_ticks = intent.price_ticks or intent.trigger_ticks or (touch[0][0] if touch else 0)
        notional = intent.amount_atoms or instrument.notional_atoms(price_ticks, intent.qty_lots)
        if not instrument.is_open:
            return _FROZEN
        if instrument.is_post_only and intent.order_type != "LIMIT_MAKER":
            return _POST_ONLY
        if intent.qty_lots < instrument.qty_lots_min:
            return _QTY_MIN
        if price_ticks and notional < instrument.notional_atoms_min:
            return _NOTIONAL_MIN
        if _is_over_limit(intent, instrument):
            return _OVER_LIMIT
        if instrument.is_perp or intent.order_type == "STOP":
            return None
        if intent.side is Side.BUY:
            is_covered = (
                intent.amount_atoms or instrument.spent_atoms(price_ticks, intent.qty_lots)
            ) <= self._free_cash()
        else:
            is_covered = intent.qty_lots <= self._free_lots(instrument)
        return None if is_covered else _NO_MONEY

    def _free_cash(self) -> int:
        held = sum(
            instrument.spent_atoms(order.price_ticks, order.leaves_lots)
            for symbol, market in self._markets.items()
            # An order of another session may rest where this one does not trade.
            if (instrument := self._instruments.get(symbol)) is not None and not instrument.is_perp
            for order in market.resting
            if order.intent.side is Side.BUY
        )
        return self._cash_atoms - held

    def _free_lots(self, instrument: Instrument) -> int:
        offered = sum(o.leaves_lots for o in self._market(instrument.symbol).resting if o.intent.side is Side.SELL)
        return instrument.whole_lots(self._position(instrument.symbol).base_atoms) - offered

    def _unpromised_lots(self, instrument: Instrument) -> int:
        """Return the lots that no other order is sure to get: two guards of one position may both offer them."""
        promised = sum(
            order.leaves_lots
            for order in self._market(instrument.symbol).resting
            if order.intent.side is Side.SELL and not order.intent.is_reduce_only
        )
        return instrument.whole_lots(self._position(instrument.symbol).base_atoms) - promised

    def _fillable_lots(self, order: _Order) -> int:
        """Return what may still be filled of an order: all of it, or if it only reduces what its strategy holds."""
        intent = order.intent
        if not intent.is_reduce_only:
            return order.leaves_lots
        instrument = self._instruments[intent.symbol]
        against = -intent.side.sign * self._held.get((intent.strategy, intent.symbol), 0)
        lots = min(order.leaves_lots, instrument.whole_lots(max(against, 0)))
        return lots if instrument.is_perp else max(min(lots, self._unpromised_lots(instrument)), 0)

    def _cancel(self, client_id: str) -> Iterator[m.AnyMessage]:
        waiting = self._at_door.pop(client_id, None)
        if waiting is not None:
            yield self._event(_Order(waiting, "", 0), OrderState.CANCELED, "canceled by us before it was accepted")
        symbol = self._symbols.get(client_id)
        if symbol is None:
            return  # it ended before the cancel arrived: its last event said how
        market = self._market(symbol)
        order = next(o for o in (*market.resting, *market.stops) if o.intent.client_id == client_id)
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

    def _affordable(self, order: _Order, levels: list[tuple[int, int]]) -> _Takes:
        """Return what `order` takes of each level, as far as its quantity and its money go."""
        intent = order.intent
        instrument = self._instruments[intent.symbol]
        left = self._fillable_lots(order)
        has_budget = intent.side is Side.BUY and not instrument.is_perp
        budget_atoms = min(self._free_cash(), intent.reserved_atoms) if has_budget else 0
        taker_ppm = self._terms.taker_fee_ppm if instrument.is_fee_in_quote else 0
        takes: list[tuple[int, int]] = []
        for price, lots in levels:
            qty = min(lots, left)
            if has_budget:  # money may run out on the way up
                lot_atoms = instrument.notional_atoms(price, 1)
                covered = budget_atoms * 1_000_000 // (lot_atoms * (1_000_000 + taker_ppm))
                if covered < qty:
                    return _Takes([*takes, (price, covered)] if covered > 0 else takes, is_out_of_money=True)
                budget_atoms -= lot_atoms * qty + fee_atoms(lot_atoms * qty, taker_ppm)
            if qty <= 0:
                break
            takes.append((price, qty))
            left -= qty
        return _Takes(takes, is_out_of_money=False)

    def _note_taken(self, market: _Market, taker: Side, price_ticks: int, qty_lots: int) -> None:
        assert market.depth is not None
        other, levels = (Side.SELL, market.depth.asks) if taker is Side.BUY else (Side.BUY, market.depth.bids)
        displayed = dict(levels)[price_ticks]
        _, taken = market.taken.get((other, price_ticks), (0, 0))
        market.taken[other, price_ticks] = displayed, taken + qty_lots

    # --- resting

    def _rest(self, order: _Order) -> None:
        market = self._market(order.intent.symbol)
        self._symbols[order.intent.client_id] = order.intent.symbol
        if order.intent.order_type == "STOP":
            market.stops.append(order)
            return
        order.ahead_lots = self._displayed(market, order)
        market.resting.append(order)
        # Price, then time: the sort is stable.
        market.resting.sort(key=lambda o: -o.intent.side.sign * o.price_ticks)

    def _unrest(self, order: _Order) -> None:
        market = self._market(order.intent.symbol)
        (market.stops if order.intent.order_type == "STOP" else market.resting).remove(order)
        del self._symbols[order.intent.client_id]

    def _trigger(self, market: _Market, traded_ticks: int | None = None) -> Iterator[m.AnyMessage]:
        """Let the stops act that the touch has reached, or a trade; without a book they act on the next one."""
        for order in list(market.stops):
            if traded_ticks is not None and _reaches(order.intent, traded_ticks):
                order.is_triggered = True
            if market.depth is None:
                continue
            touch = market.depth.asks if order.intent.side is Side.BUY else market.depth.bids
            if order.is_triggered or (touch and _reaches(order.intent, touch[0][0])):
                self._unrest(order)
                yield from self._take(market, order)

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
                qty = min(lots, self._fillable_lots(order))
                if qty:
                    self._note_taken(market, order.intent.side, price, qty)
                    yield from self._fill(order, order.price_ticks, qty, is_maker=True)
        if market.stops:
            yield from self._trigger(market)
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
        if market is None:
            return
        if market.stops:
            yield from self._trigger(market, trade.price_ticks)
        if not market.resting:
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
            else:
                order.ahead_lots = 0  # a trade beyond its price: all before it is gone
            qty = min(left, self._fillable_lots(order))
            if qty:
                left -= qty
                yield from self._fill(order, order.price_ticks, qty, is_maker=True)

    # --- what is said

    def _fill(self, order: _Order, price_ticks: int, qty_lots: int, *, is_maker: bool) -> Iterator[m.AnyMessage]:
        intent = order.intent
        instrument = self._instruments[intent.symbol]
        fee_ppm = self._terms.maker_fee_ppm if is_maker else self._terms.taker_fee_ppm
        if intent.side is Side.BUY and not instrument.is_fee_in_quote:
            fee = fee_atoms(qty_lots * instrument.base_atoms_per_lot, fee_ppm)
        else:
            fee = fee_atoms(instrument.notional_atoms(price_ticks, qty_lots), fee_ppm)
        cash, coins = self._position(intent.symbol).book(instrument, intent.side, price_ticks, qty_lots, fee)
        self._cash_atoms += cash
        key = intent.strategy, intent.symbol
        self._held[key] = self._held.get(key, 0) + coins
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


def _is_over_limit(intent: OrderIntent, instrument: Instrument) -> bool:
    """Return whether an order is larger than the exchange takes, by its quantity, its value or its amount."""
    if intent.amount_atoms:
        return 0 < instrument.notional_atoms_max < intent.amount_atoms
    bound = instrument.lots_max(intent.price_ticks)
    return bound is not None and intent.qty_lots > bound


def _reaches(intent: OrderIntent, price_ticks: int) -> bool:
    """Return whether a price is at the trigger of a stop order, or beyond it."""
    return intent.side.sign * (price_ticks - intent.trigger_ticks) >= 0
