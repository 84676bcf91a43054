"""How each decoder of the product is called by the tests that feed it anything, and what it is fed to begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import httpx
import orjson
from starlette.requests import Request

from api import cursors
from api.body import Bodies
from api.errors import CursorRefused, FieldError
from api.starts import parse_start
from ops import client, config
from projections.fold import PartitionFold
from projections.memory import MemoryStore
from projections.rows import columns, stored_run
from schemas import commands, events, jsontext, templates
from schemas.catalog import Catalog
from schemas.identity import home
from schemas.run import Run
from schemas.settings import Settings
from streams import expressions, resolver
from streams.masking import Mask
from streams.partition import Partition
from streams.secret_values import SecretValues
from streams.webhook_body import masked_start, read, text_of, value_of
from streams.webhook_request import WebhookRequest, prepared
from tests.given import NOW, delay, requested, started, succeeded, take, webhook, workflow
from tests.histories import LogRecord

BYTES_MAX: Final = 4_096
RUN_ID: Final = "r1"
PARTITIONS: Final = 1
SETTINGS: Final = Settings()
CLIENT: Final = httpx.AsyncClient(trust_env=False)


def of_text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of texts that stood in JSON."""
    return lambda raw: read(raw.decode(errors="replace"))


def of_variable(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A reader of environment variables, which hold what is no UTF-8 as lone surrogates."""
    return lambda raw: read(raw.decode(errors="surrogateescape"))


def of_header(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda raw: read(raw.decode("latin-1"))


def of_json(read: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    """A reader of values that came in as JSON."""
    return lambda raw: read(jsontext.loads(raw))


def dumped(*values: Any) -> tuple[bytes, ...]:
    return tuple(map(orjson.dumps, values))


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def command(raw: bytes, timestamp_ms: int = 1_767_225_600_000) -> commands.Command:
    return commands.decode(raw, topic="t", partition=0, offset=3, timestamp_ms=timestamp_ms, partitions=PARTITIONS)


def fold(values: list[bytes]) -> PartitionFold:
    fold = PartitionFold(0, PARTITIONS, "c")
    taken = events.encode_taken(0, 1, "w", "t", events.time_text(NOW))
    records = [LogRecord(n, 0, RUN_ID.encode(), value) for n, value in enumerate([taken, *values])]
    subjects = {str(event["subject"]): None for value in values if (event := events.decode(value)) is not None}
    assert fold.take(records, subjects) == len(records)
    return fold


def folded(raw: bytes) -> Any:
    """An event of an owner, alone and after a sound beginning, through the folds of both sides, into a store and out of it."""
    batches = []
    for before in ([], BEGINNING):
        batch = fold([*before, raw]).batch()
        batches.append(batch)
        for row in batch.runs:
            stored_run(*columns(row))
        store = MemoryStore()
        run(store.apply(batch))
        run(store.snapshot(0))
        part = Partition(0, PARTITIONS, position=0)
        part.epoch = 1
        for offset, value in enumerate([*before, raw]):
            part.fold(LogRecord(offset, 0, None, value), {})
    return batches


def definition_record(raw: bytes) -> Any:
    catalog = Catalog()
    made = catalog.fold(0, raw, 0)
    if made is not None:
        command = commands.TriggerRun("c", RUN_ID, made.id, None, {}, events.time_text(NOW))
        resolver._start(command, made)
    return made


def snapshot(raw: bytes) -> Run:
    return Run.load(RUN_ID, raw)


def template(value: Any) -> Any:
    sources = templates.expressions(value)
    templates.secrets(value)
    for source in sources:
        expressions.check(source)
    return templates.render(value, dict.fromkeys(sources, 1)) if not templates.secrets(value) else None


def expression(text: str) -> Any:
    return expressions.evaluate([text[:200]], {"payload": {"x": 1}, "steps": {}, "run": {"id": "r"}})


def request(raw: bytes, name: bytes, value: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    return Request({"type": "http", "headers": [(name, value), (b"content-type", b"application/json")]}, receive)


def body(raw: bytes) -> Any:
    return run(Bodies(depth_max=32).json(request(raw, b"x", b""), bytes_max=BYTES_MAX, setting="S"))


def content_length(raw: bytes) -> Any:
    whole = request(b"{}", b"content-length", raw)
    return run(Bodies(depth_max=32).json(whole, bytes_max=BYTES_MAX, setting="S"))


def posted_start(value: Any) -> Any:
    errors: list[FieldError] = []
    found = parse_start(value, errors, item=True)
    assert (found is None) == bool(errors)
    return found


def webhook_request(value: Any) -> Any:
    config = value if isinstance(value, dict) else {"url": value}
    request = WebhookRequest.of(config, idempotency_key="k", timeout_s=1, response_bytes_max=BYTES_MAX)
    assert request.shown
    return prepared(CLIENT, request, {"K": "whsec_" + "A" * 32})


def webhook_answer(raw: bytes) -> Any:
    """The first line names content type and encoding, the rest is the body."""
    head, _, content = raw.partition(b"\n")
    type_, _, encoding = head.partition(b"|")
    given = [(b"content-type", type_.replace(b"\r", b"")), (b"content-encoding", encoding.replace(b"\r", b""))]
    response = httpx.Response(200, headers=given, stream=httpx.ByteStream(content))
    body = run(read(response, BYTES_MAX, cut=True))
    text_of(body.plain, response.charset_encoding, whole=body.whole)
    masked_start(body.plain, response.charset_encoding, Mask(["secret"]), whole=body.whole)
    return value_of(response, body.plain)


def cursor(raw: bytes) -> Any:
    bound = {"list": "runs"}
    try:
        return cursors.decode(raw.decode("latin-1"), bound, (str, str))
    except CursorRefused:
        return cursors.decode(raw.decode("latin-1"), bound, (int,))


def sound(value: Any) -> Any:
    """What came out can be given to every store."""
    jsontext.check(value)
    return value


def setting(text: str) -> Any:
    """One number with bounds, and one without a fraction."""
    return config.load(workflow_session_timeout_s=text, workflow_partitions=text.partition(".")[0]).workflow_partitions


def shown_problem(raw: bytes) -> str:
    return str(client._problem(httpx.Response(400, content=raw)))


def secret(text: str) -> str:
    return SecretValues({"WORKFLOW_SECRET_A": text}).get("A")


BEGINNING: Final = take(Run(RUN_ID), [requested(workflow(webhook("call"), delay("wait"))), started()])
A_RUN: Final = Run(RUN_ID)
HISTORY: Final = take(
    A_RUN, [requested(workflow(webhook("call"), delay("wait"))), started(), succeeded(output={"a": [1]})]
)
DEFINITION: Final = {
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
COMMAND: Final = {"type": "TriggerRun", "run_id": "r1", "workflow_id": "w", "version": 1, "payload": {"a": 1}}
assert home(RUN_ID, PARTITIONS) == 0
