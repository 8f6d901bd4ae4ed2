"""How the two wings of the exchange say the same things on their public sockets: a feed speaks either dialect.

Futures frames become spot frames where they mean the same; sizes are contracts, and one contract is one lot. Only what
spot does not know, mark prices and funding, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from bot.core.instrument import ATOM_SCALE, Instrument
from bot.errors import OffGrid
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import CANDLE_INTERVALS, decode_frame
from bot.exchange.poloniex.futures_codec import FuturesInstrument
from bot.exchange.poloniex.private_codec import decode_futures_public

BOOK: Final = "book_lv2"
TRADES: Final = "trades"
TICKER: Final = "ticker"
MARK_PRICE: Final = "mark_price"
FUNDING_RATE: Final = "funding_rate"
_TIMEFRAMES: Final = {interval: timeframe_ns for timeframe_ns, interval in CANDLE_INTERVALS.items()}

MarketFrame = wire.Frame | pw.MarkPriceFrame | pw.FundingFrame


@dataclass(frozen=True, slots=True)
class Dialect:
    """What to subscribe to beside candles, and how to read it."""

    channels: tuple[str, ...]
    decode: Callable[[bytes], MarketFrame]


def decode_futures_market(raw: bytes) -> MarketFrame:
    """Return a frame of the public futures socket, as spot would say it. Raises `BadReply`."""
    frame = decode_futures_public(raw)
    match frame:
        case pw.FuturesBookFrame():
            return wire.BookFrame(action=frame.action, data=[_book_row(row) for row in frame.data])
        case pw.FuturesTradesFrame():
            return wire.TradesFrame(data=[_trade_row(row) for row in frame.data])
        case pw.FuturesCandlesFrame():
            timeframe_ns = _TIMEFRAMES.get(frame.interval)
            if timeframe_ns is None:
                return wire.Other(name=frame.interval)
            return wire.CandlesFrame(timeframe_ns=timeframe_ns, data=[_candle_row(row) for row in frame.data])
        case (
            pw.MarkPriceFrame()
            | pw.FundingFrame()
            | wire.Subscribed()
            | wire.Unsubscribed()
            | wire.Refused()
            | wire.Pong()
            | wire.Other()
        ):
            return frame
        case _:
            return wire.Other(name=type(frame).__name__)


SPOT: Final = Dialect((BOOK, TRADES, TICKER), decode_frame)
FUTURES: Final = Dialect((BOOK, TRADES, MARK_PRICE, FUNDING_RATE), decode_futures_market)


def perpetual(listed: FuturesInstrument) -> Instrument:
    """Return a contract as an instrument whose lot is one contract.

    Raises:
        OffGrid: a step of it is not a power of ten below an atom and up to one coin, or a lot is several contracts.

    """
    if listed.lot_contracts != 1:
        raise OffGrid(f"{listed.symbol}: a lot of {listed.lot_contracts} contracts; only lots of 1 are known here")
    return Instrument(
        symbol=listed.symbol,
        base=listed.base,
        quote=listed.quote,
        price_scale=_scale(listed.symbol, "tick size", listed.tick_size),
        quantity_scale=_scale(listed.symbol, "contract value", listed.contract_value),
        qty_lots_min=max(int(listed.contracts_min), 1),
        notional_atoms_min=0,
        is_open=listed.is_open,
        is_perp=True,
        limit_lots_max=listed.limit_contracts_max or 0,
        market_lots_max=listed.market_contracts_max or 0,
    )


def _scale(symbol: str, name: str, step: Decimal) -> int:
    scale = -step.adjusted()
    if not 0 <= scale <= ATOM_SCALE or step.scaleb(scale) != 1:
        raise OffGrid(f"{symbol}: a {name} of {step}, which is no power of ten from 1 down to 1e-{ATOM_SCALE}")
    return scale


def _book_row(row: pw.FuturesBookRow) -> wire.BookRow:
    return wire.BookRow(
        symbol=row.symbol, bids=row.bids, asks=row.asks, id=row.id, last_id=row.last_id, ts_ms=row.ts_ms
    )


def _trade_row(row: pw.FuturesTradeRow) -> wire.TradeRow:
    return wire.TradeRow(
        symbol=row.symbol,
        id=row.trade_id,
        # Contracts are lots: `MarketData` is told so by an instrument that counts lots, not coins.
        price=row.price,
        quantity=row.contracts,
        taker_side="BUY" if row.side.sign > 0 else "SELL",
        created_ms=row.created_ms,
        ts_ms=row.ts_ms,
    )


def _candle_row(row: pw.FuturesCandleRow) -> wire.CandleRow:
    return wire.CandleRow(
        symbol=row.symbol,
        open=_text(row.open),
        high=_text(row.high),
        low=_text(row.low),
        close=_text(row.close),
        quantity=_text(row.contracts),
        amount=_text(row.amount),
        start_ms=row.start_ms,
        close_ms=row.close_ms,
        ts_ms=row.ts_ms,
    )


def _text(value: Decimal) -> str:
    return f"{value:f}"


def counting_contracts(instrument: Instrument) -> Instrument:
    """Return how quantities of `instrument` are written in market data: a perpetual's are whole contracts."""
    return msgspec.structs.replace(instrument, quantity_scale=0) if instrument.is_perp else instrument
