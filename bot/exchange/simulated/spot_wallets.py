"""The private spot calls about wallets and margin: no money leaves, and nobody borrows.

Source: the dossier's spot-rest.md, sections 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from bot.exchange.simulated.accounts import Account, AccountType
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.reference import currencies
from bot.exchange.simulated.replies import Shape, integer
from bot.exchange.simulated.spot_accounts import QUOTE
from bot.exchange.simulated.spot_calls import Call, Route, Routes, listed
from bot.exchange.simulated.spot_rows import atoms_text

MAX_LEVERAGE: Final = 1
_SPOT: Final = AccountType.SPOT

# --- wallets: money comes at the opening and never leaves


class _WalletActivity(Shape, frozen=True, kw_only=True):
    adjustments: tuple[str, ...] = ()
    deposits: tuple[str, ...] = ()
    withdrawals: tuple[str, ...] = ()


class _Address(Shape, frozen=True, kw_only=True):
    address: str


class _CurrencyField(msgspec.Struct, frozen=True, kw_only=True):
    currency: str = ""


class _WithdrawalFields(msgspec.Struct, frozen=True, kw_only=True):
    currency: str = ""
    coin: str = ""
    network: str = ""


def _addresses(call: Call) -> Mapping[str, str]:
    names = currencies(call.desk.venue)
    asked = listed(call.query.get("currency"))
    return {name: _address(call.account, _listed_currency(call, name)) for name in asked or names}


def _address(account: Account, currency: str) -> str:
    """Return the address of a currency, the same for ever."""
    return "sim" + sha256(f"{account.key} {currency}".encode()).hexdigest()[:37]


def _new_address(call: Call) -> _Address:
    return _Address(address=_address(call.account, _listed_currency(call, call.fields(_CurrencyField).currency)))


def _listed_currency(call: Call, name: str) -> str:
    if name.upper() not in currencies(call.desk.venue):
        raise refused(Code.NO_CURRENCY, name)
    return name.upper()


def _wallet_activity(call: Call) -> _WalletActivity:
    query = call.query
    # The only call that counts in seconds.
    start_s = integer(query, "start", 0, 0, 10**12, Code.BAD_START_TIME)
    if start_s > integer(query, "end", 10**12, 0, 10**12, Code.BAD_END_TIME):
        raise refused(Code.BAD_START_TIME, query["start"])
    return _WalletActivity()


def _withdraw(call: Call) -> object:
    currency = _listed_currency(call, call.fields(_WithdrawalFields).currency)
    raise refused(Code.CURRENCY_LOCKED, currency)


def _withdraw_v2(call: Call) -> object:
    fields = call.fields(_WithdrawalFields)
    if not fields.network:
        raise refused(Code.NO_NETWORK)
    coin = fields.coin.upper()
    if coin not in currencies(call.desk.venue) or fields.network.upper() != coin:  # each has its own chain alone
        raise refused(Code.NO_COIN, f"{fields.coin} {fields.network}")
    raise refused(Code.CURRENCY_LOCKED, fields.coin)


# --- margin: what is owned, since nothing is borrowed


class _AccountMargin(Shape, frozen=True, kw_only=True):
    total_account_value: str
    total_margin: str
    used_margin: str = "0"
    free_margin: str
    maintenance_margin: str = "0"
    margin_ratio: str = "0"
    time: int


class _BorrowRow(Shape, frozen=True, kw_only=True):
    currency: str
    available: str
    borrowed: str = "0"
    hold: str
    max_available: str
    hourly_borrow_rate: str = "0.00005"
    version: str = "1"


class _MaxSize(Shape, frozen=True, kw_only=True):
    symbol: str
    max_leverage: int = MAX_LEVERAGE
    available_buy: str
    max_available_buy: str
    available_sell: str
    max_available_sell: str


def _account_margin(call: Call) -> _AccountMargin:
    if call.query.get("accountType", "SPOT").upper() != "SPOT":
        raise refused(Code.BAD_ACCOUNT_TYPE, call.query["accountType"])
    value_of = _valuer(call)
    value = atoms_text(sum(value_of(name, wallet.total_atoms) for name, wallet in call.account.of_type(_SPOT)))
    return _AccountMargin(
        total_account_value=value, total_margin=value, free_margin=value, time=call.desk.venue.time_ms
    )


def _valuer(call: Call) -> Callable[[str, int], int]:
    """Return what says how much atoms of a currency are worth, at mark prices; 0 where no market tells."""
    markets = call.desk.venue.markets

    def value_of(currency: str, atoms: int) -> int:
        if currency == QUOTE:
            return atoms
        market = markets.get(f"{currency}_{QUOTE}")
        return market.instrument.value_atoms(atoms, market.mark_ticks) if market is not None else 0

    return value_of


def _borrow_status(call: Call) -> list[_BorrowRow]:
    asked = [_listed_currency(call, name) for name in listed(call.query.get("currency"))]
    names = asked or [currency for currency, _ in call.account.of_type(_SPOT)]
    wallets = [(name, call.account.wallet(_SPOT, name)) for name in names]
    return [
        _BorrowRow(
            currency=name,
            available=atoms_text(wallet.available_atoms),
            hold=atoms_text(wallet.hold_atoms),
            max_available=atoms_text(wallet.available_atoms),
        )
        for name, wallet in wallets
    ]


def _max_size(call: Call) -> _MaxSize:
    symbol = call.query.get("symbol", "").upper()
    market = call.desk.venue.markets.get(symbol)
    if market is None:
        raise refused(Code.BAD_SYMBOL, symbol)
    buy = atoms_text(call.account.wallet(_SPOT, market.instrument.quote).available_atoms)
    sell = atoms_text(call.account.wallet(_SPOT, market.instrument.base).available_atoms)
    return _MaxSize(
        symbol=symbol, available_buy=buy, max_available_buy=buy, available_sell=sell, max_available_sell=sell
    )


WALLET_ROUTES: Final[Routes] = {
    ("GET", "wallets/addresses"): Route(_addresses, is_heavy=True),
    ("POST", "wallets/address"): Route(_new_address, is_heavy=True),
    ("GET", "wallets/activity"): Route(_wallet_activity, is_heavy=True),
    ("POST", "wallets/withdraw"): Route(_withdraw, is_heavy=True),
    ("POST", "v2/wallets/withdraw"): Route(_withdraw_v2, is_heavy=True),
    ("GET", "margin/accountMargin"): Route(_account_margin),
    ("GET", "margin/borrowStatus"): Route(_borrow_status),
    ("GET", "margin/maxSize"): Route(_max_size),
}
