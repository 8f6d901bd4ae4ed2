"""One drawing of each kind of fault, from random numbers of its own: what a swarm picks from.

Rates are tuned to the timeouts of the bot (faults.md 3.6): delays of 1.2 to 12 s around requests that may take 2 to
10 s and signatures that live 5 s; silences longer than the patience of the feed; outages that end before the healing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from actors.simulation import outages as o
from bot.exchange.simulated import faults as f

Draw = Callable[[Random, float, float], f.FaultEvent]
"""Makes an event out of chance, the beginning of its window and the length of its window, in seconds."""
DrawOutage = Callable[[Random, float, float], o.Outage]
"""The same, of what the exchange has no part in."""

_ORDER_PATHS: Final = ("/orders", "/v3/trade/order", "")
_PRIVATE_CHANNELS: Final = ("orders", "balances", "positions", "trade", "account", "answers", "")
_PUBLIC_CHANNELS: Final = ("book_lv2", "trades", "ticker", "mark_price", "")
_ENDS: Final[tuple[f.Ending, ...]] = ("close", "reset", "silence")
_SPIKES: Final = ((0.05, 0.8), (1.2, 4.0), (4.0, 7.0), (5.0, 12.0))
"""Seconds of a delay, from and to."""


def _spike(chance: Random) -> f.Uniform:
    from_s, to_s = chance.choice(_SPIKES)
    return f.Uniform(from_s=from_s, to_s=to_s)


def _request_latency(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.5)
    return f.RequestLatency(at_s=at_s, for_s=for_s, path=path, probability=rate, delay=_spike(chance))


def _answer_latency(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.5)
    return f.AnswerLatency(at_s=at_s, for_s=for_s, path=path, probability=rate, delay=_spike(chance))


def _lost_request(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.6)
    return f.LostRequest(at_s=at_s, for_s=for_s, path=path, probability=rate, ends=chance.choice(_ENDS))


def _lost_answer(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.6)
    return f.LostAnswer(at_s=at_s, for_s=for_s, path=path, probability=rate, ends=chance.choice(_ENDS))


def _slow_answer(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    rate, speed = chance.uniform(0.05, 0.3), chance.choice((20.0, 100.0, 1000.0))
    return f.SlowAnswer(at_s=at_s, for_s=for_s, probability=rate, bytes_per_s=speed)


def _socket(chance: Random) -> tuple[str, str]:
    """Return a socket's path and one of its channels."""
    if chance.random() < 0.6:
        return chance.choice(("/ws/private", "/ws/v3/private", "/ws")), chance.choice(_PRIVATE_CHANNELS)
    return chance.choice(("/ws/public", "/ws/v3/public", "/ws")), chance.choice(_PUBLIC_CHANNELS)


