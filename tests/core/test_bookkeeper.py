"""What is written, and what may be said once it is."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from bot.core import messages as m
from bot.core.bookkeeper import HISTORY_POINTS, RECENT_FILLS
from bot.core.instrument import ATOMS
from bot.core.messages import SECOND_NS
from bot.core.orders import OrderState
from tests.support.builders import (
    BTC,
    NOW_NS,
    approved,
    book_lost,
    bookkeeper,
    buy,
    depth,
    event,
    fill,
    funding,
    liquidated,
    listed,
    only,
    quote,
    say,
    sell,
    session,
    submit,
    tick,
)

INTENT = buy(10)


def mark_price(price: int) -> m.MarkPrice:
    return m.MarkPrice(ts_ns=NOW_NS, symbol=BTC, price_ticks=price)


def test_an_approved_order_is_written_before_it_is_submitted() -> None:
    keeper = bookkeeper()
    assert say(keeper, approved(INTENT)) == [submit(INTENT)]
    assert keeper.take_pending() == [approved(INTENT)]
    assert keeper.take_pending() == []


def test_an_approval_is_good_for_one_order() -> None:
    keeper = bookkeeper(approved(INTENT))
    assert say(keeper, approved(INTENT)) == []
    assert keeper.counts["orders"] == 1


def test_a_repeated_fact_is_neither_written_nor_said() -> None:
    keeper = bookkeeper(approved(INTENT), event(INTENT, OrderState.NEW), fill(INTENT, 4))
    keeper.take_pending()
    assert say(keeper, event(INTENT, OrderState.NEW), fill(INTENT, 4), listed()) == []
    assert keeper.take_pending() == []
    assert keeper.counts["fills"] == 1


def test_a_cancel_is_sent_only_for_an_order_that_lives() -> None:
    wish = m.CancelRequested(ts_ns=NOW_NS, client_id=INTENT.client_id, reason="")
    keeper = bookkeeper(approved(INTENT))
    assert say(keeper, wish) == [m.CancelOrder(ts_ns=NOW_NS, client_id=INTENT.client_id)]
    say(keeper, event(INTENT, OrderState.CANCELED))
    assert say(keeper, wish) == []


def test_a_session_begins_with_what_the_journal_says() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 4, 100))
    known = only(say(keeper, session(epoch=2)), m.Recovered)
    assert (known.epoch, known.cash_atoms) == (2, 9_600 * ATOMS)
    assert [record.leaves_lots for record in known.orders] == [6]


def test_refusals_are_counted_by_whose_they_are() -> None:
    denied = m.OrderDenied(
        ts_ns=NOW_NS, strategy="", symbol=BTC, side=INTENT.side, qty_lots=1, reason=m.DenyReason.HALTED, detail=""
    )
    keeper = bookkeeper(denied, approved(INTENT), event(INTENT, OrderState.REJECTED))
    assert keeper.counts == {"orders": 1, "denied": 1, "fills": 0, "rejected": 1}


def test_an_answer_is_written_and_said() -> None:
    answer = m.OperatorAnswered(ts_ns=NOW_NS, verb="halt", command_id="", state=m.RiskState.HALTED, detail="")
    keeper = bookkeeper()
    assert say(keeper, answer) == [answer]
    assert keeper.take_pending() == [answer]


def test_equity_is_cash_and_positions_at_the_middle_of_the_book() -> None:
    keeper = bookkeeper(approved(INTENT), fill(INTENT, 10, 100))
    assert keeper.equity_atoms is None
    say(keeper, quote(119, 121))
    assert keeper.equity_atoms == (9_000 + 1_200) * ATOMS


def test_a_perpetual_counts_with_its_open_profit() -> None:
    keeper = bookkeeper(listed(is_perp=True), approved(sell(10)), fill(sell(10), 10, 100))
    assert keeper.equity_atoms is None
    say(keeper, quote(119, 121))
    assert keeper.equity_atoms == (10_000 - 200) * ATOMS


def test_funding_and_liquidation_are_written_and_said_once() -> None:
    keeper = bookkeeper(listed(is_perp=True), approved(sell(10)), fill(sell(10), 10, 100))
    keeper.take_pending()
    paid, closed = funding(7), liquidated(10, 130, fee=3)
    said = say(keeper, paid, paid, closed, closed)
    assert said == [paid, msgspec.structs.replace(closed, cash_atoms=(10_000 - 7 - 300 - 3) * ATOMS)]
    assert keeper.take_pending() == [paid, closed]
    assert keeper.equity_atoms == (10_000 - 310) * ATOMS


def test_the_exchange_s_mark_counts_only_while_the_book_is_lost() -> None:
    keeper = bookkeeper(quote(119, 121), mark_price(50))
    assert keeper.marks[BTC] == 120
    say(keeper, book_lost(), mark_price(50))
    assert keeper.marks[BTC] == 50
    assert BTC not in keeper.quotes


def test_the_history_of_equity_has_at_most_one_point_a_second_and_an_end() -> None:
    keeper = bookkeeper()
    for step in range(4 * (HISTORY_POINTS + 10)):
        say(keeper, tick(NOW_NS + step * SECOND_NS // 4))
    times = [ts_ns for ts_ns, _ in keeper.equity_history]
    assert len(times) == HISTORY_POINTS
    assert {after - before for before, after in pairwise(times)} == {SECOND_NS}


def test_the_newest_fills_are_kept_for_screens() -> None:
    intent = buy(1_000)
    keeper = bookkeeper(approved(intent))
    for number in range(RECENT_FILLS + 5):
        say(keeper, fill(intent, 1, 1, trade_id=str(number)))
    assert len(keeper.fills) == RECENT_FILLS
    assert keeper.fills[0].fill.trade_id == str(RECENT_FILLS + 4)


def test_a_message_for_somebody_else_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="not routed"):
        say(bookkeeper(), depth())
