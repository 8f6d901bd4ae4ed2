"""Messages and machines, filled with what a test does not care about.

One tick is one unit of quote currency and one lot one coin, unless a test says otherwise: 10 lots at 100 are 1000.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import Machine, Stage, readers
from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.ledger import Ledger
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.messages import SECOND_NS
from bot.core.orders import OrderIntent, OrderRecord, OrderState, client_id
from bot.core.risk import Limits, RiskGate

BTC = "BTC_USDT"
ETH = "ETH_USDT"
NOW_NS = 1_700_000_000 * SECOND_NS
"""2023-11-14 22:13:20 UTC."""
MS_NS = 1_000_000

T = TypeVar("T")


def only(items: Iterable[object], kind: type[T]) -> T:
    """Return the one item of a kind."""
    (found,) = [item for item in items if isinstance(item, kind)]
    return found


def all_of(items: Iterable[object], kind: type[T]) -> list[T]:
    """Return the items of a kind, in order."""
    return [item for item in items if isinstance(item, kind)]


def say(machine: Machine, *messages: m.AnyMessage) -> list[m.AnyMessage]:
    """Return all that a machine answers to some messages."""
    return [output for message in messages for output in machine.handle(message)]


# --- messages


def instrument(symbol: str = BTC, **changes: Any) -> Instrument:
    base, _, quote_coin = symbol.partition("_")
    made = Instrument(
        symbol=symbol,
        base=base,
        quote=quote_coin,
        price_scale=0,
        quantity_scale=0,
        qty_lots_min=1,
        notional_atoms_min=ATOMS,
    )
    return msgspec.structs.replace(made, **changes)


def listed(symbol: str = BTC, **changes: Any) -> m.InstrumentListed:
    return m.InstrumentListed(ts_ns=NOW_NS, instrument=instrument(symbol, **changes))


def tick(at_ns: int = NOW_NS) -> m.Tick:
    return m.Tick(ts_ns=at_ns)


def quote(bid: int = 99, ask: int = 101, *, symbol: str = BTC, at_ns: int = NOW_NS) -> m.Quote:
    return m.Quote(ts_ns=at_ns, symbol=symbol, bid_ticks=bid, bid_lots=1, ask_ticks=ask, ask_lots=1)


def depth(
    bids: Iterable[tuple[int, int]] = ((99, 10),),
    asks: Iterable[tuple[int, int]] = ((101, 10),),
    *,
    symbol: str = BTC,
    at_ns: int = NOW_NS,
) -> m.Depth:
    return m.Depth(ts_ns=at_ns, symbol=symbol, bids=tuple(bids), asks=tuple(asks))


def book_lost(symbol: str = BTC, *, at_ns: int = NOW_NS) -> m.BookLost:
    return m.BookLost(ts_ns=at_ns, symbol=symbol, reason="gap")


def trade(
    price: int, qty: int, taker: Side = Side.SELL, *, symbol: str = BTC, at_ns: int = NOW_NS, trade_id: str = "t"
) -> m.TradeTick:
    return m.TradeTick(ts_ns=at_ns, symbol=symbol, trade_id=trade_id, price_ticks=price, qty_lots=qty, taker_side=taker)


def signal(
    target: int,
    *,
    strategy: str = "one",
    symbol: str = BTC,
    price: int = 100,
    is_passive: bool = False,
    at_ns: int = NOW_NS,
    **changes: Any,
) -> m.Signal:
    made = m.Signal(
        ts_ns=at_ns, strategy=strategy, symbol=symbol, target_lots=target, price_ticks=price, is_passive=is_passive
    )
    return msgspec.structs.replace(made, **changes)


def command(verb: m.OperatorVerb, *, at_ns: int = NOW_NS) -> m.OperatorCommand:
    return m.OperatorCommand(ts_ns=at_ns, verb=verb, command_id="")


def buy(qty: int, price: int | None = None, **changes: Any) -> OrderIntent:
    return order(Side.BUY, qty, price, **changes)


def sell(qty: int, price: int | None = None, **changes: Any) -> OrderIntent:
    return order(Side.SELL, qty, price, **changes)


def order(side: Side, qty: int, price: int | None, *, number: int = 1, **changes: Any) -> OrderIntent:
    """Return an order: without a price a market order that may spend a great deal, with one a limit order."""
    worst = 1_000_000 if price is None else price * qty
    made = OrderIntent(
        client_id=client_id(1, number),
        strategy="one",
        symbol=BTC,
        side=side,
        order_type="MARKET" if price is None else "LIMIT",
        time_in_force="IOC" if price is None else "GTC",
        qty_lots=qty,
        price_ticks=price,
        reserved_atoms=worst * ATOMS if side is Side.BUY else 0,
    )
    return msgspec.structs.replace(made, **changes)


def approved(intent: OrderIntent, *, at_ns: int = NOW_NS) -> m.OrderApproved:
    return m.OrderApproved(ts_ns=at_ns, intent=intent)


def submit(intent: OrderIntent, *, at_ns: int = NOW_NS) -> m.SubmitOrder:
    return m.SubmitOrder(ts_ns=at_ns, intent=intent)


def cancel(intent: OrderIntent, *, at_ns: int = NOW_NS) -> m.CancelOrder:
    return m.CancelOrder(ts_ns=at_ns, client_id=intent.client_id)


def event(
    intent: OrderIntent, state: OrderState, filled: int = 0, *, at_ns: int = NOW_NS, order_id: str = "e1"
) -> m.OrderEvent:
    return m.OrderEvent(
        ts_ns=at_ns,
        client_id=intent.client_id,
        symbol=intent.symbol,
        order_id=order_id,
        state=state,
        filled_lots=filled,
    )


def fill(
    intent: OrderIntent, qty: int, price: int = 100, *, fee_atoms: int = 0, trade_id: str = "f1", at_ns: int = NOW_NS
) -> m.Fill:
    return m.Fill(
        ts_ns=at_ns,
        client_id=intent.client_id,
        symbol=intent.symbol,
        trade_id=trade_id,
        order_id="e1",
        side=intent.side,
        price_ticks=price,
        qty_lots=qty,
        fee_atoms=fee_atoms,
        is_maker=False,
    )


def record(
    intent: OrderIntent, *, filled: int = 0, order_id: str = "e1", is_cancel_requested: bool = False
) -> OrderRecord:
    return OrderRecord(
        intent=intent,
        state=OrderState.NEW if order_id else OrderState.SUBMITTED,
        filled_lots=filled,
        submitted_ns=NOW_NS,
        is_cancel_requested=is_cancel_requested,
        order_id=order_id,
    )


def recovered(
    *,
    cash: int = 10_000,
    held: Mapping[str, Mapping[str, int]] | None = None,
    orders: Iterable[OrderRecord] = (),
    epoch: int = 1,
    at_ns: int = NOW_NS,
    **changes: Any,
) -> m.Recovered:
    """Return what a journal says: whole units of `cash`, and whole lots of `held` (strategy to symbol)."""
    made = m.Recovered(
        ts_ns=at_ns,
        epoch=epoch,
        quote="USDT",
        cash_atoms=cash * ATOMS,
        holdings={
            strategy: {symbol: lots * ATOMS for symbol, lots in own.items()} for strategy, own in (held or {}).items()
        },
        orders=tuple(orders),
        risk_state=m.RiskState.NORMAL,
        risk_cause="",
        equity=None,
    )
    return msgspec.structs.replace(made, **changes)


def funding(paid: int, *, symbol: str = BTC, at_ns: int = NOW_NS) -> m.FundingPaid:
    """Return a payment in whole units of quote currency."""
    return m.FundingPaid(ts_ns=at_ns, symbol=symbol, rate_ppb=100_000, price_ticks=100, paid_atoms=paid * ATOMS)


def liquidated(change: int, price: int, *, fee: int = 0, symbol: str = BTC, at_ns: int = NOW_NS) -> m.Liquidated:
    """Return the end of a position: its change in lots, and the fee in whole units of quote currency."""
    return m.Liquidated(ts_ns=at_ns, symbol=symbol, price_ticks=price, signed_lots=change, fee_atoms=fee * ATOMS)


def session(*, cash: int = 10_000, epoch: int = 1, at_ns: int = NOW_NS) -> m.SessionStarted:
    return m.SessionStarted(
        ts_ns=at_ns, epoch=epoch, version="0", account="paper", quote="USDT", cash_atoms=cash * ATOMS
    )


# --- machines


def limits(**changes: Any) -> Limits:
    """Return limits that stand in nobody's way, but for the changed ones."""
    made = Limits(
        max_order_value_atoms=10**9 * ATOMS,
        max_position_bps=10_000,
        max_gross_bps=10_000,
        collar_bps=200,
        stale_ns=5 * SECOND_NS,
        intent_ttl_ns=5 * SECOND_NS,
        orders_per_second=1_000,
        orders_per_minute=1_000,
        max_open_orders=200,
        passive_ttl_ns=5 * SECOND_NS,
        daily_loss_bps=300,
        daily_loss_halt_bps=500,
        drawdown_bps=800,
        drawdown_halt_bps=1_200,
    )
    return msgspec.structs.replace(made, **changes)


