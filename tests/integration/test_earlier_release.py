"""Tables of this release under the API and the workers of an earlier one: its queries stand beside this file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from projections.lists import BIGINT_MAX
from projections.postgres import PostgresStore
from projections.rows import LISTED
from schemas.store import RunFilter
from tests.contract.cases import ids_of, pending
from tests.feeding import feed
from tests.histories import random_log

GOLDEN = sorted(Path(__file__).parent.glob("reads-*.sql"))
LISTED_BEFORE = (
    "run_id partition place next_offset seq set_aside "
    "workflow_id version status payload results error steps created_at created_us started_at finished_at"
).split()
"""What an API of version 3 unpacks from a row of `listed`, in this order and with nothing after it."""
EVERYTHING = (-BIGINT_MAX, BIGINT_MAX, BIGINT_MAX, "\U0010ffff", 1000)


@pytest.fixture
async def filled(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """Tables of this release with runs of all kinds and a waiting command."""
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    log = random_log(31, partitions=1, runs=30)
    await feed(store, log)
    await store.apply_pending(0, 0, 1, [pending("waits", 0)])
    yield store
    await store.close()


class Before:
    """A connection of a process of the earlier release."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], file: Path) -> None:
        parts = re.split(r"^-- name: (\w+)$", file.read_text(), flags=re.MULTILINE)
        self.queries = dict(zip(parts[1::2], parts[2::2], strict=True))
        self.connection = connection

    async def ask(self, name: str, *args: Any) -> list[asyncpg.Record]:
        return await self.connection.fetch(self.queries[name], *args)


@pytest.fixture(params=GOLDEN, ids=lambda file: file.stem)
async def before(request: pytest.FixtureRequest, filled: PostgresStore, postgres_dsn: str) -> AsyncIterator[Before]:
    connection = await asyncpg.connect(postgres_dsn, server_settings={"search_path": "workflow"})
    yield Before(connection, request.param)
    await connection.close()


async def test_its_api_reads_them(filled: PostgresStore, before: Before) -> None:
    """One run, lists with every filter, history, counts: the same answers as ours, in columns that it can unpack."""
    ids = await ids_of(filled, RunFilter(), limit=1000)
    rows = await before.ask("list", *EVERYTHING)
    assert [row["run_id"] for row in rows] == ids
    assert list(rows[0].keys()) == LISTED_BEFORE == LISTED
    assert len(ids) > 20
    by_workflow = await before.ask("list_by_workflow", *EVERYTHING, rows[0]["workflow_id"])
    by_status = await before.ask("list_by_status", *EVERYTHING, "SUCCESS")
    by_both = await before.ask("list_by_both", *EVERYTHING, by_status[0]["workflow_id"], "SUCCESS")
    assert {row["run_id"] for row in by_status} == set(await ids_of(filled, RunFilter(status="SUCCESS"), limit=1000))
    assert rows[0]["run_id"] in {row["run_id"] for row in by_workflow}
    assert by_status[0]["run_id"] in {row["run_id"] for row in by_both}
    for run_id in ids:
        stored = await filled.run(run_id)
        assert stored is not None
        (row,) = await before.ask("run", run_id)
        assert (row["status"], row["seq"], row["next_offset"]) == (
            stored.view["status"],
            stored.view["seq"],
            stored.offset,
        )
        events = await filled.events(run_id, order="asc", before_seq=None, after_seq=None, types=[], limit=1000)
        assert [tuple(row) for row in await before.ask("events_asc", run_id, -1, BIGINT_MAX, [], 1000)] == list(events)
        assert [tuple(row) for row in await before.ask("events_desc", run_id, -1, BIGINT_MAX, [], 1)] == list(
            events[-1:]
        )
    assert {(row[0], row[1]): row[2] for row in await before.ask("positions")} == await filled.positions()
    workflow_id = rows[0]["workflow_id"]
    assert (await before.ask("unfinished_of", workflow_id, 99))[0][0] == await filled.unfinished(workflow_id, limit=99)


async def test_its_workers_read_them(filled: PostgresStore, before: Before) -> None:
    """The mark, unfinished runs with their states, tips and histories."""
    mark = await filled.mark(0)
    assert mark is not None
    (row,) = await before.ask("mark", 0)
    assert tuple(row) == (mark.position, mark.epoch, mark.digest, mark.cluster_id)
    snapshot = await filled.snapshot(0)
    unfinished = {row["run_id"]: row["state"] for row in await before.ask("unfinished", 0)}
    assert unfinished == {run.id: run.dump() for run in snapshot.runs}
    ids = await ids_of(filled, RunFilter(), limit=1000)
    position, tips = await filled.tips(0, ids)
    first, *rows = await before.ask("tips", [0], ids)
    assert (first["position"], {row["run_id"]: tuple(row)[3:] for row in rows}) == (
        position,
        {run_id: (tip.seq, tip.digest, tip.done) for run_id, tip in tips.items()},
    )
    assert {row["run_id"] for row in await before.ask("histories", ids)} == set(tips)
