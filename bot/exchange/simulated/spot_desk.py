"""The spot desk: clients' orders on every market, their money, and the news of both. A pure machine.

It stands between the market source and the `Venue`: as long as nobody trades in a market, events pass through
untouched; from the first order on they go through that market's `Matcher`, and what comes out is what the public sees.
Time is the exchange's: it grows with events and with `advance`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NamedTuple

import msgspec

from bot.core.instrument import Instrument, Side, fee_atoms
from bot.core.orders import OrderState
from bot.exchange.simulated.accounts import Account, Accounts, AccountType, Transfer
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.engine import Fill, Matcher
from bot.exchange.simulated.events import BookSnapshot, MarketEvent, MarketTrade
from bot.exchange.simulated.liquidity import EndReason, Order
from bot.exchange.simulated.spot_orders import OrderTerms
from bot.exchange.simulated.spot_rows import (
    BalanceEvent,
    Execution,
    MatchRole,
    balance_frame,
    order_frame,
)
from bot.exchange.simulated.venue import Publication, Topic, Venue

OPEN_ORDERS_MAX: Final = 2_000
FINISHED_KEPT: Final = 100_000
"""Newest finished orders, and fills, that an account can ask for."""
CANCEL_DELAY_NS: Final = 5_000_000
ORDERS_CHANNEL: Final = "orders"
BALANCES_CHANNEL: Final = "balances"
NO_SYMBOL: Final = ""
"""The symbol of a topic that is not of one market."""
_SPOT: Final = AccountType.SPOT


def private_topic(channel: str, account: Account, symbol: str = NO_SYMBOL) -> Topic:
    """Return the topic of a private channel, which is one account's own."""
    return f"{channel}@{account.number}", symbol


class SpotTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the spot exchange charges, and how fast it is."""

    maker_fee_ppm: int = 1_450
    """Millionths of what is received. The defaults are those of the exchange's own examples."""
    taker_fee_ppm: int = 1_550
    cancel_delay_ns: int = CANCEL_DELAY_NS
    """How long after its answer a cancel takes effect: so long it can lose to a fill."""


@dataclass(slots=True)
class Folder:
    """All orders and fills of one account."""

    orders: dict[int, Order] = field(default_factory=dict[int, Order])
    """Oldest first; of finished ones, the newest."""
    living: dict[int, Order] = field(default_factory=dict[int, Order])
    by_client_id: dict[str, int] = field(default_factory=dict[str, int])
    """Every client id that was ever used, with its order's id."""
    finished: deque[int] = field(default_factory=deque[int])
    executions: deque[Execution] = field(default_factory=lambda: deque[Execution](maxlen=FINISHED_KEPT))

    def finish(self, order: Order) -> None:
        """Count an order as finished, and forget the oldest when there are too many."""
        del self.living[order.order_id]
        self.finished.append(order.order_id)
        if len(self.finished) > FINISHED_KEPT:
            del self.orders[self.finished.popleft()]


class _Due(NamedTuple):
    """Something to be done at a time."""

    due_ns: int
    number: int
    do: Callable[[], None]


