"""Plays a strategy on a level-2 market: what it sees is late, what it asks for arrives late.

Time on the exchange runs in steps. At step s the strategy stands at its own time, s + feed, and sees the book of s. It
says which quotes it wants; orders and cancels arrive at s + feed + entry. It hears of a fill when the response has
travelled too. Prices and lots are whole numbers; the account is worked out from the fills, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Annotated, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from bot.backtest.base import ROLES, Fills, Outcome
from bot.backtest.book import matching as mt
from bot.backtest.book import player as pl
from bot.backtest.book.events import BookEvents
from bot.backtest.book.ladder import make_ladder
from bot.core.instrument import ATOM_SCALE, ATOMS
from bot.errors import SettingsError
from bot.strategies.advice import Floats, Ints

LOG_ROWS: Final = 1_024
TABLE: Final = 16_384
"""Rows of the tables of fills and of unheard news to begin with."""
CHUNK: Final = 2_048
"""Steps between two reports of progress."""
NUMBER_MAX: Final = 10**17
"""Largest price in ticks, or lots, that a strategy may ask for."""
_P99: Final = 2.3263478740408408
"""Standard normal quantile of 99 %."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A log-normal time, in nanoseconds; equal numbers make it constant."""

    median_ns: int
    p99_ns: int

    def draws(self, rng: np.random.Generator) -> Ints:
        """Return `player.DRAWS` times."""
        if self.median_ns == 0 or self.p99_ns <= self.median_ns:
            return np.full(pl.DRAWS, self.median_ns, np.int64)
        sigma = np.log(self.p99_ns / self.median_ns) / _P99
        return np.rint(self.median_ns * np.exp(sigma * rng.standard_normal(pl.DRAWS))).astype(np.int64)


NO_LATENCY: Final = Latency(median_ns=0, p99_ns=0)


class BookTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How far away the exchange is, what it charges, and how its queues move."""

    cash_atoms: int
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    feed: Latency = NO_LATENCY
    entry: Latency = NO_LATENCY
    response: Latency = NO_LATENCY
    interval_ns: Annotated[int, msgspec.Meta(ge=1)] = 100_000_000
    """Between two decisions."""
    queue_power: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    """0: all who leave the queue stood behind us; n: the part before us leaves with front^n / (front^n + back^n)."""
    levels_max: Annotated[int, msgspec.Meta(ge=1, le=32)] = 20
    """Levels that an order can meet at once: what the exchange displays."""
    seed: int = 1


class BookView(NamedTuple):
    """What a strategy knows when it decides. Prices in ticks, a side without a level has 0 lots."""

    ts_ns: int
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    position_lots: int
    """As far as it has heard."""
    pending_lots: int
    """Of its market orders, signed: sent, and nothing heard of it yet."""


class Quotes(NamedTuple):
    """What a strategy wants to have in the book from now on; 0 lots: nothing on that side."""

    bid_ticks: int = 0
    bid_lots: int = 0
    ask_ticks: int = 0
    ask_lots: int = 0
    market_lots: int = 0
    """Signed: taken at once, whatever it costs."""


class BookStrategy(Protocol):
    """A strategy on the book."""

    def on_book(self, view: BookView) -> Quotes | None:
        """Return the quotes wanted, or None to leave all as it is."""
        ...


class CompiledStrategy(NamedTuple):
    """A strategy as a function made by `jit.pluggable(player.DECIDE_SIGNATURE)`, with its settings and its memory."""

    decide: pl.Decide
    settings: Floats
    memory: Floats


def play_book(
    events: BookEvents,
    strategy: BookStrategy | CompiledStrategy,
    terms: BookTerms,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Return what came of `strategy` on `events`; `on_progress` hears of (steps done, steps) now and then."""
    replay = BookReplay(events, terms)
    chunk = replay.steps if on_progress is None else CHUNK
    while replay.done < replay.steps:
        until = min(replay.done + chunk, replay.steps)
        if isinstance(strategy, CompiledStrategy):
            replay.run_compiled(strategy, until)
        else:
            replay.run(strategy, until)
        if on_progress is not None:
            on_progress(replay.done, replay.steps)
    return replay.outcome()


def _whole(quotes: object) -> Quotes:
    """Return what a strategy said, if it is that. Raises SettingsError: some of it would be cut off, or misread."""
    if isinstance(quotes, Quotes) and all(map(_is_number, quotes)):
        return quotes
    raise SettingsError(f"on_book must return None, or Quotes of whole numbers of at most {NUMBER_MAX}, not {quotes!r}")


def _is_number(number: object) -> bool:
    return isinstance(number, Integral) and abs(int(number)) <= NUMBER_MAX


