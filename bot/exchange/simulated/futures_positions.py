"""One position in a perpetual contract: what opening, closing, funding and margin do to it. Pure arithmetic.

Contracts are signed: longs positive, shorts negative. What a position was opened for, `cost_atoms`, is kept exactly; a
part that is closed takes its share of it, rounded down, and what stays carries the rest: so nothing is won or lost by
rounding, and the average price is only shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from bot.exchange.simulated.futures_instruments import Contract

RATE_SCALE: Final = 8
"""Decimals of a funding rate."""
RATE: Final = 10**RATE_SCALE


class PosSide(StrEnum):
    """Which of a symbol's positions: the only one in one-way mode, one of two in hedge mode."""

    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


class MarginMode(StrEnum):
    """Whether a position is backed by the whole account or by margin of its own."""

    CROSS = "CROSS"
    ISOLATED = "ISOLATED"


class PositionMode(StrEnum):
    """Whether an account may hold a long and a short of one symbol at once."""

    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"


class Closed(NamedTuple):
    """What closing a part of a position gives."""

    realised_atoms: int
    """(exit - average) x contracts x ctVal x direction."""
    released_atoms: int
    """Isolated margin that goes back to the account, before the profit or loss is booked there."""


@dataclass(slots=True, kw_only=True)
class Position:
    """A position from its first contract to its last; another one begins after that."""

    contract: Contract
    pos_side: PosSide
    margin_mode: MarginMode
    leverage: int
    id: int = 0
    created_ns: int = 0
    updated_ns: int = 0
    contracts: int = 0
    """Longs > 0, shorts < 0."""
    cost_atoms: int = 0
    """What it was opened for, with its sign."""
    average_atoms: int = 0
    """Value of one contract at the average price, rounded against its owner: to be shown, nothing is made of it."""
    margin_atoms: int = 0
    """Isolated margin; 0 while the whole account backs it."""
    realised_atoms: int = 0
    fees_atoms: int = 0
    """Fees paid, >= 0 without rebates."""
    funding_atoms: int = 0
    """Funding received; negative when paid."""
    closed_contracts: int = 0
    closed_value_atoms: int = 0
    contracts_most: int = 0
    """Its largest size, unsigned."""
    opened_direction: int = 0
    """+1 for a long, -1 for a short, also after its end."""

    @property
    def direction(self) -> int:
        """Return +1 for a long, -1 for a short, 0 for none."""
        return (self.contracts > 0) - (self.contracts < 0)

    @property
    def size(self) -> int:
        """Return how many contracts it has, either direction."""
        return abs(self.contracts)

    @property
    def is_isolated(self) -> bool:
        """Return whether it has margin of its own."""
        return self.margin_mode is MarginMode.ISOLATED

    # --- what happens to it

    def increase(self, contracts: int, price_ticks: int) -> None:
        """Open `contracts`, signed, not against the direction of what is there, at a price."""
        assert contracts * self.contracts >= 0, "an increase goes the same way"
        assert contracts, "an increase has contracts"
        self.cost_atoms += self.contract.value_atoms(price_ticks, contracts)
        self.contracts += contracts
        self.opened_direction = self.direction
        self.average_atoms = abs(-(-self.cost_atoms // self.size))
        self.contracts_most = max(self.contracts_most, self.size)
        if self.is_isolated:
            opened_value = self.contract.value_atoms(price_ticks, abs(contracts))
            self.margin_atoms += self.contract.initial_margin_atoms(opened_value, self.leverage)

    def close(self, contracts: int, price_ticks: int) -> Closed:
        """Close `contracts`, unsigned, at most what there is, at a price; the average stays.

        Isolated margin is released in proportion, rounded down. A loss beyond that share is taken from the rest of the
        position's margin before it can reach the account.
        """
        assert 0 < contracts <= self.size, "no more is closed than there is"
        value = self.contract.value_atoms(price_ticks, contracts)
        cost = self.cost_atoms * contracts // self.size
        self.cost_atoms -= cost
        realised = self.direction * value - cost
        released = self.margin_atoms * contracts // self.size
        short_of = max(-(released + realised), 0)
        released += min(short_of, self.margin_atoms - released)
        self.margin_atoms -= released
        self.contracts -= self.direction * contracts
        self.realised_atoms += realised
        self.closed_contracts += contracts
        self.closed_value_atoms += value
        return Closed(realised, released)

    def fund(self, mark_ticks: int, rate: int) -> int:
        """Book one funding payment and return it: negative when paid.

        -contracts x ctVal x mark x rate, rounded down: who pays pays the broken atom, who receives goes without it.
        An isolated position pays from its margin, which may not go below 0 by it: the rest is the account's.
        """
        payment = -self.contract.value_atoms(mark_ticks, self.contracts) * rate // RATE
        self.funding_atoms += payment
        if self.is_isolated:
            self.margin_atoms = max(self.margin_atoms + payment, 0)
        return payment

    # --- what it is worth

    def unrealised_atoms(self, mark_ticks: int) -> int:
        """Return its profit at a price, exactly."""
        return self.contract.value_atoms(mark_ticks, self.contracts) - self.cost_atoms

    def value_atoms(self, mark_ticks: int) -> int:
        """Return contracts x ctVal x price, unsigned."""
        return self.contract.value_atoms(mark_ticks, self.size)

    def initial_margin_atoms(self, mark_ticks: int) -> int:
        """Return its value over its leverage, rounded up."""
        return self.contract.initial_margin_atoms(self.value_atoms(mark_ticks), self.leverage)

    def maintenance_margin_atoms(self, mark_ticks: int) -> int:
        """Return what must be left of its backing, rounded up."""
        return self.contract.maintenance_margin_atoms(mark_ticks, self.contracts)

    def removable_atoms(self, mark_ticks: int) -> int:
        """Return how much isolated margin can be taken out: what is above the initial margin, losses counted."""
        backing = self.margin_atoms + min(self.unrealised_atoms(mark_ticks), 0)
        return min(max(backing - self.initial_margin_atoms(mark_ticks), 0), self.margin_atoms)

    def must_be_liquidated(self, mark_ticks: int) -> bool:
        """Return whether an isolated position must be liquidated: its backing fell to the maintenance margin."""
        return self.margin_atoms + self.unrealised_atoms(mark_ticks) <= self.maintenance_margin_atoms(mark_ticks)

    def price_leaving_ticks(self, mark_ticks: int, backing_atoms: int) -> int:
        """Return the price at which `backing_atoms`, which it is worth at the mark, are gone: its bankruptcy price.

        Rounded so that its owner keeps what is left, less than a tick's worth; at least 1 tick.
        """
        tick_atoms = self.contract.value_atoms(1, self.size)
        # From the mark, so many ticks can still be lost; when the backing is negative, so many must be won.
        return max(mark_ticks - self.direction * (backing_atoms // tick_atoms), 1)

    def liquidation_ticks(self, mark_ticks: int, backing_atoms: int) -> int | None:
        """Return the price at which its backing falls to its maintenance margin, or None where there is none.

        Solved for this position alone, all others standing still; rounded towards the mark.
        Source: margin + direction x (price - average) x size = price x size x ratio.
        """
        ppm = 1_000_000
        ratio = self.contract.tier(self.contracts).maintenance_ppm
        tick_atoms = self.contract.value_atoms(1, self.size)
        at_zero = self.direction * tick_atoms * mark_ticks - backing_atoms  # d x v x price where all is lost
        divisor = tick_atoms * (self.direction * ppm - ratio)
        price = -(-at_zero * ppm // divisor) if self.direction > 0 else at_zero * ppm // divisor
        return price if price > 0 else None
