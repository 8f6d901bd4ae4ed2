"""The risk gate and the seat of a strategy as kernels: from advice to orders, in the compiled backtest.

The same decisions in the same order as `bot/core/risk/` and `bot/strategies/seats.py`, which the exact engine runs;
a property test holds the two together. What messages carry there between machines is done here at once: an order that
ends is marked, and heard of by the gate when the exact engine's queue would come to it.
"""

from __future__ import annotations

from typing import Final

from bot.backtest import slots as k
from bot.backtest.slots import Box, Ints
from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.core.wide import (
    Wide,
    is_below,
    magnitude,
    minus,
    negative,
    over,
    plus,
    product,
    quotient,
    share_up,
    times,
)

MILLION: Final = 1_000_000
REBALANCE_SHARE: Final = 50
AMOUNT_LOTS: Final = 2
QUOTE_ATOMS: Final = 10_000_000_000
"""Atoms in a millionth of the quote currency."""


# --- what is held, and what it is worth


@bare_kernel
def notional(row: Ints, price: int, lots: int) -> Wide:
    """Return price x lots in atoms, for lots >= 0."""
    high, low = product(price, lots)
    return times(high, low, row[k.UNIT])


@bare_kernel
def value_at(row: Ints, price: int) -> Wide:
    """Return the signed value of what is held, in atoms, rounded down."""
    lots = row[k.HELD]
    high, low = notional(row, price, abs(lots))
    if lots < 0:
        high, low = negative(high, low)
    if row[k.DUST] > 0:
        dust_high, dust_low = product(row[k.DUST], price)
        dust_high, dust_low = over(dust_high, dust_low, row[k.SCALE_A])
        dust_high, dust_low = over(dust_high, dust_low, row[k.SCALE_B])
        high, low = plus(high, low, dust_high, dust_low)
    return high, low


@bare_kernel
def nearest_lots(row: Ints) -> int:
    """Return what is held, to the nearest lot."""
    return row[k.HELD] + (1 if 2 * row[k.DUST] >= row[k.PER_LOT] else 0)


@bare_kernel
def position_lots(row: Ints) -> int:
    """Return the same, with less than the smallest quantity as 0."""
    held = row[k.HELD]
    is_dust = -row[k.QTY_MIN] < held < row[k.QTY_MIN]
    return 0 if is_dust else nearest_lots(row)


@bare_kernel
def spent_atoms(row: Ints, price: int, lots: int) -> Wide:
    """Return the most that a buy on spot takes out of cash."""
    high, low = notional(row, price, lots)
    if row[k.QUOTE_FEE] > 0:
        fee_high, fee_low = share_up(high, low, row[k.QUOTE_FEE])
        high, low = plus(high, low, fee_high, fee_low)
    return high, low


@bare_kernel
def equity_atoms(box: Box) -> Wide:
    """Return cash and positions at the last closes."""
    high, low = box.run[k.FLOW], box.run[k.FLOW + 1]
    for s in range(len(box.book)):
        row = box.book[s]
        if row[k.HELD] != 0 or row[k.DUST] != 0:
            value_high, value_low = value_at(row, row[k.MARK])
            high, low = plus(high, low, value_high, value_low)
    return high, low


@bare_kernel
def _wallet(box: Box) -> Wide:
    """Return cash: the flow without what perpetuals were opened at."""
    high, low = box.run[k.FLOW], box.run[k.FLOW + 1]
    for s in range(len(box.book)):
        high, low = plus(high, low, box.book[s, k.COST], box.book[s, k.COST + 1])
    return high, low


@bare_kernel
def _free_cash(box: Box) -> Wide:
    """Return the wallet less what working buys on spot may still need."""
    high, low = _wallet(box)
    for s in range(len(box.book)):
        if not box.book[s, k.IS_PERP]:
            for i in range(box.book[s, k.COUNT]):
                order = box.orders[s, i]
                high, low = minus(high, low, order[k.RESERVED], order[k.RESERVED + 1])
    return high, low


