"""Eighteen bugs, each a patch of one function: what a rewrite could do by mistake.

The first twelve are those of faults.md 3.6, the last six those of the issue. `tests/simulation/test_planted.py` shows
of each that it is caught, and by whom.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

import actors.trader
from actors.mailbox import Mailbox, Office
from actors.persistence import Commits
from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.book import Book
from bot.core.bookkeeper import Bookkeeper
from bot.core.instrument import Instrument, Side
from bot.core.ledger import Ledger, Position
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk.account import Account, Working
from bot.exchange.live.calls import Place
from bot.exchange.live.desk import LiveDesk
from bot.exchange.live.order import LiveOrder
from bot.exchange.poloniex import rest
from bot.exchange.poloniex.outcome import Outcome, RefusalKind, Refused, Search, Unknown
from bot.exchange.poloniex.private_state import Filled, Fresh, OrderChanged
from bot.exchange.poloniex.signing import Credentials, sign
from bot.storage.base import Journal
from bot.storage.replay import encode_fact

Patch = Callable[[pytest.MonkeyPatch], None]
Said = Iterator[m.AnyMessage]


@contextmanager
def planted(patch: Patch) -> Generator[None]:
    """Let a bug be there as long as the context lasts."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        yield


# --- the twelve of the spike


def retry_under_new_id(patch: pytest.MonkeyPatch) -> None:
    """Send an order again under another id, past the last question at the door."""
    honest, asked = LiveDesk.placed, LiveDesk.why_not

    def placed(desk: LiveDesk, client_id: str, outcome: Outcome[str], now_ns: int) -> Said:
        order = desk._orders.get(client_id)
        if order is not None and isinstance(outcome, Unknown) and not order.is_stop:
            again = msgspec.structs.replace(order.intent, client_id=f"r{client_id[1:]}")
            desk._calls.append(Place(again, is_protective=False))
        yield from honest(desk, client_id, outcome, now_ns)

    def why_not(desk: LiveDesk, client_id: str, now_ns: int) -> str:
        return "" if client_id.startswith("r") else asked(desk, client_id, now_ns)

    patch.setattr(LiveDesk, "placed", placed)
    patch.setattr(LiveDesk, "why_not", why_not)


def timeout_is_a_rejection(patch: pytest.MonkeyPatch) -> None:
    honest = LiveDesk.placed

    def placed(desk: LiveDesk, client_id: str, outcome: Outcome[str], now_ns: int) -> Said:
        if isinstance(outcome, Unknown):
            outcome = Refused(code=0, text=outcome.reason, kind=RefusalKind.ORDER)
        return honest(desk, client_id, outcome, now_ns)

    patch.setattr(LiveDesk, "placed", placed)


def no_fill_is_known(patch: pytest.MonkeyPatch) -> None:
    """Let every fill count, however often it is told: in the desk and in the ledger."""
    said, booked = LiveDesk._fill, Ledger._book

    def fill(desk: LiveDesk, order: LiveOrder, told: Filled) -> Said:
        order.fills.clear()
        return said(desk, order, told)

    def book(ledger: Ledger, told: m.Fill) -> m.FillBooked | bool:
        order = ledger._kept(told.client_id)
        if order is not None:
            order.fills.clear()
        return booked(ledger, told)

    patch.setattr(LiveDesk, "_fill", fill)
    patch.setattr(Ledger, "_book", book)


def fee_in_coins_is_ignored(patch: pytest.MonkeyPatch) -> None:
    honest = Position.book

    def book(
        position: Position,
        instrument: Instrument,
        side: Side,
        price_ticks: int,
        qty_lots: int,
        fee_atoms: int,
        fee_currency: str = "",
    ) -> tuple[int, int]:
        is_in_coins = (fee_currency or instrument.fee_coin(side)) == instrument.base
        paid = 0 if is_in_coins else fee_atoms
        return honest(position, instrument, side, price_ticks, qty_lots, paid, fee_currency)

    patch.setattr(Position, "book", book)


def an_end_can_be_left(patch: pytest.MonkeyPatch) -> None:
    """Let late news of an order that ended open it again: in the desk and in the ledger."""
    advanced = Ledger._advance

    def haunt(desk: LiveDesk, order: LiveOrder, report: OrderChanged) -> Said:
        yield desk._event(order, report.state)

    def advance(ledger: Ledger, event: m.OrderEvent) -> bool:
        order = ledger._kept(event.client_id)
        if order is not None and order.state.is_final and event.state is not order.state:
            order.state = event.state
            return True
        return advanced(ledger, event)

    patch.setattr(LiveDesk, "_haunt", haunt)
    patch.setattr(Ledger, "_advance", advance)


def what_is_in_flight_is_ignored(patch: pytest.MonkeyPatch) -> None:
    def in_flight(account: Account) -> tuple[dict[str, int], dict[str, int]]:
        del account
        return {}, {}

    patch.setattr(Account, "_in_flight", in_flight)


def no_window_and_no_fence(patch: pytest.MonkeyPatch) -> None:
    """Sign requests that stay good for a minute, and believe that none arrives late."""

    def sign_for_long(
        credentials: Credentials, method: str, path: str, query: str, body: bytes, now_ms: int, window_ms: int
    ) -> dict[str, str]:
        del window_ms
        return sign(credentials, method, path, query, body, now_ms, 60_000)

    patch.setattr(rest, "sign", sign_for_long)

    def no_fence_ms(signed_ms: int, recv_window_ms: int) -> int:
        del recv_window_ms
        return signed_ms

    patch.setattr(rest, "fence_ms", no_fence_ms)


