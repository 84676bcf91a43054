"""Connections to a real Kafka that break at the worst moment."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import streams.kafka  # noqa: F401 - what is tested: it changes how the client's connections send
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
