"""A plan over whole columns of bars: what a backtest and a sweep compute.

Equal to `stepping.py` to the last bit: every value is made by the same operations in the same order.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from threading import Lock
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from bot.core import tactics
from bot.core.durations import UNITS_NS
from bot.core.indicators.registry import INDICATORS
from bot.errors import SettingsError
from bot.strategies.advice import Advice, Flags, Floats, Ints, Market
from bot.strategies.rules.plan import OWN, TAME_MAX, TAME_MIN, Amount, Frame, Kind, Node, Op, Plan
from bot.strategies.rules.series import Series, base_series, joined, positions, positions_before, spread
from bot.strategies.rules.whole import whole_column

Bools = NDArray[np.bool_]
Column = Floats | Bools | float | bool
"""Shape (n,), or one value where it never changes."""
T = TypeVar("T")

CACHE_BYTES_MAX: Final = 256 * 1024 * 1024
_NEVER: Final = 1 << 62
_KEPT: Final = frozenset({Op.FIELD, Op.INDICATOR, Op.SAMPLE})
"""What is worth keeping for the next set of parameters."""


class ColumnCache:
    """Columns of one set of markets, shared by definitions that differ in parameters; the least used go first.

    Threads may share one: a column that two want at once is made twice, and kept once.
    """

    def __init__(self, markets: Mapping[str, Market], bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.markets = markets
        self.bytes = 0
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept by `key`, made now if it is not there."""
        found = self.peek(key)
        if found is not None:
            return cast("T", found)
        made = make()
        with self._lock:
            self.bytes += _bytes_of(made) - _bytes_of(self._kept.pop(key, None))
            self._kept[key] = made
            while self.bytes > self._bytes_max and len(self._kept) > 1:
                self.bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        return made

    def peek(self, key: Hashable) -> Any:
        """Return what is kept by `key`, or None; it counts as used."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)


def advise(plan: Plan, symbol: str, markets: Mapping[str, Market], cache: ColumnCache | None = None) -> Advice:
    """Return the advice on `symbol` for all of its base bars.

    Raises:
        SettingsError: a market is missing, or its bars are not a whole part of the plan's.

    """
    assert cache is None or cache.markets is markets, "a cache belongs to its markets"
    with np.errstate(all="ignore"):
        return _Evaluation(plan, symbol, markets, cache or ColumnCache(markets)).advice()


class _Evaluation:
    """One plan on one symbol."""

    def __init__(self, plan: Plan, symbol: str, markets: Mapping[str, Market], cache: ColumnCache) -> None:
        self._plan = plan
        self._symbol = symbol
        self._markets = markets
        self._cache = cache

    def advice(self) -> Advice:
        plan = self._plan
        amounts = [amount for amount in (plan.size, plan.stop, plan.target, plan.trail) if amount is not None]
        wanted = {*plan.entries.values(), *plan.exits.values(), *(amount.node for amount in amounts)}
        values = self._values(0, wanted)
        instrument = self._market(self._symbol).instrument
        series = self._series(0)
        count = len(series.known_ns)

        def column_of(amount: Amount | None) -> Ints:
            if amount is None:
                return np.zeros(1, np.int64)
            return whole_column(cast("Floats | float", values[amount.node]), amount, instrument)

        size, stop, target, trail = (column_of(each) for each in (plan.size, plan.stop, plan.target, plan.trail))
        flags = np.zeros(count, np.uint8)
        _raise_bit(flags, values, plan.entries.get("long"), tactics.ENTER_LONG)
        _raise_bit(flags, values, plan.entries.get("short"), tactics.ENTER_SHORT)
        guards = [each for amount, each in ((plan.stop, stop), (plan.target, target), (plan.trail, trail)) if amount]
        for column in (size, *guards):
            if len(column) > 1 or column[0] == 0:
                flags *= column != 0
        _raise_bit(flags, values, plan.exits.get("long"), tactics.EXIT_LONG)
        _raise_bit(flags, values, plan.exits.get("short"), tactics.EXIT_SHORT)
        if plan.is_rebalanced:
            flags |= (size > 0).astype(np.uint8) * np.uint8(tactics.RESIZE)
        flags[: min(self._ready(0, plan.frames[0].needs), count)] = 0
        advice = Advice(flags, size, stop, target, trail)
        return advice if series.over is None else spread(advice, series.over, len(self._base(self._symbol).known_ns))

    # --- bars

    def _market(self, symbol: str) -> Market:
        if symbol not in self._markets:
            raise SettingsError(f"{symbol}: the strategy needs its candles, and there are none")
        return self._markets[symbol]

    def _symbol_of(self, number: int) -> str:
        return self._plan.frames[number].symbol or self._symbol

    def _key(self, number: int) -> Hashable:
        """Return what names a frame's bars: symbol, own timeframe, and the longer one made of it."""
        return self._symbol_of(number), self._plan.frames[0].timeframe_ns, self._plan.frames[number].timeframe_ns

    def _base(self, symbol: str) -> Series:
        market = self._market(symbol)
        return self._cache.get(("base", symbol), lambda: base_series(market))

    def _series(self, number: int) -> Series:
        frame = self._plan.frames[number]
        own = self._plan.frames[0].timeframe_ns
        symbol = self._symbol_of(number)

        def make() -> Series:
            below = self._series(frame.parent) if frame.timeframe_ns > own else self._base(symbol)
            return joined(below, frame.timeframe_ns, symbol)

        return self._cache.get(("series", self._key(number)), make)

    def _positions(self, number: int) -> Ints:
        """Return, for each bar of the parent, the newest bar of this frame that is known then."""
        parent = self._plan.frames[number].parent

        def make() -> Ints:
            series, own = self._series(number), self._series(parent)
            if self._symbol_of(number) != self._symbol_of(parent) or series.timeframe_ns == own.timeframe_ns:
                return positions_before(series, own)
            assert series.over is not None
            return positions(series.over, len(own.known_ns))

        return self._cache.get(("positions", self._key(number), self._key(parent)), make)

    def _ready(self, number: int, needs: Mapping[int, int]) -> int:
        """Return the first bar of a frame at which what `needs` that has had all the bars that it needs."""
        nodes = self._plan.frames[number].nodes
        first = needs[OWN]
        for key, more in needs.items():
            if key == OWN:
                continue
            child, source = nodes[key].number, nodes[key].source
            place = self._positions(child)
            known = int(
                np.searchsorted(place, self._ready(child, self._plan.frames[child].nodes[source].needs), "left")
            )
            first = max(first, known + more if known < len(place) else _NEVER)
        return first

    # --- values

    def _values(self, number: int, wanted: Iterable[int]) -> dict[int, Column]:
        """Return the columns of the wanted nodes; others are dropped after their last use."""
        frame = self._plan.frames[number]
        keep = set(wanted)
        todo, last_use, values = self._todo(number, frame, keep)
        samples: dict[int, set[int]] = {}
        for each in todo:
            node = frame.nodes[each]
            if node.op is Op.SAMPLE:
                samples.setdefault(node.number, set()).add(node.source)
        children = {child: self._values(child, sources) for child, sources in samples.items()}
        for each in todo:
            node = frame.nodes[each]
            values[each] = self._value(number, node, values, children)
            for arg in node.args:
                if last_use[arg] == each and arg not in keep:
                    values.pop(arg, None)
        return {each: values[each] for each in keep}

    def _todo(self, number: int, frame: Frame, keep: set[int]) -> tuple[list[int], dict[int, int], dict[int, Any]]:
        """Return the nodes to compute in order, the last user of each, and what is there; that needs no arguments."""
        needed = set(keep)
        todo: list[int] = []
        last_use: dict[int, int] = {}
        values: dict[int, Any] = {}
        for each in range(max(keep), -1, -1):
            if each not in needed:
                continue
            node = frame.nodes[each]
            found = self._cache.peek(self._node_key(number, node)) if node.op in _KEPT else None
            if found is not None:
                values[each] = found
                continue
            todo.append(each)
            for arg in node.args:
                needed.add(arg)
                last_use.setdefault(arg, each)
        return todo[::-1], last_use, values

    def _node_key(self, number: int, node: Node) -> Hashable:
        return self._key(number), node.digest

    def _value(self, number: int, node: Node, values: dict[int, Any], children: dict[int, dict[int, Column]]) -> Any:
        if node.op not in _KEPT:
            if node.op is Op.CONST:
                return node.value
            args = [values[arg] for arg in node.args]
            match node.op:
                case Op.OUTPUT:
                    return args[0][:, node.number]
                case Op.HISTORY:
                    return _past(args[0], node.number)
                case _:
                    return COLUMNS[node.op](*args)
        return self._cache.get(self._node_key(number, node), lambda: self._fresh(number, node, values, children))

    def _fresh(self, number: int, node: Node, values: dict[int, Any], children: dict[int, dict[int, Column]]) -> Any:
        if node.op is Op.FIELD:
            return self._field(number, node.name)
        if node.op is Op.INDICATOR:
            return self._indicator(number, node, [values[arg] for arg in node.args])
        return _sampled(children[node.number][node.source], self._positions(node.number), node.kind)

    def _field(self, number: int, name: str) -> Floats:
        series = self._series(number)
        candles = series.candles
        instrument = self._market(self._symbol_of(number)).instrument
        match name:
            case "open" | "high" | "low" | "close":
                return cast("Ints", getattr(candles, name)) / float(10**instrument.price_scale)
            case "volume":
                return candles.volume / float(10**instrument.quantity_scale)
            case "time":
                return candles.start_ns.astype(np.float64)
            case _:
                return clock(candles.start_ns + series.timeframe_ns, name).astype(np.float64)

    def _indicator(self, number: int, node: Node, inputs: list[Any]) -> Floats:
        """Return all outputs, shape (n, outputs)."""
        indicator = INDICATORS[node.name]
        count = len(self._series(number).known_ns)
        if len(inputs) == 1 and isinstance(inputs[0], np.ndarray):
            rows = np.ascontiguousarray(inputs[0], np.float64).reshape(count, 1)
        else:
            rows = np.empty((count, len(inputs)))
            for place, column in enumerate(inputs):
                rows[:, place] = column
        outputs = np.empty((count, len(indicator.outputs)))
        indicator.column(indicator.make_state(node.params), rows, outputs)
        return outputs


