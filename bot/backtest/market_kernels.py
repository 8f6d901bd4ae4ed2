"""The candle market as kernels: opens, paths, triggers and fills of the compiled backtest.

The same events in the same order as `bot/core/candle_exchange.py`, after `docs/candle-model.md`. After each event the
gate and the strategy's seat are heard to the end, as the exact engine's queue would.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Final

from bot.backtest import slots as k
from bot.backtest.gate_kernels import (
    MILLION,
    end_order,
    guard,
    hear_ends,
    hear_fill,
    is_wish_new,
    notional,
    position_lots,
    say_wish,
    set_size,
    settle,
    shrink_reservation,
    spent_atoms,
    value_at,
)
from bot.backtest.slots import Box, Ints
from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.core.wide import (
    LOW,
    Wide,
    is_below,
    minus,
    negative,
    over_up,
    part_of,
    plus,
    product,
    quotient,
    share_up,
    times,
)

PPM: Final = 1e6
THOUSAND: Final = 1_000
LEGS: Final = 3


# --- one bar of one symbol: A, B and C


@bare_kernel
def open_bar(box: Box, s: int, begin: int, price: int, volume: int, step: int) -> None:
    """Step A after funding: liquidation, and what waits for the open. `begin` is the start of the bar."""
    row = box.book[s]
    row[k.PRICE] = price
    row[k.VOLUME], row[k.VOLUME_LEFT] = volume, -1
    if box.run[k.VOLUME_SHARE] > 0:
        high, low = product(volume, box.run[k.VOLUME_SHARE])
        row[k.VOLUME_LEFT] = quotient(high, low, 0, MILLION)
    if row[k.IS_PERP]:
        ruin = ruin_ticks(box, s)
        if ruin >= 0 and (price <= ruin if row[k.HELD] > 0 else price >= ruin):
            _liquidate(box, s, price, step)
    _arrive(box, s, begin, price, price, True, step)


@bare_kernel
def walk_bar(box: Box, s: int, begin: int, opened: int, highest: int, lowest: int, closed: int, step: int) -> None:
    """Step B: the price goes from the open by way of both extremes to the close."""
    length = box.run[k.TIMEFRAME]
    start = opened
    is_hurt_by_rises = _is_hurt_by_rises(box, s)
    for leg in range(LEGS):
        extreme = highest if (leg == 0) == is_hurt_by_rises else lowest
        end = closed if leg == LEGS - 1 else extreme
        is_down = end <= start
        while True:
            due = _next_due(box, s)
            gone = LEGS * (due - begin) - leg * length
            if due == 0 or gone >= length:
                break
            # The last whole tick before the price of that moment, and the first one after it.
            high, low = product(abs(end - start), gone)
            passed = quotient(high, low, 0, length)
            back_high, back_low = product(passed, length)
            is_between = back_high != high or back_low != low
            near = start - passed if is_down else start + passed
            far = near
            if is_between:
                far = near - 1 if is_down else near + 1
            _pull(box, s, near, is_down, step)
            _arrive(box, s, due, max(near, far), min(near, far), False, step)
        _pull(box, s, end, is_down, step)
        start = end


@bare_kernel
def close_bar(
    box: Box,
    s: int,
    flags: int,
    size: int,
    stop_by: int,
    target_by: int,
    trail_by: int,
    high: int,
    low: int,
    close: int,
) -> None:
    """Step C, of a symbol that is marked already: its strategy hears its own bar, and decides."""
    row, state = box.book[s], box.book[s, k.STATE :]
    if tactics.close_bar(state, box.run, flags, stop_by, target_by, trail_by, high, low, close):
        set_size(box, s, size, close)
    if is_wish_new(box, s) or not row[k.HAS_WISH] or not row[k.IS_SETTLED]:
        say_wish(box, s)
        hear_ends(box, s)


@bare_kernel
def settle_funding(box: Box, s: int, due_ns: Ints, rates: Ints, now: int, price: int) -> None:
    """Step A.1: pay for each time of funding that has come, on what is held, at the open."""
    row = box.book[s]
    first = row[k.FUNDING_FIRST]
    while row[k.FUNDED] < row[k.FUNDING_COUNT] and due_ns[first + row[k.FUNDED]] <= now:
        rate = int(rates[first + row[k.FUNDED]])
        row[k.FUNDED] += 1
        if row[k.HELD] == 0:
            continue
        high, low = notional(row, price, abs(row[k.HELD]))
        high, low = times(high, low, max(rate, -rate))
        if (rate < 0) != (row[k.HELD] < 0):
            high, low = negative(high, low)
        # A billion in two steps, rounded up in both: that is rounded up once.
        high, low = over_up(high, low, MILLION)
        high, low = over_up(high, low, THOUSAND)
        _pay(box, k.FLOW, -1, high, low)
        _pay(box, k.FUNDING, 1, high, low)


@bare_kernel
def _pay(box: Box, slot: int, sign: int, high: int, low: int) -> None:
    account = box.run
    if sign < 0:
        account[slot], account[slot + 1] = minus(account[slot], account[slot + 1], high, low)
    else:
        account[slot], account[slot + 1] = plus(account[slot], account[slot + 1], high, low)


@bare_kernel
def _is_hurt_by_rises(box: Box, s: int) -> bool:
    held = position_lots(box.book[s])
    if held != 0:
        return held < 0
    count = box.book[s, k.COUNT]
    for i in range(count):
        if box.orders[s, i, k.SIDE] < 0:
            return False
    return count > 0


@bare_kernel
def _next_due(box: Box, s: int) -> int:
    """Return when the next order or cancel arrives, 0 for none."""
    due = box.book[s, k.CANCELS_DUE]
    for i in range(box.book[s, k.COUNT]):
        own = box.orders[s, i, k.DUE]
        if own > 0 and (due == 0 or own < due):
            due = own
    return due


# --- arrivals, and what waits for an open


@bare_kernel
def _arrive(box: Box, s: int, until: int, buy_price: int, sell_price: int, is_open: bool, step: int) -> None:
    """Let in what is due, cancels first; at an open, let what waits there go on as well."""
    row = box.book[s]
    if 0 < row[k.CANCELS_DUE] <= until:
        for i in range(row[k.COUNT]):
            order = box.orders[s, i]
            if order[k.CANCELS] == 2 and order[k.ENDED] == 0:
                end_order(box, order)
        hear_ends(box, s)
        row[k.CANCELS_DUE] = 0
    if row[k.COUNT] == 0:
        return
    newest = box.run[k.SENT]
    if is_open:
        _open_guards(box, s, k.STOP, buy_price, newest, step)
        _open_guards(box, s, k.PROFIT, buy_price, newest, step)
    newest = box.run[k.SENT]
    last = 0
    while True:
        i = _next_row(box, s, last, newest, k.TRADE)
        if i < 0:
            return
        order = box.orders[s, i]
        last = order[k.SEQ]
        if order[k.DUE] > until:
            continue
        is_new = order[k.DUE] > 0
        if is_new or is_open:
            order[k.DUE] = 0
            _meet(box, s, i, buy_price if order[k.SIDE] > 0 else sell_price, is_new, step)


@bare_kernel
def _next_row(box: Box, s: int, last: int, newest: int, role: int) -> int:
    """Return the row of the oldest order of a role that was sent after `last`, and not after `newest`; or -1."""
    for i in range(box.book[s, k.COUNT]):
        order = box.orders[s, i]
        if order[k.ROLE] == role and last < order[k.SEQ] <= newest and order[k.ENDED] == 0:
            return i
    return -1


@bare_kernel
def _open_guards(box: Box, s: int, role: int, price: int, newest: int, step: int) -> None:
    last = 0
    while True:
        i = _next_row(box, s, last, newest, role)
        if i < 0:
            return
        order = box.orders[s, i]
        last = order[k.SEQ]
        if role == k.PROFIT:
            _meet(box, s, i, price, False, step)
        elif not order[k.ARMED] or order[k.SIDE] * (price - order[k.LIMIT]) >= 0:
            order[k.ARMED] = 0
            _fill(box, s, i, price, False, True, step)


@bare_kernel
def _meet(box: Box, s: int, i: int, price: int, is_new: bool, step: int) -> None:
    """Let a market order fill, a limit order fill or rest, at a price that the market has now."""
    order = box.orders[s, i]
    if not order[k.IS_LIMIT]:
        _fill(box, s, i, price, False, True, step)
        return
    better = order[k.SIDE] * (order[k.LIMIT] - price)
    if not is_new:
        if better > 0:
            _fill(box, s, i, order[k.LIMIT], True, False, step)
        return
    order[k.RESTS] = 1
    if better >= 0:
        _fill(box, s, i, price, False, False, step)


# --- triggers


@bare_kernel
def _pull(box: Box, s: int, end: int, is_down: bool, step: int) -> None:
    """Take the price to `end`, by way of every trigger."""
    row = box.book[s]
    way = -1 if is_down else 1
    while True:
        best, rank, found = -1, 0, -1
        if row[k.IS_PERP] and row[k.HELD] != 0 and (row[k.HELD] > 0) == is_down:
            ruin = ruin_ticks(box, s)
            if ruin >= 0 and way * (end - ruin) >= 0:
                best = max(way * (ruin - row[k.PRICE]), 0)
        for i in range(row[k.COUNT]):
            order = box.orders[s, i]
            is_buy = order[k.SIDE] > 0
            beyond = way * (end - order[k.LIMIT])
            own_rank = 0
            if order[k.ARMED] and is_buy != is_down and beyond >= 0:
                own_rank = 1
            elif order[k.RESTS] and is_buy == is_down and row[k.VOLUME_LEFT] != 0 and beyond > 0:
                own_rank = 2
            if own_rank > 0:
                distance = max(way * (order[k.LIMIT] - row[k.PRICE]), 0)  # what lies behind us fires here
                if best < 0 or distance < best or (distance == best and own_rank < rank):
                    best, rank, found = distance, own_rank, i
        if best < 0:
            break
        row[k.PRICE] += way * best
        if found < 0:
            _liquidate(box, s, row[k.PRICE], step)
        elif rank == 2:
            _fill(box, s, found, box.orders[s, found, k.LIMIT], True, False, step)
        else:
            box.orders[s, found, k.ARMED] = 0
            _fill(box, s, found, row[k.PRICE], False, True, step)
    row[k.PRICE] = end


# --- liquidation


@bare_kernel
def ruin_ticks(box: Box, s: int) -> int:
    """Return the price at which equity is no more than the maintenance margin; -1 where no price does that."""
    row = box.book[s]
    held = row[k.HELD]
    if held == 0 or not row[k.IS_PERP]:
        return -1
    high, low = box.run[k.FLOW], box.run[k.FLOW + 1]
    margin_high, margin_low = 0, 0
    for other in range(len(box.book)):
        theirs = box.book[other]
        if other == s or (theirs[k.HELD] == 0 and theirs[k.DUST] == 0):
            continue
        value_high, value_low = value_at(theirs, theirs[k.PRICE])
        high, low = plus(high, low, value_high, value_low)
        if theirs[k.IS_PERP]:
            value_high, value_low = notional(theirs, theirs[k.PRICE], abs(theirs[k.HELD]))
            margin_high, margin_low = plus(margin_high, margin_low, value_high, value_low)
    maintenance = box.run[k.MAINTENANCE_PPM]
    high, low = times(high, low, MILLION)
    margin_high, margin_low = times(margin_high, margin_low, maintenance)
    high, low = minus(high, low, margin_high, margin_low)
    tick_high, tick_low = product(abs(held), row[k.UNIT])
    if held > 0:
        high, low = negative(high, low)
        tick_high, tick_low = times(tick_high, tick_low, MILLION - maintenance)
        ruin = quotient(high, low, tick_high, tick_low)
        return ruin if ruin >= 1 else -1
    tick_high, tick_low = times(tick_high, tick_low, MILLION + maintenance)
    ruin = quotient(high, low, tick_high, tick_low)
    if ruin == LOW:
        return ruin
    back_high, back_low = times(tick_high, tick_low, ruin)
    if is_below(back_high, back_low, high, low):
        ruin += 1
    return max(1, ruin)


@bare_kernel
def _liquidate(box: Box, s: int, price: int, step: int) -> None:
    """Close the position, cancel the symbol's orders, and let everybody know."""
    row = box.book[s]
    lots = -row[k.HELD]
    high, low = notional(row, price, abs(lots))
    fee_high, fee_low = share_up(high, low, box.run[k.LIQUIDATION_PPM])
    _book_perp(row, 1 if lots > 0 else -1, abs(lots), high, low)
    _pay(box, k.FLOW, -1 if lots > 0 else 1, high, low)
    _pay(box, k.FLOW, -1, fee_high, fee_low)
    row[k.HELD] = row[k.IS_SETTLED] = 0
    _record(box, s, price, lots, k.LIQUIDATION, False, fee_high, fee_low, False, step)
    for i in range(row[k.COUNT]):
        if box.orders[s, i, k.ENDED] == 0:
            end_order(box, box.orders[s, i])
    if row[k.HAS_WISH]:
        row[k.TAKEN_NUMBER] = row[k.W_NUMBER]
    tactics.book_fill(box.book[s, k.STATE :], box.run, price, 0)
    is_new = is_wish_new(box, s)
    newest = box.run[k.ENDS]
    _hear_ends_until(box, s, newest)
    if is_new:
        say_wish(box, s)
    hear_ends(box, s)


