"""Rebuild on the stores that are shared: a second set from the log, compared, exchanged while others read and write."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from projections import lane
from projections.filesystem import FilesystemStore
from projections.postgres import PostgresStore
from projections.progress import Progress
from projections.projector import Projector
from projections.rebuild import RebuildCancelled, cancel, outcome, rebuild, request, work
from projections.retry import retry
from projections.rows import REFUSES
from projections.tables import Audit, Level, Tables
from schemas.errors import BrokerAway, HistoryDamaged, LogMismatch
from schemas.ports import TP
from schemas.settings import Settings
from tests.contract.cases import pending
from tests.fake_log import FakeGroup, FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log, command, random_log

CHANGE = "update runs set status = 'FAILED', payload = '{{}}' where run_id = '{run}'"
DELETE = "delete from history where run_id = '{run}' and seq = 1"
INVENT = """
insert into runs (run_id, partition, first_offset, last_offset, seq, digest, done, state_version)
values ('invented', 0, 1, 1, 1, 'x', true, 1)
"""
STRAY = """
insert into history (run_id, seq, type, log_offset, at_ms, value)
select 'stray', 1, type, log_offset, at_ms, value from history limit 1
"""
Damage = Callable[[str], Coroutine[None, None, None]]


@pytest.fixture(params=["filesystem", "postgres"])
async def made(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_dsn: str
) -> AsyncIterator[tuple[Tables, Damage]]:
    """A store, and somebody who changes it by hand with SQL."""
    if request.param == "filesystem":
        folder = tmp_path / "store"
        filesystem = FilesystemStore(folder)
        await filesystem.migrate()

        async def damage_file(sql: str) -> None:
            connection = sqlite3.connect(folder / "tables-1.sqlite3", isolation_level=None)
            connection.execute(sql)
            connection.close()

        yield filesystem, damage_file
        await filesystem.close()
        return
    postgres = PostgresStore(postgres_dsn)
    await postgres.migrate()

    async def damage_tables(sql: str) -> None:
        connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "workflow"})
        await connection.execute(sql)
        await connection.close()

    yield postgres, damage_tables
    await postgres.close()


def ignore(_progress: Progress) -> None:
    """Nobody watches."""


def topics_of(log: Log) -> tuple[Settings, FakeTopics]:
    settings = Settings(workflow_partitions=log.partitions, workflow_projector_batch_max=40)
    return settings, FakeTopics(settings, log)


async def filled(store: Tables, seed: int, runs: int) -> tuple[Settings, FakeTopics, dict[str, Any]]:
    """A log of one partition, all of it in the store, and what the store then holds."""
    log = random_log(seed, partitions=1, runs=runs)
    settings, topics = topics_of(log)
    await feed(store, log)
    return settings, topics, await everything(store)


async def test_the_same_rows_come_out(made: tuple[Tables, Damage]) -> None:
    """Sound tables end as they were, no difference is told, and the walk says how far it is."""
    store, _ = made
    log = random_log(21, runs=30)
    settings, topics = topics_of(log)
    for partition in range(2):
        await feed(store, log, partition=partition)
    before = await everything(store)
    said: list[Progress] = []
    rebuilt = await rebuild(settings, store, topics, said.append)
    assert rebuilt.differences == []
    assert await everything(store) == before
    assert rebuilt.events == said[-1].events == said[-1].total == sum(map(len, log.records))
    assert said[0].events < said[-1].events
    assert (said[-1].eta_s, said[-1].events_per_s > 0, said[-1].phase) == (0, True, "done")


async def test_an_audit_keeps_to_its_tables_through_an_exchange(made: tuple[Tables, Damage]) -> None:
    """Whoever began to look before an exchange goes on with the tables as they were."""
    store, _ = made
    settings, topics, _ = await filled(store, 23, runs=20)
    await store.apply_pending(0, 0, 1, [pending("waits")])

    async def seen(audit: Audit) -> list[Any]:
        ids = [run_id async for some in audit.run_ids(0) for run_id in some]
        found = [await audit.marks(), ids, await audit.runs(ids), await audit.history(ids), await audit.pending(0)]
        return [*found, await audit.begun(ids), await audit.rows_below(0, 10)]

    async with store.audit() as audit:
        marks = await audit.marks()
        assert (await rebuild(settings, store, topics, ignore)).differences == []
        assert await audit.marks() == marks
        through = await seen(audit)
    assert len(through[1]) == len(through[2]) == 20
    async with store.audit() as audit:
        after = await seen(audit)
    assert through[1:4] == after[1:4]
    assert [row.run_id for row in through[4]] == ["waits"]


async def test_a_run_with_a_hole_is_not_folded_again(made: tuple[Tables, Damage]) -> None:
    """Its row would be that of another run; it stays as it is until the history is whole again."""
    store, damage = made
    settings, topics, before = await filled(store, 24, runs=20)
    holed, emptied = sorted(run for run, row in before["rows"].items() if row.chain.set_aside is None)[:2]
    await damage(f"update runs set set_aside = 'it is from the future' where run_id in ('{holed}', '{emptied}')")  # noqa: S608
    await damage(DELETE.format(run=holed))
    await damage(f"delete from history where run_id = '{emptied}'")  # noqa: S608 - of this test
    for run_id in (holed, emptied):
        with pytest.raises(HistoryDamaged):
            await retry(store, run_id)
    aside = [each.run_id for each in await store.set_aside("", limit=100)]
    assert {holed, emptied} <= set(aside)
    await rebuild(settings, store, topics, ignore)
    assert await everything(store) == before


async def test_damage_is_told_and_mended(made: tuple[Tables, Damage]) -> None:
    """Rows that somebody changed, deleted or added are named, and are right afterwards."""
    store, damage = made
    settings, topics, before = await filled(store, 22, runs=20)
    first, second = sorted(before["rows"])[:2]
    await damage(CHANGE.format(run=first))
    await damage(DELETE.format(run=second))
    await damage(INVENT)
    await damage(STRAY)
    rebuilt = await rebuild(settings, store, topics, ignore)
    told = {(found.run, found.column) for found in rebuilt.differences}
    assert {(first, "payload"), (second, "history 1"), ("invented", "row"), ("stray", "history")} <= told
    compared = rebuilt.compared
    assert (compared.differing, compared.missing, compared.extra) == (2, 0, 2)
    assert await everything(store) == before


async def test_the_mark_of_a_refusal_hides_nothing(made: tuple[Tables, Damage]) -> None:
    """Columns are left out of the comparison where both sets have refused them, and nowhere else."""
    store, damage = made
    settings, topics, before = await filled(store, 22, runs=20)
    victim = min(before["rows"])
    await damage(CHANGE.format(run=victim))
    await damage(f"update runs set set_aside = '{REFUSES}: no' where run_id = '{victim}'")  # noqa: S608 - of this test
    rebuilt = await rebuild(settings, store, topics, ignore)
    assert {"payload", "set_aside"} <= {found.column for found in rebuilt.differences}
    assert rebuilt.compared.differing == 1
    assert await everything(store) == before


async def test_tables_behind_the_log_come_level(made: tuple[Tables, Damage]) -> None:
    """What the projector had not brought yet is in the new tables; waiting commands are shown again."""
    store, _ = made
    log = random_log(23, partitions=1, runs=20)
    settings, topics = topics_of(log)
    topics.put_command(0, command("waits"))
    topics.put_command(0, command(log.records[0][1].key.decode() if log.records[0][1].key else "x"))
    await feed(store, log, cuts=[log.records[0][:30]])
    rebuilt = await rebuild(settings, store, topics, ignore)
    assert rebuilt.differences == []
    assert await store.positions() == {("e", 0): len(log.records[0]), ("t", 0): 2}
    run = await store.run("waits")
    assert run is not None
    assert run.view["status"] == "PENDING"


async def test_no_position_goes_back(made: tuple[Tables, Damage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that the projector shows just before the exchange are in the new tables: who waits for one goes on seeing it."""
    store, _ = made
    log = random_log(29, partitions=1, runs=5)
    settings, topics = topics_of(log)
    await feed(store, log)
    exchange = store.swap

    async def swap(second: Tables, level: Level) -> None:
        topics.put_command(0, command("late"))
        await store.apply_pending(0, 0, 1, [pending("late", 0)])
        await exchange(second, level)

    monkeypatch.setattr(store, "swap", swap)
    await rebuild(settings, store, topics, ignore)
    assert (await store.positions())["t", 0] == 1
    run = await store.run("late")
    assert run is not None


