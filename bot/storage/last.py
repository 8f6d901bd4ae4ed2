"""What the newest journal of a state directory says, without a daemon."""

from __future__ import annotations

from pathlib import Path

import msgspec

from bot.control.protocol import View
from bot.control.view import FeedStatus, make_view, money
from bot.core.bookkeeper import Bookkeeper
from bot.storage.replay import replay
from bot.storage.sqlite import read_sqlite_journal


def last_view(state_dir: Path) -> tuple[str, View] | None:
    """Return the name of the journal that was written last and the state that it adds up to; None without one.

    Without a market nothing has a price: the equity is the one that was written down last.

    Raises:
        JournalError: that journal cannot be read, or is damaged.

    """
    paths = [path for path in state_dir.glob("*.sqlite") if ".previous" not in path.name]
    if not paths:
        return None
    path = max(paths, key=lambda path: path.stat().st_mtime_ns)
    records = read_sqlite_journal(path)
    keeper = Bookkeeper(replay(records))
    now_ns = records[-1].ts_ns if records else 0
    status = FeedStatus(state="ended", detail="not running")
    view = make_view(keeper, status, 0, now_ns, None)
    marked = keeper.ledger.equity
    if view.equity is None and marked is not None:  # no market says what is held is worth: as it was last marked
        view = msgspec.structs.replace(view, equity=money(marked.equity_atoms))
    return path.name, view
