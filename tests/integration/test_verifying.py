"""Verify that never ends: what it finds, what it forgets, and when it holds back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from projections import verifying as module
from projections.filesystem import FilesystemStore
from projections.postgres import PostgresStore
from projections.rebuild import rebuild
from projections.tables import Audit, Tables
from projections.verifying import Verifying, drift
from projections.verifying_pass import Found, WaitingPass
from schemas.errors import StoreAway
from schemas.ports import TP, Record
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log, cut, random_log
from tests.integration.test_verify import (
    CHANGES,
    CHANGES_OF_WAITING,
    INVENT,
    WAITS,
    damage,
    differences,
    filled,
    waiting,
)

EMPTY = "update runs set payload = '{{}}' where run_id = '{run}'"
BACKDATE = "update history set at_ms = 1 where run_id = '{run}' and seq = 1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(tmp_path / "store")
    await store.migrate()
    yield store
    await store.close()


class World:
    """A log, its tables, and what goes over them. `lags` and `ours` are the test's to change."""

    def __init__(self, store: Tables, log: Log, topics: FakeTopics | None = None, *, share: float = 1.0) -> None:
        self.log, self.lags = log, False
        self.ours = set(range(log.partitions))
        self.settings = Settings(workflow_partitions=log.partitions, workflow_verify_share=share)
        self.topics = topics or FakeTopics(self.settings, log)
        self.verifying = Verifying(self.settings, store, self.topics, lambda: self.ours, lambda: self.lags)

    async def go_over(self) -> dict[str, str]:
        """One pass over all partitions: run → column that differs."""
        for partition in range(self.log.partitions):
            await self.verifying.go_over(partition)
        return self.differing()

    def differing(self) -> dict[str, str]:
        return {
            run: first.column for known in self.verifying.status().values() for run, first in known.differing.items()
        }


def a_run(log: Log) -> str:
    """The first one of partition 0."""
    return next(record.key.decode() for record in log.records[0] if record.key and record.key.startswith(b"r-"))


@pytest.mark.parametrize("seed", range(31, 37))
@pytest.mark.parametrize("part", [1.0, 0.6])
async def test_sound_tables_have_no_drift(store: FilesystemStore, seed: int, part: float) -> None:
    """Whatever orphans, takeovers and set-aside runs the log holds, wherever the tables stand in it; all of it is gone over."""
    world = World(store, await filled(store, seed, part=part))
    assert await world.go_over() == {}
    assert await world.go_over() == {}
    positions = await store.positions()
    assert {n: known.events for n, known in world.verifying.status().items()} == {
        n: 2 * positions["e", n] for n in range(world.log.partitions)
    }


async def test_sound_tables_in_postgres(postgres_dsn: str) -> None:
    """The same on PostgreSQL, and a row that was changed there."""
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    world = World(store, await filled(store, 36))
    assert await world.go_over() == {}
    await store._db.fetch("update runs set seq = 99 where run_id = $1", a_run(world.log))
    assert await world.go_over() == {a_run(world.log): "seq"}
    await store.close()


async def test_empty_tables_are_gone_over_at_once(store: FilesystemStore) -> None:
    """There is nothing to find, and the pass is over."""
    world = World(store, random_log(37))
    assert {known.passed_s for known in world.verifying.status().values()} == {None}
    assert await world.go_over() == {}
    assert all(known.passed_s is not None for known in world.verifying.status().values())


@pytest.mark.parametrize("slice_records", [1, 200])
@pytest.mark.parametrize(("sql", "column"), CHANGES)
async def test_every_change_is_found(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, sql: str, column: str, slice_records: int
) -> None:
    """The same runs as `workflow verify` finds; a row without a run in the log shows in their number."""
    monkeypatch.setattr(module, "SLICE_RECORDS", slice_records)
    log = await filled(store, 38)
    world, victim = World(store, log), a_run(log)
    damage(store, sql.format(run=f"'{victim}'"))
    found = await world.go_over()
    assert victim in found
    assert {victim} <= {each.run for each in await differences(store, log)}
    assert found.keys() <= {victim, "partition 0"}
    assert column in {each.column for each in await differences(store, log) if each.run == victim}


async def test_rows_that_the_log_does_not_have_are_counted(store: FilesystemStore) -> None:
    """Their number is the partition's difference."""
    world = World(store, await filled(store, 44))
    damage(store, INVENT)
    assert await world.go_over() == {"partition 0": "rows"}


async def test_a_wrong_epoch_is_found(store: FilesystemStore) -> None:
    """Where the tables stand still, their mark is compared as well."""
    world = World(store, await filled(store, 39))
    damage(store, "update positions set epoch = epoch + 1 where partition = 1 and topic = 'e'")
    assert await world.go_over() == {"partition 1": "epoch"}


