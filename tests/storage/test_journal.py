"""One contract for every journal, and what only a file can suffer."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.simulation.disk import Disk, DiskJournal
from actors.simulation.draws import Latency, generator
from actors.simulation.outages import Outages
from bot.errors import JournalError
from bot.storage.base import GENESIS, Journal, Record, seal, sealed, verified
from bot.storage.memory import MemoryJournal
from bot.storage.portal import open_portal
from bot.storage.sqlite import open_sqlite_journal, read_sqlite_journal

ROOT = Path(__file__).parents[2]
OpenJournal = Callable[[], AbstractAsyncContextManager[Journal]]
"""Opens the same journal each time."""


@asynccontextmanager
async def sqlite_journal(path: Path) -> AsyncGenerator[Journal, None]:
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        yield journal


@pytest.fixture(params=["memory", "sqlite", "simulated disk"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> OpenJournal:
    if request.param == "sqlite":
        return lambda: sqlite_journal(tmp_path / "state" / "journal.db")
    if request.param == "simulated disk":
        disk = Disk(Latency(median_ms=0.2, p99_ms=0.5), Outages((), 1), generator(1, "disk"))

        @asynccontextmanager
        async def disk_journal() -> AsyncGenerator[Journal, None]:
            yield DiskJournal(disk)

        return disk_journal
    kept: list[Record] = []

    @asynccontextmanager
    async def memory_journal() -> AsyncGenerator[Journal, None]:
        journal = MemoryJournal(kept)
        yield journal
        kept[:] = await journal.load()
        await journal.aclose()

    return memory_journal


def payloads(count: int, first: int = 1) -> list[tuple[int, bytes]]:
    return [(1000 + number, b'{"n":%d}' % number) for number in range(first, first + count)]


# --- every journal


async def test_a_new_journal_is_empty(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        assert await journal.load() == []
        assert journal.head == (0, GENESIS)


async def test_what_is_appended_is_there_in_the_next_life(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        first = await journal.append(payloads(2))
        assert journal.head == (2, first)
        last = await journal.append(payloads(3, first=3))
    async with open_journal() as journal:
        assert journal.head == (5, last)
        records = await journal.load()
        assert [record.seq for record in records] == [1, 2, 3, 4, 5]
        assert [(record.ts_ns, record.payload) for record in records] == payloads(5)
        await journal.append(payloads(1, first=6))
        assert len(await journal.load()) == 6


async def test_each_digest_seals_all_before_it(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        last = await journal.append([(1, b"a"), (2, b"b")])
    digest = hashlib.sha256(bytes(32) + (1).to_bytes(8, "big") + b"a").digest()
    assert last == hashlib.sha256(digest + (2).to_bytes(8, "big") + b"b").digest()


async def test_batches_do_not_change_the_digest(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        for number in range(1, 8):
            await journal.append(payloads(1, first=number))
        assert journal.head[1] == sealed((0, GENESIS), payloads(7))[-1].digest


async def test_appending_nothing_changes_nothing(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        last = await journal.append(payloads(1))
        assert await journal.append([]) == last
        assert journal.head == (1, last)


async def test_a_cancelled_append_writes_all_or_nothing_and_the_head_knows(open_journal: OpenJournal) -> None:
    dice = random.Random(7)
    async with open_journal() as journal:
        for _ in range(60):
            before, _ = journal.head
            with trio.move_on_after(dice.random() * 0.003):
                await journal.append(payloads(5, first=before + 1))
            assert journal.head[0] in (before, before + 5)
        records = await journal.load()
        assert [record.payload for record in records] == [payload for _, payload in payloads(len(records))]
        assert len(records) == journal.head[0]


async def test_a_closed_journal_takes_no_more(open_journal: OpenJournal) -> None:
    async with open_journal() as journal:
        await journal.append(payloads(1))
        kept = await journal.load()
        await journal.aclose()
        await journal.aclose()
        for call in (lambda: journal.append(payloads(1)), journal.load):
            with pytest.raises(JournalError, match="closed"):
                await call()
        if isinstance(journal, MemoryJournal):
            journal.__init__(kept)  # the fixture reads it once more


# --- the chain


def test_a_changed_byte_is_found() -> None:
    records = sealed((0, GENESIS), payloads(9))
    for place, record in enumerate(records):
        changed = record._replace(payload=record.payload[:-1] + b"!")
        with pytest.raises(JournalError, match=rf"here: record {record.seq} is damaged"):
            verified([*records[:place], changed, *records[place + 1 :]], "here")


def test_a_missing_a_doubled_and_a_swapped_record_are_found() -> None:
    one, two, three = sealed((0, GENESIS), payloads(3))
    for damaged in ([two, three], [one, three], [one, one, two], [one, three, two]):
        with pytest.raises(JournalError, match=r"here: record [123] is missing"):
            verified(damaged, "here")


def test_the_seal_tells_payload_and_number_apart() -> None:
    assert seal(GENESIS, 1, b"") != seal(GENESIS, 2, b"")


# --- the file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


async def write(path: Path, count: int = 5) -> list[Record]:
    async with sqlite_journal(path) as journal:
        await journal.append(payloads(count))
        return await journal.load()


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("DROP TRIGGER journal_is_never_changed")
        connection.execute("DROP TRIGGER journal_is_never_cut")
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(content)


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def overwrite_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(content)


async def refused(path: Path, match: str) -> None:
    """Both ways to read the file refuse it, and say why."""
    with pytest.raises(JournalError, match=match):
        async with sqlite_journal(path):
            raise AssertionError("it was opened")
    with pytest.raises(JournalError, match=match):
        read_sqlite_journal(path)


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE journal SET payload = CAST(replace(payload, '3', '4') AS BLOB) WHERE seq = 3", 3),
        ("UPDATE journal SET digest = zeroblob(32) WHERE seq = 1", 1),
        ("DELETE FROM journal WHERE seq = 2", 2),
        ("DELETE FROM journal WHERE seq = 5", 5),
        ("DELETE FROM journal", 1),
    ],
)
async def test_tampering_is_found_and_named(path: Path, statement: str, seq: int) -> None:
    await write(path)
    alter(path, statement)
    await refused(path, rf"journal\.db: record {seq} is")


@pytest.mark.parametrize("statement", ["UPDATE journal SET ts_ns = 0", "DELETE FROM journal"])
async def test_the_file_itself_refuses_changes(path: Path, statement: str) -> None:
    await write(path)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


async def test_the_file_and_its_directory_are_ours_alone(path: Path) -> None:
    async with sqlite_journal(path) as journal:
        await journal.append(payloads(1))
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    await write(path)
    set_mode(path, mode)
    with pytest.raises(JournalError, match="chmod 600 "):
        async with sqlite_journal(path):
            pass


async def test_a_directory_where_others_write_is_refused(path: Path) -> None:
    await write(path)
    set_mode(path.parent, 0o777)
    with pytest.raises(JournalError, match="chmod 700 "):
        async with sqlite_journal(path):
            pass


async def test_a_link_and_a_directory_are_refused(path: Path) -> None:
    await write(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(JournalError, match="symbolic link"):
        async with sqlite_journal(link):
            pass
    with pytest.raises(JournalError, match="directory"):
        async with sqlite_journal(path.parent):
            pass


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    put(path, b"symbol,price\n" * 500)
    await refused(path, r"journal\.db: .*not a database")


async def test_another_program_s_database_is_refused_and_left_alone(path: Path) -> None:
    put(path, b"")
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = prints(path)
    with pytest.raises(JournalError, match="another program"):
        async with sqlite_journal(path):
            pass
    assert prints(path) == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await write(path)
    alter(path, "PRAGMA user_version = 99")
    await refused(path, "schema 99, made by a newer version")


async def test_a_corrupt_page_is_refused(path: Path) -> None:
    await write(path, 2000)
    overwrite_the_middle(path)
    await refused(path, r"journal\.db: ")


async def test_migrations_leave_a_record(path: Path) -> None:
    await write(path)
    await write_more(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT number, name FROM migrations").fetchall() == [(1, "0001_journal")]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def write_more(path: Path) -> None:
    async with sqlite_journal(path) as journal:
        await journal.append(payloads(1))


async def test_a_failed_write_leaves_nothing_and_stops_the_journal(path: Path) -> None:
    async with sqlite_journal(path) as journal:
        await journal.append(payloads(2))
        other = sqlite3.connect(path, isolation_level=None)
        try:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON journal WHEN NEW.seq = 4"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
            with pytest.raises(JournalError, match=r"journal\.db: cannot be written: disk full"):
                await journal.append(payloads(2, first=3))
            assert journal.head[0] == 2
            with pytest.raises(JournalError, match="disk full"):
                await journal.append(payloads(1, first=3))
            other.execute("DROP TRIGGER full")
        finally:
            other.close()
    assert len(read_sqlite_journal(path)) == 2


async def test_a_commit_is_synced_before_it_is_acknowledged(path: Path) -> None:
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        connection = journal._connection
        assert connection is not None

        async def pragma(name: str) -> list[tuple[object, ...]]:
            return [tuple(row) for row in await connection.execute_fetchall(f"PRAGMA {name}")]

        assert await portal.run(pragma, "synchronous") == [(2,)]  # FULL
        assert await portal.run(pragma, "journal_mode") == [("wal",)]
        assert await portal.run(pragma, "busy_timeout") == [(5000,)]


async def test_a_second_writer_is_refused_and_harms_nothing(path: Path) -> None:
    async with open_portal() as portal, open_sqlite_journal(path, portal) as one:
        async with open_sqlite_journal(path, portal) as two:
            await one.append(payloads(3))
            with pytest.raises(JournalError, match="cannot be written"):
                await two.append(payloads(1))
        await one.append(payloads(1, first=4))
    assert len(read_sqlite_journal(path)) == 4


async def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    await write(path, 5)
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        connection = journal._connection
        assert connection is not None

        async def fill_up() -> None:
            await connection.execute("PRAGMA max_page_count = 1")

        await portal.run(fill_up)
        with pytest.raises(JournalError, match="disk is full"):
            await journal.append([(1, bytes(1_000_000)), (2, b"x")])
    assert len(read_sqlite_journal(path)) == 5


async def test_a_loop_that_died_is_a_journal_error_and_holds_no_thread(path: Path) -> None:
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        await journal.append(payloads(1))
        portal._loop.call_soon_threadsafe(portal._loop.stop)
        portal._thread.join()
        with pytest.raises(JournalError, match="asyncio loop has ended"):
            await journal.append(payloads(1, first=2))
        connection = journal._connection
        assert connection is not None
    connection._thread.join(5)
    assert not connection._thread.is_alive()
    assert len(read_sqlite_journal(path)) == 1


# --- reading beside a writer


def prints(path: Path) -> dict[str, str]:
    files = [path, path.with_name(f"{path.name}-wal")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.exists()}


async def test_reading_a_closed_journal_changes_no_file(path: Path) -> None:
    records = await write(path)
    names = sorted(path.parent.iterdir())
    before = prints(path)
    assert read_sqlite_journal(path) == records
    assert prints(path) == before
    assert sorted(path.parent.iterdir()) == names


async def test_reading_beside_a_writer_sees_what_is_durable_and_changes_nothing(path: Path) -> None:
    async with sqlite_journal(path) as journal:
        for number in range(1, 30):
            await journal.append(payloads(1, first=number))
            before = prints(path)
            records = read_sqlite_journal(path)
            assert (records[-1].seq, records[-1].digest) == journal.head
            assert prints(path) == before


async def test_a_reader_in_another_process_does_not_disturb_the_writer(path: Path) -> None:
    async with sqlite_journal(path) as journal:
        await journal.append(payloads(10))
        reader = start_reader(path)
        while reader.poll() is None:
            await journal.append(payloads(1, first=journal.head[0] + 1))
        output, _ = reader.communicate()
        assert reader.returncode == 0
        assert int(output) >= 10


def start_reader(path: Path) -> subprocess.Popen[bytes]:
    script = (
        "import sys, pathlib; from bot.storage.sqlite import read_sqlite_journal\n"
        "assert 'trio' not in sys.modules and 'aiosqlite' not in sys.modules and 'asyncio' not in sys.modules\n"
        "print(max(len(read_sqlite_journal(pathlib.Path(sys.argv[1]))) for _ in range(200)))"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.PIPE)


def test_reading_a_journal_that_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no such journal"):
        read_sqlite_journal(path)


def test_a_journal_that_was_only_just_made_is_empty(path: Path) -> None:
    path.parent.mkdir()
    path.touch(mode=0o600)
    assert read_sqlite_journal(path) == []


# --- crashes

WRITER = textwrap.dedent(
    """
    import os, sys, trio
    from pathlib import Path
    from bot.storage.portal import open_portal
    from bot.storage.sqlite import open_sqlite_journal

    async def main():
        async with open_portal() as portal, open_sqlite_journal(Path(sys.argv[1]), portal) as journal:
            while True:
                seq = journal.head[0]
                await journal.append([(n, b'{"n":%d}' % n) for n in range(seq + 1, seq + 4)])
                os.write(1, b"%d\\n" % journal.head[0])

    trio.run(main)
    """
)


def killed_writer(path: Path, seconds: float) -> int:
    """Write until killed; return the last sequence number that was acknowledged."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(seconds)
    writer.send_signal(signal.SIGKILL)
    output, _ = writer.communicate()
    return int((first + output).split()[-1])


