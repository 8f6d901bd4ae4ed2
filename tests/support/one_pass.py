"""One signal strategy in one plain pass: what the sweeps are compared with."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from bot.core.jit import kernel
from bot.strategies.advice import Floats, Ints


class Plain(NamedTuple):
    total_return: float
    trades: int
    wins: int
    is_open: int
    max_drawdown: float
    sharpe: float


@kernel
def averages(close: Ints, window: int) -> Floats:
    """Return the average of the last `window` closes at each bar, NaN before there are as many."""
    values = np.full(len(close), np.nan)
    total = 0
    for i in range(len(close)):
        total += close[i]
        if i >= window:
            total -= close[i - window]
        if i >= window - 1:
            values[i] = total / float(window)
    return values


@kernel
def one_pass(open_: Ints, close: Ints, fast: Floats, slow: Floats, fee_ppm: int) -> Plain:
    """Hold all while `fast` is above `slow`, decided at a close and traded at the next open; see `SignalFigures`."""
    fee = fee_ppm / 1_000_000.0
    cash, coins, paid = 1.0, 0.0, 0
    trades = wins = 0
    equity = np.ones(len(close))
    for i in range(1, len(close)):
        wants = fast[i - 1] > slow[i - 1]
        if wants and coins == 0.0:
            coins, cash, paid = cash / (open_[i] * (1.0 + fee)), 0.0, open_[i]
        elif not wants and coins > 0.0:
            cash, coins = coins * open_[i] * (1.0 - fee), 0.0
            trades += 1
            wins += 1 if open_[i] * (1_000_000 - fee_ppm) > paid * (1_000_000 + fee_ppm) else 0
        equity[i] = cash + coins * close[i]
    peak, worst, mean = 0.0, 0.0, 0.0
    for i in range(len(equity)):
        peak = max(peak, equity[i])
        worst = max(worst, 1.0 - equity[i] / peak)
    for i in range(1, len(equity)):
        mean += (equity[i] / equity[i - 1] - 1.0) / len(equity)
    variance = mean * mean / max(1, len(equity) - 1)  # the first return is 0
    for i in range(1, len(equity)):
        variance += (equity[i] / equity[i - 1] - 1.0 - mean) ** 2 / (len(equity) - 1)
    # Equal returns leave a rest of rounding.
    sharpe = mean / sqrt(variance) if variance > 1e-12 * (variance + mean * mean) else np.nan
    return Plain(equity[-1] - 1.0, trades, wins, 1 if coins > 0.0 else 0, worst, sharpe)
