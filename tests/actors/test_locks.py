"""The locks of live trading: each of them alone keeps it shut."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors.locks import Opened, open_locks
from bot.config import Settings, load_settings
from bot.errors import HostRefused, KeyRefused, LiveLocked, NotConfirmed
from tests.support.cli import REPOSITORY

ROOT = Path(__file__).parents[2]
ENVIRON = {"POLONIEX_KEY": "K3Y-CANARY-1", "POLONIEX_SECRET": "s3cr3t-canary-2"}


def unlocked(**live: object) -> Settings:
    example = load_settings([ROOT / "config" / "live.example.toml"], {}, [])
    changes = {"key_file": "", "key_cannot_withdraw": True, **live}
    return msgspec.structs.replace(example, live=msgspec.structs.replace(example.live, **changes))


def try_to_open(
    settings: Settings,
    environ: dict[str, str] = ENVIRON,
    named: str | None = "main",
    confirmed: str | None = "main",
    ask: Callable[[str], str] | None = None,
) -> Opened:
    return open_locks(settings, dict(environ), named=named, confirmed=confirmed, ask=ask)


def say_yes(question: str) -> str:
    return "yes"


def test_S5_with_every_lock_open_live_trading_may_begin() -> None:
    opened = try_to_open(unlocked())
    assert (opened.account, opened.is_simulated) == ("main", False)
    assert opened.credentials.key.reveal() == "K3Y-CANARY-1"
    assert "CANARY" not in repr(opened)


SHUT: list[tuple[dict[str, object], type[LiveLocked], str]] = [
    ({"settings": load_settings([], {}, [])}, LiveLocked, 'bot.mode = "paper"'),
    ({"named": None}, LiveLocked, "--live main"),
    ({"named": "other"}, LiveLocked, "another account"),
    ({"settings": unlocked(key_cannot_withdraw=False)}, LiveLocked, "cannot withdraw"),
    ({"settings": unlocked(private_ws_url="wss://example.org")}, HostRefused, "example.org"),
    ({"environ": {}}, KeyRefused, "no API key"),
    ({"confirmed": None}, NotConfirmed, "--confirm main"),
    ({"confirmed": "other"}, NotConfirmed, "not confirmed"),
    ({"confirmed": None, "ask": say_yes}, NotConfirmed, "not confirmed"),
]


@pytest.mark.parametrize(("change", "kind", "words"), SHUT)
def test_S5_each_lock_alone_keeps_live_trading_shut(
    change: dict[str, object], kind: type[LiveLocked], words: str
) -> None:
    arguments: dict[str, object] = {"settings": unlocked(), **change}
    with pytest.raises(kind, match=words) as refused:
        try_to_open(**arguments)  # pyright: ignore[reportArgumentType]  # a row of the table
    assert type(refused.value) is kind


def test_F106_the_question_says_what_it_is_about_and_takes_the_name_only() -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return " main\n"

    try_to_open(unlocked(), confirmed=None, ask=ask)
    assert "REAL MONEY" in asked[0]


def test_F139_live_trading_begins_only_where_somebody_says_that_the_key_cannot_withdraw() -> None:
    assert not load_settings([], {}, []).live.key_cannot_withdraw
    with pytest.raises(LiveLocked, match="make one that cannot withdraw, then set this to true"):
        try_to_open(unlocked(key_cannot_withdraw=False))


HARDENED = """
import ctypes, os, resource, stat, sys
from pathlib import Path
from actors.locks import harden
harden()
path = Path(sys.argv[1])
path.touch()
is_dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
print(resource.getrlimit(resource.RLIMIT_CORE), is_dumpable, oct(stat.S_IMODE(path.stat().st_mode)), flush=True)
os.abort()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="cores and prctl as Linux has them")
def test_F122_a_process_with_keys_leaves_no_core_and_its_files_are_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HARDENED, str(tmp_path / "file")]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT
    assert done.stdout.decode() == "(0, 0) 0 0o600\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_simulated_exchange_is_behind_the_same_locks() -> None:
    here = unlocked(private_ws_url="ws://127.0.0.1:1/ws")
    exchange = msgspec.structs.replace(here.exchange, rest_url="http://127.0.0.1:1", ws_url="ws://127.0.0.1:1")
    settings = msgspec.structs.replace(here, exchange=exchange)
    assert try_to_open(settings).is_simulated
    with pytest.raises(NotConfirmed):
        try_to_open(settings, confirmed=None)


def test_F139_nobody_trades_live_before_the_operator_has_looked_whether_the_key_can_withdraw() -> None:
    with pytest.raises(LiveLocked, match="cannot withdraw"):
        try_to_open(unlocked(key_cannot_withdraw=False))


def test_F122_nothing_of_a_hardened_process_goes_into_a_core_file() -> None:
    look = (
        "import os, resource; from actors.locks import harden; harden(); "
        "print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0o77\n"
