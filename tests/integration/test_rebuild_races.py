"""Rebuilds whose processes are frozen, are overtaken, or are cancelled at the worst moment: the tables that serve stay whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from projections import board
from projections import rebuild as rebuilding
from projections.board import Rebuild
from projections.database import READ_TIMEOUT_S
from projections.feed import fold_records
from projections.filesystem import FilesystemStore
from projections.fold import PartitionFold
from projections.postgres import PostgresStore
from projections.progress import Progress
from projections.rebuild import LOST_MAX, cancel, rebuild, request, work
from projections.sql import queries
from projections.tables import Level, Tables
from schemas.errors import StalePosition, StoreAway, WorkflowError
from schemas.ports import TP
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import Log, random_log

SETS = queries("postgres_sets")
END_IDLE_TRANSACTIONS = """
select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and state = 'idle in transaction'
"""
Pair = tuple[Tables, Tables]


@pytest.fixture(params=["filesystem", "postgres"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, postgres_dsn: str) -> AsyncIterator[Pair]:
    """The stores of two processes on the same tables."""
    stores: list[Tables] = [
        FilesystemStore(tmp_path / "store") if request.param == "filesystem" else PostgresStore(postgres_dsn)
        for _ in range(2)
    ]
    await stores[0].migrate()
    yield stores[0], stores[1]
    for store in stores:
        await store.close()


def ignore(_progress: Progress) -> None:
    """Nobody watches."""


async def filled(store: Tables, seed: int = 21, runs: int = 10) -> tuple[Settings, FakeTopics, dict[str, Any]]:
    log = random_log(seed, runs=runs)
    settings = Settings(workflow_partitions=log.partitions, workflow_projector_batch_max=40)
    for partition in range(log.partitions):
        await feed(store, log, partition=partition)
    return settings, FakeTopics(settings, log), await everything(store)


async def lapse(store: Tables) -> None:
    """Whoever does the phase was frozen for longer than a lease."""

    def write(old: Rebuild | None, now_s: float) -> tuple[Rebuild | None, None]:
        assert old is not None
        assert old.one is not None
        return replace(old, one=replace(old.one, until_s=now_s - 1)), None

    await store.board().change(write)


async def test_cancelled_in_the_middle_of_the_exchange(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rebuild ends as cancelled, or was faster; the tables that serve are whole either way."""
    store, other = pair
    settings, topics, before = await filled(store)
    exchange = store.swap

    async def swap(second: Tables, level: Level) -> None:
        async def then_cancel(positions: Mapping[int, int]) -> None:
            await level(positions)
            if isinstance(other, FilesystemStore):  # PostgreSQL's lock would have it wait for the exchange
                assert await cancel(other) is not None

        await exchange(second, then_cancel)

    monkeypatch.setattr(store, "swap", swap)
    with contextlib.suppress(WorkflowError):
        await work(settings, store, topics, ignore, (await request(store, "me")).id)
    assert await everything(other) == before


