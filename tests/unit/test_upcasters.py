"""Events of other versions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas import events, rule
from schemas.run import Run, extend
from schemas.upcasters import UPCASTERS, VERSIONS
from streams.partition import Partition
from tests.given import given, requested, started, take
from tests.histories import LogRecord


@pytest.fixture
def third_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release in which StepSucceeded has its third version: `result` became `value`, then `output`."""

    def first(data: dict[str, Any]) -> dict[str, Any]:
        return {"step": data["step"], "attempt": data["attempt"], "value": data["result"]}

    def second(data: dict[str, Any]) -> dict[str, Any]:
        return {"step": data["step"], "attempt": data["attempt"], "output": data["value"]}

    monkeypatch.setitem(VERSIONS, "StepSucceeded", 3)
    monkeypatch.setitem(UPCASTERS, ("StepSucceeded", 1), first)
    monkeypatch.setitem(UPCASTERS, ("StepSucceeded", 2), second)


def event(version: Any, data: Any, type_: str = "StepSucceeded") -> events.Envelope:
    """The third event of the run below, as another release wrote it."""
    run = started_run()
    value = events.encode(type_, "r1", data, time="2026-01-01T00:00:00.000Z", epoch=1, seq=3, prev=run.tip)
    envelope = events.decode(orjson.dumps({**orjson.loads(value), "dataversion": version}))
    assert envelope is not None
    return envelope


def started_run() -> Run:
    return given(requested(), started())


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize(("version", "field"), [(1, "result"), (2, "value"), (3, "output")])
def test_old_data_is_read_as_the_newest(version: int, field: str) -> None:
    """One small function per step of a version, one after the other, gives the newest shape."""
    run = started_run()
    extend(run, event(version, {"step": "call", "attempt": 1, field: 5}), "tip")
    assert (run.phase, run.outputs, run.set_aside) == ("ready", {"call": 5}, None)


@pytest.mark.usefixtures("third_version")
def test_the_version_without_a_word() -> None:
    """An event that names no version has the first one."""
    value = orjson.dumps(
        {
            "type": "StepSucceeded",
            "subject": "r",
            "epoch": 1,
            "seq": 3,
            "prev": "x",
            "data": {"step": "s", "attempt": 1, "result": 2},
        }
    )
    envelope = events.decode(value)
    assert envelope is not None
    assert envelope["data"] == {"step": "s", "attempt": 1, "output": 2}


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize(
    ("version", "data"),
    [(4, {"step": "call"}), (0, {}), ("2", {}), (None, {}), ([], {}), (1, {"step": "call"}), (1, None), (2, 7)],
)
def test_what_cannot_be_brought_up(version: Any, data: Any) -> None:
    """Data of the future, of no version, or not of its version's shape: a fact that sets the run aside, never an error."""
    run = started_run()
    extend(run, event(version, data), "tip")
    assert (run.seq, run.tip) == (3, "tip")
    assert run.set_aside is not None


def test_an_end_of_the_future_is_an_end() -> None:
    """The rule hangs on RunCompleted: whatever its data says, nothing after it is a fact."""
    run = started_run()
    envelope = event(2, {"outcome": "fine"}, "RunCompleted")
    extend(run, envelope, "tip")
    assert (run.phase, envelope["type"]) == ("done", "RunCompleted")
    assert run.set_aside is not None


@pytest.mark.parametrize("changes", [{"dataversion": 2}, {"data": None}, {"data": []}, {"dataversion": "x", "data": 5}])
def test_a_taking_of_the_future_is_a_taking(changes: dict[str, Any]) -> None:
    """The rule hangs on PartitionTaken: its epoch counts whatever its data says, or whether it has any."""
    value = orjson.loads(events.encode_taken(0, 5, "w", "t", "2026-01-01T00:00:00.000Z")) | changes
    envelope = events.decode(orjson.dumps(value))
    assert envelope is not None
    assert rule.is_taken(envelope)
    part = Partition(0, 1, position=0, assigned=True, token="t")
    part.fold(LogRecord(0, 0, None, orjson.dumps(value)), {})
    assert part.epoch == 5


def test_a_taking_without_data() -> None:
    """A foreign record that takes the partition and says nothing else is a fact, not an error."""
    part = Partition(0, 1, position=0, assigned=True, token="t")
    value = b'{"type":"PartitionTaken","subject":"partition/0","seq":0,"epoch":5,"prev":null}'
    part.fold(LogRecord(0, 0, None, value), {})
    assert (part.epoch, part.owner) == (5, False)


def test_a_run_goes_on_behind_an_unknown_event() -> None:
    """The tip moves over an event of an unknown type, so that a release that knows it can go on."""
    run = started_run()
    take(run, [("StepTeleported", {"to": "b"}), ("StepSucceeded", {"step": "call", "attempt": 1, "output": 1})])
    assert (run.seq, run.outputs) == (4, {})
    assert "StepTeleported" in (run.set_aside or "")
