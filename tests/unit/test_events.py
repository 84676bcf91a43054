"""Events as bytes: envelope, readability, times."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import events
from tests import shapes

TAKEN = events.encode_taken(3, 7, "w1", "t1", "2026-01-01T00:00:00.000Z")


def event(**changes: Any) -> bytes:
    """A readable event with some fields changed; None takes a field away."""
    envelope = {"type": "StepStarted", "subject": "r1", "epoch": 1, "seq": 2, "prev": "ab", "data": {}, **changes}
    return orjson.dumps({name: value for name, value in envelope.items() if value != ...})


def test_an_event_is_a_cloudevent() -> None:
    """The record holds the CloudEvents attributes, ours beside them, and `data`."""
    value = events.encode(
        "StepInterrupted",
        "r1",
        {"step": "a", "attempt": 1},
        time="2026-01-01T00:00:00.000Z",
        epoch=2,
        seq=5,
        prev="00ff",
        cause="workflow.trigger/0/9",
        actor="ann",
    )
    shapes.check(value)
    assert events.decode(value) == {
        "specversion": "1.0",
        "id": "r1:5",
        "source": "/workflow",
        "type": "StepInterrupted",
        "subject": "r1",
        "time": "2026-01-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "dataversion": 1,
        "epoch": 2,
        "seq": 5,
        "prev": "00ff",
        "data": {"step": "a", "attempt": 1},
        "cause": "workflow.trigger/0/9",
        "actor": "ann",
    }


def test_partition_taken() -> None:
    """It speaks of a partition, has seq 0 and an id of its own for each epoch."""
    shapes.check(TAKEN)
    envelope = events.decode(TAKEN)
    assert envelope is not None
    assert (envelope["subject"], envelope["id"], envelope["seq"], envelope["prev"]) == (
        "partition/3",
        "partition/3:7",
        0,
        None,
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"7",
        b'"text"',
        b"\xff",
        event(subject=...),
        event(subject=5),
        event(type=...),
        event(type=[]),
        event(seq=...),
        event(seq="1"),
        event(seq=1.0),
        event(seq=True),
        event(seq=-1),
        event(epoch=...),
        event(epoch=None),
        event(epoch=0),
        event(epoch=2**63),
        event(epoch=5).replace(b":5", b":99999999999999999999"),
        event(prev=...),
        event(prev=5),
    ],
)
def test_unreadable(value: bytes | None) -> None:
    """Without subject, type, seq, epoch and prev of the right kinds, the rule cannot be asked about a record."""
    assert events.decode(value) is None


@pytest.mark.parametrize(
    "value", [event(), event(prev=None), event(data=...), event(data=7), event(time=...), event(type="New")]
)
def test_readable(value: bytes) -> None:
    """What else a record says, or does not say, is not asked."""
    assert events.decode(value) is not None


FIELDS = st.sampled_from("type subject epoch seq prev data dataversion".split())
VALUES: st.SearchStrategy[object] = st.sampled_from([None, True, -3, 0, 1, 2, "RunRequested", "PartitionTaken", []])


@given(st.binary(max_size=50) | st.dictionaries(FIELDS, VALUES).map(orjson.dumps))
def test_any_bytes_are_an_event_or_unreadable(value: bytes) -> None:
    """Decoding never raises."""
    events.decode(value)


@given(st.floats(0, 4_000_000_000))
def test_times_are_never_early(at_s: float) -> None:
    """A time as text is at its moment or less than a millisecond after it, but for a double's last digits."""
    assert at_s - 1e-6 <= events.time_s(events.time_text(at_s)) < at_s + 0.001 + 1e-6


def test_time_text() -> None:
    """Times are RFC 3339 in UTC with milliseconds."""
    assert events.time_text(1_767_225_600.0001) == "2026-01-01T00:00:00.001Z"
