"""Starts and ends of a member against a real Kafka, or against none."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ops.embedded.kafka import KafkaServer
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.lifecycle import run_app
from streams.transport import build_app
from tests.members import Recorder, child, events, kafka_settings, member, produce, until
from tests.servers import Address


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.long
async def test_a_start_waits_for_an_absent_broker(own_kafka: KafkaServer, caplog: pytest.LogCaptureFixture) -> None:
    """Each failed try says so in a line; when the broker comes the member joins, by the same group object."""
    settings = await kafka_settings(own_kafka.address, "own.")
    await produce(settings, settings.topics.events, 0, [b"x"])
    own_kafka.kill()
    handler = Recorder()
    async with member(settings, handler) as group:
        await until(lambda: caplog.text.count("Trying again in") >= 2)
        assert group.assignment == frozenset()
        own_kafka.start()
        await until(lambda: handler.offsets[events(settings)] == [0])
        assert await group.commit({events(settings): 1})


async def test_a_stop_ends_the_wait_for_a_broker() -> None:
    """Told to stop while Kafka is away, a member ends at once, cleanly, and leaves no thread behind."""
    settings = Settings(kafka_bootstrap_servers=unused_address())
    app = build_app(settings, group="g", topics=[settings.topics.events], handler=Recorder())
    stop = asyncio.Event()
    before = threading.active_count()
    running = asyncio.ensure_future(run_app(app, stop, grace_s=30))
    await asyncio.sleep(0.5)
    stop.set()
    assert await running == 0
    assert threading.active_count() == before


async def test_a_stop_leaves_nothing_behind(kafka: Address, topic_prefix: str) -> None:
    """After the end of a member no thread and no task of its is left, and the group has let go of it."""
    settings = await kafka_settings(kafka.address, topic_prefix)
    threads, tasks = threading.active_count(), asyncio.all_tasks()
    async with member(settings, Recorder()) as group:
        await until(lambda: group.assignment)
    assert threading.active_count() == threads
    await until(lambda: asyncio.all_tasks() == tasks)
    async with member(settings, Recorder()) as group:
        await until(lambda: group.assignment)  # at once: a member that had not left would hold them for a session


async def test_what_a_handler_raises_at_an_assignment_ends_the_member(
    kafka: Address, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Exit code 1 and the reason in the log."""
    settings = await kafka_settings(kafka.address, topic_prefix)

    def refuse(_: frozenset[TP]) -> Sequence[TP]:
        raise LookupError("no state for these")

    app = build_app(
        settings, group=settings.kafka_consumer_group, topics=[settings.topics.events], handler=Recorder(paused=refuse)
    )
    assert await run_app(app, asyncio.Event(), grace_s=30) == 1
    assert "no state for these" in caplog.text


async def test_what_a_handler_raises_at_the_end_is_told(
    kafka: Address, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that cannot let go does not keep the member from stopping; the exit code says that it was not clean."""
    settings = await kafka_settings(kafka.address, topic_prefix)

    class Clinging(Recorder):
        async def revoked(self) -> None:
            raise LookupError("cannot let go")

    topics = [settings.topics.events]
    app = build_app(settings, group=settings.kafka_consumer_group, topics=topics, handler=Clinging())
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_app(app, stop, grace_s=30))
    await until(lambda: app.group.assignment)
    stop.set()
    assert await running == 1
    assert "cannot let go" in caplog.text


async def test_sigterm_during_the_start_is_a_clean_end(kafka: Address, topic_prefix: str, tmp_path: Path) -> None:
    """A process that is told to stop before it has joined ends with code 0."""
    settings = await kafka_settings(kafka.address, topic_prefix)
    with child(settings, "telling", tmp_path) as started:
        await until(lambda: started.said("started"))
        started.send_signal(signal.SIGTERM)
        assert await started.exit_code() == 0
        assert started.said("ended") == [{"what": "ended", "code": 0}]


async def test_records_are_those_of_the_log(kafka: Address, topic_prefix: str) -> None:
    """Offset, broker's time in milliseconds, key and value of each record, as the port promises them."""
    settings = await kafka_settings(kafka.address, topic_prefix)
    seen: list[Record] = []
    handler = Recorder(on_batch=lambda _, records: seen.extend(records))
    await produce(settings, settings.topics.events, 1, [b"value"])
    async with member(settings, handler):
        await until(lambda: seen)
    assert [(record.offset, record.key, record.value) for record in seen] == [(0, b"key", b"value")]
    assert seen[0].timestamp > 1_600_000_000_000