def clock(end_ns: Any, name: str) -> Any:
    """Return the hour (0 to 23), the minute (0 to 59) or the weekday (Monday is 1) of a time in UTC; arrays as well."""
    match name:
        case "hour":
            return end_ns // UNITS_NS["h"] % 24
        case "minute":
            return end_ns // UNITS_NS["m"] % 60
        case _:
            return (end_ns // UNITS_NS["d"] + 3) % 7 + 1  # 1970-01-01 was a Thursday


def _sampled(column: Column, place: Ints, kind: Kind) -> Column:
    if not isinstance(column, np.ndarray):
        column = np.full(int(place[-1]) + 1 if len(place) else 0, column)
    known = int(np.searchsorted(place, 0, "left"))
    sampled = np.empty(len(place), bool if kind is Kind.CONDITION else np.float64)
    sampled[:known] = False if kind is Kind.CONDITION else np.nan
    sampled[known:] = column[place[known:]]
    return sampled


def _past(column: Any, bars: int) -> Any:
    """Return a column of `bars` bars ago."""
    past = np.empty_like(column)
    past[:bars] = False if column.dtype == np.bool_ else np.nan
    past[bars:] = column[: max(0, len(column) - bars)]
    return past


def _crossed(after: Bools, before: Bools) -> Bools:
    crossed = np.empty_like(after)
    crossed[:1] = False
    np.logical_and(after[1:], before[:-1], out=crossed[1:])
    return crossed


def _divided(a: Any, b: Any) -> Any:
    quotient = a / b if isinstance(b, np.ndarray) or b != 0.0 else np.full_like(a, np.nan)
    if isinstance(b, np.ndarray):
        quotient[b == 0.0] = np.nan
    return quotient


def _tame(a: Any) -> Any:
    size = np.abs(a)
    tame = np.where(size <= TAME_MAX, a, np.nan)
    tame[size < TAME_MIN] = 0.0
    return tame


def _differs(a: Any, b: Any) -> Any:
    return (a < b) | (a > b)


def _crosses_above(a: Any, b: Any) -> Bools:
    return _crossed(a > b, a <= b)


def _crosses_below(a: Any, b: Any) -> Bools:
    return _crossed(a < b, a >= b)


COLUMNS: Final[dict[Op, Callable[..., Any]]] = {
    Op.NEG: operator.neg,
    Op.ABS: np.abs,
    Op.SQRT: np.sqrt,
    Op.ADD: operator.add,
    Op.SUB: operator.sub,
    Op.MUL: operator.mul,
    Op.DIV: _divided,
    Op.MIN: np.minimum,
    Op.MAX: np.maximum,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
    Op.EQ: operator.eq,
    Op.NE: _differs,
    Op.AND: np.logical_and,
    Op.OR: np.logical_or,
    Op.NOT: operator.invert,
    Op.CROSS_UP: _crosses_above,
    Op.CROSS_DOWN: _crosses_below,
    Op.CHOOSE: np.where,
    Op.TAME: _tame,
}
"""By operator; at least one argument is an array."""


def _raise_bit(flags: Flags, values: dict[int, Column], node: int | None, bit: int) -> None:
    if node is None:
        return
    column = values[node]
    if isinstance(column, np.ndarray):
        flags |= column.view(np.uint8) * np.uint8(bit)
    elif column:
        flags |= np.uint8(bit)


def _bytes_of(kept: Any) -> int:
    if isinstance(kept, Series) and kept.over is None:
        return kept.known_ns.nbytes  # the candles are the market's own
    if isinstance(kept, np.ndarray):
        return kept.nbytes
    if kept is None:
        return 0
    if isinstance(kept, tuple):
        return sum(_bytes_of(each) for each in cast("NamedTuple", kept))
    return 64
