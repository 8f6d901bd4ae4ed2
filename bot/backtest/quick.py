"""The common backtest in short: one spot symbol that is bought and sold whole, at the market and without guards.

Of such a run the rules of `market_kernels` and `gate_kernels` leave little: an order decided at a close fills at the
next open, and then nothing is under way. So whole round trips are played on a few numbers. What could end in another
way (a refusal, a part of an order, a resize, a short) is left to those kernels, before any of it has happened.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bot.backtest import slots as k
from bot.backtest.gate_kernels import AMOUNT_LOTS, MILLION, QUOTE_ATOMS, notional, spent_atoms
from bot.backtest.slots import Bars, Box, Columns, Floats, Ints
from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.core.wide import as_float, is_below, minus, over, plus, product, quotient, share_up, times
from bot.strategies.advice import Flags

ATOMS: Final = 1e16
BLOCK: Final = 16
"""Bars that are searched together: round trips are short."""
ROOM: Final = 32
"""Fills that the last step of a stretch may need."""
LESS: Final = 1.0 - 1e-9
"""Makes up for the rounding of a few floats."""
LOTS_MAX: Final = 10**17
"""More are left to the rules, which multiply lots by up to 50."""
ENTRIES: Final = tactics.ENTER_LONG | tactics.ENTER_SHORT
WHILE_LONG: Final = tactics.EXIT_LONG | tactics.ENTER_SHORT | tactics.RESIZE


def is_common(run: Ints, book: Ints, columns: Columns) -> bool:
    """Return whether a run has such stretches, by all that stays the same in it."""
    charges = (k.LATENCY, k.VOLUME_SHARE, k.IS_OWN_LONGER)
    terms = (tactics.IS_LIMIT, tactics.BARS_MAX, tactics.COOL_DOWN, tactics.BREAK_EVEN)
    _, *distances = columns.numbers
    return (
        len(book) == 1
        and len(columns.step) == 0
        and not book[0, k.IS_PERP]
        and bool(book[0, k.FEE_IN_QUOTE])
        and not any(run[slot] for slot in (*charges, *terms))
        and bool(run[k.SLIPPAGE] in (k.SLIPS_NOT, k.SLIPS_FIXED))
        and all(len(column) == 1 and column[0] == 0 for column in distances)
    )


@bare_kernel
def is_at_rest(row: Ints) -> bool:
    """Return whether what is held is what is wanted, long or nothing, and no order works."""
    state, held = row[k.STATE :], row[k.HELD]
    return (
        row[k.IS_SETTLED] == 1
        and row[k.COUNT] == 0
        and row[k.CANCELS_DUE] == 0
        and row[k.DUST] == 0
        and state[tactics.SIDE] == (1 if held > 0 else 0)
        and state[tactics.LOTS] == held
        and state[tactics.HELD] == held
        and row[k.W_TARGET] == held
        and (held == 0 or row[k.QTY_MIN] <= held < LOTS_MAX)
    )


@bare_kernel
def play_trips(box: Box, columns: Columns, equity: Floats, exposure: Floats, first: int, done: int, last: int) -> int:
    """Play orders and their fills from a rest at step `done` on; return the step of the last fill, or -1.

    `equity` and `exposure` begin at step `first` and are filled before that step. The box is left as it is after the
    fill, at the close of its bar: what is advised there is not heard yet.
    """
    run, row, bars = box.run, box.book[0], columns.bars
    cash_high, cash_low = run[k.FLOW], run[k.FLOW + 1]
    amount_high, amount_low = row[k.W_AMOUNT], row[k.W_AMOUNT + 1]
    held, price, entered = row[k.HELD], 0, 0
    entries = fills = 0
    filled, unit = -1, float(row[k.UNIT]) / ATOMS
    bar, quiet = max(row[k.AT], done), done
    room = len(box.fills) - run[k.FILLS] - ROOM
    while fills < room:
        bar += _first_advice(columns.flags[bar:last], ENTRIES if held == 0 else WHILE_LONG)
        now = bar + 1
        if now >= last or bars.start_ns[now] < bars.start_ns[bar] + run[k.TIMEFRAME]:
            break
        flags, close, opened, side = columns.flags[bar], int(bars.close[bar]), int(bars.open[now]), 1
        if held == 0:
            size = columns.numbers.size[bar if len(columns.numbers.size) > 1 else 0]
            bought_high, bought_low, estimate = _wanted(run, row, size, close, cash_high, cash_low)
            price = _slipped(run, opened, 1)
            lots = _bought(run, row, bought_high, bought_low, estimate, close, price, cash_high, cash_low)
            if flags & WHILE_LONG != 0 or flags & tactics.ENTER_LONG == 0 or lots <= 0:
                break
            amount_high, amount_low = bought_high, bought_low
            entered = price
            entries += 1
        else:
            worth_high, worth_low = notional(row, close, held)
            is_cheap = is_below(worth_high, worth_low, row[k.NOTIONAL_MIN], row[k.NOTIONAL_MIN + 1])
            if flags & tactics.ENTER_SHORT != 0 or flags & tactics.EXIT_LONG == 0 or is_cheap:
                break
            price = _slipped(run, opened, -1)
            lots, side = held, -1
            amount_high, amount_low = 0, 0
        stretch = slice(quiet - first, now - first)
        cash = as_float(cash_high, cash_low) / ATOMS
        coins = float(held) * unit
        _fill_held(bars.close[quiet:now], cash, coins, equity[stretch], exposure[stretch])
        high, low = notional(row, price, lots)
        fee_high, fee_low = share_up(high, low, run[k.TAKER_PPM])
        cash_high, cash_low = minus(cash_high, cash_low, fee_high, fee_low)
        if side > 0:
            cash_high, cash_low = minus(cash_high, cash_low, high, low)
        else:
            cash_high, cash_low = plus(cash_high, cash_low, high, low)
        held += side * lots
        _write_down(box.fills[run[k.FILLS] + fills], now, price, side * lots, fee_high, fee_low)
        fills += 1
        filled = bar = quiet = now
    if fills > 0:
        run[k.FLOW], run[k.FLOW + 1] = cash_high, cash_low
        run[k.FILLS] += fills
        run[k.SENT] += fills
        run[k.ENDS] += fills
        row[k.NUMBER] += entries
        row[k.PRICE] = price
        _rest(row, bars, filled, held, entered, amount_high, amount_low)
        row[k.END] = row[k.START] + run[k.TIMEFRAME]
    return filled


@bare_kernel
def _first_advice(flags: Flags, mask: int) -> int:
    """Return the index of the first flags that share a bit with `mask`, or their number."""
    n, done = len(flags), 0
    bits = np.uint8(mask)
    while done + BLOCK <= n:
        block = flags[done : done + BLOCK]
        seen = np.uint8(0)
        for j in range(BLOCK):
            seen |= block[j] & bits
        if seen != 0:
            break
        done += BLOCK
    while done < n and flags[done] & bits == 0:
        done += 1
    return done


@bare_kernel
def _wanted(run: Ints, row: Ints, size: int, close: int, cash_high: int, cash_low: int) -> tuple[int, int, int]:
    """Return the amount of an entry, (0, 0) for none (wide), and its lots; 0 lots where the rules must look at it.

    Of an amount the lots are only an estimate, for bounds; it is never above the one of the gate.
    """
    unit_high, unit_low = product(close, row[k.UNIT])
    sizing = run[tactics.SIZING]
    if size <= 0 or cash_high < 0:
        return 0, 0, 0
    if sizing == tactics.SIZE_LOTS:
        return 0, 0, size
    if sizing == tactics.SIZE_QUOTE:
        high, low = product(size, QUOTE_ATOMS)
        return 0, 0, quotient(high, low, unit_high, unit_low)
    high, low = cash_high, cash_low  # of nothing held, equity
    if size < MILLION:
        high, low = times(high, low, size)
        high, low = over(high, low, MILLION)
    lots = as_float(high, low) / (as_float(unit_high, unit_low) * (1.0 + row[k.QUOTE_FEE] / MILLION))
    return high, low, int(min(lots * LESS, 2.0 * LOTS_MAX)) - 1


@bare_kernel
def _bought(
    run: Ints, row: Ints, high: int, low: int, wanted: int, close: int, price: int, cash_high: int, cash_low: int
) -> int:
    """Return the lots that an entry of an amount, or of lots, buys at a price; 0 where the rules must look at it."""
    if not row[k.QTY_MIN] <= wanted < LOTS_MAX:
        return 0
    worth_high, worth_low = notional(row, close, wanted)
    if is_below(worth_high, worth_low, row[k.NOTIONAL_MIN], row[k.NOTIONAL_MIN + 1]):
        return 0
    lot_high, lot_low = product(price, row[k.UNIT])
    lot_high, lot_low = times(lot_high, lot_low, MILLION + run[k.TAKER_PPM])
    if high > 0 or low > 0:
        # No more than all cash, so that cash has enough; and what is left of it is less than a lot.
        high, low = times(high, low, MILLION)
        lots = quotient(high, low, lot_high, lot_low)
        return lots if row[k.QTY_MIN] <= lots <= min(wanted * AMOUNT_LOTS, LOTS_MAX) else 0
    needs_high, needs_low = spent_atoms(row, close, wanted)
    if is_below(cash_high, cash_low, needs_high, needs_low):
        return 0
    cash_high, cash_low = times(cash_high, cash_low, MILLION)
    return wanted if quotient(cash_high, cash_low, lot_high, lot_low) >= wanted else 0


@bare_kernel
def _slipped(run: Ints, price: int, side: int) -> int:
    if run[k.SLIPPAGE] == k.SLIPS_NOT:
        return price
    return max(1, price + side * -(-price * run[k.SLIPPAGE_PPM] // MILLION))


@bare_kernel
def _write_down(fill: Ints, step: int, price: int, lots: int, fee_high: int, fee_low: int) -> None:
    """Write down the fill of a market order: it takes, and pays in quote currency."""
    fill[k.F_STEP], fill[k.F_SYMBOL] = step, 0
    fill[k.F_PRICE], fill[k.F_LOTS] = price, lots
    fill[k.F_ROLE], fill[k.F_IS_MAKER] = k.TRADE, 0
    fill[k.F_FEE], fill[k.F_FEE + 1] = fee_high, fee_low
    fill[k.F_IS_IN_COINS] = 0


@bare_kernel
def _rest(row: Ints, bars: Bars, bar: int, held: int, entered: int, amount_high: int, amount_low: int) -> None:
    """Leave gate and tactics as they are after a fill, at the close of its bar."""
    row[k.START], row[k.OPEN], row[k.CLOSE] = bars.start_ns[bar], bars.open[bar], bars.close[bar]
    row[k.HIGH], row[k.LOW] = bars.high[bar], bars.low[bar]
    row[k.AT], row[k.OWN_AT], row[k.MARK] = bar + 1, bar, bars.close[bar]
    row[k.HELD] = held
    row[k.VOLUME], row[k.VOLUME_LEFT] = 0, -1
    state = row[k.STATE :]
    state[:] = 0
    if held > 0:
        state[tactics.SIDE] = 1
        state[tactics.LOTS] = state[tactics.HELD] = held
        state[tactics.ENTRY] = state[tactics.BEST] = entered
    row[k.HAS_WISH], row[k.W_TARGET], row[k.W_NUMBER] = 1, held, row[k.NUMBER]
    row[k.W_LIMIT] = row[k.W_STOP] = row[k.W_PROFIT] = 0
    row[k.W_AMOUNT], row[k.W_AMOUNT + 1] = amount_high, amount_low
    row[k.AMOUNT], row[k.AMOUNT + 1] = amount_high, amount_low
    if amount_high > 0 or amount_low > 0:
        row[k.SPENT_NUMBER] = row[k.NUMBER]
    row[k.REFUSED] = row[k.IS_SETTLED] = 0


@bare_kernel
def _fill_held(close: Ints, cash: float, coins: float, equity: Floats, exposure: Floats) -> None:
    """Fill equity and exposure of bars in which nothing changes."""
    if coins == 0.0:
        equity[:] = cash
        exposure[:] = 0.0
        return
    for j in range(len(equity)):
        equity[j] = cash + coins * close[j]
    for j in range(len(exposure)):
        exposure[j] = coins * close[j]
