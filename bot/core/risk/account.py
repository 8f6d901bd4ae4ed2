"""The gate's view of what is owned, and of what its orders may still do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from bot.core import messages as m
from bot.core.equity import Equity
from bot.core.instrument import ATOM_SCALE, Instrument, Side, decimal_of
from bot.core.orders import OrderRecord, OrderState
from bot.core.risk.proposal import Proposal

Key = tuple[str, str]
"""(strategy, symbol)."""
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Working:
    """An order whose end is not known: what it may still do is reserved."""

    record: OrderRecord
    reserved_atoms: int
    """What a buy on spot may still spend, in quote."""
    final_filled_lots: int | None = None
    """Set when the exchange ended it; the reservation goes when our fills have caught up."""

    @property
    def is_unknown(self) -> bool:
        """Return whether nobody knows if it lives."""
        return self.record.state is OrderState.UNKNOWN

    def book(self, fill: m.Fill, instrument: Instrument) -> None:
        """Count a fill: what it spent is no longer reserved."""
        filled_lots = self.record.filled_lots + fill.qty_lots
        self.record = msgspec.structs.replace(self.record, filled_lots=filled_lots)
        if self.record.leaves_lots <= 0:
            self.reserved_atoms = 0
        elif self.reserved_atoms:
            spent = instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
            is_in_quote = (fill.fee_currency or instrument.fee_coin(fill.side)) == instrument.quote
            spent += fill.fee_atoms if is_in_quote else 0
            self.reserved_atoms = max(self.reserved_atoms - spent, 0)


class Account:
    """The gate's view of what is owned and what is in flight. It hears only of what is written."""

    def __init__(self) -> None:
        self.cash_atoms = 0
        self.futures_cash_atoms: int | None = None
        """The part of cash that margins perpetuals, and only them; None where one wallet pays for everything."""
        self.held: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to base atoms."""
        self.working: dict[str, Working] = {}
        self.instruments: dict[str, Instrument] = {}
        self.quotes: dict[str, m.Quote] = {}
        self.marked_ns: dict[str, int] = {}
        """Symbol to the time of the exchange's last mark price."""
        self.funding: dict[str, m.FundingRate] = {}
        self.equity = Equity(self.instruments)

    def recover(self, message: m.Recovered) -> None:
        """Begin with what the journal says."""
        self.cash_atoms = message.cash_atoms
        self.futures_cash_atoms = message.futures_cash_atoms
        self.equity.recover(message)
        for strategy, held in message.holdings.items():
            for symbol, atoms in held.items():
                self.held[strategy, symbol] = atoms
        for record in (*message.orders, *message.unsettled):
            # A replay's clock may stand before the last session's end: patience with an old order begins anew.
            intent = record.intent
            self.working[intent.client_id] = Working(
                msgspec.structs.replace(record, submitted_ns=message.ts_ns),
                reserved_atoms=-(-intent.reserved_atoms * record.leaves_lots // intent.qty_lots),
                final_filled_lots=record.reported_lots if record.state.is_final else None,
            )

    def book(self, booked: m.FillBooked) -> None:
        """Take a fill: the position grows and the reservation shrinks in the same turn."""
        fill = booked.fill
        self.cash_atoms = booked.cash_atoms
        self.futures_cash_atoms = booked.futures_cash_atoms
        self.held[booked.strategy, fill.symbol] = booked.strategy_atoms
        self.equity.book(fill)
        order = self.working.get(fill.client_id)
        if order is not None:
            order.book(fill, self.instruments[fill.symbol])

    def receive(self, flow: m.ExternalFlow) -> None:
        """Take quote currency that came from outside, or went there."""
        self.cash_atoms += flow.atoms
        self.equity.flow_atoms += flow.atoms
        if flow.wallet == "futures" and self.futures_cash_atoms is not None:
            self.futures_cash_atoms += flow.atoms

    def pay(self, funding: m.FundingPaid) -> None:
        """Take a payment of funding."""
        self.cash_atoms -= funding.paid_atoms
        if self.futures_cash_atoms is not None:
            self.futures_cash_atoms -= funding.paid_atoms
        self.equity.pay(funding)

    def liquidate(self, liquidated: m.Liquidated) -> None:
        """Take the end of a position, whosever it was. Its orders are over when the exchange says so."""
        self.cash_atoms = liquidated.cash_atoms
        self.futures_cash_atoms = liquidated.futures_cash_atoms
        self.equity.liquidate(liquidated)
        for key in self.held:
            if key[1] == liquidated.symbol:
                self.held[key] = 0

    def settle(self, client_id: str) -> OrderRecord | None:
        """Release an order that is over and whose fills are all booked; return it if it was released."""
        order = self.working.get(client_id)
        if order is None or order.final_filled_lots is None or order.record.filled_lots < order.final_filled_lots:
            return None
        del self.working[client_id]
        return order.record

    @property
    def equity_atoms(self) -> int | None:
        """Return cash and positions at their marks; None while something held has no price."""
        return self.equity.equity_atoms

    @property
    def free_atoms(self) -> int:
        """Return the cash that no working buy on spot may still need, and no perpetual."""
        return (
            self.cash_atoms
            - (self.futures_cash_atoms or 0)
            - sum(
                order.reserved_atoms for order in self.working.values() if not self._is_perp(order.record.intent.symbol)
            )
        )

    @property
    def margin_atoms(self) -> int | None:
        """Return what margins the perpetuals: equity, or the futures wallet and their open profit; None if unknown."""
        equity = self.equity_atoms
        if equity is None or self.futures_cash_atoms is None:
            return equity
        values = sum(value for symbol, value in self.equity.values.items() if self._is_perp(symbol))
        # What perpetuals were opened at is the cash that the flow form has without them.
        return self.futures_cash_atoms + values - (self.cash_atoms - self.equity.flow_atoms)

    def exposures(self, order: Proposal | None = None) -> dict[str, int]:
        """Return by symbol what it is worth in quote, at least 0, once all that works has filled; and `order` too.

        Of a perpetual that is the worse of two: all buys filled, or all sells. Guards only make it smaller, but where
        strategies hold both sides. All strategies together, as the exchange sees it.
        """
        rises, falls = (_by_symbol(side) for side in self._in_flight())
        return _worst(self.equity.values, rises, falls, order, order.instrument.symbol if order is not None else "")

    def positions(self, order: Proposal | None = None) -> dict[Key, int]:
        """Return the same by strategy and symbol: what one strategy holds may be closed while another's stays."""
        values = {
            key: self.instruments[key[1]].value_atoms(atoms, self.equity.mark_ticks(key[1]))
            for key, atoms in self.held.items()
            if atoms and key[1] in self.instruments
        }
        rises, falls = self._in_flight()
        key = (order.strategy, order.instrument.symbol) if order is not None else ("", "")
        return _worst(values, rises, falls, order, key)

    def _in_flight(self) -> tuple[dict[Key, int], dict[Key, int]]:
        """Return, in quote, what buys and what sells may still change; on spot sells only reduce."""
        rises: dict[Key, int] = {}
        falls: dict[Key, int] = {}
        for working in self.working.values():
            intent = working.record.intent
            key = intent.strategy, intent.symbol
            if not self._is_perp(intent.symbol):
                rises[key] = rises.get(key, 0) + working.reserved_atoms
            elif intent.is_netted or not intent.is_reduce_only:
                by_side = rises if intent.side is Side.BUY else falls
                by_side[key] = by_side.get(key, 0) + self._worth(working.record)
        return rises, falls

    def _worth(self, record: OrderRecord) -> int:
        """Return what is left of a perpetual's order, in quote: at its limit, or at the mark."""
        symbol = record.intent.symbol
        price_ticks = record.intent.price_ticks or self.equity.mark_ticks(symbol)
        return self.instruments[symbol].notional_atoms(price_ticks, record.leaves_lots)

    def perps_atoms(self, order: Proposal | None = None) -> int:
        """Return the exposure of all perpetuals together."""
        return sum(atoms for symbol, atoms in self.exposures(order).items() if self._is_perp(symbol))

    def liquidation_bps(self, symbol: str, maintenance_bps: int) -> int | None:
        """Return how far a perpetual may move against us until it is liquidated, in hundredths of a percent.

        Equity is then what the exchange asks for all perpetuals, all other prices as they are. None where nothing is
        held, or while equity is unknown; at least 0.
        """
        value, equity_atoms = self.equity.values.get(symbol, 0), self.equity_atoms
        if not value or equity_atoms is None:
            return None
        perps = sum(abs(atoms) for other, atoms in self.equity.values.items() if self._is_perp(other))
        spare = 10_000 * equity_atoms - maintenance_bps * perps
        # A long's maintenance shrinks as it falls, a short's grows as it rises.
        part = 10_000 - maintenance_bps if value > 0 else 10_000 + maintenance_bps
        return max(spare * 10_000 // (abs(value) * part), 0)

    def worst_atoms(self, symbol: str, order: Proposal | None = None) -> int:
        """Return the exposure of one symbol. Strategies that go against each other are not netted: either may close."""
        return sum(atoms for key, atoms in self.positions(order).items() if key[1] == symbol)

    def gross_atoms(self, order: Proposal | None = None) -> int:
        """Return the exposure of all symbols together."""
        return sum(self.positions(order).values())

    def strategy_atoms(self, order: Proposal) -> int:
        """Return the exposure of the strategy that wants `order`."""
        return sum(atoms for key, atoms in self.positions(order).items() if key[0] == order.strategy)

    def net_atoms(self, order: Proposal) -> int:
        """Return the worse of longs less shorts and shorts less longs, once all that works has filled."""
        value = sum(self.equity.values.values())
        rise, fall = (sum(side.values()) for side in self._in_flight())
        asked = order.value_atoms + order.closes_atoms
        if order.side is Side.BUY:
            return max(abs(value + rise + asked), abs(value - fall))
        return max(abs(value + rise), abs(value - fall - asked))

    def unknown_orders(self, symbol: str = "") -> list[Working]:
        """Return the orders of which nobody knows whether they live: all of them, or one symbol's."""
        return [
            order for order in self.working.values() if order.is_unknown and symbol in {"", order.record.intent.symbol}
        ]

    def resting(self, symbol: str, side: Side) -> list[Working]:
        """Return our orders that may rest in the book of one symbol, on one side."""
        return [
            order
            for order in self.working.values()
            if order.record.intent.symbol == symbol
            and order.record.intent.side is side
            and order.record.intent.price_ticks is not None
        ]

    def _is_perp(self, symbol: str) -> bool:
        instrument = self.instruments.get(symbol)
        return instrument is not None and instrument.is_perp

    def is_netted(self, strategy: str, symbol: str) -> bool:
        """Return whether another strategy holds the other side of a perpetual."""
        held = self.held.get((strategy, symbol), 0)
        return self._is_perp(symbol) and any(
            atoms * held < 0 for (_, other), atoms in self.held.items() if other == symbol
        )

    def orders_of(self, strategy: str, symbol: str) -> list[Working]:
        """Return the working orders of one strategy on one symbol."""
        return [
            order
            for order in self.working.values()
            if order.record.intent.strategy == strategy and order.record.intent.symbol == symbol
        ]

    def sellable_lots(self, strategy: str, symbol: str, *, are_guards_gone: bool = False) -> int:
        """Return the whole lots of a spot market that a strategy holds and does not sell already.

        A stop that waits locks no coins; other guards lock theirs, unless they make way. Where a stop has filled and
        another guard still works, more is being sold than is held: then it is below 0.
        """
        held = self.instruments[symbol].whole_lots(self.held.get((strategy, symbol), 0))
        return held - sum(
            order.record.leaves_lots
            for order in self.orders_of(strategy, symbol)
            if order.record.intent.side is Side.SELL
            and order.record.intent.order_type != "STOP"
            and not (are_guards_gone and order.record.intent.role != "trade")
        )


def _by_symbol(sums: dict[Key, int]) -> dict[str, int]:
    made: dict[str, int] = {}
    for (_, symbol), atoms in sums.items():
        made[symbol] = made.get(symbol, 0) + atoms
    return made


def _worst(
    values: Mapping[K, int], rises: dict[K, int], falls: dict[K, int], order: Proposal | None, key: K
) -> dict[K, int]:
    """Return the larger of two by key: all that rises has filled, or all that falls; with an order of `key`."""
    worst: dict[K, int] = {}
    for each in dict.fromkeys((*values, *rises, *falls)):
        value = values.get(each, 0)
        worst[each] = max(abs(value + rises.get(each, 0)), abs(value - falls.get(each, 0)))
    if order is not None:
        sign = order.side.sign
        own, other = (rises, falls) if order.side is Side.BUY else (falls, rises)
        value = values.get(key, 0)
        after = abs(value + sign * (own.get(key, 0) + order.value_atoms + order.closes_atoms))
        # What works against it may fill instead; without that, what it leaves behind does not count.
        worst[key] = max(after, abs(value - sign * other[key])) if key in other else after
    return worst


def money(atoms: int) -> str:
    """Return a sum in whole quote currency, to eight decimals, for the eyes of an operator."""
    return f"{decimal_of(atoms, ATOM_SCALE):.8f}".rstrip("0").rstrip(".")
