"""The private spot calls about accounts, their activity, transfers and subaccounts.

Source: the dossier's spot-rest.md, sections 5 and 6. There is no subaccount beside the primary one, so that its
transfers are those between its two sides; and nobody pays interest: that list is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from bot.core.instrument import ATOM_SCALE
from bot.exchange.simulated.accounts import (
    Account,
    AccountType,
    Entry,
    Transfer,
)
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.reference import currencies, currency_id
from bot.exchange.simulated.replies import Query, Shape, integer
from bot.exchange.simulated.spot_calls import DAY_MS, Call, Route, Routes, Span, order_id, page, span
from bot.exchange.simulated.spot_orders import number, plain_text
from bot.exchange.simulated.spot_rows import atoms_text
from bot.exchange.simulated.venue import MS_NS, plain

PPM_SCALE: Final = 6
QUOTE: Final = "USDT"
"""What accounts are valued in, and the only currency of futures."""
ACTIVITY_ALL: Final = 200
LISTS_DAYS: Final = 180
INTEREST_DAYS: Final = 90
_SPOT, _FUTURES = AccountType.SPOT, AccountType.FUTURES
_TYPES: Final = frozenset(kind.value for kind in AccountType)


# --- balances


class _AccountRow(Shape, frozen=True, kw_only=True):
    account_id: str
    account_type: str = "SPOT"
    account_state: str = "NORMAL"


class _BalanceRow(Shape, frozen=True, kw_only=True):
    currency_id: str
    currency: str
    available: str
    hold: str


class _Balances(Shape, frozen=True, kw_only=True):
    account_id: str
    account_type: AccountType
    balances: list[_BalanceRow]


def _accounts(call: Call) -> list[_AccountRow]:
    return [_AccountRow(account_id=call.account.account_id)]


def _balances(call: Call) -> list[_Balances]:
    asked = call.query.get("accountType", _SPOT).upper()
    if asked not in _TYPES:
        raise refused(Code.BAD_ACCOUNT_TYPE, asked)
    return [_balances_of(call.account, AccountType(asked))]


def _balances_by_id(call: Call) -> list[_Balances]:
    _check_own(call)
    return [_balances_of(call.account, _SPOT)]


def _check_own(call: Call) -> None:
    if call.arg != call.account.account_id:
        raise refused(Code.NO_ACCOUNT, call.arg)


def _balances_of(account: Account, account_type: AccountType) -> _Balances:
    rows = [
        _BalanceRow(
            currency_id=str(currency_id(currency)),
            currency=currency,
            available=atoms_text(wallet.available_atoms),
            hold=atoms_text(wallet.hold_atoms),
        )
        for currency, wallet in account.of_type(account_type)
    ]
    return _Balances(account_id=account.account_id, account_type=account_type, balances=rows)


# --- activity, fees, interest


class _ActivityRow(Shape, frozen=True, kw_only=True):
    id: str
    currency: str
    amount: str
    state: str = "SUCCESS"
    create_time: int
    description: str
    activity_type: int


class _Fees(Shape, frozen=True, kw_only=True):
    trx_discount: bool = False
    maker_rate: str
    taker_rate: str
    volume30_d: str = msgspec.field(name="volume30D")
    special_fee_rates: tuple[str, ...] = ()


def _activity(call: Call) -> list[_ActivityRow]:
    query = call.query
    times = span(query, call.desk.venue.time_ms, LISTS_DAYS)
    kind = integer(query, "activityType", ACTIVITY_ALL, 0, 10_000, Code.INVALID_PARAMETER)
    currency = query.get("currency", "").upper()

    def is_asked(entry: Entry) -> bool:
        return (
            entry.account_type is _SPOT
            and times.holds(entry.ts_ns)
            and kind in (ACTIVITY_ALL, entry.activity_type)
            and (not currency or entry.currency == currency)
        )

    newest_first = filter(is_asked, reversed(call.account.entries))
    return [
        _ActivityRow(
            id=str(entry.entry_id),
            currency=entry.currency,
            amount=atoms_text(entry.atoms),
            create_time=entry.ts_ns // MS_NS,
            description=entry.description,
            activity_type=entry.activity_type,
        )
        for entry in page(query, newest_first, lambda entry: entry.entry_id, 100, 1_000)
    ]


def _fees(call: Call) -> _Fees:
    since_ns = call.desk.now_ns - 30 * DAY_MS * MS_NS
    volume_atoms = 0
    for execution in reversed(call.desk.folder(call.account).executions):
        if execution.ts_ns < since_ns:
            break
        instrument = call.desk.instrument(execution.order.symbol)
        if instrument.quote == QUOTE:
            volume_atoms += instrument.notional_atoms(execution.price_ticks, execution.qty_lots)
    return _Fees(
        maker_rate=plain(call.desk.terms.maker_fee_ppm, PPM_SCALE),
        taker_rate=plain(call.desk.terms.taker_fee_ppm, PPM_SCALE),
        volume30_d=atoms_text(volume_atoms),
    )


def _interest(call: Call) -> list[str]:
    query = call.query
    span(query, call.desk.venue.time_ms, INTEREST_DAYS)
    empty: list[str] = []
    return page(query, empty, len, 10, 100)


# --- transfers


class _TransferFields(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    currency: str = ""
    amount: msgspec.Raw = msgspec.Raw()
    from_account: str = ""
    to_account: str = ""


class _TransferId(Shape, frozen=True, kw_only=True):
    transfer_id: str


class _TransferRow(Shape, frozen=True, kw_only=True):
    id: str
    from_account: str
    to_account: str
    currency: str
    amount: str
    state: str = "SUCCESS"
    create_time: int


def _transfer(call: Call) -> _TransferId:
    return _moved(call, call.fields(_TransferFields))


def _moved(call: Call, fields: _TransferFields) -> _TransferId:
    source, target = fields.from_account.upper(), fields.to_account.upper()
    if source not in _TYPES:
        raise refused(Code.TRANSFER_FROM, source)
    if target not in _TYPES:
        raise refused(Code.TRANSFER_TO, target)
    if source == target:
        raise refused(Code.TRANSFER_UNSUPPORTED, f"{source} to {target}")
    currency = fields.currency.upper()
    if currency not in currencies(call.desk.venue) and (AccountType(source), currency) not in call.account.wallets:
        raise refused(Code.TRANSFER_CURRENCY, currency)
    if currency != QUOTE:
        raise refused(Code.TRANSFER_UNSUPPORTED, f"{currency} to {target}")
    text = plain_text(fields.amount)
    atoms = number(text, "amount", ATOM_SCALE, Code.TRANSFER_AMOUNT, Code.TRANSFER_AMOUNT)
    transfer = call.desk.transfer(call.account, AccountType(source), AccountType(target), currency, atoms)
    return _TransferId(transfer_id=str(transfer.transfer_id))


def _transfers(call: Call) -> list[_TransferRow]:
    query = call.query
    newest_first = _asked_transfers(call.account, query, span(query, call.desk.venue.time_ms, LISTS_DAYS))
    return [_transfer_row(each) for each in page(query, newest_first, lambda each: each.transfer_id, 10, 100)]


def _asked_transfers(account: Account, query: Query, times: Span) -> Iterator[Transfer]:
    """Yield the transfers of a time and a currency, newest first."""
    currency = query.get("currency", "").upper()
    for transfer in reversed(account.transfers):
        if times.holds(transfer.ts_ns) and currency in ("", transfer.currency):
            yield transfer


def _transfer_by_id(call: Call) -> _TransferRow:
    return _transfer_row(_own_transfer(call))


def _own_transfer(call: Call) -> Transfer:
    asked = order_id(call.arg)
    for transfer in call.account.transfers:
        if transfer.transfer_id == asked:
            return transfer
    raise refused(Code.INVALID_PARAMETER, f"no transfer {call.arg}")


def _transfer_row(transfer: Transfer) -> _TransferRow:
    return _TransferRow(
        id=str(transfer.transfer_id),
        from_account=transfer.source,
        to_account=transfer.target,
        currency=transfer.currency,
        amount=atoms_text(transfer.atoms),
        create_time=transfer.ts_ns // MS_NS,
    )


# --- subaccounts: the primary account alone


class _SubaccountRow(Shape, frozen=True, kw_only=True):
    account_id: str
    account_name: str
    account_state: str = "NORMAL"
    is_primary: str = "true"


class _SubaccountSpotRow(Shape, frozen=True, kw_only=True):
    currency: str
    available: str
    hold: str
    max_available: str


class _SubaccountFuturesRow(Shape, frozen=True, kw_only=True):
    currency: str
    account_equity: str
    unrealised_pnl: str = msgspec.field(name="unrealisedPNL", default="0")
    margin_balance: str
    position_margin: str = "0"
    order_margin: str
    frozen_funds: str
    available_balance: str
    pnl: str = "0"


class _SubaccountBalances(Shape, frozen=True, kw_only=True):
    account_id: str
    account_name: str
    account_type: AccountType
    is_primary: str = "true"
    balances: list[_SubaccountSpotRow] | list[_SubaccountFuturesRow]


class _SubaccountTransferFields(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    currency: str = ""
    amount: msgspec.Raw = msgspec.Raw()
    from_account_id: str | int = ""
    from_account_type: str = ""
    to_account_id: str | int = ""
    to_account_type: str = ""


class _SubaccountTransferRow(Shape, frozen=True, kw_only=True):
    id: str
    from_account_id: str
    from_account_name: str
    from_account_type: str
    to_account_id: str
    to_account_name: str
    to_account_type: str
    currency: str
    amount: str
    state: str = "SUCCESS"
    create_time: int


def _name(account: Account) -> str:
    return f"account-{account.number}"


def _subaccounts(call: Call) -> list[_SubaccountRow]:
    return [_SubaccountRow(account_id=call.account.account_id, account_name=_name(call.account))]


def _subaccount_balances(call: Call) -> list[_SubaccountBalances]:
    account = call.account
    spot = [
        _SubaccountSpotRow(
            currency=currency,
            available=atoms_text(wallet.available_atoms),
            hold=atoms_text(wallet.hold_atoms),
            max_available=atoms_text(wallet.available_atoms),
        )
        for currency, wallet in account.of_type(_SPOT)
    ]
    futures = [
        _SubaccountFuturesRow(
            currency=currency,
            account_equity=atoms_text(wallet.total_atoms),
            margin_balance=atoms_text(wallet.total_atoms),
            order_margin=atoms_text(wallet.hold_atoms),
            frozen_funds=atoms_text(wallet.hold_atoms),
            available_balance=atoms_text(wallet.available_atoms),
        )
        for currency, wallet in account.of_type(_FUTURES)
    ]
    return [
        _SubaccountBalances(
            account_id=account.account_id, account_name=_name(account), account_type=account_type, balances=rows
        )
        for account_type, rows in ((_SPOT, spot), (_FUTURES, futures))
    ]


def _subaccount_balances_by_id(call: Call) -> list[_SubaccountBalances]:
    _check_own(call)
    return _subaccount_balances(call)


def _subaccount_transfer(call: Call) -> _TransferId:
    fields = call.fields(_SubaccountTransferFields)
    for account_id, code in ((fields.from_account_id, Code.TRANSFER_FROM), (fields.to_account_id, Code.TRANSFER_TO)):
        if str(account_id) != call.account.account_id:
            raise refused(code, str(account_id))
    moved = _TransferFields(
        currency=fields.currency,
        amount=fields.amount,
        from_account=fields.from_account_type,
        to_account=fields.to_account_type,
    )
    return _moved(call, moved)


def _subaccount_transfers(call: Call) -> list[_SubaccountTransferRow]:
    """Return the transfers between the two sides of the primary account: there are no others."""
    query = call.query
    rows = [
        _subaccount_transfer_row(call.account, each)
        for each in _asked_transfers(call.account, query, span(query, call.desk.venue.time_ms, LISTS_DAYS))
    ]
    names = ("fromAccountId", "fromAccountType", "toAccountId", "toAccountType")
    asked = {name: query[name].upper() for name in names if name in query}
    wanted = [row for row in rows if asked.items() <= msgspec.to_builtins(row).items()]
    return page(query, wanted, lambda row: int(row.id), 100, 1_000)


def _subaccount_transfer_by_id(call: Call) -> _SubaccountTransferRow:
    return _subaccount_transfer_row(call.account, _own_transfer(call))


def _subaccount_transfer_row(account: Account, transfer: Transfer) -> _SubaccountTransferRow:
    return _SubaccountTransferRow(
        id=str(transfer.transfer_id),
        from_account_id=account.account_id,
        from_account_name=_name(account),
        from_account_type=transfer.source,
        to_account_id=account.account_id,
        to_account_name=_name(account),
        to_account_type=transfer.target,
        currency=transfer.currency,
        amount=atoms_text(transfer.atoms),
        create_time=transfer.ts_ns // MS_NS,
    )


ACCOUNT_ROUTES: Final[Routes] = {
    ("GET", "accounts"): Route(_accounts),
    ("GET", "accounts/balances"): Route(_balances),
    ("GET", "accounts/*/balances"): Route(_balances_by_id),
    ("GET", "accounts/activity"): Route(_activity, is_heavy=True),
    ("POST", "accounts/transfer"): Route(_transfer),
    ("GET", "accounts/transfer"): Route(_transfers, is_heavy=True),
    ("GET", "accounts/transfer/*"): Route(_transfer_by_id),
    ("GET", "accounts/interest/history"): Route(_interest, is_heavy=True),
    ("GET", "feeinfo"): Route(_fees, is_heavy=True),
    ("GET", "subaccounts"): Route(_subaccounts),
    ("GET", "subaccounts/balances"): Route(_subaccount_balances, is_heavy=True),
    ("GET", "subaccounts/*/balances"): Route(_subaccount_balances_by_id),
    ("POST", "subaccounts/transfer"): Route(_subaccount_transfer, is_heavy=True),
    ("GET", "subaccounts/transfer"): Route(_subaccount_transfers, is_heavy=True),
    ("GET", "subaccounts/transfer/*"): Route(_subaccount_transfer_by_id, is_heavy=True),
}
