"""Money that moves without an order: funding, and what a liquidation took, out of the bills of a wallet. Pure.

Bills say how much, when and of which market. Each payment is said once in a session; the journal knows those of earlier
ones by their time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.core import messages as m
from bot.core.instrument import Instrument, scaled_down
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.accounts import exact_atoms

MS_NS: Final = 1_000_000
OVERLAP_MS: Final = 120_000
"""How much later than it happened a payment may appear among the bills."""
RATES_KEPT: Final = 1_000


def since_ms(recovered: m.Recovered) -> int:
    """Return from when on payments may be missing in the journal: none is ours that came before its first session."""
    if recovered.epoch == 1 or recovered.equity is None:
        return recovered.ts_ns // MS_NS
    return min(recovered.ts_ns, recovered.equity.ts_ns) // MS_NS - OVERLAP_MS


@dataclass(slots=True)
class Payments:
    """What was said of bills, and what is known of funding rates."""

    _said: dict[str, None] = field(default_factory=dict[str, None])
    """Ids of bills."""
    _rates: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """Symbol and time of a payment to its rate, as it was last told."""
    _marks: dict[str, int] = field(default_factory=dict[str, int])

    def hear(self, message: m.AnyMessage) -> None:
        """Remember what a payment will be made of."""
        match message:
            case m.FundingRate():
                self._rates[message.symbol, message.due_ns] = message.rate_ppb
                if len(self._rates) > RATES_KEPT:
                    del self._rates[next(iter(self._rates))]
            case m.MarkPrice():
                self._marks[message.symbol] = message.price_ticks
            case _:
                pass

    def funding(self, bills: Iterable[fw.BillRow], instruments: Mapping[str, Instrument]) -> Iterator[m.FundingPaid]:
        """Return what is news in bills of funding; rate and price are 0 where nobody told them. Raises OffGrid."""
        for bill in bills:
            if bill.symbol in instruments and bill.id not in self._said:
                self._said[bill.id] = None
                ts_ns = bill.created_ms * MS_NS
                yield m.FundingPaid(
                    ts_ns=ts_ns,
                    symbol=bill.symbol,
                    rate_ppb=self._rates.get((bill.symbol, ts_ns), 0),
                    price_ticks=self._marks.get(bill.symbol, 0),
                    paid_atoms=-exact_atoms("funding", bill.amount),
                )

    def losses(
        self, bills: Iterable[fw.BillRow], instruments: Mapping[str, Instrument]
    ) -> dict[tuple[str, int], list[fw.BillRow]]:
        """Return the bills of each liquidation that is news, by symbol and time in ms."""
        news: dict[tuple[str, int], list[fw.BillRow]] = {}
        for bill in bills:
            if bill.symbol in instruments and bill.id not in self._said:
                news.setdefault((bill.symbol, bill.created_ms), []).append(bill)
        return news

    def note(self, bills: Iterable[fw.BillRow]) -> None:
        """Take note that bills were said."""
        self._said |= dict.fromkeys(bill.id for bill in bills)


def liquidated(
    closed: fw.PositionHistoryRow, bills: Iterable[fw.BillRow], instrument: Instrument, at_ms: int
) -> m.Liquidated:
    """Return a liquidation of a position at the price it was closed at; its fee makes the loss that of its bills.

    Raises:
        OffGrid: what the bills say lies between two atoms.

    """
    lots = closed.side.sign * int(closed.closed_contracts)
    opened, ended = (fw.number_or_zero(text) for text in (closed.open_price_text, closed.close_price_text))
    profit = (ended - opened) * lots * Decimal(1).scaleb(-instrument.quantity_scale)
    paid = sum((bill.amount for bill in bills), Decimal(0))
    return m.Liquidated(
        ts_ns=at_ms * MS_NS,
        symbol=closed.symbol,
        price_ticks=scaled_down(f"{ended:f}", instrument.price_scale),
        signed_lots=-lots,
        fee_atoms=exact_atoms("fee of a liquidation", profit - paid),
    )
