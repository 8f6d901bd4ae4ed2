"""The machine of the strategy actor: hands each bar to the strategies that watch it, and sizes what they want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bot.core import messages as m
from bot.core.durations import duration_ns
from bot.core.instrument import Instrument
from bot.core.sizing import target_lots
from bot.strategies import AnyStrategySettings, make_strategy
from bot.strategies.base import Strategy


@dataclass(slots=True)
class _Seat:
    """One strategy on one symbol."""

    name: str
    settings: AnyStrategySettings
    strategy: Strategy
    share: float = 0.0
    target_lots: int = 0


class StrategyHost:
    """Owns every strategy and its indicators."""

    def __init__(self, settings: Mapping[str, AnyStrategySettings], symbols: Sequence[str]) -> None:
        """Seat each strategy of `settings` on those of its symbols that are in `symbols`, which the run plays."""
        self.watched: dict[tuple[str, int], list[_Seat]] = {}
        """(symbol, bar length in ns) to who listens."""
        for name, own in settings.items():
            for symbol in own.symbols or symbols:
                if symbol in symbols:
                    key = symbol, duration_ns(own.timeframe)
                    self.watched.setdefault(key, []).append(_Seat(name, own, make_strategy(own)))
        self._instruments: dict[str, Instrument] = {}

    def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
        """Return the positions wanted after a bar: one signal a bar from each strategy that has an opinion."""
        match message:
            case m.Bar():
                for seat in self.watched.get((message.symbol, message.timeframe_ns), ()):
                    signal = self._ask(seat, message)
                    if signal is not None:
                        yield signal
            case m.InstrumentListed():
                self._instruments[message.instrument.symbol] = message.instrument
            case _:
                raise AssertionError(f"not routed to the strategies: {message!r}")

    def _ask(self, seat: _Seat, bar: m.Bar) -> m.Signal | None:
        share = seat.strategy.on_bar(bar)
        if share is None or bar.is_history:
            return None
        # The size is fixed when the wish changes: a position is not rebalanced with every tick of the price.
        if share != seat.share:
            instrument = self._instruments[bar.symbol]
            seat.share = share
            seat.target_lots = target_lots(instrument, share, seat.settings.notional, bar.close_ticks)
        return m.Signal(
            ts_ns=bar.ts_ns,
            strategy=seat.name,
            symbol=bar.symbol,
            target_lots=seat.target_lots,
            price_ticks=bar.close_ticks,
            is_passive=seat.settings.is_passive,
        )