@bare_kernel
def _perps_exposure(box: Box, s: int, side: int, order_high: int, order_low: int) -> Wide:
    """Return the value of all perpetuals once all that works has filled, and an order of symbol `s` too.

    Of each that is the worse of two: all buys filled, or all sells. Guards only make it smaller.
    """
    high, low = 0, 0
    for other in range(len(box.book)):
        row = box.book[other]
        if not row[k.IS_PERP]:
            continue
        held_high, held_low = value_at(row, row[k.MARK])
        rise_high, rise_low, rises = _in_flight(box, other, 1)
        fall_high, fall_low, falls = _in_flight(box, other, -1)
        if other == s and side > 0:
            rise_high, rise_low = plus(rise_high, rise_low, order_high, order_low)
        elif other == s:
            fall_high, fall_low = plus(fall_high, fall_low, order_high, order_low)
        risen_high, risen_low = magnitude(*plus(held_high, held_low, rise_high, rise_low))
        fallen_high, fallen_low = magnitude(*minus(held_high, held_low, fall_high, fall_low))
        # Without anything that works against the order, what it leaves behind does not count.
        counts_risen = other != s or side > 0 or rises > 0
        counts_fallen = other != s or side < 0 or falls > 0
        is_fallen_worse = is_below(risen_high, risen_low, fallen_high, fallen_low)
        if counts_fallen and (is_fallen_worse or not counts_risen):
            risen_high, risen_low = fallen_high, fallen_low
        high, low = plus(high, low, risen_high, risen_low)
    return high, low


@bare_kernel
def _in_flight(box: Box, s: int, side: int) -> tuple[int, int, int]:
    """Return what orders of one side may still change, at their limit or the last close (wide); and their number."""
    row = box.book[s]
    high, low, count = 0, 0, 0
    for i in range(row[k.COUNT]):
        order = box.orders[s, i]
        if order[k.ROLE] == k.TRADE and order[k.SIDE] == side:
            price = order[k.LIMIT] if order[k.IS_LIMIT] else row[k.MARK]
            worth_high, worth_low = notional(row, price, order[k.QTY] - order[k.FILLED])
            high, low = plus(high, low, worth_high, worth_low)
            count += 1
    return high, low, count


# --- orders and their ends


@bare_kernel
def send(box: Box, s: int, role: int, is_limit: bool, side: int, qty: int, price: int) -> int:
    """Add an order without a reservation; return its row. A guard stands at once."""
    row = box.book[s]
    i = row[k.COUNT]
    if i >= box.orders.shape[1]:
        box.run[k.IS_FULL] = 1
        i -= 1
    else:
        row[k.COUNT] = i + 1
    box.run[k.SENT] += 1
    order = box.orders[s, i]
    order[:] = 0
    order[k.SEQ] = box.run[k.SENT]
    order[k.ROLE] = role
    order[k.IS_LIMIT] = 1 if is_limit else 0
    order[k.SIDE] = side
    order[k.QTY] = qty
    order[k.LIMIT] = price
    if role == k.TRADE:
        # With the cancel of the one whose place it takes, if there is one.
        order[k.DUE] = row[k.CANCELS_DUE] if row[k.CANCELS_DUE] > 0 else row[k.END] + box.run[k.LATENCY]
    elif is_limit:
        order[k.RESTS] = 1
    else:
        order[k.ARMED] = 1
    return i


@bare_kernel
def end_order(box: Box, order: Ints) -> None:
    """Take an order off the market; the gate hears of it later."""
    box.run[k.ENDS] += 1
    order[k.ENDED] = box.run[k.ENDS]
    order[k.RESTS] = order[k.ARMED] = 0


