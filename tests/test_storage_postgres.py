"""The store in PostgreSQL keeps the contract of every store, and what a server adds to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from projections import postgres_admin
from projections.feed import fold_records
from projections.fold import PartitionFold
from projections.postgres import PostgresStore
from schemas.errors import OtherProjection, StoreAway, StoreRefused
from schemas.store import RunFilter
from tests.contract.cases import pending, whole_log
from tests.contract.store_past import PastContract
from tests.contract.store_reads import ReadContract
from tests.contract.store_tables import SharedContract, TablesContract
from tests.contract.store_writes import WriteContract
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import Log

SHAPE = """
select 'column', table_name::text, column_name::text, data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
    || ' ' || coalesce(collation_name, '')
from information_schema.columns where table_schema = $1
union all
select 'index', tablename::text, indexname::text, replace(indexdef, $1 || '.', '') from pg_indexes where schemaname = $1
union all
select 'view', viewname::text, '', replace(definition, $1 || '.', '') from pg_views where schemaname = $1
union all
select 'options', relname::text, relkind::text, coalesce(array_to_string(reloptions, ' '), '')
from pg_class where relnamespace = $1::regnamespace
order by 1, 2, 3, 4
"""


NEW_RUN = """
insert into runs (run_id, partition, first_offset, last_offset, seq, digest, done, state_version)
values ('new', 0, 5, 5, 1, 'x', false, 1)
"""


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    """What the contracts ask for."""
    return postgres_store


@pytest.fixture
async def other(store: PostgresStore, postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """Another process's store on the same database."""
    other = PostgresStore(postgres_dsn)
    yield other
    await other.close()


@pytest.fixture
async def raw(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of an operator's, with the tables in its search path."""
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "workflow"})
    yield connection
    await connection.close()


class TestPostgresWrites(WriteContract):
    pass


class TestPostgresCopies(WriteContract):
    """As large batches are written: by COPY, in a transaction of several statements."""

    @pytest.fixture
    async def store(self, postgres_dsn: str) -> AsyncIterator[PostgresStore]:
        store = PostgresStore(postgres_dsn, small_events=0)
        await store.migrate()
        yield store
        await store.close()


class TestPostgresReads(ReadContract):
    pass


class TestPostgresPast(PastContract):
    pass


class TestPostgresTables(TablesContract):
    pass


class TestPostgresShared(SharedContract):
    pass


async def test_all_migrations_make_the_schema(store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]) -> None:
    """schema.sql, which people read, is what all migrations together make."""
    await raw.execute("create schema read; set search_path to read")
    await raw.execute((Path(postgres_admin.__file__).parent / "schema.sql").read_text())
    migrated = [
        tuple(row) for row in await raw.fetch(SHAPE, "workflow") if row[1] not in ("migrations", "migrations_pkey")
    ]
    assert [tuple(row) for row in await raw.fetch(SHAPE, "read")] == migrated
    assert len(migrated) > 40