@pytest.mark.parametrize("slice_records", [1, 200])
@pytest.mark.parametrize(("sql", "column"), CHANGES_OF_WAITING)
async def test_every_change_of_a_command_that_waits_is_found(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, sql: str, column: str, slice_records: int
) -> None:
    """As `workflow verify` finds it; what the topic has forgotten is not asked for."""
    monkeypatch.setattr(module, "SLICE_RECORDS", slice_records)
    log, topics = await waiting(store)
    world = World(store, log, topics)
    assert await world.go_over() == {}
    async with store.audit() as audit:
        victim = max(await audit.pending(1), key=lambda row: row.offset)
    damage(store, sql.format(run=victim.run_id))
    assert await world.go_over() == {victim.run_id: column}
    topics.begins[TP(topics.settings.topics.trigger, 1)] = victim.offset + 2
    topics.commands[1] = [each for each in topics.commands[1] if each.offset >= victim.offset + 2]
    assert await world.go_over() == {}


async def test_what_is_shown_as_waiting_and_does_not_wait_is_drift(store: FilesystemStore) -> None:
    """A run that has begun, and a command that nobody has sent."""
    log, topics = await waiting(store)
    for run_id, offset in ((a_run(log), 2), ("invented", 1)):
        damage(store, WAITS.format(run=run_id, offset=offset))
    assert await World(store, log, topics).go_over() == dict.fromkeys((a_run(log), "invented"), "waiting command")


