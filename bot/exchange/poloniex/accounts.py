"""What the exchange says of a wallet, in the core's units: what our books are held against. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Final

from bot.core import messages as m
from bot.core.instrument import ATOM_SCALE, Instrument
from bot.errors import OffGrid
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.private_state import OrderChanged

SPOT_ACCOUNT: Final = "SPOT"
_EXACT: Final = Context(prec=100)


def spot_seen(
    ts_ns: int,
    accounts: Iterable[sw.AccountBalances],
    orders: Iterable[OrderChanged],
    conditional: Iterable[sw.SmartOrderRow],
    instruments: Mapping[str, Instrument],
) -> m.AccountSeen:
    """Return the spot wallet.

    A living order of an amount of quote, or on a market that is not in `instruments`, counts as one lot.

    Raises:
        OffGrid: an amount lies between two atoms, or what is left of an order between two lots.

    """
    balances: dict[str, int] = {}
    for account in accounts:
        if account.account_type == SPOT_ACCOUNT:
            for row in account.balances:
                atoms = exact_atoms(f"balance of {row.currency}", row.available + row.hold)
                balances[row.currency] = balances.get(row.currency, 0) + atoms
    living: dict[str, int] = {}
    for order in orders:
        leaves = order.quantity - order.filled_quantity if order.quantity else None
        living[order.client_id or order.order_id] = _lots(order.symbol, leaves, instruments)
    for stop in conditional:
        living[stop.client_order_id or stop.id] = _lots(stop.symbol, stop.quantity, instruments)
    return m.AccountSeen(ts_ns=ts_ns, market="spot", balances=balances, positions={}, living=living)


def futures_seen(
    ts_ns: int, account: fw.AccountRow, positions: Iterable[fw.PositionRow], orders: Iterable[OrderChanged]
) -> m.AccountSeen:
    """Return the futures wallet: its cash, without open profit; contracts are lots. Raises as `spot_seen` does."""
    signed: dict[str, int] = {}
    for row in positions:
        signed[row.symbol] = signed.get(row.symbol, 0) + row.signed_contracts
    return m.AccountSeen(
        ts_ns=ts_ns,
        market="futures",
        balances={
            row.currency: exact_atoms(
                f"futures cash in {row.currency}",
                row.equity - row.unrealised_pnl + row.isolated_equity - row.isolated_pnl,
            )
            for row in account.details
        },
        positions={symbol: contracts for symbol, contracts in signed.items() if contracts},
        living={order.client_id or order.order_id: int(order.quantity - order.filled_quantity) for order in orders},
    )


def exact_atoms(name: str, amount: Decimal) -> int:
    """Return `amount` in atoms. Raises OffGrid where it lies between two."""
    atoms = amount.scaleb(ATOM_SCALE, _EXACT)
    if atoms != atoms.to_integral_value():
        raise OffGrid(f"{name}: {amount} has more than {ATOM_SCALE} decimals")
    return int(atoms)


def _lots(symbol: str, quantity: Decimal | None, instruments: Mapping[str, Instrument]) -> int:
    instrument = instruments.get(symbol)
    if instrument is None or quantity is None:
        return 1
    lots = quantity.scaleb(instrument.quantity_scale, _EXACT)
    if lots != lots.to_integral_value():
        raise OffGrid(f"{symbol}: {quantity} left of an order is no whole number of lots")
    return int(lots)
