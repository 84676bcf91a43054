"""Verify: the tables against a fold of the log that never looked at them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from projections.compare import Difference
from projections.filesystem import FilesystemStore
from projections.memory import MemoryStore
from projections.pending import pending_row
from projections.postgres import PostgresStore
from projections.progress import Progress
from projections.rows import REFUSES
from projections.tables import Tables
from projections.verify import verify
from schemas.ports import TP
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.feeding import feed
from tests.histories import Log, command, cut, id_at, random_log

WAITS = "insert into pending values ('{run}', 0, {offset}, 'greet', null, '{{}}', 'x', 1)"
CHANGES_OF_WAITING = [
    ("delete from pending where run_id = '{run}'", "waiting command"),
    ("update pending set payload = '{{}}' where run_id = '{run}'", "waiting command, payload"),
    ("update pending set workflow_id = 'x' where run_id = '{run}'", "waiting command, workflow_id"),
    ("update pending set version = 7 where run_id = '{run}'", "waiting command, version"),
    ("update pending set created_at = 'x' where run_id = '{run}'", "waiting command, created_at"),
    ("update pending set log_offset = log_offset + 1 where run_id = '{run}'", "waiting command, offset"),
]
REFUSE = "update runs set set_aside = '{reason}' where run_id = '{run}'"
OVERWRITE = "update runs set payload = '{{}}' where run_id = '{run}'"
NEVER_SHOWN = """
update runs set workflow_id = '', version = null, status = 'PENDING', payload = 'null', results = '{{}}', error = null,
    steps = '[]', created_at = '', created_us = 0, started_at = null, finished_at = null where run_id = '{run}'
"""
INVENT = """
insert into runs (run_id, partition, first_offset, last_offset, seq, digest, done, state_version)
values ('invented', 0, 1, 1, 1, 'x', true, 1)
"""
CHANGES = [
    ("update runs set status = 'FAILED' where run_id = {run}", "status"),
    ("update runs set payload = '{{}}' where run_id = {run}", "payload"),
    ("update runs set results = '1' where run_id = {run}", "results"),
    ("update runs set error = '1' where run_id = {run}", "error"),
    ("update runs set finished_at = 'x' where run_id = {run}", "finished_at"),
    ("update runs set created_us = 5 where run_id = {run}", "created_us"),
    ("update runs set seq = 99 where run_id = {run}", "seq"),
    ("update runs set digest = 'x' where run_id = {run}", "digest"),
    ("update runs set first_offset = 0 where run_id = {run}", "first_offset"),
    ("update runs set done = 1 - done where run_id = {run}", "done"),
    ("update runs set state = x'00' where run_id = {run}", "state"),
    ("update runs set state_version = 99 where run_id = {run}", "state_version"),
    ("update runs set set_aside = 'because' where run_id = {run}", "set_aside"),
    ("update history set value = x'00' where run_id = {run} and seq = 2", "history 2"),
    ("update history set at_ms = 1 where run_id = {run} and seq = 1", "history 1"),
    ("update history set type = 'x' where run_id = {run} and seq = 1", "history 1"),
    ("delete from history where run_id = {run} and seq = 2", "history 2"),
    (
        "insert into history select run_id, 99, type, log_offset, at_ms, value from history where run_id = {run} limit 1",
        "history 99",
    ),
    ("delete from runs where run_id = {run}", "row"),
    ("update runs set run_id = 'another' where run_id = {run}", "row"),
]
RENUMBER = "update runs set seq = 77 where run_id = '{run}'"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(tmp_path / "store")
    await store.migrate()
    yield store
    await store.close()


def damage(store: FilesystemStore, sql: str) -> None:
    connection = sqlite3.connect(store.folder / "tables-1.sqlite3", isolation_level=None)
    connection.execute(sql)
    connection.close()


async def differences(store: Tables, log: Log, topics: FakeTopics | None = None) -> list[Difference]:
    settings = Settings(workflow_partitions=log.partitions)
    said: list[Progress] = []
    found = [each async for each in verify(settings, store, topics or FakeTopics(settings, log), said.append)]
    positions = await store.positions()
    assert said[-1].total == sum(positions.get(("e", n), 0) for n in range(log.partitions))
    return found


async def filled(store: Tables, seed: int, *, part: float = 1.0) -> Log:
    """A store that a projector has brought up to a part of the log, in small batches."""
    log = random_log(seed, runs=25)
    for partition, records in enumerate(log.records):
        await feed(store, log, cuts=cut(records[: int(len(records) * part)], log.rng), partition=partition)
    return log


@pytest.mark.parametrize("seed", range(31, 35))
async def test_sound_tables_have_no_differences(store: FilesystemStore, seed: int) -> None:
    """Whatever orphans, takeovers and set-aside runs the log holds, and wherever the tables stand in it."""
    assert await differences(store, await filled(store, seed)) == []
    assert await differences(store, await filled(store, seed)) == []


async def test_tables_behind_the_log_are_sound(store: FilesystemStore) -> None:
    """Compared is what the tables say they have seen."""
    assert await differences(store, await filled(store, 35, part=0.6)) == []


async def test_tables_in_postgres(postgres_dsn: str) -> None:
    """The same on PostgreSQL, down to the bytes of states and JSON."""
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    assert await differences(store, await filled(store, 36)) == []
    await store.close()


async def test_empty_tables_are_sound(store: FilesystemStore) -> None:
    """Nothing was seen, so nothing is compared."""
    assert await differences(store, random_log(37)) == []


@pytest.mark.parametrize(("sql", "column"), CHANGES)
async def test_every_change_is_found(store: FilesystemStore, sql: str, column: str) -> None:
    """One changed value in one row is the one difference, with the run, the column and both values."""
    log = await filled(store, 38)
    victim = next(record.key.decode() for record in log.records[0] if record.key and record.key.startswith(b"r-"))
    damage(store, sql.format(run=f"'{victim}'"))
    found = await differences(store, log)
    assert (victim, column) in {(each.run, each.column) for each in found}
    assert {each.run for each in found} <= {victim, "another"}
    assert all(each.stored != each.folded for each in found)


async def test_rows_that_the_log_does_not_have_are_found(store: FilesystemStore) -> None:
    """A run that somebody invented, and history without a run."""
    log = await filled(store, 44)
    damage(store, INVENT)
    damage(store, "insert into history values ('stray', 1, 'x', 1, 1, x'00')")
    found = [(each.run, each.column, each.folded) for each in await differences(store, log)]
    assert found == [("invented", "row", "nothing"), ("stray", "history", "a row where there are events")]


async def test_a_wrong_mark_is_found(store: FilesystemStore) -> None:
    """Tables whose epoch is not the log's would judge the next events wrongly."""
    log = await filled(store, 39)
    damage(store, "update positions set epoch = epoch + 1 where partition = 1")
    assert [(each.run, each.column) for each in await differences(store, log)] == [("partition 1", "epoch")]


