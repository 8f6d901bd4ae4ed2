"""Funding and liquidations, out of bills."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side, side_of
from bot.core.ledger import Position
from bot.exchange.live.payments import OVERLAP_MS, Payments, liquidated, since_ms
from bot.exchange.poloniex import futures_wire as fw
from tests.exchange.live.desks import NOW_MS, PERP, recovered
from tests.support.builders import NOW_NS, instrument

CONTRACT = instrument(PERP, is_perp=True, quantity_scale=3, price_scale=1)
LISTED = {PERP: CONTRACT}


def bill(amount: str, number: int = 1, *, symbol: str = PERP, at_ms: int = NOW_MS) -> fw.BillRow:
    return fw.BillRow(
        id=str(number),
        symbol=symbol,
        currency="USDT",
        amount=Decimal(amount),
        created_ms=at_ms,
        bill_type="FUNDING_FEE",
    )


def test_F71_funding_is_said_once_with_the_sign_of_a_payment() -> None:
    payments = Payments()
    payments.hear(m.FundingRate(ts_ns=NOW_NS, symbol=PERP, rate_ppb=7, due_ns=NOW_NS))
    payments.hear(m.MarkPrice(ts_ns=NOW_NS, symbol=PERP, price_ticks=500))
    (paid,) = payments.funding([bill("-1.25")], LISTED)
    assert (paid.ts_ns, paid.paid_atoms, paid.rate_ppb, paid.price_ticks) == (NOW_NS, 5 * ATOMS // 4, 7, 500)
    assert list(payments.funding([bill("-1.25")], LISTED)) == []
    (received,) = payments.funding([bill("2", 2)], LISTED)
    assert received.paid_atoms == -2 * ATOMS


def test_funding_of_a_market_that_is_not_listed_yet_waits_for_it() -> None:
    payments = Payments()
    assert list(payments.funding([bill("-1")], {})) == []
    assert len(list(payments.funding([bill("-1")], LISTED))) == 1


def test_payments_from_before_the_first_session_are_not_ours() -> None:
    assert since_ms(recovered(epoch=1)) == NOW_MS


def test_payments_of_the_outage_between_two_sessions_are_looked_for() -> None:
    marked = m.EquityMarked(ts_ns=NOW_NS - 3_600 * m.SECOND_NS, equity_atoms=0, peak_atoms=0, day=0, day_start_atoms=0)
    again = msgspec.structs.replace(recovered(epoch=2), equity=marked)
    assert since_ms(again) == NOW_MS - 3_600_000 - OVERLAP_MS


@pytest.mark.parametrize(
    ("side", "ended", "losses"), [(Side.BUY, "90", ["-10", "-3.5"]), (Side.SELL, "110.5", ["-10.5", "-1"])]
)
def test_F72_a_liquidation_costs_what_its_bills_say(side: Side, ended: str, losses: list[str]) -> None:
    row = fw.PositionHistoryRow(
        side_text=side.value,
        symbol=PERP,
        position_side="BOTH",
        margin_mode="CROSS",
        open_price_text="100",
        close_price_text=ended,
        closed_contracts=fw.Contracts(1_000),
        realised_pnl=Decimal(0),
        created_ms=NOW_MS,
        updated_ms=NOW_MS,
    )
    bills = [bill(each, number) for number, each in enumerate(losses)]
    payments = Payments()
    ((symbol, at_ms), found) = next(iter(payments.losses(bills, LISTED).items()))
    assert found == bills
    said = liquidated(row, found, CONTRACT, at_ms)
    held = Position()
    held.book(CONTRACT, side, CONTRACT.price_ticks("100"), 1_000, 0)
    closing = side_of(said.signed_lots)
    cash, _ = held.book(CONTRACT, closing, said.price_ticks, abs(said.signed_lots), said.fee_atoms)
    assert symbol == PERP
    assert said.signed_lots == -side.sign * 1_000
    assert cash == int(sum(map(Decimal, losses)) * ATOMS)
    assert held.base_atoms == 0


def test_a_liquidation_is_news_until_it_was_said() -> None:
    payments = Payments()
    assert payments.losses([bill("-1")], LISTED)
    assert payments.losses([bill("-1")], LISTED)
    payments.note([bill("-1")])
    assert not payments.losses([bill("-1")], LISTED)
