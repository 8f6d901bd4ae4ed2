"""Frames for benchmarks: a generated market as one connection sees it, long enough for any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from bot.exchange.poloniex.codec import subscribe_text
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.play import play

START_NS = 1_767_225_600 * 10**9
SEED = 1
TIMES = re.compile(rb'"(?:ts|createTime)":(\d{13})')


class Made(NamedTuple):
    """Frames of one connection: the answers to its request, then what the market says."""

    answers: list[bytes]
    news: list[bytes]
    """The opening books first."""


def market(symbols: Sequence[str]) -> GeneratedMarket:
    """Return the market that all benchmarks play."""
    return GeneratedMarket(symbols, SEED, START_NS)


def make_frames(symbols: Sequence[str], channels: Sequence[str], count: int) -> Made:
    """Return `count` frames of news."""
    frames = play(market(symbols), [subscribe_text(channels, symbols)]).frames()
    answers = list(islice(frames, len(channels)))
    return Made(answers, list(islice(frames, count)))


def repeated(news: Sequence[bytes], times: int) -> Iterator[bytes]:
    """Yield `news` again and again, each time later: its opening books begin the chain of ids anew.

    To generate a frame costs more than anything that is measured; so a market is made once and played in rounds.
    """
    first_ms, last_ms = time_ms(news[0]), max(time_ms(frame) for frame in news[-100:])
    for number in range(times):
        later_ms = number * (last_ms - first_ms + 1000)
        yield from news if number == 0 else (_moved(frame, later_ms) for frame in news)


def time_ms(frame: bytes) -> int:
    """Return the exchange's time in a frame of news."""
    found = TIMES.search(frame)
    assert found is not None
    return int(found[1])


def _moved(frame: bytes, later_ms: int) -> bytes:
    def move(found: re.Match[bytes]) -> bytes:
        text = found[0]
        return text[:-13] + b"%d" % (int(text[-13:]) + later_ms)

    return TIMES.sub(move, frame)


def save(path: Path, answers: Sequence[bytes], news: Sequence[bytes]) -> None:
    """Write frames to a file for the writer process."""
    path.write_bytes(msgspec.msgpack.encode((answers, news)))


def load(path: Path) -> Made:
    """Return what `save` wrote."""
    return Made(*msgspec.msgpack.decode(path.read_bytes(), type=tuple[list[bytes], list[bytes]]))
