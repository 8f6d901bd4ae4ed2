"""Equity in flow form: the ledger's figure by another way, after any fills, payments and prices."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.equity import Equity
from bot.core.instrument import ATOMS, Side, fee_atoms
from bot.core.ledger import Ledger
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    approved,
    buy,
    fill,
    funding,
    instrument,
    liquidated,
    order,
    recovered,
    sell,
    session,
)

PERP, DEAR, COARSE = "BTC_USDT_PERP", "ETH_USDC", "XRP_USDT_PERP"
MARKETS: Final = {
    each.symbol: each
    for each in (
        instrument(BTC),
        instrument(ETH, price_scale=2, quantity_scale=3),
        instrument(DEAR, quote_fee_ppm=2_000, quantity_scale=2),
        instrument(PERP, is_perp=True, price_scale=8, quantity_scale=8),
        instrument(COARSE, is_perp=True),
    )
}


def equity(**known: int) -> Equity:
    """Return the equity of an account with 10,000 in cash that holds whole lots of some symbols."""
    made = Equity(MARKETS)
    made.recover(recovered(held={"one": known}))
    return made


def test_coins_count_at_their_price_and_not_before() -> None:
    made = equity(**{BTC: 10})
    assert made.equity_atoms is None
    made.mark(BTC, 120)
    assert made.equity_atoms == 11_200 * ATOMS
    made.mark(BTC, 90)
    assert made.equity_atoms == 10_900 * ATOMS


def test_what_is_not_held_needs_no_price() -> None:
    made = equity(**{BTC: 10})
    made.book(fill(sell(10), 10, 100))
    assert made.equity_atoms == 11_000 * ATOMS
    made.mark(BTC, 500)
    assert made.equity_atoms == 11_000 * ATOMS


def test_a_short_gains_as_the_price_falls() -> None:
    made = equity()
    made.book(fill(sell(10, symbol=COARSE), 10, 100, fee_atoms=ATOMS))
    for price, value in [(100, 9_999), (90, 10_099), (120, 9_799)]:
        made.mark(COARSE, price)
        assert made.equity_atoms == value * ATOMS
        assert made.values[COARSE] == -10 * price * ATOMS


def test_a_fee_is_taken_in_the_coin_that_the_market_takes_it_in() -> None:
    for symbol, coins in [(BTC, 9), (DEAR, 10)]:
        made = equity()
        lots = 10 * ATOMS // MARKETS[symbol].base_atoms_per_lot
        made.book(fill(buy(lots, symbol=symbol), lots, 100, fee_atoms=ATOMS))
        assert made.base_atoms[symbol] == coins * ATOMS
        assert made.flow_atoms == (9_000 if symbol == BTC else 8_999) * ATOMS


@pytest.mark.parametrize(("lots", "left"), [(10, 10_000 - 400 - 5), (-10, 10_000 + 400 - 5)])
def test_a_liquidation_leaves_its_loss_and_its_fee(lots: int, left: int) -> None:
    made = equity()
    made.book(fill((buy if lots > 0 else sell)(10, symbol=COARSE), 10, 100))
    made.pay(funding(0, symbol=COARSE))
    made.liquidate(liquidated(-lots, 60, fee=5, symbol=COARSE))
    assert (made.equity_atoms, made.base_atoms[COARSE]) == (left * ATOMS, 0)


trades = st.tuples(
    st.sampled_from(sorted(MARKETS)), st.sampled_from(["one", "two"]), st.sampled_from(Side), st.integers(1, 10**9),
    st.integers(1, 10**7), st.integers(0, 5_000)
)  # fmt: skip
steps = st.lists(
    st.one_of(
        trades,
        st.tuples(st.sampled_from(sorted(MARKETS)), st.integers(1, 10**7)),
        st.tuples(st.sampled_from([PERP, COARSE]), st.integers(-(10**20), 10**20), st.just("funding")),
        st.tuples(st.sampled_from([PERP, COARSE]), st.integers(1, 10**7), st.just("liquidation")),
    ),
    max_size=40,
)


class Books:
    """The bookkeeper's ledger, and an `Equity` that hears what it says; both valued at the same prices."""

    def __init__(self) -> None:
        self.keeper = Bookkeeper(Ledger())
        self.equity = Equity(MARKETS)
        self.now_ns = NOW_NS
        self.orders = 0
        self.hear(session(cash=10**6))
        for each in MARKETS.values():
            self.hear(m.InstrumentListed(ts_ns=NOW_NS, instrument=each))

    def hear(self, message: m.AnyMessage) -> None:
        for said in self.keeper.handle(message):
            match said:
                case m.FillBooked():
                    self.equity.book(said.fill)
                case m.FundingPaid():
                    self.equity.pay(said)
                case m.Liquidated():
                    self.equity.liquidate(said)
                    assert said.cash_atoms == self.keeper.ledger.cash_atoms
                case m.Recovered():
                    self.equity.recover(said)
                case _:
                    assert isinstance(said, m.SubmitOrder)

    def step(self, script: tuple[object, ...]) -> None:
        self.now_ns += 1
        match script:
            case (str(symbol), str(strategy), Side() as side, int(lots), int(price), int(ppm)):
                self.orders += 1
                market = MARKETS[symbol]
                held = self.keeper.ledger.holdings.get(strategy, {}).get(symbol, 0)
                if side is Side.SELL and not market.is_perp:
                    lots = min(lots, market.whole_lots(held))
                if lots == 0:
                    return
                intent = order(side, lots, price, symbol=symbol, strategy=strategy, number=self.orders)
                notional = market.notional_atoms(price, lots)
                is_coin = side is Side.BUY and not market.is_fee_in_quote
                fee = fee_atoms(lots * market.base_atoms_per_lot if is_coin else notional, ppm)
                self.hear(approved(intent))
                self.hear(fill(intent, lots, price, fee_atoms=fee, at_ns=self.now_ns))
            case (str(symbol), int(price)):
                self.mark(symbol, price)
            case (str(symbol), int(paid), "funding"):
                self.hear(m.FundingPaid(ts_ns=self.now_ns, symbol=symbol, rate_ppb=1, price_ticks=1, paid_atoms=paid))
            case (str(symbol), int(price), _):
                lots = self.equity.base_atoms.get(symbol, 0) // MARKETS[symbol].base_atoms_per_lot
                self.hear(liquidated(-lots, price, fee=1, symbol=symbol, at_ns=self.now_ns))
            case _:
                raise AssertionError(script)

    def mark(self, symbol: str, price: int) -> None:
        self.keeper.handle(m.MarkPrice(ts_ns=self.now_ns, symbol=symbol, price_ticks=price))
        self.equity.mark(symbol, price)


