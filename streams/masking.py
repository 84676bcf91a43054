"""Secrets that come back: each occurrence of a value, in the forms that receivers give it, becomes `***`. Pure."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

from schemas.jsontext import JSON

MASK: Final = "***"
_URL: Final = re.compile(r"https?://([^/?#]+)(?:(/[^?#]{7,})(\?.*)?)?.*", re.DOTALL | re.IGNORECASE)
_BASE64_CHARS_MIN: Final = 6
"""A piece of base64 that stands for a few bytes would be found everywhere."""
_PATH_SAFE: Final = "!$&'()*+,/:;=@"


class Mask:
    """Puts `***` in the place of some values. Without any it changes nothing."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms = _all_forms(tuple(sorted(set(values))))
        self.bytes_max = max((len(form.encode()) for form in self._forms), default=0)
        """of the longest form: a text that is cut must have been masked with so much more of it"""

    def text(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def value(self, value: JSON) -> JSON:
        """What came from outside, with its texts, keys and numbers masked."""
        if not self._forms:
            return value
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(inner) for inner in value]
            case dict():
                return {self.text(key): self.value(inner) for key, inner in value.items()}
            case bool() | None:
                return value
            case _:
                return MASK if json.dumps(value) in self._forms else value


@lru_cache(maxsize=256)
def _all_forms(values: tuple[str, ...]) -> tuple[str, ...]:
    """The longest first: one may be a part of another."""
    return tuple(sorted({form for value in values for form in _forms(value)}, key=lambda form: (-len(form), form)))


def _forms(value: str) -> Iterator[str]:
    """The value as it may come back. Of a URL host and path come back alone as well, and a header loses the space around it."""
    plain = {value, value.strip()} - {""}
    if (url := _URL.fullmatch(value.strip())) is not None:
        host, path, query = url.groups(default="")
        plain |= {host, host.lower(), path, path + query} - {""}  # in small letters as it goes out
    for each in plain:
        yield each
        yield each.encode().decode("latin-1")  # of a receiver, or a header, that is not told of UTF-8
        yield from _base64(each.encode())
        for encoded in (quote(each, safe=""), quote(each), quote(each, safe=_PATH_SAFE), quote_plus(each)):
            yield encoded
            yield re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), encoded)
        for escaped in (json.dumps(each)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1]):
            yield escaped
            yield re.sub(r"\\u[0-9a-f]{4}", lambda code: "\\u" + code[0][2:].upper(), escaped)
            yield escaped.replace("/", "\\/")
            yield json.dumps(escaped)[1:-1]
        yield html.escape(each)
        yield html.escape(each).replace("&#x27;", "&#39;")


def _base64(raw: bytes) -> Iterator[str]:
    """What is left of the value in base64 whatever stands before it and behind it there."""
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(raw).decode()
        yield encode(raw).decode().rstrip("=")
        for before in range(3):
            text = encode(bytes(before) + raw).decode().rstrip("=")
            whole = text[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
            if len(whole) >= _BASE64_CHARS_MIN:
                yield whole
