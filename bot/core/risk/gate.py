"""The machine of the gate: signals and facts in, approvals and refusals out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import Instrument, Side, side_of
from bot.core.latches import EVERYTHING, OPERATOR, strategy_scope, symbol_scope
from bot.core.messages import DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderRecord, OrderRole, OrderState, OrderType, advance, client_id
from bot.core.risk.account import Account, Working
from bot.core.risk.breakers import FLATTEN, Breakers, Said
from bot.core.risk.limits import Limits
from bot.core.risk.pace import Pace
from bot.core.risk.proposal import Proposal
from bot.core.risk.rate import MessageBudget
from bot.core.risk.rule import Rule
from bot.core.risk.rules import GUARD_RULES, RULES, SIGHTED
from bot.core.risk.rules_market import market_open, mode_allows, notional_min, qty_min
from bot.core.risk.rules_pace import repeats_few
from bot.core.styles import Styles, is_behind

MARK_EVERY_NS: Final = 60 * m.SECOND_NS
REBALANCE_SHARE: Final = 50
"""A position within 1/50 of its target is left alone: the fee taken in coins is not worth a second order."""
REPEATS: Final = "repeats"
"""Cause of the latch on a strategy that traded the same way again and again."""
AMOUNT_LOTS: Final = 2
"""An order for an amount buys at most this many times the lots that were expected of it."""


class RiskGate:
    """The machine: signals and facts in, approvals and refusals out."""

    def __init__(
        self,
        limits: Limits,
        approvals: Approvals | None = None,
        *,
        reconciles: tuple[m.Wallet, ...] = (),
        ramp_until_ns: int = 0,
        sent_ns: tuple[int, ...] | None = None,
    ) -> None:
        """Begin with nothing.

        Args:
            limits: what is allowed.
            approvals: the guest list of the send port; None where what is let through is sent at once.
            reconciles: the wallets whose books must be equal to the exchange's before anything is made larger.
            ramp_until_ns: until when `limits.ramp_bps` holds.
            sent_ns: when the orders of the last minute were approved, oldest first, by sessions before; None: nobody
                knows, which counts as too many.

        """
        self.limits = limits
        self.account = Account()
        self.budget = MessageBudget(limits)
        self.pace = Pace(limits)
        self.ramp_until_ns = ramp_until_ns
        self._sent_ns = sent_ns
        self.needs_reconciliation = bool(reconciles)
        self._approvals = approvals
        self._compared_ns: dict[m.Wallet, int | None] = dict.fromkeys(reconciles)
        """Wallet to when its books were last equal to ours."""
        self._unwell: dict[tuple[str, str], m.HealthReported] = {}
        """(condition, scope) to the report that it is not well."""
        self.breakers = Breakers(limits, reconciles)
        self.signals = 0
        self._now_ns = 0
        self._epoch = 0
        self._orders_made = 0
        self._wishes: dict[tuple[str, str], m.Signal] = {}
        self._refused: dict[tuple[str, str, OrderRole], tuple[int, DenyReason]] = {}
        self._spent: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to the number of the last wish whose amount was ordered."""
        self._parts: set[str] = set()
        """Client ids of living orders that are a part of a reduction: the exchange takes no larger ones."""
        self._taken: dict[tuple[str, str], int] = {}
        """(strategy, symbol) to the number of the last wish of whose position a guard or the exchange took something:
        its strategy may not know yet, and nobody buys that back."""
        self._styles = Styles()
        self._quote = ""
        self._marked_ns = 0
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
                yield from self._book(message)
                yield from self._settle(message.fill.client_id)
                yield from self._guard(message.strategy, message.fill.symbol)
            case m.OrderEvent():
                yield from self._on_order_event(message)
            case m.BookLost():
                self.account.quotes.pop(message.symbol, None)
            case m.MarkPrice():
                self.account.marked_ns[message.symbol] = message.ts_ns
                if message.symbol not in self.account.quotes:
                    self.account.equity.mark(message.symbol, message.price_ticks)
                    yield from self._watch_equity()
            case m.FundingPaid():
                self.account.pay(message)
                yield from self._watch_equity()
            case m.Liquidated():
                yield from self._liquidate(message)
                for key, wish in self._wishes.items():
                    if wish.symbol == message.symbol:
                        self._taken[key] = wish.number
                yield from self._watch_equity()
            case m.InstrumentListed():
                self.account.instruments[message.instrument.symbol] = message.instrument
            case m.FundingRate():
                self.account.funding[message.symbol] = message
            case m.HealthReported():
                self._hear_health(message)
                yield from self._heed(self.breakers.report(self._now_ns, message))
            case m.AccountCompared():
                if not message.differences and message.market in self._compared_ns:
                    self._compared_ns[message.market] = message.ts_ns
                self.breakers.compare(self._now_ns, message)
            case m.ExternalFlow():
                if message.currency == self._quote:
                    self.account.receive(message)
                    yield from self._heed(self.breakers.flow(self._now_ns, message.atoms))
            case m.OperatorCommand():
                yield from self._obey(message)
            case m.Recovered():
                yield from self._recover(message)
            case _:
                raise AssertionError(f"not routed to the risk gate: {message!r}")

    def _recover(self, message: m.Recovered) -> Iterator[m.AnyMessage]:
        self._epoch = message.epoch
        self._quote = message.quote
        self.account.recover(message)
        self.breakers.recover(message)
        if message.epoch > 1:
            if self._sent_ns is not None:
                self.budget.take_up(self._sent_ns)
            else:
                living = len(message.orders)
                self.budget.restart(message.ts_ns, living, is_pessimistic=self.needs_reconciliation)
        # The last session may have ended between the change of state and its cancels, and may have been allowed more.
        yield from self._cancel_forbidden()
        yield from self._cancel_not_allowed()

    # --- what the rules ask

    @property
    def unreconciled(self) -> list[m.Wallet]:
        """Return the wallets whose books were not equal to ours yet, or not since the private stream was lost."""
        return [wallet for wallet, ns in self._compared_ns.items() if ns is None]

    @property
    def compared_age_ns(self) -> int:
        """Return how long ago the wallet that was looked at least lately was equal to our books; all have been."""
        return max((self._now_ns - ns for ns in self._compared_ns.values() if ns is not None), default=0)

    def unwell(self, condition: m.Condition, symbol: str = "") -> str | None:
        """Return what is wrong with a condition, for everything or for one symbol; None while it is well."""
        report = self._unwell.get((condition, EVERYTHING))
        if report is None and symbol:
            report = self._unwell.get((condition, symbol_scope(symbol)))
        return None if report is None else report.detail

    def _hear_health(self, report: m.HealthReported) -> None:
        key = report.condition, report.scope
        if report.is_well:
            self._unwell.pop(key, None)
            return
        self._unwell[key] = report
        if report.condition is m.Condition.PRIVATE_STREAM:
            # What happened meanwhile is known again after the next comparison.
            self._compared_ns = dict.fromkeys(self._compared_ns)

    # --- from a wish to an order

    def _on_signal(self, wish: m.Signal) -> Iterator[m.AnyMessage]:
        self.signals += 1
        if self.is_flattening(wish.symbol):
            return
        key = wish.strategy, wish.symbol
        before = self._wishes.get(key)
        if before is not None and before.target_lots != wish.target_lots:
            self._refused.pop((*key, "trade"), None)
            self.pace.forgive(wish.strategy, wish.symbol)
        self._wishes[key] = wish
        yield from self._pursue(wish, decided_ns=wish.ts_ns)

    def _pursue(self, wish: m.Signal, decided_ns: int) -> Iterator[m.AnyMessage]:
        """Bring what `wish` asks for one step nearer: an order, a cancel that makes room for one, or nothing."""
        instrument = self.account.instruments.get(wish.symbol)
        if self._is_closing or instrument is None or not self._is_recovered:
            return
        held_atoms = self.account.held.get((wish.strategy, wish.symbol), 0)
        held = instrument.nearest_lots(held_atoms)
        wish = self._styles.at(wish, held, self._now_ns)
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
        is_against = missing * held < 0
        closing = min(abs(missing), max(-side_of(missing).sign * (held + in_flight), 0)) if is_against else 0
        is_taken = self._taken.get((wish.strategy, wish.symbol)) == wish.number
        if is_taken or (closing and (wish.limit_ticks or self._is_reduce_only(wish))):
            missing = closing if missing > 0 else -closing
        if is_against and missing and len(working) > len(trades):
            if self._is_worth_it(wish, instrument, missing, closing):
                # The coins may be the guards', and they would go on selling.
                guards = [order for order in working if order.record.intent.role != "trade"]
                yield from self._cancel(guards, "makes way for an order that reduces")
                return
            missing = 0
        if missing < 0 and not instrument.is_perp:
            missing = -min(-missing, max(self.account.sellable_lots(wish.strategy, wish.symbol), 0))
        if missing:
            amount_atoms = 0 if trades or instrument.position_lots(held_atoms) else wish.amount_atoms
            missing = wish.target_lots if amount_atoms else missing
            yield from self._decide(wish, instrument, missing, min(closing, abs(missing)), amount_atoms, decided_ns)
        if wish.stop_ticks or wish.profit_ticks or len(working) > len(trades):
            yield from self._guard(wish.strategy, wish.symbol)

    def _is_worth_it(self, wish: m.Signal, instrument: Instrument, missing_lots: int, closing_lots: int) -> bool:
        """Return whether an order could be sent once the guards are gone: dust is not sold, so they would come back.

        Where the exchange takes no such order now, it does not take the guards back either.
        """
        if not self._is_taken_now(self._propose(wish, instrument, missing_lots, closing_lots, 0, self._now_ns)):
            return False
        if abs(missing_lots) > closing_lots:
            return True
        lots = closing_lots
        if not instrument.is_perp:
            lots = min(lots, self.account.sellable_lots(wish.strategy, wish.symbol, are_guards_gone=True))
        if lots <= 0 or wish.symbol not in self.account.quotes:
            return False
        signed_lots = lots if missing_lots > 0 else -lots
        return not _is_dust(self, self._propose(wish, instrument, signed_lots, lots, 0, self._now_ns))

    def _is_taken_now(self, order: Proposal) -> bool:
        return market_open(self, order) is None and mode_allows(self, order) is None

    def _is_reduce_only(self, wish: m.Signal) -> bool:
        return self.state_for(wish.strategy, wish.symbol) is RiskState.REDUCE_ONLY

    def _is_spent(self, wish: m.Signal, trades: list[Working]) -> bool:
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
            approved = self._approve(wish, order)
            if order.qty_lots < abs(missing_lots):
                self._parts.add(approved.intent.client_id)
            yield approved
            return
        yield from refusal
        yield from self._stop_repeating(order)
        if 0 < closing_lots < abs(missing_lots):  # what is held is not wanted any more, whatever forbids the rest
            closing = closing_lots if missing_lots > 0 else -closing_lots
            yield from self._decide(wish, instrument, closing, closing_lots, 0, decided_ns)

    def _stop_repeating(self, order: Proposal) -> Iterator[m.AnyMessage]:
        """Halt a strategy that goes round in circles; somebody must look at it before it goes on."""
        denied = repeats_few(self, order)
        if denied is not None:
            scope = strategy_scope(order.strategy)
            yield from self._heed(self.breakers.close(self._now_ns, RiskState.HALTED, REPEATS, denied[1], scope))

    def _refusal(
        self, wish: m.Signal, order: Proposal, rules: tuple[Rule, ...], role: OrderRole, wanted: int
    ) -> tuple[m.OrderDenied, ...] | None:
        """Return None where all rules agree; else the news of it, which is empty for a refusal that is known."""
        key = wish.strategy, wish.symbol, role
        for number, rule in enumerate(rules):
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
                        detail=f"{wish.symbol}: {detail}{self._also(order, rules[number + 1 :], reason)}",
                    ),
                )
        self._refused.pop(key, None)
        return None

    def _also(self, order: Proposal, rules: tuple[Rule, ...], reason: DenyReason) -> str:
        """Return the other codes that speak against an order, for who reads the journal."""
        is_sighted = order.quote is not None and (order.equity_atoms is not None or not order.is_increase)
        asked = [rule for rule in rules if is_sighted or rule in RULES[:SIGHTED]]
        codes = dict.fromkeys(denied[0] for rule in asked if (denied := rule(self, order)) is not None)
        codes.pop(reason, None)
        return f"; also: {', '.join(codes)}" if codes else ""

    def _propose(
        self,
        wish: m.Signal,
        instrument: Instrument,
        missing_lots: int,
        closing_lots: int,
        amount_atoms: int,
        decided_ns: int,
    ) -> Proposal:
        """Return an order for what is missing; of what only reduces, as much as the exchange takes in one."""
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
        bound = instrument.lots_max(None if order_type == "MARKET" else price_ticks)
        if bound is not None and not increase_lots:
            qty_lots = closing_lots = min(qty_lots, bound)
        worst = instrument.notional_atoms if instrument.is_perp else instrument.spent_atoms
        return Proposal(
            strategy=wish.strategy,
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
        self.breakers.decide(intent.client_id, wish.strategy, order.side, wish.price_ticks)
        return self._let_through(intent, order.price_ticks)

    def _next_id(self) -> str:
        self._orders_made += 1
        return client_id(self._epoch, self._orders_made)

    def _let_through(self, intent: OrderIntent, price_ticks: int) -> m.OrderApproved:
        approved = m.OrderApproved(ts_ns=self._now_ns, intent=intent)
        self.account.working[intent.client_id] = Working(new_record(approved), intent.reserved_atoms)
        self.budget.count_order(self._now_ns, is_increase=intent.reserved_atoms > 0)
        self.pace.send(intent, price_ticks, self._now_ns)
        if self._approvals is not None:
            self._approvals.issue(intent, self._now_ns)
        return approved

    def _go_on(self) -> Iterator[m.AnyMessage]:
        """Follow the wishes that time alone brings nearer; an order that chases follows the touch."""
        for wish in [wish for wish in self._wishes.values() if wish.style != "now"]:
            quote = self.account.quotes.get(wish.symbol)
            behind = [
                order
                for order in self.account.orders_of(wish.strategy, wish.symbol)
                if quote is not None
                and order.record.intent.order_type == "LIMIT_MAKER"
                and is_behind(wish, order.record.intent.side.sign, order.record.intent.price_ticks or 0, quote)
            ]
            yield from self._cancel(behind, "the touch moved away")
            if not self.is_flattening(wish.symbol):
                yield from self._pursue(wish, decided_ns=self._now_ns)

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
        is_netted = self.account.is_netted(strategy, symbol)
        prices: tuple[tuple[OrderRole, int], ...] = (("stop", wish.stop_ticks), ("profit", wish.profit_ticks))
        for role, price_ticks in prices:
            standing = [order for order in guards if order.record.intent.role == role]
            bound = instrument.lots_max(None if role == "stop" else price_ticks)
            if is_wanted and price_ticks and not standing:
                first_lots = lots if bound is None else min(lots, bound)
                yield from self._place_guard(wish, instrument, role, side, first_lots, price_ticks)
            wrong = [
                order
                for order in standing
                if not is_wanted
                or not _guards_all(order, lots, bound)
                or _guard_ticks(order) != price_ticks
                or (is_netted and not order.record.intent.is_netted)
            ]
            yield from self._cancel(wrong, "the guard changed" if is_wanted and price_ticks else "no longer wanted")

    def _place_guard(
        self, wish: m.Signal, instrument: Instrument, role: OrderRole, side: Side, lots: int, price_ticks: int
    ) -> Iterator[m.AnyMessage]:
        is_stop = role == "stop"
        order = Proposal(
            strategy=wish.strategy,
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
            is_netted=self.account.is_netted(wish.strategy, wish.symbol),
            reserved_atoms=0,
        )
        yield self._let_through(intent, price_ticks)

    def _cancel(self, orders: Iterable[Working], reason: str) -> Iterator[m.AnyMessage]:
        for order in orders:
            if not order.record.is_cancel_requested:
                order.record = msgspec.structs.replace(order.record, is_cancel_requested=True)
                self.budget.count_cancel(self._now_ns)
                yield m.CancelRequested(ts_ns=self._now_ns, client_id=order.record.intent.client_id, reason=reason)

    def _on_order_event(self, event: m.OrderEvent) -> Iterator[m.AnyMessage]:
        order = self.account.working.get(event.client_id)
        if order is None:
            return
        self.pace.hear(event, order.record.intent)
        if not event.state.is_final:
            if event.state is OrderState.UNKNOWN or order.is_unknown:
                state = advance(order.record.state, event.state)
                order.record = msgspec.structs.replace(order.record, state=state)
            return
        order.final_filled_lots = event.filled_lots
        yield from self._settle(event.client_id)

    def _settle(self, client_id: str) -> Iterator[m.AnyMessage]:
        """Release an order whose end is known and booked; go on with the wish that it made way for or was part of."""
        record = self.account.settle(client_id)
        if record is None:
            return
        yield from self._heed(self.breakers.end_order(self._now_ns, client_id))
        is_part = client_id in self._parts and not record.leaves_lots
        self._parts.discard(client_id)
        if not (record.is_cancel_requested or is_part):
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
        if self._styles.are_any:
            yield from self._go_on()
        yield from self._sell_all()
        yield from self._watch_markets()
        yield from self._heed(self.breakers.tick(self._now_ns))
        if self._now_ns - self._marked_ns >= MARK_EVERY_NS:
            yield from self._mark_equity()

    # --- breakers

    def _book(self, booked: m.FillBooked) -> Iterator[m.AnyMessage]:
        symbol = booked.fill.symbol
        before_atoms = self.account.held.get((booked.strategy, symbol), 0)
        order = self.account.working.get(booked.fill.client_id)
        is_first = order is None or not order.record.filled_lots
        self.account.book(booked)
        self.pace.book(booked, self.account.instruments[symbol], before_atoms, is_first=is_first)
        said = self.breakers.book(booked, self.account.instruments[symbol], before_atoms)
        yield from self._heed(said)
        yield from self._watch_equity()

    def _liquidate(self, liquidated: m.Liquidated) -> Iterator[m.AnyMessage]:
        symbol = liquidated.symbol
        held = [(strategy, atoms) for (strategy, of), atoms in self.account.held.items() if of == symbol]
        self.account.liquidate(liquidated)
        for strategy, atoms in held:
            instrument = self.account.instruments[symbol]
            yield from self._heed(self.breakers.end_position(liquidated, strategy, instrument, atoms))

    def _watch_equity(self) -> Iterator[m.AnyMessage]:
        if self._is_recovered:
            yield from self._heed(self.breakers.watch(self._now_ns, self.account.equity.equity_atoms))

    def _heed(self, said: Iterable[Said]) -> Iterator[m.AnyMessage]:
        """Say what the breakers say; after that cancel what is no longer let through."""
        is_changed = False
        for message in said:
            if isinstance(message, m.RiskStateChanged):
                is_changed = True
                self._withdraw(message.state)
            else:
                self._marked_ns = self._now_ns
            yield message
        if is_changed:
            self._refused.clear()
            yield from self._cancel_forbidden()

    def _withdraw(self, state: RiskState) -> None:
        """Take back what was let through and not sent yet: whatever mailbox it lies in, it will not be sent."""
        if self._approvals is not None and state is not RiskState.NORMAL:
            self._approvals.withdraw(increases_only=state is RiskState.REDUCE_ONLY)

    def _cancel_forbidden(self) -> Iterator[m.AnyMessage]:
        """Cancel the working orders that the latches would no longer let through."""
        for order in list(self.account.working.values()):
            intent = order.record.intent
            latch = self.breakers.latches.over(intent.strategy, intent.symbol)
            if latch is None:
                continue
            if latch.state is RiskState.HALTED:
                yield from self._cancel((order,), f"halted by {latch.cause}")
            elif intent.reserved_atoms:
                yield from self._cancel((order,), f"reduce-only by {latch.cause}")

    def _cancel_not_allowed(self) -> Iterator[m.AnyMessage]:
        """Cancel the working orders that would make larger what may not be made larger any more."""
        allowed = self.limits.allowed
        if allowed is None:
            return
        for order in list(self.account.working.values()):
            intent = order.record.intent
            if intent.reserved_atoms and intent.symbol not in allowed:
                yield from self._cancel((order,), f"{intent.symbol} is not in risk.allowed")

    def _watch_markets(self) -> Iterator[m.AnyMessage]:
        """Look after what is held: does its book live, and how far is its liquidation."""
        if not self._is_recovered:
            return
        account, breakers = self.account, self.breakers
        for symbol, atoms in account.equity.base_atoms.items():
            instrument = account.instruments.get(symbol)
            if instrument is None:
                continue
            is_held = instrument.position_lots(atoms) != 0
            quote = account.quotes.get(symbol)
            breakers.watch_book(self._now_ns, symbol, None if quote is None else quote.ts_ns, is_held=is_held)
            if instrument.is_perp:
                distance_bps = account.liquidation_bps(symbol, self.limits.maintenance_bps)
                yield from self._heed(breakers.watch_liquidation(self._now_ns, symbol, distance_bps))
        breakers.watch_sight(self._now_ns, is_blind=account.equity_atoms is None)

    def _mark_equity(self) -> Iterator[m.AnyMessage]:
        marked = self.breakers.mark(self._now_ns)
        if marked is not None and self.account.equity_atoms is not None:
            yield from self._heed((marked,))

    # --- the operator

    def _obey(self, command: m.OperatorCommand) -> Iterator[m.AnyMessage]:
        detail = ""
        match command.verb:
            case "halt":
                yield from self._operate(RiskState.HALTED, OPERATOR, "halt")
            case "reduce":
                if self.state is RiskState.HALTED:
                    detail = "already halted, which is stricter; resume first"
                else:
                    yield from self._operate(RiskState.REDUCE_ONLY, OPERATOR, "reduce")
            case "flatten":
                if self.state is RiskState.HALTED:
                    detail = "halted: nothing may be sold; resume first"
                else:
                    yield from self._flatten()
            case "resume":
                yield from self._heed(self.breakers.resume(self._now_ns, command))
                detail = self.breakers.kept()
                self.pace.acknowledge("")
            case "rearm":
                detail, said = self.breakers.rearm(self._now_ns, command)
                if not detail:
                    self._acknowledge(command.subject)
                yield from self._heed(said)
            case "close":
                self._is_closing = True
                yield from self._cancel(list(self.account.working.values()), "closing")
                yield from self._mark_equity()
            case "abandon" | "adopt":  # a matter of the books, which answer
                return
        yield m.OperatorAnswered(
            ts_ns=self._now_ns,
            verb=command.verb,
            command_id=command.command_id,
            state=self.state,
            detail=detail,
        )

    def _acknowledge(self, subject: str) -> None:
        cause, _, scope = subject.partition("@")
        if cause == REPEATS:
            self.pace.acknowledge(scope.removeprefix(strategy_scope("")))

    def _operate(self, state: RiskState, cause: str, detail: str) -> Iterator[m.AnyMessage]:
        yield from self._heed(self.breakers.operate(self._now_ns, state, cause, detail))

    @property
    def state(self) -> RiskState:
        """Return the strictest state that holds for everything."""
        latch = self.breakers.latches.strictest()
        return RiskState.NORMAL if latch is None else latch.state

    @property
    def cause(self) -> str:
        """Return the cause of `state`; empty while it is NORMAL."""
        latch = self.breakers.latches.strictest()
        return "" if latch is None else latch.cause

    def state_for(self, strategy: str, symbol: str) -> RiskState:
        """Return the strictest state that holds for a strategy's orders on a symbol."""
        latch = self.breakers.latches.over(strategy, symbol)
        return RiskState.NORMAL if latch is None else latch.state

    def is_flattening(self, symbol: str) -> bool:
        """Return whether all of a symbol is being sold; strategies are not heard about it meanwhile."""
        latches = self.breakers.latches
        is_asked = latches.find(FLATTEN) or latches.find(FLATTEN, symbol_scope(symbol))
        return is_asked is not None and self.state is not RiskState.HALTED

    @property
    def _is_recovered(self) -> bool:
        return self._epoch > 0

    def _flatten(self) -> Iterator[m.AnyMessage]:
        yield from self._operate(RiskState.REDUCE_ONLY, FLATTEN, "all positions are closed at the market")
        resting = [order for order in self.account.working.values() if order.record.intent.order_type != "MARKET"]
        yield from self._cancel(resting, "makes way for a market order")
        yield from self._sell_all()

    def _sell_all(self) -> Iterator[m.AnyMessage]:
        """Close what is held and not being closed; asked again with every tick, since an order may fall short."""
        for (strategy, symbol), atoms in list(self.account.held.items()):
            quote = self.account.quotes.get(symbol)
            instrument = self.account.instruments.get(symbol)
            if instrument is None or not instrument.whole_lots(abs(atoms)) or not self.is_flattening(symbol):
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


def _is_in_the_way(trades: list[Working], wish: m.Signal, wanted_lots: int, in_flight_lots: int) -> bool:
    """Return whether working orders must go before the wish can be followed."""
    if any(order.record.intent.amount_atoms for order in trades):
        return wish.target_lots == 0  # it buys until its amount is spent
    if any(o.record.intent.order_type == "LIMIT" and o.record.intent.price_ticks != wish.limit_ticks for o in trades):
        return True
    return in_flight_lots != 0 and (in_flight_lots * wanted_lots <= 0 or abs(in_flight_lots) > abs(wanted_lots))


def _is_dust(gate: RiskGate, order: Proposal) -> bool:
    return bool(qty_min(gate, order) or notional_min(gate, order))


def _guards_all(guard: Working, lots: int, bound_lots: int | None) -> bool:
    """Return whether a guard stands for `lots`, or was sent as large as the exchange takes: the next follows it."""
    leaves_lots = guard.record.leaves_lots
    return leaves_lots == lots or (leaves_lots < lots and guard.record.intent.qty_lots == bound_lots)


def _guard_ticks(order: Working) -> int:
    intent = order.record.intent
    return intent.trigger_ticks if intent.price_ticks is None else intent.price_ticks


def new_record(approved: m.OrderApproved) -> OrderRecord:
    """Return the record of an order that was approved just now."""
    return OrderRecord(intent=approved.intent, state=OrderState.SUBMITTED, filled_lots=0, submitted_ns=approved.ts_ns)
