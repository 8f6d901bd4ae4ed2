"""The machine of the persistence actor: decides what is written, and says what may be said once it is.

`handle` returns what others may hear *after* the commit of what `take_pending` returns. The caller keeps that order:
nothing is sent that is not written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.latches import symbol_scope
from bot.core.ledger import Ledger
from bot.core.orders import REFUSALS, OrderState
from bot.core.reconcile import compare, flows, is_foreign, is_of_second_daemon, unexplained

RECENT_FILLS: Final = 50
HISTORY_POINTS: Final = 240
HISTORY_STEP_NS: Final = m.SECOND_NS
QUARANTINE_KEPT: Final = 1_000
BOOK_VERBS: Final = frozenset({"adopt", "abandon"})
"""What an operator may ask of the books; everything else is for the gate."""


class Bookkeeper:
    """Owns the ledger, and the newest marks to value it with."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now_ns = 0
        self.quotes: dict[str, m.Quote] = {}
        """Symbols whose book is known now."""
        self.marks: dict[str, int] = {}
        """Symbol to the price in ticks that it is valued at: the middle of its book, else the exchange's mark."""
        self.fills: deque[m.FillBooked] = deque(maxlen=RECENT_FILLS)
        self.equity_history: deque[tuple[int, int]] = deque(maxlen=HISTORY_POINTS)
        self.counts = {"orders": 0, "denied": 0, "fills": 0, "rejected": 0, "late_fills": 0}
        self.events = {"received": 0, "applied": 0, "duplicate": 0, "quarantined": 0}
        """What the exchange said of orders and money: each thing received meets exactly one of the other fates."""
        self.compared: dict[m.Wallet, m.AccountCompared] = {}
        """The last comparison of each wallet in this session."""
        self._verdicts: dict[m.Condition, tuple[bool, m.RiskState]] = {}
        self._quarantine: deque[m.Fill | m.FundingPaid] = deque(maxlen=QUARANTINE_KEPT)
        self._pending: list[m.Journalled] = []

    def take_pending(self) -> list[m.Journalled]:
        """Return the facts to write now, oldest first, and forget them here."""
        pending, self._pending = self._pending, []
        return pending

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        """Return what may be said once the pending facts are written."""
        self.now_ns = max(self.now_ns, message.ts_ns)
        match message:
            case m.Quote():
                self.quotes[message.symbol] = message
                self.marks[message.symbol] = (message.bid_ticks + message.ask_ticks) // 2
            case m.Tick():
                self._sample_equity()
            case m.BookLost():
                self.quotes.pop(message.symbol, None)
            case m.MarkPrice():
                if message.symbol not in self.quotes:
                    self.marks[message.symbol] = message.price_ticks
            case m.OrderApproved():
                if self._write(message):
                    self.counts["orders"] += 1
                    return (m.SubmitOrder(ts_ns=message.ts_ns, intent=message.intent),)
            case m.CancelRequested():
                if self._write(message):
                    return (m.CancelOrder(ts_ns=message.ts_ns, client_id=message.client_id),)
            case m.OrderEvent():
                return self._on_order_event(message)
            case m.Fill():
                return self._on_fill(message)
            case m.FundingPaid() | m.Liquidated():
                return self._on_payment(message)
            case m.AccountSeen():
                return self._on_account(message)
            case m.OperatorAnswered() | m.ExternalFlow():
                self._write(message)
                return (message,)
            case m.OrderDenied():
                self.counts["denied"] += 1
                self._write(message)
            case m.SessionStarted():
                self._write(message)
                return (self.ledger.recovered(message.ts_ns),)
            case m.OperatorCommand():
                return self._obey(message)
            case m.InstrumentListed() | m.RiskStateChanged() | m.EquityMarked() | m.SessionEnded():
                self._write(message)
            case _:
                raise AssertionError(f"not routed to persistence: {message!r}")
        return ()

    # --- what the exchange says

    def _on_order_event(self, event: m.OrderEvent) -> Iterable[m.AnyMessage]:
        self.events["received"] += 1
        if not self._write(event):
            self.events["duplicate"] += 1
            return ()
        self.events["applied"] += 1
        self.counts["rejected"] += event.state is OrderState.REJECTED
        record = self.ledger.order(event.client_id)
        assert record is not None
        if (record.state, record.reported_lots) == (event.state, event.filled_lots):
            return (event,)
        # Late news of one kind may be the first of another: what is said is what all news together come to.
        return (msgspec.structs.replace(event, state=record.state, filled_lots=record.reported_lots),)

    def _on_fill(self, fill: m.Fill) -> Iterable[m.AnyMessage]:
        self.events["received"] += 1
        booked = self._write(fill)
        if isinstance(booked, m.FillBooked):
            self.events["applied"] += 1
            self.counts["fills"] += 1
            self.fills.appendleft(booked)
            return (booked, *self._surprises(fill))
        return self._repeated(fill)

    def _on_payment(self, payment: m.FundingPaid | m.Liquidated) -> Iterable[m.AnyMessage]:
        self.events["received"] += 1
        if not self._write(payment):
            return self._repeated(payment)
        self.events["applied"] += 1
        if isinstance(payment, m.FundingPaid):
            return (payment,)
        cash, futures = self.ledger.cash_atoms, self.ledger.futures_cash_atoms
        return (msgspec.structs.replace(payment, cash_atoms=cash, futures_cash_atoms=futures),)

    def _repeated(self, message: m.Fill | m.FundingPaid | m.Liquidated) -> Iterable[m.AnyMessage]:
        """Sort out what is known already; what contradicts that is put aside, and said once."""
        if isinstance(message, m.Liquidated) or not self.ledger.contradicts(message):
            self.events["duplicate"] += 1
            return ()
        self.events["quarantined"] += 1
        if message in self._quarantine:
            return ()
        self._quarantine.append(message)
        return (self._integrity(m.RiskState.REDUCE_ONLY, "", f"told twice, and not the same: {_words(message)}"),)

    def _surprises(self, fill: m.Fill) -> Iterator[m.AnyMessage]:
        """Say what a booked fill shows to be wrong: money is booked first, and questioned then."""
        record = self.ledger.order(fill.client_id)
        assert record is not None
        self.counts["late_fills"] += record.has_late_fill
        if record.filled_lots > record.intent.qty_lots:
            detail = f"filled {record.filled_lots} lots of {record.intent.qty_lots}"
        elif record.has_late_fill and record.state in REFUSALS:
            detail = f"filled {fill.qty_lots} lots after it was {record.state}"
        else:
            return
        yield self._integrity(m.RiskState.HALTED, symbol_scope(fill.symbol), f"order {fill.client_id} {detail}")

    def _integrity(self, severity: m.RiskState, scope: str, detail: str) -> m.HealthReported:
        return m.HealthReported(
            ts_ns=self.now_ns,
            condition=m.Condition.INTEGRITY,
            is_well=False,
            severity=severity,
            scope=scope,
            detail=detail,
        )

    # --- reconciliation

    def _on_account(self, seen: m.AccountSeen) -> Iterator[m.AnyMessage]:
        """Hold the books against the exchange's, unless something of ours is under way after all."""
        if not self.ledger.is_quiet(seen.market):
            return
        differences = compare(self.ledger, seen)
        yield from self._conclude(m.AccountCompared(ts_ns=seen.ts_ns, market=seen.market, differences=differences))

    def _conclude(self, compared: m.AccountCompared) -> Iterator[m.AnyMessage]:
        self._write(compared)
        self.compared[compared.market] = compared
        yield compared
        every = [each for market in sorted(self.compared) for each in self.compared[market].differences]
        wrong = unexplained(self.ledger, every)
        strange = [each for each in every if is_foreign(self.ledger, each)]
        is_second = any(is_of_second_daemon(self.ledger, each) for each in strange)
        yield from self._report(m.Condition.RECONCILIATION, wrong, m.RiskState.REDUCE_ONLY)
        severity = m.RiskState.HALTED if is_second else m.RiskState.REDUCE_ONLY
        yield from self._report(m.Condition.FOREIGN_ORDER, strange, severity)

    def _report(
        self, condition: m.Condition, differences: list[m.Difference], severity: m.RiskState
    ) -> Iterator[m.HealthReported]:
        verdict = not differences, severity
        if self._verdicts.get(condition) == verdict:
            return
        self._verdicts[condition] = verdict
        lines = [f"{each.kind} {each.name}: {each.theirs} there, {each.ours} here" for each in differences]
        yield m.HealthReported(
            ts_ns=self.now_ns, condition=condition, is_well=not lines, severity=severity, detail="; ".join(lines[:3])
        )

    # --- what the operator may do to the books; the gate answers all else

    def _obey(self, command: m.OperatorCommand) -> Iterator[m.AnyMessage]:
        if command.verb not in BOOK_VERBS:
            return
        yield from (self._adopt(command) if command.verb == "adopt" else self._abandon(command))

    def _adopt(self, command: m.OperatorCommand) -> Iterator[m.AnyMessage]:
        """Take the exchange's word for cash, coins and positions, as they were compared last."""
        if not self.compared:
            yield self._answer(command, "the books were not compared in this session: nothing is adopted")
            return
        for compared in list(self.compared.values()):
            for flow in flows(self.ledger, compared, ts_ns=self.now_ns, who=command.who):
                self._write(flow)
                yield flow
            orders = tuple(each for each in compared.differences if each.kind == "order")
            if orders != compared.differences:
                yield from self._conclude(msgspec.structs.replace(compared, ts_ns=self.now_ns, differences=orders))
        yield self._answer(command)

    def _abandon(self, command: m.OperatorCommand) -> Iterator[m.AnyMessage]:
        """Give up an order, or the fills that one that ended still owes us."""
        record = self.ledger.order(command.subject)
        if record is None or (record.state.is_final and record.is_settled):
            yield self._answer(command, f"{command.subject or 'nothing'}: no living order has this client id")
            return
        given_up = m.OrderEvent(
            ts_ns=self.now_ns,
            client_id=command.subject,
            symbol=record.intent.symbol,
            order_id=record.order_id,
            state=OrderState.ABANDONED,
            filled_lots=record.filled_lots,
            reason=f"given up by {command.who or 'the operator'}",
        )
        self._write(given_up)
        if record.state.is_final:  # it stays what it was, and waits for nothing
            given_up = msgspec.structs.replace(given_up, state=record.state)
        yield given_up
        yield command  # nobody needs to look for it any more
        yield self._answer(command)

    def _answer(self, command: m.OperatorCommand, detail: str = "") -> m.OperatorAnswered:
        answer = m.OperatorAnswered(
            ts_ns=self.now_ns,
            verb=command.verb,
            command_id=command.command_id,
            state=self.ledger.risk_state,
            detail=detail,
        )
        self._write(answer)
        return answer

    # --- the books

    def _write(self, message: m.Journalled) -> m.FillBooked | bool:
        """Apply a fact and queue it for the journal, unless it is already known."""
        changed = self.ledger.apply(message)
        if changed:
            self._pending.append(message)
        return changed

    @property
    def equity_atoms(self) -> int | None:
        """Return cash, coins at their marks and the open profit of perpetuals; None while something has no mark."""
        total = self.ledger.cash_atoms
        for symbol, position in self.ledger.positions.items():
            if position.base_atoms:
                mark = self.marks.get(symbol)
                if mark is None:
                    return None
                instrument = self.ledger.instruments[symbol]
                total += instrument.value_atoms(position.base_atoms, mark)
                if instrument.is_perp:
                    total -= position.cost_atoms
        return total

    def _sample_equity(self) -> None:
        equity = self.equity_atoms
        last_ns = self.equity_history[-1][0] if self.equity_history else 0
        if equity is not None and self.now_ns - last_ns >= HISTORY_STEP_NS:
            self.equity_history.append((self.now_ns, equity))


def _words(message: m.Fill | m.FundingPaid) -> str:
    if isinstance(message, m.FundingPaid):
        return f"funding of {message.symbol} at {message.ts_ns}: {message.paid_atoms} atoms"
    price, lots, fee, _ = message.content
    return (
        f"trade {message.trade_id} of order {message.client_id} on {message.symbol}: "
        f"{lots} lots at {price} ticks, fee {fee} atoms {message.fee_currency}".rstrip()
    )