async def test_a_log_that_is_not_ours_is_one_difference(store: FilesystemStore) -> None:
    """Instead of a thousand rows that differ, one sentence for the partition."""
    log = await filled(store, 40)
    topics = FakeTopics(Settings(workflow_partitions=2), log)
    del log.records[1][-3:]
    found = await differences(store, log, topics)
    assert [(each.run, each.column) for each in found] == [("partition 1", "log")]
    assert "workflow rebuild" in found[0].folded
    topics.begins[TP(topics.settings.topics.events, 0)] = 4
    assert [each.run for each in await differences(store, log, topics)] == ["partition 0", "partition 1"]


async def test_a_hole_in_the_log_is_named(store: FilesystemStore) -> None:
    """A record that is missing in the middle is a difference of the log, not of the rows."""
    log = await filled(store, 41)
    del log.records[0][10]
    found = await differences(store, log)
    assert [(each.run, each.column) for each in found] == [("partition 0", "log")]
    assert "offset 10 is missing" in found[0].folded


async def test_what_the_store_has_refused_is_no_difference(store: FilesystemStore) -> None:
    """The columns of a quarantined run stand still; its chain and history are compared all the same."""
    log = await filled(store, 42)
    victim = next(record.key.decode() for record in log.records[0] if record.key and record.key.startswith(b"r-"))
    damage(store, REFUSE.format(run=victim, reason=f"{REFUSES}: no"))
    assert await differences(store, log) == []
    damage(store, NEVER_SHOWN.format(run=victim))
    assert await differences(store, log) == []
    damage(store, RENUMBER.format(run=victim))
    assert [(each.run, each.column) for each in await differences(store, log)] == [(victim, "seq")]


