"""The platform's topics on a real Kafka, and reading them without a group."""

from __future__ import annotations

import asyncio
import time

import pytest

from ops.embedded.kafka import KafkaServer
from schemas.errors import BadSetting, BrokerAway, LogMismatch, TopicMismatch
from schemas.ports import TP
from schemas.settings import Settings
from streams.kafka import LogReader, admin
from streams.topics import delete_decided, ensure_topics, specs
from tests.members import change_configs, commands, events, found_configs, produce
from tests.servers import Address


@pytest.fixture
def settings(kafka: Address, topic_prefix: str) -> Settings:
    """Settings whose topics are not made yet."""
    return Settings(kafka_bootstrap_servers=kafka.address, workflow_topic_prefix=topic_prefix, workflow_partitions=3)


async def test_any_number_of_processes_make_the_topics_at_once(settings: Settings) -> None:
    """Six topics stand with their partitions and configs, whoever was first, and a further start changes nothing."""
    await asyncio.gather(*(ensure_topics(settings) for _ in range(5)))
    await ensure_topics(settings)
    async with admin(settings, 10) as client:
        described = await client.describe_topics([spec.name for spec in specs(settings)])
    assert {topic["topic"]: len(topic["partitions"]) for topic in described} == {
        settings.topics.definitions: 1,
        settings.topics.trigger: 3,
        settings.topics.events: 3,
        settings.topics.completed: 3,
        settings.topics.rejected: 1,
        settings.topics.keys: 1,
    }
    for name in (settings.topics.definitions, settings.topics.trigger, settings.topics.events):
        configs = await found_configs(settings, name)
        assert (configs["retention.ms"], configs["retention.bytes"], configs["cleanup.policy"]) == (
            "-1",
            "-1",
            "delete",
        )
    assert (await found_configs(settings, settings.topics.keys))["cleanup.policy"] == "compact"
    assert (await found_configs(settings, settings.topics.events))["message.timestamp.type"] == "LogAppendTime"
    month_ms = str(30 * 24 * 3600 * 1000)
    for name in (settings.topics.completed, settings.topics.rejected):
        assert (await found_configs(settings, name))["retention.ms"] == month_ms


async def test_another_number_of_partitions_stops_the_start(settings: Settings) -> None:
    """The error names the topic, both numbers and the setting."""
    await ensure_topics(settings)
    with pytest.raises(TopicMismatch, match=r"has 3 partitions, but 4 is needed.*WORKFLOW_PARTITIONS=3"):
        await ensure_topics(settings.model_copy(update={"workflow_partitions": 4}))


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ("retention_ms", "604800000"),
        ("retention_bytes", "1000000"),
        ("cleanup_policy", "compact"),
        ("message_timestamp_type", "CreateTime"),
        ("max_message_bytes", "1000"),
    ],
)
async def test_a_log_that_would_lose_events_stops_the_start(settings: Settings, config: str, value: str) -> None:
    """A changed retention, clean-up, clock or size of the events is refused, with the command that mends it."""
    await ensure_topics(settings)
    await change_configs(settings, settings.topics.events, **{config: value})
    name = config.replace("_", r"\.")
    with pytest.raises(TopicMismatch, match=f"{name}={value}.*kafka-configs.sh .*--add-config .*{name}="):
        await ensure_topics(settings)


async def test_a_longer_retention_of_ends_is_the_operators_choice(settings: Settings) -> None:
    """Only what history depends on is fixed."""
    await ensure_topics(settings)
    await change_configs(settings, settings.topics.completed, retention_ms="-1")
    await ensure_topics(settings)


async def test_too_few_brokers_are_told_by_the_setting(settings: Settings) -> None:
    """A replication factor that the cluster cannot give names its setting."""
    with pytest.raises(BadSetting, match="WORKFLOW_REPLICATION_FACTOR=3"):
        await ensure_topics(settings.model_copy(update={"workflow_replication_factor": 3}))


async def test_decided_commands_are_deleted_once_they_are_old(settings: Settings) -> None:
    """Never at or above the decided position, never younger than asked."""
    await ensure_topics(settings)
    tp, other = commands(settings, 0), commands(settings, 1)
    await produce(settings, tp.topic, 0, [b"%d" % at for at in range(10)])
    await asyncio.sleep(0.05)
    between_ms = int(time.time() * 1000)
    await asyncio.sleep(0.05)
    await produce(settings, tp.topic, 0, [b"%d" % at for at in range(10, 20)])
    later_ms = between_ms + 3_600_000
    assert await delete_decided(settings, {tp: 0, other: 0}, later_ms) == {}
    assert await delete_decided(settings, {tp: 4, other: 0}, between_ms) == {tp: 4}
    assert await delete_decided(settings, {tp: 15}, between_ms) == {tp: 10}
    assert await delete_decided(settings, {tp: 15}, between_ms) == {}
    assert await delete_decided(settings, {tp: 15}, later_ms) == {tp: 15}
    async with LogReader(settings) as reader:
        assert await reader.begin_offsets([tp]) == {tp: 15}
        assert await reader.read_record(tp, 14) is None
        kept = await reader.read_record(tp, 15)
        assert kept is not None
        assert kept.value == b"15"


async def test_reading_without_a_group(settings: Settings) -> None:
    """Ranges, single records and ends; a position that the log does not hold is an error, never another place."""
    await ensure_topics(settings)
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"%d" % at for at in range(5_000)])
    async with LogReader(settings) as reader:
        assert (await reader.begin_offsets([tp]), await reader.end_offsets([tp])) == ({tp: 0}, {tp: 5_000})
        read = [record async for records in reader.read(tp, 100, 4_000) for record in records]
        assert [record.offset for record in read] == list(range(100, 4_000))
        assert read[0].value == b"100"
        assert [records async for records in reader.read(tp, 7, 7)] == []
        record = await reader.read_record(tp, 4_999)
        assert record is not None
        assert (record.offset, record.value) == (4_999, b"4999")
        assert await reader.read_record(tp, 5_000) is None
        with pytest.raises(LogMismatch, match="holds no offset 6000"):
            assert [records async for records in reader.read(tp, 6_000, 6_001)] == []
        cluster = await reader.cluster_id()
    async with LogReader(settings) as other:
        assert await other.cluster_id() == cluster != ""


@pytest.mark.long
async def test_a_reader_outlives_an_outage(own_kafka: KafkaServer) -> None:
    """While the broker is away every question ends in BrokerAway; afterwards the same reader answers."""
    settings = Settings(kafka_bootstrap_servers=own_kafka.address, workflow_partitions=1)
    await ensure_topics(settings)
    tp = TP(settings.topics.events, 0)
    await produce(settings, tp.topic, 0, [b"x"])
    async with LogReader(settings, bound_s=1) as reader:
        assert await reader.end_offsets([tp]) == {tp: 1}
        own_kafka.kill()
        for question in (
            reader.end_offsets([tp]),
            reader.begin_offsets([tp]),
            reader.read_record(tp, 0),
            reader.cluster_id(),
        ):
            with pytest.raises(BrokerAway):
                await question
        own_kafka.start()
        found = None
        while found is None:
            try:
                found = await reader.read_record(tp, 0)
            except BrokerAway:
                continue
        assert found.value == b"x"
