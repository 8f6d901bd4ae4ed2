"""A rule document: TOML text becomes a record of trees, or a list of everything that is wrong with its form.

The grammar is `docs/rules.md`. What its expressions mean is found out in `compiling.py`, with the parameters at hand.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, cast, get_origin

from bot.core.durations import UNITS_NS, duration_ns
from bot.core.toml_lines import KeyPath, key_lines
from bot.errors import SettingsError
from bot.strategies.rules.problems import Problems, hint, shown
from bot.strategies.rules.syntax import Number, SyntaxProblem, Tree, parse

DOCUMENT_BYTES_MAX: Final = 64 * 1024
HISTORY_MAX: Final = 10_000
"""Bars that `x[n]` may look back."""
PARAMS_MAX: Final = 32
LETS_MAX: Final = 100
REQUIRES_MAX: Final = 16
TIMEFRAME_NS_MAX: Final = UNITS_NS["w"]
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

Side = Literal["long", "short"]
SIDES: Final[tuple[Side, ...]] = ("long", "short")
DISTANCES: Final = ("percent", "ticks", "atr", "price")
SizeKind = Literal["fixed", "percent", "volatility", "kelly"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression and the key that it stands at."""

    path: KeyPath
    text: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter and the range that a sweep may try."""

    name: str
    kind: Literal["int", "float"]
    default: float
    low: float
    high: float
    step: float
    """0: none is proposed."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much a position is; `unit` says what `amount` counts, and the rest is for `volatility` and `kelly`."""

    kind: SizeKind
    unit: Literal["lots", "quantity", "quote", "percent"]
    amount: Expression | None
    """Lots, coins, quote, or percent of equity; the target for `volatility`, the fraction for `kelly`."""
    window: Expression | None
    cap: Expression | None
    """Percent of equity."""
    is_rebalanced: bool


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a stop, a target or a limit is; `unit` says what `amount` counts."""

    unit: Literal["percent", "ticks", "atr", "price"]
    amount: Expression
    window: Expression | None
    """Bars of the average true range, for `atr`."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a position is entered."""

    is_limit: bool
    offset: Distance | None
    patience: Expression | None


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is right in form."""

    label: str
    lines: Mapping[KeyPath, int]
    name: str
    description: str
    timeframe_ns: int
    sides: tuple[Side, ...]
    params: tuple[Param, ...]
    require: tuple[Expression, ...]
    lets: Mapping[str, Expression]
    entries: Mapping[Side, Expression]
    exits: Mapping[Side, Expression]
    size: Size | None
    order: Order
    stop: Distance | None
    target: Distance | None
    trail: Distance | None
    break_even: Distance | None
    max_bars: Expression | None
    cool_down: Expression | None

    def problems(self) -> Problems:
        """Return an empty list of problems that knows this document's lines."""
        return Problems(self.label, self.lines)


def read_document(content: bytes | str, label: str) -> Document:
    """Return the document; `label` names it in errors.

    Raises:
        SettingsError: it is no TOML, too large, or wrong in form; names everything that is.

    """
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise SettingsError(f"{label}: is larger than {DOCUMENT_BYTES_MAX} bytes")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{label}:{line}: is not UTF-8 text") from None
    tree = _toml(text, label)
    lines = key_lines(text)
    problems = Problems(label, lines)
    document = _Reader(problems).document(tree, label, lines)
    if document is None or problems.found:
        raise SettingsError(problems.found)
    return document


