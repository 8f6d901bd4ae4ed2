"""The compiled backtest's loop: quiet stretches in one sweep, loud bars by the rules.

Most bars change nothing but the value of what is held. So each symbol knows what would make a bar loud: advice that
matters, a price that triggers an order, a count of bars that ends. Whole stretches are searched for that, and
filled with equity; a loud bar goes through `market_kernels`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from bot.backtest import slots as k
from bot.backtest.market_kernels import close_bar, open_bar, ruin_ticks, settle_funding, walk_bar
from bot.backtest.quick import is_at_rest, play_trips
from bot.backtest.slots import WINDOW, Bars, Box, Columns, Floats, Ints, OwnBars, Steps
from bot.backtest.summary import add_steps
from bot.core import tactics
from bot.core.jit import bare_kernel
from bot.core.wide import as_float
from bot.strategies.advice import Flags

BLOCK: Final = 128
"""Bars that are searched together."""
ATOMS: Final = 1e16
ROOM: Final = 8
"""Orders that one symbol may send in a step, and fills beside those of its orders."""
PPM: Final = 1e-6
CARE: Final = 1e-9
"""A step is looked at by the rules if its margin is within this of the end."""
BY_NUMBER: Final = tactics.ENTER_LONG | tactics.ENTER_SHORT | tactics.RESIZE
"""Advice that comes with a size, or with distances."""
ENTRIES: Final = tactics.ENTER_LONG | tactics.ENTER_SHORT


@bare_kernel
def play(
    box: Box,
    columns: Columns,
    sums: Floats,
    equity: Floats,
    exposure: Floats,
    funding: Floats,
    scratch: Floats,
    first: int,
    last: int,
) -> int:
    """Play the steps from `first` to before `last`, a window at a time; return the next step to play.

    That is before `last` where fills or orders need more room. `equity` has shape (last - first,); `exposure` and
    `funding` have it too, or (0,) where nobody asks for them. With `sums` of shape (summary.SUMS,), and not (0,),
    equity has shape (WINDOW,), is written over, and its sums are what remains. `scratch` has shape (2, WINDOW).
    """
    is_summed = len(sums) > 0
    done = first
    while done < last:
        end = min(done + WINDOW, last)
        window = slice(0, end - done) if is_summed else slice(done - first, end - first)
        reached = simulate(box, columns, equity[window], exposure[window], funding[window], scratch, done, end)
        if is_summed:
            add_steps(sums, equity[: reached - done])
        if reached < end:
            return reached
        done = end
    return done


@bare_kernel
def simulate(
    box: Box,
    columns: Columns,
    equity: Floats,
    exposure: Floats,
    funding: Floats,
    scratch: Floats,
    first: int,
    last: int,
) -> int:
    """Play one window; as `play`."""
    bars, step = columns.bars, columns.step
    has_danger = box.run[k.HAS_PERPS] == 1 and len(box.book) > 1
    done = unplayed = first
    while True:
        if box.run[k.IS_COMMON] and is_at_rest(box.book[0]):
            filled = play_trips(box, columns, equity, exposure, first, done, last)
            if filled >= 0:
                done = filled
                _decide_bar(box, columns, 0)
                _watch(box, 0, bars.start_ns, columns.funding_ns)
        loud = last
        for s in range(len(box.book)):
            row = box.book[s]
            if not row[k.IS_EVENT]:
                _search(box, s, columns.flags, bars.low, bars.high, columns.own, step, last)
            if row[k.IS_EVENT]:
                loud = min(loud, _step_of(row, step, row[k.QUIET]))
        if has_danger:
            loud = _next_danger(box, bars, step, scratch, unplayed, loud)
        stretch = slice(done - first, loud - first)
        _fill_curve(box, bars.close, step, equity[stretch], exposure[stretch], done)
        if len(funding) > 0:
            funding[stretch] = as_float(box.run[k.FUNDING], box.run[k.FUNDING + 1]) / ATOMS
        if loud >= last or not _has_room(box):
            return loud
        _play_step(box, columns, loud)
        done, unplayed = loud, loud + 1  # its own equity is that of what it leaves behind


@bare_kernel
def begin(box: Box, columns: Columns) -> None:
    """Get ready for the first step."""
    for s in range(len(box.book)):
        _watch(box, s, columns.bars.start_ns, columns.funding_ns)


@bare_kernel
def _has_room(box: Box) -> bool:
    needed = ROOM
    for s in range(len(box.book)):
        count = box.book[s, k.COUNT]
        if count + ROOM > box.orders.shape[1]:
            return False
        needed += 2 * count + ROOM
    return bool(box.run[k.FILLS] + needed <= len(box.fills))


# --- steps and bars


@bare_kernel
def _step_of(row: Ints, step: Steps, bar: int) -> int:
    """Return the step of a symbol's bar."""
    if len(step) == 0:
        return bar
    return int(step[row[k.FIRST] + bar])


