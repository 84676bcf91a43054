"""Random histories, cut into batches at random places, redelivered, loaded anew: every store ends as the one in memory."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.filesystem import FilesystemStore
from projections.fold import PartitionFold
from projections.memory import MemoryStore
from projections.pending import pending_row
from projections.postgres import PostgresStore
from projections.tables import Tables
from schemas.errors import StalePosition
from schemas.ports import TP
from schemas.store import Batch
from tests import servers
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import Log, LogRecord, command, cut, random_log

schemas_made = count()
seeds = st.integers(min_value=0, max_value=2**32)


@pytest.fixture(scope="module")
def dsn(postgres: servers.Address) -> Iterator[str]:
    """A database for all examples; each takes a schema of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield asyncio.run(servers.create_database(postgres.address, name))
    asyncio.run(servers.drop_database(postgres.address, name))


def commands_of(log: Log, partition: int, rng: Random) -> list[LogRecord]:
    """Starts of some of the partition's runs, and of some that never become runs."""
    run_ids = [record.key.decode() for record in log.records[partition] if record.key and record.key.startswith(b"r-")]
    chosen = [*dict.fromkeys(rng.sample(run_ids, k=min(5, len(run_ids)))), f"w-{rng.random()}", f"w-{rng.random()}"]
    return [LogRecord(n, 0, None, command(run_id)) for n, run_id in enumerate(chosen)]


async def play(store: Tables, log: Log, seed: int) -> None:
    """Events and commands in turns, in batches of random sizes; some again; now and then by a process that starts anew."""
    rng = Random(seed)
    for partition in range(log.partitions):
        starts = commands_of(log, partition, Random(seed))
        fold: PartitionFold | None = None
        last: Batch | None = None
        taken = 0
        for records in cut(log.records[partition], rng):
            if fold is None or rng.random() < 0.2:
                snapshot = await store.snapshot(partition)
                clocks = await store.clocks(partition)
                fold = PartitionFold(partition, log.partitions, CLUSTER, snapshot.mark, snapshot.runs, clocks)
            if last is not None and rng.random() < 0.2:
                with pytest.raises(StalePosition):
                    await store.apply(last)
            last = await fold_batch(fold, store, records)
            await store.apply(last)
            if taken < len(starts) and rng.random() < 0.5:
                taken = await show(store, log, partition, starts, taken)
        await show(store, log, partition, starts, taken, everything_left=True)


async def show(
    store: Tables, log: Log, partition: int, starts: list[LogRecord], start: int, *, everything_left: bool = False
) -> int:
    """Show the next command, or all that are left; how many were shown."""
    end = len(starts) if everything_left else start + 1
    rows = [pending_row(each, TP("commands", partition), log.partitions, 32) for each in starts[start:end]]
    await store.apply_pending(partition, start, end, [row for row in rows if row is not None])
    return end


async def same_as_memory(store: Tables, seed: int) -> None:
    log, reference = random_log(seed), MemoryStore()
    for partition in range(log.partitions):
        await feed(reference, log, partition=partition)
        starts = commands_of(log, partition, Random(seed))
        await show(reference, log, partition, starts, 0, everything_left=True)
    await store.migrate()
    await play(store, log, seed)
    assert await everything(store) == await everything(reference)
    await store.close()


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_memory(seed: int) -> None:
    """The store in memory itself does not care how the log is cut."""
    asyncio.run(same_as_memory(MemoryStore(), seed))


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_filesystem(seed: int) -> None:
    """The store in a folder equals the one in memory."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(same_as_memory(FilesystemStore(Path(folder) / "store"), seed))


@given(seeds)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres(dsn: str, seed: int) -> None:
    """The store in PostgreSQL equals the one in memory."""
    asyncio.run(same_as_memory(PostgresStore(dsn, schema=f"example_{next(schemas_made)}"), seed))
