"""`bot kill`: the lever that works while the daemon hangs.

It writes the kill file, then cancels everything at the exchange over connections of its own, and asks there until
nothing is left. It talks to no daemon and needs none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bot.errors import EXIT_OK, KillIncomplete, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from actors.kill import KillRow
    from bot.config import Settings

TEXT: Final = "Stop everything: halt the bot, cancel all orders at the exchange, and see there that none is left."
SPOT_IS_KEPT: Final = (
    "Coins on spot are not sold: what the bot bought is known to its journal only; `bot flatten` sells just that."
)
LoadSettings = Callable[[argparse.Namespace], "Settings"]


def add_kill(commands: Any, add: Callable[..., argparse.ArgumentParser], load: LoadSettings) -> argparse.ArgumentParser:
    """Add the command to the parser; `load` reads the settings that its options name."""

    def run(arguments: argparse.Namespace) -> int:
        return _kill(arguments, load)

    parser = add(commands, "kill", TEXT, run)
    parser.add_argument(
        "--flatten", action="store_true", help="then close perpetuals, reduce-only; coins on spot are never sold"
    )
    parser.add_argument("--timeout", type=float, default=45.0, metavar="S", help="seconds to try for (45)")
    return parser


def _kill(arguments: argparse.Namespace, load: LoadSettings) -> int:
    from bot.control.killfile import write_kill_file
    from bot.control.who import user_name

    reason = f"bot kill by {user_name()} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    try:
        settings = load(arguments)
    except SettingsError:
        if arguments.state_dir is not None:  # what can be done without settings is done
            path = write_kill_file(arguments.state_dir.expanduser().absolute(), reason)
            sys.stderr.write(f"bot: {path} is written; nothing was cancelled, because the settings cannot be read\n")
        raise
    path = write_kill_file(settings.bot.state_path, reason)
    if settings.bot.mode != "live":
        _say(arguments, path, (), "on paper there is nothing to cancel at the exchange; a running bot halts")
        return EXIT_OK
    rows = _cancel_all(arguments, settings)
    from actors.kill import is_done

    words = SPOT_IS_KEPT if arguments.flatten and "spot" in settings.live.wallets else ""
    _say(arguments, path, rows, words)
    if not is_done(rows):
        raise KillIncomplete(
            f"{path} is written, but the exchange may still hold orders or positions; try again, or use its web page"
        )
    return EXIT_OK


def _cancel_all(arguments: argparse.Namespace, settings: Settings) -> Sequence[KillRow]:
    import trio

    from actors.front_door import leaf_error
    from actors.kill import Access, Flatten, kill
    from actors.locks import harden
    from bot import __version__
    from bot.config.keys import check_hosts, load_credentials
    from bot.exchange.network import INTERNET

    harden()
    check_hosts(settings)
    access = Access.of(settings, load_credentials(settings.live, os.environ), f"poloniex-bot/{__version__}")
    live = settings.live
    flatten = Flatten(live.flatten_collar_pct, live.flatten_rounds) if arguments.flatten else None

    async def run() -> Sequence[KillRow]:
        return await kill(access, INTERNET, timeout_s=arguments.timeout, flatten=flatten)

    try:
        return trio.run(run)
    except BaseExceptionGroup as group:
        raise leaf_error(group) from group


def _say(arguments: argparse.Namespace, path: Path, rows: Sequence[KillRow], words: str) -> None:
    if arguments.json:
        import msgspec

        result = {"kill_file": str(path), "rows": rows, "note": words}
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    lines = [f"{'':<26}{'ended':>8}{'left':>8}"] if rows else []
    for row in rows:
        left = "?" if row.left is None else str(row.left)
        lines.append(f"{row.what:<26}{row.ended:>8}{left:>8}  {row.trouble}".rstrip())
    lines += [words] if words else []
    lines.append(f"{path} keeps the bot halted; remove it when all is well, then `bot resume`")
    sys.stdout.write("\n".join(lines) + "\n")
