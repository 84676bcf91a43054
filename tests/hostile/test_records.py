"""The corpus on every topic of a platform that works: each record is set aside, nothing dies, and plain runs go on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas.settings import Settings
from streams.kafka import client_kwargs
from tests.fleet import Fleet, platform
from tests.harness.commands import SPOILT
from tests.hostile.platform import bad_signs
from tests.hostile.records import KEYS, RECORDS
from tests.judging import judged

RECORD_BYTES_MAX = 1_100_000

pytestmark = pytest.mark.slow


async def test_records_of_an_enemy_stop_nothing(settings: Settings, tmp_path: Path) -> None:
    """Every record on every topic, between plain runs: these end as they must, the log and the tables are sound, no
    process has ended, and none tells of a mistake of ours."""
    settings = settings.model_copy(update={"workflow_partitions": 4})
    async with platform(settings, tmp_path) as fleet:
        guarded = fleet.settings.model_copy(update={"workflow_auth": "keys"})
        async with fleet.load(rate=10):
            await produce(guarded)
            await fleet.more(10)
        judge = await judged(fleet, foreign=SPOILT)
        assert judge.counts["RunCompleted"] >= len(fleet.accepted)
        await still_ready(fleet)
        assert bad_signs([member.log for member in fleet.members]) == []


async def still_ready(fleet: Fleet) -> None:
    """Every process, and an API that reads what stands on the topics for the first time."""
    fresh = [fleet.start("api")]
    for member in (*fleet.of("worker"), *fleet.of("projector"), *fresh):
        await member.ready()
    async with httpx.AsyncClient(base_url=fresh[0].address, timeout=20) as http:
        assert (await http.get("/api/v1/workflows")).status_code == 200


async def produce(settings: Settings) -> None:
    """Each record to a partition of every topic, under one key after the other."""
    topics = settings.topics
    names = (topics.trigger, topics.events, topics.definitions, topics.completed, topics.keys)
    producer = AIOKafkaProducer(**client_kwargs(settings), acks="all", max_request_size=2 * RECORD_BYTES_MAX)
    await producer.start()
    try:
        for topic in names:
            count = len(await producer.partitions_for(topic))
            for n, value in enumerate(RECORDS.values()):
                key = SPOILT if topic == topics.completed else KEYS[n % len(KEYS)]
                if key is None and (value is None or topic in {topics.definitions, topics.keys}):
                    key = SPOILT  # the broker takes none without a key there
                await producer.send(topic, value, key=key, partition=n % count)
        await producer.flush()
    finally:
        await producer.stop()
