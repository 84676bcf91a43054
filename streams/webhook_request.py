"""What a webhook sends: from a step's config to the request on the wire, its secrets put in at the last moment."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import httpx

from schemas import jsontext, templates
from schemas.jsontext import JSON
from schemas.webhooks import HEADERS_MAX, header_problem, url_problem
from streams.masking import MASK
from streams.signing import signature_headers

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
SHOWN_CHARS: Final = 200
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_USER: Final = re.compile(r"(?<=//)[^/?#]*@")


class ConfigInvalid(Exception):
    """The request cannot be made of its config; the message holds nothing that may be secret."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What one attempt sends. `url`, `method`, `headers` and `body` are as the config has them, not yet checked.

    `idempotency_key` is the same for every attempt of a step of a run. `timeout_s` bounds the attempt as a whole,
    `response_bytes_max` what is read and kept of the answer; what is more is `cut`, or fails the attempt.
    `templated`: url, method, headers and body are templates whose secrets are to be put in. `sign_with` names a secret.
    """

    url: JSON
    idempotency_key: str
    timeout_s: float
    response_bytes_max: int
    cut: bool = False
    method: JSON = "POST"
    headers: JSON = None
    body: JSON = None
    sign_with: str | None = None
    templated: bool = False

    @classmethod
    def of(
        cls,
        config: Mapping[str, JSON],
        *,
        idempotency_key: str,
        timeout_s: float,
        response_bytes_max: int,
        cut: bool = False,
        templated: bool = False,
    ) -> WebhookRequest:
        """The request of a step's config, its expressions replaced."""
        sign_with = config.get("sign_with")
        return cls(
            url=config.get("url"),
            method=config.get("method", "POST"),
            headers=config.get("headers"),
            body=config.get("body"),
            sign_with=sign_with if isinstance(sign_with, str) else None,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
            response_bytes_max=response_bytes_max,
            cut=cut,
            templated=templated,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of all secrets that it needs."""
        names = templates.secrets([self.url, self.headers, self.body]) if self.templated else ()
        return names if self.sign_with is None else (*names, self.sign_with)

    def revealed(self, secrets: Mapping[str, str]) -> WebhookRequest:
        """The request with its secrets in it: to be sent, and shown to nobody."""
        if not self.templated:
            return self
        url, method, headers, body = (
            templates.revealed(field, secrets) for field in (self.url, self.method, self.headers, self.body)
        )
        return replace(self, url=url, method=method, headers=headers, body=body, templated=False)

    @property
    def shown(self) -> str:
        """Method and URL without what may be secret: references, user, query and fragment."""
        hidden = self.revealed(dict.fromkeys(self.secrets, MASK))
        text = re.split("[?#]", hidden.url, maxsplit=1)[0] if isinstance(hidden.url, str) else "no URL"
        return f"{str(hidden.method)[:20].upper()} {_USER.sub('', text)[:SHOWN_CHARS]}"


def prepared(client: httpx.AsyncClient, request: WebhookRequest, secrets: Mapping[str, str]) -> httpx.Request:
    """The request to send now. Raises ConfigInvalid; SecretUnusable when the secret to sign with is no key."""
    real = request.revealed(secrets)
    url, method, headers = _url(real.url), real.method, _headers(real.headers)
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise ConfigInvalid(f"config.method: {str(request.method)[:SHOWN_CHARS]!r} is no HTTP method")
    content = _content(real.body)
    if content is not None and not any(name.lower() == "content-type" for name, _ in headers):
        is_text = isinstance(real.body, str)
        headers.append(("Content-Type", "text/plain; charset=utf-8" if is_text else "application/json"))
    headers.append((IDEMPOTENCY_KEY, real.idempotency_key))
    if real.sign_with is not None:
        secret = secrets[real.sign_with]
        headers += signature_headers(
            real.sign_with, secret, key=real.idempotency_key, body=content or b"", now=time.time()
        )
    raw = [(name.encode(), value.encode()) for name, value in headers]
    timeout = httpx.Timeout(None, connect=real.timeout_s)
    return client.build_request(method.upper(), url, headers=raw, content=content, timeout=timeout)


def _content(body: JSON) -> bytes | None:
    if body is None:
        return None
    try:
        return body.encode() if isinstance(body, str) else jsontext.dumps(body)
    except (UnicodeEncodeError, TypeError):
        raise ConfigInvalid("config.body: it holds half of a surrogate pair") from None


def _url(text: JSON) -> httpx.URL:
    if not isinstance(text, str):
        raise ConfigInvalid("config.url: a text is needed")
    problem = url_problem(text)
    if problem is None:
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError):
            problem = "this is no URL"
        else:
            sound = url.scheme in {"http", "https"} and url.host and not url.userinfo
            problem = None if sound else "this is no URL of a host"
    if problem is not None:
        raise ConfigInvalid(f"config.url: {problem}")
    return url


def _headers(given: JSON) -> list[tuple[str, str]]:
    if given is None:
        return []
    if not isinstance(given, dict) or len(given) > HEADERS_MAX:
        raise ConfigInvalid(f"config.headers: an object of at most {HEADERS_MAX} texts is needed")
    for name, value in given.items():
        problem = header_problem(name, value)
        if problem is not None:
            raise ConfigInvalid(f"config.headers[{name[:SHOWN_CHARS]!r}]: {problem}")
    return [(name, str(value).strip()) for name, value in given.items()]
