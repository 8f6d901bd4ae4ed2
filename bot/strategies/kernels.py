"""Strategies as a record of parameters and one step kernel: the same function in a sweep, a backtest and live.

A step takes the parameters as an array in the order of the record's fields, its state, and a bar of `BAR` numbers in
ticks and lots; it returns the share wanted, -1.0 (all short) to 1.0 (all), or NaN without an opinion.
`docs/strategies.md` has one in ten lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from bot.core import tactics
from bot.core.indicators.windows import MOMENTS, SUM, rolling_moments, rolling_sum
from bot.core.instrument import Instrument
from bot.core.jit import bare_kernel, kernel, pluggable
from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies.advice import Advice, AdviceRow, Adviser, Candles, Flags, Floats, Ints, Market
from bot.strategies.rules.series import base_series, joined, spread

OPEN: Final = 0
HIGH: Final = 1
LOW: Final = 2
CLOSE: Final = 3
VOLUME: Final = 4
START_NS: Final = 5
BAR: Final = 6
"""Numbers of a bar; all whole, and exact below 2^53, as are the times of bars that begin on whole seconds."""

EXACT: Final = 2**52
"""Quotients of whole numbers below it are apart by more than a float's rounding, or equal."""

SIGNATURE: Final = "float64(float64[::1], float64[::1], float64[::1])"
share_step = pluggable(SIGNATURE)
"""Make a step kernel of a function (params, state, bar) -> share."""

Step = Callable[[Floats, Floats, Floats], float]


@dataclass(frozen=True, slots=True)
class KernelStrategy:
    """A kind of strategy; give it parameters with `KernelDefinition`."""

    params: type[msgspec.Struct]
    """Fields are int, float or bool; their names, bounds and defaults are those of the settings."""
    step: Step
    """Made by `share_step`."""
    state: Callable[[Floats], Floats]
    """Makes the state before the first bar, float64 of shape (k,), out of the parameters."""
    lookback: Callable[[Floats], int]
    """Bars before the first that may have an opinion."""
    column: Callable[[Floats, Floats, Candles, Floats], None] | None = None
    """Fills the shares of all bars out of params, state and candles, equal to the steps; None: they are looped."""


class KernelDefinition:
    """A kernel strategy with its parameters fixed."""

    def __init__(
        self, strategy: KernelStrategy, params: msgspec.Struct, *, timeframe_ns: int, size: tuple[int, int]
    ) -> None:
        """Fix the parameters; `size` is how `bot/core/tactics.py` reads sizes, and the size of a share of 1.0.

        Raises:
            SettingsError: `params` is not of the strategy's record.

        """
        if not isinstance(params, strategy.params):
            raise SettingsError(f"parameters must be a {strategy.params.__name__}, not {type(params).__name__}")
        self.strategy = strategy
        self.params = params
        self._array = params_array(params)
        self._timeframe_ns = timeframe_ns
        self._sizing, self._size = size

    @property
    def timeframe_ns(self) -> int:
        """Return the length of its own bars."""
        return self._timeframe_ns

    @property
    def watches(self) -> tuple[str, ...]:
        """Return nothing: a kernel sees one symbol."""
        return ()

    @property
    def terms(self) -> Ints:
        """Return the terms of its tactics, shape (tactics.TERMS,): at the market, without guards."""
        terms = np.zeros(tactics.TERMS, np.int64)
        terms[tactics.SIZING] = self._sizing
        terms[tactics.PATIENCE] = 1
        return terms

    @property
    def lookback_bars(self) -> int:
        """Return the bars of its own that it needs before its first advice."""
        return self.strategy.lookback(self._array)

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """Return a fresh one; it needs no instrument."""
        del symbol, instruments
        state = self.strategy.state(self._array)
        return KernelAdviser(self.strategy.step, self._array, state, self.lookback_bars, self._size)

    def shares(self, candles: Candles) -> Floats:
        """Return the share wanted at the close of each own bar, NaN without an opinion; shape (n,).

        Raises:
            ValueError: a share is not in -1.0 to 1.0.

        """
        shares = np.empty(len(candles.start_ns))
        state = self.strategy.state(self._array)
        if self.strategy.column is not None:
            self.strategy.column(self._array, state, candles, shares)
        else:
            _shares(self.strategy.step, self._array, state, candles, np.empty(BAR), shares)
        shares[: self.lookback_bars] = math.nan
        return shares

    def advise(self, symbol: str, markets: Mapping[str, Market], cache: object = None) -> Advice:
        """Return its advice on `symbol` for all of its base bars; nothing of it is worth a cache.

        Raises:
            SettingsError: the bars of the market are no whole part of its own.
            ValueError: a share is not in -1.0 to 1.0.

        """
        del cache
        market = markets[symbol]
        if market.timeframe_ns == self._timeframe_ns:
            return self._advice(market.candles)
        own = joined(base_series(market), self._timeframe_ns, symbol)
        assert own.over is not None
        return spread(self._advice(own.candles), own.over, len(market.candles.start_ns))

    def _advice(self, candles: Candles) -> Advice:
        """Return its advice on its own bars."""
        shares = self.shares(candles)
        flags, size = np.zeros(len(shares), np.uint8), np.zeros(len(shares), np.int64)
        wrong = advise_shares(shares, self._size, flags, size)
        if wrong >= 0:
            _refuse(float(shares[wrong]))
        none = np.zeros(1, np.int64)
        return Advice(flags, size, none, none, none)


