"""Round trips: from the fills of a run to trades that open when a position leaves zero and end when it is back.

A fill that turns a position round ends one trade and opens the next, and its fee is split by lots. Positions are
counted in whole lots. On a spot market that takes its fee in coins a buy brings less than it filled; what is left
after the sale, less than the market's smallest order, is dust: it ends the trade, at the price of the last fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.backtest.base import Outcome
from bot.core.jit import kernel
from bot.strategies.advice import Candles, Floats, Ints, Market

OPEN: Final = -1
"""The exit role of a trade that has not ended."""

# State of one symbol: whole numbers.
_SIDE: Final = 0
"""1 or -1 while a trade is open, else 0."""
_HELD: Final = 1
"""Lots, signed; whole ones."""
_ANCHOR: Final = 2
"""Price of the fill that opened the trade: sums are kept relative to it, so that they stay small and exact."""
_STEP: Final = 3
_ENTERED: Final = 4
_EXITED: Final = 5
_INTS: Final = 6
# And numbers.
_PART: Final = 0
"""Parts of a lot held, besides the whole ones."""
_ENTRIES: Final = 1
"""Sum of lots x (price - anchor) that entered."""
_EXITS: Final = 2
_GROSS: Final = 3
"""Sum of -lots x (price - anchor), in ticks x lots."""
_FEES: Final = 4
_FLOATS: Final = 5


class Trades(NamedTuple):
    """Round trips in the order of their ends, those still open last; columns of shape (n,)."""

    symbol: Ints
    """Index into `Outcome.symbols`."""
    side: Ints
    """1: long, -1: short."""
    entry_step: Ints
    """Index into `Outcome.time_ns` of the first fill."""
    exit_step: Ints
    """Of the fill that ended it; the last step of the run for an open one."""
    lots: Ints
    """Entered in all, > 0, before any fee taken in coins."""
    entry_price: Floats
    """Average, in quote currency."""
    exit_price: Floats
    """Average, in quote currency; what is still open counts at the final price."""
    notional: Floats
    """Entry price x quantity, in quote currency."""
    gross: Floats
    """Profit before fees, in quote currency."""
    fees: Floats
    """Of entries and exits, in quote currency."""
    exit_role: Ints
    """Index into `ROLES` of the last fill, or `OPEN`."""

    @property
    def net(self) -> Floats:
        """Return the profit after fees, in quote currency; funding is not in it."""
        return self.gross - self.fees

    @property
    def returns(self) -> Floats:
        """Return the net profit as a fraction of the entry notional."""
        return np.divide(self.net, self.notional, out=np.zeros(len(self.gross)), where=self.notional > 0)

    @property
    def bars(self) -> Ints:
        """Return the steps from entry to exit; 0 for a trade inside one step."""
        return self.exit_step - self.entry_step

    @property
    def is_open(self) -> NDArray[np.bool_]:
        """Return which have not ended: at most one a symbol."""
        return self.exit_role == OPEN

    def take(self, chosen: NDArray[np.bool_]) -> Trades:
        """Return those chosen, in order; `chosen` has shape (n,)."""
        return Trades(
            symbol=self.symbol[chosen],
            side=self.side[chosen],
            entry_step=self.entry_step[chosen],
            exit_step=self.exit_step[chosen],
            lots=self.lots[chosen],
            entry_price=self.entry_price[chosen],
            exit_price=self.exit_price[chosen],
            notional=self.notional[chosen],
            gross=self.gross[chosen],
            fees=self.fees[chosen],
            exit_role=self.exit_role[chosen],
        )


class Excursions(NamedTuple):
    """How far the price went while each trade was open, as fractions of its entry price, >= 0; columns (n,).

    The bars of entry and exit count whole, so part of an excursion may lie before the entry or after the exit.
    Source: Sweeney, "Maximum Adverse Excursion", 1997.
    """

    favourable: Floats
    adverse: Floats


def round_trips(outcome: Outcome, markets: Sequence[Market]) -> Trades:
    """Return the trades of a run; `markets` are those of `Outcome.symbols`, in the same order."""
    fills, instruments = outcome.fills, outcome.instruments
    assert len(markets) == len(instruments), "one market for each symbol of the run"
    size = len(fills.step) + len(instruments)
    ints, floats = np.zeros((size, 7), np.int64), np.zeros((size, 5))
    last_step = len(outcome.time_ns) - 1
    last_ns = int(outcome.time_ns[-1]) if last_step >= 0 else 0
    count = _walk(
        fills.symbol,
        fills.step,
        fills.price,
        fills.lots,
        fills.fee,
        fills.role,
        np.array([0 if i.is_fee_in_quote else max(1, i.qty_lots_min) for i in instruments], np.int64),
        np.array([10.0 ** (i.price_scale + i.quantity_scale) for i in instruments]),
        np.array([final_price_ticks(market.candles, last_ns) for market in markets], np.int64),
        last_step,
        ints,
        floats,
    )
    symbol, side, entry_step, exit_step, lots, exit_role, anchor = ints[:count].T.copy()
    entries, exits, gross, fees, exited = floats[:count].T
    tick = np.array([10.0**i.price_scale for i in instruments])[symbol] if count else np.ones(0)
    unit = np.array([10.0 ** (i.price_scale + i.quantity_scale) for i in instruments])[symbol] if count else tick
    return Trades(
        symbol=symbol,
        side=side,
        entry_step=entry_step,
        exit_step=exit_step,
        lots=lots,
        entry_price=(anchor + entries / np.maximum(lots, 1)) / tick,
        exit_price=(anchor + exits / np.maximum(exited, 1.0)) / tick,
        notional=(anchor * lots.astype(np.float64) + entries) / unit,
        gross=gross / unit,
        fees=fees.copy(),
        exit_role=exit_role,
    )


def final_price_ticks(candles: Candles, until_ns: int) -> int:
    """Return the close of the last bar that starts no later than `until_ns`, 0 where there is none."""
    index = int(np.searchsorted(candles.start_ns, until_ns, side="right"))
    return int(candles.close[index - 1]) if index else 0


def excursions(trades: Trades, outcome: Outcome, markets: Sequence[Market]) -> Excursions:
    """Return how far the price went for and against each trade."""
    favourable, adverse = np.zeros(len(trades.side)), np.zeros(len(trades.side))
    for number, market in enumerate(markets):
        mine = np.flatnonzero(trades.symbol == number)
        if not len(mine):
            continue
        start_ns = market.candles.start_ns
        first = np.searchsorted(start_ns, outcome.time_ns[trades.entry_step[mine]])
        last = np.searchsorted(start_ns, outcome.time_ns[trades.exit_step[mine]], side="right")
        last = np.maximum(last, first + 1)
        price = trades.entry_price[mine] * 10.0**market.instrument.price_scale
        spans = np.stack([first, last], axis=1).ravel()
        # One more element, so that a span may end with the data; every second result is a gap between two spans.
        up = np.maximum.reduceat(np.append(market.candles.high, 0), spans)[::2] / price - 1
        down = 1 - np.minimum.reduceat(np.append(market.candles.low, 0), spans)[::2] / price
        is_long = trades.side[mine] > 0
        favourable[mine] = np.maximum(np.where(is_long, up, down), 0.0)
        adverse[mine] = np.maximum(np.where(is_long, down, up), 0.0)
    return Excursions(favourable, adverse)


@kernel
def _walk(
    symbol: Ints,
    step: Ints,
    price: Ints,
    lots: Ints,
    fee: Floats,
    role: Ints,
    dust: Ints,
    unit: Floats,
    final: Ints,
    last_step: int,
    out_ints: Ints,
    out_floats: Floats,
) -> int:
    """Write one row for each trade and return how many.

    `dust` is 0 for symbols with fees in quote, else fewer lots than that are none; `unit` is how many ticks x lots
    one unit of quote currency is.
    """
    ints = np.zeros((len(dust), _INTS), np.int64)
    floats = np.zeros((len(dust), _FLOATS))
    count = 0
    for i in range(len(symbol)):
        s = symbol[i]
        mine, sums = ints[s], floats[s]
        change = lots[i]
        paid = fee[i]
        is_turn = dust[s] == 0 and mine[_SIDE] * change < 0 and abs(change) > abs(mine[_HELD])
        if is_turn:
            closing = -mine[_HELD]
            share = paid * (float(abs(closing)) / float(abs(change)))
            _book(mine, sums, step[i], price[i], closing, share, 0.0)
            _write(out_ints[count], out_floats[count], mine, sums, s, step[i], role[i])
            count += 1
            change -= closing
            paid -= share
        coins = 0.0
        if dust[s] > 0 and change > 0:
            coins = paid * unit[s] / float(price[i])
        is_exit = mine[_SIDE] * change < 0
        _book(mine, sums, step[i], price[i], change, paid, coins)
        left = float(mine[_HELD]) + sums[_PART]
        if is_exit and (mine[_HELD] == 0 if dust[s] == 0 else abs(left) < dust[s]):
            sums[_GROSS] += left * float(price[i] - mine[_ANCHOR])
            _write(out_ints[count], out_floats[count], mine, sums, s, step[i], role[i])
            count += 1
    for s in range(len(dust)):
        mine, sums = ints[s], floats[s]
        if mine[_SIDE] != 0:
            distance = float(final[s] - mine[_ANCHOR])
            rest = float(mine[_ENTERED] - mine[_EXITED])
            sums[_GROSS] += (float(mine[_HELD]) + sums[_PART]) * distance
            sums[_EXITS] += rest * distance
            mine[_EXITED] = mine[_ENTERED]
            _write(out_ints[count], out_floats[count], mine, sums, s, last_step, OPEN)
            count += 1
    return count


@kernel
def _book(mine: Ints, sums: Floats, step: int, price: int, change: int, paid: float, coins: float) -> None:
    """Take one fill that does not turn the position round; `coins` lots of it went as the fee."""
    if mine[_SIDE] == 0:
        mine[_SIDE] = 1 if change > 0 else -1
        mine[_ANCHOR] = price
        mine[_STEP] = step
        mine[_ENTERED] = mine[_EXITED] = 0
        sums[_ENTRIES] = sums[_EXITS] = sums[_GROSS] = sums[_FEES] = 0.0
    distance = float(price - mine[_ANCHOR])
    if mine[_SIDE] * change > 0:
        mine[_ENTERED] += abs(change)
        sums[_ENTRIES] += float(abs(change)) * distance
    else:
        mine[_EXITED] += abs(change)
        sums[_EXITS] += float(abs(change)) * distance
    sums[_GROSS] -= (float(change) - coins) * distance
    sums[_FEES] += paid
    whole = int(coins)
    mine[_HELD] += change - whole
    sums[_PART] -= coins - float(whole)
    if sums[_PART] <= -1.0:
        mine[_HELD] -= 1
        sums[_PART] += 1.0


@kernel
def _write(row: Ints, numbers: Floats, mine: Ints, sums: Floats, symbol: int, step: int, role: int) -> None:
    """Write the trade that ends here, and have none open."""
    row[0], row[1], row[2], row[3] = symbol, mine[_SIDE], mine[_STEP], step
    row[4], row[5], row[6] = mine[_ENTERED], role, mine[_ANCHOR]
    numbers[0], numbers[1], numbers[2], numbers[3] = sums[_ENTRIES], sums[_EXITS], sums[_GROSS], sums[_FEES]
    numbers[4] = float(mine[_EXITED])
    mine[_SIDE] = 0
