"""The exact engine: the live bot's own machines in one loop, against the candle market.

Strategies, risk gate, bookkeeper and ledger are those that trade; only the exchange is a `CandleExchange`, and nothing
is written. `docs/candle-model.md` says what the market does; the order of events here is its A, B and C.

A bar on which nothing can happen costs nothing but the strategy: the exchange is not walked while no order waits, and
a wish is not repeated to a gate that would do nothing about it. `is_patient=False` does both each time, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import msgspec
import numpy as np

from bot import __version__
from bot.backtest.base import ROLES, Fills, Outcome, Run, Terms, check_latency, check_markets
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.candle_exchange import REFUSALS, CandleExchange, CandleTerms
from bot.core.flow import Fifo, Stage
from bot.core.instrument import ATOMS, Side
from bot.core.ledger import Ledger
from bot.core.risk import REBALANCE_SHARE, Limits, RiskGate
from bot.errors import DataError
from bot.strategies import AnyStrategySettings
from bot.strategies.advice import Floats, Ints, Market
from bot.strategies.host import StrategyHost
from bot.strategies.rules.series import Joiner
from bot.strategies.seats import Seat, Wish

NAME: Final = "strategy"
"""What a definition is called among the gate's strategies."""
BLOCK: Final = 8_192
"""Bars that are unpacked together."""
PROGRESS_STEPS: Final = 16_384
_ENDLESS: Final = 10**18

OPEN_LIMITS: Final = Limits(
    max_order_value_atoms=10**40,
    max_position_bps=_ENDLESS,
    max_gross_bps=_ENDLESS,
    collar_bps=0,  # the worst case of a market order is its price: the market cuts it to what there is
    stale_ns=_ENDLESS,
    intent_ttl_ns=_ENDLESS,
    orders_per_second=10**9,
    orders_per_minute=10**9,
    max_open_orders=10**9,
    passive_ttl_ns=_ENDLESS,
    daily_loss_bps=_ENDLESS,
    daily_loss_halt_bps=_ENDLESS,
    drawdown_bps=_ENDLESS,
    drawdown_halt_bps=_ENDLESS,
)
"""Bounds that nothing reaches: only minimums, funds and margin are asked for."""

Progress = Callable[[int, int], None]
"""Takes (steps done, steps in all)."""


def run_exact(run: Run, *, on_progress: Progress | None = None, limits: Limits | None = None) -> Outcome:
    """Return what comes of a definition on all of its markets; `limits` are the gate's, None is without.

    Raises:
        DataError, SettingsError: the markets or the terms do not go together; names what.

    """
    symbols = [market.instrument.symbol for market in run.markets]
    host = StrategyHost({}, symbols)
    for symbol in symbols:
        host.seat_definition(NAME, symbol, run.definition, symbols)
    return ExactRun(host, run.markets, run.terms, limits=limits).play(on_progress)


def run_strategies(
    settings: Mapping[str, AnyStrategySettings],
    markets: Sequence[Market],
    terms: Terms,
    *,
    on_progress: Progress | None = None,
    limits: Limits | None = None,
) -> Outcome:
    """Return what comes of the strategies of a settings file, by name. Raises as `run_exact` does."""
    host = StrategyHost(settings, [market.instrument.symbol for market in markets])
    return ExactRun(host, markets, terms, limits=limits).play(on_progress)


@dataclass(slots=True)
class _Desk:
    """A seat, and what the gate was told of it."""

    seat: Seat
    said: Wish | None = None
    settled_turn: int = -1
    """The last turn of the machines after which the gate had nothing left to do for it."""


@dataclass(slots=True)
class _Listener:
    """One length of bars of one symbol, and who decides on them."""

    timeframe_ns: int
    joiner: Joiner | None
    desks: list[_Desk]


