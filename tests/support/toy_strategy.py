"""A crossover as a `Definition`, and the plainest simulation of one: for tests of what runs strategies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bot.backtest.base import Fills, Outcome, Run
from bot.backtest.space import Value
from bot.core import tactics
from bot.core.instrument import ATOMS, Instrument
from bot.core.messages import Bar
from bot.errors import SettingsError
from bot.strategies.advice import Advice, AdviceRow, Adviser, Ints, Market
from tests.support.one_pass import averages


@dataclass(frozen=True)
class ToyCrossover:
    fast: int
    slow: int
    timeframe_ns: int
    watches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise SettingsError(f"fast = {self.fast} must be less than slow = {self.slow}")

    @property
    def terms(self) -> Ints:
        terms = np.zeros(tactics.TERMS, np.int64)
        terms[tactics.SIZING] = tactics.SIZE_SHARE
        return terms

    @property
    def lookback_bars(self) -> int:
        return self.slow

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        return _ToyAdviser(self)

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        close = markets[symbol].candles.close
        fast, slow = averages(close, self.fast), averages(close, self.slow)
        flags = np.where(fast > slow, tactics.ENTER_LONG, tactics.EXIT_LONG).astype(np.uint8)
        flags[: self.slow - 1] = 0
        one, none = np.full(1, 1_000_000), np.zeros(1, np.int64)
        return Advice(flags, one, none, none, none)


class _ToyAdviser:
    def __init__(self, settings: ToyCrossover) -> None:
        self._settings = settings
        self._closes: list[int] = []

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        self._closes.append(bar.close_ticks)
        fast, slow = (sum(self._closes[-window:]) / window for window in (self._settings.fast, self._settings.slow))
        if len(self._closes) < self._settings.slow:
            return None
        return AdviceRow(tactics.ENTER_LONG if fast > slow else tactics.EXIT_LONG, 1_000_000, 0, 0, 0)

    def hear(self, bar: Bar) -> None:
        raise AssertionError("it watches nothing")


def make_toy(named: Mapping[str, Value]) -> ToyCrossover:
    return ToyCrossover(int(named["fast"]), int(named["slow"]), timeframe_ns=86_400 * 10**9)


def simulate_toy(run: Run) -> Outcome:
    """All in at the next open after `ENTER_LONG`, out after `EXIT_LONG`; whole lots, fee in quote."""
    market = run.markets[0]
    instrument, candles = market.instrument, market.candles
    unit = 10.0 ** (instrument.price_scale + instrument.quantity_scale)
    fee = run.terms.taker_fee_ppm / 1e6
    flags = run.definition.advise(instrument.symbol, {instrument.symbol: market}).flags
    cash, lots = run.terms.cash_atoms / ATOMS, 0
    equity = np.full(len(candles.close), cash)
    rows: list[tuple[int, int, int, float]] = []
    for i in range(1, len(equity)):
        price = int(candles.open[i])
        change = 0
        if flags[i - 1] & tactics.ENTER_LONG and lots == 0:
            change = int(cash / (price / unit * (1 + fee)))
        elif flags[i - 1] & tactics.EXIT_LONG:
            change = -lots
        if change:
            paid = abs(change) * price / unit * fee
            cash -= change * price / unit + paid
            lots += change
            rows.append((i, price, change, paid))
        equity[i] = cash + lots * int(candles.close[i]) / unit
    table = np.array(rows, np.float64).reshape(len(rows), 4)
    zeros = np.zeros(len(rows), np.int64)
    step, price_column, lots_column = table[:, :3].astype(np.int64).T
    return Outcome(
        symbols=(instrument.symbol,),
        instruments=(instrument,),
        time_ns=candles.start_ns,
        timeframe_ns=market.timeframe_ns,
        equity=equity,
        exposure=np.zeros(len(equity)),
        fills=Fills(step, zeros, price_column, lots_column, table[:, 3], zeros, zeros),
        funding=np.zeros(1),
        denied={},
        cash=run.terms.cash_atoms / ATOMS,
        final_lots=(lots,),
    )
