"""Several symbols whose common cash never runs short: each is played alone, and the cash is counted after it.

Where nothing is sized by equity, symbols meet in their cash alone; and as long as that is enough for every order, none
feels the others. So each is played with more cash than it can need, on both cores and in its own columns. Then what
all of them paid, and reserved for orders under way, is put in order and counted as the rules count it. Were it short
but once, this was not the run: the rules have to play it together.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from bot.backtest import slots as k
from bot.backtest.gate_kernels import notional, spent_atoms
from bot.backtest.market_kernels import pay_in_coins
from bot.backtest.simulate import begin, coins_of, play
from bot.backtest.slots import Box, Columns, Floats, Ints, Steps, with_room
from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.core.wide import as_float, is_below, minus, negative, plus

ATOMS: Final = 1e16

# An event, one row: cash changes, or what is reserved of it.
KEY: Final = 0
"""Twice the step, and 1 more at its close: fills come before what is decided."""
CASH: Final = 1
"""What is paid (below 0) or received: wide."""
RESERVED: Final = 3
"""What is reserved, or (below 0) no longer: wide."""
EVENT: Final = 5

# The account: cash and all that is reserved of it.
A_CASH: Final = 0
A_RESERVED: Final = 2
ACCOUNT: Final = 4

SHORT: Final = (k.MAX_POSITION, k.INSUFFICIENT_FUNDS, k.NO_FUNDS)
"""Refusals that depend on cash."""


def is_apart(run: Ints, row: Ints, columns: Columns) -> bool:
    """Return whether a symbol of a run meets the others in nothing but cash, and fills each order whole at an open."""
    _, *distances = columns.numbers
    kept = (k.LATENCY, k.VOLUME_SHARE, tactics.IS_LIMIT, tactics.BREAK_EVEN)
    return (
        not row[k.IS_PERP]
        and bool(run[tactics.SIZING] != tactics.SIZE_SHARE)
        and not any(run[slot] for slot in kept)
        and all(len(column) == 1 and column[0] == 0 for column in distances)
    )


@dataclass(slots=True)
class Part:
    """One symbol, played alone."""

    box: Box
    """Of this symbol only, with as much cash as can be counted."""
    columns: Columns
    step: Steps
    """Step of each bar of all symbols' steps; shape (0,) where it has a bar at every step."""
    _position: Ints = field(init=False)
    """Its row of the book as its fills make it: what the curve is at, behind the play."""

    def __post_init__(self) -> None:
        self._position = self.box.book[0].copy()
        begin(self.box, self.columns)

    def play(self, first: int, last: int) -> _Moves | None:
        """Play the steps from `first` to before `last`; return what came of them, None where that cannot be counted."""
        bars, closes = slice(first, last), self.columns.bars.close
        if len(self.step):
            bars = slice(*(int(bar) for bar in np.searchsorted(self.step, (first, last))))
            closes = np.zeros(last - first, np.int64)
            fill_closes(self.columns.bars.close, self.step, bars.start, first, closes)
        else:
            closes = closes[bars]
        seen, done = int(self.box.run[k.FILLS]), bars.start
        nothing = np.empty(0)
        while done < bars.stop:
            done = play(self.box, self.columns, nothing, nothing, nothing, nothing, _SCRATCH, done, bars.stop)
            if done < bars.stop:
                self.box = with_room(self.box)
        fills = self.box.fills[seen : int(self.box.run[k.FILLS])]
        events = np.empty((2 * len(fills) + self.box.orders.shape[1], EVENT), np.int64)
        coins = np.empty(len(fills) + 1)
        edges = bars.start, bars.stop
        count = list_events(self.box, self.columns, self.step, self._position, fills, *edges, events, coins)
        if count < 0 or any(self.box.run[k.DENIED + reason] for reason in SHORT):
            return None
        return _Moves(events[:count], fills[:, k.F_STEP], coins, closes)


class _Moves(NamedTuple):
    """What came of one symbol in a stretch of steps."""

    events: Ints
    """Shape (n, EVENT)."""
    steps: Ints
    """Of each fill, shape (k,)."""
    coins: Floats
    """What is held before the first fill and after each, times the worth of a lot at one tick; shape (k + 1,)."""
    closes: Ints
    """The last close at each step of the stretch."""


