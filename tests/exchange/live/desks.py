"""A desk of live orders with an exchange played by the test: what it was told, what it said, what it asks."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import Side
from bot.core.orders import OrderIntent, OrderRecord, OrderState
from bot.exchange.live.calls import Call
from bot.exchange.live.desk import LiveDesk
from bot.exchange.poloniex.outcome import Accepted, Doubt, Market, Outcome, RefusalKind, Refused, Unknown
from bot.exchange.poloniex.private_state import Event, Filled, OrderChanged
from tests.support.builders import BTC, MS_NS, NOW_NS, buy, listed

PERP = "BTC_USDT_PERP"
NOW_MS = NOW_NS // MS_NS
TTL_NS = 2 * m.SECOND_NS

T = TypeVar("T")


class Rig:
    """A desk, its approvals, and everything that came out of it."""

    def __init__(self, *, is_listed: bool = True) -> None:
        self.approvals = Approvals(TTL_NS)
        self.desk = LiveDesk(self.approvals)
        self.now_ns = NOW_NS
        self.said: list[m.AnyMessage] = []
        self.calls: list[Call] = []
        if is_listed:
            self.tell(listed(), listed(PERP, is_perp=True, notional_atoms_min=0))

    # --- told

    def tell(self, *messages: m.AnyMessage) -> list[m.AnyMessage]:
        return self.take([said for message in messages for said in self.desk.handle(message)])

    def submit(self, intent: OrderIntent) -> OrderIntent:
        self.approvals.issue(intent, self.now_ns)
        self.tell(m.SubmitOrder(ts_ns=self.now_ns, intent=intent))
        return intent

    def cancel(self, intent: OrderIntent) -> list[m.AnyMessage]:
        return self.tell(m.CancelOrder(ts_ns=self.now_ns, client_id=intent.client_id))

    def pass_s(self, seconds: float) -> list[m.AnyMessage]:
        """Let time pass in quarters of a second, as ticks come."""
        before = len(self.said)
        for _ in range(round(seconds * 4)):
            self.now_ns += m.SECOND_NS // 4
            self.tell(m.Tick(ts_ns=self.now_ns))
        return self.said[before:]

    def placed(self, intent: OrderIntent, outcome: Outcome[str]) -> list[m.AnyMessage]:
        return self.take(self.desk.placed(intent.client_id, outcome, self.now_ns))

    def accept(self, intent: OrderIntent, order_id: str = "77") -> OrderIntent:
        """Submit an order that the exchange takes."""
        self.submit(intent)
        self.placed(intent, Accepted(value=order_id))
        return intent

    def lose(self, intent: OrderIntent, doubt: Doubt = Doubt.NO_ANSWER) -> OrderIntent:
        """Submit an order whose answer is lost."""
        self.submit(intent)
        self.placed(intent, lost(intent, doubt))
        return intent

    def hear(self, *events: Event) -> list[m.AnyMessage]:
        return self.take([said for event in events for said in self.desk.hear(event, self.now_ns)])

    def cancelled(self, intent: OrderIntent, outcome: Refused | Unknown | None = None) -> list[m.AnyMessage]:
        return self.take(self.desk.cancelled(intent.client_id, outcome, self.now_ns))

    def resolved(self, intent: OrderIntent, outcome: Accepted[OrderChanged] | Refused) -> list[m.AnyMessage]:
        return self.take(self.desk.resolved(intent.client_id, outcome, self.now_ns))

    def looked(self, intent: OrderIntent, found: OrderChanged | None) -> list[m.AnyMessage]:
        return self.take(self.desk.looked(intent.client_id, found, self.now_ns))

    def fills_read(self, intent: OrderIntent, fills: Iterable[Filled] | None) -> list[m.AnyMessage]:
        return self.take(self.desk.fills_read(intent.client_id, fills, self.now_ns))

    def take(self, said: Iterable[m.AnyMessage]) -> list[m.AnyMessage]:
        new = list(said)
        self.said += new
        self.calls += self.desk.take_calls()
        return new

    # --- seen

    def asked(self, kind: type[T]) -> list[T]:
        """Return the calls of a kind, and forget them."""
        found = [call for call in self.calls if isinstance(call, kind)]
        self.calls = [call for call in self.calls if not isinstance(call, kind)]
        return found

    def states(self, intent: OrderIntent) -> list[OrderState]:
        return [event.state for event in self.events(intent)]

    def events(self, intent: OrderIntent) -> list[m.OrderEvent]:
        return [each for each in self.said if isinstance(each, m.OrderEvent) and each.client_id == intent.client_id]

    def booked_lots(self, intent: OrderIntent) -> int:
        """Return the sum of the fills that were said, each once by its key."""
        fills = {e.key: e.qty_lots for e in self.said if isinstance(e, m.Fill) and e.client_id == intent.client_id}
        return sum(fills.values())

    def health(self, condition: m.Condition) -> list[m.HealthReported]:
        return [each for each in self.said if isinstance(each, m.HealthReported) and each.condition is condition]


def lost(intent: OrderIntent, doubt: Doubt = Doubt.NO_ANSWER) -> Unknown:
    return Unknown(reason="lost", doubt=doubt, client_id=intent.client_id, fence_ms=NOW_MS + 6_500)


def refused(kind: RefusalKind = RefusalKind.ORDER, code: int = 21721, text: str = "too little") -> Refused:
    return Refused(code=code, text=text, kind=kind)


NEVER = refused(RefusalKind.NEVER_ACCEPTED, 0, "never accepted")


def changed(intent: OrderIntent, state: OrderState, filled: int = 0, **changes: Any) -> OrderChanged:
    """Return what the exchange says of an order; a lot is a coin, or a contract."""
    made = OrderChanged(
        market=Market.FUTURES if intent.symbol == PERP else Market.SPOT,
        symbol=intent.symbol,
        order_id="77",
        client_id=intent.client_id,
        side=intent.side,
        order_type=intent.order_type,
        state=state,
        price=None,
        quantity=Decimal(intent.qty_lots),
        filled_quantity=Decimal(filled),
        filled_amount=Decimal(0),
        created_ms=NOW_MS,
        changed_ms=NOW_MS,
    )
    return msgspec.structs.replace(made, **changes)


def filled(intent: OrderIntent, qty: int, trade_id: str = "1", **changes: Any) -> Filled:
    """Return one fill of an order, at 100."""
    made = Filled(
        market=Market.FUTURES if intent.symbol == PERP else Market.SPOT,
        symbol=intent.symbol,
        order_id="77",
        client_id=intent.client_id,
        trade_id=trade_id,
        side=intent.side,
        price=Decimal(100),
        quantity=Decimal(qty),
        fee=Decimal(0),
        fee_currency="",
        is_maker=False,
        traded_ms=NOW_MS,
    )
    return msgspec.structs.replace(made, **changes)


def stop(
    symbol: str = BTC, qty: int = 10, trigger: int = 90, *, number: int = 1, side: Side = Side.SELL
) -> OrderIntent:
    """Return a guard that sells what is held, or buys a short back, when the market has reached its trigger."""
    return msgspec.structs.replace(
        buy(qty, number=number),
        symbol=symbol,
        side=side,
        order_type="STOP",
        time_in_force="GTC",
        role="stop",
        trigger_ticks=trigger,
        is_reduce_only=True,
        reserved_atoms=0,
    )


def recovered(*records: OrderRecord, unsettled: Iterable[OrderRecord] = (), epoch: int = 2) -> m.Recovered:
    return m.Recovered(
        ts_ns=NOW_NS,
        epoch=epoch,
        quote="USDT",
        cash_atoms=0,
        holdings={},
        orders=records,
        unsettled=tuple(unsettled),
        risk_state=m.RiskState.NORMAL,
        risk_cause="",
        equity=None,
    )
