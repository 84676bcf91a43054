"""What may stand in a webhook's url, method and headers. One set of rules: for definitions, and for what their expressions give.

No sentence of these repeats a piece of what it refuses: it may be a piece of a secret.
"""

from __future__ import annotations

import re
from typing import Final

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS_MAX: Final = 100
HEADER_BYTES_MAX: Final = 16_384

_URL: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_PORT: Final = re.compile(r":([^:\]]*)\Z")
_URL_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = frozenset(
    "host content-length connection keep-alive te trailer transfer-encoding upgrade http2-settings expect "
    "idempotency-key webhook-id webhook-timestamp webhook-signature".split()
)


def url_problem(url: str) -> str | None:
    """What is wrong with a whole URL; None when it can be called."""
    if _URL_CONTROL.search(url):
        return "it holds a line break or another control character"
    found = _URL.match(url)
    if found is None:
        return "it is not http or https; did you mean http://… or https://…?"
    authority = found[1]
    if "@" in authority:
        return "it holds a user name; put that into an Authorization header"
    if "\\" in authority:
        return "it holds a backslash before its path"
    port = _PORT.search(authority)
    if port is not None and not (re.fullmatch(r"[0-9]{0,5}", port[1]) and 0 < int(port[1] or 1) < 65_536):
        return "it names no port from 1 to 65535"
    return "it names no host" if not authority or authority.startswith(":") else None


def header_problem(name: str, value: object = "") -> str | None:
    """What is wrong with a header; None when it can be sent. Non-ASCII characters of a value are sent as UTF-8."""
    if not _TOKEN.fullmatch(name):
        return "this is no header name"
    plain = name.lower().replace("_", "-")  # what some receivers make of it
    if plain in _OURS or plain.startswith("proxy-"):
        return "the platform sets this header itself"
    if not isinstance(value, str):
        return "its value must be a text"
    if len(value.encode(errors="replace")) > HEADER_BYTES_MAX:
        return f"its value is longer than {HEADER_BYTES_MAX} bytes"
    return "its value holds a line break or another control character" if _CONTROL.search(value) else None
