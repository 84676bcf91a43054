"""`python -m tests.harness.receiver PORT JOURNAL`: the target of all webhooks, in a process of its own, with a journal.

`/bad/HOW/KEY/TIMES` misbehaves TIMES times for each KEY and then answers like any other path; `/bad/HOW` always does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ops.echo import Echo, Received

HANG_S: Final = 60.0
HUGE_BYTES: Final = 1024 * 1024 * 1024
_CHUNK: Final = b"x" * 65_536

Way = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def _hang(_: asyncio.StreamWriter) -> None:
    """Not a byte."""
    await asyncio.sleep(HANG_S)


async def _drip(writer: asyncio.StreamWriter) -> None:
    """A byte a second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _reset(writer: asyncio.StreamWriter) -> None:
    """The connection breaks."""
    writer.transport.abort()


async def _noise(writer: asyncio.StreamWriter) -> None:
    """This is no HTTP."""
    writer.write(b"\x16\x03\x01 garbage \xff\xfe\r\n\r\n")


async def _garbage(writer: asyncio.StreamWriter) -> None:
    """JSON by its type only."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{]\x00\xff\xfe'}}{")


async def _huge(writer: asyncio.StreamWriter) -> None:
    """A gigabyte."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(HUGE_BYTES // len(_CHUNK)):
        writer.write(b"%x\r\n%s\r\n" % (len(_CHUNK), _CHUNK))
        await writer.drain()


async def _redirect(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n")


async def _broken(writer: asyncio.StreamWriter) -> None:
    """An error of its own, told in what is not the JSON that it says it is."""
    writer.write(
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n<html>500"
    )


async def _limited(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")


WAYS: Final[dict[str, Way]] = {
    "hang": _hang,
    "drip": _drip,
    "reset": _reset,
    "noise": _noise,
    "garbage": _garbage,
    "huge": _huge,
    "redirect": _redirect,
    "limited": _limited,
    "broken": _broken,
}


class Receiver(Echo):
    """An echo receiver with bad manners."""

    async def _answered(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        match request.path.strip("/").split("/"):
            case ["bad", how]:
                way = WAYS.get(how)
            case ["bad", how, key, times]:
                way = WAYS[how] if self._fails(f"{how}/{key}", int(times)) else None
            case _:
                way = None
        if way is None:
            return await super()._answered(request, writer)
        with suppress(OSError):
            await way(writer)
        return False


async def main(port: str, journal: str) -> None:
    async with Receiver(port=int(port), journal=Path(journal)) as receiver:
        print(receiver.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    arguments: list[Any] = sys.argv[1:]
    asyncio.run(main(*arguments))
