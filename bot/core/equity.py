"""What all is worth now, kept up to date with every fill and every price.

Cash is followed in *flow form*: every fill's whole notional flows out or in, of a perpetual as of a spot market. So
what is held counts with its whole value, and equity is the flow and that value: what the ledger finds with a wallet
and entry costs, by another way.
"""

from __future__ import annotations

from collections.abc import Mapping

from bot.core import messages as m
from bot.core.instrument import Instrument


class Equity:
    """Flow, positions and their values. `instruments` is its owner's, and knows a symbol when it is first priced."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self.flow_atoms = 0
        self.base_atoms: dict[str, int] = {}
        """Symbol to what is held of it, all strategies together; below 0 where it is short."""
        self.values: dict[str, int] = {}
        """Symbol to the value of that in quote atoms; 0 while it has no price."""
        self._instruments = instruments
        self._marks: dict[str, int] = {}
        self._positions_atoms = 0
        self._unpriced: set[str] = set()

    def recover(self, known: m.Recovered) -> None:
        """Begin with what the journal says."""
        self.flow_atoms = known.cash_atoms - sum(known.costs.values())
        for held in known.holdings.values():
            for symbol, atoms in held.items():
                self.base_atoms[symbol] = self.base_atoms.get(symbol, 0) + atoms
                self._revalue(symbol)

    def book(self, fill: m.Fill) -> None:
        """Take a fill, which has not been booked before."""
        instrument = self._instruments[fill.symbol]
        sign = fill.side.sign
        base_atoms = sign * fill.qty_lots * instrument.base_atoms_per_lot
        self.flow_atoms -= sign * instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
        fee_coin = fill.fee_currency or instrument.fee_coin(fill.side)
        if fee_coin == instrument.quote:
            self.flow_atoms -= fill.fee_atoms
        elif fee_coin == instrument.base and not instrument.is_perp:
            base_atoms -= fill.fee_atoms
        self.base_atoms[fill.symbol] = self.base_atoms.get(fill.symbol, 0) + base_atoms
        self._revalue(fill.symbol)

    def pay(self, funding: m.FundingPaid) -> None:
        """Take a payment of funding."""
        self.flow_atoms -= funding.paid_atoms

    def liquidate(self, liquidated: m.Liquidated) -> None:
        """Take the end of a position."""
        atoms = self.base_atoms.get(liquidated.symbol, 0)
        self.flow_atoms += self._instruments[liquidated.symbol].value_atoms(atoms, liquidated.price_ticks)
        self.flow_atoms -= liquidated.fee_atoms
        self.base_atoms[liquidated.symbol] = 0
        self._revalue(liquidated.symbol)

    def mark(self, symbol: str, price_ticks: int) -> None:
        """Value `symbol` at a price from now on."""
        self._marks[symbol] = price_ticks
        if self.base_atoms.get(symbol):
            self._revalue(symbol)

    def mark_ticks(self, symbol: str) -> int:
        """Return the price that `symbol` is valued at, 0 before its first."""
        return self._marks.get(symbol, 0)

    @property
    def equity_atoms(self) -> int | None:
        """Return cash and positions at their marks, in quote atoms; None while something held has no price."""
        return None if self._unpriced else self.flow_atoms + self._positions_atoms

    def _revalue(self, symbol: str) -> None:
        atoms = self.base_atoms.get(symbol, 0)
        mark = self._marks.get(symbol)
        instrument = self._instruments.get(symbol)
        if atoms == 0:
            value = 0
            self._unpriced.discard(symbol)
        elif mark is None or instrument is None:
            value = 0
            self._unpriced.add(symbol)
        else:
            value = instrument.value_atoms(atoms, mark)
            self._unpriced.discard(symbol)
        self._positions_atoms += value - self.values.get(symbol, 0)
        self.values[symbol] = value
