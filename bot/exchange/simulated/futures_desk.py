"""What stands behind the contracts' markets: orders against margin, fills into positions, and what follows from both.

Pure; time comes in. Every change is told as `News`, in the order in which it happened. The law about orders that may
only close: together they never have more than their position, so what a position loses they lose with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from bot.core.instrument import Side, fee_atoms
from bot.core.orders import OrderState
from bot.exchange.simulated.accounts import Account, Accounts
from bot.exchange.simulated.engine import Fill, Matcher
from bot.exchange.simulated.futures_clearing import Clearing, Execution, Liquidation, Member, PositionChange
from bot.exchange.simulated.futures_instruments import PPM, Contract
from bot.exchange.simulated.futures_margin import Claim, Standing
from bot.exchange.simulated.futures_orders import (
    BAD_PARAMETER,
    BEYOND_PRICE_LIMIT,
    CLIENT_ID_PREFIX,
    CLIENT_ID_TAKEN,
    NO_ASK,
    NO_BID,
    NO_SUCH_ORDER,
    NO_SUCH_POSITION,
    NOT_TRADING,
    NOTHING_TO_CLOSE,
    TOO_LITTLE_MARGIN,
    FillRecord,
    FillType,
    FuturesOrder,
    OrderBookOfOne,
    Refusal,
    Ticket,
)
from bot.exchange.simulated.futures_positions import MarginMode, Position, PositionMode, PosSide
from bot.exchange.simulated.futures_prices import Funding
from bot.exchange.simulated.liquidity import EndReason, Order, StpMode

LIVING_MAX: Final = 200
"""Living orders of one account in one symbol; not in any source."""
LIQUIDATIONS_A_TURN_MAX: Final = 100


class OrderChange(NamedTuple):
    """An order as it was right after a change: `order` itself goes on changing."""

    order: FuturesOrder
    state: OrderState
    filled_lots: int
    filled_value: int
    fee_atoms: int
    ts_ns: int


News = OrderChange | FillRecord | PositionChange | Member
"""What a client hears of; a `Member` says that its account changed."""


class FuturesDesk:
    """All contracts' matchers, and the clearing house behind them."""

    def __init__(self, contracts: Iterable[Contract], accounts: Accounts, marks: Mapping[str, int]) -> None:
        self.accounts = accounts
        self.clearing = Clearing(accounts, marks)
        self.contracts = {contract.symbol: contract for contract in contracts}
        self.matchers: dict[str, Matcher[FuturesOrder]] = {
            symbol: Matcher(symbol, self, accounts.ids, (), ()) for symbol in self.contracts
        }
        self.now_ns = 0
        self.lots_before_cancel: Callable[[Order], int] = lambda _: 0
        """Says how much of an order is filled before its cancel takes effect: a fault."""
        self._marks = marks
        self._orders: dict[int, OrderBookOfOne] = {}
        self._news: list[tuple[Account, News]] = []
        self._touched: dict[Member, None] = {}

    def orders(self, account: Account) -> OrderBookOfOne:
        """Return every order of an account."""
        return self._orders.setdefault(account.number, OrderBookOfOne())

    def claims(self, account: Account) -> list[Claim]:
        """Return what an account's resting orders bind, oldest first."""
        member = self.clearing.member(account)
        return [
            order.claim(member.leverage(order.contract, order.margin_mode, order.pos_side))
            for order in self.orders(account).living.values()
            if order.is_resting
        ]

    def standing(self, account: Account) -> Standing:
        """Return how an account stands at the present marks, its orders counted."""
        return self.clearing.standing(self.clearing.member(account), self.claims(account))

    def take_news(self) -> list[tuple[Account, News]]:
        """Return what happened since the last call, in order: last of all, each account that changed, once."""
        for member in self._touched:
            self._news.append((member.account, member))
        self._touched.clear()
        news, self._news = self._news, []
        return news

    def touch(self, account: Account) -> None:
        """Let an account be told that it changed: money came or went."""
        self._touched[self.clearing.member(account)] = None

    # --- placing

    def place(self, account: Account, ticket: Ticket, now_ns: int) -> FuturesOrder:
        """Take an order and match it.

        Raises:
            Refusal: the account or the market does not allow it; nothing has changed then.

        """
        self.now_ns = now_ns
        order = self._order(account, ticket)
        self._check_market(order)
        if order.only_closes:
            self._cut_to_position(order)
        else:
            self._check_size(order)
        self._check_margin(order)
        mine = self.orders(account)
        order.order_id = self.accounts.ids.next(now_ns)
        order.client_id = ticket.client_id or f"{CLIENT_ID_PREFIX}{order.order_id}"
        mine.living[order.order_id] = order
        mine.by_client_id[order.client_id] = order
        self.matchers[order.symbol].place(order, now_ns)
        return order

    def _order(self, account: Account, ticket: Ticket) -> FuturesOrder:
        member, mine = self.clearing.member(account), self.orders(account)
        contract = ticket.contract
        if ticket.client_id in mine.by_client_id:
            raise Refusal(CLIENT_ID_TAKEN, f"clOrdId {ticket.client_id} is taken")
        pos_side = self._pos_side(member, ticket)
        margin_mode = self._margin_mode(member, contract, ticket.margin_mode)
        living = sum(order.symbol == contract.symbol for order in mine.living.values())
        if living >= LIVING_MAX and ticket.order_type != "MARKET":
            raise Refusal(BAD_PARAMETER, f"more than {LIVING_MAX} open orders of {contract.symbol}")
        return FuturesOrder(
            order_id=0,
            client_id="",
            account=account,
            symbol=contract.symbol,
            side=ticket.side,
            order_type=ticket.order_type,
            time_in_force=ticket.time_in_force,
            price_ticks=ticket.price_ticks,
            qty_lots=ticket.contracts,
            created_ns=self.now_ns,
            updated_ns=self.now_ns,
            stp_mode=ticket.stp_mode,
            contract=contract,
            pos_side=pos_side,
            margin_mode=margin_mode,
            leverage=member.leverage(contract, margin_mode, pos_side),
            is_reduce_only=ticket.is_reduce_only,
        )

    @staticmethod
    def _pos_side(member: Member, ticket: Ticket) -> PosSide:
        if member.mode is PositionMode.ONE_WAY:
            if ticket.pos_side not in (None, PosSide.BOTH):
                raise Refusal(BAD_PARAMETER, f"posSide {ticket.pos_side} in one-way mode")
            return PosSide.BOTH
        if ticket.pos_side in (None, PosSide.BOTH) or ticket.margin_mode is None:
            raise Refusal(BAD_PARAMETER, "mgnMode, and posSide LONG or SHORT, are required in hedge mode")
        assert ticket.pos_side is not None
        return ticket.pos_side

    def _margin_mode(self, member: Member, contract: Contract, asked: MarginMode | None) -> MarginMode:
        """Return the margin mode of an order: all positions and orders of a symbol have the same."""
        used: set[MarginMode] = {position.margin_mode for position in member.positions_of(contract.symbol)}
        mine = self.orders(member.account).living.values()
        used.update(order.margin_mode for order in mine if order.symbol == contract.symbol)
        mode = asked or member.margin_modes.get(contract.symbol, MarginMode.CROSS)
        if asked is None and used:
            (mode,) = used
        if used - {mode}:
            raise Refusal(BAD_PARAMETER, f"{contract.symbol} has a position or orders in another mgnMode than {mode}")
        return mode

    def _check_market(self, order: FuturesOrder) -> None:
        if not order.contract.instrument.is_open or order.symbol not in self._marks:
            raise Refusal(NOT_TRADING, f"{order.symbol} is not trading")
        matcher, mark = self.matchers[order.symbol], self._marks[order.symbol]
        is_buy = order.side is Side.BUY
        if order.order_type == "MARKET":
            if (matcher.asks if is_buy else matcher.bids).best is None:
                raise Refusal(NO_ASK if is_buy else NO_BID, "no ask" if is_buy else "no bid")
            return
        band = mark * order.contract.price_band_ppm // PPM
        # On the good side it may lie as far away as it likes.
        if order.limit_ticks > mark + band if is_buy else order.limit_ticks < mark - band:
            price = order.contract.instrument.price(order.limit_ticks)
            raise Refusal(BEYOND_PRICE_LIMIT, f"px {price} is beyond the price limit")

    def _closable(self, order: FuturesOrder) -> int:
        """Return how many contracts an order could close of its position."""
        position = self.clearing.member(order.account).positions.get(order.key)
        return max(-order.side.sign * position.contracts, 0) if position is not None else 0

    def _cut_to_position(self, order: FuturesOrder) -> None:
        claimed = sum(other.leaves_lots for other in self.orders(order.account).closing(order.key))
        free = self._closable(order) - claimed
        if self._closable(order) <= 0:
            raise Refusal(NOTHING_TO_CLOSE, f"no position in {order.symbol} {order.pos_side} to close")
        if free <= 0:
            raise Refusal(NOTHING_TO_CLOSE, f"other orders close all of {order.symbol} {order.pos_side}")
        assert order.qty_lots is not None
        order.qty_lots = min(order.qty_lots, free)

    def _check_size(self, order: FuturesOrder) -> None:
        """Refuse what would, all filled, be a larger position than its leverage allows."""
        position = self.clearing.member(order.account).positions.get(order.key)
        held = order.side.sign * position.contracts if position is not None else 0
        waiting = sum(
            other.leaves_lots
            for other in self.orders(order.account).living.values()
            if other.key == order.key and other.side is order.side and not other.only_closes
        )
        size, size_max = held + waiting + order.leaves_lots, order.contract.contracts_at(order.leverage)
        if size > size_max:
            raise Refusal(BAD_PARAMETER, f"position {size} > {size_max}, the largest at leverage {order.leverage}")

    def _check_margin(self, order: FuturesOrder) -> None:
        """Refuse what opens more than the account has margin for; closing is always allowed."""
        member, claims = self.clearing.member(order.account), self.claims(order.account)
        candidate = order.claim(order.leverage, self._dearest_ticks(order))
        before = self.clearing.standing(member, claims)
        after = self.clearing.standing(member, [*claims, candidate])
        if after.available < 0 and after.available < before.available:
            raise Refusal(TOO_LITTLE_MARGIN, "the available margin is too low")

    def _dearest_ticks(self, order: FuturesOrder) -> int:
        """Return the price at which an order is counted: a sell may fill above its limit, a market order anywhere."""
        matcher = self.matchers[order.symbol]
        if order.side is Side.BUY:
            best = matcher.asks.best or 0
            return order.price_ticks or max(best, self._marks[order.symbol])
        return max(order.price_ticks or self._marks[order.symbol], matcher.bids.best or 0)

    # --- cancelling and closing

    def cancel(self, account: Account, order_id: str, client_id: str, symbol: str, now_ns: int) -> FuturesOrder:
        """End a living order.

        Raises:
            Refusal: there is none such, or it has ended already.

        """
        order = self.orders(account).find(order_id, client_id)
        if order is None or not order.is_resting or (symbol and order.symbol != symbol):
            raise Refusal(NO_SUCH_ORDER, "the order does not exist or has ended")
        late_lots = self.lots_before_cancel(order)
        if late_lots:
            self.now_ns = now_ns
            self.matchers[order.symbol].fill_from_market(order, late_lots, now_ns)
        if not order.is_resting:
            raise Refusal(NO_SUCH_ORDER, "the order does not exist or has ended")
        self.end(order, now_ns)
        return order

    def end(self, order: FuturesOrder, now_ns: int, reason: EndReason = EndReason.USER) -> None:
        """End a resting order."""
        self.now_ns = now_ns
        self.matchers[order.symbol].cancel(order, now_ns, reason)

    def close(self, account: Account, position: Position, client_id: str, now_ns: int) -> FuturesOrder:
        """Close a position at the market: what would close it otherwise is cancelled first.

        Raises:
            Refusal: the client's id is taken, or nobody is there to trade with.

        """
        self.now_ns = now_ns
        side = Side.SELL if position.contracts > 0 else Side.BUY
        matcher = self.matchers[position.contract.symbol]
        if (matcher.bids if side is Side.SELL else matcher.asks).best is None:
            raise Refusal(NO_BID if side is Side.SELL else NO_ASK, "nobody to close with")
        if client_id in self.orders(account).by_client_id:
            raise Refusal(CLIENT_ID_TAKEN, f"clOrdId {client_id} is taken")
        key = position.contract.symbol, position.pos_side
        for order in self.orders(account).closing(key):
            self.end(order, now_ns, EndReason.SYSTEM)
        ticket = Ticket(
            contract=position.contract,
            side=side,
            order_type="MARKET",
            time_in_force="IOC",
            contracts=position.size,
            price_ticks=None,
            margin_mode=position.margin_mode,
            pos_side=position.pos_side,
            client_id=client_id,
            is_reduce_only=position.pos_side is PosSide.BOTH,
            stp_mode=StpMode.NONE,
        )
        return self.place(account, ticket, now_ns)

    # --- settings

    def set_leverage(
        self, account: Account, contract: Contract, mode: MarginMode, pos_side: PosSide, leverage: int, now_ns: int
    ) -> None:
        """Set the leverage of a position and of those to come.

        Raises:
            Refusal: the instrument, the position's size or the account's margin does not allow it.

        """
        member = self.clearing.member(account)
        if (pos_side is PosSide.BOTH) is not (member.mode is PositionMode.ONE_WAY):
            raise Refusal(BAD_PARAMETER, f"posSide {pos_side} in {member.mode} mode")
        position = member.position(contract.symbol, pos_side)
        size = position.size if position is not None else 0
        if not 1 <= leverage <= contract.leverage_max or size > contract.contracts_at(leverage):
            raise Refusal(BAD_PARAMETER, f"lever {leverage} is not within 1 and {contract.tier(size).leverage_max}")
        old = member.leverage(contract, mode, pos_side)
        before = self.standing(account)
        self.clearing.set_leverage(member, contract, mode, pos_side, leverage, now_ns)
        after = self.standing(account)
        if after.available < min(before.available, 0):
            self._undo_leverage(member, contract, mode, pos_side, old, before.isolated_margin - after.isolated_margin)
            raise Refusal(TOO_LITTLE_MARGIN, f"the available margin is too low for lever {leverage}")
        self._tell_positions()
        self._touched[member] = None

    def _undo_leverage(
        self, member: Member, contract: Contract, mode: MarginMode, pos_side: PosSide, old: int, margin_atoms: int
    ) -> None:
        self.clearing.take_changes()
        member.leverages[contract.symbol, mode, pos_side] = old
        position = member.position(contract.symbol, pos_side)
        if position is not None and position.margin_mode is mode:
            position.leverage = old
            position.margin_atoms += margin_atoms

    def set_mode(self, account: Account, mode: PositionMode) -> None:
        """Set whether the account may be long and short at once.

        Raises:
            Refusal: it has positions or orders.

        """
        member = self.clearing.member(account)
        if mode is not member.mode and (member.positions or self.orders(account).living):
            raise Refusal(BAD_PARAMETER, "posMode changes only without positions and orders")
        member.mode = mode

    def move_margin(self, account: Account, position: Position, atoms: int, now_ns: int) -> None:
        """Put margin into an isolated position, or take it out where `atoms` < 0.

        Raises:
            Refusal: the position is not isolated, or there is not as much to move.

        """
        member = self.clearing.member(account)
        mark = self._marks[position.contract.symbol]
        if not position.is_isolated:
            raise Refusal(BAD_PARAMETER, f"{position.contract.symbol} is not ISOLATED")
        if atoms > self.standing(account).transferable or -atoms > position.removable_atoms(mark):
            raise Refusal(TOO_LITTLE_MARGIN, "there is not as much margin to move")
        self.clearing.move_margin(member, position, atoms, now_ns)
        self._tell_positions()
        self._touched[member] = None

    def position(self, account: Account, symbol: str, pos_side: PosSide | None) -> Position:
        """Return an open position; without a side, the only one of the symbol.

        Raises:
            Refusal: there is none, or there are two and no side.

        """
        member = self.clearing.member(account)
        found = [one for one in member.positions_of(symbol) if pos_side in (None, one.pos_side)]
        if not found:
            raise Refusal(NO_SUCH_POSITION, f"no position in {symbol}")
        if len(found) > 1:
            raise Refusal(BAD_PARAMETER, "posSide is missing")
        return found[0]

    # --- what time brings

    def fund(self, contract: Contract, funding: Funding) -> None:
        """Let every position of a contract pay or receive."""
        self.clearing.fund(contract, funding)
        self._tell_positions()

    def liquidate(self, now_ns: int) -> None:
        """Liquidate all that has lost its backing at the present marks: its orders end first."""
        self.now_ns = now_ns
        for member in tuple(self.clearing.members.values()):
            for _ in range(LIQUIDATIONS_A_TURN_MAX):
                if not (doomed := self.clearing.doomed(member)):
                    break
                symbols = {position.contract.symbol for position in doomed if position.is_isolated}
                for order in tuple(self.orders(member.account).living.values()):
                    if order.is_resting and (order.symbol in symbols or not symbols):
                        self.end(order, now_ns, EndReason.SYSTEM)
                for liquidation in self.clearing.liquidate(member, doomed, now_ns):
                    self._tell_liquidation(liquidation)
                self._tell_positions()
            self.clearing.cover(member)

    def _tell_liquidation(self, liquidation: Liquidation) -> None:
        trade_id, account = self.accounts.ids.next(liquidation.ts_ns), liquidation.account
        record = FillRecord(
            fill_id=trade_id,
            trade_id=trade_id,
            order_id=trade_id,
            client_id=f"{CLIENT_ID_PREFIX}{trade_id}",
            contract=liquidation.contract,
            side=Side.SELL if liquidation.contracts > 0 else Side.BUY,
            order_type="MARKET",
            pos_side=liquidation.pos_side,
            margin_mode=liquidation.margin_mode,
            is_maker=False,
            price_ticks=liquidation.bankruptcy_ticks,
            contracts=abs(liquidation.contracts),
            fee_atoms=0,
            fee_ppm=0,
            ts_ns=liquidation.ts_ns,
            type=FillType.LIQUIDATION,
        )
        self.orders(account).fills.append(record)
        self._news.append((account, record))

    def _tell_positions(self) -> None:
        for change in self.clearing.take_changes():
            self._news.append((change.member.account, change))
            self._touched[change.member] = None

    def _tell_order(self, order: FuturesOrder) -> None:
        values = order.state, order.filled_lots, order.filled_value, order.fee_atoms, order.updated_ns
        self._news.append((order.account, OrderChange(order, *values)))
        self.touch(order.account)

    # --- what the matchers say

    def fillable_lots(self, order: FuturesOrder, price_ticks: int, lots: int) -> int:
        """Return how many of `lots` an order can fill: one that only closes has at most its position."""
        return min(lots, self._closable(order)) if order.only_closes else lots

    def on_placed(self, order: FuturesOrder) -> None:
        """Tell that an order was accepted."""
        self._tell_order(order)

    def on_fill(self, fill: Fill[FuturesOrder]) -> None:
        """Book both sides of a trade that clients have."""
        for order, is_maker in ((fill.taker, False), (fill.maker, True)):
            if order is not None:
                self._book(order, fill, is_maker=is_maker)
        for order in (fill.taker, fill.maker):
            if order is not None:
                self._trim_closing(order)

    def on_ended(self, order: FuturesOrder) -> None:
        """Forget an order that ended before it was filled."""
        self._finish(order)
        self._tell_order(order)

    def _book(self, order: FuturesOrder, fill: Fill[FuturesOrder], *, is_maker: bool) -> None:
        contract = order.contract
        fee_ppm = contract.maker_fee_ppm if is_maker else contract.taker_fee_ppm
        fee = fee_atoms(contract.value_atoms(fill.price_ticks, fill.qty_lots), fee_ppm)
        signed = order.side.sign * fill.qty_lots
        sides = order.pos_side, order.margin_mode
        execution = Execution(contract, *sides, signed, fill.price_ticks, fee, fill.ts_ns)
        self.clearing.execute(self.clearing.member(order.account), execution)
        order.fee_atoms += fee
        if order.state is OrderState.FILLED:
            self._finish(order)
        self._tell_order(order)
        record = FillRecord(
            fill_id=self.accounts.ids.next(fill.ts_ns),
            trade_id=fill.trade_id,
            order_id=order.order_id,
            client_id=order.client_id,
            contract=contract,
            side=order.side,
            order_type=order.order_type,
            pos_side=order.pos_side,
            margin_mode=order.margin_mode,
            is_maker=is_maker,
            price_ticks=fill.price_ticks,
            contracts=fill.qty_lots,
            fee_atoms=fee,
            fee_ppm=fee_ppm,
            ts_ns=fill.ts_ns,
        )
        self.orders(order.account).fills.append(record)
        self._news.append((order.account, record))
        self._tell_positions()

    def _finish(self, order: FuturesOrder) -> None:
        mine = self.orders(order.account)
        if mine.living.pop(order.order_id, None) is not None:
            mine.finished.append(order)

    def _trim_closing(self, filled: FuturesOrder) -> None:
        """End the newest of the orders that only close, as long as they have more than their position."""
        closing = [order for order in self.orders(filled.account).closing(filled.key) if order.is_resting]
        for order in reversed(closing):
            same = (other for other in closing if other.is_resting and other.side is order.side)
            if sum(other.leaves_lots for other in same) > self._closable(order):
                self.end(order, self.now_ns, EndReason.SYSTEM)
