"""Our books held against the exchange's: exact to the atom, with signs, each thing in a unit of its own.

Cash and coins are atoms of a wallet, positions signed lots of a perpetual, orders what is left of them in lots. Nothing
is repaired here: what differs is said, and an operator may take the exchange's word for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from bot.core import messages as m
from bot.core.instrument import ATOMS
from bot.core.ledger import Ledger, wallet_of
from bot.core.orders import order_number


def compare(ledger: Ledger, seen: m.AccountSeen) -> tuple[m.Difference, ...]:
    """Return every line in which `ledger` and `seen` differ: cash, coins, positions, orders, each by name.

    It means something only while `ledger.is_quiet(seen.market)`.
    """
    return (
        *_differences("cash", {seen.market: _cash(ledger, seen.market)}, {seen.market: _quote(ledger, seen)}),
        *_differences("coin", _coins(ledger, seen.market), _without(seen.balances, ledger.quote)),
        *_differences("position", _positions(ledger, seen.market), seen.positions),
        *_differences("order", _leaves(ledger, seen.market), seen.living),
    )


def unexplained(ledger: Ledger, differences: Iterable[m.Difference]) -> list[m.Difference]:
    """Return the differences that are no foreign orders: in these one of the two books is wrong."""
    return [each for each in differences if not is_foreign(ledger, each)]


def is_foreign(ledger: Ledger, difference: m.Difference) -> bool:
    """Return whether it is an order that was never approved here."""
    return difference.kind == "order" and not ledger.is_known(difference.name)


def is_of_second_daemon(ledger: Ledger, difference: m.Difference) -> bool:
    """Return whether it is an order with an id as we make them, and not made here.

    So another bot of our kind trades on this account, or this journal is an old copy.
    """
    return is_foreign(ledger, difference) and all(order_number(difference.name) or (0,))


def flows(ledger: Ledger, compared: m.AccountCompared, *, ts_ns: int, who: str) -> tuple[m.ExternalFlow, ...]:
    """Return what makes our cash, coins and positions those of the exchange: one flow for each difference.

    Orders are not taken over: one of ours that is not there is abandoned by name, a foreign one is its owner's. A
    position changes without a fill, as if nobody had paid for it: its profit shows in the cash of the wallet.
    """
    return tuple(
        m.ExternalFlow(
            ts_ns=ts_ns,
            wallet=compared.market,
            currency=ledger.quote if each.kind == "cash" else each.name,
            atoms=(each.theirs - each.ours) * (_atoms_per_lot(ledger, each.name) if each.kind == "position" else 1),
            reason="reconciliation: the exchange's word is taken",
            who=who,
        )
        for each in compared.differences
        if each.kind != "order"
    )


def _differences(
    kind: Literal["cash", "coin", "position", "order"], ours: Mapping[str, int], theirs: Mapping[str, int]
) -> Iterator[m.Difference]:
    for name in sorted({*ours, *theirs}):
        difference = m.Difference(kind=kind, name=name, ours=ours.get(name, 0), theirs=theirs.get(name, 0))
        if difference.ours != difference.theirs:
            yield difference


def _cash(ledger: Ledger, wallet: m.Wallet) -> int:
    futures_atoms = ledger.futures_cash_atoms or 0
    return futures_atoms if wallet == "futures" else ledger.cash_atoms - futures_atoms


def _quote(ledger: Ledger, seen: m.AccountSeen) -> int:
    return seen.balances.get(ledger.quote, 0)


def _without(balances: Mapping[str, int], currency: str) -> dict[str, int]:
    return {coin: atoms for coin, atoms in balances.items() if coin != currency}


def _coins(ledger: Ledger, wallet: m.Wallet) -> dict[str, int]:
    """Return by coin all that we know of in a wallet, whoever it belongs to."""
    coins = {name: atoms for name, atoms in ledger.external[wallet].items() if not _is_symbol(name)}
    if wallet == "spot":
        for symbol, position in ledger.positions.items():
            instrument = ledger.instruments[symbol]
            if not instrument.is_perp:
                coins[instrument.base] = coins.get(instrument.base, 0) + position.base_atoms
    return coins


def _positions(ledger: Ledger, wallet: m.Wallet) -> dict[str, int]:
    if wallet == "spot":
        return {}
    atoms = {symbol: held for symbol, held in ledger.external[wallet].items() if _is_symbol(symbol)}
    for symbol, position in ledger.positions.items():
        if ledger.instruments[symbol].is_perp:
            atoms[symbol] = atoms.get(symbol, 0) + position.base_atoms
    # Whole lots, all of it: perpetuals pay no fee in coins.
    return {symbol: held // _atoms_per_lot(ledger, symbol) for symbol, held in atoms.items()}


def _leaves(ledger: Ledger, wallet: m.Wallet) -> dict[str, int]:
    return {
        record.intent.client_id: record.leaves_lots
        for record in ledger.live_orders
        if wallet_of(ledger.instruments[record.intent.symbol]) == wallet
    }


def _is_symbol(name: str) -> bool:
    # Every symbol joins two coins with a line, and no coin has one in its name.
    return "_" in name


def _atoms_per_lot(ledger: Ledger, symbol: str) -> int:
    """Return how many atoms a lot of a perpetual is; of one that is not listed here it counts as a whole coin."""
    instrument = ledger.instruments.get(symbol)
    return ATOMS if instrument is None else instrument.base_atoms_per_lot