def _toml(text: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SettingsError(f"{label}: brackets are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is Python's refusal of numbers of 4300 digits
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        reason, _, _ = str(error).partition(" (at ")
        end = text.removesuffix("\n")
        line, column = (place[1], place[2]) if place else (end.count("\n") + 1, len(end) - end.rfind("\n"))
        raise SettingsError(f"{label}:{line}:{column}: {reason}") from None


class _Table:
    """One table, and which of its keys were asked for."""

    def __init__(self, problems: Problems, path: KeyPath, values: Mapping[str, Any]) -> None:
        self.path = path
        self._problems = problems
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> Iterable[str]:
        return self._values

    def say(self, key: str, sentence: str) -> None:
        self._problems.say((*self.path, key) if key else self.path, sentence)

    def get(self, key: str, kind: type[T], expected: str) -> T | None:
        """Return the value of a key, or None after saying what is wrong with it; None where there is none, too."""
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        plain: Any = get_origin(kind) if get_origin(kind) in (dict, list) else kind
        if not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool):
            self.say(key, f"must be {expected}, not {shown(value)}")
            return None
        return cast("T", value)

    def need(self, key: str, kind: type[T], expected: str) -> T | None:
        """Return the same for a key that must be there."""
        if key not in self._values:
            self._asked.add(key)
            self.say("", f"{key} is missing; it must be {expected}")
            return None
        return self.get(key, kind, expected)

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        value = self.get(key, cast("type[int | float]", int | float), "a number")
        if value is None:
            return None
        if not abs(value) <= 1e15:
            self.say(key, f"{shown(value)} must be a number of at most 1e15")
            return None
        return value

    def choice(self, key: str, choices: Iterable[str], default: str) -> str:
        """Return one of a few words."""
        known = tuple(choices)
        expected = f"one of {', '.join(known)}"
        value = self.get(key, str, expected)
        if value is None:
            return default
        if value not in known:
            self.say(key, f"must be {expected}, not {shown(value)}{hint(value, known)}")
            return default
        return value

    def table(self, key: str) -> _Table | None:
        """Return the table of that name."""
        values = self.get(key, dict[str, Any], f"a table, [{'.'.join((*self.path, key))}]")
        return None if values is None else _Table(self._problems, (*self.path, key), values)

    def expression(self, key: str) -> Expression | None:
        """Return a number or an expression as an expression."""
        value = self.get(key, cast("type[int | float | str]", int | float | str), "a number or an expression")
        if value is None:
            return None
        if isinstance(value, str):
            return _parsed(self._problems, (*self.path, key), value)
        number = self.number(key)
        if number is None:
            return None
        tree = Number(0, float(number), isinstance(number, int))
        return Expression((*self.path, key), str(number), tree)

    def one_of(self, units: Iterable[str], others: Iterable[str], what: str) -> str | None:
        """Return which one of `units` is there, after saying so if it is not exactly one."""
        known = tuple(units)
        given = [unit for unit in known if unit in self._values]
        self._asked.update(known)
        self.end(others)
        if len(given) != 1:
            found = f"; found {' and '.join(given)}" if given else ""
            self.say("", f"must give {what} by exactly one of {', '.join(known)}{found}")
            return None
        return given[0]

    def end(self, also: Iterable[str] = ()) -> None:
        """Report the keys that nobody asked for."""
        known = {*self._asked, *also}
        for key in self._values:
            if key not in known:
                self.say(key, f"is no key of a rule document{hint(key, known)}")


def _parsed(problems: Problems, path: KeyPath, text: str) -> Expression | None:
    try:
        return Expression(path, " ".join(text.split()), parse(text, HISTORY_MAX))
    except SyntaxProblem as problem:
        problems.say(path, problem.sentence, problem.column)
        return None


class _Reader:
    """Goes through the tables in the order of the grammar."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def document(self, tree: Mapping[str, Any], label: str, lines: Mapping[KeyPath, int]) -> Document | None:
        top = _Table(self._problems, (), tree)
        name = top.need("name", str, "a short name of the strategy")
        if name is not None and not 1 <= len(name.strip()) <= 100:
            top.say("name", "must have 1 to 100 characters")
        description = top.get("description", str, "a sentence or two") or ""
        timeframe_ns = self._timeframe(top)
        side = top.choice("side", (*SIDES, "both"), "long")
        sides: tuple[Side, ...] = SIDES if side == "both" else (cast("Side", side),)
        params = self._params(top.table("params"))
        lets = self._lets(top.table("let"), params)
        require = self._require(top)
        entries = self._whens(top, "entry", sides)
        exits = self._whens(top, "exit", sides)
        stop, target, trail = (self._distance(top.table(key)) for key in ("stop", "target", "trail"))
        made = Document(
            label=label,
            lines=lines,
            name=name or "",
            description=description,
            timeframe_ns=timeframe_ns,
            sides=sides,
            params=params,
            require=require,
            lets=lets,
            entries=entries,
            exits=exits,
            size=self._size(top.table("size")),
            order=self._order(top.table("order")),
            stop=stop,
            target=target,
            trail=trail,
            break_even=self._distance(top.table("break_even"), ("percent", "ticks")),
            max_bars=top.expression("max_bars"),
            cool_down=top.expression("cool_down"),
        )
        top.end()
        self._check_sides(top, made)
        return made

    def _timeframe(self, top: _Table) -> int:
        text = top.need("timeframe", str, "a length of time such as 5m or 1h")
        if text is None:
            return UNITS_NS["m"]
        try:
            return timeframe_of(text)
        except ValueError as error:
            top.say("timeframe", str(error))
            return UNITS_NS["m"]

    def _params(self, table: _Table | None) -> tuple[Param, ...]:
        if table is None:
            return ()
        names = list(table.keys)
        if len(names) > PARAMS_MAX:
            table.say("", f"has {len(names)} parameters, more than {PARAMS_MAX}")
            return ()
        made = [self._param(table, name) for name in names]
        return tuple(param for param in made if param is not None)

    def _param(self, table: _Table, name: str) -> Param | None:
        before = len(self._problems.found)
        _check_name(table, name)
        inner = table.table(name)
        if inner is None:
            return None
        values = {key: inner.number(key) for key in ("default", "low", "high", "step")}
        for key in ("default", "low", "high"):
            inner.need(key, cast("type[int | float]", int | float), "a number")
        is_whole = all(isinstance(value, int) for value in values.values() if value is not None)
        kind = inner.choice("kind", ("int", "float"), "int" if is_whole else "float")
        inner.end()
        default, low, high, step = (values[key] for key in ("default", "low", "high", "step"))
        if len(self._problems.found) > before or default is None or low is None or high is None:
            return None
        if kind == "int" and not all(float(value).is_integer() for value in (default, low, high, step or 0)):
            inner.say("", "is of kind int, so default, low, high and step must be whole numbers")
        if not low <= default <= high:
            inner.say("default", f"{default:g} must be from low {low:g} to high {high:g}")
        if step is not None and step <= 0:
            inner.say("step", f"{step:g} must be more than 0")
        kinds: Literal["int", "float"] = "int" if kind == "int" else "float"
        return Param(name, kinds, float(default), float(low), float(high), float(step or 0))

    def _lets(self, table: _Table | None, params: tuple[Param, ...]) -> dict[str, Expression]:
        if table is None:
            return {}
        if len(list(table.keys)) > LETS_MAX:
            table.say("", f"has more than {LETS_MAX} names")
            return {}
        lets: dict[str, Expression] = {}
        for name in table.keys:
            _check_name(table, name)
            if any(param.name == name for param in params):
                table.say(name, "is the name of a parameter already")
            expression = table.expression(name)
            if expression is not None:
                lets[name] = expression
        return lets

    def _require(self, top: _Table) -> tuple[Expression, ...]:
        items = top.get("require", list[object], "a list of conditions on parameters") or []
        if len(items) > REQUIRES_MAX:
            top.say("require", f"has {len(items)} conditions, more than {REQUIRES_MAX}")
            return ()
        made: list[Expression] = []
        for item in items:
            if not isinstance(item, str):
                top.say("require", f"must be a list of conditions in quotes, and holds {shown(item)}")
            elif (expression := _parsed(self._problems, ("require",), item)) is not None:
                made.append(expression)
        return tuple(made)

    def _whens(self, top: _Table, key: str, sides: tuple[Side, ...]) -> dict[Side, Expression]:
        table = top.table(key)
        if table is None:
            return {}
        made: dict[Side, Expression] = {}
        for side in SIDES:
            inner = table.table(side)
            if inner is None:
                continue
            if side not in sides:
                table.say(side, f'is no side of this strategy; say side = "{side}" or side = "both"')
            text = inner.need("when", str, "a condition in quotes")
            expression = None if text is None else _parsed(self._problems, (key, side, "when"), text)
            inner.end()
            if expression is not None:
                made[side] = expression
        table.end()
        return made

    def _size(self, table: _Table | None) -> Size | None:
        if table is None:
            return None
        kind = cast("SizeKind", table.choice("kind", ("fixed", "percent", "volatility", "kelly"), "fixed"))
        table.need("kind", str, "one of fixed, percent, volatility, kelly")
        is_rebalanced = table.get("rebalance", bool, "true or false") or False
        window = cap = None
        if kind in ("volatility", "kelly"):
            window, cap = table.expression("window"), table.expression("cap")
            unit = table.one_of(("target",) if kind == "volatility" else ("fraction",), (), "its strength")
            if "window" not in table:
                table.say("", "window is missing; it must be a number of bars")
        else:
            unit = table.one_of(("quantity", "lots", "quote") if kind == "fixed" else ("percent",), (), "the size")
        amount = table.expression(unit) if unit else None
        counted = unit if unit == "quantity" or unit == "lots" or unit == "quote" else "percent"
        return Size(kind, counted, amount, window, cap, is_rebalanced)

    def _distance(
        self, table: _Table | None, units: tuple[str, ...] = ("percent", "ticks", "atr", "price")
    ) -> Distance | None:
        if table is None:
            return None
        also = ("window",) if "atr" in table and "atr" in units else ()
        unit = table.one_of(units, also, "a distance")
        window = table.expression("window") if also else None
        amount = table.expression(unit) if unit else None
        if amount is None:
            return None
        return Distance(cast('Literal["percent", "ticks", "atr", "price"]', unit), amount, window)

    def _order(self, table: _Table | None) -> Order:
        if table is None:
            return Order(is_limit=False, offset=None, patience=None)
        kind = table.choice("kind", ("market", "limit"), "market")
        table.need("kind", str, "market or limit")
        if kind == "market":
            table.end()
            return Order(is_limit=False, offset=None, patience=None)
        percent, ticks = table.expression("offset_percent"), table.expression("offset_ticks")
        patience = table.expression("patience")
        if percent and ticks:
            table.say("", "must have one of offset_percent and offset_ticks, not both")
        table.end()
        offset = Distance("percent", percent, None) if percent else Distance("ticks", ticks, None) if ticks else None
        return Order(is_limit=True, offset=offset, patience=patience)

    def _check_sides(self, top: _Table, made: Document) -> None:
        """Every side can be entered, and left again."""
        for side in made.sides:
            if side not in made.entries and ("entry", side) not in made.lines:
                top.say("", f"entry.{side}.when is missing: nothing ever opens a {side} position")
            has_guard = made.stop or made.target or made.trail or made.max_bars
            if not (has_guard or side in made.exits or ("exit", side) in made.lines or len(made.sides) == 2):
                top.say("", f"exit.{side}.when is missing: nothing ever closes a {side} position")


def timeframe_of(text: str) -> int:
    """Return the length of a bar in nanoseconds.

    Raises:
        ValueError: it is no length of whole seconds from 1s to 1w.

    """
    try:
        length_ns = duration_ns(text)
    except ValueError:
        length_ns = 0
    if not UNITS_NS["s"] <= length_ns <= TIMEFRAME_NS_MAX or length_ns % UNITS_NS["s"]:
        raise ValueError(f"must be a length of whole seconds from 1s to 1w, such as 5m or 1h, not {shown(text)}")
    return length_ns


def _check_name(table: _Table, name: str) -> None:
    if not NAME.fullmatch(name):
        table.say(name, "a name has 1 to 64 characters a-z, 0-9 and _, and begins with a letter")


def checked_params(document: Document, given: Mapping[str, float]) -> dict[str, float]:
    """Return the value of every parameter: those given, and the defaults of the rest.

    Raises:
        SettingsError: one is unknown, not finite, or not whole where it must be. The range of a parameter is for
        sweeps; outside of it a value only has to make sense where it is used.

    """
    known = {param.name: param for param in document.params}
    problems: list[str] = []
    for name, value in given.items():
        if name not in known:
            problems.append(f"{document.label}: has no parameter {name}{hint(name, known)}")
        elif not math.isfinite(value):
            problems.append(f"{document.label}: parameter {name} = {value} must be finite")
        elif known[name].kind == "int" and not float(value).is_integer():
            problems.append(f"{document.label}: parameter {name} = {value:g} must be a whole number")
    if problems:
        raise SettingsError(problems)
    return {name: float(given.get(name, param.default)) for name, param in known.items()}