@bare_kernel
def _hear_ends_until(box: Box, s: int, newest: int) -> None:
    """Let the gate hear of the ends up to `newest`; of what it ends meanwhile, later."""
    while True:
        found, first = -1, newest + 1
        for i in range(box.book[s, k.COUNT]):
            ended = box.orders[s, i, k.ENDED]
            if 0 < ended < first:
                found, first = i, ended
        if found < 0:
            return
        settle(box, s, found)


# --- fills


@bare_kernel
def _fill(box: Box, s: int, i: int, price: int, is_maker: bool, slips: bool, step: int) -> None:
    """Fill what volume, money and coins allow; end the order if it is done or cannot go on."""
    row, order = box.book[s], box.orders[s, i]
    offered = order[k.QTY] - order[k.FILLED]
    if row[k.VOLUME_LEFT] >= 0:
        offered = min(offered, row[k.VOLUME_LEFT])
    if offered == 0:
        return
    if slips:
        price = _slipped(box, s, order, price, offered)
    lots = min(offered, _allowed_lots(box, s, order, price, is_maker))
    role = order[k.ROLE]
    if lots > 0:
        _book(box, s, order, price, lots, is_maker, step)
    is_spent = (order[k.ORDER_AMOUNT] > 0 or order[k.ORDER_AMOUNT + 1] > 0) and _amount_lots(box, s, order, price) == 0
    is_over = order[k.QTY] == order[k.FILLED] or (is_spent and order[k.FILLED] > 0)
    if not is_over and lots < offered:
        is_over = True
        box.run[k.DENIED + (k.NO_FUNDS if order[k.SIDE] > 0 else k.NOTHING_HELD)] += 1
    seq = order[k.SEQ]
    row[k.IS_SETTLED] = 0
    if is_over:
        end_order(box, order)
    is_new = False
    if lots > 0:
        if role != k.TRADE and row[k.HAS_WISH]:
            row[k.TAKEN_NUMBER] = row[k.W_NUMBER]
        guard(box, s)
        is_new = hear_fill(box, s, price)
    if is_over:
        settle(box, s, _row_of(box, s, seq))
    if is_new:
        say_wish(box, s)
    hear_ends(box, s)


