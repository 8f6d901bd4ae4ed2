"""Where the compiled backtest keeps what: the numbers of its arrays.

All is whole numbers in `int64` arrays, so that one set of compiled kernels serves every run. A wide number
(`bot/core/wide.py`) takes two slots, the high half first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.core import tactics

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Steps = NDArray[np.int32]

# --- run: first the terms of the tactics, then the charges, which stay the same for a run
MAKER_PPM: Final = 8
TAKER_PPM: Final = 9
SLIPPAGE: Final = 10
"""Index into `SLIPPAGES`."""
SLIPPAGE_PPM: Final = 11
HALF_SPREAD: Final = 12
LATENCY: Final = 13
VOLUME_SHARE: Final = 14
LEVERAGE: Final = 15
MAINTENANCE_PPM: Final = 16
LIQUIDATION_PPM: Final = 17
TIMEFRAME: Final = 18
"""Length of a base bar."""
IS_OWN_LONGER: Final = 19
"""1 where the strategy's bars are longer than the base bars."""
HAS_PERPS: Final = 20
IS_COMMON: Final = 21
"""1 where `quick.play_trips` may play what it can."""
# … the account
FLOW: Final = 22
"""Cash in flow form (`bot/core/equity.py`): wide."""
FILLS: Final = 24
"""Fills so far."""
SENT: Final = 25
"""Orders sent so far: the age of each."""
ENDS: Final = 26
"""Orders ended so far."""
IS_WALKING: Final = 27
"""1 inside a bar: what is cancelled there is cancelled at once."""
FUNDING: Final = 28
"""Paid so far: wide."""
IS_FULL: Final = 30
"""1 where fills or orders found no room: a broken promise of the caller's."""
DENIED: Final = 31
"""How often each of `REFUSALS` was said."""
RUN: Final = 38

SLIPPAGES: Final = ("none", "fixed", "spread", "volume")
SLIPS_NOT: Final = 0
SLIPS_FIXED: Final = 1
SLIPS_SPREAD: Final = 2
SLIPS_BY_VOLUME: Final = 3

# --- book: one row a symbol; first what stays
UNIT: Final = 0
"""Quote atoms of one lot at one tick."""
PER_LOT: Final = 1
"""Base atoms of a lot."""
SCALE_A: Final = 2
SCALE_B: Final = 3
"""Two divisors of at most 10**8 whose product is 10**price_scale."""
QTY_MIN: Final = 4
NOTIONAL_MIN: Final = 5
"""Wide."""
IS_PERP: Final = 7
FEE_IN_QUOTE: Final = 8
QUOTE_FEE: Final = 9
FIRST: Final = 10
"""Index of its first bar in the columns."""
BARS: Final = 11
OWN_FIRST: Final = 12
OWN_BARS: Final = 13
FUNDING_FIRST: Final = 14
FUNDING_COUNT: Final = 15
# … its position and prices
HELD: Final = 16
"""Whole lots, signed, rounded down."""
DUST: Final = 17
"""Base atoms beyond them, less than a lot."""
COST: Final = 18
"""Of a perpetual: the signed notional it was opened at; wide."""
MARK: Final = 20
"""The last close."""
PRICE: Final = 21
"""The last price walked to."""
END: Final = 22
"""End of the bar that is walked, or was last."""
VOLUME: Final = 23
VOLUME_LEFT: Final = 24
"""What of it may still be filled; -1: no bound."""
COUNT: Final = 25
"""Rows in the table of orders."""
CANCELS_DUE: Final = 26
"""When the cancels on their way arrive, 0: none."""
FUNDED: Final = 27
"""How many times of funding are past."""
# … its wish, as the gate knows it
HAS_WISH: Final = 28
W_TARGET: Final = 29
W_NUMBER: Final = 30
W_AMOUNT: Final = 31
"""Wide."""
W_LIMIT: Final = 33
W_STOP: Final = 34
W_PROFIT: Final = 35
NUMBER: Final = 36
"""Sizes set so far."""
AMOUNT: Final = 37
"""Of the last one; wide."""
SPENT_NUMBER: Final = 39
TAKEN_NUMBER: Final = 40
REFUSED: Final = 41
"""1 + the reason of the last refusal, 0: none."""
REFUSED_TARGET: Final = 42
IS_SETTLED: Final = 43
"""1 while the gate has nothing to ask for until something changes."""
# … where it is in time; bars and own bars are counted from the symbol's first
AT: Final = 44
"""How many of its bars are over."""
OWN_AT: Final = 45
"""How many of its own bars its tactics have lived through."""
QUIET: Final = 46
"""Bars from `AT` to this one are known to be quiet."""
IS_EVENT: Final = 47
"""1 if the bar at `QUIET` is loud."""
# … what makes a bar loud; set anew after each loud bar
MASK: Final = 48
"""Advice that matters."""
DOWN: Final = 49
"""A low at or below it matters."""
UP: Final = 50
"""A high at or above it matters."""
OWN_DOWN: Final = 51
OWN_UP: Final = 52
"""The same for own bars."""
OWN_UNTIL: Final = 53
"""The own bar of this index matters."""
UNTIL: Final = 54
"""The bar of this index matters: something waits for its open."""
IS_LOUD: Final = 55
"""1 while a step is played in which it has a loud bar."""
HAS_BAR: Final = 56
"""1 while a step is played in which it has a bar."""
START: Final = 57
"""The loud bar itself."""
OPEN: Final = 58
HIGH: Final = 59
LOW: Final = 60
CLOSE: Final = 61
STATE: Final = 62
"""The state of its tactics, to the end of the row."""
BOOK: Final = STATE + tactics.STATE

