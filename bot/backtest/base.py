"""One backtest: all that it needs, and what came of it. `docs/candle-model.md` says what a run assumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from bot.core.instrument import Instrument
from bot.errors import DataError, SettingsError
from bot.strategies.advice import Definition, Floats, Ints, Market


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the candle market charges and allows."""

    cash_atoms: int
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    slippage: Literal["none", "fixed", "spread", "volume"] = "none"
    slippage_ppm: int = 0
    """Of the price, for `fixed`; for `volume` the impact of a fill as large as the bar's volume."""
    half_spread_ticks: int = 0
    latency_ns: int = 0
    volume_share_ppm: int = 0
    """Of a bar's volume, 0: no bound."""
    leverage: int = 1
    maintenance_ppm: int = 5_000
    liquidation_fee_ppm: int = 5_000


ROLES: tuple[str, ...] = ("trade", "stop", "profit", "liquidation")


class Fills(NamedTuple):
    """Every fill in order; columns of shape (k,)."""

    step: Ints
    """Index into `Outcome.time_ns`."""
    symbol: Ints
    """Index into `Outcome.symbols`."""
    price: Ints
    lots: Ints
    """Signed."""
    fee: Floats
    """In quote currency; one taken in coins is valued at the fill's price."""
    role: Ints
    """Index into `ROLES`."""
    is_maker: Ints


class Outcome(NamedTuple):
    """What came of a run."""

    symbols: tuple[str, ...]
    instruments: tuple[Instrument, ...]
    time_ns: Ints
    """Steps: start of each base bar."""
    timeframe_ns: int
    equity: Floats
    """Quote currency after each step, shape of `time_ns`."""
    exposure: Floats
    """Sum of |position values| after each step, in quote currency."""
    fills: Fills
    funding: Floats
    """Quote currency paid in funding so far, after each step; shape (1,) of 0.0 without perpetuals."""
    denied: Mapping[str, int]
    """Code of a refusal to how often: of the gate, and of the exchange."""
    cash: float
    """At the start."""
    final_lots: tuple[int, ...]
    """Held at the end, by symbol."""


class Run(NamedTuple):
    """All that one backtest needs."""

    definition: Definition
    markets: Sequence[Market]
    """In the order of listing."""
    terms: Terms


def check_markets(markets: Sequence[Market]) -> None:
    """Raise DataError for markets that cannot be played together."""
    if not markets or any(len(market.candles.start_ns) == 0 for market in markets):
        raise DataError("a backtest needs a market, and a bar of each")
    first = markets[0]
    for market in markets[1:]:
        symbol = market.instrument.symbol
        if market.timeframe_ns != first.timeframe_ns:
            raise DataError(
                f"{symbol}: bars of {market.timeframe_ns} ns beside bars of {first.timeframe_ns} ns "
                f"of {first.instrument.symbol}; all must have one length"
            )
        if market.instrument.quote != first.instrument.quote:
            raise DataError(
                f"{symbol}: is paid in {market.instrument.quote}, {first.instrument.symbol} in "
                f"{first.instrument.quote}; one account has one quote currency"
            )
    symbols = [market.instrument.symbol for market in markets]
    if len(set(symbols)) < len(symbols):
        raise DataError(f"a symbol is there twice: {', '.join(symbols)}")


def check_latency(terms: Terms, timeframe_ns: int) -> None:
    """Raise SettingsError for a latency that no bar is long enough for."""
    if not 0 <= terms.latency_ns < timeframe_ns:
        raise SettingsError(f"latency {terms.latency_ns} ns must be at least 0 and less than a bar, {timeframe_ns} ns")
