"""The risk gate: the only way from a wish to an order.

A strategy says what it wants to hold. The gate computes target - held - in flight, checks it against every rule, and
reserves its worst case, all in one turn. News that is late can delay an order; it can never double one, because what
was approved stays reserved until its end is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from bot.core import messages as m
from bot.core.instrument import ATOM_SCALE, Instrument, Side, decimal_of, side_of
from bot.core.messages import DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderRecord, OrderState, OrderType, client_id

DAY_NS: Final = 86_400 * m.SECOND_NS
MARK_EVERY_NS: Final = 60 * m.SECOND_NS
REBALANCE_SHARE: Final = 50
"""A position within 1/50 of its target is left alone: the fee taken in coins is not worth a second order."""
FLATTEN: Final = "flatten"
"""Cause of the state in which everything is sold; it lasts until the operator says something else."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the gate, in core units. Percentages are in hundredths (basis points)."""

    max_order_value_atoms: int
    max_position_bps: int
    """Of equity, for one symbol: what is held and everything in flight, if all buys fill."""
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


class Proposal(NamedTuple):
    """An order that the gate considers, with all that its rules look at."""

    instrument: Instrument
    side: Side
    qty_lots: int
    order_type: OrderType
    price_ticks: int
    """Its limit, or for a market order the touch that it meets first."""
    value_atoms: int
    """Worst case: at the price, or a market buy at the far end of the collar."""
    decided_ns: int
    now_ns: int
    quote: m.Quote | None
    equity_atoms: int | None

    @property
    def is_increase(self) -> bool:
        """Return whether the position grows; selling what is held is the only way down on spot."""
        return self.side is Side.BUY


@dataclass(slots=True)
class _Working:
    """An order whose end is not known: what it may still do is reserved."""

    record: OrderRecord
    reserved_atoms: int
    """Quote that it may still spend."""
    final_filled_lots: int | None = None
    """Set when the exchange ended it; the reservation goes when our fills have caught up."""

    def book(self, fill: m.Fill, notional_atoms: int) -> None:
        """Count a fill: what it spent is no longer reserved."""
        filled_lots = self.record.filled_lots + fill.qty_lots
        self.record = msgspec.structs.replace(self.record, filled_lots=filled_lots)
        is_full = filled_lots >= self.record.intent.qty_lots
        self.reserved_atoms = 0 if is_full else max(self.reserved_atoms - notional_atoms, 0)


class Account:
    """The gate's view of what is owned and what is in flight. It hears only of what is written."""

    def __init__(self) -> None:
        self.cash_atoms = 0
        self.held: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to base atoms."""
        self.base_atoms: dict[str, int] = {}
        self.working: dict[str, _Working] = {}
        self.instruments: dict[str, Instrument] = {}
        self.quotes: dict[str, m.Quote] = {}
        self._marks: dict[str, int] = {}
        self._values: dict[str, int] = {}
        self._positions_atoms = 0
        self._unpriced: set[str] = set()

    def recover(self, message: m.Recovered) -> None:
        """Begin with what the journal says."""
        self.cash_atoms = message.cash_atoms
        for strategy, held in message.holdings.items():
            for symbol, atoms in held.items():
                self._hold(strategy, symbol, atoms)
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
        self._hold(booked.strategy, fill.symbol, booked.strategy_atoms)
        order = self.working.get(fill.client_id)
        if order is not None:
            order.book(fill, self.instruments[fill.symbol].notional_atoms(fill.price_ticks, fill.qty_lots))

    def settle(self, client_id: str) -> OrderRecord | None:
        """Release an order that is over and whose fills are all booked; return it if it was released."""
        order = self.working.get(client_id)
        if order is None or order.final_filled_lots is None or order.record.filled_lots < order.final_filled_lots:
            return None
        del self.working[client_id]
        return order.record

    def mark(self, symbol: str, price_ticks: int) -> None:
        """Value `symbol` at a price from now on."""
        self._marks[symbol] = price_ticks
        self._revalue(symbol)

    def _hold(self, strategy: str, symbol: str, atoms: int) -> None:
        before = self.held.get((strategy, symbol), 0)
        self.held[strategy, symbol] = atoms
        self.base_atoms[symbol] = self.base_atoms.get(symbol, 0) + atoms - before
        self._revalue(symbol)

    def _revalue(self, symbol: str) -> None:
        atoms = self.base_atoms.get(symbol, 0)
        mark = self._marks.get(symbol)
        instrument = self.instruments.get(symbol)
        if not atoms or mark is None or instrument is None:
            value = 0
            (self._unpriced.add if atoms else self._unpriced.discard)(symbol)
        else:
            value = instrument.value_atoms(atoms, mark)
            self._unpriced.discard(symbol)
        self._positions_atoms += value - self._values.get(symbol, 0)
        self._values[symbol] = value

    @property
    def equity_atoms(self) -> int | None:
        """Return cash and positions at their marks; None while a held coin has no price."""
        return None if self._unpriced else self.cash_atoms + self._positions_atoms

    @property
    def free_atoms(self) -> int:
        """Return the cash that no working buy may still need."""
        return self.cash_atoms - sum(order.reserved_atoms for order in self.working.values())

    def worst_atoms(self, symbol: str) -> int:
        """Return what is held of `symbol`, and every working buy of it filled, in quote."""
        return self._values.get(symbol, 0) + sum(
            order.reserved_atoms for order in self.working.values() if order.record.intent.symbol == symbol
        )

    @property
    def gross_atoms(self) -> int:
        """Return the same for all symbols together."""
        return self._positions_atoms + self.cash_atoms - self.free_atoms

    def orders_of(self, strategy: str, symbol: str) -> list[_Working]:
        """Return the working orders of one strategy on one symbol."""
        return [
            order
            for order in self.working.values()
            if order.record.intent.strategy == strategy and order.record.intent.symbol == symbol
        ]

    def sellable_lots(self, strategy: str, symbol: str) -> int:
        """Return the whole lots that a strategy holds and does not sell already."""
        held = self.instruments[symbol].whole_lots(self.held.get((strategy, symbol), 0))
        return held - sum(
            order.record.leaves_lots
            for order in self.orders_of(strategy, symbol)
            if order.record.intent.side is Side.SELL
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
    """Deny a price far from the middle of the book, on either side of it."""
    assert order.quote is not None
    middle2 = order.quote.bid_ticks + order.quote.ask_ticks
    off_bps = abs(2 * order.price_ticks - middle2) * 10_000 // middle2
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
    """Deny when this order and every working buy of the symbol, all filled, pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.worst_atoms(order.instrument.symbol) + order.value_atoms
    bound = order.equity_atoms * gate.limits.max_position_bps // 10_000
    if after <= bound:
        return None
    return DenyReason.MAX_POSITION, f"position {money(after)} > max_position_pct, which is {money(bound)}"