@bare_kernel
def _bars_before(row: Ints, step: Steps, end: int, known: int) -> int:
    """Return how many of a symbol's bars come before step `end`; at least `known`."""
    if len(step) == 0:
        return min(end, row[k.BARS])
    first, low, high = row[k.FIRST], known, row[k.BARS]
    while low < high:
        middle = (low + high) // 2
        if step[first + middle] < end:
            low = middle + 1
        else:
            high = middle
    return low


@bare_kernel
def _play_step(box: Box, columns: Columns, now: int) -> None:
    """Play step `now`: A, B and C of the symbols that are loud in it; the prices of the others."""
    bars, step = columns.bars, columns.step
    has_perps = box.run[k.HAS_PERPS] == 1
    needs_volume = box.run[k.SLIPPAGE] == k.SLIPS_BY_VOLUME or box.run[k.VOLUME_SHARE] > 0
    for s in range(len(box.book)):
        row = box.book[s]
        row[k.AT] = _bars_before(row, step, now, row[k.AT])
        at = row[k.AT]
        row[k.HAS_BAR] = 1 if at < row[k.BARS] and _step_of(row, step, at) == now else 0
        is_endangered = row[k.IS_PERP] and row[k.HELD] != 0 and len(box.book) > 1
        is_event = row[k.IS_EVENT] and row[k.QUIET] == at
        row[k.IS_LOUD] = 1 if row[k.HAS_BAR] and (is_endangered or is_event) else 0
        if has_perps and at > 0:
            row[k.PRICE] = bars.close[row[k.FIRST] + at - 1]
        if row[k.IS_LOUD]:
            _look_at(row, bars)
            _age(box, s, columns.own.last, at)
    box.run[k.IS_WALKING] = 1
    for s in range(len(box.book)):
        row = box.book[s]
        at = row[k.FIRST] + row[k.AT]
        if row[k.IS_LOUD]:
            row[k.END] = row[k.START] + box.run[k.TIMEFRAME]
            if row[k.IS_PERP]:
                settle_funding(box, s, columns.funding_ns, columns.funding_ppb, row[k.START], row[k.OPEN])
            if row[k.COUNT] > 0 or row[k.IS_PERP]:
                open_bar(box, s, row[k.START], row[k.OPEN], int(bars.volume[at]) if needs_volume else 0, now)
        if has_perps and row[k.HAS_BAR]:
            row[k.PRICE] = bars.open[at]
    for s in range(len(box.book)):
        row = box.book[s]
        at = row[k.FIRST] + row[k.AT]
        if row[k.IS_LOUD] and (row[k.COUNT] > 0 or (row[k.IS_PERP] and row[k.HELD] != 0)):
            walk_bar(box, s, row[k.START], row[k.OPEN], row[k.HIGH], row[k.LOW], row[k.CLOSE], now)
        if row[k.IS_LOUD]:
            row[k.CANCELS_DUE] = 0  # a cancel takes less than a bar; its order may have ended before it
        if has_perps and row[k.HAS_BAR]:
            row[k.PRICE] = bars.close[at]
    box.run[k.IS_WALKING] = 0
    for s in range(len(box.book)):
        row = box.book[s]
        row[k.AT] += row[k.HAS_BAR]
        if row[k.AT] > 0:
            row[k.MARK] = bars.close[row[k.FIRST] + row[k.AT] - 1]
    for s in range(len(box.book)):
        if box.book[s, k.IS_LOUD]:
            _decide_bar(box, columns, s)
            _watch(box, s, bars.start_ns, columns.funding_ns)


