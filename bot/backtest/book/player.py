"""One step of a strategy on the book, as kernels: what it sees, what it hears, and how its wishes become orders.

The plain loop of `replay.py` calls them around a strategy in Python, `run` around a compiled one: there is one
definition of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.backtest.book import matching as mt
from bot.backtest.book.ladder import BEST_ASK, BEST_BID, Int32s, Ints, Kinds
from bot.backtest.book.matching import Desk, Ints2
from bot.core.jit import bare_kernel

Floats = NDArray[np.float64]
Decide = Callable[[Floats, Floats, Ints, Ints], None]
"""A compiled strategy: (its settings, its memory, the view, the wish to fill in); of `DECIDE_SIGNATURE`."""
DECIDE_SIGNATURE: Final = "void(float64[::1], float64[::1], int64[::1], int64[::1])"

# The view.
TS_NS: Final = 0
BID: Final = 1
BID_LOTS: Final = 2
ASK: Final = 3
ASK_LOTS: Final = 4
POSITION: Final = 5
PENDING: Final = 6
VIEW: Final = 7

# The wish: two quotes, and lots to take at once. `IS_SET` 0 leaves all as it is.
WISH_BID: Final = 0
WISH_BID_LOTS: Final = 1
WISH_ASK: Final = 2
WISH_ASK_LOTS: Final = 3
WISH_MARKET: Final = 4
IS_SET: Final = 5
WISH: Final = 6

# Where the player stands.
HELD: Final = 0
"""The position, as the exchange knows it."""
HEARD: Final = 1
"""The position, as far as the strategy has heard."""
SENT: Final = 2
"""Orders sent so far; the id of the last."""
UNHEARD: Final = 3
MARKETS: Final = 4
"""Market orders whose end it has not heard of."""
FILLS: Final = 5
REFUSALS: Final = 6
STEPS: Final = 7
FEED_AT: Final = 8
ENTRY_AT: Final = 9
RESPONSE_AT: Final = 10
PLAYER: Final = 11

FILL_COLUMNS: Final = 4
"""Step, price as an offset, signed lots, 1 for a maker."""
MARKETS_MAX: Final = 64
DRAWS: Final = 4_096
"""Latencies drawn for a run, taken in turn again and again."""


class Player(NamedTuple):
    """A strategy's side of the wire, and what it has to show for it."""

    now: Ints
    """The numbers above."""
    quotes: Ints2
    """Shape (2, 3): id, price and lots of the buy and the sell that it believes to work; id 0: none."""
    markets: Ints2
    """Id and signed lots of each market order on its way."""
    unheard: Ints2
    """When it will hear of it, and the log's row."""
    fills: Ints2
    feed: Ints
    entry: Ints
    response: Ints


def make_player(feed: Ints, entry: Ints, response: Ints, rows: int) -> Player:
    """Return a player with nothing sent; the three columns of latencies have shape (DRAWS,)."""
    return Player(
        np.zeros(PLAYER, np.int64),
        np.zeros((2, 3), np.int64),
        np.zeros((MARKETS_MAX, 2), np.int64),
        np.zeros((rows, 1 + mt.LOG_COLUMNS), np.int64),
        np.zeros((rows, FILL_COLUMNS), np.int64),
        feed,
        entry,
        response,
    )


def grown(player: Player) -> Player:
    """Return `player` with twice the room in its tables."""
    fills, unheard = (np.concatenate([table, np.zeros_like(table)]) for table in (player.fills, player.unheard))
    return player._replace(fills=fills, unheard=unheard)


@bare_kernel
def look(best: Ints, bids: Ints, asks: Ints, base: int, step: int, now_ns: int, player: Player, view: Ints) -> None:
    """Fill in what the strategy knows at its own time, when the exchange's is `now_ns`."""
    now = player.now
    local_ns = now_ns + int(player.feed[now[FEED_AT] % DRAWS])
    now[FEED_AT] += 1
    if now[UNHEARD] > 0:
        _hear(player, local_ns)
    bid, ask = best[BEST_BID], best[BEST_ASK]
    view[TS_NS] = local_ns
    view[BID], view[ASK] = base + step * bid, base + step * ask
    view[BID_LOTS] = bids[bid] if bid >= 0 else 0
    view[ASK_LOTS] = asks[ask] if ask < len(asks) else 0
    view[POSITION] = now[HEARD]
    view[PENDING] = 0
    for k in range(now[MARKETS]):
        view[PENDING] += player.markets[k, 1]


@bare_kernel
def collect(desk: Desk, player: Player) -> None:
    """Take what the exchange said: fills change the position now, the strategy hears of everything later."""
    now = player.now
    for k in range(desk.cursor[mt.LOGGED]):
        row = desk.log[k]
        what = row[mt.LOG_WHAT]
        if what in (mt.TAKEN, mt.MADE):
            signed = row[mt.LOG_SIDE] * row[mt.LOG_LOTS]
            now[HELD] += signed
            fill = player.fills[now[FILLS]]
            fill[0], fill[1], fill[2] = now[STEPS], row[mt.LOG_PRICE], signed
            fill[3] = 1 if what == mt.MADE else 0
            now[FILLS] += 1
        elif what == mt.REFUSED:
            now[REFUSALS] += 1
        entry = player.unheard[now[UNHEARD]]
        entry[0] = row[mt.LOG_TS] + player.response[now[RESPONSE_AT] % DRAWS]
        now[RESPONSE_AT] += 1
        mt.copy_row(row, entry[1:])
        now[UNHEARD] += 1
    desk.cursor[mt.LOGGED] = 0


