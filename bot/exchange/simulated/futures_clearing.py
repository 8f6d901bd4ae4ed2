"""The clearing house of the contracts: every position, and every atom that fills, fees, funding and losses move.

Each client is cleared against the house: a profit is paid by it, a loss goes to it, so two clients that trade with
each other meet there, and what the replayed market wins or loses is the house's. Money only moves between `Accounts`,
whose sum is 0. The law, exact at any marks: wallets + unrealised profit of all clients, the house's opposite contracts
valued at mark, fees and insurance are together what was paid in. Nothing here knows of orders or of the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

from bot.exchange.simulated.accounts import Account, Accounts, AccountType
from bot.exchange.simulated.futures_instruments import SETTLEMENT, Contract
from bot.exchange.simulated.futures_margin import (
    Claim,
    PositionKey,
    Standing,
    bankruptcy_ticks,
    standing,
)
from bot.exchange.simulated.futures_positions import MarginMode, Position, PositionMode, PosSide
from bot.exchange.simulated.futures_prices import Funding

RECORDS_KEPT: Final = 10_000
"""Newest bills, and closed positions, that an account remembers; liquidations of the exchange."""


class BillType(StrEnum):
    """Why money moved, in the exchange's words."""

    FEE = "FEE"
    PNL = "PNL"
    LIQ_PNL = "LIQ_PNL"
    FUNDING_FEE = "FUNDING_FEE"
    MANUAL_MARGIN = "MANUAL_MARGIN"


class Bill(NamedTuple):
    """One movement of an account's money."""

    bill_id: int
    type: BillType
    symbol: str
    margin_mode: MarginMode
    pos_side: PosSide
    atoms: int
    """Signed."""
    ts_ns: int


class Execution(NamedTuple):
    """One side of a trade, as the clearing house books it."""

    contract: Contract
    pos_side: PosSide
    margin_mode: MarginMode
    contracts: int
    """Signed: bought > 0, sold < 0."""
    price_ticks: int
    fee_atoms: int
    ts_ns: int


class Liquidation(NamedTuple):
    """A position that the insurance fund took over at its bankruptcy price."""

    account: Account
    contract: Contract
    pos_side: PosSide
    margin_mode: MarginMode
    contracts: int
    """Signed, as it was."""
    bankruptcy_ticks: int
    ts_ns: int


class PositionChange(NamedTuple):
    """How a position stands after a change; 0 contracts where it was closed."""

    member: Member
    position: Position
    """A copy: the position itself goes on changing."""
    old_contracts: int


@dataclass(slots=True, eq=False)
class Member:
    """The futures side of one account."""

    account: Account
    mode: PositionMode = PositionMode.ONE_WAY
    positions: dict[PositionKey, Position] = field(default_factory=dict[PositionKey, Position])
    leverages: dict[tuple[str, MarginMode, PosSide], int] = field(
        default_factory=dict[tuple[str, MarginMode, PosSide], int]
    )
    margin_modes: dict[str, MarginMode] = field(default_factory=dict[str, MarginMode])
    """The mode last used, by symbol."""
    finished: deque[Position] = field(default_factory=lambda: deque[Position](maxlen=RECORDS_KEPT))
    bills: deque[Bill] = field(default_factory=lambda: deque[Bill](maxlen=RECORDS_KEPT))

    @property
    def balance_atoms(self) -> int:
        """Return its whole wallet."""
        return self.account.wallet(AccountType.FUTURES, SETTLEMENT).total_atoms

    def leverage(self, contract: Contract, margin_mode: MarginMode, pos_side: PosSide) -> int:
        """Return the leverage that a position has or would have."""
        return self.leverages.get((contract.symbol, margin_mode, pos_side), contract.leverage_default)

    def position(self, symbol: str, pos_side: PosSide) -> Position | None:
        """Return the open position, or None."""
        return self.positions.get((symbol, pos_side))

    def positions_of(self, symbol: str) -> list[Position]:
        """Return the open positions of a symbol: two at most, in hedge mode."""
        return [position for (name, _), position in self.positions.items() if name == symbol]