async def test_kill_9_loses_nothing_that_was_acknowledged(path: Path) -> None:
    dice = random.Random(9)
    for _ in range(8):
        acknowledged = killed_writer(path, dice.random() * 0.15)
        assert len(read_sqlite_journal(path)) >= acknowledged
        async with sqlite_journal(path) as journal:
            records = await journal.load()
        assert len(records) >= acknowledged
        assert len(records) % 3 == 0, "a batch is whole or not there"
        assert [record.payload for record in records] == [b'{"n":%d}' % seq for seq in range(1, len(records) + 1)]


async def test_a_log_cut_anywhere_leaves_a_prefix_of_whole_batches(path: Path, tmp_path: Path) -> None:
    killed_writer(path, 0.1)
    wal = path.with_name(f"{path.name}-wal")
    whole = {record.seq: record for record in read_sqlite_journal(path)}
    dice = random.Random(3)
    lengths: set[int] = set()
    for number in range(25):
        directory = tmp_path / f"cut{number}"
        directory.mkdir(mode=0o700)
        copy = directory / path.name
        shutil.copy2(path, copy)
        shutil.copy2(wal, directory / wal.name)
        os.truncate(directory / wal.name, dice.randrange(wal.stat().st_size))
        async with sqlite_journal(copy) as journal:
            records = await journal.load()
        assert records == [whole[record.seq] for record in records]
        assert len(records) % 3 == 0
        lengths.add(len(records))
    assert len(lengths) > 3
