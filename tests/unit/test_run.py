"""The fold of a run."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.events import time_text
from schemas.run import Run
from tests.given import (
    NOW,
    delay,
    failed,
    given,
    interrupted,
    requested,
    retrying,
    started,
    succeeded,
    take,
    webhook,
    workflow,
)

TWO = workflow(webhook("a"), webhook("b"))


def test_a_new_run() -> None:
    """RunRequested pins what the run works with; it is PENDING until its first step starts."""
    run = given(requested(TWO, n=1))
    assert (run.status, run.phase, run.step, run.workflow_id, run.version) == ("PENDING", "requested", "a", "w", 1)
    assert (run.payload, run.command, run.created_at, run.seq) == ({"n": 1}, "c-r1", time_text(NOW), 1)


def test_a_step_that_starts() -> None:
    """The attempt is open, under the epoch in which it was written."""
    run = given(requested(TWO))
    take(run, [started("a")], epoch=7)
    assert (run.status, run.phase, run.attempt, run.open_epoch) == ("RUNNING", "started", 1, 7)
    assert run.started_at == time_text(NOW)


def test_a_step_that_succeeds() -> None:
    """Its output is kept, its counters are gone, the next step is current."""
    run = given(requested(TWO), started("a"), interrupted("a"), started("a", 2), succeeded("a", 2, output=[1]))
    assert (run.outputs, run.phase, run.step) == ({"a": [1]}, "ready", "b")
    assert (run.attempt, run.tries, run.interruptions, run.open_epoch) == (0, 0, 0, 0)
    assert run.summaries() == [
        {"name": "a", "attempts": 2, "started_at": time_text(NOW), "finished_at": time_text(NOW)}
    ]


def test_a_step_that_is_tried_again() -> None:
    """Failures and interruptions are counted apart; the first start of the step stays."""
    run = given(requested(TWO), started("a"), retrying("a", until=NOW + 9))
    assert (run.phase, run.tries, run.until, run.error["code"]) == ("retrying", 1, time_text(NOW + 9), "http_503")
    take(run, [started("a", 2), interrupted("a", 2)], now=NOW + 9)
    assert (run.phase, run.tries, run.interruptions, run.until) == ("ready", 1, 1, None)
    assert run.times == [[2, time_text(NOW), None]]


def test_a_step_that_fails() -> None:
    """The run waits for its end, with the step's error."""
    run = given(requested(TWO), started("a"), failed("a"))
    assert (run.phase, run.error) == ("failed", {"code": "http_400", "message": "http_400", "step": "a"})


def test_a_step_that_fails_before_it_starts() -> None:
    """Attempt 0 says that no attempt was made."""
    run = given(requested(TWO), failed("a", 0))
    assert run.summaries() == [{"name": "a", "attempts": 0, "started_at": None, "finished_at": time_text(NOW)}]


def test_the_end() -> None:
    """The end's status and error are the run's; nothing waits any more."""
    end = {"status": "CANCELLED", "error": {"code": "cancelled", "message": "enough"}}
    run = given(requested(workflow(delay())), started("wait", until=time_text(NOW + 9)), ("RunCompleted", end))
    assert (run.status, run.phase, run.until, run.error) == ("CANCELLED", "done", None, end["error"])
    assert run.finished_at == time_text(NOW)


@pytest.mark.parametrize(
    "draft",
    [
        ("StepTeleported", {}),
        ("PartitionTaken", {"worker": "w", "token": "t"}),
        ("StepSucceeded", {"step": "b", "attempt": 1, "output": None}),
        ("StepSucceeded", {"step": "a", "attempt": 1}),
        ("StepSucceeded", None),
        ("StepStarted", {"step": "a"}),
        ("StepStarted", []),
        ("StepFailed", {"step": "a", "attempt": 1, "error": "text"}),
        ("StepRetryScheduled", {"step": "a", "attempt": 1, "error": {}}),
        ("RunRequested", {"workflow_id": "w", "version": 1, "definition": {"steps": 7}, "payload": {}}),
    ],
)
def test_what_cannot_be_folded(draft: tuple[str, Any]) -> None:
    """A fact whose data makes no sense sets its run aside and says which and why; it is never an error, and the tip moves."""
    run = given(requested(TWO), started("a"))
    (value,) = take(run, [draft])
    assert run.seq == 3
    assert draft[0] in (run.set_aside or "")
    assert "seq 3" in (run.set_aside or "")
    assert value


def test_a_run_set_aside_can_end() -> None:
    """The end is the end even of a run that is set aside."""
    run = given(requested(TWO), ("StepTeleported", {}), ("RunCompleted", {"status": "SUCCESS", "error": None}))
    assert (run.phase, run.status) == ("done", "SUCCESS")


def test_a_clone_goes_its_own_way() -> None:
    """Evolving a copy leaves the original as it was."""
    run = given(requested(TWO), started("a"))
    before = run.dump()
    take(run.clone(), [succeeded("a"), started("b"), failed("b")])
    assert run.dump() == before


def test_a_clone_has_everything() -> None:
    """A copy is equal in every slot."""
    run = given(requested(TWO), started("a", input={"x": 1}), retrying("a"))
    copy = run.clone()
    assert {name: getattr(copy, name) for name in Run.__slots__} == {name: getattr(run, name) for name in Run.__slots__}


def test_dump_and_load() -> None:
    """A run comes back from a snapshot as it went in, and shares its definition with the others."""
    run = given(requested(TWO, n=2**53 + 1), started("a", input={"x": 1}), retrying("a"))
    loaded = Run.load("r1", run.dump())
    assert loaded.dump() == run.dump()
    assert loaded.id == "r1"
    assert loaded.plan is run.plan
    assert orjson.loads(run.dump())["payload"] == {"n": 2**53 + 1}
