"""What rebuild and verify need, and two processes on the same tables."""

from __future__ import annotations

import pytest

from projections.fold import PartitionFold
from projections.tables import Tables
from schemas.errors import StalePosition
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
        await store.swap(second)
        await second.close()
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

    async def test_the_other_process_follows_a_swap(self, store: Tables, other: Tables) -> None:
        """A process that did not rebuild reads and writes the new tables without being told."""
        log = random_log(8, partitions=1)
        await feed(other, log, cuts=[log.records[0][:20]])
        second = await store.second()
        await second.migrate()
        await feed(second, log, cuts=[log.records[0][:50]])
        await store.swap(second)
        await second.close()
        assert (await other.positions())["e", 0] == 50
        await feed(other, log)
        assert await everything(other) == await everything(store)
