"""The body of an answer: read up to a bound, unpacked up to the same bound, taken as JSON or text, or cut."""

from __future__ import annotations

import codecs
import re
import zlib
from dataclasses import dataclass
from typing import Final

import httpx

from schemas import jsontext
from schemas.errors import WorkflowError
from schemas.jsontext import DEPTH_MAX, JSON, JsonRefused
from streams.masking import Mask

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


@dataclass(frozen=True, slots=True)
class Body:
    """What was read and unpacked of a body. `whole`: that is all of it. `size`: of all of it, None where nobody said."""

    plain: bytes
    whole: bool
    size: int | None


async def read(response: httpx.Response, bytes_max: int, *, cut: bool = False) -> Body:
    """The body up to `bytes_max` bytes, packed and unpacked. More is left unread, and raises BodyRefused unless it may be `cut`."""
    announced = _announced(response)
    if not cut and announced is not None and announced > bytes_max:
        raise _too_large(bytes_max)
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > bytes_max:
            break
    came = len(raw) <= bytes_max
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"identity", ""} or not raw:
        body = Body(bytes(raw[:bytes_max]), came, len(raw) if came else announced)
    else:
        body = _unpacked(bytes(raw[:bytes_max]), came, encoding, bytes_max)
    if not body.whole and not cut:
        raise _too_large(bytes_max)
    return body


def value_of(response: httpx.Response, plain: bytes, *, discreet: bool = False) -> JSON:
    """A whole body's value: None when it is empty, a JSON value by its content type, else text.

    Raises BodyRefused; a `discreet` one says nothing of what stands in the body.
    """
    if not plain:
        return None
    if not _JSON_TYPE.match(response.headers.get("content-type", "")):
        return text_of(plain, response.charset_encoding)
    try:
        return jsontext.loads(plain, depth_max=DEPTH_MAX - 1)  # one level is the result's own
    except JsonRefused as refused:
        if discreet:
            raise BodyRefused(
                "response_refused", f"its JSON is refused ({refused.code})", reason=refused.code
            ) from None
        where = f" at {refused.pointer}" if refused.pointer else ""
        detail = f"its JSON is refused{where}: {refused.detail} ({refused.code})"
        limit = {} if refused.limit is None else {"limit": refused.limit}
        raise BodyRefused("response_refused", detail, pointer=refused.pointer, reason=refused.code, **limit) from None


def text_of(raw: bytes, charset: str | None, *, whole: bool = True) -> str:
    """Bytes as text that every store can hold: what cannot be read becomes U+FFFD, and so does NUL.

    Of what is not the `whole` text, a character that was cut in two is left out.
    """
    known = charset if charset is not None and _CHARSET.fullmatch(charset) else "utf-8"
    return codecs.getincrementaldecoder(known)("replace").decode(raw, final=whole).replace("\0", "\ufffd")


def masked_start(raw: bytes, charset: str | None, mask: Mask, *, whole: bool) -> str:
    """Text without secrets. At the end of one that is not whole, what may be the start of a secret is left out."""
    text = mask.text(text_of(raw, charset, whole=whole))
    return text if whole or not mask.bytes_max else text[: -(mask.bytes_max - 1) or None]


def fitted(output: dict[str, JSON], text: str, size: int | None, bytes_max: int) -> dict[str, JSON] | None:
    """`output` with as much of `text` for its body as fits into so many bytes of JSON, and a mark; None when not even the mark does."""

    def cut_at(chars: int) -> dict[str, JSON]:
        kept = text[:chars]
        mark: dict[str, JSON] = {"bytes": len(kept.encode()), "of": size, "limit": bytes_max}
        return {**output, "body": kept, "cut": mark}

    fits, too_many = -1, min(len(text), bytes_max) + 1
    while too_many - fits > 1:
        chars = (fits + too_many) // 2
        if len(jsontext.dumps(cut_at(chars))) <= bytes_max:
            fits = chars
        else:
            too_many = chars
    return None if fits < 0 else cut_at(fits)


def _announced(response: httpx.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text[:20]) if text.isascii() and text.isdigit() else None


def _unpacked(raw: bytes, came: bool, encoding: str, bytes_max: int) -> Body:
    """`came`: `raw` is all that the receiver sent."""
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise BodyRefused("response_refused", "it has a content encoding that was not asked for")
    try:
        unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
        plain = unpacking.decompress(raw, bytes_max + 1)
    except zlib.error as error:
        raise BodyRefused("response_refused", f"its {encoding} encoding cannot be read ({error})") from None
    if came and len(plain) <= bytes_max and not unpacking.eof:
        raise BodyRefused("response_refused", f"its {encoding} encoding ends too early")
    whole = came and len(plain) <= bytes_max
    return Body(plain[:bytes_max], whole, len(plain) if whole else None)


def _too_large(bytes_max: int) -> BodyRefused:
    detail = f"its body has more than {bytes_max} bytes (setting WORKFLOW_RESULT_BYTES_MAX)"
    return BodyRefused("response_too_large", detail, limit=bytes_max)
