"""Files of pages: sent again only when they have changed."""

from __future__ import annotations

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from api.reads import not_modified


def tagged(content: bytes) -> tuple[bytes, str]:
    """A file and its entity tag."""
    return content, f'"{blake2b(content, digest_size=16).hexdigest()}"'


def file_answer(
    request: Request, file: tuple[bytes, str], media_type: str, headers: dict[str, str] | None = None
) -> Response:
    """The file, or 304 to whoever has it."""
    content, etag = file
    headers = {"ETag": etag, "Cache-Control": "no-cache", **(headers or {})}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
