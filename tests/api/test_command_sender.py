"""Commands on a real Kafka: acknowledged, refused before they were sent, or of unknown outcome, always in bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from api.commands import CONNECT_WAIT_S, KafkaCommandSender
from api.ports import Outgoing
from ops.embedded.kafka import KafkaServer
from schemas.errors import BrokerAway, OutcomeUnknown
from schemas.identity import home
from schemas.ports import TP
from schemas.settings import Settings
from streams.kafka import LogReader
from streams.topics import ensure_topics
from tests import servers

SLACK_S = 5.0
"""What a busy machine may add to a bound."""


@pytest.fixture
async def ours(kafka: servers.Address, topic_prefix: str) -> Settings:
    settings = Settings(kafka_bootstrap_servers=kafka.address, workflow_topic_prefix=topic_prefix)
    await ensure_topics(settings)
    return settings


@pytest.fixture
async def alone(own_kafka: KafkaServer) -> Settings:
    """A broker that may be harmed."""
    settings = Settings(kafka_bootstrap_servers=own_kafka.address, workflow_partitions=1, workflow_send_timeout_s=2.0)
    await ensure_topics(settings)
    return settings


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[KafkaCommandSender]:
    sender = KafkaCommandSender(settings)
    sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


def command(run_id: str) -> Outgoing:
    return Outgoing(run_id, orjson.dumps({"run_id": run_id}))


async def stored(settings: Settings) -> dict[int, list[str]]:
    """The run ids that stand in each partition of `workflow.trigger`, in order."""
    found: dict[int, list[str]] = {}
    async with LogReader(settings) as reader:
        tps = [TP(settings.topics.trigger, n) for n in range(settings.workflow_partitions)]
        for tp, end in (await reader.end_offsets(tps)).items():
            async for records in reader.read(tp, 0, end):
                for record in records:
                    run_id = orjson.loads(record.value or b"")["run_id"]
                    assert record.key == run_id.encode()
                    found.setdefault(tp.partition, []).append(run_id)
    return found


async def test_a_command_goes_to_its_run_s_home(ours: Settings) -> None:
    """The position is just above the record, in the partition of murmur2 of the id."""
    async with sending(ours) as sender:
        positions = [await sender.send(command(f"r{n}")) for n in range(20)]
        assert sender.away is None
    found = await stored(ours)
    for n, position in enumerate(positions):
        ((topic, partition), offset), *others = position.items()
        assert (topic, others) == ("t", [])
        assert partition == home(f"r{n}", ours.workflow_partitions)
        assert found[partition][offset - 1] == f"r{n}"


async def test_many_commands_have_one_position(ours: Settings) -> None:
    """It is above the last one of each partition."""
    async with sending(ours) as sender:
        position = await sender.send_many([command(f"r{n}") for n in range(500)])
    found = await stored(ours)
    assert sum(map(len, found.values())) == 500
    assert position == {("t", partition): len(ids) for partition, ids in found.items()}


@pytest.mark.parametrize(("taken", "error"), [(0, BrokerAway), (1, OutcomeUnknown)])
async def test_a_batch_that_is_refused_in_the_middle(
    ours: Settings, monkeypatch: pytest.MonkeyPatch, taken: int, error: type[Exception]
) -> None:
    """Refused before any part of it was sent it is refused cleanly, after that its outcome is unknown."""
    async with sending(ours) as sender:
        await sender.send(command("first"))
        producer = sender._producer
        assert producer is not None
        send_many, parts = producer.send_many, [0]

        def full(*args: Any) -> None:
            parts[0] += 1
            if parts[0] > taken:
                raise BrokerAway(address="kafka", reason="the buffer is full")
            send_many(*args)

        monkeypatch.setattr(producer, "send_many", full)
        with pytest.raises(error, match="the buffer is full"):
            await sender.send_many([command(f"r{n}") for n in range(50)])


async def test_without_a_broker_nothing_is_written(tmp_path: object) -> None:
    """A clean refusal within the bound, also when there never was a connection."""
    async with sending(Settings(kafka_bootstrap_servers="127.0.0.1:1")) as sender:
        began = time.monotonic()
        with pytest.raises(BrokerAway, match="nothing was written"):
            await sender.send(command("r1"))
        assert time.monotonic() - began < CONNECT_WAIT_S + SLACK_S
        assert sender.away is not None


@pytest.mark.slow
async def test_a_broker_that_dies_and_comes_back(alone: Settings, own_kafka: KafkaServer) -> None:
    """While it is dead sends are refused, cleanly; when it is back they go on by themselves."""
    async with sending(alone) as sender:
        await sender.send(command("before"))
        await asyncio.to_thread(own_kafka.kill)
        for _ in range(3):
            with pytest.raises(BrokerAway):
                await sender.send(command("dead"))
        await asyncio.to_thread(own_kafka.start)
        await until_sent(sender, "after")
    assert await stored(alone) == {0: ["before", "after"]}


@pytest.mark.slow
async def test_a_frozen_broker_leaves_one_outcome_unknown(alone: Settings, own_kafka: KafkaServer) -> None:
    """What had begun is of unknown outcome after the bound; what comes later is refused without being sent, and once the
    broker goes on nothing of either is written behind the answers' back but what it had received before."""
    async with sending(alone) as sender:
        await sender.send(command("before"))
        own_kafka.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                await sender.send(command("unknown"))
            assert time.monotonic() - began < alone.workflow_send_timeout_s + SLACK_S
            for _ in range(3):
                with pytest.raises(BrokerAway, match="nothing was written"):
                    await sender.send(command("refused"))
            assert sender.away is not None
        finally:
            own_kafka.thaw()
        await until_sent(sender, "after")
    ids = (await stored(alone))[0]
    assert ids in (["before", "unknown", "after"], ["before", "after"])


@pytest.mark.slow
async def test_a_batch_of_which_a_part_is_unknown_is_unknown(alone: Settings, own_kafka: KafkaServer) -> None:
    """All of it is called unknown."""
    async with sending(alone) as sender:
        await sender.send(command("before"))
        own_kafka.freeze()
        try:
            with pytest.raises(OutcomeUnknown):
                await sender.send_many([command(f"r{n}") for n in range(50)])
        finally:
            own_kafka.thaw()


async def until_sent(sender: KafkaCommandSender, run_id: str) -> None:
    """Send until it is taken: the connection needs a moment."""
    async with asyncio.timeout(60):
        while True:
            try:
                await sender.send(command(run_id))
            except BrokerAway:
                await asyncio.sleep(0.1)
            else:
                return
