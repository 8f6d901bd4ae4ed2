"""What each operator makes of single values: total, and equal to the last bit to what `columns.py` does with arrays.

NaN is "not known". A comparison with it is false, arithmetic with it is NaN, and so is a division by zero.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from bot.strategies.rules.plan import TAME_MAX, TAME_MIN, Op


def _divided(a: float, b: float) -> float:
    return a / b if b != 0.0 else math.nan


def _least(a: float, b: float) -> float:
    if a != a or b != b:  # NaN
        return math.nan
    return a if a <= b else b


def _greatest(a: float, b: float) -> float:
    if a != a or b != b:  # NaN
        return math.nan
    return a if a >= b else b


def _tame(a: float) -> float:
    if not abs(a) <= TAME_MAX:
        return math.nan
    return a if abs(a) >= TAME_MIN else 0.0


def _root(a: float) -> float:
    return math.sqrt(a) if a >= 0.0 else math.nan


def _differs(a: float, b: float) -> bool:
    return a < b or a > b


def _both(a: bool, b: bool) -> bool:
    return a and b


def _either(a: bool, b: bool) -> bool:
    return a or b


def _chosen(condition: bool, a: float, b: float) -> float:
    return a if condition else b


SCALARS: Final[dict[Op, Callable[..., Any]]] = {
    Op.NEG: operator.neg,
    Op.ABS: abs,
    Op.SQRT: _root,
    Op.ADD: operator.add,
    Op.SUB: operator.sub,
    Op.MUL: operator.mul,
    Op.DIV: _divided,
    Op.MIN: _least,
    Op.MAX: _greatest,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
    Op.EQ: operator.eq,
    Op.NE: _differs,
    Op.AND: _both,
    Op.OR: _either,
    Op.NOT: operator.not_,
    Op.CHOOSE: _chosen,
    Op.TAME: _tame,
}
"""By operator; conditions are bool, numbers float. Those that remember something are not here."""
