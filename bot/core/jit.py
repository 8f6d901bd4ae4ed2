"""The one module that knows numba: everything else says `@kernel`.

A kernel takes and returns numbers, arrays and named tuples of them; it has no default arguments, no globals but
constants, and never divides by zero: numba would go on where Python raises. So the same function runs compiled in a
backtest and as plain Python in the daemon, bit for bit.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

CACHES_KEPT: Final = 4
"""Compiled kernels of so many versions of the sources stay on disk: a working copy and an installed bot take turns."""
_KERNEL_FOLDERS: Final = ("backtest", "core", "strategies")
_ALGEBRA: Final = "scipy.linalg"


class _Mode:
    is_compiled = True


def kernel_sources(package: Path) -> list[Path]:
    """Return the files of the package `bot` that have kernels, in order."""
    found = (path for folder in _KERNEL_FOLDERS for path in (package / folder).rglob("*.py"))
    return sorted(path for path in found if b"bot.core.jit" in path.read_bytes())


def cache_folder(base: Path, sources: list[Path]) -> Path:
    """Return the folder below `base` for the kernels of these sources, and delete the oldest of too many others.

    Numba looks only at the file of a kernel itself: after a change of another file, whose kernels it calls, it would go
    on with the old code.
    """
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = base / f"kernels-{digest.hexdigest()[:16]}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.utime(folder)
    others = sorted(base.glob("kernels-*"), key=lambda path: -path.stat().st_mtime_ns)
    for path in others[CACHES_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
    return folder


@cache
def _numba() -> Any:
    """Return numba, once it has been told where compiled kernels are kept."""
    import numba
    import platformdirs

    config: Any = numba.config  # pyright: ignore[reportPrivateImportUsage] (documented, and not in its stubs)
    given = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(given) if given else platformdirs.user_cache_path("poloniex-bot", appauthor=False)
    sources = kernel_sources(Path(__file__).parents[1])
    try:
        folder = cache_folder(base, sources)
    except OSError:  # a home that cannot be written to: compile anew each time
        folder = Path(tempfile.mkdtemp(prefix="poloniex-bot-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config.CACHE_DIR = str(folder)
    _load_arrays()
    return numba


def _load_arrays() -> None:
    """Import numba's functions of arrays while scipy's algebra seems not to be there.

    They look for it as they are imported, which costs 0.1 s where it is installed, and all that comes of it is how
    `np.correlate` adds up. Kernels of linear algebra look for it themselves when they are compiled.
    """
    if _ALGEBRA in sys.modules:
        return
    missing: Any = None  # Python's own sign for a module that cannot be imported
    sys.modules[_ALGEBRA] = missing
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[_ALGEBRA]


def interpret() -> None:
    """Leave every kernel that is defined from now on as plain Python: a daemon at bar rates needs no compiler.

    Importing numba costs 0.6 s and 100 MB, which nobody wants to pay to look at one bar a second.
    """
    _Mode.is_compiled = False


def kernel(function: Function) -> Function:
    """Compile `function` at its first call and keep the result on disk; it runs without the interpreter's lock."""
    if not _Mode.is_compiled:
        return function
    return _numba().njit(cache=True, nogil=True, error_model="numpy")(function)


def bare_kernel(function: Function) -> Function:
    """Compile a kernel that makes no arrays and returns none, without counting references to those it is given.

    Numba counts them at every call and slice, which costs more than most steps take: an exponential average is 45 ns a
    bar with it and 5 without. `_nrt` is numba's own switch for that; a function that needs the count does not compile.
    """
    if not _Mode.is_compiled:
        return function
    return _numba().njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)


def pluggable(signature: str) -> Callable[[Function], Function]:
    """Compile a function for a fixed signature, to be handed to kernels as an argument.

    A kernel that takes one is compiled once for the signature, not anew for each function; a call costs 3 ns.
    """

    def compile_(function: Function) -> Function:
        # Numba itself obeys the variable for kernels only.
        if not _Mode.is_compiled or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
            return function
        return _numba().cfunc(signature, cache=True, nopython=True)(function)

    return compile_
