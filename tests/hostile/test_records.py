"""The corpus on every topic of a platform that works: each record is set aside, nothing dies, and plain runs go on."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas.identity import home
from schemas.keys import Token
from schemas.settings import Settings
from streams.kafka import client_kwargs
from tests.checker import Topics
from tests.fleet import Fleet, Member, platform, until
from tests.harness.commands import SPOILT
from tests.hostile.platform import bad_signs
from tests.hostile.records import KEYS, RECORDS
from tests.judging import judged, records
from tests.keyring import written_key
from tests.reader import Raw, Reader

RECORD_BYTES_MAX = 1_100_000
Place = tuple[int, int]
"""Partition and offset."""

pytestmark = pytest.mark.slow


async def test_records_of_an_enemy_stop_nothing(settings: Settings, tmp_path: Path) -> None:
    """Every record on every topic, between plain runs: these end as they must, the log and the tables are sound, no
    process has ended, and none tells of a mistake of ours."""
    settings = settings.model_copy(update={"workflow_partitions": 4})
    async with platform(settings, tmp_path) as fleet:
        guarded = fleet.settings.model_copy(update={"workflow_auth": "keys"})
        token = await written_key(guarded, "before", "read")
        async with fleet.load(rate=10):
            places = await produce(guarded)
            await fleet.more(10)
        judge = await judged(fleet, foreign=SPOILT)
        assert judge.counts["RunCompleted"] >= len(fleet.accepted)
        topics = await records(fleet.settings)
        assert places[guarded.topics.trigger] <= rejected(topics)
        await each_orphan_counted(fleet, topics["workflow.events"], places[guarded.topics.events])
        await still_ready(fleet)
        await keys_go_on(fleet, guarded, token)
        assert bad_signs([member.log for member in fleet.members]) == []


async def still_ready(fleet: Fleet) -> None:
    """Every process, and an API that reads what stands on the topics for the first time."""
    fresh = [fleet.start("api")]
    for member in (*fleet.of("worker"), *fleet.of("projector"), *fresh):
        await member.ready()
    async with httpx.AsyncClient(base_url=fresh[0].address, timeout=20) as http:
        assert (await http.get("/api/v1/workflows")).status_code == 200


def rejected(topics: Topics) -> set[Place]:
    """Where the commands stood that were set aside."""
    found = [json.loads(raw.value or b"")["data"] for log in topics["workflow.rejected"].values() for raw in log]
    return {(data["partition"], data["offset"]) for data in found}


async def each_orphan_counted(fleet: Fleet, logs: Mapping[int, Sequence[Raw]], places: set[Place]) -> None:
    """Each record is an orphan to a reader made from the docs, and the projector has counted it for the same reason."""
    counts, orphans = Counter[str](), set[Place]()
    for partition, log in logs.items():
        reader = Reader(partition, len(logs))
        for record in log:
            if reason := reader.take(record.value):
                counts[reason] += 1
                orphans.add((partition, record.offset))
    assert places <= orphans
    told = (await fleet.of("projector")[0].report())["orphans"].removeprefix("ok: ")
    assert dict(part.split(": ") for part in told.split(", ")) == {reason: str(n) for reason, n in counts.items()}


async def keys_go_on(fleet: Fleet, settings: Settings, token: Token) -> None:
    """An API that asks for keys reads past all that stands on their topic: a key from before it and one from after it
    let their owners in, and nobody else's does."""
    api = Member("api", settings, fleet.folder / "guarded.log")
    fleet.members.append(api)
    await api.ready()
    later = await written_key(settings, "after", "read")
    async with httpx.AsyncClient(base_url=api.address, timeout=20) as http:

        async def told(text: str) -> int:
            return (await http.get("/api/v1/workflows", headers={"Authorization": f"Bearer {text}"})).status_code

        async def let_in() -> bool:
            return await told(later.text) == 200

        await until(let_in, "the later key is known", 10)
        assert await told(token.text) == 200
        assert await told(f"wfk_{'a' * 12}_{'0' * 64}") == 401


async def produce(settings: Settings) -> dict[str, set[Place]]:
    """Each record to a partition of every topic, under one key after the other; topic → where they stand."""
    topics = settings.topics
    names = (topics.trigger, topics.events, topics.definitions, topics.completed, topics.keys)
    sent = dict[str, list[asyncio.Future[Any]]]()
    producer = AIOKafkaProducer(**client_kwargs(settings), acks="all", max_request_size=2 * RECORD_BYTES_MAX)
    await producer.start()
    try:
        for topic in names:
            count = len(await producer.partitions_for(topic))
            for n, value in enumerate(RECORDS.values()):
                key = SPOILT if topic == topics.completed else KEYS[n % len(KEYS)]
                if key is None and (value is None or topic in {topics.definitions, topics.keys}):
                    key = SPOILT  # the broker takes none without a key there
                # a cancel is refused where its run would be at home
                partition = home("nobody", count) if b'"nobody"' in (value or b"") else n
                future = await producer.send(topic, value, key=key, partition=partition % count)
                sent.setdefault(topic, []).append(future)
        stand = {topic: await asyncio.gather(*futures) for topic, futures in sent.items()}
        return {topic: {(at.partition, at.offset) for at in found} for topic, found in stand.items()}
    finally:
        await producer.stop()
