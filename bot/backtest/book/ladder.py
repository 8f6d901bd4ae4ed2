"""A book as two ladders: lots by tick, with a count of living levels for each block of ticks.

To set a level is one store; only when the best level goes is the next one looked for, block by block. Prices are
offsets from the lowest price of the recording.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.backtest.book.events import ASK, BID, CLEAR, IS_LAST, KIND, BookEvents
from bot.core.jit import bare_kernel

Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]
Kinds = NDArray[np.uint8]

BLOCK: Final = 6
"""2**6 ticks are one block."""
BEST_BID: Final = 0
BEST_ASK: Final = 1


class Ladder(NamedTuple):
    """Both sides of one book. An empty side has its best price at -1 (bids) or at the width (asks)."""

    bids: Ints
    asks: Ints
    bid_blocks: Int32s
    ask_blocks: Int32s
    best: Ints
    """(best bid, best ask)."""


class Touch(NamedTuple):
    """Best prices after each message: columns of shape (messages,); prices as offsets, lots 0 where a side is empty."""

    ts_ns: Ints
    bid: Int32s
    ask: Int32s
    bid_lots: Ints
    ask_lots: Ints


def make_ladder(width: int) -> Ladder:
    """Return an empty book for prices 0 to width - 1."""
    blocks = (width >> BLOCK) + 1
    sides = np.zeros((2, width), np.int64)
    counts = np.zeros((2, blocks), np.int32)
    return Ladder(sides[0], sides[1], counts[0], counts[1], np.array([-1, width], np.int64))


def touch_of(events: BookEvents) -> Touch:
    """Return the best prices after each message of `events`."""
    count = int(np.count_nonzero(events.kind & IS_LAST))
    touch = Touch(
        np.empty(count, np.int64),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    replay_touch(events.ts_ns, events.kind, events.price, events.lots, make_ladder(events.width), touch)
    return touch


@bare_kernel
def replay_touch(ts_ns: Ints, kind: Kinds, price: Int32s, lots: Ints, book: Ladder, touch: Touch) -> int:
    """Apply every event to `book` and write a row of `touch` after each message; return the rows written."""
    bids, asks, best = book.bids, book.asks, book.best
    row = i = 0
    while i < len(kind):
        i = apply_message(kind, price, lots, i, bids, asks, book.bid_blocks, book.ask_blocks, best)
        bid, ask = best[BEST_BID], best[BEST_ASK]
        touch.ts_ns[row] = ts_ns[i - 1]
        touch.bid[row], touch.ask[row] = bid, ask
        touch.bid_lots[row] = bids[bid] if bid >= 0 else 0
        touch.ask_lots[row] = asks[ask] if ask < len(asks) else 0
        row += 1
    return row


@bare_kernel
def apply_message(
    kind: Kinds,
    price: Int32s,
    lots: Ints,
    start: int,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
) -> int:
    """Apply the rows of the message that begins at `start`; return where the next one begins.

    A trade changes nothing here: its change of the book comes apart from it.
    """
    bid, ask = best[BEST_BID], best[BEST_ASK]
    i = start
    is_last = False
    while not is_last and i < len(kind):
        what = kind[i] & KIND
        is_last = kind[i] & IS_LAST != 0
        at, now = price[i], lots[i]
        i += 1
        if what == BID:
            before = bids[at]
            bids[at] = now
            if (before > 0) != (now > 0):
                if now > 0:
                    bid_blocks[at >> BLOCK] += 1
                    bid = max(bid, at)
                else:
                    bid_blocks[at >> BLOCK] -= 1
                    if at == bid:
                        bid = next_below(bids, bid_blocks, at)
        elif what == ASK:
            before = asks[at]
            asks[at] = now
            if (before > 0) != (now > 0):
                if now > 0:
                    ask_blocks[at >> BLOCK] += 1
                    ask = min(ask, at)
                else:
                    ask_blocks[at >> BLOCK] -= 1
                    if at == ask:
                        ask = next_above(asks, ask_blocks, at)
        elif what == CLEAR:
            _empty(bids, bid_blocks)
            _empty(asks, ask_blocks)
            bid, ask = -1, len(asks)
    best[BEST_BID], best[BEST_ASK] = bid, ask
    return i


@bare_kernel
def _empty(side: Ints, blocks: Int32s) -> None:
    """Clear the blocks that have levels: most of a wide ladder never had any."""
    for block in range(len(blocks)):
        if blocks[block] > 0:
            side[block << BLOCK : (block + 1) << BLOCK] = 0
            blocks[block] = 0


@bare_kernel
def next_below(side: Ints, blocks: Int32s, price: int) -> int:
    """Return the highest living level below `price`, or -1."""
    block = price >> BLOCK
    start = block << BLOCK
    for at in range(price - 1, start - 1, -1):
        if side[at] > 0:
            return at
    block -= 1
    while block >= 0 and blocks[block] == 0:
        block -= 1
    if block < 0:
        return -1
    at = ((block + 1) << BLOCK) - 1
    while side[at] == 0:
        at -= 1
    return at


@bare_kernel
def next_above(side: Ints, blocks: Int32s, price: int) -> int:
    """Return the lowest living level above `price`, or the width."""
    width = len(side)
    block = price >> BLOCK
    for at in range(price + 1, min((block + 1) << BLOCK, width)):
        if side[at] > 0:
            return at
    block += 1
    while block < len(blocks) and blocks[block] == 0:
        block += 1
    if block >= len(blocks):
        return width
    at = block << BLOCK
    while side[at] == 0:
        at += 1
    return at
