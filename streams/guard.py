"""The sockets of webhooks: a name is looked up once, every address of the answer is judged, and the number is connected to.

So it does not matter how a URL writes its host, nor what the name will resolve to a moment later. A connection that is
kept stays bound to the address that was judged when it was made.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

import httpcore

from schemas.errors import WorkflowError
from streams.addresses import IPAddress
from streams.allowed import AllowList, Denial, denial
from streams.look_ups import LookUp, LookUps, NameUnknown

ADDRESS_S: Final = 5.0
"""How long each address but the last is tried."""


class AddressDenied(WorkflowError):
    """{shown} is not called: its host is not public, or resolves to an address that is not. The workers' setting WEBHOOK_ALLOW
    makes exceptions."""

    def __init__(self, denied: Denial, shown: str = "The URL") -> None:
        """`denied` is for the worker's log alone: it would tell whoever asks about the network."""
        super().__init__(shown=shown)
        self.denied = denied


class Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed when its TLS handshake is cancelled; httpcore's own would stay open."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Sockets(httpcore.AsyncNetworkBackend):
    """Connections to any host."""

    def __init__(self) -> None:
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return Stream(await self._sockets.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._sockets.sleep(seconds)


class Guard(Sockets):
    """Connections to hosts whose addresses are public or allowed. AddressDenied for others, before a packet is sent to them."""

    def __init__(self, allowed: AllowList, look_up: LookUp | None = None) -> None:
        super().__init__()
        self._allowed, self._look_up = allowed, look_up or LookUps()

    async def judged(self, host: str, port: int) -> Sequence[IPAddress]:
        """All addresses of a host, at least one. Raises AddressDenied, NameUnknown."""
        addresses = [ip_address(text) for text in await self._look_up(host, port)]
        if not addresses:
            raise NameUnknown("its name cannot be resolved (it has no address)")
        denied = denial(host, port, addresses, self._allowed)
        if denied is not None:
            raise AddressDenied(denied)
        return addresses

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; one that is silent leaves at least half of the time to the others."""
        loop = asyncio.get_running_loop()
        ends = None if timeout is None else loop.time() + timeout
        *others, last = await self.judged(host, port)
        for address in others:
            share_s = ADDRESS_S if ends is None else min(ADDRESS_S, (ends - loop.time()) / 2)
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await super().connect_tcp(str(address), port, share_s, local_address, socket_options)
        rest_s = None if ends is None else ends - loop.time()
        return await super().connect_tcp(str(last), port, rest_s, local_address, socket_options)
