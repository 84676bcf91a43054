"""Topics followed on a real Kafka, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP
from schemas.settings import Settings
from streams import following
from streams.following import TopicFollower
from streams.topics import ensure_topics
from tests import servers


@pytest.fixture
async def ours(kafka: servers.Address, topic_prefix: str) -> Settings:
    settings = Settings(
        kafka_bootstrap_servers=kafka.address, workflow_topic_prefix=topic_prefix, workflow_partitions=2
    )
    await ensure_topics(settings)
    return settings


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def put(producer: AIOKafkaProducer, tp: TP, *values: bytes) -> None:
    for value in values:
        await producer.send_and_wait(tp.topic, value, partition=tp.partition)


async def taken(settings: Settings, positions: Mapping[TP, int], wanted: int) -> dict[TP, list[tuple[int, bytes]]]:
    """The first records that come from these positions on."""
    found: dict[TP, list[tuple[int, bytes]]] = {}
    async with (
        asyncio.timeout(20),
        aclosing(TopicFollower(settings)) as source,
        aclosing(source.follow(positions)) as stream,
    ):
        async for tp, records in stream:
            found.setdefault(tp, []).extend((record.offset, record.value or b"") for record in records)
            if sum(map(len, found.values())) >= wanted:
                break
    return {tp: records for tp, records in found.items() if records}


async def test_records_come_from_the_given_offsets_on(ours: Settings) -> None:
    """Of all partitions, those that stand there and those that come later."""
    one, two = TP(ours.topics.events, 0), TP(ours.topics.events, 1)
    async with producing(ours) as producer:
        await put(producer, one, b"a", b"b", b"c")
        assert await taken(ours, {one: 2, two: 0}, 1) == {one: [(2, b"c")]}
        waiting = asyncio.create_task(taken(ours, {one: 3, two: 0}, 2))
        await asyncio.sleep(0.3)
        await put(producer, two, b"x")
        await put(producer, one, b"d")
        assert await waiting == {one: [(3, b"d")], two: [(0, b"x")]}


async def test_the_start_is_the_first_record_that_is_kept(ours: Settings) -> None:
    """Commands that were decided long ago are deleted: 0 means what is left."""
    tp = TP(ours.topics.trigger, 0)
    async with producing(ours) as producer:
        await put(producer, tp, b"a", b"b", b"c")
    admin = AIOKafkaAdminClient(bootstrap_servers=ours.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(2)})
    finally:
        await admin.close()
    assert await taken(ours, {tp: 0}, 1) == {tp: [(2, b"c")]}
    with pytest.raises(LogMismatch, match="does not hold offset 1"):
        await taken(ours, {tp: 1}, 1)


async def test_a_partition_that_ends_before_the_offset_is_another_log(ours: Settings) -> None:
    """Never a silent reset to one of its ends."""
    with pytest.raises(LogMismatch):
        await taken(ours, {TP(ours.topics.events, 0): 5}, 1)


async def test_it_shows_that_the_broker_answers(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing new is told as well, from time to time."""
    monkeypatch.setattr(following, "CHECK_S", 0.05)
    source = TopicFollower(ours)
    async with asyncio.timeout(20), aclosing(source), aclosing(source.follow({TP(ours.topics.events, 0): 0})) as stream:
        assert [records async for _, records in first(stream, 3)] == [(), (), ()]


async def first(stream: AsyncIterator[tuple[TP, object]], count: int) -> AsyncIterator[tuple[TP, object]]:
    async for each in stream:
        yield each
        count -= 1
        if count == 0:
            return


async def test_a_consumer_that_brings_nothing_is_found_out(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records ahead and none that come: an error instead of standing still."""
    monkeypatch.setattr(following, "CHECK_S", 0.05)
    tp = TP(ours.topics.events, 0)
    async with producing(ours) as producer:
        await put(producer, tp, b"a")

    async def nothing(*_: object) -> dict[TP, object]:
        await asyncio.sleep(0.01)
        return {}

    monkeypatch.setattr(TopicFollower, "_fetch", nothing)
    with pytest.raises(BrokerAway, match="does not bring"):
        await taken(ours, {tp: 0}, 1)


async def test_without_a_broker_it_says_so() -> None:
    """In bounded time."""
    with pytest.raises(BrokerAway):
        await taken(Settings(kafka_bootstrap_servers="127.0.0.1:1"), {TP("t", 0): 0}, 1)
