"""All raw records of a platform's topics, as the history checker wants them."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.reader import Raw

NAMES = ("definitions", "trigger", "events", "completed", "rejected")


async def dump(bootstrap_servers: str, prefix: str = "") -> dict[str, dict[int, list[Raw]]]:
    """Every record that stands in the topics with this prefix: name without prefix → partition → records."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="none", check_crcs=True, enable_auto_commit=False
    )
    await consumer.start()
    try:
        return {f"workflow.{name}": await _topic(consumer, f"{prefix}workflow.{name}") for name in NAMES}
    finally:
        await consumer.stop()


async def _topic(consumer: AIOKafkaConsumer, topic: str) -> dict[int, list[Raw]]:
    numbers = sorted(await _partitions(consumer, topic))
    return {number: await _partition(consumer, TopicPartition(topic, number)) for number in numbers}


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer.topics()
    return consumer.partitions_for_topic(topic) or set()


async def _partition(consumer: AIOKafkaConsumer, tp: TopicPartition) -> list[Raw]:
    begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    consumer.assign([tp])
    consumer.seek(tp, begin)
    found: list[Raw] = []
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            found += [Raw(r.offset, r.timestamp, r.key, r.value) for r in records if r.offset < end]
    return found
