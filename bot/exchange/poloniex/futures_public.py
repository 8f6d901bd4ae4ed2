"""The public data of futures as a feed asks for it: the same questions as of spot, answered in the same records."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Final

from bot.core.instrument import Instrument, scaled_down
from bot.errors import OffGrid
from bot.exchange.poloniex.codec import CANDLE_INTERVALS, MS_NS, Candle
from bot.exchange.poloniex.dialects import perpetual
from bot.exchange.poloniex.futures_client import CANDLES_MAX, FuturesClient
from bot.exchange.poloniex.futures_wire import CandleArray

log: Final = logging.getLogger(__name__)


class FuturesPublic:
    """Perpetuals by their symbols, and their candles."""

    def __init__(self, client: FuturesClient) -> None:
        self._client = client

    async def instruments(self) -> dict[str, Instrument]:
        """Return every perpetual by its symbol; those that we cannot hold exactly are left out."""
        found: dict[str, Instrument] = {}
        for listed in (await self._client.instruments()).values():
            try:
                found[listed.symbol] = perpetual(listed)
            except OffGrid as error:
                log.info("left out: %s", error)
        return found

    async def candles(
        self, instrument: Instrument, timeframe_ns: int, start_ns: int, end_ns: int, limit: int = CANDLES_MAX
    ) -> list[Candle]:
        """Return candles that start in `start_ns` <= t < `end_ns`, oldest first; the last may still run."""
        rows = await self._client.candles(
            instrument.symbol,
            CANDLE_INTERVALS[timeframe_ns],
            start_ms=start_ns // MS_NS,
            end_ms=end_ns // MS_NS,
            limit=min(limit, CANDLES_MAX),
        )
        return [_candle(row, instrument) for row in rows]


def _candle(row: CandleArray, instrument: Instrument) -> Candle:
    def ticks(price: Decimal) -> int:
        return scaled_down(f"{price:f}", instrument.price_scale)

    return Candle(
        start_ns=row.start_ms * MS_NS,
        open_ticks=ticks(row.open),
        high_ticks=ticks(row.high),
        low_ticks=ticks(row.low),
        close_ticks=ticks(row.close),
        volume_lots=int(row.contracts),
    )
