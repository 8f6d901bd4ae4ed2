"""A plan a bar at a time: what the live bot and the exact backtest run.

Equal to `columns.py` to the last bit: every value is made by the same operations in the same order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bot.core import tactics
from bot.core.indicators.registry import INDICATORS
from bot.core.instrument import Instrument
from bot.core.messages import Bar
from bot.strategies.advice import AdviceRow
from bot.strategies.rules.columns import clock
from bot.strategies.rules.plan import OWN, Amount, Frame, Kind, Node, Op, Plan
from bot.strategies.rules.scalars import SCALARS
from bot.strategies.rules.series import Joiner, known_ns
from bot.strategies.rules.whole import whole

Values = list[Any]
Step = Callable[[Values, Bar], None]
"""Sets one value out of those before it and the bar."""


class RuleAdviser:
    """One plan on one symbol."""

    def __init__(
        self, plan: Plan, symbol: str, instruments: Mapping[str, Instrument], size: tuple[int, int] | None = None
    ) -> None:
        """Start before the first bar; `instruments` must know a symbol when its first bar comes.

        `size`: how sizes are read, and the size to advise instead of the plan's.
        """
        self._size = size
        self._plan = plan
        self._symbol = symbol
        self._instruments = instruments
        self._own = _FrameState(plan, 0, symbol, instruments)
        self._lookback = _Lookback(self._own, plan.frames[0].needs)

    def on_bar(self, bar: Bar) -> AdviceRow | None:
        """Take the next bar of its own; return what it advises, or None before its look-back is over."""
        own = self._own
        own.take(bar)
        own.hear(self._symbol, bar)  # of(…) may name the symbol that is traded
        return self._row(own.values) if self._lookback.is_over else None

    def hear(self, bar: Bar) -> None:
        """Take the next bar of another symbol that it watches."""
        if bar.symbol != self._symbol:
            self._own.hear(bar.symbol, bar)

    def _row(self, values: Values) -> AdviceRow:
        plan = self._plan
        instrument = self._instruments[self._symbol]

        def number_of(amount: Amount | None) -> int:
            return 0 if amount is None else whole(values[amount.node], amount, instrument)

        size, stop, target, trail = (number_of(each) for each in (plan.size, plan.stop, plan.target, plan.trail))
        flags = 0
        guards = ((plan.stop, stop), (plan.target, target), (plan.trail, trail))
        if size != 0 and all(number != 0 for amount, number in guards if amount is not None):
            flags |= tactics.ENTER_LONG if self._holds(plan.entries.get("long")) else 0
            flags |= tactics.ENTER_SHORT if self._holds(plan.entries.get("short")) else 0
        flags |= tactics.EXIT_LONG if self._holds(plan.exits.get("long")) else 0
        flags |= tactics.EXIT_SHORT if self._holds(plan.exits.get("short")) else 0
        flags |= tactics.RESIZE if plan.is_rebalanced and size > 0 else 0
        if self._size is not None:
            size = self._size[1]
        return AdviceRow(flags, size, stop, target, trail)

    def _holds(self, node: int | None) -> bool:
        return node is not None and self._own.values[node]


class _FrameState:
    """One frame: its values at its newest bar, and the frames below it."""

    def __init__(self, plan: Plan, number: int, symbol: str, instruments: Mapping[str, Instrument]) -> None:
        self.frame: Frame = plan.frames[number]
        self.symbol = self.frame.symbol or symbol
        self.values: Values = [node.value for node in self.frame.nodes]
        self.count = 0
        """Bars so far, that of now left out while its values are made."""
        self.lookbacks: list[_Lookback] = []
        self.children = {child: _FrameState(plan, child, symbol, instruments) for child in self.frame.children}
        self._longer = [
            (child, Joiner(child.frame.timeframe_ns))
            for child in self.children.values()
            if child.frame.timeframe_ns > self.frame.timeframe_ns
        ]
        self._others = [
            (child, deque[Bar]())
            for child in self.children.values()
            if child.frame.timeframe_ns == self.frame.timeframe_ns
        ]
        self._instruments = instruments
        self._steps: Sequence[Step] = ()

    def hear(self, symbol: str, bar: Bar) -> None:
        """Keep a bar of another symbol until one of ours began after it."""
        for child, waiting in self._others:
            if child.symbol == symbol:
                waiting.append(bar)

    def take(self, bar: Bar) -> None:
        """Take the next bar of this frame."""
        if not self._steps:
            instrument = self._instruments[self.symbol]
            nodes = self.frame.nodes
            made = (_step_of(each, nodes, instrument, self.children) for each in self.frame.live)
            self._steps = [step for step in made if step is not None]
        for child, waiting in self._others:
            while waiting and waiting[0].start_ns < bar.start_ns and known_ns(waiting[0]) < known_ns(bar):
                child.take(waiting.popleft())
        for child, joiner in self._longer:
            for bucket in joiner.add(bar):
                child.take(bucket)
        values = self.values
        for step in self._steps:
            step(values, bar)
        for lookback in self.lookbacks:
            lookback.update()
        self.count += 1


class _Lookback:
    """Whether a frame has had all the bars that some of its values need."""

    def __init__(self, state: _FrameState, needs: Mapping[int, int]) -> None:
        self.is_over = False
        self._state = state
        self._own_bars = needs[OWN]
        self._others: list[tuple[_Lookback, int]] = []
        """What samples look back on, and the bars of ours since that was over."""
        self._since: dict[int, int] = {}
        for key, more in needs.items():
            if key != OWN:
                sample = state.frame.nodes[key]
                child = state.children[sample.number]
                self._others.append((_Lookback(child, child.frame.nodes[sample.source].needs), more))
        state.lookbacks.append(self)

    def update(self) -> None:
        """Take the bar of now."""
        if self.is_over:
            return
        count = self._state.count
        for place, (other, _) in enumerate(self._others):
            if other.is_over:
                self._since.setdefault(place, count)
        self.is_over = count >= self._own_bars and all(
            place in self._since and count - self._since[place] >= more for place, (_, more) in enumerate(self._others)
        )


def _step_of(
    place: int, nodes: Sequence[Node], instrument: Instrument, children: Mapping[int, _FrameState]
) -> Step | None:
    """Return what sets the value at `place` with every bar; None where it never changes."""
    node = nodes[place]
    match node.op:
        case Op.CONST:
            return None
        case Op.FIELD:
            return _field_step(place, node.name, instrument)
        case Op.INDICATOR:
            return _indicator_step(place, node)
        case Op.OUTPUT:
            return _output_step(place, node.args[0], node.number)
        case Op.SAMPLE:
            return _sample_step(place, node, children[node.number])
        case Op.HISTORY:
            return _history_step(place, node)
        case Op.CROSS_UP | Op.CROSS_DOWN:
            return _cross_step(place, node)
        case _:
            return _operator_step(place, node)


def _field_step(place: int, name: str, instrument: Instrument) -> Step:
    tick, lot = float(10**instrument.price_scale), float(10**instrument.quantity_scale)

    def take(values: Values, bar: Bar) -> None:
        match name:
            case "open":
                values[place] = bar.open_ticks / tick
            case "high":
                values[place] = bar.high_ticks / tick
            case "low":
                values[place] = bar.low_ticks / tick
            case "close":
                values[place] = bar.close_ticks / tick
            case "volume":
                values[place] = bar.volume_lots / lot
            case "time":
                values[place] = float(bar.start_ns)
            case _:
                values[place] = float(clock(bar.start_ns + bar.timeframe_ns, name))

    return take


def _indicator_step(place: int, node: Node) -> Step:
    indicator = INDICATORS[node.name]
    state = indicator.make_state(node.params)
    inputs, outputs = np.empty(len(node.args)), np.empty(len(indicator.outputs))
    step, args = indicator.step, node.args

    def take(values: Values, bar: Bar) -> None:
        del bar
        for index, arg in enumerate(args):
            inputs[index] = values[arg]
        step(state, inputs, outputs)
        values[place] = outputs.tolist()

    return take


def _output_step(place: int, bundle: int, index: int) -> Step:
    def take(values: Values, bar: Bar) -> None:
        del bar
        values[place] = values[bundle][index]

    return take


def _sample_step(place: int, node: Node, child: _FrameState) -> Step:
    unknown = False if node.kind is Kind.CONDITION else math.nan

    def take(values: Values, bar: Bar) -> None:
        del bar
        values[place] = child.values[node.source] if child.count else unknown

    return take


def _history_step(place: int, node: Node) -> Step:
    (arg,) = node.args
    unknown = False if node.kind is Kind.CONDITION else math.nan
    past = deque([unknown] * (node.number + 1), node.number + 1)

    def take(values: Values, bar: Bar) -> None:
        del bar
        past.append(values[arg])
        values[place] = past[0]

    return take


def _cross_step(place: int, node: Node) -> Step:
    a, b = node.args
    after, before = (SCALARS[Op.GT], SCALARS[Op.LE]) if node.op is Op.CROSS_UP else (SCALARS[Op.LT], SCALARS[Op.GE])
    was = False

    def take(values: Values, bar: Bar) -> None:
        del bar
        nonlocal was
        values[place] = was and after(values[a], values[b])
        was = before(values[a], values[b])

    return take


def _operator_step(place: int, node: Node) -> Step:
    operate = SCALARS[node.op]
    match node.args:
        case (a,):

            def take_one(values: Values, bar: Bar) -> None:
                del bar
                values[place] = operate(values[a])

            return take_one
        case (a, b):

            def take_two(values: Values, bar: Bar) -> None:
                del bar
                values[place] = operate(values[a], values[b])

            return take_two
        case (a, b, c):

            def take_three(values: Values, bar: Bar) -> None:
                del bar
                values[place] = operate(values[a], values[b], values[c])

            return take_three
        case _:
            raise AssertionError(f"{node.op} with {len(node.args)} arguments")
