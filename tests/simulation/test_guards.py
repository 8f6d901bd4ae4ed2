"""The life of guards: gate, bookkeeper, paper exchange and a strategy of a few lines, in the plain scheduler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import Fifo, Stage
from bot.core.instrument import ATOMS, Side
from bot.core.ledger import Ledger
from bot.core.matching import PaperExchange, PaperTerms
from bot.core.risk import RiskGate
from tests.support.builders import (
    BTC,
    MS_NS,
    NOW_NS,
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

REACH = 10
"""Ticks from the entry to the stop and to the target."""


class Trader:
    """A strategy that guards what it holds from the fill on, and wants nothing once a guard has closed it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_amount = target > 0
        self.guards = (0, 0)
        self.number = 1

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        match message:
            case m.FillBooked():
                held = message.strategy_atoms // ATOMS
                if held == 0:
                    self.target, self.guards = 0, (0, 0)
                elif self.guards == (0, 0):
                    away = REACH if held > 0 else -REACH
                    self.guards = message.fill.price_ticks - away, message.fill.price_ticks + away
                yield self.wish(message.ts_ns)
            case m.Recovered():
                held = message.holdings.get("one", {}).get(BTC, 0) // ATOMS
                if held:
                    entry = message.entries["one"][BTC]
                    away = REACH if held > 0 else -REACH
                    self.target, self.guards, self.is_amount = held, (entry - away, entry + away), False
            case _:
                assert isinstance(message, m.InstrumentListed)

    def wish(self, at_ns: int) -> m.Signal:
        stop, profit = self.guards
        amount = self.target * 100 * ATOMS if self.is_amount and self.target > 0 else 0
        return signal(
            self.target, at_ns=at_ns, number=self.number, amount_atoms=amount, stop_ticks=stop, profit_ticks=profit
        )


class Bench:
    """A bot at 100 to 100, the book ten thousand lots deep, with an exchange 50 ms away."""

    def __init__(self, target: int) -> None:
        self.ledger = Ledger()
        self.now_ns = NOW_NS
        self.start(target)

    def start(self, target: int) -> None:
        """Begin a session on what the journal says; what was on its way is forgotten."""
        self.trader = Trader(target)
        self.gate = RiskGate(limits(daily_loss_bps=9_000, daily_loss_halt_bps=9_500))
        self.fifo = Fifo(
            {
                Stage.STRATEGY: self.trader,
                Stage.RISK_GATE: self.gate,
                Stage.PERSISTENCE: Bookkeeper(self.ledger),
                Stage.EXECUTOR: PaperExchange(PaperTerms(maker_fee_ppm=0, taker_fee_ppm=0, latency_ns=50 * MS_NS)),
            }
        )
        self.fifo.post(Stage.CONTROL, session(epoch=self.ledger.epoch + 1, at_ns=self.now_ns))
        self.feed(listed(is_perp=target < 0))
        self.price(100)

    def feed(self, *messages: m.AnyMessage) -> None:
        for message in messages:
            self.fifo.post(Stage.FEED, message)
            self.fifo.run()

    def price(self, mid: int) -> None:
        """Move the book, and give what travels time to arrive, twice."""
        self.feed(
            depth(((mid, 10_000),), ((mid + 1, 10_000),), at_ns=self.now_ns), quote(mid, mid + 1, at_ns=self.now_ns)
        )
        for _ in range(4):
            self.now_ns += 60 * MS_NS
            self.feed(tick(self.now_ns))

    def ask(self) -> None:
        """Let the strategy repeat its wish, as it does with every bar."""
        self.fifo.post(Stage.STRATEGY, self.trader.wish(self.now_ns))
        self.price(100)

    @property
    def held(self) -> int:
        position = self.ledger.positions.get(BTC)
        return position.base_atoms // ATOMS if position is not None else 0

    @property
    def guards(self) -> dict[str, tuple[Side, int, int]]:
        """Return by role what is left of each living order, by what the journal says."""
        return {
            record.intent.role: (
                record.intent.side,
                record.leaves_lots,
                record.intent.trigger_ticks or record.intent.price_ticks or 0,
            )
            for record in self.ledger.live_orders
        }


