"""The webhook step: one HTTP request, read up to a bound within a deadline; whatever happens is a result.

Succeeded with 2xx: {"status": 200, "headers": {lower-case name: value}, "body": JSON value or text, null when empty}, and
"cut" where the body was too large and may be cut.
Failed, retryable: no connection, a broken or late answer, 429 and 5xx (with the wait that Retry-After asks for).
Failed for good: every other status (redirects are not followed), an answer that is too large or refused, a bad config, a
host that is not public, a secret that is not there. No result holds the value of a secret that was sent.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC
from http import HTTPStatus
from typing import Final

import httpx

from schemas import jsontext
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.jsontext import JSON
from streams.guard import AddressDenied
from streams.masking import Mask
from streams.secret_values import SecretUnknown, SecretUnusable, SecretValues
from streams.webhook_body import BodyRefused, fitted, masked_start, read, text_of, value_of
from streams.webhook_request import SHOWN_CHARS, ConfigInvalid, WebhookRequest, prepared

RETRY_AFTER_MAX_S: Final = 86_400.0
ERROR_BODY_BYTES_MAX: Final = 2_048
NO_SECRETS: Final = SecretValues({})
_ERROR_BODY_S: Final = 1.0

log = logging.getLogger(__name__)


async def call(client: httpx.AsyncClient, request: WebhookRequest, secrets: SecretValues = NO_SECRETS) -> EffectResult:
    """Carry out one attempt. Raises nothing but its cancellation."""
    try:
        values = {name: secrets.get(name) for name in request.secrets}
    except (SecretUnknown, SecretUnusable) as error:
        return _failed(error.code, f"{request.shown}: {error}")
    return await _attempt(client, request, values, Mask(values.values()))


async def _attempt(
    client: httpx.AsyncClient, request: WebhookRequest, values: Mapping[str, str], mask: Mask
) -> EffectResult:
    """Whatever comes from outside or from a library goes through the mask before it is cut; what is shown is made of references."""
    deadline = asyncio.get_running_loop().time() + request.timeout_s
    shown = request.shown
    try:
        to_send = prepared(client, request, values)
        async with asyncio.timeout_at(deadline):
            response = await client.send(to_send, stream=True)
        try:
            if response.is_success:
                async with asyncio.timeout_at(deadline):
                    return await _succeeded(response, request, mask)
            return await _refused(response, shown, deadline, mask)
        finally:
            await response.aclose()
    except TimeoutError:
        return _failed("timeout", f"{shown} gave no whole answer within {request.timeout_s:g} s", retryable=True)
    except AddressDenied as error:
        address, kind = error.denied
        log.info("%s", mask.text(f"{shown} is not called: {address} is {kind} and not on WEBHOOK_ALLOW"))
        return _failed(error.code, str(AddressDenied(error.denied, shown)))
    except (httpx.TransportError, OSError) as error:
        reason = mask.text(str(error) or type(error).__name__)[:SHOWN_CHARS]
        return _failed("connection_failed", f"{shown}: {reason}", retryable=True)
    except ConfigInvalid as error:
        return _failed("config_invalid", f"{shown}: {error}")
    except SecretUnusable as error:
        return _failed(error.code, f"{shown}: {error}")
    except Exception as error:  # noqa: BLE001 - a result is owed, whatever a library raises
        reason = type(error).__name__ if values else f"{type(error).__name__} {error}"[:SHOWN_CHARS]
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


async def _succeeded(response: httpx.Response, request: WebhookRequest, mask: Mask) -> EffectResult:
    bytes_max, status, shown = request.response_bytes_max, response.status_code, request.shown
    read_max = bytes_max + mask.bytes_max if request.cut else bytes_max
    output: dict[str, JSON] = {"status": status, "headers": mask.value(_plain_headers(response)), "body": None}
    try:
        body = await read(response, read_max, cut=request.cut)
        if body.whole and len(body.plain) <= bytes_max:
            output["body"] = mask.value(value_of(response, body.plain, discreet=mask.bytes_max > 0))
    except BodyRefused as refused:
        details: dict[str, JSON] = {"status": status, **refused.details}
        return _failed(refused.code, f"{shown} answered {status}: {refused.message}", details=details)
    size = len(jsontext.dumps(output))
    if body.whole and len(body.plain) <= bytes_max and size <= bytes_max:
        return EffectSucceeded(output)
    if request.cut:
        text = masked_start(body.plain, response.charset_encoding, mask, whole=body.whole)
        cut = fitted(output, text, body.size, bytes_max)
        if cut is not None:
            return EffectSucceeded(cut)
    message = f"{shown}: the answer comes to {size} bytes as JSON; the limit is {bytes_max} (setting WORKFLOW_RESULT_BYTES_MAX)"
    return _failed("response_too_large", message, details={"status": status, "limit": bytes_max})


async def _refused(response: httpx.Response, shown: str, deadline: float, mask: Mask) -> EffectFailed:
    status = response.status_code
    phrase = f"{status} {HTTPStatus(status).phrase}" if status in HTTPStatus._value2member_map_ else str(status)
    retryable = status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500
    details: dict[str, JSON] = {"status": status, "body": await _piece(response, deadline, mask)}
    message = f"{shown} answered {phrase}"
    if response.has_redirect_location:
        location = text_of(response.headers["location"].encode(), None)
        details["location"] = mask.text(location)[:ERROR_BODY_BYTES_MAX]
        message += "; redirects are not followed"
    wait_s = retry_after_s(response.headers.get("retry-after"), time.time()) if retryable else None
    return _failed("http_status", message, retryable=retryable, retry_after_s=wait_s, details=details)


async def _piece(response: httpx.Response, deadline: float, mask: Mask) -> str:
    """The start of an answer that counts by its status; as much of it as comes soon."""
    found, whole = bytearray(), False
    bytes_max = ERROR_BODY_BYTES_MAX + mask.bytes_max
    try:
        async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + _ERROR_BODY_S)):
            async for chunk in response.aiter_raw():
                found += chunk
                if len(found) > bytes_max:
                    break
            else:
                whole = True
    except (TimeoutError, httpx.TransportError, OSError):
        pass
    encoded = response.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if encoded:
        return ""
    text = masked_start(bytes(found[:bytes_max]), response.charset_encoding, mask, whole=whole)
    return text[:ERROR_BODY_BYTES_MAX]


def _plain_headers(response: httpx.Response) -> JSON:
    """Names in lower case, the values of a repeated header joined by commas."""
    return {name.lower(): text_of(value.encode(), None) for name, value in response.headers.items()}


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
