"""What expressions mean: names, types, other bars and indicators, as nodes of a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from bot.core.durations import duration_text
from bot.core.indicators.registry import Indicator
from bot.strategies.rules import syntax as s
from bot.strategies.rules.document import Expression, timeframe_of
from bot.strategies.rules.graph import INDICATORS, FrameBuilder, Graph, Meaningless, Value
from bot.strategies.rules.plan import Kind, Op
from bot.strategies.rules.problems import hint

LEVELS_MAX: Final = 200
"""Of nesting, with what every let stands for."""

FIELDS: Final = ("open", "high", "low", "close", "volume")
CLOCK: Final = ("hour", "minute", "weekday")
PRICES: Final = (*FIELDS, "time")
"""Inputs that an indicator finds by itself."""
FUNCTIONS: Final = {
    "min": "min(a, b, …)",
    "max": "max(a, b, …)",
    "abs": "abs(x)",
    "sqrt": "sqrt(x)",
    "choose": "choose(condition, a, b)",
    "cross_above": "cross_above(a, b)",
    "cross_below": "cross_below(a, b)",
    "at": 'at("1h", x)',
    "of": 'of("ETH_USDT", x)',
}
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?")
_ARITHMETIC: Final = {"+": Op.ADD, "-": Op.SUB, "*": Op.MUL, "/": Op.DIV}
_COMPARISONS: Final = {"<": Op.LT, "<=": Op.LE, ">": Op.GT, ">=": Op.GE, "==": Op.EQ, "!=": Op.NE}
_CROSSINGS: Final = {
    "crosses above": Op.CROSS_UP,
    "crosses below": Op.CROSS_DOWN,
    "cross_above": Op.CROSS_UP,
    "cross_below": Op.CROSS_DOWN,
}
_UNUSABLE: Final = "cannot be used here"
_LOGIC: Final = {"and": Op.AND, "or": Op.OR}


class Reader:
    """Makes values of trees; the lets become visible one after the other."""

    def __init__(self, graph: Graph, params: Mapping[str, float], lets: Mapping[str, Expression]) -> None:
        self._graph = graph
        self._params = params
        self._lets = lets
        self._visible: tuple[str, ...] = ()
        """The lets that may be used: those above the one that is read."""
        self._levels = 0
        self._bad_lets: set[str] = set()

    def read_let(self, name: str, *, is_good: bool) -> None:
        """Let a name be used from now on; a bad one says nothing more where it is used."""
        self._visible = (*self._visible, name)
        if not is_good:
            self._bad_lets.add(name)

    def let(self, frame: FrameBuilder, expression: Expression) -> Value:
        """Return what a name stands for on these bars. Raises as `value` does."""
        name = expression.path[-1]
        if name not in frame.lets:
            visible = self._visible
            lets = tuple(self._lets)
            self._visible = lets[: lets.index(name)]
            try:
                frame.lets[name] = self.value(frame, expression.tree)
            finally:
                self._visible = visible
        return frame.lets[name]

    def value(self, frame: FrameBuilder, tree: s.Tree) -> Value:
        """Return the value of a tree on these bars.

        Raises:
            Meaningless: it makes no sense; its sentence is empty where that was said before.

        """
        self._levels += 1
        try:
            if self._levels > LEVELS_MAX:
                raise Meaningless(tree.column, f"is nested more than {LEVELS_MAX} levels deep, its names included")
            return self._value_of(frame, tree)
        finally:
            self._levels -= 1

    def _value_of(self, frame: FrameBuilder, tree: s.Tree) -> Value:
        match tree:
            case s.Number():
                return self._graph.const(frame, tree.value)
            case s.Name():
                return self._named(frame, tree)
            case s.Call():
                return self._call(frame, tree)
            case s.Output():
                return self._selected(frame, tree)
            case s.History():
                value = self._single(frame, self.value(frame, tree.of), tree.of.column)
                if tree.bars == 0 or self._graph.is_const(frame, value):
                    return value
                return self._graph.node(frame, Op.HISTORY, value.kind, (value,), index=tree.bars)
            case s.Unary():
                value = self.value(frame, tree.of)
                op, kind = (Op.NOT, Kind.CONDITION) if tree.operator == "not" else (Op.NEG, Kind.NUMBER)
                return self._graph.operate(frame, op, (self.typed(frame, value, kind, tree.of.column, tree.operator),))
            case s.Binary():
                return self._binary(frame, tree)
            case s.Text():
                raise Meaningless(tree.column, f'"{tree.text}" is a text; only at(…) and of(…) take one')

    def _named(self, frame: FrameBuilder, tree: s.Name) -> Value:
        name = tree.name
        if name in FIELDS or name in CLOCK:
            return self._graph.field(frame, name)
        if name in self._params:
            return self._graph.const(frame, self._params[name])
        if name in self._visible:
            if name in self._bad_lets:
                raise Meaningless(tree.column, "")  # said where it stands
            try:
                return self.let(frame, self._lets[name])
            except Meaningless as bad:
                if frame.number == 0 or not bad.sentence:
                    raise
                said = bad.sentence if _UNUSABLE in bad.sentence else f"{name} {_UNUSABLE}: {bad.sentence}"
                raise Meaningless(tree.column, said) from None
        if name in self._lets:
            raise Meaningless(tree.column, f"{name} is defined further down; a let may use the names above it")
        if name in INDICATORS:
            return self._indicator(frame, s.Call(tree.column, name, (), ()))
        if name in FUNCTIONS:
            raise Meaningless(tree.column, f"{name} is a function: {FUNCTIONS[name]}")
        raise Meaningless(tree.column, f"there is no {name}{hint(name, self._all_names())}")

    def _all_names(self) -> Iterable[str]:
        return {*FIELDS, *CLOCK, *self._params, *self._visible, *FUNCTIONS, *INDICATORS}

    def _call(self, frame: FrameBuilder, tree: s.Call) -> Value:
        name = tree.name
        if name in INDICATORS:
            return self._indicator(frame, tree)
        if name not in FUNCTIONS:
            if name in self._all_names():
                raise Meaningless(tree.column, f"{name} is a value, not a function")
            raise Meaningless(tree.column, f"there is no function {name}{hint(name, {*FUNCTIONS, *INDICATORS})}")
        if tree.named:
            raise Meaningless(tree.named[0][1].column, f"{FUNCTIONS[name]} takes no argument by name")
        counts = {"abs": (1, 1), "sqrt": (1, 1), "min": (2, 20), "max": (2, 20), "choose": (3, 3)}
        low, high = counts.get(name, (2, 2))
        if not low <= len(tree.arguments) <= high:
            raise Meaningless(tree.column, f"expected {FUNCTIONS[name]}, found {_arguments(len(tree.arguments))}")
        match name:
            case "at":
                return self._at(frame, tree)
            case "of":
                return self._of(frame, tree)
            case "choose":
                return self._choose(frame, tree)
            case "cross_above" | "cross_below":
                return self._cross(frame, name, tree.arguments[0], tree.arguments[1])
            case _:
                values = [self._number(frame, argument, name) for argument in tree.arguments]
                if len(values) == 1:
                    return self._graph.operate(frame, Op(name), (values[0],))
                value = values[0]
                for other in values[1:]:
                    value = self._graph.operate(frame, Op(name), (value, other))
                return value

    def _choose(self, frame: FrameBuilder, tree: s.Call) -> Value:
        condition = self.typed(
            frame, self.value(frame, tree.arguments[0]), Kind.CONDITION, tree.arguments[0].column, "choose"
        )
        a = self._single(frame, self.value(frame, tree.arguments[1]), tree.arguments[1].column)
        b = self.typed(frame, self.value(frame, tree.arguments[2]), a.kind, tree.arguments[2].column, "choose")
        if self._graph.is_const(frame, condition):
            return a if frame.nodes[condition.node].value else b
        return self._graph.node(frame, Op.CHOOSE, a.kind, (condition, a, b))

    def _binary(self, frame: FrameBuilder, tree: s.Binary) -> Value:
        operator = tree.operator
        if operator in _CROSSINGS:
            return self._cross(frame, operator, tree.left, tree.right)
        kind = Kind.CONDITION if operator in _LOGIC else Kind.NUMBER
        left = self.typed(frame, self.value(frame, tree.left), kind, tree.left.column, operator)
        right = self.typed(frame, self.value(frame, tree.right), kind, tree.right.column, operator)
        op = _ARITHMETIC.get(operator) or _COMPARISONS.get(operator) or _LOGIC[operator]
        return self._graph.operate(frame, op, (left, right))

    def _cross(self, frame: FrameBuilder, operator: str, left: s.Tree, right: s.Tree) -> Value:
        a, b = self._number(frame, left, operator), self._number(frame, right, operator)
        if self._graph.is_const(frame, a) and self._graph.is_const(frame, b):
            return self._graph.const(frame, False)
        return self._graph.node(frame, _CROSSINGS[operator], Kind.CONDITION, (a, b))

    def _number(self, frame: FrameBuilder, tree: s.Tree, user: str) -> Value:
        return self.typed(frame, self.value(frame, tree), Kind.NUMBER, tree.column, user)

    def _selected(self, frame: FrameBuilder, tree: s.Output) -> Value:
        value = self.value(frame, tree.of)
        if value.indicator is None:
            raise Meaningless(tree.column, f".{tree.name} needs an indicator before it, found a {value.kind}")
        outputs = value.indicator.outputs
        if tree.name not in outputs:
            said = f"{value.indicator.name} has no output {tree.name}, only {', '.join(outputs)}"
            raise Meaningless(tree.column, said + hint(tree.name, outputs))
        return self._graph.output(frame, value, outputs.index(tree.name))

    def _single(self, frame: FrameBuilder, value: Value, column: int) -> Value:
        """Return the value itself, or the only output of an indicator."""
        if value.indicator is None:
            return value
        outputs = value.indicator.outputs
        if len(outputs) > 1:
            one = f"{value.indicator.name}(…).{outputs[0]}"
            raise Meaningless(column, f"{value.indicator.name} has the outputs {', '.join(outputs)}; write {one}")
        return self._graph.output(frame, value, 0)

    def typed(self, frame: FrameBuilder, value: Value, kind: Kind, column: int, user: str) -> Value:
        """Return a value that must be of this type, for who uses it. Raises as `value` does."""
        value = self._single(frame, value, column)
        if value.kind is not kind:
            who = f"{user} must be" if user == "this" else f"{user} needs"
            raise Meaningless(column, f"{who} a {kind}, found a {value.kind}")
        return value

    def _at(self, frame: FrameBuilder, tree: s.Call) -> Value:
        text = self._text(tree, "a length of time")
        try:
            timeframe_ns = timeframe_of(text.text)
        except ValueError as error:
            raise Meaningless(text.column, str(error)) from None
        if frame.timeframe_ns != self._graph.own.timeframe_ns:
            raise Meaningless(tree.column, "at(…) cannot stand inside another at(…)")
        if timeframe_ns == frame.timeframe_ns:
            return self.value(frame, tree.arguments[1])
        if timeframe_ns < frame.timeframe_ns or timeframe_ns % frame.timeframe_ns:
            own = duration_text(frame.timeframe_ns)
            raise Meaningless(text.column, f"{text.text} must be a multiple of the strategy's own timeframe, {own}")
        return self._sample(frame, frame.symbol, timeframe_ns, tree)

    def _of(self, frame: FrameBuilder, tree: s.Call) -> Value:
        text = self._text(tree, "a symbol")
        if not _SYMBOL.fullmatch(text.text):
            raise Meaningless(text.column, f'"{text.text}" is no symbol such as ETH_USDT')
        if frame.number:
            raise Meaningless(tree.column, "of(…) cannot stand inside at(…) or another of(…); write of(…, at(…, x))")
        return self._sample(frame, text.text, frame.timeframe_ns, tree)

    def _text(self, tree: s.Call, what: str) -> s.Text:
        first = tree.arguments[0]
        if not isinstance(first, s.Text):
            raise Meaningless(first.column, f"expected {what} in quotes: {FUNCTIONS[tree.name]}")
        return first

    def _sample(self, frame: FrameBuilder, symbol: str, timeframe_ns: int, tree: s.Call) -> Value:
        child = self._graph.child(frame, symbol, timeframe_ns, tree.column)
        value = self.value(child, tree.arguments[1])
        if value.indicator is not None and len(value.indicator.outputs) > 1:
            outputs = value.indicator.outputs
            one = f"{tree.name}(…, {value.indicator.name}(…).{outputs[0]})"
            raise Meaningless(tree.column, f"{value.indicator.name} has the outputs {', '.join(outputs)}; write {one}")
        value = self._single(child, value, tree.arguments[1].column)
        if self._graph.is_const(child, value):
            return self._graph.const(frame, child.nodes[value.node].value)
        return self._graph.node(frame, Op.SAMPLE, value.kind, (), index=child.number, source=value.node)

    def _indicator(self, frame: FrameBuilder, tree: s.Call) -> Value:
        indicator = INDICATORS[tree.name]
        series = [name for name in indicator.inputs if name not in PRICES]
        form = _form(indicator)
        if len(tree.arguments) < len(series):
            raise Meaningless(tree.column, f"expected {form}, found {_arguments(len(tree.arguments))}")
        if len(tree.arguments) > len(series) + len(indicator.params):
            raise Meaningless(tree.column, f"expected {form}, found {_arguments(len(tree.arguments))}")
        inputs = {
            name: self._number(frame, argument, tree.name)
            for name, argument in zip(series, tree.arguments, strict=False)
        }
        given = dict(zip([param.name for param in indicator.params], tree.arguments[len(series) :], strict=False))
        for name, argument in tree.named:
            if name in given or name in inputs:
                raise Meaningless(argument.column, f"{name} is given twice")
            if name in FIELDS and name in indicator.inputs:
                inputs[name] = self._number(frame, argument, tree.name)
            elif any(param.name == name for param in indicator.params):
                given[name] = argument
            else:
                known = [param.name for param in indicator.params] + [
                    each for each in indicator.inputs if each in FIELDS
                ]
                raise Meaningless(argument.column, f"{tree.name} takes no {name}; expected {form}{hint(name, known)}")
        params = [
            self._param(frame, tree.name, param.name, given[param.name]) if param.name in given else param.default
            for param in indicator.params
        ]
        values = tuple(inputs[name] if name in inputs else self._graph.field(frame, name) for name in indicator.inputs)
        return self._graph.called(frame, indicator, values, tuple(params), tree.column)

    def _param(self, frame: FrameBuilder, user: str, name: str, tree: s.Tree) -> float:
        value = self._number(frame, tree, user)
        if not self._graph.is_const(frame, value):
            raise Meaningless(
                tree.column, f"{name} of {user} must be of parameters and numbers only: it cannot change with the bars"
            )
        return float(frame.nodes[value.node].value)


def _form(indicator: Indicator) -> str:
    series = [name for name in indicator.inputs if name not in PRICES]
    params = [f"{param.name} = {param.default:g}" for param in indicator.params]
    return f"{indicator.name}({', '.join((*series, *params))})"


def _arguments(count: int) -> str:
    return "no argument" if count == 0 else "one argument" if count == 1 else f"{count} arguments"