@bare_kernel
def _cancel(box: Box, s: int, order: Ints) -> None:
    if order[k.CANCELS] > 0:
        return
    order[k.CANCELS] = 1
    if order[k.ENDED] > 0:
        return
    if order[k.ROLE] == k.TRADE and box.run[k.LATENCY] > 0 and not box.run[k.IS_WALKING]:
        order[k.CANCELS] = 2
        box.book[s, k.CANCELS_DUE] = box.book[s, k.END] + box.run[k.LATENCY]
    else:
        end_order(box, order)


@bare_kernel
def settle(box: Box, s: int, i: int) -> None:
    """Let the gate hear that the order of row `i` ended: go on with the wish that it was cancelled for."""
    row = box.book[s]
    was_asked = box.orders[s, i, k.CANCELS] > 0
    for j in range(i, row[k.COUNT] - 1):
        for slot in range(k.ORDER):
            box.orders[s, j, slot] = box.orders[s, j + 1, slot]
    row[k.COUNT] -= 1
    if was_asked and row[k.HAS_WISH]:
        pursue(box, s)


@bare_kernel
def hear_ends(box: Box, s: int) -> None:
    """Let the gate hear of all that ended, first ended first, and of what comes of that."""
    while True:
        found, first = -1, 0
        for i in range(box.book[s, k.COUNT]):
            ended = box.orders[s, i, k.ENDED]
            if ended > 0 and (found < 0 or ended < first):
                found, first = i, ended
        if found < 0:
            return
        settle(box, s, found)


# --- from a wish to an order


@bare_kernel
def pursue(box: Box, s: int) -> None:
    """Bring what is wished one step nearer: an order, a cancel that makes room for one, or nothing."""
    row, orders = box.book[s], box.orders[s]
    row[k.IS_SETTLED] = 0
    held = nearest_lots(row)
    target = row[k.W_TARGET]
    count = row[k.COUNT]
    trades, in_flight, is_amount, is_elsewhere = 0, 0, False, False
    for i in range(count):
        order = orders[i]
        if order[k.ROLE] == k.TRADE:
            trades += 1
            in_flight += order[k.SIDE] * (order[k.QTY] - order[k.FILLED])
            if order[k.ORDER_AMOUNT] > 0 or order[k.ORDER_AMOUNT + 1] > 0:
                is_amount = True
            if order[k.IS_LIMIT] and order[k.LIMIT] != row[k.W_LIMIT]:
                is_elsewhere = True
    wanted = target - held
    if is_amount:
        is_in_the_way = target == 0  # it buys until its amount is spent
    else:
        is_in_the_way = is_elsewhere or (
            in_flight != 0 and (_sign(in_flight) != _sign(wanted) or abs(in_flight) > abs(wanted))
        )
    if is_in_the_way:
        for i in range(count):
            if orders[i, k.ROLE] == k.TRADE:
                _cancel(box, s, orders[i])
        return
    missing = wanted - in_flight
    has_amount = row[k.W_AMOUNT] > 0 or row[k.W_AMOUNT + 1] > 0
    is_spent = is_amount or (has_amount and row[k.SPENT_NUMBER] == row[k.W_NUMBER])
    if abs(missing) * REBALANCE_SHARE <= abs(target) or is_spent:
        missing = 0
    is_against = _sign(missing) * _sign(held) < 0
    closing = min(abs(missing), max(-_sign(missing) * (held + in_flight), 0)) if is_against else 0
    if row[k.TAKEN_NUMBER] == row[k.W_NUMBER] or (closing > 0 and row[k.W_LIMIT] > 0):
        missing = closing if missing > 0 else -closing
    if is_against and missing != 0 and count > trades:
        lots = closing if row[k.IS_PERP] else min(closing, _sellable_lots(box, s, True))
        is_too_few = lots <= 0 or lots < row[k.QTY_MIN]
        if abs(missing) > closing or not (is_too_few or _is_cheap(row, row[k.MARK], lots)):
            for i in range(count):  # the coins may be theirs, and they would go on selling
                if orders[i, k.ROLE] != k.TRADE:
                    _cancel(box, s, orders[i])
            return
        # Dust is not sold, so they stay: at any price, if its number is too small.
        row[k.IS_SETTLED] = 1 if is_too_few else 0
        guard(box, s)
        return
    if missing < 0 and not row[k.IS_PERP]:
        missing = -min(-missing, max(_sellable_lots(box, s, False), 0))
    row[k.IS_SETTLED] = 1 if missing == 0 else 0
    if missing != 0:
        is_entry = has_amount and trades == 0 and position_lots(row) == 0
        missing = target if is_entry else missing
        _decide(box, s, missing, min(closing, abs(missing)), is_entry)
    guard(box, s)


