"""A market played without sockets: the very frames that one connection would receive, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.replies import Reply
from bot.exchange.simulated.rest import answer
from bot.exchange.simulated.session import Session
from bot.exchange.simulated.venue import Venue


class Play:
    """One run of a market for one connection. `venue` is as far as `frames` has been read."""

    def __init__(self, source: MarketSource, requests: Sequence[str]) -> None:
        self.venue = Venue(source.instruments, source.first_ns)
        self.session = Session(self.venue)
        self.events_total = source.event_count
        self._requests = requests
        self._events = self.venue.open(source)

    @property
    def events_done(self) -> int:
        """Return how many events have been applied, opening snapshots included."""
        return self.venue.events_done

    def answer(self, path: str, query: str = "") -> Reply:
        """Return what a GET of `path` answers now, as (status, body)."""
        return answer(self.venue, "GET", path, query)

    def frames(self) -> Iterator[bytes]:
        """Yield the answers to the requests, then every publication until the source ends. Read it once."""
        for request in self._requests:
            yield from self.session.handle(request)
        for event in self._events:
            for publication in self.venue.apply(event, self.session.topics):
                yield publication.payload


def play(source: MarketSource, requests: Sequence[str]) -> Play:
    """Play `source` to one connection that sends `requests` before the market starts.

    `Play.frames()` are byte for byte the frames that it would receive from `open_exchange` at speed `max`.

    Raises:
        RecordingError: the source is a recording that changed since it was opened; while frames are read.

    """
    return Play(source, requests)
