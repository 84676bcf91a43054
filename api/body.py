"""Reading a body: bounded before, while and after it comes in."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from api.errors import BodyTooSlow, MediaTypeRefused, Overloaded, ParameterInvalid
from api.errors import FieldError as Field
from schemas import jsontext
from schemas.errors import TooLarge
from schemas.jsontext import JSON

BODY_WAIT_S: Final = 30.0
"""Longest time that one body may take to arrive."""
BODIES_BYTES_MAX: Final = 256 * 1024 * 1024
"""Bytes of all bodies that one process holds at once."""
PARSED_ASIDE_BYTES: Final = 256 * 1024
"""Larger bodies are parsed in a thread, so that the event loop goes on."""


class Bodies:
    """Takes in the JSON bodies of one process."""

    def __init__(self, *, depth_max: int, bytes_max: int = BODIES_BYTES_MAX) -> None:
        self._depth_max = depth_max
        self._bytes_max = bytes_max
        self._held = 0

    async def json(self, request: Request, *, bytes_max: int, setting: str) -> JSON:
        """The body's value. Raises MediaTypeRefused, TooLarge (naming `setting`), JsonRefused, Overloaded, BodyTooSlow,
        or ClientDisconnect when the client leaves before the end."""
        declared = _declared(request)
        if declared > bytes_max:
            raise TooLarge(what="The body", found=declared, limit=bytes_max, setting=setting)
        try:
            async with asyncio.timeout(BODY_WAIT_S):
                data = await self._read(request, bytes_max, setting)
        except TimeoutError:
            raise BodyTooSlow(bound_s=BODY_WAIT_S, headers={"Connection": "close"}) from None
        if len(data) <= PARSED_ASIDE_BYTES:
            return jsontext.loads(data, depth_max=self._depth_max)
        return await asyncio.to_thread(jsontext.loads, data, depth_max=self._depth_max)

    async def _read(self, request: Request, bytes_max: int, setting: str) -> bytes:
        data, more = await _chunk(request)
        if not more and len(data) <= bytes_max:
            return data
        chunks, size = [data], len(data)
        self._held += size
        try:
            while more:
                data, more = await _chunk(request)
                chunks.append(data)
                size += len(data)
                self._held += len(data)
                if size > bytes_max:
                    break
                if self._held > self._bytes_max:
                    raise Overloaded(
                        what=f"{self._held} bytes of bodies", limit=self._bytes_max, headers={"Connection": "close"}
                    )
            if size > bytes_max:
                raise TooLarge(what="The body", found=size, limit=bytes_max, setting=setting)
            return b"".join(chunks)
        finally:
            self._held -= size


async def _chunk(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _declared(request: Request) -> int:
    """The Content-Length, 0 without one. Raises MediaTypeRefused unless the body is declared to be JSON."""
    length, media_type = b"0", b""
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            media_type = value
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise MediaTypeRefused(found=f"encoded as {value[:40].decode('latin-1')!r}")
    if media_type != b"application/json" and media_type.split(b";")[0].strip().lower() != b"application/json":
        found = f"declared as {media_type[:80].decode('latin-1')!r}" if media_type else "without a Content-Type"
        raise MediaTypeRefused(found=found)
    if not length.isdigit():
        raise ParameterInvalid(
            Field("header/Content-Length", "not_a_number", f"{length[:40].decode('latin-1')!r} is no number of bytes")
        )
    return int(length) if len(length) < 20 else 10**20
