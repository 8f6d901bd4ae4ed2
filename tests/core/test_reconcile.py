"""Our books against the exchange's: exact, with signs, each thing in a unit of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.ledger import Ledger
from bot.core.orders import OrderState, client_id
from bot.core.reconcile import compare, flows, is_foreign, is_of_second_daemon, unexplained
from tests.support.builders import BTC, ETH, NOW_NS, approved, buy, event, fill, liquidated, listed, sell, session

PERP = "BTC_USDT_PERP"


def books(*facts: m.Journalled) -> Ledger:
    """Return a ledger of 6,000 on spot and 4,000 on futures, whose perpetual has lots of 1/1000, and then `facts`."""
    made = Ledger()
    started = msgspec.structs.replace(session(), futures_cash_atoms=4_000 * ATOMS)
    for fact in (started, listed(), listed(ETH), listed(PERP, is_perp=True, quantity_scale=3), *facts):
        made.apply(fact)
    return made


def seen(
    market: m.Wallet = "spot",
    cash: int | None = None,
    *,
    positions: Mapping[str, int] | None = None,
    living: Mapping[str, int] | None = None,
    **coins: int,
) -> m.AccountSeen:
    """Return a wallet in whole units: with its first cash, unless told otherwise."""
    cash = (6_000 if market == "spot" else 4_000) if cash is None else cash
    return m.AccountSeen(
        ts_ns=NOW_NS,
        market=market,
        balances={coin: whole * ATOMS for coin, whole in {"USDT": cash, **coins}.items()},
        positions=dict(positions or {}),
        living=dict(living or {}),
    )


def differs(kind: Any, name: str, ours: int, theirs: int) -> m.Difference:
    return m.Difference(kind=kind, name=name, ours=ours, theirs=theirs)


BOUGHT = (approved(buy(10)), fill(buy(10), 10, 100), event(buy(10), OrderState.FILLED, 10))
SHORT = sell(5, symbol=PERP)
SOLD_SHORT = (approved(SHORT), fill(SHORT, 5, 1_000), event(SHORT, OrderState.FILLED, 5))
RESTING = (approved(buy(10, 50)), fill(buy(10, 50), 4, 50), event(buy(10, 50), OrderState.PARTIALLY_FILLED, 4))


@pytest.mark.parametrize(
    ("facts", "account"),
    [
        ((), seen()),
        ((), seen("futures")),
        ((), seen(TRX=0)),
        (BOUGHT, seen(cash=5_000, BTC=10)),
        (SOLD_SHORT, seen("futures", positions={PERP: -5})),
        (SOLD_SHORT, seen()),
        (RESTING, seen(cash=5_800, BTC=4, living={client_id(1, 1): 6})),
        (RESTING, seen("futures")),
    ],
)
def test_equal_books_have_no_difference(facts: tuple[m.Journalled, ...], account: m.AccountSeen) -> None:
    assert compare(books(*facts), account) == ()


@pytest.mark.parametrize(
    ("facts", "account", "difference"),
    [
        ((), seen(cash=6_001), differs("cash", "spot", 6_000 * ATOMS, 6_001 * ATOMS)),
        ((), seen("futures", 0), differs("cash", "futures", 4_000 * ATOMS, 0)),
        ((), seen(TRX=3), differs("coin", "TRX", 0, 3 * ATOMS)),
        (BOUGHT, seen(cash=5_000), differs("coin", "BTC", 10 * ATOMS, 0)),
        (BOUGHT, seen(cash=5_000, BTC=11), differs("coin", "BTC", 10 * ATOMS, 11 * ATOMS)),
        (SOLD_SHORT, seen("futures"), differs("position", PERP, -5, 0)),
        ((), seen("futures", positions={"X_USDT_PERP": 2}), differs("position", "X_USDT_PERP", 0, 2)),
        (RESTING, seen(cash=5_800, BTC=4), differs("order", client_id(1, 1), 6, 0)),
        (RESTING, seen(cash=5_800, BTC=4, living={client_id(1, 1): 5}), differs("order", client_id(1, 1), 6, 5)),
        ((), seen(living={"somebody": 2}), differs("order", "somebody", 0, 2)),
    ],
)
def test_each_thing_that_differs_is_named_with_both_its_values(
    facts: tuple[m.Journalled, ...], account: m.AccountSeen, difference: m.Difference
) -> None:
    assert compare(books(*facts), account) == (difference,)


def test_one_atom_is_a_difference() -> None:
    account = msgspec.structs.replace(seen(), balances={"USDT": 6_000 * ATOMS + 1})
    assert compare(books(), account) == (differs("cash", "spot", 6_000 * ATOMS, 6_000 * ATOMS + 1),)


def test_a_wallet_that_does_not_name_the_quote_currency_has_none_of_it() -> None:
    account = msgspec.structs.replace(seen(), balances={})
    assert compare(books(), account) == (differs("cash", "spot", 6_000 * ATOMS, 0),)


@pytest.mark.parametrize("held", [1, 2**53 + 1, 10**17 + 1])
def test_one_contract_is_a_difference_however_many_are_held(held: int) -> None:
    contracts = buy(held, symbol=PERP)
    facts = approved(contracts), fill(contracts, held, 1), event(contracts, OrderState.FILLED, held)
    book = books(listed(PERP, is_perp=True, quantity_scale=16), *facts)  # a contract is one atom
    assert compare(book, seen("futures", positions={PERP: held})) == ()
    assert compare(book, seen("futures", positions={PERP: held + 1})) == (differs("position", PERP, held, held + 1),)


def test_F66_contracts_are_compared_with_contracts_and_never_with_coins() -> None:
    book = books(*SOLD_SHORT)  # 5 contracts are 0.005 coins
    assert book.positions[PERP].base_atoms == -5 * ATOMS // 1_000
    assert compare(book, seen("futures", positions={PERP: -5})) == ()
    assert compare(book, seen(BTC=1))[0] == differs("coin", "BTC", 0, ATOMS)


def test_F68_a_short_is_not_a_long_of_the_same_size() -> None:
    assert compare(books(*SOLD_SHORT), seen("futures", positions={PERP: 5})) == (differs("position", PERP, -5, 5),)


def test_F72_a_liquidation_that_was_not_seen_is_a_difference_of_position_and_cash() -> None:
    book = books(*SOLD_SHORT)
    account = seen("futures", 3_990)
    assert [each.kind for each in compare(book, account)] == ["cash", "position"]
    book.apply(liquidated(5, 3_000, symbol=PERP))
    assert compare(book, account) == ()


def test_coins_of_all_strategies_and_of_nobody_are_one_balance() -> None:
    other = buy(3, number=2, strategy="two")
    came = m.ExternalFlow(ts_ns=NOW_NS, wallet="spot", currency="BTC", atoms=2 * ATOMS, reason="")
    book = books(*BOUGHT, approved(other), fill(other, 3, 100), event(other, OrderState.FILLED, 3), came)
    assert compare(book, seen(cash=4_700, BTC=15)) == ()


def test_F75_a_profit_that_the_exchange_does_not_have_is_seen_in_cash() -> None:
    back = buy(5, number=2, symbol=PERP)
    wrong = books(*SOLD_SHORT, approved(back), fill(back, 5, 900), event(back, OrderState.FILLED, 5))
    assert compare(wrong, seen("futures", 4_000)) == (
        differs("cash", "futures", 4_000 * ATOMS + 5 * 100 * ATOMS // 1_000, 4_000 * ATOMS),
    )


# --- whose order it is


def test_F25_an_order_that_was_never_approved_here_is_foreign() -> None:
    book = books(*RESTING)
    ours, second = differs("order", client_id(1, 1), 6, 0), differs("order", client_id(1, 2), 0, 5)
    by_hand, coin = differs("order", "77", 0, 5), differs("coin", "77", 0, 5)
    assert [is_foreign(book, each) for each in (ours, second, by_hand, coin)] == [False, True, True, False]
    assert [is_of_second_daemon(book, each) for each in (ours, second, by_hand, coin)] == [False, True, False, False]
    assert unexplained(book, (ours, second, by_hand, coin)) == [ours, coin]


def test_an_order_that_we_believe_to_be_over_is_ours_and_unexplained() -> None:
    book = books(*BOUGHT)
    (living,) = compare(book, seen(cash=5_000, BTC=10, living={client_id(1, 1): 3}))
    assert unexplained(book, (living,)) == [living]


def test_an_id_of_session_0_is_not_of_our_making() -> None:
    assert not is_of_second_daemon(books(), differs("order", "b" + "a" * 11, 0, 1))


# --- taking the exchange's word

amounts = st.integers(0, 9_000)


@given(
    st.lists(st.tuples(st.sampled_from([BTC, ETH, PERP]), st.sampled_from(Side), st.integers(1, 9)), max_size=8),
    st.dictionaries(st.sampled_from(["USDT", "BTC", "ETH", "TRX"]), amounts),
    st.dictionaries(st.sampled_from(["USDT", "BTC"]), amounts),
    st.dictionaries(st.sampled_from([PERP, "X_USDT_PERP"]), st.integers(-9, 9)),
)
def test_after_adoption_nothing_but_orders_differs_and_strategies_hold_what_they_held(
    trades: list[tuple[str, Side, int]], spot: dict[str, int], futures: dict[str, int], positions: dict[str, int]
) -> None:
    book = books()
    for number, (symbol, side, lots) in enumerate(trades, start=1):
        make = buy if side is Side.BUY else sell
        intent = make(lots, number=number, symbol=symbol)
        for fact in (approved(intent), fill(intent, lots, 100), event(intent, OrderState.FILLED, lots)):
            book.apply(fact)
    held = book.recovered(0).holdings
    accounts = (
        m.AccountSeen(ts_ns=NOW_NS, market="spot", balances=spot, positions={}, living={"somebody": 1}),
        m.AccountSeen(ts_ns=NOW_NS, market="futures", balances=futures, positions=positions, living={}),
    )
    for account in accounts:
        told = m.AccountCompared(ts_ns=NOW_NS, market=account.market, differences=compare(book, account))
        for flow in flows(book, told, ts_ns=NOW_NS, who="ann"):
            book.apply(flow)
    assert [compare(book, account) for account in accounts] == [(differs("order", "somebody", 0, 1),), ()]
    assert book.recovered(0).holdings == held
