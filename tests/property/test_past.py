"""The past of random histories under a clock that steps: what is shown of any moment, under any filter, is the log's prefix."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.errors import RunNotThen
from api.past import Moment, run_then
from projections.filesystem import FilesystemStore
from projections.memory import MemoryStore
from projections.postgres import PostgresStore
from projections.rows import instant_us
from projections.tables import Tables
from schemas.events import time_text
from schemas.store import HistoryRow, RunFilter, StoredRun
from schemas.views import STATUSES
from tests import servers
from tests.contract.cases import pending
from tests.contract.store_past import folded, pages, shaken
from tests.feeding import feed
from tests.histories import BASE_S, random_log

BASE_MS = round(BASE_S * 1000)
WAITING = ("greet", "w1"), ("bill", "w2")
NEVER: dict[str, Any] = {
    "seq": 0,
    "status": "PENDING",
    "steps": [],
    "results": {},
    "error": None,
    "set_aside": None,
    "started_at": None,
    "finished_at": None,
}
"""What nothing but its command was known of."""
schemas_made = count()

logs = st.tuples(st.integers(0, 2**32), st.lists(st.sampled_from([0, 0, 0, -60, 45, 1_000]), min_size=1, max_size=20))
looks = st.lists(
    st.tuples(
        st.floats(-0.1, 1.1),  # when, from the first record to the last
        st.sampled_from([None, "greet", "bill", "nobody"]),
        st.sampled_from([None, *STATUSES]),
        st.none() | st.floats(-0.1, 1.1),  # created after and before, from the first to the last
        st.none() | st.floats(-0.1, 1.1),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def dsn(postgres: servers.Address) -> Iterator[str]:
    """A database for all examples; each takes a schema of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield asyncio.run(servers.create_database(postgres.address, name))
    asyncio.run(servers.drop_database(postgres.address, name))


class Reference:
    """What is known of a log that was folded as a whole: each run of now, and the bytes of its events."""

    def __init__(self, now: Sequence[StoredRun], histories: Mapping[str, Sequence[HistoryRow]]) -> None:
        self.now = {run.view["run_id"]: run.view for run in now}
        self.histories = histories

    def then(self, run_id: str, at_ms: int) -> dict[str, Any] | None:
        """A run at a moment; None where there was none."""
        view = self.now[run_id]
        was = folded(run_id, self.histories.get(run_id, ()), at_ms)
        if was is not None:
            return dict(was)
        return {**view, **NEVER} if instant_us(view["created_at"]) <= at_ms * 1000 else None

    def list(self, where: RunFilter, at_ms: int) -> list[dict[str, Any]]:
        """All that a list of then shows, in its order."""
        found = [run for run_id in self.now if (run := self.then(run_id, at_ms)) is not None and matches(run, where)]
        return sorted(found, key=lambda run: (instant_us(run["created_at"]), run["run_id"]), reverse=True)


def matches(run: Mapping[str, Any], where: RunFilter) -> bool:
    at = instant_us(run["created_at"])
    return (
        where.workflow_id in (None, run["workflow_id"])
        and where.status in (None, run["status"])
        and (where.created_after is None or at > instant_us(where.created_after))
        and (where.created_before is None or at < instant_us(where.created_before))
    )


async def check(store: Tables, made: tuple[int, Sequence[int]], wanted: Sequence[Any]) -> None:
    """All that is shown of the past of a log, held against the reference."""
    try:
        await _check(store, made, wanted)
    finally:
        await store.close()


async def _check(store: Tables, made: tuple[int, Sequence[int]], wanted: Sequence[Any]) -> None:
    log = shaken(random_log(made[0], partitions=1, runs=14), len(made[1]), made[1])
    await store.migrate()
    await feed(store, log)
    created = time_text(BASE_S + 0.2)
    commands = [pending(run_id, n, workflow_id=of, created_at=created) for n, (of, run_id) in enumerate(WAITING)]
    await store.apply_pending(0, 0, len(commands), commands)
    now = await store.runs(RunFilter(), after=None, limit=1_000)
    async with store.audit() as audit:
        reference = Reference(now, await audit.history([run.view["run_id"] for run in now]))
    times = sorted(record.timestamp for record in log.records[0])
    starts = sorted(instant_us(run.view["created_at"]) for run in now)
    for share, workflow_id, status, after, before, limit in wanted:
        at_ms = round(times[0] + share * (times[-1] - times[0]))
        bounds = [None if each is None else text_of(starts, each) for each in (after, before)]
        where = RunFilter(workflow_id, status, *bounds)
        expected = reference.list(where, at_ms)
        assert [dict(run.view) for run in await pages(store, where, at_ms, limit)] == expected
        where = replace(where, status=None)  # counts are by status
        counted = {name: n for name, n in (await store.counts(where, at_ms)).items() if n}
        assert counted == Counter(run["status"] for run in reference.list(where, at_ms))
    await one_by_one(store, now, reference, times)


def text_of(starts: Sequence[int], share: float) -> str:
    return time_text((starts[0] + share * (starts[-1] - starts[0])) / 1_000_000)


async def one_by_one(store: Tables, now: Sequence[StoredRun], reference: Reference, times: Sequence[int]) -> None:
    """Each run after each of its events, and at some times."""
    for stored in now:
        run_id = stored.view["run_id"]
        history = reference.histories.get(run_id, ())
        for seq in range(1, len(history) + 1):
            assert (await run_then(store, stored, Moment(seq=seq))).view == folded(run_id, history[:seq], sys.maxsize)
        with pytest.raises(RunNotThen):
            await run_then(store, stored, Moment(seq=len(history) + 1))
        for at_ms in (times[0] - 1, times[len(times) // 2], times[-1]):
            expected = reference.then(run_id, at_ms)
            if expected is None:
                with pytest.raises(RunNotThen):
                    await run_then(store, stored, Moment(at_ms=at_ms))
            else:
                assert dict((await run_then(store, stored, Moment(at_ms=at_ms))).view) == expected


@given(logs, looks)
@settings(max_examples=40)
def test_memory(made: tuple[int, Sequence[int]], wanted: Sequence[Any]) -> None:
    """Of the store in memory."""
    asyncio.run(check(MemoryStore(), made, wanted))


@given(logs, looks)
@settings(max_examples=20)
def test_filesystem(made: tuple[int, Sequence[int]], wanted: Sequence[Any]) -> None:
    """Of the store in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(FilesystemStore(Path(folder) / "store"), made, wanted))


@given(logs, looks)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres(dsn: str, made: tuple[int, Sequence[int]], wanted: Sequence[Any]) -> None:
    """Of the store in PostgreSQL."""
    asyncio.run(check(PostgresStore(dsn, schema=f"example_{next(schemas_made)}"), made, wanted))