@bare_kernel
def _sign(number: int) -> int:
    return 1 if number > 0 else -1 if number < 0 else 0


@bare_kernel
def _sellable_lots(box: Box, s: int, are_guards_gone: bool) -> int:
    """Return the whole lots held and not being sold; below 0 if more is. A stop that waits locks no coins."""
    lots = box.book[s, k.HELD]
    for i in range(box.book[s, k.COUNT]):
        order = box.orders[s, i]
        is_guard = order[k.ROLE] != k.TRADE
        if order[k.SIDE] < 0 and order[k.ROLE] != k.STOP and not (are_guards_gone and is_guard):
            lots -= order[k.QTY] - order[k.FILLED]
    return lots


@bare_kernel
def _decide(box: Box, s: int, missing: int, closing: int, is_amount: bool) -> None:
    """Send what is missing if the rules agree; else, of a turn-round, what closes."""
    row = box.book[s]
    is_refused = False
    while True:
        side, qty = _sign(missing), abs(missing)
        increase = qty - closing
        is_limit = not is_amount and row[k.W_LIMIT] > 0 and increase > 0
        price = row[k.W_LIMIT] if is_limit else row[k.MARK]
        if increase == 0 and (qty < row[k.QTY_MIN] or _is_cheap(row, price, qty)):
            # Too little to be sold, so this counts as flat: at any price, if its number is too small.
            row[k.IS_SETTLED] = 1 if qty < row[k.QTY_MIN] and not is_refused else 0
            return
        worst = max(price, row[k.MARK]) if is_limit and side < 0 else price
        if is_amount:
            high, low = row[k.W_AMOUNT], row[k.W_AMOUNT + 1]
        elif row[k.IS_PERP]:
            high, low = notional(row, worst, increase)
        else:
            high, low = spent_atoms(row, worst, increase)
        reason = _refusal(box, s, qty, increase, closing, price, side, high, low)
        if reason < 0:
            row[k.REFUSED] = 0
            _send_trade(box, s, is_limit, is_amount, side, qty, price, high, low)
            return
        if row[k.REFUSED] != reason + 1 or row[k.REFUSED_TARGET] != row[k.W_TARGET]:
            row[k.REFUSED], row[k.REFUSED_TARGET] = reason + 1, row[k.W_TARGET]
            box.run[k.DENIED + reason] += 1
        if not 0 < closing < qty:
            return
        # What is held is not wanted any more, whatever forbids the rest.
        missing, is_amount, is_refused = closing if missing > 0 else -closing, False, True


@bare_kernel
def _is_cheap(row: Ints, price: int, lots: int) -> bool:
    high, low = notional(row, price, lots)
    return is_below(high, low, row[k.NOTIONAL_MIN], row[k.NOTIONAL_MIN + 1])


