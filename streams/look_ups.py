"""Names to addresses, by the system, in threads that nothing else waits for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Final

LOOK_UPS_MAX: Final = 32

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → the addresses as texts, best first. Raises NameUnknown when there are none."""


class NameUnknown(OSError):
    """The name has no address now."""


class LookUps:
    """A LookUp with a thread for each question, so many at once.

    The loop's own threads are few, and connections to Kafka and to the store need them: a name server that does not answer
    would hold them all. Nor does the end of the process wait for these.
    """

    def __init__(self, at_once: int = LOOK_UPS_MAX) -> None:
        self._turns = asyncio.Semaphore(at_once)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()

        def settle(found: Sequence[str] | NameUnknown) -> None:
            self._turns.release()
            if answer.done():  # nobody waits any more
                return
            if isinstance(found, NameUnknown):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def ask() -> None:
            found = _asked(host, port)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, found)

        Thread(target=ask, name="look-up", daemon=True).start()
        return await answer


def _asked(host: str, port: int) -> Sequence[str] | NameUnknown:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return NameUnknown(f"its name cannot be resolved ({error.strerror or type(error).__name__})")
    except ValueError:
        return NameUnknown("its name cannot be resolved (it is none)")
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
