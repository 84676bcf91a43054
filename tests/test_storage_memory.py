"""The store in memory keeps the contract of every store."""

from __future__ import annotations

import pytest

from projections.memory import MemoryStore
from tests.contract.store_past import PastContract
from tests.contract.store_reads import ReadContract
from tests.contract.store_tables import TablesContract
from tests.contract.store_writes import WriteContract


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.migrate()
    return store


class TestMemoryWrites(WriteContract):
    pass


class TestMemoryReads(ReadContract):
    pass


class TestMemoryPast(PastContract):
    pass


class TestMemoryTables(TablesContract):
    pass


def test_it_does_not_remember_for_others(store: MemoryStore) -> None:
    """An engine must fold from the start of the log: this store is gone with its process."""
    assert not store.remembers