async def test_commands_that_become_runs_meanwhile_are_no_drift(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor those that come meanwhile, nor all of them when somebody restores older tables; a topic that forgets what is being
    read is left to the next pass."""
    monkeypatch.setattr(module, "SLICE_RECORDS", 1)
    log, topics = await waiting(store)
    world, take = World(store, log, topics), WaitingPass.take
    async with store.audit() as audit:
        goes, stays, _ = sorted(await audit.pending(0), key=lambda row: row.offset)
    changes = [
        "delete from pending where run_id = '{goes}'",
        "update runs set run_id = '{goes}' where run_id = '{run}'",
        WAITS.format(run="fresh", offset=10_000).replace("{}", "{{}}"),
        "update positions set position = 10001 where topic = 't' and partition = 0",
    ]

    async def begins(self: WaitingPass, records: Sequence[Record], audit: Audit) -> Found:
        found = await take(self, records, audit)
        if records[0].offset == stays.offset:
            while changes:
                await asyncio.to_thread(damage, store, changes.pop(0).format(goes=goes.run_id, run=a_run(log)))
        return found

    monkeypatch.setattr(WaitingPass, "take", begins)
    found = await world.go_over()
    assert not found.keys() & {goes.run_id, stays.run_id, "fresh"}
    monkeypatch.setattr(WaitingPass, "take", take)
    assert (await world.go_over())["fresh"] == "waiting command"

    async def sets_back(self: WaitingPass, records: Sequence[Record], audit: Audit) -> Found:
        await asyncio.to_thread(damage, store, "update positions set position = 1 where topic = 't'")
        return await take(self, records, audit)

    passed = world.verifying.status()[1].passed_s
    monkeypatch.setattr(WaitingPass, "take", sets_back)
    await world.verifying.go_over(1)
    assert world.verifying.status()[1].passed_s == passed


async def test_what_is_mended_is_no_drift(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as a pass has seen it; what a pass did not find again is forgotten at its end."""
    log = await filled(store, 40)
    world = World(store, log)
    damage(store, EMPTY.format(run=a_run(log)))
    damage(store, "update positions set epoch = epoch + 1 where partition = 1 and topic = 'e'")
    damage(store, INVENT)
    assert set(await world.go_over()) == {a_run(log), "partition 0", "partition 1"}
    said = drift(world.verifying.status())
    assert said is not None
    assert said.startswith("3 differ from the log")
    await rebuild(world.settings, store, world.topics, lambda _: None)
    seen, audit = list[set[str]](), store.audit

    @asynccontextmanager
    async def seeing() -> AsyncIterator[Audit]:
        seen.append(set(world.differing()))
        async with audit() as one:
            yield one

    monkeypatch.setattr(store, "audit", seeing)
    assert await world.go_over() == {}
    assert seen[0] == {a_run(log), "partition 0", "partition 1"}
    assert {"partition 0", "partition 1"} in seen
    assert drift(world.verifying.status()) is None


async def test_each_difference_is_said_once(store: FilesystemStore, caplog: pytest.LogCaptureFixture) -> None:
    """As an error with run and column, however often it is met; past a bound one line says that there are more."""
    log = await filled(store, 41)
    world = World(store, log)
    damage(store, EMPTY.format(run=a_run(log)))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await world.go_over()
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{a_run(log)} payload: the tables say" in line
    damage(store, "update runs set payload = '{}'")
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        await world.go_over()
    assert len(caplog.records) <= 2 * (module.SAID_MAX + 1)
    assert "workflow verify" in caplog.records[-1].getMessage() or len(caplog.records) < module.SAID_MAX


async def test_runs_that_go_on_meanwhile_are_no_drift(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass ends where the tables stood when it began. Of a run that went on since, the events up to there are compared."""
    monkeypatch.setattr(module, "SLICE_RECORDS", 5)
    log = random_log(42, partitions=1, runs=40)
    cuts = cut(log.records[0], log.rng)
    await feed(store, log, cuts=cuts[: len(cuts) // 2])
    world = World(store, log)
    first = next(row for row in (await everything(store))["rows"].values() if not row.chain.done)
    damage(store, BACKDATE.format(run=first.chain.run_id))
    looks, audit = 0, store.audit

    @asynccontextmanager
    async def with_more() -> AsyncIterator[Audit]:
        nonlocal looks
        looks += 1
        if looks == 3:
            await feed(store, log, cuts=cuts[len(cuts) // 2 :])
        async with audit() as one:
            yield one

    monkeypatch.setattr(store, "audit", with_more)
    assert await world.go_over() == {first.chain.run_id: "history 1"}
    assert looks > 3
    known = world.verifying.status()[0]
    assert known.events < len(log.records[0])


async def test_a_log_that_is_not_ours_is_one_difference(store: FilesystemStore) -> None:
    """One for the partition, with what to do."""
    world = World(store, await filled(store, 40))
    del world.log.records[1][-3:]
    assert await world.go_over() == {"partition 1": "log"}
    world.topics.begins[TP(world.settings.topics.events, 0)] = 4
    assert await world.go_over() == {"partition 0": "log", "partition 1": "log"}


async def test_a_hole_in_the_log_is_a_difference(store: FilesystemStore) -> None:
    """It is the log's, and the pass ends there."""
    world = World(store, await filled(store, 41))
    del world.log.records[0][10]
    assert await world.go_over() == {"partition 0": "log"}


async def test_tables_that_were_set_back_are_no_drift(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody restores older tables in the middle of a pass: it is broken off, and the next one begins with what they say."""
    monkeypatch.setattr(module, "SLICE_RECORDS", 5)
    log = random_log(42, partitions=1, runs=40)
    await feed(store, log)
    world, looks, audit = World(store, log), 0, store.audit

    @asynccontextmanager
    async def set_back() -> AsyncIterator[Audit]:
        nonlocal looks
        looks += 1
        if looks == 3:
            damage(store, "delete from runs")
            damage(store, "delete from history")
            damage(store, "delete from positions")
            await feed(store, log, cuts=[log.records[0][:3]])
        async with audit() as one:
            yield one

    monkeypatch.setattr(store, "audit", set_back)
    assert await world.go_over() == {}
    assert world.verifying.status()[0].passed_s is None
    assert await world.go_over() == {}
    assert world.verifying.status()[0].passed_s is not None


async def test_an_outage_holds_a_pass_up_and_no_more(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on where it stood: nothing is compared twice, nothing left out."""
    monkeypatch.setattr(module, "SLICE_RECORDS", 7)
    monkeypatch.setattr(module, "AWAY_S", 0.01)
    log = await filled(store, 43)
    world, looks, audit = World(store, log), 0, store.audit

    @asynccontextmanager
    async def sometimes() -> AsyncIterator[Audit]:
        nonlocal looks
        looks += 1
        if looks % 3 == 0:
            raise StoreAway(reason="the test says so")
        async with audit() as one:
            yield one
        if looks % 5 == 0:
            raise StoreAway(reason="the test says so, too late")

    monkeypatch.setattr(store, "audit", sometimes)
    damage(store, EMPTY.format(run=a_run(log)))
    assert set(await world.go_over()) <= {a_run(log)}
    assert world.verifying.status()[0].passed_s is not None
    monkeypatch.undo()
    assert await world.go_over() == {a_run(log): "payload"}


async def test_it_holds_back_while_the_projection_lags(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the log or of the tables then."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    world = World(store, await filled(store, 44))
    world.lags = True
    task = asyncio.create_task(world.go_over())
    await asyncio.sleep(0.1)
    assert world.topics.reads == 0
    world.lags = False
    assert await task == {}
    assert world.topics.reads > 0


async def test_a_partition_that_went_elsewhere_is_left_alone(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and what was known of it is told no more."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    world = World(store, await filled(store, 45))
    await world.go_over()
    world.lags = True
    task = asyncio.create_task(world.verifying.go_over(0))
    await asyncio.sleep(0.05)
    world.ours = {1}
    await asyncio.wait_for(task, 5)
    assert set(world.verifying.status()) == {1}


async def test_it_takes_its_share_of_the_time_alone(store: FilesystemStore) -> None:
    """After work of some length it rests for as much longer as its share says; a share of 0 is no work at all."""
    world = World(store, random_log(46), share=0.25)

    async def work() -> None:
        await asyncio.sleep(0.05)

    began = time.monotonic()
    await world.verifying._paced(0, work)
    assert time.monotonic() - began >= 0.2
    off = World(store, random_log(46), share=0.0)
    assert off.verifying.status() == {}
    await asyncio.wait_for(off.verifying.run(), 1)