@dataclass(slots=True)
class _Scribe:
    """The persistence stage without a disk: the same bookkeeper, and what a report needs of its facts."""

    symbols: Sequence[str]
    keeper: Bookkeeper = field(default_factory=lambda: Bookkeeper(Ledger()))
    step: int = 0
    fills: list[tuple[int, int, int, int, float, int, int]] = field(
        default_factory=list[tuple[int, int, int, int, float, int, int]]
    )
    """Rows of `Fills`."""
    paid_atoms: int = 0
    denied: dict[str, int] = field(default_factory=dict[str, int])
    _roles: dict[str, str] = field(default_factory=dict[str, str])

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        outputs = self.keeper.handle(message)
        for fact in self.keeper.take_pending():
            match fact:
                case m.OrderApproved():
                    self._roles[fact.intent.client_id] = fact.intent.role
                case m.Fill():
                    lots = fact.side.sign * fact.qty_lots
                    self._row(fact.symbol, fact.price_ticks, lots, self._fee(fact), fact.client_id, fact.is_maker)
                case m.Liquidated():
                    fee = fact.fee_atoms / ATOMS
                    self._row(fact.symbol, fact.price_ticks, fact.signed_lots, fee, "", False)
                case m.FundingPaid():
                    self.paid_atoms += fact.paid_atoms
                case m.OrderDenied():
                    self._count(fact.reason)
                case m.OrderEvent():
                    if fact.reason in REFUSALS:
                        self._count(fact.reason)
                case _:
                    pass
        return outputs

    def _row(self, symbol: str, price: int, lots: int, fee: float, client_id: str, is_maker: bool) -> None:
        role = ROLES.index(self._roles[client_id] if client_id else "liquidation")
        self.fills.append((self.step, self.symbols.index(symbol), price, lots, fee, role, int(is_maker)))

    def _fee(self, fill: m.Fill) -> float:
        instrument = self.keeper.ledger.instruments[fill.symbol]
        if fill.side is Side.SELL or instrument.is_fee_in_quote:
            return fill.fee_atoms / ATOMS
        return fill.fee_atoms * fill.price_ticks / (ATOMS * 10**instrument.price_scale)

    def _count(self, reason: str) -> None:
        self.denied[str(reason)] = self.denied.get(str(reason), 0) + 1