async def test_tables_of_another_log_are_replaced(made: tuple[Tables, Damage]) -> None:
    """After the log was made anew under the old tables, rebuild is the way out: it says so and goes by the log."""
    store, _ = made
    await feed(store, random_log(24, partitions=1, runs=30))
    log = random_log(25, partitions=1, runs=3)
    settings, topics = topics_of(log)
    topics.cluster = "cluster-2"
    rebuilt = await rebuild(settings, store, topics, ignore)
    assert {found.column for found in rebuilt.differences} >= {"position", "cluster_id"}
    mark = await store.mark(0)
    assert mark is not None
    assert (mark.position, mark.cluster_id) == (len(log.records[0]), "cluster-2")


async def test_a_projector_goes_on_before_and_after(
    made: tuple[Tables, Damage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a projector brings new events the tables are exchanged under it; it notices, and nothing is missing."""
    monkeypatch.setattr(lane, "RETRY_S", 0.01)
    store, _ = made
    whole = random_log(26, runs=60)
    log = Log(2)
    settings, topics = topics_of(log)
    projector = Projector(settings, store, topics)
    group = FakeGroup(topics, projector)
    projector.connect(group)
    await group.join()

    async def grow() -> None:
        for n in range(max(map(len, whole.records))):
            for partition in range(2):
                log.records[partition] += whole.records[partition][n : n + 1]
            group.pump()
            await asyncio.sleep(0.001)

    async def again() -> None:
        for _ in range(3):
            await rebuild(settings, store, topics, ignore)

    await asyncio.gather(grow(), again())
    async with asyncio.timeout(20):
        while {s.position for s in projector.status().values()} != set(map(len, whole.records)):
            group.pump()
            await asyncio.sleep(0.005)
    await projector.close()
    found = await everything(store)
    assert (await rebuild(settings, store, topics, ignore)).differences == []
    assert await everything(store) == found


async def test_a_rebuild_that_breaks_off_changes_nothing(made: tuple[Tables, Damage]) -> None:
    """Kafka goes away in the middle, or the log has lost its beginning: the old tables serve on, the next try succeeds."""
    store, _ = made
    settings, topics, before = await filled(store, 27, runs=30)

    def break_off(_progress: Progress) -> None:
        topics.away = True

    with pytest.raises(BrokerAway):
        await rebuild(settings, store, topics, break_off)
    topics.away = False
    topics.begins[TP(settings.topics.events, 0)] = 3
    with pytest.raises(LogMismatch):
        await rebuild(settings, store, topics, ignore)
    assert await everything(store) == before
    topics.begins.clear()
    assert (await rebuild(settings, store, topics, ignore)).differences == []
    assert await everything(store) == before


async def test_readers_are_never_without_tables(made: tuple[Tables, Damage]) -> None:
    """Reads during the exchange answer from the old tables or the new ones."""
    store, _ = made
    log = random_log(28, partitions=1, runs=10)
    settings, topics = topics_of(log)
    await feed(store, log)
    run_id = next(iter((await everything(store))["rows"]))
    seen: list[bool] = []

    async def read() -> None:
        while True:
            seen.append(await store.run(run_id) is not None)
            await asyncio.sleep(0)

    reading = asyncio.ensure_future(read())
    await rebuild(settings, store, topics, ignore)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    assert set(seen) == {True}


async def test_processes_share_it(made: tuple[Tables, Damage]) -> None:
    """Two that work on one rebuild come to the same end, and the rows are those of the log."""
    store, _ = made
    log = random_log(29, runs=60)
    settings, topics = topics_of(log)
    for partition in range(2):
        await feed(store, log, partition=partition)
    before = await everything(store)
    began = await request(store, "ada")
    done = await asyncio.gather(*(work(settings, store, topics, ignore, began.id, at_once=1) for _ in range(2)))
    assert {outcome(over).id for over in done} == {began.id}
    compared = outcome(done[0]).compared
    assert (compared.equal, compared.differing, compared.missing, compared.extra) == (len(before["rows"]), 0, 0, 0)
    assert await everything(store) == before


async def test_a_rebuild_is_resumed_or_cancelled(made: tuple[Tables, Damage]) -> None:
    """One that broke off half-way is gone on with where its tables stand; a cancelled one is thrown away for all who work on it."""
    store, _ = made
    settings, topics, before = await filled(store, 30, runs=60)
    began = await request(store, "ada")

    prepared = asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.phase == "folding":
            prepared.set()

    task = asyncio.ensure_future(work(settings, store, topics, watch, began.id))
    await prepared.wait()
    task.cancel()
    await asyncio.wait({task})
    assert await everything(store) == before
    assert (await rebuild(settings, store, topics, ignore)).id == began.id
    assert await everything(store) == before
    again = await request(store, "ada")
    assert again.id != began.id
    assert await cancel(store) is not None
    assert await cancel(store) is None
    with pytest.raises(RebuildCancelled):
        outcome(await work(settings, store, topics, ignore, again.id))
    assert await everything(store) == before
