"""The locks of live trading: every one is open, or nothing is sent to anybody.

Mode and account in a settings file, the same account on the command line, a key that only its owner can read, addresses
that may have it, a gate that refuses what it must, and somebody who says in this run that it is meant.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bot.config import Settings
from bot.config.keys import check_hosts, load_credentials
from bot.errors import LiveLocked, NotConfirmed
from bot.exchange.poloniex.signing import Credentials

_PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """All locks are open: whose money, with which key."""

    account: str
    credentials: Credentials
    is_simulated: bool
    """The exchange is one of ours on this machine: no real money."""


def open_locks(
    settings: Settings,
    environ: MutableMapping[str, str],
    *,
    named: str | None,
    confirmed: str | None,
    ask: Callable[[str], str] | None,
) -> Opened:
    """Return the key of the live account, after looking at every lock.

    `named` is the account on the command line, `confirmed` the confirmation there; `ask` asks on a terminal, and is
    None where there is none.

    Raises:
        LiveLocked: a lock is closed; says which, and how it is opened.

    """
    live = settings.live
    if settings.bot.mode != "live":
        raise LiveLocked(f'--live {named}: the settings say bot.mode = "paper"; live trading needs "live" in a file')
    if named is None:
        raise LiveLocked(f'bot.mode = "live": say which account, with --live {live.account}')
    if named != live.account:
        raise LiveLocked(f"--live {named}: the settings name another account, live.account = {live.account}")
    if not live.key_cannot_withdraw:
        raise LiveLocked(
            "live.key_cannot_withdraw = false: look at the key's permissions at the exchange; "
            "make one that cannot withdraw, then set this to true"
        )
    is_simulated = check_hosts(settings)
    credentials = load_credentials(live, environ)
    confirm(live.account, confirmed, ask, is_simulated=is_simulated)
    return Opened(live.account, credentials, is_simulated)


def confirm(account: str, confirmed: str | None, ask: Callable[[str], str] | None, *, is_simulated: bool) -> None:
    """Have somebody say the account's name once more. Raises NotConfirmed."""
    if confirmed is None and ask is None:
        raise NotConfirmed(f"nobody to ask: confirm with --confirm {account}")
    if confirmed is None and ask is not None:
        money = "with a simulated exchange's money" if is_simulated else "WITH REAL MONEY"
        confirmed = ask(f"This trades {money}. Type the name of the account to go on: ").strip()
    if confirmed != account:
        raise NotConfirmed(f"not confirmed: that is not the account's name, {account}")


def harden() -> None:
    """Keep what is in memory out of core files, and new files from other users."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Not dumpable: no other process of ours may read our memory either.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
