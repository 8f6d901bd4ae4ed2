"""The desk of live orders: a pure machine between the bot's messages and what the exchange says.

An order is sent once. What became of it is concluded from evidence only: an answer, the private stream, or a question;
each report is a lower bound, ends are final, and fills are said once by their full name, in any state. An end is said
when all of its fills were. What cannot be known is UNKNOWN, and stays reserved.

Protective stops wait at the exchange on spot. Futures have none there, so they wait here, as does one that the exchange
refused: when the touch or a trade has reached the trigger, a reduce-only market order does their work. So it is where
the exchange's own stop failed at its trigger. What cannot be closed that way is told to the gate.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.approvals import NOT_SENT, Approvals
from bot.core.instrument import ATOM_SCALE, Instrument, Side
from bot.core.latches import symbol_scope
from bot.core.messages import Condition, RiskState, Wallet
from bot.core.orders import FOLLOWS, REFUSALS, OrderIntent, OrderRecord, OrderState, advance, order_number
from bot.errors import BadReply, OffGrid
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve, wallet_of
from bot.exchange.live.order import LIVING, LiveOrder, own_id
from bot.exchange.live.order import Place as Waits
from bot.exchange.poloniex.futures_client import NOTHING_TO_CLOSE_CODES
from bot.exchange.poloniex.outcome import Accepted, Doubt, Market, Outcome, RefusalKind, Refused, Unknown, fence_ms
from bot.exchange.poloniex.private_state import (
    AccountChanged,
    BalanceChanged,
    Event,
    Filled,
    Fresh,
    OrderChanged,
    PositionChanged,
    Stale,
)
from bot.exchange.poloniex.signing import RECV_WINDOW_MS

MS_NS: Final = 1_000_000
CANCEL_AGAIN_NS: Final = (500 * MS_NS, 1_000 * MS_NS, 2_000 * MS_NS, 5_000 * MS_NS)
"""Waits between two requests to cancel one order; the last repeats."""
CANCEL_SLOW_NS: Final = 5 * m.SECOND_NS
"""A cancel without any effect for so long fails; how long it may fail is the gate's matter."""
CANCEL_ALL_AFTER_NS: Final = 30 * m.SECOND_NS
MODE_NS: Final = 90 * m.SECOND_NS
"""How long a market counts as closed after it last refused an order because of its mode."""
LOOK_AFTER_CANCEL_NS: Final = m.SECOND_NS
LOOK_AGAIN_NS: Final = 5 * m.SECOND_NS
"""Between two questions for an order that should be there and is not."""
LOOK_AT_TAKER_NS: Final = 5 * m.SECOND_NS
"""An order that cannot rest should have ended by then."""
PROTECTIVE_LOOK_NS: Final = 15 * m.SECOND_NS
"""The stream does not speak of conditional orders, so they are asked for."""
FILLS_LATE_NS: Final = 2 * m.SECOND_NS
"""How long fills that a report counts may take to be told by the stream."""
FILLS_AGAIN_NS: Final = 5 * m.SECOND_NS
END_HELD_NS: Final = 30 * m.SECOND_NS
"""How long an end waits for its fills; then it is said, and the books wait for them."""
CUT_AGAIN_NS: Final = 30 * m.SECOND_NS
"""What the exchange cuts again and again is taken back no oftener than this."""
RIVALS_NS: Final = 5 * m.SECOND_NS
"""How long a stop's work waits for other orders to set the coins free."""
CLOSE_AGAIN_NS: Final = m.SECOND_NS
CLOSE_TRIES_MAX: Final = 5
RESTART_FENCE_MS: Final = 120_000
"""An order left at most so long after it was approved; what waits longer for a limit was cut off by the restart."""
ENDED_KEPT: Final = 10_000
HELD_HERE: Final = "held here: the exchange has no stop orders for it"
EVENTS: Final = frozenset({Condition.AUTHORITY, Condition.FOREIGN_ORDER, Condition.INTEGRITY, Condition.RATE_LIMIT})
"""What happens and does not last: said each time."""
FORCED: Final = ("FL_", "RISK_")
"""How the reasons begin for which the exchange itself ends orders and closes positions."""
_IN_TROUBLE: Final = (RefusalKind.AUTH, RefusalKind.ACCOUNT)

Said = Iterator[m.AnyMessage]


