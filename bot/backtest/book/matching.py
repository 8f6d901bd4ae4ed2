"""Our orders in somebody else's book, compiled: the rules of the paper exchange (`bot/core/matching.py`) on ladders.

A taker walks the displayed levels, less what we took of them before. A resting order waits behind all that stood
at its price; it is filled by trades at or through it, and by a book that has moved through it. What falls due acts on
the book as it stood before the news of that moment.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.backtest.book.events import BOUGHT, KIND, SOLD
from bot.backtest.book.ladder import BEST_ASK, BEST_BID, Int32s, Ints, Kinds, apply_message, next_above, next_below
from bot.core.jit import bare_kernel

Ints2 = NDArray[np.int64]
"""A table, shape (rows, columns)."""

ORDERS_MAX: Final = 16
"""Orders that may rest at the same time; one more is refused."""
COMMANDS_MAX: Final = 64
"""Orders and cancels on their way at the same time."""
TAKEN_MAX: Final = 64
"""Levels that we took from and that have not changed since; the oldest is forgotten."""
EVER: Final = 1 << 62

# Columns of an order, and of a command on its way.
ID: Final = 0
SIDE: Final = 1
"""1 a buy, -1 a sell; 0 a cancel of `ID`."""
PRICE: Final = 2
LEAVES: Final = 3
AHEAD: Final = 4
"""Of an order: lots before us at our price. Of a command: its time of arrival."""
RULES: Final = 5
"""Bits: what the order must not or need not do."""
DISPLAYED: Final = 6
"""Lots displayed at our price after the last message."""
TRADED: Final = 7
"""Lots traded at our price, on our side, since then."""
COLUMNS: Final = 8

POST_ONLY: Final = 1
IMMEDIATE: Final = 2
"""What cannot be taken at once is not left in the book."""

# The log: what the exchange says, in order.
ACCEPTED: Final = 0
TAKEN: Final = 1
MADE: Final = 2
CANCELED: Final = 3
REFUSED: Final = 4
LOG_TS: Final = 0
LOG_WHAT: Final = 1
LOG_ID: Final = 2
LOG_SIDE: Final = 3
LOG_PRICE: Final = 4
LOG_LOTS: Final = 5
LOG_COLUMNS: Final = 6

# The cursor: where the replay stands.
NEXT_EVENT: Final = 0
ORDERS: Final = 1
COMMANDS: Final = 2
DUE_NS: Final = 3
"""When the next command arrives."""
TAKEN_COUNT: Final = 4
LOGGED: Final = 5
CURSOR: Final = 6


class Desk(NamedTuple):
    """Everything of ours at the exchange."""

    cursor: Ints
    orders: Ints2
    """Living orders: buys first, best price first, then by time."""
    commands: Ints2
    taken: Ints2
    """(side whose level it is, price, displayed then, taken by us since)."""
    log: Ints2
    arriving: Ints
    """The command that acts now."""


def make_desk(log_rows: int) -> Desk:
    """Return an empty desk."""
    cursor = np.zeros(CURSOR, np.int64)
    cursor[DUE_NS] = EVER
    return Desk(
        cursor,
        np.zeros((ORDERS_MAX, COLUMNS), np.int64),
        np.zeros((COMMANDS_MAX, COLUMNS), np.int64),
        np.zeros((TAKEN_MAX, 4), np.int64),
        np.zeros((log_rows, LOG_COLUMNS), np.int64),
        np.zeros(COLUMNS, np.int64),
    )


@bare_kernel
def copy_row(source: Ints, target: Ints) -> None:
    """Copy a short row: numba's own assignment of arrays costs a microsecond."""
    for k in range(len(source)):
        target[k] = source[k]


