"""Perpetual contracts: their sizes, fees, leverages and risk tiers, and markets turned into contracts.

One lot of a contract's `Instrument` is one contract, so `ctVal` is 10**-quantity_scale of the base coin and all of
the integer arithmetic of instruments holds: value = price_ticks x contracts, exactly, in atoms of USDT. Nothing here
knows of accounts or of the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from bot.core.instrument import Instrument
from bot.exchange.simulated.events import (
    BookChange,
    BookSnapshot,
    Level,
    MarketEvent,
    MarketSource,
    MarketTrade,
)
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import merge_sources

PPM: Final = 1_000_000
PERP: Final = "_PERP"
SETTLEMENT: Final = "USDT"
DEFAULT_SYMBOLS: Final = ("BTC_USDT", "ETH_USDT", "BTC_USDT_PERP")
"""What an exchange lists when it is not told; the SDK's helpers ask for the first and the last."""
CONTRACT_SCALES: Final = {"BTC": 3, "ETH": 2}
"""Decimals of one contract in its base coin: 0.001 BTC (the dossier's example), 0.01 ETH."""
CONTRACT_SCALE_DEFAULT: Final = 1
MAKER_FEE_PPM: Final = 200
TAKER_FEE_PPM: Final = 500
"""0.0005, the rate of the dossier's example."""
LEVERAGE_DEFAULT: Final = 20
PRICE_BAND_PPM: Final = 50_000
"""An order may lie this far on the wrong side of the mark price: `buyLmt`, `sellLmt`, `ordPxRange`."""


