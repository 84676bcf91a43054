"""Every decoder of the product: what reads bytes or text that others wrote, with what it may refuse them with.

A new decoder is one more line in `DECODERS`.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import httpx
import orjson
from pydantic import ValidationError
from starlette.requests import Request

from api import cursors, headers, reads
from api.body import Bodies
from api.definitions import read_definition
from api.errors import BodyInvalid, CursorRefused, FieldError, MediaTypeRefused, ParameterInvalid
from api.starts import idempotency_key, parse_start
from projections.fold import PartitionFold
from projections.memory import MemoryStore
from projections.pending import pending_row
from projections.rows import columns, instant_us, stored_run
from schemas import commands, durations, events, jsontext, keys, position, templates, webhooks
from schemas.catalog import Catalog
from schemas.definitions import Definition
from schemas.errors import BadSetting, CommandRefused, KeyRefused, TooLarge
from schemas.identity import home
from schemas.jsontext import JsonRefused
from schemas.plan import plan_of
from schemas.ports import TP
from schemas.run import Run
from schemas.settings import Settings
from streams import expressions, resolver
from streams.allowed import AllowList
from streams.masking import Mask
from streams.partition import Partition
from streams.secret_values import SecretUnknown, SecretUnusable, SecretValues
from streams.security import servers
from streams.signing import signature_headers
from streams.webhook import retry_after_s
from streams.webhook_body import BodyRefused, masked_start, read, text_of, value_of
from streams.webhook_client import proxy_of
from streams.webhook_request import ConfigInvalid, WebhookRequest, prepared
from tests.given import NOW, delay, requested, start, started, succeeded, take, webhook, workflow
from tests.histories import LogRecord
from tests.keyring import API_KEY

BYTES_MAX: Final = 4_096
RUN_ID: Final = "r1"
PARTITIONS: Final = 1
SETTINGS: Final = Settings()
CLIENT: Final = httpx.AsyncClient(trust_env=False)


class Decoder(NamedTuple):
    """`read` gives a value, or raises one of `refuses`. `valid`: what it takes. `write`: the way back, where there is one."""

    read: Callable[[bytes], Any]
    valid: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...] = ()
    write: Callable[[Any], bytes] | None = None


def _text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of texts that stood in JSON."""
    return lambda raw: read(raw.decode(errors="replace"))


