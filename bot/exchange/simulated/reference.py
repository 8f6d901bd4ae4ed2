"""Currencies, collateral and borrow rates: the public answers that clients load before they trade.

Made out of the listed markets. Source of the fields: the dossier's spot-rest.md, section 4. The values are examples:
nobody borrows here and no money leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from bot.exchange.simulated.replies import Shape
from bot.exchange.simulated.venue import Market, Venue

_KNOWN_IDS: Final = {"BTC": 28, "ETH": 267, "TRX": 283, "USDT": 214}
_FIRST_ID: Final = 1_000
WITHDRAWAL_FEE: Final = "0.001"
BORROW_TIER: Final = "TIER1"


class CurrencyRow(Shape, frozen=True, kw_only=True):
    """A currency, as `/currencies` shows it."""

    id: int
    name: str
    description: str = "Simulated"
    type: str = "address"
    withdrawal_fee: str = WITHDRAWAL_FEE
    min_conf: int = 1
    deposit_address: str | None = None
    blockchain: str
    delisted: bool = False
    trading_state: str = "NORMAL"
    wallet_state: str = "DISABLED"
    wallet_deposit_state: str = "DISABLED"
    wallet_withdrawal_state: str = "DISABLED"
    parent_chain: str | None = None
    is_multi_chain: bool = False
    is_child_chain: bool = False
    child_chains: tuple[str, ...] = ()
    support_collateral: bool = True
    support_borrow: bool = False


class _NetworkRow(Shape, frozen=True, kw_only=True):
    id: int
    coin: str
    name: str
    currency_type: str = "address"
    blockchain: str
    """ccxt asks for an address by this name, not by the coin's, so it must be a currency: the coin's own chain."""
    withdrawal_enable: bool = False
    deposit_enable: bool = False
    deposit_address: str | None = None
    withdraw_min: str | None = None
    decimals: int = 12
    withdraw_fee: str = WITHDRAWAL_FEE
    min_confirm: int = 1
    contract_address: str | None = None


class CoinRow(Shape, frozen=True, kw_only=True):
    """A currency, as `/v2/currencies` shows it."""

    id: int
    coin: str
    delisted: bool = False
    trade_enable: bool = True
    name: str
    network_list: tuple[_NetworkRow, ...]
    support_collateral: bool = True
    support_borrow: bool = False


class CollateralRow(Shape, frozen=True, kw_only=True):
    """What a currency is worth as collateral."""

    currency: str
    collateral_rate: str = "0.95"
    initial_margin_rate: str = "0.2"
    maintenance_margin_rate: str = "0.05"


class _BorrowRate(Shape, frozen=True, kw_only=True):
    currency: str
    daily_borrow_rate: str = "0.0012"
    hourly_borrow_rate: str = "0.00005"
    borrow_limit: str = "0"


class BorrowTier(Shape, frozen=True, kw_only=True):
    """Borrow rates of one tier of clients."""

    tier: str = BORROW_TIER
    rates: tuple[_BorrowRate, ...]


class _MarkComponent(Shape, frozen=True, kw_only=True):
    symbol: str
    symbol_price: str
    weight: str = "1"
    convert_price: str
    exchange: str = "POLONIEX"


class MarkComponents(Shape, frozen=True, kw_only=True):
    """What a mark price is made of: here, of our own market alone."""

    symbol: str
    mark_price: str
    ts: int
    components: tuple[_MarkComponent, ...]


def currencies(venue: Venue) -> list[str]:
    """Return every currency of the listed markets, each once."""
    pairs = [(market.instrument.base, market.instrument.quote) for market in venue.markets.values()]
    return list(dict.fromkeys(name for pair in pairs for name in pair))


def currency_id(currency: str) -> int:
    """Return the id of a currency, the same for ever."""
    digest = int.from_bytes(sha256(currency.encode()).digest()[:3])
    return _KNOWN_IDS.get(currency, _FIRST_ID + digest)


def currency_row(currency: str) -> dict[str, CurrencyRow]:
    """Return a currency as an object of one key, its name."""
    return {currency: CurrencyRow(id=currency_id(currency), name=currency, blockchain=currency)}


def coin_row(currency: str) -> CoinRow:
    """Return a currency with its networks."""
    number = currency_id(currency)
    network = _NetworkRow(id=number, coin=currency, name=currency, blockchain=currency)
    return CoinRow(id=number, coin=currency, name=currency, network_list=(network,))


def borrow_tiers(names: Iterable[str]) -> list[BorrowTier]:
    """Return the only tier that there is."""
    return [BorrowTier(rates=tuple(_BorrowRate(currency=name) for name in names))]


def mark_components(venue: Venue, market: Market) -> MarkComponents:
    """Return what a market's mark price is made of."""
    mark_price, symbol = market.price_texts[market.mark_ticks], market.instrument.symbol
    component = _MarkComponent(symbol=symbol, symbol_price=mark_price, convert_price=mark_price)
    return MarkComponents(symbol=symbol, mark_price=mark_price, ts=venue.time_ms, components=(component,))
