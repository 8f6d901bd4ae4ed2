"""What a report was made from: hashes of code, settings and data, the seed, the versions; no clock.

So the same inputs give the same bytes, and two reports that differ say why.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

import bot
from bot.strategies.advice import Candles

_CHUNK: Final = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a run. Hashes are SHA-256, in hexadecimal."""

    code: str
    """Of the package `bot`: every source file with its path."""
    settings: str
    data: dict[str, str]
    """Name of a file, without its folder, or of generated data, to its hash."""
    seed: int
    versions: dict[str, str]
    """Of bot, python, numpy and numba: another one may round differently."""


def make_manifest(*, settings: object, data: Mapping[str, str], seed: int) -> Manifest:
    """Return the manifest; `settings` is anything that msgspec can encode: strategy, parameters, terms, period."""
    return Manifest(
        code=code_hash(Path(bot.__file__).parent),
        settings=hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest(),
        data={name: data[name] for name in sorted(data)},
        seed=seed,
        versions={
            "bot": bot.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": version("numba"),
        },
    )


def code_hash(package: Path) -> str:
    """Return the hash of every Python source file in a folder, with its path inside of it."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).parts):
        digest.update(f"{path.relative_to(package).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the hash of a file's bytes. Raises as `open` does."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def candles_hash(candles: Candles) -> str:
    """Return the hash of bars that came from no file."""
    digest = hashlib.sha256()
    for column in candles:
        digest.update(np.ascontiguousarray(column, "<i8").tobytes())
    return digest.hexdigest()
