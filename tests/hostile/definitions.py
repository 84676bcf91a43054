"""Definitions that must be refused: names, steps, webhooks that would smuggle, expressions that cannot be read."""

from __future__ import annotations

from typing import Any, Final

import orjson

from tests.hostile.requests import JSON, WORKFLOWS, Case
from tests.hostile.texts import REFUSED
from tests.workload import delay


def _hook(**config: Any) -> list[dict[str, Any]]:
    return [{"name": "call", "type": "webhook", "config": {"url": "http://a.example/", **config}}]


def _retry(**retry: Any) -> list[dict[str, Any]]:
    return [{**_hook()[0], "retry": retry}]


STEPS: Final[dict[str, Any]] = {
    "steps: none": [],
    "steps: null": None,
    "steps: object": {"0": delay("a", 0)},
    "steps: text": "delay",
    "steps: 201": [delay(f"s{n}", 0) for n in range(201)],
    "steps: two of one name": [delay("a", 0), delay("a", 0)],
    "step: unknown type": [{"name": "a", "type": "shell", "config": {"command": "id"}}],
    "step: no type": [{"name": "a", "config": {"duration": 0}}],
    "step: unknown field": [{**delay("a", 0), "run": "id"}],
    "step name: empty": [delay("", 0)],
    "step name: upwards": [delay("../a", 0)],
    "step name: line break at the end": [delay("a\n", 0)],
    "step name: other letters": [delay("schritt\u0308", 0)],
    "step name: number": [{**delay("a", 0), "name": 1}],
    "step name: too long": [delay("a" * 65, 0)],
    "duration: negative": [delay("a", -1)],
    "duration: text of a negative": [delay("a", "-1s")],
    "duration: a thousand years": [delay("a", 31_536_000_000)],
    "duration: largest double": [delay("a", 1.7e308)],
    "duration: largest integer": [delay("a", 2**63 - 1)],
    "duration: many digits": [delay("a", "9" * 5_000 + "s")],
    "duration: NaN": [delay("a", "NaN")],
    "duration: infinity": [delay("a", "infs")],
    "duration: other digits": [delay("a", "\u0663s")],
    "duration: true": [delay("a", True)],
    "duration: null": [delay("a", None)],
    "duration: list": [delay("a", [1])],
    "duration: a secret": [delay("a", "${secrets.KEY}")],
    "retry: no attempt": _retry(max_attempts=0),
    "retry: too many attempts": _retry(max_attempts=10**9),
    "retry: factor below one": _retry(factor=0.5),
    "retry: negative wait": _retry(initial=-1),
    "retry: an expression": _retry(initial="${1}"),
    "timeout: zero": [{**_hook()[0], "timeout": 0}],
    "timeout: given twice": [{**_hook(timeout=1)[0], "timeout": 1}],
    "url: file": _hook(url="file:///etc/passwd"),
    "url: gopher": _hook(url="gopher://127.0.0.1:6379/_x"),
    "url: javascript": _hook(url="javascript:alert(1)"),
    "url: without scheme": _hook(url="//127.0.0.1/"),
    "url: without host": _hook(url="http:///x"),
    "url: user name": _hook(url="http://a.example@127.0.0.1/"),
    "url: user name and password": _hook(url="http://a:b@127.0.0.1/"),
    "url: backslash": _hook(url="http://a.example\\@127.0.0.1/"),
    "url: CRLF": _hook(url="http://a.example/\r\nHost: b"),
    "url: tab in the scheme": _hook(url="ht\ttp://a.example/"),
    "url: escape": _hook(url="http://a.example/\x1b"),
    "url: DEL": _hook(url="http://a.example/\x7f"),
    "url: port zero": _hook(url="http://a.example:0/"),
    "url: port past the last": _hook(url="http://a.example:65536/"),
    "url: port of other digits": _hook(url="http://a.example:\u0668\u0660/"),
    "url: negative port": _hook(url="http://a.example:-1/"),
    "url: number": _hook(url=7),
    "url: too long": _hook(url="http://a.example/" + "a" * 8_192),
    "method: unknown": _hook(method="CONNECT"),
    "method: TRACE": _hook(method="TRACE"),
    "method: smuggling": _hook(method="GET / HTTP/1.1\r\nX: y\r\n\r\nPOST"),
    "method: a secret": _hook(method="${secrets.KEY}"),
    "header: CRLF in its value": _hook(headers={"X": "a\r\nHost: b"}),
    "header: line feed in its value": _hook(headers={"X": "a\nb"}),
    "header: carriage return in its value": _hook(headers={"X": "a\rb"}),
    "header: DEL in its value": _hook(headers={"X": "\x7f"}),
    "header: CRLF in its name": _hook(headers={"X\r\nHost": "b"}),
    "header: colon in its name": _hook(headers={"X:": "b"}),
    "header: space after its name": _hook(headers={"Host ": "b"}),
    "header: empty name": _hook(headers={"": "b"}),
    "header: name of other letters": _hook(headers={"H\u043est": "b"}),
    "header: an expression as its name": _hook(headers={"${payload.a}": "b"}),
    "header: Host": _hook(headers={"hOsT": "b"}),
    "header: Content-Length": _hook(headers={"Content-Length": "0"}),
    "header: Content_Length": _hook(headers={"Content_Length": "0"}),
    "header: Transfer-Encoding": _hook(headers={"Transfer-Encoding": "chunked"}),
    "header: Connection": _hook(headers={"Connection": "X-Real, close"}),
    "header: Keep-Alive": _hook(headers={"Keep-Alive": "timeout=1"}),
    "header: TE": _hook(headers={"TE": "trailers"}),
    "header: Trailer": _hook(headers={"Trailer": "X"}),
    "header: Upgrade": _hook(headers={"Upgrade": "h2c"}),
    "header: HTTP2-Settings": _hook(headers={"HTTP2-Settings": "AAMAAABk"}),
    "header: Expect": _hook(headers={"Expect": "100-continue"}),
    "header: Proxy-Authorization": _hook(headers={"Proxy-Authorization": "Basic x"}),
    "header: Idempotency-Key": _hook(headers={"Idempotency-Key": "mine"}),
    "header: webhook-signature": _hook(headers={"Webhook-Signature": "v1,x"}),
    "header: too long": _hook(headers={"X": "a" * 20_000}),
    "header: number": _hook(headers={"X": 1}),
    "headers: too many": _hook(headers={f"X-{n}": "a" for n in range(101)}),
    "headers: list": _hook(headers=["X: y"]),
    "sign_with: a path": _hook(sign_with="../KEY"),
    "sign_with: an expression": _hook(sign_with="${payload.key}"),
    "config: unknown field": _hook(proxy="http://127.0.0.1"),
    "config: null": [{"name": "a", "type": "webhook", "config": None}],
}

