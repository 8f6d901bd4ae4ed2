"""What we own and what we asked for: state is what replaying the journal gives, and nothing else.

Money and coins are integers of atoms. On spot a buy pays its notional in quote and receives base, a sell the other way
round; the fee is in quote, or taken out of what is received. A perpetual costs nothing to hold: cash changes by the
profit of what is closed, by fees and by funding. Positions belong to the strategy that wanted them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.instrument import Instrument, Side, side_of
from bot.core.orders import OrderRecord, OrderState, advance, order_number
from bot.errors import UnknownOrder

FINISHED_KEPT: Final = 10_000
"""Finished orders that are kept whole. An older one was booked to its end, so its number is enough: whatever still
names it repeats what is known."""


@dataclass(slots=True)
class Position:
    """What is held of one symbol, all strategies together."""

    base_atoms: int = 0
    """Below 0 where a perpetual is short."""
    cost_atoms: int = 0
    """Quote atoms paid for what is held now, by average price; a spot buy's fee makes each coin dearer. Of a perpetual
    the notional at entry, with the sign of the position: it was paid to nobody."""
    realised_atoms: int = 0
    """Profit of what was sold, after the fees of both sides; of a perpetual of what was closed, after all fees and
    funding."""

    def book(
        self, instrument: Instrument, side: Side, price_ticks: int, qty_lots: int, fee_atoms: int
    ) -> tuple[int, int]:
        """Take a fill; return the changes of cash and of coins, in atoms."""
        base_atoms = qty_lots * instrument.base_atoms_per_lot
        notional_atoms = instrument.notional_atoms(price_ticks, qty_lots)
        if instrument.is_perp:
            return self._book_perp(side.sign, base_atoms, notional_atoms, fee_atoms)
        if side is Side.BUY:
            paid = notional_atoms + fee_atoms if instrument.is_fee_in_quote else notional_atoms
            cash, coins = -paid, base_atoms if instrument.is_fee_in_quote else base_atoms - fee_atoms
            self.cost_atoms += paid
        else:
            cash, coins = notional_atoms - fee_atoms, -base_atoms
            self.realised_atoms += cash - self._release(base_atoms)
        self.base_atoms += coins
        return cash, coins

    def _book_perp(self, sign: int, base_atoms: int, notional_atoms: int, fee_atoms: int) -> tuple[int, int]:
        """Close what goes against the fill, then open with what is left of it."""
        closed_atoms = min(base_atoms, abs(self.base_atoms)) if sign * self.base_atoms < 0 else 0
        # A whole number: `base_atoms` and `closed_atoms` are whole lots.
        closed_notional = notional_atoms * closed_atoms // base_atoms
        profit = -sign * closed_notional - self._release(closed_atoms) - fee_atoms
        self.cost_atoms += sign * (notional_atoms - closed_notional)
        self.base_atoms += sign * base_atoms
        self.realised_atoms += profit
        return profit, sign * base_atoms

    def _release(self, base_atoms: int) -> int:
        """Return the cost of a part of the position, rounded down, and forget it: what stays carries the rest."""
        cost_atoms = self.cost_atoms * base_atoms // abs(self.base_atoms) if self.base_atoms else 0
        self.cost_atoms -= cost_atoms
        return cost_atoms


@dataclass(slots=True)
class _Order:
    record: OrderRecord
    reported_lots: int = 0
    """Filled so far, as the exchange says; its fills themselves may come later."""
    fill_keys: set[tuple[str, str, str, Side]] = field(default_factory=set[tuple[str, str, str, Side]])


class Ledger:
    """Cash, positions and orders. One owner: the bookkeeper."""

    def __init__(self) -> None:
        self.epoch = 0
        self.quote = ""
        self.cash_atoms = 0
        self.instruments: dict[str, Instrument] = {}
        self.positions: dict[str, Position] = {}
        self.holdings: dict[str, dict[str, int]] = {}
        self.entries: dict[str, dict[str, int]] = {}
        """Strategy to symbol to the price of the fill that opened what it holds; dust is not held."""
        self.risk_state = m.RiskState.NORMAL
        self.risk_cause = ""
        self.equity: m.EquityMarked | None = None
        self.is_complete = False
        """The last session did all that it was asked for."""
        self._live: dict[str, _Order] = {}
        self._finished: OrderedDict[str, _Order] = OrderedDict()
        self._approved: dict[int, int] = {}
        """Epoch to the number of its last order."""
        self._funded_ns: dict[str, int] = {}
        """Symbol to the time of its last payment of funding."""

    @property
    def live_orders(self) -> list[OrderRecord]:
        """Return the orders that may still change, oldest first."""
        return [order.record for order in self._live.values()]

    def apply(self, message: m.Journalled) -> m.FillBooked | bool:
        """Take one fact; return whether it changed anything, or for a new fill what is held after it.

        Raises:
            UnknownOrder: an order event or a fill names an order that was never approved.

        """
        match message:
            case m.Fill():
                return self._book(message)
            case m.FundingPaid():
                return self._pay(message)
            case m.Liquidated():
                return self._liquidate(message)
            case m.OrderEvent():
                return self._advance(message)
            case m.OrderApproved():
                return self._approve(message)
            case m.CancelRequested():
                order = self._live.get(message.client_id)
                if order is None or order.record.is_cancel_requested:
                    return False
                order.record = msgspec.structs.replace(order.record, is_cancel_requested=True)
            case m.RiskStateChanged():
                self.risk_state, self.risk_cause = message.state, message.cause
            case m.EquityMarked():
                self.equity = message
            case m.InstrumentListed():
                known = self.instruments.get(message.instrument.symbol)
                self.instruments[message.instrument.symbol] = message.instrument
                return known != message.instrument
            case m.SessionStarted():
                if self.epoch == 0:
                    self.quote, self.cash_atoms = message.quote, message.cash_atoms
                self.epoch = message.epoch
                self.is_complete = False
            case m.SessionEnded():
                self.is_complete = message.is_complete
            case m.OrderDenied() | m.OperatorAnswered() | m.AccountCompared() | m.ExternalFlow():
                pass
        return True

    def recovered(self, ts_ns: int) -> m.Recovered:
        """Return what everybody must know before the session goes on."""
        return m.Recovered(
            ts_ns=ts_ns,
            epoch=self.epoch,
            quote=self.quote,
            cash_atoms=self.cash_atoms,
            holdings={
                strategy: {symbol: atoms for symbol, atoms in held.items() if atoms}
                for strategy, held in self.holdings.items()
            },
            orders=tuple(self.live_orders),
            entries={strategy: dict(entries) for strategy, entries in self.entries.items()},
            costs={
                symbol: position.cost_atoms
                for symbol, position in self.positions.items()
                if position.base_atoms and self.instruments[symbol].is_perp
            },
            risk_state=self.risk_state,
            risk_cause=self.risk_cause,
            equity=self.equity,
        )

    def _approve(self, approved: m.OrderApproved) -> bool:
        client_id = approved.intent.client_id
        if self._is_known(client_id):
            return False
        self._live[client_id] = _Order(
            OrderRecord(intent=approved.intent, state=OrderState.SUBMITTED, filled_lots=0, submitted_ns=approved.ts_ns)
        )
        made_of = order_number(client_id)
        if made_of is not None:
            epoch, number = made_of
            self._approved[epoch] = number
        return True

    def _is_known(self, client_id: str) -> bool:
        if client_id in self._live or client_id in self._finished:
            return True
        epoch, number = order_number(client_id) or (0, 0)
        return 0 < number <= self._approved.get(epoch, 0)

    def _find(self, client_id: str) -> _Order | None:
        """Return an order, or None if it ended long ago. Raises UnknownOrder."""
        order = self._live.get(client_id) or self._finished.get(client_id)
        if order is None and not self._is_known(client_id):
            raise UnknownOrder(f"order {client_id} was never approved here")
        return order

    def _advance(self, event: m.OrderEvent) -> bool:
        order = self._find(event.client_id)
        if order is None or order.record.state.is_final:
            return False
        before = order.record
        after = advance(before.state, event.state)
        # A second partial fill is news, although the state has the same name.
        is_further = after is event.state and event.filled_lots > order.reported_lots
        if after is before.state and not is_further:
            return False
        order.reported_lots = max(order.reported_lots, event.filled_lots)
        order.record = msgspec.structs.replace(before, state=after, order_id=event.order_id or before.order_id)
        if after.is_final:
            self._finish(event.client_id, order)
        return True

    def _finish(self, client_id: str, order: _Order) -> None:
        del self._live[client_id]
        self._finished[client_id] = order
        if len(self._finished) > FINISHED_KEPT:
            oldest_id, oldest = self._finished.popitem(last=False)
            if oldest.record.filled_lots < oldest.reported_lots:  # some of its fills are still to come
                self._finished[oldest_id] = oldest

    def _book(self, fill: m.Fill) -> m.FillBooked | bool:
        order = self._find(fill.client_id)
        if order is None or fill.key in order.fill_keys:
            return False
        order.fill_keys.add(fill.key)
        record = order.record
        order.record = msgspec.structs.replace(record, filled_lots=record.filled_lots + fill.qty_lots)
        strategy_atoms = self._move(fill, record.intent.strategy)
        return m.FillBooked(
            ts_ns=fill.ts_ns,
            fill=fill,
            strategy=record.intent.strategy,
            strategy_atoms=strategy_atoms,
            cash_atoms=self.cash_atoms,
        )

    def _move(self, fill: m.Fill, strategy: str) -> int:
        """Move money and coins; return what the strategy holds of the symbol now."""
        instrument = self.instruments[fill.symbol]
        cash, coins = self._position(fill.symbol).book(
            instrument, fill.side, fill.price_ticks, fill.qty_lots, fill.fee_atoms
        )
        self.cash_atoms += cash
        held = self.holdings.setdefault(strategy, {})
        before = held.get(fill.symbol, 0)
        held[fill.symbol] = after = before + coins
        after_lots = instrument.position_lots(after)
        entries = self.entries.setdefault(strategy, {})
        if after_lots == 0:
            entries.pop(fill.symbol, None)
        elif after_lots * instrument.position_lots(before) <= 0:
            entries[fill.symbol] = fill.price_ticks
        return after

    def _position(self, symbol: str) -> Position:
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        return position

    def _pay(self, funding: m.FundingPaid) -> bool:
        if funding.ts_ns <= self._funded_ns.get(funding.symbol, -1):
            return False
        self._funded_ns[funding.symbol] = funding.ts_ns
        self._position(funding.symbol).realised_atoms -= funding.paid_atoms
        self.cash_atoms -= funding.paid_atoms
        return True

    def _liquidate(self, liquidated: m.Liquidated) -> bool:
        """Close the whole position, whosever it is."""
        symbol = liquidated.symbol
        position = self._position(symbol)
        if position.base_atoms == 0:
            return False
        instrument = self.instruments[symbol]
        closing_lots = -instrument.nearest_lots(position.base_atoms)
        cash, _ = position.book(
            instrument, side_of(closing_lots), liquidated.price_ticks, abs(closing_lots), liquidated.fee_atoms
        )
        self.cash_atoms += cash
        for held in self.holdings.values():
            held.pop(symbol, None)
        for entries in self.entries.values():
            entries.pop(symbol, None)
        return True
