"""Headers that every answer has, and which pages of other origins may call the API."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from schemas.errors import BadSetting
from schemas.settings import Settings

Header = tuple[bytes, bytes]

DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of what is no page."""
PAGE_POLICY: Final = "default-src 'none'; {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Of a page, with what it may load."""

SECURE: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", DATA_POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What an answer gets that does not say otherwise."""

_NAMES: Final = frozenset(name for name, _ in SECURE)
_ORIGIN: Final = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_METHODS: Final = ("GET", "POST", "DELETE")
_ASKED: Final = ("Authorization", "Idempotency-Key", "If-None-Match", "X-Request-Id")
_SHOWN: Final = (
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Workflow-Position",
    "WWW-Authenticate",
    "X-Request-Id",
)


def secured(given: Iterable[Header]) -> Iterable[Header]:
    """What an answer with these headers lacks of `SECURE`."""
    names = [name for name, _ in given]
    return SECURE if _NAMES.isdisjoint(names) else [header for header in SECURE if header[0] not in names]


def shared_with(origins: tuple[str, ...], app: ASGIApp) -> ASGIApp:
    """The app, open to scripts of these origins; without any, the app itself. Never with a browser's own credentials."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_ASKED,
        allow_credentials=False,
        expose_headers=_SHOWN,
    )


def origins(settings: Settings) -> tuple[str, ...]:
    """The origins of WORKFLOW_CORS_ORIGINS. Raises BadSetting for what is none, and for `*` where keys are asked for."""
    given = [part.strip() for part in settings.workflow_cors_origins.split(",")]
    found = tuple(part for part in given if part)
    for origin in found:
        if origin == "*" and settings.workflow_auth == "keys":
            reason = "with WORKFLOW_AUTH=keys the origins must be named one by one"
            raise BadSetting(name="WORKFLOW_CORS_ORIGINS", value=origin, reason=reason)
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            reason = "an origin as browsers send it, https://host or https://host:port in small letters, is needed"
            raise BadSetting(name="WORKFLOW_CORS_ORIGINS", value=origin, reason=reason)
    return found
