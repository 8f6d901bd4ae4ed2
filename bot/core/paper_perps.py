"""What a perpetual costs while it is held on paper: funding at its hours, and the end of an account that is ruined.

One wallet margins all perpetuals together (cross margin). Owned by the paper exchange, which says what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from bot.core import messages as m
from bot.core.instrument import Instrument, fee_atoms
from bot.core.ledger import Position

_MILLION: Final = 1_000_000
_BILLION: Final = 1_000_000_000


class MarginTerms(NamedTuple):
    """When the paper exchange closes positions, and for what fee; millionths of their value."""

    maintenance_ppm: int
    liquidation_fee_ppm: int


class PaperPerps:
    """Marks, funding rates, and the two questions: what is due, and is it too much."""

    def __init__(self, terms: MarginTerms) -> None:
        self._terms = terms
        self._marks: dict[str, int] = {}
        self._rates: dict[str, m.FundingRate] = {}

    def mark(self, symbol: str, price_ticks: int) -> None:
        """Take the price that positions in `symbol` are valued at."""
        self._marks[symbol] = price_ticks

    def expect(self, rate: m.FundingRate) -> None:
        """Take the next funding of a perpetual as it stands now; one that is due already keeps its rate."""
        known = self._rates.get(rate.symbol)
        if known is None or rate.due_ns >= known.due_ns:
            self._rates[rate.symbol] = rate

    def due(
        self, now_ns: int, instruments: Mapping[str, Instrument], positions: Mapping[str, Position]
    ) -> list[m.FundingPaid]:
        """Return the payments whose hour has come, on what is held now at its mark; rounded against us."""
        paid: list[m.FundingPaid] = []
        for symbol in [symbol for symbol, rate in self._rates.items() if rate.due_ns <= now_ns]:
            rate = self._rates.pop(symbol)
            position, mark_ticks = positions.get(symbol), self._marks.get(symbol)
            if position is None or not position.base_atoms or mark_ticks is None:
                continue
            value = instruments[symbol].value_atoms(position.base_atoms, mark_ticks)
            paid.append(
                m.FundingPaid(
                    ts_ns=rate.due_ns,
                    symbol=symbol,
                    rate_ppb=rate.rate_ppb,
                    price_ticks=mark_ticks,
                    paid_atoms=-(-value * rate.rate_ppb // _BILLION),
                )
            )
        return paid

    def ruined(
        self,
        now_ns: int,
        cash_atoms: int,
        instruments: Mapping[str, Instrument],
        positions: Mapping[str, Position],
    ) -> list[m.Liquidated]:
        """Return the end of every perpetual position, where cash and open profit no longer hold the maintenance margin.

        Nothing is closed while one of them has no mark, or something that an earlier session held is not listed yet.
        """
        if any(symbol not in instruments for symbol in positions):
            return []
        held = [symbol for symbol in positions if instruments[symbol].is_perp and positions[symbol].base_atoms]
        if not held or any(symbol not in self._marks for symbol in held):
            return []
        values = {
            symbol: instruments[symbol].value_atoms(positions[symbol].base_atoms, self._marks[symbol])
            for symbol in held
        }
        equity = cash_atoms + sum(values[symbol] - positions[symbol].cost_atoms for symbol in held)
        if equity * _MILLION > sum(abs(value) for value in values.values()) * self._terms.maintenance_ppm:
            return []
        return [
            m.Liquidated(
                ts_ns=now_ns,
                symbol=symbol,
                price_ticks=self._marks[symbol],
                signed_lots=-instruments[symbol].nearest_lots(positions[symbol].base_atoms),
                fee_atoms=fee_atoms(abs(values[symbol]), self._terms.liquidation_fee_ppm),
            )
            for symbol in held
        ]
