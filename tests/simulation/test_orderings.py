"""Any order of delivery and any crash: limits hold, nothing is ordered twice, and all agree in the end.

Gate, bookkeeper and paper exchange run under a scheduler that picks the next one at random. What they do is judged by
the exchange's own books, which is where a mistake would cost money.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
import pytest

from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import Stage
from bot.core.instrument import ATOMS, Side
from bot.core.ledger import Ledger
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.messages import SECOND_NS
from bot.core.orders import OrderIntent
from bot.core.risk import RiskGate
from tests.support.builders import (
    BTC,
    ETH,
    MS_NS,
    NOW_NS,
    Shuffled,
    book_lost,
    command,
    depth,
    limits,
    listed,
    quote,
    session,
    signal,
    tick,
    trade,
)

SEEDS = 200
STEPS = 400
PRICE = 1_000
CASH = 100_000
MAX_POSITION = 40_000
"""40 % of the cash: one order of 30 lots fits in, two do not."""
MOVES = 1.02
"""Prices stay within half a percent and the collar is one: what is worth 40,000 now may be worth a bit more soon."""
SYMBOLS = (BTC, ETH)
STRATEGIES = ("one", "two")


class Exchange(PaperExchange):
    """The paper exchange, with an eye on its own books, and the manners of a real one: it repeats itself, and says at
    times how an order ended before it says what was filled."""

    def __init__(self, terms: PaperTerms, rng: random.Random, said: Counter[str]) -> None:
        super().__init__(terms)
        self._rng = rng
        self._said = said
        self._told: list[m.AnyMessage] = []
        self.roles: dict[str, str] = {}

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        if isinstance(message, m.SubmitOrder):
            self.roles[message.intent.client_id] = message.intent.role
        elif isinstance(message, m.Recovered):
            self.roles.update((record.intent.client_id, record.intent.role) for record in message.orders)
        outputs = list(super().handle(message))
        self._said.update(type(output).__name__ for output in outputs)
        self._said.update(self.roles[output.client_id] for output in outputs if isinstance(output, m.Fill))
        if outputs:
            if self._rng.random() < 0.3:
                self._rng.shuffle(outputs)
            self._told += outputs
            outputs += self._rng.choices(self._told, k=self._rng.randint(0, 2))
        for symbol in SYMBOLS:
            assert self.worst_case(symbol) <= MAX_POSITION * MOVES, f"exposure after {message!r}"
        assert self._cash_atoms >= 0
        for symbol, position in self._positions.items():
            assert position.base_atoms >= 0 or self._instruments[symbol].is_perp
        return iter(outputs)

    def worst_case(self, symbol: str) -> float:
        """Return what is held, and all that was ever asked for and may still be bought, in quote currency.

        Of a perpetual, or all that may still be sold if that is worse; guards only make a position smaller.
        """
        held = self._position(symbol).base_atoms * PRICE
        bought = sold = 0
        for intent, leaves_lots in self.working():
            if intent.symbol != symbol or intent.is_reduce_only:
                continue
            if self._instruments[symbol].is_perp:
                worth = leaves_lots * PRICE * ATOMS
                bought, sold = (bought + worth, sold) if intent.side is Side.BUY else (bought, sold + worth)
            else:
                bought += intent.reserved_atoms * leaves_lots // intent.qty_lots
        return max(abs(held + bought), abs(held - sold)) / ATOMS

    def working(self) -> list[tuple[OrderIntent, int]]:
        """Return every order on its way, at the door or in the book, with what is left of it."""
        travelling = [
            arrival.action.intent for arrival in self._travelling if isinstance(arrival.action, m.SubmitOrder)
        ]
        waiting = [(intent, intent.qty_lots) for intent in (*travelling, *self._at_door.values())]
        resting = [order for market in self._markets.values() for order in (*market.resting, *market.stops)]
        return waiting + [(order.intent, order.leaves_lots) for order in resting]


class World:
    """A bot in a market that a seed moves."""

    def __init__(self, seed: int, *, is_perp: bool = False, is_guarded: bool = False) -> None:
        self.rng = random.Random(seed)
        self.is_perp = is_perp
        self.is_guarded = is_guarded
        self.numbers = Counter[tuple[str, str]]()
        self.ledger = Ledger()
        self.now_ns = NOW_NS
        self.wanted = Counter[tuple[str, str]]()
        """The most that a strategy ever wanted of a symbol, long or short."""
        self.said = Counter[str]()
        """What the exchange said in all sessions."""
        self.start()

    def start(self) -> None:
        """Begin a session on what the journal says; whatever was on its way is forgotten."""
        self.gate = RiskGate(
            limits(
                max_position_bps=MAX_POSITION * 10_000 // CASH,
                collar_bps=100,
                passive_ttl_ns=SECOND_NS,
                daily_loss_bps=9_000,
                daily_loss_halt_bps=9_500,
                drawdown_bps=9_000,
                drawdown_halt_bps=9_500,
            )
        )
        self.exchange = Exchange(
            PaperTerms(maker_fee_ppm=1_450, taker_fee_ppm=1_550, latency_ns=50 * MS_NS), self.rng, self.said
        )
        self.keeper = Bookkeeper(self.ledger)
        self.scheduler = Shuffled(
            {Stage.RISK_GATE: self.gate, Stage.PERSISTENCE: self.keeper, Stage.EXECUTOR: self.exchange},
            self.rng.getrandbits(32),
        )
        self.scheduler.post(Stage.CONTROL, session(cash=CASH, epoch=self.ledger.epoch + 1, at_ns=self.now_ns))
        for symbol in SYMBOLS:
            self.feed(listed(symbol, is_perp=self.is_perp))

    def feed(self, *messages: m.AnyMessage) -> None:
        for message in messages:
            self.scheduler.post(Stage.FEED, message)

    def move_book(self, symbol: str) -> None:
        mid = PRICE + self.rng.randint(-4, 4)
        bids = [(mid - 1 - i, self.rng.randint(1, 25)) for i in range(3)]
        asks = [(mid + 1 + i, self.rng.randint(1, 25)) for i in range(3)]
        self.feed(
            depth(bids, asks, symbol=symbol, at_ns=self.now_ns),
            quote(mid - 1, mid + 1, symbol=symbol, at_ns=self.now_ns),
        )

    def wish(self, strategy: str, symbol: str, target: int) -> None:
        if self.is_perp and self.rng.random() < 0.5:
            target = -target
        self.wanted[strategy, symbol] = max(self.wanted[strategy, symbol], abs(target))
        self.numbers[strategy, symbol] += 1
        is_passive = self.rng.random() < 0.5
        wish = signal(
            target,
            strategy=strategy,
            symbol=symbol,
            is_passive=is_passive,
            at_ns=self.now_ns,
            number=self.numbers[strategy, symbol],
        )
        if self.is_guarded and target:
            sign = 1 if target > 0 else -1
            wish = msgspec.structs.replace(
                wish,
                stop_ticks=PRICE - sign * self.rng.randint(3, 7),
                profit_ticks=self.rng.choice([0, PRICE + sign * self.rng.randint(1, 5)]),
                limit_ticks=self.rng.choice([0, PRICE - sign * self.rng.randint(0, 3)]),
                amount_atoms=0 if self.is_perp else self.rng.choice([0, target * PRICE * ATOMS]),
            )
        self.scheduler.post(Stage.STRATEGY, wish)

    def let_time_pass(self, ms: int) -> None:
        self.now_ns += ms * MS_NS
        self.feed(tick(self.now_ns))

    def step(self, *, wishes: Iterable[int], verbs: Iterable[m.OperatorVerb], crash: float) -> None:
        """Let one thing happen, and some of what is on its way arrive."""
        rng, symbol = self.rng, self.rng.choice(SYMBOLS)
        match rng.choices(
            ["book", "trade", "wish", "time", "lost", "operator", "crash"], [30, 25, 20, 20, 1, 1, crash]
        )[0]:
            case "book":
                self.move_book(symbol)
            case "trade":
                taker = rng.choice(list(Side))
                self.feed(
                    trade(PRICE + rng.randint(-5, 5), rng.randint(1, 30), taker, symbol=symbol, at_ns=self.now_ns)
                )
            case "wish":
                self.wish(rng.choice(STRATEGIES), symbol, rng.choice(list(wishes)))
            case "time":
                self.let_time_pass(rng.choice([10, 60, 250, 400]))
            case "lost":
                self.feed(book_lost(symbol, at_ns=self.now_ns))
            case "operator":
                self.scheduler.post(Stage.CONTROL, command(rng.choice(list(verbs)), at_ns=self.now_ns))
            case _:
                self.start()
        self.scheduler.run(rng.randint(0, 8))
        self.check()

    def check(self) -> None:
        for (strategy, symbol), most in self.wanted.items():
            held = self.ledger.holdings.get(strategy, {}).get(symbol, 0)
            assert held >= 0 or self.is_perp
            assert abs(held) <= (most + 1) * ATOMS, f"{strategy} holds {held / ATOMS} {symbol}, wanted {most}"
            orders = self.gate.account.orders_of(strategy, symbol)
            roles = Counter(order.record.intent.role for order in orders if order.record.leaves_lots)
            assert roles["stop"] <= 1 >= roles["profit"]
        assert self.gate.account.free_atoms >= 0

    def come_to_rest(self) -> None:
        """Deliver all that is on its way; what rests in the book rests on."""
        for symbol in SYMBOLS:
            self.move_book(symbol)
        self.scheduler.run()
        for _ in range(3):
            self.let_time_pass(60)
            self.scheduler.run()

    def check_that_all_agree(self) -> None:
        account, ledger, exchange = self.gate.account, self.ledger, self.exchange
        assert account.cash_atoms == ledger.cash_atoms
        # Which lots of a perpetual were closed depends on the order of its fills; what all is worth does not.
        costs = sum(position.cost_atoms for position in exchange._positions.values()) if self.is_perp else 0
        assert ledger.cash_atoms - sum(ledger.recovered(0).costs.values()) == exchange._cash_atoms - costs
        for symbol in SYMBOLS:
            position = ledger.positions.get(symbol)
            held = position.base_atoms if position is not None else 0
            assert account.equity.base_atoms.get(symbol, 0) == held == exchange._position(symbol).base_atoms
        for (strategy, symbol), atoms in account.held.items():
            assert ledger.holdings.get(strategy, {}).get(symbol, 0) == atoms
        assert account.equity_atoms == self.keeper.equity_atoms
        working = {intent.client_id: leaves for intent, leaves in exchange.working()}
        assert {order.intent.client_id: order.leaves_lots for order in ledger.live_orders} == working
        assert {name: order.record.leaves_lots for name, order in account.working.items()} == working

    def close(self) -> None:
        self.scheduler.post(Stage.CONTROL, command("close", at_ns=self.now_ns))
        self.come_to_rest()


@pytest.mark.parametrize("crash", [0.0, 2.0], ids=["calm", "crashing"])
def test_limits_hold_and_all_agree_whatever_comes_first(crash: float) -> None:
    fills = 0
    for seed in range(SEEDS):
        world = World(seed)
        for _ in range(STEPS):
            world.step(wishes=(0, 5, 12, 30), verbs=("halt", "reduce", "flatten", "resume", "resume"), crash=crash)
        world.come_to_rest()
        world.check_that_all_agree()
        world.close()
        world.check_that_all_agree()
        assert not world.gate.account.working
        fills += world.said["Fill"]
    assert fills > 15 * SEEDS, "the market was too quiet to prove anything"


@pytest.mark.parametrize("crash", [0.0, 2.0], ids=["calm", "crashing"])
@pytest.mark.parametrize("is_perp", [False, True], ids=["spot", "perp"])
def test_guards_hold_too_and_end_with_what_they_guard(is_perp: bool, crash: float) -> None:
    roles = Counter[str]()
    for seed in range(SEEDS // 4):
        world = World(seed, is_perp=is_perp, is_guarded=True)
        for _ in range(STEPS):
            world.step(wishes=(0, 5, 12, 30), verbs=("reduce", "flatten", "resume", "resume"), crash=crash)
        world.come_to_rest()
        world.check_that_all_agree()
        roles += world.said
        world.scheduler.post(Stage.CONTROL, command("resume", at_ns=world.now_ns))
        world.scheduler.post(Stage.CONTROL, command("flatten", at_ns=world.now_ns))
        for _ in range(10):
            world.come_to_rest()
        world.check_that_all_agree()
        assert not world.gate.account.working
        for held in world.ledger.holdings.values():
            assert all(abs(atoms) < ATOMS for atoms in held.values())
    assert min(roles["stop"], roles["profit"], roles["trade"]) > SEEDS // 8, roles


@pytest.mark.parametrize("crash", [0.0, 2.0], ids=["calm", "crashing"])
def test_one_wish_is_bought_once(crash: float) -> None:
    whole = 0
    for seed in range(SEEDS):
        world = World(seed)
        target = world.rng.choice([5, 12, 18])
        for _ in range(STEPS):
            world.step(wishes=(target,), verbs=("halt", "reduce", "resume", "resume"), crash=crash)
        world.come_to_rest()
        world.check_that_all_agree()
        for position in world.ledger.positions.values():
            assert position.base_atoms <= len(STRATEGIES) * (target + 1) * ATOMS
            whole += position.realised_atoms == 0 and position.base_atoms > 0
    assert whole > SEEDS // 2, "too little was bought to prove anything"


@pytest.mark.parametrize("seed", range(20))
def test_flattening_ends_flat_whatever_was_on_its_way(seed: int) -> None:
    world = World(seed)
    for _ in range(60):
        world.step(wishes=(5, 12, 30), verbs=("resume",), crash=0)
    world.scheduler.post(Stage.CONTROL, command("flatten", at_ns=world.now_ns))
    for _ in range(40):
        world.step(wishes=(5, 12, 30), verbs=("flatten",), crash=0)
    for _ in range(10):
        world.come_to_rest()
    world.check_that_all_agree()
    assert all(position.base_atoms < 2 * ATOMS for position in world.ledger.positions.values())  # a coin of dust each
    assert not world.gate.account.working


def test_a_seed_gives_the_same_run() -> None:
    def run(seed: int) -> tuple[int, int]:
        world = World(seed)
        for _ in range(STEPS):
            world.step(wishes=(0, 5, 12, 30), verbs=("halt", "resume"), crash=1)
        return world.ledger.cash_atoms, world.said["Fill"]

    assert run(7) == run(7) != run(8)
