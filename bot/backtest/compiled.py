"""The compiled engine: one backtest as one kernel, with the same trades as the exact one.

A definition advises whole columns; `simulate` plays them by the rules of `docs/candle-model.md`. This module turns a
run into the kernel's arrays, and what it leaves there into an outcome. Kernels let go of the interpreter's lock: a
sweep plays several runs on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np

from bot.backtest import slots as k
from bot.backtest.base import Fills, Outcome, Run, Terms, check_latency, check_markets
from bot.backtest.gate_kernels import position_lots
from bot.backtest.quick import is_common
from bot.backtest.simulate import begin, play
from bot.backtest.slots import Bars, Box, Columns, Numbers, OwnBars
from bot.backtest.summary import Summary, new_sums, summed
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.core.wide import LIMB_FLOAT, wide
from bot.errors import SettingsError
from bot.strategies.advice import Definition, Ints, Market
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
    fills: int
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
    box, columns = table.boxed(run.definition, run.terms)
    steps = len(table.time_ns)
    has_perps = bool(box.run[k.HAS_PERPS])
    equity, exposure = np.empty(steps), np.empty(steps)
    funding = np.empty(steps if has_perps else 0)
    nothing, scratch = np.empty(0), np.empty((2, k.WINDOW))
    begin(box, columns)
    stride = max(1, CHUNK // len(run.markets))
    done = 0
    while done < steps:
        if is_cancelled is not None and is_cancelled():
            break
        if on_progress is not None:
            on_progress(done, steps)
        last = min(done + stride, steps)
        part = slice(done, last)
        reached = play(box, columns, nothing, equity[part], exposure[part], funding[part], scratch, done, last)
        if reached < last:
            box = _with_room(box)
        done = reached
    if on_progress is not None and done == steps:
        on_progress(steps, steps)
    return Outcome(
        symbols=table.symbols,
        instruments=tuple(market.instrument for market in run.markets),
        time_ns=table.time_ns[:done],
        timeframe_ns=table.timeframe_ns,
        equity=equity[:done],
        exposure=exposure[:done],
        fills=_fills(box, run.markets),
        funding=funding[:done] if has_perps else np.zeros(1),
        denied=_denied(box),
        cash=run.terms.cash_atoms / ATOMS,
        final_lots=tuple(int(position_lots(row)) for row in box.book),
    )


def run_summarised(
    table: MarketTable,
    definitions: Sequence[Definition],
    terms: Terms,
    *,
    threads: int = THREADS,
    is_cancelled: Callable[[], bool] | None = None,
) -> list[Summarised | None]:
    """Return a summary of each definition on the same markets, None of those that a cancel came before.

    No curve is kept: memory is that of the advice of `threads` definitions. Raises as `run_compiled` does.
    """

    def one(definition: Definition) -> Summarised | None:
        if is_cancelled is not None and is_cancelled():
            return None
        return _summarised(table, definition, terms)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(one, definitions))


def _summarised(table: MarketTable, definition: Definition, terms: Terms) -> Summarised:
    box, columns = table.boxed(definition, terms, keeps_fills=False)
    cash = terms.cash_atoms / ATOMS
    sums, equity, nothing = new_sums(cash), np.empty(k.WINDOW), np.empty(0)
    scratch = np.empty((2, k.WINDOW))
    steps = len(table.time_ns)
    begin(box, columns)
    done = 0
    while done < steps:
        done = play(box, columns, sums, equity, nothing, nothing, scratch, done, steps)
        if done < steps:
            box = _with_room(box)
    return Summarised(summed(sums, cash), int(box.run[k.FILLS]), _denied(box))


class MarketTable:
    """The bars of some markets as the kernel reads them; many runs may share one."""

    def __init__(self, markets: Sequence[Market]) -> None:
        """Join the markets. Raises DataError where they do not go together."""
        check_markets(markets)
        self.markets = markets
        self.symbols = tuple(market.instrument.symbol for market in markets)
        self.timeframe_ns = markets[0].timeframe_ns
        starts = [market.candles.start_ns for market in markets]
        is_dense = all(np.array_equal(starts[0], each) for each in starts[1:])
        self.time_ns = starts[0] if is_dense else np.unique(np.concatenate(starts))
        self._step = (
            np.zeros(0, np.int32)
            if is_dense
            else np.concatenate([np.searchsorted(self.time_ns, each) for each in starts]).astype(np.int32)
        )
        self._counts = [len(each) for each in starts]
        candles = [market.candles for market in markets]
        self._bars = Bars(*(_joined(columns) for columns in zip(*candles, strict=True)))
        self._funding_ns = _joined([market.funding_ns for market in markets])
        self._funding_ppb = _joined([market.funding_ppb for market in markets])

    def boxed(self, definition: Definition, terms: Terms, *, keeps_fills: bool = True) -> tuple[Box, Columns]:
        """Return a fresh run.

        Raises:
            DataError, SettingsError: definition, terms and markets do not go together; names what.

        """
        check_latency(terms, self.timeframe_ns)
        check_cash(terms)
        by_symbol = {market.instrument.symbol: market for market in self.markets}
        advice = [definition.advise(symbol, by_symbol) for symbol in self.symbols]
        own, own_counts = self._own_bars(definition.timeframe_ns)
        columns = Columns(
            bars=self._bars,
            own=own,
            flags=np.require(np.concatenate([each.flags for each in advice]), np.uint8),
            numbers=Numbers(
                *(_spread(column, self._counts) for column in zip(*(each[1:] for each in advice), strict=True))
            ),
            funding_ns=self._funding_ns,
            funding_ppb=self._funding_ppb,
            step=self._step,
        )
        run = _run(terms, definition, self.markets)
        run[k.KEEPS_FILLS] = int(keeps_fills)
        book = self._book(own_counts)
        run[k.IS_COMMON] = int(is_common(run, book, columns))
        box = Box(
            run=run,
            book=book,
            orders=np.zeros((len(self.markets), ORDERS_ROOM, k.ORDER), np.int64),
            fills=np.zeros((FILLS_ROOM if keeps_fills else 0, k.FILL), np.int64),
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


def _with_room(box: Box) -> Box:
    """Return the same run with twice the room for fills and orders."""
    assert not box.run[k.IS_FULL]
    return box._replace(
        orders=np.concatenate((box.orders, np.zeros_like(box.orders)), axis=1),
        fills=np.concatenate((box.fills, np.zeros_like(box.fills))),
    )


def _joined(columns: Sequence[Ints]) -> Ints:
    if len(columns) == 1:
        return np.require(columns[0], np.int64, ["C", "W"])
    return np.concatenate(columns).astype(np.int64, copy=False)


def _spread(columns: Sequence[Ints], counts: Sequence[int]) -> Ints:
    """Return advice of all symbols: one number for each, or one for each bar where some of it changes."""
    if len(columns) == 1 or all(len(column) == 1 for column in columns):
        return _joined(columns)
    return _joined([np.broadcast_to(column, (count,)) for column, count in zip(columns, counts, strict=True)])


def _denied(box: Box) -> dict[str, int]:
    counts = box.run[k.DENIED : k.DENIED + len(k.REFUSALS)]
    return {name: int(count) for name, count in zip(k.REFUSALS, counts, strict=True) if count}


def _fills(box: Box, markets: Sequence[Market]) -> Fills:
    assert not box.run[k.IS_FULL]
    rows = box.fills[: int(box.run[k.FILLS])]
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
