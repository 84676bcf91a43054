"""The webhook step: one HTTP request, read up to a bound within a deadline; whatever happens is a result.

Succeeded with 2xx: {"status": 200, "headers": {lower-case name: value}, "body": JSON value or text, null when empty}.
Failed, retryable: no connection, a broken or late answer, 429 and 5xx (with the wait that Retry-After asks for).
Failed for good: every other status (redirects are not followed), an answer that is too large or refused, a bad config.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from schemas import jsontext
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.jsontext import JSON
from streams.webhook_body import BodyRefused, decoded, read, text_of

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
RETRY_AFTER_MAX_S: Final = 86_400.0
ERROR_BODY_BYTES_MAX: Final = 2_048
HEADERS_MAX: Final = 100
HEADER_BYTES_MAX: Final = 16_384
_ERROR_BODY_S: Final = 1.0
_SHOWN_CHARS: Final = 200

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = frozenset(
    "host content-length connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade expect idempotency-key".split()
)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What one attempt sends. `url`, `method`, `headers` and `body` are as the config has them, not yet checked.

    `idempotency_key` is the same for every attempt of a step of a run. `timeout_s` bounds the attempt as a whole,
    `response_bytes_max` what is read and kept of the answer.
    """

    url: JSON
    idempotency_key: str
    timeout_s: float
    response_bytes_max: int
    method: JSON = "POST"
    headers: JSON = None
    body: JSON = None

    @classmethod
    def of(
        cls, config: Mapping[str, JSON], *, idempotency_key: str, timeout_s: float, response_bytes_max: int
    ) -> WebhookRequest:
        """The request of a step's config, its expressions replaced."""
        return cls(
            url=config.get("url"),
            method=config.get("method", "POST"),
            headers=config.get("headers"),
            body=config.get("body"),
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
            response_bytes_max=response_bytes_max,
        )


class _ConfigInvalid(Exception):
    """The request cannot be made of its config."""