@bare_kernel
def advance(
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
    until_ns: int,
    levels_max: int,
    power: int,
) -> bool:
    """Play all that happens up to `until_ns`, itself included; return whether the log became too full to go on.

    `levels_max`: levels that an order can meet at once. `power`: of the queue model; 0: all who leave stood behind us.
    """
    cursor, orders, log = desk.cursor, desk.orders, desk.log
    i = cursor[NEXT_EVENT]
    room = len(log) - ORDERS_MAX * levels_max
    count = len(kind)
    while i < count and ts_ns[i] <= until_ns:
        if cursor[LOGGED] >= room:
            cursor[NEXT_EVENT] = i
            return True
        if cursor[DUE_NS] <= ts_ns[i]:
            _arrive(ts_ns[i], bids, asks, bid_blocks, ask_blocks, best, desk, levels_max)
            continue
        what = kind[i] & KIND
        if what in (BOUGHT, SOLD):
            if cursor[ORDERS] > 0:
                _on_trade(cursor, orders, log, ts_ns[i], 1 if what == BOUGHT else -1, price[i], lots[i])
            i += 1
            continue
        now_ns = ts_ns[i]
        i = apply_message(kind, price, lots, i, bids, asks, bid_blocks, ask_blocks, best)
        if cursor[TAKEN_COUNT] > 0:
            _forget_taken(cursor, desk.taken, bids, asks)
        if cursor[ORDERS] > 0:
            _on_depth(now_ns, bids, asks, bid_blocks, ask_blocks, best, desk, cursor, orders, levels_max, power)
    cursor[NEXT_EVENT] = i
    while cursor[DUE_NS] <= until_ns:
        if cursor[LOGGED] >= room:
            return True
        _arrive(until_ns, bids, asks, bid_blocks, ask_blocks, best, desk, levels_max)
    return False


@bare_kernel
def send(desk: Desk, order_id: int, side: int, price: int, lots: int, due_ns: int, rules: int) -> bool:
    """Put an order, or with side 0 a cancel, on its way; return whether there was room."""
    count = desk.cursor[COMMANDS]
    if count >= COMMANDS_MAX:
        return False
    row = desk.commands[count]
    row[ID], row[SIDE], row[PRICE], row[LEAVES] = order_id, side, price, lots
    row[AHEAD], row[RULES] = due_ns, rules
    desk.cursor[COMMANDS] = count + 1
    desk.cursor[DUE_NS] = min(desk.cursor[DUE_NS], due_ns)
    return True


@bare_kernel
def _say(cursor: Ints, log: Ints2, ts_ns: int, what: int, order_id: int, side: int, price: int, lots: int) -> None:
    row = log[cursor[LOGGED]]
    row[LOG_TS], row[LOG_WHAT], row[LOG_ID] = ts_ns, what, order_id
    row[LOG_SIDE], row[LOG_PRICE], row[LOG_LOTS] = side, price, lots
    cursor[LOGGED] += 1


@bare_kernel
def _arrive(
    now_ns: int,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
    desk: Desk,
    levels_max: int,
) -> None:
    """Let the first of the commands that are due act."""
    cursor, commands = desk.cursor, desk.commands
    first = 0
    for k in range(1, cursor[COMMANDS]):
        if commands[k, AHEAD] < commands[first, AHEAD]:
            first = k
    command = desk.arriving
    copy_row(commands[first], command)
    for k in range(first + 1, cursor[COMMANDS]):  # those that are due together keep their order
        copy_row(commands[k], commands[k - 1])
    cursor[COMMANDS] -= 1
    cursor[DUE_NS] = EVER
    for k in range(cursor[COMMANDS]):
        cursor[DUE_NS] = min(cursor[DUE_NS], commands[k, AHEAD])
    if command[SIDE] == 0:
        _cancel(cursor, desk.orders, desk.log, command[AHEAD], command[ID])
    else:
        _accept(command, bids, asks, bid_blocks, ask_blocks, best, desk, levels_max)


@bare_kernel
def _cancel(cursor: Ints, orders: Ints2, log: Ints2, now_ns: int, order_id: int) -> None:
    for k in range(cursor[ORDERS]):
        if orders[k, ID] == order_id:
            _say(cursor, log, now_ns, CANCELED, order_id, orders[k, SIDE], orders[k, PRICE], orders[k, LEAVES])
            _drop(cursor, orders, k)
            return


@bare_kernel
def _drop(cursor: Ints, orders: Ints2, at: int) -> None:
    for k in range(at + 1, cursor[ORDERS]):
        copy_row(orders[k], orders[k - 1])
    cursor[ORDERS] -= 1


