"""Who has what at the simulated exchange, in whole atoms of every currency; money is moved here, never made.

The exchange itself has accounts too, which may go below zero: the `house` is the counterparty of the replayed market
and the source of every opening balance, `fees` takes the fees, `insurance` pays what a liquidation leaves open. So the
sum over all accounts of any currency is 0, always, to the last atom. Nothing here knows of orders or of the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from bot.core.instrument import ATOMS
from bot.exchange.simulated.generator import Chance

ENTRIES_KEPT: Final = 10_000
"""Newest ledger entries and transfers that an account remembers."""
FIRST_ACCOUNT_ID: Final = 10_001_000
IDS_A_MS: Final = 1_000
MS_NS: Final = 1_000_000
CREDIT_ADJUSTMENT: Final = 104
OTHER_ACTIVITY: Final = 199
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class AccountType(StrEnum):
    """The two sides of a client's account, in the exchange's words."""

    SPOT = "SPOT"
    FUTURES = "FUTURES"


@dataclass(slots=True)
class Wallet:
    """One currency of one side of an account. `hold_atoms` is frozen for orders, and not part of `available_atoms`."""

    available_atoms: int = 0
    hold_atoms: int = 0

    @property
    def total_atoms(self) -> int:
        """Return all that is there, frozen or not."""
        return self.available_atoms + self.hold_atoms


class Entry(NamedTuple):
    """A change that no trade made, for the list of activity."""

    entry_id: int
    account_type: AccountType
    currency: str
    atoms: int
    """Signed."""
    ts_ns: int
    activity_type: int
    description: str


class Transfer(NamedTuple):
    """Money moved between the two sides of an account."""

    transfer_id: int
    source: AccountType
    target: AccountType
    currency: str
    atoms: int
    ts_ns: int


@dataclass(slots=True, eq=False)
class Account:
    """A client of the exchange, or a part of the exchange itself."""

    number: int
    key: str
    secret: str = field(repr=False)
    is_system: bool = False
    """An account of the exchange, which has no bounds."""
    wallets: dict[tuple[AccountType, str], Wallet] = field(default_factory=dict[tuple[AccountType, str], Wallet])
    entries: deque[Entry] = field(default_factory=lambda: deque[Entry](maxlen=ENTRIES_KEPT))
    transfers: deque[Transfer] = field(default_factory=lambda: deque[Transfer](maxlen=ENTRIES_KEPT))

    @property
    def account_id(self) -> str:
        """Return the id that the exchange shows."""
        return str(FIRST_ACCOUNT_ID + self.number)

    def wallet(self, account_type: AccountType, currency: str) -> Wallet:
        """Return the wallet of a currency, an empty one if there was none."""
        return self.wallets.setdefault((account_type, currency), Wallet())

    def of_type(self, account_type: AccountType) -> Iterator[tuple[str, Wallet]]:
        """Yield (currency, wallet) of one side of the account."""
        for (kind, currency), wallet in self.wallets.items():
            if kind is account_type:
                yield currency, wallet


class Funding(NamedTuple):
    """An account to be opened, with what it begins with."""

    key: str
    secret: str
    spot: Mapping[str, int]
    """Currency to atoms."""
    futures: Mapping[str, int]


class Ids:
    """Numbers that grow with time, 16 digits today, and are never given twice."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, ts_ns: int) -> int:
        """Return the next number."""
        self._last = max(self._last + 1, ts_ns // MS_NS * IDS_A_MS)
        return self._last


class Accounts:
    """Every account, and the only way to move money between them."""

    def __init__(self, ids: Ids | None = None) -> None:
        self.ids = ids or Ids()
        self.house = Account(-1, "", "", is_system=True)
        self.fees = Account(-2, "", "", is_system=True)
        self.insurance = Account(-3, "", "", is_system=True)
        self.clients: list[Account] = []
        self._by_key: dict[str, Account] = {}
        self._touched: dict[AccountType, dict[tuple[Account, str], None]] = {kind: {} for kind in AccountType}

    def open(self, funding: Funding, ts_ns: int) -> Account:
        """Open an account and give it its first money, out of the house.

        Raises:
            ValueError: its key is taken.

        """
        if funding.key in self._by_key:
            raise ValueError(f"two accounts with the key {funding.key}")
        account = Account(len(self.clients) + 1, funding.key, funding.secret)
        self.clients.append(account)
        self._by_key[funding.key] = account
        for account_type, amounts in ((AccountType.SPOT, funding.spot), (AccountType.FUTURES, funding.futures)):
            for currency, atoms in amounts.items():
                self.pay(self.house, account, account_type, currency, atoms)
                entry_id = self.ids.next(ts_ns)
                text = "Opening balance"
                entry = Entry(entry_id, account_type, currency, atoms, ts_ns, CREDIT_ADJUSTMENT, text)
                account.entries.append(entry)
            self._touched[account_type].clear()  # nobody could have heard of it
        return account

    def by_key(self, key: str) -> Account | None:
        """Return the account of an API key."""
        return self._by_key.get(key)

    def everybody(self) -> Iterator[Account]:
        """Yield all accounts, those of the exchange first."""
        yield from (self.house, self.fees, self.insurance)
        yield from self.clients

    def totals(self) -> dict[str, int]:
        """Return the sum over all accounts by currency: every one of them is 0, or money was made or lost."""
        sums: dict[str, int] = {}
        for account in self.everybody():
            for (_, currency), wallet in account.wallets.items():
                sums[currency] = sums.get(currency, 0) + wallet.total_atoms
        return sums

    def freeze(self, account: Account, account_type: AccountType, currency: str, atoms: int) -> bool:
        """Freeze `atoms` for an order; return False, and change nothing, when less is available."""
        wallet = account.wallet(account_type, currency)
        if wallet.available_atoms < atoms:
            return False
        wallet.available_atoms -= atoms
        wallet.hold_atoms += atoms
        self._touch(account, account_type, currency)
        return True

    def release(self, account: Account, account_type: AccountType, currency: str, atoms: int) -> None:
        """Make `atoms` that were frozen available again."""
        wallet = account.wallet(account_type, currency)
        assert 0 <= atoms <= wallet.hold_atoms
        wallet.hold_atoms -= atoms
        wallet.available_atoms += atoms
        self._touch(account, account_type, currency)

    def pay(
        self,
        source: Account,
        target: Account,
        account_type: AccountType,
        currency: str,
        atoms: int,
        *,
        may_go_below: bool = False,
    ) -> None:
        """Move available money from one account to another. Only the exchange goes below zero, unless told."""
        paying, receiving = source.wallet(account_type, currency), target.wallet(account_type, currency)
        assert atoms >= 0
        assert source.is_system or may_go_below or paying.available_atoms >= atoms
        paying.available_atoms -= atoms
        receiving.available_atoms += atoms
        self._touch(source, account_type, currency)
        self._touch(target, account_type, currency)

    def transfer(
        self, account: Account, source: AccountType, target: AccountType, currency: str, atoms: int, ts_ns: int
    ) -> Transfer | None:
        """Move available money between the sides of an account; return None when there is too little."""
        paying = account.wallet(source, currency)
        if not 0 < atoms <= paying.available_atoms:
            return None
        paying.available_atoms -= atoms
        account.wallet(target, currency).available_atoms += atoms
        self._touch(account, source, currency)
        self._touch(account, target, currency)
        transfer = Transfer(self.ids.next(ts_ns), source, target, currency, atoms, ts_ns)
        account.transfers.append(transfer)
        for side, signed, text in (
            (source, -atoms, f"Transfer to {target}"),
            (target, atoms, f"Transfer from {source}"),
        ):
            account.entries.append(Entry(self.ids.next(ts_ns), side, currency, signed, ts_ns, OTHER_ACTIVITY, text))
        return transfer

    def take_touched(self, account_type: AccountType) -> list[tuple[Account, str]]:
        """Return the wallets of clients that changed since the last call, as (account, currency), each once."""
        touched = list(self._touched[account_type])
        self._touched[account_type].clear()
        return touched

    def _touch(self, account: Account, account_type: AccountType, currency: str) -> None:
        if not account.is_system:
            self._touched[account_type][account, currency] = None


DEMO_SPOT: Final[Mapping[str, int]] = {"USDT": 10_000 * ATOMS, "BTC": ATOMS}
DEMO_FUTURES: Final[Mapping[str, int]] = {"USDT": 10_000 * ATOMS}


def demo_accounts(seed: int, count: int = 2) -> Sequence[Funding]:
    """Return accounts to try the exchange with; their keys and secrets come from the seed."""
    chance = Chance(seed)
    return [
        Funding(
            key="-".join(_letters(chance, 8) for _ in range(4)),
            secret=_letters(chance, 64).lower(),
            spot=DEMO_SPOT,
            futures=DEMO_FUTURES,
        )
        for _ in range(count)
    ]


def _letters(chance: Chance, count: int) -> str:
    return "".join(_ALPHABET[chance.below(len(_ALPHABET))] for _ in range(count))