@bare_kernel
def _refusal(
    box: Box, s: int, qty: int, increase: int, closing: int, price: int, side: int, value_high: int, value_low: int
) -> int:
    """Return why an order is refused, or -1."""
    row = box.book[s]
    if qty < row[k.QTY_MIN]:
        return k.MIN_QTY
    if _is_cheap(row, price, qty):
        return k.MIN_NOTIONAL
    if side * (price - row[k.MARK]) * 10_000 // row[k.MARK] > 0:
        return k.PRICE_COLLAR
    if increase == 0:
        return -1
    equity_high, equity_low = equity_atoms(box)
    if equity_high < 0 or (equity_high == 0 and equity_low == 0):
        return k.MAX_POSITION
    if not row[k.IS_PERP]:
        free_high, free_low = _free_cash(box)
        return k.INSUFFICIENT_FUNDS if is_below(free_high, free_low, value_high, value_low) else -1
    closes_high, closes_low = notional(row, price, closing)
    high, low = plus(value_high, value_low, closes_high, closes_low)
    high, low = _perps_exposure(box, s, side, high, low)
    equity_high, equity_low = times(equity_high, equity_low, box.run[k.LEVERAGE])
    return k.INSUFFICIENT_FUNDS if is_below(equity_high, equity_low, high, low) else -1


@bare_kernel
def _send_trade(
    box: Box,
    s: int,
    is_limit: bool,
    is_amount: bool,
    side: int,
    qty: int,
    price: int,
    value_high: int,
    value_low: int,
) -> None:
    row = box.book[s]
    i = send(box, s, k.TRADE, is_limit, side, qty * AMOUNT_LOTS if is_amount else qty, price if is_limit else 0)
    order = box.orders[s, i]
    order[k.RESERVED], order[k.RESERVED + 1] = value_high, value_low
    if is_amount:
        row[k.SPENT_NUMBER] = row[k.W_NUMBER]
        order[k.ORDER_AMOUNT], order[k.ORDER_AMOUNT + 1] = value_high, value_low


# --- guards


@bare_kernel
def guard(box: Box, s: int) -> None:
    """Bring the guards of what is held one step nearer to the wish."""
    row = box.book[s]
    if not row[k.HAS_WISH]:
        return
    count = row[k.COUNT]
    if count == 0 and row[k.W_STOP] == 0 and row[k.W_PROFIT] == 0:
        return
    is_long = row[k.HELD] > 0 or row[k.DUST] > 0
    side = -1 if is_long else 1
    lots = 0
    if position_lots(row) != 0:
        lots = abs(row[k.HELD])
        for i in range(count):
            order = box.orders[s, i]
            if order[k.ROLE] == k.TRADE and order[k.SIDE] == side:
                lots -= order[k.QTY] - order[k.FILLED]
    is_wanted = lots > 0 and row[k.W_TARGET] * -side > 0
    _guard_one(box, s, count, k.STOP, row[k.W_STOP], side, lots, is_wanted)
    _guard_one(box, s, count, k.PROFIT, row[k.W_PROFIT], side, lots, is_wanted)


@bare_kernel
def _guard_one(box: Box, s: int, count: int, role: int, price: int, side: int, lots: int, is_wanted: bool) -> None:
    stands = False
    for i in range(count):
        order = box.orders[s, i]
        leaves = order[k.QTY] - order[k.FILLED]
        if order[k.ROLE] == role and leaves > 0:
            stands = True
            if not is_wanted or leaves != lots or order[k.LIMIT] != price:
                _cancel(box, s, order)
    if is_wanted and price > 0 and not stands:
        row = box.book[s]
        if lots >= row[k.QTY_MIN] and not _is_cheap(row, price, lots):
            send(box, s, role, role == k.PROFIT, side, lots, price)


# --- the seat of the strategy


@bare_kernel
def say_wish(box: Box, s: int) -> None:
    """Hand the wish to the gate, which follows it."""
    row, state = box.book[s], box.book[s, k.STATE :]
    if row[k.HAS_WISH] and row[k.W_TARGET] != state[tactics.LOTS]:
        row[k.REFUSED] = 0
    row[k.HAS_WISH] = 1
    row[k.W_TARGET] = state[tactics.LOTS]
    row[k.W_NUMBER] = row[k.NUMBER]
    row[k.W_AMOUNT], row[k.W_AMOUNT + 1] = row[k.AMOUNT], row[k.AMOUNT + 1]
    row[k.W_LIMIT] = state[tactics.LIMIT]
    row[k.W_STOP] = state[tactics.STOP]
    row[k.W_PROFIT] = state[tactics.TARGET]
    pursue(box, s)