@bare_kernel
def _accept(
    order: Ints,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
    desk: Desk,
    levels_max: int,
) -> None:
    cursor, log = desk.cursor, desk.log
    now_ns, side, limit = order[AHEAD], order[SIDE], order[PRICE]
    rules = order[RULES]
    would_take = False
    if rules & POST_ONLY:
        would_take = _would_take(side, limit, bids, asks, bid_blocks, ask_blocks, best, desk)
    if would_take or cursor[ORDERS] >= ORDERS_MAX:
        _say(cursor, log, now_ns, REFUSED, order[ID], side, limit, order[LEAVES])
        return
    _say(cursor, log, now_ns, ACCEPTED, order[ID], side, limit, order[LEAVES])
    _take(order, bids, asks, bid_blocks, ask_blocks, best, desk, limit, levels_max, now_ns, TAKEN)
    if order[LEAVES] == 0:
        return
    if rules & IMMEDIATE:
        _say(cursor, log, now_ns, CANCELED, order[ID], side, limit, order[LEAVES])
        return
    displayed = bids[limit] if side > 0 else asks[limit]
    order[AHEAD] = order[DISPLAYED] = displayed
    order[TRADED] = 0
    _rest(cursor, desk.orders, order)


@bare_kernel
def _rest(cursor: Ints, orders: Ints2, order: Ints) -> None:
    """Put `order` behind all with its priority or a better one."""
    at = cursor[ORDERS]
    key = -order[SIDE] * order[PRICE]
    while at > 0 and _is_behind(orders[at - 1], order[SIDE], key):
        copy_row(orders[at - 1], orders[at])
        at -= 1
    copy_row(order, orders[at])
    cursor[ORDERS] += 1


@bare_kernel
def _is_behind(other: Ints, side: int, key: int) -> bool:
    if other[SIDE] != side:
        return side > 0
    return -other[SIDE] * other[PRICE] > key


@bare_kernel
def _take(
    order: Ints,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
    desk: Desk,
    limit: int,
    levels_max: int,
    now_ns: int,
    what: int,
) -> None:
    """Fill `order` out of the levels on the other side up to `limit`; a maker's fills are at its own price."""
    cursor, taken = desk.cursor, desk.taken
    side = order[SIDE]
    others = asks if side > 0 else bids
    at = best[BEST_ASK] if side > 0 else best[BEST_BID]
    seen = 0
    while order[LEAVES] > 0 and seen < levels_max and 0 <= at < len(others) and side * (at - limit) <= 0:
        known = _find_taken(cursor, taken, -side, at)
        left = others[at] - (taken[known, 3] if known >= 0 else 0)
        quantity = min(left, order[LEAVES])
        if quantity > 0:
            _note_taken(cursor, taken, known, -side, at, others[at], quantity)
            order[LEAVES] -= quantity
            paid = at if what == TAKEN else order[PRICE]
            _say(cursor, desk.log, now_ns, what, order[ID], side, paid, quantity)
        seen += 1
        at = next_above(asks, ask_blocks, at) if side > 0 else next_below(bids, bid_blocks, at)


@bare_kernel
def _would_take(
    side: int, limit: int, bids: Ints, asks: Ints, bid_blocks: Int32s, ask_blocks: Int32s, best: Ints, desk: Desk
) -> bool:
    """Return whether anything that we have not taken already stands on the other side up to `limit`."""
    others = asks if side > 0 else bids
    at = best[BEST_ASK] if side > 0 else best[BEST_BID]
    while 0 <= at < len(others) and side * (at - limit) <= 0:
        known = _find_taken(desk.cursor, desk.taken, -side, at)
        if known < 0 or others[at] > desk.taken[known, 3]:
            return True
        at = next_above(asks, ask_blocks, at) if side > 0 else next_below(bids, bid_blocks, at)
    return False


@bare_kernel
def _find_taken(cursor: Ints, taken: Ints2, side: int, price: int) -> int:
    for k in range(cursor[TAKEN_COUNT]):
        if taken[k, 0] == side and taken[k, 1] == price:
            return k
    return -1


