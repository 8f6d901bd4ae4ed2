"""The compiled engine: one backtest as one kernel, with the same trades as the exact one.

A definition advises whole columns; `simulate` plays them by the rules of `docs/candle-model.md`. This module turns a
run into the kernel's arrays, and what it leaves there into an outcome. Kernels let go of the interpreter's lock: a
sweep plays several runs on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bot.backtest import slots as k
from bot.backtest.apart import Apart, Part, is_apart
from bot.backtest.base import Fills, Outcome, Run, Terms, check_latency, check_markets
from bot.backtest.gate_kernels import position_lots
from bot.backtest.quick import is_common
from bot.backtest.simulate import begin, play
from bot.backtest.slots import Bars, Box, Columns, Floats, Numbers, OwnBars, Steps, with_room
from bot.backtest.summary import Summary, new_sums, summed
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.core.wide import LIMB_FLOAT, wide
from bot.errors import SettingsError
from bot.strategies.advice import Advice, Definition, Flags, Ints, Market
from bot.strategies.rules.series import base_series, joined

CHUNK: Final = 1 << 20
"""Bars of all symbols between two reports of progress."""
FILLS_ROOM: Final = 1 << 12
ORDERS_ROOM: Final = 16
CASH_MAX: Final = 10**11 * ATOMS
"""Money is counted in 124 bits; that leaves room for its products with rates and prices."""
THREADS: Final = 2

Progress = Callable[[int, int], None]
"""Takes (steps done, steps in all)."""


class Summarised(NamedTuple):
    """What a sweep keeps of a run."""

    curve: Summary
    fills: Fills
    denied: Mapping[str, int]


def run_compiled(
    run: Run, *, on_progress: Progress | None = None, is_cancelled: Callable[[], bool] | None = None
) -> Outcome:
    """Return what comes of a definition on all of its markets.

    Cancelled, it is the outcome of the steps played so far: the arrays are that much shorter.

    Raises:
        DataError, SettingsError: the markets or the terms do not go together; names what.

    """
    table = MarketTable(run.markets)
    advice = table.advised(run.definition, run.terms)
    watch = _Watch(len(table.time_ns), len(run.markets), on_progress, is_cancelled)
    played = _played_apart(table, run, advice, watch) or _played_together(table, run, advice, watch)
    return Outcome(
        symbols=table.symbols,
        instruments=tuple(market.instrument for market in run.markets),
        time_ns=table.time_ns[: len(played.equity)],
        timeframe_ns=table.timeframe_ns,
        equity=played.equity,
        exposure=played.exposure,
        fills=_fills(played.fills, run.markets),
        funding=played.funding,
        denied=_denied(played.boxes),
        cash=run.terms.cash_atoms / ATOMS,
        final_lots=tuple(int(position_lots(row)) for box in played.boxes for row in box.book),
    )


class _Played(NamedTuple):
    equity: Floats
    exposure: Floats
    funding: Floats
    fills: Ints
    boxes: Sequence[Box]
    """As they are left; their symbols are those of the run."""


@dataclass(slots=True)
class _Watch:
    """Who looks on while a run is played."""

    steps: int
    symbols: int
    on_progress: Progress | None
    is_cancelled: Callable[[], bool] | None
    reported: int = -1

    def end(self, done: int) -> int:
        """Return where the stretch ends that is played next: at `done` itself if nothing is to be played any more."""
        if done == self.steps or (self.is_cancelled is not None and self.is_cancelled()):
            return done
        self._report(done)
        return min(done + max(1, CHUNK // self.symbols), self.steps)

    def finish(self) -> None:
        """Report that all steps are done."""
        self._report(self.steps)

    def _report(self, done: int) -> None:
        if self.on_progress is not None and done > self.reported:  # a run may be played again
            self.on_progress(done, self.steps)
            self.reported = done


def _played_together(table: MarketTable, run: Run, advice: Sequence[Advice], watch: _Watch) -> _Played:
    """Play all symbols step by step."""
    box, columns = table.boxed(run.definition, run.terms, advice)
    steps = len(table.time_ns)
    has_perps = bool(box.run[k.HAS_PERPS])
    equity, exposure = np.empty(steps), np.empty(steps)
    funding = np.empty(steps if has_perps else 0)
    nothing, scratch = np.empty(0), np.empty((2, k.WINDOW))
    begin(box, columns)
    done = 0
    while (last := watch.end(done)) > done:
        part = slice(done, last)
        reached = play(box, columns, nothing, equity[part], exposure[part], funding[part], scratch, done, last)
        if reached < last:
            box = with_room(box)
        done = reached
    if done == steps:
        watch.finish()
    funding = funding[:done] if has_perps else np.zeros(1)
    return _Played(equity[:done], exposure[:done], funding, box.fills[: int(box.run[k.FILLS])], [box])


def _played_apart(table: MarketTable, run: Run, advice: Sequence[Advice], watch: _Watch) -> _Played | None:
    """Play each symbol alone; return None where that is not the same."""
    if len(table.markets) == 1:
        return None
    parts = table.parts(run.definition, run.terms, advice)
    if parts is None:
        return None
    steps = len(table.time_ns)
    equity, exposure = np.empty(steps), np.empty(steps)
    done = 0
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        apart = Apart(parts, wide(run.terms.cash_atoms), pool, THREADS)
        while (last := watch.end(done)) > done:
            if not apart.play(done, last, equity[done:last], exposure[done:last]):
                return None
            done = last
    if done == steps:
        watch.finish()
    return _Played(equity[:done], exposure[:done], np.zeros(1), apart.fills(), [part.box for part in parts])


def summarised(table: MarketTable, definition: Definition, terms: Terms) -> Summarised:
    """Return what comes of a definition but its curve, which a sweep need not keep. Raises as `run_compiled` does."""
    box, columns = table.boxed(definition, terms, table.advised(definition, terms))
    cash = terms.cash_atoms / ATOMS
    sums, equity, nothing = new_sums(cash), np.empty(k.WINDOW), np.empty(0)
    scratch = np.empty((2, k.WINDOW))
    steps = len(table.time_ns)
    begin(box, columns)
    done = 0
    while done < steps:
        done = play(box, columns, sums, equity, nothing, nothing, scratch, done, steps)
        if done < steps:
            box = with_room(box)
    fills = _fills(box.fills[: int(box.run[k.FILLS])], table.markets)
    return Summarised(summed(sums, cash), fills, _denied([box]))


class MarketTable:
    """The bars of some markets as the kernel reads them; many runs may share one."""

    def __init__(self, markets: Sequence[Market]) -> None:
        """Join the markets. Raises DataError where they do not go together."""
        check_markets(markets)
        self.markets = markets
        self.symbols = tuple(market.instrument.symbol for market in markets)
        self.timeframe_ns = markets[0].timeframe_ns
        starts = [market.candles.start_ns for market in markets]
        self._is_dense = all(np.array_equal(starts[0], each) for each in starts[1:])
        self.time_ns = starts[0] if self._is_dense else np.unique(np.concatenate(starts))
        self._counts = [len(each) for each in starts]

    @cached_property
    def _bars(self) -> Bars:
        return Bars(*(_joined(columns) for columns in zip(*(market.candles for market in self.markets), strict=True)))

    @cached_property
    def _steps(self) -> Sequence[Steps]:
        """Return the step of each bar of each symbol; nothing where every symbol has a bar at every step."""
        if self._is_dense:
            return [np.zeros(0, np.int32) for _ in self.markets]
        return [np.searchsorted(self.time_ns, market.candles.start_ns).astype(np.int32) for market in self.markets]

    def advised(self, definition: Definition, terms: Terms) -> Sequence[Advice]:
        """Return its advice on each symbol.

        Raises:
            DataError, SettingsError: definition, terms and markets do not go together; names what.

        """
        check_latency(terms, self.timeframe_ns)
        check_cash(terms)
        by_symbol = {market.instrument.symbol: market for market in self.markets}
        return [definition.advise(symbol, by_symbol) for symbol in self.symbols]

    def parts(self, definition: Definition, terms: Terms, advice: Sequence[Advice]) -> Sequence[Part] | None:
        """Return a fresh run of each symbol alone; None where that is not the same as a run of all.

        Raises:
            SettingsError: as `boxed`.

        """
        boundless = msgspec.structs.replace(terms, cash_atoms=CASH_MAX)
        parts: list[Part] = []
        for market, own, step in zip(self.markets, advice, self._steps, strict=True):
            box, columns = MarketTable([market]).boxed(definition, boundless, [own])
            if not is_apart(box.run, box.book[0], columns):
                return None
            parts.append(Part(box, columns, step if len(step) < len(self.time_ns) else step[:0]))
        return parts

    def boxed(self, definition: Definition, terms: Terms, advice: Sequence[Advice]) -> tuple[Box, Columns]:
        """Return a fresh run.

        Raises:
            SettingsError: the strategy's own bars are no multiple of the markets'.

        """
        own, own_counts = self._own_bars(definition.timeframe_ns)
        columns = Columns(
            bars=self._bars,
            own=own,
            flags=_joined_flags([each.flags for each in advice]),
            numbers=Numbers(
                *(_spread(column, self._counts) for column in zip(*(each[1:] for each in advice), strict=True))
            ),
            funding_ns=_joined([market.funding_ns for market in self.markets]),
            funding_ppb=_joined([market.funding_ppb for market in self.markets]),
            step=np.concatenate(self._steps),
        )
        run = _run(terms, definition, self.markets)
        book = self._book(own_counts)
        run[k.IS_COMMON] = int(is_common(run, book, columns))
        box = Box(
            run=run,
            book=book,
            orders=np.zeros((len(self.markets), ORDERS_ROOM, k.ORDER), np.int64),
            fills=np.zeros((FILLS_ROOM, k.FILL), np.int64),
        )
        return box, columns

    def _book(self, own_counts: Sequence[int]) -> Ints:
        book = np.zeros((len(self.markets), k.BOOK), np.int64)
        first = own_first = funding_first = 0
        for row, market, bars, own_bars in zip(book, self.markets, self._counts, own_counts, strict=True):
            _describe(row, market.instrument)
            row[k.FIRST], row[k.BARS] = first, bars
            row[k.OWN_FIRST], row[k.OWN_BARS] = own_first, own_bars
            row[k.FUNDING_FIRST], row[k.FUNDING_COUNT] = funding_first, len(market.funding_ns)
            row[k.SPENT_NUMBER] = row[k.TAKEN_NUMBER] = -1
            row[k.IS_SETTLED] = 1
            first, own_first, funding_first = first + bars, own_first + own_bars, funding_first + len(market.funding_ns)
        return book

    def _own_bars(self, timeframe_ns: int) -> tuple[OwnBars, Sequence[int]]:
        """Return the strategy's own bars and their numbers; of two that are over at once, the later counts.

        Raises:
            SettingsError: its timeframe is no multiple of the markets'.

        """
        if timeframe_ns == self.timeframe_ns:
            bars = self._bars
            return OwnBars(np.zeros(0, np.int64), bars.high, bars.low, bars.close), self._counts
        made: list[tuple[Ints, Ints, Ints, Ints]] = []
        for market in self.markets:
            own = joined(base_series(market), timeframe_ns, market.instrument.symbol)
            assert own.over is not None
            is_last = np.append(np.diff(own.over) > 0, [True] * min(1, len(own.over)))
            candles = own.candles
            made.append((own.over[is_last], candles.high[is_last], candles.low[is_last], candles.close[is_last]))
        return OwnBars(*(_joined(columns) for columns in zip(*made, strict=True))), [len(each[0]) for each in made]


def check_cash(terms: Terms) -> None:
    """Raise SettingsError for more money than the kernel can count."""
    if not 0 < terms.cash_atoms <= CASH_MAX:
        raise SettingsError(f"cash {terms.cash_atoms / ATOMS:g} must be above 0 and at most {CASH_MAX // ATOMS:g}")


def _run(terms: Terms, definition: Definition, markets: Sequence[Market]) -> Ints:
    run = np.zeros(k.RUN, np.int64)
    run[: tactics.TERMS] = definition.terms
    run[k.MAKER_PPM], run[k.TAKER_PPM] = terms.maker_fee_ppm, terms.taker_fee_ppm
    run[k.SLIPPAGE] = k.SLIPPAGES.index(terms.slippage)
    run[k.SLIPPAGE_PPM], run[k.HALF_SPREAD] = terms.slippage_ppm, terms.half_spread_ticks
    run[k.LATENCY], run[k.VOLUME_SHARE] = terms.latency_ns, terms.volume_share_ppm
    run[k.LEVERAGE], run[k.MAINTENANCE_PPM] = terms.leverage, terms.maintenance_ppm
    run[k.LIQUIDATION_PPM] = terms.liquidation_fee_ppm
    run[k.TIMEFRAME] = markets[0].timeframe_ns
    run[k.IS_OWN_LONGER] = int(definition.timeframe_ns != markets[0].timeframe_ns)
    run[k.HAS_PERPS] = int(any(market.instrument.is_perp for market in markets))
    run[k.FLOW], run[k.FLOW + 1] = wide(terms.cash_atoms)
    return run


def _describe(row: Ints, instrument: Instrument) -> None:
    row[k.UNIT] = instrument.notional_atoms(1, 1)
    row[k.PER_LOT] = instrument.base_atoms_per_lot
    half = instrument.price_scale // 2
    row[k.SCALE_A], row[k.SCALE_B] = 10**half, 10 ** (instrument.price_scale - half)
    row[k.QTY_MIN] = instrument.qty_lots_min
    row[k.NOTIONAL_MIN], row[k.NOTIONAL_MIN + 1] = wide(instrument.notional_atoms_min)
    row[k.IS_PERP], row[k.FEE_IN_QUOTE] = int(instrument.is_perp), int(instrument.is_fee_in_quote)
    row[k.QUOTE_FEE] = instrument.quote_fee_ppm


def _joined(columns: Sequence[Ints]) -> Ints:
    if len(columns) == 1:
        return np.require(columns[0], np.int64, ["C", "W"])
    return np.concatenate(columns).astype(np.int64, copy=False)


def _joined_flags(columns: Sequence[Flags]) -> Flags:
    return np.require(columns[0] if len(columns) == 1 else np.concatenate(columns), np.uint8, ["C", "W"])


def _spread(columns: Sequence[Ints], counts: Sequence[int]) -> Ints:
    """Return advice of all symbols: one number for each, or one for each bar where some of it changes."""
    if len(columns) == 1 or all(len(column) == 1 for column in columns):
        return _joined(columns)
    return _joined([np.broadcast_to(column, (count,)) for column, count in zip(columns, counts, strict=True)])


def _denied(boxes: Sequence[Box]) -> dict[str, int]:
    assert not any(box.run[k.IS_FULL] for box in boxes)
    counts = np.sum([box.run[k.DENIED : k.DENIED + len(k.REFUSALS)] for box in boxes], axis=0)
    return {name: int(count) for name, count in zip(k.REFUSALS, counts, strict=True) if count}


def _fills(rows: Ints, markets: Sequence[Market]) -> Fills:
    columns = [rows[:, slot].copy() for slot in range(k.FILL)]
    fee = (columns[k.F_FEE] * LIMB_FLOAT + columns[k.F_FEE + 1]) / ATOMS
    # One taken in coins is valued at the fill's price.
    tick = np.array([10.0**-market.instrument.price_scale for market in markets])[columns[k.F_SYMBOL]]
    in_coins = columns[k.F_IS_IN_COINS] == 1
    return Fills(
        step=columns[k.F_STEP],
        symbol=columns[k.F_SYMBOL],
        price=columns[k.F_PRICE],
        lots=columns[k.F_LOTS],
        fee=np.where(in_coins, fee * columns[k.F_PRICE] * tick, fee),
        role=columns[k.F_ROLE],
        is_maker=columns[k.F_IS_MAKER],
    )
