"""A strategy that raises, or takes too long for a bar again and again, is halted, and no other."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors.clock import MarketClock
from actors.ports import Ports
from actors.supervisor import STRIKES_MAX, WINDOW_S, Supervisor
from actors.trader import Terms, Trader
from bot.config import load_settings
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.messages import SECOND_NS, Condition, RiskState
from bot.storage.memory import MemoryJournal
from bot.strategies.base import Strategy
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.host import StrategyHost
from bot.strategies.seats import AdviserSeat
from tests.support.builders import BTC, ETH, NOW_NS, all_of, listed, quote, say
from tests.support.candle_runs import Script, row
from tests.support.wants import Wants

SETTINGS = CrossoverSettings(timeframe="1s", notional=1_000, fast=1, slow=2)
BUDGET_MS = 100


class Stopwatch:
    """Time that passes only when somebody says that it does."""

    def __init__(self) -> None:
        self.now_s = 5_000.0

    def __call__(self) -> float:
        return self.now_s


class Slow(Strategy):
    """Takes as long as it is told to, and always wants all."""

    def __init__(self, stopwatch: Stopwatch, takes_ms: float) -> None:
        self._stopwatch = stopwatch
        self._takes_ms = takes_ms

    def on_bar(self, bar: m.Bar) -> float | None:
        self._stopwatch.now_s += self._takes_ms / 1000
        return 1.0


def bar(symbol: str = BTC, *, timeframe_ns: int = SECOND_NS, number: int = 0, is_history: bool = False) -> m.Bar:
    return m.Bar(
        ts_ns=NOW_NS + number * SECOND_NS,
        symbol=symbol,
        timeframe_ns=timeframe_ns,
        start_ns=NOW_NS,
        open_ticks=100,
        high_ticks=100,
        low_ticks=100,
        close_ticks=100,
        volume_lots=1,
        is_history=is_history,
    )


class Bench:
    """Strategies that take as long as they are told to, timed by a stopwatch in our hands."""

    def __init__(self, takes_ms: dict[str, float], symbols: tuple[str, ...] = (BTC,)) -> None:
        self.stopwatch = Stopwatch()
        self.host = StrategyHost({}, symbols)
        for name, each_ms in takes_ms.items():
            for symbol in symbols:
                self.host.seat_strategy(name, symbol, SETTINGS, Slow(self.stopwatch, each_ms))
        say(self.host, *(listed(symbol) for symbol in symbols))
        self.timed = Supervisor(self.host, BUDGET_MS, self.stopwatch)

    def show(self, *bars: m.Bar) -> list[m.HealthReported]:
        """Show bars; return who was reported."""
        return all_of(say(self.timed, *bars), m.HealthReported)


def test_F117_the_third_bar_that_took_too_long_within_an_hour_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench({"one": 101})
    assert bench.show(bar(), bar(), bar()) == []  # the first does not count
    assert bench.show(bar(number=7)) == [
        m.HealthReported(
            ts_ns=NOW_NS + 7 * SECOND_NS,
            condition=Condition.STRATEGY_SLOW,
            is_well=False,
            severity=RiskState.HALTED,
            scope="strategy:one",
            detail="took 101 ms for a bar of BTC_USDT, more than 100 ms, 3 times within an hour",
        )
    ]
    line = "strategy one took 101 ms for a bar of BTC_USDT, more than 100 ms: {} of 3 within an hour"
    assert caplog.messages == [line.format(number) for number in (1, 2, 3)]
    assert [len(bench.show(bar())) for _ in range(6)] == [0, 0, 1, 0, 0, 1]  # counted anew each time


def test_F117_within_its_budget_a_strategy_may_take_its_time() -> None:
    bench = Bench({"one": BUDGET_MS - 0.1})
    assert bench.show(*(bar() for _ in range(50))) == []


def test_F117_strikes_are_forgotten_after_an_hour() -> None:
    bench = Bench({"one": 200})
    bench.show(bar())
    for _ in range(10):
        assert bench.show(bar(), bar()) == []
        bench.stopwatch.now_s += WINDOW_S
    bench.show(bar(), bar())
    bench.stopwatch.now_s += WINDOW_S - 1
    assert len(bench.show(bar())) == 1


def test_F117_each_strategy_answers_for_its_own_time_only() -> None:
    bench = Bench({"quick": 60, "slow": 150, "quicker": 60})
    said = bench.show(*(bar() for _ in range(1 + STRIKES_MAX)))
    assert [report.scope for report in said] == ["strategy:slow"]


def test_F117_the_report_stands_before_what_the_slow_one_wants() -> None:
    bench = Bench({"slow": 150})
    bench.show(*(bar() for _ in range(STRIKES_MAX)))
    assert [type(said) for said in say(bench.timed, bar())] == [m.HealthReported, m.Signal]


def test_F117_history_and_the_first_bar_of_each_symbol_do_not_count() -> None:
    bench = Bench({"one": 150}, (BTC, ETH))
    assert bench.show(*(bar(symbol, is_history=True) for symbol in (BTC, ETH) for _ in range(20))) == []
    assert len(bench.show(bar(), bar(ETH), bar())) == 1  # after history the first one counts
    bench = Bench({"one": 150}, (BTC, ETH))
    assert bench.show(bar(), bar(ETH), bar(), bar(ETH)) == []
    assert len(bench.show(bar())) == 1


class Listening(AdviserSeat):
    """Takes a while to hear the bars of others, and to look at its own."""

    stopwatch: Stopwatch

    def hear(self, bar: m.Bar) -> None:
        self.stopwatch.now_s += 0.06

    def take(self, bar: m.Bar) -> bool:
        self.stopwatch.now_s += 0.06
        return False


def test_F117_what_a_strategy_hears_of_a_bar_counts_with_what_it_decides_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bot.strategies.host.AdviserSeat", Listening)
    bench = Bench({}, (BTC, ETH))
    monkeypatch.setattr(Listening, "stopwatch", bench.stopwatch, raising=False)
    script = Script({0: row(1)}, timeframe_ns=SECOND_NS, watches=(BTC,))
    for symbol in (BTC, ETH):
        bench.host.seat_definition("one", symbol, script, (BTC, ETH))
    assert bench.show(*(bar(ETH) for _ in range(9))) == []  # 60 ms: only its own
    said = bench.show(*(bar(BTC) for _ in range(1 + STRIKES_MAX)))
    assert [report.detail.split(" for ")[0] for report in said] == ["took 120 ms"]


def test_a_timed_host_says_what_the_host_says() -> None:
    bars = [bar(number=number) for number in range(3)]
    others: list[m.AnyMessage] = [m.ExternalFlow(ts_ns=0, wallet="spot", currency="USDT", atoms=1, reason="")]
    timed, plain = Bench({"one": 0, "two": 0}), Bench({"one": 0, "two": 0})
    said = say(timed.timed, *bars, *others)
    assert said == say(plain.host, *bars, *others)
    assert len(said) == 6


# --- errors


class Broken(Strategy):
    """Wants all for some bars, then fails."""

    def __init__(self, bars: int = 0) -> None:
        self._left = bars

    def on_bar(self, bar: m.Bar) -> float | None:
        self._left -= 1
        if self._left < 0:
            raise ZeroDivisionError("of the strategy's own \x1b[31m" + "!" * 1_000)
        return 1.0


def looked_after(**own: Strategy) -> Supervisor:
    host = StrategyHost({}, (BTC, ETH))
    for name, strategy in own.items():
        host.seat_strategy(name, BTC, SETTINGS, strategy)
    say(host, listed(BTC), listed(ETH))
    return Supervisor(host)


def test_F117_a_strategy_that_raises_is_reported_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    bench = looked_after(first=Wants(1.0), broken=Broken(2), last=Wants(1.0))
    say(bench, bar(), bar())
    said = say(bench, bar())
    before, report, after = said
    assert isinstance(before, m.Signal)
    assert isinstance(after, m.Signal)
    assert isinstance(report, m.HealthReported)
    assert (before.strategy, after.strategy) == ("first", "last")
    assert (report.condition, report.severity) == (Condition.STRATEGY_FAILED, RiskState.HALTED)
    assert (report.scope, report.is_well) == ("strategy:broken", False)
    assert report.detail.startswith("at a bar of BTC_USDT: ZeroDivisionError: of the strategy's own [31m!!!")
    assert len(report.detail) < 300
    (line,) = caplog.records
    assert line.message == "strategy broken failed at a bar of BTC_USDT, and is not asked again"
    assert line.exc_info is not None


def test_F117_a_strategy_that_raised_is_asked_no_more() -> None:
    bench = looked_after(broken=Broken())
    bench._host.seat_strategy("broken", ETH, SETTINGS, Wants(1.0))
    assert len(all_of(say(bench, bar(ETH)), m.Signal)) == 1
    assert len(say(bench, bar())) == 1
    assert say(bench, bar(), bar(ETH), bar()) == []


@pytest.mark.parametrize("share", [1.5, float("nan"), float("inf"), "much"])
def test_F117_a_strategy_that_wants_what_nobody_can_is_reported(share: float) -> None:
    (report,) = say(looked_after(own=Wants(share)), bar())
    assert isinstance(report, m.HealthReported)
    assert report.condition is Condition.STRATEGY_FAILED


def test_F117_without_a_supervisor_an_error_goes_up() -> None:
    """So a backtest ends with it."""
    with pytest.raises(ZeroDivisionError, match="of the strategy's own"):
        say(looked_after(broken=Broken())._host, bar())


class Deaf(AdviserSeat):
    def hear(self, bar: m.Bar) -> None:
        raise ValueError("what?")


def test_F117_what_raises_while_it_hears_the_bar_of_another_symbol_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bot.strategies.host.AdviserSeat", Deaf)
    bench = Bench({}, (BTC, ETH))
    script = Script({0: row(1)}, timeframe_ns=SECOND_NS, watches=(BTC,))
    for symbol in (BTC, ETH):
        bench.host.seat_definition("one", symbol, script, (BTC, ETH))
    assert [report.scope for report in bench.show(bar(BTC), bar(BTC))] == ["strategy:one"]


# --- in a trader


def trader(stopwatch: Stopwatch | None, *sets: str, own: Strategy | None = None) -> Trader:
    """Return a trader on paper with one slow strategy."""
    settings = load_settings([], {}, sets)
    terms = Terms(
        settings=msgspec.structs.replace(settings, strategies={}), account="a", symbols=(BTC,), rest_url="", ws_url=""
    )
    made = Trader(terms, Ports(MemoryJournal(), MarketClock(NOW_NS), stopwatch_s=stopwatch), [])
    made.machines.host.seat_strategy("own", BTC, SETTINGS, own or Slow(stopwatch or Stopwatch(), 500))
    return made


async def latched(made: Trader) -> list[tuple[str, str, RiskState]]:
    """Let a trader see prices and bars; return what its books say is closed."""
    async with trio.open_nursery() as nursery:
        made._start_actors(nursery)
        made._start_session(None)
        made.office.post(Stage.FEED, listed())
        for number in range(1 + STRIKES_MAX):
            made.office.post(Stage.FEED, quote())
            made.office.post(Stage.FEED, bar(number=number))
            await made.office.idle()
        nursery.cancel_scope.cancel()
    return [(latch.cause, latch.scope, latch.state) for latch in made.keeper.ledger.latches]


async def test_F117_a_slow_strategy_is_halted_and_the_journal_knows_it(autojump_clock: MockClock) -> None:
    assert await latched(trader(Stopwatch())) == [("strategy_slow", "strategy:own", RiskState.HALTED)]


@pytest.mark.parametrize(
    ("stopwatch", "sets"), [(None, ()), (Stopwatch(), ("risk.strategy_budget_ms=0",))], ids=["untimed", "off"]
)
async def test_where_nobody_is_timed_nobody_is_halted(
    stopwatch: Stopwatch | None, sets: tuple[str, ...], autojump_clock: MockClock
) -> None:
    assert await latched(trader(stopwatch, *sets)) == []


@pytest.mark.parametrize("stopwatch", [None, Stopwatch()], ids=["untimed", "timed"])
async def test_F117_a_strategy_that_raises_is_halted_and_the_journal_knows_it(
    stopwatch: Stopwatch | None, autojump_clock: MockClock
) -> None:
    made = trader(stopwatch, own=Broken(2))
    assert await latched(made) == [("strategy_failed", "strategy:own", RiskState.HALTED)]
