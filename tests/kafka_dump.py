"""All raw records of a platform's topics, as the history checker wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.reader import Raw

NAMES = ("definitions", "trigger", "events", "completed", "rejected")


async def dump(
    bootstrap_servers: str, prefix: str = "", names: Sequence[str] = NAMES, **connection: Any
) -> dict[str, dict[int, list[Raw]]]:
    """Every record that stands in the topics with this prefix: name without prefix → partition → records.
    `connection`: what aiokafka's clients need beside the servers."""
    connection["bootstrap_servers"] = bootstrap_servers
    found: dict[str, dict[int, list[Raw]]] = {f"workflow.{name}": {} for name in names}
    tps = await _partitions(connection, [f"{prefix}{name}" for name in found])
    for tp, records in (await _records(connection, tps)).items():
        found[tp.topic.removeprefix(prefix)][tp.partition] = records
    return found


async def _partitions(connection: dict[str, Any], topics: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**connection)
    await admin.start()
    try:
        described = await admin.describe_topics(list(topics))
    finally:
        await admin.close()
    return sorted(
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    )


async def _records(connection: dict[str, Any], tps: Sequence[TopicPartition]) -> dict[TopicPartition, list[Raw]]:
    consumer = AIOKafkaConsumer(
        **connection,
        auto_offset_reset="none",
        check_crcs=True,
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        found: dict[TopicPartition, list[Raw]] = {tp: [] for tp in tps}
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        consumer.assign(tps)
        for tp, begin in begins.items():
            consumer.seek(tp, begin)
        left = [tp for tp in tps if begins[tp] < ends[tp]]
        while left:
            for tp, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                found[tp] += [Raw(r.offset, r.timestamp, r.key, r.value) for r in records if r.offset < ends[tp]]
            left = [tp for tp in left if await consumer.position(tp) < ends[tp]]
        return found
    finally:
        await consumer.stop()
