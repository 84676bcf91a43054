"""Definitions on a real Kafka: read from the start, followed, added to by several processes at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from api.commands import KafkaCommandSender
from ops.embedded.kafka import KafkaServer
from schemas.errors import BrokerAway, LogMismatch, OutcomeUnknown
from schemas.settings import Settings
from streams import following
from streams.catalog_reader import CatalogReader
from streams.topics import ensure_topics
from tests import servers
from tests.api.world import until


@pytest.fixture
async def ours(kafka: servers.Address, topic_prefix: str) -> Settings:
    settings = Settings(kafka_bootstrap_servers=kafka.address, workflow_topic_prefix=topic_prefix)
    await ensure_topics(settings)
    return settings


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[CatalogReader]:
    """What one API process has: a reader and a producer of its own."""
    sender = KafkaCommandSender(settings)
    sender.start()
    catalog = CatalogReader(settings, sender.append, clock=time.time)
    catalog.start()
    try:
        yield catalog
    finally:
        await catalog.stop()
        await sender.stop()


def definition(description: str = "", workflow_id: str = "greet", **config: Any) -> dict[str, Any]:
    step = {"name": "a", "type": "webhook", "config": {"url": "http://x", **config}}
    return {"id": workflow_id, "name": workflow_id, "description": description, "steps": [step]}


async def test_defining_answers_with_the_version_that_stands_in_the_log(ours: Settings) -> None:
    """New, the same again, changed, changed back."""
    async with process(ours) as catalog:
        outcomes = [await catalog.define(definition(text)) for text in ("one", "one", "two", "one")]
    assert [(defined.version, created) for defined, created in outcomes] == [
        (1, True),
        (1, False),
        (2, True),
        (3, True),
    ]
    assert [defined.definition["description"] for defined, _ in outcomes] == ["one", "one", "two", "one"]


async def test_true_and_one_are_two_definitions(ours: Settings) -> None:
    """What a receiver of webhooks can tell apart is a change."""
    async with process(ours) as catalog:
        assert (await catalog.define(definition(body={"x": 1})))[0].version == 1
        assert (await catalog.define(definition(body={"x": True})))[0].version == 2


async def test_a_process_that_starts_later_reads_everything(ours: Settings) -> None:
    """From the start of the topic, and it is level before it is relied on."""
    async with process(ours) as catalog:
        for number in range(30):
            await catalog.define(definition(workflow_id=f"w{number:02}"))
    reader = CatalogReader(ours, clock=time.time)
    reader.start()
    try:
        await reader.level()
        assert [defined.id for defined in reader.newest()] == [f"w{number:02}" for number in range(30)]
    finally:
        await reader.stop()


async def test_level_sees_what_another_process_has_defined(ours: Settings) -> None:
    """At once after the other's answer."""
    async with process(ours) as one, process(ours) as other:
        for number in range(10):
            defined, _ = await one.define(definition(str(number)))
            await other.level()
            assert other.get("greet") == defined
            assert await other.reach(one.position, 1.0)
            assert not await other.reach(one.position + 1, 0.01)


async def test_two_processes_define_one_workflow_at_once(ours: Settings) -> None:
    """Every body gets a version of its own, none is lost, and both processes agree."""
    async with process(ours) as one, process(ours) as other:
        bodies = [definition(str(number)) for number in range(20)]
        outcomes = await asyncio.gather(*((one, other)[n % 2].define(body) for n, body in enumerate(bodies)))
        assert sorted(defined.version for defined, _ in outcomes) == list(range(1, 21))
        assert all(created for _, created in outcomes)
        await asyncio.gather(one.level(), other.level())
        for body, (defined, _) in zip(bodies, outcomes, strict=True):
            assert one.get("greet", defined.version) == other.get("greet", defined.version) == defined
            assert defined.definition == body


async def test_two_processes_define_the_same_at_once(ours: Settings) -> None:
    """One of them makes the version, everybody answers with it."""
    async with process(ours) as one, process(ours) as other:
        outcomes = await asyncio.gather(*((one, other)[n % 2].define(definition("same")) for n in range(20)))
    assert [defined.version for defined, _ in outcomes] == [1] * 20
    assert sum(created for _, created in outcomes) == 1


async def test_records_that_are_no_facts_are_passed_over(ours: Settings) -> None:
    """Garbage, and a record that was decided from an older tip."""
    async with process(ours) as catalog:
        await catalog.define(definition("one"))
        late = catalog._catalog.next_record(definition("late"), "2026-01-01T00:00:00.000Z")
        await catalog.define(definition("two"))
        assert catalog._append is not None
        for value in (b"", b"{", b'{"subject": "greet", "seq": 3, "prev": null, "type": "WorkflowDefined"}', late):
            await catalog._append(ours.topics.definitions, 0, b"greet", value)
        defined, created = await catalog.define(definition("three"))
    assert (defined.version, created) == (3, True)


@pytest.mark.long
async def test_a_broker_that_dies_and_comes_back(own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions end in bounded time; known definitions stay; afterwards the reader follows on by itself."""
    monkeypatch.setattr(following, "CHECK_S", 0.2)
    ours = Settings(kafka_bootstrap_servers=own_kafka.address, workflow_send_timeout_s=2.0)
    await ensure_topics(ours)
    async with process(ours) as one, process(ours) as other:
        await one.define(definition("before"))
        await other.level()
        await asyncio.to_thread(own_kafka.kill)
        with pytest.raises(BrokerAway):
            await one.level()
        with pytest.raises((BrokerAway, OutcomeUnknown)):
            await one.define(definition("dead"))
        assert (one.get("greet") or one.newest()[0]).definition["description"] == "before"
        await until(lambda: one.away is not None)
        await asyncio.to_thread(own_kafka.start)
        async with asyncio.timeout(60):
            while True:
                try:
                    defined, _ = await one.define(definition("after"))
                    await other.level()
                except (BrokerAway, OutcomeUnknown):
                    await asyncio.sleep(0.1)
                else:
                    break
        assert other.get("greet") == defined
        assert defined.definition["description"] == "after"


async def test_a_topic_that_is_shorter_than_before_is_another_log(
    ours: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a silent reset: the reader says that the log is not the one that it knows."""
    async with process(ours) as catalog:
        for text in ("one", "two"):
            await catalog.define(definition(text))
        admin = AIOKafkaAdminClient(bootstrap_servers=ours.kafka_bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics([ours.topics.definitions])
        finally:
            await admin.close()
        await asyncio.sleep(0.5)
        await ensure_topics(ours)
        with pytest.raises(LogMismatch, match="before offset 2"):
            await catalog.level()
        with pytest.raises(LogMismatch):
            await catalog.reach(2, 0.1)
