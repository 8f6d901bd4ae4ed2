"""What we own and what we asked for: state is what replaying the journal gives, and nothing else.

Money and coins are integers of atoms. On spot a buy pays its notional in quote and receives base, a sell the other way
round; the fee is in quote, or taken out of what is received. A perpetual costs nothing to hold: cash changes by the
profit of what is closed, by fees and by funding. Positions belong to the strategy that wanted them; what came or went
without an order of ours belongs to nobody, and is kept apart.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.instrument import Instrument, Side, side_of
from bot.core.latches import Latches
from bot.core.orders import OrderIntent, OrderRecord, OrderState, advance, order_number
from bot.errors import UnknownOrder

FINISHED_KEPT: Final = 10_000
"""Finished orders that are kept whole. An older one was booked to its end, so its number is enough: whatever still
names it repeats what is known."""
UNANSWERED: Final = frozenset({OrderState.SUBMITTED, OrderState.UNKNOWN})
"""While an order is in one of these, nobody can say what the exchange's books hold because of it."""


def wallet_of(instrument: Instrument) -> m.Wallet:
    """Return the wallet that pays for trades in a market."""
    return "futures" if instrument.is_perp else "spot"


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
    funding. Fees in a coin that is neither bought nor sold are not in it."""

    def book(
        self,
        instrument: Instrument,
        side: Side,
        price_ticks: int,
        qty_lots: int,
        fee_atoms: int,
        fee_currency: str = "",
    ) -> tuple[int, int]:
        """Take a fill; return the changes of cash and of coins, in atoms. A fee in a third coin changes neither."""
        fee_coin = fee_currency or instrument.fee_coin(side)
        quote_fee = fee_atoms if fee_coin == instrument.quote else 0
        base_atoms = qty_lots * instrument.base_atoms_per_lot
        notional_atoms = instrument.notional_atoms(price_ticks, qty_lots)
        if instrument.is_perp:
            return self._book_perp(side.sign, base_atoms, notional_atoms, quote_fee)
        base_fee = fee_atoms if fee_coin == instrument.base else 0
        if side is Side.BUY:
            cash, coins = -notional_atoms - quote_fee, base_atoms - base_fee
            self.cost_atoms -= cash
        else:
            cash, coins = notional_atoms - quote_fee, -base_atoms - base_fee
            self.realised_atoms += cash - self._release(-coins)
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
    intent: OrderIntent
    submitted_ns: int
    state: OrderState = OrderState.SUBMITTED
    order_id: str = ""
    filled_lots: int = 0
    reported_lots: int = 0
    is_cancel_requested: bool = False
    has_late_fill: bool = False
    fills: dict[m.FillKey, m.FillContent] = field(default_factory=dict[m.FillKey, m.FillContent])

    @property
    def is_settled(self) -> bool:
        return self.filled_lots >= self.reported_lots

    @property
    def record(self) -> OrderRecord:
        return OrderRecord(
            intent=self.intent,
            state=self.state,
            filled_lots=self.filled_lots,
            submitted_ns=self.submitted_ns,
            is_cancel_requested=self.is_cancel_requested,
            order_id=self.order_id,
            reported_lots=self.reported_lots,
            has_late_fill=self.has_late_fill,
        )


class Ledger:
    """Cash, positions and orders. One owner: the bookkeeper."""

    def __init__(self) -> None:
        self.epoch = 0
        self.quote = ""
        self.cash_atoms = 0
        """All wallets together."""
        self.futures_cash_atoms: int | None = None
        """The part of it that lies in the futures wallet; None where one wallet pays for everything."""
        self.instruments: dict[str, Instrument] = {}
        self.positions: dict[str, Position] = {}
        self.holdings: dict[str, dict[str, int]] = {}
        self.external: dict[m.Wallet, dict[str, int]] = {"spot": {}, "futures": {}}
        """Coin, or perpetual, to atoms that came or went by no order of ours, fees in a third coin among them."""
        self.external_atoms = 0
        """Quote currency that came by no order of ours, in all."""
        self.entries: dict[str, dict[str, int]] = {}
        """Strategy to symbol to the price of the fill that opened what it holds; dust is not held."""
        self.latches = Latches()
        self.compared: dict[m.Wallet, m.AccountCompared] = {}
        """What came of the last comparison of each wallet, in this session or an earlier one."""
        self.equity: m.EquityMarked | None = None
        self.is_complete = False
        """The last session did all that it was asked for."""
        self._live: dict[str, _Order] = {}
        self._finished: OrderedDict[str, _Order] = OrderedDict()
        self._unsettled: dict[str, _Order] = {}
        """Orders that ended with fills still to come, oldest end first, however long ago."""
        self._approved: dict[int, int] = {}
        """Epoch to the number of its last order."""
        self._funded: dict[tuple[str, int], int] = {}
        """(symbol, time) of a payment of funding to what was paid."""
        self._liquidated: set[tuple[str, int]] = set()

    @property
    def live_orders(self) -> list[OrderRecord]:
        """Return the orders that may still change, oldest first."""
        return [order.record for order in self._live.values()]

    @property
    def unsettled_orders(self) -> list[OrderRecord]:
        """Return the orders that ended with fills still to come, oldest end first."""
        return [order.record for order in self._unsettled.values()]

    @property
    def risk_state(self) -> m.RiskState:
        """Return the strictest state that holds for everything: what screens show."""
        latch = self.latches.strictest()
        return m.RiskState.NORMAL if latch is None else latch.state

    @property
    def risk_cause(self) -> str:
        """Return the cause of `risk_state`; empty while it is NORMAL."""
        latch = self.latches.strictest()
        return "" if latch is None else latch.cause

    def order(self, client_id: str) -> OrderRecord | None:
        """Return an order of ours, living or ended not long ago."""
        order = self._kept(client_id)
        return None if order is None else order.record

    def is_known(self, client_id: str) -> bool:
        """Return whether this order was ever approved here."""
        if self._kept(client_id) is not None:
            return True
        epoch, number = order_number(client_id) or (0, 0)
        return 0 < number <= self._approved.get(epoch, 0)

    def is_quiet(self, wallet: m.Wallet) -> bool:
        """Return whether nothing of a wallet is under way: no order without an answer, no fill still to come."""
        return not any(
            (order.state in UNANSWERED or not order.is_settled)
            and wallet_of(self.instruments[order.intent.symbol]) == wallet
            for orders in (self._live, self._unsettled)
            for order in orders.values()
        )

    def contradicts(self, message: m.Fill | m.FundingPaid) -> bool:
        """Return whether `message` names what is booked already, and says something else of it."""
        if isinstance(message, m.FundingPaid):
            return self._funded.get((message.symbol, message.ts_ns), message.paid_atoms) != message.paid_atoms
        order = self._kept(message.client_id)
        return order is not None and order.fills.get(message.key, message.content) != message.content

    def apply(self, message: m.Journalled) -> m.FillBooked | bool:
        """Take one fact; return whether it changed anything, or for a new fill what is held after it.

        Raises:
            UnknownOrder: an order event or a fill names an order that was never approved.

        """
        match message:
            case m.OrderEvent():
                return self._advance(message)
            case m.OrderApproved():
                return self._approve(message)
            case m.Fill():
                return self._book(message)
            case m.FundingPaid():
                return self._pay(message)
            case m.Liquidated():
                return self._liquidate(message)
            case m.CancelRequested():
                order = self._live.get(message.client_id)
                if order is None or order.is_cancel_requested:
                    return False
                order.is_cancel_requested = True
            case m.RiskStateChanged():
                self.latches.take(message)
            case m.EquityMarked():
                self.equity = message
            case m.InstrumentListed():
                known = self.instruments.get(message.instrument.symbol)
                self.instruments[message.instrument.symbol] = message.instrument
                return known != message.instrument
            case m.AccountCompared():
                before = self.compared.get(message.market)
                self.compared[message.market] = message
                return before is None or before.differences != message.differences
            case m.ExternalFlow():
                self._flow(message.wallet, message.currency, message.atoms)
                if message.currency == self.quote:
                    self.external_atoms += message.atoms
            case m.SessionStarted():
                if self.epoch == 0:
                    self.quote, self.cash_atoms = message.quote, message.cash_atoms
                    self.futures_cash_atoms = message.futures_cash_atoms
                self.epoch = message.epoch
                self.is_complete = False
            case m.SessionEnded():
                self.is_complete = message.is_complete
            case m.OrderDenied() | m.OperatorAnswered():
                pass
        return True

    def recovered(self, ts_ns: int) -> m.Recovered:
        """Return what everybody must know before the session goes on."""
        return m.Recovered(
            ts_ns=ts_ns,
            epoch=self.epoch,
            quote=self.quote,
            cash_atoms=self.cash_atoms,
            futures_cash_atoms=self.futures_cash_atoms,
            holdings={
                strategy: {symbol: atoms for symbol, atoms in held.items() if atoms}
                for strategy, held in self.holdings.items()
            },
            orders=tuple(self.live_orders),
            unsettled=tuple(self.unsettled_orders),
            external={wallet: dict(held) for wallet, held in self.external.items() if held},
            entries={strategy: dict(entries) for strategy, entries in self.entries.items()},
            costs={
                symbol: position.cost_atoms
                for symbol, position in self.positions.items()
                if position.base_atoms and self.instruments[symbol].is_perp
            },
            risk_state=self.risk_state,
            risk_cause=self.risk_cause,
            latches=tuple(self.latches),
            equity=self._marked(),
        )

    def _marked(self) -> m.EquityMarked | None:
        """Return the last mark, its baselines shifted by what came from outside after it."""
        marked = self.equity
        if marked is None or marked.external_atoms == self.external_atoms:
            return marked
        missing_atoms = self.external_atoms - marked.external_atoms
        return msgspec.structs.replace(
            marked,
            equity_atoms=marked.equity_atoms + missing_atoms,
            peak_atoms=marked.peak_atoms + missing_atoms,
            day_start_atoms=marked.day_start_atoms + missing_atoms,
            external_atoms=self.external_atoms,
        )

    # --- orders

    def _approve(self, approved: m.OrderApproved) -> bool:
        client_id = approved.intent.client_id
        epoch, number = order_number(client_id) or (0, 0)
        if self._kept(client_id) is not None or 0 < number <= self._approved.get(epoch, 0):
            return False
        self._live[client_id] = _Order(approved.intent, approved.ts_ns)
        if number:
            self._approved[epoch] = number
        return True

    def _kept(self, client_id: str) -> _Order | None:
        return self._live.get(client_id) or self._finished.get(client_id) or self._unsettled.get(client_id)

    def _find(self, client_id: str) -> _Order | None:
        """Return an order, or None if it ended long ago. Raises UnknownOrder."""
        order = self._kept(client_id)
        if order is None and not self.is_known(client_id):
            raise UnknownOrder(f"order {client_id} was never approved here")
        return order

    def _advance(self, event: m.OrderEvent) -> bool:
        order = self._find(event.client_id)
        if order is None:
            return False
        if order.state.is_final:
            return event.state is OrderState.ABANDONED and self._give_up(order)
        after = advance(order.state, event.state)
        # Each report is a lower bound: more of it filled is news, however old the state that comes with it.
        if after is order.state and event.filled_lots <= order.reported_lots:
            return False
        order.reported_lots = max(order.reported_lots, event.filled_lots)
        order.state = after
        order.order_id = event.order_id or order.order_id
        if after.is_final:
            self._finish(event.client_id, order)
        return True

    def _finish(self, client_id: str, order: _Order) -> None:
        del self._live[client_id]
        self._finished[client_id] = order
        if not order.is_settled:
            self._unsettled[client_id] = order
            if order.state is OrderState.ABANDONED:
                self._give_up(order)
        if len(self._finished) > FINISHED_KEPT:
            self._finished.popitem(last=False)

    def _give_up(self, order: _Order) -> bool:
        """Expect no more fills of an order that ended; one that comes is booked, and is late."""
        order.reported_lots = min(order.reported_lots, order.filled_lots)
        return self._unsettled.pop(order.intent.client_id, None) is not None

    # --- money

    def _book(self, fill: m.Fill) -> m.FillBooked | bool:
        order = self._find(fill.client_id)
        if order is None or fill.key in order.fills:
            return False
        order.fills[fill.key] = fill.content
        order.filled_lots += fill.qty_lots
        if order.state.is_final:
            if order.filled_lots > order.reported_lots:
                order.has_late_fill = True
            if order.is_settled:
                self._unsettled.pop(fill.client_id, None)
        strategy = order.intent.strategy
        strategy_atoms = self._move(fill, strategy)
        return m.FillBooked(
            ts_ns=fill.ts_ns,
            fill=fill,
            strategy=strategy,
            strategy_atoms=strategy_atoms,
            cash_atoms=self.cash_atoms,
            futures_cash_atoms=self.futures_cash_atoms,
        )

    def _move(self, fill: m.Fill, strategy: str) -> int:
        """Move money and coins; return what the strategy holds of the symbol now."""
        instrument = self.instruments[fill.symbol]
        wallet = wallet_of(instrument)
        cash, coins = self._position(fill.symbol).book(
            instrument, fill.side, fill.price_ticks, fill.qty_lots, fill.fee_atoms, fill.fee_currency
        )
        self._flow(wallet, self.quote, cash)
        if fill.fee_currency and _is_third(fill.fee_currency, instrument):
            self._flow(wallet, fill.fee_currency, -fill.fee_atoms)
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

    def _flow(self, wallet: m.Wallet, currency: str, atoms: int) -> None:
        """Change the cash of a wallet, or what lies there of another coin and is no strategy's."""
        if currency == self.quote:
            self.cash_atoms += atoms
            if wallet == "futures" and self.futures_cash_atoms is not None:
                self.futures_cash_atoms += atoms
            return
        held = self.external[wallet]
        held[currency] = held.get(currency, 0) + atoms
        if not held[currency]:
            del held[currency]

    def _position(self, symbol: str) -> Position:
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        return position

    def _pay(self, funding: m.FundingPaid) -> bool:
        key = funding.symbol, funding.ts_ns
        if key in self._funded:
            return False
        self._funded[key] = funding.paid_atoms
        self._position(funding.symbol).realised_atoms -= funding.paid_atoms
        self._flow("futures", self.quote, -funding.paid_atoms)
        return True

    def _liquidate(self, liquidated: m.Liquidated) -> bool:
        """Close the whole position, whosever it is."""
        symbol = liquidated.symbol
        position = self._position(symbol)
        if position.base_atoms == 0 or (symbol, liquidated.ts_ns) in self._liquidated:
            return False
        self._liquidated.add((symbol, liquidated.ts_ns))
        instrument = self.instruments[symbol]
        closing_lots = -instrument.nearest_lots(position.base_atoms)
        cash, _ = position.book(
            instrument, side_of(closing_lots), liquidated.price_ticks, abs(closing_lots), liquidated.fee_atoms
        )
        self._flow("futures", self.quote, cash)
        self.external["futures"].pop(symbol, None)
        for held in self.holdings.values():
            held.pop(symbol, None)
        for entries in self.entries.values():
            entries.pop(symbol, None)
        return True


def _is_third(currency: str, instrument: Instrument) -> bool:
    return currency != instrument.quote and (currency != instrument.base or instrument.is_perp)
