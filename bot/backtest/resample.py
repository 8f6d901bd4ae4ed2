"""Candles of one length into longer ones, and the part of them between two times."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from bot.backtest.checks import grid_start
from bot.core.durations import duration_text
from bot.errors import DataError
from bot.strategies.advice import Candles, Ints, Market

_VOLUME_MAX: Final = 2**62


class Resampled(NamedTuple):
    """A market of longer bars, and how many of the shorter ones belong to no whole one."""

    market: Market
    bars_cut: int
    """At the beginning and at the end, where the first or the last longer bar is not complete."""


def resample(market: Market, timeframe_ns: int) -> Resampled:
    """Return `market` in bars of `timeframe_ns`, on the grid of UTC days; weeks begin on Mondays.

    A longer bar is made of all that there is of it: a gap inside it does not end it. The first and the last are left
    out where they begin before the first bar or end after the last.

    Raises:
        DataError: `timeframe_ns` is no multiple of the market's, or no longer bar is complete.

    """
    symbol, own_ns, candles = market.instrument.symbol, market.timeframe_ns, market.candles
    if timeframe_ns == own_ns:
        return Resampled(market, 0)
    if timeframe_ns % own_ns or timeframe_ns < own_ns:
        own, wanted = duration_text(own_ns), duration_text(timeframe_ns)
        raise DataError(f"{symbol}: bars of {own} cannot be made into bars of {wanted}: it must be a multiple")
    starts_ns = grid_start(candles.start_ns, timeframe_ns)
    begin = int(np.count_nonzero(starts_ns < candles.start_ns[0]))
    end = len(starts_ns)
    if candles.start_ns[-1] + own_ns < starts_ns[-1] + timeframe_ns:
        end = int(np.count_nonzero(starts_ns < starts_ns[-1]))
    if begin >= end:
        raise DataError(f"{symbol}: {end} bars hold no whole bar of {duration_text(timeframe_ns)}")
    cut = Candles(*(column[begin:end] for column in candles))
    starts_ns = starts_ns[begin:end]
    turns = np.flatnonzero(np.diff(starts_ns)).astype(np.int64)
    first = np.concatenate((np.zeros(1, np.int64), turns + 1))
    last = np.concatenate((turns, np.full(1, len(starts_ns) - 1, np.int64)))
    if float(np.add.reduceat(cut.volume.astype(np.float64), first).max()) > _VOLUME_MAX:
        raise DataError(f"{symbol}: its volume is too large for its lots; a larger --lot-size would do")
    high: Ints = np.maximum.reduceat(cut.high, first)
    low: Ints = np.minimum.reduceat(cut.low, first)
    longer = Candles(
        start_ns=starts_ns[first],
        open=cut.open[first],
        high=high,
        low=low,
        close=cut.close[last],
        volume=np.add.reduceat(cut.volume, first),
    )
    bars_cut = len(candles.start_ns) - len(starts_ns)
    return Resampled(market._replace(timeframe_ns=timeframe_ns, candles=longer), bars_cut)


def select(market: Market, from_ns: int | None, to_ns: int | None) -> Market:
    """Return the bars that begin at `from_ns` or later and are over at `to_ns`, with the funding until then.

    Raises:
        DataError: there is none.

    """
    candles = market.candles
    begin = 0 if from_ns is None else int(np.count_nonzero(candles.start_ns < from_ns))
    end = len(candles.start_ns)
    if to_ns is not None:
        end = int(np.count_nonzero(candles.start_ns <= to_ns - market.timeframe_ns))
    if begin >= end:
        raise DataError(f"{market.instrument.symbol}: no bar of {len(candles.start_ns)} lies between --from and --to")
    return market._replace(candles=Candles(*(column[begin:end] for column in candles)))
