"""Contracts as the exchange lists them: `/v3/market/allInstruments`, `/v3/market/riskLimit` and the channel `symbol`.

Source: the dossier's futures-rest.md, section 3. All of a contract's numbers come from its `Contract`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.instrument import decimal_of
from bot.exchange.simulated.futures_instruments import PPM, SETTLEMENT, Contract
from bot.exchange.simulated.futures_positions import MarginMode
from bot.exchange.simulated.venue import plain

LISTED_MS: Final = "1659259389000"
"""2022-07-31: all of our markets are as old as the real exchange's present ones."""
SCALE_STEPS: Final = 4
"""Steps of aggregation that are offered, each ten times the one before."""
PPM_SCALE: Final = 6
PRICE_DIGITS: Final = 9
"""Digits of the highest price, before the point."""


class InstrumentRow(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """One contract; keys in the exchange's order."""

    symbol: str
    b_asset: str
    b_ccy: str
    q_ccy: str
    visible_start_time: str
    tradable_start_time: str
    s_ccy: str
    t_sz: str
    px_scale: str
    lot_sz: str
    min_sz: str
    ct_val: str
    status: str
    o_date: str
    max_px: str
    min_px: str
    max_qty: str
    min_qty: str
    max_lever: str
    lever: str
    ct_type: str
    alias: str
    i_m: str
    m_m: str
    m_r: str
    buy_lmt: str
    sell_lmt: str
    ord_px_range: str
    market_max_qty: str
    limit_max_qty: str
    t_fee: str
    m_fee: str


class RiskLimitRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tier of a contract."""

    symbol: str
    mgn_mode: str = msgspec.field(name="mgnMode")
    tier: str
    max_lever: str = msgspec.field(name="maxLever")
    maintenance_ratio: str = msgspec.field(name="mMRatio")
    max_size: str = msgspec.field(name="maxSize")
    min_size: str = msgspec.field(name="minSize")


def listing(contract: Contract) -> InstrumentRow:
    """Return a contract as it is listed."""
    instrument, smallest = contract.instrument, contract.tiers[0]
    tick = plain(1, instrument.price_scale)
    most = str(contract.contracts_max)
    band = plain(contract.price_band_ppm, PPM_SCALE)
    return InstrumentRow(
        symbol=contract.symbol,
        b_asset=f".PX{instrument.base}{instrument.quote}",
        b_ccy=instrument.base,
        q_ccy=instrument.quote,
        visible_start_time=LISTED_MS,
        tradable_start_time=LISTED_MS,
        s_ccy=SETTLEMENT,
        t_sz=tick,
        px_scale=",".join(f"{decimal_of(10**step, instrument.price_scale):f}" for step in range(SCALE_STEPS)),
        lot_sz="1",
        min_sz=str(instrument.qty_lots_min),
        ct_val=plain(1, instrument.quantity_scale),
        status="OPEN" if instrument.is_open else "PAUSE",
        o_date=LISTED_MS,
        max_px=str(10**PRICE_DIGITS),
        min_px=tick,
        max_qty=most,
        min_qty=str(instrument.qty_lots_min),
        max_lever=str(contract.leverage_max),
        lever=str(contract.leverage_default),
        ct_type="LINEAR",
        alias="",  # anything else makes ccxt take it for a dated future
        i_m=plain(-(-PPM // contract.leverage_max), PPM_SCALE),
        m_m=plain(smallest.maintenance_ppm, PPM_SCALE),
        m_r=most,
        buy_lmt=band,
        sell_lmt=band,
        ord_px_range=band,
        market_max_qty=str(contract.order_max(is_market=True)),
        limit_max_qty=str(contract.order_max(is_market=False)),
        t_fee=plain(contract.taker_fee_ppm, PPM_SCALE),
        m_fee=plain(contract.maker_fee_ppm, PPM_SCALE),
    )


def risk_limits(contract: Contract, modes: tuple[MarginMode, ...] = tuple(MarginMode)) -> list[RiskLimitRow]:
    """Return the tiers of a contract, smallest first, for each margin mode."""
    return [
        RiskLimitRow(
            symbol=contract.symbol,
            mgn_mode=mode,
            tier=str(number),
            max_lever=str(tier.leverage_max),
            maintenance_ratio=plain(tier.maintenance_ppm, PPM_SCALE),
            max_size=str(tier.contracts_max),
            min_size=str(tier.contracts_min),
        )
        for mode in modes
        for number, tier in enumerate(contract.tiers, start=1)
    ]
