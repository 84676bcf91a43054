"""The table of events divided by time, as docs/scale.md does it: everything goes on, and a rebuild divides its tables alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from projections.postgres import PostgresStore
from projections.rebuild import rebuild
from projections.verify import verify
from schemas.errors import HistoryDamaged
from schemas.settings import Settings
from schemas.store import RunFilter
from tests.fake_log import FakeTopics
from tests.feeding import everything, feed
from tests.histories import BASE_S, random_log
from tests.integration.test_rebuild import ignore

SCALE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
START_MS = round(BASE_S * 1000)
CUT_MS, NEXT_MS = START_MS + 400, START_MS + 600
"""In the midst of a log whose records come 7 ms apart."""
PARTS = """
select relname, pg_get_expr(relpartbound, oid) from pg_class
where relispartition and relkind = 'r' and relnamespace = to_regnamespace('workflow') order by relname
"""
EVERYTHING = RunFilter()


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
async def hand(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who looks after the database."""
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "workflow"})
    yield connection
    await connection.close()


async def divide(hand: asyncpg.Connection) -> None:
    """What the page says, with a cut in the midst of the log."""
    (section,) = re.findall(r"## History by time\n.*?```sql\n(.*?)```", SCALE, re.DOTALL)
    bounds = {"1796083200000": CUT_MS, "1798761600000": NEXT_MS}
    for text, bound in bounds.items():
        assert text in section
        section = section.replace(text, str(bound))
    for statement in section.split(";"):
        await hand.execute(statement)


async def differences(settings: Settings, store: PostgresStore, topics: FakeTopics) -> list[str]:
    return [str(found) async for found in verify(settings, store, topics, ignore)]


async def test_everything_goes_on_and_a_rebuild_divides_alike(store: PostgresStore, hand: asyncpg.Connection) -> None:
    """Old and new events find their part, the tables are what the log says, and the second set has the same parts."""
    log = random_log(31, partitions=1, runs=40)
    early = [record for record in log.records[0] if record.timestamp < CUT_MS]
    settings = Settings(workflow_partitions=1, workflow_projector_batch_max=40)
    await feed(store, log, cuts=[early])
    await divide(hand)
    await feed(store, log)
    topics = FakeTopics(settings, log)
    assert await differences(settings, store, topics) == []
    before, parts = await everything(store), await hand.fetch(PARTS)
    assert len(parts) == 3
    assert all([await hand.fetchval(f'select count(*) from "{name}"') > 0 for name, _ in parts])  # noqa: S608
    rebuilt = await rebuild(settings, store, topics, ignore)
    assert (rebuilt.differences, await hand.fetch(PARTS)) == ([], parts)
    assert await everything(store) == before
    key = (
        "select pg_get_constraintdef(oid) from pg_constraint where contype = 'p' and conrelid = to_regclass('history')"
    )
    assert await hand.fetchval(key) == "PRIMARY KEY (run_id, seq, at_ms)"
    assert await differences(settings, store, topics) == []


async def test_a_part_that_was_taken_away(store: PostgresStore, hand: asyncpg.Connection) -> None:
    """Nobody is shown another past than the log's: it is damage, and a rebuild mends it."""
    log = random_log(32, partitions=1, runs=40)
    settings, topics = Settings(workflow_partitions=1), FakeTopics(Settings(workflow_partitions=1), log)
    await feed(store, log, cuts=[[record for record in log.records[0] if record.timestamp < CUT_MS]])
    await divide(hand)
    await feed(store, log)
    before = await everything(store)
    await hand.execute("alter table history detach partition history_until_2026_11")
    with pytest.raises(HistoryDamaged):
        await store.runs_then(EVERYTHING, CUT_MS - 10, after=None, limit=100)
    assert await differences(settings, store, topics) != []
    assert (await rebuild(settings, store, topics, ignore)).differences != []
    assert await everything(store) == before
    assert await differences(settings, store, topics) == []
