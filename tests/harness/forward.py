"""`python -m tests.harness.forward LISTEN=TARGET …`: connections are passed on, byte by byte, until the process ends.

An end is `tcp:HOST:PORT` or `unix:PATH`. Paths are the same in every network namespace, so a Unix socket leads out of one.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

CHUNK = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(target: str) -> Streams:
    kind, _, where = target.partition(":")
    if kind == "unix":
        return await asyncio.open_unix_connection(where)
    host, _, port = where.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on until the end of one side."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


async def both_ways(one: Streams, other: Streams) -> None:
    """Pass on in both directions until one of them ends; then both connections end."""
    pumps = [asyncio.ensure_future(pump(one[0], other[1])), asyncio.ensure_future(pump(other[0], one[1]))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for task in pumps:
        task.cancel()
    for _, writer in (one, other):
        writer.close()


async def listen(where: str, target: str) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await both_ways((reader, writer), await connect(target))
        except (OSError, asyncio.CancelledError):  # nobody is there; or this is the end, which the streams would report
            writer.close()

    kind, _, address = where.partition(":")
    if kind == "unix":
        return await asyncio.start_unix_server(connected, address)
    host, _, port = address.rpartition(":")
    return await asyncio.start_server(connected, host, int(port))


async def main(pairs: list[str]) -> None:
    servers = [await listen(*pair.split("=", 1)) for pair in pairs]
    print("listening", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
