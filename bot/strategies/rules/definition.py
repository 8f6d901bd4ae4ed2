"""A rule document with its parameters fixed, as research and the live bot use it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np

from bot.core import tactics
from bot.core.instrument import Instrument
from bot.errors import SettingsError
from bot.strategies.advice import Advice, Adviser, Ints, Market
from bot.strategies.rules.columns import ColumnCache, advise
from bot.strategies.rules.compiling import compile_plan
from bot.strategies.rules.document import Document, checked_params
from bot.strategies.rules.graph import lookback_bars
from bot.strategies.rules.stepping import RuleAdviser
from bot.strategies.rules.whole import SIZINGS, fixed_distance

PROBES_MAX: Final = 64


class RuleDefinition:
    """The same advice by the bar and by the column, to the last bit."""

    def __init__(
        self,
        document: Document,
        params: Mapping[str, float] | None = None,
        *,
        timeframe_ns: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Compile `document`.

        Args:
            document: What was read.
            params: Values of some of its parameters; the others have their defaults.
            timeframe_ns: Length of its own bars, instead of the document's.
            size: How `bot/core/tactics.py` reads sizes, and the size, instead of the document's.

        Raises:
            SettingsError: the document makes no sense with these; names everything.

        """
        self.document = document
        self.params = checked_params(document, params or {})
        self._timeframe_ns = timeframe_ns or document.timeframe_ns
        self.plan = compile_plan(document, self.params, self._timeframe_ns)
        self._size = size

    @property
    def timeframe_ns(self) -> int:
        """Return the length of its own bars."""
        return self._timeframe_ns

    @property
    def watches(self) -> tuple[str, ...]:
        """Return the other symbols that it looks at."""
        return tuple(sorted({frame.symbol for frame in self.plan.frames if frame.symbol}))

    @property
    def terms(self) -> Ints:
        """Return the terms of its tactics, shape (tactics.TERMS,)."""
        plan = self.plan
        terms = np.zeros(tactics.TERMS, np.int64)
        terms[tactics.SIZING] = SIZINGS[plan.size.unit] if self._size is None else self._size[0]
        terms[tactics.IS_LIMIT] = int(plan.is_limit)
        terms[tactics.OFFSET] = fixed_distance(plan.offset)
        terms[tactics.PATIENCE] = plan.patience
        terms[tactics.BARS_MAX] = plan.bars_max
        terms[tactics.COOL_DOWN] = plan.cool_down
        terms[tactics.BREAK_EVEN] = fixed_distance(plan.break_even)
        return terms

    @property
    def lookback_bars(self) -> int:
        """Return the bars of its own that it needs before its first advice, when none is missing."""
        return lookback_bars(self.plan.frames, 0, self.plan.frames[0].needs)

    def make_adviser(self, symbol: str, instruments: Mapping[str, Instrument]) -> Adviser:
        """Return a fresh one for `symbol`; `instruments` must know a symbol by its first bar."""
        return RuleAdviser(self.plan, symbol, instruments, self._size)

    def advise(self, symbol: str, markets: Mapping[str, Market], cache: ColumnCache | None = None) -> Advice:
        """Return its advice on `symbol` for all of its base bars.

        `cache` keeps columns for other definitions on the same markets. Raises SettingsError where `markets` has not
        what it looks at.
        """
        advice = advise(self.plan, symbol, markets, cache)
        return advice if self._size is None else advice._replace(size=np.array([self._size[1]], np.int64))


def check_document(document: Document) -> None:
    """Compile `document` with its defaults, and with each parameter at either end of its range.

    Raises:
        SettingsError: it makes no sense with one of them; names what and with which values.

    """
    RuleDefinition(document)
    ends = ((param, value) for param in document.params for value in dict.fromkeys((param.low, param.high)))
    for param, value in islice(ends, PROBES_MAX):
        values = {**checked_params(document, {}), param.name: value}
        try:
            compile_plan(document, values, document.timeframe_ns, is_probe=True)
        except SettingsError as error:
            raise SettingsError([f"{problem} (with {param.name} = {value:g})" for problem in error.problems]) from None
