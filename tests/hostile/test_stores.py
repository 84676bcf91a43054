"""The corpus against the three stores: what they are given they give back exactly, and what a log must not hold they never see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from projections.filesystem import FilesystemStore
from projections.memory import MemoryStore
from projections.postgres import PostgresStore
from projections.tables import Tables
from schemas.store import PendingRow, RunFilter
from tests.feeding import feed
from tests.histories import Log, Story
from tests.hostile.records import FORGED, KEYS, RECORDS
from tests.hostile.texts import LEGAL


class HostileContract:
    """A backend subclasses it with a fixture `store`."""

    async def test_texts_come_back_exact(self, store: Tables) -> None:
        """As payloads, results, errors and history, byte for byte."""
        log = Log(1)
        epoch = log.take(0)
        stories = {name: _told(log, epoch, name, value) for name, value in LEGAL.items()}
        await feed(store, log)
        for name, story in stories.items():
            stored = await store.run(story.run_id)
            assert stored is not None, name
            shown = (stored.view["payload"], stored.view["results"]["step_0"], stored.view["error"])
            assert _same(shown, ({"odd": LEGAL[name]}, LEGAL[name], {"code": "x", "message": name})), name
        values = {record.value for record in log.records[0]}
        for story in stories.values():
            rows = await store.events(story.run_id, order="asc", before_seq=None, after_seq=None, types=(), limit=100)
            assert len(rows) == story.seq
            assert {row.value for row in rows} <= values

    async def test_starts_that_wait_come_back_exact(self, store: Tables) -> None:
        """The payload of a run that no worker has taken."""
        rows = [
            PendingRow(f"p-{n}", 0, n, "greet", None, orjson.dumps({"odd": value}), "2026-01-01T00:00:00.000Z")
            for n, value in enumerate(LEGAL.values())
        ]
        await store.apply_pending(0, 0, len(rows), rows)
        for row, (name, value) in zip(rows, LEGAL.items(), strict=True):
            stored = await store.run(row.run_id)
            assert stored is not None, name
            assert _same(stored.view["payload"], {"odd": value}), name

    async def test_records_that_are_no_facts_change_nothing(self, store: Tables) -> None:
        """Between the events of a run, whatever key they have: they are counted and passed over, and the run is whole."""
        log = Log(1)
        epoch = log.take(0)
        story = log.story(0)
        hostile = list(RECORDS.values())
        for number, event in enumerate(story.whole(epoch)):
            log.append(0, event, story.run_id.encode())
            for n, value in enumerate(hostile[number::2]):
                log.append(0, value, KEYS[n % len(KEYS)])
        await feed(store, log)
        runs = await store.runs(RunFilter(), after=None, limit=100)
        assert [(run.view["run_id"], run.view["status"], run.view["set_aside"]) for run in runs] == [
            (story.run_id, "SUCCESS", None)
        ]
        assert (await store.positions())["e", 0] == len(log.records[0])

    async def test_forged_facts_are_set_aside(self, store: Tables) -> None:
        """Each makes a run that says what is wrong with it, and the run beside them is whole."""
        log = Log(1)
        epoch = log.take(0)
        for value in FORGED.values():
            log.append(0, value)
        story = log.story(0)
        for value in story.whole(epoch):
            log.append(0, value, story.run_id.encode())
        await feed(store, log)
        runs = await store.runs(RunFilter(), after=None, limit=100)
        reasons = {run.view["run_id"]: run.view["set_aside"] for run in runs}
        assert {run_id for run_id, reason in reasons.items() if reason is None} == {story.run_id}
        assert len(reasons) == 1 + len(FORGED)

    async def test_odd_questions_have_no_answer(self, store: Tables) -> None:
        """Ids and filters that nothing can have are answered with nothing, and harm nothing."""
        log = Log(1)
        epoch = log.take(0)
        story = _told(log, epoch, "a run", 1)
        await feed(store, log)
        texts = [text for text in LEGAL.values() if isinstance(text, str)]
        for text in texts:
            assert await store.run(text) is None, text
            assert list(await store.runs(RunFilter(workflow_id=text), after=None, limit=10)) == [], text
        assert (await store.tips(0, texts))[1] == {}
        assert await store.run(story.run_id) is not None


def _told(log: Log, epoch: int, name: str, value: Any) -> Story:
    """A run in the log that holds the value wherever a run can hold one."""
    story = log.story(0, steps=2, payload={"odd": value})
    log.append(0, story.requested(epoch))
    log.append(0, story.event(epoch, "StepStarted", {"step": "step_0", "attempt": 1}))
    log.append(0, story.event(epoch, "StepSucceeded", {"step": "step_0", "attempt": 1, "output": value}))
    log.append(0, story.completed(epoch, "FAILED", {"step_0": value}, {"code": "x", "message": name}))
    return story


def _same(one: Any, other: Any) -> bool:
    """Also by type, sign of zero and order of characters."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


class TestMemory(HostileContract):
    @pytest.fixture
    async def store(self) -> MemoryStore:
        store = MemoryStore()
        await store.migrate()
        return store


class TestFilesystem(HostileContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[FilesystemStore]:
        store = FilesystemStore(tmp_path / "store")
        await store.migrate()
        yield store
        await store.close()


class TestPostgres(HostileContract):
    @pytest.fixture
    async def store(self, postgres_dsn: str) -> AsyncIterator[PostgresStore]:
        store = PostgresStore(postgres_dsn)
        await store.migrate()
        yield store
        await store.close()


class TestPostgresCopies(HostileContract):
    """As large batches are written: by COPY, in a transaction of several statements."""

    @pytest.fixture
    async def store(self, postgres_dsn: str) -> AsyncIterator[PostgresStore]:
        store = PostgresStore(postgres_dsn, small_events=0)
        await store.migrate()
        yield store
        await store.close()
