"""Every decoder of the product: what reads bytes or text that others wrote, with what it may refuse them with.

A new decoder is one more line in `DECODERS`.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from api import cursors, headers, reads
from api.definitions import read_definition
from api.errors import BodyInvalid, CursorRefused, MediaTypeRefused, ParameterInvalid
from api.starts import idempotency_key
from projections.pending import pending_row
from projections.rows import instant_us
from schemas import commands, durations, events, jsontext, keys, position, templates, webhooks
from schemas.catalog import Catalog
from schemas.definitions import Definition
from schemas.errors import BadSetting, CommandRefused, KeyRefused, TooLarge
from schemas.jsontext import JsonRefused
from schemas.plan import plan_of
from schemas.ports import TP
from schemas.run import Run
from streams.allowed import AllowList
from streams.secret_values import SecretUnknown, SecretUnusable
from streams.security import servers
from streams.signing import signature_headers
from streams.webhook import retry_after_s
from streams.webhook_body import BodyRefused
from streams.webhook_client import proxy_of
from streams.webhook_request import ConfigInvalid
from tests.decoding import (
    A_RUN,
    BEGINNING,
    COMMAND,
    DEFINITION,
    HISTORY,
    PARTITIONS,
    SETTINGS,
    body,
    command,
    content_length,
    cursor,
    definition_record,
    dumped,
    expression,
    folded,
    of_header,
    of_json,
    of_text,
    of_variable,
    posted_start,
    request,
    secret,
    setting,
    shown_problem,
    snapshot,
    sound,
    template,
    webhook_answer,
    webhook_request,
)
from tests.given import NOW, start
from tests.histories import LogRecord
from tests.keyring import API_KEY


class Decoder(NamedTuple):
    """`read` gives a value, or raises one of `refuses`. `valid`: what it takes. `write`: the way back, where there is one."""

    read: Callable[[bytes], Any]
    valid: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...] = ()
    write: Callable[[Any], bytes] | None = None


DECODERS: Final[dict[str, Decoder]] = {
    "JSON": Decoder(jsontext.loads, dumped({"a": [1, -0.5, "é", None, {"b": True}]}), (JsonRefused,), jsontext.dumps),
    "command": Decoder(
        command,
        (*dumped(COMMAND, {"run_id": "r", "type": "CancelRun", "reason": "x"}), commands.encode(start().command)),
        (CommandRefused,),
        commands.encode,
    ),
    "time of a command's record": Decoder(
        lambda raw: command(b'{"workflow_id":"w"}', int.from_bytes(raw[:8], signed=True)), (b"\x7f" * 8, b"\x80" * 8)
    ),
    "command that waits": Decoder(
        lambda raw: pending_row(LogRecord(0, 0, None, raw), TP("t", 0), PARTITIONS, 32), dumped(COMMAND)
    ),
    "event": Decoder(events.decode, tuple(HISTORY)),
    "event, folded": Decoder(folded, (*HISTORY, *BEGINNING)),
    "snapshot": Decoder(
        snapshot, (A_RUN.dump(), Run("r2").dump()), (ValueError, KeyError, TypeError, AttributeError), Run.dump
    ),
    "definition record": Decoder(definition_record, (Catalog().next_record(DEFINITION, "2026-01-01T00:00:00.000Z"),)),
    "definition": Decoder(
        of_json(lambda value: Definition.model_validate(value).dump()),
        dumped(DEFINITION),
        (JsonRefused, ValidationError),
        orjson.dumps,
    ),
    "definition, posted": Decoder(
        of_json(lambda value: read_definition(value, SETTINGS)),
        dumped(DEFINITION, {**DEFINITION, "id": ""}),
        (JsonRefused, BodyInvalid, TooLarge),
        lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS),
    ),
    "plan": Decoder(
        of_json(plan_of), dumped(DEFINITION), (JsonRefused, ValueError, KeyError, TypeError, AttributeError)
    ),
    "key record": Decoder(
        lambda raw: keys.decode(API_KEY.id.encode(), raw), (keys.encode(API_KEY),), (KeyRefused,), keys.encode
    ),
    "key token": Decoder(of_header(keys.read_token), (f"wfk_{'a' * 12}_{'0' * 64}".encode(),)),
    "position": Decoder(
        of_text(position.decode), (b"e3.152-t0.17-d0.1", b""), (ValueError,), lambda at: position.encode(at).encode()
    ),
    "cursor": Decoder(
        lambda raw: sound(cursor(raw)),
        (cursors.encode({"list": "runs"}, ["a", "b"]).encode(), cursors.encode({"list": "runs"}, [7]).encode()),
        (CursorRefused,),
        lambda after: cursors.encode({"list": "runs"}, after).encode(),
    ),
    "cursor, its JSON": Decoder(
        lambda raw: sound(cursor(base64.urlsafe_b64encode(raw).rstrip(b"="))),
        dumped([{"list": "runs"}, ["a", "b"]], [{"list": "runs"}, [7]]),
        (CursorRefused,),
    ),
    "duration": Decoder(of_text(durations.seconds), (b"50ms", b"2s", b"1.5h", b"1d"), (ValueError,)),
    "duration in JSON": Decoder(of_json(durations.seconds), (b"5", b"0.5", b'"2s"'), (JsonRefused, ValueError)),
    "template": Decoder(
        of_json(template),
        dumped({"a": ["x ${payload.a['b']} y", "$${z}", "${secrets.A}"]}),
        (JsonRefused, templates.TemplateRefused),
    ),
    "expression": Decoder(
        of_text(expression), (b"payload.x + 1", b"[1,2].map(v, v * 2)", b"size(run.id) == 1 ? 'a' : b")
    ),
    "time of a row": Decoder(of_text(instant_us), (b"2026-01-01T00:00:00.000Z",), (ValueError, OverflowError)),
    "time in a query": Decoder(
        of_text(lambda text: reads.instant(text, "since")), (b"2026-01-31T09:30:00+01:00",), (ParameterInvalid,)
    ),
    "time of the past in a query": Decoder(
        of_text(lambda text: reads.instant_ms(text, "at")),
        (b"2025-12-31T09:30:00Z",),
        (ParameterInvalid,),
    ),
    "time of an event": Decoder(of_text(events.time_s), (b"2026-01-01T00:00:00.000Z",), (ValueError, OverflowError)),
    "Retry-After": Decoder(
        of_header(lambda text: retry_after_s(text, NOW)),
        (b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"Sun Nov  6 08:49:37 1994"),
    ),
    "Idempotency-Key": Decoder(
        lambda raw: idempotency_key(request(b"", b"idempotency-key", raw)), (b"first-visit",), (ParameterInvalid,)
    ),
    "body": Decoder(body, dumped(COMMAND), (JsonRefused, TooLarge, MediaTypeRefused), orjson.dumps),
    "Content-Length": Decoder(content_length, (b"2", b"4095"), (ParameterInvalid, TooLarge)),
    "start": Decoder(
        of_json(posted_start),
        dumped({"workflow_id": "w", "payload": {}, "version": 1, "idempotency_key": "k"}),
        (JsonRefused,),
    ),
    "webhook config": Decoder(
        of_json(webhook_request),
        dumped({"url": "http://x:80/a?b", "method": "PUT", "headers": {"A": "b"}, "body": {"c": 1}, "sign_with": "K"}),
        (JsonRefused, ConfigInvalid, KeyError),
    ),
    "webhook answer": Decoder(
        webhook_answer,
        (
            b'application/json|\n{"a": 1}',
            b"text/plain; charset=latin-1|identity\nabc",
            b"application/json|deflate\n" + zlib.compress(b'{"a": 1}'),
            b"application/json; charset=utf-8|gzip\n" + gzip.compress(b"[1]", mtime=0),
        ),
        (BodyRefused,),
    ),
    "webhook URL": Decoder(of_text(webhooks.url_problem), (b"https://a.example:8080/x",)),
    "webhook header": Decoder(of_text(lambda text: webhooks.header_problem(text[:5], text[5:])), (b"X-Aaavalue",)),
    "WEBHOOK_ALLOW": Decoder(
        of_variable(AllowList.parse), (b"a.example, *.b.example:80, 10.0.0.0/8, [::1]:8080",), (BadSetting,)
    ),
    "WEBHOOK_PROXY": Decoder(of_variable(proxy_of), (b"http://u:p@proxy.example:3128",), (BadSetting,)),
    "WORKFLOW_CORS_ORIGINS": Decoder(
        of_variable(lambda text: headers.origins(SETTINGS.model_copy(update={"workflow_cors_origins": text}))),
        (b"https://a.example, http://localhost:3000",),
        (BadSetting,),
    ),
    "KAFKA_BOOTSTRAP_SERVERS": Decoder(
        of_variable(lambda text: servers(SETTINGS.model_copy(update={"kafka_bootstrap_servers": text}))), (b"a:1, b:2",)
    ),
    "setting": Decoder(of_variable(setting), (b"8", b"6.5"), (BadSetting,)),
    "problem on the command line": Decoder(
        shown_problem,
        dumped({"detail": "d", "code": "c", "request_id": "r", "errors": [{"pointer": "/a", "detail": "e"}]}),
    ),
    "secret": Decoder(of_variable(secret), (b"s3cret",), (SecretUnusable, SecretUnknown)),
    "secret to sign with": Decoder(
        of_text(lambda text: signature_headers("A", text, key="k", body=b"{}", now=NOW)),
        (b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
        (SecretUnusable,),
    ),
}
