"""The machine of the persistence actor: decides what is written, and says what may be said once it is.

`handle` returns what others may hear *after* the commit of what `take_pending` returns. The caller keeps that order:
nothing is sent that is not written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.ledger import Ledger
from bot.core.orders import OrderState

RECENT_FILLS: Final = 50
HISTORY_POINTS: Final = 240
HISTORY_STEP_NS: Final = m.SECOND_NS


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
        self.counts = {"orders": 0, "denied": 0, "fills": 0, "rejected": 0}
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
                if self._write(message):
                    self.counts["rejected"] += message.state is OrderState.REJECTED
                    return (message,)
            case m.Fill():
                booked = self._write(message)
                if isinstance(booked, m.FillBooked):
                    self.counts["fills"] += 1
                    self.fills.appendleft(booked)
                    return (booked,)
            case m.FundingPaid() | m.Liquidated():
                if self._write(message):
                    return (self._told(message),)
            case m.OperatorAnswered():
                self._write(message)
                return (message,)
            case m.OrderDenied():
                self.counts["denied"] += 1
                self._write(message)
            case m.SessionStarted():
                self._write(message)
                return (self.ledger.recovered(message.ts_ns),)
            case m.OperatorCommand():
                pass  # what concerns the books comes back from the gate
            case m.InstrumentListed() | m.RiskStateChanged() | m.EquityMarked() | m.SessionEnded():
                self._write(message)
            case _:
                raise AssertionError(f"not routed to persistence: {message!r}")
        return ()

    def _told(self, message: m.FundingPaid | m.Liquidated) -> m.FundingPaid | m.Liquidated:
        if isinstance(message, m.FundingPaid):
            return message
        return msgspec.structs.replace(message, cash_atoms=self.ledger.cash_atoms)

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
