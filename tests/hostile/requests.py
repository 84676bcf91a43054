"""Requests to the API that must be refused. Each says with which status and which problem."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from tests.hostile.texts import REFUSED

TRIGGER: Final = "/api/v1/trigger"
BATCH: Final = "/api/v1/trigger/batch"
WORKFLOWS: Final = "/api/v1/workflows"
RUNS: Final = "/api/v1/runs"
JSON: Final = (b"Content-Type", b"application/json")
Headers = tuple[tuple[bytes, bytes], ...]


class Case(NamedTuple):
    """A request. `expected`: status and code of the problem that it is answered with."""

    name: str
    expected: str
    method: str
    path: str
    body: bytes | None = None
    headers: Headers = (JSON,)


def _post(name: str, expected: str, path: str, body: Any, *headers: tuple[bytes, bytes]) -> Case:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Case(name, expected, "POST", path, content, headers or (JSON,))


def _get(name: str, expected: str, path: str, *headers: tuple[bytes, bytes]) -> Case:
    return Case(name, expected, "GET", path, None, headers)


ODD: Final = {"workflow_id": "odd"}

IDS: Final = {
    "empty": "",
    "dot": ".",
    "upwards": "../odd",
    "absolute": "/etc/passwd",
    "slash inside": "odd/odd",
    "backslash": "odd\\odd",
    "space": "odd odd",
    "line break at the end": "odd\n",
    "carriage return": "odd\r\nX: y",
    "escape": "odd\x1b[31m",
    "percent": "odd%00",
    "quote": "odd'--",
    "double quote": 'odd"',
    "full-width": "\uff4f\uff44\uff44",
    "Cyrillic": "\u043edd",
    "combining mark": "odd\u0301",
    "zero width": "odd\u200b",
    "right-to-left": "\u202eddo",
    "digits of another script": "odd\u0663",
    "template": "${payload.id}",
    "leading dash": "-rf",
    "leading dot": ".hidden",
    "too long": "o" * 129,
    "far too long": "o" * 100_000,
    "number": 7,
    "null": None,
    "list": ["odd"],
    "object": {"$ne": ""},
    "true": True,
}

VERSIONS: Final = {
    "zero": 0,
    "negative": -1,
    "2^31": 2**31,
    "2^63 - 1": 2**63 - 1,
    "fraction": 1.5,
    "whole fraction": 1.0,
    "text": "1",
    "true": True,
    "list": [1],
}

PAYLOADS: Final = {"text": "{}", "list": [], "number": 1, "null": None, "false": False}

STARTS: Final = (
    *(_post(f"trigger, {name}", "400 json_refused", TRIGGER, body) for name, body in REFUSED.items()),
    *(_post(f"workflow_id: {name}", "422 body_invalid", TRIGGER, {"workflow_id": id_}) for name, id_ in IDS.items()),
    *(_post(f"version: {name}", "422 body_invalid", TRIGGER, {**ODD, "version": n}) for name, n in VERSIONS.items()),
    *(_post(f"payload: {name}", "422 body_invalid", TRIGGER, {**ODD, "payload": p}) for name, p in PAYLOADS.items()),
    _post("body: array", "422 body_invalid", TRIGGER, [ODD]),
    _post("body: text", "422 body_invalid", TRIGGER, "odd"),
    _post("body: null", "422 body_invalid", TRIGGER, None),
    _post("body: unknown field", "422 body_invalid", TRIGGER, {**ODD, "run_id": "mine"}),
    _post("body: prototype", "422 body_invalid", TRIGGER, {**ODD, "__proto__": {"version": 1}}),
    _post("body: actor", "422 body_invalid", TRIGGER, {**ODD, "actor": "admin"}),
    _post("body: version that is not there", "404 definition_unknown", TRIGGER, {**ODD, "version": 2**31 - 1}),
    _post("body: workflow that is not there", "404 definition_unknown", TRIGGER, {"workflow_id": "drop.table.runs"}),
    _post("size: payload over its bound", "413 too_large", TRIGGER, {**ODD, "payload": {"a": "x" * 600_000}}),
    _post("size: body over its bound", "413 too_large", TRIGGER, {**ODD, "payload": {"a": "x" * 2_000_000}}),
    _post("size: spaces over the bound", "413 too_large", TRIGGER, b" " * 2_000_000 + b"{}"),
    _post("batch: object without items", "422 body_invalid", BATCH, {}),
    _post("batch: no items", "422 body_invalid", BATCH, {"items": []}),
    _post("batch: items that are an object", "422 body_invalid", BATCH, {"items": {"0": ODD}}),
    _post("batch: nested batch", "422 body_invalid", BATCH, {"items": [{"items": [ODD]}]}),
    _post("batch: one bad item", "422 body_invalid", BATCH, {"items": [ODD, {"workflow_id": "../odd"}]}),
    _post("batch: NUL in a key", "422 body_invalid", BATCH, {"items": [{**ODD, "idempotency_key": "a\tb"}]}),
    _post("batch: empty key", "422 body_invalid", BATCH, {"items": [{**ODD, "idempotency_key": ""}]}),
    _post("batch: key that is a number", "422 body_invalid", BATCH, {"items": [{**ODD, "idempotency_key": 1}]}),
    _post("batch: too many items", "422 body_invalid", BATCH, {"items": [ODD] * 10_001}),
    _post("batch: an unknown workflow among them", "422 body_invalid", BATCH, {"items": [ODD, {"workflow_id": "no"}]}),
    _post("batch: duplicate items", "400 json_refused", BATCH, b'{"items": [], "items": []}'),
)

MEDIA_TYPES: Final = {
    "form": b"application/x-www-form-urlencoded",
    "multipart": b"multipart/form-data; boundary=x",
    "text": b"text/plain",
    "XML": b"application/xml",
    "JSON lines": b"application/x-ndjson",
    "empty": b"",
    "two in one": b"text/plain, application/json",
    "JSON in a parameter": b"text/plain; application/json",
    "almost": b"application/jsonp",
    "Latin-1": b"application/j\xe9son",
    "very long": b"a" * 5_000,
}

KEYS: Final = {
    "empty": b"",
    "too long": b"k" * 256,
    "tab": b"a\tb",
    "Latin-1": b"\xe9",
    "UTF-8": "schl\u00fcssel".encode(),
}

HEADERS: Final = (
    *(
        _post(f"Content-Type: {name}", "415 media_type_refused", TRIGGER, ODD, (b"Content-Type", value))
        for name, value in MEDIA_TYPES.items()
    ),
    _post("Content-Encoding: gzip", "415 media_type_refused", TRIGGER, ODD, JSON, (b"Content-Encoding", b"gzip")),
    _post("Content-Encoding: unknown", "415 media_type_refused", TRIGGER, ODD, JSON, (b"Content-Encoding", b"zip, br")),
    *(
        _post(f"Idempotency-Key: {name}", "400 parameter_invalid", TRIGGER, ODD, JSON, (b"Idempotency-Key", value))
        for name, value in KEYS.items()
    ),
    _post(
        "Idempotency-Key: twice",
        "400 parameter_invalid",
        TRIGGER,
        ODD,
        JSON,
        (b"Idempotency-Key", b"a"),
        (b"Idempotency-Key", b"a"),
    ),
    _post("Idempotency-Key: DEL", "400 request_malformed", TRIGGER, ODD, JSON, (b"Idempotency-Key", b"a\x7f")),
    _get("headers: one that is huge", "431 headers_too_large", RUNS, (b"Cookie", b"c" * 70_000)),
    _get("headers: many", "431 headers_too_large", RUNS, *((b"X-%d" % n, b"v" * 60) for n in range(1_100))),
)

RUN_IDS: Final = {
    "upwards": ("400 parameter_invalid", "%2e%2e"),
    "NUL": ("400 parameter_invalid", "a%00"),
    "line break": ("400 parameter_invalid", "a%0a"),
    "CRLF": ("400 parameter_invalid", "a%0d%0aSet-Cookie:%20a"),
    "quote": ("400 parameter_invalid", "a'or'1'='1"),
    "bad UTF-8": ("400 parameter_invalid", "%ff"),
    "surrogate": ("400 parameter_invalid", "%ed%a0%80"),
    "overlong slash": ("400 parameter_invalid", "%c0%af"),
    "percent": ("400 parameter_invalid", "%25"),
    "bad percent": ("400 parameter_invalid", "%zz"),
    "too long": ("400 parameter_invalid", "a" * 129),
    "slash": ("404 path_unknown", "a%2fb"),
    "emoji": ("400 parameter_invalid", quote("\U0001f600")),
    "asterisk": ("400 parameter_invalid", "*"),
    "one that nobody has": ("404 run_unknown", "nobody"),
}

QUERIES: Final = {
    "limit: zero": "limit=0",
    "limit: negative": "limit=-1",
    "limit: huge": "limit=" + "9" * 5_000,
    "limit: fraction": "limit=1.5",
    "limit: exponent": "limit=1e3",
    "limit: digits of another script": "limit=" + quote("\u0663"),
    "limit: empty": "limit=",
    "limit: twice": "limit=1&limit=2",
    "limit: list": "limit[]=1",
    "limit: NaN": "limit=NaN",
    "limit: underscore": "limit=1_0_0_0_0",
    "status: unknown": "status=DONE",
    "status: in small letters": "status=success",
    "status: SQL": "status=" + quote("SUCCESS' or ''='"),
    "workflow_id: wildcard": "workflow_id=%25",
    "workflow_id: NUL": "workflow_id=odd%00",
    "workflow_id: bad UTF-8": "workflow_id=%ff",
    "created_after: number": "created_after=0",
    "created_after: without zone": "created_after=2026-01-01T00:00:00",
    "created_after: no such day": "created_after=2026-02-30T00:00:00Z",
    "created_after: no such hour": "created_after=2026-01-01T25:00:00Z",
    "created_after: year 0": "created_after=0000-01-01T00:00:00Z",
    "created_after: before the calendar": "created_after=0001-01-01T00:00:00%2B23:59",
    "created_after: after the calendar": "created_after=9999-12-31T23:59:59-23:59",
    "created_after: other digits": "created_after=" + quote("\uff12\uff10\uff12\uff16-01-01T00:00:00Z"),
    "created_after: infinity": "created_after=infinity",
    "created_after: zone of a week": "created_after=2026-01-01T00:00:00%2B99:99",
    "created_before: SQL": "created_before=" + quote("now()"),
    "created_before: long": "created_before=" + "2" * 1_000,
    "unknown parameter": "debug=true",
    "min_position: text": "min_position=latest",
    "min_position: negative": "min_position=e0.-1",
    "min_position: huge": "min_position=e0." + "9" * 400,
    "min_position: other digits": "min_position=" + quote("e\u0660.\u0663"),
    "min_position: no such topic": "min_position=x0.1",
    "min_position: no such partition": "min_position=e9999.1",
    "min_position: open": "min_position=e0.1-",
    "min_position: line break": "min_position=e0.1%0a",
    "wait: word": "wait=forever",
    "wait: negative": "wait=-1",
    "wait: empty": "wait=",
    "wait: not a number": "wait=nan",
    "wait: other digits": "wait=" + quote("\u0661s"),
    "wait: longer than allowed": "wait=1h",
    "wait: huge": "wait=" + "9" * 400,
    "wait: line break": "wait=1s%0a",
    "min_position: too many parts": "min_position=" + "-".join(["e0.1"] * 2_049),
}

CURSORS: Final = {
    "text": "cursor=next",
    "empty": "cursor=",
    "long": "cursor=" + "A" * 2_001,
    "not base64": "cursor=!!!!",
    "other letters": "cursor=" + quote("\u00c4\u00d6\u00dc"),
    "NUL": "cursor=%00",
    "JSON null": "cursor=bnVsbA",
    "empty list": "cursor=W10",
    "deep": "cursor=" + "W1tb" * 400,
    "number": "cursor=MQ",
    "other types": "cursor=W3t9LFsxLDJdXQ",
    "another list": "cursor=W3sibGlzdCI6IndvcmtmbG93cyJ9LFsiYSIsImIiXV0",
}

READS: Final = (
    *(_get(f"run id: {name}", expected, f"{RUNS}/{text}") for name, (expected, text) in RUN_IDS.items()),
    *(_get(name, "400 parameter_invalid", f"{RUNS}?{query}") for name, query in QUERIES.items()),
    *(_get(f"cursor: {name}", "400 cursor_refused", f"{RUNS}?{query}") for name, query in CURSORS.items()),
    _get("If-None-Match: of a run that is not there", "404 run_unknown", f"{RUNS}/nobody", (b"If-None-Match", b"*")),
    _get("path: upwards", "404 path_unknown", "/api/v1/../../etc/passwd"),
    _get("path: two slashes", "404 path_unknown", "//api/v1/runs"),
    _get("path: in capitals", "404 path_unknown", "/API/V1/RUNS"),
    _get("path: another version", "404 path_unknown", "/api/v2/runs"),
    _get("path: too long", "414 uri_too_long", f"{RUNS}?cursor=" + "a" * 40_000),
    _get("path: NUL", "404 path_unknown", "/%00"),
    _get("problem page: upwards", "404 path_unknown", "/problems/..%2f..%2fetc"),
    Case("method: DELETE", "405 method_refused", "DELETE", RUNS, None, ()),
    Case("method: PUT", "405 method_refused", "PUT", TRIGGER, b"{}"),
    Case("method: TRACE", "405 method_refused", "TRACE", RUNS, None, ()),
    _get("method: GET of the trigger", "405 method_refused", TRIGGER),
)