def _variable(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of environment variables, which hold what is no UTF-8 as lone surrogates."""
    return lambda raw: read(raw.decode(errors="surrogateescape"))


def _header(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda raw: read(raw.decode("latin-1"))


def _json(read: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    """A reader of values that came in as JSON."""
    return lambda raw: read(jsontext.loads(raw))


def _dumped(*values: Any) -> tuple[bytes, ...]:
    return tuple(map(orjson.dumps, values))


def _run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def _command(raw: bytes, timestamp_ms: int = 1_767_225_600_000) -> commands.Command:
    return commands.decode(raw, topic="t", partition=0, offset=3, timestamp_ms=timestamp_ms, partitions=PARTITIONS)


def _fold(values: list[bytes]) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, "c")
    taken = events.encode_taken(0, 1, "w", "t", events.time_text(NOW))
    records = [LogRecord(n, 0, RUN_ID.encode(), value) for n, value in enumerate([taken, *values])]
    subjects = {str(event["subject"]): None for value in values if (event := events.decode(value)) is not None}
    assert fold.take(records, subjects) == len(records)
    return fold


def _folded(raw: bytes) -> Any:
    """An event of an owner, alone and after a sound beginning, through the folds of both sides, into a store and out of it."""
    batches = []
    for before in ([], BEGINNING):
        batch = _fold([*before, raw]).batch()
        batches.append(batch)
        for row in batch.runs:
            stored_run(*columns(row))
        store = MemoryStore()
        _run(store.apply(batch))
        _run(store.snapshot(0))
        part = Partition(0, PARTITIONS, position=0)
        part.epoch = 1
        for offset, value in enumerate([*before, raw]):
            part.fold(LogRecord(offset, 0, None, value), {})
    return batches


def _catalog(raw: bytes) -> Any:
    catalog = Catalog()
    made = catalog.fold(0, raw)
    if made is not None:
        command = commands.TriggerRun("c", RUN_ID, made.id, None, {}, events.time_text(NOW))
        resolver._start(command, made)
    return made


def _snapshot(raw: bytes) -> Run:
    return Run.load(RUN_ID, raw)


def _template(value: Any) -> Any:
    sources = templates.expressions(value)
    templates.secrets(value)
    for source in sources:
        expressions.check(source)
    return templates.render(value, dict.fromkeys(sources, 1)) if not templates.secrets(value) else None


def _expression(text: str) -> Any:
    return expressions.evaluate([text[:200]], {"payload": {"x": 1}, "steps": {}, "run": {"id": "r"}})


def _request(raw: bytes, name: bytes, value: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    return Request({"type": "http", "headers": [(name, value), (b"content-type", b"application/json")]}, receive)


def _body(raw: bytes) -> Any:
    return _run(Bodies(depth_max=32).json(_request(raw, b"x", b""), bytes_max=BYTES_MAX, setting="S"))


def _length(raw: bytes) -> Any:
    request = _request(b"{}", b"content-length", raw)
    return _run(Bodies(depth_max=32).json(request, bytes_max=BYTES_MAX, setting="S"))


def _start(value: Any) -> Any:
    errors: list[FieldError] = []
    found = parse_start(value, errors, item=True)
    assert (found is None) == bool(errors)
    return found


def _webhook(value: Any) -> Any:
    config = value if isinstance(value, dict) else {"url": value}
    request = WebhookRequest.of(config, idempotency_key="k", timeout_s=1, response_bytes_max=BYTES_MAX)
    assert request.shown
    return prepared(CLIENT, request, {"K": "whsec_" + "A" * 32})


def _answer(raw: bytes) -> Any:
    """The first line names content type and encoding, the rest is the body."""
    head, _, content = raw.partition(b"\n")
    type_, _, encoding = head.partition(b"|")
    given = [(b"content-type", type_.replace(b"\r", b"")), (b"content-encoding", encoding.replace(b"\r", b""))]
    response = httpx.Response(200, headers=given, stream=httpx.ByteStream(content))
    body = _run(read(response, BYTES_MAX, cut=True))
    text_of(body.plain, response.charset_encoding, whole=body.whole)
    masked_start(body.plain, response.charset_encoding, Mask(["secret"]), whole=body.whole)
    return value_of(response, body.plain)


def _cursor(raw: bytes) -> Any:
    bound = {"list": "runs"}
    try:
        return cursors.decode(raw.decode("latin-1"), bound, (str, str))
    except CursorRefused:
        return cursors.decode(raw.decode("latin-1"), bound, (int,))


def _sound(value: Any) -> Any:
    """What came out can be given to every store."""
    jsontext.check(value)
    return value


def _secret(text: str) -> str:
    return SecretValues({"WORKFLOW_SECRET_A": text}).get("A")


BEGINNING: Final = take(Run(RUN_ID), [requested(workflow(webhook("call"), delay("wait"))), started()])
_RUN: Final = Run(RUN_ID)
HISTORY: Final = take(
    _RUN, [requested(workflow(webhook("call"), delay("wait"))), started(), succeeded(output={"a": [1]})]
)
_DEFINITION: Final = {
    "id": "w",
    "name": "W",
    "steps": [
        {"name": "a", "type": "delay", "config": {"duration": "2s"}},
        {
            "name": "b",
            "type": "webhook",
            "config": {"url": "http://x/${payload.id}", "headers": {"A": "b"}, "body": {"c": "${steps.a.output}"}},
            "retry": {"max_attempts": 3, "initial": "1s", "factor": 2, "max": 5},
            "timeout": "3s",
        },
    ],
}
_COMMAND: Final = {"type": "TriggerRun", "run_id": "r1", "workflow_id": "w", "version": 1, "payload": {"a": 1}}
assert home(RUN_ID, PARTITIONS) == 0

DECODERS: Final[dict[str, Decoder]] = {
    "JSON": Decoder(jsontext.loads, _dumped({"a": [1, -0.5, "é", None, {"b": True}]}), (JsonRefused,), jsontext.dumps),
    "command": Decoder(
        _command,
        (*_dumped(_COMMAND, {"run_id": "r", "type": "CancelRun", "reason": "x"}), commands.encode(start().command)),
        (CommandRefused,),
        commands.encode,
    ),
    "time of a command's record": Decoder(
        lambda raw: _command(b'{"workflow_id":"w"}', int.from_bytes(raw[:8], signed=True)), (b"\x7f" * 8, b"\x80" * 8)
    ),
    "command that waits": Decoder(
        lambda raw: pending_row(LogRecord(0, 0, None, raw), TP("t", 0), PARTITIONS, 32), _dumped(_COMMAND)
    ),
    "event": Decoder(events.decode, tuple(HISTORY)),
    "event, folded": Decoder(_folded, (*HISTORY, *BEGINNING)),
    "snapshot": Decoder(
        _snapshot, (_RUN.dump(), Run("r2").dump()), (ValueError, KeyError, TypeError, AttributeError), Run.dump
    ),
    "definition record": Decoder(_catalog, (Catalog().next_record(_DEFINITION, "2026-01-01T00:00:00.000Z"),)),
    "definition": Decoder(
        _json(lambda value: Definition.model_validate(value).dump()),
        _dumped(_DEFINITION),
        (JsonRefused, ValidationError),
        orjson.dumps,
    ),
    "definition, posted": Decoder(
        _json(lambda value: read_definition(value, SETTINGS)),
        _dumped(_DEFINITION, {**_DEFINITION, "id": ""}),
        (JsonRefused, BodyInvalid, TooLarge),
        lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS),
    ),
    "plan": Decoder(
        _json(plan_of), _dumped(_DEFINITION), (JsonRefused, ValueError, KeyError, TypeError, AttributeError)
    ),
    "key record": Decoder(
        lambda raw: keys.decode(API_KEY.id.encode(), raw), (keys.encode(API_KEY),), (KeyRefused,), keys.encode
    ),
    "key token": Decoder(_header(keys.read_token), (f"wfk_{'a' * 12}_{'0' * 64}".encode(),)),
    "position": Decoder(
        _text(position.decode), (b"e3.152-t0.17-d0.1", b""), (ValueError,), lambda at: position.encode(at).encode()
    ),
    "cursor": Decoder(
        lambda raw: _sound(_cursor(raw)),
        (cursors.encode({"list": "runs"}, ["a", "b"]).encode(), cursors.encode({"list": "runs"}, [7]).encode()),
        (CursorRefused,),
        lambda after: cursors.encode({"list": "runs"}, after).encode(),
    ),
    "cursor, its JSON": Decoder(
        lambda raw: _sound(_cursor(base64.urlsafe_b64encode(raw).rstrip(b"="))),
        _dumped([{"list": "runs"}, ["a", "b"]], [{"list": "runs"}, [7]]),
        (CursorRefused,),
    ),
    "duration": Decoder(_text(durations.seconds), (b"50ms", b"2s", b"1.5h", b"1d"), (ValueError,)),
    "duration in JSON": Decoder(_json(durations.seconds), (b"5", b"0.5", b'"2s"'), (JsonRefused, ValueError)),
    "template": Decoder(
        _json(_template),
        _dumped({"a": ["x ${payload.a['b']} y", "$${z}", "${secrets.A}"]}),
        (JsonRefused, templates.TemplateRefused),
    ),
    "expression": Decoder(
        _text(_expression), (b"payload.x + 1", b"[1,2].map(v, v * 2)", b"size(run.id) == 1 ? 'a' : b")
    ),
    "time of a row": Decoder(_text(instant_us), (b"2026-01-01T00:00:00.000Z",), (ValueError, OverflowError)),
    "time in a query": Decoder(
        _text(lambda text: reads.instant(text, "since")), (b"2026-01-31T09:30:00+01:00",), (ParameterInvalid,)
    ),
    "time of an event": Decoder(_text(events.time_s), (b"2026-01-01T00:00:00.000Z",), (ValueError, OverflowError)),
    "Retry-After": Decoder(
        _header(lambda text: retry_after_s(text, NOW)),
        (b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"Sun Nov  6 08:49:37 1994"),
    ),
    "Idempotency-Key": Decoder(
        lambda raw: idempotency_key(_request(b"", b"idempotency-key", raw)), (b"first-visit",), (ParameterInvalid,)
    ),
    "body": Decoder(_body, _dumped(_COMMAND), (JsonRefused, TooLarge, MediaTypeRefused), orjson.dumps),
    "Content-Length": Decoder(_length, (b"2", b"4095"), (ParameterInvalid, TooLarge)),
    "start": Decoder(
        _json(_start),
        _dumped({"workflow_id": "w", "payload": {}, "version": 1, "idempotency_key": "k"}),
        (JsonRefused,),
    ),
    "webhook config": Decoder(
        _json(_webhook),
        _dumped({"url": "http://x:80/a?b", "method": "PUT", "headers": {"A": "b"}, "body": {"c": 1}, "sign_with": "K"}),
        (JsonRefused, ConfigInvalid, KeyError),
    ),
    "webhook answer": Decoder(
        _answer,
        (
            b'application/json|\n{"a": 1}',
            b"text/plain; charset=latin-1|identity\nabc",
            b"application/json|deflate\n" + zlib.compress(b'{"a": 1}'),
            b"application/json; charset=utf-8|gzip\n" + gzip.compress(b"[1]", mtime=0),
        ),
        (BodyRefused,),
    ),
    "webhook URL": Decoder(_text(webhooks.url_problem), (b"https://a.example:8080/x",)),
    "webhook header": Decoder(_text(lambda text: webhooks.header_problem(text[:5], text[5:])), (b"X-Aaavalue",)),
    "WEBHOOK_ALLOW": Decoder(
        _variable(AllowList.parse), (b"a.example, *.b.example:80, 10.0.0.0/8, [::1]:8080",), (BadSetting,)
    ),
    "WEBHOOK_PROXY": Decoder(_variable(proxy_of), (b"http://u:p@proxy.example:3128",), (BadSetting,)),
    "WORKFLOW_CORS_ORIGINS": Decoder(
        _variable(lambda text: headers.origins(SETTINGS.model_copy(update={"workflow_cors_origins": text}))),
        (b"https://a.example, http://localhost:3000",),
        (BadSetting,),
    ),
    "KAFKA_BOOTSTRAP_SERVERS": Decoder(
        _variable(lambda text: servers(SETTINGS.model_copy(update={"kafka_bootstrap_servers": text}))), (b"a:1, b:2",)
    ),
    "secret": Decoder(_variable(_secret), (b"s3cret",), (SecretUnusable, SecretUnknown)),
    "secret to sign with": Decoder(
        _text(lambda text: signature_headers("A", text, key="k", body=b"{}", now=NOW)),
        (b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
        (SecretUnusable,),
    ),
}
