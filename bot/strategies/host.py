"""The machine of the strategy actor: hands each bar to the strategies that watch it, and says what they want."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bot.core import messages as m
from bot.core.durations import duration_ns
from bot.core.equity import Equity
from bot.core.instrument import Instrument
from bot.strategies import AnyStrategySettings, make_strategy
from bot.strategies.advice import Definition
from bot.strategies.base import Strategy
from bot.strategies.seats import AdviserSeat, Known, Purse, Seat, ShareSeat


class Turn(NamedTuple):
    """Who is to look at a bar now, and how."""

    strategy: str
    look: Callable[[m.Bar], m.Signal | None]


class StrategyHost:
    """Owns every strategy and its indicators."""

    def __init__(self, settings: Mapping[str, AnyStrategySettings], symbols: Sequence[str]) -> None:
        """Seat each strategy of `settings` on those of its symbols that are in `symbols`, which the run plays."""
        self._played = frozenset(symbols)
        self.watched: dict[tuple[str, int], list[Seat]] = {}
        """(symbol, bar length in ns) to who decides on it; an empty list where it is only heard."""
        self._hearing: dict[tuple[str, int], list[Seat]] = {}
        self._seats: dict[tuple[str, str], Seat] = {}
        self._instruments: dict[str, Instrument] = {}
        self._quote = ""
        self._known: dict[tuple[str, str], Known] = {}
        """(strategy, symbol) to what the journal said, until the market is listed."""
        self.purse = Purse(Equity(self._instruments))
        for name, own in settings.items():
            for symbol in own.symbols or symbols:
                if symbol in symbols:
                    made = make_strategy(own)
                    if isinstance(made, Strategy):
                        self.seat_strategy(name, symbol, own, made)
                    else:
                        self.seat_definition(name, symbol, made, symbols)
                    if own.execution != "now":
                        self._seats[name, symbol].set_style(own.execution, duration_ns(own.execution_time))

    def seat_strategy(self, name: str, symbol: str, settings: AnyStrategySettings, strategy: Strategy) -> Seat:
        """Seat a strategy on a symbol, fresh."""
        seat = ShareSeat(name, symbol, self._instruments, self.purse, settings, strategy)
        self._seat(seat, duration_ns(settings.timeframe))
        return seat

    def seat_definition(self, name: str, symbol: str, definition: Definition, symbols: Iterable[str]) -> Seat:
        """Seat an adviser of `definition` on a symbol; it hears those of the symbols it watches that the run plays."""
        seat = AdviserSeat(name, symbol, self._instruments, self.purse, definition)
        self._seat(seat, definition.timeframe_ns)
        played = set(symbols)
        for other in definition.watches:
            if other != symbol and other in played:
                key = other, definition.timeframe_ns
                self.watched.setdefault(key, [])
                self._hearing.setdefault(key, []).append(seat)
        return seat

    def _seat(self, seat: Seat, timeframe_ns: int) -> None:
        self.watched.setdefault((seat.symbol, timeframe_ns), []).append(seat)
        self._seats[seat.name, seat.symbol] = seat

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return the positions wanted: a signal with each bar and opinion, and one after a fill that changed a wish."""
        match message:
            case m.Bar():
                for _, look in self.turns(message):
                    wish = look(message)
                    if wish is not None:
                        yield wish
            case m.InstrumentListed():
                self._list(message.instrument)
            case m.FillBooked():
                self.purse.equity.book(message.fill)
                self.purse.cash_atoms = message.cash_atoms
                fill = message.fill
                seat = self._seats.get((message.strategy, fill.symbol))
                if seat is not None and seat.book(fill.price_ticks, message.strategy_atoms):
                    yield seat.signal(message.ts_ns, fill.price_ticks)
            case m.FundingPaid():
                self.purse.equity.pay(message)
                self.purse.cash_atoms -= message.paid_atoms
            case m.Liquidated():
                self.purse.equity.liquidate(message)
                self.purse.cash_atoms = message.cash_atoms
                for seat in self._seats.values():
                    if seat.symbol == message.symbol and seat.liquidate(message.price_ticks):
                        yield seat.signal(message.ts_ns, message.price_ticks)
            case m.ExternalFlow():
                if message.currency == self._quote:
                    self.purse.equity.flow_atoms += message.atoms
                    self.purse.cash_atoms += message.atoms
            case m.Recovered():
                self._recover(message)
            case _:
                raise AssertionError(f"not routed to the strategies: {message!r}")

    def turns(self, bar: m.Bar) -> Iterator[Turn]:
        """Return those who watch a bar, in the order in which they look at it; each does so only when it is called."""
        if not bar.is_history or bar.symbol not in self._played:  # of what is only left there is nothing better
            self.purse.closes[bar.symbol] = bar.close_ticks
        key = bar.symbol, bar.timeframe_ns
        for seat in self._hearing.get(key, ()):
            yield Turn(seat.name, seat.hear)
        for seat in self.watched.get(key, ()):
            yield Turn(seat.name, seat.look)

    @property
    def is_hearing(self) -> bool:
        """Return whether anybody watches a symbol beside its own."""
        return bool(self._hearing)

    def hear(self, bar: m.Bar) -> None:
        """Let a bar be heard by those who watch its symbol beside their own."""
        for seat in self._hearing.get((bar.symbol, bar.timeframe_ns), ()):
            seat.hear(bar)

    def _list(self, instrument: Instrument) -> None:
        self._instruments[instrument.symbol] = instrument
        for (name, symbol), seat in self._seats.items():
            if symbol == instrument.symbol:
                known = self._known.pop((name, symbol), None)
                if known is not None:
                    seat.restore(known)

    def _recover(self, message: m.Recovered) -> None:
        self._quote = message.quote
        self.purse.equity.recover(message)
        self.purse.cash_atoms = message.cash_atoms
        for name, held in message.holdings.items():
            for symbol, atoms in held.items():
                self._known[name, symbol] = Known(
                    held_atoms=atoms,
                    entry_ticks=message.entries.get(name, {}).get(symbol, 0),
                    orders=tuple(
                        record
                        for record in message.orders
                        if (record.intent.strategy, record.intent.symbol) == (name, symbol)
                    ),
                )