@bare_kernel
def _look_at(row: Ints, bars: Bars) -> None:
    """Read all of the bar at once: far from the last loud one it is not in the cache, and five waits make one."""
    at = row[k.FIRST] + row[k.AT]
    row[k.START], row[k.OPEN], row[k.CLOSE] = bars.start_ns[at], bars.open[at], bars.close[at]
    row[k.HIGH], row[k.LOW] = bars.high[at], bars.low[at]


@bare_kernel
def _decide_bar(box: Box, columns: Columns, s: int) -> None:
    """Step C of the bar that is over now, if one of the strategy's own is over with it."""
    row, own = box.book[s], columns.own
    bar = row[k.AT] - 1
    at = row[k.FIRST] + bar
    high, low, close = row[k.HIGH], row[k.LOW], row[k.CLOSE]
    if box.run[k.IS_OWN_LONGER]:
        which = row[k.OWN_FIRST] + row[k.OWN_AT]
        if row[k.OWN_AT] >= row[k.OWN_BARS] or own.last[which] != bar:
            return
        high, low, close = int(own.high[which]), int(own.low[which]), int(own.close[which])
    flags = int(columns.flags[at])
    size = stop_by = target_by = trail_by = 0  # nobody asks for them without an entry
    if flags & BY_NUMBER != 0:
        symbols, numbers = len(box.book), columns.numbers
        size = int(numbers.size[at if len(numbers.size) > symbols else s])
        stop_by = int(numbers.stop_by[at if len(numbers.stop_by) > symbols else s])
        target_by = int(numbers.target_by[at if len(numbers.target_by) > symbols else s])
        trail_by = int(numbers.trail_by[at if len(numbers.trail_by) > symbols else s])
    close_bar(box, s, flags, size, stop_by, target_by, trail_by, high, low, close)
    row[k.OWN_AT] += 1


@bare_kernel
def _age(box: Box, s: int, own_last: Ints, bar: int) -> None:
    """Let the tactics of a symbol live through its own bars that were over before a bar, which were all quiet."""
    row, state = box.book[s], box.book[s, k.STATE :]
    own = bar
    if box.run[k.IS_OWN_LONGER]:
        own = row[k.OWN_AT]
        while own < row[k.OWN_BARS] and own_last[row[k.OWN_FIRST] + own] < bar:
            own += 1
    bars = own - row[k.OWN_AT]
    row[k.OWN_AT] = own
    if bars == 0:
        return
    if state[tactics.HELD] != 0:
        state[tactics.BARS] += bars
    state[tactics.RESTING] = max(0, state[tactics.RESTING] - bars)
    if _is_patient(state):
        state[tactics.WAITING] -= bars


@bare_kernel
def _is_patient(state: Ints) -> bool:
    """Return whether a limit entry waits."""
    return state[tactics.SIDE] != 0 and state[tactics.LIMIT] != 0 and state[tactics.HELD] != state[tactics.LOTS]


# --- what makes a bar loud