@bare_kernel
def _row_of(box: Box, s: int, seq: int) -> int:
    i = 0
    while box.orders[s, i, k.SEQ] != seq:
        i += 1
    return i


@bare_kernel
def _slipped(box: Box, s: int, order: Ints, price: int, lots: int) -> int:
    kind = box.run[k.SLIPPAGE]
    if kind == k.SLIPS_NOT:
        return price
    ppm = box.run[k.SLIPPAGE_PPM]
    if kind == k.SLIPS_FIXED:
        ticks = -(-price * ppm // MILLION)
    elif kind == k.SLIPS_SPREAD:
        ticks = box.run[k.HALF_SPREAD]
    else:
        if order[k.ORDER_AMOUNT] > 0 or order[k.ORDER_AMOUNT + 1] > 0:
            lots = min(lots, _amount_lots(box, s, order, price))
        volume = box.book[s, k.VOLUME]
        ratio = lots / volume if volume > 0 else 1.0
        ticks = ceil(price * ppm * sqrt(ratio) / PPM)
    return max(1, price + order[k.SIDE] * ticks)


@bare_kernel
def _allowed_lots(box: Box, s: int, order: Ints, price: int, is_maker: bool) -> int:
    """Return the lots that what we have allows, at least 0."""
    row = box.book[s]
    is_buy = order[k.SIDE] > 0
    is_guard = order[k.ROLE] != k.TRADE
    if row[k.IS_PERP]:
        if not is_guard:
            return order[k.QTY]
        return max(0, -row[k.HELD] if is_buy else row[k.HELD])
    if not is_buy:
        return max(0, row[k.HELD])
    if is_guard:
        return 0
    high, low = _free_atoms(box, order[k.SEQ])
    fee = box.run[k.MAKER_PPM] if is_maker else box.run[k.TAKER_PPM]
    lots = _lots_for(row, price, high, low, fee)
    if order[k.ORDER_AMOUNT] > 0 or order[k.ORDER_AMOUNT + 1] > 0:
        lots = min(lots, _amount_lots(box, s, order, price))
    return lots


@bare_kernel
def _amount_lots(box: Box, s: int, order: Ints, price: int) -> int:
    """Return the lots that the rest of an amount buys."""
    high, low = minus(order[k.ORDER_AMOUNT], order[k.ORDER_AMOUNT + 1], order[k.SPENT], order[k.SPENT + 1])
    return _lots_for(box.book[s], price, high, low, box.run[k.TAKER_PPM])


@bare_kernel
def _lots_for(row: Ints, price: int, high: int, low: int, fee_ppm: int) -> int:
    if high < 0:
        return 0
    unit_high, unit_low = notional(row, price, 1)
    if row[k.FEE_IN_QUOTE]:
        high, low = times(high, low, MILLION)
        unit_high, unit_low = times(unit_high, unit_low, MILLION + fee_ppm)
    return quotient(high, low, unit_high, unit_low)


@bare_kernel
def _free_atoms(box: Box, seq: int) -> Wide:
    """Return the cash that no resting buy of a spot market but this may still need; perpetuals at their value."""
    high, low = box.run[k.FLOW], box.run[k.FLOW + 1]
    for s in range(len(box.book)):
        row = box.book[s]
        if row[k.IS_PERP]:
            value_high, value_low = value_at(row, row[k.PRICE])
            high, low = plus(high, low, value_high, value_low)
            continue
        for i in range(row[k.COUNT]):
            order = box.orders[s, i]
            if order[k.RESTS] and order[k.SIDE] > 0 and order[k.SEQ] != seq:
                needs_high, needs_low = spent_atoms(row, order[k.LIMIT], order[k.QTY] - order[k.FILLED])
                high, low = minus(high, low, needs_high, needs_low)
    return high, low


@bare_kernel
def _book(box: Box, s: int, order: Ints, price: int, lots: int, is_maker: bool, step: int) -> None:
    """Move money and coins, and write the fill down."""
    row, side = box.book[s], order[k.SIDE]
    ppm = box.run[k.MAKER_PPM] if is_maker else box.run[k.TAKER_PPM]
    high, low = notional(row, price, lots)
    spent_high, spent_low = high, low
    in_coins = side > 0 and row[k.FEE_IN_QUOTE] == 0
    if in_coins:
        fee_high, fee_low = pay_in_coins(row, lots, ppm)
    else:
        fee_high, fee_low = share_up(high, low, ppm)
        _pay(box, k.FLOW, -1, fee_high, fee_low)
        if row[k.FEE_IN_QUOTE]:
            spent_high, spent_low = plus(high, low, fee_high, fee_low)
    _pay(box, k.FLOW, -side, high, low)
    if row[k.IS_PERP]:
        _book_perp(row, side, lots, high, low)
    row[k.HELD] += side * lots
    order[k.FILLED] += lots
    order[k.SPENT], order[k.SPENT + 1] = plus(order[k.SPENT], order[k.SPENT + 1], spent_high, spent_low)
    if row[k.VOLUME_LEFT] >= 0:
        row[k.VOLUME_LEFT] -= lots
    shrink_reservation(order, spent_high, spent_low)
    _record(box, s, price, side * lots, order[k.ROLE], is_maker, fee_high, fee_low, in_coins, step)


@bare_kernel
def pay_in_coins(row: Ints, lots: int, ppm: int) -> Wide:
    """Take the fee of a buy out of what is received; return it in base atoms."""
    high, low = product(lots, row[k.PER_LOT])
    high, low = share_up(high, low, ppm)
    fee_lots = quotient(high, low, 0, row[k.PER_LOT])
    whole_high, whole_low = product(fee_lots, row[k.PER_LOT])
    _, dust = minus(high, low, whole_high, whole_low)
    row[k.HELD] -= fee_lots
    row[k.DUST] -= dust
    if row[k.DUST] < 0:
        row[k.DUST] += row[k.PER_LOT]
        row[k.HELD] -= 1
    return high, low


@bare_kernel
def _book_perp(row: Ints, side: int, lots: int, high: int, low: int) -> None:
    """Follow the notional that a position was opened at, before `HELD` changes: the wallet is flow + cost."""
    held = row[k.HELD]
    closed = min(lots, abs(held)) if side * held < 0 else 0
    if closed > 0:
        cost_high, cost_low = part_of(row[k.COST], row[k.COST + 1], closed, abs(held))
        row[k.COST], row[k.COST + 1] = minus(row[k.COST], row[k.COST + 1], cost_high, cost_low)
        closed_high, closed_low = part_of(high, low, closed, lots)
        high, low = minus(high, low, closed_high, closed_low)
    if side > 0:
        row[k.COST], row[k.COST + 1] = plus(row[k.COST], row[k.COST + 1], high, low)
    else:
        row[k.COST], row[k.COST + 1] = minus(row[k.COST], row[k.COST + 1], high, low)


@bare_kernel
def _record(
    box: Box, s: int, price: int, lots: int, role: int, is_maker: bool, high: int, low: int, in_coins: bool, step: int
) -> None:
    """Write a fill down, with its fee in atoms."""
    at = box.run[k.FILLS]
    box.run[k.FILLS] += 1
    if at >= len(box.fills):
        box.run[k.IS_FULL] = 1
        return
    fill = box.fills[at]
    fill[k.F_STEP], fill[k.F_SYMBOL] = step, s
    fill[k.F_PRICE], fill[k.F_LOTS] = price, lots
    fill[k.F_ROLE], fill[k.F_IS_MAKER] = role, 1 if is_maker else 0
    fill[k.F_FEE], fill[k.F_FEE + 1] = high, low
    fill[k.F_IS_IN_COINS] = 1 if in_coins else 0
