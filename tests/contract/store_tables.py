"""What rebuild and verify need, and two processes on the same tables."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from projections.fold import PartitionFold
from projections.tables import Tables
from schemas.errors import BrokerAway, StalePosition, StoreAway
from schemas.store import RunFilter
from tests.contract.cases import ids_of
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import random_log


class TablesContract:
    """What rebuild and verify need."""

    async def test_an_audit_is_one_moment(self, store: Tables) -> None:
        """Rows written after an audit began are not in it."""
        log = random_log(5, partitions=1)
        half = len(log.records[0]) // 2
        await feed(store, log, cuts=[log.records[0][:half]])
        ids = await ids_of(store, RunFilter())
        async with store.audit() as audit:
            before = await audit.runs(ids), await audit.history(ids), await audit.marks()
            await feed(store, log)
            assert (await audit.runs(ids), await audit.history(ids), await audit.marks()) == before
        async with store.audit() as audit:
            assert await audit.runs(ids) != before[0]

    async def test_runs_are_counted_below_an_offset(self, store: Tables) -> None:
        """Of one partition, by the offset of their first event."""
        log = random_log(8, partitions=2)
        for partition in range(2):
            await feed(store, log, partition=partition)
        rows = (await everything(store))["rows"].values()
        firsts = sorted(row.chain.first_offset for row in rows if row.chain.partition == 1)
        assert len(firsts) > 3
        async with store.audit() as audit:
            for below in (0, firsts[0], firsts[0] + 1, firsts[2], firsts[-1] + 1):
                assert await audit.rows_below(1, below) == sum(first < below for first in firsts)

    async def test_a_second_set_takes_the_place_of_the_first(self, store: Tables) -> None:
        """It fills beside the first, then serves; who wrote to the first meets the fence."""
        log = random_log(6, partitions=1)
        records = log.records[0]
        fold = await feed(store, log, cuts=[records[:30]])
        slow = await fold_batch(fold, store, records[30:60])
        second = await store.second()
        await second.migrate()
        await feed(second, log)
        expected = await everything(second)
        assert (await store.positions())["e", 0] == 30
        told: list[Mapping[int, int]] = []

        async def level(positions: Mapping[int, int]) -> None:
            told.append(positions)

        await store.swap(second, level)
        await second.close()
        assert told == [{0: 30}]
        assert await everything(store) == expected
        with pytest.raises(StalePosition):
            await store.apply(slow)
        third = await store.second()
        await third.migrate()
        assert await third.positions() == {}
        await third.close()
        assert await everything(store) == expected


class SharedContract:
    """Two processes on the same tables, each with a store of its own."""

    async def test_two_projectors_one_position(self, store: Tables, other: Tables) -> None:
        """Of two projectors with the same batch one writes, the other meets the fence, and both read the same."""
        log = random_log(7, partitions=1)
        first, second = PartitionFold(0, 1, CLUSTER), PartitionFold(0, 1, CLUSTER)
        await store.apply(await fold_batch(first, store, log.records[0][:50]))
        late = await fold_batch(second, other, log.records[0][:40])
        with pytest.raises(StalePosition):
            await other.apply(late)
        await feed(other, log)
        assert await everything(other) == await everything(store)

    async def test_writers_wait_while_the_second_set_comes_level(self, store: Tables, other: Tables) -> None:
        """A batch that comes in that moment meets the fence of the new tables, which are no older than the old ones were: what its
        projector remembers is of the old ones."""
        log = random_log(8, partitions=1)
        records = log.records[0]
        fold = await feed(other, log, cuts=[records[:40]])
        late = await fold_batch(fold, other, records[40:60])
        second = await store.second()
        await second.migrate()
        await feed(second, log, cuts=[records[:20]])
        writing: list[asyncio.Future[None]] = []

        async def level(positions: Mapping[int, int]) -> None:
            assert positions == {0: 40}
            writing.append(asyncio.ensure_future(other.apply(late)))
            await feed(second, log, cuts=[records[:40]])
            await asyncio.sleep(0.2)
            assert not writing[0].done()

        await store.swap(second, level)
        await second.close()
        with pytest.raises((StalePosition, StoreAway)):  # StoreAway: SQLite's file is another one now
            await writing[0]
        assert (await other.positions())["e", 0] == 40
        await feed(other, log)
        assert await everything(other) == await everything(store)
        assert (await store.mark(0)) == (await other.mark(0))

    async def test_a_swap_that_breaks_off_lets_writers_go_on(self, store: Tables, other: Tables) -> None:
        """The old tables serve on, as if nobody had tried."""
        log = random_log(9, partitions=1)
        await feed(other, log, cuts=[log.records[0][:20]])
        second = await store.second()
        await second.migrate()

        async def level(_positions: Mapping[int, int]) -> None:
            raise BrokerAway(address="nowhere", reason="the test says so")

        with pytest.raises(BrokerAway):
            await store.swap(second, level)
        await second.close()
        assert (await store.positions())["e", 0] == 20
        await feed(other, log)
        assert (await store.positions())["e", 0] == len(log.records[0])