@bare_kernel
def is_wish_new(box: Box, s: int) -> bool:
    """Return whether the tactics want something else than the gate knows."""
    row, state = box.book[s], box.book[s, k.STATE :]
    if state[tactics.SIDE] == 0:
        row[k.AMOUNT] = row[k.AMOUNT + 1] = 0
    return (
        row[k.W_TARGET] != state[tactics.LOTS]
        or row[k.W_NUMBER] != row[k.NUMBER]
        or row[k.W_AMOUNT] != row[k.AMOUNT]
        or row[k.W_AMOUNT + 1] != row[k.AMOUNT + 1]
        or row[k.W_LIMIT] != state[tactics.LIMIT]
        or row[k.W_STOP] != state[tactics.STOP]
        or row[k.W_PROFIT] != state[tactics.TARGET]
    )


@bare_kernel
def set_size(box: Box, s: int, size: int, close: int) -> None:
    """Set the position wanted, in lots, for the side that the tactics have chosen."""
    row, state = box.book[s], box.book[s, k.STATE :]
    limit = state[tactics.LIMIT]
    price = limit if limit > 0 else close
    unit_high, unit_low = notional(row, price, 1)
    row[k.NUMBER] += 1
    row[k.AMOUNT] = row[k.AMOUNT + 1] = 0
    sizing = box.run[tactics.SIZING]
    if sizing == tactics.SIZE_LOTS:
        lots = max(size, 0)
    elif sizing == tactics.SIZE_QUOTE:
        high, low = product(max(size, 0), QUOTE_ATOMS)
        lots = quotient(high, low, unit_high, unit_low)
    else:
        high, low = _share_of_equity(box, size)
        if state[tactics.SIDE] > 0 and state[tactics.HELD] == 0 and not row[k.IS_PERP] and limit == 0:
            # Coins too few to be sold count in equity, and cannot be spent.
            amount_high, amount_low = _wallet(box)
            if is_below(high, low, amount_high, amount_low):
                amount_high, amount_low = high, low
            if amount_high < 0:
                amount_high, amount_low = 0, 0
            row[k.AMOUNT], row[k.AMOUNT + 1] = amount_high, amount_low
            if amount_high > 0 or amount_low > 0:
                high, low = amount_high, amount_low
        unit_high, unit_low = times(unit_high, unit_low, MILLION + row[k.QUOTE_FEE])
        high, low = times(high, low, MILLION)
        lots = quotient(high, low, unit_high, unit_low)
    state[tactics.LOTS] = state[tactics.SIDE] * lots


@bare_kernel
def _share_of_equity(box: Box, size: int) -> Wide:
    high, low = equity_atoms(box)
    if high < 0 or size <= 0:
        return 0, 0
    high, low = times(high, low, size)
    return over(high, low, MILLION)


@bare_kernel
def hear_fill(box: Box, s: int, price: int) -> bool:
    """Let the tactics take a fill, and want what came of an amount; return whether the wish is new."""
    row, state = box.book[s], box.book[s, k.STATE :]
    held = position_lots(row)
    tactics.book_fill(state, box.run, price, held)
    if (row[k.AMOUNT] > 0 or row[k.AMOUNT + 1] > 0) and held * state[tactics.SIDE] > 0:
        state[tactics.LOTS] = held
    return is_wish_new(box, s)


@bare_kernel
def shrink_reservation(order: Ints, spent_high: int, spent_low: int) -> None:
    """Count a fill that is in `FILLED` already: what it spent is no longer reserved."""
    high, low = minus(order[k.RESERVED], order[k.RESERVED + 1], spent_high, spent_low)
    if order[k.QTY] == order[k.FILLED] or high < 0:
        high, low = 0, 0
    order[k.RESERVED], order[k.RESERVED + 1] = high, low