class SpotDesk:
    """Places, matches, settles and cancels. What it has to say collects in `out`, in order."""

    def __init__(self, venue: Venue, accounts: Accounts, terms: SpotTerms, wanted: Container[Topic]) -> None:
        self.venue = venue
        self.accounts = accounts
        self.terms = terms
        self.out: list[Publication] = []
        self.is_running = True
        """Time passes; while it stands still, nothing is delayed."""
        self.on_trade: Callable[[str, int], None] | None = None
        """Called with (symbol, price_ticks) of every public trade, after all news of it."""
        self.futures_free: Callable[[Account, str], int] | None = None
        """Says how much of a currency may leave futures; None: all that is available."""
        self.lots_before_cancel: Callable[[Order], int] = lambda _: 0
        """Says how much of an order is filled before its cancel takes effect: a fault."""
        self.refuses_orders: Callable[[], bool] = lambda: False
        """Says whether maintenance refuses what a socket asks of orders: a fault."""
        self.refuses_takers: Callable[[], bool] = lambda: False
        """Says whether post-only mode refuses an order that could take: a fault."""
        self._wanted = wanted
        self._matchers: dict[str, Matcher[Order]] = {}
        self._folders: dict[Account, Folder] = {}
        self._timers: list[_Due] = []
        self._timers_set = 0
        self._news: list[Publication] = []
        self._prices: deque[tuple[str, int]] = deque()
        self._is_telling = False

    @property
    def now_ns(self) -> int:
        """Return the exchange's time."""
        return self.venue.time_ns

    def instrument(self, symbol: str) -> Instrument:
        """Return the instrument of a listed market."""
        return self.venue.markets[symbol].instrument

    def folder(self, account: Account) -> Folder:
        """Return an account's orders and fills."""
        return self._folders.setdefault(account, Folder())

    # --- time and the replayed market

    @property
    def due_ns(self) -> int | None:
        """Return when the next thing is to be done that no event does."""
        return self._timers[0].due_ns if self._timers else None

    def at(self, due_ns: int, do: Callable[[], None]) -> None:
        """Let `do` be called when the exchange's time is `due_ns`."""
        self._timers_set += 1
        heapq.heappush(self._timers, _Due(due_ns, self._timers_set, do))

    def advance(self, now_ns: int) -> None:
        """Let the time be `now_ns`, if that is later; do what is due."""
        self._do_due(now_ns)
        self.out += self.venue.advance(now_ns, self._wanted)

    def apply(self, event: MarketEvent) -> None:
        """Take the next event of the source."""
        self._do_due(event.ts_ns)
        matcher = self._matchers.get(event.symbol)
        if matcher is None:
            self.out += self.venue.apply(event, self._wanted)
            if isinstance(event, MarketTrade):
                self._tell_trade(event)
            return
        self.venue.events_done += 1
        self.venue.time_ns = max(self.venue.time_ns, event.ts_ns)
        matcher.replay(event)
        self._publish(matcher, self.now_ns)
        self.out += self.venue.advance(event.ts_ns, self._wanted)

    def _do_due(self, now_ns: int) -> None:
        while self._timers and self._timers[0].due_ns <= now_ns:
            due = heapq.heappop(self._timers)
            self.out += self.venue.advance(due.due_ns, self._wanted)
            due.do()

    # --- orders

    def place(self, account: Account, terms: OrderTerms, source: str = "API") -> Order:
        """Take an order; what becomes of it is news.

        Raises:
            Refusal: the market's mode, too many orders, a client id that was used before, or too little money.

        """
        self._check_mode(terms)
        folder = self.folder(account)
        if len(folder.living) >= OPEN_ORDERS_MAX:
            raise refused(Code.OPEN_ORDERS_MAX)
        if terms.client_id and terms.client_id in folder.by_client_id:
            raise refused(Code.CLIENT_ID_TAKEN, terms.client_id)
        currency, atoms = terms.frozen
        if not self.accounts.freeze(account, _SPOT, currency, atoms):
            raise refused(Code.AVAILABLE_TOO_LOW, currency)
        order = Order(
            order_id=self.accounts.ids.next(self.now_ns),
            client_id=terms.client_id,
            account=account,
            symbol=terms.instrument.symbol,
            side=terms.side,
            order_type=terms.order_type,
            time_in_force=terms.time_in_force,
            price_ticks=terms.price_ticks,
            qty_lots=terms.qty_lots,
            budget_atoms=terms.budget_atoms,
            stp_mode=terms.stp_mode,
            slippage_ppb=terms.slippage_ppb,
            source=source,
            reserved_atoms=atoms,
            created_ns=self.now_ns,
            updated_ns=self.now_ns,
        )
        folder.orders[order.order_id] = folder.living[order.order_id] = order
        if order.client_id:
            folder.by_client_id[order.client_id] = order.order_id
        matcher = self._matcher(order.symbol)
        matcher.place(order, self.now_ns)
        self._publish(matcher, self.now_ns)
        return order

    def cancel(self, order: Order) -> None:
        """Ask for the end of an order, which comes a little later if nothing else comes first.

        Raises:
            Refusal: it has ended.

        """
        if order.state.is_final:
            raise refused(Code.ALREADY_FINISHED, str(order.order_id))
        if order.cancel_due_ns is not None:
            return
        delay_ns = self.terms.cancel_delay_ns if self.is_running else 0
        order.cancel_due_ns = self.now_ns + delay_ns
        late_lots = self.lots_before_cancel(order)
        if delay_ns:
            if late_lots:
                self.at(self.now_ns + delay_ns // 2, partial(self._fill_late, order, late_lots))
            self.at(order.cancel_due_ns, partial(self._end, order))
        else:
            self._fill_late(order, late_lots)
            self._end(order)

    def replace(self, order: Order, terms: OrderTerms, *, proceeds_on_failure: bool) -> Order:
        """End an order at once and place another one for it: both, or neither.

        Raises:
            Refusal: the new order would be refused, or the old one has ended and we do not proceed on failure.

        """
        self._check_mode(terms)
        folder = self.folder(order.account)
        if order.state.is_final and not proceeds_on_failure:
            raise refused(Code.ALREADY_FINISHED, str(order.order_id))
        if terms.client_id and terms.client_id in folder.by_client_id:
            raise refused(Code.CLIENT_ID_TAKEN, terms.client_id)
        currency, atoms = terms.frozen
        if order.account.wallet(_SPOT, currency).available_atoms + order.reserved_atoms < atoms:
            raise refused(Code.AVAILABLE_TOO_LOW, currency)
        self._end(order)
        return self.place(order.account, terms)

    def _check_mode(self, terms: OrderTerms) -> None:
        if terms.order_type != "LIMIT_MAKER" and (terms.instrument.is_post_only or self.refuses_takers()):
            raise refused(Code.POST_ONLY, terms.instrument.symbol)

    def _fill_late(self, order: Order, lots: int) -> None:
        """Fill a part of an order that is being cancelled, if it still lives."""
        if lots and not order.state.is_final:
            matcher = self._matcher(order.symbol)
            matcher.fill_from_market(order, lots, self.now_ns)
            self._publish(matcher, self.now_ns)

    def _end(self, order: Order) -> None:
        """End an order, if it still lives: a cancel can lose to a fill."""
        if order.state.is_final:
            return
        matcher = self._matcher(order.symbol)
        matcher.cancel(order, self.now_ns, EndReason.USER)
        self._publish(matcher, self.now_ns)

    def _matcher(self, symbol: str) -> Matcher[Order]:
        matcher = self._matchers.get(symbol)
        if matcher is None:
            book = self.venue.markets[symbol].book
            if not book.is_known:
                self.out += self.venue.publish(BookSnapshot(self.now_ns, symbol, (), ()), self._wanted)
            bids, asks = book.bids.top(len(book.bids)), book.asks.top(len(book.asks))
            matcher = self._matchers[symbol] = Matcher(symbol, self, self.accounts.ids, bids, asks)
        return matcher

    # --- what the matcher asks and tells

    def fillable_lots(self, order: Order, price_ticks: int, lots: int) -> int:
        """Return how many of `lots` an order can pay for."""
        if order.qty_lots is not None:
            return lots
        instrument = self.instrument(order.symbol)
        left_atoms = order.budget_atoms - instrument.notional_atoms(order.filled_value, 1)
        return min(lots, left_atoms // instrument.notional_atoms(price_ticks, 1))

    def on_placed(self, order: Order) -> None:
        """Tell of a new order."""
        self._tell_order(order, "place", None)
        self._tell_balances(BalanceEvent.PLACE)

    def on_ended(self, order: Order) -> None:
        """Make what is left of an order's money available again."""
        self._release(order, order.reserved_atoms)
        self.folder(order.account).finish(order)
        self._tell_order(order, "canceled", None)
        self._tell_balances(BalanceEvent.CANCEL)

    def on_fill(self, fill: Fill[Order]) -> None:
        """Move money and coins between the two sides, and the fees; then tell both."""
        instrument = self.instrument(fill.symbol)
        cost_atoms = instrument.notional_atoms(fill.price_ticks, fill.qty_lots)
        coin_atoms = fill.qty_lots * instrument.base_atoms_per_lot
        is_taker_buying = fill.taker_side is Side.BUY
        buying, selling = (fill.taker, fill.maker) if is_taker_buying else (fill.maker, fill.taker)
        house = self.accounts.house
        buyer = buying.account if buying is not None else house
        seller = selling.account if selling is not None else house
        if buying is not None:
            limit = buying.price_ticks
            frozen = cost_atoms if limit is None else instrument.notional_atoms(limit, fill.qty_lots)
            self._release(buying, frozen)
        if selling is not None:
            self._release(selling, coin_atoms)
        self.accounts.pay(buyer, seller, _SPOT, instrument.quote, cost_atoms)
        self.accounts.pay(seller, buyer, _SPOT, instrument.base, coin_atoms)
        taken, made = (coin_atoms, cost_atoms) if is_taker_buying else (cost_atoms, coin_atoms)
        executions: list[Execution] = []
        if fill.taker is not None:
            executions.append(self._charge(fill, fill.taker, "TAKER", taken))
        if fill.maker is not None:
            executions.append(self._charge(fill, fill.maker, "MAKER", made))
        for execution in executions:
            self._tell_order(execution.order, "trade", execution)
        self._tell_balances(BalanceEvent.MATCH)

    def _charge(self, fill: Fill[Order], order: Order, role: MatchRole, received_atoms: int) -> Execution:
        """Take the fee out of what an order received, and close the order if it is filled."""
        instrument = self.instrument(order.symbol)
        currency = instrument.base if order.side is Side.BUY else instrument.quote
        fee_ppm = self.terms.maker_fee_ppm if role == "MAKER" else self.terms.taker_fee_ppm
        fee = fee_atoms(received_atoms, fee_ppm)
        self.accounts.pay(order.account, self.accounts.fees, _SPOT, currency, fee)
        folder = self.folder(order.account)
        if order.state is OrderState.FILLED:
            self._release(order, order.reserved_atoms)
            folder.finish(order)
        execution = Execution(fill.trade_id, fill.ts_ns, order, role, fill.price_ticks, fill.qty_lots, currency, fee)
        folder.executions.append(execution)
        return execution

    def _release(self, order: Order, atoms: int) -> None:
        if atoms:
            instrument = self.instrument(order.symbol)
            currency = instrument.quote if order.side is Side.BUY else instrument.base
            order.reserved_atoms -= atoms
            self.accounts.release(order.account, _SPOT, currency, atoms)

    # --- news

    def transfer(
        self, account: Account, source: AccountType, target: AccountType, currency: str, atoms: int
    ) -> Transfer:
        """Move money between the sides of an account.

        Raises:
            Refusal: there is too little.

        """
        is_free = source is _SPOT or self.futures_free is None or self.futures_free(account, currency) >= atoms
        transfer = None
        if is_free:
            transfer = self.accounts.transfer(account, source, target, currency, atoms, self.now_ns)
        if transfer is None:
            raise refused(Code.BALANCE_TOO_LOW, currency)
        self._tell_balances(BalanceEvent.TRANSFER_OUT if source is _SPOT else BalanceEvent.TRANSFER_IN)
        self.out += self._news
        self._news.clear()
        return transfer

    def _publish(self, matcher: Matcher[Order], now_ns: int) -> None:
        """Tell the public what a market did, then the clients, then whoever waits for a price."""
        events = matcher.take_public(now_ns)
        for event in events:
            self.out += self.venue.publish(event, self._wanted)
        self.out += self._news
        self._news.clear()
        for event in events:
            if isinstance(event, MarketTrade):
                self._tell_trade(event)

    def _tell_trade(self, trade: MarketTrade) -> None:
        """Tell the price of a trade; one trade may make another, so they are told in a row, not in each other."""
        if self.on_trade is None:
            return
        self._prices.append((trade.symbol, trade.price_ticks))
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._prices:
                self.on_trade(*self._prices.popleft())
        finally:
            self._is_telling = False

    def _tell_order(
        self, order: Order, event_type: Literal["place", "trade", "canceled"], execution: Execution | None
    ) -> None:
        topic = private_topic(ORDERS_CHANNEL, order.account, order.symbol)
        if topic in self._wanted:
            market = self.venue.markets[order.symbol]
            frame = order_frame(market, order, event_type, execution, self.venue.time_ms)
            self._news.append(Publication(*topic, frame))

    def _tell_balances(self, event: BalanceEvent) -> None:
        for account, currency in self.accounts.take_touched(_SPOT):
            topic = private_topic(BALANCES_CHANNEL, account)
            if topic in self._wanted:
                change_id = self.accounts.ids.next(self.now_ns)
                frame = balance_frame(account, currency, event, change_id, self.venue.time_ms)
                self._news.append(Publication(*topic, frame))
