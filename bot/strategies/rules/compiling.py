"""From a document and the values of its parameters to a plan, key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bot.core.durations import UNITS_NS
from bot.errors import SettingsError
from bot.strategies.rules.document import Distance, Document, Expression, Side, Size
from bot.strategies.rules.expressions import CLOCK, FIELDS, FUNCTIONS, Reader
from bot.strategies.rules.graph import INDICATORS, Graph, Meaningless, Value, lookback_bars
from bot.strategies.rules.plan import Amount, Kind, Op, Plan, Unit
from bot.strategies.rules.problems import Problems

LOOKBACK_BARS_MAX: Final = 1_000_000
PATIENCE_MAX: Final = 10_000
BARS_MAX: Final = 1_000_000
PERCENT_MAX: Final = 1_000.0
"""Of equity, and of the price that a distance is measured from."""
YEAR_NS: Final = 365 * UNITS_NS["d"]


def compile_plan(document: Document, params: Mapping[str, float], timeframe_ns: int, *, is_probe: bool = False) -> Plan:
    """Return the plan for these values of all parameters, and bars of its own of this length.

    `is_probe`: the values are no proposal, only tried; what the document requires of them does not count.

    Raises:
        SettingsError: an expression makes no sense, or these values of the parameters do not; names everything.

    """
    compiler = _Compiler(document, params, timeframe_ns)
    plan = compiler.plan(is_probe=is_probe)
    if compiler.problems.found or plan is None:
        raise SettingsError(compiler.problems.found)
    return plan


class _Compiler:
    def __init__(self, document: Document, params: Mapping[str, float], timeframe_ns: int) -> None:
        self.problems: Problems = document.problems()
        self._document = document
        self._params = params
        self._graph = Graph(timeframe_ns)
        self._reader = Reader(self._graph, params, document.lets)

    def plan(self, *, is_probe: bool) -> Plan | None:
        document = self._document
        self._check_names()
        for name, expression in document.lets.items():
            self._reader.read_let(name, is_good=self._try(expression, None) is not None)
        for expression in document.require:
            self._require(expression, is_probe=is_probe)
        entries = self._conditions(document.entries)
        exits = self._conditions(document.exits)
        size = self._size(document.size)
        stop, target, trail = (self._distance(each) for each in (document.stop, document.target, document.trail))
        order = document.order
        plan = Plan(
            frames=(),
            entries=entries,
            exits=exits,
            size=size or Amount(0, "percent", is_distance=False),
            is_rebalanced=document.size is not None and document.size.is_rebalanced,
            stop=stop,
            target=target,
            trail=trail,
            is_limit=order.is_limit,
            offset=self._fixed_distance(order.offset, may_be_zero=True),
            patience=self._whole(order.patience, 1, PATIENCE_MAX, 1),
            bars_max=self._whole(document.max_bars, 1, BARS_MAX, 0),
            cool_down=self._whole(document.cool_down, 0, BARS_MAX, 0),
            break_even=self._fixed_distance(document.break_even, may_be_zero=False),
        )
        if self.problems.found:
            return None
        return self._finish(plan)

    def _check_names(self) -> None:
        taken = {*FIELDS, *CLOCK, *FUNCTIONS, *INDICATORS}
        for table, names in (("params", self._params), ("let", self._document.lets)):
            for name in names:
                if name in taken:
                    self.problems.say((table, name), "is a word of the language; choose another name")

    def _conditions(self, expressions: Mapping[Side, Expression]) -> dict[Side, int]:
        made: dict[Side, int] = {}
        for side, expression in expressions.items():
            value = self._try(expression, Kind.CONDITION)
            if value is not None:
                made[side] = value.node
        return made

    def _require(self, expression: Expression, *, is_probe: bool) -> None:
        value = self._try(expression, Kind.CONDITION)
        if value is None:
            return
        node = self._graph.own.nodes[value.node]
        if node.op is not Op.CONST:
            self.problems.say(expression.path, f"{expression.text} must be of parameters and numbers only")
        elif not node.value and not is_probe:
            values = ", ".join(f"{name} = {value:g}" for name, value in self._params.items() if name in expression.text)
            self.problems.say(expression.path, f"{expression.text} does not hold{values and f' with {values}'}")

    def _size(self, size: Size | None) -> Amount | None:
        if size is None:
            return Amount(self._graph.const(self._graph.own, 100.0).node, "percent", is_distance=False)
        if size.amount is None:
            return None
        if size.kind in ("volatility", "kelly"):
            return self._measured_size(size, size.amount)
        high = {"percent": PERCENT_MAX}.get(size.unit, 1e15)
        return self._amount(size.amount, size.unit, 0.0, high, is_distance=False)

    def _measured_size(self, size: Size, amount: Expression) -> Amount | None:
        """Return the size that follows from the returns of the last `window` bars; docs/rules.md has the formulas."""
        window = self._whole(size.window, 2, 10_000, 0)
        cap = self._fixed(size.cap, 0.0, PERCENT_MAX, 100.0)
        strength = self._fixed(amount, 0.0, PERCENT_MAX, 0.0)
        if self.problems.found or window < 2:
            return None
        frame = self._graph.own
        close = self._graph.field(frame, "close")
        measure = INDICATORS["volatility" if size.kind == "volatility" else "kelly"]
        measured = self._graph.output(frame, self._graph.called(frame, measure, (close,), (float(window),), 0), 0)
        if size.kind == "volatility":
            bars_a_year = YEAR_NS / frame.timeframe_ns
            a_year = self._graph.operate(frame, Op.MUL, (measured, self._graph.const(frame, math.sqrt(bars_a_year))))
            share = self._graph.operate(frame, Op.DIV, (self._graph.const(frame, strength), a_year))
        else:
            if self._document.sides == ("short",):
                measured = self._graph.operate(frame, Op.NEG, (measured,))
            elif len(self._document.sides) == 2:
                measured = self._graph.operate(frame, Op.ABS, (measured,))
            share = self._graph.operate(frame, Op.MUL, (measured, self._graph.const(frame, strength * 100.0)))
        capped = self._graph.operate(frame, Op.MIN, (share, self._graph.const(frame, cap)))
        return Amount(capped.node, "percent", is_distance=False)

    def _distance(self, distance: Distance | None) -> Amount | None:
        if distance is None:
            return None
        if distance.unit != "atr":
            high = PERCENT_MAX if distance.unit == "percent" else 1e15
            return self._amount(distance.amount, distance.unit, 0.0, high, is_distance=True)
        window = self._whole(distance.window, 1, 10_000, 14)
        multiple = self._try(distance.amount, Kind.NUMBER)
        if multiple is None or window < 1:
            return None
        frame = self._graph.own
        self._check_range(distance.amount, multiple, 0.0, 1e6)
        reach = self._graph.called(frame, INDICATORS["atr"], (), (float(window),), distance.amount.tree.column)
        product = self._graph.operate(frame, Op.MUL, (multiple, self._graph.output(frame, reach, 0)))
        return Amount(product.node, "price", is_distance=True)

    def _amount(
        self, expression: Expression, unit: Unit, low: float, high: float, *, is_distance: bool
    ) -> Amount | None:
        value = self._try(expression, Kind.NUMBER)
        if value is None:
            return None
        self._check_range(expression, value, low, high)
        return Amount(value.node, unit, is_distance)

    def _check_range(self, expression: Expression, value: Value, low: float, high: float) -> None:
        """Report a constant that is not above `low` and at most `high`."""
        node = self._graph.own.nodes[value.node]
        if node.op is Op.CONST and not low < node.value <= high:
            self.problems.say(expression.path, f"{node.value:g} must be more than {low:g} and at most {high:g}")

    def _fixed_distance(self, distance: Distance | None, *, may_be_zero: bool) -> tuple[float, Unit] | None:
        if distance is None:
            return None
        unit: Unit = "percent" if distance.unit == "percent" else "ticks"
        low = -math.ulp(0.0) if may_be_zero else 0.0
        high = 99.0 if unit == "percent" else 1e12
        return self._fixed(distance.amount, low, high, 1.0), unit

    def _fixed(self, expression: Expression | None, low: float, high: float, default: float) -> float:
        """Return a constant above `low` and at most `high`."""
        if expression is None:
            return default
        value = self._try(expression, Kind.NUMBER)
        if value is None:
            return default
        node = self._graph.own.nodes[value.node]
        if node.op is not Op.CONST:
            self.problems.say(expression.path, f"{expression.text} must be of parameters and numbers only")
            return default
        self._check_range(expression, value, low, high)
        return float(node.value)

    def _whole(self, expression: Expression | None, low: int, high: int, default: int) -> int:
        """Return a whole constant from `low` to `high`."""
        number = self._fixed(expression, -math.inf, math.inf, default)
        if expression is None:
            return default
        if not (low <= number <= high and number == int(number)):
            self.problems.say(expression.path, f"{number:g} must be a whole number from {low} to {high}")
            return default
        return int(number)

    def _try(self, expression: Expression, kind: Kind | None) -> Value | None:
        """Return the value of an expression in the own frame, or None after saying what is wrong with it."""
        try:
            if kind is None:
                return self._reader.let(self._graph.own, expression)
            value = self._reader.value(self._graph.own, expression.tree)
            return self._reader.typed(self._graph.own, value, kind, expression.tree.column, "this")
        except Meaningless as bad:
            if bad.sentence:
                self.problems.say(expression.path, bad.sentence, bad.column)
            return None

    def _finish(self, plan: Plan) -> Plan | None:
        """Return the plan with its frames: only what is needed."""
        amounts = (plan.size, plan.stop, plan.target, plan.trail)
        nodes = (each.node for each in amounts if each is not None)
        frames = self._graph.finish((*plan.entries.values(), *plan.exits.values(), *nodes))
        bars = lookback_bars(frames, 0, frames[0].needs)
        if bars > LOOKBACK_BARS_MAX:
            self.problems.say((), f"needs {bars} bars before its first advice, more than {LOOKBACK_BARS_MAX}")
            return None
        return replace(plan, frames=frames)
