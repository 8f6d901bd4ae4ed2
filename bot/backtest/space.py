"""Parameter spaces: which values a sweep may try, and in which order it tries them.

An axis is one parameter, either a list of values or a span of real numbers. A point has one value for each axis, in
the order of the axes. Grid, random and Sobol draw points without knowing what came of the last ones; the optimiser
learns, and is an extra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from importlib import import_module
from math import prod
from typing import Any, Final, Literal, Protocol

import msgspec
import numpy as np

from bot.errors import SettingsError

Value = bool | int | float | str
Point = tuple[Value, ...]

AXIS_VALUES_MAX: Final = 1_000_000
SOBOL_BITS: Final = 30
# Degree s, polynomial a and first numbers m of the directions of dimension 2, 3, …; the first dimension needs none.
# Source: Joe and Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM J. Sci. Comput. 30,
# 2008, table `new-joe-kuo-6`.
_DIRECTIONS: Final[tuple[tuple[int, int, tuple[int, ...]], ...]] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
)
SOBOL_AXES_MAX: Final = len(_DIRECTIONS) + 1
_ASKED_IN_VAIN_MAX: Final = 200
_COUNTED_MAX: Final = 100_000
"""Points of a space that are counted, to know when all have been tried."""

_NUMBER: Final = r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_SPAN: Final = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?", re.IGNORECASE)
_CONSTRAINT: Final = re.compile(r"\s*([\w.]+)\s*(<=|>=|==|!=|<|>)\s*([\w.+-]+)\s*")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter: `values` to choose from, or without any, all real numbers from `low` to `high`."""

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def at(self, share: float) -> Value:
        """Return the value at `share` (0.0 up to but not 1.0) of the axis; listed values are equally likely."""
        if self.values:
            return self.values[int(share * len(self.values))]
        return self.low + share * (self.high - self.low)


