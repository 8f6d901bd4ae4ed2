"""Poloniex's public REST calls, as typed reads that try again. Nothing here changes anything at the exchange.

It knows which answers are worth another try; connections are `transport`, reading replies is `codec`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import trio

from bot.core.instrument import Instrument
from bot.errors import ConnectionLost, RateLimited, ReadRefused
from bot.exchange.network import HttpPort
from bot.exchange.poloniex.codec import (
    CANDLE_INTERVALS,
    MS_NS,
    Candle,
    decode_candles,
    decode_error,
    decode_markets,
    decode_timestamp,
)
from bot.exchange.poloniex.spot_codec import decode_refusal
from bot.exchange.transport import HTTP_TOO_MANY_REQUESTS, Backoff, Response

TRIES: Final = 5
CANDLES_MAX: Final = 500
"""Most candles that the exchange returns at once (24104)."""
HTTP_OK: Final = 200
HTTP_REQUEST_TIMEOUT: Final = 408
HTTP_SERVER_ERRORS: Final = range(500, 600)
READ_BACKOFF: Final = Backoff(0.25, 8.0, random.random)

T = TypeVar("T")


class _TryAgainError(ReadRefused):
    """The exchange could not answer now: worth another try."""


class PublicClient:
    """The exchange's public data. Every read is tried `tries` times in all; then the last error goes up.

    That is `ConnectionLost`, `RateLimited`, or a `ReadRefused` that names status, code and text. Any other
    refusal, and a `BadReply`, goes up at once.
    """

    def __init__(self, http: HttpPort, *, tries: int = TRIES, backoff: Backoff = READ_BACKOFF) -> None:
        assert tries >= 1
        self._http = http
        self._tries = tries
        self._backoff = backoff

    async def server_time_ns(self) -> int:
        """Return the exchange's time."""
        return decode_timestamp(await self._read("/timestamp"))

    async def instruments(self) -> dict[str, Instrument]:
        """Return every market by its symbol; those that we cannot hold exactly are left out."""
        return {instrument.symbol: instrument for instrument in decode_markets(await self._read("/markets"))}

    async def candles(
        self, instrument: Instrument, timeframe_ns: int, start_ns: int, end_ns: int, limit: int = CANDLES_MAX
    ) -> list[Candle]:
        """Return candles that start in `start_ns` <= t < `end_ns`, oldest first; the last may still run.

        `timeframe_ns` is one of `CANDLE_INTERVALS`. When there are more than `limit` (at most
        `CANDLES_MAX`), it is not known which end the exchange leaves out, so ask for ranges that fit.
        """
        assert 1 <= limit <= CANDLES_MAX
        params = {
            "interval": CANDLE_INTERVALS[timeframe_ns],
            "limit": limit,
            "startTime": start_ns // MS_NS,
            "endTime": end_ns // MS_NS,
        }
        body = await self._read(f"/markets/{instrument.symbol}/candles", params)
        candles = decode_candles(body, instrument, timeframe_ns)
        return [candle for candle in candles if start_ns <= candle.start_ns < end_ns]

    async def _read(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        """Return the body of a good answer to GET `path`."""

        async def once() -> bytes:
            return good_body(f"GET {path}", await self._http.get(path, params))

        return await try_again(once, self._tries, self._backoff)


async def try_again(read: Callable[[], Awaitable[T]], tries: int, backoff: Backoff) -> T:
    """Return what `read` returns, tried `tries` times in all where its failure may pass."""
    for attempt in range(tries - 1):
        try:
            return await read()
        except (ConnectionLost, RateLimited, _TryAgainError) as error:
            await trio.sleep(backoff.delay_after(error, attempt))
    return await read()


def good_body(what: str, response: Response) -> bytes:
    """Return the body of a good answer to `what`; raise what another one means."""
    if response.status == HTTP_OK:
        return response.body
    message = f"{what}: status {response.status}, {decode_error(response.body)}"
    if response.status == HTTP_TOO_MANY_REQUESTS:
        raise RateLimited(message, response.retry_after_s)
    code = decode_refusal(response.body).code
    if response.status in HTTP_SERVER_ERRORS or response.status == HTTP_REQUEST_TIMEOUT:
        raise _TryAgainError(message, status=response.status, code=code)
    raise ReadRefused(message, status=response.status, code=code)