class RiskTier(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of positions up to `contracts_max`."""

    contracts_min: int
    contracts_max: int
    leverage_max: int
    maintenance_ppm: int


TIERS: Final = (
    RiskTier(contracts_min=0, contracts_max=40_000, leverage_max=75, maintenance_ppm=6_000),
    RiskTier(contracts_min=40_001, contracts_max=120_000, leverage_max=50, maintenance_ppm=10_000),
    RiskTier(contracts_min=120_001, contracts_max=400_000, leverage_max=20, maintenance_ppm=25_000),
    RiskTier(contracts_min=400_001, contracts_max=1_000_000, leverage_max=10, maintenance_ppm=50_000),
)


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One perpetual contract, linear and settled in USDT."""

    instrument: Instrument
    """One lot is one contract."""
    tiers: tuple[RiskTier, ...] = TIERS
    """Smallest first; each begins where the one before ends."""
    maker_fee_ppm: int = MAKER_FEE_PPM
    taker_fee_ppm: int = TAKER_FEE_PPM
    leverage_default: int = LEVERAGE_DEFAULT
    price_band_ppm: int = PRICE_BAND_PPM

    @property
    def symbol(self) -> str:
        """Return the contract's name, like BTC_USDT_PERP."""
        return self.instrument.symbol

    @property
    def leverage_max(self) -> int:
        """Return the highest leverage of its smallest tier."""
        return self.tiers[0].leverage_max

    @property
    def contracts_max(self) -> int:
        """Return the largest position."""
        return self.tiers[-1].contracts_max

    def order_max(self, *, is_market: bool) -> int:
        """Return the largest order: the instrument's bound, and never more than the largest position."""
        bound = self.instrument.lots_max(None if is_market else 1)
        return self.contracts_max if bound is None else min(bound, self.contracts_max)

    def value_atoms(self, price_ticks: int, contracts: int) -> int:
        """Return price x contracts x ctVal, exactly."""
        return self.instrument.notional_atoms(price_ticks, contracts)

    def tier(self, contracts: int) -> RiskTier:
        """Return the tier of a position of `contracts`, either direction; beyond the last one, the last."""
        size = abs(contracts)
        return next((tier for tier in self.tiers if size <= tier.contracts_max), self.tiers[-1])

    def contracts_at(self, leverage: int) -> int:
        """Return the largest position that may be held at `leverage`; 0 beyond `leverage_max`."""
        return max((tier.contracts_max for tier in self.tiers if leverage <= tier.leverage_max), default=0)

    def initial_margin_atoms(self, value_atoms: int, leverage: int) -> int:
        """Return the margin for `value_atoms`, rounded up: the exchange would rather have an atom too much."""
        return -(-value_atoms // leverage)

    def maintenance_margin_atoms(self, price_ticks: int, contracts: int) -> int:
        """Return what a position must be worth to live on, rounded up."""
        value = self.value_atoms(price_ticks, abs(contracts))
        return -(-value * self.tier(contracts).maintenance_ppm // PPM)


def perpetual(instrument: Instrument) -> Contract:
    """Return the contract on `instrument`'s coin, whatever that one's lots are."""
    scale = CONTRACT_SCALES.get(instrument.base, CONTRACT_SCALE_DEFAULT)
    return Contract(
        instrument=Instrument(
            symbol=perp_symbol(instrument.symbol),
            base=instrument.base,
            quote=instrument.quote,
            price_scale=instrument.price_scale,
            quantity_scale=scale,
            qty_lots_min=1,
            notional_atoms_min=0,
            limit_lots_max=_in_contracts(instrument.limit_lots_max, instrument, scale),
            market_lots_max=_in_contracts(instrument.market_lots_max, instrument, scale),
        )
    )


def _in_contracts(bound_lots: int, instrument: Instrument, scale: int) -> int:
    """Return a bound of `instrument` in contracts, rounded down to at least one; 0 stays none."""
    return max(bound_lots * 10**scale // 10**instrument.quantity_scale, 1) if bound_lots else 0


def is_perp(symbol: str) -> bool:
    """Return whether a symbol names a perpetual contract."""
    return symbol.endswith(PERP)


def perp_symbol(symbol: str) -> str:
    """Return the perpetual contract's name for a spot market's, and for its own."""
    return symbol if is_perp(symbol) else symbol + PERP


def spot_symbol(symbol: str) -> str:
    """Return the name of the spot market that a contract's index comes from."""
    return symbol.removesuffix(PERP)


def generated_perpetuals(spot_symbols: Iterable[str], seed: int, start_ns: int) -> ContractSource:
    """Return made-up contract markets that follow the made-up spot markets of the same seed, price by price.

    A random walk of its own would take a contract's price away from its coin's for ever; no arbitrageur lives here.
    """
    return ContractSource(GeneratedMarket(tuple(spot_symbols), seed, start_ns))


def generated_markets(symbols: Sequence[str], seed: int, start_ns: int) -> MarketSource:
    """Return made-up markets of `symbols`; those that end in `_PERP` are contracts that follow their coin.

    Raises:
        ValueError: as `GeneratedMarket` does.

    """
    if len(set(symbols)) < len(symbols):
        raise ValueError(f"symbols {list(symbols)} must be each once")
    spot = [symbol for symbol in symbols if not is_perp(symbol)]
    perps = [spot_symbol(symbol) for symbol in symbols if is_perp(symbol)]
    sources: list[MarketSource] = [GeneratedMarket(spot, seed, start_ns)] if spot or not perps else []
    if perps:
        sources.append(generated_perpetuals(perps, seed, start_ns))
    return merge_sources(sources)


class ContractSource:
    """A `MarketSource` of quantities in base coins, as one of contracts, under the contracts' names.

    A level or a trade of a part of a contract counts as one whole contract: what is there is never hidden.
    """

    def __init__(self, source: MarketSource) -> None:
        self.contracts = tuple(perpetual(instrument) for instrument in source.instruments)
        self.instruments = tuple(contract.instrument for contract in self.contracts)
        self.description = f"contracts on {source.description}"
        self.event_count = source.event_count
        self.first_ns = source.first_ns
        self._source = source
        self._converters = {
            instrument.symbol: Converter(instrument, contract)
            for instrument, contract in zip(source.instruments, self.contracts, strict=True)
        }

    def events(self) -> Iterator[MarketEvent]:
        """Return the source's events, in contracts."""
        converters = self._converters
        return (converters[event.symbol].contracts(event) for event in self._source.events())


class Converter:
    """Turns events of a market that counts in base coins into events of its contract."""

    def __init__(self, instrument: Instrument, contract: Contract) -> None:
        self._symbol = contract.symbol
        # Both are powers of ten: contracts = lots x up / down.
        shift = contract.instrument.quantity_scale - instrument.quantity_scale
        self._up, self._down = 10 ** max(shift, 0), 10 ** max(-shift, 0)

    def contracts(self, event: MarketEvent) -> MarketEvent:
        """Return `event` in contracts."""
        match event:
            case BookSnapshot(ts_ns=ts_ns, bids=bids, asks=asks):
                return BookSnapshot(ts_ns, self._symbol, self._levels(bids), self._levels(asks))
            case BookChange(ts_ns=ts_ns, bids=bids, asks=asks):
                return BookChange(ts_ns, self._symbol, self._levels(bids), self._levels(asks))
            case MarketTrade():
                size = self._size(event.qty_lots)
                return MarketTrade(event.ts_ns, self._symbol, event.trade_id, event.price_ticks, size, event.taker_side)

    def _levels(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        return tuple([(price, self._size(lots)) for price, lots in levels])

    def _size(self, lots: int) -> int:
        return -(-lots * self._up // self._down)
