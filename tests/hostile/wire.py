"""Bytes on a connection that are no sound HTTP/1.1. Each says which statuses are a clean answer to it."""

from __future__ import annotations

from typing import Final, NamedTuple

_HOST: Final = b"Host: a\r\n"
_BODY: Final = b'{"workflow_id":"odd"}'
_POST: Final = b"POST /api/v1/trigger HTTP/1.1\r\nContent-Type: application/json\r\n" + _HOST


class Wire(NamedTuple):
    """Bytes to send. `status`: of the answer, 0 when the connection is closed without one or nothing can be answered."""

    status: int
    sent: bytes


def _with(head: bytes, body: bytes = b"") -> bytes:
    return _POST + head + b"\r\n" + body


WIRE: Final[dict[str, Wire]] = {
    "line: nonsense": Wire(400, b"hello\r\n\r\n"),
    "line: TLS": Wire(400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 32),
    "line: HTTP/2": Wire(400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "line: HTTP/9.9": Wire(400, b"GET / HTTP/9.9\r\n" + _HOST + b"\r\n"),
    "line: HTTP/0.9": Wire(400, b"GET /\r\n\r\n"),
    "line: no path": Wire(400, b"GET  HTTP/1.1\r\n" + _HOST + b"\r\n"),
    "line: NUL": Wire(400, b"GET /\0 HTTP/1.1\r\n" + _HOST + b"\r\n"),
    "line: method in small letters": Wire(400, b"get / HTTP/1.1\r\n" + _HOST + b"\r\n"),
    "line: unknown method": Wire(400, b"STEAL /api/v1/runs HTTP/1.1\r\n" + _HOST + b"\r\n"),
    "line: endless": Wire(431, b"GET /" + b"a" * 200_000),
    "line: SMTP": Wire(400, b"EHLO a\r\nMAIL FROM:<a>\r\n"),
    "line: Redis": Wire(400, b"*1\r\n$4\r\nPING\r\n"),
    "header: without colon": Wire(400, _with(b"nonsense\r\n")),
    "header: space before the colon": Wire(400, _with(b"Content-Length : 21\r\n", _BODY)),
    "header: NUL in its name": Wire(400, _with(b"X\0: y\r\n")),
    "header: NUL in its value": Wire(400, _with(b"X: a\0b\r\n")),
    "header: empty name": Wire(400, _with(b": y\r\n")),
    "header: endless": Wire(431, _POST + b"X: " + b"a" * 200_000),
    "length: two that differ": Wire(400, _with(b"Content-Length: 21\r\nContent-Length: 5\r\n", _BODY)),
    "length: negative": Wire(400, _with(b"Content-Length: -1\r\n", _BODY)),
    "length: plus sign": Wire(400, _with(b"Content-Length: +21\r\n", _BODY)),
    "length: hexadecimal": Wire(400, _with(b"Content-Length: 0x15\r\n", _BODY)),
    "length: list": Wire(400, _with(b"Content-Length: 21, 21\r\n", _BODY)),
    "length: past 64 bits": Wire(400, _with(b"Content-Length: " + b"9" * 30 + b"\r\n", _BODY)),
    "length: a terabyte": Wire(413, _with(b"Content-Length: 1000000000000\r\n", _BODY)),
    "length: and chunks": Wire(
        400, _with(b"Content-Length: 21\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
    ),
    "chunks: size that is none": Wire(400, _with(b"Transfer-Encoding: chunked\r\n", b"zz\r\n" + _BODY)),
    "chunks: negative size": Wire(400, _with(b"Transfer-Encoding: chunked\r\n", b"-1\r\n" + _BODY)),
    "chunks: size past 64 bits": Wire(400, _with(b"Transfer-Encoding: chunked\r\n", b"f" * 17 + b"\r\n" + _BODY)),
    "chunks: no line break after one": Wire(400, _with(b"Transfer-Encoding: chunked\r\n", b"2\r\n{}XX0\r\n\r\n")),
    "chunks: not the last coding": Wire(400, _with(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n")),
    "chunks: unknown coding": Wire(400, _with(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    "smuggled: a second request in a body": Wire(
        400, _with(b"Content-Length: 36\r\n", b"POST /api/v1/trigger HTTP/1.1\r\nX: y\r\n")
    ),
    "cut: after half a line": Wire(0, b"GET /api/v1/ru"),
    "cut: after half the headers": Wire(0, _POST),
    "cut: after half the body": Wire(0, _with(b"Content-Length: 21\r\n", _BODY[:9])),
    "cut: within a chunk": Wire(0, _with(b"Transfer-Encoding: chunked\r\n", b"15\r\n" + _BODY[:9])),
    "nothing": Wire(0, b""),
}

TOKENS: Final[dict[str, bytes]] = {
    "none": b"",
    "scheme alone": b"Bearer",
    "scheme and spaces": b"Bearer   ",
    "another scheme": b"Basic d2ZrX2E6",
    "no scheme": b"wfk_aaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "no secret": b"Bearer wfk_aaaaaaaaaaaaaaaa_",
    "unknown": b"Bearer wfk_aaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "Latin-1": b"Bearer wfk_\xe9\xff",
    "very long": b"Bearer wfk_" + b"a" * 20_000,
    "list": b"Bearer wfk_a, Bearer wfk_b",
    "JWT without signature": b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
    "SQL": b"Bearer ' or ''='",
    "tab": b"Bearer\twfk_a",
}
"""Name → an Authorization header at an API that asks for keys; each is answered with 401."""
