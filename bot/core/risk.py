"""The risk gate: the only way from a wish to an order.

A strategy says what it wants to hold. The gate computes target - held - in flight, checks it against every rule, and
reserves its worst case, all in one turn. News that is late can delay an order; it can never double one, because what
was approved stays reserved until its end is known.

Beside the orders of the way there, *guards* keep what is held: one stop order and one order that takes the profit, at
the prices that the wish names, of all that is held and not being sold already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from bot.core import messages as m
from bot.core.equity import Equity
from bot.core.instrument import ATOM_SCALE, Instrument, Side, decimal_of, side_of
from bot.core.messages import DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderRecord, OrderRole, OrderState, OrderType, client_id

DAY_NS: Final = 86_400 * m.SECOND_NS
MARK_EVERY_NS: Final = 60 * m.SECOND_NS
REBALANCE_SHARE: Final = 50
"""A position within 1/50 of its target is left alone: the fee taken in coins is not worth a second order."""
AMOUNT_LOTS: Final = 2
"""An order for an amount buys at most this many times the lots that were expected of it."""
FLATTEN: Final = "flatten"
"""Cause of the state in which everything is sold; it lasts until the operator says something else."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the gate, in core units. Percentages are in hundredths (basis points)."""

    max_order_value_atoms: int
    max_position_bps: int
    """Of equity, for one symbol: what is held and everything in flight, if all that makes it larger fills."""
    max_gross_bps: int
    """Of equity, for all symbols together."""
    collar_bps: int
    """How far a price may lie from the middle of the book."""
    stale_ns: int
    intent_ttl_ns: int
    orders_per_second: int
    orders_per_minute: int
    max_open_orders: int
    passive_ttl_ns: int
    """A resting order older than this is cancelled, and asked for again at the new touch."""
    daily_loss_bps: int
    daily_loss_halt_bps: int
    drawdown_bps: int
    drawdown_halt_bps: int
    leverage: int = 1
    """A perpetual's initial margin is its value divided by this."""


class Proposal(NamedTuple):
    """An order that the gate considers, with all that its rules look at."""

    instrument: Instrument
    side: Side
    qty_lots: int
    order_type: OrderType
    price_ticks: int
    """Its limit, or for a market order the touch that it meets first."""
    increase_lots: int
    """The part that makes the position larger. A turn-round closes with the rest; a pure reduction has 0."""
    value_atoms: int
    """Worst case of that part: at the price, or at the market at the far end of the collar; with fees in quote."""
    closes_atoms: int
    """What the part that closes is worth; 0 on spot, where that is only sold."""
    amount_atoms: int
    decided_ns: int
    now_ns: int
    quote: m.Quote | None
    equity_atoms: int | None

    @property
    def is_increase(self) -> bool:
        """Return whether some of it makes a position larger."""
        return self.increase_lots > 0


@dataclass(slots=True)
class _Working:
    """An order whose end is not known: what it may still do is reserved."""

    record: OrderRecord
    reserved_atoms: int
    """What a buy on spot may still spend, in quote."""
    final_filled_lots: int | None = None
    """Set when the exchange ended it; the reservation goes when our fills have caught up."""

    def book(self, fill: m.Fill, instrument: Instrument) -> None:
        """Count a fill: what it spent is no longer reserved."""
        filled_lots = self.record.filled_lots + fill.qty_lots
        self.record = msgspec.structs.replace(self.record, filled_lots=filled_lots)
        if self.record.leaves_lots <= 0:
            self.reserved_atoms = 0
        elif self.reserved_atoms:
            spent = instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
            spent += fill.fee_atoms if instrument.is_fee_in_quote else 0
            self.reserved_atoms = max(self.reserved_atoms - spent, 0)


