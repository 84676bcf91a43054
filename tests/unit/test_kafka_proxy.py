"""The harness's way to Kafka: appends that are held up land late, and an end of the broker is seen by its clients."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness.proxy import PRODUCE, KafkaProxy
from tests.members import until

FETCH = 1


def frame(key: int, correlation: int) -> bytes:
    body = struct.pack(">hhi", key, 0, correlation)
    return struct.pack(">i", len(body)) + body


class Broker:
    """Takes frames and answers none of them."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while head := await reader.read(12):
                self.asked.append(struct.unpack(">ihhi", head)[3])
        finally:
            writer.close()

    async def until(self, *asked: int) -> None:
        await until(lambda: sorted(self.asked) == sorted(asked), f"{asked} landed")


@asynccontextmanager
async def a_proxy(folder: Path) -> AsyncIterator[tuple[KafkaProxy, Broker, str]]:
    broker, path = Broker(), str(folder / "proxy.sock")
    server = await asyncio.start_unix_server(broker.serve, str(folder / "broker.sock"))
    proxy = KafkaProxy(path, f"unix:{folder / 'broker.sock'}")
    await proxy.start()
    try:
        yield proxy, broker, path
    finally:
        await proxy.close()
        server.close()


async def test_held_appends_land_after_their_sender_left(tmp_path: Path) -> None:
    """All that it had sent, in its order."""
    async with a_proxy(tmp_path) as (proxy, broker, path):
        proxy.hold()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(frame(PRODUCE, 1) + frame(PRODUCE, 2))
        await writer.drain()
        await until(lambda: proxy.held, "an append is held up")
        writer.close()
        await asyncio.sleep(0.1)
        assert broker.asked == []
        proxy.heal()
        await broker.until(1, 2)


async def test_the_oldest_of_held_appends_lands_last(tmp_path: Path) -> None:
    """What a sender had given up comes after that by which it began anew, on another connection."""
    async with a_proxy(tmp_path) as (proxy, broker, path):
        proxy.hold()
        writers = []
        for number in (1, 2):
            _, writer = await asyncio.open_unix_connection(path)
            writers.append(writer)
            writer.write(frame(PRODUCE, number))
            await until(lambda: proxy.held == number, f"{number} is held up")  # noqa: B023
        writers[0].close()
        proxy.heal()
        await broker.until(1, 2)
        assert broker.asked == [2, 1]
        writers[1].close()


async def test_the_end_of_the_broker_is_seen_while_appends_are_held(tmp_path: Path) -> None:
    """A consumer that waits for an answer hears that none will come, and connects again."""
    async with a_proxy(tmp_path) as (proxy, broker, path):
        proxy.hold()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(frame(FETCH, 1))
        await broker.until(1)
        for connection in broker.writers:
            connection.close()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
