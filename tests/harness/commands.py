"""What is done to topics behind everybody's back: commands again, records that nobody can read, a group without offsets."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.protocol.admin import DeleteGroupsRequest

from schemas.events import encode, encode_taken, time_text
from schemas.settings import Settings
from streams.kafka import client_kwargs
from tests.kafka_dump import dump

REPEATS: Final = 60
RECORD_BYTES: Final = 1_010_000
"""Past WORKFLOW_RECORD_BYTES_MAX, and what the topics just take."""
SPOILT: Final = b"spoilt"
"""Key of every record that `spoil` writes, but where a key is part of the spoiling."""
GARBAGE: Final = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'{"specversion":"1.0"}',
    b'{"subject":1,"type":"X","seq":1,"epoch":1,"prev":null}',
    b'{"workflow_id":7}',
    b'{"workflow_id":"noop","payload":{"n":1e400}}',
    b'{"run_id":"a b","workflow_id":"noop"}',
    b'{"type":"CancelRun","run_id":"nobody"}',
    b"x" * RECORD_BYTES,
)


async def repeat(settings: Settings, rng: Random) -> int:
    """Write commands that stand on the topic already once more, shuffled, each into any partition; how many."""
    topic = settings.topics.trigger
    found = await dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, ["trigger"])
    known = [
        record for log in found["workflow.trigger"].values() for record in log if b'"run_id"' in (record.value or b"")
    ]
    again = rng.sample(known, min(REPEATS, len(known)))
    partitions = settings.workflow_partitions
    await _write(settings, [(topic, rng.randrange(partitions), r.key, r.value or b"") for r in again])
    return len(again)


async def spoil(settings: Settings, rng: Random) -> int:
    """Records on every topic that are none of ours, or too large, or lies; how many."""
    topics, partitions = settings.topics, settings.workflow_partitions
    records = [
        (topic, rng.randrange(partitions) if topic in {topics.trigger, topics.events} else 0, SPOILT, value)
        for topic in (topics.definitions, topics.trigger, topics.events, topics.completed, topics.rejected, topics.keys)
        for value in GARBAGE
    ]
    records += [(topics.events, number, SPOILT, value) for number in range(partitions) for value in _lies(number)]
    await _write(settings, records)
    return len(records)


def _lies(number: int) -> Sequence[bytes]:
    """Events that look right and are no facts: of an old epoch, of the future of a chain, a take that comes too late."""
    time = time_text(0)
    return (
        encode("RunRequested", "a-lie", {}, time=time, epoch=1, seq=1, prev=None).replace(b'"epoch":1', b'"epoch":0'),
        encode("StepStarted", f"lie-{number}", {"step": "x", "attempt": 1}, time=time, epoch=1, seq=7, prev="00" * 16),
        encode_taken(number, 1, "nobody", "none", time),
    )


async def _write(settings: Settings, records: Sequence[tuple[str, int, bytes | None, bytes]]) -> None:
    producer = AIOKafkaProducer(**client_kwargs(settings), acks="all", max_request_size=2 * RECORD_BYTES)
    await producer.start()
    try:
        for topic, partition, key, value in records:
            await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


async def delete_group(client: Any, group: str) -> None:
    """Delete a group that has no members, with its offsets."""
    coordinator = await client.find_coordinator(group)
    answer = await client._send_request(DeleteGroupsRequest([group]), coordinator)
    ((_, code),) = answer.results
    assert code in {0, 69}, f"the group {group} was not deleted: error {code}"  # 69: there is none
