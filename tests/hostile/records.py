"""Bytes that anybody who reaches the brokers may put onto a topic."""

from __future__ import annotations

from typing import Final

from tests.harness.commands import GARBAGE
from tests.hostile.texts import REFUSED

_EVENT: Final = (
    '{"specversion":"1.0","id":"a","source":"b","type":"%s","subject":"%s","epoch":%s,"seq":%s,"prev":%s,"data":%s}'
)


def _event(type_: str, subject: str, epoch: str, seq: str, prev: str, data: str = "{}") -> bytes:
    return (_EVENT % (type_, subject, epoch, seq, prev, data)).encode()


RECORDS: Final[dict[str, bytes | None]] = {
    **REFUSED,
    **{f"garbage {n}": value for n, value in enumerate(GARBAGE)},
    "tombstone": None,
    "command: id upwards": b'{"run_id":"../../etc/passwd","workflow_id":"noop","payload":{}}',
    "command: id with CRLF": b'{"run_id":"a\\r\\nb","workflow_id":"noop","payload":{}}',
    "command: id of other letters": '{"run_id":"\uff41","workflow_id":"noop","payload":{}}'.encode(),
    "command: id too long": b'{"run_id":"' + b"a" * 200_000 + b'","workflow_id":"noop"}',
    "command: id that is an object": b'{"run_id":{},"workflow_id":"noop"}',
    "command: payload that is a list": b'{"workflow_id":"noop","payload":[]}',
    "command: version past 64 bits": b'{"workflow_id":"noop","version":99999999999999999999}',
    "command: version below one": b'{"workflow_id":"noop","version":0}',
    "command: unknown type": b'{"type":"DropRuns","workflow_id":"noop"}',
    "command: unknown field": b'{"workflow_id":"noop","__class__":"os"}',
    "command: data that is a text": b'{"specversion":"1.0","type":"TriggerRun","data":"noop"}',
    "command: deep data": b'{"type":"TriggerRun","data":' + b'{"data":' * 5_000 + b"1" + b"}" * 5_001,
    "event: unknown type": _event("RunStolen", "nobody", "0", "1", "null"),
    "event: epoch past 64 bits": _event("RunRequested", "nobody", "9" * 30, "1", "null"),
    "event: epoch negative": _event("RunRequested", "nobody", "-1", "1", "null"),
    "event: epoch true": _event("RunRequested", "nobody", "true", "1", "null"),
    "event: epoch far ahead": _event("RunRequested", "nobody", str(2**62), "1", "null"),
    "event: seq zero": _event("StepStarted", "nobody", "1", "0", "null"),
    "event: seq a fraction": _event("StepStarted", "nobody", "1", "1.5", "null"),
    "event: seq past 31 bits": _event("StepStarted", "nobody", "1", str(2**40), '"00"'),
    "event: prev that is a number": _event("StepStarted", "nobody", "1", "2", "7"),
    "event: subject with SQL": _event("StepStarted", "'; drop table runs; --", "1", "2", '"00"'),
    "event: subject with a NUL": _event("RunRequested", "a\\u0000b", "1", "1", "null"),
    "event: subject half a surrogate": _event("RunRequested", "\\ud800", "1", "1", "null"),
    "event: number that no double holds": _event("PartitionTaken", "partition/0", "7", "0", "null", '{"a":1e400}'),
    "event: integer that no double holds": _event(
        "PartitionTaken", "partition/0", "7", "0", "null", '{"a":1' + "0" * 400 + "}"
    ),
    "event: half a surrogate in its data": _event("PartitionTaken", "partition/0", "7", "0", "null", '{"a":"\\ud800"}'),
    "event: take without fields": _event("PartitionTaken", "partition/0", "1", "1", "null"),
    "event: take of another partition": _event("PartitionTaken", "partition/99", "1", "1", "null"),
    "definition: without definition": b'{"type":"WorkflowDefined","data":{}}',
    "definition: version that is a text": b'{"id":"noop","version":"2","steps":[]}',
    "key: without hash": b'{"id":"aaaaaaaaaaaaaaaa","name":"thief","scopes":["admin"]}',
    "key: scopes that are a text": b'{"id":"a","name":"b","scopes":"admin","hash":"c"}',
}
"""Name → the value of a record; each goes to every topic."""

FORGED: Final[dict[str, bytes]] = {
    "unknown type": _event("RunStolen", "forged-1", "1", "1", "null"),
    "no fields": _event("RunRequested", "forged-2", "1", "1", "null"),
    "definition that is a text": _event("RunRequested", "forged-3", "1", "1", "null", '{"definition":"x"}'),
    "step name that is a list": _event(
        "RunRequested",
        "forged-7",
        "1",
        "1",
        "null",
        '{"workflow_id":"w","version":1,"payload":{},"command":"c","requested_at":"2026-01-01T00:00:00.000Z",'
        '"definition":{"id":"w","steps":[{"name":[],"type":"delay","config":{"duration":1}}]}}',
    ),
    "begins with a step": _event("StepStarted", "forged-4", "1", "1", "null", '{"step":"a","attempt":1}'),
    "data that is a list": _event("RunRequested", "forged-6", "1", "1", "null", "[]"),
    "begins with its end": _event("RunCompleted", "forged-5", "1", "1", "null", '{"status":"SUCCESS"}'),
}
"""Name → an event that only the owner of its partition could have written, and that makes no run. It is set aside."""

KEYS: Final[tuple[bytes | None, ...]] = (None, b"", b"\xff\xfe", b"a\0b", "\uff4b".encode(), b"k" * 10_000)
"""Keys of the records, in turn."""
