"""The nodes of a plan while it is made: each value once, constants at once, with the look-back that it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from bot.core.durations import UNITS_NS
from bot.core.indicators.registry import INDICATORS as REGISTRY
from bot.core.indicators.registry import Indicator
from bot.errors import SettingsError
from bot.strategies.rules.plan import OWN, Frame, Kind, Node, Op
from bot.strategies.rules.scalars import SCALARS

NODES_MAX: Final = 2_000
FRAMES_MAX: Final = 16

INDICATORS: Final = {name: each for name, each in REGISTRY.items() if not name.startswith("crossed_")}
"""Crossings have words of their own, which make conditions."""
CONDITIONS: Final = frozenset({Op.LT, Op.LE, Op.GT, Op.GE, Op.EQ, Op.NE, Op.AND, Op.OR, Op.NOT})
"""Operators whose result is a condition."""


class Meaningless(Exception):
    """A tree makes no sense; `column` is where."""

    def __init__(self, column: int, sentence: str) -> None:
        super().__init__(sentence)
        self.column, self.sentence = column, sentence


class Value(NamedTuple):
    """A node, its type, and its indicator if it is a bundle."""

    node: int
    kind: Kind
    indicator: Indicator | None = None


@dataclass(slots=True)
class FrameBuilder:
    """One frame while it grows."""

    number: int
    parent: int
    symbol: str
    timeframe_ns: int
    nodes: list[Node] = field(default_factory=list[Node])
    known: dict[bytes, int] = field(default_factory=dict[bytes, int])
    lets: dict[str, Value] = field(default_factory=dict[str, Value])


class Graph:
    """All frames and nodes of one document."""

    def __init__(self, timeframe_ns: int) -> None:
        self.frames = [FrameBuilder(0, -1, "", timeframe_ns)]
        self._by_key: dict[tuple[int, str, int], FrameBuilder] = {}

    @property
    def own(self) -> FrameBuilder:
        """Return the frame of the strategy's own bars."""
        return self.frames[0]

    def child(self, frame: FrameBuilder, symbol: str, timeframe_ns: int, column: int) -> FrameBuilder:
        """Return the frame of other bars below this one."""
        key = frame.number, symbol, timeframe_ns
        if key not in self._by_key:
            if len(self.frames) >= FRAMES_MAX:
                raise Meaningless(column, f"is one more than {FRAMES_MAX - 1} other timeframes and symbols")
            child = FrameBuilder(len(self.frames), frame.number, symbol, timeframe_ns)
            self.frames.append(child)
            self._by_key[key] = child
        return self._by_key[key]

    def called(
        self,
        frame: FrameBuilder,
        indicator: Indicator,
        values: tuple[Value, ...],
        params: tuple[float, ...],
        column: int,
    ) -> Value:
        """Return all outputs of an indicator of these series, or of those that it finds by itself.

        Raises:
            Meaningless: a parameter is out of bounds.

        """
        if not values:
            values = tuple(self.field(frame, name) for name in indicator.inputs)
        if not all(math.isfinite(param) for param in params):
            raise Meaningless(column, f"{indicator.name}: a parameter is not a finite number")
        try:
            params = indicator.with_defaults(params)
        except SettingsError as error:
            raise Meaningless(column, str(error)) from None
        values = tuple(self._tame(frame, value) for value in values)
        made = self.node(frame, Op.INDICATOR, Kind.BUNDLE, values, name=indicator.name, params=params)
        return made._replace(indicator=indicator)

    def _tame(self, frame: FrameBuilder, value: Value) -> Value:
        """Return a series as indicators take it: without what is too large or too small for their sums."""
        if frame.nodes[value.node].op in (Op.FIELD, Op.TAME):
            return value
        return self.operate(frame, Op.TAME, (value,))

    def output(self, frame: FrameBuilder, bundle: Value, index: int) -> Value:
        """Return one output of an indicator."""
        return self.node(frame, Op.OUTPUT, Kind.NUMBER, (bundle,), index=index)

    def const(self, frame: FrameBuilder, value: float | bool) -> Value:
        """Return a constant."""
        kind = Kind.CONDITION if isinstance(value, bool) else Kind.NUMBER
        return self.node(frame, Op.CONST, kind, (), value=value)

    def is_const(self, frame: FrameBuilder, value: Value) -> bool:
        """Return whether a value never changes."""
        return frame.nodes[value.node].op is Op.CONST

    def field(self, frame: FrameBuilder, name: str) -> Value:
        """Return a price, the volume or a part of the time of each bar."""
        return self.node(frame, Op.FIELD, Kind.NUMBER, (), name=name)

    def operate(self, frame: FrameBuilder, op: Op, args: tuple[Value, ...]) -> Value:
        """Return an operator's value, at once where all of its arguments are constant."""
        if all(self.is_const(frame, arg) for arg in args):
            return self.const(frame, SCALARS[op](*(frame.nodes[arg.node].value for arg in args)))
        return self.node(frame, op, Kind.CONDITION if op in CONDITIONS else Kind.NUMBER, args)

    def node(
        self,
        frame: FrameBuilder,
        op: Op,
        kind: Kind,
        args: tuple[Value, ...],
        *,
        value: float | bool = 0.0,
        name: str = "",
        params: tuple[float, ...] = (),
        index: int = 0,
        source: int = 0,
    ) -> Value:
        """Return the node of this content, which is made only once."""
        ids = tuple(arg.node for arg in args)
        told = (op, value, name, params, index) if op is not Op.SAMPLE else self._sampled(index)
        content = blake2b(repr(told).encode(), digest_size=16)
        for each in ids:
            content.update(frame.nodes[each].digest)
        if op is Op.SAMPLE:
            content.update(self.frames[index].nodes[source].digest)
        digest = content.digest()
        if digest not in frame.known:
            if sum(len(each.nodes) for each in self.frames) >= NODES_MAX:
                raise Meaningless(0, f"the document has more than {NODES_MAX} values to compute")
            needs = self._needs(frame, op, ids, name, params, index)
            frame.known[digest] = len(frame.nodes)
            frame.nodes.append(Node(op, kind, ids, value, name, params, index, source, needs, digest))
        return Value(frame.known[digest], kind)

    def _sampled(self, number: int) -> tuple[Op, str, int]:
        child = self.frames[number]
        return Op.SAMPLE, child.symbol, child.timeframe_ns

    def _needs(
        self, frame: FrameBuilder, op: Op, args: tuple[int, ...], name: str, params: tuple[float, ...], index: int
    ) -> dict[int, int]:
        if op is Op.SAMPLE:
            return {OWN: 0, len(frame.nodes): 0}
        needs = _most(frame.nodes[arg].needs for arg in args)
        more = 0
        if op is Op.HISTORY:
            more = index
        elif op in (Op.CROSS_UP, Op.CROSS_DOWN):
            more = 1
        elif op is Op.INDICATOR:
            indicator = INDICATORS[name]
            more = indicator.lookback(params) + indicator.days * math.ceil(UNITS_NS["d"] / frame.timeframe_ns)
        return {key: bars + more for key, bars in needs.items()} if more else needs

    def finish(self, wanted_nodes: Iterable[int]) -> tuple[Frame, ...]:
        """Return the frames with what `wanted_nodes` of the own one need, and how many bars that takes."""
        wanted: list[set[int]] = [set() for _ in self.frames]
        wanted[0] = set(wanted_nodes)
        frames: list[Frame] = []
        for built in self.frames:  # parents come before their children
            live = wanted[built.number]
            for number in range(len(built.nodes) - 1, -1, -1):
                if number in live:
                    node = built.nodes[number]
                    live.update(node.args)
                    if node.op is Op.SAMPLE:
                        wanted[node.number].add(node.source)
            needs = _most(built.nodes[number].needs for number in live)
            samples = (built.nodes[number] for number in live if built.nodes[number].op is Op.SAMPLE)
            children = tuple(sorted({sample.number for sample in samples}))
            order = tuple(sorted(live))
            nodes = tuple(built.nodes)
            frames.append(Frame(built.parent, built.symbol, built.timeframe_ns, nodes, order, needs, children))
        return tuple(frames)


def lookback_bars(frames: tuple[Frame, ...], number: int, needs: Mapping[int, int]) -> int:
    """Return how many bars of a frame pass before what `needs` that is known, when no bar is missing."""
    frame = frames[number]
    bars = needs[OWN]
    for key, more in needs.items():
        if key == OWN:
            continue
        sample = frame.nodes[key]
        other = frames[sample.number]
        before = lookback_bars(frames, sample.number, other.nodes[sample.source].needs)
        if other.symbol == frame.symbol:  # a bucket is known with its last bar
            reached = (before + 1) * (other.timeframe_ns // frame.timeframe_ns) - 1
        else:
            reached = before + 1
        bars = max(bars, reached + more)
    return bars


def _most(needs: Iterable[Mapping[int, int]]) -> dict[int, int]:
    most = {OWN: 0}
    for each in needs:
        for key, bars in each.items():
            most[key] = max(most.get(key, 0), bars)
    return most