class Apart:
    """A run of symbols that are played apart."""

    def __init__(self, parts: Sequence[Part], cash: tuple[int, int], pool: ThreadPoolExecutor, threads: int) -> None:
        """Take all symbols in their order and the cash in atoms, wide; work is handed to `threads` of the pool."""
        self._parts = parts
        self._account = np.array([*cash, 0, 0], np.int64)
        self._pool = pool
        self._threads = threads

    def play(self, first: int, last: int, equity: Floats, exposure: Floats) -> bool:
        """Play the steps from `first` to before `last`; return whether cash was enough.

        `equity` and `exposure` have shape (last - first,), and are filled if it was. If not, all of the run is void.
        """

        def move(part: Part) -> _Moves | None:
            return part.play(first, last)

        played = list(self._pool.map(move, self._parts))
        moves = [each for each in played if each is not None]
        if len(moves) < len(played):
            return False
        events = np.concatenate([each.events for each in moves])
        order = np.argsort(events[:, KEY], kind="stable")  # at one moment, in the order of the symbols
        if not count_cash(self._account, events, order, first, equity):
            return False
        edges = [first + (last - first) * at // self._threads for at in range(self._threads + 1)]

        def value(at: int) -> None:
            begin, end = edges[at : at + 2]
            stretch = slice(begin - first, end - first)
            exposure[stretch] = 0.0
            for each in moves:
                add_value(each.closes[stretch], each.steps, each.coins, begin, equity[stretch], exposure[stretch])

        list(self._pool.map(value, range(self._threads)))
        return True

    def fills(self) -> Ints:
        """Return all fills in order, shape (k, slots.FILL)."""
        rows = [part.box.fills[: int(part.box.run[k.FILLS])] for part in self._parts]
        for symbol, own in enumerate(rows):
            own[:, k.F_SYMBOL] = symbol
        fills = np.concatenate(rows)
        return fills[np.argsort(fills[:, k.F_STEP], kind="stable")]


_SCRATCH: Final = np.empty((2, 0))
"""Perpetuals need it; here are none."""


@bare_kernel
def list_events(
    box: Box,
    columns: Columns,
    step: Steps,
    position: Ints,
    fills: Ints,
    first: int,
    last: int,
    events: Ints,
    coins: Floats,
) -> int:
    """List what the bars from `first` to before `last` did to cash, and fill `coins`; return how many events there are.

    `fills` are those of these bars, whose bars become steps, and `position` is led on. It returns -1 for an order that
    may not have filled at the open of the bar after its decision.
    """
    run, row, bars = box.run, box.book[0], columns.bars
    coins[0] = coins_of(position)
    count = 0
    for i in range(len(fills)):
        fill = fills[i]
        bar, price, lots = fill[k.F_STEP], fill[k.F_PRICE], fill[k.F_LOTS]
        if bar < 1 or bars.start_ns[bar] < bars.start_ns[bar - 1] + run[k.TIMEFRAME]:
            return -1
        high, low = notional(row, price, abs(lots))
        needs_high, needs_low = 0, 0
        if lots > 0:
            needs_high, needs_low = spent_atoms(row, int(bars.close[bar - 1]), lots)
            if bar > first:  # else it was under way when the stretch began
                _write_event(events[count], 2 * _step_of(step, bar - 1) + 1, 0, 0, needs_high, needs_low)
                count += 1
            high, low = negative(high, low)
        if fill[k.F_IS_IN_COINS]:
            pay_in_coins(position, lots, run[k.TAKER_PPM])
        else:
            high, low = minus(high, low, fill[k.F_FEE], fill[k.F_FEE + 1])
        position[k.HELD] += lots
        coins[i + 1] = coins_of(position)
        fill[k.F_STEP] = _step_of(step, bar)
        needs_high, needs_low = negative(needs_high, needs_low)
        _write_event(events[count], 2 * fill[k.F_STEP], high, low, needs_high, needs_low)
        count += 1
    if first < last:  # what is under way was decided at the last close
        for i in range(row[k.COUNT]):
            order = box.orders[0, i]
            key = 2 * _step_of(step, last - 1) + 1
            _write_event(events[count], key, 0, 0, order[k.RESERVED], order[k.RESERVED + 1])
            count += 1
    return count


@bare_kernel
def _step_of(step: Steps, bar: int) -> int:
    return int(step[bar]) if len(step) > 0 else bar


@bare_kernel
def _write_event(event: Ints, key: int, high: int, low: int, needs_high: int, needs_low: int) -> None:
    event[KEY] = key
    event[CASH], event[CASH + 1] = high, low
    event[RESERVED], event[RESERVED + 1] = needs_high, needs_low


@bare_kernel
def count_cash(account: Ints, events: Ints, order: Ints, first: int, equity: Floats) -> bool:
    """Lead the account through all events in order; return whether its cash was enough for each.

    `equity`, of the steps from `first` on, is filled with the cash after each.
    """
    cash_high, cash_low = account[A_CASH], account[A_CASH + 1]
    reserved_high, reserved_low = account[A_RESERVED], account[A_RESERVED + 1]
    filled = 0
    for i in range(len(order)):
        event = events[order[i]]
        reserved_high, reserved_low = plus(reserved_high, reserved_low, event[RESERVED], event[RESERVED + 1])
        if event[KEY] & 1:
            if is_below(cash_high, cash_low, reserved_high, reserved_low):
                return False
            continue
        at = (event[KEY] >> 1) - first
        equity[filled:at] = as_float(cash_high, cash_low) / ATOMS
        filled = at
        cash_high, cash_low = plus(cash_high, cash_low, event[CASH], event[CASH + 1])
        if cash_high < 0:
            return False
    equity[filled:] = as_float(cash_high, cash_low) / ATOMS
    account[A_CASH], account[A_CASH + 1] = cash_high, cash_low
    account[A_RESERVED], account[A_RESERVED + 1] = reserved_high, reserved_low
    return True


@bare_kernel
def add_value(closes: Ints, steps: Ints, coins: Floats, first: int, equity: Floats, exposure: Floats) -> None:
    """Add the value of what one symbol holds at the steps from `first` on, of which it has the closes."""
    n = len(closes)
    begin = 0
    for i in range(len(coins)):
        end = n
        if i < len(steps):
            end = min(max(steps[i] - first, 0), n)
        held = coins[i]
        if held != 0.0:
            for j in range(begin, end):
                value = held * closes[j]
                equity[j] += value
                exposure[j] += abs(value)
        begin = end


@bare_kernel
def fill_closes(close: Ints, step: Steps, bar: int, first: int, closes: Ints) -> None:
    """Fill the last close at each step from `first` on of a symbol without a bar at some; `bar` is its first there."""
    price = int(close[bar - 1]) if bar > 0 else 0
    for j in range(len(closes)):
        if bar < len(step) and step[bar] == first + j:
            price = int(close[bar])
            bar += 1
        closes[j] = price