class KernelAdviser:
    """A kernel strategy a bar at a time."""

    def __init__(self, step: Step, params: Floats, state: Floats, lookback_bars: int, full_size: int) -> None:
        self._step = step
        self._params = params
        self._state = state
        self._bars_left = lookback_bars
        self._full_size = full_size
        self._bar = np.empty(BAR)
        self._share = math.nan

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        """Take the next bar; return what it advises, or None without an opinion.

        Raises:
            ValueError: the share is not in -1.0 to 1.0.

        """
        self._bar[:] = (
            bar.open_ticks,
            bar.high_ticks,
            bar.low_ticks,
            bar.close_ticks,
            bar.volume_lots,
            bar.start_ns,
        )
        share = float(self._step(self._params, self._state, self._bar))
        if self._bars_left > 0:
            self._bars_left -= 1
            return None
        if math.isnan(share):
            return None
        if not -1.0 <= share <= 1.0:
            _refuse(share)
        row = AdviceRow(share_flags(self._share, share), share_size(share, self._full_size), 0, 0, 0)
        if not bar.is_history:  # what was wanted in history was not done: the first bar of a session says it anew
            self._share = share
        return row

    def hear(self, bar: Bar) -> None:
        """Hear nothing."""


def params_array(params: msgspec.Struct) -> Floats:
    """Return the fields of a record of numbers in their order."""
    return np.array([float(getattr(params, name)) for name in params.__struct_fields__])


def params_of(strategy: KernelStrategy, given: Mapping[str, Any], where: str) -> msgspec.Struct:
    """Return the strategy's record with the values given.

    Raises:
        SettingsError: one is unknown, of another type or out of bounds; `where` names the settings.

    """
    unknown = sorted(set(given) - set(strategy.params.__struct_fields__))
    if unknown:
        known = ", ".join(strategy.params.__struct_fields__)
        raise SettingsError(f"{where}: has no parameter {unknown[0]}, only {known}")
    try:
        return msgspec.convert(dict(given), strategy.params)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}") from None


@bare_kernel
def share_flags(before: float, share: float) -> int:
    """Return what a share advises after the last one (NaN: none before): something only where it is another one."""
    if share == before:
        return 0
    if share > 0.0:
        return tactics.ENTER_LONG | tactics.EXIT_SHORT | (tactics.RESIZE if before > 0.0 else 0)
    if share < 0.0:
        return tactics.ENTER_SHORT | tactics.EXIT_LONG | (tactics.RESIZE if before < 0.0 else 0)
    return tactics.EXIT_LONG | tactics.EXIT_SHORT


@bare_kernel
def share_size(share: float, full_size: int) -> int:
    """Return the size of a share, rounded to the nearest, halves up."""
    return int(math.floor(abs(share) * full_size + 0.5))  # noqa: RUF046  # compiled, floor returns a float


@bare_kernel
def advise_shares(shares: Floats, full_size: int, flags: Flags, size: Ints) -> int:
    """Fill flags and size, zeros so far, for a column of shares; return where a share is impossible, or -1."""
    before = math.nan
    for row in range(len(shares)):
        share = shares[row]
        if math.isnan(share):
            continue
        if not -1.0 <= share <= 1.0:
            return row
        flags[row] = share_flags(before, share)
        size[row] = share_size(share, full_size)
        before = share
    return -1


@kernel
def _shares(step: Step, params: Floats, state: Floats, candles: Candles, bar: Floats, shares: Floats) -> None:
    for row in range(len(shares)):
        bar[OPEN] = candles.open[row]
        bar[HIGH] = candles.high[row]
        bar[LOW] = candles.low[row]
        bar[CLOSE] = candles.close[row]
        bar[VOLUME] = candles.volume[row]
        bar[START_NS] = candles.start_ns[row]
        shares[row] = step(params, state, bar)


