"""What a futures account is worth and what is bound: margins of positions, of working orders, and what is left.

Pure functions of positions, marks, working orders and the wallet's balance; nothing is kept, so nothing can drift.
The wallet's balance has all the money of the account in it, isolated margins too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bot.core.instrument import Side, fee_atoms
from bot.exchange.simulated.futures_instruments import Contract
from bot.exchange.simulated.futures_positions import MarginMode, Position, PosSide

PositionKey = tuple[str, PosSide]
"""(symbol, pos_side)."""


class Claim(NamedTuple):
    """What a working order asks for: as much of it as opens a position binds margin."""

    contract: Contract
    pos_side: PosSide
    margin_mode: MarginMode
    side: Side
    price_ticks: int
    contracts: int
    """Not filled yet."""
    leverage: int
    is_reduce_only: bool

    @property
    def key(self) -> PositionKey:
        """Return the position that it changes."""
        return self.contract.symbol, self.pos_side


class Standing(NamedTuple):
    """An account at one moment, in atoms of USDT."""

    cross_balance: int
    """The wallet without isolated margins."""
    cross_unrealised: int
    cross_initial: int
    """Margin of cross positions, at mark."""
    cross_maintenance: int
    cross_held: int
    """Margin and fees of working orders in cross mode."""
    isolated_margin: int
    isolated_unrealised: int
    isolated_initial: int
    isolated_maintenance: int
    isolated_held: int

    @property
    def cross_equity(self) -> int:
        """Return what backs the cross positions."""
        return self.cross_balance + self.cross_unrealised

    @property
    def isolated_equity(self) -> int:
        """Return what isolated positions are worth, their orders' margin included."""
        return self.isolated_margin + self.isolated_unrealised + self.isolated_held

    @property
    def equity(self) -> int:
        """Return what the account is worth: its wallet and the profit of all positions at mark."""
        return self.cross_balance + self.isolated_margin + self.cross_unrealised + self.isolated_unrealised

    @property
    def available(self) -> int:
        """Return what is free for new positions; negative when losses have eaten into what is bound."""
        return self.cross_equity - self.cross_initial - self.cross_held - self.isolated_held

    @property
    def transferable(self) -> int:
        """Return what may leave the account: profit that is not realised stays, losses count."""
        return max(min(self.available, self.available - self.cross_unrealised), 0)

    @property
    def must_be_liquidated(self) -> bool:
        """Return whether the cross positions have lost their backing."""
        return self.cross_maintenance > 0 and self.cross_equity <= self.cross_maintenance


def standing(
    balance_atoms: int, positions: Iterable[Position], marks: Mapping[str, int], claims: Iterable[Claim] = ()
) -> Standing:
    """Return how an account stands; `claims` in order of time, oldest first."""
    held = {MarginMode.CROSS: 0, MarginMode.ISOLATED: 0}
    by_key = {(position.contract.symbol, position.pos_side): position for position in positions}
    for mode, atoms in claims_atoms(claims, by_key):
        held[mode] += atoms
    # Margin, profit, initial and maintenance margin, summed by mode.
    sums = {MarginMode.CROSS: [0, 0, 0, 0], MarginMode.ISOLATED: [0, 0, 0, 0]}
    for position in by_key.values():
        mark = marks[position.contract.symbol]
        of_mode = sums[position.margin_mode]
        of_mode[0] += position.margin_atoms
        of_mode[1] += position.unrealised_atoms(mark)
        of_mode[2] += position.initial_margin_atoms(mark)
        of_mode[3] += position.maintenance_margin_atoms(mark)
    cross, isolated = sums[MarginMode.CROSS], sums[MarginMode.ISOLATED]
    return Standing(
        cross_balance=balance_atoms - isolated[0],
        cross_unrealised=cross[1],
        cross_initial=cross[2],
        cross_maintenance=cross[3],
        cross_held=held[MarginMode.CROSS],
        isolated_margin=isolated[0],
        isolated_unrealised=isolated[1],
        isolated_initial=isolated[2],
        isolated_maintenance=isolated[3],
        isolated_held=held[MarginMode.ISOLATED],
    )


def claims_atoms(
    claims: Iterable[Claim], positions: Mapping[PositionKey, Position]
) -> Iterable[tuple[MarginMode, int]]:
    """Yield what each claim binds, with its mode: the margin and the taker's fee of what it would open.

    Of the orders that go against a position, reduce-only ones and then the oldest are taken to close it; buys and
    sells are not set off against each other. The real rule is not published; this one is not kinder.
    """
    closable: dict[tuple[PositionKey, Side], int] = {}
    for claim in sorted(claims, key=lambda one: not one.is_reduce_only):  # stable: the oldest first
        place = claim.key, claim.side
        if place not in closable:
            position = positions.get(claim.key)
            closable[place] = max(-claim.side.sign * position.contracts, 0) if position else 0
        closing = min(claim.contracts, closable[place])
        closable[place] -= closing
        opening = 0 if claim.is_reduce_only or _only_closes(claim) else claim.contracts - closing
        if opening:
            value = claim.contract.value_atoms(claim.price_ticks, opening)
            margin = claim.contract.initial_margin_atoms(value, claim.leverage)
            yield claim.margin_mode, margin + fee_atoms(value, claim.contract.taker_fee_ppm)


def closes(side: Side, pos_side: PosSide) -> bool:
    """Return whether in hedge mode an order of `side` closes `pos_side`; never so in one-way mode."""
    return (side, pos_side) in ((Side.SELL, PosSide.LONG), (Side.BUY, PosSide.SHORT))


def _only_closes(claim: Claim) -> bool:
    return closes(claim.side, claim.pos_side)


def bankruptcy_ticks(positions: Iterable[Position], equity_atoms: int, marks: Mapping[str, int]) -> dict[int, int]:
    """Return by position id the prices at which positions that back each other are worth nothing, all together.

    What they are worth now is shared out by maintenance margin; the last one takes the rest of the division.
    """
    shared = list(positions)
    maintenance = [position.maintenance_margin_atoms(marks[position.contract.symbol]) for position in shared]
    left, whole = equity_atoms, sum(maintenance)
    prices: dict[int, int] = {}
    for position, weight in zip(shared, maintenance, strict=True):
        share = left * weight // whole
        left, whole = left - share, whole - weight
        prices[position.id] = position.price_leaving_ticks(marks[position.contract.symbol], share)
    return prices
