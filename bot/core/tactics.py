"""From what a strategy advises at the close of a bar to the position that it wants, and the orders that guard it.

One small state machine for each strategy and symbol, as kernels on an array of whole numbers: the live bot calls them
once a bar and once a fill, the compiled backtest calls the same functions in its loop. They know nothing of money:
the caller turns a size into lots.

A *distance* is a whole number: above 0 it is in ticks, below 0 in millionths of the price it is measured from, and 0
is none.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core.jit import kernel

Ints = NDArray[np.int64]

# What is advised at a close: bits of one number.
ENTER_LONG: Final = 1
EXIT_LONG: Final = 2
ENTER_SHORT: Final = 4
EXIT_SHORT: Final = 8
RESIZE: Final = 16
"""The size has changed: bring the position to it."""

# How `size` is read.
SIZE_LOTS: Final = 0
SIZE_QUOTE: Final = 1
"""Millionths of the quote currency."""
SIZE_SHARE: Final = 2
"""Millionths of equity."""

# Terms: what stays the same for a run.
SIZING: Final = 0
IS_LIMIT: Final = 1
"""1: enter with a limit order, `OFFSET` from the close on the cheap side; 0: at the market."""
OFFSET: Final = 2
PATIENCE: Final = 3
"""Bars that a limit entry may rest, at least 1."""
BARS_MAX: Final = 4
"""Leave after this many closes with a position; 0: never."""
COOL_DOWN: Final = 5
"""Closes after the end of a position, that of its own bar included, that may not enter."""
BREAK_EVEN: Final = 6
"""Distance of the best price from the entry from which the stop is at least the entry; 0: never."""
TERMS: Final = 7

# State.
SIDE: Final = 0
"""The side wanted: 1, 0 or -1."""
LOTS: Final = 1
"""The position wanted, signed; the caller sets it when `close_bar` asks for a size."""
HELD: Final = 2
"""The position there is, signed."""
ENTRY: Final = 3
"""Price of the fill that opened the position."""
BEST: Final = 4
"""Highest high of a long since its entry, lowest low of a short; at closes only."""
STOP: Final = 5
"""Price of the guarding stop order, 0: none."""
TARGET: Final = 6
"""Price of the guarding limit order, 0: none."""
LIMIT: Final = 7
"""Price of the entry, 0: at the market."""
STOP_BY: Final = 8
TARGET_BY: Final = 9
TRAIL_BY: Final = 10
"""The three distances as advised with the entry."""
BARS: Final = 11
"""Closes since the entry."""
RESTING: Final = 12
"""Closes left that may not enter."""
WAITING: Final = 13
"""Closes left that a limit entry may rest."""
STATE: Final = 14


@kernel
def distance_ticks(distance: int, price_ticks: int) -> int:
    """Return a distance in ticks, rounded to the nearest, at least 1; 0 for none."""
    if distance >= 0:
        return distance
    return max(1, (price_ticks * -distance + 500_000) // 1_000_000)


@kernel
def close_bar(
    state: Ints, terms: Ints, flags: int, stop_by: int, target_by: int, trail_by: int, high: int, low: int, close: int
) -> bool:
    """Take what is advised at the close of a bar; return whether the caller must now set `LOTS` for the side wanted.

    Exits come before entries: who advises both at once wants neither side, and nobody enters the side that he leaves
    at this very close.
    """
    held = state[HELD]
    if held != 0:
        _age(state, terms, high, low)
    is_resting = state[RESTING] > 0
    if is_resting:
        state[RESTING] -= 1
    wanted = state[SIDE]
    if (wanted > 0 and flags & EXIT_LONG) or (wanted < 0 and flags & EXIT_SHORT):
        wanted = 0
    if held * wanted > 0 and 0 < terms[BARS_MAX] <= state[BARS]:
        wanted = 0
    enters = _entry(flags)
    if enters != 0 and not is_resting and enters != wanted and held * enters <= 0:
        state[SIDE] = enters
        state[STOP] = state[TARGET] = 0
        state[STOP_BY], state[TARGET_BY], state[TRAIL_BY] = stop_by, target_by, trail_by
        state[LIMIT] = 0
        if terms[IS_LIMIT] and held == 0:  # who turns round does it at the market
            state[LIMIT] = max(1, close - enters * distance_ticks(terms[OFFSET], close))
            state[WAITING] = terms[PATIENCE]
        return True
    if wanted == 0:
        if state[SIDE] != 0:
            _give_up(state)
        return False
    if state[LIMIT] != 0 and held != state[LOTS]:
        state[WAITING] -= 1
        if state[WAITING] <= 0:  # keep what came of it
            state[LIMIT] = 0
            state[LOTS] = held
            if held == 0:
                _give_up(state)
    elif flags & RESIZE and held * wanted > 0:
        state[LIMIT] = 0
        return True
    return False


@kernel
def book_fill(state: Ints, terms: Ints, price_ticks: int, held_lots: int) -> None:
    """Take a fill at a price, after which `held_lots` (signed) are held."""
    before = state[HELD]
    state[HELD] = held_lots
    if held_lots == 0:
        if before == 0:
            return
        state[STOP] = state[TARGET] = state[BARS] = 0
        state[RESTING] = terms[COOL_DOWN]
        if before * state[SIDE] > 0:  # nobody wanted that: a stop, a target, a liquidation
            _give_up(state)
    elif before * held_lots <= 0:
        state[ENTRY] = state[BEST] = price_ticks
        state[BARS] = 0
        sign = 1 if held_lots > 0 else -1
        stop_by = distance_ticks(state[STOP_BY], price_ticks)
        target_by = distance_ticks(state[TARGET_BY], price_ticks)
        state[STOP] = max(0, price_ticks - sign * stop_by) if stop_by else 0
        state[TARGET] = max(0, price_ticks + sign * target_by) if target_by else 0
        _tighten(state, terms)
    elif abs(held_lots) < min(abs(before), abs(state[LOTS])) and held_lots * state[SIDE] > 0:
        state[LOTS] = held_lots  # a guard took a part: nobody buys it back


@kernel
def _entry(flags: int) -> int:
    goes_long = flags & ENTER_LONG != 0 and flags & EXIT_LONG == 0
    goes_short = flags & ENTER_SHORT != 0 and flags & EXIT_SHORT == 0
    if goes_long == goes_short:
        return 0
    return 1 if goes_long else -1


@kernel
def _give_up(state: Ints) -> None:
    state[SIDE] = state[LOTS] = state[LIMIT] = state[STOP] = state[TARGET] = 0


@kernel
def _age(state: Ints, terms: Ints, high: int, low: int) -> None:
    state[BARS] += 1
    if state[HELD] > 0:
        state[BEST] = max(state[BEST], high)
    else:
        state[BEST] = min(state[BEST], low)
    if state[SIDE] * state[HELD] > 0:
        _tighten(state, terms)


@kernel
def _tighten(state: Ints, terms: Ints) -> None:
    """Move the stop after the best price; a stop never goes back."""
    sign = 1 if state[HELD] > 0 else -1
    if state[TRAIL_BY] != 0:
        _raise_stop(state, sign, state[BEST] - sign * distance_ticks(state[TRAIL_BY], state[BEST]))
    gain = sign * (state[BEST] - state[ENTRY])
    if terms[BREAK_EVEN] != 0 and gain >= distance_ticks(terms[BREAK_EVEN], state[ENTRY]):
        _raise_stop(state, sign, state[ENTRY])


@kernel
def _raise_stop(state: Ints, sign: int, price_ticks: int) -> None:
    if price_ticks > 0 and (state[STOP] == 0 or sign * (price_ticks - state[STOP]) > 0):
        state[STOP] = price_ticks