@bare_kernel
def _watch(box: Box, s: int, start_ns: Ints, funding_ns: Ints) -> None:
    """Set what makes a bar of a symbol loud from now on."""
    row = box.book[s]
    row[k.QUIET], row[k.IS_EVENT] = row[k.AT], 0
    row[k.DOWN] = row[k.OWN_DOWN] = 0
    row[k.UP] = row[k.OWN_UP] = row[k.OWN_UNTIL] = row[k.UNTIL] = k.NEVER
    _watch_tactics(box, s)
    if not row[k.IS_SETTLED]:
        row[k.OWN_UNTIL] = row[k.OWN_AT]
    if row[k.CANCELS_DUE] > 0:
        row[k.UNTIL] = row[k.AT]
    for i in range(row[k.COUNT]):
        order = box.orders[s, i]
        price, is_buy = order[k.LIMIT], order[k.SIDE] > 0
        if order[k.ARMED]:
            if is_buy:
                row[k.UP] = min(row[k.UP], price)
            else:
                row[k.DOWN] = max(row[k.DOWN], price)
        elif order[k.RESTS]:
            if is_buy:
                row[k.DOWN] = max(row[k.DOWN], price - 1)
            else:
                row[k.UP] = min(row[k.UP], price + 1)
        else:
            row[k.UNTIL] = row[k.AT]
    if row[k.IS_PERP] and row[k.HELD] != 0:
        _watch_funding(row, start_ns, funding_ns)
        if len(box.book) == 1:
            ruin = ruin_ticks(box, s)
            if row[k.HELD] < 0:
                row[k.UP] = min(row[k.UP], ruin)
            elif ruin > 0:
                row[k.DOWN] = max(row[k.DOWN], ruin)


@bare_kernel
def _watch_tactics(box: Box, s: int) -> None:
    row, state = box.book[s], box.book[s, k.STATE :]
    side, own = state[tactics.SIDE], row[k.OWN_AT]
    if side > 0:
        mask = tactics.EXIT_LONG | tactics.ENTER_SHORT
    elif side < 0:
        mask = tactics.EXIT_SHORT | tactics.ENTER_LONG
    else:
        mask = ENTRIES
    if state[tactics.RESTING] > 0:
        mask &= ~ENTRIES
        row[k.OWN_UNTIL] = min(row[k.OWN_UNTIL], own + state[tactics.RESTING] - 1)
    if _is_patient(state):
        row[k.OWN_UNTIL] = min(row[k.OWN_UNTIL], own + max(0, state[tactics.WAITING] - 1))
    if state[tactics.HELD] * side > 0:
        mask |= tactics.RESIZE
        if box.run[tactics.BARS_MAX] > 0:
            bars = box.run[tactics.BARS_MAX] - state[tactics.BARS] - 1
            row[k.OWN_UNTIL] = min(row[k.OWN_UNTIL], own + max(0, bars))
        _watch_best(box, s)
    row[k.MASK] = mask


@bare_kernel
def _watch_best(box: Box, s: int) -> None:
    """A stop moves with the best price, or once when the best price is far enough from the entry."""
    row, state = box.book[s], box.book[s, k.STATE :]
    side, stop, entry = state[tactics.SIDE], state[tactics.STOP], state[tactics.ENTRY]
    break_even = box.run[tactics.BREAK_EVEN]
    if state[tactics.TRAIL_BY] != 0:
        price = state[tactics.BEST] + side
    elif break_even != 0 and (stop == 0 or side * (stop - entry) < 0):
        price = entry + side * tactics.distance_ticks(break_even, entry)
    else:
        return
    if side > 0:
        row[k.OWN_UP] = price
    else:
        row[k.OWN_DOWN] = price


@bare_kernel
def _watch_funding(row: Ints, start_ns: Ints, funding_ns: Ints) -> None:
    """The first bar that begins at or after the next time of funding is loud."""
    if row[k.FUNDED] >= row[k.FUNDING_COUNT]:
        return
    time = funding_ns[row[k.FUNDING_FIRST] + row[k.FUNDED]]
    first, low, high = row[k.FIRST], row[k.AT], row[k.BARS]
    while low < high:
        middle = (low + high) // 2
        if start_ns[first + middle] < time:
            low = middle + 1
        else:
            high = middle
    row[k.UNTIL] = min(row[k.UNTIL], low)