def risk_gate(*after: m.AnyMessage, known: m.Recovered | None = None, **bounds: Any) -> RiskGate:
    """Return a gate that knows 10,000 in cash, a listed market and its quote at 99 to 101, and then `after`."""
    gate = RiskGate(limits(**bounds))
    say(gate, known or recovered(), listed(), quote(), *after)
    return gate


def book_fill(gate: RiskGate, intent: OrderIntent, qty: int, price: int = 100, fee_atoms: int = 0) -> m.FillBooked:
    """Return a fill as the ledger would say it, from what the gate knows; a perpetual's leaves cash as it was."""
    held = gate.account.held.get((intent.strategy, intent.symbol), 0)
    value = qty * price * ATOMS
    is_buy = intent.side is Side.BUY
    is_perp = gate.account.instruments[intent.symbol].is_perp
    return m.FillBooked(
        ts_ns=NOW_NS,
        fill=fill(intent, qty, price, fee_atoms=fee_atoms),
        strategy=intent.strategy,
        strategy_atoms=held + (qty * ATOMS - fee_atoms if is_buy else -qty * ATOMS),
        cash_atoms=gate.account.cash_atoms + (0 if is_perp else -value if is_buy else value - fee_atoms),
    )


def paper_exchange(
    *after: m.AnyMessage,
    known: m.Recovered | None = None,
    maker_fee_ppm: int = 0,
    taker_fee_ppm: int = 0,
    latency_ms: int = 0,
    **steps: Any,
) -> PaperExchange:
    """Return an exchange without fees or distance, with 10,000 in cash and a market, and then `after`."""
    terms = PaperTerms(maker_fee_ppm=maker_fee_ppm, taker_fee_ppm=taker_fee_ppm, latency_ns=latency_ms * MS_NS)
    exchange = PaperExchange(terms)
    say(exchange, known or recovered(), listed(**steps), *after)
    return exchange