@bare_kernel
def _hear(player: Player, local_ns: int) -> None:
    now, unheard = player.now, player.unheard
    kept = 0
    for k in range(now[UNHEARD]):
        if unheard[k, 0] > local_ns:
            mt.copy_row(unheard[k], unheard[kept])
            kept += 1
        else:
            _learn(player, unheard[k, 1:])
    now[UNHEARD] = kept


@bare_kernel
def _learn(player: Player, row: Ints) -> None:
    what, order_id, side = row[mt.LOG_WHAT], row[mt.LOG_ID], row[mt.LOG_SIDE]
    quote = player.quotes[0 if side > 0 else 1]
    lots = row[mt.LOG_LOTS] if what in (mt.TAKEN, mt.MADE) else 0
    player.now[HEARD] += side * lots
    is_over = what in (mt.CANCELED, mt.REFUSED)
    if quote[0] == order_id:
        quote[2] -= lots
        if is_over or quote[2] <= 0:
            quote[0] = 0
        return
    markets = player.markets
    for k in range(player.now[MARKETS]):
        if markets[k, 0] == order_id:
            markets[k, 1] -= side * lots
            if is_over or markets[k, 1] == 0:
                player.now[MARKETS] -= 1
                mt.copy_row(markets[player.now[MARKETS]], markets[k])
            return


@bare_kernel
def act(desk: Desk, player: Player, wish: Ints, local_ns: int, base: int, step: int, width: int) -> None:
    """Send what brings the book to the wish: an order of another price is cancelled and made anew."""
    if wish[IS_SET] == 0:
        return
    _quote(desk, player, 1, wish[WISH_BID], wish[WISH_BID_LOTS], local_ns, base, step, width)
    _quote(desk, player, -1, wish[WISH_ASK], wish[WISH_ASK_LOTS], local_ns, base, step, width)
    lots = wish[WISH_MARKET]
    if lots != 0 and player.now[MARKETS] < MARKETS_MAX:
        side = 1 if lots > 0 else -1
        at = width - 1 if side > 0 else 0
        if _send(desk, player, side, at, abs(lots), local_ns, mt.IMMEDIATE):
            row = player.markets[player.now[MARKETS]]
            row[0], row[1] = player.now[SENT], lots
            player.now[MARKETS] += 1


@bare_kernel
def _quote(
    desk: Desk, player: Player, side: int, price: int, lots: int, local_ns: int, base: int, step: int, width: int
) -> None:
    quote = player.quotes[0 if side > 0 else 1]
    if quote[0] != 0:
        if lots > 0 and quote[1] == price:
            return
        mt.send(desk, quote[0], 0, 0, 0, local_ns + _entry_ns(player), 0)
        quote[0] = 0
    if lots > 0:
        offset = price - base
        # A price between two steps is the more patient one of them.
        at = offset // step if side > 0 else -(-offset // step)
        if _send(desk, player, side, min(max(at, 0), width - 1), lots, local_ns, mt.POST_ONLY):
            quote[0], quote[1], quote[2] = player.now[SENT], price, lots


@bare_kernel
def _send(desk: Desk, player: Player, side: int, at: int, lots: int, local_ns: int, rules: int) -> bool:
    order_id = player.now[SENT] + 1
    is_sent = mt.send(desk, order_id, side, at, lots, local_ns + _entry_ns(player), rules)
    if is_sent:
        player.now[SENT] = order_id
    return is_sent


@bare_kernel
def _entry_ns(player: Player) -> int:
    at = player.now[ENTRY_AT]
    player.now[ENTRY_AT] = at + 1
    return int(player.entry[at % DRAWS])


@bare_kernel
def has_room(player: Player, log_rows: int) -> bool:
    """Return whether a whole log more fits into the tables."""
    return player.now[FILLS] + log_rows <= len(player.fills) and player.now[UNHEARD] + log_rows <= len(player.unheard)


@bare_kernel
def run(
    decide: Decide,
    settings: Floats,
    memory: Floats,
    ts_ns: Ints,
    kind: Kinds,
    price: Int32s,
    lots: Ints,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
    desk: Desk,
    player: Player,
    base: int,
    step_ticks: int,
    first_ns: int,
    interval_ns: int,
    steps: int,
    levels_max: int,
    power: int,
    mids2: Ints,
    held: Ints,
    view: Ints,
    wish: Ints,
) -> bool:
    """Play up to `steps` steps; return whether all are done. If not, the tables must grow first."""
    now = player.now
    while now[STEPS] < steps:
        at_ns = first_ns + (now[STEPS] + 1) * interval_ns
        is_full = True
        while is_full:
            if not has_room(player, len(desk.log)):
                return False
            is_full = mt.advance(
                ts_ns, kind, price, lots, bids, asks, bid_blocks, ask_blocks, best, desk, at_ns, levels_max, power
            )
            collect(desk, player)
        note_step(best, len(asks), base, step_ticks, now, mids2, held)
        look(best, bids, asks, base, step_ticks, at_ns, player, view)
        wish[:] = 0
        decide(settings, memory, view, wish)
        act(desk, player, wish, view[TS_NS], base, step_ticks, len(asks))
    return True


@bare_kernel
def note_step(best: Ints, width: int, base: int, step_ticks: int, now: Ints, mids2: Ints, held: Ints) -> None:
    """Write down twice the middle, as it was while a side is empty, and the position; the step is over."""
    number = now[STEPS]
    bid, ask = best[BEST_BID], best[BEST_ASK]
    if bid >= 0 and ask < width:
        mids2[number] = 2 * base + step_ticks * (bid + ask)
    elif number > 0:
        mids2[number] = mids2[number - 1]
    held[number] = now[HELD]
    now[STEPS] = number + 1
