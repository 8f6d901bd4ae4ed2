"""The journal in an SQLite file: one writer, one durable transaction for each `append`.

WAL with `synchronous=FULL`: a commit is synced before it is acknowledged, and a torn end of the log is a
shorter journal, never a broken one. The daemon writes through aiosqlite; `read_sqlite_journal` is for
commands that run beside it, or without it, and changes nothing.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from bot.errors import JournalError
from bot.storage.base import GENESIS, Head, Record, collector_paused, sealed, verified

if TYPE_CHECKING:  # a reader needs neither, and they cost half of its start
    import aiosqlite

    from bot.storage.portal import AsyncioPortal

APPLICATION_ID: Final = 0x506F6C6F
"""`Polo`: marks the file as ours."""

BUSY_TIMEOUT_MS: Final = 5000

_SELECT: Final = "SELECT seq, ts_ns, payload, digest FROM journal ORDER BY seq"
_SELECT_HIGHEST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'journal'"
_INSERT: Final = "INSERT INTO journal (seq, ts_ns, payload, digest) VALUES (?, ?, ?, ?)"


class SqliteJournal:
    """An open journal file. Made by `open_sqlite_journal`."""

    def __init__(self, path: Path, portal: AsyncioPortal, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._portal = portal
        self._connection: aiosqlite.Connection | None = connection
        self._head: Head = 0, GENESIS
        self._loaded: list[Record] | None = None
        """What was read when the file was opened, until somebody asks for it."""
        self._failure = ""
        self._is_busy = False

    @property
    def head(self) -> Head:
        """Return (seq, digest) of the last durable record."""
        return self._head

    async def load(self) -> list[Record]:
        """Return every record, oldest first, verified. Raises JournalError when the journal is damaged."""
        connection = self._open_connection()
        if self._loaded is not None:
            import trio

            await trio.lowlevel.checkpoint()
            records, self._loaded = self._loaded, None
            return records
        with _as_journal_error(self._path, "cannot be read"), collector_paused():
            rows, highest = await self._portal.run(_select_all, connection)
            records = _checked(rows, highest, self._path)
        if records:
            self._head = records[-1].seq, records[-1].digest
        return records

    async def verify(self) -> None:
        """Read and verify every record, and keep them for the first `load`. Raises as `load` does."""
        self._loaded = await self.load()

    async def append(self, payloads: Sequence[tuple[int, bytes]]) -> bytes:
        """Write every (ts_ns, payload) in one transaction, and return the last digest once it is on the disk.

        A cancellation is heard before the transaction, never inside: so `head` is always what the file holds.
        """
        import trio

        await trio.lowlevel.checkpoint_if_cancelled()
        connection = self._open_connection()
        self._loaded = None
        assert not self._is_busy, "a journal has one owner"
        records = sealed(self._head, payloads)
        if not records:
            return self._head[1]
        self._is_busy = True
        try:
            with trio.CancelScope(shield=True), _as_journal_error(self._path, "cannot be written"):
                await self._portal.run(_insert_all, connection, records)
        except JournalError as error:
            # After a failed commit nobody knows what the file holds, before it has been read again.
            self._failure = str(error)
            raise
        finally:
            self._is_busy = False
        self._head = records[-1].seq, records[-1].digest
        return self._head[1]

    async def aclose(self) -> None:
        """Close the file; its log is then part of it. May be called twice."""
        import trio

        connection, self._connection = self._connection, None
        if connection is None:
            await trio.lowlevel.checkpoint()
            return
        with trio.CancelScope(shield=True):
            await _close(connection, self._portal, self._path)

    def _open_connection(self) -> aiosqlite.Connection:
        if self._connection is None:
            raise JournalError(f"{self._path}: the journal is closed")
        if self._failure:
            raise JournalError(f"{self._failure} (and nothing was written since)")
        return self._connection


@asynccontextmanager
async def open_sqlite_journal(path: Path, portal: AsyncioPortal) -> AsyncGenerator[SqliteJournal, None]:
    """Open the journal at `path`, or a new one, bring its schema up to date, and verify all of it.

    Raises:
        JournalError: the file is damaged, another program's, of a newer version, or open to other users.

    """
    import trio

    connection: aiosqlite.Connection | None = None
    await trio.lowlevel.checkpoint_if_cancelled()
    with trio.CancelScope(shield=True), _as_journal_error(path, "cannot be opened"):
        connection = await portal.run(_connect, path)
    assert connection is not None  # a scope that nobody cancels lets nothing slip
    journal = SqliteJournal(path, portal, connection)
    try:
        await journal.verify()
        yield journal
    finally:
        await journal.aclose()


def read_sqlite_journal(path: Path) -> list[Record]:
    """Return every record of the journal at `path`, verified; changes nothing, even beside a live writer.

    Raises:
        JournalError: there is no such file, or it is damaged, another program's or of a newer version.

    """
    path = path.absolute()
    if not path.is_file():
        raise JournalError(f"{path}: there is no such journal")
    with (
        _as_journal_error(path, "cannot be read"),
        closing(sqlite3.connect(_read_only_uri(path), uri=True, isolation_level=None)) as connection,
    ):
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("BEGIN")  # one moment for all that follows
        application_id = _number(connection.execute("PRAGMA application_id").fetchone())
        version = _number(connection.execute("PRAGMA user_version").fetchone())
        if _is_made_by_us(path, application_id, version) and version:
            highest = connection.execute(_SELECT_HIGHEST).fetchone()
            return _checked(connection.execute(_SELECT), _number(highest), path)
    return []


def _read_only_uri(path: Path) -> str:
    # Without a log beside it the file was closed in good order and nobody has it open; plain reading would
    # make a new log and leave it there.
    has_log = path.with_name(f"{path.name}-wal").exists()
    return f"file:{quote(str(path))}?mode=ro{'' if has_log else '&immutable=1'}"


# --- on the asyncio side


async def _connect(path: Path) -> aiosqlite.Connection:
    """Return a connection to a file that is ours alone, with its schema up to date."""
    import aiosqlite

    connection = await aiosqlite.connect(_make_private(path), isolation_level=None)
    try:
        await connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        application_id = _number(await _first(connection, "PRAGMA application_id"))
        version = _number(await _first(connection, "PRAGMA user_version"))
        is_ours = _is_made_by_us(path, application_id, version)
        _check_empty(path, is_ours or await _first(connection, "SELECT 1 FROM sqlite_schema") is None)
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await _migrate(connection, version)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _migrate(connection: aiosqlite.Connection, version: int) -> None:
    """Apply what is newer than `version`: each file in one transaction with the record that it ran."""
    for number, script in _migrations():
        if number <= version:
            continue
        # The script opens the transaction itself: `executescript` would commit one that is open.
        try:
            await connection.executescript(
                f"BEGIN IMMEDIATE; {script.read_text('utf-8')};"  # noqa: S608  # our own files
                f"INSERT INTO migrations (number, name) VALUES ({number}, '{script.stem}');"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
            )
        except BaseException:
            await _roll_back(connection)
            raise


async def _select_all(connection: aiosqlite.Connection) -> tuple[Iterable[sqlite3.Row], int]:
    rows = await connection.execute_fetchall(_SELECT)
    return rows, _number(await _first(connection, _SELECT_HIGHEST))


async def _insert_all(connection: aiosqlite.Connection, records: Sequence[Record]) -> None:
    """Write `records` in one transaction, or leave no trace of them."""
    try:
        await connection.execute("BEGIN IMMEDIATE")
        await connection.executemany(_INSERT, records)
        await connection.execute("COMMIT")
    except BaseException:
        await _roll_back(connection)
        raise


async def _roll_back(connection: aiosqlite.Connection) -> None:
    if connection.in_transaction:
        await connection.execute("ROLLBACK")


async def _first(connection: aiosqlite.Connection, sql: str) -> sqlite3.Row | None:
    async with connection.execute(sql) as cursor:
        return await cursor.fetchone()


async def _close(connection: aiosqlite.Connection, portal: AsyncioPortal, path: Path) -> None:
    import trio

    from bot.storage.portal import PortalClosed

    try:
        with _as_journal_error(path, "cannot be closed"):
            await portal.run(connection.close)
    except PortalClosed:
        # Its thread is no daemon and would keep the process alive. `stop` looks for a loop: a thread has none.
        await trio.to_thread.run_sync(
            connection.stop  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # a bare Future
        )


# --- files, versions and rows


def _make_private(path: Path) -> Path:
    """Make the file and its directory for us alone, or check that they are; return the absolute path.

    Raises:
        JournalError: it is a symbolic link or no plain file, or other users may read it or write beside it.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise JournalError(f"{path.parent}: other users may write here; say chmod 700 {path.parent}")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise JournalError(f"{path}: is a symbolic link, and a journal must be a plain file") from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(mode):
        raise JournalError(f"{path}: is not a plain file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise JournalError(f"{path}: other users may read or write it; say chmod 600 {path}")
    return path.absolute()


def _migrations() -> list[tuple[int, Path]]:
    """Return (number, file) of every migration, oldest first."""
    files = sorted((Path(__file__).parent / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(file.name[:4]), file) for file in files]


def _is_made_by_us(path: Path, application_id: int, version: int) -> bool:
    """Return False for a file without a mark.

    Raises:
        JournalError: the file is another program's or of a newer version.

    """
    if application_id == 0 and version == 0:
        return False
    if application_id != APPLICATION_ID:
        raise JournalError(f"{path}: is an SQLite file of another program")
    newest = _migrations()[-1][0]
    if version > newest:
        raise JournalError(f"{path}: has schema {version}, made by a newer version of the bot; this one knows {newest}")
    return True


def _check_empty(path: Path, is_ours_or_empty: bool) -> None:
    if not is_ours_or_empty:
        raise JournalError(f"{path}: is an SQLite file of another program")


def _number(row: Sequence[int] | sqlite3.Row | None) -> int:
    return 0 if row is None else int(row[0])


def _checked(rows: Iterable[sqlite3.Row], highest: int, path: Path) -> list[Record]:
    """Return `rows` as verified records, up to `highest`, the last that was ever given."""
    records = verified((Record(*row) for row in rows), str(path))
    if highest > len(records):
        raise JournalError(f"{path}: record {len(records) + 1} is missing, there were {highest}")
    return records


@contextmanager
def _as_journal_error(path: Path, what: str) -> Generator[None, None, None]:
    """Turn what SQLite and the system say into a JournalError that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{path}: {what}: {error}") from error
