"""A worker as a process: it carries out steps, ends in order, waits for its servers and hands on what it leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from ops.embedded.kafka import KafkaServer
from schemas.settings import Settings
from tests.conftest import make_settings
from tests.fleet import Fleet, Member, platform, until
from tests.judging import judged
from tests.workload import mix

pytestmark = pytest.mark.slow


async def test_steps_are_carried_out_in_order(settings: Settings, tmp_path: Path) -> None:
    """Delays wait, webhooks call, values flow from step to step, a step that fails for good ends the run as FAILED."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(4, mix(kinds=("sleeps", "computes", "flaky", "refused"), wait_s=(0.2,)))
        await judged(fleet)
        runs = {start[0]: run for run, start in fleet.accepted.items()}
        calls = [(request["headers"]["idempotency-key"], request["body"]) for request in fleet.deliveries()]
        assert [body["twice"] for key, body in calls if key == f"{runs['computes']}/call"] == [2]
        assert [body["seen"] for key, body in calls if key == f"{runs['computes']}/tell"] == [[1, 2, 3]]
        assert len([key for key, _ in calls if key == f"{runs['flaky']}/call"]) == 3
        assert len([key for key, _ in calls if key == f"{runs['refused']}/call"]) == 1
        async with httpx.AsyncClient(base_url=fleet.of("api")[0].address) as http:
            shown = (await http.get(f"/api/v1/runs/{runs['refused']}")).json()
        assert (shown["status"], shown["error"]["code"]) == ("FAILED", "http_status")
        assert [step["attempts"] for step in shown["steps"][:2]] == [1, 1]


async def test_a_stop_lets_webhooks_end(settings: Settings, tmp_path: Path) -> None:
    """SIGTERM with webhooks under way: they end and are recorded, the exit code is 0, and the next worker calls none of
    them again."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(20, mix(kinds=("slow",), wait_s=(3,)))
        await until(lambda: calls_under_way(fleet, 20), "all webhooks are called", 30)
        assert await fleet.of("worker")[0].stop() == 0
        fleet.start("worker")
        judge = await judged(fleet)
        assert judge.counts["StepInterrupted"] == 0
        calls = Counter(request["headers"]["idempotency-key"] for request in fleet.deliveries())
        assert set(calls.values()) == {1}


async def calls_under_way(fleet: Fleet, count: int) -> bool:
    return len(fleet.deliveries()) >= count


async def test_a_worker_waits_for_its_servers(own_kafka: KafkaServer, postgres_dsn: str, tmp_path: Path) -> None:
    """Started while Kafka is away it waits, not ready, and begins by itself when Kafka comes."""
    settings = make_settings(own_kafka.address, postgres_dsn, "", tmp_path)
    async with platform(settings, tmp_path, workers=0) as fleet:
        await asyncio.to_thread(own_kafka.stop)
        worker = fleet.start("worker")
        await until(lambda: says(worker, "the topics are not there yet"), "it says what it waits for", 30)
        assert not await worker.is_ready()
        await asyncio.to_thread(own_kafka.start)
        await worker.ready()
        await fleet.trigger(5)
        await judged(fleet)


async def says(member: Member, what: str) -> bool:
    return what in member.log.read_text()