class Account:
    """The gate's view of what is owned and what is in flight. It hears only of what is written."""

    def __init__(self) -> None:
        self.cash_atoms = 0
        self.held: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to base atoms."""
        self.working: dict[str, _Working] = {}
        self.instruments: dict[str, Instrument] = {}
        self.quotes: dict[str, m.Quote] = {}
        self.equity = Equity(self.instruments)

    def recover(self, message: m.Recovered) -> None:
        """Begin with what the journal says."""
        self.cash_atoms = message.cash_atoms
        self.equity.recover(message)
        for strategy, held in message.holdings.items():
            for symbol, atoms in held.items():
                self.held[strategy, symbol] = atoms
        for record in message.orders:
            # A replay's clock may stand before the last session's end: patience with an old order begins anew.
            intent = record.intent
            self.working[intent.client_id] = _Working(
                msgspec.structs.replace(record, submitted_ns=message.ts_ns),
                reserved_atoms=-(-intent.reserved_atoms * record.leaves_lots // intent.qty_lots),
            )

    def book(self, booked: m.FillBooked) -> None:
        """Take a fill: the position grows and the reservation shrinks in the same turn."""
        fill = booked.fill
        self.cash_atoms = booked.cash_atoms
        self.held[booked.strategy, fill.symbol] = booked.strategy_atoms
        self.equity.book(fill)
        order = self.working.get(fill.client_id)
        if order is not None:
            order.book(fill, self.instruments[fill.symbol])

    def pay(self, funding: m.FundingPaid) -> None:
        """Take a payment of funding."""
        self.cash_atoms -= funding.paid_atoms
        self.equity.pay(funding)

    def liquidate(self, liquidated: m.Liquidated) -> None:
        """Take the end of a position, whosever it was. Its orders are over when the exchange says so."""
        self.cash_atoms = liquidated.cash_atoms
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
        """Return the cash that no working buy on spot may still need."""
        return self.cash_atoms - sum(
            order.reserved_atoms for order in self.working.values() if not self._is_perp(order.record.intent.symbol)
        )

    def exposures(self, order: Proposal | None = None) -> dict[str, int]:
        """Return by symbol what it is worth in quote, at least 0, once all that works has filled; and `order` too.

        Of a perpetual that is the worse of two: all buys filled, or all sells. Guards only make it smaller.
        """
        rises, falls = self._in_flight()
        values = self.equity.values
        worst: dict[str, int] = {}
        for symbol in {*values, *rises, *falls}:
            value = values.get(symbol, 0)
            worst[symbol] = max(abs(value + rises.get(symbol, 0)), abs(value - falls.get(symbol, 0)))
        if order is not None:
            symbol, sign = order.instrument.symbol, order.side.sign
            own, other = (rises, falls) if order.side is Side.BUY else (falls, rises)
            value = values.get(symbol, 0)
            after = abs(value + sign * (own.get(symbol, 0) + order.value_atoms + order.closes_atoms))
            # What works against it may fill instead; without that, what it leaves behind does not count.
            worst[symbol] = max(after, abs(value - sign * other[symbol])) if symbol in other else after
        return worst

    def _in_flight(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return by symbol, in quote, what buys and what sells may still change; on spot sells only reduce."""
        rises: dict[str, int] = {}
        falls: dict[str, int] = {}
        for working in self.working.values():
            intent = working.record.intent
            if not self._is_perp(intent.symbol):
                rises[intent.symbol] = rises.get(intent.symbol, 0) + working.reserved_atoms
            elif not intent.is_reduce_only:
                by_side = rises if intent.side is Side.BUY else falls
                by_side[intent.symbol] = by_side.get(intent.symbol, 0) + self._worth(working.record)
        return rises, falls

    def _worth(self, record: OrderRecord) -> int:
        """Return what is left of a perpetual's order, in quote: at its limit, or at the mark."""
        symbol = record.intent.symbol
        price_ticks = record.intent.price_ticks or self.equity.mark_ticks(symbol)
        return self.instruments[symbol].notional_atoms(price_ticks, record.leaves_lots)

    def perps_atoms(self, order: Proposal | None = None) -> int:
        """Return the exposure of all perpetuals together."""
        return sum(atoms for symbol, atoms in self.exposures(order).items() if self._is_perp(symbol))

    def worst_atoms(self, symbol: str, order: Proposal | None = None) -> int:
        """Return the exposure of one symbol."""
        return self.exposures(order).get(symbol, 0)

    def gross_atoms(self, order: Proposal | None = None) -> int:
        """Return the exposure of all symbols together."""
        return sum(self.exposures(order).values())

    def _is_perp(self, symbol: str) -> bool:
        instrument = self.instruments.get(symbol)
        return instrument is not None and instrument.is_perp

    def orders_of(self, strategy: str, symbol: str) -> list[_Working]:
        """Return the working orders of one strategy on one symbol."""
        return [
            order
            for order in self.working.values()
            if order.record.intent.strategy == strategy and order.record.intent.symbol == symbol
        ]

    def sellable_lots(self, strategy: str, symbol: str) -> int:
        """Return the whole lots of a spot market that a strategy holds and does not sell already."""
        held = self.instruments[symbol].whole_lots(self.held.get((strategy, symbol), 0))
        return held - sum(
            order.record.leaves_lots
            for order in self.orders_of(strategy, symbol)
            # A stop that waits locks no coins.
            if order.record.intent.side is Side.SELL and order.record.intent.order_type != "STOP"
        )


def money(atoms: int) -> str:
    """Return a sum in whole quote currency, to eight decimals, for the eyes of an operator."""
    return f"{decimal_of(atoms, ATOM_SCALE):.8f}".rstrip("0").rstrip(".")


Rule = Callable[["RiskGate", Proposal], tuple[DenyReason, str] | None]


