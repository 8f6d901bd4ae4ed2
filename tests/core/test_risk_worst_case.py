"""R1 and R4 against an exchange of their own: whatever fills, and whatever is heard late, the bounds hold there.

The model is the truth: an order arrives or does not, fills in parts and ends; what it says of that lies in a heap, of
which anything may be delivered next: a fill after the end of its order included. The gate knows only what it was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import RiskGate
from tests.support.builders import BTC, ETH, NOW_NS, command, event, fill, limits, listed, quote, recovered, signal

S = OrderState
SYMBOLS = (BTC, ETH)
POSITION_LOTS = 40
"""Of one symbol, at 100 each: 40 % of 10,000."""
GROSS_LOTS = 60
picks = st.integers(0, 10**6)


@dataclass
class Order:
    """An order as the exchange has it."""

    intent: OrderIntent
    filled: int = 0
    has_arrived: bool = False
    is_over: bool = False

    @property
    def leaves(self) -> int:
        return 0 if self.is_over else self.intent.qty_lots - self.filled

    @property
    def key(self) -> tuple[str, str]:
        return self.intent.strategy, self.intent.symbol


@dataclass
class Exchange:
    """The truth: orders, and what is held of each symbol by whose order."""

    orders: list[Order] = field(default_factory=list[Order])
    held: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def lots(self, symbol: str) -> int:
        return sum(lots for key, lots in self.held.items() if key[1] == symbol)

    def worst(self, symbol: str) -> int:
        """Return the most that the position can come to by what lives or is on its way."""
        flying = [order for order in self.orders if order.intent.symbol == symbol and not order.intent.is_reduce_only]
        buys = sum(order.leaves for order in flying if order.intent.side is Side.BUY)
        sells = sum(order.leaves for order in flying if order.intent.side is Side.SELL)
        lots = self.lots(symbol)
        return max(abs(lots + buys), abs(lots - sells))


class WorstCase(RuleBasedStateMachine):
    """Prices stand still and cost nothing, so equity stays 10,000 and a bound is a number of lots."""

    is_perp = True

    @initialize()
    def begin(self) -> None:
        self.gate = RiskGate(
            limits(
                max_position_bps=POSITION_LOTS * 100,
                max_gross_bps=GROSS_LOTS * 100,
                collar_bps=200,
                stale_ns=10**18,
                intent_ttl_ns=10**18,
                leverage=5,
                max_unknown_orders=2,
            )
        )
        self.exchange = Exchange()
        self.now_ns = NOW_NS
        self.heap: list[m.OrderEvent | m.Fill] = []
        self.booked: dict[tuple[str, str], int] = {}
        self.cash = 10_000 * ATOMS
        self.trades = 0
        self.say(recovered())
        for symbol in SYMBOLS:
            self.say(listed(symbol, is_perp=self.is_perp), quote(symbol=symbol))

    def say(self, *messages: m.AnyMessage) -> None:
        for message in messages:
            for said in self.gate.handle(message):
                if isinstance(said, m.OrderApproved):
                    self.approve(said.intent)
                elif isinstance(said, m.CancelRequested):
                    pass  # the exchange may cancel whatever it likes, also what nobody asked for

    def approve(self, intent: OrderIntent) -> None:
        held = abs(self.gate.account.held.get((intent.strategy, intent.symbol), 0)) // ATOMS
        if intent.is_reduce_only or not intent.reserved_atoms:
            # R4: what only reduces is together no more than what is held; of two guards one closes, and the other goes.
            own = self.gate.account.orders_of(intent.strategy, intent.symbol)
            closing = sum(
                order.record.leaves_lots
                for order in own
                if order.record.intent.side is intent.side and order.record.intent.role in {"trade", intent.role}
            )
            assert closing <= held, f"{closing} lots would close {held}"
        self.exchange.orders.append(Order(intent))

    # --- what strategies and operators want

    @rule(
        strategy=st.sampled_from(["one", "one", "two"]),
        symbol=st.sampled_from([BTC, BTC, ETH]),
        lots=st.one_of(st.sampled_from([-38, -20, 0, 20, 38]), st.integers(-50, 50)),
        is_passive=st.booleans(),
        has_guards=st.booleans(),
        limit=st.sampled_from([0, 0, 100]),
    )
    def wish(self, strategy: str, symbol: str, lots: int, is_passive: bool, has_guards: bool, limit: int) -> None:
        target = lots if self.is_perp else abs(lots)
        away = 10 if target > 0 else -10
        self.say(
            signal(
                target,
                strategy=strategy,
                symbol=symbol,
                is_passive=is_passive,
                at_ns=self.now_ns,
                limit_ticks=limit if target > 0 else 0,
                stop_ticks=100 - away if has_guards else 0,
                profit_ticks=100 + away if has_guards else 0,
            )
        )

    @rule(verb=st.sampled_from(["resume", "resume", "resume", "resume", "reduce", "halt"]))
    def operate(self, verb: m.OperatorVerb) -> None:
        self.say(command(verb, at_ns=self.now_ns))

    @rule(seconds=st.integers(1, 10))
    def let_time_pass(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND_NS
        self.say(m.Tick(ts_ns=self.now_ns))

    # --- what the exchange does

    def pick(self, number: int, *, has_arrived: bool) -> Order | None:
        living = [each for each in self.exchange.orders if not each.is_over and each.has_arrived is has_arrived]
        return living[number % len(living)] if living else None

    @precondition(lambda self: self.pick(0, has_arrived=False) is not None)
    @rule(number=picks, is_taken=st.sampled_from([True, True, True, False]))
    def arrive(self, number: int, is_taken: bool) -> None:
        order = self.pick(number, has_arrived=False)
        assert order is not None
        if is_taken:
            order.has_arrived = True
            self.heap.append(event(order.intent, S.NEW))
        else:
            order.is_over = True
            self.heap.append(event(order.intent, S.REJECTED))

    @rule(number=picks, has_arrived=st.booleans())
    def doubt(self, number: int, has_arrived: bool) -> None:
        order = self.pick(number, has_arrived=has_arrived)
        if order is not None:
            self.say(event(order.intent, S.UNKNOWN))

    @precondition(lambda self: self.pick(0, has_arrived=True) is not None)
    @rule(number=picks, share=st.sampled_from([10, 50, 100]))
    def trade(self, number: int, share: int) -> None:
        order = self.pick(number, has_arrived=True)
        assert order is not None
        lots = self.cut(order, max(order.leaves * share // 100, 1))
        if lots:
            order.filled += lots
            self.exchange.held[order.key] = self.exchange.held.get(order.key, 0) + order.intent.side.sign * lots
            self.trades += 1
            self.heap.append(fill(order.intent, lots, trade_id=str(self.trades)))
        if not order.leaves:
            order.is_over = True
            self.heap.append(event(order.intent, S.FILLED, order.filled))

    def cut(self, order: Order, lots: int) -> int:
        """Cut what only reduces to what is held there, and on spot what is sold to the coins that are there."""
        held = self.exchange.held.get(order.key, 0)
        if order.intent.is_reduce_only or (not self.is_perp and order.intent.side is Side.SELL):
            return min(lots, max(-order.intent.side.sign * held, 0))
        return lots

    @precondition(lambda self: self.pick(0, has_arrived=True) is not None)
    @rule(number=picks)
    def end(self, number: int) -> None:
        order = self.pick(number, has_arrived=True)
        assert order is not None
        order.is_over = True
        self.heap.append(event(order.intent, S.PARTIALLY_CANCELED if order.filled else S.CANCELED, order.filled))

    # --- what the gate hears

    @precondition(lambda self: bool(self.heap))
    @rule(number=picks)
    def deliver(self, number: int) -> None:
        self.hear(self.heap.pop(number % len(self.heap)))

    @precondition(lambda self: bool(self.heap))
    @rule()
    def deliver_the_newest(self) -> None:
        self.hear(self.heap.pop())

    @precondition(lambda self: bool(self.heap))
    @rule()
    def deliver_all(self) -> None:
        while self.heap:
            self.hear(self.heap.pop(0))

    def hear(self, message: m.OrderEvent | m.Fill) -> None:
        if isinstance(message, m.OrderEvent):
            self.say(message)
            return
        order = next(each for each in self.exchange.orders if each.intent.client_id == message.client_id)
        self.booked[order.key] = self.booked.get(order.key, 0) + message.side.sign * message.qty_lots
        if not self.is_perp:
            self.cash -= message.side.sign * message.qty_lots * 100 * ATOMS
        self.say(
            m.FillBooked(
                ts_ns=self.now_ns,
                fill=message,
                strategy=order.intent.strategy,
                strategy_atoms=self.booked[order.key] * ATOMS,
                cash_atoms=self.cash,
            )
        )

    # --- the laws

    @invariant()
    def R1_exposure_at_the_exchange_never_passes_the_limit(self) -> None:
        if not hasattr(self, "exchange"):
            return
        worst = {symbol: self.exchange.worst(symbol) for symbol in SYMBOLS}
        assert max(worst.values()) <= POSITION_LOTS, worst
        assert sum(worst.values()) <= GROSS_LOTS, worst

    @invariant()
    def R4_what_only_reduces_never_turns_a_position_round(self) -> None:
        if hasattr(self, "exchange") and not self.is_perp:
            assert min(self.exchange.held.values(), default=0) >= 0

    @invariant()
    def what_the_gate_holds_is_what_it_was_told(self) -> None:
        if hasattr(self, "exchange"):
            assert {key: lots * ATOMS for key, lots in self.booked.items()} == self.gate.account.held
            assert self.gate.account.free_atoms >= 0


class WorstCaseOnSpot(WorstCase):
    """The same with coins, of which no more can be sold than there are."""

    is_perp = False


TestR1R4OnPerpetuals = WorstCase.TestCase
TestR1R4OnPerpetuals.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestR1R4OnSpot = WorstCaseOnSpot.TestCase
TestR1R4OnSpot.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