def _refuse(share: float) -> None:
    raise ValueError(f"a strategy wants a share of {share}, which is not in -1.0 to 1.0")


# --- the strategies that come with the bot


class CrossoverParams(msgspec.Struct, frozen=True, kw_only=True):
    """Bars of the two simple averages."""

    fast: int = 10
    slow: int = 30


@bare_kernel
def _crossover_step(params: Floats, state: Floats, bar: Floats) -> float:
    fast_end = SUM + int(params[0])
    fast = rolling_sum(state[:fast_end], bar[CLOSE]) / params[0]
    slow = rolling_sum(state[fast_end:], bar[CLOSE]) / params[1]
    if math.isnan(fast) or math.isnan(slow):
        return math.nan
    return 1.0 if fast > slow else 0.0


@bare_kernel
def _crossover_column(params: Floats, state: Floats, candles: Candles, shares: Floats) -> None:
    """Equal to the steps: sums of ticks are whole numbers, exact whichever way they are made."""
    _crossover_shares(params[0], params[1], candles.close, shares)


@bare_kernel
def _crossover_shares(fast_bars: float, slow_bars: float, close: Ints, shares: Floats) -> None:
    """Compare the sums times the other's bars, which is quicker than to divide.

    While these products are below 2**52, quotients that differ do so by more than their rounding.
    """
    fast, slow = int(fast_bars), int(slow_bars)
    warm = max(fast, slow) - 1
    fast_sum = slow_sum = highest = 0
    shares[:warm] = math.nan
    for row in range(len(close)):
        highest = max(highest, close[row])
    is_exact = highest < EXACT // max(1, fast * slow)
    for row in range(min(warm, len(close))):
        fast_sum += close[row] if row > warm - fast else 0
        slow_sum += close[row] if row > warm - slow else 0
    newest, wanted = close[warm:], shares[warm:]
    fast_oldest, slow_oldest = close[warm + 1 - fast :], close[warm + 1 - slow :]
    if is_exact:
        above = fast_sum * slow - slow_sum * fast
        for row in range(len(newest)):
            above += newest[row] * (slow - fast)
            wanted[row] = 1.0 if above > 0 else 0.0
            above -= fast_oldest[row] * slow - slow_oldest[row] * fast
        return
    for row in range(len(newest)):
        fast_sum += newest[row]
        slow_sum += newest[row]
        wanted[row] = 1.0 if fast_sum / fast_bars > slow_sum / slow_bars else 0.0
        fast_sum -= fast_oldest[row]
        slow_sum -= slow_oldest[row]


CROSSOVER: Final = KernelStrategy(
    params=CrossoverParams,
    step=_crossover_step,
    state=lambda params: np.zeros(2 * SUM + int(params[0]) + int(params[1])),
    lookback=lambda params: int(max(params[0], params[1])) - 1,
    column=_crossover_column,
)
"""All while fast > slow: the decisions of `bot/strategies/crossover.py`."""


class MeanReversionParams(msgspec.Struct, frozen=True, kw_only=True):
    """Bars of the z-score, and where to enter and leave."""

    window: int = 30
    entry_z: float = 1.5
    exit_z: float = 0.0


@bare_kernel
def _mean_reversion_step(params: Floats, state: Floats, bar: Floats) -> float:
    """`state` is [1.0 while in, a window of moments…]."""
    _, offset, spread = rolling_moments(state[1:], bar[CLOSE])
    if math.isnan(spread):
        return math.nan
    z = offset / math.sqrt(spread / int(params[0])) if spread > 0.0 else 0.0
    if z <= -params[1]:
        state[0] = 1.0
    elif z >= -params[2]:
        state[0] = 0.0
    return state[0]


def _mean_reversion_column(params: Floats, state: Floats, candles: Candles, shares: Floats) -> None:
    _mean_reversion_loop(params, state, candles.close, np.zeros(BAR), shares)


@bare_kernel
def _mean_reversion_loop(params: Floats, state: Floats, close: Ints, bar: Floats, shares: Floats) -> None:
    for row in range(len(shares)):
        bar[CLOSE] = close[row]
        shares[row] = _mean_reversion_step(params, state, bar)


MEAN_REVERSION: Final = KernelStrategy(
    params=MeanReversionParams,
    step=_mean_reversion_step,
    state=lambda params: np.zeros(1 + MOMENTS + 2 * int(params[0])),
    lookback=lambda params: int(params[0]) - 1,
    column=_mean_reversion_column,
)
"""In far below the average, out near it: the decisions of `bot/strategies/mean_reversion.py`."""
