"""A market played through the live bot's machines in one loop: no sockets, no actors, no clock.

The simulated exchange's own frames go through the codec, the feed's machine and the `Fifo` scheduler. A daemon that
plays the same market in lockstep does the same things in the same order, down to the journal's hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bot import __version__
from bot.assembly import Machines, atoms_of
from bot.config import Settings
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.flow import END_OF_MARKET, TIME_IS_OVER, Fifo, Stage, closing
from bot.core.ledger import Ledger
from bot.exchange.poloniex.codec import decode_frame, decode_markets, subscribe_text
from bot.exchange.poloniex.market_data import MarketData, sent_ns
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.play import Play
from bot.storage.base import GENESIS, Record, sealed
from bot.storage.replay import encode_fact


class _Scribe:
    """The persistence stage without a disk: the same bookkeeper, its facts sealed into a list."""

    def __init__(self) -> None:
        self.keeper = Bookkeeper(Ledger())
        self.records: list[Record] = []

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        outputs = list(self.keeper.handle(message))
        facts = self.keeper.take_pending()
        if facts:
            head = (self.records[-1].seq, self.records[-1].digest) if self.records else (0, GENESIS)
            self.records += sealed(head, [(fact.ts_ns, encode_fact(fact)) for fact in facts])
        return outputs


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to."""

    keeper: Bookkeeper
    records: list[Record]
    signals: int
    frames: int

    @property
    def journal_hash(self) -> str:
        """Return the last digest of the journal, in hexadecimal."""
        return self.records[-1].digest.hex()


Look = Callable[[int, Bookkeeper], None]
"""Looks at the books before the frame of a time in nanoseconds is played."""


def replay_market(
    source: MarketSource,
    settings: Settings,
    *,
    account: str,
    for_ns: int | None = None,
    look: Look = lambda _now_ns, _keeper: None,
) -> Replayed:
    """Play `source` to its end, or for `for_ns` of its own time, on a new account."""
    symbols = tuple(instrument.symbol for instrument in source.instruments)
    machines = Machines(settings, symbols)
    scribe = _Scribe()
    fifo = Fifo({**machines.by_stage, Stage.PERSISTENCE: scribe})
    feed = _Feed(source, machines.watched_ns, fifo)
    fifo.post(
        Stage.CONTROL,
        m.SessionStarted(
            ts_ns=source.first_ns,
            epoch=1,
            version=__version__,
            account=account,
            quote=settings.exchange.quote,
            cash_atoms=atoms_of(settings.paper.cash),
        ),
    )
    fifo.run()
    end_ns = None if for_ns is None else source.first_ns + for_ns
    reason = feed.play(end_ns, lambda now_ns: look(now_ns, scribe.keeper))
    now_ns = max(feed.now_ns, scribe.keeper.now_ns)
    for message in closing(now_ns, machines.paper_terms.round_trip_ns_max, reason, is_complete=True):
        fifo.post(Stage.CONTROL, message)
        fifo.run()
    return Replayed(keeper=scribe.keeper, records=scribe.records, signals=machines.gate.signals, frames=feed.frames)


class _Feed:
    """The feed without a connection."""

    def __init__(self, source: MarketSource, watched_ns: Mapping[str, Iterable[int]], fifo: Fifo) -> None:
        self.frames = 0
        self.now_ns = source.first_ns
        self._fifo = fifo
        self._data = MarketData(source.instruments, watched_ns)
        self._play = Play(source, [subscribe_text(self._data.channels, self._data.symbols)])

    def play(self, end_ns: int | None, look: Callable[[int], None]) -> str:
        """Hand every frame on, one after another; return why it ended."""
        _, markets = self._play.answer("/markets")
        self._say(self._data.list_instruments(decode_markets(markets), self.now_ns))
        for raw in self._play.frames():
            frame = decode_frame(raw)
            exchange_ns = sent_ns(frame)
            if exchange_ns is None:
                continue
            self.now_ns = max(self.now_ns, exchange_ns)
            if end_ns is not None and self.now_ns >= end_ns:
                return TIME_IS_OVER
            look(self.now_ns)
            self.frames += 1
            self._say((*self._data.on_time(self.now_ns), *self._data.handle(frame, self.now_ns)))
        return END_OF_MARKET

    def _say(self, messages: Iterable[m.AnyMessage]) -> None:
        for message in messages:
            self._fifo.post(Stage.FEED, message)
        self._fifo.run()
