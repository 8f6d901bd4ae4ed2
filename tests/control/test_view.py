"""What a screen is told: signed quantities, and each sum in its own currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.control.report import status_text
from bot.control.view import FeedStatus, make_view, note_of
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.instrument import ATOMS
from bot.core.orders import OrderIntent
from tests.support.builders import (
    NOW_NS,
    approved,
    bookkeeper,
    buy,
    fill,
    funding,
    liquidated,
    listed,
    quote,
    say,
    sell,
)


def short(*after: m.AnyMessage) -> Bookkeeper:
    """Return a bookkeeper of an account that sold ten lots of a perpetual at 100, and paid 1 for it."""
    opened = sell(10)
    return bookkeeper(
        listed(is_perp=True), approved(opened), fill(opened, 10, 100, fee_atoms=ATOMS), quote(89, 91), *after
    )


def test_a_short_is_shown_with_its_sign_and_gains_as_the_price_falls() -> None:
    view = make_view(short(), FeedStatus(), 0, NOW_NS, None)
    (row,) = view.positions
    assert (row.quantity, row.entry_price, row.value) == (Decimal(-10), Decimal(100), Decimal(-900))
    assert (row.unrealised_pnl, row.realised_pnl) == (Decimal(100), Decimal(-1))
    assert (view.cash, view.equity) == (Decimal(9_999), Decimal(10_099))


@pytest.mark.parametrize(
    ("steps", "intent", "currency"),
    [
        ({}, buy(1), "BTC"),
        ({}, sell(1), "USDT"),
        ({"quote_fee_ppm": 1}, buy(1), "USDT"),
        ({"is_perp": True}, buy(1), "USDT"),
    ],
)
def test_a_fee_is_shown_in_its_currency(steps: dict[str, Any], intent: OrderIntent, currency: str) -> None:
    keeper = bookkeeper(listed(**steps), approved(intent), fill(intent, 1, fee_atoms=1))
    (row,) = make_view(keeper, FeedStatus(), 0, NOW_NS, None).fills
    assert row.fee_currency == currency


def test_a_stop_is_shown_with_its_trigger() -> None:
    stop = buy(10, order_type="STOP", time_in_force="GTC", trigger_ticks=120, role="stop", number=2)
    _, row = make_view(short(approved(stop)), FeedStatus(), 0, NOW_NS, None).orders
    assert (row.order_type, row.price) == ("STOP", Decimal(120))


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (funding(7), "funding paid: 7 USDT on BTC_USDT"),
        (funding(-7), "funding received: 7 USDT on BTC_USDT"),
        (liquidated(10, 130), "liquidated: bought back 10 BTC_USDT at 130"),
        (liquidated(-10, 70), "liquidated: sold 10 BTC_USDT at 70"),
    ],
)
def test_what_the_exchange_did_to_a_position_is_noted(fact: m.AnyMessage, text: str) -> None:
    keeper = short()
    say(keeper, fact)
    note = note_of(keeper, fact)
    assert note is not None
    assert note.text == text


def test_every_closed_latch_is_shown_with_its_name_and_reason() -> None:
    change = m.RiskStateChanged(ts_ns=NOW_NS, state=m.RiskState.HALTED, cause="integrity", detail="doubled")
    scoped = msgspec.structs.replace(
        change, state=m.RiskState.REDUCE_ONLY, cause="losing_streak", scope="strategy:one", detail="6 in a row"
    )
    keeper = bookkeeper(change, scoped)
    view = make_view(keeper, FeedStatus(), 0, NOW_NS, None)
    assert [(row.name, row.scope, row.state, row.detail) for row in view.latches] == [
        ("integrity", "", m.RiskState.HALTED, "doubled"),
        ("losing_streak@strategy:one", "strategy:one", m.RiskState.REDUCE_ONLY, "6 in a row"),
    ]
    assert "latch     REDUCE_ONLY by losing_streak@strategy:one since 2023-11-14" in status_text(view)
    opened = msgspec.structs.replace(scoped, state=m.RiskState.NORMAL, detail="re-armed", who="ada")
    notes = [note_of(keeper, fact) for fact in (change, scoped, opened)]
    assert [(note.level, note.text) for note in notes if note] == [
        ("error", "risk is HALTED by integrity: doubled"),
        ("error", "risk is REDUCE_ONLY by losing_streak@strategy:one: 6 in a row"),
        ("info", "losing_streak@strategy:one is open again by ada: re-armed"),
    ]