def opened(target: int) -> Bench:
    """Return a bench where a position was opened, a long for an amount."""
    bench = Bench(target)
    bench.ask()
    return bench


LONG = {"stop": (Side.SELL, 9, 91), "profit": (Side.SELL, 9, 111)}
"""Ten times a hundred buys nine lots at 101."""
SHORT = {"stop": (Side.BUY, 10, 110), "profit": (Side.BUY, 10, 90)}


@pytest.mark.parametrize(("target", "held", "guards"), [(10, 9, LONG), (-10, -10, SHORT)])
def test_a_position_is_guarded_from_its_fill_on(
    target: int, held: int, guards: dict[str, tuple[Side, int, int]]
) -> None:
    bench = opened(target)
    assert (bench.held, bench.guards) == (held, guards)
    bench.ask()
    assert (bench.held, bench.guards) == (held, guards)


@pytest.mark.parametrize(
    ("target", "mid", "cash"),
    [
        (10, 91, 10_000 - 9 * 101 + 9 * 91),
        (10, 112, 10_000 - 9 * 101 + 9 * 111),
        (-10, 109, 10_000 + 10 * 100 - 10 * 110),
        (-10, 88, 10_000 + 10 * 100 - 10 * 90),
    ],
)
def test_one_guard_ends_the_position_and_the_other_goes_with_it(target: int, mid: int, cash: int) -> None:
    bench = opened(target)
    bench.price(mid)
    assert (bench.held, bench.guards, bench.ledger.cash_atoms) == (0, {}, cash * ATOMS)
    bench.ask()
    assert (bench.held, bench.guards) == (0, {})


def test_a_target_that_fills_in_part_leaves_the_rest_guarded() -> None:
    bench = opened(10)
    bench.feed(trade(112, 4, Side.BUY, at_ns=bench.now_ns))
    bench.price(100)
    assert bench.held == 5
    assert bench.guards == {"stop": (Side.SELL, 5, 91), "profit": (Side.SELL, 5, 111)}


@pytest.mark.parametrize("target", [10, -10])
def test_an_exit_takes_the_guards_away_first(target: int) -> None:
    bench = opened(target)
    bench.trader.target, bench.trader.guards = 0, (0, 0)
    bench.ask()
    assert (bench.held, bench.guards) == (0, {})


@pytest.mark.parametrize("target", [10, -10])
def test_a_stop_that_is_moved_is_replaced(target: int) -> None:
    bench = opened(target)
    stop, profit = bench.trader.guards
    closer = stop + (2 if target > 0 else -2)
    bench.trader.guards = closer, profit
    bench.ask()
    assert {role: guard[2] for role, guard in bench.guards.items()} == {"stop": closer, "profit": profit}


@pytest.mark.parametrize(("target", "mid"), [(10, 90), (-10, 110)])
def test_guards_outlive_a_crash_and_are_not_doubled(target: int, mid: int) -> None:
    bench = opened(target)
    before = bench.guards
    bench.start(target)
    assert bench.guards == before
    bench.ask()
    assert bench.guards == before
    bench.price(mid)
    assert (bench.held, bench.guards) == (0, {})


@pytest.mark.parametrize("target", [10, -10])
def test_guards_are_set_again_after_a_session_that_ended_in_good_order(target: int) -> None:
    bench = opened(target)
    before = bench.guards
    bench.fifo.post(Stage.CONTROL, command("close", at_ns=bench.now_ns))
    bench.price(100)
    assert (bench.guards, bench.held != 0) == ({}, True)
    bench.start(target)
    bench.ask()
    assert bench.guards == before


def test_flattening_leaves_nothing_behind() -> None:
    bench = opened(-10)
    bench.fifo.post(Stage.CONTROL, command("flatten", at_ns=bench.now_ns))
    bench.price(100)
    assert (bench.held, bench.guards) == (0, {})