async def test_migrations_run_once(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    """Many processes that start at once apply each migration one time."""
    await raw.execute("drop schema workflow cascade")
    stores = [PostgresStore(postgres_dsn) for _ in range(4)]
    await asyncio.gather(*(each.migrate() for each in stores))
    for each in stores:
        await each.close()
    numbers = [row[0] for row in await raw.fetch("select number from migrations order by number")]
    assert numbers == [number for number, _ in postgres_admin.migrations()]


async def test_tables_of_a_newer_program_are_refused(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """An older program does not touch tables that it does not know, and is served by those that it can read."""
    newest = postgres_admin.migrations()[-1][0]
    await raw.execute("insert into migrations (number, readable_from) values (9999, $1)", newest)
    await store.migrate()
    await raw.execute("update migrations set readable_from = 9999 where number = 9999")
    with pytest.raises(StoreRefused, match="9999"):
        await store.migrate()


async def test_tables_of_the_first_version_are_brought_to_this_one(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """They do not say who can read them, nor which projection they hold; what stands in them is of the first one."""
    await raw.execute("drop schema workflow cascade; create schema workflow; set search_path to workflow")
    await raw.execute("create table migrations (number int primary key, applied_at timestamptz not null default now())")
    await raw.execute(postgres_admin.migrations()[0][1])
    await raw.execute("insert into migrations (number) values (1)")
    await raw.execute("insert into positions (topic, partition, position) values ('e', 0, 7)")
    await store.migrate()
    assert await store.projection_version() == 1001
    assert await store.positions() == {("e", 0): 7}


async def test_only_the_release_that_made_the_tables_writes_to_them(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    """Rows, positions and waiting commands stand still for any other, small batches and large ones."""
    log, _ = whole_log("SUCCESS", "SUCCESS")
    await feed(store, log, cuts=[log.records[0][:3]])
    await store.apply_pending(0, 0, 1, [])
    await raw.execute("update positions set projection = 999001")
    copies = PostgresStore(postgres_dsn, small_events=0)
    for each in (store, copies):
        with pytest.raises(OtherProjection, match="999001"):
            await feed(each, log)
        with pytest.raises(OtherProjection, match="workflow rebuild"):
            await each.apply_pending(0, 1, 2, [])
    await copies.close()
    assert await store.positions() == {("e", 0): 3, ("t", 0): 1}


async def test_before_the_first_migration_it_is_away(postgres_dsn: str) -> None:
    """A reader that starts before the projector is told so."""
    store = PostgresStore(postgres_dsn)
    with pytest.raises(StoreAway, match="the projector makes them"):
        await store.positions()
    await store.close()


async def test_a_server_that_is_not_there_is_away(postgres_dsn: str) -> None:
    """Nothing listens: the caller hears so at once and may try again."""
    store = PostgresStore("postgresql://workflow@127.0.0.1:1/workflow")
    with pytest.raises(StoreAway, match="Start it or set"):
        await store.run("a")
    await store.close()


async def test_numbers_stand_in_the_tables_as_they_were_sent(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """An operator who looks with SQL sees the payload's text, not a number rounded on the way."""
    log = Log(1)
    epoch = log.take(0)
    log.append(0, log.story(0, payload={"b": 2**63 - 1, "a": 1.0}).requested(epoch))
    await feed(store, log)
    assert await raw.fetchval("select payload::text from runs") == '{"b":9223372036854775807,"a":1.0}'
    assert await raw.fetchval("select payload->>'a' from runs") == "1.0"


async def test_a_poisoned_row_is_found_by_bisecting(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Of 40 runs the two that cannot be stored are quarantined: chain, history and position go on with all others."""
    await raw.execute("alter table runs add check (payload->>'n' is null or payload->>'n' not in ('3', '20'))")
    log, stories = whole_log(*["SUCCESS", "RUNNING"] * 20)
    await feed(store, log)
    runs = {run.view["run_id"]: run.view for run in await store.runs(RunFilter(), after=None, limit=100)}
    assert {run_id for run_id, view in runs.items() if view["set_aside"]} == {stories[3].run_id, stories[20].run_id}
    assert "the store refuses" in (runs[stories[3].run_id]["set_aside"] or "")
    for story in stories:
        rows = await store.events(story.run_id, order="asc", before_seq=None, after_seq=None, types=[], limit=9)
        assert len(rows) == story.seq
        assert (await store.tips(0, [story.run_id]))[1][story.run_id].digest == story.tip
    assert (await store.positions())["e", 0] == len(log.records[0])


async def test_batches_of_one_transaction(store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]) -> None:
    """Nobody sees one before all are there, an error takes all back, and a poisoned row of one is quarantined as ever."""
    await raw.execute("alter table runs add check (payload->>'n' is null or payload->>'n' not in ('3', '20'))")
    log, stories = whole_log(*["SUCCESS", "RUNNING"] * 20)
    cuts = [log.records[0][at : at + 50] for at in range(0, len(log.records[0]), 50)]

    async def write_all(*, breaks: bool = False) -> None:
        fold = PartitionFold(0, 1, CLUSTER)
        async with store.writing() as writing:
            for some in cuts:
                await writing.apply(await fold_records(fold, writing, some, part=True))
                assert await store.positions() == {}
            await writing.apply(fold.batch())
            if breaks:
                raise StoreRefused(what="nothing of it")

    with pytest.raises(StoreRefused, match="nothing of it"):
        await write_all(breaks=True)
    assert await store.positions() == {}
    assert await store.runs(RunFilter(), after=None, limit=100) == []
    await store.snapshot(0)  # what was found to be refused is forgotten, and found again
    await write_all()
    at_once = await everything(store)
    assert {run["view"]["run_id"] for run in at_once["runs"] if run["view"]["set_aside"]} == {
        stories[number].run_id for number in (3, 20)
    }
    await raw.execute("delete from runs; delete from history; delete from positions")
    await feed(store, log)
    assert await everything(store) == at_once


async def test_a_quarantined_run_goes_on_and_comes_back(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record], postgres_dsn: str
) -> None:
    """Columns stand still while the store refuses them; a process that can write them shows the run whole again."""
    await raw.execute("alter table runs add constraint no_fives check (results->>'step_0' is distinct from '5')")
    log, (story, _) = whole_log("RUNNING", "RUNNING")
    await feed(store, log)
    for type_, data in (("StepSucceeded", {"output": 5}), ("StepStarted", {"step": "step_1"})):
        log.append(0, story.event(1, type_, {"step": "step_0", "attempt": 1, **data}))
        await feed(store, log)
        run = await store.run(story.run_id)
        assert run is not None
        assert (run.view["seq"], run.view["results"]) == (story.seq, {})
        assert "no_fives" in (run.view["set_aside"] or "")
    assert (await store.snapshot(0)).runs[0].set_aside is None
    await raw.execute("alter table runs drop constraint no_fives")
    log.append(0, story.event(1, "StepSucceeded", {"step": "step_1", "attempt": 1, "output": 6}))
    mended = PostgresStore(postgres_dsn)
    await feed(mended, log)
    await mended.close()
    run = await store.run(story.run_id)
    assert run is not None
    assert (run.view["seq"], run.view["results"], run.view["set_aside"]) == (5, {"step_0": 5, "step_1": 6}, None)


async def test_what_cannot_be_stored_at_all_stops_the_partition(store: PostgresStore) -> None:
    """A history row that PostgreSQL will never take is an error with a name; nothing of its batch is written."""
    log, (story,) = whole_log("RUNNING")
    batch = await fold_batch(PartitionFold(0, 1, CLUSTER), store, log.records[0])
    with pytest.raises(StoreRefused, match="partition 0"):
        await store.apply(replace(batch, history=[row._replace(type="a\0b") for row in batch.history]))
    assert await store.positions() == {}
    assert await store.run(story.run_id) is None


async def test_a_missing_row_is_named(store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]) -> None:
    """A run that had begun and has no row, because somebody deleted it, stops the partition with a sentence."""
    log, (story,) = whole_log("RUNNING")
    fold = await feed(store, log)
    await raw.execute("delete from runs")
    log.append(0, story.completed(1))
    fold.take(log.records[0][fold.position :], {})
    with pytest.raises(StoreRefused, match="workflow rebuild"):
        await store.apply(fold.batch())


async def test_a_cut_connection_is_away_and_the_next_is_fresh(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Pooled connections that a restart has killed cost one failed call at most."""
    log, _ = whole_log("SUCCESS")
    await feed(store, log)
    await raw.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
    )
    for _ in range(3):
        try:
            assert (await store.positions())["e", 0] == len(log.records[0])
            break
        except StoreAway:
            continue
    else:
        pytest.fail("the store did not come back")


async def test_a_projector_that_sleeps_in_a_transaction_holds_nobody_up_for_ever(
    store: PostgresStore, postgres_dsn: str, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """While another holds the fence the store is away in bounded time; when it lets go, the batch is written."""
    log, _ = whole_log("SUCCESS")
    half = len(log.records[0]) // 2
    await feed(store, log, cuts=[log.records[0][:half]])
    impatient = PostgresStore(postgres_dsn, timeout_s=0.5)
    async with raw.transaction():
        await raw.execute("select from positions for update")
        with pytest.raises(StoreAway):
            await feed(impatient, log)
    await feed(impatient, log)
    assert (await impatient.positions())["e", 0] == len(log.records[0])
    await impatient.close()


async def test_a_first_event_and_its_command_do_not_miss_each_other(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record]
) -> None:
    """While a batch is being written, commands of its partition wait: the run's row is all that stays."""
    log, _ = whole_log("RUNNING")
    await feed(store, log)
    async with raw.transaction():
        await raw.execute("update positions set position = position where topic = 'e'")
        await raw.execute(NEW_RUN)
        waiting = asyncio.ensure_future(store.apply_pending(0, 0, 1, [pending("new")]))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    await waiting
    assert await raw.fetchval("select count(*) from pending") == 0