async def test_a_process_that_slept_through_the_exchange(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wakes up when another one has exchanged the tables: it changes nothing more, and the old set is the old one."""
    store, other = pair
    settings, topics, before = await filled(store)
    exchange, begun = store.swap, await request(store, "me")

    async def swap(second: Tables, level: Level) -> None:
        await lapse(other)
        assert (await work(settings, other, topics, ignore, begun.id)).phase == "done"
        await exchange(second, level)

    monkeypatch.setattr(store, "swap", swap)
    assert (await work(settings, store, topics, ignore, begun.id)).phase == "done"
    assert await everything(other) == before
    assert await other.drop_old()
    assert await everything(other) == before


async def test_a_process_that_slept_while_it_prepared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own empty set is another one than that which the others have filled."""
    store, other = pair
    settings, topics, before = await filled(store)
    begun, frozen, woken = await request(store, "me"), asyncio.Event(), asyncio.Event()
    prepare, look = store.second, other.compare

    async def second(name: str | None = None, *, spare: str = "") -> Tables:
        frozen.set()
        await woken.wait()
        return await prepare(name, spare=spare)

    async def compare(second: Tables, level: Level) -> Any:
        woken.set()
        await asyncio.sleep(0.5)
        return await look(second, level)

    monkeypatch.setattr(rebuilding, "RENEW_S", 1e9)
    monkeypatch.setattr(store, "second", second)
    monkeypatch.setattr(other, "compare", compare)
    sleeper = asyncio.ensure_future(work(settings, store, topics, ignore, begun.id))
    await frozen.wait()
    await lapse(other)
    done = await work(settings, other, topics, ignore, begun.id)
    assert done.report is not None
    assert (done.phase, done.report.equal, done.report.missing) == ("done", len(before["rows"]), 0)
    assert (await sleeper).phase == "done"
    assert await everything(other) == before


async def test_what_a_projector_remembers_does_not_outlive_the_exchange(pair: Pair) -> None:
    """It loads the new tables, also where they stand at the very same position."""
    store, _ = pair
    log = Log(1, 5)
    epoch = log.take(0)
    story = log.story(0)
    values = story.whole(epoch)
    for value in values[:2]:
        log.append(0, value)
    settings = Settings(workflow_partitions=1)
    memory = await feed(store, log)
    await rebuild(settings, store, FakeTopics(settings, log), ignore)
    rest = [log.append(0, value) for value in values[2:4]]
    with pytest.raises(StalePosition):
        await store.apply(await fold_batch(memory, store, rest))
    await feed(store, log)
    assert (await store.positions())["e", 0] == len(log.records[0])


async def test_commands_that_were_deleted_count(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic of commands keeps a week: the new tables stand where the old ones did all the same."""
    store, _ = pair
    log = random_log(29, partitions=1, runs=5)
    settings = Settings(workflow_partitions=1)
    topics = FakeTopics(settings, log)
    await feed(store, log)
    await store.apply_pending(0, 0, 7, [])
    trigger, ends = TP(settings.topics.trigger, 0), topics.end_offsets
    topics.begins[trigger] = 7

    async def end_offsets(tps: Iterable[TP]) -> dict[TP, int]:
        return {tp: 7 if tp == trigger else end for tp, end in (await ends(tps)).items()}

    monkeypatch.setattr(topics, "end_offsets", end_offsets)
    await rebuild(settings, store, topics, ignore)
    assert (await store.positions())["t", 0] == 7


async def test_a_log_that_was_made_anew(pair: Pair) -> None:
    """Tables of a log that is empty now, with commands that still wait: the new ones begin at 0, and take the new log."""
    store, _ = pair
    settings, topics, _ = await filled(store)
    topics.log = Log(topics.log.partitions)
    for partition in range(topics.log.partitions):
        topics.put_command(partition, b"no command")
    told = await rebuild(settings, store, topics, ignore)
    assert [(each.run, each.column, each.folded) for each in told.differences] == [
        (f"partition {partition}", "position", "0") for partition in range(topics.log.partitions)
    ]
    again = random_log(23, runs=10)
    for partition in range(again.partitions):
        assert await store.mark(partition) is None
        await feed(store, again, partition=partition)
        assert (await store.positions())["e", partition] == len(again.records[partition])


class Losing:
    """Topics whose reader loses the transaction that is open, at most so many times, while it reads on from `beyond`."""

    def __init__(self, topics: FakeTopics, raw: asyncpg.Connection[asyncpg.Record], times: int, beyond: int) -> None:
        self.topics, self.raw, self.left, self.beyond = topics, raw, times, beyond
        self.lost = 0
        self.begins: list[int] = []

    async def read(self, tp: TP, begin: int, end: int) -> AsyncIterator[Any]:
        if tp.topic == self.topics.settings.topics.events:
            self.begins.append(begin)
        async for records in FakeTopics.read(self.topics, tp, begin, end):
            if records[0].offset >= begin + self.beyond and self.left > 0:
                ended = await self.raw.fetchval(END_IDLE_TRANSACTIONS)
                self.lost += ended
                self.left -= ended
            yield records


@pytest.fixture
async def raw(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def store(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    """Whose rebuilds write two batches in one transaction, and where nobody sees a lease lapse."""
    monkeypatch.setattr(PostgresStore, "batches_together", 2)
    monkeypatch.setattr(board, "LEASE_S", 3_600.0)
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    yield store
    await store.close()


async def test_the_server_ends_the_transaction_of_a_process_that_folds(
    store: PostgresStore, raw: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does with one that was frozen: it goes on at once from its last commit, and the end is the same."""
    settings, topics, before = await filled(store, 24, runs=200)
    begun = await request(store, "me")
    losing = Losing(topics, raw, 2 * LOST_MAX, 3 * settings.workflow_projector_batch_max)
    monkeypatch.setattr(topics, "read", losing.read)
    done = await work(settings, store, topics, ignore, begun.id, at_once=1)
    assert losing.lost > LOST_MAX, "each loss but the first has a commit before it"
    assert [begin > 0 for begin in losing.begins].count(True) >= losing.lost
    assert done.report is not None
    assert (done.phase, done.report.equal, done.report.missing) == ("done", len(before["rows"]), 0)
    assert await everything(store) == before


async def test_a_transaction_that_is_lost_each_time_is_an_error(
    store: PostgresStore,
    raw: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It comes out after some tries, each of them told; the next start goes on, from where the tables stand."""
    settings, topics, before = await filled(store, 25, runs=200)
    begun = await request(store, "me")
    losing = Losing(topics, raw, 100, settings.workflow_projector_batch_max)
    with monkeypatch.context() as patched:
        patched.setattr(topics, "read", losing.read)
        with pytest.raises(StoreAway):
            await work(settings, store, topics, ignore, begun.id, at_once=1)
    assert losing.lost > LOST_MAX  # a look at the board may be among them
    assert caplog.text.count("a transaction was lost and is done again") == LOST_MAX
    now = await store.board().read()
    assert now is not None
    assert (now.phase, now.done, now.is_worked_on(0)) == ("folding", 0, False)
    assert (await work(settings, store, topics, ignore, begun.id)).phase == "done"
    assert await everything(store) == before


async def test_a_cancel_does_not_hold_up_the_process_that_folds(store: PostgresStore) -> None:
    """Dropping the tables waits for the end of its transaction, so nothing in that transaction may wait for the drop."""
    log = random_log(26, partitions=1, runs=20)
    second = await store.second("other")
    await second.migrate()
    async with second.writing() as writing:
        fold = PartitionFold(0, 1, CLUSTER)
        await writing.apply(await fold_records(fold, writing, log.records[0][:20]))
        dropping = asyncio.ensure_future(store.discard("other"))
        await asyncio.sleep(0.5)
        assert not dropping.done()
        await asyncio.wait_for(writing.tips(0, ["r"]), READ_TIMEOUT_S / 2)
    await dropping
    assert not await store.has("other")
    await second.close()


@pytest.mark.parametrize("held", ["compare", "swap"])
async def test_a_frozen_process_does_not_hold_the_tables(
    postgres_dsn: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends the transaction of one that says nothing for longer than the bound: projectors write again, and what
    the process wakes up to is an error."""
    bound = "idle_in_transaction_session_timeout = '60s'"
    assert bound in SETS["wait_in_transaction"]
    monkeypatch.setitem(SETS, "wait_in_transaction", SETS["wait_in_transaction"].replace("60s", "1s"))
    ours, other = PostgresStore(postgres_dsn), PostgresStore(postgres_dsn)
    log, locked, woken = random_log(22, runs=10), asyncio.Event(), asyncio.Event()
    try:
        await ours.migrate()
        await feed(ours, log, cuts=[log.records[0][:20]])
        second = await ours.second("other")
        await second.migrate()

        async def level(_positions: Mapping[int, int]) -> None:
            locked.set()
            await woken.wait()

        frozen = asyncio.ensure_future(getattr(ours, held)(second, level))
        await asyncio.wait_for(locked.wait(), 10)
        writing = asyncio.ensure_future(feed(other, log))
        await asyncio.sleep(0.3)
        assert not writing.done()
        await asyncio.wait_for(writing, 10)
        woken.set()
        with pytest.raises(StoreAway):
            await frozen
        assert (await other.positions())["e", 0] == len(log.records[0])
        await other.discard("other")
        await second.close()
    finally:
        for store in (ours, other):
            await store.close()