TEMPLATES: Final = {
    "never closed": "${payload.a",
    "empty": "${}",
    "quote never closed": '${"a}',
    "over its bound": "${" + "1+" * 10_000 + "1}",
    "a secret that is computed with": '${"Bearer " + secrets.KEY}',
    "a secret by its index": '${secrets["KEY"]}',
    "all secrets": "${secrets}",
}

NAMES: Final[dict[str, Any]] = {
    "id: upwards": {"id": "../a"},
    "id: line break at the end": {"id": "a\n"},
    "id: other letters": {"id": "\u0430"},
    "id: too long": {"id": "a" * 129},
    "id: number": {"id": 1},
    "name: empty": {"name": ""},
    "name: number": {"name": 1},
    "name: too long": {"name": "n" * 201},
    "description: too long": {"description": "d" * 10_001},
    "description: list": {"description": []},
    "unknown field": {"version": 7},
    "prototype": {"__proto__": {}},
}

SOUND: Final = {"id": "refused", "name": "Refused", "steps": [delay("a", 0)]}


def _case(name: str, expected: str, changed: dict[str, Any]) -> Case:
    return Case(f"definition, {name}", expected, "POST", WORKFLOWS, orjson.dumps({**SOUND, **changed}), (JSON,))


DEFINITIONS: Final = (
    *(Case(f"definition, {name}", "400 json_refused", "POST", WORKFLOWS, body) for name, body in REFUSED.items()),
    *(_case(name, "422 body_invalid", {"steps": steps}) for name, steps in STEPS.items()),
    *(_case(name, "422 body_invalid", changed) for name, changed in NAMES.items()),
    *(
        _case(f"template: {name}", "422 body_invalid", {"steps": _hook(body={"a": text})})
        for name, text in TEMPLATES.items()
    ),
    _case("size: body over its bound", "413 too_large", {"description": "d" * 2_000_000}),
)
