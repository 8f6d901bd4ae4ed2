"""The desk of live orders: a pure machine between the bot's messages and what the exchange says.

An order is sent once. What became of it is concluded from evidence only: an answer, the private stream, or a question;
each report is a lower bound, ends are final, and fills are said once by their full name, in any state. An end is said
when all of its fills were. What cannot be known is UNKNOWN, and stays reserved.

Protective stops wait at the exchange on spot. Futures have none there, so they wait here: the touch or a trade at the
trigger sends a reduce-only market order. That is the first step of a ladder; the second is a stop that the exchange
refused, which is then held here too; the third is news of it to the gate.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import ATOM_SCALE, Instrument, Side
from bot.core.messages import Condition, RiskState, Wallet
from bot.core.orders import OrderIntent, OrderRecord, OrderState, advance, order_number
from bot.errors import OffGrid
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve, wallet_of
from bot.exchange.poloniex.outcome import (
    MARGIN_MS,
    Accepted,
    Doubt,
    Market,
    Outcome,
    RefusalKind,
    Refused,
    Unknown,
)
from bot.exchange.poloniex.private_state import Event, Filled, Fresh, OrderChanged, Stale
from bot.exchange.poloniex.signing import RECV_WINDOW_MS

MS_NS: Final = 1_000_000
CANCEL_AGAIN_NS: Final = (500 * MS_NS, 1_000 * MS_NS, 2_000 * MS_NS, 5_000 * MS_NS)
"""Waits between two requests to cancel one order; the last repeats."""
CANCEL_ALL_AFTER_NS: Final = 30 * m.SECOND_NS
CANCEL_FAILS_AFTER_NS: Final = 60 * m.SECOND_NS
LOOK_AFTER_CANCEL_NS: Final = m.SECOND_NS
FILLS_LATE_NS: Final = 2 * m.SECOND_NS
"""How long fills that a report counts may take to be told by the stream."""
FILLS_AGAIN_NS: Final = 5 * m.SECOND_NS
PROTECTIVE_LOOK_NS: Final = 15 * m.SECOND_NS
"""The stream does not speak of conditional orders, so they are asked for."""
ENDED_KEPT: Final = 10_000
RATE_LIMITS_MAX: Final = 3
RATE_LIMITS_NS: Final = 60 * m.SECOND_NS
HELD_HERE: Final = "held here: the exchange has no stop orders for it"
NOT_SENT: Final = "not sent: "
_IN_TROUBLE: Final = (RefusalKind.AUTH, RefusalKind.ACCOUNT)


@dataclass(slots=True, eq=False)
class _Order:
    """One order, as far as we know."""

    intent: OrderIntent
    state: OrderState = OrderState.SUBMITTED
    order_id: str = ""
    reported_lots: int = 0
    """Filled, as the exchange counts."""
    booked_lots: int = 0
    """Filled, as we have told."""
    fills: set[tuple[str, str, str, Side]] = field(default_factory=set[tuple[str, str, str, Side]])
    end: tuple[OrderState, str] | None = None
    """How it ended; said once all its fills are."""
    is_held_here: bool = False
    """A stop that waits with us."""
    is_triggered: bool = False
    is_cancel_wanted: bool = False
    cancel_since_ns: int = 0
    cancels: int = 0
    next_cancel_ns: int = 0
    next_look_ns: int = 0
    told_lots: int = 0
    """Filled, as our last event said."""
    fills_due_ns: int = 0
    """When to ask for fills that a report counts and nobody told; 0: none are missing."""
    under_way: set[str] = field(default_factory=set[str])
    """Calls that were not answered yet, by kind."""

    @property
    def is_protective(self) -> bool:
        """Return whether it waits at the exchange for its trigger."""
        return self.intent.order_type == "STOP" and not self.is_held_here and wallet_of(self.intent.symbol) == "spot"

    @property
    def is_settled(self) -> bool:
        """Return whether nothing of it is in doubt or on its way."""
        is_known = self.state not in {OrderState.SUBMITTED, OrderState.UNKNOWN}
        return is_known and self.end is None and not self.under_way and self.booked_lots >= self.reported_lots


class LiveDesk:
    """All live orders of one account. `take_calls` is what is to be asked after each thing that it hears."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals
        self._now_ns = 0
        self._epoch = 0
        self._instruments: dict[str, Instrument] = {}
        self._orders: dict[str, _Order] = {}
        self._ended: OrderedDict[str, _Order] = OrderedDict()
        self._sent_ns: dict[str, int] = {}
        self._calls: deque[Call] = deque()
        self._unwell: set[tuple[Condition, str]] = set()
        self._strangers: set[str] = set()
        self._stale: set[Market] = set()
        self._rate_limited_ns: deque[int] = deque()
        self.versions: dict[Wallet, int] = {"spot": 0, "futures": 0}
        """Counts what happened in each wallet: two looks with the same count saw the same orders."""

    # --- what is asked

    def take_calls(self) -> list[Call]:
        """Return the calls that wait, in order, and forget them."""
        calls = list(self._calls)
        self._calls.clear()
        return calls

    def is_quiet(self, wallet: Wallet) -> bool:
        """Return whether nothing of a wallet is in doubt, so that its books can be compared."""
        return all(order.is_settled for order in self._orders.values() if wallet_of(order.intent.symbol) == wallet)

    @property
    def has_protective(self) -> bool:
        """Return whether a conditional order rests at the exchange."""
        return any(order.is_protective and not order.state.is_final for order in self._orders.values())

    @property
    def held_here(self) -> dict[str, tuple[str, int]]:
        """Return the stops that wait with us: client id to market and lots."""
        return {
            client_id: (order.intent.symbol, order.intent.qty_lots)
            for client_id, order in self._orders.items()
            if order.is_held_here and not order.is_triggered
        }

    @property
    def is_stale(self) -> bool:
        """Return whether a private stream may keep something back."""
        return bool(self._stale)

    @property
    def living(self) -> list[OrderIntent]:
        """Return the orders that have not ended, oldest first."""
        return [order.intent for order in self._orders.values()]

    @property
    def oldest_living_ns(self) -> int | None:
        """Return when the oldest living order was sent, or None."""
        return min((self._sent_ns[client_id] for client_id in self._orders), default=None)

    # --- what the bot says

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return what follows from a message of the bot."""
        self._now_ns = max(self._now_ns, message.ts_ns)
        match message:
            case m.SubmitOrder():
                yield from self._submit(message.intent)
            case m.CancelOrder():
                yield from self._want_cancel(message.client_id)
            case m.Tick():
                yield from self._on_tick()
            case m.TradeTick():
                yield from self._touch(message.symbol, message.price_ticks, message.price_ticks)
            case m.Depth():
                if message.bids and message.asks:
                    yield from self._touch(message.symbol, message.bids[0][0], message.asks[0][0])
            case m.InstrumentListed():
                self._instruments[message.instrument.symbol] = message.instrument
            case m.Recovered():
                yield from self._recover(message)
            case m.OperatorCommand():  # persistence passes on which order was given up
                if (given_up := self._orders.get(message.subject)) is not None:
                    yield from self._finish(given_up, OrderState.ABANDONED, "given up by the operator")
            case m.BookLost() | m.MarkPrice() | m.FundingRate():
                pass
            case _:
                raise AssertionError(f"not routed to the executor: {message!r}")

    def _submit(self, intent: OrderIntent) -> Iterator[m.AnyMessage]:
        order = _Order(intent)
        refusal = self._approvals.take(intent, self._now_ns)
        if refusal:
            yield self._event(order, OrderState.REJECTED, NOT_SENT + refusal)
            return
        assert intent.client_id not in self._orders, f"order {intent.client_id} sent twice"
        self._add(order, self._now_ns)
        if intent.order_type == "STOP" and wallet_of(intent.symbol) == "futures":
            yield from self._hold(order, HELD_HERE)
        else:
            self._place(order)

    def _add(self, order: _Order, sent_ns: int) -> None:
        self._orders[order.intent.client_id] = order
        self._sent_ns[order.intent.client_id] = sent_ns
        self._count(order)

    def _place(self, order: _Order) -> None:
        order.under_way.add("place")
        self._calls.append(Place(order.intent, order.is_protective))

    def _hold(self, order: _Order, reason: str) -> Iterator[m.AnyMessage]:
        order.is_held_here = True
        order.state = OrderState.NEW
        yield self._event(order, OrderState.NEW, reason)

    def _want_cancel(self, client_id: str) -> Iterator[m.AnyMessage]:
        order = self._orders.get(client_id)
        if order is None or order.is_cancel_wanted:
            return  # it ended before: its last event said how
        order.is_cancel_wanted = True
        order.cancel_since_ns = order.next_cancel_ns = self._now_ns
        yield from self._cancel_if_due(order)

    def _cancel_if_due(self, order: _Order) -> Iterator[m.AnyMessage]:
        """Ask for the cancel, again and again until the order is seen to have ended."""
        if order.is_held_here and not order.is_triggered:
            yield from self._finish(order, OrderState.CANCELED, "canceled by us")
            return
        if order.end is not None or {"place", "cancel"} & order.under_way or self._now_ns < order.next_cancel_ns:
            return
        intent = order.intent
        order.under_way.add("cancel")
        self._calls.append(Cancel(intent.client_id, intent.symbol, order.is_protective))
        order.next_cancel_ns = self._now_ns + CANCEL_AGAIN_NS[min(order.cancels, len(CANCEL_AGAIN_NS) - 1)]
        order.cancels += 1

    def _recover(self, message: m.Recovered) -> Iterator[m.AnyMessage]:
        """Doubt every order that the journal does not know to have ended, and ask for it."""
        self._epoch = message.epoch
        self._now_ns = max(self._now_ns, message.ts_ns)
        for record in message.orders:
            yield from self._doubt(record)

    def _doubt(self, record: OrderRecord) -> Iterator[m.AnyMessage]:
        intent = record.intent
        order = _Order(intent, record.state, record.order_id, record.filled_lots, record.filled_lots)
        order.is_cancel_wanted = record.is_cancel_requested
        order.cancel_since_ns = order.next_cancel_ns = self._now_ns
        self._add(order, record.submitted_ns)
        if intent.order_type == "STOP" and wallet_of(intent.symbol) == "futures" and not record.order_id:
            order.is_held_here = True
            order.state = OrderState.NEW
            return
        if record.state in {OrderState.SUBMITTED, OrderState.UNKNOWN}:
            order.state = OrderState.SUBMITTED
            # When it was signed is not known; it was after it was approved, and not long after.
            signed_ms = record.submitted_ns // MS_NS + self._approvals_ms
            yield from self._lose(
                order,
                Unknown(
                    reason="the bot ended before it was answered",
                    doubt=Doubt.NO_ANSWER,
                    client_id=intent.client_id,
                    fence_ms=signed_ms + RECV_WINDOW_MS + MARGIN_MS,
                ),
            )
        else:
            self._look(order)

    @property
    def _approvals_ms(self) -> int:
        return self._approvals.ttl_ns // MS_NS

    def _on_tick(self) -> Iterator[m.AnyMessage]:
        for order in list(self._orders.values()):
            if order.is_cancel_wanted:
                yield from self._cancel_if_due(order)
            if order.fills_due_ns and self._now_ns >= order.fills_due_ns and "fills" not in order.under_way:
                self._read_fills(order)
            is_to_be_seen = order.is_protective or (order.is_cancel_wanted and order.cancels)
            if is_to_be_seen and order.end is None and self._now_ns >= order.next_look_ns:
                self._look(order)
        yield from self._watch_cancels()
        if self._rate_limited_ns and self._now_ns - self._rate_limited_ns[-1] > RATE_LIMITS_NS:
            self._rate_limited_ns.clear()
            yield from self._well(Condition.RATE_LIMIT)

    def _watch_cancels(self) -> Iterator[m.AnyMessage]:
        late = [
            order
            for order in self._orders.values()
            if order.is_cancel_wanted and not order.is_held_here and order.end is None
        ]
        oldest_ns = min((order.cancel_since_ns for order in late), default=self._now_ns)
        if self._now_ns - oldest_ns >= CANCEL_FAILS_AFTER_NS:
            yield from self._ail(Condition.CANCELS, "the exchange does not cancel", RiskState.REDUCE_ONLY)
        elif not late:
            yield from self._well(Condition.CANCELS)
        for symbol in dict.fromkeys(o.intent.symbol for o in late):
            of_symbol = [order for order in late if order.intent.symbol == symbol]
            since_ns = min(order.cancel_since_ns for order in of_symbol)
            if self._now_ns - since_ns >= CANCEL_ALL_AFTER_NS and not any("all" in o.under_way for o in of_symbol):
                of_symbol[0].under_way.add("all")
                self._calls.append(CancelSymbol(symbol))

    def _touch(self, symbol: str, bid_ticks: int, ask_ticks: int) -> Iterator[m.AnyMessage]:
        """Let the stops act that wait here and that the market has reached."""
        for order in self._orders.values():
            intent = order.intent
            if not order.is_held_here or order.is_triggered or intent.symbol != symbol:
                continue
            price_ticks = ask_ticks if intent.side is Side.BUY else bid_ticks
            if intent.side.sign * (price_ticks - intent.trigger_ticks) >= 0:
                order.is_triggered = True
                self._place(order)
        yield from ()

    # --- what came of a call

    def placed(self, client_id: str, outcome: Outcome[str], now_ns: int) -> Iterator[m.AnyMessage]:
        """Take what became of a `Place`: the exchange's id of the order, a refusal, or doubt."""
        order = self._answered(client_id, "place", now_ns)
        if order is None:
            return
        match outcome:
            case Accepted():
                order.order_id = order.order_id or outcome.value
                yield from self._stand(order, OrderState.NEW)
            case Refused():
                yield from self._refuse(order, outcome)
            case Unknown():
                yield from self._lose(order, outcome)
        if order.is_cancel_wanted and client_id in self._orders:
            yield from self._cancel_if_due(order)

    def _refuse(self, order: _Order, refused: Refused) -> Iterator[m.AnyMessage]:
        if order.state is not OrderState.SUBMITTED and not order.is_held_here:
            return  # the stream knows better: it is there
        if refused.kind in _IN_TROUBLE:
            yield from self._ail(Condition.AUTHORITY, refused.text, RiskState.HALTED)
        elif refused.kind is RefusalKind.THROTTLED:
            yield from self._throttle(refused.text)
        elif refused.kind is RefusalKind.MODE:
            scope = f"symbol:{order.intent.symbol}"
            yield from self._ail(Condition.ACCOUNT_MODE, refused.text, RiskState.REDUCE_ONLY, scope)
        if order.is_protective and refused.kind is not RefusalKind.NOT_SENT:
            yield from self._hold(order, f"held here: the exchange refused it ({refused.code} {refused.text})")
            return
        reason = NOT_SENT + refused.text if refused.kind is RefusalKind.NOT_SENT else f"{refused.code} {refused.text}"
        yield from self._finish(order, OrderState.REJECTED, reason)

    def _throttle(self, text: str) -> Iterator[m.AnyMessage]:
        self._rate_limited_ns.append(self._now_ns)
        while self._now_ns - self._rate_limited_ns[0] > RATE_LIMITS_NS:
            self._rate_limited_ns.popleft()
        if len(self._rate_limited_ns) >= RATE_LIMITS_MAX:
            yield from self._ail(Condition.RATE_LIMIT, text, RiskState.REDUCE_ONLY)

    def _lose(self, order: _Order, unknown: Unknown) -> Iterator[m.AnyMessage]:
        """Doubt an order whose answer says nothing; ask until it is certain."""
        if order.state is OrderState.SUBMITTED or order.is_held_here:
            order.state = OrderState.UNKNOWN
            yield self._event(order, OrderState.UNKNOWN, unknown.reason)
            scope = f"symbol:{order.intent.symbol}"
            yield from self._ail(Condition.UNKNOWN_ORDER, unknown.reason, RiskState.REDUCE_ONLY, scope)
        order.under_way.add("resolve")
        self._calls.append(Resolve(order.intent.symbol, unknown, order.is_protective))

    def resolved(
        self, client_id: str, outcome: Accepted[OrderChanged] | Refused, now_ns: int
    ) -> Iterator[m.AnyMessage]:
        """Take what a search found: the order as it stands, or proof that it was never accepted."""
        order = self._answered(client_id, "resolve", now_ns)
        if order is None:
            return
        if isinstance(outcome, Accepted):
            yield from self._report(order, outcome.value)
        elif order.state is OrderState.UNKNOWN:
            yield from self._finish(order, OrderState.NEVER_ACCEPTED, outcome.text)
        yield from self._clear_doubt(order.intent.symbol)

    def _clear_doubt(self, symbol: str) -> Iterator[m.AnyMessage]:
        if not any(o.state is OrderState.UNKNOWN and o.intent.symbol == symbol for o in self._orders.values()):
            yield from self._well(Condition.UNKNOWN_ORDER, f"symbol:{symbol}")

    def cancelled(self, client_id: str, outcome: Refused | Unknown | None, now_ns: int) -> Iterator[m.AnyMessage]:
        """Take what went wrong with a `Cancel`, None for nothing; only the order itself tells whether it has ended."""
        order = self._answered(client_id, "cancel", now_ns)
        if order is None:
            return
        if isinstance(outcome, Refused):
            if outcome.kind in _IN_TROUBLE:
                yield from self._ail(Condition.AUTHORITY, outcome.text, RiskState.HALTED)
            elif outcome.kind is RefusalKind.THROTTLED:
                yield from self._throttle(outcome.text)
        elif isinstance(outcome, Unknown) and outcome.doubt is Doubt.RACE:
            self._look(order)
        order.next_look_ns = self._now_ns + LOOK_AFTER_CANCEL_NS

    def symbol_cancelled(self, symbol: str, now_ns: int) -> None:
        """Take the answer to a `CancelSymbol`."""
        self._now_ns = max(self._now_ns, now_ns)
        for order in self._orders.values():
            if order.intent.symbol == symbol:
                order.under_way.discard("all")

    def looked(self, client_id: str, found: OrderChanged | None, now_ns: int) -> Iterator[m.AnyMessage]:
        """Take how an order stands; None: the question was not answered, or the exchange knows no such order.

        That alone proves nothing: it is asked for again.
        """
        order = self._answered(client_id, "look", now_ns)
        if order is None:
            return
        wait_ns = PROTECTIVE_LOOK_NS if order.is_protective and not order.is_cancel_wanted else LOOK_AFTER_CANCEL_NS
        order.next_look_ns = self._now_ns + wait_ns
        if found is not None:
            yield from self._report(order, found)

    def fills_read(self, client_id: str, fills: Iterable[Filled] | None, now_ns: int) -> Iterator[m.AnyMessage]:
        """Take all fills of an order; None: the question was not answered."""
        order = self._answered(client_id, "fills", now_ns)
        if order is None:
            return
        for fill in fills or ():
            yield from self._fill(order, fill)
        if order.booked_lots < order.reported_lots:
            order.fills_due_ns = self._now_ns + FILLS_AGAIN_NS

    def _answered(self, client_id: str, kind: str, now_ns: int) -> _Order | None:
        self._now_ns = max(self._now_ns, now_ns)
        order = self._orders.get(client_id)
        if order is not None:
            order.under_way.discard(kind)
            self._count(order)
        return order

    def _look(self, order: _Order) -> None:
        if "look" in order.under_way:
            return
        order.under_way.add("look")
        self._calls.append(Look(order.intent.client_id, order.intent.symbol, order.order_id, order.is_protective))

    def _read_fills(self, order: _Order) -> None:
        if order.order_id and "fills" not in order.under_way:
            order.under_way.add("fills")
            self._calls.append(ReadFills(order.intent.client_id, order.intent.symbol, order.order_id))

    # --- what the private streams say

    def hear(self, event: Event, now_ns: int) -> Iterator[m.AnyMessage]:
        """Return what follows from news of a private stream."""
        self._now_ns = max(self._now_ns, now_ns)
        match event:
            case OrderChanged():
                order = self._find(event.client_id)
                if order is not None:
                    yield from self._report(order, event)
                elif not event.state.is_final:
                    yield from self._stranger(event)
            case Filled():
                order = self._find(event.client_id)
                if order is not None:
                    yield from self._fill(order, event)
            case Fresh():
                self._stale.discard(event.market)
                if not self._stale:
                    yield from self._well(Condition.PRIVATE_STREAM)
                self._miss(event)
            case Stale():
                self._stale.add(event.market)
                yield from self._ail(Condition.PRIVATE_STREAM, event.reason, RiskState.REDUCE_ONLY)
            case _:
                pass

    def _find(self, client_id: str) -> _Order | None:
        return self._orders.get(client_id) or self._ended.get(client_id)

    def _miss(self, fresh: Fresh) -> None:
        """Ask for every order that should live and that a full list lacks."""
        wallet: Wallet = "spot" if fresh.market is Market.SPOT else "futures"
        for order in self._orders.values():
            is_expected = order.state in {OrderState.NEW, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL}
            is_listed = order.order_id in fresh.living or order.is_protective or order.is_held_here
            if is_expected and not is_listed and wallet_of(order.intent.symbol) == wallet:
                self._look(order)

    def _stranger(self, event: OrderChanged) -> Iterator[m.AnyMessage]:
        """Report a living order that is not ours, or that somebody else makes in our name."""
        if event.order_id in self._strangers:
            return
        self._strangers.add(event.order_id)
        made_of = order_number(event.client_id)
        if made_of is not None and made_of[0] >= self._epoch:
            text = f"order {event.client_id} bears our mark and is not in our journal: is there a second bot?"
            yield from self._ail(Condition.FOREIGN_ORDER, text, RiskState.HALTED)
        else:
            text = f"order {event.order_id} of {event.symbol} is not ours"
            yield from self._ail(Condition.FOREIGN_ORDER, text, RiskState.REDUCE_ONLY, f"symbol:{event.symbol}")

    # --- evidence

    def _report(self, order: _Order, report: OrderChanged) -> Iterator[m.AnyMessage]:
        """Take a report as a lower bound: nothing that is known is lowered by it."""
        self._count(order)
        was_unknown = order.state is OrderState.UNKNOWN
        order.order_id = order.order_id or report.order_id
        filled_lots = self._lots(order.intent.symbol, report.filled_quantity)
        order.reported_lots = max(order.reported_lots, filled_lots)
        if order.booked_lots < order.reported_lots and not order.fills_due_ns:
            order.fills_due_ns = self._now_ns + FILLS_LATE_NS
        if order.intent.client_id in self._ended:
            return
        if report.state.is_final:
            order.end = order.end or (report.state, report.cancel_reason)
            if order.booked_lots < order.reported_lots:
                self._read_fills(order)
            yield from self._end_if_told(order)
        else:
            yield from self._stand(order, report.state)
        if was_unknown and order.state is not OrderState.UNKNOWN:
            yield from self._clear_doubt(order.intent.symbol)

    def _stand(self, order: _Order, state: OrderState) -> Iterator[m.AnyMessage]:
        """Say that an order lives, if that is news."""
        after = advance(order.state, state)
        is_further = state is OrderState.PARTIALLY_FILLED and order.reported_lots > order.told_lots
        if after is order.state and not is_further:
            return
        was_unknown = order.state is OrderState.UNKNOWN
        order.state = after
        yield self._event(order, after)
        if was_unknown:
            yield from self._clear_doubt(order.intent.symbol)

    def _fill(self, order: _Order, fill: Filled) -> Iterator[m.AnyMessage]:
        """Say a fill, once, whatever state its order is in."""
        key = fill.symbol, fill.trade_id, fill.order_id, fill.side
        if key in order.fills:
            return
        try:
            said = self._made_fill(order, fill)
        except OffGrid as error:
            yield from self._ail(Condition.INTEGRITY, f"a fill that cannot be booked: {error}", RiskState.HALTED)
            return
        order.fills.add(key)
        order.order_id = order.order_id or fill.order_id
        order.booked_lots += said.qty_lots
        if order.booked_lots >= order.reported_lots:
            order.fills_due_ns = 0
        self._count(order)
        yield said
        if order.state is OrderState.UNKNOWN:
            yield from self._stand(order, OrderState.PARTIALLY_FILLED)
        yield from self._end_if_told(order)

    def _made_fill(self, order: _Order, fill: Filled) -> m.Fill:
        instrument = self._instruments[fill.symbol]
        usual = instrument.fee_coin(fill.side)
        return m.Fill(
            ts_ns=self._now_ns,
            client_id=order.intent.client_id,
            symbol=fill.symbol,
            trade_id=fill.trade_id,
            order_id=fill.order_id,
            side=fill.side,
            price_ticks=instrument.price_ticks(f"{fill.price:f}"),
            qty_lots=self._lots(fill.symbol, fill.quantity),
            fee_atoms=_atoms(fill.fee),
            fee_currency="" if fill.fee_currency in {"", usual} else fill.fee_currency,
            is_maker=fill.is_maker,
        )

    def _end_if_told(self, order: _Order) -> Iterator[m.AnyMessage]:
        if order.end is None or order.booked_lots < order.reported_lots:
            return
        state, reason = order.end
        order.end = None
        yield from self._finish(order, state, reason)

    def _finish(self, order: _Order, state: OrderState, reason: str) -> Iterator[m.AnyMessage]:
        was_unknown = order.state is OrderState.UNKNOWN
        order.state = state
        order.is_held_here = False
        self._count(order)
        client_id = order.intent.client_id
        self._orders.pop(client_id, None)
        self._sent_ns.pop(client_id, None)
        self._ended[client_id] = order
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        yield self._event(order, state, reason)
        if was_unknown:
            yield from self._clear_doubt(order.intent.symbol)

    # --- what is said

    def _event(self, order: _Order, state: OrderState, reason: str = "") -> m.OrderEvent:
        order.told_lots = max(order.reported_lots, order.booked_lots)
        return m.OrderEvent(
            ts_ns=self._now_ns,
            client_id=order.intent.client_id,
            symbol=order.intent.symbol,
            order_id=order.order_id,
            state=state,
            filled_lots=order.told_lots,
            reason=reason,
        )

    def _ail(
        self, condition: Condition, detail: str, severity: RiskState, scope: str = ""
    ) -> Iterator[m.HealthReported]:
        if (condition, scope) not in self._unwell:
            self._unwell.add((condition, scope))
            yield m.HealthReported(
                ts_ns=self._now_ns, condition=condition, is_well=False, severity=severity, scope=scope, detail=detail
            )

    def _well(self, condition: Condition, scope: str = "") -> Iterator[m.HealthReported]:
        if (condition, scope) in self._unwell:
            self._unwell.discard((condition, scope))
            yield m.HealthReported(ts_ns=self._now_ns, condition=condition, is_well=True, scope=scope)

    def _count(self, order: _Order) -> None:
        self.versions[wallet_of(order.intent.symbol)] += 1

    def _lots(self, symbol: str, quantity: Decimal) -> int:
        """Return coins of spot, or contracts of futures, in lots. Raises OffGrid."""
        if wallet_of(symbol) == "futures":
            return int(quantity)
        return self._instruments[symbol].qty_lots(f"{quantity:f}")


def _atoms(amount: Decimal) -> int:
    return int(amount.scaleb(ATOM_SCALE))
