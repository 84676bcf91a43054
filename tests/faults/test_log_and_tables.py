"""The log is not the one that the tables know, or the group has forgotten how far it was."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from ops.embedded.kafka import KafkaServer
from ops.parts import OwnRole, environment
from schemas.identity import home
from schemas.settings import Settings
from tests.conftest import make_settings
from tests.fleet import Fleet, Member, platform, until
from tests.judging import differences, judged, level, records
from tests.kafka_dump import dump
from tests.servers import kafka_server
from tests.workload import mix

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


async def test_group_offsets_are_gone(settings: Settings, tmp_path: Path) -> None:
    """Workers of a group that remembers nothing read all commands and ends again: no run is started twice, ends are
    announced again as they were, and what was under way goes on."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(40)
        await fleet.ended()
        first = await records(settings)
        await level(fleet, first)
        await fleet.trigger(20, mix(kinds=("sleeps", "slow"), wait_s=(4,)))
        assert await fleet.of("worker")[0].stop() == 0
        anew = {"kafka_consumer_group": f"{settings.kafka_consumer_group}.anew"}
        fleet.settings = fleet.settings.model_copy(update=anew)
        fleet.start("worker")
        await fleet.owned()
        judge = await judged(fleet, earlier=first)
        told = sum(map(len, judge.topics["workflow.completed"].values()))
        assert told >= len(fleet.accepted) + 40


async def test_the_log_was_cut(own_kafka: KafkaServer, postgres_dsn: str, tmp_path: Path) -> None:
    """A power failure took the end of one partition of the log: worker and projector leave that one alone and say what to
    do, the other goes on, and after a rebuild so does the cut one."""
    settings = make_settings(own_kafka.address, postgres_dsn, "", tmp_path)
    settings = settings.model_copy(update={"workflow_partitions": 2})
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(30)
        await judged(fleet)
        for member in fleet.members:
            member.kill()
        await asyncio.to_thread(own_kafka.kill)
        kept = cut(own_kafka.folder / "data" / f"{settings.topics.events}-0")
        await asyncio.to_thread(own_kafka.start)
        api, worker, projector = start(fleet, "api", "worker", "projector")
        await until(lambda: says(worker, "partition 0", "workflow rebuild"), "the worker stopped the partition", 60)
        await until(lambda: says(projector, "log", "workflow rebuild"), "the projector stopped the partition", 60)
        waits, goes_on = await trigger_at(api, 0), await trigger_at(api, 1)
        await until(lambda: is_announced(settings, goes_on), "the other partition goes on", 60)
        topics = await records(settings)
        assert len(topics["workflow.events"][0]) == kept
        assert not await is_announced(settings, waits)
        assert rebuild(settings) == 0
        await until(lambda: is_announced(settings, waits), "the cut partition goes on", 60)
        await level(fleet, await records(settings))
        assert await differences(settings) == []
        assert fleet.deaths() == []


async def test_another_cluster_answers(own_kafka: KafkaServer, postgres_dsn: str, tmp_path: Path) -> None:
    """The tables of one cluster under the log of another: every partition is left alone, nothing is written."""
    settings = make_settings(own_kafka.address, postgres_dsn, "", tmp_path)
    settings = settings.model_copy(update={"workflow_partitions": 2})
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(20)
        await judged(fleet)
        for member in fleet.members:
            member.kill()
        with kafka_server() as other:
            fleet.settings = fleet.settings.model_copy(update={"kafka_bootstrap_servers": other.address})
            worker, projector = start(fleet, "worker", "projector")
            await until(lambda: says(worker, "partition 0", "workflow rebuild"), "the worker stopped", 60)
            await until(lambda: says(worker, "partition 1", "workflow rebuild"), "in both partitions", 60)
            await until(lambda: says(projector, "log", "workflow rebuild"), "the projector stopped", 60)
            assert not any((await records(fleet.settings))["workflow.events"].values())


def start(fleet: Fleet, *roles: OwnRole) -> list[Member]:
    return [fleet.start(role) for role in roles]


async def says(member: Member, part: str, what: str) -> bool:
    """Whether /ready says this of a part."""
    assert member.alive, member.log
    try:
        return what in (await member.report()).get(part, "")
    except httpx.TransportError:
        return False


async def trigger_at(api: Member, partition: int) -> str:
    """Start a run whose home, of two, is this partition; its id."""
    await api.ready()
    async with httpx.AsyncClient(base_url=api.address, timeout=20) as http:
        while True:
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            answer = await http.post("/api/v1/trigger", json={"workflow_id": "noop", "payload": {}}, headers=headers)
            assert answer.status_code == 202, answer.text
            run: str = answer.json()["run_id"]
            if home(run, 2) == partition:
                return run


async def is_announced(settings: Settings, run: str) -> bool:
    topics = await dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, ["completed"])
    return any(record.key == run.encode() for log in topics["workflow.completed"].values() for record in log)


def rebuild(settings: Settings) -> int:
    """`workflow rebuild`, and its exit code."""
    line = [sys.executable, "-P", "-m", "ops", "rebuild"]
    return subprocess.run(line, env=dict(environment(settings)), timeout=60, check=False).returncode


def cut(folder: Path) -> int:
    """Take the last third of its batches from a partition's files; how many records are left."""
    log = folder / f"{0:020}.log"
    data, starts = log.read_bytes(), [(0, 0)]
    while starts[-1][0] < len(data):
        at, _ = starts[-1]
        base, length = struct.unpack_from(">qi", data, at)
        (last,) = struct.unpack_from(">i", data, at + 23)
        starts.append((at + 12 + length, base + last + 1))
    end, offset = starts[len(starts) * 2 // 3]
    log.write_bytes(data[:end])
    return offset