@bare_kernel
def _note_taken(cursor: Ints, taken: Ints2, known: int, side: int, price: int, displayed: int, lots: int) -> None:
    if known >= 0:
        taken[known, 2] = displayed
        taken[known, 3] += lots
        return
    if cursor[TAKEN_COUNT] == TAKEN_MAX:
        for k in range(1, TAKEN_MAX):
            copy_row(taken[k], taken[k - 1])
        cursor[TAKEN_COUNT] -= 1
    row = taken[cursor[TAKEN_COUNT]]
    row[0], row[1], row[2], row[3] = side, price, displayed, lots
    cursor[TAKEN_COUNT] += 1


@bare_kernel
def _forget_taken(cursor: Ints, taken: Ints2, bids: Ints, asks: Ints) -> None:
    """A level that changed was filled up by others: what we took of it is the past."""
    kept = 0
    for k in range(cursor[TAKEN_COUNT]):
        price = taken[k, 1]
        displayed = bids[price] if taken[k, 0] > 0 else asks[price]
        if displayed == taken[k, 2]:
            copy_row(taken[k], taken[kept])
            kept += 1
    cursor[TAKEN_COUNT] = kept


@bare_kernel
def _on_depth(
    now_ns: int,
    bids: Ints,
    asks: Ints,
    bid_blocks: Int32s,
    ask_blocks: Int32s,
    best: Ints,
    desk: Desk,
    cursor: Ints,
    orders: Ints2,
    levels_max: int,
    power: int,
) -> None:
    # Number by number: a view of each row would cost more than all that is done with it.
    best_bid, best_ask = best[BEST_BID], best[BEST_ASK]
    k = 0
    while k < cursor[ORDERS]:
        side, price = orders[k, SIDE], orders[k, PRICE]
        displayed = int(bids[price] if side > 0 else asks[price])
        if displayed != orders[k, DISPLAYED] or orders[k, TRADED] > 0:
            ahead, before, traded = orders[k, AHEAD], orders[k, DISPLAYED], orders[k, TRADED]
            orders[k, AHEAD] = _ahead(ahead, before, traded, displayed, power)
            orders[k, DISPLAYED] = displayed
            orders[k, TRADED] = 0
        if (side > 0 and best_ask <= price) or (side < 0 and best_bid >= price):
            # The market itself moved through our price: whoever came there met us first.
            order = orders[k]
            _take(order, bids, asks, bid_blocks, ask_blocks, best, desk, price, levels_max, now_ns, MADE)
            if order[LEAVES] == 0:
                _drop(cursor, orders, k)
                continue
        k += 1


@bare_kernel
def _ahead(ahead: int, before: int, traded: int, displayed: int, power: int) -> int:
    """Return how much stands before us, now that `displayed` stands at our price and no longer `before`."""
    if power == 0:
        return min(ahead, displayed)
    # Who left without a trade: more likely from the longer part of the queue.
    left = before - displayed - traded
    front, back = float(ahead), float(max(before - ahead, 0))
    if left <= 0 or front + back <= 0.0:
        return min(ahead, displayed)
    front_power, back_power = 1.0, 1.0
    for _ in range(power):
        front_power *= front
        back_power *= back
    gone = int(left * (front_power / (front_power + back_power)))
    return min(ahead, displayed, max(ahead - gone, 0))


@bare_kernel
def _on_trade(cursor: Ints, orders: Ints2, log: Ints2, now_ns: int, taker: int, price: int, lots: int) -> None:
    left = lots
    k = 0
    while k < cursor[ORDERS] and left > 0:
        side = orders[k, SIDE]
        beyond = side * (orders[k, PRICE] - price)
        if side == taker or beyond < 0:
            k += 1
            continue
        if beyond == 0:
            passed = min(left, orders[k, AHEAD])
            left -= passed
            orders[k, AHEAD] -= passed
            orders[k, TRADED] += lots
        else:
            orders[k, AHEAD] = 0  # a trade beyond its price: all before it is gone
        quantity = min(left, orders[k, LEAVES])
        if quantity > 0:
            left -= quantity
            orders[k, LEAVES] -= quantity
            _say(cursor, log, now_ns, MADE, orders[k, ID], side, orders[k, PRICE], quantity)
            if orders[k, LEAVES] == 0:
                _drop(cursor, orders, k)
                continue
        k += 1
