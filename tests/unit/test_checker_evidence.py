"""The judge of histories holds the log against what others have seen: clients, receivers, subscribers, tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.checker_clients import check_deliveries
from tests.forged import DELIVERY, GOOD, Topics, red, sound
from tests.reader import Raw


@pytest.fixture
def topics() -> Topics:
    return sound()


def test_a_sound_history(topics: Topics) -> None:
    """Nothing is wrong with it by any check, and it says what it has seen."""
    judge = topics.judge()
    judge.check_accepted({"r1": {"n": 1}})
    judge.check_announcements()
    check_deliveries(judge, [DELIVERY, DELIVERY])
    judge.check_rows({"r1": judge.columns("r1")})
    judge.check_nothing_vanished({"workflow.events": {0: topics.events[:4]}})
    judge.check_waste(0)
    assert judge.violations == []
    assert (judge.counts["PartitionTaken"], judge.counts["StepInterrupted"], judge.counts["orphans"]) == (1, 1, 0)
    assert judge.columns("r1")["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("accepted", "invariant"),
    [({"r2": {}}, "I1"), ({"r1": {"n": 2}}, "I11"), ({"r1": {"n": 1.0}}, "I11"), ({"r1": {"n": True}}, "I11")],
)
def test_what_was_accepted(topics: Topics, accepted: dict[str, Any], invariant: str) -> None:
    """Every 202 is a run with exactly the payload that was sent."""
    judge = topics.judge()
    judge.check_accepted(accepted)
    red(judge, invariant)


@pytest.mark.parametrize("told", [[], [b"{}"], [None, b"{}"]])
def test_announcements(topics: Topics, told: list[bytes | None]) -> None:
    """Every end is announced, and every copy is the end's own bytes."""
    last = topics.events[-1].value
    topics.completed = [Raw(n, 0, b"r1", value or last) for n, value in enumerate(told)]
    judge = topics.judge()
    judge.check_announcements()
    red(judge, "I8")


def test_an_announcement_of_nothing(topics: Topics) -> None:
    """What did not end is not announced."""
    topics.tell(b"{}", "r2")
    judge = topics.judge()
    judge.check_announcements()
    red(judge, "I8")


@pytest.mark.parametrize(
    "journal",
    [
        [],
        [{**DELIVERY, "body": {"n": 2}}],
        [{**DELIVERY, "headers": {}}],
        [DELIVERY] * 4,
        [{**DELIVERY, "headers": {"idempotency-key": "another"}}],
    ],
)
def test_deliveries(topics: Topics, journal: list[Any]) -> None:
    """A success was delivered with its key and body, and not more often than it was tried."""
    judge = topics.judge()
    check_deliveries(judge, journal)
    red(judge, "I7")


def test_a_shared_key(topics: Topics) -> None:
    """No two runs deliver under one key."""
    topics.run(GOOD, "r2")
    judge = topics.judge()
    check_deliveries(judge, [DELIVERY])
    red(judge, "I7")


@pytest.mark.parametrize(
    "changes", [{"status": "RUNNING"}, {"seq": 9}, {"digest": "0"}, {"results": {}}, {"payload": {"n": 1.0}}]
)
def test_rows(topics: Topics, changes: dict[str, Any]) -> None:
    """Every column is what the log says."""
    judge = topics.judge()
    judge.check_rows({"r1": {**judge.columns("r1"), **changes}})
    red(judge, "I9")


@pytest.mark.parametrize("rows", [{}, {"r1": {}}])
def test_a_missing_row(topics: Topics, rows: dict[str, Any]) -> None:
    """Every run has a row."""
    judge = topics.judge()
    judge.check_rows(rows)
    red(judge, "I9")


def test_a_row_of_nothing(topics: Topics) -> None:
    """No row is without its run."""
    judge = topics.judge()
    judge.check_rows({"r1": judge.columns("r1"), "r2": {"status": "PENDING"}})
    red(judge, "I9")


def test_waste(topics: Topics) -> None:
    """Orphans are counted by their reason, and have a bound."""
    topics.add(topics.events[2].value)
    topics.add(b"{")
    judge = topics.judge()
    assert (judge.counts["orphan after the end"], judge.counts["orphan unreadable"]) == (1, 1)
    judge.check_waste(1)
    red(judge, "I14")
