"""Commands: what is taken, what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas import commands
from schemas.commands import CancelRun, Command, TriggerRun
from schemas.errors import CommandRefused
from schemas.identity import home

AT_MS = 1_767_225_600_123
AT = "2026-01-01T00:00:00.123Z"


def decode(message: Any, *, partitions: int = 4, partition: int = 1, offset: int = 7) -> Command:
    """Decode a message that stands at workflow.trigger/1/7."""
    value = message if isinstance(message, bytes) or message is None else orjson.dumps(message)
    return commands.decode(
        value, topic="workflow.trigger", partition=partition, offset=offset, timestamp_ms=AT_MS, partitions=partitions
    )


@pytest.mark.parametrize(
    "command",
    [
        TriggerRun("c1", "r1", "w", 3, {"n": 2**53 + 1}, AT, "ann"),
        TriggerRun("c1", "r1", "w", None, {}, AT),
        CancelRun("c2", "r1", "no longer wanted", AT, "ann"),
        CancelRun("c2", "r1", "", AT),
    ],
)
def test_a_command_is_read_back(command: Command) -> None:
    """Every command comes out of its record as it went in."""
    assert decode(commands.encode(command)) == command


def test_a_foreign_message_is_a_start() -> None:
    """`workflow_id` and `payload` alone start a run whose id is at home where the record stands."""
    command = decode({"workflow_id": "w", "payload": {"a": 1}})
    assert isinstance(command, TriggerRun)
    assert (command.workflow_id, command.version, command.payload) == ("w", None, {"a": 1})
    assert (command.id, command.requested_at) == ("workflow.trigger/1/7", AT)
    assert home(command.run_id, 4) == 1
    assert command == decode({"workflow_id": "w", "payload": {"a": 1}})


@pytest.mark.parametrize("timestamp_ms", [-(2**62), -1, 253_402_300_800_000, 2**63 - 1])
def test_a_time_that_no_calendar_has(timestamp_ms: int) -> None:
    """A producer may stamp its record with anything: the start counts as asked for at the nearest time there is."""
    command = commands.decode(
        b'{"workflow_id":"w"}', topic="t", partition=0, offset=0, timestamp_ms=timestamp_ms, partitions=1
    )
    nearest = "1970-01-01T00:00:00.000Z" if timestamp_ms < 0 else "9999-12-31T23:59:59.000Z"
    assert command.requested_at == nearest


def test_a_message_without_payload() -> None:
    """The payload may be left out: it is an empty object."""
    command = decode({"workflow_id": "w"})
    assert isinstance(command, TriggerRun)
    assert command.payload == {}


def test_a_flat_cancel() -> None:
    """Every command may be written as one flat object."""
    assert decode({"type": "CancelRun", "run_id": "r1", "reason": "x"}) == CancelRun(
        "workflow.trigger/1/7", "r1", "x", AT
    )


def test_cloudevents_extensions_are_let_pass() -> None:
    """A CloudEvent may have attributes that say nothing here; their names are lowercase letters and digits."""
    message = {"specversion": "1.0", "type": "TriggerRun", "comexampleid": 5, "data": {"workflow_id": "w"}}
    assert isinstance(decode(message), TriggerRun)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"),
        ("2026-01-01T02:00:00.5+02:00", "2026-01-01T00:00:00.500Z"),
        ("2026-01-01T00:00:00.123456789Z", AT),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+23:59", AT),
        ("2026-01-01T00:00:61Z", AT),
        ("20260101T000000Z", AT),
        ("2026-01-01T00:00:00", AT),
        ("٢026-01-01T00:00:00Z", AT),
        (17, AT),
    ],
)
def test_times_are_written_alike(written: Any, read: str) -> None:
    """Runs are listed in the order of their times as text: all are in UTC with milliseconds. What is no time is the record's."""
    command = decode({"workflow_id": "w", "time": written})
    assert command.requested_at == read


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "line 1"),
        (b"\xff", "UTF-8"),
        (b"[]", "not a JSON object"),
        (b'{"workflow_id":"w","workflow_id":"v"}', "twice"),
        (b'{"workflow_id":"w","payload":{"n":1e400}}', "double"),
        (b'{"workflow_id":"w","payload":{"s":"\\u0000"}}', "u0000"),
        (b'{"workflow_id":"w","payload":' + b'{"a":' * 40 + b"1" + b"}" * 41, "deep"),
        ({}, "workflow_id"),
        ({"workflow_id": 1}, "workflow_id"),
        ({"workflow_id": "w "}, "workflow_id"),
        ({"workflow_id": "w", "payload": []}, "payload"),
        ({"workflow_id": "w", "payload": None}, "payload"),
        ({"workflow_id": "w", "version": 0}, "version"),
        ({"workflow_id": "w", "version": True}, "version"),
        ({"workflow_id": "w", "version": "1"}, "version"),
        ({"workflow_id": "w", "run_id": "a/b"}, "run_id"),
        ({"workflow_id": "w", "run_id": 5}, "run_id"),
        ({"workflow_id": "w", "id": 5}, "id"),
        ({"workflow_id": "w", "id": "x" * 201}, "id"),
        ({"workflow_id": "w", "actor": ["ann"]}, "actor"),
        ({"workflow_id": "w", "priority": 1}, "priority: no such field"),
        ({"workflow_id": "w", "reason": "x"}, "reason: no such field"),
        ({"workflow_id": "w", "type": "StartRun"}, "StartRun"),
        ({"workflow_id": "w", "type": []}, "type"),
        ({"workflow_id": "w", "type": None}, "type"),
        ({"type": "CancelRun"}, "run_id"),
        ({"type": "CancelRun", "run_id": "r", "reason": 1}, "reason"),
        ({"type": "CancelRun", "run_id": "r", "reason": "x" * 2001}, "reason"),
        ({"specversion": "1.0", "type": "TriggerRun"}, "data"),
        ({"specversion": "1.0", "data": {"workflow_id": "w", "x": 1}}, "x: no such field"),
        ({"specversion": "1.0", "Some Name": 1, "data": {"workflow_id": "w"}}, "Some Name"),
    ],
)
def test_what_is_refused(message: Any, reason: str) -> None:
    """What cannot be taken is refused with the field or the place and what is wrong with it."""
    with pytest.raises(CommandRefused, match=reason):
        decode(message)