def market_open(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny on a market that the exchange has paused."""
    if order.instrument.is_open:
        return None
    return DenyReason.NOT_LISTED, "the exchange does not trade it now"


def not_halted(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny everything while halted."""
    if gate.state is not RiskState.HALTED:
        return None
    return DenyReason.HALTED, f"halted by {gate.cause}"


def not_reduce_only(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny what makes a position larger while only reductions are allowed."""
    if gate.state is not RiskState.REDUCE_ONLY or not order.is_increase:
        return None
    return DenyReason.REDUCE_ONLY, f"reduce-only by {gate.cause}"


def data_fresh(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny without a whole and recent book; and to buy while equity is not known."""
    if order.quote is None:
        return DenyReason.MARKET_DATA_STALE, "no whole book"
    age_ns = order.now_ns - order.quote.ts_ns
    if age_ns > gate.limits.stale_ns:
        return (
            DenyReason.MARKET_DATA_STALE,
            f"book {age_ns // 1_000_000} ms old > stale_ms {gate.limits.stale_ns // 1_000_000}",
        )
    if order.is_increase and order.equity_atoms is None:
        return DenyReason.MARKET_DATA_STALE, "equity unknown: a held coin has no price"
    return None


def not_expired(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny a decision that waited too long."""
    age_ns = order.now_ns - order.decided_ns
    if age_ns <= gate.limits.intent_ttl_ns:
        return None
    return (
        DenyReason.INTENT_EXPIRED,
        f"decided {age_ns // 1_000_000} ms ago > intent_ttl_ms {gate.limits.intent_ttl_ns // 1_000_000}",
    )


def qty_min(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny less than the exchange's smallest quantity."""
    bound = order.instrument.qty_lots_min
    if order.qty_lots >= bound:
        return None
    quantity = order.instrument.quantity
    return DenyReason.MIN_QTY, f"quantity {quantity(order.qty_lots):f} < minimum {quantity(bound):f}"


def notional_min(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny less than the exchange's smallest value."""
    notional = order.instrument.notional_atoms(order.price_ticks, order.qty_lots)
    bound = order.instrument.notional_atoms_min
    if notional >= bound:
        return None
    return DenyReason.MIN_NOTIONAL, f"notional {money(notional)} < {money(bound)}"


def price_collar(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny a price far from the middle of the book; a limit may lie as far on the cheap side as it likes."""
    assert order.quote is not None
    middle2 = order.quote.bid_ticks + order.quote.ask_ticks
    off_ticks2 = 2 * order.price_ticks - middle2
    off_bps = (order.side.sign * off_ticks2 if order.order_type == "LIMIT" else abs(off_ticks2)) * 10_000 // middle2
    if off_bps <= gate.limits.collar_bps:
        return None
    return (
        DenyReason.PRICE_COLLAR,
        f"price {off_bps} bps from the middle > collar {gate.limits.collar_bps} bps",
    )


def order_value_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny one order that is worth too much; closing down is always allowed."""
    bound = gate.limits.max_order_value_atoms
    if not order.is_increase or order.value_atoms <= bound:
        return None
    return DenyReason.MAX_ORDER_VALUE, f"value {money(order.value_atoms)} > max_order_value {money(bound)}"


def position_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny when this order and every working increase of the symbol, all filled, pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.worst_atoms(order.instrument.symbol, order)
    bound = order.equity_atoms * gate.limits.max_position_bps // 10_000
    if after <= bound:
        return None
    return DenyReason.MAX_POSITION, f"position {money(after)} > max_position_pct, which is {money(bound)}"


def gross_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny when all symbols together would pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.gross_atoms(order)
    bound = order.equity_atoms * gate.limits.max_gross_bps // 10_000
    if after <= bound:
        return None
    return DenyReason.MAX_GROSS, f"all positions {money(after)} > max_gross_pct, which is {money(bound)}"


def funds_enough(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny a buy on spot that the free cash does not cover, and a perpetual whose margin equity does not cover."""
    if not order.is_increase:
        return None
    if order.instrument.is_perp:
        return _margin_enough(gate, order)
    free = gate.account.free_atoms
    if order.value_atoms <= free:
        return None
    return DenyReason.INSUFFICIENT_FUNDS, f"needs {money(order.value_atoms)} > free cash {money(free)}"


def _margin_enough(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    assert order.equity_atoms is not None
    margin = -(-gate.account.perps_atoms(order) // gate.limits.leverage)
    if margin <= order.equity_atoms:
        return None
    return DenyReason.INSUFFICIENT_FUNDS, f"margin of all {money(margin)} > equity {money(order.equity_atoms)}"


def open_orders_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny when too many orders work already."""
    count = len(gate.account.working)
    if count < gate.limits.max_open_orders:
        return None
    return DenyReason.MAX_OPEN_ORDERS, f"{count} orders work, max_open_orders {gate.limits.max_open_orders}"


def rate_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny when too many orders were sent lately."""
    return gate.rate.full(order.now_ns)


RULES: Final[tuple[Rule, ...]] = (
    not_halted,
    not_reduce_only,
    market_open,
    data_fresh,
    not_expired,
    qty_min,
    notional_min,
    price_collar,
    order_value_max,
    position_max,
    gross_max,
    funds_enough,
    open_orders_max,
    rate_max,
)
"""Asked in this order; the first that says no gives the reason. Each is named by what must hold."""

GUARD_RULES: Final[tuple[Rule, ...]] = (not_halted, market_open)
"""What a guard must pass. It can only make a position smaller, and an unguarded one is the greater danger: so it is not
held back by a lost book, by bounds on exposure, or by the number of orders."""


class OrderRate:
    """Orders sent in the last second and the last minute."""

    def __init__(self, per_second: int, per_minute: int) -> None:
        self._per_second = per_second
        self._per_minute = per_minute
        self._sent_ns: deque[int] = deque()

    def full(self, now_ns: int) -> tuple[DenyReason, str] | None:
        """Return the refusal if one more order would be too many."""
        while self._sent_ns and self._sent_ns[0] <= now_ns - 60 * m.SECOND_NS:
            self._sent_ns.popleft()
        if len(self._sent_ns) >= self._per_minute:
            return (
                DenyReason.RATE_LIMIT,
                f"{len(self._sent_ns)} orders in a minute, orders_per_minute {self._per_minute}",
            )
        # At most `per_second` of the newest are looked at.
        oldest = len(self._sent_ns) - self._per_second
        if oldest >= 0 and self._sent_ns[oldest] > now_ns - m.SECOND_NS:
            return (
                DenyReason.RATE_LIMIT,
                f"{self._per_second} orders in a second, orders_per_second {self._per_second}",
            )
        return None

    def count(self, now_ns: int) -> None:
        """Count an order sent now."""
        self._sent_ns.append(now_ns)


class RiskGate:
    """The machine: signals and facts in, approvals and refusals out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.account = Account()
        self.rate = OrderRate(limits.orders_per_second, limits.orders_per_minute)
        self.state = RiskState.NORMAL
        self.cause = ""
        self.signals = 0
        self._now_ns = 0
        self._epoch = 0
        self._orders_made = 0
        self._wishes: dict[tuple[str, str], m.Signal] = {}
        self._refused: dict[tuple[str, str, OrderRole], tuple[int, DenyReason]] = {}
        self._spent: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to the number of the last wish whose amount was ordered."""
        self._taken: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to the number of the last wish of whose position a guard or the exchange took something:
        its strategy may not know yet, and nobody buys that back."""
        self._day = -1
        self._day_start_atoms = 0
        self._peak_atoms = 0
        self._marked_ns = 0
        self._forgiven: set[str] = set()
        """Breakers that the operator resumed past: they trip again only at their harder bound."""
        self._is_closing = False

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return approvals, refusals, cancels and changes of state, in order."""
        if message.ts_ns > self._now_ns:
            self._now_ns = message.ts_ns
        match message:
            case m.Quote():
                self.account.quotes[message.symbol] = message
                self.account.equity.mark(message.symbol, (message.bid_ticks + message.ask_ticks) // 2)
                yield from self._watch_equity()
            case m.Signal():
                yield from self._on_signal(message)
            case m.Tick():
                yield from self._on_tick()
            case m.FillBooked():
                self._note_taken(message)
                self.account.book(message)
                yield from self._watch_equity()
                yield from self._settle(message.fill.client_id)
                yield from self._guard(message.strategy, message.fill.symbol)
            case m.OrderEvent():
                yield from self._on_order_event(message)
            case m.BookLost():
                self.account.quotes.pop(message.symbol, None)
            case m.MarkPrice():
                if message.symbol not in self.account.quotes:
                    self.account.equity.mark(message.symbol, message.price_ticks)
                    yield from self._watch_equity()
            case m.FundingPaid():
                self.account.pay(message)
                yield from self._watch_equity()
            case m.Liquidated():
                self.account.liquidate(message)
                for key, wish in self._wishes.items():
                    if wish.symbol == message.symbol:
                        self._taken[key] = wish.number
                yield from self._watch_equity()
            case m.InstrumentListed():
                self.account.instruments[message.instrument.symbol] = message.instrument
            case m.OperatorCommand():
                yield from self._obey(message)
            case m.Recovered():
                yield from self._recover(message)
            case _:
                raise AssertionError(f"not routed to the risk gate: {message!r}")

    def _recover(self, message: m.Recovered) -> Iterator[m.AnyMessage]:
        self._epoch = message.epoch
        self.account.recover(message)
        self.state, self.cause = message.risk_state, message.risk_cause
        if message.equity is not None:
            self._day = message.equity.day
            self._day_start_atoms = message.equity.day_start_atoms
            self._peak_atoms = message.equity.peak_atoms
        # The last session may have ended between the change of state and its cancels.
        yield from self._cancel_forbidden()

    # --- from a wish to an order

    def _on_signal(self, wish: m.Signal) -> Iterator[m.AnyMessage]:
        self.signals += 1
        if self.is_flattening:
            return
        key = wish.strategy, wish.symbol
        before = self._wishes.get(key)
        if before is not None and before.target_lots != wish.target_lots:
            self._refused.pop((*key, "trade"), None)
        self._wishes[key] = wish
        yield from self._pursue(wish, decided_ns=wish.ts_ns)

    def _pursue(self, wish: m.Signal, decided_ns: int) -> Iterator[m.AnyMessage]:
        """Bring what `wish` asks for one step nearer: an order, a cancel that makes room for one, or nothing."""
        instrument = self.account.instruments.get(wish.symbol)
        if self._is_closing or instrument is None or not self._is_recovered:
            return
        held_atoms = self.account.held.get((wish.strategy, wish.symbol), 0)
        held = instrument.nearest_lots(held_atoms)
        working = self.account.orders_of(wish.strategy, wish.symbol)
        trades = [order for order in working if order.record.intent.role == "trade"]
        wanted = wish.target_lots - held
        in_flight = sum(order.record.intent.side.sign * order.record.leaves_lots for order in trades)
        if _is_in_the_way(trades, wish, wanted, in_flight):
            yield from self._cancel(trades, "the wish changed")
            return
        missing = wanted - in_flight
        if abs(missing) * REBALANCE_SHARE <= abs(wish.target_lots) or self._is_spent(wish, trades):
            missing = 0
        closing = 0
        if missing * held < 0:
            if len(working) > len(trades):  # the coins may be theirs, and they would go on selling
                guards = [order for order in working if order.record.intent.role != "trade"]
                yield from self._cancel(guards, "makes way for an order that reduces")
                return
            closing = min(abs(missing), max(-side_of(missing).sign * (held + in_flight), 0))
        is_taken = self._taken.get((wish.strategy, wish.symbol)) == wish.number
        if is_taken or (closing and (wish.limit_ticks or self.state is RiskState.REDUCE_ONLY)):
            missing = closing if missing > 0 else -closing
        if missing < 0 and not instrument.is_perp:
            missing = -min(-missing, self.account.sellable_lots(wish.strategy, wish.symbol))
        if missing:
            amount_atoms = 0 if trades or instrument.position_lots(held_atoms) else wish.amount_atoms
            missing = wish.target_lots if amount_atoms else missing
            yield from self._decide(wish, instrument, missing, min(closing, abs(missing)), amount_atoms, decided_ns)
        if wish.stop_ticks or wish.profit_ticks or len(working) > len(trades):
            yield from self._guard(wish.strategy, wish.symbol)

    def _is_spent(self, wish: m.Signal, trades: list[_Working]) -> bool:
        """Return whether the wish's amount was ordered: nothing tops up what it buys, and nothing is sold of it."""
        if any(order.record.intent.amount_atoms for order in trades):
            return True
        return wish.amount_atoms > 0 and self._spent.get((wish.strategy, wish.symbol)) == wish.number

    def _decide(
        self,
        wish: m.Signal,
        instrument: Instrument,
        missing_lots: int,
        closing_lots: int,
        amount_atoms: int,
        decided_ns: int,
    ) -> Iterator[m.AnyMessage]:
        order = self._propose(wish, instrument, missing_lots, closing_lots, amount_atoms, decided_ns)
        if not order.is_increase and order.quote is not None and _is_dust(self, order):
            return  # too little to be sold, so this counts as flat
        refusal = self._refusal(wish, order, RULES, "trade", wish.target_lots)
        if refusal is None:
            yield self._approve(wish, order)
            return
        yield from refusal
        if 0 < closing_lots < abs(missing_lots):  # what is held is not wanted any more, whatever forbids the rest
            closing = closing_lots if missing_lots > 0 else -closing_lots
            yield from self._decide(wish, instrument, closing, closing_lots, 0, decided_ns)

    def _refusal(
        self, wish: m.Signal, order: Proposal, rules: Iterable[Rule], role: OrderRole, wanted: int
    ) -> tuple[m.OrderDenied, ...] | None:
        """Return None where all rules agree; else the news of it, which is empty for a refusal that is known."""
        key = wish.strategy, wish.symbol, role
        for rule in rules:
            denied = rule(self, order)
            if denied is not None:
                reason, detail = denied
                # A wish is repeated with every bar; its refusal is news only once.
                if self._refused.get(key) == (wanted, reason):
                    return ()
                self._refused[key] = (wanted, reason)
                return (
                    m.OrderDenied(
                        ts_ns=self._now_ns,
                        strategy=wish.strategy,
                        symbol=wish.symbol,
                        side=order.side,
                        qty_lots=order.qty_lots,
                        reason=reason,
                        detail=f"{wish.symbol}: {detail}",
                    ),
                )
        self._refused.pop(key, None)
        return None

    def _propose(
        self,
        wish: m.Signal,
        instrument: Instrument,
        missing_lots: int,
        closing_lots: int,
        amount_atoms: int,
        decided_ns: int,
    ) -> Proposal:
        side, qty_lots = side_of(missing_lots), abs(missing_lots)
        increase_lots = qty_lots - closing_lots
        order_type = _type_of(wish, increase_lots, amount_atoms)
        quote = self.account.quotes.get(wish.symbol)
        price_ticks = wish.price_ticks
        if quote is not None:
            # A passive order joins the queue on its own side; a market order meets the other side first.
            is_bid = (side is Side.BUY) == (order_type == "LIMIT_MAKER")
            price_ticks = quote.bid_ticks if is_bid else quote.ask_ticks
        worst_ticks = price_ticks
        if order_type == "LIMIT":
            # A short that is sold at once is sold at the bid.
            worst_ticks = wish.limit_ticks if side is Side.BUY else max(wish.limit_ticks, price_ticks)
            price_ticks = wish.limit_ticks
        elif order_type == "MARKET" and quote is not None:
            worst_ticks += -(-price_ticks * self.limits.collar_bps // 10_000)
        worst = instrument.notional_atoms if instrument.is_perp else instrument.spent_atoms
        return Proposal(
            instrument=instrument,
            side=side,
            qty_lots=qty_lots,
            order_type=order_type,
            price_ticks=price_ticks,
            increase_lots=increase_lots,
            value_atoms=amount_atoms or worst(worst_ticks, increase_lots),
            closes_atoms=instrument.notional_atoms(price_ticks, closing_lots) if instrument.is_perp else 0,
            amount_atoms=amount_atoms,
            decided_ns=decided_ns,
            now_ns=self._now_ns,
            quote=quote,
            equity_atoms=self.account.equity_atoms,
        )

    def _approve(self, wish: m.Signal, order: Proposal) -> m.OrderApproved:
        is_market = order.order_type == "MARKET"
        if order.amount_atoms:
            self._spent[wish.strategy, wish.symbol] = wish.number
        intent = OrderIntent(
            client_id=self._next_id(),
            strategy=wish.strategy,
            symbol=wish.symbol,
            side=order.side,
            order_type=order.order_type,
            time_in_force="IOC" if is_market else "GTC",
            qty_lots=order.qty_lots * AMOUNT_LOTS if order.amount_atoms else order.qty_lots,
            price_ticks=None if is_market else order.price_ticks,
            amount_atoms=order.amount_atoms,
            reserved_atoms=order.value_atoms,
        )
        return self._let_through(intent)

    def _next_id(self) -> str:
        self._orders_made += 1
        return client_id(self._epoch, self._orders_made)

    def _let_through(self, intent: OrderIntent) -> m.OrderApproved:
        approved = m.OrderApproved(ts_ns=self._now_ns, intent=intent)
        self.account.working[intent.client_id] = _Working(new_record(approved), intent.reserved_atoms)
        self.rate.count(self._now_ns)
        return approved

    # --- guards

    def _note_taken(self, booked: m.FillBooked) -> None:
        order = self.account.working.get(booked.fill.client_id)
        key = booked.strategy, booked.fill.symbol
        if order is not None and order.record.intent.role != "trade" and key in self._wishes:
            self._taken[key] = self._wishes[key].number

    def _guard(self, strategy: str, symbol: str) -> Iterator[m.AnyMessage]:
        """Bring the guards of what is held one step nearer to the wish: an order, a cancel, or nothing."""
        wish = self._wishes.get((strategy, symbol))
        working = self.account.orders_of(strategy, symbol)
        guards = [order for order in working if order.record.intent.role != "trade" and order.record.leaves_lots > 0]
        if not guards and (wish is None or not (wish.stop_ticks or wish.profit_ticks)):
            return
        instrument = self.account.instruments.get(symbol)
        if self._is_closing or instrument is None or not self._is_recovered:
            return
        held_atoms = self.account.held.get((strategy, symbol), 0)
        side = Side.SELL if held_atoms > 0 else Side.BUY
        lots = 0
        if instrument.position_lots(held_atoms):
            lots = instrument.whole_lots(abs(held_atoms)) - sum(
                order.record.leaves_lots
                for order in working
                if order.record.intent.role == "trade" and order.record.intent.side is side
            )
        if wish is None:  # after a restart, until its strategy speaks: what is held stays guarded
            if not lots:
                yield from self._cancel(guards, "nothing is left to guard")
            return
        is_wanted = lots > 0 and wish.target_lots * held_atoms > 0
        prices: tuple[tuple[OrderRole, int], ...] = (("stop", wish.stop_ticks), ("profit", wish.profit_ticks))
        for role, price_ticks in prices:
            standing = [order for order in guards if order.record.intent.role == role]
            if is_wanted and price_ticks and not standing:
                yield from self._place_guard(wish, instrument, role, side, lots, price_ticks)
            wrong = [
                order
                for order in standing
                if not is_wanted or order.record.leaves_lots != lots or _guard_ticks(order) != price_ticks
            ]
            yield from self._cancel(wrong, "the guard changed" if is_wanted and price_ticks else "no longer wanted")

    def _place_guard(
        self, wish: m.Signal, instrument: Instrument, role: OrderRole, side: Side, lots: int, price_ticks: int
    ) -> Iterator[m.AnyMessage]:
        is_stop = role == "stop"
        order = Proposal(
            instrument=instrument,
            side=side,
            qty_lots=lots,
            order_type="STOP" if is_stop else "LIMIT",
            price_ticks=price_ticks,
            increase_lots=0,
            value_atoms=0,
            closes_atoms=0,
            amount_atoms=0,
            decided_ns=self._now_ns,
            now_ns=self._now_ns,
            quote=None,
            equity_atoms=None,
        )
        if _is_dust(self, order):
            return
        refusal = self._refusal(wish, order, GUARD_RULES, role, price_ticks)
        if refusal is not None:
            yield from refusal
            return
        intent = OrderIntent(
            client_id=self._next_id(),
            strategy=wish.strategy,
            symbol=wish.symbol,
            side=side,
            order_type=order.order_type,
            time_in_force="GTC",
            qty_lots=lots,
            price_ticks=None if is_stop else price_ticks,
            role=role,
            trigger_ticks=price_ticks if is_stop else 0,
            is_reduce_only=True,
            reserved_atoms=0,
        )
        yield self._let_through(intent)

    def _cancel(self, orders: Iterable[_Working], reason: str) -> Iterator[m.AnyMessage]:
        for order in orders:
            if not order.record.is_cancel_requested:
                order.record = msgspec.structs.replace(order.record, is_cancel_requested=True)
                yield m.CancelRequested(ts_ns=self._now_ns, client_id=order.record.intent.client_id, reason=reason)

    def _on_order_event(self, event: m.OrderEvent) -> Iterator[m.AnyMessage]:
        order = self.account.working.get(event.client_id)
        if order is None or not event.state.is_final:
            return
        order.final_filled_lots = event.filled_lots
        yield from self._settle(event.client_id)

    def _settle(self, client_id: str) -> Iterator[m.AnyMessage]:
        """Release an order whose end is known and booked; go on with the wish that it was cancelled for."""
        record = self.account.settle(client_id)
        if record is None or not record.is_cancel_requested:
            return
        wish = self._wishes.get((record.intent.strategy, record.intent.symbol))
        if wish is not None:
            yield from self._pursue(wish, decided_ns=self._now_ns)

    def _on_tick(self) -> Iterator[m.AnyMessage]:
        too_old_ns = self._now_ns - self.limits.passive_ttl_ns
        resting = (
            order
            for order in self.account.working.values()
            if order.record.submitted_ns <= too_old_ns and order.record.intent.order_type == "LIMIT_MAKER"
        )
        yield from self._cancel(resting, "rested longer than passive_ttl_s")
        if self.is_flattening:
            yield from self._sell_all()
        if self._now_ns - self._marked_ns >= MARK_EVERY_NS:
            yield from self._mark_equity()

    # --- breakers

    def _watch_equity(self) -> Iterator[m.AnyMessage]:
        equity = self.account.equity.equity_atoms
        if equity is None or self._epoch == 0:
            return
        day = self._now_ns // DAY_NS
        if day != self._day:
            # A clock behind the last session's (a replay, a correction) is no new day: it forgives no loss.
            self._day_start_atoms = equity if day > self._day else max(equity, self._day_start_atoms)
            self._day = day
            self._peak_atoms = max(self._peak_atoms, equity)
            self._forgiven.discard("daily_loss")
            yield from self._mark_equity()
        if equity > self._peak_atoms:
            self._peak_atoms = equity
            self._forgiven.discard("drawdown")
        limits = self.limits
        yield from self._break(
            "daily_loss",
            self._day_start_atoms - equity,
            self._day_start_atoms,
            limits.daily_loss_bps,
            limits.daily_loss_halt_bps,
        )
        yield from self._break(
            "drawdown",
            self._peak_atoms - equity,
            self._peak_atoms,
            limits.drawdown_bps,
            limits.drawdown_halt_bps,
        )

    def _break(
        self, breaker: str, loss_atoms: int, base_atoms: int, reduce_bps: int, halt_bps: int
    ) -> Iterator[m.AnyMessage]:
        loss_bps10k = loss_atoms * 10_000
        if loss_bps10k < base_atoms * reduce_bps or base_atoms <= 0:
            return
        if loss_bps10k >= base_atoms * halt_bps:
            state, bound_bps = RiskState.HALTED, halt_bps
        elif breaker in self._forgiven:
            return
        else:
            state, bound_bps = RiskState.REDUCE_ONLY, reduce_bps
        if state.severity > self.state.severity:
            detail = f"{breaker} {loss_bps10k // base_atoms} bps >= {bound_bps} bps"
            yield from self._enter(state, breaker, detail)

    def _enter(self, state: RiskState, cause: str, detail: str) -> Iterator[m.AnyMessage]:
        self.state, self.cause = state, cause
        self._refused.clear()
        yield m.RiskStateChanged(ts_ns=self._now_ns, state=state, cause=cause, detail=detail)
        yield from self._cancel_forbidden()

    def _cancel_forbidden(self) -> Iterator[m.AnyMessage]:
        """Cancel the working orders that the state would no longer let through."""
        working = list(self.account.working.values())
        if self.state is RiskState.HALTED:
            yield from self._cancel(working, f"halted by {self.cause}")
        elif self.state is RiskState.REDUCE_ONLY:
            increasing = [order for order in working if order.record.intent.reserved_atoms]
            yield from self._cancel(increasing, f"reduce-only by {self.cause}")

    def _mark_equity(self) -> Iterator[m.AnyMessage]:
        equity = self.account.equity_atoms
        if equity is None or self._day < 0:
            return
        self._marked_ns = self._now_ns
        yield m.EquityMarked(
            ts_ns=self._now_ns,
            equity_atoms=equity,
            peak_atoms=self._peak_atoms,
            day=self._day,
            day_start_atoms=self._day_start_atoms,
        )

    # --- the operator

    def _obey(self, command: m.OperatorCommand) -> Iterator[m.AnyMessage]:
        detail = ""
        match command.verb:
            case "halt":
                yield from self._enter(RiskState.HALTED, "operator", "halt")
            case "reduce":
                if self.state is RiskState.HALTED:
                    detail = "already halted, which is stricter; resume first"
                else:
                    yield from self._enter(RiskState.REDUCE_ONLY, "operator", "reduce")
            case "flatten":
                if self.state is RiskState.HALTED:
                    detail = "halted: nothing may be sold; resume first"
                else:
                    yield from self._flatten()
            case "resume":
                self._forgiven = {"daily_loss", "drawdown"}
                yield from self._enter(RiskState.NORMAL, "operator", "resume")
            case "close":
                self._is_closing = True
                yield from self._cancel(list(self.account.working.values()), "closing")
                yield from self._mark_equity()
            case "rearm" | "abandon" | "adopt":
                detail = f"{command.verb} is not known here"
        yield m.OperatorAnswered(
            ts_ns=self._now_ns,
            verb=command.verb,
            command_id=command.command_id,
            state=self.state,
            detail=detail,
        )

    @property
    def is_flattening(self) -> bool:
        """Return whether all is being sold; strategies are not heard meanwhile."""
        return self.state is RiskState.REDUCE_ONLY and self.cause == FLATTEN

    @property
    def _is_recovered(self) -> bool:
        return self._epoch > 0

    def _flatten(self) -> Iterator[m.AnyMessage]:
        yield from self._enter(RiskState.REDUCE_ONLY, FLATTEN, "all positions are closed at the market")
        resting = [order for order in self.account.working.values() if order.record.intent.order_type != "MARKET"]
        yield from self._cancel(resting, "makes way for a market order")
        yield from self._sell_all()

    def _sell_all(self) -> Iterator[m.AnyMessage]:
        """Close what is held and not being closed; asked again with every tick, since an order may fall short."""
        for (strategy, symbol), atoms in list(self.account.held.items()):
            quote = self.account.quotes.get(symbol)
            instrument = self.account.instruments.get(symbol)
            if instrument is None or not instrument.whole_lots(abs(atoms)):
                continue
            touch_ticks = 0 if quote is None else quote.bid_ticks if atoms > 0 else quote.ask_ticks
            wish = m.Signal(
                ts_ns=self._now_ns,
                strategy=strategy,
                symbol=symbol,
                target_lots=0,
                price_ticks=touch_ticks,
                is_passive=False,
            )
            self._wishes[strategy, symbol] = wish
            yield from self._pursue(wish, decided_ns=self._now_ns)


def _type_of(wish: m.Signal, increase_lots: int, amount_atoms: int) -> OrderType:
    if amount_atoms:
        return "MARKET"
    if wish.limit_ticks and increase_lots:
        return "LIMIT"
    return "LIMIT_MAKER" if wish.is_passive else "MARKET"


def _is_in_the_way(trades: list[_Working], wish: m.Signal, wanted_lots: int, in_flight_lots: int) -> bool:
    """Return whether working orders must go before the wish can be followed."""
    if any(order.record.intent.amount_atoms for order in trades):
        return wish.target_lots == 0  # it buys until its amount is spent
    if any(o.record.intent.order_type == "LIMIT" and o.record.intent.price_ticks != wish.limit_ticks for o in trades):
        return True
    return in_flight_lots != 0 and (in_flight_lots * wanted_lots <= 0 or abs(in_flight_lots) > abs(wanted_lots))


def _is_dust(gate: RiskGate, order: Proposal) -> bool:
    return bool(qty_min(gate, order) or notional_min(gate, order))


def _guard_ticks(order: _Working) -> int:
    intent = order.record.intent
    return intent.trigger_ticks if intent.price_ticks is None else intent.price_ticks


def new_record(approved: m.OrderApproved) -> OrderRecord:
    """Return the record of an order that was approved just now."""
    return OrderRecord(intent=approved.intent, state=OrderState.SUBMITTED, filled_lots=0, submitted_ns=approved.ts_ns)
