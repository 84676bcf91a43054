"""The store in a folder keeps the contract of every store, and what files add to it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from projections import sqlite_tables
from projections.filesystem import FilesystemStore
from projections.sqlite_tables import SqliteTables
from schemas.errors import OtherProjection, StalePosition, StoreAway, StoreRefused
from tests.contract.cases import whole_log
from tests.contract.store_past import PastContract
from tests.contract.store_reads import ReadContract
from tests.contract.store_tables import SharedContract, TablesContract
from tests.contract.store_writes import WriteContract
from tests.feeding import everything, feed
from tests.histories import random_log


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(tmp_path / "store")
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
async def other(store: FilesystemStore) -> AsyncIterator[FilesystemStore]:
    """Another process's store on the same folder."""
    other = FilesystemStore(store.folder)
    yield other
    await other.close()


class TestFilesystemWrites(WriteContract):
    pass


class TestFilesystemReads(ReadContract):
    pass


class TestFilesystemPast(PastContract):
    pass


class TestFilesystemTables(TablesContract):
    pass


class TestFilesystemShared(SharedContract):
    pass


async def test_everything_is_there_after_a_restart(store: FilesystemStore) -> None:
    """A new process finds all rows and its place in the log."""
    log = random_log(11)
    for partition in range(2):
        await feed(store, log, partition=partition)
    expected = await everything(store)
    await store.close()
    again = FilesystemStore(store.folder)
    assert await everything(again) == expected
    await again.close()


async def test_before_the_first_migration_it_is_away(tmp_path: Path) -> None:
    """A reader that starts before the projector is told so, and finds the tables once they are made."""
    store = FilesystemStore(tmp_path / "store")
    with pytest.raises(StoreAway, match="the projector makes them"):
        await store.positions()
    maker = FilesystemStore(tmp_path / "store")
    await maker.migrate()
    assert await store.positions() == {}
    await maker.close()
    await store.close()


async def test_many_processes_may_migrate_at_once(tmp_path: Path) -> None:
    """The first start of several processes makes one set of tables."""
    stores = [FilesystemStore(tmp_path / "store") for _ in range(5)]
    await asyncio.gather(*(store.migrate() for store in stores))
    log, (story,) = whole_log("SUCCESS")
    await feed(stores[0], log)
    assert [await store.run(story.run_id) is not None for store in stores] == [True] * 5
    for store in stores:
        await store.close()


async def test_a_locked_file_is_a_store_that_is_away(store: FilesystemStore) -> None:
    """A writer that holds the lock for longer than the wait makes the store away, not wrong; later it goes on."""
    log, _ = whole_log("SUCCESS")
    impatient = FilesystemStore(store.folder, timeout_s=0.3)
    holder = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    holder.execute("begin immediate")
    with pytest.raises(StoreAway):
        await feed(impatient, log)
    holder.execute("rollback")
    holder.close()
    await impatient.close()  # its thread may have waited on and written after all
    await feed(store, log)
    assert (await store.positions())["e", 0] == len(log.records[0])


async def test_a_batch_that_breaks_off_leaves_nothing(store: FilesystemStore) -> None:
    """A batch whose last row cannot be written moves neither rows nor position."""
    log, (story,) = whole_log("RUNNING")
    await feed(store, log)
    before = await everything(store)
    raw = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    raw.execute("create trigger no_more before update on runs begin select raise(abort, 'no more'); end")
    log.append(0, story.completed(1))
    with pytest.raises(StoreRefused, match="no more"):
        await feed(store, log)
    assert await everything(store) == before
    raw.execute("drop trigger no_more")
    raw.close()
    await feed(store, log)
    assert (await store.tips(0, [story.run_id]))[1][story.run_id].done


async def test_tables_of_a_newer_program_are_refused(store: FilesystemStore) -> None:
    """An older program does not touch tables that it does not know."""
    raw = sqlite3.connect(store.folder / "tables-1.sqlite3")
    raw.execute("pragma user_version = 99")
    raw.close()
    with pytest.raises(StoreRefused, match="99"):
        await store.migrate()


async def test_a_missing_row_is_named(store: FilesystemStore) -> None:
    """A run that had begun and has no row, because somebody deleted it, stops the partition with a sentence."""
    log, (story,) = whole_log("RUNNING")
    fold = await feed(store, log)
    raw = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    raw.execute("delete from runs")
    raw.close()
    log.append(0, story.completed(1))
    fold.take(log.records[0][fold.position :], {})
    with pytest.raises(StoreRefused, match="workflow rebuild"):
        await store.apply(fold.batch())


async def nothing_to_do(_positions: Mapping[int, int]) -> None:
    """The second set is level."""


async def test_a_replaced_file_takes_nothing_more(store: FilesystemStore) -> None:
    """A writer that looked at the name just before the exchange cannot write into a file that nobody reads."""
    log, (story,) = whole_log("RUNNING")
    fold = await feed(store, log)
    slow = SqliteTables(store.folder / "tables-1.sqlite3")
    second = await store.second()
    await second.migrate()
    await feed(second, log)
    await store.swap(second, nothing_to_do)
    await second.close()
    log.append(0, story.completed(1))
    fold.take(log.records[0][fold.position :], {})
    batch = fold.batch()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        slow.apply(batch)
    slow.close()
    with pytest.raises(StalePosition):
        await store.apply(batch)
    await feed(store, log)
    assert (await store.positions())["e", 0] == len(log.records[0])


async def test_a_rebuild_leaves_two_files(store: FilesystemStore) -> None:
    """The set that was replaced stays until it is dropped; those of rebuilds that broke off go away."""
    broken_off = await store.second()
    await broken_off.migrate()
    await broken_off.close()
    second = await store.second("new")
    await second.migrate()
    await store.swap(second, nothing_to_do)
    await second.close()
    assert {file.name for file in store.folder.glob("tables-*3")} == {"tables-1.sqlite3", "tables-new.sqlite3"}
    await (await store.second("newer")).close()
    assert {file.name for file in store.folder.glob("tables-*3")} == {"tables-1.sqlite3", "tables-new.sqlite3"}
    assert await store.has_old()
    assert await store.drop_old()
    assert not await store.has_old()
    assert not await store.drop_old()
    await store.close()
    assert [file.name for file in sorted(store.folder.iterdir())] == ["current", "lock", "tables-new.sqlite3"]


async def test_only_the_release_that_made_the_tables_writes_to_them(store: FilesystemStore) -> None:
    """Rows, positions and waiting commands stand still for any other."""
    log, _ = whole_log("SUCCESS", "SUCCESS")
    await feed(store, log, cuts=[log.records[0][:3]])
    await store.apply_pending(0, 0, 1, [])
    raw = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    raw.execute("update positions set projection = 1")
    raw.close()
    with pytest.raises(OtherProjection, match="workflow rebuild"):
        await feed(store, log)
    with pytest.raises(OtherProjection):
        await store.apply_pending(0, 1, 2, [])
    assert await store.positions() == {("e", 0): 3, ("t", 0): 1}


async def test_a_file_of_the_first_version_is_brought_to_this_one(store: FilesystemStore) -> None:
    """It does not say which projection it holds: the first one."""
    log, _ = whole_log("SUCCESS")
    await feed(store, log)
    raw = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    raw.execute("drop view dated")
    for table, column in sqlite_tables.SINCE_THE_FIRST:
        raw.execute(f"alter table {table} drop column {column.partition(' ')[0]}")
    raw.execute("pragma user_version = 1")
    raw.close()
    await store.migrate()
    assert await store.projection_version() == 1001