class BookReplay:
    """One market with a strategy's orders in it."""

    def __init__(self, events: BookEvents, terms: BookTerms) -> None:
        self._events = events
        self._terms = terms
        self._book = make_ladder(events.width)
        self._desk = mt.make_desk(LOG_ROWS)
        rng = np.random.default_rng(terms.seed)
        feed, entry, response = (each.draws(rng) for each in (terms.feed, terms.entry, terms.response))
        self._player = pl.make_player(feed, entry, response, TABLE)
        self._first_ns = int(events.ts_ns[0])
        self.steps = (int(events.ts_ns[-1]) - self._first_ns) // terms.interval_ns + 1
        self._mids2 = np.zeros(self.steps, np.int64)
        self._held = np.zeros(self.steps, np.int64)

    @property
    def done(self) -> int:
        """Return the steps that were played."""
        return int(self._player.now[pl.STEPS])

    def run_compiled(self, strategy: CompiledStrategy, until: int) -> None:
        """Play up to step `until` without coming back to Python."""
        events, book, terms = self._events, self._book, self._terms
        is_done = False
        while not is_done:
            is_done = pl.run(
                *strategy,
                events.ts_ns,
                events.kind,
                events.price,
                events.lots,
                *book,
                self._desk,
                self._player,
                events.base_ticks,
                events.step_ticks,
                self._first_ns,
                terms.interval_ns,
                until,
                terms.levels_max,
                terms.queue_power,
                self._mids2,
                self._held,
                np.zeros(pl.VIEW, np.int64),
                np.zeros(pl.WISH, np.int64),
            )
            if not is_done:
                self._player = pl.grown(self._player)

    def run(self, strategy: BookStrategy, until: int) -> None:
        """Play up to step `until`, asking a strategy in Python at each."""
        events, book = self._events, self._book
        base, step = events.base_ticks, events.step_ticks
        view, wish = np.zeros(pl.VIEW, np.int64), np.zeros(pl.WISH, np.int64)
        for number in range(self.done, until):
            at_ns = self._first_ns + (number + 1) * self._terms.interval_ns
            self.advance(at_ns)
            pl.note_step(book.best, events.width, base, step, self._player.now, self._mids2, self._held)
            pl.look(book.best, book.bids, book.asks, base, step, at_ns, self._player, view)
            quotes = strategy.on_book(BookView(*view.tolist()))
            if quotes is not None:
                wish[:] = (*_whole(quotes), 1)
                pl.act(self._desk, self._player, wish, view[pl.TS_NS], base, step, events.width)

    def advance(self, until_ns: int) -> None:
        """Play the market up to `until_ns`, and take what the exchange said."""
        events, book, terms = self._events, self._book, self._terms
        is_full = True
        while is_full:
            if not pl.has_room(self._player, LOG_ROWS):
                self._player = pl.grown(self._player)
            is_full = mt.advance(
                events.ts_ns,
                events.kind,
                events.price,
                events.lots,
                *book,
                self._desk,
                until_ns,
                terms.levels_max,
                terms.queue_power,
            )
            pl.collect(self._desk, self._player)

    def outcome(self) -> Outcome:
        """Return what came of the steps so far; equity is cash and what is held at the middle."""
        terms, events = self._terms, self._events
        instrument = events.instrument
        unit = 10 ** (ATOM_SCALE - instrument.price_scale - instrument.quantity_scale)
        rows: list[list[int]] = self._player.fills[: self._player.now[pl.FILLS]].tolist()
        flows, fees = np.empty(self.done), np.empty(len(rows))
        flow_atoms, known = terms.cash_atoms, 0
        for number, (step, offset, signed, is_maker) in enumerate(rows):
            flows[known:step] = flow_atoms / ATOMS
            known = step
            notional = (events.base_ticks + events.step_ticks * offset) * signed * unit
            ppm = terms.maker_fee_ppm if is_maker else terms.taker_fee_ppm
            fee = -(-abs(notional) * ppm // 1_000_000)
            fees[number] = fee / ATOMS
            flow_atoms -= notional + fee
        flows[known:] = flow_atoms / ATOMS
        columns = np.array(rows, np.int64).reshape(len(rows), pl.FILL_COLUMNS)
        value = self._held[: self.done] * (self._mids2[: self.done] * (unit / ATOMS / 2))
        refused = int(self._player.now[pl.REFUSALS])
        return Outcome(
            symbols=(instrument.symbol,),
            instruments=(instrument,),
            time_ns=self._first_ns + terms.interval_ns * np.arange(self.done, dtype=np.int64),
            timeframe_ns=terms.interval_ns,
            equity=flows + value,
            exposure=np.abs(value),
            fills=Fills(
                step=columns[:, 0],
                symbol=np.zeros(len(rows), np.int64),
                price=events.base_ticks + events.step_ticks * columns[:, 1],
                lots=columns[:, 2],
                fee=fees,
                role=np.full(len(rows), ROLES.index("trade"), np.int64),
                is_maker=columns[:, 3],
            ),
            funding=np.zeros(1),
            denied={"REFUSED_BY_EXCHANGE": refused} if refused else {},
            cash=terms.cash_atoms / ATOMS,
            final_lots=(int(self._player.now[pl.HELD]),),
        )
