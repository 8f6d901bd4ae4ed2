"""The one module that knows numba: everything else says `@kernel`.

A kernel takes and returns numbers, arrays and named tuples of them; it has no default arguments, no globals but
constants, and never divides by zero: numba would go on where Python raises. So the same function runs compiled in a
backtest and as plain Python in the daemon, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class _Mode:
    is_compiled = True


def interpret() -> None:
    """Leave every kernel that is defined from now on as plain Python: a daemon at bar rates needs no compiler.

    Importing numba costs 0.6 s and 100 MB, which nobody wants to pay to look at one bar a second.
    """
    _Mode.is_compiled = False


def kernel(function: Function) -> Function:
    """Compile `function` at its first call and keep the result on disk; it runs without the interpreter's lock."""
    if not _Mode.is_compiled:
        return function
    import numba

    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def bare_kernel(function: Function) -> Function:
    """Compile a kernel that makes no arrays and returns none, without counting references to those it is given.

    Numba counts them at every call and slice, which costs more than most steps take: an exponential average is 45 ns a
    bar with it and 5 without. `_nrt` is numba's own switch for that; a function that needs the count does not compile.
    """
    if not _Mode.is_compiled:
        return function
    import numba

    options: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
    compiled: Any = numba.njit(**options)(function)
    return compiled


def pluggable(signature: str) -> Callable[[Function], Function]:
    """Compile a function for a fixed signature, to be handed to kernels as an argument.

    A kernel that takes one is compiled once for the signature, not anew for each function; a call costs 3 ns.
    """

    def compile_(function: Function) -> Function:
        if not _Mode.is_compiled:
            return function
        import numba

        if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":  # numba itself obeys it for kernels only
            return function
        make: Any = numba.cfunc
        return make(signature, cache=True, nopython=True)(function)

    return compile_
