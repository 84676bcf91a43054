"""Connections to a real Kafka that break at the worst moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from aiokafka.client import ConnectionGroup
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka import reader_consumer, stop_client
from streams.lifecycle import EXIT_CRASHED, run_app
from streams.transport import build_app
from tests.members import Recorder, kafka_settings, until
from tests.servers import Address


def test_a_send_on_a_broken_connection_is_a_lost_connection(kafka: Address) -> None:
    """On uvloop a connection that was cut before its owner knows of it raises what the client takes for a lost broker."""

    async def send() -> None:
        host, _, port = kafka.address.rpartition(":")
        connection = await create_conn(host, int(port))
        try:
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # closed, and the reader is not told yet
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))
            assert not connection.connected()
        finally:
            connection.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())


async def test_a_consumer_closes_its_connections_however_its_stop_ends(kafka: Address, topic_prefix: str) -> None:
    """The client gives up stopping when a fetch waits for its next try, and leaves what it holds to the garbage collector."""
    consumer = reader_consumer(await kafka_settings(kafka.address, topic_prefix))
    await consumer.start()
    client, waiting = consumer._client, asyncio.ensure_future(asyncio.sleep(3600))
    try:
        assert await client.ready(client.get_random_node())
        consumer._fetcher._pending_tasks.add(waiting)  # as a fetch does that has failed
        assert any(connection.connected() for connection in client._conns.values())
    finally:
        await stop_client(consumer)
    assert waiting.cancelled()
    assert not any(connection.connected() for connection in client._conns.values())
    assert client._sync_task is None


async def test_a_closed_client_keeps_no_connection_that_it_was_making(kafka: Address, topic_prefix: str) -> None:
    consumer = reader_consumer(await kafka_settings(kafka.address, topic_prefix))
    await consumer.start()
    client = consumer._client
    connecting = asyncio.ensure_future(client._get_conn(client.get_random_node(), group=ConnectionGroup.COORDINATION))
    await asyncio.sleep(0)
    await client.close()
    await consumer.stop()
    assert await connecting is None
    assert not any(connection.connected() for connection in client._conns.values())


async def test_a_member_without_its_client_ends_while_nothing_flows(kafka: Address, topic_prefix: str) -> None:
    """What ends the client's part in the group ends the member, also between two assignments, when nothing is fetched."""
    settings = await kafka_settings(kafka.address, topic_prefix)
    app = build_app(settings, group=f"{topic_prefix}g", topics=[settings.topics.events], handler=Recorder())
    running = asyncio.ensure_future(run_app(app, asyncio.Event(), grace_s=30))
    await until(lambda: app.group.assignment)
    thread: Any = app.group._link
    thread.consumer.stop_flow()
    await asyncio.sleep(2)  # the fetch that was under way is over
    thread._consumer._coordinator._pending_exception = KafkaError("the coordination ended")
    assert await asyncio.wait_for(running, 30) == EXIT_CRASHED