def _frame_latency(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    (path, channel), rate = _socket(chance), chance.uniform(0.05, 0.5)
    delay = _spike(chance)
    return f.FrameLatency(at_s=at_s, for_s=for_s, path=path, channel=channel, probability=rate, delay=delay)


def _duplicate_frame(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    (path, channel), rate, copies = _socket(chance), chance.uniform(0.1, 0.9), chance.randint(1, 3)
    return f.DuplicateFrame(at_s=at_s, for_s=for_s, path=path, channel=channel, probability=rate, copies=copies)


def _reordered_frame(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    (path, channel), rate, by = _socket(chance), chance.uniform(0.05, 0.4), chance.randint(1, 3)
    return f.ReorderedFrame(at_s=at_s, for_s=for_s, path=path, channel=channel, probability=rate, by=by)


def _dropped_frame(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    (path, channel), rate = _socket(chance), chance.uniform(0.02, 0.4)
    return f.DroppedFrame(at_s=at_s, for_s=for_s, path=path, channel=channel, probability=rate)


def _garbage_frame(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    (path, channel), rate = _socket(chance), chance.uniform(0.005, 0.05)
    form = chance.choice(("half", "noise"))
    return f.GarbageFrame(at_s=at_s, for_s=for_s, path=path, channel=channel, probability=rate, form=form)


def _oversized_frame(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, _ = _socket(chance)
    return f.OversizedFrame(at_s=at_s, for_s=for_s, path=path, probability=0.02, count=1, size_bytes=2**21)


def _half_open(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, _ = _socket(chance)
    return f.HalfOpen(at_s=at_s, for_s=min(for_s, 120.0), path=path)


def _cut(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, _ = _socket(chance)
    code = chance.choice((None, 1000, 1001, 1011))
    return f.Cut(at_s=at_s, for_s=for_s, path=path, probability=chance.uniform(0.01, 0.2), count=5, code=code)


def _reset(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, _ = _socket(chance)
    return f.Reset(at_s=at_s, for_s=for_s, path=path, probability=chance.uniform(0.01, 0.2), count=5)


def _server_error(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.6)
    status, is_executed = chance.choice((500, 502, 503, 504)), chance.random() < 0.5
    return f.ServerError(at_s=at_s, for_s=for_s, path=path, probability=rate, status=status, is_executed=is_executed)


def _too_many_requests(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.1, 0.9)
    after = chance.choice((None, 0, 1, 5))
    return f.TooManyRequests(at_s=at_s, for_s=for_s, path=path, probability=rate, retry_after_s=after)


def _garbage_answer(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    path, rate = chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.3)
    form = chance.choice(("half", "noise"))
    return f.GarbageAnswer(at_s=at_s, for_s=for_s, path=path, probability=rate, form=form)


def _maintenance(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    return f.Maintenance(at_s=at_s, for_s=min(for_s, chance.choice((5.0, 30.0, 90.0))))


def _fill_during_cancel(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    rate, share = chance.uniform(0.2, 0.9), chance.choice((0.1, 0.5, 1.0))
    return f.FillDuringCancel(at_s=at_s, for_s=for_s, probability=rate, share=share)


def _clock_skew(chance: Random, at_s: float, for_s: float) -> f.FaultEvent:
    offset_ms = chance.choice((-6000, -2500, -900, -300, 300, 900, 2500, 6000))
    of = chance.choice(("both", "timestamp", "signatures"))
    return f.ClockSkew(at_s=at_s, for_s=for_s, offset_ms=offset_ms, of=of)


# --- the way to the exchange, the disk, and the machine's clock

_WAYS: Final[tuple[o.Way, ...]] = ("out", "in", "both")
_PLACES: Final[tuple[o.Place, ...]] = ("rest", "public", "private", "sockets", "all")


def _lost_packet(chance: Random, at_s: float, for_s: float) -> o.Outage:
    way, path, rate = chance.choice(_WAYS), chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.6)
    return o.LostPacket(at_s=at_s, for_s=for_s, way=way, path=path, probability=rate)


def _broken_request(chance: Random, at_s: float, for_s: float) -> o.Outage:
    way, path, rate = chance.choice(_WAYS), chance.choice(_ORDER_PATHS), chance.uniform(0.05, 0.6)
    return o.BrokenRequest(at_s=at_s, for_s=for_s, way=way, path=path, probability=rate)


def _delayed(chance: Random, at_s: float, for_s: float) -> o.Outage:
    way, place, rate = chance.choice(_WAYS), chance.choice(_PLACES), chance.uniform(0.05, 0.5)
    return o.Delayed(at_s=at_s, for_s=for_s, way=way, place=place, probability=rate, delay=_spike(chance))


def _partition(chance: Random, at_s: float, for_s: float) -> o.Outage:
    return o.Partition(at_s=at_s, for_s=min(for_s, 150.0), way=chance.choice(_WAYS), place=chance.choice(_PLACES))


def _sockets_cut(chance: Random, at_s: float, for_s: float) -> o.Outage:
    place, is_reset = chance.choice(("public", "private", "sockets")), chance.random() < 0.5
    return o.SocketsCut(at_s=at_s, for_s=min(for_s, chance.choice((0.5, 5.0, 60.0))), place=place, is_reset=is_reset)


def _no_name(chance: Random, at_s: float, for_s: float) -> o.Outage:
    return o.NoName(at_s=at_s, for_s=min(for_s, chance.choice((5.0, 60.0, 180.0))))


def _corruption(chance: Random, at_s: float, for_s: float) -> o.Outage:
    return o.Corruption(at_s=at_s, for_s=for_s, way=chance.choice(_WAYS), probability=chance.uniform(0.001, 0.02))


def _slow_disk(chance: Random, at_s: float, for_s: float) -> o.Outage:
    return o.SlowDisk(at_s=at_s, for_s=for_s, delay=f.Uniform(from_s=0.01, to_s=chance.choice((0.1, 0.8, 3.0))))


def _bad_disk(chance: Random, at_s: float, for_s: float) -> o.Outage:
    error = chance.choice(("ENOSPC", "EIO"))
    return o.BadDisk(at_s=at_s, for_s=for_s, probability=chance.uniform(0.01, 0.2), count=1, error=error)


def _wall_jump(chance: Random, at_s: float, for_s: float) -> o.Outage:
    offset_ms = chance.choice((-3_600_000, -2500, -700, -200, 200, 700, 2500, 3_600_000))
    return o.WallJump(at_s=at_s, for_s=for_s, offset_ms=offset_ms)


NET: Final[Mapping[str, Draw]] = {
    "request_latency": _request_latency,
    "answer_latency": _answer_latency,
    "lost_request": _lost_request,
    "lost_answer": _lost_answer,
    "slow_answer": _slow_answer,
    "frame_latency": _frame_latency,
    "duplicate_frame": _duplicate_frame,
    "reordered_frame": _reordered_frame,
    "dropped_frame": _dropped_frame,
    "garbage_frame": _garbage_frame,
    "oversized_frame": _oversized_frame,
    "half_open": _half_open,
    "cut": _cut,
    "reset": _reset,
}
EXCHANGE: Final[Mapping[str, Draw]] = {
    "server_error": _server_error,
    "too_many_requests": _too_many_requests,
    "garbage_answer": _garbage_answer,
    "maintenance": _maintenance,
    "fill_during_cancel": _fill_during_cancel,
}
CLOCK: Final[Mapping[str, Draw]] = {"clock_skew": _clock_skew}
NOT_DRAWN: Final = frozenset({"post_only"})
"""A bot that was told of the mode believes in it until it looks again at what is listed: longer than a run may heal."""
assert {*NET, *EXCHANGE, *CLOCK, *NOT_DRAWN} == set(f.KINDS)

NET_OUTAGES: Final[Mapping[str, DrawOutage]] = {
    "lost_packet": _lost_packet,
    "broken_request": _broken_request,
    "delayed": _delayed,
    "partition": _partition,
    "sockets_cut": _sockets_cut,
    "no_name": _no_name,
}
WIRE_OUTAGES: Final[Mapping[str, DrawOutage]] = {"corruption": _corruption}
DISK: Final[Mapping[str, DrawOutage]] = {"slow_disk": _slow_disk, "bad_disk": _bad_disk}
CLOCK_OUTAGES: Final[Mapping[str, DrawOutage]] = {"wall_jump": _wall_jump}