class ExactRun:
    """One run of the machines; play it once."""

    def __init__(
        self,
        host: StrategyHost,
        markets: Sequence[Market],
        terms: Terms,
        *,
        limits: Limits | None = None,
        is_patient: bool = True,
    ) -> None:
        """Seat everybody. Raises as `run_exact` does."""
        check_markets(markets)
        check_latency(terms, markets[0].timeframe_ns)
        self.markets = markets
        self._terms = terms
        self._symbols = [market.instrument.symbol for market in markets]
        self._timeframe_ns = markets[0].timeframe_ns
        self._host = host
        self._gate = RiskGate(_limits(limits, self._timeframe_ns, terms))
        self._has_limits = limits is not None
        self._is_patient = is_patient and limits is None
        funding = {
            market.instrument.symbol: list(zip(market.funding_ns.tolist(), market.funding_ppb.tolist(), strict=True))
            for market in markets
        }
        self._exchange = CandleExchange(_candle_terms(terms), funding)
        self._scribe = _Scribe(self._symbols)
        self._fifo = Fifo(
            {
                Stage.STRATEGY: host,
                Stage.RISK_GATE: self._gate,
                Stage.PERSISTENCE: self._scribe,
                Stage.EXECUTOR: self._exchange,
            }
        )
        self._listeners = self._seat()
        self._is_hearing = host.is_hearing
        self._turn = 0
        """Counts the times that the machines ran."""
        self._closes = host.purse.closes
        """Symbol to its last close: the marks of sizes, and of the gate's quotes."""
        self._quoted: dict[str, int] = {}
        self._changes: list[tuple[int, int, tuple[int, ...], int]] = []
        """(step, cash in flow form, base atoms by symbol, funding paid) after each step that changed something."""

    @property
    def ledger(self) -> Ledger:
        """Return the ledger, which is a fold of the facts."""
        return self._scribe.keeper.ledger

    def _seat(self) -> dict[str, list[_Listener]]:
        listeners: dict[str, list[_Listener]] = {symbol: [] for symbol in self._symbols}
        for (symbol, timeframe_ns), seats in self._host.watched.items():
            if timeframe_ns % self._timeframe_ns:
                raise DataError(
                    f"{symbol}: bars of {self._timeframe_ns} ns cannot be made into bars of {timeframe_ns} ns: "
                    "it must be a multiple"
                )
            joiner = None if timeframe_ns == self._timeframe_ns else Joiner(timeframe_ns)
            listeners[symbol].append(_Listener(timeframe_ns, joiner, [_Desk(seat) for seat in seats]))
        return listeners

    def play(self, on_progress: Progress | None = None) -> Outcome:
        """Walk every step; return what came of it."""
        times = self.markets[0].candles.start_ns
        if len(self.markets) > 1:
            times = np.unique(np.concatenate([market.candles.start_ns for market in self.markets]))
        self._start(int(times[0]))
        turn, is_quiet = self._turn, self._is_patient
        for step, bars in enumerate(self._steps()):
            if not is_quiet:
                self._scribe.step = step
                self._walk(bars)
            self._close(bars, step)
            if turn != self._turn:
                turn = self._turn
                self._note(step)
                is_quiet = self._is_patient and self._exchange.is_idle
                if not is_quiet:
                    self._quote(bars[0].ts_ns)
            if on_progress is not None and step % PROGRESS_STEPS == 0:
                on_progress(step, len(times))
        # The gate first: else it would go on with a wish whose order was being cancelled.
        over_ns = int(times[-1]) + self._timeframe_ns
        self._say(Stage.CONTROL, [m.OperatorCommand(ts_ns=over_ns, verb="close", command_id="")])
        self._say(Stage.EXECUTOR, self._exchange.close())
        if on_progress is not None:
            on_progress(len(times), len(times))
        return self._outcome(times)

    def _start(self, ts_ns: int) -> None:
        instruments = [market.instrument for market in self.markets]
        session = m.SessionStarted(
            ts_ns=ts_ns,
            epoch=1,
            version=__version__,
            account="backtest",
            quote=instruments[0].quote,
            cash_atoms=self._terms.cash_atoms,
        )
        self._say(Stage.CONTROL, [session])
        self._say(Stage.FEED, [m.InstrumentListed(ts_ns=ts_ns, instrument=each) for each in instruments])
        self._note(0)

    def _say(self, speaker: Stage, messages: Iterable[m.AnyMessage]) -> None:
        """Say something, and let all that comes of it come to rest."""
        for message in messages:
            self._fifo.post(speaker, message)
        self._fifo.run()
        self._turn += 1

    # --- the market

    def _steps(self) -> Iterator[list[m.Bar]]:
        """Return the bars of each step, in the order of listing."""
        sources = [_bars(market) for market in self.markets]
        if len(sources) == 1:
            for bar in sources[0]:
                yield [bar]
            return
        heads = [next(source, None) for source in sources]
        while True:
            start_ns = min((bar.start_ns for bar in heads if bar is not None), default=None)
            if start_ns is None:
                return
            bars: list[m.Bar] = []
            for index, bar in enumerate(heads):
                if bar is not None and bar.start_ns == start_ns:
                    bars.append(bar)
                    heads[index] = next(sources[index], None)
            yield bars

    def _walk(self, bars: list[m.Bar]) -> None:
        """Steps A and B."""
        for said in chain(self._exchange.open(bars), self._exchange.walk(bars)):
            self._say(Stage.EXECUTOR, said)

    # --- the strategies

    def _close(self, bars: list[m.Bar], step: int) -> None:
        """Step C."""
        for bar in bars:
            self._closes[bar.symbol] = bar.close_ticks
        if not self._is_patient:
            self._scribe.step = step
            self._quote(bars[0].ts_ns)
        for bar in bars:
            for listener in self._listeners[bar.symbol]:
                if listener.joiner is None:
                    self._decide(bar, listener.desks, step)
                    continue
                own = listener.joiner.add(bar)
                for late in own[:-1]:  # two are over at once after a gap: who decides knows both, and decides once
                    self._host.hear(late)
                    for desk in listener.desks:
                        desk.seat.warm(late)
                if own:
                    self._decide(own[-1], listener.desks, step)

    def _decide(self, bar: m.Bar, desks: list[_Desk], step: int) -> None:
        if self._is_hearing:
            self._host.hear(bar)
        for desk in desks:
            seat = desk.seat
            if not seat.take(bar):
                continue
            if seat.wish == desk.said:
                if desk.settled_turn == self._turn:
                    continue
                if self._is_patient and self._is_settled(seat):
                    desk.settled_turn = self._turn
                    continue
            self._scribe.step = step
            self._quote(bar.ts_ns)
            self._say(Stage.STRATEGY, [seat.signal(bar.ts_ns, bar.close_ticks)])
            desk.said = seat.wish

    def _is_settled(self, seat: Seat) -> bool:
        """Return whether the gate would do nothing about the wish that it knows, whatever the price.

        It has no order on the way, and what is missing is too little to be ordered by its number alone.
        """
        account, wish = self._gate.account, seat.wish
        working = account.orders_of(seat.name, seat.symbol)
        if any(order.record.intent.role == "trade" for order in working):
            return False
        instrument = account.instruments[seat.symbol]
        missing = wish.target_lots - instrument.nearest_lots(account.held.get((seat.name, seat.symbol), 0))
        if abs(missing) * REBALANCE_SHARE <= abs(wish.target_lots):
            return True
        if working or instrument.is_perp:  # guards would make way first
            return False
        return missing < 0 and account.sellable_lots(seat.name, seat.symbol) == 0

    def _quote(self, ts_ns: int) -> None:
        """Tell the gate the closes that it does not know."""
        for symbol, close in self._closes.items():
            if self._has_limits or self._quoted.get(symbol) != close:
                self._quoted[symbol] = close
                quote = m.Quote(ts_ns=ts_ns, symbol=symbol, bid_ticks=close, bid_lots=1, ask_ticks=close, ask_lots=1)
                self._fifo.post(Stage.FEED, quote)
        if self._has_limits:
            self._fifo.post(Stage.CONTROL, m.Tick(ts_ns=ts_ns))
        self._fifo.run()

    # --- what came of it

    def _note(self, step: int) -> None:
        account = self._host.purse.equity
        atoms = tuple(account.base_atoms.get(symbol, 0) for symbol in self._symbols)
        self._changes.append((step, account.flow_atoms, atoms, self._scribe.paid_atoms))

    def _outcome(self, times: Ints) -> Outcome:
        steps = np.array([change[0] for change in self._changes], np.int64)
        reach = np.diff(np.append(steps, len(times)))
        """How many steps each change stands for: of two at one step, the earlier for none."""

        def over_time(values: Iterable[int]) -> Floats:
            return np.repeat(np.array([value / ATOMS for value in values], np.float64), reach)

        equity = over_time(change[1] for change in self._changes)
        exposure = np.zeros(len(times), np.float64)
        for index, market in enumerate(self.markets):
            held = over_time(change[2][index] for change in self._changes)
            value = held * _closes(market, times)
            equity += value
            exposure += np.abs(value)
        has_perps = any(market.instrument.is_perp for market in self.markets)
        ledger, rows = self.ledger, self._scribe.fills
        return Outcome(
            symbols=tuple(self._symbols),
            instruments=tuple(market.instrument for market in self.markets),
            time_ns=times,
            timeframe_ns=self._timeframe_ns,
            equity=equity,
            exposure=exposure,
            fills=_fills(rows),
            funding=over_time(change[3] for change in self._changes) if has_perps else np.zeros(1, np.float64),
            denied=dict(self._scribe.denied),
            cash=self._terms.cash_atoms / ATOMS,
            final_lots=tuple(
                market.instrument.position_lots(ledger.positions[symbol].base_atoms)
                if symbol in ledger.positions
                else 0
                for symbol, market in zip(self._symbols, self.markets, strict=True)
            ),
        )


