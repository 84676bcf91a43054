"""Kafka and PostgreSQL killed, frozen and started again under load, and everything at once."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import orjson
import pytest

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from schemas.identity import home
from schemas.settings import Settings
from tests.conftest import make_settings
from tests.fleet import Fleet, platform, until
from tests.judging import judged, records
from tests.members import produce
from tests.servers import Address
from tests.workload import mix

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


async def test_kafka_is_killed_and_then_frozen(own_kafka: KafkaServer, postgres_dsn: str, tmp_path: Path) -> None:
    """Appends, announcements and commits under way fail or stay without an answer for longer than the append's bound;
    when the broker is back everything goes on by itself."""
    settings = make_settings(own_kafka.address, postgres_dsn, "", tmp_path)
    settings = settings.model_copy(update={"workflow_append_timeout_s": 5.0})
    async with platform(settings, tmp_path, workers=2) as fleet:
        async with fleet.load():
            await fleet.more()
            before = await records(settings)
            await asyncio.to_thread(own_kafka.kill)
            await asyncio.sleep(3)
            await asyncio.to_thread(own_kafka.start)
            await fleet.more()
            own_kafka.freeze()
            await asyncio.sleep(8)
            own_kafka.thaw()
            await fleet.more()
        await judged(fleet, earlier=before)


async def test_postgres_is_killed_under_load(
    kafka: Address, own_postgres: PostgresServer, topic_prefix: str, tmp_path: Path
) -> None:
    """Connections break in the middle of transactions; look-ups and projection go on when the server is back."""
    settings = make_settings(kafka.address, own_postgres.dsn, topic_prefix, tmp_path)
    async with platform(settings, tmp_path, workers=2) as fleet:
        async with fleet.load():
            await fleet.more()
            before = await records(settings)
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.sleep(3)
            await asyncio.to_thread(own_postgres.start)
            await fleet.more()
        await judged(fleet, earlier=before)


async def test_the_store_stands_still(
    kafka: Address, own_postgres: PostgresServer, topic_prefix: str, tmp_path: Path
) -> None:
    """While PostgreSQL answers nothing for 10 s, new starts wait and running runs go on to their ends."""
    settings = make_settings(kafka.address, own_postgres.dsn, topic_prefix, tmp_path)
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(30, mix(kinds=("sleeps", "slow"), wait_s=(6,)))
        running = set(fleet.accepted)
        await until(lambda: all_begun(fleet), "every run has begun", 30)
        own_postgres.freeze()
        frozen_at = asyncio.get_running_loop().time()
        late = await start_directly(settings)
        await until(lambda: all_announced(fleet, running), "runs end while the store stands still", 30)
        assert late not in await subjects(settings, "events")
        await asyncio.sleep(frozen_at + 10 - asyncio.get_running_loop().time())
        own_postgres.thaw()
        fleet.accepted[late] = ("noop", {"n": 1})
        await fleet.trigger(10)
        await judged(fleet)


async def start_directly(settings: Settings) -> str:
    """A start put on the commands' topic without the API; its run id."""
    run = str(uuid.uuid4())
    value = orjson.dumps({"workflow_id": "noop", "payload": {"n": 1}, "run_id": run})
    await produce(settings, settings.topics.trigger, home(run, settings.workflow_partitions), [value])
    return run


async def subjects(settings: Settings, topic: str) -> set[str]:
    """The runs of which a topic speaks."""
    found = (await records(settings))[f"workflow.{topic}"]
    return {(record.key or b"").decode() for log in found.values() for record in log}


async def all_begun(fleet: Fleet) -> bool:
    return fleet.accepted.keys() <= await subjects(fleet.settings, "events")


async def all_announced(fleet: Fleet, runs: set[str]) -> bool:
    return runs <= await subjects(fleet.settings, "completed")


async def test_everything_is_killed_at_once(
    own_kafka: KafkaServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """All processes, Kafka and PostgreSQL die by kill -9; started again, they go on where they were."""
    settings = make_settings(own_kafka.address, own_postgres.dsn, "", tmp_path)
    async with platform(settings, tmp_path, workers=2) as fleet:
        async with fleet.load():
            await fleet.more(60)
            before = await records(settings)
            for member in fleet.members:
                member.kill()
            await asyncio.to_thread(own_kafka.kill)
            await asyncio.to_thread(own_postgres.kill)
            for member in list(fleet.members):
                fleet.start(member.role)
            await asyncio.to_thread(own_postgres.start)
            await asyncio.to_thread(own_kafka.start)
            await fleet.more()
        judge = await judged(fleet, earlier=before)
        assert judge.counts["StepInterrupted"] >= 1
