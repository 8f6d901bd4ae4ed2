"""Whatever is lost, late, doubled or out of order: in the end the desk, and the ledger behind it, know what is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.instrument import ATOMS, Instrument
from bot.core.ledger import Ledger
from bot.core.orders import OrderIntent, OrderState
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve
from bot.exchange.live.desk import EVENTS
from bot.exchange.poloniex.outcome import Accepted, Doubt, Outcome, Refused, Unknown, search_fence_ms
from bot.exchange.poloniex.private_state import Filled, OrderChanged
from tests.exchange.live.desks import NEVER, PERP, Rig, changed, filled, refused, stop
from tests.support.builders import BTC, MS_NS, NOW_NS, buy, instrument, trade

S = OrderState
RECV_WINDOW_MS = 5_000
TICK_MS = 250
ORDERS = 5
STEPS = 60
ROUNDS_MAX = 400
RACE = Unknown(reason="race", doubt=Doubt.RACE, code=21304)


@dataclass
class Theirs:
    """An order at the exchange."""

    intent: OrderIntent
    order_id: str
    state: OrderState = S.NEW
    fills: list[Filled] = field(default_factory=list[Filled])

    @property
    def filled_lots(self) -> int:
        return sum(int(fill.quantity) for fill in self.fills)

    def report(self) -> OrderChanged:
        return changed(self.intent, self.state, self.filled_lots, order_id=self.order_id)

    def old_report(self) -> OrderChanged:
        """Return how it stood when it was new: what a replica that lags says."""
        return changed(self.intent, S.NEW, 0, order_id=self.order_id)

    def fill(self, lots: int) -> None:
        trade_id = f"{self.order_id}-{len(self.fills)}"
        self.fills.append(filled(self.intent, lots, trade_id, order_id=self.order_id))
        done = self.filled_lots == self.intent.qty_lots
        self.state = S.FILLED if done else S.PARTIALLY_FILLED

    def cancel(self) -> bool:
        if self.state.is_final:
            return False
        self.state = S.PARTIALLY_CANCELED if self.fills else S.CANCELED
        return True


class World:
    """A desk with its ledger, an exchange, and a network between them that keeps no promise."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.keeper = Bookkeeper(Ledger())
        self.orders: dict[str, Theirs] = {}
        self.placed: list[str] = []
        """Client ids of all requests for an order, in order."""
        self.on_the_way: list[tuple[int, Callable[[], None]]] = []
        """What will arrive, and from when on it may: answers, news, and requests."""
        self.is_whole = False
        """The network keeps its promises from now on."""
        self.rig = Rig(is_listed=False)
        self.epoch = 0
        self._said = 0
        self.intents: list[OrderIntent] = []
        for symbol in (BTC, PERP):
            self.keeper.handle(m.InstrumentListed(ts_ns=NOW_NS, instrument=self._market(symbol)))
        self.start()

    def _market(self, symbol: str) -> Instrument:
        return instrument(symbol, is_perp=symbol == PERP)

    def start(self) -> None:
        """Begin a session: a new desk that knows only what the journal says. What was on its way arrives nowhere."""
        now_ns = self.rig.now_ns
        self.epoch += 1
        self.rig = Rig(is_listed=False)
        self.rig.now_ns, self._said = now_ns, 0
        started = m.SessionStarted(
            ts_ns=now_ns, epoch=self.epoch, version="", account="a", quote="USDT", cash_atoms=10**9 * ATOMS
        )
        self.rig.tell(*self.keeper.handle(started))
        for symbol in (BTC, PERP):
            self.rig.tell(m.InstrumentListed(ts_ns=now_ns, instrument=self._market(symbol)))
        self.hear_out()

    # --- one thing after another

    def hear_out(self) -> None:
        """Let the ledger hear what the desk said, and the network carry what it asks."""
        for said in self.rig.said[self._said :]:
            if isinstance(said, m.OrderEvent | m.Fill):
                list(self.keeper.handle(said))
        self._said = len(self.rig.said)
        calls, self.rig.calls = self.rig.calls, []
        for call in calls:
            self.carry(call)

    def pass_ms(self, ms: int) -> None:
        for _ in range(ms // TICK_MS):
            self.tick(TICK_MS)
        self.tick(ms % TICK_MS)

    def tick(self, ms: int) -> None:
        self.rig.now_ns += ms * MS_NS
        self.rig.tell(m.Tick(ts_ns=self.rig.now_ns))
        due = [each for each in self.on_the_way if each[0] <= self.rig.now_ns]
        self.chance.shuffle(due)
        for each in due:
            self.on_the_way.remove(each)
            each[1]()
        self.hear_out()

    def later(self, do: Callable[[], None], ms_max: int = 3_000) -> None:
        delay_ms = 0 if self.is_whole else self.chance.randint(0, ms_max)
        self.on_the_way.append((self.rig.now_ns + delay_ms * MS_NS, do))

    def to_desk(self, do: Callable[[Rig], object], ms_max: int = 3_000) -> None:
        """Let an answer or news come to the desk that lives now, or to nobody."""
        rig = self.rig
        self.later(lambda: (do(rig), None)[1] if rig is self.rig else None, ms_max)

    def goes_wrong(self, probability: float) -> bool:
        return not self.is_whole and self.chance.random() < probability

    # --- the exchange

    def news(self, order: Theirs, *fills: Filled) -> None:
        """Tell what happened: each part at a time of its own, perhaps twice, perhaps never."""
        for each in (*fills, order.report()):
            if self.goes_wrong(0.25):
                continue
            for _ in range(1 + self.goes_wrong(0.2)):
                self.to_desk(lambda rig, each=each: rig.hear(each))

    def fill(self, order: Theirs) -> None:
        left = order.intent.qty_lots - order.filled_lots
        order.fill(self.chance.randint(1, left))
        self.news(order, order.fills[-1])

    def arrive(self, intent: OrderIntent) -> Outcome[str]:
        """Take an order, as an exchange does."""
        if intent.client_id in self.orders:
            return Unknown(reason="21312", doubt=Doubt.EXISTS, client_id=intent.client_id)
        if self.goes_wrong(0.15):
            return refused()
        order = self.orders[intent.client_id] = Theirs(intent, str(1_000 + len(self.orders)))
        self.news(order)
        if intent.order_type == "MARKET" or self.chance.random() < 0.3:
            self.fill(order)
            if intent.time_in_force == "IOC" and order.cancel():
                self.news(order)
        return Accepted(value=order.order_id)

    def carry(self, call: Call) -> None:
        match call:
            case Place():
                self.place(call)
            case Cancel():
                self.cancel(call.client_id)
            case CancelSymbol():
                for order in self.orders.values():
                    if order.intent.symbol == call.symbol and order.cancel():
                        self.news(order)
                self.to_desk(lambda rig: rig.desk.symbol_cancelled(call.symbol, rig.now_ns))
            case Look():
                found = None if self.goes_wrong(0.3) else self.orders.get(call.client_id)
                report = found and (found.old_report() if self.goes_wrong(0.2) else found.report())
                self.to_desk(lambda rig: rig.take(rig.desk.looked(call.client_id, report, rig.now_ns)))
            case ReadFills():
                theirs = next((each for each in self.orders.values() if each.order_id == call.order_id), None)
                fills = None if theirs is None or self.goes_wrong(0.3) else list(theirs.fills)
                self.to_desk(lambda rig: rig.take(rig.desk.fills_read(call.client_id, fills, rig.now_ns)))
            case Resolve():
                self.resolve(self.rig, call)

    def place(self, call: Place) -> None:
        intent, signed_ms = call.intent, self.rig.now_ns // MS_NS
        self.placed.append(intent.client_id)
        fence = signed_ms + RECV_WINDOW_MS + 1_500
        unknown = Unknown(reason="lost", doubt=Doubt.NO_ANSWER, client_id=intent.client_id, fence_ms=fence)

        def answer(outcome: Outcome[str]) -> None:
            self.to_desk(lambda rig: rig.take(rig.desk.placed(intent.client_id, outcome, rig.now_ns)))

        if self.goes_wrong(0.2):  # it never arrives
            answer(unknown)
        elif self.goes_wrong(0.25):  # it arrives late, long after we stopped waiting, but within its window
            self.later(lambda: (self.arrive(intent), None)[1], RECV_WINDOW_MS)
            answer(unknown)
        elif self.goes_wrong(0.25):  # it arrives, and its answer does not
            self.arrive(intent)
            answer(unknown)
        else:
            answer(self.arrive(intent))

    def cancel(self, client_id: str) -> None:
        def answer(outcome: Refused | Unknown | None) -> None:
            self.to_desk(lambda rig: rig.take(rig.desk.cancelled(client_id, outcome, rig.now_ns)))

        lost = Unknown(reason="lost", doubt=Doubt.NO_ANSWER)
        if self.goes_wrong(0.2):
            answer(lost)
            return
        order = self.orders.get(client_id)
        if order is not None and not order.state.is_final and self.goes_wrong(0.3):
            self.fill(order)  # the cancel loses, or meets what is left
        if order is not None and order.cancel():
            self.news(order)
            answer(lost if self.goes_wrong(0.2) else None)
        else:
            answer(RACE)

    def resolve(self, rig: Rig, call: Resolve) -> None:
        """Search as the clients do: found is found; not found is proof after the fence only."""
        client_id = call.unknown.client_id

        def ask() -> None:
            order = self.orders.get(client_id)
            if rig is not self.rig or not rig.desk.is_lost(client_id):
                return
            if order is not None and not self.goes_wrong(0.3):
                report = order.report()
                self.to_desk(lambda rig: rig.take(rig.desk.resolved(client_id, Accepted(value=report), rig.now_ns)))
            elif order is None and rig.now_ns // MS_NS > search_fence_ms(call.unknown):
                self.to_desk(lambda rig: rig.take(rig.desk.resolved(client_id, NEVER, rig.now_ns)))
            else:
                self.on_the_way.append((rig.now_ns + 1_000 * MS_NS, ask))

        self.on_the_way.append((rig.now_ns + 200 * MS_NS, ask))

    # --- the bot

    def submit(self) -> None:
        number = len(self.intents) + 1
        kind = self.chance.choice(["limit", "market", "perp", "stop"])
        intent = {
            "limit": buy(10, 100, number=number),
            "market": buy(10, number=number),
            "perp": buy(10, 100, number=number, symbol=PERP),
            "stop": stop(PERP, number=number),
        }[kind]
        self.intents.append(intent)
        approved = m.OrderApproved(ts_ns=self.rig.now_ns, intent=intent)
        for said in self.keeper.handle(approved):
            self.rig.approvals.issue(intent, self.rig.now_ns)
            self.rig.tell(said)
        self.hear_out()

    def cancel_one(self, intent: OrderIntent) -> None:
        wanted = m.CancelRequested(ts_ns=self.rig.now_ns, client_id=intent.client_id, reason="")
        self.rig.tell(*self.keeper.handle(wanted))
        self.hear_out()

    def step(self) -> None:
        living = [order for order in self.orders.values() if not order.state.is_final]
        match self.chance.randint(0, 9):
            case 0 | 1 if len(self.intents) < ORDERS:
                self.submit()
            case 2 if self.intents:
                self.cancel_one(self.chance.choice(self.intents))
            case 3 | 4 if living:
                self.fill(self.chance.choice(living))
            case 5 if living and self.chance.random() < 0.3:
                order = self.chance.choice(living)
                order.cancel()  # by the exchange
                self.news(order)
            case 6:
                self.rig.tell(trade(self.chance.choice([80, 100]), 1, symbol=PERP))
                self.hear_out()
            case 7 if self.chance.random() < 0.15:
                self.start()
            case _:
                pass
        self.pass_ms(self.chance.choice([0, 50, 250, 1_000, 4_000]))

    def heal(self) -> None:
        """Let the network be whole, want every order gone, and wait until nothing is left to be settled."""
        self.is_whole = True
        for intent in self.intents:
            self.cancel_one(intent)
        for _ in range(ROUNDS_MAX):
            self.pass_ms(250)
            ledger = self.keeper.ledger
            if not (ledger.live_orders or ledger.unsettled_orders or self.on_the_way):
                self.pass_ms(250)
                return
        raise AssertionError([order.intent.client_id for order in self.keeper.ledger.live_orders])


def play(chance: Random) -> World:
    world = World(chance)
    for _ in range(STEPS):
        world.step()
    world.heal()
    return world


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_F93_F03_whatever_the_network_does_the_books_end_up_true(seed: int) -> None:
    world = play(Random(seed))
    ledger = world.keeper.ledger
    sent = [name for name in world.placed if name not in {i.client_id for i in world.intents if i.order_type == "STOP"}]
    assert len(sent) == len(set(sent))  # O1: none is sent twice, but for a stop's work that is proven not to be there
    for intent in world.intents:
        record = ledger.order(intent.client_id)
        assert record is not None
        theirs = [each for name, each in world.orders.items() if name.startswith(intent.client_id)]
        assert len(theirs) <= 1  # one order for each intent
        if record.state in {S.NEVER_ACCEPTED, S.REJECTED}:
            assert not theirs
        if not theirs:
            assert record.filled_lots == 0
            assert record.state in {S.NEVER_ACCEPTED, S.REJECTED, S.CANCELED, S.EXPIRED}
            continue
        (order,) = theirs
        assert order.state.is_final
        assert record.state is order.state
        assert record.filled_lots == order.filled_lots == record.reported_lots
    assert world.keeper.counts["fills"] == sum(len(order.fills) for order in world.orders.values())
    assert world.keeper.events["quarantined"] == 0
    lasting = {(r.condition, r.scope): r.is_well for r in world.rig.said if isinstance(r, m.HealthReported)}
    assert all(is_well for (condition, _), is_well in lasting.items() if condition not in EVENTS), lasting


def test_the_world_of_this_test_does_what_it_is_for() -> None:
    """Each kind of end is met, and each way of losing things, or the law above is about nothing."""
    ends: set[OrderState] = set()
    for seed in range(40):
        world = play(Random(seed))
        ends |= {record.state for i in world.intents if (record := world.keeper.ledger.order(i.client_id)) is not None}
    assert ends >= {S.NEVER_ACCEPTED, S.REJECTED, S.CANCELED, S.PARTIALLY_CANCELED, S.FILLED}
