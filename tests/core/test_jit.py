"""Compiled kernels are those of the sources that are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bot
from bot.core.jit import CACHES_KEPT, cache_folder, kernel_sources


def test_the_files_with_kernels_are_found() -> None:
    names = {path.name for path in kernel_sources(Path(bot.__file__).parent)}
    assert {"tactics.py", "simulate.py", "wide.py"} <= names
    assert "risk.py" not in names


def test_a_change_of_any_source_is_another_folder(tmp_path: Path) -> None:
    sources = [tmp_path / "a.py", tmp_path / "b.py"]
    for path in sources:
        path.write_text("one")
    first = cache_folder(tmp_path / "cache", sources)
    assert cache_folder(tmp_path / "cache", sources) == first
    sources[1].write_text("two")
    assert cache_folder(tmp_path / "cache", sources) != first


def test_folders_of_old_sources_are_deleted_and_the_newest_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    folders: list[Path] = []
    for number in range(CACHES_KEPT + 3):
        source.write_text(str(number))
        folder = cache_folder(tmp_path / "cache", [source])
        os.utime(folder, (number, number))
        folders.append(folder)
    kept = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime)
    assert kept[-1] == folders[-1]
    assert len(kept) == CACHES_KEPT


def test_compiled_kernels_are_kept_in_that_folder(tmp_path: Path) -> None:
    code = "from bot.core.tactics import distance_ticks; print(distance_ticks(-10_000, 500))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "5\n"
    (folder,) = tmp_path.iterdir()
    assert list(folder.rglob("*distance_ticks*.nbi"))


def test_kernels_run_where_nothing_can_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    code = "from bot.core.tactics import distance_ticks; print(distance_ticks(-10_000, 500))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_CACHE_DIR": str(file), "NUMBA_DISABLE_JIT": "0", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "5\n"
    assert list(tmp_path.iterdir()) == [file]


def test_kernels_do_not_load_scipy_and_can_use_its_algebra() -> None:
    code = """
import sys
import numpy as np
import numba
from bot.core.tactics import distance_ticks
print(distance_ticks(-10_000, 500), "scipy.linalg" in sys.modules)
print(numba.njit(lambda a: np.dot(a, a))(np.eye(2)).sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_DISABLE_JIT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "5 False\n2.0\n"