def new_client(*, connections_max: int, keepalive_s: float = 5.0) -> httpx.AsyncClient:
    """The pool that all webhooks of a process share. No cookies, no redirects; proxies and certificates as the
    environment says (HTTPS_PROXY, SSL_CERT_FILE, …), loopback addresses always direct."""
    direct = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
    return httpx.AsyncClient(
        timeout=None,  # noqa: S113 - `call` bounds every request as a whole
        limits=httpx.Limits(max_connections=connections_max, keepalive_expiry=keepalive_s),
        headers={"User-Agent": "workflow-platform", "Accept-Encoding": "gzip, deflate"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        mounts=direct,
    )


async def call(client: httpx.AsyncClient, request: WebhookRequest) -> EffectResult:
    """Carry out one attempt. Raises nothing but its cancellation."""
    deadline = asyncio.get_running_loop().time() + request.timeout_s
    shown = ""
    try:
        prepared = _prepared(client, request)
        shown = f"{prepared.method} {_shown(prepared.url)}"
        async with asyncio.timeout_at(deadline):
            response = await client.send(prepared, stream=True)
        try:
            if response.is_success:
                async with asyncio.timeout_at(deadline):
                    return await _succeeded(response, shown, request.response_bytes_max)
            return await _refused(response, shown, deadline)
        finally:
            await response.aclose()
    except TimeoutError:
        return _failed("timeout", f"{shown} gave no whole answer within {request.timeout_s:g} s", retryable=True)
    except (httpx.TransportError, OSError) as error:
        reason = (str(error) or type(error).__name__)[:_SHOWN_CHARS]
        return _failed("connection_failed", f"{shown}: {reason}", retryable=True)
    except _ConfigInvalid as error:
        return _failed("config_invalid", str(error))
    except Exception as error:  # noqa: BLE001 - a result is owed, whatever a library raises
        reason = f"{type(error).__name__} {error}"[:_SHOWN_CHARS]
        return _failed("unexpected_error", f"{shown}: {reason}", retryable=True)


def retry_after_s(value: str | None, now: float) -> float | None:
    """The wait that a Retry-After header asks for, from 0 to `RETRY_AFTER_MAX_S`; None when it is absent or unreadable.

    `now` is the wall clock in seconds since 1970, against which an HTTP date is held.
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,20}", value.strip()):
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        date = email.utils.parsedate_to_datetime(value)
        wait_s = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


async def _succeeded(response: httpx.Response, shown: str, bytes_max: int) -> EffectResult:
    try:
        body = decoded(response, await read(response, bytes_max), bytes_max)
    except BodyRefused as refused:
        details: dict[str, JSON] = {"status": response.status_code, **refused.details}
        return _failed(refused.code, f"{shown} answered {response.status_code}: {refused.message}", details=details)
    output: JSON = {"status": response.status_code, "headers": _plain_headers(response), "body": body}
    size = len(jsontext.dumps(output))
    if size > bytes_max:
        message = f"{shown}: the answer comes to {size} bytes as JSON; the limit is {bytes_max}"
        return _failed("response_too_large", message, details={"status": response.status_code, "limit": bytes_max})
    return EffectSucceeded(output)


async def _refused(response: httpx.Response, shown: str, deadline: float) -> EffectFailed:
    status = response.status_code
    phrase = f"{status} {HTTPStatus(status).phrase}" if status in HTTPStatus._value2member_map_ else str(status)
    retryable = status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500
    details: dict[str, JSON] = {"status": status, "body": await _piece(response, deadline)}
    message = f"{shown} answered {phrase}"
    if response.has_redirect_location:
        details["location"] = text_of(response.headers["location"].encode(), None)[:ERROR_BODY_BYTES_MAX]
        message += "; redirects are not followed"
    wait_s = retry_after_s(response.headers.get("retry-after"), time.time()) if retryable else None
    return _failed("http_status", message, retryable=retryable, retry_after_s=wait_s, details=details)


async def _piece(response: httpx.Response, deadline: float) -> str:
    """The start of an answer that counts by its status; as much of it as comes soon."""
    found = bytearray()
    try:
        async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + _ERROR_BODY_S)):
            async for chunk in response.aiter_raw():
                found += chunk
                if len(found) >= ERROR_BODY_BYTES_MAX:
                    break
    except (TimeoutError, httpx.TransportError, OSError):
        pass
    encoded = response.headers.get("content-encoding", "identity").strip().lower() != "identity"
    return "" if encoded else text_of(bytes(found[:ERROR_BODY_BYTES_MAX]), response.charset_encoding)


def _prepared(client: httpx.AsyncClient, request: WebhookRequest) -> httpx.Request:
    url = _url(request.url)
    if not isinstance(request.method, str) or not _TOKEN.fullmatch(request.method):
        raise _ConfigInvalid(f"config.method: {str(request.method)[:_SHOWN_CHARS]!r} is no HTTP method")
    headers = _headers(request.headers)
    content: bytes | None = None
    if request.body is not None:
        is_text = isinstance(request.body, str)
        content = request.body.encode() if isinstance(request.body, str) else jsontext.dumps(request.body)
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"Content-Type", b"text/plain; charset=utf-8" if is_text else b"application/json"))
    headers.append((IDEMPOTENCY_KEY.encode(), request.idempotency_key.encode()))
    return client.build_request(request.method.upper(), url, headers=headers, content=content)


def _url(text: JSON) -> httpx.URL:
    try:
        url = httpx.URL(text if isinstance(text, str) else "")
    except (httpx.InvalidURL, ValueError) as error:
        raise _ConfigInvalid(f"config.url: {str(text)[:_SHOWN_CHARS]!r} is no URL ({error})") from None
    if url.port is not None and not 0 < url.port < 65_536:
        raise _ConfigInvalid(f"config.url: there is no port {url.port}")
    if url.scheme not in {"http", "https"} or not url.host:
        raise _ConfigInvalid(f"config.url: {str(text)[:_SHOWN_CHARS]!r} is not http://… or https://…")
    return url


def _headers(given: JSON) -> list[tuple[bytes, bytes]]:
    if given is None:
        return []
    if not isinstance(given, dict) or len(given) > HEADERS_MAX:
        raise _ConfigInvalid(f"config.headers: an object of at most {HEADERS_MAX} texts is needed")
    for name, value in given.items():
        problem = _header_problem(name, value)
        if problem is not None:
            raise _ConfigInvalid(f"config.headers[{name[:_SHOWN_CHARS]!r}]: {problem}")
    return [(name.encode(), str(value).strip().encode()) for name, value in given.items()]


def _header_problem(name: str, value: JSON) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "this is no header name"
    if name.lower() in _OURS:
        return "the platform sets this header itself"
    if not isinstance(value, str):
        return "its value must be a text"
    if len(value.encode(errors="replace")) > HEADER_BYTES_MAX:
        return f"its value is longer than {HEADER_BYTES_MAX} bytes"
    return "its value holds a line break or another control character" if _CONTROL.search(value) else None


def _plain_headers(response: httpx.Response) -> JSON:
    """Names in lower case, the values of a repeated header joined by commas."""
    return {name.lower(): text_of(value.encode(), None) for name, value in response.headers.items()}


def _shown(url: httpx.URL) -> str:
    """The URL without what may be secret: userinfo, query and fragment."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))[:_SHOWN_CHARS]


def _failed(
    code: str,
    message: str,
    *,
    retryable: bool = False,
    retry_after_s: float | None = None,
    details: dict[str, JSON] | None = None,
) -> EffectFailed:
    error: dict[str, JSON] = {"code": code, "message": message}
    if details:
        error["details"] = details
    return EffectFailed(error, retryable=retryable, retry_after_s=retry_after_s)