def gross_max(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny when all symbols together would pass the bound."""
    if not order.is_increase:
        return None
    assert order.equity_atoms is not None
    after = gate.account.gross_atoms + order.value_atoms
    bound = order.equity_atoms * gate.limits.max_gross_bps // 10_000
    if after <= bound:
        return None
    return DenyReason.MAX_GROSS, f"all positions {money(after)} > max_gross_pct, which is {money(bound)}"


def funds_enough(gate: RiskGate, order: Proposal) -> tuple[DenyReason, str] | None:
    """Deny a buy that the free cash does not cover."""
    free = gate.account.free_atoms
    if not order.is_increase or order.value_atoms <= free:
        return None
    return DenyReason.INSUFFICIENT_FUNDS, f"needs {money(order.value_atoms)} > free cash {money(free)}"


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
        self._refused: dict[tuple[str, str], tuple[int, DenyReason]] = {}
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
                self.account.mark(message.symbol, (message.bid_ticks + message.ask_ticks) // 2)
                yield from self._watch_equity()
            case m.Signal():
                yield from self._on_signal(message)
            case m.Tick():
                yield from self._on_tick()
            case m.FillBooked():
                self.account.book(message)
                yield from self._watch_equity()
                yield from self._settle(message.fill.client_id)
            case m.OrderEvent():
                yield from self._on_order_event(message)
            case m.BookLost():
                self.account.quotes.pop(message.symbol, None)
            case m.MarkPrice():
                if message.symbol not in self.account.quotes:
                    self.account.mark(message.symbol, message.price_ticks)
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
            self._refused.pop(key, None)
        self._wishes[key] = wish
        yield from self._pursue(wish, decided_ns=wish.ts_ns)

    def _pursue(self, wish: m.Signal, decided_ns: int) -> Iterator[m.AnyMessage]:
        """Bring what `wish` asks for one step nearer: an order, a cancel that makes room for one, or nothing."""
        instrument = self.account.instruments.get(wish.symbol)
        if self._is_closing or instrument is None or not self._is_recovered:
            return
        held = instrument.nearest_lots(self.account.held.get((wish.strategy, wish.symbol), 0))
        wanted = wish.target_lots - held
        working = self.account.orders_of(wish.strategy, wish.symbol)
        in_flight = sum(order.record.intent.side.sign * order.record.leaves_lots for order in working)
        if in_flight and (in_flight * wanted <= 0 or abs(in_flight) > abs(wanted)):
            yield from self._cancel(working, "the wish changed")
            return
        missing = wanted - in_flight
        if wish.target_lots and abs(missing) * REBALANCE_SHARE <= wish.target_lots:
            return
        if missing < 0:
            missing = -min(-missing, self.account.sellable_lots(wish.strategy, wish.symbol))
        if missing:
            yield from self._decide(wish, instrument, missing, decided_ns)

    def _decide(
        self, wish: m.Signal, instrument: Instrument, missing_lots: int, decided_ns: int
    ) -> Iterator[m.AnyMessage]:
        key = wish.strategy, wish.symbol
        order = self._propose(wish, instrument, missing_lots, decided_ns)
        if not order.is_increase and order.quote is not None and (qty_min(self, order) or notional_min(self, order)):
            return  # dust: too little to be sold, so this counts as flat
        for rule in RULES:
            refusal = rule(self, order)
            if refusal is not None:
                reason, detail = refusal
                # A wish is repeated with every bar; its refusal is news only once.
                if self._refused.get(key) != (wish.target_lots, reason):
                    self._refused[key] = (wish.target_lots, reason)
                    yield m.OrderDenied(
                        ts_ns=self._now_ns,
                        strategy=wish.strategy,
                        symbol=wish.symbol,
                        side=order.side,
                        qty_lots=order.qty_lots,
                        reason=reason,
                        detail=f"{wish.symbol}: {detail}",
                    )
                return
        self._refused.pop(key, None)
        yield self._approve(wish, order)

    def _propose(self, wish: m.Signal, instrument: Instrument, missing_lots: int, decided_ns: int) -> Proposal:
        side = side_of(missing_lots)
        qty_lots = abs(missing_lots)
        quote = self.account.quotes.get(wish.symbol)
        price_ticks, worst_ticks = wish.price_ticks, wish.price_ticks
        if quote is not None:
            is_buy = side is Side.BUY
            # A passive order joins the queue on its own side; a market order meets the other side first.
            price_ticks = quote.bid_ticks if is_buy == wish.is_passive else quote.ask_ticks
            worst_ticks = price_ticks
            if is_buy and not wish.is_passive:
                worst_ticks += -(-price_ticks * self.limits.collar_bps // 10_000)
        return Proposal(
            instrument=instrument,
            side=side,
            qty_lots=qty_lots,
            order_type="LIMIT_MAKER" if wish.is_passive else "MARKET",
            price_ticks=price_ticks,
            value_atoms=instrument.notional_atoms(worst_ticks, qty_lots),
            decided_ns=decided_ns,
            now_ns=self._now_ns,
            quote=quote,
            equity_atoms=self.account.equity_atoms,
        )

    def _approve(self, wish: m.Signal, order: Proposal) -> m.OrderApproved:
        self._orders_made += 1
        is_market = order.order_type == "MARKET"
        intent = OrderIntent(
            client_id=client_id(self._epoch, self._orders_made),
            strategy=wish.strategy,
            symbol=wish.symbol,
            side=order.side,
            order_type=order.order_type,
            time_in_force="IOC" if is_market else "GTC",
            qty_lots=order.qty_lots,
            price_ticks=None if is_market else order.price_ticks,
            reserved_atoms=order.value_atoms if order.is_increase else 0,
        )
        approved = m.OrderApproved(ts_ns=self._now_ns, intent=intent)
        self.account.working[intent.client_id] = _Working(new_record(approved), intent.reserved_atoms)
        self.rate.count(self._now_ns)
        return approved

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
            if order.record.intent.price_ticks is not None and order.record.submitted_ns <= too_old_ns
        )
        yield from self._cancel(resting, "rested longer than passive_ttl_s")
        if self.is_flattening:
            yield from self._sell_all()
        if self._now_ns - self._marked_ns >= MARK_EVERY_NS:
            yield from self._mark_equity()

    # --- breakers

    def _watch_equity(self) -> Iterator[m.AnyMessage]:
        equity = self.account.equity_atoms
        if equity is None or not self._is_recovered:
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
            increasing = [order for order in working if order.record.intent.side is Side.BUY]
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
        yield from self._enter(RiskState.REDUCE_ONLY, FLATTEN, "all positions are sold at the market")
        resting = [order for order in self.account.working.values() if order.record.intent.price_ticks is not None]
        yield from self._cancel(resting, "makes way for a market order")
        yield from self._sell_all()

    def _sell_all(self) -> Iterator[m.AnyMessage]:
        """Sell what is held and not being sold; asked again with every tick, since an order may fall short."""
        for (strategy, symbol), atoms in list(self.account.held.items()):
            quote = self.account.quotes.get(symbol)
            instrument = self.account.instruments.get(symbol)
            if instrument is None or not instrument.whole_lots(atoms):
                continue
            wish = m.Signal(
                ts_ns=self._now_ns,
                strategy=strategy,
                symbol=symbol,
                target_lots=0,
                price_ticks=quote.bid_ticks if quote else 0,
                is_passive=False,
            )
            self._wishes[strategy, symbol] = wish
            yield from self._pursue(wish, decided_ns=self._now_ns)


def new_record(approved: m.OrderApproved) -> OrderRecord:
    """Return the record of an order that was approved just now."""
    return OrderRecord(intent=approved.intent, state=OrderState.SUBMITTED, filled_lots=0, submitted_ns=approved.ts_ns)
