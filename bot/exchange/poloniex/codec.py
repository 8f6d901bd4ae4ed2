"""Reading what Poloniex says and writing what we ask. Any bytes give a typed value or `BadReply`.

It knows the shapes in `wire`, not connections, books or what a strategy makes of a price.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import msgspec

from bot.core.instrument import ATOM_SCALE, Instrument, scaled, scaled_down
from bot.core.messages import SECOND_NS
from bot.core.text import safe_text
from bot.errors import BadReply, OffGrid
from bot.exchange.poloniex import wire

MS_NS: Final = 1_000_000
PING: Final = '{"event":"ping"}'
TEXT_LENGTH_MAX: Final = 200
NAME_LENGTH_MAX: Final = 64

T = TypeVar("T")

UNREADABLE: Final = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for bytes that are no JSON of the right shape (bad UTF-8 is a ValueError)."""


# --- timeframes


class Timeframe(NamedTuple):
    """A length of candles and its two names at the exchange."""

    timeframe_ns: int
    channel: str
    interval: str


def _timeframe(unit: str, count: int, unit_s: int) -> Timeframe:
    return Timeframe(count * unit_s * SECOND_NS, f"candles_{unit}_{count}", f"{unit.upper()}_{count}")


TIMEFRAMES: Final = (
    *(_timeframe("minute", count, 60) for count in (1, 5, 10, 15, 30)),
    *(_timeframe("hour", count, 3600) for count in (1, 2, 4, 6, 12)),
    *(_timeframe("day", count, 86400) for count in (1, 3)),
    _timeframe("week", 1, 604800),
)
"""All that the exchange has, but for the month, which has no fixed length."""

CANDLE_CHANNELS: Final = {row.timeframe_ns: row.channel for row in TIMEFRAMES}
CANDLE_INTERVALS: Final = {row.timeframe_ns: row.interval for row in TIMEFRAMES}
TIMEFRAMES_NS: Final = {row.channel: row.timeframe_ns for row in TIMEFRAMES}
"""Channel to timeframe, in nanoseconds."""


# --- WebSocket: what we send


def subscribe_text(channels: Iterable[str], symbols: Iterable[str]) -> str:
    """Return the request for some channels of some symbols, in compact JSON."""
    return _request_text(wire.Request(event="subscribe", channel=list(channels), symbols=list(symbols)))


def unsubscribe_text(channels: Iterable[str], symbols: Iterable[str]) -> str:
    """Return the request that ends what `subscribe_text` began."""
    return _request_text(wire.Request(event="unsubscribe", channel=list(channels), symbols=list(symbols)))


def _request_text(request: wire.Request) -> str:
    return msgspec.json.encode(request).decode()


# --- WebSocket: what we receive

# Not strict: numbers may come as text.
_hot: Final = msgspec.json.Decoder(wire.BookFrame | wire.TradesFrame | wire.TickerFrame, strict=False)
_envelope: Final = msgspec.json.Decoder(wire.Envelope)
_candles: Final = msgspec.json.Decoder(list[wire.CandleRow], strict=False)


def decode_frame(raw: bytes) -> wire.Frame:
    """Return a frame of the public WebSocket.

    Raises:
        BadReply: `raw` is not JSON, or is a frame of a known kind with a field missing or out of its bounds.

    """
    try:
        return _hot.decode(raw)  # books and trades: one pass
    except UNREADABLE as error:
        return _decode_rare(raw, error)


def _decode_rare(raw: bytes, hot_error: Exception) -> wire.Frame:
    """Return a frame that is not one of the hot channels' data; `hot_error` says what was wrong if it is."""
    envelope = _decode(_envelope, raw)
    symbols = tuple(envelope.symbols or ())
    match envelope.event:
        case "":
            return _decode_rare_data(raw, envelope, hot_error)
        case "pong":
            return wire.Pong()
        case "subscribe":
            return wire.Subscribed(channel=envelope.channel, symbols=symbols)
        case "unsubscribe":
            return wire.Unsubscribed(channel=envelope.channel, symbols=symbols)
        case "error":
            return wire.Refused(message=safe_text(envelope.message, TEXT_LENGTH_MAX))
        case _:
            return wire.Other(name=safe_text(envelope.event, NAME_LENGTH_MAX))


def _decode_rare_data(raw: bytes, envelope: wire.Envelope, hot_error: Exception) -> wire.Frame:
    channel = envelope.channel
    if channel in TIMEFRAMES_NS:
        rows = _decode(_candles, envelope.data)
        return wire.CandlesFrame(timeframe_ns=TIMEFRAMES_NS[channel], data=rows)
    if channel in {"book_lv2", "trades", "ticker"}:
        raise _bad(hot_error, raw) from hot_error
    if not channel:
        raise BadReply("a frame with neither event nor channel", raw)
    return wire.Other(name=safe_text(channel, NAME_LENGTH_MAX))


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        raise _bad(error, bytes(raw)) from error


def _bad(error: Exception, raw: bytes) -> BadReply:
    # msgspec quotes tags and keys of the frame in its message.
    return BadReply(safe_text(str(error), TEXT_LENGTH_MAX), raw)


# --- REST