class Clearing:
    """Every member's positions, at the marks that `marks` has then: it is the caller's, and changes."""

    def __init__(self, accounts: Accounts, marks: Mapping[str, int]) -> None:
        self.members: dict[int, Member] = {}
        """By the account's number."""
        self.liquidations: deque[Liquidation] = deque(maxlen=RECORDS_KEPT)
        self._accounts = accounts
        self._marks = marks
        self._ids = accounts.ids
        self._changes: list[PositionChange] = []

    def member(self, account: Account) -> Member:
        """Return the futures side of an account."""
        member = self.members.get(account.number)
        if member is None:
            member = self.members[account.number] = Member(account)
        return member

    def standing(self, member: Member, claims: Iterable[Claim] = ()) -> Standing:
        """Return how a member stands at the present marks."""
        return standing(member.balance_atoms, member.positions.values(), self._marks, claims)

    def take_changes(self) -> list[PositionChange]:
        """Return the position changes since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    # --- trading

    def execute(self, member: Member, execution: Execution) -> None:
        """Book one side of a trade: the fee, then what it closes, then what is left of it opens.

        In hedge mode a closing trade has at most the contracts of its position; the caller sees to it.
        """
        contract, pos_side = execution.contract, execution.pos_side
        key = contract.symbol, pos_side
        position = member.positions.get(key)
        before = position.contracts if position is not None else 0
        closed = min(abs(execution.contracts), abs(before)) if before * execution.contracts < 0 else 0
        opened = execution.contracts - closed * (1 if execution.contracts > 0 else -1)
        if position is not None and closed:
            self._close(member, position, closed, execution.price_ticks, execution.ts_ns, BillType.PNL)
            if opened:  # a flip: the fee is that of the position that begins
                self._note(member, position, before)
                position, before = None, 0
        if opened:
            position = position if position is not None else self._open(member, execution)
            position.increase(opened, execution.price_ticks)
            position.updated_ns = execution.ts_ns
        assert position is not None, "an execution has contracts"
        position.fees_atoms += execution.fee_atoms
        self._pay(member, position, BillType.FEE, -execution.fee_atoms, execution.ts_ns)
        self._note(member, position, before)

    def _open(self, member: Member, execution: Execution) -> Position:
        contract, pos_side, mode = execution.contract, execution.pos_side, execution.margin_mode
        assert not (member.mode is PositionMode.ONE_WAY) ^ (pos_side is PosSide.BOTH), "a side of the other mode"
        opens_long = execution.contracts > 0
        assert pos_side is PosSide.BOTH or opens_long == (pos_side is PosSide.LONG), "a close beyond the position"
        position = Position(
            contract=contract,
            pos_side=pos_side,
            margin_mode=mode,
            leverage=member.leverage(contract, mode, pos_side),
            id=self._ids.next(execution.ts_ns),
            created_ns=execution.ts_ns,
        )
        member.margin_modes[contract.symbol] = mode
        member.positions[contract.symbol, pos_side] = position
        return position

    def _close(
        self, member: Member, position: Position, contracts: int, price_ticks: int, ts_ns: int, why: BillType
    ) -> int:
        """Close a part of a position, and return what that realised."""
        closed = position.close(contracts, price_ticks)
        position.updated_ns = ts_ns
        self._pay(member, position, why, closed.realised_atoms, ts_ns)
        if not position.contracts:
            del member.positions[position.contract.symbol, position.pos_side]
            member.finished.append(position)
        return closed.realised_atoms

    # --- funding

    def fund(self, contract: Contract, funding: Funding) -> None:
        """Let every position of a contract pay or receive, once: the caller gives each funding moment once."""
        for member in self.members.values():
            for position in member.positions_of(contract.symbol):
                payment = position.fund(funding.mark_ticks, funding.rate)
                position.updated_ns = funding.ts_ns
                self._pay(member, position, BillType.FUNDING_FEE, payment, funding.ts_ns)
                self._note(member, position, position.contracts)

    # --- margin, leverage, mode

    def move_margin(self, member: Member, position: Position, atoms: int, ts_ns: int) -> None:
        """Put margin into an isolated position, or take it out where `atoms` < 0; the caller has checked both."""
        assert position.is_isolated
        assert position.margin_atoms + atoms >= 0
        position.margin_atoms += atoms
        position.updated_ns = ts_ns
        bill_id = self._ids.next(ts_ns)
        sides = position.contract.symbol, position.margin_mode, position.pos_side
        member.bills.append(Bill(bill_id, BillType.MANUAL_MARGIN, *sides, -atoms, ts_ns))
        self._note(member, position, position.contracts)

    def margin_for(self, position: Position, leverage: int) -> int:
        """Return how much margin an isolated position lacks for a leverage, at its average price; 0 if none."""
        value = abs(position.cost_atoms)
        needed = position.contract.initial_margin_atoms(value, leverage)
        return max(needed - position.margin_atoms, 0) if position.is_isolated else 0

    def set_leverage(
        self, member: Member, contract: Contract, margin_mode: MarginMode, pos_side: PosSide, leverage: int, ts_ns: int
    ) -> None:
        """Set the leverage of a position and of those to come; the caller has checked that the account can bear it.

        An isolated position gets the margin that a lower leverage asks for. A higher one frees nothing by itself.
        """
        member.leverages[contract.symbol, margin_mode, pos_side] = leverage
        position = member.position(contract.symbol, pos_side)
        if position is None or position.margin_mode is not margin_mode:
            return
        position.margin_atoms += self.margin_for(position, leverage)
        position.leverage = leverage
        position.updated_ns = ts_ns
        self._note(member, position, position.contracts)

    # --- liquidation

    def doomed(self, member: Member) -> Sequence[Position]:
        """Return the positions of a member that must be liquidated now: isolated ones, or all cross ones."""
        isolated = [
            position
            for position in member.positions.values()
            if position.is_isolated and position.must_be_liquidated(self._marks[position.contract.symbol])
        ]
        if isolated:
            return isolated
        is_lost = self.standing(member).must_be_liquidated
        return [position for position in member.positions.values() if is_lost and not position.is_isolated]

    def liquidate(self, member: Member, doomed: Sequence[Position], ts_ns: int) -> list[Liquidation]:
        """Close positions that `doomed` named, at their bankruptcy prices, and take what is left of their backing.

        The insurance fund takes them over there and passes them on to the house at mark: what the mark is better than
        the bankruptcy price is its gain, what it is worse its loss. So a liquidated client never owes anything, and
        no other client is ever asked to pay (no ADL).
        """
        done: list[Liquidation] = []
        for backed, equity in self._backings(member, doomed):
            prices = bankruptcy_ticks(backed, equity, self._marks)
            done += [self._take_over(member, position, prices[position.id], ts_ns) for position in backed]
            if not backed[0].is_isolated:
                # Less than a tick's worth of each position, or what a gap in the mark has left open.
                rest = self.standing(member).cross_balance
                self._sweep(member, backed[-1], rest, ts_ns)
        self.liquidations.extend(done)
        return done

    def cover(self, member: Member) -> None:
        """Have the insurance fund pay what a member owes that has nothing left to be liquidated.

        A position of its own margin can be closed far beyond it, in a thin book, before its mark tells.
        """
        owed = -self.standing(member).cross_balance
        if owed > 0 and not member.positions:
            self._accounts_pay(self._accounts.insurance, member.account, owed)

    def _backings(self, member: Member, doomed: Sequence[Position]) -> Iterable[tuple[list[Position], int]]:
        """Yield groups of positions that share their backing, with what they and it are worth."""
        for position in doomed:
            if position.is_isolated:
                mark = self._marks[position.contract.symbol]
                yield [position], position.margin_atoms + position.unrealised_atoms(mark)
        cross = [position for position in doomed if not position.is_isolated]
        if cross:
            yield cross, self.standing(member).cross_equity

    def _take_over(self, member: Member, position: Position, price_ticks: int, ts_ns: int) -> Liquidation:
        contract, contracts, mark = position.contract, position.contracts, self._marks[position.contract.symbol]
        margin = position.margin_atoms
        realised = self._close(member, position, position.size, price_ticks, ts_ns, BillType.LIQ_PNL)
        gain = contract.value_atoms(mark - price_ticks, contracts)
        self._accounts_pay(self._accounts.house, self._accounts.insurance, gain)
        if position.is_isolated:
            self._sweep(member, position, margin + realised, ts_ns)
        self._note(member, position, contracts)
        sides = position.pos_side, position.margin_mode
        return Liquidation(member.account, contract, *sides, contracts, price_ticks, ts_ns)

    def _sweep(self, member: Member, position: Position, atoms: int, ts_ns: int) -> None:
        """Give what is left of a backing to the insurance fund, or have it pay what is missing."""
        self._accounts_pay(member.account, self._accounts.insurance, atoms)
        self._bill(member, position, BillType.LIQ_PNL, -atoms, ts_ns)

    # --- money

    def _pay(self, member: Member, position: Position, why: BillType, atoms: int, ts_ns: int) -> None:
        """Pay a member `atoms`, which may be negative, and write it down."""
        payer = self._accounts.fees if why is BillType.FEE else self._accounts.house
        self._accounts_pay(payer, member.account, atoms)
        self._bill(member, position, why, atoms, ts_ns)

    def _bill(self, member: Member, position: Position, why: BillType, atoms: int, ts_ns: int) -> None:
        sides = position.contract.symbol, position.margin_mode, position.pos_side
        member.bills.append(Bill(self._ids.next(ts_ns), why, *sides, atoms, ts_ns))

    def _accounts_pay(self, source: Account, target: Account, atoms: int) -> None:
        """Move money, the other way round where it is negative. A loss may take a wallet below 0, until it is swept."""
        if atoms < 0:
            source, target = target, source
        self._accounts.pay(source, target, AccountType.FUTURES, SETTLEMENT, abs(atoms), may_go_below=True)

    def _note(self, member: Member, position: Position, old_contracts: int) -> None:
        self._changes.append(PositionChange(member, replace(position), old_contracts))
