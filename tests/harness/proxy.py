"""A way to Kafka on which acknowledgements of appends can be lost (what was sent lands, and the answer never comes), and
appends themselves be held up until long after their sender has given them up."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Final

from tests.harness.forward import connect

PRODUCE: Final = 0
APART_S: Final = 0.5
"""Between two held appends of different connections: the last one, by which a worker takes its partitions anew, lands first."""
FLUSH_S: Final = 1.0
"""For what a client sent behind an append that was held up."""


class KafkaProxy:
    """Passes on frames between clients on a Unix socket and the broker."""

    def __init__(self, path: str, target: str) -> None:
        self._path, self._target = path, target
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._healed = asyncio.Event()
        self._losing = self._holding = False
        self.lost = 0
        """answers that never came, so far"""
        self.held = 0
        """appends that were held up, so far"""

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self._path)

    def lose(self) -> None:
        """From now on appends land and are not acknowledged."""
        self._losing = True
        self._healed.clear()

    def hold(self) -> None:
        """From now on appends are held up. They land when this ends, whatever has become of their sender; the oldest last."""
        self._holding = True
        self._healed.clear()

    def heal(self) -> None:
        """All goes on. Connections that have lost an answer cannot, and are cut."""
        self._losing = self._holding = False
        self._healed.set()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            broker = await connect(self._target)
        except OSError:
            writer.close()
            self._connections.discard(task)
            return
        appends: set[int] = set()
        landed = asyncio.Event()
        landed.set()
        ways = [
            asyncio.ensure_future(self._ask(reader, broker[1], appends, landed)),
            asyncio.ensure_future(self._answer(broker[0], writer, appends)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if not landed.is_set():  # a client that gives up its appends takes none of them back
                await landed.wait()
                await asyncio.wait(ways[:1], timeout=FLUSH_S)
        except asyncio.CancelledError:
            pass  # the end of the proxy; the streams' own callback would report it
        finally:
            for way in ways:
                way.cancel()
            broker[1].close()
            writer.close()
            self._connections.discard(task)

    async def _ask(
        self, client: asyncio.StreamReader, broker: asyncio.StreamWriter, appends: set[int], landed: asyncio.Event
    ) -> None:
        """Pass on what is asked. `landed`: no append of this connection is held up."""
        try:
            while True:
                frame = await _frame(client)
                key, _, correlation = struct.unpack_from(">hhi", frame, 4)
                if key == PRODUCE:
                    appends.add(correlation)
                    if self._holding:
                        self.held += 1
                        number = self.held
                        landed.clear()
                        await self._healed.wait()
                        await asyncio.sleep(APART_S * (self.held - number))
                broker.write(frame)
                await broker.drain()
                landed.set()
        except (OSError, EOFError):
            pass
        finally:
            landed.set()

    async def _answer(self, broker: asyncio.StreamReader, client: asyncio.StreamWriter, appends: set[int]) -> None:
        with suppress(OSError, EOFError):
            while True:
                frame = await _frame(broker)
                (correlation,) = struct.unpack_from(">i", frame, 4)
                if correlation in appends and self._losing:
                    self.lost += 1
                    await self._healed.wait()  # answers come in order: nothing more comes on this connection
                    return
                appends.discard(correlation)
                client.write(frame)
                await client.drain()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack(">i", head)[0])
