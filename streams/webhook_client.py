"""The HTTP client that all webhooks of a process share: its pool of guarded connections, and the way through a proxy."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from schemas.errors import BadSetting
from streams.allowed import AllowList
from streams.guard import Guard, Sockets
from streams.look_ups import LookUp, NameUnknown


def new_client(
    *,
    connections_max: int,
    allowed: AllowList,
    proxy: httpcore.Proxy | None = None,
    keepalive_s: float = 5.0,
    look_up: LookUp | None = None,
) -> httpx.AsyncClient:
    """A client without cookies and redirects. Of the environment it takes SSL_CERT_FILE and SSL_CERT_DIR, no proxy."""
    transport = _GuardedTransport(Guard(allowed, look_up), connections_max, keepalive_s, proxy)
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        timeout=None,  # noqa: S113 - who calls bounds every request as a whole
        headers={"User-Agent": "workflow-platform", "Accept-Encoding": "gzip, deflate"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
    )


def proxy_of(text: str) -> httpcore.Proxy | None:
    """The proxy that WEBHOOK_PROXY names, None when it is empty. Raises BadSetting, without the password."""
    if not text:
        return None
    try:
        found = httpx.Proxy(text)
    except (httpx.InvalidURL, ValueError):
        found = None
    if found is None or found.url.scheme not in {"http", "https"} or not found.url.host:
        reason = "http://HOST:PORT or https://HOST:PORT is needed, with USER:PASSWORD@ before the host where the proxy asks for them"
        raise BadSetting(name="WEBHOOK_PROXY", value="***", reason=reason)
    url = httpcore.URL(scheme=found.url.raw_scheme, host=found.url.raw_host, port=found.url.port, target=b"/")
    return httpcore.Proxy(url, found.raw_auth, ssl_context=_tls() if found.url.scheme == "https" else None)


class _GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over a pool of httpcore whose connections are guarded.

    A proxy connects by itself. Then the guard judges what names resolve to here; what does not resolve here is left to it.
    """

    def __init__(self, guard: Guard, connections_max: int, keepalive_s: float, proxy: httpcore.Proxy | None) -> None:
        self._guard, self._by_proxy = guard, proxy is not None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            proxy=proxy,
            max_connections=connections_max,
            keepalive_expiry=keepalive_s,
            network_backend=guard if proxy is None else Sockets(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if self._by_proxy:
            with suppress(NameUnknown):
                await self._guard.judged(url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80))
        assert isinstance(request.stream, httpx.AsyncByteStream)
        to_send = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            response = await self._pool.handle_async_request(to_send)
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """One for the process: reading all authorities takes 20 ms."""
    return httpx.create_ssl_context()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """What httpcore raises, as httpx names it; with a reason that holds no address and nothing of what came."""
    try:
        yield
    except httpcore.TimeoutException:
        raise httpx.ConnectTimeout("no connection in time") from None
    except httpcore.ProxyError as error:
        raise httpx.ProxyError(f"the proxy answered {error}") from None
    except httpcore.ProtocolError:
        raise httpx.RemoteProtocolError("what came is no whole HTTP answer") from None
    except httpcore.NetworkError as error:
        raise httpx.NetworkError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """The system's or TLS's own words for a broken connection."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLError):
            message = getattr(found, "verify_message", None) or found.reason or "the handshake failed"
            return f"TLS: {message.partition(',')[0]}"  # behind a comma stands the host
        if isinstance(found, OSError) and found.errno:
            return os.strerror(found.errno)
        found = found.__cause__ or found.__context__
    return "the connection broke"
