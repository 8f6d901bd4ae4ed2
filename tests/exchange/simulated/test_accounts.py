from __future__ import annotations

import pytest

from bot.core.instrument import ATOMS
from bot.exchange.simulated.accounts import Account, Accounts, AccountType, Funding, Ids, demo_accounts
from tests.exchange.simulated.builders import START_NS

SPOT, FUTURES = AccountType.SPOT, AccountType.FUTURES


def opened(spot_atoms: int = 100) -> tuple[Accounts, Account]:
    accounts = Accounts()
    return accounts, accounts.open(Funding("key", "secret", {"USDT": spot_atoms}, {"USDT": 7}), START_NS)


def test_opening_balances_come_out_of_the_house() -> None:
    accounts, account = opened()
    assert account.wallet(SPOT, "USDT").available_atoms == 100
    assert account.wallet(FUTURES, "USDT").available_atoms == 7
    assert accounts.house.wallet(SPOT, "USDT").available_atoms == -100
    assert accounts.totals() == {"USDT": 0}
    assert [(entry.atoms, entry.activity_type) for entry in account.entries] == [(100, 104), (7, 104)]


def test_an_account_is_found_by_its_key_which_is_its_own() -> None:
    accounts, account = opened()
    assert accounts.by_key("key") is account
    assert accounts.by_key("") is None
    with pytest.raises(ValueError, match="key"):
        accounts.open(Funding("key", "other", {}, {}), START_NS)


def test_frozen_money_is_not_available_and_comes_back() -> None:
    accounts, account = opened()
    wallet = account.wallet(SPOT, "USDT")
    assert accounts.freeze(account, SPOT, "USDT", 60)
    assert (wallet.available_atoms, wallet.hold_atoms) == (40, 60)
    accounts.release(account, SPOT, "USDT", 25)
    assert (wallet.available_atoms, wallet.hold_atoms) == (65, 35)


def test_more_than_is_available_cannot_be_frozen() -> None:
    accounts, account = opened()
    assert not accounts.freeze(account, SPOT, "USDT", 101)
    assert account.wallet(SPOT, "USDT").available_atoms == 100


def test_a_client_cannot_pay_what_it_has_not_but_may_be_told_to() -> None:
    accounts, account = opened()
    with pytest.raises(AssertionError):
        accounts.pay(account, accounts.fees, SPOT, "USDT", 101)
    accounts.pay(account, accounts.insurance, SPOT, "USDT", 101, may_go_below=True)
    assert account.wallet(SPOT, "USDT").available_atoms == -1
    assert accounts.totals() == {"USDT": 0}


def test_a_transfer_moves_money_between_the_sides_and_is_remembered() -> None:
    accounts, account = opened()
    transfer = accounts.transfer(account, SPOT, FUTURES, "USDT", 30, START_NS)
    assert transfer is not None
    assert (account.wallet(SPOT, "USDT").total_atoms, account.wallet(FUTURES, "USDT").total_atoms) == (70, 37)
    assert list(account.transfers) == [transfer]
    assert [entry.atoms for entry in account.entries][-2:] == [-30, 30]
    assert accounts.transfer(account, SPOT, FUTURES, "USDT", 71, START_NS) is None
    assert accounts.totals() == {"USDT": 0}


def test_touched_wallets_are_told_once_and_those_of_the_house_never() -> None:
    accounts, account = opened()
    assert accounts.take_touched(SPOT) == []
    accounts.freeze(account, SPOT, "USDT", 1)
    accounts.release(account, SPOT, "USDT", 1)
    assert accounts.take_touched(SPOT) == [(account, "USDT")]
    assert accounts.take_touched(SPOT) == []
    accounts.pay(account, accounts.fees, FUTURES, "USDT", 1)
    assert accounts.take_touched(FUTURES) == [(account, "USDT")]


def test_ids_grow_with_time_and_never_repeat() -> None:
    ids = Ids()
    first = [ids.next(START_NS) for _ in range(3)]
    assert first == [START_NS // 1_000, START_NS // 1_000 + 1, START_NS // 1_000 + 2]
    assert ids.next(START_NS - 10**9) == first[-1] + 1
    assert len(str(ids.next(START_NS + 10**9))) == 16


def test_demo_accounts_come_from_the_seed() -> None:
    first, second = demo_accounts(1)
    assert [first, second] == demo_accounts(1)
    assert first.key != second.key != demo_accounts(2)[1].key
    assert first.spot == {"USDT": 10_000 * ATOMS, "BTC": ATOMS}
    assert first.futures == {"USDT": 10_000 * ATOMS}
    assert "secret" not in repr(Account(1, "key", "secret"))
