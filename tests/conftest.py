"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from bot.core import jit
from tests.support.cli import RECORDINGS, Bench

LONGEST = (
    "tests/test_readme.py",
    "tests/simulation/test_seeds.py",
    "tests/simulation/test_parity.py",
    "tests/simulation/test_crashes.py",
    "tests/test_cli_research.py",
    "tests/actors/test_live_daemon.py",
    "tests/simulation/test_live_crashes.py",
    "tests/actors/test_daemon.py",
    "tests/simulation/test_planted.py",
    "tests/exchange/simulated/test_faults_live.py",
)
"""Begun first, so that at the end no worker waits for another's file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; pytest-xdist hands out files in this order (`--no-loadscope-reorder`)."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


settings.register_profile("bot", deadline=None)  # the first example of a test may compile kernels
# For docs/mutation.md: the same few examples for every mutant, no search for the smallest that fails, and nothing that
# fails because the machine is slow.
settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    max_examples=30,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("bot")


@pytest.fixture(autouse=True)
def compiled_kernels() -> Iterator[None]:
    """Take back what a command of the daemon said in this process: that kernels stay plain Python."""
    was_compiled = jit._Mode.is_compiled
    yield
    jit._Mode.is_compiled = was_compiled


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def recording(name: str) -> Path:
    """Return the path of a real recording, or skip the test where they are not at hand."""
    path = RECORDINGS / name
    if not path.is_file():
        pytest.skip(f"the real recording {name} is not at hand in {RECORDINGS}")
    return path


@pytest.fixture(scope="session")
def btc_recording() -> Path:
    return recording("spot-btc_usdt-20240808.jsonl.gz")


@pytest.fixture(scope="session", params=["spot-btc_usdt", "spot-eth_usdt", "perp-btc_usdt"])
def any_recording(request: pytest.FixtureRequest) -> Path:
    return recording(f"{request.param}-20240808.jsonl.gz")
