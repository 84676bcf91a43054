"""The events: what each one says, how it is written and how it is read.

An event is one CloudEvent in JSON. On the hot path it is a plain dict of the envelope (`Envelope`); the shapes of
`data` are the TypedDicts below; tests hold every event that is written to its shape.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, NotRequired

import orjson
from typing_extensions import TypedDict  # pydantic cannot read typing's before Python 3.12

from schemas.identity import digest
from schemas.upcasters import VERSIONS, upcast

SOURCE: Final = "/workflow"
PARTITION_TAKEN: Final = "PartitionTaken"
RUN_COMPLETED: Final = "RunCompleted"
EPOCH_END: Final = 2**63
_CALENDAR_END_MS: Final = 253_402_300_799_000

type_names = Literal[
    "PartitionTaken",
    "RunRequested",
    "StepStarted",
    "StepSucceeded",
    "StepFailed",
    "StepRetryScheduled",
    "StepInterrupted",
    "RunCompleted",
]


class ErrorData(TypedDict):
    """Why something failed: a stable `code`, a sentence, and whatever else helps."""

    code: str
    message: str
    step: NotRequired[str]
    details: NotRequired[Any]


class PartitionTakenData(TypedDict):
    """A worker took the partition: `token` is random, one for each of its assignments."""

    worker: str
    token: str


class RunRequestedData(TypedDict):
    """A command was taken: from here on the run exists, with its definition and payload pinned. `refused`: why it can only fail."""

    workflow_id: str
    version: int | None
    definition: dict[str, Any] | None
    payload: dict[str, Any]
    command: str
    requested_at: str
    refused: NotRequired[ErrorData]


class StepStartedData(TypedDict):
    """An attempt begins. `until` (delays): when it is over. `input`: the config with its expressions replaced by their values."""

    step: str
    attempt: int
    until: NotRequired[str]
    input: NotRequired[dict[str, Any]]


class StepSucceededData(TypedDict):
    """The attempt ended well."""

    step: str
    attempt: int
    output: Any


class StepFailedData(TypedDict):
    """The step failed for good. Attempt 0: it failed before any attempt could begin (an expression, a config)."""

    step: str
    attempt: int
    error: ErrorData


class StepRetryScheduledData(TypedDict):
    """The attempt failed in a way that may pass; the next one begins at `until`."""

    step: str
    attempt: int
    error: ErrorData
    until: str


class StepInterruptedData(TypedDict):
    """The attempt was started and has no result, and nobody runs it: its worker is gone."""

    step: str
    attempt: int


class StepSummary(TypedDict):
    """A step of a finished run."""

    name: str
    attempts: int
    started_at: str | None
    finished_at: str | None


class RunCompletedData(TypedDict):
    """The run is over; all that downstream is told. `results` holds the output of each step that succeeded."""

    status: Literal["SUCCESS", "FAILED", "CANCELLED"]
    workflow_id: str
    version: int | None
    results: dict[str, Any]
    error: ErrorData | None
    steps: list[StepSummary]
    created_at: str
    started_at: str | None


Envelope = dict[str, Any]
"""specversion id source type subject time datacontenttype dataversion epoch seq prev cause actor data, as decoded JSON."""

SHAPES: Final[dict[str, type]] = {
    "PartitionTaken": PartitionTakenData,
    "RunRequested": RunRequestedData,
    "StepStarted": StepStartedData,
    "StepSucceeded": StepSucceededData,
    "StepFailed": StepFailedData,
    "StepRetryScheduled": StepRetryScheduledData,
    "StepInterrupted": StepInterruptedData,
    "RunCompleted": RunCompletedData,
}
"""Every event type and the shape of its data, in its newest version."""


def encode(
    type_: str,
    subject: str,
    data: Any,
    *,
    time: str,
    epoch: int,
    seq: int,
    prev: str | None,
    cause: str | None = None,
    actor: str | None = None,
) -> bytes:
    """The record value of an event. The bytes are final: the next event of the run names their digest."""
    envelope: Envelope = {
        "specversion": "1.0",
        "id": f"{subject}:{seq or epoch}",
        "source": SOURCE,
        "type": type_,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "dataversion": VERSIONS.get(type_, 1),
        "epoch": epoch,
        "seq": seq,
        "prev": prev,
        "data": data,
    }
    if cause is not None:
        envelope["cause"] = cause
    if actor is not None:
        envelope["actor"] = actor
    return orjson.dumps(envelope)


def decode(value: bytes | None) -> Envelope | None:
    """The envelope of a record, its data brought to the newest version; None when rule 4 cannot be asked about it.

    Readable means: an object with a text `subject` and `type`, integers `seq` >= 0 and `epoch` from 1 to below 2^63, `prev` text or null.
    """
    try:
        envelope = orjson.loads(value or b"")
        subject, seq, epoch, prev = envelope["subject"], envelope["seq"], envelope["epoch"], envelope["prev"]
        if (
            type(subject) is not str
            or type(envelope["type"]) is not str
            or type(seq) is not int
            or type(epoch) is not int
            or seq < 0
            or not 1 <= epoch < EPOCH_END
            or (prev is not None and type(prev) is not str)
        ):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    if envelope.get("dataversion", 1) != VERSIONS.get(envelope["type"], 1):
        upcast(envelope)
    return envelope  # type: ignore[no-any-return]


def partition_subject(partition: int) -> str:
    return f"partition/{partition}"


def encode_taken(partition: int, epoch: int, worker: str, token: str, time: str) -> bytes:
    """The record value of a `PartitionTaken`."""
    data: PartitionTakenData = {"worker": worker, "token": token}
    return encode(PARTITION_TAKEN, partition_subject(partition), data, time=time, epoch=epoch, seq=0, prev=None)


def time_text(at_s: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC with milliseconds, rounded up, so that no due time is early."""
    return _ms_text(-int(-at_s * 1000 // 1))


def record_time(timestamp_ms: int) -> str:
    """When a record says that it was written, as `time_text`. Its producer may say anything, years included that no calendar has."""
    return _ms_text(min(max(timestamp_ms, 0), _CALENDAR_END_MS))


@lru_cache(maxsize=4096)
def _ms_text(ms: int) -> str:
    """Many events share a millisecond, and formatting one costs as much as encoding an event."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC).isoformat()[:19]}.{ms % 1000:03d}Z"


def time_s(text: str) -> float:
    """The reverse of `time_text`."""
    return datetime.fromisoformat(text).timestamp()


__all__ = ["Envelope", "decode", "digest", "encode", "encode_taken", "record_time", "time_s", "time_text"]
