"""The rule: which record is a fact."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import rule
from schemas.identity import home
from schemas.rule import Orphan

TIP = "ab" * 16


def event(**changes: Any) -> dict[str, Any]:
    return {"type": "StepStarted", "subject": "r1", "epoch": 3, "seq": 5, "prev": TIP, **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"type": "NeverHeardOf"}, None),
        ({"epoch": 2}, "old epoch"),
        ({"epoch": 4}, "old epoch"),
        ({"seq": 4}, "not the tip"),
        ({"seq": 6}, "not the tip"),
        ({"prev": "cd" * 16}, "not the tip"),
        ({"prev": None}, "not the tip"),
        ({"epoch": 2, "seq": 4}, "old epoch"),
    ],
)
def test_an_event_of_a_run(changes: dict[str, Any], reason: Orphan | None) -> None:
    """A fact carries the partition's epoch and extends its run's tip."""
    assert rule.orphaned(event(**changes), 3, 4, TIP, False) == reason


def test_after_the_end() -> None:
    """Nothing is a fact of a run that is over."""
    assert rule.orphaned(event(), 3, 4, TIP, True) == "after the end"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"seq": 1, "prev": None}, None), ({"seq": 1}, "not the tip"), ({"seq": 2, "prev": None}, "not the tip")],
)
def test_the_first_event(changes: dict[str, Any], reason: Orphan | None) -> None:
    """A run begins with seq 1 and no prev."""
    assert rule.orphaned(event(**changes), 3, 0, None, False) == reason


@pytest.mark.parametrize(
    ("epoch", "subject", "fact"),
    [
        (4, "partition/2", True),
        (9, "partition/2", True),
        (3, "partition/2", False),
        (2, "partition/2", False),
        (4, "partition/1", False),
    ],
)
def test_a_taking(epoch: int, subject: str, fact: bool) -> None:
    """PartitionTaken is a fact with a higher epoch than the partition's, of this partition."""
    assert rule.takes({"type": "PartitionTaken", "epoch": epoch, "subject": subject}, 2, 3) is fact


def test_what_speaks_of_the_partition() -> None:
    """The type alone tells takings from events of runs."""
    assert rule.is_taken({"type": "PartitionTaken", "subject": "r1"})
    assert not rule.is_taken(event())


def test_at_home() -> None:
    """A run begins in its home partition only."""
    at = home("r1", 8)
    assert [rule.at_home(event(), number, 8) for number in range(8)] == [number == at for number in range(8)]