def absence_is_believed_at_once(patch: pytest.MonkeyPatch) -> None:
    def not_found(search: Search, asked_ms: int) -> None:
        search._counted += 2
        search._last_ms = asked_ms

    patch.setattr(Search, "not_found", not_found)


def sent_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    async def run(
        mailbox: Mailbox,
        keeper: Bookkeeper,
        journal: Journal,
        office: Office,
        on_written: Callable[[m.AnyMessage], None],
        commits: Commits,
    ) -> None:
        del on_written, commits
        while True:
            for message in await mailbox.receive():
                for output in keeper.handle(message):
                    office.post(mailbox.owner, output)
            pending = keeper.take_pending()
            await journal.append([(fact.ts_ns, encode_fact(fact)) for fact in pending])

    patch.setattr(actors.trader, "run_persistence", run)


def nothing_is_asked_after_a_reconnect(patch: pytest.MonkeyPatch) -> None:
    def miss(desk: LiveDesk, fresh: Fresh) -> None:
        del desk, fresh

    def listed(desk: LiveDesk, *_: object) -> Said:
        del desk
        return iter(())

    patch.setattr(LiveDesk, "_miss", miss)
    patch.setattr(LiveDesk, "listed", listed)


def an_accepted_cancel_is_the_end(patch: pytest.MonkeyPatch) -> None:
    """Believe that an order is over when its cancel was taken, and that nothing of it is filled any more."""
    honest, said = LiveDesk.cancelled, LiveDesk._fill

    def cancelled(desk: LiveDesk, client_id: str, outcome: Refused | Unknown | None, now_ns: int) -> Said:
        yield from honest(desk, client_id, outcome, now_ns)
        order = desk._orders.get(client_id)
        if outcome is None and order is not None:
            yield from desk._finish(order, OrderState.CANCELED, "cancelled")

    def fill(desk: LiveDesk, order: LiveOrder, told: Filled) -> Said:
        return iter(()) if order.state.is_final else said(desk, order, told)

    patch.setattr(LiveDesk, "cancelled", cancelled)
    patch.setattr(LiveDesk, "_fill", fill)


def only_newer_trades_count(patch: pytest.MonkeyPatch) -> None:
    """Remember the highest trade id of a market, and take nothing below it."""
    said = LiveDesk._fill
    highest: dict[tuple[int, str], int] = {}

    def fill(desk: LiveDesk, order: LiveOrder, told: Filled) -> Said:
        mark, number = (id(desk), told.symbol), int(told.trade_id)
        if number < highest.get(mark, 0):
            return iter(())
        highest[mark] = number
        return said(desk, order, told)

    patch.setattr(LiveDesk, "_fill", fill)


# --- the six of the issue


def reservation_released_twice(patch: pytest.MonkeyPatch) -> None:
    """Count each fill twice against what is reserved for its order."""
    honest = Working.book

    def book(working: Working, fill: m.Fill, instrument: Instrument) -> None:
        honest(working, fill, instrument)
        honest(working, fill, instrument)

    patch.setattr(Working, "book", book)


def the_commit_is_skipped(patch: pytest.MonkeyPatch) -> None:
    honest = Bookkeeper.take_pending

    def take_pending(keeper: Bookkeeper) -> list[m.Journalled]:
        return [fact for fact in honest(keeper) if not isinstance(fact, m.OrderApproved)]

    patch.setattr(Bookkeeper, "take_pending", take_pending)


def a_gap_in_the_book_is_ignored(patch: pytest.MonkeyPatch) -> None:
    honest = Book.update

    def update(
        book: Book, last_id: int, book_id: int, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> Any:
        del last_id
        return honest(book, book._id if book._id is not None else -1, book_id, bids, asks)

    patch.setattr(Book, "update", update)


def a_restart_opens_the_breakers(patch: pytest.MonkeyPatch) -> None:
    honest = Ledger.recovered

    def recovered(ledger: Ledger, ts_ns: int) -> m.Recovered:
        return msgspec.structs.replace(honest(ledger, ts_ns), latches=(), risk_state=m.RiskState.NORMAL, risk_cause="")

    patch.setattr(Ledger, "recovered", recovered)


def an_approval_never_expires(patch: pytest.MonkeyPatch) -> None:
    honest = Approvals.take

    def take(approvals: Approvals, intent: OrderIntent, now_ns: int) -> str:
        issued = approvals._issued.get(intent.client_id)
        return honest(approvals, intent, now_ns if issued is None else min(now_ns, issued.until_ns))

    patch.setattr(Approvals, "take", take)


def contracts_are_taken_for_coins(patch: pytest.MonkeyPatch) -> None:
    """Read what the exchange says in contracts as if it were coins."""

    def lots(desk: LiveDesk, symbol: str, quantity: Decimal) -> int:
        return desk._instruments[symbol].qty_lots(f"{quantity:f}")

    patch.setattr(LiveDesk, "_lots", lots)


TWELVE: Final[tuple[Patch, ...]] = (
    retry_under_new_id,
    timeout_is_a_rejection,
    no_fill_is_known,
    fee_in_coins_is_ignored,
    an_end_can_be_left,
    what_is_in_flight_is_ignored,
    no_window_and_no_fence,
    absence_is_believed_at_once,
    sent_before_it_is_written,
    nothing_is_asked_after_a_reconnect,
    an_accepted_cancel_is_the_end,
    only_newer_trades_count,
)
SIX: Final[tuple[Patch, ...]] = (
    reservation_released_twice,
    the_commit_is_skipped,
    a_gap_in_the_book_is_ignored,
    a_restart_opens_the_breakers,
    an_approval_never_expires,
    contracts_are_taken_for_coins,
)
