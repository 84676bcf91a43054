"""What waits between the group and the fold: nothing twice, nothing missing, nothing without a bound."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.intake import GAPS_MAX, Intake
from projections.pending import HeldCommands, pending_row
from schemas.errors import LogMismatch
from schemas.ports import TP
from tests.histories import LogRecord, command

EVENTS, COMMANDS = TP("events", 0), TP("commands", 0)


def records(*offsets: int) -> list[LogRecord]:
    return [LogRecord(offset, 0, None, b"x" * 10) for offset in offsets]


def offsets(taken: Sequence[object]) -> list[int]:
    return [record.offset for record in taken if isinstance(record, LogRecord)]


def test_what_came_before_is_cut_off() -> None:
    """A batch that overlaps adds only what is new; one that is all old adds nothing."""
    intake = Intake(EVENTS)
    assert intake.add(records(0, 1, 2))
    assert intake.add(records(1, 2, 3))
    assert intake.add(records(0, 1))
    assert (intake.next, intake.records, intake.bytes) == (4, 4, 40)
    assert offsets(intake.merged(99, 999)) == [0, 1, 2, 3]
    assert (intake.records, intake.bytes) == (0, 0)


def test_a_gap_keeps_what_stands_before_it() -> None:
    """Reading has to go back to the first offset that is missing."""
    intake = Intake(EVENTS)
    assert not intake.add(records(0, 1, 3, 4))
    assert intake.next == 2
    assert not intake.add(records(5, 6))
    assert intake.add(records(2, 3, 4))
    assert offsets(intake.merged(99, 999)) == [0, 1, 2, 3, 4]


def test_a_gap_that_stays_is_a_hole_in_the_log() -> None:
    """After some seeks back it is an error with the offset's name; elsewhere the count begins anew."""
    intake = Intake(EVENTS)
    intake.add(records(0))
    for _ in range(GAPS_MAX):
        assert not intake.add(records(2))
    with pytest.raises(LogMismatch, match="offset 1 is missing"):
        intake.add(records(2))
    intake.begin(1)
    assert not intake.add(records(2))


def test_batches_are_bounded() -> None:
    """By records and by bytes; what came together stays together."""
    intake = Intake(EVENTS)
    for n in range(0, 40, 10):
        intake.add(records(*range(n, n + 10)))
    assert len(intake.merged(11, 9999)) == 20
    assert len(intake.merged(99, 50)) == 10
    assert len(intake.merged(99, 9999)) == 10
    assert intake.merged(99, 9999) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=30))
def test_whatever_comes_in_the_offsets_go_out_in_order(parts: list[tuple[int, int]]) -> None:
    """Batches from anywhere: what is taken is 0, 1, 2 … without a break."""
    intake = Intake(EVENTS)
    for start, size in parts:
        try:
            intake.add(records(*range(start, start + size)))
        except LogMismatch:
            break
    assert offsets(intake.merged(999, 9999)) == list(range(intake.next))


def held(hold_s: float = 1.0) -> HeldCommands:
    return HeldCommands(COMMANDS, partitions=1, depth_max=32, hold_s=hold_s)


def starts(*run_ids: str, first: int = 0) -> list[LogRecord]:
    return [LogRecord(first + n, 0, None, command(run_id)) for n, run_id in enumerate(run_ids)]


def test_commands_settle_from_the_front() -> None:
    """The position moves over what has become a run, up to the first that has not."""
    commands = held()
    assert commands.hold(starts("a", "b", "c"), now_s=0)
    assert commands.settled({"a", "c"}.__contains__) == 1
    assert commands.settled({"a", "b", "c"}.__contains__) == 3
    commands.moved(2)
    assert (commands.position, commands.next, len(commands)) == (2, 3, 1)


def test_only_what_has_waited_gets_a_row() -> None:
    """Runs in between need none; what is too young stays held."""
    commands = held(hold_s=1.0)
    commands.hold(starts("a", "b"), now_s=0.0)
    commands.hold(starts("c", "d", first=2), now_s=0.5)
    assert commands.due_s() == 1.0
    assert commands.rows(0.9, {"a"}.__contains__)[0] == 1
    end, rows = commands.rows(1.0, {"b", "c"}.__contains__)
    assert (end, [row.run_id for row in rows]) == (3, ["a"])
    end, rows = commands.rows(9.0, {"b", "c"}.__contains__)
    assert (end, [row.run_id for row in rows]) == (4, ["a", "d"])


def test_a_hole_is_looked_at_once() -> None:
    """One seek back; when the same record comes again there is nothing before it. Another hole is another look."""
    commands = held()
    assert not commands.hold(starts("a", first=4), now_s=0)
    assert commands.hold(starts("a", first=4), now_s=0)
    assert commands.next == 5
    assert not commands.hold(starts("b", first=9), now_s=0)
    commands.begin(2, 7)
    assert (commands.position, commands.next, len(commands), commands.due_s()) == (2, 7, 0, None)
    assert not commands.hold(starts("b", first=9), now_s=0)


def test_a_row_is_the_command_as_it_was_sent() -> None:
    """With the payload's numbers exact and the time at which it was asked for, or written where it does not say."""
    value = b'{"run_id":"a","workflow_id":"greet","version":2,"payload":{"n":9223372036854775807}}'
    row = pending_row(LogRecord(7, 1_767_225_600_000, None, value), COMMANDS, 1, 32)
    assert row is not None
    assert (row.run_id, row.partition, row.offset, row.workflow_id, row.version) == ("a", 0, 7, "greet", 2)
    assert (row.payload, row.created_at) == (b'{"n":9223372036854775807}', "2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b"5", b'{"data": []}', b'{"run_id": 5}', b'{"type":"CancelRun","run_id":"a"}']
)
def test_what_starts_nothing_has_no_row_and_holds_nothing_up(value: bytes | None) -> None:
    """Its position moves when its time has come, like any other's."""
    commands = held(hold_s=1.0)
    commands.hold([LogRecord(0, 0, None, value)], now_s=0)
    assert commands.rows(1.0, lambda _: False) == (1, [])