def _bars(market: Market) -> Iterator[m.Bar]:
    """Return a market's bars, unpacked a block at a time."""
    symbol, timeframe_ns = market.instrument.symbol, market.timeframe_ns
    columns = market.candles
    for begin in range(0, len(columns.start_ns), BLOCK):
        block = (column[begin : begin + BLOCK].tolist() for column in columns)
        for start, open_, high, low, close, volume in zip(*block, strict=True):
            yield m.Bar(
                ts_ns=start + timeframe_ns,
                symbol=symbol,
                timeframe_ns=timeframe_ns,
                start_ns=start,
                open_ticks=open_,
                high_ticks=high,
                low_ticks=low,
                close_ticks=close,
                volume_lots=volume,
            )


def _closes(market: Market, times: Ints) -> Floats:
    """Return the last close at each step, in quote currency; 0 before the first bar, when nothing can be held."""
    candles = market.candles
    close = candles.close / 10.0**market.instrument.price_scale
    if len(candles.start_ns) == len(times):
        return close
    at = np.searchsorted(candles.start_ns, times, "right") - 1
    return np.where(at >= 0, close[np.maximum(at, 0)], 0.0)


def _fills(rows: Sequence[tuple[int, int, int, int, float, int, int]]) -> Fills:
    step, symbol, price, lots, fee, role, is_maker = zip(*rows, strict=True) if rows else ((),) * 7
    return Fills(
        step=np.array(step, np.int64),
        symbol=np.array(symbol, np.int64),
        price=np.array(price, np.int64),
        lots=np.array(lots, np.int64),
        fee=np.array(fee, np.float64),
        role=np.array(role, np.int64),
        is_maker=np.array(is_maker, np.int64),
    )


def _candle_terms(terms: Terms) -> CandleTerms:
    return CandleTerms(
        maker_fee_ppm=terms.maker_fee_ppm,
        taker_fee_ppm=terms.taker_fee_ppm,
        slippage=terms.slippage,
        slippage_ppm=terms.slippage_ppm,
        half_spread_ticks=terms.half_spread_ticks,
        latency_ns=terms.latency_ns,
        volume_share_ppm=terms.volume_share_ppm,
        maintenance_ppm=terms.maintenance_ppm,
        liquidation_fee_ppm=terms.liquidation_fee_ppm,
    )


def _limits(limits: Limits | None, timeframe_ns: int, terms: Terms) -> Limits:
    """Return the gate's bounds, with the margin of these terms.

    A quote is as old as the bar before: bounds on its age are for a live feed.
    """
    bounds = limits or OPEN_LIMITS
    age_ns = 2 * timeframe_ns + terms.latency_ns
    return msgspec.structs.replace(
        bounds,
        leverage=terms.leverage,
        stale_ns=max(bounds.stale_ns, age_ns),
        intent_ttl_ns=max(bounds.intent_ttl_ns, age_ns),
    )