class Constraint(msgspec.Struct, frozen=True):
    """`left operator right`, where each side is the name of an axis or a number."""

    left: str
    operator: str
    right: str

    def holds(self, named: Mapping[str, Value]) -> bool:
        """Return whether a point satisfies it."""
        sides = [named[side] if side in named else float(side) for side in (self.left, self.right)]
        return _COMPARE[self.operator](float(sides[0]), float(sides[1]))


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """Axes, and what must hold between them."""

    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the axes, in order."""
        return tuple(axis.name for axis in self.axes)

    def named(self, point: Point) -> dict[str, Value]:
        """Return a point as names and values."""
        return dict(zip(self.names, point, strict=True))

    def allows(self, point: Point) -> bool:
        """Return whether all constraints hold."""
        named = self.named(point)
        return all(constraint.holds(named) for constraint in self.constraints)

    def at(self, shares: Sequence[float]) -> Point:
        """Return the point at these shares (0.0 up to but not 1.0) of each axis."""
        return tuple(axis.at(share) for axis, share in zip(self.axes, shares, strict=True))


@dataclass(slots=True)
class Draw:
    """Points to try, and how many were left out; the counts are final when all points are drawn."""

    space: Space
    candidates: Iterable[Point]
    candidates_max: int
    """How many there are, those left out included."""
    invalid: int = 0
    """Candidates against a constraint."""
    repeated: int = 0
    _seen: set[Point] = field(default_factory=set[Point])

    def __iter__(self) -> Iterator[Point]:
        for point in self.candidates:
            if not self.space.allows(point):
                self.invalid += 1
            elif point in self._seen:
                self.repeated += 1
            else:
                self._seen.add(point)
                yield point


# --- from text


def make_space(axes: Iterable[Axis], constraints: Iterable[str] = ()) -> Space:
    """Return a space, from axes and texts such as `fast < slow`.

    Raises:
        SettingsError: a name comes twice, or a constraint cannot be read, or names no axis of numbers.

    """
    axes = tuple(axes)
    by_name = {axis.name: axis for axis in axes}
    if len(by_name) < len(axes):
        twice = next(axis.name for axis in axes if sum(other.name == axis.name for other in axes) > 1)
        raise SettingsError(f"parameter {twice} is given twice")
    return Space(axes=axes, constraints=tuple(_constraint(text, by_name) for text in constraints))


def _constraint(text: str, axes: Mapping[str, Axis]) -> Constraint:
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        raise SettingsError(f"constraint {text!r} is not of the form `fast < slow` (or <=, >, >=, ==, !=)")
    for side in (found[1], found[3]):
        if side in axes:
            if any(isinstance(value, str) for value in axes[side].values):
                raise SettingsError(f"constraint {text!r}: {side} is not a number")
        elif _number(side) is None:
            raise SettingsError(f"constraint {text!r}: no parameter {side}; there are: {', '.join(axes)}")
    return Constraint(found[1], found[2], found[3])


def parse_axis(text: str) -> Axis:
    """Return the axis that a text such as `fast=5..50:5`, `slow=20,50,100` or `x=0.5..2.0` describes.

    `a..b:c` is a, a + c, … up to b; `a..b` is every whole number from a to b, or if one of them is written with a
    point, every real number between them.

    Raises:
        SettingsError: it describes none.

    """
    name, equals, what = (part.strip() for part in text.partition("="))
    if not equals or not what or not _NAME.fullmatch(name):
        raise SettingsError(f"{text!r} is not of the form name=5..50:5, name=20,50,100 or name=0.5..2.0")
    span = _SPAN.fullmatch(what)
    if span is None:
        values = tuple(_value(part.strip()) for part in what.split(","))
        if "" in values:
            raise SettingsError(f"{text!r}: a value is missing")
        return Axis(name=name, values=tuple(dict.fromkeys(values)))
    low, high = Decimal(span[1]), Decimal(span[2])
    if low > high:
        raise SettingsError(f"{text!r}: {low} is above {high}")
    if span[3] is not None:
        return stepped(name, low, high, Decimal(span[3]))
    if _is_whole(span[1]) and _is_whole(span[2]):
        return stepped(name, low, high, Decimal(1))
    return Axis(name=name, low=float(low), high=float(high))


def stepped(name: str, low: Decimal, high: Decimal, step: Decimal) -> Axis:
    """Return `low`, `low + step`, … up to `high`; whole numbers where `low` and `step` are whole.

    Raises:
        SettingsError: the step is not above 0, or there are more than `AXIS_VALUES_MAX` values.

    """
    if step <= 0:
        raise SettingsError(f"parameter {name}: a step of {step}; it must be above 0")
    count = int((high - low) / step) + 1
    if count > AXIS_VALUES_MAX:
        raise SettingsError(f"parameter {name} has {count} values, more than {AXIS_VALUES_MAX}")
    steps = [low + step * number for number in range(count)]
    is_whole = low == int(low) and step == int(step)
    return Axis(name=name, values=tuple(int(value) if is_whole else float(value) for value in steps))


def _is_whole(text: str) -> bool:
    return text.lstrip("+-").isdigit()


def _value(text: str) -> Value:
    if text in {"true", "false"}:
        return text == "true"
    if _is_whole(text):
        return int(text)
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> float | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return float(number) if number.is_finite() else None


# --- without memory


def grid_size(space: Space) -> int:
    """Return how many points the grid has, before constraints.

    Raises:
        SettingsError: an axis is a span, which has no end of values.

    """
    for axis in space.axes:
        if not axis.values:
            raise SettingsError(
                f"parameter {axis.name} is a span of real numbers; a grid needs a step, "
                f"as in {axis.name}={axis.low}..{axis.high}:{(axis.high - axis.low) / 10 or 1:g}"
            )
    return prod(len(axis.values) for axis in space.axes)


def grid(space: Space) -> Draw:
    """Draw every combination; the last axis changes fastest. Raises as `grid_size`."""
    size = grid_size(space)

    def candidates() -> Iterator[Point]:
        for number in range(size):
            yield _grid_point(space, number)

    return Draw(space, candidates(), size)


def _grid_point(space: Space, number: int) -> Point:
    values: list[Value] = []
    for axis in reversed(space.axes):
        number, place = divmod(number, len(axis.values))
        values.append(axis.values[place])
    return tuple(reversed(values))


def random(space: Space, count: int, seed: int) -> Draw:
    """Draw `count` points, each axis evenly; the same for the same seed."""
    generator = np.random.default_rng(seed)

    def candidates() -> Iterator[Point]:
        for _ in range(count):
            yield space.at([float(share) for share in generator.random(len(space.axes))])

    return Draw(space, candidates(), count)


def sobol(space: Space, count: int) -> Draw:
    """Draw the first `count` points of the Sobol sequence, which fill the space more evenly than chance does.

    Raises:
        SettingsError: there are more than `SOBOL_AXES_MAX` axes, or more points than 2**30.

    """
    if len(space.axes) > SOBOL_AXES_MAX:
        raise SettingsError(f"{len(space.axes)} parameters; the Sobol sequence here has at most {SOBOL_AXES_MAX}")
    if count > 1 << SOBOL_BITS:
        raise SettingsError(f"{count} points of the Sobol sequence; there are {1 << SOBOL_BITS}")
    return Draw(space, (space.at(shares) for shares in sobol_shares(len(space.axes), count)), count)


def sobol_shares(axes: int, count: int) -> Iterator[list[float]]:
    """Yield the first `count` points of the sequence in [0, 1)**axes, unscrambled, in Gray-code order.

    Source: Antonov and Saleev, "An economic method of computing LP-tau sequences", 1979.
    """
    directions = [_directions(axis) for axis in range(axes)]
    places = [0] * axes
    for number in range(count):
        yield [place / (1 << SOBOL_BITS) for place in places]
        turned = (~number & number + 1).bit_length() - 1  # the lowest bit of `number` that is 0
        if turned < SOBOL_BITS:
            places = [place ^ bits[turned] for place, bits in zip(places, directions, strict=True)]


def _directions(axis: int) -> list[int]:
    """Return the direction numbers of a dimension as whole numbers of `SOBOL_BITS` bits."""
    if axis == 0:
        return [1 << SOBOL_BITS - 1 - k for k in range(SOBOL_BITS)]
    degree, polynomial, first = _DIRECTIONS[axis - 1]
    bits = [m << SOBOL_BITS - 1 - k for k, m in enumerate(first)]
    for k in range(degree, SOBOL_BITS):
        value = bits[k - degree] ^ bits[k - degree] >> degree
        for i in range(1, degree):
            if polynomial >> degree - 1 - i & 1:
                value ^= bits[k - i]
        bits.append(value)
    return bits


# --- with memory


class _Trial(Protocol):
    @property
    def params(self) -> Mapping[str, Any]: ...


class _Study(Protocol):
    def ask(self, fixed_distributions: Mapping[str, object]) -> _Trial: ...

    def tell(self, trial: _Trial, values: float | None = None, *, state: object = None) -> object: ...


class Optimiser:
    """Asks for points that promise more, by a tree-structured Parzen estimator; needs the extra `optimise`.

    Source: Bergstra et al., "Algorithms for hyper-parameter optimization", NIPS 2011, as optuna has it.
    """

    def __init__(self, space: Space, seed: int, goal: Literal["highest", "lowest"] = "highest") -> None:
        """Begin a search.

        Raises:
            SettingsError: the extra is not installed.

        """
        try:
            self._optuna: Any = import_module("optuna")
        except ImportError:
            raise SettingsError("the optimiser needs an extra: pip install '.[optimise]'") from None
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self.space = space
        self._study: _Study = self._optuna.create_study(
            direction="maximize" if goal == "highest" else "minimize",
            sampler=self._optuna.samplers.TPESampler(seed=seed),
        )
        self._distributions = {axis.name: self._distribution(axis) for axis in space.axes}
        self._asked: dict[Point, _Trial] = {}
        self._known: dict[Point, float | None] = {}
        self._points_max = _points_max(space)
        self.invalid = 0
        """Points asked for against a constraint."""
        self.repeated = 0

    def _distribution(self, axis: Axis) -> object:
        kinds = self._optuna.distributions
        if not axis.values:
            return kinds.FloatDistribution(axis.low, axis.high)
        first, last = axis.values[0], axis.values[-1]
        if type(first) is int and type(last) is int and len(axis.values) > 1:
            step = (last - first) // (len(axis.values) - 1)
            if step > 0 and axis.values == tuple(range(first, last + 1, step)):
                return kinds.IntDistribution(first, last, step=step)
        return kinds.CategoricalDistribution(axis.values)

    def ask(self) -> Point | None:
        """Return a point that was not asked for before, or None when there is none left, or none to be found."""
        if len(self._known) + len(self._asked) == self._points_max:
            return None
        for _ in range(_ASKED_IN_VAIN_MAX):
            trial = self._study.ask(self._distributions)
            point: Point = tuple(trial.params[name] for name in self.space.names)
            if not self.space.allows(point):
                self.invalid += 1
                self._fail(trial)
            elif point in self._known:  # say it again, so that the search goes elsewhere
                self.repeated += 1
                value = self._known[point]
                if value is None:
                    self._fail(trial)
                else:
                    self._study.tell(trial, value)
            elif point in self._asked:
                self.repeated += 1
                self._fail(trial)
            else:
                self._asked[point] = trial
                return point
        return None

    def tell(self, point: Point, value: float | None) -> None:
        """Say what came of a point that was asked for; None or NaN: nothing that could be measured."""
        trial = self._asked.pop(point)
        self._known[point] = None if value is None or not np.isfinite(value) else value
        if self._known[point] is None:
            self._fail(trial)
        else:
            self._study.tell(trial, value)

    def _fail(self, trial: _Trial) -> None:
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)


def _points_max(space: Space) -> int | None:
    """Return how many points there are to try, or None when they are too many to count."""
    if any(not axis.values for axis in space.axes) or grid_size(space) > _COUNTED_MAX:
        return None
    return sum(1 for _ in grid(space))