def ledger(*facts: m.Journalled) -> Ledger:
    """Return a ledger with 10,000 in cash and a market, and then `facts`."""
    made = Ledger()
    for fact in (session(), listed(), *facts):
        made.apply(fact)
    return made


class Shuffled:
    """Like `Fifo`, but any stage may be the next to run: its own messages stay in order, others' do not wait for it."""

    def __init__(self, machines: Mapping[Stage, Machine], seed: int) -> None:
        self._machines = machines
        self._queues: dict[Stage, deque[m.AnyMessage]] = {stage: deque() for stage in machines}
        self._rng = random.Random(seed)

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        """Queue `message` for its readers."""
        for reader in readers(speaker, message):
            if reader in self._queues:
                self._queues[reader].append(message)

    def run(self, steps: int | None = None) -> None:
        """Handle some messages, or all that wait and all that comes of them."""
        while steps is None or steps > 0:
            waiting = [stage for stage, queue in self._queues.items() if queue]
            if not waiting:
                return
            stage = self._rng.choice(waiting)
            for output in self._machines[stage].handle(self._queues[stage].popleft()):
                self.post(stage, output)
            steps = None if steps is None else steps - 1


def bookkeeper(*after: m.AnyMessage) -> Bookkeeper:
    """Return a bookkeeper with 10,000 in cash and a market, nothing pending, and then `after`."""
    keeper = Bookkeeper(Ledger())
    say(keeper, session(), listed())
    keeper.take_pending()
    say(keeper, *after)
    return keeper