# --- the search for it


@bare_kernel
def _search(box: Box, s: int, flags: Flags, low: Ints, high: Ints, own: OwnBars, step: Steps, last: int) -> None:
    """Go on from `QUIET` to the first loud bar before step `last`."""
    row = box.book[s]
    begin, first = row[k.QUIET], row[k.FIRST]
    end = _bars_before(row, step, last, begin)
    if begin >= end:
        return
    down, up = row[k.DOWN], row[k.UP]
    until = row[k.UNTIL]
    if box.run[k.IS_OWN_LONGER]:
        until = min(until, _next_own(row, own, begin, end))
    else:
        until = min(until, row[k.OWN_UNTIL])
        down, up = max(down, row[k.OWN_DOWN]), min(up, row[k.OWN_UP])
    stop = max(begin, min(end, until))
    advised = flags[first + begin : first + stop]
    if down > 0 or up < k.NEVER:
        lows, highs = low[first + begin : first + stop], high[first + begin : first + stop]
        found = begin + _first_hit(advised, lows, highs, row[k.MASK], down, up)
    else:
        found = begin + _first_advice(advised, row[k.MASK])
    row[k.QUIET] = found
    row[k.IS_EVENT] = 1 if found < stop or stop < end else 0


@bare_kernel
def _next_own(row: Ints, own: OwnBars, begin: int, end: int) -> int:
    """Return the bar with which the next loud bar of the strategy's own is over, or `NEVER`."""
    first = row[k.OWN_FIRST]
    for i in range(row[k.OWN_AT], row[k.OWN_BARS]):
        bar = own.last[first + i]
        if bar >= end:
            break
        is_beyond = own.high[first + i] >= row[k.OWN_UP] or own.low[first + i] <= row[k.OWN_DOWN]
        if bar >= begin and (i >= row[k.OWN_UNTIL] or is_beyond):
            return int(bar)
    return k.NEVER


@bare_kernel
def _first_advice(flags: Flags, mask: int) -> int:
    """Return the index of the first flags that share a bit with `mask`, or their number."""
    n = len(flags)
    bits = np.uint8(mask)
    done = 0
    while done + BLOCK <= n:
        block = flags[done : done + BLOCK]
        seen = np.uint8(0)
        for j in range(BLOCK):
            seen |= block[j] & bits
        if seen != 0:
            break
        done += BLOCK
    rest = flags[done:]
    for j in range(len(rest)):
        if rest[j] & bits != 0:
            return done + j
    return n


@bare_kernel
def _first_hit(flags: Flags, low: Ints, high: Ints, mask: int, down: int, up: int) -> int:
    """Return the index of the first bar with such flags, or a low at or below `down`, or a high at or above `up`."""
    n = len(flags)
    bits = np.uint8(mask)
    done = 0
    while done + BLOCK <= n:
        block, lows, highs = flags[done : done + BLOCK], low[done : done + BLOCK], high[done : done + BLOCK]
        seen = np.uint8(0)
        for j in range(BLOCK):
            seen |= block[j] & bits
        lowest, highest = lows[0], highs[0]
        for j in range(BLOCK):
            lowest = min(lowest, lows[j])
            highest = max(highest, highs[j])
        if seen != 0 or lowest <= down or highest >= up:
            break
        done += BLOCK
    block, lows, highs = flags[done:], low[done:], high[done:]
    for j in range(len(block)):
        if block[j] & bits != 0 or lows[j] <= down or highs[j] >= up:
            return done + j
    return n


# --- equity