class Candle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One candle in the steps of its instrument; low <= open, close <= high."""

    start_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume_lots: int


_timestamp: Final = msgspec.json.Decoder(wire.TimestampReply, strict=False)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_market: Final = msgspec.json.Decoder(wire.MarketRow, strict=False)
_candle_arrays: Final = msgspec.json.Decoder(list[wire.CandleArray], strict=False)
_error: Final = msgspec.json.Decoder(wire.ErrorReply, strict=False)

_NORMAL: Final = "NORMAL"
_POST_ONLY: Final = "POST_ONLY"
"""The states of a market in which it takes orders; in all others we take it for closed."""


def decode_timestamp(body: bytes) -> int:
    """Return the exchange's time in nanoseconds, from GET /timestamp."""
    return _decode(_timestamp, body).server_time * MS_NS


def decode_markets(body: bytes) -> list[Instrument]:
    """Return the markets of GET /markets that we can hold exactly.

    One that we cannot read is left out, so that a novelty in one market does not stop the others; to
    those who trade it, it is not listed.

    Raises:
        BadReply: not a list, or not one readable market in it.

    """
    rows = _decode(_rows, body)
    instruments: list[Instrument] = []
    error: BadReply | OffGrid | None = None
    for row in rows:
        try:
            instruments.append(_instrument(_decode(_market, row)))
        except (BadReply, OffGrid) as bad:
            error = bad
    if error is not None and not instruments:
        raise BadReply("no readable market", body) from error
    return instruments


def _instrument(market: wire.MarketRow) -> Instrument:
    limit = market.symbol_trade_limit
    lot_atoms = 10 ** max(ATOM_SCALE - limit.quantity_scale, 0)
    lots_max = _at_least_one(scaled_down(limit.max_quantity, ATOM_SCALE), lot_atoms)
    return Instrument(
        symbol=market.symbol,
        base=market.base_currency_name,
        quote=market.quote_currency_name,
        price_scale=limit.price_scale,
        quantity_scale=limit.quantity_scale,
        # A minimum between two lots is rounded up: the order below it would be refused.
        qty_lots_min=max(1, -(-scaled(limit.min_quantity, ATOM_SCALE) // lot_atoms)),
        notional_atoms_min=scaled(limit.min_amount, ATOM_SCALE),
        is_open=market.state in (_NORMAL, _POST_ONLY),
        is_post_only=market.state == _POST_ONLY,
        limit_lots_max=lots_max,
        market_lots_max=lots_max,
        notional_atoms_max=scaled_down(limit.max_amount, ATOM_SCALE),
    )


def _at_least_one(bound_atoms: int, lot_atoms: int) -> int:
    """Return a bound in lots, rounded down; 0 is none, and one of less than a lot does not become none."""
    return max(bound_atoms // lot_atoms, 1) if bound_atoms else 0


def decode_candles(body: bytes, instrument: Instrument, timeframe_ns: int) -> list[Candle]:
    """Return the candles of GET /markets/{symbol}/candles, oldest first; the last one may still be running.

    Old candles may have finer steps than today's: what is finer is cut off.

    Raises:
        BadReply: unreadable, of another interval, two of one time, or a price outside its own candle.

    """
    arrays = _decode(_candle_arrays, body)
    candles = sorted((_candle(row, instrument, timeframe_ns) for row in arrays), key=lambda candle: candle.start_ns)
    for before, after in pairwise(candles):
        if after.start_ns < before.start_ns + timeframe_ns:
            raise BadReply(f"{instrument.symbol}: two candles within {timeframe_ns // SECOND_NS} s", body)
    return candles


def _candle(row: wire.CandleArray, instrument: Instrument, timeframe_ns: int) -> Candle:
    candle = Candle(
        start_ns=row.start_ms * MS_NS,
        open_ticks=scaled_down(row.open, instrument.price_scale),
        high_ticks=scaled_down(row.high, instrument.price_scale),
        low_ticks=scaled_down(row.low, instrument.price_scale),
        close_ticks=scaled_down(row.close, instrument.price_scale),
        volume_lots=scaled_down(row.quantity, instrument.quantity_scale),
    )
    if row.interval != CANDLE_INTERVALS[timeframe_ns]:
        raise BadReply(f"{instrument.symbol}: not {CANDLE_INTERVALS[timeframe_ns]} candles", row.interval)
    if not candle.low_ticks <= min(candle.open_ticks, candle.close_ticks):
        raise BadReply(f"{instrument.symbol}: the low of a candle is not its lowest price", repr(row))
    if not candle.high_ticks >= max(candle.open_ticks, candle.close_ticks):
        raise BadReply(f"{instrument.symbol}: the high of a candle is not its highest price", repr(row))
    return candle


def decode_error(body: bytes) -> str:
    """Return code and text of an answer other than 200, or its beginning; fit for a terminal."""
    try:
        reply = _error.decode(body)
    except UNREADABLE:
        return safe_text(body[: 2 * TEXT_LENGTH_MAX].decode(errors="replace"), TEXT_LENGTH_MAX)
    return f"code {reply.code}: {safe_text(reply.message, TEXT_LENGTH_MAX)}"