async def test_what_a_run_never_looked_like_is_a_difference_refused_or_not(store: FilesystemStore) -> None:
    """The mark of a refusal hides nothing that somebody has written over."""
    log = await filled(store, 42)
    victim = next(record.key.decode() for record in log.records[0] if record.key and record.key.startswith(b"r-"))
    damage(store, REFUSE.format(run=victim, reason=f"{REFUSES}: no"))
    damage(store, OVERWRITE.format(run=victim))
    assert [(each.run, each.column) for each in await differences(store, log)] == [
        (victim, "set_aside"),
        (victim, "payload"),
    ]


async def test_a_difference_reads_as_a_sentence(store: FilesystemStore) -> None:
    """Run, column, what the tables say and what the log says; long values are cut."""
    log = await filled(store, 43)
    damage(store, "update runs set status = printf('%.*c', 999, 'x')")
    first = (await differences(store, log))[0]
    assert str(first).startswith(f"{first.run} status: the tables say xxx")
    assert len(str(first)) < 500


async def waiting(store: Tables) -> tuple[Log, FakeTopics]:
    """A store that has seen all commands: of runs that began, of some that did not, one twice, and what is no start here."""
    log = await filled(store, 45)
    topics = FakeTopics(Settings(workflow_partitions=log.partitions), log)
    for number, records in enumerate(log.records):
        begun = next(record.key.decode() for record in records if record.key and record.key.startswith(b"r-"))
        waits = [id_at(log.rng, number, log.partitions) for _ in range(3)]
        topics.put_command(number, b"no command")
        for run_id in (begun, *waits, waits[0], id_at(log.rng, 1 - number, log.partitions)):
            topics.put_command(number, command(run_id, payload={"n": 2**53 + 1, "é": run_id}), hole=1)
        tp = TP(topics.settings.topics.trigger, number)
        rows = [pending_row(each, tp, log.partitions, 32) for each in topics.commands[number]]
        await store.apply_pending(number, 0, topics.commands[number][-1].offset + 1, [row for row in rows if row])
    topics.put_command(0, command(id_at(log.rng, 0, log.partitions)))  # nobody has seen this one
    return log, topics


@pytest.mark.parametrize("kind", ["memory", "filesystem", "postgres"])
async def test_commands_that_wait_are_those_of_the_topic(kind: str, tmp_path: Path, postgres_dsn: str) -> None:
    """On every store; what the topic has forgotten is not asked for."""
    stores: dict[str, Callable[[], Tables]] = {
        "memory": MemoryStore,
        "filesystem": lambda: FilesystemStore(tmp_path / "waiting"),
        "postgres": lambda: PostgresStore(postgres_dsn),
    }
    store = stores[kind]()
    await store.migrate()
    try:
        log, topics = await waiting(store)
        assert await differences(store, log, topics) == []
        async with store.audit() as audit:
            assert [len(await audit.pending(number)) for number in range(log.partitions)] == [3, 3]
        forgotten = topics.commands[0][3].offset
        topics.begins[TP(topics.settings.topics.trigger, 0)] = forgotten
        del topics.commands[0][:3]
        assert await differences(store, log, topics) == []
    finally:
        await store.close()


@pytest.mark.parametrize(("sql", "column"), CHANGES_OF_WAITING)
async def test_every_change_of_a_command_that_waits_is_found(store: FilesystemStore, sql: str, column: str) -> None:
    log, topics = await waiting(store)
    async with store.audit() as audit:
        victim = (await audit.pending(1))[0].run_id
    damage(store, sql.format(run=victim))
    assert [(each.run, each.column) for each in await differences(store, log, topics)] == [(victim, column)]


async def test_what_is_shown_as_waiting_and_does_not_wait_is_found(store: FilesystemStore) -> None:
    """A run that has begun, and a command that nobody has sent."""
    log, topics = await waiting(store)
    begun = next(record.key.decode() for record in log.records[0] if record.key and record.key.startswith(b"r-"))
    for run_id, offset in ((begun, 2), ("invented", 1)):
        damage(store, WAITS.format(run=run_id, offset=offset))
    found = [(each.run, each.column, each.folded) for each in await differences(store, log, topics)]
    assert found == [(run_id, "waiting command", "nothing") for run_id in sorted((begun, "invented"))]
