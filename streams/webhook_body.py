"""The body of an answer: read up to a bound, unpacked up to the same bound, taken as JSON or text."""

from __future__ import annotations

import re
import zlib
from typing import Final

import httpx

from schemas import jsontext
from schemas.errors import WorkflowError
from schemas.jsontext import DEPTH_MAX, JSON, JsonRefused

_JSON_TYPE: Final = re.compile(r"\s*application/(?:[\w.+-]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_CHARSET: Final = re.compile(
    r"utf-?8|us-ascii|ascii|latin-?1|iso-8859-\d{1,2}|windows-125\d|shift_jis|euc-jp|gb18030|gbk|big5", re.IGNORECASE
)
_GZIP_OR_ZLIB: Final = 47


class BodyRefused(WorkflowError):
    """{detail}"""

    def __init__(self, code: str, detail: str, **details: JSON) -> None:
        """`code`: response_too_large or response_refused. `details`: the `limit` passed, the `pointer` into a JSON body."""
        super().__init__(detail=detail)
        vars(self)["code"] = code
        self.details = details


async def read(response: httpx.Response, bytes_max: int) -> bytes:
    """The body as it came. Raises BodyRefused, with the rest unread, when it has more than `bytes_max` bytes."""
    announced = response.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
    return bytes(body)


def decoded(response: httpx.Response, raw: bytes, bytes_max: int) -> JSON:
    """The body's value: None when it is empty, a JSON value by its content type, else text. Raises BodyRefused."""
    body = _unpacked(raw, response.headers.get("content-encoding", "identity").strip().lower(), bytes_max)
    if not body:
        return None
    if not _JSON_TYPE.match(response.headers.get("content-type", "")):
        return text_of(body, response.charset_encoding)
    try:
        return jsontext.loads(body, depth_max=DEPTH_MAX - 1)  # one level is the result's own
    except JsonRefused as refused:
        where = f" at {refused.pointer}" if refused.pointer else ""
        detail = f"its JSON is refused{where}: {refused.detail} ({refused.code})"
        limit = {} if refused.limit is None else {"limit": refused.limit}
        raise BodyRefused("response_refused", detail, pointer=refused.pointer, reason=refused.code, **limit) from None


def text_of(raw: bytes, charset: str | None) -> str:
    """Bytes as text that every store can hold: what cannot be read becomes U+FFFD, and so does NUL."""
    known = charset if charset is not None and _CHARSET.fullmatch(charset) else "utf-8"
    return raw.decode(known, errors="replace").replace("\0", "\ufffd")


def _unpacked(raw: bytes, encoding: str, bytes_max: int) -> bytes:
    if encoding in {"identity", ""} or not raw:
        return raw
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise BodyRefused("response_refused", f"the content encoding {encoding[:100]!r} was not asked for")
    try:
        unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
        body = unpacking.decompress(raw, bytes_max + 1)
    except zlib.error as error:
        raise BodyRefused("response_refused", f"its {encoding} encoding cannot be read ({error})") from None
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    if not unpacking.eof:
        raise BodyRefused("response_refused", f"its {encoding} encoding ends too early")
    return body


def _too_large(bytes_max: int) -> BodyRefused:
    return BodyRefused("response_too_large", f"its body has more than {bytes_max} bytes", limit=bytes_max)