@bare_kernel
def _fill_curve(box: Box, close: Ints, step: Steps, equity: Floats, exposure: Floats, first: int) -> None:
    """Fill equity and exposure of the steps from `first` on, in which nothing changes."""
    n = len(equity)
    cash = as_float(box.run[k.FLOW], box.run[k.FLOW + 1]) / ATOMS
    if len(box.book) > 1 or len(step) > 0:
        _fill_sum(box, close, step, equity, exposure, cash, first)
        return
    coins = coins_of(box.book[0])
    if coins == 0.0:
        equity[:] = cash
        exposure[:] = 0.0
        return
    closes = close[first : first + n]
    for j in range(n):
        equity[j] = cash + coins * closes[j]
    size = abs(coins)
    for j in range(len(exposure)):
        exposure[j] = size * closes[j]


@bare_kernel
def _fill_sum(box: Box, close: Ints, step: Steps, equity: Floats, exposure: Floats, cash: float, first: int) -> None:
    """Fill them with the sum of several symbols, or of one that has no bar at some steps."""
    n = len(equity)
    equity[:] = cash
    exposure[:] = 0.0
    for s in range(len(box.book)):
        row = box.book[s]
        coins = coins_of(row)
        if coins == 0.0:
            continue
        if len(step) > 0:
            _add_sparse(row, close, step, equity, exposure, coins, first)
            continue
        closes = close[row[k.FIRST] + first : row[k.FIRST] + first + n]
        for j in range(n):
            equity[j] += coins * closes[j]
        size = abs(coins)
        for j in range(len(exposure)):
            exposure[j] += size * closes[j]


@bare_kernel
def coins_of(row: Ints) -> float:
    """Return what is held, times the quote currency that one lot is worth at one tick."""
    if row[k.HELD] == 0 and row[k.DUST] == 0:
        return 0.0
    unit = float(row[k.UNIT]) / ATOMS
    return (float(row[k.HELD]) + float(row[k.DUST]) / float(row[k.PER_LOT])) * unit


@bare_kernel
def _add_sparse(
    row: Ints, close: Ints, step: Steps, equity: Floats, exposure: Floats, coins: float, first: int
) -> None:
    """Add the value of a symbol that has no bar at some steps: there its last close counts."""
    start = row[k.FIRST]
    bar = _bars_before(row, step, first, 0)
    price = close[start + bar - 1] if bar > 0 else 0
    for j in range(len(equity)):
        if bar < row[k.BARS] and step[start + bar] == first + j:
            price = close[start + bar]
            bar += 1
        equity[j] += coins * price
        if len(exposure) > 0:
            exposure[j] += abs(coins) * price


# --- the margin of several perpetuals


@bare_kernel
def _next_danger(box: Box, bars: Bars, step: Steps, scratch: Floats, first: int, last: int) -> int:
    """Return the first step in which some order of prices could liquidate something held, or `last`.

    Of several symbols each other's prices move the price of a liquidation: so each step's worst prices are tried.
    """
    n = last - first
    held = 0
    for s in range(len(box.book)):
        held += abs(box.book[s, k.HELD]) * box.book[s, k.IS_PERP]
    if n <= 0 or held == 0:
        return last
    worst, margin = scratch[0, :n], scratch[1, :n]
    worst[:] = as_float(box.run[k.FLOW], box.run[k.FLOW + 1]) / ATOMS
    margin[:] = 0.0
    for s in range(len(box.book)):
        row = box.book[s]
        coins = coins_of(row)
        if coins == 0.0:
            continue
        start = row[k.FIRST]
        bar = _bars_before(row, step, first, 0)
        rate = abs(coins) * PPM * box.run[k.MAINTENANCE_PPM] if row[k.IS_PERP] else 0.0
        price = bars.close[start + bar - 1] if bar > 0 else 0
        for j in range(n):
            low = high = price
            if bar < row[k.BARS] and _step_of(row, step, bar) == first + j:
                low, high = min(low, bars.low[start + bar]), max(high, bars.high[start + bar])
                price = bars.close[start + bar]
                bar += 1
            worst[j] += coins * (low if coins > 0.0 else high)
            margin[j] += rate * high
    for j in range(n):
        if worst[j] <= margin[j] + CARE * (abs(worst[j]) + margin[j] + 1.0):
            return first + j
    return last