# --- orders: (symbol, row, slot), in the order of sending
SEQ: Final = 0
ROLE: Final = 1
IS_LIMIT: Final = 2
SIDE: Final = 3
"""1 or -1."""
QTY: Final = 4
FILLED: Final = 5
LIMIT: Final = 6
"""Limit or trigger, 0 at the market."""
DUE: Final = 7
"""When it arrives; 0 once it is here."""
RESTS: Final = 8
ARMED: Final = 9
CANCELS: Final = 10
"""1: asked to cancel, 2: and that is on its way."""
ENDED: Final = 11
"""0, or its place among the ended ones that the gate has not heard of yet."""
ORDER_AMOUNT: Final = 12
"""Above 0: what a market buy spends in all; wide."""
SPENT: Final = 14
"""Of it; wide."""
RESERVED: Final = 16
"""What a buy on spot may still spend; wide."""
ORDER: Final = 18

TRADE: Final = 0
STOP: Final = 1
PROFIT: Final = 2
LIQUIDATION: Final = 3

# --- refusals
MIN_QTY: Final = 0
MIN_NOTIONAL: Final = 1
PRICE_COLLAR: Final = 2
MAX_POSITION: Final = 3
INSUFFICIENT_FUNDS: Final = 4
NO_FUNDS: Final = 5
NOTHING_HELD: Final = 6
REFUSALS: Final = (
    "MIN_QTY",
    "MIN_NOTIONAL",
    "PRICE_COLLAR",
    "MAX_POSITION",
    "INSUFFICIENT_FUNDS",
    "NO_FUNDS",
    "NOTHING_HELD",
)

# --- fills
F_STEP: Final = 0
F_SYMBOL: Final = 1
F_PRICE: Final = 2
F_LOTS: Final = 3
F_ROLE: Final = 4
F_IS_MAKER: Final = 5
F_FEE: Final = 6
"""Wide: atoms of what it was paid in."""
F_IS_IN_COINS: Final = 8
FILL: Final = 9

WINDOW: Final = 8_192
"""Steps that are searched, filled and summed up while they are in the cache."""
NEVER: Final = 2**62
"""A price, time or index that does not come."""


class Box(NamedTuple):
    """All that a run changes. Few arrays: a kernel hands each of them on at every call, as seven numbers or more."""

    run: Ints
    """Shape (RUN,)."""
    book: Ints
    """Shape (symbols, BOOK)."""
    orders: Ints
    """Shape (symbols, rows, ORDER)."""
    fills: Ints
    """Shape (room, FILL)."""


def with_room(box: Box) -> Box:
    """Return the same run with twice the room for fills and orders."""
    assert not box.run[IS_FULL]
    return box._replace(
        orders=np.concatenate((box.orders, np.zeros_like(box.orders)), axis=1),
        fills=np.concatenate((box.fills, np.zeros_like(box.fills))),
    )


class Bars(NamedTuple):
    """The bars of all symbols, one after the other; `FIRST` of a symbol is where its own begin."""

    start_ns: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints


class OwnBars(NamedTuple):
    """The strategy's own bars of all symbols; where they are no longer than the others, the same columns."""

    last: Ints
    """Index of the base bar that each was over with; unused where they are the same."""
    high: Ints
    low: Ints
    close: Ints
    """After a gap, not the close of the bar that it was over with."""


class Numbers(NamedTuple):
    """What is advised beside flags: as many as there are bars, or one for each symbol where they never change."""

    size: Ints
    stop_by: Ints
    target_by: Ints
    trail_by: Ints


class Columns(NamedTuple):
    """All that a run reads."""

    bars: Bars
    own: OwnBars
    flags: NDArray[np.uint8]
    numbers: Numbers
    funding_ns: Ints
    funding_ppb: Ints
    step: Steps
    """Step of each bar; shape (0,) where every symbol has a bar at every step."""
