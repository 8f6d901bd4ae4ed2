"""`bot reconcile`: our books and the exchange's, line by line where they differ, and what can be done about it.

A running daemon is asked what it found last; without one the journal is read, and the exchange is asked from here. What
is adopted is written by the very machine that the daemon runs.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bot.errors import EXIT_OK, BooksDiffer, ConnectionLost, JournalError, NotRunning, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from bot.config import Settings
    from bot.control.books import BooksReport
    from bot.core.bookkeeper import Bookkeeper
    from bot.core.messages import AccountSeen

TEXT: Final = f"Compare the bot's books with the exchange's; exit code {BooksDiffer.exit_code} where they differ."
READ_TIMEOUT_S: Final = 30.0
LoadSettings = Callable[[argparse.Namespace], "Settings"]


def add_reconcile(
    commands: Any, add: Callable[..., argparse.ArgumentParser], load: LoadSettings
) -> argparse.ArgumentParser:
    """Add the command to the parser; `load` reads the settings that its options name."""
    parser = add(commands, "reconcile", TEXT, partial(_reconcile, load))
    parser.add_argument(
        "--apply", action="store_true", help="take the exchange's word for cash, coins and positions, and write it down"
    )
    return parser


def _reconcile(load: LoadSettings, arguments: argparse.Namespace) -> int:
    import msgspec

    from bot.control.books import report_lines

    settings = load(arguments)
    try:
        report = _of_daemon(settings.bot.state_path, is_applied=arguments.apply)
    except NotRunning:
        if settings.bot.mode != "live":
            raise SettingsError(
                'bot.mode = "paper": there is no account at the exchange to compare the books with'
            ) from None
        report = _of_journal(settings, is_applied=arguments.apply)
    if arguments.json:
        sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(report).decode() + "\n")
    else:
        sys.stdout.write("\n".join(report_lines(report)) + "\n")
    return EXIT_OK if report.is_equal else BooksDiffer.exit_code


# --- with a daemon


def _of_daemon(state_dir: Path, *, is_applied: bool) -> BooksReport:
    """Return what the daemon of `state_dir` found when it compared last. Raises NotRunning where there is none."""
    from bot.control.books import BooksReport
    from bot.control.client import ask_status, send_command

    _, view = ask_status(state_dir)
    adopted, note = 0, ""
    if is_applied:
        before = len(view.differences)
        reply = send_command(state_dir, "adopt")
        _, view = ask_status(state_dir)
        adopted, note = max(before - len(view.differences), 0), "" if reply.is_ok else reply.text
    if not view.compared:
        note = note or "the daemon has not compared its books with an exchange"
    return BooksReport(
        source="daemon",
        is_equal=bool(view.compared) and not view.differences and not note,
        compared=view.compared,
        differences=view.differences,
        adopted=adopted,
        note=note,
    )


# --- without one


def _of_journal(settings: Settings, *, is_applied: bool) -> BooksReport:
    """Compare the journal of the live account with the exchange, both read from here."""
    import trio

    from actors.front_door import leaf_error
    from actors.lock import hold

    path = settings.bot.state_path / f"live-{settings.live.account}.sqlite"
    if not path.is_file():
        raise JournalError(f"{path}: there is no such journal; the bot never traded on this account")
    try:
        if not is_applied:
            return trio.run(compare_journal, settings, path)
        with hold(settings.bot.state_path):  # from the first look to the last word nobody else writes
            return trio.run(adopt_into_journal, settings, path)
    except trio.TooSlowError:
        raise ConnectionLost(f"the exchange did not say all there is within {READ_TIMEOUT_S:g} s") from None
    except BaseExceptionGroup as group:
        raise leaf_error(group) from group


async def compare_journal(settings: Settings, path: Path) -> BooksReport:
    """Hold the journal at `path` against the exchange; change neither."""
    from bot.core.bookkeeper import Bookkeeper
    from bot.storage.replay import replay
    from bot.storage.sqlite import read_sqlite_journal

    keeper = Bookkeeper(replay(read_sqlite_journal(path)))
    return _conclude(path, settings, keeper, await _read(settings, keeper))


async def adopt_into_journal(settings: Settings, path: Path) -> BooksReport:
    """Write what differs into the journal, as the daemon would, and compare again. The caller holds the lock."""
    import msgspec

    from bot.core.bookkeeper import Bookkeeper
    from bot.core.messages import OperatorCommand
    from bot.storage.portal import open_portal
    from bot.storage.replay import encode_fact, replay
    from bot.storage.sqlite import open_sqlite_journal

    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        keeper = Bookkeeper(replay(await journal.load()))
        seen = await _read(settings, keeper)
        before = len(_conclude(path, settings, keeper, seen).differences)
        adopt = OperatorCommand(ts_ns=time.time_ns(), verb="adopt", command_id="", who=getpass.getuser())
        for _ in keeper.handle(adopt):  # nobody else listens: what it writes is what counts
            pass
        await journal.append([(fact.ts_ns, encode_fact(fact)) for fact in keeper.take_pending()])
    report = _conclude(path, settings, keeper, seen)
    return msgspec.structs.replace(report, adopted=before - len(report.differences))


async def _read(settings: Settings, keeper: Bookkeeper) -> list[AccountSeen]:
    """Return every wallet that the account trades with, as the exchange has it now."""
    import trio

    from actors.kill import Access, open_access
    from bot import __version__
    from bot.config.keys import check_hosts, load_credentials
    from bot.exchange.network import INTERNET
    from bot.exchange.poloniex.accounts import futures_seen, spot_seen
    from bot.exchange.poloniex.streams import FuturesAccount, SpotAccount

    check_hosts(settings)
    access = Access.of(settings, load_credentials(settings.live, os.environ), f"poloniex-bot/{__version__}")
    seen: list[AccountSeen] = []
    async with AsyncExitStack() as stack:
        exchange = await open_access(stack, access, INTERNET)
        with trio.fail_after(READ_TIMEOUT_S):
            if (spot := exchange.spot) is not None:
                orders, conditional = await SpotAccount(spot).open_orders(), await spot.open_smart_orders()
                balances = await spot.balances()
                seen.append(spot_seen(time.time_ns(), balances, orders, conditional, keeper.ledger.instruments))
            if (futures := exchange.futures) is not None:
                orders, positions = await FuturesAccount(futures).open_orders(), await futures.positions()
                seen.append(futures_seen(time.time_ns(), await futures.balance(), positions, orders))
    return seen


def _conclude(path: Path, settings: Settings, keeper: Bookkeeper, seen: Sequence[AccountSeen]) -> BooksReport:
    from bot.control.books import BooksReport
    from bot.control.view import difference_rows

    for account in seen:
        for _ in keeper.handle(account):
            pass
    compared = tuple(sorted(keeper.compared))
    missing = sorted(set(settings.live.wallets) - set(compared))
    differences = difference_rows(keeper)
    return BooksReport(
        source=path.name,
        is_equal=not missing and not differences,
        compared=compared,
        differences=differences,
        adopted=0,
        note=f"{' and '.join(missing)}: orders are in doubt; start the bot, which settles them" if missing else "",
    )
