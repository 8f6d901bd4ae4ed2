"""Strategies with something put over them: columns shared with others, or silence before a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bot.core.instrument import Instrument
from bot.core.messages import Bar
from bot.strategies.advice import Advice, AdviceRow, Adviser, Definition, Ints, Market
from bot.strategies.rules.columns import ColumnCache
from bot.strategies.rules.definition import RuleDefinition


class Dressed:
    """A strategy that is another one in all that is not said otherwise."""

    def __init__(self, inner: Definition) -> None:
        self._inner = inner

    @property
    def timeframe_ns(self) -> int:
        """See `Definition`."""
        return self._inner.timeframe_ns

    @property
    def watches(self) -> tuple[str, ...]:
        """See `Definition`."""
        return self._inner.watches

    @property
    def terms(self) -> Ints:
        """See `Definition`."""
        return self._inner.terms

    @property
    def lookback_bars(self) -> int:
        """See `Definition`."""
        return self._inner.lookback_bars

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """See `Definition`."""
        return self._inner.make_adviser(symbol, instruments)

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        """See `Definition`."""
        return self._inner.advise(symbol, markets)


class Sharing:
    """Gives strategies on the same markets one cache of columns, those of rule documents that is; others have none."""

    def __init__(self, markets: Sequence[Market]) -> None:
        self._cache = ColumnCache({market.instrument.symbol: market for market in markets})

    def __call__(self, definition: Definition) -> Definition:
        """Return `definition`, with the cache where it can use one; it must be run on these markets only."""
        return _Sharer(definition, self._cache) if isinstance(definition, RuleDefinition) else definition


class _Sharer(Dressed):
    def __init__(self, rules: RuleDefinition, cache: ColumnCache) -> None:
        super().__init__(rules)
        self._rules = rules
        self._cache = cache

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        kept = self._cache.markets
        assert all(kept[name] is market for name, market in markets.items()), "columns of other markets"
        return self._rules.advise(symbol, kept, self._cache)


class DecidesFrom(Dressed):
    """A strategy that hears every bar and advises nothing on those that are over by `start_ns`."""

    def __init__(self, inner: Definition, start_ns: int) -> None:
        super().__init__(inner)
        self._start_ns = start_ns

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """See `Definition`."""
        return _Listener(self._inner.make_adviser(symbol, instruments), self._start_ns)

    def advise(self, symbol: str, markets: Mapping[str, Market]) -> Advice:
        """See `Definition`."""
        advice = self._inner.advise(symbol, markets)
        is_early = markets[symbol].candles.start_ns + markets[symbol].timeframe_ns <= self._start_ns
        return advice._replace(flags=np.where(is_early, np.uint8(0), advice.flags))


class _Listener:
    def __init__(self, adviser: Adviser, start_ns: int) -> None:
        self._adviser = adviser
        self._start_ns = start_ns

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        row = self._adviser.on_bar(bar)
        return row if bar.start_ns + bar.timeframe_ns > self._start_ns else None

    def hear(self, bar: Bar) -> None:
        self._adviser.hear(bar)