class LiveDesk:
    """All live orders of one account. `take_calls` is what is to be asked after each thing that it hears."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals
        self._now_ns = 0
        self._is_recovered = False
        self._instruments: dict[str, Instrument] = {}
        self._orders: dict[str, LiveOrder] = {}
        """Those that have not ended, by the client id of their intent."""
        self._ended: OrderedDict[str, LiveOrder] = OrderedDict()
        self._owed: dict[str, LiveOrder] = {}
        """Those that ended with fills still to come."""
        self._by_order_id: OrderedDict[str, str] = OrderedDict()
        self._calls: deque[Call] = deque()
        self._early: list[Callable[[], Said]] = []
        """What was heard before the journal was read, or before its market was listed."""
        self._unwell: set[tuple[Condition, str]] = set()
        self._strangers: set[str] = set()
        self._stale: set[Market] = set()
        self._closed_until_ns: dict[str, int] = {}
        """Symbol to when a refusal for the market's mode no longer counts."""
        self._cancel_all_ns: dict[str, int] = {}
        """Symbol to when all of its orders may be cancelled again."""
        self._cut_until_ns: dict[str, int] = {}
        """Symbol to when an order that the exchange made smaller may be taken back again."""
        self._free: dict[str, Decimal] = {}
        """Coin of the spot wallet to what of it is free."""
        self.versions: dict[Wallet, int] = {"spot": 0, "futures": 0}
        """Counts what changed in each wallet: two looks with the same count saw the same orders."""

    # --- what is asked

    def take_calls(self) -> list[Call]:
        """Return the calls that wait, in order, and forget them."""
        calls = list(self._calls)
        self._calls.clear()
        return calls

    def is_quiet(self, wallet: Wallet) -> bool:
        """Return whether nothing of a wallet is in doubt, so that its books can be compared."""
        return self._is_recovered and not any(
            wallet_of(order.intent.symbol) == wallet and not order.is_settled
            for order in (*self._orders.values(), *self._owed.values())
        )

    def why_not(self, client_id: str, now_ns: int) -> str:
        """Return why an order shall not be sent after all, "" if it may: asked in the turn in which it would leave."""
        order = self._orders.get(own_id(client_id))
        if order is None:
            return "given up before it left"
        if order.is_fired:
            return ""
        if order.is_cancel_wanted:
            return "cancelled before it left"
        is_late = order.intent.reserved_atoms and now_ns - order.since_ns > self._approvals.ttl_ns
        return "waited too long for its turn" if is_late else ""

    def is_lost(self, client_id: str) -> bool:
        """Return whether an order is still being looked for."""
        order = self._orders.get(own_id(client_id))
        return order is not None and order.is_lost

    @property
    def has_protective(self) -> bool:
        """Return whether a conditional order rests at the exchange."""
        return any(order.is_protective for order in self._orders.values())

    def living(self, wallet: Wallet, listed: Mapping[str, int]) -> dict[str, int]:
        """Return the living orders of a wallet for the comparison: those that are `listed`, and those that wait here.

        Client id (exchange id where it has none) to what is left of it, in lots; of our own orders as we count.
        """
        found = dict(listed)
        for client_id, lots in listed.items():
            order = self._orders.get(own_id(client_id))
            if order is not None:
                del found[client_id]
            found[own_id(client_id)] = lots if order is None else order.left_lots
        for client_id, order in self._orders.items():
            if order.place is Waits.HERE and wallet_of(order.intent.symbol) == wallet:
                found[client_id] = order.left_lots
        return found

    @property
    def is_stale(self) -> bool:
        """Return whether a private stream may keep something back."""
        return bool(self._stale)

    @property
    def oldest_living_ns(self) -> int | None:
        """Return when the oldest order was submitted that lives or lacks fills, or None."""
        orders = (*self._orders.values(), *self._owed.values())
        return min((order.since_ns for order in orders), default=None)

    # --- what the bot says

    def handle(self, message: m.AnyMessage) -> Said:
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
                yield from self._catch_up()
            case m.Recovered():
                yield from self._recover(message)
            case m.OperatorCommand():  # persistence passes on which order was given up
                yield from self._abandon(message.subject)
            case m.BookLost() | m.MarkPrice() | m.FundingRate():
                pass
            case _:
                raise AssertionError(f"not routed to the executor: {message!r}")

    def _submit(self, intent: OrderIntent) -> Said:
        order = LiveOrder(intent, self._now_ns)
        refusal = self._approvals.take(intent, self._now_ns)
        if refusal:
            yield self._event(order, OrderState.REJECTED, f"{NOT_SENT}: {refusal}")
            return
        assert intent.client_id not in self._orders, f"order {intent.client_id} sent twice"
        self._orders[intent.client_id] = order
        self._count(order)
        if order.is_stop and wallet_of(intent.symbol) == "futures":
            yield from self._hold(order, HELD_HERE)
        else:
            order.place = Waits.CONDITIONAL if order.is_stop else Waits.BOOK
            self._send(order, intent)

    def _send(self, order: LiveOrder, intent: OrderIntent) -> None:
        order.under_way.add("place")
        self._calls.append(Place(intent, order.is_protective))

    def _hold(self, order: LiveOrder, reason: str) -> Said:
        """Let a stop wait here."""
        order.wait_here()
        self._count(order)
        if order.state not in LIVING:
            order.state = OrderState.NEW
            yield self._event(order, OrderState.NEW, reason)

    def _abandon(self, client_id: str) -> Said:
        self._owed.pop(client_id, None)
        order = self._orders.get(client_id)
        if order is not None:
            yield from self._finish(order, OrderState.ABANDONED, "given up by the operator")

    def _catch_up(self) -> Said:
        """Take what was heard too early; what still is waits on."""
        early, self._early = self._early, []
        for take in early:
            yield from take()

    # --- cancels

    def _want_cancel(self, client_id: str) -> Said:
        order = self._orders.get(client_id)
        if order is None or order.is_cancel_wanted:
            return  # it ended before: its last event said how
        order.is_cancel_wanted = True
        order.cancel_since_ns = order.next_cancel_ns = self._now_ns
        yield from self._cancel_if_due(order)

    def _cancel_if_due(self, order: LiveOrder) -> Said:
        """Ask for the cancel, again and again until the order is seen to have ended."""
        if order.place is Waits.HERE and not order.is_lost:
            yield from self._finish(order, OrderState.CANCELED, "canceled by us")
            return
        if order.end is not None or {"place", "cancel"} & order.under_way or self._now_ns < order.next_cancel_ns:
            return
        order.under_way.add("cancel")
        self._calls.append(Cancel(order.sent_id, order.intent.symbol, order.is_protective))
        order.next_cancel_ns = self._now_ns + CANCEL_AGAIN_NS[min(order.cancels, len(CANCEL_AGAIN_NS) - 1)]
        order.cancels += 1

    def cancelled(self, client_id: str, outcome: Refused | Unknown | None, now_ns: int) -> Said:
        """Take what went wrong with a `Cancel`, None for nothing; only the order itself tells whether it has ended."""
        order = self._answered(client_id, "cancel", now_ns)
        if order is None:
            return
        order.has_cancel_failed = False
        order.next_look_ns = self._now_ns + LOOK_AFTER_CANCEL_NS
        match outcome:
            case None:
                if order.state in LIVING:
                    yield from self._stand(order, OrderState.PENDING_CANCEL)
            case Refused():
                order.has_cancel_failed = True
                yield from self._note_refusal(outcome)
            case Unknown(doubt=Doubt.RACE):
                self._look(order)
            case Unknown():
                order.has_cancel_failed = True

    def symbol_cancelled(self, symbol: str, now_ns: int) -> None:
        """Take the answer to a `CancelSymbol`."""
        self._now_ns = max(self._now_ns, now_ns)
        for order in self._orders.values():
            if order.intent.symbol == symbol and order.is_cancel_wanted:
                self._look(order)

    def _watch_cancels(self) -> Said:
        """Report markets in which cancels fail or orders are refused for the market's mode; try harder there."""
        failing: dict[str, str] = {
            symbol: "the market is closed to our orders"
            for symbol, until_ns in self._closed_until_ns.items()
            if self._now_ns < until_ns
        }
        for order in self._orders.values():
            if not order.is_cancel_wanted or order.place is Waits.HERE or order.end is not None:
                continue
            late_ns = self._now_ns - order.cancel_since_ns
            if order.has_cancel_failed or late_ns >= CANCEL_SLOW_NS:
                failing[order.intent.symbol] = f"order {order.intent.client_id} is not cancelled"
            if late_ns >= CANCEL_ALL_AFTER_NS:
                self._cancel_symbol(order.intent.symbol)
        for symbol, detail in failing.items():
            yield from self._ail(Condition.CANCELS, detail, RiskState.REDUCE_ONLY, symbol_scope(symbol))
        for condition, scope in sorted(self._unwell):
            if condition is Condition.CANCELS and scope not in {symbol_scope(symbol) for symbol in failing}:
                yield from self._well(Condition.CANCELS, scope)

    def _cancel_symbol(self, symbol: str) -> None:
        if self._now_ns >= self._cancel_all_ns.get(symbol, 0):
            self._cancel_all_ns[symbol] = self._now_ns + CANCEL_AGAIN_NS[-1]
            self._calls.append(CancelSymbol(symbol))

    # --- a start

    def _recover(self, message: m.Recovered) -> Said:
        """Doubt every order that the journal does not know to have ended, and ask for it."""
        for record in message.orders:
            yield from self._doubt(record)
        for record in message.unsettled:
            order = self._recovered(record)
            order.fills_due_ns = self._now_ns
            self._ended[record.intent.client_id] = self._owed[record.intent.client_id] = order
        self._is_recovered = True
        yield from self._catch_up()

    def _recovered(self, record: OrderRecord) -> LiveOrder:
        order = LiveOrder(
            record.intent,
            record.submitted_ns,
            state=record.state,
            known_lots=record.filled_lots,
            reported_lots=max(record.reported_lots, record.filled_lots),
        )
        order.told_lots = order.filled_lots
        if record.order_id:
            self._bind(order, record.order_id)
        return order

    def _doubt(self, record: OrderRecord) -> Said:
        order = self._recovered(record)
        self._orders[record.intent.client_id] = order
        order.is_cancel_wanted = record.is_cancel_requested
        order.cancel_since_ns = order.next_cancel_ns = self._now_ns
        order.place = _place_of(order)
        if order.place is Waits.HERE:
            yield from self._hold(order, HELD_HERE)
            # It may have been sent just before the end.
            yield from self._seek(order, msgspec.structs.replace(self._doubt_of(order), doubt=Doubt.NO_ANSWER))
        elif order.is_in_doubt and not order.is_seen:
            order.state = OrderState.SUBMITTED
            yield from self._lose(order, self._doubt_of(order))
        else:
            self._look(order)
        if order.is_short_of_fills:
            order.fills_due_ns = self._now_ns

    def _doubt_of(self, order: LiveOrder) -> Unknown:
        """Return the doubt about an order of an earlier session: when it was signed, and what was answered, is lost."""
        signed_ms = self._now_ns // MS_NS
        if not order.is_stop:
            signed_ms = min(signed_ms, order.since_ns // MS_NS + RESTART_FENCE_MS)
        return Unknown(
            reason="the bot ended before it was answered",
            doubt=Doubt.AMBIGUOUS,
            client_id=order.sent_id,
            fence_ms=fence_ms(signed_ms, RECV_WINDOW_MS),
        )

    # --- time

    def _on_tick(self) -> Said:
        for order in list(self._orders.values()):
            if order.is_cancel_wanted:
                yield from self._cancel_if_due(order)
            if order.is_fired and order.place is Waits.HERE:
                yield from self._close(order)
            if order.next_look_ns and order.end is None and self._now_ns >= order.next_look_ns:
                self._look(order)
            if order.end is not None and self._now_ns - order.end_ns >= END_HELD_NS:
                yield from self._say_end(order)
        for order in (*self._orders.values(), *self._owed.values()):
            if order.fills_due_ns and self._now_ns >= order.fills_due_ns:
                self._read_fills(order)
        yield from self._watch_cancels()

    # --- stops that wait here

    def _touch(self, symbol: str, bid_ticks: int, ask_ticks: int) -> Said:
        """Let the stops act that wait here and that the market has reached; look for those at the exchange."""
        for order in list(self._orders.values()):
            intent = order.intent
            if intent.symbol != symbol or not order.is_stop or order.is_fired or order.is_lost:
                continue
            price_ticks = ask_ticks if intent.side is Side.BUY else bid_ticks
            if intent.side.sign * (price_ticks - intent.trigger_ticks) < 0:
                continue
            if order.place is Waits.HERE:
                yield from self._fire(order)
            elif order.is_protective and order.next_look_ns:
                order.next_look_ns = min(order.next_look_ns, self._now_ns + LOOK_AFTER_CANCEL_NS)

    def _fire(self, order: LiveOrder) -> Said:
        order.is_fired = True
        order.fired_ns = order.next_try_ns = self._now_ns
        yield from self._close(order)

    def _close(self, order: LiveOrder) -> Said:
        """Send the market order that does a stop's work, once nothing else holds its coins."""
        rivals = [each for each in self._orders.values() if self._is_rival(order, each)]
        for rival in rivals:
            yield from self._want_cancel(rival.intent.client_id)
        is_hindered = any(each.intent.client_id in self._orders for each in rivals)
        if self._now_ns < order.next_try_ns or (is_hindered and self._now_ns - order.fired_ns < RIVALS_NS):
            return
        lots = self._free_lots(order) if order.tries else order.left_lots
        order.tries += 1
        order.place = Waits.BOOK
        self._send(order, order.closing(lots))

    def _is_rival(self, order: LiveOrder, other: LiveOrder) -> bool:
        """Return whether another guard of the same position is in the way.

        It freezes the coins; of contracts the exchange lets no more be closed than are held, or both would be.
        """
        intent, theirs = order.intent, other.intent
        return (
            other is not order
            and other.place is not Waits.HERE
            and theirs.is_reduce_only
            and (theirs.symbol, theirs.strategy, theirs.side) == (intent.symbol, intent.strategy, intent.side)
        )

    def _free_lots(self, order: LiveOrder) -> int:
        """Return what a second try sells: what is there, if that is less than what was guarded."""
        left_lots = order.left_lots
        instrument = self._instruments[order.intent.symbol]
        free = self._free.get(instrument.base)
        if instrument.is_perp or order.intent.side is Side.BUY or free is None:
            return left_lots
        return min(left_lots, int(free.scaleb(instrument.quantity_scale))) or left_lots

    def _try_again(self, order: LiveOrder, refused: Refused) -> Said:
        """Take the refusal of an order that does a stop's work: nothing is left to do, or it is done again."""
        text = f"{refused.code} {refused.text}"
        if refused.code in NOTHING_TO_CLOSE_CODES:
            yield from self._finish(order, OrderState.EXPIRED, text)
            return
        is_final = refused.kind in _IN_TROUBLE or order.tries >= CLOSE_TRIES_MAX
        if is_final:
            detail = f"the stop {order.intent.client_id} could not be carried out: {text}"
            scope = symbol_scope(order.intent.symbol)
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.REDUCE_ONLY, scope)
            yield from self._finish(order, OrderState.EXPIRED, text)
            return
        order.place = Waits.HERE
        order.next_try_ns = self._now_ns + CLOSE_AGAIN_NS * order.tries

    # --- what came of an order that was sent

    def placed(self, client_id: str, outcome: Outcome[str], now_ns: int) -> Said:
        """Take what became of a `Place`: the exchange's id of the order, a refusal, or doubt."""
        order = self._answered(client_id, "place", now_ns)
        if order is None:
            return
        self._count(order)
        match outcome:
            case Accepted():
                self._bind(order, outcome.value)
                self._look_later(order)
                self._closed_until_ns.pop(order.intent.symbol, None)
                yield from self._stand(order, OrderState.NEW)
            case Refused():
                yield from self._refuse(order, outcome)
            case Unknown():
                yield from self._lose(order, outcome)
        if order.is_cancel_wanted and order.intent.client_id in self._orders:
            yield from self._cancel_if_due(order)

    def _look_later(self, order: LiveOrder) -> None:
        if order.is_protective:
            order.next_look_ns = self._now_ns + PROTECTIVE_LOOK_NS
        elif order.intent.time_in_force != "GTC" or order.is_stop:
            order.next_look_ns = self._now_ns + LOOK_AT_TAKER_NS

    def _refuse(self, order: LiveOrder, refused: Refused) -> Said:
        yield from self._note_refusal(refused)
        if refused.kind is RefusalKind.MODE:
            self._closed_until_ns[order.intent.symbol] = self._now_ns + MODE_NS
        if order.is_fired:
            yield from self._try_again(order, refused)
        elif order.is_seen:
            self._look(order)  # the stream knows better: it is there
        elif order.is_protective and refused.kind is RefusalKind.ORDER:
            yield from self._hold(order, f"held here: the exchange refused it ({refused.code} {refused.text})")
        else:
            is_ours = refused.kind is RefusalKind.NOT_SENT
            reason = f"{NOT_SENT}: {refused.text}" if is_ours else f"{refused.code} {refused.text}"
            yield from self._finish(order, OrderState.REJECTED, reason)

    def _note_refusal(self, refused: Refused) -> Said:
        if refused.kind in _IN_TROUBLE:
            yield from self._ail(Condition.AUTHORITY, f"{refused.code} {refused.text}", RiskState.HALTED)
        elif refused.kind is RefusalKind.THROTTLED:
            yield from self._ail(Condition.RATE_LIMIT, refused.text, RiskState.REDUCE_ONLY)

    def _lose(self, order: LiveOrder, unknown: Unknown) -> Said:
        """Doubt an order whose answer says nothing; it is asked for until it is certain."""
        if order.is_seen and not order.is_fired:
            return  # the stream knows better: it is there
        if order.state is OrderState.SUBMITTED:
            order.state = OrderState.UNKNOWN
            yield self._event(order, OrderState.UNKNOWN, unknown.reason)
        yield from self._seek(order, unknown)

    def _seek(self, order: LiveOrder, unknown: Unknown) -> Said:
        order.is_lost = True
        self._count(order)
        yield from self._report_doubt(order.intent.symbol, unknown.reason)
        order.under_way.add("resolve")
        self._calls.append(Resolve(order.intent.symbol, unknown, order.is_protective))

    def resolved(self, client_id: str, outcome: Accepted[OrderChanged] | Refused, now_ns: int) -> Said:
        """Take what a search found: the order as it stands, or proof that it was never accepted."""
        order = self._answered(client_id, "resolve", now_ns)
        if order is None or not order.is_lost:
            return
        if isinstance(outcome, Accepted):
            yield from self._report(order, outcome.value)
            return
        if order.filled_lots > order.known_lots:
            self._look(order)  # it cannot be absent: some of it is filled
            return
        order.is_lost = False
        self._count(order)
        if order.is_fired:
            yield from self._try_again(order, outcome)
        elif order.place is not Waits.HERE:
            yield from self._finish(order, OrderState.NEVER_ACCEPTED, outcome.text)
        yield from self._report_doubt(order.intent.symbol)

    def _report_doubt(self, symbol: str, detail: str = "") -> Said:
        scope = symbol_scope(symbol)
        if any((each.is_lost or each.is_strange) and each.intent.symbol == symbol for each in self._orders.values()):
            yield from self._ail(Condition.UNKNOWN_ORDER, detail, RiskState.REDUCE_ONLY, scope)
        else:
            yield from self._well(Condition.UNKNOWN_ORDER, scope)

    # --- what came of questions

    def looked(self, client_id: str, found: OrderChanged | str | None, now_ns: int) -> Said:
        """Take how an order stands; a text: what the exchange says cannot be read.

        None: the question was not answered, or the exchange knows no such order. That alone proves nothing: it is
        asked for again.
        """
        order = self._answered(client_id, "look", now_ns)
        if order is None:
            return
        order.under_way.discard("missed")
        if order.place is Waits.HERE and found is None:
            return
        again_ns = LOOK_AFTER_CANCEL_NS if order.is_cancel_wanted else LOOK_AGAIN_NS
        is_waiting = order.is_protective and not order.is_cancel_wanted
        order.next_look_ns = self._now_ns + (PROTECTIVE_LOOK_NS if is_waiting else again_ns)
        if isinstance(found, str):
            order.is_strange = True
            yield from self._report_doubt(order.intent.symbol, f"order {order.intent.client_id}: {found}")
        elif found is not None:
            self._rest_from_looking(order, found)
            yield from self._report(order, found)

    def _rest_from_looking(self, order: LiveOrder, found: OrderChanged) -> None:
        """Leave a resting order to the stream."""
        if not (order.is_protective or order.is_cancel_wanted or found.state.is_final):
            order.next_look_ns = 0
            self._look_later(order)

    def fills_read(self, client_id: str, fills: Iterable[Filled] | None, now_ns: int) -> Said:
        """Take all fills of an order; None: the question was not answered."""
        order = self._answered(client_id, "fills", now_ns)
        if order is None:
            return
        for fill in fills or ():
            yield from self._fill(order, fill)
        if order.is_short_of_fills:
            order.fills_due_ns = self._now_ns + FILLS_AGAIN_NS

    def listed(self, wallet: Wallet, orders: Iterable[OrderChanged], now_ns: int) -> Said:
        """Take all living orders of a wallet that the exchange lists, conditional ones too."""
        self._now_ns = max(self._now_ns, now_ns)
        there: set[str] = set()
        for listed in orders:
            there.add(own_id(listed.client_id))
            yield from self._on_order(listed)
        for client_id, order in self._orders.items():
            if wallet_of(order.intent.symbol) != wallet:
                continue
            is_expected = order.state in LIVING and order.place is not Waits.HERE and order.end is None
            was_missed, order.is_missed = order.is_missed, is_expected and client_id not in there
            if order.is_missed:
                if not was_missed:
                    order.under_way.add("missed")  # most likely it has just ended; if nobody knows it, the books differ
                self._look(order)

    def _answered(self, client_id: str, kind: str, now_ns: int) -> LiveOrder | None:
        self._now_ns = max(self._now_ns, now_ns)
        own = own_id(client_id)
        order = self._orders.get(own) or self._owed.get(own)
        if order is not None:
            order.under_way.discard(kind)
        return order

    def _look(self, order: LiveOrder) -> None:
        if "look" not in order.under_way:
            order.under_way.add("look")
            self._calls.append(Look(order.sent_id, order.intent.symbol, order.order_id, order.is_protective))

    def _read_fills(self, order: LiveOrder) -> None:
        if order.order_id and "fills" not in order.under_way:
            order.under_way.add("fills")
            self._calls.append(ReadFills(order.sent_id, order.intent.symbol, order.order_id))

    # --- what the private streams say

    def hear(self, event: Event, now_ns: int) -> Said:
        """Return what follows from news of a private stream."""
        self._now_ns = max(self._now_ns, now_ns)
        match event:
            case OrderChanged():
                yield from self._on_order(event)
            case Filled():
                yield from self._on_fill(event)
            case Fresh():
                self._stale.discard(event.market)
                if not self._stale:
                    yield from self._well(Condition.PRIVATE_STREAM)
                self._miss(event)
            case Stale():
                self._stale.add(event.market)
                yield from self._ail(Condition.PRIVATE_STREAM, event.reason, RiskState.REDUCE_ONLY)
            case BalanceChanged():
                self._free[event.currency] = event.available
                self.versions["spot"] += 1
            case PositionChanged():
                self.versions["futures"] += 1
            case AccountChanged():
                pass  # it moves with every mark price

    def _on_order(self, event: OrderChanged) -> Said:
        if not self._is_recovered:
            self._early.append(lambda: self._on_order(event))
            return
        order = self._find(event.client_id, event.order_id)
        if order is not None:
            yield from self._report(order, event)
        elif not event.state.is_final:
            yield from self._stranger(event)

    def _on_fill(self, event: Filled) -> Said:
        if not self._is_recovered:
            self._early.append(lambda: self._on_fill(event))
            return
        order = self._find(event.client_id, event.order_id)
        if order is not None:
            yield from self._fill(order, event)

    def _find(self, client_id: str, order_id: str) -> LiveOrder | None:
        for own in (own_id(client_id), self._by_order_id.get(order_id, "")):
            order = self._orders.get(own) or self._ended.get(own)
            if order is not None:
                return order
        return None

    def _miss(self, fresh: Fresh) -> None:
        """Ask for every order that should live and that a full list lacks."""
        wallet: Wallet = "spot" if fresh.market is Market.SPOT else "futures"
        for order in self._orders.values():
            if wallet_of(order.intent.symbol) != wallet or order.state not in LIVING:
                continue
            if order.place is Waits.BOOK and order.order_id not in fresh.living:
                self._look(order)

    def _stranger(self, event: OrderChanged) -> Said:
        """Report a living order that is not ours, or that somebody else makes in our name."""
        if event.order_id in self._strangers:
            return
        self._strangers.add(event.order_id)
        if order_number(own_id(event.client_id)) is not None:
            text = f"order {event.client_id} bears our mark and is not in our journal: is there a second bot?"
            yield from self._ail(Condition.FOREIGN_ORDER, text, RiskState.HALTED)
        else:
            text = f"order {event.order_id} of {event.symbol} is not ours"
            yield from self._ail(Condition.FOREIGN_ORDER, text, RiskState.REDUCE_ONLY, symbol_scope(event.symbol))

    # --- evidence

    def _bind(self, order: LiveOrder, order_id: str) -> None:
        order.order_id = order_id
        self._by_order_id[order_id] = order.intent.client_id
        if len(self._by_order_id) > 2 * ENDED_KEPT:
            self._by_order_id.popitem(last=False)

    def _report(self, order: LiveOrder, report: OrderChanged) -> Said:
        """Take a report as a lower bound: nothing that is known is lowered by it."""
        symbol = order.intent.symbol
        if symbol not in self._instruments:
            self._early.append(lambda: self._report(order, report))
            return
        if order.is_fired and report.client_id != order.sent_id:
            return  # of the exchange's own stop, whose work is done another way
        if order.order_id and report.order_id != order.order_id and not order.is_stop:
            detail = f"{order.intent.client_id} is two orders at the exchange: {order.order_id} and {report.order_id}"
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.HALTED, symbol_scope(symbol))
            return
        if report.order_id != order.order_id:
            self._bind(order, report.order_id)  # of a stop that triggered, the order that came of it
        yield from self._count_filled(order, report)
        if order.state.is_final:
            yield from self._haunt(order, report)
            return
        was_in_doubt = order.is_lost or order.is_strange
        order.is_lost = order.is_strange = False
        self._note_sent(order)
        if was_in_doubt:
            self._count(order)
        if report.state.is_final:
            yield from self._on_end(order, report)
        else:
            yield from self._stand(order, report.state)
            yield from self._mind_a_cut(order, report)
        if was_in_doubt:
            yield from self._report_doubt(symbol)

    def _mind_a_cut(self, order: LiveOrder, report: OrderChanged) -> Said:
        """Take back an order that the exchange made smaller than it was approved; the gate sends what fits now."""
        intent = order.intent
        if not intent.is_reduce_only or intent.price_ticks is None or order.is_cancel_wanted:
            return
        if self._lots(intent.symbol, report.quantity) >= intent.qty_lots:
            return
        if self._now_ns >= self._cut_until_ns.get(intent.symbol, 0):
            self._cut_until_ns[intent.symbol] = self._now_ns + CUT_AGAIN_NS
            yield from self._want_cancel(intent.client_id)

    def _note_sent(self, order: LiveOrder) -> None:
        """Take note that the work of a stop was begun by an earlier session."""
        if order.place is Waits.HERE and not order.is_fired:
            order.place = Waits.BOOK
            order.is_fired = True
            self._look(order)

    def _count_filled(self, order: LiveOrder, report: OrderChanged) -> Said:
        try:
            filled_lots = self._lots(order.intent.symbol, report.filled_quantity)
        except (OffGrid, BadReply) as error:
            detail = f"order {order.intent.client_id} is filled off the grid: {error}"
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.HALTED, symbol_scope(order.intent.symbol))
            return
        if filled_lots > order.reported_lots:
            order.reported_lots = filled_lots
            self._count(order)
        if order.is_short_of_fills:
            order.fills_due_ns = order.fills_due_ns or self._now_ns + FILLS_LATE_NS
            if order.state.is_final:
                self._owed[order.intent.client_id] = order

    def _haunt(self, order: LiveOrder, report: OrderChanged) -> Said:
        """Take a report of an order that has ended here: late news, unless the order was never to have lived."""
        is_nothing = report.state in REFUSALS or (report.state.is_final and not order.filled_lots)
        if order.state in REFUSALS and not is_nothing:
            detail = f"order {order.intent.client_id} was {order.state} and is {report.state} at the exchange"
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.HALTED, symbol_scope(order.intent.symbol))

    def _on_end(self, order: LiveOrder, report: OrderChanged) -> Said:
        if report.cancel_reason.startswith(FORCED):
            detail = f"the exchange ended order {order.intent.client_id}: {report.cancel_reason}"
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.HALTED, symbol_scope(order.intent.symbol))
        if order.is_protective and report.state in REFUSALS | {OrderState.EXPIRED}:
            # It was triggered, and found no coins. Another order of ours may have held them.
            yield from self._hold(order, "held here: the exchange's stop failed")
            yield from self._fire(order)
            return
        self._begin_end(order, report.state, report.cancel_reason)
        if order.is_short_of_fills:
            self._read_fills(order)
        else:
            yield from self._say_end(order)

    def _begin_end(self, order: LiveOrder, state: OrderState, reason: str) -> None:
        if order.end is None:
            order.end, order.end_ns = (state, reason), self._now_ns
            self._count(order)

    def _stand(self, order: LiveOrder, state: OrderState) -> Said:
        """Say that an order lives, if that is news."""
        after = advance(order.state, state)
        is_further = order.filled_lots > order.told_lots
        if order.end is not None or (after is order.state and not is_further):
            return
        if is_further and after in {OrderState.NEW, OrderState.UNKNOWN}:
            after = OrderState.PARTIALLY_FILLED
        order.state = after
        self._count(order)
        yield self._event(order, after)

    def _fill(self, order: LiveOrder, fill: Filled) -> Said:
        """Say a fill, once, whatever state its order is in; one that contradicts itself is said again."""
        if fill.symbol not in self._instruments:
            self._early.append(lambda: self._fill(order, fill))
            return
        try:
            said = self._made_fill(order, fill)
        except (OffGrid, BadReply) as error:
            detail = f"a fill of {order.intent.client_id} that cannot be booked: {error}"
            yield from self._ail(Condition.INTEGRITY, detail, RiskState.HALTED, symbol_scope(fill.symbol))
            return
        known = order.fills.get(said.key)
        if known == said.content:
            return
        self._count(order)
        yield said  # persistence knows what to think of one trade with two contents
        if known is not None:
            return
        order.fills[said.key] = said.content
        order.summed_lots += said.qty_lots
        if not order.order_id:
            self._bind(order, fill.order_id)
        yield from self._after_fill(order)

    def _after_fill(self, order: LiveOrder) -> Said:
        if not order.is_short_of_fills:
            order.fills_due_ns = 0
            self._owed.pop(order.intent.client_id, None)
        if order.state.is_final:
            return
        self._note_sent(order)
        was_lost, order.is_lost = order.is_lost, False
        if order.is_all_filled:
            self._begin_end(order, OrderState.FILLED, "")
        if order.end is not None and not order.is_short_of_fills:
            yield from self._say_end(order)
        else:
            yield from self._stand(order, OrderState.PARTIALLY_FILLED)
        if was_lost:
            yield from self._report_doubt(order.intent.symbol)

    def _made_fill(self, order: LiveOrder, fill: Filled) -> m.Fill:
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

    def _say_end(self, order: LiveOrder) -> Said:
        assert order.end is not None
        state, reason = order.end
        order.end = None
        if order.is_short_of_fills:
            self._owed[order.intent.client_id] = order
        yield from self._finish(order, order.end_after(state), reason)

    def _finish(self, order: LiveOrder, state: OrderState, reason: str) -> Said:
        assert state in FOLLOWS.get(order.state, frozenset()), f"order is {order.state}, cannot be {state}"
        order.state = state
        order.is_lost = order.is_strange = False
        self._count(order)
        client_id = order.intent.client_id
        self._orders.pop(client_id, None)
        self._ended[client_id] = order
        if len(self._ended) > ENDED_KEPT:
            self._ended.popitem(last=False)
        yield self._event(order, state, reason)
        yield from self._report_doubt(order.intent.symbol)

    # --- what is said

    def _event(self, order: LiveOrder, state: OrderState, reason: str = "") -> m.OrderEvent:
        order.told_lots = order.filled_lots
        return m.OrderEvent(
            ts_ns=self._now_ns,
            client_id=order.intent.client_id,
            symbol=order.intent.symbol,
            order_id=order.order_id,
            state=state,
            filled_lots=order.told_lots,
            reason=reason,
        )

    def _ail(self, condition: Condition, detail: str, severity: RiskState, scope: str = "") -> Said:
        if condition not in EVENTS:
            if (condition, scope) in self._unwell:
                return
            self._unwell.add((condition, scope))
        yield m.HealthReported(
            ts_ns=self._now_ns, condition=condition, is_well=False, severity=severity, scope=scope, detail=detail
        )

    def _well(self, condition: Condition, scope: str = "") -> Said:
        if (condition, scope) in self._unwell:
            self._unwell.discard((condition, scope))
            yield m.HealthReported(ts_ns=self._now_ns, condition=condition, is_well=True, scope=scope)

    def _count(self, order: LiveOrder) -> None:
        self.versions[wallet_of(order.intent.symbol)] += 1

    def _lots(self, symbol: str, quantity: Decimal) -> int:
        """Return coins of spot, or contracts of futures, in lots. Raises OffGrid, BadReply."""
        if wallet_of(symbol) == "futures":
            return int(quantity)
        return self._instruments[symbol].qty_lots(f"{quantity:f}")


def _place_of(order: LiveOrder) -> Waits:
    """Return where an order of an earlier session waits: who has no id of the exchange waits here, if it is a stop."""
    if not order.is_stop:
        return Waits.BOOK
    if wallet_of(order.intent.symbol) == "futures":
        return Waits.BOOK if order.order_id else Waits.HERE
    return Waits.HERE if order.state in LIVING and not order.order_id else Waits.CONDITIONAL


def _atoms(amount: Decimal) -> int:
    return int(amount.scaleb(ATOM_SCALE))