@given(steps)
def test_it_is_the_ledger_s_equity_to_the_atom(script: list[tuple[object, ...]]) -> None:
    books = Books()
    for step in script:
        books.step(step)
        assert books.equity.equity_atoms == books.keeper.equity_atoms
        ledger = books.keeper.ledger
        for symbol in MARKETS:
            held = sum(own.get(symbol, 0) for own in ledger.holdings.values())
            position = ledger.positions.get(symbol)
            assert (
                held == (position.base_atoms if position is not None else 0) == books.equity.base_atoms.get(symbol, 0)
            )
    for symbol in MARKETS:
        books.mark(symbol, 77)
    # Profit, realised and not, is all that equity ever gained, on spot and on perpetuals.
    gained = sum(
        position.realised_atoms + MARKETS[symbol].value_atoms(position.base_atoms, 77) - position.cost_atoms
        for symbol, position in books.keeper.ledger.positions.items()
    )
    assert books.equity.equity_atoms == books.keeper.equity_atoms == 10**6 * ATOMS + gained


@given(steps)
def test_a_restart_changes_nothing(script: list[tuple[object, ...]]) -> None:
    books = Books()
    for step in script:
        books.step(step)
    again = Equity(MARKETS)
    again.recover(books.keeper.ledger.recovered(0))
    for symbol in MARKETS:
        for each in (books.equity, again):
            each.mark(symbol, 12_345)
    assert (again.equity_atoms, again.flow_atoms) == (books.equity.equity_atoms, books.equity.flow_atoms)
