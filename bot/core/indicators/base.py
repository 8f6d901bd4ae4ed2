"""What an indicator is: its inputs, parameters and outputs, and the kernels that make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from bot.core.indicators.windows import Floats
from bot.errors import SettingsError

WINDOW_MAX: Final = 10_000


class Param(NamedTuple):
    """One parameter; `low` and `high` are the least and the greatest value allowed."""

    name: str
    kind: Literal["int", "float"]
    default: float
    low: float
    high: float


Params = Sequence[float]
"""A value for every parameter, in order; checked."""


class Indicator(NamedTuple):
    """One indicator.

    A step takes `x` of shape (inputs,), all float64, and fills `out` of shape (outputs,): NaN until warm, and NaN,
    with the state untouched, where a value of `x` is NaN. A column does so for each row of shape (n, inputs). Both
    change the state that `make_state` gave. Values are 0 or between 1e-100 and 1e100 in size.
    """

    name: str
    inputs: tuple[str, ...]
    """Of open, high, low, close, volume; `time`, the start of the bar in nanoseconds since 1970 UTC, whole seconds; or
    `x` (and `y`) for any series."""
    params: tuple[Param, ...]
    outputs: tuple[str, ...]
    lookback: Callable[[Params], int]
    """Bars before the first that has a value, which all outputs get together."""
    make_state: Callable[[Params], Floats]
    step: Callable[[Floats, Floats, Floats], None]
    column: Callable[[Floats, Floats, Floats], None]
    days: int = 0
    """Whole UTC days that may have to pass, besides, before there is a value."""

    def with_defaults(self, params: Sequence[float]) -> tuple[float, ...]:
        """Return all parameters: those given, in their order, and the defaults of the rest.

        Raises:
            SettingsError: there are too many, or one is out of bounds or not whole where it must be.

        """
        if len(params) > len(self.params):
            raise SettingsError(f"{self.name} takes {len(self.params)} parameters, not {len(params)}")
        for param, value in zip(self.params, params, strict=False):
            if not param.low <= value <= param.high:
                raise SettingsError(f"{self.name}: {param.name} {value:g} is not in {param.low:g} to {param.high:g}")
            if param.kind == "int" and value != int(value):
                raise SettingsError(f"{self.name}: {param.name} {value:g} is not a whole number")
        return (*(float(value) for value in params), *(param.default for param in self.params[len(params) :]))


def window_param(default: int, name: str = "window", low: int = 1) -> Param:
    """Return a parameter that counts bars."""
    return Param(name, "int", float(default), float(low), float(WINDOW_MAX))


def one_bar(params: Params) -> int:
    """Return the look-back of what needs a bar before."""
    del params
    return 1


def no_bars(params: Params) -> int:
    """Return the look-back of what has a value at once."""
    del params
    return 0


def within_window(params: Params) -> int:
    """Return the look-back of a window of values, this bar's among them."""
    return int(params[0]) - 1


def whole_window(params: Params) -> int:
    """Return the look-back of a window of changes."""
    return int(params[0])
